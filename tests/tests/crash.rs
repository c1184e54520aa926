//! The shop killed in the middle of sales: what was acknowledged is there and
//! complete, and stock and money add up. What a power cut does to the disk
//! besides is in `powercut.rs`.
//!
//! `SOUK_CRASH_ROUNDS` says how often (50 otherwise).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use souk_tests::api::Api;
use souk_tests::sales::{Article, audit, plenty, shop_on};
use souk_tests::{Shop, number, store, until};

const SHOPPERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_order_is_lost_and_stock_and_money_add_up() {
    let mut folder = store();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut article: Option<Article> = None;
    for round in 0..number("SOUK_CRASH_ROUNDS").unwrap_or(50) {
        let shop = Shop::serve(folder);
        let api = Api::of(&shop);
        let article = match &article {
            Some(article) => article.clone(),
            None => article.insert(plenty(&shop, &api).await).clone(),
        };
        let orders = Arc::new(AtomicU64::new(0));
        let shoppers: Vec<_> = (0..SHOPPERS)
            .map(|_| {
                let (api, sku, orders) = (api.clone(), article.sku.clone(), orders.clone());
                tokio::spawn(async move {
                    let mut tokens = Vec::new();
                    let note = |token: &str| {
                        tokens.push(token.to_owned());
                        orders.fetch_add(1, Relaxed);
                        true
                    };
                    shop_on(api, sku, note).await;
                    tokens
                })
            })
            .collect();
        // At another moment in each round: after some orders, and a little more.
        until(|| orders.load(Relaxed) >= round % 10).await;
        tokio::time::sleep(Duration::from_micros(round * 7_919 % 20_000)).await;
        folder = shop.kill();
        for shopper in shoppers {
            acknowledged.extend(shopper.await.unwrap());
        }
    }
    let shop = Shop::serve(folder);
    audit(&shop, &acknowledged, &article.expect("at least one round")).await;
}
