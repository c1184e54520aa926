//! One index on disk: its fields, its documents, and how far it has followed
//! the store.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, Term};

use super::text::{self, fold, word_starts};
use crate::shop::manifest::{FieldKind, Index as Definition};
use crate::work::keys::Position;

/// Goes up when documents are to be indexed otherwise than before.
const FORMAT: u32 = 1;
const ANALYZER: &str = "souk";
const WRITER_BYTES: usize = 15_000_000;
pub(super) const KEYWORD_BYTES_MAX: usize = 256;
const SUGGESTION_CHARACTERS_MAX: usize = 100;
const SUGGESTION_STARTS_MAX: usize = 12;
/// Between what a completion is found by and what it says; below any text.
pub(super) const SUGGESTION_SEPARATOR: char = '\0';

/// A document as it lies in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Document(pub Vec<(String, Value)>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Value {
    Text(Vec<String>),
    Number(i64),
}

/// Committed together with what it describes.
#[derive(Serialize, Deserialize)]
struct Payload {
    format: u32,
    definition: Definition,
    position: Position,
}

pub(super) struct Index {
    pub definition: Definition,
    pub fields: Fields,
    /// Everything in the log up to here is in the index.
    pub position: Position,
    pub reader: IndexReader,
    index: tantivy::Index,
    /// Made by the first change.
    writer: Mutex<Option<IndexWriter>>,
}

pub(super) struct Fields {
    pub id: Field,
    /// Puts equal hits in a stable order.
    pub suggest: Field,
    tie: Field,
    by_name: HashMap<String, NamedField>,
}

pub(super) const TIE: &str = "tie";
pub(super) const ID: &str = "id";

#[derive(Clone)]
pub(super) struct NamedField {
    pub field: Field,
    /// In the schema, where a manifest's names might mean something.
    pub column: String,
    pub kind: FieldKind,
    pub boost: f32,
    suggest: bool,
}

impl Fields {
    pub fn get(&self, name: &str) -> Option<&NamedField> {
        self.by_name.get(name)
    }
}

fn schema(definition: &Definition) -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let raw = TextFieldIndexing::default().set_tokenizer("raw").set_index_option(IndexRecordOption::Basic).set_fieldnorms(false);
    let keyword = TextOptions::default().set_indexing_options(raw.clone()).set_fast("raw");
    let words = TextFieldIndexing::default().set_tokenizer(ANALYZER).set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let text = TextOptions::default().set_indexing_options(words).set_stored();
    let id = schema.add_text_field(ID, keyword.clone());
    let tie = schema.add_u64_field(TIE, FAST);
    let suggest = schema.add_text_field("suggest", TextOptions::default().set_indexing_options(raw));
    let mut by_name = HashMap::new();
    for (number, declared) in definition.fields.iter().enumerate() {
        let column = format!("f{number}");
        let field = match declared.kind {
            FieldKind::Text => schema.add_text_field(&column, text.clone()),
            FieldKind::Keyword => schema.add_text_field(&column, keyword.clone()),
            FieldKind::Number => schema.add_i64_field(&column, INDEXED | FAST),
        };
        let boost = declared.boost.unwrap_or(1.0);
        by_name.insert(declared.name.clone(), NamedField { field, column, kind: declared.kind, boost, suggest: declared.suggest });
    }
    (schema.build(), Fields { id, suggest, tie, by_name })
}

