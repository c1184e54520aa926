//! `plugins/.versions/<plugin>/`: copies of the versions that were installed or
//! went live, and which of them was live when.
//!
//! A folder in `plugins/` is what is wanted live; going back to an earlier
//! version is exchanging that folder for a copy, which the shop then takes up
//! like any other change. Used by [`super::Shop`] and by `souk plugin`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::load::Files;
use crate::engine::Mode;
use crate::files::{copy_folder, read_whole, write_whole};

/// Versions of one plugin that are kept beside the live one.
const KEPT: usize = 5;
const HISTORY_KEPT: usize = 50;

/// One time that a version went live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: String,
    pub version: semver::Version,
    pub at: jiff::Timestamp,
    /// Why it was taken back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A kept version that is tried beside the live one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnTrial {
    pub id: String,
    pub mode: Mode,
}

/// The versions of one plugin.
pub struct Versions {
    plugins: PathBuf,
    plugin: String,
}

impl Versions {
    pub fn of(plugins: &Path, plugin: &str) -> Self {
        Self { plugins: plugins.to_owned(), plugin: plugin.to_owned() }
    }

    fn folder(&self) -> PathBuf {
        self.plugins.join(".versions").join(&self.plugin)
    }

    pub fn path(&self, id: &str) -> PathBuf {
        self.folder().join(id)
    }

    fn live(&self) -> PathBuf {
        self.plugins.join(&self.plugin)
    }

    /// Oldest first; empty where nothing is known.
    pub fn history(&self) -> Result<Vec<Entry>> {
        Ok(read_whole(&self.folder().join("history.json"), |text| serde_json::from_slice(text))?.unwrap_or_default())
    }

    fn write_history(&self, mut history: Vec<Entry>) -> Result<()> {
        history.drain(..history.len().saturating_sub(HISTORY_KEPT));
        write_whole(&self.folder().join("history.json"), &serde_json::to_vec_pretty(&history)?)
    }

    /// All that are kept, with their versions.
    pub fn kept(&self) -> Result<Vec<(String, semver::Version)>> {
        let mut kept = Vec::new();
        if !self.folder().is_dir() {
            return Ok(kept);
        }
        for entry in std::fs::read_dir(self.folder())? {
            let entry = entry?;
            let id = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() && !id.starts_with('.') {
                match Files::read(&entry.path()) {
                    Ok(files) => kept.push((id, files.manifest.version)),
                    Err(error) => tracing::warn!(plugin = self.plugin, "a kept version cannot be read, and is left out: {}: {error:#}", entry.path().display()),
                }
            }
        }
        kept.sort_by(|(a_id, a), (b_id, b)| (a, a_id).cmp(&(b, b_id)));
        Ok(kept)
    }

    /// Copies a version that lies in `from`, and gives its id.
    pub fn keep(&self, from: &Path) -> Result<String> {
        let files = Files::read(from)?;
        ensure!(files.manifest.name == self.plugin, "{} holds `{}`", from.display(), files.manifest.name);
        let digest = digest(from)?;
        let id = format!("{}-{}", files.manifest.version, &digest[..8]);
        let target = self.path(&id);
        if !target.is_dir() {
            std::fs::create_dir_all(self.folder())?;
            let beside = tempfile::Builder::new().prefix(".new").tempdir_in(self.folder())?;
            copy_folder(from, beside.path())?;
            std::fs::rename(beside.keep(), &target)?;
        }
        Ok(id)
    }

    /// Notes that the version in the plugin's folder is live; gives its id if
    /// another one was before.
    pub fn went_live(&self) -> Result<Option<String>> {
        let id = self.keep(&self.live())?;
        let mut history = self.history()?;
        let is_new = history.last().is_none_or(|last| last.id != id);
        if is_new {
            let version = Files::read(&self.path(&id))?.manifest.version;
            if let Some(before) = history.iter().rev().find(|entry| entry.version == version && entry.id != id) {
                tracing::warn!(
                    plugin = self.plugin,
                    "its files are not those that were live as {version} before: was it built again, or is one of them damaged? \
                     `souk plugin promote {} {}` puts those back",
                    self.plugin,
                    before.id
                );
            }
            history.push(Entry { id: id.clone(), version, at: jiff::Timestamp::now(), failed: None });
            self.write_history(history)?;
        }
        self.prune()?;
        Ok(is_new.then_some(id))
    }

