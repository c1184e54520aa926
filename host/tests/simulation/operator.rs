//! The shop's operator, who exchanges plugins while shoppers buy: another
//! version, one that cannot be linked, the one before. With the files and the
//! code that `souk plugin` and a served shop do it with; what lies in the
//! plugins' folder outlives the process, as documents do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use semver::Version;
use souk_host::chance::below;
use souk_host::runtime::Runtime;
use souk_host::shop::load::Files;
use souk_host::shop::versions::Versions;
use souk_host::work::Plugins;
use souk_tests::copy;
use tokio::time::sleep;
use wasm_encoder::{ComponentSection, CustomSection};

use crate::shoppers::{Visit, one_of};

/// What an order passes through.
const EXCHANGED: [&str; 10] = ["api", "cart", "checkout", "discount-coupon", "inventory", "orders", "pay-sandbox", "payment", "pricing", "promotions"];
/// Of these the second version is another component, of the others another manifest: each set of services is compiled once.
const REBUILT: [&str; 4] = ["cart", "discount-coupon", "orders", "pay-sandbox"];
const PROVIDERS: [&str; 2] = ["discount-coupon", "pay-sandbox"];
const SECOND: &str = "0.2.0";
const REFUSED: &str = "0.3.0";

/// What publishers have on offer. All versions of a plugin do the same.
pub struct Shelf(PathBuf);

impl Shelf {
    pub fn fill(built: &Path, shelf: PathBuf) -> Result<Self> {
        let first = shelf.join("first");
        copy(built, &first);
        for plugin in EXCHANGED {
            Versions::of(&first, plugin).went_live()?;
            let built = fs::read(first.join(plugin).join("plugin.wasm"))?;
            let mut second = built.clone();
            if REBUILT.contains(&plugin) {
                CustomSection { name: "rebuilt".into(), data: b"with other bytes"[..].into() }.append_to_component(&mut second);
            }
            offer(&first.join(plugin), &shelf.join(SECOND).join(plugin), SECOND, "", &second)?;
            // A provider that says it can rewrite its documents, and a service that is another.
            let (says, refused) = if PROVIDERS.contains(&plugin) { ("\n[data]\nform = 2\n", built) } else { ("", fs::read(first.join("tax/plugin.wasm"))?) };
            offer(&first.join(plugin), &shelf.join(REFUSED).join(plugin), REFUSED, says, &refused)?;
        }
        Ok(Self(shelf))
    }

    /// Puts what was there on the first day into a shop.
    pub fn set_up(&self, plugins: &Path) -> Result<()> {
        if plugins.exists() {
            fs::remove_dir_all(plugins)?;
        }
        link(&self.0.join("first"), plugins)
    }
}

fn offer(from: &Path, to: &Path, version: &str, says: &str, component: &[u8]) -> Result<()> {
    copy(from, to);
    let manifest = fs::read_to_string(from.join("plugin.toml"))?;
    let line = manifest.lines().find(|line| line.starts_with("version")).context("a manifest has a version")?;
    fs::write(to.join("plugin.toml"), manifest.replacen(line, &format!("version = \"{version}\""), 1) + says)?;
    Ok(fs::write(to.join("plugin.wasm"), component)?)
}

/// The same files: they are replaced, never written to.
fn link(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() { link(&entry.path(), &target)? } else { fs::hard_link(entry.path(), target)? }
    }
    Ok(())
}

pub struct Operator<'a> {
    shelf: &'a Shelf,
    plugins: PathBuf,
    /// The plugin that the last exchange is of, until its end was seen.
    at_work_on: Option<&'static str>,
    pub done: BTreeMap<&'static str, usize>,
}

impl<'a> Operator<'a> {
    pub fn new(shelf: &'a Shelf, plugins: PathBuf) -> Self {
        Self { shelf, plugins, at_work_on: None, done: BTreeMap::new() }
    }

    fn versions(&self, plugin: &str) -> Versions {
        Versions::of(&self.plugins, plugin)
    }

    fn lies_there(&self, plugin: &str) -> Result<Version> {
        Ok(Files::read(&self.plugins.join(plugin))?.manifest.version)
    }

    /// What was broken off by the death of the process, before the next one: what cannot be linked is put back.
    pub fn tidy(&mut self) -> Result<()> {
        let Some(plugin) = self.at_work_on.take() else { return Ok(()) };
        let versions = self.versions(plugin);
        if self.lies_there(plugin)?.to_string() == REFUSED {
            let last = versions.history()?.pop().context("it was live")?;
            versions.promote(&last.id)?;
        }
        versions.went_live().map(drop)
    }

    /// At some commits of a life.
    pub async fn work(&mut self, visit: &Visit, commits: &[u64]) {
        for commit in commits {
            visit.disk.until_commit(*commit).await;
            let plugin = one_of(&EXCHANGED);
            if let Err(error) = self.exchange(plugin, visit).await
                && !visit.disk.is_dead()
            {
                panic!("{plugin} is exchanged: {error:#}");
            }
        }
    }

    async fn exchange(&mut self, plugin: &'static str, visit: &Visit) -> Result<()> {
        self.at_work_on = Some(plugin);
        let live = version(&visit.runtime, plugin)?;
        let (what, wanted) = match below(6) {
            0 => ("refused", self.install(plugin, REFUSED)?),
            1 | 2 if self.versions(plugin).history()?.len() > 1 => ("rolled back", self.versions(plugin).roll_back(None)?),
            _ if live.to_string() == SECOND => ("installed", self.install(plugin, "first")?),
            _ => ("installed", self.install(plugin, SECOND)?),
        };
        visit.note(format!("operator: {plugin} {live} → {wanted}, which is to be {what}"));
        let reload = visit.runtime.shop.reload().await;
        let now = version(&visit.runtime, plugin)?;
        visit.note(format!("operator: {plugin} is {now}"));
        let refused: Vec<&str> = reload.refused.iter().map(|(name, _)| name.as_str()).collect();
        if what == "refused" {
            ensure!(now == live && reload.changed.is_empty() && refused == [plugin], "{now}, changed {:?}, refused {:?}", reload.changed, reload.refused);
            // Nobody looks at once.
            sleep(Duration::from_millis(below(60_000))).await;
            self.tidy()?;
            let reload = visit.runtime.shop.reload().await;
            ensure!(reload.changed.is_empty() && reload.refused.is_empty(), "changed {:?}, refused {:?}", reload.changed, reload.refused);
        } else {
            ensure!(now == wanted && reload.changed == [plugin] && refused.is_empty(), "{now}, changed {:?}, refused {:?}", reload.changed, reload.refused);
            self.tidy()?;
        }
        *self.done.entry(what).or_default() += 1;
        Ok(())
    }

    /// As `souk plugin install` does it.
    fn install(&self, plugin: &str, from: &str) -> Result<Version> {
        let versions = self.versions(plugin);
        let id = versions.keep(&self.shelf.0.join(from).join(plugin))?;
        versions.promote(&id)
    }
}

fn version(runtime: &Runtime, plugin: &str) -> Result<Version> {
    let live = runtime.shop.live();
    let live = live.borrow();
    Ok(live.get(plugin).with_context(|| format!("no {plugin} is live"))?.manifest.version.clone())
}
