//! Reads one plugin's folder: manifest, component, assets, settings.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::grants::{self, Grants};
use super::manifest::{ExtensionPoint, Isolation, Limits, Manifest, Service, Setting, SettingKind};
use super::offers::Offers;
use super::plugin::{Plugin, Usage};
use super::powers::{self, Power};
use crate::engine::wasi;
use crate::files::sha256_hex;
use crate::front::assets::{self, Asset};
use crate::work::jobs::check_cron;

const COMPONENT_BYTES_MAX: u64 = 64 << 20;
const MANIFEST_BYTES_MAX: u64 = 256 << 10;
const JOBS_MAX: usize = 32;
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

/// The files of a version that say what it is, read and checked on their own.
pub struct Files {
    pub manifest: Manifest,
    /// With adapters around it where it needs some.
    pub component: Vec<u8>,
    /// Hex SHA-256 of the file, as the manifest's.
    pub component_digest: String,
    pub manifest_digest: String,
}

impl Files {
    pub fn read(folder: &Path) -> Result<Self> {
        let manifest_text = read_limited(&folder.join("plugin.toml"), MANIFEST_BYTES_MAX)?;
        let component = read_limited(&folder.join("plugin.wasm"), COMPONENT_BYTES_MAX)?;
        Self::of(&manifest_text, component)
    }

    pub fn of(manifest_text: &[u8], component: Vec<u8>) -> Result<Self> {
        let mut manifest = parse_manifest(manifest_text)?;
        let component_digest = sha256_hex(&component);
        let adapted = wasi::adapt(&manifest.name, component)?;
        if adapted.is_for_one_request {
            manifest.isolation = Isolation::Request;
        }
        Ok(Self { manifest, component: adapted.component, component_digest, manifest_digest: sha256_hex(manifest_text) })
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
    let manifest: Manifest = toml::from_str(std::str::from_utf8(text).context("plugin.toml is not UTF-8")?).context("plugin.toml")?;
    let problems = problems(&manifest);
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
    Ok(Loaded { plugin: Arc::new(plugin), component: files.component.into(), assets, fingerprint: *fingerprint.finalize().as_bytes() })
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

fn is_topic(topic: &str) -> bool {
    topic.len() <= 128 && topic.split('.').all(is_kebab)
}

/// What is wrong with a manifest by itself, each naming the entry and what it takes.
fn problems(manifest: &Manifest) -> Vec<String> {
    let mut problems = Vec::new();
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
    ] {
        if !allowed.contains(&value) {
            problems.push(format!("limits.{name} is {value}: give {} to {}", allowed.start(), allowed.end()));
        }
    }
    problems
}

/// Words stand where an operator decides: one line of plain text, and no function under two of them.
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
        let is_plain = |words: &String| (1..=GROUP_WORDS_CHARACTERS_MAX).contains(&words.chars().count()) && !words.chars().any(char::is_control);
        if !group.words.contains_key("en") || !group.words.values().all(is_plain) {
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