    /// Makes a kept version the wanted one: by its id, or by its version.
    pub fn promote(&self, wanted: &str) -> Result<semver::Version> {
        let (id, version) = self.find(wanted)?;
        // From now on it is not beside the live one.
        if self.on_trial()?.is_some_and(|trial| trial.id == id) {
            self.try_out(None)?;
        }
        self.place(&id)?;
        Ok(version)
    }

    pub fn find(&self, wanted: &str) -> Result<(String, semver::Version)> {
        let kept = self.kept()?;
        let fitting: Vec<_> = kept.iter().filter(|(id, version)| id == wanted || version.to_string() == wanted).collect();
        match fitting[..] {
            [one] => Ok(one.clone()),
            [] => {
                let known = kept.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", ");
                bail!("there is no version {wanted} of `{}`; there are: {known}", self.plugin)
            }
            _ => bail!("several builds call themselves {wanted}; give one of: {}", fitting.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", ")),
        }
    }

    pub fn on_trial(&self) -> Result<Option<OnTrial>> {
        read_whole(&self.folder().join("trial.json"), |text| serde_json::from_slice(text))
    }

    /// Begins a trial, or ends the one that there is.
    pub fn try_out(&self, trial: Option<&OnTrial>) -> Result<()> {
        let path = self.folder().join("trial.json");
        match trial {
            Some(trial) => write_whole(&path, &serde_json::to_vec(trial)?),
            None => match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            },
        }
    }

    /// Back to the version that was live before the one in the plugin's folder.
    /// With a reason, the one that went live last is remembered as a failure,
    /// which no later step goes back to.
    pub fn roll_back(&self, failed: Option<&str>) -> Result<semver::Version> {
        let mut history = self.history()?;
        let Some(last) = history.last_mut() else { bail!("nothing is known of earlier versions of `{}`", self.plugin) };
        last.failed = failed.map(str::to_owned);
        let last = last.id.clone();
        // What lies there may have gone live a moment ago, or not at all: the history does not have it yet.
        let current = if failed.is_some() { last } else { self.keep(&self.live()).unwrap_or(last) };
        let before = history.iter().rev().find(|entry| entry.id != current && entry.failed.is_none() && self.path(&entry.id).is_dir());
        let Some(before) = before.cloned() else { bail!("no earlier version of `{}` is kept", self.plugin) };
        self.place(&before.id)?;
        if failed.is_some() {
            self.write_history(history)?;
        }
        Ok(before.version)
    }

    /// One step: there is no instant without the plugin.
    fn place(&self, id: &str) -> Result<()> {
        let kept = self.path(id);
        ensure!(
            id.ends_with(&digest(&kept)?[..8]),
            "{} is damaged: it is not what was kept. Another version (`souk plugin versions` shows them), or a bundle of this one, is whole.",
            kept.display()
        );
        let beside = tempfile::Builder::new().prefix(&format!(".{}.", self.plugin)).tempdir_in(&self.plugins)?;
        copy_folder(&kept, beside.path())?;
        let live = self.live();
        if live.exists() {
            souk_build::exchange(beside.path(), &live)?;
        } else {
            std::fs::rename(beside.keep(), &live)?;
        }
        Ok(())
    }

    fn prune(&self) -> Result<()> {
        let mut last_live: BTreeMap<&str, jiff::Timestamp> = BTreeMap::new();
        let history = self.history()?;
        for entry in &history {
            last_live.insert(&entry.id, entry.at);
        }
        // What was installed and is not yet live has no entry: it stays.
        let mut old: Vec<_> = last_live.into_iter().filter(|(id, _)| self.path(id).is_dir()).collect();
        old.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
        for (id, _) in old.into_iter().skip(KEPT + 1) {
            std::fs::remove_dir_all(self.path(id))?;
        }
        Ok(())
    }
}

