//! The pages that shoppers see. Those of the catalogue are the same for everyone
//! and are kept by the host until it changes; those of a cart and an order are
//! made for their shopper alone.

mod basket;
mod checkout;
mod layout;
mod order;
mod pages;
mod search;
mod summary;
mod texts;

use layout::Site;
use maud::Markup;
use pages::{ProductsPage, SORTS};
use souk_sdk::commerce::types::Page;
use souk_sdk::commerce::{catalog, inventory};
use souk_sdk::config;
use souk_sdk::web::{self, Problem, Request, Response};

const PAGE_SIZE: u32 = 24;
const NEWEST: u32 = 8;
/// Stock moves without the catalogue: shown at most so much too late.
const PAGE_TTL_S: u32 = 60;
const SITEMAP_URLS_MAX: usize = 50_000;

struct Storefront;

impl web::Guest for Storefront {
    fn handle(request: Request) -> Response {
        web::answer(|| match request.route.as_str() {
            "home" => Ok(home(&request)),
            "products" => products(&request, None),
            "category" => products(&request, Some(request.param("handle"))),
            "product" => Ok(product(&request)),
            "search" => Ok(search::page(&request)),
            "suggest" => search::suggest(&request),
            "cart" => Ok(basket::page(&request)),
            "cart-count" => Ok(basket::count()),
            "cart-add" => basket::add(&request),
            "cart-quantity" | "cart-code" | "cart-code-remove" => basket::change(&request),
            "checkout" => checkout::details(&request),
            "checkout-shipping" => checkout::shipping(&request),
            "checkout-payment" => checkout::payment(&request),
            "checkout-place" => checkout::place(&request),
            "order" => Ok(order::page(&request)),
            "order-retry" => order::retry(&request),
            "order-check" => Ok(order::check(&request)),
            "order-cancel" => Ok(order::cancel(&request)),
            "robots" => Ok(robots()),
            "sitemap" => Ok(sitemap()),
            _ => Ok(not_found(&request)),
        })
    }
}

souk_sdk::export!(Storefront: web::handler);

fn page(markup: Markup, tags: impl IntoIterator<Item = String>) -> Response {
    web::html(markup.into_string()).cached(PAGE_TTL_S, std::iter::once("catalog".to_owned()).chain(tags))
}

fn home(request: &Request) -> Response {
    let site = Site::of(request);
    let categories = catalog::categories(site.locale);
    let newest = catalog::browse(None, site.locale, catalog::Sort::Newest, Page { offset: 0, limit: NEWEST });
    page(pages::home(&site, &categories, &newest.products), [])
}

fn products(request: &Request, category: Option<&str>) -> Result<Response, Problem> {
    let site = Site::of(request);
    let categories = catalog::categories(site.locale);
    let chosen = match category {
        Some(handle) => match categories.iter().find(|c| c.handle == handle) {
            Some(category) => Some(category),
            None => return Ok(not_found(request)),
        },
        None => None,
    };
    let query = request.query();
    let sort = query.get("sort").and_then(|name| SORTS.iter().find(|(known, _)| *known == name)).map_or(catalog::Sort::Position, |(_, sort)| *sort);
    let number = query.number_or::<u32>("page", 1)?.clamp(1, 10_000);
    let listing = catalog::browse(category, site.locale, sort, Page { offset: (number - 1) * PAGE_SIZE, limit: PAGE_SIZE });
    let shown = ProductsPage { category: chosen, categories: &categories, listing: &listing, sort, page: number, page_size: PAGE_SIZE };
    Ok(page(pages::products(&site, &shown), category.map(|handle| format!("category:{handle}"))))
}

fn product(request: &Request) -> Response {
    let site = Site::of(request);
    let Some(product) = catalog::get(request.param("handle"), site.locale) else { return not_found(request) };
    let skus: Vec<String> = product.variants.iter().map(|v| v.sku.clone()).collect();
    let available = inventory::available(&skus);
    let query = request.query();
    let asked = query.get("sku").and_then(|sku| product.variants.iter().find(|v| v.sku == sku));
    let in_stock = || product.variants.iter().zip(&available).find(|(_, n)| **n > 0).map(|(v, _)| v);
    let Some(chosen) = asked.or_else(in_stock).or(product.variants.first()) else { return not_found(request) };
    let categories = catalog::categories(site.locale);
    page(pages::product(&site, &product, &categories, chosen, &available), [format!("product:{}", product.handle)])
}

