//! Durable documents and optimistic transactions over opaque byte keys.
//!
//! [`Store::begin`] reads at the last durable commit; [`Store::commit`] answers
//! when the transaction is on disk, or with the conflict that kept it from
//! being the next in a serial order. `work` is the only user; this room knows
//! neither plugins nor units. Counters live in a key space of their own, and
//! adding to one does not conflict with other adds.

mod committer;
mod engine;
mod fjall;
mod redb;
mod sled;
#[cfg(test)]
mod tests;
mod txn;

use std::fs;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use committer::{Committer, Recent, Waiting};
use engine::SPACES;
pub use engine::{Batch, Engine, Snapshot, Space};
pub use txn::Txn;

use crate::files::write_whole;

/// Says what an operator can do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("storage: {0}")]
pub struct StoreError(pub String);

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another transaction has written what this one read.
    #[error("another unit changed {}", key.escape_ascii())]
    Conflict { key: Vec<u8> },
    #[error("the store is closed")]
    Closed,
    /// Nothing of it was written.
    #[error("storage failed: {0}")]
    Failed(String),
    /// The disk failed while it was written: the next start shows whether it is there.
    #[error("storage failed in the middle of a commit: {0}")]
    Unknown(String),
}

/// The counter's value, which the add would take below its floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BelowFloor {
    pub value: i64,
}

#[derive(Debug, Clone, Copy)]
pub struct Committed {
    pub seq: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    Fjall,
    Sled,
    Redb,
}

impl EngineKind {
    const ALL: [EngineKind; 3] = [EngineKind::Fjall, EngineKind::Sled, EngineKind::Redb];

    fn name(self) -> &'static str {
        match self {
            EngineKind::Fjall => "fjall",
            EngineKind::Sled => "sled",
            EngineKind::Redb => "redb",
        }
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.trim() {
            "fjall" => Ok(EngineKind::Fjall),
            "sled" => Ok(EngineKind::Sled),
            "redb" => Ok(EngineKind::Redb),
            _ => Err(format!("there is no storage engine `{name}`; there are fjall, sled and redb")),
        }
    }
}

const SEQ_KEY: &[u8] = b"seq";
/// Beside the engine's folder: which engine made it.
const ENGINE_FILE: &str = "ENGINE";
/// And a commit that it has reached for sure, as an engine that finds its last files damaged may take an earlier one
/// for the last.
const REACHED_FILE: &str = "REACHED";
const QUEUE_MAX: usize = 4_096;
const COPY_BATCH_KEYS: usize = 10_000;
/// Unless the operator says otherwise.
pub const CACHE_BYTES: u64 = 64 << 20;

/// What is durable now.
struct Current {
    snapshot: Box<dyn Snapshot>,
    seq: u64,
}

impl Current {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.snapshot.get(space, key).map_err(not_read)
    }

    fn scan(
        &self,
        space: Space,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        each: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.snapshot.scan(space, start, end, reverse, each).map_err(not_read)
    }
}

/// Engines say that a block is not as it was written, and not what to do about it.
fn not_read(error: StoreError) -> StoreError {
    StoreError(format!("{}. Is the disk broken? If not, what it holds is damaged: {RESTORE}", error.0))
}

