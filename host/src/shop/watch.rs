//! Watches the plugins' folder and brings changes to life.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::Shop;

/// A change is taken up when the folder has been quiet for so long, …
const QUIET: Duration = Duration::from_millis(40);
/// … or when changes have gone on for so long.
const PATIENCE: Duration = Duration::from_millis(500);

impl Shop {
    /// Follows the folder for as long as the shop and the returned watcher live.
    pub fn watch(self: &Arc<Self>) -> notify::Result<notify::RecommendedWatcher> {
        // One waiting signal is enough: a reload looks at the whole folder.
        let (changed, mut changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| is_relevant(path))) {
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
        Ok(watcher)
    }
}

/// Names with a leading dot are work in progress: a rename makes them real.
fn is_relevant(path: &Path) -> bool {
    !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}
