//! What each plugin has done and cost since it was first loaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::CallErrorKind;
use super::share::Account;

/// Calls are counted where they enter a graph: what a plugin calls in others is
/// part of its time. Failures are counted where they happened. Kept across
/// versions of the plugin.
#[derive(Debug, Default)]
pub struct PluginStats {
    pub calls: AtomicU64,
    pub wall_ns: AtomicU64,
    pub traps: AtomicU64,
    pub deadlines: AtomicU64,
    pub memory_denials: AtomicU64,
    pub other_failures: AtomicU64,
    /// Sampled: what has passed since the last tick for whoever runs when the clock
    /// ticks, a whole [`super::TICK`] for the first of a call. Right on average
    /// over many calls.
    pub cpu_ns: AtomicU64,
    /// What it may take over time, and has.
    pub account: Arc<Account>,
    /// Largest sum of the linear memories of an instance that served it.
    pub memory_bytes_peak: AtomicU64,
}

/// Failures that say nothing yet.
const FAILURES_MIN: u64 = 5;
/// One call in so many may fail.
const CALLS_PER_FAILURE: u64 = 10;

/// The one rule by which a version on probation or on trial has failed.
pub fn fails_too_often(calls: u64, failures: u64) -> bool {
    failures >= FAILURES_MIN && failures * CALLS_PER_FAILURE >= calls
}

impl PluginStats {
    pub(super) fn record(&self, took: Duration, memory_bytes: usize) {
        self.calls.fetch_add(1, Relaxed);
        self.wall_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.memory_bytes_peak.fetch_max(memory_bytes as u64, Relaxed);
    }

    pub(super) fn record_cpu(&self, time: Duration) {
        self.cpu_ns.fetch_add(time.as_nanos() as u64, Relaxed);
    }

    pub(super) fn record_failure(&self, kind: CallErrorKind) {
        let failed = match kind {
            CallErrorKind::Trap => &self.traps,
            CallErrorKind::Deadline => &self.deadlines,
            CallErrorKind::Memory => &self.memory_denials,
            _ => &self.other_failures,
        };
        failed.fetch_add(1, Relaxed);
    }

    pub fn failures(&self) -> u64 {
        [&self.traps, &self.deadlines, &self.memory_denials, &self.other_failures].iter().map(|n| n.load(Relaxed)).sum()
    }
}
