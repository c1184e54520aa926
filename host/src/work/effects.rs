//! Effects: messages that units leave behind, carried out after the commit.
//!
//! An effect's record passes through two units. `perform` runs in the target
//! plugin and commits with its answer; `completed` runs in the requester and
//! commits with the record's deletion. What a crash interrupts is taken up from
//! the record. The dispatcher keeps only keys in memory and gives each plugin a
//! bounded number of calls, so that a slow one does not hold the others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::dead::{DeadWork, decode_grown};
use super::keys::{self, Key};
use super::metrics::count;
use super::runner::{RunError, Runner, Verdict, out_of_place};
use super::trouble::{self, Trouble};
use super::unit::{Kind, StagedEffect, Unit, UnitError, encode};
use super::{PluginAnswer, PluginCall, Plugins};
use crate::engine::bindings::exports::souk::host::effect_handler::{Completion, Effect, Failure};
use crate::store::Txn;

const RUNNING_MAX: usize = 64;
const RUNNING_PER_PLUGIN_MAX: usize = 16;
/// Clocks are set: no sleep is longer.
const SLEEP_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    requester: String,
    target: String,
    kind: String,
    key: String,
    payload: Vec<u8>,
    /// Not to be touched before; moved on by failures.
    due_ms: u64,
    /// Failed tries of what is to be done next.
    failures: u32,
    /// None: to be performed. Else the requester is to be told.
    outcome: Option<Result<Vec<u8>, String>>,
    /// Of the last try, if it failed; and when the first one did.
    error: String,
    since_ms: u64,
}

impl Record {
    fn read(bytes: &[u8]) -> Result<Self, RunError> {
        decode_grown(bytes, 2)
    }

    fn failed(&mut self, now_ms: u64, wait_ms: u64, error: &str) {
        if self.failures == 0 {
            self.since_ms = now_ms;
        }
        self.failures = self.failures.saturating_add(1);
        self.due_ms = now_ms + wait_ms;
        error.clone_into(&mut self.error);
    }

