//! Plugins that are written against the standard interfaces of WASI.
//!
//! The host links none of them. Where a component imports some, or answers
//! requests by `wasi:http/incoming-handler`, adapters are put around it when it
//! is composed: components that make those interfaces of Souk's capabilities
//! (`host/adapters`). What comes out is a plugin as any other, with the powers
//! that its capabilities ask for, and no other. Called by `shop::load`.

use std::borrow::Cow;
use std::sync::OnceLock;

use semver::Version;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

use super::link::{Interfaces, LinkError, Registered, chain, register};

/// What `host/build.rs` found.
mod adapters {
    include!(concat!(env!("OUT_DIR"), "/adapters.rs"));
}

const STANDARD: &str = "wasi:";
const KEY_VALUE: &str = "wasi:keyvalue/";
const HANDLER: &str = "wasi:http/incoming-handler@";
const WEB_HANDLER: &str = "souk:web/handler@";

pub(super) struct Adapted<'a> {
    /// As it was where it needs no adapters.
    pub component: Cow<'a, [u8]>,
    /// See [`Interfaces`].
    pub is_for_one_request: bool,
}

/// Whether it may need adapters: names stand in a component as they are written.
pub fn may_be_standard(component: &[u8]) -> bool {
    memchr::memmem::find(component, STANDARD.as_bytes()).is_some()
}

/// Changes with any of the adapters.
pub(super) fn adapters_digest() -> &'static [u8; 32] {
    static DIGEST: OnceLock<[u8; 32]> = OnceLock::new();
    DIGEST.get_or_init(|| {
        let mut hasher = blake3::Hasher::new();
        for adapter in [adapters::BASE, adapters::HTTP_IN, adapters::KEYVALUE] {
            hasher.update(blake3::hash(adapter.unwrap_or_default()).as_bytes());
        }
        *hasher.finalize().as_bytes()
    })
}

pub(super) fn describe(plugin: &str, component: &[u8]) -> Result<Interfaces, LinkError> {
    let adapted = adapt(plugin, component)?;
    Interfaces::read(plugin, &adapted.component, adapted.is_for_one_request)
}

pub(super) fn adapt<'a>(plugin: &str, component: &'a [u8]) -> Result<Adapted<'a>, LinkError> {
    let as_it_is = || Ok(Adapted { component: component.into(), is_for_one_request: false });
    if !may_be_standard(component) {
        return as_it_is();
    }
    let mut graph = CompositionGraph::new();
    let guest = register(&mut graph, plugin, component)?;
    let handler = guest.exports.iter().map(|(name, _)| name).find(|name| name.starts_with(HANDLER));
    if handler.is_none() && !guest.imports.iter().any(|(name, _)| name.starts_with(STANDARD)) {
        return as_it_is();
    }
    if let Some(handler) = handler
        && guest.exports.iter().any(|(name, _)| name.starts_with(WEB_HANDLER))
    {
        let reason = format!("it exports `{handler}` too; a plugin answers web requests by one of them");
        return Err(LinkError::BadExport { plugin: plugin.into(), interface: "souk:web/handler".into(), reason });
    }
    let adapted = compose(graph, plugin, &guest, handler).map_err(|error| match error {
        Failure::Told(error) => error,
        Failure::Graph(reason) => LinkError::NotAComponent { plugin: plugin.into(), reason: format!("adapters do not fit around it: {reason}") },
    })?;
    Ok(Adapted { component: adapted.into(), is_for_one_request: handler.is_some() })
}

enum Failure {
    Told(LinkError),
    Graph(String),
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::Told(error)
    }
}

impl<E: std::error::Error> From<&E> for Failure {
    fn from(error: &E) -> Self {
        Self::Graph(chain(error))
    }
}

