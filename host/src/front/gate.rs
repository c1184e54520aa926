//! How many requests plugins work on at the same time, and who waits for a
//! place. `service` passes here before it calls; it knows nothing of requests.
//!
//! More work at once than there are processors makes everyone slower, so places
//! are few and the others stand in a line. A line takes up a burst, but one that
//! never gets empty is only time that everyone loses: then nobody stands in it
//! for longer than a short target, and the others are sent away while they still
//! have patience to come again. (CoDel for servers: B. Maurer, "Fail at Scale",
//! ACM Queue 13/8. `tower`'s load shedding has no line, and its buffer no clock.)
//!
//! Who is sent away is told when to come again, as if they stood in a line of
//! their own that gets on as fast as the shop serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::Limits;
use crate::chance;

pub struct Gate {
    /// First come, first served.
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    opened: Instant,
    /// When the line was last empty, in milliseconds after the opening, and how
    /// many had been let in by then.
    empty_ms: AtomicU64,
    entered_when_empty: AtomicU64,
    entered: AtomicU64,
    returning: Mutex<Returning>,
    timeout_ms: u64,
    target_ms: u64,
}

impl Gate {
    pub fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.requests_max)),
            waiting: AtomicUsize::new(0),
            waiting_max: limits.waiting_max,
            opened: Instant::now(),
            empty_ms: AtomicU64::new(0),
            entered_when_empty: AtomicU64::new(0),
            entered: AtomicU64::new(0),
            returning: Mutex::default(),
            timeout_ms: limits.waiting_timeout_ms,
            target_ms: limits.waiting_target_ms,
        }
    }

    /// Errs where there are too many: come again after so many seconds.
    pub async fn enter(&self) -> Result<OwnedSemaphorePermit, u64> {
        let permit = self.permit().await;
        match permit {
            Some(permit) => {
                self.entered.fetch_add(1, Ordering::Relaxed);
                Ok(permit)
            }
            None => Err(self.retry_after_s(self.now_ms())),
        }
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // Does not get ahead of the line: who leaves gives the place to its head.
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            return Some(permit);
        }
        let now_ms = self.now_ms();
        let place = InLine::new(&self.waiting);
        if place.ahead == 0 {
            self.empty_ms.store(now_ms, Ordering::Relaxed);
            self.entered_when_empty.store(self.entered.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if place.ahead >= self.waiting_max {
            return None;
        }
        let patience = Duration::from_millis(self.patience_ms(now_ms));
        tokio::time::timeout(patience, self.places.clone().acquire_owned()).await.ok()?.ok()
    }

    fn now_ms(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }

    fn retry_after_s(&self, now_ms: u64) -> u64 {
        let wait_ms = self.returning.lock().join(now_ms, self.each_ms(now_ms));
        retry_after_s(wait_ms, chance::below(1_000))
    }

    /// Between two that are let in while there is a line, in milliseconds; 0
    /// where it has not been there for long enough to tell.
    fn each_ms(&self, now_ms: u64) -> f64 {
        let standing_ms = now_ms.saturating_sub(self.empty_ms.load(Ordering::Relaxed));
        let entered = self.entered.load(Ordering::Relaxed).saturating_sub(self.entered_when_empty.load(Ordering::Relaxed));
        if standing_ms < self.timeout_ms { 0.0 } else { standing_ms as f64 / entered.max(1) as f64 }
    }

    fn patience_ms(&self, now_ms: u64) -> u64 {
        let standing_ms = now_ms.saturating_sub(self.empty_ms.load(Ordering::Relaxed));
        if standing_ms > self.timeout_ms { self.target_ms } else { self.timeout_ms }
    }
}

/// Those who were sent away, one behind the other.
#[derive(Default)]
struct Returning {
    /// When the last of them may come again.
    last_ms: f64,
}

impl Returning {
    /// More are told the same as the last one.
    const WAIT_MS_MAX: f64 = 18_000.0;

