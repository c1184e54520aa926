//! What was measured, against what it should be.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

/// What should be flat may be so much more in the largest shop than in the smallest.
const GROWS_MOST: f64 = 1.5;

/// What is wanted of a figure.
#[derive(Clone, Copy)]
pub enum Mark {
    AtLeast(f64),
    AtMost(f64),
    Reported,
}

/// One round: what the shop did and, where that is a ratio, what it is held against.
pub struct Round {
    pub value: f64,
    pub baseline: Option<f64>,
}

pub struct Figure {
    /// Has blanks where it stands in a table by size.
    pub name: &'static str,
    /// Of value and baseline.
    pub unit: &'static str,
    pub mark: Mark,
    pub rounds: Vec<Round>,
    pub remark: String,
    /// Where it was taken of a shop as it grows: the table it stands in, and its value at each size.
    pub growth: Option<Growth>,
}

pub struct Growth {
    pub of: &'static str,
    /// A total is to grow as the shop does: what is judged is its part for each product or order.
    pub is_total: bool,
    /// Sizes ascend.
    pub values: Vec<(u64, f64)>,
}

impl Figure {
    pub fn plain(name: &'static str, unit: &'static str, mark: Mark, values: Vec<f64>) -> Self {
        let rounds = values.into_iter().map(|value| Round { value, baseline: None }).collect();
        Self { name, unit, mark, rounds, remark: String::new(), growth: None }
    }

    /// Each round has a baseline.
    pub fn compared(name: &'static str, unit: &'static str, mark: Mark, rounds: Vec<Round>, remark: String) -> Self {
        Self { name, unit, mark, rounds, remark, growth: None }
    }

    /// Judged by how much more it is at the largest size than at the smallest.
    pub fn grown(name: &'static str, unit: &'static str, growth: Growth) -> Self {
        let judged = |(size, value): &(u64, f64)| if growth.is_total { value / *size as f64 } else { *value };
        let ends = growth.values.first().zip(growth.values.last());
        let rounds = ends.map(|(first, last)| Round { value: judged(last), baseline: Some(judged(first)) }).into_iter().collect();
        Self { name, unit, mark: Mark::AtMost(GROWS_MOST), rounds, remark: String::new(), growth: Some(growth) }
    }

    /// What the mark is about, of each round: the ratio where there is a baseline.
    fn judged(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round.value / round.baseline.unwrap_or(1.0)).collect()
    }

    fn met(&self) -> Option<bool> {
        let value = median(self.judged());
        match self.mark {
            Mark::AtLeast(least) => Some(value >= least),
            Mark::AtMost(most) => Some(value <= most),
            Mark::Reported => None,
        }
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Three digits that tell something.
fn short(value: f64) -> String {
    let digits = if value.abs() >= 100.0 { 0 } else if value.abs() >= 10.0 { 1 } else { 2 };
    format!("{value:.digits$}")
}

pub fn print(figures: &[Figure]) {
    let (by_size, plain): (Vec<_>, Vec<_>) = figures.iter().partition(|figure| figure.growth.is_some());
    if !plain.is_empty() {
        print_plain(&plain);
    }
    for table in by_size.chunk_by(|one, next| one.table() == next.table()) {
        print_by_size(table);
    }
}

fn print_by_size(figures: &[&Figure]) {
    let growths = || figures.iter().filter_map(|figure| Some((figure, figure.growth.as_ref()?)));
    let Some((_, first)) = growths().next() else { return };
    let sizes: String = first.values.iter().map(|(size, _)| format!(" {size:>10}")).collect();
    println!("\n{:<42}{sizes} {:<5} {:>8}", first.of, "", "ratio");
    for (figure, growth) in growths() {
        let values: String = growth.values.iter().map(|(_, value)| format!(" {:>10}", short(*value))).collect();
        let mark = if figure.met() == Some(false) { "  ← GROWS" } else { "" };
        let ratio = format!("{}{}", short(median(figure.judged())), if growth.is_total { " each" } else { "" });
        println!("{:<42}{values} {:<5} {ratio:>8}{mark}  {}", figure.name, figure.unit, figure.remark);
    }
}

fn print_plain(figures: &[&Figure]) {
    println!("{:<27} {:>9} {:<5} {:>9}  {:<7} {:<19} remark", "figure", "median", "unit", "mark", "", "spread of rounds");
    for figure in figures {
        let judged = figure.judged();
        let ratio = figure.rounds.iter().any(|round| round.baseline.is_some());
        let (least, most) = judged.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| (least.min(*v), most.max(*v)));
        let mark = match figure.mark {
            Mark::AtLeast(least) => format!("≥ {}", short(least)),
            Mark::AtMost(most) => format!("≤ {}", short(most)),
            Mark::Reported => String::new(),
        };
        let met = figure.met().map_or("", |met| if met { "met" } else { "missed" });
        let spread = format!("{} … {}", short(least), short(most));
        let unit = if ratio { "×" } else { figure.unit };
        println!("{:<27} {:>9} {:<5} {:>9}  {:<7} {:<19} {}", figure.name, short(median(judged)), unit, mark, met, spread, figure.remark);
    }
}

pub fn write(figures: &[Figure], path: &Path) -> Result<()> {
    let summary: Map<String, Value> = figures.iter().map(|figure| (figure.key(), figure.to_json())).collect();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, serde_json::to_string_pretty(&summary)? + "\n")?)
}

impl Figure {
    fn table(&self) -> Option<&'static str> {
        self.growth.as_ref().map(|growth| growth.of)
    }

    /// Names in the tables by size are its rows'.
    fn key(&self) -> String {
        self.table().map_or_else(String::new, |table| format!("growth of {table}: ")) + self.name
    }

    fn to_json(&self) -> Value {
        let baselines: Vec<f64> = self.rounds.iter().filter_map(|round| round.baseline).collect();
        let ratio = !baselines.is_empty();
        json!({
            "value": median(self.rounds.iter().map(|round| round.value).collect()),
            "unit": self.unit,
            "baseline": ratio.then(|| median(baselines)),
            "ratio": ratio.then(|| median(self.judged())),
            "rounds": self.judged(),
            "met": self.met(),
            "remark": self.remark,
            "sizes": self.growth.as_ref().map(|growth| &growth.values),
        })
    }
}
