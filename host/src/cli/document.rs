//! What a plugin's command has answered in JSON, as people read it.
//!
//! One rule for all commands: a list of objects is a table, an object is a line
//! for each member, with tables and other objects set in below their names. Times
//! (`…_ms`) are the shop's, sums of money decimal. What is empty is left out, but for lists.

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::table::Table;
use crate::local_time;

/// JSON whose members stay in the order in which the plugin wrote them.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    Plain(Value),
    List(Vec<Document>),
    Object(Vec<(String, Document)>),
}

const NOTHING: Document = Document::Plain(Value::Null);
const INDENT: &str = "  ";

impl Document {
    /// `totals.total`: one member within another.
    fn at(&self, column: &str) -> &Self {
        column.split('.').fold(self, |document, member| match document {
            Self::Object(members) => members.iter().find(|(name, _)| name == member).map_or(&NOTHING, |(_, value)| value),
            _ => &NOTHING,
        })
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Plain(Value::Null) => true,
            Self::Plain(Value::String(text)) => text.is_empty(),
            Self::Plain(_) => false,
            Self::List(items) => items.iter().all(Self::is_empty),
            Self::Object(members) => members.iter().all(|(_, value)| value.is_empty()),
        }
    }

    fn number(&self) -> Option<i64> {
        if let Self::Plain(value) = self { value.as_i64() } else { None }
    }

    /// A sum of money, in the currency's smallest unit.
    fn money(&self) -> Option<String> {
        let Self::Object(members) = self else { return None };
        let Self::Plain(Value::String(currency)) = self.at("currency") else { return None };
        let amount = self.at("amount").number().filter(|_| members.len() == 2)?;
        Some(crate::money::decimal(amount, currency))
    }

    fn is_object(&self) -> bool {
        matches!(self, Self::Object(_)) && self.money().is_none()
    }

    /// Whether it takes lines of its own.
    fn is_section(&self) -> bool {
        self.is_object() || matches!(self, Self::List(items) if items.iter().any(Self::is_object))
    }

    /// What is in a column, in one line.
    pub fn cell(&self, column: &str, time_zone: &str) -> String {
        self.at(column).text(column, time_zone)
    }

    /// As a table shows it, or a line: of what is deeper, names or how many there are. Its name says whether it is a time.
    fn text(&self, name: &str, time_zone: &str) -> String {
        let is_time = name.ends_with("_ms") || name.ends_with("-ms");
        match self {
            Self::Plain(Value::Null) => String::new(),
            Self::Plain(Value::String(text)) => text.clone(),
            Self::Plain(Value::Bool(is)) => if *is { "yes" } else { "no" }.into(),
            Self::Plain(Value::Number(_)) if is_time => self.number().map_or_else(String::new, |ms| time(ms, time_zone)),
            Self::Plain(other) => other.to_string(),
            Self::List(items) if items.iter().any(Self::is_section) => items.len().to_string(),
            Self::List(items) => items.iter().map(|item| item.text(name, time_zone)).collect::<Vec<_>>().join(", "),
            Self::Object(members) => self.money().unwrap_or_else(|| {
                let told = members.iter().filter(|(_, value)| !value.is_empty());
                told.map(|(name, value)| if value.is_section() { heading(name) } else { format!("{} {}", heading(name), value.text(name, time_zone)) }).collect::<Vec<_>>().join(", ")
            }),
        }
    }

    /// With the columns that a manifest names, or else all there is.
    pub fn lines(&self, columns: &[String], time_zone: &str, width: Option<usize>) -> Vec<String> {
        match self {
            Self::List(items) if items.is_empty() => vec!["none".into()],
            Self::List(items) if items.iter().any(Self::is_object) => {
                let table = table(items, columns, time_zone);
                // Nobody has said which columns matter most.
                let is_too_wide = columns.is_empty() && table.note(width).is_some();
                if is_too_wide { blocks(items, time_zone, width) } else { table.lines_and_note(width) }
            }
            Self::List(items) => items.iter().map(|item| item.text("", time_zone)).collect(),
            Self::Object(members) if self.is_object() => {
                let all: Vec<(&str, &Self)> = match columns {
                    [] => members.iter().map(|(name, value)| (name.as_str(), value)).collect(),
                    named => named.iter().map(|column| (column.as_str(), self.at(column))).collect(),
                };
                object(&all, time_zone, width)
            }
            _ => self.text("", time_zone).lines().map(str::to_owned).collect(),
        }
    }
}

/// Rows that are too wide for a table, one below the other.
fn blocks(rows: &[Document], time_zone: &str, width: Option<usize>) -> Vec<String> {
    let of_row = |row: &Document| {
        let lines = row.lines(&[], time_zone, width.map(|width| width.saturating_sub(INDENT.len())));
        lines.into_iter().enumerate().map(|(nth, line)| format!("{}{line}", if nth == 0 { "· " } else { INDENT })).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_row).collect()
}

