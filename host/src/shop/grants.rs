//! `plugins/grants.toml`: what the operator lets each plugin do.
//!
//! A grant is kept beside the digests of the component and the manifest that
//! it was given for. That very version needs no second look; another one goes
//! live if it asks for nothing beyond the grant, and waits for a new one
//! otherwise. Read by [`super::Shop`] at each reload, written by `souk plugin`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::load::Files;
use super::powers::{self, Power};
use crate::files::{read_table, write_table};

/// Who vouches for a version when nobody has signed it.
pub const UNSIGNED: &str = "unsigned";
/// Grants of so many versions of a plugin.
const KEPT: usize = 8;

/// By plugin, the newest last: a version that is gone back to has its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(BTreeMap<String, Vec<Grant>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grant {
    /// The version that it was given for, …
    pub version: semver::Version,
    /// … hex SHA-256 of its component, …
    pub component: String,
    /// … and of its manifest.
    pub manifest: String,
    pub given_at: jiff::Timestamp,
    /// Name of the trusted publisher who signed it, or [`UNSIGNED`].
    #[serde(default = "unsigned")]
    pub publisher: String,
    pub powers: BTreeSet<Power>,
    /// Asked for and not given.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub denied: BTreeSet<Power>,
}

/// Where plugins lie. Names with a leading dot are work in progress, and
/// versions that are kept.
pub fn plugin_folders(plugins: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(plugins)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

fn unsigned() -> String {
    UNSIGNED.into()
}

pub fn path(plugins: &Path) -> PathBuf {
    plugins.join("grants.toml")
}

/// A plugin without any grant: not even an earlier version of it stays live.
#[derive(Debug, thiserror::Error)]
#[error("it was never granted anything. `souk plugin grant {0}` shows what it asks for, and lets it.")]
pub struct NotGranted(pub String);

impl Grants {
    /// `None` where nothing was ever granted.
    pub fn read(plugins: &Path) -> Result<Option<Self>> {
        read_table(&path(plugins))
    }

    /// Whole or not at all.
    pub fn write(&self, plugins: &Path) -> Result<()> {
        write_table(&path(plugins), "What each plugin may do. `souk plugin grant` writes it.", self)
    }

    pub fn of(&self, plugin: &str) -> Option<&Grant> {
        self.0.get(plugin)?.last()
    }

    fn exactly(&self, files: &Files) -> Option<&Grant> {
        self.0.get(&files.manifest.name)?.iter().rfind(|grant| grant.component == files.component_digest && grant.manifest == files.manifest_digest)
    }

    /// Gives all that is asked for but what is denied.
    pub fn give(&mut self, files: &Files, asked: BTreeSet<Power>, denied: BTreeSet<Power>, publisher: &str) {
        let grant = Grant {
            version: files.manifest.version.clone(),
            component: files.component_digest.clone(),
            manifest: files.manifest_digest.clone(),
            given_at: jiff::Timestamp::now(),
            publisher: publisher.into(),
            powers: asked.difference(&denied).cloned().collect(),
            denied,
        };
        let grants = self.0.entry(files.manifest.name.clone()).or_default();
        grants.retain(|old| (&old.component, &old.manifest) != (&grant.component, &grant.manifest));
        grants.push(grant);
        grants.drain(..grants.len().saturating_sub(KEPT));
    }

    pub fn revoke(&mut self, plugin: &str) -> bool {
        self.0.remove(plugin).is_some()
    }

    /// Where versions are kept, plugins were live: grants that are not there are lost.
    pub fn are_lost(plugins: &Path) -> bool {
        !path(plugins).exists() && plugins.join(".versions").exists()
    }

    /// For a shop that has no grants yet: who put the plugins there wants them.
    pub fn of_folder(plugins: &Path) -> Result<Self> {
        let mut grants = Self::default();
        for folder in plugin_folders(plugins)? {
            if let Ok(files) = Files::read(&folder)
                && let Ok(asked) = files.asked()
            {
                grants.give(&files, asked, BTreeSet::new(), UNSIGNED);
            }
        }
        Ok(grants)
    }

    /// Who vouches for exactly this version.
    pub fn publisher_of(&self, files: &Files) -> Option<&str> {
        self.exactly(files).map(|grant| grant.publisher.as_str())
    }

    /// What this version may not do of what it asks for; an error where it may
    /// not go live.
    pub fn admit(&self, files: &Files) -> Result<BTreeSet<Power>> {
        let name = &files.manifest.name;
        if let Some(grant) = self.exactly(files) {
            return Ok(grant.denied.clone());
        }
        let Some(grant) = self.of(name) else {
            return Err(NotGranted(name.clone()).into());
        };
        // Whatever is no component at all is told as that.
        let asked = files.asked()?;
        let same_version = self.0[name].iter().any(|grant| grant.version == files.manifest.version);
        // Bytes that have changed by themselves look so as well.
        ensure!(
            !same_version,
            "version {0} was granted with other files: is one damaged, or was it built again? `souk plugin promote {name} {0}` puts back what was \
             kept of it, `souk plugin grant {name}` lets these.",
            files.manifest.version
        );
        let known: BTreeSet<Power> = grant.powers.union(&grant.denied).cloned().collect();
        let beyond = powers::beyond(&known, &asked);
        if !beyond.is_empty() {
            let beyond = beyond.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            bail!(
                "version {} asks for more than version {} was granted: {beyond}. `souk plugin grant {name}` shows it, and lets it.",
                files.manifest.version,
                grant.version
            );
        }
        Ok(grant.denied.clone())
    }
}
