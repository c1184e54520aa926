//! Runs plugin code natively, without a host: capabilities are in memory, of
//! this thread alone, with a clock and a random source that a test controls.
//!
//! ```
//! use souk_sdk::{clock, events, storage, testing};
//!
//! testing::set_now_ms(1_000);
//! let failed: Result<(), String> = testing::unit(|| {
//!     storage::put("notes", "1", b"written").map_err(|error| error.to_string())?;
//!     Err("rolled back".into())
//! });
//! assert!(failed.is_err());
//! assert_eq!(storage::get("notes", "1"), Ok(None));
//! assert_eq!(clock::now_ms(), 1_000);
//! ```
//!
//! Not faked: services of other plugins, which panic natively, and what only
//! the host can do (limits over many units, conflicts between units).
//! [`scenarios`] runs the built component in the host's own engine.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value as Json;

use crate::bindings::host::{config::ShopFacts, effects::Effect, http_client, log::Level, search};
use crate::bindings::web::types::Request;

/// What a test can look at afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// As the manifest names it under `publishes`.
    pub topic: String,
    /// Events of one key are heard in order.
    pub key: String,
    /// JSON by convention.
    pub payload: Vec<u8>,
}

impl Published {
    /// The payload as JSON.
    ///
    /// # Panics
    ///
    /// Where it is none.
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.payload).expect("events carry JSON by convention")
    }
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduled {
    /// When it is due, in UTC milliseconds.
    pub at_ms: u64,
    /// JSON by convention.
    pub payload: Vec<u8>,
}

type Fetch = Rc<dyn Fn(&http_client::Request) -> Result<http_client::Response, http_client::Error>>;
/// Collection or index, then key.
type Place = (String, String);

#[derive(Clone)]
struct State {
    documents: BTreeMap<Place, Vec<u8>>,
    counters: BTreeMap<Place, i64>,
    indexed: BTreeMap<Place, Vec<search::Field>>,
    cache: BTreeMap<String, Vec<u8>>,
    session: Option<BTreeMap<String, String>>,
    session_id: u64,
    config: Json,
    shop: ShopFacts,
    secrets: BTreeMap<String, String>,
    events: Vec<Published>,
    effects: Vec<Effect>,
    jobs: BTreeMap<Place, Scheduled>,
    invalidated: BTreeSet<String>,
    log: Vec<(Level, String)>,
    metrics: BTreeMap<String, f64>,
    fetch: Option<Fetch>,
    now_ms: u64,
    random: u64,
    read_only: bool,
    form: u32,
    caller: Option<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            documents: BTreeMap::new(),
            counters: BTreeMap::new(),
            indexed: BTreeMap::new(),
            cache: BTreeMap::new(),
            session: Some(BTreeMap::new()),
            session_id: 1,
            config: Json::Object(serde_json::Map::new()),
            shop: ShopFacts {
                name: "Test shop".into(),
                base_url: "https://shop.example".into(),
                currency: "CNY".into(),
                locales: vec!["en".into(), "zh-CN".into()],
                time_zone: "Asia/Shanghai".into(),
                country: "CN".into(),
            },
            secrets: BTreeMap::new(),
            events: Vec::new(),
            effects: Vec::new(),
            jobs: BTreeMap::new(),
            invalidated: BTreeSet::new(),
            log: Vec::new(),
            metrics: BTreeMap::new(),
            fetch: None,
            // 2026-01-01T00:00:00Z
            now_ms: 1_767_225_600_000,
            random: 1,
            read_only: false,
            form: 1,
            caller: None,
        }
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(work)
}

/// Forgets everything. A test thread starts fresh: only cases in a loop need it.
pub fn reset() {
    with(|state| *state = State::default());
}

/// One unit of work: an error leaves no trace, except in the log.
pub fn unit<T, E>(handler: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let before = with(|state| state.clone());
    handler().inspect_err(|_| {
        with(|state| {
            let log = std::mem::take(&mut state.log);
            *state = State { log, random: state.random, ..before };
        });
    })
}

/// A unit that may not write, as extension points and self-checks have.
pub fn read_only<T>(handler: impl FnOnce() -> T) -> T {
    with(|state| state.read_only = true);
    let answer = handler();
    with(|state| state.read_only = false);
    answer
}

