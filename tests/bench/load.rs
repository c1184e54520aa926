//! The same requests again and again on some connections, as fast as they are
//! answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use souk_tests::wire::{Answer, Client};

/// What came of some seconds of the same requests.
pub struct Sample {
    pub per_second: f64,
    /// Ascending.
    latencies_us: Vec<u32>,
}

impl Sample {
    pub fn count(&self) -> usize {
        self.latencies_us.len()
    }

    pub fn quantile_us(&self, quantile: f64) -> f64 {
        let index = (self.latencies_us.len() as f64 * quantile) as usize;
        f64::from(self.latencies_us[index.min(self.latencies_us.len() - 1)])
    }
}

/// Sends on each of so many connections one request after the other, in turn.
/// Anything but 200 ends it.
pub async fn run(address: SocketAddr, connections: usize, time: Duration, requests: Vec<Vec<u8>>) -> Result<Sample> {
    let requests = Arc::new(requests);
    let mut clients = Vec::new();
    for _ in 0..connections {
        let mut client = Client::connect(address).await?;
        check(&client.send(&requests[0]).await?)?;
        clients.push(client);
    }
    let begun = Instant::now();
    let workers: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, mut client)| {
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(1 << 16);
                let mut sent = Instant::now();
                for turn in number * requests.len() / connections.. {
                    check(&client.send(&requests[turn % requests.len()]).await?)?;
                    let now = Instant::now();
                    latencies.push((now - sent).as_micros() as u32);
                    if now - begun >= time {
                        break;
                    }
                    sent = now;
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let mut latencies_us = Vec::new();
    for worker in workers {
        latencies_us.extend(worker.await??);
    }
    let per_second = latencies_us.len() as f64 / begun.elapsed().as_secs_f64();
    latencies_us.sort_unstable();
    Ok(Sample { per_second, latencies_us })
}

fn check(answer: &Answer) -> Result<()> {
    if answer.status != 200 {
        bail!("{}{}", String::from_utf8_lossy(answer.head), String::from_utf8_lossy(answer.body));
    }
    Ok(())
}
