//! What `souk plugin list`, `souk plugin top` and `/metrics` tell of plugins.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Live, Shop};
use super::manifest::{ExtensionPoint, FailurePolicy};
use super::plugin::Usage;
use super::policies::Policies;
use super::versions::Versions;
use crate::engine::{CodeUsage, Graph, PluginStats, SHARE_WHOLE, SwitchedOff, TrialReport, without_version};
use crate::work;

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
    /// What it may have of the shop over time, in percent.
    pub share: u32,
    /// Of what it has just been over its share.
    pub over_share: Option<String>,
    /// Extension points that no other plugin provides: without it the shop goes without.
    pub sole_provider_of: Vec<String>,
    /// What the operator lets each of its calls take of a shopper's time.
    pub latency_ms: Option<u32>,
    /// Calls refused for that, and how long others of its calls have waited.
    pub refused: u64,
    pub delayed_ms: u64,
    /// Items cut off from its answers to extension points.
    pub items_cut: u64,
    /// What it is not asked for now.
    pub switched_off: Vec<SwitchedOffReport>,
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

/// A function of an extension point for which a provider is switched off.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct SwitchedOffReport {
    pub point: String,
    pub function: String,
    /// From now on.
    pub seconds: u64,
    pub why: String,
}

impl From<SwitchedOff<'_>> for SwitchedOffReport {
    fn from(off: SwitchedOff<'_>) -> Self {
        let SwitchedOff { point, function, fault, left } = off;
        Self { point: point.to_owned(), function: function.to_owned(), seconds: left.as_secs() + 1, why: fault.in_plain_words().to_owned() }
    }
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

impl Shop {
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
            ("souk_plugin_share_refused", |r: &PluginReport| r.refused),
            ("souk_plugin_share_delayed_ms", |r: &PluginReport| r.delayed_ms),
            ("souk_plugin_items_cut", |r: &PluginReport| r.items_cut),
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
        let code = self.code_usage();
        for (name, help, value) in [
            ("souk_code_modules", "Compositions and providers whose compiled code is loaded.", code.modules),
            ("souk_code_loaded_bytes", "Compiled code that is loaded.", code.loaded_bytes),
            ("souk_code_kept_files", "Files of compiled code in cache/.", code.files),
            ("souk_code_kept_bytes", "Compiled code in cache/.", code.kept_bytes),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        let _ = writeln!(out, "# TYPE souk_plugin_live gauge");
        for report in &reports {
            let _ = writeln!(out, "souk_plugin_live{{plugin=\"{}\"}} {}", report.name, u8::from(report.problem.is_none()));
        }
        for (name, value) in [
            ("souk_plugin_share_percent", (|r: &PluginReport| r.share) as fn(&PluginReport) -> u32),
            ("souk_plugin_over_share", |r: &PluginReport| u32::from(r.over_share.is_some())),
            ("souk_plugin_switched_off", |r: &PluginReport| r.switched_off.len() as u32),
        ] {
            let _ = writeln!(out, "# TYPE {name} gauge");
            for report in &reports {
                let _ = writeln!(out, "{name}{{plugin=\"{}\"}} {}", report.name, value(report));
            }
        }
        let name = "souk_plugin_function_switched_off";
        let _ = writeln!(out, "# HELP {name} Functions of extension points for which a provider is switched off.\n# TYPE {name} gauge");
        for (plugin, off) in reports.iter().flat_map(|report| report.switched_off.iter().map(|off| (&report.name, off))) {
            let SwitchedOffReport { point, function, .. } = off;
            let _ = writeln!(out, "{name}{{plugin=\"{plugin}\",point=\"{point}\",function=\"{function}\"}} 1");
        }
        let on_trial: Vec<_> = reports.iter().filter_map(|report| Some((&report.name, report.trial.as_ref()?))).collect();
        // Gauges: the next trial counts from zero.
        for (name, of_live, of_trial) in [
            ("souk_trial_calls", (|t| t.live_calls) as fn(&TrialReport) -> u64, (|t| t.calls) as fn(&TrialReport) -> u64),
            ("souk_trial_failures", |t| t.live_failures, |t| t.failures),
            ("souk_trial_mean_us", |t| t.live_us, |t| t.trial_us),
        ] {
            let _ = writeln!(out, "# TYPE {name} gauge");
            for (plugin, trial) in &on_trial {
                let _ = writeln!(out, "{name}{{plugin=\"{plugin}\",side=\"live\"}} {}", of_live(trial));
                let _ = writeln!(out, "{name}{{plugin=\"{plugin}\",side=\"trial\"}} {}", of_trial(trial));
            }
        }
    }

    fn taken_back(&self, plugin: &str) -> Option<String> {
        let history = Versions::of(&self.folder, plugin).history().ok()?;
        let [.., failed, now] = &history[..] else { return None };
        let reason = failed.failed.as_ref()?;
        Some(format!("{} was taken back for {}: {reason}", failed.version, now.version))
    }

    pub fn code_usage(&self) -> CodeUsage {
        self.engine.code_usage()
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
            let canary = live.canary.as_ref().filter(|canary| canary.plugin() == name);
            let links = graph.into_iter().flat_map(|g| g.services_of(name).iter().map(String::as_str).chain(g.extensions_of(name)));
            let stats = stats.get(name);
            let account = stats.map(|stats| &stats.account);
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
                baseline: loaded.is_some() && graph.into_iter().chain(canary.map(|canary| &canary.graph)).any(Graph::is_baseline),
                older_form: loaded.and_then(|l| work::data::older_form(&self.store, name, &l.plugin.manifest.data)),
                switched_off: live.providers.get(name).map_or_else(Vec::new, |provider| {
                    provider.switched_off().into_iter().map(SwitchedOffReport::from).collect()
                }),
                share: account.map_or(SHARE_WHOLE, |account| account.percent()),
                over_share: account.and_then(|account| account.over()).map(|resource| resource.in_plain_words().to_owned()),
                sole_provider_of: live.providers.get(name).map_or_else(Vec::new, |provider| sole_points(name, &provider.graph, &live)),
                latency_ms: self.settings.plugins.latency_ms.get(name).copied(),
                refused: account.map_or(0, |account| account.refused.load(Relaxed)),
                delayed_ms: account.map_or(0, |account| account.delayed_ms.load(Relaxed)),
                items_cut: live.providers.get(name).map_or(0, |provider| provider.cut()),
                points: loaded.map_or_else(Vec::new, |l| l.plugin.manifest.extension_points.iter().map(|point| point_report(point, &policies)).collect()),
                trial: match canary {
                    Some(canary) => Some(canary.report()),
                    None => live.providers.get(name).and_then(|provider| Some(provider.trial()?.report())),
                },
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

fn sole_points(name: &str, graph: &Graph, live: &Live) -> Vec<String> {
    let others = || live.providers.iter().filter(|(other, _)| *other != name);
    let has_another = |point: &&str| others().any(|(other, provider)| provider.graph.extensions_of(other).any(|provided| provided == *point));
    graph.extensions_of(name).filter(|point| !has_another(point)).map(str::to_owned).collect()
}

fn point_report(point: &ExtensionPoint, policies: &Policies) -> PointReport {
    let interface = without_version(&point.interface);
    let changed = policies.of(interface);
    PointReport {
        interface: interface.to_owned(),
        fail: changed.and_then(|changed| changed.fail).unwrap_or(point.fail),
        deadline_ms: changed.and_then(|changed| changed.deadline_ms).unwrap_or(point.deadline_ms),
        as_declared: changed.is_none(),
    }
}
