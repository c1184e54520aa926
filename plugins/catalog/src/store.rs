//! Documents and what is derived from them: per-locale projections that are
//! read as they are, and ordered entries for listings.
//!
//! | collection | key | value |
//! |---|---|---|
//! | `products` | handle | the product in all languages, its revision |
//! | `statuses` | handle | what it is other than active, since the second form of the documents |
//! | `skus` | sku | handle of its product |
//! | `pages`, `summaries` | locale`:`handle | the interface's answer, at base prices; to a summary, those of its variants |
//! | `sellables`, `identities` | locale`:`sku | the interface's answer |
//! | `categories` | handle | the category in all languages |
//! | `navigation` | locale`:`number | up to 100 categories with counts |
//! | `listing` | category`/`sort`/`value`/`handle | nothing |
//!
//! The counter `members` holds the number of products of a category and all
//! below it; the category `*` is the whole shop.

use serde::Serialize;
use serde::de::DeserializeOwned;
use souk_sdk::commerce::catalog::{self as wit, Sort};
use souk_sdk::commerce::catalog_records;
use souk_sdk::storage::{self, Counter, ordered};
use souk_sdk::{config, data, events, pages};

use crate::current::{self, Base, Span};
use crate::document::{Category, Product, Status, Stored, Tree, created_ms, is_handle, is_sku};
use crate::project::View;

/// First byte of every document. Projections of another version are made anew
/// from the product; the product itself is then read by the code of its version.
const VERSION: u8 = 1;
const MEMBERS: Counter = Counter::new("members");
const WHOLE_SHOP: &str = "*";
const SCAN_MAX: u32 = 1_000;
const CATEGORIES_PER_PAGE: usize = 100;
pub const BATCH_MAX: usize = 200;
/// Products that [`reprice`] looks at in one unit.
const REPRICED_MAX: u32 = 500;
/// Of one event: their names fit into it.
const HANDLES_TOLD_MAX: usize = 100;

/// The storage is out of reach or a document cannot be read: the unit cannot
/// go on, and the interface has no error for it.
pub fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("catalog storage: {error}"))
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    must(postcard::to_extend(value, vec![VERSION]))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (VERSION, document) = bytes.split_first().map(|(version, rest)| (*version, rest))? else { return None };
    postcard::from_bytes(document).ok()
}

fn put(collection: &str, key: &str, value: &impl Serialize) {
    must(storage::put(collection, key, &encode(value)));
}

fn read<T: DeserializeOwned>(collection: &str, key: &str) -> Option<T> {
    decode(&must(storage::get(collection, key))?)
}

pub fn stored(handle: &str) -> Option<Stored> {
    let bytes = must(storage::get("products", handle))?;
    Some(decode(&bytes).unwrap_or_else(|| panic!("product `{handle}` was written by another version of this plugin")))
}

pub fn status(handle: &str) -> Status {
    read("statuses", handle).unwrap_or_default()
}

fn statuses(handles: &[String]) -> Vec<Status> {
    let found = if handles.is_empty() { Vec::new() } else { must(storage::get_many("statuses", handles)) };
    found.into_iter().map(|status| status.and_then(|bytes| decode(&bytes)).unwrap_or_default()).collect()
}

/// A version of this plugin before there were statuses would sell what is archived:
/// none is written until documents have the form that it refuses.
pub fn knows_statuses() -> bool {
    must(data::form().map_err(|error| format!("{error:?}"))) >= 2
}

/// Whether any product has one.
pub fn has_statuses() -> bool {
    !must(storage::scan("statuses", &storage::after(None), 1, false)).is_empty()
}

pub fn status_of(handle: &str) -> Option<catalog_records::Status> {
    let known = is_handle(handle) && must(storage::get("products", handle)).is_some();
    known.then(|| match status(handle) {
        Status::Active => catalog_records::Status::Active,
        Status::Unlisted => catalog_records::Status::Unlisted,
        Status::Draft => catalog_records::Status::Draft,
        Status::Archived => catalog_records::Status::Archived,
    })
}

pub fn owner_of(sku: &str) -> Option<String> {
    must(storage::get("skus", sku)).map(|handle| String::from_utf8_lossy(&handle).into_owned())
}

