//! What each order more costs the shop. Three are placed; the rest is made of
//! them and imported as plugins' data: see [`template`](super::template).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use souk_tests::Shop;
use souk_tests::api::INSTANT;
use souk_tests::buying::{await_placed, filled_cart, ok, stock, wares};
use souk_tests::process::address;
use souk_tests::wire::{Client, block_on, get};

use super::template::{self, Middle, Snapshot, Template};
use super::{Points, copies, documents, latency, memory, quantile, restart, told};
use crate::Effort;
use crate::figure::median;

const TEMPLATES: usize = 3;
const PLACED: usize = 50;
const COMMANDS: usize = 21;
/// More than are ever sold.
const PLENTY: u64 = 100_000_000;

pub fn measure(size: u64, effort: Effort) -> Result<Points> {
    let mut points = Points::default();
    let shop = Shop::open();
    let (templates, now, skus) = sample(&shop)?;
    eprintln!("    of an order: {}", templates.first().context("no template")?.describe());
    let (shop, middle) = fill(shop, &templates, &now, size, &mut points)?;
    let (mut shop, start_ms) = restart(shop)?;
    points.flat("start until a product is shown", "ms", start_ms);
    memory(&mut points, ["memory after a start", "of files, after a start"], &shop)?;
    check(&mut shop, &middle, size, &mut points)?;
    let address = address(&shop)?;
    let times = block_on(place(address, &skus, PLACED))?;
    points.flat("one more order placed", "ms", quantile(times, 0.5));
    let shown = middle.tokens().iter().map(|token| get(address, &format!("/api/v1/orders/{token}"))).collect();
    latency(&mut points, ["an order as JSON", "an order as JSON, p99"], address, effort, shown)?;
    points.flat("list-orders, the newest 50", "ms", list(&shop, &[])?);
    points.flat("list-orders, 50 from the middle", "ms", list(&shop, &[&format!("after={}", middle.number)])?);
    memory(&mut points, ["memory after these requests", "of files, after these requests"], &shop)?;
    copies(&shop, &mut points)?;
    Ok(points)
}

/// Places some orders, and sees what each leaves.
fn sample(shop: &Shop) -> Result<(Vec<Template>, Snapshot, Vec<String>)> {
    let address = address(shop)?;
    let skus: Vec<String> = block_on(wares(address))?.into_iter().map(|(_, sku)| sku).take(TEMPLATES).collect();
    ensure!(skus.len() == TEMPLATES, "too few products can be sent");
    stock(shop, &skus.iter().map(|sku| json!({ "sku": sku, "quantity": PLENTY })).collect::<Vec<_>>())?;
    let mut before = exports(shop)?;
    let mut templates = Vec::new();
    for sku in &skus {
        block_on(place(address, std::slice::from_ref(sku), 1))?;
        let after = exports(shop)?;
        templates.push(Template::between(&before, &after)?);
        before = after;
    }
    Ok((templates, before, skus))
}

fn exports(shop: &Shop) -> Result<Snapshot> {
    let folder = tempfile::tempdir()?;
    for plugin in fs::read_dir(shop.folder().join("plugins"))? {
        let plugin = plugin?.file_name().to_string_lossy().into_owned();
        if !plugin.starts_with('.') {
            told(shop.says(&["plugin", "data", "export", &plugin, &folder.path().join(&plugin).display().to_string()]))?;
        }
    }
    Snapshot::read(folder.path())
}

/// Imports so many orders into the shop, which is closed meanwhile.
fn fill(mut shop: Shop, templates: &[Template], now: &Snapshot, size: u64, points: &mut Points) -> Result<(Shop, Middle)> {
    let files = tempfile::tempdir()?;
    let (plugins, middle) = template::write(templates, now, size, files.path())?;
    // As after every start.
    (shop, _) = restart(shop)?;
    let before = documents(&shop);
    shop.stop();
    // Data goes into a store where its plugin is not live.
    let away = Away::new(shop.folder().join("plugins"))?;
    let mut seconds = 0.0;
    for plugin in &plugins {
        told(shop.says(&["plugin", "data", "delete", "--yes", plugin]))?;
        let begun = Instant::now();
        told(shop.says(&["plugin", "data", "import", plugin, &path(&files.path().join(plugin))]))?;
        seconds += begun.elapsed().as_secs_f64();
    }
    drop(away);
    points.flat("import of 1,000 as plugins' data", "s", seconds * 1e3 / size as f64);
    let shop = Shop::serve(shop.kill());
    let added = documents(&shop).saturating_sub(before);
    points.flat("documents on disk, each", "bytes", added as f64 / size as f64);
    Ok((shop, middle))
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// A folder that is empty until this is dropped.
struct Away {
    folder: PathBuf,
    aside: PathBuf,
}

impl Away {
    fn new(folder: PathBuf) -> Result<Self> {
        let aside = folder.with_file_name("plugins-aside");
        fs::rename(&folder, &aside)?;
        fs::create_dir(&folder)?;
        Ok(Self { folder, aside })
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        // What the host kept there while there were none is of no use.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::rename(&self.aside, &self.folder);
    }
}

/// The shop takes the generated orders for its own.
fn check(shop: &mut Shop, middle: &Middle, size: u64, points: &mut Points) -> Result<()> {
    let begun = Instant::now();
    told(shop.says(&["store", "verify"]))?;
    points.total("souk store verify", "s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let verified = shop.run("verify-stock", &[]);
    points.total("verify-stock", "s", begun.elapsed().as_secs_f64());
    ensure!(verified["differences"] == json!([]) && verified["holds"] == size + TEMPLATES as u64, "{verified:.1000}");
    let address = address(shop)?;
    let token = &middle.tokens()[0];
    let order = block_on(async { ok(&mut Client::connect(address).await?, "GET", &format!("/orders/{token}"), Value::Null).await })?;
    ensure!(order["status"] == "placed" && order["token"] == token.as_str(), "{order}");
    Ok(())
}

/// Places orders one after the other; how many ms each took to be accepted.
async fn place(address: SocketAddr, skus: &[String], count: usize) -> Result<Vec<f64>> {
    let mut client = Client::connect(address).await?;
    let mut times = Vec::new();
    for sku in skus.iter().cycle().take(count) {
        let cart = filled_cart(&mut client, sku, true).await?;
        let begun = Instant::now();
        let order = ok(&mut client, "POST", &format!("{cart}/order"), json!({ "payment_method": INSTANT })).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        await_placed(&mut client, &order).await?;
    }
    // The last effects may still be noted.
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(times)
}

/// How many ms the command takes, of which the process that asks takes most.
fn list(shop: &Shop, from: &[&str]) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..COMMANDS {
        let begun = Instant::now();
        let orders = shop.run("list-orders", &[from, &["limit=50"]].concat());
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(orders.as_array().map(Vec::len) == Some(50), "{orders:.300}");
    }
    Ok(median(times))
}
