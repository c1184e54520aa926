use std::collections::BTreeSet;

use proptest::prelude::*;
use souk_sdk::commerce::cart::{Contact, Totals};
use souk_sdk::commerce::orders::{Draft, Order, Status};
use souk_sdk::commerce::shipping::Method;
use souk_sdk::commerce::types::Address;
use souk_sdk::money::Money;

use crate::record::{By, Payment, Record};

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
    Expire,
    Refunded { payment: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let amount = prop_oneof![4 => Just(TOTAL), 1 => Just(TOTAL - 1), 1 => Just(0)];
    let paid = (0_u8..3, amount, any::<bool>()).prop_map(|(payment, amount, in_stock)| Step::Paid { payment, amount, in_stock });
    prop::collection::vec(prop_oneof![4 => paid, 1 => Just(Step::Expire), 2 => (0_u8..3).prop_map(|payment| Step::Refunded { payment })], 0..40)
}

proptest! {
    /// What came in placed the order, is owed, or went back: one of them, once.
    #[test]
    fn each_payment_ends_in_exactly_one_place(steps in steps()) {
        let mut record = record();
        let mut received = BTreeSet::new();
        let mut placed = 0;
        for (now_ms, step) in (1_u64..).zip(steps) {
            match step {
                Step::Paid { payment, amount, in_stock } => {
                    let id = format!("p{payment}");
                    received.insert(id.clone());
                    match record.receive(&id, &money(amount), &by(now_ms)) {
                        Payment::Take if in_stock => {
                            prop_assert_eq!(amount, TOTAL);
                            record.place(&id, &by(now_ms));
                            placed += 1;
                        }
                        Payment::Take => record.give_up_paid(&id, "sold out", &by(now_ms)),
                        Payment::Placed => prop_assert_eq!(record.paid_by.as_ref(), Some(&id)),
                        Payment::Owed => prop_assert!(record.owed.contains(&id) || record.returned.contains(&id)),
                    }
                }
                Step::Expire => {
                    if record.order.status == Status::PaymentPending {
                        record.cancel("not paid in time", &by(now_ms));
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
            prop_assert_eq!(record.order.status == Status::Placed, record.paid_by.is_some());
            prop_assert!(record.order.status != Status::Refunding || !record.owed.is_empty());
            prop_assert!(record.order.status != Status::Refunded || record.owed.is_empty());
        }
        prop_assert!(placed <= 1);
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
