//! What becomes of money when things go wrong: another amount, a provider that
//! hangs, an order that is cancelled, a refund that is refused. And how much
//! unpaid orders may hold.

use serde_json::{Value, json};
use souk_tests::api::{Api, INSTANT, address};
use souk_tests::{Shop, behind_a_proxy, client, client_at, configure, install_guest, store, until};

struct Placed {
    token: String,
    number: String,
    payment: String,
    total: i64,
}

async fn place(api: &Api, sku: &str, quantity: u32, method: &str) -> Placed {
    let (cart, _) = api.cart(sku, quantity).await.unwrap();
    let (status, placed) = api.order(&cart, method).await.unwrap();
    assert_eq!(status, 201, "{placed}");
    of(&placed)
}

fn of(placed: &Value) -> Placed {
    let text = |field: &str| placed[field].as_str().unwrap().to_owned();
    Placed { token: text("token"), number: text("number"), payment: text("payment_id"), total: placed["total"]["amount"].as_i64().unwrap() }
}

/// What the shopper, or somebody at the provider, says on its page.
async fn decide(shop: &Shop, payment: &str, decision: &str) {
    let post = client().post(format!("{}/pay-sandbox/{payment}", shop.url)).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(post.body(format!("decision={decision}")).send().await.unwrap().status(), 303);
}

async fn page_of(shop: &Shop, language: &str, order: &Placed) -> String {
    client().get(format!("{}/{language}/orders/{}", shop.url, order.token)).send().await.unwrap().text().await.unwrap()
}

async fn cancel(api: &Api, order: &Placed) -> (u16, Value) {
    api.send("POST", &format!("/orders/{}/cancel", order.token), Value::Null).await
}

async fn check(api: &Api, order: &Placed) -> Value {
    let (status, answer) = api.send("POST", &format!("/orders/{}/payments/check", order.token), Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn tasks(shop: &Shop) -> Vec<Value> {
    shop.run("list-payment-tasks", &[]).as_array().unwrap().clone()
}

fn assert_stock_adds_up(shop: &Shop) {
    let verification = shop.run("verify-stock", &[]);
    assert_eq!(verification["differences"], json!([]), "{verification}");
}

/// Found among the shop's orders while the shopper still waits for an answer.
fn the_order(shop: &Shop) -> Option<Value> {
    shop.run("list-orders", &[]).as_array().unwrap().first().cloned()
}

#[tokio::test]
async fn another_amount_pays_no_order_and_waits_for_a_person() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(2).await;
    let before = api.available(&sku).await;
    let order = place(&api, &sku, 1, "pay-sandbox").await;
    decide(&shop, &order.payment, "less").await;
    let told = api.until(&order.token, |order| order["timeline"].as_array().unwrap().iter().any(|entry| entry["kind"] == "payment.mismatch")).await;
    assert_eq!(told["status"], "payment-pending");
    assert_eq!(check(&api, &order).await["status"], "payment-pending", "asked again, it is still another amount");
    for (language, told) in [("en", "Please do not pay again"), ("zh", "请勿重复支付")] {
        let page = page_of(&shop, language, &order).await;
        assert!(page.contains(told) && !page.contains("/retry\"") && !page.contains("/pay-sandbox/"), "{page}");
    }
    assert_eq!(cancel(&api, &order).await.1["status"], "cancelled");
    // The provider answers that it was captured, and not how much.
    api.until(&order.token, |order| order["payment"]["status"] == "cancelled").await;
    assert_eq!(check(&api, &order).await["status"], "cancelled");
    assert_eq!(api.available(&sku).await, before);

    let waiting = tasks(&shop);
    assert_eq!((waiting.len(), &waiting[0]["order"], &waiting[0]["mismatch"]["amount"]["amount"]), (1, &json!(order.number), &json!(1)), "{waiting:?}");
    assert!(waiting[0]["tasks"]["mismatch"]["detail"].as_str().unwrap().contains("0.01"), "{waiting:?}");
    // Who looks at the shop is told of it, and how to see it.
    let (well, said) = shop.says(&["status"]);
    assert!(!well && said.contains("! payments that wait for a person, 1: `souk list payment-tasks --store ") && said.contains("1 thing needs a look"), "{said}");
    let listed = shop.says(&["list", "payment-tasks"]).1;
    assert!(listed.contains(&order.payment) && listed.contains("mismatch") && !listed.contains(['{', '"']), "{listed}");
    let payment = format!("payment={}", order.payment);
    assert!(!shop.says(&["plugin", "run", "settle-payment", &payment, "as=refunded"]).0, "nothing is on its way back");
    shop.run("settle-payment", &[&payment, "as=return", "note=one fen"]);
    api.until(&order.token, |order| order["status"] == "refunded").await;
    assert_eq!(tasks(&shop), Vec::<Value>::new());
    let shown = shop.says(&["plugin", "run", "show-order", &format!("number={}", order.number)]).1;
    assert!(shown.contains("by hand, as return: one fen"), "{shown}");
    assert!(shop.says(&["status"]).0, "nothing is left to look at");
    assert_stock_adds_up(&shop);
}

#[tokio::test]
async fn a_paid_order_is_cancelled_by_who_says_so_twice() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(2).await;
    let order = place(&api, &sku, 1, INSTANT).await;
    assert_eq!(api.settled(&order.token).await["status"], "placed");
    assert!(page_of(&shop, "zh", &order).await.contains("实付金额"));
    let press = async |form: &'static str| {
        let post = client().post(format!("{}/en/orders/{}/cancel", shop.url, order.token)).header("content-type", "application/x-www-form-urlencoded");
        let answer = post.body(form).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, asked) = press("").await;
    assert!(status == 200 && asked.contains("Cancel this order?") && asked.contains("name=\"sure\""), "{status} {asked}");
    assert_eq!(api.settled(&order.token).await["status"], "placed", "one press cancels nothing");
    assert_eq!(press("sure=1").await.0, 303);
    api.until(&order.token, |order| order["status"] == "refunded").await;
    assert_stock_adds_up(&shop);
}

