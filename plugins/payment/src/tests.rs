use std::collections::BTreeMap;

use proptest::prelude::*;
use souk_sdk::commerce::payment::{Payment, Status};
use souk_sdk::extend::payment_method::{self, State};
use souk_sdk::jobs::{Guest as _, Job};
use souk_sdk::money::Money;
use souk_sdk::testing;

use crate::keep_of_each;
use crate::ledger::{Duty, News, Record, Settlement, Task};

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
        withdrawn_ms: None,
        captured: None,
        mismatch: None,
        refund: None,
        tasks: BTreeMap::new(),
        tries: 0,
        questions: 0,
        questions_since_ms: 0,
    };
    record.ask_soon(0);
    record
}

#[derive(Debug, Clone)]
enum Step {
    Hear(News),
    /// Of so much.
    Told(State, i64),
    GiveUp,
    Withdrawn,
    Ended,
    Pass(u64),
    RefundRefused,
    RefundAgain(bool),
    Settle(Settlement),
}

fn step() -> impl Strategy<Value = Step> {
    let news = prop_oneof![
        Just(News::ActionRequired { redirect_url: Some("https://pay.example".into()) }),
        Just(News::Declined { message: "no".into() }),
        Just(News::Cancelled),
        Just(News::Refunded),
        Just(News::NoAnswer),
    ];
    let state = prop_oneof![3 => Just(State::Captured), 1 => Just(State::Declined), 1 => Just(State::Cancelled), 1 => Just(State::Refunded), 1 => Just(State::Open)];
    let amount = prop_oneof![3 => Just(4_200_i64), 1 => Just(1), 1 => Just(4_201)];
    let settlement = prop_oneof![Just(Settlement::Paid), Just(Settlement::NotPaid), Just(Settlement::Return), Just(Settlement::Refunded)];
    prop_oneof![
        6 => news.prop_map(Step::Hear),
        6 => (state, amount).prop_map(|(state, amount)| Step::Told(state, amount)),
        1 => Just(Step::GiveUp),
        1 => Just(Step::Withdrawn),
        1 => Just(Step::Ended),
        1 => (0..200_000_u64).prop_map(Step::Pass),
        1 => Just(Step::RefundRefused),
        2 => any::<bool>().prop_map(Step::RefundAgain),
        1 => settlement.prop_map(Step::Settle),
    ]
}

