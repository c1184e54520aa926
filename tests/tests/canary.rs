//! Another version of a service for a part of the shoppers.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use souk_tests::api::{Api, INSTANT};
use souk_tests::shoppers::Shoppers;
use souk_tests::{Shop, bare_store, client, copy, replace, root};

/// A version that is kept beside the live one: as that is, but for what `change` does to its folder and its manifest.
fn keep(shop: &Shop, plugin: &str, version: &str, change: impl FnOnce(&PathBuf, String) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let candidate = folder.path().join(plugin);
    copy(&shop.plugin(plugin), &candidate);
    let manifest = fs::read_to_string(candidate.join("plugin.toml")).unwrap();
    let line = manifest.lines().find(|line| line.starts_with("version")).unwrap().to_owned();
    let manifest = change(&candidate, manifest.replace(&line, &format!("version = \"{version}\"")));
    replace(&candidate.join("plugin.toml"), manifest.as_bytes());
    shop.keep(&candidate);
}

fn begin(shop: &Shop, plugin: &str, version: &str, percent: &str) {
    let (tried, said) = shop.says(&["plugin", "try", plugin, version, "--canary", percent]);
    assert!(tried && said.contains("is tried beside"), "{said}");
}

/// A storefront that differs in its style alone.
fn keep_restyled(shop: &Shop) {
    keep(shop, "storefront", "9.0.0", |folder, manifest| {
        let style = folder.join("assets/shop.css");
        let text = fs::read_to_string(&style).unwrap();
        replace(&style, format!("{text}\n/* on trial */").as_bytes());
        manifest
    });
}

struct Shopper {
    url: String,
    client: reqwest::Client,
    cookie: String,
}

impl Shopper {
    /// One who has a session: something is in the cart.
    async fn enter(shop: &Shop, client: &reqwest::Client, sku: &str) -> Self {
        let answer = client
            .post(format!("{}/en/cart/lines", shop.url))
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("sku={sku}&quantity=1"))
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_redirection(), "{}", answer.status());
        let cookie = answer.headers().get("set-cookie").expect("a session").to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self { url: shop.url.clone(), client: client.clone(), cookie }
    }

    /// The style of the page that this shopper sees.
    async fn style(&self, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", self.url)).header("cookie", &self.cookie);
        style_of(request).await
    }
}