fn compose(mut graph: CompositionGraph, plugin: &str, guest: &Registered, handler: Option<&String>) -> Result<Vec<u8>, Failure> {
    let base = Adapter::add(&mut graph, plugin, "base", adapters::BASE)?;
    let instance = graph.instantiate(guest.package);
    let mut key_value = None;
    for (interface, _) in guest.imports.iter().filter(|(name, _)| name.starts_with(STANDARD)) {
        let adapter = match &mut key_value {
            _ if !interface.starts_with(KEY_VALUE) => &base,
            Some(key_value) => key_value,
            none => none.insert(Adapter::add(&mut graph, plugin, "keyvalue", adapters::KEYVALUE)?),
        };
        let provided = adapter.provides(interface).ok_or_else(|| LinkError::NotAdapted { plugin: plugin.into(), interface: interface.clone() })?;
        let argument = graph.alias_instance_export(adapter.instance, provided).map_err(|error| Failure::from(&error))?;
        graph.set_instantiation_argument(instance, interface, argument).map_err(|error| LinkError::Mismatch {
            plugin: plugin.into(),
            provider: "the host".into(),
            interface: interface.clone(),
            reason: chain(&error),
        })?;
    }
    if let Some(handler) = handler {
        let inward = Adapter::add(&mut graph, plugin, "http-in", adapters::HTTP_IN)?;
        for (interface, _) in &inward.parts.imports {
            let (from, name) = match base.provides(interface) {
                _ if interface.starts_with(HANDLER) => (instance, handler.as_str()),
                Some(provided) => (base.instance, provided),
                // Of the host.
                None => continue,
            };
            let argument = graph.alias_instance_export(from, name).map_err(|error| Failure::from(&error))?;
            graph.set_instantiation_argument(inward.instance, interface, argument).map_err(|error| Failure::from(&error))?;
        }
        export(&mut graph, inward.instance, inward.parts.exports.iter().map(|(name, _)| name))?;
    }
    export(&mut graph, instance, guest.exports.iter().map(|(name, _)| name).filter(|name| !name.starts_with(STANDARD)))?;
    // It is validated when it is linked.
    graph.encode(EncodeOptions { validate: false, ..EncodeOptions::default() }).map_err(|error| Failure::from(&error))
}

fn export<'a>(graph: &mut CompositionGraph, instance: NodeId, names: impl Iterator<Item = &'a String>) -> Result<(), Failure> {
    for name in names {
        let item = graph.alias_instance_export(instance, name).map_err(|error| Failure::from(&error))?;
        graph.export(item, name).map_err(|error| Failure::from(&error))?;
    }
    Ok(())
}

struct Adapter {
    parts: Registered,
    instance: NodeId,
}

impl Adapter {
    fn add(graph: &mut CompositionGraph, plugin: &str, name: &str, component: Option<&[u8]>) -> Result<Self, LinkError> {
        let component = component.ok_or_else(|| LinkError::NoAdapters { plugin: plugin.into() })?;
        // No plugin has such a name.
        let parts = register(graph, &format!("souk:{name}"), component)?;
        let instance = graph.instantiate(parts.package);
        Ok(Self { parts, instance })
    }

    /// The very interface, or one of the same series: what a later one of those
    /// has is more, and the types are compared when it is given.
    fn provides(&self, interface: &str) -> Option<&str> {
        let mut names = self.parts.exports.iter().map(|(name, _)| name.as_str());
        names.clone().find(|name| *name == interface).or_else(|| names.find(|name| is_of_series(name, interface)))
    }
}

fn is_of_series(ours: &str, theirs: &str) -> bool {
    let parts = |name: &str| name.split_once('@').and_then(|(name, version)| Some((name.to_owned(), Version::parse(version).ok()?)));
    match (parts(ours), parts(theirs)) {
        (Some((ours, our_version)), Some((theirs, version))) => ours == theirs && (our_version.major, our_version.minor) == (version.major, version.minor),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_the_series_may_be_imported() {
        let ours = "wasi:http/types@0.2.12";
        for (theirs, fits) in [
            ("wasi:http/types@0.2.0", true),
            ("wasi:http/types@0.2.99", true),
            ("wasi:http/types@0.3.0", false),
            ("wasi:http/handler@0.2.12", false),
            ("wasi:http/types", false),
            ("wasi:http/types@soon", false),
        ] {
            assert_eq!(is_of_series(ours, theirs), fits, "{theirs}");
        }
        assert!(is_of_series("wasi:config/store@0.2.0-rc.1", "wasi:config/store@0.2.0-draft-2024-09-27"));
    }

    #[test]
    fn what_only_has_the_word_in_it_is_left_as_it_is() {
        let component = b"\0asm\x0d\0\x01\0".to_vec();
        assert_eq!(*adapt("demo", &component).unwrap().component, *component);
        assert!(adapt("demo", b"no component, wasi: or other").err().unwrap().to_string().contains("not a component"));
    }
}
