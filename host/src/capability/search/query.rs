//! Answers queries from one index. What a shopper typed is never parsed as a
//! query language: queries are put together here, from words.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use tantivy::collector::sort_key::{SortBySimilarityScore, SortByStaticFastValue, SortByString};
use tantivy::collector::{Collector, Count, SegmentCollector, TopDocs};
use tantivy::columnar::StrColumn;
use tantivy::query::{AllQuery, BooleanQuery, ConstScoreQuery, Occur, Query, RangeQuery, TermSetQuery};
use tantivy::schema::{IndexRecordOption, Value as _};
use tantivy::{DocAddress, DocId, DocSet, Order, Score, Searcher, SegmentOrdinal, SegmentReader, TERMINATED, TantivyDocument, Term};

use super::highlight::Highlighter;
use super::index::{ID, Index, NamedField, SUGGESTION_SEPARATOR, TIE};
use super::text::{bare, fold};
use super::words::{Asked, Reach};
use super::english;
use super::{Failed, being_built, is_damage};
use crate::engine::bindings::souk::host::search::{Error, Facet, FacetValue, Filter, Hit, Results, SearchQuery, Sort};
use crate::shop::manifest::{FieldKind, Index as Definition};

const TEXT_CHARACTERS_MAX: usize = 256;
pub const LIMIT_MAX: u32 = 200;
/// `offset` and `limit` together.
const WINDOW_MAX: u32 = 10_000;
const FILTERS_MAX: usize = 32;
const FILTER_VALUES_MAX: usize = 1_000;
const FACETS_MAX: usize = 16;
/// Fields to look in, or to highlight.
const FIELDS_MAX: usize = super::FIELDS_MAX;
/// Values of a segment's facet, the most frequent ones: more are not told apart.
const FACET_VALUES_KEPT: usize = 10_000;
/// Documents looked at for one list of completions.
const SUGGESTION_DOCUMENTS_MAX: u32 = 200_000;
const FACET_VALUES_MAX: usize = 1_000;
pub const SUGGESTIONS_MAX: u32 = 20;
const SUGGESTION_TERMS_MAX: usize = 1_000;
/// Weight of each further field where the query names them, the best first.
const NEXT_FIELD: f32 = 0.8;

/// Checks a query against what the caller's manifest declares, so that a
/// mistake is told alike whatever state the index is in.
pub(super) fn check(definition: &Definition, query: &SearchQuery) -> Result<(), Error> {
    let field = |name: &str, kinds: &[FieldKind], what: &str| {
        let declared = definition.fields.iter().find(|field| field.name == name);
        let kind = declared.ok_or_else(|| Error::Invalid(format!("the index `{}` has no field `{name}`", definition.name)))?.kind;
        if kinds.contains(&kind) { Ok(()) } else { Err(Error::Invalid(format!("{what}: the field `{name}` is of another kind"))) }
    };
    let most = |what: &str, count: usize, max: usize| {
        if count <= max { Ok(()) } else { Err(Error::Invalid(format!("{what}: {count} where at most {max} are allowed"))) }
    };
    most("limit", query.limit as usize, LIMIT_MAX as usize)?;
    most("offset and limit", query.offset.saturating_add(query.limit) as usize, WINDOW_MAX as usize)?;
    most("filters", query.filters.len(), FILTERS_MAX)?;
    most("facets", query.facets.len(), FACETS_MAX)?;
    most("fields", query.fields.len(), FIELDS_MAX)?;
    most("highlight", query.highlight.len(), FIELDS_MAX)?;
    query.fields.iter().try_for_each(|name| field(name, &[FieldKind::Text], "fields"))?;
    query.facets.iter().try_for_each(|name| field(name, &[FieldKind::Keyword], "facets"))?;
    query.highlight.iter().try_for_each(|name| field(name, &[FieldKind::Text], "highlight"))?;
    for filter in &query.filters {
        match filter {
            Filter::AnyOf(any) => {
                field(&any.field, &[FieldKind::Keyword, FieldKind::Number], "filters, any-of")?;
                most("filters, any-of", any.values.len(), FILTER_VALUES_MAX)?;
            }
            Filter::Between(between) => field(&between.field, &[FieldKind::Number], "filters, between")?,
        }
    }
    match &query.sort {
        Sort::Relevance => Ok(()),
        Sort::Ascending(name) | Sort::Descending(name) => field(name, &[FieldKind::Keyword, FieldKind::Number], "sort"),
    }
}

