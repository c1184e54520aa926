use std::cell::RefCell;
use std::rc::Rc;

use souk_sdk::effects::Guest as _;
use souk_sdk::extend::payment_method::Guest as _;
use souk_sdk::testing;

use super::*;

/// A company that answers all requests alike, and remembers them.
fn company(status: u16, answer: Value) -> Rc<RefCell<Vec<http::Request>>> {
    testing::set_secret(API_KEY, "api key");
    testing::set_secret(NOTIFICATION_KEY, "notification key");
    let asked = Rc::new(RefCell::new(Vec::new()));
    let seen = asked.clone();
    testing::on_fetch(move |request| {
        seen.borrow_mut().push(request.clone());
        Ok(http::Response { status, headers: Vec::new(), body: answer.to_string().into_bytes() })
    });
    asked
}

fn charge(status: &str, amount: i64, currency: &str) -> Value {
    json!({ "id": "c1", "payment_id": "p1", "status": status, "amount": amount, "currency": currency, "url": "https://pay.example/c1" })
}

fn perform(kind: &str, payload: Value) -> Result<Value, effects::Failure> {
    let key = format!("p1/{kind}");
    let order = effects::Order { requester: "payment".into(), kind: kind.into(), key, attempt: 1, payload: payload.to_string().into_bytes() };
    testing::unit(|| {Type}::perform(order)).map(|answer| serde_json::from_slice(&answer).unwrap())
}

fn create() -> Result<Value, effects::Failure> {
    perform(
        "payment.create",
        json!({
            "payment_id": "p1", "variant": "", "order_number": "7K3M-9QPX", "amount": 4200, "currency": "CNY", "description": "", "locale": "en",
            "return_url": "https://shop.example/orders/token", "notify_url": "https://shop.example/payments/{name}/notify",
        }),
    )
}

fn notify(body: &Value, sent_ms: u64, key: &str) -> Result<Notification, Failure> {
    let body = body.to_string().into_bytes();
    testing::set_secret("signer", key);
    let mac = crypto::secret_mac("signer", &[sent_ms.to_string().as_bytes(), b".", &body].concat()).unwrap();
    let signature = mac.iter().fold(format!("t={sent_ms},v1="), |text, byte| text + &format!("{byte:02x}"));
    testing::read_only(|| {Type}::verify_notification("{name}".into(), vec![(SIGNATURE.into(), signature)], body))
}

fn told(charge: Value) -> Value {
    json!({ "id": "n1", "charge": charge, "at_ms": 1 })
}

#[test]
fn a_payment_is_begun_under_one_key_however_often_it_is_tried() {
    let asked = company(200, charge("open", 4_200, "CNY"));
    let begun = create().unwrap();
    assert_eq!(begun, json!({ "status": "action-required", "reference": "c1", "redirect_url": "https://pay.example/c1" }));
    assert_eq!(create().unwrap(), begun);
    let keys: Vec<String> = asked.borrow().iter().flat_map(|request| request.headers.clone()).filter(|(header, _)| header == "idempotency-key").map(|(_, key)| key).collect();
    assert_eq!(keys, ["p1/payment.create", "p1/payment.create"]);
}

#[test]
fn another_sum_than_was_asked_for_is_not_paid() {
    for (amount, currency) in [(4_199, "CNY"), (4_200, "JPY")] {
        company(200, charge("open", amount, currency));
        assert!(matches!(create(), Err(effects::Failure::Refused(_))), "{amount} {currency}");
        company(200, json!({ "id": "r1", "amount": amount, "currency": currency }));
        let refund = json!({ "payment_id": "p1", "reference": "c1", "amount": 4200, "currency": "CNY", "reason": "" });
        assert!(matches!(perform("payment.refund", refund), Err(effects::Failure::Refused(_))), "{amount} {currency}");
    }
}

#[test]
fn what_may_have_been_done_is_asked_again_and_what_was_refused_is_not() {
    for status in [408, 409, 429, 500, 503] {
        company(status, Value::Null);
        assert!(matches!(create(), Err(effects::Failure::Retry(_))), "{status}");
    }
    company(200, Value::Null);
    assert!(matches!(create(), Err(effects::Failure::Retry(_))), "an answer that cannot be read");
    company(402, Value::Null);
    assert!(matches!(create(), Err(effects::Failure::Refused(_))));
}

#[test]
fn news_are_taken_from_the_company_alone_and_of_what_was_begun() {
    company(200, charge("open", 4_200, "CNY"));
    let now_ms = clock::now_ms();
    let paid = told(charge("captured", 4_200, "CNY"));
    let refused = |result: Result<Notification, Failure>| result.unwrap_err().kind == FailureKind::Refused;
    assert!(refused(notify(&paid, now_ms, "notification key")), "it was not begun");
    create().unwrap();
    let heard = notify(&paid, now_ms, "notification key").unwrap();
    assert_eq!((heard.state, heard.amount, heard.reference.as_str()), (State::Captured, Money::new(4_200, "CNY"), "c1"));
    assert!(refused(notify(&paid, now_ms, "another key")));
    assert!(refused(notify(&paid, now_ms - NOTIFICATION_AGE_MAX_MS - 1, "notification key")), "it is replayed");
    let mut other = paid.clone();
    other["charge"]["id"] = json!("c2");
    assert!(refused(notify(&other, now_ms, "notification key")), "the company's name for it is another one");
    for header in ["", "t=1", "t=1,v1=00", &format!("t=x,v1={}", "0".repeat(64)), &format!("t=1,v1={}", "é".repeat(32))] {
        assert!(refused({Type}::verify_notification("{name}".into(), vec![(SIGNATURE.into(), header.into())], Vec::new())), "{header}");
    }
}

#[test]
fn money_that_comes_after_it_was_cancelled_is_told_of() {
    company(200, charge("open", 4_200, "CNY"));
    create().unwrap();
    company(200, charge("cancelled", 4_200, "CNY"));
    assert_eq!(perform("payment.cancel", json!({ "payment_id": "p1", "reference": "c1" })).unwrap()["status"], "cancelled");
    assert_eq!(notify(&told(charge("captured", 4_200, "CNY")), clock::now_ms(), "notification key").unwrap().state, State::Captured);
    company(200, charge("captured", 4_200, "CNY"));
    assert_eq!(perform("payment.cancel", json!({ "payment_id": "p1", "reference": "c1" })).unwrap()["status"], "captured");
}

#[test]
fn the_company_is_asked_what_became_of_a_payment() {
    let query = || {Type}::query("{name}".into(), "p1".into(), String::new());
    let asked = company(200, charge("captured", 4_200, "CNY"));
    assert_eq!(query().unwrap().state, State::Captured);
    assert_eq!(asked.borrow()[0].url, "https://api.pay.example/v1/payments/p1");
    company(404, Value::Null);
    assert_eq!(query().unwrap().state, State::Unknown);
    company(503, Value::Null);
    assert_eq!(query().unwrap_err().kind, FailureKind::Failed);
    assert!({Type}::methods(Money::zero("CNY"), "en".into()).unwrap().is_empty());
}
