//! Typed documents with secondary indexes over the plain storage capability.
//!
//! Documents are JSON: a document written by an older version of a plugin is
//! read by a newer one whose added fields are `#[serde(default)]`, and an
//! operator can read what is stored. Index entries are documents of a sibling
//! collection, written in the same unit of work as what they point to.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::storage::{self, Range};
use crate::words::InWords;

/// Between value and key of an index entry. Sorts before all printable text, so
/// that entries are ordered by value, then by key.
const SEPARATOR: char = '\u{1}';
const SCAN_MAX: u32 = 1_000;

/// Documents of type `T`, by key.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use souk_sdk::storage::{Collection, CollectionError, Index};
///
/// #[derive(Serialize, Deserialize)]
/// struct Product {
///     handle: String,
///     categories: Vec<String>,
/// }
///
/// const PRODUCTS: Collection<Product> = Collection::new(
///     "products",
///     &[
///         Index::unique("handle", |product| vec![product.handle.clone()]),
///         Index::many("category", |product| product.categories.clone()),
///     ],
/// );
///
/// PRODUCTS.put("1", &Product { handle: "tea".into(), categories: vec!["drinks".into()] })?;
/// let (key, _) = PRODUCTS.find("handle", "tea")?.expect("just put");
/// assert_eq!(key, "1");
/// assert_eq!(PRODUCTS.keys_by("category", "drinks", None, 100)?, ["1"]);
/// # Ok::<(), CollectionError>(())
/// ```
pub struct Collection<T: 'static> {
    name: &'static str,
    indexes: &'static [Index<T>],
    document: PhantomData<fn() -> T>,
}

/// A way to find documents by what is in them. Adding one to a collection that
/// has documents needs a job that puts each of them again.
pub struct Index<T> {
    name: &'static str,
    unique: bool,
    values: fn(&T) -> Vec<String>,
}

impl<T> Index<T> {
    /// Any number of documents for a value.
    pub const fn many(name: &'static str, values: fn(&T) -> Vec<String>) -> Self {
        Self { name, unique: false, values }
    }

    /// At most one document for a value: putting a second one fails.
    pub const fn unique(name: &'static str, values: fn(&T) -> Vec<String>) -> Self {
        Self { name, unique: true, values }
    }
}

/// Why a collection could not be read or written.
#[derive(Debug, Clone, PartialEq)]
pub enum CollectionError {
    /// The host said no; for instance a key or a document outside the limits.
    Storage(storage::Error),
    /// Another document has this value of a unique index.
    Duplicate {
        /// Its name.
        index: &'static str,
        /// What both would have.
        value: String,
    },
    /// What is stored is not what this version of the plugin reads.
    Unreadable {
        /// Where it lies.
        collection: &'static str,
        /// Of the document.
        key: String,
        /// Names the field.
        reason: String,
    },
}

impl fmt::Display for CollectionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => out.write_str(&error.in_words()),
            Self::Duplicate { index, value } => write!(out, "another document has {index} `{value}`"),
            Self::Unreadable { collection, key, reason } => {
                write!(out, "document `{key}` of `{collection}` cannot be read: {reason}")
            }
        }
    }
}

impl std::error::Error for CollectionError {}

impl From<storage::Error> for CollectionError {
    fn from(error: storage::Error) -> Self {
        Self::Storage(error)
    }
}

type Result<T> = std::result::Result<T, CollectionError>;

impl<T: Serialize + DeserializeOwned> Collection<T> {
    /// A collection of this plugin; the name is 1 to 64 characters of `a-z 0-9 -`.
    pub const fn new(name: &'static str, indexes: &'static [Index<T>]) -> Self {
        Self { name, indexes, document: PhantomData }
    }

    /// None where there is no document of this key, also where none can have it: what people type is often looked up as it is.
    pub fn get(&self, key: &str) -> Result<Option<T>> {
        if !can_be_key(key) {
            return Ok(None);
        }
        storage::get(self.name, key)?.map(|bytes| self.decode(key, &bytes)).transpose()
    }

    /// One answer a key, in the order asked. At most 1,000 keys.
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<Option<T>>> {
        let found = storage::get_many(self.name, keys)?;
        keys.iter().zip(found).map(|(key, bytes)| bytes.map(|bytes| self.decode(key, &bytes)).transpose()).collect()
    }

