//! A shopper's programme: the shop's JSON API.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};

use crate::Shop;

/// Captures at once, without a page.
pub const INSTANT: &str = "pay-sandbox/instant";

static SHOPPERS: AtomicU64 = AtomicU64::new(1);

#[derive(Clone)]
pub struct Api {
    url: String,
    pub http: reqwest::Client,
}

impl Api {
    pub fn of(shop: &Shop) -> Self {
        Self { url: shop.url.clone(), http: crate::client() }
    }

    pub fn url(&self) -> String {
        format!("{}/api/v1", self.url)
    }

    /// Panics where there is no answer at all.
    pub async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.try_send(method, path, body).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Errs where the server went away.
    pub async fn try_send(&self, method: &str, path: &str, body: Value) -> Result<(u16, Value), reqwest::Error> {
        let request = self.http.request(method.parse().unwrap(), format!("{}/api/v1{path}", self.url)).header("accept-language", "en");
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {status} {error}: {text}"))))
    }

    pub async fn available(&self, sku: &str) -> i64 {
        let (_, counts) = self.send("GET", &format!("/availability?sku={sku}"), Value::Null).await;
        counts[0]["available"].as_i64().unwrap()
    }

    /// A sku of which there are at least `quantity`, with its price.
    pub async fn buyable(&self, quantity: i64) -> (String, i64) {
        let (_, listing) = self.send("GET", "/products?limit=50", Value::Null).await;
        for product in listing["products"].as_array().unwrap() {
            let (_, product) = self.send("GET", &format!("/products/{}", product["handle"].as_str().unwrap()), Value::Null).await;
            for variant in product["variants"].as_array().unwrap() {
                let sku = variant["sku"].as_str().unwrap();
                if self.available(sku).await >= quantity {
                    return (sku.to_owned(), variant["price"]["amount"].as_i64().unwrap());
                }
            }
        }
        panic!("nothing has {quantity} in stock");
    }

    /// A cart that can be ordered: its path and what it looks like then.
    pub async fn cart(&self, sku: &str, quantity: u32) -> Result<(String, Value), reqwest::Error> {
        let (status, cart) = self.try_send("POST", "/carts", Value::Null).await?;
        assert_eq!(status, 201, "{cart}");
        let path = format!("/carts/{}", cart["id"].as_str().unwrap());
        let mut filled = Value::Null;
        for (method, what, body) in filling(sku, quantity) {
            let (status, answer) = self.try_send(method, &format!("{path}/{what}"), body).await?;
            assert_eq!(status, 200, "{method} {what}: {answer}");
            filled = answer;
        }
        Ok((path, filled))
    }

    /// The cart once a discount code was entered.
    pub async fn code(&self, cart: &str, code: &str) -> Value {
        let (status, coded) = self.send("POST", &format!("{cart}/codes"), json!({ "code": code })).await;
        assert_eq!(status, 200, "{coded}");
        coded
    }

    /// Asks until the index, which may have to be built again, finds something.
    pub async fn searchable(&self, words: &str) {
        for _ in 0..600 {
            let (status, found) = self.send("GET", &format!("/search?q={words}"), Value::Null).await;
            // 503: it is being prepared.
            assert!([200, 503].contains(&status), "{status} {found}");
            if found["total"].as_i64() > Some(0) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("a search for {words} finds nothing");
    }

    pub async fn order(&self, cart: &str, method: &str) -> Result<(u16, Value), reqwest::Error> {
        self.try_send("POST", &format!("{cart}/order"), json!({ "payment_method": method })).await
    }

    /// Asks until the order has left `payment-pending`; answers with it.
    pub async fn settled(&self, token: &str) -> Value {
        self.until(token, |order| order["status"] != "payment-pending").await
    }

    /// Asks until the order is as it should be.
    pub async fn until(&self, token: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..600 {
            let (status, order) = self.send("GET", &format!("/orders/{token}"), Value::Null).await;
            assert_eq!(status, 200, "{order}");
            if holds(&order) {
                return order;
            }
            last = order;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("it never came to that: {last}");
    }
}

/// What a new cart needs before it can be ordered: methods, paths below the
/// cart's, bodies.
/// Each has a shopper of its own: what is limited for one shopper is not for all.
pub fn filling(sku: &str, quantity: u32) -> [(&'static str, &'static str, Value); 4] {
    [
        ("POST", "lines", json!({ "sku": sku, "quantity": quantity })),
        ("PUT", "contact", json!({ "email": format!("li.lei.{}@shop.example", SHOPPERS.fetch_add(1, Relaxed)), "phone": "" })),
        ("PUT", "addresses", json!({ "shipping": address() })),
        ("PUT", "shipping-method", json!({ "id": "standard" })),
    ]
}

pub fn address() -> Value {
    json!({ "country": "CN", "name": "李雷", "phone": "13800138000", "company": "", "region": "33", "city": "杭州市",
        "district": "西湖区", "street": "龙井路 1 号", "postal_code": "" })
}
