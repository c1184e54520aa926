//! A second version beside the live one, to see how it does: as a shadow it is
//! given what the live one was asked, and its answers are only compared; as a
//! canary it answers for a part of the units. [`Trial`] is of an extension
//! provider; of a service `shop` runs a whole graph, and counts with [`Tallies`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use wasmtime::component::Val;

use super::extension::Question;
use super::{CallError, CallErrorKind, Provider, fails_too_often};
use crate::work::SharedUnit;

const EXAMPLES_MAX: usize = 5;
const EXAMPLE_CHARS_MAX: usize = 1_500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Shadow,
    /// It answers for so many units in a hundred.
    Canary { percent: u8 },
}

/// Whether a canary of so many shoppers in a hundred has this one: a shopper
/// stays with one version, and a unit that is run again does.
pub fn canary_has(percent: u8, shopper_or_request: &str) -> bool {
    percent > 0 && xxhash_rust::xxh3::xxh3_64(shopper_or_request.as_bytes()) % 100 < percent.into()
}

/// Calls of one of the two versions since the trial began.
#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
    timed: AtomicU64,
    ns: AtomicU64,
}

impl Tally {
    fn record(&self, is_ok: bool, took: Option<Duration>) {
        self.calls.fetch_add(1, Relaxed);
        self.failures.fetch_add(u64::from(!is_ok), Relaxed);
        if let Some(took) = took {
            self.timed.fetch_add(1, Relaxed);
            self.ns.fetch_add(took.as_nanos() as u64, Relaxed);
        }
    }

    fn mean_us(&self) -> u64 {
        self.ns.load(Relaxed) / self.timed.load(Relaxed).max(1) / 1_000
    }
}

/// How a version on trial does, beside the live one. Times are those of
/// optimised code alone: what a baseline takes says nothing.
#[derive(Default)]
pub struct Tallies {
    live: Tally,
    trial: Tally,
    /// How and where the version on trial failed last; the log has it whole.
    failure: Mutex<String>,
}

impl Tallies {
    pub fn record_live(&self, is_ok: bool, took: Option<Duration>) {
        self.live.record(is_ok, took);
    }

    /// A host without room says nothing about the version.
    pub fn record_trial(&self, failure: Option<&CallError>, took: Option<Duration>) {
        if failure.is_some_and(|failure| failure.kind == CallErrorKind::Overloaded) {
            return;
        }
        self.trial.record(failure.is_none(), took);
        if let Some(failure) = failure {
            *self.failure.lock() = format!("{:?} in `{}`", failure.kind, failure.plugin.as_deref().unwrap_or("host"));
        }
    }

    /// The live version has failed at the same.
    pub fn forgive(&self) {
        let _ = self.trial.failures.fetch_update(Relaxed, Relaxed, |failures| failures.checked_sub(1));
    }

    /// Why the trial should not go on.
    pub fn verdict(&self) -> Option<String> {
        let (calls, failures) = (self.trial.calls.load(Relaxed), self.trial.failures.load(Relaxed));
        fails_too_often(calls, failures).then(|| format!("it failed {failures} times in {calls} calls, last with {}", self.failure.lock()))
    }

    pub fn report(&self, mode: Mode, version: String) -> TrialReport {
        let Self { live, trial, .. } = self;
        TrialReport {
            mode,
            version,
            calls: trial.calls.load(Relaxed),
            skipped: 0,
            failures: trial.failures.load(Relaxed),
            different: 0,
            live_calls: live.calls.load(Relaxed),
            live_failures: live.failures.load(Relaxed),
            live_us: live.mean_us(),
            trial_us: trial.mean_us(),
            examples: Vec::new(),
        }
    }
}

/// Makes a unit that only reads, of this time and request id.
pub type UnitMaker = Box<dyn Fn(u64, &str) -> SharedUnit + Send + Sync>;

pub struct Trial {
    /// Of the version among those that are kept.
    pub id: String,
    pub version: String,
    pub provider: Provider,
    pub mode: Mode,
    unit: UnitMaker,
    /// One shadow call at a time: the shop's own work comes first.
    busy: AtomicBool,
    tallies: Tallies,
    skipped: AtomicU64,
    different: AtomicU64,
    examples: Mutex<Vec<Example>>,
}

