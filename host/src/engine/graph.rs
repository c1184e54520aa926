//! A linked set of plugins that can be called.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, Func, HasSelf, InstancePre, Lift, Linker, Lower, TypedFunc, Val};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use super::bindings::{CalledBy, Capability};
use super::bindings::exports::souk::host::effect_handler::{Completion, Effect, Failure};
use super::bindings::exports::souk::host::event_handler::Event;
use super::bindings::exports::souk::host::job_handler::Job;
use super::bindings::exports::souk::web::handler::{Request, Response};
use super::bindings::named_imports::souk as capabilities;
use super::clock::{self, CallClock, ProcessorTime, Terms, TimeUp};
use super::code::{Compiled, Room};
use super::extension::{self, Providers};
use super::instance::{Pool, Warm};
use super::link::{self, EXTENSION_PACKAGE, LinkError, without_version};
use super::pressure::Pressure;
use super::share::Resource;
use super::state::{MemoryLimits, Meter, Payer, at_tick};
use super::worker::Guest;
use super::{Account, CallError, CallErrorKind, Code, Engine, GuestState, PluginStats};
use crate::capability::Services;
use crate::chance;
use crate::shop::manifest::{Isolation, Kind};
use crate::shop::plugin::Plugin;
use crate::work::{self, PluginAnswer, PluginCall, SharedUnit, unit};

/// For one host call to lift out of a guest; commands may hand over files.
pub(super) const HOSTCALL_FUEL: usize = 8 << 20;
/// Of a provider, whose answers are values that are joined and copied: a list of
/// ten thousand small records is refused before it is made.
pub(super) const HOSTCALL_FUEL_EXTENSION: usize = 1 << 20;
pub(super) const HOSTCALL_FUEL_COMMAND: usize = 512 << 20;
/// For what a guest does before its first call.
const INSTANTIATION_LIMIT: Duration = Duration::from_secs(5);
/// An operator's import may take its time.
pub(super) const COMMAND_DEADLINE: Duration = Duration::from_secs(600);

/// Handlers by which the host enters a plugin, in the order of [`Entry::handlers`].
const HANDLERS: [(&str, &str); 8] = [
    ("souk:web/handler", "handle"),
    ("souk:host/event-handler", "handle"),
    ("souk:host/effect-handler", "perform"),
    ("souk:host/effect-handler", "completed"),
    ("souk:host/job-handler", "run"),
    ("souk:host/command-handler", "run"),
    ("souk:host/self-check", "check"),
    ("souk:host/data-migrate", "migrate"),
];

const fn handler_of(call: &PluginCall) -> usize {
    match call {
        PluginCall::Web(_) => 0,
        PluginCall::Event(_) => 1,
        PluginCall::Perform(_) => 2,
        PluginCall::Completed(_) => 3,
        PluginCall::Job(_) => 4,
        PluginCall::Command { .. } => 5,
        PluginCall::SelfCheck => 6,
        PluginCall::Migrate { .. } => 7,
    }
}

/// Plugins linked into one component: the shop's services together, or one
/// extension provider. Dropping the last handle frees its code and instances.
#[derive(Clone)]
pub struct Graph(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) pre: InstancePre<GuestState>,
    /// Slower code that was there sooner.
    baseline: bool,
    _room: Room,
    entries: Vec<Entry>,
    /// Also the names of their core modules.
    by_name: HashMap<String, usize>,
    meter: Arc<Meter>,
    services: Arc<Services>,
    pool: Pool,
    places: Arc<Semaphore>,
    /// Below so many free places no instance is kept.
    places_reserved: usize,
    pub(super) memory_bytes_max: usize,
    table_elements_max: usize,
    metered: bool,
    processor_time: ProcessorTime,
    pub(super) pressure: Arc<Pressure>,
}

