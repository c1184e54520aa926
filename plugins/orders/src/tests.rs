use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use souk_sdk::commerce::cart::{Contact, Totals};
use souk_sdk::commerce::order_cancellation::Canceller;
use souk_sdk::commerce::orders::{Draft, Order, Status};
use souk_sdk::commerce::shipping::Method;
use souk_sdk::commerce::types::Address;
use souk_sdk::commerce::unpaid_orders::Holder;
use souk_sdk::money::Money;

use crate::limits::{self, Counted};
use crate::record::{By, Payment, Record};
use crate::settings::Settings;

const TOTAL: i64 = 4_200;

fn money(amount: i64) -> Money {
    Money::new(amount, "CNY")
}

fn address() -> Address {
    Address {
        country: "CN".into(),
        name: "李雷".into(),
        phone: "13800000000".into(),
        company: String::new(),
        region: "33".into(),
        city: "杭州市".into(),
        district: "西湖区".into(),
        street: "龙井路 1 号".into(),
        postal_code: String::new(),
    }
}

fn by(at_ms: u64) -> By {
    By { actor: "someone".into(), at_ms }
}

fn record() -> Record {
    let draft = Draft {
        cart_id: "cart".into(),
        locale: "en".into(),
        lines: Vec::new(),
        applied: Vec::new(),
        taxes: Vec::new(),
        totals: Totals {
            subtotal: money(TOTAL),
            discount: money(0),
            shipping: Some(money(0)),
            shipping_discount: money(0),
            tax_added: money(0),
            tax_included: money(0),
            total: money(TOTAL),
        },
        contact: Contact { email: "a@shop.example".into(), phone: String::new() },
        shipping_address: address(),
        billing_address: None,
        shipping_method: Method { id: "standard".into(), name: "Standard".into(), description: String::new(), price: money(0), days_min: 1, days_max: 2 },
        payment_id: "p0".into(),
        hold_id: "cart".into(),
        expires_ms: 1_000,
    };
    Record::new(draft, "0000-0000".into(), "token".into(), &by(0))
}

pub fn an_order() -> Order {
    let mut order = record().order;
    order.number = "7K3M-0VWX".into();
    order.shipping_address.phone = "13800138000".into();
    order
}

