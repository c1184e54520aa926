//! What one call may take: processor time, and waiting for something outside.
//!
//! Not time by the wall. Where there is more work than processors, a guest may
//! stand still for seconds through no fault of its own, and what its caller does
//! without it would change with the load of the machine. So the guest's ticks
//! read its thread's processor time, host calls say when they wait, and both
//! together are held to the limit. The wall clock is a bound far behind it, for
//! guests that get neither a processor nor an answer.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;
// The simulation has its time stand still.
use tokio::time::Instant;

use super::TICK;

/// Processor time of the calling thread. The simulation has one of its own: no
/// seed may play otherwise on a slower machine.
pub type ProcessorTime = fn() -> Duration;

pub fn processor_time() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Of the whole process.
pub(super) fn processor_time_of_process() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to the place given, and fails only for clocks that do not exist.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// By when a call is given up that may take `limit`, whoever is to blame.
pub(super) fn wall(limit: Duration) -> Duration {
    3 * limit + Duration::from_secs(10)
}

/// For so long its share may hold back a call: one that a shopper waits for until they
/// had rather be told, and has what it may take by then, at the usual share.
pub(super) fn held_back_max(limit: Duration, is_background: bool) -> Duration {
    if is_background { HELD_BACK_MAX_BACKGROUND } else { HELD_BACK_MAX.max(3 * limit) }
}

/// For so long, and it is no other's fault that it came to no end.
const HELD_BACK_LONG: Duration = Duration::from_secs(1);
const HELD_BACK_MAX: Duration = Duration::from_secs(5);
const HELD_BACK_MAX_BACKGROUND: Duration = Duration::from_secs(60);

/// Why a call is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeUp {
    /// It has taken what it may.
    Limit,
    /// The machine did not let it.
    Wall,
    /// Its plugin has taken far more than its share, or had to wait for it for too long.
    Share,
}

/// The clock of one instance, for one call after the other.
///
/// What is charged to a share is measured wherever the guest gets a thread and leaves
/// it, so that many short calls cost what a long one does. Of others nothing is read
/// before their first tick: that would cost each short call more than the tick that a
/// long one gains by it.
pub(super) struct CallClock {
    pub processor_time: ProcessorTime,
    call: Mutex<Call>,
}

struct Call {
    limit: Duration,
    ends: Instant,
    taken: Duration,
    /// Of it, the part on the processor, as far as that is known.
    ran: Duration,
    /// What its ticks have been told of that.
    told: Duration,
    /// Processor time is read wherever the guest gets a thread and leaves it.
    measured: bool,
    over_share: bool,
    held_back: Duration,
    held_back_since: Option<Instant>,
    held_back_max: Duration,
    /// Processor time up to which it is in `taken`, while the guest has the thread.
    runs_since: Option<Duration>,
    waits_since: Option<Instant>,
    /// The thread does not run the guest, but what it has asked for.
    away: bool,
}

impl Call {
    fn begin(limit: Duration, measured: bool, held_back_max: Duration) -> Self {
        let none = Duration::ZERO;
        Self {
            limit,
            ends: Instant::now() + wall(limit),
            taken: none,
            ran: none,
            told: none,
            measured,
            over_share: false,
            held_back: none,
            held_back_since: None,
            held_back_max,
            runs_since: None,
            waits_since: None,
            away: false,
        }
    }

    fn ran(&mut self, now: Duration, since: Duration) {
        let ran = now.saturating_sub(since);
        self.taken += ran;
        self.ran += ran;
    }

    fn untold(&mut self) -> Duration {
        let untold = self.ran - self.told;
        self.told = self.ran;
        untold
    }

