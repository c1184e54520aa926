//! From the words of a query to what is asked of an index.
//!
//! A word may be found in many ways: as it is written, by its stem, in two words
//! or with its neighbour in one, as the beginning of a longer one, by how Chinese
//! is read. Only ways that lead somewhere are asked: the index's own dictionary
//! tells, at a fraction of what a search costs. So a query has as many clauses as
//! it has ways, and a word that nothing knows ends it before it begins.

use std::ops::Bound;
use std::sync::Arc;

use tantivy::query::{BooleanQuery, BoostQuery, DisjunctionMaxQuery, PhraseQuery, Query, RangeQuery, TermQuery, TermSetQuery};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{InvertedIndexReader, Searcher, Term};

use super::index::NamedField;
use super::text::{Analysis, Run};
use super::typos::Mistyped;
use super::{chinese, english};

/// Weights of the ways to find a word; 1.0 is as it is written.
const STEM: f32 = 0.8;
const READ_AS_WORD: f32 = 0.7;
const READ_AS_SYLLABLES: f32 = 0.6;
const IN_TWO_WORDS: f32 = 0.5;
const CHARACTERS: f32 = 0.5;
const SHORTER: f32 = 0.4;
const BEGINNING: f32 = 0.3;
const PARTS: f32 = 0.2;
const MISTYPED_BEGINNING: f32 = 0.2;
/// Of what the other ways are worth, beside the best.
const OTHERS: f32 = 0.3;

/// Of neighbours that are looked up as one word.
const JOINED_MAX: usize = 4;
const JOINED_BYTES_MAX: usize = 32;
/// Ways to read a row of words, some of them as one.
const ROWS_MAX: usize = 6;
/// Letters of a word that may be two.
const SPLIT_BYTES: std::ops::RangeInclusive<usize> = 4..=24;
const SPLIT_PART_BYTES_MIN: usize = 2;
/// Words of a query that may be mistyped; more are looked up as they are.
const CORRECTED_RUNS_MAX: usize = 6;
const CORRECTED_CJK_MAX: usize = 8;

/// How far a hit may be from what was typed. The next is only tried where the one before finds nothing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Reach {
    /// Each word, in one of the ways that say the same.
    Words,
    /// Of Chinese words, each character anywhere.
    Characters,
    /// Words that the index does not know may be mistyped.
    Mistakes,
}

/// A field that is looked in.
struct Place {
    field: Field,
    weight: f32,
    words: Vec<Arc<InvertedIndexReader>>,
    pinyin: Option<(Field, Vec<Arc<InvertedIndexReader>>)>,
}

pub(super) struct Asked<'a> {
    analysis: &'a Analysis,
    places: Vec<Place>,
    runs: &'a [Run],
    /// The last word may be the beginning of one.
    last_is_begun: bool,
}

type Way = Box<dyn Query>;
/// A way, and what it weighs.
type Weighed = (Way, f32);

impl<'a> Asked<'a> {
    pub fn new(
        analysis: &'a Analysis,
        searcher: &Searcher,
        fields: &[(&NamedField, f32)],
        runs: &'a [Run],
        last_is_begun: bool,
    ) -> tantivy::Result<Self> {
        let readers = |field: Field| searcher.segment_readers().iter().map(|segment| segment.inverted_index(field)).collect::<tantivy::Result<Vec<_>>>();
        let place = |(named, weight): &(&NamedField, f32)| {
            let pinyin = named.pinyin.map(|field| readers(field).map(|readers| (field, readers))).transpose()?;
            Ok(Place { field: named.field, weight: *weight, words: readers(named.field)?, pinyin })
        };
        let places = fields.iter().map(place).collect::<tantivy::Result<_>>()?;
        Ok(Self { analysis, places, runs, last_is_begun })
    }

    /// Every word has to be found, each in whichever field; none where one is sure not to be.
    pub fn query(&self, reach: Reach) -> tantivy::Result<Option<Way>> {
        let mut clauses = Vec::new();
        let mut number = 0;
        while let Some(run) = self.runs.get(number) {
            let clause = match run {
                Run::Word(_) => {
                    let row: Vec<&str> = self.runs[number..].iter().map_while(|run| if let Run::Word(word) = run { Some(word.as_str()) } else { None }).collect();
                    let begun = self.last_is_begun && number + row.len() == self.runs.len();
                    let corrected = if reach == Reach::Mistakes { CORRECTED_RUNS_MAX.saturating_sub(number) } else { 0 };
                    number += row.len();
                    self.row(&row, begun, corrected)?
                }
                Run::Cjk { text, words } => {
                    number += 1;
                    let corrected = reach == Reach::Mistakes && number <= CORRECTED_RUNS_MAX;
                    self.cjk_run(text, words, if corrected || reach != Reach::Mistakes { reach } else { Reach::Words })?
                }
            };
            let Some(clause) = clause else { return Ok(None) };
            clauses.push(clause);
        }
        Ok(all(clauses))
    }

