//! The documents of one plugin as a whole: which form they have, rewriting them
//! into another one beside the units of shoppers, and taking them out of a
//! store, into one, or away.
//!
//! A plugin asks `souk:host/data` for the form to write, and so each of its
//! units has read the record that is kept here: one that began before the form
//! changed, and commits after it, conflicts and is run again. Used by the
//! `data` capability, by the shop before a version goes live, and by `souk
//! plugin data`.

use std::io::{BufRead, Read, Seek, Write};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::dead::decode;
use super::keys::Key;
use super::runner::{Verdict, host};
use super::unit::{Kind, encode};
use super::{PluginAnswer, PluginCall, Plugins, RunError, Runner, Unit, keys};
use crate::capability::storage::check_place;
use crate::shop::manifest::Data;
use crate::store::{Store, StoreError, Txn};

/// Documents and counters of one unit of the host's own.
const BATCH: usize = 1_000;
/// Of documents in one unit of an import.
const BATCH_BYTES: usize = 4 << 20;
/// What a document may be at most, its every byte escaped, fits well.
const LINE_BYTES_MAX: u64 = 4 << 20;
const HEADLESS: &str = "an export begins with one line that names the plugin";

/// In which forms a plugin's documents are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forms {
    /// What is written.
    pub form: u32,
    /// What may still be there: another one while documents are rewritten.
    pub from: u32,
    /// Of a migration that a host before this one began; see [`Migration`].
    cursor: String,
}

/// A rewriting that is under way. How far it is has a record of its own: units of shoppers
/// read [`Forms`], and would conflict with each step if it were there.
#[derive(Clone, PartialEq)]
struct Migration {
    forms: Forms,
    /// The plugin's own words.
    cursor: String,
}

impl Migration {
    fn stored(txn: &mut Txn, plugin: &str) -> Result<Self, RunError> {
        let forms = forms(txn, plugin)?;
        let cursor = txn.get(&keys::migrated(plugin))?.map(|bytes| decode(&bytes)).transpose()?;
        Ok(Self { cursor: cursor.unwrap_or_else(|| forms.cursor.clone()), forms })
    }

    /// After one more step, whose cursor is the last one's where none is left.
    fn step(self, txn: &mut Txn, plugin: &str, cursor: Option<String>) -> Self {
        if let Some(cursor) = cursor {
            txn.put(&keys::migrated(plugin), encode(&cursor));
            return Self { cursor, ..self };
        }
        Self::begun(txn, plugin, Forms::settled(self.forms.form))
    }

    fn begun(txn: &mut Txn, plugin: &str, forms: Forms) -> Self {
        store_forms(txn, plugin, &forms);
        txn.delete(&keys::migrated(plugin));
        Self { forms, cursor: String::new() }
    }
}

impl Forms {
    fn settled(form: u32) -> Self {
        Self { form, from: form, cursor: String::new() }
    }

    fn is_settled(&self) -> bool {
        self.form == self.from
    }

    fn fit(&self, data: &Data) -> bool {
        data.reads() <= self.form.min(self.from) && self.form.max(self.from) <= data.form
    }
}

/// Where nothing was ever said, they have the first.
pub fn forms(txn: &mut Txn, plugin: &str) -> Result<Forms, RunError> {
    let stored = txn.get(&keys::forms(plugin))?.map(|bytes| decode(&bytes)).transpose()?;
    Ok(stored.unwrap_or_else(|| Forms::settled(1)))
}

fn store_forms(txn: &mut Txn, plugin: &str, forms: &Forms) {
    txn.put(&keys::forms(plugin), encode(forms));
}

/// Before a version goes live: whether it can read what is stored. Where
/// nothing is, its own form is written from the start.
pub async fn admit(store: &Store, plugin: &str, data: &Data) -> Result<(), DataError> {
    let forms = host(store, |txn| {
        if importing(txn, plugin)?.is_some() {
            return Ok(None);
        }
        let (first, end) = keys::documents(plugin);
        let is_empty = txn.scan(Bound::Included(&first), Bound::Excluded(&end), 1, false)?.is_empty();
        let now = forms(txn, plugin)?;
        if !is_empty || now == Forms::settled(data.form) {
            return Ok(Some(now));
        }
        store_forms(txn, plugin, &Forms::settled(data.form));
        Ok(Some(Forms::settled(data.form)))
    })
    .await?
    .ok_or_else(|| DataError::HalfImported(plugin.to_owned()))?;
    if forms.fit(data) {
        return Ok(());
    }
    Err(DataError::Unreadable { plugin: plugin.to_owned(), stored: (forms.form.min(forms.from), forms.form.max(forms.from)), reads: (data.reads(), data.form) })
}

