//! A report for people at a terminal.

use serde_json::Value;

use super::super::{print_lines, print_red};
use super::report::Report;

const FRAMES_MAX: usize = 12;
const NAME_CHARACTERS_MAX: usize = 120;

pub fn report(report: &Report, coloured: bool) {
    say!("{} {}: {} {}", report.plugin, report.version, report.interface, report.function);
    match &report.failure {
        Some(failure) => {
            say!("");
            print_red(&format!("failed ({}): {}", failure.kind, failure.message), coloured);
            failure.stack.iter().take(FRAMES_MAX).for_each(|function| say!("  in {}", short(function)));
        }
        None => print_lines(&format!("\nanswer\n{}", indented(&report.answer))),
    }
    if report.failure.is_none() && !report.committed {
        say!("");
        say!("An answer like this rolls back: nothing is kept.");
    }
    for (title, part) in [("writes", &report.writes), ("events", &report.events), ("effects", &report.effects), ("jobs", &report.jobs)] {
        let is_empty = part.as_object().is_some_and(|part| part.is_empty()) || part.as_array().is_some_and(|part| part.is_empty());
        if !is_empty {
            print_lines(&format!("\n{title}\n{}", indented(part)));
        }
    }
    if !report.invalidated.is_empty() {
        say!("");
        say!("pages invalidated");
        say!("  {}", report.invalidated.join(", "));
    }
    lines("log", &report.log, |line| {
        let fields = line["fields"].as_object().into_iter().flatten().map(|(name, value)| format!(" {name}={}", text(value)));
        format!("{:<5} {}{}", text(&line["level"]), text(&line["message"]), fields.collect::<String>())
    });
    lines("http", &report.http, |fetch| {
        let answer = if fetch["error"].is_null() { fetch["status"].to_string() } else { text(&fetch["error"]) };
        let remedy = if fetch["recorded"] == false { " (not recorded: add it to `http` in the scenario)" } else { "" };
        format!("{} {}  {answer}{remedy}", text(&fetch["method"]), text(&fetch["url"]))
    });
    say!("");
    say!("{:<20} {:>14} {:>14}", "", "took", "limit");
    for (name, figure) in report.spent.rows() {
        let row = format!("{name:<20} {:>14} {:>14}{}", amount(name, figure.used), amount(name, figure.limit), if figure.over { "  over" } else { "" });
        if figure.over { print_red(&row, coloured) } else { say!("{row}") }
    }
    if !report.providers.is_empty() {
        say!("");
        say!("{:<20} {:>14} {:>14}", "providers besides", "instructions", "calls");
        report.providers.iter().for_each(|provider| {
            say!("{:<20} {:>14} {:>14}", provider.plugin, amount("instructions", provider.instructions), provider.calls);
        });
    }
    if !report.hottest.is_empty() {
        let first = if report.spent.instructions.used.is_none() { " first" } else { "" };
        say!("");
        say!("most of the{first} {} instructions", amount("instructions", report.sampled));
        report.hottest.iter().for_each(|hot| say!("{:>6.1} %  {}", hot.percent, short(&hot.function)));
    }
    if let Some(hint) = &report.hint {
        say!("");
        say!("{hint}");
    }
    if !report.differences.is_empty() {
        say!("");
        say!("not as expected");
        report.differences.iter().for_each(|difference| print_red(&format!("  {difference}"), coloured));
    }
}

/// One scenario among others.
pub fn line(name: &str, report: Option<&Report>, problems: &[String], coloured: bool) {
    let figures = report.map(|report| {
        let spent = &report.spent;
        format!("{:>14} instructions {:>10}", amount("instructions", spent.instructions.used), amount("memory", spent.memory_bytes.used))
    });
    let figures = figures.unwrap_or_default();
    if problems.is_empty() { say!("pass  {name:<32} {figures}") } else { print_red(&format!("FAIL  {name:<32} {figures}"), coloured) }
    problems.iter().for_each(|problem| say!("      {problem}"));
}

/// As it is read: with units, and its thousands apart.
pub fn amount(row: &str, value: Option<u64>) -> String {
    let Some(value) = value else { return "–".into() };
    match row {
        "memory" | "output" if value >= 1 << 20 => format!("{:.1} MiB", value as f64 / f64::from(1 << 20)),
        "memory" | "output" => format!("{} B", thousands(value)),
        "time" => format!("{}.{:02} ms", thousands(value / 1_000), value % 1_000 / 10),
        _ => thousands(value),
    }
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut apart = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

fn lines(title: &str, part: &Value, line: impl Fn(&Value) -> String) {
    let part = part.as_array().map_or(&[][..], Vec::as_slice);
    if !part.is_empty() {
        say!("");
        say!("{title}");
        part.iter().for_each(|item| say!("  {}", line(item)));
    }
}

fn indented(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Names of generic functions have no end.
fn short(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn amounts_have_units_and_their_thousands_apart() {
        for (row, value, shown) in [
            ("instructions", Some(1_234_567), "1,234,567"),
            ("instructions", None, "–"),
            ("memory", Some(64 << 20), "64.0 MiB"),
            ("output", Some(999), "999 B"),
            ("time", Some(5_000_000), "5,000.00 ms"),
            ("time", Some(1_059), "1.05 ms"),
        ] {
            assert_eq!(super::amount(row, value), shown);
        }
    }
}
