//! What came of a call: what it answered, what a shop would have kept of it,
//! and what it took beside what it may take. Serialised as it is by `--json`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use wasmtime::component::Val;
use wasmtime::component::types::ComponentFunc;

use super::expect;
use super::scenario::Expect;
use super::stage::document;
use crate::engine::{CallErrorKind, Rehearsed, Role, values, without_version};
use crate::shop::plugin::Plugin;
use crate::work::rehearsal::{Collections, Executed, Fetch, LogLine, Staged};

/// What the unit tells after the call.
pub struct Told {
    pub staged: Staged,
    pub operations: u32,
    pub log: Vec<LogLine>,
    pub fetches: Vec<Fetch>,
    pub providers: BTreeMap<String, Executed>,
}

pub struct Limits {
    pub memory_bytes: u64,
    pub output_bytes: u64,
    pub storage_operations: u64,
    pub time: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub plugin: String,
    pub version: String,
    pub interface: String,
    pub function: String,
    pub answer: Value,
    pub failure: Option<Failure>,
    /// Whether a shop would keep what was written.
    pub committed: bool,
    /// What a shop would keep, as the other parts but `log` and `http`.
    pub writes: Value,
    pub events: Value,
    pub effects: Value,
    pub jobs: Value,
    pub invalidated: Vec<String>,
    pub log: Value,
    pub http: Value,
    pub spent: Spent,
    /// What those who were asked have executed besides.
    pub providers: Vec<Provider>,
    /// Functions that executed most themselves, in percent, …
    pub hottest: Vec<Hot>,
    /// … of so many instructions: the first ones, where a call finds no end.
    pub sampled: Option<u64>,
    pub hint: Option<String>,
    /// Where it is not as expected.
    pub differences: Vec<String>,
    #[serde(skip)]
    is_expected_to_fail: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// `trap`, `deadline`, `memory`, `output`, …
    pub kind: String,
    pub plugin: Option<String>,
    pub message: String,
    /// Where it trapped, the innermost function first.
    pub stack: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spent {
    pub instructions: Figure,
    pub memory_bytes: Figure,
    pub output_bytes: Figure,
    pub storage_operations: Figure,
    pub time_us: Figure,
}

#[derive(Serialize)]
pub struct Figure {
    /// None where it cannot be told.
    pub used: Option<u64>,
    pub limit: Option<u64>,
    pub over: bool,
}

#[derive(Serialize)]
pub struct Provider {
    pub plugin: String,
    pub calls: u32,
    /// None where it cannot be told.
    pub instructions: Option<u64>,
}

#[derive(Serialize)]
pub struct Hot {
    pub function: String,
    pub percent: f64,
}

impl Figure {
    fn new(used: u64, limit: u64) -> Self {
        Self { used: Some(used), limit: Some(limit), over: used > limit }
    }

    fn or_over(self, over: bool) -> Self {
        Self { over: self.over || over, ..self }
    }
}

impl Spent {
    pub fn rows(&self) -> [(&'static str, &Figure); 5] {
        [
            ("instructions", &self.instructions),
            ("memory", &self.memory_bytes),
            ("output", &self.output_bytes),
            ("storage operations", &self.storage_operations),
            ("time", &self.time_us),
        ]
    }
}

impl Report {
    pub fn of(plugin: &Plugin, role: &Role, ty: &ComponentFunc, limits: Limits, rehearsed: Rehearsed, told: Told, expected: &Expect) -> Self {
        let Rehearsed { answer, fuel, memory_bytes, took, stack, trap, .. } = rehearsed;
        let failed = |kind| matches!(&answer, Err(error) if error.kind == kind);
        // A guest that is stopped by the clock has not said how far it was.
        let fuel = fuel.filter(|_| !failed(CallErrorKind::Deadline));
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let output = answer.as_ref().ok().and_then(Option::as_ref).map_or(0, |value| output_bytes(role, value));
        let spent = Spent {
            instructions: Figure { used: fuel, limit: None, over: false },
            memory_bytes: Figure::new(memory_bytes as u64, limits.memory_bytes).or_over(failed(CallErrorKind::Memory)),
            output_bytes: Figure::new(output as u64, limits.output_bytes).or_over(failed(CallErrorKind::Output)),
            storage_operations: Figure::new(told.operations.into(), limits.storage_operations),
            time_us: Figure::new(micros(took), micros(limits.time)).or_over(failed(CallErrorKind::Deadline)),
        };
        let committed = answer.as_ref().is_ok_and(|answer| is_kept(role, answer.as_ref()));
        let staged = if committed { told.staged } else { Staged::default() };
        let (answer, failure) = match answer {
            Ok(answer) => (ty.results().next().zip(answer).map_or(Value::Null, |(ty, answer)| values::to_json(&ty, &answer)), None),
            Err(error) => {
                let kind = format!("{:?}", error.kind).to_lowercase();
                let message = match trap {
                    Some(_) if error.kind == CallErrorKind::Deadline => format!("no answer within {} ms", limits.time.as_millis()),
                    Some(trap) => trap,
                    None => error.message,
                };
                (Value::Null, Some(Failure { kind, plugin: error.plugin, message, stack: stack.into_iter().rev().collect() }))
            }
        };
        let mut report = Self {
            plugin: plugin.name().to_owned(),
            version: plugin.manifest.version.to_string(),
            interface: role.interface.clone(),
            function: role.function.clone(),
            answer,
            failure,
            committed,
            writes: writes(&staged, plugin.name()),
            events: staged.events.iter().map(|event| json!({ "topic": event.topic, "key": event.key, "payload": document(&event.payload) })).collect(),
            effects: staged
                .effects
                .iter()
                .map(|effect| json!({ "target": effect.target, "kind": effect.kind, "key": effect.key, "payload": document(&effect.payload), "not-before-ms": effect.not_before_ms }))
                .collect(),
            jobs: staged
                .jobs
                .iter()
                .map(|job| match &job.due {
                    Some((at_ms, payload)) => json!({ "name": job.name, "key": job.key, "at-ms": at_ms, "payload": document(payload) }),
                    None => json!({ "name": job.name, "key": job.key, "cancelled": true }),
                })
                .collect(),
            invalidated: staged.invalidated,
            log: told.log.iter().map(log_line).collect(),
            http: told.fetches.iter().map(fetch).collect(),
            spent,
            providers: told.providers.into_iter().map(|(plugin, Executed { calls, instructions })| Provider { plugin, calls, instructions }).collect(),
            hottest: Vec::new(),
            sampled: None,
            hint: None,
            differences: Vec::new(),
            is_expected_to_fail: expected.failure.is_some(),
        };
        report.differences = expect::differences(expected, &report);
        report
    }

