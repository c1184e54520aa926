//! Jobs: single ones that units schedule, and repeating ones from manifests.
//!
//! Single jobs lie in the store with an index by due time. For a repeating job
//! only its last run is kept: after a time of being down it runs once, however
//! many runs were missed.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::dead::{DeadWork, decode};
use super::keys::{self, Key};
use super::metrics::count;
use super::runner::{RunError, Runner, Verdict, out_of_place};
use super::unit::{Kind, Unit, UnitError, encode};
use super::{LivePlugins, PluginAnswer, PluginCall, Plugins};
use crate::engine::bindings::exports::souk::host::job_handler::Job;
use crate::store::Txn;

const RUNNING_MAX: usize = 16;
/// How often a job of a plugin that is not installed is looked at.
const ABSENT_AGAIN_MS: u64 = 60_000;
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
}

/// Adds a job to what the unit will commit; one already scheduled is moved.
pub(crate) fn schedule(unit: &mut Unit, plugin: &str, name: String, key: String, at_ms: u64, payload: Vec<u8>) -> Result<(), UnitError> {
    unit.charge_job()?;
    let id = keys::job(plugin, &name, &key);
    let txn = unit.write()?;
    unschedule(txn, &id)?;
    let record = Record { plugin: plugin.to_owned(), name, key, payload, due_ms: at_ms, next_ms: at_ms, failures: 0 };
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

fn store(txn: &mut Txn, id: &Key, record: &Record) {
    txn.put(id, encode(record));
    txn.put(&keys::job_due(record.next_ms, id), Vec::new());
}

fn unschedule(txn: &mut Txn, id: &Key) -> Result<(), crate::store::StoreError> {
    if let Some(record) = txn.get(id)?.and_then(|bytes| postcard::from_bytes::<Record>(&bytes).ok()) {
        txn.delete(&keys::job_due(record.next_ms, id));
        txn.delete(id);
    }
    Ok(())
}

fn read(txn: &mut Txn, id: &[u8]) -> Result<Option<Record>, RunError> {
    txn.get(id)?.map(|bytes| decode(&bytes)).transpose()
}

/// Checked when a plugin is loaded, before it can go live.
pub fn check_cron(pattern: &str) -> Result<(), String> {
    Cron::from_str(pattern).map(|_| ()).map_err(|e| format!("`{pattern}` is not a cron expression: {e}"))
}

/// The first instant after `after_ms` that the pattern names. In an hour that
/// the clocks repeat, each named time counts once; in one that they skip, it
/// counts at the end of the gap.
fn next_after(cron: &Cron, zone: &TimeZone, after_ms: u64) -> Option<u64> {
    let mut local = local(zone, after_ms)?;
    for _ in 0..4 {
        local = cron.find_next_occurrence(&local, false).ok()?;
        let at_ms = instant(zone, local)?;
        if at_ms > after_ms {
            return Some(at_ms);
        }
    }
    None
}

/// The last instant not after `now_ms`.
fn last_until(cron: &Cron, zone: &TimeZone, now_ms: u64) -> Option<u64> {
    let local = cron.find_previous_occurrence(&local(zone, now_ms)?, true).ok()?;
    instant(zone, local).filter(|at_ms| *at_ms <= now_ms)
}

fn local(zone: &TimeZone, ms: u64) -> Option<chrono::NaiveDateTime> {
    let local = zone.to_datetime(Timestamp::from_millisecond(ms.try_into().ok()?).ok()?);
    let day = chrono::NaiveDate::from_ymd_opt(local.year().into(), local.month().unsigned_abs().into(), local.day().unsigned_abs().into())?;
    day.and_hms_opt(local.hour().unsigned_abs().into(), local.minute().unsigned_abs().into(), local.second().unsigned_abs().into())
}

fn instant(zone: &TimeZone, local: chrono::NaiveDateTime) -> Option<u64> {
    let civil = TimeZone::UTC.to_datetime(Timestamp::from_millisecond(local.and_utc().timestamp_millis()).ok()?);
    zone.to_timestamp(civil).ok()?.as_millisecond().try_into().ok()
}

/// A repeating job and when it is due next.
struct Repeating {
    cron: Cron,
    last_ms: u64,
    next_ms: Option<u64>,
}

/// What is at work in the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Running {
    Single(Key),
    Repeating(String, String),
}

