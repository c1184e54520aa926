//! What a retailer does with plugins of strangers: look, grant, install, go back.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use souk_tests::api::Api;
use souk_tests::{Shop, built, copy, hostile, replace, root, souk_says};

/// A copy of the example whose files can be changed.
fn tea_time(folder: &Path, version: &str, more: &str) -> PathBuf {
    let copied = folder.join(version);
    copy(&root().join("target/examples/tea-time"), &copied);
    let manifest = copied.join("plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let line = text.lines().find(|line| line.starts_with("version")).unwrap().to_owned();
    // Before the first table.
    replace(&manifest, text.replace(&line, &format!("version = \"{version}\"\n{more}")).as_bytes());
    copied
}

/// Puts a folder in place as a retailer does it by hand.
fn drop_in(shop: &Shop, from: &Path) {
    let to = shop.plugin("tea-time");
    copy(from, &shop.folder().join("plugins/.dropping"));
    let _ = fs::remove_dir_all(&to);
    fs::rename(shop.folder().join("plugins/.dropping"), to).unwrap();
}

async fn discount(api: &Api) -> i64 {
    discount_with(api, "TEATIME").await.1
}

/// Price of one piece, and what the code takes off it.
async fn discount_with(api: &Api, code: &str) -> (i64, i64) {
    let (sku, price) = api.buyable(1).await;
    let (_, cart) = api.send("POST", "/carts", Value::Null).await;
    let path = format!("/carts/{}", cart["id"].as_str().unwrap());
    api.send("POST", &format!("{path}/lines"), json!({ "sku": sku, "quantity": 1 })).await;
    let (_, cart) = api.send("POST", &format!("{path}/codes"), json!({ "code": code })).await;
    (price, cart["totals"]["discount"]["amount"].as_i64().unwrap())
}

fn live_version(shop: &Shop, plugin: &str) -> String {
    shop.report(plugin)["version"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_plugin_does_nothing_before_it_is_granted_what_it_asks_for() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().unwrap());
    let api = Api::of(&shop);
    drop_in(&shop, &tea_time(folder.path(), "0.1.0", ""));
    shop.until("tea-time", |report| report["problem"].as_str().is_some_and(|problem| problem.contains("souk plugin grant tea-time")));
    assert_eq!(discount(&api).await, 0);

    // Nobody says yes: what it asks for is shown, and nothing happens.
    let (granted, said) = shop.says(&["plugin", "grant", "tea-time"]);
    assert!(!granted && said.contains("take part wherever the shop asks for: discount"), "{said}");
    assert_eq!(discount(&api).await, 0);
    let (granted, said) = shop.says(&["plugin", "grant", "tea-time", "--yes"]);
    assert!(granted && said.contains("tea-time 0.1.0 is live"), "{said}");
    assert!(discount(&api).await > 0);

    // Another version that asks for no more goes live by itself, one that does waits.
    drop_in(&shop, &tea_time(folder.path(), "0.1.1", ""));
    shop.until("tea-time", |report| report["version"] == "0.1.1" && report["problem"].is_null());
    drop_in(&shop, &tea_time(folder.path(), "0.2.0", "http.hosts = [\"collector.example\", \"api.example\"]"));
    shop.until("tea-time", |report| report["problem"].as_str().is_some_and(|problem| problem.contains("http collector.example")));
    assert_eq!(live_version(&shop, "tea-time"), "0.1.1");
    let (granted, said) = shop.says(&["plugin", "grant", "tea-time", "--yes", "--deny", "http collector.example"]);
    assert!(granted && said.contains("New since version 0.1.0") && said.contains("✗ send data to collector.example"), "{said}");
    assert_eq!(live_version(&shop, "tea-time"), "0.2.0");
    // What it cannot do without, and what it does not ask for, cannot be withheld.
    for (power, says) in [("provide souk:extend/discount", "cannot do without"), ("secret x", "does not ask for"), ("fly", "is no power")] {
        let (granted, said) = shop.says(&["plugin", "grant", "tea-time", "--yes", "--deny", power]);
        assert!(!granted && said.contains(says), "{said}");
    }

    let (revoked, said) = shop.says(&["plugin", "revoke", "tea-time"]);
    assert!(revoked, "{said}");
    shop.until("tea-time", |report| report["problem"].as_str().is_some_and(|problem| problem.contains("its grants were revoked by ") && problem.contains(" +08.")));
    assert_eq!(discount(&api).await, 0);
    let (again, said) = shop.says(&["plugin", "revoke", "tea-time"]);
    assert!(!again && said.contains("has no grants"), "{said}");
    // One that others need stays, and the list says for whom.
    let (revoked, said) = shop.says(&["plugin", "revoke", "catalog"]);
    assert!(revoked, "{said}");
    shop.until("catalog", |report| report["problem"].as_str().is_some_and(|problem| problem.contains("souk:commerce/catalog")));
    assert_eq!(live_version(&shop, "catalog"), "0.1.0");
}

#[tokio::test]
async fn grants_that_cannot_be_read_change_nothing_and_open_nothing() {
    let mut shop = Shop::open();
    replace(&shop.folder().join("plugins/grants.toml"), b"[[catalog]]\nversion = 1");
    let (granted, said) = shop.says(&["plugin", "grant", "catalog", "--yes"]);
    assert!(!granted && said.contains("grants.toml"), "{said}");
    assert!(Api::of(&shop).buyable(1).await.1 > 0, "the shop goes on with what is live");
    assert_eq!(shop.stop(), Some(0));
    let (served, said) = shop.says(&["serve"]);
    assert!(!served && said.contains("grants.toml"), "{said}");
}

#[tokio::test]
async fn a_version_is_tried_beside_the_live_one() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().unwrap());
    let api = Api::of(&shop);
    drop_in(&shop, &tea_time(folder.path(), "1.0.0", ""));
    assert!(shop.says(&["plugin", "grant", "tea-time", "--yes"]).0);
    let (price, off) = discount_with(&api, "TEATIME").await;
    let doubled = tea_time(folder.path(), "2.0.0", "");
    let manifest = fs::read_to_string(doubled.join("plugin.toml")).unwrap();
    replace(&doubled.join("plugin.toml"), manifest.replace("default = 10", "default = 20").as_bytes());
    shop.keep(&doubled);
    assert_eq!(live_version(&shop, "tea-time"), "1.0.0");

    let (tried, said) = shop.says(&["plugin", "try", "tea-time", "2.0.0"]);
    assert!(tried && said.contains("tried beside 1.0.0"), "{said}");
    assert_eq!(discount(&api).await, off, "nothing of a shadow is used");
    shop.until("tea-time", |report| report["trial"]["different"].as_u64().is_some_and(|different| different > 0));
    let (_, said) = shop.says(&["plugin", "trial", "tea-time"]);
    assert!(said.contains("2.0.0 as a shadow") && said.contains("20 % off") && said.contains("10 % off"), "{said}");

    let (tried, said) = shop.says(&["plugin", "try", "tea-time", "2.0.0", "--canary", "100"]);
    assert!(tried, "{said}");
    assert_eq!(discount(&api).await, price / 5);
    let trial = &shop.report("tea-time")["trial"];
    assert!(trial["calls"].as_u64() > Some(0) && trial["live_calls"] == 0, "{trial}");
    assert!(shop.says(&["plugin", "trial", "tea-time", "--end"]).0);
    assert_eq!(discount(&api).await, off);
    let (promoted, said) = shop.says(&["plugin", "promote", "tea-time", "2.0.0"]);
    assert!(promoted, "{said}");
    assert_eq!(discount(&api).await, price / 5);
}

