//! Full-text search over the catalogue.

use serde::Deserialize;
use souk_sdk::commerce::product_finder::{self, Results, Sort};
use souk_sdk::commerce::types::Page;
use souk_sdk::web::{Json, Problem, Query, Request, Text};

use crate::{NAME_CHARS_MAX, Name, page_size, sort_by};

pub const TEXT_CHARS_MAX: usize = 200;
pub const BRANDS_MAX: usize = 50;
pub const SUGGESTIONS_MAX: u32 = 20;
/// Pages past it are nobody's.
pub const OFFSET_MAX: u32 = 10_000;
/// While there is no index yet.
const RETRY_AFTER_S: u32 = 5;

pub const SORTS: [(&str, Sort); 4] =
    [("relevance", Sort::Relevance), ("price", Sort::PriceAscending), ("-price", Sort::PriceDescending), ("newest", Sort::Newest)];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asked {
    q: Option<Text<TEXT_CHARS_MAX>>,
    category: Option<Name>,
    #[serde(default)]
    brand: Vec<Name>,
    price_min: Option<u32>,
    price_max: Option<u32>,
    sort: Option<Name>,
    #[serde(default)]
    offset: u32,
    limit: Option<u32>,
}

pub fn search(Query(asked): Query<Asked>, request: &Request) -> Result<Json<Results>, Problem> {
    if asked.brand.len() > BRANDS_MAX {
        return Err(Problem::field("brand", "range", format!("Give `brand` at most {BRANDS_MAX} times, each of at most {NAME_CHARS_MAX} characters.")));
    }
    if asked.offset > OFFSET_MAX {
        return Err(Problem::field("offset", "range", format!("Use at most {OFFSET_MAX}, or narrow the search.")));
    }
    if let (Some(min), Some(max)) = (asked.price_min, asked.price_max)
        && min > max
    {
        return Err(Problem::field("price-max", "range", format!("Use `price-min` or more, which is {min}; both are in the smallest unit of the currency.")));
    }
    let query = product_finder::Query {
        text: asked.q.map(String::from).unwrap_or_default(),
        category: asked.category.map(String::from),
        brands: asked.brand.into_iter().map(String::from).collect(),
        price_min: asked.price_min.map(i64::from),
        price_max: asked.price_max.map(i64::from),
        sort: sort_by(asked.sort.as_deref(), &SORTS)?,
        page: Page { offset: asked.offset, limit: page_size(asked.limit)? },
    };
    product_finder::search(&query, &request.locale).map(Json).map_err(preparing)
}

fn preparing(_: product_finder::Error) -> Problem {
    Problem::new(503, "The search is being prepared").detail("Products can be listed meanwhile: GET /api/v1/products.").retry_after(RETRY_AFTER_S)
}

#[derive(Deserialize)]
pub struct Begun {
    q: Text<TEXT_CHARS_MAX>,
    limit: Option<u32>,
}

pub fn suggest(Query(begun): Query<Begun>, request: &Request) -> Result<Json<Vec<String>>, Problem> {
    let limit = begun.limit.unwrap_or(8);
    if !(1..=SUGGESTIONS_MAX).contains(&limit) {
        return Err(Problem::field("limit", "range", format!("Use 1 to {SUGGESTIONS_MAX}.")));
    }
    product_finder::suggest(&begun.q, &request.locale, limit).map(Json).map_err(preparing)
}
