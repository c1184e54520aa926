//! What one client, or one plugin, may do so often that it would be felt by
//! others: guess at codes and orders, fill the store, hold stock.

use serde_json::{Value, json};
use souk_tests::api::{Api, INSTANT};
use souk_tests::visitor::Visitor;
use souk_tests::{Shop, behind_a_proxy, client, client_at, configure, install_guest, limit, store};

const LATER: &str = "pay-sandbox";

fn at(shop: &Shop, address: &str) -> Api {
    let mut api = Api::of(shop);
    api.http = client_at(address);
    api
}

/// A shop that believes `X-Forwarded-For`.
fn proxied(settings: &[(&str, &str)]) -> Shop {
    let folder = store();
    for (plugin, settings) in settings {
        configure(&folder, plugin, settings);
    }
    behind_a_proxy(&folder);
    Shop::serve(folder)
}

async fn empty_cart(api: &Api) -> String {
    let (status, cart) = api.send("POST", "/carts", Value::Null).await;
    assert_eq!(status, 201, "{cart}");
    format!("/carts/{}", cart["id"].as_str().unwrap())
}

async fn enter(api: &Api, cart: &str, code: &str) -> (u16, Value) {
    api.send("POST", &format!("{cart}/codes"), json!({ "code": code })).await
}

/// How many units were committed with writes meanwhile, once those of the shop's beginning are.
async fn writes(shop: &Shop, work: impl AsyncFnOnce()) -> f64 {
    Api::of(shop).searchable("tea").await;
    let before = shop.metric("souk_units_committed").await;
    work().await;
    shop.metric("souk_units_committed").await - before
}

#[tokio::test]
async fn codes_are_guessed_so_often_and_nobody_else_is_kept_from_theirs() {
    let shop = proxied(&[("cart", "codes-per-session-max = 8\ncodes-per-network-max = 30")]);
    let thief = at(&shop, "203.0.113.7");
    let (sku, _) = thief.buyable(2).await;
    let (cart, _) = thief.cart(&sku, 1).await.unwrap();
    // A typo now and then is nothing.
    for guess in 0..8 {
        let (status, told) = enter(&thief, &cart, &format!("GUESS-{guess}")).await;
        assert!(status == 200 && told["rejected"].to_string().contains("not valid"), "{status} {told}");
    }
    let (_, refused) = enter(&thief, &cart, "GUESS-9").await;
    assert_eq!(refused["status"], 429, "{refused}");
    assert_eq!(enter(&thief, &cart, "ONCE").await.1, refused, "a code that exists is told from no other then");
    let answer = thief.http.post(format!("{}{cart}/codes", thief.url())).json(&json!({ "code": "ONCE" })).send().await.unwrap();
    let wait_s: u32 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=1_800).contains(&wait_s), "{wait_s}");

    // New carts help until the network has tried enough; also where nothing judges the code at first.
    let mut tries = 8;
    'guessing: loop {
        let cart = empty_cart(&thief).await;
        for guess in 0..8 {
            if enter(&thief, &cart, &format!("MORE-{guess}")).await.0 == 429 {
                break 'guessing;
            }
            tries += 1;
            assert!(tries <= 30, "nobody may try for ever");
        }
    }
    assert_eq!(tries, 30);

    // Somebody else enters a code of theirs, after a typo, and in a browser.
    let honest = at(&shop, "198.51.100.9");
    let (cart, _) = honest.cart(&sku, 1).await.unwrap();
    assert_eq!(enter(&honest, &cart, "ONEC").await.0, 200);
    assert!(enter(&honest, &cart, "ONCE").await.1["applied"].to_string().contains("ONCE"));
    let visitor = Visitor::at(&shop, "198.51.100.10");
    visitor.post("/en/cart/lines", &[("sku", &sku), ("quantity", "1")]).await;
    for guess in 0..8 {
        assert_eq!(visitor.post("/en/cart/codes", &[("code", &format!("TYPO-{guess}"))]).await.status, 200);
    }
    for (language, words) in [("en", "Try again in"), ("zh", "分钟后重试")] {
        let told = visitor.post(&format!("/{language}/cart/codes"), &[("code", "TEATIME")]).await;
        assert!(told.status == 429 && told.body.contains(words) && told.body.contains("value=\"TEATIME\""), "{} {}", told.status, told.body);
    }
    assert!(!visitor.check_out("en").await.is_empty(), "the cart can be bought all the same");
}

