//! Reads one plugin's folder: manifest, component, assets, settings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::grants::{self, Grants};
use super::manifest::{Argument, ArgumentKind, Command, ExtensionPoint, Isolation, Limits, Manifest, Pages, Scripts, Service, Setting, SettingKind};
use super::offers::Offers;
use super::plugin::{Plugin, Usage};
use super::powers::{self, Power, effect_parts};
use crate::engine::{Interfaces, may_be_standard};
use crate::files::sha256_hex;
use crate::front::assets::{self, Asset};
use crate::printable::is_printable;
use crate::work::jobs::check_cron;

const COMPONENT_BYTES_MAX: u64 = 64 << 20;
const MANIFEST_BYTES_MAX: u64 = 256 << 10;
/// Of each kind of entry that a manifest lists.
const ENTRIES_MAX: usize = 200;
/// Each has a writer's memory while it is filled.
const INDEXES_MAX: usize = 16;
const DESCRIPTION_CHARS_MAX: usize = 1_000;
const WORD_CHARS_MAX: usize = 200;
const PROBLEMS_SHOWN_MAX: usize = 20;
const JOBS_MAX: usize = 32;
/// Of one command; and columns of a list.
const ARGUMENTS_MAX: usize = 40;
const GROUP_WORDS_CHARACTERS_MAX: usize = 120;

/// A plugin as it lies on disk, read and checked on its own.
#[derive(Clone)]
pub struct Loaded {
    pub plugin: Arc<Plugin>,
    pub component: Arc<[u8]>,
    pub assets: Vec<Arc<Asset>>,
    /// Changes with anything that was read.
    pub fingerprint: [u8; 32],
}

impl Loaded {
    /// What it keeps in memory.
    pub fn bytes(&self) -> usize {
        self.component.len() + self.assets.iter().map(|asset| asset.bytes()).sum::<usize>()
    }
}

/// The files of a version that say what it is, read and checked on their own.
pub struct Files {
    pub manifest: Manifest,
    pub component: Arc<[u8]>,
    /// Hex SHA-256 of the file, as the manifest's.
    pub component_digest: String,
    pub manifest_digest: String,
    /// The same of what may run in a browser, where its pages may have scripts; empty otherwise.
    pub scripts_digest: String,
}

impl Files {
    pub fn read(folder: &Path) -> Result<Self> {
        let manifest_text = read_limited(&folder.join("plugin.toml"), MANIFEST_BYTES_MAX)?;
        let component = read_limited(&folder.join("plugin.wasm"), COMPONENT_BYTES_MAX)?;
        let files = Self::of(&manifest_text, component)?;
        if files.manifest.pages.scripts == Scripts::None {
            return Ok(files);
        }
        let assets = assets::read(&folder.join("assets"))?;
        Ok(files.with_assets(assets.iter().map(|(path, body)| (path.as_str(), &body[..]))))
    }

    /// In order of their paths below `assets/`.
    pub fn with_assets<'a>(mut self, assets: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        if self.manifest.pages.scripts != Scripts::None {
            let lines = assets.filter(|(path, _)| assets::may_run(path)).map(|(path, body)| format!("{path} {}\n", sha256_hex(body)));
            self.scripts_digest = sha256_hex(lines.collect::<String>());
        }
        self
    }

    pub fn of(manifest_text: &[u8], component: Vec<u8>) -> Result<Self> {
        let mut manifest = parse_manifest(manifest_text)?;
        let component_digest = sha256_hex(&component);
        if may_be_standard(&component) && Interfaces::of(&manifest.name, &component)?.is_for_one_request {
            manifest.isolation = Isolation::Request;
        }
        Ok(Self { manifest, component: component.into(), component_digest, manifest_digest: sha256_hex(manifest_text), scripts_digest: String::new() })
    }

    pub fn asked(&self, offers: &Offers) -> Result<BTreeSet<Power>> {
        Ok(powers::asked(&self.manifest, &self.component, offers)?)
    }
}

