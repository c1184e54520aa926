//! A shop put together: store, services, plugins, units of work.
//!
//! `cli` opens one for every command; `serve` puts the front before it. This is
//! the only place that knows all the rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::capability::Services;
use crate::engine::{self, Code, CodeUsage, Engine};
use crate::files::{self, create_private_folder};
use crate::front::page_cache::PageCache;
use crate::front::{Admission, Answer, Application, Call, Failure, FrontOptions, Origin, Site};
use crate::printable;
use crate::shop::Shop;
use crate::shop::settings::{Settings, StoreFolder};
use crate::store::Store;
use crate::work::runner::Clock;
use crate::work::trouble::Warning;
use crate::work::{Options, RunError, Runner, keys};

pub struct Runtime {
    pub settings: Arc<Settings>,
    pub folder: StoreFolder,
    pub store: Store,
    pub services: Arc<Services>,
    pub shop: Arc<Shop>,
    pub runner: Arc<Runner<Shop>>,
    pub pages: Arc<PageCache>,
}

impl Runtime {
    /// Opens the store and brings its plugins to life. Nothing runs in the
    /// background before [`Runner::start`].
    pub async fn open(folder: StoreFolder, settings: Settings, code: Code) -> Result<Arc<Self>> {
        let limits = &settings.server.limits;
        let options = engine::Options {
            code_cache: Some(folder.code_cache()),
            code_cache_bytes_max: settings.storage.code_cache_bytes_max,
            baseline: settings.plugins.baseline_code,
            service_instances_max: (limits.requests_max + limits.requests_outside_max + BACKGROUND_INSTANCES).min(INSTANCES_MAX) as u32,
            ..engine::Options::default()
        };
        Self::open_on(folder, settings, code, options).await
    }

    /// On an engine of one's own choice.
    pub async fn open_on(folder: StoreFolder, settings: Settings, code: Code, engine: engine::Options) -> Result<Arc<Self>> {
        let settings = Arc::new(settings);
        create_private_folder(&folder.data())?;
        close_to_others(&folder)?;
        let store = Store::open_with_cache(&folder.documents(), settings.storage.engine.into(), settings.storage.cache_bytes_max)?;
        let engine = Engine::new(engine).map_err(|error| anyhow::anyhow!("the wasm engine does not start: {error:#}"))?;
        Self::over(store, engine, Options::default().now, folder, settings, code).await
    }

    /// Over a store, an engine and a clock that the caller brings.
    pub async fn over(store: Store, engine: Engine, now: Clock, folder: StoreFolder, settings: Arc<Settings>, code: Code) -> Result<Arc<Self>> {
        let services = Arc::new(Services::open(&folder.data(), &folder.secrets(), &folder.dictionaries().join("zh.txt"), settings.facts(settings.base_url()), store.clone())?);
        keep_currency(&store, &settings.shop.currency).await.with_context(|| folder.0.join("souk.toml").display().to_string())?;
        services.keys.keep_fingerprint(&store).await?;
        miss_files(&store, &folder).await?;
        let shop = Shop::open(folder.plugins(), settings.clone(), engine, services.clone(), store.clone(), code).await?;
        // A shop that cannot write would open without plugins: they could not be subscribed to anything.
        ensure!(store.failed().borrow().is_none(), "{}: {}", folder.documents().display(), store.failed().borrow().clone().unwrap_or_default());
        let pages = Arc::new(PageCache::new(settings.server.limits.page_cache_bytes_max));
        let options = Options {
            time_zone: jiff::tz::TimeZone::get(&settings.shop.time_zone)?,
            now,
            invalidate: {
                let pages = pages.clone();
                Box::new(move |tags| pages.invalidate(tags))
            },
            retry: settings.retries.retry(),
        };
        let runner = Runner::new(store.clone(), shop.clone(), options);
        Ok(Arc::new(Self { settings, folder, store, services, shop, runner, pages }))
    }

    /// Finishes what is in hand, and notes how far the store has come.
    pub async fn close(&self) {
        self.runner.stop().await;
        self.services.search.stop().await;
        // What has been written meanwhile is missed from now on.
        if let Err(error) = miss_files(&self.store, &self.folder).await {
            tracing::warn!("the next start cannot tell whether files are missing: {error:#}");
        }
        if let Err(error) = self.store.note_reached() {
            tracing::warn!("the next start cannot tell whether commits are missing: {error}");
        }
    }

