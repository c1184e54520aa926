//! `souk list`: what plugins list, one line for each thing.
//!
//! A command whose manifest names `columns` answers with a JSON list of
//! objects, takes `limit=N`, and goes on behind what `after=` says: the first
//! column of the last row seen.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::control::{Answer, Question, Rows, ask};
use super::table::Table;
use super::{StoreArgument, out_of_place};
use crate::shop::settings::StoreFolder;

#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    store: StoreArgument,
    /// `orders`, `products`, …: a plugin's command `list-<what>`. Without it, what there is to list.
    what: Option<String>,
    /// So many lines at most.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=LIMIT_MAX))]
    limit: u32,
    /// Go on behind this one: the first column of the last line seen.
    #[arg(long)]
    after: Option<String>,
    /// Whole, as JSON.
    #[arg(long)]
    json: bool,
    /// `name=value`: what else the command takes.
    arguments: Vec<String>,
}

const LIMIT_MAX: i64 = 500;

pub async fn run(list: List) -> Result<()> {
    let folder = list.store.folder();
    let Some(what) = &list.what else { return lists(&folder, list.json).await };
    let mut arguments = list.arguments.iter().map(|argument| named(argument)).collect::<Result<Vec<_>>>()?;
    // One more says whether there are more.
    arguments.push(("limit".into(), (list.limit + 1).to_string()));
    arguments.extend(list.after.iter().map(|after| ("after".to_owned(), after.clone())));
    let Answer::Rows(answered) = ask(&folder, Question::List { name: format!("list-{what}"), arguments }).await? else { return Err(out_of_place()) };
    for (nth, rows) in answered.iter().enumerate() {
        show(rows, &list, what, nth == 0)?;
    }
    Ok(())
}

pub(super) fn named(argument: &str) -> Result<(String, String)> {
    argument.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).with_context(|| format!("`{argument}`: write name=value"))
}

async fn lists(folder: &StoreFolder, json: bool) -> Result<()> {
    let Answer::Lists(lists) = ask(folder, Question::Lists).await? else { return Err(out_of_place()) };
    if json {
        return super::print_json(&lists);
    }
    let mut table = Table::new(["list", "of", "what"]);
    lists.into_iter().for_each(|[name, plugin, description]| table.row([name, plugin, description]));
    table.print();
    Ok(())
}

fn show(rows: &Rows, list: &List, what: &str, is_first: bool) -> Result<()> {
    let value: Value = serde_json::from_slice(&rows.output).with_context(|| format!("`{}` did not answer with JSON", rows.command))?;
    let Value::Array(mut all) = value else { anyhow::bail!("`{}` did not answer with a list", rows.command) };
    ensure!(!rows.columns.is_empty(), "`{}` names no columns: see it by `souk plugin run {}`", rows.command, rows.command);
    let more = all.len() > list.limit as usize;
    all.truncate(list.limit as usize);
    if list.json {
        return super::print_json(&all);
    }
    if !is_first {
        say!("");
    }
    if all.is_empty() {
        say!("none");
        return Ok(());
    }
    let mut table = Table::new(rows.columns.iter().map(|column| heading(column)));
    all.iter().for_each(|row| table.row(rows.columns.iter().map(|column| cell(row, column, &rows.time_zone))));
    table.print();
    if more && let Some(last) = all.last().filter(|_| is_first) {
        let limit = if list.limit == 20 { String::new() } else { format!(" --limit {}", list.limit) };
        say!("more: souk list {what}{limit} --after {}", cell(last, &rows.columns[0], &rows.time_zone));
    }
    Ok(())
}

/// `totals.grand_total` is headed `grand total`.
fn heading(column: &str) -> String {
    let name = column.rsplit('.').next().unwrap_or(column);
    name.trim_end_matches("_ms").trim_end_matches("-ms").replace(['_', '-'], " ")
}

fn cell(row: &Value, column: &str, time_zone: &str) -> String {
    let value = column.split('.').fold(row, |value, member| &value[member]);
    let is_time = column.ends_with("_ms") || column.ends_with("-ms");
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(ms) if is_time => ms.as_i64().map_or_else(String::new, |ms| time(ms, time_zone)),
        // A sum of money, in the currency's smallest unit.
        Value::Object(money) => match (money.get("amount").and_then(Value::as_i64), money.get("currency").and_then(Value::as_str)) {
            (Some(amount), Some(currency)) => crate::money::decimal(amount, currency),
            _ => value.to_string(),
        },
        Value::Array(parts) => parts.len().to_string(),
        other => other.to_string(),
    }
}

pub(super) fn time(ms: i64, time_zone: &str) -> String {
    let zone = jiff::tz::TimeZone::get(time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| "-".into(), |at| zone.to_datetime(at).strftime("%F %H:%M").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_read_as_people_write_them() {
        let row = serde_json::json!({ "number": "A-1", "created_ms": 1_780_272_000_000_i64, "totals": { "grand_total": { "amount": 1250, "currency": "CNY" } }, "lines": [1, 2], "note": null });
        let shown = ["number", "created_ms", "totals.grand_total", "lines", "note"].map(|column| cell(&row, column, "Asia/Shanghai"));
        assert_eq!(shown, ["A-1", "2026-06-01 08:00", "12.50 CNY", "2", ""]);
        assert_eq!(["totals.grand_total", "created_ms"].map(heading), ["grand total", "created"]);
    }
}