#[tokio::test]
async fn a_canary_that_fails_is_taken_away_and_no_shopper_sees_it() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().unwrap());
    let api = Api::of(&shop);
    shop.misbehave("1.0.0", "none");
    let bad = folder.path().join("bad");
    hostile(&bad, "1.1.0", "trap");
    shop.keep(&bad);
    let (tried, said) = shop.says(&["plugin", "try", "hostile", "1.1.0", "--canary", "100"]);
    assert!(tried, "{said}");
    for _ in 0..5 {
        discount(&api).await;
    }
    shop.until("hostile", |report| report["trial"].is_null() && report["trial_problem"].as_str().is_some_and(|why| why.contains("the trial of 1.1.0 is over")));
    // The live version has answered all along: nothing of it was switched off or taken back.
    let report = shop.report("hostile");
    assert_eq!((&report["version"], &report["problem"], &report["taken_back"]), (&json!("1.0.0"), &Value::Null, &Value::Null));
}

#[tokio::test]
async fn the_operator_says_what_happens_when_a_provider_fails() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().unwrap());
    let api = Api::of(&shop);
    drop_in(&shop, &tea_time(folder.path(), "0.1.0", ""));
    assert!(shop.says(&["plugin", "grant", "tea-time", "--yes"]).0);
    let (sku, _) = api.buyable(1).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (_, coded) = api.send("POST", &format!("{cart}/codes"), json!({ "code": "TEATIME" })).await;
    let discount_of = |cart: &Value| cart["totals"]["discount"]["amount"].as_i64().unwrap();
    let tea = discount_of(&coded);
    // Discounts that twelve looks at the same cart show.
    let looks = async || {
        let mut discounts = BTreeSet::new();
        for _ in 0..12 {
            let (status, cart) = api.send("GET", &cart, Value::Null).await;
            assert_eq!(status, 200, "{cart}");
            discounts.insert(discount_of(&cart));
        }
        discounts
    };
    let policy = |options: &[&str]| {
        let (set, said) = shop.says(&[&["plugin", "policy", "discount"], options].concat());
        assert!(set && said.contains("souk:extend/discount"), "{said}");
        said
    };

    shop.misbehave("1.1.0", "fail-every-fourth-time");
    let discounts = looks().await;
    let both = *discounts.last().unwrap();
    assert!(tea > 0 && both > tea, "{discounts:?}");
    assert_eq!(discounts, [tea, both].into(), "as declared, its part is left out");
    let said = policy(&["--fail", "last-good", "--deadline-ms", "150"]);
    assert!(said.contains("last-good") && said.contains("150") && said.contains("changed by you"), "{said}");
    looks().await;
    assert_eq!(looks().await, [both].into(), "its last answer holds");
    policy(&["--fail", "closed"]);
    assert_eq!(looks().await, [0, both].into(), "all or none");
    assert!(!policy(&[]).contains("changed by you"));

    shop.misbehave("1.2.0", "trap");
    assert_eq!(looks().await, [tea].into());
    let report = shop.report("hostile");
    assert_eq!((&report["switched_off"][0]["point"], &report["switched_off"][0]["function"]), (&json!("souk:extend/discount"), &json!("propose")), "{report}");
    let (_, said) = shop.says(&["plugin", "points"]);
    assert!(said.contains("hostile (propose switched off for"), "{said}");

    for (arguments, says) in [(&["no-such"][..], "called are: souk:extend/discount"), (&["discount", "--deadline-ms", "0"], "1..=30000"), (&["discount", "--fail", "half"], "last-good")] {
        let (set, said) = shop.says(&[&["plugin", "policy"], arguments].concat());
        assert!(!set && said.contains(says), "{said}");
    }
    replace(&shop.folder().join("plugins/policies.toml"), b"[discount]\nfail = 1");
    let (set, said) = shop.says(&["plugin", "policy", "discount", "--fail", "closed"]);
    assert!(!set && said.contains("policies.toml"), "{said}");
}

