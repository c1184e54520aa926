//! Follows the store in the background and keeps the indexes in line with it.
//!
//! An index commits its place in the log together with what it holds. Only
//! then is the log trimmed, and in the same transaction the store notes how far
//! each index must be from now on: one that is behind that, or ahead of the
//! store, is not this store's and is built again. Applying an entry twice does
//! no harm, since it only says which document to look up.
//!
//! Following is work of the plugin whose documents change, and charged to it, with
//! what its index is merged for and what building it again takes. One
//! over its share is followed later and in slices, the others first: what is left
//! of its changes stays in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;

use super::index::{Document, Index};
use super::{Name, Payers, Search};
use crate::engine::{Account, processor_time};
use crate::shop::manifest::Index as Definition;
use crate::store::Txn;
use crate::work::LivePlugins;
use crate::work::keys::{self, Position};

/// Changes within it share a commit of the index.
const BATCH_DELAY: Duration = Duration::from_millis(120);
const PAGE: usize = 2_000;
const REBUILD_PAGE: usize = 500;
/// Changes of a plugin with a share that are followed at once.
const SLICE: usize = 100;
/// For so long the changes of a plugin over its share wait for a slice.
const HELD_MAX: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(60);

pub(super) type Definitions = BTreeMap<Name, Definition>;

pub(super) fn definitions(live: &LivePlugins) -> Definitions {
    let of_plugin = |plugin: &Arc<crate::shop::plugin::Plugin>| {
        let name = plugin.name().to_owned();
        plugin.manifest.indexes.clone().into_iter().map(move |definition| ((name.clone(), definition.name.clone()), definition))
    };
    live.values().flat_map(of_plugin).collect()
}

/// What one page of the log came to.
struct Applied {
    /// Ends the log's entries that can be forgotten.
    trim: Txn,
    last: Position,
    more: bool,
    /// Entries of plugins that are over their share stay in the log.
    left: bool,
}

impl Search {
    /// Opens what is there and follows the store until [`Self::stop`].
    pub async fn start(self: &Arc<Self>, live: watch::Receiver<Arc<LivePlugins>>, payers: Payers) {
        let _ = self.payers.set(payers);
        let search = self.clone();
        let declared = definitions(&live.borrow());
        let opened = blocking(move || {
            search.open_all(&declared);
            Ok(())
        });
        if let Err(error) = opened.await {
            tracing::warn!(target: "search", %error, "cannot open the indexes");
        }
        *self.task.lock() = Some(tokio::spawn(self.clone().follow(live)));
    }

    pub async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    /// Waits until a commit of the store is in the indexes.
    pub async fn followed(&self, seq: u64) {
        let mut followed = self.followed.subscribe();
        let _ = followed.wait_for(|at| *at >= seq).await;
    }

