//! Jobs: single ones that units schedule, and repeating ones from manifests.
//!
//! Single jobs lie in the store with an index by due time. For a repeating job
//! only its last run is kept: after a time of being down it runs once, however
//! many runs were missed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::dead::{DeadWork, decode_grown};
use super::keys::{self, Key};
use super::metrics::count;
use super::runner::{RunError, Runner, Verdict, out_of_place};
use super::trouble::{self, Trouble};
use super::unit::{Kind, Unit, UnitError, encode};
use super::{LivePlugins, PluginAnswer, PluginCall, Plugins};
use crate::engine::bindings::exports::souk::host::job_handler::Job;
use crate::store::Txn;

const RUNNING_MAX: usize = 16;
/// Of one plugin: however slow its jobs are, others find a place.
const RUNNING_OF_ONE_MAX: usize = RUNNING_MAX / 4;
/// How often a job of a plugin that is not installed is looked at.
const ABSENT_AGAIN_MS: u64 = 60_000;
const ORDERED_AT_ONCE: usize = 1_000;
/// Clocks are set: no sleep is longer.
const SLEEP_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    plugin: String,
    name: String,
    key: String,
    payload: Vec<u8>,
    /// As scheduled.
    due_ms: u64,
    /// Where it is in the index: moved on by failures.
    next_ms: u64,
    failures: u32,
    /// Of the last try, if it failed; and when the first one did.
    error: String,
    since_ms: u64,
}

impl Record {
    fn read(bytes: &[u8]) -> Result<Self, RunError> {
        decode_grown(bytes, 2)
    }

    fn trouble(&self, at_ms: u64) -> Trouble {
        Trouble {
            kind: trouble::Kind::Job,
            plugin: self.plugin.clone(),
            what: self.name.clone(),
            key: self.key.clone(),
            other: String::new(),
            tries: self.failures,
            since_ms: self.since_ms,
            at_ms,
            next_ms: Some(self.next_ms),
            behind: 0,
            error: self.error.clone(),
        }
    }
}

/// What is to be told of a record that was read from the store.
pub(super) fn failing(bytes: &[u8]) -> Option<Trouble> {
    let record = Record::read(bytes).ok().filter(|record| record.failures > 0)?;
    Some(record.trouble(record.since_ms))
}

pub(super) fn payload(txn: &mut Txn, id: &Key) -> Result<Vec<u8>, RunError> {
    let record = if keys::is_single_job(id) { read_whole(txn, id)? } else { None };
    Ok(record.map(|record| record.payload).unwrap_or_default())
}

/// Adds a job to what the unit will commit; one already scheduled is moved.
pub(crate) fn schedule(unit: &mut Unit, plugin: &str, name: String, key: String, at_ms: u64, payload: Vec<u8>) -> Result<(), UnitError> {
    unit.charge_job()?;
    unit.charge_bytes(payload.len())?;
    let id = keys::job(plugin, &name, &key);
    let txn = unit.write()?;
    unschedule(txn, &id)?;
    let record = Record { plugin: plugin.to_owned(), name, key, payload, due_ms: at_ms, next_ms: at_ms, failures: 0, error: String::new(), since_ms: 0 };
    store(txn, &id, &record);
    unit.staged.jobs.push((id, Some(at_ms)));
    Ok(())
}

pub(crate) fn cancel(unit: &mut Unit, plugin: &str, name: &str, key: &str) -> Result<(), UnitError> {
    unit.charge_job()?;
    let id = keys::job(plugin, name, key);
    unschedule(unit.write()?, &id)?;
    unit.staged.jobs.push((id, None));
    Ok(())
}

/// Time and payload of what a unit has scheduled, read from what it will commit.
pub(super) fn scheduled(record: &[u8]) -> Option<(u64, Vec<u8>)> {
    let Record { due_ms, payload, .. } = Record::read(record).ok()?;
    Some((due_ms, payload))
}

fn store(txn: &mut Txn, id: &Key, record: &Record) {
    txn.put(id, encode(record));
    txn.put(&keys::job_due(record.next_ms, id), Vec::new());
}

fn unschedule(txn: &mut Txn, id: &Key) -> Result<(), crate::store::StoreError> {
    if let Some(record) = txn.get(id)?.and_then(|bytes| Record::read(&bytes).ok()) {
        txn.delete(&keys::job_due(record.next_ms, id));
        txn.delete(id);
    }
    Ok(())
}

