//! What shoppers do most: look.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use souk_tests::buying::{stock, wares};
use souk_tests::process::{address, cpu, handles};
use souk_tests::wire::{Client, block_on, escaped, get};
use souk_tests::{Shop, store_without_pages};

use crate::Effort;
use crate::bare::Bare;
use crate::figure::{Figure, Mark, Round, median};
use crate::growth::{Catalogue, indexed};
use crate::load;

const CONNECTIONS: usize = 32;

/// One product as JSON, through the graph: no page cache, no ETag sent.
pub fn api_product(effort: Effort) -> Result<Vec<Figure>> {
    let shop = Shop::serve(store_without_pages());
    let address = address(&shop)?;
    block_on(async {
        let path = format!("/api/v1/products/{}", handles(address, 1).await?[0]);
        against_bare("api_product_vs_hyper", Mark::AtLeast(0.45), effort, &shop, &path).await
    })
}

/// What the host keeps, as a page and as JSON.
pub fn cached_page(effort: Effort) -> Result<Vec<Figure>> {
    let shop = Shop::open();
    let address = address(&shop)?;
    block_on(async {
        let handle = &handles(address, 1).await?[0];
        let mut figures = Vec::new();
        for (name, path) in [("cached_page_vs_hyper", format!("/en/p/{handle}")), ("cached_json_vs_hyper", format!("/api/v1/products/{handle}"))] {
            let answer = String::from_utf8_lossy(Client::connect(address).await?.get(&path).await?.head).into_owned();
            ensure!(answer.contains("cache-control: public"), "{path} is not kept: {answer}");
            figures.extend(against_bare(name, Mark::AtLeast(0.8), effort, &shop, &path).await?);
        }
        Ok(figures)
    })
}

/// Every request is rendered: the shop keeps no pages.
pub fn page_product(effort: Effort) -> Result<Vec<Figure>> {
    let shop = Shop::serve(store_without_pages());
    let address = address(&shop)?;
    let (mut tails, mut rates) = (Vec::new(), Vec::new());
    block_on(async {
        let requests: Vec<_> = handles(address, 200).await?.iter().map(|handle| get(address, &format!("/en/p/{handle}"))).collect();
        load::run(address, CONNECTIONS, effort.round / 3, requests.clone()).await?;
        for _ in 0..effort.rounds {
            let sample = load::run(address, CONNECTIONS, effort.round, requests.clone()).await?;
            tails.push(sample.quantile_us(0.99) / 1e3);
            rates.push(sample.per_second);
        }
        Ok(())
    })?;
    let mut figure = Figure::plain("page_product_p99_ms", "ms", Mark::Reported, tails);
    figure.remark = format!("{:.0} pages/s at {CONNECTIONS} connections", median(rates));
    Ok(vec![figure])
}

/// Products whose stock changes, one after the other.
const COUNTED: usize = 8;
/// A page that is older than this is taken for never renewed.
const STALE_MAX: Duration = Duration::from_secs(90);

/// How long a kept product page still tells of the stock before the last count,
/// while shoppers look at the same pages.
pub fn stale_stock(effort: Effort) -> Result<Vec<Figure>> {
    let shop = Shop::open();
    let address = address(&shop)?;
    let values = block_on(async {
        let wares: Vec<_> = wares(address).await?.into_iter().take(COUNTED).collect();
        let pages: Vec<_> = wares.iter().map(|(handle, _)| get(address, &format!("/en/p/{handle}"))).collect();
        let mut client = Client::connect(address).await?;
        let mut values = Vec::new();
        for round in 0..effort.rounds {
            let looking = tokio::spawn(load::run(address, CONNECTIONS / 4, effort.round, pages.clone()));
            // Few enough that a page says how many, and another number each round.
            let left = 2 + round % 7;
            let told = format!("Only {left} left");
            let mut oldest = Duration::ZERO;
            for ((_, sku), page) in wares.iter().zip(&pages) {
                client.send(page).await?;
                stock(&shop, &[json!({ "sku": sku, "quantity": left })])?;
                let counted = Instant::now();
                while !String::from_utf8_lossy(client.send(page).await?.body).contains(&told) {
                    ensure!(counted.elapsed() < STALE_MAX, "the page of {sku} never says: {told}");
                }
                oldest = oldest.max(counted.elapsed());
            }
            values.push(oldest.as_secs_f64());
            looking.await??;
        }
        anyhow::Ok(values)
    })?;
    let mut figure = Figure::plain("stale_stock_s", "s", Mark::AtMost(1.0), values);
    figure.remark = format!("the oldest of {COUNTED} product pages, from the end of the command that counted");
    Ok(vec![figure])
}

