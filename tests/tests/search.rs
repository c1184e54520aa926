//! Search over HTTP, and after accidents to its index.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use souk_tests::Shop;
use souk_tests::api::{Api, INSTANT};

async fn find(api: &Api, query: &str) -> Value {
    let (status, found) = api.send("GET", &format!("/search?{query}"), Value::Null).await;
    assert_eq!(status, 200, "{found}");
    found
}

/// Asks until the index has caught up.
async fn until_found(api: &Api, query: &str, total: &Value) {
    for _ in 0..600 {
        let (status, found) = api.send("GET", &format!("/search?{query}"), Value::Null).await;
        assert!([200, 503].contains(&status), "{status} {found}");
        if found["total"] == *total {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{query} never finds {total}");
}

fn handles(found: &Value) -> Vec<&str> {
    found["products"].as_array().unwrap().iter().map(|product| product["handle"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn products_are_found_by_words_of_two_languages_mistakes_and_beginnings() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (_, all) = api.send("GET", "/products?limit=1", Value::Null).await;
    until_found(&api, "limit=1", &all["total"]).await;

    let tea = find(&api, "q=longjing").await;
    let handle = handles(&tea)[0].to_owned();
    assert_eq!((tea["total"].as_u64(), &tea["corrected"]), (Some(1), &json!(false)), "{tea}");
    for (query, corrected) in [("q=%E9%BE%99%E4%BA%95", false), ("q=longj", false), ("q=lonjging", true)] {
        let found = find(&api, query).await;
        assert!(handles(&found).contains(&handle.as_str()), "{query}: {found}");
        assert_eq!(found["corrected"], corrected, "{query}");
    }
    assert_eq!(find(&api, "q=qqqqzzzz").await["total"], 0);
    let (_, words) = api.send("GET", "/suggest?q=long", Value::Null).await;
    assert!(words.as_array().unwrap().iter().any(|word| word.as_str().unwrap().contains("Longjing")), "{words}");

    // A facet's count is what its filter finds.
    let found = find(&api, "q=tea&limit=200").await;
    for (facet, field) in [("categories", "category"), ("brands", "brand")] {
        let value = &found[facet][0];
        let filter = format!("q=tea&{field}={}", value["value"].as_str().unwrap().replace(' ', "%20").replace('&', "%26"));
        assert_eq!(find(&api, &filter).await["total"], value["count"], "{filter}");
    }
    let cheap = find(&api, "price-max=2000&sort=-price&limit=200").await;
    let prices: Vec<i64> = cheap["products"].as_array().unwrap().iter().map(|product| product["price_min"]["amount"].as_i64().unwrap()).collect();
    assert!(!prices.is_empty() && prices.iter().all(|price| *price <= 2_000) && prices.is_sorted_by(|a, b| a >= b), "{prices:?}");

    for (path, word) in [("/en/search?q=longjing", "Longjing"), ("/zh/search?q=longjing", "龙井")] {
        let page = api.http.get(format!("{}{path}", shop.url)).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert!(page.text().await.unwrap().contains(word), "{path}");
    }
}

#[tokio::test]
async fn an_index_that_is_lost_or_behind_catches_up_by_itself() {
    let shop = Shop::open();
    let (_, all) = Api::of(&shop).send("GET", "/products?limit=1", Value::Null).await;
    // In the middle of indexing, most likely.
    let folder = shop.kill();
    let shop = Shop::serve(folder);
    until_found(&Api::of(&shop), "limit=1", &all["total"]).await;
    let folder = shop.kill();
    let index = folder.path().join("store/data/search");
    assert!(index.is_dir());
    fs::remove_dir_all(&index).unwrap();
    let shop = Shop::serve(folder);
    until_found(&Api::of(&shop), "q=longjing", &json!(1)).await;
    until_found(&Api::of(&shop), "limit=1", &all["total"]).await;
}

/// Where the next index would be built lies what cannot be written to.
struct Hindrance(std::path::PathBuf);

impl Hindrance {
    fn lay(store: &Path) -> Self {
        let folder = store.join("data/search/search");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("products.new");
        fs::write(&path, "").unwrap();
        Self(path)
    }

    fn take_away(self) {
        fs::remove_file(self.0).unwrap();
    }
}

#[tokio::test]
async fn while_the_first_index_is_built_search_says_so_and_the_rest_of_the_shop_works() {
    let folder = souk_tests::store();
    let store = folder.path().join("store");
    let _ = fs::remove_dir_all(store.join("data/search"));
    let hindrance = Hindrance::lay(&store);
    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    for (path, says) in [
        ("/api/v1/search?q=tea", "The search is being prepared"),
        ("/api/v1/suggest?q=tea", "The search is being prepared"),
        ("/en/search?q=tea", "The search is being prepared"),
        ("/zh/search?q=tea", "搜索功能正在准备中"),
    ] {
        let answer = api.http.get(format!("{}{path}", shop.url)).header("accept-language", "en").send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((answer.status().as_u16(), header("cache-control").as_deref()), (503, Some("no-store")), "{path}");
        assert!(header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0)), "{path}");
        let body = answer.text().await.unwrap();
        assert!(body.contains(says), "{path}: {body}");
    }
    let (sku, _) = api.buyable(1).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    assert_eq!(api.order(&cart, INSTANT).await.unwrap().0, 201);
    assert_eq!(api.http.get(format!("{}/en/products", shop.url)).send().await.unwrap().status(), 200);

    hindrance.take_away();
    until_found(&api, "q=longjing", &json!(1)).await;
    let page = api.http.get(format!("{}/en/search?q=longjing", shop.url)).send().await.unwrap();
    assert_eq!(page.status(), 200, "the page that said so was not kept");
}

#[tokio::test]
async fn while_an_index_is_built_again_the_one_before_answers() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    until_found(&api, "q=longjing", &json!(1)).await;
    let folder = shop.kill();
    // The next version indexes something else.
    let manifest = folder.path().join("store/plugins/search/plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let changed = text.replace("boost = 2.0", "boost = 3.0");
    assert_ne!(changed, text);
    fs::write(&manifest, changed).unwrap();
    souk_tests::grant(&folder, "search");
    let hindrance = Hindrance::lay(&folder.path().join("store"));
    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    assert_eq!(find(&api, "q=longjing").await["total"], 1);
    hindrance.take_away();
}