impl Index {
    /// With the fields that it was made with. Errors say why it has to be built again.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        ensure!(folder.join("meta.json").exists(), "it is not there yet");
        let index = tantivy::Index::open_in_dir(folder)?;
        index.tokenizers().register(ANALYZER, text::analyzer());
        let payload = index.load_metas()?.payload.context("it was not finished")?;
        let payload: Payload = serde_json::from_str(&payload).context("it was made by another version")?;
        ensure!(payload.format == FORMAT, "it was made by another version");
        let (schema, fields) = schema(&payload.definition);
        ensure!(index.schema() == schema, "it was made by another version");
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { definition: payload.definition, fields, position: payload.position, reader, index, writer: Mutex::default() })
    }

    /// Makes an index that holds these documents, at `position` of the log.
    pub fn build(
        folder: &Path,
        definition: &Definition,
        position: Position,
        documents: impl Iterator<Item = anyhow::Result<(String, Document)>>,
    ) -> anyhow::Result<()> {
        let (schema, fields) = schema(definition);
        let index = tantivy::Index::create_in_dir(folder, schema)?;
        index.tokenizers().register(ANALYZER, text::analyzer());
        let mut writer: IndexWriter = index.writer_with_num_threads(1, 4 * WRITER_BYTES)?;
        for document in documents {
            let (id, document) = document?;
            writer.add_document(fields.document(&id, document))?;
        }
        commit(&mut writer, definition, position)?;
        writer.wait_merging_threads()?;
        Ok(())
    }

    /// Replaces documents, or removes those that are no more, and remembers
    /// having followed the log to `position`. All or nothing.
    pub fn apply(&self, changes: impl IntoIterator<Item = (String, Option<Document>)>, position: Position) -> anyhow::Result<()> {
        let mut held = self.writer.lock();
        // Taken out: one that failed is dropped, and with it what it had begun.
        let mut writer = match held.take() {
            Some(writer) => writer,
            None => self.index.writer_with_num_threads(1, WRITER_BYTES)?,
        };
        for (id, document) in changes {
            writer.delete_term(Term::from_field_text(self.fields.id, &id));
            if let Some(document) = document {
                writer.add_document(self.fields.document(&id, document))?;
            }
        }
        commit(&mut writer, &self.definition, position)?;
        self.reader.reload()?;
        *held = Some(writer);
        Ok(())
    }

    /// Reads every file against its checksum.
    pub fn is_damaged(&self) -> bool {
        self.index.validate_checksum().map_or(true, |damaged| !damaged.is_empty())
    }

    /// Waits for merges and lets go of the folder.
    pub fn close_writer(&self) {
        if let Some(writer) = self.writer.lock().take()
            && let Err(error) = writer.wait_merging_threads()
        {
            tracing::warn!(target: "search", %error, "merging did not end well");
        }
    }
}

fn commit(writer: &mut IndexWriter, definition: &Definition, position: Position) -> anyhow::Result<()> {
    let mut prepared = writer.prepare_commit()?;
    prepared.set_payload(&serde_json::to_string(&Payload { format: FORMAT, definition: definition.clone(), position })?);
    prepared.commit()?;
    Ok(())
}

impl Fields {
    /// What the definition does not know (any more) is left out: it may have
    /// been stored by another version of the plugin.
    fn document(&self, id: &str, document: Document) -> TantivyDocument {
        let mut indexed = TantivyDocument::new();
        indexed.add_text(self.id, id);
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(id.as_bytes()).as_bytes();
        indexed.add_u64(self.tie, u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        for (name, value) in document.0 {
            let Some(named) = self.get(&name) else { continue };
            match (named.kind, value) {
                (FieldKind::Number, Value::Number(number)) => indexed.add_i64(named.field, number),
                (FieldKind::Keyword, Value::Text(mut values)) => {
                    values.sort();
                    values.dedup();
                    values.iter().filter(|value| value.len() <= KEYWORD_BYTES_MAX).for_each(|value| indexed.add_text(named.field, value));
                }
                (FieldKind::Text, Value::Text(values)) => {
                    for value in &values {
                        indexed.add_text(named.field, value);
                        if named.suggest {
                            suggestions(value).for_each(|term| indexed.add_text(self.suggest, term));
                        }
                    }
                }
                _ => {}
            }
        }
        indexed
    }
}

/// A value completes its own beginning and that of each word in it. Terms sort
/// by what was typed; `0` marks the value's own beginning.
fn suggestions(value: &str) -> impl Iterator<Item = String> {
    let shown = value.split_whitespace().collect::<Vec<_>>().join(" ");
    let short = shown.chars().count() <= SUGGESTION_CHARACTERS_MAX && !shown.contains(SUGGESTION_SEPARATOR);
    let starts = if short { word_starts(&shown) } else { Vec::new() };
    starts.into_iter().take(SUGGESTION_STARTS_MAX).enumerate().map(move |(number, start)| {
        let rank = if number == 0 { '0' } else { '1' };
        format!("{}{SUGGESTION_SEPARATOR}{rank}{shown}", fold(&shown[start..]))
    })
}
