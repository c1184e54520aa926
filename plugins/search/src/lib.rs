//! Search over the catalogue: exports `souk:commerce/product-finder`, and
//! `product-search` for those who know only that; keeps the index in step by
//! hearing `catalog.product-changed` and `catalog.prices-changed`. Owns the names of
//! categories as the index last saw them, and how far the index was made anew.

mod index;

use std::collections::BTreeSet;

use index::{LastWord, Prices};
use serde::{Deserialize, Serialize};
use souk_sdk::commerce::catalog::{self, Category};
use souk_sdk::commerce::product_finder::{self, Error, FacetValue, Query, Results, Sort};
use souk_sdk::commerce::product_search;
use souk_sdk::host::command_handler;
use souk_sdk::search::{self, SearchQuery};
use souk_sdk::storage::Collection;
use souk_sdk::{config, events, jobs, log};

const INDEX: &str = "products";
const SUGGESTIONS_MAX: u32 = 20;
const PAGE: u32 = 200;

const PRICES_CHANGED: &str = "catalog.prices-changed";

struct Search;

#[derive(Deserialize)]
struct Repriced {
    handles: Vec<String>,
}

const NOTHING: Results = Results { total: 0, products: Vec::new(), categories: Vec::new(), brands: Vec::new(), corrected: false };

/// The unit cannot go on; the interface has no error for it.
fn must<T>(result: Result<T, search::Error>) -> T {
    result.unwrap_or_else(|error| panic!("search index: {error}"))
}

/// What the index finds; words that no index can be asked for find nothing.
fn found<T: Default>(asked: Result<T, search::Error>) -> Result<T, Error> {
    match asked {
        Err(search::Error::Unavailable(_)) => Err(Error::Preparing),
        Err(search::Error::Invalid(reason)) => {
            log::warn!("query refused"; reason = reason);
            Ok(T::default())
        }
        asked => Ok(must(asked)),
    }
}

/// Who sends a search has typed to the end: `tea` is not the beginning of
/// `teal`. Where no product has such words, the last one may be a beginning, and
/// then any of them mistyped.
fn nearest(query: &Query, locale: &str) -> Result<Option<search::Results>, Error> {
    let has_bound = query.price_min.or(query.price_max).is_some();
    let prices = if has_bound && is_made() { Prices::Each } else { Prices::Span };
    let ask = |last_word| found(search::query(INDEX, &index::query(query, last_word, prices, locale)).map(Some));
    match ask(LastWord::Whole)? {
        Some(results) if results.total == 0 && !query.text.trim().is_empty() => ask(LastWord::Begun),
        answer => Ok(answer),
    }
}

impl product_finder::Guest for Search {
    fn search(query: Query, locale: String) -> Result<Results, Error> {
        let Some(found) = nearest(&query, &locale)? else { return Ok(NOTHING) };
        let handles: Vec<String> = found.hits.into_iter().map(|hit| hit.id).collect();
        let products = if handles.is_empty() { Vec::new() } else { catalog::summaries(&handles, &locale) };
        let categories = if found.facets.is_empty() { Names::default() } else { names(&locale) };
        let name = |handle: &str| categories.0.iter().find(|(it, _)| it == handle).map(|(_, name)| name.clone());
        Ok(Results {
            total: found.total,
            // What was deleted a moment ago may still be in the index.
            products: products.into_iter().flatten().collect(),
            categories: index::labelled(&found.facets, "category", name),
            brands: index::labelled(&found.facets, "brand", |brand| Some(brand.to_owned())),
            corrected: found.corrected,
        })
    }

    fn suggest(prefix: String, locale: String, limit: u32) -> Result<Vec<String>, Error> {
        let prefix: String = prefix.trim().chars().take(60).collect();
        if prefix.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = index::preferred(found(search::suggest(INDEX, &prefix, SUGGESTIONS_MAX))?, &locale);
        found.truncate(limit as usize);
        Ok(found)
    }
}

impl product_search::Guest for Search {
    fn search(query: product_search::Query, locale: String) -> product_search::Results {
        let product_search::Query { text, category, brands, price_min, price_max, sort, page } = query;
        let sort = match sort {
            product_search::Sort::Relevance => Sort::Relevance,
            product_search::Sort::PriceAscending => Sort::PriceAscending,
            product_search::Sort::PriceDescending => Sort::PriceDescending,
            product_search::Sort::Newest => Sort::Newest,
        };
        let query = Query { text, category, brands, price_min, price_max, sort, page };
        let found = <Self as product_finder::Guest>::search(query, locale).unwrap_or(NOTHING);
        let facet = |FacetValue { value, label, count }| product_search::FacetValue { value, label, count };
        product_search::Results {
            total: found.total,
            products: found.products,
            categories: found.categories.into_iter().map(facet).collect(),
            brands: found.brands.into_iter().map(facet).collect(),
            corrected: found.corrected,
        }
    }

    fn suggest(prefix: String, locale: String, limit: u32) -> Vec<String> {
        <Self as product_finder::Guest>::suggest(prefix, locale, limit).unwrap_or_default()
    }
}

/// Categories by handle, in one language: all that a search needs to know of them.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Names(Vec<(String, String)>);

impl Names {
    fn of(categories: &[Category]) -> Self {
        Self(categories.iter().map(|category| (category.handle.clone(), category.name.clone())).collect())
    }
}

const NAMES: Collection<Names> = Collection::new("names", &[]);