    fn taken(&self) -> Duration {
        self.taken + self.waits_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn held_back(&self) -> Duration {
        self.held_back + self.held_back_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn time_up(&self) -> Option<TimeUp> {
        if self.over_share || self.held_back() >= self.held_back_max {
            return Some(TimeUp::Share);
        }
        if self.taken() >= self.limit {
            return Some(TimeUp::Limit);
        }
        // What was held back had less of the time in which others could have stood in its way.
        let up = if self.held_back() >= HELD_BACK_LONG { TimeUp::Share } else { TimeUp::Wall };
        (Instant::now() >= self.ends).then_some(up)
    }
}

impl CallClock {
    pub fn new(processor_time: ProcessorTime, limit: Duration) -> Self {
        Self { processor_time, call: Mutex::new(Call::begin(limit, false, Duration::MAX)) }
    }

    /// Told by a guest that runs: what it has run since the last tick, and whether
    /// it has to end. The first of a call that is not measured tells of a whole
    /// [`TICK`]: right on average.
    pub fn tick(&self) -> (Duration, Option<TimeUp>) {
        let now = (self.processor_time)();
        let mut call = self.call.lock();
        if let Some(since) = call.runs_since.replace(now) {
            call.ran(now, since);
        }
        // No thread has run for longer than it has: in the simulation none has.
        let ran = if call.measured { call.untold() } else { TICK.min(now) };
        call.measured = true;
        (ran, call.time_up())
    }

    /// What no tick has told of yet, of a call that has ended.
    pub fn rest(&self) -> Duration {
        self.call.lock().untold()
    }

    /// What the call has taken.
    pub fn taken(&self) -> Duration {
        self.call.lock().taken()
    }

    /// Ends the call at once.
    pub fn end_over_share(&self) {
        self.call.lock().over_share = true;
    }

    /// Awaits what the guest waits for, which is its time. What is there at once
    /// costs nothing more.
    pub async fn waits<T>(&self, awaited: impl Future<Output = T>) -> T {
        let mut awaited = pin!(awaited);
        let mut away = None;
        std::future::poll_fn(|context| {
            let polled = awaited.as_mut().poll(context);
            if polled.is_pending() && away.is_none() {
                away = Some(self.asks());
                self.call.lock().waits_since = Some(Instant::now());
            }
            polled
        })
        .await
    }

    /// For as long as the share of its plugin does not let the guest go on.
    pub fn holds_back(&self) -> HeldBack<'_> {
        self.call.lock().held_back_since = Some(Instant::now());
        HeldBack(self)
    }

    /// For as long as others work for the guest, in time of their own.
    pub fn asks(&self) -> Away<'_> {
        self.stops();
        self.call.lock().away = true;
        Away(self)
    }

    pub fn time_up(&self) -> Option<TimeUp> {
        self.call.lock().time_up()
    }

    /// Runs one call of a guest until it has ended, or its time is up while it is
    /// parked.
    pub async fn watch<T>(&self, terms: Terms<impl Fn()>, guest: impl Future<Output = T>) -> Result<T, TimeUp> {
        let Terms { limit, measured, held_back_max, processors, stands_back } = terms;
        *self.call.lock() = Call::begin(limit, measured, held_back_max);
        let mut guest = pin!(guest);
        let mut processors = processors.map(PollSemaphore::new);
        let mut held_back = None;
        let mut guest = std::future::poll_fn(|context| {
            let _processor = match &mut processors {
                Some(processors) => match processors.poll_acquire(context) {
                    Poll::Ready(processor) => processor,
                    Poll::Pending => {
                        held_back.get_or_insert_with(|| {
                            stands_back();
                            self.holds_back()
                        });
                        return Poll::Pending;
                    }
                },
                None => None,
            };
            held_back = None;
            self.runs();
            let polled = guest.as_mut().poll(context);
            self.stops();
            polled
        });
        let mut left = limit;
        loop {
            if let Ok(answer) = tokio::time::timeout(left, &mut guest).await {
                return Ok(answer);
            }
            if let Some(up) = self.time_up() {
                return Err(up);
            }
            left = self.left();
        }
    }

    fn left(&self) -> Duration {
        let call = self.call.lock();
        call.limit.saturating_sub(call.taken()).max(TICK)
    }

    fn runs(&self) {
        let mut call = self.call.lock();
        if call.measured && !call.away {
            call.runs_since = Some((self.processor_time)());
        }
    }

    fn stops(&self) {
        let mut call = self.call.lock();
        if let Some(since) = call.runs_since.take() {
            call.ran((self.processor_time)(), since);
        }
    }
}

/// What holds for one call.
pub(super) struct Terms<StandsBack> {
    pub limit: Duration,
    /// From its beginning, and not from its first tick.
    pub measured: bool,
    /// For so long its share may hold it back.
    pub held_back_max: Duration,
    /// It only runs while it has one of them.
    pub processors: Option<Arc<Semaphore>>,
    /// Called when it begins to wait for one.
    pub stands_back: StandsBack,
}

impl Terms<fn()> {
    pub fn usual(limit: Duration) -> Self {
        Self { limit, measured: false, held_back_max: Duration::MAX, processors: None, stands_back: || () }
    }
}

/// The guest is held back until this is dropped.
pub(super) struct HeldBack<'a>(&'a CallClock);

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        let mut call = self.0.call.lock();
        call.held_back = call.held_back();
        call.held_back_since = None;
    }
}

