//! Removes sessions that nobody came back to and answers kept for
//! `Idempotency-Key`s, each after its time. Reminders in the store, ordered by
//! time, say where to look.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::idempotency;
use super::keys::{self, Expiring};
use super::runner::{RunError, Runner};
use super::unit::{SESSION_TTL_MS, SessionRecord};
use super::Plugins;
use crate::store::Txn;

const EVERY: Duration = Duration::from_secs(60);
const PAGE: usize = 200;

impl<P: Plugins> Runner<P> {
    pub(super) fn start_expiry(self: &Arc<Self>) {
        let runner = self.clone();
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(EVERY);
            loop {
                tokio::select! {
                    biased;
                    _ = tick.tick() => if let Err(error) = runner.expire().await {
                        tracing::warn!(target: "work", %error, "cannot remove what has expired now");
                    },
                    () = runner.stop.cancelled() => return,
                }
            }
        });
    }

    pub(super) async fn expire(&self) -> Result<(), RunError> {
        let now_ms = self.now_ms();
        let (start, end) = keys::expiries_until(now_ms);
        while !self.stop.is_cancelled() {
            let due = self.store.begin().scan(Bound::Included(&start), Bound::Excluded(&end), PAGE, false)?;
            if due.is_empty() {
                break;
            }
            self.host(|txn| due.iter().try_for_each(|(reminder, _)| expire(txn, reminder, now_ms))).await?;
        }
        Ok(())
    }
}

fn expire(txn: &mut Txn, reminder: &[u8], now_ms: u64) -> Result<(), RunError> {
    txn.delete(reminder);
    match keys::expiring(reminder) {
        Some(Expiring::Session(key)) => {
            let record = txn.get(key)?.and_then(|bytes| postcard::from_bytes::<SessionRecord>(&bytes).ok());
            match record.map(|r| r.seen_ms.saturating_add(SESSION_TTL_MS)) {
                Some(due_ms) if due_ms > now_ms => txn.put(&keys::expiry(due_ms, key), Vec::new()),
                _ => txn.delete(key),
            }
        }
        Some(Expiring::Idempotency(key)) => {
            // Used again after it was given free, or after a crash: it ends later.
            let record = txn.get(key)?.and_then(|bytes| postcard::from_bytes::<idempotency::Record>(&bytes).ok());
            match record.map(|r| r.expires_ms) {
                Some(due_ms) if due_ms > now_ms => txn.put(&keys::expiry(due_ms, key), Vec::new()),
                _ => txn.delete(key),
            }
        }
        None => {}
    }
    Ok(())
}
