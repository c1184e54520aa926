//! Documents and counters of the calling plugin, in the unit's transaction.

use std::ops::Bound;

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::storage::Host;
use crate::engine::bindings::souk::host::storage::{Entry, Error, Range};
use crate::store::StoreError;
use crate::work::{Unit, UnitError, keys};

const COLLECTION_BYTES_MAX: usize = 64;
const KEY_BYTES_MAX: usize = 512;
const VALUE_BYTES_MAX: usize = 256 << 10;
const KEYS_AT_ONCE_MAX: usize = 1_000;
const SCAN_MAX: u32 = 1_000;
/// Keys and values of one answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

impl From<UnitError> for Error {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::ReadOnly => Error::ReadOnly,
            UnitError::Quota(message) => Error::Quota(message),
            UnitError::Ended | UnitError::Store(_) => Error::Unavailable(error.to_string()),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Error::Unavailable(error.to_string())
    }
}

/// Where a plugin may keep a document or a counter.
pub fn check_place(collection: &str, key: &str) -> Result<(), String> {
    check_collection(collection).and_then(|()| check_key(key)).map_err(|error| match error {
        Error::Invalid(problem) => problem,
        error => format!("{error:?}"),
    })
}

fn check_collection(collection: &str) -> Result<(), Error> {
    let fits = (1..=COLLECTION_BYTES_MAX).contains(&collection.len())
        && collection.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(()) } else { Err(Error::Invalid(format!("the collection `{}`: use 1 to {COLLECTION_BYTES_MAX} of a-z, 0-9 and -", collection.escape_debug()))) }
}

fn check_key(key: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains('\0') {
        return Err(Error::Invalid(format!("a key of {} bytes: use 1 to {KEY_BYTES_MAX} bytes without NUL", key.len())));
    }
    Ok(())
}

/// Checked and counted, before anything is touched.
fn begin(unit: &mut Unit, caller: &Caller, collection: &str, operations: usize) -> Result<(), Error> {
    check_collection(collection)?;
    unit.charge(operations as u32, caller.manifest.limits.storage_operations)?;
    Ok(())
}

impl Host for GuestState {
    fn get(&mut self, caller: Caller, collection: String, key: String) -> Result<Option<Vec<u8>>, Error> {
        let mut unit = self.unit.lock();
        begin(&mut unit, &caller, &collection, 1)?;
        check_key(&key)?;
        get(&mut unit, &caller, &collection, &key)
    }

    fn get_many(&mut self, caller: Caller, collection: String, asked: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, Error> {
        if asked.len() > KEYS_AT_ONCE_MAX {
            return Err(Error::Invalid(format!("{} keys at once; at most {KEYS_AT_ONCE_MAX}", asked.len())));
        }
        let mut unit = self.unit.lock();
        begin(&mut unit, &caller, &collection, asked.len())?;
        let mut bytes = 0;
        asked
            .iter()
            .map(|key| {
                check_key(key)?;
                let found = get(&mut unit, &caller, &collection, key)?;
                bytes += found.as_ref().map_or(0, Vec::len);
                if bytes <= ANSWER_BYTES_MAX { Ok(found) } else { Err(answer_too_large("fewer keys at once")) }
            })
            .collect()
    }

    fn put(&mut self, caller: Caller, collection: String, key: String, value: Vec<u8>) -> Result<(), Error> {
        let mut unit = self.unit.lock();
        begin(&mut unit, &caller, &collection, 1)?;
        check_key(&key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::Invalid(format!("a value of {} bytes; at most {VALUE_BYTES_MAX}", value.len())));
        }
        unit.charge_bytes(key.len() + value.len())?;
        caller.usage.wrote(key.len() + value.len());
        unit.write()?.put(&keys::document(caller.name(), &collection, &key), value);
        Ok(())
    }

    fn delete(&mut self, caller: Caller, collection: String, key: String) -> Result<(), Error> {
        let mut unit = self.unit.lock();
        begin(&mut unit, &caller, &collection, 1)?;
        check_key(&key)?;
        caller.usage.wrote(key.len());
        unit.write()?.delete(&keys::document(caller.name(), &collection, &key));
        Ok(())
    }

