//! `cargo xtask test`: everything that is tested.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::toolchain::{Toolchain, inner};
use crate::{plugins, up};

/// `filters` go to every nextest run, for instance `-E 'test(cart)'`.
pub fn test(root: &Path, filters: &[String]) -> Result<()> {
    ensure_nextest()?;
    let toolchain = Toolchain::find()?;
    up::build_host(root)?;
    // Where the tests look for components.
    plugins::build(root, toolchain, &root.join("plugins"), &[], &root.join("target/plugins"))?;
    let guests = root.join("tests/guests");
    if guests.join("Cargo.toml").exists() {
        plugins::build(root, toolchain, &guests, &[], &root.join("target/guests"))?;
    }
    for example in fs::read_dir(root.join("examples"))? {
        let example = example?.path();
        if example.join("Cargo.toml").exists() {
            plugins::build(root, toolchain, &example, &[], &root.join("target/examples"))?;
        }
    }

    let runs: [&[&str]; 3] = [
        &["nextest", "run", "--release", "--workspace"],
        &["nextest", "run", "--release", "--manifest-path", "plugins/Cargo.toml", "--no-tests", "pass"],
        // nextest does not run the examples in doc comments.
        &["test", "--quiet", "--release", "--doc", "--package", "souk-sdk"],
    ];
    let mut failed = Vec::new();
    for run in runs {
        eprintln!("· cargo {}", run.join(" "));
        let mut cargo = inner("cargo");
        cargo.current_dir(root).args(run);
        if run[0] == "nextest" {
            cargo.args(filters);
        }
        // The others still say what they have to say.
        if !cargo.status().context("cargo does not start")?.success() {
            failed.push(format!("cargo {}", run.join(" ")));
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join("; "));
    Ok(())
}

fn ensure_nextest() -> Result<()> {
    let mut version = inner("cargo");
    version.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if version.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    eprintln!("· installing cargo-nextest");
    let installed = inner("cargo").args(["install", "--locked", "cargo-nextest"]).status()?.success();
    ensure!(installed, "cargo-nextest cannot be installed; see https://nexte.st/docs/installation");
    Ok(())
}
