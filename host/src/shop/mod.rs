//! The plugins of a shop: manifests, loading, linking, swapping.
//!
//! [`Shop`] keeps the live set: the graph of all services, a graph for each
//! extension provider, and the site they make. A change on disk is loaded,
//! linked and checked beside what runs, and swapped in whole, or not at all.
//! It is what `work` calls plugins through; it does not know what they do.

pub mod arguments;
pub mod bundle;
mod canary;
pub mod grants;
pub mod load;
pub mod manifest;
pub mod offers;
pub mod plugin;
pub mod policies;
pub mod powers;
mod probation;
pub mod reference;
mod report;
pub mod settings;
mod trials;
pub mod versions;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::capability::Services;
use crate::chance;
use crate::engine::{Account, CallError, CallErrorKind, Code, Engine, Graph, LinkError, PluginStats, Provider, Providers};
use crate::front::routes::SitePlugin;
use crate::front::{Site, SiteError};
use crate::store::Store;
use crate::work::unit::{Kind as UnitKind, Limits, Shopper, Start};
use crate::work::{self, LivePlugins, PluginAnswer, PluginCall, Plugins, SharedUnit, Unit};
use canary::Canary;
use grants::{Grants, NotGranted};
use load::Loaded;
use manifest::{Command, Kind};
use offers::Offers;
use policies::Policies;
use probation::Probations;
pub use report::{PluginReport, PointReport, SwitchedOffReport};
use settings::{GrantSetting, Settings};

/// How often idle instances are looked for.
const REAP_INTERVAL: Duration = Duration::from_secs(10);
/// Baseline code is optimised when nothing has changed for so long: whoever is
/// at work on a plugin would have it done again and again.
const SETTLED: Duration = Duration::from_millis(500);

const PLUGINS_MAX: usize = 500;
/// Components and assets, which are kept in memory: of a whole shop a dozen.
const LOADED_BYTES_MAX: usize = 160 << 20;

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
    /// Of those plugins that are held to a part of the shop.
    limited: ArcSwap<HashMap<String, Arc<Account>>>,
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

#[derive(Default)]
struct Live {
    services: Option<Graph>,
    /// Another version of one of them, for a part of the shoppers.
    canary: Option<Arc<Canary>>,
    providers: BTreeMap<String, Arc<Provider>>,
    loaded: BTreeMap<String, Loaded>,
}

impl Live {
    fn graphs(&self) -> impl Iterator<Item = &Graph> {
        let canary = self.canary.iter().map(|canary| &canary.graph);
        self.services.iter().chain(canary).chain(self.providers.values().map(|provider| &provider.graph))
    }
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
            live: ArcSwap::default(),
            site: ArcSwap::from_pointee(site),
            plugins: tokio::sync::watch::Sender::new(Arc::default()),
            stats: Mutex::default(),
            limited: ArcSwap::default(),
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

    /// None for a plugin that may have the whole.
    pub fn limited_account(&self, plugin: &str) -> Option<Arc<Account>> {
        self.limited.load().get(plugin).cloned()
    }

    /// What the operator says it may have of the shop, or else what it was granted.
    fn share_of(&self, plugin: &plugin::Plugin) -> u32 {
        self.settings.plugins.shares.get(plugin.name()).copied().unwrap_or(plugin.manifest.limits.share)
    }

    fn set_shares(&self, live: &Live) {
        let capacity = self.engine.capacity();
        let mut limited = HashMap::new();
        for (name, loaded) in &live.loaded {
            let account = self.stats_of(name).account.clone();
            account.set_share(name, self.share_of(&loaded.plugin), capacity);
            account.set_latency_ms(self.settings.plugins.latency_ms.get(name).copied());
            if account.is_limited() {
                limited.insert(name.clone(), account);
            }
        }
        self.limited.store(Arc::new(limited));
    }

    fn stats_of(&self, plugin: &str) -> Arc<PluginStats> {
        self.stats.lock().entry(plugin.to_owned()).or_default().clone()
    }

    /// Counts for itself, and is not held to a share: what loops on trial is to fail at its own limits, soon, and not to slow
    /// down the live version, which answers then. A trial ends when it fails at a tenth of its calls.
    fn trial_stats() -> Arc<PluginStats> {
        Arc::default()
    }

