//! The shop that one scenario is played in: a store in a temporary folder, with
//! the plugin and those it is given, opened as a server opens it. Only the
//! engine counts instructions, and the unit carries fakes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use wasmtime::component::Val;
use wasmtime::component::types::ComponentFunc;

use super::report::{Report, Told};
use super::scenario::{Exchange, Expect, Scenario};
use crate::capability::storage::check_place;
use crate::engine::bindings::souk::host::http_client::Response;
use crate::engine::{Code, Graph, Interface, Interfaces, Options, Rehearsed, Role, line, values, without_version};
use crate::files::copy_folder;
use crate::runtime::Runtime;
use crate::shop::load::Files;
use crate::shop::plugin::Plugin;
use crate::shop::settings::{Settings, StoreFolder};
use crate::work::rehearsal::{self, Collections, Recorded};
use crate::work::unit::{Kind, Limits, Shopper, Start, Visit};
use crate::work::{SharedUnit, Unit};

/// Unless a scenario says when.
const NOW: &str = "2026-01-01T00:00:00Z";
const SETTINGS: &str = "shop = { name = \"Rehearsal\", base-url = \"https://shop.example\", currency = \"CNY\", locales = [\"en\", \"zh-CN\"], time-zone = \"Asia/Shanghai\", country = \"CN\" }\nplugins.grants = \"implied\"\n";

pub struct Stage {
    runtime: Arc<Runtime>,
    graph: Graph,
    plugin: Arc<Plugin>,
    role: Role,
    ty: ComponentFunc,
    parameters: Vec<Val>,
    recorded: Vec<Recorded>,
    start: Start,
    expect: Expect,
    has_names: bool,
    /// Last, so that it goes when all else is closed.
    _folder: TempDir,
}

impl Stage {
    pub async fn set(built: &Path, scenario: &Scenario) -> Result<Self> {
        let files = read(built)?;
        let name = files.manifest.name.clone();
        let folder = tempfile::tempdir()?;
        let store = StoreFolder(folder.path().to_owned());
        let settings = settings(&name, scenario)?;
        place(&store, &name, built)?;
        for with in &scenario.with {
            let other = read(with)?.manifest.name;
            ensure!(other != name, "with: {} is the plugin itself", with.display());
            place(&store, &other, with)?;
        }
        services_are_there(&files, &scenario.with)?;
        secrets(&store, &files, scenario)?;
        let options = Options {
            metered: true,
            baseline: false,
            code_cache: Some(code_cache(&store)),
            service_instances_max: 8,
            provider_instances_max: 32,
            ..Options::default()
        };
        let runtime = Runtime::open_on(store, settings, Code::Optimised, options).await?;
        if let Some((name, problem)) = runtime.shop.report().into_iter().find_map(|report| Some((report.name, report.problem?))) {
            bail!("`{name}` cannot run: {problem}");
        }
        let graph = runtime.shop.graph_of(&name).with_context(|| format!("`{name}` is not live"))?;
        let plugin = graph.plugins().find(|plugin| plugin.name() == name).cloned().context("the plugin is gone")?;
        let role = role(&graph, &name, scenario)?;
        let ty = graph.type_of(&role).context("the function is gone")?;
        let parameters = values::parameters(&ty, &scenario.parameters)?;
        let mut stage = Self {
            start: start(&runtime, &role, scenario)?,
            runtime,
            graph,
            plugin,
            role,
            ty,
            parameters,
            recorded: scenario.http.iter().enumerate().map(recorded).collect::<Result<_>>()?,
            expect: scenario.expect.clone(),
            has_names: has_names(&files.component),
            _folder: folder,
        };
        stage.furnish(scenario).await?;
        Ok(stage)
    }

    /// Puts there what the scenario finds.
    async fn furnish(&mut self, scenario: &Scenario) -> Result<()> {
        let (name, store) = (&self.role.plugin, &self.runtime.store);
        let mut documents = Collections::new();
        for (collection, of) in &scenario.documents {
            for (key, document) in of {
                check_place(collection, key).map_err(|problem| anyhow!("documents.{collection}.{key}: {problem}"))?;
                documents.entry(collection.clone()).or_default().insert(key.clone(), serde_json::to_vec(document)?);
            }
        }
        for (collection, key) in scenario.counters.iter().flat_map(|(collection, of)| of.keys().map(move |key| (collection, key))) {
            check_place(collection, key).map_err(|problem| anyhow!("counters.{collection}.{key}: {problem}"))?;
        }
        rehearsal::prepare(store, name, &documents, &scenario.counters).await?;
        if !scenario.session.is_empty() {
            ensure!(matches!(self.start.shopper, Shopper::Browser(_)), "session: there is no shopper when the host calls `{}`", self.role.interface);
            let begun = rehearsal::prepare_session(store, self.start.clone(), name, &scenario.session).await;
            self.start.shopper = Shopper::Browser(Some(begun.map_err(|problem| anyhow!(problem))?));
        }
        Ok(())
    }

