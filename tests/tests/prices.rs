//! One price everywhere: what a product costs in a list, on its page, for a
//! machine and in the cart is the same, during a sale and after it; and the
//! currency it is in stays the same.

use std::fs;

use serde_json::{Value, json};
use souk_tests::api::Api;
use souk_tests::visitor::Visitor;
use souk_tests::{Shop, bare_store};

const NO_ENVIRONMENT: [(&str, &str); 0] = [];

/// Replaces all price lists.
fn sell(shop: &Shop, lists: &Value) {
    let file = shop.folder().join("lists.json");
    fs::write(&file, lists.to_string()).unwrap();
    let (imported, said) = shop.says(&["store", "import", file.to_str().unwrap(), "--kind", "price-lists"]);
    assert!(imported, "{said}");
}

fn amount(money: &Value) -> i64 {
    money["amount"].as_i64().unwrap_or_else(|| panic!("no money: {money}"))
}

/// As pages write it.
fn yuan(amount: i64, language: &str) -> String {
    let (whole, cents) = ((amount / 100).to_string(), amount % 100);
    let grouped: Vec<&str> = whole.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap()).collect();
    format!("{}{}.{cents:02}", if language == "zh" { "¥" } else { "CN¥" }, grouped.join(","))
}

async fn get(api: &Api, path: &str) -> Value {
    let (status, answer) = api.send("GET", path, Value::Null).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Asks until it is so; what is answered last otherwise.
async fn until(api: &Api, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..600 {
        let (status, answer) = api.send("GET", path, Value::Null).await;
        assert!([200, 503].contains(&status), "{path}: {answer}");
        if status == 200 && holds(&answer) {
            return answer;
        }
        last = answer;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{path} never comes to that: {last}");
}

/// What one piece costs in a cart of its own.
async fn in_cart(api: &Api, sku: &str) -> i64 {
    let (_, cart) = api.cart(sku, 1).await.unwrap();
    assert_eq!(cart["totals"]["discount"]["amount"], 0, "nothing comes off twice: {cart}");
    assert_eq!(cart["lines"][0]["total"], cart["lines"][0]["unit_price"], "{cart}");
    amount(&cart["lines"][0]["unit_price"])
}

/// A product with several variants in stock, with its first sku.
async fn product(api: &Api) -> (Value, String) {
    for summary in get(api, "/products?limit=200").await["products"].as_array().unwrap() {
        if summary["price_min"] != summary["price_max"] {
            let product = get(api, &format!("/products/{}", summary["handle"].as_str().unwrap())).await;
            let sku = product["variants"][0]["sku"].as_str().unwrap().to_owned();
            if api.available(&sku).await > 0 {
                return (product, sku);
            }
        }
    }
    panic!("no product has variants of different prices");
}

#[tokio::test]
async fn a_sale_shows_one_price_on_every_surface() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let visitor = Visitor::of(&shop);
    let (before, sku) = product(&api).await;
    api.searchable(&sku).await;
    let handle = before["handle"].as_str().unwrap();
    let prices: Vec<i64> = before["variants"].as_array().unwrap().iter().map(|variant| amount(&variant["price"])).collect();
    let (least, first) = (*prices.iter().min().unwrap(), prices[0]);
    let category = format!("c/{}", before["category"].as_str().unwrap());
    let searched = format!("search?q={}", before["variants"][0]["sku"].as_str().unwrap());
    let pages = [format!("p/{handle}?sku={sku}"), category, searched];
    for page in &pages {
        // So that they are kept.
        assert_eq!(visitor.get(&format!("/en/{page}")).await.status, 200, "{page}");
    }

    sell(&shop, &json!([{ "id": "half", "ends": "2099-01-01T00:00", "prices": [{ "sku": "*", "percent-off": "50" }] }]));
    let half = |price: i64| (price + 1) / 2 - i64::from(price % 4 == 1);
    let after = get(&api, &format!("/products/{handle}")).await;
    for (variant, price) in after["variants"].as_array().unwrap().iter().zip(&prices) {
        assert_eq!((amount(&variant["price"]), amount(&variant["compare_at"])), (half(*price), *price), "{variant}");
    }
    assert_eq!(after["price_valid_until_ms"], 4_070_880_000_000_u64, "the end, in the shop's zone");
    assert_eq!(in_cart(&api, &sku).await, half(first));
    let (status, listed) = api.send("GET", "/products?limit=200", Value::Null).await;
    assert_eq!(status, 200);
    let found = get(&api, &format!("/search?q={sku}")).await;
    for list in [&listed, &found] {
        let summary = list["products"].as_array().unwrap().iter().find(|summary| summary["handle"] == handle).unwrap();
        assert_eq!((amount(&summary["price_min"]), amount(&summary["compare_at"])), (half(least), least), "{summary}");
    }
    for (language, now, was) in [("en", "Now", "Was"), ("zh", "现价", "原价")] {
        for (page, price) in pages.iter().zip([first, least, least]) {
            let seen = visitor.get(&format!("/{language}/{page}")).await.body;
            for part in [yuan(half(price), language), format!("<s>{}</s>", yuan(price, language)), now.into(), was.into()] {
                assert!(seen.contains(&part), "{language} {page}: no `{part}` in {seen}");
            }
        }
    }
    let page = visitor.get(&format!("/en/p/{handle}?sku={sku}")).await.body;
    let (_, data) = page.split_once("application/ld+json\">").unwrap();
    let data: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    let offer = &data["offers"][0];
    assert_eq!(offer["price"], format!("{}.{:02}", half(first) / 100, half(first) % 100), "{offer}");
    assert_eq!((&offer["priceValidUntil"], &offer["priceSpecification"]["priceType"]), (&json!("2098-12-31T16:00:00Z"), &json!("https://schema.org/StrikethroughPrice")));
    visitor.post("/en/cart/lines", &[("sku", &sku), ("quantity", "1")]).await;
    let cart = visitor.get("/en/cart").await.body;
    assert!(cart.contains(&yuan(half(first), "en")) && cart.contains(&format!("<s>{}</s>", yuan(first, "en"))), "{cart}");

    sell(&shop, &json!([]));
    assert_eq!(get(&api, &format!("/products/{handle}")).await["variants"], before["variants"]);
    assert!(!visitor.get(&format!("/en/p/{handle}?sku={sku}")).await.body.contains(&yuan(half(first), "en")));
    assert_eq!(in_cart(&api, &sku).await, first);
}

#[tokio::test]
async fn sorting_and_filtering_go_by_the_price_of_the_sale() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let visitor = Visitor::of(&shop);
    api.searchable("tea").await;
    let dearest = get(&api, "/products?sort=-price&limit=1").await["products"][0].clone();
    let handle = dearest["handle"].as_str().unwrap();
    let skus: Vec<Value> = get(&api, &format!("/products/{handle}")).await["variants"].as_array().unwrap().iter().map(|variant| variant["sku"].clone()).collect();
    let link = format!("/en/p/{handle}\"");
    assert!(!visitor.get("/en/products?sort=price-up").await.body.contains(&link));
    until(&api, "/search?sort=-price&limit=1", |found| found["products"][0]["handle"] == handle).await;

    let gift: Vec<Value> = skus.iter().map(|sku| json!({ "sku": sku, "price": 1 })).collect();
    sell(&shop, &json!([{ "id": "gift", "prices": gift }]));
    let is_first = |found: &Value| found["products"][0]["handle"] == handle;
    for path in ["/products?sort=price&limit=1", "/search?sort=price&limit=1", "/search?price-max=1&limit=5"] {
        let found = until(&api, path, is_first).await;
        assert_eq!(amount(&found["products"][0]["price_min"]), 1, "{path}: {found}");
    }
    let dear = format!("/search?price-min={}&limit=200", amount(&dearest["price_min"]));
    let missing = |found: &Value| !found["products"].as_array().unwrap().iter().any(|summary| summary["handle"] == handle);
    until(&api, &dear, missing).await;
    assert!(visitor.get("/en/products?sort=price-up").await.body.contains(&link), "the page of before is not kept");
    let all = get(&api, "/products?sort=price&limit=200").await;
    let all: Vec<i64> = all["products"].as_array().unwrap().iter().map(|summary| amount(&summary["price_min"])).collect();
    assert!(all.is_sorted(), "{all:?}");

    sell(&shop, &json!([]));
    for path in ["/products?sort=-price&limit=1", "/search?sort=-price&limit=1"] {
        until(&api, path, is_first).await;
    }
    until(&api, "/search?price-max=1&limit=5", |found| found["total"] == 0).await;
}

