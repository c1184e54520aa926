//! `import-stock`: reads quantities of skus from JSON or CSV. What a file of
//! products says of stock comes with the products: see [`counts`].

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use souk_sdk::commerce::stock_counts::Outcome as Set;
use souk_sdk::table::Table;

use crate::{counts, stock};

/// How the operator wants it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    pub dry_run: bool,
    /// What is right goes in, whatever is refused beside it.
    pub partial: bool,
    pub encoding: Option<&'a str>,
}

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
pub fn run(input: &[u8], options: Options) -> Result<Report, String> {
    let text = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    let entries = if matches!(first, Some(b'{' | b'[')) { from_json(text)? } else { from_csv(input, options.encoding)? };

    let mut report = Report { dry_run: options.dry_run, ..Report::default() };
    let mut seen = BTreeSet::new();
    for entry in entries {
        let twice = !entry.sku.is_empty() && entry.quantity.is_some() && !seen.insert(entry.sku.clone());
        let row = if twice {
            refused(entry.line, &entry.sku, "sku", "it occurs twice in this import".into(), "remove one of the rows")
        } else {
            set(entry, options.dry_run)
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
    report.applied = !options.dry_run && (report.refused == 0 || options.partial);
    Ok(report)
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
    // As a spreadsheet writes whole numbers.
    let Ok(quantity) = text.strip_suffix(".0").unwrap_or(&text).parse::<i64>() else {
        return refused(line, &sku, "quantity", format!("`{text:.60}` is not a quantity"), "use a whole number");
    };
    match counts::set_one(&sku, Some((counts, quantity)), None, dry_run) {
        Ok(Set::Changed) => done(sku, Outcome::Updated),
        Ok(_) => done(sku, Outcome::Unchanged),
        Err(refusal) => refused(line, &sku, "quantity", refusal.problem, &refusal.remedy),
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

fn from_csv(input: &[u8], encoding: Option<&str>) -> Result<Vec<Entry>, String> {
    let table = Table::read(input, encoding).map_err(|error| error.to_string())?;
    let missing = |column: &str| format!("line {}: there is no column {column}", table.line);
    let sku = table.find(&["sku", "variant sku"]).ok_or_else(|| missing("`sku`"))?;
    let shelf = table.find(&QUANTITY_COLUMNS).map(|place| (Counts::Shelf, place));
    let (counts, quantity) = (shelf.or_else(|| table.find(&["available"]).map(|place| (Counts::Available, place))))
        .ok_or_else(|| missing("`quantity` (of the shelf) or `available`"))?;
    let entries = table.rows.iter().map(|row| Entry {
        line: row.line,
        sku: row.cell(sku).to_owned(),
        counts,
        quantity: Some(row.cell(quantity)).filter(|text| !text.is_empty()).map(str::to_owned),
    });
    Ok(entries.filter(|entry| !entry.sku.is_empty() || entry.quantity.is_some()).collect())
}
