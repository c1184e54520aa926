//! One index on disk: its fields, its documents, and how far it has followed
//! the store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tantivy::merge_policy::LogMergePolicy;
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{IndexReader, IndexSettings, IndexWriter, ReloadPolicy, TantivyDocument, Term};

use super::chinese;
use super::metered::{Metered, Spent};
use super::text::{Analysis, bare, fold, is_cjk, simplify};
use crate::shop::manifest::{FieldKind, Index as Definition};
use crate::work::keys::Position;

/// Goes up when an index of before cannot answer any more. For text that is to be
/// analysed otherwise there is [`Analysis::fingerprint`].
const FORMAT: u32 = 1;
const WORDS: &str = "souk";
const PINYIN: &str = "souk-pinyin";
const WRITER_BYTES: usize = 15_000_000;
/// A query looks into the dictionaries of each segment, so there are to be few: tantivy would
/// wait for eight of a size. Small ones are merged among themselves, not with all that is there.
const SEGMENTS_MERGED: usize = 3;
const SMALL_SEGMENT_DOCUMENTS: u32 = 1_000;
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
    Numbers(Vec<i64>),
}

/// Committed together with what it describes.
#[derive(Serialize, Deserialize)]
struct Payload {
    format: u32,
    definition: Definition,
    position: Position,
    /// Empty in indexes that were made before there was more than one.
    #[serde(default)]
    analysis: String,
}

pub(super) struct Index {
    pub definition: Definition,
    pub fields: Fields,
    /// The fingerprint of that with which its documents were analysed.
    pub analysed_by: String,
    pub analysis: Arc<Analysis>,
    /// By its own threads, which also merge what was written long ago.
    pub spent: Arc<Spent>,
    /// Everything in the log up to here is in the index.
    pub position: Position,
    pub reader: IndexReader,
    index: tantivy::Index,
    /// Made by the first change.
    writer: Mutex<Option<IndexWriter>>,
}

pub(super) struct Fields {
    pub id: Field,
    pub suggest: Field,
    /// Puts equal hits in a stable order.
    tie: Field,
    by_name: HashMap<String, NamedField>,
}

pub(super) const TIE: &str = "tie";
const SUGGEST: &str = "suggest";
pub(super) const ID: &str = "id";

#[derive(Clone)]
pub(super) struct NamedField {
    pub field: Field,
    /// In the schema, where a manifest's names might mean something.
    pub column: String,
    pub kind: FieldKind,
    pub boost: f32,
    suggest: bool,
    /// How its text is read, where it is a field that people know things by. An index of before has none.
    pub pinyin: Option<Field>,
}

impl Fields {
    pub fn get(&self, name: &str) -> Option<&NamedField> {
        self.by_name.get(name)
    }
}

fn schema(definition: &Definition) -> Schema {
    let mut schema = Schema::builder();
    let raw = TextFieldIndexing::default().set_tokenizer("raw").set_index_option(IndexRecordOption::Basic).set_fieldnorms(false);
    let keyword = TextOptions::default().set_indexing_options(raw.clone()).set_fast("raw");
    let words = TextFieldIndexing::default().set_tokenizer(WORDS).set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let text = TextOptions::default().set_indexing_options(words).set_stored();
    let read = TextFieldIndexing::default().set_tokenizer(PINYIN).set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let pinyin = TextOptions::default().set_indexing_options(read);
    schema.add_text_field(ID, keyword.clone());
    schema.add_u64_field(TIE, FAST);
    schema.add_text_field(SUGGEST, TextOptions::default().set_indexing_options(raw));
    for (number, declared) in definition.fields.iter().enumerate() {
        let column = column(number);
        match declared.kind {
            FieldKind::Text => schema.add_text_field(&column, text.clone()),
            FieldKind::Keyword => schema.add_text_field(&column, keyword.clone()),
            FieldKind::Number => schema.add_i64_field(&column, INDEXED | FAST),
        };
    }
    for (number, declared) in definition.fields.iter().enumerate() {
        // In long texts, most of what is read so would be something else.
        if declared.kind == FieldKind::Text && (declared.suggest || declared.boost.is_some_and(|boost| boost > 1.0)) {
            schema.add_text_field(&pinyin_column(number), pinyin.clone());
        }
    }
    schema.build()
}

