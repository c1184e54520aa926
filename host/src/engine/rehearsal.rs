//! One call of any function that a plugin exports, with what it executes
//! counted: for `souk plugin call`, in an engine that is [metered](super::Options).
//!
//! Everything else is as in a served shop: the same graph, capabilities, limits
//! and clocks.

use std::time::{Duration, Instant};

use wasmtime::component::Val;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::{Trap, WasmBacktrace};

use super::graph::{COMMAND_DEADLINE, HOSTCALL_FUEL_COMMAND, HOSTCALL_FUEL_EXTENSION, Spent};
use super::link::{EXTENSION_PACKAGE, line, without_version};
use super::state::Payer;
use super::{CallError, CallErrorKind, Graph};
use crate::work::SharedUnit;

/// A function as its caller names it.
#[derive(Debug, Clone)]
pub struct Role {
    pub plugin: String,
    /// With or without its version.
    pub interface: String,
    pub function: String,
}

/// What came of a call and what it took.
pub struct Rehearsed {
    /// None where the function has no result.
    pub answer: Result<Option<Val>, CallError>,
    /// Instructions; none if the call was dropped while it waited.
    pub fuel: Option<u64>,
    /// Sum of the linear memories of all plugins in the graph at the end: they
    /// never shrink.
    pub memory_bytes: usize,
    pub took: Duration,
    /// Where it trapped, the outermost function first, and why.
    pub stack: Vec<String>,
    pub trap: Option<String>,
    pub out_of_fuel: bool,
}

impl Graph {
    /// All functions that [`Self::rehearse`] can call, by interface with version.
    pub fn exports_of(&self, plugin: &str) -> Vec<(String, Vec<String>)> {
        let Ok(entry) = self.0.entry(plugin) else { return Vec::new() };
        entry.exports.iter().map(|(interface, label)| (interface.clone(), self.functions(label).map(|(name, _)| name).collect())).collect()
    }

    pub fn type_of(&self, role: &Role) -> Option<ComponentFunc> {
        let label = self.label(role)?;
        self.functions(label).find(|(name, _)| *name == role.function).map(|(_, ty)| ty)
    }

    /// Of all plugins that are linked together.
    pub fn memory_bytes_max(&self) -> usize {
        self.0.memory_bytes_max
    }

    pub fn deadline_of(&self, role: &Role) -> Option<Duration> {
        let entry = self.0.entry(&role.plugin).ok()?;
        Some(if is_command(role) { COMMAND_DEADLINE } else { entry.deadline })
    }

    /// In an instance of its own; traps once so much fuel is used up.
    pub async fn rehearse(&self, role: &Role, parameters: &[Val], unit: SharedUnit, fuel: u64) -> Rehearsed {
        let (mut left, mut memory_bytes, mut took) = (None, 0, None);
        let (mut stack, mut trap, mut out_of_fuel) = (Vec::new(), None, false);
        let begun = Instant::now();
        let answer = self
            .call_role(role, unit, async |func, store| {
                let results = func.ty(&*store).results().len();
                store.set_fuel(fuel)?;
                let begun = Instant::now();
                let mut answer = vec![Val::Bool(false); results];
                let called = func.call_async(&mut *store, parameters, &mut answer).await;
                took = Some(begun.elapsed());
                left = Some(store.get_fuel()?);
                memory_bytes = store.data().limits.memory_bytes;
                if let Err(error) = &called {
                    stack = stack_of(error);
                    trap = (!stack.is_empty()).then(|| error.root_cause().to_string());
                    out_of_fuel = matches!(error.downcast_ref(), Some(Trap::OutOfFuel));
                }
                called.map(|()| answer.pop())
            })
            .await;
        Rehearsed {
            answer,
            fuel: left.map(|left| fuel - left),
            memory_bytes,
            took: took.unwrap_or_else(|| begun.elapsed()),
            stack,
            trap,
            out_of_fuel,
        }
    }

    async fn call_role<T>(
        &self,
        role: &Role,
        unit: SharedUnit,
        work: impl AsyncFnOnce(wasmtime::component::Func, &mut wasmtime::Store<super::GuestState>) -> wasmtime::Result<T>,
    ) -> Result<T, CallError> {
        let entry = self.0.entry(&role.plugin)?;
        let component = self.0.pre.component();
        let instance = self.label(role).and_then(|label| component.get_export_index(None, label));
        let export = instance.and_then(|instance| component.get_export_index(Some(&instance), &role.function));
        let Some(export) = export else {
            let message = format!("it does not export `{}`, `{}`", role.interface, role.function);
            return Err(CallError { plugin: Some(role.plugin.clone()), kind: CallErrorKind::NotFound, message });
        };
        let deadline = if is_command(role) { COMMAND_DEADLINE } else { entry.deadline };
        // A shop lifts answers of providers as values, too; those of handlers as they are.
        let hostcall_fuel = if role.interface.starts_with(EXTENSION_PACKAGE) { HOSTCALL_FUEL_EXTENSION } else { HOSTCALL_FUEL_COMMAND };
        self.0
            .run(entry, unit, deadline, hostcall_fuel, Payer::default(), &mut Spent::default(), async |warm| {
                let func = warm.instance.get_func(&mut warm.store, export).ok_or_else(|| wasmtime::format_err!("the export is gone"))?;
                work(func, &mut warm.store).await
            })
            .await
    }

    fn label(&self, role: &Role) -> Option<&str> {
        let exports = &self.0.entry(&role.plugin).ok()?.exports;
        let named = |(interface, _): &(&String, &String)| line(interface) == line(&role.interface) || without_version(interface) == role.interface;
        exports.iter().find(named).map(|(_, label)| label.as_str())
    }

    fn functions(&self, label: &str) -> impl Iterator<Item = (String, ComponentFunc)> {
        let component = self.0.pre.component();
        let engine = component.engine();
        let item = component.component_type().get_export(engine, label).map(|item| item.ty);
        let mut functions = Vec::new();
        if let Some(ComponentItem::ComponentInstance(instance)) = item {
            for (name, item) in instance.exports(engine) {
                if let ComponentItem::ComponentFunc(ty) = item.ty {
                    functions.push((name.to_owned(), ty));
                }
            }
        }
        functions.into_iter()
    }
}

fn is_command(role: &Role) -> bool {
    without_version(&role.interface) == "souk:host/command-handler"
}

fn stack_of(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        // Without the hash at its end, which changes with each build.
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("{}[{}]", frame.module().name().unwrap_or("function"), frame.func_index()),
    };
    trace.frames().iter().rev().map(name).collect()
}
