//! `Idempotency-Key`: one effect and one answer, however often a request is
//! sent.
//!
//! The key is reserved in the store before the work. The answer is kept in the
//! work's own commit: after a crash there is either both or neither. In this
//! process, those who come while the first is at work wait for it. An answer of
//! 400-499 is kept too; 500 and above, and conflicts, give the key free.
//!
//! A kept answer is for whoever sent the request, known by what only they have: a
//! session, a credential, or the key itself, which the front holds to be hard to
//! guess where there is nothing else. Never an address: neighbours share one, and
//! a telephone changes it between two tries.
//!
//! An answer that begins a session is kept for that session alone. Who repeats the
//! request without its cookie never got it, or is somebody else: the request is
//! carried out again, in a session of their own. A shopper whose first answer was
//! lost has then added once to the only cart that they can see, and a neighbour with
//! the same key gets no cart but their own. What a handler does at the same time
//! outside of the session is done twice; who cannot have that begins the session first,
//! or sends a credential.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::metrics::count;
use super::runner::{Outcome, RunError, Runner, Verdict, finish_request};
use super::unit::{Shopper, Start, encode};
use super::{PluginCall, Plugins, keys};
use crate::engine::bindings::exports::souk::web::handler::Response;
use crate::engine::{CallError, CallErrorKind};
use crate::front::{self, Answer, Failure, FailureKind, GUEST, Idempotency, SessionChange, SessionId};
use crate::store::Txn;

const TTL_MS: u64 = 24 * 3_600_000;
const BODY_BYTES_MAX: usize = 256 << 10;
const WAIT_MAX: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct InFlight(Arc<Mutex<FxHashMap<keys::Key, At>>>);

struct At {
    fingerprint: [u8; 32],
    /// Closes when the first is done.
    done: watch::Receiver<()>,
}

/// Whoever holds it works on the key, alone in this process.
struct Hold {
    in_flight: Arc<Mutex<FxHashMap<keys::Key, At>>>,
    key: keys::Key,
    _done: watch::Sender<()>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.in_flight.lock().remove(&self.key);
    }
}

enum Entry {
    First(Hold),
    After(watch::Receiver<()>),
    Mismatch,
}

