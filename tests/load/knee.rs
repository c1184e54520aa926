//! How much the shop takes, and what it does when more comes.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::drive::Load;
use crate::report::Report;

const STEP: Duration = Duration::from_secs(5);
const STEP_FACTOR: f64 = 1.25;
/// A rate is tried again when it failed once: other work on the machine passes.
const TRIES: usize = 2;

/// The last rate at which everyone is served in time.
pub async fn find(load: &mut Load<'_>, from: f64, p99_limit_ms: f64) -> Result<f64> {
    let (mut rate, mut knee) = (from, None);
    'steps: loop {
        for _ in 0..TRIES {
            let report = Report::of(load.run(rate, STEP).await?);
            let p99 = report.p99_ms();
            let good = report.is_clean() && p99 <= p99_limit_ms;
            let late = if report.is_late() { ", this machine is busy" } else { "" };
            println!("  {rate:>8.0}/s  p99 {p99:>7.1} ms  {}{late}", if good { "good" } else { "too much" });
            if good {
                knee = Some(rate);
                rate *= STEP_FACTOR;
                continue 'steps;
            }
        }
        break;
    }
    ensure!(knee.is_some(), "{from}/s is too much already: give a lower --rate to begin with");
    let knee = knee.unwrap_or(from);
    println!("  knee           {knee:.0}/s");
    Ok(knee)
}

/// The admitted may be so much slower than at the knee.
const SLOWER_MAX: f64 = 4.0;
/// Seconds of calm after which everyone is served as before.
const CALM: Duration = Duration::from_secs(10);

/// At the knee, far beyond it, and at half of it.
pub async fn overload(load: &mut Load<'_>, knee: f64, times: f64, time: Duration) -> Result<Value> {
    let mut phase = async |name: &str, rate: f64, time: Duration| {
        println!(" {name}:");
        let report = Report::of(load.run(rate, time).await?);
        report.print_table();
        anyhow::Ok(report)
    };
    let at_knee = phase("at the knee", knee, time).await?;
    let over = phase(&format!("at {times} times the knee"), knee * times, time).await?;
    let after = phase("at half of the knee, at once after that", knee / 2.0, CALM).await?;
    let slower = over.p99_ms() / at_knee.p99_ms();
    let tally = &over.run().tally;
    let seconds = after.run().tally.p99_ms_by_second();
    // The first second from which on it stays as good as at the knee.
    let recovered_after_s = seconds.iter().rposition(|p99| *p99 > at_knee.p99_ms()).map_or(0, |second| second + 1);
    let shed_well = tally.unavailable > 0 && tally.without_retry_after == 0 && tally.failures() == 0;
    println!("  p99 by second of calm: {}", seconds.iter().map(|p99| format!("{p99:.0}")).collect::<Vec<_>>().join(" "));
    println!(
        "  sent away well {}; admitted p99 {slower:.1} times that at the knee ({}); as good as at the knee after {recovered_after_s} s",
        if shed_well { "yes" } else { "NO" },
        if slower <= SLOWER_MAX { "good" } else { "TOO SLOW" },
    );
    Ok(json!({
        "at_knee": at_knee.to_json(),
        "overload": over.to_json(),
        "calm": after.to_json(),
        "calm_p99_ms_by_second": seconds,
        "shed_well": shed_well,
        "admitted_p99_ratio": slower,
        "recovered_after_s": recovered_after_s,
    }))
}