#[tokio::test]
async fn a_sale_begins_and_ends_by_the_clock() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let visitor = Visitor::of(&shop);
    let (before, sku) = product(&api).await;
    api.searchable(&sku).await;
    let handle = before["handle"].as_str().unwrap();
    let (path, page) = (format!("/products/{handle}"), format!("/en/p/{handle}?sku={sku}"));
    let first = amount(&before["variants"][0]["price"]);
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    // For as long as it takes a slow machine to import it.
    let (starts, ends) = (now_ms + 4_000, now_ms + 8_000);
    
    sell(&shop, &json!([{ "id": "minute", "starts": rfc3339(starts), "ends": rfc3339(ends), "prices": [{ "sku": sku, "price": 7 }, { "sku": "*", "percent-off": "10" }] }]));
    let told = get(&api, &path).await["price_valid_until_ms"].clone();
    let shown = |found: &Value| amount(&found["variants"][0]["price"]);
    let sale = until(&api, &path, |found| shown(found) == 7).await;
    assert_eq!(told, json!(starts), "kept until then");
    assert_eq!((in_cart(&api, &sku).await, &sale["price_valid_until_ms"]), (7, &json!(ends)));
    assert!(visitor.get(&page).await.body.contains(&format!("<s>{}</s>", yuan(first, "en"))));
    until(&api, "/search?sort=price&limit=1", |found| found["products"][0]["handle"] == handle).await;
    until(&api, "/products?sort=price&limit=1", |found| found["products"][0]["handle"] == handle).await;

    let over = until(&api, &path, |found| shown(found) != 7).await;
    assert_eq!((&over["variants"], &over["price_valid_until_ms"]), (&before["variants"], &Value::Null));
    assert_eq!(in_cart(&api, &sku).await, first);
    assert!(!visitor.get(&page).await.body.contains(&yuan(7, "en")));
    until(&api, "/search?sort=price&limit=1", |found| found["products"][0]["handle"] != handle).await;
}

