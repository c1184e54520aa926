//! The pages that shoppers see. Those of the catalogue are the same for everyone
//! and are kept by the host until it changes; those of a cart and an order are
//! made for their shopper alone.

mod basket;
mod checkout;
mod content;
mod differences;
mod layout;
mod mine;
mod order;
mod pages;
mod search;
mod sitemap;
mod summary;
mod texts;
mod url;

use layout::Site;
use maud::Markup;
use pages::{Offered, ProductsPage, SORTS};
use souk_sdk::commerce::types::Page;
use souk_sdk::clock;
use souk_sdk::commerce::{catalog, catalog_records, inventory, price_schedule};
use souk_sdk::host::command_handler;
use souk_sdk::web::{self, Fields, Problem, Request, Response};

const PAGE_SIZE: u32 = 24;
/// Full rows of two, three and four.
const NEWEST: u32 = 12;
/// What is on a page drops it when it changes, so this is a bound and no delay.
const PAGE_TTL_S: u32 = 60;
/// Kept pages have so many tags at most; a product of more variants is kept for
/// a second, which is as old as stock may look.
const STOCK_TAGS_MAX: usize = 56;
const MANY_VARIANTS_TTL_S: u32 = 1;

struct Storefront;

impl web::Guest for Storefront {
    fn handle(request: Request) -> Response {
        let answered = match request.route.as_str() {
            "home" => Ok(home(&request)),
            "products" => Ok(products(&request, None)),
            "category" => Ok(products(&request, Some(request.param("handle")))),
            "product" => Ok(product(&request)),
            "written" => Ok(written(&request)),
            "search" => Ok(search::page(&request)),
            // Asked for by scripts, not by people.
            "suggest" => return web::answer(|| search::suggest(&request)),
            "cart" => Ok(basket::page(&request)),
            "cart-count" => Ok(basket::count()),
            "cart-badge" => Ok(basket::badge()),
            "cart-add" => basket::add(&request),
            "cart-quantity" | "cart-code" | "cart-code-remove" => basket::change(&request),
            "checkout" => checkout::details(&request),
            "checkout-shipping" => checkout::shipping(&request),
            "checkout-payment" => checkout::payment(&request),
            "checkout-place" => checkout::place(&request),
            "orders" => Ok(mine::page(&request)),
            "order-find" => mine::find(&request),
            "order" => Ok(order::page(&request)),
            "order-retry" => order::retry(&request),
            "order-check" => Ok(order::check(&request)),
            "order-cancel" => Ok(order::cancel(&request)),
            "order-change" => Ok(mine::change(&request)),
            "robots" => Ok(sitemap::robots()),
            "sitemap" => Ok(sitemap::index()),
            "sitemap-part" => Ok(sitemap::part(&request).unwrap_or_else(|| not_found(&request))),
            _ => Ok(not_found(&request)),
        };
        answered.unwrap_or_else(|problem| for_people(&request, problem))
    }
}

impl command_handler::Guest for Storefront {
    fn run(name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        let dry_run = arguments.iter().any(|(name, value)| name == "dry-run" && value != "false");
        match name.as_str() {
            "import-pages" => content::import(&input, dry_run),
            "export-pages" => Ok(content::export().into_bytes()),
            other => Err(format!("storefront has no command `{other}`")),
        }
    }
}

souk_sdk::export!(Storefront: web::handler, host::command_handler);

/// A problem as a page: these addresses are opened by people.
fn for_people(request: &Request, problem: Problem) -> Response {
    let page = basket::personal(pages::problem(&Site::of(request), &problem)).with_status(problem.status);
    match problem.retry_after {
        Some(seconds) => page.with_header("retry-after", seconds.to_string()),
        None => page,
    }
}

fn page(markup: Markup, tags: impl IntoIterator<Item = String>) -> Response {
    let always = ["catalog".to_owned(), content::TAG.to_owned()];
    web::html(markup.into_string()).cached(ttl_s(), always.into_iter().chain(tags))
}

/// `pricing` drops pages when a sale begins or ends; should that come late, they are
/// not kept for more than the second in which it does.
fn ttl_s() -> u32 {
    let left_ms = price_schedule::next_change().map(|at_ms| at_ms.saturating_sub(clock::now_ms()));
    left_ms.and_then(|left_ms| u32::try_from(left_ms.div_ceil(1_000)).ok()).map_or(PAGE_TTL_S, |left_s| left_s.clamp(1, PAGE_TTL_S))
}

