//! The plugin as others see it, over the shop's own data.

use serde_json::{Value, json};
use souk_sdk::commerce::catalog::{Guest as _, Sort};
use souk_sdk::commerce::types::Page;
use souk_sdk::host::command_handler::Guest as _;
use souk_sdk::testing;

use crate::Catalog;

pub fn run(command: &str, arguments: &[(&str, &str)], input: &[u8]) -> Result<Value, String> {
    let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let answer = testing::unit(|| Catalog::run(command.into(), arguments, input.to_vec()))?;
    serde_json::from_slice(&answer).map_err(|error| error.to_string())
}

fn import(input: &Value) -> Value {
    run("import-catalogue", &[], input.to_string().as_bytes()).unwrap()
}

pub fn shop() -> Value {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../store-data/catalogue");
    let read = |path: &std::path::Path| -> Vec<Value> { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let files = std::fs::read_dir(root.join("products")).unwrap().map(|entry| entry.unwrap().path());
    json!({ "categories": read(&root.join("categories.json")), "products": files.flat_map(|file| read(&file)).collect::<Vec<_>>() })
}

pub fn small() -> Value {
    json!({
        "categories": [
            { "handle": "tea", "parent": "food", "name": { "en": "Tea", "zh-CN": "茶" }, "position": 1 },
            { "handle": "food", "name": { "en": "Food" }, "position": 1 },
            { "handle": "home", "name": { "en": "Home" }, "position": 2 },
        ],
        "products": [
            {
                "handle": "longjing", "category": "tea", "name": { "en": "Longjing", "zh-CN": "龙井" },
                "options": [{ "name": { "en": "Size" }, "values": [
                    { "id": "50g", "name": { "en": "50 g" } }, { "id": "100g", "name": { "en": "100 g", "zh-CN": "100 克" } },
                ] }],
                "variants": [
                    { "sku": "T1-50", "options": ["50g"], "price": 6800, "weight-g": 80, "stock": 3 },
                    { "sku": "T1-100", "options": ["100g"], "price": 12800, "compare-at-price": 13800, "weight-g": 130, "stock": 4 },
                ],
                "images": ["longjing.webp"], "position": 2, "created-at": "2026-03-01T00:00:00Z",
            },
            {
                "handle": "cup", "category": "home", "name": { "en": "Cup" }, "variants": [{ "sku": "C1", "price": 900 }],
                "position": 1, "created-at": "2026-03-02T00:00:00Z",
            },
        ],
    })
}

fn listed(category: Option<&str>, sort: Sort) -> Vec<String> {
    let listing = Catalog::browse(category.map(Into::into), "en".into(), sort, Page { offset: 0, limit: 200 });
    assert_eq!(listing.total as usize, listing.products.len());
    listing.products.into_iter().map(|product| product.handle).collect()
}

#[test]
fn the_shops_own_data_is_imported_and_importing_it_again_changes_nothing() {
    let shop = shop();
    let report = import(&shop);
    assert_eq!(report["refused"], 0, "{report:#}");
    let products = shop["products"].as_array().unwrap().len();
    assert_eq!(testing::events().len(), products);
    let again = import(&shop);
    assert_eq!((&again["created"], &again["updated"]), (&json!(0), &json!(0)));
    assert_eq!(testing::events().len(), products);

    let categories = Catalog::categories("zh-CN".into());
    let roots = categories.iter().filter(|category| category.parent.is_none());
    assert_eq!(roots.map(|root| root.product_count as usize).sum::<usize>(), products);
    assert_eq!(Catalog::handles(None, 1_000).len(), products);
    for handle in Catalog::handles(None, 1_000) {
        let product = Catalog::get(handle.clone(), "zh-CN".into()).unwrap();
        let skus: Vec<String> = product.variants.iter().map(|variant| variant.sku.clone()).collect();
        for (sellable, variant) in Catalog::sellables(skus, "zh-CN".into()).into_iter().zip(&product.variants) {
            let sellable = sellable.unwrap();
            assert_eq!((sellable.price, sellable.product), (variant.price.clone(), handle.clone()));
        }
    }
}

#[test]
fn texts_come_in_the_asked_language_or_another_rather_than_none() {
    import(&small());
    let get = |locale: &str| Catalog::get("longjing".into(), locale.into()).unwrap();
    assert_eq!(get("zh-CN").title, "龙井");
    assert_eq!(get("zh-TW").title, "龙井");
    assert_eq!(get("fr").title, "Longjing");
    assert_eq!(get("zh-CN").variants[1].title, "100 克");
    assert_eq!(get("zh-CN").variants[0].title, "50 g");
    assert_eq!(get("en/../x"), get("en"));
    assert_eq!(Catalog::get("nothing".into(), "en".into()), None);
    assert_eq!(Catalog::get("a".repeat(9_000), "en".into()), None);
}

#[test]
fn listings_hold_what_is_below_a_category_and_are_sorted() {
    import(&small());
    assert_eq!(listed(None, Sort::Position), ["longjing", "cup"]);
    assert_eq!(listed(None, Sort::Newest), ["cup", "longjing"]);
    assert_eq!(listed(None, Sort::PriceAscending), ["cup", "longjing"]);
    assert_eq!(listed(Some("food"), Sort::PriceDescending), ["longjing"]);
    assert_eq!(listed(Some("nothing"), Sort::Position), [""; 0]);
    let page = Catalog::browse(None, "en".into(), Sort::Newest, Page { offset: 1, limit: 1 });
    assert_eq!((page.total, page.products[0].handle.as_str()), (2, "longjing"));
}

#[test]
fn a_deep_page_is_the_same_slice_of_the_whole() {
    let products: Vec<Value> = (0..2_345)
        .map(|n| json!({ "handle": format!("p-{n}"), "category": "home", "name": { "en": "P" },
            "variants": [{ "sku": format!("P{n}"), "price": n % 700 }], "position": n }))
        .collect();
    let mut input = small();
    input["products"] = json!(products);
    import(&input);
    for sort in [Sort::Position, Sort::PriceDescending] {
        let page = |offset, limit| {
            let listing = Catalog::browse(None, "en".into(), sort, Page { offset, limit });
            listing.products.into_iter().map(|product| product.handle).collect::<Vec<_>>()
        };
        let whole: Vec<String> = (0..12).flat_map(|number| page(number * 200, 200)).collect();
        assert_eq!(whole.iter().collect::<std::collections::BTreeSet<_>>().len(), 2_345);
        for offset in [0, 799, 801, 999, 1_000, 1_001, 1_990, 2_340, 2_345] {
            let end = (offset as usize + 30).min(2_345);
            assert_eq!(page(offset, 30), whole[offset as usize..end], "{sort:?} from {offset}");
        }
    }
}

#[test]
fn moving_a_category_moves_its_products() {
    let mut input = small();
    import(&input);
    input["categories"][0]["parent"] = json!("home");
    import(&json!({ "categories": input["categories"] }));
    assert_eq!(listed(Some("food"), Sort::Position), [""; 0]);
    assert_eq!(listed(Some("home"), Sort::Position), ["cup", "longjing"]);
    let sellable = Catalog::sellables(vec!["T1-50".into()], "en".into()).remove(0).unwrap();
    assert_eq!(sellable.categories, ["tea", "home"]);
    let counts: Vec<u32> = Catalog::categories("en".into()).iter().map(|category| category.product_count).collect();
    assert_eq!(counts, [0, 2, 1]);
}

/// Making them anew at each read answers the same, far slower.
#[test]
fn what_is_stored_for_reading_can_be_read() {
    import(&small());
    let stored = souk_sdk::storage::get("sellables", "en:T1-50").unwrap().unwrap();
    let read = postcard::from_bytes(&stored[1..]).ok();
    assert_eq!(read, Catalog::sellables(vec!["T1-50".into()], "en".into()).remove(0));
}

#[test]
fn one_bad_row_keeps_all_others_out() {
    let mut input = small();
    input["products"][1]["variants"][0]["price"] = json!(-1);
    input["categories"][1]["parent"] = json!("tea");
    let error = run("import-catalogue", &[], input.to_string().as_bytes()).unwrap_err();
    assert!(error.contains("variants[0].price") && error.contains("below itself"), "{error}");
    assert_eq!(Catalog::handles(None, 10), [""; 0]);
    assert!(Catalog::categories("en".into()).is_empty());
}

#[test]
fn a_dry_run_reports_and_writes_nothing() {
    let report = run("import-catalogue", &[("dry-run", "true")], small().to_string().as_bytes()).unwrap();
    assert_eq!((&report["created"], &report["applied"]), (&json!(5), &json!(false)));
    assert_eq!(Catalog::handles(None, 10), [""; 0]);
}

#[test]
fn a_sku_has_one_product_and_may_change_hands_in_one_import() {
    let mut input = small();
    import(&input);
    let cup_takes = json!({ "products": [{ "handle": "cup", "category": "home", "name": { "en": "Cup" }, "variants": [{ "sku": "T1-50", "price": 1 }] }] });
    assert!(run("import-catalogue", &[], cup_takes.to_string().as_bytes()).unwrap_err().contains("belongs to product `longjing`"));

    input["products"][0]["variants"][0]["sku"] = json!("C1");
    input["products"][1]["variants"][0]["sku"] = json!("T1-50");
    import(&input);
    let owners = Catalog::sellables(vec!["C1".into(), "T1-50".into()], "en".into());
    let owners: Vec<String> = owners.into_iter().map(|sellable| sellable.unwrap().product).collect();
    assert_eq!(owners, ["longjing", "cup"]);
}
