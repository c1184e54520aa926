//! What a plugin asks for, as powers that an operator can read and grant.
//!
//! Taken from the component, which cannot lie about what it imports and
//! exports, and from the manifest, beyond which the host gives nothing. Used by
//! [`super::grants`] and by `souk plugin`. What only concerns the plugin itself
//! (its settings, log lines, clock, random numbers, cache, figures) needs no
//! grant.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::manifest::{Limits, Manifest};
use crate::engine::{Interfaces, LinkError};

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
    Effect,
    Provide,
    Serve,
    Route,
    Call,
    Ask,
    Use,
    Hear,
    Publish,
    Job,
    Command,
    Limit,
}

const NAMES: [(PowerKind, &str); 14] = [
    (PowerKind::Http, "http"),
    (PowerKind::Secret, "secret"),
    (PowerKind::Effect, "effect"),
    (PowerKind::Provide, "provide"),
    (PowerKind::Serve, "serve"),
    (PowerKind::Route, "route"),
    (PowerKind::Call, "call"),
    (PowerKind::Ask, "ask"),
    (PowerKind::Use, "use"),
    (PowerKind::Hear, "hear"),
    (PowerKind::Publish, "publish"),
    (PowerKind::Job, "job"),
    (PowerKind::Command, "command"),
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
        use PowerKind::{Command, Effect, Hear, Http, Job, Publish, Route, Secret};
        matches!(self.kind, Http | Secret | Effect | Route | Hear | Publish | Job | Command)
    }

    /// Whether whoever has this may do what `asked` asks for: the same, or a
    /// lower limit.
    fn covers(&self, asked: &Power) -> bool {
        if self == asked {
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
    pub fn in_plain_words(&self) -> String {
        let subject = &self.subject;
        let name = subject.split_once('/').map_or(subject.as_str(), |(_, name)| name).split('@').next().unwrap_or(subject);
        match self.kind {
            PowerKind::Http if subject == crate::capability::http_client::OWN_NAME => "send web requests to this shop itself".into(),
            PowerKind::Http => format!("send data to {subject} on the internet, and read its answers"),
            PowerKind::Secret => format!("read your secret `{subject}`"),
            PowerKind::Effect if subject == "*" => "have any other plugin act in the outside world".into(),
            PowerKind::Effect => format!("have the plugin `{subject}` act in the outside world"),
            PowerKind::Provide => format!("take part wherever the shop asks for: {name}"),
            PowerKind::Serve => format!("be the shop's one {name}, for all other plugins"),
            PowerKind::Route => format!("answer web requests: {subject}"),
            PowerKind::Call => format!("do in the shop whatever {name} offers"),
            PowerKind::Ask => format!("ask the plugins that take part in: {name}"),
            PowerKind::Use => match subject.as_str() {
                "storage" => "keep data of its own in the shop's store".into(),
                "search" => "keep a search index of its own".into(),
                "session" => "know returning shoppers by a session of its own".into(),
                "crypto" => "sign and seal with keys of its own, which it never sees".into(),
                other => format!("use the host's {other}"),
            },
            PowerKind::Hear => format!("be told of every `{subject}`"),
            PowerKind::Publish => format!("tell other plugins of `{subject}`"),
            PowerKind::Job => format!("work by itself, by the clock: {subject}"),
            PowerKind::Command => format!("offer you the command `{subject}`"),
            PowerKind::Limit => format!("take more than plugins usually do: {subject}"),
        }
    }
}

/// Those of `asked` that nothing in `granted` covers.
pub fn beyond<'a>(granted: &BTreeSet<Power>, asked: &'a BTreeSet<Power>) -> Vec<&'a Power> {
    asked.iter().filter(|asked| !granted.iter().any(|has| has.covers(asked))).collect()
}

/// Host interfaces that reach others than the plugin itself.
const USES: [&str; 4] = ["storage", "search", "session", "crypto"];

/// Everything this version asks for.
pub fn asked(manifest: &Manifest, component: &[u8]) -> Result<BTreeSet<Power>, LinkError> {
    let Interfaces { imports, exports } = Interfaces::of(&manifest.name, component)?;
    let mut asked = BTreeSet::new();
    let mut ask = |kind: PowerKind, subject: String| asked.insert(Power::new(kind, subject));
    for interface in &imports {
        let name = interface.split('@').next().unwrap_or(interface);
        match name.strip_prefix("souk:host/") {
            Some(capability) if USES.contains(&capability) => _ = ask(PowerKind::Use, capability.into()),
            Some(_) => {}
            None if name.starts_with("souk:web/") => {}
            None if name.starts_with("souk:extend/") => _ = ask(PowerKind::Ask, name.into()),
            None => _ = ask(PowerKind::Call, name.into()),
        }
    }
    for interface in &exports {
        let name = interface.split('@').next().unwrap_or(interface);
        if name.starts_with("souk:extend/") {
            ask(PowerKind::Provide, name.into());
        } else if !name.starts_with("souk:host/") && !name.starts_with("souk:web/") {
            ask(PowerKind::Serve, name.into());
        }
    }
    for route in &manifest.routes {
        for method in &route.methods {
            ask(PowerKind::Route, route_subject(route, method));
        }
    }
    manifest.http.hosts.iter().for_each(|host| _ = ask(PowerKind::Http, host.clone()));
    manifest.secrets.iter().for_each(|secret| _ = ask(PowerKind::Secret, secret.clone()));
    manifest.effects.iter().for_each(|target| _ = ask(PowerKind::Effect, target.clone()));
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
    ] {
        if value > usual {
            ask(PowerKind::Limit, format!("{name} {value}"));
        }
    }
    Ok(asked)
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
    manifest.http.hosts.retain(|host| !is_denied(PowerKind::Http, host));
    manifest.secrets.retain(|secret| !is_denied(PowerKind::Secret, secret));
    manifest.effects.retain(|target| !is_denied(PowerKind::Effect, target));
    manifest.events.retain(|event| !is_denied(PowerKind::Hear, &event.topic));
    manifest.publishes.retain(|topic| !is_denied(PowerKind::Publish, topic));
    manifest.jobs.retain(|job| !is_denied(PowerKind::Job, &job_subject(job)));
    manifest.commands.retain(|command| !is_denied(PowerKind::Command, &command.name));
    manifest
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_higher_limit_covers_a_lower_one_and_nothing_else_covers_another() {
        let granted = BTreeSet::from([power("limit memory-mib 128"), power("http a.example")]);
        let asked = ["limit memory-mib 100", "http a.example", "http b.example", "limit memory-mib 129", "limit deadline-ms 10"].map(power).into();
        let beyond: Vec<String> = beyond(&granted, &asked).iter().map(ToString::to_string).collect();
        assert_eq!(beyond, ["http b.example", "limit deadline-ms 10", "limit memory-mib 129"]);
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
}
