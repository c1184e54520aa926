//! Watches the plugins' folder and brings changes to life.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::Shop;

/// A change is taken up when the folder has been quiet for so long, …
const QUIET: Duration = Duration::from_millis(40);
/// … or when changes have gone on for so long.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often versions on probation are looked at.
const JUDGED: Duration = Duration::from_millis(250);

impl Shop {
    /// Follows the folder for as long as the shop and the returned watcher live.
    /// From now on versions that go live are kept and on probation, and trials run.
    pub fn watch(self: &Arc<Self>) -> notify::Result<notify::RecommendedWatcher> {
        // One waiting signal is enough: a reload looks at the whole folder.
        let (changed, mut changes) = mpsc::channel(1);
        let folder = self.folder.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| is_relevant(&folder, path))) {
                let _ = changed.try_send(());
            }
        })?;
        watcher.watch(&self.folder, RecursiveMode::Recursive)?;
        let shop = Arc::downgrade(self);
        tokio::spawn(async move {
            while changes.recv().await.is_some() {
                let patience = tokio::time::Instant::now() + PATIENCE;
                while let Ok(Some(())) = tokio::time::timeout(QUIET, changes.recv()).await {
                    if tokio::time::Instant::now() > patience {
                        break;
                    }
                }
                let Some(shop) = shop.upgrade() else { return };
                shop.reload().await;
            }
        });
        self.served.store(true, Relaxed);
        let shop = Arc::downgrade(self);
        tokio::spawn(async move {
            if let Some(shop) = shop.upgrade() {
                shop.begin_watching_over().await;
            }
            let mut interval = tokio::time::interval(JUDGED);
            loop {
                interval.tick().await;
                let Some(shop) = shop.upgrade() else { return };
                shop.judge_trials().await;
                shop.judge_probations().await;
            }
        });
        Ok(watcher)
    }

    /// What only a shop that is served has: see [`Self::watch`].
    async fn begin_watching_over(&self) {
        let _one = self.changing.lock().await;
        self.keep_versions(self.live.load().loaded.keys().cloned().collect()).await;
        self.set_up_trials().await;
    }
}

/// Names with a leading dot are work in progress, which a rename makes real,
/// and versions that are kept.
fn is_relevant(folder: &Path, path: &Path) -> bool {
    let below = path.strip_prefix(folder).unwrap_or(path);
    !below.components().any(|part| part.as_os_str().to_string_lossy().starts_with('.'))
}