fn home(request: &Request) -> Response {
    let site = Site::of(request);
    let categories = catalog::categories(site.locale);
    let newest = catalog::browse(None, site.locale, catalog::Sort::Newest, Page { offset: 0, limit: NEWEST });
    page(pages::home(&site, &categories, &newest.products), [])
}

/// From 1; none where the address asks for something else than a page.
fn page_number(query: &Fields) -> Option<u32> {
    query.get("page").map_or(Some(1), |text| text.parse().ok().filter(|number| *number > 0))
}

fn products(request: &Request, category: Option<&str>) -> Response {
    let mut site = Site::of(request);
    let categories = catalog::categories(site.locale);
    let chosen = category.map(|handle| categories.iter().find(|c| c.handle == handle));
    if chosen == Some(None) {
        return not_found(request);
    }
    let query = request.query();
    let sort = query.get("sort").and_then(|name| SORTS.iter().find(|(known, _)| *known == name)).map_or(catalog::Sort::Position, |(_, sort)| *sort);
    let Some((number, offset)) = page_number(&query).and_then(|number| Some((number, (number - 1).checked_mul(PAGE_SIZE)?))) else {
        return not_found(request);
    };
    let listing = catalog::browse(category, site.locale, sort, Page { offset, limit: PAGE_SIZE });
    let pages = listing.total.div_ceil(PAGE_SIZE).max(1);
    if number > pages {
        return not_found(request);
    }
    if number > 1 {
        site.page_query = format!("?page={number}");
    }
    let shown = ProductsPage { category: chosen.flatten(), categories: &categories, listing: &listing, sort, page: number, pages };
    let by_price = matches!(sort, catalog::Sort::PriceAscending | catalog::Sort::PriceDescending).then(|| "price-order".to_owned());
    page(pages::products(&site, &shown), category.map(|handle| format!("category:{handle}")).into_iter().chain(by_price))
}

fn product(request: &Request) -> Response {
    let site = Site::of(request);
    let handle = request.param("handle");
    let Some(product) = catalog::get(handle, site.locale) else {
        return if catalog_records::status_of(handle) == Some(catalog_records::Status::Archived) { gone(request) } else { not_found(request) };
    };
    let skus: Vec<String> = product.variants.iter().map(|v| v.sku.clone()).collect();
    let available = inventory::available(&skus);
    let query = request.query();
    let asked = query.get("sku").and_then(|sku| product.variants.iter().find(|v| v.sku == sku));
    let in_stock = || product.variants.iter().zip(&available).find(|(_, n)| **n > 0).map(|(v, _)| v);
    let Some(chosen) = asked.or_else(in_stock).or(product.variants.first()) else { return not_found(request) };
    let categories = catalog::categories(site.locale);
    let changes = price_schedule::changes(&skus);
    let markup = pages::product(&site, &product, &categories, chosen, &Offered { available: &available, changes: &changes });
    let mut tags = vec![format!("product:{}", product.handle)];
    if skus.len() > STOCK_TAGS_MAX {
        let page = page(markup, tags);
        return Response { cache: page.cache.map(|policy| web::CachePolicy { ttl_s: MANY_VARIANTS_TTL_S, ..policy }), ..page };
    }
    tags.extend(skus.iter().map(|sku| format!("stock:{sku}")));
    let response = page(markup, tags);
    match catalog_records::status_of(handle) {
        Some(catalog_records::Status::Unlisted) => response.with_header("x-robots-tag", "noindex"),
        _ => response,
    }
}

fn written(request: &Request) -> Response {
    let site = Site::of(request);
    match content::page(&site, request.param("name")) {
        Some(markup) => page(markup, []),
        None => not_found(request),
    }
}

fn not_found(request: &Request) -> Response {
    web::html(pages::not_found(&Site::of(request)).into_string()).with_status(404)
}

