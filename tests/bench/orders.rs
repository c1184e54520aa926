//! Buying, as a programme does it over the API: every answer is durable.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use souk_tests::Shop;
use souk_tests::api::INSTANT;
use souk_tests::buying::{await_placed, filled_cart, ok, stock, wares};
use souk_tests::process::{BATCHES, address, cpu};
use souk_tests::wire::{Client, block_on};

use crate::Effort;
use crate::figure::{Figure, Mark, median};

const SHOPPERS: usize = 16;

/// Browse, a product, a cart, a line, contact, address, shipping, pay, placed.
pub fn orders(effort: Effort) -> Result<Vec<Figure>> {
    let shop = Shop::open();
    let address = address(&shop)?;
    let (mut rates, mut syncs, mut times) = (Vec::new(), Vec::new(), Vec::new());
    block_on(async {
        let wares = Arc::new(wares(address).await?);
        let plenty: Vec<Value> = wares.iter().map(|(_, sku)| json!({ "sku": sku, "quantity": 1_000_000 })).collect();
        stock(&shop, &plenty)?;
        shopping(address, &wares, effort.round / 3).await?;
        for _ in 0..effort.rounds {
            let (batches, used) = (shop.metric(BATCHES).await, cpu(shop.pid())?);
            let begun = Instant::now();
            let placed = shopping(address, &wares, effort.round).await? as f64;
            rates.push(placed / begun.elapsed().as_secs_f64());
            syncs.push((shop.metric(BATCHES).await - batches) / placed);
            times.push((cpu(shop.pid())? - used).as_secs_f64() * 1e3 / placed);
        }
        Ok(())
    })?;
    let mut figure = Figure::plain("orders_per_s", "/s", Mark::AtLeast(300.0), rates);
    figure.remark = format!(
        "{SHOPPERS} shoppers, 10 requests an order; {:.2} syncs and {:.1} ms processor time an order",
        median(syncs),
        median(times)
    );
    Ok(vec![figure])
}

/// Shoppers buy one after the other for so long; how many orders were placed.
async fn shopping(address: SocketAddr, wares: &Arc<Vec<(String, String)>>, time: Duration) -> Result<usize> {
    let until = Instant::now() + time;
    let shoppers: Vec<_> = (0..SHOPPERS)
        .map(|number| {
            let wares = wares.clone();
            tokio::spawn(async move {
                let mut client = Client::connect(address).await?;
                let mut placed = 0;
                while Instant::now() < until {
                    let (handle, sku) = &wares[(number * 7 + placed * 13) % wares.len()];
                    ok(&mut client, "GET", "/products?limit=24", Value::Null).await?;
                    ok(&mut client, "GET", &format!("/products/{handle}"), Value::Null).await?;
                    let cart = filled_cart(&mut client, sku, true).await?;
                    let order = ok(&mut client, "POST", &format!("{cart}/order"), json!({ "payment_method": INSTANT })).await?;
                    await_placed(&mut client, &order).await?;
                    placed += 1;
                }
                anyhow::Ok(placed)
            })
        })
        .collect();
    let mut placed = 0;
    for shopper in shoppers {
        placed += shopper.await??;
    }
    Ok(placed)
}

/// Shoppers place orders for more of one sku than there is.
pub fn hot_sku(effort: Effort) -> Result<Vec<Figure>> {
    const CARTS: usize = 1_500;
    const STOCK: usize = 500;
    let shop = Shop::open();
    let address = address(&shop)?;
    let (mut rates, mut sold_rates) = (Vec::new(), Vec::new());
    block_on(async {
        let sku = Arc::new(wares(address).await?.swap_remove(0).1);
        for _ in 0..effort.rounds {
            stock(&shop, &[json!({ "sku": *sku, "quantity": STOCK })])?;
            let wanted = sku.clone();
            let fill = move |mut client, _| {
                let sku = wanted.clone();
                async move {
                    let cart = filled_cart(&mut client, &sku, false).await?;
                    Ok((client, cart))
                }
            };
            let carts = Arc::new(shoppers(address, CARTS, fill).await?);
            let place = move |mut client: Client, turn: usize| {
                let path = format!("/api/v1{}/order", carts[turn]);
                async move {
                    let answer = client.json("POST", &path, &json!({ "payment_method": INSTANT })).await?;
                    Ok((client, answer))
                }
            };
            let begun = Instant::now();
            let answers = shoppers(address, CARTS, place).await?;
            let seconds = begun.elapsed().as_secs_f64();
            let (sold, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 201);
            ensure!(sold.len() == STOCK, "{} sold of a stock of {STOCK}", sold.len());
            ensure!(refused.iter().all(|(_, answer)| answer["title"] == "Not enough in stock"), "{:?}", refused.last());
            let mut client = Client::connect(address).await?;
            for (_, order) in &sold {
                await_placed(&mut client, order).await?;
            }
            let left = ok(&mut client, "GET", &format!("/availability?sku={sku}"), Value::Null).await?;
            ensure!(left[0]["available"] == 0, "{left}");
            rates.push(CARTS as f64 / seconds);
            sold_rates.push(STOCK as f64 / seconds);
        }
        Ok(())
    })?;
    let verified = shop.run("verify-stock", &[]);
    ensure!(verified["differences"] == json!([]), "{verified}");
    let mut figure = Figure::plain("hot_sku_attempts_per_s", "/s", Mark::AtLeast(1_000.0), rates);
    figure.remark = format!("{CARTS} tries for {STOCK} pieces: all sold and paid, none twice; {:.0} sold/s", median(sold_rates));
    Ok(vec![figure])
}

/// So many turns of the same work, taken in turn by all shoppers; each hands its
/// connection from turn to turn.
async fn shoppers<T, Work, Turn>(address: SocketAddr, turns: usize, work: Work) -> Result<Vec<T>>
where
    T: Send + 'static,
    Work: Fn(Client, usize) -> Turn + Clone + Send + 'static,
    Turn: Future<Output = Result<(Client, T)>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..SHOPPERS)
        .map(|_| {
            let (work, next) = (work.clone(), next.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await?;
                let mut done = Vec::new();
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= turns {
                        return anyhow::Ok(done);
                    }
                    let (again, result) = work(client, turn).await?;
                    client = again;
                    done.push(result);
                }
            })
        })
        .collect();
    let mut done = Vec::new();
    for task in tasks {
        done.extend(task.await??);
    }
    Ok(done)
}
