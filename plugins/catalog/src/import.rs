//! Imports: every row is read and checked first, then what is right is written
//! and what is not is told of with its line, or, where the operator wants all or
//! nothing, nothing is written. One unit of work, so a crash leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_sdk::commerce::stock_counts::{self, Count};
use souk_sdk::table::Table;
use souk_sdk::{clock, config};

use crate::document::{Category, Fault, Product, Status, Stored, Tree, is_sku};
use crate::store::{self, Writer};
use crate::stock::{self, Shelf};
use crate::{changes, table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Created,
    Updated,
    Unchanged,
    Refused,
}

/// How the operator wants it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    pub dry_run: bool,
    /// What is right goes in, whatever is refused beside it.
    pub partial: bool,
    /// Variants and pictures that the import does not name are taken out.
    pub prune: bool,
    /// Stock is counted of skus that no product has.
    pub create: bool,
    pub encoding: Option<&'a str>,
}

/// What became of one row: a line of CSV, or an entry of a JSON list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// From 1. In CSV the line on which the row begins, else the place in the list.
    pub line: u64,
    pub handle: String,
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What was done otherwise than it is written, and what goes or stays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// From what to what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub applied: bool,
    pub dry_run: bool,
    pub created: u32,
    pub updated: u32,
    pub unchanged: u32,
    pub refused: u32,
    /// The same, apart for each kind of thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub summary: Vec<Counts>,
    /// Pictures that lie elsewhere, by the origin that `image-origins` has to allow.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub picture_origins: BTreeMap<String, u32>,
    pub categories: Vec<Row>,
    pub products: Vec<Row>,
    /// Of a table: the rows that were refused, as a file to put right and import.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
}

/// What became of things of one kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct Counts {
    pub of: &'static str,
    pub new: u32,
    pub changed: u32,
    pub unchanged: u32,
    pub rejected: u32,
}

impl Counts {
    fn new(of: &'static str) -> Self {
        Self { of, ..Self::default() }
    }

    fn add(&mut self, outcome: Outcome, count: u32) {
        *match outcome {
            Outcome::Created => &mut self.new,
            Outcome::Updated => &mut self.changed,
            Outcome::Unchanged => &mut self.unchanged,
            Outcome::Refused => &mut self.rejected,
        } += count;
    }

    pub fn of_outcomes(of: &'static str, outcomes: impl Iterator<Item = Outcome>) -> Self {
        let mut counts = Self::new(of);
        outcomes.for_each(|outcome| counts.add(outcome, 1));
        counts
    }
}

/// A product as a file has it, with what could not be read of it.
pub struct Candidate {
    pub line: u64,
    /// All of its lines.
    pub lines: Vec<u64>,
    pub handle: String,
    pub product: Result<Product, Vec<Fault>>,
    /// None leaves it.
    pub status: Option<Status>,
    pub counts: Vec<Count>,
    pub notes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    #[serde(default)]
    categories: Vec<Value>,
    #[serde(default)]
    products: Vec<Value>,
}

pub fn catalogue(input: &[u8], options: Options, shelf: &dyn Shelf) -> Result<Report, String> {
    let catalogue: Catalogue = serde_json::from_slice(input)
        .map_err(|error| format!("the input is not an object with `categories` and `products`: {error}"))?;
    let categories = catalogue.categories.into_iter().map(|value| typed::<Category>(value)).collect();
    let products = (catalogue.products.into_iter().enumerate())
        .map(|(place, mut value)| {
            // Stock belongs to the inventory, which imports the same file.
            for variant in value.get_mut("variants").and_then(Value::as_array_mut).into_iter().flatten() {
                variant.as_object_mut().map(|variant| variant.remove("stock"));
            }
            let status = value.as_object_mut().and_then(|product| product.remove("status")).map(serde_json::from_value);
            let (handle, mut product) = typed(value);
            if let Some(Err(error)) = &status {
                product = Err(vec![Fault::new("status", error.to_string(), "use active, unlisted, draft or archived")]);
            }
            let line = place as u64 + 1;
            Candidate { line, lines: vec![line], handle, product, status: status.and_then(Result::ok), counts: Vec::new(), notes: Vec::new() }
        })
        .collect();
    Ok(apply(categories, products, options, shelf))
}