proptest! {
    /// News in any order and any number: the order is told of the money once,
    /// and of its return once, if it wanted it returned. Only the payment's own
    /// amount makes it paid, or a person; no more goes back than came.
    #[test]
    fn money_is_told_of_once_and_only_if_it_is_all_there(steps in prop::collection::vec(step(), 0..40), order_takes_it: bool) {
        let mut record = record();
        let (mut paid, mut returned, mut came, mut now_ms) = (0, 0, None, 0);
        for step in steps {
            let duty = match step {
                Step::Hear(news) => record.hear(news),
                Step::Told(state, amount) => {
                    if state == State::Captured && amount == 4_200 && came.is_none() {
                        came = Some(amount);
                    }
                    record.told(state, "r", &Money::new(amount, "CNY"), String::new())
                }
                Step::GiveUp => record.give_up(now_ms),
                Step::Withdrawn => {
                    if record.payment.status == Status::Cancelled {
                        record.withdrawn(now_ms);
                    }
                    Duty::Nothing
                }
                Step::Ended => record.ended(now_ms, String::new()),
                Step::Pass(ms) => {
                    now_ms += ms;
                    Duty::Nothing
                }
                Step::RefundRefused => record.refund_refused(now_ms),
                Step::RefundAgain(at_once) => record.refund_again(now_ms, at_once),
                Step::Settle(how) => {
                    let told = record.mismatch.clone();
                    let had_money = record.has_money();
                    match record.settle(how, now_ms) {
                        Ok(duty) => {
                            match how {
                                Settlement::Paid if !had_money => came = Some(4_200),
                                Settlement::Return => came = told.map(|told| told.amount.amount),
                                _ => {}
                            }
                            duty
                        }
                        Err(_) => Duty::Nothing,
                    }
                }
            };
            match duty {
                Duty::PayOrder => {
                    paid += 1;
                    // As the order does with what is not its total.
                    if !order_takes_it || record.captured().amount != 4_200 {
                        prop_assert!(record.refund(now_ms));
                        prop_assert!(!record.refund(now_ms));
                    }
                }
                Duty::Refund => prop_assert_eq!(record.payment.status, Status::Refunding),
                Duty::TellRefunded => returned += 1,
                Duty::CancelAtProvider | Duty::WithdrawCreate => {
                    prop_assert_eq!(record.payment.status, Status::Cancelled);
                    prop_assert!(record.is_awaited(), "its provider is asked until it has said what became of it");
                }
                Duty::TellStaff(_) | Duty::Nothing => {}
            }
            prop_assert!(paid <= 1 && returned <= paid);
            prop_assert_eq!(came.is_some(), paid == 1, "money that came is told of, whatever came before");
            prop_assert_eq!(record.has_money(), paid == 1);
            if let Some(came) = came {
                prop_assert_eq!(record.captured().amount, came);
                prop_assert!(record.refund.as_ref().is_none_or(|refund| refund.amount.amount == came));
            }
            prop_assert!(record.mismatch.is_none() || record.is_awaited());
            prop_assert!(record.payment.redirect_url.is_none() || record.payment.status == Status::ActionRequired);
        }
    }

    #[test]
    fn a_refused_refund_is_asked_for_again_over_hours_and_then_left_to_a_person(late_ms in 0..60_000_u64) {
        let mut record = record();
        assert_eq!(record.told(State::Captured, "r", &Money::new(4_200, "CNY"), String::new()), Duty::PayOrder);
        assert!(record.refund(0));
        let (mut now_ms, mut asked) = (0, 0);
        while record.refund_refused(now_ms) == Duty::TellStaff(Task::Refund) {
            record.open_task(Task::Refund, "no", now_ms);
            let Some(again_ms) = record.refund.as_ref().and_then(|refund| refund.again_ms) else { break };
            prop_assert_eq!(record.refund_again(again_ms - 1, false), Duty::Nothing);
            prop_assert!(record.ask_ms <= again_ms);
            now_ms = again_ms + late_ms;
            prop_assert_eq!(record.refund_again(now_ms, false), Duty::Refund);
            asked += 1;
        }
        prop_assert!(asked == 6 && now_ms > 40 * 60 * 60_000);
        prop_assert_eq!(record.refund_again(u64::MAX / 2, false), Duty::Nothing);
        prop_assert!(record.is_awaited() && record.tasks.contains_key(&Task::Refund));
        prop_assert_eq!(record.refund_again(now_ms, true), Duty::Refund, "a person may");
        prop_assert_eq!(record.hear(News::Refunded), Duty::TellRefunded);
        prop_assert!(record.tasks.is_empty() && !record.is_awaited());
    }

    #[test]
    fn questions_come_less_and_less_often_and_a_person_is_told_once(count in 1_usize..200) {
        let mut record = record();
        let (mut told, mut last) = (0, 0);
        for question in 0..count {
            let now_ms = record.ask_ms;
            record.ask_later(now_ms);
            if record.is_late() {
                told += 1;
                record.open_task(Task::WithoutNews, "silent", now_ms);
            }
            let wait = record.ask_ms - now_ms;
            prop_assert!(wait >= last && wait <= 60 * 60_000, "{}: {}", question, wait);
            last = wait;
        }
        prop_assert!(told <= 1);
    }
}

/// Where asking after one fails, nothing of it is undone here: that is another unit.
#[test]
fn when_to_ask_next_is_moved_on_for_all_before_any_is_asked() {
    let stored = |id: &str| crate::load(id).unwrap();
    let ids: Vec<String> = (0..crate::ASKED_AT_ONCE + 5).map(|id| format!("p{id:03}")).collect();
    for id in &ids {
        let mut record = record();
        record.payment.id.clone_from(id);
        crate::save(&record);
    }
    let mut paid = record();
    paid.payment.id = "paid".into();
    paid.told(State::Captured, "r", &Money::new(4_200, "CNY"), String::new());
    crate::save(&paid);
    let reconcile = || crate::Plugin::run(Job { name: "reconcile".into(), key: String::new(), due_ms: 0, payload: Vec::new() });
    assert_eq!((reconcile(), reconcile(), reconcile()), (Ok(true), Ok(false), Ok(false)));
    let now_ms = souk_sdk::clock::now_ms();
    assert!(ids.iter().all(|id| stored(id).ask_ms > now_ms && stored(id).asked == 1));
    let waiting: Vec<_> = testing::jobs().into_iter().map(|((name, key), job)| (name, key, job.at_ms)).collect();
    assert_eq!(waiting, ids.iter().map(|id| ("ask".to_owned(), id.clone(), now_ms)).collect::<Vec<_>>());
    // One that is settled meanwhile is not asked about.
    let ask = |id: &str| crate::Plugin::run(Job { name: "ask".into(), key: id.into(), due_ms: 0, payload: Vec::new() });
    assert_eq!((ask("paid"), ask("nobody")), (Ok(false), Ok(false)));
    testing::advance_ms(stored(&ids[0]).ask_ms - now_ms + 1);
    reconcile().unwrap();
    assert_eq!(stored(&ids[0]).asked, 2);
}

