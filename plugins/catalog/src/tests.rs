//! The plugin as others see it, over the shop's own data.

use serde_json::{Value, json};
use souk_sdk::commerce::catalog::{Guest as _, Sort};
use souk_sdk::commerce::catalog_records::Guest as _;
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

/// The longjing costs less than the cup during the sale.
#[test]
fn a_sale_shows_at_once_and_listings_follow() {
    use crate::current::fake::SALE;

    import(&small());
    let reprice = || {
        let before = testing::events().len();
        testing::unit(|| crate::reprice(None)).unwrap();
        testing::events()[before..].iter().map(|event| (event.topic.clone(), event.json())).collect::<Vec<_>>()
    };
    assert_eq!(reprice(), [], "nothing moved");
    SALE.set((6_700, 1_000));
    let longjing = || Catalog::get("longjing".into(), "en".into()).unwrap();
    let shown = |price: i64, compare_at: Option<i64>| (price, compare_at);
    let variants = || longjing().variants.iter().map(|it| (it.price.amount, it.compare_at.as_ref().map(|money| money.amount))).collect::<Vec<_>>();
    assert_eq!(variants(), [shown(100, Some(6_800)), shown(6_100, Some(12_800))]);
    let summary = Catalog::summaries(vec!["longjing".into()], "zh-CN".into()).remove(0).unwrap();
    assert_eq!((summary.price_min.amount, summary.price_max.amount, summary.compare_at.unwrap().amount), (100, 6_100, 6_800));
    let base = Catalog::sellables(vec!["T1-50".into()], "en".into()).remove(0).unwrap();
    assert_eq!(base.price.amount, 6_800, "what pricing is given");

    assert_eq!(reprice(), [("catalog.prices-changed".to_owned(), json!({ "handles": ["longjing"] }))]);
    assert_eq!(listed(None, Sort::PriceAscending), ["longjing", "cup"]);
    assert_eq!(reprice(), []);
    // A change of the product meanwhile leaves no entry behind.
    let mut input = small();
    input["products"][0]["variants"][0]["price"] = json!(6_750);
    import(&input);
    assert_eq!(listed(None, Sort::PriceDescending), ["cup", "longjing"]);
    SALE.set((0, 0));
    assert_eq!(reprice().len(), 1);
    assert_eq!(listed(None, Sort::PriceAscending), ["cup", "longjing"]);
    assert_eq!(variants(), [shown(6_750, None), shown(12_800, Some(13_800))]);
}

/// As versions before there were current prices wrote them, and will read them should one come back.
#[test]
fn summaries_without_base_prices_are_made_anew() {
    import(&small());
    let summary = || Catalog::summaries(vec!["cup".into()], "en".into()).remove(0);
    let now = summary().unwrap();
    let whole = souk_sdk::storage::get("summaries", "en:cup").unwrap().unwrap();
    let before: souk_sdk::commerce::catalog::ProductSummary = postcard::from_bytes(&whole[1..]).unwrap();
    assert_eq!(before, now);
    souk_sdk::storage::put("summaries", "en:cup", &postcard::to_extend(&before, vec![whole[0]]).unwrap()).unwrap();
    assert_eq!(summary(), Some(now));
}

