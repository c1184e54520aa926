//! Whether others want the processors: a provider over its share is refused only
//! while they do. What nobody else would use is nobody's loss.
//!
//! Measured by the thread that makes the ticks: the processor time of the process
//! against that of the machine, and how late the thread itself wakes up, which
//! tells of what other programs take.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::TICK;
use super::clock::processor_time_of_process;

const INTERVAL: Duration = Duration::from_millis(100);
/// Of all processors, in use.
const BUSY: f64 = 0.7;
const LATE: Duration = TICK;

pub(super) struct Pressure {
    high: AtomicBool,
    measured: bool,
}

impl Pressure {
    /// One that is not measured is always high: in the simulation no seed may play
    /// otherwise on a busy machine.
    pub fn new(measured: bool) -> Self {
        Self { high: AtomicBool::new(!measured), measured }
    }

    pub fn is_high(&self) -> bool {
        self.high.load(Relaxed)
    }

    /// Of one that is not measured.
    #[cfg(test)]
    pub fn set(&self, high: bool) {
        self.high.store(high, Relaxed);
    }
}

/// For the thread that measures.
pub(super) struct Gauge {
    processors: usize,
    since: Instant,
    processor_time: Duration,
    latest: Duration,
}

impl Gauge {
    pub fn new(processors: usize) -> Self {
        Self { processors, since: Instant::now(), processor_time: processor_time_of_process(), latest: Duration::ZERO }
    }

    /// After each sleep of a tick that has begun then.
    pub fn woke(&mut self, asleep_since: Instant, pressure: &Pressure) {
        let now = Instant::now();
        self.latest = self.latest.max((now - asleep_since).saturating_sub(TICK));
        let passed = now - self.since;
        if !pressure.measured || passed < INTERVAL {
            return;
        }
        let processor_time = processor_time_of_process();
        let used = processor_time.saturating_sub(self.processor_time).as_secs_f64();
        let there_was = passed.as_secs_f64() * self.processors as f64;
        pressure.high.store(used >= there_was * BUSY || self.latest >= LATE, Relaxed);
        *self = Self { processors: self.processors, since: now, processor_time, latest: Duration::ZERO };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(used: Duration, latest: Duration) -> bool {
        let pressure = Pressure::new(true);
        let begun = Instant::now().checked_sub(10 * INTERVAL).unwrap();
        // A thousand processors: what this process itself takes meanwhile is nothing.
        let mut gauge = Gauge { processors: 1_000, since: begun, processor_time: processor_time_of_process().saturating_sub(used), latest };
        gauge.woke(Instant::now(), &pressure);
        pressure.is_high()
    }

    #[test]
    fn processors_that_are_in_use_and_a_late_tick_are_pressure() {
        assert!(!after(Duration::ZERO, Duration::ZERO));
        assert!(after(Duration::ZERO, LATE));
        assert!(Pressure::new(false).is_high());
    }
}