fn not_found(request: &Request) -> Response {
    web::html(pages::not_found(&Site::of(request)).into_string()).with_status(404)
}

fn robots() -> Response {
    let text = format!("User-agent: *\nAllow: /\nSitemap: {}/sitemap.xml\n", config::shop().base_url);
    web::response(200, "text/plain; charset=utf-8", text.into_bytes()).cached(3_600, ["catalog"])
}

fn sitemap() -> Response {
    let shop = config::shop();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n");
    let prefixes: Vec<String> = shop.locales.iter().map(|l| l.split('-').next().unwrap_or(l).to_ascii_lowercase()).collect();
    let (mut after, mut urls) = (None, 0);
    loop {
        let handles = catalog::handles(after.as_deref(), 500);
        for handle in &handles {
            for prefix in &prefixes {
                // Handles are made of letters, digits and hyphens.
                xml.push_str(&format!("<url><loc>{}/{prefix}/p/{handle}</loc></url>\n", shop.base_url));
                urls += 1;
            }
        }
        after = handles.last().cloned();
        if after.is_none() || urls + 500 * prefixes.len() > SITEMAP_URLS_MAX {
            break;
        }
    }
    xml.push_str("</urlset>\n");
    web::response(200, "application/xml", xml.into_bytes()).cached(3_600, ["catalog"])
}

#[cfg(test)]
mod tests {
    use souk_sdk::Money;
    use souk_sdk::commerce::catalog::{Attribute, OptionValue, Product, ProductOption, Variant};
    use souk_sdk::testing;

    use super::*;

    fn cny(amount: i64) -> Money {
        Money::new(amount, "CNY")
    }

    fn variant(sku: &str, option: &str, price: i64) -> Variant {
        Variant { sku: sku.into(), options: vec![option.into()], title: option.into(), price: cny(price), compare_at: None, weight_g: 1, barcode: None }
    }

    fn tea() -> Product {
        Product {
            handle: "tea".into(),
            title: "Tea </script><b>".into(),
            subtitle: "Fresh".into(),
            description: "One.\n\nTwo.".into(),
            brand: "B".into(),
            category: "none".into(),
            tags: vec![],
            attributes: vec![Attribute { name: "Origin".into(), value: "Hangzhou".into() }],
            options: vec![ProductOption {
                name: "Weight".into(),
                values: vec![OptionValue { id: "50".into(), name: "50 g".into() }, OptionValue { id: "100".into(), name: "100 g".into() }],
            }],
            variants: vec![variant("T-50", "50", 6_800), variant("T-100", "100", 12_800)],
            images: vec![],
            tax_class: String::new(),
            created_ms: 0,
            revision: 1,
        }
    }

    fn request(locale: &str, prefix: &str) -> Request {
        Request { locale: locale.into(), locale_prefix: prefix.into(), ..testing::get("product", "/p/tea") }
    }

    #[test]
    fn what_the_catalogue_says_cannot_break_out_of_the_page() {
        let request = request("en", "/en");
        let tea = tea();
        let page = pages::product(&Site::of(&request), &tea, &[], &tea.variants[0], &[3, 0]).into_string();
        assert!(!page.contains("</script><b>"), "{page}");
        assert!(page.contains("Tea &lt;/script&gt;&lt;b&gt;"));
        assert!(page.contains("\\u003c/script>"));
    }

    #[test]
    fn markup_for_machines_says_what_people_see() {
        let request = request("en", "/en");
        let tea = tea();
        let page = pages::product(&Site::of(&request), &tea, &[], &tea.variants[0], &[3, 0]).into_string();
        assert!(page.contains("Only 3 left") && page.contains("\"price\":\"68.00\""), "{page}");
        assert!(page.contains("schema.org/InStock") && page.contains("schema.org/OutOfStock"));
        assert!(page.contains("href=\"/en/p/tea?sku=T-100\""));
    }

    #[test]
    fn a_page_speaks_one_language() {
        let request = request("zh-CN", "/zh");
        let tea = tea();
        let page = pages::product(&Site::of(&request), &tea, &[], &tea.variants[1], &[3, 0]).into_string();
        assert!(page.contains("lang=\"zh-CN\"") && page.contains("已售罄") && page.contains("商品参数"), "{page}");
        assert!(!page.contains("Sold out"));
    }
}
