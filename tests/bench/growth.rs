//! The same read in a small and in a large catalogue.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use souk_tests::process::address;
use souk_tests::wire::{block_on, get};
use souk_tests::{Shop, catalogue};

use crate::Effort;
use crate::figure::{Figure, Mark, Round, median};
use crate::load;

const SMALL: usize = 1_000;
const LARGE: usize = 100_000;
/// Products in one import, which is one unit of work.
const IMPORT: usize = 2_000;
/// Different products asked for.
const READ: usize = 1_000;

pub fn growth(effort: Effort) -> Result<Vec<Figure>> {
    let originals = originals(&catalogue())?;
    let (small, _) = grown(&originals, SMALL)?;
    let (large, seconds) = grown(&originals, LARGE)?;
    let (small, large) = (address(&small).map(|a| (a, small))?, address(&large).map(|a| (a, large))?);
    let mut rounds = Vec::new();
    block_on(async {
        for (address, count) in [(small.0, SMALL), (large.0, LARGE)] {
            load::run(address, 1, effort.round / 3, reads(address, &originals, count)).await?;
        }
        for _ in 0..effort.rounds {
            let baseline = load::run(small.0, 1, effort.round, reads(small.0, &originals, SMALL)).await?.quantile_us(0.5);
            let value = load::run(large.0, 1, effort.round, reads(large.0, &originals, LARGE)).await?.quantile_us(0.5);
            rounds.push(Round { value, baseline: Some(baseline) });
        }
        Ok(())
    })?;
    let value = median(rounds.iter().map(|round| round.value).collect());
    let remark = format!("median {value:.0} µs with {LARGE} products, imported in {seconds:.0} s");
    Ok(vec![Figure { name: "catalog_growth", unit: "µs", mark: Mark::AtMost(1.5), rounds, remark }])
}

fn originals(catalogue: &Path) -> Result<Vec<Value>> {
    let mut products = Vec::new();
    for file in fs::read_dir(catalogue.join("products"))? {
        let file = file?.path();
        let list: Vec<Value> = serde_json::from_slice(&fs::read(&file)?).with_context(|| file.display().to_string())?;
        products.extend(list);
    }
    Ok(products)
}

fn handle(originals: &[Value], number: usize) -> String {
    format!("{}-{number}", originals[number % originals.len()]["handle"].as_str().unwrap_or_default())
}

/// A copy of one of the products that is one of its own.
fn copy(originals: &[Value], number: usize) -> Value {
    let mut product = originals[number % originals.len()].clone();
    product["handle"] = handle(originals, number).into();
    for variant in product["variants"].as_array_mut().into_iter().flatten() {
        variant["sku"] = format!("{}-{number}", variant["sku"].as_str().unwrap_or_default()).into();
        if let Some(barcode) = variant.get_mut("barcode") {
            *barcode = Value::Null;
        }
    }
    product
}

/// A shop with so many products more, and how long the import took.
fn grown(originals: &[Value], count: usize) -> Result<(Shop, f64)> {
    let shop = Shop::open();
    let begun = std::time::Instant::now();
    let file = tempfile::NamedTempFile::with_suffix(".json")?;
    for from in (0..count).step_by(IMPORT) {
        let products: Vec<Value> = (from..count.min(from + IMPORT)).map(|number| copy(originals, number)).collect();
        fs::write(file.path(), serde_json::to_vec(&json!({ "products": products }))?)?;
        let output = shop.souk(&["store", "import", &file.path().display().to_string()]);
        let told = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && told.contains("\"applied\": true"), "{told:.300}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok((shop, begun.elapsed().as_secs_f64()))
}

/// Spread over the whole catalogue.
fn reads(address: SocketAddr, originals: &[Value], count: usize) -> Vec<Vec<u8>> {
    (0..READ).map(|turn| get(address, &format!("/api/v1/products/{}", handle(originals, turn * 7919 % count)))).collect()
}
