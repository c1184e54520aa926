//! What this room counts, for `/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(super) struct Metrics {
    pub units_committed: AtomicU64,
    pub units_rolled_back: AtomicU64,
    pub units_failed: AtomicU64,
    pub conflicts: AtomicU64,
    pub answers_replayed: AtomicU64,
    pub events_delivered: AtomicU64,
    pub events_failed: AtomicU64,
    pub events_parked: AtomicU64,
    pub effects_performed: AtomicU64,
    pub effects_failed: AtomicU64,
    pub effects_completed: AtomicU64,
    pub jobs_run: AtomicU64,
    pub jobs_failed: AtomicU64,
    pub dead_letters: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    pub fn write(&self, out: &mut String, durable_batches: u64, store_failed: bool) {
        let rows = [
            ("souk_units_committed", "Units of work committed with writes.", &self.units_committed),
            ("souk_units_rolled_back", "Units of work rolled back by their handler's answer.", &self.units_rolled_back),
            ("souk_units_failed", "Units of work that trapped, timed out or gave up on conflicts.", &self.units_failed),
            ("souk_unit_conflicts", "Commits refused because another unit won.", &self.conflicts),
            ("souk_answers_replayed", "Requests answered from a stored answer to their Idempotency-Key.", &self.answers_replayed),
            ("souk_events_delivered", "Events handled by a subscriber.", &self.events_delivered),
            ("souk_events_failed", "Failed tries to deliver an event.", &self.events_failed),
            ("souk_events_parked", "Events that failed, or came behind one of their key that had, and were put aside to be tried again.", &self.events_parked),
            ("souk_effects_performed", "Effects answered by their target.", &self.effects_performed),
            ("souk_effects_failed", "Failed tries to perform an effect.", &self.effects_failed),
            ("souk_effects_completed", "Effects whose requester has taken the answer.", &self.effects_completed),
            ("souk_jobs_run", "Jobs run.", &self.jobs_run),
            ("souk_jobs_failed", "Failed tries to run a job.", &self.jobs_failed),
            ("souk_dead_letters", "Events, completions and jobs given up.", &self.dead_letters),
        ];
        for (name, help, value) in rows {
            let value = value.load(Ordering::Relaxed);
            _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name}_total {value}");
        }
        let (name, help) = ("souk_store_batches", "Batches of units made durable together, one sync each.");
        _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name}_total {durable_batches}");
        let (name, help) = ("souk_store_failed", "1 once a write to the disk has failed: nothing more is written before the next start.");
        _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {}", u8::from(store_failed));
    }
}
