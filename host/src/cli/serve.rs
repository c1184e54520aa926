//! `souk serve` and `souk dev`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notify::{RecursiveMode, Watcher};
use souk_build::Build;
use tokio::signal::unix::{SignalKind, signal};

use super::control;
use crate::alert;
use crate::engine::Code;
use crate::engine::bindings::souk::host::config::ShopFacts;
use crate::front::server::Server;
use crate::runtime::Runtime;
use crate::shop::settings::{GrantSetting, Settings, StoreFolder};
use crate::work::Plugins as _;

/// With folders of plugins' sources, as `souk dev`.
pub async fn serve(folder: StoreFolder, sources: &[PathBuf]) -> Result<()> {
    let begun = Instant::now();
    let mut settings = Settings::read(&folder.0)?;
    if !sources.is_empty() {
        // Whoever is at work on plugins changes what they ask for all the time.
        settings.plugins.grants = GrantSetting::Implied;
    }
    let runtime = Runtime::open(folder, settings, Code::Soonest).await?;
    runtime.runner.start().await?;
    let shop = Arc::downgrade(&runtime.shop);
    let payers = Box::new(move |plugin: &str| shop.upgrade()?.limited_account(plugin));
    runtime.services.search.start(runtime.shop.live(), payers).await;
    let server = Server::start(runtime.clone(), runtime.front_options()).await?;
    if runtime.settings.shop.base_url.is_none() {
        let scheme = if runtime.settings.server.tls.is_some() { "https" } else { "http" };
        let base_url = format!("{scheme}://{}", server.address);
        runtime.services.shop.rcu(|facts| ShopFacts { base_url: base_url.clone(), ..ShopFacts::clone(facts) });
    }
    if runtime.settings.server.tls.is_none() {
        runtime.services.http.set_own_address(server.address)?;
    }
    let base_url = runtime.services.shop.load().base_url.clone();
    let control = control::listen(runtime.clone())?;
    let watcher = runtime.shop.watch()?;
    let alerts = alert::watch(runtime.clone());
    let building = if sources.is_empty() { None } else { Some(build_on_change(sources, &runtime.folder.plugins())?) };
    for plugin in runtime.shop.report().iter().filter(|plugin| plugin.problem.is_some()) {
        complain!("! {}: {}", plugin.name, plugin.problem.as_deref().unwrap_or_default());
    }
    say!("{} is open: {base_url}  (after {} ms)", runtime.settings.shop.name, begun.elapsed().as_millis());
    if let Some(ops) = server.ops_address {
        say!("for operators: http://{ops}/metrics /health /ready");
    }

    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let must_restart = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        reason = disk_has_failed_and_is_back(&runtime) => Some(MustRestart(reason)),
    };
    complain!("finishing what is in hand; once more to stop at once");
    let finish = async {
        alerts.abort();
        drop((watcher, building, control));
        if !server.drain().await {
            complain!("some requests did not end in time (server.limits.drain-timeout-ms)");
        }
        runtime.close().await;
    };
    tokio::select! {
        () = finish => {}
        _ = interrupt.recv() => complain!("stopped at once; the next start recovers"),
        _ = terminate.recv() => {}
    }
    must_restart.map_or(Ok(()), |restart| Err(restart.into()))
}

/// A write to the disk has failed, and the disk takes writes again.
#[derive(Debug, thiserror::Error)]
#[error("a write to the disk failed ({0}), and the disk takes writes again: start again to go on selling")]
pub struct MustRestart(String);

impl MustRestart {
    /// `EX_TEMPFAIL`, for supervisors to tell from other ends.
    pub const EXIT_CODE: u8 = 75;
}

const DISK_PROBED_EVERY: Duration = Duration::from_secs(1);
const PROBE_BYTES: usize = 1 << 20;

/// Why a write failed, once that can be mended by a new start. Until then the shop shows what it has, and sells nothing.
async fn disk_has_failed_and_is_back(runtime: &Runtime) -> String {
    let mut failed = runtime.store.failed();
    // Without a store, nothing fails any more.
    let Ok(reason) = failed.wait_for(Option::is_some).await.map(|reason| reason.clone().unwrap_or_default()) else {
        return std::future::pending().await;
    };
    let folder = runtime.folder.data();
    tracing::error!(
        "nothing is sold any more, as a write below {} failed: {reason}. Mend the disk: the shop shows its pages meanwhile, and ends with code {} when \
         it can write again, to be started again",
        folder.display(),
        MustRestart::EXIT_CODE
    );
    loop {
        let folder = folder.clone();
        if tokio::task::spawn_blocking(move || takes_writes(&folder)).await.is_ok_and(|probed| probed.is_ok()) {
            return reason;
        }
        tokio::time::sleep(DISK_PROBED_EVERY).await;
    }
}

