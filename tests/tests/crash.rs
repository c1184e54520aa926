//! Power cuts in the middle of sales: what was acknowledged is there and
//! complete, and stock and money add up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use souk_tests::api::{Api, INSTANT};
use souk_tests::{Shop, store};

const SHOPPERS: usize = 8;

/// 50 unless `SOUK_CRASH_ROUNDS` says otherwise.
fn rounds() -> u64 {
    std::env::var("SOUK_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(50)
}

/// Buys until the shop is gone; gives the tokens of the orders that were acknowledged.
async fn shop_on(api: Api, sku: String, orders: Arc<AtomicU64>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    loop {
        let Ok((cart, _)) = api.cart(&sku, 1).await else { return acknowledged };
        let Ok((status, placed)) = api.order(&cart, INSTANT).await else { return acknowledged };
        assert_eq!(status, 201, "{placed}");
        acknowledged.push(placed["token"].as_str().unwrap().to_owned());
        orders.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_order_is_lost_and_stock_and_money_add_up() {
    let mut folder = store();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut article: Option<(String, i64)> = None;
    for round in 0..rounds() {
        let shop = Shop::serve(folder);
        let api = Api::of(&shop);
        let (sku, _) = match &article {
            Some(article) => article.clone(),
            None => {
                let sku = api.buyable(1).await.0;
                let file = shop.folder().join("stock.json");
                std::fs::write(&file, json!([{ "sku": sku, "quantity": 1_000_000 }]).to_string()).unwrap();
                shop.run("import-stock", &["--input", file.to_str().unwrap()]);
                article.insert((sku, 1_000_000)).clone()
            }
        };
        let orders = Arc::new(AtomicU64::new(0));
        let shoppers: Vec<_> = (0..SHOPPERS).map(|_| tokio::spawn(shop_on(api.clone(), sku.clone(), orders.clone()))).collect();
        // At another moment in each round: after some orders, and a little more.
        while orders.load(Relaxed) < round % 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(round * 7_919 % 20_000)).await;
        folder = shop.kill();
        for shopper in shoppers {
            acknowledged.extend(shopper.await.unwrap());
        }
    }

    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    let (sku, on_hand) = article.expect("at least one round");
    for token in &acknowledged {
        let order = api.settled(token).await;
        assert_eq!((&order["status"], &order["payment"]["status"]), (&json!("placed"), &json!("captured")), "{order}");
        assert_eq!(order["payment"]["amount"], order["totals"]["total"], "{order}");
    }
    // Orders that were committed and never acknowledged count as well.
    let mut by_status: BTreeMap<String, i64> = BTreeMap::new();
    let mut before: Option<String> = None;
    loop {
        let more = before.iter().map(|number| format!("before={number}")).chain(["limit=200".into()]).collect::<Vec<_>>();
        let page = shop.run("list-orders", &more.iter().map(String::as_str).collect::<Vec<_>>());
        let Some(last) = page.as_array().unwrap().last() else { break };
        before = last["number"].as_str().map(str::to_owned);
        for order in page.as_array().unwrap() {
            let settled = api.settled(order["token"].as_str().unwrap()).await;
            *by_status.entry(settled["status"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let placed = by_status.get("placed").copied().unwrap_or_default();
    assert!(placed >= acknowledged.len() as i64 && by_status.len() == 1, "{by_status:?} for {} acknowledged", acknowledged.len());
    assert_eq!(api.available(&sku).await, on_hand - placed, "sold and left over are what there was");
    assert_eq!(shop.run("verify-stock", &[])["differences"], json!([]));
}
