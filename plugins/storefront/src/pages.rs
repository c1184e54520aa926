//! The pages: each takes what the catalogue says and gives markup.

use maud::{Markup, PreEscaped, html};
use serde_json::json;
use souk_sdk::commerce::catalog::{Category, Listing, Product, ProductSummary, Sort, Variant};

use crate::layout::{Site, picture};

/// Below this, a page tells how many are left.
const FEW: i64 = 10;

pub fn home(site: &Site, categories: &[Category], newest: &[ProductSummary]) -> Markup {
    let t = site.texts;
    let top: Vec<&Category> = categories.iter().filter(|c| c.parent.is_none()).collect();
    site.page(
        t.tagline,
        t.intro,
        html! {
            section.hero { div.wide {
                h1 { (t.tagline) }
                p { (t.intro) }
                a.button href=(site.link("/products")) { (t.browse) }
            } }
            section.wide { h2 { (t.categories) } (site.category_tiles(&top)) }
            section.wide { h2 { (t.newest) } (site.grid(newest)) }
        },
    )
}

/// A page of products: of one category, or of the whole shop.
pub struct ProductsPage<'a> {
    pub category: Option<&'a Category>,
    pub categories: &'a [Category],
    pub listing: &'a Listing,
    pub sort: Sort,
    /// From 1.
    pub page: u32,
    pub page_size: u32,
}

pub const SORTS: [(&str, Sort); 4] =
    [("position", Sort::Position), ("newest", Sort::Newest), ("price-up", Sort::PriceAscending), ("price-down", Sort::PriceDescending)];

pub fn products(site: &Site, shown: &ProductsPage) -> Markup {
    let t = site.texts;
    let title = shown.category.map_or(t.all_products, |c| &c.name);
    let summary = shown.category.map_or(t.intro, |c| &c.description);
    let below: Vec<&Category> = match shown.category {
        Some(category) => shown.categories.iter().filter(|c| c.parent.as_ref() == Some(&category.handle)).collect(),
        None => shown.categories.iter().filter(|c| c.parent.is_none()).collect(),
    };
    let pages = shown.listing.total.div_ceil(shown.page_size).max(1);
    let sort_name = SORTS.iter().find(|(_, sort)| *sort == shown.sort).map_or("position", |(name, _)| name);
    let to_page = |page: u32| format!("{}?sort={sort_name}&page={page}", site.link(site.path));
    let trail = trail(site, shown.categories, shown.category, title);
    let labels = [t.sort_position, t.sort_newest, t.sort_price_up, t.sort_price_down];
    site.page(
        title,
        summary,
        html! {
            div.wide {
                (site.breadcrumb(&trail))
                h1 { (title) }
                @if let Some(category) = shown.category { p.lead { (category.description) } }
                @if !below.is_empty() { (site.category_tiles(&below)) }
                div.bar {
                    p { (t.product_count(shown.listing.total)) }
                    form method="get" {
                        label for="sort" { (t.sort) }
                        select #sort name="sort" {
                            @for ((name, sort), label) in SORTS.iter().zip(labels) {
                                option value=(name) selected[*sort == shown.sort] { (label) }
                            }
                        }
                        button { (t.apply) }
                    }
                }
                (site.grid(&shown.listing.products))
                @if pages > 1 {
                    nav.pages aria-label=(t.pages) {
                        @if shown.page > 1 { a rel="prev" href=(to_page(shown.page - 1)) { (t.previous) } }
                        span { (t.page_of(shown.page, pages)) }
                        @if shown.page < pages { a rel="next" href=(to_page(shown.page + 1)) { (t.next) } }
                    }
                }
            }
        },
    )
}

fn trail(site: &Site, categories: &[Category], category: Option<&Category>, title: &str) -> Vec<(String, Option<String>)> {
    let mut trail = Vec::new();
    let mut parent = category.and_then(|c| c.parent.as_ref());
    // A tree has no more levels than categories, whatever the data says.
    for _ in 0..categories.len() {
        let Some(above) = parent.and_then(|handle| categories.iter().find(|c| c.handle == *handle)) else { break };
        trail.insert(0, (above.name.clone(), Some(site.link(&format!("/c/{}", above.handle)))));
        parent = above.parent.as_ref();
    }
    trail.push((title.to_owned(), None));
    trail
}