#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    kind: EngineKind,
    engine: Arc<dyn Engine>,
    current: Arc<ArcSwap<Current>>,
    durable: watch::Sender<u64>,
    batches: Arc<AtomicU64>,
    failed: watch::Sender<Option<String>>,
    /// For messages, and for what is noted beside the engine.
    folder: PathBuf,
    /// Taken when the store is dropped, which ends the committer.
    queue: Option<mpsc::Sender<Waiting>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens or makes the store in `folder`, recovering what a crash left.
    pub fn open(folder: &Path, kind: EngineKind) -> Result<Store, StoreError> {
        Self::open_with_cache(folder, kind, CACHE_BYTES)
    }

    /// Of what is on disk, at most `cache_bytes` stay in memory.
    pub fn open_with_cache(folder: &Path, kind: EngineKind, cache_bytes: u64) -> Result<Store, StoreError> {
        let io = |error: std::io::Error| StoreError(format!("{}: {error}", folder.display()));
        fs::create_dir_all(folder).map_err(io)?;
        let marker = folder.join(ENGINE_FILE);
        let mut marked = true;
        match fs::read(&marker).map(|made_by| String::from_utf8_lossy(&made_by).into_owned()) {
            Ok(made_by) if made_by.parse::<EngineKind>().is_err() => {
                return Err(StoreError(format!("{} is damaged: it should hold the word {}", marker.display(), kind.name())));
            }
            Ok(made_by) if made_by.trim() != kind.name() => {
                return Err(StoreError(format!(
                    "{} was made by {}, but storage.engine is \"{}\": set it back, or export and import into a new store",
                    folder.display(),
                    made_by.trim(),
                    kind.name()
                )));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                marked = false;
                if let Some(other) = EngineKind::ALL.into_iter().find(|other| *other != kind && folder.join(other.name()).exists()) {
                    return Err(StoreError(format!("{} is gone, and {} was made by {}: set storage.engine back to it", marker.display(), folder.display(), other.name())));
                }
            }
            Err(error) => return Err(io(error)),
        }
        let engine_folder = folder.join(kind.name());
        let reached = read_reached(folder)?;
        let engine: Arc<dyn Engine> = match engine_folder.exists() {
            true => open_engine(kind, &engine_folder, cache_bytes)?.into(),
            false if marked || reached.is_some() => {
                return Err(StoreError(format!("{} is gone, and the store's documents with it: {RESTORE}", engine_folder.display())));
            }
            false => make(folder, kind, cache_bytes)?.into(),
        };
        let (inner, committer, waiting) = Self::over(engine, kind, folder)?;
        let seq = *inner.durable.borrow();
        if let Some(reached) = reached.filter(|reached| seq < *reached) {
            return Err(StoreError(format!(
                "{} ends at commit {seq} and has been at {reached}: its last files are damaged or gone: {RESTORE}; or, to go on without what is lost, \
                 delete {}",
                engine_folder.display(),
                folder.join(REACHED_FILE).display()
            )));
        }
        if !marked {
            mark(folder, kind)?;
        }
        let thread = std::thread::Builder::new().name("committer".into()).spawn(move || committer.run(waiting)).map_err(io)?;
        *inner.thread.lock() = Some(thread);
        Ok(Store(Arc::new(inner)))
    }

    /// Over an engine that the caller brings. Commits are made by a task of this
    /// runtime, each batch after `latency`, so that a simulation is one thread.
    pub fn simulated(engine: Arc<dyn Engine>, latency: impl Fn() -> Duration + Send + Sync + 'static) -> Result<Store, StoreError> {
        let (inner, committer, waiting) = Self::over(engine, EngineKind::Fjall, Path::new("simulation"))?;
        tokio::spawn(committer.run_simulated(waiting, latency));
        Ok(Store(Arc::new(inner)))
    }

    fn over(engine: Arc<dyn Engine>, kind: EngineKind, folder: &Path) -> Result<(Inner, Committer, mpsc::Receiver<Waiting>), StoreError> {
        let snapshot = engine.snapshot();
        let seq = match snapshot.get(Space::Meta, SEQ_KEY)? {
            None => 0,
            Some(seq) => u64::from_be_bytes(seq[..].try_into().map_err(|_| StoreError(format!("the sequence number is damaged: {RESTORE}")))?),
        };
        let now = Arc::new(Current { snapshot, seq });
        let recent = Recent::since(&now);
        let current = Arc::new(ArcSwap::new(now));
        let durable = watch::Sender::new(seq);
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let batches = Arc::new(AtomicU64::new(0));
        let failed = watch::Sender::new(None);
        let engine_of = engine.clone();
        let committer = Committer { engine: engine_of, current: current.clone(), durable: durable.clone(), batches: batches.clone(), failed: failed.clone(), recent };
        let (queue, thread, folder) = (Some(queue), Mutex::new(None), folder.to_owned());
        Ok((Inner { kind, engine, current, durable, batches, failed, folder, queue, thread }, committer, waiting))
    }

    /// Why nothing is written any more, once a write has failed: what the system's buffers hold from then on is not what
    /// is on disk, so that only the next start knows. What was committed before is read as ever.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.0.failed.subscribe()
    }

    /// Notes how far the store has come, for the next start to find again. For when nothing more is to come.
    pub fn note_reached(&self) -> Result<(), StoreError> {
        let seq = self.durable_seq();
        if self.0.failed.borrow().is_some() || read_reached(&self.0.folder)? == Some(seq) {
            return Ok(());
        }
        write_reached(&self.0.folder, seq)
    }

    pub fn begin(&self) -> Txn {
        Txn::new(self.0.current.load_full())
    }

    /// Waits until the transaction is on disk. One that wrote nothing is done
    /// at once: its snapshot was consistent.
    pub async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        if !txn.has_writes() {
            return Ok(Committed { seq: txn.snapshot_seq() });
        }
        let (answer, answered) = oneshot::channel();
        let queue = self.0.queue.as_ref().ok_or(CommitError::Closed)?;
        queue.send(Waiting { txn, answer }).await.map_err(|_| CommitError::Closed)?;
        answered.await.map_err(|_| CommitError::Closed)?
    }

    pub fn durable_seq(&self) -> u64 {
        *self.0.durable.borrow()
    }

    /// Batches made durable since the store was opened, each with one sync.
    pub fn batches(&self) -> u64 {
        self.0.batches.load(Ordering::Relaxed)
    }

    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.durable.subscribe()
    }

    pub fn disk_bytes(&self) -> u64 {
        self.0.engine.disk_bytes()
    }

    /// Walks through everything that is committed now; tells how much there is,
    /// or what is damaged.
    pub fn verify(&self) -> Result<String, StoreError> {
        let current = self.0.current.load_full();
        let (mut counts, mut bytes, mut damaged) = ([0_u64; 3], 0, None);
        for space in SPACES {
            // Some engines panic over damage.
            let scan = AssertUnwindSafe(|| current.snapshot.scan(space, Bound::Unbounded, Bound::Unbounded, false, &mut |key, value| {
                counts[space as usize] += 1;
                bytes += key.len() + value.len();
                if space == Space::Counters && value.len() != 8 {
                    damaged = Some(format!("the counter {} has {} bytes", key.escape_ascii(), value.len()));
                }
                true
            }));
            let scanned = catch_unwind(scan).unwrap_or_else(|_| Err(StoreError("the engine panicked".into())));
            scanned.map_err(|error| StoreError(format!("{} is damaged: {}: {RESTORE}", self.0.folder.display(), error.0)))?;
        }
        match damaged {
            Some(damaged) => Err(StoreError(format!("{damaged}: {RESTORE}"))),
            None => Ok(format!(
                "whole: {} documents, {} counters, {bytes} bytes, commit {} ({}, {} bytes on disk)",
                counts[0],
                counts[1],
                current.seq,
                self.0.kind.name(),
                self.disk_bytes()
            )),
        }
    }

    /// Copies what is committed now into a new folder that `open` takes, while
    /// commits go on.
    pub fn backup(&self, destination: &Path) -> Result<(), StoreError> {
        if destination.join(ENGINE_FILE).exists() {
            return Err(StoreError(format!("{} holds a store already: give a new folder", destination.display())));
        }
        let io = |error: std::io::Error| StoreError(format!("{}: {error}", destination.display()));
        fs::create_dir_all(destination).map_err(io)?;
        let current = self.0.current.load_full();
        let copy = engine::open(self.0.kind, &destination.join(self.0.kind.name()), CACHE_BYTES)?;
        for space in SPACES {
            let mut batch = Batch::new();
            let mut failed = Ok(());
            current.snapshot.scan(space, Bound::Unbounded, Bound::Unbounded, false, &mut |key, value: Bytes| {
                batch.insert((space, key.to_vec()), Some(value));
                if batch.len() >= COPY_BATCH_KEYS {
                    failed = copy.commit(&batch);
                    batch.clear();
                }
                failed.is_ok()
            })?;
            failed?;
            copy.commit(&batch)?;
        }
        write_reached(destination, current.seq)?;
        // Last: without it, half a copy is not taken for a store.
        mark(destination, self.0.kind)
    }
}

