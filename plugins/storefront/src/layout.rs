//! What surrounds every page, and the parts that several pages share.

use maud::{DOCTYPE, Markup, html};
use souk_sdk::commerce::catalog::{Category, Image, ProductSummary};
use souk_sdk::money::Money;
use souk_sdk::web::Request;
use souk_sdk::{assets, config};

use crate::texts::{self, Texts};
use crate::{content, url};

/// What a page needs to know of the request and the shop.
pub struct Site<'a> {
    pub texts: &'static Texts,
    pub locale: &'a str,
    /// `/zh`
    pub prefix: &'a str,
    /// Encoded, without the prefix.
    pub path: String,
    /// What of the query makes another page of it, with its question mark.
    pub page_query: String,
    /// All of it, as sent.
    query: &'a str,
    pub shop_name: String,
    pub base_url: String,
    locales: Vec<String>,
    css: String,
    script: String,
}

/// Whether search engines and other languages are told of a page.
enum Audience {
    Everyone,
    /// Carts, orders, what was found: nobody else's address.
    Shopper,
}

impl<'a> Site<'a> {
    pub fn of(request: &'a Request) -> Self {
        let shop = config::shop();
        Self {
            texts: texts::of(&request.locale),
            locale: &request.locale,
            prefix: &request.locale_prefix,
            path: url::path(&request.path),
            page_query: String::new(),
            query: &request.query,
            shop_name: shop.name,
            base_url: shop.base_url,
            locales: shop.locales,
            css: assets::url("shop.css").unwrap_or_default(),
            script: assets::url("shop.js").unwrap_or_default(),
        }
    }

    pub fn is_chinese(&self) -> bool {
        self.texts.lang != "en"
    }

    /// A sentence that one page alone needs; shared ones are in [`texts`].
    pub fn say(&self, english: &'static str, chinese: &'static str) -> &'static str {
        if self.is_chinese() { chinese } else { english }
    }

    /// What goods cost: those that cost nothing are free.
    pub fn amount(&self, amount: &Money) -> String {
        if amount.amount == 0 { self.say("Free", "免费").into() } else { amount.format(self.locale) }
    }

    /// `path` is encoded already.
    pub fn link(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    pub fn product(&self, handle: &str) -> String {
        format!("{}/p/{}", self.prefix, url::part(handle))
    }

    pub fn variant(&self, handle: &str, sku: &str) -> String {
        format!("{}?sku={}", self.product(handle), url::part(sku))
    }

    pub fn category(&self, handle: &str) -> String {
        format!("{}/c/{}", self.prefix, url::part(handle))
    }

    fn home(&self) -> &str {
        if self.prefix.is_empty() { "/" } else { self.prefix }
    }

    /// The same page in each language: locale and URL path. A shop mounts a
    /// language under its first part.
    fn alternates(&self) -> Vec<(String, String)> {
        let path = if self.path == "/" { "" } else { &self.path };
        self.locales.iter().map(|locale| (locale.clone(), format!("{}{path}", prefix(locale)))).collect()
    }

    /// A page that is the same for everyone.
    pub fn page(&self, title: &str, summary: &str, main: Markup) -> Markup {
        self.whole(title, summary, Audience::Everyone, main)
    }

    /// A page of one shopper, or of what one asked for.
    pub fn own_page(&self, title: &str, main: Markup) -> Markup {
        self.whole(title, title, Audience::Shopper, main)
    }

    fn whole(&self, title: &str, summary: &str, audience: Audience, main: Markup) -> Markup {
        let t = self.texts;
        let alternates = self.alternates();
        html! {
            (DOCTYPE)
            html lang=(t.lang) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) " · " (self.shop_name) }
                    @match audience {
                        Audience::Everyone => (self.for_engines(summary, &alternates)),
                        Audience::Shopper => meta name="robots" content="noindex";,
                    }
                    link rel="stylesheet" href=(self.css);
                    script src=(self.script) defer {}
                    link rel="icon" href=(assets::url("icon.svg").unwrap_or_default()) type="image/svg+xml";
                }
                body {
                    a.skip href="#content" { (t.skip) }
                    (self.head(&alternates))
                    main #content { (main) }
                    (self.foot())
                }
            }
        }
    }

    fn for_engines(&self, summary: &str, alternates: &[(String, String)]) -> Markup {
        let canonical = alternates.iter().find(|(locale, _)| locale == self.locale).map_or("", |(_, path)| path);
        let path = if self.path == "/" { "/" } else { &self.path };
        html! {
            meta name="description" content=(summary);
            link rel="canonical" href=(format!("{}{canonical}{}", self.base_url, self.page_query));
            @for (locale, path) in alternates {
                link rel="alternate" hreflang=(locale) href=(format!("{}{path}{}", self.base_url, self.page_query));
            }
            // Without a language in it, an address leads to the reader's own.
            link rel="alternate" hreflang="x-default" href=(format!("{}{path}{}", self.base_url, self.page_query));
        }
    }

    fn head(&self, alternates: &[(String, String)]) -> Markup {
        let t = self.texts;
        html! {
            header.top {
                div.wide {
                    a.brand href=(self.home()) { (self.shop_name) }
                    nav.links aria-label=(self.say("Shop", "店铺导航")) {
                        a href=(self.link("/products")) { (self.say("Products", "全部商品")) }
                        a href=(self.link("/orders")) { (self.say("Orders", "我的订单")) }
                        @for (locale, path) in alternates {
                            @if locale != self.locale {
                                // What was searched for or chosen stays so.
                                @let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
                                a href=(format!("{path}{query}")) lang=(locale) hreflang=(locale) { (t.other_language) }
                            }
                        }
                    }
                    form.find role="search" method="get" action=(self.link("/search")) {
                        label.hidden for="find" { (self.say("Search the shop", "搜索商品")) }
                        input #find type="search" name="q" maxlength="200" autocomplete="off" list="suggestions" data-suggest=(self.link("/search/suggest"))
                            placeholder=(self.say("Search products", "搜索商品"));
                        datalist #suggestions {}
                        button { (self.say("Search", "搜索")) }
                    }
                    a.cart href=(self.link("/cart")) {
                        (self.say("Cart", "购物车"))
                        span.badge data-count=(self.link("/cart/count")) hidden {}
                        noscript { img.count src=(self.link("/cart/badge.svg")) alt="" width="32" height="24"; }
                    }
                }
            }
        }
    }

    fn foot(&self) -> Markup {
        let t = self.texts;
        let written = content::links(self.locale);
        html! {
            footer.bottom {
                div.wide {
                    nav aria-label=(self.say("About the shop", "关于本店")) {
                        ul {
                            @for (name, title) in &written { li { a href=(self.link(&format!("/pages/{name}"))) { (title) } } }
                            li { a href=(self.link("/orders")) { (self.say("Your orders", "我的订单")) } }
                        }
                    }
                    p { (t.footer) }
                    p { "© " (self.shop_name) }
                }
            }
        }
    }

    pub fn breadcrumb(&self, trail: &[(String, Option<String>)]) -> Markup {
        html! {
            nav.trail aria-label=(self.texts.breadcrumb) {
                ol {
                    li { a href=(self.home()) { (self.texts.home) } }
                    @for (name, link) in trail {
                        li {
                            @match link {
                                Some(link) => a href=(link) { (name) },
                                None => span aria-current="page" { (name) },
                            }
                        }
                    }
                }
            }
        }
    }

    /// Under a heading of the page, or under one of its parts.
    pub fn grid(&self, products: &[ProductSummary], under: Under) -> Markup {
        html! {
            @if products.is_empty() { p.empty { (self.texts.nothing_here) } }
            ul.grid { @for (place, product) in products.iter().enumerate() { (self.card(product, under, place < SEEN_AT_ONCE)) } }
        }
    }

    fn card(&self, product: &ProductSummary, under: Under, at_once: bool) -> Markup {
        let t = self.texts;
        html! {
            li.card {
                a href=(self.product(&product.handle)) {
                    (picture(product.image.as_ref(), &product.title, if at_once { Loading::AtOnce } else { Loading::Later }))
                    @match under {
                        Under::Page => h2 { (product.title) },
                        Under::Part => h3 { (product.title) },
                    }
                }
                p.sub { (product.subtitle) }
                p.price {
                    @let from = if product.price_min == product.price_max { self.amount(&product.price_min) } else { product.price_min.format(self.locale) };
                    @if product.compare_at.is_some() { span.hidden { (t.now_price) " " } }
                    @if product.price_min == product.price_max { (from) } @else { (t.price_from(&from)) }
                    @if let Some(former) = &product.compare_at {
                        " " span.hidden { (t.former_price) " " } s { (former.format(self.locale)) }
                    }
                }
            }
        }
    }

    pub fn category_tiles(&self, categories: &[&Category]) -> Markup {
        html! {
            ul class={ "tiles " (rows_without_orphans(categories.len())) } {
                @for category in categories {
                    li {
                        a href=(self.category(&category.handle)) {
                            (picture(category.image.as_ref(), &category.name, Loading::Later))
                            span { (category.name) }
                            small { (self.texts.product_count(category.product_count)) }
                        }
                    }
                }
            }
        }
    }
}

