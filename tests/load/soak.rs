//! What grows in a shop that is busy for long.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use souk_tests::Shop;
use souk_tests::process::{folder_bytes, guests_kib, open_files, status};

use crate::drive::Load;
use crate::report::Report;
use crate::server::Server;

const SAMPLE: Duration = Duration::from_secs(10);
/// Fewer make no line.
const SAMPLES_MIN: u32 = 6;
/// Tables, caches and pools fill at first, for 20 minutes at 150 purchases a second: this part of the samples is not judged.
const FILLING: f64 = 2.0 / 3.0;

/// What is looked at, and growth an hour that is nothing, as a part of the mean. Orders stay, so that the disk is judged by
/// what each visit adds to it.
const SERIES: [(&str, f64); 7] =
    [("resident_kib", 0.05), ("anonymous_kib", 0.05), ("guests_kib", 0.05), ("open_files", 0.05), ("threads", 0.05), ("disk_per_visit", 0.05), ("p99_ms", 0.2)];

pub async fn soak(load: &mut Load<'_>, server: &Server, rate: f64, time: Duration) -> Result<Value> {
    let shop = server.shop.as_ref().context("--soak looks into the process of the server: leave --url out")?;
    ensure!(
        time >= SAMPLE * SAMPLES_MIN,
        "--soak takes at least {:.1} minutes: a sample is taken every {} s",
        SAMPLE.as_secs_f64() * f64::from(SAMPLES_MIN) / 60.0,
        SAMPLE.as_secs()
    );
    let (begun, disk_before, mut visits) = (Instant::now(), folder_bytes(&shop.folder()) as f64, 0);
    let (mut hours, mut samples): (Vec<f64>, [Vec<f64>; SERIES.len()]) = (Vec::new(), Default::default());
    while begun.elapsed() < time {
        let report = Report::of(load.run(rate, SAMPLE).await?);
        hours.push(begun.elapsed().as_secs_f64() / 3600.0);
        visits += report.run().visits;
        let disk_per_visit = (folder_bytes(&shop.folder()) as f64 - disk_before) / visits.max(1) as f64;
        for (series, value) in samples.iter_mut().zip(look(shop, disk_per_visit, &report)?) {
            series.push(value);
        }
    }
    let skipped = (hours.len() as f64 * FILLING) as usize;
    println!("  {:<13} {:>12} {:>12} {:>14} {:>12}", "", "first", "last", "growth an hour", "uncertainty");
    let mut found = Map::new();
    for ((name, nothing), values) in SERIES.iter().zip(&samples) {
        let line = fit(&hours[skipped..], &values[skipped..]);
        // Not told apart from nothing, or too little to matter, or less and less.
        let flat = line.slope <= 2.0 * line.slope_error || line.slope <= nothing * line.mean;
        println!(
            "  {name:<13} {:>12.1} {:>12.1} {:>+14.1} {:>12.1}  {}",
            values[skipped],
            values[values.len() - 1],
            line.slope,
            line.slope_error,
            if flat { "flat" } else { "GROWS" }
        );
        found.insert((*name).into(), json!({ "samples": values, "per_hour": line.slope, "per_hour_error": line.slope_error, "flat": flat }));
    }
    found.insert("rate".into(), rate.into());
    found.insert("visits".into(), visits.into());
    Ok(found.into())
}

/// In the order of [`SERIES`].
fn look(shop: &Shop, disk_per_visit: f64, report: &Report) -> Result<[f64; SERIES.len()]> {
    let pid = shop.pid();
    Ok([
        status(pid, "VmRSS")? as f64,
        // Without what is read from files, which the system takes back where it needs the room.
        status(pid, "RssAnon")? as f64,
        guests_kib(pid)? as f64,
        open_files(pid)? as f64,
        status(pid, "Threads")? as f64,
        disk_per_visit,
        report.p99_ms(),
    ])
}

struct Line {
    mean: f64,
    slope: f64,
    /// Standard error of the slope.
    slope_error: f64,
}

/// Least squares.
fn fit(xs: &[f64], ys: &[f64]) -> Line {
    let count = xs.len() as f64;
    let (x_mean, mean) = (xs.iter().sum::<f64>() / count, ys.iter().sum::<f64>() / count);
    let spread: f64 = xs.iter().map(|x| (x - x_mean).powi(2)).sum();
    let slope = xs.iter().zip(ys).map(|(x, y)| (x - x_mean) * (y - mean)).sum::<f64>() / spread;
    let rest: f64 = xs.iter().zip(ys).map(|(x, y)| (y - mean - slope * (x - x_mean)).powi(2)).sum();
    Line { mean, slope, slope_error: (rest / (count - 2.0) / spread).sqrt() }
}
