//! Discounts from outside: what is shown can be ordered for that price, costs no
//! more than none, and does not depend on how the goods lie in the cart.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};
use souk_tests::Shop;
use souk_tests::api::{Api, INSTANT, address};
use souk_tests::visitor::Visitor;

fn import(shop: &Shop, name: &str, text: &str, kind: &str) {
    let file = shop.folder().join(name);
    fs::write(&file, text).unwrap();
    let (imported, said) = shop.says(&["store", "import", file.to_str().unwrap(), "--kind", kind]);
    assert!(imported, "{said}");
}

fn coupon(shop: &Shop, arguments: &[&str]) {
    let (done, said) = shop.says(&[&["plugin", "run", "set-coupon"], arguments].concat());
    assert!(done, "{said}");
}

/// Twelve jars at 9.85: eleven of one kind each, and one with eleven.
fn jars(shop: &Shop) {
    let mut rows = String::from("Handle,Title,SKU,Price,Inventory quantity\n");
    for number in 0..12 {
        writeln!(rows, "jar-{number},Jar {number},JAR-{number},9.85,99").unwrap();
    }
    import(shop, "jars.csv", &rows, "products");
}

async fn empty(api: &Api) -> String {
    let (_, cart) = api.send("POST", "/carts", Value::Null).await;
    format!("/carts/{}", cart["id"].as_str().unwrap())
}

async fn add(api: &Api, cart: &str, sku: &str, quantity: u32) -> Value {
    let (status, view) = api.send("POST", &format!("{cart}/lines"), json!({ "sku": sku, "quantity": quantity })).await;
    assert_eq!(status, 200, "{view}");
    view
}

async fn contact(api: &Api, cart: &str, email: &str) -> Value {
    let (status, view) = api.send("PUT", &format!("{cart}/contact"), json!({ "email": email, "phone": "" })).await;
    assert_eq!(status, 200, "{view}");
    view
}

/// Everything but the goods and the contact.
async fn deliver(api: &Api, cart: &str) -> Value {
    api.send("PUT", &format!("{cart}/addresses"), json!({ "shipping": address() })).await;
    let (status, view) = api.send("PUT", &format!("{cart}/shipping-method"), json!({ "id": "standard" })).await;
    assert_eq!(status, 200, "{view}");
    view
}

/// The order of the cart as it was shown; panics if that cannot be had.
async fn order(api: &Api, cart: &str, shown: &Value) -> Value {
    let (status, placed) = api.send("POST", &format!("{cart}/order"), json!({ "payment_method": INSTANT, "fingerprint": shown["fingerprint"] })).await;
    assert_eq!((status, &placed["total"]), (201, &shown["totals"]["total"]), "what is shown can be ordered: {placed} {shown}");
    api.settled(placed["token"].as_str().unwrap()).await
}

fn amount(value: &Value) -> i64 {
    value["amount"].as_i64().unwrap_or_else(|| panic!("no amount: {value}"))
}

fn applied(view: &Value) -> Vec<&str> {
    view["applied"].as_array().unwrap().iter().map(|applied| applied["id"].as_str().unwrap()).collect()
}

fn reason<'a>(view: &'a Value, code: &str) -> &'a str {
    let rejected = view["rejected"].as_array().unwrap().iter().find(|rejected| rejected["code"] == code);
    rejected.unwrap_or_else(|| panic!("{code} is not rejected: {view}"))["reason"].as_str().unwrap()
}

#[tokio::test]
async fn eleven_lines_are_discounted_as_one_line_of_eleven() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    jars(&shop);
    coupon(&shop, &["code=TENTH", "percent=10"]);
    let (many, one) = (empty(&api).await, empty(&api).await);
    for number in 0..11 {
        add(&api, &many, &format!("JAR-{number}"), 1).await;
    }
    add(&api, &one, "JAR-11", 11).await;
    let mut totals = Vec::new();
    for (cart, email) in [(&many, "a@shop.example"), (&one, "b@shop.example")] {
        api.code(cart, "TENTH").await;
        contact(&api, cart, email).await;
        let view = deliver(&api, cart).await;
        let discounts: i64 = view["lines"].as_array().unwrap().iter().map(|line| amount(&line["discount"])).sum();
        assert_eq!((amount(&view["totals"]["discount"]), discounts), (1_084, 1_084), "{view}");
        let order = order(&api, cart, &view).await;
        // Each line is what its part leaves, and all of them are the order.
        let lines: i64 = order["lines"].as_array().unwrap().iter().map(|line| amount(&line["total"])).sum();
        assert_eq!(lines + amount(&order["totals"]["shipping"]), amount(&order["payment"]["amount"]), "{order}");
        totals.push(amount(&view["totals"]["total"]));
    }
    assert_eq!(totals[0], totals[1]);
}

