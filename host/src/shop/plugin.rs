//! A loaded plugin as the rest of the host sees it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    pub usage: Usage,
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

/// What this version has asked of the store since it was loaded.
#[derive(Debug, Default)]
pub struct Usage {
    /// Operations: a scan counts for each entry that it finds.
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    /// Keys and values.
    pub bytes_read: AtomicU64,
    pub bytes_written: AtomicU64,
}

impl Usage {
    pub fn read(&self, operations: usize, bytes: usize) {
        self.reads.fetch_add(operations as u64, Relaxed);
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
    }

    pub fn wrote(&self, bytes: usize) {
        self.writes.fetch_add(1, Relaxed);
        self.bytes_written.fetch_add(bytes as u64, Relaxed);
    }
}

/// What named imports hand to every capability call.
pub type Caller = Arc<Plugin>;
