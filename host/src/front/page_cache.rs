//! Whole pages, kept for everyone.
//!
//! A page is kept when its plugin asked for it (`cache-policy`) and its unit
//! proved it impersonal ([`super::Answer::shareable`]). It leaves when its time
//! is up, when one of its tags is invalidated by a commit, when the live set is
//! swapped (its generation is then old), or to make room.
//!
//! What holds it together: a page may only be put in if none of its tags was
//! invalidated since before its unit took its snapshot. So [`PageCache::epoch`]
//! is read before the call, and [`PageCache::put`] compares.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::RwLock;

/// Longer paths with queries are answered but not kept.
pub const KEY_BYTES_MAX: usize = 1_024;
pub const TAGS_MAX: usize = 64;
pub const TAG_BYTES_MAX: usize = 128;
/// Invalidations remembered for renderings under way. When there are more, all
/// older renderings are simply not kept.
const INVALIDATIONS_MAX: usize = 10_000;

/// Path and query as sent, and the locale where the path does not fix it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub target: Arc<str>,
    pub locale: Option<u16>,
}

/// `P` is the page as the front wants to send it.
pub struct Entry<P> {
    pub page: P,
    pub bytes: usize,
    pub tags: Vec<String>,
    pub expires: Instant,
    /// Of the site that rendered it.
    pub generation: u64,
}

struct Kept<P> {
    locale: Option<u16>,
    entry: Arc<Entry<P>>,
    /// Milliseconds since the cache was made.
    last_used: AtomicU64,
}

pub struct PageCache<P = super::service::Page> {
    bytes_max: usize,
    started: Instant,
    inner: RwLock<Inner<P>>,
}

struct Inner<P> {
    /// By target; the locales of one target are few.
    pages: HashMap<Arc<str>, Vec<Kept<P>>>,
    by_tag: HashMap<String, HashSet<Key>>,
    bytes: usize,
    generation: u64,
    epoch: u64,
    /// Tag → epoch of its last invalidation.
    invalidated: HashMap<String, u64>,
    /// Renderings begun before it are not kept.
    forgotten_before: u64,
}

impl<P> PageCache<P> {
    pub fn new(bytes_max: usize) -> Self {
        let inner = Inner {
            pages: HashMap::new(),
            by_tag: HashMap::new(),
            bytes: 0,
            generation: 0,
            epoch: 0,
            invalidated: HashMap::new(),
            forgotten_before: 0,
        };
        Self { bytes_max, started: Instant::now(), inner: RwLock::new(inner) }
    }

    /// The page for a target: one whose path fixes the locale, or the one that
    /// `locale` chooses (called only where it matters).
    pub fn get(&self, target: &str, generation: u64, now: Instant, locale: impl FnOnce() -> usize) -> Option<Arc<Entry<P>>> {
        let inner = self.inner.read();
        let kept = match inner.pages.get(target)?.as_slice() {
            [only] if only.locale.is_none() => only,
            several => {
                let locale = locale() as u16;
                several.iter().find(|k| k.locale.is_none_or(|l| l == locale))?
            }
        };
        if kept.entry.generation != generation || kept.entry.expires <= now {
            return None;
        }
        kept.last_used.store(now.saturating_duration_since(self.started).as_millis() as u64, Ordering::Relaxed);
        Some(kept.entry.clone())
    }

    /// To be read before the call that renders a page.
    pub fn epoch(&self) -> u64 {
        self.inner.read().epoch
    }

