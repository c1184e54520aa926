//! What the host keeps with every wasmtime store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{ResourceLimiter, StoreContextMut, UpdateDeadline, WasmBacktrace};

use super::bindings::Caller;
use super::clock::CallClock;
use super::pressure::Pressure;
use super::share::{Account, CHEAP, Standing};
use super::{PluginStats, TICK};
use crate::capability::Services;
use crate::work::{SharedUnit, unit};

/// The data of a guest's store. Capabilities are implemented for it.
pub struct GuestState {
    /// The unit of the call that is running; ended between calls.
    pub unit: SharedUnit,
    pub services: Arc<Services>,
    pub(super) limits: MemoryLimits,
    /// Of the call that is running.
    pub(super) clock: Arc<CallClock>,
    pub(super) meter: Arc<Meter>,
    pub(super) payer: Payer,
}

/// Whose account the call that is running is charged to.
#[derive(Default)]
pub(super) struct Payer {
    /// None for what the operator has begun.
    pub account: Option<Arc<Account>>,
    pub over: WhenOver,
    /// Charged before it was used, or free.
    prepaid: Duration,
}

/// What becomes of a call whose account is in debt.
#[derive(Default)]
pub(super) enum WhenOver {
    #[default]
    Waits,
    /// Its caller has waited for its turn already.
    GoesOn,
    /// When it is deep in debt, and while others want the processors.
    Ends(Arc<Pressure>),
}

impl Payer {
    pub fn waiting(account: Option<Arc<Account>>) -> Self {
        Self { account, over: WhenOver::Waits, prepaid: Duration::ZERO }
    }

    /// A provider. `pressure` where its caller can do without it.
    pub fn asked(account: Arc<Account>, pressure: Option<Arc<Pressure>>) -> Self {
        Self { account: Some(account), over: pressure.map_or(WhenOver::GoesOn, WhenOver::Ends), prepaid: CHEAP }
    }

    pub fn waits(&self) -> bool {
        matches!(self.over, WhenOver::Waits)
    }

    /// Whether its time is measured, and not sampled.
    pub fn is_held_to_a_share(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.is_limited())
    }

    pub fn pay(&mut self, time: Duration) -> Standing {
        let Some(account) = &self.account else { return Standing::Within };
        let due = time.saturating_sub(self.prepaid);
        self.prepaid = self.prepaid.saturating_sub(time);
        match &self.over {
            WhenOver::Ends(pressure) if account.is_limited() && !pressure.is_high() => {
                account.charge_spare(due);
                Standing::Within
            }
            _ => account.charge(due),
        }
    }
}

impl GuestState {
    /// For capabilities: what they await is the guest's time, work or not, and
    /// nobody else's.
    pub(crate) async fn waits<T>(&self, awaited: impl Future<Output = T>) -> T {
        self.clock.waits(unit::waits(&self.unit, awaited)).await
    }

    /// Long work on a thread of its own, which is the caller's processor time. None where it could not be done.
    pub(crate) async fn slowly<T: Send + 'static>(&self, caller: &Caller, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let processor_time = self.clock.processor_time;
        let work = move || {
            let begun = processor_time();
            let done = work();
            (done, processor_time().saturating_sub(begun))
        };
        let (done, took) = self.waits(self.services.slow.run(caller.name(), work)).await?;
        self.meter.charge_plugin(caller.name(), took);
        if let Some(account) = &self.payer.account {
            account.charge(took);
        }
        Some(done)
    }
}

/// Charges processor time to the plugin whose code runs when the clock ticks:
/// what is fused has no borders at which time could be taken.
pub(super) struct Meter {
    /// By name, which is also that of their core modules.
    pub plugins: HashMap<String, Arc<PluginStats>>,
}

impl Meter {
    /// For work that was done in its name, and not by its code.
    fn charge_plugin(&self, plugin: &str, time: Duration) {
        if let Some(stats) = self.plugins.get(plugin) {
            stats.record_cpu(time);
        }
    }

    fn charge(&self, stack: &WasmBacktrace, time: Duration) {
        let owner = stack.frames().iter().find_map(|frame| self.plugins.get(frame.module().name()?));
        if let Some(owner) = owner {
            owner.record_cpu(time);
        }
    }
}

/// What happens to a guest that runs when the epoch ends: its time is charged, or
/// it is stopped. Within its plugin's share it is not made to yield: whoever then
/// got its thread would wait for it a tick later, where now they find another
/// thread (measured: the tail beside a guest that spins was three times as long).
/// Over its share it waits for its next slice.
pub(super) fn at_tick(mut store: StoreContextMut<GuestState>) -> wasmtime::Result<UpdateDeadline> {
    let (ran, time_up) = store.data().clock.tick();
    if time_up.is_some() {
        return Ok(UpdateDeadline::Interrupt);
    }
    store.data().meter.charge(&WasmBacktrace::force_capture(&store), ran);
    let GuestState { payer, clock, unit, .. } = store.data_mut();
    match (payer.pay(ran), &payer.over, &payer.account) {
        (Standing::Over | Standing::FarOver, WhenOver::Waits, Some(account)) => {
            payer.prepaid = TICK;
            let (account, unit, clock) = (account.clone(), unit.clone(), clock.clone());
            let slice = async move {
                let _held_back = clock.holds_back();
                unit::stand_back(&unit);
                unit::waits(&unit, account.slice()).await;
            };
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(slice)))
        }
        (Standing::FarOver, WhenOver::Ends(_), _) => {
            clock.end_over_share();
            Ok(UpdateDeadline::Interrupt)
        }
        _ => Ok(UpdateDeadline::Continue(1)),
    }
}

/// Keeps all linear memories and all tables of an instance together under one
/// limit each: a limit per memory could be multiplied by their number.
pub(super) struct MemoryLimits {
    pub memory_bytes_max: usize,
    pub table_elements_max: usize,
    pub memory_bytes: usize,
    pub table_elements: usize,
    /// A growth was denied since this was last cleared.
    pub denied: bool,
}

impl ResourceLimiter for MemoryLimits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired - current);
        let allowed = total <= self.memory_bytes_max && maximum.is_none_or(|maximum| desired <= maximum);
        if allowed {
            self.memory_bytes = total;
        }
        self.denied |= !allowed;
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired - current);
        let allowed = total <= self.table_elements_max && maximum.is_none_or(|maximum| desired <= maximum);
        if allowed {
            self.table_elements = total;
        }
        self.denied |= !allowed;
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.denied = true;
        Ok(())
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.denied = true;
        Ok(())
    }

    fn instances(&self) -> usize {
        super::CORE_INSTANCES_PER_GRAPH_MAX as usize
    }

    fn tables(&self) -> usize {
        super::TABLES_PER_GRAPH_MAX as usize
    }

    fn memories(&self) -> usize {
        super::MEMORIES_PER_GRAPH_MAX as usize
    }
}
