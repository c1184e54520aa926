//! The front's own figures, for `/metrics`. Counters of a route are found once
//! and then updated without a look-up; they outlive swaps of the live set.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;

const BUCKETS_US: [u64; 13] = [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

#[derive(Debug, Default)]
pub struct RouteMetrics {
    /// 1xx … 5xx
    by_class: [AtomicU64; 5],
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
    bytes_out: AtomicU64,
    page_hits: AtomicU64,
}

impl RouteMetrics {
    pub fn record(&self, status: StatusCode, took: Duration, bytes: u64) {
        let us = took.as_micros() as u64;
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.by_class[class].fetch_add(1, Relaxed);
        self.buckets[BUCKETS_US.partition_point(|b| *b < us)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    pub fn page_hit(&self) {
        self.page_hits.fetch_add(1, Relaxed);
    }
}

#[derive(Default)]
pub struct Metrics {
    routes: Mutex<BTreeMap<(String, String), Arc<RouteMetrics>>>,
    pub in_flight: AtomicI64,
    pub connections: AtomicI64,
    pub overloaded: AtomicU64,
    pub pages_kept: AtomicU64,
}

/// Counts one up for as long as it lives.
pub struct Counted<'a>(&'a AtomicI64);

impl<'a> Counted<'a> {
    pub fn new(gauge: &'a AtomicI64) -> Self {
        gauge.fetch_add(1, Relaxed);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Metrics {
    pub fn route(&self, plugin: &str, route: &str) -> Arc<RouteMetrics> {
        self.routes.lock().entry((plugin.to_owned(), route.to_owned())).or_default().clone()
    }

    /// OpenMetrics text without the final `# EOF`.
    pub fn write(&self, out: &mut String, page_cache_bytes: usize) {
        let routes = self.routes.lock().clone();
        let labels = |plugin: &str, route: &str| format!("plugin=\"{}\",route=\"{}\"", escape(plugin), escape(route));
        // Writing to a String does not fail.
        let mut line = |text: std::fmt::Arguments| _ = writeln!(out, "{text}");
        line(format_args!("# TYPE souk_http_requests counter"));
        for ((plugin, route), m) in &routes {
            for (i, count) in m.by_class.iter().enumerate().filter(|(_, c)| c.load(Relaxed) > 0) {
                line(format_args!("souk_http_requests_total{{{},status=\"{}xx\"}} {}", labels(plugin, route), i + 1, count.load(Relaxed)));
            }
        }
        line(format_args!("# TYPE souk_http_page_cache_hits counter"));
        for ((plugin, route), m) in routes.iter().filter(|(_, m)| m.page_hits.load(Relaxed) > 0) {
            line(format_args!("souk_http_page_cache_hits_total{{{}}} {}", labels(plugin, route), m.page_hits.load(Relaxed)));
        }
        line(format_args!("# TYPE souk_http_response_body_bytes counter\n# UNIT souk_http_response_body_bytes bytes"));
        for ((plugin, route), m) in &routes {
            line(format_args!("souk_http_response_body_bytes_total{{{}}} {}", labels(plugin, route), m.bytes_out.load(Relaxed)));
        }
        line(format_args!("# TYPE souk_http_duration_seconds histogram\n# UNIT souk_http_duration_seconds seconds"));
        for ((plugin, route), m) in &routes {
            let labels = labels(plugin, route);
            let mut count = 0;
            for (i, bucket) in m.buckets.iter().enumerate() {
                count += bucket.load(Relaxed);
                let le = BUCKETS_US.get(i).map_or("+Inf".to_owned(), |us| format!("{:?}", *us as f64 / 1e6));
                line(format_args!("souk_http_duration_seconds_bucket{{{labels},le=\"{le}\"}} {count}"));
            }
            line(format_args!("souk_http_duration_seconds_sum{{{labels}}} {:?}", m.sum_us.load(Relaxed) as f64 / 1e6));
            line(format_args!("souk_http_duration_seconds_count{{{labels}}} {count}"));
        }
        line(format_args!("# TYPE souk_http_requests_in_flight gauge\nsouk_http_requests_in_flight {}", self.in_flight.load(Relaxed)));
        line(format_args!("# TYPE souk_http_connections gauge\nsouk_http_connections {}", self.connections.load(Relaxed)));
        line(format_args!("# TYPE souk_http_overloaded counter\nsouk_http_overloaded_total {}", self.overloaded.load(Relaxed)));
        line(format_args!("# TYPE souk_http_pages_kept counter\nsouk_http_pages_kept_total {}", self.pages_kept.load(Relaxed)));
        line(format_args!("# TYPE souk_http_page_cache_bytes gauge\nsouk_http_page_cache_bytes {page_cache_bytes}"));
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
