//! The catalogue, carts and orders as JSON under `/api/v1`.

mod carts;
mod openapi;
mod orders;
mod search;

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::catalog::{self, Sort};
use souk_sdk::commerce::catalog_records;
use souk_sdk::clock;
use souk_sdk::commerce::{inventory, price_schedule};
use souk_sdk::commerce::types::Page;
use souk_sdk::web::{self, Json, Path, Problem, Query, Request, Response, Text};

const PAGE_SIZE_DEFAULT: u32 = 24;
const PAGE_SIZE_MAX: u32 = 200;
const SKUS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 128;
/// As long as the storefront's pages.
const KEPT_S: u32 = 60;

/// Of a category, a brand or a sku.
type Name = Text<NAME_CHARS_MAX>;

/// Names in queries, and in the document that tells of them.
const SORTS: [(&str, Sort); 4] =
    [("position", Sort::Position), ("newest", Sort::Newest), ("price", Sort::PriceAscending), ("-price", Sort::PriceDescending)];

struct Api;

impl web::Guest for Api {
    fn handle(request: Request) -> Response {
        match request.route.as_str() {
            "products" => web::call(products, &request),
            "product" => web::call(product, &request),
            "availability" => web::call(availability, &request),
            "categories" => kept(&catalog::categories(&request.locale), []),
            "openapi" => web::json(&openapi::document()).cached(3_600, ["api"]),
            "search" => web::call(search::search, &request),
            "suggest" => web::call(search::suggest, &request),
            "countries" => web::call(orders::countries, &request),
            "address-form" => web::call(orders::address_form, &request),
            "create-cart" => web::call(carts::create, &request),
            "place-order" => web::call(orders::place, &request),
            "look-up-order" => web::call(orders::look_up, &request),
            "order" | "cancel-order" | "pay-order" | "check-payment" | "reopen-order" => web::call(orders::handle, &request),
            "unknown" => unknown().into(),
            _ => web::call(carts::handle, &request),
        }
    }
}

souk_sdk::export!(Api: web::handler);

/// Programs get a problem they can read, and not a page of the shop.
fn unknown() -> Problem {
    Problem::new(404, "No such address").detail("GET /api/v1/openapi.json lists those that there are.")
}

#[derive(Deserialize)]
struct Listing {
    category: Option<Name>,
    sort: Option<Name>,
    #[serde(default)]
    offset: u32,
    limit: Option<u32>,
}

/// The host keeps it until the catalogue or a price changes, as the storefront's pages.
fn kept(document: &impl Serialize, tags: impl IntoIterator<Item = String>) -> Response {
    let left_ms = price_schedule::next_change().map(|at_ms| at_ms.saturating_sub(clock::now_ms()));
    let ttl_s = left_ms.and_then(|left_ms| u32::try_from(left_ms.div_ceil(1_000)).ok()).map_or(KEPT_S, |left_s| left_s.clamp(1, KEPT_S));
    web::json(document).cached(ttl_s, std::iter::once("catalog".to_owned()).chain(tags))
}

#[derive(Serialize)]
struct Product<'a> {
    #[serde(flatten)]
    product: &'a catalog::Product,
    /// The first instant at which the price of a variant may be another one.
    price_valid_until_ms: Option<u64>,
}

fn products(Query(listing): Query<Listing>, request: &Request) -> Result<Response, Problem> {
    let page = Page { offset: listing.offset, limit: page_size(listing.limit)? };
    let sort = sort_by(listing.sort.as_deref(), &SORTS)?;
    let by_price = matches!(sort, Sort::PriceAscending | Sort::PriceDescending).then(|| "price-order".to_owned());
    let tags = listing.category.as_deref().map(|handle| format!("category:{handle}")).into_iter().chain(by_price);
    Ok(kept(&catalog::browse(listing.category.as_deref(), &request.locale, sort, page), tags))
}

/// What is asked for most: written from where it is, not moved into an answer.
fn product(Path(handle): Path<&str>, request: &Request) -> Result<Response, Problem> {
    match catalog::get(handle, &request.locale) {
        Some(product) => {
            let skus: Vec<String> = product.variants.iter().map(|variant| variant.sku.clone()).collect();
            let price_valid_until_ms = price_schedule::changes(&skus).into_iter().flatten().min();
            Ok(kept(&Product { product: &product, price_valid_until_ms }, [format!("product:{}", product.handle)]))
        }
        None if catalog_records::status_of(handle) == Some(catalog_records::Status::Archived) => {
            Err(Problem::new(410, "No longer sold").detail("The product was taken off. GET /api/v1/products lists those that are sold."))
        }
        None => Err(Problem::new(404, "No such product").detail("No product has this handle. GET /api/v1/products lists them.")),
    }
}

/// What a name in a query stands for; the first of the table if there is none.
fn sort_by<T: Copy>(name: Option<&str>, table: &[(&str, T)]) -> Result<T, Problem> {
    let found = table.iter().find(|(known, _)| name.is_none_or(|name| name == *known));
    let known = || table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(_, sort)| *sort).ok_or_else(|| Problem::field("sort", "unknown", format!("Use one of {}.", known())))
}

fn page_size(limit: Option<u32>) -> Result<u32, Problem> {
    let limit = limit.unwrap_or(PAGE_SIZE_DEFAULT);
    if (1..=PAGE_SIZE_MAX).contains(&limit) { Ok(limit) } else { Err(Problem::field("limit", "range", format!("Use 1 to {PAGE_SIZE_MAX}."))) }
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    sku: Vec<Name>,
}

#[derive(Serialize)]
struct Availability {
    sku: String,
    available: i64,
}

fn availability(Query(asked): Query<Asked>) -> Result<Json<Vec<Availability>>, Problem> {
    if !(1..=SKUS_MAX).contains(&asked.sku.len()) {
        return Err(Problem::field("sku", "range", format!("Give `sku` 1 to {SKUS_MAX} times, each of 1 to {NAME_CHARS_MAX} characters.")));
    }
    let skus: Vec<String> = asked.sku.into_iter().map(String::from).collect();
    let counts = inventory::available(&skus);
    Ok(Json(skus.into_iter().zip(counts).map(|(sku, available)| Availability { sku, available }).collect()))
}

#[cfg(test)]
mod tests {
    use souk_sdk::testing;

    use super::*;

    fn problem(query: &str, route: &str) -> (u16, String) {
        let request = Request { query: query.into(), ..testing::get(route, "/") };
        let answer = <Api as web::Guest>::handle(request);
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    #[test]
    fn bad_queries_name_the_field() {
        for (route, query, field) in [
            ("products", "sort=cheap", "sort"),
            ("products", "limit=0", "limit"),
            ("products", "limit=201", "limit"),
            ("products", "offset=-1", "offset"),
            ("availability", "", "sku"),
            ("search", "sort=cheap", "sort"),
            ("search", "price-min=-1", "price-min"),
            ("search", "offset=10001", "offset"),
            ("suggest", "", "q"),
            ("suggest", "q=a&limit=21", "limit"),
        ] {
            let (status, body) = problem(query, route);
            assert!((400..500).contains(&status) && body.contains(field), "{query}: {status} {body}");
        }
    }

    #[test]
    fn the_document_tells_of_every_route() {
        let document = openapi::document();
        let manifest = include_str!("../plugin.toml");
        for path in manifest.lines().filter_map(|line| line.strip_prefix("path = ")).map(|p| p.trim_matches('"')) {
            if path == "/api/{*rest}" {
                continue;
            }
            assert!(document["paths"].get(path).is_some(), "{path}");
        }
    }
}
