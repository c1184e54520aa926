//! Durable documents and optimistic transactions over opaque byte keys.
//!
//! This first version keeps everything in memory, so that the other rooms can
//! be built against its interface.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

#[derive(Debug, Clone, thiserror::Error)]
#[error("storage failed: {0}")]
pub struct StoreError(pub String);

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another unit committed what this one has read.
    #[error("another unit changed {}", key.escape_ascii())]
    Conflict { key: Vec<u8> },
    #[error("the store is closed")]
    Closed,
    #[error("storage failed: {0}")]
    Failed(String),
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
}

#[derive(Default, Clone)]
struct State {
    seq: u64,
    /// Value and the commit that wrote it; deletions stay, to be seen by validation.
    documents: BTreeMap<Vec<u8>, (u64, Option<Bytes>)>,
    counters: BTreeMap<Vec<u8>, (u64, i64)>,
}

#[derive(Clone)]
pub struct Store {
    state: Arc<Mutex<Arc<State>>>,
    durable: watch::Sender<u64>,
}

impl Store {
    pub fn open(_dir: &Path, _engine: EngineKind) -> Result<Store, StoreError> {
        Ok(Store { state: Arc::default(), durable: watch::Sender::new(0) })
    }

    pub fn begin(&self) -> Txn {
        Txn { state: self.state.lock().clone(), reads: Vec::new(), writes: BTreeMap::new(), adds: BTreeMap::new(), appends: Vec::new(), operations: 0 }
    }

    pub async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let mut state = self.state.lock();
        let since = txn.state.seq;
        for (start, end) in &txn.reads {
            let range = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
            if let Some((key, _)) = state.documents.range::<[u8], _>(range).find(|(_, (seq, _))| *seq > since) {
                return Err(CommitError::Conflict { key: key.clone() });
            }
            if let Some((key, _)) = state.counters.range::<[u8], _>(range).find(|(_, (seq, _))| *seq > since) {
                return Err(CommitError::Conflict { key: key.clone() });
            }
        }
        for (key, (delta, floor)) in &txn.adds {
            let value = state.counters.get(key).map_or(0, |(_, v)| *v);
            if floor.is_some_and(|floor| value + delta < floor) {
                return Err(CommitError::Conflict { key: key.clone() });
            }
        }
        let state = Arc::make_mut(&mut state);
        state.seq += 1;
        let seq = state.seq;
        for (key, value) in txn.writes {
            state.documents.insert(key, (seq, value));
        }
        for (key, (delta, _)) in txn.adds {
            let counter = state.counters.entry(key).or_default();
            *counter = (seq, counter.1 + delta);
        }
        for (index, (log, value)) in txn.appends.into_iter().enumerate() {
            let key = [&log[..], &seq.to_be_bytes(), &(index as u32).to_be_bytes()].concat();
            state.documents.insert(key, (seq, Some(value)));
        }
        self.durable.send_replace(seq);
        Ok(Committed { seq })
    }

    pub fn durable_seq(&self) -> u64 {
        *self.durable.borrow()
    }

    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }
}

pub struct Txn {
    state: Arc<State>,
    reads: Vec<(Bound<Vec<u8>>, Bound<Vec<u8>>)>,
    writes: BTreeMap<Vec<u8>, Option<Bytes>>,
    adds: BTreeMap<Vec<u8>, (i64, Option<i64>)>,
    appends: Vec<(Vec<u8>, Bytes)>,
    operations: u32,
}

impl Txn {
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.operations += 1;
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        self.reads.push((Bound::Included(key.to_vec()), Bound::Included(key.to_vec())));
        Ok(self.state.documents.get(key).and_then(|(_, v)| v.clone()))
    }

    pub fn put(&mut self, key: &[u8], value: impl Into<Bytes>) {
        self.operations += 1;
        self.writes.insert(key.to_vec(), Some(value.into()));
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.operations += 1;
        self.writes.insert(key.to_vec(), None);
    }

    pub fn scan(&mut self, start: Bound<&[u8]>, end: Bound<&[u8]>, limit: usize, reverse: bool) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.operations += 1;
        let mut merged: BTreeMap<&[u8], &Option<Bytes>> =
            self.state.documents.range::<[u8], _>((start, end)).map(|(k, (_, v))| (k.as_slice(), v)).collect();
        merged.extend(self.writes.range::<[u8], _>((start, end)).map(|(k, v)| (k.as_slice(), v)));
        let present = merged.into_iter().filter_map(|(k, v)| Some((Bytes::copy_from_slice(k), v.clone()?)));
        let found: Vec<_> = if reverse { present.rev().take(limit).collect() } else { present.take(limit).collect() };
        self.reads.push((start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec)));
        Ok(found)
    }

    pub fn counter_get(&mut self, key: &[u8]) -> Result<i64, StoreError> {
        self.operations += 1;
        self.reads.push((Bound::Included(key.to_vec()), Bound::Included(key.to_vec())));
        Ok(self.counter(key))
    }

    fn counter(&self, key: &[u8]) -> i64 {
        self.state.counters.get(key).map_or(0, |(_, v)| *v) + self.adds.get(key).map_or(0, |(d, _)| *d)
    }

    pub fn counter_add(&mut self, key: &[u8], delta: i64, floor: Option<i64>) -> Result<Result<i64, BelowFloor>, StoreError> {
        self.operations += 1;
        let value = self.counter(key);
        let next = value.saturating_add(delta);
        if floor.is_some_and(|floor| next < floor) {
            self.reads.push((Bound::Included(key.to_vec()), Bound::Included(key.to_vec())));
            return Ok(Err(BelowFloor { value }));
        }
        let add = self.adds.entry(key.to_vec()).or_insert((0, None));
        *add = (add.0 + delta, add.1.max(floor));
        Ok(Ok(next))
    }

    pub fn append(&mut self, log: &[u8], value: impl Into<Bytes>) {
        self.operations += 1;
        self.appends.push((log.to_vec(), value.into()));
    }

    pub fn has_writes(&self) -> bool {
        !(self.writes.is_empty() && self.adds.is_empty() && self.appends.is_empty())
    }

    pub fn operations(&self) -> u32 {
        self.operations
    }

    pub fn snapshot_seq(&self) -> u64 {
        self.state.seq
    }
}

impl Store {
    /// Walks through everything.
    pub fn verify(&self) -> Result<String, StoreError> {
        Ok(format!("{} documents", self.state.lock().documents.len()))
    }

    /// Copies what is committed now to a new folder.
    pub fn backup(&self, _destination: &Path) -> Result<(), StoreError> {
        Err(StoreError("a store in memory cannot be copied".into()))
    }
}
