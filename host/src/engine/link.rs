//! Composes plugins into one component.
//!
//! Services are fused: an import of an interface that another plugin exports is
//! wired to that plugin. Capabilities and extension points become imports of
//! the composed component, one for each plugin that has them, named
//! `<plugin>-<interface>`, so that the host knows every caller. Handlers come
//! out under the same kind of name.
//!
//! The host does not know the shop's services: whatever lies outside its own
//! packages is one.
//!
//! A plugin that asks who calls its services (`souk:host/caller`) has an instance
//! of its own for each plugin that does, with an import of its own: who calls is
//! then known by where the call arrives, and costs nothing.
//!
//! Versions of an interface in one [`line`] fit together: what is wired is what
//! the types allow, so that a plugin which was built against an older or a newer
//! one runs as long as it uses what is there.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use parking_lot::Mutex;
use semver::Version;
use serde::{Deserialize, Serialize};
use wac_graph::types::{ItemKind, Package, Types};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

use super::bindings::OFFERED;
use super::modules;
use super::wasi;
use super::worker::{Done, Guest, Job, Task};

/// Tells a service who calls it.
pub(super) const CALLER: &str = "souk:host/caller";
const HANDLER_PACKAGES: [&str; 2] = ["souk:host/", "souk:web/"];
pub(super) const EXTENSION_PACKAGE: &str = "souk:extend/";

/// Why plugins do not fit together. Nothing has changed when it is returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LinkError {
    #[error("plugin `{plugin}`: not a component that Souk can load: {reason}. docs/plugins.md says how one is built.")]
    NotAComponent { plugin: String, reason: String },
    #[error("plugin `{plugin}` imports `{interface}`, which no installed plugin exports. Install a plugin that provides it, or remove `{plugin}`.")]
    MissingProvider { plugin: String, interface: String },
    #[error("plugins `{first}` and `{second}` both export `{interface}`; a service has one provider. Remove one of them.")]
    TwoProviders { interface: String, first: String, second: String },
    #[error("plugins depend on each other in a circle: {}. Break it with an event or an extension point.", plugins.join(" → "))]
    Cycle { plugins: Vec<String> },
    #[error("plugin `{plugin}` expects `{interface}` other than `{provider}` provides it: {reason}. Build both against the same version of the interface.")]
    Mismatch { plugin: String, provider: String, interface: String, reason: String },
    #[error("plugin `{plugin}` imports `{interface}`, which this host does not offer: {reason}")]
    UnknownCapability { plugin: String, interface: String, reason: String },
    #[error(
        "plugin `{plugin}` was built against `{interface}`, and this host has {package} {offered}. Build the plugin with the contracts of this Souk, \
         or use it with a Souk that has these."
    )]
    OtherLine { plugin: String, interface: String, package: Cow<'static, str>, offered: Cow<'static, str> },
    #[error("plugin `{plugin}` calls the extension point `{interface}`, but its manifest does not list it under [[extension-points]].")]
    UndeclaredExtensionPoint { plugin: String, interface: String },
    #[error("plugin `{plugin}` exports `{interface}` other than the host expects it: {reason}")]
    BadExport { plugin: String, interface: String, reason: String },
    #[error("plugin `{plugin}` imports `{interface}`, which no shop has: docs/plugins.md lists the standard interfaces that there are.")]
    NotAdapted { plugin: String, interface: String },
    #[error(
        "plugin `{plugin}` is written against WASI, and this `souk` was built without the adapters for that. \
         Build it with `cargo xtask up` or `cargo xtask test`, which build them first."
    )]
    NoAdapters { plugin: String },
    #[error("plugin `{plugin}`: its manifest {declares}, but the component does not export `{interface}`.")]
    MissingExport { plugin: String, declares: String, interface: String },
    #[error(
        "plugin `{plugin}` imports or exports `{interface}`, which this Souk does not know, so that nobody can say what it would be let. \
         Build it with the contracts of this Souk, or use it with a Souk that has it."
    )]
    Undecided { plugin: String, interface: String },
    #[error("plugin `{plugin}`: {reason}. The shop goes on without this version of it.")]
    TooCostly { plugin: String, reason: String },
    #[error("plugin `{plugin}`: with its code that of all plugins takes {needed_mib} MiB; at most {max_mib} MiB are allowed. Remove another one first.")]
    NoRoom { plugin: String, needed_mib: u64, max_mib: u64 },
    #[error("plugin `{plugin}` does not start: {reason}")]
    DoesNotStart { plugin: String, reason: String },
    #[error("this machine compiles no plugins now: {0}. Nothing is wrong with them; `souk plugin reload` tries again.")]
    Machine(String),
    #[error("the linked shop cannot run: {0}")]
    Unusable(String),
}

