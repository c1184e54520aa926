//! Where everything lies in the store: the first byte of a key is its
//! namespace. Plugins reach only [`document`] and [`counter`], in the part that
//! carries their own name; all else belongs to the host.
//!
//! Names are separated by NUL, which no name, collection or key may hold, so
//! that no part can reach into its neighbour.

use smallvec::SmallVec;

/// Long enough that usual keys stay off the heap.
pub type Key = SmallVec<[u8; 128]>;

const DOCUMENT: u8 = b'd';
const COUNTER: u8 = b'n';
const SESSION: u8 = b's';
const IDEMPOTENCY: u8 = b'i';
const CURSOR: u8 = b'u';
const EFFECT: u8 = b'e';
const JOB: u8 = b'j';
/// As [`JOB_DUE_OF`], of all plugins in one order. Written by earlier versions.
const JOB_DUE: u8 = b't';
const JOB_DUE_OF: u8 = b'y';
const CRON: u8 = b'r';
const DEAD: u8 = b'x';
const EXPIRY: u8 = b'z';
const LANE: u8 = b'l';
const PARKED: u8 = b'w';
const FORMS: u8 = b'v';
const MIGRATED: u8 = b'g';
const IMPORTING: u8 = b'p';
const SEARCH_DOCUMENT: u8 = b'f';
const SEARCH_APPLIED: u8 = b'a';
/// Names of the operator's files that were there at the last start.
pub const FILES: &[u8] = b"m";
/// The currency that its prices are amounts of.
pub const CURRENCY: &[u8] = b"c";
/// By which the store knows the key file that belongs to it.
pub const KEY_FINGERPRINT: &[u8] = b"k";

/// The log of published events; entries are appended with their [`Position`].
pub const EVENTS: &[u8] = b"o";
/// The log of changes for the search indexes.
pub const SEARCH: &[u8] = b"q";

/// Place in a log: commit sequence (8 bytes) and index in the commit (4), both
/// big-endian.
pub type Position = [u8; 12];

pub fn position(seq: u64, index: u32) -> Position {
    let mut position = [0; 12];
    position[..8].copy_from_slice(&seq.to_be_bytes());
    position[8..].copy_from_slice(&index.to_be_bytes());
    position
}

/// The position in a key of `log`.
pub fn position_of(log: &[u8], key: &[u8]) -> Option<Position> {
    key.strip_prefix(log)?.try_into().ok()
}

pub fn log_entry(log: &[u8], position: Position) -> Key {
    join(log, &[&position])
}

pub fn document(plugin: &str, collection: &str, key: &str) -> Key {
    names(DOCUMENT, &[plugin, collection, key])
}

/// First key after all documents of a collection.
pub fn collection_end(plugin: &str, collection: &str) -> Key {
    let mut end = names(DOCUMENT, &[plugin, collection, ""]);
    *end.last_mut().expect("names separates with NUL") = 1;
    end
}

pub fn counter(plugin: &str, collection: &str, key: &str) -> Key {
    names(COUNTER, &[plugin, collection, key])
}

/// All documents of a plugin, without the first key itself.
pub fn documents(plugin: &str) -> (Key, Key) {
    all_named(DOCUMENT, plugin)
}

/// Documents of all plugins.
pub fn all_documents() -> (Key, Key) {
    (Key::from_slice(&[DOCUMENT]), Key::from_slice(&[DOCUMENT + 1]))
}

pub fn counters(plugin: &str) -> (Key, Key) {
    all_named(COUNTER, plugin)
}

/// Collection and key of a document or counter of this plugin.
pub fn names_of(plugin: &str, key: &[u8]) -> Option<(String, String)> {
    let rest = std::str::from_utf8(key.get(1..)?).ok()?.strip_prefix(plugin)?.strip_prefix('\0')?;
    rest.split_once('\0').map(|(collection, key)| (collection.to_owned(), key.to_owned()))
}

/// What a unit has written under a key, as far as plugins see it.
pub enum Written<'a> {
    /// Plugin, collection and key.
    Document(&'a str, &'a str, &'a str),
    Effect,
    /// Plugin, name and key.
    Job(&'a str, &'a str, &'a str),
}

pub fn written(key: &[u8]) -> Option<Written<'_>> {
    let (namespace, rest) = key.split_first()?;
    match *namespace {
        DOCUMENT | JOB => {
            let (plugin, collection, key) = three_names(rest)?;
            Some(if *namespace == JOB { Written::Job(plugin, collection, key) } else { Written::Document(plugin, collection, key) })
        }
        EFFECT => Some(Written::Effect),
        _ => None,
    }
}

