//! One optimistic transaction: reads at a snapshot, writes kept beside it, and
//! a note of everything read, for the committer to validate.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::engine::Space;
use super::{BelowFloor, Current, StoreError};

pub struct Txn {
    pub(super) current: Arc<Current>,
    pub(super) keys_read: Vec<(Space, Vec<u8>)>,
    pub(super) ranges_read: Vec<(Bound<Vec<u8>>, Bound<Vec<u8>>)>,
    pub(super) writes: BTreeMap<Vec<u8>, Option<Bytes>>,
    pub(super) adds: BTreeMap<Vec<u8>, Add>,
    pub(super) counters_deleted: Vec<Vec<u8>>,
    pub(super) appends: Vec<(Vec<u8>, Bytes)>,
    operations: u32,
    /// Of keys and values that a commit would write.
    bytes_written: usize,
}

/// All adds of a transaction to one counter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Add {
    pub delta: i64,
    pub floor: Option<i64>,
}

/// What a scan has come to.
struct Found {
    entries: Vec<(Bytes, Bytes)>,
    bytes: usize,
    limit: usize,
    bytes_max: usize,
}

impl Found {
    fn push(&mut self, key: &[u8], value: Bytes) {
        self.bytes += key.len() + value.len();
        self.entries.push((Bytes::copy_from_slice(key), value));
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.limit || self.bytes > self.bytes_max
    }
}

pub(super) fn decode_counter(value: &[u8]) -> Result<i64, StoreError> {
    let bytes = value.try_into().map_err(|_| StoreError(format!("a counter has {} bytes instead of 8: restore from a backup", value.len())))?;
    Ok(i64::from_be_bytes(bytes))
}

impl Txn {
    pub(super) fn new(current: Arc<Current>) -> Self {
        Self {
            current,
            keys_read: Vec::new(),
            ranges_read: Vec::new(),
            writes: BTreeMap::new(),
            adds: BTreeMap::new(),
            counters_deleted: Vec::new(),
            appends: Vec::new(),
            operations: 0,
            bytes_written: 0,
        }
    }

