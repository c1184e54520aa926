//! `wasi:clocks`. The time of day stands still within a unit, as it does for any
//! plugin. The monotonic clock runs, and goes on at once to what is waited for.

use std::cell::Cell;

use crate::Base;
use crate::exports::wasi::clocks::monotonic_clock::{self, Duration, Instant};
use crate::exports::wasi::clocks::wall_clock::{self, Datetime};
use crate::exports::wasi::io::poll::Pollable;
use crate::io::Awaited;
use crate::souk::host::clock;

thread_local! {
    /// How far the clock has gone on: it never goes back, also for an instance
    /// that answers another call.
    static AHEAD: Cell<u64> = const { Cell::new(0) };
}

pub fn now() -> Instant {
    clock::monotonic_ns().saturating_add(AHEAD.get())
}

pub fn go_on_to(instant: Instant) {
    AHEAD.set(AHEAD.get().saturating_add(instant.saturating_sub(now())));
}

impl monotonic_clock::Guest for Base {
    fn now() -> Instant {
        now()
    }

    fn resolution() -> Duration {
        1
    }

    fn subscribe_instant(when: Instant) -> Pollable {
        Pollable::new(Awaited::At(when))
    }

    fn subscribe_duration(duration: Duration) -> Pollable {
        Pollable::new(Awaited::At(now().saturating_add(duration)))
    }
}

impl wall_clock::Guest for Base {
    fn now() -> Datetime {
        let now_ms = clock::now_ms();
        Datetime { seconds: now_ms / 1_000, nanoseconds: (now_ms % 1_000) as u32 * 1_000_000 }
    }

    fn resolution() -> Datetime {
        Datetime { seconds: 0, nanoseconds: 1_000_000 }
    }
}
