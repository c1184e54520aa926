//! What is put into the index for a product, and what is asked of it. Pure: the
//! catalogue's answers are passed in.

use souk_sdk::commerce::catalog::{Category, Product};
use souk_sdk::commerce::product_finder::{FacetValue, Query, Sort};
use souk_sdk::search::{self, AnyFilter, Field, Filter, RangeFilter, SearchQuery, Value};

const TEXT_CHARS_MAX: usize = 200;
const BRANDS_MAX: usize = 50;
const LIMIT_MAX: u32 = 200;
/// The host takes so many of a field.
const VALUES_MAX: usize = 128;
/// More levels than the catalogue allows; ends a cycle.
const DEPTH_MAX: usize = 16;

pub fn is_chinese(locale: &str) -> bool {
    locale.split(['-', '_']).next() == Some("zh")
}

/// The category and all above it.
pub fn chain(handle: &str, categories: &[Category]) -> Vec<String> {
    let mut chain = Vec::new();
    let mut at = Some(handle.to_owned());
    while let Some(handle) = at.filter(|_| chain.len() < DEPTH_MAX) {
        at = categories.iter().find(|category| category.handle == handle).and_then(|category| category.parent.clone());
        chain.push(handle);
    }
    chain
}

/// A product as one of the shop's locales shows it.
pub struct View {
    pub locale: String,
    pub product: Product,
    /// Names of its category and of all above.
    pub categories: Vec<String>,
}

/// Names of the categories of a chain, in the language of `categories`.
pub fn names(chain: &[String], categories: &[Category]) -> Vec<String> {
    chain.iter().filter_map(|handle| categories.iter().find(|it| it.handle == *handle)).map(|category| category.name.clone()).collect()
}

/// `views`: the product in each of the shop's locales; at least one. `chain`: its category and all above.
pub fn fields(views: &[View], chain: Vec<String>) -> Vec<Field> {
    let Some(View { product, .. }) = views.first() else { return Vec::new() };
    let texts = |chinese: bool, text: fn(&View) -> String| {
        let mut texts: Vec<String> = Vec::new();
        for view in views.iter().filter(|view| is_chinese(&view.locale) == chinese) {
            let text = text(view);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        Value::Text(texts.join("\n"))
    };
    let title = |view: &View| view.product.title.clone();
    let labels = |view: &View| {
        let attributes = view.product.attributes.iter().map(|attribute| &attribute.value);
        let options = view.product.options.iter().flat_map(|option| option.values.iter().map(|value| &value.name));
        view.categories.iter().chain(attributes).chain(options).cloned().collect::<Vec<_>>()
    };
    // One by one: each completes what a shopper types.
    let all_labels = |chinese: bool| {
        let mut all: Vec<String> = Vec::new();
        for label in views.iter().filter(|view| is_chinese(&view.locale) == chinese).flat_map(labels) {
            if all.len() < VALUES_MAX && !all.contains(&label) {
                all.push(label);
            }
        }
        Value::Many(all)
    };
    let body = |view: &View| [view.product.subtitle.as_str(), view.product.description.as_str()].join("\n");
    let codes = product.variants.iter().flat_map(|variant| [Some(&variant.sku), variant.barcode.as_ref()]).flatten();
    let keywords = [&product.brand].into_iter().chain(&product.tags).chain(codes).cloned().collect();
    let prices = || product.variants.iter().map(|variant| variant.price.amount);
    let field = |name: &str, value| Field { name: name.into(), value };
    let mut fields = vec![
        field("title", texts(false, title)),
        field("title_zh", texts(true, title)),
        field("keywords", Value::Many(keywords)),
        field("labels", all_labels(false)),
        field("labels_zh", all_labels(true)),
        field("body", texts(false, body)),
        field("body_zh", texts(true, body)),
        field("category", Value::Many(chain)),
        field("price_min", Value::Number(prices().min().unwrap_or_default())),
        field("price_max", Value::Number(prices().max().unwrap_or_default())),
        field("price", Value::Many(some(prices().collect()).iter().map(i64::to_string).collect())),
        field("created", Value::Number(product.created_ms as i64)),
    ];
    if !product.brand.is_empty() {
        fields.push(field("brand", Value::Text(product.brand.clone())));
    }
    fields
}

/// Different ones, in order: as many as the host takes, the least and the most among them.
fn some(mut prices: Vec<i64>) -> Vec<i64> {
    prices.sort_unstable();
    prices.dedup();
    let (step, last) = (prices.len().div_ceil(VALUES_MAX - 1).max(1), prices.last().copied());
    let mut some: Vec<i64> = prices.into_iter().step_by(step).collect();
    some.extend(last.filter(|last| some.last() != Some(last)));
    some
}

/// Which prices the index knows of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prices {
    /// The least and the most: of an index that a version of before made.
    Span,
    Each,
}

