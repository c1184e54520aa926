//! `cargo xtask bench`: builds what is measured, then measures it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use souk_build::Build;

use crate::up;

/// `arguments` are those of `souk-bench`.
pub fn bench(root: &Path, arguments: &[String]) -> Result<()> {
    up::build_workspace(root, &["--bin", "souk", "--bin", "souk-bench", "--example", "storage"])?;
    Build::new(&root.join("plugins"), &root.join("target/plugins")).run()?;
    Build::new(&root.join("tests/guests"), &root.join("target/guests")).run()?;
    let mut bench = Command::new(root.join("target/release/souk-bench"));
    ensure!(bench.current_dir(root).args(arguments).status()?.success(), "the benchmark failed");
    Ok(())
}