/// What is stored, where this version could write a newer form.
pub fn older_form(store: &Store, plugin: &str, data: &Data) -> Option<u32> {
    // Most plugins have never had another.
    let newer = data.form > 1;
    newer.then(|| forms(&mut store.begin(), plugin).ok())?.map(|forms| forms.form).filter(|form| *form < data.form)
}

#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error(
        "its documents have form {}, and this version reads {}. `souk plugin data migrate {plugin} --to FORM`, with a version that knows both, rewrites them.",
        range(stored),
        range(reads)
    )]
    Unreadable { plugin: String, stored: (u32, u32), reads: (u32, u32) },
    #[error("no version of `{0}` is live")]
    NotLive(String),
    #[error("the live version of `{plugin}` knows the forms {}, not {to}", range(&(*oldest, *newest)))]
    UnknownForm { plugin: String, to: u32, oldest: u32, newest: u32 },
    #[error("documents of `{plugin}` are on their way from form {from} to {form}: finish that first, or go back to {from}")]
    OnTheWay { plugin: String, form: u32, from: u32 },
    #[error("`{plugin}` could not rewrite its documents: {reason}. What was rewritten before that stays; run it again to go on.")]
    Migration { plugin: String, reason: String },
    #[error("meanwhile the documents of `{plugin}` were told to take form {form}: this migration has ended")]
    TurnedBack { plugin: String, form: u32 },
    #[error("`{0}` is live: its data can be replaced or deleted once it is removed (`souk plugin remove {0}`)")]
    IsLive(String),
    #[error("`{0}` has data here already: `souk plugin data delete {0}` deletes it")]
    NotEmpty(String),
    #[error("an import of the data of `{0}` is not finished: give the same command again with the same file, or `souk plugin data delete {0}`")]
    HalfImported(String),
    #[error("another import of the data of `{0}`, or its deletion, has come between: look what is there, and begin anew")]
    Overtaken(String),
    #[error("the file changed while it was read: `souk plugin data delete` deletes what came of it")]
    Changed,
    #[error("line {line}: {reason}")]
    Line { line: u64, reason: String },
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<StoreError> for DataError {
    fn from(error: StoreError) -> Self {
        Self::Run(error.into())
    }
}

fn range((oldest, newest): &(u32, u32)) -> String {
    if oldest == newest { newest.to_string() } else { format!("{oldest} to {newest}") }
}

/// One line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", untagged)]
enum Line {
    Head { plugin: String, form: u32 },
    Document { collection: String, key: String, document: serde_json::Value },
    /// What is no JSON object, in base64.
    Bytes { collection: String, key: String, bytes: String },
    Counter { collection: String, key: String, counter: i64 },
}

/// Writes all documents and counters of a plugin as they are at one instant:
/// JSON, one to a line. Answers with how many.
pub fn export(store: &Store, plugin: &str, out: &mut impl Write) -> Result<u64, DataError> {
    use base64::Engine;
    let mut txn = store.begin();
    let mut write = |line: &Line| -> Result<(), DataError> {
        serde_json::to_writer(&mut *out, line).map_err(std::io::Error::from)?;
        Ok(out.write_all(b"\n")?)
    };
    if importing(&mut txn, plugin)?.is_some() {
        return Err(DataError::HalfImported(plugin.to_owned()));
    }
    let form = forms(&mut txn, plugin)?.form;
    write(&Line::Head { plugin: plugin.to_owned(), form })?;
    let mut count = 0;
    let (mut first, end) = keys::documents(plugin);
    loop {
        let page = txn.peek(Bound::Excluded(&first), Bound::Excluded(&end), BATCH)?;
        let Some((last, _)) = page.last() else { break };
        first = Key::from_slice(last);
        for (key, value) in &page {
            let Some((collection, key)) = keys::names_of(plugin, key) else { continue };
            write(&match serde_json::from_slice(value) {
                Ok(document @ serde_json::Value::Object(_)) => Line::Document { collection, key, document },
                _ => Line::Bytes { collection, key, bytes: base64::prelude::BASE64_STANDARD.encode(value) },
            })?;
            count += 1;
        }
    }
    let (mut first, end) = keys::counters(plugin);
    loop {
        let page = txn.counters(Bound::Excluded(&first), Bound::Excluded(&end), BATCH)?;
        let Some((last, _)) = page.last() else { break };
        first = Key::from_slice(last);
        for (key, counter) in page {
            let Some((collection, key)) = keys::names_of(plugin, &key) else { continue };
            write(&Line::Counter { collection, key, counter })?;
            count += 1;
        }
    }
    Ok(count)
}

