//! How commands reach a store: through the server that has it open, over a
//! socket in the store's folder, or by opening it themselves.
//!
//! One question and one answer a connection, each a length and that much
//! postcard. The socket's folder belongs to the operator: who can open it could
//! as well change the files.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::engine::Code;
use crate::files::create_private_file;
use crate::runtime::{Runtime, Status};
use crate::shop::PluginReport;
use crate::shop::arguments::{self, Given};
use crate::shop::manifest::Command;
use crate::shop::settings::{Settings, StoreFolder};
use crate::store::Store;
use crate::work::Plugins as _;
use crate::work::data::{self, DataError};
use crate::work::trouble::{Listed, Which};

const MESSAGE_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Question {
    Plugins,
    /// Looks at the plugins' folder now.
    Reload,
    /// Runs a plugin's command, and those that were granted to run after it.
    Command {
        name: String,
        arguments: Vec<(String, String)>,
        /// Given too, where the command takes them.
        offered: Vec<(String, String)>,
        input: Vec<u8>,
    },
    Backup { destination: std::path::PathBuf },
    Verify,
    ExportData { plugin: String, file: std::path::PathBuf },
    ImportData { plugin: String, file: std::path::PathBuf },
    DeleteData { plugin: String },
    Migrate { plugin: String, to: Option<u32> },
    DeadLetters { plugin: Option<String>, after: String, limit: u32 },
    DeadLetter(String),
    Retry(Which),
    Drop(Which),
    /// What plugins offer the operator.
    Commands,
    List { name: String, arguments: Vec<(String, String)> },
    Status,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Plugins(Vec<PluginReport>),
    /// Of the command, which is done, and of those that ran after it.
    Outputs(Vec<Output>),
    /// What was given is not what the command takes: nothing was done.
    Misused(String),
    Text(String),
    DeadLetters(Vec<Listed>),
    DeadLetter(Listed, Vec<u8>),
    /// What came of each, by its id.
    Done(Vec<(String, Result<String, String>)>),
    /// Each with its plugin, as JSON: its manifest's form leaves out what is not there.
    Commands(Vec<(String, String)>),
    Rows(Rows),
    Status(Status),
}

/// What came of one command.
#[derive(Debug, Serialize, Deserialize)]
pub struct Output {
    pub command: String,
    pub plugin: String,
    /// What people are shown of it.
    pub columns: Vec<String>,
    /// Only one that ran after another may have failed.
    pub outcome: Result<Vec<u8>, String>,
}

/// What a command has listed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rows {
    pub command: String,
    pub columns: Vec<String>,
    pub output: Vec<u8>,
    /// Of the shop.
    pub time_zone: String,
}

/// Asks the running server, or opens the store for this one question.
pub async fn ask(folder: &StoreFolder, question: Question) -> Result<Answer> {
    match UnixStream::connect(folder.control_socket()).await {
        Ok(mut stream) => {
            send(&mut stream, &question).await?;
            let answer: Result<Answer, String> = receive(&mut stream).await?;
            answer.map_err(|message| anyhow!(message))
        }
        Err(_) => {
            let runtime = Runtime::open(folder.clone(), Settings::read(&folder.0)?, Code::Optimised).await?;
            let answer = answer(&runtime, question).await;
            runtime.close().await;
            answer
        }
    }
}

pub async fn is_served(folder: &StoreFolder) -> bool {
    UnixStream::connect(folder.control_socket()).await.is_ok()
}

/// Listens until the returned guard is dropped.
pub fn listen(runtime: Arc<Runtime>) -> Result<Guard> {
    let path = runtime.folder.control_socket();
    // The store's lock is ours: a socket that is still here is a crash's.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(|| path.display().to_string()),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let runtime = runtime.clone();
            tokio::spawn(async move {
                let Ok(question) = receive(&mut stream).await else { return };
                let answer = answer(&runtime, question).await.map_err(|error| format!("{error:#}"));
                let _ = send(&mut stream, &answer).await;
            });
        }
    });
    Ok(Guard { path, task })
}