impl<P: Plugins> Runner<P> {
    pub(super) async fn start_jobs(self: &Arc<Self>) -> Result<(), RunError> {
        // Before the first request, so that a first run is missed by nobody.
        let live = self.plugins.live().borrow().clone();
        let repeating = self.repeating(&live).await?;
        let runner = self.clone();
        self.tasks.spawn(async move { runner.schedule_jobs(repeating).await });
        Ok(())
    }

    async fn repeating(&self, live: &LivePlugins) -> Result<BTreeMap<(String, String), Repeating>, RunError> {
        let mut all = BTreeMap::new();
        for plugin in live.values() {
            for job in &plugin.manifest.jobs {
                let Ok(cron) = Cron::from_str(&job.cron) else {
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
                let next_ms = next_after(&cron, &self.options.time_zone, last_ms);
                all.insert((plugin.name().to_owned(), job.name.clone()), Repeating { cron, last_ms, next_ms });
            }
        }
        Ok(all)
    }

    async fn schedule_jobs(self: Arc<Self>, mut repeating: BTreeMap<(String, String), Repeating>) {
        let mut live = self.plugins.live();
        let mut turns: JoinSet<Running> = JoinSet::new();
        let mut running: HashSet<Running> = HashSet::new();
        loop {
            let now_ms = self.now_ms();
            let mut next_ms = u64::MAX;
            if !self.stop.is_cancelled() {
                self.start_repeating(&mut repeating, &mut running, &mut turns, now_ms);
                next_ms = repeating.values().filter_map(|r| r.next_ms).filter(|at| *at > now_ms).min().unwrap_or(u64::MAX);
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
            tokio::select! {
                Some(ended) = turns.join_next(), if !turns.is_empty() => match ended {
                    Ok(ended) => {
                        if let Running::Repeating(plugin, name) = &ended
                            && let Some(job) = repeating.get_mut(&(plugin.clone(), name.clone()))
                        {
                            job.next_ms = self.next_run(job, plugin, name);
                        }
                        running.remove(&ended);
                    }
                    Err(error) => tracing::error!(target: "work", %error, "a job's task broke off"),
                },
                () = self.wake.jobs.notified() => {}
                Ok(()) = live.changed() => {
                    let now_live = live.borrow_and_update().clone();
                    match self.repeating(&now_live).await {
                        Ok(all) => repeating = all,
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
        next_after(&job.cron, &self.options.time_zone, job.last_ms)
    }

    fn start_repeating(
        self: &Arc<Self>,
        repeating: &mut BTreeMap<(String, String), Repeating>,
        running: &mut HashSet<Running>,
        turns: &mut JoinSet<Running>,
        now_ms: u64,
    ) {
        for ((plugin, name), job) in repeating {
            let Some(due_ms) = job.next_ms.filter(|due_ms| *due_ms <= now_ms) else { continue };
            let id = Running::Repeating(plugin.clone(), name.clone());
            if turns.len() >= RUNNING_MAX || !running.insert(id.clone()) {
                continue;
            }
            // Of runs that were missed, only the last.
            let due_ms = last_until(&job.cron, &self.options.time_zone, now_ms).unwrap_or(due_ms).max(due_ms);
            let (runner, plugin, name) = (self.clone(), plugin.clone(), name.clone());
            turns.spawn(async move {
                runner.run_repeating(&plugin, &name, due_ms).await;
                id
            });
        }
    }

    /// Starts what is due; when the first of the others is.
    async fn start_single(
        self: &Arc<Self>,
        running: &mut HashSet<Running>,
        turns: &mut JoinSet<Running>,
        now_ms: u64,
    ) -> Result<u64, RunError> {
        let (first, _) = keys::jobs_due_until(0);
        let (_, last) = keys::jobs_due_until(u64::MAX - 1);
        // Those at work are still in the index.
        let page = self.store.begin().scan(Bound::Included(&first), Bound::Excluded(&last), 2 * RUNNING_MAX + 1, false)?;
        for (entry, _) in &page {
            let Some((due_ms, id)) = keys::job_of(entry) else { continue };
            if due_ms > now_ms {
                return Ok(due_ms);
            }
            let id = Key::from_slice(id);
            if turns.len() >= RUNNING_MAX {
                break;
            }
            if running.insert(Running::Single(id.clone())) {
                let runner = self.clone();
                turns.spawn(async move {
                    if let Err(error) = runner.run_single(&id, due_ms).await {
                        tracing::warn!(target: "work", %error, "cannot run a job now");
                        runner.pause_ms(runner.options.retry.wait_ms(4)).await;
                    }
                    Running::Single(id)
                });
            }
        }
        Ok(u64::MAX)
    }

    async fn run_single(self: &Arc<Self>, id: &Key, next_ms: u64) -> Result<(), RunError> {
        let is_same = |record: &Record| record.next_ms == next_ms;
        let Some(record) = read(&mut self.store.begin(), id)?.filter(is_same) else { return Ok(()) };
        if !self.plugins.live().borrow().contains_key(&record.plugin) {
            return self.move_job(id, next_ms, |record, now_ms| record.next_ms = now_ms + ABSENT_AGAIN_MS).await;
        }
        let Record { plugin, name, key, payload, due_ms, failures, .. } = record;
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
                                store(txn, id, &Record { next_ms: now_ms, failures: 0, ..record });
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
                    return Ok(());
                }
                None => return Ok(()),
            },
            Err(e) if e.is_passing() => return Err(e),
            Err(e) => e.to_string(),
        };
        self.job_failed(&plugin, &call, failures + 1, &error);
        if failures + 1 < self.options.retry.attempts_max {
            return self
                .move_job(id, next_ms, |record, now_ms| {
                    record.failures += 1;
                    record.next_ms = now_ms + self.options.retry.wait_ms(record.failures);
                })
                .await;
        }
        let PluginCall::Job(job) = call else { return Ok(()) };
        self.host(|txn| {
            if read(txn, id)?.as_ref().is_some_and(is_same) {
                let Job { name, key, due_ms, payload } = job.clone();
                self.bury(txn, &plugin, DeadWork::Job { name, key, due_ms, payload }, error.clone());
                unschedule(txn, id)?;
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

    /// All tries of one run, so that the next run cannot overtake it.
    async fn run_repeating(self: &Arc<Self>, plugin: &str, name: &str, due_ms: u64) {
        let last = keys::cron(plugin, name);
        let call = PluginCall::Job(Job { name: name.to_owned(), key: String::new(), due_ms, payload: Vec::new() });
        let mut failures = 0;
        loop {
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
            let (error, counts) = match run.await {
                Ok(outcome) => match outcome.value {
                    Some(Ok(again)) => {
                        count(&self.metrics.jobs_run);
                        failures = 0;
                        if again && !self.stop.is_cancelled() {
                            continue;
                        }
                        return;
                    }
                    Some(Err(message)) => (message, true),
                    None => return,
                },
                Err(e) if e.is_not_found() && !self.plugins.live().borrow().contains_key(plugin) => return,
                Err(e) => (e.to_string(), !e.is_passing()),
            };
            if counts {
                failures += 1;
                self.job_failed(plugin, &call, failures, &error);
            }
            if failures >= self.options.retry.attempts_max {
                let given_up = self.host(|txn| {
                    let work = DeadWork::Job { name: name.to_owned(), key: String::new(), due_ms, payload: Vec::new() };
                    self.bury(txn, plugin, work, error.clone());
                    txn.put(&last, due_ms.to_be_bytes().to_vec());
                    Ok(())
                });
                if let Err(error) = given_up.await {
                    tracing::warn!(target: "work", plugin, name, %error, "cannot give a job up");
                }
                return;
            }
            if !self.pause_ms(self.options.retry.wait_ms(failures.max(1))).await {
                return;
            }
        }
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
