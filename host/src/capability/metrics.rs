//! Metrics that plugins report, in the OpenMetrics text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::metrics::Host;

const NAMES_PER_PLUGIN_MAX: usize = 100;
const SERIES_PER_PLUGIN_MAX: usize = 1_000;
const LABELS_MAX: usize = 8;
const TEXT_BYTES_MAX: usize = 64;
/// Of durations in seconds as well as of sizes.
const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 100.0, 1000.0];

/// Each plugin has a lock of its own: one that reports without end is in nobody
/// else's way.
#[derive(Default)]
pub struct Metrics(RwLock<BTreeMap<String, Arc<OfPlugin>>>);

#[derive(Default)]
struct OfPlugin {
    reported: Mutex<Reported>,
    log_lines_dropped: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct Reported {
    families: BTreeMap<String, Family>,
    series: usize,
}

enum Family {
    Counter(BTreeMap<String, u64>),
    Gauge(BTreeMap<String, f64>),
    Histogram(BTreeMap<String, Histogram>),
}

#[derive(Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    sum: f64,
    count: u64,
}

/// `,name="value"` for each label, in order of names; none if it is malformed.
fn labels(mut labels: Vec<(String, String)>) -> Option<String> {
    if labels.len() > LABELS_MAX || labels.iter().any(|(name, value)| !is_name(name) || value.len() > TEXT_BYTES_MAX || name == "plugin") {
        return None;
    }
    labels.sort();
    let mut text = String::new();
    for (name, value) in labels {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, ",{name}=\"{value}\"");
    }
    Some(text)
}

fn is_name(name: &str) -> bool {
    name.len() <= TEXT_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl Metrics {
    pub fn log_line_dropped(&self, plugin: &str) {
        self.of(plugin).log_lines_dropped.fetch_add(1, Relaxed);
    }

    fn of(&self, plugin: &str) -> Arc<OfPlugin> {
        if let Some(known) = self.0.read().get(plugin) {
            return known.clone();
        }
        self.0.write().entry(plugin.to_owned()).or_default().clone()
    }

    pub fn count(&self, plugin: &str, name: String, labels: Vec<(String, String)>, amount: u64) {
        self.change(plugin, name, labels, || Family::Counter(BTreeMap::new()), |family, labels| match family {
            Family::Counter(series) => Some({
                let value = series.entry(labels).or_default();
                *value = value.saturating_add(amount);
                series.len()
            }),
            _ => None,
        });
    }

    pub fn gauge(&self, plugin: &str, name: String, labels: Vec<(String, String)>, value: f64) {
        self.change(plugin, name, labels, || Family::Gauge(BTreeMap::new()), |family, labels| match family {
            Family::Gauge(series) => Some({
                series.insert(labels, value);
                series.len()
            }),
            _ => None,
        });
    }

    pub fn observe(&self, plugin: &str, name: String, labels: Vec<(String, String)>, value: f64) {
        self.change(plugin, name, labels, || Family::Histogram(BTreeMap::new()), |family, labels| match family {
            Family::Histogram(series) => Some({
                let histogram = series.entry(labels).or_default();
                histogram.sum += value;
                histogram.count += 1;
                for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKETS) {
                    *bucket += u64::from(value <= bound);
                }
                series.len()
            }),
            _ => None,
        });
    }

    /// Malformed, over the limits, or of another kind than before: counted as
    /// refused. `apply` tells the number of series of the family.
    fn change(
        &self,
        plugin: &str,
        name: String,
        with: Vec<(String, String)>,
        new: impl FnOnce() -> Family,
        apply: impl FnOnce(&mut Family, String) -> Option<usize>,
    ) {
        let of_plugin = self.of(plugin);
        let mut reported = of_plugin.reported.lock();
        let known = reported.families.contains_key(&name);
        let within = reported.series < SERIES_PER_PLUGIN_MAX && (known || reported.families.len() < NAMES_PER_PLUGIN_MAX);
        if !within || !is_name(&name) {
            of_plugin.refused.fetch_add(1, Relaxed);
            return;
        }
        let Some(labels) = labels(with) else {
            of_plugin.refused.fetch_add(1, Relaxed);
            return;
        };
        let family = reported.families.entry(name).or_insert_with(new);
        let before = family.len();
        match apply(family, labels) {
            Some(after) => reported.series += after - before,
            None => _ = of_plugin.refused.fetch_add(1, Relaxed),
        }
    }

    pub fn encode(&self, out: &mut String) {
        let all = self.0.read().clone();
        let reported: Vec<_> = all.iter().map(|(plugin, of_plugin)| (plugin, of_plugin.reported.lock())).collect();
        let mut by_name: BTreeMap<&str, Vec<(&str, &Family)>> = BTreeMap::new();
        for (plugin, reported) in &reported {
            for (name, family) in &reported.families {
                by_name.entry(name).or_default().push((plugin, family));
            }
        }
        for (name, families) in by_name {
            let kind = families[0].1.kind();
            let _ = writeln!(out, "# TYPE souk_plugin_{name} {kind}");
            for (plugin, family) in families.iter().filter(|(_, family)| family.kind() == kind) {
                family.encode(out, plugin, name);
            }
        }
        for (name, value) in [
            ("souk_log_lines_dropped", (|p: &OfPlugin| p.log_lines_dropped.load(Relaxed)) as fn(&OfPlugin) -> u64),
            ("souk_metrics_refused", |p: &OfPlugin| p.refused.load(Relaxed)),
        ] {
            let _ = writeln!(out, "# TYPE {name} counter");
            for (plugin, of_plugin) in &all {
                let _ = writeln!(out, "{name}_total{{plugin=\"{plugin}\"}} {}", value(of_plugin));
            }
        }
    }
}

