//! Bytes that can be computed again: in memory, bounded, computed once at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::cache::Host;

pub const BYTES_MAX: u64 = 64 << 20;
const KEY_BYTES_MAX: usize = 512;
const VALUE_BYTES_MAX: usize = 1 << 20;
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long others wait for the one that computes.
const WAIT: Duration = Duration::from_secs(2);

type Key = (String, String);

pub struct Cache {
    entries: moka::sync::Cache<Key, Entry>,
    leases: Arc<Leases>,
}

#[derive(Clone)]
struct Entry {
    value: Arc<[u8]>,
    ttl: Duration,
}

struct Ttl;

impl moka::Expiry<Key, Entry> for Ttl {
    fn expire_after_create(&self, _: &Key, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(&self, _: &Key, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.ttl)
    }
}

/// Who computes what now.
#[derive(Default)]
struct Leases(Mutex<HashMap<Key, Arc<Notify>>>);

impl Leases {
    fn end(&self, key: &Key) {
        if let Some(waiting) = self.0.lock().remove(key) {
            waiting.notify_waiters();
        }
    }
}

/// The right to compute a value. It ends with the value, or with its holder.
pub struct Lease {
    leases: Arc<Leases>,
    key: Key,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.end(&self.key);
    }
}

pub enum Lookup {
    Hit(Arc<[u8]>),
    /// Compute it; nothing to hold when another's time to compute ran out.
    Miss(Option<Lease>),
}

impl Cache {
    pub fn clear(&self) {
        self.entries.invalidate_all();
    }

    pub fn new(bytes_max: u64) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(bytes_max)
            .weigher(|(plugin, key): &Key, entry: &Entry| (plugin.len() + key.len() + entry.value.len() + 64) as u32)
            .expire_after(Ttl)
            .build();
        Self { entries, leases: Arc::default() }
    }

    pub async fn get(&self, plugin: &str, key: &str) -> Lookup {
        let key = (plugin.to_owned(), key.to_owned());
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            if let Some(entry) = self.entries.get(&key) {
                return Lookup::Hit(entry.value);
            }
            let busy = {
                let mut leases = self.leases.0.lock();
                match leases.get(&key) {
                    Some(busy) => busy.clone(),
                    None => {
                        leases.insert(key.clone(), Arc::default());
                        return Lookup::Miss(Some(Lease { leases: self.leases.clone(), key }));
                    }
                }
            };
            let mut ended = std::pin::pin!(busy.notified());
            ended.as_mut().enable();
            // It may have ended between the two locks.
            if self.leases.0.lock().contains_key(&key) && tokio::time::timeout_at(deadline, ended).await.is_err() {
                return Lookup::Miss(None);
            }
        }
    }

    pub fn put(&self, plugin: &str, key: &str, value: Vec<u8>, ttl: Duration) {
        let key = (plugin.to_owned(), key.to_owned());
        if key.1.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX && !ttl.is_zero() {
            self.entries.insert(key.clone(), Entry { value: value.into(), ttl: ttl.min(TTL_MAX) });
        }
        self.leases.end(&key);
    }

    pub fn delete(&self, plugin: &str, key: &str) {
        self.entries.invalidate(&(plugin.to_owned(), key.to_owned()));
    }
}

impl Host for GuestState {
    async fn get(&mut self, caller: Caller, key: String) -> Option<Vec<u8>> {
        match self.waits(self.services.cache.get(caller.name(), &key)).await {
            Lookup::Hit(value) => Some(value.to_vec()),
            Lookup::Miss(lease) => {
                if let Some(lease) = lease {
                    self.unit.lock().hold(Box::new(lease));
                }
                None
            }
        }
    }

    fn put(&mut self, caller: Caller, key: String, value: Vec<u8>, ttl_ms: u32) {
        self.services.cache.put(caller.name(), &key, value, Duration::from_millis(ttl_ms.into()));
    }

    fn delete(&mut self, caller: Caller, key: String) {
        self.services.cache.delete(caller.name(), &key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_computes_and_the_others_wait_for_it() {
        let cache = Arc::new(Cache::new(BYTES_MAX));
        let Lookup::Miss(Some(lease)) = cache.get("p", "k").await else { panic!("expected a lease") };
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let cache = cache.clone();
                tokio::spawn(async move { matches!(cache.get("p", "k").await, Lookup::Hit(v) if *v == *b"v") })
            })
            .collect();
        tokio::task::yield_now().await;
        cache.put("p", "k", b"v".to_vec(), TTL_MAX);
        drop(lease);
        for waiter in waiting {
            assert!(waiter.await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_lease_that_is_dropped_passes_on() {
        let cache = Cache::new(BYTES_MAX);
        let Lookup::Miss(Some(lease)) = cache.get("p", "k").await else { panic!("expected a lease") };
        drop(lease);
        assert!(matches!(cache.get("p", "k").await, Lookup::Miss(Some(_))));
    }

    #[tokio::test]
    async fn plugins_do_not_see_each_other() {
        let cache = Cache::new(BYTES_MAX);
        cache.put("a", "k", b"v".to_vec(), TTL_MAX);
        assert!(matches!(cache.get("b", "k").await, Lookup::Miss(_)));
    }

    #[tokio::test]
    async fn what_is_too_large_or_has_no_life_is_not_kept() {
        let cache = Cache::new(BYTES_MAX);
        cache.put("p", "large", vec![0; VALUE_BYTES_MAX + 1], TTL_MAX);
        cache.put("p", "dead", b"v".to_vec(), Duration::ZERO);
        assert!(matches!(cache.get("p", "large").await, Lookup::Miss(_)));
        assert!(matches!(cache.get("p", "dead").await, Lookup::Miss(_)));
    }
}