/// The guest is away until this is dropped.
pub(super) struct Away<'a>(&'a CallClock);

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let mut call = self.0.call.lock();
        call.taken = call.taken();
        (call.waits_since, call.away) = (None, false);
        drop(call);
        self.0.runs();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    thread_local! {
        static PROCESSOR: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// A guest's work of so long on the processor.
    fn works(time: Duration) {
        PROCESSOR.set(PROCESSOR.get() + time);
    }

    fn clock() -> CallClock {
        CallClock::new(|| PROCESSOR.get(), ms(200))
    }

    /// Ticks at its beginning, where nothing is known, and after each piece of work.
    fn works_and_ticks(clock: &CallClock, times: u64) -> Option<TimeUp> {
        clock.tick();
        (0..times).find_map(|_| {
            works(ms(5));
            clock.tick().1
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_works_is_stopped_at_its_limit() {
        let clock = clock();
        assert_eq!(clock.watch(Terms::usual(ms(200)), async { works_and_ticks(&clock, 39) }).await, Ok(None));
        assert_eq!(clock.watch(Terms::usual(ms(200)), async { works_and_ticks(&clock, 40) }).await, Ok(Some(TimeUp::Limit)));
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_a_processor_is_not_the_guests() {
        let clock = clock();
        let starved = clock.watch(Terms::usual(ms(200)), async {
            clock.tick();
            for _ in 0..10 {
                tokio::time::advance(ms(1_000)).await;
                works(ms(1));
                assert_eq!(clock.tick(), (ms(1), None));
            }
            tokio::time::advance(ms(600)).await;
            clock.tick().1
        });
        assert_eq!(starved.await, Ok(Some(TimeUp::Wall)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_waits_is_dropped_at_its_limit_and_work_before_counts() {
        for pieces in [0, 10] {
            let (clock, begun) = (clock(), Instant::now());
            let parked = clock.watch(Terms::usual(ms(200)), async {
                works_and_ticks(&clock, pieces);
                tokio::time::advance(ms(5 * pieces)).await;
                clock.waits(std::future::pending::<()>()).await;
            });
            assert_eq!(parked.await, Err(TimeUp::Limit));
            assert_eq!(begun.elapsed(), ms(200), "{pieces}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_add_up() {
        let (clock, begun) = (clock(), Instant::now());
        let waits = clock.watch(Terms::usual(ms(200)), async {
            loop {
                clock.waits(tokio::time::sleep(ms(30))).await;
            }
        });
        assert_eq!(waits.await, Err::<(), _>(TimeUp::Limit));
        assert!((200..=210).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_take_in_its_name_is_theirs() {
        let clock = clock();
        let asked = clock.watch(Terms::usual(ms(200)), async {
            works_and_ticks(&clock, 10);
            for _ in 0..10 {
                let _away = clock.asks();
                works(ms(100));
                tokio::time::sleep(ms(100)).await;
                works(ms(100));
            }
            works(ms(5));
            (clock.tick(), clock.call.lock().taken)
        });
        assert_eq!(asked.await, Ok(((ms(5), None), ms(55))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_thread_does_between_polls_is_not_the_guests() {
        let clock = clock();
        let polled = clock.watch(Terms::usual(ms(200)), async {
            clock.tick();
            works(ms(4));
            tokio::task::yield_now().await;
            works(ms(4));
            clock.tick();
            clock.call.lock().taken
        });
        let others = async {
            loop {
                works(ms(1_000));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            taken = polled => assert_eq!(taken, Ok(ms(8))),
            () = others => {}
        }
    }

    /// One that is parked where nobody has said so.
    #[tokio::test(start_paused = true)]
    async fn the_wall_ends_what_nothing_else_ends() {
        let (clock, begun) = (clock(), Instant::now());
        assert_eq!(clock.watch(Terms::usual(ms(200)), std::future::pending::<()>()).await, Err(TimeUp::Wall));
        assert_eq!(begun.elapsed(), wall(ms(200)));
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_short_calls_are_charged_like_a_long_one() {
        let clock = clock();
        let mut charged = Duration::ZERO;
        for _ in 0..10_000 {
            let terms = Terms { measured: true, ..Terms::usual(ms(200)) };
            let short = clock.watch(terms, async {
                works(Duration::from_micros(20));
                tokio::task::yield_now().await;
                works(Duration::from_micros(10));
            });
            assert_eq!(short.await, Ok(()));
            charged += clock.rest();
        }
        assert_eq!(charged, ms(300));
        let terms = Terms { measured: true, ..Terms::usual(ms(200)) };
        let long = clock.watch(terms, async {
            works(ms(7));
            let (told, _) = clock.tick();
            works(ms(2));
            told
        });
        assert_eq!((long.await, clock.rest()), (Ok(ms(7)), ms(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_its_share_holds_back_for_too_long_is_told_so() {
        let (clock, begun) = (clock(), Instant::now());
        let terms = || Terms { held_back_max: HELD_BACK_MAX, ..Terms::usual(ms(200)) };
        let held_back = clock.watch(terms(), async {
            let _held_back = clock.holds_back();
            std::future::pending::<()>().await;
        });
        assert_eq!(held_back.await, Err(TimeUp::Share));
        assert!(begun.elapsed() < HELD_BACK_MAX + ms(400), "{:?}", begun.elapsed());
        let (processors, stood_back) = (Arc::new(Semaphore::new(0)), Cell::new(0));
        let terms = Terms { limit: ms(200), measured: true, held_back_max: HELD_BACK_MAX, processors: Some(processors), stands_back: || stood_back.set(stood_back.get() + 1) };
        assert_eq!((clock.watch(terms, async {}).await, stood_back.get()), (Err(TimeUp::Share), 1));
    }

    #[test]
    fn processor_time_gets_on_with_work_alone() {
        let begun = processor_time();
        while processor_time() == begun {}
    }
}
