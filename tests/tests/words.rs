//! What the pages say of carts and orders, in both languages and without a
//! script: how much can be had, what it costs by then, and what became of it.

use std::fs;

use serde_json::{Value, json};
use souk_tests::api::{Api, INSTANT};
use souk_tests::visitor::{DETAILS, Seen, Visitor};
use souk_tests::{Shop, client};

const LATER: &str = "pay-sandbox";

fn import(shop: &Shop, text: &str) {
    let file = shop.folder().join("goods.csv");
    fs::write(&file, format!("Handle,Title,SKU,Price,Inventory quantity\n{text}")).unwrap();
    let (imported, said) = shop.says(&["store", "import", file.to_str().unwrap(), "--kind", "products"]);
    assert!(imported, "{said}");
}

fn stock(shop: &Shop, sku: &str, quantity: i64) {
    let file = shop.folder().join("stock.json");
    fs::write(&file, json!([{ "sku": sku, "quantity": quantity }]).to_string()).unwrap();
    shop.run("import-stock", &["--input", file.to_str().unwrap()]);
}

#[track_caller]
fn says(seen: &Seen, words: &[&str]) {
    for words in words {
        assert!(seen.body.contains(words), "`{words}` is missing: {} {}", seen.status, seen.body);
    }
}

/// Presses the button with these words.
async fn press(visitor: &Visitor, seen: &Seen, button: &str) -> Seen {
    let form = seen.body.split("<form").skip(1).map(|form| form.split("</form>").next().unwrap()).find(|form| form.contains(&format!(">{button}<")));
    let form = form.unwrap_or_else(|| panic!("no button says `{button}`: {}", seen.body));
    let attribute = |text: &str, name: &str| text.split(&format!("{name}=\"")).nth(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    let action = attribute(form, "action").unwrap();
    let fields: Vec<(String, String)> = form.split("<input").skip(1).filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?))).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    visitor.follow(visitor.post(&action, &fields).await).await
}

#[tokio::test]
async fn too_many_is_told_with_how_many_there_are_and_had_in_one_press() {
    let shop = Shop::open();
    import(&shop, "lamp,Lamp,LAMP,50,3\nvase,Vase,VASE,20,9\n");
    for (language, first, add, all, take, more) in [
        ("en", "Lamp: only 3 left; you asked for 5.", "Add 3", "Lamp: only 3 left, and your cart has them already.", "Take 3", "Continue shopping"),
        ("zh", "Lamp仅剩 3 件，您需要 5 件。", "加入 3 件", "Lamp仅剩 3 件，已全部在您的购物车中。", "改为 3 件", "继续购物"),
    ] {
        stock(&shop, "LAMP", 3);
        let visitor = Visitor::of(&shop);
        let lines = format!("/{language}/cart/lines");
        let from_empty = visitor.post(&lines, &[("sku", "LAMP"), ("quantity", "5")]).await;
        assert_eq!(from_empty.status, 409);
        says(&from_empty, &[first, more]);
        let added = press(&visitor, &from_empty, add).await;
        says(&added, &["value=\"3\"", more]);
        says(&visitor.post(&lines, &[("sku", "LAMP"), ("quantity", "1")]).await, &[all]);
        let changed = visitor.post(&format!("/{language}/cart/quantity"), &[("line", "LAMP"), ("quantity", "5")]).await;
        says(&changed, &[first]);
        assert_eq!(press(&visitor, &changed, take).await.status, 200);

        // Others were faster: what is marked can be had in one press, or be removed.
        visitor.post(&lines, &[("sku", "VASE"), ("quantity", "2")]).await;
        let form = visitor.check_out(language).await;
        stock(&shop, "LAMP", 2);
        let short = visitor.place(language, &form, LATER).await;
        assert_eq!(short.status, 409, "{}", short.location);
        let (marked, what, take, gone, remove) = match language {
            "en" => ("Only 2 left; you asked for 3.", "take fewer of what is marked", "Take 2", "Sold out. Please remove it.", "remove what is marked"),
            _ => ("仅剩 2 件，您需要 3 件。", "请减少已标记商品的数量", "改为 2 件", "已售罄，请移除。", "请移除已标记的商品"),
        };
        says(&short, &[marked, what]);
        let cart = visitor.get(&format!("/{language}/cart")).await;
        let fewer = press(&visitor, &cart, &format!("{take}<span class=\"hidden\">: Lamp</span>")).await;
        assert!(!fewer.body.contains(what), "{}", fewer.body);
        stock(&shop, "LAMP", 0);
        let cart = visitor.get(&format!("/{language}/cart")).await;
        says(&cart, &[gone, remove]);
        assert!(!cart.body.contains(&format!("/{language}/checkout\"")), "it cannot be ordered as it is");
        let word = if language == "en" { "Remove" } else { "移除" };
        let left = press(&visitor, &cart, &format!("{word}<span class=\"hidden\">: Lamp</span>")).await;
        assert!(!left.body.contains("Lamp") && left.body.contains(&format!("/{language}/checkout\"")), "{}", left.body);
    }
}

