//! `cargo xtask bench`: how fast the built shop is, from outside, over HTTP.
//!
//! Each figure is a function in one of the modules. Ratios are taken in one run:
//! rounds of both sides take turns, so that a busy machine is busy for both.

mod bare;
mod calls;
mod figure;
mod growth;
mod load;
mod orders;
mod process;
mod reads;
mod reload;
mod storage;
mod strangers;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;

use figure::Figure;

// As the shop has, so that the bare server is no easier to reach.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "souk-bench", about = "Measures the built shop")]
struct Arguments {
    /// Figures to take; the quick ones unless given.
    names: Vec<String>,
    /// The slow ones too.
    #[arg(long)]
    all: bool,
    /// For one round of requests.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of `growth_products` and `growth_orders`: each size is ten times the one before.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    smallest: u64,
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    largest: u64,
    /// Where the figures go besides the table.
    #[arg(long, default_value = "target/bench/summary.json")]
    json: PathBuf,
    /// Serve a recorded answer: `<status line, headers, empty line, body>`.
    #[arg(long, hide = true)]
    bare: Option<PathBuf>,
}

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    pub round: Duration,
    /// How many products and orders a shop has that is measured as it grows.
    pub smallest: u64,
    pub largest: u64,
}

type Measure = fn(Effort) -> Result<Vec<Figure>>;

/// Figures that are taken together; slow ones only when they are asked for.
const GROUPS: [(&[&str], bool, Measure); 23] = [
    (&["api_product_vs_hyper"], false, reads::api_product),
    (&["cached_page_vs_hyper", "cached_json_vs_hyper"], false, reads::cached_page),
    (&["page_product_p99_ms"], false, reads::page_product),
    (&["search_cpu_ms"], false, reads::search),
    (&["stale_stock_s"], false, reads::stale_stock),
    (&["call_overhead_us", "isolated_call_us"], false, calls::calls),
    (&["orders_per_s"], false, orders::orders),
    (&["hot_sku_attempts_per_s"], false, orders::hot_sku),
    (&["reload_ms"], false, reload::graph),
    (&["reload_provider_ms"], false, reload::provider),
    (&["start_ms"], false, process::start),
    (&["rss_mb"], false, process::memory),
    (&["hostile_neighbour_p99_ratio"], false, strangers::hostile_neighbour),
    (&["hostile_share_p99_ratio"], false, strangers::hostile_share),
    (&["grant_check_us"], false, strangers::capability),
    (&["fanout_25_ms"], false, strangers::fanout),
    (&["shadow_overhead_ratio"], false, strangers::shadow),
    (&["relink_20_plugins_ms"], false, reload::twenty),
    (&["js_provider_call_us", "py_provider_call_us"], false, strangers::languages),
    (&["catalog_growth"], true, growth::catalog),
    (&["growth_products"], true, growth::products),
    (&["growth_orders"], true, growth::orders),
    (&["storage"], true, storage::storage),
];

/// A figure that fails or panics leaves the others standing. A panic has printed its message and place by itself.
fn attempt(measure: Measure, effort: Effort) -> Result<Vec<Figure>, String> {
    match std::panic::catch_unwind(|| measure(effort)) {
        Ok(measured) => measured.map_err(|error| format!("{error:?}")),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("it panicked: {}", message.unwrap_or("see above")))
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(answer) = arguments.bare {
        return bare::serve(&answer);
    }
    let known: Vec<&str> = GROUPS.iter().flat_map(|(names, ..)| *names).copied().collect();
    for name in &arguments.names {
        ensure!(known.contains(&name.as_str()), "no figure `{name}`; there are: {}", known.join(", "));
    }
    let round = Duration::from_secs_f64(arguments.seconds.clamp(0.1, 600.0));
    let effort = Effort { rounds: arguments.rounds.max(1), round, smallest: arguments.smallest, largest: arguments.largest };
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for (names, slow, measure) in GROUPS {
        let named = names.iter().any(|name| arguments.names.iter().any(|wanted| wanted == name));
        if named || arguments.all || (arguments.names.is_empty() && !slow) {
            eprintln!("· {}", names.join(", "));
            match attempt(measure, effort) {
                Ok(found) => figures.extend(found),
                Err(reason) => {
                    eprintln!("  not measured: {reason}");
                    failed.push(format!("{}: {reason}", names.join(", ")));
                }
            }
            // As they come: whatever ends the run later takes none of them away.
            figure::write(&figures, &arguments.json)?;
        }
    }
    figure::print(&figures);
    ensure!(failed.is_empty(), "not measured:\n{}", failed.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_panics_is_told_and_no_more() {
        let effort = Effort { rounds: 1, round: Duration::ZERO, smallest: 1, largest: 1 };
        let reason = attempt(|_| panic!("no {}", "example"), effort).err();
        assert_eq!(reason.as_deref(), Some("it panicked: no example"));
        assert_eq!(attempt(|_| Ok(Vec::new()), effort).map(|figures| figures.len()), Ok(0));
    }
}