#[tokio::test]
async fn who_guesses_at_orders_locks_out_neither_their_owner_nor_others() {
    let shop = proxied(&[]);
    let thief = at(&shop, "203.0.113.7");
    let (sku, _) = thief.buyable(2).await;
    let owner = at(&shop, "198.51.100.9");
    let (cart, filled) = owner.cart(&sku, 1).await.unwrap();
    let (_, placed) = owner.order(&cart, LATER).await.unwrap();
    let (number, email) = (placed["number"].as_str().unwrap(), filled["contact"]["email"].as_str().unwrap());
    let ask = async |api: &Api, number: &str, contact: &str| api.send("POST", "/order-look-up", json!({ "number": number, "contact": contact })).await;
    for number in [number, "AAAA-AAAA"] {
        for guess in 0..10 {
            assert_eq!(ask(&thief, number, &format!("guess-{guess}@shop.example")).await, (200, json!({ "token": null })));
        }
        assert_eq!(ask(&thief, number, email).await.0, 429, "whether there is such an order or not");
    }
    let visitor = Visitor::at(&shop, "203.0.113.7");
    let seen = visitor.post("/zh/orders/find", &[("number", number), ("contact", email)]).await;
    assert!(seen.status == 429 && seen.body.contains("分钟后重试"), "{} {}", seen.status, seen.body);
    assert_eq!(ask(&owner, number, email).await, (200, json!({ "token": placed["token"] })));
}

/// Each began with a session, and who has one order could begin as many as they like.
#[tokio::test]
async fn who_knows_an_order_begins_no_more_sessions_than_others() {
    let shop = proxied(&[("cart", "carts-per-network-max = 3")]);
    let owner = at(&shop, "198.51.100.9");
    let (sku, _) = owner.buyable(2).await;
    let (cart, _) = owner.cart(&sku, 1).await.unwrap();
    let (_, placed) = owner.order(&cart, LATER).await.unwrap();
    let change = async || Visitor::at(&shop, "203.0.113.7").post(&format!("/en/orders/{}/change", placed["token"].as_str().unwrap()), &[]).await;
    for _ in 0..3 {
        assert_eq!(change().await.status, 303);
    }
    let refused = change().await;
    assert!(refused.status == 429 && refused.body.contains("Please try again later"), "{} {}", refused.status, refused.body);
}

/// Whether somebody is a customer, by a code that each customer has once.
#[tokio::test]
async fn customers_are_not_found_out_by_a_code() {
    let shop = proxied(&[("cart", "codes-per-session-max = 5")]);
    let api = at(&shop, "203.0.113.7");
    let (sku, _) = api.buyable(2).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    assert!(enter(&api, &cart, "ONCE").await.1["applied"].to_string().contains("ONCE"));
    let mut tries = 0;
    let refused = loop {
        let (status, told) = api.send("PUT", &format!("{cart}/contact"), json!({ "email": format!("victim-{tries}@shop.example"), "phone": "" })).await;
        if status != 200 {
            break told;
        }
        tries += 1;
        assert!(tries <= 5, "nobody may try for ever");
    };
    assert!(tries == 5 && refused["errors"].to_string().contains("later"), "{tries} {refused}");
}

/// As a shop runs whose operator has not named the proxy: all shoppers have one address.
#[tokio::test]
async fn behind_a_proxy_that_is_not_named_one_guest_locks_out_no_other() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(2).await;
    let (cart, filled) = api.cart(&sku, 1).await.unwrap();
    let (_, placed) = api.order(&cart, LATER).await.unwrap();
    for guess in 0..60 {
        let guess = json!({ "number": format!("AAAA-{guess:04}"), "contact": "x@shop.example" });
        assert_eq!(api.send("POST", "/order-look-up", guess).await.0, 200);
    }
    let right = json!({ "number": placed["number"], "contact": filled["contact"]["email"] });
    assert_eq!(api.send("POST", "/order-look-up", right).await, (200, json!({ "token": placed["token"] })));
}

#[tokio::test]
async fn carts_that_nobody_fills_are_not_stored_and_a_network_makes_so_many() {
    let shop = proxied(&[("cart", "carts-per-network-max = 3")]);
    let private = Api::of(&shop);
    let (sku, _) = private.buyable(1).await;
    let written = writes(&shop, async || {
        for _ in 0..200 {
            let cart = empty_cart(&private).await;
            assert_eq!(private.send("GET", &cart, Value::Null).await.1["item_count"], 0);
        }
    });
    let written = written.await;
    assert!(written < 100.0, "{written}: more than the shop's own jobs");
    let cart = empty_cart(&private).await;
    let last = if cart.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{last}", &cart[..cart.len() - 1]);
    assert_eq!(private.send("POST", &format!("{forged}/lines"), json!({ "sku": sku, "quantity": 1 })).await.0, 404, "ids are made by the shop");
    assert_eq!(private.send("POST", &format!("{cart}/lines"), json!({ "sku": sku, "quantity": 1 })).await.1["item_count"], 1);

    let flooder = at(&shop, "203.0.113.7");
    for _ in 0..3 {
        empty_cart(&flooder).await;
    }
    let answer = flooder.http.post(format!("{}/carts", flooder.url())).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (429, true));
    for (language, words) in [("en", "Please try again later"), ("zh", "请稍后再试")] {
        let told = Visitor::at(&shop, "203.0.113.7").post(&format!("/{language}/cart/lines"), &[("sku", &sku)]).await;
        assert!(told.status == 429 && told.body.contains(words), "{} {}", told.status, told.body);
    }
    assert_eq!(Visitor::at(&shop, "203.0.113.8").post("/en/cart/lines", &[("sku", &sku)]).await.status, 303);
}

