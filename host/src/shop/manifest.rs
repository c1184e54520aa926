//! `plugin.toml`: what a plugin is, serves, hears and asks for.
//!
//! Read by [`super`] when a plugin is loaded, and consulted by the rooms that
//! grant (`capability`), route (`front`) and schedule (`work`). Nothing that is
//! not in the manifest is granted. This module only knows the text: whether
//! the component keeps to it is checked when it is linked.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// Lower-case kebab name, unique in a shop; the plugin's storage namespace.
    pub name: String,
    pub version: semver::Version,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub license: String,
    /// `service`: linked into the shop's graph. `provider`: runs in stores of
    /// its own, serves extension points.
    #[serde(default)]
    pub kind: Kind,
    /// Keep no instance between calls.
    #[serde(default)]
    pub isolation: Isolation,
    #[serde(default)]
    pub routes: Vec<Route>,
    #[serde(default)]
    pub events: Vec<Subscription>,
    /// Topics it may publish.
    #[serde(default)]
    pub publishes: BTreeSet<String>,
    #[serde(default)]
    pub jobs: Vec<Job>,
    #[serde(default)]
    pub commands: Vec<Command>,
    #[serde(default)]
    pub indexes: Vec<Index>,
    /// Extension points it calls, with the policy for failing providers.
    #[serde(default)]
    pub extension_points: Vec<ExtensionPoint>,
    /// Plugins it may send effects to; `*` for any that is installed.
    #[serde(default)]
    pub effects: BTreeSet<String>,
    #[serde(default)]
    pub http: Http,
    /// Secrets it may read or use, by name.
    #[serde(default)]
    pub secrets: BTreeSet<String>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub data: Data,
    /// Settings with type, default and description.
    #[serde(default)]
    pub config: BTreeMap<String, Setting>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[default]
    Service,
    Provider,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    #[default]
    Pooled,
    Request,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Route {
    /// Given to the plugin as `request.route`.
    pub name: String,
    /// Upper case. `GET` also answers `HEAD`.
    pub methods: BTreeSet<String>,
    /// `/p/{handle}`, `/media/{*rest}`.
    pub path: String,
    /// Mounted under each locale's prefix; the bare path redirects there.
    #[serde(default)]
    pub localized: bool,
    /// Accepts requests from other sites (an API, a provider's notification):
    /// no session is given, and cross-site checks do not apply.
    #[serde(default)]
    pub cross_site: bool,
    #[serde(default = "default_body_bytes_max")]
    pub body_bytes_max: u32,
}

fn default_body_bytes_max() -> u32 {
    1 << 20
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Subscription {
    pub topic: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Job {
    pub name: String,
    /// Five-field cron (or six, with seconds first), in the shop's time zone.
    pub cron: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Command {
    /// Unique in a shop, for instance `import-products`.
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// Also runs after this command of any plugin, with the same input: a
    /// products file that holds stock is read by catalogue and inventory.
    #[serde(default)]
    pub after: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Index {
    pub name: String,
    pub fields: Vec<IndexField>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IndexField {
    pub name: String,
    pub kind: FieldKind,
    /// Weight of a text field; 1.0 unless given.
    #[serde(default)]
    pub boost: Option<f32>,
    /// Terms of this text field complete what a shopper types.
    #[serde(default)]
    pub suggest: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldKind {
    /// Searched by words; Chinese is segmented.
    Text,
    /// Matched whole: filters, facets.
    Keyword,
    /// Signed 64-bit: ranges, sorting.
    Number,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExtensionPoint {
    /// Interface name, for instance `souk:extend/discount`.
    pub interface: String,
    pub fail: FailurePolicy,
    #[serde(default = "default_extension_deadline_ms")]
    pub deadline_ms: u32,
}

fn default_extension_deadline_ms() -> u32 {
    200
}

/// What the caller of an extension point sees when a provider traps, hangs or
/// floods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FailurePolicy {
    /// The provider's part is left out (`fail = "open"`).
    Open,
    /// The whole call answers with a failure (`fail = "closed"`).
    Closed,
    /// What it answered to the same question within the last hour is taken
    /// again (`fail = "last-good"`; a question's `now-ms` does not count); where
    /// there is nothing, its part is left out.
    LastGood,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// `api.example.com`, `*.example.com`, `shop.internal` (this shop itself).
    #[serde(default)]
    pub hosts: BTreeSet<String>,
}

/// The form of the documents that a plugin keeps: see `souk:host/data`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Data {
    /// The newest that this version writes, from 1.
    pub form: u32,
    /// The oldest that it reads; the same unless given.
    pub reads: Option<u32>,
}

impl Data {
    pub fn reads(&self) -> u32 {
        self.reads.unwrap_or(self.form)
    }
}

impl Default for Data {
    fn default() -> Self {
        Self { form: 1, reads: None }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// CPU and waiting of one call together.
    pub deadline_ms: u32,
    /// All linear memories of an instance.
    pub memory_mib: u32,
    pub table_elements: u32,
    /// Storage operations of one unit.
    pub storage_operations: u32,
    /// Answer of one call.
    pub output_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: 5_000,
            memory_mib: 64,
            table_elements: 20_000,
            storage_operations: 10_000,
            output_bytes: 8 << 20,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Setting {
    /// `string`, `integer`, `number`, `boolean`, `array` or `object`.
    #[serde(rename = "type")]
    pub kind: SettingKind,
    #[serde(default)]
    pub default: Option<toml::Value>,
    #[serde(default)]
    pub description: String,
    /// Inclusive bounds of a number.
    #[serde(default)]
    pub min: Option<f64>,
    #[serde(default)]
    pub max: Option<f64>,
    /// The only values allowed.
    #[serde(default)]
    pub values: Vec<toml::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingKind {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
}
