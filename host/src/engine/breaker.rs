//! Switches a provider off for a while when most of its recent calls failed, so
//! that a shop does not wait for it again and again. One for each extension
//! point of each provider.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// The newest call is the lowest bit; a set bit is a failure.
    recent: u32,
    count: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    const WINDOW: u32 = 20;
    const CALLS_MIN: u32 = 5;
    const OPEN: Duration = Duration::from_secs(10);

    /// How much longer it is switched off.
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        let mut state = self.0.lock();
        let until = state.open_until?;
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero());
        if left.is_none() {
            *state = State::default();
        }
        left
    }

    pub fn record(&self, ok: bool) {
        let mut state = self.0.lock();
        state.recent = (state.recent << 1 | u32::from(!ok)) & ((1 << Self::WINDOW) - 1);
        state.count = (state.count + 1).min(Self::WINDOW);
        if !ok && state.count >= Self::CALLS_MIN && state.recent.count_ones() * 2 > state.count {
            state.open_until = Some(Instant::now() + Self::OPEN);
        }
    }
}