fn object(members: &[(&str, &Document)], time_zone: &str, width: Option<usize>) -> Vec<String> {
    // That there is none of something is told, too.
    let is_none = |value: &Document| matches!(value, Document::List(items) if items.is_empty());
    let told: Vec<_> = members.iter().filter(|(_, value)| is_none(value) || !value.is_empty()).collect();
    let label_width = told.iter().filter(|(_, value)| !value.is_section()).map(|(name, _)| heading(name).width()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (name, value) in told {
        let label = heading(name);
        if value.is_section() {
            lines.push(format!("{label}:"));
            let inner = value.lines(&[], time_zone, width.map(|width| width.saturating_sub(INDENT.len())));
            lines.extend(inner.into_iter().map(|line| format!("{INDENT}{line}")));
            continue;
        }
        let text = if is_none(value) { "none".into() } else { value.text(name, time_zone) };
        let blank = " ".repeat(label_width - label.width());
        let mut parts = text.lines();
        lines.push(format!("{label}{blank}  {}", parts.next().unwrap_or_default()));
        lines.extend(parts.map(|part| format!("{}{part}", " ".repeat(label_width + 2))));
    }
    lines
}

pub fn table(rows: &[Document], columns: &[String], time_zone: &str) -> Table {
    let columns = if columns.is_empty() { members_of(rows) } else { columns.to_vec() };
    let mut table = Table::new(columns.iter().map(|column| heading(column)));
    rows.iter().for_each(|row| table.row(columns.iter().map(|column| row.cell(column, time_zone))));
    table
}

/// Whatever any of them has, in the order of the first that has it.
fn members_of(rows: &[Document]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        let Document::Object(members) = row else { continue };
        for (name, _) in members.iter().filter(|(_, value)| !value.is_empty()) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names
}

/// `totals.grand_total` is headed `grand total`.
pub fn heading(column: &str) -> String {
    let name = column.rsplit('.').next().unwrap_or(column);
    name.trim_end_matches("_ms").trim_end_matches("-ms").replace(['_', '-'], " ")
}

/// Of an instant in milliseconds; see [`local_time`].
pub fn time(ms: i64, time_zone: &str) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| "-".into(), |at| local_time::show(at, time_zone))
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyDocument)
    }
}

struct AnyDocument;

impl<'de> Visitor<'de> for AnyDocument {
    type Value = Document;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(NOTHING)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Document, E> {
        Ok(Document::Plain(is.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Document, E> {
        Ok(Document::Plain(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Document, E> {
        Ok(Document::Plain(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Document, E> {
        Ok(Document::Plain(number.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Document, E> {
        Ok(Document::Plain(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Document, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Document::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Document::Object(members))
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) => value.serialize(serializer),
            Self::List(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| seq.serialize_element(item))?;
                seq.end()
            }
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(json: &str) -> Document {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn cells_read_as_people_write_them() {
        let row = document(
            r#"{ "number": "A-1", "created_ms": 1780272000000, "totals": { "grand_total": { "amount": 1250, "currency": "CNY" } }, "lines": [{ "sku": "A" }, { "sku": "B" }],
                 "note": null, "paid": true, "codes": ["A", "B"], "tasks": { "refund": { "since-ms": 1 }, "mismatch": { "since-ms": 2 } }, "names": { "en": "Tea", "zh-CN": "茶" } }"#,
        );
        let shown = ["number", "created_ms", "totals.grand_total", "lines", "note", "paid", "codes", "tasks", "names", "ghost.of"].map(|column| row.cell(column, "Asia/Shanghai"));
        assert_eq!(shown, ["A-1", "2026-06-01 08:00 +08", "12.50 CNY", "2", "", "yes", "A, B", "refund, mismatch", "en Tea, zh CN 茶", ""]);
        assert_eq!(["totals.grand_total", "created_ms"].map(heading), ["grand total", "created"]);
    }

    #[test]
    fn an_answer_is_a_line_for_each_member_and_a_table_for_each_list() {
        let order = document(
            r#"{ "number": "A-1", "at_ms": 1780272000000, "total": { "amount": 1250, "currency": "CNY" }, "message": "", "owed": [],
                 "address": { "name": "李雷", "city": "杭州" }, "timeline": [{ "at_ms": 1780272000000, "kind": "order.created", "detail": "" }, { "at_ms": 1780272060000, "kind": "paid", "detail": "pay-1" }] }"#,
        );
        assert_eq!(
            order.lines(&[], "Asia/Shanghai", None),
            [
                "number  A-1",
                "at      2026-06-01 08:00 +08",
                "total   12.50 CNY",
                "owed    none",
                "address:",
                "  name  李雷",
                "  city  杭州",
                "timeline:",
                "  at                    kind           detail",
                "  2026-06-01 08:00 +08  order.created",
                "  2026-06-01 08:01 +08  paid           pay-1",
            ]
        );
        let some = ["total", "address.city"].map(String::from);
        assert_eq!(order.lines(&some, "Asia/Shanghai", None), ["total  12.50 CNY", "city   杭州"]);
        for (json, lines) in [("[]", &["none"][..]), ("7", &["7"]), (r#"["a", "b"]"#, &["a", "b"]), (r#""one\ntwo""#, &["one", "two"])] {
            assert_eq!(document(json).lines(&[], "UTC", None), lines);
        }
    }

    #[test]
    fn rows_that_are_too_wide_for_a_table_stand_below_each_other_whole() {
        let lines = document(r#"{ "lines": [{ "sku": "TEA-01-50G", "title": "雨前龙井", "quantity": 2, "unit_price": { "amount": 6800, "currency": "CNY" } }] }"#);
        let shown = lines.lines(&[], "UTC", Some(34));
        assert_eq!(shown, ["lines:", "  · sku         TEA-01-50G", "    title       雨前龙井", "    quantity    2", "    unit price  68.00 CNY"]);
        assert_eq!(lines.lines(&[], "UTC", Some(60)), ["lines:", "  sku         title     quantity  unit price", "  TEA-01-50G  雨前龙井         2   68.00 CNY"]);
    }

    #[test]
    fn members_stay_in_their_order() {
        let text = r#"{"b":1,"a":[{"d":null,"c":-2.5}],"money":{"amount":1,"currency":"CNY","more":1}}"#;
        assert_eq!(serde_json::to_string(&document(text)).unwrap(), text);
        assert_eq!(document(text).cell("money", "UTC"), "amount 1, currency CNY, more 1");
    }
}