#[tokio::test]
async fn an_exclusive_code_stands_alone_and_the_better_offer_is_taken_and_told() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    jars(&shop);
    import(&shop, "promotions.json", &json!({ "coupons": [
        { "code": " ｓｏｌｏ３０ ", "name": { "en": "Thirty off", "zh-CN": "七折券" }, "kind": "percent", "value": 30, "exclusive": true },
        { "code": "PLUS20", "name": { "en": "Twenty off", "zh-CN": "八折券" }, "kind": "percent", "value": 20 },
        { "code": "PLUS15", "name": { "en": "Fifteen off", "zh-CN": "八五折券" }, "kind": "percent", "value": 15 },
    ] }).to_string(), "coupons");
    let coupons = shop.run("list-coupons", &[]);
    let solo = coupons.as_array().unwrap().iter().find(|coupon| coupon["code"] == "SOLO30").unwrap();
    assert_eq!(solo["offer"], "30 % off, with no other discount");
    let cart = empty(&api).await;
    let none = add(&api, &cart, "JAR-1", 10).await;
    let first = api.code(&cart, "PLUS20").await;
    assert_eq!(applied(&first), ["discount-coupon/PLUS20"]);
    let solo = api.code(&cart, "solo30").await;
    assert_eq!(applied(&solo), ["discount-coupon/SOLO30"], "{solo}");
    assert!(reason(&solo, "PLUS20").contains("cannot be combined with “Thirty off”"), "{solo}");
    // A second one that combines makes both of them better: 32 %.
    let both = api.code(&cart, "PLUS15").await;
    assert_eq!(applied(&both), ["discount-coupon/PLUS15", "discount-coupon/PLUS20"], "{both}");
    assert!(reason(&both, "SOLO30").contains("cannot be combined with “Fifteen off” + “Twenty off”"), "{both}");
    for (worse, better) in [(&none, &first), (&first, &solo), (&solo, &both)] {
        assert!(amount(&worse["totals"]["total"]) > amount(&better["totals"]["total"]));
    }
    contact(&api, &cart, "li.lei@shop.example").await;
    let shown = deliver(&api, &cart).await;
    order(&api, &cart, &shown).await;

    // By the command, too; and the pages tell it in the reader's language.
    coupon(&shop, &["code=PLUS20", "exclusive=true"]);
    let visitor = Visitor::of(&shop);
    visitor.post("/zh/cart/lines", &[("sku", "JAR-1"), ("quantity", "10")]).await;
    visitor.post("/zh/cart/codes", &[("code", "SOLO30")]).await;
    assert_eq!(visitor.post("/zh/cart/codes", &[("code", "PLUS20")]).await.status, 303, "it stays entered");
    for _ in 0..2 {
        let page = visitor.get("/zh/cart").await.body;
        assert!(page.contains("此优惠码不能与“七折券”同时使用，当前优惠不低于它。"), "on each load: {page}");
    }
}

#[tokio::test]
async fn a_code_that_is_outdone_now_counts_when_a_later_one_makes_it_better() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    jars(&shop);
    coupon(&shop, &["code=SOLO30", "percent=30", "exclusive=true"]);
    coupon(&shop, &["code=PLUS20", "percent=20"]);
    coupon(&shop, &["code=PLUS15", "percent=15"]);
    let mut totals = Vec::new();
    for codes in [["SOLO30", "PLUS20", "PLUS15"], ["PLUS15", "SOLO30", "PLUS20"], ["PLUS20", "PLUS15", "SOLO30"]] {
        let cart = empty(&api).await;
        add(&api, &cart, "JAR-1", 10).await;
        for code in codes {
            api.code(&cart, code).await;
        }
        let (_, view) = api.send("GET", &cart, Value::Null).await;
        assert_eq!(applied(&view), ["discount-coupon/PLUS15", "discount-coupon/PLUS20"], "{codes:?}: {view}");
        assert!(reason(&view, "SOLO30").contains("cannot be combined with"), "{view}");
        totals.push(amount(&view["totals"]["total"]));
    }
    assert!(totals.iter().all(|total| *total == totals[0]), "{totals:?}");
}

