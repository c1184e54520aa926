//! The documents of one plugin as a whole: which form they have, rewriting them
//! into another one beside the units of shoppers, and taking them out of a
//! store, into one, or away.
//!
//! A plugin asks `souk:host/data` for the form to write, and so each of its
//! units has read the record that is kept here: one that began before the form
//! changed, and commits after it, conflicts and is run again. Used by the
//! `data` capability, by the shop before a version goes live, and by `souk
//! plugin data`.

use std::io::{BufRead, Write};
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dead::decode;
use super::runner::{Verdict, host};
use super::unit::{Kind, encode};
use super::{PluginAnswer, PluginCall, Plugins, RunError, Runner, Unit, keys};
use crate::shop::manifest::Data;
use crate::store::{Store, StoreError, Txn};

/// Documents and counters of one unit of the host's own.
const BATCH: usize = 1_000;

/// In which forms a plugin's documents are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forms {
    /// What is written.
    pub form: u32,
    /// What may still be there: another one while documents are rewritten.
    pub from: u32,
    /// How far they are rewritten; the plugin's own words.
    cursor: String,
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
    Ok(stored(txn, plugin)?.unwrap_or_else(|| Forms::settled(1)))
}

fn stored(txn: &mut Txn, plugin: &str) -> Result<Option<Forms>, RunError> {
    txn.get(&keys::forms(plugin))?.map(|bytes| decode(&bytes)).transpose()
}

fn store_forms(txn: &mut Txn, plugin: &str, forms: &Forms) {
    txn.put(&keys::forms(plugin), encode(forms));
}

/// Before a version goes live: whether it can read what is stored. Where
/// nothing is, its own form is written from the start.
pub async fn admit(store: &Store, plugin: &str, data: &Data) -> Result<(), DataError> {
    let forms = host(store, |txn| {
        let (first, end) = keys::documents(plugin);
        let is_empty = txn.scan(Bound::Included(&first), Bound::Excluded(&end), 1, false)?.is_empty();
        let now = forms(txn, plugin)?;
        if !is_empty || now == Forms::settled(data.form) {
            return Ok(now);
        }
        store_forms(txn, plugin, &Forms::settled(data.form));
        Ok(Forms::settled(data.form))
    })
    .await?;
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
    #[error("`{0}` is live: its data can be replaced or deleted once it is removed (`souk plugin remove {0}`)")]
    IsLive(String),
    #[error("`{0}` has data here already: `souk plugin data delete {0}` deletes it")]
    NotEmpty(String),
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: String },
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
    let form = forms(&mut txn, plugin)?.form;
    write(&Line::Head { plugin: plugin.to_owned(), form })?;
    let mut count = 0;
    let (mut first, end) = keys::documents(plugin);
    loop {
        let page = txn.peek(Bound::Excluded(&first), Bound::Excluded(&end), BATCH)?;
        let Some((last, _)) = page.last() else { break };
        first = keys::Key::from_slice(last);
        for (key, value) in &page {
            let Some((collection, key)) = keys::names_of(plugin, key) else { continue };
            write(&match serde_json::from_slice(value) {
                Ok(document @ serde_json::Value::Object(_)) => Line::Document { collection, key, document },
                _ => Line::Bytes { collection, key, bytes: base64::prelude::BASE64_STANDARD.encode(value) },
            })?;
            count += 1;
        }
    }
    for (key, counter) in txn.counters(&keys::counters(plugin))? {
        let Some((collection, key)) = keys::names_of(plugin, &key) else { continue };
        write(&Line::Counter { collection, key, counter })?;
        count += 1;
    }
    Ok(count)
}

