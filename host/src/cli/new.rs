//! `souk plugin new`: a project that builds and is tested, with the SDK and the
//! contracts of this very host beside it, so that nothing has to be fetched
//! from anywhere but crates.io.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use include_dir::{Dir, File, include_dir};

static WIT: Dir = include_dir!("$CARGO_MANIFEST_DIR/../wit");
static SDK: Dir = include_dir!("$CARGO_MANIFEST_DIR/../sdk/src");
static TEMPLATES: Dir = include_dir!("$CARGO_MANIFEST_DIR/templates");
const SDK_MANIFEST: &str = include_str!("../../../sdk/Cargo.toml");
/// Of `Cargo.toml`, for plugins with pages.
const HTML: &str = "# HTML that is escaped by construction.\nmaud = { version = \"0.27\", default-features = false }\n";
const SDK_BUILD: &str = include_str!("../../../sdk/build.rs");
const SDK_BUILD_OF_BINDINGS: &str = include_str!("../../sdk/build.rs");

mod generated {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// Takes part wherever the shop asks for discounts.
    Discount,
    /// Answers web requests under a path of its own.
    Page,
    /// Hears events, and offers the operator a command.
    Subscriber,
    /// Takes payments through a company with an HTTP API.
    PaymentMethod,
    /// Has a contract of its own, which other plugins call.
    Service,
}

pub fn new(folder: &Path, kind: Kind) -> Result<()> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ensure!(
        crate::shop::load::is_kebab(name),
        "`{name}` is no name for a plugin: use 1 to 40 lower-case letters, digits and single hyphens, a letter first"
    );
    ensure!(!folder.exists(), "{} is there already", folder.display());
    let kind = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let of_kind = TEMPLATES.get_dir(&kind).with_context(|| format!("no templates for {kind}"))?;
    let writes_html = of_kind.files().any(|file| file.contents_utf8().is_some_and(|text| text.contains("maud::")));
    let filled = |file: &File| -> Result<String> {
        let text = file.contents_utf8().with_context(|| format!("{} is not text", file.path().display()))?;
        let text = text.replace("{name}", name).replace("{Type}", &camel(name)).replace("{CODE}", &name.replace('-', "").to_uppercase());
        // What a plugin does not use need not be fetched and compiled.
        Ok(if writes_html { text } else { text.replace(HTML, "") })
    };

    let has_contracts = of_kind.files().any(|file| file.path().extension() == Some(OsStr::new("wit")));
    write_sdk(folder, has_contracts)?;
    for file in TEMPLATES.files().chain(of_kind.files()) {
        let name = Path::new(file.path().file_name().unwrap_or_default());
        let place = match name.extension().and_then(OsStr::to_str) {
            Some("rs") => Path::new("src").join(name),
            Some("json") => Path::new("scenarios").join(name),
            // A package of contracts is a folder.
            Some("wit") => Path::new("wit").join(name.with_extension("")).join(name),
            _ => name.to_owned(),
        };
        let path = folder.join(place);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, filled(file)?).with_context(|| path.display().to_string())?;
    }
    fs::write(folder.join(".gitignore"), "/target\n")?;
    let at = folder.display();
    say!("{at} is ready.");
    say!("");
    say!("  cargo test --manifest-path {at}/Cargo.toml     its test, natively");
    say!("  souk plugin build {at}                         the component, into {at}/target/souk");
    say!("  souk plugin test {at}                          its scenarios, as a shop runs it");
    say!("");
    say!("One file for a shop, signed with a key that you make once and keep:");
    say!("");
    say!("  souk plugin key publisher.key");
    say!("  souk plugin pack {at}/target/souk/{name} --key publisher.key");
    Ok(())
}

/// The SDK and the contracts of this very host anew, for a project of an older one, or one that has got contracts of its own.
pub fn renew_sdk(folder: &Path) -> Result<()> {
    ensure!(folder.join("plugin.toml").is_file(), "{}: no plugin is here; `souk plugin new` begins one", folder.display());
    let has_contracts = fs::read_dir(folder.join("wit")).is_ok_and(|mut packages| packages.next().is_some());
    let hidden = folder.join(".souk");
    if hidden.exists() {
        fs::remove_dir_all(&hidden).with_context(|| hidden.display().to_string())?;
    }
    write_sdk(folder, has_contracts)?;
    say!("{} has the SDK of souk {}{}", folder.display(), env!("CARGO_PKG_VERSION"), if has_contracts { ", and generates what its contracts need" } else { "" });
    Ok(())
}

/// A project with contracts of its own generates all bindings, which takes a dozen crates more.
fn write_sdk(folder: &Path, has_contracts: bool) -> Result<()> {
    let hidden = folder.join(".souk");
    let sdk = hidden.join("sdk");
    write_tree(&WIT, &hidden.join("wit"))?;
    write_tree(&SDK, &sdk.join("src"))?;
    let manifest = outside_of_workspace(SDK_MANIFEST);
    match generated::BINDINGS.filter(|_| !has_contracts) {
        Some(bindings) => {
            fs::write(sdk.join("bindings.rs"), bindings)?;
            fs::write(sdk.join("build.rs"), SDK_BUILD_OF_BINDINGS)?;
            let (manifest, _) = manifest.split_once("[build-dependencies]").context("the SDK's manifest has no build-dependencies")?;
            fs::write(sdk.join("Cargo.toml"), manifest)?;
        }
        None => {
            fs::write(sdk.join("build.rs"), SDK_BUILD)?;
            fs::write(sdk.join("Cargo.toml"), manifest)?;
        }
    }
    Ok(())
}

fn camel(name: &str) -> String {
    name.split('-').filter_map(|word| Some(word.get(..1)?.to_uppercase() + word.get(1..)?)).collect()
}

/// What the SDK takes from its workspace here, written out; its own tests stay here.
fn outside_of_workspace(manifest: &str) -> String {
    let manifest = manifest.split("[dev-dependencies]").next().unwrap_or(manifest);
    let written = [
        ("version.workspace = true", concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"")),
        ("rust-version.workspace = true", concat!("rust-version = \"", env!("CARGO_PKG_RUST_VERSION"), "\"")),
        ("edition.workspace = true", "edition = \"2024\""),
        ("license.workspace = true", concat!("license = \"", env!("CARGO_PKG_LICENSE"), "\"")),
        ("workspace = \"../plugins\"", ""),
    ];
    let line = |line: &str| written.iter().find(|(from, _)| *from == line).map_or(line, |(_, to)| to).to_owned();
    manifest.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn write_tree(tree: &Dir, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    tree.extract(folder).with_context(|| folder.display().to_string())
}
