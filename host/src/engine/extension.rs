//! Extension points: one call of a plugin goes out to every provider, each in
//! a store of its own under its own budget.
//!
//! The host knows the points by shape alone (see `wit/extend`): a function
//! whose first parameter is `provider` goes to that one; any other goes to all
//! and their lists are joined in order of names. Providers work in the
//! caller's unit, where they may read only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, Linker, Val};

use super::link::without_version;
use super::trial::{Asked, Mode, Trial};
use super::{CallError, CallErrorKind, Graph, GuestState};
use crate::shop::manifest::FailurePolicy;
use crate::shop::plugin::Plugin;
use crate::work::SharedUnit;
use crate::work::unit::Visit;

/// The providers that are live. Swapping one does not touch the graphs that
/// call it.
#[derive(Default)]
pub struct Providers(ArcSwap<HashMap<String, Vec<Arc<Provider>>>>);

pub struct Provider {
    pub name: String,
    pub graph: Graph,
    breaker: Arc<Breaker>,
    reports: Arc<Reports>,
    trial: Option<Arc<Trial>>,
}

impl Provider {
    pub fn new(name: String, graph: Graph) -> Self {
        Self { name, graph, breaker: Arc::default(), reports: Arc::default(), trial: None }
    }

    /// The same, with another version beside it, or with none any more.
    pub fn with_trial(&self, trial: Option<Arc<Trial>>) -> Self {
        Self { trial, ..self.with_graph(self.graph.clone()) }
    }

    pub fn trial(&self) -> Option<&Arc<Trial>> {
        self.trial.as_ref()
    }

    /// The same version with other code: what it has failed at still counts.
    pub fn with_graph(&self, graph: Graph) -> Self {
        Self { name: self.name.clone(), graph, breaker: self.breaker.clone(), reports: self.reports.clone(), trial: self.trial.clone() }
    }

    /// Its answer or its refusal, marked with its name.
    pub(super) async fn ask(&self, interface: &str, function: &str, parameters: &[Val], unit: &SharedUnit, deadline: Duration) -> Result<Result<Val, Val>, CallError> {
        let visit = Visit::begin(unit);
        let answer = self.graph.call_extension(&self.name, interface, function, parameters, unit.clone(), deadline).await;
        drop(visit);
        match answer? {
            Val::Result(Ok(Some(mut value))) => {
                sign(&mut value, &self.name);
                Ok(Ok(*value))
            }
            Val::Result(Err(Some(mut refused))) => {
                sign(&mut refused, &self.name);
                if let Val::Record(fields) = &mut *refused
                    && let Some((_, kind)) = fields.iter_mut().find(|(name, _)| name == "kind")
                {
                    *kind = Val::Enum("refused".into());
                }
                Ok(Err(*refused))
            }
            _ => {
                let message = "its answer has not the shape of an extension point".into();
                Err(CallError { plugin: Some(self.name.clone()), kind: CallErrorKind::Output, message })
            }
        }
    }
}

impl Providers {
    /// Replaces them all; each is found under every point it provides.
    pub fn set(&self, providers: &[Arc<Provider>]) {
        let mut by_interface: HashMap<String, Vec<Arc<Provider>>> = HashMap::new();
        for provider in providers {
            for interface in provider.graph.extensions_of(&provider.name) {
                by_interface.entry(interface.to_owned()).or_default().push(provider.clone());
            }
        }
        for list in by_interface.values_mut() {
            list.sort_by(|a, b| a.name.cmp(&b.name));
        }
        self.0.store(Arc::new(by_interface));
    }
}

