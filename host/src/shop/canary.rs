//! Another version of one service, linked with all others as they are live: a
//! part of the shoppers has whole units run on that graph. What fails there is
//! run again on the live one. Made by `trials`; [`super::Shop`] calls it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;

use super::load::Loaded;
use super::manifest::{Kind, Manifest};
use crate::engine::{CallError, CallErrorKind, Graph, Mode, Tallies, TrialReport, canary_has};
use crate::work::{PluginAnswer, PluginCall, SharedUnit};

#[derive(Clone)]
pub struct Canary {
    /// Of the version among those that are kept.
    pub id: String,
    pub percent: u8,
    pub loaded: Loaded,
    pub graph: Graph,
    tallies: Arc<Tallies>,
}

impl Canary {
    pub fn new(id: String, percent: u8, loaded: Loaded, graph: Graph) -> Self {
        Self { id, percent, loaded, graph, tallies: Arc::default() }
    }

    pub fn plugin(&self) -> &str {
        self.loaded.plugin.name()
    }

    /// The same trial on other code, or beside other plugins.
    pub fn with_graph(&self, graph: Graph) -> Self {
        Self { graph, ..self.clone() }
    }

    pub fn verdict(&self) -> Option<String> {
        self.tallies.verdict()
    }

    pub fn report(&self) -> TrialReport {
        let version = self.loaded.plugin.manifest.version.to_string();
        self.tallies.report(Mode::Canary { percent: self.percent }, version)
    }

    /// Whether such calls are shared with the live version. An operator's
    /// commands and the rewriting of documents are the live version's alone.
    pub fn shares(call: &PluginCall) -> bool {
        !matches!(call, PluginCall::Command { .. } | PluginCall::Migrate { .. } | PluginCall::SelfCheck)
    }

    /// Runs the unit on the graph that is its shopper's.
    pub async fn call(&self, live: &Graph, plugin: &str, call: &PluginCall, unit: SharedUnit) -> Result<PluginAnswer, CallError> {
        let (tried, again) = {
            let mut unit = unit.lock();
            unit.tried = !unit.live_only && canary_has(self.percent, unit.shopper_or_request());
            (unit.tried, unit.live_only)
        };
        let graph = if tried { &self.graph } else { live };
        let begun = Instant::now();
        let answer = graph.call(plugin, call, unit).await;
        let took = (!graph.is_baseline()).then(|| begun.elapsed());
        // A host without room says nothing about a version.
        let failure = match &answer {
            Err(error) if error.kind == CallErrorKind::Overloaded => return answer,
            answer => answer.as_ref().err(),
        };
        if !tried {
            self.tallies.record_live(failure.is_none(), took);
            if again && failure.is_some() {
                self.tallies.forgive();
            }
            return answer;
        }
        self.tallies.record_trial(failure, took);
        answer.map_err(|error| {
            let version = &self.loaded.plugin.manifest.version;
            tracing::warn!(plugin = self.plugin(), %version, "what failed on trial is run again on the live version: {error}");
            CallError { kind: CallErrorKind::OnTrial, ..error }
        })
    }
}

/// What the host does once for all shoppers, by the live version's manifest,
/// must be the same in both.
pub fn ensure_fits(live: &Manifest, tried: &Manifest) -> anyhow::Result<()> {
    let (version, beside) = (&tried.version, &live.version);
    ensure!(tried.kind == Kind::Service, "{version} is a provider, and what is live a service: promote it instead");
    for (what, is_same) in [
        ("[[routes]]", live.routes == tried.routes),
        ("[[events]]", live.events == tried.events),
        ("[[jobs]]", live.jobs == tried.jobs),
        ("[[indexes]]", live.indexes == tried.indexes),
    ] {
        ensure!(
            is_same,
            "{version} has other {what} than {beside}, and they are kept for all shoppers at once: \
             try a version that leaves them as they are, or promote this one"
        );
    }
    let knows = |manifest: &Manifest| (manifest.data.reads(), manifest.data.form);
    let (oldest, newest) = knows(tried);
    let (oldest_live, newest_live) = knows(live);
    ensure!(
        oldest <= oldest_live && newest_live <= newest,
        "{version} knows documents of the forms {oldest} to {newest}, and {beside} may write {oldest_live} to {newest_live}: \
         try a version that knows all of them, or promote this one"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_would_be_half_a_shop_is_not_served_beside_the_live_one() {
        let manifest = |more: &str| toml::from_str::<Manifest>(&format!("name = 'demo'\nversion = '1.0.0'\n{more}")).unwrap();
        let route = |path: &str| format!("[[routes]]\nname = 'a'\nmethods = ['GET']\npath = '{path}'\n");
        let (a, b) = (route("/a"), route("/b"));
        for (live, tried, refused) in [
            ("", "description = 'new'\n[limits]\nmemory-mib = 8\n", None),
            ("", "[[commands]]\nname = 'count'\n", None),
            ("", "kind = 'provider'\n", Some("provider")),
            (&a, &b, Some("[[routes]]")),
            ("[[events]]\ntopic = 'order.placed'\n", "", Some("[[events]]")),
            ("", "[[jobs]]\nname = 'j'\ncron = '0 * * * *'\n", Some("[[jobs]]")),
            ("", "[[indexes]]\nname = 'i'\nfields = [{ name = 'title', kind = 'text' }]\n", Some("[[indexes]]")),
            ("", "[data]\nform = 2\nreads = 1\n", None),
            ("", "[data]\nform = 2\n", Some("the forms 2 to 2")),
            ("[data]\nform = 2\nreads = 1\n", "", Some("the forms 1 to 1")),
        ] {
            let answer = ensure_fits(&manifest(live), &manifest(tried)).map_err(|error| error.to_string());
            match refused {
                Some(part) => assert!(answer.as_ref().is_err_and(|reason| reason.contains(part)), "{tried}: {answer:?}"),
                None => assert_eq!(answer, Ok(()), "{tried}"),
            }
        }
    }
}