/// The composed component and what is where in it.
pub(super) struct Composition {
    pub component: Vec<u8>,
    /// For each plugin, in the order given.
    pub parts: Vec<Part>,
}

#[derive(Default, Serialize, Deserialize)]
pub(super) struct Part {
    /// Import name in the component → interface, capabilities and extension points.
    pub imports: BTreeMap<String, String>,
    /// Of imports that tell who calls: the plugin that does; none for the host.
    pub callers: BTreeMap<String, Option<String>>,
    /// Interface → export name in the component.
    pub exports: BTreeMap<String, String>,
    /// Names of the plugins whose services it calls.
    pub services: Vec<String>,
}

/// `souk:host/storage@0.1.0` → `storage`.
fn short_name(interface: &str) -> &str {
    let name = interface.rsplit('/').next().unwrap_or(interface);
    name.split('@').next().unwrap_or(name)
}

/// `souk:extend/discount@0.1.0` → `souk:extend/discount`.
pub fn without_version(interface: &str) -> &str {
    interface.split('@').next().unwrap_or(interface)
}

/// `souk:host/storage@0.1.3` → `souk:host/storage@0.1`, `a:b/c@2.1.0` → `a:b/c@2`: what all versions have
/// in common that only add to the one before them.
pub fn line(interface: &str) -> String {
    let Some((name, version)) = interface.split_once('@') else { return interface.to_owned() };
    match Version::parse(version) {
        Ok(Version { major: 0, minor: 0, .. }) | Err(_) => interface.to_owned(),
        Ok(Version { major: 0, minor, .. }) => format!("{name}@0.{minor}"),
        Ok(Version { major, .. }) => format!("{name}@{major}"),
    }
}

/// What the host itself has to do with is of a line that it knows.
fn known_line(plugin: &str, interface: &str) -> Result<(), LinkError> {
    let of_package = |(package, _): &&(&str, &str)| interface.strip_prefix(package).is_some_and(|rest| rest.starts_with('/'));
    let Some(&(package, offered)) = OFFERED.iter().find(of_package) else { return Ok(()) };
    if line(interface) == line(&format!("{}@{offered}", without_version(interface))) {
        return Ok(());
    }
    Err(LinkError::OtherLine { plugin: plugin.to_owned(), interface: interface.to_owned(), package: package.into(), offered: offered.into() })
}

fn functions(types: &Types, kind: ItemKind) -> Vec<String> {
    let ItemKind::Instance(id) = kind else { return Vec::new() };
    types[id].exports.iter().filter(|(_, item)| matches!(item, ItemKind::Func(_))).map(|(name, _)| name.clone()).collect()
}

/// Whether the instance has functions, or only types to share.
fn has_functions(types: &Types, kind: ItemKind) -> bool {
    match kind {
        ItemKind::Instance(id) => types[id].exports.values().any(|item| matches!(item, ItemKind::Func(_))),
        _ => true,
    }
}

/// Capabilities and handlers: neither a service nor an extension point.
pub fn is_of_host(interface: &str) -> bool {
    HANDLER_PACKAGES.iter().any(|package| interface.starts_with(package))
}

fn is_host_side(interface: &str) -> bool {
    interface.starts_with(EXTENSION_PACKAGE) || is_of_host(interface)
}

pub(super) struct Registered {
    name: String,
    pub(super) package: PackageId,
    pub(super) imports: Vec<(String, ItemKind)>,
    pub(super) exports: Vec<(String, ItemKind)>,
}

/// What was found of so many components, also that one cannot be read: each reload asks again.
static KNOWN: LazyLock<Mutex<HashMap<[u8; 32], Result<Interfaces, LinkError>>>> = LazyLock::new(Mutex::default);
const KNOWN_MAX: usize = 256;
const KNOWN_BYTES_MAX: usize = 64 << 10;