    /// What an operator should hear of.
    pub fn warnings(&self) -> Vec<Warning> {
        self.runner.warnings(self.settings.alerts.after_ms())
    }

    pub async fn status(&self) -> Result<Status> {
        // Found in the store, where nothing runs.
        let failing = self.runner.count_troubles(None)?;
        let (waiting, not_counted) = self.waiting().await;
        let report = self.shop.report();
        let refused = report.iter().filter_map(|plugin| Some(format!("`{}` is not as it should be: {}", plugin.name, plugin.problem.as_ref()?)));
        let switched_off = report.iter().flat_map(|plugin| plugin.switched_off.iter().map(move |off| {
            format!("`{}` is switched off for {}, {}, {}: see `souk plugin list`", plugin.name, off.point, off.function, off.why)
        }));
        let tried = report.iter().filter_map(|plugin| Some(format!("no version of `{0}` is on trial any more: {1}. See `souk plugin trial {0}`", plugin.name, plugin.trial_problem.as_ref()?)));
        let store_failed = self.ready().err();
        let warnings = store_failed.into_iter().chain(refused).chain(switched_off).chain(tried).chain(not_counted).chain(self.warnings().into_iter().map(|warning| warning.text));
        Ok(Status {
            waiting,
            shop: self.settings.shop.name.clone(),
            base_url: self.services.shop.load().base_url.clone(),
            plugins_live: report.iter().filter(|plugin| plugin.problem.is_none()).count() as u64,
            failing,
            code: self.shop.code_usage(),
            warnings: warnings.collect(),
        })
    }

    /// What plugins list as waiting for a person, and which of these lists cannot be had.
    async fn waiting(&self) -> (Vec<Waiting>, Vec<String>) {
        let (mut waiting, mut not_counted) = (Vec::new(), Vec::new());
        for (plugin, command) in self.shop.commands().into_iter().filter(|(_, command)| !command.attention.is_empty()) {
            let limit = vec![("limit".to_owned(), (WAITING_COUNTED_MAX + 1).to_string())];
            let listed = self.runner.command(&plugin, command.name.clone(), limit, Vec::new()).await.map_err(|error| error.to_string());
            let rows = listed.and_then(|output| serde_json::from_slice::<Vec<IgnoredAny>>(&output).map_err(|error| error.to_string()));
            match rows {
                Ok(rows) if rows.is_empty() => {}
                Ok(rows) => waiting.push(Waiting {
                    list: command.name.strip_prefix("list-").unwrap_or(&command.name).to_owned(),
                    plugin,
                    count: rows.len().min(WAITING_COUNTED_MAX) as u64,
                    are_more: rows.len() > WAITING_COUNTED_MAX,
                    words: command.attention,
                }),
                Err(error) => not_counted.push(format!("what waits for a person is not known: `{}` of the plugin `{plugin}` failed: {error}", command.name)),
            }
        }
        (waiting, not_counted)
    }

    pub fn front_options(&self) -> FrontOptions {
        FrontOptions {
            config: self.settings.server.clone(),
            base_url: self.settings.base_url(),
            session_key: self.services.keys.host_key("session"),
            media: self.folder.media(),
            pages: self.pages.clone(),
        }
    }
}

/// For `souk status`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    pub shop: String,
    pub base_url: String,
    pub plugins_live: u64,
    /// Dead letters, and work that is tried again.
    pub failing: u64,
    pub code: CodeUsage,
    /// What needs a person, by list.
    pub waiting: Vec<Waiting>,
    /// What else needs a look.
    pub warnings: Vec<String>,
}

/// Rows of one list, each of which waits for a person.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Waiting {
    /// For `souk list`.
    pub list: String,
    pub plugin: String,
    pub count: u64,
    pub are_more: bool,
    /// What they are, by locale.
    pub words: BTreeMap<String, String>,
}

/// Of each list.
const WAITING_COUNTED_MAX: usize = 500;

/// For events, effects and jobs, beside each request that works or waits outside.
const BACKGROUND_INSTANCES: usize = 16;
/// Each may come to have dozens of memories, of whose addresses there are 47 bits.
const INSTANCES_MAX: usize = 512;

