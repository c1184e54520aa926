//! Dead letters: events, completions and jobs that failed too often. They stay
//! until an operator replays or discards them.

use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::metrics::count;
use super::runner::{RunError, Runner, Verdict, out_of_place};
use super::unit::{Kind, encode};
use super::{PluginAnswer, PluginCall, Plugins, keys};
use crate::chance::Chance;
use crate::engine::bindings::exports::souk::host::effect_handler::Completion;
use crate::engine::bindings::exports::souk::host::event_handler::Event;
use crate::engine::bindings::exports::souk::host::job_handler::Job;
use crate::store::Txn;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Later letters have greater ids.
    pub id: String,
    /// Who failed to take it.
    pub plugin: String,
    pub work: DeadWork,
    /// Of the last try.
    pub error: String,
    pub at_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum DeadWork {
    Event { id: String, topic: String, key: String, publisher: String, at_ms: u64, payload: Vec<u8> },
    Completion { target: String, kind: String, key: String, payload: Vec<u8>, outcome: Result<Vec<u8>, String> },
    Job { name: String, key: String, due_ms: u64, payload: Vec<u8> },
}

impl DeadWork {
    fn call(self) -> PluginCall {
        match self {
            DeadWork::Event { id, topic, key, publisher, at_ms, payload } => {
                PluginCall::Event(Event { id, topic, key, publisher, at_ms, payload })
            }
            DeadWork::Completion { target, kind, key, payload, outcome } => {
                PluginCall::Completed(Completion { target, kind, key, payload, outcome })
            }
            DeadWork::Job { name, key, due_ms, payload } => PluginCall::Job(Job { name, key, due_ms, payload }),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("there is no dead letter {0}")]
    Unknown(String),
    /// It stays where it is.
    #[error("it failed again: {0}")]
    Failed(String),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl<P: Plugins> Runner<P> {
    /// Oldest first, after the one with the id `after`.
    pub fn dead_letters(&self, after: &str, limit: usize) -> Result<Vec<DeadLetter>, RunError> {
        let (_, end) = keys::dead_letters();
        let start = keys::dead(after);
        let found = self.store.begin().scan(Bound::Excluded(&start), Bound::Excluded(&end), limit, false)?;
        let damaged = |key: &[u8], error: RunError| tracing::error!(target: "work", key = %key.escape_ascii(), %error, "a damaged dead letter is left out");
        Ok(found.iter().filter_map(|(key, bytes)| decode(bytes).map_err(|error| damaged(key, error)).ok()).collect())
    }

    /// Runs it once more, now, a job to its end; it is gone exactly if that
    /// succeeds.
    pub async fn replay_dead_letter(self: &Arc<Self>, id: &str) -> Result<(), ReplayError> {
        let key = keys::dead(id);
        let unknown = || ReplayError::Unknown(id.to_owned());
        let bytes = self.store.begin().get(&key).map_err(RunError::from)?.ok_or_else(unknown)?;
        let DeadLetter { plugin, work, .. } = decode(&bytes)?;
        let kind = match work {
            DeadWork::Event { .. } => Kind::Event,
            DeadWork::Completion { .. } => Kind::Effect,
            DeadWork::Job { .. } => Kind::Job,
        };
        let call = work.call();
        loop {
            let outcome = self.run(
                &plugin,
                &call,
                self.background_start(kind),
                |unit| Ok(unit.host_txn()?.get(&key)?.is_some()),
                |unit, answer| {
                    let again = match answer {
                        PluginAnswer::Event(answered) | PluginAnswer::Completed(answered) => answered.map(|()| false),
                        PluginAnswer::Job(again) => again,
                        other => return Err(out_of_place(&plugin, &other)),
                    };
                    match again {
                        Err(_) => return Ok(Verdict::RollBack(again)),
                        Ok(true) => {}
                        Ok(false) => unit.host_txn()?.delete(&key),
                    }
                    Ok(Verdict::Commit(again))
                },
            );
            if !outcome.await?.value.ok_or_else(unknown)?.map_err(ReplayError::Failed)? {
                return Ok(());
            }
        }
    }

    /// False if there was none.
    pub async fn discard_dead_letter(&self, id: &str) -> Result<bool, RunError> {
        let key = keys::dead(id);
        self.host(|txn| {
            let known = txn.get(&key)?.is_some();
            if known {
                txn.delete(&key);
            }
            Ok(known)
        })
        .await
    }

    /// Lays it aside, in the transaction that gives up the work.
    pub(super) fn bury(&self, txn: &mut Txn, plugin: &str, work: DeadWork, error: String) {
        count(&self.metrics.dead_letters);
        tracing::error!(target: "work", plugin, error, "given up: see the dead letters");
        let at_ms = self.now_ms();
        let letter = DeadLetter { id: format!("{at_ms:012x}{}", &Chance::default().id()[..8]), plugin: plugin.to_owned(), work, error, at_ms };
        txn.put(&keys::dead(&letter.id), encode(&letter));
    }
}

pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RunError> {
    postcard::from_bytes(bytes).map_err(|e| RunError::Unavailable(format!("a record of the host cannot be read: {e}")))
}