/// An order whose provider does not answer: its token, and the request that still waits.
async fn place_with_one_that_hangs(shop: &Shop, api: &Api, sku: &str) -> (String, tokio::task::JoinHandle<(u16, Value)>) {
    let (cart, _) = api.cart(sku, 1).await.unwrap();
    let placing = tokio::spawn({
        let api = api.clone();
        async move { api.order(&cart, "pay-sandbox/hangs").await.unwrap() }
    });
    until(|| the_order(shop).is_some()).await;
    let token = the_order(shop).unwrap()["token"].as_str().unwrap().to_owned();
    (token, placing)
}

#[tokio::test]
async fn who_cancels_while_the_provider_hangs_is_not_charged() {
    let folder = store();
    configure(&folder, "pay-sandbox", "hangs = true");
    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(2).await;
    let before = api.available(&sku).await;
    let (token, placing) = place_with_one_that_hangs(&shop, &api, &sku).await;
    assert_eq!(api.send("POST", &format!("/orders/{token}/cancel"), Value::Null).await.1["status"], "cancelled");
    let placed = of(&placing.await.unwrap().1);
    // Once the provider is there again, it knows of the payment, as one that is over.
    let page = format!("{}/pay-sandbox/{}", shop.url, placed.payment);
    let mut is_there = false;
    for _ in 0..600 {
        is_there = client().get(&page).send().await.unwrap().status() == 200;
        if is_there {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(is_there, "it was never told");
    let order = check(&api, &placed).await;
    assert_eq!((&order["status"], &order["payment"]["status"]), (&json!("cancelled"), &json!("cancelled")), "{order}");
    assert_eq!(api.available(&sku).await, before);
    assert_stock_adds_up(&shop);
}

#[tokio::test]
async fn another_way_to_pay_can_be_chosen_while_a_provider_hangs() {
    let folder = store();
    configure(&folder, "pay-sandbox", "hangs = true");
    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(2).await;
    let before = api.available(&sku).await;
    let (token, placing) = place_with_one_that_hangs(&shop, &api, &sku).await;
    let (status, answer) = api.send("POST", &format!("/orders/{token}/payments"), json!({ "payment_method": INSTANT })).await;
    assert_eq!(status, 201, "{answer}");
    let order = api.settled(&token).await;
    assert_eq!((&order["status"], &order["payment"]["status"]), (&json!("placed"), &json!("captured")), "{order}");
    let first = of(&placing.await.unwrap().1);
    assert_ne!(order["payment"]["id"], first.payment.as_str());
    assert_eq!(api.available(&sku).await, before - 1);
    assert_stock_adds_up(&shop);
}

#[tokio::test]
async fn money_that_comes_after_the_shopper_cancelled_goes_back() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(2).await;
    let before = api.available(&sku).await;
    let order = place(&api, &sku, 1, "pay-sandbox").await;
    // The provider has it, and does not say so yet.
    decide(&shop, &order.payment, "late").await;
    assert_eq!(cancel(&api, &order).await.0, 200);
    let ended = api.until(&order.token, |order| order["status"] != "cancelled").await;
    assert!(["refunding", "refunded"].contains(&ended["status"].as_str().unwrap()), "{ended}");
    api.until(&order.token, |order| order["status"] == "refunded" && order["payment"]["status"] == "refunded").await;
    assert_eq!(api.available(&sku).await, before);
    assert_stock_adds_up(&shop);
}

#[tokio::test]
async fn a_paid_order_can_be_cancelled_until_it_is_sent() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(4).await;
    let before = api.available(&sku).await;
    let stock = || shop.run("set-stock", &[&format!("sku={sku}")]);
    let of_stock = |count: &Value| ["on-hand", "reserved", "committed", "available"].map(|what| count[what].as_i64().unwrap());
    let [first, second, sent] = [place(&api, &sku, 1, INSTANT).await, place(&api, &sku, 1, INSTANT).await, place(&api, &sku, 2, INSTANT).await];
    for order in [&first, &second, &sent] {
        assert_eq!(api.settled(&order.token).await["status"], "placed");
    }
    assert_eq!(of_stock(&stock()), [before, 0, 4, before - 4]);
    // A true count of the shelf sells nothing twice.
    let file = shop.folder().join("stock.json");
    std::fs::write(&file, json!([{ "sku": sku, "on-hand": before }]).to_string()).unwrap();
    assert_eq!(shop.run("import-stock", &["--input", file.to_str().unwrap()])["unchanged"], 1);
    assert_eq!(api.available(&sku).await, before - 4);

    shop.run("fulfil-order", &[&format!("number={}", sent.number)]);
    assert_eq!(of_stock(&stock()), [before - 2, 0, 2, before - 4]);
    assert_eq!(cancel(&api, &sent).await.0, 409);
    assert!(!shop.says(&["plugin", "run", "cancel-order", &format!("number={}", sent.number)]).0);

    assert_eq!(cancel(&api, &first).await.0, 200);
    shop.run("cancel-order", &[&format!("number={}", second.number), "reason=damaged"]);
    for order in [&first, &second] {
        api.until(&order.token, |order| order["status"] == "refunded" && order["payment"]["status"] == "refunded").await;
        assert_eq!(cancel(&api, order).await.1["status"], "refunded", "again, nothing happens");
    }
    assert_eq!(of_stock(&stock()), [before - 2, 0, 0, before - 2]);
    assert!(!shop.says(&["plugin", "run", "fulfil-order", &format!("number={}", first.number)]).0);
    assert!(shop.run("show-order", &[&format!("number={}", second.number)])["cancelled_by"] == "staff");
    assert_stock_adds_up(&shop);
}

