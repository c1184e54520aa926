//! A cart over the API: every amount is the server's.

use serde_json::{Value, json};
use souk_tests::api::{Api, address};
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
