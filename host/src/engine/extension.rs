//! Extension points: one call of a plugin goes out to every provider, each in
//! a store of its own under its own budget.
//!
//! The host knows the points by shape alone (see `wit/extend`): a function
//! whose first parameter is `provider` goes to that one; any other goes to all
//! and their lists are joined in order of names. Providers work in the
//! caller's unit, where they may read only.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, Linker, Val};

use super::breaker::{Breaker, Budget, Fault};
use super::graph::Spent;
use super::link::without_version;
use super::share::Resource;
use super::trial::{Answered, Asked, Mode, Trial};
use super::{Account, CallError, CallErrorKind, Graph, GuestState};
use crate::shop::manifest::FailurePolicy;
use crate::shop::policies::Policies;
use crate::shop::plugin::Plugin;
use crate::work::SharedUnit;
use crate::work::unit::{self, Visit};

/// The providers that are live, and what the operator has changed of the
/// callers' policies. Swapping one does not touch the graphs that call it.
#[derive(Default)]
pub struct Providers {
    by_interface: ArcSwap<HashMap<String, Vec<Arc<Provider>>>>,
    policies: ArcSwap<Policies>,
}

pub struct Provider {
    pub name: String,
    pub graph: Graph,
    breakers: Arc<Breakers>,
    reports: Arc<Reports>,
    last_good: LastGood,
    cut: Arc<AtomicU64>,
    trial: Option<Arc<Trial>>,
}

/// By extension point and function: a provider whose check of notifications traps can
/// still say which ways to pay there are.
type Breakers = HashMap<String, HashMap<String, Breaker>>;

/// A function for which a provider is switched off, why, and for how much longer.
#[derive(Debug, Clone, Copy)]
pub struct SwitchedOff<'a> {
    pub point: &'a str,
    pub function: &'a str,
    pub fault: Fault,
    pub left: Duration,
}

/// Of one answer of one provider. What is over is cut off; whoever joins lists of
/// several may take fewer, but of each.
const ITEMS_MAX: usize = 500;

/// Of a request's time that is a shopper's, unless the operator says otherwise: some twice what
/// the whole request takes. One that computes takes a fraction of it, and one that asks others over
/// the network needs the operator's word.
pub const LATENCY_BUDGET: Duration = Duration::from_millis(5);

impl Provider {
    pub fn new(name: String, graph: Graph) -> Self {
        let of_point = |point| graph.functions_of(&name, point).map(|function| (function.to_owned(), Breaker::default())).collect();
        let breakers: Breakers = graph.extensions_of(&name).map(|point| (point.to_owned(), of_point(point))).collect();
        Self { name, graph, breakers: Arc::new(breakers), reports: Arc::default(), last_good: LastGood::default(), cut: Arc::default(), trial: None }
    }