impl Family {
    fn len(&self) -> usize {
        match self {
            Family::Counter(series) => series.len(),
            Family::Gauge(series) => series.len(),
            Family::Histogram(series) => series.len(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Family::Counter(_) => "counter",
            Family::Gauge(_) => "gauge",
            Family::Histogram(_) => "histogram",
        }
    }

    fn encode(&self, out: &mut String, plugin: &str, name: &str) {
        match self {
            Family::Counter(series) => {
                for (labels, value) in series {
                    let _ = writeln!(out, "souk_plugin_{name}_total{{plugin=\"{plugin}\"{labels}}} {value}");
                }
            }
            Family::Gauge(series) => {
                for (labels, value) in series {
                    let _ = writeln!(out, "souk_plugin_{name}{{plugin=\"{plugin}\"{labels}}} {value}");
                }
            }
            Family::Histogram(series) => {
                for (labels, histogram) in series {
                    for (bucket, bound) in histogram.buckets.iter().zip(BUCKETS) {
                        let _ = writeln!(out, "souk_plugin_{name}_bucket{{plugin=\"{plugin}\"{labels},le=\"{bound}\"}} {bucket}");
                    }
                    let _ = writeln!(out, "souk_plugin_{name}_bucket{{plugin=\"{plugin}\"{labels},le=\"+Inf\"}} {}", histogram.count);
                    let _ = writeln!(out, "souk_plugin_{name}_sum{{plugin=\"{plugin}\"{labels}}} {}", histogram.sum);
                    let _ = writeln!(out, "souk_plugin_{name}_count{{plugin=\"{plugin}\"{labels}}} {}", histogram.count);
                }
            }
        }
    }
}

impl Host for GuestState {
    fn count(&mut self, caller: Caller, name: String, labels: Vec<(String, String)>, amount: u64) {
        self.services.metrics.count(caller.name(), name, labels, amount);
    }

    fn gauge(&mut self, caller: Caller, name: String, labels: Vec<(String, String)>, value: f64) {
        self.services.metrics.gauge(caller.name(), name, labels, value);
    }

    fn observe(&mut self, caller: Caller, name: String, labels: Vec<(String, String)>, value: f64) {
        self.services.metrics.observe(caller.name(), name, labels, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_apart_by_plugin_and_labels() {
        let metrics = Metrics::default();
        metrics.count("cart", "adds".into(), vec![("kind".into(), "a\"b".into())], 2);
        metrics.count("cart", "adds".into(), vec![("kind".into(), "a\"b".into())], 3);
        metrics.gauge("tax", "rate".into(), vec![], 0.5);
        metrics.observe("tax", "took".into(), vec![], 0.02);
        let mut out = String::new();
        metrics.encode(&mut out);
        assert!(out.contains("souk_plugin_adds_total{plugin=\"cart\",kind=\"a\\\"b\"} 5\n"), "{out}");
        assert!(out.contains("souk_plugin_rate{plugin=\"tax\"} 0.5\n"));
        assert!(out.contains("souk_plugin_took_bucket{plugin=\"tax\",le=\"0.01\"} 0\n"));
        assert!(out.contains("souk_plugin_took_bucket{plugin=\"tax\",le=\"0.025\"} 1\n"));
    }

    #[test]
    fn a_flood_of_names_and_labels_is_held_off() {
        let metrics = Metrics::default();
        for n in 0..200 {
            metrics.count("p", format!("name{n}"), vec![], 1);
        }
        for n in 0..2_000 {
            metrics.count("p", "name1".into(), vec![("n".into(), n.to_string())], 1);
        }
        metrics.count("p", "Bad Name".into(), vec![], 1);
        metrics.gauge("p", "name1".into(), vec![], 1.0);
        let of_plugin = metrics.of("p");
        let reported = of_plugin.reported.lock();
        assert_eq!((reported.families.len(), reported.series), (NAMES_PER_PLUGIN_MAX, SERIES_PER_PLUGIN_MAX));
        assert!(of_plugin.refused.load(Relaxed) > 1_000);
    }
}
