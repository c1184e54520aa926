//! The pages: each takes what the catalogue says and gives markup.

use maud::{Markup, PreEscaped, html};
use serde_json::json;
use souk_sdk::commerce::catalog::{Category, Listing, Product, ProductSummary, Sort, Variant};
use souk_sdk::web::Problem;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::layout::{Site, Under};
use crate::url;

/// Below this, a page tells how many are left. `inventory` drops kept pages when
/// a count moves there (`wit/commerce/selling.wit`), so no other count is shown.
pub const FEW: i64 = 10;
/// What a cart holds of one thing at most.
const QUANTITY_MAX: i64 = 999;

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
            section.wide { h2 { (t.newest) } (site.grid(newest, Under::Part)) }
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
    pub pages: u32,
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
    let pages = shown.pages;
    let sort_name = SORTS.iter().find(|(_, sort)| *sort == shown.sort).map_or("position", |(name, _)| name);
    let to_page = |page: u32| format!("{}?sort={sort_name}&page={page}", site.link(&site.path));
    let trail = trail(site, shown.categories, shown.category, title);
    let labels = [t.sort_position, t.sort_newest, t.sort_price_up, t.sort_price_down];
    site.page(
        &if shown.page > 1 { format!("{title} · {}", t.page_of(shown.page, pages)) } else { title.to_owned() },
        summary,
        html! {
            div.wide {
                (site.breadcrumb(&trail))
                h1 { (title) }
                @if let Some(category) = shown.category { p.lead.written { (category.description) } }
                // Further on, whoever pages through has seen them.
                @if !below.is_empty() && shown.page == 1 { (site.category_tiles(&below)) }
                div.bar {
                    p { (t.product_count(shown.listing.total)) }
                    form method="get" {
                        label for="sort" { (t.sort) }
                        select #sort name="sort" {
                            @for ((name, sort), label) in SORTS.iter().zip(labels) {
                                option value=(name) selected[*sort == shown.sort] { (label) }
                            }
                        }
                        button.plain { (t.apply) }
                    }
                }
                (site.grid(&shown.listing.products, Under::Page))
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
        trail.insert(0, (above.name.clone(), Some(site.category(&above.handle))));
        parent = above.parent.as_ref();
    }
    trail.push((title.to_owned(), None));
    trail
}

/// What a page says of each variant, in the order of the product's.
pub struct Offered<'a> {
    pub available: &'a [i64],
    /// When its price may next be another one, UTC milliseconds.
    pub changes: &'a [Option<u64>],
}

/// `chosen` is the variant that the page shows the price of.
pub fn product(site: &Site, product: &Product, categories: &[Category], chosen: &Variant, offered: &Offered) -> Markup {
    let t = site.texts;
    let category = categories.iter().find(|c| c.handle == product.category);
    let mut way = category.map_or_else(Vec::new, |c| trail(site, categories, Some(c), &c.name));
    if let (Some(last), Some(category)) = (way.last_mut(), category) {
        last.1 = Some(site.category(&category.handle));
    }
    way.push((product.title.clone(), None));
    let stock = product.variants.iter().position(|v| v.sku == chosen.sku).and_then(|i| offered.available.get(i)).copied().unwrap_or(0);
    site.page(
        &product.title,
        &product.subtitle,
        html! {
            div.wide {
                (site.breadcrumb(&way))
                article.product {
                    (gallery(site, product))
                    div.facts {
                        @if !product.brand.is_empty() { p.maker { (product.brand) } }
                        h1 { (product.title) }
                        @if !product.subtitle.is_empty() { p.lead { (product.subtitle) } }
                        p.price.big {
                            span.hidden { (if chosen.compare_at.is_some() { t.now_price } else { t.price }) " " } (site.amount(&chosen.price))
                            @if let Some(former) = &chosen.compare_at {
                                " " span.hidden { (t.former_price) " " } s { (former.format(site.locale)) }
                            }
                        }
                        @for (index, option) in product.options.iter().enumerate() { (choice(site, product, chosen, index, &option.name)) }
                        p.stock.gone[stock <= 0].few[stock > 0 && stock < FEW] {
                            @if stock <= 0 { (t.sold_out) } @else if stock < FEW { (t.only_left(stock)) } @else { (t.in_stock) }
                        }
                        @if stock > 0 {
                            form.buy method="post" action=(site.link("/cart/lines")) {
                                input type="hidden" name="sku" value=(chosen.sku);
                                label for="quantity" { (site.say("Quantity", "数量")) }
                                input.number #quantity type="number" name="quantity" min="1" max=(if stock < FEW { stock } else { QUANTITY_MAX }) value="1" required;
                                button { (site.say("Add to cart", "加入购物车")) }
                            }
                        }
                        @if !product.description.trim().is_empty() {
                            h2 { (t.description) }
                            @for paragraph in product.description.split("\n\n").filter(|p| !p.trim().is_empty()) { p.written { (paragraph.trim()) } }
                        }
                        h2 { (t.details) }
                        dl.details {
                            @for attribute in &product.attributes { div { dt { (attribute.name) } dd { (attribute.value) } } }
                            div { dt { (site.say("Item number", "商品编号")) } dd { (chosen.sku) } }
                        }
                    }
                }
                (structured_data(site, product, offered))
            }
        },
    )
}

