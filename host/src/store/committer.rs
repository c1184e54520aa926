//! The one thread that writes: validates transactions in order, joins those
//! that wait into one durable batch, and answers when it is on disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::engine::{Batch, Engine, Space};
use super::txn::{Txn, decode_counter};
use super::{CommitError, Committed, Current, SEQ_KEY};

/// Transactions in one batch at most.
const GROUP_MAX: usize = 1_024;
/// Keys whose last commit is remembered at most, for transactions that last long; one
/// older than the oldest of them conflicts.
const RECENT_KEYS_MAX: usize = 200_000;

pub(super) struct Waiting {
    pub txn: Txn,
    pub answer: oneshot::Sender<Result<Committed, CommitError>>,
}

pub(super) struct Committer {
    pub engine: Arc<dyn Engine>,
    pub current: Arc<ArcSwap<Current>>,
    pub durable: watch::Sender<u64>,
    /// Durable batches, each of one or more transactions.
    pub batches: Arc<AtomicU64>,
    /// Why nothing more is written.
    pub failed: watch::Sender<Option<String>>,
    pub recent: Recent,
}

/// A committer that panics has failed as well.
struct Ending(watch::Sender<Option<String>>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send_replace(Some("the storage engine panicked; its last words are on standard error".into()));
        }
    }
}

/// Which commit last wrote a key, as far back as a transaction may still ask.
pub(super) struct Recent {
    last: BTreeMap<(Space, Vec<u8>), u64>,
    order: VecDeque<(u64, (Space, Vec<u8>))>,
    /// Transactions are of these, the oldest first; who has gone is not waited for.
    snapshots: VecDeque<(u64, Weak<Current>)>,
    /// Nothing is known of commits up to this one.
    forgotten: u64,
}

impl Recent {
    pub fn since(current: &Arc<Current>) -> Self {
        let snapshots = VecDeque::from([(current.seq, Arc::downgrade(current))]);
        Self { last: BTreeMap::new(), order: VecDeque::new(), snapshots, forgotten: current.seq }
    }

    /// From now on transactions begin at `current`, which has written these keys.
    fn note(&mut self, keys: impl Iterator<Item = (Space, Vec<u8>)>, current: &Arc<Current>) {
        for key in keys.filter(|(space, _)| *space != Space::Meta) {
            self.order.push_back((current.seq, key.clone()));
            self.last.insert(key, current.seq);
        }
        self.snapshots.push_back((current.seq, Arc::downgrade(current)));
    }

    /// Forgets what no transaction can ask for any more, and the oldest of what is too much.
    fn trim(&mut self) {
        while self.snapshots.front().is_some_and(|(seq, snapshot)| *seq < self.forgotten || snapshot.strong_count() == 0) {
            self.snapshots.pop_front();
        }
        let known_to_all = self.snapshots.front().map_or(self.forgotten, |(seq, _)| *seq);
        while let Some((seq, _)) = self.order.front()
            && (*seq <= known_to_all || self.order.len() > RECENT_KEYS_MAX)
            && let Some((seq, key)) = self.order.pop_front()
        {
            self.forgotten = seq;
            if self.last.get(&key) == Some(&seq) {
                self.last.remove(&key);
            }
        }
    }

    /// A key that the transaction has read and that was written since.
    fn conflict(&self, txn: &Txn, group: &Group) -> Option<Vec<u8>> {
        let since = txn.snapshot_seq();
        if since < self.forgotten {
            return Some(b"(an old snapshot)".to_vec());
        }
        let written = |key: &(Space, Vec<u8>)| self.last.get(key).is_some_and(|seq| *seq > since) || group.batch.contains_key(key);
        if let Some((_, key)) = txn.keys_read.iter().find(|key| written(key)) {
            return Some(key.clone());
        }
        txn.ranges_read.iter().find_map(|(start, end)| {
            let start = match start {
                Bound::Unbounded => Bound::Included((Space::Documents, Vec::new())),
                bound => bound.clone().map(|key| (Space::Documents, key)),
            };
            let end = match end {
                Bound::Unbounded => Bound::Excluded((Space::Counters, Vec::new())),
                bound => bound.clone().map(|key| (Space::Documents, key)),
            };
            let earlier = self.last.range((start.clone(), end.clone())).find(|(_, seq)| **seq > since).map(|(key, _)| &key.1);
            earlier.or_else(|| group.batch.range((start, end)).next().map(|(key, _)| &key.1)).cloned()
        })
    }
}

