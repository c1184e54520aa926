//! Compiles plugins, wraps them as components, and puts them where a running
//! shop may be watching. Used by `souk plugin build`, `souk dev` and
//! `cargo xtask plugins`; knows nothing of the host.

mod sbom;
mod settings;
mod toolchain;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{fs, process};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use wit_component::ComponentEncoder;

pub use toolchain::{Toolchain, inner};
use toolchain::TARGET;

const MANIFEST: &str = "plugin.toml";
/// What else a bundle may hold for people.
const TEXTS: [&str; 3] = ["LICENSE", "NOTICE", "README.md"];

/// A plugin's source.
pub struct Source {
    pub folder: PathBuf,
    /// Cargo's name of the crate.
    package: String,
    /// The plugin's name in its manifest.
    pub name: String,
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

/// What to build, and how.
pub struct Build<'a> {
    /// A workspace of plugins, or the folder of one.
    pub source: &'a Path,
    /// Names of plugins in the workspace; all of them if empty.
    pub only: &'a [String],
    /// Soon rather than well: for a shop that is being worked on.
    pub quick: bool,
    /// Cargo's folder; `target` beside the source unless given. Where the
    /// standard library has to be built, it is built once in each.
    pub target: Option<&'a Path>,
    /// A folder of its own for each plugin is put here.
    pub out: &'a Path,
}

impl<'a> Build<'a> {
    pub fn new(source: &'a Path, out: &'a Path) -> Self {
        Self { source, only: &[], quick: false, target: None, out }
    }

    /// Prints the plugins that have changed.
    pub fn run(&self) -> Result<()> {
        if self.source.join(SCRIPT).exists() {
            return build_by_script(self.source, self.out);
        }
        let mut sources = sources(self.source)?;
        for name in self.only {
            let known = || sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
            ensure!(sources.iter().any(|source| source.name == *name), "no plugin `{name}`; there are: {}", known());
        }
        if !self.only.is_empty() {
            sources.retain(|source| self.only.contains(&source.name));
        }
        if sources.is_empty() {
            return Ok(());
        }

        let profile = if self.quick { "quick" } else { "release" };
        let target = self.target.map_or_else(|| self.source.join("target"), Path::to_owned);
        let toolchain = Toolchain::find()?;
        let mut cargo = toolchain.cargo_build();
        if self.quick {
            cargo.args(QUICK.iter().flat_map(|setting| ["--config", setting]));
        }
        cargo.args(["--profile", profile]);
        cargo.arg("--manifest-path").arg(self.source.join("Cargo.toml")).arg("--target-dir").arg(&target);
        for source in &sources {
            cargo.arg("--package").arg(&source.package);
        }
        let compiled = cargo.status().context("cargo does not start")?.success();
        ensure!(compiled, "{} does not compile", if sources.len() == 1 { "the plugin" } else { "one of the plugins" });

        // Nobody ships what was built soon.
        let metadata = if self.quick { None } else { Some(toolchain.metadata(&self.source.join("Cargo.toml"))?) };
        fs::create_dir_all(self.out)?;
        for source in &sources {
            let path = target.join(TARGET).join(profile).join(source.package.replace('-', "_")).with_extension("wasm");
            let module = fs::read(&path).with_context(|| path.display().to_string())?;
            let component = componentize(&module).with_context(|| format!("plugin `{}` does not make a component", source.name))?;
            let size = component.len();
            let path = source.folder.join(MANIFEST);
            let manifest = settings::manifest(&fs::read_to_string(&path)?, &module).with_context(|| path.display().to_string())?;
            let mut files = vec![("plugin.wasm", component), (MANIFEST, manifest.into_bytes())];
            if let Some(metadata) = &metadata {
                files.push(("sbom.cdx.json", serde_json::to_vec_pretty(&sbom::bom(metadata, &source.package)?)?));
            }
            if publish(&source.folder, &source.name, files, self.out)? {
                eprintln!("  {} ({} KiB)", source.name, size / 1024);
            }
        }
        Ok(())
    }
}

