//! What a plugin may take over time, whatever each of its calls may take.
//!
//! Limits of one call do not add up to one of the plugin: many calls at their
//! limits take the machine from everyone else. So each plugin has an account of
//! processor time and of storage operations. They are token buckets: refilled by
//! its share of the machine, with room for a burst, and in debt after a call that
//! took more. A plugin with a share of the whole is not held back at all.
//!
//! What happens to a plugin over its share depends on how it was entered. Pages,
//! events and jobs wait: before they begin, in slices of a [`TICK`] while they
//! run (`state.rs`), and before they commit. A provider of an extension point has
//! a caller that waits for it, so it is refused at once (`extension.rs`), but only
//! while others want the processors (`pressure.rs`); where the caller cannot do
//! without it, the call waits. A millisecond of each of its calls is free: its share
//! grows with how often the shop asks it.
//!
//! How long a provider may keep a shopper waiting is no matter of shares: see
//! `breaker.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
// The simulation has its time stand still.
use tokio::time::Instant;

use super::{CallError, CallErrorKind, TICK};

/// In percent: not held back.
pub const SHARE_WHOLE: u32 = 100;
/// Write operations that the store takes in a second, in passing: what a share is of.
/// One for each record, and one for each KiB: see `Txn::cost`.
const STORAGE_PER_SECOND: f64 = 10_000.0;
/// What a commit costs beside its writes, in storage operations.
const COMMIT_COST: u32 = 10;
/// So much of the past a plugin may have saved up.
const PROCESSOR_BURST: Duration = Duration::from_millis(250);
const STORAGE_BURST: Duration = Duration::from_secs(2);
/// What one commit may take, in bursts: a commit cannot be slowed down once it has
/// begun, and all others wait behind it. Its debt is paid before the next page has
/// waited for too long.
const COMMIT_BURSTS_MAX: f64 = 1.5;
/// For a permit, for processor time and for storage, each: then a shopper gets 503.
const WAIT_MAX: Duration = Duration::from_secs(1);
const STORAGE_WAIT_MAX: Duration = Duration::from_secs(5);
/// The same for what no shopper waits for; it is tried again later.
const WAIT_MAX_BACKGROUND: Duration = Duration::from_secs(30);
/// Requests that wait for a permit, for each that has one.
const WAITING_PER_PERMIT: usize = 2;
/// Providers that take less of a call on average are never refused, and so much of
/// each call is free: what they take altogether is bounded by what the shop asks them.
pub(super) const CHEAP: Duration = Duration::from_millis(1);
/// Work that was done in a plugin's name puts it into debt for so long. What is more
/// is paid by half of what it earns from then on.
const APART_MAX: Duration = Duration::from_secs(1);
/// For so long the operator sees that it was over its share.
const REMEMBERED: Duration = Duration::from_secs(10);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What shares are of.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    pub processors: usize,
    /// Instances of the shop's graph at one time.
    pub instances: usize,
}

/// Of what a plugin had taken more than its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Processor,
    Storage,
    Calls,
}

impl Resource {
    pub fn in_plain_words(self) -> &'static str {
        match self {
            Resource::Processor => "processor time",
            Resource::Storage => "storage operations",
            Resource::Calls => "calls at one time",
        }
    }
}

/// How one plugin stands. Kept across its versions.
pub struct Account {
    plugin: ArcSwap<String>,
    percent: AtomicU32,
    state: Mutex<State>,
    /// Requests that it answers at one time, and those that others answer for it.
    calls: ArcSwap<Semaphore>,
    inner_calls: ArcSwap<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: AtomicUsize,
    /// In milliseconds, of its callers' time in each call; none was given is 0.
    latency_ms: AtomicU32,
    /// Storage operations of one commit.
    commit_max: AtomicUsize,
    /// Of the processors, those that it may have at one time.
    processors: ArcSwap<Semaphore>,
    /// One commit of it after the other waits for its turn.
    storing: tokio::sync::Mutex<()>,
    pub refused: AtomicU64,
    pub delayed_ms: AtomicU64,
}

struct State {
    processor: Bucket,
    storage: Bucket,
    /// Of late: asked how often, and what it took.
    asked: f64,
    took: f64,
    over: Option<(Instant, Resource)>,
    logged: Option<Instant>,
}

/// Tokens; below none is debt.
struct Bucket {
    level: f64,
    at: Instant,
    per_second: f64,
    most: f64,
    /// Paid by half of what is earned.
    deferred: f64,
}

impl Bucket {
    fn new(per_second: f64, burst: Duration) -> Self {
        let most = per_second * burst.as_secs_f64();
        Self { level: most, at: Instant::now(), per_second, most, deferred: 0.0 }
    }