#[derive(Debug, Clone)]
enum Step {
    /// Money comes in; whether what was held can still be had.
    Paid { payment: u8, amount: i64, in_stock: bool },
    Cancel(Canceller),
    Send,
    Refunded { payment: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let amount = prop_oneof![4 => Just(TOTAL), 1 => Just(TOTAL - 1), 1 => Just(0)];
    let paid = (0_u8..3, amount, any::<bool>()).prop_map(|(payment, amount, in_stock)| Step::Paid { payment, amount, in_stock });
    let cancel = prop_oneof![Just(Canceller::Shopper), Just(Canceller::Staff), Just(Canceller::Expiry)].prop_map(Step::Cancel);
    prop::collection::vec(prop_oneof![4 => paid, 2 => cancel, 1 => Just(Step::Send), 2 => (0_u8..3).prop_map(|payment| Step::Refunded { payment })], 0..40)
}

proptest! {
    /// What came in placed the order, is owed, or went back: one of them, once.
    #[test]
    fn each_payment_ends_in_exactly_one_place(steps in steps()) {
        let mut record = record();
        let mut received = BTreeSet::new();
        let mut wanted = true;
        for (now_ms, step) in (1_u64..).zip(steps) {
            match step {
                Step::Paid { payment, amount, in_stock } => {
                    let id = format!("p{payment}");
                    received.insert(id.clone());
                    match record.receive(&id, &money(amount), &by(now_ms)) {
                        Payment::Take if in_stock => {
                            prop_assert_eq!(amount, TOTAL);
                            prop_assert!(wanted, "nobody wants it any more");
                            record.place(&id, &by(now_ms));
                        }
                        Payment::Take => record.give_up_paid(&id, "sold out", &by(now_ms)),
                        Payment::Placed => prop_assert_eq!(record.paid_by.as_ref(), Some(&id)),
                        Payment::Owed => prop_assert!(record.owed.contains(&id) || record.returned.contains(&id)),
                    }
                }
                Step::Cancel(who) => match record.order.status {
                    Status::PaymentPending => {
                        wanted = who == Canceller::Expiry;
                        record.cancel(who, "", &by(now_ms));
                    }
                    Status::Placed if who != Canceller::Expiry => {
                        wanted = false;
                        let paid_by = record.paid_by.clone().unwrap();
                        record.cancel(who, "", &by(now_ms));
                        prop_assert!(record.owed.contains(&paid_by) && record.order.status == Status::Refunding);
                    }
                    Status::Cancelled => {
                        wanted &= who == Canceller::Expiry;
                        record.also_cancelled_by(who, "", &by(now_ms));
                    }
                    _ => {}
                },
                Step::Send => {
                    if record.order.status == Status::Placed {
                        record.order.status = Status::Fulfilled;
                    }
                }
                Step::Refunded { payment } => {
                    let id = format!("p{payment}");
                    let known = record.owed.contains(&id) || record.returned.contains(&id);
                    prop_assert_eq!(record.refunded(&id, &by(now_ms)), known);
                }
            }
            for id in &received {
                let places = [record.paid_by.as_ref() == Some(id), record.owed.contains(id), record.returned.contains(id)];
                prop_assert_eq!(places.iter().filter(|here| **here).count(), 1, "{}: {:?}", id, record);
            }
            prop_assert_eq!(matches!(record.order.status, Status::Placed | Status::Fulfilled), record.paid_by.is_some());
            prop_assert!(record.order.status != Status::Refunding || !record.owed.is_empty());
            prop_assert!(record.order.status != Status::Refunded || record.owed.is_empty());
        }
    }
}

fn holder(address: &str, session: Option<&str>) -> Holder {
    Holder { address: address.into(), session: session.map(Into::into) }
}

#[test]
fn unpaid_orders_hold_up_to_their_limits_and_give_back_what_they_held() {
    let settings = Settings { orders_per_email_max: 3, units_per_network_max: 10, sku_units_per_network_min: 4, ..Settings::default() };
    let goods = |quantity: i64| BTreeMap::from([("A".to_owned(), quantity)]);
    let take = |email: &str, address: &str, quantity: i64| {
        let counted = Counted::of(&holder(address, None), email);
        limits::take(&counted, &goods(quantity), |_| 100, &settings).map(|()| counted).map_err(|limit| (limit.name, limit.most))
    };
    let first = take(" A@shop.example", "192.0.2.1", 1).unwrap();
    take("a@shop.example", "192.0.2.2", 1).unwrap();
    take("a@shop.example", "192.0.2.3", 1).unwrap();
    assert_eq!(take("a@shop.example", "192.0.2.4", 1), Err(("orders-per-email-max".into(), 3)));
    limits::give_back(&first, &goods(1), &settings);
    take("a@shop.example", "192.0.2.4", 1).unwrap();
    take("b@shop.example", "2001:db8::1", 9).unwrap();
    assert_eq!(take("c@shop.example", "2001:db8::ffff", 2), Err(("units-per-network-max".into(), 10)), "the same /64");
    take("c@shop.example", "2001:db8:0:1::1", 10).unwrap();
    let few = limits::take(&Counted::of(&holder("192.0.2.9", None), "d@shop.example"), &goods(5), |_| 8, &settings).unwrap_err();
    assert_eq!((few.name.as_str(), few.most, few.sku.as_deref()), ("sku-percent-per-network-max", 4, Some("A")));
    take("d@shop.example", "192.0.2.9", 4).unwrap();
}

#[test]
fn only_the_same_browser_or_the_same_programme_is_the_same_shopper() {
    let shopper = |address: &str, session: Option<&str>, email: &str| Counted::of(&holder(address, session), email).shopper();
    assert_eq!(shopper("192.0.2.1", Some("s"), "a@x"), shopper("192.0.2.2", Some("s"), "b@x"));
    assert_ne!(shopper("192.0.2.1", Some("s"), "a@x"), shopper("192.0.2.1", Some("t"), "a@x"));
    assert_eq!(shopper("192.0.2.1", None, "a@x"), shopper("192.0.2.1", None, "A@x"));
    assert_ne!(shopper("192.0.2.1", None, "a@x"), shopper("192.0.2.2", None, "a@x"), "an e-mail alone says nothing");
}

#[test]
fn who_cancelled_before_it_was_kept_is_read_from_the_timeline() {
    for (reason, outcome) in [("not paid in time", Payment::Take), ("by the shopper", Payment::Owed)] {
        let mut record = record();
        record.cancel(Canceller::Expiry, reason, &by(1));
        record.cancelled_by = None;
        assert_eq!(record.receive("p0", &money(TOTAL), &by(2)), outcome, "{reason}");
    }
}

#[test]
fn the_timeline_keeps_how_it_began_and_what_came_last() {
    let mut record = record();
    for entry in 0..500 {
        record.note(&by(entry), "note", &"长".repeat(1_000));
    }
    let timeline = &record.order.timeline;
    assert!(timeline.len() <= 100);
    assert_eq!(timeline[0].kind, "order.created");
    assert_eq!((timeline[99].at_ms, timeline[99].actor.as_str()), (499, "someone"));
    assert_eq!(timeline[1].detail.chars().count(), 500);
}
