//! The first minutes of a version: one that fails too often goes back by itself
//! to the version before it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::versions::Versions;
use super::{Live, Shop};
use crate::audit::{Audit, Entry};
use crate::engine::fails_too_often;

/// How long a version is on probation.
const PROBATION: Duration = Duration::from_secs(120);

/// Counted since the host began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Of the graph that the plugin is in: what is called by other plugins is
    /// not counted by itself.
    pub calls: u64,
    pub failures: u64,
}

#[derive(Default)]
pub struct Probations(BTreeMap<String, (Counts, Instant)>);

impl Probations {
    pub fn begin(&mut self, plugin: &str, counts: Counts, now: Instant) {
        self.0.insert(plugin.to_owned(), (counts, now));
    }

    pub fn end(&mut self, plugin: &str) {
        self.0.remove(plugin);
    }

    pub fn plugins(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Why this plugin must go back; asked from time to time. A probation ends
    /// with the answer, or with its time.
    pub fn judge(&mut self, plugin: &str, counts: Counts, now: Instant) -> Option<String> {
        let (before, begun) = *self.0.get(plugin)?;
        let (calls, failures) = (counts.calls.saturating_sub(before.calls), counts.failures.saturating_sub(before.failures));
        if fails_too_often(calls, failures) {
            self.end(plugin);
            let seconds = (now - begun).as_secs_f32();
            return Some(format!("it failed {failures} times in {calls} calls, {seconds:.0} s after it went live"));
        }
        if now - begun >= PROBATION {
            self.end(plugin);
        }
        None
    }
}

impl Shop {
    pub(super) async fn watch_over(&self, changed: &[String], before: &Live) {
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

    pub(super) async fn keep_versions(&self, plugins: Vec<String>) {
        let folder = self.folder.clone();
        let live = self.live.load_full();
        let kept = tokio::task::spawn_blocking(move || {
            let mut news = Vec::new();
            for name in &plugins {
                let Some(loaded) = live.loaded.get(name) else {
                    news.push(Entry::by_shop("gone", name, String::new()));
                    continue;
                };
                match Versions::of(&folder, name).went_live() {
                    Ok(Some(id)) => news.push(Entry::by_shop("live", name, format!("{id}, {}", loaded.plugin.publisher))),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(plugin = name, "this version cannot be gone back to later: {error:#}"),
                }
            }
            Audit::of_plugins(&folder).tell(news);
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
    pub(super) async fn judge_probations(&self) {
        let on_probation = self.probations.lock().plugins();
        for plugin in on_probation {
            let Some(counts) = self.counts(&plugin) else { continue };
            let Some(reason) = self.probations.lock().judge(&plugin, counts, Instant::now()) else { continue };
            let versions = Versions::of(&self.folder, &plugin);
            let (why, name, folder) = (reason.clone(), plugin.clone(), self.folder.clone());
            let back = tokio::task::spawn_blocking(move || {
                let version = versions.roll_back(Some(&why))?;
                Audit::of_plugins(&folder).tell(vec![Entry::by_shop("taken back", &name, format!("for {version}: {why}"))]);
                Ok(version)
            });
            let back = back.await;
            match back.map_err(anyhow::Error::from).flatten() {
                Ok(version) => tracing::error!(plugin, %version, "went back to an earlier version: {reason}"),
                Err(error) => tracing::error!(plugin, "{reason}; there is nothing to go back to: {error:#}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_calls_is_too_much_and_a_few_are_not() {
        let now = Instant::now();
        let counts = |calls: u64, failures: u64| Counts { calls: 1_000 + calls, failures: 50 + failures };
        for (calls, failures, goes_back) in [(4, 4, false), (5, 5, true), (50, 5, true), (51, 5, false), (1_000, 99, false), (1_000, 100, true)] {
            let mut probations = Probations::default();
            probations.begin("a", counts(0, 0), now);
            assert_eq!(probations.judge("a", counts(calls, failures), now).is_some(), goes_back, "{failures} of {calls}");
        }
    }

    #[test]
    fn it_ends_with_its_time() {
        let now = Instant::now();
        let mut probations = Probations::default();
        probations.begin("a", Counts { calls: 0, failures: 0 }, now);
        assert!(probations.judge("a", Counts { calls: 10, failures: 0 }, now + PROBATION).is_none());
        assert!(probations.judge("a", Counts { calls: 10, failures: 10 }, now + PROBATION).is_none());
    }
}