pub(super) struct Entry {
    pub(super) plugin: Arc<Plugin>,
    stats: Arc<PluginStats>,
    handlers: [Option<ComponentExportIndex>; HANDLERS.len()],
    /// Extension points it provides: interface without version → function → index.
    extensions: BTreeMap<String, HashMap<String, ComponentExportIndex>>,
    /// All exports that the host can reach: interface → name in the component.
    pub(super) exports: BTreeMap<String, String>,
    calls: Vec<String>,
    pub(super) deadline: Duration,
    output_bytes_max: usize,
    fresh: bool,
}

impl Graph {
    /// Composes, compiles, and makes a first instance in `unit`, so that what
    /// cannot run is refused here.
    pub async fn link(
        engine: &Engine,
        code: Code,
        plugins: Vec<(Arc<Plugin>, Arc<[u8]>)>,
        providers: Arc<Providers>,
        services: Arc<Services>,
        stats: impl Fn(&str) -> Arc<PluginStats>,
        unit: SharedUnit,
    ) -> Result<Graph, LinkError> {
        let unusable = |error: wasmtime::Error| LinkError::Unusable(format!("{error:#}"));
        // Composing and compiling take long enough to be kept off the runtime.
        let blocking = engine.clone();
        let guests = plugins.iter().map(guest).collect();
        let compiled = chance::aside(move || blocking.compilers.build(guests, blocking.metered, code))
            .await
            .map_err(|error| LinkError::Unusable(error.to_string()))??;

        let Compiled { component, parts, baseline, room } = compiled;
        let mut linker = Linker::new(component.engine());
        for ((plugin, _), part) in plugins.iter().zip(&parts) {
            for (label, interface) in &part.imports {
                if interface.starts_with(EXTENSION_PACKAGE) {
                    extension::add_to_linker(&mut linker, &component, label, interface, plugin, providers.clone())
                        .map_err(unusable)?;
                } else {
                    let called_by = part.callers.get(label).cloned().flatten().map(Into::into);
                    add_capability(&mut linker, label, interface, plugin, called_by)?;
                }
            }
        }
        let pre = linker.instantiate_pre(&component).map_err(|error| LinkError::UnknownCapability {
            plugin: plugins.iter().map(|(p, _)| p.name()).collect::<Vec<_>>().join(", "),
            interface: "souk:host".into(),
            reason: format!("{error:#}"),
        })?;
        let entries = plugins
            .iter()
            .zip(&parts)
            .map(|((plugin, _), part)| entry(&component, plugin, part, stats(plugin.name())))
            // What an earlier call has left in an instance would be counted.
            .map(|entry| entry.map(|entry| Entry { fresh: entry.fresh || engine.metered, ..entry }))
            .collect::<Result<Vec<_>, _>>()?;
        let provider = plugins.iter().all(|(plugin, _)| plugin.manifest.kind == Kind::Provider);
        let (places, places_max) = if provider { &engine.providers } else { &engine.services };
        let limits = || plugins.iter().map(|(plugin, _)| &plugin.manifest.limits);
        // As `link` has named their core modules.
        let by_name: HashMap<String, usize> = entries.iter().enumerate().map(|(index, e)| (e.plugin.name().to_owned(), index)).collect();
        let graph = Graph(Arc::new(Inner {
            pre,
            baseline,
            _room: room,
            meter: Arc::new(Meter { plugins: entries.iter().map(|entry| (entry.plugin.name().to_owned(), entry.stats.clone())).collect() }),
            by_name,
            entries,
            services,
            pool: Pool::default(),
            places_reserved: *places_max as usize / 4,
            places: places.clone(),
            memory_bytes_max: limits().map(|l| (l.memory_mib as usize) << 20).sum(),
            table_elements_max: limits().map(|l| l.table_elements as usize).sum(),
            metered: engine.metered,
            processor_time: engine.processor_time,
            pressure: engine.pressure.clone(),
        }));
        graph.check(unit).await?;
        Ok(graph)
    }

