use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use souk_sdk::commerce::cart::{Contact, Totals};
use souk_sdk::commerce::order_cancellation::Canceller;
use souk_sdk::commerce::orders::{Draft, Order, Status};
use souk_sdk::commerce::shipping::Method;
use souk_sdk::commerce::types::Address;
use souk_sdk::commerce::unpaid_orders::Holder;
use souk_sdk::money::Money;
use souk_sdk::testing;

use crate::limits::{self, Counted, Often};
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

fn take(email: &str, address: &str, goods: &[(&str, i64)], stock: i64, settings: &Settings) -> Result<Counted, (String, u64)> {
    let mut counted = Counted::of(&holder(address, None), email, "checkout");
    let taken = limits::take(&mut counted, &goods_of(goods), |_| stock, settings);
    taken.map(|()| counted).map_err(|limit| (limit.name, limit.most))
}

fn goods_of(goods: &[(&str, i64)]) -> BTreeMap<String, i64> {
    goods.iter().map(|(sku, quantity)| ((*sku).to_owned(), *quantity)).collect()
}

#[test]
fn unpaid_orders_hold_up_to_their_limits_and_give_back_what_they_held() {
    let settings = Settings { orders_per_email_max: 2, units_per_network_max: 10, networks_per_site_max: 2, sku_units_per_network_min: 4, ..Settings::default() };
    let take = |email: &str, address: &str, quantity: i64| take(email, address, &[("A", quantity)], 100, &settings);
    let first = take(" A@shop.example", "192.0.2.1", 1).unwrap();
    take("a@shop.example", "192.0.2.1", 1).unwrap();
    assert_eq!(take("a@shop.example", "192.0.2.1", 1), Err(("orders-per-email-max".into(), 2)));
    take("a@shop.example", "192.0.2.2", 1).expect("whoever types an address locks nobody out elsewhere");
    limits::give_back(&first, &goods_of(&[("A", 1)]), &settings);
    take("a@shop.example", "192.0.2.1", 1).unwrap();
    take("b@shop.example", "2001:db8::1", 9).unwrap();
    assert_eq!(take("c@shop.example", "2001:db8::ffff", 2), Err(("units-per-network-max".into(), 10)), "the same /64");
    take("c@shop.example", "2001:db8:0:1::1", 10).unwrap();
    assert_eq!(take("d@shop.example", "2001:db8:0:2::1", 2), Err(("units-per-network-max".into(), 20)), "the same /48");
    take("d@shop.example", "2001:db8:1::1", 2).unwrap();
}

#[test]
fn the_last_pieces_are_sold_but_not_those_of_the_whole_shop_to_one_network() {
    let settings = Settings { sku_units_per_network_min: 4, skus_over_share_per_network_max: 2, skus_per_network_max: 4, ..Settings::default() };
    let take = |address: &str, goods: &[(&str, i64)], stock: i64| take("a@shop.example", address, goods, stock, &settings);
    assert_eq!(take("192.0.2.1", &[("A", 5)], 8), Err(("sku-percent-per-network-max".into(), 4)));
    let last = take("192.0.2.1", &[("A", 3)], 3).unwrap();
    take("192.0.2.1", &[("B", 1)], 1).unwrap();
    let over = Err(("skus-over-share-per-network-max".into(), 2));
    assert_eq!(take("192.0.2.1", &[("C", 1)], 1), over);
    assert_eq!(take("192.0.2.1", &[("C", 2)], 3), over);
    take("192.0.2.2", &[("C", 1)], 1).expect("another network");
    take("192.0.2.1", &[("C", 1), ("D", 4)], 8).expect("within its share");
    assert_eq!(take("192.0.2.1", &[("E", 1)], 100), Err(("skus-per-network-max".into(), 4)));
    limits::give_back(&last, &goods_of(&[("A", 3)]), &settings);
    take("192.0.2.1", &[("A", 3)], 3).expect("nothing is left counted of what was refused or given up");
}

#[test]
fn a_proxy_or_an_office_is_no_network() {
    let settings = Settings { orders_per_network_max: 1, orders_per_email_max: 1, skus_per_network_max: 1, ..Settings::default() };
    for address in ["127.0.0.1", "::1", "10.1.2.3", "192.168.1.9", "172.16.0.1", "100.64.0.1", "fd00::1", "fe80::1", "::ffff:127.0.0.1"] {
        for _ in 0..3 {
            take("a@shop.example", address, &[("A", 5), ("B", 5)], 5, &settings).expect(address);
        }
    }
    let shopper = |email| Counted::of(&holder("127.0.0.1", None), email, "checkout").shopper();
    assert_ne!(shopper("a@x"), Counted::of(&holder("10.0.0.1", None), "a@x", "checkout").shopper(), "it still tells shoppers apart");
}

#[test]
fn what_a_plugin_drafts_for_nobody_is_counted_for_the_plugin() {
    let settings = Settings { orders_per_plugin_max: 2, units_per_plugin_max: 10, ..Settings::default() };
    let draft = |plugin: &str, email: &str, units: i64| {
        let mut counted = Counted::of(&holder("", Some("")), email, plugin);
        limits::take(&mut counted, &goods_of(&[("A", units)]), |_| 1_000, &settings).map(|()| counted).map_err(|limit| limit.name)
    };
    let first = draft("connector", "a@shop.example", 8).unwrap();
    assert_eq!(draft("connector", "b@shop.example", 3), Err("units-per-plugin-max".into()), "whatever e-mail it gives");
    draft("connector", "b@shop.example", 2).unwrap();
    assert_eq!(draft("connector", "c@shop.example", 1), Err("orders-per-plugin-max".into()));
    assert_ne!(first.shopper(), draft("other", "a@shop.example", 8).unwrap().shopper(), "one plugin gives up no order of another's");
    limits::give_back(&first, &goods_of(&[("A", 8)]), &settings);
    draft("connector", "c@shop.example", 8).unwrap();
}

