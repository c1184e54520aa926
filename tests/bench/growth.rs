//! What a shop costs as it grows: the same shop with more products, then with
//! more orders. What is asked of one product or order should cost the same in
//! each of them.

mod catalogue;
mod orders;
mod products;
mod template;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use souk_tests::process::{address, folder_bytes, status};
use souk_tests::wire::{Client, block_on, get};
use souk_tests::{Shop, catalogue as shops_catalogue, souk_says, store_without_pages};

use crate::Effort;
use crate::figure::{Figure, Growth, Mark, Round, median};
use crate::load;

pub use catalogue::Catalogue;
pub use products::indexed;

const SMALL: usize = 1_000;
const LARGE: usize = 100_000;
/// Different products asked for.
const READ: usize = 1_000;
/// Of a start, of which the median counts.
const STARTS: usize = 3;

/// The same read in a small and in a large catalogue.
pub fn catalog(effort: Effort) -> Result<Vec<Figure>> {
    let catalogue = Catalogue::read(&shops_catalogue())?;
    let [small, large] = [(); 2].map(|()| Shop::serve(store_without_pages()));
    catalogue.grow(&small, SMALL)?;
    let seconds = catalogue.grow(&large, LARGE)?;
    let (small, large) = (address(&small).map(|a| (a, small))?, address(&large).map(|a| (a, large))?);
    let mut rounds = Vec::new();
    block_on(async {
        for (address, count) in [(small.0, SMALL), (large.0, LARGE)] {
            load::run(address, 1, effort.round / 3, reads(address, &catalogue, count)).await?;
        }
        for _ in 0..effort.rounds {
            let baseline = load::run(small.0, 1, effort.round, reads(small.0, &catalogue, SMALL)).await?.quantile_us(0.5);
            let value = load::run(large.0, 1, effort.round, reads(large.0, &catalogue, LARGE)).await?.quantile_us(0.5);
            rounds.push(Round { value, baseline: Some(baseline) });
        }
        Ok(())
    })?;
    let value = median(rounds.iter().map(|round| round.value).collect());
    let remark = format!("median {value:.0} µs with {LARGE} products, imported in {seconds:.0} s");
    Ok(vec![Figure::compared("catalog_growth", "µs", Mark::AtMost(1.5), rounds, remark)])
}

/// Spread over the whole catalogue.
fn reads(address: SocketAddr, catalogue: &Catalogue, count: usize) -> Vec<Vec<u8>> {
    (0..READ).map(|turn| get(address, &format!("/api/v1/products/{}", catalogue.handle(turn * 7919 % count)))).collect()
}

pub fn products(effort: Effort) -> Result<Vec<Figure>> {
    by_size("products", products::measure, effort)
}

pub fn orders(effort: Effort) -> Result<Vec<Figure>> {
    by_size("orders", orders::measure, effort)
}

fn by_size(of: &'static str, measure: fn(u64, Effort) -> Result<Points>, effort: Effort) -> Result<Vec<Figure>> {
    let mut columns = Vec::new();
    let mut size = effort.smallest;
    while size <= effort.largest {
        eprintln!("  {size} {of}");
        columns.push((size, measure(size, effort)?));
        size *= 10;
    }
    Ok(rows(of, &columns))
}

/// What was found at one size.
#[derive(Default)]
struct Points(Vec<Point>);

struct Point {
    name: &'static str,
    unit: &'static str,
    is_total: bool,
    value: f64,
}

impl Points {
    /// Should be the same at each size.
    fn flat(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.push(Point { name, unit, is_total: false, value });
    }

    /// Should be as much more as the shop is larger.
    fn total(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.push(Point { name, unit, is_total: true, value });
    }

    fn push(&mut self, point: Point) {
        eprintln!("    {:<42} {:>12.3} {}", point.name, point.value, point.unit);
        self.0.push(point);
    }
}

fn rows(of: &'static str, columns: &[(u64, Points)]) -> Vec<Figure> {
    let Some((_, first)) = columns.first() else { return Vec::new() };
    let row = |(place, point): (usize, &Point)| {
        let values = columns.iter().filter_map(|(size, points)| Some((*size, points.0.get(place)?.value))).collect();
        Figure::grown(point.name, point.unit, Growth { of, is_total: point.is_total, values })
    };
    first.0.iter().enumerate().map(row).collect()
}

/// Starts the shop anew, some times; answers with the median of the
/// milliseconds until it answers with a product.
fn restart(mut shop: Shop) -> Result<(Shop, f64)> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        shop.stop();
        let folder = shop.kill();
        let begun = Instant::now();
        shop = Shop::serve(folder);
        let address = address(&shop)?;
        block_on(async {
            let mut client = Client::connect(address).await?;
            let status = client.get("/api/v1/products?limit=1").await?.status;
            ensure!(status == 200, "status {status}");
            Ok(())
        })?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok((shop, median(times)))
}

/// Copies the store while it is served and makes another one of the copy.
fn copies(shop: &Shop, points: &mut Points) -> Result<()> {
    let beside = |name: &str| -> PathBuf { shop.folder().with_file_name(name) };
    let (backup, restored) = (beside("backup"), beside("restored"));
    let begun = Instant::now();
    told(shop.says(&["store", "backup", &backup.display().to_string()]))?;
    points.total("backup", "s", begun.elapsed().as_secs_f64());
    points.total("backup, its documents", "MB", folder_bytes(&backup.join("data/documents")) as f64 / 1e6);
    let begun = Instant::now();
    told(souk_says(&["store", "restore", &backup.display().to_string(), "--store", &restored.display().to_string()]))?;
    points.total("restore", "s", begun.elapsed().as_secs_f64());
    for folder in [backup, restored] {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// In MB: what the process has for itself, and what it maps of files, the search index above all, which the system takes
/// back when it needs the room.
fn memory(points: &mut Points, names: [&'static str; 2], shop: &Shop) -> Result<()> {
    for (name, of) in names.into_iter().zip(["RssAnon", "RssFile"]) {
        points.flat(name, "MB", status(shop.pid(), of)? as f64 * 1024.0 / 1e6);
    }
    Ok(())
}

fn told((done, said): (bool, String)) -> Result<String> {
    ensure!(done, "{said:.1000}");
    Ok(said)
}

fn documents(shop: &Shop) -> u64 {
    part(shop, "data/documents")
}

fn part(shop: &Shop, path: &str) -> u64 {
    folder_bytes(&shop.folder().join(Path::new(path)))
}

/// Median and 99th of a hundred, in µs, of requests that take turns on one connection.
fn latency(points: &mut Points, names: [&'static str; 2], address: SocketAddr, effort: Effort, requests: Vec<Vec<u8>>) -> Result<()> {
    let sample = block_on(async {
        load::run(address, 1, effort.round / 3, requests.clone()).await?;
        load::run(address, 1, effort.round, requests).await
    })?;
    points.flat(names[0], "µs", sample.quantile_us(0.5));
    points.flat(names[1], "µs", sample.quantile_us(0.99));
    Ok(())
}

fn quantile(mut values: Vec<f64>, quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() as f64 * quantile) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
