//! What it costs to have plugins of others: their number, their language, their
//! trial, and their bad behaviour.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use souk_tests::network::silence;
use souk_tests::process::{address, handles};
use souk_tests::wire::{Client, block_on, get};
use souk_tests::{Shop, copy, grant, install, install_guest, install_neighbour, root, store, store_without_pages};
use tempfile::TempDir;

use crate::calls;
use crate::figure::{Figure, Mark, Round, median};
use crate::load;
use crate::Effort;

const CONNECTIONS: usize = 16;

/// The shop's tail while one plugin of its graph spins until its deadline, again
/// and again, against the tail without.
pub fn hostile_neighbour(effort: Effort) -> Result<Vec<Figure>> {
    let folder = store_without_pages();
    install_guest(&folder, "hostile-service");
    let shop = Shop::serve(folder);
    let address = address(&shop)?;
    let mut rounds = Vec::new();
    block_on(async {
        let requests: Vec<_> = handles(address, 100).await?.iter().map(|handle| get(address, &format!("/api/v1/products/{handle}"))).collect();
        load::run(address, CONNECTIONS, effort.round / 3, requests.clone()).await?;
        for _ in 0..effort.rounds {
            let alone = load::run(address, CONNECTIONS, effort.round, requests.clone()).await?;
            let done = Arc::new(AtomicBool::new(false));
            let neighbour = tokio::spawn({
                let done = done.clone();
                async move {
                    let mut client = Client::connect(address).await?;
                    while !done.load(Relaxed) {
                        let status = client.get("/hostile/loop").await?.status;
                        ensure!(status == 504, "the neighbour got {status}");
                    }
                    anyhow::Ok(())
                }
            });
            let beside = load::run(address, CONNECTIONS, effort.round, requests.clone()).await?;
            done.store(true, Relaxed);
            neighbour.await??;
            rounds.push(Round { value: beside.quantile_us(0.99), baseline: Some(alone.quantile_us(0.99)) });
        }
        Ok(())
    })?;
    let remark = format!("p99 of a product as JSON: {:.0} µs alone", median(rounds.iter().filter_map(|round| round.baseline).collect()));
    Ok(vec![Figure::compared("hostile_neighbour_p99_ratio", "µs", Mark::AtMost(3.0), rounds, remark)])
}

