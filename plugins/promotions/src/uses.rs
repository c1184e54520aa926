//! Uses of limited discounts: claimed with an order, given back with its
//! cancellation. Counters only, so that parallel checkouts neither conflict nor
//! go over a limit.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use souk_sdk::extend::discount::UsageLimit;
use souk_sdk::storage::{self, Collection, CollectionError, Counter, Error, Index, Range};
use souk_sdk::{clock, crypto, entry};

/// By discount's id. Written when a limit is first seen or has changed, at the
/// first use and when the last one is taken; not at any other pricing.
const LIMITS: Collection<Limit> = Collection::new(
    "limits",
    &[Index::many("unused", |limit| if limit.seen_ms == 0 || limit.used { Vec::new() } else { vec![storage::ordered(limit.seen_ms as i64)] })],
);
/// Minus how many limits a provider has shown on a day.
const LEARNED: Counter = Counter::new("learned");
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// A provider that makes up a discount for each cart fills no disk.
const LEARNED_A_DAY_MAX: i64 = 100_000;
/// One whose limits go with the cart would have each pricing write, and conflict with all others.
const CHANGES_MAX: u32 = 10;
const CHANGES_MS: u64 = 10 * 60 * 1_000;
/// After so long what was never used is forgotten: who is offered it again, learns it again.
const UNUSED_MS: u64 = 2 * DAY_MS;
const FORGOTTEN_AT_ONCE: u32 = 200;
const CLAIMS: Collection<Claim> = Collection::new("claims", &[]);
/// Minus the number of uses, so that a limit is a floor.
const USES: Counter = Counter::new("uses");

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Limit {
    total: Option<u32>,
    per_customer: Option<u32>,
    #[serde(default)]
    spent: bool,
    /// Whether `spent` was compared with the uses so far: what was written before that was kept was not.
    #[serde(default)]
    compared: bool,
    /// When it was first seen; 0 where that was before it was kept.
    #[serde(default)]
    seen_ms: u64,
    /// Whether any use was ever taken.
    #[serde(default)]
    used: bool,
    /// How often it changed since then.
    #[serde(default)]
    changes: u32,
    #[serde(default)]
    changes_since_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    /// Keys of the counters a use was taken from.
    taken: Vec<String>,
    released: bool,
}

/// What can be said of a discount before it is claimed.
#[derive(Debug, PartialEq)]
pub enum Left {
    Some,
    None,
    NoneForCustomer,
    /// Its provider shows too many limits, or too many different ones of it.
    TooManyLimits,
}

/// A limited discount, as `souk list uses` shows it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row {
    discount: String,
    used: i64,
    limit: Option<u32>,
    per_customer: Option<u32>,
}

/// Those with a limit: of others nothing is counted.
/// `None` where there is no such discount to go on from.
pub fn list(after: Option<&str>, limit: u32) -> Result<Option<Vec<Row>>> {
    if let Some(after) = after
        && LIMITS.get(after)?.is_none()
    {
        return Ok(None);
    }
    let page = LIMITS.scan(&storage::after(after), limit.clamp(1, 1_000), false)?;
    let row = |(discount, limit): (String, Limit)| {
        let used = -USES.peek(&discount)?;
        Ok(Row { discount, used, limit: limit.total, per_customer: limit.per_customer })
    };
    page.into_iter().map(row).collect::<Result<_>>().map(Some)
}

type Result<T> = std::result::Result<T, CollectionError>;

