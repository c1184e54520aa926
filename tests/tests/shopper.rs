//! What a shopper meets on the pages, without scripts: nothing that was ordered
//! or chosen is lost, and nothing changes without a word.

use std::fs;

use serde_json::{Value, json};
use souk_tests::api::Api;
use souk_tests::visitor::Visitor;
use souk_tests::{Shop, store};

const LATER: &str = "pay-sandbox";

fn import(shop: &Shop, name: &str, text: &str, kind: &str) {
    let file = shop.folder().join(name);
    fs::write(&file, text).unwrap();
    let (imported, said) = shop.says(&["store", "import", file.to_str().unwrap(), "--kind", kind]);
    assert!(imported, "{said}");
}

fn stock(shop: &Shop, sku: &str, quantity: i64) {
    let file = shop.folder().join("stock.json");
    fs::write(&file, json!([{ "sku": sku, "quantity": quantity }]).to_string()).unwrap();
    shop.run("import-stock", &["--input", file.to_str().unwrap()]);
}

/// Products whose skus hold every sign that means something in an address.
const SIGNS: &str = "Handle,Title,Option1 Name,Option1 Value,Variant SKU,Variant Price,Variant Inventory Qty
paper-lamp,Paper lamp,Size,Small,PL-S,10.00,5
paper-lamp,,,Large,PL+L,20.00,5
clay-bowl,Clay bowl,Size,Small,CB-S,10.00,5
clay-bowl,,,Large,CB&L,20.00,5
wool-hat,Wool hat,Size,Small,WH-S,10.00,5
wool-hat,,,Large,WH#L,20.00,5
rice-pot,Rice pot,Size,Small,RP-S,10.00,5
rice-pot,,,Large,RP%25L,20.00,5
";

