//! Whatever is built of this workspace, dependencies are compiled once.

use std::collections::BTreeSet;
use std::process::Command;

/// `souk-build` is not among them: it is small, and xtask has to be compiled before anything else.
const ALONE: [&str; 4] = ["souk-host", "souk-tests", "souk-recorder", "xtask"];
const WITH_TESTS: &str = "normal,build,dev";
const WITHOUT_TESTS: &str = "normal,build";

/// Each dependency with the features that it is compiled with, as `tokio v1.54.1 [bytes,fs]`.
fn compiled(arguments: &[&str], edges: &str) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(env!("CARGO_MANIFEST_DIR")).args(["tree", "--locked", "--prefix", "none", "--format", "{p} [{f}]", "--edges", edges]);
    let output = tree.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    // Our own are compiled again whenever they change; cargo names them with their folder.
    lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).filter(|line| !line.contains("(/") && !line.is_empty()).collect()
}

#[test]
fn every_build_compiles_dependencies_with_the_same_features() {
    let all = compiled(&["--workspace"], WITH_TESTS);
    assert!(all.iter().any(|line| line.starts_with("wasmtime v")), "{all:?}");
    let mut differs = Vec::new();
    for edges in [WITH_TESTS, WITHOUT_TESTS] {
        let each = ALONE.iter().map(|package| vec!["--package", package]).chain([vec!["--workspace"]]);
        for arguments in each {
            differs.extend(compiled(&arguments, edges).difference(&all).map(|line| format!("{} with {edges}: {line}", arguments.join(" "))));
        }
    }
    assert!(differs.is_empty(), "compiled for these alone; add features to xtask/features/Cargo.toml:\n{}", differs.join("\n"));
}
