//! Runs handlers in units: again where another unit won, then commits, and
//! only then lets anything out.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, OwnedMutexGuard, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::idempotency::InFlight;
use super::jobs::FailingJob;
use super::metrics::{Metrics, count};
use super::retry::Retry;
use super::trouble::Troubles;
use super::unit::{Kind, Limits, Shopper, Staged, StagedEffect, Start, Turn};
use super::{PluginAnswer, PluginCall, Plugins, SharedUnit, Unit, UnitError, keys};
use crate::chance::{self, Chance};
use crate::engine::bindings::exports::souk::web::handler::Response;
use crate::engine::{Account, CallError, CallErrorKind};
use crate::front::{self, Answer, Call, Failure, FailureKind, Place, SessionChange};
use crate::store::{CommitError, Store, Txn};

/// Runs of one handler before its unit is given up as conflicting.
const ATTEMPTS_MAX: u32 = 12;
/// Units that conflicted on one key take turns; keys share these places.
const TURNS: usize = 256;
/// How long an answer waits for the effects of its unit.
const AWAIT_EFFECTS_MAX: Duration = Duration::from_secs(10);
/// Effects that need nobody outside are done by then, also in a busy shop.
const EFFECTS_OUR_OWN: Duration = Duration::from_millis(100);

/// UTC milliseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

pub struct Options {
    /// For cron expressions.
    pub time_zone: jiff::tz::TimeZone,
    pub now: Clock,
    /// Drops pages with these tags; called after the commit and before the answer.
    pub invalidate: Box<dyn Fn(&[String]) + Send + Sync>,
    pub retry: Retry,
}

impl Default for Options {
    fn default() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        Self { time_zone: jiff::tz::TimeZone::UTC, now: Arc::new(now), invalidate: Box::new(|_| ()), retry: Retry::default() }
    }
}

pub struct Runner<P> {
    pub(super) store: Store,
    pub(super) plugins: Arc<P>,
    pub(super) options: Options,
    pub(super) in_flight: InFlight,
    pub(super) wake: Wake,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) metrics: Metrics,
    /// The last event that each subscriber has behind it; its cursor may lag.
    pub(super) reached: Mutex<FxHashMap<String, keys::Position>>,
    /// What fails now, and is tried again.
    pub(super) troubles: Troubles,
    pub(super) failing_jobs: Mutex<BTreeMap<(String, String), FailingJob>>,
    turns: Vec<Arc<tokio::sync::Mutex<()>>>,
    /// Nobody outside knows which keys share a place.
    turns_seed: u64,
}

/// How commits tell the background that there is something to do.
pub(super) struct Wake {
    /// Sequence of the last commit that published events.
    pub events: watch::Sender<u64>,
    /// Counts up when an event was parked, or is to be tried again now.
    pub parked: watch::Sender<u64>,
    pub effects: mpsc::UnboundedSender<StagedEffect>,
    /// Taken by the dispatcher when it starts.
    pub effects_receiver: Mutex<Option<mpsc::UnboundedReceiver<StagedEffect>>>,
    pub jobs: Notify,
    /// When the scheduler looks for jobs again, in UTC milliseconds: what is due
    /// later need not wake it. It would walk past every job that was called off.
    pub jobs_looked_for_ms: AtomicU64,
    pub effect_waiters: Mutex<FxHashMap<keys::Key, Vec<oneshot::Sender<()>>>>,
}

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("other units won at each of {ATTEMPTS_MAX} attempts, last on {0}")]
    Conflict(String),
    #[error("{0}")]
    Unavailable(String),
    /// Whether it was committed shows when the store is opened again.
    #[error("{0}")]
    Unconfirmed(String),
}

impl From<UnitError> for RunError {
    fn from(error: UnitError) -> Self {
        RunError::Unavailable(error.to_string())
    }
}

impl From<crate::store::StoreError> for RunError {
    fn from(error: crate::store::StoreError) -> Self {
        RunError::Unavailable(error.to_string())
    }
}

