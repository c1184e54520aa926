//! Parked events: those of a key whose first one fails wait in a lane of their
//! own, in their order, while the subscriber goes on with all other keys.
//!
//! An event that fails is parked in the transaction that moves the subscriber's
//! cursor past it, and so is each later one of its key. The lane's first event
//! is tried again by [`Retry`](super::Retry); once it is handled, or a dead
//! letter, the next one follows. A lane and its events are only in the store:
//! what a crash interrupts goes on from there.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dead::{DeadWork, decode};
use super::keys::{self, LaneId, Position};
use super::metrics::count;
use super::outbox::{Handled, Record, hears, is_subscriber};
use super::runner::{RunError, Runner};
use super::trouble::{Kind as TroubleKind, Trouble};
use super::unit::{Unit, encode};
use super::{PluginCall, Plugins};
use crate::engine::bindings::exports::souk::host::event_handler::Event;
use crate::store::Txn;

/// Keys of one subscriber that can wait. With more, or with more events, it
/// takes no new ones: those stay in the log.
const LANES_MAX: usize = 1_000;
const EVENTS_MAX: u64 = 10_000;
/// Clocks are set: no sleep is longer.
const SLEEP_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// Of its events.
    key: String,
    topic: String,
    publisher: String,
    waiting: u32,
    /// Of the first event: how often, since when, when again, and the last error.
    failures: u32,
    since_ms: u64,
    at_ms: u64,
    due_ms: u64,
    error: String,
}

impl Lane {
    pub fn trouble(&self, plugin: &str) -> Trouble {
        Trouble {
            kind: TroubleKind::Event,
            plugin: plugin.to_owned(),
            what: self.topic.clone(),
            key: self.key.clone(),
            other: self.publisher.clone(),
            tries: self.failures,
            since_ms: self.since_ms,
            at_ms: self.at_ms,
            next_ms: Some(self.due_ms),
            behind: self.waiting.saturating_sub(1),
            error: self.error.clone(),
        }
    }
}

pub(super) enum Parked {
    Yes,
    /// Its lane is gone meanwhile: it is to be handled.
    NoLane,
}

impl<P: Plugins> Runner<P> {
    pub(super) fn lane(&self, txn: &mut Txn, plugin: &str, id: LaneId) -> Result<Option<Lane>, RunError> {
        txn.get(&keys::lane(plugin, id))?.map(|bytes| decode(&bytes)).transpose()
    }

    /// Behind the others of its key; with an error, as the first of a new lane.
    pub(super) async fn park(&self, plugin: &str, position: Position, record: &Record, error: Option<&str>) -> Result<Parked, RunError> {
        let (id, cursor) = (keys::lane_id(&record.key), keys::cursor(plugin));
        let parked = self
            .host(|txn| {
                let lane = match (self.lane(txn, plugin, id)?, error) {
                    (Some(lane), _) => Lane { waiting: lane.waiting + 1, ..lane },
                    (None, Some(error)) => self.new_lane(record, error),
                    (None, None) => return Ok(None),
                };
                self.ensure_room(txn, plugin, lane.waiting == 1)?;
                txn.put(&keys::lane(plugin, id), encode(&lane));
                txn.put(&keys::parked(plugin, id, position), encode(record));
                txn.put(&cursor, position.to_vec());
                Ok(Some(lane))
            })
            .await?;
        let Some(lane) = parked else { return Ok(Parked::NoLane) };
        count(&self.metrics.events_parked);
        self.troubles.set(&keys::lane(plugin, id), lane.trouble(plugin));
        self.wake.parked.send_modify(|n| *n += 1);
        Ok(Parked::Yes)
    }

    fn new_lane(&self, record: &Record, error: &str) -> Lane {
        let now_ms = self.now_ms();
        Lane {
            key: record.key.clone(),
            topic: record.topic.clone(),
            publisher: record.publisher.clone(),
            waiting: 1,
            failures: 1,
            since_ms: now_ms,
            at_ms: now_ms,
            due_ms: now_ms + self.options.retry.wait_ms(1),
            error: error.to_owned(),
        }
    }

    fn ensure_room(&self, txn: &mut Txn, plugin: &str, is_new: bool) -> Result<(), RunError> {
        let lanes = lanes_of(txn, plugin)?;
        let events: u64 = lanes.iter().map(|(_, lane)| u64::from(lane.waiting)).sum();
        if events >= EVENTS_MAX || (is_new && lanes.len() >= LANES_MAX) {
            return Err(RunError::Unavailable(format!("{events} events of {} keys wait to be tried again: no more are taken before", lanes.len())));
        }
        Ok(())
    }