fn column(number: usize) -> String {
    format!("f{number}")
}

fn pinyin_column(number: usize) -> String {
    format!("p{number}")
}

impl Fields {
    /// Those of an index that was made for this definition, now or by a version that knew less.
    fn of(definition: &Definition, found: &Schema) -> anyhow::Result<Self> {
        let wanted = schema(definition);
        for (_, entry) in found.fields() {
            let same = wanted.get_field(entry.name()).is_ok_and(|field| wanted.get_field_entry(field) == entry);
            ensure!(same, "it was made by another version");
        }
        let named = |(number, declared): (usize, &crate::shop::manifest::IndexField)| {
            let column = column(number);
            let field = found.get_field(&column).context("it was made by another version")?;
            let pinyin = found.get_field(&pinyin_column(number)).ok();
            let boost = declared.boost.unwrap_or(1.0);
            anyhow::Ok((declared.name.clone(), NamedField { field, column, kind: declared.kind, boost, suggest: declared.suggest, pinyin }))
        };
        let by_name = definition.fields.iter().enumerate().map(named).collect::<anyhow::Result<_>>()?;
        Ok(Self { id: found.get_field(ID)?, suggest: found.get_field(SUGGEST)?, tie: found.get_field(TIE)?, by_name })
    }
}

fn register(index: &tantivy::Index, analysis: &Arc<Analysis>) {
    index.tokenizers().register(WORDS, analysis.words());
    index.tokenizers().register(PINYIN, analysis.pinyin());
}

impl Index {
    /// With the fields that it was made with. Errors say why it has to be built again.
    pub fn open(folder: &Path, analysis: &Arc<Analysis>) -> anyhow::Result<Self> {
        ensure!(folder.join("meta.json").exists(), "it is not there yet");
        let spent = Arc::default();
        let index = tantivy::Index::open(Metered::open(folder, &spent)?)?;
        register(&index, analysis);
        let payload = index.load_metas()?.payload.context("it was not finished")?;
        let payload: Payload = serde_json::from_str(&payload).context("it was made by another version")?;
        ensure!(payload.format == FORMAT, "it was made by another version");
        let Payload { definition, position, analysis: analysed_by, .. } = payload;
        let fields = Fields::of(&definition, &index.schema())?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { definition, fields, position, analysed_by, analysis: analysis.clone(), spent, reader, index, writer: Mutex::default() })
    }

    /// Makes an index that holds these documents, at `position` of the log. What its
    /// threads took is in `spent`.
    pub fn build(
        folder: &Path,
        definition: &Definition,
        analysis: &Arc<Analysis>,
        position: Position,
        documents: impl Iterator<Item = anyhow::Result<(String, Document)>>,
        spent: &Arc<Spent>,
    ) -> anyhow::Result<()> {
        let index = tantivy::Index::create(Metered::open(folder, spent)?, schema(definition), IndexSettings::default())?;
        let fields = Fields::of(definition, &index.schema())?;
        register(&index, analysis);
        let mut writer = self::writer(&index, 4 * WRITER_BYTES)?;
        for document in documents {
            let (id, document) = document?;
            writer.add_document(fields.document(analysis, &id, document))?;
        }
        let payload = Payload { format: FORMAT, definition: definition.clone(), position, analysis: analysis.fingerprint.clone() };
        commit(&mut writer, &payload)?;
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
            None => writer(&self.index, WRITER_BYTES)?,
        };
        for (id, document) in changes {
            writer.delete_term(Term::from_field_text(self.fields.id, &id));
            if let Some(document) = document {
                writer.add_document(self.fields.document(&self.analysis, &id, document))?;
            }
        }
        // Most of it is as it was: it is built again all the same.
        let analysis = self.analysed_by.clone();
        commit(&mut writer, &Payload { format: FORMAT, definition: self.definition.clone(), position, analysis })?;
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

