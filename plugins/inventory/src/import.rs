//! `import-stock`: reads quantities from JSON or CSV. All rows or none.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::stock;

/// Far more than any warehouse, far less than 64 bits.
const QUANTITY_MAX: i64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Updated,
    Unchanged,
    /// The row says nothing about stock.
    Untouched,
    Refused,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Row {
    /// From 1: the line of a CSV, the place in a list.
    pub line: u64,
    pub sku: String,
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub problem: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub applied: bool,
    pub dry_run: bool,
    pub updated: u32,
    pub unchanged: u32,
    pub untouched: u32,
    pub refused: u32,
    pub rows: Vec<Row>,
}

/// Of the shelf.
const QUANTITY_COLUMNS: [&str; 5] = ["on-hand", "quantity", "stock", "variant inventory qty", "inventory quantity"];

/// What a count counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// All that lies there: what is paid and not sent as well.
    Shelf,
    /// What may be sold.
    Available,
}

struct Entry {
    line: u64,
    sku: String,
    counts: Counts,
    /// As written; `None` leaves the sku alone.
    quantity: Option<String>,
}

/// Of one sku, for a command; without a quantity it only looks whether it can be one.
pub fn count(sku: &str, quantity: Option<(Counts, &str)>, dry_run: bool) -> Row {
    let (counts, quantity) = quantity.map_or((Counts::Shelf, None), |(counts, quantity)| (counts, Some(quantity.to_owned())));
    set(Entry { line: 0, sku: sku.to_owned(), counts, quantity }, dry_run)
}

/// An `Err` makes the host roll the unit back, so nothing is half applied.
pub fn run(input: &[u8], dry_run: bool) -> Result<Report, String> {
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let first = input.iter().find(|byte| !byte.is_ascii_whitespace());
    let entries = if matches!(first, Some(b'{' | b'[')) { from_json(input)? } else { from_csv(input)? };

    let mut report = Report { dry_run, ..Report::default() };
    let mut seen = BTreeSet::new();
    for entry in entries {
        let twice = !entry.sku.is_empty() && entry.quantity.is_some() && !seen.insert(entry.sku.clone());
        let row = if twice {
            refused(entry.line, &entry.sku, "sku", "it occurs twice in this import".into(), "remove one of the rows")
        } else {
            set(entry, dry_run)
        };
        let count = match row.outcome {
            Outcome::Updated => &mut report.updated,
            Outcome::Unchanged => &mut report.unchanged,
            Outcome::Untouched => &mut report.untouched,
            Outcome::Refused => &mut report.refused,
        };
        *count += 1;
        report.rows.push(row);
    }
    report.applied = !dry_run && report.refused == 0;
    Ok(report)
}

/// A products file, which may say nothing of stock.
pub fn products(input: &[u8], dry_run: bool) -> Result<Report, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
    let header = reader.headers().map_err(|error| unreadable(&error))?;
    let speaks_of_stock = header.iter().any(|name| QUANTITY_COLUMNS.iter().any(|wanted| name.trim().eq_ignore_ascii_case(wanted)));
    if speaks_of_stock { run(input, dry_run) } else { Ok(Report { dry_run, ..Report::default() }) }
}

fn refused(line: u64, sku: &str, field: &str, problem: String, remedy: &str) -> Row {
    Row { line, sku: sku.into(), outcome: Outcome::Refused, field: field.into(), problem, remedy: remedy.into() }
}

fn set(Entry { line, sku, counts, quantity }: Entry, dry_run: bool) -> Row {
    let done = |sku, outcome| Row { line, sku, outcome, field: String::new(), problem: String::new(), remedy: String::new() };
    let Some(text) = quantity else { return done(sku, Outcome::Untouched) };
    if !stock::is_sku(&sku) {
        return refused(line, &sku, "sku", format!("`{sku}` is not a sku"), "use 1 to 100 ASCII characters without blanks");
    }
    let Some(quantity) = text.parse::<i64>().ok().filter(|it| (0..=QUANTITY_MAX).contains(it)) else {
        return refused(line, &sku, "quantity", format!("`{text}` is not a quantity"), "use a whole number from 0 to 10^9");
    };
    let (on_hand, available) = (stock::on_hand(&sku), stock::available(&sku));
    if quantity == if counts == Counts::Shelf { on_hand } else { available } {
        return done(sku, Outcome::Unchanged);
    }
    let held = on_hand - available;
    let refusal = match counts {
        Counts::Shelf if dry_run => (quantity < held).then_some(held),
        Counts::Shelf => stock::set_on_hand(&sku, quantity).err(),
        Counts::Available if dry_run => None,
        Counts::Available => stock::set_available(&sku, quantity).err(),
    };
    match refusal {
        None => done(sku, Outcome::Updated),
        Some(held) => {
            let problem = format!("{held} are held for orders, {quantity} would be on hand");
            refused(line, &sku, "quantity", problem, "cancel orders first, or import at least what is held")
        }
    }
}

