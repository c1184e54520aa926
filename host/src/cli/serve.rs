//! `souk serve` and `souk dev`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher};
use souk_build::Build;
use tokio::signal::unix::{SignalKind, signal};

use super::control;
use crate::engine::Code;
use crate::engine::bindings::souk::host::config::ShopFacts;
use crate::front::server::Server;
use crate::runtime::Runtime;
use crate::shop::settings::{GrantSetting, Settings, StoreFolder};
use crate::work::Plugins as _;

/// With the folder of plugins' sources, as `souk dev`.
pub async fn serve(folder: StoreFolder, sources: Option<&Path>) -> Result<()> {
    let begun = Instant::now();
    let mut settings = Settings::read(&folder.0)?;
    if sources.is_some() {
        // Whoever is at work on plugins changes what they ask for all the time.
        settings.plugins.grants = GrantSetting::Implied;
    }
    let runtime = Runtime::open(folder, settings, Code::Soonest).await?;
    runtime.runner.start().await?;
    runtime.services.search.start(runtime.shop.live()).await;
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
    let building = sources.map(|sources| build_on_change(sources, runtime.folder.plugins())).transpose()?;
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

/// Builds the plugin whose source changed; the shop's own watcher swaps it.
fn build_on_change(sources: &Path, out: PathBuf) -> Result<notify::RecommendedWatcher> {
    let root = sources.canonicalize().with_context(|| format!("{}: where are the plugins' sources?", sources.display()))?;
    let (changed, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let watched = root.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        if event.kind.is_access() {
            return;
        }
        for plugin in event.paths.iter().filter_map(|path| plugin_of(&watched, path)) {
            let _ = changed.send(plugin);
        }
    })?;
    watcher.watch(&root, RecursiveMode::Recursive)?;
    let out = out.canonicalize()?;
    tokio::spawn(async move {
        while let Some(first) = changes.recv().await {
            let mut plugins = BTreeSet::from([first]);
            // An editor writes in several steps.
            while let Ok(Some(next)) = tokio::time::timeout(Duration::from_millis(60), changes.recv()).await {
                plugins.insert(next);
            }
            let (root, out) = (root.clone(), out.clone());
            let built = tokio::task::spawn_blocking(move || {
                let begun = Instant::now();
                // One plugin alone has no name in a workspace.
                let only: Vec<String> = plugins.into_iter().flatten().collect();
                match (Build { only: &only, quick: true, ..Build::new(&root, &out) }.run()) {
                    Ok(()) => complain!("· built in {} ms", begun.elapsed().as_millis()),
                    Err(error) => complain!("! {error:#}; the shop keeps the last good one"),
                }
            });
            let _ = built.await;
        }
    });
    Ok(watcher)
}

/// `promotions` for `<root>/promotions/src/lib.rs`; no name where the root is
/// itself a plugin; nothing for what is no source.
fn plugin_of(root: &Path, path: &Path) -> Option<Option<String>> {
    let mut parts: Vec<_> = path.strip_prefix(root).ok()?.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let plugin = if root.join("plugin.toml").exists() { None } else { (!parts.is_empty()).then(|| parts.remove(0).into_owned()) };
    let is_source = parts.first().is_some_and(|part| ["src", "assets", "plugin.toml", "Cargo.toml"].contains(&part.as_ref()));
    let is_file_of_an_editor = parts.iter().any(|part| part.starts_with('.') || part.ends_with('~'));
    let is_plugin = plugin.as_ref().is_none_or(|plugin| root.join(plugin).join("Cargo.toml").exists());
    (is_source && !is_file_of_an_editor && is_plugin).then_some(plugin)
}
