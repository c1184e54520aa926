//! What indexing costs, on whatever threads: tantivy writes segments, compresses and
//! merges them on threads of its own, each made for one index. All that they do
//! ends in a file, so they are asked for their processor time where they write.

use std::cell::Cell;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tantivy::directory::error::{DeleteError, LockError, OpenDirectoryError, OpenReadError, OpenWriteError};
use tantivy::directory::{AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite, WatchCallback, WatchHandle, WritePtr};

use crate::engine::processor_time;

const THREADS: [&str; 4] = ["thrd-tantivy-index", "merge_thread_", "segment_updater", "docstore-compressor"];

thread_local! {
    /// Processor time that was counted; none on threads that are not tantivy's.
    static COUNTED: Cell<Option<Duration>> = Cell::new(is_of_tantivy().then_some(Duration::ZERO));
}

fn is_of_tantivy() -> bool {
    std::thread::current().name().is_some_and(|name| THREADS.iter().any(|thread| name.starts_with(thread)))
}

/// Processor time of the threads of one index that nobody was charged for yet.
#[derive(Debug, Default)]
pub(super) struct Spent(AtomicU64);

impl Spent {
    pub fn take(&self) -> Duration {
        Duration::from_nanos(self.0.swap(0, Relaxed))
    }

    /// What this thread has taken since the last time.
    fn count(&self) {
        if let Some(counted) = COUNTED.get() {
            let now = processor_time();
            self.0.fetch_add(now.saturating_sub(counted).as_nanos() as u64, Relaxed);
            COUNTED.set(Some(now));
        }
    }
}

/// A folder whose writers count what they take.
#[derive(Debug, Clone)]
pub(super) struct Metered {
    folder: MmapDirectory,
    spent: Arc<Spent>,
}

impl Metered {
    pub fn open(folder: &Path, spent: &Arc<Spent>) -> Result<Self, OpenDirectoryError> {
        Ok(Self { folder: MmapDirectory::open(folder)?, spent: spent.clone() })
    }
}

impl Directory for Metered {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.folder.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.folder.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.folder.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let file = self.folder.open_write(path)?;
        self.spent.count();
        Ok(BufWriter::new(Box::new(MeteredFile { file, spent: self.spent.clone() })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.folder.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let written = self.folder.atomic_write(path, data);
        self.spent.count();
        written
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.folder.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.folder.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.folder.watch(callback)
    }
}

struct MeteredFile {
    file: WritePtr,
    spent: Arc<Spent>,
}

impl Write for MeteredFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        self.spent.count();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TerminatingWrite for MeteredFile {
    fn terminate_ref(&mut self, token: AntiCallToken) -> io::Result<()> {
        let ended = self.file.terminate_ref(token);
        self.spent.count();
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_millis(5);

    fn works_and_writes(thread: &str) -> Duration {
        let folder = tempfile::tempdir().unwrap();
        let spent = Arc::default();
        let directory = Metered::open(folder.path(), &spent).unwrap();
        let work = move || {
            while processor_time() < WORK {}
            let mut file = directory.open_write(Path::new("segment")).unwrap();
            file.write_all(b"words").unwrap();
            file.terminate().unwrap();
        };
        std::thread::Builder::new().name(thread.into()).spawn(work).unwrap().join().unwrap();
        assert!(std::fs::read(folder.path().join("segment")).unwrap().starts_with(b"words"));
        spent.take()
    }

    #[test]
    fn merging_and_compressing_are_counted_and_what_others_do_is_not() {
        for thread in ["merge_thread_0", "docstore-compressor-thread", "thrd-tantivy-index0"] {
            assert!(works_and_writes(thread) >= WORK, "{thread}");
        }
        assert_eq!(works_and_writes("a-worker"), Duration::ZERO);
    }
}