/// Sets the clock, in UTC milliseconds; it stands at the beginning of 2026 unless set.
pub fn set_now_ms(now_ms: u64) {
    with(|state| state.now_ms = now_ms);
}

/// Moves the clock on.
pub fn advance_ms(ms: u64) {
    with(|state| state.now_ms += ms);
}

/// Chance repeats itself: the same seed gives the same bytes and tokens.
pub fn set_random_seed(seed: u64) {
    with(|state| state.random = seed);
}

/// The plugin whose calls the tested service answers; none, the host, unless set.
pub fn set_caller(plugin: Option<&str>) {
    with(|state| state.caller = plugin.map(Into::into));
}

/// The form in which documents are to be written; the first unless set.
pub fn set_form(form: u32) {
    with(|state| state.form = form);
}

/// All settings, as a JSON object with the defaults of `plugin.toml` filled in.
pub fn set_config(document: Json) {
    with(|state| state.config = document);
}

/// What [`config::shop`](crate::config::shop) answers.
pub fn set_shop(shop: ShopFacts) {
    with(|state| state.shop = shop);
}

/// A secret as the operator grants it.
pub fn set_secret(name: &str, value: &str) {
    with(|state| state.secrets.insert(name.into(), value.into()));
}

/// From here on there is no shopper, as in an event or a job.
pub fn without_session() {
    with(|state| state.session = None);
}

/// Answers `http::fetch`; without it every fetch is refused.
pub fn on_fetch(answer: impl Fn(&http_client::Request) -> Result<http_client::Response, http_client::Error> + 'static) {
    with(|state| state.fetch = Some(Rc::new(answer)));
}

/// What was published, the first first.
pub fn events() -> Vec<Published> {
    with(|state| state.events.clone())
}

/// What was asked of the outside world, the first first.
pub fn effects() -> Vec<Effect> {
    with(|state| state.effects.clone())
}

/// By name and key.
pub fn jobs() -> BTreeMap<(String, String), Scheduled> {
    with(|state| state.jobs.clone())
}

/// Tags of pages that are to be made anew.
pub fn invalidated_tags() -> BTreeSet<String> {
    with(|state| state.invalidated.clone())
}

/// Every line that was logged.
pub fn log() -> Vec<(Level, String)> {
    with(|state| state.log.clone())
}

/// Sum of a count, last value of a gauge or observation; 0 if there was none.
pub fn metric(name: &str) -> f64 {
    with(|state| state.metrics.get(name).copied().unwrap_or_default())
}

/// A request to a route; `target` is a path with or without a query.
pub fn get(route: &str, target: &str) -> Request {
    request("GET", route, target, "", Vec::new())
}

/// A form sent to a route.
pub fn post_form(route: &str, target: &str, fields: &[(&str, &str)]) -> Request {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    request("POST", route, target, "application/x-www-form-urlencoded", body.into_bytes())
}

/// JSON sent to a route.
pub fn post_json(route: &str, target: &str, body: &impl Serialize) -> Request {
    request("POST", route, target, "application/json", serde_json::to_vec(body).expect("a test's body has a JSON form"))
}

fn request(method: &str, route: &str, target: &str, content_type: &str, body: Vec<u8>) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Request {
        method: method.into(),
        path: path.into(),
        query: query.into(),
        route: route.into(),
        params: Vec::new(),
        headers: vec![("content-type".into(), content_type.into())],
        body,
        locale: "en".into(),
        locale_prefix: String::new(),
        request_id: "test".into(),
        client_address: "192.0.2.1".into(),
        caller: String::new(),
    }
}

/// Builds this crate's plugin and runs the scenarios in its folder as a shop
/// would run it: `souk plugin test`. `souk` is found on the path, or where the
/// environment variable `SOUK` says.
///
/// # Panics
///
/// Where a scenario fails, or there is no `souk`; with what it said.
#[track_caller]
pub fn scenarios() {
    let of_environment = |name: &str, usual: &str| std::env::var_os(name).unwrap_or_else(|| usual.into());
    let (souk, folder) = (of_environment("SOUK", "souk"), of_environment("CARGO_MANIFEST_DIR", "."));
    match std::process::Command::new(&souk).args(["plugin", "test"]).arg(folder).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
        }
        Err(error) => panic!("`{}` does not start ({error}): put `souk` on the path, or name it with SOUK=/path/to/souk", souk.display()),
    }
}