    fn trouble(&self, at_ms: u64) -> Trouble {
        let is_asked = self.outcome.is_none();
        Trouble {
            kind: if is_asked { trouble::Kind::Effect } else { trouble::Kind::Answer },
            plugin: self.plugin().to_owned(),
            what: self.kind.clone(),
            key: self.key.clone(),
            other: if is_asked { self.requester.clone() } else { self.target.clone() },
            tries: self.failures,
            since_ms: self.since_ms,
            at_ms,
            next_ms: Some(self.due_ms),
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

pub(super) fn payload(txn: &mut Txn, key: &Key) -> Result<Vec<u8>, RunError> {
    Ok(read(txn, key)?.map(|record| record.payload).unwrap_or_default())
}

impl Record {
    /// The plugin to be called next.
    fn plugin(&self) -> &str {
        if self.outcome.is_none() { &self.target } else { &self.requester }
    }

    fn staged(&self, key: Key) -> StagedEffect {
        StagedEffect { key, target: self.plugin().to_owned(), due_ms: self.due_ms }
    }
}

/// An effect that a handler asks for.
pub(crate) struct Request {
    pub target: String,
    pub kind: String,
    pub key: String,
    pub payload: Vec<u8>,
    pub not_before_ms: u64,
}

/// Adds an effect to what the unit will commit, unless it is stored already.
pub(crate) fn request(unit: &mut Unit, requester: &str, effect: Request) -> Result<(), UnitError> {
    unit.charge_effect()?;
    unit.charge_bytes(effect.payload.len())?;
    let now_ms = unit.now_ms;
    let txn = unit.write()?;
    let key = keys::effect(requester, &effect.key);
    let stored = txn.get(&key)?.and_then(|bytes| Record::read(&bytes).ok());
    let record = stored.unwrap_or_else(|| {
        let record = Record {
            requester: requester.to_owned(),
            target: effect.target,
            kind: effect.kind,
            key: effect.key,
            payload: effect.payload,
            due_ms: effect.not_before_ms.max(now_ms),
            failures: 0,
            outcome: None,
            error: String::new(),
            since_ms: 0,
        };
        txn.put(&key, encode(&record));
        record
    });
    unit.staged.effects.push(record.staged(key));
    Ok(())
}

/// Takes an effect back that was not answered. The dispatcher finds its record
/// gone; a try that is under way conflicts with this unit and leaves no trace.
pub(crate) fn withdraw(unit: &mut Unit, requester: &str, key: &str) -> Result<bool, UnitError> {
    unit.charge_effect()?;
    let key = keys::effect(requester, key);
    let txn = unit.write()?;
    let stored = txn.get(&key)?.and_then(|bytes| Record::read(&bytes).ok());
    let is_open = stored.is_some_and(|record| record.outcome.is_none());
    if is_open {
        txn.delete(&key);
        // One that this very unit asked for is not to be started at its commit.
        unit.staged.effects.retain(|staged| staged.key != key);
    }
    Ok(is_open)
}

/// What a unit has asked for, read from what it will commit.
pub(super) fn asked(record: &[u8]) -> Option<Request> {
    let Record { target, kind, key, payload, due_ms, .. } = Record::read(record).ok()?;
    Some(Request { target, kind, key, payload, not_before_ms: due_ms })
}

/// What became of one turn at an effect.
enum Turn {
    /// The record is gone.
    Done,
    /// Not yet, or not again before `due_ms`.
    Later(StagedEffect),
    /// The plugin to be called is not installed.
    Absent(StagedEffect),
}

/// Keys of all effects there are, by what they wait for.
#[derive(Default)]
struct Queue {
    known: HashSet<Key>,
    timed: BTreeSet<(u64, Key, String)>,
    ready: BTreeMap<String, VecDeque<Key>>,
    absent: Vec<StagedEffect>,
    running: HashMap<String, usize>,
    /// Asked for again while being worked on.
    again: HashMap<Key, StagedEffect>,
}

impl Queue {
    fn add(&mut self, effect: StagedEffect) {
        if self.known.insert(effect.key.clone()) {
            self.timed.insert((effect.due_ms, effect.key, effect.target));
        } else if let Some(timed) = self.timed.iter().find(|(_, key, _)| *key == effect.key).cloned() {
            // An operator has it tried sooner.
            self.timed.remove(&timed);
            self.timed.insert((effect.due_ms.min(timed.0), effect.key, effect.target));
        } else {
            self.again.insert(effect.key.clone(), effect);
        }
    }

    /// Next to be worked on, and its plugin.
    fn next(&mut self, now_ms: u64) -> Option<(Key, String)> {
        while self.timed.first().is_some_and(|(due_ms, ..)| *due_ms <= now_ms) {
            let (_, key, plugin) = self.timed.pop_first()?;
            self.ready.entry(plugin).or_default().push_back(key);
        }
        let running = &self.running;
        let free = |plugin: &String| running.get(plugin).copied().unwrap_or(0) < RUNNING_PER_PLUGIN_MAX;
        // The one with the least at work: none is left behind by a busier one.
        let plugin = self.ready.keys().filter(|p| free(p)).min_by_key(|p| running.get(*p).copied().unwrap_or(0))?.clone();
        let keys = self.ready.get_mut(&plugin)?;
        let key = keys.pop_front()?;
        if keys.is_empty() {
            self.ready.remove(&plugin);
        }
        *self.running.entry(plugin.clone()).or_default() += 1;
        Some((key, plugin))
    }

    fn ended(&mut self, key: Key, plugin: &str, turn: Turn) {
        if let Some(running) = self.running.get_mut(plugin) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(plugin);
            }
        }
        let again = self.again.remove(&key);
        match turn {
            Turn::Later(effect) => _ = self.timed.insert((effect.due_ms, effect.key, effect.target)),
            Turn::Absent(effect) => self.absent.push(effect),
            Turn::Done => {
                self.known.remove(&key);
                if let Some(effect) = again {
                    self.add(effect);
                }
            }
        }
    }

    fn plugins_changed(&mut self) {
        for effect in std::mem::take(&mut self.absent) {
            self.timed.insert((effect.due_ms, effect.key, effect.target));
        }
    }
}

impl<P: Plugins> Runner<P> {
    pub(super) fn start_effects(self: &Arc<Self>) -> Result<(), RunError> {
        let mut queue = Queue::default();
        let (mut start, end) = keys::effects();
        loop {
            let page = self.store.begin().scan(Bound::Excluded(&start), Bound::Excluded(&end), 1_000, false)?;
            let Some((last, _)) = page.last() else { break };
            start = Key::from_slice(last);
            for (key, bytes) in &page {
                match Record::read(bytes) {
                    Ok(record) => queue.add(record.staged(Key::from_slice(key))),
                    Err(error) => tracing::error!(target: "work", key = %key.escape_ascii(), %error, "a damaged effect is left alone"),
                }
            }
        }
        if let Some(requested) = self.wake.effects_receiver.lock().take() {
            let runner = self.clone();
            self.tasks.spawn(async move { runner.dispatch_effects(queue, requested).await });
        }
        Ok(())
    }

