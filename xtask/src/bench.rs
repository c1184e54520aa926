//! `cargo xtask bench`: builds what is measured, then measures it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::toolchain::Toolchain;
use crate::{plugins, up};

/// `arguments` are those of `souk-bench`.
pub fn bench(root: &Path, arguments: &[String]) -> Result<()> {
    let toolchain = Toolchain::find()?;
    up::build_workspace(root, &["--bin", "souk", "--bin", "souk-bench"])?;
    plugins::build(root, toolchain, &root.join("plugins"), &[], false, &root.join("target/plugins"))?;
    plugins::build(root, toolchain, &root.join("tests/guests"), &[], false, &root.join("target/guests"))?;
    let mut bench = Command::new(root.join("target/release/souk-bench"));
    ensure!(bench.current_dir(root).args(arguments).status()?.success(), "the benchmark failed");
    Ok(())
}