impl InFlight {
    fn enter(&self, key: &keys::Key, fingerprint: [u8; 32]) -> Entry {
        let mut in_flight = self.0.lock();
        match in_flight.get(key) {
            Some(at) if at.fingerprint != fingerprint => Entry::Mismatch,
            Some(at) => Entry::After(at.done.clone()),
            None => {
                let (sender, done) = watch::channel(());
                in_flight.insert(key.clone(), At { fingerprint, done });
                Entry::First(Hold { in_flight: self.0.clone(), key: key.clone(), _done: sender })
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    fingerprint: [u8; 32],
    pub expires_ms: u64,
    /// None: reserved, not answered.
    answer: Option<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The session that the first answer gave in place of the request's own.
    session: Option<String>,
}

impl Kept {
    fn of(response: &Response, session: Option<String>) -> Self {
        Self { status: response.status, headers: response.headers.clone(), body: response.body.clone(), session }
    }

    fn replay(self) -> Answer {
        let session = self.session.map_or(SessionChange::Keep, |id| SessionChange::Set(SessionId(id.into())));
        let response = Response { status: self.status, headers: self.headers, body: self.body, cache: None, await_effects: false };
        Answer { response, session, shareable: false, replayed: true }
    }
}

/// Under which scope the key of a request with this session lies.
fn scoped(scope: &str, session: Option<&SessionId>) -> String {
    match session {
        None => scope.to_owned(),
        Some(session) if scope == GUEST => format!("session:{}", session.0),
        Some(session) => format!("{scope} session:{}", session.0),
    }
}

/// One request with a key.
struct Once {
    /// Where its answer is kept.
    at: keys::Key,
    key: String,
    scope: String,
    fingerprint: [u8; 32],
    has_session: bool,
}

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure { kind, plugin: None, message: message.to_owned() }
}

impl<P: Plugins> Runner<P> {
    pub(super) async fn request_once(
        self: &Arc<Self>,
        plugin: &str,
        call: PluginCall,
        start: Start,
        idempotency: Idempotency,
    ) -> Result<Answer, Failure> {
        let Idempotency { key, scope, fingerprint } = idempotency;
        let session = match &start.shopper {
            Shopper::Browser(session) => session.as_ref(),
            _ => None,
        };
        let at = keys::idempotency(&scoped(&scope, session), &key);
        let once = Once { at, key, scope, fingerprint, has_session: session.is_some() };
        let key = &once.at;
        let mismatch = || failure(FailureKind::IdempotencyMismatch, "the key was used for another request");
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            let hold = match self.in_flight.enter(key, fingerprint) {
                Entry::First(hold) => hold,
                Entry::Mismatch => return Err(mismatch()),
                Entry::After(mut done) => {
                    let first_is_done = tokio::time::timeout_at(deadline, done.changed());
                    if front::lending(start.place.as_ref(), first_is_done).await.is_err() {
                        return Err(failure(FailureKind::IdempotencyInProgress, "the first request is still being worked on"));
                    }
                    continue;
                }
            };
            match self.reserve(key, fingerprint).await? {
                Some(record) if record.fingerprint != fingerprint => return Err(mismatch()),
                Some(Record { answer: Some(kept), .. }) => {
                    count(&self.metrics.answers_replayed);
                    return Ok(kept.replay());
                }
                // Reserved just now, or by one that broke off: ours.
                _ => {}
            }
            let outcome = self.work_once(plugin, &call, start.clone(), &once).await?;
            // The others need not wait for the effects that this answer waits for.
            drop(hold);
            if let Some(answer) = self.answer(outcome).await {
                return Ok(answer);
            }
            // Answered meanwhile by one whose client had gone away.
        }
    }

    /// The record under the key, which is made if there is none.
    async fn reserve(&self, key: &keys::Key, fingerprint: [u8; 32]) -> Result<Option<Record>, RunError> {
        let now_ms = self.now_ms();
        let expires_ms = now_ms + TTL_MS;
        let reserve = |txn: &mut Txn| {
            let record = read(txn, key)?.filter(|r| r.expires_ms > now_ms);
            if record.is_none() {
                txn.put(key, encode(&Record { fingerprint, expires_ms, answer: None }));
                txn.put(&keys::expiry(expires_ms, key), Vec::new());
            }
            Ok(record)
        };
        self.host(reserve).await
    }

    async fn work_once(
        self: &Arc<Self>,
        plugin: &str,
        call: &PluginCall,
        start: Start,
        once: &Once,
    ) -> Result<Outcome<Response>, Failure> {
        let Once { at: key, fingerprint, .. } = once;
        let fingerprint = *fingerprint;
        let expires_ms = start.now_ms + TTL_MS;
        let outcome = self.run(
            plugin,
            call,
            start,
            |unit| Ok(read(unit.host_txn()?, key)?.is_some_and(|r| r.answer.is_none())),
            |unit, answer| {
                let verdict = finish_request(unit, answer, plugin)?;
                if let Verdict::Commit(response) = &verdict {
                    if response.body.len() > BODY_BYTES_MAX {
                        return Err(too_large(plugin));
                    }
                    let begun = match unit.session_change() {
                        SessionChange::Set(id) => Some(id),
                        _ => None,
                    };
                    keep(unit.host_txn()?, once, expires_ms, response, begun.as_ref());
                }
                Ok(verdict)
            },
        );
        let outcome = match outcome.await {
            Ok(outcome) => outcome,
            Err(e) => {
                self.give_free(key).await;
                return Err(e.into());
            }
        };
        if let (false, Some(response)) = (outcome.committed, &outcome.value) {
            if response.status < 500 && response.body.len() <= BODY_BYTES_MAX {
                let record = encode(&Record { fingerprint, expires_ms, answer: Some(Kept::of(response, None)) });
                self.unless_answered(key, |txn| txn.put(key, record.clone())).await?;
            } else {
                self.give_free(key).await;
            }
        }
        Ok(outcome)
    }

    /// If this fails, the next request with the key takes the reservation over.
    async fn give_free(&self, key: &keys::Key) {
        if let Err(e) = self.unless_answered(key, |txn| txn.delete(key)).await {
            tracing::warn!(target: "work", error = %e, "an Idempotency-Key stays reserved");
        }
    }

    /// Changes what lies under the key, but not an answer: a commit whose
    /// client went away may come in while the next one is at work.
    async fn unless_answered(&self, key: &keys::Key, change: impl Fn(&mut Txn)) -> Result<(), RunError> {
        self.host(|txn| {
            if read(txn, key)?.is_none_or(|r| r.answer.is_none()) {
                change(txn);
            }
            Ok(())
        })
        .await
    }
}

/// Puts the answer where whoever got it, and nobody else, finds it again.
fn keep(txn: &mut Txn, once: &Once, expires_ms: u64, response: &Response, begun: Option<&SessionId>) {
    let record = |session: Option<&SessionId>| {
        let answer = Some(Kept::of(response, session.map(|id| id.0.to_string())));
        encode(&Record { fingerprint: once.fingerprint, expires_ms, answer })
    };
    if let Some(begun) = begun {
        let key = keys::idempotency(&scoped(&once.scope, Some(begun)), &once.key);
        txn.put(&key, record(None));
        txn.put(&keys::expiry(expires_ms, &key), Vec::new());
    }
    if begun.is_none() || once.has_session {
        txn.put(&once.at, record(begun));
    } else {
        txn.delete(&once.at);
    }
}

fn read(txn: &mut Txn, key: &keys::Key) -> Result<Option<Record>, RunError> {
    let bytes = txn.get(key)?;
    Ok(bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
}

fn too_large(plugin: &str) -> RunError {
    RunError::Call(CallError {
        plugin: Some(plugin.to_owned()),
        kind: CallErrorKind::Output,
        message: format!("the answer to a request with Idempotency-Key has more than {BODY_BYTES_MAX} bytes"),
    })
}