/// `chosen` is the variant that the page shows the price of; `available` are
/// in the order of the variants.
pub fn product(site: &Site, product: &Product, categories: &[Category], chosen: &Variant, available: &[i64]) -> Markup {
    let t = site.texts;
    let category = categories.iter().find(|c| c.handle == product.category);
    let mut way = category.map_or_else(Vec::new, |c| trail(site, categories, Some(c), &c.name));
    if let (Some(last), Some(category)) = (way.last_mut(), category) {
        last.1 = Some(site.link(&format!("/c/{}", category.handle)));
    }
    way.push((product.title.clone(), None));
    let stock = product.variants.iter().position(|v| v.sku == chosen.sku).and_then(|i| available.get(i)).copied().unwrap_or(0);
    site.page(
        &product.title,
        &product.subtitle,
        html! {
            div.wide {
                (site.breadcrumb(&way))
                article.product {
                    div.shot { (picture(product.images.first(), false)) }
                    div.facts {
                        p.maker { (product.brand) }
                        h1 { (product.title) }
                        p.lead { (product.subtitle) }
                        p.price.big {
                            span.hidden { (t.price) " " } (chosen.price.format(site.locale))
                            @if let Some(former) = &chosen.compare_at {
                                " " span.hidden { (t.former_price) " " } s { (former.format(site.locale)) }
                            }
                        }
                        @for (index, option) in product.options.iter().enumerate() {
                            fieldset {
                                legend { (option.name) }
                                ul.choices {
                                    @for value in &option.values {
                                        @let this = chosen.options.get(index) == Some(&value.id);
                                        li {
                                            @match variant_with(product, chosen, index, &value.id) {
                                                Some(variant) => a href=(format!("{}?sku={}", site.link(site.path), variant.sku)) aria-current=[this.then_some("true")] { (value.name) },
                                                None => span { (value.name) },
                                            }
                                        }
                                    }
                                }
                            }
                        }
                        p.stock.gone[stock <= 0] {
                            @if stock <= 0 { (t.sold_out) } @else if stock < FEW { (t.only_left(stock)) } @else { (t.in_stock) }
                        }
                        @if stock > 0 {
                            form.buy method="post" action=(site.link("/cart/lines")) {
                                input type="hidden" name="sku" value=(chosen.sku);
                                label for="quantity" { (site.say("Quantity", "数量")) }
                                input.number #quantity type="number" name="quantity" min="1" max=(stock.min(999)) value="1" required;
                                button { (site.say("Add to cart", "加入购物车")) }
                            }
                        }
                        h2 { (t.description) }
                        @for paragraph in product.description.split("\n\n").filter(|p| !p.trim().is_empty()) { p { (paragraph) } }
                        h2 { (t.details) }
                        dl.details {
                            @for attribute in &product.attributes { div { dt { (attribute.name) } dd { (attribute.value) } } }
                            div { dt { "SKU" } dd { (chosen.sku) } }
                        }
                    }
                }
                (structured_data(site, product, available))
            }
        },
    )
}

/// The variant that has this value and otherwise what is chosen now.
fn variant_with<'p>(product: &'p Product, chosen: &Variant, index: usize, value: &str) -> Option<&'p Variant> {
    let fits = |variant: &&Variant| variant.options.iter().enumerate().all(|(i, v)| if i == index { v == value } else { chosen.options.get(i) == Some(v) });
    product.variants.iter().find(fits)
}

/// schema.org: prices and availability are those that the page shows.
fn structured_data(site: &Site, product: &Product, available: &[i64]) -> Markup {
    let offer = |(index, variant): (usize, &Variant)| {
        let state = if available.get(index).is_some_and(|n| *n > 0) { "InStock" } else { "OutOfStock" };
        json!({
            "@type": "Offer",
            "sku": variant.sku,
            "price": variant.price.to_decimal(),
            "priceCurrency": variant.price.currency,
            "availability": format!("https://schema.org/{state}"),
        })
    };
    let data = json!({
        "@context": "https://schema.org",
        "@type": "Product",
        "name": product.title,
        "description": product.description,
        "brand": { "@type": "Brand", "name": product.brand },
        "image": product.images.iter().map(|image| format!("{}{}", site.base_url, image.url)).collect::<Vec<_>>(),
        "offers": product.variants.iter().enumerate().map(offer).collect::<Vec<_>>(),
    });
    // Nothing in the data may end the element.
    let text = data.to_string().replace('<', "\\u003c");
    html! { script type="application/ld+json" { (PreEscaped(text)) } }
}

pub fn not_found(site: &Site) -> Markup {
    let t = site.texts;
    site.page(
        t.not_found,
        t.not_found_hint,
        html! {
            div.wide.lost {
                h1 { (t.not_found) }
                p { (t.not_found_hint) }
                p { a.button href=(site.link("/products")) { (t.all_products) } }
            }
        },
    )
}
