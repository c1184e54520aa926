//! Finds, or gets, a way to compile guests to `wasm32-unknown-unknown`, on
//! machines with rustup, without it, and without internet. Nothing outside
//! this file knows which of the three ways was taken.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{Metadata, MetadataCommand};

pub const TARGET: &str = "wasm32-unknown-unknown";
/// Rustup retries for minutes where there is no internet.
const RUSTUP_TIME_MAX: Duration = Duration::from_secs(10);
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-22"];
const DEBIAN_FILES: [&str; 4] =
    ["/usr/bin/rustc", "/usr/bin/cargo", "/usr/lib/rustlib/src/rust/library/std/Cargo.toml", "/usr/bin/wasm-ld-22"];
/// Choices of the cargo that runs xtask; they would disturb the one it runs.
const OUTER_CARGO: [&str; 12] = [
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_TARGET_DIR",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toolchain {
    /// The active toolchain has the target's standard library.
    Active,
    /// Debian's compiler builds the standard library from Debian's source.
    Debian,
}

impl Toolchain {
    /// Takes the first way that works; `SOUK_WASM_TOOLCHAIN` names the only one to try.
    pub fn find() -> Result<Self> {
        match env::var("SOUK_WASM_TOOLCHAIN").as_deref() {
            Err(_) | Ok("") => {
                if installed() {
                    return Ok(Self::Active);
                }
                // Nothing is asked of the network when nothing is missing.
                if missing_debian_files().is_empty() {
                    return Ok(Self::Debian);
                }
                let no_rustup = match rustup() {
                    Ok(()) => return Ok(Self::Active),
                    Err(error) => error,
                };
                debian().with_context(|| format!("no standard library for {TARGET}: {no_rustup:#}"))
            }
            Ok("installed") => {
                ensure!(
                    installed(),
                    "SOUK_WASM_TOOLCHAIN=installed, but the active toolchain has no standard library for {TARGET}; \
                     run `rustup target add {TARGET}`, or unset the variable to try other ways"
                );
                Ok(Self::Active)
            }
            Ok("rustup") => rustup().map(|()| Self::Active),
            Ok("debian") => debian(),
            Ok(other) => bail!("SOUK_WASM_TOOLCHAIN={other}: give `installed`, `rustup` or `debian`, or unset it"),
        }
    }

    /// `cargo build` for guests, in the environment that it needs.
    pub fn cargo_build(self) -> Command {
        let mut cargo = self.cargo();
        cargo.args(["build", "--target", TARGET]);
        if self == Self::Debian {
            cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-22").arg("-Zbuild-std=std,panic_abort");
        }
        cargo
    }

    /// What `manifest`'s workspace needs when it is built for guests.
    pub fn metadata(self, manifest: &Path) -> Result<Metadata> {
        let mut cargo = self.cargo();
        cargo.args(["metadata", "--format-version", "1", "--filter-platform", TARGET, "--manifest-path"]).arg(manifest);
        let output = cargo.output().context("cargo does not start")?;
        ensure!(output.status.success(), "`cargo metadata` failed: {}", last_line(&String::from_utf8_lossy(&output.stderr)));
        Ok(MetadataCommand::parse(String::from_utf8(output.stdout)?)?)
    }

    fn cargo(self) -> Command {
        match self {
            Self::Active => inner("cargo"),
            Self::Debian => {
                let mut cargo = inner("/usr/bin/cargo");
                cargo.env("RUSTC", "/usr/bin/rustc");
                cargo
            }
        }
    }
}

/// A command that does not inherit the choices of the cargo that started us, nor what it tells of our own package: build
/// scripts run again where that changes (ring's does, and half the host after it).
pub fn inner(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in OUTER_CARGO {
        command.env_remove(name);
    }
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CARGO_PKG_")) {
        command.env_remove(name);
    }
    command
}

fn installed() -> bool {
    let libdir = inner("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    libdir.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}

fn rustup() -> Result<()> {
    eprintln!("· getting the standard library for {TARGET} with rustup (at most {} s)", RUSTUP_TIME_MAX.as_secs());
    let mut command = inner("rustup");
    command.args(["target", "add", TARGET]);
    let output = run_within(command, RUSTUP_TIME_MAX).context("rustup cannot be used")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`rustup target add {TARGET}` failed: {}", last_line(&stderr));
    ensure!(installed(), "rustup added {TARGET}, but the active rustc does not see it: is another rustc first in PATH?");
    Ok(())
}

fn debian() -> Result<Toolchain> {
    if !missing_debian_files().is_empty() {
        ensure!(
            Path::new("/usr/bin/apt-get").exists(),
            "and this is no Debian system; install Rust with rustup and run `rustup target add {TARGET}`"
        );
        let packages = DEBIAN_PACKAGES.join(" ");
        eprintln!("· installing {packages} with apt");
        let sudo: &[&str] = if is_root() { &[] } else { &["sudo", "-n"] };
        for arguments in [&["update", "-qq"][..], &["install", "-qq", "-y", "--no-install-recommends"]] {
            let mut words = [sudo, &["apt-get"], arguments].concat();
            if arguments[0] == "install" {
                words.extend(DEBIAN_PACKAGES);
            }
            let mut apt = inner(words[0]);
            apt.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
            let done = apt.status().is_ok_and(|status| status.success());
            ensure!(done, "`{}` failed; run it by hand: apt-get install {packages}", words.join(" "));
        }
    }
    let missing = missing_debian_files();
    ensure!(
        missing.is_empty(),
        "{} missing after apt-get install {}: this release of Debian has other packages; use rustup",
        missing.join(", "),
        DEBIAN_PACKAGES.join(" ")
    );
    Ok(Toolchain::Debian)
}

fn missing_debian_files() -> Vec<&'static str> {
    DEBIAN_FILES.into_iter().filter(|file| !Path::new(file).exists()).collect()
}

fn is_root() -> bool {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Output of a command that is killed when it takes too long.
fn run_within(mut command: Command, time_max: Duration) -> Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let end = Instant::now() + time_max;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("no answer within {} s (no internet?)", time_max.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(child.wait_with_output()?)
}

fn last_line(text: &str) -> &str {
    text.trim().lines().last().unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_cargo_is_not_told_of_the_package_that_runs_it() {
        let told: Vec<String> = env::vars().map(|(name, _)| name).filter(|name| name.starts_with("CARGO_PKG_")).collect();
        assert!(!told.is_empty(), "cargo runs this test");
        let cargo = inner("cargo");
        for name in told {
            assert!(cargo.get_envs().any(|(removed, value)| removed == name.as_str() && value.is_none()), "{name}");
        }
    }
}
