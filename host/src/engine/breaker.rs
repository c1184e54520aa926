//! Switches a provider off for a while when most of its recent calls failed, or
//! took more than half of what they may, or when it is over its share: a shop
//! does not wait for it again and again. One for each function of each extension point
//! of each provider: what fails at one function says nothing about the others.
//!
//! Where its caller can do without it, there is a budget for what it takes of its
//! caller's time as well, by working or by waiting. Its calls may take so much of one request;
//! what some take beyond is forgiven if they are less than one in a hundred or so, since it
//! is the shop's tail that grows by it.
//!
//! Afterwards one call tries whether it is better, while the others still go
//! without. Each time that it is not, the next try is twice as far away.

use std::time::Duration;

use parking_lot::Mutex;
// The simulation has its time stand still.
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// The newest call is the lowest bit; a set bit is a fault.
    recent: u32,
    count: u32,
    open: Option<Open>,
    /// Times that it was switched off without a whole window of good calls since.
    trips: u32,
    /// What its calls took beyond their budget, and is not forgiven.
    beyond: Duration,
}

struct Open {
    until: Instant,
    fault: Fault,
    /// One call is on its way that tries it.
    trying: bool,
}

/// What is wrong with a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Failed,
    Slow,
    OverBudget,
    OverShare,
}

impl Fault {
    /// Why it is switched off.
    pub fn in_plain_words(self) -> &'static str {
        match self {
            Fault::Failed => "after repeated failures",
            Fault::Slow => "for taking more than half of its deadline again and again",
            Fault::OverBudget => "for keeping its callers waiting beyond its latency budget",
            Fault::OverShare => "for taking more than its share of processor time",
        }
    }
}

/// What a provider may take of the time of one request.
#[derive(Clone, Copy)]
pub(super) struct Budget {
    pub whole: Duration,
    /// By its calls before this one.
    pub left: Duration,
}

impl Breaker {
    const WINDOW: u32 = 20;
    const CALLS_MIN: u32 = 5;
    const OPEN: Duration = Duration::from_secs(10);
    /// 80 seconds at most.
    const DOUBLINGS_MAX: u32 = 3;
    /// Of its budget, what each call pays back of what others took beyond it.
    const FORGIVEN: u32 = 50;
    /// In budgets: what may be beyond, and what again after it was switched off for that.
    const BEYOND_MAX: u32 = 16;
    const BEYOND_MAX_AGAIN: u32 = 4;

    /// How much longer it is switched off, and why.
    pub fn open_for(&self, now: Instant) -> Option<(Fault, Duration)> {
        let state = self.0.lock();
        let open = state.open.as_ref()?;
        let left = open.until.saturating_duration_since(now);
        (!left.is_zero() || open.trying).then_some((open.fault, left))
    }

    /// Leave to call it; none while it is switched off.
    pub fn enter(&self, now: Instant) -> Result<Leave<'_>, Fault> {
        let mut state = self.0.lock();
        let tries = state.open.is_some();
        if let Some(open) = &mut state.open {
            if open.trying || open.until > now {
                return Err(open.fault);
            }
            open.trying = true;
        }
        Ok(Leave { breaker: self, tries, recorded: false })
    }

    pub fn trip(&self, fault: Fault) {
        self.0.lock().trip(fault);
    }
}

impl State {
    fn trip(&mut self, fault: Fault) {
        // What it has taken is paid for by then, however often it was asked.
        let again = fault != Fault::OverShare;
        let lasts = if again { Breaker::OPEN * (1 << self.trips.min(Breaker::DOUBLINGS_MAX)) } else { Breaker::OPEN };
        *self = Self { open: Some(Open { until: Instant::now() + lasts, fault, trying: false }), trips: self.trips + u32::from(again), ..Self::default() };
    }

    /// Counts what a call took, and tells whether calls took too much.
    fn is_beyond(&mut self, took: Duration, budget: Budget) -> bool {
        self.beyond = self.beyond.saturating_sub(budget.whole / Breaker::FORGIVEN) + took.saturating_sub(budget.left);
        self.beyond > budget.whole * if self.trips == 0 { Breaker::BEYOND_MAX } else { Breaker::BEYOND_MAX_AGAIN }
    }

