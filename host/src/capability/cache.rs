//! Bytes that can be computed again: in memory, bounded for each plugin, so that
//! none takes the room of another, and computed once at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::cache::Host;

/// Of each plugin.
pub const BYTES_MAX: u64 = 16 << 20;
const KEY_BYTES_MAX: usize = 512;
const VALUE_BYTES_MAX: usize = 1 << 20;
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long others wait for the one that computes.
const WAIT: Duration = Duration::from_secs(2);

type Key = (String, String);

pub struct Cache {
    of_plugins: RwLock<HashMap<String, moka::sync::Cache<String, Entry>>>,
    bytes_max: u64,
    leases: Arc<Leases>,
}

#[derive(Clone)]
struct Entry {
    value: Arc<[u8]>,
    ttl: Duration,
}

struct Ttl;

impl moka::Expiry<String, Entry> for Ttl {
    fn expire_after_create(&self, _: &String, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(&self, _: &String, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
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
        self.of_plugins.write().clear();
    }

    pub fn new(bytes_max: u64) -> Self {
        Self { of_plugins: RwLock::default(), bytes_max, leases: Arc::default() }
    }

    fn lookup(&self, plugin: &str, key: &str) -> Option<Entry> {
        self.of_plugins.read().get(plugin)?.get(key)
    }

    /// Made with the first value of the plugin.
    fn entries(&self, plugin: &str) -> moka::sync::Cache<String, Entry> {
        if let Some(entries) = self.of_plugins.read().get(plugin) {
            return entries.clone();
        }
        let made = || {
            moka::sync::Cache::builder()
                .max_capacity(self.bytes_max)
                .weigher(|key: &String, entry: &Entry| (key.len() + entry.value.len() + 64) as u32)
                .expire_after(Ttl)
                .build()
        };
        self.of_plugins.write().entry(plugin.to_owned()).or_insert_with(made).clone()
    }

    pub async fn get(&self, plugin: &str, key: &str) -> Lookup {
        // Nothing can lie under it.
        if key.len() > KEY_BYTES_MAX {
            return Lookup::Miss(None);
        }
        let key = (plugin.to_owned(), key.to_owned());
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            if let Some(entry) = self.lookup(plugin, &key.1) {
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
        if key.len() > KEY_BYTES_MAX {
            return;
        }
        let key = (plugin.to_owned(), key.to_owned());
        if value.len() <= VALUE_BYTES_MAX && !ttl.is_zero() {
            self.entries(plugin).insert(key.1.clone(), Entry { value: value.into(), ttl: ttl.min(TTL_MAX) });
        }
        self.leases.end(&key);
    }

    pub fn delete(&self, plugin: &str, key: &str) {
        if let Some(entries) = self.of_plugins.read().get(plugin) {
            entries.invalidate(key);
        }
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
    async fn a_key_under_which_nothing_can_lie_makes_nobody_wait() {
        let cache = Cache::new(BYTES_MAX);
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        assert!(matches!(cache.get("p", &long).await, Lookup::Miss(None)));
        cache.put("p", &long, b"v".to_vec(), TTL_MAX);
        assert!(matches!(cache.get("p", &long).await, Lookup::Miss(None)));
        assert!(cache.leases.0.lock().is_empty());
    }

    #[tokio::test]
    async fn plugins_do_not_see_each_other() {
        let cache = Cache::new(BYTES_MAX);
        cache.put("a", "k", b"v".to_vec(), TTL_MAX);
        assert!(matches!(cache.get("b", "k").await, Lookup::Miss(_)));
    }

    #[tokio::test]
    async fn one_that_fills_its_own_takes_nothing_from_others() {
        let cache = Cache::new(1 << 20);
        cache.put("a", "k", b"v".to_vec(), TTL_MAX);
        for n in 0..64 {
            cache.put("b", &n.to_string(), vec![0; 100 << 10], TTL_MAX);
        }
        let of_b = cache.entries("b");
        of_b.run_pending_tasks();
        assert!(of_b.weighted_size() <= 1 << 20);
        assert!(matches!(cache.get("a", "k").await, Lookup::Hit(_)));
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