/// What a component needs and gives, interfaces of types alone left out.
#[derive(Clone, Serialize, Deserialize)]
pub struct Interfaces {
    pub imports: Vec<Interface>,
    pub exports: Vec<Interface>,
    /// Answers web requests by the standard handler, and expects an instance for
    /// each, as servers of `wasi:http` give it: JavaScript's can answer no second.
    pub is_for_one_request: bool,
}

/// Of an import the functions that the component can call: it is wired to no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    pub functions: Vec<String>,
}

impl Interface {
    fn bytes(&self) -> usize {
        self.name.len() + self.functions.iter().map(String::len).sum::<usize>()
    }
}

impl Interfaces {
    /// As a worker finds them, with the adapters that a shop puts around the component.
    /// Takes a while the first time: not for the threads of the runtime.
    pub fn of(plugin: &str, component: &[u8]) -> Result<Self, LinkError> {
        let key = blake3::Hasher::new().update(plugin.as_bytes()).update(b"\0").update(component).finalize();
        if let Some(known) = KNOWN.lock().get(key.as_bytes()) {
            return known.clone();
        }
        let found = Self::found(plugin, component);
        let is_small = found.as_ref().map_or(0, |found| found.imports.iter().chain(&found.exports).map(Interface::bytes).sum::<usize>()) <= KNOWN_BYTES_MAX;
        // What the machine could not do now it may do later.
        if is_small && !matches!(found, Err(LinkError::Unusable(_) | LinkError::Machine(_))) {
            let mut known = KNOWN.lock();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(*key.as_bytes(), found.clone());
        }
        found
    }

    fn found(plugin: &str, component: &[u8]) -> Result<Self, LinkError> {
        let guest = Guest { name: plugin.to_owned(), points: Vec::new(), component: component.into() };
        match (Job { task: Task::Describe, guests: vec![guest] }).perform()? {
            (Done::Described(interfaces), _) => Ok(interfaces),
            _ => Err(LinkError::Unusable("the compile worker gave another kind of answer".into())),
        }
    }

    pub(super) fn read(plugin: &str, component: &[u8], is_for_one_request: bool) -> Result<Self, LinkError> {
        let mut graph = CompositionGraph::new();
        let Registered { imports, exports, .. } = register(&mut graph, plugin, component)?;
        let types = graph.types();
        let called = |items: Vec<(String, ItemKind)>| {
            let interfaces = items.into_iter().map(|(name, kind)| Interface { name, functions: functions(types, kind) });
            interfaces.filter(|interface| !interface.functions.is_empty()).collect()
        };
        Ok(Self { imports: called(imports), exports: called(exports), is_for_one_request })
    }
}