/// A checked query against the index as it is now.
pub(super) fn run(index: &Index, query: &SearchQuery) -> Result<Results, Failed> {
    let searcher = index.reader.searcher();
    let runs = index.analysis.query_runs(&query.text.chars().take(TEXT_CHARACTERS_MAX).collect::<String>());
    let filters = query.filters.iter().map(|filter| filter_query(index, filter)).collect::<Result<Vec<_>, _>>()?;
    let (page, corrected) = match (runs.is_empty(), query.text.trim().is_empty()) {
        (false, _) => {
            let fields = text_fields(index, &query.fields)?;
            let last_is_begun = !query.text.ends_with(char::is_whitespace);
            let asked = Asked::new(&index.analysis, &searcher, &fields, &runs, last_is_begun)?;
            found(index, &searcher, query, &asked, &filters)?
        }
        // Nothing but signs is not the same as nothing.
        (true, false) => (Page::empty(query), false),
        (true, true) => (collect(index, &searcher, &with_filters(Box::new(AllQuery), &filters), query)?, false),
    };

    let ids = document_ids(&searcher, &page.hits)?;
    let mut hits: Vec<Hit> = ids.into_iter().zip(&page.hits).map(|(id, (score, _))| Hit { id, score: *score, highlights: Vec::new() }).collect();
    if !query.highlight.is_empty() && !runs.is_empty() {
        let mut highlighter = Highlighter::new(&index.analysis, &runs, corrected);
        for (hit, (_, address)) in hits.iter_mut().zip(&page.hits) {
            let document: TantivyDocument = searcher.doc(*address)?;
            for name in &query.highlight {
                let values = document.get_all(named(index, name)?.field).filter_map(|value| value.as_str());
                if let Some(fragment) = highlighter.best_fragment(values) {
                    hit.highlights.push((name.clone(), fragment));
                }
            }
        }
    }
    Ok(Results { total: page.total, hits, facets: page.facets, corrected })
}

/// What is nearest to what was typed, and whether that takes typing mistakes.
fn found(index: &Index, searcher: &Searcher, query: &SearchQuery, asked: &Asked<'_>, filters: &[Box<dyn Query>]) -> Result<(Page, bool), Failed> {
    for reach in [Reach::Words, Reach::Characters, Reach::Mistakes] {
        let is_guess = reach == Reach::Mistakes;
        if (is_guess && !query.typo_tolerance) || !asked.has(reach) {
            continue;
        }
        let Some(words) = asked.query(reach)? else { continue };
        let page = collect(index, searcher, &with_filters(words.box_clone(), filters), query)?;
        // Words that exist but are filtered out are not mistyped.
        if page.total > 0 || (!filters.is_empty() && searcher.search(&words, &Count)? > 0) {
            let corrected = is_guess && page.total > 0;
            return Ok((page, corrected));
        }
    }
    Ok((Page::empty(query), false))
}

/// The caller's manifest has it; the index may still have the fields of the
/// version before.
fn named<'a>(index: &'a Index, name: &str) -> Result<&'a NamedField, Failed> {
    index.fields.get(name).ok_or_else(|| Failed::Plain(being_built(&index.definition.name)))
}

/// Where to look, and how much a word found there weighs.
fn text_fields<'a>(index: &'a Index, asked: &[String]) -> Result<Vec<(&'a NamedField, f32)>, Failed> {
    if asked.is_empty() {
        let all = index.definition.fields.iter().filter(|field| field.kind == FieldKind::Text);
        return all.map(|field| named(index, &field.name).map(|named| (named, named.boost))).collect();
    }
    let weighed = asked.iter().enumerate();
    weighed.map(|(place, name)| named(index, name).map(|named| (named, named.boost * NEXT_FIELD.powi(place as i32)))).collect()
}