/// What a limit is does not change by being looked at.
#[tokio::test]
async fn looking_at_a_cart_with_a_limited_code_writes_nothing() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(1).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    assert!(api.code(&cart, "ONCE").await["applied"].to_string().contains("ONCE"));
    let written = writes(&shop, async || {
        for _ in 0..200 {
            assert_eq!(api.send("GET", &cart, Value::Null).await.0, 200);
        }
    });
    let written = written.await;
    assert!(written < 100.0, "{written}: more than the shop's own jobs");
}

#[tokio::test]
async fn orders_that_nobody_pays_are_drafted_so_often() {
    let shop = proxied(&[("orders", "given-up-per-network-max = 3")]);
    let idler = at(&shop, "203.0.113.7");
    let (sku, _) = idler.buyable(9).await;
    let order = async |api: &Api, method: &str| {
        let (cart, _) = api.cart(&sku, 1).await.unwrap();
        let (status, placed) = api.order(&cart, method).await.unwrap();
        (status, placed)
    };
    for _ in 0..3 {
        let (status, placed) = order(&idler, LATER).await;
        assert_eq!(status, 201, "{placed}");
        for _ in 0..2 {
            assert_eq!(idler.send("POST", &format!("/orders/{}/cancel", placed["token"].as_str().unwrap()), Value::Null).await.0, 200);
        }
    }
    let (status, refused) = order(&idler, LATER).await;
    assert!(status == 429 && refused["detail"].to_string().contains("given-up-per-network-max"), "{status} {refused}");
    for _ in 0..5 {
        assert_eq!(order(&at(&shop, "203.0.113.8"), INSTANT).await.0, 201, "who pays gives nothing up");
    }
}

/// They are paid at once, so no limit on unpaid orders holds for them.
#[tokio::test]
async fn orders_that_cost_nothing_are_placed_so_often() {
    let shop = proxied(&[("orders", "free-orders-per-network-max = 2")]);
    for coupon in [["code=GIFT", "percent=100"], ["code=POST", "free-shipping=true"]] {
        let (done, said) = shop.says(&[&["plugin", "run", "set-coupon"], &coupon[..]].concat());
        assert!(done, "{said}");
    }
    let (sku, _) = Api::of(&shop).buyable(9).await;
    let order = async |api: &Api, codes: &[&str]| {
        let (cart, _) = api.cart(&sku, 1).await.unwrap();
        for code in codes {
            api.code(&cart, code).await;
        }
        api.order(&cart, INSTANT).await.unwrap()
    };
    let taker = at(&shop, "203.0.113.7");
    let free = ["GIFT", "POST"];
    for _ in 0..2 {
        let (status, placed) = order(&taker, &free).await;
        assert_eq!((status, &placed["total"]["amount"]), (201, &json!(0)), "{placed}");
    }
    let (status, refused) = order(&taker, &free).await;
    assert!(status == 429 && refused["detail"].to_string().contains("free-orders-per-network-max"), "{status} {refused}");
    assert_eq!(order(&taker, &[]).await.0, 201, "what is paid for is another matter");
    assert_eq!(order(&at(&shop, "203.0.113.8"), &free).await.0, 201);
}

#[tokio::test]
async fn an_order_fills_one_cart_and_has_so_many_payments() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(5).await;
    let (cart, _) = api.cart(&sku, 2).await.unwrap();
    let (_, placed) = api.order(&cart, LATER).await.unwrap();
    let order = format!("/orders/{}", placed["token"].as_str().unwrap());
    let pay = async || api.send("POST", &format!("{order}/payments"), json!({ "payment_method": LATER })).await.0;
    let mut payments = 1;
    while pay().await == 201 {
        payments += 1;
        assert!(payments <= 21, "nobody may try for ever");
    }
    let reopen = async || {
        let (status, reopened) = api.send("POST", &format!("{order}/cart"), Value::Null).await;
        assert_eq!(status, 201, "{reopened}");
        format!("/carts/{}", reopened["cart"].as_str().unwrap())
    };
    let first = reopen().await;
    let quantity = async || api.send("GET", &first, Value::Null).await.1["item_count"].clone();
    assert_eq!((reopen().await, quantity().await), (first.clone(), json!(2)), "pressed twice it is one cart, and nothing is in it twice");
    api.send("PUT", &format!("{first}/lines/{sku}"), json!({ "quantity": 0 })).await;
    assert_eq!((reopen().await, quantity().await), (first.clone(), json!(2)), "what was taken out is there again");
    assert_eq!(api.order(&first, INSTANT).await.unwrap().0, 201);
    assert_ne!(reopen().await, first, "what was ordered is another matter");
}