/// Reads what [`export`] wrote into a store where the plugin has nothing: once to look whether all of it is sound, and once to
/// write it, some at a time. Where that was broken off, the same file goes on from there, and until then the plugin does not
/// go live. Answers with how many documents and counters came.
pub async fn import(store: &Store, plugin: &str, mut input: impl BufRead + Seek) -> Result<u64, DataError> {
    let mut lines = Lines::of(plugin, &mut input);
    while lines.next()?.is_some() {}
    let (count, digest) = (lines.read, lines.hasher.finalize());
    if count == 0 {
        return Err(DataError::Line { line: 1, reason: HEADLESS.into() });
    }
    let mut done = host(store, |txn| Ok(begin_import(txn, plugin, digest.into()))).await??;

    input.rewind()?;
    let mut lines = Lines::of(plugin, &mut input);
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some((key, written)) = lines.next()? {
        if lines.read <= done.lines {
            continue;
        }
        bytes += written.bytes();
        batch.push((key, written));
        if batch.len() == BATCH || bytes >= BATCH_BYTES {
            done = import_some(store, plugin, done, std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
    }
    let done = import_some(store, plugin, done, batch).await?;
    if lines.hasher.finalize() != digest {
        return Err(DataError::Changed);
    }
    host(store, |txn| {
        let is_mine = importing(txn, plugin)?.as_ref() == Some(&done);
        is_mine.then(|| txn.delete(&keys::importing(plugin)));
        Ok(is_mine)
    })
    .await?
    .then_some(count - 1)
    .ok_or_else(|| DataError::Overtaken(plugin.to_owned()))
}

/// An import that has begun.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Importing {
    /// Of the file.
    digest: [u8; 32],
    /// How many of its lines are stored.
    lines: u64,
}

fn importing(txn: &mut Txn, plugin: &str) -> Result<Option<Importing>, RunError> {
    txn.get(&keys::importing(plugin))?.map(|bytes| decode(&bytes)).transpose()
}

fn begin_import(txn: &mut Txn, plugin: &str, digest: [u8; 32]) -> Result<Importing, DataError> {
    match importing(txn, plugin)? {
        Some(begun) if begun.digest == digest => return Ok(begun),
        Some(_) => return Err(DataError::HalfImported(plugin.to_owned())),
        None if !is_empty(txn, plugin)? => return Err(DataError::NotEmpty(plugin.to_owned())),
        None => {}
    }
    let begun = Importing { digest, lines: 0 };
    txn.put(&keys::importing(plugin), encode(&begun));
    Ok(begun)
}

async fn import_some(store: &Store, plugin: &str, done: Importing, batch: Vec<(Key, Written)>) -> Result<Importing, DataError> {
    let next = Importing { lines: done.lines + batch.len() as u64, ..done.clone() };
    let stored = host(store, |txn| {
        if importing(txn, plugin)?.as_ref() != Some(&done) {
            return Ok(false);
        }
        for (key, written) in &batch {
            match written {
                Written::Document(bytes) => txn.put(key, bytes.clone()),
                Written::Counter(value) => drop(txn.counter_add(key, *value, None)?),
            }
        }
        txn.put(&keys::importing(plugin), encode(&next));
        Ok(true)
    })
    .await?;
    if stored { Ok(next) } else { Err(DataError::Overtaken(plugin.to_owned())) }
}

/// An export, a line at a time.
struct Lines<'a, R> {
    plugin: &'a str,
    input: R,
    text: Vec<u8>,
    read: u64,
    hasher: blake3::Hasher,
}

impl<'a, R: BufRead> Lines<'a, R> {
    fn of(plugin: &'a str, input: R) -> Self {
        Self { plugin, input, text: Vec::new(), read: 0, hasher: blake3::Hasher::new() }
    }

    fn next(&mut self) -> Result<Option<(Key, Written)>, DataError> {
        self.text.clear();
        (&mut self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.text)?;
        if self.text.is_empty() {
            return Ok(None);
        }
        self.hasher.update(&self.text);
        self.read += 1;
        let is_whole = self.text.ends_with(b"\n") || (self.text.len() as u64) < LINE_BYTES_MAX;
        let line = if is_whole { self.parse() } else { Err(format!("more than {LINE_BYTES_MAX} bytes")) };
        line.map(Some).map_err(|reason| DataError::Line { line: self.read, reason })
    }

