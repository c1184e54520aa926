//! One unit of work: a transaction, and everything that is staged beside it
//! until it ends.
//!
//! Made by the runner, shared with the engine for the time of one call, used
//! by the capabilities: they lock it for the length of one host call, never
//! across an await. Once the unit has ended every call fails with
//! [`UnitError::Ended`], whoever still holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::OwnedMutexGuard;

use super::rehearsal::Rehearsal;
use super::{LivePlugins, keys};
use crate::chance::Chance;
use crate::engine::bindings::souk::host::http_client;
use crate::engine::Account;
use crate::front::{self, Origin, Place, SessionChange, SessionId};
use crate::store::{StoreError, Txn};

pub type SharedUnit = Arc<Mutex<Unit>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Event,
    Effect,
    Job,
    Command,
    SelfCheck,
}

/// What one unit may do. Storage operations are also limited by the manifest of
/// whoever does them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Overrides the manifests' `storage-operations` if larger.
    pub operations_min: u32,
    /// Read and written, keys and values.
    pub bytes_max: u64,
    pub events_max: u32,
    pub effects_max: u32,
    pub jobs_max: u32,
    pub invalidated_tags_max: usize,
    pub log_lines_max: u32,
    pub log_bytes_max: u32,
    /// Web requests of each plugin, and what their answers have together: they
    /// are kept for the case that the unit is run again.
    pub fetches_max: usize,
    pub fetched_bytes_max: usize,
}

impl Limits {
    pub const USUAL: Limits = Limits {
        operations_min: 0,
        bytes_max: 64 << 20,
        events_max: 256,
        effects_max: 64,
        jobs_max: 256,
        invalidated_tags_max: 1_024,
        log_lines_max: 64,
        log_bytes_max: 64 << 10,
        fetches_max: 64,
        fetched_bytes_max: 16 << 20,
    };
    /// An operator's import is one unit.
    pub const COMMAND: Limits = Limits {
        operations_min: 20_000_000,
        bytes_max: 4 << 30,
        events_max: 1_000_000,
        effects_max: 100_000,
        jobs_max: 100_000,
        invalidated_tags_max: 1_000_000,
        log_lines_max: 10_000,
        log_bytes_max: 10 << 20,
        fetches_max: 10_000,
        fetched_bytes_max: 256 << 20,
    };
}

pub const SESSION_TTL_MS: u64 = 30 * 24 * 3_600_000;
/// A session that is only read is written this seldom, to move its end.
const SESSION_TOUCH_MS: u64 = 24 * 3_600_000;
pub const SESSION_KEY_BYTES_MAX: usize = 64;
pub const SESSION_VALUE_BYTES_MAX: usize = 4 << 10;
/// Of each plugin: none takes the room of another.
const SESSION_VALUES_MAX: usize = 64;
/// Values that others wait for, because a guest has said it will compute them.
const LEASES_MAX: u32 = 256;
const TAG_BYTES_MAX: usize = 512;

#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    #[error("this unit may only read")]
    ReadOnly,
    #[error("{0}")]
    Quota(String),
    #[error("the unit of work has ended")]
    Ended,
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub struct Unit {
    /// None once the unit has ended.
    txn: Option<Txn>,
    pub kind: Kind,
    /// UTC; the same throughout the unit and its re-runs.
    pub now_ms: u64,
    /// 1 on the first run.
    pub attempt: u32,
    pub request_id: String,
    /// Plugins in whose name the one that now runs does so: the one that the
    /// host called, and whoever asked an extension point.
    behalf: SmallVec<[Arc<str>; 2]>,
    /// What was live when the unit began.
    pub live: Arc<LivePlugins>,
    limits: &'static Limits,
    read_only: u32,
    spent: Spent,
    session: Session,
    fetches: Fetches,
    pub(super) staged: Staged,
    held: Vec<Box<dyn std::any::Any + Send>>,
    /// Providers, and what each has taken of its time.
    kept_waiting: SmallVec<[(Arc<str>, Duration); 2]>,
    /// A version on trial had a part in it.
    pub tried: bool,
    /// One has failed at it: this run and later ones are the live version's.
    pub live_only: bool,
    pub chance: Chance,
    /// A request's at the gate.
    pub(super) place: Option<Place>,
    /// Whose share it is done from; none for the shop's own.
    pub payer: Option<Arc<Account>>,
    /// Where it stands among those who conflict with it; none before it has.
    pub(super) turn: Option<Arc<Turn>>,
    /// How a request came about that a plugin has sent to its own shop.
    pub origin: Option<Origin>,
    /// What stands for the outside world; none in a shop.
    pub rehearsal: Option<Box<Rehearsal>>,
}

