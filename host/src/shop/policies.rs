//! `plugins/policies.toml`: what the operator has changed of the policies that
//! plugins declare for the extension points they call.
//!
//! Read by [`super::Shop`] at each reload, written by `souk plugin policy`,
//! consulted by the engine at each call of a point. It holds a digest of what
//! it says: a deadline of 950 ms that a flipped bit made of 150 is not taken
//! for the operator's word.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::manifest::FailurePolicy;
use crate::files::{read_whole, write_whole};

/// By interface without version, for instance `souk:extend/discount`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policies(BTreeMap<String, Changed>);

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Changed {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail: Option<FailurePolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u32>,
}

impl Changed {
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline_ms.map(|ms| Duration::from_millis(ms.into()))
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    digest: String,
    points: Policies,
}

fn path(plugins: &Path) -> PathBuf {
    plugins.join("policies.toml")
}

impl Policies {
    /// Empty where the operator has changed nothing.
    pub fn read(plugins: &Path) -> Result<Self> {
        let read = read_whole(&path(plugins), |text| {
            let Written { digest, points } = toml::from_slice(text)?;
            ensure!(digest == points.digest()?, "it is not what `souk plugin policy` wrote");
            Ok::<_, anyhow::Error>(points)
        });
        Ok(read.context("put it back from a backup, or remove it and set each policy again")?.unwrap_or_default())
    }

    /// Whole or not at all.
    pub fn write(&self, plugins: &Path) -> Result<()> {
        let written = Written { digest: self.digest()?, points: self.clone() };
        let text = format!("# Policies of extension points. `souk plugin policy` writes it.\n\n{}", toml::to_string_pretty(&written)?);
        write_whole(&path(plugins), text.as_bytes())
    }

    /// SHA-256 of what is said, whatever the file looks like, in hex.
    fn digest(&self) -> Result<String> {
        Ok(hex::encode(Sha256::digest(serde_json::to_vec(self)?)))
    }

    pub fn of(&self, interface: &str) -> Option<&Changed> {
        self.0.get(interface)
    }

    /// `None`: as declared again.
    pub fn set(&mut self, interface: &str, changed: Option<Changed>) {
        match changed {
            Some(changed) => self.0.insert(interface.to_owned(), changed),
            None => self.0.remove(interface),
        };
    }
}