    /// Keeps a page rendered in a unit begun at or after `epoch`. False if it
    /// is out of date already, or too large.
    pub fn put(&self, key: Key, entry: Entry<P>, epoch: u64) -> bool {
        let tags_fit = entry.tags.len() <= TAGS_MAX && entry.tags.iter().all(|t| t.len() <= TAG_BYTES_MAX);
        // One page must not push out all others.
        if !tags_fit || key.target.len() > KEY_BYTES_MAX || entry.bytes > self.bytes_max / 8 {
            return false;
        }
        let mut inner = self.inner.write();
        if entry.generation < inner.generation || epoch < inner.forgotten_before {
            return false;
        }
        if entry.tags.iter().any(|t| inner.invalidated.get(t).is_some_and(|at| *at > epoch)) {
            return false;
        }
        if entry.generation > inner.generation {
            inner.clear();
            inner.generation = entry.generation;
        }
        inner.remove(&key);
        inner.bytes += entry.bytes;
        for tag in &entry.tags {
            inner.by_tag.entry(tag.clone()).or_default().insert(key.clone());
        }
        let now = self.started.elapsed().as_millis() as u64;
        let kept = Kept { locale: key.locale, entry: Arc::new(entry), last_used: AtomicU64::new(now) };
        inner.pages.entry(key.target).or_default().push(kept);
        if inner.bytes > self.bytes_max {
            // A little more than needed, so that full is not sorted at every page.
            inner.shrink(self.bytes_max / 8 * 7);
        }
        true
    }

    /// Drops all pages carrying one of the tags, and those being rendered now.
    /// To be called after the commit can be seen by new units and before its
    /// answer leaves.
    pub fn invalidate(&self, tags: &[String]) {
        if tags.is_empty() {
            return;
        }
        let mut inner = self.inner.write();
        inner.epoch += 1;
        let epoch = inner.epoch;
        for tag in tags {
            if inner.invalidated.len() >= INVALIDATIONS_MAX {
                inner.invalidated.clear();
                inner.forgotten_before = epoch;
            }
            inner.invalidated.insert(tag.clone(), epoch);
            for key in inner.by_tag.get(tag).map(|keys| keys.iter().cloned().collect::<Vec<_>>()).unwrap_or_default() {
                inner.remove(&key);
            }
        }
    }

    pub fn bytes(&self) -> usize {
        self.inner.read().bytes
    }
}

