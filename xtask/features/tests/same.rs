//! Whatever is built of this workspace, dependencies are compiled once.

use std::collections::BTreeSet;
use std::process::Command;

/// `souk-build` is not among them: it is small, and xtask has to be compiled before anything else.
const ALONE: [&str; 4] = ["souk-host", "souk-tests", "souk-recorder", "xtask"];
/// What runs here, and then also what runs in compilers: without tests and with them.
const EDGES: [(&str, &str); 2] = [("normal,no-proc-macro", "normal,dev,no-proc-macro"), ("normal,build", "normal,build,dev")];

/// Each dependency with the features that it is compiled with, as `tokio v1.54.1 [bytes,fs]`.
fn compiled(arguments: &[&str], edges: &str) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(env!("CARGO_MANIFEST_DIR")).args(["tree", "--locked", "--prefix", "none", "--no-dedupe", "--format", "{p} [{f}]", "--edges", edges]);
    let output = tree.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    // Our own are compiled again whenever they change; cargo names them with their folder.
    lines.lines().filter(|line| !line.contains("(/")).map(str::to_owned).collect()
}

#[test]
fn every_build_compiles_dependencies_with_the_same_features() {
    let mut differs = Vec::new();
    for (plain, tested) in EDGES {
        let all = compiled(&["--workspace"], tested);
        assert!(all.iter().any(|line| line.starts_with("wasmtime v")), "{all:?}");
        let each = ALONE.iter().map(|package| vec!["--package", package]).chain([vec!["--workspace"]]);
        for (arguments, edges) in each.flat_map(|arguments| [(arguments.clone(), plain), (arguments, tested)]) {
            differs.extend(compiled(&arguments, edges).difference(&all).map(|line| format!("{} with {edges}: {line}", arguments.join(" "))));
        }
    }
    assert!(differs.is_empty(), "compiled for these alone; add features to xtask/features/Cargo.toml, or for xtask to its own:\n{}", differs.join("\n"));
}
