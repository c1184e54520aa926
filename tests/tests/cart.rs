//! A cart over the API: every amount is the server's.

use serde_json::{Value, json};
use souk_tests::api::{Api, INSTANT, address};
use souk_tests::{Shop, install, store};

#[tokio::test]
async fn a_cart_is_priced_discounted_taxed_and_shipped_by_the_server() {
    let store = store();
    install(&store, "tea-time");
    let shop = Shop::serve(store);
    let api = Api::of(&shop);
    let (sku, price) = api.buyable(3).await;

    let (status, cart) = api.send("POST", "/carts", Value::Null).await;
    assert_eq!(status, 201, "{cart}");
    let path = format!("/carts/{}", cart["id"].as_str().unwrap());
    let (status, cart) = api.send("POST", &format!("{path}/lines"), json!({ "sku": sku, "quantity": 2 })).await;
    assert_eq!((status, &cart["totals"]["subtotal"]["amount"]), (200, &json!(price * 2)), "{cart}");

    let (status, cart) = api.send("POST", &format!("{path}/codes"), json!({ "code": "teatime" })).await;
    assert_eq!(status, 200, "{cart}");
    let off = cart["totals"]["discount"]["amount"].as_i64().unwrap();
    assert_eq!((cart["applied"].as_array().unwrap().len(), off), (1, (price * 2 + 5) / 10), "{cart}");
    let (_, cart) = api.send("POST", &format!("{path}/codes"), json!({ "code": "no-such-code" })).await;
    assert_eq!(cart["rejected"][0]["code"], "NO-SUCH-CODE", "{cart}");

    let (status, cart) = api.send("PUT", &format!("{path}/addresses"), json!({ "shipping": address() })).await;
    assert_eq!(status, 200, "{cart}");
    let (_, methods) = api.send("GET", &format!("{path}/shipping-methods"), Value::Null).await;
    let (status, cart) = api.send("PUT", &format!("{path}/shipping-method"), json!({ "id": methods[0]["id"] })).await;
    assert_eq!(status, 200, "{cart}");
    let amount = |field: &str| cart["totals"][field]["amount"].as_i64().unwrap();
    assert_eq!(amount("total"), amount("subtotal") - amount("discount") + amount("shipping") + amount("tax_added"), "{cart}");
    assert!(amount("tax_included") > 0, "prices in China contain tax: {cart}");

    let (status, emptied) = api.send("DELETE", &format!("{path}/lines/{sku}"), Value::Null).await;
    assert_eq!((status, &emptied["item_count"]), (200, &json!(0)), "{emptied}");
}

/// A sku of the category of which there are so many in stock.
async fn sku_of(api: &Api, category: &str, quantity: i64) -> String {
    let (_, listing) = api.send("GET", &format!("/products?category={category}"), Value::Null).await;
    for product in listing["products"].as_array().unwrap() {
        let (_, product) = api.send("GET", &format!("/products/{}", product["handle"].as_str().unwrap()), Value::Null).await;
        let sku = product["variants"][0]["sku"].as_str().unwrap().to_owned();
        if api.available(&sku).await >= quantity {
            return sku;
        }
    }
    panic!("no {category} with {quantity} in stock");
}

