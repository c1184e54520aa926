//! The plugins of a shop: manifests, loading, linking, swapping.
//!
//! [`Shop`] keeps the live set: the graph of all services, a graph for each
//! extension provider, and the site they make. A change on disk is loaded,
//! linked and checked beside what runs, and swapped in whole, or not at all.
//! It is what `work` calls plugins through; it does not know what they do.

pub mod bundle;
pub mod grants;
pub mod load;
pub mod manifest;
pub mod plugin;
pub mod policies;
pub mod powers;
pub mod reference;
mod probation;
pub mod settings;
pub mod versions;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::capability::Services;
use crate::engine::{CallError, CallErrorKind, Code, Engine, Graph, LinkError, Mode, PluginStats, Provider, Providers, Trial, TrialReport, without_version};
use crate::front::routes::SitePlugin;
use crate::front::{Site, SiteError};
use crate::store::Store;
use crate::work::unit::{Kind as UnitKind, Limits, Shopper, Start};
use crate::work::{self, LivePlugins, PluginAnswer, PluginCall, Plugins, SharedUnit, Unit};
use grants::{Grants, NotGranted};
use load::Loaded;
use manifest::{FailurePolicy, Kind};
use plugin::Usage;
use policies::Policies;
use probation::{Counts, Probations};
use settings::{GrantSetting, Settings};
use versions::{OnTrial, Versions};

/// How often idle instances are looked for.
const REAP_INTERVAL: Duration = Duration::from_secs(10);
/// Baseline code is optimised when nothing has changed for so long: whoever is
/// at work on a plugin would have it done again and again.
const SETTLED: Duration = Duration::from_millis(500);

pub struct Shop {
    folder: PathBuf,
    settings: Arc<Settings>,
    engine: Engine,
    services: Arc<Services>,
    store: Store,
    providers: Arc<Providers>,
    live: ArcSwap<Live>,
    site: ArcSwap<Site>,
    plugins: tokio::sync::watch::Sender<Arc<LivePlugins>>,
    stats: Mutex<HashMap<String, Arc<PluginStats>>>,
    /// Changed by the operator.
    /// Why the version on disk of a plugin is not the one that is live.
    problems: Mutex<BTreeMap<String, String>>,
    /// Why a version that should be on trial is not.
    trial_problems: Mutex<BTreeMap<String, String>>,
    /// Versions that have only just gone live. Only a shop that is served has some.
    probations: Mutex<Probations>,
    served: AtomicBool,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    /// What changes are linked with.
    code: Code,
    /// Graphs went live with baseline code.
    hurried: mpsc::Sender<()>,
}

struct Live {
    services: Option<Graph>,
    providers: BTreeMap<String, Arc<Provider>>,
    loaded: BTreeMap<String, Loaded>,
}

impl Live {
    fn graphs(&self) -> impl Iterator<Item = &Graph> {
        self.services.iter().chain(self.providers.values().map(|provider| &provider.graph))
    }
}

/// One line of `souk plugin list`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct PluginReport {
    pub name: String,
    /// Of what is live; empty where no version is.
    pub version: String,
    pub digest: String,
    pub kind: String,
    /// Who vouches for it: a trusted publisher, or `unsigned`.
    pub publisher: String,
    /// Why the version on disk is not live.
    pub problem: Option<String>,
    /// The version that was taken back for this one, and why.
    pub taken_back: Option<String>,
    /// It runs on baseline code until the optimised code is made.
    pub baseline: bool,
    /// The form of its documents, where this version knows a newer one.
    pub older_form: Option<u32>,
    /// Extension points for which it is switched off after repeated failures,
    /// and for how many seconds more.
    pub switched_off: Vec<(String, u64)>,
    /// Extension points that it calls.
    pub points: Vec<PointReport>,
    pub trial: Option<TrialReport>,
    /// Why no version is on trial, or none any more.
    pub trial_problem: Option<String>,
    pub routes: usize,
    /// Plugins whose services it calls, and extension points it provides.
    pub links: Vec<String>,
    pub calls: u64,
    pub failures: u64,
    /// Of the failures: panics and bad accesses, time, memory.
    pub traps: u64,
    pub deadlines: u64,
    pub memory_denials: u64,
    pub wall_ms: u64,
    /// Sampled two hundred times a second: right on average.
    pub cpu_ms: u64,
    pub storage_reads: u64,
    pub storage_writes: u64,
    pub storage_bytes_read: u64,
    pub storage_bytes_written: u64,
    pub memory_mib_peak: u64,
}

