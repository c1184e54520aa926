//! `souk store export`: what a plugin's command `export-<kind>` answers, or with `--all` everything that the
//! operator has put in, as a folder that `souk store init --from` takes.
//!
//! A plugin has in it what it both exports and imports (`export-<kind>`, `import-<kind>`). The commands of one
//! plugin are exported, and later imported, in the order of its manifest; those of different plugins must not
//! depend on one another. Each is exported in a unit of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::control::{Answer, Question, ask};
use super::store::{Imports, Step, commands, tell_failed_followers};
use super::{StoreArgument, out_of_place};
use crate::files::{copy_large_folder, create_private_folder, write_whole};
use crate::shop::manifest::Command;
use crate::shop::settings::{Settings, StoreFolder};

#[derive(clap::Args)]
pub struct Export {
    #[command(flatten)]
    store: StoreArgument,
    /// The plugins' command is `export-<kind>`.
    #[arg(long, default_value = "products")]
    kind: String,
    /// Standard output unless given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Everything that you have put into the shop, to a new folder: tables, lists, pictures and settings. `souk store init --from
    /// FOLDER` makes a shop of it. Orders, customers and secrets are not in it: see `souk store backup`.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["kind", "out"])]
    all: Option<PathBuf>,
}

pub async fn run(order: Export) -> Result<()> {
    let folder = order.store.folder();
    if let Some(destination) = &order.all {
        return all(&folder, destination).await;
    }
    let outputs = commands(&folder, format!("export-{}", order.kind), Vec::new(), Vec::new(), Vec::new()).await?;
    if let Some(Ok(output)) = outputs.first().map(|first| &first.outcome) {
        match &order.out {
            Some(path) => write_whole(path, output)?,
            None => super::print_document(output)?,
        }
    }
    tell_failed_followers(&outputs)
}

async fn all(folder: &StoreFolder, destination: &Path) -> Result<()> {
    Settings::read(&folder.0)?;
    ensure!(!destination.exists(), "{} exists already: give a new folder", destination.display());
    let kinds = kinds(folder).await?;
    create_private_folder(destination)?;
    let mut steps = Vec::new();
    for kind in kinds {
        let outputs = commands(folder, format!("export-{kind}"), Vec::new(), Vec::new(), Vec::new()).await?;
        let Some(output) = outputs.into_iter().next() else { continue };
        let content = output.outcome.map_err(|error| anyhow::anyhow!(error)).with_context(|| format!("export-{kind}"))?;
        if content.is_empty() {
            // Nothing of it was ever put in.
            continue;
        }
        let file = format!("{kind}.{}", extension(&content));
        write_whole(&destination.join(&file), &content)?;
        say!("{file}");
        steps.push(Step { command: format!("import-{kind}"), file: Some(file.into()), ..Step::default() });
    }
    for (part, name) in [(folder.media(), "media"), (folder.dictionaries(), "dictionaries")] {
        if part.is_dir() {
            copy_large_folder(&part, &destination.join(name))?;
        }
    }
    write_whole(&destination.join("import.toml"), toml::to_string(&Imports { steps })?.as_bytes())?;
    // The settings come last: without them no shop is made of it.
    write_whole(&destination.join("souk.toml"), &std::fs::read(folder.0.join("souk.toml"))?)?;
    say!("· all of it is in {}: `souk store init --from {} --store NEW` makes a shop of it", destination.display(), destination.display());
    Ok(())
}

/// What can be exported and imported again, plugin by plugin.
async fn kinds(folder: &StoreFolder) -> Result<Vec<String>> {
    let Answer::Commands(known) = ask(folder, Question::Commands).await? else { return Err(out_of_place()) };
    let known = known.into_iter().map(|(_, command)| Ok(serde_json::from_str::<Command>(&command)?.name)).collect::<Result<Vec<String>>>()?;
    let kinds: Vec<String> = known.iter().filter_map(|name| name.strip_prefix("export-")).filter(|kind| known.contains(&format!("import-{kind}"))).map(str::to_owned).collect();
    if kinds.is_empty() {
        bail!("no live plugin exports what it imports; `souk plugin list` shows what is live");
    }
    Ok(kinds)
}

/// As a person opens it: tables have a byte order mark, so that a spreadsheet reads them everywhere.
fn extension(content: &[u8]) -> &'static str {
    match content {
        [0xef, 0xbb, 0xbf, ..] => "csv",
        [b'{' | b'[', ..] => "json",
        _ => "md",
    }
}