/// In their order, each with the handle of its product.
pub fn skus(after: Option<&str>, limit: u32) -> Vec<(String, String)> {
    let entries = must(storage::scan("skus", &storage::after(after), limit.min(SCAN_MAX), false));
    entries.into_iter().map(|entry| (entry.key, String::from_utf8_lossy(&entry.value).into_owned())).collect()
}

/// Locales come from requests: what is none finds no projection.
fn key(locale: &str, rest: &str) -> String {
    let locale = if locale.len() <= 35 && locale.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') { locale } else { "" };
    let mut key = String::with_capacity(locale.len() + 1 + rest.len());
    key.push_str(locale);
    key.push(':');
    key.push_str(rest);
    key
}

/// Makes a projection for a locale that none was written for.
fn with_view<T>(locale: &str, make: impl FnOnce(&View) -> T) -> T {
    let shop = config::shop();
    let default_locale = shop.locales.first().map_or("en", String::as_str);
    make(&View { locale, default_locale, currency: &shop.currency })
}

pub fn product(handle: &str, locale: &str) -> Option<wit::Product> {
    if !is_handle(handle) {
        return None;
    }
    let made = || {
        let stored = stored(handle).filter(|_| status(handle).is_sold())?;
        Some(with_view(locale, |view| view.product(&stored)))
    };
    let mut page = read("pages", &key(locale, handle)).or_else(made)?;
    current::product(&mut page);
    Some(page)
}

pub fn summaries(handles: &[String], locale: &str) -> Vec<Option<wit::ProductSummary>> {
    current::summaries(many("summaries", handles, locale, is_handle, |handle| {
        let stored = stored(handle).filter(|_| status(handle).is_listed())?;
        Some(with_view(locale, |view| view.summarised(&stored.product)))
    }))
}

pub fn sellables(skus: &[String], locale: &str) -> Vec<Option<wit::Sellable>> {
    many("sellables", skus, locale, is_sku, |sku| {
        let stored = stored(&owner_of(sku)?).filter(|stored| status(&stored.product.handle).is_sold())?;
        with_view(locale, |view| view.sellable(&stored.product, sku, &tree()))
    })
}

pub fn identities(skus: &[String], locale: &str) -> Vec<Option<catalog_records::Identity>> {
    many("identities", skus, locale, is_sku, |sku| {
        let stored = stored(&owner_of(sku)?)?;
        with_view(locale, |view| view.identity(&stored.product, sku))
    })
}

fn many<T: DeserializeOwned>(
    collection: &str,
    ids: &[String],
    locale: &str,
    allowed: fn(&str) -> bool,
    make: impl Fn(&str) -> Option<T>,
) -> Vec<Option<T>> {
    let asked: Vec<&String> = ids.iter().take(BATCH_MAX).filter(|id| allowed(id)).collect();
    let keys: Vec<String> = asked.iter().map(|id| key(locale, id)).collect();
    let found = if keys.is_empty() { Vec::new() } else { must(storage::get_many(collection, &keys)) };
    let mut found = asked.into_iter().zip(found);
    let answer = ids.iter().map(|id| {
        let stored = if allowed(id) { found.next()?.1 } else { return None };
        stored.and_then(|bytes| decode(&bytes)).or_else(|| make(id))
    });
    answer.collect()
}

pub fn categories(locale: &str) -> Vec<wit::Category> {
    let entries = must(storage::scan("navigation", &storage::prefix(&key(locale, "")), SCAN_MAX, false));
    let pages: Option<Vec<Vec<wit::Category>>> = entries.iter().map(|entry| decode(&entry.value)).collect();
    match pages {
        Some(pages) if !pages.is_empty() => pages.concat(),
        _ => with_view(locale, |view| navigation(view, &tree())),
    }
}

fn navigation(view: &View, tree: &Tree) -> Vec<wit::Category> {
    let count = |handle: &str| must(MEMBERS.get(handle)).try_into().unwrap_or_default();
    tree.in_order().into_iter().map(|category| view.category(category, count(&category.handle))).collect()
}