    pub fn fails_unexpectedly(&self) -> bool {
        self.failure.is_some() && !self.is_expected_to_fail
    }

    /// Why the command fails, if it does; the first is what it says at its end.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.differences.clone();
        if !self.is_expected_to_fail {
            problems.extend(self.failure.as_ref().map(|failure| format!("the call failed ({}): {}", failure.kind, failure.message)));
            let over = self.spent.rows().into_iter().filter(|(_, figure)| figure.over);
            problems.extend(over.map(|(name, figure)| format!("{name}: over the limit of {}", super::print::amount(name, figure.limit))));
        }
        problems
    }
}

/// A web answer counts by its body, as in a shop.
fn output_bytes(role: &Role, value: &Val) -> usize {
    match value {
        Val::Record(fields) if without_version(&role.interface) == "souk:web/handler" => {
            fields.iter().find(|(name, _)| name == "body").map_or(0, |(_, body)| values::size(body))
        }
        value => values::size(value),
    }
}

/// Handlers roll back by their answer; what a service answers is its caller's affair.
fn is_kept(role: &Role, answer: Option<&Val>) -> bool {
    match (without_version(&role.interface), answer) {
        ("souk:web/handler", Some(Val::Record(fields))) => !fields.iter().any(|(name, value)| name == "status" && matches!(value, Val::U16(400..))),
        (interface, Some(Val::Result(Err(_)))) => !interface.starts_with("souk:host/"),
        _ => true,
    }
}

fn writes(staged: &Staged, plugin: &str) -> Value {
    let of = |plugin: &str| {
        let mut of = Map::new();
        if let Some(documents) = staged.documents.get(plugin) {
            of.insert("documents".into(), collections(documents, |document_of| document_of.as_deref().map_or(Value::Null, document)));
        }
        if let Some(counters) = staged.counters.get(plugin) {
            of.insert("counters".into(), collections(counters, |delta| json!(delta)));
        }
        of
    };
    let mut own = of(plugin);
    let others: std::collections::BTreeSet<&String> = staged.documents.keys().chain(staged.counters.keys()).filter(|name| *name != plugin).collect();
    if !others.is_empty() {
        own.insert("others".into(), others.into_iter().map(|name| (name.clone(), Value::Object(of(name)))).collect());
    }
    Value::Object(own)
}

fn collections<T>(of: &Collections<T>, shown: impl Fn(&T) -> Value) -> Value {
    of.iter().map(|(collection, of)| (collection.clone(), of.iter().map(|(key, value)| (key.clone(), shown(value))).collect::<Value>())).collect()
}

fn log_line(line: &LogLine) -> Value {
    let fields: Map<String, Value> = line.fields.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({ "plugin": line.plugin, "level": format!("{:?}", line.level).trim_start_matches("Level::").to_lowercase(), "message": line.message, "fields": fields })
}

fn fetch(fetch: &Fetch) -> Value {
    let (status, error) = match &fetch.answer {
        Ok(status) => (json!(status), Value::Null),
        Err(error) => (Value::Null, json!(error)),
    };
    json!({ "method": fetch.method, "url": fetch.url, "status": status, "error": error, "recorded": fetch.is_recorded })
}