/// With `services_too` their functions come out beside the handlers, for the host
/// to call; a shop has no use for that.
pub(super) fn compose(plugins: &[Guest], services_too: bool) -> Result<Composition, LinkError> {
    let mut graph = CompositionGraph::new();
    let adapted = plugins.iter().map(|guest| Ok(wasi::adapt(&guest.name, &guest.component)?.component)).collect::<Result<Vec<_>, LinkError>>()?;
    let registered = plugins
        .iter()
        .zip(&adapted)
        .map(|(guest, bytes)| {
            let named = modules::named(bytes, &guest.name).map_err(|reason| LinkError::NotAComponent { plugin: guest.name.clone(), reason })?;
            register(&mut graph, &guest.name, &named)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let providers = providers(graph.types(), &registered)?;
    let order = order(graph.types(), &registered, &providers)?;

    let mut composer = Composer {
        parts: registered.iter().map(|_| Part::default()).collect(),
        instances: BTreeMap::new(),
        imports: BTreeMap::new(),
        plugins,
        registered: &registered,
        providers: &providers,
        graph,
    };
    for index in order {
        composer.instantiate(index, None)?;
        composer.export(index, services_too)?;
    }
    let Composer { parts, graph, .. } = composer;
    let component = graph.encode(EncodeOptions::default()).map_err(|error| LinkError::Unusable(chain(&error)))?;
    Ok(Composition { component, parts })
}

struct Composer<'a> {
    graph: CompositionGraph,
    plugins: &'a [Guest],
    registered: &'a [Registered],
    providers: &'a Services<'a>,
    parts: Vec<Part>,
    /// By plugin and, where it asks for that, by who calls it; none is the host.
    instances: BTreeMap<(usize, Option<usize>), NodeId>,
    /// By their labels.
    imports: BTreeMap<String, NodeId>,
}

impl Composer<'_> {
    /// With all that it imports, which lies before it in the order.
    fn instantiate(&mut self, index: usize, caller: Option<usize>) -> Result<NodeId, LinkError> {
        let this = &self.registered[index];
        let instance = self.graph.instantiate(this.package);
        self.instances.insert((index, caller), instance);
        for (interface, kind) in &this.imports {
            if !has_functions(self.graph.types(), *kind) {
                continue; // Types alone are shared by name.
            }
            let argument = if is_host_side(interface) {
                self.import(index, caller, interface, *kind)?
            } else {
                let (provider, exported) = &self.providers[&line(interface)];
                if !self.parts[index].services.contains(&self.registered[*provider].name) {
                    self.parts[index].services.push(self.registered[*provider].name.clone());
                }
                let called = self.instance_for(*provider, index)?;
                self.graph.alias_instance_export(called, exported).map_err(|error| LinkError::Unusable(error.to_string()))?
            };
            self.graph.set_instantiation_argument(instance, interface, argument).map_err(|error| LinkError::Mismatch {
                plugin: this.name.clone(),
                provider: self.providers.get(&line(interface)).map_or("the host".into(), |(provider, _)| self.registered[*provider].name.clone()),
                interface: interface.clone(),
                reason: chain(&error),
            })?;
        }
        Ok(instance)
    }

    /// The one that answers calls of `caller`.
    fn instance_for(&mut self, provider: usize, caller: usize) -> Result<NodeId, LinkError> {
        let asks = self.registered[provider].imports.iter().any(|(interface, _)| without_version(interface) == CALLER);
        let caller = asks.then_some(caller);
        match self.instances.get(&(provider, caller)) {
            Some(instance) => Ok(*instance),
            None => self.instantiate(provider, caller),
        }
    }

    /// One import of the composed component for each plugin, so that the host knows whose call it is.
    fn import(&mut self, index: usize, caller: Option<usize>, interface: &str, kind: ItemKind) -> Result<NodeId, LinkError> {
        let this = &self.registered[index];
        let points = &self.plugins[index].points;
        if interface.starts_with(EXTENSION_PACKAGE) && !points.iter().any(|point| point == without_version(interface)) {
            return Err(LinkError::UndeclaredExtensionPoint { plugin: this.name.clone(), interface: interface.to_owned() });
        }
        let mut label = format!("{}-{}", this.name, short_name(interface));
        if without_version(interface) == CALLER {
            let caller = caller.map(|caller| self.registered[caller].name.clone());
            if let Some(caller) = &caller {
                label = format!("{label}-{caller}");
            }
            self.parts[index].callers.insert(label.clone(), caller);
        }
        if let Some(import) = self.imports.get(&label)
            && self.parts[index].imports.get(&label).is_some_and(|known| known == interface)
        {
            return Ok(*import);
        }
        self.parts[index].imports.insert(label.clone(), interface.to_owned());
        let import = self.graph.import(label.clone(), kind).map_err(|error| LinkError::UnknownCapability {
            plugin: this.name.clone(),
            interface: interface.to_owned(),
            reason: error.to_string(),
        })?;
        self.imports.insert(label, import);
        Ok(import)
    }

    fn export(&mut self, index: usize, services_too: bool) -> Result<(), LinkError> {
        let this = &self.registered[index];
        let instance = self.instances[&(index, None)];
        for (place, (interface, kind)) in this.exports.iter().enumerate() {
            let host_side = is_host_side(interface);
            if (host_side || services_too) && has_functions(self.graph.types(), *kind) {
                // Services of two packages may have one short name.
                let label = if host_side { format!("{}-{}", this.name, short_name(interface)) } else { format!("{}-service{place}", this.name) };
                let export = self.graph.alias_instance_export(instance, interface).map_err(|error| LinkError::Unusable(error.to_string()))?;
                self.graph.export(export, label.clone()).map_err(|error| LinkError::Unusable(error.to_string()))?;
                self.parts[index].exports.insert(interface.clone(), label);
            }
        }
        Ok(())
    }
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

pub(super) fn register(graph: &mut CompositionGraph, plugin: &str, bytes: &[u8]) -> Result<Registered, LinkError> {
    let name = plugin.to_owned();
    let not_a_component = |reason: String| LinkError::NotAComponent { plugin: name.clone(), reason };
    let package = Package::from_bytes(&name, None, bytes.to_vec(), graph.types_mut()).map_err(|e| not_a_component(format!("{e:#}")))?;
    let world = &graph.types()[package.ty()];
    let list = |items: &mut dyn Iterator<Item = (&String, &ItemKind)>| items.map(|(n, k)| (n.clone(), *k)).collect::<Vec<_>>();
    // Names without a package are a language's own, for instance its set-up.
    let has_package = |(name, _): &(&String, &ItemKind)| name.contains('/');
    let (imports, exports) = (list(&mut world.imports.iter()), list(&mut world.exports.iter().filter(has_package)));
    if let Some((item, _)) = imports.iter().find(|(_, kind)| !matches!(kind, ItemKind::Instance(_))) {
        return Err(not_a_component(format!("it imports `{item}` directly; imports come as interfaces")));
    }
    let called = imports.iter().chain(&exports).filter(|(_, kind)| has_functions(graph.types(), *kind));
    called.map(|(interface, _)| known_line(plugin, interface)).collect::<Result<(), _>>()?;
    let package = graph.register_package(package).map_err(|e| not_a_component(e.to_string()))?;
    Ok(Registered { name, package, imports, exports })
}

/// Services by [`line`]: who exports them, and under which name.
type Services<'a> = BTreeMap<String, (usize, &'a str)>;

