//! Shopify's inventory file: a row for each variant at each location. The shop
//! has one stock, which is the sum of them. Products themselves stay as they are.

use std::collections::BTreeMap;

use souk_sdk::commerce::stock_counts::{Count, Outcome as Set};
use souk_sdk::config;
use souk_sdk::table::{Row, Table};

use crate::document::{Fault, Product, handle_of, sku_of};
use crate::import::{self, Options, Outcome, Report, SetStock};
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

pub fn import(table: &Table, options: Options, stock: &SetStock) -> Report {
    let mut report = Report { dry_run: options.dry_run, ..Report::default() };
    // By sku: its first line and the sum of its locations.
    let mut sums: BTreeMap<String, (u64, String, i64)> = BTreeMap::new();
    for row in &table.rows {
        match read(table, row) {
            Ok(None) => {}
            Ok(Some((handle, sku, quantity))) => {
                let sum = sums.entry(sku).or_insert((row.line, handle, 0));
                sum.2 = sum.2.saturating_add(quantity);
            }
            Err((handle, fault)) => report.products.push(import::Row { line: row.line, handle, outcome: Outcome::Refused, faults: vec![fault], notes: Vec::new() }),
        }
    }
    // A sum without one of its parts is a wrong count.
    let broken: Vec<u64> = report.products.iter().map(|row| row.line).collect();
    let broken_skus: Vec<String> = table.rows.iter().filter(|row| broken.contains(&row.line)).filter_map(|row| variant(table, row).ok()).map(|(_, sku)| sku).collect();
    sums.retain(|sku, _| !broken_skus.contains(sku));
    let counts: Vec<Count> = sums.iter().map(|(sku, (.., quantity))| Count { sku: sku.clone(), quantity: Some(*quantity), policy: None }).collect();
    let looked = if counts.is_empty() { Vec::new() } else { stock(&counts, true) };
    let mut fitting = Vec::new();
    for (((sku, (line, handle, quantity)), count), outcome) in sums.into_iter().zip(counts).zip(looked) {
        let (outcome, faults) = match outcome {
            Set::Unchanged => (Outcome::Unchanged, Vec::new()),
            Set::Changed => (Outcome::Updated, Vec::new()),
            Set::Refused(refusal) => (Outcome::Refused, vec![Fault::new(format!("On hand of `{sku}`"), refusal.problem, refusal.remedy)]),
        };
        if outcome == Outcome::Updated {
            fitting.push(count);
        }
        report.products.push(import::Row { line, handle, outcome, faults, notes: vec![format!("{quantity} of `{sku}`")] });
    }
    report.products.sort_by_key(|row| row.line);
    report.count();
    report.applied = !options.dry_run && (report.refused == 0 || options.partial);
    if report.applied && !fitting.is_empty() {
        stock(&fitting, false);
    }
    report
}

/// Product, sku and quantity; `None` where the location does not have it.
fn read(table: &Table, row: &Row) -> Result<Option<(String, String, i64)>, (String, Fault)> {
    let (handle, sku) = variant(table, row)?;
    let told = ON_HAND.iter().filter_map(|names| table.find(names)).map(|place| row.cell(place)).find(|cell| !cell.is_empty());
    let Some(text) = told.filter(|text| !text.eq_ignore_ascii_case(NOT_STOCKED)) else { return Ok(None) };
    match text.strip_suffix(".0").unwrap_or(text).parse() {
        Ok(quantity) => Ok(Some((handle, sku, quantity))),
        Err(_) => Err((handle, Fault::new(format!("line {}: On hand", row.line), format!("`{text:.60}` is not a quantity"), "use a whole number"))),
    }
}

/// By its sku, else by the product's handle and the values of its options.
fn variant(table: &Table, row: &Row) -> Result<(String, String), (String, Fault)> {
    let cell = |names: &[&str]| table.find(names).map_or("", |place| row.cell(place));
    let (handle, sku) = (handle_of(cell(HANDLE)), cell(SKU));
    if !sku.is_empty() {
        let sku = sku_of(sku);
        if let Some(owner) = store::owner_of(&sku) && (cell(HANDLE).is_empty() || owner == handle) {
            return Ok((owner, sku));
        }
    }
    let product = if crate::document::is_handle(&handle) { store::stored(&handle).map(|stored| stored.product) } else { None };
    let values: Vec<&str> = (1..=3).map(|number| cell(&[&format!("Option{number} Value")])).filter(|value| !value.is_empty() && *value != "Default Title").collect();
    let found = product.as_ref().and_then(|product| Some((product, product.variants.iter().find(|variant| value_names(product, &variant.options) == values)?)));
    found.map(|(product, variant)| (product.handle.clone(), variant.sku.clone())).ok_or_else(|| {
        let fault = Fault::new(format!("line {}: SKU", row.line), "no product has this variant".to_owned(), "import the products first");
        (handle, fault)
    })
}

fn value_names<'p>(product: &'p Product, ids: &'p [String]) -> Vec<&'p str> {
    let locale = config::shop().locales.into_iter().next().unwrap_or_default();
    let name = |(option, id): (&'p crate::document::ProductOption, &'p String)| {
        option.values.iter().find(|value| value.id == *id).map_or(id.as_str(), |value| value.name.pick(&locale, &locale))
    };
    product.options.iter().zip(ids).map(name).collect()
}
