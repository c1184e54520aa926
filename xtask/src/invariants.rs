//! `cargo xtask invariants`: what must never happen in a shop, which tests hold
//! it (`tests/invariants.toml`), and what they say now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use souk_build::inner;

use crate::test::prepare;
use crate::up;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scorecard {
    invariants: Vec<Invariant>,
    #[serde(default)]
    rounds: BTreeMap<String, Rounds>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invariant {
    id: String,
    hazard: String,
    #[serde(default)]
    tests: Vec<String>,
    /// Why there is nothing to test.
    absent: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rounds {
    usual: u64,
    of: String,
    /// Of the environment.
    variable: String,
}

/// By test: whether it passed, and its seconds.
type Results = BTreeMap<String, (bool, f64)>;

/// How the packages of the plugins' workspace begin, and no others.
const OF_PLUGINS: [&str; 2] = ["souk-plugin-", "souk-sdk"];
const PROFILE: &str = "invariants";

pub fn invariants(root: &Path, list: bool) -> Result<()> {
    let text = fs::read_to_string(root.join("tests/invariants.toml"))?;
    let scorecard: Scorecard = toml::from_str(&text).context("tests/invariants.toml")?;
    let results = if list { None } else { Some(run(root, &scorecard)?) };
    let mut wrong = Vec::new();
    for invariant in &scorecard.invariants {
        let state = match (&results, &invariant.absent) {
            (_, Some(_)) => "absent",
            (None, None) if invariant.tests.is_empty() => "uncovered",
            (None, None) => "covered",
            (Some(results), None) => verdict(invariant, results),
        };
        println!("{:<4} {state:<9} {}", invariant.id, invariant.hazard);
        if let Some(why) = &invariant.absent {
            println!("                 {why}");
        }
        for test in &invariant.tests {
            println!("     {} {test}{}", told(test, results.as_ref()), tried(test, &scorecard.rounds));
        }
        if matches!(state, "FAILED" | "MISSING") {
            wrong.push(invariant.id.as_str());
        }
    }
    let count = |absent: bool| scorecard.invariants.iter().filter(|invariant| invariant.absent.is_some() == absent && (absent || !invariant.tests.is_empty())).count();
    println!("{} invariants: {} covered, {} not touched by the shop", scorecard.invariants.len(), count(false), count(true));
    ensure!(wrong.is_empty(), "do not hold: {}", wrong.join(", "));
    Ok(())
}

fn verdict(invariant: &Invariant, results: &Results) -> &'static str {
    let mut all = invariant.tests.iter().map(|test| of(test, results));
    match invariant.tests.is_empty() {
        true => "uncovered",
        false if all.clone().any(|found| found.is_empty()) => "MISSING",
        false if all.all(|found| found.iter().all(|(passed, _)| *passed)) => "holds",
        false => "FAILED",
    }
}

/// What a name stands for.
fn of(test: &str, results: &Results) -> Vec<(bool, f64)> {
    results.iter().filter(|(name, _)| name.as_str() == test || stem(test).is_some_and(|stem| name.starts_with(stem))).map(|(_, result)| *result).collect()
}

/// `binary module::` and `binary ::` stand for all that begin so.
fn stem(test: &str) -> Option<&str> {
    test.strip_suffix(" ::").map_or_else(|| test.ends_with("::").then_some(test), |binary| Some(binary))
}

fn told(test: &str, results: Option<&Results>) -> String {
    let Some(results) = results else { return String::from("·") };
    let found = of(test, results);
    let seconds: f64 = found.iter().map(|(_, seconds)| seconds).sum();
    match found.len() {
        0 => "missing       ".into(),
        _ if found.iter().any(|(passed, _)| !passed) => "FAILED        ".into(),
        _ => format!("passed {seconds:>6.1}s"),
    }
}

fn tried(test: &str, rounds: &BTreeMap<String, Rounds>) -> String {
    let Some(rounds) = rounds.get(test) else { return String::new() };
    let count = std::env::var(&rounds.variable).unwrap_or_else(|_| rounds.usual.to_string());
    format!("  ({count} {}; {})", rounds.of, rounds.variable)
}

fn run(root: &Path, scorecard: &Scorecard) -> Result<Results> {
    prepare(root, up::QUICK)?;
    let config = root.join("target/invariants.toml");
    fs::write(&config, format!("[profile.{PROFILE}]\nfail-fast = false\n[profile.{PROFILE}.junit]\npath = \"junit.xml\"\n"))?;
    let tests: BTreeSet<&String> = scorecard.invariants.iter().flat_map(|invariant| &invariant.tests).collect();
    let (of_plugins, of_workspace): (Vec<_>, Vec<_>) = tests.into_iter().partition(|test| OF_PLUGINS.iter().any(|name| test.starts_with(name)));
    let workspaces = [(of_workspace, &[][..], "target"), (of_plugins, &["--manifest-path", "plugins/Cargo.toml"], "plugins/target")];
    let mut results = Results::new();
    for (tests, workspace, target) in workspaces {
        let filter: Vec<String> = tests.into_iter().map(|test| filter_of(test)).collect();
        let mut cargo = inner("cargo");
        cargo.current_dir(root).args(["nextest", "run", "--workspace", "--no-tests", "pass", "--profile", PROFILE, "--config-file"]).arg(&config).args(workspace);
        cargo.args(["-E", &filter.join(" | ")]);
        // Failures are in the report.
        cargo.status().context("cargo does not start")?;
        let report = root.join(target).join("nextest").join(PROFILE).join("junit.xml");
        results.extend(read(&fs::read_to_string(&report).with_context(|| report.display().to_string())?)?);
    }
    Ok(results)
}

fn filter_of(test: &str) -> String {
    let (binary, name) = test.split_once(' ').unwrap_or((test, ""));
    match stem(test) {
        Some(_) if name == "::" => format!("binary_id(={binary})"),
        Some(_) => format!("(binary_id(={binary}) & test(/^{name}/))"),
        None => format!("(binary_id(={binary}) & test(={name}))"),
    }
}

fn read(report: &str) -> Result<Results> {
    let document = roxmltree::Document::parse(report).context("nextest's report")?;
    let mut results = Results::new();
    for case in document.descendants().filter(|node| node.has_tag_name("testcase")) {
        let (Some(binary), Some(name)) = (case.attribute("classname"), case.attribute("name")) else { continue };
        let failed = case.children().any(|child| child.has_tag_name("failure") || child.has_tag_name("error"));
        let seconds = case.attribute("time").and_then(|time| time.parse().ok()).unwrap_or(0.0);
        results.insert(format!("{binary} {name}"), (!failed, seconds));
    }
    Ok(results)
}
