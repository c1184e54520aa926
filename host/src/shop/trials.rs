//! Versions that are tried beside the live ones: which of them the operator
//! wants, and when a trial is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{bail, ensure};

use super::canary::{self, Canary};
use super::load::{self, Loaded};
use super::versions::{OnTrial, Versions};
use super::{Live, Refusal, Shop, part, read_only_unit};
use crate::audit::{Audit, Entry};
use crate::engine::{Code, Graph, Mode, Provider, Trial};
use crate::shop::manifest::Kind;
use crate::work::LivePlugins;

impl Shop {
    /// Puts the versions that the operator wants tried beside the live ones.
    pub(super) async fn set_up_trials(&self) {
        let live = self.live.load_full();
        let providers = self.providers_as_wanted(&live).await;
        let canary = self.canary_as_wanted(&live).await;
        let is_same_canary = match (&canary, &live.canary) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before),
            (now, before) => now.is_none() && before.is_none(),
        };
        if providers.is_none() && is_same_canary {
            return;
        }
        let site = if is_same_canary { None } else { self.site_of(&live.loaded, canary.as_deref()).ok() };
        let providers = providers.unwrap_or_else(|| live.providers.clone());
        let live = Live { services: live.services.clone(), canary, providers, loaded: live.loaded.clone() };
        self.optimise_soon(&live);
        self.set_live(live, site);
    }

    /// None where they are so already.
    async fn providers_as_wanted(&self, live: &Live) -> Option<BTreeMap<String, Arc<Provider>>> {
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
        changed.then_some(providers)
    }

    /// Services are tried one at a time: each trial is a graph of its own, and a
    /// shopper is in one graph. The one that runs goes on as long as it is wanted.
    async fn canary_as_wanted(&self, live: &Live) -> Option<Arc<Canary>> {
        let mut wanted = BTreeMap::new();
        for (name, loaded) in live.loaded.iter().filter(|(_, loaded)| loaded.plugin.manifest.kind == Kind::Service) {
            match Versions::of(&self.folder, name).on_trial() {
                Ok(Some(on_trial)) => _ = wanted.insert(name, (loaded, on_trial)),
                Ok(None) => {}
                Err(error) => self.end_trial(name, format!("no version is on trial: {error:#}")),
            }
        }
        let is_wanted = |running: &Canary| {
            let as_it_is = OnTrial { id: running.id.clone(), mode: Mode::Canary { percent: running.percent } };
            wanted.iter().any(|(name, (_, on_trial))| *name == running.plugin() && *on_trial == as_it_is)
        };
        let mut canary = live.canary.clone().filter(|running| is_wanted(running));
        for (name, (loaded, on_trial)) in wanted {
            match &canary {
                Some(running) if running.plugin() == name => {}
                Some(running) => self.end_trial(
                    name,
                    format!(
                        "services are tried one at a time, and `{0}` {1} is: end that first (souk plugin trial {0} --end)",
                        running.plugin(),
                        running.loaded.plugin.manifest.version
                    ),
                ),
                None => match self.begin_canary(name, loaded, on_trial, live).await {
                    Ok(begun) => {
                        self.trial_problems.lock().remove(name);
                        canary = Some(Arc::new(begun));
                    }
                    Err(error) => self.end_trial(name, format!("{error:#}")),
                },
            }
        }
        canary
    }

    /// Linked, and checked, as a version that goes live.
    async fn begin_canary(&self, name: &str, beside: &Loaded, wanted: OnTrial, live: &Live) -> anyhow::Result<Canary> {
        let Mode::Canary { percent } = wanted.mode else {
            bail!("a shadow of a service would write everything a second time: `--canary N` has it serve N % of the shoppers");
        };
        let tried = self.load_kept(name, &wanted.id)?;
        ensure!(tried.fingerprint != beside.fingerprint, "{} is what is live", tried.plugin.manifest.version);
        canary::ensure_fits(&beside.plugin.manifest, &tried.plugin.manifest)?;
        let reason = |refusal: Refusal| anyhow::anyhow!(refusal.reason);
        let plugins = self.plugins.borrow().clone();
        let graph = self.link_canary(&tried, &live.loaded, &plugins, self.code).await.map_err(reason)?;
        if graph.exports_self_check(name) {
            self.self_check(&graph, name, &plugins).await.map_err(reason)?;
        }
        Ok(Canary::new(wanted.id, percent, tried, graph))
    }

    /// All services of a set, with the version on trial in the place of the live one.
    pub(super) async fn link_canary(
        &self,
        tried: &Loaded,
        set: &BTreeMap<String, Loaded>,
        plugins: &Arc<LivePlugins>,
        code: Code,
    ) -> Result<Graph, Refusal> {
        let services = set.iter().filter(|(_, loaded)| loaded.plugin.manifest.kind == Kind::Service);
        let parts = services.map(|(name, loaded)| part(if name == tried.plugin.name() { tried } else { loaded })).collect();
        // What fails there says nothing of what is live.
        self.link_counting(parts, plugins, code, |_| Self::trial_stats()).await
    }

    /// The canary of `live` beside the services that will be live instead.
    pub(super) async fn follow(&self, live: &Live, wanted: &BTreeMap<String, Loaded>, plugins: &Arc<LivePlugins>) -> Option<Arc<Canary>> {
        let canary = live.canary.as_ref()?;
        let fingerprint = |set: &BTreeMap<String, Loaded>| set.get(canary.plugin()).map(|loaded| loaded.fingerprint);
        if fingerprint(wanted) != fingerprint(&live.loaded) {
            // Beside another version it is another trial: `set_up_trials` begins it.
            return None;
        }
        match self.link_canary(&canary.loaded, wanted, plugins, self.code).await {
            Ok(graph) => Some(Arc::new(canary.with_graph(graph))),
            Err(refusal) => {
                let version = &canary.loaded.plugin.manifest.version;
                self.end_trial(canary.plugin(), format!("the trial of {version} is over: it does not go with what is live now: {}", refusal.reason));
                None
            }
        }
    }

    fn load_kept(&self, name: &str, id: &str) -> anyhow::Result<Loaded> {
        let grants = self.grants_and_offers()?;
        load::load(&Versions::of(&self.folder, name).path(id), name, self.settings.config.get(name), grants.as_ref())
    }

    /// It does not begin again before the operator says so.
    fn end_trial(&self, plugin: &str, reason: String) {
        tracing::error!(plugin, "{reason}");
        if let Err(error) = Versions::of(&self.folder, plugin).try_out(None) {
            tracing::error!(plugin, "it will be tried again at the next start: {error:#}");
        }
        Audit::of_plugins(&self.folder).tell(vec![Entry::by_shop("trial ended", plugin, reason.clone())]);
        self.trial_problems.lock().insert(plugin.to_owned(), reason);
    }

    async fn begin_trial(&self, name: &str, live: &Loaded, wanted: OnTrial) -> anyhow::Result<Trial> {
        let loaded = self.load_kept(name, &wanted.id)?;
        let manifest = &loaded.plugin.manifest;
        ensure!(manifest.kind == live.plugin.manifest.kind, "{} is a service, and what is live a provider: promote it instead", manifest.version);
        ensure!(
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
        let stats = |_: &str| Self::trial_stats();
        let graph = self.link_counting(vec![part(&loaded)], &plugins, Code::Optimised, stats).await.map_err(|refusal| anyhow::anyhow!(refusal.reason))?;
        let (store, live) = (self.store.clone(), plugins);
        let unit = move |now_ms, request_id: &str| read_only_unit(&store, &live, now_ms, request_id.to_owned());
        Ok(Trial::new(wanted.id, version, Provider::new(name.to_owned(), graph), wanted.mode, Box::new(unit)))
    }

    /// Ends trials of versions that fail.
    pub(super) async fn judge_trials(&self) {
        if self.live.load().verdicts().next().is_none() {
            return;
        }
        let _one = self.changing.lock().await;
        for (plugin, version, reason) in self.live.load_full().verdicts() {
            self.end_trial(plugin, format!("the trial of {version} is over: {reason}"));
        }
        self.set_up_trials().await;
    }
}

impl Live {
    /// Trials that should not go on: plugin, version, and why.
    fn verdicts(&self) -> impl Iterator<Item = (&str, String, String)> {
        let providers = self.providers.iter().filter_map(|(name, provider)| {
            let trial = provider.trial()?;
            Some((name.as_str(), trial.version.clone(), trial.verdict()?))
        });
        let canary = self.canary.iter().filter_map(|canary| Some((canary.plugin(), canary.loaded.plugin.manifest.version.to_string(), canary.verdict()?)));
        providers.chain(canary)
    }
}
