//! The served shop as it looks from outside: its address, its wares, and what
//! the system tells of its process.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Shop;
use crate::wire::Client;

/// Batches that the store has made durable, in `/metrics`.
pub const BATCHES: &str = "souk_store_batches_total";

pub fn address(shop: &Shop) -> Result<SocketAddr> {
    Ok(shop.url.strip_prefix("http://").context("no http URL")?.parse()?)
}

/// Handles of the first products.
pub async fn handles(address: SocketAddr, count: usize) -> Result<Vec<String>> {
    let (_, listing) = Client::connect(address).await?.json("GET", &format!("/api/v1/products?limit={count}"), &serde_json::Value::Null).await?;
    let products = listing["products"].as_array().context("no products")?;
    Ok(products.iter().filter_map(|product| Some(product["handle"].as_str()?.to_owned())).collect())
}

/// Processor time that a process has used.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses and may hold spaces.
    let after_name = stat.rsplit_once(')').context("stat")?.1;
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every architecture that Linux runs on today.
    Ok(Duration::from_millis(ticks * 10))
}

/// A line of `/proc/PID/status`, its number: `VmRSS` and `VmHWM` in KiB, `Threads`.
pub fn status(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {name}"))?.parse()?)
}

/// What is resident of the memory that guests see, in KiB.
pub fn guests_kib(pid: u32) -> Result<u64> {
    let spans = spans(&fs::read_to_string(format!("/proc/{pid}/smaps"))?);
    Ok(spans.iter().filter(|span| span.end - span.first >= POOL_BYTES_MIN).map(|span| span.resident_kib).sum())
}

/// The host reserves terabytes of addresses for guests. Nothing else is mapped without a gap over so many.
const POOL_BYTES_MIN: u64 = 1 << 36;

/// Mappings without a gap between them.
struct Span {
    first: u64,
    end: u64,
    resident_kib: u64,
}

fn spans(smaps: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for line in smaps.lines() {
        let word = |number| line.split_ascii_whitespace().nth(number).unwrap_or_default();
        if let Some((first, end)) = word(0).split_once('-').and_then(|(first, end)| Some((address_of(first)?, address_of(end)?))) {
            match spans.last_mut() {
                Some(span) if span.end == first => span.end = end,
                _ => spans.push(Span { first, end, resident_kib: 0 }),
            }
        } else if let (Some(span), "Rss:") = (spans.last_mut(), word(0)) {
            span.resident_kib += word(1).parse::<u64>().unwrap_or(0);
        }
    }
    spans
}

fn address_of(hex: &str) -> Option<u64> {
    u64::from_str_radix(hex, 16).ok()
}

pub fn open_files(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Of all files in a folder, without following links. What goes away while it
/// counts is not counted.
pub fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    });
    sizes.sum()
}