/// The capabilities. A function that is missing here panics when called.
pub(crate) mod capability {
    use super::{Published, Scheduled, State, with};

    /// Every capability with writes has its own error type with this case.
    macro_rules! writable {
        ($state:ident) => {
            if $state.read_only {
                return Err(Error::ReadOnly);
            }
        };
    }

    pub mod storage {
        use std::ops::Bound;

        pub use crate::bindings::host::storage::*;

        use super::{State, with};

        const KEY_BYTES_MAX: usize = 512;
        const VALUE_BYTES_MAX: usize = 256 * 1024;
        const SCAN_MAX: u32 = 1_000;

        fn place(collection: &str, key: &str) -> Result<(String, String), Error> {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if !(1..=64).contains(&collection.len()) || !collection.bytes().all(allowed) {
                return Err(Error::Invalid(format!("collection `{collection}`")));
            }
            if !(1..=KEY_BYTES_MAX).contains(&key.len()) || key.contains('\0') {
                return Err(Error::Invalid(format!("key `{key}` of `{collection}`")));
            }
            Ok((collection.into(), key.into()))
        }

        /// None where there is no document.
        pub fn get(collection: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
            let place = place(collection, key)?;
            Ok(with(|state| state.documents.get(&place).cloned()))
        }

        /// One result a key, in the order asked. At most 1,000 keys.
        pub fn get_many(collection: &str, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
            keys.iter().map(|key| get(collection, key)).collect()
        }

        /// Adds or replaces a document of at most 256 KiB.
        pub fn put(collection: &str, key: &str, value: &[u8]) -> Result<(), Error> {
            let place = place(collection, key)?;
            if value.len() > VALUE_BYTES_MAX {
                return Err(Error::Invalid(format!("value of {} bytes", value.len())));
            }
            with(|state| {
                writable!(state);
                state.documents.insert(place, value.to_vec());
                Ok(())
            })
        }

        /// Deleting what is not there is no error.
        pub fn delete(collection: &str, key: &str) -> Result<(), Error> {
            let place = place(collection, key)?;
            with(|state| {
                writable!(state);
                state.documents.remove(&place);
                Ok(())
            })
        }

        /// Entries in byte order of their keys, or the reverse; `limit` is capped at 1,000.
        pub fn scan(collection: &str, range: &Range, limit: u32, reverse: bool) -> Result<Vec<Entry>, Error> {
            let start = (collection.to_owned(), range.start.clone().unwrap_or_default());
            let end = match &range.end {
                Some(end) => (collection.to_owned(), end.clone()),
                // The next collection name there can be.
                None => (format!("{collection}\0"), String::new()),
            };
            if start >= end {
                return Ok(Vec::new());
            }
            let limit = limit.min(SCAN_MAX) as usize;
            let entry = |((_, key), value): (&(String, String), &Vec<u8>)| Entry { key: key.clone(), value: value.clone() };
            Ok(with(|state: &mut State| {
                let found = state.documents.range((Bound::Included(start), Bound::Excluded(end))).map(entry);
                if reverse { found.rev().take(limit).collect() } else { found.take(limit).collect() }
            }))
        }

        /// 0 where nothing was added. The unit depends on it.
        pub fn counter_get(collection: &str, key: &str) -> Result<i64, Error> {
            let place = place(collection, key)?;
            Ok(with(|state| state.counters.get(&place).copied().unwrap_or_default()))
        }

        /// The same without depending on it.
        pub fn counter_peek(collection: &str, key: &str) -> Result<i64, Error> {
            counter_get(collection, key)
        }

