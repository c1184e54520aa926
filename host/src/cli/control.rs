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
    /// Runs a plugin's command, and those that want to run after it.
    Command { name: String, arguments: Vec<(String, String)>, input: Vec<u8> },
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
    /// What plugins list: name, plugin, description.
    Lists,
    List { name: String, arguments: Vec<(String, String)> },
    Status,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Plugins(Vec<PluginReport>),
    /// Outputs of the command and of those that ran after it, by name.
    Outputs(Vec<(String, Vec<u8>)>),
    Text(String),
    DeadLetters(Vec<Listed>),
    DeadLetter(Listed, Vec<u8>),
    /// What came of each, by its id.
    Done(Vec<(String, Result<String, String>)>),
    Lists(Vec<[String; 3]>),
    Rows(Vec<Rows>),
    Status(Status),
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
        Question::Command { name, arguments, input } => Answer::Outputs(run_commands(runtime, name, arguments, input).await?),
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
        Question::Lists => Answer::Lists(lists(runtime)),
        Question::List { name, arguments } => {
            let columns = |command: &str| runtime.shop.columns_of(command);
            anyhow::ensure!(!columns(&name).is_empty(), "no live plugin lists that as `{name}`; `souk list` shows what there is");
            let time_zone = &runtime.settings.shop.time_zone;
            let rows = |(command, output): (String, Vec<u8>)| Rows { columns: columns(&command), command, output, time_zone: time_zone.clone() };
            Answer::Rows(run_commands(runtime, name, arguments, Vec::new()).await?.into_iter().map(rows).collect())
        }
        Question::Status => Answer::Status(runtime.status()?),
    })
}

fn done(done: Vec<(String, Result<&'static str, String>)>) -> Answer {
    Answer::Done(done.into_iter().map(|(id, outcome)| (id, outcome.map(str::to_owned))).collect())
}

fn lists(runtime: &Runtime) -> Vec<[String; 3]> {
    let live = runtime.shop.live().borrow().clone();
    let commands = live.values().flat_map(|plugin| plugin.manifest.commands.iter().map(|command| (plugin.name(), command)));
    let lists = commands.filter(|(_, command)| !command.columns.is_empty() && command.after.is_none());
    lists.filter_map(|(plugin, command)| Some([command.name.strip_prefix("list-")?.to_owned(), plugin.to_owned(), command.description.clone()])).collect()
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

async fn run_commands(runtime: &Runtime, name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut outputs = Vec::new();
    let mut commands = vec![name.clone()];
    commands.extend(runtime.shop.commands_after(&name));
    for command in commands {
        let plugin = runtime
            .shop
            .plugin_with_command(&command)
            .with_context(|| format!("no live plugin has a command `{command}`; `souk plugin list` shows what is live"))?;
        let output = runtime.runner.command(&plugin, command.clone(), arguments.clone(), input.clone()).await?;
        outputs.push((command, output));
    }
    Ok(outputs)
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