/// What holds for the calls of one extension point by one plugin.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct PointReport {
    pub interface: String,
    pub fail: FailurePolicy,
    pub deadline_ms: u32,
    /// As its manifest says, or as the operator has changed it.
    pub as_declared: bool,
}

/// What a reload did.
#[derive(Debug, Default)]
pub struct Reload {
    pub changed: Vec<String>,
    pub refused: Vec<(String, String)>,
    pub took: Duration,
}

impl Shop {
    /// Loads and links what is in `folder`. Plugins that do not load or fit are
    /// left out and reported; a shop with none is still a shop. With
    /// [`Code::Soonest`], optimised code follows while it runs.
    pub async fn open(
        folder: PathBuf,
        settings: Arc<Settings>,
        engine: Engine,
        services: Arc<Services>,
        store: Store,
        code: Code,
    ) -> anyhow::Result<Arc<Self>> {
        std::fs::create_dir_all(&folder)?;
        let site = Site::build(&[], &settings.shop.locales, None)?;
        let (hurried, to_optimise) = mpsc::channel(1);
        let shop = Arc::new(Self {
            folder,
            settings,
            engine,
            services,
            store,
            providers: Arc::default(),
            live: ArcSwap::from_pointee(Live { services: None, providers: BTreeMap::new(), loaded: BTreeMap::new() }),
            site: ArcSwap::from_pointee(site),
            plugins: tokio::sync::watch::Sender::new(Arc::default()),
            stats: Mutex::default(),
            problems: Mutex::default(),
            trial_problems: Mutex::default(),
            probations: Mutex::default(),
            served: AtomicBool::new(false),
            changing: tokio::sync::Mutex::default(),
            code,
            hurried,
        });
        // A shop without plugins is none that its operator wants.
        shop.grants()?;
        shop.reload().await;
        tokio::spawn(optimise_what_hurried(Arc::downgrade(&shop), to_optimise));
        let weak = Arc::downgrade(&shop);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(REAP_INTERVAL);
            loop {
                interval.tick().await;
                let Some(shop) = weak.upgrade() else { return };
                let live = shop.live.load();
                live.graphs().for_each(Graph::reap);
            }
        });
        Ok(shop)
    }

    pub fn site(&self) -> Arc<Site> {
        self.site.load_full()
    }

    /// What a live plugin is linked into.
    pub fn graph_of(&self, plugin: &str) -> Option<Graph> {
        let live = self.live.load();
        let graph = live.providers.get(plugin).map(|provider| &provider.graph).or(live.services.as_ref());
        graph.filter(|graph| graph.plugins().any(|linked| linked.name() == plugin)).cloned()
    }

    /// The one plugin with this operator's command.
    pub fn plugin_with_command(&self, command: &str) -> Option<String> {
        let plugins = self.plugins.borrow().clone();
        plugins.values().find(|p| p.manifest.commands.iter().any(|c| c.name == command)).map(|p| p.name().to_owned())
    }

    /// Commands that the manifests want run after `command`, with its input.
    pub fn commands_after(&self, command: &str) -> Vec<String> {
        let plugins = self.plugins.borrow().clone();
        let commands = plugins.values().flat_map(|p| &p.manifest.commands);
        commands.filter(|c| c.after.as_deref() == Some(command)).map(|c| c.name.clone()).collect()
    }

    /// Brings the live set in line with the folder, as far as that can be done.
    pub async fn reload(&self) -> Reload {
        let _one = self.changing.lock().await;
        let begun = Instant::now();
        let live = self.live.load_full();
        let mut reload = Reload::default();
        self.take_up_policies();
        let (mut wanted, broken) = self.read_folder(&live.loaded);
        // What does not load stays as it was; what may not be live goes.
        for name in broken.iter().filter(|(_, error)| !error.is::<NotGranted>()).map(|(name, _)| name) {
            if let Some(loaded) = live.loaded.get(name) {
                wanted.insert(name.clone(), loaded.clone());
            }
        }
        let mut problems: BTreeMap<String, String> = broken.into_iter().map(|(name, error)| (name, format!("{error:#}"))).collect();
        while changes(&live.loaded, &wanted).next().is_some() {
            match self.try_swap(&live, &wanted).await {
                Ok(()) => {
                    reload.changed = changes(&live.loaded, &wanted).map(str::to_owned).collect();
                    break;
                }
                Err(refusal) => {
                    let changed: BTreeSet<String> = changes(&live.loaded, &wanted).map(str::to_owned).collect();
                    let mut blamed: Vec<String> = refusal.plugins.iter().filter(|name| changed.contains(*name)).cloned().collect();
                    if blamed.is_empty() {
                        blamed = changed.into_iter().collect();
                    }
                    for name in blamed {
                        match live.loaded.get(&name) {
                            Some(before) => wanted.insert(name.clone(), before.clone()),
                            None => wanted.remove(&name),
                        };
                        problems.insert(name, refusal.reason.clone());
                    }
                }
            }
        }
        if self.served.load(Relaxed) {
            self.set_up_trials().await;
        }
        reload.refused = problems.iter().map(|(name, reason)| (name.clone(), reason.clone())).collect();
        *self.problems.lock() = problems;
        reload.took = begun.elapsed();
        for (plugin, reason) in &reload.refused {
            tracing::warn!(plugin, "not live: {reason}");
        }
        if !reload.changed.is_empty() {
            tracing::info!(plugins = reload.changed.join(", "), took_ms = reload.took.as_millis() as u64, "plugins are live");
            if self.served.load(Relaxed) {
                self.watch_over(&reload.changed, &live).await;
            }
        }
        reload
    }

    fn take_up_policies(&self) {
        match Policies::read(&self.folder) {
            Ok(policies) => self.providers.set_policies(policies),
            Err(error) => tracing::error!("policies stay as they are: {error:#}"),
        }
    }

    /// Puts the versions that the operator wants tried beside the live ones.
    async fn set_up_trials(&self) {
        let live = self.live.load_full();
        let mut providers = live.providers.clone();
        let mut changed = false;
        for (name, provider) in &live.providers {
            let wanted = Versions::of(&self.folder, name).on_trial();
            let is_as_wanted = match (&wanted, provider.trial()) {
                (Ok(Some(wanted)), Some(trial)) => (&trial.id, trial.mode) == (&wanted.id, wanted.mode),
                (Ok(None), None) => true,
                _ => false,
            };
            if is_as_wanted {
                continue;
            }
            let trial = match wanted {
                Ok(Some(wanted)) => self.begin_trial(name, &live.loaded[name], wanted).await.map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            let trial = trial.unwrap_or_else(|error| {
                tracing::warn!(plugin = name, "no version is on trial: {error:#}");
                self.trial_problems.lock().insert(name.clone(), format!("{error:#}"));
                None
            });
            if trial.is_some() {
                self.trial_problems.lock().remove(name);
            }
            providers.insert(name.clone(), Arc::new(provider.with_trial(trial.map(Arc::new))));
            changed = true;
        }
        if changed {
            self.set_live(Live { services: live.services.clone(), providers, loaded: live.loaded.clone() });
        }
    }

    async fn begin_trial(&self, name: &str, live: &Loaded, wanted: OnTrial) -> anyhow::Result<Trial> {
        let grants = self.grants()?;
        let loaded = load::load(&Versions::of(&self.folder, name).path(&wanted.id), name, self.settings.config.get(name), grants.as_ref())?;
        let manifest = &loaded.plugin.manifest;
        anyhow::ensure!(manifest.kind == Kind::Provider && live.plugin.manifest.kind == Kind::Provider, "only providers of extension points can be tried beside a live version");
        anyhow::ensure!(
            wanted.mode != Mode::Shadow || manifest.http.hosts.is_empty(),
            "a shadow may not reach the outside world, which would hear everything twice; it is granted {}",
            manifest.http.hosts.iter().cloned().collect::<Vec<_>>().join(", ")
        );
        let version = manifest.version.to_string();
        let mut plugins = LivePlugins::clone(&self.plugins.borrow());
        plugins.insert(name.to_owned(), loaded.plugin.clone());
        let plugins = Arc::new(plugins);
        // What is compared should run as it will run.
        // And its failures are not those of the live version.
        let stats = |_: &str| Arc::default();
        let graph = self.link_counting(vec![part(&loaded)], &plugins, Code::Optimised, stats).await.map_err(|refusal| anyhow::anyhow!(refusal.reason))?;
        let (store, live) = (self.store.clone(), plugins);
        let unit = move |now_ms, request_id: &str| read_only_unit(&store, &live, now_ms, request_id.to_owned());
        Ok(Trial::new(wanted.id, version, Provider::new(name.to_owned(), graph), wanted.mode, Box::new(unit)))
    }

    /// Ends trials of versions that fail.
    async fn judge_trials(&self) {
        let _one = self.changing.lock().await;
        let live = self.live.load_full();
        for (name, provider) in &live.providers {
            let Some((trial, reason)) = provider.trial().and_then(|trial| Some((trial, trial.verdict()?))) else { continue };
            let reason = format!("the trial of {} is over: {reason}", trial.version);
            tracing::error!(plugin = name, "{reason}");
            if let Err(error) = Versions::of(&self.folder, name).try_out(None) {
                tracing::error!(plugin = name, "it will be tried again at the next start: {error:#}");
            }
            self.trial_problems.lock().insert(name.clone(), reason);
        }
        self.set_up_trials().await;
    }

    /// What only a shop that is served has: see [`Self::watch`].
    async fn begin_watching_over(&self) {
        let _one = self.changing.lock().await;
        self.keep_versions(self.live.load().loaded.keys().cloned().collect()).await;
        self.set_up_trials().await;
    }

    async fn watch_over(&self, changed: &[String], before: &Live) {
        for name in changed {
            let counts = self.counts(name);
            let mut probations = self.probations.lock();
            match counts.filter(|_| before.loaded.contains_key(name)) {
                Some(counts) => probations.begin(name, counts, Instant::now()),
                None => probations.end(name),
            }
        }
        self.keep_versions(changed.to_vec()).await;
    }

    async fn keep_versions(&self, plugins: Vec<String>) {
        let folder = self.folder.clone();
        let live = self.live.load_full();
        let kept = tokio::task::spawn_blocking(move || {
            for name in plugins.iter().filter(|name| live.loaded.contains_key(*name)) {
                if let Err(error) = Versions::of(&folder, name).went_live() {
                    tracing::warn!(plugin = name, "this version cannot be gone back to later: {error:#}");
                }
            }
        });
        let _ = kept.await;
    }

    fn counts(&self, plugin: &str) -> Option<Counts> {
        let live = self.live.load();
        let graph = live.providers.get(plugin).map(|p| &p.graph).or(live.services.as_ref())?;
        let stats = self.stats.lock();
        let calls = graph.plugins().filter_map(|p| stats.get(p.name())).map(|s| s.calls.load(Relaxed)).sum();
        Some(Counts { calls, failures: stats.get(plugin).map_or(0, |s| s.failures()) })
    }

    /// Takes versions back that fail in their first minutes.
    async fn judge(&self) {
        if self.live.load().providers.values().any(|provider| provider.trial().is_some_and(|trial| trial.verdict().is_some())) {
            self.judge_trials().await;
        }
        let on_probation = self.probations.lock().plugins();
        for plugin in on_probation {
            let Some(counts) = self.counts(&plugin) else { continue };
            let Some(reason) = self.probations.lock().judge(&plugin, counts, Instant::now()) else { continue };
            let versions = Versions::of(&self.folder, &plugin);
            let why = reason.clone();
            let back = tokio::task::spawn_blocking(move || versions.roll_back(Some(&why))).await;
            match back.map_err(anyhow::Error::from).flatten() {
                Ok(version) => tracing::error!(plugin, %version, "went back to an earlier version: {reason}"),
                Err(error) => tracing::error!(plugin, "{reason}; there is nothing to go back to: {error:#}"),
            }
        }
    }

    /// Reads what has changed; unchanged plugins keep what was loaded.
    fn read_folder(&self, before: &BTreeMap<String, Loaded>) -> (BTreeMap<String, Loaded>, BTreeMap<String, anyhow::Error>) {
        let (mut loaded, mut broken) = (BTreeMap::new(), BTreeMap::new());
        let read = self.grants().and_then(|grants| Ok((grants, grants::plugin_folders(&self.folder)?)));
        let (grants, folders) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(folder = %self.folder.display(), "nothing is changed: {error:#}");
                return (before.clone(), broken);
            }
        };
        for folder in folders {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match load::load(&folder, &name, self.settings.config.get(&name), grants.as_ref()) {
                Ok(fresh) => {
                    let unchanged = before.get(&name).filter(|old| old.fingerprint == fresh.fingerprint);
                    loaded.insert(name, unchanged.cloned().unwrap_or(fresh));
                }
                Err(error) => {
                    broken.insert(name, error);
                }
            }
        }
        (loaded, broken)
    }

    /// None where they are not asked for. The first time, whatever is there is
    /// granted what it asks for.
    fn grants(&self) -> anyhow::Result<Option<Grants>> {
        if self.settings.plugins.grants == GrantSetting::Implied {
            return Ok(None);
        }
        if let Some(grants) = Grants::read(&self.folder)? {
            return Ok(Some(grants));
        }
        anyhow::ensure!(
            !Grants::are_lost(&self.folder),
            "{} is gone: put it back from a backup, or look at each plugin again with `souk plugin grant`",
            grants::path(&self.folder).display()
        );
        let grants = Grants::of_folder(&self.folder)?;
        grants.write(&self.folder)?;
        Ok(Some(grants))
    }

    /// Links, checks, and only then swaps.
    async fn try_swap(&self, live: &Live, wanted: &BTreeMap<String, Loaded>) -> Result<(), Refusal> {
        let changed: BTreeSet<&str> = changes(&live.loaded, wanted).collect();
        let is_service = |name: &str| {
            let kind = |set: &BTreeMap<String, Loaded>| set.get(name).map(|l| l.plugin.manifest.kind);
            kind(wanted) == Some(Kind::Service) || kind(&live.loaded) == Some(Kind::Service)
        };
        let plugins: Arc<LivePlugins> = Arc::new(wanted.iter().map(|(name, l)| (name.clone(), l.plugin.clone())).collect());

        let services = if changed.iter().any(|name| is_service(name)) {
            let parts: Vec<_> = wanted.values().filter(|l| l.plugin.manifest.kind == Kind::Service).map(part).collect();
            if parts.is_empty() { None } else { Some(self.link(parts, &plugins, self.code).await?) }
        } else {
            live.services.clone()
        };
        let mut providers = BTreeMap::new();
        for (name, loaded) in wanted.iter().filter(|(_, l)| l.plugin.manifest.kind == Kind::Provider) {
            let kept = live.providers.get(name).filter(|_| !changed.contains(name.as_str()));
            let provider = match kept {
                Some(kept) => kept.clone(),
                None => Arc::new(Provider::new(name.clone(), self.link(vec![part(loaded)], &plugins, self.code).await?)),
            };
            providers.insert(name.clone(), provider);
        }
        let commands = duplicate_command(wanted);
        if let Some(refusal) = commands {
            return Err(refusal);
        }
        let site_plugins: Vec<_> = wanted.values().map(|l| SitePlugin { plugin: l.plugin.clone(), assets: l.assets.clone() }).collect();
        let site = Site::build(&site_plugins, &self.settings.shop.locales, Some(&self.site.load()))?;
        for name in &changed {
            let graph = providers.get(*name).map(|p| &p.graph).or(services.as_ref());
            if let Some(graph) = graph.filter(|graph| graph.exports_self_check(name)) {
                self.self_check(graph, name, &plugins).await?;
            }
        }

        for name in changed.iter().filter(|name| wanted.contains_key(**name)) {
            work::data::admit(&self.store, name, &wanted[*name].plugin.manifest.data)
                .await
                .map_err(|error| Refusal { plugins: vec![(*name).to_owned()], reason: error.to_string() })?;
        }

        // Before anything can be published that they hear.
        work::outbox::subscribe(&self.store, &plugins)
            .await
            .map_err(|error| Refusal { plugins: Vec::new(), reason: format!("its place in the event log cannot be kept: {error}") })?;

        let live = Live { services, providers, loaded: wanted.clone() };
        if live.graphs().any(Graph::is_baseline) {
            // One that waits already is enough.
            let _ = self.hurried.try_send(());
        }
        self.set_live(live);
        self.site.store(Arc::new(site));
        self.plugins.send_replace(plugins);
        Ok(())
    }

    fn set_live(&self, live: Live) {
        let providers: Vec<_> = live.providers.values().cloned().collect();
        self.providers.set(&providers);
        self.live.store(Arc::new(live));
    }

    /// Puts optimised code in the place of baseline code. The versions stay
    /// what they are, so nothing but the graphs is touched.
    async fn optimise(&self) {
        let begun = Instant::now();
        let live = self.live.load_full();
        let plugins = self.plugins.borrow().clone();
        let mut optimised: Vec<(&Graph, Graph)> = Vec::new();
        for graph in live.graphs().filter(|graph| graph.is_baseline()) {
            let parts = graph.plugins().filter_map(|plugin| live.loaded.get(plugin.name())).map(part).collect();
            match self.link(parts, &plugins, Code::Optimised).await {
                Ok(fresh) => optimised.push((graph, fresh)),
                Err(refusal) => tracing::warn!("baseline code stays live: {}", refusal.reason),
            }
        }
        if optimised.is_empty() {
            return;
        }
        let _one = self.changing.lock().await;
        let now = self.live.load_full();
        // What another change has replaced meanwhile is that change's to optimise.
        let fresh = |graph: &Graph| optimised.iter().find(|(old, _)| old.is(graph)).map(|(_, fresh)| fresh.clone());
        let services = now.services.as_ref().map(|graph| fresh(graph).unwrap_or_else(|| graph.clone()));
        let providers = now.providers.iter().map(|(name, provider)| {
            let provider = fresh(&provider.graph).map_or_else(|| provider.clone(), |graph| Arc::new(provider.with_graph(graph)));
            (name.clone(), provider)
        });
        let providers = providers.collect();
        self.set_live(Live { services, providers, loaded: now.loaded.clone() });
        tracing::info!(graphs = optimised.len(), took_ms = begun.elapsed().as_millis() as u64, "optimised code is live");
    }

    async fn link(
        &self,
        parts: Vec<(Arc<plugin::Plugin>, Arc<[u8]>)>,
        plugins: &Arc<LivePlugins>,
        code: Code,
    ) -> Result<Graph, Refusal> {
        self.link_counting(parts, plugins, code, |name| self.stats.lock().entry(name.to_owned()).or_default().clone()).await
    }

    async fn link_counting(
        &self,
        parts: Vec<(Arc<plugin::Plugin>, Arc<[u8]>)>,
        plugins: &Arc<LivePlugins>,
        code: Code,
        stats: impl Fn(&str) -> Arc<PluginStats>,
    ) -> Result<Graph, Refusal> {
        let unit = self.checking_unit(plugins);
        let graph = Graph::link(&self.engine, code, parts, self.providers.clone(), self.services.clone(), stats, unit.clone()).await;
        unit.lock().end();
        Ok(graph?)
    }

    async fn self_check(&self, graph: &Graph, plugin: &str, plugins: &Arc<LivePlugins>) -> Result<(), Refusal> {
        let unit = self.checking_unit(plugins);
        let answer = graph.call(plugin, &PluginCall::SelfCheck, unit.clone()).await;
        unit.lock().end();
        let reason = match answer {
            Ok(PluginAnswer::SelfCheck(Err(reason))) => reason,
            Err(error) => error.to_string(),
            Ok(_) => return Ok(()),
        };
        Err(Refusal { plugins: vec![plugin.to_owned()], reason: format!("its self-check says no: {reason}") })
    }

    fn checking_unit(&self, plugins: &Arc<LivePlugins>) -> SharedUnit {
        read_only_unit(&self.store, plugins, jiff::Timestamp::now().as_millisecond().unsigned_abs(), "self-check".into())
    }

    /// What each plugin has done and cost, in the OpenMetrics text format.
    pub fn metrics(&self, out: &mut String) {
        use std::fmt::Write;
        let reports = self.counted();
        for (name, value) in [
            ("souk_plugin_calls", (|r: &PluginReport| r.calls) as fn(&PluginReport) -> u64),
            ("souk_plugin_failures", |r: &PluginReport| r.failures),
            ("souk_plugin_traps", |r: &PluginReport| r.traps),
            ("souk_plugin_deadlines", |r: &PluginReport| r.deadlines),
            ("souk_plugin_memory_denials", |r: &PluginReport| r.memory_denials),
            ("souk_plugin_wall_ms", |r: &PluginReport| r.wall_ms),
            ("souk_plugin_cpu_ms", |r: &PluginReport| r.cpu_ms),
            ("souk_plugin_storage_reads", |r: &PluginReport| r.storage_reads),
            ("souk_plugin_storage_writes", |r: &PluginReport| r.storage_writes),
            ("souk_plugin_storage_read_bytes", |r: &PluginReport| r.storage_bytes_read),
            ("souk_plugin_storage_written_bytes", |r: &PluginReport| r.storage_bytes_written),
        ] {
            let _ = writeln!(out, "# TYPE {name} counter");
            for report in &reports {
                let _ = writeln!(out, "{name}_total{{plugin=\"{}\"}} {}", report.name, value(report));
            }
        }
        let _ = writeln!(out, "# TYPE souk_plugin_live gauge");
        for report in &reports {
            let _ = writeln!(out, "souk_plugin_live{{plugin=\"{}\"}} {}", report.name, u8::from(report.problem.is_none()));
        }
    }

    fn taken_back(&self, plugin: &str) -> Option<String> {
        let history = Versions::of(&self.folder, plugin).history().ok()?;
        let [.., failed, now] = &history[..] else { return None };
        let reason = failed.failed.as_ref()?;
        Some(format!("{} was taken back for {}: {reason}", failed.version, now.version))
    }

    /// What `souk plugin list` shows.
    pub fn report(&self) -> Vec<PluginReport> {
        let mut reports = self.counted();
        reports.iter_mut().for_each(|report| report.taken_back = self.taken_back(&report.name));
        reports
    }

    /// All but what is read from the disk.
    fn counted(&self) -> Vec<PluginReport> {
        let live = self.live.load();
        let policies = self.providers.policies();
        let problems = self.problems.lock();
        let names: BTreeSet<&String> = live.loaded.keys().chain(problems.keys()).collect();
        let stats = self.stats.lock();
        let report = |name: &String| {
            let loaded = live.loaded.get(name);
            let graph = live.providers.get(name).map(|p| &p.graph).or(live.services.as_ref());
            let links = graph.into_iter().flat_map(|g| g.services_of(name).iter().map(String::as_str).chain(g.extensions_of(name)));
            let stats = stats.get(name);
            let counted = |counter: fn(&PluginStats) -> &AtomicU64| stats.map_or(0, |s| counter(s).load(Relaxed));
            let used = |counter: fn(&Usage) -> &AtomicU64| loaded.map_or(0, |l| counter(&l.plugin.usage).load(Relaxed));
            PluginReport {
                name: name.clone(),
                version: loaded.map(|l| l.plugin.manifest.version.to_string()).unwrap_or_default(),
                digest: loaded.map(|l| l.plugin.digest.clone()).unwrap_or_default(),
                kind: loaded.map(|l| format!("{:?}", l.plugin.manifest.kind).to_lowercase()).unwrap_or_default(),
                publisher: loaded.map(|l| l.plugin.publisher.clone()).unwrap_or_default(),
                problem: problems.get(name).cloned(),
                taken_back: None,
                baseline: loaded.is_some() && graph.is_some_and(Graph::is_baseline),
                older_form: loaded.and_then(|l| work::data::older_form(&self.store, name, &l.plugin.manifest.data)),
                switched_off: live.providers.get(name).map_or_else(Vec::new, |provider| {
                    provider.switched_off().map(|(point, left)| (point.to_owned(), left.as_secs() + 1)).collect()
                }),
                points: loaded.map_or_else(Vec::new, |l| l.plugin.manifest.extension_points.iter().map(|point| point_report(point, &policies)).collect()),
                trial: live.providers.get(name).and_then(|provider| Some(provider.trial()?.report())),
                trial_problem: self.trial_problems.lock().get(name).cloned(),
                routes: loaded.map_or(0, |l| l.plugin.manifest.routes.len()),
                links: links.map(str::to_owned).collect(),
                calls: counted(|s| &s.calls),
                failures: stats.map_or(0, |s| s.failures()),
                traps: counted(|s| &s.traps),
                deadlines: counted(|s| &s.deadlines),
                memory_denials: counted(|s| &s.memory_denials),
                wall_ms: counted(|s| &s.wall_ns) / 1_000_000,
                cpu_ms: counted(|s| &s.cpu_ns) / 1_000_000,
                storage_reads: used(|u| &u.reads),
                storage_writes: used(|u| &u.writes),
                storage_bytes_read: used(|u| &u.bytes_read),
                storage_bytes_written: used(|u| &u.bytes_written),
                memory_mib_peak: counted(|s| &s.memory_bytes_peak) >> 20,
            }
        };
        names.into_iter().map(report).collect()
    }
}

