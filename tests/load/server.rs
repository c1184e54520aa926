//! The shop under load, and what the system tells of its process.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result};
use souk_tests::Shop;
use souk_tests::process::{self, BATCHES};

pub struct Server {
    pub address: SocketAddr,
    /// On a store of its own; none where the shop was there before.
    pub shop: Option<Shop>,
}

/// Of the server's process, at one moment.
#[derive(Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    /// Batches that the store has made durable.
    pub syncs: f64,
    pub resident_kib: u64,
    /// The most that there ever was.
    pub peak_kib: u64,
}

impl Server {
    pub fn of(url: Option<&str>) -> Result<Server> {
        let Some(url) = url else {
            let shop = Shop::open();
            return Ok(Server { address: process::address(&shop)?, shop: Some(shop) });
        };
        let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let addresses = authority.to_socket_addrs().with_context(|| format!("--url is {url}: give host and port, for instance 127.0.0.1:8080"))?;
        let address = addresses.into_iter().next().with_context(|| format!("--url is {url}: that host has no address"))?;
        Ok(Server { address, shop: None })
    }

    pub async fn usage(&self) -> Result<Option<Usage>> {
        let Some(shop) = &self.shop else { return Ok(None) };
        let pid = shop.pid();
        Ok(Some(Usage {
            cpu: process::cpu(pid)?,
            syncs: shop.metric(BATCHES).await,
            resident_kib: process::status(pid, "VmRSS")?,
            peak_kib: process::status(pid, "VmHWM")?,
        }))
    }
}
