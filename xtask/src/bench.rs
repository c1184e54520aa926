//! `cargo xtask bench`: builds what is measured, then measures it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::up;

/// `arguments` are those of `souk-bench`.
pub fn bench(root: &Path, arguments: &[String]) -> Result<()> {
    up::build_workspace(root, up::RELEASE, &["--bin", "souk", "--bin", "souk-bench", "--example", "storage"])?;
    up::build_guests(root, &root.join("plugins"), "target/plugins")?;
    up::build_guests(root, &root.join("tests/guests"), "target/guests")?;
    up::build_examples(root)?;
    let mut bench = Command::new(root.join("target/release/souk-bench"));
    ensure!(bench.current_dir(root).args(arguments).status()?.success(), "the benchmark failed");
    Ok(())
}
