//! Versions that are tried beside the live ones: which of them the operator
//! wants, and when a trial is over.

use std::sync::Arc;

use super::versions::{OnTrial, Versions};
use super::{Live, Loaded, Shop, load, part, read_only_unit};
use crate::engine::{Code, Mode, Provider, Trial};
use crate::shop::manifest::Kind;
use crate::work::LivePlugins;

impl Shop {
    /// Puts the versions that the operator wants tried beside the live ones.
    pub(super) async fn set_up_trials(&self) {
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
    pub(super) async fn judge_trials(&self) {
        if !self.live.load().providers.values().any(|provider| provider.trial().is_some_and(|trial| trial.verdict().is_some())) {
            return;
        }
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
}
