//! Products from CSV files into a live shop and out again.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use souk_tests::Shop;
use souk_tests::api::Api;

fn file(shop: &Shop, name: &str, text: &str) -> PathBuf {
    let path = shop.folder().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn products_come_from_shopifys_files_whole_or_not_at_all() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let import = |path: &PathBuf, more: &[&str]| shop.souk(&[&["store", "import", path.to_str().unwrap()], more].concat());
    let exists = async |handle: &str| api.send("GET", &format!("/products/{handle}"), Value::Null).await.0 == 200;
    let header = "Handle,Title,Body (HTML),Vendor,Type,Option1 Name,Option1 Value,Variant SKU,Variant Inventory Qty,Variant Price,Image Src,Status";

    let wrong = file(&shop, "wrong.csv", &format!("{header}\nnew-cup,Cup,,,Cups,,,CUP-1,5,12.50,,active\nnew-jar,Jar,,,Cups,,,JAR-1,many,9,,active\n"));
    let refused = import(&wrong, &[]);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success() && said.contains("`many` is not a quantity") && said.contains("\"line\": 3"), "{said}");
    assert!(!exists("new-cup").await, "a fault that another plugin finds keeps all out");

    let right = file(
        &shop,
        "right.csv",
        &format!("{header}\nnew-cup,Cup,<p>Holds tea.</p>,Kiln,Cups,Size,S,CUP-S,5,12.50,,active\nnew-cup,,,,,,L,CUP-L,7,18,,\nhidden,H,,,,,,H-1,1,1,,draft\n"),
    );
    let looked = import(&right, &["--dry-run"]);
    assert!(looked.status.success(), "{}", String::from_utf8_lossy(&looked.stderr));
    assert!(!exists("new-cup").await);
    assert!(import(&right, &[]).status.success());
    let (_, cup) = api.send("GET", "/products/new-cup", Value::Null).await;
    assert_eq!((&cup["title"], &cup["category"], &cup["variants"][1]["price"]["amount"]), (&json!("Cup"), &json!("cups"), &json!(1_800)), "{cup}");
    assert_eq!((api.available("CUP-S").await, api.available("CUP-L").await), (5, 7));
    assert!(!exists("hidden").await);
}

#[tokio::test]
async fn what_is_exported_and_imported_again_changes_nothing() {
    let shop = Shop::open();
    let out = shop.folder().join("products.csv");
    let exported = shop.souk(&["store", "export", "--out", out.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let imported = shop.souk(&["store", "import", out.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&imported.stdout).into_owned();
    assert!(imported.status.success(), "{said}");
    let (_, report) = said.split_once("import-products: ").unwrap();
    let report = serde_json::Deserializer::from_str(report).into_iter::<Value>().next().unwrap().unwrap();
    let (_, all) = Api::of(&shop).send("GET", "/products?limit=1", Value::Null).await;
    assert_eq!((&report["unchanged"], &report["updated"], &report["refused"]), (&all["total"], &json!(0), &json!(0)), "{report:.2000}");
}