fn read(txn: &mut Txn, id: &[u8]) -> Result<Option<Record>, RunError> {
    txn.get(id)?.map(|bytes| Record::read(&bytes)).transpose()
}

fn read_whole(txn: &mut Txn, id: &[u8]) -> Result<Option<Record>, RunError> {
    let damaged = |error: RunError| tracing::error!(target: "work", id = %id.escape_ascii(), %error, "a damaged job is left alone");
    Ok(txn.get(id)?.and_then(|bytes| Record::read(&bytes).map_err(damaged).ok()))
}

const CRON_BYTES_MAX: usize = 128;
/// 2026: where the first instant of a pattern is looked for, so that the answer is the same on any day.
const CRON_FROM_MS: u64 = 1_767_225_600_000;

/// Checked when a plugin is loaded, before it can go live. One that names no instant, as the 30th of February, would be looked
/// for through thousands of years, again and again.
pub fn check_cron(pattern: &str) -> Result<(), String> {
    if pattern.len() > CRON_BYTES_MAX {
        return Err(format!("a cron expression of {} bytes; at most {CRON_BYTES_MAX}", pattern.len()));
    }
    Cron::from_str(pattern).map_err(|e| format!("`{pattern}` is not a cron expression: {e}"))?;
    let first = Schedule::new(pattern, TimeZone::UTC).and_then(|schedule| schedule.next_after(CRON_FROM_MS));
    first.map(drop).ok_or_else(|| format!("`{pattern}` never comes"))
}

/// When a repeating job is due. Days are set forward and back by an hour twice
/// a year: a pattern that names hours counts once for each time that it names,
/// in a skipped hour later by what was skipped. One for every hour goes on by
/// the time that really passes.
struct Schedule {
    cron: Cron,
    every_hour: bool,
    zone: TimeZone,
}

impl Schedule {
    fn new(pattern: &str, zone: TimeZone) -> Option<Self> {
        let fields: Vec<&str> = pattern.split_whitespace().collect();
        // Minutes stand first, or seconds before them.
        let hour = if fields.len() > 5 { fields.get(2) } else { fields.get(1) };
        let every_hour = pattern.trim().eq_ignore_ascii_case("@hourly") || hour == Some(&"*");
        Some(Self { cron: Cron::from_str(pattern).ok()?, every_hour, zone })
    }

    /// The first instant after `after_ms` that the pattern names.
    fn next_after(&self, after_ms: u64) -> Option<u64> {
        let mut at_ms = after_ms;
        let mut local = local(after_ms, &self.zone)?;
        // Through as much as an hour that names each second.
        for _ in 0..4_000 {
            local = self.cron.find_next_occurrence(&local, false).ok()?;
            if !self.every_hour {
                at_ms = instant(local, &self.zone)?;
                if at_ms > after_ms {
                    return Some(at_ms);
                }
                continue;
            }
            at_ms = instant(local, &self.offset(at_ms)?)?;
            local = self::local(at_ms, &self.zone)?;
            if self.cron.is_time_matching(&local).ok()? {
                return Some(at_ms);
            }
        }
        None
    }

    /// The last instant not after `now_ms`.
    fn last_until(&self, now_ms: u64) -> Option<u64> {
        let zone = if self.every_hour { self.offset(now_ms)? } else { self.zone.clone() };
        let local = self.cron.find_previous_occurrence(&local(now_ms, &zone)?, true).ok()?;
        instant(local, &zone).filter(|at_ms| *at_ms <= now_ms)
    }

    /// The zone as if its clocks were never set again.
    fn offset(&self, ms: u64) -> Option<TimeZone> {
        Some(TimeZone::fixed(self.zone.to_offset(Timestamp::from_millisecond(ms.try_into().ok()?).ok()?)))
    }
}

fn local(ms: u64, zone: &TimeZone) -> Option<chrono::NaiveDateTime> {
    let local = zone.to_datetime(Timestamp::from_millisecond(ms.try_into().ok()?).ok()?);
    let day = chrono::NaiveDate::from_ymd_opt(local.year().into(), local.month().unsigned_abs().into(), local.day().unsigned_abs().into())?;
    day.and_hms_opt(local.hour().unsigned_abs().into(), local.minute().unsigned_abs().into(), local.second().unsigned_abs().into())
}

fn instant(local: chrono::NaiveDateTime, zone: &TimeZone) -> Option<u64> {
    let civil = TimeZone::UTC.to_datetime(Timestamp::from_millisecond(local.and_utc().timestamp_millis()).ok()?);
    zone.to_timestamp(civil).ok()?.as_millisecond().try_into().ok()
}