    fn parse(&self) -> Result<(Key, Written), String> {
        use base64::Engine;
        let plugin = self.plugin;
        let place = |of: fn(&str, &str, &str) -> Key, collection: &str, key: &str| {
            check_place(collection, key).map(|()| of(plugin, collection, key))
        };
        let line = serde_json::from_slice(&self.text).map_err(|error| error.to_string())?;
        match line {
            line if matches!(line, Line::Head { .. }) != (self.read == 1) => Err(HEADLESS.into()),
            Line::Head { plugin: of, .. } if of != plugin => Err(format!("this is the data of `{of}`, not of `{plugin}`")),
            Line::Head { form, .. } => Ok((keys::forms(plugin), Written::Document(encode(&Forms::settled(form)).into()))),
            Line::Document { collection, key, document } => {
                Ok((place(keys::document, &collection, &key)?, Written::Document(document.to_string().into())))
            }
            Line::Bytes { collection, key, bytes } => {
                let bytes = base64::prelude::BASE64_STANDARD.decode(bytes).map_err(|error| error.to_string())?;
                Ok((place(keys::document, &collection, &key)?, Written::Document(bytes.into())))
            }
            Line::Counter { collection, key, counter } => Ok((place(keys::counter, &collection, &key)?, Written::Counter(counter))),
        }
    }
}

enum Written {
    Document(Bytes),
    Counter(i64),
}

impl Written {
    fn bytes(&self) -> usize {
        match self {
            Self::Document(bytes) => bytes.len(),
            Self::Counter(_) => size_of::<i64>(),
        }
    }
}

fn is_empty(txn: &mut Txn, plugin: &str) -> Result<bool, RunError> {
    let (first, end) = keys::documents(plugin);
    let (first_counter, end_counter) = keys::counters(plugin);
    Ok(txn.peek(Bound::Excluded(&first), Bound::Excluded(&end), 1)?.is_empty()
        && txn.counters(Bound::Included(&first_counter), Bound::Excluded(&end_counter), 1)?.is_empty())
}

/// Deletes all that is kept for a plugin. Answers with how many documents and
/// counters went.
pub async fn delete(store: &Store, plugin: &str) -> Result<u64, DataError> {
    let mut count = 0;
    for (is_document, (first, end)) in keys::all_of(plugin) {
        let deleted = empty(store, |txn| {
            let page = txn.peek(Bound::Included(&first), Bound::Excluded(&end), BATCH)?;
            page.iter().for_each(|(key, _)| txn.delete(key));
            Ok(page.len())
        });
        let deleted = deleted.await?;
        count += if is_document { deleted } else { 0 };
    }
    let (first, end) = keys::counters(plugin);
    let counters = empty(store, |txn| {
        let page = txn.counters(Bound::Included(&first), Bound::Excluded(&end), BATCH)?;
        page.iter().for_each(|(key, _)| txn.counter_delete(key));
        Ok(page.len())
    });
    count += counters.await?;
    host(store, |txn| {
        [keys::forms(plugin), keys::migrated(plugin), keys::cursor(plugin), keys::importing(plugin)].iter().for_each(|key| txn.delete(key));
        Ok(())
    })
    .await?;
    Ok(count)
}

/// Runs `delete_page` until it finds less than [`BATCH`]. Answers with how many went.
async fn empty(store: &Store, delete_page: impl Fn(&mut Txn) -> Result<usize, RunError>) -> Result<u64, RunError> {
    let mut count = 0;
    loop {
        let deleted = host(store, &delete_page).await?;
        count += deleted as u64;
        if deleted < BATCH {
            return Ok(count);
        }
    }
}

impl<P: Plugins> Runner<P> {
    /// Has the live version rewrite its documents into another form that it
    /// knows, in units beside those of shoppers. Answers with how many units.
    /// After a crash it goes on by itself.
    pub async fn migrate(self: &Arc<Self>, plugin: &str, to: Option<u32>) -> Result<u64, DataError> {
        let live = self.plugins.live().borrow().get(plugin).cloned();
        let data = live.ok_or_else(|| DataError::NotLive(plugin.to_owned()))?.manifest.data.clone();
        let to = to.unwrap_or(data.form);
        if !(data.reads()..=data.form).contains(&to) {
            return Err(DataError::UnknownForm { plugin: plugin.to_owned(), to, oldest: data.reads(), newest: data.form });
        }
        let mut migration = self.host(|txn| begin(txn, plugin, to)).await??;
        let mut units = 0;
        while !migration.forms.is_settled() {
            migration = match self.migrate_some(plugin, &migration).await? {
                Some(next) => {
                    units += 1;
                    next
                }
                None => self.overtaken(plugin, to)?,
            };
        }
        Ok(units)
    }