const RESTORE: &str = "restore a backup (`souk store restore`)";

/// Engines say what is wrong, and not always where.
fn open_engine(kind: EngineKind, folder: &Path, cache_bytes: u64) -> Result<Box<dyn Engine>, StoreError> {
    // Some panic over damage.
    let opened = catch_unwind(AssertUnwindSafe(|| engine::open(kind, folder, cache_bytes)));
    let error = match opened {
        Ok(Ok(engine)) => return Ok(engine),
        Ok(Err(error)) if error.0.starts_with(engine::LOCKED) => return Err(error),
        Ok(Err(error)) => error.0,
        Err(_) => "the engine panicked".into(),
    };
    Err(StoreError(format!("{} does not open: {error}. Is the disk full, read-only or broken? If not, the files are damaged: {RESTORE}", folder.display())))
}

fn read_reached(folder: &Path) -> Result<Option<u64>, StoreError> {
    let path = folder.join(REACHED_FILE);
    let damaged = || StoreError(format!("{} is damaged: it should hold a number. If `souk store verify` finds nothing without it, delete it", path.display()));
    match fs::read(&path) {
        Ok(text) => str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).map(Some).ok_or_else(damaged),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError(format!("{}: {error}", path.display()))),
    }
}

fn write_reached(folder: &Path, seq: u64) -> Result<(), StoreError> {
    write_whole(&folder.join(REACHED_FILE), format!("{seq}\n").as_bytes()).map_err(|error| StoreError(format!("{error:#}")))
}