async fn cry(shop: &Shop, path: &str) -> (u16, Value) {
    let answer = client().post(format!("{}/crier/{path}", shop.url)).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

#[tokio::test]
async fn an_event_that_says_an_order_was_cancelled_moves_no_money() {
    let folder = store();
    install_guest(&folder, "crier");
    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(4).await;
    let mut tokens = Vec::new();
    for method in [INSTANT, LATER] {
        let (cart, _) = api.cart(&sku, 1).await.unwrap();
        let (_, placed) = api.order(&cart, method).await.unwrap();
        tokens.push(placed["token"].as_str().unwrap().to_owned());
    }
    api.until(&tokens[0], |order| order["status"] == "placed").await;
    api.until(&tokens[1], |order| order["payment"]["status"] == "action-required").await;
    let before = shop.metric("souk_events_delivered").await;
    for token in &tokens {
        assert_eq!(cry(&shop, &format!("cancelled/{token}")).await.0, 204);
    }
    shop.until_metric("souk_events_delivered", |delivered| delivered >= before + 2.0).await;
    let states = async |token: &str| {
        let order = api.until(token, |_| true).await;
        (order["status"].as_str().unwrap().to_owned(), order["payment"]["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(states(&tokens[0]).await, ("placed".into(), "captured".into()));
    assert_eq!(states(&tokens[1]).await, ("payment-pending".into(), "action-required".into()));

    // The order's own word still is one.
    for (token, status, payment) in [(&tokens[0], "refunded", "refunded"), (&tokens[1], "cancelled", "cancelled")] {
        assert_eq!(api.send("POST", &format!("/orders/{token}/cancel"), Value::Null).await.0, 200);
        api.until(token, |order| order["status"] == status && order["payment"]["status"] == payment).await;
    }
}

#[tokio::test]
async fn a_plugin_holds_and_drafts_within_limits_and_the_shop_sells_on() {
    let folder = store();
    install_guest(&folder, "crier");
    configure(&folder, "orders", "orders-per-plugin-max = 2\norders-per-network-max = 0");
    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(1).await;
    shop.run("set-stock", &[&format!("sku={sku}"), "available=100"]);
    for _ in 0..10 {
        assert_eq!(cry(&shop, &format!("held/{sku}/10")).await.0, 200);
    }
    assert_eq!(api.available(&sku).await, 50, "half of a sku at most, whatever expiry it asks for");
    let (cart, _) = api.cart(&sku, 40).await.unwrap();
    let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
    assert_eq!(status, 201, "{placed}");

    let token = placed["token"].as_str().unwrap();
    api.until(token, |order| order["status"] == "placed").await;
    let drafted = [cry(&shop, &format!("drafted/{token}")).await.0, cry(&shop, &format!("drafted/{token}")).await.0, cry(&shop, &format!("drafted/{token}")).await.0];
    assert!(drafted[..2] == [200, 200] && drafted[2] >= 500, "{drafted:?}");
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    assert_eq!(api.order(&cart, INSTANT).await.unwrap().0, 201);
    assert_eq!(shop.run("verify-stock", &[])["differences"], json!([]));
}

#[tokio::test]
async fn answers_are_kept_for_one_network_up_to_a_bound_and_for_others_as_before() {
    let folder = store();
    behind_a_proxy(&folder);
    limit(&folder, "idempotency-bytes-max = 65536");
    let shop = Shop::serve(folder);
    let with_a_key = async |address: &str, number: u32| {
        let key = format!("{number:08}-0123456789abcdef");
        client_at(address).post(format!("{}/api/v1/carts", shop.url)).header("idempotency-key", key).send().await.unwrap()
    };
    let mut kept = 0;
    let refused = loop {
        let answer = with_a_key("203.0.113.7", kept).await;
        if answer.status() != 201 {
            break answer;
        }
        kept += 1;
        assert!(kept < 200, "nobody may fill the store");
    };
    let wait_s: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(refused.status() == 429 && kept > 10 && (60..=86_400).contains(&wait_s), "{kept} {wait_s}");
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "idempotency-limit");
    assert_eq!(client_at("203.0.113.7").post(format!("{}/api/v1/carts", shop.url)).send().await.unwrap().status(), 201, "without a key");
    assert_eq!(with_a_key("198.51.100.9", 0).await.status(), 201);
}
