//! How many requests plugins work on at the same time, and who waits for a
//! place. `service` passes here before it calls; it knows nothing of requests.
//!
//! More work at once than there are processors makes everyone slower, so places
//! are few and the others stand in a line. Who waits for something outside needs
//! no processor, and lends its place meanwhile ([`lending`]): a provider that is
//! slow does not keep shoppers from looking at products.
//!
//! A line takes up a burst, but one that never gets empty is only time that
//! everyone loses: then nobody stands in it for longer than a short target, and
//! the others are sent away while they still have patience to come again. (CoDel
//! for servers: B. Maurer, "Fail at Scale", ACM Queue 13/8. `tower`'s load
//! shedding has no line, and its buffer no clock.) Not so those who have begun to
//! buy, who also go first: of eight requests that make an order, seven would be
//! for nothing where one is sent away.
//!
//! Who is sent away is told when to come again, as if they stood in a line of
//! their own that gets on as fast as the shop serves.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::config::Limits;
use crate::chance;

/// A line that gets empty between two waves of those who have begun stands all the same.
const CALM_MS: u64 = 1_000;

pub struct Gate {
    places: Arc<Places>,
    waiting: AtomicUsize,
    waiting_max: usize,
    opened: Instant,
    /// When the line was last empty, in milliseconds after the opening, and how
    /// many had been let in by then.
    empty_ms: AtomicU64,
    entered_when_empty: AtomicU64,
    /// Nobody will have been sent away for long.
    calm_ms: AtomicU64,
    entered: AtomicU64,
    returning: Mutex<Returning>,
    timeout_ms: u64,
    target_ms: u64,
}

impl Gate {
    pub fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Places {
                line: Mutex::new(Line { free: limits.requests_max as isize, ..Line::default() }),
                lent: AtomicUsize::new(0),
                lent_max: limits.requests_outside_max,
            }),
            waiting: AtomicUsize::new(0),
            waiting_max: limits.waiting_max,
            opened: Instant::now(),
            empty_ms: AtomicU64::new(0),
            entered_when_empty: AtomicU64::new(0),
            calm_ms: AtomicU64::new(0),
            entered: AtomicU64::new(0),
            returning: Mutex::default(),
            timeout_ms: limits.waiting_timeout_ms,
            target_ms: limits.waiting_target_ms,
        }
    }

    /// Errs where there are too many: come again after so many seconds. Who is
    /// `critical` goes before all others, and waits as long as in a burst.
    pub async fn enter(&self, critical: bool) -> Result<Place, u64> {
        match self.place(critical).await {
            Some(place) => {
                self.entered.fetch_add(1, Ordering::Relaxed);
                Ok(place)
            }
            None => {
                let now_ms = self.now_ms();
                self.calm_ms.store(now_ms + CALM_MS, Ordering::Relaxed);
                Err(self.retry_after_s(now_ms))
            }
        }
    }

    async fn place(&self, critical: bool) -> Option<Place> {
        if let Some(place) = self.places.try_take() {
            return Some(place);
        }
        let now_ms = self.now_ms();
        let waits = Waits::new(&self.waiting);
        if waits.ahead == 0 {
            self.empty_ms.store(now_ms, Ordering::Relaxed);
            self.entered_when_empty.store(self.entered.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if waits.ahead >= self.waiting_max {
            return None;
        }
        let patience = Duration::from_millis(if critical { self.timeout_ms } else { self.patience_ms(now_ms) });
        tokio::time::timeout(patience, self.places.join(critical)).await.ok()?.ok()
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
        let is_calm = standing_ms <= self.timeout_ms && now_ms >= self.calm_ms.load(Ordering::Relaxed);
        if is_calm { self.timeout_ms } else { self.target_ms }
    }
}

struct Places {
    line: Mutex<Line>,
    lent: AtomicUsize,
    lent_max: usize,
}

/// Who waits for a place, first come, first served, the critical before all others.
#[derive(Default)]
struct Line {
    /// Below none where some came back to a place that another had by then: as
    /// many that leave give theirs to nobody.
    free: isize,
    critical: VecDeque<oneshot::Sender<Place>>,
    others: VecDeque<oneshot::Sender<Place>>,
}

impl Line {
    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        self.critical.pop_front().or_else(|| self.others.pop_front())
    }
}