    /// Types of the handlers are compared once, here; calls then trust them.
    async fn check(&self, unit: SharedUnit) -> Result<(), LinkError> {
        let mut warm = self.0.instantiate(unit, Payer::default()).await.map_err(|error| match self.0.culprit(&error) {
            Some(culprit) => LinkError::DoesNotStart { plugin: culprit.plugin.name().to_owned(), reason: format!("{error:#}") },
            None => LinkError::Unusable(format!("{error:#}")),
        })?;
        for entry in &self.0.entries {
            for (index, (interface, function)) in entry.handlers.iter().zip(HANDLERS) {
                let Some(func) = index.and_then(|index| warm.instance.get_func(&mut warm.store, index)) else { continue };
                let store = &warm.store;
                match (interface, function) {
                    ("souk:web/handler", _) => func.typed::<(&Request,), (Response,)>(store).err(),
                    ("souk:host/event-handler", _) => func.typed::<(&Event,), (Result<(), String>,)>(store).err(),
                    ("souk:host/effect-handler", "perform") => func.typed::<(&Effect,), (Result<Vec<u8>, Failure>,)>(store).err(),
                    ("souk:host/effect-handler", _) => func.typed::<(&Completion,), (Result<(), String>,)>(store).err(),
                    ("souk:host/job-handler", _) => func.typed::<(&Job,), (Result<bool, String>,)>(store).err(),
                    ("souk:host/command-handler", _) => {
                        func.typed::<(&str, &[(String, String)], &[u8]), (Result<Vec<u8>, String>,)>(store).err()
                    }
                    ("souk:host/data-migrate", _) => func.typed::<(&str,), (Result<Option<String>, String>,)>(store).err(),
                    _ => func.typed::<(), (Result<(), String>,)>(store).err(),
                }
                .map_or(Ok(()), |error| {
                    Err(LinkError::BadExport {
                        plugin: entry.plugin.name().to_owned(),
                        interface: interface.to_owned(),
                        reason: format!("{function}: {error:#}"),
                    })
                })?;
            }
        }
        self.0.keep(warm);
        Ok(())
    }

    /// Runs one handler to its end. Dropping the future drops the instance.
    pub async fn call(&self, plugin: &str, call: &PluginCall, unit: SharedUnit) -> Result<PluginAnswer, CallError> {
        let handler = handler_of(call);
        let entry = self.0.entry(plugin)?;
        let export = entry.handlers[handler].ok_or_else(|| CallError {
            plugin: Some(plugin.to_owned()),
            kind: CallErrorKind::NotFound,
            message: format!("it does not export `{}`", HANDLERS[handler].0),
        })?;
        let command = matches!(call, PluginCall::Command { .. });
        let deadline = if command { COMMAND_DEADLINE } else { entry.deadline };
        let fuel = if command { HOSTCALL_FUEL_COMMAND } else { HOSTCALL_FUEL };
        let payer = self.0.payer(entry, call, &unit).await?;
        self.0
            .run(entry, unit, deadline, fuel, payer, &mut Spent::default(), async |warm| {
                let func = warm.instance.get_func(&mut warm.store, export).ok_or_else(|| wasmtime::format_err!("the export is gone"))?;
                let store = &mut warm.store;
                Ok(match call {
                    PluginCall::Web(request) => {
                        let response: Response = call_checked(func, store, (request,)).await?;
                        let (bytes, bytes_max) = (response.body.len(), entry.output_bytes_max);
                        if bytes > bytes_max {
                            return Err(wasmtime::format_err!("an answer of {bytes} bytes; limits.output-bytes is {bytes_max}"));
                        }
                        PluginAnswer::Web(response)
                    }
                    PluginCall::Event(event) => PluginAnswer::Event(call_checked(func, store, (event,)).await?),
                    PluginCall::Perform(effect) => PluginAnswer::Perform(call_checked(func, store, (effect,)).await?),
                    PluginCall::Completed(completion) => PluginAnswer::Completed(call_checked(func, store, (completion,)).await?),
                    PluginCall::Job(job) => PluginAnswer::Job(call_checked(func, store, (job,)).await?),
                    PluginCall::Command { name, arguments, input } => {
                        PluginAnswer::Command(call_checked(func, store, (name.as_str(), arguments.as_slice(), input.as_slice())).await?)
                    }
                    PluginCall::Migrate { cursor } => PluginAnswer::Migrated(call_checked(func, store, (cursor.as_str(),)).await?),
                    PluginCall::SelfCheck => PluginAnswer::SelfCheck(call_checked(func, store, ()).await?),
                })
            })
            .await
            .map(PluginAnswer::bounded)
    }