#[tokio::test]
async fn a_gift_is_free_and_what_is_not_sold_has_no_price() {
    let shop = Shop::open();
    import(&shop, "card,Card,CARD,0,9\ncup,Cup,CUP,30,9\n");
    for (language, free) in [("en", ">Free<"), ("zh", ">免费<")] {
        let visitor = Visitor::of(&shop);
        visitor.post(&format!("/{language}/cart/lines"), &[("sku", "CARD"), ("quantity", "1")]).await;
        let form = visitor.to_payment(language, "CUP", 1).await;
        let cart = visitor.get(&format!("/{language}/cart")).await;
        let row = cart.body.split("quantity-CARD").next().unwrap();
        assert!(row.contains(free) && cart.body.matches(free).count() >= 2, "{}", cart.body);
        let amount = free.trim_matches(['<', '>']);
        let payment = visitor.get(&format!("/{language}/checkout/payment")).await;
        says(&payment, &[&format!("1 × {amount}")]);
        let placed = visitor.place(language, &form, INSTANT).await;
        let order = visitor.get(&format!("/{language}/orders/{}", placed.token())).await;
        says(&order, &[&format!("1 × {amount}")]);
    }
    let visitor = Visitor::of(&shop);
    visitor.post("/en/cart/lines", &[("sku", "CUP"), ("quantity", "1")]).await;
    let file = shop.folder().join("goods.csv");
    fs::write(&file, "Handle,Title,SKU,Price,Status\ncup,Cup,CUP,30,archived\n").unwrap();
    let (imported, said) = shop.says(&["store", "import", file.to_str().unwrap(), "--kind", "products"]);
    let cart = visitor.get("/en/cart").await;
    assert!(imported && cart.body.contains("No longer sold. Please remove it.") && !cart.body.contains("Free"), "{said} {}", cart.body);
}

/// Rows of a summary, by their labels.
fn row<'a>(seen: &'a Seen, label: &str) -> Option<&'a str> {
    let (_, rest) = seen.body.split_once(&format!("<dt>{label}</dt><dd>"))?;
    rest.split("</dd>").next()
}

#[tokio::test]
async fn the_delivery_step_has_the_total_with_delivery_and_every_page_the_discounts_by_name() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    import(&shop, "cup,Cup,CUP,30,20\n");
    shop.says(&["plugin", "run", "set-coupon", "code=TEN", "percent=10", "name-en=A tenth less", "name-zh=九折优惠"]);
    shop.says(&["plugin", "run", "set-coupon", "code=FREEPOST", "free-shipping=true"]);
    for (language, name, delivery, total) in [("en", "A tenth less", "Delivery", "Total"), ("zh", "九折优惠", "运费", "应付总额")] {
        let visitor = Visitor::of(&shop);
        visitor.post(&format!("/{language}/cart/lines"), &[("sku", "CUP"), ("quantity", "1")]).await;
        visitor.post(&format!("/{language}/cart/codes"), &[("code", "ten")]).await;
        let step = visitor.follow(visitor.post(&format!("/{language}/checkout"), &DETAILS).await).await;
        says(&step, &[name, "value=\"standard\" required checked"]);
        assert!(row(&step, delivery).unwrap().ends_with("12.00") && row(&step, total).unwrap().ends_with("39.00"), "{}", step.body);
        // What waits for a delivery charge says so, and then takes it off.
        visitor.post(&format!("/{language}/cart/codes"), &[("code", "freepost")]).await;
        let waits = if language == "en" { "is kept. So far there is nothing" } else { "已保存，目前没有可以抵扣的金额" };
        assert!(!visitor.get(&format!("/{language}/cart")).await.body.contains(waits));
        let other = Visitor::of(&shop);
        other.post(&format!("/{language}/cart/lines"), &[("sku", "CUP"), ("quantity", "2")]).await;
        says(&other.follow(other.post(&format!("/{language}/cart/codes"), &[("code", "freepost")]).await).await, &["FREEPOST", waits]);
        let step = visitor.get(&format!("/{language}/checkout/shipping")).await;
        // The rows sum to the total: 30.00 and the delivery, less ten percent and what the code takes off the delivery.
        assert!(row(&step, delivery).is_some_and(|row| row.ends_with("12.00")) && row(&step, total).unwrap().ends_with("27.00"), "{}", step.body);
        assert!(row(&step, name).unwrap().ends_with("3.00") && step.body.matches("12.00</dd>").count() == 2, "{}", step.body);
        visitor.post(&format!("/{language}/cart/codes/remove"), &[("code", "freepost")]).await;
        // Another one, without a script.
        let other = visitor.post(&format!("/{language}/checkout/shipping"), &[("method", "express"), ("change", "1")]).await;
        assert_eq!(other.location, format!("/{language}/checkout/shipping"));
        let step = visitor.follow(other).await;
        says(&step, &["value=\"express\" required checked"]);
        assert!(row(&step, total).unwrap().ends_with("52.00"), "{}", step.body);
        let payment = visitor.get(&format!("/{language}/checkout/payment")).await;
        says(&payment, &[name]);
        let placed = visitor.place(language, &payment.hidden("/checkout/place"), INSTANT).await;
        let order = visitor.get(&format!("/{language}/orders/{}", placed.token())).await;
        says(&order, &[name]);
        let (_, answer) = api.send("GET", &format!("/orders/{}", placed.token()), Value::Null).await;
        assert_eq!((&answer["applied"][0]["title"], &answer["applied"][0]["code"]), (&json!(name), &json!("TEN")), "{answer}");
    }
}