#[tokio::test]
async fn a_cancelled_order_gives_its_coupon_back() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(4).await;
    let buy = async || {
        let (cart, filled) = api.cart(&sku, 1).await.unwrap();
        let email = filled["contact"]["email"].as_str().unwrap().to_owned();
        let (status, coded) = api.send("POST", &format!("{cart}/codes"), json!({ "code": "ONCE" })).await;
        assert_eq!(status, 200, "{coded}");
        (cart, coded["applied"].as_array().unwrap().len(), email)
    };
    let (cart, applied, _) = buy().await;
    assert_eq!(applied, 1);
    let (_, placed) = api.order(&cart, INSTANT).await.unwrap();
    let placed = of(&placed);
    assert_eq!(api.settled(&placed.token).await["status"], "placed");
    assert_eq!(buy().await.1, 0, "it can be used once");
    cancel(&api, &placed).await;
    assert_eq!(buy().await.1, 1);
    api.until(&placed.token, |order| order["status"] == "refunded").await;
    assert!(placed.total > 0);
}

#[tokio::test]
async fn a_refused_refund_waits_for_a_person_and_can_be_asked_for_again() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    let mut orders = Vec::new();
    for _ in 0..2 {
        let order = place(&api, &sku, 1, "pay-sandbox").await;
        decide(&shop, &order.payment, "no-refund").await;
        assert_eq!(api.settled(&order.token).await["status"], "placed");
        cancel(&api, &order).await;
        orders.push(order);
    }
    until(|| tasks(&shop).len() == 2).await;
    let refused = |order: &Placed| tasks(&shop).into_iter().find(|task| task["payment"] == order.payment.as_str()).map(|task| task["refund"]["refused"].as_u64().unwrap());
    let again = format!("payment={}", orders[0].payment);
    shop.run("retry-refund", &[&again]);
    until(|| refused(&orders[0]) == Some(2)).await;
    decide(&shop, &orders[0].payment, "allow-refund").await;
    shop.run("retry-refund", &[&again]);
    api.until(&orders[0].token, |order| order["status"] == "refunded").await;
    // By hand, in the provider's own console.
    assert_eq!(refused(&orders[1]), Some(1));
    shop.run("settle-payment", &[&format!("payment={}", orders[1].payment), "as=refunded"]);
    api.until(&orders[1].token, |order| order["status"] == "refunded").await;
    assert_eq!(tasks(&shop), Vec::<Value>::new());
    assert!(!shop.says(&["plugin", "run", "retry-refund", &again]).0);
    assert_stock_adds_up(&shop);
}

