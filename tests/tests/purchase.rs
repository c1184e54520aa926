//! From cart to placed order over HTTP, as an honest client does it, as an
//! impatient one does it, and as a thief does it.

use serde_json::{Value, json};
use souk_tests::{Shop, client};
use souk_tests::api::{Api, INSTANT};

/// Puts this many on hand in a live shop.
fn stock(shop: &Shop, sku: &str, quantity: i64) {
    let file = shop.folder().join("stock.json");
    std::fs::write(&file, json!([{ "sku": sku, "quantity": quantity }]).to_string()).unwrap();
    shop.run("import-stock", &["--input", file.to_str().unwrap()]);
}

/// The ledger's own opinion.
fn assert_stock_adds_up(shop: &Shop) {
    let verification = shop.run("verify-stock", &[]);
    assert_eq!(verification["differences"], json!([]), "{verification}");
}

#[tokio::test]
async fn a_paid_order_is_placed_with_its_stock_and_shown_by_its_token() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, price) = api.buyable(3).await;
    let before = api.available(&sku).await;
    let (cart, filled) = api.cart(&sku, 2).await.unwrap();

    let (_, methods) = api.send("GET", &format!("{cart}/payment-methods"), Value::Null).await;
    assert!(methods.as_array().unwrap().iter().any(|method| method["id"] == INSTANT), "{methods}");
    let agreed = json!({ "payment_method": INSTANT, "fingerprint": filled["fingerprint"] });
    let (status, placed) = api.send("POST", &format!("{cart}/order"), agreed).await;
    assert_eq!((status, &placed["total"]), (201, &filled["totals"]["total"]), "{placed}");

    let token = placed["token"].as_str().unwrap();
    let order = api.settled(token).await;
    assert_eq!((&order["status"], &order["payment"]["status"]), (&json!("placed"), &json!("captured")), "{order}");
    assert_eq!(order["lines"][0]["subtotal"]["amount"], price * 2);
    assert_eq!(order["payment"]["amount"], filled["totals"]["total"]);
    assert_eq!(api.available(&sku).await, before - 2);
    assert_stock_adds_up(&shop);

    let listed = shop.run("list-orders", &[]);
    assert_eq!(listed[0]["number"], placed["number"]);
    let number = format!("number={}", placed["number"].as_str().unwrap());
    assert_eq!(shop.run("fulfil-order", &[&number])["status"], "fulfilled");
    assert_eq!(api.send("GET", &format!("/orders/{token}"), Value::Null).await.1["status"], "fulfilled");
    assert_eq!(api.send("POST", &format!("/orders/{token}/cancel"), Value::Null).await.0, 409, "it is sent");
    for guess in [&token[..31], "x", placed["number"].as_str().unwrap()] {
        assert_eq!(api.send("GET", &format!("/orders/{guess}"), Value::Null).await.0, 404, "{guess}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_cart_gives_one_order_however_often_it_is_placed() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    let before = api.available(&sku).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let tries: Vec<_> = (0..16)
        .map(|_| {
            let (api, cart) = (api.clone(), cart.clone());
            tokio::spawn(async move { api.order(&cart, INSTANT).await.unwrap() })
        })
        .collect();
    let mut tokens = Vec::new();
    for answer in tries {
        let (status, placed) = answer.await.unwrap();
        assert_eq!(status, 201, "{placed}");
        tokens.push(placed["token"].as_str().unwrap().to_owned());
    }
    tokens.dedup();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert_eq!(api.settled(&tokens[0]).await["status"], "placed");
    assert_eq!(api.available(&sku).await, before - 1);
    assert_eq!(shop.run("list-orders", &[]).as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wanted_article_sells_exactly_its_stock() {
    const STOCK: i64 = 20;
    const SHOPPERS: usize = 48;
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(1).await;
    stock(&shop, &sku, STOCK);
    let mut carts = Vec::new();
    for _ in 0..SHOPPERS {
        carts.push(api.cart(&sku, 1).await.unwrap().0);
    }
    let tries: Vec<_> = carts
        .into_iter()
        .map(|cart| {
            let api = api.clone();
            tokio::spawn(async move { api.order(&cart, INSTANT).await.unwrap() })
        })
        .collect();
    let mut sold = Vec::new();
    for answer in tries {
        let (status, answer) = answer.await.unwrap();
        match status {
            201 => sold.push(answer["token"].as_str().unwrap().to_owned()),
            409 => assert_eq!(answer["title"], "Not enough in stock", "{answer}"),
            other => panic!("{other}: {answer}"),
        }
    }
    assert_eq!(sold.len() as i64, STOCK);
    for token in &sold {
        assert_eq!(api.settled(token).await["status"], "placed");
    }
    assert_eq!(api.available(&sku).await, 0);
    assert_stock_adds_up(&shop);
}

#[tokio::test]
async fn a_shopper_who_has_paid_need_not_wait_for_the_providers_news() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(2).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (status, placed) = api.order(&cart, "pay-sandbox").await.unwrap();
    assert_eq!(status, 201, "{placed}");
    let (token, payment) = (placed["token"].as_str().unwrap(), placed["payment_id"].as_str().unwrap());
    let order = format!("/orders/{token}");
    let client = client();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let post = async |path: String, body| client.post(format!("{}{path}", shop.url)).header(form.0, form.1).body(body).send().await.unwrap().status();
    let check = async || api.send("POST", &format!("{order}/payments/check"), Value::Null).await.1["status"].clone();

    assert_eq!(check().await, "payment-pending", "nothing is paid yet");
    // The provider has the money, and says so only later.
    assert_eq!(post(format!("/pay-sandbox/{payment}"), "decision=late").await, 303);
    assert_eq!(api.send("GET", &order, Value::Null).await.1["status"], "payment-pending");
    assert_eq!(post(format!("/en{order}/check"), "").await, 303);
    assert_eq!(api.send("GET", &order, Value::Null).await.1["status"], "placed");
    assert_eq!(check().await, "placed", "asked again, nothing happens twice");
    assert_stock_adds_up(&shop);
}

#[tokio::test]
async fn what_is_missing_or_was_not_agreed_to_places_nothing() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(5).await;
    let before = api.available(&sku).await;

    let (_, empty) = api.send("POST", "/carts", Value::Null).await;
    let empty = format!("/carts/{}", empty["id"].as_str().unwrap());
    assert_eq!(api.order(&empty, INSTANT).await.unwrap().0, 409);
    api.send("POST", &format!("{empty}/lines"), json!({ "sku": sku, "quantity": 1 })).await;
    let (status, problem) = api.order(&empty, INSTANT).await.unwrap();
    let fields: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!((status, fields), (422, vec!["contact.email", "shipping-address.country", "shipping-method"]), "{problem}");

    let (cart, filled) = api.cart(&sku, 1).await.unwrap();
    let (status, problem) = api.order(&cart, "cash").await.unwrap();
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("payment_method")), "{problem}");
    api.send("PUT", &format!("{cart}/lines/{sku}"), json!({ "quantity": 2 })).await;
    let stale = json!({ "payment_method": INSTANT, "fingerprint": filled["fingerprint"] });
    let (status, problem) = api.send("POST", &format!("{cart}/order"), stale).await;
    assert_eq!((status, &problem["title"]), (409, &json!("The total has changed")), "{problem}");
    let tampered = json!({ "payment_method": INSTANT, "total": 1 });
    assert_eq!(api.send("POST", &format!("{cart}/order"), tampered).await.0, 422);

    assert_eq!(api.available(&sku).await, before);
    assert_eq!(shop.run("list-orders", &[]), json!([]));
    let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
    assert_eq!(status, 201, "{placed}");
    let (status, problem) = api.send("POST", &format!("{cart}/lines"), json!({ "sku": sku, "quantity": 1 })).await;
    assert_eq!((status, &problem["title"]), (409, &json!("The cart became an order")), "{problem}");
}

