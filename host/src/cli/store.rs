//! `souk store`: make, fill, check and copy stores.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::control::{Answer, Output, Question, ask, is_served};
use super::export::{self, Export};
use super::import::{self, Import, PartlyDone};
use super::{Audited, Misused, StoreArgument, out_of_place};
use crate::engine::Code;
use crate::files::{copy_large_folder, copy_private, create_private_folder, write_whole};
use crate::runtime::Runtime;
use crate::shop::arguments::{self, Given};
use crate::shop::grants::{self, FIRST_PARTY, Grants};
use crate::shop::settings::{Settings, StoreFolder};
use crate::store::Store;

#[derive(Subcommand)]
pub enum StoreCommand {
    /// Make a store from a folder like `store-data/`, and fill it.
    ///
    /// A store without plugins gets those that came with this binary.
    Init {
        #[command(flatten)]
        store: StoreArgument,
        /// Settings, catalogue and pictures; the example shop that came with this binary unless given.
        #[arg(long)]
        from: Option<PathBuf>,
    },
    /// Import a file through the plugins: what is right goes in, what is not is told with its line.
    ///
    /// Exits with 0 where all of it went in, with 2 where some was refused, with 1 where nothing went in.
    Import(Import),
    /// Export to a file or standard output, or all of it to a folder of which `souk store init` makes a shop.
    Export(Export),
    /// Walk through all documents and say whether they are whole.
    Verify {
        #[command(flatten)]
        store: StoreArgument,
    },
    /// Copy the whole store, also while it is served: documents at one instant.
    Backup {
        #[command(flatten)]
        store: StoreArgument,
        destination: PathBuf,
    },
    /// Make a store out of a backup.
    Restore {
        #[command(flatten)]
        store: StoreArgument,
        backup: PathBuf,
    },
}

impl StoreCommand {
    pub(super) fn audited(&self) -> Option<Audited<'_>> {
        let shown = |path: &Path| path.display().to_string();
        Some(match self {
            Self::Init { store, from } => (store, "store init", None, from.as_deref().map_or_else(String::new, shown)),
            Self::Import(Import { dry_run: true, .. }) | Self::Export(_) | Self::Verify { .. } => return None,
            Self::Import(Import { store, file, .. }) => (store, "store import", None, shown(file)),
            Self::Backup { store, destination } => (store, "store backup", None, shown(destination)),
            Self::Restore { store, backup } => (store, "store restore", None, shown(backup)),
        })
    }
}

pub async fn run(command: StoreCommand) -> Result<()> {
    match command {
        StoreCommand::Init { store, from } => {
            let from = match from {
                Some(from) => from,
                None => beside_binary("store-data", |folder| folder.join("souk.toml").is_file())
                    .context("no example shop lies beside this binary: give --from, a folder with a souk.toml and what import.toml names")?,
            };
            init(&store.folder(), &from).await
        }
        StoreCommand::Import(order) => import::run(order).await,
        StoreCommand::Export(order) => export::run(order).await,
        StoreCommand::Verify { store } => {
            super::print_lines(&verify(&store.folder()).await?);
            Ok(())
        }
        StoreCommand::Backup { store, destination } => backup(&store.folder(), &destination).await,
        StoreCommand::Restore { store, backup } => restore(&store.folder(), &backup),
    }
}

/// What is not served is only read: no plugin comes to life, and nothing is left behind in a backup.
async fn verify(folder: &StoreFolder) -> Result<String> {
    if is_served(folder).await {
        let Answer::Text(report) = ask(folder, Question::Verify).await? else { return Err(out_of_place()) };
        return Ok(report);
    }
    let storage = Settings::read(&folder.0)?.storage;
    ensure!(folder.documents().is_dir(), "{}: no documents are here", folder.documents().display());
    let store = Store::open_with_cache(&folder.documents(), storage.engine.into(), storage.cache_bytes_max)?;
    Ok(tokio::task::spawn_blocking(move || store.verify()).await??.to_string())
}

/// A plugin's command, and those that follow it. Of what is only offered it gets what it takes.
pub(super) async fn commands(folder: &StoreFolder, name: String, arguments: Given, offered: Given, input: Vec<u8>) -> Result<Vec<Output>> {
    match ask(folder, Question::Command { name, arguments, offered, input }).await? {
        Answer::Outputs(outputs) => Ok(outputs),
        Answer::Misused(told) => Err(Misused(told).into()),
        _ => Err(out_of_place()),
    }
}

pub(super) fn failed(outputs: &[Output]) -> Vec<String> {
    let failure = |output: &Output| Some(format!("`{}` of the plugin `{}` failed: {}", output.command, output.plugin, output.outcome.as_ref().err()?));
    outputs.iter().filter_map(failure).collect()
}