#[tokio::test]
async fn unpaid_orders_of_one_network_hold_no_more_than_the_limits_say() {
    let folder = store();
    configure(&folder, "orders", "orders-per-network-max = 3");
    behind_a_proxy(&folder);
    let shop = Shop::serve(folder);
    let mut api = Api::of(&shop);
    api.http = client_at("203.0.113.7");
    let (sku, _) = api.buyable(8).await;
    let mut orders = Vec::new();
    for _ in 0..3 {
        orders.push(place(&api, &sku, 1, "pay-sandbox").await);
    }
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (status, problem) = api.order(&cart, "pay-sandbox").await.unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert_eq!(status, 409, "{problem}");
    assert!(detail.contains("orders-per-network-max") && detail.contains("hold 3") && detail.contains("cancel"), "{detail}");
    // What is paid or given up makes room.
    decide(&shop, &orders[0].payment, "approve").await;
    assert_eq!(api.settled(&orders[0].token).await["status"], "placed");
    assert_eq!(api.order(&cart, "pay-sandbox").await.unwrap().0, 201);
    assert_eq!(cancel(&api, &orders[1]).await.0, 200);
    let last = place(&api, &sku, 1, INSTANT).await;
    assert_eq!(api.settled(&last.token).await["status"], "placed");
    assert_stock_adds_up(&shop);
}

#[tokio::test]
async fn a_shopper_takes_over_what_their_own_unpaid_order_holds() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(1).await;
    shop.run("set-stock", &[&format!("sku={sku}"), "available=2"]);
    let fill = async |email: &str| {
        let (_, cart) = api.send("POST", "/carts", Value::Null).await;
        let cart = format!("/carts/{}", cart["id"].as_str().unwrap());
        for (method, what, body) in [
            ("POST", "lines", json!({ "sku": sku, "quantity": 2 })),
            ("PUT", "contact", json!({ "email": email, "phone": "" })),
            ("PUT", "addresses", json!({ "shipping": address() })),
            ("PUT", "shipping-method", json!({ "id": "standard" })),
        ] {
            assert_eq!(api.send(method, &format!("{cart}/{what}"), body).await.0, 200);
        }
        cart
    };
    let [mine, again, other] = [fill("me@shop.example").await, fill("me@shop.example").await, fill("other@shop.example").await];
    let (_, first) = api.order(&mine, "pay-sandbox").await.unwrap();
    assert_eq!(api.order(&other, "pay-sandbox").await.unwrap().0, 409, "it is held for somebody else");
    let (status, second) = api.order(&again, "pay-sandbox").await.unwrap();
    assert_eq!(status, 201, "{second}");
    let (first, second) = (of(&first), of(&second));
    assert_eq!(api.until(&first.token, |order| order["payment"]["status"] == "cancelled").await["status"], "cancelled");
    decide(&shop, &second.payment, "approve").await;
    assert_eq!(api.settled(&second.token).await["status"], "placed");
    assert_eq!(api.available(&sku).await, 0);
    assert_stock_adds_up(&shop);
}

/// Anybody may post to a provider's address for notifications: bytes at which the
/// provider panics close neither that address for others nor its other functions.
#[tokio::test]
async fn a_provider_that_strangers_make_fail_at_notifications_is_still_offered_and_heard() {
    let store = store();
    install_guest(&store, "fragile");
    let shop = Shop::serve(store);
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(2).await;
    let notify = async |body: String| {
        let sent = client().post(format!("{}/payments/fragile/notify", shop.url)).body(body).send().await.unwrap();
        (sent.status().as_u16(), sent.headers().get("retry-after").cloned())
    };
    for _ in 0..30 {
        let (status, retry_after) = notify("break".into()).await;
        assert!(status == 503 && retry_after.is_some(), "{status}");
    }
    let failures = |plugin: &str| shop.report(plugin)["failures"].as_u64().unwrap();
    assert_eq!((failures("fragile"), failures("payment")), (30, 0), "it is not payment that failed");
    assert_eq!(shop.report("fragile")["switched_off"], json!([]));

    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (_, methods) = api.send("GET", &format!("{cart}/payment-methods"), Value::Null).await;
    assert!(methods.as_array().unwrap().iter().any(|method| method["name"] == "Fragile"), "{methods}");
    let (status, placed) = api.order(&cart, "fragile").await.unwrap();
    assert_eq!(status, 201, "{placed}");
    let order = of(&placed);
    assert_eq!(notify(order.payment.clone()).await.0, 204);
    assert_eq!(check(&api, &order).await["status"], "payment-pending");
}
