//! `cargo xtask load`: builds the shop, then loads it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use souk_build::Build;

use crate::up;

/// `arguments` are those of `souk-load`.
pub fn load(root: &Path, arguments: &[String]) -> Result<()> {
    up::build_workspace(root, up::RELEASE, &["--bin", "souk", "--bin", "souk-load"])?;
    Build::new(&root.join("plugins"), &root.join("target/plugins")).run()?;
    let mut load = Command::new(root.join("target/release/souk-load"));
    ensure!(load.current_dir(root).args(arguments).status()?.success(), "the load could not be made");
    Ok(())
}