/// The file is refused while there are prices, and what was sold goes on as it was.
#[tokio::test]
async fn another_currency_is_refused_while_there_are_prices() {
    let mut shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, price) = api.buyable(1).await;
    let (cart, before) = api.cart(&sku, 1).await.unwrap();
    assert_eq!(shop.stop(), Some(0));
    let settings = shop.folder().join("souk.toml");
    let own = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, own.replace("\"CNY\"", "\"USD\"")).unwrap();

    let refused = Shop::try_serve(shop.kill(), NO_ENVIRONMENT).err().expect("it does not open");
    assert_ne!(refused.code, Some(0));
    for part in ["souk.toml", "shop.currency is `USD`", "in CNY", "Put `currency = \"CNY\"` back"] {
        assert!(refused.said.contains(part), "no `{part}` in {}", refused.said);
    }
    let store = refused.folder.path().join("store");
    let offline = ["plugin", "run", "set-price", &format!("sku={sku}"), "price=1", "--store", store.to_str().unwrap()];
    let (changed, said) = souk_tests::souk_says(&offline);
    assert!(!changed && said.contains("shop.currency"), "{said}");

    fs::write(&settings, own).unwrap();
    let shop = Shop::serve(refused.folder);
    let api = Api::of(&shop);
    let after = get(&api, &cart).await;
    assert_eq!((&after["lines"], amount(&after["lines"][0]["unit_price"])), (&before["lines"], price));
}

