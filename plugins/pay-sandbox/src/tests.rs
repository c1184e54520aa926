use std::cell::RefCell;
use std::rc::Rc;

use souk_sdk::effects::Guest as _;
use souk_sdk::extend::payment_method::Guest as _;
use souk_sdk::web::Guest as _;
use souk_sdk::{serde_json, testing};

use super::*;

fn perform(kind: &str, key: &str, payload: serde_json::Value) -> Result<serde_json::Value, effects::Failure> {
    let order = effects::Order { requester: "payment".into(), kind: kind.into(), key: key.into(), attempt: 1, payload: payload.to_string().into_bytes() };
    PaySandbox::perform(order).map(|answer| serde_json::from_slice(&answer).unwrap())
}

fn start(variant: &str) -> serde_json::Value {
    try_start(variant).unwrap()
}

fn try_start(variant: &str) -> Result<serde_json::Value, effects::Failure> {
    let payload = serde_json::json!({
        "payment_id": "p1", "variant": variant, "order_number": "7K3M-9QPX", "amount": 4200, "currency": "CNY", "locale": "zh-CN",
        "return_url": "https://shop.example/orders/token", "notify_url": "https://shop.example/payments/pay-sandbox/notify", "description": "",
    });
    perform("payment.create", "p1/create", payload)
}

fn decide_on(decision: &str) -> Response {
    let mut request = testing::post_form("decide", "/pay-sandbox/p1", &[("decision", decision)]);
    request.params = vec![("payment".into(), "p1".into())];
    PaySandbox::handle(request)
}

fn state() -> payment_method::State {
    PaySandbox::query("pay-sandbox".into(), "p1".into(), String::new()).unwrap().state
}

/// Carries out the notification that was asked for, and gives what was sent.
fn sent() -> http::Request {
    let effect = testing::effects().pop().expect("a notification is asked for");
    let requests = Rc::new(RefCell::new(Vec::new()));
    let seen = requests.clone();
    testing::on_fetch(move |request| {
        seen.borrow_mut().push(request.clone());
        Ok(http::Response { status: 204, headers: Vec::new(), body: Vec::new() })
    });
    perform(&effect.kind, &effect.key, serde_json::from_slice(&effect.payload).unwrap()).unwrap();
    let request = requests.borrow_mut().pop().expect("it is sent");
    request
}

fn verify(request: &http::Request) -> Result<Notification, Failure> {
    PaySandbox::verify_notification("pay-sandbox".into(), request.headers.clone(), request.body.clone())
}

#[test]
fn approving_captures_once_and_tells_the_shop_with_a_signature() {
    let created = start("");
    assert_eq!(created, start(""), "the same answer however often it is asked");
    assert_eq!(created["status"], "action-required");
    let back = decide_on("approve");
    assert_eq!((back.status, back.await_effects), (303, true));
    decide_on("decline");
    assert_eq!(state(), payment_method::State::Captured, "decided is decided");
    let heard = verify(&sent()).unwrap();
    assert_eq!((heard.payment_id.as_str(), heard.state, heard.amount), ("p1", payment_method::State::Captured, Money::new(4_200, "CNY")));
}

#[test]
fn what_is_forged_changed_or_old_is_refused() {
    start("");
    decide_on("approve");
    let genuine = sent();
    let refused = |request: &http::Request| verify(request).unwrap_err().kind == FailureKind::Refused;
    let changed = http::Request { body: String::from_utf8(genuine.body.clone()).unwrap().replace("4200", "1").into_bytes(), ..genuine.clone() };
    assert!(refused(&changed));
    for signature in ["", "t=1", "t=1,v1=00", &format!("t=x,v1={}", "0".repeat(64)), &format!("t=1,v1={}", "é".repeat(32))] {
        let headers = vec![(SIGNATURE.to_owned(), signature.to_owned())];
        assert!(refused(&http::Request { headers, ..genuine.clone() }), "{signature}");
    }
    assert!(refused(&http::Request { headers: Vec::new(), ..genuine.clone() }));
    testing::advance_ms(NOTIFICATION_AGE_MAX_MS + 1);
    assert!(refused(&genuine));
}

