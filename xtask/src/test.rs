//! `cargo xtask test`: everything that is tested.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use souk_build::inner;

use crate::up;

/// The one tries the API by its OpenAPI document, the other says whether a list of parts is CycloneDX.
const PYTHON_TOOLS: [&str; 2] = ["schemathesis==4.32.5", "cyclonedx-python-lib[json-validation]==11.12.0"];

/// `filters` go to every nextest run, for instance `-E 'test(cart)'`.
pub fn test(root: &Path, profile: &str, filters: &[String]) -> Result<()> {
    let examples = prepare(root, profile)?;
    let nextest = ["nextest", "run", "--no-fail-fast", "--no-tests", "pass"];
    let mut runs = vec![
        [&nextest[..], &["--cargo-profile", profile, "--workspace"]].concat(),
        [&nextest[..], &["--workspace", "--manifest-path", "plugins/Cargo.toml"]].concat(),
        // nextest does not run the examples in doc comments.
        vec!["test", "--quiet", "--doc", "--manifest-path", "sdk/Cargo.toml"],
    ];
    // Where the SDK's dependencies are compiled by now.
    let example = ["--target-dir", "plugins/target", "--manifest-path"];
    runs.extend(examples.iter().map(|manifest| [&nextest[..], &example, &[manifest.as_str()]].concat()));

    let mut failed = Vec::new();
    for run in runs {
        eprintln!("· cargo {}", run.join(" "));
        let mut cargo = inner("cargo");
        cargo.current_dir(root).args(&run);
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

/// Builds and installs all that tests run; the manifests of the examples in Rust.
pub fn prepare(root: &Path, profile: &str) -> Result<Vec<String>> {
    ensure_nextest()?;
    // Waits for the network while others compile.
    std::thread::scope(|scope| {
        let tools = scope.spawn(|| ensure_python_tools(root));
        let examples = build(root, profile)?;
        tools.join().expect("installing does not panic")?;
        Ok(examples)
    })
}

fn build(root: &Path, profile: &str) -> Result<Vec<String>> {
    // With the tests, so that test dependencies do not make it twice.
    up::build_workspace(root, profile, &["--bins", "--tests"])?;
    // Where the tests look for components.
    up::build_guests(root, &root.join("plugins"), "target/plugins")?;
    up::build_guests(root, &root.join("tests/guests"), "target/guests")?;
    up::build_examples(root)
}

/// In a folder of their own, because they bring half of Python's libraries along.
fn ensure_python_tools(root: &Path) -> Result<()> {
    let folder = root.join("target/tools/python");
    // Written last, so that what broke off is done again.
    let installed = folder.join("installed.txt");
    let wanted = PYTHON_TOOLS.join("\n");
    if fs::read_to_string(&installed).is_ok_and(|has| has == wanted) {
        return Ok(());
    }
    eprintln!("· installing {}", PYTHON_TOOLS.join(", "));
    let run = |program: &Path, arguments: &[&str]| Command::new(program).args(arguments).status().is_ok_and(|status| status.success());
    let done = run(Path::new("python3"), &["-m", "venv", &folder.display().to_string()])
        && run(&folder.join("bin/pip"), &[&["install", "--quiet", "--disable-pip-version-check"], &PYTHON_TOOLS[..]].concat());
    ensure!(done, "{} cannot be installed; they need Python 3 with `venv` (Debian: python3-venv)", PYTHON_TOOLS.join(" and "));
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))
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