    /// Whether a further reach could find more.
    pub fn has(&self, reach: Reach) -> bool {
        match reach {
            Reach::Words | Reach::Mistakes => true,
            Reach::Characters => self.runs.iter().any(|run| matches!(run, Run::Cjk { .. })),
        }
    }

    /// Words that follow each other, where some of them may be one.
    fn row(&self, row: &[&str], begun: bool, corrected: usize) -> tantivy::Result<Option<Way>> {
        let mut singles = Vec::with_capacity(row.len());
        for (number, word) in row.iter().enumerate() {
            singles.push(self.word(word, begun && number + 1 == row.len(), number < corrected)?);
        }
        let mut joined: Vec<(usize, usize, Way)> = Vec::new();
        for from in 0..row.len() {
            for to in from + 2..=row.len().min(from + JOINED_MAX) {
                let word = row[from..to].concat();
                if word.len() <= JOINED_BYTES_MAX
                    && self.is_joined(&word)?
                    && let Some(way) = self.word(&word, false, false)?
                {
                    joined.push((from, to, way));
                }
            }
        }
        if joined.is_empty() {
            return Ok(singles.into_iter().collect::<Option<Vec<_>>>().and_then(all));
        }
        let mut rows = Vec::new();
        read_row(0, &singles, &joined, &mut Vec::new(), &mut rows);
        Ok(best(rows.into_iter().filter_map(all).map(|row| (row, 1.0)).collect()))
    }

    /// Whether neighbours are known as one word, written or read.
    fn is_joined(&self, word: &str) -> tantivy::Result<bool> {
        Ok(self.knows(word)? || self.any_reading(word)?)
    }