/// A repeating job and when it is due next.
struct Repeating {
    schedule: Schedule,
    last_ms: u64,
    next_ms: Option<u64>,
}

/// A repeating job whose last run has failed. Not written down: after a start
/// it is due anyway.
#[derive(Debug, Clone)]
pub(super) struct FailingJob {
    plugin: String,
    name: String,
    failures: u32,
    since_ms: u64,
    next_ms: u64,
}

impl FailingJob {
    fn key(&self) -> Key {
        keys::cron(&self.plugin, &self.name)
    }
}

/// What is at work in the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Running {
    /// Plugin, and key of the job.
    Single(String, Key),
    Repeating(String, String),
}

impl Running {
    fn plugin(&self) -> &str {
        match self {
            Running::Single(plugin, _) | Running::Repeating(plugin, _) => plugin,
        }
    }
}

#[derive(Default)]
struct AtWork {
    jobs: HashSet<Running>,
    /// So that one whose task breaks off is found again.
    tasks: HashMap<tokio::task::Id, Running>,
    /// Places by plugin.
    of_plugin: BTreeMap<String, usize>,
    /// Whose single job was started last.
    last: String,
}

impl AtWork {
    fn running_of(&self, plugin: &str) -> usize {
        self.of_plugin.get(plugin).copied().unwrap_or_default()
    }

    fn has_place_for(&self, plugin: &str) -> bool {
        self.jobs.len() < RUNNING_MAX && self.running_of(plugin) < RUNNING_OF_ONE_MAX
    }

    fn begin(&mut self, job: Running) {
        *self.of_plugin.entry(job.plugin().to_owned()).or_default() += 1;
        self.jobs.insert(job);
    }

    fn end(&mut self, job: &Running) {
        if self.jobs.remove(job)
            && let Some(places) = self.of_plugin.get_mut(job.plugin())
        {
            *places -= 1;
            self.of_plugin.retain(|_, places| *places > 0);
        }
    }

    /// Who gets the next place: who has the fewest, and among them each in turn. When a
    /// job was due does not count, its plugin says that.
    fn next<'a>(&self, waiting: impl Iterator<Item = &'a String>) -> Option<String> {
        let rank = |plugin: &&String| (self.running_of(plugin), ***plugin <= *self.last, (*plugin).clone());
        waiting.filter(|plugin| self.has_place_for(plugin)).min_by_key(rank).cloned()
    }
}

impl<P: Plugins> Runner<P> {
    pub(super) async fn start_jobs(self: &Arc<Self>) -> Result<(), RunError> {
        self.order_jobs_by_plugin().await?;
        // Before the first request, so that a first run is missed by nobody.
        let live = self.plugins.live().borrow().clone();
        let repeating = self.repeating(&live).await?;
        let runner = self.clone();
        self.tasks.spawn(async move { runner.schedule_jobs(repeating).await });
        Ok(())
    }

    /// Moves what earlier versions have put in one order for all plugins.
    async fn order_jobs_by_plugin(&self) -> Result<(), RunError> {
        let (first, end) = keys::jobs_due_before();
        loop {
            let page = self.store.begin().scan(Bound::Included(&first), Bound::Excluded(&end), ORDERED_AT_ONCE, false)?;
            if page.is_empty() {
                return Ok(());
            }
            self.host(|txn| {
                for (entry, _) in &page {
                    txn.delete(entry);
                    keys::job_due_from_before(entry).iter().for_each(|now| txn.put(now, Vec::new()));
                }
                Ok(())
            })
            .await?;
        }
    }

    async fn repeating(&self, live: &LivePlugins) -> Result<BTreeMap<(String, String), Repeating>, RunError> {
        let mut all = BTreeMap::new();
        for plugin in live.values() {
            for job in &plugin.manifest.jobs {
                let Some(schedule) = Schedule::new(&job.cron, self.options.time_zone.clone()) else {
                    tracing::error!(target: "work", plugin = plugin.name(), job = job.name, cron = job.cron, "not a cron expression");
                    continue;
                };
                let key = keys::cron(plugin.name(), &job.name);
                let now_ms = self.now_ms();
                let last_ms = self
                    .host(|txn| {
                        if let Some(last_ms) = read_last(txn, &key)? {
                            return Ok(last_ms);
                        }
                        txn.put(&key, now_ms.to_be_bytes().to_vec());
                        Ok(now_ms)
                    })
                    .await?;
                let next_ms = schedule.next_after(last_ms);
                all.insert((plugin.name().to_owned(), job.name.clone()), Repeating { schedule, last_ms, next_ms });
            }
        }
        Ok(all)
    }