    /// Tries what is parked for a subscriber; ends when it no longer hears anything, or at the stop.
    pub(super) async fn retry_parked(self: &Arc<Self>, plugin: &str) {
        let mut parked = self.wake.parked.subscribe();
        let mut live = self.plugins.live();
        let version = |live: &super::LivePlugins| live.get(plugin).map(|plugin| plugin.digest.clone());
        let mut tried = version(&live.borrow());
        loop {
            parked.borrow_and_update();
            let now_live = live.borrow_and_update().clone();
            if !is_subscriber(&now_live, plugin) || self.stop.is_cancelled() {
                return;
            }
            // A new version may well do what the one before could not.
            let is_new = std::mem::replace(&mut tried, version(&now_live)) != tried;
            let due_in = match self.retry_due(plugin, is_new).await {
                Ok(next_ms) => next_ms.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(self.now_ms()).max(1)).min(SLEEP_MAX)),
                Err(error) => {
                    tracing::warn!(target: "work", plugin, %error, "cannot try parked events now");
                    Some(Duration::from_millis(self.options.retry.wait_ms(4)))
                }
            };
            tokio::select! {
                biased;
                changed = parked.changed() => if changed.is_err() { return },
                changed = live.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(due_in.unwrap_or_default()), if due_in.is_some() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// When the next one is due.
    async fn retry_due(self: &Arc<Self>, plugin: &str, all: bool) -> Result<Option<u64>, RunError> {
        let now_ms = self.now_ms();
        let mut lanes = lanes_of(&mut self.store.begin(), plugin)?;
        lanes.sort_by_key(|(_, lane)| lane.due_ms);
        let mut next_ms = None;
        for (id, lane) in lanes {
            let later_ms = if all || lane.due_ms <= now_ms { self.retry_lane(plugin, id).await? } else { Some(lane.due_ms) };
            next_ms = next_ms.into_iter().chain(later_ms).min();
            if self.stop.is_cancelled() {
                break;
            }
        }
        Ok(next_ms)
    }

    /// The first event of a lane, and those behind it for as long as they succeed; when to go on.
    async fn retry_lane(self: &Arc<Self>, plugin: &str, id: LaneId) -> Result<Option<u64>, RunError> {
        while !self.stop.is_cancelled() {
            let (first, last) = keys::parked_in(plugin, id);
            let mut txn = self.store.begin();
            let Some(lane) = self.lane(&mut txn, plugin, id)? else { return Ok(None) };
            let head = txn.scan(Bound::Included(&first), Bound::Included(&last), 1, false)?.into_iter().next();
            let Some((key, bytes)) = head else {
                self.host(|txn| Ok(txn.delete(&keys::lane(plugin, id)))).await?;
                self.troubles.clear(&keys::lane(plugin, id));
                return Ok(None);
            };
            let record = match decode::<Record>(&bytes) {
                Ok(record) if hears(&self.plugins.live().borrow(), plugin, &record.topic) => record,
                Ok(_) => {
                    self.pass(plugin, id, &key, None).await?;
                    continue;
                }
                Err(error) => {
                    tracing::error!(target: "work", plugin, event = hex::encode(&key), %error, "a damaged event is left out");
                    self.pass(plugin, id, &key, None).await?;
                    continue;
                }
            };
            let call = PluginCall::Event(record.event(keys::parked_at(&key).unwrap_or_default()));
            let failures = lane.failures.saturating_add(1);
            let is_due = |unit: &mut Unit| Ok(unit.host_txn()?.get(&key)?.is_some());
            let pass = |txn: &mut Txn| self.take_out(txn, plugin, id, &key);
            let error = match self.handle(plugin, &call, failures, is_due, pass).await? {
                Handled::Yes => {
                    self.note_lane(plugin, id)?;
                    continue;
                }
                // An operator has dropped it.
                Handled::CalledOff => continue,
                Handled::PluginGone => return Ok(None),
                Handled::Failed(error) => error,
            };
            if self.gives_up(plugin, failures) {
                let PluginCall::Event(Event { id: event, topic, key: event_key, publisher, at_ms, payload }) = call else { return Ok(None) };
                let work = DeadWork::Event { id: event, topic, key: event_key, publisher, at_ms, payload };
                self.pass(plugin, id, &key, Some((work, &lane, error))).await?;
                continue;
            }
            return self.put_off(plugin, id, failures, error).await;
        }
        Ok(None)
    }

    async fn put_off(&self, plugin: &str, id: LaneId, failures: u32, error: String) -> Result<Option<u64>, RunError> {
        let due_ms = self.now_ms() + self.options.retry.wait_ms(failures);
        self.host(|txn| {
            if let Some(lane) = self.lane(txn, plugin, id)? {
                let lane = Lane { failures, due_ms, at_ms: self.now_ms(), error: error.clone(), ..lane };
                txn.put(&keys::lane(plugin, id), encode(&lane));
            }
            Ok(())
        })
        .await?;
        self.note_lane(plugin, id)?;
        Ok(Some(due_ms))
    }

    /// Goes on behind an event, which becomes a dead letter if there is one to be.
    async fn pass(&self, plugin: &str, id: LaneId, key: &[u8], dead: Option<(DeadWork, &Lane, String)>) -> Result<(), RunError> {
        self.host(|txn| {
            if txn.get(key)?.is_some() {
                self.take_out(txn, plugin, id, key)?;
                if let Some((work, lane, error)) = &dead {
                    self.put_dead_letter(txn, plugin, work.clone(), error.clone(), lane.failures.saturating_add(1), lane.since_ms);
                }
            }
            Ok(())
        })
        .await?;
        if let Some((.., error)) = &dead {
            self.gave_up(plugin, error);
        }
        self.note_lane(plugin, id)
    }

    /// Deletes an event from its lane; the next one is due now.
    fn take_out(&self, txn: &mut Txn, plugin: &str, id: LaneId, key: &[u8]) -> Result<(), RunError> {
        txn.delete(key);
        match self.lane(txn, plugin, id)? {
            Some(lane) if lane.waiting > 1 => {
                let now_ms = self.now_ms();
                let lane = Lane { waiting: lane.waiting - 1, failures: 0, since_ms: now_ms, due_ms: now_ms, ..lane };
                txn.put(&keys::lane(plugin, id), encode(&lane));
            }
            _ => txn.delete(&keys::lane(plugin, id)),
        }
        Ok(())
    }

    fn note_lane(&self, plugin: &str, id: LaneId) -> Result<(), RunError> {
        let key = keys::lane(plugin, id);
        match self.lane(&mut self.store.begin(), plugin, id)? {
            Some(lane) if lane.failures > 0 => self.troubles.set(&key, lane.trouble(plugin)),
            _ => self.troubles.clear(&key),
        }
        Ok(())
    }

    /// For an operator: the first event of a lane is due now.
    pub(super) async fn hasten_lane(&self, plugin: &str, id: LaneId) -> Result<(), RunError> {
        self.host(|txn| {
            if let Some(lane) = self.lane(txn, plugin, id)? {
                txn.put(&keys::lane(plugin, id), encode(&Lane { due_ms: self.now_ms(), ..lane }));
            }
            Ok(())
        })
        .await?;
        self.note_lane(plugin, id)?;
        self.wake.parked.send_modify(|n| *n += 1);
        Ok(())
    }

    /// For an operator: the first event of a lane is not handled, and the next one follows.
    pub(super) async fn drop_first_of_lane(&self, plugin: &str, id: LaneId) -> Result<(), RunError> {
        let (first, last) = keys::parked_in(plugin, id);
        let head = self.store.begin().scan(Bound::Included(&first), Bound::Included(&last), 1, false)?.into_iter().next();
        if let Some((key, _)) = head {
            self.pass(plugin, id, &key, None).await?;
        }
        self.wake.parked.send_modify(|n| *n += 1);
        Ok(())
    }

    pub(super) fn payload_of_lane(&self, plugin: &str, id: LaneId) -> Result<Vec<u8>, RunError> {
        let (first, last) = keys::parked_in(plugin, id);
        let head = self.store.begin().scan(Bound::Included(&first), Bound::Included(&last), 1, false)?.into_iter().next();
        head.map_or(Ok(Vec::new()), |(_, bytes)| Ok(decode::<Record>(&bytes)?.payload))
    }
}

fn lanes_of(txn: &mut Txn, plugin: &str) -> Result<Vec<(LaneId, Lane)>, RunError> {
    let (start, end) = keys::lanes_of(plugin);
    let found = txn.scan(Bound::Included(&start), Bound::Excluded(&end), LANES_MAX + 1, false)?;
    Ok(found.iter().filter_map(|(key, bytes)| Some((keys::lane_of(key)?.1, decode(bytes).ok()?))).collect())
}
