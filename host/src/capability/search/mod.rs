//! Full-text search over documents of plugins.
//!
//! The documents lie in the store and change with the unit. Each change also
//! appends to a log, which the [`indexer`] follows: an index is never ahead of
//! the store, catches up after a crash, and can always be built again.

mod chinese;
mod english;
mod highlight;
mod index;
mod indexer;
mod metered;
mod query;
#[cfg(test)]
mod tests;
mod text;
mod typos;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tantivy::TantivyError;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::engine::{Account, GuestState};
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::search::Host;
use crate::engine::bindings::souk::host::search::{Error, Field, Results, SearchQuery, Value as GuestValue};
use crate::shop::manifest::{FieldKind, Index as Definition};
use crate::store::{Store, Txn};
use crate::work::{UnitError, keys};
use index::{Document, Index, KEYWORD_BYTES_MAX, Value};
use text::Analysis;

const ID_BYTES_MAX: usize = 512;
const DOCUMENT_BYTES_MAX: usize = 64 << 10;
const VALUES_MAX: usize = 128;
const FIELDS_MAX: usize = 32;
const DICTIONARY_WORDS_MAX: usize = 50_000;
const WORD_CHARACTERS_MAX: usize = 16;
/// What a query counts for among a unit's storage operations.
const QUERY_OPERATIONS: u32 = 20;
/// A query that finds damage has the index rebuilt, but not again and again.
const REBUILD_APART: Duration = Duration::from_secs(60);

/// Plugin and index.
type Name = (String, String);

/// The account of a plugin that may not have the whole.
pub type Payers = Box<dyn Fn(&str) -> Option<Arc<Account>> + Send + Sync>;

pub struct Search {
    folder: PathBuf,
    store: Store,
    analysis: Arc<Analysis>,
    open: RwLock<BTreeMap<Name, Arc<Index>>>,
    /// To be built again, whatever state they are in.
    rebuild: Mutex<BTreeSet<Name>>,
    damaged_at: Mutex<BTreeMap<Name, Instant>>,
    payers: OnceLock<Payers>,
    /// Plugins over their share, and since when their changes wait.
    held: Mutex<BTreeMap<String, Instant>>,
    wake: Notify,
    /// All commits of the store up to this one are in the indexes.
    followed: watch::Sender<u64>,
    stop: CancellationToken,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// Why a query has no results.
#[derive(Debug)]
enum Failed {
    /// For the caller.
    Plain(Error),
    /// The files are not what was written.
    Damaged(String),
}

fn is_damage(error: &TantivyError) -> bool {
    use TantivyError::{DataCorruption, DeserializeError, IncompatibleIndex, IoError, OpenReadError};
    matches!(error, DataCorruption(_) | DeserializeError(_) | IncompatibleIndex(_) | IoError(_) | OpenReadError(_))
}

impl Search {
    /// Deletes the indexes of a plugin that is gone.
    pub fn forget(&self, plugin: &str) -> std::io::Result<()> {
        indexer::remove_folder(&self.folder.join(plugin))
    }

    /// `words` are the shop's own, for segmentation: see [`dictionary`].
    pub fn new(folder: &Path, store: Store, words: Vec<String>) -> Self {
        Self {
            folder: folder.to_owned(),
            store,
            analysis: Analysis::new(words),
            open: RwLock::default(),
            rebuild: Mutex::default(),
            damaged_at: Mutex::default(),
            payers: OnceLock::new(),
            held: Mutex::default(),
            wake: Notify::new(),
            followed: watch::Sender::new(0),
            stop: CancellationToken::new(),
            task: Mutex::default(),
        }
    }

    fn query(&self, caller: &Caller, index: &str, query: &SearchQuery) -> Result<Results, Error> {
        let declared = definition(caller, index)?;
        query::check(declared, query)?;
        self.with_index(caller, index, |index| {
            // One that is about to be built again answers what it can.
            if index.definition != *declared && query::check(&index.definition, query).is_err() {
                return Err(Failed::Plain(being_built(&declared.name)));
            }
            query::run(index, query)
        })
    }

    fn suggest(&self, caller: &Caller, index: &str, prefix: &str, limit: u32) -> Result<Vec<String>, Error> {
        definition(caller, index)?;
        self.with_index(caller, index, |index| query::suggest(index, prefix, limit))
    }