    /// Adds or replaces a document and keeps its index entries in step.
    pub fn put(&self, key: &str, document: &T) -> Result<()> {
        // Only indexes need to know what was there.
        let old = if self.indexes.is_empty() { None } else { self.get(key)? };
        for index in self.indexes {
            self.reindex(index, key, old.as_ref(), Some(document))?;
        }
        let bytes = serde_json::to_vec(document).map_err(|error| self.unreadable(key, error))?;
        Ok(storage::put(self.name, key, &bytes)?)
    }

    /// Adds a document; `false`, and nothing changed, where there is one.
    pub fn insert(&self, key: &str, document: &T) -> Result<bool> {
        if storage::get(self.name, key)?.is_some() {
            return Ok(false);
        }
        self.put(key, document)?;
        Ok(true)
    }

    /// Deleting what is not there is no error.
    pub fn delete(&self, key: &str) -> Result<()> {
        let old = if self.indexes.is_empty() { None } else { self.get(key)? };
        for index in self.indexes {
            self.reindex(index, key, old.as_ref(), None)?;
        }
        Ok(storage::delete(self.name, key)?)
    }

    /// Documents in order of their keys, or the reverse; at most `limit`, which
    /// is capped at 1,000. See [`storage::prefix`] and [`storage::after`].
    pub fn scan(&self, range: &Range, limit: u32, reverse: bool) -> Result<Vec<(String, T)>> {
        let entries = storage::scan(self.name, range, limit, reverse)?;
        entries.into_iter().map(|entry| Ok((entry.key.clone(), self.decode(&entry.key, &entry.value)?))).collect()
    }

    /// The document with this value of a unique index.
    pub fn find(&self, index: &str, value: &str) -> Result<Option<(String, T)>> {
        let index = self.index(index);
        if !can_be_key(value) {
            return Ok(None);
        }
        let Some(bytes) = storage::get(&self.index_collection(index), value)? else { return Ok(None) };
        let key = String::from_utf8_lossy(&bytes).into_owned();
        Ok(self.get(&key)?.map(|document| (key, document)))
    }

    /// Keys of the documents with this value of an index, in order, after `after`.
    pub fn keys_by(&self, index: &str, value: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>> {
        let start = after.map_or(format!("{value}{SEPARATOR}"), |key| format!("{value}{SEPARATOR}{key}{SEPARATOR}"));
        let end = format!("{value}{}", '\u{2}');
        let entries = self.scan_index(index, &Range { start: Some(start), end: Some(end) }, limit, false)?;
        Ok(entries.into_iter().map(|(_, key)| key).collect())
    }

    /// Values and keys of an index (not a unique one) in order of the values,
    /// or the reverse: newest first, cheapest first.
    pub fn scan_index(&self, index: &str, range: &Range, limit: u32, reverse: bool) -> Result<Vec<(String, String)>> {
        let entries = storage::scan(&self.index_collection(self.index(index)), range, limit.min(SCAN_MAX), reverse)?;
        let split = |key: &str| key.split_once(SEPARATOR).map(|(value, key)| (value.to_owned(), key.to_owned()));
        Ok(entries.iter().filter_map(|entry| split(&entry.key)).collect())
    }

    fn reindex(&self, index: &Index<T>, key: &str, old: Option<&T>, new: Option<&T>) -> Result<()> {
        let values = |document: Option<&T>| document.map(index.values).unwrap_or_default();
        let (old, new) = (values(old), values(new));
        let collection = self.index_collection(index);
        let entry = |value: &str| if index.unique { value.to_owned() } else { format!("{value}{SEPARATOR}{key}") };
        for value in old.iter().filter(|value| !new.contains(value)) {
            storage::delete(&collection, &entry(value))?;
        }
        for value in new.iter().filter(|value| !old.contains(value)) {
            if value.contains(SEPARATOR) {
                return Err(storage::Error::Invalid(format!("control character in {} `{value}`", index.name)).into());
            }
            if index.unique && storage::get(&collection, value)?.is_some_and(|owner| owner != key.as_bytes()) {
                return Err(CollectionError::Duplicate { index: index.name, value: value.clone() });
            }
            let owner = if index.unique { key.as_bytes() } else { b"" };
            storage::put(&collection, &entry(value), owner)?;
        }
        Ok(())
    }

    /// Panics on a name that the collection does not declare: a slip in the
    /// plugin's code, not in its data.
    fn index(&self, name: &str) -> &'static Index<T> {
        let found = self.indexes.iter().find(|index| index.name == name);
        found.unwrap_or_else(|| panic!("collection `{}` declares no index `{name}`", self.name))
    }

