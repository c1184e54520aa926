//! `plugin.toml`: what a plugin is, serves, hears and asks for.
//!
//! Read by [`super`] when a plugin is loaded, and consulted by the rooms that
//! grant (`capability`), route (`front`) and schedule (`work`). Nothing that is
//! not in the manifest is granted. This module only knows the text: whether
//! the component keeps to it is checked when it is linked. What is written here
//! of each entry is also what `docs/manifest.md` and `souk plugin schema` say.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a plugin is, serves, hears and asks for. Nothing that is not in it is
/// given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "plugin.toml")]
pub struct Manifest {
    /// Unique in a shop, and the namespace of the plugin's documents: 1 to 40
    /// lower-case letters, digits and single hyphens, a letter first. So are the
    /// names of routes, jobs, commands and indexes.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"))]
    pub name: String,
    /// By the rules of semantic versioning.
    #[schemars(with = "String")]
    pub version: semver::Version,
    /// For whoever decides whether to install it.
    #[serde(default)]
    pub description: String,
    /// An SPDX expression, for instance `Apache-2.0`.
    #[serde(default)]
    pub license: String,
    /// How the plugin runs.
    #[serde(default)]
    pub kind: Kind,
    /// Whether calls share an instance.
    #[serde(default)]
    pub isolation: Isolation,
    /// Paths that it answers.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// What its pages may do in a shopper's browser.
    #[serde(default)]
    pub pages: Pages,
    /// Events that it is told of.
    #[serde(default)]
    pub events: Vec<Subscription>,
    /// Topics it may publish, dotted, for instance `order.placed`.
    #[serde(default)]
    pub publishes: BTreeSet<String>,
    /// Work by the clock.
    #[serde(default)]
    pub jobs: Vec<Job>,
    /// What an operator can run.
    #[serde(default)]
    pub commands: Vec<Command>,
    /// Full-text indexes of its own.
    #[serde(default)]
    pub indexes: Vec<Index>,
    /// Extension points it calls, with the policy for failing providers.
    #[serde(default)]
    pub extension_points: Vec<ExtensionPoint>,
    /// What calling its services means, for the operator who grants it to others.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Effects it may ask of other plugins: a plugin (`*` for any) and a kind, for
    /// instance `pay-sandbox payment.create`. A plugin alone means all kinds, and
    /// the operator is told so.
    #[serde(default)]
    pub effects: BTreeSet<String>,
    /// Web requests of its own.
    #[serde(default)]
    pub http: Http,
    /// Secrets it may read or use, by name.
    #[serde(default)]
    pub secrets: BTreeSet<String>,
    /// What one call may take.
    #[serde(default)]
    pub limits: Limits,
    /// The form of its documents.
    #[serde(default)]
    pub data: Data,
    /// Settings with type, default and description.
    #[serde(default)]
    pub config: BTreeMap<String, Setting>,
}

/// How the plugin runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Linked with the other services of the shop, and called in their unit.
    #[default]
    Service,
    /// Serves extension points, in a store and a budget of its own. It may read
    /// then, and not write.
    Provider,
}

/// Whether calls share an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// An instance answers one call after the other.
    #[default]
    Pooled,
    /// An instance for each call.
    Request,
}

/// A path that the plugin answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[[routes]]")]
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
    /// For who has begun to buy, and a provider's notification: when there are
    /// more requests than the shop can serve, others are sent away first. Requests
    /// without a session are as all others, unless the route is `cross-site` or
    /// `secret-path`. The operator is asked for it.
    #[serde(default)]
    pub critical: bool,
    /// Whoever knows the address may see the page: its path is kept out of the
    /// `Referer` of what follows and out of the access log, and no cache keeps it.
    #[serde(default)]
    pub secret_path: bool,
    /// The plugin is shown the request's `Authorization`, for a provider's
    /// notification that carries one. The operator is asked for it.
    #[serde(default)]
    pub authorization: bool,
    /// Of a request's body; a larger one is answered with 413.
    #[serde(default = "default_body_bytes_max")]
    pub body_bytes_max: u32,
}

fn default_body_bytes_max() -> u32 {
    1 << 20
}

/// What the plugin's pages may do in a shopper's browser, beyond showing text,
/// pictures, styles and forms that lead to the plugin's own routes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[pages]")]
pub struct Pages {
    /// Whether scripts run: files of the plugin's `assets/`, and no others. The
    /// operator is asked for it.
    pub scripts: Scripts,
    /// Cookies that its answers may set, each named `PLUGIN.NAME`: at most 4, of
    /// 512 bytes, for 30 days. The operator is asked for each.
    pub cookies: BTreeSet<String>,
}