    fn with_index<T>(&self, caller: &Caller, index: &str, ask: impl FnOnce(&Index) -> Result<T, Failed>) -> Result<T, Error> {
        let name = (caller.name().to_owned(), index.to_owned());
        let open = self.open.read().get(&name).cloned().ok_or_else(|| being_built(index))?;
        // Damaged files make tantivy panic as well as fail.
        match catch_unwind(AssertUnwindSafe(|| ask(&open))) {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Failed::Plain(error))) => return Err(error),
            Ok(Err(Failed::Damaged(reason))) => tracing::warn!(target: "search", plugin = name.0, index, reason, "damaged index"),
            Err(_) => tracing::warn!(target: "search", plugin = name.0, index, "a query panicked"),
        }
        let now = Instant::now();
        let earlier = self.damaged_at.lock().insert(name.clone(), now);
        if earlier.is_none_or(|earlier| now - earlier > REBUILD_APART) {
            self.rebuild(name);
        }
        Err(being_built(index))
    }

    fn rebuild(&self, name: Name) {
        self.rebuild.lock().insert(name);
        self.wake.notify_one();
    }

    /// Builds indexes again from the documents: all, or those of one plugin, or
    /// one. Tells how many are to be built.
    pub fn rebuild_all(&self, plugin: Option<&str>, index: Option<&str>) -> usize {
        let open = self.open.read();
        let chosen = open.keys().filter(|(p, i)| plugin.is_none_or(|plugin| plugin == p) && index.is_none_or(|index| index == i));
        chosen.map(|name| self.rebuild(name.clone())).count()
    }
}

/// Reads the shop's own words, one a line; `#` begins a comment. A line that is no word is
/// left out, and told: it is no reason not to open the shop.
pub fn dictionary(file: &Path) -> Vec<String> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(target: "search", file = %file.display(), %error, "cannot read the dictionary: searching without it");
            return Vec::new();
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut words = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let word = text::simplify(line.split('#').next().unwrap_or_default().trim_start_matches('\u{feff}').trim());
        let is_word = word.chars().count() <= WORD_CHARACTERS_MAX && word.chars().all(text::is_cjk);
        if words.len() == DICTIONARY_WORDS_MAX {
            tracing::warn!(target: "search", file = %file.display(), max = DICTIONARY_WORDS_MAX, "the dictionary has more words than are taken");
            break;
        } else if !is_word {
            let line = number + 1;
            tracing::warn!(target: "search", file = %file.display(), line, "left out: give one word of 1 to {WORD_CHARACTERS_MAX} Chinese characters a line");
        } else if !word.is_empty() {
            words.insert(word);
        }
    }
    words.into_iter().collect()
}

/// What is wrong with the indexes of a manifest, if anything.
pub fn problems(indexes: &[Definition]) -> Vec<String> {
    let mut problems = Vec::new();
    for index in indexes {
        let mut names = BTreeSet::new();
        for field in &index.fields {
            if field.name.is_empty() || field.name.len() > 64 || !names.insert(&field.name) {
                problems.push(format!("the index `{}`, the field `{}`: names have 1 to 64 bytes, each once", index.name, field.name));
            }
            if field.kind != FieldKind::Text && (field.suggest || field.boost.is_some()) {
                problems.push(format!("the index `{}`, the field `{}`: `suggest` and `boost` are for text fields", index.name, field.name));
            }
            if field.boost.is_some_and(|boost| !(0.01..=100.0).contains(&boost)) {
                problems.push(format!("the index `{}`, the field `{}`: give a boost from 0.01 to 100", index.name, field.name));
            }
        }
        if index.fields.is_empty() || index.fields.len() > FIELDS_MAX {
            problems.push(format!("the index `{}`: give 1 to {FIELDS_MAX} fields", index.name));
        }
    }
    problems
}

fn being_built(index: &str) -> Error {
    Error::Unavailable(format!("the index `{index}` is being built"))
}

fn definition<'a>(caller: &'a Caller, index: &str) -> Result<&'a Definition, Error> {
    let declared = caller.manifest.indexes.iter().find(|declared| declared.name == index);
    declared.ok_or_else(|| Error::Invalid(format!("no index `{index}`: declare it under [[indexes]] in the manifest")))
}