/// A table of products, see [`table`].
pub fn products(table: Table, options: Options, shelf: &dyn Shelf) -> Result<Report, String> {
    let (shop, tree) = (config::shop(), store::tree());
    let shop = table::Shop { currency: &shop.currency, locales: &shop.locales };
    let product = |handle: &str| store::stored(handle).map(|stored| stored.product);
    let known = table::Known { categories: &tree, product: &product, owner: &store::owner_of };
    let mut file = table::read(table, &shop, &known)?;
    let candidates = std::mem::take(&mut file.products);
    let lines: BTreeMap<u64, Vec<u64>> = candidates.iter().map(|candidate| (candidate.line, candidate.lines.clone())).collect();
    // Not those of which every product is refused.
    let used: BTreeSet<&String> = candidates.iter().filter_map(|candidate| candidate.product.as_ref().ok()).map(|product| &product.category).collect();
    let categories = std::mem::take(&mut file.categories).into_iter().filter(|category| used.contains(&category.handle));
    let categories = categories.map(|category| (category.handle.clone(), Ok(category))).collect();
    let mut report = apply(categories, candidates, options, shelf);
    let mut reasons: BTreeMap<u64, String> = BTreeMap::new();
    for row in report.products.iter().filter(|row| row.outcome == Outcome::Refused) {
        let said = row.faults.iter().map(|fault| format!("{}: {}; {}", fault.field, fault.problem, fault.remedy)).collect::<Vec<_>>().join(" | ");
        for (place, line) in lines.get(&row.line).into_iter().flatten().enumerate() {
            reasons.insert(*line, if place == 0 { said.clone() } else { String::new() });
        }
    }
    report.rejects = (!reasons.is_empty()).then(|| file.rejects(&reasons));
    Ok(report)
}

fn typed<T: for<'a> Deserialize<'a>>(value: Value) -> (String, Result<T, Vec<Fault>>) {
    let handle = value.get("handle").and_then(Value::as_str).unwrap_or_default().to_owned();
    let typed = serde_path_to_error::deserialize(value).map_err(|error| {
        vec![Fault::new(error.path().to_string(), error.inner().to_string(), "see the format in the plugin's README")]
    });
    (handle, typed)
}

pub fn apply(categories: Vec<(String, Result<Category, Vec<Fault>>)>, products: Vec<Candidate>, options: Options, shelf: &dyn Shelf) -> Report {
    let before = store::tree();
    let (rows, tree) = check_categories(&categories, &before);
    let mut report = Report { dry_run: options.dry_run, categories: rows, ..Report::default() };
    let sizes: BTreeMap<u64, u32> = products.iter().map(|candidate| (candidate.line, candidate.product.as_ref().map_or(candidate.lines.len(), |product| product.variants.len()) as u32)).collect();
    let (rows, writes) = check(products, &tree, options, shelf);
    report.products = rows;
    report.count();
    let mut variants = Counts::new("variants");
    for row in report.products.iter().filter(|row| row.outcome == Outcome::Refused) {
        variants.add(Outcome::Refused, sizes.get(&row.line).copied().unwrap_or(1));
    }
    for Write { old, product, .. } in &writes {
        for variant in &product.variants {
            let before = old.as_ref().and_then(|old| old.product.variants.iter().find(|before| before.sku == variant.sku));
            variants.add(before.map_or(Outcome::Created, |before| if before == variant { Outcome::Unchanged } else { Outcome::Updated }), 1);
        }
        for origin in product.images.iter().filter_map(|image| origin(image)) {
            *report.picture_origins.entry(origin).or_default() += 1;
        }
    }
    report.summary = vec![Counts::of_outcomes("products", report.products.iter().map(|row| row.outcome)), Counts::of_outcomes("categories", report.categories.iter().map(|row| row.outcome)), variants];
    if options.dry_run || (report.refused > 0 && !options.partial) {
        return report;
    }
    write(&report, before, tree, writes, shelf);
    report.applied = true;
    report
}

/// `https://cdn.example` of a picture's whole address.
fn origin(image: &str) -> Option<String> {
    let (scheme, rest) = image.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
    Some(format!("{}://{}", scheme.to_lowercase(), host.to_lowercase()))
}

