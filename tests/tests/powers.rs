//! What a stranger may do in the shop: what it was granted, function by function.

use std::fs;

use souk_tests::api::Api;
use souk_tests::{Shop, client, copy, replace, root, souk_says};

/// Waits for the shopper at a page of its own, who never comes.
const SLOW: &str = "pay-sandbox";

/// Puts a guest there as a version of `stranger`.
fn as_stranger(shop: &Shop, guest: &str) {
    let folder = shop.plugin("stranger");
    copy(&root().join("target/guests").join(guest), &folder);
    let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap();
    replace(&folder.join("plugin.toml"), manifest.replace(&format!("name = \"{guest}\""), "name = \"stranger\"").as_bytes());
}

async fn unpaid_order(api: &Api) -> String {
    let (sku, _) = api.buyable(1).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (status, placed) = api.order(&cart, SLOW).await.unwrap();
    assert_eq!(status, 201, "{placed}");
    placed["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_read_an_order_may_not_settle_it_and_whoever_does_is_named() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let token = unpaid_order(&api).await;
    as_stranger(&shop, "reader");
    let (granted, said) = shop.says(&["plugin", "grant", "stranger", "--yes"]);
    assert!(granted && said.contains("read an order whose secret token it has  [call souk:commerce/orders find]"), "{said}");
    assert!(!said.contains("settle") && !said.contains("cancel"), "{said}");
    let read = async || client().get(format!("{}/reader/{token}", shop.url)).send().await.unwrap().status().as_u16();
    assert_eq!(read().await, 200);

    // Its next version asks for more, and waits.
    as_stranger(&shop, "settler");
    shop.until("stranger", |report| report["version"] == "1.0.0" && report["problem"].as_str().is_some_and(|problem| problem.contains("call souk:commerce/orders settle")));
    assert_eq!(read().await, 200);
    assert_eq!(api.until(&token, |_| true).await["status"], "payment-pending");

    // Nothing is let before it is read: it asks, and nobody answers.
    let (granted, said) = shop.says(&["plugin", "grant", "stranger"]);
    assert!(!granted && said.contains("New since version 1.0.0"), "{said}");
    for words in ["say that an order is paid, or refunded", "write notes on orders"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(shop.says(&["plugin", "grant", "stranger", "--yes"]).0);
    let settled = client().get(format!("{}/settler/{token}", shop.url)).send().await.unwrap();
    assert_eq!(settled.status(), 200);

    // What it did is known to be its own, whatever it says of itself.
    let order = api.until(&token, |order| order["status"] == "placed").await;
    let of = |kind: &str| {
        let entries = order["timeline"].as_array().unwrap().iter();
        entries.filter(|entry| entry["kind"] == kind).map(|entry| entry["actor"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((of("order.created"), of("payment.captured"), of("order.placed")), (vec!["checkout".into()], vec!["stranger".into()], vec!["stranger".into()]), "{order}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_ask_for_payments_may_not_ask_for_refunds() {
    let shop = Shop::open();
    copy(&root().join("target/guests/errand"), &shop.plugin("errand"));
    let (granted, said) = shop.says(&["plugin", "grant", "errand", "--yes"]);
    assert!(granted && said.contains("have the plugin `pay-sandbox` do `payment.create` in the outside world"), "{said}");
    let asks = async |target: &str, kind: &'static str| {
        let answer = client().post(format!("{}/errand/{target}", shop.url)).body(kind).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for (target, kind, refused) in [
        ("pay-sandbox", "payment.create", None),
        ("pay-sandbox", "payment.refund", Some("`pay-sandbox payment.refund` is not granted")),
        ("pay-sandbox", "payment.create ", Some("is not granted")),
        ("payment", "payment.create", Some("`payment payment.create` is not granted")),
        // Of itself it may ask whatever it likes.
        ("errand", "payment.refund", None),
    ] {
        let (status, said) = asks(target, kind).await;
        assert_eq!(status, if refused.is_some() { 422 } else { 200 }, "{target} {kind}: {said}");
        assert!(said.contains(refused.unwrap_or("asked")), "{target} {kind}: {said}");
    }

    // A target alone is all that it does, as manifests had it before: more than was granted.
    let path = shop.plugin("errand").join("plugin.toml");
    let manifest = fs::read_to_string(&path).unwrap().replace("1.0.0", "1.1.0").replace("pay-sandbox payment.create", "pay-sandbox");
    replace(&path, manifest.as_bytes());
    shop.until("errand", |report| report["version"] == "1.0.0" && report["problem"].as_str().is_some_and(|problem| problem.contains("effect pay-sandbox.")));
    let (granted, said) = shop.says(&["plugin", "grant", "errand", "--yes"]);
    assert!(granted && said.contains("have the plugin `pay-sandbox` do anything it can in the outside world"), "{said}");
    shop.until("errand", |report| report["version"] == "1.1.0" && report["problem"].is_null());
    assert_eq!(asks("pay-sandbox", "payment.refund").await.0, 200);
}

/// All of a service at once, and some uses not at all; the stranger's long after the others'.
fn as_of_an_earlier_souk(grants: &str) -> String {
    let (mut lines, mut plugin) = (Vec::new(), "");
    for line in grants.lines().filter(|line| !line.starts_with("# sha256")) {
        plugin = line.strip_prefix("[[").map_or(plugin, |name| name.trim_end_matches("]]"));
        let line = match line.trim_start() {
            "by-function = true" | "\"use jobs\"," | "\"use pages\"," => continue,
            // For none of these did it ask.
            newer if ["script", "cookie", "authorization", "priority"].iter().any(|kind| newer.starts_with(&format!("\"{kind} "))) => continue,
            effect if effect.starts_with("\"effect ") => format!("    \"effect {}\",", effect.split([' ', '"', ',']).nth(2).unwrap()),
            given if given.starts_with("given-at") && plugin == "stranger" => "given-at = \"2199-01-01T00:00:00Z\"".to_owned(),
            whole if whole.starts_with("\"call ") || whole.starts_with("\"ask ") => {
                let mut words = whole.split([' ', '.', '"', ',']).filter(|word| !word.is_empty());
                format!("    \"{} {}\",", words.next().unwrap(), words.next().unwrap())
            }
            _ => line.to_owned(),
        };
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_upgrade_the_shop_sells_and_a_strangers_whole_services_are_shown_again() {
    let shop = Shop::open();
    as_stranger(&shop, "settler");
    assert!(shop.says(&["plugin", "grant", "stranger", "--yes"]).0);
    let folder = shop.close().folder;
    let path = folder.path().join("store/plugins/grants.toml");
    let earlier = as_of_an_earlier_souk(&fs::read_to_string(&path).unwrap());
    assert!(earlier.contains("\"call souk:commerce/orders\",") && !earlier.contains("orders settle"), "{earlier}");
    assert!(earlier.contains("\"effect *\",") && !earlier.contains("payment.create") && !earlier.contains("priority"), "{earlier}");
    fs::write(&path, earlier).unwrap();

    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    unpaid_order(&api).await;
    let refused = shop.report("stranger");
    assert!(refused["problem"].as_str().unwrap().contains("was granted all of `souk:commerce/orders` by an earlier Souk"), "{refused}");
    let (granted, said) = shop.says(&["plugin", "grant", "--yes"]);
    assert!(granted && said.contains("say that an order is paid, or refunded"), "{said}");
    shop.until("stranger", |report| report["problem"].is_null());

    // A first-party version that is built anew asks for nothing that it had not.
    shop.set_version("storefront", "0.1.1");
    shop.set_version("payment", "0.1.1");
    unpaid_order(&api).await;
}

#[test]
fn a_manifest_may_not_dress_up_what_its_service_means() {
    let plugin = tempfile::tempdir().unwrap();
    copy(&root().join("target/guests/service"), plugin.path());
    let manifest = fs::read_to_string(plugin.path().join("plugin.toml")).unwrap();
    for (words, problem) in [("look at\\nIt asks for nothing", "one line"), ("", "one line"), (&"x".repeat(200), "one line")] {
        let service = format!("{manifest}\n[[services]]\ninterface = \"souk:commerce/tax\"\ngroups.read = {{ functions = [\"quote\"], words = {{ en = \"{words}\" }} }}\n");
        fs::write(plugin.path().join("plugin.toml"), service).unwrap();
        let (checked, said) = souk_says(&["plugin", "check", &plugin.path().display().to_string()]);
        assert!(!checked && said.contains(problem), "{said}");
    }
}
