//! What a storage engine has to give: snapshots, and batches that are durable
//! and whole. The conformance tests in `tests` hold every engine to it.

use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;

use super::StoreError;

/// Key spaces beside each other in one engine, committed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    Documents = 0,
    /// Big-endian `i64`.
    Counters = 1,
    /// The store's own: the sequence number.
    Meta = 2,
}

pub const SPACES: [Space; 3] = [Space::Documents, Space::Counters, Space::Meta];

/// In order of space and key; none deletes.
pub type Batch = std::collections::BTreeMap<(Space, Vec<u8>), Option<Bytes>>;

/// How the error of every engine begins when another process has the store.
pub const LOCKED: &str = "another process has this store open";

pub trait Engine: Send + Sync + 'static {
    /// What is committed now, unmoved by later batches.
    fn snapshot(&self) -> Box<dyn Snapshot>;

    /// All of it or nothing, on disk when it returns.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    fn disk_bytes(&self) -> u64;
}

pub trait Snapshot: Send + Sync {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Calls `each` in order of keys, or the reverse, until it says false.
    fn scan(
        &self,
        space: Space,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        each: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError>;
}

/// What was read from disk stays in memory up to `cache_bytes`.
pub fn open(kind: super::EngineKind, folder: &Path, cache_bytes: u64) -> Result<Box<dyn Engine>, StoreError> {
    Ok(match kind {
        super::EngineKind::Fjall => Box::new(super::fjall::Fjall::open(folder, cache_bytes)?),
        super::EngineKind::Sled => Box::new(super::sled::Sled::open(folder, cache_bytes)?),
        super::EngineKind::Redb => Box::new(super::redb::Redb::open(folder, cache_bytes)?),
    })
}

/// Whether a range holds nothing at all; some engines panic on such ones.
pub fn is_empty_range(start: Bound<&[u8]>, end: Bound<&[u8]>) -> bool {
    match (start, end) {
        (Bound::Included(s), Bound::Included(e)) => s > e,
        (Bound::Included(s) | Bound::Excluded(s), Bound::Included(e) | Bound::Excluded(e)) => s >= e,
        _ => false,
    }
}
