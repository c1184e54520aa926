//! What a shop has many of is listed on one screen, and whole as JSON.

use serde_json::Value;
use souk_tests::api::Api;
use souk_tests::{Shop, souk_says_with};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_have_a_line_for_each_thing_and_say_how_to_go_on() {
    let shop = Shop::open();
    let what = listed(&shop, &[], "200");
    for list in ["orders", "products", "stock", "coupons", "uses", "payment-tasks"] {
        assert!(what.lines().any(|line| line.starts_with(&format!("{list} "))), "{list}: {what}");
    }
    for list in ["orders", "products", "stock", "coupons", "uses", "payment-tasks"] {
        for columns in ["60", "100"] {
            let said = listed(&shop, &[list], columns);
            assert!(said.lines().count() <= 22, "{list}: {said}");
            let wide = said.lines().filter(|line| !line.starts_with("more: ")).find(|line| width(line) > columns.parse().unwrap());
            assert_eq!(wide, None, "{list}");
        }
    }

    // All products, a screen at a time.
    let mut handles: Vec<String> = Vec::new();
    let mut after: Vec<String> = Vec::new();
    loop {
        let arguments: Vec<&str> = ["products", "--limit", "7"].into_iter().chain(after.iter().map(String::as_str)).collect();
        let said = listed(&shop, &arguments, "100");
        handles.extend(said.lines().skip(1).filter(|line| !line.starts_with("more: ")).map(|line| line.split_whitespace().next().unwrap().to_owned()));
        let Some(more) = said.lines().find_map(|line| line.strip_prefix("more: souk list products --limit 7 ")) else { break };
        after = more.split_whitespace().map(str::to_owned).collect();
    }
    let all: Vec<Value> = serde_json::from_str(&listed(&shop, &["products", "--limit", "500", "--json"], "40")).unwrap();
    assert_eq!(handles, all.iter().map(|row| row["handle"].as_str().unwrap().to_owned()).collect::<Vec<_>>());

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