impl RunError {
    /// Whether trying again later is likely to help without anyone changing
    /// the plugin: such failures do not use up attempts.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            RunError::Call(e) => matches!(e.kind, CallErrorKind::Overloaded | CallErrorKind::Share),
            RunError::Conflict(_) | RunError::Unavailable(_) | RunError::Unconfirmed(_) => true,
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, RunError::Call(e) if e.kind == CallErrorKind::NotFound)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let message = error.to_string();
        match error {
            RunError::Call(e) => {
                let kind = match e.kind {
                    CallErrorKind::Trap | CallErrorKind::Memory | CallErrorKind::Output => FailureKind::Plugin,
                    CallErrorKind::Deadline => FailureKind::Deadline,
                    CallErrorKind::Overloaded => FailureKind::Overloaded,
                    CallErrorKind::Share => FailureKind::Share,
                    _ => FailureKind::Unavailable,
                };
                Failure { kind, plugin: e.plugin, message: e.message }
            }
            RunError::Conflict(_) => Failure { kind: FailureKind::Conflict, plugin: None, message },
            RunError::Unavailable(_) => Failure { kind: FailureKind::Unavailable, plugin: None, message },
            RunError::Unconfirmed(_) => Failure { kind: FailureKind::Unconfirmed, plugin: None, message },
        }
    }
}

/// What to do with the unit of a handler that has answered.
pub(super) enum Verdict<T> {
    Commit(T),
    RollBack(T),
}