fn takes_writes(folder: &Path) -> std::io::Result<()> {
    use std::io::Write;
    let mut probe = tempfile::NamedTempFile::new_in(folder)?;
    probe.write_all(&vec![0; PROBE_BYTES])?;
    probe.as_file().sync_all()?;
    probe.close()
}

/// Builds each plugin whose source is newer than what the shop has, then each whose source changes. The shop's own watcher
/// swaps it.
fn build_on_change(sources: &[PathBuf], out: &Path) -> Result<Vec<notify::RecommendedWatcher>> {
    let out = out.canonicalize().with_context(|| out.display().to_string())?;
    // Ordered, so that what was changed together is built by one cargo for each folder of sources.
    let (changed, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let mut watchers = Vec::with_capacity(sources.len());
    for source in sources {
        let root = source.canonicalize().with_context(|| format!("{}: where are the plugins' sources? Give --plugins FOLDER", source.display()))?;
        let known = souk_build::sources(&root)?;
        ensure!(!known.is_empty(), "{}: no plugin is here; its folder has a plugin.toml and a Cargo.toml", root.display());
        for plugin in known.into_iter().filter(|plugin| is_newer(plugin, &out.join(&plugin.name))) {
            _ = changed.send((root.clone(), plugin.name));
        }
        let (changed, watched) = (changed.clone(), root.clone());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if event.kind.is_access() {
                return;
            }
            for folder in event.paths.iter().filter_map(|path| plugin_of(&watched, path)) {
                // Its name may have changed with its manifest.
                let Ok(known) = souk_build::sources(&watched) else { continue };
                if let Some(plugin) = known.into_iter().find(|plugin| plugin.folder == folder) {
                    _ = changed.send((watched.clone(), plugin.name));
                }
            }
        })?;
        watcher.watch(&root, RecursiveMode::Recursive)?;
        watchers.push(watcher);
    }
    tokio::spawn(async move {
        while let Some(first) = changes.recv().await {
            let mut plugins = BTreeSet::from([first]);
            // An editor writes in several steps.
            while let Ok(Some(next)) = tokio::time::timeout(Duration::from_millis(60), changes.recv()).await {
                plugins.insert(next);
            }
            let mut of_root: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
            for (root, plugin) in plugins {
                of_root.entry(root).or_default().push(plugin);
            }
            for (root, only) in of_root {
                let out = out.clone();
                _ = tokio::task::spawn_blocking(move || build_quick(&root, &only, &out)).await;
            }
        }
    });
    Ok(watchers)
}

fn build_quick(root: &Path, only: &[String], out: &Path) {
    let (begun, names) = (Instant::now(), only.join(", "));
    match (Build { only, quick: true, ..Build::new(root, out) }.run()) {
        Ok(()) => complain!("· {names}: built in {} ms", begun.elapsed().as_millis()),
        Err(error) => complain!("! {names}: {error:#}; the shop keeps the last good one"),
    }
}

/// Whether any file of a plugin's source was written after its component in the shop.
fn is_newer(source: &souk_build::Source, built: &Path) -> bool {
    let written = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let Some(built) = written(&built.join("plugin.wasm")) else { return true };
    let mut left: Vec<PathBuf> = SOURCES.iter().map(|name| source.folder.join(name)).collect();
    while let Some(path) = left.pop() {
        if written(&path).is_some_and(|time| time > built) {
            return true;
        }
        left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    false
}

/// What a plugin is made of, in its folder.
const SOURCES: [&str; 5] = ["src", "assets", "wit", "plugin.toml", "Cargo.toml"];

/// The folder `<root>/promotions` for `<root>/promotions/src/lib.rs`, or `<root>` where that is itself a plugin; nothing for
/// what is no source.
fn plugin_of(root: &Path, path: &Path) -> Option<PathBuf> {
    let inner = path.strip_prefix(root).ok()?;
    let folder = if root.join("plugin.toml").exists() { root.to_owned() } else { root.join(inner.components().next()?) };
    let mut parts = path.strip_prefix(&folder).ok()?.components().map(|part| part.as_os_str().to_string_lossy());
    let is_source = parts.clone().next().is_some_and(|part| SOURCES.contains(&part.as_ref()));
    let is_file_of_an_editor = parts.any(|part| part.starts_with('.') || part.ends_with('~'));
    (is_source && !is_file_of_an_editor).then_some(folder)
}