/// Tells what failed of the commands that followed the first one, which is done.
pub(super) fn tell_failed_followers(outputs: &[Output]) -> Result<()> {
    let failed = failed(outputs);
    match outputs.first() {
        Some(first) if !failed.is_empty() => Err(PartlyDone(format!("`{}` is done. What ran after it is not: {}", first.command, failed.join("; "))).into()),
        _ => Ok(()),
    }
}

/// `import.toml`: what to feed to which command when a store is made.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Imports {
    pub(super) steps: Vec<Step>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Step {
    pub(super) command: String,
    /// A file as it is, …
    pub(super) file: Option<PathBuf>,
    /// … or one JSON object: each member is a JSON file, or all those of a
    /// folder (`folder/*`), their arrays joined.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub(super) json: std::collections::BTreeMap<String, PathBuf>,
}

async fn init(folder: &StoreFolder, from: &Path) -> Result<()> {
    create_private_folder(&folder.0)?;
    let (unfinished, has_settings) = (folder.unfinished(), folder.0.join("souk.toml").exists());
    if is_left_by(&unfinished, INIT)? {
        if has_settings {
            // All but this was done.
            return remove(&unfinished);
        }
        remove(&folder.data())?;
    }
    ensure!(!has_settings, "{} holds a store already", folder.0.display());
    ensure!(!folder.data().exists(), "{} holds the data of a store, but no souk.toml: put that back", folder.0.display());
    begin(&unfinished, INIT)?;
    if from.join("media").is_dir() {
        copy_large_folder(&from.join("media"), &folder.media())?;
    }
    if from.join("dictionaries").is_dir() {
        copy_large_folder(&from.join("dictionaries"), &folder.dictionaries())?;
    }
    give_first_party(folder)?;
    let settings = std::fs::read(from.join("souk.toml")).with_context(|| from.join("souk.toml").display().to_string())?;
    fill(folder, from).await?;
    // The settings come last: with them it is a store.
    write_whole(&folder.0.join("souk.toml"), &settings)?;
    remove(&unfinished)
}

/// A store that has no plugins yet gets those that came with the binary, granted as such.
fn give_first_party(folder: &StoreFolder) -> Result<()> {
    let plugins = folder.plugins();
    let note = plugins.join(".first-party-unfinished");
    let has_own = plugins.is_dir() && !grants::plugin_folders(&plugins)?.is_empty();
    if grants::path(&plugins).exists() || (has_own && !note.exists()) {
        return Ok(());
    }
    let has_plugins = |folder: &Path| grants::plugin_folders(folder).is_ok_and(|found| found.iter().any(|plugin| plugin.join("plugin.wasm").is_file()));
    let Some(from) = beside_binary("plugins", has_plugins) else {
        complain!("· no plugins lie beside this binary, so that the shop has none yet: see `souk plugin install`");
        return Ok(());
    };
    std::fs::create_dir_all(&plugins)?;
    std::fs::write(&note, "")?;
    for plugin in grants::plugin_folders(&from)? {
        copy_large_folder(&plugin, &plugins.join(plugin.file_name().unwrap_or_default()))?;
    }
    Grants::of_folder(&plugins, FIRST_PARTY)?.write(&plugins)?;
    remove(&note)
}

/// What came with this binary: in a folder beside it as a release is unpacked, under `../share/souk` as a package is installed,
/// or where a build of the source leaves it.
fn beside_binary(name: &str, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let binary = std::env::current_exe().ok()?.canonicalize().ok()?;
    let folder = binary.parent()?;
    let places = [folder.join(name), folder.join("../share/souk").join(name), folder.join("..").join(name), folder.join("../..").join(name)];
    places.into_iter().find(|place| is_it(place))
}

const INIT: &str = "`souk store init`";
const RESTORE: &str = "`souk store restore`";

/// Keeps half a store from being taken for one.
fn unfinished_note(command: &str) -> String {
    format!("{command} has not finished here: give it again.\n")
}

/// Not beside its name first: what a crash leaves of that would keep the folder from being empty.
fn begin(unfinished: &Path, command: &str) -> Result<()> {
    std::fs::write(unfinished, unfinished_note(command)).with_context(|| unfinished.display().to_string())?;
    std::fs::File::open(unfinished)?.sync_all()?;
    Ok(std::fs::File::open(unfinished.parent().unwrap_or(unfinished))?.sync_all()?)
}

/// Whether the same command has ended too early here.
fn is_left_by(unfinished: &Path, command: &str) -> Result<bool> {
    match std::fs::read_to_string(unfinished) {
        // Before it did anything else.
        Ok(note) if !note.ends_with('\n') => {
            remove(unfinished)?;
            Ok(false)
        }
        Ok(note) => {
            ensure!(note == unfinished_note(command), "{}: {}", unfinished.display(), note.trim());
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| unfinished.display().to_string()),
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| path.display().to_string()),
        _ => Ok(()),
    }
}