    fn record(&mut self, tries: bool, fault: Option<Fault>, is_beyond: bool) {
        match (tries, fault) {
            (true, Some(fault)) => return self.trip(fault),
            (true, None) => {
                self.open = None;
                return;
            }
            // Begun before it was switched off.
            (false, _) if self.open.is_some() => return,
            (false, _) => {}
        }
        self.recent = (self.recent << 1 | u32::from(fault.is_some())) & ((1 << Breaker::WINDOW) - 1);
        self.count = (self.count + 1).min(Breaker::WINDOW);
        if self.count == Breaker::WINDOW && self.recent == 0 && self.beyond.is_zero() {
            self.trips = 0;
        }
        if let Some(fault) = fault
            && self.count >= Breaker::CALLS_MIN
            && self.recent.count_ones() * 2 > self.count
        {
            self.trip(fault);
        } else if is_beyond {
            self.trip(Fault::OverBudget);
        }
    }
}

/// For one call. Dropped without a word about how it went, it says nothing.
pub(super) struct Leave<'a> {
    breaker: &'a Breaker,
    /// Whether it is the one that tries it again.
    tries: bool,
    recorded: bool,
}

impl Leave<'_> {
    /// How it went. The answer is why the provider is switched off from now on.
    pub fn record(mut self, fault: Option<Fault>, took: Duration, budget: Option<Budget>) -> Option<Fault> {
        self.recorded = true;
        let mut state = self.breaker.0.lock();
        let was_open = state.open.as_ref().map(|open| open.until);
        let is_beyond = budget.is_some_and(|budget| state.is_beyond(took, budget));
        state.record(self.tries, fault, is_beyond);
        state.open.as_ref().filter(|open| was_open != Some(open.until)).map(|open| open.fault)
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.tries
            && !self.recorded
            && let Some(open) = &mut self.breaker.0.lock().open
        {
            open.trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(breaker: &Breaker, fault: Option<Fault>) -> Result<(), Fault> {
        breaker.enter(Instant::now()).map(|leave| {
            let _ = leave.record(fault, Duration::ZERO, None);
        })
    }

    const BUDGET: Duration = Duration::from_millis(25);

    fn whole() -> Budget {
        Budget { whole: BUDGET, left: BUDGET }
    }

    /// How many calls of so long it took to switch it off; none where that many did not.
    fn until_off(breaker: &Breaker, each_ms: impl Fn(u32) -> u64) -> Option<u32> {
        (1..=10_000).find(|turn| {
            let took = Duration::from_millis(each_ms(*turn));
            breaker.enter(Instant::now()).ok().unwrap().record(None, took, Some(whole())) == Some(Fault::OverBudget)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_keeps_its_callers_waiting_is_switched_off() {
        assert_eq!(until_off(&Breaker::default(), |_| 25), None);
        assert_eq!(until_off(&Breaker::default(), |_| 99), Some(6));
        assert!(until_off(&Breaker::default(), |turn| if turn % 50 == 0 { 99 } else { 0 }).is_some(), "one in fifty is the tail");
        assert_eq!(until_off(&Breaker::default(), |turn| if turn % 200 == 0 { 99 } else { 5 }), None);
        let breaker = Breaker::default();
        assert_eq!(until_off(&breaker, |_| 199), Some(3));
        seconds(10).await;
        assert_eq!(until_off(&breaker, |_| 99), Some(2), "it has not been good since");
    }

    async fn seconds(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_tries_it_and_each_time_that_fails_the_next_is_later() {
        let breaker = Breaker::default();
        for _ in 0..5 {
            call(&breaker, Some(Fault::Slow)).unwrap();
        }
        for pause in [10, 20, 40, 80, 80] {
            assert_eq!(call(&breaker, None), Err(Fault::Slow));
            seconds(pause - 1).await;
            assert_eq!(call(&breaker, None), Err(Fault::Slow));
            seconds(1).await;
            let tries = breaker.enter(Instant::now()).ok().unwrap();
            assert_eq!(call(&breaker, None), Err(Fault::Slow), "one alone");
            tries.record(Some(Fault::Slow), Duration::ZERO, None);
        }
        seconds(80).await;
        call(&breaker, None).unwrap();
        call(&breaker, None).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_breaks_off_is_another_ones() {
        let breaker = Breaker::default();
        breaker.trip(Fault::OverShare);
        seconds(10).await;
        drop(breaker.enter(Instant::now()).ok().unwrap());
        call(&breaker, None).unwrap();
        assert_eq!(breaker.open_for(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_now_and_then_is_none() {
        let breaker = Breaker::default();
        for turn in 0..100 {
            call(&breaker, (turn % 3 == 0).then_some(Fault::Failed)).unwrap();
        }
    }
}
