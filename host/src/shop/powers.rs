//! What a plugin asks for, as powers that an operator can read and grant.
//!
//! Taken from the component, which cannot lie about what it imports and
//! exports, and from the manifest, beyond which the host gives nothing. Used by
//! [`super::grants`] and by `souk plugin`. For each interface of the host there
//! is a [`Decision`] whether it needs a grant; one without is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::manifest::{Command, Limits, Manifest, Scripts, Service};
use super::offers::Offers;
use crate::engine::bindings::{Capability, Handler};
use crate::engine::{Interface, Interfaces, LinkError, is_of_host, without_version};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Power {
    pub kind: PowerKind,
    /// What of the kind: a host, a route, an interface.
    pub subject: String,
}

/// In the order in which they are shown: what reaches furthest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PowerKind {
    Http,
    Secret,
    Script,
    Effect,
    Provide,
    Serve,
    Route,
    Authorization,
    Cookie,
    Priority,
    Call,
    Ask,
    Use,
    Hear,
    Publish,
    Job,
    Command,
    Follow,
    Limit,
}

const NAMES: [(PowerKind, &str); 19] = [
    (PowerKind::Http, "http"),
    (PowerKind::Secret, "secret"),
    (PowerKind::Script, "script"),
    (PowerKind::Effect, "effect"),
    (PowerKind::Provide, "provide"),
    (PowerKind::Serve, "serve"),
    (PowerKind::Route, "route"),
    (PowerKind::Authorization, "authorization"),
    (PowerKind::Cookie, "cookie"),
    (PowerKind::Priority, "priority"),
    (PowerKind::Call, "call"),
    (PowerKind::Ask, "ask"),
    (PowerKind::Use, "use"),
    (PowerKind::Hear, "hear"),
    (PowerKind::Publish, "publish"),
    (PowerKind::Job, "job"),
    (PowerKind::Command, "command"),
    (PowerKind::Follow, "follow"),
    (PowerKind::Limit, "limit"),
];

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name);
        write!(f, "{name} {}", self.subject)
    }
}

impl FromStr for Power {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, subject) = text.split_once(' ').unwrap_or((text, ""));
        let Some((kind, _)) = NAMES.iter().find(|(_, known)| *known == name) else {
            let known = NAMES.map(|(_, name)| name).join(", ");
            return Err(format!("`{text}` is no power: write its kind ({known}) and its subject, for instance `http api.example.com`"));
        };
        if subject.is_empty() {
            return Err(format!("`{text}`: write its subject too, for instance `http api.example.com`"));
        }
        Ok(Self { kind: *kind, subject: subject.into() })
    }
}

impl TryFrom<String> for Power {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Power> for String {
    fn from(power: Power) -> Self {
        power.to_string()
    }
}

impl Power {
    fn new(kind: PowerKind, subject: impl Into<String>) -> Self {
        Self { kind, subject: subject.into() }
    }

    /// Whether the rest of a plugin can do without it.
    pub fn is_separable(&self) -> bool {
        use PowerKind::{Authorization, Command, Cookie, Effect, Follow, Hear, Http, Job, Priority, Publish, Route, Script, Secret};
        matches!(self.kind, Http | Secret | Script | Effect | Route | Authorization | Cookie | Priority | Hear | Publish | Job | Command | Follow)
    }

    /// Whether this is a whole service, or a whole point, and `asked` a part of it. Whole ones were granted until powers
    /// went by function.
    pub(super) fn is_whole_of(&self, asked: &Power) -> bool {
        let is_part = || asked.subject.strip_prefix(self.subject.as_str()).is_some_and(|part| part.starts_with([' ', '.']));
        matches!(self.kind, PowerKind::Call | PowerKind::Ask) && self.kind == asked.kind && is_part()
    }

    /// Whether this is each kind of effect. Until powers went by kind, there was no other.
    pub(super) fn is_every_effect(&self) -> bool {
        self.kind == PowerKind::Effect && effect_parts(&self.subject).1.is_none()
    }

