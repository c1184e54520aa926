//! Imports: every row is read and checked first, and only if none has a fault
//! is anything written. One unit of work, so a crash leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_sdk::{clock, config};

use crate::document::{Category, Fault, Product, Stored, Tree};
use crate::store::{self, Writer};
use crate::table;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Created,
    Updated,
    Unchanged,
    /// Left out on purpose, for instance a draft.
    Skipped,
    Refused,
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
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub applied: bool,
    pub dry_run: bool,
    pub created: u32,
    pub updated: u32,
    pub unchanged: u32,
    pub skipped: u32,
    pub refused: u32,
    pub categories: Vec<Row>,
    pub products: Vec<Row>,
}

/// A product as a file has it, with what could not be read of it.
pub struct Candidate {
    pub line: u64,
    pub handle: String,
    /// `Err`: it has faults already, or is skipped when there are none.
    pub product: Result<Product, Vec<Fault>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    #[serde(default)]
    categories: Vec<Value>,
    #[serde(default)]
    products: Vec<Value>,
}

pub fn catalogue(input: &[u8], dry_run: bool) -> Result<Report, String> {
    let catalogue: Catalogue = serde_json::from_slice(input)
        .map_err(|error| format!("the input is not an object with `categories` and `products`: {error}"))?;
    let categories = catalogue.categories.into_iter().map(|value| typed::<Category>(value)).collect();
    let products = (catalogue.products.into_iter().enumerate())
        .map(|(place, mut value)| {
            // Stock belongs to the inventory, which imports the same file.
            for variant in value.get_mut("variants").and_then(Value::as_array_mut).into_iter().flatten() {
                variant.as_object_mut().map(|variant| variant.remove("stock"));
            }
            let (handle, product) = typed(value);
            Candidate { line: place as u64 + 1, handle, product }
        })
        .collect();
    Ok(apply(categories, products, dry_run))
}

/// A CSV table of products: see [`table`].
pub fn products(input: &[u8], dry_run: bool) -> Result<Report, String> {
    let (shop, tree) = (config::shop(), store::tree());
    let shop = table::Shop { currency: &shop.currency, locales: &shop.locales };
    let known = |handle: &str| store::stored(handle).map(|stored| stored.product);
    let (categories, products) = table::read(input, &shop, |handle| tree.get(handle).is_some(), known)?;
    let categories = categories.into_iter().map(|category| (category.handle.clone(), Ok(category))).collect();
    Ok(apply(categories, products, dry_run))
}

fn typed<T: for<'a> Deserialize<'a>>(value: Value) -> (String, Result<T, Vec<Fault>>) {
    let handle = value.get("handle").and_then(Value::as_str).unwrap_or_default().to_owned();
    let typed = serde_path_to_error::deserialize(value).map_err(|error| {
        vec![Fault::new(error.path().to_string(), error.inner().to_string(), "see the format in the plugin's README")]
    });
    (handle, typed)
}

pub fn apply(categories: Vec<(String, Result<Category, Vec<Fault>>)>, products: Vec<Candidate>, dry_run: bool) -> Report {
    let before = store::tree();
    let mut tree = before.clone();
    let mut report = Report { dry_run, ..Report::default() };

    tree.extend(categories.iter().filter_map(|(_, category)| category.as_ref().ok()).cloned());
    let mut seen = BTreeSet::new();
    for (place, (handle, category)) in categories.iter().enumerate() {
        let mut faults = category.as_ref().err().cloned().unwrap_or_else(|| tree.faults(handle));
        if !seen.insert(handle) {
            faults.push(Fault::new("handle", "it occurs twice in this import", "remove one of them"));
        }
        let outcome = match (before.get(handle), faults.is_empty()) {
            (_, false) => Outcome::Refused,
            (None, _) => Outcome::Created,
            (old, _) if old == tree.get(handle) => Outcome::Unchanged,
            _ => Outcome::Updated,
        };
        report.categories.push(Row { line: place as u64 + 1, handle: handle.clone(), outcome, faults });
    }

    let (rows, writes) = check(products, &tree);
    report.products = rows;
    report.count();
    if dry_run || report.refused > 0 {
        return report;
    }
    write(&report, before, tree, writes);
    report.applied = true;
    report
}

type Write = (Option<Stored>, Product);

