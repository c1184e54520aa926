use proptest::prelude::*;
use souk_sdk::commerce::payment::{Payment, Status};
use souk_sdk::money::Money;

use crate::ledger::{Duty, News, Record};

fn record() -> Record {
    let mut record = Record {
        payment: Payment {
            id: "p".into(),
            provider: "pay".into(),
            order_token: "token".into(),
            amount: Money::new(4_200, "CNY"),
            status: Status::Starting,
            redirect_url: None,
            message: String::new(),
        },
        method_id: "pay".into(),
        order_number: "0000-0000".into(),
        locale: "en".into(),
        return_url: "https://shop.example/orders/token".into(),
        reference: "r".into(),
        ask_ms: 0,
        asked: 0,
        unsettled: false,
        notifications: Vec::new(),
    };
    record.ask_soon(0);
    record
}

#[derive(Debug, Clone)]
enum Step {
    Hear(News),
    GiveUp,
}

fn step() -> impl Strategy<Value = Step> {
    let news = prop_oneof![
        Just(News::ActionRequired { redirect_url: Some("https://pay.example".into()) }),
        Just(News::Captured),
        Just(News::Declined { message: "no".into() }),
        Just(News::Cancelled),
        Just(News::Refunded),
        Just(News::NoAnswer),
    ];
    prop_oneof![6 => news.prop_map(Step::Hear), 1 => Just(Step::GiveUp)]
}

proptest! {
    /// News in any order and any number: the order is told of the money once,
    /// and of its return once, if it wanted it returned.
    #[test]
    fn money_is_told_of_once(steps in prop::collection::vec(step(), 0..40), order_takes_it: bool) {
        let mut record = record();
        let (mut paid, mut returned, mut captured) = (0, 0, false);
        for step in steps {
            let duty = match step {
                Step::Hear(news) => {
                    captured |= news == News::Captured;
                    record.hear(news)
                }
                Step::GiveUp => record.give_up(),
            };
            match duty {
                Duty::PayOrder => {
                    paid += 1;
                    if !order_takes_it {
                        prop_assert!(record.refund(0));
                        prop_assert!(!record.refund(0));
                    }
                }
                Duty::TellRefunded => returned += 1,
                Duty::CancelAtProvider => prop_assert_eq!(record.payment.status, Status::Cancelled),
                Duty::TellStaff => prop_assert!(order_takes_it),
                Duty::Nothing => {}
            }
            prop_assert!(paid <= 1 && returned <= 1);
            prop_assert_eq!(captured, paid == 1, "money that came is told of, whatever came before");
            let has_money = matches!(record.payment.status, Status::Captured | Status::Refunding | Status::Refunded);
            prop_assert_eq!(has_money, paid == 1);
            prop_assert!(record.payment.redirect_url.is_none() || record.payment.status == Status::ActionRequired);
        }
        prop_assert!(returned == 0 || !order_takes_it);
    }

    #[test]
    fn questions_come_less_and_less_often_and_a_person_is_told_once(count in 1_usize..200) {
        let mut record = record();
        let (mut told, mut last) = (0, 0);
        for question in 0..count {
            let now_ms = record.ask_ms;
            told += u32::from(record.ask_later(now_ms));
            let wait = record.ask_ms - now_ms;
            prop_assert!(wait >= last && wait <= 60 * 60_000, "{}: {}", question, wait);
            last = wait;
        }
        prop_assert!(told <= 1);
    }
}

#[test]
fn another_amount_currency_or_reference_is_another_payment() {
    let record = record();
    assert!(record.fits("r", &Money::new(4_200, "CNY")));
    for (reference, amount, currency) in [("x", 4_200, "CNY"), ("r", 4_199, "CNY"), ("r", 4_200, "USD"), ("", 4_200, "CNY")] {
        assert!(!record.fits(reference, &Money::new(amount, currency)));
    }
}

#[test]
fn a_payment_given_up_while_it_starts_is_cancelled_when_it_has_started() {
    let mut record = record();
    assert_eq!(record.give_up(), Duty::Nothing);
    assert!(record.is_awaited(), "its provider is asked until it has said something");
    record.hear(News::NoAnswer);
    assert!(record.is_awaited());
    assert_eq!(record.hear(News::ActionRequired { redirect_url: None }), Duty::CancelAtProvider);
    assert_eq!(record.hear(News::Captured), Duty::PayOrder);
}

#[test]
fn a_notification_is_seen_once_and_old_ones_make_room() {
    let mut record = record();
    assert!(record.see("a") && !record.see("a"));
    for id in 0..100 {
        assert!(record.see(&id.to_string()));
    }
    assert!(record.notifications.len() <= 32);
}