    /// The call, and what came of it.
    pub async fn play(&self) -> Report {
        let (rehearsed, told) = self.run(u64::MAX).await;
        Report::of(&self.plugin, &self.role, &self.ty, self.limits(), rehearsed, told, &self.expect)
    }

    /// Where it is once so many instructions are used up; nowhere if it ended before.
    pub async fn stack_at(&self, fuel: u64) -> Option<Vec<String>> {
        let (rehearsed, _) = self.run(fuel).await;
        rehearsed.out_of_fuel.then_some(rehearsed.stack)
    }

    /// Each run begins with the same documents, fakes and empty cache.
    async fn run(&self, fuel: u64) -> (Rehearsed, Told) {
        self.runtime.services.cache.clear();
        let mut unit = Unit::new(self.runtime.store.begin(), self.start.clone());
        unit.rehearse(self.recorded.clone());
        let unit = unit.shared();
        let visit = is_extension(&self.role.interface).then(|| Visit::begin(&unit, &"souk".into()));
        let rehearsed = self.graph.rehearse(&self.role, &self.parameters, unit.clone(), fuel).await;
        let told = told(&unit);
        drop(visit);
        (rehearsed, told)
    }

    fn limits(&self) -> super::report::Limits {
        let limits = &self.plugin.manifest.limits;
        super::report::Limits {
            memory_bytes: self.graph.memory_bytes_max() as u64,
            output_bytes: limits.output_bytes.into(),
            storage_operations: limits.storage_operations.max(self.start.limits.operations_min).into(),
            time: self.graph.deadline_of(&self.role).unwrap_or_default(),
        }
    }

    /// What to do where functions have no names.
    pub fn names_hint(&self) -> Option<String> {
        (!self.has_names).then(|| {
            "its functions have no names: the component was stripped. Keep the name section, in Rust with `strip = \"debuginfo\"` in [profile.release]".to_owned()
        })
    }
}

fn told(unit: &SharedUnit) -> Told {
    let mut unit = unit.lock();
    let operations = unit.operations();
    let rehearsal = unit.rehearsal.take().unwrap_or_default();
    Told { staged: rehearsal::end(&mut unit), operations, log: rehearsal.log, fetches: rehearsal.fetches, providers: rehearsal.providers }
}

/// The name in a source's manifest.
pub fn name_of(source: &Path) -> Result<String> {
    #[derive(Deserialize)]
    struct Manifest {
        name: String,
    }
    let path = source.join("plugin.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(toml::from_str::<Manifest>(&text).with_context(|| path.display().to_string())?.name)
}

fn read(folder: &Path) -> Result<Files> {
    let remedy = || format!("{} is not a built plugin: `souk plugin build` makes one of its source", folder.display());
    ensure!(folder.join("plugin.wasm").exists(), remedy());
    Files::read(folder).with_context(|| folder.display().to_string())
}

fn place(store: &StoreFolder, name: &str, from: &Path) -> Result<()> {
    let to = store.plugins().join(name);
    ensure!(!to.exists(), "with: the plugin `{name}` is there twice");
    fs::create_dir_all(&to)?;
    for file in ["plugin.toml", "plugin.wasm"] {
        fs::copy(from.join(file), to.join(file)).with_context(|| from.join(file).display().to_string())?;
    }
    if from.join("assets").is_dir() {
        copy_folder(&from.join("assets"), &to.join("assets"))?;
    }
    Ok(())
}

/// What a shop would say of an import that nobody provides, with the remedy that there is here.
fn services_are_there(files: &Files, with: &[PathBuf]) -> Result<()> {
    let mut all = vec![(files.manifest.name.clone(), Interfaces::of(&files.manifest.name, &files.component)?)];
    for folder in with {
        let files = read(folder)?;
        all.push((files.manifest.name.clone(), Interfaces::of(&files.manifest.name, &files.component)?));
    }
    for (name, interfaces) in &all {
        let is_service = |import: &&Interface| !["souk:host/", "souk:web/", "souk:extend/"].iter().any(|package| import.name.starts_with(package));
        let is_missing = |import: &&Interface| !all.iter().any(|(_, interfaces)| interfaces.exports.iter().any(|export| line(&export.name) == line(&import.name)));
        if let Some(missing) = interfaces.imports.iter().filter(is_service).find(is_missing) {
            bail!("`{name}` calls `{}`, which no plugin here provides: give the built plugin that does with --with FOLDER", missing.name);
        }
    }
    Ok(())
}

fn settings(name: &str, scenario: &Scenario) -> Result<Settings> {
    let mut settings: toml::Table = SETTINGS.parse().context("the settings of the rehearsal")?;
    if !scenario.settings.is_empty() {
        let given = toml::Value::try_from(&scenario.settings).context("settings")?;
        settings.insert("config".into(), toml::Value::Table([(name.to_owned(), given)].into_iter().collect()));
    }
    settings.try_into().context("settings")
}

/// And a master key that is the same each time, so that signatures are.
fn secrets(store: &StoreFolder, files: &Files, scenario: &Scenario) -> Result<()> {
    let asked = &files.manifest.secrets;
    if let Some(unknown) = scenario.secrets.keys().find(|name| !asked.contains(*name)) {
        bail!("secrets.{unknown}: the manifest does not list it; it lists: {}", asked.iter().cloned().collect::<Vec<_>>().join(", "));
    }
    let private = |path: &Path, bytes: &[u8]| -> Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(path))?;
        Ok(fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)?)
    };
    private(&store.secrets(), toml::to_string(&scenario.secrets)?.as_bytes())?;
    private(&store.data().join("keys/master"), b"the master key of all rehearsals")
}