    /// Whether whoever has this may do what `asked` asks for: the same, a lower
    /// limit, scripts with less in their reach, or some of several effects.
    fn covers(&self, asked: &Power) -> bool {
        if (self.kind, asked.kind) == (PowerKind::Effect, PowerKind::Effect) {
            let (target, kind) = effect_parts(&asked.subject);
            return covers_effect(&self.subject, target, kind);
        }
        if self == asked || (self.kind, asked.kind, asked.subject.as_str()) == (PowerKind::Script, PowerKind::Script, SANDBOXED) {
            return true;
        }
        let limit = |power: &Power| {
            let (name, value) = power.subject.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse::<u64>().ok()?))
        };
        match (self.kind, asked.kind, limit(self), limit(asked)) {
            (PowerKind::Limit, PowerKind::Limit, Some((name, has)), Some((asked_name, wants))) => name == asked_name && has >= wants,
            _ => false,
        }
    }

    /// For an operator who does not know how Souk is built.
    pub fn in_plain_words(&self, offers: &Offers) -> String {
        let subject = &self.subject;
        if let (PowerKind::Call, Some(words)) = (self.kind, offers.words(subject)) {
            return words.into();
        }
        let name = subject.split_once('/').map_or(subject.as_str(), |(_, name)| name).split('@').next().unwrap_or(subject);
        match self.kind {
            PowerKind::Http if subject == crate::capability::http_client::OWN_NAME => "send web requests to this shop itself".into(),
            PowerKind::Http => format!("send data to {subject} on the internet, and read its answers"),
            PowerKind::Secret => format!("read your secret `{subject}`"),
            PowerKind::Script if subject == SANDBOXED => "run scripts in its pages, apart from the shop and from what the shopper has there".into(),
            PowerKind::Script => "run scripts in its pages as the shop itself: they see and do what the shopper can, on all pages".into(),
            PowerKind::Effect => {
                let (target, kind) = effect_parts(subject);
                let who = if target == ANY { "any other plugin".into() } else { format!("the plugin `{target}`") };
                let what = kind.map_or("anything it can".into(), |kind| format!("`{kind}`"));
                format!("have {who} do {what} in the outside world")
            }
            PowerKind::Provide => format!("take part wherever the shop asks for: {name}"),
            PowerKind::Serve => format!("be the shop's one {name}, for all other plugins"),
            PowerKind::Route => format!("answer web requests: {subject}"),
            PowerKind::Authorization => format!("read the credentials that come with requests to {subject}"),
            PowerKind::Cookie => format!("keep the cookie `{subject}` in shoppers' browsers"),
            PowerKind::Priority => format!("have its requests go before others when the shop is busy: {subject}"),
            PowerKind::Call | PowerKind::Ask => match (self.kind, name.split_once(['.', ' '])) {
                (PowerKind::Call, None) => format!("do in the shop whatever {name} offers"),
                (PowerKind::Call, Some((service, part))) => format!("do in the shop what {service} offers as `{part}`"),
                (_, None) => format!("ask the plugins that take part in: {name}"),
                (_, Some((point, function))) => format!("ask the plugins that take part in {point}, for: {function}"),
            },
            PowerKind::Use => match Capability::of(&format!("souk:host/{subject}")).map(decision) {
                Some(Decision::Granted(words)) => words.into(),
                _ => format!("use the host's {subject}"),
            },
            PowerKind::Hear => format!("be told of every `{subject}`"),
            PowerKind::Publish => format!("tell other plugins of `{subject}`"),
            PowerKind::Job => format!("work by itself, by the clock: {subject}"),
            PowerKind::Command => format!("offer you the command `{subject}`"),
            PowerKind::Follow => {
                let (followed, own) = subject.split_once(WITH).unwrap_or((subject, ""));
                format!("see what you give to the command `{followed}`, its arguments and its file, each time you run it, and then run its own `{own}`")
            }
            PowerKind::Limit => format!("take more than plugins usually do: {subject}"),
        }
    }
}

/// Those of `asked` that nothing in `granted` covers.
pub fn beyond<'a>(granted: &BTreeSet<Power>, asked: &'a BTreeSet<Power>) -> Vec<&'a Power> {
    asked.iter().filter(|asked| !granted.iter().any(|has| has.covers(asked))).collect()
}

const SANDBOXED: &str = "sandboxed";
/// Of targets of effects.
const ANY: &str = "*";

/// An entry of a manifest's `effects`: who, and what; without it, all kinds.
pub(super) fn effect_parts(entry: &str) -> (&str, Option<&str>) {
    entry.split_once(' ').map_or((entry, None), |(target, kind)| (target, Some(kind)))
}

/// Whether who has this entry may ask another's effect of this kind; of all kinds where it is `None`.
fn covers_effect(entry: &str, target: &str, kind: Option<&str>) -> bool {
    let (of, only) = effect_parts(entry);
    (of == ANY || of == target) && only.is_none_or(|only| kind == Some(only))
}

