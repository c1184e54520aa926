//! The catalogue, carts and orders as JSON under `/api/v1`.

mod carts;
mod openapi;
mod orders;
mod search;

use serde::Serialize;
use souk_sdk::commerce::catalog::{self, Sort};
use souk_sdk::commerce::inventory;
use souk_sdk::commerce::types::Page;
use souk_sdk::web::{self, Problem, Request, Response};

const PAGE_SIZE_DEFAULT: u32 = 24;
const PAGE_SIZE_MAX: u32 = 200;
const SKUS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 128;

/// Names in queries, and in the document that tells of them.
const SORTS: [(&str, Sort); 4] =
    [("position", Sort::Position), ("newest", Sort::Newest), ("price", Sort::PriceAscending), ("-price", Sort::PriceDescending)];

struct Api;

impl web::Guest for Api {
    fn handle(request: Request) -> Response {
        web::answer(|| match request.route.as_str() {
            "products" => products(&request),
            "product" => match catalog::get(request.param("handle"), &request.locale) {
                Some(product) => Ok(web::json(&product)),
                None => Err(Problem::new(404, "No such product").detail("No product has this handle. GET /api/v1/products lists them.")),
            },
            "availability" => availability(&request),
            "categories" => Ok(web::json(&catalog::categories(&request.locale))),
            "openapi" => Ok(web::json(&openapi::document()).cached(3_600, ["api"])),
            "search" => search::search(&request),
            "suggest" => search::suggest(&request),
            "countries" => Ok(orders::countries(&request)),
            "address-form" => orders::address_form(&request),
            "create-cart" => carts::create(&request),
            "place-order" => orders::place(&request),
            "order" | "cancel-order" | "pay-order" | "check-payment" => orders::handle(&request),
            _ => carts::handle(&request),
        })
    }
}

souk_sdk::export!(Api: web::handler);

fn products(request: &Request) -> Result<Response, Problem> {
    let query = request.query();
    let sort = match query.optional_text("sort", 16)? {
        None => Sort::Position,
        Some(name) => {
            let known = SORTS.map(|(name, _)| name).join(", ");
            let found = SORTS.iter().find(|(known, _)| *known == name);
            found.ok_or_else(|| Problem::field("sort", "unknown", format!("Use one of {known}.")))?.1
        }
    };
    let (offset, limit) = (query.number_or("offset", 0)?, page_size(query.number_or("limit", PAGE_SIZE_DEFAULT)?)?);
    let category = query.optional_text("category", NAME_CHARS_MAX)?;
    Ok(web::json(&catalog::browse(category, &request.locale, sort, Page { offset, limit })))
}

fn page_size(limit: u32) -> Result<u32, Problem> {
    if (1..=PAGE_SIZE_MAX).contains(&limit) { Ok(limit) } else { Err(Problem::field("limit", "range", format!("Use 1 to {PAGE_SIZE_MAX}."))) }
}

#[derive(Serialize)]
struct Availability<'a> {
    sku: &'a str,
    available: i64,
}

fn availability(request: &Request) -> Result<Response, Problem> {
    let query = request.query();
    let skus: Vec<String> = query.all("sku").map(str::to_owned).collect();
    if skus.is_empty() || skus.len() > SKUS_MAX || skus.iter().any(|sku| sku.is_empty() || sku.chars().count() > NAME_CHARS_MAX) {
        return Err(Problem::field("sku", "range", format!("Give `sku` 1 to {SKUS_MAX} times, each of 1 to {NAME_CHARS_MAX} characters.")));
    }
    let counts = inventory::available(&skus);
    let answer: Vec<_> = skus.iter().zip(counts).map(|(sku, available)| Availability { sku, available }).collect();
    Ok(web::json(&answer))
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
            assert!(document["paths"].get(path).is_some(), "{path}");
        }
    }
}
