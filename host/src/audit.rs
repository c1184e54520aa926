//! `audit.jsonl` in a store's folder: who changed what in this shop, one line
//! for each command of the operator's and for each change that the shop made by
//! itself. Lines are only added; each carries a digest of itself and of the line
//! before it, so that one which was changed or taken out later is noticed
//! ([`Audit::read`]). Whoever may write the file can of course write all of it
//! anew: the last digest, kept elsewhere (a backup has it), tells that too.
//!
//! Written by `cli` and by [`crate::shop`]; it knows neither plugins nor HTTP.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const DETAIL_CHARS_MAX: usize = 4_000;
/// More than any line takes, however its characters are escaped.
const LINE_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at: jiff::Timestamp,
    /// The operator's account, or `the shop`.
    pub by: String,
    /// For instance `plugin install`, `live`.
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    entry: Entry,
    /// SHA-256 of the digest before and of the entry, in hex.
    digest: String,
}

impl Entry {
    pub fn by_operator(what: &str, plugin: Option<&str>, detail: String) -> Self {
        Self::new(operator(), what, plugin, detail)
    }

    pub fn by_shop(what: &str, plugin: &str, detail: String) -> Self {
        Self::new("the shop".into(), what, Some(plugin), detail)
    }

    fn new(by: String, what: &str, plugin: Option<&str>, detail: String) -> Self {
        let detail = detail.chars().take(DETAIL_CHARS_MAX).collect();
        Self { at: jiff::Timestamp::now(), by, what: what.into(), plugin: plugin.map(str::to_owned), detail, failed: None }
    }

    pub fn outcome<T>(mut self, outcome: &Result<T>) -> Self {
        self.failed = outcome.as_ref().err().map(|error| format!("{error:#}").chars().take(DETAIL_CHARS_MAX).collect());
        self
    }

    fn digest(&self, before: &str) -> Result<String> {
        let digest = Sha256::new().chain_update(before).chain_update(serde_json::to_vec(self)?);
        Ok(hex::encode(digest.finalize()))
    }
}

/// What is in the file, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Trail {
    pub entries: Vec<Entry>,
    /// Line numbers, from 1, that are not what was written, or do not follow the line before them.
    pub broken: Vec<usize>,
    /// Of the last line.
    pub digest: String,
}

pub struct Audit(PathBuf);

impl Audit {
    pub fn of(store: &Path) -> Self {
        Self(store.join("audit.jsonl"))
    }

    /// Of the store whose plugins lie in `plugins`.
    pub fn of_plugins(plugins: &Path) -> Self {
        Self::of(plugins.parent().unwrap_or(plugins))
    }

    /// What the shop has done by itself. It goes on where that cannot be written down.
    pub fn tell(&self, entries: Vec<Entry>) {
        if let Err(error) = self.add(entries) {
            tracing::error!("a change is not in the shop's audit trail: {error:#}");
        }
    }

    /// On disk when it returns.
    pub fn add(&self, entries: Vec<Entry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let shown = || self.0.display().to_string();
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.0).with_context(shown)?;
        // The server and a command may have something to tell at once.
        file.lock().with_context(shown)?;
        let End { mut digest, is_torn } = last_line(&mut file).with_context(shown)?;
        let mut lines = if is_torn { vec![b'\n'] } else { Vec::new() };
        for entry in entries {
            digest = entry.digest(&digest)?;
            serde_json::to_writer(&mut lines, &Line { entry, digest: digest.clone() })?;
            lines.push(b'\n');
        }
        file.write_all(&lines).with_context(shown)?;
        file.sync_data().with_context(shown)
    }

    /// An empty trail where nothing has been written yet.
    pub fn read(&self) -> Result<Trail> {
        let text = match std::fs::read(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Trail::default()),
            text => text.with_context(|| self.0.display().to_string())?,
        };
        let mut trail = Trail::default();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.is_empty()) {
            let Ok(Line { entry, digest }) = serde_json::from_slice::<Line>(line) else {
                trail.broken.push(number);
                continue;
            };
            if entry.digest(&trail.digest)? != digest {
                trail.broken.push(number);
            }
            trail.entries.push(entry);
            trail.digest = digest;
        }
        Ok(trail)
    }
}

