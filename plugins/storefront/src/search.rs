//! What a shopper searches for: words, filters, and what was found. Each filter
//! is a link or a form field, so that a search is an address.

use maud::{Markup, html};
use souk_sdk::commerce::product_finder::{self, FacetValue, Query, Results, Sort};
use souk_sdk::commerce::types::Page;
use souk_sdk::money::Money;
use souk_sdk::web::{Fields, Problem, Request, Response};
use souk_sdk::{config, entry, web};

use crate::layout::{Site, Under};

const PAGE_SIZE: u32 = 24;
const PAGES_MAX: u32 = 100;
const TEXT_CHARS_MAX: usize = 200;
const BRANDS_SHOWN: usize = 12;
const PRICE_MAX: i64 = 1_000_000_000_000;
const SUGGESTIONS: u32 = 8;
/// While there is no index yet.
const RETRY_AFTER_S: u32 = 5;
const SORTS: [(&str, Sort); 4] =
    [("relevance", Sort::Relevance), ("price-up", Sort::PriceAscending), ("price-down", Sort::PriceDescending), ("newest", Sort::Newest)];

/// One end of a span of prices, as decimals of the currency.
#[derive(Default)]
struct Bound {
    /// Tidied, and shown again.
    typed: String,
    /// None where nothing was typed, or something else than a price.
    amount: Option<i64>,
}

impl Bound {
    /// With the signs of an input method for Chinese, blanks and a currency's sign, as people type them.
    fn of(typed: &str, currency: &str) -> Self {
        let is_sign = |c: char| c.is_whitespace() || matches!(c, '¥' | '￥' | '$' | '€' | '£' | '元');
        let typed: String = entry::plain(typed).chars().filter(|c| !is_sign(*c)).take(TEXT_CHARS_MAX).collect();
        let amount = Money::from_decimal(&typed, currency).ok().map(|money| money.amount).filter(|amount| (0..=PRICE_MAX).contains(amount));
        Self { typed, amount }
    }

    fn is_bad(&self) -> bool {
        !self.typed.is_empty() && self.amount.is_none()
    }
}

/// What the address asks for. Bad input other than prices is read as none: a link may be old.
struct Asked {
    text: String,
    category: Option<String>,
    brands: Vec<String>,
    price_min: Bound,
    price_max: Bound,
    sort: &'static str,
    page: u32,
}

impl Asked {
    fn of(query: &Fields, currency: &str) -> Self {
        let text = |name: &str| query.get(name).map(|text| text.trim().chars().take(TEXT_CHARS_MAX).collect::<String>()).filter(|text| !text.is_empty());
        let number = |name: &str| text(name).and_then(|text| text.parse::<u32>().ok());
        let sort = text("sort").and_then(|asked| SORTS.iter().find(|(name, _)| *name == asked));
        let bound = |name: &str| Bound::of(query.get(name).unwrap_or_default(), currency);
        let (mut price_min, mut price_max) = (bound("price-min"), bound("price-max"));
        if price_min.amount.zip(price_max.amount).is_some_and(|(min, max)| min > max) {
            std::mem::swap(&mut price_min, &mut price_max);
        }
        Self {
            text: text("q").unwrap_or_default(),
            category: text("category"),
            brands: query.all("brand").filter(|brand| !brand.is_empty()).take(BRANDS_SHOWN).map(str::to_owned).collect(),
            price_min,
            price_max,
            sort: sort.map_or(SORTS[0].0, |(name, _)| name),
            page: number("page").unwrap_or(1).clamp(1, PAGES_MAX + 1),
        }
    }

    fn query(&self) -> Query {
        Query {
            text: self.text.clone(),
            category: self.category.clone(),
            brands: self.brands.clone(),
            price_min: self.price_min.amount,
            price_max: self.price_max.amount,
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
        for (name, price) in [("price-min", &self.price_min), ("price-max", &self.price_max)] {
            if !price.typed.is_empty() {
                query.append_pair(name, &price.typed);
            }
        }
        query.append_pair("sort", self.sort).append_pair("page", &page.to_string());
        format!("{}?{}", site.link("/search"), query.finish())
    }
}

pub fn page(request: &Request) -> Response {
    let site = Site::of(request);
    let currency = config::shop().currency;
    let asked = Asked::of(&request.query(), &currency);
    let page = match product_finder::search(&asked.query(), site.locale) {
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
                            (price(site.say("from", "最低"), "price-min", &asked.price_min))
                            (price(site.say("to", "最高"), "price-max", &asked.price_max))
                        }
                        @if asked.price_min.is_bad() || asked.price_max.is_bad() {
                            p.mistake #price-error role="alert" { (site.say("Not filtered by what is not a price: write it like 49 or 12.50.", "价格格式不正确，未按此筛选。请输入数字，例如 49 或 12.50。")) }
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

fn price(label: &str, name: &str, bound: &Bound) -> Markup {
    let described = bound.is_bad().then_some("price-error");
    html! {
        label { (label) input type="text" inputmode="decimal" autocomplete="off" name=(name) value=[Some(&bound.typed).filter(|typed| !typed.is_empty())]
            aria-invalid=[described.map(|_| "true")] aria-describedby=[described]; }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_as_people_type_them_and_what_is_none_is_told() {
        for (typed, amount) in [("49", Some(4_900)), ("12.5", Some(1_250)), (" ￥４９．５０ ", Some(4_950)), ("4 9", Some(4_900)), ("49。5", Some(4_950)), ("0", Some(0)), ("", None)] {
            let bound = Bound::of(typed, "CNY");
            assert_eq!((bound.amount, bound.is_bad()), (amount, false), "{typed}");
        }
        for typed in ["abc", "-5", "1.234", "1e3", "99999999999999999999"] {
            assert!(Bound::of(typed, "CNY").is_bad(), "{typed}");
        }
        assert!(Bound::of("12.5", "JPY").is_bad());
    }
}