    /// Calls a function of an extension point that `plugin` provides, at the cost
    /// of that plugin. One that is needed is not ended because that has used its share.
    #[expect(clippy::too_many_arguments, reason = "one caller, which has them all")]
    pub(super) async fn call_extension(
        &self,
        plugin: &str,
        interface: &str,
        function: &str,
        parameters: &[Val],
        unit: SharedUnit,
        deadline: Duration,
        needed: bool,
        spent: &mut Spent,
    ) -> Result<Val, CallError> {
        let entry = self.0.entry(plugin)?;
        let export = entry.extensions.get(without_version(interface)).and_then(|functions| functions.get(function)).ok_or_else(|| CallError {
            plugin: Some(plugin.to_owned()),
            kind: CallErrorKind::NotFound,
            message: format!("it does not export `{interface}`, `{function}`"),
        })?;
        let payer = if self.0.metered { Payer::default() } else { Payer::asked(entry.stats.account.clone(), (!needed).then(|| self.0.pressure.clone())) };
        self.0
            .run(entry, unit, deadline.min(entry.deadline), HOSTCALL_FUEL_EXTENSION, payer, spent, async |warm| {
                let func = warm.instance.get_func(&mut warm.store, export).ok_or_else(|| wasmtime::format_err!("the export is gone"))?;
                let mut results = [Val::Bool(false)];
                let fuel = if self.0.metered { warm.store.get_fuel()? } else { 0 };
                let called = func.call_async(&mut warm.store, parameters, &mut results).await;
                if self.0.metered {
                    tell_executed(plugin, warm, fuel, &called);
                }
                called?;
                let [result] = results;
                Ok(result)
            })
            .await
    }

    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.0.entries.iter().map(|entry| &entry.plugin)
    }

    /// Plugins whose services this one calls.
    pub fn services_of(&self, plugin: &str) -> &[String] {
        self.0.by_name.get(plugin).map_or(&[], |index| &self.0.entries[*index].calls)
    }

    /// Extension points that this plugin provides, without version.
    pub fn extensions_of(&self, plugin: &str) -> impl Iterator<Item = &str> {
        self.0.by_name.get(plugin).into_iter().flat_map(|index| self.0.entries[*index].extensions.keys().map(String::as_str))
    }

    /// Functions of an extension point that this plugin provides.
    pub(super) fn functions_of(&self, plugin: &str, point: &str) -> impl Iterator<Item = &str> {
        let functions = self.0.by_name.get(plugin).and_then(|index| self.0.entries[*index].extensions.get(point));
        functions.into_iter().flat_map(|functions| functions.keys().map(String::as_str))
    }

    /// Of the plugin, if it is in this graph.
    pub(super) fn account_of(&self, plugin: &str) -> Option<&Arc<Account>> {
        Some(&self.0.entries[*self.0.by_name.get(plugin)?].stats.account)
    }

    pub fn exports_self_check(&self, plugin: &str) -> bool {
        self.0.by_name.get(plugin).is_some_and(|index| self.0.entries[*index].handlers[6].is_some())
    }

    /// Whether optimised code is still to be made of it.
    pub fn is_baseline(&self) -> bool {
        self.0.baseline
    }

    pub fn is(&self, other: &Graph) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Frees instances that have been idle for long.
    pub fn reap(&self) {
        self.0.pool.reap();
    }

    pub fn warm_instances(&self) -> usize {
        self.0.pool.len()
    }

    #[cfg(test)]
    pub(super) fn downgrade(&self) -> std::sync::Weak<impl Sized + use<>> {
        Arc::downgrade(&self.0)
    }
}

