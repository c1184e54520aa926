//! What a shopper searches for: words, filters, and what was found. Each filter
//! is a link or a form field, so that a search is an address.

use maud::{Markup, html};
use souk_sdk::commerce::product_finder::{self, FacetValue, Query, Results, Sort};
use souk_sdk::commerce::types::Page;
use souk_sdk::money::{self, Money};
use souk_sdk::web::{Fields, Problem, Request, Response};
use souk_sdk::{config, web};

use crate::layout::{Site, Under};

const PAGE_SIZE: u32 = 24;
const PAGES_MAX: u32 = 100;
const TEXT_CHARS_MAX: usize = 200;
const BRANDS_SHOWN: usize = 12;
const SUGGESTIONS: u32 = 8;
/// While there is no index yet.
const RETRY_AFTER_S: u32 = 5;
const SORTS: [(&str, Sort); 4] =
    [("relevance", Sort::Relevance), ("price-up", Sort::PriceAscending), ("price-down", Sort::PriceDescending), ("newest", Sort::Newest)];

/// What the address asks for. Bad input is read as none: a link may be old.
struct Asked {
    text: String,
    category: Option<String>,
    brands: Vec<String>,
    /// In whole units of the currency, as people type them.
    price_min: Option<u32>,
    price_max: Option<u32>,
    sort: &'static str,
    page: u32,
}

impl Asked {
    fn of(query: &Fields) -> Self {
        let text = |name: &str| query.get(name).map(|text| text.trim().chars().take(TEXT_CHARS_MAX).collect::<String>()).filter(|text| !text.is_empty());
        let number = |name: &str| text(name).and_then(|text| text.parse::<u32>().ok());
        let sort = text("sort").and_then(|asked| SORTS.iter().find(|(name, _)| *name == asked));
        Self {
            text: text("q").unwrap_or_default(),
            category: text("category"),
            brands: query.all("brand").filter(|brand| !brand.is_empty()).take(BRANDS_SHOWN).map(str::to_owned).collect(),
            price_min: number("price-min"),
            price_max: number("price-max"),
            sort: sort.map_or(SORTS[0].0, |(name, _)| name),
            page: number("page").unwrap_or(1).clamp(1, PAGES_MAX + 1),
        }
    }

    fn query(&self, currency: &str) -> Query {
        let unit = 10_i64.pow(money::exponent(currency));
        let minor = |whole: Option<u32>| whole.map(|whole| i64::from(whole) * unit);
        Query {
            text: self.text.clone(),
            category: self.category.clone(),
            brands: self.brands.clone(),
            price_min: minor(self.price_min),
            price_max: minor(self.price_max),
            sort: SORTS.iter().find(|(name, _)| *name == self.sort).map_or(Sort::Relevance, |(_, sort)| *sort),
            page: Page { offset: (self.page - 1) * PAGE_SIZE, limit: PAGE_SIZE },
        }
    }

    /// The address of this search on another page.
    fn link(&self, site: &Site, page: u32) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("q", &self.text);
        if let Some(category) = &self.category {
            query.append_pair("category", category);
        }
        for brand in &self.brands {
            query.append_pair("brand", brand);
        }
        for (name, price) in [("price-min", self.price_min), ("price-max", self.price_max)] {
            if let Some(price) = price {
                query.append_pair(name, &price.to_string());
            }
        }
        query.append_pair("sort", self.sort).append_pair("page", &page.to_string());
        format!("{}?{}", site.link("/search"), query.finish())
    }
}

pub fn page(request: &Request) -> Response {
    let site = Site::of(request);
    let asked = Asked::of(&request.query());
    let currency = config::shop().currency;
    let page = match product_finder::search(&asked.query(&currency), site.locale) {
        // Where there is nothing there is one page, which says so.
        Ok(results) if asked.page > pages_of(&results).max(1) => return crate::not_found(request),
        Ok(results) => web::html(render(&site, &asked, &results, &currency).into_string()),
        Err(product_finder::Error::Preparing) => web::html(preparing(&site).into_string()).with_status(503).retry_after(RETRY_AFTER_S),
    };
    page.with_header("x-robots-tag", "noindex")
}

pub fn suggest(request: &Request) -> Result<Response, Problem> {
    let query = request.query();
    let prefix = query.optional_text("q", TEXT_CHARS_MAX)?.unwrap_or_default();
    match product_finder::suggest(prefix, &request.locale, SUGGESTIONS) {
        Ok(words) => Ok(web::json(&words)),
        Err(product_finder::Error::Preparing) => Err(Problem::new(503, "The search is being prepared").retry_after(RETRY_AFTER_S)),
    }
}

fn pages_of(results: &Results) -> u32 {
    u32::try_from(results.total.div_ceil(u64::from(PAGE_SIZE))).map_or(PAGES_MAX, |pages| pages.min(PAGES_MAX))
}

fn preparing(site: &Site) -> Markup {
    let title = site.say("The search is being prepared", "搜索功能正在准备中");
    let text = site.say("Please try again in a moment. Everything else works: you can look through all products.", "请稍后再试。其他功能不受影响，您可以先浏览全部商品。");
    site.own_page(title, html! {
        div.wide.lost {
            h1 { (title) }
            p.notice role="status" { (text) }
            p { a.button href=(site.link("/products")) { (site.texts.all_products) } }
        }
    })
}