/// It was sold once: search engines forget it at once, people are told.
fn gone(request: &Request) -> Response {
    web::html(pages::gone(&Site::of(request)).into_string()).with_status(410)
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

    fn offered(available: &[i64]) -> Offered<'_> {
        Offered { available, changes: &[Some(1_767_225_600_000), None] }
    }

    fn request(locale: &str, prefix: &str) -> Request {
        Request { locale: locale.into(), locale_prefix: prefix.into(), ..testing::get("product", "/p/tea") }
    }

    #[test]
    fn what_the_catalogue_says_cannot_break_out_of_the_page() {
        let request = request("en", "/en");
        let tea = tea();
        let page = pages::product(&Site::of(&request), &tea, &[], &tea.variants[0], &offered(&[3, 0])).into_string();
        assert!(!page.contains("</script><b>"), "{page}");
        assert!(page.contains("Tea &lt;/script&gt;&lt;b&gt;"));
        assert!(page.contains("\\u003c/script>"));
    }

    #[test]
    fn markup_for_machines_says_what_people_see() {
        let request = request("en", "/en");
        let tea = tea();
        let page = pages::product(&Site::of(&request), &tea, &[], &tea.variants[0], &offered(&[3, 0])).into_string();
        assert!(page.contains("Only 3 left") && page.contains("\"price\":\"68.00\""), "{page}");
        assert!(page.contains("schema.org/InStock") && page.contains("schema.org/OutOfStock"));
        assert!(page.contains("href=\"/en/p/tea?sku=T-100\""));
    }

    #[test]
    fn a_sale_is_said_in_words_and_to_machines() {
        let mut tea = tea();
        (tea.variants[0].price, tea.variants[0].compare_at) = (cny(3_400), Some(cny(6_800)));
        for (locale, prefix, now, was) in [("en", "/en", "Now ", "Was "), ("zh-CN", "/zh", "现价 ", "原价 ")] {
            let request = request(locale, prefix);
            let page = pages::product(&Site::of(&request), &tea, &[], &tea.variants[0], &offered(&[3, 0])).into_string();
            for part in [now, was, "<s>", "\"price\":\"34.00\"", "StrikethroughPrice", "\"priceValidUntil\":\"2026-01-01T00:00:00Z\"", "\"price\":\"128.00\""] {
                assert!(page.contains(part), "{part}: {page}");
            }
            assert_eq!(page.matches("priceValidUntil").count(), 1);
        }
    }

    #[test]
    fn what_enters_an_address_is_encoded_once() {
        let request = Request { path: "/p/龙井".into(), ..request("en", "/en") };
        let mut tea = tea();
        tea.handle = "龙井".into();
        tea.variants[1].sku = "T+&#%100".into();
        tea.images = vec![image("/media/a.webp"), image("https://cdn.example/b.jpg")];
        let page = pages::product(&Site::of(&request), &tea, &[], &tea.variants[0], &offered(&[3, 5])).into_string();
        assert!(page.contains("href=\"/en/p/%E9%BE%99%E4%BA%95?sku=T%2B%26%23%25100\""), "{page}");
        assert!(page.contains("rel=\"canonical\" href=\"https://shop.example/en/p/%E9%BE%99%E4%BA%95\""), "{page}");
        assert!(page.contains("\"image\":[\"https://shop.example/media/a.webp\",\"https://cdn.example/b.jpg\"]"), "{page}");
        assert_eq!(page.matches("id=\"picture-").count(), 2, "every picture is shown");
    }

    fn image(url: &str) -> catalog::Image {
        catalog::Image { url: url.into(), alt: String::new(), width: 640, height: 640 }
    }

    #[test]
    fn no_element_has_an_attribute_twice() {
        let request = request("en", "/en");
        let category = |handle: &str| catalog::Category { handle: handle.into(), name: "Tea".into(), description: String::new(), parent: None, image: None, product_count: 1 };
        let page = pages::home(&Site::of(&request), &[category("a"), category("b")], &[]).into_string();
        assert!(page.contains("<ul class=\"tiles wide-4 narrow-2\">"), "{page}");
        for element in page.split('<').map(|rest| rest.split('>').next().unwrap_or_default()) {
            assert!(element.matches(" class=").count() < 2, "{element}");
        }
    }

    #[test]
    fn a_page_speaks_one_language() {
        let request = request("zh-CN", "/zh");
        let tea = tea();
        let page = pages::product(&Site::of(&request), &tea, &[], &tea.variants[1], &offered(&[3, 0])).into_string();
        assert!(page.contains("lang=\"zh-CN\"") && page.contains("已售罄") && page.contains("商品参数"), "{page}");
        assert!(!page.contains("Sold out"));
    }
}