    /// After a crash the shop goes on by itself, and an operator may ask for the same: either takes up what the other has done.
    fn overtaken(&self, plugin: &str, to: u32) -> Result<Migration, DataError> {
        let now = Migration::stored(&mut self.store.begin(), plugin)?;
        if now.forms.form == to { Ok(now) } else { Err(DataError::TurnedBack { plugin: plugin.to_owned(), form: now.forms.form }) }
    }

    /// One unit; none where the documents are further than `migration` says.
    async fn migrate_some(self: &Arc<Self>, plugin: &str, migration: &Migration) -> Result<Option<Migration>, DataError> {
        let failed = |reason: String| DataError::Migration { plugin: plugin.to_owned(), reason };
        let is_same = |unit: &mut Unit| Ok(Migration::stored(unit.host_txn()?, plugin)? == *migration);
        let finish = |unit: &mut Unit, answer| {
            let cursor = match answer {
                PluginAnswer::Migrated(Ok(cursor)) => cursor,
                PluginAnswer::Migrated(Err(reason)) => return Ok(Verdict::RollBack(Err(reason))),
                other => return Err(super::runner::out_of_place(plugin, &other)),
            };
            Ok(Verdict::Commit(Ok(migration.clone().step(unit.host_txn()?, plugin, cursor))))
        };
        let call = PluginCall::Migrate { cursor: migration.cursor.clone() };
        let outcome = self.run(plugin, &call, self.background_start(Kind::Job), is_same, finish).await;
        outcome.map_err(|error| failed(error.to_string()))?.value.transpose().map_err(failed)
    }

    /// Migrations that a crash broke off, and those whose plugin was away.
    pub(super) async fn resume_migrations(self: Arc<Self>) {
        let mut live = self.plugins.live();
        loop {
            let plugins = live.borrow_and_update().clone();
            for name in plugins.keys() {
                let forms = forms(&mut self.store.begin(), name);
                let resumed = match forms {
                    Ok(forms) if !forms.is_settled() => self.migrate(name, Some(forms.form)).await,
                    Ok(_) => continue,
                    Err(error) => Err(error.into()),
                };
                match resumed {
                    Ok(units) => tracing::info!(plugin = name, units, "its documents have their new form"),
                    Err(error) => tracing::error!(plugin = name, "{error}"),
                }
            }
            tokio::select! {
                changed = live.changed() => if changed.is_err() { return },
                () = self.stop.cancelled() => return,
            }
        }
    }
}

/// From now on the plugin writes `to`.
fn begin(txn: &mut Txn, plugin: &str, to: u32) -> Result<Result<Migration, DataError>, RunError> {
    let now = Migration::stored(txn, plugin)?;
    let begun = match &now.forms {
        // Going on, or already there.
        forms if forms.form == to => return Ok(Ok(now)),
        now if now.is_settled() || now.from == to => Forms { form: to, from: now.form, cursor: String::new() },
        Forms { form, from, .. } => return Ok(Err(DataError::OnTheWay { plugin: plugin.to_owned(), form: *form, from: *from })),
    };
    Ok(Ok(Migration::begun(txn, plugin, begun)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EngineKind;

    #[tokio::test]
    async fn units_that_asked_for_the_form_conflict_with_its_change_but_not_with_the_steps_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), EngineKind::Fjall).unwrap();
        let asked = || {
            let mut txn = store.begin();
            forms(&mut txn, "notes").unwrap();
            txn.put(&keys::document("notes", "notes", "of a shopper"), Bytes::from_static(b"{}"));
            txn
        };

        let (before, migration) = (asked(), host(&store, |txn| begin(txn, "notes", 2)).await.unwrap().unwrap());
        assert!(store.commit(before).await.is_err(), "it would write what is on its way out");

        let (before, step) = (asked(), host(&store, |txn| Ok(migration.clone().step(txn, "notes", Some("half".into())))).await.unwrap());
        store.commit(before).await.unwrap();
        assert_eq!(Migration::stored(&mut store.begin(), "notes").unwrap().cursor, "half");

        let (before, done) = (asked(), host(&store, |txn| Ok(step.clone().step(txn, "notes", None))).await.unwrap());
        assert!(store.commit(before).await.is_err());
        assert!(done.forms.is_settled() && done == Migration::stored(&mut store.begin(), "notes").unwrap());
    }

    #[test]
    fn a_migration_of_a_host_before_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), EngineKind::Fjall).unwrap();
        let mut txn = store.begin();
        store_forms(&mut txn, "notes", &Forms { form: 2, from: 1, cursor: "half".into() });
        assert_eq!(Migration::stored(&mut txn, "notes").unwrap().cursor, "half");
    }
}
