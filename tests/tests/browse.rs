//! What a shopper and an app get from the shop over HTTP.

use std::fs;

use serde_json::{Value, json};
use souk_tests::{Shop, client};

#[tokio::test]
async fn a_shopper_browses_in_both_languages_and_an_app_reads_the_same() {
    let shop = Shop::open();
    let client = client();
    let get = async |path: &str| client.get(format!("{}{path}", shop.url)).send().await.unwrap();

    let home = get("/").await;
    assert_eq!(home.status(), 302);
    let chinese = client.get(format!("{}/", shop.url)).header("accept-language", "en;q=0.5, zh").send().await.unwrap();
    assert_eq!(chinese.headers()["location"], "/zh");

    for (prefix, words) in [("/en", ["Categories", "Tea"]), ("/zh", ["商品分类", "茶"])] {
        let page = get(prefix).await;
        assert_eq!(page.status(), 200);
        let csp = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(csp.contains("script-src 'self'") && csp.contains("worker-src 'none'"), "{csp}");
        let body = page.text().await.unwrap();
        assert!(words.iter().all(|word| body.contains(word)), "{prefix}");
    }

    let listing: Value = get("/api/v1/products?limit=5&sort=price").await.json().await.unwrap();
    assert!(listing["total"].as_u64().unwrap() >= 300, "{listing}");
    let prices: Vec<i64> = listing["products"].as_array().unwrap().iter().map(|p| p["price_min"]["amount"].as_i64().unwrap()).collect();
    assert!(prices.is_sorted() && prices.len() == 5, "{prices:?}");

    let handle = listing["products"][0]["handle"].as_str().unwrap();
    let product: Value =
        client.get(format!("{}/api/v1/products/{handle}", shop.url)).header("accept-language", "en").send().await.unwrap().json().await.unwrap();
    let page = get(&format!("/en/p/{handle}")).await.text().await.unwrap();
    assert!(page.contains("application/ld+json"), "{page}");
    for variant in product["variants"].as_array().unwrap() {
        let amount = variant["price"]["amount"].as_i64().unwrap();
        let decimal = format!("\"price\":\"{}.{:02}\"", amount / 100, amount % 100);
        assert!(page.contains(&decimal), "{decimal}");
    }

    let missing = client.get(format!("{}/en/p/no-such-thing", shop.url)).header("accept", "text/html").send().await.unwrap();
    assert_eq!(missing.status(), 404);
    assert!(missing.text().await.unwrap().contains("This page does not exist"));
    let problem = get("/api/v1/products?limit=100000").await;
    assert_eq!(problem.headers()["content-type"], "application/problem+json");
    assert!(problem.text().await.unwrap().contains("limit"));
}

#[tokio::test]
async fn what_is_kept_is_answered_from_memory_and_with_304() {
    let shop = Shop::open();
    let client = client();
    for (plugin, path) in [("storefront", "/en/products"), ("api", "/api/v1/products?limit=5"), ("api", "/api/v1/categories")] {
        let url = format!("{}{path}", shop.url);
        let first = client.get(&url).send().await.unwrap();
        let etag = first.headers()["etag"].clone();
        let body = first.text().await.unwrap();
        let calls = shop.report(plugin)["calls"].as_u64().unwrap();
        assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), body);
        assert_eq!(client.get(&url).header("if-none-match", etag).send().await.unwrap().status(), 304);
        assert_eq!(shop.report(plugin)["calls"].as_u64().unwrap(), calls);
    }
}

#[tokio::test]
async fn a_change_of_the_catalogue_is_seen_at_once_by_shoppers_and_apps() {
    let shop = Shop::open();
    let client = client();
    let file = shop.folder().join("lamp.json");
    for price in [19_900, 18_800, 20_100] {
        fs::write(&file, lamp(price)).unwrap();
        let (imported, said) = shop.says(&["store", "import", file.to_str().unwrap(), "--kind", "catalogue"]);
        assert!(imported, "{said}");
        // The second time as it was kept.
        for _ in 0..2 {
            let get = async |path: &str| client.get(format!("{}{path}", shop.url)).send().await.unwrap();
            let product: Value = get("/api/v1/products/lamp").await.json().await.unwrap();
            assert_eq!(product["variants"][0]["price"]["amount"], price);
            let listing: Value = get("/api/v1/products?category=tea&limit=200").await.json().await.unwrap();
            let listed = listing["products"].as_array().unwrap().iter().find(|product| product["handle"] == "lamp").unwrap();
            assert_eq!(listed["price_min"]["amount"], price);
            let page = get("/en/p/lamp").await.text().await.unwrap();
            assert!(page.contains(&format!("\"price\":\"{}.00\"", price / 100)), "{page}");
        }
    }
}

/// One more product, in a category that is there already.
fn lamp(price: i64) -> String {
    let text = |text: &str| json!({ "en": text, "zh-CN": text });
    json!({ "categories": [], "products": [{
        "handle": "lamp", "category": "tea", "name": text("Lamp"), "subtitle": text("Bright"), "description": text("A lamp."), "brand": "Souk",
        "tags": [], "attributes": [], "options": [], "images": ["lamp.webp"], "position": 1, "created-at": "2026-03-01T00:00:00Z",
        "variants": [{ "sku": "LAMP", "options": [], "price": price, "compare-at-price": null, "weight-g": 900, "stock": 5, "barcode": null }],
    }] })
    .to_string()
}
