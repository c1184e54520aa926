//! A run as a table for people and as JSON.

use serde_json::{Value, json};

use crate::drive::{Run, ms};

pub struct Report {
    run: Run,
    /// None where all came at once.
    offered_per_s: Option<f64>,
}

impl Report {
    pub fn of(run: Run) -> Self {
        let offered_per_s = Some(run.visits as f64 / run.offered_for.as_secs_f64());
        Self { run, offered_per_s }
    }

    pub fn flash(run: Run) -> Self {
        Self { run, offered_per_s: None }
    }

    pub fn achieved_per_s(&self) -> f64 {
        self.run.visits as f64 / self.run.took.as_secs_f64()
    }

    pub fn p99_ms(&self) -> f64 {
        ms(&self.run.tally.admitted, 0.99)
    }

    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Whether all were served.
    pub fn is_clean(&self) -> bool {
        self.run.tally.failures() == 0 && self.run.tally.unavailable == 0
    }

    /// Whether the load was as it should be: this programme shares the machine.
    pub fn is_late(&self) -> bool {
        ms(&self.run.tally.late, 0.99) > LATE_MS_MAX
    }

    pub fn print_table(&self) {
        let tally = &self.run.tally;
        let quantiles = |histogram: &hdrhistogram::Histogram<u64>| {
            format!(
                "p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, max {:.1} ms",
                ms(histogram, 0.5),
                ms(histogram, 0.99),
                ms(histogram, 0.999),
                ms(histogram, 1.0)
            )
        };
        let line = |name: &str, text: String| println!("  {name:<14} {text}");
        let offered = self.offered_per_s.map_or("all at once".into(), |rate| format!("{rate:.0}/s offered"));
        let requests_per_s = tally.answers() as f64 / self.run.took.as_secs_f64();
        line("visits", format!("{}, {offered}, {:.0}/s achieved, {requests_per_s:.0} answers/s", self.run.visits, self.achieved_per_s()));
        line("admitted", quantiles(&tally.admitted));
        if tally.unavailable > 0 {
            line("sent away", format!("{}; {} without Retry-After", quantiles(&tally.shed), tally.without_retry_after));
        }
        line(
            "answers",
            format!(
                "{} good, {} 4xx, {} 503, {} others, {} connection errors",
                tally.ok, tally.refused, tally.unavailable, tally.others, tally.connection_errors
            ),
        );
        if tally.orders > 0 {
            line("orders", format!("{}, {:.0}/s", tally.orders, tally.orders as f64 / self.run.took.as_secs_f64()));
        }
        if let (Some(before), Some(after)) = (self.run.before, self.run.after) {
            let syncs = self.syncs_per_order().map_or(String::new(), |syncs| format!(", {syncs:.2} syncs an order"));
            line("server", format!("{:.2} ms processor time an answer{syncs}", self.cpu_ms_per_answer().unwrap_or(0.0)));
            let mib = |kib: u64| kib / 1024;
            line("memory", format!("{} MiB before, {} after, {} at most", mib(before.resident_kib), mib(after.resident_kib), mib(after.peak_kib)));
        }
        if self.is_late() {
            line("NOTE", format!("visits began up to {:.0} ms late (p99): this machine is too busy for more", ms(&tally.late, 0.99)));
        }
    }

    fn cpu_ms_per_answer(&self) -> Option<f64> {
        let used = self.run.after?.cpu - self.run.before?.cpu;
        Some(used.as_secs_f64() * 1e3 / self.run.tally.answers().max(1) as f64)
    }

    fn syncs_per_order(&self) -> Option<f64> {
        let syncs = self.run.after?.syncs - self.run.before?.syncs;
        (self.run.tally.orders > 0).then(|| syncs / self.run.tally.orders as f64)
    }

    pub fn to_json(&self) -> Value {
        let tally = &self.run.tally;
        let quantiles = |histogram: &hdrhistogram::Histogram<u64>| json!({ "p50": ms(histogram, 0.5), "p99": ms(histogram, 0.99), "p99.9": ms(histogram, 0.999), "max": ms(histogram, 1.0) });
        json!({
            "visits": self.run.visits,
            "offered_per_s": self.offered_per_s,
            "achieved_per_s": self.achieved_per_s(),
            "answers_per_s": tally.answers() as f64 / self.run.took.as_secs_f64(),
            "admitted_ms": quantiles(&tally.admitted),
            "shed_ms": quantiles(&tally.shed),
            "late_ms": quantiles(&tally.late),
            "answers": {
                "2xx_3xx": tally.ok,
                "4xx": tally.refused,
                "503": tally.unavailable,
                "503_without_retry_after": tally.without_retry_after,
                "others": tally.others,
            },
            "connection_errors": tally.connection_errors,
            "orders": tally.orders,
            "cpu_ms_per_answer": self.cpu_ms_per_answer(),
            "syncs_per_order": self.syncs_per_order(),
            "resident_kib": self.run.before.zip(self.run.after).map(|(before, after)| {
                json!({ "start": before.resident_kib, "end": after.resident_kib, "peak": after.peak_kib })
            }),
        })
    }
}

const LATE_MS_MAX: f64 = 25.0;