/// What holds people's data, or says what plugins may do. `secrets.toml`, which others may have read
/// already, is refused instead: see `capability::secrets`.
const PRIVATE: [&str; 5] = ["data", "cache", "audit.jsonl", "plugins/grants.toml", "plugins/policies.toml"];

/// Shops of earlier versions, and copies made by other means, lie open to all users of the machine.
fn close_to_others(folder: &StoreFolder) -> Result<()> {
    for name in PRIVATE {
        let path = folder.0.join(name);
        let closed = files::close_to_others(&path)?;
        if closed > 0 {
            tracing::warn!("{}: other users of this machine could read {closed} files and folders there; now only the shop's own can", path.display());
        }
    }
    Ok(())
}

/// Plugins keep amounts in minor units of the shop's currency: in another one, they would all mean something else. What is
/// there decides; a store in which no plugin has kept anything yet takes up whatever it is given.
async fn keep_currency(store: &Store, currency: &str) -> Result<()> {
    let mut txn = store.begin();
    let known = txn.get(keys::CURRENCY)?;
    if known.as_deref() == Some(currency.as_bytes()) {
        return Ok(());
    }
    if let Some(known) = known {
        let known = String::from_utf8_lossy(&known).into_owned();
        let (first, end) = keys::all_documents();
        let is_empty = txn.scan(Bound::Included(&first), Bound::Excluded(&end), 1, false)?.is_empty();
        ensure!(
            is_empty,
            "shop.currency is `{currency}`, but the prices, discounts and delivery rates of this shop are in {known}, and would not be converted. \
             Nothing was changed. Put `currency = \"{known}\"` back. To sell in {currency}, make a shop in another folder: docs/import.md, `Another currency`"
        );
    }
    txn.put(keys::CURRENCY, currency.as_bytes().to_vec());
    store.commit(txn).await?;
    Ok(())
}

/// Files of the operator's that a new shop does not have, and that matter once they are there.
const MISSED: [&str; 3] = ["audit.jsonl", "secrets.toml", "plugins/policies.toml"];

/// Tells, once, of those that are gone since the last start: without them the shop would only do something else.
async fn miss_files(store: &Store, folder: &StoreFolder) -> Result<()> {
    let mut txn = store.begin();
    let known = txn.get(keys::FILES)?.unwrap_or_default();
    let mut known: BTreeSet<String> = String::from_utf8_lossy(&known).lines().map(str::to_owned).collect();
    let before = known.clone();
    for name in MISSED {
        let path = folder.0.join(name);
        // Half of a file may be its heading.
        let says_anything = |text: String| text.lines().any(|line| !line.trim().is_empty() && !line.trim().starts_with('#'));
        if std::fs::read_to_string(&path).is_ok_and(says_anything) {
            known.insert(name.to_owned());
        } else if known.remove(name) {
            tracing::warn!("{} held something at the last start, and holds nothing now: if that was not you, put it back from a backup", path.display());
        }
    }
    if known != before {
        txn.put(keys::FILES, known.into_iter().collect::<Vec<_>>().join("\n").into_bytes());
        store.commit(txn).await?;
    }
    Ok(())
}

impl Application for Runtime {
    fn site(&self) -> Arc<Site> {
        self.shop.site()
    }

    async fn admit(&self, plugin: &str, origin: Option<&Origin>) -> Result<Option<Admission>, Failure> {
        let payer = origin.map_or(plugin, |origin| &origin.plugin);
        let Some(account) = self.shop.limited_account(payer) else { return Ok(None) };
        account.admit(origin.is_some()).await.map(Some).map_err(|error| RunError::from(error).into())
    }

    fn origin(&self, header: &str) -> Option<Origin> {
        self.services.http.origin(header)
    }

    async fn call(&self, call: Call) -> Result<Answer, Failure> {
        self.runner.request(call).await
    }

    fn ready(&self) -> Result<(), String> {
        match &*self.store.failed().borrow() {
            Some(reason) => Err(format!("a write to the disk failed: {reason}")),
            None => Ok(()),
        }
    }

    fn degraded(&self) -> Vec<String> {
        self.warnings().into_iter().map(|warning| printable::line(&warning.text).into_owned()).collect()
    }

    fn metrics(&self, out: &mut String) {
        self.runner.metrics(out);
        self.services.metrics.encode(out);
        self.shop.metrics(out);
    }
}