    fn refill(&mut self, now: Instant) -> f64 {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        let pays = (earned / 2.0).min(self.deferred);
        self.deferred -= pays;
        self.level = (self.level + earned - pays).min(self.most);
        self.at = now;
        self.level
    }

    /// Takes so many, but leaves no deeper debt than `debt_max` where the rest is deferred.
    fn take_deferring(&mut self, tokens: f64, debt_max: f64) {
        let now = tokens.min((self.level + debt_max).max(0.0));
        self.level -= now;
        self.deferred += tokens - now;
    }

    /// How long until there is no debt.
    fn paid_in(&mut self, now: Instant) -> Option<Duration> {
        let level = self.refill(now);
        (level < 0.0).then(|| Duration::from_secs_f64((-level / self.per_second).clamp(0.001, 60.0)))
    }
}

impl Default for Account {
    fn default() -> Self {
        let one = || ArcSwap::from_pointee(Semaphore::new(1));
        Self {
            plugin: ArcSwap::default(),
            percent: AtomicU32::new(SHARE_WHOLE),
            state: Mutex::new(State {
                processor: Bucket::new(1.0, PROCESSOR_BURST),
                storage: Bucket::new(1.0, STORAGE_BURST),
                asked: 0.0,
                took: 0.0,
                over: None,
                logged: None,
            }),
            calls: one(),
            inner_calls: one(),
            waiting: AtomicUsize::new(0),
            waiting_max: AtomicUsize::new(0),
            latency_ms: AtomicU32::new(0),
            commit_max: AtomicUsize::new(usize::MAX),
            processors: one(),
            storing: tokio::sync::Mutex::default(),
            refused: AtomicU64::new(0),
            delayed_ms: AtomicU64::new(0),
        }
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(out, "Account({}, {} %)", self.plugin.load(), self.percent())
    }
}

impl Account {
    /// A changed share begins with a full burst.
    pub fn set_share(&self, plugin: &str, percent: u32, capacity: Capacity) {
        if self.percent() == percent && **self.plugin.load() == plugin {
            return;
        }
        let part = f64::from(percent) / f64::from(SHARE_WHOLE);
        self.plugin.store(Arc::new(plugin.to_owned()));
        {
            let mut state = self.state.lock();
            state.processor = Bucket::new(part * capacity.processors as f64, PROCESSOR_BURST);
            state.storage = Bucket::new(part * STORAGE_PER_SECOND, STORAGE_BURST);
            self.commit_max.store((state.storage.most * COMMIT_BURSTS_MAX) as usize, Relaxed);
        }
        let calls = ((part * capacity.instances as f64) as usize).max(2);
        self.waiting_max.store(calls * WAITING_PER_PERMIT, Relaxed);
        self.calls.store(Arc::new(Semaphore::new(calls)));
        self.inner_calls.store(Arc::new(Semaphore::new(calls)));
        // Its guests cannot be taken off a processor within a tick: some are always left to others.
        self.processors.store(Arc::new(Semaphore::new((capacity.processors / 2).max(1))));
        self.percent.store(percent, Relaxed);
    }

    pub fn percent(&self) -> u32 {
        self.percent.load(Relaxed)
    }

    /// What each of its calls may take of its caller's time, by the operator's word.
    pub fn set_latency_ms(&self, ms: Option<u32>) {
        self.latency_ms.store(ms.unwrap_or(0), Relaxed);
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        let ms = self.latency_ms.load(Relaxed);
        (ms > 0).then(|| Duration::from_millis(ms.into()))
    }

    pub fn is_limited(&self) -> bool {
        self.percent() < SHARE_WHOLE
    }

    /// What it was over its share of, within the last seconds.
    pub fn over(&self) -> Option<Resource> {
        let (at, resource) = self.state.lock().over?;
        (at.elapsed() < REMEMBERED).then_some(resource)
    }

    /// So that no more than some of the processors run it at one time; none where all may.
    pub(super) fn processors(&self) -> Option<Arc<Semaphore>> {
        self.is_limited().then(|| self.processors.load_full())
    }

    /// Takes processor time that was used. How it stands then.
    pub(super) fn charge(&self, time: Duration) -> Standing {
        let mut state = self.state.lock();
        state.took += time.as_secs_f64();
        if !self.is_limited() {
            return Standing::Within;
        }
        let State { processor, .. } = &mut *state;
        processor.level -= time.as_secs_f64();
        let level = processor.refill(Instant::now());
        match level {
            level if level >= 0.0 => Standing::Within,
            level if level >= -processor.most => Standing::Over,
            _ => Standing::FarOver,
        }
    }

