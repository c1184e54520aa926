//! A unit that is rehearsed: `souk plugin call` runs one on a store of its own
//! and never commits it.
//!
//! The fakes are kept with the unit, so that each run finds them as they were
//! at first: randomness that repeats itself, recorded answers of the web, log
//! lines that are kept. What would have been committed is told afterwards.

use std::collections::BTreeMap;

use super::runner::{RunError, host};
use super::unit::{FetchAnswer, Shopper, Start};
use super::{Unit, effects, jobs, keys, outbox};
use crate::chance::Chance;
use crate::engine::bindings::souk::host::http_client::{Error, Request, Response};
use crate::engine::bindings::souk::host::log::Level;
use crate::front::{SessionChange, SessionId};
use crate::store::Store;

/// What stands for the outside world.
#[derive(Default)]
pub struct Rehearsal {
    recorded: Vec<Recorded>,
    pub log: Vec<LogLine>,
    pub fetches: Vec<Fetch>,
    /// By name of the provider.
    pub providers: BTreeMap<String, Executed>,
}

/// By a provider that was asked, which runs in a store of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executed {
    pub calls: u32,
    /// None where the clock stopped it: nobody knows how far it was then.
    pub instructions: Option<u64>,
}

/// What the web is to answer to one request.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub method: String,
    pub url: String,
    pub response: Response,
    given: bool,
}

#[derive(Debug, Clone)]
pub struct LogLine {
    pub plugin: String,
    pub level: Level,
    pub message: String,
    pub fields: Vec<(String, String)>,
}

/// A request that a plugin has made.
#[derive(Debug, Clone)]
pub struct Fetch {
    pub method: String,
    pub url: String,
    /// Status, or why there was no answer.
    pub answer: Result<u16, String>,
    pub is_recorded: bool,
}

impl Recorded {
    pub fn new(method: String, url: String, response: Response) -> Self {
        Self { method, url, response, given: false }
    }

    fn is_for(&self, request: &Request) -> bool {
        self.method == request.method && self.url == request.url
    }
}

impl Unit {
    /// From its beginning.
    pub fn rehearse(&mut self, recorded: Vec<Recorded>) {
        self.chance = Chance::repeatable();
        self.rehearsal = Some(Box::new(Rehearsal { recorded, ..Rehearsal::default() }));
    }
}

impl Rehearsal {
    pub fn executed(&mut self, provider: &str, instructions: Option<u64>) {
        let sum = self.providers.entry(provider.to_owned()).or_insert(Executed { calls: 0, instructions: Some(0) });
        sum.calls += 1;
        sum.instructions = sum.instructions.zip(instructions).map(|(before, more)| before + more);
    }

    /// Equal requests are answered in the order in which they were recorded,
    /// and then with the last one again.
    pub fn answer(&mut self, request: &Request) -> FetchAnswer {
        let next = self.recorded.iter().position(|recorded| !recorded.given && recorded.is_for(request));
        let place = next.or_else(|| self.recorded.iter().rposition(|recorded| recorded.is_for(request)));
        let Some(recorded) = place.and_then(|place| self.recorded.get_mut(place)) else {
            return Err(Error::Failed("error sending request: connection refused".into()));
        };
        recorded.given = true;
        Ok(recorded.response.clone())
    }

    pub fn fetched(&mut self, request: &Request, answer: &FetchAnswer) {
        let is_recorded = self.recorded.iter().any(|recorded| recorded.is_for(request));
        let answer = answer.as_ref().map(|response| response.status).map_err(|error| format!("{error:?}"));
        self.fetches.push(Fetch { method: request.method.clone(), url: request.url.clone(), answer, is_recorded });
    }
}

/// Collection → key → what is there.
pub type Collections<T> = BTreeMap<String, BTreeMap<String, T>>;

/// Fills a store before its first unit.
pub async fn prepare(store: &Store, plugin: &str, documents: &Collections<Vec<u8>>, counters: &Collections<i64>) -> Result<(), RunError> {
    host(store, |txn| {
        for (collection, documents) in documents {
            documents.iter().for_each(|(key, document)| txn.put(&keys::document(plugin, collection, key), document.clone()));
        }
        for (collection, counters) in counters {
            for (key, value) in counters {
                // Nothing is there yet that it could pass.
                _ = txn.counter_add(&keys::counter(plugin, collection, key), *value, None)?;
            }
        }
        Ok(())
    })
    .await
}

/// Begins a session that holds these values of a plugin.
pub async fn prepare_session(store: &Store, start: Start, plugin: &str, values: &BTreeMap<String, String>) -> Result<SessionId, String> {
    let mut unit = Unit::new(store.begin(), Start { shopper: Shopper::Browser(None), ..start });
    unit.rehearse(Vec::new());
    for (key, value) in values {
        unit.session_set(plugin, key, value.clone()).map_err(|error| format!("session.{key}: {error}"))?;
    }
    unit.store_session().map_err(|error| error.to_string())?;
    let SessionChange::Set(id) = unit.session_change() else { return Err("session: there are no values in it".into()) };
    let txn = unit.end().ok_or("the unit has ended")?;
    store.commit(txn).await.map_err(|error| error.to_string())?;
    Ok(id)
}

/// What a unit would commit, by plugin where it is theirs.
#[derive(Default)]
pub struct Staged {
    /// None: deleted.
    pub documents: BTreeMap<String, Collections<Option<Vec<u8>>>>,
    /// What is added.
    pub counters: BTreeMap<String, Collections<i64>>,
    pub events: Vec<Event>,
    pub(crate) effects: Vec<effects::Request>,
    pub jobs: Vec<Job>,
    pub invalidated: Vec<String>,
}

pub struct Event {
    pub publisher: String,
    pub topic: String,
    pub key: String,
    pub payload: Vec<u8>,
}

pub struct Job {
    pub plugin: String,
    pub name: String,
    pub key: String,
    /// None: called off.
    pub due: Option<(u64, Vec<u8>)>,
}

/// Ends the unit and tells what it would have committed.
pub fn end(unit: &mut Unit) -> Staged {
    let mut staged = Staged { invalidated: unit.staged.invalidated.iter().cloned().collect(), ..Staged::default() };
    let Some(txn) = unit.end() else { return staged };
    for (key, value) in txn.written() {
        match keys::written(key) {
            Some(keys::Written::Document(plugin, collection, key)) => {
                let documents = staged.documents.entry(plugin.to_owned()).or_default().entry(collection.to_owned()).or_default();
                documents.insert(key.to_owned(), value.map(|value| value.to_vec()));
            }
            Some(keys::Written::Effect) => staged.effects.extend(value.and_then(|record| effects::asked(record))),
            Some(keys::Written::Job(plugin, name, key)) => {
                let due = value.and_then(|record| jobs::scheduled(record));
                staged.jobs.push(Job { plugin: plugin.to_owned(), name: name.to_owned(), key: key.to_owned(), due });
            }
            None => {}
        }
    }
    for (key, delta) in txn.added() {
        if let Some((plugin, collection, key)) = keys::counted(key) {
            staged.counters.entry(plugin.to_owned()).or_default().entry(collection.to_owned()).or_default().insert(key.to_owned(), delta);
        }
    }
    let published = txn.appended(keys::EVENTS).filter_map(|record| outbox::published(record));
    staged.events.extend(published.map(|(publisher, topic, key, payload)| Event { publisher, topic, key, payload }));
    staged
}