        /// Adds, and gives the new value; with a floor it is never below it.
        pub fn counter_add(collection: &str, key: &str, delta: i64, floor: Option<i64>) -> Result<i64, Error> {
            let place = place(collection, key)?;
            with(|state| {
                writable!(state);
                let value = state.counters.entry(place).or_default();
                let sum = value.checked_add(delta).ok_or_else(|| Error::Invalid("counter overflow".into()))?;
                if floor.is_some_and(|floor| sum < floor) {
                    return Err(Error::BelowFloor(*value));
                }
                *value = sum;
                Ok(sum)
            })
        }
    }

    /// Bytes that can be computed again, in memory, outside the unit of work.
    pub mod cache {
        use super::with;

        /// None where nothing is kept: the caller then computes it and calls [`put`].
        pub fn get(key: &str) -> Option<Vec<u8>> {
            with(|state| state.cache.get(key).cloned())
        }

        /// Key at most 512 bytes, value at most 1 MiB; larger ones are not kept.
        pub fn put(key: &str, value: &[u8], _ttl_ms: u32) {
            with(|state| state.cache.insert(key.into(), value.to_vec()));
        }

        /// From the next [`get`] on it is missed.
        pub fn delete(key: &str) {
            with(|state| state.cache.remove(key));
        }
    }

    /// Finds documents that contain every word; no ranking, no highlights.
    pub mod search {
        use std::collections::BTreeMap;

        pub use crate::bindings::host::search::*;

        use super::with;

        fn texts(field: &Field) -> Vec<&str> {
            match &field.value {
                Value::Text(text) => vec![text],
                Value::Many(texts) => texts.iter().map(String::as_str).collect(),
                Value::Number(_) => Vec::new(),
            }
        }

        fn numbers(field: &Field) -> Vec<i64> {
            match &field.value {
                Value::Number(number) => vec![*number],
                Value::Many(values) => values.iter().filter_map(|value| value.parse().ok()).collect(),
                Value::Text(_) => Vec::new(),
            }
        }

        fn number(fields: &[Field], name: &str) -> Option<i64> {
            fields.iter().find(|field| field.name == name).and_then(|field| numbers(field).into_iter().min())
        }

        fn matches(fields: &[Field], query: &SearchQuery) -> bool {
            let has = |name: &str, value: &String| fields.iter().any(|field| field.name == name && texts(field).contains(&value.as_str()));
            let passes = |filter: &Filter| match filter {
                Filter::AnyOf(filter) => filter.values.iter().any(|value| has(&filter.field, value)),
                Filter::Between(filter) => fields.iter().filter(|field| field.name == filter.field).flat_map(numbers).any(|number| {
                    filter.min.is_none_or(|min| min <= number) && filter.max.is_none_or(|max| number <= max)
                }),
            };
            let looked_in = |field: &&Field| query.fields.is_empty() || query.fields.contains(&field.name);
            let all: String = fields.iter().filter(looked_in).flat_map(texts).collect::<Vec<_>>().join(" ").to_lowercase();
            query.text.to_lowercase().split_whitespace().all(|word| all.contains(word)) && query.filters.iter().all(passes)
        }

        /// Adds or replaces a document, once the unit is committed.
        pub fn put(index: &str, id: &str, fields: &[Field]) -> Result<(), Error> {
            with(|state| {
                writable!(state);
                state.indexed.insert((index.into(), id.into()), fields.to_vec());
                Ok(())
            })
        }

        /// Deleting what is not there is no error.
        pub fn delete(index: &str, id: &str) -> Result<(), Error> {
            with(|state| {
                writable!(state);
                state.indexed.remove(&(index.into(), id.into()));
                Ok(())
            })
        }