/// A plugin at its worst: what it is, and what is asked of it sixteen times at once.
enum Misdeed {
    /// Of a provider that is asked for discounts for each cart.
    Provider(&'static str),
    Page(&'static str),
}

const MISDEEDS: [Misdeed; 9] = [
    Misdeed::Provider("spin-most-of-the-deadline"),
    Misdeed::Provider("wait-for-99-ms"),
    // As long as it may.
    Misdeed::Provider("wait-for-4-ms"),
    Misdeed::Provider("ten-thousand-proposals"),
    Misdeed::Page("/neighbour/loop"),
    Misdeed::Page("/neighbour/write-and-delete"),
    Misdeed::Page("/neighbour/storage-flood"),
    Misdeed::Page("/neighbour/storage-volume"),
    Misdeed::Page("/neighbour/fetch-64-times?http://shop.internal/neighbour/loop"),
];

/// The tail of carts, looked at and changed, beside each plugin at its worst
/// against the tail without: the worst of all.
pub fn hostile_share(effort: Effort) -> Result<Vec<Figure>> {
    let folder = store_without_pages();
    install_neighbour(&folder);
    let environment = silence(&folder);
    let shop = Shop::serve_with(folder, environment);
    let address = address(&shop)?;
    let (mut rounds, mut remarks) = (Vec::new(), Vec::new());
    block_on(async {
        let requests = cart_requests(address).await?;
        load::run(address, CONNECTIONS, effort.round / 3, requests.clone()).await?;
        for round in 0..effort.rounds {
            let mut worst: Option<(f64, Round)> = None;
            for misdeed in &MISDEEDS {
                let alone = load::run(address, CONNECTIONS, effort.round, requests.clone()).await?.quantile_us(0.99);
                let beside = beside(&shop, address, misdeed, round, effort, &requests).await?;
                let (Misdeed::Provider(name) | Misdeed::Page(name)) = misdeed;
                remarks.push(format!("{name}: {:.2}", beside / alone));
                eprintln!("  {name}: p99 {:.1} ms, {:.1} ms alone, {:.2}×", beside / 1e3, alone / 1e3, beside / alone);
                if worst.as_ref().is_none_or(|(ratio, _)| beside / alone > *ratio) {
                    worst = Some((beside / alone, Round { value: beside, baseline: Some(alone) }));
                }
            }
            rounds.extend(worst.map(|(_, round)| round));
        }
        Ok(())
    })?;
    let remark = remarks.join(", ");
    Ok(vec![Figure::compared("hostile_share_p99_ratio", "µs", Mark::AtMost(3.0), rounds, remark)])
}

async fn beside(shop: &Shop, address: std::net::SocketAddr, misdeed: &Misdeed, round: usize, effort: Effort, requests: &[Vec<u8>]) -> Result<f64> {
    match misdeed {
        Misdeed::Provider(name) => {
            // From its first call on: what it takes before the shop has had enough of it counts.
            shop.misbehave(&format!("1.{round}.0"), name);
            let sample = load::run(address, CONNECTIONS, effort.round, requests.to_vec()).await;
            fs::rename(shop.plugin("hostile"), shop.folder().join("taken-out"))?;
            fs::remove_dir_all(shop.folder().join("taken-out"))?;
            shop.until_gone("hostile");
            Ok(sample?.quantile_us(0.99))
        }
        Misdeed::Page(path) => {
            let path: &'static str = path;
            let done = Arc::new(AtomicBool::new(false));
            let ask = |done: Arc<AtomicBool>| async move {
                let mut client = Client::connect(address).await?;
                while !done.load(Relaxed) {
                    client.get(path).await?;
                }
                anyhow::Ok(())
            };
            let neighbours: Vec<_> = (0..16).map(|_| tokio::spawn(ask(done.clone()))).collect();
            let sample = load::run(address, CONNECTIONS, effort.round, requests.to_vec()).await;
            done.store(true, Relaxed);
            for neighbour in neighbours {
                // Whoever is in the middle of a long one need not be waited for.
                neighbour.abort();
            }
            Ok(sample?.quantile_us(0.99))
        }
    }
}

/// Three carts looked at, and one changed, of sixteen carts.
async fn cart_requests(address: std::net::SocketAddr) -> Result<Vec<Vec<u8>>> {
    let mut client = Client::connect(address).await?;
    let (_, listing) = client.json("GET", "/api/v1/products?limit=1", &Value::Null).await?;
    let (_, product) = client.json("GET", &format!("/api/v1/products/{}", listing["products"][0]["handle"].as_str().unwrap_or_default()), &Value::Null).await?;
    let mut requests = Vec::new();
    for _ in 0..CONNECTIONS {
        let (_, cart) = client.json("POST", "/api/v1/carts", &Value::Null).await?;
        let cart = format!("/api/v1/carts/{}", cart["id"].as_str().unwrap_or_default());
        let (status, filled) = client.json("POST", &format!("{cart}/lines"), &json!({ "sku": product["variants"][0]["sku"], "quantity": 1 })).await?;
        ensure!(status == 200, "{filled}");
        let contact = json!({ "email": "li.lei@shop.example", "phone": "" });
        requests.push(souk_tests::wire::json(address, "PUT", &format!("{cart}/contact"), &contact));
        requests.extend((0..3).map(|_| get(address, &cart)));
    }
    Ok(requests)
}

/// Grants are looked at when a plugin is linked. What is left of a check is in
/// the whole of a capability call, and this is it.
pub fn capability(effort: Effort) -> Result<Vec<Figure>> {
    const CALLS: u32 = 20_000;
    let shop = Shop::serve(calls::store()?);
    let values = calls::per_call_us(&shop, effort, &format!("/call/capability/{CALLS}"), CALLS, "CNY")?;
    let mut figure = Figure::plain("grant_check_us", "µs", Mark::AtMost(1.0), values);
    figure.remark = "a whole capability call, by a plugin that was granted it".into();
    Ok(vec![figure])
}

/// Another plugin with the same component, whose instances are kept.
fn warm_provider(folder: &TempDir, name: &str) -> Result<()> {
    let target = folder.path().join("store/plugins").join(name);
    copy(&root().join("target/guests/provider"), &target);
    let manifest = fs::read_to_string(target.join("plugin.toml"))?.replace("\"provider\"\nversion", &format!("\"{name}\"\nversion"));
    fs::write(target.join("plugin.toml"), manifest.replace("isolation = \"request\"", ""))?;
    grant(folder, name);
    Ok(())
}

/// One cart, 25 discount providers.
pub fn fanout(effort: Effort) -> Result<Vec<Figure>> {
    const CARTS: u32 = 50;
    let folder = calls::store()?;
    for number in 0..25 {
        warm_provider(&folder, &format!("provider-{number}"))?;
    }
    let shop = Shop::serve(folder);
    let values_us = calls::per_call_us(&shop, effort, &format!("/call/provider/{CARTS}"), CARTS, "provider version 0000")?;
    let values = values_us.iter().map(|us| us / 1e3).collect();
    Ok(vec![Figure::plain("fanout_25_ms", "ms", Mark::AtMost(2.0), values)])
}

/// Pricing a cart while a shadow answers the same, against pricing it without.
pub fn shadow(effort: Effort) -> Result<Vec<Figure>> {
    const REQUESTS: usize = 2_000;
    let folder = store();
    install(&folder, "tea-time");
    let shop = Shop::serve(folder);
    let address = address(&shop)?;
    let mut rounds = Vec::new();
    block_on(async {
        let mut client = Client::connect(address).await?;
        let (_, listing) = client.json("GET", "/api/v1/products?limit=1", &Value::Null).await?;
        let (_, product) = client.json("GET", &format!("/api/v1/products/{}", listing["products"][0]["handle"].as_str().unwrap_or_default()), &Value::Null).await?;
        let (_, cart) = client.json("POST", "/api/v1/carts", &Value::Null).await?;
        let cart = format!("/api/v1/carts/{}", cart["id"].as_str().unwrap_or_default());
        client.json("POST", &format!("{cart}/lines"), &json!({ "sku": product["variants"][0]["sku"], "quantity": 1 })).await?;
        client.json("POST", &format!("{cart}/codes"), &json!({ "code": "TEATIME" })).await?;
        for _ in 0..effort.rounds {
            let mut medians = Vec::new();
            for command in [&["plugin", "trial", "tea-time", "--end"][..], &["plugin", "try", "tea-time", "0.1.0"]] {
                // There is none to end in the first round.
                shop.says(command);
                let mut times = Vec::with_capacity(REQUESTS);
                for _ in 0..REQUESTS {
                    let begun = std::time::Instant::now();
                    ensure!(client.get(&cart).await?.status == 200, "{cart}");
                    times.push(begun.elapsed().as_secs_f64() * 1e6);
                }
                medians.push(median(times));
            }
            rounds.push(Round { value: medians[1], baseline: Some(medians[0]) });
        }
        Ok(())
    })?;
    let report: Value = serde_json::from_str(&shop.says(&["plugin", "trial", "tea-time", "--json"]).1)?;
    ensure!(report["calls"].as_u64() > Some(0) && report["different"] == 0, "the shadow was not asked: {report}");
    let remark = format!("a cart priced in {:.0} µs; the shadow answered {} of {}", median(rounds.iter().map(|r| r.value).collect()), report["calls"], REQUESTS);
    Ok(vec![Figure::compared("shadow_overhead_ratio", "µs", Mark::AtMost(1.1), rounds, remark)])
}

/// A discount in JavaScript and one in Python; none where it is not built.
pub fn languages(effort: Effort) -> Result<Vec<Figure>> {
    const CALLS: u32 = 100;
    let mut figures = Vec::new();
    for (name, example, code) in [("js_provider_call_us", "tea-time-js", "TEATIMEJS"), ("py_provider_call_us", "tea-time-py", "TEATIMEPY")] {
        if !root().join("target/examples").join(example).join("plugin.wasm").exists() {
            eprintln!("  {example} is not built");
            continue;
        }
        let (mut warm, mut cold) = (Vec::new(), Vec::new());
        for (values, isolation) in [(&mut warm, ""), (&mut cold, "isolation = \"request\"\n")] {
            let folder = calls::store()?;
            let target = folder.path().join("store/plugins").join(example);
            copy(&root().join("target/examples").join(example), &target);
            let manifest = fs::read_to_string(target.join("plugin.toml"))?;
            fs::write(target.join("plugin.toml"), format!("{isolation}{manifest}"))?;
            // One call after the other, which is more than a stranger's share.
            let settings = folder.path().join("store/souk.toml");
            fs::write(&settings, fs::read_to_string(&settings)? + &format!("\n[plugins.shares]\n{example} = 100\n"))?;
            grant(&folder, example);
            let shop = Shop::serve(folder);
            // On optimised code, as on every day but the first.
            shop.until_optimised(example);
            *values = calls::per_call_us(&shop, effort, &format!("/call/provider/{CALLS}?code={code}"), CALLS, code)?;
        }
        let mut figure = Figure::plain(name, "µs", Mark::Reported, warm);
        figure.remark = format!("{:.0} µs in a fresh instance", median(cold));
        figures.push(figure);
    }
    Ok(figures)
}
