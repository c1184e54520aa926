//! How many requests plugins work on at the same time, and who waits for a
//! place. `service` passes here before it calls; it knows nothing of requests.
//!
//! More work at once than there are processors makes everyone slower, so places
//! are few and the others stand in a line. A line takes up a burst, but one that
//! never gets empty is only time that everyone loses: then nobody stands in it
//! for longer than a short target, and the others are sent away while they still
//! have patience to come again. (CoDel for servers: B. Maurer, "Fail at Scale",
//! ACM Queue 13/8. `tower`'s load shedding has no line, and its buffer no clock.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::Limits;

pub struct Gate {
    /// First come, first served.
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    opened: Instant,
    /// When the line was last empty, in milliseconds after the opening.
    empty_ms: AtomicU64,
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
            timeout_ms: limits.waiting_timeout_ms,
            target_ms: limits.waiting_target_ms,
        }
    }

    /// None where there are too many: try again later.
    pub async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        // Does not get ahead of the line: who leaves gives the place to its head.
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            return Some(permit);
        }
        let now_ms = self.opened.elapsed().as_millis() as u64;
        let place = InLine::new(&self.waiting);
        if place.ahead >= self.waiting_max {
            return None;
        }
        if place.ahead == 0 {
            self.empty_ms.store(now_ms, Ordering::Relaxed);
        }
        let patience = Duration::from_millis(self.patience_ms(now_ms));
        tokio::time::timeout(patience, self.places.clone().acquire_owned()).await.ok()?.ok()
    }

    fn patience_ms(&self, now_ms: u64) -> u64 {
        let standing_ms = now_ms.saturating_sub(self.empty_ms.load(Ordering::Relaxed));
        if standing_ms > self.timeout_ms { self.target_ms } else { self.timeout_ms }
    }
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
        assert!(gate.enter().await.is_none(), "the line is full");
        drop(first);
        assert!(second.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let gate = gate(1, 2);
        let _first = gate.enter().await.unwrap();
        assert!(gate.enter().await.is_none());
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_line_that_stands_is_short() {
        let gate = gate(10, 250);
        gate.empty_ms.store(1_000, Ordering::Relaxed);
        assert_eq!((gate.patience_ms(1_000), gate.patience_ms(1_250), gate.patience_ms(1_251)), (250, 250, 1));
    }
}