    async fn schedule_jobs(self: Arc<Self>, mut repeating: BTreeMap<(String, String), Repeating>) {
        let mut live = self.plugins.live();
        let mut turns: JoinSet<Running> = JoinSet::new();
        let mut running = AtWork::default();
        loop {
            let now_ms = self.now_ms();
            let mut next_ms = u64::MAX;
            // Before looking: whatever is committed from here on is either seen or wakes.
            self.wake.jobs_looked_for_ms.store(u64::MAX, Ordering::SeqCst);
            if !self.stop.is_cancelled() {
                let held_back_ms = self.start_repeating(&mut repeating, &mut running, &mut turns, now_ms);
                next_ms = repeating.values().filter_map(|r| r.next_ms).filter(|at| *at > now_ms).chain(held_back_ms).min().unwrap_or(u64::MAX);
                match self.start_single(&mut running, &mut turns, now_ms).await {
                    Ok(due_ms) => next_ms = next_ms.min(due_ms),
                    Err(error) => {
                        tracing::warn!(target: "work", %error, "cannot look for jobs now");
                        next_ms = next_ms.min(now_ms + self.options.retry.wait_ms(4));
                    }
                }
            } else if turns.is_empty() {
                return;
            }
            let sleep = Duration::from_millis(next_ms.saturating_sub(now_ms).max(1)).min(SLEEP_MAX);
            self.wake.jobs_looked_for_ms.store(next_ms, Ordering::SeqCst);
            tokio::select! {
                biased;
                Some(ended) = turns.join_next_with_id(), if !turns.is_empty() => match ended {
                    Ok((task, ended)) => {
                        if let Running::Repeating(plugin, name) = &ended
                            && let Some(job) = repeating.get_mut(&(plugin.clone(), name.clone()))
                        {
                            job.next_ms = self.next_run(job, plugin, name);
                        }
                        running.tasks.remove(&task);
                        running.end(&ended);
                    }
                    Err(error) => {
                        tracing::error!(target: "work", %error, "a job's task broke off");
                        if let Some(job) = running.tasks.remove(&error.id()) {
                            // Not free before its pause is over.
                            let (runner, id) = (self.clone(), job.clone());
                            let pause = turns.spawn(async move {
                                runner.pause_ms(runner.options.retry.wait_ms(4)).await;
                                id
                            });
                            running.tasks.insert(pause.id(), job);
                        }
                    }
                },
                () = self.wake.jobs.notified() => {}
                Ok(()) = live.changed() => {
                    let now_live = live.borrow_and_update().clone();
                    match self.repeating(&now_live).await {
                        Ok(all) => {
                            repeating = all;
                            let gone: Vec<_> = self.failing_jobs.lock().keys().filter(|job| !repeating.contains_key(*job)).cloned().collect();
                            gone.iter().for_each(|(plugin, name)| self.job_recovered(plugin, name));
                        }
                        Err(error) => tracing::error!(target: "work", %error, "repeating jobs stay as they were before the swap"),
                    }
                }
                () = tokio::time::sleep(sleep), if !self.stop.is_cancelled() => {}
                () = self.stop.cancelled(), if !self.stop.is_cancelled() => {}
            }
        }
    }

    fn next_run(&self, job: &mut Repeating, plugin: &str, name: &str) -> Option<u64> {
        if let Ok(Some(last_ms)) = read_last(&mut self.store.begin(), &keys::cron(plugin, name)) {
            job.last_ms = last_ms;
        }
        let failing_ms = self.failing_jobs.lock().get(&(plugin.to_owned(), name.to_owned())).map(|failing| failing.next_ms);
        match failing_ms {
            // At its next time, or sooner.
            Some(again_ms) => job.schedule.next_after(self.now_ms()).into_iter().chain([again_ms]).min(),
            None => job.schedule.next_after(job.last_ms),
        }
    }

