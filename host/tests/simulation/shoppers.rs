//! Shoppers who buy, hesitate, click twice, pay late, give up and come back
//! after the shop has died. What they remember outlives its process, as a
//! browser does.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use souk_host::chance::below;
use souk_host::front::{FailureKind, Idempotency};
use souk_host::runtime::Runtime;
use tokio::time::sleep;

use crate::disk::Disk;
use crate::world::{Clock, DISCOUNTS, STOCK, ask, status_of};

const PAYMENTS: [&str; 4] = ["pay-sandbox/instant", "pay-sandbox", "pay-sandbox", "pay-sandbox/hangs"];
const DECISIONS: [&str; 7] = ["approve", "approve", "late", "less", "no-refund", "decline", "time-out"];

/// What happened, for people.
pub type Diary = Arc<Mutex<Vec<String>>>;

/// The shop as one of its processes serves it.
#[derive(Clone)]
pub struct Visit {
    pub runtime: Arc<Runtime>,
    pub disk: Arc<Disk>,
    pub clock: Clock,
    pub diary: Diary,
}

#[derive(Default)]
pub struct Shopper {
    number: usize,
    cart: Option<Filled>,
    /// Of the cart's order: kept, and sent again, until there is an answer.
    key: u64,
    orders: Vec<Placed>,
}

#[derive(Clone)]
struct Filled {
    path: String,
    /// Of what the shopper saw last, if that alone is to be ordered; the same whenever it is tried.
    agreed: Option<String>,
    total: i64,
}

#[derive(Clone)]
struct Placed {
    token: String,
    payment: String,
    number: String,
}

impl Visit {
    pub fn note(&self, line: String) {
        let at = Duration::from_millis(self.clock.since_opening_ms().max(0) as u64);
        self.diary.lock().push(format!("{:>10.3} s  commit {:>4}  {line}", at.as_secs_f64(), self.disk.commits()));
    }

    /// As a person of the shop does with an order, which may be in no state for it.
    async fn staff(&self, command: &str, number: &str) {
        let plugin = self.runtime.shop.command(command).expect("orders are live").0;
        let done = self.runtime.runner.command(&plugin, command.to_owned(), vec![("number".to_owned(), number.to_owned())], Vec::new()).await;
        if !self.disk.is_dead() {
            self.note(format!("staff: {command} {number} → {}", if done.is_ok() { "done" } else { "refused" }));
        }
    }