/// Whether the last word that was asked for is whole, as `tea`, or may be the
/// beginning of one, as `choc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastWord {
    Whole,
    Begun,
}

/// A word taken for whole is not corrected: it may be a beginning instead.
pub fn query(query: &Query, last_word: LastWord, prices: Prices, locale: &str) -> SearchQuery {
    let mut text: String = query.text.trim().chars().take(TEXT_CHARS_MAX).collect();
    let fields = if is_chinese(locale) {
        ["title_zh", "labels_zh", "keywords", "body_zh", "title", "labels", "body"]
    } else {
        ["title", "labels", "keywords", "body", "title_zh", "labels_zh", "body_zh"]
    };
    let any = |field: &str, values: Vec<String>| Filter::AnyOf(AnyFilter { field: field.into(), values });
    let between = |field: &str, min, max| Filter::Between(RangeFilter { field: field.into(), min, max });
    let mut filters = Vec::new();
    if let Some(category) = &query.category {
        filters.push(any("category", vec![category.clone()]));
    }
    if !query.brands.is_empty() {
        filters.push(any("brand", query.brands.iter().take(BRANDS_MAX).cloned().collect()));
    }
    match (query.price_min, query.price_max, prices) {
        (None, None, _) => {}
        // A product is in when one of its variants is.
        (min, max, Prices::Each) => filters.push(between("price", min, max)),
        // When one may be: the ranges overlap.
        (min, max, Prices::Span) => filters.extend([between("price_max", min, None), between("price_min", None, max)]),
    }
    let sort = match query.sort {
        // Without words, all are equally relevant.
        Sort::Relevance if text.is_empty() => search::Sort::Descending("created".into()),
        Sort::Relevance => search::Sort::Relevance,
        Sort::PriceAscending => search::Sort::Ascending("price_min".into()),
        Sort::PriceDescending => search::Sort::Descending("price_min".into()),
        Sort::Newest => search::Sort::Descending("created".into()),
    };
    // How the host is told.
    if last_word == LastWord::Whole && !text.is_empty() {
        text.push(' ');
    }
    SearchQuery {
        text,
        fields: fields.map(Into::into).to_vec(),
        filters,
        sort,
        offset: query.page.offset,
        limit: query.page.limit.min(LIMIT_MAX),
        facets: vec!["category".into(), "brand".into()],
        highlight: Vec::new(),
        typo_tolerance: last_word == LastWord::Begun,
    }
}

/// Values of a facet, most frequent first. A category that is gone has no label and is left out.
pub fn labelled(facets: &[search::Facet], field: &str, label: impl Fn(&str) -> Option<String>) -> Vec<FacetValue> {
    let values = facets.iter().filter(|facet| facet.field == field).flat_map(|facet| &facet.values);
    let mut labelled: Vec<FacetValue> = values
        .filter_map(|value| Some(FacetValue { label: label(&value.value)?, value: value.value.clone(), count: value.count }))
        .collect();
    labelled.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.label.cmp(&b.label)));
    labelled
}

/// The shopper's script first; the index completes words of both.
pub fn preferred(mut completions: Vec<String>, locale: &str) -> Vec<String> {
    let chinese = is_chinese(locale);
    let han = |text: &str| text.chars().any(|it| ('\u{3400}'..='\u{9fff}').contains(&it));
    // Stable: within each, the best stay first.
    completions.sort_by_key(|text| han(text) != chinese);
    completions
}

#[cfg(test)]
mod tests {
    use souk_sdk::Money;
    use souk_sdk::commerce::catalog::Variant;
    use souk_sdk::commerce::types::Page;

    use super::*;

    fn category(handle: &str, parent: Option<&str>) -> Category {
        Category {
            handle: handle.into(),
            name: handle.to_uppercase(),
            description: String::new(),
            parent: parent.map(Into::into),
            image: None,
            product_count: 1,
        }
    }