struct End {
    digest: String,
    /// A crash has cut it off.
    is_torn: bool,
}

/// Of the last line that can be read.
fn last_line(file: &mut File) -> Result<End> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(2 * LINE_BYTES_MAX)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let digest = tail.rsplit(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice::<Line>(line).ok());
    Ok(End { digest: digest.map_or_else(String::new, |line| line.digest), is_torn: tail.last().is_some_and(|byte| *byte != b'\n') })
}

/// The account that runs this process. Its number is the system's word; names
/// come from the environment.
pub fn operator() -> String {
    // SAFETY: always succeeds, and touches no memory.
    let uid = unsafe { libc::getuid() };
    let name = |variable: &str| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let user = name("USER").or_else(|| name("LOGNAME")).map_or_else(String::new, |name| format!("{name} "));
    let sudo = name("SUDO_USER").map_or_else(String::new, |name| format!(" for {name}"));
    format!("{user}(uid {uid}){sudo}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(entries: usize) -> (tempfile::TempDir, Audit) {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::of(folder.path());
        audit.add((0..entries).map(|n| Entry::by_shop("live", "tea-time", format!("1.{n}.0"))).collect()).unwrap();
        (folder, audit)
    }

    #[test]
    fn what_is_added_is_read_in_order() {
        let (_folder, audit) = trail(3);
        let refused = Entry::by_operator("plugin grant", Some("tea-time"), String::new()).outcome(&Err::<(), _>(anyhow::anyhow!("no")));
        audit.add(vec![refused]).unwrap();
        let trail = audit.read().unwrap();
        assert!(trail.broken.is_empty());
        assert_eq!(trail.entries.iter().map(|entry| &*entry.detail).collect::<Vec<_>>(), ["1.0.0", "1.1.0", "1.2.0", ""]);
        assert_eq!(trail.entries[3].failed.as_deref(), Some("no"));
        assert!(trail.entries[3].by.contains("uid"), "{}", trail.entries[3].by);
    }

    #[test]
    fn what_is_changed_or_taken_out_is_noticed() {
        let (_folder, audit) = trail(4);
        let good = std::fs::read_to_string(&audit.0).unwrap();
        std::fs::write(&audit.0, good.replace("1.1.0", "1.7.0")).unwrap();
        assert_eq!(audit.read().unwrap().broken, [2]);
        let without: Vec<&str> = good.lines().enumerate().filter(|(n, _)| *n != 1).map(|(_, line)| line).collect();
        std::fs::write(&audit.0, without.join("\n")).unwrap();
        assert_eq!(audit.read().unwrap().broken, [2]);
    }

    #[test]
    fn a_line_that_was_cut_off_loses_no_other() {
        let (_folder, audit) = trail(2);
        let good = std::fs::read(&audit.0).unwrap();
        std::fs::write(&audit.0, &good[..good.len() - 10]).unwrap();
        audit.add(vec![Entry::by_shop("live", "tea-time", "2.0.0".into())]).unwrap();
        let trail = audit.read().unwrap();
        assert_eq!(trail.broken, [2]);
        assert_eq!(trail.entries.iter().map(|entry| &*entry.detail).collect::<Vec<_>>(), ["1.0.0", "2.0.0"]);
    }

    #[test]
    fn many_write_at_once() {
        let (_folder, audit) = trail(0);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let audit = &audit;
                scope.spawn(move || (0..20).for_each(|n| audit.add(vec![Entry::by_shop("live", "tea-time", format!("{writer}.{n}.0"))]).unwrap()));
            }
        });
        let trail = audit.read().unwrap();
        assert_eq!((trail.entries.len(), trail.broken.len()), (80, 0));
    }
}