fn render(site: &Site, asked: &Asked, results: &Results, currency: &str) -> Markup {
    let t = site.texts;
    let total = u32::try_from(results.total).unwrap_or(u32::MAX);
    let pages = pages_of(results).max(1);
    let title = match (asked.text.as_str(), site.is_chinese()) {
        ("", _) => t.all_products.to_owned(),
        (text, true) => format!("“{text}”的搜索结果"),
        (text, false) => format!("Results for “{text}”"),
    };
    site.own_page(
        &title,
        html! {
            div.wide.finder {
                div.found {
                    h1 { (title) }
                    p role="status" { (t.product_count(total)) " " a.to-filters href="#filters" { (site.say("Filters and sorting", "筛选与排序")) } }
                    @if results.corrected && !results.products.is_empty() {
                        p.notice { (site.say("No exact matches. These are the closest.", "没有完全匹配的结果，已为您显示最相近的商品。")) }
                    }
                }
                form.filters #filters method="get" action=(site.link("/search")) {
                    input type="hidden" name="q" value=(asked.text);
                    h2 { (site.say("Filters", "筛选")) }
                    (categories(site, asked, &results.categories))
                    (brands(site, asked, &results.brands))
                    fieldset {
                        legend { (price_legend(site, currency)) }
                        div.range {
                            label { (site.say("from", "最低")) input type="number" name="price-min" min="0" max=(u32::MAX) value=[asked.price_min]; }
                            label { (site.say("to", "最高")) input type="number" name="price-max" min="0" max=(u32::MAX) value=[asked.price_max]; }
                        }
                    }
                    div.field {
                        label for="sort" { (t.sort) }
                        select #sort name="sort" {
                            @for (name, _) in SORTS { option value=(name) selected[name == asked.sort] { (sort_label(site, name)) } }
                        }
                    }
                    button.full { (site.say("Show results", "查看结果")) }
                }
                section.results {
                    @if results.products.is_empty() {
                        p.empty { (site.say("No products found. Try other words or fewer filters.", "没有找到相关商品，请尝试其他关键词或减少筛选条件。")) }
                        p { a.button href=(site.link("/products")) { (t.all_products) } }
                    } @else {
                        (site.grid(&results.products, Under::Page))
                    }
                    @if pages > 1 {
                        nav.pages aria-label=(t.pages) {
                            @if asked.page > 1 { a rel="prev" href=(asked.link(site, asked.page - 1)) { (t.previous) } }
                            span { (t.page_of(asked.page, pages)) }
                            @if asked.page < pages { a rel="next" href=(asked.link(site, asked.page + 1)) { (t.next) } }
                        }
                    }
                }
            }
        },
    )
}

fn categories(site: &Site, asked: &Asked, found: &[FacetValue]) -> Markup {
    html! {
        @if !found.is_empty() || asked.category.is_some() {
            div.field {
                label for="category" { (site.texts.categories) }
                select #category name="category" {
                    option value="" { (site.say("All categories", "全部分类")) }
                    @for value in found {
                        option value=(value.value) selected[asked.category.as_ref() == Some(&value.value)] { (value.label) " (" (value.count) ")" }
                    }
                    @if let Some(gone) = asked.category.as_ref().filter(|asked| !found.iter().any(|value| value.value == **asked)) {
                        option value=(gone) selected { (gone) " (0)" }
                    }
                }
            }
        }
    }
}

fn brands(site: &Site, asked: &Asked, found: &[FacetValue]) -> Markup {
    let gone = asked.brands.iter().filter(|brand| !found.iter().any(|value| value.value == **brand));
    html! {
        @if !found.is_empty() || !asked.brands.is_empty() {
            fieldset {
                legend { (site.say("Brand", "品牌")) }
                ul.ticks {
                    @for value in found.iter().take(BRANDS_SHOWN) {
                        li { label {
                            input type="checkbox" name="brand" value=(value.value) checked[asked.brands.contains(&value.value)];
                            " " (value.label) " (" (value.count) ")"
                        } }
                    }
                    @for brand in gone { li { label { input type="checkbox" name="brand" value=(brand) checked; " " (brand) " (0)" } } }
                }
            }
        }
    }
}

fn price_legend(site: &Site, currency: &str) -> String {
    // The symbol as the locale writes it, without the number.
    let sample = Money::zero(currency).format(site.locale);
    let symbol = sample.trim_matches(|character: char| character.is_ascii_digit() || character == '.' || character == ',');
    if site.is_chinese() { format!("价格（{}）", symbol.trim()) } else { format!("Price ({})", symbol.trim()) }
}

fn sort_label(site: &Site, name: &str) -> &'static str {
    let t = site.texts;
    match name {
        "price-up" => t.sort_price_up,
        "price-down" => t.sort_price_down,
        "newest" => t.sort_newest,
        _ => site.say("Best match", "综合排序"),
    }
}