impl Plugins for Shop {
    async fn call(&self, plugin: &str, call: &PluginCall, unit: SharedUnit) -> Result<PluginAnswer, CallError> {
        let graph = {
            let live = self.live.load();
            live.providers.get(plugin).map(|p| &p.graph).or(live.services.as_ref()).cloned()
        };
        match graph {
            Some(graph) => graph.call(plugin, call, unit).await,
            None => Err(CallError { plugin: Some(plugin.to_owned()), kind: CallErrorKind::NotFound, message: "no plugin is live".into() }),
        }
    }

    fn live(&self) -> tokio::sync::watch::Receiver<Arc<LivePlugins>> {
        self.plugins.subscribe()
    }
}

fn read_only_unit(store: &Store, plugins: &Arc<LivePlugins>, now_ms: u64, request_id: String) -> SharedUnit {
    let start = Start { kind: UnitKind::SelfCheck, now_ms, request_id, plugin: None, live: plugins.clone(), limits: &Limits::USUAL, shopper: Shopper::None };
    Unit::new(store.begin(), start).shared()
}

/// Why a set of plugins does not go live, and whose fault it may be.
struct Refusal {
    plugins: Vec<String>,
    reason: String,
}

impl From<LinkError> for Refusal {
    fn from(error: LinkError) -> Self {
        let plugins = match &error {
            LinkError::NotAComponent { plugin, .. }
            | LinkError::MissingProvider { plugin, .. }
            | LinkError::UnknownCapability { plugin, .. }
            | LinkError::OtherLine { plugin, .. }
            | LinkError::UndeclaredExtensionPoint { plugin, .. }
            | LinkError::BadExport { plugin, .. }
            | LinkError::MissingExport { plugin, .. } => vec![plugin.clone()],
            LinkError::Mismatch { plugin, provider, .. } => vec![plugin.clone(), provider.clone()],
            LinkError::TwoProviders { second, .. } => vec![second.clone()],
            LinkError::Cycle { plugins } => plugins.clone(),
            LinkError::Unusable(_) => Vec::new(),
        };
        Self { plugins, reason: error.to_string() }
    }
}