/// Counted against [`Limits`].
#[derive(Debug, Default)]
struct Spent {
    operations: u32,
    bytes: u64,
    log_lines: u32,
    log_bytes: u32,
    leases: u32,
}

/// What the runner has to see to after the commit.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub events: u32,
    /// Effects asked for, in this unit or already before it.
    pub effects: Vec<StagedEffect>,
    /// Job keys scheduled or cancelled by handlers in this unit.
    pub jobs: Vec<(keys::Key, Option<u64>)>,
    pub invalidated: BTreeSet<String>,
}

#[derive(Debug, Clone)]
pub(super) struct StagedEffect {
    pub key: keys::Key,
    pub target: String,
    pub due_ms: u64,
}

/// Where a unit begins.
#[derive(Clone)]
pub struct Start {
    pub kind: Kind,
    pub now_ms: u64,
    pub request_id: String,
    /// Whom the host calls.
    pub plugin: Option<Arc<str>>,
    pub live: Arc<LivePlugins>,
    pub limits: &'static Limits,
    pub shopper: Shopper,
    pub place: Option<Place>,
    pub payer: Option<Arc<Account>>,
    pub origin: Option<Origin>,
}

/// Whose session the unit may use.
#[derive(Debug, Clone)]
pub enum Shopper {
    None,
    /// A browser, with the session that its cookie names, if it has one.
    Browser(Option<SessionId>),
}

/// The turn of a unit among those who conflicted on one key: the number of the line, until it is dropped.
#[derive(Default)]
pub(super) struct Turn(Mutex<Option<(usize, OwnedMutexGuard<()>)>>);

impl Turn {
    pub fn take(&self, place: usize, taken: OwnedMutexGuard<()>) {
        *self.0.lock() = Some((place, taken));
    }

    pub fn leave(&self) {
        drop(self.0.lock().take());
    }

    pub fn place(&self) -> Option<usize> {
        self.0.lock().as_ref().map(|(place, _)| *place)
    }
}

/// Before its share holds a unit back: nobody stands behind it meanwhile.
pub fn stand_back(unit: &SharedUnit) {
    if let Some(turn) = &unit.lock().turn {
        turn.leave();
    }
}

/// Awaits what a unit's guest waits for, with its request's place lent meanwhile.
pub async fn waits<T>(unit: &SharedUnit, awaited: impl Future<Output = T>) -> T {
    let place = unit.lock().place.clone();
    front::lending(place.as_ref(), awaited).await
}

impl Unit {
    pub fn new(txn: Txn, start: Start) -> Self {
        Self {
            txn: Some(txn),
            kind: start.kind,
            now_ms: start.now_ms,
            attempt: 1,
            request_id: start.request_id,
            behalf: start.plugin.into_iter().collect(),
            live: start.live,
            limits: start.limits,
            // A self-check runs against live data before its version is live.
            read_only: u32::from(start.kind == Kind::SelfCheck),
            spent: Spent::default(),
            session: Session { shopper: start.shopper, ..Session::default() },
            fetches: Fetches::default(),
            staged: Staged::default(),
            held: Vec::new(),
            kept_waiting: SmallVec::new(),
            tried: false,
            live_only: false,
            chance: Chance::default(),
            place: start.place,
            payer: start.payer,
            turn: None,
            origin: start.origin,
            rehearsal: None,
        }
    }