impl Pages {
    pub const COOKIES_MAX: usize = 4;
}

/// Whether scripts of the plugin's pages run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scripts {
    #[default]
    None,
    /// In an origin of their own: without the shopper's session, cookies and
    /// storage, and out of reach of all other pages. Forms of such pages cannot
    /// act for the shopper.
    Sandboxed,
    /// As the shop itself. They can see and do whatever the shopper can, on all
    /// pages.
    Shop,
}

/// Events that the plugin is told of, each in a unit of its own, at least once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[[events]]")]
pub struct Subscription {
    /// For instance `order.placed`.
    pub topic: String,
}

/// Work by the clock. A plugin may also schedule some itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[[jobs]]")]
pub struct Job {
    /// Given to the plugin as `job.name`.
    pub name: String,
    /// Five-field cron (or six, with seconds first), in the shop's time zone.
    pub cron: String,
}

/// What an operator can run with `souk plugin run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[[commands]]")]
pub struct Command {
    /// Unique in a shop, for instance `import-products`.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// What it takes as `name=value`; `[]` for nothing. Whatever else is given is refused before the plugin is called, and so
    /// is what is given twice, is missing, or is no value of its kind. Without this key the plugin gets what is given, unchecked.
    #[serde(default)]
    pub arguments: Option<Vec<Argument>>,
    /// Also runs after this command of any plugin, with the same input and those of its arguments that it declares: a
    /// products file that holds stock is read by catalogue and inventory. The operator is asked for it. What fails then does
    /// not undo the command that it follows. `souk list` runs the list alone.
    #[serde(default)]
    pub after: Option<String>,
    /// What people are shown of its answer, which is JSON: names of members, `totals.grand_total` for one within another. Times
    /// end with `_ms`; sums of money are objects of `amount`, in the smallest unit, and `currency`. Where its name is `list-…`,
    /// it answers with a list of objects for `souk list`, and takes `limit=N`, and `after=` the first column of the last row
    /// seen. That column is never cut; where the screen is narrow the last ones are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Each row of this list waits for a person: `souk status` counts them, in these words by locale, `en` among them, for
    /// instance `payments that wait for a person`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attention: BTreeMap<String, String>,
}

impl Command {
    /// Whether `souk list` shows it.
    pub fn is_list(&self) -> bool {
        self.name.starts_with("list-") && !self.columns.is_empty()
    }
}

/// One argument of a command.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[[commands.arguments]]")]
pub struct Argument {
    /// As it is given, for instance `sku`.
    pub name: String,
    /// What its value is.
    #[serde(default)]
    pub kind: ArgumentKind,
    /// Whether the command cannot do without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Whether `none`, or nothing, is a value too: it takes away what was set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clears: bool,
    /// The lowest number allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The highest number allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The only texts allowed; any if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// By locale, `en` among them: what it is for.
    #[serde(default)]
    pub words: BTreeMap<String, String>,
}

/// Kinds of values. The plugin gets them as they were given, `boolean` as `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArgumentKind {
    #[default]
    Text,
    /// A whole number.
    Integer,
    /// A decimal number, for instance `12.5`.
    Number,
    /// An amount of the shop's currency, for instance `12.50`.
    Money,
    /// `yes` or `no`, `true` or `false`.
    Boolean,
    /// `2026-11-11`, `2026-11-11T09:30` in the shop's time zone, or with an offset.
    Time,
}

/// A full-text index of the plugin's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[[indexes]]")]
pub struct Index {
    /// As the plugin names it when it searches.
    pub name: String,
    /// Of the documents in it.
    pub fields: Vec<IndexField>,
}

