//! `souk.toml`: one shop's settings, written by its retailer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::manifest::{ExtensionPoint, Limits};
use crate::alert::AlertSettings;
use crate::engine::CODE_CACHE_BYTES;
use crate::engine::bindings::souk::host::config::ShopFacts;
use crate::front::config::ServerConfig;
use crate::store::{CACHE_BYTES, EngineKind};
use crate::work::retry::{self, Retry};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    pub shop: ShopSettings,
    #[serde(default)]
    pub server: ServerConfig,
    #[serde(default)]
    pub storage: StorageSettings,
    #[serde(default)]
    pub plugins: PluginSettings,
    #[serde(default)]
    pub retries: RetrySettings,
    #[serde(default)]
    pub alerts: AlertSettings,
    /// Settings of plugins, by plugin.
    #[serde(default)]
    pub config: BTreeMap<String, toml::Table>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ShopSettings {
    pub name: String,
    /// As shoppers reach it; `http://<server.listen>` unless given.
    #[serde(default)]
    pub base_url: Option<String>,
    /// ISO 4217.
    pub currency: String,
    /// BCP 47, the default first.
    pub locales: Vec<String>,
    /// IANA name.
    pub time_zone: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StorageSettings {
    /// `fjall`, `sled` or `redb`; fixed once the store has been made.
    pub engine: EngineSetting,
    /// Of what was read from disk: fills as the shop is used. What was written last is kept beside it, some 100 MB.
    pub cache_bytes_max: u64,
    /// Of compiled code that is kept in `cache/`: what was not used for the longest goes first, never what is live.
    pub code_cache_bytes_max: u64,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self { engine: EngineSetting::default(), cache_bytes_max: CACHE_BYTES, code_cache_bytes_max: CODE_CACHE_BYTES }
    }
}

/// Below that, engines do nothing but read.
const CACHE_BYTES_LEAST: u64 = 4 << 20;
const CACHE_BYTES_MOST: u64 = 1 << 40;

/// How events, effects and jobs that fail are tried again.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RetrySettings {
    /// The wait after the first failure; it doubles with each more …
    pub first_wait_ms: u64,
    /// … up to this one.
    pub wait_ms_max: u64,
    /// After which all waits together it is given up, and a dead letter.
    pub give_up_after_minutes: u64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { first_wait_ms: retry::FIRST_MS, wait_ms_max: retry::MOST_MS, give_up_after_minutes: retry::HORIZON_MS / 60_000 }
    }
}

const MINUTES_MOST: u64 = 30 * 24 * 60;