    fn index_collection(&self, index: &Index<T>) -> String {
        format!("{}--{}", self.name, index.name)
    }

    fn decode(&self, key: &str, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|error| self.unreadable(key, error))
    }

    fn unreadable(&self, key: &str, error: serde_json::Error) -> CollectionError {
        CollectionError::Unreadable { collection: self.name, key: key.to_owned(), reason: error.to_string() }
    }
}

/// Of keys in `souk:host/storage`.
const KEY_BYTES_MAX: usize = 512;

/// Whether the host would take it for a key.
fn can_be_key(key: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.contains('\0')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Item {
        code: String,
        tags: Vec<String>,
        #[serde(default)]
        added_later: u32,
    }

    const ITEMS: Collection<Item> = Collection::new(
        "items",
        &[Index::unique("code", |item| vec![item.code.clone()]), Index::many("tag", |item| item.tags.clone())],
    );

    #[test]
    fn a_document_without_a_field_added_later_is_read() {
        storage::put("items", "1", br#"{"code":"a","tags":[],"gone":1}"#).unwrap();
        assert_eq!(ITEMS.get("1").unwrap().unwrap().added_later, 0);
    }

    #[test]
    fn what_can_be_no_key_has_no_document() {
        for key in [String::new(), "a\0".into(), "a".repeat(KEY_BYTES_MAX + 1)] {
            assert_eq!((ITEMS.get(&key), ITEMS.find("code", &key)), (Ok(None), Ok(None)), "{key:?}");
        }
    }

    #[test]
    fn keys_by_goes_on_after_a_key_that_is_a_prefix_of_the_next() {
        for key in ["a", "a1", "ab", "b"] {
            ITEMS.put(key, &Item { code: key.into(), tags: vec!["t".into()], added_later: 0 }).unwrap();
        }
        assert_eq!(ITEMS.keys_by("tag", "t", Some("a"), 2).unwrap(), ["a1", "ab"]);
        assert_eq!(ITEMS.keys_by("tag", "t", Some("ab"), 9).unwrap(), ["b"]);
    }

    fn changes() -> impl Strategy<Value = Vec<(String, Option<Item>)>> {
        let tags = prop::collection::vec("[xyz]{1,2}", 0..3);
        let item = ("[ab]", tags).prop_map(|(code, tags)| Item { code, tags, added_later: 0 });
        prop::collection::vec(("[0-4]", prop::option::of(item)), 0..40)
    }

    proptest! {
        /// Whatever was put and deleted, each index says what a look at all documents says.
        #[test]
        fn indexes_agree_with_documents(changes in changes()) {
            crate::testing::reset();
            let mut model: BTreeMap<String, Item> = BTreeMap::new();
            for (key, item) in changes {
                match item {
                    None => {
                        ITEMS.delete(&key).unwrap();
                        model.remove(&key);
                    }
                    Some(item) => {
                        let taken = model.iter().any(|(other, it)| *other != key && it.code == item.code);
                        let put = crate::testing::unit(|| ITEMS.put(&key, &item));
                        prop_assert_eq!(put.is_err(), taken);
                        if !taken {
                            model.insert(key, item);
                        }
                    }
                }
            }
            for value in ["x", "y", "z", "xx", "xy", "yx"] {
                let tagged = model.iter().filter(|(_, item)| item.tags.iter().any(|tag| tag == value));
                let expected: Vec<String> = tagged.map(|(key, _)| key.clone()).collect();
                prop_assert_eq!(ITEMS.keys_by("tag", value, None, 100).unwrap(), expected);
            }
            for code in ["a", "b"] {
                let expected = model.iter().find(|(_, item)| item.code == code).map(|(key, item)| (key.clone(), item.clone()));
                prop_assert_eq!(ITEMS.find("code", code).unwrap(), expected);
            }
        }
    }
}
