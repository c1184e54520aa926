//! Files of stock: `import-stock` and `export-stock`. The inventory counts whatever it is told; which
//! skus there are, only the catalogue knows, so that a sku which no product has is refused here.
//! What a sku names is never taken for another variant, whatever else its row says.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use souk_sdk::commerce::commitments;
use souk_sdk::commerce::stock_counts::{self, Count, Outcome as Set, Policy, Stock};
use souk_sdk::table::{self, Table, guarded};

use crate::document::{Fault, is_sku};
use crate::import::{Counts, Options, Outcome};
use crate::{locations, store};

const SKU: [&str; 2] = ["sku", "variant sku"];
/// Of the shelf.
const ON_HAND: [&str; 6] = ["on hand", "on-hand", "quantity", "stock", "variant inventory qty", "inventory quantity"];
const POLICY: [&str; 2] = ["stock policy", "policy"];
const POLICIES: [(&str, Policy); 3] = [("deny", Policy::Deny), ("continue-selling", Policy::ContinueSelling), ("untracked", Policy::Untracked)];
/// Skus that are asked for at once.
const ASKED_MAX: usize = 1_000;

/// The inventory, as far as imports need it.
pub trait Shelf {
    /// With `true` only says what would come of it.
    fn set(&self, counts: &[Count], dry_run: bool) -> Vec<Set>;
    fn get(&self, skus: &[String]) -> Vec<Stock>;
    /// What may be sold.
    fn available(&self, skus: &[String]) -> Vec<i64>;
}

/// The plugin that exports `souk:commerce/stock-counts`.
pub struct Inventory;

impl Shelf for Inventory {
    fn set(&self, counts: &[Count], dry_run: bool) -> Vec<Set> {
        if counts.is_empty() { Vec::new() } else { stock_counts::set(counts, dry_run) }
    }

    fn get(&self, skus: &[String]) -> Vec<Stock> {
        skus.chunks(ASKED_MAX).flat_map(stock_counts::get).collect()
    }

    fn available(&self, skus: &[String]) -> Vec<i64> {
        skus.chunks(ASKED_MAX).flat_map(commitments::counts).map(|count| count.available).collect()
    }
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// All that lies there: what is paid and not sent as well.
    OnHand(i64),
    /// What may be sold.
    Available(i64),
}

/// What a file says of one sku.
#[derive(Debug)]
pub struct Entry {
    pub line: u64,
    pub sku: String,
    /// None leaves the count.
    pub level: Option<Level>,
    /// None leaves the policy.
    pub policy: Option<Policy>,
    /// What could not be read.
    pub faults: Vec<Fault>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Row {
    /// From 1: the line of a table, the place in a list.
    pub line: u64,
    pub sku: String,
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
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
    pub summary: Vec<Counts>,
    pub rows: Vec<Row>,
    /// Of a table: the rows that were refused, as a file to put right and import.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
}

/// JSON (a catalogue, or a list of skus) or a table.
pub fn import(input: &[u8], options: Options, shelf: &dyn Shelf) -> Result<Report, String> {
    let text = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    if matches!(text.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'[')) {
        return Ok(apply(from_json(text)?, options, shelf));
    }
    table(&Table::read(input, options.encoding).map_err(|error| error.to_string())?, options, shelf)
}

/// With a column for the location it is Shopify's file, else one of skus.
pub fn table(table: &Table, options: Options, shelf: &dyn Shelf) -> Result<Report, String> {
    let read = SKU.iter().chain(&ON_HAND).chain(&POLICY).chain(&["available", "location", "handle"]);
    crate::table::no_doubled(table, |name| read.clone().any(|known| known.eq_ignore_ascii_case(name)))?;
    let entries = if locations::is_one(table) { locations::read(table) } else { from_table(table)? };
    let mut report = apply(entries, options, shelf);
    let reasons: BTreeMap<u64, String> = (report.rows.iter())
        .filter(|row| row.outcome == Outcome::Refused)
        .map(|row| (row.line, row.faults.iter().map(|fault| format!("{}: {}; {}", fault.field, fault.problem, fault.remedy)).collect::<Vec<_>>().join(" | ")))
        .collect();
    report.rejects = (!reasons.is_empty()).then(|| crate::table::rejected(table, &reasons));
    Ok(report)
}

