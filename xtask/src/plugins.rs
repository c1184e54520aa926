//! `cargo xtask plugins`: compiles guests, wraps them as components and puts
//! them where a running shop may be watching.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{fs, process};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use wit_component::ComponentEncoder;

use crate::toolchain::{TARGET, Toolchain};

/// A plugin's source.
struct Source {
    folder: PathBuf,
    /// Cargo's name of the crate.
    package: String,
    /// The plugin's name in its manifest.
    name: String,
}

#[derive(Deserialize)]
struct CargoManifest {
    package: Package,
}

/// Of `plugin.toml` as of `Cargo.toml`: all that is needed here.
#[derive(Deserialize)]
struct Package {
    name: String,
}

/// What `souk dev` builds with: soon rather than well. Each crate that did not
/// change is kept, and so is what did not change of one that did.
const QUICK: [&str; 7] = [
    "profile.quick.inherits='release'",
    "profile.quick.opt-level=1",
    "profile.quick.debug=false",
    "profile.quick.lto=false",
    "profile.quick.codegen-units=16",
    "profile.quick.incremental=true",
    "profile.quick.panic='abort'",
];

/// Builds the plugins under `source` (all, or those named), or the one plugin that it is, into `out`.
pub fn build(root: &Path, toolchain: Toolchain, source: &Path, only: &[String], quick: bool, out: &Path) -> Result<()> {
    if source.join(SCRIPT).exists() {
        return build_by_script(source, out);
    }
    let mut sources = find(source)?;
    for name in only {
        let known = || sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
        ensure!(sources.iter().any(|source| source.name == *name), "no plugin `{name}`; there are: {}", known());
    }
    if !only.is_empty() {
        sources.retain(|source| only.contains(&source.name));
    }
    if sources.is_empty() {
        return Ok(());
    }

    // A workspace keeps `release` for native tests. Plugins outside of one share
    // a target folder, because the standard library may have to be built in it.
    let (careful, target) = if source.join("plugin.toml").exists() {
        ("release", root.join("target/outside"))
    } else {
        ("guest", source.join("target"))
    };
    let profile = if quick { "quick" } else { careful };
    let mut cargo = toolchain.cargo_build();
    if quick {
        cargo.args(QUICK.iter().flat_map(|setting| ["--config", setting]));
    }
    cargo.args(["--profile", profile]);
    cargo.arg("--manifest-path").arg(source.join("Cargo.toml")).arg("--target-dir").arg(&target);
    for source in &sources {
        cargo.arg("--package").arg(&source.package);
    }
    ensure!(cargo.status().context("cargo does not start")?.success(), "the plugins do not compile");

    fs::create_dir_all(out)?;
    for source in &sources {
        let module = target.join(TARGET).join(profile).join(source.package.replace('-', "_")).with_extension("wasm");
        let component = componentize(&module)
            .with_context(|| format!("plugin `{}` does not make a component", source.name))?;
        if publish(source, &component, out)? {
            eprintln!("  {} ({} KiB)", source.name, component.len() / 1024);
        }
    }
    Ok(())
}

/// Of a plugin in another language, which leaves its component beside its manifest.
const SCRIPT: &str = "build.sh";

fn build_by_script(source: &Path, out: &Path) -> Result<()> {
    let name = read_toml::<Package>(&source.join("plugin.toml"))?.name;
    let built = process::Command::new("sh").arg(SCRIPT).current_dir(source).stdout(process::Stdio::null()).status();
    ensure!(built.context("sh does not start")?.success(), "{}: {SCRIPT} failed", source.display());
    fs::create_dir_all(out)?;
    let component = fs::read(source.join("plugin.wasm"))?;
    if publish(&Source { folder: source.to_owned(), package: name.clone(), name: name.clone() }, &component, out)? {
        eprintln!("  {name} ({} KiB)", component.len() / 1024);
    }
    Ok(())
}

/// The program that a script needs and that is not here, or is too old.
pub fn lacks(source: &Path) -> Option<&'static str> {
    let (program, arguments) = if source.join("package.json").exists() {
        ("node", ["-e", "const [a, b] = process.versions.node.split('.'); process.exit(a > 20 || a == 20 && b >= 19 ? 0 : 1)"])
    } else if source.join("requirements.txt").exists() {
        ("python3", ["-m", "ensurepip"])
    } else {
        return None;
    };
    let mut command = process::Command::new(program);
    command.args(arguments).args(if program == "python3" { &["--version"][..] } else { &[] });
    let runs = command.stdout(process::Stdio::null()).stderr(process::Stdio::null()).status().is_ok_and(|status| status.success());
    (!runs).then_some(program)
}

fn find(source: &Path) -> Result<Vec<Source>> {
    let mut folders = vec![source.to_owned()];
    for entry in fs::read_dir(source).with_context(|| source.display().to_string())? {
        folders.push(entry?.path());
    }
    let mut sources = Vec::new();
    for folder in folders {
        if folder.join("plugin.toml").exists() {
            let package = read_toml::<CargoManifest>(&folder.join("Cargo.toml"))?.package.name;
            let name = read_toml::<Package>(&folder.join("plugin.toml"))?.name;
            sources.push(Source { folder, package, name });
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

fn read_toml<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// A core module with the bindings' custom sections becomes a component.
fn componentize(module: &Path) -> Result<Vec<u8>> {
    let module = fs::read(module).with_context(|| module.display().to_string())?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

/// Puts a whole plugin in place with one rename; `false` if nothing changed.
fn publish(source: &Source, component: &[u8], out: &Path) -> Result<bool> {
    let mut wanted = BTreeMap::new();
    wanted.insert(PathBuf::from("plugin.wasm"), component.to_vec());
    wanted.insert(PathBuf::from("plugin.toml"), fs::read(source.folder.join("plugin.toml"))?);
    let assets = source.folder.join("assets");
    if assets.is_dir() {
        read_tree(&assets, Path::new("assets"), &mut wanted)?;
    }

    let target = out.join(&source.name);
    let mut present = BTreeMap::new();
    match read_tree(&target, Path::new(""), &mut present) {
        Ok(()) if present == wanted => return Ok(false),
        Ok(()) => {}
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error),
    }

    // Beside the target, so that the rename stays on one file system; with a
    // dot, so that the shop does not take it for a plugin.
    let fresh = out.join(format!(".{}.{}", source.name, process::id()));
    for (path, bytes) in &wanted {
        let path = fresh.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&fresh))?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    if target.exists() {
        exchange(&fresh, &target)?;
        fs::remove_dir_all(&fresh)?;
    } else {
        fs::rename(&fresh, &target)?;
    }
    Ok(true)
}

fn read_tree(folder: &Path, prefix: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = prefix.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            read_tree(&entry.path(), &path, into)?;
        } else {
            into.insert(path, fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Swaps two folders so that there is no instant without a plugin.
#[cfg(target_os = "linux")]
fn exchange(fresh: &Path, target: &Path) -> Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let [from, to] = [fresh, target].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (from, to) = (from?, to?);
    // SAFETY: both are strings that end in NUL and outlive the call.
    let done = unsafe {
        libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::RENAME_EXCHANGE)
    };
    if done != 0 {
        bail!("{} cannot be replaced: {}", target.display(), std::io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn exchange(fresh: &Path, target: &Path) -> Result<()> {
    let old = fresh.with_extension("old");
    fs::rename(target, &old)?;
    fs::rename(fresh, target)?;
    fs::rename(old, fresh)?;
    Ok(())
}