/// Where a begun plugin's manifest finds the SDK.
const BROUGHT_SDK: &str = "path = \".souk/sdk\"";

/// Begins a plugin, lets `change` what it likes, tests it natively and builds it.
fn begin(folder: &Path, kind: &str, name: &str, out: &Path, change: impl FnOnce(&Path)) {
    // Where their dependencies have been compiled already, for this machine and for WebAssembly.
    let target = root().join("plugins/target").display().to_string();
    let project = folder.join(name);
    let shown = project.display().to_string();
    let (made, said) = souk_says(&["plugin", "new", &shown, "--kind", kind]);
    assert!(made, "{said}");
    // What it does not use is not fetched: that is most of what a first test took.
    let has_html = fs::read_to_string(project.join("Cargo.toml")).unwrap().contains("maud");
    let generates = fs::read_to_string(project.join(".souk/sdk/Cargo.toml")).unwrap().contains("wit-bindgen-rust");
    let is_generated = root().join("target/sdk/bindings.rs").exists();
    assert_eq!((has_html, generates), (kind == "page", kind == "service" || !is_generated), "{kind}");
    change(&project);
    // One builds the SDK that `new` has put there, and so does who has contracts for it; the others take it where it is compiled.
    if kind != "discount" && !project.join("wit").exists() {
        let manifest = fs::read_to_string(project.join("Cargo.toml")).unwrap();
        assert!(manifest.contains(BROUGHT_SDK), "{manifest}");
        fs::write(project.join("Cargo.toml"), manifest.replace(BROUGHT_SDK, &format!("path = \"{}\"", root().join("sdk").display()))).unwrap();
    }
    // In the versions of that, and not in those of the day.
    fs::copy(root().join("plugins/Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let mut cargo = std::process::Command::new("cargo");
    // Not examples in documentation: cargo looks for them when it has let go of its lock, and another test builds.
    cargo.args(["test", "--lib", "--tests", "--target-dir", &target]).current_dir(&project);
    // The harness knows no other folder for cargo's than the usual one.
    let souk = folder.join("souk.sh");
    fs::write(&souk, format!("#!/bin/sh\nexec {} \"$@\" --target-dir {target}\n", built().join("souk").display())).unwrap();
    fs::set_permissions(&souk, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let tested = cargo.env_remove("CARGO_INCREMENTAL").env("SOUK", &souk).output().unwrap();
    assert!(tested.status.success(), "{kind}: {}{}", String::from_utf8_lossy(&tested.stdout), String::from_utf8_lossy(&tested.stderr));
    let (built, said) = souk_says(&["plugin", "build", &shown, "--out", &out.display().to_string(), "--target-dir", &target]);
    assert!(built, "{kind}: {said}");
    let list: Value = serde_json::from_slice(&fs::read(out.join(name).join("sbom.cdx.json")).unwrap()).unwrap();
    assert_eq!(list["metadata"]["component"]["name"], name);
    assert!(list["components"].as_array().unwrap().iter().any(|part| part["name"] == "souk-sdk"), "{list}");
}

fn passes_its_scenarios(built: &Path, project: &Path) {
    let scenarios = project.join("scenarios");
    let (passed, said) = souk_says(&["plugin", "test", built.to_str().unwrap(), "--scenarios", scenarios.to_str().unwrap()]);
    assert!(passed && said.starts_with("pass  "), "{said}");
}

/// As the guide says it, with what the commands print.
#[test]
fn a_new_plugin_passes_its_test_builds_and_goes_live() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().unwrap());
    let out = shop.folder().join("plugins");
    for kind in ["discount", "page", "subscriber"] {
        let name = format!("my-{kind}");
        begin(folder.path(), kind, &name, &out, |project| {
            fs::create_dir(project.join("tests")).unwrap();
            fs::write(project.join("tests/scenarios.rs"), "#[test]\nfn scenarios() {\n    souk_sdk::testing::scenarios();\n}\n").unwrap();
        });
        let (granted, said) = shop.says(&["plugin", "grant", &name, "--yes"]);
        assert!(granted && said.contains("is live"), "{said}");
    }
    assert_eq!(shop.run("count-orders", &[]), 0);
    let manifest = fs::read_to_string(shop.plugin("my-discount").join("plugin.toml")).unwrap();
    assert!(manifest.contains("[config.percent]") && manifest.contains("max = 90"), "{manifest}");
    let (made, said) = souk_says(&["plugin", "new", "My_Plugin"]);
    assert!(!made && said.contains("lower-case"), "{said}");
}

#[tokio::test]
async fn a_new_service_is_called_by_another_plugin_that_has_its_contract() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().unwrap());
    let out = shop.folder().join("plugins");
    begin(folder.path(), "service", "my-service", &out, |_| {});
    passes_its_scenarios(&out.join("my-service"), &folder.path().join("my-service"));
    let contract = folder.path().join("my-service/wit");
    begin(folder.path(), "page", "my-points", &out, |project| {
        copy(&contract, &project.join("wit"));
        let (renewed, said) = souk_says(&["plugin", "sdk", &project.display().to_string()]);
        assert!(renewed && said.contains("generates what its contracts need"), "{said}");
        assert!(fs::read_to_string(project.join(".souk/sdk/Cargo.toml")).unwrap().contains("wit-bindgen-rust"));
        // With the SDK that was compiled for it just now.
        let manifest = fs::read_to_string(project.join("Cargo.toml")).unwrap();
        fs::write(project.join("Cargo.toml"), manifest.replace(BROUGHT_SDK, "path = \"../my-service/.souk/sdk\"")).unwrap();
        let code = "use souk_sdk::points::balance;\nuse souk_sdk::web::{self, Json, Query, Request, Response};\n\
            struct Page;\n\
            #[derive(serde::Deserialize)]\nstruct Asked { customer: String }\n\
            impl web::Guest for Page { fn handle(request: Request) -> Response { web::call(points, &request) } }\n\
            fn points(Query(asked): Query<Asked>) -> Json<u64> { Json(balance::get(&asked.customer)) }\n\
            souk_sdk::export!(Page: web::handler);\n";
        fs::write(project.join("src/lib.rs"), code).unwrap();
    });
    let (granted, said) = shop.says(&["plugin", "grant", "my-service", "my-points", "--yes"]);
    assert!(granted && said.contains("be the shop's one balance"), "{said}");
    assert_eq!(shop.run("add-points", &["customer=lilei", "points=10"]), 10);
    let answer = souk_tests::client().get(format!("{}/my-points?customer=lilei", shop.url)).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "10");
}