#[tokio::test]
async fn discounts_of_the_shop_apply_by_code_and_by_themselves() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let tea = sku_of(&api, "tea", 3).await;
    let (_, cart) = api.send("POST", "/carts", Value::Null).await;
    let path = format!("/carts/{}", cart["id"].as_str().unwrap());
    let (_, two) = api.send("POST", &format!("{path}/lines"), json!({ "sku": tea, "quantity": 2 })).await;
    assert_eq!(two["applied"], json!([]), "{two}");
    let (_, three) = api.send("POST", &format!("{path}/lines"), json!({ "sku": tea, "quantity": 1 })).await;
    assert_eq!(three["applied"][0]["id"], "discount-bxgy/tea-3-for-2", "{three}");
    assert_eq!(three["totals"]["discount"], three["lines"][0]["unit_price"], "one of three is free");

    let (_, once) = api.send("POST", &format!("{path}/codes"), json!({ "code": "once" })).await;
    let ids: Vec<&str> = once["applied"].as_array().unwrap().iter().map(|applied| applied["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"discount-coupon/ONCE"), "{once}");
    let (_, ended) = api.send("POST", &format!("{path}/codes"), json!({ "code": "SPRING26" })).await;
    assert_eq!(ended["rejected"], json!([{ "code": "SPRING26", "reason": "This code has expired." }]), "{ended}");
}

#[tokio::test]
async fn a_code_never_makes_a_cart_dearer() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, price) = api.buyable(1).await;
    // Free from what the goods cost to the cent: whatever a code takes off, they cost less.
    let free_from = format!("free-from={}.{:02}", price / 100, price % 100);
    shop.souk(&["plugin", "run", "set-shipping-rate", "method=standard", "price=15.00", &free_from]);
    shop.souk(&["plugin", "run", "set-coupon", "code=LITTLE", "percent=1", "starts=2026-01-01T00:00", "ends=2099-01-01"]);
    let (cart, before) = api.cart(&sku, 1).await.unwrap();
    let total = |cart: &Value| cart["totals"]["total"]["amount"].as_i64().unwrap();
    assert_eq!(before["totals"]["shipping"]["amount"], 0, "{before}");
    let (_, after) = api.send("POST", &format!("{cart}/codes"), json!({ "code": "LITTLE" })).await;
    assert!(after["rejected"] == json!([]) && total(&after) < total(&before), "{after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_for_one_order_is_used_by_one_of_many() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(8).await;
    let mut carts = Vec::new();
    for _ in 0..8 {
        let (cart, _) = api.cart(&sku, 1).await.unwrap();
        let (_, filled) = api.send("POST", &format!("{cart}/codes"), json!({ "code": "ONCE" })).await;
        assert!(filled["applied"].to_string().contains("discount-coupon/ONCE"), "{filled}");
        carts.push((cart, filled["fingerprint"].clone()));
    }
    let tries: Vec<_> = carts
        .into_iter()
        .map(|(cart, fingerprint)| {
            let api = api.clone();
            tokio::spawn(async move { api.send("POST", &format!("{cart}/order"), json!({ "payment_method": INSTANT, "fingerprint": fingerprint })).await })
        })
        .collect();
    let mut placed = 0;
    for answer in tries {
        match answer.await.unwrap() {
            (201, _) => placed += 1,
            (409, problem) => assert!(["A discount is used up", "The total has changed"].contains(&problem["title"].as_str().unwrap()), "{problem}"),
            (status, problem) => panic!("{status}: {problem}"),
        }
    }
    assert_eq!(placed, 1);
}

#[tokio::test]
async fn what_cannot_be_bought_is_refused_and_changes_nothing() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    let (_, cart) = api.send("POST", "/carts", Value::Null).await;
    let path = format!("/carts/{}", cart["id"].as_str().unwrap());
    let lines = format!("{path}/lines");
    for (body, wanted) in [
        (json!({ "sku": "no-such-sku", "quantity": 1 }), 422),
        (json!({ "sku": sku, "quantity": 0 }), 422),
        (json!({ "sku": sku, "quantity": 1_000 }), 422),
        (json!({ "sku": sku, "quantity": -1 }), 422),
        (json!({ "sku": sku, "quantity": 1.5 }), 422),
        (json!({ "sku": sku, "quantity": 1, "unit_price": 1 }), 422),
    ] {
        let (status, problem) = api.send("POST", &lines, body.clone()).await;
        assert_eq!(status, wanted, "{body}: {problem}");
    }
    for stranger in ["/carts/00000000000000000000000000000000", "/carts/x"] {
        assert_eq!(api.send("GET", stranger, Value::Null).await.0, 404);
    }
    let (_, after) = api.send("GET", &path, Value::Null).await;
    assert_eq!((&after["item_count"], &after["revision"]), (&json!(0), &cart["revision"]), "{after}");
}
