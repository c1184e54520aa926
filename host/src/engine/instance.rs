//! One instance of a composed graph, and the pool that keeps warm ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::Instance;

use super::GuestState;

/// Calls after which an instance is replaced, so that what a guest leaks goes
/// with it; random, so that not all go at once.
const LIFE_CALLS_MIN: u32 = 2_000;
const LIFE_CALLS_SPREAD: u32 = 2_000;
const WARM_MAX: usize = 16;
const IDLE_MAX: Duration = Duration::from_secs(30);

pub(super) struct Warm {
    pub store: Store<GuestState>,
    pub instance: Instance,
    /// What it took to make it, before its first call.
    pub made: Duration,
    calls_left: u32,
    idle_since: Instant,
    /// Its place under the engine's maximum.
    _permit: OwnedSemaphorePermit,
}

impl Warm {
    pub fn new(store: Store<GuestState>, instance: Instance, permit: OwnedSemaphorePermit, made: Duration) -> Self {
        // A poor source of chance is enough to spread lives.
        let chance = Arc::as_ptr(&store.data().unit) as usize as u32 ^ Instant::now().elapsed().subsec_nanos();
        let calls_left = LIFE_CALLS_MIN + chance.wrapping_mul(0x9E37_79B9) % LIFE_CALLS_SPREAD;
        Self { store, instance, made, calls_left, idle_since: Instant::now(), _permit: permit }
    }
}

/// Last in, first out: the warmest is used again, the others fall idle.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Warm>>);

impl Pool {
    pub fn take(&self) -> Option<Warm> {
        self.0.lock().pop()
    }

    /// Keeps an instance whose call ended well, if it is worth keeping.
    pub fn put(&self, mut warm: Warm) {
        warm.calls_left = warm.calls_left.saturating_sub(1);
        if warm.calls_left == 0 {
            return;
        }
        warm.idle_since = Instant::now();
        let mut pool = self.0.lock();
        if pool.len() < WARM_MAX {
            pool.push(warm);
        }
    }

    /// Frees what has been idle for long, but one: the next request is then
    /// still a quick one.
    pub fn reap(&self) {
        let mut pool = self.0.lock();
        if pool.len() < 2 {
            return;
        }
        let last = pool.pop();
        pool.retain(|warm| warm.idle_since.elapsed() < IDLE_MAX);
        pool.extend(last);
    }

    pub fn len(&self) -> usize {
        self.0.lock().len()
    }
}
