//! wasmtime: compiled code, composed graphs, instance pools, budgets, calls.
//!
//! `shop` links [`Graph`]s out of plugins and calls them; capabilities are
//! given to guests by `capability` through [`GuestState`]. This room knows
//! nothing of stores on disk, HTTP or what a plugin sells.

pub mod bindings;
mod bounds;
mod breaker;
mod clock;
mod code;
mod extension;
mod graph;
#[cfg(test)]
mod guests;
mod instance;
mod link;
mod modules;
mod pressure;
mod rehearsal;
mod share;
mod state;
mod stats;
mod trial;
pub mod values;
mod wasi;
pub mod worker;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use code::Compilers;
use pressure::{Gauge, Pressure};

pub use breaker::Fault;
pub use clock::{ProcessorTime, processor_time};
pub use code::{CODE_CACHE_BYTES, Code, CodeUsage};
pub use extension::{LATENCY_BUDGET, Provider, Providers, SwitchedOff};
pub use graph::Graph;
pub use link::{Interface, Interfaces, LinkError, is_of_host, line, without_version};
pub use rehearsal::{Rehearsed, Role};
pub use share::{Account, Admission, Capacity, Resource, SHARE_WHOLE};
pub use state::GuestState;
pub use stats::{PluginStats, fails_too_often};
pub use trial::{Mode, Tallies, Trial, TrialReport, UnitMaker, canary_has};
pub use wasi::may_be_standard;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {kind:?}: {message}", plugin.as_deref().unwrap_or("host"))]
pub struct CallError {
    pub plugin: Option<String>,
    pub kind: CallErrorKind,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallErrorKind {
    /// The guest trapped: a panic, a bad access, too deep a recursion.
    Trap,
    /// It took more time than it may.
    Deadline,
    /// More memory or table elements than it may have.
    Memory,
    /// An answer that is too large or makes no sense.
    Output,
    /// The machine did not let it: no instance, or no processor, came free in time.
    Overloaded,
    /// Its plugin is over its share of the shop.
    Share,
    /// No such plugin is live, or it does not export the handler.
    NotFound,
    /// A version on trial failed: run again, the unit is the live one's.
    OnTrial,
    /// Something else in the host.
    Host,
}

/// How finely the time of a guest is kept.
const TICK: Duration = Duration::from_millis(5);

pub struct Options {
    /// Where compiled code is kept; none compiles at each start.
    pub code_cache: Option<PathBuf>,
    /// Of what is kept there.
    pub code_cache_bytes_max: u64,
    /// Instances of service graphs at one time, over all graphs.
    pub service_instances_max: u32,
    /// Instances of extension providers at one time.
    pub provider_instances_max: u32,
    /// Whether [`Code::Soonest`] may come from the baseline compiler.
    pub baseline: bool,
    /// Counts what guests execute, for [`Graph::rehearse`]: their code is slower
    /// for it, so that no shop is served so.
    pub metered: bool,
    pub processor_time: ProcessorTime,
    /// Whether providers over their share may have what nobody else wants. Of a
    /// simulation no seed may play otherwise on a busy machine.
    pub lends_spare_time: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            code_cache: None,
            code_cache_bytes_max: CODE_CACHE_BYTES,
            service_instances_max: 64,
            provider_instances_max: 128,
            baseline: true,
            metered: false,
            processor_time: clock::processor_time,
            lends_spare_time: true,
        }
    }
}

/// Parts of one instance of a composed graph, at most: each plugin brings a
/// memory, a table, and two or three core instances (itself and its adapters);
/// one that is written against WASI three or four times that.
const CORE_INSTANCES_PER_GRAPH_MAX: u32 = 400;
const MEMORIES_PER_GRAPH_MAX: u32 = 64;
const TABLES_PER_GRAPH_MAX: u32 = 400;
/// Of one plugin; what an instance may take in all is in its manifests.
const MEMORY_BYTES_MAX: usize = 256 << 20;

#[derive(Clone)]
pub struct Engine {
    compilers: Arc<Compilers>,
    /// The pooling allocator errs past its maximum; these make calls wait.
    services: (Arc<Semaphore>, u32),
    providers: (Arc<Semaphore>, u32),
    metered: bool,
    processor_time: ProcessorTime,
    capacity: Capacity,
    pressure: Arc<Pressure>,
}

impl Engine {
    pub fn code_usage(&self) -> CodeUsage {
        self.compilers.usage()
    }

    /// What plugins' shares are of.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    pub fn new(options: Options) -> wasmtime::Result<Self> {
        let graphs = options.service_instances_max + options.provider_instances_max;
        let memories = options.service_instances_max * 28 + options.provider_instances_max * 4;
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(graphs)
            .max_component_instance_size(4 << 20)
            .max_core_instance_size(4 << 20)
            .max_core_instances_per_component(CORE_INSTANCES_PER_GRAPH_MAX)
            .max_memories_per_component(MEMORIES_PER_GRAPH_MAX)
            .max_tables_per_component(TABLES_PER_GRAPH_MAX)
            .total_core_instances(memories * 4)
            .total_memories(memories)
            .total_tables(memories * 4)
            .total_stacks(graphs)
            .max_memory_size(MEMORY_BYTES_MAX)
            .table_elements(20_000)
            // A fresh instance costs half as much when its pages stay mapped.
            .linear_memory_keep_resident(1 << 20)
            .table_keep_resident(64 << 10)
            .pagemap_scan(Enabled::Auto);
        let mut config = config();
        config.consume_fuel(options.metered);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let optimising = wasmtime::Engine::new(&config)?;
        let processors = std::thread::available_parallelism().map_or(2, |processors| processors.get());
        let pressure = Arc::new(Pressure::new(options.lends_spare_time));
        tick(&optimising, gauge(processors, pressure.clone()))?;
        Ok(Self {
            compilers: Arc::new(Compilers::new(optimising, options.metered, options.code_cache, options.code_cache_bytes_max, options.baseline)),
            services: places(options.service_instances_max),
            providers: places(options.provider_instances_max),
            metered: options.metered,
            processor_time: options.processor_time,
            capacity: Capacity { processors, instances: options.service_instances_max as usize },
            pressure,
        })
    }
}

/// What holds for guests whichever compiler their code comes from.
fn config() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config
        .wasm_component_model_implements(true)
        .epoch_interruption(true)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20)
        // All that a guest can address: its loads need no bounds checks.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20);
    config
}

/// Makes code for engines of the same settings; instantiates nothing, so that it needs no pool.
fn compiler(metered: bool, baseline: bool) -> wasmtime::Result<wasmtime::Engine> {
    let mut config = config();
    config.consume_fuel(metered);
    if baseline {
        config.strategy(wasmtime::Strategy::Winch);
    }
    wasmtime::Engine::new(&config)
}

fn places(max: u32) -> (Arc<Semaphore>, u32) {
    (Arc::new(Semaphore::new(max as usize)), max)
}

/// Measures the pressure at each tick.
fn gauge(processors: usize, pressure: Arc<Pressure>) -> impl FnMut(Instant) + Send {
    let mut gauge = Gauge::new(processors);
    move |asleep_since| gauge.woke(asleep_since, &pressure)
}

/// Advances the epoch from a thread of its own for as long as the engine lives:
/// a timer of the async runtime would stand still when guests keep it busy.
fn tick(engine: &wasmtime::Engine, mut woke: impl FnMut(Instant) + Send + 'static) -> wasmtime::Result<()> {
    let weak = engine.weak();
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            let asleep_since = Instant::now();
            std::thread::sleep(TICK);
            woke(asleep_since);
        }
    })?;
    Ok(())
}
