//! A disk in memory: what was committed outlives the process that a round
//! simulates, what was not does not. It can die at a chosen commit, before or
//! after the batch is on it, and shows each batch that gets there to the books.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use souk_host::store::{Batch, Engine, Snapshot, Space, StoreError};
use tokio::sync::watch;

use crate::books::Books;
use crate::world::Clock;

pub type Contents = BTreeMap<(Space, Bytes), Bytes>;

/// The commit at which the process dies, and whether that one is on the disk.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    pub commit: u64,
    pub durable: bool,
}

pub struct Disk {
    state: Mutex<State>,
    committed: watch::Sender<u64>,
    died: watch::Sender<bool>,
}

struct State {
    contents: Arc<Contents>,
    books: Books,
    death: Option<Death>,
    wrong: Option<String>,
}

impl Disk {
    pub fn with(contents: Arc<Contents>, books: Books) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { contents, books, death: None, wrong: None }), committed: watch::Sender::new(0), died: watch::Sender::new(false) })
    }

    pub fn contents(&self) -> Arc<Contents> {
        self.state.lock().contents.clone()
    }

    /// A new process.
    pub fn begin(&self, death: Option<Death>) {
        self.state.lock().death = death;
        self.died.send_replace(false);
    }

    /// Nothing gets to the disk from now on.
    pub fn die(&self) {
        self.died.send_replace(true);
    }

    pub fn is_dead(&self) -> bool {
        *self.died.borrow()
    }

    pub async fn until_dead(&self) {
        let _ = self.died.subscribe().wait_for(|died| *died).await;
    }

    pub fn books<T>(&self, look: impl FnOnce(&mut Books) -> T) -> T {
        look(&mut self.state.lock().books)
    }

    pub fn commits(&self) -> u64 {
        *self.committed.borrow()
    }

    pub async fn until_commit(&self, commit: u64) {
        let _ = self.committed.subscribe().wait_for(|commits| *commits >= commit).await;
    }

    /// The first thing that the books found to be wrong.
    pub fn wrong(&self) -> Option<String> {
        self.state.lock().wrong.clone()
    }
}

/// What the store is given: it may go, the disk stays.
pub struct Plug(pub Arc<Disk>, pub Clock);

impl Engine for Plug {
    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(Kept(self.0.contents()))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let dead = || Err(StoreError("the process is dead".into()));
        if self.0.is_dead() {
            return dead();
        }
        let mut state = self.0.state.lock();
        self.0.committed.send_modify(|commits| *commits += 1);
        let commits = self.0.commits();
        let dies = state.death.filter(|death| death.commit <= commits);
        if dies.is_some_and(|death| !death.durable) {
            drop(state);
            self.0.die();
            return dead();
        }
        let State { contents, books, wrong, .. } = &mut *state;
        let contents = Arc::make_mut(contents);
        for ((space, key), value) in batch {
            let key = (*space, Bytes::copy_from_slice(key));
            match value {
                Some(value) => _ = contents.insert(key, value.clone()),
                None => _ = contents.remove(&key),
            }
        }
        if let Err(problem) = books.post(batch, self.1.now_ms()) {
            wrong.get_or_insert(format!("commit {commits}: {problem}"));
        }
        drop(state);
        if dies.is_some() {
            self.0.die();
            return dead();
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}

struct Kept(Arc<Contents>);

impl Snapshot for Kept {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(&(space, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(&self, space: Space, start: Bound<&[u8]>, end: Bound<&[u8]>, reverse: bool, each: &mut dyn FnMut(&[u8], Bytes) -> bool) -> Result<(), StoreError> {
        let bound = |bound: Bound<&[u8]>, all: Bound<(Space, Bytes)>| match bound {
            Bound::Unbounded => all,
            bound => bound.map(|key| (space, Bytes::copy_from_slice(key))),
        };
        let first = Bound::Included((space, Bytes::new()));
        let last = match space {
            Space::Documents => Bound::Excluded((Space::Counters, Bytes::new())),
            Space::Counters => Bound::Excluded((Space::Meta, Bytes::new())),
            Space::Meta => Bound::Unbounded,
        };
        let (start, end) = (bound(start, first), bound(end, last));
        let is_empty = matches!((&start, &end), (Bound::Included(s) | Bound::Excluded(s), Bound::Included(e) | Bound::Excluded(e)) if s >= e && !(s == e && matches!((&start, &end), (Bound::Included(_), Bound::Included(_)))));
        if is_empty {
            return Ok(());
        }
        let mut range = self.0.range((start, end));
        let mut next = || if reverse { range.next_back() } else { range.next() };
        while let Some(((_, key), value)) = next() {
            if !each(key, value.clone()) {
                break;
            }
        }
        Ok(())
    }
}
