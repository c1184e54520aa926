//! What each product more costs the shop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use souk_tests::buying::{ok, stock};
use souk_tests::process::address;
use souk_tests::wire::{Client, block_on, get};
use souk_tests::{Shop, catalogue, store_without_pages};

use super::catalogue::{Catalogue, LOT};
use super::{Points, copies, documents, latency, memory, part, quantile, reads, restart};
use crate::Effort;

/// Lines put into as many carts.
const LINES: usize = 500;
const SEARCHES: usize = 500;
/// Waited for, at most.
const INDEXED_S: u64 = 1_800;

pub fn measure(size: u64, effort: Effort) -> Result<Points> {
    let count = size as usize;
    let mut points = Points::default();
    let catalogue = Catalogue::read(&catalogue())?;
    let mut shop = Shop::serve(store_without_pages());
    let before = (documents(&shop), part(&shop, "data/search"));
    let seconds = catalogue.grow(&shop, count)?;
    points.flat("import of 1,000", "s", seconds * 1e3 / size as f64);
    points.flat("until 1,000 more are found by a search", "s", indexed(address(&shop)?, count)? * 1e3 / size as f64);
    memory(&mut points, ["memory after the import", "of files, after the import"], &shop)?;
    let start_ms;
    (shop, start_ms) = restart(shop)?;
    memory(&mut points, ["memory after a start", "of files, after a start"], &shop)?;
    points.flat("documents on disk, each", "bytes", documents(&shop).saturating_sub(before.0) as f64 / size as f64);
    points.flat("search index on disk, each", "bytes", part(&shop, "data/search").saturating_sub(before.1) as f64 / size as f64);
    points.flat("start until a product is shown", "ms", start_ms);
    read(&shop, &catalogue, count, effort, &mut points)?;
    memory(&mut points, ["memory after these requests", "of files, after these requests"], &shop)?;
    copies(&shop, &mut points)?;
    Ok(points)
}

/// Seconds from now until a search finds what came last.
pub fn indexed(address: SocketAddr, count: usize) -> Result<f64> {
    let begun = Instant::now();
    block_on(async {
        let mut client = Client::connect(address).await?;
        let path = format!("/search?q={}&limit=1", Catalogue::lot(count - 1));
        while ok(&mut client, "GET", &path, Value::Null).await?["total"] != LOT {
            ensure!(begun.elapsed() < Duration::from_secs(INDEXED_S), "{path} does not find {LOT}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

fn read(shop: &Shop, catalogue: &Catalogue, count: usize, effort: Effort, points: &mut Points) -> Result<()> {
    let address = address(shop)?;
    let ask = |path: String| get(address, &path);
    latency(points, ["a product as JSON", "a product as JSON, p99"], address, effort, reads(address, catalogue, count))?;
    let categories = catalogue.categories();
    let listings = categories.iter().map(|category| ask(format!("/api/v1/products?category={category}&limit=24"))).collect();
    latency(points, ["a category as JSON, 24 products", "a category as JSON, 24 products, p99"], address, effort, listings)?;
    let pages = categories.iter().map(|category| ask(format!("/en/c/{category}"))).collect();
    latency(points, ["a category's page", "a category's page, p99"], address, effort, pages)?;
    let lots = (0..SEARCHES).map(|turn| ask(format!("/api/v1/search?q={}&limit=20", Catalogue::lot(turn * 7919 % count)))).collect();
    latency(points, ["a search that finds 20", "a search that finds 20, p99"], address, effort, lots)?;
    let words = ["tea", "cotton", "glass"].iter().map(|word| ask(format!("/api/v1/search?q={word}&limit=20"))).collect();
    latency(points, ["20 of a search that finds a hundredth", "20 of a search that finds a hundredth, p99"], address, effort, words)?;
    let skus: Vec<String> = (0..LINES).map(|turn| catalogue.sku(turn * 7919 % count)).collect();
    stock(shop, &skus.iter().map(|sku| json!({ "sku": sku, "quantity": 100 })).collect::<Vec<_>>())?;
    let lines = block_on(lines(address, &skus))?;
    points.flat("a cart line added", "µs", quantile(lines.clone(), 0.5));
    points.flat("a cart line added, p99", "µs", quantile(lines, 0.99));
    Ok(())
}

/// How many µs it takes to put the first line into each of many carts.
async fn lines(address: SocketAddr, skus: &[String]) -> Result<Vec<f64>> {
    let mut client = Client::connect(address).await?;
    let mut times = Vec::new();
    for sku in skus {
        let cart = ok(&mut client, "POST", "/carts", Value::Null).await?;
        let path = format!("/carts/{}/lines", cart["id"].as_str().unwrap_or_default());
        let begun = Instant::now();
        ok(&mut client, "POST", &path, json!({ "sku": sku, "quantity": 1 })).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}