/// Whether a manifest names this effect of another plugin.
pub fn may_ask_effect(manifest: &Manifest, target: &str, kind: &str) -> bool {
    manifest.effects.iter().any(|entry| covers_effect(entry, target, Some(kind)))
}

/// What its pages and routes ask for beyond being answered.
pub fn of_pages(manifest: &Manifest) -> BTreeSet<Power> {
    let mut asked = BTreeSet::new();
    match manifest.pages.scripts {
        Scripts::None => {}
        Scripts::Sandboxed => _ = asked.insert(Power::new(PowerKind::Script, SANDBOXED)),
        Scripts::Shop => _ = asked.insert(Power::new(PowerKind::Script, "shop")),
    }
    asked.extend(manifest.pages.cookies.iter().map(|name| Power::new(PowerKind::Cookie, cookie_name(&manifest.name, name))));
    for route in &manifest.routes {
        if route.authorization {
            asked.insert(Power::new(PowerKind::Authorization, &*route.path));
        }
        if route.critical {
            asked.insert(Power::new(PowerKind::Priority, &*route.path));
        }
    }
    asked
}

/// Of a power to follow a command: between that and the plugin's own.
const WITH: &str = " with ";

fn follow_subject(command: &Command) -> Option<String> {
    command.after.as_ref().map(|after| format!("{after}{WITH}{}", command.name))
}

/// What its commands ask for beyond being run by an operator who names them.
pub fn of_commands(manifest: &Manifest) -> BTreeSet<Power> {
    manifest.commands.iter().filter_map(follow_subject).map(|subject| Power::new(PowerKind::Follow, subject)).collect()
}

/// No name of a plugin or a cookie has a dot: two plugins never mean the same cookie.
fn cookie_name(plugin: &str, name: &str) -> String {
    format!("{plugin}.{name}")
}