pub(super) struct Outcome<T> {
    /// None: `prepare` said that there is nothing to do.
    pub value: Option<T>,
    pub committed: bool,
    /// The handler itself wrote.
    pub wrote: bool,
    pub effects: Vec<StagedEffect>,
    /// Ended.
    pub unit: SharedUnit,
}

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command's own words.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl<P: Plugins> Runner<P> {
    pub fn new(store: Store, plugins: Arc<P>, options: Options) -> Arc<Self> {
        let (effects, effects_receiver) = mpsc::unbounded_channel();
        let wake = Wake {
            events: watch::Sender::new(0),
            parked: watch::Sender::new(0),
            effects,
            effects_receiver: Mutex::new(Some(effects_receiver)),
            jobs: Notify::new(),
            jobs_looked_for_ms: AtomicU64::new(u64::MAX),
            effect_waiters: Mutex::default(),
        };
        Arc::new(Self {
            store,
            plugins,
            options,
            in_flight: InFlight::default(),
            wake,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            metrics: Metrics::default(),
            reached: Mutex::default(),
            troubles: Troubles::default(),
            failing_jobs: Mutex::default(),
            turns: (0..TURNS).map(|_| Arc::default()).collect(),
            turns_seed: chance::below(u64::MAX),
        })
    }

    /// Starts the background: events, effects, jobs, expiry. Returns when all
    /// that must be in place before the first request is.
    pub async fn start(self: &Arc<Self>) -> Result<(), RunError> {
        self.find_troubles()?;
        self.start_outbox().await?;
        self.start_effects()?;
        self.start_jobs().await?;
        self.start_expiry();
        self.tasks.spawn(self.clone().resume_migrations());
        Ok(())
    }

    /// Ends the background; what is in hand is finished first.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub fn metrics(&self, out: &mut String) {
        self.metrics.write(out, self.store.batches(), self.store.failed().borrow().is_some());
        self.troubles.write_metrics(out, self.now_ms());
    }

    pub(super) fn now_ms(&self) -> u64 {
        (self.options.now)()
    }

    /// One request as one unit of work.
    pub async fn request(self: &Arc<Self>, call: Call) -> Result<Answer, Failure> {
        let Call { plugin, request, session, idempotency, place, origin, admission } = call;
        let live = self.plugins.live().borrow().clone();
        let cross_site =
            live.get(&*plugin).is_some_and(|p| p.manifest.routes.iter().any(|r| r.cross_site && r.name == request.route));
        let start = Start {
            kind: Kind::Request,
            now_ms: self.now_ms(),
            request_id: request.request_id.clone(),
            plugin: Some(plugin.clone()),
            live,
            limits: &Limits::USUAL,
            shopper: if cross_site { Shopper::None } else { Shopper::Browser(session) },
            place,
            // The permit itself is kept until the answer.
            payer: admission.as_ref().map(|admission| admission.account().clone()),
            origin,
        };
        let call = PluginCall::Web(request);
        match idempotency {
            Some(idempotency) => self.request_once(&plugin, call, start, idempotency).await,
            None => {
                let outcome = self.run(&plugin, &call, start, |_| Ok(true), |unit, response| finish_request(unit, response, &plugin)).await?;
                self.answer(outcome).await.ok_or_else(|| Failure {
                    kind: FailureKind::Unavailable,
                    plugin: None,
                    message: "the unit did not run".into(),
                })
            }
        }
    }

    /// Turns a finished request's unit into what the front sends, once the
    /// effects have come back that it wants to wait for.
    pub(super) async fn answer(&self, outcome: Outcome<Response>) -> Option<Answer> {
        let response = outcome.value?;
        let (session, impersonal, place) = {
            let unit = outcome.unit.lock();
            let session = if outcome.committed { unit.session_change() } else { SessionChange::Keep };
            (session, unit.is_impersonal(), unit.place.clone())
        };
        if response.await_effects && outcome.committed && !outcome.effects.is_empty() {
            self.await_effects(&outcome.effects, place).await;
        }
        Some(Answer { response, session, shareable: impersonal && !outcome.wrote, replayed: false })
    }

    /// Runs a plugin's command for the operator, as one unit with large limits.
    pub async fn command(
        self: &Arc<Self>,
        plugin: &str,
        name: String,
        arguments: Vec<(String, String)>,
        input: Vec<u8>,
    ) -> Result<Vec<u8>, CommandError> {
        let start = Start { limits: &Limits::COMMAND, ..self.background_start(Kind::Command) };
        let call = PluginCall::Command { name, arguments, input };
        let finish = |_: &mut Unit, answer| match answer {
            PluginAnswer::Command(Ok(output)) => Ok(Verdict::Commit(Ok(output))),
            PluginAnswer::Command(Err(refused)) => Ok(Verdict::RollBack(Err(refused))),
            other => Err(out_of_place(plugin, &other)),
        };
        let outcome = match self.run(plugin, &call, start, |_| Ok(true), finish).await {
            Err(RunError::Call(error)) if error.kind == CallErrorKind::Memory => {
                let by = error.plugin.as_deref().unwrap_or(plugin);
                return Err(CommandError::Refused(format!(
                    "this is more at once than `{by}` has memory for, and nothing was changed: split it into several files, for instance of 1,000 products each"
                )));
            }
            ran => ran?,
        };
        match outcome.value {
            Some(Ok(output)) => Ok(output),
            Some(Err(refused)) => Err(CommandError::Refused(refused)),
            None => Err(RunError::Unavailable("the unit did not run".into()).into()),
        }
    }

    /// A unit to run a self-check in, before its plugin is live. It only reads
    /// and is never committed.
    pub fn self_check_unit(&self) -> SharedUnit {
        Unit::new(self.store.begin(), self.background_start(Kind::SelfCheck)).shared()
    }

    pub(super) fn background_start(&self, kind: Kind) -> Start {
        Start {
            kind,
            now_ms: self.now_ms(),
            request_id: Chance::default().id(),
            plugin: None,
            live: self.plugins.live().borrow().clone(),
            limits: &Limits::USUAL,
            shopper: Shopper::None,
            place: None,
            payer: None,
            origin: None,
        }
    }

    fn place_of(&self, key: &[u8]) -> usize {
        xxhash_rust::xxh3::xxh3_64_with_seed(key, self.turns_seed) as usize % TURNS
    }

    /// One handler in one unit. `prepare` reads what the host itself relies on
    /// and may call it off; `finish` writes the host's own records beside the
    /// handler's. Both are called again with each attempt.
    pub(super) async fn run<T>(
        self: &Arc<Self>,
        plugin: &str,
        call: &PluginCall,
        start: Start,
        mut prepare: impl FnMut(&mut Unit) -> Result<bool, RunError>,
        mut finish: impl FnMut(&mut Unit, PluginAnswer) -> Result<Verdict<T>, RunError>,
    ) -> Result<Outcome<T>, RunError> {
        let start = Start { plugin: start.plugin.or_else(|| Some(plugin.into())), ..start };
        let mut unit = Unit::new(self.store.begin(), start).shared();
        // Held from the second attempt on: those who conflict on one key go one after the other. Dropped
        // where its share holds the unit back.
        let mut turn = OwnTurn::default();
        let mut paid = None;
        let mut attempt = 1;
        loop {
            // Ends the unit however this function is left, also when it is dropped.
            let ending = Ending(unit.clone());
            if !prepare(&mut unit.lock())? {
                return Ok(Outcome { value: None, committed: false, wrote: false, effects: Vec::new(), unit });
            }
            let answer = match self.plugins.call(plugin, call, unit.clone()).await {
                Ok(answer) => answer,
                Err(error) if error.kind == CallErrorKind::OnTrial => {
                    let next = unit.lock().rerun_live(self.store.begin());
                    unit = next.shared();
                    continue;
                }
                Err(error) => {
                    count(&self.metrics.units_failed);
                    return Err(error.into());
                }
            };
            let (value, wrote, txn, staged) = {
                let mut unit = unit.lock();
                let wrote = unit.wrote();
                match finish(&mut unit, answer)? {
                    Verdict::Commit(value) => (value, wrote, unit.end(), std::mem::take(&mut unit.staged)),
                    Verdict::RollBack(value) => {
                        count(&self.metrics.units_rolled_back);
                        unit.end();
                        drop(unit);
                        return Ok(Outcome { value: Some(value), committed: false, wrote, effects: Vec::new(), unit: ending.0.clone() });
                    }
                }
            };
            let Some(txn) = txn else { return Err(UnitError::Ended.into()) };
            let effects = staged.effects.clone();
            if !txn.has_writes() && staged.invalidated.is_empty() {
                return Ok(Outcome { value: Some(value), committed: true, wrote, effects, unit });
            }
            // Dropping pages is work, too.
            let cost = txn.cost() + staged.invalidated.len();
            let payer = unit.lock().payer.clone().filter(|payer| payer.is_limited());
            match (&payer, paid.take()) {
                (Some(payer), Some(paid)) => payer.charge_storage(cost.saturating_sub(paid)),
                (Some(payer), None) => wait_to_store(&unit, payer, cost).await?,
                (None, _) => {}
            }
            match self.commit(txn, staged).await {
                Ok(()) => return Ok(Outcome { value: Some(value), committed: true, wrote, effects, unit }),
                Err(CommitError::Conflict { key }) => {
                    count(&self.metrics.conflicts);
                    if attempt == ATTEMPTS_MAX {
                        count(&self.metrics.units_failed);
                        return Err(RunError::Conflict(key.escape_ascii().to_string()));
                    }
                    attempt += 1;
                    if let Some(payer) = &payer {
                        // Before its turn: nobody stands behind one that waits for its share.
                        turn.leave();
                        wait_to_store(&unit, payer, cost).await?;
                        paid = Some(cost);
                        wait_to_run(&unit, payer).await?;
                    }
                    let place = self.place_of(&key);
                    if turn.place() != Some(place) {
                        // Never two at once, so that nobody waits in a circle.
                        turn.leave();
                        let taken = self.turns[place].clone().lock_owned().await;
                        unit.lock().turn = Some(turn.take(place, taken));
                    } else {
                        tokio::time::sleep(Duration::from_micros(200 + chance::below(800 * u64::from(attempt)))).await;
                    }
                    let next = unit.lock().rerun(self.store.begin());
                    unit = next.shared();
                }
                Err(e) => return Err(not_committed(e)),
            }
        }
    }

    /// Commits and tells everyone concerned. In a task of its own: a client
    /// that goes away must not keep others from hearing of what is committed.
    async fn commit(self: &Arc<Self>, txn: Txn, staged: Staged) -> Result<(), CommitError> {
        let runner = self.clone();
        let commit = async move {
            if txn.has_writes() {
                let committed = runner.store.commit(txn).await?;
                count(&runner.metrics.units_committed);
                runner.tell(committed.seq, staged);
            } else {
                runner.tell(0, staged);
            }
            Ok(())
        };
        tokio::spawn(commit).await.unwrap_or_else(|e| Err(CommitError::Failed(format!("the commit broke off: {e}"))))
    }

    fn tell(&self, seq: u64, staged: Staged) {
        if !staged.invalidated.is_empty() {
            (self.options.invalidate)(&staged.invalidated.into_iter().collect::<Vec<_>>());
        }
        if staged.events > 0 {
            self.wake.events.send_if_modified(|last| std::mem::replace(last, seq.max(*last)) < seq);
        }
        for effect in staged.effects {
            // Without a dispatcher the effect waits in the store.
            _ = self.wake.effects.send(effect);
        }
        // Called off, or scheduled anew.
        staged.jobs.iter().for_each(|(job, _)| self.troubles.clear(job));
        let next_ms = self.wake.jobs_looked_for_ms.load(Ordering::SeqCst);
        if staged.jobs.iter().any(|(_, due)| due.is_some_and(|due_ms| due_ms < next_ms)) {
            self.wake.jobs.notify_one();
        }
    }

    pub(super) async fn host<T>(&self, work: impl FnMut(&mut Txn) -> Result<T, RunError>) -> Result<T, RunError> {
        host(&self.store, work).await
    }

    /// Returns once the handlers waiting for these effects have committed, or
    /// after the longest wait.
    ///
    /// Who waits for longer than a shop of its own would take waits for a
    /// provider, and leaves its place; until then the work is this shop's, and
    /// whoever came in would only add to it.
    async fn await_effects(&self, effects: &[StagedEffect], place: Option<Place>) {
        let now_ms = self.now_ms();
        let mut waits = Vec::new();
        for effect in effects.iter().filter(|e| e.due_ms <= now_ms) {
            let (done, wait) = oneshot::channel();
            {
                let mut waiters = self.wake.effect_waiters.lock();
                let waiting = waiters.entry(effect.key.clone()).or_default();
                waiting.retain(|w| !w.is_closed());
                waiting.push(done);
            }
            // Looked up only now: whoever deletes the effect later finds this waiter.
            if matches!(self.store.begin().get(&effect.key), Ok(None)) {
                self.effect_is_done(&effect.key);
            }
            waits.push(wait);
        }
        let all = async {
            for wait in waits {
                _ = wait.await;
            }
        };
        let mut all = pin!(all);
        if tokio::time::timeout(EFFECTS_OUR_OWN, &mut all).await.is_err() {
            if let Some(place) = place {
                place.leave();
            }
            _ = tokio::time::timeout(AWAIT_EFFECTS_MAX, all).await;
        }
    }

    pub(super) fn effect_is_done(&self, key: &keys::Key) {
        for waiter in self.wake.effect_waiters.lock().remove(key).unwrap_or_default() {
            _ = waiter.send(());
        }
    }

    /// Sleeps; false if the background is to stop.
    pub(super) async fn pause_ms(&self, ms: u64) -> bool {
        tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_millis(ms)) => true,
            () = self.stop.cancelled() => false,
        }
    }
}