impl RetrySettings {
    pub fn retry(&self) -> Retry {
        Retry::within(self.first_wait_ms, self.wait_ms_max, self.give_up_after_minutes * 60_000)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=60_000).contains(&self.first_wait_ms) {
            problems.push(format!("retries.first-wait-ms is {}: give 1 to 60000", self.first_wait_ms));
        }
        if !(self.first_wait_ms..=24 * 3_600_000).contains(&self.wait_ms_max) {
            problems.push(format!("retries.wait-ms-max is {}: give first-wait-ms to 86400000, a day", self.wait_ms_max));
        }
        if self.give_up_after_minutes > MINUTES_MOST {
            problems.push(format!("retries.give-up-after-minutes is {}: give 0 to {MINUTES_MOST}, thirty days", self.give_up_after_minutes));
        }
        problems
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PluginSettings {
    /// Whether a changed plugin goes live at once on code of a baseline
    /// compiler, for the seconds that optimising takes. Two compilers are more
    /// that a hostile plugin could try; `false` trusts Cranelift alone, and lets
    /// changes wait for it.
    pub baseline_code: bool,
    pub grants: GrantSetting,
    /// Public keys of those whose bundles are trusted, by the names that you
    /// give them.
    pub publishers: BTreeMap<String, String>,
    /// What a plugin may have of the shop over time, in percent, by its name; what
    /// it was granted (`limits.share`) unless given.
    pub shares: BTreeMap<String, u32>,
    /// What each call of a provider may take of a shopper's time, by working or by
    /// waiting, in milliseconds, by its name; an eighth of the point's deadline and at most
    /// 25 ms unless given.
    pub latency_ms: BTreeMap<String, u32>,
}

const CODE_CACHE_BYTES_LEAST: u64 = 1 << 20;

impl Default for PluginSettings {
    fn default() -> Self {
        Self { baseline_code: true, grants: GrantSetting::default(), publishers: BTreeMap::new(), shares: BTreeMap::new(), latency_ms: BTreeMap::new() }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantSetting {
    /// A plugin does what it was granted, and is not live before it was.
    #[default]
    Required,
    /// Whatever lies in `plugins/` may do what it asks for: for a shop whose
    /// plugins are all your own.
    Implied,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineSetting {
    #[default]
    Fjall,
    Sled,
    Redb,
}

impl From<EngineSetting> for EngineKind {
    fn from(setting: EngineSetting) -> Self {
        match setting {
            EngineSetting::Fjall => EngineKind::Fjall,
            EngineSetting::Sled => EngineKind::Sled,
            EngineSetting::Redb => EngineKind::Redb,
        }
    }
}

impl Settings {
    pub fn read(store: &Path) -> Result<Self> {
        if let Ok(why) = std::fs::read_to_string(StoreFolder(store.to_owned()).unfinished()) {
            bail!("{}: {}", store.display(), why.trim());
        }
        let path = store.join("souk.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{}: make a store with `souk store init --store {}`", path.display(), store.display()))?;
        let settings: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let problems = settings.problems();
        if !problems.is_empty() {
            bail!("{}:\n  {}", path.display(), problems.join("\n  "));
        }
        Ok(settings)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = self.server.problems();
        problems.extend(self.retries.problems());
        problems.extend(self.alerts.problems());
        if self.storage.code_cache_bytes_max < CODE_CACHE_BYTES_LEAST {
            problems.push(format!("storage.code-cache-bytes-max is {}: give at least {CODE_CACHE_BYTES_LEAST}", self.storage.code_cache_bytes_max));
        }
        let shop = &self.shop;
        if shop.name.trim().is_empty() {
            problems.push("shop.name is empty: give the shop's name".into());
        }
        if shop.currency.len() != 3 || !shop.currency.bytes().all(|b| b.is_ascii_uppercase()) {
            problems.push(format!("shop.currency is `{}`: give an ISO 4217 code, for instance CNY", shop.currency));
        }
        if shop.country.len() != 2 || !shop.country.bytes().all(|b| b.is_ascii_uppercase()) {
            problems.push(format!("shop.country is `{}`: give an ISO 3166 code of two letters, for instance CN", shop.country));
        }
        if jiff::tz::TimeZone::get(&shop.time_zone).is_err() {
            problems.push(format!("shop.time-zone is `{}`: give an IANA name, for instance Asia/Shanghai", shop.time_zone));
        }
        for (name, key) in &self.plugins.publishers {
            if let Err(error) = super::bundle::public_key(key) {
                problems.push(format!("plugins.publishers.{name}: {error:#}"));
            }
            if name == super::grants::UNSIGNED {
                problems.push(format!("plugins.publishers.{name}: give the publisher another name"));
            }
        }
        for (name, share) in self.plugins.shares.iter().filter(|(_, share)| !Limits::SHARE.contains(share)) {
            problems.push(format!("plugins.shares.{name} is {share}: give 1 to 100, in percent"));
        }
        let deadlines = ExtensionPoint::DEADLINE_MS;
        for (name, ms) in self.plugins.latency_ms.iter().filter(|(_, ms)| !deadlines.contains(ms)) {
            problems.push(format!("plugins.latency-ms.{name} is {ms}: give {} to {}, in milliseconds", deadlines.start(), deadlines.end()));
        }
        let cache = self.storage.cache_bytes_max;
        if !(CACHE_BYTES_LEAST..=CACHE_BYTES_MOST).contains(&cache) {
            problems.push(format!("storage.cache-bytes-max is {cache}: give {CACHE_BYTES_LEAST} to {CACHE_BYTES_MOST}"));
        }
        if shop.locales.is_empty() {
            problems.push("shop.locales is empty: give at least one, for instance [\"zh-CN\", \"en\"]".into());
        }
        if let Some(url) = &shop.base_url
            && (!(url.starts_with("https://") || url.starts_with("http://")) || url.ends_with('/') || url::Url::parse(url).is_err())
        {
            problems.push(format!("shop.base-url is `{url}`: give https://shop.example without a final slash"));
        }
        problems
    }

    /// As plugins see the shop, once the server's address is known.
    pub fn facts(&self, base_url: String) -> ShopFacts {
        let shop = &self.shop;
        ShopFacts {
            name: shop.name.clone(),
            base_url,
            currency: shop.currency.clone(),
            locales: shop.locales.clone(),
            time_zone: shop.time_zone.clone(),
            country: shop.country.clone(),
        }
    }

    pub fn base_url(&self) -> String {
        self.shop.base_url.clone().unwrap_or_else(|| {
            let scheme = if self.server.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", self.server.listen)
        })
    }
}

/// Where the parts of a store lie.
#[derive(Debug, Clone)]
pub struct StoreFolder(pub PathBuf);

impl StoreFolder {
    pub fn plugins(&self) -> PathBuf {
        self.0.join("plugins")
    }

    pub fn media(&self) -> PathBuf {
        self.0.join("media")
    }

    /// Words that search is to know, a file a language.
    pub fn dictionaries(&self) -> PathBuf {
        self.0.join("dictionaries")
    }

    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub fn documents(&self) -> PathBuf {
        self.data().join("documents")
    }

    pub fn secrets(&self) -> PathBuf {
        self.0.join("secrets.toml")
    }

    pub fn code_cache(&self) -> PathBuf {
        self.0.join("cache/code")
    }

    /// There while the store is made, and half of it could be taken for a store.
    pub fn unfinished(&self) -> PathBuf {
        self.0.join("UNFINISHED")
    }

    pub fn control_socket(&self) -> PathBuf {
        self.data().join("control.sock")
    }
}
