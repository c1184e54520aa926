//! Generates the guest bindings of every package under `wit/`, once for all
//! plugins: one world that imports everything, and one world for each interface
//! that a plugin can export. Exported interfaces reuse the Rust types of the
//! imported ones, so that a `Money` is one type everywhere.
//!
//! The result is a module for each package with a module for each interface:
//! its types, its functions (calls to the provider), and for the provider the
//! trait `Guest` and the `world` that `souk_sdk::export!` uses. A new interface
//! under `wit/` needs nothing here, nor does one of a plugin's own project, if
//! `souk plugin new` has put the SDK into it.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use wit_bindgen_core::wit_parser::{
    InterfaceId, Resolve, Type, TypeDefKind, TypeOwner, UnresolvedPackageGroup, WorldItem,
};
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::{Opts, WithOption, to_rust_ident};

/// Where `souk plugin new` puts the SDK, in a project that may have a `wit/`.
const PLACE_IN_PROJECT: &str = ".souk/sdk";
const OWN_NAMESPACE: &str = "souk";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let sdk = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut contracts = vec![sdk.join("../wit")];
    if sdk.ends_with(PLACE_IN_PROJECT) {
        contracts.push(sdk.join("../../wit"));
    }
    println!("cargo::rerun-if-changed=build.rs");

    let mut resolve = Resolve::default();
    let mut packages = Vec::new();
    for wit in contracts.iter().filter(|wit| wit.exists()) {
        println!("cargo::rerun-if-changed={}", wit.display());
        packages.extend(wit_packages(wit)?);
    }
    let first = packages.pop().ok_or_else(|| format!("no WIT packages under {}", contracts[0].display()))?;
    resolve.push_groups(first, packages)?;
    let interfaces: Vec<InterfaceId> = resolve.interfaces.iter().map(|(id, _)| id).collect();

    // What the contracts' own worlds import, the host provides, and no plugin.
    let from_host: BTreeSet<InterfaceId> = resolve
        .worlds
        .iter()
        .flat_map(|(_, world)| world.imports.values())
        .filter_map(|item| if let WorldItem::Interface { id, .. } = item { Some(*id) } else { None })
        .collect();
    let exportable: BTreeSet<InterfaceId> =
        interfaces.iter().copied().filter(|id| is_callable(&resolve, *id) && !from_host.contains(id)).collect();

    let mut worlds = String::from("package souk:sdk;\nworld imports {\n");
    for &id in &interfaces {
        writeln!(worlds, "import {};", resolve.id_of(id).ok_or("an interface without a name")?)?;
    }
    worlds.push_str("}\n");
    for &id in &exportable {
        writeln!(worlds, "world {} {{ export {}; }}", export_world(&resolve, id), resolve.id_of(id).expect("named above"))?;
    }
    resolve.push_str("souk-sdk.wit", &worlds)?;

    let mut code = format!("pub mod wit {{ {} }}\n", generate(&mut resolve, "imports", Vec::new())?);
    for &id in &exportable {
        let world = export_world(&resolve, id);
        let shared = shared_types(&resolve, &world, id);
        writeln!(code, "pub mod {} {{ {} }}", to_rust_ident(&world), generate(&mut resolve, &world, shared)?)?;
    }
    code.push_str(&facade(&resolve, &interfaces, &exportable));
    fs::write(Path::new(&env::var("OUT_DIR")?).join("bindings.rs"), code)?;
    Ok(())
}