impl Inner {
    pub(super) fn entry(&self, plugin: &str) -> Result<&Entry, CallError> {
        self.by_name.get(plugin).map(|index| &self.entries[*index]).ok_or_else(|| CallError {
            plugin: Some(plugin.to_owned()),
            kind: CallErrorKind::NotFound,
            message: "it is not in this graph".into(),
        })
    }

    /// Who pays for a call that the host begins: the plugin that has sent the request
    /// to its own shop, or the one that is called. What nobody waits for does not
    /// begin before that one is out of debt.
    async fn payer(&self, entry: &Entry, call: &PluginCall, unit: &SharedUnit) -> Result<Payer, CallError> {
        if self.metered || matches!(call, PluginCall::Command { .. }) {
            return Ok(Payer::default());
        }
        let (tried, paying) = {
            let unit = unit.lock();
            (unit.tried, unit.payer.clone())
        };
        // On trial: it is to end at its own limits, and soon (see `Shop::trial_stats`).
        if tried {
            return Ok(Payer::default());
        }
        if let Some(account) = paying {
            return Ok(Payer::waiting(Some(account)));
        }
        let account = &entry.stats.account;
        if !account.is_limited() {
            return Ok(Payer::default());
        }
        match call {
            PluginCall::Web(_) | PluginCall::SelfCheck => {}
            _ => account.begin_background().await?,
        }
        unit.lock().payer = Some(account.clone());
        Ok(Payer::waiting(Some(account.clone())))
    }