/// Whether an interface of the host needs the operator's consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It does, in these words: it reaches further than the plugin itself.
    Granted(&'static str),
    /// Consent is asked for each thing of its kind that the manifest lists; for what is not listed it refuses.
    Listed(&'static str),
    /// It does not, for this reason.
    Free(&'static str),
}

pub const fn decision(capability: Capability) -> Decision {
    use Decision::{Free, Granted, Listed};
    match capability {
        Capability::Storage => Granted("keep data of its own in the shop's store"),
        Capability::Search => Granted("keep a search index of its own"),
        Capability::Session => Granted("know returning shoppers by a session of its own"),
        Capability::Crypto => Granted("sign and seal with keys of its own, which it never sees"),
        Capability::Pages => Granted("have cached pages of the shop made again"),
        Capability::Jobs => Granted("work by itself, when it has planned to"),
        Capability::Events => Listed("publishes"),
        Capability::Effects => Listed("effects"),
        Capability::HttpClient => Listed("http.hosts"),
        Capability::Secrets => Listed("secrets"),
        Capability::Data => Free("it tells the form of the plugin's own documents"),
        Capability::Cache => Free("it holds what the plugin can compute again, in bounds"),
        Capability::Config => Free("it tells the plugin's own settings, and what every page of the shop shows"),
        Capability::Random => Free("it gives, and takes nothing"),
        Capability::Clock => Free("it tells the time"),
        Capability::Log => Free("lines are marked with the plugin's name, and bounded"),
        Capability::Metrics => Free("figures are marked with the plugin's name, and bounded"),
        Capability::Caller => Free("it tells whose calls of its services the plugin answers"),
        Capability::Assets => Free("it tells the addresses of the plugin's own files"),
    }
}

/// The same for an interface by which the host calls the plugin.
pub const fn decision_to_call(handler: Handler) -> Decision {
    use Decision::{Free, Listed};
    match handler {
        Handler::Web => Listed("routes"),
        Handler::Event => Listed("events"),
        Handler::Job => Listed("jobs"),
        Handler::Command => Listed("commands"),
        Handler::Effect => Free("whoever asks an effect of it was granted that, and what it then does it was granted itself"),
        Handler::SelfCheck => Free("it may only read"),
        Handler::Migrate => Free("it runs when the operator says so, on documents of its own"),
    }
}

/// Everything this version asks for. Of services and extension points that is what its component imports, function by
/// function: it is wired to nothing else.
pub fn asked(manifest: &Manifest, component: &[u8], offers: &Offers) -> Result<BTreeSet<Power>, LinkError> {
    let Interfaces { imports, exports, .. } = Interfaces::of(&manifest.name, component)?;
    let mut asked = BTreeSet::new();
    let mut ask = |kind: PowerKind, subject: String| asked.insert(Power::new(kind, subject));
    let unknown = |interface: &str| LinkError::Undecided { plugin: manifest.name.clone(), interface: interface.to_owned() };
    for Interface { name: interface, functions } in &imports {
        let name = without_version(interface);
        if name.starts_with("souk:extend/") {
            functions.iter().for_each(|function| _ = ask(PowerKind::Ask, format!("{name}.{function}")));
        } else if !is_of_host(name) {
            functions.iter().for_each(|function| _ = ask(PowerKind::Call, offers.subject(name, function)));
        } else if let Decision::Granted(_) = decision(Capability::of(name).ok_or_else(|| unknown(interface))?) {
            ask(PowerKind::Use, name.split_once('/').map_or(name, |(_, short)| short).into());
        }
    }
    for Interface { name: interface, .. } in &exports {
        let name = without_version(interface);
        if name.starts_with("souk:extend/") {
            ask(PowerKind::Provide, name.into());
        } else if !is_of_host(name) {
            ask(PowerKind::Serve, name.into());
        } else {
            Handler::of(name).ok_or_else(|| unknown(interface))?;
        }
    }
    for service in &manifest.services {
        offered_is_there(manifest, service, &exports)?;
    }
    for route in &manifest.routes {
        for method in &route.methods {
            ask(PowerKind::Route, route_subject(route, method));
        }
    }
    of_pages(manifest).into_iter().chain(of_commands(manifest)).for_each(|power| _ = ask(power.kind, power.subject));
    manifest.http.hosts.iter().for_each(|host| _ = ask(PowerKind::Http, host.clone()));
    manifest.secrets.iter().for_each(|secret| _ = ask(PowerKind::Secret, secret.clone()));
    manifest.effects.iter().for_each(|effect| _ = ask(PowerKind::Effect, effect.clone()));
    manifest.events.iter().for_each(|event| _ = ask(PowerKind::Hear, event.topic.clone()));
    manifest.publishes.iter().for_each(|topic| _ = ask(PowerKind::Publish, topic.clone()));
    manifest.jobs.iter().for_each(|job| _ = ask(PowerKind::Job, job_subject(job)));
    manifest.commands.iter().for_each(|command| _ = ask(PowerKind::Command, command.name.clone()));
    let (limits, usual) = (&manifest.limits, Limits::default());
    for (name, value, usual) in [
        ("deadline-ms", limits.deadline_ms, usual.deadline_ms),
        ("memory-mib", limits.memory_mib, usual.memory_mib),
        ("table-elements", limits.table_elements, usual.table_elements),
        ("storage-operations", limits.storage_operations, usual.storage_operations),
        ("output-bytes", limits.output_bytes, usual.output_bytes),
        ("share", limits.share, usual.share),
    ] {
        if value > usual {
            ask(PowerKind::Limit, format!("{name} {value}"));
        }
    }
    Ok(asked)
}

/// What a manifest says of a service is of one that the component exports.
fn offered_is_there(manifest: &Manifest, service: &Service, exports: &[Interface]) -> Result<(), LinkError> {
    let there = exports.iter().find(|export| without_version(&export.name) == service.interface);
    let is_there = |function: &&String| there.is_some_and(|there| there.functions.contains(function));
    let missing = |what: String| Err(LinkError::MissingExport { plugin: manifest.name.clone(), declares: "declares [[services]]".into(), interface: what });
    if there.is_none() {
        return missing(service.interface.clone());
    }
    let mut functions = service.groups.values().flat_map(|group| &group.functions);
    functions.find(|function| !is_there(function)).map_or(Ok(()), |function| missing(format!("{}.{function}", service.interface)))
}

fn route_subject(route: &super::manifest::Route, method: &str) -> String {
    let from = if route.cross_site { " from other sites" } else { "" };
    format!("{method} {}{from}", route.path)
}

fn job_subject(job: &super::manifest::Job) -> String {
    format!("{} at {}", job.name, job.cron)
}

/// Takes out of a manifest what was denied, as if it had not been asked for.
pub fn without(mut manifest: Manifest, denied: &BTreeSet<Power>) -> Manifest {
    let is_denied = |kind, subject: &str| denied.iter().any(|power| power.kind == kind && power.subject == subject);
    for route in &mut manifest.routes {
        let subject = |method: &String| route_subject(route, method);
        let kept = route.methods.iter().filter(|method| !is_denied(PowerKind::Route, &subject(method))).cloned().collect();
        route.methods = kept;
    }
    manifest.routes.retain(|route| !route.methods.is_empty());
    for route in &mut manifest.routes {
        route.authorization &= !is_denied(PowerKind::Authorization, &route.path);
        route.critical &= !is_denied(PowerKind::Priority, &route.path);
    }
    if denied.iter().any(|power| power.kind == PowerKind::Script) {
        manifest.pages.scripts = Scripts::None;
    }
    let plugin = manifest.name.clone();
    manifest.pages.cookies.retain(|name| !is_denied(PowerKind::Cookie, &cookie_name(&plugin, name)));
    manifest.http.hosts.retain(|host| !is_denied(PowerKind::Http, host));
    manifest.secrets.retain(|secret| !is_denied(PowerKind::Secret, secret));
    // All kinds of it may have been denied when an earlier version asked for all.
    manifest.effects.retain(|entry| !denied.iter().any(|power| power.covers(&Power::new(PowerKind::Effect, entry))));
    manifest.events.retain(|event| !is_denied(PowerKind::Hear, &event.topic));
    manifest.publishes.retain(|topic| !is_denied(PowerKind::Publish, topic));
    manifest.jobs.retain(|job| !is_denied(PowerKind::Job, &job_subject(job)));
    manifest.commands.retain(|command| !is_denied(PowerKind::Command, &command.name));
    for command in &mut manifest.commands {
        if follow_subject(command).is_some_and(|subject| is_denied(PowerKind::Follow, &subject)) {
            command.after = None;
        }
    }
    manifest
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use wasm_encoder::{
        Component, ComponentExportKind, ComponentExportSection, ComponentImportSection, ComponentTypeRef, ComponentTypeSection, InstanceType,
    };

    use super::*;

    /// Name and version of each interface in `wit/` that has functions.
    fn interfaces_of_the_host() -> Vec<String> {
        let mut resolve = wit_parser::Resolve::default();
        for package in ["host", "web"] {
            resolve.push_path(Path::new("../wit").join(package)).unwrap();
        }
        let with_functions = resolve.interfaces.iter().filter(|(_, interface)| !interface.functions.is_empty());
        let mut names: Vec<String> = with_functions.filter_map(|(id, _)| resolve.id_of(id)).collect();
        names.sort();
        names
    }

    /// A guest that imports an instance with one function, and gives it out again as `export`.
    pub fn guest(import: &str, export: Option<&str>) -> Vec<u8> {
        let mut instance = InstanceType::new();
        instance.ty().function().params([] as [(&str, wasm_encoder::ComponentValType); 0]).result(None);
        instance.export("do-it", ComponentTypeRef::Func(0));
        let (mut types, mut imports, mut exports) = (ComponentTypeSection::new(), ComponentImportSection::new(), ComponentExportSection::new());
        types.instance(&instance);
        imports.import(import, ComponentTypeRef::Instance(0));
        if let Some(export) = export {
            exports.export(export, ComponentExportKind::Instance, 0, None);
        }
        let mut component = Component::new();
        component.section(&types).section(&imports).section(&exports);
        component.finish()
    }

    fn asked_by(component: &[u8]) -> Result<Vec<String>, LinkError> {
        let manifest: Manifest = toml::from_str("name = \"demo\"\nversion = \"1.0.0\"").unwrap();
        Ok(asked(&manifest, component, &Offers::default())?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_interface_of_the_host_is_decided_and_no_other() {
        let decided: Vec<&str> = Capability::ALL.iter().map(|(_, name)| *name).chain(Handler::ALL.iter().map(|(_, name)| *name)).collect();
        let there = interfaces_of_the_host();
        assert_eq!(there.len(), decided.len());
        assert_eq!(there.iter().map(|name| without_version(name)).collect::<BTreeSet<_>>(), decided.into_iter().collect());
    }

    /// One for each interface there is: what it asks for is what was decided.
    #[test]
    fn a_guest_of_each_interface_asks_for_what_was_decided() {
        for interface in interfaces_of_the_host() {
            let name = without_version(&interface);
            let short = name.split_once('/').unwrap().1;
            match (Capability::of(name), Handler::of(name)) {
                (Some(capability), None) => {
                    let expected = match decision(capability) {
                        Decision::Granted(words) => {
                            let power = Power::new(PowerKind::Use, short);
                            assert_eq!(power.in_plain_words(&Offers::default()), words);
                            vec![power.to_string()]
                        }
                        Decision::Listed(_) | Decision::Free(_) => Vec::new(),
                    };
                    assert_eq!(asked_by(&guest(&interface, None)), Ok(expected), "{interface}");
                }
                (None, Some(handler)) => {
                    assert!(!matches!(decision_to_call(handler), Decision::Granted(_)));
                    assert_eq!(asked_by(&guest("souk:host/clock@0.1.0", Some(&interface))), Ok(Vec::new()), "{interface}");
                }
                _ => panic!("{interface}"),
            }
        }
    }

    #[test]
    fn what_nobody_has_decided_on_is_refused() {
        for (import, export) in [
            ("souk:host/device@0.1.0", None),
            ("souk:web/mail@0.1.9", None),
            // What the host calls is nothing to be given, and the other way round.
            ("souk:host/job-handler@0.1.0", None),
            ("souk:host/clock@0.1.0", Some("souk:host/storage@0.1.0")),
            ("souk:host/clock@0.1.0", Some("souk:host/takeover@0.1.0")),
        ] {
            let refused = asked_by(&guest(import, export)).unwrap_err();
            assert_eq!(refused, LinkError::Undecided { plugin: "demo".into(), interface: export.unwrap_or(import).into() });
        }
    }

    #[test]
    fn services_and_points_are_asked_for_whoever_made_them_up() {
        assert_eq!(asked_by(&guest("evil:bank/vault", None)).unwrap(), ["call evil:bank/vault.do-it"]);
        assert_eq!(asked_by(&guest("souk:host-like/storage@0.1.0", None)).unwrap(), ["call souk:host-like/storage.do-it"]);
        assert_eq!(asked_by(&guest("souk:extend/discount@0.1.0", None)).unwrap(), ["ask souk:extend/discount.do-it"]);
        assert_eq!(asked_by(&guest("souk:host/clock@0.1.0", Some("evil:bank/vault"))).unwrap(), ["serve evil:bank/vault"]);
        assert_eq!(asked_by(&guest("souk:host/clock@0.1.0", Some("souk:extend/discount@0.1.0"))).unwrap(), ["provide souk:extend/discount"]);
    }

    fn power(text: &str) -> Power {
        text.parse().unwrap()
    }

    #[test]
    fn powers_are_written_as_they_are_read() {
        for text in ["http api.example.com", "route GET /hello from other sites", "limit memory-mib 128"] {
            assert_eq!(power(text).to_string(), text);
        }
        assert!("fly".parse::<Power>().unwrap_err().contains("http, secret"));
        assert!("http".parse::<Power>().unwrap_err().contains("subject"));
    }

    #[test]
    fn a_manifest_speaks_only_of_services_that_are_there() {
        let component = guest("souk:host/clock@0.1.0", Some("evil:bank/vault"));
        for (interface, function, missing) in [
            ("evil:bank/vault", "do-it", None),
            ("evil:bank/vault", "undo-it", Some("evil:bank/vault.undo-it")),
            ("souk:commerce/orders", "do-it", Some("souk:commerce/orders")),
        ] {
            let manifest: Manifest = toml::from_str(&format!(
                "name = 'demo'\nversion = '1.0.0'\n[[services]]\ninterface = '{interface}'\ngroups.all = {{ functions = ['{function}'], words = {{ en = 'x' }} }}"
            ))
            .unwrap();
            let told = asked(&manifest, &component, &Offers::default()).err().map(|error| match error {
                LinkError::MissingExport { interface, .. } => interface,
                other => panic!("{other}"),
            });
            assert_eq!(told.as_deref(), missing);
        }
    }

    #[test]
    fn a_higher_limit_covers_a_lower_one_and_nothing_else_covers_another() {
        let granted = BTreeSet::from([power("limit memory-mib 128"), power("http a.example")]);
        let asked = ["limit memory-mib 100", "http a.example", "http b.example", "limit memory-mib 129", "limit deadline-ms 10"].map(power).into();
        let beyond: Vec<String> = beyond(&granted, &asked).iter().map(ToString::to_string).collect();
        assert_eq!(beyond, ["http b.example", "limit deadline-ms 10", "limit memory-mib 129"]);
    }

    #[test]
    fn an_effect_is_of_a_target_and_of_a_kind() {
        let granted = BTreeSet::from([power("effect bank"), power("effect post send"), power("effect * ping")]);
        let asked = ["effect bank pay", "effect bank", "effect post send", "effect post burn", "effect post", "effect other ping", "effect *", "effect * pay"];
        let asked = asked.map(power).into();
        let beyond: Vec<String> = beyond(&granted, &asked).iter().map(ToString::to_string).collect();
        assert_eq!(beyond, ["effect *", "effect * pay", "effect post", "effect post burn"]);

        let manifest: Manifest = toml::from_str("name = \"demo\"\nversion = \"1.0.0\"\neffects = [\"bank pay\", \"post\", \"* ping\"]").unwrap();
        for (target, kind, may) in
            [("bank", "pay", true), ("bank", "refund", false), ("bank", "", false), ("post", "whatever", true), ("other", "ping", true), ("*", "pay", false)]
        {
            assert_eq!(may_ask_effect(&manifest, target, kind), may, "{target} {kind}");
        }
        // Who was denied all of a target has none of its kinds later.
        assert_eq!(without(manifest, &["effect bank", "effect post"].map(power).into()).effects, BTreeSet::from(["* ping".to_owned()]));
    }

    #[test]
    fn an_operator_reads_who_does_what_outside() {
        for (text, words) in [
            ("effect pay-sandbox", "have the plugin `pay-sandbox` do anything it can in the outside world"),
            ("effect pay-sandbox payment.refund", "have the plugin `pay-sandbox` do `payment.refund` in the outside world"),
            ("effect *", "have any other plugin do anything it can in the outside world"),
            ("effect * payment.create", "have any other plugin do `payment.create` in the outside world"),
        ] {
            assert_eq!(power(text).in_plain_words(&Offers::default()), words);
        }
    }

    #[test]
    fn what_is_denied_is_as_if_it_was_not_asked_for() {
        let manifest: Manifest = toml::from_str(
            "name = \"demo\"\nversion = \"1.0.0\"\nsecrets = [\"key\"]\nhttp.hosts = [\"a.example\", \"b.example\"]\n[[routes]]\nname = \"r\"\nmethods = [\"GET\", \"POST\"]\npath = \"/r\"",
        )
        .unwrap();
        let left = without(manifest, &["http a.example", "secret key", "route POST /r"].map(power).into());
        assert_eq!(left.http.hosts, BTreeSet::from(["b.example".to_owned()]));
        assert!(left.secrets.is_empty());
        assert_eq!(left.routes[0].methods, BTreeSet::from(["GET".to_owned()]));
    }

    #[test]
    fn following_another_command_is_asked_for_by_its_name_and_can_be_denied() {
        let manifest: Manifest =
            toml::from_str("name = \"demo\"\nversion = \"1.0.0\"\n[[commands]]\nname = \"spy\"\nafter = \"set-stock\"\n[[commands]]\nname = \"own\"").unwrap();
        let asked = of_commands(&manifest);
        assert_eq!(asked, [power("follow set-stock with spy")].into());
        let told = asked.first().unwrap().in_plain_words(&Offers::default());
        assert!(told.contains("`set-stock`") && told.contains("`spy`"), "{told}");
        let left = without(manifest, &asked);
        assert_eq!(left.commands.iter().map(|command| (command.name.as_str(), command.after.clone())).collect::<Vec<_>>(), [("spy", None), ("own", None)]);
    }

    #[test]
    fn what_pages_do_in_browsers_is_asked_for_and_can_be_denied() {
        let manifest: Manifest = toml::from_str(
            "name = \"demo\"\nversion = \"1.0.0\"\npages = { scripts = \"shop\", cookies = [\"view\"] }\n[[routes]]\nname = \"r\"\nmethods = [\"GET\"]\npath = \"/r\"\ncritical = true\nauthorization = true",
        )
        .unwrap();
        let asked = of_pages(&manifest);
        assert_eq!(asked, ["script shop", "cookie demo.view", "priority /r", "authorization /r"].map(power).into());
        assert!(asked.iter().all(Power::is_separable));
        assert_eq!(of_pages(&without(manifest, &asked)), BTreeSet::new());
    }
}
