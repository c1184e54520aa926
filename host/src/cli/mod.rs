//! The `souk` command: parses, opens a [`Runtime`](crate::runtime::Runtime) or
//! asks the server that has the store open, and prints.

mod control;
mod serve;
mod store;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::shop::PluginReport;
use crate::shop::settings::StoreFolder;
use control::{Answer, Question};

#[derive(Parser)]
#[command(name = "souk", version, about = "A shop whose every feature is a WebAssembly component")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a shop; Ctrl-C finishes what is in hand and stops.
    Serve {
        #[command(flatten)]
        store: StoreArgument,
    },
    /// Serve a shop, and rebuild and swap a plugin whenever its source changes.
    Dev {
        #[command(flatten)]
        store: StoreArgument,
        /// The workspace of the plugins' sources.
        #[arg(long, default_value = "plugins")]
        plugins: PathBuf,
        /// What builds one plugin: `{plugin}` and `{out}` are filled in.
        #[arg(long, default_value = "cargo xtask plugins --quick --only {plugin} --out {out}")]
        build: String,
    },
    /// Look at plugins and run their commands.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Make, fill, check and copy stores.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Work that failed for good: look at it, run it again, drop it.
    #[command(subcommand)]
    Dead(DeadCommand),
}

#[derive(clap::Args, Clone)]
struct StoreArgument {
    /// The store's folder.
    #[arg(long = "store", env = "SOUK_STORE", default_value = ".")]
    folder: PathBuf,
}

impl StoreArgument {
    fn folder(&self) -> StoreFolder {
        StoreFolder(self.folder.clone())
    }
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Version, state, routes, links, calls, time, memory and failures of each.
    List {
        #[command(flatten)]
        store: StoreArgument,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a command that a plugin's manifest offers, as one unit of work.
    Run {
        #[command(flatten)]
        store: StoreArgument,
        command: String,
        /// Input; `-` is standard input, none is empty.
        #[arg(long)]
        input: Option<PathBuf>,
        /// `name=value`
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum DeadCommand {
    List {
        #[command(flatten)]
        store: StoreArgument,
    },
    Replay {
        #[command(flatten)]
        store: StoreArgument,
        id: String,
    },
    Discard {
        #[command(flatten)]
        store: StoreArgument,
        id: String,
    },
}

pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("SOUK_LOG").unwrap_or_else(|_| "info,fjall=warn,lsm_tree=warn,tantivy=warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("souk: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("souk: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve { store } => serve::serve(store.folder(), None).await,
        Command::Dev { store, plugins, build } => serve::serve(store.folder(), Some(serve::Dev { plugins, build })).await,
        Command::Plugin(PluginCommand::List { store, json }) => {
            let Answer::Plugins(plugins) = control::ask(&store.folder(), Question::Plugins).await? else { return Err(out_of_place()) };
            if json { println!("{}", serde_json::to_string_pretty(&plugins)?) } else { print_plugins(&plugins) }
            Ok(())
        }
        Command::Plugin(PluginCommand::Run { store, command, input, arguments }) => {
            let arguments = arguments
                .iter()
                .map(|argument| argument.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())).with_context(|| format!("`{argument}`: write name=value")))
                .collect::<Result<Vec<_>>>()?;
            let input = match input {
                Some(path) if path.as_os_str() == "-" => std::io::read_to_string(std::io::stdin())?.into_bytes(),
                Some(path) => std::fs::read(&path).with_context(|| path.display().to_string())?,
                None => Vec::new(),
            };
            let output = store::run_command(&store.folder(), command, arguments, input).await?;
            std::io::stdout().write_all(&output)?;
            Ok(())
        }
        Command::Store(command) => store::run(command).await,
        Command::Dead(DeadCommand::List { store }) => {
            let Answer::Text(text) = control::ask(&store.folder(), Question::DeadLetters).await? else { return Err(out_of_place()) };
            println!("{text}");
            Ok(())
        }
        Command::Dead(DeadCommand::Replay { store, id }) => control::ask(&store.folder(), Question::Replay(id)).await.map(drop),
        Command::Dead(DeadCommand::Discard { store, id }) => control::ask(&store.folder(), Question::Discard(id)).await.map(drop),
    }
}

fn out_of_place() -> anyhow::Error {
    anyhow::anyhow!("the server gave another kind of answer: is it of this version?")
}

fn print_plugins(plugins: &[PluginReport]) {
    println!("{:<18} {:<9} {:<9} {:<7} {:>6} {:>9} {:>9} {:>7} {:>8}  links", "plugin", "version", "state", "kind", "routes", "calls", "ms", "MiB", "failures");
    for p in plugins {
        let state = match (&p.problem, p.version.is_empty()) {
            (None, _) => "live",
            (Some(_), false) => "older",
            (Some(_), true) => "refused",
        };
        println!(
            "{:<18} {:<9} {:<9} {:<7} {:>6} {:>9} {:>9} {:>7} {:>8}  {}",
            p.name, p.version, state, p.kind, p.routes, p.calls, p.wall_ms, p.memory_mib_peak, p.failures, p.links.join(", ")
        );
        if let Some(problem) = &p.problem {
            println!("  ! {problem}");
        }
    }
}