/// Of the plugin in this folder, without its component.
pub fn read_manifest(folder: &Path) -> Result<Manifest> {
    parse_manifest(&read_limited(&folder.join("plugin.toml"), MANIFEST_BYTES_MAX)?)
}

fn parse_manifest(text: &[u8]) -> Result<Manifest> {
    let text = std::str::from_utf8(text).context("plugin.toml is not UTF-8")?;
    let manifest: Manifest = toml::from_str(text).map_err(|error| unreadable(text, &error))?;
    let mut problems = problems(&manifest);
    let more = problems.len().saturating_sub(PROBLEMS_SHOWN_MAX);
    problems.truncate(PROBLEMS_SHOWN_MAX);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    ensure!(problems.is_empty(), "plugin.toml: {}", problems.join("; "));
    Ok(manifest)
}

/// Without `grants`, all that is asked for is given.
pub fn load(folder: &Path, expected: &str, settings: Option<&toml::Table>, grants: Option<&(Grants, Offers)>) -> Result<Loaded> {
    let files = Files::read(folder)?;
    let name = files.manifest.name.clone();
    ensure!(expected == name, "plugin.toml names the plugin `{name}`, but its folder is `{expected}`: rename one of them");
    let denied = grants.map_or(Ok(BTreeSet::new()), |(grants, offers)| grants.admit(&files, offers))?;
    let publisher = grants.and_then(|(grants, _)| grants.publisher_of(&files)).unwrap_or(grants::UNSIGNED).to_owned();
    let config = configure(&files.manifest, settings)?;
    let config_document = serde_json::to_string(&config)?;
    let assets = assets::load(&name, &folder.join("assets"))?;

    let mut fingerprint = blake3::Hasher::new();
    let denials = denied.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in [&files.manifest_digest, &files.component_digest, &config_document, &denials, &publisher] {
        fingerprint.update(blake3::hash(part.as_bytes()).as_bytes());
    }
    assets.iter().for_each(|asset| {
        fingerprint.update(blake3::hash(asset.url.as_bytes()).as_bytes());
    });
    let plugin = Plugin {
        digest: files.component_digest,
        publisher,
        config_document,
        usage: Usage::default(),
        config: config.iter().map(|(name, value)| (name.clone(), value.to_string())).collect::<HashMap<_, _>>(),
        asset_urls: assets.iter().map(|asset| (asset.path.clone(), asset.url.clone())).collect(),
        manifest: powers::without(files.manifest, &denied),
        denied,
    };
    Ok(Loaded { plugin: Arc::new(plugin), component: files.component, assets, fingerprint: *fingerprint.finalize().as_bytes() })
}

fn read_limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let metadata = std::fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    ensure!(metadata.is_file(), "{} is not a plain file", path.display());
    ensure!(metadata.len() <= bytes_max, "{} has {} bytes; at most {bytes_max} are allowed", path.display(), metadata.len());
    std::fs::read(path).with_context(|| path.display().to_string())
}

