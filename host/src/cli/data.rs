//! `souk plugin data`: a plugin's documents out of a store, into one, away, or
//! into another form.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use super::control::{self, Answer, Question};
use super::{Audited, StoreArgument, out_of_place};

#[derive(Subcommand)]
pub enum DataCommand {
    /// Write all documents and counters of a plugin as lines of JSON, as they are at one instant.
    Export {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
        /// Must not be there yet.
        file: PathBuf,
    },
    /// Read an export into a store where the plugin has nothing and is not live.
    Import {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
        file: PathBuf,
    },
    /// Delete all that is kept for a plugin that has been removed.
    Delete {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Have a plugin rewrite its documents into another form, beside shoppers.
    ///
    /// A new version writes the form that is stored until you say this; from then on an older one that does not know the
    /// new form cannot come back before its documents do (`--to`).
    Migrate {
        #[command(flatten)]
        store: StoreArgument,
        plugin: String,
        /// The newest that its live version knows, unless given.
        #[arg(long)]
        to: Option<u32>,
    },
}

impl DataCommand {
    pub(super) fn audited(&self) -> Audited<'_> {
        match self {
            Self::Export { store, plugin, file } => (store, "data export", Some(plugin), file.display().to_string()),
            Self::Import { store, plugin, file } => (store, "data import", Some(plugin), file.display().to_string()),
            Self::Delete { store, plugin, .. } => (store, "data delete", Some(plugin), String::new()),
            Self::Migrate { store, plugin, to } => (store, "data migrate", Some(plugin), to.map_or_else(String::new, |form| format!("to form {form}"))),
        }
    }
}

pub async fn run(command: DataCommand) -> Result<()> {
    let (store, question) = match command {
        DataCommand::Export { store, plugin, file } => (store, Question::ExportData { plugin, file: std::path::absolute(file)? }),
        DataCommand::Import { store, plugin, file } => {
            let file = file.canonicalize().with_context(|| file.display().to_string())?;
            (store, Question::ImportData { plugin, file })
        }
        DataCommand::Delete { store, plugin, yes } => {
            ensure!(
                yes || super::confirm(&format!("Delete all documents and counters of `{plugin}`? `souk plugin data export` keeps them in a file."))?,
                "nothing was deleted"
            );
            (store, Question::DeleteData { plugin })
        }
        DataCommand::Migrate { store, plugin, to } => (store, Question::Migrate { plugin, to }),
    };
    let Answer::Text(said) = control::ask(&store.folder(), question).await? else { return Err(out_of_place()) };
    super::print_lines(&said);
    Ok(())
}