    async fn dispatch_effects(self: Arc<Self>, mut queue: Queue, mut requested: mpsc::UnboundedReceiver<StagedEffect>) {
        let mut live = self.plugins.live();
        let mut turns: JoinSet<Turn> = JoinSet::new();
        let mut running: HashMap<tokio::task::Id, (Key, String)> = HashMap::new();
        loop {
            let now_ms = self.now_ms();
            while turns.len() < RUNNING_MAX
                && !self.stop.is_cancelled()
                && let Some((key, plugin)) = queue.next(now_ms)
            {
                let runner = self.clone();
                let at_work = (key.clone(), plugin.clone());
                let task = turns.spawn(async move { runner.take_turn(&key, &plugin).await });
                running.insert(task.id(), at_work);
            }
            if self.stop.is_cancelled() && turns.is_empty() {
                return;
            }
            // When all places are taken, the next end of a turn is what matters.
            let has_room = turns.len() < RUNNING_MAX && !self.stop.is_cancelled();
            let due_in = queue.timed.first().filter(|_| has_room).map(|(due_ms, ..)| Duration::from_millis(due_ms.saturating_sub(now_ms).max(1)).min(SLEEP_MAX));
            tokio::select! {
                biased;
                Some(ended) = turns.join_next_with_id(), if !turns.is_empty() => {
                    let (task, turn) = match ended {
                        Ok((task, turn)) => (task, Ok(turn)),
                        Err(error) => (error.id(), Err(error)),
                    };
                    let Some((key, plugin)) = running.remove(&task) else { continue };
                    let turn = turn.unwrap_or_else(|error| self.try_later(&key, &plugin, &error));
                    let has_come = matches!(&turn, Turn::Absent(e) if live.borrow().contains_key(&e.target));
                    queue.ended(key, &plugin, turn);
                    if has_come {
                        queue.plugins_changed();
                    }
                }
                Some(effect) = requested.recv() => {
                    queue.add(effect);
                    while let Ok(effect) = requested.try_recv() {
                        queue.add(effect);
                    }
                }
                Ok(()) = live.changed() => queue.plugins_changed(),
                () = tokio::time::sleep(due_in.unwrap_or_default()), if due_in.is_some() => {}
                () = self.stop.cancelled(), if !self.stop.is_cancelled() => {}
            }
        }
    }

    /// One turn: performs if that is to be done, and then completes.
    async fn take_turn(self: &Arc<Self>, key: &Key, plugin: &str) -> Turn {
        self.advance(key).await.unwrap_or_else(|error| self.try_later(key, plugin, &error))
    }

    /// Storage, too many conflicts, a task that broke off: nothing was changed,
    /// nothing is counted.
    fn try_later(&self, key: &Key, plugin: &str, error: &dyn std::fmt::Display) -> Turn {
        tracing::warn!(target: "work", plugin, %error, "cannot work on an effect now");
        let due_ms = self.now_ms() + self.options.retry.wait_ms(4);
        Turn::Later(StagedEffect { key: key.clone(), target: plugin.to_owned(), due_ms })
    }

    async fn advance(self: &Arc<Self>, key: &Key) -> Result<Turn, RunError> {
        loop {
            let Some(record) = read(&mut self.store.begin(), key)? else {
                self.troubles.clear(key);
                self.effect_is_done(key);
                return Ok(Turn::Done);
            };
            if record.due_ms > self.now_ms() || self.stop.is_cancelled() {
                return Ok(Turn::Later(record.staged(key.clone())));
            }
            if !self.plugins.live().borrow().contains_key(record.plugin()) {
                return Ok(Turn::Absent(record.staged(key.clone())));
            }
            if record.outcome.is_none() {
                self.perform(key, record).await?;
            } else {
                self.complete(key, record).await?;
            }
        }
    }

    async fn perform(self: &Arc<Self>, key: &Key, record: Record) -> Result<(), RunError> {
        let target = record.target.as_str();
        let call = PluginCall::Perform(Effect {
            requester: record.requester.clone(),
            kind: record.kind.clone(),
            key: record.key.clone(),
            attempt: record.failures + 1,
            payload: record.payload.clone(),
        });
        let run = self.run(
            target,
            &call,
            self.background_start(Kind::Effect),
            |unit| Ok(read(unit.host_txn()?, key)?.is_some_and(|r| r.outcome.is_none())),
            |unit, answer| match answer {
                PluginAnswer::Perform(Ok(bytes)) => {
                    let answered = Record { outcome: Some(Ok(bytes)), failures: 0, error: String::new(), ..record.clone() };
                    unit.host_txn()?.put(key, encode(&answered));
                    Ok(Verdict::Commit(Ok(())))
                }
                PluginAnswer::Perform(Err(failure)) => Ok(Verdict::RollBack(Err(failure))),
                other => Err(out_of_place(target, &other)),
            },
        );
        let (error, is_final) = match run.await {
            Ok(outcome) => match outcome.value {
                Some(Ok(())) => {
                    count(&self.metrics.effects_performed);
                    self.troubles.clear(key);
                    return Ok(());
                }
                None => return Ok(()),
                Some(Err(Failure::Refused(message))) => (message, true),
                Some(Err(Failure::Retry(message))) => (message, false),
            },
            Err(e) if e.is_passing() => return Err(e),
            Err(e) => (e.to_string(), false),
        };
        if !is_final {
            count(&self.metrics.effects_failed);
            tracing::warn!(target: "work", plugin = target, kind = record.kind, failures = record.failures + 1, error, "an effect failed");
        }
        if !is_final && !self.options.retry.is_spent(record.failures + 1) {
            return self.put_off_effect(key, &error).await;
        }
        self.troubles.clear(key);
        self.change(key, |record| {
            record.outcome = Some(Err(error.clone()));
            record.failures = 0;
        })
        .await
    }