/// What shoppers type: plain words, forms of them, Chinese, how it is read, the beginning of a word.
const SEARCHES: [&str; 12] = ["tea", "boxes", "glass", "cotton", "knife", "longjing", "wi-fi", "茶壶", "椅子", "lvcha", "cera", "oak chair"];
/// As many as the shop has in all when it is searched.
const SEARCHED_PRODUCTS: usize = 1_000;

/// Processor time of the server for one search of some 1,300 products.
pub fn search(effort: Effort) -> Result<Vec<Figure>> {
    let catalogue = Catalogue::read(&souk_tests::catalogue())?;
    let shop = Shop::serve(store_without_pages());
    catalogue.grow(&shop, SEARCHED_PRODUCTS)?;
    let address = address(&shop)?;
    indexed(address, SEARCHED_PRODUCTS)?;
    let path = |words: &&str| format!("/api/v1/search?q={}&limit=24", escaped(words));
    let requests: Vec<_> = SEARCHES.iter().map(|words| get(address, &path(words))).collect();
    let mut values = Vec::new();
    block_on(async {
        load::run(address, 1, effort.round, requests.clone()).await?;
        for _ in 0..effort.rounds {
            let before = cpu(shop.pid())?;
            let sample = load::run(address, 1, effort.round, requests.clone()).await?;
            values.push((cpu(shop.pid())? - before).as_secs_f64() * 1e3 / sample.count() as f64);
        }
        anyhow::Ok(())
    })?;
    let mut figure = Figure::plain("search_cpu_ms", "ms", Mark::AtMost(0.2), values);
    figure.remark = format!("{} different searches in turn, 24 products each, no pages kept", SEARCHES.len());
    Ok(vec![figure])
}

/// Rounds of shop and bare server take turns on the same answer.
async fn against_bare(name: &'static str, mark: Mark, effort: Effort, shop: &Shop, path: &str) -> Result<Vec<Figure>> {
    let address = address(shop)?;
    let bare = Bare::like(&Client::connect(address).await?.get(path).await?)?;
    let bytes = Client::connect(bare.address).await?.get(path).await?.body.len();
    for address in [address, bare.address] {
        load::run(address, CONNECTIONS, effort.round / 3, vec![get(address, path)]).await?;
    }
    let (mut rounds, mut shop_us, mut bare_us) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let (value, us) = rate(address, shop.pid(), path, effort.round).await?;
        let (baseline, us_baseline) = rate(bare.address, bare.pid(), path, effort.round).await?;
        rounds.push(Round { value, baseline: Some(baseline) });
        shop_us.push(us);
        bare_us.push(us_baseline);
    }
    let value = median(rounds.iter().map(|round| round.value).collect());
    let remark = format!(
        "{value:.0} requests/s of {bytes} bytes; processor time {:.1} µs each, bare {:.1} µs",
        median(shop_us),
        median(bare_us)
    );
    Ok(vec![Figure::compared(name, "requests/s", mark, rounds, remark)])
}

/// Requests a second, and the server's processor time for each.
async fn rate(address: SocketAddr, pid: u32, path: &str, time: Duration) -> Result<(f64, f64)> {
    let before = cpu(pid)?;
    let sample = load::run(address, CONNECTIONS, time, vec![get(address, path)]).await?;
    let used = cpu(pid)? - before;
    Ok((sample.per_second, used.as_secs_f64() * 1e6 / sample.count() as f64))
}
