//! What search engines are told of: an index, one part for categories and
//! written pages, and as many for products as there are.

use std::fmt::Write as _;

use souk_sdk::commerce::catalog;
use souk_sdk::config;
use souk_sdk::web::{self, Request, Response};

use crate::layout::prefix;
use crate::{content, url};

/// Of one part, as the protocol has it.
const URLS_MAX: usize = 50_000;
const HANDLES_AT_ONCE: u32 = 1_000;
/// Engines ask seldom; a change of the catalogue drops it at once.
const TTL_S: u32 = 3_600;
const FIRST_PART: &str = "pages.xml";

/// So many products fill a part, each in every language.
fn products_in_part(languages: usize) -> usize {
    (URLS_MAX / languages.max(1)).max(1)
}

/// Visits every handle in order.
fn each_handle(mut visit: impl FnMut(&str)) {
    let mut after: Option<String> = None;
    loop {
        let handles = catalog::handles(after.as_deref(), HANDLES_AT_ONCE);
        handles.iter().for_each(|handle| visit(handle));
        match handles.into_iter().last() {
            Some(last) => after = Some(last),
            None => return,
        }
    }
}

fn xml(body: String) -> Response {
    web::response(200, "application/xml", body.into_bytes()).cached(TTL_S, ["catalog", content::TAG])
}

pub fn robots() -> Response {
    let text = format!("User-agent: *\nAllow: /\nSitemap: {}/sitemap.xml\n", config::shop().base_url);
    web::response(200, "text/plain; charset=utf-8", text.into_bytes()).cached(TTL_S, ["catalog"])
}

pub fn index() -> Response {
    let shop = config::shop();
    let mut products = 0;
    each_handle(|_| products += 1);
    let parts = products_parts(products, shop.locales.len());
    let names = std::iter::once(FIRST_PART.to_owned()).chain((1..=parts).map(|part| format!("products-{part}.xml")));
    let mut body = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<sitemapindex xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n");
    for name in names {
        // Writing to text cannot fail.
        let _ = writeln!(body, "<sitemap><loc>{}/sitemap/{name}</loc></sitemap>", escaped(&shop.base_url));
    }
    body.push_str("</sitemapindex>\n");
    xml(body)
}

fn products_parts(products: usize, languages: usize) -> usize {
    products.div_ceil(products_in_part(languages))
}

/// None where there is no such part.
pub fn part(request: &Request) -> Option<Response> {
    let shop = config::shop();
    let prefixes: Vec<String> = shop.locales.iter().map(|locale| format!("{}{}", escaped(&shop.base_url), prefix(locale))).collect();
    let mut urls = Urls { prefixes, body: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n") };
    match request.param("part") {
        FIRST_PART => {
            let locale = shop.locales.first().map_or("en", String::as_str);
            urls.add("");
            urls.add("/products");
            catalog::categories(locale).iter().for_each(|category| urls.add(&format!("/c/{}", url::part(&category.handle))));
            content::links(locale).iter().for_each(|(name, _)| urls.add(&format!("/pages/{name}")));
        }
        name => {
            let number: usize = name.strip_prefix("products-")?.strip_suffix(".xml")?.parse().ok()?;
            let size = products_in_part(urls.prefixes.len());
            let from = number.checked_sub(1)?.checked_mul(size)?;
            let (mut place, mut written) = (0, 0);
            each_handle(|handle| {
                if (from..from + size).contains(&place) {
                    urls.add(&format!("/p/{}", url::part(handle)));
                    written += 1;
                }
                place += 1;
            });
            if written == 0 {
                return None;
            }
        }
    }
    urls.body.push_str("</urlset>\n");
    Some(xml(urls.body))
}

struct Urls {
    prefixes: Vec<String>,
    body: String,
}

impl Urls {
    /// One page in each language. `path` is encoded.
    fn add(&mut self, path: &str) {
        for prefix in &self.prefixes {
            let _ = writeln!(self.body, "<url><loc>{prefix}{path}</loc></url>");
        }
    }
}

/// Encoded paths hold no signs that XML minds; an address from the settings may.
fn escaped(url: &str) -> String {
    url.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_has_more_addresses_than_allowed() {
        for (products, languages, parts) in [(0, 2, 0), (1, 2, 1), (25_000, 2, 1), (25_001, 2, 2), (50_000, 1, 1), (100_001, 2, 5)] {
            assert_eq!(products_parts(products, languages), parts, "{products} in {languages}");
            assert!(products_in_part(languages) * languages <= URLS_MAX);
        }
    }
}
