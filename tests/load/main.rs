//! `cargo xtask load`: the built shop under a load that does not wait for it.
//!
//! Visits begin at moments drawn beforehand (a Poisson process with a seed),
//! whatever the answers do, and their time counts from these moments: what
//! stands in a line, at the shop or here for a connection, shows.

mod drive;
mod knee;
mod mix;
mod report;
mod server;
mod soak;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::Value;
use souk_tests::wire::block_on;

use drive::Load;
use mix::{Mix, Visits};
use report::Report;
use server::Server;

#[derive(Parser)]
#[command(name = "souk-load", about = "Loads the built shop, or one that is served elsewhere")]
pub struct Arguments {
    /// What visitors do; all four unless given.
    #[arg(value_enum)]
    mixes: Vec<Mix>,
    /// Visits that begin in a second, on the average.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// For which visits begin.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// The same seed draws the same moments and visits.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kept alive and opened as needed; further visits wait for one.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Of `flash`: all at once, for one article.
    #[arg(long, default_value_t = 2_000)]
    shoppers: usize,
    /// Of the article that `flash` wants.
    #[arg(long, default_value_t = 500)]
    stock: u32,
    /// A shop to load instead of one on a store of its own, for instance
    /// 127.0.0.1:8080. Then there are no figures of its process.
    #[arg(long)]
    url: Option<String>,
    /// Where the reports go besides the tables.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Raise the rate, beginning with --rate, until p99 passes the limit or requests fail.
    #[arg(long)]
    find_knee: bool,
    #[arg(long, default_value_t = 100.0)]
    p99_limit_ms: f64,
    /// Load with so many times the knee, then with half of the knee.
    #[arg(long, value_name = "TIMES")]
    overload: Option<f64>,
    /// Load with half of the knee for so many minutes and see what grows.
    #[arg(long, value_name = "MINUTES")]
    soak: Option<f64>,
    /// The knee, where it is known.
    #[arg(long, value_name = "RATE")]
    knee: Option<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for (name, value) in [("--rate", arguments.rate), ("--seconds", arguments.seconds), ("--p99-limit-ms", arguments.p99_limit_ms)] {
        ensure!(value > 0.0 && value <= 1e6, "{name} is {value}: give more than 0, and no more than 1000000");
    }
    ensure!(arguments.connections > 0 && arguments.shoppers > 0, "--connections and --shoppers: give at least 1");
    let mixes = if arguments.mixes.is_empty() { Mix::ALL.to_vec() } else { arguments.mixes.clone() };
    let mut all = serde_json::Map::new();
    for mix in mixes {
        eprintln!("· {}", mix.name());
        all.insert(mix.name().into(), block_on(measure(&arguments, mix)).with_context(|| mix.name())?);
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&all)? + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Caches fill and code is read in before anything counts.
const WARM_UP: Duration = Duration::from_secs(3);
const WARM_UP_RATE: f64 = 50.0;

async fn measure(arguments: &Arguments, mix: Mix) -> Result<Value> {
    let server = Server::of(arguments.url.as_deref())?;
    let visits = Visits::prepare(&server, mix, arguments).await?;
    let mut load = Load::new(&server, visits, arguments);
    if mix == Mix::Flash {
        ensure!(!arguments.find_knee && arguments.overload.is_none() && arguments.soak.is_none(), "flash has no rate: leave it out");
        let report = Report::flash(load.run_at_once(arguments.shoppers).await?);
        report.print_table();
        return Ok(report.to_json());
    }
    load.run(WARM_UP_RATE, WARM_UP).await?;
    let knee = match arguments.knee {
        Some(rate) => Some(rate),
        None if arguments.find_knee || arguments.overload.is_some() || arguments.soak.is_some() => {
            Some(knee::find(&mut load, arguments.rate, arguments.p99_limit_ms).await?)
        }
        None => None,
    };
    let Some(knee) = knee else {
        let report = Report::of(load.run(arguments.rate, Duration::from_secs_f64(arguments.seconds)).await?);
        report.print_table();
        return Ok(report.to_json());
    };
    let mut found = serde_json::Map::from_iter([("knee_per_s".to_owned(), knee.into())]);
    if let Some(times) = arguments.overload {
        found.insert("overload".into(), knee::overload(&mut load, knee, times, Duration::from_secs_f64(arguments.seconds)).await?);
    }
    if let Some(minutes) = arguments.soak {
        found.insert("soak".into(), soak::soak(&mut load, &server, knee / 2.0, Duration::from_secs_f64(minutes * 60.0)).await?);
    }
    Ok(found.into())
}