/// All pictures, side by side under the finger; below them small ones that lead
/// to each. Neither needs a script.
fn gallery(site: &Site, product: &Product) -> Markup {
    let several = product.images.len() > 1;
    let label = site.say("Pictures of the product", "商品图片");
    html! {
        div.shot {
            @if product.images.is_empty() {
                span.blank.large aria-hidden="true" { (product.title.trim().chars().next().unwrap_or('·')) }
            } @else {
                // What scrolls can be reached by the keyboard.
                div.gallery role=[several.then_some("region")] aria-label=[several.then_some(label)] tabindex=[several.then_some("0")] {
                    @for (place, image) in product.images.iter().enumerate() {
                        img id=(format!("picture-{}", place + 1)) src=(image.url) alt=(if image.alt.is_empty() { &product.title } else { &image.alt })
                            width=(image.width) height=(image.height) loading=[(place > 0).then_some("lazy")] decoding="async";
                    }
                }
            }
            @if several {
                ul.thumbs {
                    @for (place, image) in product.images.iter().enumerate() {
                        li { a href=(format!("#picture-{}", place + 1)) aria-label=(site.texts.picture_of(place + 1, product.images.len())) {
                            img src=(image.url) alt="" width="80" height="80" loading="lazy" decoding="async";
                        } }
                    }
                }
            }
        }
    }
}

/// One of the product's options: each value is a link to the variant with it.
fn choice(site: &Site, product: &Product, chosen: &Variant, index: usize, name: &str) -> Markup {
    let values = product.options.get(index).map(|option| option.values.as_slice()).unwrap_or_default();
    html! {
        div.choice role="group" aria-labelledby=(format!("option-{index}")) {
            p id=(format!("option-{index}")) { (name) }
            ul.choices {
                @for value in values {
                    @let this = chosen.options.get(index) == Some(&value.id);
                    li {
                        @match variant_with(product, chosen, index, &value.id) {
                            Some(variant) => a href=(site.variant(&product.handle, &variant.sku)) aria-current=[this.then_some("true")] { (value.name) },
                            None => span { (value.name) },
                        }
                    }
                }
            }
        }
    }
}

/// The variant that has this value and otherwise what is chosen now.
fn variant_with<'p>(product: &'p Product, chosen: &Variant, index: usize, value: &str) -> Option<&'p Variant> {
    let fits = |variant: &&Variant| variant.options.iter().enumerate().all(|(i, v)| if i == index { v == value } else { chosen.options.get(i) == Some(v) });
    product.variants.iter().find(fits)
}

