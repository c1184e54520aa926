//! The `souk` command: parses, opens a [`Runtime`](crate::runtime::Runtime) or
//! asks the server that has the store open, and prints.

/// One line on standard output, whatever is in it: see [`print_line`].
macro_rules! say {
    ($($line:tt)*) => {
        $crate::cli::print_line(&format!($($line)*))
    };
}

/// The same on standard error, where what follows its first line is set in.
macro_rules! complain {
    ($($line:tt)*) => {
        eprintln!("{}", $crate::printable::complaint(&format!($($line)*)))
    };
}

mod call;
mod control;
mod data;
mod dead;
mod document;
mod export;
mod help;
mod import;
mod list;
mod new;
mod plugin;
mod serve;
mod status;
mod store;
mod table;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::audit::{Audit, Entry};
use crate::engine::worker;
use crate::files;
use crate::printable;
use crate::shop::settings::{Settings, StoreFolder};
pub use store::feed;

#[derive(Parser)]
#[command(name = "souk", version, about = "A shop whose every feature is a WebAssembly component", disable_help_subcommand = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Ends with 0 where all is done, 1 where it is not, 2 where a part is, 64 where it was asked for in the wrong way \
    and nothing was done; `serve` with 75 where it is to be started again.";

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
        /// A folder of sources: a workspace of plugins, or one plugin. Give it again for each more.
        #[arg(long, default_value = "plugins")]
        plugins: Vec<PathBuf>,
    },
    /// Look at plugins, grant what they ask for, install, go back, pack, sign.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Make, fill, check and copy stores.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// What plugins list (orders, products, stock, coupons, …), one line for each.
    List(list::List),
    /// How a shop is: its plugins, work that fails, compiled code. Fails where something needs a look.
    Status {
        #[command(flatten)]
        store: StoreArgument,
        #[arg(long)]
        json: bool,
    },
    /// Work that fails, is tried again, or was given up: look at it, try it again now, drop it.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Who changed what in this shop: commands given here, and versions that the shop itself took up or back.
    ///
    /// Fails if a line of `audit.jsonl` was changed, taken out, or damaged.
    Audit {
        #[command(flatten)]
        store: StoreArgument,
        /// What concerns this plugin alone.
        #[arg(long)]
        plugin: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// What a command takes, one of `souk` or one that a plugin offers.
    Help {
        #[command(flatten)]
        store: StoreArgument,
        /// `plugin grant`, `set-stock`, …; without it, all of `souk`.
        command: Vec<String>,
    },
}

#[derive(clap::Args, Clone)]
struct StoreArgument {
    /// The store's folder.
    #[arg(long = "store", env = "SOUK_STORE", default_value = ".")]
    folder: PathBuf,
}

/// A command that changes something: where, what it is called, which plugin it concerns, with what.
type Audited<'a> = (&'a StoreArgument, &'static str, Option<&'a String>, String);

impl StoreArgument {
    fn folder(&self) -> StoreFolder {
        StoreFolder(self.folder.clone())
    }

    /// For a command that is to be typed next: nothing where it would find the store by itself.
    fn option(&self) -> String {
        let found = std::env::var_os("SOUK_STORE").unwrap_or_else(|| ".".into());
        if self.folder.as_os_str() == found { String::new() } else { format!(" --store {}", list::quoted(&self.folder.display().to_string())) }
    }
}

/// What was asked for is nothing that there is: nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misused(String);

impl Misused {
    /// `EX_USAGE`.
    const EXIT_CODE: u8 = 64;
}

pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == worker::ARGUMENT) {
        return worker::work();
    }
    worker::use_own_executable();
    let Arguments { command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            // What is asked for (`--help`, `--version`) goes to standard output.
            let is_misuse = told.use_stderr();
            let _ = told.print();
            return ExitCode::from(if is_misuse { Misused::EXIT_CODE } else { 0 });
        }
    };
    let told = audited(&command);
    if !is_for_developers(&command) {
        files::make_for_own_user();
    }
    let is_serving = matches!(command, Command::Serve { .. } | Command::Dev { .. });
    if told.is_none() && !is_serving {
        end_with_the_reader();
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("SOUK_LOG").unwrap_or_else(|_| usual_log(&command).into());
    let coloured = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(coloured).fmt_fields(log_fields()).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("souk: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(command, told)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("souk: {error:#}");
            ExitCode::from(match () {
                () if error.is::<serve::MustRestart>() => serve::MustRestart::EXIT_CODE,
                () if error.is::<import::PartlyDone>() => import::PartlyDone::EXIT_CODE,
                () if error.is::<Misused>() => Misused::EXIT_CODE,
                () => 1,
            })
        }
    }
}

/// Makes nothing in a shop, and things that others may well read: projects, bundles.
fn is_for_developers(command: &Command) -> bool {
    use plugin::PluginCommand::{Build, Check, New, Pack, Schema, Sdk, Test};
    matches!(command, Command::Plugin(New { .. } | Sdk { .. } | Build { .. } | Check { .. } | Pack { .. } | Schema { .. } | Test(_)))
}

/// What changes no shop ends with whom it prints for, as other tools do in a pipe (`souk plugin top | head`).
fn end_with_the_reader() {
    // SAFETY: no other thread runs yet, and no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Where nobody reads any more, what the command changes is still done to its end, and told of in the audit trail.
fn print_line(line: &str) {
    print_raw(format_args!("{}\n", printable::line(line)));
}

/// For a failure, if the terminal has colours.
fn print_red(line: &str, coloured: bool) {
    let (begin, end) = if coloured { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    print_raw(format_args!("{begin}{}{end}\n", printable::line(line)));
}

/// Several lines that the program itself has put below each other.
fn print_lines(text: &str) {
    text.split('\n').for_each(print_line);
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print_raw(format_args!("{}\n", printable::json(&serde_json::to_string_pretty(value)?)));
    Ok(())
}

/// What a plugin has exported: as it is into a file or a pipe, and without its tricks onto a terminal. JSON means the same
/// either way.
fn print_document(document: &[u8]) -> Result<()> {
    let mut out = std::io::stdout();
    if let Ok(text) = std::str::from_utf8(document)
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    {
        print_raw(format_args!("{}\n", printable::json(text).trim_end()));
        return Ok(());
    }
    if out.is_terminal() {
        print_lines(printable::document(document).trim_end_matches('\n'));
        return Ok(());
    }
    out.write_all(document).context("it is done, but its answer could not be written")
}

/// What a plugin's command has answered, for a person; where that is not JSON, as it is.
fn print_answer(answer: &[u8], columns: &[String], time_zone: &str) {
    match serde_json::from_slice::<document::Document>(answer) {
        Ok(document) => document.lines(columns, time_zone, table::terminal_width()).iter().for_each(|line| print_line(line)),
        Err(_) => print_raw(format_args!("{}\n", printable::document(answer).trim_end_matches('\n'))),
    }
}

/// The same for a program: what is no JSON is a text of it.
fn print_answer_as_json(answer: &[u8]) -> Result<()> {
    match std::str::from_utf8(answer).ok().filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()) {
        Some(json) => print_raw(format_args!("{}\n", printable::json(json.trim_end()))),
        None => print_json(&String::from_utf8_lossy(answer).trim_end_matches('\n'))?,
    }
    Ok(())
}

/// The one place that writes to standard output.
fn print_raw(text: std::fmt::Arguments) {
    if let Err(error) = write!(std::io::stdout(), "{text}") {
        assert!(error.kind() == ErrorKind::BrokenPipe, "what is to be printed cannot be written: {error}");
    }
}

/// A guest's words in the log: none begins a line or moves the cursor.
fn log_fields() -> impl for<'writer> FormatFields<'writer> {
    let field = |out: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
        let value = format!("{value:?}");
        let value = printable::line(&value);
        if field.name() == "message" { write!(out, "{value}") } else { write!(out, "{}={value}", field.name()) }
    };
    debug_fn(field).delimited(" ")
}

