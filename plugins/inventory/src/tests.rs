//! The rules of stock (H4, H5), against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use souk_sdk::commerce::commitments::Guest as _;
use souk_sdk::commerce::inventory::{Guest as _, Line};
use souk_sdk::host::command_handler::Guest as _;
use souk_sdk::{jobs, testing};

use crate::{Inventory, stock};

fn lines(lines: &[(&str, u32)]) -> Vec<Line> {
    lines.iter().map(|(sku, quantity)| Line { sku: (*sku).into(), quantity: *quantity }).collect()
}

fn set(arguments: &str) -> Result<String, String> {
    let arguments = arguments.split(' ').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let answer = testing::unit(|| <Inventory as souk_sdk::host::command_handler::Guest>::run("set-stock".into(), arguments, Vec::new()));
    answer.map(|answer| String::from_utf8(answer).unwrap())
}

fn free(sku: &str) -> i64 {
    Inventory::available(vec![sku.into()])[0]
}

/// Runs what is due, as the host does.
fn run_jobs() {
    let now_ms = souk_sdk::clock::now_ms();
    for ((name, key), job) in testing::jobs() {
        if job.at_ms <= now_ms {
            jobs::cancel(&name, &key).unwrap();
            <Inventory as jobs::Guest>::run(jobs::Job { name, key, due_ms: job.at_ms, payload: job.payload }).unwrap();
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(u8, Vec<(u8, u32)>, u64),
    Extend(u8, u64),
    Release(u8),
    Claim(u8),
    Ship(u8),
    Keep(u8),
    Restock(u8),
    Pass(u64),
    /// The shelf.
    Count(u8, i64),
    /// Sets what may be sold.
    Sell(u8, i64),
    /// The operator has the documents rewritten.
    Form(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..4_u8;
    prop_oneof![
        4 => (id.clone(), prop::collection::vec((0..3_u8, 0..6_u32), 1..4), 1..50_u64).prop_map(|(id, lines, ttl)| Step::Reserve(id, lines, ttl)),
        1 => (id.clone(), 1..50_u64).prop_map(|(id, ttl)| Step::Extend(id, ttl)),
        2 => id.clone().prop_map(Step::Release),
        2 => id.clone().prop_map(Step::Claim),
        1 => id.clone().prop_map(Step::Ship),
        1 => id.clone().prop_map(Step::Keep),
        1 => id.prop_map(Step::Restock),
        2 => (1..40_u64).prop_map(Step::Pass),
        1 => (0..3_u8, 0..30_i64).prop_map(|(sku, quantity)| Step::Count(sku, quantity)),
        1 => (0..3_u8, 0..30_i64).prop_map(|(sku, quantity)| Step::Sell(sku, quantity)),
        1 => (1..3_u32).prop_map(Step::Form),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Held,
    Free,
    /// Off the books, as in the first form.
    Sold,
    Committed,
    Sent,
    Returned,
}

impl State {
    fn is_claimed(self) -> bool {
        matches!(self, Self::Sold | Self::Committed | Self::Sent)
    }
}

type Holds = BTreeMap<u8, (State, BTreeMap<String, i64>, u64)>;

fn of(holds: &Holds, state: State, sku: &str) -> i64 {
    holds.values().filter(|hold| hold.0 == state).filter_map(|hold| hold.1.get(sku)).sum()
}

proptest! {
    #[test]
    fn stock_agrees_with_a_model_and_is_never_oversold(steps in prop::collection::vec(step(), 1..80)) {
        testing::reset();
        testing::set_config(serde_json::json!({ "uncounted-units-max": 0, "uncounted-percent-per-sku-max": 100 }));
        let sku = |number: u8| format!("S{number}");
        let mut on_hand: BTreeMap<String, i64> = (0..3).map(|number| (sku(number), 10)).collect();
        for name in on_hand.keys() {
            stock::set_on_hand(name, 10).unwrap();
        }
        let mut form = 1;
        let mut holds = Holds::new();
        let available = |on_hand: &BTreeMap<String, i64>, holds: &Holds, sku: &str| on_hand[sku] - of(holds, State::Held, sku) - of(holds, State::Committed, sku);
        for step in steps {
            let now = souk_sdk::clock::now_ms();
            match step {
                Step::Reserve(id, wanted, ttl) => {
                    let lines: Vec<Line> = wanted.iter().map(|(number, quantity)| Line { sku: sku(*number), quantity: *quantity }).collect();
                    let done = Inventory::reserve(id.to_string(), lines, now + ttl).is_ok();
                    let already = holds.get(&id).is_some_and(|hold| hold.0 == State::Held || hold.0.is_claimed());
                    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
                    for (number, quantity) in wanted.iter().filter(|line| line.1 > 0) {
                        *sums.entry(sku(*number)).or_default() += i64::from(*quantity);
                    }
                    let fits = sums.iter().all(|(sku, quantity)| available(&on_hand, &holds, sku) >= *quantity);
                    prop_assert_eq!(done, already || fits);
                    if done && !already {
                        holds.insert(id, (State::Held, sums, now + ttl));
                    }
                }
                Step::Extend(id, ttl) => {
                    let hold = holds.get_mut(&id).filter(|hold| hold.0 == State::Held);
                    prop_assert_eq!(Inventory::extend(id.to_string(), now + ttl), hold.is_some());
                    if let Some(hold) = hold {
                        hold.2 = now + ttl;
                    }
                }
                Step::Release(id) => {
                    Inventory::release(id.to_string());
                    if let Some(hold) = holds.get_mut(&id).filter(|hold| hold.0 == State::Held) {
                        hold.0 = State::Free;
                    }
                }
                Step::Claim(id) => {
                    let claimed = Inventory::claim(id.to_string());
                    prop_assert_eq!(claimed, holds.get(&id).is_some_and(|hold| hold.0 == State::Held || hold.0.is_claimed()));
                    if let Some(hold) = holds.get_mut(&id).filter(|hold| hold.0 == State::Held) {
                        hold.0 = if form == 1 { State::Sold } else { State::Committed };
                        for (sku, quantity) in hold.1.iter().filter(|_| form == 1) {
                            *on_hand.get_mut(sku).unwrap() -= quantity;
                        }
                    }
                }
                Step::Ship(id) => {
                    prop_assert_eq!(Inventory::ship(id.to_string()), holds.get(&id).is_some_and(|hold| hold.0.is_claimed()));
                    if let Some(hold) = holds.get_mut(&id).filter(|hold| hold.0 == State::Committed) {
                        hold.0 = State::Sent;
                        for (sku, quantity) in &hold.1 {
                            *on_hand.get_mut(sku).unwrap() -= quantity;
                        }
                    }
                }
                Step::Keep(id) => {
                    prop_assert_eq!(Inventory::keep(id.to_string()), form == 2);
                    if let Some(hold) = holds.get_mut(&id).filter(|hold| form == 2 && hold.0 == State::Sold) {
                        hold.0 = State::Committed;
                        for (sku, quantity) in &hold.1 {
                            *on_hand.get_mut(sku).unwrap() += quantity;
                        }
                    }
                }
                Step::Restock(id) => {
                    let back = Inventory::restock(id.to_string());
                    prop_assert_eq!(back, holds.get(&id).is_some_and(|hold| hold.0.is_claimed() || hold.0 == State::Returned));
                    if let Some(hold) = holds.get_mut(&id).filter(|hold| hold.0.is_claimed()) {
                        for (sku, quantity) in hold.1.iter().filter(|_| hold.0 != State::Committed) {
                            *on_hand.get_mut(sku).unwrap() += quantity;
                        }
                        hold.0 = State::Returned;
                    }
                }
                Step::Pass(ms) => {
                    testing::advance_ms(ms);
                    run_jobs();
                    for hold in holds.values_mut().filter(|hold| hold.0 == State::Held && hold.2 <= now + ms) {
                        hold.0 = State::Free;
                    }
                }
                Step::Count(number, quantity) => {
                    let sku = sku(number);
                    let fits = quantity >= on_hand[&sku] - available(&on_hand, &holds, &sku);
                    prop_assert_eq!(stock::set_on_hand(&sku, quantity).is_ok(), fits);
                    if fits {
                        on_hand.insert(sku, quantity);
                    }
                }
                Step::Sell(number, quantity) => {
                    let sku = sku(number);
                    prop_assert!(stock::set_available(&sku, quantity).is_ok());
                    *on_hand.get_mut(&sku).unwrap() += quantity - available(&on_hand, &holds, &sku);
                }
                Step::Form(to) => {
                    form = to;
                    testing::set_form(to);
                    prop_assert_eq!(stock::migrate(""), None);
                    for hold in holds.values_mut().filter(|_| to == 1) {
                        if hold.0 == State::Committed {
                            for (sku, quantity) in &hold.1 {
                                *on_hand.get_mut(sku).unwrap() -= quantity;
                            }
                        }
                        if matches!(hold.0, State::Committed | State::Sent) {
                            hold.0 = State::Sold;
                        }
                    }
                }
            }
            for sku in on_hand.keys() {
                let count = stock::count(sku);
                let (held, committed) = (of(&holds, State::Held, sku), of(&holds, State::Committed, sku));
                prop_assert!(count.available >= 0);
                prop_assert_eq!((count.on_hand, count.reserved, count.committed), (on_hand[sku], held, committed));
                prop_assert_eq!(count.on_hand, count.reserved + count.committed + count.available);
                prop_assert_eq!(free(sku), count.available);
                let all: i64 = on_hand.keys().map(|sku| of(&holds, State::Held, sku)).sum();
                prop_assert_eq!(stock::uncounted(sku), (all, held));
            }
            prop_assert_eq!(stock::verify().differences, vec![]);
        }
        testing::advance_ms(1_000);
        run_jobs();
        for sku in on_hand.keys() {
            prop_assert_eq!(stock::count(sku).reserved, 0, "a hold outlived its expiry");
        }
    }
}

#[test]
fn a_hold_is_extended_up_to_its_absolute_end() {
    stock::set_on_hand("A", 1).unwrap();
    let began = souk_sdk::clock::now_ms();
    let minutes = |count: u64| count * 60_000;
    Inventory::reserve("h".into(), lines(&[("A", 1)]), began + minutes(40)).unwrap();
    for _ in 0..20 {
        testing::advance_ms(minutes(15));
        run_jobs();
        Inventory::extend("h".into(), souk_sdk::clock::now_ms() + minutes(40));
        assert_eq!(free("A") == 1, souk_sdk::clock::now_ms() >= began + minutes(120));
    }
    assert!(!Inventory::extend("h".into(), u64::MAX));
}

#[test]
fn what_is_held_by_who_counts_nothing_is_bounded_and_what_orders_count_is_not() {
    testing::set_config(serde_json::json!({ "uncounted-units-max": 30, "uncounted-units-per-sku-min": 4 }));
    for sku in ["A", "B", "C"] {
        stock::set_on_hand(sku, 40).unwrap();
    }
    stock::set_on_hand("LAST", 3).unwrap();
    let hold = |id: &str, wanted: &[(&str, u32)]| {
        let shortages = Inventory::reserve(id.into(), lines(wanted), u64::MAX).map_err(|short| short.into_iter().map(|short| (short.sku, short.available)).collect::<Vec<_>>());
        shortages.err().unwrap_or_default()
    };
    assert_eq!(hold("half", &[("A", 21), ("B", 1)]), [("A".into(), 20)], "half of a sku");
    assert_eq!((free("A"), free("B"), stock::uncounted("B")), (40, 40, (0, 0)), "and nothing is held then");
    assert_eq!(hold("last", &[("LAST", 3)]), [], "the last pieces are held like any others");
    assert_eq!(hold("a", &[("A", 20)]), []);
    assert_eq!(hold("b", &[("B", 8)]), [("B".into(), 7)], "so many in all");
    <Inventory as souk_sdk::commerce::counted_holds::Guest>::reserve("order".into(), lines(&[("B", 40), ("C", 40)]), u64::MAX).expect("orders count what they hold");
    Inventory::claim("a".into());
    assert_eq!(stock::uncounted("A"), (3, 0), "what is sold is not held");
    assert_eq!(hold("again", &[("A", 10)]), [], "half of the twenty that are left");
    Inventory::release("again".into());
    Inventory::release("again".into());
    testing::advance_ms(u64::from(crate::Settings::load().hold_minutes_max) * 60_000);
    run_jobs();
    assert_eq!((free("B"), free("LAST"), stock::uncounted("LAST")), (40, 3, (0, 0)), "no hold is for ever, whatever expiry it was given");
}

#[test]
fn a_count_of_the_shelf_oversells_nothing_that_is_paid_and_not_sent() {
    testing::set_form(2);
    set("sku=A on-hand=10 new=true").unwrap();
    Inventory::reserve("h".into(), lines(&[("A", 4)]), u64::MAX).unwrap();
    Inventory::claim("h".into());
    // All ten lie there still.
    assert!(set("sku=A on-hand=10").unwrap().contains(r#""changes": "none""#));
    assert_eq!(free("A"), 6);
    assert!(set("sku=A on-hand=3").unwrap_err().contains("4 are held"));
    let looked = set("sku=A available=0 dry-run=true").unwrap();
    assert!(looked.contains("on-hand 10 → 4, available 6 → 0") && looked.contains("nothing is changed") && free("A") == 6, "{looked}");
    assert!(set("sku=A available=0").unwrap().contains("available 6 → 0"));
    let count = stock::count("A");
    assert_eq!((count.on_hand, count.committed, count.available), (4, 4, 0));
    Inventory::ship("h".into());
    assert_eq!(stock::count("A").on_hand, 0);
}

#[test]
fn a_shortage_names_what_is_left_and_takes_nothing() {
    stock::set_on_hand("A", 5).unwrap();
    stock::set_on_hand("B", 1).unwrap();
    let shortages = Inventory::reserve("h".into(), lines(&[("A", 5), ("B", 1), ("B", 1), ("no", 1)]), 1).unwrap_err();
    let told: Vec<(&str, u32, i64)> = shortages.iter().map(|it| (it.sku.as_str(), it.wanted, it.available)).collect();
    assert_eq!(told, [("B", 2, 1), ("no", 1, 0)]);
    assert_eq!((free("A"), free("B")), (5, 1));
}

#[test]
fn selling_out_and_coming_back_drop_the_pages_that_say_so() {
    stock::set_on_hand("A", 2).unwrap();
    Inventory::reserve("h".into(), lines(&[("A", 1)]), u64::MAX).unwrap();
    let before = testing::invalidated_tags().len();
    Inventory::reserve("i".into(), lines(&[("A", 1)]), u64::MAX).unwrap();
    assert_eq!((before, testing::invalidated_tags().into_iter().last()), (1, Some("stock:A".into())));
}

#[test]
fn stock_may_be_negative_uncounted_or_sold_beyond() {
    use souk_sdk::commerce::stock_counts::{Count, Guest as _, Outcome, Policy};
    let set = |sku: &str, quantity: Option<i64>, policy: Option<Policy>| Inventory::set(vec![Count { sku: sku.into(), quantity, policy }], false).remove(0);
    assert_eq!((set("A", Some(-2), None), free("A")), (Outcome::Changed, -2));
    assert!(Inventory::reserve("a".into(), lines(&[("A", 1)]), u64::MAX).is_err());
    set("B", Some(1), Some(Policy::ContinueSelling));
    set("C", None, Some(Policy::Untracked));
    Inventory::reserve("b".into(), lines(&[("B", 3), ("C", 40)]), u64::MAX).unwrap();
    assert!(free("B") >= 900 && free("C") >= 900);
    assert!(matches!(set("B", Some(1), Some(Policy::Deny)), Outcome::Refused(_)), "three are held");
    assert_eq!(set("B", Some(1), None), Outcome::Unchanged);
    Inventory::release("b".into());
    set("B", Some(1), Some(Policy::Deny));
    assert_eq!(free("B"), 1);
    assert_eq!(stock::verify().differences, vec![]);
}

#[test]
fn a_sku_that_nothing_was_counted_of_is_refused_with_what_was_meant() {
    assert!(set("sku=TEE-BLACK available=5 new=true").unwrap().contains("whether a product has this sku is not checked"));
    assert!(!set("sku=TEE-BLACK available=6").unwrap().contains("note"));
    let refused = set("sku=tee-blak available=6").unwrap_err();
    assert!(refused.contains("did you mean `TEE-BLACK`") && refused.contains("new=true"), "{refused}");
    assert!(!set("sku=KETTLE available=6 dry-run=true").unwrap_err().contains("did you mean"));
    assert!(set("sku=KETTLE").unwrap_err().contains("`KETTLE`"), "looked at, too");
    // What was counted as none is known.
    assert!(set("sku=KETTLE available=0 new=true").is_ok());
    assert!(set("sku=KETTLE available=3").is_ok());
}
