//! Events, from the log that publishers' units append to, to each subscriber.
//!
//! One task a subscribing plugin takes events in the order of commit; its
//! cursor advances in the unit that handles the event, so that each event takes
//! effect exactly once. One that fails is parked, and holds back only later ones
//! of its key for its own subscriber (see `parked`). The log is trimmed behind
//! the last cursor.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dead::decode;
use super::keys::{self, Position};
use super::metrics::count;
use super::parked::Parked;
use super::runner::{RunError, Runner, Verdict, not_committed, out_of_place};
use super::unit::{Kind, Unit, UnitError, encode};
use super::{LivePlugins, PluginAnswer, PluginCall, Plugins};
use crate::engine::bindings::exports::souk::host::event_handler::Event;
use crate::store::{CommitError, Store, Txn};

const PAGE: usize = 256;
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// How long the log is kept for a subscriber that is not installed.
const ABSENT_MAX_MS: u64 = 7 * 24 * 3_600_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub topic: String,
    pub key: String,
    pub publisher: String,
    pub at_ms: u64,
    pub payload: Vec<u8>,
}

impl Record {
    pub fn event(self, position: Position) -> Event {
        let Self { topic, key, publisher, at_ms, payload } = self;
        Event { id: hex::encode(position), topic, key, publisher, at_ms, payload }
    }
}

/// How one try of an event went.
pub(super) enum Handled {
    Yes,
    CalledOff,
    PluginGone,
    Failed(String),
}

/// Adds an event to what the unit will commit.
pub(crate) fn publish(unit: &mut Unit, publisher: &str, topic: String, key: String, payload: Vec<u8>) -> Result<(), UnitError> {
    let at_ms = unit.now_ms;
    unit.write()?;
    unit.charge_event()?;
    unit.charge_bytes(topic.len() + key.len() + payload.len())?;
    unit.write()?.append(keys::EVENTS, encode(&Record { topic, key, publisher: publisher.to_owned(), at_ms, payload }));
    Ok(())
}

/// Publisher, topic, key and payload of what a unit will publish.
pub(super) fn published(record: &[u8]) -> Option<(String, String, String, Vec<u8>)> {
    let Record { publisher, topic, key, payload, .. } = postcard::from_bytes(record).ok()?;
    Some((publisher, topic, key, payload))
}

/// Gives each subscriber in `live` that has none its place in the log, behind
/// all that is committed now. Whoever makes plugins live calls it first, also
/// where no [`Runner`] is started: what is published from then on waits for
/// the subscriber.
pub async fn subscribe(store: &Store, live: &LivePlugins) -> Result<(), RunError> {
    super::runner::host(store, |txn| {
        let now = keys::position(txn.snapshot_seq(), u32::MAX);
        for plugin in subscribers(live) {
            let key = keys::cursor(&plugin);
            if read_cursor(txn, &key)?.is_none() {
                txn.put(&key, now.to_vec());
            }
        }
        Ok(())
    })
    .await
}

pub(super) fn hears(live: &LivePlugins, plugin: &str, topic: &str) -> bool {
    live.get(plugin).is_some_and(|p| p.manifest.events.iter().any(|s| s.topic == topic))
}

pub(super) fn is_subscriber(live: &LivePlugins, plugin: &str) -> bool {
    live.get(plugin).is_some_and(|p| !p.manifest.events.is_empty())
}

fn subscribers(live: &LivePlugins) -> Vec<String> {
    live.values().filter(|p| !p.manifest.events.is_empty()).map(|p| p.name().to_owned()).collect()
}

impl<P: Plugins> Runner<P> {
    pub(super) async fn start_outbox(self: &Arc<Self>) -> Result<(), RunError> {
        let live = self.plugins.live().borrow().clone();
        subscribe(&self.store, &live).await?;
        let runner = self.clone();
        self.tasks.spawn(async move { runner.supervise_outbox().await });
        Ok(())
    }

    /// Where a subscriber is. One that was given up as absent starts anew.
    async fn cursor(&self, plugin: &str) -> Result<Position, RunError> {
        let key = keys::cursor(plugin);
        self.host(|txn| {
            if let Some(stored) = read_cursor(txn, &key)? {
                return Ok(stored);
            }
            let now = keys::position(txn.snapshot_seq(), u32::MAX);
            txn.put(&key, now.to_vec());
            Ok(now)
        })
        .await
    }