#[tokio::test]
async fn a_shop_without_prices_takes_up_another_currency() {
    let shop = Shop::serve(bare_store(&[]));
    let settings = shop.folder().join("souk.toml");
    let folder = shop.kill();
    for currency in ["JPY", "EUR"] {
        let own = fs::read_to_string(&settings).unwrap();
        let line = own.lines().find(|line| line.starts_with("currency")).unwrap().to_owned();
        fs::write(&settings, own.replace(&line, &format!("currency = \"{currency}\""))).unwrap();
        let (opened, said) = souk_tests::souk_says(&["plugin", "list", "--store", folder.path().join("store").to_str().unwrap()]);
        assert!(opened, "{said}");
    }
    drop(Shop::serve(folder));
}

/// As price lists write instants.
fn rfc3339(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    // Days of the civil calendar, after Howard Hinnant.
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (hour, minute, second, milli) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Whatever lists there are, one piece costs in the cart what is shown of it.
#[tokio::test]
async fn one_piece_costs_in_the_cart_what_the_list_says_for_any_promotions() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let mut skus: Vec<(String, String, i64)> = Vec::new();
    for summary in get(&api, "/products?limit=40").await["products"].as_array().unwrap() {
        let handle = summary["handle"].as_str().unwrap();
        for variant in get(&api, &format!("/products/{handle}")).await["variants"].as_array().unwrap() {
            skus.push((handle.into(), variant["sku"].as_str().unwrap().into(), amount(&variant["price"])));
        }
    }
    let mut cart = Value::Null;
    let (_, empty) = api.send("POST", "/carts", Value::Null).await;
    let path = format!("/carts/{}", empty["id"].as_str().unwrap());
    for (_, sku, _) in &skus {
        // Some are sold out.
        let (status, answer) = api.send("POST", &format!("{path}/lines"), json!({ "sku": sku, "quantity": 1 })).await;
        cart = if status == 200 { answer } else { cart };
    }
    assert!(cart["lines"].as_array().unwrap().len() > 20, "{cart}");
    for seed in 0..4 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let list = |number: u64, chance: &mut fastrand::Rng| {
            let price = |chance: &mut fastrand::Rng| {
                let (_, sku, base) = &skus[chance.usize(..skus.len())];
                let sku = if chance.u8(..8) == 0 { "*" } else { sku };
                match chance.bool() {
                    true => json!({ "sku": sku, "min-quantity": chance.u32(1..3), "price": chance.i64(0..base * 2) }),
                    false => json!({ "sku": sku, "min-quantity": chance.u32(1..3), "percent-off": format!("{}.{}", chance.u8(..100), chance.u8(..100)) }),
                }
            };
            let window = if chance.bool() { json!("2020-01-01T00:00") } else { json!("2090-01-01T00:00") };
            json!({ "id": format!("list-{number}"), "priority": chance.i32(0..3), "starts": window, "prices": (0..15).map(|_| price(chance)).collect::<Vec<_>>() })
        };
        let lists: Vec<Value> = (0..6).map(|number| list(number, &mut chance)).collect();
        sell(&shop, &json!(lists));
        let cart = get(&api, &path).await;
        for line in cart["lines"].as_array().unwrap() {
            let (handle, sku, base) = skus.iter().find(|(_, sku, _)| line["sku"] == **sku).unwrap();
            let product = get(&api, &format!("/products/{handle}")).await;
            let variant = product["variants"].as_array().unwrap().iter().find(|variant| variant["sku"] == **sku).unwrap();
            assert_eq!(variant["price"], line["unit_price"], "seed {seed}, {sku}: {lists:?}");
            assert_eq!(amount(&line["regular_price"]), *base, "seed {seed}, {sku}");
        }
    }
}