#[tokio::test]
async fn an_order_is_found_again_whatever_its_shopper_presses() {
    let shop = Shop::open();
    let (api, visitor) = (Api::of(&shop), Visitor::of(&shop));
    let (sku, _) = api.buyable(5).await;
    let form = visitor.to_payment("en", &sku, 2).await;
    let first = visitor.place("en", &form, LATER).await;
    let token = first.token().to_owned();
    // A second press, the way back, and a look at the cart.
    assert_eq!(visitor.place("en", &form, LATER).await.token(), token);
    assert_eq!(visitor.get("/en/checkout/payment").await.token(), token);
    assert_eq!(visitor.get("/en/checkout").await.token(), token);
    let cart = visitor.get("/en/cart").await;
    let (_, order) = api.send("GET", &format!("/orders/{token}"), Value::Null).await;
    let number = order["number"].as_str().unwrap().to_owned();
    assert!(cart.body.contains(&format!("Order {number} is not paid yet")) && cart.body.contains(&format!("/en/orders/{token}/change")), "{}", cart.body);
    assert_eq!(shop.run("list-orders", &[]).as_array().unwrap().len(), 1);
    assert!(visitor.get("/en/orders").await.body.contains(&number));

    // Sent once more after another cart was begun, it still is that order.
    let (other, _) = api.buyable(9).await;
    visitor.post("/en/cart/lines", &[("sku", &other), ("quantity", "1")]).await;
    assert_eq!(visitor.place("en", &form, LATER).await.token(), token);
    assert_eq!(shop.run("list-orders", &[]).as_array().unwrap().len(), 1);

    // Another browser knows nothing of it, but for who knows what it was placed with.
    visitor.forget();
    assert!(!visitor.get("/en/orders").await.body.contains(&number));
    let wrong = [("7777-7777", "li.lei@shop.example"), (number.as_str(), "han.mei@shop.example"), (number.as_str(), "13800138001")];
    let mut answers = Vec::new();
    for (number, contact) in wrong {
        let seen = visitor.post("/en/orders/find", &[("number", number), ("contact", contact)]).await;
        assert_eq!((seen.status, seen.location.as_str()), (200, ""), "{}", seen.body);
        answers.push(seen.body.split("role=\"alert\"").nth(1).unwrap().split("</p>").next().unwrap().to_owned());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let typed = number.to_lowercase().replace('-', " ");
    assert_eq!(visitor.post("/zh/orders/find", &[("number", &typed), ("contact", "LI.LEI＠shop.example")]).await.token(), token);
    assert_eq!(visitor.post("/zh/orders/find", &[("number", &number), ("contact", "+86 138 0013 8000")]).await.token(), token);
    assert!(visitor.get("/zh/orders").await.body.contains(&number), "it is remembered then");
    let (status, found) = api.send("POST", "/order-look-up", json!({ "number": number, "contact": "li.lei@shop.example" })).await;
    assert_eq!((status, &found["token"]), (200, &json!(token)), "{found}");
    let (status, found) = api.send("POST", "/order-look-up", json!({ "number": number, "contact": "x@shop.example" })).await;
    assert_eq!((status, found), (200, json!({ "token": null })));
}

#[tokio::test]
async fn a_changed_order_gives_back_its_coupon_and_fills_the_cart() {
    let shop = Shop::open();
    let (api, visitor) = (Api::of(&shop), Visitor::of(&shop));
    let (sku, _) = api.buyable(5).await;
    let before = api.available(&sku).await;
    visitor.post("/en/cart/lines", &[("sku", &sku), ("quantity", "2")]).await;
    visitor.post("/en/cart/codes", &[("code", " ｏｎｃｅ ")]).await;
    let form = visitor.check_out("en").await;
    let token = visitor.place("en", &form, LATER).await.token().to_owned();
    assert_eq!(api.available(&sku).await, before - 2);
    let coupon = async || {
        let (cart, _) = api.cart(&sku, 1).await.unwrap();
        let (_, cart) = api.send("POST", &format!("{cart}/codes"), json!({ "code": "ONCE" })).await;
        cart["applied"].to_string().contains("discount-coupon/ONCE")
    };
    assert!(!coupon().await, "the order holds it");

    // What lies in the cart meanwhile stays there.
    let (other, _) = api.buyable(9).await;
    visitor.post("/en/cart/lines", &[("sku", &other), ("quantity", "1")]).await;
    let changed = visitor.post(&format!("/en/orders/{token}/change"), &[]).await;
    assert_eq!(changed.status, 303, "{}", changed.body);
    assert_eq!(api.send("GET", &format!("/orders/{token}"), Value::Null).await.1["status"], "cancelled");
    assert!(coupon().await, "it is free at once");
    assert_eq!(api.available(&sku).await, before);
    let cart = visitor.follow(changed).await.body;
    assert!(cart.contains("was cancelled; its items are back in your cart") && cart.contains("ONCE") && cart.contains(&format!("sku={other}")), "{cart}");
    let again = visitor.get("/en/checkout/payment").await;
    assert!(again.body.contains("龙井路 1 号"), "address and delivery need not be entered again: {}", again.body);

    // Over the API, and for what is gone by then.
    let (cart, _) = api.cart(&sku, 2).await.unwrap();
    let (_, placed) = api.order(&cart, LATER).await.unwrap();
    let order = format!("/orders/{}", placed["token"].as_str().unwrap());
    stock(&shop, &sku, 2);
    let (status, reopened) = api.send("POST", &format!("{order}/cart"), Value::Null).await;
    assert_eq!((status, &reopened["left_out"]), (201, &json!([])), "{reopened}");
    stock(&shop, &sku, 1);
    let (status, reopened) = api.send("POST", &format!("{order}/cart"), Value::Null).await;
    assert_eq!((status, reopened["left_out"].as_array().unwrap().len()), (201, 1), "{reopened}");
    let (_, cart) = api.send("GET", &format!("/carts/{}", reopened["cart"].as_str().unwrap()), Value::Null).await;
    assert_eq!(cart["item_count"], 1, "{cart}");
}

fn lamp(price: i64) -> String {
    let text = |text: &str| json!({ "en": text, "zh-CN": text });
    json!({ "categories": [], "products": [{
        "handle": "lamp", "category": "tea", "name": text("Lamp"), "subtitle": text("Bright"), "description": text("A lamp."), "brand": "Souk",
        "tags": [], "attributes": [], "options": [], "images": ["lamp.webp"], "position": 1, "created-at": "2026-03-01T00:00:00Z",
        "variants": [{ "sku": "LAMP", "options": [], "price": price, "compare-at-price": null, "weight-g": 900, "stock": 5, "barcode": null }],
    }] })
    .to_string()
}

#[tokio::test]
async fn nothing_changes_without_a_word() {
    let shop = Shop::open();
    let (api, visitor) = (Api::of(&shop), Visitor::of(&shop));
    let (other, _) = api.buyable(5).await;
    import(&shop, "lamp.json", &lamp(10_000), "catalogue");
    stock(&shop, "LAMP", 9);
    visitor.post("/en/cart/lines", &[("sku", "LAMP"), ("quantity", "1")]).await;
    visitor.post("/en/cart/lines", &[("sku", &other), ("quantity", "1")]).await;
    visitor.post("/en/cart/codes", &[("code", "ONCE")]).await;
    let form = visitor.check_out("en").await;
    assert!(!visitor.get("/en/cart").await.body.contains("Not as it was"));

    // A price rises, the coupon goes to somebody else, and a line is taken out in another window.
    import(&shop, "lamp.json", &lamp(12_000), "catalogue");
    let (cart, _) = api.cart(&other, 1).await.unwrap();
    api.send("POST", &format!("{cart}/codes"), json!({ "code": "ONCE" })).await;
    assert_eq!(api.order(&cart, LATER).await.unwrap().0, 201);
    for path in ["/en/cart", "/en/checkout/payment"] {
        let seen = visitor.get(path).await.body;
        assert!(seen.contains("Lamp: the price was") && seen.contains("120.00") && seen.contains("+CN¥20.00 each") || seen.contains("+¥20.00 each"), "{path}: {seen}");
        assert!(seen.contains("ONCE takes nothing off any more"), "{path}: {seen}");
    }
    assert!(visitor.get("/zh/checkout/payment").await.body.contains("优惠码 ONCE 已不能使用"));
    assert!(visitor.get("/zh/products?sort=newest").await.body.contains("href=\"/en/products?sort=newest\""), "the other language shows the same");
    visitor.post("/en/cart/quantity", &[("line", &other), ("quantity", "0")]).await;
    let stale = visitor.place("en", &form, LATER).await;
    assert_eq!(stale.status, 409, "{}", stale.location);
    for told in ["is no longer in the cart", "Lamp: the price was", "The total was"] {
        assert!(stale.body.contains(told), "{told}: {}", stale.body);
    }
    let gone = visitor.post("/en/cart/quantity", &[("line", &other), ("quantity", "3")]).await;
    assert!(gone.status == 409 && gone.body.contains("taken out of the cart meanwhile"), "{}", gone.body);
    // Who chooses again has seen the price.
    visitor.post("/en/cart/quantity", &[("line", "LAMP"), ("quantity", "2")]).await;
    assert!(!visitor.get("/en/cart").await.body.contains("the price was"));
}

#[tokio::test]
async fn stock_on_a_kept_page_is_that_of_the_last_commit() {
    let shop = Shop::open();
    let (api, visitor) = (Api::of(&shop), Visitor::of(&shop));
    import(&shop, "lamp.json", &lamp(10_000), "catalogue");
    let shown = async |words: &str| {
        // The second time as it was kept.
        for _ in 0..2 {
            let page = visitor.get("/en/p/lamp").await.body;
            assert!(page.contains(words), "{words}: {page}");
        }
    };
    for (quantity, words) in [(40, "In stock"), (7, "Only 7 left"), (0, "Sold out"), (3, "Only 3 left"), (50, "In stock"), (12, "In stock")] {
        stock(&shop, "LAMP", quantity);
        shown(words).await;
    }
    let (cart, _) = api.cart("LAMP", 4).await.unwrap();
    let (_, placed) = api.order(&cart, LATER).await.unwrap();
    shown("Only 8 left").await;
    api.send("POST", &format!("/orders/{}/cancel", placed["token"].as_str().unwrap()), Value::Null).await;
    shown("In stock").await;
}

#[tokio::test]
async fn what_is_typed_in_full_width_is_taken_and_kept_plain() {
    let shop = Shop::open();
    let (api, visitor) = (Api::of(&shop), Visitor::of(&shop));
    let (sku, _) = api.buyable(3).await;
    visitor.post("/en/cart/lines", &[("sku", &sku), ("quantity", "１")]).await;
    let typed = [
        ("email", " li.lei＠Shop.example"), ("country", "JP"), ("name", "山田　花子"), ("phone", "０９０－１２３４－５６７８"), ("region", "13"),
        ("street", "千代田区千代田１－１"), ("postal-code", "１００－０００１"),
    ];
    let sent = visitor.post("/en/checkout", &typed).await;
    assert_eq!((sent.status, sent.location.as_str()), (303, "/en/checkout/shipping"), "{}", sent.body);
    let method = visitor.get("/en/checkout/shipping").await;
    let method = method.body.split("name=\"method\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    visitor.post("/en/checkout/shipping", &[("method", &method)]).await;
    let page = visitor.get("/en/checkout/payment").await.body;
    assert!(page.contains("090-1234-5678") && page.contains("100-0001 東京都千代田区千代田1-1"), "{page}");

    let (_, cart) = api.send("POST", "/carts", Value::Null).await;
    let path = format!("/carts/{}", cart["id"].as_str().unwrap());
    let (_, cart) = api.send("PUT", &format!("{path}/contact"), json!({ "email": "a＠shop.example", "phone": "＋８６ 138-0013-8000" })).await;
    assert_eq!(cart["contact"], json!({ "email": "a@shop.example", "phone": "+86-138-0013-8000" }), "{cart}");
    let mut address = souk_tests::api::address();
    address["phone"] = json!("+86 138 0013 8000");
    address["street"] = json!("路".repeat(100));
    let (status, cart) = api.send("PUT", &format!("{path}/addresses"), json!({ "shipping": address })).await;
    assert_eq!((status, &cart["shipping_address"]["phone"]), (200, &json!("13800138000")), "{cart}");
    address["street"] = json!("路".repeat(300));
    let chinese = api.http.put(format!("{}/api/v1{path}/addresses", shop.url)).header("accept-language", "zh-CN").json(&json!({ "shipping": address }));
    let problem: Value = chinese.send().await.unwrap().json().await.unwrap();
    assert_eq!(problem["errors"][0]["message"], "请缩短此项内容。", "{problem}");
}

#[tokio::test]
async fn every_sku_can_be_chosen_and_bought_without_a_script() {
    let shop = Shop::open();
    import(&shop, "signs.csv", SIGNS, "products");
    for (handle, sku) in [("paper-lamp", "PL+L"), ("clay-bowl", "CB&L"), ("wool-hat", "WH#L"), ("rice-pot", "RP%25L")] {
        let visitor = Visitor::of(&shop);
        let small = visitor.get(&format!("/en/p/{handle}")).await;
        // The last of the choices.
        let links = small.body.rsplit("href=\"").map(|rest| rest.split('"').next().unwrap_or_default());
        let large = visitor.get(&links.into_iter().find(|link| link.contains("?sku=")).unwrap().replace("&amp;", "&")).await;
        assert!(large.body.contains("20.00"), "{handle}: {}", large.body);
        let form = large.hidden("/cart/lines");
        assert_eq!(form, [("sku".to_owned(), sku.to_owned())]);
        visitor.post("/en/cart/lines", &[("sku", sku), ("quantity", "1")]).await;
        let cart = visitor.get("/en/cart").await;
        let back = visitor.get(&cart.link(&format!("/en/p/{handle}?sku="))).await;
        assert!(back.body.contains("aria-current=\"true\">Large"), "{}", back.body);
        let badge = visitor.get("/en/cart/badge.svg").await;
        assert!(badge.body.starts_with("<svg") && badge.body.contains(">1</text>"), "{}", badge.body);
    }
}

#[tokio::test]
async fn pictures_from_elsewhere_show_where_the_settings_name_it() {
    let store = store();
    let settings = store.path().join("store/souk.toml");
    let text = fs::read_to_string(&settings).unwrap().replace("[server]\n", "[server]\nimage-origins = [\"https://cdn.example\"]\n");
    fs::write(&settings, text).unwrap();
    let shop = Shop::serve(store);
    let policy = souk_tests::client().get(format!("{}/en", shop.url)).send().await.unwrap().headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("img-src 'self' data: https://cdn.example;"), "{policy}");
}

#[tokio::test]
async fn addresses_that_lead_nowhere_say_so_to_people_and_to_programs() {
    let shop = Shop::open();
    let visitor = Visitor::of(&shop);
    Api::of(&shop).searchable("tea").await;
    for path in ["/en/products?page=0", "/en/products?page=x", "/en/products?page=999", "/en/c/tea?page=4294967295", "/zh/search?q=tea&page=99", "/en/pages/none", "/en/p/none", "/sitemap/products-9.xml"] {
        let seen = visitor.get(path).await;
        assert!(seen.status == 404 && seen.body.contains("<h1>"), "{path}: {} {}", seen.status, seen.body);
    }
    for (path, fields) in [("/en/cart/lines", vec![("quantity", "1")]), ("/en/cart/lines", vec![("sku", "x"), ("quantity", "many")]), ("/zh/checkout/place", vec![])] {
        let seen = visitor.post(path, &fields).await;
        assert!(seen.status >= 400 && seen.body.contains("<!DOCTYPE html>"), "{path}: {} {}", seen.status, seen.body);
    }
    for (method, path) in [("GET", "/api/v1/nope"), ("POST", "/api/v1/products/x/y"), ("GET", "/api/v2/products"), ("DELETE", "/api/x")] {
        let answer = souk_tests::client().request(method.parse().unwrap(), format!("{}{path}", shop.url)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (404, "application/problem+json"), "{method} {path}");
    }
}

#[tokio::test]
async fn search_engines_find_every_page_once() {
    let shop = Shop::open();
    let visitor = Visitor::of(&shop);
    let index = visitor.get("/sitemap.xml").await.body;
    let parts: Vec<&str> = index.split("<loc>").skip(1).map(|rest| rest.split("</loc>").next().unwrap()).collect();
    assert_eq!(parts.len(), 2, "{index}");
    let read = async |part: &str| visitor.get(&part[part.find("/sitemap/").unwrap()..]).await.body;
    let (pages, products) = (read(parts[0]).await, read(parts[1]).await);
    for path in ["/zh/products<", "/en/c/tea<", "/zh/pages/imprint<"] {
        assert!(pages.contains(path), "{path}: {pages}");
    }
    assert!(products.matches("<loc>").count() >= 600 && products.contains("/en/p/longjing-green-tea<"));
    let second = visitor.get("/en/products?page=2&sort=newest").await.body;
    assert!(second.contains("/en/products?page=2\"") && second.contains("hreflang=\"x-default\"") && second.contains("/zh/products?page=2\""), "{second}");
    assert!(visitor.get("/en/orders").await.body.contains("name=\"robots\" content=\"noindex\""));
}

#[tokio::test]
async fn the_shops_own_pages_are_content() {
    let shop = Shop::open();
    let visitor = Visitor::of(&shop);
    assert!(visitor.get("/en").await.body.contains("href=\"/en/pages/privacy\">Privacy"));
    assert!(visitor.get("/zh/pages/returns").await.body.contains("七天无理由退货"));
    import(&shop, "pages.md", "# Imprint & more {imprint en}\n\nWrite to <a@shop.example> <script>.\n", "pages");
    let imprint = visitor.get("/en/pages/imprint").await.body;
    assert!(imprint.contains("<h1>Imprint &amp; more</h1>") && imprint.contains("mailto:a@shop.example") && imprint.contains("&lt;script&gt;"), "{imprint}");
    assert!(visitor.get("/zh/pages/imprint").await.body.contains("<article class=\"written\" lang=\"en\">"));
    assert_eq!(visitor.get("/en/pages/privacy").await.status, 404);
    assert!(!visitor.get("/zh").await.body.contains("/pages/privacy"), "kept pages lose the link at once");
    let file = shop.folder().join("pages.md");
    fs::write(&file, "# Imprint\n").unwrap();
    let (imported, said) = shop.says(&["store", "import", file.to_str().unwrap(), "--kind", "pages"]);
    assert!(!imported && said.contains("line 1"), "{said}");
}