/// What a list of products stands under: headings go down by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Under {
    Page,
    Part,
}

/// Above the fold of a phone: to wait for these would be seen.
const SEEN_AT_ONCE: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    AtOnce,
    Later,
}

/// `/zh`
pub fn prefix(locale: &str) -> String {
    format!("/{}", locale.split('-').next().unwrap_or(locale).to_ascii_lowercase())
}

/// How many stand beside each other, wide and narrow, so that the last row is
/// full, or as full as can be.
fn rows_without_orphans(count: usize) -> String {
    let fullest = |columns: &[usize]| {
        let missing = |columns: &usize| (columns - count % columns) % columns;
        columns.iter().copied().min_by_key(missing).unwrap_or(3)
    };
    format!("wide-{} narrow-{}", fullest(&[6, 5, 4]), fullest(&[3, 2]))
}

/// Beside a title that says the same: decoration. With its size, so that
/// nothing moves when it arrives; without one, the title's first letter.
pub fn picture(image: Option<&Image>, title: &str, loading: Loading) -> Markup {
    html! {
        @match image {
            Some(image) => img src=(image.url) alt="" width=(image.width) height=(image.height)
                loading=[(loading == Loading::Later).then_some("lazy")] decoding="async";,
            None => span.blank aria-hidden="true" { (title.trim().chars().next().unwrap_or('·')) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_of_tiles_is_full_where_it_can_be() {
        for (count, classes) in [(10, "wide-5 narrow-2"), (12, "wide-6 narrow-3"), (8, "wide-4 narrow-2"), (9, "wide-5 narrow-3"), (3, "wide-4 narrow-3"), (0, "wide-6 narrow-3")] {
            assert_eq!(rows_without_orphans(count), classes, "{count}");
        }
    }
}