/// Checks a document against what the manifest declares.
fn document(definition: &Definition, fields: Vec<Field>) -> Result<Document, Error> {
    let mut bytes = 0;
    let mut document: Vec<(String, Value)> = Vec::with_capacity(fields.len());
    for field in fields {
        let invalid = |what: &str| Error::Invalid(format!("the index `{}`, the field `{}`: {what}", definition.name, field.name));
        let declared = definition.fields.iter().find(|declared| declared.name == field.name).ok_or_else(|| invalid("there is no such field"))?;
        if document.iter().any(|(name, _)| *name == field.name) {
            return Err(invalid("given twice; use `many`"));
        }
        let value = match (declared.kind, field.value) {
            (FieldKind::Number, GuestValue::Number(number)) => Value::Number(number),
            (FieldKind::Number, GuestValue::Many(values)) => {
                let numbers = values.iter().map(|value| value.parse().map_err(|_| invalid("`many` values of a number field are whole numbers")));
                Value::Numbers(numbers.collect::<Result<_, _>>()?)
            }
            (FieldKind::Text | FieldKind::Keyword, GuestValue::Text(text)) => Value::Text(vec![text]),
            (FieldKind::Text | FieldKind::Keyword, GuestValue::Many(values)) => Value::Text(values),
            (FieldKind::Number, _) => return Err(invalid("it takes a number")),
            (_, GuestValue::Number(_)) => return Err(invalid("it takes text")),
        };
        let values = match &value {
            Value::Text(values) => values.len(),
            Value::Number(_) => 1,
            Value::Numbers(numbers) => numbers.len(),
        };
        if values > VALUES_MAX {
            return Err(invalid(&format!("more than {VALUES_MAX} values")));
        }
        if let Value::Text(values) = &value {
            if declared.kind == FieldKind::Keyword && values.iter().any(|value| value.len() > KEYWORD_BYTES_MAX) {
                return Err(invalid(&format!("a keyword has at most {KEYWORD_BYTES_MAX} bytes")));
            }
            bytes += values.iter().map(String::len).sum::<usize>();
        }
        document.push((field.name, value));
    }
    if bytes > DOCUMENT_BYTES_MAX {
        return Err(Error::Invalid(format!("the index `{}`: a document has at most {DOCUMENT_BYTES_MAX} bytes of text", definition.name)));
    }
    Ok(Document(document))
}

fn check_id(id: &str) -> Result<(), Error> {
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.contains('\0') {
        return Err(Error::Invalid(format!("a document's id has 1 to {ID_BYTES_MAX} bytes, without NUL")));
    }
    Ok(())
}

fn encode(record: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(record).expect("plain records have an encoding")
}

/// Stages the change: the document as it will be, and a note that it changed.
fn change(txn: &mut Txn, plugin: &str, index: &str, id: &str, document: Option<Vec<u8>>) {
    let key = keys::search_document(plugin, index, id);
    match document {
        Some(document) => txn.put(&key, document),
        None => txn.delete(&key),
    }
    txn.append(keys::SEARCH, encode(&(plugin, index, id)));
}

impl From<UnitError> for Error {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::ReadOnly => Error::ReadOnly,
            UnitError::Quota(what) => Error::Quota(what),
            UnitError::Ended | UnitError::Store(_) => Error::Unavailable(error.to_string()),
        }
    }
}

impl Host for GuestState {
    fn put(&mut self, caller: Caller, index: String, id: String, fields: Vec<Field>) -> Result<(), Error> {
        check_id(&id)?;
        let document = encode(&document(definition(&caller, &index)?, fields)?);
        let mut unit = self.unit.lock();
        unit.charge(2, caller.manifest.limits.storage_operations)?;
        unit.charge_bytes(document.len() + 2 * id.len())?;
        change(unit.write()?, caller.name(), &index, &id, Some(document));
        Ok(())
    }

    fn delete(&mut self, caller: Caller, index: String, id: String) -> Result<(), Error> {
        check_id(&id)?;
        definition(&caller, &index)?;
        let mut unit = self.unit.lock();
        unit.charge(2, caller.manifest.limits.storage_operations)?;
        change(unit.write()?, caller.name(), &index, &id, None);
        Ok(())
    }

    fn query(&mut self, caller: Caller, index: String, query: SearchQuery) -> Result<Results, Error> {
        self.unit.lock().charge(QUERY_OPERATIONS, caller.manifest.limits.storage_operations)?;
        self.services.search.query(&caller, &index, &query)
    }

    fn suggest(&mut self, caller: Caller, index: String, prefix: String, limit: u32) -> Result<Vec<String>, Error> {
        self.unit.lock().charge(QUERY_OPERATIONS, caller.manifest.limits.storage_operations)?;
        self.services.search.suggest(&caller, &index, &prefix, limit)
    }
}