    /// When one is to be looked at again whose plugin has used its share.
    fn start_repeating(
        self: &Arc<Self>,
        repeating: &mut BTreeMap<(String, String), Repeating>,
        running: &mut AtWork,
        turns: &mut JoinSet<Running>,
        now_ms: u64,
    ) -> Option<u64> {
        let mut held_back_ms: Option<u64> = None;
        for ((plugin, name), job) in repeating {
            if self.failing_jobs.lock().get(&(plugin.clone(), name.clone())).is_some_and(|failing| failing.next_ms == 0) {
                job.next_ms = Some(now_ms);
            }
            if job.next_ms.is_none_or(|next_ms| next_ms > now_ms) {
                continue;
            }
            let Some(due_ms) = job.schedule.next_after(job.last_ms).filter(|due_ms| *due_ms <= now_ms) else { continue };
            let id = Running::Repeating(plugin.clone(), name.clone());
            if !running.has_place_for(plugin) || running.jobs.contains(&id) {
                continue;
            }
            if let Some(owes) = self.plugins.owes(plugin) {
                held_back_ms = held_back_ms.into_iter().chain([now_ms + owes.as_millis() as u64 + 1]).min();
                continue;
            }
            running.begin(id.clone());
            // Of runs that were missed, only the last.
            let due_ms = job.schedule.last_until(now_ms).unwrap_or(due_ms).max(due_ms);
            let (runner, plugin, name, job) = (self.clone(), plugin.clone(), name.clone(), id.clone());
            let task = turns.spawn(async move {
                runner.run_repeating(&plugin, &name, due_ms).await;
                id
            });
            running.tasks.insert(task.id(), job);
        }
        held_back_ms
    }

    /// Starts what is due, of each plugin in turn; when the first of the others is.
    async fn start_single(
        self: &Arc<Self>,
        running: &mut AtWork,
        turns: &mut JoinSet<Running>,
        now_ms: u64,
    ) -> Result<u64, RunError> {
        let mut next_ms = u64::MAX;
        let mut waiting: BTreeMap<String, VecDeque<(u64, Key)>> = BTreeMap::new();
        let mut txn = self.store.begin();
        let (mut first, end) = keys::jobs_due();
        loop {
            let Some((entry, _)) = txn.scan(Bound::Included(&first), Bound::Excluded(&end), 1, false)?.into_iter().next() else { break };
            let Some((plugin, ..)) = keys::job_of(&entry) else {
                tracing::error!(target: "work", entry = %entry.escape_ascii(), "a damaged entry in the order of jobs hides those behind it");
                break;
            };
            let (of_plugin, behind) = keys::jobs_due_of(plugin);
            // Those at work are still in the index.
            let page = txn.scan(Bound::Included(&of_plugin), Bound::Excluded(&behind), 2 * RUNNING_OF_ONE_MAX + 1, false)?;
            let jobs = page.iter().filter_map(|(entry, _)| keys::job_of(entry)).map(|(_, due_ms, id)| (due_ms, Key::from_slice(id)));
            let (due, later): (Vec<_>, Vec<_>) = jobs.partition(|(due_ms, _)| *due_ms <= now_ms);
            next_ms = later.first().map_or(next_ms, |(due_ms, _)| next_ms.min(*due_ms));
            let is_at_work = |id: &Key| running.jobs.contains(&Running::Single(plugin.to_owned(), id.clone()));
            let due: VecDeque<_> = due.into_iter().filter(|(_, id)| !is_at_work(id)).collect();
            match self.plugins.owes(plugin).filter(|_| !due.is_empty()) {
                // It waits without a place.
                Some(owes) => next_ms = next_ms.min(now_ms + owes.as_millis() as u64 + 1),
                None => _ = waiting.insert(plugin.to_owned(), due),
            }
            first = behind;
        }
        drop(txn);
        loop {
            waiting.retain(|_, due| !due.is_empty());
            let Some(plugin) = running.next(waiting.keys()) else { return Ok(next_ms) };
            let Some((due_ms, id)) = waiting.get_mut(&plugin).and_then(VecDeque::pop_front) else { return Ok(next_ms) };
            running.last.clone_from(&plugin);
            let job = Running::Single(plugin, id.clone());
            running.begin(job.clone());
            let (runner, ended) = (self.clone(), job.clone());
            let task = turns.spawn(async move {
                if let Err(error) = runner.run_single(&id, due_ms).await {
                    tracing::warn!(target: "work", %error, "cannot run a job now");
                    runner.pause_ms(runner.options.retry.wait_ms(4)).await;
                }
                ended
            });
            running.tasks.insert(task.id(), job);
        }
    }

