//! fjall 3: the default. Lost nothing in 20 of 20 rounds of kill -9 and 40 of
//! 40 simulated power cuts; about 40,000 grouped durable commits a second.
//! It reaches only the system's buffers unless told otherwise: always `SyncAll`.

use std::fs;
use std::io;
use std::ops::Bound;
use std::os::fd::AsRawFd;
use std::path::Path;

use bytes::Bytes;
use fjall::config::{CompressionPolicy, PartitioningPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::StoreError;
use super::engine::{Batch, Engine, SPACES, Snapshot, Space, is_empty_range};

/// What journals there are is read again at the next start, and their room on
/// disk is not the documents'. Left alone, fjall keeps half a GiB of them: the small spaces,
/// which never fill a table by themselves, hold on to each.
const JOURNAL_BYTES: u64 = 64 << 20;
/// What was written last is in memory until it fills a table, and fjall keeps the one before it as well until the next is
/// full. Measured with the writes of orders: 105 MB on the average, 175 with its own 64 MiB for each space, which save some
/// 50 µs of processor time an order. A store keeps the sizes that it was made with.
const DOCUMENTS_IN_MEMORY_BYTES: u64 = 32 << 20;
const SMALL_IN_MEMORY_BYTES: u64 = 8 << 20;
/// Its threads that write tables and merge them. The first of them never merges: where all others do, it hands what there is
/// to merge to itself again and again: with two threads, a quarter of an import's processor time (fjall 3.1.13).
const WORKERS_MIN: usize = 3;
const WORKERS_MAX: usize = 4;

pub struct Fjall {
    database: Database,
    spaces: [Keyspace; 3],
}

fn failed(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError("another process has this store open: stop it, or use its commands while it serves".into()),
        fjall::Error::Poisoned => {
            StoreError("a write to the disk failed before and no more are taken: mend the disk (full? read-only?) and start again".into())
        }
        error => StoreError(format!("fjall: {error}")),
    }
}

impl Fjall {
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let io = |error: io::Error| StoreError(format!("{}: {error}", folder.display()));
        forget_what_is_not_on_disk(folder).map_err(io)?;
        // It holds nothing, and is asked for all the same.
        if folder.join("version").exists() && !folder.join("lock").exists() {
            fs::File::create(folder.join("lock")).map_err(io)?;
        }
        let workers = std::thread::available_parallelism().map_or(WORKERS_MIN, |cores| cores.get().clamp(WORKERS_MIN, WORKERS_MAX));
        let database = Database::builder(folder).cache_size(cache_bytes).max_journaling_size(JOURNAL_BYTES).worker_threads(workers);
        let database = database.open().map_err(failed)?;
        let keyspace = |name, bytes| database.keyspace(name, || options(bytes)).map_err(failed);
        let spaces = [keyspace("documents", DOCUMENTS_IN_MEMORY_BYTES)?, keyspace("counters", SMALL_IN_MEMORY_BYTES)?, keyspace("meta", SMALL_IN_MEMORY_BYTES)?];
        Ok(Self { database, spaces })
    }
}

/// For a space that is made; one that is there keeps its own.
fn options(bytes_in_memory: u64) -> KeyspaceCreateOptions {
    // What tells which keys a table has, and where, is read in parts from the second level on: fjall's own is the fourth.
    // Whole, it is some 200 KiB of each table, more than the cache can keep of a store with gigabytes of documents.
    let partitions = PartitioningPolicy::new([false, true]);
    KeyspaceCreateOptions::default()
        .max_memtable_size(bytes_in_memory)
        // fjall's own begins with the third level, which what comes in the order of its keys never reaches: a backup of a
        // million products took 5.7 GB, and 1.6 in the store.
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        .filter_block_partitioning_policy(partitions.clone())
        .index_block_partitioning_policy(partitions)
}

/// After a sync that failed, the system may go on showing what it could not write. Commits behind that would be lost with
/// it in a power cut: the journal is read from the disk itself.
fn forget_what_is_not_on_disk(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let journal = fs::File::open(&path)?;
            journal.sync_all()?;
            // SAFETY: takes and gives plain numbers. A hint: a system that does not take it is no worse than before.
            #[cfg(target_os = "linux")]
            unsafe {
                libc::posix_fadvise(journal.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
            }
        }
    }
    Ok(())
}

impl Engine for Fjall {
    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(FjallSnapshot { snapshot: self.database.snapshot(), spaces: self.spaces.clone() })
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut write = self.database.batch().durability(Some(PersistMode::SyncAll));
        for ((space, key), value) in batch {
            let keyspace = &self.spaces[*space as usize];
            match value {
                Some(value) => write.insert(keyspace, &key[..], &value[..]),
                None => write.remove(keyspace, &key[..]),
            }
        }
        write.commit().map_err(failed)
    }

    fn disk_bytes(&self) -> u64 {
        self.database.disk_space().unwrap_or_default()
    }
}

struct FjallSnapshot {
    snapshot: fjall::Snapshot,
    spaces: [Keyspace; SPACES.len()],
}

impl Snapshot for FjallSnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.snapshot.get(&self.spaces[space as usize], key).map_err(failed)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        space: Space,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        each: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreError> {
        if is_empty_range(start, end) {
            return Ok(());
        }
        let mut range = self.snapshot.range::<&[u8], _>(&self.spaces[space as usize], (start, end));
        while let Some(guard) = if reverse { range.next_back() } else { range.next() } {
            let (key, value) = guard.into_inner().map_err(failed)?;
            if !each(&key, Bytes::copy_from_slice(&value)) {
                break;
            }
        }
        Ok(())
    }
}