/// `{"products": [{"variants": [{"sku", "stock"}]}]}`, or `[{"sku", "quantity"}]`.
fn from_json(input: &[u8]) -> Result<Vec<Entry>, String> {
    let value: Value = serde_json::from_slice(input).map_err(|error| format!("the input is not JSON: {error}"))?;
    let (rows, field): (Vec<&Value>, &str) = match (&value, value.get("products").and_then(Value::as_array)) {
        (Value::Array(rows), _) => (rows.iter().collect(), "quantity"),
        (_, Some(products)) => (products.iter().filter_map(|product| product.get("variants").and_then(Value::as_array)).flatten().collect(), "stock"),
        _ => return Err("the input is neither a list of skus with quantities nor an object with `products`".into()),
    };
    let entry = |(place, row): (usize, &Value)| {
        let given = |field: &str| row.get(field).filter(|value| !value.is_null()).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let line = place as u64 + 1;
        let (text, counts): (_, fn(i64) -> Level) = match given("on-hand").or_else(|| given(field)) {
            Some(text) => (Some(text), Level::OnHand),
            None => (given("available"), Level::Available),
        };
        let mut faults = Vec::new();
        let level = text.as_deref().and_then(|text| level(text, counts, "quantity", &mut faults));
        let policy = given("policy").and_then(|word| policy(&word, "policy", &mut faults));
        Entry { line, sku: row.get("sku").and_then(Value::as_str).unwrap_or_default().trim().to_owned(), level, policy, faults }
    };
    Ok(rows.into_iter().enumerate().map(entry).collect())
}

fn from_table(table: &Table) -> Result<Vec<Entry>, String> {
    let missing = |column: &str| format!("line {}: there is no column {column}: is this a file of stock?", table.line);
    let sku = table.find(&SKU).ok_or_else(|| missing("`SKU`"))?;
    let policies = table.find(&POLICY);
    let shelf = table.find(&ON_HAND).map(|place| (Level::OnHand as fn(i64) -> Level, place));
    let (counts, quantity) = (shelf.or_else(|| table.find(&["available"]).map(|place| (Level::Available as fn(i64) -> Level, place))))
        .ok_or_else(|| missing("`On hand` (or `quantity`), and none `available`"))?;
    let entries = table.rows.iter().map(|row| {
        let cell = |place: usize| Some(row.cell(place)).filter(|text| !text.is_empty());
        let field = |name: &str| format!("line {}: {name}", row.line);
        let mut faults = Vec::new();
        let level = cell(quantity).and_then(|text| level(text, counts, &field("quantity"), &mut faults));
        let policy = policies.and_then(cell).and_then(|word| policy(word, &field("Stock policy"), &mut faults));
        Entry { line: row.line, sku: row.cell(sku).to_owned(), level, policy, faults }
    });
    Ok(entries.filter(|entry| !entry.sku.is_empty() || entry.level.is_some() || !entry.faults.is_empty()).collect())
}

/// A whole number, also as a spreadsheet writes it.
pub fn level(text: &str, counts: fn(i64) -> Level, field: &str, faults: &mut Vec<Fault>) -> Option<Level> {
    let number = text.strip_suffix(".0").unwrap_or(text).parse().ok();
    if number.is_none() {
        faults.push(Fault::new(field, format!("`{text:.60}` is not a quantity"), "use a whole number"));
    }
    number.map(counts)
}

fn policy(word: &str, field: &str, faults: &mut Vec<Fault>) -> Option<Policy> {
    let known = POLICIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, policy)| *policy);
    if known.is_none() {
        faults.push(Fault::new(field, format!("`{word:.60}` is no stock policy"), "use deny, continue-selling or untracked"));
    }
    known
}

fn policy_name(policy: Policy) -> &'static str {
    POLICIES.iter().find(|(_, known)| *known == policy).map_or("deny", |(name, _)| name)
}