    async fn run_single(self: &Arc<Self>, id: &Key, next_ms: u64) -> Result<(), RunError> {
        let is_same = |record: &Record| record.next_ms == next_ms;
        let Some(record) = read_whole(&mut self.store.begin(), id)?.filter(is_same) else { return self.drop_entry(id, next_ms).await };
        if !self.plugins.live().borrow().contains_key(&record.plugin) {
            return self.move_job(id, next_ms, |record, now_ms| record.next_ms = now_ms + ABSENT_AGAIN_MS).await;
        }
        let Record { plugin, name, key, payload, due_ms, failures, since_ms, .. } = record;
        let call = PluginCall::Job(Job { name, key, due_ms, payload });
        let run = self.run(
            &plugin,
            &call,
            self.background_start(Kind::Job),
            |unit| Ok(read(unit.host_txn()?, id)?.as_ref().is_some_and(is_same)),
            |unit, answer| match answer {
                PluginAnswer::Job(Ok(again)) => {
                    // Not where the handler has scheduled or cancelled itself.
                    if !unit.staged.jobs.iter().any(|(job, _)| job == id) {
                        let now_ms = unit.now_ms;
                        let txn = unit.host_txn()?;
                        if let Some(record) = read(txn, id)? {
                            txn.delete(&keys::job_due(record.next_ms, id));
                            if again {
                                store(txn, id, &Record { next_ms: now_ms, failures: 0, error: String::new(), ..record });
                            } else {
                                txn.delete(id);
                            }
                        }
                    }
                    Ok(Verdict::Commit(Ok(())))
                }
                PluginAnswer::Job(Err(message)) => Ok(Verdict::RollBack(Err(message))),
                other => Err(out_of_place(&plugin, &other)),
            },
        );
        let error = match run.await {
            Ok(outcome) => match outcome.value {
                Some(Err(message)) => message,
                Some(Ok(())) => {
                    count(&self.metrics.jobs_run);
                    self.troubles.clear(id);
                    return Ok(());
                }
                None => return Ok(()),
            },
            Err(e) if e.is_passing() => return Err(e),
            Err(e) => e.to_string(),
        };
        self.job_failed(&plugin, &call, failures + 1, &error);
        if !self.gives_up(&plugin, failures + 1) {
            let put_off = |record: &mut Record, now_ms: u64| {
                if record.failures == 0 {
                    record.since_ms = now_ms;
                }
                record.failures = record.failures.saturating_add(1);
                record.next_ms = now_ms + self.options.retry.wait_ms(record.failures);
                record.error.clone_from(&error);
            };
            self.move_job(id, next_ms, put_off).await?;
            match read_whole(&mut self.store.begin(), id)? {
                Some(record) if record.failures > 0 => self.troubles.set(id, record.trouble(self.now_ms())),
                _ => self.troubles.clear(id),
            }
            return Ok(());
        }
        let PluginCall::Job(job) = call else { return Ok(()) };
        self.host(|txn| {
            if read(txn, id)?.as_ref().is_some_and(is_same) {
                let Job { name, key, due_ms, payload } = job.clone();
                self.put_dead_letter(txn, &plugin, DeadWork::Job { name, key, due_ms, payload }, error.clone(), failures + 1, since_ms);
                unschedule(txn, id)?;
            }
            Ok(())
        })
        .await?;
        self.troubles.clear(id);
        self.gave_up(&plugin, &error);
        Ok(())
    }

    /// For an operator: it is due now.
    pub(super) async fn hasten_job(&self, id: &Key) -> Result<(), RunError> {
        if !keys::is_single_job(id) {
            self.failing_jobs.lock().values_mut().filter(|failing| failing.key() == *id).for_each(|failing| failing.next_ms = 0);
        } else if let Some(record) = read_whole(&mut self.store.begin(), id)? {
            self.move_job(id, record.next_ms, |record, now_ms| record.next_ms = record.next_ms.min(now_ms)).await?;
        }
        self.wake.jobs.notify_one();
        Ok(())
    }

    /// For an operator: it is not run; one that repeats waits for its next time.
    pub(super) async fn drop_job(&self, id: &Key) -> Result<(), RunError> {
        let now_ms = self.now_ms();
        self.host(|txn| {
            if keys::is_single_job(id) {
                unschedule(txn, id)?;
            } else {
                txn.put(id, now_ms.to_be_bytes().to_vec());
            }
            Ok(())
        })
        .await?;
        self.failing_jobs.lock().retain(|_, failing| failing.key() != *id);
        self.troubles.clear(id);
        self.wake.jobs.notify_one();
        Ok(())
    }

    /// Takes an entry out of the index that leads to no job, or a damaged one.
    async fn drop_entry(&self, id: &Key, next_ms: u64) -> Result<(), RunError> {
        self.host(|txn| {
            if read_whole(txn, id)?.is_none_or(|record| record.next_ms != next_ms) {
                txn.delete(&keys::job_due(next_ms, id));
            }
            Ok(())
        })
        .await
    }

