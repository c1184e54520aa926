//! What a plugin is made of: a list of parts in CycloneDX, from what cargo
//! resolved. It has no time and no serial number: the same source gives the
//! same list.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, Package, PackageId, TargetKind};
use serde_json::{Value, json};

/// `metadata` is of a workspace for the guests' target, `package` one of its crates.
pub fn bom(metadata: &Metadata, package: &str) -> Result<Value> {
    let packages: BTreeMap<&PackageId, &Package> = metadata.packages.iter().map(|package| (&package.id, package)).collect();
    let resolved = metadata.resolve.as_ref().context("cargo metadata tells of no dependencies")?;
    let parts: BTreeMap<&PackageId, Vec<&PackageId>> = (resolved.nodes.iter())
        .map(|node| {
            let linked = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
            // What a macro needs runs in the compiler, and is no part of the plugin.
            let linked = linked.map(|dep| &dep.pkg).filter(|id| packages.get(id).is_some_and(|package| !is_macro(package)));
            (&node.id, linked.collect())
        })
        .collect();
    let root = metadata.workspace_packages().into_iter().find(|candidate| candidate.name.as_str() == package);
    let root = root.with_context(|| format!("cargo metadata tells of no crate `{package}`"))?;

    let (mut seen, mut open) = (BTreeSet::from([&root.id]), vec![&root.id]);
    while let Some(id) = open.pop() {
        open.extend(parts.get(id).into_iter().flatten().copied().filter(|id| seen.insert(*id)));
    }
    let mut used: Vec<&Package> = seen.iter().filter_map(|id| packages.get(id).copied()).collect();
    used.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let depends = used.iter().map(|package| {
        let on: BTreeSet<String> = parts.get(&package.id).into_iter().flatten().filter_map(|id| packages.get(id).copied()).map(purl).collect();
        json!({ "ref": purl(package), "dependsOn": on })
    });
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "tools": { "components": [{ "type": "application", "name": "souk", "version": env!("CARGO_PKG_VERSION") }] },
            "component": component(root, "application"),
        },
        "components": used.iter().filter(|package| package.id != root.id).map(|package| component(package, "library")).collect::<Vec<_>>(),
        "dependencies": depends.collect::<Vec<_>>(),
    }))
}

fn is_macro(package: &Package) -> bool {
    package.targets.iter().any(|target| target.kind.contains(&TargetKind::ProcMacro))
}

fn component(package: &Package, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(package),
        "name": package.name,
        "version": package.version,
        "purl": purl(package),
    });
    if let Some(license) = &package.license {
        // Cargo once wrote `/` for what SPDX writes `OR`.
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    component
}

fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version.to_string().replace('+', "%2B"))
}

#[cfg(test)]
mod tests {
    use cargo_metadata::MetadataCommand;

    use super::*;

    #[test]
    fn a_list_of_parts_holds_what_is_linked_alone() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let target = ["--filter-platform".to_owned(), crate::toolchain::TARGET.to_owned()];
        let metadata = MetadataCommand::new().manifest_path(manifest).other_options(target).exec().unwrap();
        let list = bom(&metadata, "souk-sdk").unwrap();
        assert_eq!(list["metadata"]["component"]["name"], "souk-sdk");
        let named = |name: &str| list["components"].as_array().unwrap().iter().find(|component| component["name"] == name);
        let serde_json = named("serde_json").unwrap();
        assert_eq!(serde_json["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(serde_json["purl"], format!("pkg:cargo/serde_json@{}", serde_json["version"].as_str().unwrap()));
        assert!(named("itoa").is_some(), "parts of parts");
        for (name, why) in [("serde_derive", "a macro"), ("hmac", "for another target"), ("wit-bindgen-rust", "for the build"), ("proptest", "for tests"), ("maud", "another crate's")] {
            assert!(named(name).is_none(), "{name} is {why}");
        }
    }
}