/// The tree as it will be. A category that is refused is not in it, nor what would be below it.
fn check_categories(categories: &[(String, Result<Category, Vec<Fault>>)], before: &Tree) -> (Vec<Row>, Tree) {
    let locales = config::shop().locales;
    let mut faults: Vec<Vec<Fault>> = Vec::new();
    let mut seen = BTreeSet::new();
    for (handle, category) in categories {
        let mut own = category.as_ref().err().cloned().unwrap_or_default();
        if !seen.insert(handle) {
            own.push(Fault::new("handle", "it occurs twice in this import", "remove one of them"));
        }
        faults.push(own);
    }
    let tree = loop {
        let mut tree = before.clone();
        tree.extend(categories.iter().zip(&faults).filter(|(_, faults)| faults.is_empty()).filter_map(|((_, category), _)| category.as_ref().ok()).cloned());
        let mut refused = false;
        for ((handle, _), faults) in categories.iter().zip(&mut faults).filter(|(_, faults)| faults.is_empty()) {
            *faults = tree.faults(handle);
            refused |= !faults.is_empty();
        }
        if !refused {
            break tree;
        }
    };
    let row = |(place, ((handle, _), faults)): (usize, (&(String, Result<Category, Vec<Fault>>), Vec<Fault>))| {
        let outcome = match (before.get(handle), faults.is_empty()) {
            (_, false) => Outcome::Refused,
            (None, _) => Outcome::Created,
            (old, _) if old == tree.get(handle) => Outcome::Unchanged,
            _ => Outcome::Updated,
        };
        let changes = before.get(handle).zip(tree.get(handle)).filter(|_| outcome == Outcome::Updated);
        let changes = changes.map(|(before, after)| changes::of_category(before, after, &locales)).unwrap_or_default();
        Row { line: place as u64 + 1, handle: handle.clone(), outcome, faults, notes: Vec::new(), changes }
    };
    (categories.iter().zip(faults).enumerate().map(row).collect(), tree)
}

struct Write {
    old: Option<Stored>,
    product: Product,
    status: Status,
    counts: Vec<Count>,
    changed: bool,
}