    async fn follow(self: Arc<Self>, mut live: watch::Receiver<Arc<LivePlugins>>) {
        let mut committed = self.store.subscribe();
        // Before it nothing is left in the log.
        let mut after: Position = [0; 12];
        let mut retry = RETRY_FIRST;
        let search = self.clone();
        if let Err(error) = blocking(move || Ok(search.find_damage())).await {
            tracing::warn!(target: "search", %error, "cannot check the indexes");
        }
        while !self.stop.is_cancelled() && committed.has_changed().is_ok() && live.has_changed().is_ok() {
            committed.borrow_and_update();
            let declared = definitions(&live.borrow_and_update());
            let pause = match self.clone().catch_up(declared, &mut after).await {
                Ok(left) => {
                    retry = RETRY_FIRST;
                    if !left {
                        self.next_change(&mut committed, &mut live).await;
                    }
                    BATCH_DELAY
                }
                Err(error) => {
                    tracing::warn!(target: "search", error = format!("{error:#}"), "the indexes are behind; trying again");
                    retry = (retry * 2).min(RETRY_MOST);
                    retry
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
        let open = std::mem::take(&mut *self.open.write());
        let _ = blocking(move || {
            open.values().for_each(|index| index.close_writer());
            Ok(())
        })
        .await;
    }

    async fn next_change(&self, committed: &mut watch::Receiver<u64>, live: &mut watch::Receiver<Arc<LivePlugins>>) {
        tokio::select! {
            _ = committed.changed() => {}
            _ = live.changed() => {}
            () = self.wake.notified() => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn payer(&self, plugin: &str) -> Option<Arc<Account>> {
        self.payers.get().and_then(|payer| payer(plugin))
    }

    /// Whether changes of this plugin wait for now.
    fn is_held(&self, plugin: &str, payer: &Account) -> bool {
        let mut held = self.held.lock();
        if !held.contains_key(plugin) && !payer.owes_processor_time() {
            return false;
        }
        held.entry(plugin.to_owned()).or_insert_with(Instant::now).elapsed() < HELD_MAX
    }

    /// Brings indexes in line with the manifests, then with the log to its end.
    /// Tells whether something was left there.
    pub(super) async fn catch_up(self: Arc<Self>, declared: Definitions, after: &mut Position) -> anyhow::Result<bool> {
        self.held.lock().retain(|plugin, _| self.payer(plugin).is_some_and(|payer| payer.owes_processor_time()));
        self.charge_merges();
        // From the first entry that is left, the next time goes over them again.
        let (mut at, mut left) = (*after, false);
        let search = self.clone();
        blocking(move || search.build_missing(&declared)).await?;
        loop {
            let search = self.clone();
            let (seq, applied) = blocking(move || search.apply_page(at)).await?;
            let more = match applied {
                Some(applied) => {
                    if applied.trim.has_writes() {
                        self.store.commit(applied.trim).await.context("cannot trim the search log")?;
                    }
                    at = applied.last;
                    left |= applied.left;
                    if !left {
                        *after = at;
                    }
                    applied.more
                }
                None => false,
            };
            if !more && left {
                self.held.lock().retain(|_, since| since.elapsed() < HELD_MAX);
                return Ok(true);
            }
            if !more {
                self.followed.send_if_modified(|followed| {
                    let moved = seq > *followed;
                    *followed = seq.max(*followed);
                    moved
                });
                return Ok(false);
            }
        }
    }

    /// What was merged since the last changes were.
    fn charge_merges(&self) {
        for (name, index) in &*self.open.read() {
            let spent = index.spent.take();
            if !spent.is_zero()
                && let Some(payer) = self.payer(&name.0)
            {
                payer.charge_apart(spent);
            }
        }
    }

    fn folder_of(&self, (plugin, index): &Name) -> std::path::PathBuf {
        self.folder.join(plugin).join(index)
    }

    /// What lies on disk, even if its fields are those of another version: it
    /// answers until it is built again.
    fn open_one(&self, name: &Name) -> anyhow::Result<Arc<Index>> {
        // Damaged files make tantivy panic as well as fail.
        let opened = catch_unwind(AssertUnwindSafe(|| Index::open(&self.folder_of(name), &self.analysis)));
        let index = opened.unwrap_or_else(|_| Err(anyhow::anyhow!("its files are damaged")))?;
        let mut txn = self.store.begin();
        let ahead = index.position > keys::position(txn.snapshot_seq(), u32::MAX);
        let behind = txn.get(&keys::search_applied(&name.0, &name.1))?.is_some_and(|applied| index.position[..] < applied[..]);
        anyhow::ensure!(!ahead && !behind, "it belongs to another state of the store");
        let index = Arc::new(index);
        self.open.write().insert(name.clone(), index.clone());
        Ok(index)
    }

    pub(super) fn open_all(&self, declared: &Definitions) {
        for name in declared.keys() {
            // What cannot be opened is built, and then it is said why.
            let _ = self.open_one(name);
        }
    }

    /// What was written before this start may have changed since.
    fn find_damage(&self) {
        if !self.open.read().is_empty() {
            self.analysis.warm_up();
        }
        let open: Vec<_> = self.open.read().iter().map(|(name, index)| (name.clone(), index.clone())).collect();
        for (name, index) in open {
            if index.is_damaged() {
                tracing::warn!(target: "search", plugin = name.0, index = name.1, "damaged index");
                self.open.write().remove(&name);
                self.rebuild(name);
            }
        }
    }

    fn build_missing(&self, declared: &Definitions) -> anyhow::Result<()> {
        let gone: Vec<Name> = self.open.read().keys().filter(|name| !declared.contains_key(*name)).cloned().collect();
        for name in gone {
            let closed = self.open.write().remove(&name);
            closed.iter().for_each(|index| index.close_writer());
        }
        for (name, definition) in declared {
            let asked = self.rebuild.lock().contains(name);
            let open = self.open.read().get(name).cloned();
            let found = if asked { Err(anyhow::anyhow!("asked for")) } else { open.map_or_else(|| self.open_one(name), Ok) };
            let reason = match found {
                Ok(index) if index.definition != *definition => "its fields have changed".to_owned(),
                Ok(index) if index.analysed_by != self.analysis.fingerprint => "text is analysed otherwise now".to_owned(),
                Ok(_) => continue,
                Err(reason) => format!("{reason:#}"),
            };
            let index = self.build(name, definition, &reason).with_context(|| format!("cannot build the index {}/{}", name.0, name.1))?;
            self.rebuild.lock().remove(name);
            self.open.write().insert(name.clone(), Arc::new(index));
        }
        // Asked for, but of no live plugin.
        self.rebuild.lock().retain(|name| declared.contains_key(name));
        Ok(())
    }

    /// Builds beside the old one, which answers until the new one is whole.
    fn build(&self, name: &Name, definition: &Definition, reason: &str) -> anyhow::Result<Index> {
        let (begun, began_at, spent) = (std::time::Instant::now(), processor_time(), Arc::default());
        let folder = self.folder_of(name);
        // No index has a dot in its name.
        let beside = folder.with_extension("new");
        remove_folder(&beside)?;
        std::fs::create_dir_all(&beside)?;
        let mut txn = self.store.begin();
        let position = keys::position(txn.snapshot_seq(), u32::MAX);
        let (first, end) = keys::search_documents(&name.0, &name.1);
        let mut start = Bound::Included(first.clone());
        let mut page = Vec::new().into_iter();
        let mut count = 0;
        let documents = std::iter::from_fn(|| {
            if page.len() == 0 {
                match txn.scan(as_slice(&start), Bound::Excluded(&end), REBUILD_PAGE, false) {
                    Ok(next) => page = next.into_iter(),
                    Err(error) => return Some(Err(error.into())),
                }
            }
            let (key, value) = page.next()?;
            start = Bound::Excluded(keys::Key::from_slice(&key));
            count += 1;
            let id = key[first.len()..].to_vec();
            Some(String::from_utf8(id).context("an id that is no text").and_then(|id| Ok((id, decode(&value)?))))
        });
        let built = Index::build(&beside, definition, &self.analysis, position, documents, &spent);
        let cost = processor_time().saturating_sub(began_at) + spent.take();
        if let Some(payer) = self.payer(&name.0) {
            payer.charge_apart(cost);
        }
        built?;
        if let Some(open) = self.open.read().get(name).cloned() {
            open.close_writer();
        }
        remove_folder(&folder)?;
        std::fs::rename(&beside, &folder)?;
        std::fs::File::open(folder.parent().unwrap_or(&self.folder))?.sync_all()?;
        let took_ms = begun.elapsed().as_millis() as u64;
        let cpu_ms = cost.as_millis() as u64;
        tracing::info!(target: "search", plugin = name.0, index = name.1, documents = count, took_ms, cpu_ms, reason, "built an index");
        Index::open(&folder, &self.analysis)
    }

    /// Applies the next entries of the log, each index in one commit. The first
    /// of the pair is the commit of the store that this was seen in.
    fn apply_page(&self, after: Position) -> anyhow::Result<(u64, Option<Applied>)> {
        let mut txn = self.store.begin();
        let (start, end) = (keys::log_entry(keys::SEARCH, after), keys::log_entry(keys::SEARCH, [0xff; 12]));
        let page = txn.scan(Bound::Excluded(&start), Bound::Included(&end), PAGE, false)?;
        let seq = txn.snapshot_seq();
        let Some((last_key, _)) = page.last() else { return Ok((seq, None)) };
        let last = keys::position_of(keys::SEARCH, last_key).context("a strange key in the search log")?;
        let mut changed: BTreeMap<Name, Vec<(&[u8], String)>> = BTreeMap::new();
        let mut left = false;
        let mut trim = self.store.begin();
        for (key, entry) in &page {
            let (plugin, index, id): (String, String, String) = decode(entry)?;
            changed.entry((plugin, index)).or_default().push((key, id));
        }
        for (name, mut entries) in changed {
            let payer = self.payer(&name.0);
            if let Some(payer) = &payer {
                let most = if self.is_held(&name.0, payer) { 0 } else { SLICE };
                left |= entries.len() > most;
                entries.truncate(most);
                if entries.is_empty() {
                    continue;
                }
            }
            let mut ids = BTreeSet::new();
            for (key, id) in entries {
                trim.delete(key);
                ids.insert(id);
            }
            let begun = processor_time();
            let applied_key = keys::search_applied(&name.0, &name.1);
            // Never back, also where entries were left before it.
            let before = txn.get(&applied_key)?.and_then(|before| Position::try_from(&before[..]).ok());
            let reached = before.map_or(last, |before| before.max(last));
            let open = self.open.read().get(&name).cloned();
            // Of a plugin that is not live: its index will be found behind.
            if let Some(open) = open {
                let mut changes = Vec::with_capacity(ids.len());
                for id in ids {
                    let document = txn.get(&keys::search_document(&name.0, &name.1, &id))?;
                    let document = document.map(|bytes| decode::<Document>(&bytes)).transpose()?;
                    changes.push((id, document));
                }
                let applied = open.apply(changes, reached);
                if let Some(payer) = &payer {
                    payer.charge_apart(processor_time().saturating_sub(begun) + open.spent.take());
                }
                if let Err(error) = applied {
                    self.rebuild.lock().insert(name.clone());
                    return Err(error.context(format!("cannot change the index {}/{}", name.0, name.1)));
                }
            }
            trim.put(&applied_key, reached.to_vec());
        }
        Ok((seq, Some(Applied { trim, last, more: page.len() == PAGE, left })))
    }
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> anyhow::Result<T> {
    postcard::from_bytes(bytes).context("a record of search cannot be read")
}

fn as_slice(bound: &Bound<keys::Key>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

pub(super) fn remove_folder(folder: &std::path::Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("indexing panicked")?
}