/// Plugin, collection and key of a counter.
pub fn counted(key: &[u8]) -> Option<(&str, &str, &str)> {
    three_names(key.strip_prefix(&[COUNTER])?)
}

fn three_names(names: &[u8]) -> Option<(&str, &str, &str)> {
    let mut names = std::str::from_utf8(names).ok()?.splitn(3, '\0');
    Some((names.next()?, names.next()?, names.next()?))
}

/// All that is kept for a plugin under keys that begin with its name, and
/// whether it is documents: jobs, runs by the clock, parked events, what it has put
/// into indexes.
pub fn all_of(plugin: &str) -> impl Iterator<Item = (bool, (Key, Key))> {
    let spaces = [DOCUMENT, JOB, CRON, LANE, PARKED, SEARCH_DOCUMENT, SEARCH_APPLIED];
    spaces.map(|space| (space == DOCUMENT, all_named(space, plugin))).into_iter()
}

/// Form of a plugin's documents.
pub fn forms(plugin: &str) -> Key {
    names(FORMS, &[plugin])
}

/// How far a plugin's documents are rewritten.
pub fn migrated(plugin: &str) -> Key {
    names(MIGRATED, &[plugin])
}

/// An import of a plugin's data that is not finished.
pub fn importing(plugin: &str) -> Key {
    names(IMPORTING, &[plugin])
}

pub fn session(id: &str) -> Key {
    names(SESSION, &[id])
}

pub fn idempotency(scope: &str, key: &str) -> Key {
    names(IDEMPOTENCY, &[scope, key])
}

/// Last event that a subscriber has handled.
pub fn cursor(plugin: &str) -> Key {
    names(CURSOR, &[plugin])
}

pub fn cursors() -> (Key, Key) {
    all(CURSOR)
}

/// Of an event's key, which may be any text.
pub type LaneId = [u8; 16];

/// A lane: events of one key that wait for a subscriber.
pub fn lane(plugin: &str, id: LaneId) -> Key {
    join(&names(LANE, &[plugin, ""]), &[&id])
}

pub fn lane_id(event_key: &str) -> LaneId {
    xxhash_rust::xxh3::xxh3_128(event_key.as_bytes()).to_be_bytes()
}

pub fn lanes() -> (Key, Key) {
    all(LANE)
}

pub fn lanes_of(plugin: &str) -> (Key, Key) {
    all_named(LANE, plugin)
}

/// Plugin and id of a lane.
pub fn lane_of(key: &[u8]) -> Option<(&str, LaneId)> {
    let (names, id) = key.strip_prefix(&[LANE])?.split_last_chunk()?;
    Some((std::str::from_utf8(names).ok()?.strip_suffix('\0')?, *id))
}

/// An event that waits in a lane.
pub fn parked(plugin: &str, lane: LaneId, position: Position) -> Key {
    join(&names(PARKED, &[plugin, ""]), &[&lane, &position])
}

/// The events of a lane, in their order; both keys belong to it.
pub fn parked_in(plugin: &str, lane: LaneId) -> (Key, Key) {
    (parked(plugin, lane, [0; 12]), parked(plugin, lane, [0xff; 12]))
}

/// Place in the log of a parked event.
pub fn parked_at(key: &[u8]) -> Option<Position> {
    Some(*key.split_last_chunk()?.1)
}

pub fn effect(requester: &str, key: &str) -> Key {
    names(EFFECT, &[requester, key])
}

pub fn effects() -> (Key, Key) {
    all(EFFECT)
}

/// Not one from a manifest.
pub fn is_single_job(key: &[u8]) -> bool {
    key.first() == Some(&JOB)
}

pub fn all_jobs() -> (Key, Key) {
    all(JOB)
}

pub fn job(plugin: &str, name: &str, key: &str) -> Key {
    names(JOB, &[plugin, name, key])
}