fn wit_packages(wit: &Path) -> Result<Vec<UnresolvedPackageGroup>> {
    let mut folders: Vec<PathBuf> = fs::read_dir(wit)
        .map_err(|error| format!("{}: {error}", wit.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    // A package that is not written yet is an empty folder.
    folders.retain(|folder| fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()));
    folders.sort();
    folders.iter().map(|folder| Ok(UnresolvedPackageGroup::parse_dir(folder)?)).collect()
}

/// Interfaces of types alone have nothing to export.
fn is_callable(resolve: &Resolve, id: InterfaceId) -> bool {
    !resolve.interfaces[id].functions.is_empty()
}

fn package_name(resolve: &Resolve, id: InterfaceId) -> &str {
    let package = resolve.interfaces[id].package.expect("only packages are read");
    &resolve.packages[package].name.name
}

fn namespace(resolve: &Resolve, id: InterfaceId) -> &str {
    let package = resolve.interfaces[id].package.expect("only packages are read");
    &resolve.packages[package].name.namespace
}

fn interface_name(resolve: &Resolve, id: InterfaceId) -> &str {
    resolve.interfaces[id].name.as_deref().expect("named above")
}

fn export_world(resolve: &Resolve, id: InterfaceId) -> String {
    format!("{}-{}-provider", package_name(resolve, id), interface_name(resolve, id))
}

/// Where the one definition of an interface's types is.
fn module_path(resolve: &Resolve, id: InterfaceId) -> String {
    format!(
        "crate::bindings::wit::{}::{}::{}",
        to_rust_ident(namespace(resolve, id)),
        to_rust_ident(package_name(resolve, id)),
        to_rust_ident(interface_name(resolve, id))
    )
}

/// Maps what `world` needs to the types of the world that imports everything:
/// whole interfaces that it imports, and type by type the interface it exports.
fn shared_types(resolve: &Resolve, world: &str, exported: InterfaceId) -> Vec<(String, WithOption)> {
    let world = resolve.worlds.iter().find(|(_, candidate)| candidate.name == world).expect("pushed above").1;
    let mut shared = Vec::new();
    for item in world.imports.values() {
        if let WorldItem::Interface { id, .. } = item {
            let name = resolve.id_of(*id).expect("named above");
            shared.push((name, WithOption::Path(module_path(resolve, *id))));
        }
    }
    let interface = resolve.id_of(exported).expect("named above");
    for (name, &id) in &resolve.interfaces[exported].types {
        // `use types.{money}` is an alias, already mapped with its interface.
        let alias_of_other = matches!(resolve.types[id].kind, TypeDefKind::Type(Type::Id(target))
            if resolve.types[target].owner != TypeOwner::Interface(exported));
        if !alias_of_other {
            let path = format!("{}::{}", module_path(resolve, exported), camel(name));
            shared.push((format!("{interface}/{name}"), WithOption::Path(path)));
        }
    }
    shared
}

fn camel(name: &str) -> String {
    name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

fn generate(resolve: &mut Resolve, world: &str, shared: Vec<(String, WithOption)>) -> Result<String> {
    let id = resolve.worlds.iter().find(|(_, candidate)| candidate.name == world).expect("pushed above").0;
    let options = Opts {
        with: shared,
        generate_all: true,
        generate_unused_types: true,
        pub_export_macro: true,
        additional_derive_attributes: ["PartialEq", "serde::Serialize", "serde::Deserialize"].map(String::from).to_vec(),
        runtime_path: Some("::souk_sdk::rt".into()),
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(resolve, id, &mut files)?;
    let (_, source) = files.iter().next().ok_or("no bindings generated")?;
    Ok(adapt(std::str::from_utf8(source)?))
}

const FOR_COMPONENTS: &str = "#[cfg(target_arch = \"wasm32\")]\n";

/// In JSON, cases are called what WIT calls them: `action-required`. What moves
/// values into and out of a component, most of the code, is compiled for
/// components alone: a native test has types, and the trait to implement.
fn adapt(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut called = None;
    for line in source.lines() {
        let text = line.trim_start();
        if text.starts_with("pub enum ") {
            code.push_str("#[serde(rename_all = \"kebab-case\")]\n");
        }
        if ["pub unsafe fn _export_", "pub unsafe fn __post_return_"].iter().any(|exported| text.starts_with(exported)) {
            code.push_str(FOR_COMPONENTS);
        }
        if let (Some(function), "unsafe {") = (called, text) {
            let _ = writeln!(code, "#[cfg(not(target_arch = \"wasm32\"))]\n{{ crate::no_provider(module_path!(), {function:?}) }}\n{FOR_COMPONENTS}");
        }
        called = text.strip_prefix("pub fn ").and_then(|signature| signature.split('(').next());
        code.push_str(line);
        code.push('\n');
    }
    code
}

fn facade(resolve: &Resolve, interfaces: &[InterfaceId], exportable: &BTreeSet<InterfaceId>) -> String {
    let mut packages: BTreeMap<(bool, &str), String> = BTreeMap::new();
    for &id in interfaces {
        let code = packages.entry((namespace(resolve, id) == OWN_NAMESPACE, package_name(resolve, id))).or_default();
        let docs = resolve.interfaces[id].docs.contents.as_deref().unwrap_or_default();
        let _ = writeln!(code, "#[doc = {docs:?}]\npub mod {} {{", to_rust_ident(interface_name(resolve, id)));
        let _ = writeln!(code, "#[allow(unused_imports)] pub use {}::*;", module_path(resolve, id));
        if exportable.contains(&id) {
            let world = to_rust_ident(&export_world(resolve, id));
            let exports = module_path(resolve, id).replace("::wit::", &format!("::{world}::exports::"));
            let _ = writeln!(code, "pub use {exports}::Guest;\n#[doc(hidden)] pub use crate::bindings::{world} as world;");
        }
        code.push_str("}\n");
    }
    let (mut own, mut of_others) = (String::new(), String::new());
    for ((is_own, package), modules) in packages {
        let code = if is_own { &mut own } else { &mut of_others };
        let _ = writeln!(code, "pub mod {} {{\n{modules}}}", to_rust_ident(package));
    }
    format!("{own}pub mod of_others {{\n{of_others}}}\n")
}