#[test]
fn declining_late_news_and_silence_do_what_they_say() {
    start("");
    assert_eq!(decide_on("time-out").status, 303);
    assert_eq!((state(), testing::effects().len()), (payment_method::State::Open, 0));
    assert!(!decide_on("late").await_effects);
    let effect = testing::effects().pop().unwrap();
    assert_eq!(effect.not_before_ms, clock::now_ms() + LATE_MS);
    assert_eq!(state(), payment_method::State::Captured);
}

#[test]
fn money_goes_back_once_and_only_if_there_was_some() {
    start("");
    let named = || serde_json::json!({ "payment_id": "p1", "amount": 4200, "currency": "CNY" });
    assert!(perform("payment.refund", "p1/refund", named()).is_err());
    assert_eq!(perform("payment.cancel", "p1/cancel", named()).unwrap()["status"], "cancelled");
    assert_eq!(decide_on("approve").status, 303);
    assert_eq!(state(), payment_method::State::Cancelled);

    testing::reset();
    assert_eq!(start(INSTANT)["status"], "captured");
    assert_eq!(perform("payment.cancel", "p1/cancel", named()).unwrap()["status"], "captured");
    let more = serde_json::json!({ "payment_id": "p1", "amount": 4201, "currency": "CNY" });
    assert!(perform("payment.refund", "p1/refund", more).is_err());
    let refunded = perform("payment.refund", "p1/refund", named()).unwrap();
    assert_eq!(refunded, perform("payment.refund", "p1/refund", named()).unwrap());
    assert_eq!(state(), payment_method::State::Refunded);
}

#[test]
fn paying_without_a_page_is_refused_where_it_is_not_offered() {
    testing::set_config(serde_json::json!({ "instant": false }));
    assert!(matches!(try_start(INSTANT), Err(effects::Failure::Refused(_))));
    assert_eq!(state(), payment_method::State::Unknown);
    assert_eq!(start("")["status"], "action-required");
}

#[test]
fn the_page_is_in_the_orders_language_and_asks_only_while_it_is_open() {
    start("");
    let show = || {
        let mut request = testing::get("page", "/pay-sandbox/p1");
        request.params = vec![("payment".into(), "p1".into())];
        String::from_utf8(PaySandbox::handle(request).body).unwrap()
    };
    assert!(show().contains("同意支付") && show().contains("7K3M-9QPX"));
    decide_on("decline");
    assert!(!show().contains("<form") && show().contains("https://shop.example/orders/token"));
    assert_eq!(decide_on("nonsense").status, 422);
}

#[test]
fn what_goes_wrong_at_other_companies_can_be_tried() {
    start("");
    decide_on("less");
    let heard = verify(&sent()).unwrap();
    assert_eq!((heard.state, heard.amount), (payment_method::State::Captured, Money::new(1, "CNY")));

    testing::reset();
    start("");
    decide_on("no-refund");
    let refund = || perform("payment.refund", "p1/refund", serde_json::json!({ "payment_id": "p1", "amount": 4200, "currency": "CNY" }));
    assert!(matches!(refund(), Err(effects::Failure::Refused(_))));
    decide_on(ALLOW_REFUND);
    refund().unwrap();

    testing::reset();
    assert!(matches!(try_start(HANGS), Err(effects::Failure::Refused(_))));
    testing::set_config(serde_json::json!({ "hangs": true }));
    assert!(matches!(try_start(HANGS), Err(effects::Failure::Retry(_))));
    assert_eq!(perform("payment.cancel", "p1/cancel", serde_json::json!({ "payment_id": "p1" })).unwrap()["status"], "cancelled");
    assert!(matches!(try_start(""), Err(effects::Failure::Refused(_))), "cancelled before it was begun");
    assert_eq!(state(), payment_method::State::Unknown);
}