#[test]
fn more_products_than_one_unit_looks_at_are_repriced_by_the_next() {
    use crate::current::fake::SALE;
    use souk_sdk::jobs::{self, Job};

    let products = (0..1_234).map(|n| json!({ "handle": format!("p-{n}"), "category": "home", "name": { "en": "P" }, "variants": [{ "sku": format!("P{n}"), "price": 5_000 }], "position": n }));
    let mut input = small();
    input["products"] = json!(products.collect::<Vec<_>>());
    import(&input);
    SALE.set((1, 1_000));
    testing::unit(|| crate::reprice(None)).unwrap();
    for _ in 0..2 {
        let payload = testing::jobs()[&("reprice".to_owned(), String::new())].payload.clone();
        testing::unit(|| <Catalog as jobs::Guest>::run(Job { name: "reprice".into(), key: String::new(), due_ms: 0, payload })).unwrap();
    }
    let told = testing::events().iter().filter(|event| event.topic == "catalog.prices-changed").map(|event| event.json()["handles"].as_array().unwrap().len()).sum::<usize>();
    assert_eq!(told, 1_234);
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

fn product(handle: &str, sku: &str, status: &str) -> Value {
    json!({ "products": [{ "handle": handle, "category": "home", "name": { "en": "Cup" }, "variants": [{ "sku": sku, "price": 900 }], "status": status, "created-at": "2026-03-02T00:00:00Z", "position": 1 }] })
}

#[test]
fn a_product_is_withdrawn_and_comes_back() {
    testing::set_form(2);
    import(&small());
    let seen = || {
        let listed = listed(Some("home"), Sort::Position).len() + Catalog::handles(None, 10).iter().filter(|handle| *handle == "cup").count();
        let sold = Catalog::get("cup".into(), "en".into()).is_some() as usize + Catalog::sellables(vec!["C1".into()], "en".into())[0].is_some() as usize;
        let found = Catalog::summaries(vec!["cup".into()], "en".into())[0].is_some() as usize;
        (listed, sold, found, Catalog::categories("en".into()).iter().find(|category| category.handle == "home").map(|home| home.product_count))
    };
    let everywhere = (2, 2, 1, Some(1));
    assert_eq!(seen(), everywhere);
    for (status, wanted) in [("archived", (0, 0, 0, Some(0))), ("unlisted", (0, 2, 0, Some(0))), ("draft", (0, 0, 0, Some(0))), ("active", everywhere)] {
        let report = import(&product("cup", "C1", status));
        assert_eq!((&report["updated"], seen()), (&json!(1), wanted), "{status}");
        assert_eq!(import(&product("cup", "C1", status))["unchanged"], 1);
        // What is stored for reading says the same as what would be made anew.
        souk_sdk::storage::delete("pages", "en:cup").unwrap();
        assert_eq!(Catalog::get("cup".into(), "en".into()).is_some(), wanted.1 > 0, "{status}");
        import(&json!({ "products": [] }));
        let identity = Catalog::identities(vec!["C1".into()], "en".into()).remove(0).unwrap();
        assert_eq!((identity.title.as_str(), identity.product.as_str()), ("Cup", "cup"), "carts and orders still name it");
    }
}

#[test]
fn documents_of_the_first_form_keep_no_status_and_say_so() {
    import(&small());
    let error = run("import-catalogue", &[], product("cup", "C1", "archived").to_string().as_bytes()).unwrap_err();
    assert!(error.contains("plugin data migrate catalog"), "{error}");
    assert_eq!(listed(Some("home"), Sort::Position).len(), 1);
}

#[test]
fn variants_and_pictures_that_a_file_does_not_name_stay_unless_it_is_asked() {
    import(&small());
    let mut input = json!({ "products": [small()["products"][0].clone()] });
    input["products"][0]["variants"].as_array_mut().unwrap().remove(0);
    input["products"][0]["images"] = json!(["new.webp"]);
    let report = import(&input);
    assert!(report["products"][0]["notes"].to_string().contains("T1-50"), "{report}");
    let longjing = || Catalog::get("longjing".into(), "en".into()).unwrap();
    assert_eq!(longjing().variants.iter().map(|variant| variant.sku.clone()).collect::<Vec<_>>(), ["T1-50", "T1-100"]);
    assert_eq!(longjing().images.len(), 2);
    let dry = run("import-catalogue", &[("dry-run", "true"), ("prune", "true")], input.to_string().as_bytes()).unwrap();
    assert!(dry["products"][0]["notes"].to_string().contains("1 variant (T1-50) goes"), "{dry}");
    run("import-catalogue", &[("prune", "true")], input.to_string().as_bytes()).unwrap();
    assert_eq!((longjing().variants.len(), longjing().images.len()), (1, 1));

    input["products"][0]["options"] = json!([]);
    input["products"][0]["variants"] = json!([{ "sku": "T1", "options": [], "price": 1 }]);
    assert!(run("import-catalogue", &[], input.to_string().as_bytes()).unwrap_err().contains("--prune"));
}

#[test]
fn an_identity_changes_with_what_a_shopper_takes_a_sku_for() {
    import(&small());
    let digest = || Catalog::identities(vec!["T1-50".into()], "zh-CN".into()).remove(0).unwrap().digest;
    let first = digest();
    assert_eq!(Catalog::identities(vec!["T1-50".into()], "en".into()).remove(0).unwrap().digest, first);
    let mut input = small();
    input["products"][0]["variants"][0]["price"] = json!(1);
    import(&input);
    assert_eq!(digest(), first, "the price stands beside it");
    input["products"][0]["options"][0]["values"][0]["name"]["en"] = json!("5 g");
    import(&input);
    assert_ne!(digest(), first);
}

#[test]
fn what_is_right_goes_in_beside_what_is_refused_where_that_is_wanted() {
    let mut input = small();
    input["products"][1]["variants"][0]["price"] = json!(-1);
    input["categories"][2]["name"] = json!({});
    let report = run("import-catalogue", &[("partial", "true")], input.to_string().as_bytes()).unwrap();
    assert_eq!((&report["refused"], &report["created"], &report["applied"]), (&json!(2), &json!(3), &json!(true)), "{report}");
    assert_eq!(Catalog::handles(None, 10), ["longjing"]);
}

#[test]
fn a_price_is_changed_by_one_command() {
    import(&small());
    let set = |arguments: &[(&str, &str)]| {
        let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        testing::unit(|| Catalog::run("set-price".into(), arguments, Vec::new())).map(|answer| String::from_utf8(answer).unwrap())
    };
    let answer = set(&[("sku", "T1-50"), ("price", "70"), ("compare-at", "80.00")]).unwrap();
    assert!(answer.contains("70.00") && answer.contains("68.00") && answer.contains("longjing"), "{answer}");
    let price = || Catalog::sellables(vec!["T1-50".into()], "en".into()).remove(0).unwrap().price.amount;
    assert_eq!((price(), listed(None, Sort::PriceDescending)), (7_000, vec!["longjing".to_owned(), "cup".into()]));
    set(&[("sku", "T1-50"), ("compare-at", "none")]).unwrap();
    assert!(set(&[("sku", "T1-50"), ("price", "70")]).unwrap().contains("already"));
    for (arguments, told) in [
        (&[("sku", "T1-50"), ("price", "¥7")][..], "12.50"),
        (&[("sku", "NONE"), ("price", "7")], "no product has the sku"),
        (&[("price", "7")], "which variant"),
        (&[("sku", "T1-50")], "what is it to cost"),
        (&[("sku", "T1-50"), ("prise", "7")], "`prise`"),
    ] {
        assert!(set(arguments).unwrap_err().contains(told), "{told}");
    }
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

#[test]
fn only_what_was_dearer_has_a_former_price() {
    let mut products = product("cup", "C1", "active");
    for (former, shown) in [(800, None), (900, None), (901, Some(901))] {
        products["products"][0]["variants"][0]["compare-at-price"] = json!(former);
        import(&small());
        import(&products);
        let seen = Catalog::get("cup".into(), "en".into()).unwrap().variants[0].compare_at.as_ref().map(|money| money.amount);
        let listed = Catalog::summaries(vec!["cup".into()], "en".into())[0].as_ref().unwrap().compare_at.as_ref().map(|money| money.amount);
        assert_eq!((seen, listed), (shown, shown));
    }
}

#[test]
fn a_category_that_an_import_made_has_no_picture() {
    import(&small());
    run("import-products", &[], b"Handle,Title,Type,SKU,Price\nlamp,Lamp,Other things,L1,9.00\n").unwrap();
    let pictures: Vec<(String, bool)> = Catalog::categories("en".into()).into_iter().map(|category| (category.handle, category.image.is_some())).collect();
    assert!(pictures.contains(&("other-things".into(), false)) && pictures.contains(&("tea".into(), true)), "{pictures:?}");
}