pub struct Guard {
    path: std::path::PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(runtime: &Runtime, question: Question) -> Result<Answer> {
    Ok(match question {
        Question::Plugins => Answer::Plugins(runtime.shop.report()),
        Question::Reload => {
            runtime.shop.reload().await;
            Answer::Plugins(runtime.shop.report())
        }
        Question::Command { name, arguments, offered, input } => match run_commands(runtime, &name, arguments, offered, input).await {
            Ok(outputs) => Answer::Outputs(outputs),
            Err(error) => misused(error)?,
        },
        Question::Backup { destination } => {
            let store = runtime.store.clone();
            tokio::task::spawn_blocking(move || store.backup(&destination)).await??;
            Answer::Text(String::new())
        }
        Question::Verify => {
            let store = runtime.store.clone();
            Answer::Text(tokio::task::spawn_blocking(move || store.verify()).await??.to_string())
        }
        Question::ExportData { plugin, file } => {
            let store = runtime.store.clone();
            let count = tokio::task::spawn_blocking(move || export_data(&store, &plugin, &file)).await??;
            Answer::Text(format!("{count} documents and counters"))
        }
        Question::ImportData { plugin, file } => {
            ensure_not_live(runtime, &plugin)?;
            let file = std::fs::File::open(&file).with_context(|| file.display().to_string())?;
            let (store, handle) = (runtime.store.clone(), tokio::runtime::Handle::current());
            let import = move || handle.block_on(data::import(&store, &plugin, std::io::BufReader::new(file)));
            let count = tokio::task::spawn_blocking(import).await??;
            Answer::Text(format!("{count} documents and counters"))
        }
        Question::DeleteData { plugin } => {
            ensure_not_live(runtime, &plugin)?;
            let count = data::delete(&runtime.store, &plugin).await?;
            runtime.services.search.forget(&plugin)?;
            Answer::Text(format!("{count} documents and counters are deleted"))
        }
        Question::Migrate { plugin, to } => {
            let units = runtime.runner.migrate(&plugin, to).await?;
            Answer::Text(if units == 0 { "its documents have that form".into() } else { format!("rewritten, in {units} units") })
        }
        Question::DeadLetters { plugin, after, limit } => Answer::DeadLetters(runtime.runner.list_troubles(plugin.as_deref(), &after, limit as usize)?),
        Question::DeadLetter(id) => {
            let (listed, payload) = runtime.runner.show_trouble(&id)?;
            Answer::DeadLetter(listed, payload)
        }
        Question::Retry(which) => done(runtime.runner.retry_troubles(&which).await?),
        Question::Drop(which) => done(runtime.runner.drop_troubles(&which).await?),
        Question::Commands => {
            let commands = runtime.shop.commands().into_iter();
            Answer::Commands(commands.map(|(plugin, command)| Ok((plugin, serde_json::to_string(&command)?))).collect::<Result<_>>()?)
        }
        Question::List { name, arguments } => {
            let time_zone = runtime.settings.shop.time_zone.clone();
            match find_list(runtime, &name) {
                Ok((plugin, command)) => match run_command(runtime, &plugin, &command, arguments, Vec::new()).await {
                    Ok((_, output)) => Answer::Rows(Rows { command: name, columns: command.columns, output, time_zone }),
                    Err(error) => misused(error)?,
                },
                Err(error) => misused(error)?,
            }
        }
        Question::Status => Answer::Status(runtime.status().await?),
    })
}

fn done(done: Vec<(String, Result<&'static str, String>)>) -> Answer {
    Answer::Done(done.into_iter().map(|(id, outcome)| (id, outcome.map(str::to_owned))).collect())
}

/// A plugin that is live would go on writing.
fn ensure_not_live(runtime: &Runtime, plugin: &str) -> Result<()> {
    if runtime.shop.live().borrow().contains_key(plugin) {
        return Err(DataError::IsLive(plugin.to_owned()).into());
    }
    Ok(())
}

fn export_data(store: &Store, plugin: &str, file: &std::path::Path) -> Result<u64> {
    use std::io::Write;
    let at = || file.display().to_string();
    let mut out = std::io::BufWriter::new(create_private_file(file)?);
    let count = data::export(store, plugin, &mut out)?;
    out.flush().with_context(at)?;
    out.get_ref().sync_all().with_context(at)?;
    Ok(count)
}

/// What was given is not what a command takes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

fn misused(error: anyhow::Error) -> Result<Answer> {
    error.downcast().map(|Refused(told)| Answer::Misused(told))
}

/// A command, and then those that follow it: what fails of them does not undo it.
async fn run_commands(runtime: &Runtime, name: &str, mut given: Given, offered: Given, input: Vec<u8>) -> Result<Vec<Output>> {
    let (plugin, command) = find(runtime, name)?;
    let takes = |name: &str| arguments::declared(&command).is_none_or(|declared| declared.iter().any(|argument| argument.name == name));
    given.extend(offered.into_iter().filter(|(name, _)| takes(name)));
    let (given, output) = run_command(runtime, &plugin, &command, given, input.clone()).await?;
    let mut outputs = vec![Output { command: name.to_owned(), plugin, columns: command.columns, outcome: Ok(output) }];
    for (plugin, command) in runtime.shop.commands_after(name) {
        let outcome = match arguments::for_follower(&command, &given, of_shop(runtime)) {
            Ok(passed) => runtime.runner.command(&plugin, command.name.clone(), passed, input.clone()).await.map_err(|error| error.to_string()),
            Err(refused) => Err(refused),
        };
        outputs.push(Output { command: command.name, plugin, columns: command.columns, outcome });
    }
    Ok(outputs)
}

/// What it was given, as its plugin was given it, and what it answered.
async fn run_command(runtime: &Runtime, plugin: &str, command: &Command, given: Given, input: Vec<u8>) -> Result<(Given, Vec<u8>)> {
    let given = arguments::check(command, given, of_shop(runtime)).map_err(Refused)?;
    let output = runtime.runner.command(plugin, command.name.clone(), given.clone(), input).await?;
    Ok((given, output))
}

fn of_shop(runtime: &Runtime) -> arguments::Shop<'_> {
    let shop = &runtime.settings.shop;
    arguments::Shop { currency: &shop.currency, time_zone: &shop.time_zone }
}

fn find(runtime: &Runtime, name: &str) -> Result<(String, Command)> {
    runtime.shop.command(name).ok_or_else(|| {
        let known = runtime.shop.commands();
        let near = arguments::nearest(name, known.iter().map(|(_, command)| command.name.as_str()));
        let near = near.map_or_else(String::new, |near| format!(": did you mean `{near}`?"));
        Refused(format!("no live plugin has a command `{name}`{near}\n`souk plugin run` shows what there is, `souk plugin list` what is live")).into()
    })
}

fn find_list(runtime: &Runtime, name: &str) -> Result<(String, Command)> {
    if let Some(found) = runtime.shop.command(name).filter(|(_, command)| command.is_list()) {
        return Ok(found);
    }
    let wanted = name.strip_prefix("list-").unwrap_or(name);
    let lists: Vec<String> = runtime.shop.commands().into_iter().filter(|(_, command)| command.is_list()).map(|(_, command)| command.name).collect();
    let near = arguments::nearest(wanted, lists.iter().filter_map(|list| list.strip_prefix("list-")));
    let near = near.map_or_else(String::new, |near| format!(": did you mean `{near}`?"));
    Err(Refused(format!("no live plugin lists `{wanted}`{near}\n`souk list` shows what there is")).into())
}

async fn send(stream: &mut UnixStream, message: &impl Serialize) -> Result<()> {
    let bytes = postcard::to_stdvec(message)?;
    stream.write_u64(bytes.len() as u64).await?;
    stream.write_all(&bytes).await?;
    Ok(())
}

async fn receive<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> Result<T> {
    let length = stream.read_u64().await.context("the connection ended early")?;
    if length > MESSAGE_BYTES_MAX {
        bail!("a message of {length} bytes; at most {MESSAGE_BYTES_MAX} are allowed");
    }
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes).await?;
    postcard::from_bytes(&bytes).context("the other side speaks another version")
}