        /// Matches, the best first.
        pub fn query(index: &str, query: &SearchQuery) -> Result<Results, Error> {
            with(|state| {
                let mut found: Vec<(&String, &Vec<Field>)> = (state.indexed.iter())
                    .filter(|((name, _), fields)| name == index && matches(fields, query))
                    .map(|((_, id), fields)| (id, fields))
                    .collect();
                match &query.sort {
                    Sort::Relevance => {}
                    Sort::Ascending(field) => found.sort_by_key(|(_, fields)| number(fields, field)),
                    Sort::Descending(field) => found.sort_by_key(|(_, fields)| std::cmp::Reverse(number(fields, field))),
                }
                let facets = query.facets.iter().map(|name| {
                    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
                    for field in found.iter().flat_map(|(_, fields)| fields.iter()).filter(|field| field.name == *name) {
                        for value in texts(field) {
                            *counts.entry(value).or_default() += 1;
                        }
                    }
                    let values = counts.into_iter().map(|(value, count)| FacetValue { value: value.into(), count });
                    Facet { field: name.clone(), values: values.collect() }
                });
                Ok(Results {
                    total: found.len() as u64,
                    facets: facets.collect(),
                    hits: (found.iter().skip(query.offset as usize).take(query.limit as usize))
                        .map(|(id, _)| Hit { id: (*id).clone(), score: 1.0, highlights: Vec::new() })
                        .collect(),
                    corrected: false,
                })
            })
        }

        /// Completions of what was typed so far, the best first. At most 20.
        pub fn suggest(index: &str, prefix: &str, limit: u32) -> Result<Vec<String>, Error> {
            with(|state| {
                let fields = state.indexed.iter().filter(|((name, _), _)| name == index).flat_map(|(_, fields)| fields);
                let words = fields.flat_map(texts).flat_map(str::split_whitespace).map(str::to_lowercase);
                let found: std::collections::BTreeSet<String> =
                    words.filter(|word| word.starts_with(&prefix.to_lowercase())).collect();
                Ok(found.into_iter().take(limit as usize).collect())
            })
        }
    }

    /// State of one shopper's browser, kept on the server under a signed cookie.
    pub mod session {
        use std::collections::BTreeMap;

        pub use crate::bindings::host::session::*;

        use super::with;