    /// A new unit for the next attempt at the same work: all staged is gone,
    /// what the outside world has answered is kept.
    pub(super) fn rerun(&mut self, txn: Txn) -> Self {
        let mut fetches = std::mem::take(&mut self.fetches);
        fetches.rewind();
        let start = Start {
            kind: self.kind,
            now_ms: self.now_ms,
            request_id: std::mem::take(&mut self.request_id),
            plugin: self.behalf.first().cloned(),
            live: self.live.clone(),
            limits: self.limits,
            shopper: self.session.shopper.clone(),
            place: self.place.clone(),
            payer: self.payer.clone(),
            origin: self.origin.clone(),
        };
        let kept_waiting = std::mem::take(&mut self.kept_waiting);
        Self { attempt: self.attempt + 1, fetches, kept_waiting, live_only: self.live_only, turn: self.turn.clone(), ..Self::new(txn, start) }
    }

    /// The same after a version on trial has failed at it.
    pub(super) fn rerun_live(&mut self, txn: Txn) -> Self {
        self.live_only = true;
        self.rerun(txn)
    }

    /// Adds what `provider` has taken of this unit's time, and tells what it had taken before.
    pub fn kept_waiting(&mut self, provider: &str, taken: Duration) -> Duration {
        match self.kept_waiting.iter_mut().find(|(name, _)| **name == *provider) {
            Some((_, all)) => std::mem::replace(all, *all + taken),
            None => {
                self.kept_waiting.push((provider.into(), taken));
                Duration::ZERO
            }
        }
    }

    /// What stays the same for one shopper, as far as the host knows: the
    /// session, or else this request alone.
    pub fn shopper_or_request(&self) -> &str {
        match &self.session.shopper {
            Shopper::Browser(Some(session)) => &session.0,
            _ => &self.request_id,
        }
    }

    /// Whether `plugin` is one of those in whose name this one runs.
    pub fn acts_for(&self, plugin: &str) -> bool {
        self.behalf.iter().any(|caller| **caller == *plugin)
    }

    /// For logs: on whose behalf `plugin` acts, the first caller first. The host
    /// does not see who calls whom within the shop's graph.
    pub fn behalf_of(&self, plugin: &str) -> String {
        let mut callers: Vec<&str> = self.behalf.iter().map(|caller| &**caller).collect();
        callers.dedup();
        callers.pop_if(|last| *last == plugin);
        callers.join(" > ")
    }

    pub fn shared(self) -> SharedUnit {
        Arc::new(Mutex::new(self))
    }

    /// Takes the transaction out: the unit has ended.
    pub(crate) fn end(&mut self) -> Option<Txn> {
        self.held.clear();
        self.txn.take()
    }

    /// To read. Counts nothing: see [`Self::charge`].
    pub fn read(&mut self) -> Result<&mut Txn, UnitError> {
        self.txn.as_mut().ok_or(UnitError::Ended)
    }

    pub fn write(&mut self) -> Result<&mut Txn, UnitError> {
        if self.read_only > 0 {
            return Err(UnitError::ReadOnly);
        }
        if let (Some(payer), Some(txn)) = (&self.payer, &self.txn) {
            payer.may_write_more(txn.cost()).map_err(UnitError::Quota)?;
        }
        self.read()
    }

    /// For the host's own records, which are not the handler's writes.
    pub(super) fn host_txn(&mut self) -> Result<&mut Txn, UnitError> {
        self.read()
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only > 0
    }

    /// Whether the handler has changed anything that will be committed.
    pub fn wrote(&self) -> bool {
        self.session.dirty || self.txn.as_ref().is_some_and(Txn::has_writes)
    }

    /// Counts storage operations of a caller whose manifest allows
    /// `operations_max` in a unit.
    pub fn charge(&mut self, operations: u32, operations_max: u32) -> Result<(), UnitError> {
        let max = operations_max.max(self.limits.operations_min);
        self.spent.operations = self.spent.operations.saturating_add(operations);
        if self.spent.operations > max {
            return Err(UnitError::Quota(format!("more than {max} storage operations in one unit (limits.storage-operations)")));
        }
        Ok(())
    }

    /// Storage operations until now.
    pub fn operations(&self) -> u32 {
        self.spent.operations
    }

    pub fn charge_bytes(&mut self, bytes: usize) -> Result<(), UnitError> {
        self.spent.bytes = self.spent.bytes.saturating_add(bytes as u64);
        if self.spent.bytes > self.limits.bytes_max {
            return Err(UnitError::Quota(format!("more than {} bytes read and written in one unit", self.limits.bytes_max)));
        }
        Ok(())
    }

