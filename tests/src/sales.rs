//! Sales that end without warning, and whether the books are right afterwards.
//! For the tests that kill the shop, and those that cut its power.

use std::collections::BTreeMap;

use serde_json::json;

use crate::Shop;
use crate::api::{Api, INSTANT};

/// An article that everybody buys, and how many there are of it.
#[derive(Clone)]
pub struct Article {
    pub sku: String,
    pub on_hand: i64,
}

/// Puts plenty of one article on the shelf.
pub async fn plenty(shop: &Shop, api: &Api) -> Article {
    let article = Article { sku: api.buyable(1).await.0, on_hand: 1_000_000 };
    // Beside the store: what is below it may be recorded.
    let file = shop.folder().with_file_name("stock.json");
    std::fs::write(&file, json!([{ "sku": article.sku, "quantity": article.on_hand }]).to_string()).unwrap();
    shop.run("import-stock", &["--input", file.to_str().unwrap()]);
    article
}

/// Buys until the shop is gone or `acknowledged` says no; it gets the token of each order that was acknowledged.
pub async fn shop_on(api: Api, sku: String, mut acknowledged: impl FnMut(&str) -> bool) {
    loop {
        let Ok((cart, _)) = api.cart(&sku, 1).await else { return };
        let Ok((status, placed)) = api.order(&cart, INSTANT).await else { return };
        assert_eq!(status, 201, "{placed}");
        if !acknowledged(placed["token"].as_str().unwrap()) {
            return;
        }
    }
}

/// Every acknowledged order is there and paid, none is half done, and what was sold and what is left are what there was.
pub async fn audit(shop: &Shop, acknowledged: impl IntoIterator<Item = &String>, article: &Article) {
    let api = Api::of(shop);
    let mut expected = 0;
    for token in acknowledged {
        let order = api.settled(token).await;
        assert_eq!((&order["status"], &order["payment"]["status"]), (&json!("placed"), &json!("captured")), "{order}");
        assert_eq!(order["payment"]["amount"], order["totals"]["total"], "{order}");
        expected += 1;
    }
    // Orders that were committed and never acknowledged count as well.
    let mut by_status: BTreeMap<String, i64> = BTreeMap::new();
    let mut before: Option<String> = None;
    loop {
        let more = before.iter().map(|number| format!("after={number}")).chain(["limit=200".into()]).collect::<Vec<_>>();
        let page = shop.run("list-orders", &more.iter().map(String::as_str).collect::<Vec<_>>());
        let Some(last) = page.as_array().unwrap().last() else { break };
        before = last["number"].as_str().map(str::to_owned);
        for order in page.as_array().unwrap() {
            let settled = api.settled(order["token"].as_str().unwrap()).await;
            *by_status.entry(settled["status"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let placed = by_status.get("placed").copied().unwrap_or_default();
    assert!(placed >= expected && placed == by_status.values().sum::<i64>(), "{by_status:?} for {expected} acknowledged");
    assert_eq!(api.available(&article.sku).await, article.on_hand - placed, "sold and left over are what there was");
    assert_eq!(shop.run("verify-stock", &[])["differences"], json!([]));
}