impl<P> Inner<P> {
    fn remove(&mut self, key: &Key) {
        let Some(several) = self.pages.get_mut(&key.target) else { return };
        let Some(at) = several.iter().position(|k| k.locale == key.locale) else { return };
        let entry = several.swap_remove(at).entry;
        if several.is_empty() {
            self.pages.remove(&key.target);
        }
        self.bytes -= entry.bytes;
        for tag in &entry.tags {
            if let Some(keys) = self.by_tag.get_mut(tag) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_tag.remove(tag);
                }
            }
        }
    }

    fn clear(&mut self) {
        self.pages.clear();
        self.by_tag.clear();
        self.bytes = 0;
    }

    /// Drops the least recently used until at most `bytes` are left.
    fn shrink(&mut self, bytes: usize) {
        let mut by_age: Vec<(u64, Key)> = Vec::new();
        for (target, several) in &self.pages {
            for kept in several {
                let key = Key { target: target.clone(), locale: kept.locale };
                by_age.push((kept.last_used.load(Ordering::Relaxed), key));
            }
        }
        by_age.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in by_age {
            if self.bytes <= bytes {
                break;
            }
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn entry(page: u32, tags: &[&str], bytes: usize, generation: u64) -> Entry<u32> {
        let tags = tags.iter().map(|t| t.to_string()).collect();
        Entry { page, bytes, tags, expires: Instant::now() + Duration::from_secs(3600), generation }
    }

    fn key(target: &str, locale: Option<u16>) -> Key {
        Key { target: target.into(), locale }
    }

    fn page(cache: &PageCache<u32>, target: &str, generation: u64, locale: usize) -> Option<u32> {
        cache.get(target, generation, Instant::now(), || locale).map(|e| e.page)
    }

    #[test]
    fn a_page_leaves_with_its_tag() {
        let cache = PageCache::new(1000);
        assert!(cache.put(key("/a", None), entry(1, &["x", "y"], 10, 1), cache.epoch()));
        assert!(cache.put(key("/b", None), entry(2, &["y"], 10, 1), cache.epoch()));
        cache.invalidate(&["x".into()]);
        assert_eq!(page(&cache, "/a", 1, 0), None);
        assert_eq!(page(&cache, "/b", 1, 0), Some(2));
        assert_eq!(cache.bytes(), 10);
    }

    #[test]
    fn a_rendering_older_than_an_invalidation_is_not_kept() {
        let cache = PageCache::new(1000);
        let epoch = cache.epoch();
        cache.invalidate(&["x".into()]);
        assert!(!cache.put(key("/a", None), entry(1, &["x"], 10, 1), epoch));
        assert!(cache.put(key("/a", None), entry(1, &["other"], 10, 1), epoch));
        assert!(cache.put(key("/a", None), entry(1, &["x"], 10, 1), cache.epoch()));
    }

    #[test]
    fn forgetting_old_invalidations_refuses_old_renderings() {
        let cache = PageCache::new(1000);
        let epoch = cache.epoch();
        for i in 0..=INVALIDATIONS_MAX {
            cache.invalidate(&[format!("t{i}")]);
        }
        assert!(!cache.put(key("/a", None), entry(1, &["t0"], 10, 1), epoch));
        assert!(cache.put(key("/a", None), entry(1, &["t0"], 10, 1), cache.epoch()));
    }

    #[test]
    fn locales_and_generations_are_kept_apart() {
        let cache = PageCache::new(1000);
        cache.put(key("/a", Some(0)), entry(1, &[], 10, 1), 0);
        cache.put(key("/a", Some(1)), entry(2, &[], 10, 1), 0);
        assert_eq!(page(&cache, "/a", 1, 1), Some(2));
        assert_eq!(page(&cache, "/a", 1, 0), Some(1));
        assert_eq!(page(&cache, "/a", 2, 0), None);
        assert!(cache.put(key("/b", None), entry(3, &[], 10, 2), 0));
        assert!(!cache.put(key("/a", Some(0)), entry(1, &[], 10, 1), 0));
        assert_eq!(cache.bytes(), 10);
    }

    #[test]
    fn expired_pages_are_not_given() {
        let cache = PageCache::new(1000);
        let mut old = entry(1, &[], 10, 1);
        old.expires = Instant::now();
        cache.put(key("/a", None), old, 0);
        assert_eq!(page(&cache, "/a", 1, 0), None);
    }

    proptest! {
        /// Against a model: bytes are counted exactly and bounded, and what is
        /// given back is the last page put under the key since its tags were
        /// invalidated.
        #[test]
        fn agrees_with_a_model(steps in prop::collection::vec((0u8..3, 0u8..12, 0u8..4, 1usize..20), 1..200)) {
            let cache = PageCache::new(160);
            let mut model: HashMap<String, (u32, String)> = HashMap::new();
            for (n, (what, target, tag, bytes)) in steps.into_iter().enumerate() {
                let (target, tag) = (format!("/{target}"), format!("t{tag}"));
                if what == 0 {
                    cache.invalidate(std::slice::from_ref(&tag));
                    model.retain(|_, (_, t)| *t != tag);
                } else {
                    let page = n as u32;
                    prop_assert!(cache.put(key(&target, None), entry(page, &[&tag], bytes, 1), cache.epoch()));
                    model.insert(target.clone(), (page, tag));
                }
                prop_assert!(cache.bytes() <= 160);
                let mut bytes = 0;
                for target in (0..12).map(|t| format!("/{t}")) {
                    if let Some(e) = cache.get(&target, 1, Instant::now(), || 0) {
                        bytes += e.bytes;
                        prop_assert_eq!(Some(e.page), model.get(&target).map(|m| m.0));
                    }
                }
                prop_assert_eq!(bytes, cache.bytes());
            }
        }
    }
}