    /// None where no answer comes: the process has died, or too many others won.
    async fn send(&self, who: usize, method: &str, path: &str, body: Value, key: Option<u64>) -> Option<(u16, Value)> {
        let bytes = match &body {
            Value::Null => Vec::new(),
            Value::String(form) => form.clone().into_bytes(),
            json => json.to_string().into_bytes(),
        };
        let idempotency = key.map(|key| Idempotency {
            key: format!("{key}"),
            scope: format!("shopper {who}"),
            fingerprint: fingerprint(path, &bytes),
        });
        let form = [("content-type", if body.is_string() { "application/x-www-form-urlencoded" } else { "application/json" })];
        let answer = ask(&self.runtime, method, path, &form, bytes.clone(), idempotency).await;
        if self.disk.is_dead() {
            return None;
        }
        if let Err(failure) = &answer {
            // Nobody hears of plugins that come and go.
            assert!(!matches!(failure.kind, FailureKind::Unavailable | FailureKind::Overloaded | FailureKind::Unconfirmed), "{method} {path}: {failure}");
        }
        let (status, body) = answer.unwrap_or_else(|failure| (status_of(&failure), failure.to_string().into_bytes()));
        self.note(format!("shopper {who}: {method} {path} {} → {status}", String::from_utf8_lossy(&bytes)));
        assert!(status < 500 || status == 503, "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        (status != 503).then(|| (status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

fn fingerprint(path: &str, body: &[u8]) -> [u8; 32] {
    *blake3::hash(&[path.as_bytes(), b"\0", body].concat()).as_bytes()
}

pub fn one_of<T: Copy>(all: &[T]) -> T {
    all[below(all.len() as u64) as usize]
}

impl Shopper {
    pub fn new(number: usize) -> Self {
        Self { number, ..Self::default() }
    }

    /// Stands for two shoppers of one household: what is limited for each customer is limited for both.
    fn email(&self) -> String {
        format!("household-{}@shop.example", self.number / 2)
    }

    /// So many things, with pauses between a click and a coffee.
    pub async fn shop(shopper: &tokio::sync::Mutex<Self>, visit: &Visit, steps: usize) {
        for _ in 0..steps {
            let pause = if below(4) == 0 { 1_000 + below(400_000) } else { below(20) };
            sleep(Duration::from_millis(pause)).await;
            shopper.lock().await.step(visit).await;
        }
    }

    async fn step(&mut self, visit: &Visit) {
        if let Some(cart) = self.cart.clone() {
            return self.order(visit, &cart).await;
        }
        match (self.orders.is_empty(), below(8)) {
            (false, 0..5) => self.act_on_order(visit).await,
            _ => self.fill(visit).await,
        }
    }

    async fn fill(&mut self, visit: &Visit) {
        let who = self.number;
        let Some((201, cart)) = visit.send(who, "POST", "/api/v1/carts", Value::Null, None).await else { return };
        let cart = format!("/api/v1/carts/{}", cart["id"].as_str().expect("a cart has an id"));
        let sku = one_of(&STOCK).0;
        let address = json!({ "country": "CN", "name": "李雷", "phone": "13800138000", "company": "", "region": "33", "city": "杭州市",
            "district": "西湖区", "street": "龙井路 1 号", "postal_code": "" });
        let mut filling = vec![
            ("POST", "lines", json!({ "sku": sku, "quantity": 1 + below(3) })),
            ("PUT", "contact", json!({ "email": self.email(), "phone": "" })),
            ("PUT", "addresses", json!({ "shipping": address })),
            ("PUT", "shipping-method", json!({ "id": "standard" })),
        ];
        if below(2) == 0 {
            filling.insert(1, ("POST", "codes", json!({ "code": one_of(&DISCOUNTS).1 })));
        }
        let mut seen = Value::Null;
        for (method, what, body) in filling {
            let Some((_, answer)) = visit.send(who, method, &format!("{cart}/{what}"), body, None).await else { return };
            seen = answer;
        }
        let fingerprint = seen["fingerprint"].as_str().expect("a cart has a fingerprint").to_owned();
        let total = seen["totals"]["total"]["amount"].as_i64().expect("a cart has a total");
        (self.cart, self.key) = (Some(Filled { path: cart, agreed: (below(2) == 0).then_some(fingerprint), total }), below(u64::MAX));
    }

    /// Once, or twice at the same time; with a key, or without one.
    async fn order(&mut self, visit: &Visit, cart: &Filled) {
        let path = format!("{}/order", cart.path);
        let body = json!({ "payment_method": one_of(&PAYMENTS), "fingerprint": cart.agreed });
        // The same key with another body is another request.
        let key = (below(2) == 0).then(|| self.key ^ u64::from_le_bytes(fingerprint("", body.to_string().as_bytes())[..8].try_into().expect("8 bytes")));
        let send = || visit.send(self.number, "POST", &path, body.clone(), key);
        let answers = if below(3) == 0 { <[_; 2]>::from(tokio::join!(send(), send())).to_vec() } else { vec![send().await] };
        let mut told: Vec<(String, i64, String, String)> = Vec::new();
        for (status, answer) in answers.into_iter().flatten() {
            match status {
                201 => {
                    let text = |field: &str| answer[field].as_str().expect("what was placed has it").to_owned();
                    told.push((text("token"), answer["total"]["amount"].as_i64().expect("a total"), text("payment_id"), text("number")));
                }
                // Sold out, a discount used up, the total changed: another cart.
                409 => self.cart = None,
                other => panic!("POST {path}: {other} {answer}"),
            }
        }
        let Some((token, total, payment, number)) = told.first().cloned() else { return };
        assert!(told.iter().all(|other| *other == told[0]), "one cart, two orders: {told:?}");
        assert!(cart.agreed.is_none() || total == cart.total, "{} was agreed to, and ordered for {total}", cart.total);
        visit.disk.books(|books| books.promise(&token, total));
        self.orders.push(Placed { token, payment, number });
        self.cart = None;
    }

    async fn act_on_order(&mut self, visit: &Visit) {
        let Placed { token, payment, number } = self.orders[below(self.orders.len() as u64) as usize].clone();
        let order = format!("/api/v1/orders/{token}");
        let who = self.number;
        let (page, approve) = (format!("/pay-sandbox/{payment}"), Value::String("decision=approve".into()));
        match below(12) {
            10 => visit.staff("cancel-order", &number).await,
            11 => visit.staff("fulfil-order", &number).await,
            0 => _ = visit.send(who, "POST", &format!("{order}/cancel"), Value::Null, None).await,
            1 => _ = visit.send(who, "POST", &format!("{order}/payments/check"), Value::Null, None).await,
            2 => {
                // Another way to pay, and perhaps the first one in a window that is still open.
                let (path, method) = (format!("{order}/payments"), json!({ "payment_method": one_of(&PAYMENTS) }));
                let another = visit.send(who, "POST", &path, method, None);
                if below(2) == 0 { _ = tokio::join!(another, visit.send(who, "POST", &page, approve, None)) } else { _ = another.await }
            }
            3 => {
                // Another payment may have taken the place of the first.
                if let Some((200, view)) = visit.send(who, "GET", &order, Value::Null, None).await
                    && let Some(newest) = view["payment"]["id"].as_str()
                    && let Some(kept) = self.orders.iter_mut().find(|kept| kept.token == token)
                {
                    kept.payment = newest.to_owned();
                }
            }
            // Pays in one window, and gives up in the other.
            4..6 => {
                let cancel = format!("{order}/cancel");
                tokio::join!(visit.send(who, "POST", &cancel, Value::Null, None), visit.send(who, "POST", &page, approve, None));
            }
            _ => {
                let decision = Value::String(format!("decision={}", one_of(&DECISIONS)));
                let decide = || visit.send(who, "POST", &page, decision.clone(), None);
                if below(4) == 0 { _ = tokio::join!(decide(), decide()) } else { _ = decide().await }
            }
        }
    }
}
