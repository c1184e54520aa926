//! What a shopper and an app get from the shop over HTTP.

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
        assert!(csp.contains("default-src 'self'"), "{csp}");
        let body = page.text().await.unwrap();
        assert!(words.iter().all(|word| body.contains(word)), "{prefix}");
    }

    let listing: serde_json::Value = get("/api/v1/products?limit=5&sort=price").await.json().await.unwrap();
    assert!(listing["total"].as_u64().unwrap() >= 300, "{listing}");
    let prices: Vec<i64> = listing["products"].as_array().unwrap().iter().map(|p| p["price_min"]["amount"].as_i64().unwrap()).collect();
    assert!(prices.is_sorted() && prices.len() == 5, "{prices:?}");

    let handle = listing["products"][0]["handle"].as_str().unwrap();
    let product: serde_json::Value =
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
async fn a_kept_page_is_answered_from_memory_and_with_304() {
    let shop = Shop::open();
    let client = client();
    let url = format!("{}/en/products", shop.url);
    let first = client.get(&url).send().await.unwrap();
    let etag = first.headers()["etag"].clone();
    let body = first.text().await.unwrap();
    let calls = shop.report("storefront")["calls"].as_u64().unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), body);
    assert_eq!(client.get(&url).header("if-none-match", etag).send().await.unwrap().status(), 304);
    assert_eq!(shop.report("storefront")["calls"].as_u64().unwrap(), calls);
}
