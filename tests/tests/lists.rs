//! What a shop has many of is listed on one screen, and whole as JSON.

use serde_json::Value;
use souk_tests::api::Api;
use souk_tests::{Shop, install_guest, souk_says_with, store};

fn listed(shop: &Shop, arguments: &[&str], columns: &str) -> String {
    let folder = shop.folder();
    let all = [&["list"], arguments, &["--store", folder.to_str().unwrap()]].concat();
    let (listed, said) = souk_says_with(&all, [("COLUMNS", columns)]);
    assert!(listed, "{arguments:?}: {said}");
    said
}

/// Cells of a terminal, near enough: Chinese letters take two.
fn width(line: &str) -> usize {
    line.chars().map(|c| if ('\u{2e80}'..='\u{ffef}').contains(&c) { 2 } else { 1 }).sum()
}

/// What the line says that tells how to go on, as a shell would read it.
fn more(said: &str) -> Option<Vec<String>> {
    let line = said.lines().find_map(|line| line.strip_prefix("more: souk "))?;
    let output = std::process::Command::new("sh").args(["-c", &format!("printf '%s\\n' {line}")]).output().unwrap();
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// A shop that has some of everything.
async fn full_shop() -> Shop {
    let folder = store();
    install_guest(&folder, "clerk");
    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    for _ in 0..3 {
        let (cart, _) = api.cart(&sku, 1).await.unwrap();
        let (status, order) = api.order(&cart, "pay-sandbox").await.unwrap();
        assert_eq!(status, 201, "{order}");
        assert!(order["number"].is_string());
    }
    for id in ["spring-cleaning-of-the-whole-shop", "singles-day", "summer"] {
        shop.says(&["plugin", "run", "set-sale", &format!("id={id}"), "percent=20", "starts=2099-11-11T00:00", "sku=GT-50,GT-100,A,B,C,D,E,F"]);
    }
    shop
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_list_keeps_what_names_a_row_and_goes_on_where_it_ended() {
    let shop = full_shop().await;
    let lists: Vec<[String; 3]> = serde_json::from_str(&listed(&shop, &["--json"], "80")).unwrap();
    let names: Vec<&str> = lists.iter().map(|[name, ..]| name.as_str()).collect();
    for list in ["orders", "products", "stock", "coupons", "uses", "payments", "payment-tasks", "sales", "bxgy", "shipping-rates"] {
        assert!(names.contains(&list), "{list}: {names:?}");
    }
    for list in names {
        let all: Vec<Value> = serde_json::from_str(&listed(&shop, &[list, "--limit", "500", "--json"], "40")).unwrap();
        assert!(!all.is_empty() || ["uses", "payment-tasks"].contains(&list), "{list} shows nothing");
        let keys = |said: &str| -> Vec<String> {
            let rows = said.lines().skip(1).filter(|line| !line.starts_with("more: ") && !line.starts_with("no room for: "));
            rows.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
        };
        let whole: Vec<String> = keys(&listed(&shop, &[list, "--limit", "500"], "400"));
        for columns in [30, 60, 80] {
            let said = listed(&shop, &[list, "--limit", "500"], &columns.to_string());
            assert_eq!(keys(&said), whole, "{list} at {columns}: {said}");
            let longest = whole.iter().map(|key| width(key)).max().unwrap_or(0);
            let wide = said.lines().filter(|line| !line.starts_with("more: ")).find(|line| width(line) > columns.max(longest));
            assert_eq!(wide, None, "{list}");
            assert!(!said.contains(['{', '}', '[', ']']), "{list}: {said}");
        }

        // All of them, a screen at a time, by what the screen says.
        let mut seen = Vec::new();
        let mut next: Vec<String> = vec!["list".into(), list.into(), "--limit".into(), "2".into(), "--store".into(), shop.folder().display().to_string()];
        for _ in 0..5 {
            let (went, said) = souk_says_with(&next.iter().map(String::as_str).collect::<Vec<_>>(), [("COLUMNS", "400")]);
            assert!(went, "{next:?}: {said}");
            seen.extend(if said == "none\n" { Vec::new() } else { keys(&said) });
            let Some(more) = more(&said) else { break };
            assert!(more.contains(&"--store".to_owned()), "{more:?}");
            next = more;
        }
        assert_eq!(seen, whole[..seen.len()], "{list}");
        assert_eq!(seen.len(), whole.iter().filter(|key| *key != "none").count().min(10), "{list}");

        let (went, said) = shop.says(&["list", list, "--after", "GHOST-1"]);
        assert!(list == "numbers" || !went && said.contains("`GHOST-1`"), "{list} begins anew behind what is not there: {said}");
    }
}

#[test]
fn the_next_page_is_of_the_same_filter() {
    let folder = store();
    install_guest(&folder, "clerk");
    let shop = Shop::serve(folder);
    let first = listed(&shop, &["numbers", "of=it's red", "--limit", "2"], "80");
    let next = more(&first).unwrap();
    assert!(next.contains(&"of=it's red".to_owned()) && next.contains(&"it's red-2".to_owned()), "{next:?}");
    let (_, said) = souk_says_with(&next.iter().map(String::as_str).collect::<Vec<_>>(), [("COLUMNS", "80")]);
    assert!(said.contains("it's red-3") && said.contains("it's red-4") && !said.contains("it's red-2 "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_have_a_line_for_each_thing_and_say_how_to_go_on() {
    let shop = Shop::open();
    let what = listed(&shop, &[], "200");
    for list in ["orders", "products", "stock", "coupons", "uses", "payment-tasks"] {
        assert!(what.lines().any(|line| line.starts_with(&format!("{list} "))), "{list}: {what}");
    }
    // Times say of which offset they are.
    shop.says(&["plugin", "run", "set-coupon", "code=TIMED", "percent=5", "starts=2026-11-11T00:00"]);
    let coupons = listed(&shop, &["coupons", "--limit", "500"], "200");
    assert!(coupons.contains("2026-11-11 00:00 +08"), "{coupons}");

    let (sku, _) = Api::of(&shop).buyable(3).await;
    let stock: Vec<Value> = serde_json::from_str(&listed(&shop, &["stock", "--limit", "500", "--json"], "40")).unwrap();
    let counted = stock.iter().find(|row| row["sku"] == sku.as_str());
    assert!(stock.len() == 500 || counted.is_some_and(|row| row["on_hand"].as_i64() >= Some(3)), "{counted:?}");

    let (well, said) = shop.says(&["list", "ghosts"]);
    assert!(!well && said.contains("`souk list` shows what there is"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_of_a_sku_that_is_not_known_is_not_set() {
    let shop = Shop::open();
    let (sku, _) = Api::of(&shop).buyable(3).await;
    let typo = format!("{sku}X");
    let (set, said) = shop.says(&["plugin", "run", "set-stock", &format!("sku={typo}"), "available=5"]);
    assert!(!set && said.contains("did you mean") && said.contains("new=true"), "{said}");
    let before = shop.run("set-stock", &[&format!("sku={sku}")]);
    let looked = shop.run("set-stock", &[&format!("sku={sku}"), "available=9999", "dry-run=true"]);
    assert_eq!(looked["available"], before["available"], "a dry run changes nothing");
    assert_eq!(shop.run("set-stock", &[&format!("sku={sku}"), "available=77"])["available"], 77);
}
