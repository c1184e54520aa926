//! Commands that plugins offer the operator: what they take, what follows them, what they say.

use std::fs;

use serde_json::Value;
use souk_tests::api::Api;
use souk_tests::{Shop, install_guest, replace, root, store};

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const PARTLY: Option<i32> = Some(2);
const MISUSED: Option<i32> = Some(64);

/// How `souk plugin run` with these ended, and what it said on either stream.
fn ran(shop: &Shop, arguments: &[&str]) -> (Option<i32>, String) {
    let output = shop.souk(&[&["plugin", "run"], arguments].concat());
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// All commands of the shop's own plugins, with their manifests' entries.
fn own_commands(shop: &Shop) -> Vec<(String, Value)> {
    let output = shop.souk(&["plugin", "run", "--json"]);
    let listed: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(listed.len() > 25, "{listed:?}");
    listed.into_iter().map(|row| (row["command"]["name"].as_str().unwrap().to_owned(), row["command"].clone())).collect()
}

#[test]
fn each_command_declares_its_arguments_and_refuses_others_before_it_does_anything() {
    let shop = Shop::open();
    for (name, command) in own_commands(&shop) {
        let is_list = name.starts_with("list-");
        assert_eq!(is_list, is_list && command["columns"].as_array().is_some_and(|columns| !columns.is_empty()), "{name} says not which columns it lists");
        let arguments = command["arguments"].as_array().unwrap_or_else(|| panic!("{name} says nothing of its arguments"));
        let (code, said) = ran(&shop, &[&name, "no-such-thing=1"]);
        assert_eq!(code, MISUSED, "{name}: {said}");
        assert!(said.contains("`no-such-thing`") && said.contains(&format!("use: souk {}", if is_list { "list" } else { "plugin run" })), "{name}: {said}");
        let (code, said) = ran(&shop, &[&name, "--help"]);
        assert_eq!(code, DONE, "{name}: {said}");
        for argument in arguments {
            let words = &argument["words"];
            assert!(words["en"].is_string() && words["zh-CN"].is_string(), "{name}: {argument}");
            assert!(said.contains(&format!("{}=", argument["name"].as_str().unwrap())) && said.contains(words["en"].as_str().unwrap()), "{name}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn misspelt_doubled_missing_and_malformed_arguments_change_nothing() {
    let shop = Shop::open();
    let (sku, _) = Api::of(&shop).buyable(3).await;
    let sku = format!("sku={sku}");
    let before = shop.run("set-stock", &[&sku]);
    for (arguments, told) in [
        (&["set-stock", &sku, "available=9999", "dryrun=true"][..], "did you mean `dry-run`?"),
        (&["set-stock", &sku, "available=9999", "available=9998"], "`available` is given twice"),
        (&["set-stock", "available=9999"], "`sku` is missing: give sku=SKU"),
        (&["set-stock", &sku, "available=lots"], "available: `lots` is not a whole number"),
        (&["set-stock", &sku, "available=9999", "dry-run=maybe"], "neither yes nor no"),
        (&["set-price", &sku, "price=¥3"], "price: `¥3` is not an amount of CNY: write it like 12.50"),
        (&["set-sale", "id=a", "percent=20", "starts=tomorrow"], "starts: `tomorrow` is not a time"),
        (&["settle-payment", "payment=1", "as=payed"], "did you mean `paid`?"),
        (&["cancel-order", "nummber=1"], "did you mean `number`?"),
        (&["list-orders", "limit=many"], "limit: `many` is not a whole number from 1 to 501"),
        (&["set-stok", &sku], "did you mean `set-stock`?"),
        (&["set-stock", "dry-run"], "write name=value"),
    ] {
        let (code, said) = ran(&shop, arguments);
        assert_eq!(code, MISUSED, "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
    let looked = shop.run("set-stock", &[&sku, "available=9999", "dry-run=yes"]);
    assert_eq!((&looked["available"], &shop.run("set-stock", &[&sku])["available"]), (&before["available"], &before["available"]));
    assert_eq!(shop.run("set-stock", &[&sku, "available=9", "dry-run=no"])["available"], 9, "no means no");

    // A dry run of what knows none is no import.
    let file = shop.folder().join("tax.json");
    fs::write(&file, "{}").unwrap();
    let output = shop.souk(&["store", "import", file.to_str().unwrap(), "--kind", "tax", "--prune"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("`prune` is nothing that it takes"), "{output:?}");
    let (code, said) = (shop.souk(&["stats"]).status.code(), shop.souk(&["list", "order"]));
    assert_eq!((code, said.status.code()), (MISUSED, MISUSED));
    assert!(String::from_utf8_lossy(&said.stderr).contains("did you mean `orders`?"));
    let helped = shop.says(&["help", "set-stock"]).1;
    assert!(helped.contains("use: souk plugin run set-stock sku=SKU [on-hand=N]"), "{helped}");
    assert!(shop.says(&["plugin", "run"]).1.contains("set-stock"));
}

#[test]
fn a_command_that_declares_nothing_is_given_what_it_was_given_before() {
    let folder = store();
    install_guest(&folder, "clerk");
    let shop = Shop::serve(folder);
    assert_eq!(ran(&shop, &["echo", "a=1", "a=2", "b="]), (DONE, "a=1\na=2\nb=\n0 bytes\n".into()));
    let (code, said) = ran(&shop, &["seen", "a=1"]);
    assert_eq!(code, MISUSED, "{said}");
    assert!(said.contains("takes no arguments"), "{said}");
}

/// The clerk's manifest, with `spy` and `stumble` after other commands.
fn follow(shop: &std::path::Path, version: &str, spy: &str, stumble: &str) {
    let path = shop.join("plugins/clerk/plugin.toml");
    let manifest = fs::read_to_string(root().join("target/guests/clerk/plugin.toml")).unwrap().replace("1.0.0", version);
    let manifest = manifest.replace("name = \"spy\"", &format!("name = \"spy\"\nafter = \"{spy}\"")).replace("name = \"stumble\"", &format!("name = \"stumble\"\nafter = \"{stumble}\""));
    replace(&path, manifest.as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_to_follow_a_command_asks_for_it_and_cannot_undo_it() {
    let folder = store();
    install_guest(&folder, "clerk");
    let shop = Shop::serve(folder);
    let (sku, _) = Api::of(&shop).buyable(3).await;
    let set = |shop: &Shop, number: &str| ran(shop, &["set-stock", &format!("sku={sku}"), &format!("available={number}")]);

    // A new version does not go live with more than the one before was granted.
    follow(&shop.folder(), "1.1.0", "set-stock", "set-stock");
    shop.until("clerk", |report| report["problem"].as_str().is_some_and(|problem| problem.contains("follow set-stock with spy")));
    assert_eq!(set(&shop, "40").0, DONE);
    let (granted, said) = shop.says(&["plugin", "grant", "clerk"]);
    assert!(!granted && said.contains("see what you give to the command `set-stock`, its arguments and its file, each time you run it"), "{said}");

    // Withheld, it is as if it had not been asked for.
    let deny = ["--deny", "follow set-stock with spy", "--deny", "follow set-stock with stumble"];
    let (granted, said) = shop.says(&[&["plugin", "grant", "clerk", "--yes"], &deny[..]].concat());
    assert!(granted, "{said}");
    assert_eq!(set(&shop, "41").0, DONE);
    assert_eq!(ran(&shop, &["seen"]).1.trim(), "", "it was told of what it was not granted");

    // Granted, it is given what the command was given; what fails is told apart from what is done.
    let (granted, said) = shop.says(&["plugin", "grant", "clerk", "--yes"]);
    assert!(granted, "{said}");
    let (code, said) = set(&shop, "42");
    assert_eq!(code, PARTLY, "{said}");
    assert!(said.contains("available  42") && said.contains("`set-stock` is done") && said.contains("`stumble` of the plugin `clerk` failed: the clerk stumbles"), "{said}");
    assert!(ran(&shop, &["seen"]).1.contains(&format!("sku={sku}")));
    let trail = shop.says(&["audit"]).1;
    assert!(trail.contains("`set-stock` is done"), "{trail}");

    // It is asked anew where it follows another command.
    follow(&shop.folder(), "1.2.0", "set-price", "set-stock");
    shop.until("clerk", |report| report["problem"].as_str().is_some_and(|problem| problem.contains("follow set-price with spy") && !problem.contains("stumble")));

    // A list is a list, whoever follows it.
    follow(&shop.folder(), "1.3.0", "list-orders", "list-orders");
    shop.until("clerk", |report| report["problem"].as_str().is_some_and(|problem| problem.contains("follow list-orders")));
    grant_now(&shop, "clerk");
    assert!(shop.says(&["list", "orders"]).0);
    assert_eq!(ran(&shop, &["list-orders"]).0, PARTLY);
    // What fails itself is not done, and nothing follows it.
    assert_eq!(ran(&shop, &["stumble"]).0, FAILED);
}

fn grant_now(shop: &Shop, plugin: &str) {
    let (granted, said) = shop.says(&["plugin", "grant", plugin, "--yes"]);
    assert!(granted, "{said}");
}

/// What staff do with an order, as it is printed for them and for programs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_read_lines_and_programs_json() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let (cart, _) = api.cart(&sku, 1).await.unwrap();
        let (status, order) = api.order(&cart, "pay-sandbox/instant").await.unwrap();
        assert_eq!(status, 201, "{order}");
        api.settled(order["token"].as_str().unwrap()).await;
        numbers.push((format!("number={}", order["number"].as_str().unwrap()), order["token"].as_str().unwrap().to_owned()));
    }
    let [(first, _), (second, token)] = &numbers[..] else { panic!("{numbers:?}") };

    let (code, said) = ran(&shop, &["show-order", first]);
    assert_eq!(code, DONE, "{said}");
    assert!(said.lines().any(|line| line.starts_with("created") && line.ends_with(" +08")) && said.contains("timeline:\n"), "{said}");
    assert!(!said.contains(['{', '"']) && !said.contains("_ms") && said.ends_with('\n'), "{said}");
    let as_json: Value = serde_json::from_slice(&shop.souk(&["plugin", "run", "show-order", first, "--json"]).stdout).unwrap();
    assert!(as_json["order"]["created_ms"].is_u64());

    let (code, said) = ran(&shop, &["cancel-order", first, "reason=damaged"]);
    assert!(code == DONE && !said.contains("nothing was changed"), "{said}");
    let (code, said) = ran(&shop, &["cancel-order", first, "reason=again"]);
    assert_eq!(code, DONE, "{said}");
    assert!(said.contains("nothing was changed: it was cancelled before") && said.contains("by      staff") && said.contains("reason  damaged"), "{said}");
    assert!(said.lines().any(|line| line.trim().starts_with("at ") && line.ends_with(" +08")) && !said.contains("again"), "{said}");

    let (code, said) = ran(&shop, &["set-tracking", second, "tracking=RIGHT-1"]);
    assert!(code == FAILED && said.contains("fulfil-order"), "{said}");
    assert_eq!(ran(&shop, &["fulfil-order", second, "tracking=WRONG-1", "note=Handle with care"]).0, DONE);
    let (code, said) = ran(&shop, &["fulfil-order", second, "tracking=RIGHT-1"]);
    assert!(code == FAILED && said.contains("set-tracking"), "{said}");
    let (code, said) = ran(&shop, &["set-tracking", second, "tracking=RIGHT-1"]);
    assert!(code == DONE && said.contains("RIGHT-1 instead of WRONG-1"), "{said}");
    let page = souk_tests::client().get(format!("{}/en/orders/{token}", shop.url)).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("RIGHT-1") && !page.contains("WRONG-1") && page.contains("Handle with care"), "the shopper is shown the right one: {page}");
}
