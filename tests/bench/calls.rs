//! What a call from plugin to plugin costs: the plugins of `tests/guests` call
//! each other in one request so often that the request itself does not count.

use std::fs;

use anyhow::{Result, ensure};
use souk_tests::process::address;
use souk_tests::wire::{Client, block_on};
use souk_tests::{Shop, install_guest};
use tempfile::TempDir;

use crate::Effort;
use crate::figure::{Figure, Mark, median};

/// A shop of nothing but the three guests.
pub fn shop() -> Result<Shop> {
    let folder = store()?;
    install_guest(&folder, "provider");
    Ok(Shop::serve(folder))
}

/// Without the provider, not served.
pub fn store() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("store");
    fs::create_dir_all(store.join("plugins"))?;
    let settings = "[shop]\nname = 'Bench'\ncurrency = 'CNY'\nlocales = ['en']\ntime-zone = 'UTC'\ncountry = 'CN'\n\
        [server]\nlisten = '127.0.0.1:0'\nops-listen = '127.0.0.1:0'\n";
    fs::write(store.join("souk.toml"), settings)?;
    for guest in ["service", "caller"] {
        install_guest(&folder, guest);
    }
    Ok(folder)
}

/// Calls in one request, so that each request takes some milliseconds.
const FUSED: u32 = 20_000;
const ISOLATED: u32 = 200;
const REQUESTS: usize = 30;

pub fn calls(effort: Effort) -> Result<Vec<Figure>> {
    let shop = shop()?;
    let fused = per_call_us(&shop, effort, &format!("/call/service/{FUSED}"), FUSED, "0")?;
    let isolated = per_call_us(&shop, effort, &format!("/call/provider/{ISOLATED}"), ISOLATED, "provider version 0000")?;
    let mut isolated = Figure::plain("isolated_call_us", "µs", Mark::AtMost(60.0), isolated);
    isolated.remark = "a discount provider, a fresh instance for each call".into();
    Ok(vec![Figure::plain("call_overhead_us", "µs", Mark::AtMost(1.0), fused), isolated])
}

/// What each of the calls in a request to `path` costs, which ends with `wanted`.
pub fn per_call_us(shop: &Shop, effort: Effort, path: &str, calls: u32, wanted: &str) -> Result<Vec<f64>> {
    let address = address(shop)?;
    let wanted = format!("\"{wanted}\"");
    block_on(async {
        let mut client = Client::connect(address).await?;
        let mut values = Vec::new();
        for _ in 0..effort.rounds {
            let nothing = time_us(&mut client, "/call/nothing/1", "\"CNY\"").await?;
            let all = time_us(&mut client, path, &wanted).await?;
            values.push((all - nothing) / f64::from(calls));
        }
        Ok(values)
    })
}

/// Median time of a request.
async fn time_us(client: &mut Client, path: &str, wanted: &str) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let begun = std::time::Instant::now();
        let answer = client.get(path).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        ensure!(answer.status == 200 && answer.body == wanted.as_bytes(), "{path}: {}", String::from_utf8_lossy(answer.body));
    }
    Ok(median(times))
}