#[tokio::test]
async fn a_used_up_code_is_not_offered_whatever_becomes_of_its_limit() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    jars(&shop);
    let file = |limit: Value| json!({ "coupons": [{ "code": "FEW", "name": { "en": "Few", "zh-CN": "限量" }, "kind": "percent", "value": 50, "limit": limit }] }).to_string();
    let buy = async |number: usize| {
        let cart = empty(&api).await;
        add(&api, &cart, "JAR-1", 1).await;
        contact(&api, &cart, &format!("buyer.{number}@shop.example")).await;
        deliver(&api, &cart).await;
        let told = api.code(&cart, "FEW").await;
        let is_offered = applied(&told) == ["discount-coupon/FEW"];
        assert!(is_offered || reason(&told, "FEW").contains("used up"), "{told}");
        let (_, shown) = api.send("GET", &cart, Value::Null).await;
        order(&api, &cart, &shown).await;
        is_offered
    };
    import(&shop, "few.json", &file(json!(2)), "coupons");
    assert_eq!([buy(1).await, buy(2).await, buy(3).await], [true, true, false]);
    for (limit, offered) in [(json!(2), false), (json!(1), false), (json!(2), false), (json!(3), true), (json!(3), false)] {
        import(&shop, "few.json", &file(limit.clone()), "coupons");
        assert_eq!(buy(4).await, offered, "{limit}");
    }
    coupon(&shop, &["code=FEW", "limit=1"]);
    assert!(!buy(5).await);
    coupon(&shop, &["code=FEW", "limit=none"]);
    assert!(buy(6).await);
    coupon(&shop, &["code=FEW", "limit=2"]);
    assert!(!buy(7).await);
}

#[tokio::test]
async fn one_mailbox_is_one_customer_however_its_address_is_written() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    jars(&shop);
    coupon(&shop, &["code=FIRST", "percent=50", "per-customer=1"]);
    let cart = async |email: &str| {
        let cart = empty(&api).await;
        add(&api, &cart, "JAR-2", 1).await;
        // Typed before it is known who it is.
        assert_eq!(applied(&api.code(&cart, "FIRST").await), ["discount-coupon/FIRST"]);
        contact(&api, &cart, email).await;
        (deliver(&api, &cart).await, cart)
    };
    for (email, is_new) in [
        ("Li.Lei+tea@gmail.com", true),
        ("lilei@googlemail.com", false),
        ("li.lei@shop.example", true),
        ("LI.LEI+2@shop.example", false),
        ("lilei@shop.example", true),
    ] {
        let (shown, cart) = cart(email).await;
        assert_eq!(!applied(&shown).is_empty(), is_new, "{email}: {shown}");
        assert!(is_new || reason(&shown, "FIRST").contains("already used"), "{shown}");
        let placed = order(&api, &cart, &shown).await;
        assert_eq!(placed["contact"]["email"], email, "mail goes to what was typed");
    }
}

#[tokio::test]
async fn a_code_that_does_not_apply_is_told_where_it_was_typed_and_not_kept() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    jars(&shop);
    coupon(&shop, &["code=BIG", "percent=10", "minimum=50.00"]);
    let cart = empty(&api).await;
    add(&api, &cart, "JAR-3", 1).await;
    for (code, why) in [("NOPE", "not valid"), ("SPRING26", "expired"), ("BIG", "50.00")] {
        let told = api.code(&cart, code).await;
        assert!(reason(&told, code).contains(why), "{told}");
        let (_, after) = api.send("GET", &cart, Value::Null).await;
        assert_eq!((&after["codes"], &after["rejected"]), (&json!([]), &json!([])), "{after}");
    }
    let visitor = Visitor::of(&shop);
    visitor.post("/en/cart/lines", &[("sku", "JAR-3"), ("quantity", "1")]).await;
    for (language, why) in [("en", "This code is not valid."), ("zh", "此优惠码无效。")] {
        let told = visitor.post(&format!("/{language}/cart/codes"), &[("code", " nope ")]).await;
        let field = told.body.split("id=\"code\"").nth(1).unwrap().split("</form>").next().unwrap();
        // No error, so that it is counted.
        assert!(told.status == 200 && field.contains("value=\"nope\"") && field.contains(why), "{} {field}", told.status);
        let cart = visitor.get(&format!("/{language}/cart")).await.body;
        assert!(!cart.contains(why) && !cart.contains("NOPE"), "{cart}");
    }

    // One that applied and does no longer stays, with the reason and a way to take it out.
    visitor.post("/en/cart/quantity", &[("line", "JAR-3"), ("quantity", "6")]).await;
    assert_eq!(visitor.post("/en/cart/codes", &[("code", "big")]).await.status, 303);
    visitor.post("/en/cart/quantity", &[("line", "JAR-3"), ("quantity", "1")]).await;
    let page = visitor.get("/en/cart").await;
    assert!(page.body.contains("This code counts for goods of") && page.body.contains("/cart/codes/remove"), "{}", page.body);
    visitor.post("/en/cart/codes/remove", &[("code", "BIG")]).await;
    assert!(!visitor.get("/en/cart").await.body.contains("BIG"));
}