/// schema.org: prices and availability are those that the page shows.
fn structured_data(site: &Site, product: &Product, offered: &Offered) -> Markup {
    let base = &site.base_url;
    let offer = |(index, variant): (usize, &Variant)| {
        let state = if offered.available.get(index).is_some_and(|n| *n > 0) { "InStock" } else { "OutOfStock" };
        let mut offer = json!({
            "@type": "Offer",
            "sku": variant.sku,
            "url": url::absolute(base, &site.variant(&product.handle, &variant.sku)),
            "price": variant.price.to_decimal(),
            "priceCurrency": variant.price.currency,
            "availability": format!("https://schema.org/{state}"),
        });
        if let Some(former) = &variant.compare_at {
            offer["priceSpecification"] = json!({
                "@type": "UnitPriceSpecification",
                "priceType": "https://schema.org/StrikethroughPrice",
                "price": former.to_decimal(),
                "priceCurrency": former.currency,
            });
        }
        if let Some(until) = offered.changes.get(index).copied().flatten().and_then(in_utc) {
            offer["priceValidUntil"] = until.into();
        }
        offer
    };
    let mut data = json!({
        "@context": "https://schema.org",
        "@type": "Product",
        "name": product.title,
        "url": url::absolute(base, &site.product(&product.handle)),
        "description": product.description,
        "image": product.images.iter().map(|image| url::absolute(base, &image.url)).collect::<Vec<_>>(),
        "offers": product.variants.iter().enumerate().map(offer).collect::<Vec<_>>(),
    });
    if !product.brand.is_empty() {
        data["brand"] = json!({ "@type": "Brand", "name": product.brand });
    }
    // Nothing in the data may end the element.
    let text = data.to_string().replace('<', "\\u003c");
    html! { script type="application/ld+json" { (PreEscaped(text)) } }
}

fn in_utc(at_ms: u64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(at_ms / 1_000).ok()?).ok()?;
    at.format(&Rfc3339).ok()
}

/// Of what was sold once and is not any more.
pub fn gone(site: &Site) -> Markup {
    let (title, hint) = (
        site.say("No longer sold", "商品已下架"),
        site.say("We no longer sell this. Perhaps you will find something like it.", "该商品已下架，您可以看看其他类似商品。"),
    );
    site.page(
        title,
        hint,
        html! {
            div.wide.lost {
                h1 { (title) }
                p { (hint) }
                p { a.button href=(site.link("/products")) { (site.texts.all_products) } }
            }
        },
    )
}

pub fn not_found(site: &Site) -> Markup {
    let t = site.texts;
    lost(site, t.not_found, html! { p { (t.not_found_hint) } })
}

/// What a program would get as a problem document.
pub fn problem(site: &Site, problem: &Problem) -> Markup {
    let (title, hint) = match problem.status {
        429 => (
            site.say("That was done very often", "操作过于频繁"),
            site.say("Very much of it came from your network. Nothing was changed. Please try again later.", "您所在网络的操作过于频繁，内容尚未更改，请稍后再试。"),
        ),
        400..=499 => (
            site.say("That could not be read", "无法处理您的请求"),
            site.say("Go back, check what you entered, and send it again. Nothing was changed.", "请返回检查所填内容后重新提交，内容尚未更改。"),
        ),
        _ => (
            site.say("That did not work just now", "暂时无法完成操作"),
            site.say("Nothing was changed. Please try again in a moment.", "内容尚未更改，请稍后再试。"),
        ),
    };
    let fields = problem.errors.iter().map(|error| error.field.as_str()).filter(|field| !field.is_empty());
    let fields = fields.collect::<Vec<_>>().join(", ");
    lost(site, title, html! {
        p { (hint) }
        @if !fields.is_empty() { p.hint { (site.say("It concerns:", "相关内容：")) " " (fields) } }
    })
}

fn lost(site: &Site, title: &str, text: Markup) -> Markup {
    site.own_page(
        title,
        html! {
            div.wide.lost {
                h1 { (title) }
                (text)
                p.order-actions {
                    a.button href=(site.link("/products")) { (site.texts.all_products) }
                    a href=(site.link("/cart")) { (site.say("Your cart", "购物车")) }
                }
            }
        },
    )
}