/// Of a plugin in another language, which leaves its component beside its manifest.
const SCRIPT: &str = "build.sh";

fn build_by_script(source: &Path, out: &Path) -> Result<()> {
    let name = read_toml::<Package>(&source.join(MANIFEST))?.name;
    let built = process::Command::new("sh").arg(SCRIPT).current_dir(source).stdout(process::Stdio::null()).status();
    ensure!(built.context("sh does not start")?.success(), "{}: {SCRIPT} failed", source.display());
    fs::create_dir_all(out)?;
    let component = fs::read(source.join("plugin.wasm"))?;
    let size = component.len();
    if publish(source, &name, vec![("plugin.wasm", component), (MANIFEST, fs::read(source.join(MANIFEST))?)], out)? {
        eprintln!("  {name} ({} KiB)", size / 1024);
    }
    Ok(())
}

/// The program that a script needs and that is not here, or is too old.
pub fn lacks(source: &Path) -> Option<&'static str> {
    let (program, proof): (_, &[&str]) = if source.join("package.json").exists() {
        ("node", &["-e", "const [a, b] = process.versions.node.split('.'); process.exit(a > 20 || a == 20 && b >= 19 ? 0 : 1)"])
    } else if source.join("requirements.txt").exists() {
        ("python3", &["-m", "ensurepip", "--version"])
    } else {
        return None;
    };
    let mut proof_of = process::Command::new(program);
    proof_of.args(proof).stdout(process::Stdio::null()).stderr(process::Stdio::null());
    if proof_of.status().is_ok_and(|status| status.success()) { None } else { Some(program) }
}

/// The plugins in Rust of a workspace, or the one whose folder this is, by name.
pub fn sources(source: &Path) -> Result<Vec<Source>> {
    let mut folders = vec![source.to_owned()];
    for entry in fs::read_dir(source).with_context(|| source.display().to_string())? {
        folders.push(entry?.path());
    }
    let mut sources = Vec::new();
    for folder in folders {
        if folder.join(MANIFEST).exists() {
            let package = read_toml::<CargoManifest>(&folder.join("Cargo.toml"))?.package.name;
            let name = read_toml::<Package>(&folder.join(MANIFEST))?.name;
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
fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(module)?.encode()
}

/// Puts a whole plugin in place with one rename; `false` if nothing changed.
fn publish(source: &Path, name: &str, files: Vec<(&str, Vec<u8>)>, out: &Path) -> Result<bool> {
    let mut wanted: BTreeMap<PathBuf, Vec<u8>> = files.into_iter().map(|(path, bytes)| (path.into(), bytes)).collect();
    for name in TEXTS.iter().filter(|name| source.join(name).is_file()) {
        wanted.insert(name.into(), fs::read(source.join(name))?);
    }
    let assets = source.join("assets");
    if assets.is_dir() {
        read_tree(&assets, Path::new("assets"), &mut wanted)?;
    }

    let target = out.join(name);
    let mut present = BTreeMap::new();
    match read_tree(&target, Path::new(""), &mut present) {
        Ok(()) if present == wanted => return Ok(false),
        Ok(()) => {}
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error),
    }

    // Beside the target, so that the rename stays on one file system; with a
    // dot, so that the shop does not take it for a plugin.
    let fresh = out.join(format!(".{name}.{}", process::id()));
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
pub fn exchange(fresh: &Path, target: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, fresh, CWD, target, RenameFlags::EXCHANGE).with_context(|| format!("{} cannot be replaced", target.display()))
}

#[cfg(not(target_os = "linux"))]
pub fn exchange(fresh: &Path, target: &Path) -> Result<()> {
    let old = fresh.with_extension("old");
    fs::rename(target, &old)?;
    fs::rename(fresh, target)?;
    fs::rename(old, fresh)?;
    Ok(())
}