fn filter_query(index: &Index, filter: &Filter) -> Result<Box<dyn Query>, Failed> {
    let query: Box<dyn Query> = match filter {
        Filter::AnyOf(any) => {
            let named = named(index, &any.field)?;
            let term = |value: &String| match named.kind {
                FieldKind::Number => value.parse().map(|number| Term::from_field_i64(named.field, number)).ok(),
                _ => Some(Term::from_field_text(named.field, value)),
            };
            let terms = any.values.iter().map(|value| term(value).ok_or_else(|| Error::Invalid(format!("filters: `{value}` is no number"))));
            Box::new(TermSetQuery::new(terms.collect::<Result<Vec<_>, _>>().map_err(Failed::Plain)?))
        }
        Filter::Between(between) => {
            let field = named(index, &between.field)?.field;
            let bound = |value: Option<i64>, edge: i64| Bound::Included(Term::from_field_i64(field, value.unwrap_or(edge)));
            Box::new(RangeQuery::new(bound(between.min, i64::MIN), bound(between.max, i64::MAX)))
        }
    };
    Ok(Box::new(ConstScoreQuery::new(query, 0.0)))
}

fn with_filters(words: Box<dyn Query>, filters: &[Box<dyn Query>]) -> Box<dyn Query> {
    if filters.is_empty() {
        return words;
    }
    let mut clauses = vec![(Occur::Must, words)];
    clauses.extend(filters.iter().map(|filter| (Occur::Must, filter.box_clone())));
    Box::new(BooleanQuery::new(clauses))
}

struct Page {
    total: u64,
    hits: Vec<(Score, DocAddress)>,
    facets: Vec<Facet>,
}

impl Page {
    fn empty(query: &SearchQuery) -> Self {
        let facets = query.facets.iter().map(|field| Facet { field: field.clone(), values: Vec::new() });
        Self { total: 0, hits: Vec::new(), facets: facets.collect() }
    }
}

fn collect(index: &Index, searcher: &Searcher, words: &dyn Query, query: &SearchQuery) -> Result<Page, Failed> {
    let columns = query.facets.iter().map(|name| named(index, name).map(|named| named.column.clone())).collect::<Result<Vec<_>, _>>()?;
    let facets = FacetCounts { columns };
    // At least one, where the caller only wants counts.
    let top = TopDocs::with_limit(query.limit.max(1) as usize).and_offset(query.offset as usize);
    // Equal hits come in the order of a hash of their ids: the same on each page.
    let tie = (SortByStaticFastValue::<u64>::for_field(TIE), Order::Asc);
    let (total, counts, mut hits) = match &query.sort {
        Sort::Relevance => {
            let (total, counts, hits) = searcher.search(words, &(Count, facets, top.order_by((SortBySimilarityScore, tie))))?;
            (total, counts, hits.into_iter().map(|((score, _), address)| (score, address)).collect::<Vec<_>>())
        }
        Sort::Ascending(name) | Sort::Descending(name) => {
            let order = if matches!(query.sort, Sort::Ascending(_)) { Order::Asc } else { Order::Desc };
            let named = named(index, name)?;
            match named.kind {
                FieldKind::Number => {
                    let by = (SortByStaticFastValue::<i64>::for_field(&named.column), order);
                    let (total, counts, hits) = searcher.search(words, &(Count, facets, top.order_by((by, tie))))?;
                    (total, counts, hits.into_iter().map(|(_, address)| (0.0, address)).collect())
                }
                _ => {
                    let by = (SortByString::for_field(&named.column), order);
                    let (total, counts, hits) = searcher.search(words, &(Count, facets, top.order_by((by, tie))))?;
                    (total, counts, hits.into_iter().map(|(_, address)| (0.0, address)).collect())
                }
            }
        }
    };
    hits.truncate(query.limit as usize);
    let facets = query.facets.iter().zip(counts).map(|(field, counts)| {
        let mut values: Vec<_> = counts.into_iter().map(|(value, count)| FacetValue { value, count }).collect();
        values.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        values.truncate(FACET_VALUES_MAX);
        Facet { field: field.clone(), values }
    });
    Ok(Page { total: total as u64, hits, facets: facets.collect() })
}