    /// Takes processor time that nobody else wanted: no debt beyond a burst comes of it.
    pub(super) fn charge_spare(&self, time: Duration) {
        let mut state = self.state.lock();
        state.took += time.as_secs_f64();
        let State { processor, .. } = &mut *state;
        let level = processor.refill(Instant::now());
        processor.level = (level - time.as_secs_f64()).max(level.min(-processor.most));
    }

    /// Takes processor time for what was done in its name and not in a call of it.
    pub fn charge_apart(&self, time: Duration) {
        if self.is_limited() {
            let processor = &mut self.state.lock().processor;
            processor.refill(Instant::now());
            processor.take_deferring(time.as_secs_f64(), processor.per_second * APART_MAX.as_secs_f64());
        }
    }

    pub fn owes_processor_time(&self) -> bool {
        let owes = self.is_limited() && self.state.lock().processor.refill(Instant::now()) < 0.0;
        if owes {
            self.tell(Resource::Processor);
        }
        owes
    }

    /// How long until it owes no processor time.
    pub fn owes_for(&self) -> Option<Duration> {
        let owes = if self.is_limited() { self.state.lock().processor.paid_in(Instant::now()) } else { None };
        if owes.is_some() {
            self.tell(Resource::Processor);
        }
        owes
    }

    /// A provider was asked once more.
    pub(super) fn count_call(&self) {
        const REMEMBERED_CALLS: f64 = 64.0;
        let mut state = self.state.lock();
        state.asked += 1.0;
        if state.asked > REMEMBERED_CALLS {
            state.asked /= 2.0;
            state.took /= 2.0;
        }
    }

    /// Whether this provider is to be left out: in debt, and dear.
    pub(super) fn is_over(&self) -> bool {
        if !self.is_limited() {
            return false;
        }
        let mut state = self.state.lock();
        let in_debt = state.processor.refill(Instant::now()) < 0.0;
        in_debt && state.took > state.asked.max(1.0) * CHEAP.as_secs_f64()
    }

    /// Waits until it is out of debt, and takes one [`TICK`] in advance.
    pub(super) async fn slice(&self) {
        let begun = Instant::now();
        loop {
            let wait = {
                let mut state = self.state.lock();
                match state.processor.paid_in(Instant::now()) {
                    None => {
                        state.processor.level -= TICK.as_secs_f64();
                        break;
                    }
                    wait => wait,
                }
            };
            self.tell(Resource::Processor);
            tokio::time::sleep(wait.unwrap_or(TICK)).await;
        }
        self.delayed(begun);
    }

    /// Before what others would wait behind it for.
    pub async fn settle(&self, is_background: bool) -> Result<(), CallError> {
        if !self.is_limited() {
            return Ok(());
        }
        self.out_of_debt(if is_background { WAIT_MAX_BACKGROUND } else { WAIT_MAX }).await
    }

    /// Of a provider that its caller cannot do without.
    pub(super) async fn wait_for_share(&self) -> Result<(), CallError> {
        self.out_of_debt(WAIT_MAX).await
    }