pub fn browse(category: Option<&str>, locale: &str, sort: Sort, offset: u32, limit: u32) -> wit::Listing {
    let category = match category {
        None => WHOLE_SHOP,
        Some(handle) if is_handle(handle) => handle,
        Some(_) => return wit::Listing { total: 0, products: Vec::new() },
    };
    let total = must(MEMBERS.get(category)).try_into().unwrap_or_default();
    let limit = limit.min(BATCH_MAX as u32);
    if offset >= total || limit == 0 {
        return wit::Listing { total, products: Vec::new() };
    }
    let (letter, reverse) = match sort {
        Sort::Position => ('a', false),
        Sort::Newest => ('c', true),
        Sort::PriceAscending => ('p', false),
        Sort::PriceDescending => ('p', true),
    };
    let prefix = format!("{category}/{letter}/");
    let mut range = storage::prefix(&prefix);
    let mut skip = offset;
    let handles: Vec<String> = loop {
        let wanted = (skip + limit).min(SCAN_MAX);
        let entries = must(storage::scan("listing", &range, wanted, reverse));
        if skip + limit <= SCAN_MAX || entries.len() < SCAN_MAX as usize {
            break (entries.iter().skip(skip as usize).take(limit as usize))
                .filter_map(|entry| entry.key.rsplit('/').next().map(str::to_owned))
                .collect();
        }
        // Leave the last one in: what is skipped must not exceed what was read.
        let passed = skip.min(SCAN_MAX);
        let last = &entries[passed as usize - 1].key;
        match reverse {
            false => range.start = Some(format!("{last}\u{1}")),
            true => range.end = Some(last.clone()),
        }
        skip -= passed;
    };
    wit::Listing { total, products: summaries(&handles, locale).into_iter().flatten().collect() }
}

/// Of those that are listed; empty after the last.
pub fn handles(after: Option<&str>, limit: u32) -> Vec<String> {
    let mut last = after.map(str::to_owned);
    loop {
        let all = all_handles(last.as_deref(), limit);
        let Some(next) = all.last().cloned() else { return all };
        let statuses = statuses(&all);
        let listed: Vec<String> = all.into_iter().zip(statuses).filter(|(_, status)| status.is_listed()).map(|(handle, _)| handle).collect();
        if !listed.is_empty() {
            return listed;
        }
        last = Some(next);
    }
}

pub fn all_handles(after: Option<&str>, limit: u32) -> Vec<String> {
    // The smallest of the collections keyed by handle would be best; products
    // are the one that is never missing.
    let entries = must(storage::scan("products", &storage::after(after), limit.min(SCAN_MAX), false));
    entries.into_iter().map(|entry| entry.key).collect()
}

pub fn tree() -> Tree {
    let (mut categories, mut last): (Vec<Category>, Option<String>) = (Vec::new(), None);
    loop {
        let entries = must(storage::scan("categories", &storage::after(last.as_deref()), SCAN_MAX, false));
        categories.extend(entries.iter().filter_map(|entry| decode::<Category>(&entry.value)));
        match entries.last() {
            Some(entry) if entries.len() == SCAN_MAX as usize => last = Some(entry.key.clone()),
            _ => return Tree::new(categories),
        }
    }
}

/// Writes for one import: everything derived stays in step with the documents.
pub struct Writer {
    shop: config::ShopFacts,
    before: Tree,
    tree: Tree,
    tags: Vec<String>,
}

impl Writer {
    pub fn new(before: Tree, tree: Tree) -> Self {
        Self { shop: config::shop(), before, tree, tags: vec!["catalog".into()] }
    }

    pub fn category(&mut self, category: &Category) {
        put("categories", &category.handle, category);
        self.tags.push(format!("category:{}", category.handle));
    }

    /// Tells of the products of a category that has got another name: plugins that keep it, as
    /// search does, hear of each.
    pub fn renamed(&self, handle: &str) {
        let start = format!("{handle}/a/");
        let mut range = storage::Range { start: Some(start.clone()), end: Some(format!("{handle}/a0")) };
        loop {
            let entries = must(storage::scan("listing", &range, SCAN_MAX, false));
            for product in entries.iter().filter_map(|entry| entry.key.rsplit('/').next()) {
                let revision = stored(product).map_or(0, |stored| stored.revision);
                let payload = serde_json::json!({ "handle": product, "revision": revision });
                must(events::publish_json("catalog.product-changed", product, &payload).map_err(|error| format!("{error:?}")));
            }
            match entries.last() {
                Some(last) if entries.len() == SCAN_MAX as usize => range.start = Some(format!("{}\u{1}", last.key)),
                _ => return,
            }
        }
    }

