//! A loaded plugin as the rest of the host sees it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::manifest::Manifest;
use super::powers::{Power, PowerKind};

/// Identity and grants of one version of a plugin: what the host knows of a
/// caller without trusting it. Every capability call gets it from the linker.
#[derive(Debug)]
pub struct Plugin {
    /// Without what was denied.
    pub manifest: Manifest,
    /// Hex SHA-256 of the component.
    pub digest: String,
    /// Who vouches for this version: a trusted publisher, or `unsigned`.
    pub publisher: String,
    /// Asked for and not granted.
    pub denied: BTreeSet<Power>,
    /// Settings, checked against the manifest's schema with defaults filled
    /// in: a JSON object, and each member's JSON text.
    pub config_document: String,
    pub config: HashMap<String, String>,
    /// Path under `assets/` → URL that may be cached for ever.
    pub asset_urls: HashMap<String, String>,
}

impl Plugin {
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Whether the operator, and not the manifest, stands against it.
    pub fn is_denied(&self, kind: PowerKind, subject: &str) -> bool {
        self.denied.iter().any(|power| power.kind == kind && power.subject == subject)
    }
}

/// What named imports hand to every capability call.
pub type Caller = Arc<Plugin>;