fn check(products: Vec<Candidate>, tree: &Tree, options: Options, shelf: &dyn Shelf) -> (Vec<Row>, Vec<Write>) {
    let now = jiff::Timestamp::from_millisecond(clock::now_ms() as i64).unwrap_or_default().to_string();
    // Which skus each of this import's products has: others it gives up.
    let imported: BTreeMap<String, BTreeSet<String>> = (products.iter())
        .filter_map(|candidate| candidate.product.as_ref().ok())
        .map(|product| (product.handle.clone(), product.variants.iter().map(|variant| variant.sku.clone()).collect()))
        .collect();
    let mut takes: BTreeMap<String, String> = BTreeMap::new();
    // Products that take a sku, with those that give it up.
    let mut taken_from: Vec<(String, String)> = Vec::new();
    let mut seen = BTreeSet::new();
    // Which of them is meant cannot be told: none is.
    let twice: BTreeSet<String> = products.iter().filter(|candidate| !seen.insert(&candidate.handle)).map(|candidate| candidate.handle.clone()).collect();
    let mut checked: Vec<(Row, Option<Write>)> = Vec::new();
    let shop = config::shop();
    for Candidate { line, handle, product, status, counts, mut notes, .. } in products {
        let old = if crate::document::is_handle(&handle) { store::stored(&handle) } else { None };
        let (product, mut faults) = match product {
            Ok(product) => prepared(product, old.as_ref(), options.prune, &mut notes),
            Err(faults) => (None, faults),
        };
        if twice.contains(&handle) && !handle.is_empty() {
            faults.push(Fault::new("handle", "it occurs more than once in this import", "leave one of them"));
        }
        let was = old.as_ref().map_or(Status::Active, |_| store::status(&handle));
        let status = status.unwrap_or(was);
        if status != was && old.is_some() {
            notes.push(format!("{} before, {} now", was.name(), status.name()));
        }
        if status != Status::Active && status != was && !store::knows_statuses() {
            let problem = format!("the documents of this shop have the first form, which cannot keep that a product is {}", status.name());
            faults.push(Fault::new("status", problem, "run `souk plugin data migrate catalog`, which has them in the second form from then on"));
        }
        let mut hands: Vec<(String, String)> = Vec::new();
        if let Some(product) = &product {
            faults.extend(product.faults());
            if tree.get(&product.category).is_none() {
                let problem = format!("there is no category `{}`", product.category);
                faults.push(Fault::new("category", problem, "import the category first, or name one that exists"));
            }
            for variant in product.variants.iter().filter(|variant| is_sku(&variant.sku)) {
                let owner = store::owner_of(&variant.sku).filter(|owner| *owner != handle);
                let gives_up = |owner: &String| imported.get(owner).is_some_and(|skus| !skus.contains(&variant.sku));
                let here = takes.get(&variant.sku).filter(|other| **other != handle).cloned();
                match here.or_else(|| owner.clone().filter(|owner| !gives_up(owner))) {
                    Some(other) => faults.push(Fault::new("sku", format!("`{}` belongs to product `{other}`", variant.sku), "give this variant another sku")),
                    None => hands.extend(owner.map(|owner| (handle.clone(), owner))),
                }
            }
        }
        let Some(mut product) = product.filter(|_| faults.is_empty()) else {
            checked.push((Row { line, handle, outcome: Outcome::Refused, faults, notes, changes: Vec::new() }, None));
            continue;
        };
        takes.extend(product.variants.iter().map(|variant| (variant.sku.clone(), handle.clone())));
        taken_from.extend(hands);
        if product.created_at.is_empty() {
            product.created_at = old.as_ref().map_or_else(|| now.clone(), |old| old.product.created_at.clone());
        }
        let outcome = match &old {
            None => Outcome::Created,
            Some(old) if old.product == product && status == was => Outcome::Unchanged,
            Some(_) => Outcome::Updated,
        };
        let changed = outcome != Outcome::Unchanged;
        let changes = old.as_ref().map(|old| changes::of(&old.product, &product, &shop)).unwrap_or_default();
        checked.push((Row { line, handle, outcome, faults, notes, changes }, Some(Write { old, product, status, counts, changed })));
    }
    check_stock(&mut checked, shelf);
    check_hands(&mut checked, &taken_from);
    let (rows, writes): (Vec<Row>, Vec<Option<Write>>) = checked.into_iter().unzip();
    (rows, writes.into_iter().flatten().collect())
}

/// As it will be stored, with what the shop has beside it.
fn prepared(mut product: Product, old: Option<&Stored>, prune: bool, notes: &mut Vec<String>) -> (Option<Product>, Vec<Fault>) {
    product.normalise();
    let Some(old) = old else { return (Some(product), Vec::new()) };
    let missing = product.missing_of(&old.product);
    let named = |what: &str, all: &[String]| {
        let few = all.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("{} {what}{} ({few}{})", all.len(), if all.len() == 1 { "" } else { "s" }, if all.len() > 5 { ", …" } else { "" })
    };
    let parts = [("variant", &missing.variants), ("picture", &missing.images)];
    for (what, all) in parts.into_iter().filter(|(_, all)| !all.is_empty()) {
        let named = named(what, all);
        notes.push(match (prune, all.len()) {
            (true, 1) => format!("{named} goes"),
            (true, _) => format!("{named} go"),
            (false, 1) => format!("{named} is not in the file and stays; --prune takes it out"),
            (false, _) => format!("{named} are not in the file and stay; --prune takes them out"),
        });
    }
    for variant in &product.variants {
        let before = old.product.variants.iter().find(|before| before.sku != variant.sku && before.options == variant.options && product.options.len() == old.product.options.len());
        if let Some(before) = before.filter(|before| !product.variants.iter().any(|other| other.sku == before.sku)) {
            notes.push(format!("the sku `{}` becomes `{}`", before.sku, variant.sku));
        }
    }
    if !prune {
        if let Err(fault) = product.keep(&old.product, &missing) {
            return (None, vec![fault]);
        }
        product.normalise();
    }
    (Some(product), Vec::new())
}