/// What is about to be written together.
#[derive(Default)]
struct Group {
    batch: Batch,
    counters: HashMap<Vec<u8>, i64>,
    answers: Vec<(oneshot::Sender<Result<Committed, CommitError>>, u64)>,
    /// To be told when the others are on disk.
    refused: Vec<(oneshot::Sender<Result<Committed, CommitError>>, CommitError)>,
}

impl Committer {
    pub fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        let _ending = Ending(self.failed.clone());
        while let Some(first) = queue.blocking_recv() {
            self.take(first, &mut queue);
        }
    }

    /// The same as a task, which waits before each batch as if it lasted so long.
    pub async fn run_simulated(mut self, mut queue: mpsc::Receiver<Waiting>, latency: impl Fn() -> Duration) {
        while let Some(first) = queue.recv().await {
            tokio::time::sleep(latency()).await;
            self.take(first, &mut queue);
        }
    }

    /// One batch: the first that waits, and those behind it.
    fn take(&mut self, first: Waiting, queue: &mut mpsc::Receiver<Waiting>) {
        let mut seq = self.current.load().seq;
        let mut group = Group::default();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(waiting) = next {
            taken += 1;
            match self.admit(&waiting.txn, &mut group) {
                Ok(()) => {
                    seq += 1;
                    self.write(waiting.txn, &mut group, seq);
                    group.answers.push((waiting.answer, seq));
                }
                // Who lost against one in this group could only lose again
                // before it is on disk.
                Err(error) if !group.answers.is_empty() => group.refused.push((waiting.answer, error)),
                Err(error) => drop(waiting.answer.send(Err(error))),
            }
            next = if taken < GROUP_MAX { queue.try_recv().ok() } else { None };
        }
        if !group.answers.is_empty() {
            let refused = std::mem::take(&mut group.refused);
            self.commit(group, seq);
            for (answer, error) in refused {
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Validates, and works out the counters.
    fn admit(&self, txn: &Txn, group: &mut Group) -> Result<(), CommitError> {
        if let Some(reason) = &*self.failed.borrow() {
            return Err(CommitError::Failed(format!("nothing is written any more: {reason}")));
        }
        if let Some(key) = self.recent.conflict(txn, group) {
            return Err(CommitError::Conflict { key });
        }
        let current = self.current.load();
        let mut after = Vec::with_capacity(txn.adds.len());
        for (key, add) in &txn.adds {
            let before = match group.counters.get(key) {
                Some(value) => *value,
                None => current
                    .snapshot
                    .get(Space::Counters, key)
                    .and_then(|value| value.map_or(Ok(0), |value| decode_counter(&value)))
                    .map_err(|error| CommitError::Failed(error.0))?,
            };
            let value = before
                .checked_add(add.delta)
                .ok_or_else(|| CommitError::Failed(format!("the counter {} would pass the range of 64 bits", key.escape_ascii())))?;
            if add.floor.is_some_and(|floor| value < floor) {
                return Err(CommitError::Conflict { key: key.clone() });
            }
            after.push((key.clone(), value));
        }
        group.counters.extend(after);
        group.counters.extend(txn.counters_deleted.iter().map(|key| (key.clone(), 0)));
        Ok(())
    }

    fn write(&self, txn: Txn, group: &mut Group, seq: u64) {
        for (key, value) in txn.writes {
            group.batch.insert((Space::Documents, key), value);
        }
        for key in txn.adds.into_keys() {
            let value = group.counters[&key];
            group.batch.insert((Space::Counters, key), Some(Bytes::copy_from_slice(&value.to_be_bytes())));
        }
        for key in txn.counters_deleted {
            group.batch.insert((Space::Counters, key), None);
        }
        for (index, (log, value)) in txn.appends.into_iter().enumerate() {
            let key = [&log[..], &seq.to_be_bytes(), &(index as u32).to_be_bytes()].concat();
            group.batch.insert((Space::Documents, key), Some(value));
        }
    }

    fn commit(&mut self, mut group: Group, seq: u64) {
        group.batch.insert((Space::Meta, SEQ_KEY.to_vec()), Some(Bytes::copy_from_slice(&seq.to_be_bytes())));
        if let Err(error) = self.engine.commit(&group.batch) {
            tracing::error!(%error, units = group.answers.len(), "a commit failed: nothing more is written before the next start");
            self.failed.send_replace(Some(error.0.clone()));
            for (answer, _) in group.answers {
                let _ = answer.send(Err(CommitError::Unknown(error.0.clone())));
            }
            return;
        }
        self.batches.fetch_add(1, Ordering::Relaxed);
        // All of a group count as its last: their order among themselves was
        // settled when they were admitted.
        let current = Arc::new(Current { snapshot: self.engine.snapshot(), seq });
        self.recent.note(group.batch.into_keys(), &current);
        self.current.store(current);
        self.recent.trim();
        self.durable.send_replace(seq);
        for (answer, seq) in group.answers {
            let _ = answer.send(Ok(Committed { seq }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;
    use crate::store::engine::Snapshot;

    struct Nothing;

    impl Snapshot for Nothing {
        fn get(&self, _: Space, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
            Ok(None)
        }

        fn scan(&self, _: Space, _: Bound<&[u8]>, _: Bound<&[u8]>, _: bool, _: &mut dyn FnMut(&[u8], Bytes) -> bool) -> Result<(), StoreError> {
            Ok(())
        }
    }

    fn at(seq: u64) -> Arc<Current> {
        Arc::new(Current { snapshot: Box::new(Nothing), seq })
    }

    /// Commits of ten keys each, the last of which stays the current one.
    fn commits(recent: &mut Recent, seqs: std::ops::RangeInclusive<u64>) -> Arc<Current> {
        let mut current = at(*seqs.start());
        for seq in seqs {
            let keys = (0..10_u64).map(|n| (Space::Documents, [seq.to_be_bytes(), n.to_be_bytes()].concat()));
            let next = at(seq);
            recent.note(keys, &next);
            current = next;
            recent.trim();
        }
        current
    }

    fn reader(of: &Arc<Current>, key: u64) -> Txn {
        let mut txn = Txn::new(of.clone());
        txn.get(&[key.to_be_bytes(), 0_u64.to_be_bytes()].concat()).unwrap();
        txn
    }

    #[test]
    fn what_was_written_is_remembered_for_as_long_as_a_transaction_is_older() {
        let first = at(0);
        let mut recent = Recent::since(&first);
        let reads_early = reader(&first, 7);
        drop(first);
        let current = commits(&mut recent, 1..=100);
        assert_eq!((recent.last.len(), recent.order.len(), recent.snapshots.len()), (1_000, 1_000, 101));
        assert!(recent.conflict(&reads_early, &Group::default()).is_some());
        drop((reads_early, current));
        let current = commits(&mut recent, 101..=101);
        assert_eq!((recent.last.len(), recent.order.len(), recent.snapshots.len()), (0, 0, 1));
        assert!(recent.conflict(&reader(&current, 101), &Group::default()).is_none());
    }

    #[test]
    fn a_transaction_that_never_ends_conflicts_at_last() {
        let first = at(0);
        let mut recent = Recent::since(&first);
        let reads_early = reader(&first, 1_000_000);
        let enough = RECENT_KEYS_MAX as u64 / 10;
        let current = commits(&mut recent, 1..=enough);
        assert!(recent.conflict(&reads_early, &Group::default()).is_none());
        let _current = commits(&mut recent, enough + 1..=enough + 1);
        assert_eq!(recent.order.len(), RECENT_KEYS_MAX);
        assert!(recent.conflict(&reads_early, &Group::default()).is_some());
        assert!(recent.conflict(&reader(&current, enough + 1), &Group::default()).is_some());
    }
}