/// Defines a plugin's import of an extension point.
pub(super) fn add_to_linker(
    linker: &mut Linker<GuestState>,
    component: &Component,
    label: &str,
    interface: &str,
    caller: &Arc<Plugin>,
    providers: Arc<Providers>,
) -> wasmtime::Result<()> {
    let interface: Arc<str> = without_version(interface).into();
    let declared = caller.manifest.extension_points.iter().find(|point| without_version(&point.interface) == &*interface);
    let (policy, deadline) = declared.map_or((FailurePolicy::Closed, Duration::from_millis(200)), |point| {
        (point.fail, Duration::from_millis(point.deadline_ms.into()))
    });
    let engine = component.engine();
    let Some(ComponentItem::ComponentInstance(ty)) = component.component_type().get_import(engine, label).map(|item| item.ty) else {
        return Ok(());
    };
    let mut instance = linker.instance(label)?;
    for (function, item) in ty.exports(engine) {
        let ComponentItem::ComponentFunc(_) = item.ty else { continue };
        let point = Arc::new(Point {
            interface: interface.clone(),
            function: function.to_owned(),
            caller: caller.name().to_owned(),
            policy,
            deadline,
            providers: providers.clone(),
        });
        instance.func_new_async(function, move |store, ty, parameters, results| {
            let point = point.clone();
            let unit = store.data().unit.clone();
            Box::new(async move {
                results[0] = point.call(&ty, parameters, unit).await;
                Ok(())
            })
        })?;
    }
    Ok(())
}

struct Point {
    interface: Arc<str>,
    function: String,
    caller: String,
    policy: FailurePolicy,
    deadline: Duration,
    providers: Arc<Providers>,
}

impl Point {
    async fn call(&self, ty: &ComponentFunc, parameters: &[Val], unit: SharedUnit) -> Val {
        let all = self.providers.0.load_full();
        let providers = all.get(&*self.interface).map_or(&[][..], Vec::as_slice);
        let addressed = match (ty.params().next(), parameters.first()) {
            (Some(("provider", _)), Some(Val::String(name))) => Some(name),
            _ => None,
        };
        let answer = match addressed {
            Some(name) => match providers.iter().find(|provider| provider.name == *name) {
                Some(provider) => self.ask(provider, parameters, &unit).await,
                None => Err(failure(name, "not-found", format!("no plugin `{name}` provides {}", self.interface))),
            },
            None => self.ask_all(providers, parameters, &unit).await,
        };
        Val::Result(match answer {
            Ok(value) => Ok(Some(Box::new(value))),
            Err(failure) => Err(Some(Box::new(failure))),
        })
    }

    async fn ask_all(&self, providers: &[Arc<Provider>], parameters: &[Val], unit: &SharedUnit) -> Result<Val, Val> {
        let mut joined = Vec::new();
        for provider in providers {
            match (self.ask(provider, parameters, unit).await, self.policy) {
                (Ok(Val::List(items)), _) => joined.extend(items),
                (Ok(_), _) => return Err(failure(&provider.name, "failed", "its answer is not a list".into())),
                (Err(_), FailurePolicy::Open) => {}
                (Err(failure), FailurePolicy::Closed) => return Err(failure),
            }
        }
        Ok(Val::List(joined))
    }

    /// One provider's answer, or the failure to hand on.
    async fn ask(&self, provider: &Provider, parameters: &[Val], unit: &SharedUnit) -> Result<Val, Val> {
        if let Some(answer) = self.ask_canary(provider, parameters, unit).await {
            return answer;
        }
        if provider.breaker.is_open() {
            return Err(failure(&provider.name, "failed", "switched off for some seconds after repeated failures".into()));
        }
        let begun = Instant::now();
        let answer = provider.ask(&self.interface, &self.function, parameters, unit, self.deadline).await;
        let took = begun.elapsed();
        // A host without room says nothing about the provider.
        if !matches!(&answer, Err(error) if error.kind == CallErrorKind::Overloaded) {
            provider.breaker.record(answer.is_ok());
        }
        let answer = answer.unwrap_or_else(|error| {
            self.report(provider, &error, took);
            Err(failure(&provider.name, "failed", error.message))
        });
        if let Some(trial) = provider.trial.as_ref().filter(|trial| trial.mode == Mode::Shadow) {
            trial.shadow(self.asked(parameters, unit), answer.clone(), took);
        }
        answer
    }

