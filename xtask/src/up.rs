//! `cargo xtask up`: from a clone to a shop that can be bought from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use souk_build::{Build, Toolchain, inner};

/// The best code there is.
pub const RELEASE: &str = "release";
/// Dependencies optimised, our own crates compiled soon: for work.
pub const QUICK: &str = "dev";

/// Does not return while the shop is served: where there is `exec` it becomes
/// the server, so that signals and the exit code are the server's own.
pub fn up(root: &Path) -> Result<()> {
    let shop = root.join("run/shop");
    eprintln!("· checking the toolchain for plugins");
    Toolchain::find()?;
    eprintln!("· building the host (some minutes the first time)");
    build_workspace(root, RELEASE, &["--bin", "souk"])?;
    eprintln!("· building the plugins");
    let is_new = !shop.join("souk.toml").exists();
    let out = if is_new { root.join("target/plugins") } else { shop.join("plugins") };
    Build { target: Some(&guests_target(root)), ..Build::new(&root.join("plugins"), &out) }.run()?;
    let souk = root.join("target/release/souk");
    if is_new {
        eprintln!("· making a shop from store-data/ in run/shop, with the plugins of target/plugins");
        let mut init = Command::new(&souk);
        init.args(["store", "init", "--from"]).arg(root.join("store-data")).arg("--store").arg(&shop);
        ensure!(init.status()?.success(), "`souk store init` failed; remove run/shop before another try");
    }
    // Their source is here: whatever is built of it later is as good. Others in this shop are asked about as ever.
    let mut grant = Command::new(&souk);
    grant.args(["plugin", "grant", "--yes", "--own"]).args(souk_build::sources(&root.join("plugins"))?.into_iter().map(|plugin| plugin.name));
    ensure!(grant.arg("--store").arg(&shop).status()?.success(), "`souk plugin grant` failed");
    eprintln!("· serving; Ctrl-C stops it");
    let mut serve = Command::new(&souk);
    serve.arg("serve").arg("--store").arg(&shop);
    become_or_wait(serve)
}

/// Always with the features of the whole workspace: whoever runs the shop and
/// its tests compiles the big dependencies once.
pub fn build_workspace(root: &Path, profile: &str, targets: &[&str]) -> Result<()> {
    // The host holds them.
    build_guests(root, &root.join("host/adapters"), "target/adapters")?;
    write_bindings(root)?;
    let mut cargo = inner("cargo");
    cargo.current_dir(root).args(["build", "--profile", profile, "--workspace"]).args(targets);
    // Any test, and a small one: without, cargo leaves out what tests' dependencies ask of the others.
    cargo.args(["--test", "browse"]);
    ensure!(cargo.status().context("cargo does not start")?.success(), "Souk does not compile");
    Ok(())
}

/// What the SDK makes of the contracts, for `souk plugin new`: into `target/sdk`, where the host finds it.
fn write_bindings(root: &Path) -> Result<()> {
    let mut cargo = inner("cargo");
    cargo.args(["check", "--message-format", "json", "--package", "souk-sdk", "--manifest-path"]).arg(root.join("plugins/Cargo.toml"));
    cargo.arg("--target-dir").arg(guests_target(root)).stderr(Stdio::inherit());
    let checked = cargo.output().context("cargo does not start")?;
    ensure!(checked.status.success(), "the SDK does not compile");
    let lines = checked.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let mut scripts = lines.filter(|line| line["reason"] == "build-script-executed" && line["package_id"].as_str().is_some_and(|id| id.contains("souk-sdk")));
    let out = scripts.next().and_then(|line| line["out_dir"].as_str().map(PathBuf::from)).context("cargo does not tell of the SDK's build script")?;
    let (from, to) = (out.join("bindings.rs"), root.join("target/sdk/bindings.rs"));
    let bindings = fs::read(&from).with_context(|| from.display().to_string())?;
    // Only what has changed makes the host compile again.
    if fs::read(&to).is_ok_and(|before| before == bindings) {
        return Ok(());
    }
    fs::create_dir_all(root.join("target/sdk"))?;
    fs::write(&to, bindings).with_context(|| to.display().to_string())
}

/// Builds what runs in a shop.
pub fn build_guests(root: &Path, source: &Path, out: &str) -> Result<()> {
    Build { target: Some(&guests_target(root)), ..Build::new(source, &root.join(out)) }.run()
}

/// Into `target/examples`; the manifests of those in Rust. What this machine lacks a program for is left out, and said.
pub fn build_examples(root: &Path) -> Result<Vec<String>> {
    let mut manifests = Vec::new();
    for example in fs::read_dir(root.join("examples"))? {
        let example = example?.path();
        if example.join("Cargo.toml").exists() {
            build_guests(root, &example, "target/examples")?;
            manifests.push(example.join("Cargo.toml").display().to_string());
        } else if let Some(program) = souk_build::lacks(&example) {
            eprintln!("· {} is left out: it needs a newer `{program}`", example.display());
        } else {
            Build::new(&example, &root.join("target/examples")).run()?;
        }
    }
    Ok(manifests)
}

/// Where cargo compiles all that runs in a shop, so that the standard library and what they share is compiled once.
pub fn guests_target(root: &Path) -> PathBuf {
    root.join("plugins/target")
}

#[cfg(unix)]
fn become_or_wait(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.exec()).with_context(|| format!("{:?} does not start", command.get_program()))
}

#[cfg(not(unix))]
fn become_or_wait(mut command: Command) -> Result<()> {
    ensure!(command.status()?.success(), "`souk serve` failed");
    Ok(())
}