    pub(crate) fn charge_event(&mut self) -> Result<(), UnitError> {
        let max = self.limits.events_max;
        if self.staged.events >= max {
            return Err(UnitError::Quota(format!("more than {max} events in one unit")));
        }
        self.staged.events += 1;
        Ok(())
    }

    pub(crate) fn charge_effect(&self) -> Result<(), UnitError> {
        let max = self.limits.effects_max;
        if self.staged.effects.len() >= max as usize {
            return Err(UnitError::Quota(format!("more than {max} effects in one unit")));
        }
        Ok(())
    }

    pub(crate) fn charge_job(&self) -> Result<(), UnitError> {
        let max = self.limits.jobs_max;
        if self.staged.jobs.len() >= max as usize {
            return Err(UnitError::Quota(format!("more than {max} jobs scheduled in one unit")));
        }
        Ok(())
    }

    /// Pages carrying one of these tags are dropped when the unit commits.
    pub fn invalidate(&mut self, tags: Vec<String>) -> Result<(), UnitError> {
        if self.read_only > 0 {
            return Err(UnitError::ReadOnly);
        }
        if let Some(long) = tags.iter().find(|tag| tag.len() > TAG_BYTES_MAX) {
            return Err(UnitError::Quota(format!("a page tag of {} bytes; at most {TAG_BYTES_MAX}", long.len())));
        }
        let tags: BTreeSet<String> = tags.into_iter().filter(|tag| !self.staged.invalidated.contains(tag)).collect();
        let max = self.limits.invalidated_tags_max;
        if self.staged.invalidated.len() + tags.len() > max {
            return Err(UnitError::Quota(format!("more than {max} page tags invalidated in one unit")));
        }
        self.charge_bytes(tags.iter().map(String::len).sum())?;
        self.staged.invalidated.extend(tags);
        Ok(())
    }

    /// Whether a log line of so many bytes may still be written.
    pub fn log_line(&mut self, bytes: usize) -> bool {
        let spent = &mut self.spent;
        spent.log_lines = spent.log_lines.saturating_add(1);
        spent.log_bytes = spent.log_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        spent.log_lines <= self.limits.log_lines_max && spent.log_bytes <= self.limits.log_bytes_max
    }

    /// Dropped when the unit ends, however it ends; at once where it holds very many already.
    pub fn hold(&mut self, guard: Box<dyn std::any::Any + Send>) {
        self.spent.leases = self.spent.leases.saturating_add(1);
        if self.spent.leases <= LEASES_MAX {
            self.held.push(guard);
        }
    }

    /// Read and written bytes that may still be.
    pub fn bytes_left(&self) -> u64 {
        self.limits.bytes_max.saturating_sub(self.spent.bytes)
    }

    /// What a fetch was answered in an earlier run of this unit.
    pub fn fetch_replay(&mut self, plugin: &str, request: &http_client::Request) -> Option<FetchAnswer> {
        self.fetches.replay(fetch_fingerprint(plugin, request))
    }

    /// Whether `plugin` may send one more.
    pub fn fetch_allowed(&self, plugin: &str) -> Result<(), String> {
        let (number, bytes) = self.fetches.of(plugin);
        let Limits { fetches_max, fetched_bytes_max, .. } = self.limits;
        if number >= *fetches_max || bytes >= *fetched_bytes_max {
            return Err(format!("more than {fetches_max} web requests, or {fetched_bytes_max} bytes of answers, in one unit: do the rest in jobs"));
        }
        Ok(())
    }

    /// Keeps an answer for the case that this unit is run again.
    pub fn fetch_record(&mut self, plugin: &str, request: &http_client::Request, answer: FetchAnswer) {
        self.fetches.record(plugin, fetch_fingerprint(plugin, request), answer);
    }
}

/// A guest in somebody else's unit: while it lives, the unit may only be read,
/// and what is spent counts for the visitor, so that one that spends all it may
/// takes nothing from its host. Held by the engine around each call of an
/// extension provider.
pub struct Visit {
    unit: SharedUnit,
    spent_before: Spent,
}

