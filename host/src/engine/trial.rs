//! A second version of an extension provider beside the live one, to see how it
//! does: as a shadow it is given what the live one was asked, and its answers
//! are only compared; as a canary it answers for a part of the units.

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
    calls: AtomicU64,
    skipped: AtomicU64,
    failures: AtomicU64,
    different: AtomicU64,
    live_ns: AtomicU64,
    trial_ns: AtomicU64,
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
    /// Mean time of a call that was compared.
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
            calls: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            different: AtomicU64::new(0),
            live_ns: AtomicU64::new(0),
            trial_ns: AtomicU64::new(0),
            examples: Mutex::default(),
        }
    }

    /// Whether it is the canary's to answer: a shopper stays with one version,
    /// and a unit that is run again does.
    pub(super) fn answers_for(&self, shopper_or_request: &str) -> bool {
        match self.mode {
            Mode::Shadow => false,
            Mode::Canary { percent } => xxhash_rust::xxh3::xxh3_64(shopper_or_request.as_bytes()) % 100 < percent.into(),
        }
    }

    /// A host without room says nothing about the version.
    pub(super) fn record<T>(&self, answer: &Result<T, CallError>) {
        if !matches!(answer, Err(error) if error.kind == CallErrorKind::Overloaded) {
            self.calls.fetch_add(1, Relaxed);
            self.failures.fetch_add(u64::from(answer.is_err()), Relaxed);
        }
    }

    /// Has the shadow answer what the live version has just answered. Returns
    /// at once; nothing of it is used.
    pub(super) fn shadow(self: &Arc<Self>, asked: Asked, live: Result<Val, Val>, live_took: Duration) {
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
            trial.record(&answer);
            trial.live_ns.fetch_add(live_took.as_nanos() as u64, Relaxed);
            trial.trial_ns.fetch_add(took.as_nanos() as u64, Relaxed);
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
        let (calls, failures) = (self.calls.load(Relaxed), self.failures.load(Relaxed));
        fails_too_often(calls, failures).then(|| format!("it failed {failures} times in {calls} calls"))
    }

    pub fn report(&self) -> TrialReport {
        let calls = self.calls.load(Relaxed);
        let mean_us = |ns: &AtomicU64| ns.load(Relaxed) / calls.max(1) / 1_000;
        TrialReport {
            mode: self.mode,
            version: self.version.clone(),
            calls,
            skipped: self.skipped.load(Relaxed),
            failures: self.failures.load(Relaxed),
            different: self.different.load(Relaxed),
            live_us: mean_us(&self.live_ns),
            trial_us: mean_us(&self.trial_ns),
            examples: self.examples.lock().clone(),
        }
    }
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
        Question { interface: &self.interface, function: &self.function, parameters: &self.parameters, caller: &self.caller, deadline: self.deadline }
    }
}

fn shown(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take(EXAMPLE_CHARS_MAX).collect()
}