    /// In order of their names.
    pub fn switched_off(&self) -> Vec<SwitchedOff<'_>> {
        let now = tokio::time::Instant::now();
        let all = self.breakers.iter().flat_map(|(point, functions)| functions.iter().map(move |(function, breaker)| (point, function, breaker)));
        let mut off: Vec<_> = all
            .filter_map(|(point, function, breaker)| breaker.open_for(now).map(|(fault, left)| SwitchedOff { point, function, fault, left }))
            .collect();
        off.sort_unstable_by_key(|off| (off.point, off.function));
        off
    }

    fn breaker(&self, point: &str, function: &str) -> Option<&Breaker> {
        self.breakers.get(point)?.get(function)
    }

    /// Items of its answers that were too many.
    pub fn cut(&self) -> u64 {
        self.cut.load(Relaxed)
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
        Self {
            name: self.name.clone(),
            graph,
            breakers: self.breakers.clone(),
            reports: self.reports.clone(),
            last_good: self.last_good.clone(),
            cut: self.cut.clone(),
            trial: self.trial.clone(),
        }
    }

    /// Its answer or its refusal, marked with its name.
    pub(super) async fn ask(&self, question: Question<'_>, unit: &SharedUnit) -> Result<Result<Val, Val>, CallError> {
        self.ask_counting(question, unit, &mut Spent::default()).await
    }

    async fn ask_counting(&self, question: Question<'_>, unit: &SharedUnit, spent: &mut Spent) -> Result<Result<Val, Val>, CallError> {
        let visit = Visit::begin(unit, question.caller);
        let Question { interface, function, parameters, deadline, needed, .. } = question;
        let answer = self.graph.call_extension(&self.name, interface, function, parameters, unit.clone(), deadline, needed, spent).await;
        drop(visit);
        match answer? {
            Val::Result(Ok(Some(mut value))) => {
                if let Val::List(items) = &mut *value
                    && items.len() > ITEMS_MAX
                {
                    self.cut_off(items, interface);
                }
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

impl Provider {
    fn account(&self) -> Option<&Arc<Account>> {
        self.graph.account_of(&self.name)
    }

    fn switched_off_for(&self, fault: Fault) -> Val {
        failure(&self.name, "failed", format!("switched off for some seconds {}", fault.in_plain_words()))
    }

    fn cut_off(&self, items: &mut Vec<Val>, interface: &str) {
        let cut = items.len() - ITEMS_MAX;
        items.truncate(ITEMS_MAX);
        self.cut.fetch_add(cut as u64, Relaxed);
        if let Some(unreported) = self.reports.next(Instant::now()) {
            tracing::warn!(plugin = %self.name, point = interface, cut, unreported, "an answer of more than {ITEMS_MAX} items was cut off");
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
        self.by_interface.store(Arc::new(by_interface));
    }

    /// From the next call on.
    pub fn set_policies(&self, policies: Policies) {
        self.policies.store(Arc::new(policies));
    }

    pub fn policies(&self) -> Arc<Policies> {
        self.policies.load_full()
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
    let declared = declared.map_or(Policy::UNDECLARED, |point| Policy { fail: point.fail, deadline: Duration::from_millis(point.deadline_ms.into()), addressed: false });
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
            caller: caller.name().into(),
            declared,
            providers: providers.clone(),
        });
        instance.func_new_async(function, move |store, ty, parameters, results| {
            let point = point.clone();
            let (unit, clock) = (store.data().unit.clone(), store.data().clock.clone());
            Box::new(async move {
                let _away = clock.asks();
                results[0] = point.call(&ty, parameters, unit).await?;
                Ok(())
            })
        })?;
    }
    Ok(())
}

/// One call of a function of a point.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub interface: &'a str,
    pub function: &'a str,
    pub parameters: &'a [Val],
    pub caller: &'a Arc<str>,
    /// For each provider.
    pub deadline: Duration,
    /// Its caller cannot do without the answer.
    pub needed: bool,
}

struct Point {
    interface: Arc<str>,
    function: String,
    caller: Arc<str>,
    declared: Policy,
    providers: Arc<Providers>,
}

/// What holds for one call of a point.
#[derive(Clone, Copy)]
struct Policy {
    fail: FailurePolicy,
    deadline: Duration,
    /// One provider was asked for by its name.
    addressed: bool,
}

impl Policy {
    const UNDECLARED: Self = Self { fail: FailurePolicy::Closed, deadline: Duration::from_millis(200), addressed: false };

    fn addressed(self) -> Self {
        Self { addressed: true, ..self }
    }

    /// Whether the caller cannot do without an answer.
    fn needs_answer(&self) -> bool {
        self.addressed || self.fail == FailurePolicy::Closed
    }

    /// A provider that was asked by name and failed at once has kept nobody waiting, and no
    /// other call is better off without it. What it failed at may be a stranger's bytes
    /// (a notification of a payment): they must not switch it off for everybody else.
    fn is_borne_by_caller(&self, fault: Fault) -> bool {
        self.addressed && fault == Fault::Failed
    }

    /// What calls of this provider may take of one request's time, beside their deadline:
    /// what the operator says, or [`LATENCY_BUDGET`]. Nobody else is kept waiting by
    /// one that was asked for by name, and without one that is needed nothing goes on.
    fn budget(&self, account: &Account) -> Option<Duration> {
        if self.needs_answer() || !account.is_limited() {
            return None;
        }
        Some(account.latency().unwrap_or(LATENCY_BUDGET))
    }
}

impl Point {
    /// Errs where there was no room to ask: then there is no answer, either, and
    /// not another one because the machine is busy.
    async fn call(&self, ty: &ComponentFunc, parameters: &[Val], unit: SharedUnit) -> Result<Val, CallError> {
        let all = self.providers.by_interface.load_full();
        let providers = all.get(&*self.interface).map_or(&[][..], Vec::as_slice);
        let addressed = match (ty.params().next(), parameters.first()) {
            (Some(("provider", _)), Some(Val::String(name))) => Some(name),
            _ => None,
        };
        let policy = self.policy();
        let answer = match addressed {
            Some(name) => match providers.iter().find(|provider| provider.name == *name) {
                Some(provider) => self.ask(provider, parameters, &unit, policy.addressed(), providers.len() == 1).await?.map_err(Refusal::into_val),
                None => Err(failure(name, "not-found", format!("no plugin `{name}` provides {}", self.interface))),
            },
            None => self.ask_all(providers, parameters, &unit, policy).await?,
        };
        Ok(Val::Result(match answer {
            Ok(value) => Ok(Some(Box::new(value))),
            Err(failure) => Err(Some(Box::new(failure))),
        }))
    }

    fn policy(&self) -> Policy {
        let changed = self.providers.policies.load();
        changed.of(&self.interface).map_or(self.declared, |changed| Policy {
            fail: changed.fail.unwrap_or(self.declared.fail),
            deadline: changed.deadline().unwrap_or(self.declared.deadline),
            addressed: false,
        })
    }

    async fn ask_all(&self, providers: &[Arc<Provider>], parameters: &[Val], unit: &SharedUnit, policy: Policy) -> Result<Result<Val, Val>, CallError> {
        // Written down once for all providers, and only where it is needed.
        let question = (policy.fail == FailurePolicy::LastGood).then(|| LastGood::question(&self.interface, &self.function, parameters));
        let mut joined = Vec::new();
        for provider in providers {
            match (self.ask(provider, parameters, unit, policy, providers.len() == 1).await?, policy.fail) {
                (Ok(Val::List(items)), _) => {
                    if let Some(question) = question {
                        provider.last_good.keep(question, &items);
                    }
                    joined.extend(items);
                }
                (Ok(_), _) => return Ok(Err(failure(&provider.name, "failed", "its answer is not a list".into()))),
                (Err(refusal), FailurePolicy::Closed) => return Ok(Err(refusal.into_val())),
                // It has said no, which is as good an answer as any.
                (Err(Refusal::ByProvider(_)), FailurePolicy::Open | FailurePolicy::LastGood) => {}
                (Err(Refusal::Failed(_)), FailurePolicy::Open) => {}
                (Err(Refusal::Failed(_)), FailurePolicy::LastGood) => {
                    joined.extend(question.and_then(|question| provider.last_good.of(question)).unwrap_or_default());
                }
            }
        }
        Ok(Ok(Val::List(joined)))
    }

    /// One provider's answer. `sole`: nobody else could give it.
    async fn ask(&self, provider: &Provider, parameters: &[Val], unit: &SharedUnit, policy: Policy, sole: bool) -> Result<Result<Val, Refusal>, CallError> {
        if let Some(answer) = self.ask_canary(provider, parameters, unit, policy).await {
            return Ok(answer.map_err(Refusal::ByProvider));
        }
        // Two that ask each other would use up the places of all others.
        if *self.caller == *provider.name || unit.lock().acts_for(&provider.name) {
            let message = format!("{} would come back to it while it is answering", self.interface);
            return Ok(Err(Refusal::Failed(failure(&provider.name, "failed", message))));
        }
        let (Some(breaker), Some(account)) = (provider.breaker(&self.interface, &self.function), provider.account()) else {
            return Ok(Err(Refusal::Failed(failure(&provider.name, "not-found", format!("it does not provide {}", self.interface)))));
        };
        let leave = match breaker.enter(tokio::time::Instant::now()) {
            Ok(leave) => leave,
            Err(fault) => return Ok(Err(Refusal::Failed(provider.switched_off_for(fault)))),
        };
        if account.is_over()
            && let Err(refused) = self.over_share(provider, account, breaker, unit, policy, sole).await
        {
            return Ok(Err(Refusal::Failed(refused)));
        }
        let (begun, mut spent) = (Instant::now(), Spent::default());
        account.count_call();
        let answer = provider.ask_counting(self.question(parameters, policy), unit, &mut spent).await;
        let took = begun.elapsed();
        let budget = policy.budget(account);
        let left = |whole: Duration| Budget { whole, left: whole.saturating_sub(unit.lock().kept_waiting(&provider.name, spent.taken)) };
        let slow = budget.unwrap_or_default().max(policy.deadline / 2);
        let (fault, answer) = match answer {
            Ok(answer) => ((spent.taken > slow).then_some(Fault::Slow), answer.map_err(Refusal::ByProvider)),
            Err(error) => {
                self.report(provider, &error, took, policy.fail);
                let fault = match error.kind {
                    // A host without room says nothing about the provider.
                    CallErrorKind::Overloaded => return Err(error),
                    CallErrorKind::Share => Fault::OverShare,
                    CallErrorKind::Deadline => Fault::Slow,
                    _ => Fault::Failed,
                };
                (Some(fault), Err(Refusal::Failed(failure(&provider.name, "failed", error.message))))
            }
        };
        let counted = fault.filter(|fault| !policy.is_borne_by_caller(*fault));
        if let Some(fault) = leave.record(counted, spent.taken, budget.map(left)) {
            self.tell_switched_off(provider, fault, sole, spent.taken, budget.unwrap_or(policy.deadline));
        }
        if let Some(trial) = &provider.trial {
            let is_ok = !matches!(answer, Err(Refusal::Failed(_)));
            let took = (!provider.graph.is_baseline()).then_some(took);
            match trial.mode {
                Mode::Canary { .. } => trial.record_live(is_ok, took),
                Mode::Shadow => {
                    let answer = answer.clone().map_err(Refusal::into_val);
                    trial.shadow(self.asked(parameters, unit, policy), Answered { answer, is_ok, took });
                }
            }
        }
        Ok(answer)
    }

    /// Where the caller can do without it, it is left out while others want the
    /// processors; otherwise the call waits for its share.
    async fn over_share(&self, provider: &Provider, account: &Account, breaker: &Breaker, unit: &SharedUnit, policy: Policy, sole: bool) -> Result<(), Val> {
        let refused = if policy.needs_answer() {
            unit::stand_back(unit);
            unit::waits(unit, account.wait_for_share()).await.err()
        } else if provider.graph.0.pressure.is_high() {
            Some(account.refuse(Resource::Processor))
        } else {
            None
        };
        let Some(refused) = refused else { return Ok(()) };
        if !policy.needs_answer() {
            breaker.trip(Fault::OverShare);
        }
        if !policy.needs_answer() || provider.reports.next(Instant::now()).is_some() {
            self.tell_switched_off(provider, Fault::OverShare, sole, Duration::ZERO, policy.deadline);
        }
        Err(failure(&provider.name, "failed", refused.message))
    }

    /// Each time once, and then it is off for seconds.
    fn tell_switched_off(&self, provider: &Provider, fault: Fault, sole: bool, took: Duration, budget: Duration) {
        let remedy = match fault {
            Fault::OverBudget | Fault::Slow => "`[plugins.latency-ms]` in souk.toml says what a plugin may take of a shopper's time",
            Fault::OverShare => "`[plugins.shares]` in souk.toml says what a plugin may take of the shop",
            Fault::Failed => "`souk plugin list` says how often it failed",
        };
        let (took_ms, budget_ms) = (took.as_millis() as u64, budget.as_millis() as u64);
        let words = fault.in_plain_words();
        if sole {
            tracing::warn!(
                plugin = %provider.name, point = %self.interface, function = %self.function, caller = %self.caller, took_ms, budget_ms, remedy,
                "the only provider of this point is left out {words}: the shop goes without it"
            );
        } else {
            tracing::warn!(
                plugin = %provider.name, point = %self.interface, function = %self.function, caller = %self.caller, took_ms, budget_ms, remedy,
                "switched off {words}"
            );
        }
    }

    /// What the version on trial answers, if this unit is one of its own. Where
    /// it fails the live version is asked, and the shopper sees nothing of it.
    async fn ask_canary(&self, provider: &Provider, parameters: &[Val], unit: &SharedUnit, policy: Policy) -> Option<Result<Val, Val>> {
        let trial = provider.trial.as_ref()?;
        {
            let mut unit = unit.lock();
            if !trial.answers_for(unit.shopper_or_request()) {
                return None;
            }
            unit.tried = true;
        }
        let begun = Instant::now();
        let answer = trial.provider.ask(self.question(parameters, policy), unit).await;
        let took = begun.elapsed();
        trial.record_canary(answer.as_ref().err(), took);
        answer.inspect_err(|error| self.report(&trial.provider, error, took, policy.fail)).ok()
    }

    fn question<'a>(&'a self, parameters: &'a [Val], policy: Policy) -> Question<'a> {
        Question { interface: &self.interface, function: &self.function, parameters, caller: &self.caller, deadline: policy.deadline, needed: policy.needs_answer() }
    }

    fn asked(&self, parameters: &[Val], unit: &SharedUnit, policy: Policy) -> Asked {
        let unit = unit.lock();
        Asked {
            interface: self.interface.clone(),
            function: self.function.clone(),
            parameters: parameters.to_vec(),
            caller: self.caller.clone(),
            deadline: policy.deadline,
            now_ms: unit.now_ms,
            request_id: unit.request_id.clone(),
        }
    }

    /// Once a second for each provider: what fails on every page would fill the log.
    fn report(&self, provider: &Provider, error: &CallError, took: Duration, policy: FailurePolicy) {
        let Some(unreported) = provider.reports.next(Instant::now()) else { return };
        let missing = error.kind == CallErrorKind::NotFound;
        tracing::warn!(
            plugin = %provider.name, point = %self.interface, function = %self.function, caller = %self.caller,
            ?policy, kind = ?error.kind, took_us = took.as_micros() as u64, missing, unreported, error = %error.message,
            "extension provider failed"
        );
    }
}

/// Why there is no answer.
#[derive(Clone)]
enum Refusal {
    /// The provider says no.
    ByProvider(Val),
    /// It could not be asked, or did not answer.
    Failed(Val),
}

impl Refusal {
    fn into_val(self) -> Val {
        match self {
            Refusal::ByProvider(failure) | Refusal::Failed(failure) => failure,
        }
    }
}

/// What a provider has answered to whom, for `fail = "last-good"`: made when a
/// policy first asks for it, which most never do.
#[derive(Clone, Default)]
struct LastGood(Arc<OnceLock<moka::sync::Cache<blake3::Hash, Arc<[Val]>>>>);

impl LastGood {
    const ANSWERS_MAX: u64 = 1_000;
    /// Older than this, an answer is no better than none.
    const TTL: Duration = Duration::from_secs(3_600);

    /// The same for whoever asks the same later: `now-ms` does not count.
    fn question(interface: &str, function: &str, parameters: &[Val]) -> blake3::Hash {
        let mut parameters = parameters.to_vec();
        parameters.iter_mut().for_each(without_time);
        // Values have no other form that tells each from every other.
        blake3::hash(format!("{interface} {function} {parameters:?}").as_bytes())
    }

    fn keep(&self, question: blake3::Hash, items: &[Val]) {
        let cache = self.0.get_or_init(|| moka::sync::Cache::builder().max_capacity(Self::ANSWERS_MAX).time_to_live(Self::TTL).build());
        cache.insert(question, items.into());
    }

    fn of(&self, question: blake3::Hash) -> Option<Vec<Val>> {
        self.0.get()?.get(&question).map(|items| items.to_vec())
    }
}

fn without_time(value: &mut Val) {
    match value {
        Val::Record(fields) => {
            fields.retain(|(name, _)| name != "now-ms");
            fields.iter_mut().for_each(|(_, field)| without_time(field));
        }
        Val::List(items) => items.iter_mut().for_each(without_time),
        Val::Variant(_, Some(payload)) | Val::Option(Some(payload)) => without_time(payload),
        _ => {}
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