impl Visit {
    /// `caller` has asked for it.
    pub fn begin(unit: &SharedUnit, caller: &Arc<str>) -> Self {
        let mut visited = unit.lock();
        visited.read_only += 1;
        visited.behalf.push(caller.clone());
        let spent_before = std::mem::take(&mut visited.spent);
        drop(visited);
        Self { unit: unit.clone(), spent_before }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut visited = self.unit.lock();
        visited.read_only -= 1;
        visited.behalf.pop();
        visited.spent = std::mem::take(&mut self.spent_before);
    }
}

pub type FetchAnswer = Result<http_client::Response, http_client::Error>;

#[derive(Default)]
struct Fetches(Vec<Fetched>);

struct Fetched {
    plugin: Box<str>,
    fingerprint: [u8; 32],
    answer: FetchAnswer,
    given: bool,
}

impl Fetches {
    fn rewind(&mut self) {
        self.0.iter_mut().for_each(|f| f.given = false);
    }

    /// Equal requests are answered in the order in which they were sent.
    fn replay(&mut self, fingerprint: [u8; 32]) -> Option<FetchAnswer> {
        let fetched = self.0.iter_mut().find(|f| !f.given && f.fingerprint == fingerprint)?;
        fetched.given = true;
        Some(fetched.answer.clone())
    }

    /// How many, and bytes of their answers.
    fn of(&self, plugin: &str) -> (usize, usize) {
        let own = self.0.iter().filter(|fetched| &*fetched.plugin == plugin);
        own.fold((0, 0), |(number, bytes), fetched| (number + 1, bytes + fetched.answer.as_ref().map_or(0, |answer| answer.body.len())))
    }

    fn record(&mut self, plugin: &str, fingerprint: [u8; 32], answer: FetchAnswer) {
        self.0.push(Fetched { plugin: plugin.into(), fingerprint, answer, given: true });
    }
}

fn fetch_fingerprint(plugin: &str, request: &http_client::Request) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(plugin.as_bytes());
    part(request.method.as_bytes());
    part(request.url.as_bytes());
    for (name, value) in &request.headers {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    part(&request.body);
    *hash.finalize().as_bytes()
}

/// A shopper's session as this unit sees it.
struct Session {
    shopper: Shopper,
    /// Set once it was looked up; `id` is then the one it will be kept under.
    loaded: bool,
    id: Option<SessionId>,
    record: SessionRecord,
    /// Handlers have seen or changed it: the answer is personal.
    used: bool,
    dirty: bool,
    /// Stored under this id until now; to be deleted.
    rotated_from: Option<SessionId>,
    /// Not stored under `id` before.
    fresh: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            shopper: Shopper::None,
            loaded: false,
            id: None,
            record: SessionRecord::default(),
            used: false,
            dirty: false,
            rotated_from: None,
            fresh: false,
        }
    }
}

/// Values by plugin and key: plugins do not see each other's.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SessionRecord {
    pub seen_ms: u64,
    values: BTreeMap<(String, String), String>,
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("this unit has no shopper")]
    NoShopper,
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Unit(#[from] UnitError),
}

impl Unit {
    /// Stable until rotated. Not the cookie's: whoever sees it cannot take the
    /// session over. Makes a session where there is none.
    pub fn session_id(&mut self) -> Result<String, SessionError> {
        self.load_session()?;
        if self.session.id.is_none() {
            self.create_session()?;
        }
        let id = self.session.id.as_ref().map_or("", |id| &id.0);
        Ok(hex::encode(&blake3::derive_key("souk 2026 session id as plugins see it", id.as_bytes())[..16]))
    }

    pub fn session_get(&mut self, plugin: &str, key: &str) -> Result<Option<String>, SessionError> {
        self.load_session()?;
        Ok(self.session.record.values.get(&(plugin.to_owned(), key.to_owned())).cloned())
    }

    pub fn session_set(&mut self, plugin: &str, key: &str, value: String) -> Result<(), SessionError> {
        if key.is_empty() || key.len() > SESSION_KEY_BYTES_MAX {
            return Err(SessionError::Invalid(format!("the key must have 1 to {SESSION_KEY_BYTES_MAX} bytes")));
        }
        if value.len() > SESSION_VALUE_BYTES_MAX {
            return Err(SessionError::Invalid(format!("a value has at most {SESSION_VALUE_BYTES_MAX} bytes")));
        }
        self.load_session()?;
        let place = (plugin.to_owned(), key.to_owned());
        let values = &self.session.record.values;
        let own = values.keys().filter(|(owner, _)| owner == plugin).count();
        if own >= SESSION_VALUES_MAX && !values.contains_key(&place) {
            return Err(SessionError::Invalid(format!("a session has at most {SESSION_VALUES_MAX} values of one plugin")));
        }
        self.change_session()?;
        self.session.record.values.insert(place, value);
        Ok(())
    }