    fn scan(&mut self, caller: Caller, collection: String, range: Range, limit: u32, reverse: bool) -> Result<Vec<Entry>, Error> {
        let mut unit = self.unit.lock();
        begin(&mut unit, &caller, &collection, 1)?;
        let first = keys::document(caller.name(), &collection, "");
        let bound = |bound: &Option<String>| -> Result<Option<keys::Key>, Error> {
            let Some(key) = bound else { return Ok(None) };
            // A bound may be longer than any key, but never leave the collection.
            if key.contains('\0') || key.len() > KEY_BYTES_MAX + 1 {
                return Err(Error::Invalid("a bound of a range: use at most 513 bytes without NUL".into()));
            }
            Ok(Some(keys::document(caller.name(), &collection, key)))
        };
        let start = bound(&range.start)?.unwrap_or_else(|| first.clone());
        let end = bound(&range.end)?.unwrap_or_else(|| keys::collection_end(caller.name(), &collection));
        let left = usize::try_from(unit.bytes_left()).unwrap_or(usize::MAX);
        let (limit, bytes_max) = (limit.min(SCAN_MAX) as usize, left.min(ANSWER_BYTES_MAX));
        let Some(found) = unit.read()?.scan_within(Bound::Included(&start), Bound::Excluded(&end), limit, bytes_max, reverse)? else {
            unit.charge_bytes(bytes_max)?;
            return Err(answer_too_large("with a lower limit"));
        };
        unit.charge(found.len() as u32, caller.manifest.limits.storage_operations)?;
        let bytes = found.iter().map(|(key, value)| key.len() + value.len()).sum();
        caller.usage.read(1 + found.len(), bytes);
        unit.charge_bytes(bytes)?;
        let entry = |(key, value): (bytes::Bytes, bytes::Bytes)| {
            // Keys were strings when they were put.
            let key = String::from_utf8_lossy(&key[first.len()..]).into_owned();
            Entry { key, value: value.to_vec() }
        };
        Ok(found.into_iter().map(entry).collect())
    }

    fn counter_get(&mut self, caller: Caller, collection: String, key: String) -> Result<i64, Error> {
        let mut unit = self.unit.lock();
        begin(&mut unit, &caller, &collection, 1)?;
        check_key(&key)?;
        caller.usage.read(1, key.len());
        Ok(unit.read()?.counter_get(&keys::counter(caller.name(), &collection, &key))?)
    }

    fn counter_peek(&mut self, caller: Caller, collection: String, key: String) -> Result<i64, Error> {
        let mut unit = self.unit.lock();
        begin(&mut unit, &caller, &collection, 1)?;
        check_key(&key)?;
        caller.usage.read(1, key.len());
        Ok(unit.read()?.counter_peek(&keys::counter(caller.name(), &collection, &key))?)
    }

    fn counter_add(&mut self, caller: Caller, collection: String, key: String, delta: i64, floor: Option<i64>) -> Result<i64, Error> {
        let mut unit = self.unit.lock();
        begin(&mut unit, &caller, &collection, 1)?;
        check_key(&key)?;
        caller.usage.wrote(key.len());
        let added = unit.write()?.counter_add(&keys::counter(caller.name(), &collection, &key), delta, floor)?;
        added.map_err(|below| Error::BelowFloor(below.value))
    }
}

fn answer_too_large(ask: &str) -> Error {
    Error::Quota(format!("more than {ANSWER_BYTES_MAX} bytes in one answer, or than the unit has left: ask {ask}"))
}

fn get(unit: &mut Unit, caller: &Caller, collection: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let value = unit.read()?.get(&keys::document(caller.name(), collection, key))?;
    let bytes = key.len() + value.as_ref().map_or(0, bytes::Bytes::len);
    caller.usage.read(1, bytes);
    unit.charge_bytes(bytes)?;
    // Uniquely held, it is handed over without a copy.
    Ok(value.map(Vec::from))
}