    /// Adds or replaces a product. Whoever calls has checked it.
    pub fn product(&mut self, old: Option<&Stored>, product: Product, status: Status) {
        let handle = product.handle.clone();
        let mut locales = self.shop.locales.clone();
        locales.sort();
        let new = Stored { revision: old.map_or(1, |old| old.revision + 1), locales, product };
        let was = self::status(&handle);
        if let Some(old) = old {
            self.drop_derived(old, &new);
        }
        put("products", &handle, &new);
        match status {
            _ if status == was => {}
            Status::Active => must(storage::delete("statuses", &handle)),
            status => put("statuses", &handle, &status),
        }
        for variant in &new.product.variants {
            must(storage::put("skus", &variant.sku, handle.as_bytes()));
        }
        for locale in &new.locales {
            self.project(&new, status, locale);
        }
        let listed = |product: &Product, tree: &Tree, status: Status, span: Span| if status.is_listed() { listing_keys(product, tree, span) } else { Vec::new() };
        let bases = Base::of(&new.product);
        let kept: Option<Span> = old.and_then(|_| read("spans", &handle));
        let span = current::spans(std::slice::from_ref(&bases), &self.shop.currency).pop().unwrap_or(Span::of_bases(&bases));
        keep_span(&handle, kept, span, &bases);
        let entries = listed(&new.product, &self.tree, status, span);
        let before = |old: &Stored| kept.unwrap_or_else(|| Span::of_bases(&Base::of(&old.product)));
        let stale = old.map(|old| listed(&old.product, &self.before, was, before(old))).unwrap_or_default();
        for gone in stale.iter().filter(|entry| !entries.contains(entry)) {
            must(storage::delete("listing", gone));
        }
        for entry in entries.iter().filter(|entry| !stale.contains(entry)) {
            must(storage::put("listing", entry, b""));
        }
        let counted = |product: &Product, tree: &Tree, status: Status| if status.is_listed() { groups(product, tree) } else { Vec::new() };
        let chain_before = old.map(|old| counted(&old.product, &self.before, was)).unwrap_or_default();
        let chain = counted(&new.product, &self.tree, status);
        for left in chain_before.iter().filter(|group| !chain.contains(group)) {
            must(MEMBERS.add(left, -1));
        }
        for joined in chain.iter().filter(|group| !chain_before.contains(group)) {
            must(MEMBERS.add(joined, 1));
        }
        self.tags.push(format!("product:{handle}"));
        self.tags.extend(chain.iter().chain(&chain_before).map(|group| format!("category:{group}")));
        let payload = serde_json::json!({ "handle": handle, "revision": new.revision });
        must(events::publish_json("catalog.product-changed", &handle, &payload).map_err(|error| format!("{error:?}")));
    }

    /// What is read in a locale, as far as the status lets it be seen.
    fn project(&self, new: &Stored, status: Status, locale: &str) {
        let view = self.view(locale);
        let at = key(locale, &new.product.handle);
        match status.is_sold() {
            true => put("pages", &at, &view.product(new)),
            false => must(storage::delete("pages", &at)),
        }
        match status.is_listed() {
            true => put("summaries", &at, &view.summarised(&new.product)),
            false => must(storage::delete("summaries", &at)),
        }
        for variant in &new.product.variants {
            let at = key(locale, &variant.sku);
            match view.sellable(&new.product, &variant.sku, &self.tree).filter(|_| status.is_sold()) {
                Some(sellable) => put("sellables", &at, &sellable),
                None => must(storage::delete("sellables", &at)),
            }
            if let Some(identity) = view.identity(&new.product, &variant.sku) {
                put("identities", &at, &identity);
            }
        }
    }

    fn drop_derived(&self, old: &Stored, new: &Stored) {
        let kept = |sku: &str| new.product.variants.iter().any(|variant| variant.sku == sku);
        let gone: Vec<&str> = old.product.variants.iter().map(|it| it.sku.as_str()).filter(|sku| !kept(sku)).collect();
        for sku in &gone {
            // Another product of the same import may have taken it over.
            if owner_of(sku).is_some_and(|owner| owner == old.product.handle) {
                must(storage::delete("skus", sku));
                for locale in &old.locales {
                    drop_of_sku(locale, sku);
                }
            }
        }
        for locale in old.locales.iter().filter(|locale| !new.locales.contains(locale)) {
            must(storage::delete("pages", &key(locale, &old.product.handle)));
            must(storage::delete("summaries", &key(locale, &old.product.handle)));
            for variant in &old.product.variants {
                drop_of_sku(locale, &variant.sku);
            }
        }
    }