/// An order is paid through the template of a payment method as it is, but for the company's address.
#[tokio::test]
async fn a_new_payment_method_takes_the_money_of_an_order() {
    use hmac::{Hmac, KeyInit, Mac};
    const NAME: &str = "my-payment-method";
    let (store, folder) = (souk_tests::store(), tempfile::tempdir().unwrap());
    let of_store = store.path().join("store");
    begin(folder.path(), "payment-method", NAME, &of_store.join("plugins"), |project| {
        let manifest = project.join("plugin.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replace("api.pay.example", "shop.internal")).unwrap();
    });
    // With the company's address as it was.
    let as_begun = folder.path().join("as-begun");
    copy(&of_store.join("plugins").join(NAME), &as_begun);
    let manifest = fs::read_to_string(as_begun.join("plugin.toml")).unwrap();
    fs::write(as_begun.join("plugin.toml"), manifest.replace("shop.internal", "api.pay.example")).unwrap();
    passes_its_scenarios(&as_begun, &folder.path().join(NAME));
    souk_tests::install_guest(&store, "acquirer");
    souk_tests::grant(&store, NAME);
    let settings = fs::read_to_string(of_store.join("souk.toml")).unwrap();
    fs::write(of_store.join("souk.toml"), format!("{settings}\n[config.{NAME}]\napi = \"http://shop.internal/acquirer\"\n")).unwrap();
    let secrets = of_store.join("secrets.toml");
    fs::write(&secrets, format!("{NAME}-api-key = \"api key\"\n{NAME}-notification-key = \"notification key\"\n")).unwrap();
    fs::set_permissions(&secrets, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();

    let shop = Shop::serve(store);
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(1).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (status, placed) = api.order(&cart, NAME).await.unwrap();
    assert_eq!(status, 201, "{placed}");
    let token = placed["token"].as_str().unwrap();
    let order = api.until(token, |order| order["payment"]["redirect_url"].is_string()).await;
    assert_eq!(order["payment"]["redirect_url"], "https://pay.example/page");

    let payment = placed["payment_id"].as_str().unwrap();
    let told = json!({ "id": "n1", "at_ms": 1, "charge": {
        "id": format!("acquired-{payment}/create"), "payment_id": payment, "status": "captured",
        "amount": placed["total"]["amount"], "currency": placed["total"]["currency"],
    } })
    .to_string();
    let notify = async |key: &str| {
        let sent_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap().chain_update(format!("{sent_ms}.{told}")).finalize();
        let signature = format!("t={sent_ms},v1={}", hex::encode(mac.into_bytes()));
        let sent = api.http.post(format!("{}/payments/{NAME}/notify", shop.url)).header("x-signature", signature).body(told.clone()).send();
        sent.await.unwrap().status().as_u16()
    };
    assert_eq!(notify("another key").await, 401);
    assert_eq!(notify("notification key").await, 204);
    assert_eq!(notify("notification key").await, 204, "it is repeated");
    let order = api.settled(token).await;
    assert_eq!((&order["status"], &order["payment"]["status"]), (&json!("placed"), &json!("captured")), "{order}");
}

/// Plugins in other languages, built with those languages' own tools.
#[tokio::test]
async fn discounts_are_written_in_javascript_and_python_too() {
    let examples = ["tea-time-js", "tea-time-py"].map(|name| (name, root().join("target/examples").join(name)));
    let (built, missing): (Vec<_>, Vec<_>) = examples.into_iter().partition(|(_, folder)| folder.join("plugin.wasm").exists());
    missing.iter().for_each(|(name, _)| eprintln!("{name} is not built: its language is not here"));
    let shop = Shop::open();
    let api = Api::of(&shop);
    for (name, folder) in built {
        copy(&folder, &shop.plugin(name));
        let (granted, said) = shop.says(&["plugin", "grant", name, "--yes"]);
        assert!(granted && said.contains("is live"), "{said}");
        let code = name.replace('-', "").to_uppercase();
        let (price, off) = discount_with(&api, &code).await;
        assert_eq!(off, (price + 5) / 10, "{name}");
        assert_eq!(shop.report(name)["failures"], 0);
    }
}

#[tokio::test]
async fn bundles_are_taken_from_those_who_are_trusted_and_only_whole() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let source = tea_time(folder.path(), "0.1.0", "").display().to_string();
    let here = |arguments: &[&str]| {
        let (done, said) = souk_says(arguments);
        assert!(done, "{arguments:?}: {said}");
        said.lines().next().unwrap_or_default().to_owned()
    };
    let key = here(&["plugin", "key", &path("acme.key")]);
    here(&["plugin", "check", &source]);
    here(&["plugin", "pack", &source, "--key", &path("acme.key"), "--out", &path("signed.souk")]);
    here(&["plugin", "pack", &source, "--out", &path("unsigned.souk")]);
    let install = |name: &str, more: &[&str]| shop.says(&[&["plugin", "install", &path(name), "--grant"], more].concat());

    let (installed, said) = install("signed.souk", &[]);
    assert!(!installed && said.contains(&key), "{said}");
    let (installed, said) = install("unsigned.souk", &[]);
    assert!(!installed && said.contains("--unsigned"), "{said}");
    let settings = shop.folder().join("souk.toml");
    let text = fs::read_to_string(&settings).unwrap();
    replace(&settings, format!("{text}\n[plugins.publishers]\nacme = \"{key}\"\n").as_bytes());

    // Every sixty-fourth byte, one after the other.
    let good = fs::read(path("signed.souk")).unwrap();
    for place in (0..good.len()).step_by((good.len() / 64).max(1)) {
        let mut bad = good.clone();
        bad[place] ^= 0x40;
        fs::write(path("bad.souk"), bad).unwrap();
        let (installed, said) = install("bad.souk", &["--unsigned"]);
        assert!(!installed, "byte {place}: {said}");
    }
    assert!(shop.find("tea-time").is_none());

    let (installed, said) = install("signed.souk", &[]);
    assert!(installed && said.contains("signed by acme") && said.contains("is live"), "{said}");
    assert_eq!(shop.report("tea-time")["publisher"], "acme");
    assert!(discount(&Api::of(&shop)).await > 0);
    // The same version, from nobody: shown as such.
    let (installed, said) = install("unsigned.souk", &["--unsigned"]);
    assert!(installed, "{said}");
    assert_eq!(shop.report("tea-time")["publisher"], "unsigned");
}

#[tokio::test]
async fn versions_are_gone_back_to_in_one_step() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().unwrap());
    for version in ["1.0.0", "1.1.0"] {
        drop_in(&shop, &tea_time(folder.path(), version, ""));
        let (granted, said) = shop.says(&["plugin", "grant", "tea-time", "--yes"]);
        assert!(granted && said.contains(version), "{said}");
    }
    for (step, now) in [(&["rollback", "tea-time"][..], "1.0.0"), (&["promote", "tea-time", "1.1.0"], "1.1.0"), (&["rollback", "tea-time"], "1.0.0")] {
        let (done, said) = shop.says(&[&["plugin"], step].concat());
        assert!(done && said.contains(&format!("tea-time {now} is live")), "{said}");
        assert_eq!(live_version(&shop, "tea-time"), now);
    }
    let (_, said) = shop.says(&["plugin", "versions", "tea-time"]);
    assert!(said.contains("1.0.0-") && said.contains("1.1.0-") && said.contains("live since"), "{said}");
    let (done, said) = shop.says(&["plugin", "promote", "tea-time", "7.0.0"]);
    assert!(!done && said.contains("1.1.0-"), "{said}");

    let (removed, said) = shop.says(&["plugin", "remove", "tea-time"]);
    assert!(removed, "{said}");
    shop.until_gone("tea-time");
    let (done, said) = shop.says(&["plugin", "promote", "tea-time", "1.1.0"]);
    assert!(done, "{said}");
    assert!(discount(&Api::of(&shop)).await > 0);
}

