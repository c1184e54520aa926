//! What measures the shop still can, as short as can be: nobody runs it every day, and what it does to a shop goes the way that an
//! operator's files and commands go. The figures are not looked at.

use std::fs;
use std::process::Command;

use serde_json::Value;
use souk_tests::said;

/// What it writes besides its tables.
fn run(program: &str, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let (done, said) = said(Command::new(program).args(arguments).arg("--json").arg(&json).output().unwrap());
    assert!(done, "{program}: {said}");
    serde_json::from_slice(&fs::read(&json).unwrap()).unwrap()
}

#[test]
fn every_quick_figure_is_taken() {
    let figures = run(env!("CARGO_BIN_EXE_souk-bench"), &["--rounds", "1", "--seconds", "0.1"]);
    assert!(figures["reload_ms"]["value"].is_number(), "{figures}");
}

#[test]
fn every_mix_is_driven() {
    let reports = run(env!("CARGO_BIN_EXE_souk-load"), &["--rate", "20", "--seconds", "0.5", "--shoppers", "20", "--stock", "5"]);
    for mix in ["browse", "search", "checkout", "flash"] {
        assert!(reports[mix]["answers"]["2xx_3xx"].as_u64().unwrap() > 0, "{reports}");
    }
    assert_eq!(reports["flash"]["orders"], 5, "{reports}");
}