    /// Counts are final now: writes what `categories` answers, and drops pages.
    pub fn finish(mut self) {
        let stale = must(storage::scan("navigation", &storage::after(None), SCAN_MAX, false));
        for entry in stale {
            must(storage::delete("navigation", &entry.key));
        }
        for locale in &self.shop.locales {
            let categories = navigation(&self.view(locale), &self.tree);
            for (number, page) in categories.chunks(CATEGORIES_PER_PAGE).enumerate() {
                put("navigation", &key(locale, &format!("{number:04}")), &page);
            }
        }
        self.tags.sort();
        self.tags.dedup();
        pages::invalidate(&self.tags);
    }

    fn view<'a>(&'a self, locale: &'a str) -> View<'a> {
        let default_locale = self.shop.locales.first().map_or("en", String::as_str);
        View { locale, default_locale, currency: &self.shop.currency }
    }
}

fn drop_of_sku(locale: &str, sku: &str) {
    for collection in ["sellables", "identities"] {
        must(storage::delete(collection, &key(locale, sku)));
    }
}

fn groups(product: &Product, tree: &Tree) -> Vec<String> {
    let mut groups = tree.chain(&product.category);
    groups.push(WHOLE_SHOP.into());
    groups
}

fn keep_span(handle: &str, kept: Option<Span>, span: Span, bases: &[Base]) {
    match Some(span).filter(|span| *span != Span::of_bases(bases)) {
        wanted if wanted == kept => {}
        Some(span) => put("spans", handle, &span),
        None => must(storage::delete("spans", handle)),
    }
}

/// Sorts products by what they cost now: some of them, those after `after`. Gives the
/// last of them; none after the end.
pub fn reprice(after: Option<&str>) -> Option<String> {
    let entries = must(storage::scan("products", &storage::after(after), REPRICED_MAX, false));
    let last = entries.last().filter(|_| entries.len() == REPRICED_MAX as usize).map(|entry| entry.key.clone());
    let products: Vec<Product> = entries.iter().filter_map(|entry| decode::<Stored>(&entry.value)).map(|stored| stored.product).collect();
    let handles: Vec<String> = products.iter().map(|product| product.handle.clone()).collect();
    let known = if handles.is_empty() { Vec::new() } else { must(storage::get_many("spans", &handles)) };
    let bases: Vec<Vec<Base>> = products.iter().map(Base::of).collect();
    let spans = current::spans(&bases, &config::shop().currency);
    let statuses = statuses(&handles);
    let tree = tree();
    let mut moved: Vec<&str> = Vec::new();
    for (place, product) in products.iter().enumerate() {
        let kept: Option<Span> = known[place].as_ref().and_then(|bytes| decode(bytes));
        let (was, now) = (kept.unwrap_or_else(|| Span::of_bases(&bases[place])), spans[place]);
        if now == was {
            continue;
        }
        keep_span(&product.handle, kept, now, &bases[place]);
        if statuses[place].is_listed() {
            let (stale, entries) = (listing_keys(product, &tree, was), listing_keys(product, &tree, now));
            for gone in stale.iter().filter(|entry| !entries.contains(entry)) {
                must(storage::delete("listing", gone));
            }
            for entry in entries.iter().filter(|entry| !stale.contains(entry)) {
                must(storage::put("listing", entry, b""));
            }
            moved.push(&product.handle);
        }
    }
    for handles in moved.chunks(HANDLES_TOLD_MAX) {
        let payload = serde_json::json!({ "handles": handles });
        must(events::publish_json("catalog.prices-changed", handles[0], &payload).map_err(|error| format!("{error:?}")));
    }
    if !moved.is_empty() {
        // What others show of them was dropped when the prices changed.
        pages::invalidate(&["price-order".into()]);
    }
    last
}

fn listing_keys(product: &Product, tree: &Tree, span: Span) -> Vec<String> {
    let rank = tree.rank(&product.category);
    let created = created_ms(product).unwrap_or_default();
    let values = [
        ('a', format!("{rank:04x}{:08x}", product.position)),
        ('c', ordered(created as i64)),
        ('p', ordered(span.min)),
    ];
    let keys = groups(product, tree).into_iter().flat_map(|group| {
        values.clone().map(|(letter, value)| format!("{group}/{letter}/{value}/{}", product.handle))
    });
    keys.collect()
}