async fn style_of(request: reqwest::RequestBuilder) -> String {
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let page = answer.text().await.unwrap();
    let (_, link) = page.split_once("rel=\"stylesheet\" href=\"").unwrap_or_else(|| panic!("{page}"));
    link.split('"').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_the_shoppers_has_another_version_and_keeps_it() {
    const SHOPPERS: usize = 100;
    let shop = Shop::open();
    let client = client();
    let (sku, _) = Api::of(&shop).buyable(1).await;
    let nobody = |id: String| client.get(format!("{}/en/products", shop.url)).header("x-request-id", id);
    let live = style_of(nobody("before-the-trial".into())).await;
    keep_restyled(&shop);
    begin(&shop, "storefront", "9.0.0", "30");
    // Only its code is timed.
    shop.until_optimised("storefront");

    let mut tried = 0;
    let mut on_trial = String::new();
    for number in 0..SHOPPERS {
        let shopper = Shopper::enter(&shop, &client, &sku).await;
        // Of the cart no page is kept, of the products one for all.
        let style = shopper.style("/en/cart").await;
        for path in ["/en/products", "/en/cart", "/en/products"] {
            assert_eq!(shopper.style(path).await, style, "shopper {number}, {path}");
        }
        if style != live {
            tried += 1;
            on_trial = style;
        }
    }
    assert!((8..=55).contains(&tried), "{tried} of {SHOPPERS}");
    let sheet = client.get(format!("{}{on_trial}", shop.url)).send().await.unwrap().text().await.unwrap();
    assert!(sheet.ends_with("/* on trial */"));

    // Who has no session is told by the request, also where a page is kept.
    let mut by_request: BTreeMap<usize, String> = BTreeMap::new();
    for _ in 0..3 {
        for number in 0..50 {
            let style = style_of(nobody(format!("visitor-{number}"))).await;
            assert_eq!(*by_request.entry(number).or_insert_with(|| style.clone()), style, "visitor {number}");
        }
    }
    assert!(by_request.values().any(|style| *style == live) && by_request.values().any(|style| *style == on_trial));

    let (_, said) = shop.says(&["plugin", "trial", "storefront"]);
    assert!(said.contains("9.0.0 for 30 % of the shoppers: ") && said.contains(" 0 failed, "), "{said}");
    let trial = shop.report("storefront")["trial"].clone();
    for field in ["calls", "live_calls", "live_us", "trial_us"] {
        assert!(trial[field].as_u64() > Some(0), "{field}: {trial}");
    }
    for side in ["live", "trial"] {
        let calls = shop.metric(&format!("souk_trial_calls{{plugin=\"storefront\",side=\"{side}\"}}")).await;
        assert!(calls > 0.0, "{side}: {calls}");
    }

    let (ended, said) = shop.says(&["plugin", "trial", "storefront", "--end"]);
    assert!(ended, "{said}");
    for number in by_request.keys() {
        assert_eq!(style_of(nobody(format!("visitor-{number}"))).await, live);
    }
}

/// The plugin whose misdeed is a setting, and the same with another setting kept beside it.
fn misdeed(shop: &Shop, version: &str, misdeed: &str) {
    keep(shop, "hostile-service", version, |_, manifest| manifest.replace("default = \"none\"", &format!("default = \"{misdeed}\"")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_fails_is_not_seen_by_shoppers_and_its_trial_ends() {
    const SHOPPERS: u64 = 12;
    let shop = Shop::serve(bare_store(&["hostile-service"]));
    let client = client();
    let mut visits = 0;
    for (version, what) in [("1.1.0", "trap"), ("1.2.0", "loop"), ("1.3.0", "memory-bomb")] {
        misdeed(&shop, version, what);
        begin(&shop, "hostile-service", version, "100");
        let shoppers: Vec<_> = (0..SHOPPERS).map(|_| tokio::spawn(client.get(format!("{}/hostile/configured", shop.url)).send())).collect();
        let mut told = Vec::new();
        for shopper in shoppers {
            let answer = shopper.await.unwrap().unwrap();
            assert_eq!(answer.status(), 200, "{what}");
            told.push(answer.text().await.unwrap().parse::<u64>().unwrap());
        }
        // What it wrote before it failed is not there: each visit counts once. Those that came together may not have seen each other.
        visits += SHOPPERS + 1;
        assert!(told.into_iter().all(|count| count < visits), "{what}");
        let after_all = client.get(format!("{}/hostile/configured", shop.url)).send().await.unwrap().text().await.unwrap();
        assert_eq!(after_all, visits.to_string(), "{what}");
        shop.until("hostile-service", |report| report["trial"].is_null() && report["trial_problem"].is_string());
        let report = shop.report("hostile-service");
        let why = report["trial_problem"].as_str().unwrap();
        assert!(why.starts_with(&format!("the trial of {version} is over: it failed")), "{report}");
        assert_eq!((&report["version"], &report["taken_back"], &report["failures"]), (&json!("1.0.0"), &Value::Null, &json!(0)), "{report}");
        let (_, said) = shop.says(&["plugin", "trial", "hostile-service"]);
        assert!(said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn what_the_live_version_fails_at_too_is_not_held_against_the_one_on_trial() {
    let shop = Shop::serve(bare_store(&["hostile-service"]));
    misdeed(&shop, "1.1.0", "none");
    begin(&shop, "hostile-service", "1.1.0", "100");
    for _ in 0..20 {
        let answer = client().get(format!("{}/hostile/trap", shop.url)).send().await.unwrap();
        assert_eq!(answer.status(), 500);
    }
    let trial = shop.report("hostile-service")["trial"].clone();
    assert_eq!((&trial["calls"], &trial["failures"], &trial["live_failures"]), (&json!(20), &json!(0), &json!(20)), "{trial}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_goes_on_while_other_plugins_change_and_ends_with_a_promotion() {
    let shop = Shop::open();
    let client = client();
    let shoppers = Shoppers::enter(&shop).await;
    let style = || style_of(client.get(format!("{}/en/products", shop.url)));
    let live = style().await;
    keep_restyled(&shop);
    begin(&shop, "storefront", "9.0.0", "100");
    let tried = style().await;
    assert_ne!(tried, live);
    for version in ["1.0.1", "1.0.2"] {
        for plugin in ["catalog", "discount-bxgy"] {
            shop.set_version(plugin, version);
            assert_eq!(style().await, tried, "{plugin} {version}");
        }
    }
    shop.until_optimised("storefront");
    assert_eq!(style().await, tried);

    // Also in the next process.
    shoppers.leave().await;
    let shop = Shop::serve(shop.close().folder);
    shop.until("storefront", |report| report["trial"]["version"] == "9.0.0");
    let shoppers = Shoppers::enter(&shop).await;
    let style = || style_of(client.get(format!("{}/en/products", shop.url)));
    let (promoted, said) = shop.says(&["plugin", "promote", "storefront", "9.0.0"]);
    assert!(promoted && said.contains("storefront 9.0.0 is live"), "{said}");
    let report = shop.report("storefront");
    assert_eq!((&report["version"], &report["trial"], &report["trial_problem"]), (&json!("9.0.0"), &Value::Null, &Value::Null), "{report}");
    assert_eq!(style().await, tried);
    let (back, said) = shop.says(&["plugin", "rollback", "storefront"]);
    assert!(back, "{said}");
    assert_eq!(style().await, live);
    shoppers.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_that_does_not_go_with_what_is_live_now_ends() {
    let shop = Shop::serve(bare_store(&["hostile-service", "service"]));
    // It calls the other one, which the live version does not.
    keep(&shop, "hostile-service", "1.1.0", |folder, manifest| {
        fs::copy(root().join("target/guests/caller/plugin.wasm"), folder.join("plugin.wasm")).unwrap();
        format!("{manifest}\n[[extension-points]]\ninterface = \"souk:extend/discount\"\nfail = \"closed\"\n")
    });
    begin(&shop, "hostile-service", "1.1.0", "100");
    let (removed, said) = shop.says(&["plugin", "remove", "service"]);
    assert!(removed, "{said}");
    shop.until_gone("service");
    let report = shop.report("hostile-service");
    let why = report["trial_problem"].as_str().unwrap_or_default();
    assert!(report["trial"].is_null() && why.contains("does not go with what is live now") && why.contains("souk:commerce/tax"), "{report}");
    let answer = client().get(format!("{}/hostile/configured", shop.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_placed_through_versions_on_trial() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, price) = api.buyable(20).await;
    let buy = async || {
        let (cart, filled) = api.cart(&sku, 2).await.unwrap();
        assert_eq!(filled["totals"]["subtotal"]["amount"], price * 2, "{filled}");
        let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
        assert_eq!(status, 201, "{placed}");
        let order = api.settled(placed["token"].as_str().unwrap()).await;
        assert_eq!(order["status"], "placed", "{order}");
    };
    let before = api.available(&sku).await;
    for (plugin, percent) in [("cart", "100"), ("pricing", "50"), ("orders", "50")] {
        keep(&shop, plugin, "9.0.0", |_, manifest| manifest);
        begin(&shop, plugin, "9.0.0", percent);
        for _ in 0..3 {
            buy().await;
        }
        let trial = shop.report(plugin)["trial"].clone();
        assert!(trial["calls"].as_u64() > Some(0) && trial["failures"] == 0, "{trial}");
        assert_eq!(trial["live_calls"] == 0, percent == "100", "{trial}");
        assert!(shop.says(&["plugin", "trial", plugin, "--end"]).0);
    }
    assert_eq!(api.available(&sku).await, before - 18);
}

#[tokio::test]
async fn what_cannot_be_tried_is_refused_with_the_reason() {
    let shop = Shop::serve(bare_store(&["hostile-service", "service"]));
    misdeed(&shop, "1.1.0", "none");
    keep(&shop, "hostile-service", "1.2.0", |_, manifest| manifest.replace("/hostile/{misdeed}", "/harm/{misdeed}"));
    keep(&shop, "service", "9.0.0", |_, manifest| manifest);
    let refused = |plugin: &str, version: &str, options: &[&str], says: &str| {
        let (tried, said) = shop.says(&[&["plugin", "try", plugin, version], options].concat());
        assert!(!tried && said.contains(says), "{said}");
    };
    let canary = &["--canary", "10"];
    refused("service", "9.0.0", &[], "would write everything a second time");
    refused("service", "0.1.0", canary, "0.1.0 is what is live");
    refused("hostile-service", "1.2.0", canary, "1.2.0 has other [[routes]] than 1.0.0");
    begin(&shop, "hostile-service", "1.1.0", "10");
    refused("service", "9.0.0", canary, "souk plugin trial hostile-service --end");
    assert_eq!(shop.report("hostile-service")["trial"]["version"], "1.1.0");
    assert!(shop.says(&["plugin", "trial", "hostile-service", "--end"]).0);
    begin(&shop, "service", "9.0.0", "10");
}
