//! The shop as a process: how soon it is there, what it takes.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};
use souk_tests::process::{address, handles};
use souk_tests::wire::{Client, block_on, get};
use souk_tests::{Shop, store};

use crate::Effort;
use crate::figure::{Figure, Mark};

/// Everything compiled before, as on every day but the first.
pub fn start(effort: Effort) -> Result<Vec<Figure>> {
    let mut folder = store();
    let mut values = Vec::new();
    for round in 0..=effort.rounds {
        let begun = Instant::now();
        let mut shop = Shop::serve(folder);
        let address = address(&shop)?;
        block_on(async { anyhow::Ok(Client::connect(address).await?.get("/api/v1/products?limit=1").await.map(|answer| ensure_ok(answer.status))??) })?;
        if round > 0 {
            values.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        shop.stop();
        folder = shop.kill();
    }
    Ok(vec![Figure::plain("start_ms", "ms", Mark::AtMost(1_500.0), values)])
}

fn ensure_ok(status: u16) -> Result<()> {
    ensure!(status == 200, "status {status}");
    Ok(())
}

const CONNECTIONS: usize = 32;
const REQUESTS: usize = 10_000;

pub fn memory(effort: Effort) -> Result<Vec<Figure>> {
    let mut values = Vec::new();
    let mut fresh = Vec::new();
    for _ in 0..effort.rounds.min(3) {
        let shop = Shop::open();
        fresh.push(shop.resident_mib());
        block_on(mixed(address(&shop)?))?;
        values.push(shop.resident_mib());
    }
    let mut figure = Figure::plain("rss_mb", "MB", Mark::AtMost(250.0), values);
    figure.remark = format!("{:.0} MB before the first request", crate::figure::median(fresh));
    Ok(vec![figure])
}

/// Pages, lists, JSON and carts, over many products and both languages.
async fn mixed(address: SocketAddr) -> Result<()> {
    let handles = handles(address, 200).await?;
    let mut requests = Vec::new();
    for (place, handle) in handles.iter().enumerate() {
        for path in [
            format!("/api/v1/products/{handle}"),
            format!("/en/p/{handle}"),
            format!("/zh/p/{handle}"),
            format!("/zh/products?page={}", place % 10 + 1),
            format!("/api/v1/products?offset={place}"),
        ] {
            requests.push(get(address, &path));
        }
    }
    let requests = std::sync::Arc::new(requests);
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut client = Client::connect(address).await?;
                for turn in (number..REQUESTS).step_by(CONNECTIONS) {
                    if turn % 10 == 0 {
                        client.json("POST", "/api/v1/carts", &serde_json::Value::Null).await?;
                    } else {
                        ensure_ok(client.send(&requests[turn % requests.len()]).await?.status)?;
                    }
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok(())
}
