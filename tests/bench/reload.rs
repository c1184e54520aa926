//! From the rename of a changed component to the first answer of the new one.
//!
//! The change is the smallest that can be seen from outside: some text of the
//! component replaced by as much other text. It is compiled like any other.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use souk_tests::process::address;
use souk_tests::wire::{Client, block_on};
use souk_tests::{Shop, copy, grant, replace, root, store};

use crate::figure::{Figure, Mark};
use crate::{Effort, calls};

const PATIENCE: Duration = Duration::from_secs(30);

/// A plugin of the whole shop's graph.
pub fn graph(effort: Effort) -> Result<Vec<Figure>> {
    let shop = Shop::open();
    // A summary in the document that the plugin itself writes.
    let values = reloads(&shop, effort, "api", "/api/v1/openapi.json", "One product with its variants")?;
    let mut figure = Figure::plain("reload_ms", "ms", Mark::AtMost(1_000.0), values);
    figure.remark = "plugin `api` in the whole shop's graph".into();
    Ok(vec![figure])
}

pub fn provider(effort: Effort) -> Result<Vec<Figure>> {
    let shop = calls::shop()?;
    let values = reloads(&shop, effort, "provider", "/call/provider/1", "provider version 0000")?;
    Ok(vec![Figure::plain("reload_provider_ms", "ms", Mark::AtMost(300.0), values)])
}

/// One plugin of a graph of twenty.
pub fn twenty(effort: Effort) -> Result<Vec<Figure>> {
    const PLUGINS: usize = 20;
    let folder = store();
    let plugins = folder.path().join("store/plugins");
    let services = fs::read_dir(&plugins)?.flatten().filter(|entry| {
        fs::read_to_string(entry.path().join("plugin.toml")).is_ok_and(|manifest| !manifest.contains("kind = \"provider\""))
    });
    // The file of grants, and versions that are kept, are no plugins.
    let services = services.filter(|entry| entry.path().join("plugin.wasm").exists()).count();
    for number in services..PLUGINS {
        let name = format!("hello-{number}");
        copy(&root().join("target/examples/hello"), &plugins.join(&name));
        let path = plugins.join(&name).join("plugin.toml");
        let manifest = fs::read_to_string(&path)?.replace("\"hello\"", &format!("\"{name}\"")).replace("\"/hello\"", &format!("\"/{name}\""));
        fs::write(&path, manifest)?;
        grant(&folder, &name);
    }
    let shop = Shop::serve(folder);
    let values = reloads(&shop, effort, "api", "/api/v1/openapi.json", "One product with its variants")?;
    Ok(vec![Figure::plain("relink_20_plugins_ms", "ms", Mark::AtMost(1_500.0), values)])
}

fn reloads(shop: &Shop, effort: Effort, plugin: &str, path: &str, text: &str) -> Result<Vec<f64>> {
    // Other files of a version that was granted would have to be granted.
    shop.set_version(plugin, "1.0.0");
    let component = shop.plugin(plugin).join("plugin.wasm");
    let original = fs::read(&component)?;
    let place = original.windows(text.len()).position(|window| window == text.as_bytes());
    let place = place.with_context(|| format!("`{text}` is not in {}", component.display()))?;
    // Unlike those of earlier runs, whose code may still be kept.
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as usize;
    block_on(async {
        let mut client = Client::connect(address(shop)?).await?;
        let mut values = Vec::new();
        for round in 0..effort.rounds {
            let wanted = format!("{}{:010}", &text[..text.len() - 10], (seed + round) % 10_000_000_000);
            let mut changed = original.clone();
            changed[place..place + text.len()].copy_from_slice(wanted.as_bytes());
            values.push(until_answered(&mut client, &component, &changed, path, &wanted).await?);
        }
        Ok(values)
    })
}

async fn until_answered(client: &mut Client, component: &Path, changed: &[u8], path: &str, wanted: &str) -> Result<f64> {
    let begun = Instant::now();
    replace(component, changed);
    loop {
        let answer = client.get(path).await?;
        ensure!(answer.status == 200, "{}", String::from_utf8_lossy(answer.body));
        if answer.body.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
            return Ok(begun.elapsed().as_secs_f64() * 1e3);
        }
        ensure!(begun.elapsed() < PATIENCE, "the new version did not answer within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