    async fn move_job(&self, id: &Key, from_ms: u64, change: impl Fn(&mut Record, u64)) -> Result<(), RunError> {
        self.host(|txn| {
            let Some(mut record) = read(txn, id)?.filter(|r| r.next_ms == from_ms) else { return Ok(()) };
            txn.delete(&keys::job_due(from_ms, id));
            change(&mut record, self.now_ms());
            store(txn, id, &record);
            Ok(())
        })
        .await
    }

    /// One try of one run, to its end. What fails is tried again before its
    /// next time, and at it.
    async fn run_repeating(self: &Arc<Self>, plugin: &str, name: &str, due_ms: u64) {
        let last = keys::cron(plugin, name);
        let call = PluginCall::Job(Job { name: name.to_owned(), key: String::new(), due_ms, payload: Vec::new() });
        let (error, counts) = loop {
            let run = self.run(
                plugin,
                &call,
                self.background_start(Kind::Job),
                |unit| Ok(read_last(unit.host_txn()?, &last)?.is_none_or(|last_ms| last_ms < due_ms)),
                |unit, answer| match answer {
                    PluginAnswer::Job(Ok(again)) => {
                        if !again {
                            unit.host_txn()?.put(&last, due_ms.to_be_bytes().to_vec());
                        }
                        Ok(Verdict::Commit(Ok(again)))
                    }
                    PluginAnswer::Job(Err(message)) => Ok(Verdict::RollBack(Err(message))),
                    other => Err(out_of_place(plugin, &other)),
                },
            );
            match run.await {
                Ok(outcome) => match outcome.value {
                    Some(Ok(again)) => {
                        count(&self.metrics.jobs_run);
                        self.job_recovered(plugin, name);
                        if again && !self.stop.is_cancelled() {
                            continue;
                        }
                        return;
                    }
                    Some(Err(message)) => break (message, true),
                    None => return,
                },
                Err(e) if e.is_not_found() && !self.plugins.live().borrow().contains_key(plugin) => return,
                Err(e) => break (e.to_string(), !e.is_passing()),
            }
        };
        if !counts {
            tracing::warn!(target: "work", plugin, job = name, error, "cannot run a job now");
            self.pause_ms(self.options.retry.wait_ms(1)).await;
            return;
        }
        let failing = self.note_failing(plugin, name, &error);
        self.job_failed(plugin, &call, failing.failures, &error);
        // One that comes often has soon failed often.
        if failing.since_ms.saturating_add(self.options.retry.horizon_ms) > self.now_ms() || !self.gives_up(plugin, failing.failures) {
            return;
        }
        let given_up = self.host(|txn| {
            let work = DeadWork::Job { name: name.to_owned(), key: String::new(), due_ms, payload: Vec::new() };
            self.put_dead_letter(txn, plugin, work, error.clone(), failing.failures, failing.since_ms);
            txn.put(&last, due_ms.to_be_bytes().to_vec());
            Ok(())
        });
        match given_up.await {
            Ok(()) => {
                self.job_recovered(plugin, name);
                self.gave_up(plugin, &error);
            }
            Err(error) => tracing::warn!(target: "work", plugin, name, %error, "cannot give a job up"),
        }
    }

    fn note_failing(&self, plugin: &str, name: &str, error: &str) -> FailingJob {
        let now_ms = self.now_ms();
        let failing = {
            let mut all = self.failing_jobs.lock();
            let failing = all.entry((plugin.to_owned(), name.to_owned())).or_insert_with(|| FailingJob {
                plugin: plugin.to_owned(),
                name: name.to_owned(),
                failures: 0,
                since_ms: now_ms,
                next_ms: 0,
            });
            failing.failures = failing.failures.saturating_add(1);
            failing.next_ms = now_ms + self.options.retry.wait_ms(failing.failures);
            failing.clone()
        };
        let trouble = Trouble {
            kind: trouble::Kind::Job,
            plugin: plugin.to_owned(),
            what: name.to_owned(),
            key: String::new(),
            other: String::new(),
            tries: failing.failures,
            since_ms: failing.since_ms,
            at_ms: now_ms,
            next_ms: Some(failing.next_ms),
            behind: 0,
            error: error.to_owned(),
        };
        self.troubles.set(&keys::cron(plugin, name), trouble);
        failing
    }