#[tokio::test]
async fn what_belongs_to_a_shopper_is_not_found_by_others() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(2).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (_, placed) = api.order(&cart, "pay-sandbox").await.unwrap();
    let text = |field: &str| placed[field].as_str().unwrap().to_owned();
    let (token, number, payment) = (text("token"), text("number"), text("payment_id"));
    let (open, _) = api.cart(&sku, 1).await.unwrap();
    let open = open.strip_prefix("/carts/").unwrap();

    // Each id where another belongs, in parts, in another case, and what people read out on the phone.
    let flipped = |id: &str| id.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect::<String>();
    let of_orders = [number.clone(), payment.clone(), open.to_owned(), token[..31].to_owned(), flipped(&token), format!("{token}x"), "%00".into()];
    let of_carts = [token.clone(), payment.clone(), open[..open.len() - 1].to_owned(), flipped(open), "..%2Forders".into()];
    let mut asked = Vec::new();
    for id in of_orders {
        asked.extend([("GET", String::new()), ("POST", "/cancel".into()), ("POST", "/payments/check".into()), ("POST", "/payments".into())].map(|(method, what)| (method, format!("/orders/{id}{what}"))));
    }
    for id in of_carts {
        let parts = [("GET", ""), ("POST", "/lines"), ("POST", "/codes"), ("PUT", "/contact"), ("PUT", "/addresses"), ("GET", "/shipping-methods"), ("PUT", "/shipping-method"), ("GET", "/payment-methods"), ("POST", "/order")];
        asked.extend(parts.map(|(method, what)| (method, format!("/carts/{id}{what}"))));
    }
    for (method, path) in asked {
        let body = match path.rsplit('/').next().unwrap() {
            "payments" | "order" => json!({ "payment_method": INSTANT }),
            "lines" => json!({ "sku": sku, "quantity": 1 }),
            "codes" => json!({ "code": "ONCE" }),
            "contact" => json!({ "email": "thief@shop.example", "phone": "" }),
            "addresses" => json!({ "shipping": souk_tests::api::address() }),
            "shipping-method" => json!({ "id": "standard" }),
            _ => Value::Null,
        };
        let (status, answer) = api.send(method, &path, body).await;
        assert!(matches!(status, 400 | 404), "{method} {path}: {status} {answer}");
    }
    // Its payment's page knows no order by another's name either.
    for id in [&token, &number, open] {
        assert_eq!(client().get(format!("{}/pay-sandbox/{id}", shop.url)).send().await.unwrap().status(), 404);
    }
    assert_eq!(api.send("GET", &format!("/orders/{token}"), Value::Null).await.1["status"], "payment-pending", "its own shopper finds it as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_one_effect_and_one_answer() {
    const KEY: &str = "6a0f2c1e-93b7-4d58-8e21-7f4c5b6d9a03";
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    let before = api.available(&sku).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let order = |key: &str, method: &str| {
        let request = api.http.post(format!("{}/api/v1{cart}/order", shop.url)).header("idempotency-key", key).json(&json!({ "payment_method": method }));
        tokio::spawn(async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    };
    let tries: Vec<_> = (0..12).map(|_| order(KEY, INSTANT)).collect();
    let mut answers = Vec::new();
    for answer in tries {
        answers.push(answer.await.unwrap());
    }
    assert_eq!(answers[0].0, 201, "{}", answers[0].1);
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(order(KEY, "pay-sandbox").await.unwrap().0, 422, "the same key for something else");
    assert_eq!(api.available(&sku).await, before - 1);
    assert_eq!(shop.run("list-orders", &[]).as_array().unwrap().len(), 1);
}