        fn stored<T>(work: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> Result<T, Error> {
            with(|state| state.session.as_mut().map(work).ok_or(Error::None))
        }

        fn written<T>(work: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> Result<T, Error> {
            with(|state| {
                writable!(state);
                Ok(())
            })?;
            stored(work)
        }

        /// Unguessable, and stable until [`rotate`].
        pub fn id() -> Result<String, Error> {
            stored(|_| ())?;
            Ok(with(|state| format!("session-{}", state.session_id)))
        }

        /// None where nothing is stored under it.
        pub fn get(key: &str) -> Result<Option<String>, Error> {
            stored(|session| session.get(key).cloned())
        }

        /// Key at most 64 bytes, value at most 4 KiB.
        pub fn set(key: &str, value: &str) -> Result<(), Error> {
            if !(1..=64).contains(&key.len()) || value.len() > 4096 {
                return Err(Error::Invalid(format!("session key `{key}` or its value is too long")));
            }
            written(|session| session.insert(key.into(), value.into())).map(drop)
        }

        /// Deleting what is not there is no error.
        pub fn delete(key: &str) -> Result<(), Error> {
            written(|session| session.remove(key)).map(drop)
        }

        /// A new id for the same state: for when the shopper signs in.
        pub fn rotate() -> Result<(), Error> {
            written(|_| ())?;
            with(|state| state.session_id += 1);
            Ok(())
        }
    }

    /// The host's page cache; pages get into it by [`cached`](crate::web::Response::cached).
    pub mod pages {
        /// Drops every kept page with one of these tags, at the commit.
        pub fn invalidate(tags: &[String]) {
            super::with(|state| state.invalidated.extend(tags.iter().cloned()));
        }
    }

    pub mod config {
        pub use crate::bindings::host::config::*;

        /// All settings as one JSON object.
        pub fn document() -> String {
            super::with(|state| state.config.to_string())
        }

        /// One setting as JSON.
        pub fn get(name: &str) -> Option<String> {
            super::with(|state| state.config.get(name).map(ToString::to_string))
        }

        /// The shop's own facts, the same for all plugins.
        pub fn shop() -> ShopFacts {
            super::with(|state| state.shop.clone())
        }
    }

    pub mod events {
        pub use crate::bindings::host::events::*;

        use super::{Published, with};

        /// Publishes with the commit; at most 64 KiB, JSON by convention.
        pub fn publish(topic: &str, key: &str, payload: &[u8]) -> Result<(), Error> {
            with(|state| {
                writable!(state);
                state.events.push(Published { topic: topic.into(), key: key.into(), payload: payload.to_vec() });
                Ok(())
            })
        }
    }

    pub mod effects {
        pub use crate::bindings::host::effects::*;

        use super::with;

        /// Stored with the unit, and carried out after its commit.
        pub fn request(effect: &Effect) -> Result<(), Error> {
            with(|state| {
                writable!(state);
                if !state.effects.iter().any(|stored| stored.key == effect.key) {
                    state.effects.push(effect.clone());
                }
                Ok(())
            })
        }

        /// Takes back what was asked for under this key.
        pub fn withdraw(key: &str) -> Result<bool, Error> {
            with(|state| {
                writable!(state);
                let before = state.effects.len();
                state.effects.retain(|stored| stored.key != key);
                Ok(state.effects.len() < before)
            })
        }
    }

    pub mod jobs {
        pub use crate::bindings::host::jobs::*;

        use super::{Scheduled, with};

        /// Runs once at or after `at_ms` (UTC milliseconds); the same name and key again moves it.
        pub fn schedule(name: &str, key: &str, at_ms: u64, payload: &[u8]) -> Result<(), Error> {
            with(|state| {
                writable!(state);
                state.jobs.insert((name.into(), key.into()), Scheduled { at_ms, payload: payload.to_vec() });
                Ok(())
            })
        }

        /// Cancelling what is not scheduled is no error.
        pub fn cancel(name: &str, key: &str) -> Result<(), Error> {
            with(|state| {
                writable!(state);
                state.jobs.remove(&(name.into(), key.into()));
                Ok(())
            })
        }
    }

    /// HTTP to hosts that the manifest names, before the first write of a unit.
    pub mod http_client {
        pub use crate::bindings::host::http_client::*;

        /// Before the first write of the unit, to hosts of the manifest.
        pub fn fetch(request: &Request) -> Result<Response, Error> {
            let answer = super::with(|state| state.fetch.clone());
            match answer {
                Some(answer) => answer(request),
                None => Err(Error::NotGranted(format!("{}: the test gave no `testing::on_fetch`", request.url))),
            }
        }
    }

    /// Secrets of the operator's, granted one by one.
    pub mod secrets {
        /// None unless the manifest names it and the operator has granted and written it.
        pub fn get(name: &str) -> Option<String> {
            super::with(|state| state.secrets.get(name).cloned())
        }
    }

    /// Real digests and MACs. Signatures and seals only behave like theirs: keys
    /// are derived from names, and what is sealed can be read.
    pub mod crypto {
        use hmac::{Hmac, KeyInit, Mac};
        use sha2::{Digest, Sha256};

        pub use crate::bindings::host::crypto::*;

        const MAC_BYTES: usize = 32;

        fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
            for part in parts {
                mac.update(part);
            }
            mac.finalize().into_bytes().to_vec()
        }

        /// SHA-256.
        pub fn digest(data: &[u8]) -> Vec<u8> {
            Sha256::digest(data).to_vec()
        }

        /// HMAC-SHA-256 under a named key.
        pub fn mac(key: &str, data: &[u8]) -> Result<Vec<u8>, Error> {
            Ok(hmac(key.as_bytes(), &[data]))
        }

        /// Compares in constant time.
        pub fn verify_mac(key: &str, data: &[u8], given: &[u8]) -> Result<bool, Error> {
            Ok(mac(key, data)? == given)
        }

        /// HMAC-SHA-256 under a secret of the operator's, by its name.
        pub fn secret_mac(secret: &str, data: &[u8]) -> Result<Vec<u8>, Error> {
            let value = super::secrets::get(secret).ok_or_else(|| Error::Invalid(format!("no secret `{secret}`")))?;
            Ok(hmac(value.as_bytes(), &[data]))
        }

        /// Ed25519 under a named key.
        pub fn sign(key: &str, data: &[u8]) -> Result<Vec<u8>, Error> {
            Ok(hmac(&public_key(key)?, &[data]))
        }

        /// Of a named key: 32 bytes.
        pub fn public_key(key: &str) -> Result<Vec<u8>, Error> {
            Ok(digest(key.as_bytes()))
        }

        /// Whether the owner of the public key has signed this.
        pub fn verify(public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<bool, Error> {
            Ok(hmac(public_key, &[data]) == signature)
        }

        /// Encrypted and authenticated; `context` is bound to it.
        pub fn seal(key: &str, context: &[u8], data: &[u8]) -> Result<Vec<u8>, Error> {
            let mut sealed = hmac(key.as_bytes(), &[&digest(context), data]);
            sealed.extend_from_slice(data);
            Ok(sealed)
        }

        /// What was sealed under the same key and context.
        pub fn open(key: &str, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
            let (mac, data) = sealed.split_at_checked(MAC_BYTES).ok_or(Error::NotAuthentic)?;
            let expected = hmac(key.as_bytes(), &[&digest(context), data]);
            if mac == expected { Ok(data.to_vec()) } else { Err(Error::NotAuthentic) }
        }

        /// Argon2id, as a PHC string.
        pub fn hash_password(password: &str) -> Result<String, Error> {
            Ok(digest(password.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
        }

        /// Whether it is the password of this hash.
        pub fn verify_password(password: &str, hash: &str) -> Result<bool, Error> {
            Ok(hash_password(password)? == hash)
        }
    }

    /// What cannot be guessed.
    pub mod random {
        /// SplitMix64: the same numbers for the same seed.
        fn next() -> u64 {
            super::with(|state| {
                state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state.random ^ state.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ mixed >> 31
            })
        }

        /// At most 64 KiB.
        pub fn bytes(length: u32) -> Vec<u8> {
            (0..length).map(|_| next() as u8).collect()
        }

        /// Unguessable and fit for URLs: `length` of A-Z a-z 0-9, at most 256.
        pub fn token(length: u32) -> String {
            const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
            (0..length).map(|_| char::from(LETTERS[next() as usize % LETTERS.len()])).collect()
        }
    }

    /// For plugins whose documents change their form from one version to the next.
    pub mod data {
        pub use crate::bindings::host::data::*;

        /// The form in which documents are to be written in this unit.
        pub fn form() -> Result<u32, Error> {
            Ok(super::with(|state| state.form))
        }
    }

    /// For services: who calls.
    pub mod caller {
        /// The plugin that has called the service which now runs; none where the host does.
        pub fn name() -> Option<String> {
            super::with(|state| state.caller.clone())
        }
    }

    /// The time: UTC, and the same throughout a unit.
    pub mod clock {
        /// UTC milliseconds, the same throughout a unit.
        pub fn now_ms() -> u64 {
            super::with(|state| state.now_ms)
        }

        /// For measuring.
        pub fn monotonic_ns() -> u64 {
            now_ms() * 1_000_000
        }
    }

    pub mod log {
        pub use crate::bindings::host::log::*;

        /// One line; the macros of this module are shorter.
        pub fn write(level: Level, message: &str, fields: &[(String, String)]) {
            let fields: String = fields.iter().map(|(key, value)| format!(" {key}={value}")).collect();
            super::with(|state| state.log.push((level, format!("{message}{fields}"))));
        }
    }

    /// Figures for the operator, as `souk_plugin_<name>` under `/metrics`.
    pub mod metrics {
        use super::with;

        /// Adds to a counter.
        pub fn count(name: &str, _labels: &[(String, String)], amount: u64) {
            with(|state| *state.metrics.entry(name.into()).or_default() += amount as f64);
        }

        /// Sets a value.
        pub fn gauge(name: &str, _labels: &[(String, String)], value: f64) {
            with(|state| state.metrics.insert(name.into(), value));
        }

        /// A duration or size, of which the host keeps a histogram.
        pub fn observe(name: &str, labels: &[(String, String)], value: f64) {
            gauge(name, labels, value);
        }
    }

    /// Files of the plugin's `assets/`, which the host serves.
    pub mod assets {
        /// `/assets/storefront/3f2a…/shop.css` for `shop.css`.
        pub fn url(path: &str) -> Option<String> {
            Some(format!("/assets/{path}"))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(expected = "`souk::commerce::payment::get` is another plugin's")]
    fn who_calls_another_plugin_natively_is_told_why_that_fails() {
        let _ = crate::commerce::payment::get("p1");
    }
}