pub fn is_kebab(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_effect(entry: &str) -> bool {
    let (target, kind) = effect_parts(entry);
    let is_kind = |kind: &str| (1..=128).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
    (target == "*" || is_kebab(target)) && kind.is_none_or(is_kind)
}

fn is_topic(topic: &str) -> bool {
    topic.len() <= 128 && topic.split('.').all(is_kebab)
}

/// What the parser says, in one line: the text around it is a stranger's.
fn unreadable(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let line = error.span().map_or(1, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
    anyhow::anyhow!("plugin.toml, line {line}: {}", error.message())
}

/// As `capability::http_client` compares it: `api.example.com`, `*.example.com`, with `http://` before or a port behind it.
fn is_host(entry: &str) -> bool {
    let entry = entry.strip_prefix("http://").unwrap_or(entry);
    if let Some(address) = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let (name, port) = entry.rsplit_once(':').map_or((entry, None), |(name, port)| (name, Some(port)));
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
    };
    let name = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= 253 && name.split('.').all(is_label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_method(method: &str) -> bool {
    (1..=20).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Of a route, with its variables.
fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= WORD_CHARS_MAX && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~{}*@!$'()+,;=:".contains(&byte))
}

/// What an operator reads before deciding: it says what it is, and nothing that looks like the host's own words.
fn words(manifest: &Manifest) -> Vec<String> {
    let mut problems = Vec::new();
    let mut check = |what: String, text: &str, chars_max: usize, lines: bool| {
        if text.chars().count() > chars_max {
            problems.push(format!("{what} has more than {chars_max} characters"));
        } else if let Some(c) = text.chars().find(|c| !is_printable(*c) && !(lines && *c == '\n')) {
            problems.push(format!("{what} holds {}, which cannot be printed: leave it out", c.escape_unicode()));
        }
    };
    check("the description".into(), &manifest.description, DESCRIPTION_CHARS_MAX, false);
    check("the license".into(), &manifest.license, WORD_CHARS_MAX, false);
    check("the version".into(), &manifest.version.to_string(), WORD_CHARS_MAX, false);
    for command in &manifest.commands {
        check(format!("the command `{}`: its description", command.name), &command.description, DESCRIPTION_CHARS_MAX, true);
        command.columns.iter().for_each(|column| check(format!("the command `{}`: a column", command.name), column, WORD_CHARS_MAX, false));
        for argument in command.arguments.iter().flatten() {
            argument.values.iter().for_each(|value| check(format!("the command `{}`, the argument `{}`: a value", command.name, argument.name), value, WORD_CHARS_MAX, false));
        }
    }
    for job in &manifest.jobs {
        check(format!("the job `{}`: its cron expression", job.name), &job.cron, WORD_CHARS_MAX, false);
    }
    for point in &manifest.extension_points {
        check("the interface of an extension point".into(), &point.interface, WORD_CHARS_MAX, false);
    }
    for index in &manifest.indexes {
        index.fields.iter().for_each(|field| check(format!("the index `{}`: the name of a field", index.name), &field.name, WORD_CHARS_MAX, false));
    }
    for (name, setting) in &manifest.config {
        check("the name of a setting".into(), name, WORD_CHARS_MAX, false);
        check(format!("the setting `{name}`: its description"), &setting.description, DESCRIPTION_CHARS_MAX, true);
    }
    problems
}

/// What is wrong with the things that it asks for, and how many there are.
fn subjects(manifest: &Manifest) -> Vec<String> {
    let mut problems = Vec::new();
    for (what, entries, max) in [
        ("routes", manifest.routes.len(), ENTRIES_MAX),
        ("events", manifest.events.len(), ENTRIES_MAX),
        ("publishes", manifest.publishes.len(), ENTRIES_MAX),
        ("commands", manifest.commands.len(), ENTRIES_MAX),
        ("indexes", manifest.indexes.len(), INDEXES_MAX),
        ("extension-points", manifest.extension_points.len(), ENTRIES_MAX),
        ("effects", manifest.effects.len(), ENTRIES_MAX),
        ("http.hosts", manifest.http.hosts.len(), ENTRIES_MAX),
        ("secrets", manifest.secrets.len(), ENTRIES_MAX),
        ("config", manifest.config.len(), ENTRIES_MAX),
    ] {
        if entries > max {
            problems.push(format!("{what} has {entries} entries; at most {max} are allowed"));
        }
    }
    for host in manifest.http.hosts.iter().filter(|host| !is_host(host)) {
        problems.push(format!("http.hosts, `{host}`: write a host's name in lower case, for instance `api.example.com`, `*.example.com` or `http://api.example.com:8080`"));
    }
    for secret in manifest.secrets.iter().filter(|secret| !is_kebab(secret)) {
        problems.push(format!("secrets, `{secret}`: use 1 to 40 lower-case letters, digits and single hyphens, a letter first"));
    }
    for effect in manifest.effects.iter().filter(|effect| !is_effect(effect)) {
        problems.push(format!("effects, `{effect}`: name a plugin (`*` for any), then a space and what it is to do, for instance `pay-sandbox payment.create`"));
    }
    for route in &manifest.routes {
        for method in route.methods.iter().filter(|method| !is_method(method)) {
            problems.push(format!("the route `{}`: `{method}` is no method; write for instance GET or POST", route.name));
        }
        if !is_path(&route.path) {
            problems.push(format!("the route `{}`: `{}` is no path: begin with `/`, and use letters and digits of ASCII and `-_.~`, at most {WORD_CHARS_MAX} bytes", route.name, route.path));
        }
    }
    for command in &manifest.commands {
        if let Some(after) = command.after.as_ref().filter(|after| !is_kebab(after)) {
            problems.push(format!("the command `{}`: `after` names no command: `{after}`", command.name));
        }
        problems.extend(command_problems(command));
    }
    problems
}

/// What is wrong with a manifest by itself, each naming the entry and what it takes.
fn problems(manifest: &Manifest) -> Vec<String> {
    let mut problems = subjects(manifest);
    problems.extend(words(manifest));
    let mut kebab = |what: &str, name: &str| {
        if !is_kebab(name) {
            problems.push(format!("{what} `{name}`: use 1 to 40 lower-case letters, digits and single hyphens, a letter first"));
        }
    };
    kebab("name", &manifest.name);
    manifest.routes.iter().for_each(|route| kebab("the route name", &route.name));
    manifest.jobs.iter().for_each(|job| kebab("the job", &job.name));
    manifest.commands.iter().for_each(|command| kebab("the command", &command.name));
    manifest.indexes.iter().for_each(|index| kebab("the index", &index.name));
    manifest.pages.cookies.iter().for_each(|name| kebab("the cookie", name));
    if manifest.pages.cookies.len() > Pages::COOKIES_MAX {
        problems.push(format!("pages.cookies names {}: give at most {}", manifest.pages.cookies.len(), Pages::COOKIES_MAX));
    }

    let mut unique = |what: &str, names: &mut dyn Iterator<Item = &String>| {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                problems.push(format!("{what} `{name}` is there twice"));
            }
        }
    };
    unique("the route name", &mut manifest.routes.iter().map(|r| &r.name));
    unique("the job", &mut manifest.jobs.iter().map(|j| &j.name));
    unique("the command", &mut manifest.commands.iter().map(|c| &c.name));
    unique("the index", &mut manifest.indexes.iter().map(|i| &i.name));
    unique("the subscription", &mut manifest.events.iter().map(|e| &e.topic));
    for topic in manifest.publishes.iter().chain(manifest.events.iter().map(|e| &e.topic)) {
        if !is_topic(topic) {
            problems.push(format!("the topic `{topic}`: use dotted lower case, for instance `order.placed`"));
        }
    }
    if manifest.jobs.len() > JOBS_MAX {
        problems.push(format!("{} jobs; at most {JOBS_MAX}", manifest.jobs.len()));
    }
    // The first of them: one that never comes takes long to be told from one that does.
    problems.extend(manifest.jobs.iter().take(JOBS_MAX).find_map(|job| Some(format!("the job `{}`: {}", job.name, check_cron(&job.cron).err()?))));
    for point in &manifest.extension_points {
        if !point.interface.starts_with("souk:extend/") {
            problems.push(format!("the extension point `{}`: names look like `souk:extend/discount`", point.interface));
        }
        let allowed = ExtensionPoint::DEADLINE_MS;
        if !allowed.contains(&point.deadline_ms) {
            let (given, min, max) = (point.deadline_ms, allowed.start(), allowed.end());
            problems.push(format!("the extension point `{}`: deadline-ms is {given}; give {min} to {max}", point.interface));
        }
    }
    manifest.services.iter().for_each(|service| problems.extend(service_problems(service)));
    problems.extend(crate::capability::search::problems(&manifest.indexes));
    let data = &manifest.data;
    if data.form == 0 || !(1..=data.form).contains(&data.reads()) {
        problems.push(format!("data.form is {}, data.reads {}: forms count from 1, and none reads beyond what it writes", data.form, data.reads()));
    }
    let limits = &manifest.limits;
    for (name, value, allowed) in [
        ("deadline-ms", limits.deadline_ms, Limits::DEADLINE_MS),
        ("memory-mib", limits.memory_mib, Limits::MEMORY_MIB),
        ("table-elements", limits.table_elements, Limits::TABLE_ELEMENTS),
        ("storage-operations", limits.storage_operations, Limits::STORAGE_OPERATIONS),
        ("output-bytes", limits.output_bytes, Limits::OUTPUT_BYTES),
        ("share", limits.share, Limits::SHARE),
    ] {
        if !allowed.contains(&value) {
            problems.push(format!("limits.{name} is {value}: give {} to {}", allowed.start(), allowed.end()));
        }
    }
    problems
}

/// Words stand where an operator decides: one line of plain text, and no function under two of them.
/// What is wrong with what it says of its arguments, and of the list that it is.
fn command_problems(command: &Command) -> Vec<String> {
    let of = &command.name;
    let mut problems = Vec::new();
    let arguments = command.arguments.as_deref().unwrap_or_default();
    if arguments.len() > ARGUMENTS_MAX || command.columns.len() > ARGUMENTS_MAX {
        problems.push(format!("the command `{of}`: at most {ARGUMENTS_MAX} arguments, and as many columns"));
    }
    let mut seen = BTreeSet::new();
    for Argument { name, kind, min, max, values, words, .. } in arguments {
        let mut wrong = |what: &str| problems.push(format!("the command `{of}`, the argument `{}`: {what}", name.escape_debug()));
        if !is_kebab(name) {
            wrong("use 1 to 40 lower-case letters, digits and single hyphens, a letter first");
        }
        if !seen.insert(name) {
            wrong("it is there twice");
        }
        if (min.is_some() || max.is_some()) && !matches!(kind, ArgumentKind::Integer | ArgumentKind::Number) {
            wrong("`min` and `max` are for the kinds `integer` and `number`");
        }
        if !values.is_empty() && *kind != ArgumentKind::Text {
            wrong("`values` are for the kind `text`");
        }
        if !are_words(words) {
            wrong(&format!("give words in `en`, and in each language one line of 1 to {GROUP_WORDS_CHARACTERS_MAX} characters"));
        }
    }
    if !command.attention.is_empty() {
        if !are_words(&command.attention) {
            problems.push(format!("the command `{of}`: attention: give words in `en`, and in each language one line of 1 to {GROUP_WORDS_CHARACTERS_MAX} characters"));
        }
        if !command.is_list() {
            problems.push(format!("the command `{of}`: attention is for lists: name it `list-…`, and give columns"));
        }
    }
    problems
}

/// In English and other languages, each one line that can be shown.
fn are_words(words: &BTreeMap<String, String>) -> bool {
    let is_plain = |words: &String| (1..=GROUP_WORDS_CHARACTERS_MAX).contains(&words.chars().count()) && words.chars().all(is_printable);
    words.contains_key("en") && words.values().all(is_plain)
}

fn service_problems(service: &Service) -> Vec<String> {
    let Service { interface, groups } = service;
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, group) in groups {
        if !is_kebab(name) {
            problems.push(format!("the service `{interface}`, the group `{}`: name it like `read`", name.escape_debug()));
        }
        for function in group.functions.iter().filter(|function| !seen.insert(*function)) {
            problems.push(format!("the service `{interface}`: `{}` is in two groups", function.escape_debug()));
        }
        if !are_words(&group.words) {
            problems.push(format!(
                "the service `{interface}`, the group `{name}`: give words in `en`, and in each language one line of 1 to {GROUP_WORDS_CHARACTERS_MAX} characters"
            ));
        }
    }
    problems
}