    async fn put_off_effect(&self, key: &Key, error: &str) -> Result<(), RunError> {
        self.change(key, |record| record.failed(self.now_ms(), self.options.retry.wait_ms(record.failures + 1), error)).await?;
        match read(&mut self.store.begin(), key)? {
            Some(record) => self.troubles.set(key, record.trouble(self.now_ms())),
            None => self.troubles.clear(key),
        }
        Ok(())
    }

    /// For an operator: it is due now.
    pub(super) async fn hasten_effect(&self, key: &Key) -> Result<(), RunError> {
        self.change(key, |record| record.due_ms = record.due_ms.min(self.now_ms())).await?;
        match read(&mut self.store.begin(), key)? {
            Some(record) => _ = self.wake.effects.send(record.staged(key.clone())),
            None => self.troubles.clear(key),
        }
        Ok(())
    }

    /// For an operator: the requester is told that it failed; of an answer nobody is told.
    pub(super) async fn drop_effect(&self, key: &Key) -> Result<(), RunError> {
        self.host(|txn| {
            match read(txn, key)? {
                Some(record) if record.outcome.is_none() => {
                    let outcome = Some(Err(format!("given up by the operator after {} tries: {}", record.failures, record.error)));
                    txn.put(key, encode(&Record { outcome, failures: 0, due_ms: self.now_ms(), ..record }));
                }
                Some(_) => txn.delete(key),
                None => {}
            }
            Ok(())
        })
        .await?;
        self.troubles.clear(key);
        match read(&mut self.store.begin(), key)? {
            Some(record) => _ = self.wake.effects.send(record.staged(key.clone())),
            None => self.effect_is_done(key),
        }
        Ok(())
    }

    async fn complete(self: &Arc<Self>, key: &Key, record: Record) -> Result<(), RunError> {
        let Record { requester, target, kind, key: name, payload, failures, outcome, since_ms, .. } = record;
        let Some(outcome) = outcome else { return Ok(()) };
        let call = PluginCall::Completed(Completion { target, kind, key: name, payload, outcome });
        let run = self.run(
            &requester,
            &call,
            self.background_start(Kind::Effect),
            |unit| Ok(read(unit.host_txn()?, key)?.is_some()),
            |unit, answer| match answer {
                PluginAnswer::Completed(Ok(())) => {
                    unit.host_txn()?.delete(key);
                    Ok(Verdict::Commit(Ok(())))
                }
                PluginAnswer::Completed(Err(message)) => Ok(Verdict::RollBack(Err(message))),
                other => Err(out_of_place(&requester, &other)),
            },
        );
        let error = match run.await {
            Ok(outcome) => match outcome.value {
                Some(Err(message)) => message,
                Some(Ok(())) => {
                    count(&self.metrics.effects_completed);
                    self.troubles.clear(key);
                    return Ok(());
                }
                None => return Ok(()),
            },
            Err(e) if e.is_passing() => return Err(e),
            Err(e) => e.to_string(),
        };
        tracing::warn!(target: "work", plugin = requester, failures = failures + 1, error, "an effect's answer was not taken");
        if !self.gives_up(&requester, failures + 1) {
            return self.put_off_effect(key, &error).await;
        }
        let PluginCall::Completed(completion) = call else { return Ok(()) };
        self.host(|txn| {
            if read(txn, key)?.is_some() {
                let Completion { target, kind, key: name, payload, outcome } = completion.clone();
                self.put_dead_letter(txn, &requester, DeadWork::Completion { target, kind, key: name, payload, outcome }, error.clone(), failures + 1, since_ms);
                txn.delete(key);
            }
            Ok(())
        })
        .await?;
        self.troubles.clear(key);
        self.gave_up(&requester, &error);
        Ok(())
    }

    async fn change(&self, key: &Key, change: impl Fn(&mut Record)) -> Result<(), RunError> {
        self.host(|txn| {
            if let Some(mut record) = read(txn, key)? {
                change(&mut record);
                txn.put(key, encode(&record));
            }
            Ok(())
        })
        .await
    }
}

fn read(txn: &mut Txn, key: &Key) -> Result<Option<Record>, RunError> {
    txn.get(key)?.map(|bytes| Record::read(&bytes)).transpose()
}
