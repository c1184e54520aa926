//! What services offer, in words: groups of their functions.
//!
//! The manifest of the plugin that serves an interface says which of its functions
//! belong together, and what calling them means ([`super::manifest::Service`]). The
//! host knows no service; it asks an operator for the groups that a caller
//! imports functions of. A function in no group is asked for by its name.

use std::collections::BTreeMap;
use std::path::Path;

use super::grants::{Grants, plugin_folders};
use super::load::read_manifest;
use super::manifest::{Group, Manifest};
use super::powers::{Power, PowerKind};

/// Interface without version → groups.
#[derive(Debug, Default)]
pub struct Offers(BTreeMap<String, BTreeMap<String, Group>>);

impl Offers {
    /// Of the plugins that lie there. Only one that was granted to serve an interface is believed what it says of it; without
    /// grants, whoever says something. Where two do, neither is.
    pub fn of_folder(plugins: &Path, grants: Option<&Grants>) -> Self {
        let mut offers: BTreeMap<String, Vec<BTreeMap<String, Group>>> = BTreeMap::new();
        // A folder that cannot be read is told by whoever reads the plugins.
        for folder in plugin_folders(plugins).unwrap_or_default() {
            let Ok(manifest) = read_manifest(&folder) else { continue };
            let serves = |interface: &String| Power { kind: PowerKind::Serve, subject: interface.clone() };
            let is_believed = |interface| grants.is_none_or(|grants| grants.of(&manifest.name).is_some_and(|grant| grant.powers.contains(&serves(interface))));
            for service in manifest.services.iter().filter(|service| is_believed(&service.interface)) {
                offers.entry(service.interface.clone()).or_default().push(service.groups.clone());
            }
        }
        Self(offers.into_iter().filter_map(|(interface, mut said)| (said.len() == 1).then(|| (interface, said.remove(0)))).collect())
    }

    /// Of one plugin alone.
    pub fn of(manifest: &Manifest) -> Self {
        Self(manifest.services.iter().map(|service| (service.interface.clone(), service.groups.clone())).collect())
    }

    /// What of it to ask for, to call this function: `a:b/c read`, or `a:b/c.function`.
    pub fn subject(&self, interface: &str, function: &str) -> String {
        let groups = self.0.get(interface).into_iter().flatten();
        match groups.into_iter().find(|(_, group)| group.functions.contains(function)) {
            Some((name, _)) => format!("{interface} {name}"),
            None => format!("{interface}.{function}"),
        }
    }

    /// What the service says of a group, as the operator's language has it.
    pub fn words(&self, subject: &str) -> Option<&str> {
        let (interface, group) = subject.split_once(' ')?;
        in_operators_language(&self.0.get(interface)?.get(group)?.words)
    }
}

/// Of words by locale; in English where there are none in that language.
pub fn in_operators_language(words: &BTreeMap<String, String>) -> Option<&str> {
    let language = std::env::var("LC_ALL").or_else(|_| std::env::var("LANG")).unwrap_or_default();
    let of = |language: &str| words.iter().find(|(locale, _)| locale.split('-').next() == Some(language)).map(|(_, words)| words.as_str());
    of(language.split(['_', '.', '-']).next().unwrap_or_default()).or_else(|| of("en")).or_else(|| words.values().next().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str = "name = 'orders'\nversion = '1.0.0'\n[[services]]\ninterface = 'shop:x/orders'\n\
        groups.read = { functions = ['get', 'list'], words = { en = 'read orders', zh-CN = '读取订单' } }\n\
        groups.settle = { functions = ['paid'], words = { en = 'say that an order is paid' } }\n";

    #[test]
    fn a_function_is_asked_for_by_its_group_or_else_by_its_name() {
        let offers = Offers::of(&toml::from_str(ORDERS).unwrap());
        for (function, subject, words) in [
            ("get", "shop:x/orders read", Some("read orders")),
            ("list", "shop:x/orders read", Some("read orders")),
            ("paid", "shop:x/orders settle", Some("say that an order is paid")),
            ("drop", "shop:x/orders.drop", None),
        ] {
            assert_eq!(offers.subject("shop:x/orders", function), subject);
            assert_eq!(offers.words(subject).is_some(), words.is_some(), "{subject}");
        }
        assert_eq!(offers.subject("shop:y/orders", "get"), "shop:y/orders.get");
    }

    #[test]
    fn only_who_was_granted_to_serve_it_says_what_a_service_means() {
        let plugins = tempfile::tempdir().unwrap();
        let put = |name: &str, manifest: &str| {
            std::fs::create_dir(plugins.path().join(name)).unwrap();
            std::fs::write(plugins.path().join(name).join("plugin.toml"), manifest).unwrap();
        };
        put("orders", ORDERS);
        assert_eq!(Offers::of_folder(plugins.path(), None).subject("shop:x/orders", "paid"), "shop:x/orders settle");
        let granted: Grants = toml::from_str(
            "[[orders]]\nversion = '1.0.0'\ncomponent = ''\nmanifest = ''\ngiven-at = '2026-01-01T00:00:00Z'\npowers = ['serve shop:x/orders']\n",
        )
        .unwrap();
        put("liar", &ORDERS.replace("'orders'", "'liar'").replace("'paid'", "'other'").replace("'list'", "'list', 'paid'"));
        let offers = Offers::of_folder(plugins.path(), Some(&granted));
        assert_eq!(offers.subject("shop:x/orders", "paid"), "shop:x/orders settle");
        // Nobody can be believed where nobody was asked.
        assert_eq!(Offers::of_folder(plugins.path(), None).subject("shop:x/orders", "paid"), "shop:x/orders.paid");
    }
}
