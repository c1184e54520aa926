//! `wasi:keyvalue` over the plugin's own documents: a bucket is a collection, a
//! pair is a document. What is written is part of the unit, as all else.
//!
//! Two drafts of the interface are in use; [`Bucket`] is what they share.

use souk::host::storage::{self, Range};

mod draft;
mod draft2;

wit_bindgen::generate!({
    world: "souk:wasi/keyvalue",
    path: ["../../../wit/host", "../../../wit/web", "../wit"],
    generate_all,
});

struct KeyValue;

export!(KeyValue);

/// Of one call of `list-keys`.
const KEYS_MAX: u32 = 100;
/// For a guest that names none.
const DEFAULT: &str = "default";

#[derive(Clone)]
pub struct Bucket {
    collection: String,
}

fn reason(error: storage::Error) -> String {
    match error {
        storage::Error::Invalid(reason) | storage::Error::Quota(reason) | storage::Error::Unavailable(reason) => reason,
        storage::Error::ReadOnly => "the unit may only read".into(),
        storage::Error::BelowFloor(_) => "below its floor".into(),
    }
}

impl Bucket {
    fn open(identifier: String) -> Result<Self, String> {
        let collection = if identifier.is_empty() { DEFAULT.into() } else { identifier };
        // Says how buckets may be named, if not so; the unit does not depend on it.
        storage::counter_peek(&collection, DEFAULT).map_err(reason)?;
        Ok(Self { collection })
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        storage::get(&self.collection, key).map_err(reason)
    }

    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, String> {
        storage::get_many(&self.collection, keys).map_err(reason)
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        storage::put(&self.collection, key, value).map_err(reason)
    }

    fn delete(&self, key: &str) -> Result<(), String> {
        storage::delete(&self.collection, key).map_err(reason)
    }

    /// In order, after `last`.
    fn keys(&self, last: Option<String>) -> Result<Vec<String>, String> {
        // The smallest key beyond it.
        let start = last.map(|last| last + "\u{1}");
        let entries = storage::scan(&self.collection, &Range { start, end: None }, KEYS_MAX, false).map_err(reason)?;
        Ok(entries.into_iter().map(|entry| entry.key).collect())
    }

    /// Numbers are kept as decimal text, which `get` gives, too.
    fn increment(&self, key: &str, delta: i128) -> Result<i64, String> {
        let now = match self.get(key)? {
            None => 0,
            Some(value) => (std::str::from_utf8(&value).ok())
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| format!("`{key}` holds no number: increment works where it wrote, or decimal text was set"))?,
        };
        let sum = i64::try_from(i128::from(now) + delta).map_err(|_| format!("`{key}` would leave the range of 64 bits"))?;
        self.set(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }
}