/// Beside its place until all of it is on disk: fjall does not open what is half made.
fn make(folder: &Path, kind: EngineKind, cache_bytes: u64) -> Result<Box<dyn Engine>, StoreError> {
    let place = folder.join(kind.name());
    let beside = place.with_extension("new");
    let clear_away = || if beside.exists() { fs::remove_dir_all(&beside) } else { Ok(()) };
    let put_in_place = || {
        sync_below(&beside)?;
        fs::rename(&beside, &place)?;
        fs::File::open(folder)?.sync_all()
    };
    let io = |error: std::io::Error| StoreError(format!("{}: {error}", place.display()));
    clear_away().map_err(io)?;
    drop(open_engine(kind, &beside, CACHE_BYTES)?);
    put_in_place().map_err(io)?;
    // Engines have threads of their own, which on a busy machine hold the lock for a moment after they were dropped.
    let mut opened = open_engine(kind, &place, cache_bytes);
    for _ in 0..200 {
        match &opened {
            Err(error) if error.0.starts_with(engine::LOCKED) => std::thread::sleep(Duration::from_millis(25)),
            _ => break,
        }
        opened = open_engine(kind, &place, cache_bytes);
    }
    opened
}

fn sync_below(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_below(&entry.path())?,
            false => fs::File::open(entry.path())?.sync_all()?,
        }
    }
    fs::File::open(folder)?.sync_all()
}

/// Whole or not at all, also when the power fails: an empty one would keep the store from opening.
fn mark(folder: &Path, kind: EngineKind) -> Result<(), StoreError> {
    write_whole(&folder.join(ENGINE_FILE), kind.name().as_bytes()).map_err(|error| StoreError(format!("{error:#}")))
}
