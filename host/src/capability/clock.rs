//! Time: the unit's instant, and a monotonic clock to measure with.

use std::sync::LazyLock;
use std::time::Instant;

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::clock::Host;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Host for GuestState {
    fn now_ms(&mut self, _: Caller) -> u64 {
        self.unit.lock().now_ms
    }

    fn monotonic_ns(&mut self, _: Caller) -> u64 {
        // A rehearsal takes the same way each time: its clocks stand still.
        if self.unit.lock().rehearsal.is_some() {
            return 0;
        }
        u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
