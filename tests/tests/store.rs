//! The store outlives crashes, and is copied while it is in use.

use souk_tests::{Shop, client, store};

async fn total(shop: &Shop) -> u64 {
    let answer = client().get(format!("{}/api/v1/products?limit=1", shop.url)).send().await.unwrap();
    answer.json::<serde_json::Value>().await.unwrap()["total"].as_u64().unwrap()
}

/// One more product, in a category that is there already.
const LAMP: &str = r#"{"categories": [], "products": [{
    "handle": "test-lamp", "category": "tea", "name": {"en": "Desk lamp", "zh-CN": "台灯"}, "subtitle": {"en": "Bright", "zh-CN": "明亮"},
    "description": {"en": "A lamp.", "zh-CN": "一盏灯。"}, "brand": "Souk", "tags": [], "attributes": [], "options": [],
    "variants": [{"sku": "TEST-LAMP", "options": [], "price": 19900, "compare-at-price": null, "weight-g": 900, "stock": 5, "barcode": null}],
    "images": ["test-lamp.webp"], "position": 1, "created-at": "2026-03-01T00:00:00Z"}]}"#;

#[tokio::test]
async fn an_acknowledged_import_survives_kill_9_and_a_dry_run_changes_nothing() {
    let mut shop = Shop::open();
    let before = total(&shop).await;
    let file = shop.folder().join("lamp.json");
    std::fs::write(&file, LAMP).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let import = |shop: &Shop, more: &[&str]| shop.souk(&[&["store", "import", &file, "--kind", "catalogue"], more].concat());

    let dry = import(&shop, &["--dry-run"]);
    assert!(dry.status.success(), "{}", String::from_utf8_lossy(&dry.stderr));
    assert_eq!(total(&shop).await, before);

    for round in 0..5 {
        std::fs::write(&file, LAMP.replace("test-lamp", &format!("test-lamp-{round}")).replace("TEST-LAMP", &format!("TEST-LAMP-{round}"))).unwrap();
        let imported = import(&shop, &[]);
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        let verified = shop.souk(&["store", "verify"]);
        assert!(verified.status.success() && String::from_utf8_lossy(&verified.stdout).contains("whole"));
        shop = Shop::serve(shop.kill());
        assert_eq!(total(&shop).await, before + 1 + round, "round {round}");
    }

    std::fs::write(&file, LAMP.replace("19900", "\"cheap\"")).unwrap();
    let refused = import(&shop, &[]);
    let told = format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert!(!refused.status.success() && told.contains("price"), "{told}");
    assert_eq!(total(&shop).await, before + 5);
    assert_eq!(shop.stop(), Some(0));
}

#[tokio::test]
async fn a_backup_taken_while_serving_becomes_a_shop_again() {
    let shop = Shop::open();
    let before = total(&shop).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (backup, restored) = (elsewhere.path().join("backup"), elsewhere.path().join("store"));
    let taken = shop.souk(&["store", "backup", backup.to_str().unwrap()]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let again = std::process::Command::new(souk_tests::built().join("souk"))
        .args(["store", "restore", backup.to_str().unwrap(), "--store"])
        .arg(&restored)
        .output()
        .unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let copy = Shop::serve(elsewhere);
    assert_eq!(total(&copy).await, before);
}

#[test]
fn a_store_that_is_not_there_says_how_to_make_one() {
    let folder = store();
    std::fs::remove_file(folder.path().join("store/souk.toml")).unwrap();
    let output = std::process::Command::new(souk_tests::built().join("souk"))
        .args(["serve", "--store"])
        .arg(folder.path().join("store"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("souk store init"));
}

/// As from a release that was unpacked: the binary, with its plugins beside it.
#[tokio::test]
async fn a_store_without_plugins_gets_those_that_came_with_the_binary() {
    let folder = store();
    let (from, fresh) = (folder.path().join("from"), folder.path().join("fresh/store"));
    let (made, said) = souk_tests::souk_says(&["store", "init", "--from", from.to_str().unwrap(), "--store", fresh.to_str().unwrap()]);
    assert!(made, "{said}");
    std::fs::rename(folder.path().join("store"), folder.path().join("former")).unwrap();
    std::fs::rename(&fresh, folder.path().join("store")).unwrap();
    let shop = Shop::serve(folder);
    assert!(total(&shop).await > 0);
    let report = shop.report("storefront");
    assert_eq!(report["publisher"], "souk", "{report}");
}

/// A backup is looked at and left as it is: no plugin comes to life in it.
#[tokio::test]
async fn verifying_a_backup_leaves_nothing_behind() {
    let shop = Shop::open();
    let elsewhere = tempfile::tempdir().unwrap();
    let backup = elsewhere.path().join("backup");
    let (taken, said) = shop.says(&["store", "backup", backup.to_str().unwrap()]);
    assert!(taken, "{said}");
    // With a component that nobody could load.
    std::fs::write(backup.join("plugins/catalog/plugin.wasm"), "nonsense").unwrap();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(&backup).unwrap().flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let (whole, said) = souk_tests::souk_says(&["store", "verify", "--store", backup.to_str().unwrap()]);
    assert!(whole && said.contains("whole: ") && !said.contains("catalog"), "{said}");
    assert_eq!(names(), before);
}