impl Places {
    /// None where somebody waits: who leaves gives its place to the head of the line.
    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut line = self.line.lock();
        (line.free > 0).then(|| {
            line.free -= 1;
            Place::of(self)
        })
    }

    fn join(self: &Arc<Self>, critical: bool) -> oneshot::Receiver<Place> {
        let (give, given) = oneshot::channel();
        let mut line = self.line.lock();
        if line.free > 0 {
            line.free -= 1;
            _ = give.send(Place::of(self));
            return given;
        }
        let line = if critical { &mut line.critical } else { &mut line.others };
        // Who has gone is at the front before long: nobody's patience is much longer than another's.
        while line.pop_front_if(|first| first.is_closed()).is_some() {}
        line.push_back(give);
        given
    }

    /// Back to one's own place, whoever has it.
    fn take(&self) {
        self.line.lock().free -= 1;
    }

    fn give(self: &Arc<Self>) {
        let mut line = self.line.lock();
        line.free += 1;
        while line.free > 0
            && let Some(next) = line.next()
        {
            line.free -= 1;
            if let Err(place) = next.send(Place::of(self)) {
                // Has gone, and may not give it back from here.
                place.0.held.store(false, Ordering::Relaxed);
                line.free += 1;
            }
        }
    }
}

/// The place of one request, free again when the last clone is dropped.
#[derive(Clone)]
pub struct Place(Arc<Held>);

struct Held {
    places: Arc<Places>,
    /// Not lent, and not left.
    held: AtomicBool,
}

impl Place {
    fn of(places: &Arc<Places>) -> Self {
        Self(Arc::new(Held { places: places.clone(), held: AtomicBool::new(true) }))
    }

    /// For a request that only waits, and works no more.
    pub fn leave(&self) {
        self.0.leave();
    }
}

/// Awaits what needs no processor of ours, while the place is another's. Who
/// comes back does not stand in line: what was begun is finished before more is.
/// Where many have lent theirs already the place is kept, for each of them holds
/// memory. What is there at once costs nothing.
pub async fn lending<T>(place: Option<&Place>, awaited: impl Future<Output = T>) -> T {
    let Some(Place(held)) = place else { return awaited.await };
    let mut awaited = pin!(awaited);
    let mut lent = None;
    std::future::poll_fn(|context| {
        let polled = awaited.as_mut().poll(context);
        if polled.is_pending() && lent.is_none() {
            lent = held.lend();
        }
        polled
    })
    .await
}

impl std::fmt::Debug for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_tuple("Place").field(&self.0.held).finish()
    }
}

