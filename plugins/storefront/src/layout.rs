//! What surrounds every page, and the parts that several pages share.

use maud::{DOCTYPE, Markup, html};
use souk_sdk::commerce::catalog::{Category, Image, ProductSummary};
use souk_sdk::web::Request;
use souk_sdk::{assets, config};

use crate::texts::{self, Texts};

/// What a page needs to know of the request and the shop.
pub struct Site<'a> {
    pub texts: &'static Texts,
    pub locale: &'a str,
    /// `/zh`
    pub prefix: &'a str,
    pub path: &'a str,
    pub shop_name: String,
    pub base_url: String,
    locales: Vec<String>,
    css: String,
    script: String,
}

impl<'a> Site<'a> {
    pub fn of(request: &'a Request) -> Self {
        let shop = config::shop();
        Self {
            texts: texts::of(&request.locale),
            locale: &request.locale,
            prefix: &request.locale_prefix,
            path: &request.path,
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

    pub fn link(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    fn home(&self) -> &str {
        if self.prefix.is_empty() { "/" } else { self.prefix }
    }

    /// The same page in each language: locale and URL path. A shop mounts a
    /// language under its first part.
    fn alternates(&self) -> Vec<(String, String)> {
        let prefix = |locale: &String| format!("/{}", locale.split('-').next().unwrap_or(locale).to_ascii_lowercase());
        self.locales.iter().map(|locale| (locale.clone(), format!("{}{}", prefix(locale), if self.path == "/" { "" } else { self.path }))).collect()
    }

    pub fn page(&self, title: &str, summary: &str, main: Markup) -> Markup {
        let t = self.texts;
        let alternates = self.alternates();
        let canonical = alternates.iter().find(|(locale, _)| locale == self.locale).map_or("", |(_, path)| path);
        html! {
            (DOCTYPE)
            html lang=(t.lang) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) " · " (self.shop_name) }
                    meta name="description" content=(summary);
                    link rel="canonical" href=(format!("{}{canonical}", self.base_url));
                    @for (locale, path) in &alternates {
                        link rel="alternate" hreflang=(locale) href=(format!("{}{path}", self.base_url));
                    }
                    link rel="stylesheet" href=(self.css);
                    script src=(self.script) defer {}
                    link rel="icon" href=(assets::url("icon.svg").unwrap_or_default()) type="image/svg+xml";
                }
                body {
                    a.skip href="#content" { (t.skip) }
                    header.top {
                        div.wide {
                            a.brand href=(self.home()) { (self.shop_name) }
                            form.find role="search" method="get" action=(self.link("/search")) {
                                label.hidden for="find" { (self.say("Search the shop", "搜索商品")) }
                                input #find type="search" name="q" maxlength="200" autocomplete="off" list="suggestions" data-suggest=(self.link("/search/suggest"))
                                    placeholder=(self.say("Search", "搜索商品"));
                                datalist #suggestions {}
                                button.plain { (self.say("Search", "搜索")) }
                            }
                            nav aria-label=(t.categories) {
                                a href=(self.link("/products")) { (t.all_products) }
                                a href=(self.link("/cart")) { (self.say("Cart", "购物车")) " " span.badge data-count=(self.link("/cart/count")) hidden {} }
                                @for (locale, path) in &alternates {
                                    @if locale != self.locale {
                                        a href=(path) lang=(locale) hreflang=(locale) { (t.other_language) }
                                    }
                                }
                            }
                        }
                    }
                    main #content { (main) }
                    footer.bottom { div.wide { p { (t.footer) } p { "© " (self.shop_name) } } }
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

    pub fn grid(&self, products: &[ProductSummary]) -> Markup {
        let t = self.texts;
        html! {
            @if products.is_empty() { p.empty { (t.nothing_here) } }
            ul.grid {
                @for product in products {
                    li.card {
                        a href=(self.link(&format!("/p/{}", product.handle))) {
                            (picture(product.image.as_ref(), true))
                            h3 { (product.title) }
                        }
                        p.sub { (product.subtitle) }
                        p.price {
                            @let from = product.price_min.format(self.locale);
                            @if product.price_min == product.price_max { (from) } @else { (t.price_from(&from)) }
                            @if let Some(former) = &product.compare_at {
                                " " span.hidden { (t.former_price) } " " s { (former.format(self.locale)) }
                            }
                        }
                    }
                }
            }
        }
    }

    pub fn category_tiles(&self, categories: &[&Category]) -> Markup {
        html! {
            ul.tiles {
                @for category in categories {
                    li {
                        a href=(self.link(&format!("/c/{}", category.handle))) {
                            (picture(category.image.as_ref(), true))
                            span { (category.name) }
                            small { (self.texts.product_count(category.product_count)) }
                        }
                    }
                }
            }
        }
    }
}

/// With its size, so that nothing moves when it arrives. Beside a title that
/// says the same it is decoration.
pub fn picture(image: Option<&Image>, decoration: bool) -> Markup {
    html! {
        @match image {
            Some(image) => img src=(image.url) alt=(if decoration { "" } else { &image.alt }) width=(image.width) height=(image.height)
                loading=[decoration.then_some("lazy")] decoding="async";,
            None => span.blank aria-hidden="true" {},
        }
    }
}