    async fn instantiate(&self, unit: SharedUnit, payer: Payer) -> wasmtime::Result<Warm> {
        let permit = self.places.clone().acquire_owned().await?;
        let limits = MemoryLimits {
            memory_bytes_max: self.memory_bytes_max,
            table_elements_max: self.table_elements_max,
            memory_bytes: 0,
            table_elements: 0,
            denied: false,
        };
        let clock = Arc::new(CallClock::new(self.processor_time, INSTANTIATION_LIMIT));
        let state = GuestState { unit, services: self.services.clone(), limits, clock, meter: self.meter.clone(), payer };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.limits);
        store.epoch_deadline_callback(at_tick);
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        if self.metered {
            store.set_fuel(u64::MAX)?;
        }
        let clock = store.data().clock.clone();
        let terms = Terms { measured: store.data().payer.is_held_to_a_share(), ..Terms::usual(INSTANTIATION_LIMIT) };
        let instance = clock.watch(terms, self.pre.instantiate_async(&mut store)).await.map_err(|_| Trap::Interrupt)??;
        store.data_mut().payer.pay(clock.rest());
        Ok(Warm::new(store, instance, permit, clock.taken()))
    }

    /// With few places left, an instance that waits for work would keep another
    /// graph from doing any.
    fn keep(&self, warm: Warm) {
        if self.places.available_permits() >= self.places_reserved {
            self.pool.put(warm);
        }
    }

    /// A warm instance if there is one. None where no place came free in time.
    pub(super) async fn instance(&self, entry: &Entry, unit: SharedUnit, payer: Payer, limit: Duration) -> Option<wasmtime::Result<Warm>> {
        if !entry.fresh
            && let Some(mut warm) = self.pool.take()
        {
            let state = warm.store.data_mut();
            (state.unit, state.payer) = (unit, payer);
            return Some(Ok(warm));
        }
        tokio::time::timeout(clock::wall(limit), self.instantiate(unit, payer)).await.ok()
    }

    /// One call under its clock. What it took and how it failed is recorded.
    #[expect(clippy::too_many_arguments, reason = "three callers; a struct would only rename them")]
    pub(super) async fn run<T>(
        &self,
        entry: &Entry,
        unit: SharedUnit,
        limit: Duration,
        fuel: usize,
        payer: Payer,
        spent: &mut Spent,
        work: impl AsyncFnOnce(&mut Warm) -> wasmtime::Result<T>,
    ) -> Result<T, CallError> {
        let begun = Instant::now();
        let paying = payer.account.clone();
        let answer = match self.instance(entry, unit, payer, limit).await {
            Some(Ok(warm)) => self.run_in(warm, entry, limit, fuel, spent, work).await,
            Some(Err(error)) => Err((failure_kind(&error, false), format!("{error:#}"), self.culprit(&error))),
            None => Err((CallErrorKind::Overloaded, format!("no instance came free within {:?}", clock::wall(limit)), None)),
        };
        entry.stats.record(begun.elapsed(), spent.memory_bytes);
        answer.map_err(|(kind, message, culprit)| {
            let culprit = culprit.unwrap_or(entry);
            // A host without room says nothing about a plugin.
            if kind == CallErrorKind::Share {
                return paying.as_ref().unwrap_or(&entry.stats.account).refuse(Resource::Processor);
            }
            if kind != CallErrorKind::Overloaded {
                culprit.stats.record_failure(kind);
            }
            CallError { plugin: Some(culprit.plugin.name().to_owned()), kind, message }
        })
    }

    /// The instance is kept only if the call ended well.
    async fn run_in<T>(
        &self,
        mut warm: Warm,
        entry: &Entry,
        limit: Duration,
        fuel: usize,
        spent: &mut Spent,
        work: impl AsyncFnOnce(&mut Warm) -> wasmtime::Result<T>,
    ) -> Result<T, (CallErrorKind, String, Option<&Entry>)> {
        let clock = warm.store.data().clock.clone();
        warm.store.set_epoch_deadline(1);
        warm.store.set_hostcall_fuel(fuel);
        warm.store.data_mut().limits.denied = false;
        // An instance that was made for the call is part of it.
        let made = std::mem::take(&mut warm.made);
        let GuestState { payer, unit, .. } = warm.store.data();
        let measured = payer.is_held_to_a_share();
        let unit = unit.clone();
        let is_request = unit.lock().kind == work::unit::Kind::Request;
        let terms = Terms {
            limit,
            measured,
            held_back_max: clock::held_back_max(limit, !is_request),
            processors: payer.account.as_ref().filter(|_| payer.waits()).and_then(|account| account.processors()),
            stands_back: || unit::stand_back(&unit),
        };
        let answer = clock.watch(terms, work(&mut warm)).await;
        let rest = clock.rest();
        warm.store.data_mut().payer.pay(rest);
        if measured {
            entry.stats.record_cpu(rest);
        }
        let MemoryLimits { memory_bytes, denied, .. } = warm.store.data().limits;
        *spent = Spent { memory_bytes, taken: made + clock.taken() };
        if matches!(answer, Ok(Ok(_))) && !entry.fresh {
            warm.store.data_mut().payer = Payer::default();
            self.keep(warm);
        } else {
            self.discard(warm);
        }
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => match failure_kind(&error, denied) {
                CallErrorKind::Deadline if clock.time_up() == Some(TimeUp::Share) => Err((CallErrorKind::Share, String::new(), None)),
                CallErrorKind::Deadline if clock.time_up() != Some(TimeUp::Limit) => Err(starved(limit)),
                kind => Err((kind, format!("{error:#}"), self.culprit(&error))),
            },
            Err(TimeUp::Limit) => Err((CallErrorKind::Deadline, format!("no answer within {} ms", limit.as_millis()), None)),
            Err(TimeUp::Share) => Err((CallErrorKind::Share, String::new(), None)),
            Err(TimeUp::Wall) => Err(starved(limit)),
        }
    }

    /// To clear what a guest has used is work as well, and its own.
    fn discard(&self, warm: Warm) {
        let payer = &warm.store.data().payer;
        let account = payer.account.clone().filter(|_| payer.is_held_to_a_share());
        let begun = account.as_ref().map(|_| (self.processor_time)());
        drop(warm);
        if let (Some(account), Some(begun)) = (account, begun) {
            account.charge((self.processor_time)().saturating_sub(begun));
        }
    }

    /// The plugin whose code was running when the guest failed: not always the
    /// one that was called.
    fn culprit(&self, error: &wasmtime::Error) -> Option<&Entry> {
        let frames = error.downcast_ref::<WasmBacktrace>()?.frames();
        let index = frames.iter().find_map(|frame| self.by_name.get(frame.module().name()?))?;
        Some(&self.entries[*index])
    }
}

