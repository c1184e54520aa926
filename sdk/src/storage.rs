//! Documents and counters of this plugin. Typed ones are a [`Collection`] and a
//! [`Counter`]; the plain functions are the capability itself.

pub use crate::capability::storage::*;
pub use crate::collection::{Collection, CollectionError, Index};

/// All keys that start with `prefix`.
pub fn prefix(prefix: &str) -> Range {
    // The greatest code point sorts after whatever follows the prefix.
    Range { start: Some(prefix.into()), end: Some(format!("{prefix}{}", char::MAX)) }
}

/// All keys after `key`; with `None`, all. For going on with a scan.
pub fn after(key: Option<&str>) -> Range {
    // No key contains NUL, and none lies between `key` and `key` with a control
    // character appended, other than those that continue it.
    Range { start: key.map(|key| format!("{key}\u{1}")), end: None }
}

/// Text that sorts as the number does, for keys and index values.
///
/// ```
/// # use souk_sdk::storage::ordered;
/// assert!(ordered(-5) < ordered(0) && ordered(9) < ordered(10));
/// ```
pub fn ordered(number: i64) -> String {
    format!("{:016x}", (number as u64) ^ (1 << 63))
}

/// Numbers that many units may add to at once without conflict: stock, uses of
/// a code, visits.
///
/// ```
/// # use souk_sdk::storage::{self, Counter};
/// const STOCK: Counter = Counter::new("stock");
///
/// STOCK.add("TEA-1", 3)?;
/// STOCK.add_not_below("TEA-1", -3, 0)?;
/// assert_eq!(STOCK.add_not_below("TEA-1", -1, 0), Err(storage::Error::BelowFloor(0)));
/// # Ok::<(), storage::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    collection: &'static str,
}

impl Counter {
    /// Counters in this collection, which documents of the same collection do not meet.
    pub const fn new(collection: &'static str) -> Self {
        Self { collection }
    }

    /// 0 where nothing was added yet. Reading makes the unit depend on it.
    pub fn get(&self, key: &str) -> Result<i64, Error> {
        counter_get(self.collection, key)
    }

    /// The same without depending on it: for showing where many units add.
    pub fn peek(&self, key: &str) -> Result<i64, Error> {
        counter_peek(self.collection, key)
    }

    /// The value as this unit sees it afterwards.
    pub fn add(&self, key: &str, delta: i64) -> Result<i64, Error> {
        counter_add(self.collection, key, delta, None)
    }

    /// Fails with `Error::BelowFloor` rather than let the value fall below `floor`.
    pub fn add_not_below(&self, key: &str, delta: i64, floor: i64) -> Result<i64, Error> {
        counter_add(self.collection, key, delta, Some(floor))
    }
}