/// What was asked, and two answers that are not the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    pub function: String,
    pub asked: String,
    pub live: String,
    pub trial: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    pub mode: Mode,
    pub version: String,
    pub calls: u64,
    /// Calls of the live version that the shadow was too busy for.
    pub skipped: u64,
    pub failures: u64,
    pub different: u64,
    /// Of the live version meanwhile; beside a shadow those that were compared.
    pub live_calls: u64,
    pub live_failures: u64,
    /// Mean time of a call.
    pub live_us: u64,
    pub trial_us: u64,
    pub examples: Vec<Example>,
}

impl Trial {
    pub fn new(id: String, version: String, provider: Provider, mode: Mode, unit: UnitMaker) -> Self {
        Self {
            id,
            version,
            provider,
            mode,
            unit,
            busy: AtomicBool::new(false),
            tallies: Tallies::default(),
            skipped: AtomicU64::new(0),
            different: AtomicU64::new(0),
            examples: Mutex::default(),
        }
    }

    pub(super) fn answers_for(&self, shopper_or_request: &str) -> bool {
        matches!(self.mode, Mode::Canary { percent } if canary_has(percent, shopper_or_request))
    }

    pub(super) fn record_canary(&self, failure: Option<&CallError>, took: Duration) {
        self.tallies.record_trial(failure, Some(took));
    }

    pub(super) fn record_live(&self, is_ok: bool, took: Option<Duration>) {
        self.tallies.record_live(is_ok, took);
    }

    /// Has the shadow answer what the live version has just answered. Returns
    /// at once; nothing of it is used.
    pub(super) fn shadow(self: &Arc<Self>, asked: Asked, live: Answered) {
        if self.busy.swap(true, Relaxed) {
            self.skipped.fetch_add(1, Relaxed);
            return;
        }
        let trial = self.clone();
        tokio::spawn(async move {
            let unit = (trial.unit)(asked.now_ms, &asked.request_id);
            let begun = Instant::now();
            let answer = trial.provider.ask(asked.question(), &unit).await;
            let took = begun.elapsed();
            unit.lock().end();
            trial.tallies.record_trial(answer.as_ref().err(), Some(took));
            trial.tallies.record_live(live.is_ok, live.took);
            let live = live.answer;
            let answer = answer.unwrap_or_else(|error| Err(Val::String(error.message)));
            if answer != live {
                trial.different.fetch_add(1, Relaxed);
                let mut examples = trial.examples.lock();
                if examples.len() < EXAMPLES_MAX {
                    examples.push(Example { function: asked.function, asked: shown(&asked.parameters), live: shown(&live), trial: shown(&answer) });
                }
            }
            trial.busy.store(false, Relaxed);
        });
    }

    /// Why it should not go on.
    pub fn verdict(&self) -> Option<String> {
        self.tallies.verdict()
    }

    pub fn report(&self) -> TrialReport {
        TrialReport {
            skipped: self.skipped.load(Relaxed),
            different: self.different.load(Relaxed),
            examples: self.examples.lock().clone(),
            ..self.tallies.report(self.mode, self.version.clone())
        }
    }
}

/// What the live version has answered.
pub(super) struct Answered {
    pub answer: Result<Val, Val>,
    /// A refusal is an answer.
    pub is_ok: bool,
    pub took: Option<Duration>,
}

/// A call as the live version got it.
pub(super) struct Asked {
    pub interface: Arc<str>,
    pub function: String,
    pub parameters: Vec<Val>,
    pub caller: Arc<str>,
    pub deadline: Duration,
    pub now_ms: u64,
    pub request_id: String,
}

impl Asked {
    fn question(&self) -> Question<'_> {
        Question { interface: &self.interface, function: &self.function, parameters: &self.parameters, caller: &self.caller, deadline: self.deadline, needed: false }
    }
}

fn shown(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take(EXAMPLE_CHARS_MAX).collect()
}