/// In the order of the hits. Ids lie in a dictionary that is read from its beginning on: each
/// segment's is read once.
fn document_ids(searcher: &Searcher, hits: &[(Score, DocAddress)]) -> Result<Vec<String>, Failed> {
    let mut ids = vec![String::new(); hits.len()];
    let mut by_segment: BTreeMap<SegmentOrdinal, Vec<(usize, DocId)>> = BTreeMap::new();
    for (place, (_, address)) in hits.iter().enumerate() {
        by_segment.entry(address.segment_ord).or_default().push((place, address.doc_id));
    }
    for (segment, places) in by_segment {
        let column = searcher.segment_reader(segment).fast_fields().str(ID)?.ok_or_else(|| Failed::Damaged("documents without ids".into()))?;
        let ordinal = |doc| column.term_ords(doc).next().ok_or_else(|| Failed::Damaged("a document without id".into()));
        let mut ordinals = places.iter().map(|(place, doc)| Ok((ordinal(*doc)?, *place))).collect::<Result<Vec<_>, Failed>>()?;
        ordinals.sort_unstable();
        let mut next = ordinals.iter();
        let sorted: Vec<u64> = ordinals.iter().map(|(ordinal, _)| *ordinal).collect();
        column.dictionary().sorted_ords_to_term_cb(&sorted, |id| {
            if let Some((_, place)) = next.next() {
                ids[*place] = String::from_utf8_lossy(id).into_owned();
            }
        })?;
    }
    Ok(ids)
}

/// Counts the values of keyword fields over all matches.
struct FacetCounts {
    columns: Vec<String>,
}

struct SegmentFacetCounts(Vec<(Option<StrColumn>, Vec<u64>)>);

impl Collector for FacetCounts {
    type Fruit = Vec<HashMap<String, u64>>;
    type Child = SegmentFacetCounts;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentFacetCounts> {
        let column = |name: &String| {
            let column = segment.fast_fields().str(name)?;
            let terms = column.as_ref().map_or(0, |column| column.dictionary().num_terms());
            Ok((column, vec![0; terms]))
        };
        Ok(SegmentFacetCounts(self.columns.iter().map(column).collect::<tantivy::Result<_>>()?))
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, segments: Vec<tantivy::Result<Self::Fruit>>) -> tantivy::Result<Self::Fruit> {
        let mut merged = vec![HashMap::new(); self.columns.len()];
        for segment in segments {
            for (all, counts) in merged.iter_mut().zip(segment?) {
                counts.into_iter().for_each(|(value, count)| *all.entry(value).or_default() += count);
            }
        }
        Ok(merged)
    }
}

impl SegmentCollector for SegmentFacetCounts {
    type Fruit = tantivy::Result<Vec<HashMap<String, u64>>>;

    fn collect(&mut self, doc: DocId, _: Score) {
        for (column, counts) in &mut self.0 {
            let Some(column) = column else { continue };
            column.term_ords(doc).for_each(|ordinal| counts[ordinal as usize] += 1);
        }
    }

