//! Plugins that were built against published contracts keep working: what is in
//! `wit/` may grow, and may not change what it had.
//!
//! `published/<version>` is a copy that is never edited. A change that cannot
//! be compatible needs a new version of its package, beside the old one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use wit_component::semver_check;
use wit_parser::{Resolve, UnresolvedPackageGroup, WorldId};

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

fn published() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Everything that a plugin can be built against, under a version of its own.
fn copy(from: &Path, to: &Path, version: &str, change: (&str, &str)) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target, version, change);
        } else {
            let text = fs::read_to_string(entry.path()).unwrap();
            fs::write(target, text.replace("@0.1.0", &format!("@{version}")).replace(change.0, change.1)).unwrap();
        }
    }
}

/// A plugin that calls all there is, and provides what `provides` names, or
/// else all there is; with what it provides.
fn push(resolve: &mut Resolve, folder: &Path, version: &str, provides: Option<&BTreeSet<String>>) -> (WorldId, BTreeSet<String>) {
    let mut provided = BTreeSet::new();
    let mut groups: Vec<UnresolvedPackageGroup> =
        fs::read_dir(folder).unwrap().flatten().map(|entry| UnresolvedPackageGroup::parse_dir(&entry.path()).unwrap()).collect();
    let first = groups.pop().expect("contracts");
    resolve.push_groups(first, groups).unwrap();

    let mut world = format!("package test:plugin@{version};\nworld plugin {{\n");
    let offered: Vec<_> = resolve
        .worlds
        .iter()
        .flat_map(|(_, world)| world.imports.values())
        .filter_map(|item| if let wit_parser::WorldItem::Interface { id, .. } = item { Some(*id) } else { None })
        .collect();
    for (id, interface) in resolve.interfaces.iter().filter(|(_, interface)| !interface.functions.is_empty()) {
        let name = resolve.id_of(id).unwrap();
        if !name.ends_with(&format!("@{version}")) || name.starts_with("test:") {
            continue;
        }
        let package = name.split('/').next().unwrap();
        // Services and extension points have both sides in plugins.
        if offered.contains(&id) || ["souk:commerce", "souk:extend"].contains(&package) {
            writeln!(world, "import {name};").unwrap();
        }
        let unversioned = name.split('@').next().unwrap_or(&name).to_owned();
        if !offered.contains(&id) && provides.is_none_or(|names| names.contains(&unversioned)) {
            writeln!(world, "export {name};").unwrap();
            provided.insert(unversioned);
        }
        assert!(interface.package.is_some());
    }
    world.push_str("}\n");
    let package = resolve.push_str("plugin.wit", &world).unwrap();
    (resolve.select_world(&[package], Some("plugin")).unwrap(), provided)
}

/// Whether plugins of `old` run where `wit/`, with this change, is what there is.
fn runs(old: &Path, change: (&str, &str)) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let (before, now) = (folder.path().join("before"), folder.path().join("now"));
    fs::create_dir_all(&before).unwrap();
    fs::create_dir_all(&now).unwrap();
    copy(old, &before, "0.0.1", ("\0", ""));
    copy(&wit(), &now, "0.0.2", change);
    let mut resolve = Resolve::default();
    let (before, provided) = push(&mut resolve, &before, "0.0.1", None);
    // A plugin of before provides nothing that is new.
    let (now, _) = push(&mut resolve, &now, "0.0.2", Some(&provided));
    semver_check(resolve, before, now).map_err(|error| format!("{error:#}"))
}

#[test]
fn plugins_built_against_published_contracts_still_fit() {
    let all = published();
    assert!(!all.is_empty());
    for version in all {
        runs(&version, ("\0", "")).unwrap_or_else(|error| panic!("plugins of {} no longer fit: {error}", version.display()));
    }
}

#[test]
fn a_change_that_breaks_them_is_seen_and_one_that_adds_is_not() {
    for version in published() {
        let more = ("counter-get: func", "twice: func(key: string) -> u32;\n  counter-get: func");
        assert_eq!(runs(&version, more), Ok(()));
        for change in [
            ("delta: s64,", "delta: s32,"),
            ("counter-peek: func", "counter-look: func"),
            ("    quantity: u32,\n    unit-price: money,", "    unit-price: money,"),
            ("propose: func(", "refuse: func() -> bool;\n  propose: func("),
        ] {
            assert!(runs(&version, change).is_err(), "{change:?}");
        }
    }
}

/// What an operator is asked when a plugin calls one of the shop's services: nothing is left to a function's name.
#[test]
fn each_function_of_the_shops_services_is_in_a_group_that_says_what_it_means() {
    let mut resolve = Resolve::default();
    resolve.push_path(wit().join("commerce")).unwrap();
    let mut functions: BTreeSet<String> = BTreeSet::new();
    for (id, interface) in resolve.interfaces.iter() {
        let name = resolve.id_of(id).unwrap();
        functions.extend(interface.functions.keys().map(|function| format!("{}.{function}", name.split('@').next().unwrap())));
    }
    let mut grouped = BTreeSet::new();
    for plugin in fs::read_dir(wit().join("../plugins")).unwrap().flatten() {
        let Ok(text) = fs::read_to_string(plugin.path().join("plugin.toml")) else { continue };
        let manifest: toml::Table = text.parse().unwrap();
        for service in manifest.get("services").and_then(|services| services.as_array()).into_iter().flatten() {
            for (group, of) in service["groups"].as_table().unwrap() {
                for locale in ["en", "zh-CN"] {
                    assert!(of["words"].get(locale).is_some(), "{}: {group} says nothing in {locale}", plugin.path().display());
                }
                let names = of["functions"].as_array().unwrap().iter().map(|function| function.as_str().unwrap());
                grouped.extend(names.map(|function| format!("{}.{function}", service["interface"].as_str().unwrap())));
            }
        }
    }
    assert_eq!(grouped, functions);
}