#[test]
fn who_drafts_orders_and_never_pays_is_stopped_for_an_hour() {
    let settings = Settings { given_up_per_session_max: 3, given_up_per_network_max: 5, ..Settings::default() };
    let counted = |address: &str, session| Counted::of(&holder(address, session), "a@x", "checkout");
    let give_up = |counted: &Counted| Often::GivenUp.note(counted, &settings);
    let reached = |counted: &Counted| Often::GivenUp.limit(counted, &settings).map(|limit| (limit.name, limit.most));
    let browser = counted("192.0.2.1", Some("s"));
    for _ in 0..3 {
        assert_eq!(reached(&browser), None);
        give_up(&browser);
    }
    assert_eq!(reached(&browser), Some(("given-up-per-session-max".into(), 3)));
    assert_eq!(reached(&counted("198.51.100.1", Some("s"))), Some(("given-up-per-session-max".into(), 3)), "the same browser elsewhere");
    let programme = counted("192.0.2.1", None);
    for _ in 0..2 {
        assert_eq!(reached(&programme), None);
        give_up(&programme);
    }
    assert_eq!(reached(&programme), Some(("given-up-per-network-max".into(), 5)));
    assert_eq!(reached(&counted("192.0.2.2", Some("t"))), None);
    for _ in 0..50 {
        give_up(&counted("127.0.0.1", None));
    }
    assert_eq!(reached(&counted("127.0.0.1", None)), None, "where all shoppers may come from");
    testing::advance_ms(3_600_000);
    assert_eq!((reached(&browser), reached(&programme)), (None, None));
}

#[test]
fn orders_that_cost_nothing_are_counted_for_a_day_apart_from_others() {
    let settings = Settings { free_orders_per_session_max: 2, free_orders_per_network_max: 3, ..Settings::default() };
    let counted = |session| Counted::of(&holder("192.0.2.1", session), "a@x", "checkout");
    let reached = |counted: &Counted| Often::Free.limit(counted, &settings).map(|limit| limit.name);
    let browser = counted(Some("s"));
    Often::Free.note(&browser, &settings);
    Often::Free.note(&browser, &settings);
    assert_eq!((reached(&browser), reached(&counted(None))), (Some("free-orders-per-session-max".into()), None));
    Often::Free.note(&counted(None), &settings);
    assert_eq!(reached(&counted(Some("t"))), Some("free-orders-per-network-max".into()));
    assert_eq!(Often::GivenUp.limit(&browser, &settings), None);
    testing::advance_ms(24 * 3_600_000);
    assert_eq!(reached(&browser), None);
}

#[test]
fn an_order_counted_before_there_were_more_limits_gives_back_what_was_counted() {
    let old: Counted = serde_json::from_str(r#"{"session":null,"email":"e-1","network":"n-1"}"#).unwrap();
    assert_eq!(old.shopper(), "e-1n-1");
    limits::give_back(&old, &goods_of(&[("A", 3)]), &Settings::default());
}

#[test]
fn only_the_same_browser_or_the_same_programme_is_the_same_shopper() {
    let shopper = |address: &str, session: Option<&str>, email: &str| Counted::of(&holder(address, session), email, "checkout").shopper();
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

/// What each refund gives back is told; what staff and plugins noted is not.
#[test]
fn the_shopper_reads_amounts_of_refunds_and_the_parcels_number() {
    let mut record = record();
    record.receive("p1", &money(1), &by(1));
    assert_eq!(record.receive("p0", &money(TOTAL), &by(2)), Payment::Take);
    record.place("p0", &by(2));
    record.note(&by(3), "payment.settled", "by hand, Return: called the bank");
    record.refunded("p1", &by(4));
    record.send(" SF1234567890 ", "Left with the neighbour.", &by(5));
    record.receive("p2", &money(TOTAL), &by(6));
    let told: Vec<_> = record.steps().into_iter().map(|step| (step.kind, step.amount.map(|amount| amount.amount), step.tracking, step.message)).collect();
    let step = |kind: &str, amount| (kind.to_owned(), amount, String::new(), String::new());
    let sent = ("order.fulfilled".to_owned(), None, "SF1234567890".to_owned(), "Left with the neighbour.".to_owned());
    let refunds = |amount| [step("payment.owed", amount), step("payment.refunded", amount)];
    let [owed, returned] = refunds(Some(1));
    assert_eq!(told, [step("order.created", None), owed, step("order.placed", None), returned, sent, step("payment.owed", Some(TOTAL))]);

    record.message.clear();
    assert!(record.steps().iter().all(|step| step.message.is_empty()), "a note of staff from before such messages stays inside");

    let mut before = self::record();
    before.place("p0", &by(1));
    before.cancel(Canceller::Staff, "", &by(2));
    assert_eq!(before.steps().last().unwrap().amount, Some(money(TOTAL)));
    before.amounts.clear();
    assert_eq!(before.steps().last().unwrap().amount, None, "as it was stored before amounts were kept");
}