impl From<SiteError> for Refusal {
    fn from(error: SiteError) -> Self {
        let plugins = match &error {
            SiteError::Route { plugin, .. } => vec![plugin.clone()],
            SiteError::Conflict { plugin, other_plugin, .. } => vec![plugin.clone(), other_plugin.clone()],
            SiteError::NoLocales | SiteError::Locale(_) => Vec::new(),
        };
        Self { plugins, reason: error.to_string() }
    }
}

/// Until the shop is gone.
async fn optimise_what_hurried(shop: Weak<Shop>, mut hurried: mpsc::Receiver<()>) {
    while hurried.recv().await.is_some() {
        while let Ok(Some(())) = tokio::time::timeout(SETTLED, hurried.recv()).await {}
        let Some(shop) = shop.upgrade() else { return };
        shop.optimise().await;
    }
}

fn point_report(point: &manifest::ExtensionPoint, policies: &Policies) -> PointReport {
    let interface = without_version(&point.interface);
    let changed = policies.of(interface);
    PointReport {
        interface: interface.to_owned(),
        fail: changed.and_then(|changed| changed.fail).unwrap_or(point.fail),
        deadline_ms: changed.and_then(|changed| changed.deadline_ms).unwrap_or(point.deadline_ms),
        as_declared: changed.is_none(),
    }
}

fn part(loaded: &Loaded) -> (Arc<plugin::Plugin>, Arc<[u8]>) {
    (loaded.plugin.clone(), loaded.component.clone())
}

/// Names that are new, gone, or other than before.
fn changes<'a>(before: &'a BTreeMap<String, Loaded>, after: &'a BTreeMap<String, Loaded>) -> impl Iterator<Item = &'a str> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|n| before.get(*n).map(|l| l.fingerprint) != after.get(*n).map(|l| l.fingerprint)).map(String::as_str)
}

fn duplicate_command(plugins: &BTreeMap<String, Loaded>) -> Option<Refusal> {
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for (name, loaded) in plugins {
        for command in &loaded.plugin.manifest.commands {
            if let Some(other) = owners.insert(&command.name, name) {
                return Some(Refusal {
                    plugins: vec![name.clone(), other.to_owned()],
                    reason: format!("plugins `{other}` and `{name}` both have a command `{}`: rename one of them", command.name),
                });
            }
        }
    }
    None
}