/// Jobs of a plugin in the order in which they are due; the rest is the job's own key,
/// which says whose it is.
pub fn job_due(due_ms: u64, job: &[u8]) -> Key {
    let plugin = job.get(1..).and_then(|names| names.split(|byte| *byte == 0).next()).unwrap_or_default();
    join(&[JOB_DUE_OF], &[plugin, &[0], &due_ms.to_be_bytes(), job])
}

/// Of all plugins.
pub fn jobs_due() -> (Key, Key) {
    all(JOB_DUE_OF)
}

/// Of one plugin.
pub fn jobs_due_of(plugin: &str) -> (Key, Key) {
    all_named(JOB_DUE_OF, plugin)
}

/// Whose job it is, when it is due, and its own key.
pub fn job_of(due: &[u8]) -> Option<(&str, u64, &[u8])> {
    let rest = due.strip_prefix(&[JOB_DUE_OF])?;
    let (plugin, rest) = rest.split_at(rest.iter().position(|byte| *byte == 0)?);
    let (due_ms, job) = rest[1..].split_first_chunk()?;
    Some((std::str::from_utf8(plugin).ok()?, u64::from_be_bytes(*due_ms), job))
}

/// Entries of the order that earlier versions kept.
pub fn jobs_due_before() -> (Key, Key) {
    all(JOB_DUE)
}

/// The entry that takes the place of one of them.
pub fn job_due_from_before(due: &[u8]) -> Option<Key> {
    let (due_ms, job) = due.strip_prefix(&[JOB_DUE])?.split_first_chunk()?;
    Some(job_due(u64::from_be_bytes(*due_ms), job))
}

/// Last run of a job from a manifest.
pub fn cron(plugin: &str, name: &str) -> Key {
    names(CRON, &[plugin, name])
}

pub fn dead(id: &str) -> Key {
    names(DEAD, &[id])
}

pub fn dead_letters() -> (Key, Key) {
    all(DEAD)
}

/// Reminder to look whether what lies under `key` has expired.
pub fn expiry(due_ms: u64, key: &[u8]) -> Key {
    join(&[EXPIRY], &[&due_ms.to_be_bytes(), key])
}

pub fn expiries_until(due_ms: u64) -> (Key, Key) {
    (join(&[EXPIRY], &[]), join(&[EXPIRY], &[&due_ms.saturating_add(1).to_be_bytes()]))
}

pub enum Expiring<'a> {
    Session(&'a [u8]),
    Idempotency(&'a [u8]),
}

/// What a reminder is about.
pub fn expiring(reminder: &[u8]) -> Option<Expiring<'_>> {
    let key = reminder.strip_prefix(&[EXPIRY])?.get(8..)?;
    match key.first()? {
        &SESSION => Some(Expiring::Session(key)),
        &IDEMPOTENCY => Some(Expiring::Idempotency(key)),
        _ => None,
    }
}

/// What a plugin has put into one of its indexes.
pub fn search_document(plugin: &str, index: &str, id: &str) -> Key {
    names(SEARCH_DOCUMENT, &[plugin, index, id])
}

/// All of an index; the first key is also what comes before each id.
pub fn search_documents(plugin: &str, index: &str) -> (Key, Key) {
    all_below(names(SEARCH_DOCUMENT, &[plugin, index, ""]))
}

/// How far an index has followed the log at least.
pub fn search_applied(plugin: &str, index: &str) -> Key {
    names(SEARCH_APPLIED, &[plugin, index])
}

fn all_named(namespace: u8, plugin: &str) -> (Key, Key) {
    all_below(names(namespace, &[plugin, ""]))
}

/// What begins with these names, which end with an empty one.
fn all_below(first: Key) -> (Key, Key) {
    let mut end = first.clone();
    *end.last_mut().expect("names separates with NUL") = 1;
    (first, end)
}

fn all(namespace: u8) -> (Key, Key) {
    (SmallVec::from_slice(&[namespace]), SmallVec::from_slice(&[namespace + 1]))
}

fn names(namespace: u8, names: &[&str]) -> Key {
    let mut key = Key::new();
    key.push(namespace);
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            key.push(0);
        }
        key.extend_from_slice(name.as_bytes());
    }
    key
}

fn join(first: &[u8], rest: &[&[u8]]) -> Key {
    let mut key = Key::from_slice(first);
    for part in rest {
        key.extend_from_slice(part);
    }
    key
}