fn providers<'a>(types: &Types, plugins: &'a [Registered]) -> Result<Services<'a>, LinkError> {
    let mut providers = Services::new();
    for (index, plugin) in plugins.iter().enumerate() {
        for (interface, kind) in &plugin.exports {
            if is_host_side(interface) || !has_functions(types, *kind) {
                continue;
            }
            if let Some((first, _)) = providers.insert(line(interface), (index, interface.as_str())) {
                return Err(LinkError::TwoProviders {
                    interface: interface.clone(),
                    first: plugins[first].name.clone(),
                    second: plugin.name.clone(),
                });
            }
        }
    }
    Ok(providers)
}

/// Providers before those who call them.
fn order(types: &Types, plugins: &[Registered], providers: &Services) -> Result<Vec<usize>, LinkError> {
    let mut needs: Vec<Vec<usize>> = Vec::with_capacity(plugins.len());
    for plugin in plugins {
        let mut of_this = Vec::new();
        for (interface, kind) in &plugin.imports {
            if is_host_side(interface) || !has_functions(types, *kind) {
                continue;
            }
            let (provider, _) = providers.get(&line(interface)).ok_or_else(|| LinkError::MissingProvider {
                plugin: plugin.name.clone(),
                interface: interface.clone(),
            })?;
            of_this.push(*provider);
        }
        needs.push(of_this);
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    fn visit(at: usize, needs: &[Vec<usize>], marks: &mut [Mark], path: &mut Vec<usize>, order: &mut Vec<usize>) -> Result<(), Vec<usize>> {
        match marks[at] {
            Mark::Done => return Ok(()),
            Mark::Open => {
                let start = path.iter().position(|p| *p == at).unwrap_or(0);
                return Err([&path[start..], &[at]].concat());
            }
            Mark::New => {}
        }
        marks[at] = Mark::Open;
        path.push(at);
        for &next in &needs[at] {
            visit(next, needs, marks, path, order)?;
        }
        path.pop();
        marks[at] = Mark::Done;
        order.push(at);
        Ok(())
    }
    let (mut marks, mut order) = (vec![Mark::New; plugins.len()], Vec::with_capacity(plugins.len()));
    for index in 0..plugins.len() {
        visit(index, &needs, &mut marks, &mut Vec::new(), &mut order)
            .map_err(|cycle| LinkError::Cycle { plugins: cycle.into_iter().map(|i| plugins[i].name.clone()).collect() })?;
    }
    Ok(order)
}