    fn product(handle: &str, title: &str, brand: &str, category: &str, prices: &[i64]) -> Product {
        let variant = |(place, price): (usize, &i64)| Variant {
            sku: format!("{handle}-{place}"),
            options: Vec::new(),
            title: String::new(),
            price: Money::new(*price, "CNY"),
            compare_at: None,
            weight_g: 1,
            barcode: None,
        };
        Product {
            handle: handle.into(),
            title: title.into(),
            subtitle: String::new(),
            description: String::new(),
            brand: brand.into(),
            category: category.into(),
            tags: Vec::new(),
            attributes: Vec::new(),
            options: Vec::new(),
            variants: prices.iter().enumerate().map(variant).collect(),
            images: Vec::new(),
            tax_class: "standard".into(),
            created_ms: prices[0] as u64,
            revision: 1,
        }
    }

    fn put(english: Product, title_zh: &str) {
        let chinese = Product { title: title_zh.into(), ..english.clone() };
        let handle = english.handle.clone();
        let categories = [category("food", None), category("tea", Some("food")), category("home", None)];
        let chain = chain(&english.category, &categories);
        let view = |locale: &str, product| View { locale: locale.into(), product, categories: names(&chain, &categories) };
        search::put("products", &handle, &fields(&[view("en", english), view("zh-CN", chinese)], chain.clone())).unwrap();
    }

    fn find(change: impl FnOnce(&mut Query)) -> Vec<String> {
        let mut asked = Query {
            text: String::new(),
            category: None,
            brands: Vec::new(),
            price_min: None,
            price_max: None,
            sort: Sort::PriceAscending,
            page: Page { offset: 0, limit: 999 },
        };
        change(&mut asked);
        let query = query(&asked, LastWord::Whole, Prices::Each, "en");
        assert!(query.limit <= 200);
        search::query("products", &query).unwrap().hits.into_iter().map(|hit| hit.id).collect()
    }

    #[test]
    fn products_are_found_by_both_languages_codes_categories_above_brands_and_prices() {
        put(product("longjing", "Longjing Tea", "Lane", "tea", &[100, 300]), "龙井");
        put(product("cup", "Tea Cup", "Kiln", "home", &[200]), "茶杯");
        assert_eq!(find(|query| query.text = "tea".into()), ["longjing", "cup"]);
        assert_eq!(find(|query| query.text = "龙井".into()), ["longjing"]);
        assert_eq!(find(|query| query.text = "cup-0".into()), ["cup"]);
        assert_eq!(find(|query| query.text = "food".into()), ["longjing"], "by the name of a category");
        assert_eq!(find(|query| query.category = Some("food".into())), ["longjing"]);
        assert_eq!(find(|query| query.brands = vec!["Kiln".into(), "None".into()]), ["cup"]);
        assert_eq!(find(|query| query.price_min = Some(250)), ["longjing"]);
        assert_eq!(find(|query| query.price_max = Some(150)), ["longjing"]);
        assert_eq!(find(|query| (query.price_min, query.price_max) = (Some(301), Some(400))), [""; 0]);
        assert_eq!(find(|query| (query.price_min, query.price_max) = (Some(150), Some(250))), ["cup"], "no variant of the other is between");
        assert_eq!(find(|query| query.sort = Sort::Relevance), ["cup", "longjing"], "the newest where no words were given");
    }

    #[test]
    fn of_many_prices_some_are_kept_with_the_least_and_the_most() {
        for count in [0, 1, 127, 128, 129, 1_000] {
            let kept = some((0..count).rev().collect());
            assert!(kept.len() <= VALUES_MAX && kept.is_sorted(), "{count}");
            assert_eq!((kept.first(), kept.last().map(|last| last + 1)), ((count > 0).then_some(&0), (count > 0).then_some(count)));
        }
    }

    #[test]
    fn facets_have_labels_and_the_most_frequent_first() {
        let value = |value: &str, count| search::FacetValue { value: value.into(), count };
        let facets = [search::Facet { field: "category".into(), values: vec![value("a", 1), value("gone", 5), value("b", 2)] }];
        let found = labelled(&facets, "category", |handle| (handle != "gone").then(|| handle.to_uppercase()));
        let found: Vec<(&str, u64)> = found.iter().map(|it| (it.label.as_str(), it.count)).collect();
        assert_eq!(found, [("B", 2), ("A", 1)]);
    }

    #[test]
    fn completions_in_the_shoppers_script_come_first() {
        let found = || vec!["tea".to_owned(), "茶杯".into(), "teapot".into()];
        assert_eq!(preferred(found(), "zh-CN"), ["茶杯", "tea", "teapot"]);
        assert_eq!(preferred(found(), "en"), ["tea", "teapot", "茶杯"]);
    }

    #[test]
    fn a_cycle_of_categories_ends() {
        assert_eq!(chain("a", &[category("a", Some("b")), category("b", Some("a"))]).len(), DEPTH_MAX);
    }
}