/// The user's own, so that a second run compiles nothing.
fn code_cache(store: &StoreFolder) -> PathBuf {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = of("XDG_CACHE_HOME").or_else(|| Some(of("HOME")?.join(".cache")));
    cache.map_or_else(|| store.code_cache(), |cache| cache.join("souk/code"))
}

fn role(graph: &Graph, plugin: &str, scenario: &Scenario) -> Result<Role> {
    let exports = graph.exports_of(plugin);
    let all = || exports.iter().map(|(interface, functions)| format!("{interface} ({})", functions.join(", "))).collect::<Vec<_>>().join("; ");
    let Some(named) = &scenario.call else { bail!("call: say which function, there or behind the folder. `{plugin}` exports: {}", all()) };
    let fits = |exported: &String| line(exported) == line(&named.interface) || without_version(exported) == named.interface;
    let Some((interface, functions)) = exports.iter().find(|(interface, _)| fits(interface)) else {
        bail!("call.interface: `{plugin}` does not export `{}`; it exports: {}", named.interface, all());
    };
    ensure!(functions.contains(&named.function), "call.function: `{interface}` has no `{}`; it has: {}", named.function, functions.join(", "));
    Ok(Role { plugin: plugin.to_owned(), interface: interface.clone(), function: named.function.clone() })
}

fn start(runtime: &Runtime, role: &Role, scenario: &Scenario) -> Result<Start> {
    let kind = match without_version(&role.interface) {
        "souk:host/event-handler" => Kind::Event,
        "souk:host/effect-handler" => Kind::Effect,
        "souk:host/job-handler" | "souk:host/data-migrate" => Kind::Job,
        "souk:host/command-handler" => Kind::Command,
        "souk:host/self-check" => Kind::SelfCheck,
        _ => Kind::Request,
    };
    let now = match scenario.now {
        Some(now) => now,
        None => NOW.parse()?,
    };
    Ok(Start {
        kind,
        now_ms: u64::try_from(now.as_millisecond()).context("now: give a time after 1970")?,
        request_id: "rehearsal".into(),
        plugin: Some(role.plugin.as_str().into()),
        live: crate::work::Plugins::live(&*runtime.shop).borrow().clone(),
        limits: if kind == Kind::Command { &Limits::COMMAND } else { &Limits::USUAL },
        shopper: if kind == Kind::Request { Shopper::Browser(None) } else { Shopper::None },
        place: None,
        payer: None,
        origin: None,
    })
}

fn recorded((place, exchange): (usize, &Exchange)) -> Result<Recorded> {
    let body = match &exchange.body {
        None => Vec::new(),
        Some(body) => values::bytes(body).with_context(|| format!("http[{place}].body: takes {}, is {body}", values::BYTES))?,
    };
    let headers = exchange.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    Ok(Recorded::new(exchange.method.clone(), exchange.url.clone(), Response { status: exchange.status, headers, body }))
}

fn is_extension(interface: &str) -> bool {
    interface.starts_with("souk:extend/")
}

/// Whether most functions of the modules inside have names; adapters always do.
fn has_names(component: &[u8]) -> bool {
    use wasmparser::{KnownCustom, Name, Parser, Payload};
    let (mut functions, mut named) = (0_u64, 0_u64);
    for payload in Parser::new(0).parse_all(component).flatten() {
        match payload {
            Payload::CodeSectionStart { count, .. } => functions += u64::from(count),
            Payload::CustomSection(section) => {
                let KnownCustom::Name(names) = section.as_known() else { continue };
                for name in names.flatten() {
                    if let Name::Function(names) = name {
                        named += u64::from(names.count());
                    }
                }
            }
            _ => {}
        }
    }
    named * 2 >= functions
}

/// A document as it is shown: JSON if it is that.
pub fn document(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| values::bytes_to_json(bytes))
}