    async fn supervise_outbox(self: Arc<Self>) {
        let mut live = self.plugins.live();
        let mut running: HashMap<String, tokio::task::JoinHandle<()>> = HashMap::new();
        let mut trim = tokio::time::interval(TRIM_EVERY);
        loop {
            let names = subscribers(&live.borrow_and_update());
            running.retain(|_, task| !task.is_finished());
            for name in names {
                let runner = self.clone();
                running.entry(name.clone()).or_insert_with(|| {
                    self.tasks.spawn(async move {
                        tokio::join!(biased; runner.deliver_all(&name), runner.retry_parked(&name));
                        runner.reached.lock().remove(&name);
                    })
                });
            }
            tokio::select! {
                biased;
                changed = live.changed() => if changed.is_err() { return },
                _ = trim.tick() => if let Err(e) = self.trim_events().await {
                    tracing::warn!(target: "work", error = %e, "cannot trim the event log");
                },
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Ends when the plugin no longer hears anything, or at the stop.
    async fn deliver_all(self: &Arc<Self>, plugin: &str) {
        let mut published = self.wake.events.subscribe();
        let mut live = self.plugins.live();
        let mut at = None;
        loop {
            published.borrow_and_update();
            if !is_subscriber(&live.borrow_and_update(), plugin) {
                return;
            }
            match self.deliver_page(plugin, &mut at).await {
                Ok(true) => {}
                Ok(false) => tokio::select! {
                    biased;
                    changed = published.changed() => if changed.is_err() { return },
                    changed = live.changed() => if changed.is_err() { return },
                    () = self.stop.cancelled() => return,
                },
                Err(e) => {
                    tracing::warn!(target: "work", plugin, error = %e, "cannot deliver events now");
                    if !self.pause_ms(self.options.retry.wait_ms(4)).await {
                        return;
                    }
                }
            }
            if self.stop.is_cancelled() {
                return;
            }
        }
    }

    /// Delivers what lies after `at`; true if there is more.
    async fn deliver_page(self: &Arc<Self>, plugin: &str, at: &mut Option<Position>) -> Result<bool, RunError> {
        let after = match *at {
            Some(after) => after,
            None => self.cursor(plugin).await?,
        };
        *at = Some(after);
        let page = {
            let start = keys::log_entry(keys::EVENTS, after);
            let end = keys::log_entry(keys::EVENTS, [0xff; 12]);
            self.store.begin().scan(Bound::Excluded(&start), Bound::Excluded(&end), PAGE, false)?
        };
        for (key, bytes) in &page {
            let Some(position) = keys::position_of(keys::EVENTS, key) else { continue };
            match decode::<Record>(bytes) {
                Ok(record) if hears(&self.plugins.live().borrow(), plugin, &record.topic) => {
                    if !self.deliver(plugin, position, record).await? {
                        return Ok(false);
                    }
                }
                Ok(_) => {}
                // Nobody could ever handle it, and those behind it must not wait for it.
                Err(error) => tracing::error!(target: "work", plugin, event = hex::encode(position), %error, "a damaged event is left out"),
            }
            *at = Some(position);
            self.reached.lock().insert(plugin.to_owned(), position);
        }
        Ok(page.len() == PAGE)
    }

    /// Moves the cursors of those that were passed only by what they do not
    /// hear: not one commit for each such event, yet the log can be trimmed.
    async fn save_cursors(&self) -> Result<(), RunError> {
        let reached = self.reached.lock().clone();
        for (plugin, position) in reached {
            let key = keys::cursor(&plugin);
            let mut txn = self.store.begin();
            if read_cursor(&mut txn, &key)?.is_some_and(|stored| stored < position) {
                txn.put(&key, position.to_vec());
                // A conflict: what it hears has moved it meanwhile.
                match self.store.commit(txn).await {
                    Ok(_) | Err(CommitError::Conflict { .. }) => {}
                    Err(error) => return Err(not_committed(error)),
                }
            }
        }
        Ok(())
    }

    /// Handled, or parked; false if the plugin went.
    async fn deliver(self: &Arc<Self>, plugin: &str, position: Position, record: Record) -> Result<bool, RunError> {
        let (cursor, lane) = (keys::cursor(plugin), keys::lane_id(&record.key));
        // Others of its key wait: it waits behind them.
        if self.lane(&mut self.store.begin(), plugin, lane)?.is_some()
            && let Parked::Yes = self.park(plugin, position, &record, None).await?
        {
            return Ok(true);
        }
        let call = PluginCall::Event(record.clone().event(position));
        let is_due = |unit: &mut Unit| Ok(read_cursor(unit.host_txn()?, &cursor)?.is_none_or(|stored| stored < position));
        let pass = |txn: &mut Txn| {
            txn.put(&cursor, position.to_vec());
            Ok(())
        };
        match self.handle(plugin, &call, 1, is_due, pass).await? {
            Handled::Yes | Handled::CalledOff => Ok(true),
            // Its cursor stays.
            Handled::PluginGone => Ok(false),
            Handled::Failed(error) => {
                self.park(plugin, position, &record, Some(&error)).await?;
                Ok(true)
            }
        }
    }

    /// One try of an event, the `tries`th. `is_due` calls off what is no more; `pass`
    /// takes the event from where it waits, in the unit that handles it.
    pub(super) async fn handle(
        self: &Arc<Self>,
        plugin: &str,
        call: &PluginCall,
        tries: u32,
        is_due: impl FnMut(&mut Unit) -> Result<bool, RunError>,
        pass: impl Fn(&mut Txn) -> Result<(), RunError>,
    ) -> Result<Handled, RunError> {
        let run = self.run(plugin, call, self.background_start(Kind::Event), is_due, |unit, answer| match answer {
            PluginAnswer::Event(Ok(())) => {
                pass(unit.host_txn()?)?;
                Ok(Verdict::Commit(Ok(())))
            }
            PluginAnswer::Event(Err(message)) => Ok(Verdict::RollBack(Err(message))),
            other => Err(out_of_place(plugin, &other)),
        });
        let error = match run.await {
            Ok(outcome) => match outcome.value {
                Some(Err(message)) => message,
                Some(Ok(())) => {
                    count(&self.metrics.events_delivered);
                    return Ok(Handled::Yes);
                }
                None => return Ok(Handled::CalledOff),
            },
            // Gone between the swap and now.
            Err(e) if e.is_not_found() && !self.plugins.live().borrow().contains_key(plugin) => return Ok(Handled::PluginGone),
            Err(e) if e.is_passing() => return Err(e),
            Err(e) => e.to_string(),
        };
        count(&self.metrics.events_failed);
        tracing::warn!(target: "work", plugin, failures = tries, error, "an event was not handled");
        Ok(Handled::Failed(error))
    }

    /// Deletes what every subscriber has behind it.
    pub(super) async fn trim_events(&self) -> Result<(), RunError> {
        self.save_cursors().await?;
        let live = self.plugins.live().borrow().clone();
        let mut until = keys::position(self.store.durable_seq(), u32::MAX);
        let (start, end) = keys::cursors();
        let mut txn = self.store.begin();
        for (key, value) in txn.scan(Bound::Included(&start), Bound::Excluded(&end), 10_000, false)? {
            let Ok(at) = Position::try_from(&value[..]) else { continue };
            let name = String::from_utf8_lossy(&key[1..]).into_owned();
            if !is_subscriber(&live, &name) && self.is_behind_by(at, ABSENT_MAX_MS)? {
                tracing::warn!(target: "work", plugin = name, "has not been installed for long: its place in the event log is dropped");
                self.host(|txn| {
                    // Not one that has come back to life meanwhile.
                    if !is_subscriber(&self.plugins.live().borrow(), &name) && txn.get(&key)?.is_some_and(|now| now == value) {
                        txn.delete(&key);
                    }
                    Ok(())
                })
                .await?;
                continue;
            }
            until = until.min(at);
        }
        loop {
            let start = keys::log_entry(keys::EVENTS, [0; 12]);
            let end = keys::log_entry(keys::EVENTS, until);
            let done = self.store.begin().scan(Bound::Included(&start), Bound::Included(&end), 1_000, false)?;
            if done.is_empty() || self.stop.is_cancelled() {
                return Ok(());
            }
            self.host(|txn| {
                done.iter().for_each(|(key, _)| txn.delete(key));
                Ok(())
            })
            .await?;
        }
    }

    /// Whether the first event after `at` was published so long ago.
    fn is_behind_by(&self, at: Position, ms: u64) -> Result<bool, RunError> {
        let start = keys::log_entry(keys::EVENTS, at);
        let end = keys::log_entry(keys::EVENTS, [0xff; 12]);
        let first = self.store.begin().scan(Bound::Excluded(&start), Bound::Excluded(&end), 1, false)?;
        let Some((_, bytes)) = first.first() else { return Ok(false) };
        Ok(decode::<Record>(bytes).map_or(0, |record| record.at_ms).saturating_add(ms) < self.now_ms())
    }
}

pub(super) fn read_cursor(txn: &mut Txn, key: &keys::Key) -> Result<Option<Position>, RunError> {
    Ok(txn.get(key)?.and_then(|bytes| Position::try_from(&bytes[..]).ok()))
}
