//! Shopify's inventory file: a row for each variant at each location. The shop
//! has one stock, which is the sum of them. Products themselves stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use souk_sdk::config;
use souk_sdk::table::{Row, Table};

use crate::document::{Fault, Product, handle_of, is_handle, is_sku, sku_beside, sku_of};
use crate::stock::{Entry, Level, level};
use crate::store;

const LOCATION: &[&str] = &["Location"];
/// What was entered goes before what was there, what is there before what is free.
const ON_HAND: [&[&str]; 3] = [&["On hand (new)"], &["On hand (current)", "On hand"], &["Available (not editable)", "Available"]];
const HANDLE: &[&str] = &["Handle", "URL handle"];
const SKU: &[&str] = &["SKU"];
/// Shopify's word for a variant that a location does not have.
const NOT_STOCKED: &str = "not stocked";

/// Whether a table is such a file, and none of products.
pub fn is_one(table: &Table) -> bool {
    table.find(LOCATION).is_some() && ON_HAND.iter().any(|names| table.find(names).is_some())
}

/// One for each sku, with the sum of its locations, and one for each row that cannot be read.
pub fn read(table: &Table) -> Vec<Entry> {
    // By sku: its first line and the sum.
    let mut sums: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    let mut broken: Vec<Entry> = Vec::new();
    // A sum without one of its parts is a wrong count.
    let mut incomplete: BTreeSet<String> = BTreeSet::new();
    for row in &table.rows {
        let refused = |sku: &str, faults| Entry { line: row.line, sku: sku.to_owned(), level: None, policy: None, faults };
        let sku = match variant(table, row) {
            Ok(sku) => sku,
            Err(fault) => {
                broken.push(refused(table.find(SKU).map_or("", |place| row.cell(place)), vec![fault]));
                continue;
            }
        };
        let told = ON_HAND.iter().filter_map(|names| table.find(names)).map(|place| row.cell(place)).find(|cell| !cell.is_empty());
        let Some(text) = told.filter(|text| !text.eq_ignore_ascii_case(NOT_STOCKED)) else { continue };
        let mut faults = Vec::new();
        match level(text, Level::OnHand, &format!("line {}: On hand", row.line), &mut faults) {
            Some(Level::OnHand(quantity) | Level::Available(quantity)) => {
                let sum = sums.entry(sku).or_insert((row.line, 0));
                sum.1 = sum.1.saturating_add(quantity);
            }
            None => {
                broken.push(refused(&sku, faults));
                incomplete.insert(sku);
            }
        }
    }
    let whole = sums.into_iter().filter(|(sku, _)| !incomplete.contains(sku));
    let entries = whole.map(|(sku, (line, sum))| Entry { line, sku, level: Some(Level::OnHand(sum)), policy: None, faults: Vec::new() });
    entries.chain(broken).collect()
}

/// By its sku; only a row without one means the variant that has its handle and the values of its options.
fn variant(table: &Table, row: &Row) -> Result<String, Fault> {
    let cell = |names: &[&str]| table.find(names).map_or("", |place| row.cell(place));
    let (handle, written) = (handle_of(cell(HANDLE)), cell(SKU));
    let fault = |problem: String, remedy: &str| Fault::new(format!("line {}: SKU", row.line), problem, remedy);
    let values: Vec<&str> = (1..=3).map(|number| cell(&[&format!("Option{number} Value")])).filter(|value| !value.is_empty() && *value != "Default Title").collect();
    if written.is_empty() {
        let product = if is_handle(&handle) { store::stored(&handle).map(|stored| stored.product) } else { None };
        let found = product.as_ref().and_then(|product| product.variants.iter().find(|variant| value_names(product, &variant.options) == values));
        return found.map(|variant| variant.sku.clone()).ok_or_else(|| fault("no product has this variant".into(), "import the products first"));
    }
    let sku = sku_of(written);
    // Where the sku belonged to another variant already, the import of products gave it one beside.
    let beside = sku_beside(&sku, &handle, &values);
    let owner = if is_sku(&sku) { store::owner_of(&sku) } else { None };
    match owner {
        Some(owner) if cell(HANDLE).is_empty() || owner == handle => Ok(sku),
        _ if store::owner_of(&beside).is_some_and(|owner| owner == handle) => Ok(beside),
        Some(owner) => Err(fault(format!("`{sku}` belongs to product `{owner}`, and the row names `{handle}`"), "correct one of the two")),
        None => Err(fault(format!("no product has `{written:.60}`"), "correct it, or import the product first")),
    }
}

fn value_names<'p>(product: &'p Product, ids: &'p [String]) -> Vec<&'p str> {
    let locale = config::shop().locales.into_iter().next().unwrap_or_default();
    let name = |(option, id): (&'p crate::document::ProductOption, &'p String)| {
        option.values.iter().find(|value| value.id == *id).map_or(id.as_str(), |value| value.name.pick(&locale, &locale))
    };
    product.options.iter().zip(ids).map(name).collect()
}