#[tokio::test]
async fn an_order_tells_its_parcel_its_refunds_and_its_times() {
    let shop = Shop::open();
    let (api, visitor) = (Api::of(&shop), Visitor::of(&shop));
    import(&shop, "cup,Cup,CUP,30,20\n");
    let order = async |method: &str| {
        let form = visitor.to_payment("en", "CUP", 1).await;
        let token = visitor.place("en", &form, method).await.token().to_owned();
        let (_, order) = api.send("GET", &format!("/orders/{token}"), Value::Null).await;
        let text = |field: &str| order[field].as_str().unwrap().to_owned();
        (token.clone(), text("number"), text("payment_id"))
    };
    let history = async |token: &str| api.send("GET", &format!("/orders/{token}"), Value::Null).await.1["history"].as_array().unwrap().clone();

    // One is cancelled after it was paid.
    let (token, _, _) = order(INSTANT).await;
    api.settled(&token).await;
    visitor.post(&format!("/en/orders/{token}/cancel"), &[("sure", "1")]).await;
    api.until(&token, |order| order["status"] == "refunded").await;
    let page = visitor.get(&format!("/en/orders/{token}")).await;
    says(&page, &["Refund of CN¥42.00 started", "Refund of CN¥42.00 done", "Shanghai time)</time>", "<time datetime=\""]);
    let page = visitor.get(&format!("/zh/orders/{token}")).await;
    says(&page, &["发起退款 ¥42.00", "退款 ¥42.00 已完成", "（北京时间）</time>"]);
    let refund = history(&token).await.into_iter().find(|step| step["kind"] == "payment.refunded").unwrap();
    assert_eq!(refund["amount"], json!({ "amount": 4200, "currency": "CNY" }), "{refund}");

    // Another is paid with another amount, which goes back, then paid again, and sent.
    let (token, number, payment) = order(LATER).await;
    let decision = client().post(format!("{}/pay-sandbox/{payment}", shop.url)).header("content-type", "application/x-www-form-urlencoded");
    decision.body("decision=less").send().await.unwrap();
    api.until(&token, |order| order["timeline"].as_array().unwrap().iter().any(|entry| entry["kind"] == "payment.mismatch")).await;
    says(&visitor.get("/en/orders").await, &["Payment being checked"]);
    shop.run("settle-payment", &[&format!("payment={payment}"), "as=return"]);
    api.until(&token, |order| order["payment"]["status"] == "refunded").await;
    let page = visitor.get(&format!("/en/orders/{token}")).await;
    says(&page, &["<h1>Not paid yet</h1>", "was not the amount of the order", "Refund of CN¥0.01 done"]);
    says(&visitor.get("/zh/orders").await, &["待支付"]);
    let again = visitor.post(&format!("/en/orders/{token}/retry"), &[("method", INSTANT)]).await;
    assert_eq!(again.token(), token, "{}", again.body);
    assert_eq!(api.settled(&token).await["status"], "placed");
    says(&visitor.get("/en/orders").await, &["Paid, being packed", "Cancelled and refunded"]);
    shop.run("fulfil-order", &[&format!("number={number}"), "tracking=SF1234567890", "note=Left with the neighbour <b>."]);
    for (language, words) in [
        ("en", ["Your order is on its way", "Tracking number", "We also received CN¥0.01 that this order did not need"]),
        ("zh", ["订单已发货", "物流单号", "您另有 ¥0.01 的付款并非此订单所需"]),
    ] {
        let page = visitor.get(&format!("/{language}/orders/{token}")).await;
        says(&page, &words);
        says(&page, &["SF1234567890", "Left with the neighbour &lt;b&gt;."]);
    }
    says(&visitor.get("/en/orders").await, &[">Sent<"]);
    let sent = history(&token).await.into_iter().find(|step| step["kind"] == "order.fulfilled").unwrap();
    assert_eq!((&sent["tracking"], &sent["message"]), (&json!("SF1234567890"), &json!("Left with the neighbour <b>.")));
    // Elsewhere, by look-up.
    visitor.forget();
    let found = visitor.post("/en/orders/find", &[("number", &number), ("contact", "li.lei@shop.example")]).await;
    says(&visitor.follow(found).await, &["SF1234567890"]);
}