    /// Waits until it is out of debt, for so long.
    async fn out_of_debt(&self, wait_max: Duration) -> Result<(), CallError> {
        let begun = Instant::now();
        loop {
            let Some(wait) = self.state.lock().processor.paid_in(Instant::now()) else {
                self.delayed(begun);
                return Ok(());
            };
            self.tell(Resource::Processor);
            if begun.elapsed() + wait > wait_max {
                return Err(self.refuse(Resource::Processor));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Before work that no shopper waits for.
    pub(super) async fn begin_background(&self) -> Result<(), CallError> {
        if self.is_limited() { self.out_of_debt(WAIT_MAX_BACKGROUND).await } else { Ok(()) }
    }

    /// Lets a request in, when there is room for one more of this plugin. `inner`:
    /// one that the plugin itself has sent to the shop.
    pub async fn admit(self: &Arc<Self>, inner: bool) -> Result<Admission, CallError> {
        let calls = if inner { &self.inner_calls } else { &self.calls }.load_full();
        let permit = match calls.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait_for(calls).await?,
        };
        self.out_of_debt(WAIT_MAX).await?;
        Ok(Admission { account: self.clone(), _permit: Some(permit) })
    }

    async fn wait_for(&self, calls: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, CallError> {
        struct Waits<'a>(&'a AtomicUsize);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        let begun = Instant::now();
        let ahead = self.waiting.fetch_add(1, Relaxed);
        let _waits = Waits(&self.waiting);
        if ahead >= self.waiting_max.load(Relaxed) {
            return Err(self.refuse(Resource::Calls));
        }
        let permit = tokio::time::timeout(WAIT_MAX, calls.acquire_owned()).await;
        self.delayed(begun);
        permit.ok().and_then(Result::ok).ok_or_else(|| self.refuse(Resource::Calls))
    }

    /// Whether a unit that would commit so many operations may write more. Errors
    /// say what would help.
    pub fn may_write_more(&self, operations: usize) -> Result<(), String> {
        let max = self.commit_max.load(Relaxed);
        if operations < max || !self.is_limited() {
            return Ok(());
        }
        let (percent, plugin) = (self.percent(), self.plugin.load());
        Err(format!(
            "more than {max} records and KiB written in one unit by a share of {percent} %: \
             write the rest in jobs, or have the operator raise `{plugin}` under [plugins.shares] in souk.toml"
        ))
    }

    /// Takes operations that are not waited for.
    pub fn charge_storage(&self, operations: usize) {
        if self.is_limited() {
            self.state.lock().storage.level -= operations as f64;
        }
    }

    /// Waits for the turn of a commit of so many operations.
    pub async fn store(&self, operations: usize, is_background: bool) -> Result<(), CallError> {
        if !self.is_limited() {
            return Ok(());
        }
        let wait_max = if is_background { WAIT_MAX_BACKGROUND } else { STORAGE_WAIT_MAX };
        let begun = Instant::now();
        let Ok(_turn) = tokio::time::timeout(wait_max, self.storing.lock()).await else { return Err(self.refuse(Resource::Storage)) };
        loop {
            let wait = {
                let mut state = self.state.lock();
                match state.storage.paid_in(Instant::now()) {
                    None => {
                        state.storage.level -= operations as f64 + f64::from(COMMIT_COST);
                        break;
                    }
                    Some(wait) => wait,
                }
            };
            self.tell(Resource::Storage);
            if begun.elapsed() + wait > wait_max {
                return Err(self.refuse(Resource::Storage));
            }
            tokio::time::sleep(wait).await;
        }
        self.delayed(begun);
        Ok(())
    }

    fn delayed(&self, since: Instant) {
        self.delayed_ms.fetch_add(since.elapsed().as_millis() as u64, Relaxed);
    }

    pub(super) fn refuse(&self, resource: Resource) -> CallError {
        self.refused.fetch_add(1, Relaxed);
        self.tell(resource);
        CallError { plugin: Some(self.plugin.load().to_string()), kind: CallErrorKind::Share, message: self.message(resource) }
    }

    pub(super) fn message(&self, resource: Resource) -> String {
        let (of, percent, plugin) = (resource.in_plain_words(), self.percent(), self.plugin.load());
        format!("{plugin} has used its share of {of}, {percent} % of the shop's; `{plugin}` under [plugins.shares] in souk.toml sets it")
    }

    /// The log, seldom: a flood must not become one of lines.
    fn tell(&self, resource: Resource) {
        let now = Instant::now();
        {
            let mut state = self.state.lock();
            state.over = Some((now, resource));
            if state.logged.is_some_and(|last| now - last < LOG_INTERVAL) {
                return;
            }
            state.logged = Some(now);
        }
        let (refused, delayed_ms) = (self.refused.load(Relaxed), self.delayed_ms.load(Relaxed));
        tracing::warn!(
            plugin = %self.plugin.load(), share_percent = self.percent(), of = resource.in_plain_words(), refused, delayed_ms,
            "over its share: it waits or is left out, and the others go on"
        );
    }
}

/// How a plugin stands with the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Within,
    Over,
    /// By more than a whole burst.
    FarOver,
}

/// A request that was let in, until it is dropped.
#[derive(Debug)]
pub struct Admission {
    account: Arc<Account>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: Capacity = Capacity { processors: 2, instances: 50 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn account(percent: u32) -> Arc<Account> {
        let account = Arc::new(Account::default());
        account.set_share("guest", percent, CAPACITY);
        account
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_a_debt_is_paid_by_waiting() {
        let account = account(20);
        assert_eq!(account.charge(ms(90)), Standing::Within);
        assert_eq!(account.charge(ms(50)), Standing::Over);
        let begun = Instant::now();
        account.slice().await;
        // A fifth of two processors.
        assert!((100..=110).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        assert_eq!(account.over(), Some(Resource::Processor));
        assert_eq!(account.charge(ms(300)), Standing::FarOver);
    }

    #[tokio::test(start_paused = true)]
    async fn slices_are_given_one_by_one() {
        let account = account(20);
        account.charge(ms(100));
        let begun = Instant::now();
        let waits: Vec<_> = (0..9).map(|_| tokio::spawn({ let account = account.clone(); async move { account.slice().await } })).collect();
        for wait in waits {
            wait.await.unwrap();
        }
        assert!(begun.elapsed() >= ms(8 * 5 * 5 / 2), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_is_never_held_back() {
        let account = account(SHARE_WHOLE);
        assert_eq!(account.charge(ms(1_000_000)), Standing::Within);
        let begun = Instant::now();
        account.store(1_000_000, false).await.unwrap();
        account.store(1_000_000, false).await.unwrap();
        assert!(!account.is_over() && begun.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn commits_wait_for_their_turn_and_not_for_ever() {
        let account = account(20);
        account.store(4_000, false).await.unwrap();
        let begun = Instant::now();
        account.store(2_000, false).await.unwrap();
        assert!(begun.elapsed() <= ms(20), "{:?}", begun.elapsed());
        account.store(20_000, false).await.unwrap();
        assert!((990..=1_100).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        let refused = account.store(1, false).await.unwrap_err();
        assert_eq!((refused.kind, account.refused.load(Relaxed)), (CallErrorKind::Share, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_in_its_name_is_owed_and_says_nothing_of_its_calls() {
        let account = account(20);
        account.charge_apart(ms(90));
        assert!(!account.owes_processor_time());
        account.charge_apart(ms(90));
        assert!(account.owes_processor_time() && !account.is_over());
        assert_eq!(account.over(), Some(Resource::Processor));
        tokio::time::advance(ms(210)).await;
        assert!(!account.owes_processor_time());
    }

    #[tokio::test(start_paused = true)]
    async fn a_merge_of_minutes_is_owed_and_leaves_half_of_its_share_to_its_pages() {
        let account = account(20);
        account.charge_apart(ms(60_000));
        let begun = Instant::now();
        assert!(account.settle(false).await.is_ok() || account.settle(true).await.is_ok());
        assert!(begun.elapsed() <= ms(2_100), "{:?}", begun.elapsed());
        account.charge(ms(200));
        tokio::time::advance(ms(600)).await;
        assert!(account.owes_processor_time(), "half of 0.4 processors");
        tokio::time::advance(Duration::from_secs(400)).await;
        account.charge(ms(90));
        assert!(!account.owes_processor_time());
        account.charge(ms(210));
        tokio::time::advance(ms(550)).await;
        assert!(!account.owes_processor_time(), "all of it again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_else_wanted_leaves_a_debt_of_one_burst() {
        let account = account(20);
        account.count_call();
        (0..100).for_each(|_| account.charge_spare(ms(100)));
        assert!(account.is_over());
        tokio::time::advance(ms(260)).await;
        assert!(!account.is_over());
    }

    #[test]
    fn a_commit_has_an_end_by_the_share() {
        for (percent, max) in [(20, 6_000), (1, 300)] {
            let account = account(percent);
            assert_eq!(account.may_write_more(max - 1), Ok(()));
            let refused = account.may_write_more(max).unwrap_err();
            assert!(refused.contains(&format!("{max} records")) && refused.contains("[plugins.shares]"), "{refused}");
        }
        assert_eq!(account(SHARE_WHOLE).may_write_more(usize::MAX), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_later_attempt_writes_beyond_the_first_is_owed() {
        let account = account(20);
        account.store(4_000, false).await.unwrap();
        account.charge_storage(1_990);
        let begun = Instant::now();
        account.store(1, false).await.unwrap();
        assert!((1_000..=1_010).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_requests_are_let_in_and_some_wait() {
        let account = account(20);
        let mut inside = Vec::new();
        for _ in 0..10 {
            inside.push(account.admit(false).await.unwrap());
        }
        let begun = Instant::now();
        assert_eq!(account.admit(false).await.unwrap_err().kind, CallErrorKind::Share);
        assert!(begun.elapsed() >= WAIT_MAX);
        assert!(account.admit(true).await.is_ok(), "what it has asked the shop itself has permits of its own");
        inside.pop();
        assert!(account.admit(false).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cheap_provider_is_asked_also_in_debt() {
        let account = account(1);
        for _ in 0..1_000 {
            account.count_call();
            account.charge(Duration::from_micros(500));
        }
        assert!(!account.is_over());
        for _ in 0..10 {
            account.count_call();
            account.charge(ms(150));
        }
        assert!(account.is_over());
        tokio::time::advance(Duration::from_secs(120)).await;
        assert!(!account.is_over());
    }
}
