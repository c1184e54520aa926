//! Dead letters: events, completions and jobs that failed for longer than they
//! are tried again. They stay until an operator replays or discards them.

use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::runner::{RunError, Runner, Verdict, out_of_place};
use super::trouble::{self, Listed, Trouble};
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
    /// The last try.
    pub at_ms: u64,
    /// How often it was tried. 0 in letters of versions that did not write it down, as `since_ms`.
    pub tries: u32,
    /// The first failure.
    pub since_ms: u64,
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

    pub fn payload(&self) -> &[u8] {
        match self {
            DeadWork::Event { payload, .. } | DeadWork::Completion { payload, .. } | DeadWork::Job { payload, .. } => payload,
        }
    }
}

impl DeadLetter {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, RunError> {
        decode_grown(bytes, 2)
    }

    pub(super) fn listed(&self) -> Listed {
        let (kind, what, key, other) = match &self.work {
            DeadWork::Event { topic, key, publisher, .. } => (trouble::Kind::Event, topic, key, publisher.as_str()),
            DeadWork::Completion { target, kind, key, .. } => (trouble::Kind::Answer, kind, key, target.as_str()),
            DeadWork::Job { name, key, .. } => (trouble::Kind::Job, name, key, ""),
        };
        let trouble = Trouble {
            kind,
            plugin: self.plugin.clone(),
            what: what.clone(),
            key: key.clone(),
            other: other.to_owned(),
            tries: self.tries,
            since_ms: self.since_ms,
            at_ms: self.at_ms,
            next_ms: None,
            behind: 0,
            error: self.error.clone(),
        };
        Listed { id: self.id.clone(), trouble }
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
        Ok(found.iter().filter_map(|(key, bytes)| DeadLetter::read(bytes).map_err(|error| damaged(key, error)).ok()).collect())
    }

    pub(super) fn dead_letter(&self, id: &str) -> Result<DeadLetter, ReplayError> {
        let bytes = self.store.begin().get(&keys::dead(id)).map_err(RunError::from)?;
        let bytes = bytes.ok_or_else(|| ReplayError::Unknown(id.to_owned()))?;
        Ok(DeadLetter::read(&bytes)?)
    }

    /// Runs it once more, now, a job to its end; it is gone exactly if that
    /// succeeds.
    pub async fn replay_dead_letter(self: &Arc<Self>, id: &str) -> Result<(), ReplayError> {
        let key = keys::dead(id);
        let unknown = || ReplayError::Unknown(id.to_owned());
        let DeadLetter { plugin, work, .. } = self.dead_letter(id)?;
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
                self.troubles.is_gone(&plugin);
                return Ok(());
            }
        }
    }

    /// False if there was none.
    pub async fn discard_dead_letter(&self, id: &str) -> Result<bool, RunError> {
        let key = keys::dead(id);
        let discarded = self
            .host(|txn| {
                let known = txn.get(&key)?;
                if known.is_some() {
                    txn.delete(&key);
                }
                Ok(known.map(|bytes| DeadLetter::read(&bytes)))
            })
            .await?;
        if let Some(Ok(letter)) = &discarded {
            self.troubles.is_gone(&letter.plugin);
        }
        Ok(discarded.is_some())
    }

    /// Lays it aside, in the transaction that gives up the work. Once that is
    /// committed, [`Self::gave_up`] is to be told.
    pub(super) fn put_dead_letter(&self, txn: &mut Txn, plugin: &str, work: DeadWork, error: String, tries: u32, since_ms: u64) {
        let at_ms = self.now_ms();
        let id = format!("{at_ms:012x}{}", &Chance::default().id()[..8]);
        let letter = DeadLetter { id, plugin: plugin.to_owned(), work, error, at_ms, tries, since_ms };
        txn.put(&keys::dead(&letter.id), encode(&letter));
    }
}

pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RunError> {
    postcard::from_bytes(bytes).map_err(unreadable)
}

/// A record that has got `fields` more at its end since it was first written down: in
/// an older one they are 0 or empty.
pub(super) fn decode_grown<T: for<'a> Deserialize<'a>>(bytes: &[u8], fields: usize) -> Result<T, RunError> {
    match postcard::from_bytes(bytes) {
        Err(postcard::Error::DeserializeUnexpectedEnd) => postcard::from_bytes(&[bytes, &vec![0; fields]].concat()).map_err(unreadable),
        decoded => decoded.map_err(unreadable),
    }
}

fn unreadable(error: postcard::Error) -> RunError {
    RunError::Unavailable(format!("a record of the host cannot be read: {error}"))
}
