//! Plugins of other days in the shop of today. What contracts may become is in
//! `sdk/build/tests/contracts.rs`; here is what that is worth.

use std::fs;
use std::path::Path;

use serde_json::json;
use souk_tests::api::{Api, INSTANT};
use souk_tests::{Shop, client, copy, grant, install_guest, replace, root, store};

/// What `tests/guests/veteran` answers.
async fn veteran(shop: &Shop, what: &str) -> String {
    client().get(format!("{}/veteran/{what}", shop.url)).send().await.unwrap().text().await.unwrap()
}

async fn until_veteran(shop: &Shop, what: &str, count: &str) {
    for _ in 0..600 {
        if veteran(shop, what).await == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{what}: {}", veteran(shop, what).await);
}

#[tokio::test]
async fn a_plugin_of_the_first_days_works_beside_those_of_today() {
    let store = store();
    install_guest(&store, "veteran");
    let shop = Shop::serve(store);
    for count in ["1", "2", "3"] {
        assert_eq!(veteran(&shop, "visit").await, count);
    }
    until_veteran(&shop, "told", "3").await;

    let api = Api::of(&shop);
    let (sku, price) = api.buyable(1).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (status, coded) = api.send("POST", &format!("{cart}/codes"), json!({ "code": "VETERAN" })).await;
    assert_eq!((status, &coded["totals"]["discount"]["amount"]), (200, &json!(price / 10)), "{coded}");
    let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
    assert_eq!(status, 201, "{placed}");
    until_veteran(&shop, "orders", "1").await;
}

/// Writes into a built component that it was built against another version of an interface or, with a slash at the
/// end, of a package.
fn built_against(plugin: &Path, name: &str, version: &str) {
    const PUBLISHED: &[u8] = b"@0.1.0";
    let path = plugin.join("plugin.wasm");
    let mut component = fs::read(&path).unwrap();
    let is_name = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'-';
    for at in 0..component.len() - name.len() {
        if component[at..].starts_with(name.as_bytes()) {
            let rest = &component[at + name.len()..];
            let end = at + name.len() + rest.iter().take_while(|byte| is_name(byte)).count();
            if component[end..].starts_with(PUBLISHED) {
                component[end + 1..end + PUBLISHED.len()].copy_from_slice(version.as_bytes());
            }
        }
    }
    replace(&path, &component);
}

#[tokio::test]
async fn services_whose_contract_has_grown_answer_those_that_were_built_before() {
    let store = store();
    install_guest(&store, "caller");
    let plugins = store.path().join("store/plugins");
    for plugin in fs::read_dir(root().join("target/plugins")).unwrap().flatten().map(|plugin| plugin.file_name().into_string().unwrap()) {
        built_against(&plugins.join(&plugin), "souk:commerce/", "0.1.1");
        grant(&store, &plugin);
    }
    let shop = Shop::serve(store);
    let linked = shop.report("caller");
    assert!(linked["problem"].is_null() && linked["links"].as_array().unwrap().contains(&json!("tax")), "{linked}");
    let answer = client().get(format!("{}/call/service/2", shop.url)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "\"0\""));
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(1).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    assert_eq!(api.order(&cart, INSTANT).await.unwrap().0, 201);
}

#[tokio::test]
async fn a_plugin_of_later_days_is_refused_with_what_this_host_has() {
    let (store, folder) = (store(), tempfile::tempdir().unwrap());
    install_guest(&store, "veteran");
    let shop = Shop::serve(store);
    let later = folder.path().join("veteran");
    copy(&root().join("target/guests/veteran"), &later);
    built_against(&later, "souk:host/storage", "0.9.0");
    let told = "was built against `souk:host/storage@0.9.0`, and this host has souk:host 0.1.0";
    let (fits, said) = souk_tests::souk_says(&["plugin", "check", later.to_str().unwrap()]);
    assert!(!fits && said.contains(told), "{said}");

    replace(&shop.plugin("veteran").join("plugin.wasm"), &fs::read(later.join("plugin.wasm")).unwrap());
    let manifest = fs::read_to_string(later.join("plugin.toml")).unwrap();
    replace(&shop.plugin("veteran").join("plugin.toml"), manifest.replace("version = \"0.1.0\"", "version = \"0.2.0\"").as_bytes());
    shop.until("veteran", |report| report["problem"].as_str().is_some_and(|problem| problem.contains(told)));
    assert_eq!(veteran(&shop, "visit").await, "1");
}