#[test]
fn a_list_ends_with_its_reader() {
    use std::os::unix::process::ExitStatusExt;
    let output = Shop::open().souk_unread(&["plugin", "list"]);
    const SIGPIPE: i32 = 13;
    assert_eq!(output.status.signal(), Some(SIGPIPE), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An operator who builds a plugin says so once. What is built again is live; what asks for more waits as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_builds_again_needs_no_second_grant_unless_it_asks_for_more() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(1).await;
    shop.misbehave("1.0.0", "none");
    let (marked, said) = shop.says(&["plugin", "grant", "--yes", "--own", "hostile"]);
    assert!(marked, "{said}");
    // The same version with other bytes.
    hostile(&shop.plugin("hostile"), "1.0.0", "html-in-a-title");
    while api.cart(&sku, 1).await.unwrap().1["totals"]["discount"]["amount"] == 0 {
        tokio::task::yield_now().await;
    }
    let manifest = shop.plugin("hostile").join("plugin.toml");
    let more = std::fs::read_to_string(&manifest).unwrap().replace("[http]", "[[commands]]\nname = \"more\"\n\n[http]");
    replace(&manifest, more.as_bytes());
    shop.until("hostile", |report| report["problem"].as_str().is_some_and(|problem| problem.contains("command more")));
}