/// Every row is checked first; then what is right is written, or nothing where all or nothing is wanted.
pub fn apply(mut entries: Vec<Entry>, options: Options, shelf: &dyn Shelf) -> Report {
    let known: Vec<bool> = entries.iter().map(|entry| is_sku(&entry.sku) && store::owner_of(&entry.sku).is_some()).collect();
    // Which of them is meant cannot be told: none is.
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<String> = entries.iter().filter(|entry| says_something(entry) && !seen.insert(&entry.sku)).map(|entry| entry.sku.clone()).collect();
    for (entry, known) in entries.iter_mut().zip(&known) {
        let mut fault = |problem: String, remedy: &str| entry.faults.push(Fault::new("SKU", problem, remedy));
        if !is_sku(&entry.sku) {
            fault(if entry.sku.is_empty() { "there is none".into() } else { format!("`{:.60}` is not a sku", entry.sku) }, "use 1 to 100 ASCII characters without blanks");
        } else if twice.contains(&entry.sku) {
            fault(format!("`{}` occurs more than once in this file", entry.sku), "leave one row of it");
        } else if !known && !options.create {
            fault(format!("no product has `{}`", entry.sku), "correct it, or import the product first; --create counts it all the same");
        }
    }
    let skus: Vec<String> = entries.iter().filter(|entry| entry.faults.is_empty()).map(|entry| entry.sku.clone()).collect();
    let (stocks, available) = (shelf.get(&skus), shelf.available(&skus));
    let mut before = stocks.into_iter().zip(available);
    let mut planned: Vec<(Count, Vec<String>)> = Vec::new();
    let mut place_of: Vec<Option<usize>> = Vec::new();
    for entry in &entries {
        let Some((stock, available)) = entry.faults.is_empty().then(|| before.next()).flatten() else {
            place_of.push(None);
            continue;
        };
        place_of.push(Some(planned.len()));
        planned.push(plan(entry, &stock, available));
    }
    let counts: Vec<Count> = planned.iter().map(|(count, _)| count.clone()).collect();
    let looked = shelf.set(&counts, true);
    let mut report = Report { dry_run: options.dry_run, ..Report::default() };
    let mut fitting = Vec::new();
    for ((entry, known), place) in entries.into_iter().zip(known).zip(place_of) {
        let Entry { line, sku, mut faults, .. } = entry;
        let mut outcome = Outcome::Refused;
        let mut changes = Vec::new();
        if let Some((count, told)) = place.and_then(|place| planned.get(place)) {
            match place.and_then(|place| looked.get(place)) {
                Some(Set::Refused(refusal)) => faults.push(Fault::new("quantity", &refusal.problem, &refusal.remedy)),
                Some(Set::Changed) => {
                    outcome = if known { Outcome::Updated } else { Outcome::Created };
                    changes.clone_from(told);
                    fitting.push(count.clone());
                }
                _ => outcome = Outcome::Unchanged,
            }
        }
        report.rows.push(Row { line, sku, outcome, faults, changes });
    }
    report.rows.sort_by_key(|row| row.line);
    let outcomes = report.rows.iter().map(|row| row.outcome);
    report.summary = vec![Counts::of_outcomes("stock", outcomes.clone())];
    let count = |wanted: Outcome| outcomes.clone().filter(|outcome| *outcome == wanted).count() as u32;
    (report.created, report.updated, report.unchanged, report.refused) = (count(Outcome::Created), count(Outcome::Updated), count(Outcome::Unchanged), count(Outcome::Refused));
    report.applied = !options.dry_run && (report.refused == 0 || options.partial);
    if report.applied {
        // They were looked at in this unit: nothing has changed since.
        shelf.set(&fitting, false);
    }
    report
}

fn says_something(entry: &Entry) -> bool {
    entry.level.is_some() || entry.policy.is_some()
}

/// What is to be set, and what changes by it.
fn plan(entry: &Entry, stock: &Stock, available: i64) -> (Count, Vec<String>) {
    let quantity = entry.level.map(|level| match level {
        Level::OnHand(quantity) => quantity,
        Level::Available(quantity) => stock.quantity.saturating_add(quantity).saturating_sub(available),
    });
    let count = Count { sku: entry.sku.clone(), quantity, policy: entry.policy };
    let changes = changes(&count, stock);
    (count, changes)
}

/// From what to what.
pub fn changes(count: &Count, stock: &Stock) -> Vec<String> {
    let quantity = count.quantity.filter(|quantity| *quantity != stock.quantity).map(|quantity| format!("on hand {} → {quantity}", stock.quantity));
    let policy = count.policy.filter(|policy| *policy != stock.policy).map(|policy| format!("policy {} → {}", policy_name(stock.policy), policy_name(policy)));
    quantity.into_iter().chain(policy).collect()
}

/// What [`import`] reads back: all skus, with what is on hand of each.
pub fn export(shelf: &dyn Shelf) -> Vec<u8> {
    let mut rows = vec![["SKU", "Product", "On hand", "Stock policy"].map(str::to_owned)];
    let mut last: Option<String> = None;
    loop {
        let owned = store::skus(last.as_deref(), ASKED_MAX as u32);
        let Some((sku, _)) = owned.last() else { return table::write(rows) };
        last = Some(sku.clone());
        let skus: Vec<String> = owned.iter().map(|(sku, _)| sku.clone()).collect();
        let row = |((sku, product), stock): ((String, String), Stock)| {
            [crate::table::as_text(&sku), guarded(&product), stock.quantity.to_string(), policy_name(stock.policy).to_owned()]
        };
        rows.extend(owned.into_iter().zip(shelf.get(&skus)).map(row));
    }
}
