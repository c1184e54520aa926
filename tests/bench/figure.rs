//! What was measured, against what it should be.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

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
    pub name: &'static str,
    /// Of value and baseline.
    pub unit: &'static str,
    pub mark: Mark,
    pub rounds: Vec<Round>,
    pub remark: String,
}

impl Figure {
    pub fn plain(name: &'static str, unit: &'static str, mark: Mark, values: Vec<f64>) -> Self {
        let rounds = values.into_iter().map(|value| Round { value, baseline: None }).collect();
        Self { name, unit, mark, rounds, remark: String::new() }
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
    let summary: Map<String, Value> = figures.iter().map(|figure| (figure.name.to_owned(), figure.to_json())).collect();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, serde_json::to_string_pretty(&summary)? + "\n")?)
}

impl Figure {
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
        })
    }
}
