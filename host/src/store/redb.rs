//! redb 4: one file, copied on write. By choice (`storage.engine = "redb"`),
//! beside the others to be measured; `cargo xtask bench storage` says how it does.

use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::StoreError;
use super::engine::{Batch, Engine, SPACES, Snapshot, Space, is_empty_range};

const TABLES: [TableDefinition<&[u8], &[u8]>; SPACES.len()] =
    [TableDefinition::new("documents"), TableDefinition::new("counters"), TableDefinition::new("meta")];

pub struct Redb {
    database: Database,
    file: PathBuf,
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError(format!("redb: {}", error.into()))
}

impl Redb {
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(|error| StoreError(format!("{}: {error}", folder.display())))?;
        let file = folder.join("documents.redb");
        let database = Builder::new().set_cache_size(cache_bytes as usize).create(&file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                StoreError("another process has this store open: stop it, or use its commands while it serves".into())
            }
            error => failed(error),
        })?;
        let engine = Self { database, file };
        // Makes the tables, which a snapshot cannot.
        engine.commit(&Batch::new())?;
        Ok(engine)
    }

    fn tables(&self) -> Result<Tables, redb::Error> {
        let read = self.database.begin_read()?;
        Ok([read.open_table(TABLES[0])?, read.open_table(TABLES[1])?, read.open_table(TABLES[2])?])
    }
}

impl Engine for Redb {
    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(RedbSnapshot(self.tables().map_err(failed)))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let write = || {
            let transaction = self.database.begin_write()?;
            {
                let mut tables = Vec::with_capacity(TABLES.len());
                for table in TABLES {
                    tables.push(transaction.open_table(table)?);
                }
                for ((space, key), value) in batch {
                    let table = &mut tables[*space as usize];
                    match value {
                        Some(value) => drop(table.insert(&key[..], &value[..])?),
                        None => drop(table.remove(&key[..])?),
                    }
                }
            }
            transaction.commit()?;
            Ok::<(), redb::Error>(())
        };
        write().map_err(failed)
    }

    fn disk_bytes(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |file| file.len())
    }
}

type Tables = [ReadOnlyTable<&'static [u8], &'static [u8]>; SPACES.len()];

struct RedbSnapshot(Result<Tables, StoreError>);

impl RedbSnapshot {
    fn table(&self, space: Space) -> Result<&ReadOnlyTable<&'static [u8], &'static [u8]>, StoreError> {
        self.0.as_ref().map(|tables| &tables[space as usize]).map_err(StoreError::clone)
    }
}

impl Snapshot for RedbSnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.table(space)?.get(key).map_err(failed)?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
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
        let mut range = self.table(space)?.range::<&[u8]>((start, end)).map_err(failed)?;
        while let Some(entry) = if reverse { range.next_back() } else { range.next() } {
            let (key, value) = entry.map_err(failed)?;
            if !each(key.value(), Bytes::copy_from_slice(value.value())) {
                break;
            }
        }
        Ok(())
    }
}