    pub fn session_delete(&mut self, plugin: &str, key: &str) -> Result<(), SessionError> {
        self.load_session()?;
        if self.read_only > 0 {
            return Err(UnitError::ReadOnly.into());
        }
        if self.session.record.values.remove(&(plugin.to_owned(), key.to_owned())).is_some() {
            self.session.dirty = true;
        }
        Ok(())
    }

    pub fn session_rotate(&mut self) -> Result<(), SessionError> {
        self.load_session()?;
        if self.read_only > 0 {
            return Err(UnitError::ReadOnly.into());
        }
        let old = self.session.id.take();
        if !self.session.fresh {
            self.session.rotated_from = old;
        }
        self.create_session()
    }

    fn change_session(&mut self) -> Result<(), SessionError> {
        if self.session.id.is_none() {
            return self.create_session();
        }
        if self.read_only > 0 {
            return Err(UnitError::ReadOnly.into());
        }
        self.session.dirty = true;
        Ok(())
    }

    fn create_session(&mut self) -> Result<(), SessionError> {
        if self.read_only > 0 {
            return Err(UnitError::ReadOnly.into());
        }
        self.session.id = Some(SessionId(self.chance.id().into()));
        self.session.fresh = true;
        self.session.dirty = true;
        Ok(())
    }

    fn load_session(&mut self) -> Result<(), SessionError> {
        let Shopper::Browser(presented) = &self.session.shopper else { return Err(SessionError::NoShopper) };
        self.session.used = true;
        if self.session.loaded {
            return Ok(());
        }
        if let Some(id) = presented.clone() {
            let bytes = self.read()?.get(&keys::session(&id.0)).map_err(UnitError::from)?;
            let record = bytes.and_then(|bytes| postcard::from_bytes::<SessionRecord>(&bytes).ok());
            // One that has expired, or that this store does not know, is as good as none.
            if let Some(record) = record.filter(|r| r.seen_ms.saturating_add(SESSION_TTL_MS) > self.now_ms) {
                self.session.record = record;
                self.session.id = Some(id);
            }
        }
        self.session.loaded = true;
        Ok(())
    }

    /// Puts the session into the transaction; called before the commit.
    pub(super) fn store_session(&mut self) -> Result<(), UnitError> {
        let now_ms = self.now_ms;
        let Some(id) = self.session.id.clone() else { return Ok(()) };
        if !self.session.dirty && self.session.record.seen_ms.saturating_add(SESSION_TOUCH_MS) > now_ms {
            return Ok(());
        }
        self.session.record.seen_ms = now_ms;
        let record = encode(&self.session.record);
        let (fresh, rotated_from) = (self.session.fresh, self.session.rotated_from.take());
        let txn = self.host_txn()?;
        let key = keys::session(&id.0);
        txn.put(&key, record);
        if fresh {
            txn.put(&keys::expiry(now_ms + SESSION_TTL_MS, &key), Vec::new());
        }
        if let Some(old) = rotated_from {
            txn.delete(&keys::session(&old.0));
        }
        Ok(())
    }

    /// Whether anyone else may see the answer too.
    pub(super) fn is_impersonal(&self) -> bool {
        !self.session.used && !self.tried
    }

    /// What a committed unit did to the browser's session.
    pub(super) fn session_change(&self) -> SessionChange {
        let session = &self.session;
        match (&session.id, &session.shopper) {
            (Some(id), _) if session.fresh => SessionChange::Set(id.clone()),
            (None, Shopper::Browser(Some(_))) if session.loaded => SessionChange::Clear,
            _ => SessionChange::Keep,
        }
    }
}

/// Records of this room, in the store.
pub(super) fn encode(record: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(record).expect("plain records have an encoding")
}