fn writer(index: &tantivy::Index, bytes: usize) -> tantivy::Result<IndexWriter> {
    let writer = index.writer_with_num_threads(1, bytes)?;
    let mut policy = LogMergePolicy::default();
    policy.set_min_num_segments(SEGMENTS_MERGED);
    policy.set_min_layer_size(SMALL_SEGMENT_DOCUMENTS);
    writer.set_merge_policy(Box::new(policy));
    Ok(writer)
}

fn commit(writer: &mut IndexWriter, payload: &Payload) -> anyhow::Result<()> {
    let mut prepared = writer.prepare_commit()?;
    prepared.set_payload(&serde_json::to_string(payload)?);
    prepared.commit()?;
    Ok(())
}

impl Fields {
    /// What the definition does not know (any more) is left out: it may have
    /// been stored by another version of the plugin.
    fn document(&self, analysis: &Analysis, id: &str, document: Document) -> TantivyDocument {
        let mut indexed = TantivyDocument::new();
        indexed.add_text(self.id, id);
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(id.as_bytes()).as_bytes();
        indexed.add_u64(self.tie, u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        for (name, value) in document.0 {
            let Some(named) = self.get(&name) else { continue };
            match (named.kind, value) {
                (FieldKind::Number, Value::Number(number)) => indexed.add_i64(named.field, number),
                (FieldKind::Number, Value::Numbers(numbers)) => numbers.into_iter().for_each(|number| indexed.add_i64(named.field, number)),
                (FieldKind::Keyword, Value::Text(mut values)) => {
                    values.sort();
                    values.dedup();
                    values.iter().filter(|value| value.len() <= KEYWORD_BYTES_MAX).for_each(|value| indexed.add_text(named.field, value));
                }
                (FieldKind::Text, Value::Text(values)) => {
                    for value in &values {
                        indexed.add_text(named.field, value);
                        if let Some(pinyin) = named.pinyin.filter(|_| value.contains(is_cjk)) {
                            indexed.add_text(pinyin, value);
                        }
                        if named.suggest {
                            suggestions(analysis, value).iter().for_each(|term| indexed.add_text(self.suggest, term));
                        }
                    }
                }
                _ => {}
            }
        }
        indexed
    }
}

/// A value completes its own beginning and that of each word in it, as it is written and as it
/// is read. Terms sort by what was typed; then a digit says how good a completion it is.
fn suggestions(analysis: &Analysis, value: &str) -> Vec<String> {
    let shown = value.split_whitespace().collect::<Vec<_>>().join(" ");
    let short = shown.chars().count() <= SUGGESTION_CHARACTERS_MAX && !shown.contains(SUGGESTION_SEPARATOR);
    let starts = if short { analysis.word_starts(&shown) } else { Vec::new() };
    let mut terms = Vec::new();
    for (number, start) in starts.into_iter().take(SUGGESTION_STARTS_MAX).enumerate() {
        let rest = &shown[start..];
        let inner = usize::from(number > 0);
        terms.push(format!("{}{SUGGESTION_SEPARATOR}{inner}{shown}", bare(&fold(rest))));
        if rest.starts_with(is_cjk) {
            terms.push(format!("{}{SUGGESTION_SEPARATOR}{}{shown}", bare(&fold(&read(rest))), inner + 2));
        }
    }
    terms
}

/// As it is read, each character in its most usual way.
fn read(text: &str) -> String {
    let mut read = String::new();
    for c in simplify(text).chars() {
        match chinese::syllables(c).first() {
            Some(syllable) => read.push_str(syllable),
            None => read.push(c),
        }
    }
    read
}
