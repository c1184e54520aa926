//! `plugins/policies.toml`: what the operator has changed of the policies that
//! plugins declare for the extension points they call.
//!
//! Read by [`super::Shop`] at each reload, written by `souk plugin policy`,
//! consulted by the engine at each call of a point.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::manifest::{ExtensionPoint, FailurePolicy};
use crate::files::{read_table, write_table};

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

fn path(plugins: &Path) -> PathBuf {
    plugins.join("policies.toml")
}

impl Policies {
    /// Empty where the operator has changed nothing.
    pub fn read(plugins: &Path) -> Result<Self> {
        let path = path(plugins);
        let policies: Self = read_table(&path)?.unwrap_or_default();
        for (interface, changed) in &policies.0 {
            let fits = changed.deadline_ms.is_none_or(|ms| ExtensionPoint::DEADLINE_MS.contains(&ms));
            ensure!(fits, "{}: `{interface}`: deadline-ms takes 1 to 30000", path.display());
        }
        Ok(policies)
    }

    /// Whole or not at all.
    pub fn write(&self, plugins: &Path) -> Result<()> {
        write_table(&path(plugins), "Policies of extension points. `souk plugin policy` writes it.", self)
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
