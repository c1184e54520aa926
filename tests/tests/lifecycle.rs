//! Plugins come, change, fail and go while customers are there.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use souk_tests::api::Api;
use souk_tests::{Shop, client, copy, replace, store_without_pages};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_are_swapped_under_load_without_a_failed_request() {
    const CLIENTS: usize = 32;
    const SWAPS: usize = 20;
    let shop = Arc::new(Shop::serve(store_without_pages()));
    let client = client();
    let listing: serde_json::Value = client.get(format!("{}/api/v1/products?limit=50", shop.url)).send().await.unwrap().json().await.unwrap();
    let handles: Vec<String> = listing["products"].as_array().unwrap().iter().map(|p| p["handle"].as_str().unwrap().to_owned()).collect();
    let (sku, price) = Api::of(&shop).buyable(3).await;
    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let shoppers: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (client, url, handles, done, served) = (client.clone(), shop.url.clone(), handles.clone(), done.clone(), served.clone());
            let (api, sku) = (Api::of(&shop), sku.clone());
            tokio::spawn(async move {
                for turn in number.. {
                    if done.load(Relaxed) {
                        return;
                    }
                    if turn % 8 == 0 {
                        let (_, cart) = api.cart(&sku, 2).await.unwrap();
                        let amount = |field: &str| cart["totals"][field]["amount"].as_i64().unwrap();
                        assert_eq!(amount("subtotal"), price * 2, "{cart}");
                        assert_eq!(amount("total"), amount("subtotal") - amount("discount") + amount("shipping") + amount("tax_added"), "{cart}");
                        served.fetch_add(1, Relaxed);
                        continue;
                    }
                    let handle = &handles[turn % handles.len()];
                    let path = match turn % 3 {
                        0 => format!("/en/p/{handle}"),
                        1 => format!("/api/v1/products/{handle}"),
                        _ => format!("/zh/products?page={}", turn % 10 + 1),
                    };
                    let answer = client.get(format!("{url}{path}")).send().await.unwrap();
                    assert_eq!(answer.status(), 200, "{path}");
                    let body = answer.text().await.unwrap();
                    assert!(turn % 3 == 2 || body.contains(handle.as_str()), "{path}");
                    served.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    for swap in 1..=SWAPS {
        for plugin in ["api", "storefront", "catalog", "promotions", "discount-bxgy"] {
            let shop = shop.clone();
            tokio::task::spawn_blocking(move || shop.set_version(plugin, &format!("1.{swap}.0"))).await.unwrap();
        }
    }
    done.store(true, Relaxed);
    for shopper in shoppers {
        shopper.await.unwrap();
    }
    assert!(served.load(Relaxed) > 1_000, "{served:?}");
}

/// A graph that is kept alive costs megabytes of code and memories, so forty of
/// them would be seen. The first rounds fill the allocator's reserves.
const SPARE_MIB: f64 = 100.0;

#[tokio::test]
async fn replaced_versions_give_their_memory_back() {
    let shop = Shop::open();
    let client = client();
    let mut settled_mib = 0.0;
    for round in 1..=13 {
        for plugin in ["api", "storefront", "catalog", "promotions", "discount-bxgy"] {
            shop.set_version(plugin, &format!("1.{round}.0"));
            for path in ["/api/v1/products?limit=5", "/en/products"] {
                assert_eq!(client.get(format!("{}{path}", shop.url)).send().await.unwrap().status(), 200);
            }
        }
        if round == 5 {
            settled_mib = shop.resident_mib();
        }
    }
    let mib = shop.resident_mib();
    assert!(mib < settled_mib + SPARE_MIB, "{settled_mib} MiB after 25 swaps, {mib} MiB after 65");
}

#[tokio::test]
async fn trials_that_end_give_their_memory_back() {
    let shop = Shop::open();
    let client = client();
    let candidate = tempfile::tempdir().unwrap();
    copy(&shop.plugin("storefront"), candidate.path());
    let manifest = fs::read_to_string(candidate.path().join("plugin.toml")).unwrap();
    replace(&candidate.path().join("plugin.toml"), manifest.replace("version = \"0.1.0\"", "version = \"9.0.0\"").as_bytes());
    shop.keep(candidate.path());
    let mut settled_mib = 0.0;
    for round in 1..=45 {
        let (tried, said) = shop.says(&["plugin", "try", "storefront", "9.0.0", "--canary", "50"]);
        assert!(tried, "{said}");
        for path in ["/api/v1/products?limit=5", "/en/products", "/en/cart", "/en/search?q=tea"] {
            assert_eq!(client.get(format!("{}{path}", shop.url)).send().await.unwrap().status(), 200);
        }
        assert!(shop.says(&["plugin", "trial", "storefront", "--end"]).0);
        if round == 5 {
            settled_mib = shop.resident_mib();
        }
    }
    let mib = shop.resident_mib();
    assert!(mib < settled_mib + SPARE_MIB, "{settled_mib} MiB after 5 trials, {mib} MiB after 45");
}

#[tokio::test]
async fn a_plugin_that_does_not_fit_stays_out_and_says_why() {
    let shop = Shop::open();
    let client = client();
    let sells = async || client.get(format!("{}/api/v1/products?limit=1", shop.url)).send().await.unwrap().status() == 200;

    // Not a component at all.
    let component = shop.plugin("catalog").join("plugin.wasm");
    let good = fs::read(&component).unwrap();
    replace(&component, b"not wasm");
    shop.until("catalog", |report| report["problem"].as_str().is_some_and(|p| p.contains("not a component")));
    assert!(sells().await);
    // Cut off in the middle.
    replace(&component, &good[..good.len() / 2]);
    shop.until("catalog", |report| report["problem"].is_string());
    assert!(sells().await);
    replace(&component, &good);
    shop.until("catalog", |report| report["problem"].is_null());

    // Others need it: taking it away is refused, with their names.
    let away = shop.folder().join("catalog-away");
    fs::rename(shop.plugin("catalog"), &away).unwrap();
    shop.until("catalog", |report| report["problem"].as_str().is_some_and(|p| p.contains("souk:commerce/catalog")));
    assert!(sells().await);
    fs::rename(&away, shop.plugin("catalog")).unwrap();
    shop.until("catalog", |report| report["problem"].is_null());

    // A route that another plugin has.
    let manifest = shop.plugin("api").join("plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    replace(&manifest, text.replace("path = \"/api/v1/categories\"", "path = \"/robots.txt\"").as_bytes());
    assert!(!shop.says(&["plugin", "grant", "api", "--yes"]).0, "it is granted, and still not live");
    shop.until("api", |report| report["problem"].as_str().is_some_and(|p| p.contains("storefront")));
    assert!(sells().await);

    // Settings that are wrong.
    replace(&manifest, text.replace("[limits]\n", "[limits]\nmemory-mib = 100000\n").as_bytes());
    shop.until("api", |report| report["problem"].as_str().is_some_and(|p| p.contains("memory-mib")));
    assert!(sells().await);
}