fn check(products: Vec<Candidate>, tree: &Tree) -> (Vec<Row>, Vec<Write>) {
    let now = jiff::Timestamp::from_millisecond(clock::now_ms() as i64).unwrap_or_default().to_string();
    // Which of this import's products has a sku, and which skus it gives up.
    let mut takes: BTreeMap<String, String> = BTreeMap::new();
    let imported: BTreeMap<String, BTreeSet<String>> = (products.iter())
        .filter_map(|candidate| candidate.product.as_ref().ok())
        .map(|product| (product.handle.clone(), product.variants.iter().map(|variant| variant.sku.clone()).collect()))
        .collect();
    let mut seen = BTreeSet::new();
    let (mut rows, mut writes) = (Vec::new(), Vec::new());
    for Candidate { line, handle, product } in products {
        let mut product = match product {
            Ok(product) => product,
            Err(faults) => {
                let outcome = if faults.is_empty() { Outcome::Skipped } else { Outcome::Refused };
                rows.push(Row { line, handle, outcome, faults });
                continue;
            }
        };
        product.normalise();
        let mut faults = product.faults();
        if !seen.insert(handle.clone()) {
            faults.push(Fault::new("handle", "it occurs twice in this import", "remove one of them"));
        }
        if tree.get(&product.category).is_none() {
            let problem = format!("there is no category `{}`", product.category);
            faults.push(Fault::new("category", problem, "import the category first, or name one that exists"));
        }
        for variant in product.variants.iter().filter(|variant| crate::document::is_sku(&variant.sku)) {
            let other = takes.insert(variant.sku.clone(), handle.clone()).filter(|other| *other != handle).or_else(|| {
                let owner = store::owner_of(&variant.sku).filter(|owner| *owner != handle)?;
                // The owner may give it up in this very import.
                imported.get(&owner).is_none_or(|skus| skus.contains(&variant.sku)).then_some(owner)
            });
            if let Some(other) = other {
                let problem = format!("`{}` belongs to product `{other}`", variant.sku);
                faults.push(Fault::new("sku", problem, "give this variant another sku"));
            }
        }
        if !faults.is_empty() {
            rows.push(Row { line, handle, outcome: Outcome::Refused, faults });
            continue;
        }
        let old = store::stored(&handle);
        if product.created_at.is_empty() {
            product.created_at = old.as_ref().map_or_else(|| now.clone(), |old| old.product.created_at.clone());
        }
        let outcome = match &old {
            None => Outcome::Created,
            Some(old) if old.product == product => Outcome::Unchanged,
            Some(_) => Outcome::Updated,
        };
        if outcome != Outcome::Unchanged {
            writes.push((old, product));
        }
        rows.push(Row { line, handle, outcome, faults });
    }
    (rows, writes)
}

fn write(report: &Report, before: Tree, tree: Tree, writes: Vec<Write>) {
    let changed: Vec<&Row> = report.categories.iter().filter(|row| row.outcome != Outcome::Unchanged).collect();
    if changed.is_empty() && writes.is_empty() {
        return;
    }
    // Ranks and ancestors are part of what is derived from every product.
    let moved = !before.same_shape(&tree);
    let written: BTreeSet<String> = writes.iter().map(|(_, product)| product.handle.clone()).collect();
    let mut writer = Writer::new(before, tree.clone());
    for row in changed {
        if let Some(category) = tree.get(&row.handle) {
            writer.category(category);
        }
    }
    for (old, product) in writes {
        writer.product(old.as_ref(), product);
    }
    if moved {
        let mut last: Option<String> = None;
        loop {
            let handles = store::handles(last.as_deref(), 1_000);
            let Some(next) = handles.last().cloned() else { break };
            for handle in handles.iter().filter(|handle| !written.contains(*handle)) {
                if let Some(old) = store::stored(handle) {
                    writer.product(Some(&old), old.product.clone());
                }
            }
            last = Some(next);
        }
    }
    writer.finish();
}

impl Report {
    fn count(&mut self) {
        for row in self.categories.iter().chain(&self.products) {
            let count = match row.outcome {
                Outcome::Created => &mut self.created,
                Outcome::Updated => &mut self.updated,
                Outcome::Unchanged => &mut self.unchanged,
                Outcome::Skipped => &mut self.skipped,
                Outcome::Refused => &mut self.refused,
            };
            *count += 1;
        }
    }
}
