//! Full-text search over the catalogue.

use souk_sdk::commerce::product_search::{self, Query, Sort};
use souk_sdk::commerce::types::Page;
use souk_sdk::web::{self, Problem, Request, Response};

use crate::{NAME_CHARS_MAX, PAGE_SIZE_DEFAULT, page_size};

pub const TEXT_CHARS_MAX: usize = 200;
pub const BRANDS_MAX: usize = 50;
pub const SUGGESTIONS_MAX: u32 = 20;
/// Pages past it are nobody's.
pub const OFFSET_MAX: u32 = 10_000;

pub const SORTS: [(&str, Sort); 4] =
    [("relevance", Sort::Relevance), ("price", Sort::PriceAscending), ("-price", Sort::PriceDescending), ("newest", Sort::Newest)];

pub fn search(request: &Request) -> Result<Response, Problem> {
    let query = request.query();
    let sort = match query.optional_text("sort", 16)? {
        None => Sort::Relevance,
        Some(name) => {
            let known = SORTS.map(|(name, _)| name).join(", ");
            let found = SORTS.iter().find(|(known, _)| *known == name);
            found.ok_or_else(|| Problem::field("sort", "unknown", format!("Use one of {known}.")))?.1
        }
    };
    let brands: Vec<String> = query.all("brand").map(str::to_owned).collect();
    if brands.len() > BRANDS_MAX || brands.iter().any(|brand| brand.chars().count() > NAME_CHARS_MAX) {
        return Err(Problem::field("brand", "range", format!("Give `brand` at most {BRANDS_MAX} times, each of at most {NAME_CHARS_MAX} characters.")));
    }
    let offset = query.number_or("offset", 0)?;
    if offset > OFFSET_MAX {
        return Err(Problem::field("offset", "range", format!("Use at most {OFFSET_MAX}, or narrow the search.")));
    }
    let price = |name: &str| query.optional_text(name, 20)?.map(|_| query.number::<u32>(name).map(i64::from)).transpose();
    let query = Query {
        text: query.optional_text("q", TEXT_CHARS_MAX)?.unwrap_or_default().to_owned(),
        category: query.optional_text("category", NAME_CHARS_MAX)?.map(str::to_owned),
        brands,
        price_min: price("price-min")?,
        price_max: price("price-max")?,
        sort,
        page: Page { offset, limit: page_size(query.number_or("limit", PAGE_SIZE_DEFAULT)?)? },
    };
    Ok(web::json(&product_search::search(&query, &request.locale)))
}

pub fn suggest(request: &Request) -> Result<Response, Problem> {
    let query = request.query();
    let limit = query.number_or("limit", 8)?;
    if !(1..=SUGGESTIONS_MAX).contains(&limit) {
        return Err(Problem::field("limit", "range", format!("Use 1 to {SUGGESTIONS_MAX}.")));
    }
    Ok(web::json(&product_search::suggest(query.text("q", TEXT_CHARS_MAX)?, &request.locale, limit)))
}