    fn job_recovered(&self, plugin: &str, name: &str) {
        self.failing_jobs.lock().remove(&(plugin.to_owned(), name.to_owned()));
        self.troubles.clear(&keys::cron(plugin, name));
    }

    fn job_failed(&self, plugin: &str, call: &PluginCall, failures: u32, error: &str) {
        count(&self.metrics.jobs_failed);
        if let PluginCall::Job(job) = call {
            tracing::warn!(target: "work", plugin, job = job.name, key = job.key, failures, error, "a job failed");
        }
    }
}

fn read_last(txn: &mut Txn, key: &Key) -> Result<Option<u64>, RunError> {
    Ok(txn.get(key)?.and_then(|bytes| Some(u64::from_be_bytes(bytes[..].try_into().ok()?))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Berlin: clocks go from 02:00 to 03:00 on 2026-03-29 and from 03:00 back
    /// to 02:00 on 2026-10-25, both at 01:00 UTC.
    fn schedule(pattern: &str) -> Schedule {
        Schedule::new(pattern, TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()).unwrap()
    }

    fn ms(utc: &str) -> u64 {
        utc.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    /// In UTC, from the first after `from` to the last before `to`.
    fn times(pattern: &str, from: &str, to: &str) -> Vec<String> {
        let schedule = schedule(pattern);
        let next = |after: u64| schedule.next_after(after).filter(|at| *at < ms(to));
        std::iter::successors(next(ms(from)), |at| next(*at)).map(|at| Timestamp::from_millisecond(at as i64).unwrap().to_string()).collect()
    }

    #[test]
    fn a_time_of_day_comes_once_a_day_in_the_shops_zone() {
        assert_eq!(
            times("30 2 * * *", "2026-03-27T12:00:00Z", "2026-03-31T00:00:00Z"),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"],
            "where 02:30 is skipped it is an hour later on the clock, at 03:30"
        );
        assert_eq!(
            times("30 2 * * *", "2026-10-23T12:00:00Z", "2026-10-27T00:00:00Z"),
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
            "where 02:30 comes twice the first counts"
        );
        assert_eq!(times("0 0 * * *", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"), ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]);
    }

    #[test]
    fn every_quarter_of_an_hour_is_just_that_on_the_days_of_23_and_25_hours() {
        for pattern in ["*/15 * * * *", "0 */15 * * * *"] {
            for (from, to, count) in [("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 91), ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 99)] {
                let schedule = schedule(pattern);
                let times: Vec<u64> = std::iter::successors(Some(ms(from)), |at| schedule.next_after(*at)).take_while(|at| *at < ms(to)).collect();
                assert_eq!(times.len(), count + 1);
                assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 15 * 60_000));
            }
        }
        assert_eq!(times("@hourly", "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z").len(), 3);
    }

    #[test]
    fn a_job_that_is_new_in_a_repeated_hour_still_has_a_next_time() {
        let second_pass = ms("2026-10-25T01:20:00Z");
        for (pattern, next) in [("* 2 * * *", "2026-10-26T01:00:00Z"), ("* * * * *", "2026-10-25T01:21:00Z"), ("* * 2 * * *", "2026-10-26T01:00:00Z")] {
            assert_eq!(schedule(pattern).next_after(second_pass), Some(ms(next)), "{pattern}");
        }
    }

    #[test]
    fn of_missed_times_the_last_is_known() {
        let last = |pattern: &str, now: &str| schedule(pattern).last_until(ms(now));
        assert_eq!(last("0 3 * * *", "2026-06-10T12:00:00Z"), Some(ms("2026-06-10T01:00:00Z")));
        assert_eq!(last("*/15 * * * *", "2026-10-25T01:20:00Z"), Some(ms("2026-10-25T01:15:00Z")), "in the repeated hour too");
        assert_eq!(last("30 2 * * *", "2026-03-29T01:10:00Z"), None, "skipped, and not yet made up for");
    }

    proptest! {
        #[test]
        fn the_next_time_is_later_and_is_its_own_last(
            after_s in 1_767_225_600_u64..1_798_761_600,
            pattern in prop::sample::select(vec!["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "15,45 1-3 * * *", "0 0 1 * *", "0 12 * * 1", "*/20 */2 * * *"]),
        ) {
            let schedule = schedule(pattern);
            let next = schedule.next_after(after_s * 1_000).unwrap();
            prop_assert!(next > after_s * 1_000);
            prop_assert_eq!(schedule.last_until(next), Some(next));
            prop_assert!(schedule.next_after(next).unwrap() > next);
        }
    }
}