/// Stock that cannot be set keeps its product out: both come from the same rows.
fn check_stock(checked: &mut [(Row, Option<Write>)], shelf: &dyn Shelf) {
    let counts: Vec<Count> = checked.iter().filter_map(|(_, write)| write.as_ref()).flat_map(|write| write.counts.clone()).collect();
    let skus: Vec<String> = counts.iter().map(|count| count.sku.clone()).collect();
    let mut outcomes = shelf.set(&counts, true).into_iter().zip(shelf.get(&skus));
    for (row, write) in checked {
        let Some(planned) = write else { continue };
        for count in &planned.counts {
            match outcomes.next() {
                Some((stock_counts::Outcome::Refused(refusal), _)) => {
                    row.faults.push(Fault::new(format!("Inventory quantity of `{}`", count.sku), refusal.problem, refusal.remedy));
                }
                Some((stock_counts::Outcome::Changed, stock)) => {
                    let told = stock::changes(count, &stock).into_iter().map(|change| format!("{}: {change}", count.sku));
                    row.changes.extend(told.filter(|_| row.outcome != Outcome::Created));
                    if row.outcome == Outcome::Unchanged {
                        row.outcome = Outcome::Updated;
                    }
                }
                _ => {}
            }
        }
        if !row.faults.is_empty() {
            row.outcome = Outcome::Refused;
            *write = None;
        }
    }
}

/// A sku changes hands only where both products go in.
fn check_hands(checked: &mut [(Row, Option<Write>)], taken_from: &[(String, String)]) {
    loop {
        let refused: BTreeSet<String> = checked.iter().filter(|(row, _)| row.outcome == Outcome::Refused).map(|(row, _)| row.handle.clone()).collect();
        let broken = checked.iter_mut().find_map(|(row, write)| {
            let owner = taken_from.iter().find(|(taker, owner)| write.is_some() && *taker == row.handle && refused.contains(owner))?.1.clone();
            Some((row, write, owner))
        });
        let Some((row, write, owner)) = broken else { return };
        row.faults.push(Fault::new("sku", format!("one of its skus belongs to product `{owner}`, which is refused"), "put that one right first"));
        row.outcome = Outcome::Refused;
        *write = None;
    }
}

fn write(report: &Report, before: Tree, tree: Tree, writes: Vec<Write>, shelf: &dyn Shelf) {
    let counts: Vec<Count> = writes.iter().flat_map(|write| write.counts.clone()).collect();
    // They were looked at in this unit: nothing has changed since.
    shelf.set(&counts, false);
    let writes: Vec<Write> = writes.into_iter().filter(|write| write.changed).collect();
    let changed: Vec<&Row> = report.categories.iter().filter(|row| matches!(row.outcome, Outcome::Created | Outcome::Updated)).collect();
    if changed.is_empty() && writes.is_empty() {
        return;
    }
    // Ranks and ancestors are part of what is derived from every product.
    let moved = !before.same_shape(&tree);
    let written: BTreeSet<String> = writes.iter().map(|write| write.product.handle.clone()).collect();
    let is_renamed = |handle: &str| before.get(handle).zip(tree.get(handle)).is_some_and(|(before, now)| before.name != now.name);
    // Where all products are written anew, all are told of anyway.
    let renamed: Vec<String> = changed.iter().filter(|row| !moved && is_renamed(&row.handle)).map(|row| row.handle.clone()).collect();
    let mut writer = Writer::new(before, tree.clone());
    for row in changed {
        if let Some(category) = tree.get(&row.handle) {
            writer.category(category);
        }
    }
    renamed.iter().for_each(|handle| writer.renamed(handle));
    for Write { old, product, status, .. } in writes {
        writer.product(old.as_ref(), product, status);
    }
    if moved {
        let mut last: Option<String> = None;
        loop {
            let handles = store::all_handles(last.as_deref(), 1_000);
            let Some(next) = handles.last().cloned() else { break };
            for handle in handles.iter().filter(|handle| !written.contains(*handle)) {
                if let Some(old) = store::stored(handle) {
                    writer.product(Some(&old), old.product.clone(), store::status(handle));
                }
            }
            last = Some(next);
        }
    }
    writer.finish();
}

impl Report {
    pub fn count(&mut self) {
        for row in self.categories.iter().chain(&self.products) {
            let count = match row.outcome {
                Outcome::Created => &mut self.created,
                Outcome::Updated => &mut self.updated,
                Outcome::Unchanged => &mut self.unchanged,
                Outcome::Refused => &mut self.refused,
            };
            *count += 1;
        }
    }
}