async fn fill(folder: &StoreFolder, from: &Path) -> Result<()> {
    let runtime = Runtime::open(folder.clone(), Settings::read(from)?, Code::Optimised).await?;
    runtime.runner.start().await?;
    feed(&runtime, from).await?;
    runtime.close().await;
    Ok(())
}

/// Runs the commands that a folder's `import.toml` names on its files.
pub async fn feed(runtime: &Runtime, from: &Path) -> Result<()> {
    let imports: Imports = match std::fs::read_to_string(from.join("import.toml")) {
        Ok(text) => toml::from_str(&text).context("import.toml")?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Imports { steps: Vec::new() },
        Err(error) => return Err(error).context("import.toml"),
    };
    for step in imports.steps {
        let input = match &step.file {
            Some(file) => std::fs::read(from.join(file)).with_context(|| file.display().to_string())?,
            None => {
                let mut object = serde_json::Map::new();
                for (member, pattern) in &step.json {
                    object.insert(member.clone(), read_json(&from.join(pattern))?);
                }
                serde_json::to_vec(&object)?
            }
        };
        let (plugin, command) = runtime.shop.command(&step.command).with_context(|| {
            let problems = runtime.shop.report().into_iter().filter_map(|p| Some(format!("{}: {}", p.name, p.problem?))).collect::<Vec<_>>();
            format!("import.toml: no live plugin has a command `{}` {}", step.command, problems.join("; "))
        })?;
        let shop = arguments::Shop { currency: &runtime.settings.shop.currency, time_zone: &runtime.settings.shop.time_zone };
        let given = arguments::check(&command, Vec::new(), shop).map_err(Misused)?;
        runtime.runner.command(&plugin, step.command.clone(), given, input).await.with_context(|| format!("import.toml: `{}`", step.command))?;
        complain!("· {}", step.command);
    }
    Ok(())
}

/// One JSON file, or with a final `*` all of a folder, whose arrays are joined.
fn read_json(path: &Path) -> Result<serde_json::Value> {
    let read = |path: &Path| -> Result<serde_json::Value> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    };
    if path.file_name().is_none_or(|name| name != "*") {
        return read(path);
    }
    let folder = path.parent().unwrap_or(path);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    let mut joined = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "json")) {
        match read(file)? {
            serde_json::Value::Array(items) => joined.extend(items),
            _ => bail!("{}: an array was expected", file.display()),
        }
    }
    Ok(joined.into())
}

/// Everything but what can be made again: compiled code and the search index.
async fn backup(folder: &StoreFolder, destination: &Path) -> Result<()> {
    Settings::read(&folder.0)?;
    ensure!(!destination.exists(), "{} exists already: give a new folder", destination.display());
    let destination = StoreFolder(std::path::absolute(destination)?);
    create_private_folder(&destination.data())?;
    ask(folder, Question::Backup { destination: destination.documents() }).await?;
    for part in [folder.plugins(), folder.media(), folder.dictionaries(), folder.data().join("keys")] {
        if part.is_dir() {
            let name = part.strip_prefix(&folder.0)?;
            copy_large_folder(&part, &destination.0.join(name))?;
        }
    }
    // The settings come last: without them it is no backup.
    for file in ["audit.jsonl", "secrets.toml", "souk.toml"] {
        if folder.0.join(file).exists() {
            copy_private(&folder.0.join(file), &destination.0.join(file))?;
            std::fs::File::open(destination.0.join(file))?.sync_all()?;
        }
    }
    std::fs::File::open(&destination.0)?.sync_all()?;
    say!("{}", destination.0.display());
    Ok(())
}

fn restore(folder: &StoreFolder, backup: &Path) -> Result<()> {
    let backup = StoreFolder(backup.to_owned());
    Settings::read(&backup.0).context("this is not a whole backup")?;
    create_private_folder(&folder.0)?;
    let unfinished = folder.unfinished();
    if is_left_by(&unfinished, RESTORE)? {
        for entry in std::fs::read_dir(&folder.0)? {
            let path = entry?.path();
            if path != unfinished {
                remove(&path)?;
            }
        }
    } else {
        let empty = std::fs::read_dir(&folder.0)?.next().is_none();
        ensure!(empty, "{} is not empty: restore into a new folder, then move it into place", folder.0.display());
        begin(&unfinished, RESTORE)?;
    }
    copy_large_folder(&backup.0, &folder.0)?;
    remove(&unfinished)?;
    Ok(std::fs::File::open(&folder.0)?.sync_all()?)
}