    /// What the version on trial answers, if this unit is one of its own. Where
    /// it fails the live version is asked, and the shopper sees nothing of it.
    async fn ask_canary(&self, provider: &Provider, parameters: &[Val], unit: &SharedUnit) -> Option<Result<Val, Val>> {
        let trial = provider.trial.as_ref().filter(|trial| trial.answers_for(unit.lock().shopper_or_request()))?;
        let begun = Instant::now();
        let answer = trial.provider.ask(&self.interface, &self.function, parameters, unit, self.deadline).await;
        trial.record(answer.is_ok());
        answer.inspect_err(|error| self.report(&trial.provider, error, begun.elapsed())).ok()
    }

    fn asked(&self, parameters: &[Val], unit: &SharedUnit) -> Asked {
        let unit = unit.lock();
        Asked {
            interface: self.interface.clone(),
            function: self.function.clone(),
            parameters: parameters.to_vec(),
            deadline: self.deadline,
            now_ms: unit.now_ms,
            request_id: unit.request_id.clone(),
        }
    }

    /// Once a second for each provider: what fails on every page would fill the log.
    fn report(&self, provider: &Provider, error: &CallError, took: Duration) {
        let Some(unreported) = provider.reports.next(Instant::now()) else { return };
        let missing = error.kind == CallErrorKind::NotFound;
        tracing::warn!(
            plugin = %provider.name, point = %self.interface, function = %self.function, caller = %self.caller,
            policy = ?self.policy, kind = ?error.kind, took_us = took.as_micros() as u64, missing, unreported, error = %error.message,
            "extension provider failed"
        );
    }
}

/// Writes the provider's name wherever an answer has a field for it.
fn sign(value: &mut Val, provider: &str) {
    match value {
        Val::Record(fields) => {
            for (name, field) in fields {
                if let (true, Val::String(text)) = (name == "provider", field) {
                    *text = provider.to_owned();
                }
            }
        }
        Val::List(items) => items.iter_mut().for_each(|item| sign(item, provider)),
        Val::Variant(_, Some(payload)) | Val::Option(Some(payload)) => sign(payload, provider),
        _ => {}
    }
}

/// `souk:extend/types.failure`.
fn failure(provider: &str, kind: &str, message: String) -> Val {
    Val::Record(vec![
        ("provider".into(), Val::String(provider.to_owned())),
        ("kind".into(), Val::Enum(kind.to_owned())),
        ("message".into(), Val::String(message)),
    ])
}

/// When a provider's failure was last reported, and how many were not since.
#[derive(Default)]
struct Reports(Mutex<(Option<Instant>, u64)>);

impl Reports {
    const INTERVAL: Duration = Duration::from_secs(1);

    /// The number that went unreported, if one may be reported now.
    fn next(&self, now: Instant) -> Option<u64> {
        let mut reports = self.0.lock();
        if reports.0.is_some_and(|last| now - last < Self::INTERVAL) {
            reports.1 += 1;
            return None;
        }
        reports.0 = Some(now);
        Some(std::mem::take(&mut reports.1))
    }
}

/// Switches a provider off for a while when most of its recent calls failed, so
/// that a shop does not wait for it again and again.
#[derive(Default)]
struct Breaker(Mutex<BreakerState>);

#[derive(Default)]
struct BreakerState {
    /// The newest call is the lowest bit; a set bit is a failure.
    recent: u32,
    count: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    const WINDOW: u32 = 20;
    const CALLS_MIN: u32 = 5;
    const OPEN: Duration = Duration::from_secs(10);

    fn is_open(&self) -> bool {
        let mut state = self.0.lock();
        match state.open_until {
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                *state = BreakerState::default();
                false
            }
            None => false,
        }
    }

    fn record(&self, ok: bool) {
        let mut state = self.0.lock();
        state.recent = (state.recent << 1 | u32::from(!ok)) & ((1 << Self::WINDOW) - 1);
        state.count = (state.count + 1).min(Self::WINDOW);
        if !ok && state.count >= Self::CALLS_MIN && state.recent.count_ones() * 2 > state.count {
            state.open_until = Some(Instant::now() + Self::OPEN);
        }
    }
}