fn guest((plugin, component): &(Arc<Plugin>, Arc<[u8]>)) -> Guest {
    let points = plugin.manifest.extension_points.iter().map(|point| without_version(&point.interface).to_owned());
    Guest { name: plugin.name().to_owned(), points: points.collect(), component: component.clone() }
}

/// What one call came to.
#[derive(Default)]
pub(super) struct Spent {
    memory_bytes: usize,
    /// Processor time, and waiting that is its own.
    pub taken: Duration,
}

/// Calls a function whose type [`Graph::check`] has compared.
async fn call_checked<Params, Answer>(func: Func, store: &mut Store<GuestState>, parameters: Params) -> wasmtime::Result<Answer>
where
    Params: ComponentNamedList + Lower + Send + Sync,
    Answer: Send + Sync + 'static,
    (Answer,): ComponentNamedList + Lift + Send + Sync,
{
    // SAFETY: `Graph::check` has compared this export of this component with
    // these parameter and answer types when the graph was linked.
    let func = unsafe { TypedFunc::<Params, (Answer,)>::new_unchecked(func) };
    func.call_async(store, parameters).await.map(|(answer,)| answer)
}

fn starved<'a>(limit: Duration) -> (CallErrorKind, String, Option<&'a Entry>) {
    let message = format!("no answer within {:?}, in which it could not have its {} ms", clock::wall(limit), limit.as_millis());
    (CallErrorKind::Overloaded, message, None)
}

/// To the rehearsed unit that has asked.
fn tell_executed(provider: &str, warm: &Warm, fuel: u64, called: &wasmtime::Result<()>) {
    let stopped = matches!(called, Err(error) if matches!(error.downcast_ref(), Some(Trap::Interrupt)));
    let left = warm.store.get_fuel().ok().filter(|_| !stopped);
    if let Some(rehearsal) = &mut warm.store.data().unit.lock().rehearsal {
        rehearsal.executed(provider, left.map(|left| fuel - left));
    }
}

fn failure_kind(error: &wasmtime::Error, memory_denied: bool) -> CallErrorKind {
    // Of a provider, without which it was not to go on.
    if let Some(error) = error.downcast_ref::<CallError>() {
        return error.kind;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => CallErrorKind::Deadline,
        // What a guest does when it is denied memory is its own affair.
        _ if memory_denied => CallErrorKind::Memory,
        Some(_) => CallErrorKind::Trap,
        None if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() => CallErrorKind::Overloaded,
        // It gave a host call what makes no sense.
        None if error.downcast_ref::<WasmBacktrace>().is_some() => CallErrorKind::Trap,
        // The guest had returned: its answer cannot be read, or is too large.
        None => CallErrorKind::Output,
    }
}