/// A rehearsed shop's own log is of no use to a developer. At work on a plugin, its lines are, and whether it is live.
fn usual_log(command: &Command) -> &'static str {
    match command {
        Command::Plugin(plugin::PluginCommand::Call(_) | plugin::PluginCommand::Test(_)) => "warn",
        Command::Dev { .. } => "warn,souk_host::shop=info,plugin=debug",
        _ => "info,fjall=warn,lsm_tree=warn,tantivy=warn",
    }
}

/// What changes a shop is told of in its audit trail afterwards, whether or not it was done.
async fn run(command: Command, told: Option<(StoreFolder, Entry)>) -> Result<()> {
    let outcome = carry_out(command).await;
    let Some((store, entry)) = told else { return outcome };
    // Where there is no store nothing has changed.
    if store.0.join("souk.toml").exists() {
        let written = Audit::of(&store.0).add(vec![entry.outcome(&outcome)]);
        return outcome.and(written.context("it is done, but not in the shop's audit trail"));
    }
    outcome
}

/// What to tell of a command that changes a shop, and whose trail it belongs in.
fn audited(command: &Command) -> Option<(StoreFolder, Entry)> {
    let (store, what, plugin, detail) = match command {
        Command::Plugin(command) => command.audited()?,
        Command::Store(command) => command.audited()?,
        Command::Dead(command) => command.audited()?,
        Command::Serve { .. } | Command::Dev { .. } | Command::Audit { .. } | Command::List(_) | Command::Status { .. } | Command::Help { .. } => return None,
    };
    Some((store.folder(), Entry::by_operator(what, plugin.map(String::as_str), detail)))
}

async fn carry_out(command: Command) -> Result<()> {
    match command {
        Command::Serve { store } => serve::serve(store.folder(), &[]).await,
        Command::Dev { store, plugins } => serve::serve(store.folder(), &plugins).await,
        Command::Plugin(command) => plugin::run(command).await,
        Command::Store(command) => store::run(command).await,
        Command::List(list) => list::run(list).await,
        Command::Status { store, json } => status::run(&store, json).await,
        Command::Help { store, command } => help::run(&store, &command).await,
        Command::Dead(command) => dead::run(command).await,
        Command::Audit { store, plugin, json } => show_audit(&store.folder(), plugin.as_deref(), json),
    }
}

fn show_audit(store: &StoreFolder, plugin: Option<&str>, json: bool) -> Result<()> {
    let mut trail = Audit::of(&store.0).read()?;
    trail.entries.retain(|entry| plugin.is_none() || entry.plugin.as_deref() == plugin);
    if json {
        print_json(&trail.entries)?;
    } else {
        let zone = zone_of(store);
        for Entry { at, by, what, plugin, detail, failed } in &trail.entries {
            say!("{}  {by:<24} {what:<16} {:<18} {detail}", document::time(at.as_millisecond(), &zone), plugin.as_deref().unwrap_or_default());
            failed.iter().for_each(|why| say!("  ! not done: {why}"));
        }
        say!("up to here: {}", trail.digest);
    }
    let broken: Vec<String> = trail.broken.iter().map(usize::to_string).collect();
    ensure!(broken.is_empty(), "audit.jsonl is not what was written, in or before line {}: compare it with a backup", broken.join(", "));
    Ok(())
}

/// The shop's, where its settings can be read.
fn zone_of(store: &StoreFolder) -> String {
    Settings::read(&store.0).map_or_else(|_| "UTC".into(), |settings| settings.shop.time_zone)
}

/// Whether whoever is at the terminal says yes.
fn confirm(question: &str) -> Result<bool> {
    ensure!(std::io::stdin().is_terminal(), "nobody is here to answer: look at the above, and say --yes");
    print!("{} [y/N] ", printable::line(question));
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

fn out_of_place() -> anyhow::Error {
    anyhow::anyhow!("the server gave another kind of answer: is it of this version?")
}