    pub fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.operations += 1;
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        self.keys_read.push((Space::Documents, key.to_vec()));
        self.current.get(Space::Documents, key)
    }

    pub fn put(&mut self, key: &[u8], value: impl Into<Bytes>) {
        self.operations += 1;
        self.stage(key, Some(value.into()));
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.operations += 1;
        self.stage(key, None);
    }

    fn stage(&mut self, key: &[u8], value: Option<Bytes>) {
        self.bytes_written += value.as_ref().map_or(0, Bytes::len);
        match self.writes.insert(key.to_vec(), value) {
            Some(before) => self.bytes_written -= before.map_or(0, |before| before.len()),
            None => self.bytes_written += key.len(),
        }
    }

    /// Documents in order of keys, or the reverse, own writes among them. What
    /// lies behind the last key returned counts as not read.
    pub fn scan(&mut self, start: Bound<&[u8]>, end: Bound<&[u8]>, limit: usize, reverse: bool) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        Ok(self.scan_within(start, end, limit, usize::MAX, reverse)?.unwrap_or_default())
    }

    /// The same; none where keys and values together have more than so many
    /// bytes, and then no more than one document beyond them was read.
    pub fn scan_within(
        &mut self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        limit: usize,
        bytes_max: usize,
        reverse: bool,
    ) -> Result<Option<Vec<(Bytes, Bytes)>>, StoreError> {
        self.operations += 1;
        if limit == 0 || super::engine::is_empty_range(start, end) {
            return Ok(Some(Vec::new()));
        }
        let mut found = Found { entries: Vec::new(), bytes: 0, limit, bytes_max };
        let mut own: Box<dyn Iterator<Item = (&Vec<u8>, &Option<Bytes>)>> = {
            let range = self.writes.range::<[u8], _>((start, end));
            if reverse { Box::new(range.rev()) } else { Box::new(range) }
        };
        let mut next_own = own.next();
        let before = |a: &[u8], b: &[u8]| if reverse { a > b } else { a < b };
        self.current.scan(Space::Documents, start, end, reverse, &mut |key, value| {
            while let Some((own_key, own_value)) = next_own.filter(|(own_key, _)| before(own_key, key)) {
                if let Some(own_value) = own_value {
                    found.push(own_key, own_value.clone());
                    if found.is_full() {
                        return false;
                    }
                }
                next_own = own.next();
            }
            let value = match next_own {
                Some((own_key, own_value)) if own_key == key => {
                    next_own = own.next();
                    own_value.clone()
                }
                _ => Some(value),
            };
            if let Some(value) = value {
                found.push(key, value);
            }
            !found.is_full()
        })?;
        while !found.is_full()
            && let Some((key, value)) = next_own
        {
            if let Some(value) = value {
                found.push(key, value.clone());
            }
            next_own = own.next();
        }
        let last = found.entries.last().filter(|_| found.is_full()).map(|(key, _)| Bound::Included(key.to_vec()));
        let (start, end) = (start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec));
        self.ranges_read.push(match last {
            Some(last) if reverse => (last, end),
            Some(last) => (start, last),
            None => (start, end),
        });
        Ok((found.bytes <= bytes_max).then_some(found.entries))
    }

    /// Documents in order of keys as they are in the snapshot. Leaves no note of
    /// the read: for the host, of what nobody else writes, or to show it.
    pub fn peek(&mut self, start: Bound<&[u8]>, end: Bound<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.operations += 1;
        let mut found = Vec::new();
        self.current.scan(Space::Documents, start, end, false, &mut |key, value| {
            found.push((Bytes::copy_from_slice(key), value));
            found.len() < limit
        })?;
        Ok(found)
    }

    /// Counters in order of keys, also without a note of the read.
    pub fn counters(&mut self, start: Bound<&[u8]>, end: Bound<&[u8]>, limit: usize) -> Result<Vec<(Bytes, i64)>, StoreError> {
        self.operations += 1;
        let (mut found, mut damaged) = (Vec::new(), Ok(()));
        self.current.scan(Space::Counters, start, end, false, &mut |key, value| match decode_counter(&value) {
            Ok(value) => {
                found.push((Bytes::copy_from_slice(key), value));
                found.len() < limit
            }
            Err(error) => {
                damaged = Err(error);
                false
            }
        })?;
        damaged.map(|()| found)
    }

    /// Whatever was added to it before this commits is gone with it.
    pub fn counter_delete(&mut self, key: &[u8]) {
        self.operations += 1;
        self.bytes_written += key.len();
        self.counters_deleted.push(key.to_vec());
    }

    pub fn counter_get(&mut self, key: &[u8]) -> Result<i64, StoreError> {
        self.keys_read.push((Space::Counters, key.to_vec()));
        self.counter_peek(key)
    }

    /// Leaves no note of the read: the value may be another at the commit.
    pub fn counter_peek(&mut self, key: &[u8]) -> Result<i64, StoreError> {
        self.operations += 1;
        self.counter(key)
    }

    fn counter(&self, key: &[u8]) -> Result<i64, StoreError> {
        let stored = self.current.get(Space::Counters, key)?.map_or(Ok(0), |value| decode_counter(&value))?;
        Ok(stored.saturating_add(self.adds.get(key).map_or(0, |add| add.delta)))
    }

    /// Adds without reading, as far as conflicts go: only an add that fails has
    /// depended on the value.
    pub fn counter_add(&mut self, key: &[u8], delta: i64, floor: Option<i64>) -> Result<Result<i64, BelowFloor>, StoreError> {
        self.operations += 1;
        let value = self.counter(key)?;
        let pending = self.adds.get(key).map_or(0, |add| add.delta);
        let (Some(next), Some(sum)) = (value.checked_add(delta), pending.checked_add(delta)) else {
            return Err(StoreError(format!("the counter {} would pass the range of 64 bits", key.escape_ascii())));
        };
        if floor.is_some_and(|floor| next < floor) {
            self.keys_read.push((Space::Counters, key.to_vec()));
            return Ok(Err(BelowFloor { value }));
        }
        if pending == 0 && !self.adds.contains_key(key) {
            self.bytes_written += key.len();
        }
        let add = self.adds.entry(key.to_vec()).or_insert(Add { delta: 0, floor: None });
        *add = Add { delta: sum, floor: add.floor.max(floor) };
        Ok(Ok(next))
    }

    /// Writes under `log`, the commit's sequence number and the place in the
    /// commit, both big-endian: the log is in order of commits.
    pub fn append(&mut self, log: &[u8], value: impl Into<Bytes>) {
        self.operations += 1;
        let value = value.into();
        self.bytes_written += log.len() + value.len();
        self.appends.push((log.to_vec(), value));
    }

    pub fn has_writes(&self) -> bool {
        !(self.writes.is_empty() && self.adds.is_empty() && self.counters_deleted.is_empty() && self.appends.is_empty())
    }

    /// What a commit would take of the store: one for each record and one for
    /// each KiB of keys and values.
    pub fn cost(&self) -> usize {
        let records = self.writes.len() + self.adds.len() + self.counters_deleted.len() + self.appends.len();
        records + self.bytes_written / 1_024
    }

    /// Documents that a commit would put, or delete.
    pub fn written(&self) -> impl Iterator<Item = (&[u8], Option<&Bytes>)> {
        self.writes.iter().map(|(key, value)| (key.as_slice(), value.as_ref()))
    }

    /// Counters, and what a commit would add to them.
    pub fn added(&self) -> impl Iterator<Item = (&[u8], i64)> {
        self.adds.iter().map(|(key, add)| (key.as_slice(), add.delta))
    }

    /// Entries that a commit would put under `log`.
    pub fn appended(&self, log: &[u8]) -> impl Iterator<Item = &Bytes> {
        self.appends.iter().filter(move |(to, _)| to == log).map(|(_, entry)| entry)
    }

    pub fn operations(&self) -> u32 {
        self.operations
    }

    pub fn snapshot_seq(&self) -> u64 {
        self.current.seq
    }
}