fn entry(component: &Component, plugin: &Arc<Plugin>, part: &link::Part, stats: Arc<PluginStats>) -> Result<Entry, LinkError> {
    let find = |interface: &str, function: &str| {
        let label = part.exports.iter().find(|(exported, _)| without_version(exported) == interface)?.1;
        let instance = component.get_export_index(None, label)?;
        component.get_export_index(Some(&instance), function)
    };
    let handlers = HANDLERS.map(|(interface, function)| find(interface, function));
    let manifest = &plugin.manifest;
    for (declared, handler, declares) in [
        (!manifest.routes.is_empty(), 0, "declares [[routes]]"),
        (!manifest.events.is_empty(), 1, "declares [[events]]"),
        (!manifest.jobs.is_empty(), 4, "declares [[jobs]]"),
        (!manifest.commands.is_empty(), 5, "declares [[commands]]"),
        (manifest.data.form > 1, 7, "declares [data] with a form"),
    ] {
        if declared && handlers[handler].is_none() {
            return Err(LinkError::MissingExport {
                plugin: plugin.name().to_owned(),
                declares: declares.to_owned(),
                interface: HANDLERS[handler].0.to_owned(),
            });
        }
    }
    let mut extensions = BTreeMap::new();
    for (interface, label) in part.exports.iter().filter(|(interface, _)| interface.starts_with(EXTENSION_PACKAGE)) {
        let Some(instance) = component.get_export_index(None, label) else { continue };
        let mut functions = HashMap::new();
        if let Some(wasmtime::component::types::ComponentItem::ComponentInstance(ty)) =
            component.component_type().get_export(component.engine(), label).map(|item| item.ty)
        {
            for (name, item) in ty.exports(component.engine()) {
                if matches!(item.ty, wasmtime::component::types::ComponentItem::ComponentFunc(_)) {
                    functions.extend(component.get_export_index(Some(&instance), name).map(|index| (name.to_owned(), index)));
                }
            }
        }
        extensions.insert(without_version(interface).to_owned(), functions);
    }
    Ok(Entry {
        plugin: plugin.clone(),
        stats,
        handlers,
        extensions,
        exports: part.exports.clone(),
        calls: part.services.clone(),
        deadline: Duration::from_millis(manifest.limits.deadline_ms.into()),
        output_bytes_max: manifest.limits.output_bytes as usize,
        fresh: manifest.isolation == Isolation::Request,
    })
}

/// Gives a plugin its own import of a capability, bound to its identity.
fn add_capability(
    linker: &mut Linker<GuestState>,
    label: &str,
    interface: &str,
    plugin: &Arc<Plugin>,
    called_by: CalledBy,
) -> Result<(), LinkError> {
    let unknown = |reason: String| LinkError::UnknownCapability {
        plugin: plugin.name().to_owned(),
        interface: interface.to_owned(),
        reason,
    };
    let mut instance = linker.instance(label).map_err(|error| unknown(format!("{error:#}")))?;
    macro_rules! capability {
        ($($module:ident)::+) => {
            capabilities::$($module)::+::add_to_linker_instance::<_, HasSelf<GuestState>>(&mut instance, plugin.clone(), |state| state)
        };
    }
    let Some(known) = Capability::of(without_version(interface)) else {
        return Err(unknown("there is no such capability; see wit/host".into()));
    };
    match known {
        Capability::Storage => capability!(host::storage),
        Capability::Data => capability!(host::data),
        Capability::Cache => capability!(host::cache),
        Capability::Search => capability!(host::search),
        Capability::Session => capability!(host::session),
        Capability::Pages => capability!(host::pages),
        Capability::Config => capability!(host::config),
        Capability::Events => capability!(host::events),
        Capability::Effects => capability!(host::effects),
        Capability::Jobs => capability!(host::jobs),
        Capability::HttpClient => capability!(host::http_client),
        Capability::Secrets => capability!(host::secrets),
        Capability::Crypto => capability!(host::crypto),
        Capability::Random => capability!(host::random),
        Capability::Clock => capability!(host::clock),
        Capability::Log => capability!(host::log),
        Capability::Metrics => capability!(host::metrics),
        Capability::Caller => {
            capabilities::host::caller::add_to_linker_instance::<_, HasSelf<GuestState>>(&mut instance, called_by, |state| state)
        }
        Capability::Assets => capability!(web::assets),
    }
    .map_err(|error| unknown(format!("{error:#}")))
}