impl Held {
    fn lend(&self) -> Option<Lent<'_>> {
        let Places { lent, lent_max, .. } = &*self.places;
        lent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lent| (lent < *lent_max).then_some(lent + 1)).ok()?;
        self.leave();
        Some(Lent(self))
    }

    fn leave(&self) {
        if self.held.swap(false, Ordering::Relaxed) {
            self.places.give();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Until it is dropped.
struct Lent<'a>(&'a Held);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.places.lent.fetch_sub(1, Ordering::Relaxed);
        if !self.0.held.swap(true, Ordering::Relaxed) {
            self.0.places.take();
        }
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

struct Waits<'a> {
    waiting: &'a AtomicUsize,
    ahead: usize,
}

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        Self { waiting, ahead: waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    fn gate(waiting_max: usize, waiting_timeout_ms: u64) -> Gate {
        Gate::new(&Limits { requests_max: 1, waiting_max, waiting_timeout_ms, waiting_target_ms: 1, ..Limits::default() })
    }

    #[tokio::test]
    async fn who_leaves_makes_room_for_the_head_of_the_line() {
        let gate = Arc::new(gate(1, 60_000));
        let first = gate.enter(false).await.unwrap();
        let second = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(false).await }
        });
        while gate.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(gate.enter(false).await.is_err(), "the line is full");
        drop(first);
        assert!(second.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn who_is_critical_goes_first_and_who_has_gone_gets_nothing() {
        let gate = gate(9, 60_000);
        let first = gate.enter(false).await.unwrap();
        let mut waiting = [false, false, true, true].map(|critical| Box::pin(gate.enter(critical)));
        assert!(waiting.iter_mut().all(|waits| is_pending(waits.as_mut())));
        let [mut other, other_gone, critical_gone, critical] = waiting;
        drop((other_gone, critical_gone, first));
        let place = critical.await.unwrap();
        assert!(is_pending(other.as_mut()));
        drop(place);
        let place = other.await.unwrap();
        assert!(gate.places.try_take().is_none());
        drop(place);
        assert!(gate.places.try_take().is_some());
    }

    /// Given a place, but gone before it knew.
    #[tokio::test]
    async fn a_place_that_is_not_taken_is_the_next_ones() {
        let gate = gate(9, 60_000);
        let first = gate.enter(false).await.unwrap();
        let mut waiting = [Box::pin(gate.enter(false)), Box::pin(gate.enter(false))];
        assert!(waiting.iter_mut().all(|waits| is_pending(waits.as_mut())));
        drop(first);
        let [gone, next] = waiting;
        drop(gone);
        assert!(next.await.is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let gate = gate(1, 2);
        let _first = gate.enter(false).await.unwrap();
        assert!(gate.enter(false).await.is_err());
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    fn is_pending<T>(future: Pin<&mut impl Future<Output = T>>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn lending_gate(requests_max: usize, requests_outside_max: usize) -> Gate {
        Gate::new(&Limits { requests_max, requests_outside_max, waiting_max: 0, ..Limits::default() })
    }

    #[tokio::test]
    async fn who_waits_outside_lends_its_place_and_comes_back_at_once() {
        let gate = lending_gate(1, 1);
        let first = gate.enter(false).await.unwrap();
        assert!(gate.enter(false).await.is_err());
        let (answer, outside) = tokio::sync::oneshot::channel();
        let mut first_waits = Box::pin(lending(Some(&first), outside));
        assert!(is_pending(first_waits.as_mut()));
        let second = gate.enter(false).await.unwrap();
        answer.send(()).unwrap();
        first_waits.await.unwrap();
        drop(second);
        assert!(gate.enter(false).await.is_err(), "the first works");
        drop(first);
        assert!(gate.enter(false).await.is_ok());
    }

    #[tokio::test]
    async fn no_more_lend_than_may_and_the_others_keep_their_place() {
        let gate = lending_gate(2, 1);
        let (first, second) = (gate.enter(false).await.unwrap(), gate.enter(false).await.unwrap());
        let mut first_waits = Box::pin(lending(Some(&first), std::future::pending::<()>()));
        let mut second_waits = Box::pin(lending(Some(&second), std::future::pending::<()>()));
        assert!(is_pending(first_waits.as_mut()) && is_pending(second_waits.as_mut()));
        let third = gate.enter(false).await.unwrap();
        assert!(gate.enter(false).await.is_err(), "the second has kept its place");
        // Broken off: back to a place that another has by now.
        drop(first_waits);
        drop(third);
        assert!(gate.enter(false).await.is_err(), "two work");
        assert!(is_pending(second_waits.as_mut()));
        assert!(gate.enter(false).await.is_ok(), "the second may lend now");
    }

    #[tokio::test]
    async fn what_is_there_at_once_lends_nothing() {
        let gate = lending_gate(1, 1);
        let first = gate.enter(false).await.unwrap();
        lending(Some(&first), async { assert_eq!(gate.places.lent.load(Ordering::Relaxed), 0) }).await;
        assert!(gate.enter(false).await.is_err());
    }

    #[tokio::test]
    async fn who_has_left_for_good_gives_its_place_once() {
        let gate = lending_gate(1, 1);
        let first = gate.enter(false).await.unwrap();
        first.leave();
        first.leave();
        let second = gate.enter(false).await.unwrap();
        drop(first);
        assert!(gate.enter(false).await.is_err());
        drop(second);
        assert!(gate.enter(false).await.is_ok());
    }

    proptest::proptest! {
        /// Whatever requests do: each counts while it works and at no other time.
        #[test]
        fn no_place_is_lost_or_made(steps in proptest::collection::vec((0..4u8, 0..16usize), 0..200)) {
            let gate = lending_gate(3, 2);
            let (mut working, mut outside) = (Vec::new(), Vec::new());
            for (step, at) in steps {
                match step {
                    0 => {
                        let place = gate.places.try_take();
                        assert_eq!(place.is_some(), working.len() < 3);
                        working.extend(place);
                    }
                    1 if !working.is_empty() => drop(working.swap_remove(at % working.len())),
                    2 if !working.is_empty() => {
                        let place: Place = working.swap_remove(at % working.len());
                        let lent = place.0.lend();
                        assert_eq!(lent.is_some(), outside.len() < 2);
                        let now = if lent.is_some() { &mut outside } else { &mut working };
                        std::mem::forget(lent);
                        now.push(place);
                    }
                    3 if !outside.is_empty() => {
                        let place = outside.swap_remove(at % outside.len());
                        drop(Lent(&place.0));
                        working.push(place);
                    }
                    _ => {}
                }
                assert_eq!(gate.places.line.lock().free, 3 - working.len() as isize);
            }
        }
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