/// The settings of a plugin: what the shop gives, defaults for the rest.
fn configure(manifest: &Manifest, given: Option<&toml::Table>) -> Result<serde_json::Map<String, serde_json::Value>> {
    let plugin = &manifest.name;
    if let Some(unknown) = given.into_iter().flat_map(toml::Table::keys).find(|name| !manifest.config.contains_key(*name)) {
        let known = manifest.config.keys().cloned().collect::<Vec<_>>().join(", ");
        bail!("souk.toml, [config.{plugin}]: there is no setting `{unknown}`; there are: {known}");
    }
    let mut config = serde_json::Map::new();
    for (name, setting) in &manifest.config {
        let value = given.and_then(|given| given.get(name)).or(setting.default.as_ref());
        let Some(value) = value else { bail!("souk.toml, [config.{plugin}]: the setting `{name}` has no default: give it ({})", setting.description) };
        if let Err(problem) = check(setting, value) {
            bail!("souk.toml, [config.{plugin}]: `{name}` {problem}");
        }
        config.insert(name.clone(), serde_json::to_value(value)?);
    }
    Ok(config)
}

fn check(setting: &Setting, value: &toml::Value) -> std::result::Result<(), String> {
    let fits = match setting.kind {
        SettingKind::String => value.is_str(),
        SettingKind::Integer => value.is_integer(),
        SettingKind::Number => value.is_integer() || value.is_float(),
        SettingKind::Boolean => value.is_bool(),
        SettingKind::Array => value.is_array(),
        SettingKind::Object => value.is_table(),
    };
    if !fits {
        return Err(format!("is {}; it takes {:?}", value.type_str(), setting.kind).to_lowercase());
    }
    if !setting.values.is_empty() && !setting.values.contains(value) {
        let values = setting.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(format!("is {value}; it takes one of {values}"));
    }
    let number = value.as_float().or(value.as_integer().map(|n| n as f64));
    if let Some(number) = number
        && (setting.min.is_some_and(|min| number < min) || setting.max.is_some_and(|max| number > max))
    {
        return Err(format!("is {number}; it takes {} to {}", setting.min.unwrap_or(f64::MIN), setting.max.unwrap_or(f64::MAX)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest(text: &str) -> Manifest {
        toml::from_str(&format!("name = \"demo\"\nversion = \"1.0.0\"\n{text}")).unwrap()
    }

    #[test]
    fn settings_take_defaults_and_are_checked_against_the_schema() {
        let manifest = manifest("config.rate = { type = \"integer\", default = 3, min = 1, max = 5 }");
        assert_eq!(configure(&manifest, None).unwrap()["rate"], 3);
        for (given, problem) in [
            ("rate = 9", "takes 1 to 5"),
            ("rate = \"x\"", "takes integer"),
            ("raet = 2", "there are: rate"),
        ] {
            let error = configure(&manifest, Some(&given.parse().unwrap())).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_setting_without_default_must_be_given() {
        let manifest = manifest("config.key = { type = \"string\", description = \"the merchant's id\" }");
        let error = configure(&manifest, None).unwrap_err().to_string();
        assert!(error.contains("merchant's id"), "{error}");
    }

    const WHOLE: &str = "name = \"demo\"\nversion = \"1.0.0\"\nsecrets = [\"key\"]\nhttp.hosts = [\"a.example\"]\n[[routes]]\nname = \"r\"\nmethods = [\"GET\"]\npath = \"/r/{id}\"\n[[jobs]]\nname = \"j\"\ncron = \"0 * * * *\"\n[limits]\nmemory-mib = 8\n[data]\nform = 2\nreads = 1\n[config.rate]\ntype = \"integer\"\ndefault = 3\nmin = 1\n";

    proptest! {
        /// A manifest with a piece exchanged, beside a component of any bytes.
        #[test]
        fn no_files_make_the_host_panic(at in 0..WHOLE.len(), length in 0..40_usize, piece in "[a-z0-9\"'=\\[\\]{}.,\n é-]{0,12}", component in prop::collection::vec(any::<u8>(), 0..200)) {
            let end = (at + length).min(WHOLE.len());
            let text = format!("{}{piece}{}", &WHOLE[..at], &WHOLE[end..]);
            let magic = b"\0asm\x0d\0\x01\0";
            let component = [&magic[..], &component].concat();
            if let Ok(files) = Files::of(text.as_bytes(), component) {
                let _ = files.asked(&Offers::default());
                let _ = configure(&files.manifest, None);
            }
        }
    }

    #[test]
    fn jobs_that_never_come_or_are_too_many_are_refused() {
        let job = |number: usize, cron: &str| format!("[[jobs]]\nname = \"j{number}\"\ncron = \"{cron}\"\n");
        for (jobs, problem) in [
            (job(0, "0 0 30 2 *"), "`0 0 30 2 *` never comes"),
            (job(0, &format!("{}0 * * * *", "0,".repeat(100))), "at most 128"),
            ((0..33).map(|number| job(number, "0 * * * *")).collect(), "33 jobs; at most 32"),
        ] {
            let told = problems(&manifest(&jobs)).join("\n");
            assert!(told.contains(problem), "{told}");
        }
        assert!(problems(&manifest(&job(0, "0 0 29 2 *"))).is_empty());
    }

    #[test]
    fn what_is_asked_for_is_named_in_words_that_can_be_shown() {
        for host in ["api.example.com", "*.example.com", "api.example.com:8443", "http://localhost:1", "shop.internal", "127.0.0.1", "http://[::ffff:7f00:1]"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "*", "a.*.com", "Api.example.com", "a b", "a\u{1b}[2K", "a\n", "a:0", "a:x", "https://a", "-a.example", "a..b", "a/b", "a\u{202e}"] {
            assert!(!is_host(host), "{host:?}");
        }
        for (text, told) in [
            ("description = \"\\u001b[2J\"", "the description holds \\u{1b}"),
            ("description = \"a\\nIt asks for nothing.\"", "the description holds \\u{a}"),
            ("license = \"\\u202e\"", "the license holds"),
            ("secrets = [\"stripe key\"]", "secrets, `stripe key`"),
            ("effects = [\"*\", \"a\\u0007\"]", "effects, `a"),
            ("http.hosts = [\"a.example\\u009b1A\"]", "http.hosts, `a.example"),
            ("[[routes]]\nname = \"r\"\nmethods = [\"GET\\r\"]\npath = \"/\"", "is no method"),
            ("[[routes]]\nname = \"r\"\nmethods = [\"GET\"]\npath = \"/\\u001b[1A\"", "is no path"),
            ("[[jobs]]\nname = \"j\"\ncron = \"0 * * *\\n*\"", "the job `j`: its cron expression holds"),
            ("[[commands]]\nname = \"c\"\ndescription = \"\\u009b2J\"", "the command `c`: its description holds"),
            ("[[commands]]\nname = \"c\"\narguments = [{ name = \"A b\", words = { en = \"x\" } }]", "the argument `A b`: use 1 to 40"),
            ("[[commands]]\nname = \"c\"\narguments = [{ name = \"a\" }]", "the argument `a`: give words in `en`"),
            ("[[commands]]\nname = \"c\"\narguments = [{ name = \"a\", min = 1, words = { en = \"x\" } }]", "`min` and `max` are for"),
            ("[[commands]]\nname = \"c\"\nattention = { en = \"things wait\" }", "attention is for lists"),
            ("[config.\"a\\u200b\"]\ntype = \"string\"\ndefault = \"\"", "the name of a setting holds"),
        ] {
            let problems = problems(&manifest(text)).join("\n");
            assert!(problems.contains(told), "{text}: {problems:?}");
        }
        let many: String = (0..=ENTRIES_MAX).map(|n| format!("\"s-{n}\",")).collect();
        assert!(problems(&manifest(&format!("secrets = [{many}]"))).join("\n").contains("at most 200"));
        assert!(problems(&manifest("description = \"茶 — thé 🍵\"")).is_empty());
    }

    #[test]
    fn a_manifest_tells_all_that_is_wrong_with_it() {
        let manifest = manifest(
            "publishes = [\"Order Placed\"]\n[limits]\nmemory-mib = 9999\n[[jobs]]\nname = \"x\"\ncron = \"soon\"\n[[jobs]]\nname = \"x\"\ncron = \"0 * * * *\"",
        );
        let problems = problems(&manifest).join("\n");
        for part in ["Order Placed", "memory-mib", "`soon` is not a cron expression", "`x` is there twice"] {
            assert!(problems.contains(part), "{problems}");
        }
    }
}