    /// How long whoever joins now should stay away.
    fn join(&mut self, now_ms: u64, each_ms: f64) -> f64 {
        let now_ms = now_ms as f64;
        self.last_ms = (self.last_ms.max(now_ms) + each_ms).min(now_ms + Self::WAIT_MS_MAX);
        self.last_ms - now_ms
    }
}

/// A second, and the wait or half of it more or less: a header has whole seconds,
/// and in none of them should all come back. From 1 to 30.
fn retry_after_s(wait_ms: f64, chance_permille: u64) -> u64 {
    let wait_s = wait_ms / 1_000.0;
    (1.0 + wait_s / 2.0 + (wait_s + 1.0) * chance_permille as f64 / 1_000.0).round() as u64
}

struct InLine<'a> {
    waiting: &'a AtomicUsize,
    ahead: usize,
}

impl<'a> InLine<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        Self { waiting, ahead: waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(waiting_max: usize, waiting_timeout_ms: u64) -> Gate {
        Gate::new(&Limits { requests_max: 1, waiting_max, waiting_timeout_ms, waiting_target_ms: 1, ..Limits::default() })
    }

    #[tokio::test]
    async fn who_leaves_makes_room_for_the_head_of_the_line() {
        let gate = Arc::new(gate(1, 60_000));
        let first = gate.enter().await.unwrap();
        let second = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await }
        });
        while gate.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(gate.enter().await.is_err(), "the line is full");
        drop(first);
        assert!(second.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let gate = gate(1, 2);
        let _first = gate.enter().await.unwrap();
        assert!(gate.enter().await.is_err());
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_line_that_stands_is_short() {
        let gate = gate(10, 250);
        gate.empty_ms.store(1_000, Ordering::Relaxed);
        assert_eq!((gate.patience_ms(1_000), gate.patience_ms(1_250), gate.patience_ms(1_251)), (250, 250, 1));
    }

    #[test]
    fn who_is_sent_away_comes_again_when_the_shop_has_served_those_before() {
        let gate = gate(10, 250);
        gate.entered.store(1_000, Ordering::Relaxed);
        let wait_ms = |now_ms| gate.returning.lock().join(now_ms, gate.each_ms(now_ms)).round();
        // Too early to tell: all may come at once.
        assert_eq!((wait_ms(100), wait_ms(249)), (0.0, 0.0));
        // A thousand in four seconds, four milliseconds each.
        assert_eq!((wait_ms(4_000), wait_ms(4_000), wait_ms(4_000)), (4.0, 8.0, 12.0));
        let thousandth = (3..1_000).map(|_| wait_ms(4_000)).last();
        assert_eq!(thousandth, Some(4_000.0));
        // Two seconds later half of them are through; later still, all.
        gate.entered.store(1_500, Ordering::Relaxed);
        assert_eq!((wait_ms(6_000), wait_ms(20_000)), (2_004.0, 13.0));
        // However many there are, nobody is told to stay away for longer than that.
        assert!((0..100_000).all(|_| wait_ms(20_000) <= Returning::WAIT_MS_MAX));
    }

    #[test]
    fn no_two_seconds_get_all_of_those_who_come_again() {
        let told = |wait_ms, chance| retry_after_s(wait_ms, chance);
        for (wait_ms, first, last) in [(0.0, 1, 2), (1_000.0, 2, 3), (4_000.0, 3, 8), (Returning::WAIT_MS_MAX, 10, 29)] {
            assert_eq!((told(wait_ms, 0), told(wait_ms, 999)), (first, last), "{wait_ms}");
            let most = (first..=last).map(|second| (0..1_000).filter(|chance| told(wait_ms, *chance) == second).count()).max();
            assert!(most.is_some_and(|most| most <= 1_000 / (last - first + 1) as usize * 2), "{wait_ms}: {most:?}");
        }
    }
}