/// `{"products": [{"variants": [{"sku", "stock"}]}]}`, or `[{"sku", "quantity"}]`.
fn from_json(input: &[u8]) -> Result<Vec<Entry>, String> {
    let value: Value = serde_json::from_slice(input).map_err(|error| format!("the input is not JSON: {error}"))?;
    let empty = Vec::new();
    let rows: Vec<(&Value, &str)> = match &value {
        Value::Array(rows) => rows.iter().map(|row| (row, "quantity")).collect(),
        _ => {
            let products = value.get("products").and_then(Value::as_array).unwrap_or(&empty);
            let variants = products.iter().filter_map(|product| product.get("variants").and_then(Value::as_array)).flatten();
            variants.map(|variant| (variant, "stock")).collect()
        }
    };
    let entries = rows.into_iter().enumerate().map(|(place, (row, field))| {
        let given = |field: &str| row.get(field).filter(|value| !value.is_null()).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let shelf = given("on-hand").or_else(|| given(field));
        let (counts, quantity) = match shelf {
            None => (Counts::Available, given("available")),
            shelf => (Counts::Shelf, shelf),
        };
        Entry { line: place as u64 + 1, sku: row.get("sku").and_then(Value::as_str).unwrap_or_default().to_owned(), counts, quantity }
    });
    Ok(entries.collect())
}

fn from_csv(input: &[u8]) -> Result<Vec<Entry>, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
    let header = reader.headers().map_err(|error| unreadable(&error))?.clone();
    let column = |names: &[&str]| header.iter().position(|name| names.iter().any(|wanted| name.trim().eq_ignore_ascii_case(wanted)));
    let sku = column(&["sku", "variant sku"]).ok_or("line 1: there is no column `sku` (Shopify: `Variant SKU` or `SKU`)")?;
    let (counts, quantity) = column(&QUANTITY_COLUMNS)
        .map(|place| (Counts::Shelf, place))
        .or_else(|| column(&["available"]).map(|place| (Counts::Available, place)))
        .ok_or("line 1: there is no column `quantity` (of the shelf; Shopify: `Variant Inventory Qty` or `Inventory quantity`) or `available`")?;
    let handle = column(&["handle", "url handle"]);
    let marks: Vec<usize> = [column(&["option1 value"]), column(&["variant price", "price"])].into_iter().flatten().collect();
    let mut variants: BTreeMap<String, u32> = BTreeMap::new();
    let mut entries = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| unreadable(&error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |place: usize| record.get(place).unwrap_or_default().trim();
        let quantity = Some(cell(quantity)).filter(|text| !text.is_empty()).map(|text| plain(text).to_owned());
        let mut sku = plain(cell(sku)).to_owned();
        let is_variant = !sku.is_empty() || marks.iter().any(|place| !cell(*place).is_empty());
        if let Some(handle) = handle.map(cell).filter(|handle| !handle.is_empty() && is_variant) {
            let number = variants.entry(handle.to_owned()).or_default();
            *number += 1;
            // The catalogue names variants without a sku in the same way.
            if sku.is_empty() {
                sku = format!("{}-{number}", handle.to_ascii_uppercase());
            }
        }
        if !sku.is_empty() || quantity.is_some() {
            entries.push(Entry { line, sku, counts, quantity });
        }
    }
    Ok(entries)
}

/// A cell that would start a formula is written with an apostrophe before it.
fn plain(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if rest.starts_with(['=', '+', '-', '@', '\t', '\r']) => rest,
        _ => cell,
    }
}

fn unreadable(error: &csv::Error) -> String {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => format!("line {line}: the text is not UTF-8; save the file as UTF-8 (not GBK) and import it again"),
        _ => format!("line {line}: {error}"),
    }
}