    fn harvest(self) -> Self::Fruit {
        let named = |(column, counts): (Option<StrColumn>, Vec<u64>)| {
            let Some(column) = column else { return Ok(HashMap::new()) };
            let mut found: Vec<(u64, u64)> = (0..).zip(counts).filter(|(_, count)| *count > 0).collect();
            if found.len() > FACET_VALUES_KEPT {
                found.select_nth_unstable_by_key(FACET_VALUES_KEPT, |(ordinal, count)| (std::cmp::Reverse(*count), *ordinal));
                found.truncate(FACET_VALUES_KEPT);
                found.sort_unstable_by_key(|(ordinal, _)| *ordinal);
            }
            let ordinals: Vec<u64> = found.iter().map(|(ordinal, _)| *ordinal).collect();
            let mut values = Vec::with_capacity(found.len());
            column.dictionary().sorted_ords_to_term_cb(&ordinals, |term| values.push(String::from_utf8_lossy(term).into_owned()))?;
            Ok(values.into_iter().zip(found).map(|(value, (_, count))| (value, count)).collect())
        };
        self.0.into_iter().map(named).collect()
    }
}

/// Whole values that begin with what was typed, or have a word that does; the
/// former first, then those of more documents. Other forms of the last word
/// complete what is left of the list.
pub(super) fn suggest(index: &Index, typed: &str, limit: u32) -> Result<Vec<String>, Failed> {
    let folded = fold(&typed.chars().take(TEXT_CHARACTERS_MAX).collect::<String>());
    let limit = limit.min(SUGGESTIONS_MAX) as usize;
    let last = folded.trim_end().rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let before = &folded[..folded.trim_end().len() - last.len()];
    let others = english::beginnings(last).into_iter().map(|form| format!("{before}{form}"));
    let mut completions: Vec<String> = Vec::new();
    for prefix in [folded.clone()].into_iter().chain(others) {
        let prefix = bare(&prefix);
        if completions.len() < limit && !prefix.is_empty() {
            let more = beginning_with(index, &prefix)?.into_iter().filter(|value| !completions.contains(value)).collect::<Vec<_>>();
            completions.extend(more);
        }
    }
    completions.truncate(limit);
    Ok(completions)
}

/// Values that have a completion which begins so, best first. `prefix` is bare.
fn beginning_with(index: &Index, prefix: &str) -> Result<Vec<String>, Failed> {
    let searcher = index.reader.searcher();
    let mut found: HashMap<String, (char, u32)> = HashMap::new();
    let mut documents = 0;
    for segment in searcher.segment_readers() {
        let inverted = segment.inverted_index(index.fields.suggest)?;
        let mut terms = inverted.terms().range().ge(prefix).into_stream()?;
        let mut looked_at = 0;
        while terms.advance() && terms.key().starts_with(prefix.as_bytes()) && looked_at < SUGGESTION_TERMS_MAX {
            looked_at += 1;
            let Some((rank, value)) = std::str::from_utf8(terms.key()).ok().and_then(shown) else { continue };
            let mut postings = inverted.read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
            // Of replaced documents the terms stay until segments are merged.
            let mut alive = 0;
            while postings.doc() != TERMINATED && documents < SUGGESTION_DOCUMENTS_MAX {
                documents += 1;
                alive += u32::from(!segment.is_deleted(postings.doc()));
                postings.advance();
            }
            if alive > 0 {
                let entry = found.entry(value.to_owned()).or_insert((rank, 0));
                *entry = (entry.0.min(rank), entry.1 + alive);
            }
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by(|(a, (a_rank, a_count)), (b, (b_rank, b_count))| {
        (a_rank, std::cmp::Reverse(a_count), a.len(), a).cmp(&(b_rank, std::cmp::Reverse(b_count), b.len(), b))
    });
    found.truncate(SUGGESTIONS_MAX as usize);
    Ok(found.into_iter().map(|(value, _)| value).collect())
}

fn shown(term: &str) -> Option<(char, &str)> {
    let (_, ranked) = term.split_once(SUGGESTION_SEPARATOR)?;
    let rank = ranked.chars().next()?;
    Some((rank, &ranked[rank.len_utf8()..]))
}

impl From<tantivy::TantivyError> for Failed {
    fn from(error: tantivy::TantivyError) -> Self {
        if is_damage(&error) { Failed::Damaged(error.to_string()) } else { Failed::Plain(Error::Unavailable(error.to_string())) }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Failed::Damaged(error.to_string())
    }
}