/// Of a folder's files, names and contents.
fn digest(folder: &Path) -> Result<String> {
    fn visit(folder: &Path, prefix: &str, hasher: &mut blake3::Hasher) -> Result<()> {
        let mut entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                visit(&entry.path(), &name, hasher)?;
            } else if kind.is_file() {
                hasher.update(blake3::hash(name.as_bytes()).as_bytes());
                hasher.update(blake3::hash(&std::fs::read(entry.path())?).as_bytes());
            }
        }
        Ok(())
    }
    let mut hasher = blake3::Hasher::new();
    visit(folder, "", &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(plugins: &Path, version: &str) {
        let folder = plugins.join("demo");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("plugin.toml"), format!("name = \"demo\"\nversion = \"{version}\"\n")).unwrap();
        std::fs::write(folder.join("plugin.wasm"), version).unwrap();
    }

    fn live(plugins: &Path) -> String {
        std::fs::read_to_string(plugins.join("demo/plugin.wasm")).unwrap()
    }

    #[test]
    fn versions_are_gone_back_to_and_forward_to_and_failures_are_not() {
        let plugins = tempfile::tempdir().unwrap();
        let (plugins, versions) = (plugins.path(), Versions::of(plugins.path(), "demo"));
        assert!(versions.roll_back(None).is_err());
        for version in ["1.0.0", "1.1.0"] {
            write(plugins, version);
            versions.went_live().unwrap();
            versions.went_live().unwrap();
        }
        assert_eq!(versions.roll_back(None).unwrap().to_string(), "1.0.0");
        assert_eq!(live(plugins), "1.0.0");
        versions.went_live().unwrap();
        assert_eq!(versions.promote("1.1.0").unwrap().to_string(), "1.1.0");
        versions.went_live().unwrap();
        assert_eq!(versions.roll_back(Some("it trapped")).unwrap().to_string(), "1.0.0");
        versions.went_live().unwrap();
        write(plugins, "1.2.0");
        versions.went_live().unwrap();
        assert_eq!(versions.roll_back(None).unwrap().to_string(), "1.0.0", "not the one that failed");
        assert!(versions.promote("9.0.0").unwrap_err().to_string().contains("1.2.0-"));
        assert_eq!(versions.history().unwrap().iter().filter(|entry| entry.failed.is_some()).count(), 1);
    }

    #[test]
    fn a_version_that_is_not_yet_in_the_history_is_gone_back_from() {
        let plugins = tempfile::tempdir().unwrap();
        let (plugins, versions) = (plugins.path(), Versions::of(plugins.path(), "demo"));
        for version in ["1.0.0", "1.1.0"] {
            write(plugins, version);
            versions.went_live().unwrap();
        }
        write(plugins, "1.2.0");
        assert_eq!(versions.roll_back(None).unwrap().to_string(), "1.1.0");
        assert_eq!(live(plugins), "1.1.0");
        assert_eq!(versions.promote("1.2.0").unwrap().to_string(), "1.2.0", "it was kept");
    }

    #[test]
    fn a_kept_version_that_is_damaged_does_not_come_back() {
        let plugins = tempfile::tempdir().unwrap();
        let (plugins, versions) = (plugins.path(), Versions::of(plugins.path(), "demo"));
        for version in ["1.0.0", "1.1.0"] {
            write(plugins, version);
            versions.went_live().unwrap();
        }
        let (id, _) = versions.find("1.0.0").unwrap();
        std::fs::write(versions.path(&id).join("plugin.wasm"), "1.0.1").unwrap();
        let error = versions.roll_back(None).unwrap_err().to_string();
        assert!(error.contains(&id) && error.contains("is damaged"), "{error}");
        assert_eq!(live(plugins), "1.1.0");
    }

    #[test]
    fn old_versions_make_room() {
        let plugins = tempfile::tempdir().unwrap();
        let versions = Versions::of(plugins.path(), "demo");
        for minor in 0..20 {
            write(plugins.path(), &format!("1.{minor}.0"));
            versions.went_live().unwrap();
        }
        assert_eq!(versions.kept().unwrap().len(), KEPT + 1);
    }
}