/// Two kinds of goods, of which one is taxed on top of its price and the other is not.
fn taxed_on_top(shop: &Shop) {
    let text = |text: &str| json!({ "en": text, "zh-CN": text });
    let product = |handle: &str, class: &str| json!({
        "handle": handle, "category": handle, "name": text(handle), "subtitle": text(""), "description": text(""), "brand": "Souk", "tax-class": class,
        "tags": [], "attributes": [], "options": [], "images": [], "position": 1, "created-at": "2026-03-01T00:00:00Z",
        "variants": [{ "sku": handle.to_uppercase(), "options": [], "price": 10_000, "compare-at-price": null, "weight-g": 900, "stock": 50, "barcode": null }],
    });
    let category = |handle: &str| json!({ "handle": handle, "parent": null, "name": text(handle), "description": text(""), "position": 1 });
    let catalogue = json!({ "categories": [category("wine"), category("bread")], "products": [product("wine", "full"), product("bread", "none")] });
    import(shop, "catalogue.json", &catalogue.to_string(), "catalogue");
    import(shop, "stock.json", &json!(["WINE", "BREAD"].map(|sku| json!({ "sku": sku, "quantity": 50 }))).to_string(), "stock");
    import(shop, "tax.json", &json!({ "zones": [{ "id": "cn", "countries": ["CN"], "included": false, "default-rate": "0.2", "classes": { "none": "0" } }] }).to_string(), "tax");
}

#[tokio::test]
async fn a_code_costs_no_more_than_none_where_tax_is_added() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    taxed_on_top(&shop);
    let rule = json!({ "id": "second", "name": { "en": "Second", "zh-CN": "第二件" }, "category": "wine", "buy": 1, "get": 1, "discount-percent": 95 });
    import(&shop, "rules.json", &json!({ "buy-x-get-y": [rule] }).to_string(), "bxgy");
    // 100.00 off bread is more than 95.00 off wine, but not with the 20 % that wine has on top.
    coupon(&shop, &["code=BREAD", "amount=100", "category=bread", "exclusive=true"]);
    coupon(&shop, &["code=TENTH", "percent=10"]);
    let cart = empty(&api).await;
    add(&api, &cart, "WINE", 2).await;
    let none = add(&api, &cart, "BREAD", 2).await;
    let dearer = api.code(&cart, "BREAD").await;
    assert_eq!(dearer["totals"], none["totals"], "{dearer}");
    assert!(reason(&dearer, "BREAD").contains("no less with the code"), "{dearer}");
    let better = api.code(&cart, "TENTH").await;
    assert!(amount(&better["totals"]["total"]) < amount(&none["totals"]["total"]), "{better}");
    contact(&api, &cart, "li.lei@shop.example").await;
    let shown = deliver(&api, &cart).await;
    assert!(amount(&shown["totals"]["tax_added"]) > 0, "{shown}");
    order(&api, &cart, &shown).await;
}

#[tokio::test]
async fn tax_on_top_does_not_depend_on_the_lines_either() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    jars(&shop);
    import(&shop, "tax.json", &json!({ "zones": [{ "id": "cn", "countries": ["CN"], "included": false, "default-rate": "0.075" }] }).to_string(), "tax");
    let (many, one) = (empty(&api).await, empty(&api).await);
    for number in 0..11 {
        add(&api, &many, &format!("JAR-{number}"), 1).await;
    }
    add(&api, &one, "JAR-11", 11).await;
    let mut totals = Vec::new();
    for cart in [&many, &one] {
        let (_, view) = api.send("GET", cart, Value::Null).await;
        let taxes: i64 = view["taxes"].as_array().unwrap().iter().map(|tax| amount(&tax["amount"])).sum();
        assert_eq!((amount(&view["totals"]["tax_added"]), taxes), (813, 813), "{view}");
        totals.push(amount(&view["totals"]["total"]));
    }
    assert_eq!(totals[0], totals[1]);
}