/// Reads what [`export`] wrote into a store where the plugin has nothing.
/// Answers with how many documents and counters came.
pub async fn import(store: &Store, plugin: &str, input: impl BufRead) -> Result<u64, DataError> {
    use base64::Engine;
    if !is_empty(store, plugin)? {
        return Err(DataError::NotEmpty(plugin.to_owned()));
    }
    // All lines are read before the first is written.
    let mut lines = Vec::new();
    for (index, line) in input.lines().enumerate() {
        let wrong = |reason: String| DataError::Line { line: index + 1, reason };
        let line: Line = serde_json::from_str(&line?).map_err(|error| wrong(error.to_string()))?;
        match (index, &line) {
            (0, Line::Head { plugin: of, .. }) if of == plugin => {}
            (0, Line::Head { plugin: of, .. }) => return Err(wrong(format!("this is the data of `{of}`, not of `{plugin}`"))),
            (0, _) | (_, Line::Head { .. }) => return Err(wrong("an export begins with one line that names the plugin".into())),
            _ => {}
        }
        let written = match line {
            Line::Head { form, .. } => (keys::forms(plugin), Written::Document(encode(&Forms::settled(form)))),
            Line::Document { collection, key, document } => (keys::document(plugin, &collection, &key), Written::Document(document.to_string().into())),
            Line::Bytes { collection, key, bytes } => {
                let bytes = base64::prelude::BASE64_STANDARD.decode(bytes).map_err(|error| wrong(error.to_string()))?;
                (keys::document(plugin, &collection, &key), Written::Document(bytes))
            }
            Line::Counter { collection, key, counter } => (keys::counter(plugin, &collection, &key), Written::Counter(counter)),
        };
        lines.push(written);
    }
    for batch in lines.chunks(BATCH) {
        host(store, |txn| {
            for (key, written) in batch {
                match written {
                    Written::Document(bytes) => txn.put(key, bytes.clone()),
                    Written::Counter(value) => drop(txn.counter_add(key, *value, None)?),
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(lines.len().saturating_sub(1) as u64)
}

enum Written {
    Document(Vec<u8>),
    Counter(i64),
}

fn is_empty(store: &Store, plugin: &str) -> Result<bool, DataError> {
    let mut txn = store.begin();
    let (first, end) = keys::documents(plugin);
    Ok(txn.peek(Bound::Excluded(&first), Bound::Excluded(&end), 1)?.is_empty() && txn.counters(&keys::counters(plugin))?.is_empty())
}

/// Deletes all that is kept for a plugin. Answers with how many documents and
/// counters went.
pub async fn delete(store: &Store, plugin: &str) -> Result<u64, DataError> {
    let mut count = 0;
    for (is_document, (first, end)) in keys::all_of(plugin) {
        loop {
            let deleted = host(store, |txn| {
                let page = txn.peek(Bound::Included(&first), Bound::Excluded(&end), BATCH)?;
                page.iter().for_each(|(key, _)| txn.delete(key));
                Ok(page.len())
            })
            .await?;
            count += if is_document { deleted as u64 } else { 0 };
            if deleted < BATCH {
                break;
            }
        }
    }
    count += host(store, |txn| {
        let counters = txn.counters(&keys::counters(plugin))?;
        counters.iter().for_each(|(key, _)| txn.counter_delete(key));
        txn.delete(&keys::forms(plugin));
        txn.delete(&keys::cursor(plugin));
        Ok(counters.len() as u64)
    })
    .await?;
    Ok(count)
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
        let mut forms = self.host(|txn| begin(txn, plugin, to)).await??;
        let mut units = 0;
        while !forms.is_settled() {
            forms = self.migrate_some(plugin, forms).await?;
            units += 1;
        }
        Ok(units)
    }

    async fn migrate_some(self: &Arc<Self>, plugin: &str, forms: Forms) -> Result<Forms, DataError> {
        let failed = |reason: String| DataError::Migration { plugin: plugin.to_owned(), reason };
        let is_same = |unit: &mut Unit| Ok(stored(unit.host_txn()?, plugin)?.as_ref() == Some(&forms));
        let finish = |unit: &mut Unit, answer| {
            let next = match answer {
                PluginAnswer::Migrated(Ok(Some(cursor))) => Forms { cursor, ..forms.clone() },
                PluginAnswer::Migrated(Ok(None)) => Forms::settled(forms.form),
                PluginAnswer::Migrated(Err(reason)) => return Ok(Verdict::RollBack(Err(reason))),
                other => return Err(super::runner::out_of_place(plugin, &other)),
            };
            store_forms(unit.host_txn()?, plugin, &next);
            Ok(Verdict::Commit(Ok(next)))
        };
        let call = PluginCall::Migrate { cursor: forms.cursor.clone() };
        // Each unit that asks for the form has read the record that this one writes.
        self.after_others(&keys::forms(plugin)).await;
        let outcome = self.run(plugin, &call, self.background_start(Kind::Job), is_same, finish).await;
        match outcome.map_err(|error| failed(error.to_string()))?.value {
            Some(next) => next.map_err(failed),
            None => Err(failed("another migration has begun meanwhile".into())),
        }
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
fn begin(txn: &mut Txn, plugin: &str, to: u32) -> Result<Result<Forms, DataError>, RunError> {
    let now = forms(txn, plugin)?;
    let begun = match &now {
        // Going on, or already there.
        now if now.form == to => return Ok(Ok(now.clone())),
        now if now.is_settled() || now.from == to => Forms { form: to, from: now.form, cursor: String::new() },
        Forms { form, from, .. } => return Ok(Err(DataError::OnTheWay { plugin: plugin.to_owned(), form: *form, from: *from })),
    };
    store_forms(txn, plugin, &begun);
    Ok(Ok(begun))
}