/// Until the share of the plugin that is charged lets it commit.
async fn wait_to_store(unit: &SharedUnit, payer: &Account, cost: usize) -> Result<(), CallError> {
    let (kind, place) = {
        let unit = unit.lock();
        (unit.kind, unit.place.clone())
    };
    front::lending(place.as_ref(), payer.store(cost, kind != Kind::Request)).await
}

/// Until its payer owes no processor time.
async fn wait_to_run(unit: &SharedUnit, payer: &Account) -> Result<(), CallError> {
    let (kind, place) = {
        let unit = unit.lock();
        (unit.kind, unit.place.clone())
    };
    front::lending(place.as_ref(), payer.settle(kind != Kind::Request)).await
}

/// Whoever still holds the unit holds no turn of it.
#[derive(Default)]
struct OwnTurn(Option<Arc<Turn>>);

impl OwnTurn {
    fn place(&self) -> Option<usize> {
        self.0.as_ref()?.place()
    }

    fn take(&mut self, place: usize, taken: OwnedMutexGuard<()>) -> Arc<Turn> {
        let turn = self.0.get_or_insert_default();
        turn.take(place, taken);
        turn.clone()
    }

    fn leave(&self) {
        if let Some(turn) = &self.0 {
            turn.leave();
        }
    }
}