    /// In some field, as it is written or by its stem.
    fn knows(&self, word: &str) -> tantivy::Result<bool> {
        let stem = english::stem(word);
        for place in &self.places {
            if place.has(word)? || stem.as_deref().is_some_and(|stem| place.has(stem).unwrap_or(false)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn any_reading(&self, word: &str) -> tantivy::Result<bool> {
        for place in &self.places {
            if place.is_read(word)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn word(&self, word: &str, begun: bool, corrected: bool) -> tantivy::Result<Option<Way>> {
        let stem = english::stem(word);
        let known = self.knows(word)?;
        let divided = if known || self.any_reading(word)? { Vec::new() } else { chinese::divided(word) };
        let mistyped = (corrected && !known).then(|| Mistyped::new(word, begun)).flatten();
        let mut fields = Vec::new();
        for place in &self.places {
            let mut ways = Vec::new();
            ways.extend(place.term(word, 1.0)?);
            if let Some(stem) = &stem {
                ways.extend(place.term(stem, STEM)?);
            }
            place.split(word, &mut ways)?;
            if begun && word.chars().count() > 1 {
                ways.extend(place.beginning(word)?);
            }
            place.read_as(word, &divided, &mut ways)?;
            if let Some(mistyped) = &mistyped {
                place.mistyped(mistyped, &mut ways)?;
            }
            fields.extend(ways.into_iter().map(|(way, weight)| (way, weight * place.weight)));
        }
        Ok(best(fields))
    }

    /// Each word of a run may be found in another field.
    fn cjk_run(&self, text: &str, words: &[String], reach: Reach) -> tantivy::Result<Option<Way>> {
        if reach == Reach::Mistakes {
            let mut ways: Vec<Weighed> = self.cjk_run(text, words, Reach::Words)?.map(|way| (way, 1.0)).into_iter().collect();
            for place in &self.places {
                place.mistaken_characters(text, &mut ways)?;
            }
            return Ok(best(ways));
        }
        let mut clauses = Vec::with_capacity(words.len());
        for word in words {
            let Some(way) = self.cjk_word(word, reach)? else { return Ok(None) };
            clauses.push(way);
        }
        Ok(all(clauses))
    }

    fn cjk_word(&self, word: &str, reach: Reach) -> tantivy::Result<Option<Way>> {
        let mut fields = Vec::new();
        for place in &self.places {
            fields.extend(self.cjk_ways(place, word)?.into_iter().map(|(way, weight)| (way, weight * place.weight)));
        }
        if reach == Reach::Characters && word.chars().nth(1).is_some() {
            fields.extend(self.characters(word)?.map(|way| (way, PARTS)));
        }
        Ok(best(fields))
    }

    /// As the dictionary's word, as the same characters in a row, as its parts, or as a word that says the same.
    fn cjk_ways(&self, place: &Place, word: &str) -> tantivy::Result<Vec<Weighed>> {
        let mut ways = Vec::new();
        ways.extend(place.term(word, 1.0)?);
        if let Some(shorter) = chinese::shorter(word) {
            ways.extend(place.term(shorter, SHORTER)?);
        }
        let characters: Vec<&str> = characters(word).collect();
        if characters.len() > 1 && place.has_all(&characters)? {
            ways.push((place.phrase(&characters), CHARACTERS));
        }
        let parts = self.analysis.parts(word);
        if !parts.is_empty() && place.has_all(&parts)? {
            ways.extend(all(parts.iter().map(|part| place.known(part)).collect()).map(|way| (way, PARTS)));
        }
        Ok(ways)
    }

    /// Each character in whichever field.
    fn characters(&self, word: &str) -> tantivy::Result<Option<Way>> {
        let mut clauses = Vec::new();
        for c in characters(word) {
            let mut fields = Vec::new();
            for place in &self.places {
                fields.extend(place.term(c, place.weight)?);
            }
            let Some(way) = best(fields) else { return Ok(None) };
            clauses.push(way);
        }
        Ok(all(clauses))
    }
}

/// Rows in which each word stands for itself or is part of a joined one.
fn read_row(at: usize, singles: &[Option<Way>], joined: &[(usize, usize, Way)], begun: &mut Vec<Way>, rows: &mut Vec<Vec<Way>>) {
    if rows.len() == ROWS_MAX {
        return;
    }
    if at == singles.len() {
        rows.push(begun.iter().map(|way| way.box_clone()).collect());
        return;
    }
    let longer = joined.iter().filter(|(from, ..)| *from == at).map(|(_, to, way)| (*to, way));
    let single = singles[at].iter().map(|way| (at + 1, way));
    for (next, way) in longer.chain(single) {
        begun.push(way.box_clone());
        read_row(next, singles, joined, begun, rows);
        begun.pop();
    }
}

impl Place {
    fn has(&self, term: &str) -> tantivy::Result<bool> {
        knows(&self.words, term)
    }

    fn has_all(&self, terms: &[impl AsRef<str>]) -> tantivy::Result<bool> {
        for term in terms {
            if !self.has(term.as_ref())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As a Chinese word.
    fn is_read(&self, word: &str) -> tantivy::Result<bool> {
        match &self.pinyin {
            Some((_, readers)) => Ok(chinese::divided(word).iter().any(|syllables| syllables.len() > 1) && knows(readers, word)?),
            None => Ok(false),
        }
    }

    fn term(&self, term: &str, weight: f32) -> tantivy::Result<Option<Weighed>> {
        Ok(self.has(term)?.then(|| (self.known(term), weight)))
    }

    fn known(&self, term: &str) -> Way {
        Box::new(TermQuery::new(Term::from_field_text(self.field, term), IndexRecordOption::WithFreqs))
    }

    fn phrase(&self, words: &[&str]) -> Way {
        Box::new(PhraseQuery::new(words.iter().map(|word| Term::from_field_text(self.field, word)).collect()))
    }

    /// As the beginning of longer words, where there are any.
    fn beginning(&self, word: &str) -> tantivy::Result<Option<Weighed>> {
        for reader in &self.words {
            let mut terms = reader.terms().range().ge(word).into_stream()?;
            let mut more = terms.advance();
            if more && terms.key() == word.as_bytes() {
                more = terms.advance();
            }
            if more && terms.key().starts_with(word.as_bytes()) {
                let first = Term::from_field_text(self.field, word);
                let end = Term::from_field_text(self.field, &format!("{word}{}", char::MAX));
                return Ok(Some((Box::new(RangeQuery::new(Bound::Included(first), Bound::Excluded(end))), BEGINNING)));
            }
        }
        Ok(None)
    }

    /// As two words that follow each other: `teapot` as `tea pot`.
    fn split(&self, word: &str, ways: &mut Vec<Weighed>) -> tantivy::Result<()> {
        if !SPLIT_BYTES.contains(&word.len()) || !word.is_ascii() {
            return Ok(());
        }
        for at in SPLIT_PART_BYTES_MIN..=word.len() - SPLIT_PART_BYTES_MIN {
            let (first, second) = word.split_at(at);
            if !self.has(first)? {
                continue;
            }
            // In documents each word stands beside its stem.
            let stem = english::stem(second);
            for second in stem.as_deref().into_iter().chain([second]) {
                if self.has(second)? {
                    ways.push((self.phrase(&[first, second]), IN_TWO_WORDS));
                    break;
                }
            }
        }
        Ok(())
    }

    /// As Chinese that is read so. What is a word of the index already, written or read, is not taken for syllables.
    fn read_as(&self, word: &str, divided: &[Vec<&str>], ways: &mut Vec<Weighed>) -> tantivy::Result<()> {
        let Some((field, readers)) = &self.pinyin else { return Ok(()) };
        let term = |word: &str| -> Way { Box::new(TermQuery::new(Term::from_field_text(*field, word), IndexRecordOption::WithFreqs)) };
        if self.is_read(word)? {
            ways.push((term(word), READ_AS_WORD));
        }
        for syllables in divided {
            let known = syllables.iter().map(|syllable| knows(readers, syllable)).collect::<tantivy::Result<Vec<_>>>()?;
            if known.contains(&false) {
                continue;
            }
            let way: Way = match syllables.as_slice() {
                [syllable] => term(syllable),
                several => Box::new(PhraseQuery::new(several.iter().map(|syllable| Term::from_field_text(*field, syllable)).collect())),
            };
            ways.push((way, READ_AS_SYLLABLES));
        }
        Ok(())
    }

    /// One character of the run may be another.
    fn mistaken_characters(&self, text: &str, ways: &mut Vec<Weighed>) -> tantivy::Result<()> {
        let characters: Vec<(usize, &str)> = characters(text).enumerate().collect();
        if !(3..=CORRECTED_CJK_MAX).contains(&characters.len()) {
            return Ok(());
        }
        for wrong in 0..characters.len() {
            let (at, others): (Vec<usize>, Vec<&str>) = characters.iter().filter(|(at, _)| *at != wrong).copied().unzip();
            if self.has_all(&others)? {
                let terms = others.iter().map(|c| Term::from_field_text(self.field, c));
                ways.push((Box::new(PhraseQuery::new_with_offset(at.into_iter().zip(terms).collect())), CHARACTERS * self.weight));
            }
        }
        Ok(())
    }

    fn mistyped(&self, mistyped: &Mistyped, ways: &mut Vec<Weighed>) -> tantivy::Result<()> {
        let like = mistyped.like(&self.words)?;
        let weighed = (1_u8..).zip(like.by_letters).map(|(letters, words)| (words, 1.0 / f32::from(letters)));
        for (words, weight) in weighed.chain([(like.begun, MISTYPED_BEGINNING)]).filter(|(words, _)| !words.is_empty()) {
            let terms = words.iter().map(|word| Term::from_field_text(self.field, word));
            ways.push((Box::new(TermSetQuery::new(terms)), weight));
        }
        Ok(())
    }
}

fn knows(readers: &[Arc<InvertedIndexReader>], term: &str) -> tantivy::Result<bool> {
    for reader in readers {
        if reader.terms().term_ord(term)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn characters(word: &str) -> impl Iterator<Item = &str> {
    word.char_indices().map(|(at, c)| &word[at..at + c.len_utf8()])
}

/// The best way counts, the others a little: what several fields say is more likely what
/// something is about. All are in one disjunction, for each costs a buffer of its own.
fn best(ways: Vec<Weighed>) -> Option<Way> {
    let mut ways: Vec<Way> = ways.into_iter().map(|(way, weight)| boost(way, weight)).collect();
    match ways.len() {
        0 => None,
        1 => ways.pop(),
        _ => Some(Box::new(DisjunctionMaxQuery::with_tie_breaker(ways, OTHERS))),
    }
}

fn all(mut ways: Vec<Way>) -> Option<Way> {
    match ways.len() {
        0 => None,
        1 => ways.pop(),
        _ => Some(Box::new(BooleanQuery::intersection(ways))),
    }
}

fn boost(way: Way, weight: f32) -> Way {
    if weight == 1.0 { way } else { Box::new(BoostQuery::new(way, weight)) }
}