fn customer_key(id: &str, customer: &str) -> String {
    let digest: String = crypto::digest(entry::mailbox(customer).as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{id}/{digest}")
}

/// Keeps the limits that were proposed for the time they are claimed, and says
/// which discounts have uses left. The counter of all customers is read only
/// when a limit is new or has changed: every sale would make the answer stale.
pub fn learn(offers: &[(&str, Option<&UsageLimit>)], customer: Option<&str>) -> Result<Vec<Left>> {
    let ids: Vec<String> = offers.iter().map(|(id, _)| (*id).to_owned()).collect();
    let known = if ids.is_empty() { Vec::new() } else { LIMITS.get_many(&ids)? };
    offers.iter().zip(known).map(|((id, proposed), known)| current(id, *proposed, known)?.map_or(Ok(Left::TooManyLimits), |limit| left(id, &limit, customer))).collect()
}

/// The limit as it is proposed now, stored if it was another one; none where that is written too often.
fn current(id: &str, proposed: Option<&UsageLimit>, known: Option<Limit>) -> Result<Option<Limit>> {
    let (total, per_customer) = proposed.map_or((None, None), |limit| (limit.total, limit.per_customer));
    let is_new = known.is_none();
    let known = known.unwrap_or_else(|| Limit { compared: true, ..Limit::default() });
    if known.compared && (known.total, known.per_customer) == (total, per_customer) {
        return Ok(Some(known));
    }
    let spent = match total {
        Some(most) => -USES.get(id)? >= i64::from(most),
        None => false,
    };
    let mut limit = Limit { total, per_customer, spent, compared: true, ..known };
    match write(id, &mut limit, is_new) {
        Ok(is_written) => Ok(is_written.then_some(limit)),
        // Whoever may only look claims nothing in this unit either.
        Err(CollectionError::Storage(Error::ReadOnly)) => Ok(Some(limit)),
        Err(error) => Err(error),
    }
}

/// False where there are too many of its provider, or it changes too often.
fn write(id: &str, limit: &mut Limit, is_new: bool) -> Result<bool> {
    let now_ms = clock::now_ms();
    if is_new {
        let provider = id.split('/').next().unwrap_or(id);
        match LEARNED.add_not_below(&format!("{provider}/{}", now_ms / DAY_MS), -1, -LEARNED_A_DAY_MAX) {
            Ok(_) => limit.seen_ms = now_ms,
            Err(Error::BelowFloor(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    } else if now_ms >= limit.changes_since_ms.saturating_add(CHANGES_MS) {
        (limit.changes, limit.changes_since_ms) = (1, now_ms);
    } else if limit.changes >= CHANGES_MAX {
        return Ok(false);
    } else {
        limit.changes += 1;
    }
    LIMITS.put(id, limit)?;
    Ok(true)
}

/// True where there is more to forget.
pub fn forget_unused() -> Result<bool> {
    let until = clock::now_ms().saturating_sub(UNUSED_MS);
    let old = LIMITS.scan_index("unused", &Range { start: None, end: Some(storage::ordered(until as i64)) }, FORGOTTEN_AT_ONCE, false)?;
    for (_, id) in &old {
        LIMITS.delete(id)?;
    }
    Ok(old.len() == FORGOTTEN_AT_ONCE as usize)
}

fn left(id: &str, limit: &Limit, customer: Option<&str>) -> Result<Left> {
    if limit.spent {
        return Ok(Left::None);
    }
    Ok(match (customer, limit.per_customer) {
        (Some(customer), Some(most)) if -USES.get(&customer_key(id, customer))? >= i64::from(most) => Left::NoneForCustomer,
        _ => Left::Some,
    })
}

/// All or none; errs with the ids that have no use left.
pub fn claim(claim_id: &str, applied: &[String], customer: Option<&str>) -> Result<std::result::Result<(), Vec<String>>> {
    if CLAIMS.get(claim_id)?.is_some_and(|claim| !claim.released) {
        return Ok(Ok(()));
    }
    let ids: Vec<String> = applied.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
    let limits = if ids.is_empty() { Vec::new() } else { LIMITS.get_many(&ids)? };
    let (mut taken, mut gone) = (Vec::new(), Vec::new());
    for (id, limit) in ids.iter().zip(limits) {
        let Some(limit) = limit else { continue };
        if !take_both(id, &limit, customer, &mut taken)? {
            gone.push(id.clone());
        }
    }
    if gone.is_empty() {
        CLAIMS.put(claim_id, &Claim { taken, released: false })?;
        return Ok(Ok(()));
    }
    for key in taken {
        USES.add(&key, 1)?;
    }
    Ok(Err(gone))
}

fn take_both(id: &str, limit: &Limit, customer: Option<&str>, taken: &mut Vec<String>) -> Result<bool> {
    let mut limit = limit.clone();
    if let Some(most) = limit.per_customer {
        // Who it is cannot be counted: then it is not given.
        let Some(customer) = customer.filter(|customer| !entry::mailbox(customer).is_empty()) else { return Ok(false) };
        let key = customer_key(id, customer);
        if take(&key, most)?.is_none() {
            return Ok(false);
        }
        taken.push(key);
    }
    if let Some(most) = limit.total {
        let left = take(id, most)?;
        if left.is_none_or(|left| left <= 0) && !limit.spent {
            limit.spent = true;
            LIMITS.put(id, &limit)?;
        }
        if left.is_none() {
            return Ok(false);
        }
        taken.push(id.to_owned());
    }
    if !limit.used {
        // From now on it is not forgotten: who pays late claims it again.
        limit.used = true;
        LIMITS.put(id, &limit)?;
    }
    Ok(true)
}

/// What is left after taking one; none when there was nothing left.
fn take(key: &str, most: u32) -> Result<Option<i64>> {
    match USES.add_not_below(key, -1, -i64::from(most)) {
        Ok(value) => Ok(Some(value + i64::from(most))),
        Err(Error::BelowFloor(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub fn release(claim_id: &str) -> Result<()> {
    let Some(mut claim) = CLAIMS.get(claim_id)?.filter(|claim| !claim.released) else { return Ok(()) };
    for key in &claim.taken {
        USES.add(key, 1)?;
        // The limit may have been lowered since: then there still is no use left.
        if let Some(limit) = LIMITS.get(key)?.filter(|limit| limit.spent)
            && limit.total.is_none_or(|most| USES.get(key).is_ok_and(|uses| -uses < i64::from(most)))
        {
            LIMITS.put(key, &Limit { spent: false, ..limit })?;
        }
    }
    claim.released = true;
    CLAIMS.put(claim_id, &claim)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use souk_sdk::testing;

    use super::*;

    fn limit(total: Option<u32>, per_customer: Option<u32>) -> UsageLimit {
        UsageLimit { total, per_customer }
    }

    fn claimed(id: &str, applied: &[&str], customer: Option<&str>) -> std::result::Result<(), Vec<String>> {
        let applied: Vec<String> = applied.iter().map(|&id| id.to_owned()).collect();
        claim(id, &applied, customer).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Claim { order: u8, customer: u8, both: bool },
        Release { order: u8 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let claim = (0_u8..12, 0_u8..3, any::<bool>()).prop_map(|(order, customer, both)| Step::Claim { order, customer, both });
        let release = (0_u8..12).prop_map(|order| Step::Release { order });
        prop::collection::vec(prop_oneof![3 => claim, 1 => release], 0..60)
    }

    proptest! {
        #[test]
        fn uses_never_exceed_a_limit_and_counters_match_the_claims(steps in steps(), total in 0_u32..5, per_customer in 0_u32..3) {
            testing::reset();
            learn(&[("a", Some(&limit(Some(total), Some(per_customer)))), ("b", Some(&limit(Some(2), None)))], None).unwrap();
            let mut held: BTreeMap<u8, (u8, bool)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Claim { order, customer, both } => {
                        let uses = |of: &dyn Fn(&(u8, bool)) -> bool| held.values().filter(|held| of(held)).count() as u32;
                        let fits = uses(&|_| true) < total && uses(&|held| held.0 == customer) < per_customer && (!both || uses(&|held| held.1) < 2);
                        let ids: &[&str] = if both { &["a", "b"] } else { &["a"] };
                        let answer = claimed(&order.to_string(), ids, Some(&format!("c{customer}@shop")));
                        prop_assert_eq!(answer.is_ok(), held.contains_key(&order) || fits);
                        if answer.is_ok() {
                            held.entry(order).or_insert((customer, both));
                        }
                    }
                    Step::Release { order } => {
                        release(&order.to_string()).unwrap();
                        held.remove(&order);
                    }
                }
                prop_assert_eq!(-USES.get("a").unwrap(), held.len() as i64);
                prop_assert_eq!(-USES.get("b").unwrap(), held.values().filter(|held| held.1).count() as i64);
            }
        }
    }

    #[test]
    fn the_last_use_is_seen_by_the_next_shopper_until_it_is_given_back() {
        let once = limit(Some(1), Some(1));
        let look = |customer| learn(&[("once", Some(&once))], customer).unwrap().remove(0);
        assert_eq!(look(None), Left::Some);
        assert_eq!(claimed("1", &["once"], Some("A@shop")), Ok(()));
        assert_eq!(look(Some("b@shop")), Left::None);
        assert_eq!(claimed("2", &["once"], Some("b@shop")), Err(vec!["once".into()]));
        release("1").unwrap();
        release("1").unwrap();
        assert_eq!(look(Some("b@shop")), Left::Some);
        assert_eq!(claimed("2", &["once"], Some("b@shop")), Ok(()));
        assert_eq!(claimed("3", &["once"], Some("c@shop")), Err(vec!["once".into()]));
    }

    #[test]
    fn a_customer_is_the_same_however_the_address_is_written_and_nobody_gets_none() {
        learn(&[("w", Some(&limit(None, Some(1))))], None).unwrap();
        assert_eq!(claimed("1", &["w"], Some("A@shop")), Ok(()));
        assert_eq!(learn(&[("w", Some(&limit(None, Some(1))))], Some(" a@SHOP ")).unwrap(), [Left::NoneForCustomer]);
        assert!(claimed("2", &["w"], Some(" a@SHOP ")).is_err());
        assert!(claimed("3", &["w"], None).is_err());
        for same in ["a+1@shop", "A+b+c@SHOP"] {
            assert!(claimed("4", &["w"], Some(same)).is_err(), "{same}");
        }
        assert_eq!(claimed("4", &["w"], Some("a.b@shop")), Ok(()));
        assert_eq!(claimed("5", &["w"], Some("a.b@gmail.com")), Ok(()));
        assert!(claimed("6", &["w"], Some("AB+x@googlemail.com")).is_err());
    }

    #[test]
    fn a_raised_limit_counts_from_the_uses_so_far() {
        learn(&[("x", Some(&limit(Some(1), None)))], None).unwrap();
        assert_eq!(claimed("1", &["x"], None), Ok(()));
        learn(&[("x", Some(&limit(Some(2), None)))], None).unwrap();
        assert_eq!(claimed("2", &["x"], None), Ok(()));
        assert!(claimed("3", &["x"], None).is_err());
    }

    /// Also where the mark was lost with the unit that met the floor.
    #[test]
    fn a_used_up_discount_whose_limit_changes_is_not_offered() {
        let look = |total| learn(&[("x", Some(&limit(Some(total), None)))], None).unwrap().remove(0);
        look(3);
        for order in ["1", "2", "3"] {
            assert_eq!(claimed(order, &["x"], None), Ok(()));
        }
        for (total, left) in [(3, Left::None), (2, Left::None), (4, Left::Some), (1, Left::None), (3, Left::None), (0, Left::None), (9, Left::Some)] {
            assert_eq!(look(total), left, "{total}");
            let could = claimed("next", &["x"], None).is_ok();
            assert_eq!(could, left == Left::Some, "{total}");
            release("next").unwrap();
        }
        LIMITS.put("x", &Limit { total: Some(3), ..Limit::default() }).unwrap();
        assert_eq!(look(3), Left::None, "as it was stored before uses were compared");
        release("1").unwrap();
        assert_eq!(look(3), Left::Some);
        assert_eq!(testing::read_only(|| learn(&[("x", Some(&limit(Some(2), None)))], None)).unwrap(), [Left::None]);
    }

    #[derive(Debug, Clone)]
    enum Change {
        Limit { total: Option<u32>, per_customer: Option<u32> },
        Claim { order: u8, customer: u8, tag: u8 },
        Release { order: u8 },
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            2 => (prop::option::of(0_u32..4), prop::option::of(0_u32..3)).prop_map(|(total, per_customer)| Change::Limit { total, per_customer }),
            5 => (0_u8..12, 0_u8..3, 0_u8..3).prop_map(|(order, customer, tag)| Change::Claim { order, customer, tag }),
            2 => (0_u8..12).prop_map(|order| Change::Release { order }),
        ];
        prop::collection::vec(change, 0..60)
    }

    proptest! {
        /// Whatever became of the limit meanwhile, and however a customer writes their address.
        #[test]
        fn what_is_offered_can_be_claimed_and_nothing_else(changes in changes()) {
            testing::reset();
            let mut now = limit(None, None);
            for change in changes {
                match change {
                    Change::Limit { total, per_customer } => {
                        // As often as it may.
                        testing::advance_ms(CHANGES_MS);
                        now = limit(total, per_customer);
                    }
                    Change::Release { order } => release(&order.to_string()).unwrap(),
                    Change::Claim { order, customer, tag } => {
                        let key = order.to_string();
                        if CLAIMS.get(&key).unwrap().is_some_and(|claim| !claim.released) {
                            continue;
                        }
                        let customer = ["c.@gmail.com", "C@googlemail.com", "c+x@gmail.com"][usize::from(tag)].replacen(['c', 'C'], &format!("c{customer}"), 1);
                        let offered = learn(&[("a", Some(&now))], Some(&customer)).unwrap().remove(0) == Left::Some;
                        prop_assert_eq!(claimed(&key, &["a"], Some(&customer)).is_ok(), offered);
                    }
                }
            }
        }
    }

    fn look(id: &str, total: u32) -> Left {
        learn(&[(id, Some(&limit(Some(total), None)))], None).unwrap().remove(0)
    }

    fn stored() -> usize {
        LIMITS.scan(&storage::after(None), 1_000, false).unwrap().len()
    }

    #[test]
    fn a_limit_that_changes_with_each_cart_is_not_written_for_each() {
        let looks = |from: u32| (from..from + 50).map(|total| look("loyal/vip", total)).filter(|left| *left == Left::Some).count();
        assert_eq!(looks(1), 1 + CHANGES_MAX as usize, "the first, and its changes");
        assert_eq!(look("loyal/vip", 1 + CHANGES_MAX), Left::Some, "as it is stored");
        assert_eq!(look("loyal/other", 7), Left::Some, "others of its provider stay");
        testing::advance_ms(CHANGES_MS);
        assert_eq!(looks(100), CHANGES_MAX as usize);
    }

    #[test]
    fn what_was_never_used_is_forgotten_and_learned_again() {
        for id in 0..FORGOTTEN_AT_ONCE + 50 {
            look(&format!("made-up/{id}"), 1);
        }
        assert_eq!(claimed("1", &["made-up/0", "made-up/1"], None), Ok(()));
        release("1").unwrap();
        testing::advance_ms(UNUSED_MS - 1);
        look("made-up/late", 1);
        assert_eq!(forget_unused(), Ok(false));
        assert_eq!(stored(), FORGOTTEN_AT_ONCE as usize + 51);
        testing::advance_ms(2);
        assert_eq!((forget_unused(), forget_unused()), (Ok(true), Ok(false)), "some at a time");
        assert_eq!(stored(), 3, "what was ever used, for who pays late, and what is new");
        assert_eq!(claimed("1", &["made-up/0", "made-up/1"], None), Ok(()));
        assert_eq!(look("made-up/0", 1), Left::None);
        assert_eq!((look("made-up/7", 1), claimed("2", &["made-up/7"], None)), (Left::Some, Ok(())));
        assert_eq!(look("made-up/7", 1), Left::None);
    }

    #[test]
    fn a_provider_shows_so_many_limits_a_day() {
        LEARNED.add(&format!("made-up/{}", clock::now_ms() / DAY_MS), 2 - LEARNED_A_DAY_MAX).unwrap();
        assert_eq!([1, 2, 3].map(|id| look(&format!("made-up/{id}"), 1)), [Left::Some, Left::Some, Left::TooManyLimits]);
        assert_eq!((look("made-up/1", 1), look("other/1", 1)), (Left::Some, Left::Some));
        assert_eq!(stored(), 3);
        testing::advance_ms(DAY_MS);
        assert_eq!(look("made-up/3", 1), Left::Some);
    }

    #[test]
    fn limits_are_looked_at_without_writing() {
        assert_eq!(testing::read_only(|| learn(&[("x", Some(&limit(Some(1), None)))], None)).unwrap(), [Left::Some]);
    }
}
