//! The `souk` command: parses, opens a [`Runtime`](crate::runtime::Runtime) or
//! asks the server that has the store open, and prints.

mod call;
mod control;
mod data;
mod new;
mod plugin;
mod serve;
mod store;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use crate::shop::settings::StoreFolder;
use control::{Answer, Question};
pub use store::feed;

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
        /// The plugins' sources: a workspace, or the folder of one plugin.
        #[arg(long, default_value = "plugins")]
        plugins: PathBuf,
    },
    /// Look at plugins, grant what they ask for, install, go back, pack, sign.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
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
    let filter = tracing_subscriber::EnvFilter::try_from_env("SOUK_LOG").unwrap_or_else(|_| usual_log(&arguments.command).into());
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
            if error.is::<serve::MustRestart>() { ExitCode::from(serve::MustRestart::EXIT_CODE) } else { ExitCode::FAILURE }
        }
    }
}

/// What a rehearsed shop does is nothing to tell a developer of.
fn usual_log(command: &Command) -> &'static str {
    match command {
        Command::Plugin(plugin::PluginCommand::Call(_) | plugin::PluginCommand::Test(_)) => "warn",
        _ => "info,fjall=warn,lsm_tree=warn,tantivy=warn",
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve { store } => serve::serve(store.folder(), None).await,
        Command::Dev { store, plugins } => serve::serve(store.folder(), Some(&plugins)).await,
        Command::Plugin(command) => plugin::run(command).await,
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

/// Whether whoever is at the terminal says yes.
fn confirm(question: &str) -> Result<bool> {
    ensure!(std::io::stdin().is_terminal(), "nobody is here to answer: look at the above, and say --yes");
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

fn out_of_place() -> anyhow::Error {
    anyhow::anyhow!("the server gave another kind of answer: is it of this version?")
}