    /// What a live plugin is linked into.
    pub fn graph_of(&self, plugin: &str) -> Option<Graph> {
        let live = self.live.load();
        let graph = live.providers.get(plugin).map(|provider| &provider.graph).or(live.services.as_ref());
        graph.filter(|graph| graph.plugins().any(|linked| linked.name() == plugin)).cloned()
    }

    /// All that an operator can run, with the plugin that offers it.
    pub fn commands(&self) -> Vec<(String, Command)> {
        let plugins = self.plugins.borrow().clone();
        plugins.values().flat_map(|p| p.manifest.commands.iter().map(|command| (p.name().to_owned(), command.clone()))).collect()
    }

    /// The one of this name.
    pub fn command(&self, name: &str) -> Option<(String, Command)> {
        self.commands().into_iter().find(|(_, command)| command.name == name)
    }

    /// Those that were granted to run after `name`, with its input.
    pub fn commands_after(&self, name: &str) -> Vec<(String, Command)> {
        self.commands().into_iter().filter(|(_, command)| command.after.as_deref() == Some(name)).collect()
    }

    /// Brings the live set in line with the folder, as far as that can be done.
    pub async fn reload(&self) -> Reload {
        let _one = self.changing.lock().await;
        let begun = Instant::now();
        let live = self.live.load_full();
        let mut reload = Reload::default();
        self.take_up_policies();
        let (mut wanted, broken) = self.read_folder(&live.loaded).await;
        // What does not load stays as it was; what may not be live goes.
        for name in broken.iter().filter(|(_, error)| !error.is::<NotGranted>()).map(|(name, _)| name) {
            if let Some(loaded) = live.loaded.get(name) {
                wanted.insert(name.clone(), loaded.clone());
            }
        }
        let mut problems: BTreeMap<String, String> = broken.into_iter().map(|(name, error)| (name, self.told(&error))).collect();
        reload.changed = self.swap_what_fits(&live, wanted, &mut problems).await;
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

    /// Of a plugin that does not load.
    fn told(&self, error: &anyhow::Error) -> String {
        error.downcast_ref::<NotGranted>().map_or_else(|| format!("{error:#}"), |missing| missing.told(&self.settings.shop.time_zone))
    }

    /// Swaps in as much of what is wanted as can be live together, and tells what that was.
    async fn swap_what_fits(&self, live: &Live, mut wanted: BTreeMap<String, Loaded>, problems: &mut BTreeMap<String, String>) -> Vec<String> {
        let all = wanted.clone();
        let (mut left_out, mut guessed) = (Vec::new(), false);
        while changes(&live.loaded, &wanted).next().is_some() {
            let refusal = match self.try_swap(live, &wanted).await {
                Ok(()) => break,
                Err(refusal) => refusal,
            };
            let changed: BTreeSet<String> = changes(&live.loaded, &wanted).map(str::to_owned).collect();
            let mut blamed: Vec<String> = refusal.plugins.iter().filter(|name| changed.contains(*name)).cloned().collect();
            if refusal.is_of_all {
                blamed = changed.into_iter().collect();
            } else if blamed.is_empty() {
                // Nobody knows whose fault it is. One after the other, those first that were not there before and
                // those that are largest.
                let size = |name: &String| wanted.get(name).map_or(0, |loaded| loaded.component.len());
                blamed.extend(changed.into_iter().max_by_key(|name| (!live.loaded.contains_key(name), size(name))));
                guessed = true;
            }
            for name in blamed {
                put_back(&mut wanted, live, &name);
                problems.insert(name.clone(), refusal.reason.clone());
                left_out.push(name);
            }
        }
        // Who was left out on a guess may be nobody's fault, nor theirs who needed it.
        let mut again = guessed;
        while again {
            again = false;
            for name in std::mem::take(&mut left_out).into_iter().rev() {
                let mut with_it = wanted.clone();
                match all.get(&name) {
                    Some(loaded) => with_it.insert(name.clone(), loaded.clone()),
                    None => with_it.remove(&name),
                };
                match self.try_swap(&self.live.load_full(), &with_it).await {
                    Ok(()) => {
                        problems.remove(&name);
                        (wanted, again) = (with_it, true);
                    }
                    Err(refusal) => {
                        problems.insert(name.clone(), refusal.reason);
                        left_out.push(name);
                    }
                }
            }
        }
        changes(&live.loaded, &wanted).map(str::to_owned).collect()
    }

    fn take_up_policies(&self) {
        match Policies::read(&self.folder) {
            Ok(policies) => self.providers.set_policies(policies),
            Err(error) => tracing::error!("policies stay as they are: {error:#}"),
        }
    }

    /// Reads what has changed; unchanged plugins keep what was loaded.
    async fn read_folder(&self, before: &BTreeMap<String, Loaded>) -> (BTreeMap<String, Loaded>, BTreeMap<String, anyhow::Error>) {
        let read = self.grants_and_offers().and_then(|grants| Ok((grants, grants::plugin_folders(&self.folder)?)));
        let (grants, folders) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(folder = %self.folder.display(), "nothing is changed: {error:#}");
                return (before.clone(), BTreeMap::new());
            }
        };
        let (known, settings) = (before.clone(), self.settings.clone());
        let folders = fitting(folders, before);
        // What was not seen before is described by a worker, which takes its time.
        let read = chance::aside(move || {
            let (mut loaded, mut broken) = (BTreeMap::new(), BTreeMap::new());
            let mut bytes = 0;
            for folder in folders {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                match load::load(&folder, &name, settings.config.get(&name), grants.as_ref()) {
                    Ok(fresh) if bytes + fresh.bytes() > LOADED_BYTES_MAX => {
                        let (with_it, max) = ((bytes + fresh.bytes()) >> 20, LOADED_BYTES_MAX >> 20);
                        broken.insert(name, anyhow::anyhow!("with it the plugins and their assets take {with_it} MiB; at most {max} MiB are allowed"));
                    }
                    Ok(fresh) => {
                        bytes += fresh.bytes();
                        let unchanged = known.get(&name).filter(|old| old.fingerprint == fresh.fingerprint);
                        loaded.insert(name, unchanged.cloned().unwrap_or(fresh));
                    }
                    Err(error) => {
                        broken.insert(name, error);
                    }
                }
            }
            (loaded, broken)
        });
        read.await.unwrap_or_else(|error| {
            tracing::error!("nothing is changed: {error}");
            (before.clone(), BTreeMap::new())
        })
    }

    /// With what they are for, in the words of the services.
    fn grants_and_offers(&self) -> anyhow::Result<Option<(Grants, Offers)>> {
        let grants = self.grants()?;
        Ok(grants.map(|grants| {
            let offers = Offers::of_folder(&self.folder, Some(&grants));
            (grants, offers)
        }))
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
        let grants = Grants::of_folder(&self.folder, grants::UNSIGNED)?;
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

        let services_change = changed.iter().any(|name| is_service(name));
        let services = if services_change {
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
        let site = self.site_of(wanted, live.canary.as_deref())?;
        for name in &changed {
            let graph = providers.get(*name).map(|p| &p.graph).or(services.as_ref());
            if let Some(graph) = graph.filter(|graph| graph.exports_self_check(name)) {
                self.self_check(graph, name, &plugins).await?;
            }
        }

        for name in changed.iter().filter(|name| wanted.contains_key(**name)) {
            work::data::admit(&self.store, name, &wanted[*name].plugin.manifest.data)
                .await
                .map_err(|error| Refusal { plugins: vec![(*name).to_owned()], is_of_all: false, reason: error.to_string() })?;
        }

        // Before anything can be published that they hear.
        work::outbox::subscribe(&self.store, &plugins)
            .await
            .map_err(|error| Refusal { plugins: Vec::new(), is_of_all: true, reason: format!("its place in the event log cannot be kept: {error}") })?;

        // Last of all: it may end a trial, which a refusal of the others must not.
        let canary = if services_change { self.follow(live, wanted, &plugins).await } else { live.canary.clone() };
        let live = Live { services, canary, providers, loaded: wanted.clone() };
        self.optimise_soon(&live);
        self.set_live(live, Some(site));
        self.plugins.send_replace(plugins);
        Ok(())
    }

    /// With the files of the version on trial beside those of the live one.
    fn site_of(&self, loaded: &BTreeMap<String, Loaded>, canary: Option<&Canary>) -> Result<Site, SiteError> {
        let plugins: Vec<_> = loaded
            .iter()
            .map(|(name, loaded)| {
                let tried = canary.filter(|canary| canary.plugin() == name).map_or(&[][..], |canary| &canary.loaded.assets);
                SitePlugin { plugin: loaded.plugin.clone(), assets: [&loaded.assets, tried].concat() }
            })
            .collect();
        Site::build(&plugins, &self.settings.shop.locales, Some(&self.site.load()))
    }

    /// The graphs first: see [`crate::front::Application::site`].
    fn set_live(&self, live: Live, site: Option<Site>) {
        let providers: Vec<_> = live.providers.values().cloned().collect();
        let canary_percent = live.canary.as_ref().map_or(0, |canary| canary.percent);
        self.set_shares(&live);
        self.providers.set(&providers);
        self.live.store(Arc::new(live));
        if let Some(mut site) = site {
            site.canary_percent = canary_percent;
            self.site.store(Arc::new(site));
        }
    }

    fn optimise_soon(&self, live: &Live) {
        if live.graphs().any(Graph::is_baseline) {
            // One that waits already is enough.
            let _ = self.hurried.try_send(());
        }
    }

    /// Puts optimised code in the place of baseline code. The versions stay
    /// what they are, so nothing but the graphs is touched.
    async fn optimise(&self) {
        let begun = Instant::now();
        let live = self.live.load_full();
        let plugins = self.plugins.borrow().clone();
        let mut optimised: Vec<(&Graph, Graph)> = Vec::new();
        for graph in live.graphs().filter(|graph| graph.is_baseline()) {
            let linked = match &live.canary {
                Some(canary) if canary.graph.is(graph) => self.link_canary(&canary.loaded, &live.loaded, &plugins, Code::Optimised).await,
                _ => {
                    let parts = graph.plugins().filter_map(|plugin| live.loaded.get(plugin.name())).map(part).collect();
                    self.link(parts, &plugins, Code::Optimised).await
                }
            };
            match linked {
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
        let canary = now.canary.as_ref().map(|canary| fresh(&canary.graph).map_or_else(|| canary.clone(), |graph| Arc::new(canary.with_graph(graph))));
        self.set_live(Live { services, canary, providers, loaded: now.loaded.clone() }, None);
        tracing::debug!(graphs = optimised.len(), took_ms = begun.elapsed().as_millis() as u64, "optimised code is live");
    }

    async fn link(
        &self,
        parts: Vec<(Arc<plugin::Plugin>, Arc<[u8]>)>,
        plugins: &Arc<LivePlugins>,
        code: Code,
    ) -> Result<Graph, Refusal> {
        self.link_counting(parts, plugins, code, |name| self.stats_of(name)).await
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
        Err(Refusal { plugins: vec![plugin.to_owned()], is_of_all: false, reason: format!("its self-check says no: {reason}") })
    }

    fn checking_unit(&self, plugins: &Arc<LivePlugins>) -> SharedUnit {
        read_only_unit(&self.store, plugins, jiff::Timestamp::now().as_millisecond().unsigned_abs(), "self-check".into())
    }

}

impl Plugins for Shop {
    async fn call(&self, plugin: &str, call: &PluginCall, unit: SharedUnit) -> Result<PluginAnswer, CallError> {
        let (graph, canary) = {
            let live = self.live.load();
            match live.providers.get(plugin) {
                Some(provider) => (Some(provider.graph.clone()), None),
                None => (live.services.clone(), live.canary.clone()),
            }
        };
        match (graph, canary) {
            // Boxed, so that shops without a trial do not carry its state.
            (Some(graph), Some(canary)) if Canary::shares(call) => Box::pin(canary.call(&graph, plugin, call, unit)).await,
            (Some(graph), _) => graph.call(plugin, call, unit).await,
            (None, _) => Err(CallError { plugin: Some(plugin.to_owned()), kind: CallErrorKind::NotFound, message: "no plugin is live".into() }),
        }
    }

    fn owes(&self, plugin: &str) -> Option<Duration> {
        let account = self.stats.lock().get(plugin)?.account.clone();
        account.owes_for()
    }

    fn live(&self) -> tokio::sync::watch::Receiver<Arc<LivePlugins>> {
        self.plugins.subscribe()
    }
}

fn read_only_unit(store: &Store, plugins: &Arc<LivePlugins>, now_ms: u64, request_id: String) -> SharedUnit {
    let start = Start {
        kind: UnitKind::SelfCheck,
        now_ms,
        request_id,
        plugin: None,
        live: plugins.clone(),
        limits: &Limits::USUAL,
        shopper: Shopper::None,
        place: None,
        payer: None,
        origin: None,
    };
    Unit::new(store.begin(), start).shared()
}

/// Why a set of plugins does not go live, and whose fault it may be.
struct Refusal {
    plugins: Vec<String>,
    /// None of them would fare better without another.
    is_of_all: bool,
    reason: String,
}

impl From<LinkError> for Refusal {
    fn from(error: LinkError) -> Self {
        let plugins = match &error {
            LinkError::NotAComponent { plugin, .. }
            | LinkError::MissingProvider { plugin, .. }
            | LinkError::UnknownCapability { plugin, .. }
            | LinkError::OtherLine { plugin, .. }
            | LinkError::Undecided { plugin, .. }
            | LinkError::UndeclaredExtensionPoint { plugin, .. }
            | LinkError::BadExport { plugin, .. }
            | LinkError::NotAdapted { plugin, .. }
            | LinkError::NoAdapters { plugin }
            | LinkError::MissingExport { plugin, .. }
            | LinkError::TooCostly { plugin, .. }
            | LinkError::DoesNotStart { plugin, .. }
            | LinkError::NoRoom { plugin, .. } => vec![plugin.clone()],
            LinkError::Mismatch { plugin, provider, .. } => vec![plugin.clone(), provider.clone()],
            LinkError::TwoProviders { second, .. } => vec![second.clone()],
            LinkError::Cycle { plugins } => plugins.clone(),
            LinkError::Machine(_) | LinkError::Unusable(_) => Vec::new(),
        };
        Self { plugins, is_of_all: matches!(error, LinkError::Machine(_)), reason: error.to_string() }
    }
}

impl From<SiteError> for Refusal {
    fn from(error: SiteError) -> Self {
        let plugins = match &error {
            SiteError::Route { plugin, .. } => vec![plugin.clone()],
            SiteError::Conflict { plugin, other_plugin, .. } => vec![plugin.clone(), other_plugin.clone()],
            SiteError::NoLocales | SiteError::Locale(_) => Vec::new(),
        };
        Self { is_of_all: plugins.is_empty(), plugins, reason: error.to_string() }
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

/// Those that are live come first, so that none of the others takes their room.
fn fitting(mut folders: Vec<PathBuf>, live: &BTreeMap<String, Loaded>) -> Vec<PathBuf> {
    let is_live = |folder: &PathBuf| folder.file_name().is_some_and(|name| live.contains_key(&*name.to_string_lossy()));
    folders.sort_by_key(|folder| !is_live(folder));
    if folders.len() > PLUGINS_MAX {
        tracing::error!("there are {} folders of plugins; {PLUGINS_MAX} are looked at", folders.len());
        folders.truncate(PLUGINS_MAX);
    }
    folders
}

fn part(loaded: &Loaded) -> (Arc<plugin::Plugin>, Arc<[u8]>) {
    (loaded.plugin.clone(), loaded.component.clone())
}

/// Names that are new, gone, or other than before.
fn changes<'a>(before: &'a BTreeMap<String, Loaded>, after: &'a BTreeMap<String, Loaded>) -> impl Iterator<Item = &'a str> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|n| before.get(*n).map(|l| l.fingerprint) != after.get(*n).map(|l| l.fingerprint)).map(String::as_str)
}

/// As it is live now.
fn put_back(wanted: &mut BTreeMap<String, Loaded>, live: &Live, name: &str) {
    match live.loaded.get(name) {
        Some(before) => wanted.insert(name.to_owned(), before.clone()),
        None => wanted.remove(name),
    };
}

fn duplicate_command(plugins: &BTreeMap<String, Loaded>) -> Option<Refusal> {
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for (name, loaded) in plugins {
        for command in &loaded.plugin.manifest.commands {
            if let Some(other) = owners.insert(&command.name, name) {
                return Some(Refusal {
                    plugins: vec![name.clone(), other.to_owned()],
                    is_of_all: false,
                    reason: format!("plugins `{other}` and `{name}` both have a command `{}`: rename one of them", command.name),
                });
            }
        }
    }
    None
}