fn names(locale: &str) -> Names {
    NAMES.get(locale).ok().flatten().unwrap_or_else(|| Names::of(&catalog::categories(locale)))
}

/// With each change of a product, of which a new name of its category is one.
fn keep_names(tree: &Tree) -> Result<(), String> {
    for (locale, categories) in tree {
        let now = Names::of(categories);
        if NAMES.get(locale).map_err(|error| error.to_string())?.as_ref() != Some(&now) {
            NAMES.put(locale, &now).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// The categories in each of the shop's locales.
type Tree = Vec<(String, Vec<Category>)>;

fn tree() -> Result<Tree, String> {
    let locales = config::shop().locales;
    if locales.is_empty() {
        return Err("the shop has no locale".into());
    }
    Ok(locales.into_iter().map(|locale| (locale.clone(), catalog::categories(&locale))).collect())
}

/// Puts a product into the index as the catalogue has it now, or takes it out.
fn refresh(handle: &str, tree: &Tree) {
    let mut chain = Vec::new();
    let mut views = Vec::new();
    // An unlisted product has a page, and is not found.
    let is_listed = tree.first().is_some_and(|(locale, _)| catalog::summaries(&[handle.to_owned()], locale).into_iter().flatten().next().is_some());
    for (locale, categories) in tree.iter().filter(|_| is_listed) {
        let Some(product) = catalog::get(handle, locale) else { continue };
        if chain.is_empty() {
            chain = index::chain(&product.category, categories);
        }
        views.push(index::View { locale: locale.clone(), product, categories: index::names(&chain, categories) });
    }
    if views.is_empty() {
        must(search::delete(INDEX, handle));
    } else {
        must(search::put(INDEX, handle, &index::fields(&views, chain)));
    }
}

impl events::Guest for Search {
    fn handle(event: events::Event) -> Result<(), String> {
        let handles = match event.topic.as_str() {
            PRICES_CHANGED => event.json::<Repriced>()?.handles,
            _ => vec![event.key],
        };
        let tree = tree()?;
        keep_names(&tree)?;
        for handle in &handles {
            refresh(handle, &tree);
        }
        Ok(())
    }
}

impl command_handler::Guest for Search {
    fn run(name: String, _: Vec<(String, String)>, _: Vec<u8>) -> Result<Vec<u8>, String> {
        if name != "reindex" {
            return Err(format!("search has no command `{name}`"));
        }
        let tree = tree()?;
        keep_names(&tree)?;
        let mut sold: BTreeSet<String> = BTreeSet::new();
        loop {
            let page = catalog::handles(sold.last().map(String::as_str), PAGE);
            if page.is_empty() {
                break;
            }
            for handle in &page {
                refresh(handle, &tree);
            }
            sold.extend(page);
        }
        let gone: Vec<String> = indexed()?.into_iter().filter(|handle| !sold.contains(handle)).collect();
        for handle in &gone {
            must(search::delete(INDEX, handle));
        }
        MADE.put(INDEX, &Made { content: CONTENT, after: None }).map_err(|error| error.to_string())?;
        Ok(serde_json::json!({ "indexed": sold.len(), "removed": gone.len() }).to_string().into_bytes())
    }
}

/// What is put into the index, and how. A shop whose index was made by another
/// one has it made anew, a page at a time, beside shoppers.
const CONTENT: u32 = 3;
const MADE_AT_ONCE: u32 = 50;

#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Made {
    content: u32,
    /// Up to this handle by the next one.
    after: Option<String>,
}

const MADE: Collection<Made> = Collection::new("made", &[]);

/// Whether every product in the index is as this version puts it in.
fn is_made() -> bool {
    MADE.get(INDEX).ok().flatten().is_some_and(|made| made.content == CONTENT)
}

impl jobs::Guest for Search {
    fn run(_: jobs::Job) -> Result<bool, String> {
        let made = MADE.get(INDEX).map_err(|error| error.to_string())?.unwrap_or_default();
        if made.content == CONTENT {
            return Ok(false);
        }
        let handles = catalog::handles(made.after.as_deref(), MADE_AT_ONCE);
        let tree = tree()?;
        keep_names(&tree)?;
        handles.iter().for_each(|handle| refresh(handle, &tree));
        let is_done = handles.is_empty();
        let made = if is_done { Made { content: CONTENT, after: None } } else { Made { after: handles.last().cloned(), ..made } };
        MADE.put(INDEX, &made).map_err(|error| error.to_string())?;
        if is_done {
            log::info!("every product was put into the index again, which this version of search does once");
        }
        Ok(!is_done)
    }
}

/// Ids of all documents. This unit's own changes are not among them yet.
fn indexed() -> Result<Vec<String>, String> {
    let mut ids = Vec::new();
    loop {
        let all = SearchQuery {
            text: String::new(),
            fields: Vec::new(),
            filters: Vec::new(),
            sort: search::Sort::Ascending("created".into()),
            offset: u32::try_from(ids.len()).map_err(|error| error.to_string())?,
            limit: PAGE,
            facets: Vec::new(),
            highlight: Vec::new(),
            typo_tolerance: false,
        };
        let page = search::query(INDEX, &all).map_err(|error| error.to_string())?;
        if page.hits.is_empty() {
            return Ok(ids);
        }
        ids.extend(page.hits.into_iter().map(|hit| hit.id));
    }
}

souk_sdk::export!(Search: commerce::product_finder, commerce::product_search, host::event_handler, host::job_handler, host::command_handler);