#[test]
fn shoppers_have_a_provider_asked_so_often_and_put_no_question_of_the_shops_off() {
    let mut record = record();
    let (asked, ask_ms) = (record.asked, record.ask_ms);
    let asks = |record: &mut Record, now_ms| (0..100).filter(|_| record.take_question(now_ms)).count();
    assert_eq!((asks(&mut record, 1_000_000), asks(&mut record, 1_599_999), asks(&mut record, 1_600_000)), (20, 0, 20));
    assert_eq!((record.asked, record.ask_ms), (asked, ask_ms));
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
fn what_a_provider_tells_at_any_length_can_be_stored() {
    let long = "长".repeat(100_000);
    let mut record = record();
    record.hear(News::ActionRequired { redirect_url: Some(format!("https://pay.example/{long}")) });
    assert_eq!(record.told(State::Captured, &long, &Money::new(1, &long), String::new()), Duty::TellStaff(Task::Mismatch));
    assert_eq!(record.told(State::Captured, &long, &Money::new(1, &long), String::new()), Duty::Nothing, "said again, it is nothing new");
    record.hear(News::Declined { message: long });
    assert!(format!("{record:?}").len() < 16_000);
}

#[test]
fn another_amount_stays_a_task_until_the_right_one_is_told_or_a_person_settles_it() {
    let mut record = record();
    let told = |record: &mut crate::ledger::Record, amount| record.told(State::Captured, "r", &Money::new(amount, "CNY"), String::new());
    record.hear(News::ActionRequired { redirect_url: None });
    assert_eq!(told(&mut record, 1), Duty::TellStaff(Task::Mismatch));
    assert_eq!(told(&mut record, 1), Duty::Nothing, "said again, it is nothing new");
    record.give_up(0);
    assert_eq!((told(&mut record, 1), record.payment.status), (Duty::Nothing, Status::Cancelled));
    record.hear(News::Cancelled);
    assert!(record.is_awaited() && record.mismatch.is_some());
    let mut by_hand = record.clone();
    assert_eq!(told(&mut record, 4_200), Duty::PayOrder);
    assert!(record.mismatch.is_none());
    assert_eq!(by_hand.settle(Settlement::Return, 0), Ok(Duty::PayOrder));
    assert!(by_hand.refund(0) && by_hand.refund.unwrap().amount == Money::new(1, "CNY"));
}

#[test]
fn a_payment_given_up_while_it_starts_is_asked_about_until_nothing_can_come_of_it() {
    let mut record = record();
    assert_eq!(record.give_up(0), Duty::WithdrawCreate);
    record.withdrawn(0);
    assert_eq!(record.ended(60_000, String::new()), Duty::Nothing);
    assert!(record.is_awaited(), "a try may be under way");
    let mut late = record.clone();
    assert_eq!(late.told(State::Captured, "r", &Money::new(4_200, "CNY"), String::new()), Duty::PayOrder);
    record.ended(120_000, String::new());
    assert!(!record.is_awaited());
    assert_eq!(record.hear(News::ActionRequired { redirect_url: None }), Duty::CancelAtProvider);
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

#[test]
fn many_ways_to_pay_of_one_provider_hide_none_of_another() {
    let method = |provider: &str, variant: usize| payment_method::Method {
        provider: provider.into(),
        variant: variant.to_string(),
        name: "pay".into(),
        description: String::new(),
        position: 0,
    };
    let mut offered: Vec<_> = (0..300).map(|variant| method("many", variant)).chain([method("one", 0)]).collect();
    assert_eq!(keep_of_each(&mut offered), [("many".to_owned(), 280)].into());
    assert_eq!((offered.len(), offered.last().unwrap().provider.as_str()), (21, "one"));
}