impl Drop for OwnTurn {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Ends a unit when it is left behind, so that nothing of it lingers.
struct Ending(SharedUnit);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.lock().end();
    }
}

/// A transaction of the host's own, run again until it does not conflict.
pub(super) async fn host<T>(store: &Store, mut work: impl FnMut(&mut Txn) -> Result<T, RunError>) -> Result<T, RunError> {
    let mut attempt = 1;
    loop {
        let mut txn = store.begin();
        let value = work(&mut txn)?;
        if !txn.has_writes() {
            return Ok(value);
        }
        match store.commit(txn).await {
            Ok(_) => return Ok(value),
            Err(CommitError::Conflict { key }) if attempt == ATTEMPTS_MAX => {
                return Err(RunError::Conflict(key.escape_ascii().to_string()));
            }
            Err(CommitError::Conflict { .. }) => {
                tokio::time::sleep(Duration::from_micros(200 + chance::below(2_000 * u64::from(attempt)))).await;
                attempt += 1;
            }
            Err(e) => return Err(not_committed(e)),
        }
    }
}

/// Not by a conflict.
pub(super) fn not_committed(error: CommitError) -> RunError {
    match error {
        CommitError::Unknown(_) => RunError::Unconfirmed(error.to_string()),
        _ => RunError::Unavailable(error.to_string()),
    }
}

pub(super) fn finish_request(unit: &mut Unit, answer: PluginAnswer, plugin: &str) -> Result<Verdict<Response>, RunError> {
    match answer {
        PluginAnswer::Web(response) if response.status >= 400 => Ok(Verdict::RollBack(response)),
        PluginAnswer::Web(response) => {
            unit.store_session()?;
            Ok(Verdict::Commit(response))
        }
        other => Err(out_of_place(plugin, &other)),
    }
}

pub(super) fn out_of_place(plugin: &str, answer: &PluginAnswer) -> RunError {
    RunError::Call(CallError {
        plugin: Some(plugin.to_owned()),
        kind: CallErrorKind::Host,
        message: format!("the call was answered with something else: {answer:?}"),
    })
}