/// A field of the documents in the index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[[indexes.fields]]")]
pub struct IndexField {
    /// As in the documents.
    pub name: String,
    /// How it is searched.
    pub kind: FieldKind,
    /// Weight of a text field; 1.0 unless given.
    #[serde(default)]
    pub boost: Option<f32>,
    /// Terms of this text field complete what a shopper types.
    #[serde(default)]
    pub suggest: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FieldKind {
    /// Searched by words; Chinese is segmented.
    Text,
    /// Matched whole: filters, facets.
    Keyword,
    /// Signed 64-bit: ranges, sorting.
    Number,
}

/// An extension point that the plugin calls: all its providers are asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[[extension-points]]")]
pub struct ExtensionPoint {
    /// Interface name, for instance `souk:extend/discount`.
    pub interface: String,
    /// When a provider traps, hangs or floods.
    pub fail: FailurePolicy,
    /// For each provider, of the time that `limits.deadline-ms` speaks of.
    #[serde(default = "default_extension_deadline_ms")]
    #[schemars(range(min = *ExtensionPoint::DEADLINE_MS.start(), max = *ExtensionPoint::DEADLINE_MS.end()))]
    pub deadline_ms: u32,
}

impl ExtensionPoint {
    pub const DEADLINE_MS: RangeInclusive<u32> = 1..=30_000;
}

fn default_extension_deadline_ms() -> u32 {
    200
}

/// What the caller of an extension point sees when a provider traps, hangs or
/// floods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
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

/// A service that the plugin exports: its functions in groups, each a power of its
/// own for whoever calls it. A function in no group is granted by its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[[services]]")]
pub struct Service {
    /// Interface name, for instance `souk:commerce/orders`.
    pub interface: String,
    /// By name, for instance `read`. What only looks, what changes, and what moves
    /// money or stock belong into different ones.
    pub groups: BTreeMap<String, Group>,
}

/// Functions of a service that are granted together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[services.groups.NAME]")]
pub struct Group {
    /// As the interface names them; each in one group.
    pub functions: BTreeSet<String>,
    /// By locale, `en` among them: what a caller does by them, after "It asks to:".
    pub words: BTreeMap<String, String>,
}

/// Web requests of the plugin.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[http]")]
pub struct Http {
    /// Where to: `api.example.com` (HTTPS), `*.example.com`, `api.example.com:8443`,
    /// `http://api.example.com` (plain), `shop.internal` (this shop itself).
    /// Private addresses are never reached.
    #[serde(default)]
    pub hosts: BTreeSet<String>,
}

/// The form of the documents that a plugin keeps: see `souk:host/data`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[data]")]
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

/// What one call may take, and the plugin over time. More than the defaults is
/// asked of the operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[limits]")]
pub struct Limits {
    /// Processor time of one call and what it waits for web requests and for the
    /// cache, together. Being without a processor does not count.
    #[schemars(range(min = *Limits::DEADLINE_MS.start(), max = *Limits::DEADLINE_MS.end()))]
    pub deadline_ms: u32,
    /// All linear memories of an instance.
    #[schemars(range(min = *Limits::MEMORY_MIB.start(), max = *Limits::MEMORY_MIB.end()))]
    pub memory_mib: u32,
    /// Functions and references in an instance's tables.
    #[schemars(range(min = *Limits::TABLE_ELEMENTS.start(), max = *Limits::TABLE_ELEMENTS.end()))]
    pub table_elements: u32,
    /// Storage operations of one unit.
    #[schemars(range(min = *Limits::STORAGE_OPERATIONS.start(), max = *Limits::STORAGE_OPERATIONS.end()))]
    pub storage_operations: u32,
    /// In percent: what the plugin may have of the shop's processors, storage and
    /// instances over time, in all its calls together. 100 is not held back.
    #[schemars(range(min = *Limits::SHARE.start(), max = *Limits::SHARE.end()))]
    pub share: u32,
    /// Answer of one call. Of a provider of an extension point at most 1 MiB as the
    /// host holds it, and 500 items.
    #[schemars(range(min = *Limits::OUTPUT_BYTES.start(), max = *Limits::OUTPUT_BYTES.end()))]
    pub output_bytes: u32,
}

impl Limits {
    pub const DEADLINE_MS: RangeInclusive<u32> = 10..=60_000;
    pub const MEMORY_MIB: RangeInclusive<u32> = 1..=256;
    pub const TABLE_ELEMENTS: RangeInclusive<u32> = 1..=1_000_000;
    pub const STORAGE_OPERATIONS: RangeInclusive<u32> = 1..=1_000_000;
    pub const SHARE: RangeInclusive<u32> = 1..=100;
    pub const OUTPUT_BYTES: RangeInclusive<u32> = 1..=64 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: 5_000,
            memory_mib: 64,
            table_elements: 20_000,
            storage_operations: 10_000,
            share: 20,
            output_bytes: 8 << 20,
        }
    }
}

/// A setting that the retailer may change in `souk.toml`. In Rust,
/// `souk_sdk::config!` writes these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "[config.NAME]")]
pub struct Setting {
    /// What the retailer may write.
    #[serde(rename = "type")]
    pub kind: SettingKind,
    /// A setting without one must be given before the plugin goes live.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub default: Option<toml::Value>,
    /// For the retailer.
    #[serde(default)]
    pub description: String,
    /// The lowest number allowed.
    #[serde(default)]
    pub min: Option<f64>,
    /// The highest number allowed.
    #[serde(default)]
    pub max: Option<f64>,
    /// The only values allowed; any if empty.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub values: Vec<toml::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SettingKind {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
}
