//! From what providers propose to what comes off which line. Pure. Proposals
//! are hostile input: each is checked against the cart before it counts.

use std::collections::{BTreeMap, BTreeSet};

use souk_sdk::commerce::promotions::{Allocation, Applied, Line, Outcome, RejectedCode};
use souk_sdk::entry;
use souk_sdk::extend::discount::{Answer, Effect, Portion, Proposal, Stacking, UsageLimit};
use souk_sdk::money::{self, Money, MoneyError};

use crate::text;

const MILLION: i64 = 1_000_000;
/// Of each provider: what is over is left out, and takes nothing from the others.
const PROPOSALS_PER_PROVIDER_MAX: usize = 100;
const ID_BYTES_MAX: usize = 100;
const TITLE_BYTES_MAX: usize = 300;
const REASON_BYTES_MAX: usize = 500;

/// A proposal that fits the cart.
#[derive(Debug, Clone)]
pub struct Offer {
    /// `provider/id`.
    pub id: String,
    pub title: String,
    pub code: Option<String>,
    pub limit: Option<UsageLimit>,
    effect: Fitted,
    exclusive: bool,
}

/// Portions by place of the line.
#[derive(Debug, Clone)]
enum Fitted {
    Percent(i64, Vec<(usize, i64)>),
    Amount(i64, Vec<(usize, i64)>),
    Shipping(i64),
}

/// Codes are compared as providers get them.
pub fn code_key(code: &str) -> String {
    entry::code(code)
}

pub struct Sorted {
    pub offers: Vec<Offer>,
    /// Reasons of providers, by code.
    pub reasons: BTreeMap<String, String>,
    /// For the operator: what was left out and why.
    pub faults: Vec<String>,
    /// How many proposals and rejections of a provider were not looked at.
    pub cut: BTreeMap<String, usize>,
}

pub fn sort(answers: Vec<Answer>, lines: &[Line], currency: &str, codes: &BTreeSet<String>) -> Sorted {
    let mut sorted = Sorted { offers: Vec::new(), reasons: BTreeMap::new(), faults: Vec::new(), cut: BTreeMap::new() };
    let mut ids = BTreeSet::new();
    let mut of_provider: BTreeMap<String, usize> = BTreeMap::new();
    for answer in answers {
        let provider = match &answer {
            Answer::Propose(proposal) => &proposal.provider,
            Answer::Reject(rejection) => &rejection.provider,
        };
        let seen = match of_provider.get_mut(provider) {
            Some(seen) => seen,
            None => of_provider.entry(provider.clone()).or_default(),
        };
        *seen += 1;
        if *seen > PROPOSALS_PER_PROVIDER_MAX {
            continue;
        }
        match answer {
            Answer::Propose(proposal) => {
                let id = format!("{}/{}", proposal.provider, proposal.id);
                match fit(proposal, id, lines, currency, codes) {
                    Ok(offer) if ids.insert(offer.id.clone()) => sorted.offers.push(offer),
                    Ok(offer) => {
                        sorted.faults.push(format!("{}: proposed twice", offer.id));
                        // What is had without a code is not lost by entering one.
                        let for_a_code = sorted.offers.iter().position(|known| known.id == offer.id && known.code.is_some());
                        if let Some(place) = for_a_code.filter(|_| offer.code.is_none()) {
                            sorted.offers.remove(place);
                            sorted.offers.push(offer);
                        }
                    }
                    Err(fault) => sorted.faults.push(fault),
                }
            }
            Answer::Reject(rejection) => {
                let code = code_key(&rejection.code);
                if codes.contains(&code) && (1..=REASON_BYTES_MAX).contains(&rejection.reason.len()) {
                    sorted.reasons.entry(code).or_insert(rejection.reason);
                }
            }
        }
    }
    let over = of_provider.into_iter().filter(|(_, seen)| *seen > PROPOSALS_PER_PROVIDER_MAX);
    sorted.cut = over.map(|(provider, seen)| (provider, seen - PROPOSALS_PER_PROVIDER_MAX)).collect();
    sorted
}

fn fit(proposal: Proposal, id: String, lines: &[Line], currency: &str, codes: &BTreeSet<String>) -> Result<Offer, String> {
    let fault = |why: &str| Err(format!("{}: {why}", id.chars().take(ID_BYTES_MAX).collect::<String>()));
    if proposal.id.is_empty() || id.len() > ID_BYTES_MAX || id.contains(char::is_control) {
        return fault("id is empty, over 100 bytes or not printable");
    }
    if proposal.title.is_empty() || proposal.title.len() > TITLE_BYTES_MAX {
        return fault("title is empty or over 300 bytes");
    }
    let code = proposal.code.as_deref().map(code_key);
    if code.as_ref().is_some_and(|code| !codes.contains(code)) {
        return fault("for a code that was not entered");
    }
    let percent = |ppm: u32| i64::from(ppm);
    let effect = match proposal.effect {
        Effect::Percent((ppm, _)) | Effect::ShippingPercent(ppm) if !(1..=MILLION).contains(&percent(ppm)) => {
            return fault("not more than 0 and at most 100 percent");
        }
        Effect::Percent((ppm, portions)) => places(&portions, lines).map(|places| Fitted::Percent(percent(ppm), places)),
        Effect::Amount((amount, _)) if amount.amount <= 0 || amount.currency != currency => {
            return fault("amount is not positive or of another currency");
        }
        Effect::Amount((amount, portions)) => places(&portions, lines).map(|places| Fitted::Amount(amount.amount, places)),
        Effect::ShippingPercent(ppm) => Some(Fitted::Shipping(percent(ppm))),
    };
    let Some(effect) = effect else { return fault("portions that are not in the cart, or more than there is") };
    let exclusive = proposal.stacking == Stacking::Exclusive;
    Ok(Offer { id, title: proposal.title, code, limit: proposal.limit, effect, exclusive })
}

fn places(portions: &[Portion], lines: &[Line]) -> Option<Vec<(usize, i64)>> {
    let mut seen = BTreeSet::new();
    let place = |portion: &Portion| {
        let place = lines.iter().position(|line| line.id == portion.line_id)?;
        (portion.quantity > 0 && portion.quantity <= lines[place].quantity && seen.insert(place))
            .then(|| (place, i64::from(portion.quantity)))
    };
    let mut places: Vec<(usize, i64)> = portions.iter().map(place).collect::<Option<_>>()?;
    // Of equal parts the first gets what is left over: not by the order of the lines, which the shopper chose.
    places.sort_by(|a, b| lines[a.0].id.cmp(&lines[b.0].id));
    Some(places).filter(|places| !places.is_empty())
}

/// What is still to be paid while discounts are taken off one after the other.
struct Left {
    lines: Vec<i64>,
    quantities: Vec<i64>,
    shipping: i64,
}

impl Left {
    /// Returns what comes off altogether.
    fn take(&mut self, effect: &Fitted) -> Result<i64, MoneyError> {
        match effect {
            Fitted::Percent(ppm, portions) => self.take_from(portions, |worth| money::mul_ratio(worth, *ppm, MILLION)),
            Fitted::Amount(amount, portions) => self.take_from(portions, |worth| Ok(worth.min(*amount))),
            Fitted::Shipping(ppm) => {
                let off = money::mul_ratio(self.shipping, *ppm, MILLION)?;
                self.shipping -= off;
                Ok(off)
            }
        }
    }

    /// What comes off is computed once, from what all portions are worth together,
    /// and then split over them: however the same goods are split into lines, the
    /// same comes off.
    fn take_from(&mut self, portions: &[(usize, i64)], off: impl FnOnce(i64) -> Result<i64, MoneyError>) -> Result<i64, MoneyError> {
        let worth = |&(place, quantity): &(usize, i64)| money::mul_ratio(self.lines[place], quantity, self.quantities[place]);
        let worths = portions.iter().map(worth).collect::<Result<Vec<i64>, _>>()?;
        let taken = off(worths.iter().sum())?;
        if taken == 0 {
            return Ok(0);
        }
        // No part is larger than its worth, for the whole is not.
        let shares: Vec<u64> = worths.iter().map(|&worth| worth.unsigned_abs()).collect();
        for (&(place, _), off) in portions.iter().zip(money::allocate(taken, &shares)?) {
            self.lines[place] -= off;
        }
        Ok(taken)
    }

    fn sum(&self) -> i64 {
        self.lines.iter().sum::<i64>() + self.shipping
    }
}

/// Of so many offers that combine all subsets are tried. Of more: all of them, and then what is cheaper without one.
const SUBSETS_OF_MAX: usize = 6;

struct Tried {
    left: Left,
    /// Places of the offers, with what each takes off.
    applied: Vec<(usize, i64)>,
}

/// The cheapest of what may be had together: any offers that combine, or one
/// exclusive offer. Of what costs the same, what has the most offers.
fn cheapest(offers: &[Offer], attempt: impl Fn(&[usize]) -> Result<Tried, MoneyError>) -> Result<Tried, MoneyError> {
    let (alone, combining): (Vec<usize>, Vec<usize>) = (0..offers.len()).partition(|&place| offers[place].exclusive);
    let mut best = attempt(&combining)?;
    let mut consider = |places: &[usize]| -> Result<(), MoneyError> {
        let other = attempt(places)?;
        if other.left.sum() < best.left.sum() {
            best = other;
        }
        Ok(())
    };
    for place in alone {
        consider(&[place])?;
    }
    // What takes something off first can leave a later one less to take, and roundings differ.
    if combining.len() <= SUBSETS_OF_MAX {
        for chosen in (0..(1_u32 << combining.len()).saturating_sub(1)).rev() {
            let places = combining.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
            consider(&places.map(|(_, &place)| place).collect::<Vec<_>>())?;
        }
    } else {
        let automatic: Vec<usize> = combining.iter().copied().filter(|&place| offers[place].code.is_none()).collect();
        consider(&automatic)?;
        for left_out in &combining {
            consider(&combining.iter().copied().filter(|place| place != left_out).collect::<Vec<_>>())?;
        }
    }
    Ok(best)
}

pub fn combine(lines: &[Line], shipping: &Money, codes: &[String], sorted: Sorted, locale: &str) -> Result<Outcome, MoneyError> {
    let currency = &shipping.currency;
    let offers = &sorted.offers;
    // Checked here once, so that nothing below can overflow.
    let mut whole = Money::new(shipping.amount.max(0), currency);
    let mut costs = Vec::with_capacity(lines.len());
    for line in lines {
        let cost = line.unit_price.times(i64::from(line.quantity))?;
        let cost = Money { amount: cost.amount.max(0), ..cost };
        whole = whole.add(&cost)?;
        costs.push(cost.amount);
    }
    let attempt = |places: &[usize]| -> Result<Tried, MoneyError> {
        let quantities = lines.iter().map(|line| i64::from(line.quantity.max(1))).collect();
        let mut left = Left { lines: costs.clone(), quantities, shipping: shipping.amount.max(0) };
        let mut applied = Vec::new();
        for &place in places {
            applied.push((place, left.take(&offers[place].effect)?));
        }
        Ok(Tried { left, applied })
    };
    let best = cheapest(offers, attempt)?;

    let takes_off = best.applied.iter().filter(|(_, amount)| *amount > 0);
    let applied = takes_off.map(|&(place, amount)| Applied {
        id: offers[place].id.clone(),
        title: offers[place].title.clone(),
        code: offers[place].code.clone(),
        amount: Money::new(amount, currency),
    });
    let applied: Vec<Applied> = applied.collect();
    let off = lines.iter().zip(costs.iter().zip(&best.left.lines)).filter(|(_, (cost, left))| cost > left);
    let allocations = off.map(|(line, (cost, left))| Allocation { line_id: line.id.clone(), amount: Money::new(cost - left, currency) });
    let allocations: Vec<Allocation> = allocations.collect();

    let mut rejected = Vec::new();
    for code in codes {
        let key = code_key(code);
        let has_code = |offer: &Offer| offer.code.as_deref() == Some(key.as_str());
        // An offer that would take nothing off now (free shipping before there is any) is no rejection.
        let tried = best.applied.iter().any(|&(place, _)| has_code(&offers[place]));
        if tried || rejected.iter().any(|rejected: &RejectedCode| code_key(&rejected.code) == key) {
            continue;
        }
        let reason = if let Some(offer) = offers.iter().find(|offer| has_code(offer)) {
            let winners: Vec<&str> = applied.iter().map(|applied| applied.title.as_str()).collect();
            let is_alone = best.applied.iter().any(|&(place, _)| offers[place].exclusive);
            text::outdone(locale, offer.exclusive || is_alone, &winners)
        } else {
            // It may be among what was not looked at.
            let unknown = if sorted.cut.is_empty() { text::not_valid } else { text::not_looked_at };
            sorted.reasons.get(&key).cloned().unwrap_or_else(|| unknown(locale))
        };
        rejected.push(RejectedCode { code: code.clone(), reason });
    }
    let shipping = Money::new(shipping.amount.max(0) - best.left.shipping, currency);
    Ok(Outcome { applied, allocations, shipping, rejected })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use souk_sdk::extend::discount::Rejection;

    use super::*;

    fn line(id: usize, quantity: u32, unit: i64) -> Line {
        Line {
            id: id.to_string(),
            sku: format!("SKU-{id}"),
            product: "tea".into(),
            quantity,
            unit_price: Money::new(unit, "CNY"),
            categories: Vec::new(),
            tags: Vec::new(),
        }
    }

    fn proposal(id: &str, effect: Effect, stacking: Stacking) -> Proposal {
        Proposal { provider: "p".into(), id: id.into(), title: id.into(), code: None, effect, stacking, limit: None }
    }

    fn portion(id: usize, quantity: u32) -> Portion {
        Portion { line_id: id.to_string(), quantity }
    }

    fn run(lines: &[Line], shipping: i64, codes: &[&str], answers: Vec<Answer>) -> Outcome {
        let codes: Vec<String> = codes.iter().map(|&code| code.to_owned()).collect();
        let keys = codes.iter().map(|code| code_key(code)).collect();
        let sorted = sort(answers, lines, "CNY", &keys);
        combine(lines, &Money::new(shipping, "CNY"), &codes, sorted, "en").unwrap()
    }

    fn amounts(outcome: &Outcome) -> Vec<i64> {
        outcome.applied.iter().map(|applied| applied.amount.amount).collect()
    }

    fn off(outcome: &Outcome) -> i64 {
        outcome.allocations.iter().map(|allocation| allocation.amount.amount).sum::<i64>() + outcome.shipping.amount
    }

    fn any_effect() -> impl Strategy<Value = Effect> {
        let portions = || prop::collection::vec((0_usize..7, 0_u32..12).prop_map(|(id, quantity)| portion(id, quantity)), 0..6);
        let currency = prop::sample::select(vec!["CNY", "CNY", "CNY", "USD"]);
        prop_oneof![
            (0_u32..1_200_000, portions()).prop_map(|(ppm, portions)| Effect::Percent((ppm, portions))),
            (-10_i64..200_000, currency, portions()).prop_map(|(amount, currency, portions)| Effect::Amount((Money::new(amount, currency), portions))),
            (0_u32..1_200_000).prop_map(Effect::ShippingPercent),
            any::<u32>().prop_map(Effect::ShippingPercent),
        ]
    }

    fn any_answers() -> impl Strategy<Value = Vec<Answer>> {
        let code = prop::option::of(prop::sample::select(vec!["A", "b", "X"]));
        let one = (0_u32..12, any_effect(), any::<bool>(), code).prop_map(|(id, effect, exclusive, code)| {
            let stacking = if exclusive { Stacking::Exclusive } else { Stacking::Combines };
            Answer::Propose(Proposal { code: code.map(Into::into), ..proposal(&id.to_string(), effect, stacking) })
        });
        prop::collection::vec(one, 0..10)
    }

    #[test]
    fn many_proposals_of_one_provider_hide_none_of_another() {
        let of = |provider: &str, id: &str, code: Option<&str>| {
            let effect = Effect::Percent((10_000, vec![portion(0, 1)]));
            Answer::Propose(Proposal { provider: provider.into(), code: code.map(Into::into), ..proposal(id, effect, Stacking::Combines) })
        };
        let mut answers: Vec<Answer> = (0..300).map(|id| of("aaa", &id.to_string(), None)).collect();
        answers.push(of("aaa", "late", Some("LATE")));
        answers.push(of("tea-time", "TEA", Some("TEA")));
        let lines = [line(0, 1, 1_000_000)];
        let codes = ["TEA".to_owned(), "LATE".to_owned()];
        let sorted = sort(answers, &lines, "CNY", &codes.iter().cloned().collect());
        assert_eq!(sorted.cut, BTreeMap::from([("aaa".to_owned(), 201)]));
        let outcome = combine(&lines, &Money::zero("CNY"), &codes, sorted, "en").unwrap();
        assert_eq!(outcome.applied.iter().filter(|applied| applied.id.starts_with("aaa/")).count(), PROPOSALS_PER_PROVIDER_MAX);
        assert!(outcome.applied.iter().any(|applied| applied.code.as_deref() == Some("TEA")));
        let reasons: Vec<_> = outcome.rejected.iter().map(|rejected| (rejected.code.as_str(), rejected.reason.as_str())).collect();
        assert_eq!(reasons, [("LATE", text::not_looked_at("en").as_str())]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_proposed_parts_sum_exactly_and_nothing_falls_below_zero(
            goods in prop::collection::vec((1_u32..10, 0_i64..50_000), 0..6), shipping in 0_i64..5_000, answers in any_answers()
        ) {
            let lines: Vec<Line> = goods.iter().enumerate().map(|(id, &(quantity, unit))| line(id, quantity, unit)).collect();
            let outcome = run(&lines, shipping, &["a", "B"], answers.clone());
            prop_assert_eq!(amounts(&outcome).iter().sum::<i64>(), off(&outcome));
            prop_assert!((0..=shipping).contains(&outcome.shipping.amount));
            for allocation in &outcome.allocations {
                let line = lines.iter().find(|line| line.id == allocation.line_id).unwrap();
                prop_assert!(allocation.amount.amount > 0);
                prop_assert!(allocation.amount.amount <= line.unit_price.amount * i64::from(line.quantity));
            }
            let exclusive = |id: &str| answers.iter().any(|answer| matches!(answer, Answer::Propose(proposal)
                if format!("p/{}", proposal.id) == id && proposal.stacking == Stacking::Exclusive));
            let combines = |id: &str| answers.iter().any(|answer| matches!(answer, Answer::Propose(proposal)
                if format!("p/{}", proposal.id) == id && proposal.stacking == Stacking::Combines));
            prop_assert!(outcome.applied.iter().filter(|applied| exclusive(&applied.id) && !combines(&applied.id)).count() <= 1);
            prop_assert!(outcome.applied.iter().all(|applied| applied.code.as_deref() != Some("X")), "not entered");
            prop_assert_eq!(run(&lines, shipping, &["a", "B"], answers), outcome, "the same again");
        }

        #[test]
        fn of_exclusive_offers_the_buyer_gets_the_best(percents in prop::collection::vec(1_u32..=1_000_000, 1..6), unit in 1_000_000_i64..2_000_000) {
            let lines = [line(0, 1, unit)];
            let answers = |percents: &[u32]| percents.iter().enumerate().map(|(id, &ppm)| {
                Answer::Propose(proposal(&id.to_string(), Effect::Percent((ppm, vec![portion(0, 1)])), Stacking::Exclusive))
            }).collect::<Vec<_>>();
            let all = off(&run(&lines, 0, &[], answers(&percents)));
            let alone = percents.iter().map(|&ppm| off(&run(&lines, 0, &[], answers(&[ppm])))).max().unwrap();
            prop_assert_eq!(all, alone);
        }
    }

    /// Of all goods, as a coupon proposes it.
    fn of_all(id: usize, effect: Discount, lines: &[Line]) -> Answer {
        let portions = lines.iter().map(|line| Portion { line_id: line.id.clone(), quantity: line.quantity }).collect();
        let effect = match effect {
            Discount::Percent(ppm) => Effect::Percent((ppm, portions)),
            Discount::Amount(amount) => Effect::Amount((Money::new(amount, "CNY"), portions)),
        };
        Answer::Propose(proposal(&id.to_string(), effect, Stacking::Combines))
    }

    #[derive(Debug, Clone, Copy)]
    enum Discount {
        Percent(u32),
        Amount(i64),
    }

    fn any_discounts() -> impl Strategy<Value = Vec<Discount>> {
        let percent = (1_u32..=100).prop_map(|percent| Discount::Percent(percent * 10_000));
        prop::collection::vec(prop_oneof![percent, (1_i64..20_000).prop_map(Discount::Amount)], 1..4)
    }

    proptest! {
        #[test]
        fn the_same_goods_get_the_same_off_however_they_are_split_into_lines(
            pieces in prop::collection::vec((1_u32..12, any::<prop::sample::Index>()), 1..12), unit in 1_i64..2_000, discounts in any_discounts()
        ) {
            let split: Vec<Line> = pieces.iter().enumerate().map(|(id, &(quantity, _))| line(id, quantity, unit)).collect();
            let whole = [line(0, pieces.iter().map(|(quantity, _)| quantity).sum(), unit)];
            let run = |lines: &[Line]| run(lines, 0, &[], discounts.iter().enumerate().map(|(id, effect)| of_all(id, *effect, lines)).collect());
            let (parts, at_once) = (run(&split), run(&whole));
            prop_assert_eq!(amounts(&parts), amounts(&at_once));
            prop_assert_eq!(off(&parts), off(&at_once));
            for allocation in &parts.allocations {
                let line = split.iter().find(|line| line.id == allocation.line_id).unwrap();
                prop_assert!((1..=unit * i64::from(line.quantity)).contains(&allocation.amount.amount));
            }

            // Which part is whose does not depend on where in the cart it is.
            let mut moved = split.clone();
            for (place, (_, other)) in pieces.iter().enumerate() {
                moved.swap(place, other.index(pieces.len()));
            }
            let by_line = |outcome: &Outcome| outcome.allocations.iter().map(|part| (part.line_id.clone(), part.amount.amount)).collect::<BTreeMap<_, _>>();
            prop_assert_eq!(by_line(&run(&moved)), by_line(&parts));
        }

        #[test]
        fn the_cheapest_lawful_subset_is_taken_in_whatever_order_codes_are_entered(
            goods in prop::collection::vec((1_u32..10, 0_i64..50_000), 1..5), shipping in 0_i64..5_000, answers in any_answers()
        ) {
            let lines: Vec<Line> = goods.iter().enumerate().map(|(id, &(quantity, unit))| line(id, quantity, unit)).collect();
            let answers: Vec<Answer> = answers.into_iter().take(SUBSETS_OF_MAX).collect();
            let shown = run(&lines, shipping, &["A", "b", "X"], answers.clone());
            prop_assert_eq!(&run(&lines, shipping, &["X", "A", "B"], answers.clone()).applied, &shown.applied);
            let all: BTreeSet<String> = ["A", "B", "X"].map(String::from).into();
            let whole = sort(answers, &lines, "CNY", &all).offers;
            let best = (0..1_u32 << whole.len()).map(|chosen| {
                let picked: Vec<&Offer> = whole.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, offer)| offer).collect();
                if picked.len() > 1 && picked.iter().any(|offer| offer.exclusive) {
                    return 0;
                }
                let costs = lines.iter().map(|line| line.unit_price.amount * i64::from(line.quantity)).collect();
                let mut left = Left { lines: costs, quantities: lines.iter().map(|line| i64::from(line.quantity)).collect(), shipping };
                picked.iter().map(|offer| left.take(&offer.effect).unwrap()).sum()
            });
            prop_assert_eq!(off(&shown), best.max().unwrap_or(0));
            for rejected in &shown.rejected {
                prop_assert!(!shown.applied.iter().any(|applied| applied.code.as_deref() == Some(&code_key(&rejected.code))));
            }
        }

        #[test]
        fn codes_never_cost_more_than_none(
            goods in prop::collection::vec((1_u32..10, 0_i64..50_000), 0..6), shipping in 0_i64..5_000, answers in any_answers()
        ) {
            let lines: Vec<Line> = goods.iter().enumerate().map(|(id, &(quantity, unit))| line(id, quantity, unit)).collect();
            let automatic = answers.iter().filter(|answer| matches!(answer, Answer::Propose(proposal) if proposal.code.is_none())).cloned().collect();
            prop_assert!(off(&run(&lines, shipping, &["a", "B"], answers)) >= off(&run(&lines, shipping, &[], automatic)));
        }
    }

    #[test]
    fn a_code_does_not_hide_what_is_had_without_one() {
        let lines = [line(0, 1, 1_000)];
        let answers = |codes: &[Option<&str>]| {
            let answer = |code: &Option<&str>| {
                let Answer::Propose(proposal) = of_all(0, Discount::Percent(if code.is_some() { 10_000 } else { 500_000 }), &lines) else { unreachable!() };
                Answer::Propose(Proposal { code: code.map(Into::into), ..proposal })
            };
            codes.iter().map(answer).collect::<Vec<_>>()
        };
        for order in [[Some("A"), None], [None, Some("A")]] {
            assert_eq!(off(&run(&lines, 0, &["A"], answers(&order))), 500, "under one id");
        }
    }

    #[test]
    fn eleven_lines_get_what_one_line_of_eleven_gets() {
        let tenth = |lines: &[Line]| off(&run(lines, 0, &[], vec![of_all(0, Discount::Percent(100_000), lines)]));
        let eleven: Vec<Line> = (0..11).map(|id| line(id, 1, 985)).collect();
        assert_eq!((tenth(&eleven), tenth(&[line(0, 11, 985)])), (1_084, 1_084));
    }

    #[test]
    fn an_exclusive_code_stands_alone_and_the_better_offer_wins() {
        let of = |code: &str, ppm, stacking| {
            let proposal = proposal(code, Effect::Percent((ppm, vec![portion(0, 1)])), stacking);
            Answer::Propose(Proposal { code: Some(code.into()), ..proposal })
        };
        let automatic = || Answer::Propose(proposal("auto", Effect::Percent((50_000, vec![portion(0, 1)])), Stacking::Combines));
        let run = |exclusive| {
            let answers = vec![automatic(), of("PLUS", 100_000, Stacking::Combines), of("SOLO", exclusive, Stacking::Exclusive)];
            let outcome = run(&[line(0, 1, 10_000)], 0, &["PLUS", "SOLO"], answers);
            let applied: Vec<String> = outcome.applied.into_iter().map(|applied| applied.id).collect();
            (applied, outcome.rejected.into_iter().map(|rejected| (rejected.code, rejected.reason)).collect::<Vec<_>>())
        };
        let (applied, rejected) = run(200_000);
        assert_eq!((applied, rejected[0].0.as_str()), (vec!["p/SOLO".to_owned()], "PLUS"));
        assert!(rejected[0].1.contains("“SOLO”"), "{rejected:?}");
        let (applied, rejected) = run(140_000);
        assert_eq!(applied, ["p/auto", "p/PLUS"]);
        assert!(rejected[0].0 == "SOLO" && rejected[0].1.contains("“auto” + “PLUS”"), "what saves more is both together: {rejected:?}");
    }

    #[test]
    fn percents_apply_to_what_is_left() {
        let half = |id| Answer::Propose(proposal(id, Effect::Percent((500_000, vec![portion(0, 2)])), Stacking::Combines));
        let outcome = run(&[line(0, 2, 500)], 0, &[], vec![half("a"), half("b")]);
        assert_eq!(amounts(&outcome), [500, 250]);
    }

    #[test]
    fn an_amount_is_split_in_proportion_and_capped_by_its_portions() {
        let of = |amount, portions| Answer::Propose(proposal("a", Effect::Amount((Money::new(amount, "CNY"), portions)), Stacking::Combines));
        let lines = [line(0, 1, 100), line(1, 2, 100)];
        let outcome = run(&lines, 0, &[], vec![of(100, vec![portion(0, 1), portion(1, 2)])]);
        assert_eq!(outcome.allocations.iter().map(|part| part.amount.amount).collect::<Vec<_>>(), [33, 67]);
        let outcome = run(&lines, 0, &[], vec![of(9_999, vec![portion(1, 1)])]);
        assert_eq!(amounts(&outcome), [100]);
    }

    #[test]
    fn codes_that_nobody_answers_are_not_valid() {
        let shipping = Proposal { code: Some("POST".into()), ..proposal("POST", Effect::ShippingPercent(1_000_000), Stacking::Combines) };
        let reject = Rejection { provider: "p".into(), code: "OLD".into(), reason: "It has ended.".into() };
        let answers = vec![Answer::Propose(shipping), Answer::Reject(reject)];
        let outcome = run(&[line(0, 1, 100)], 0, &["post", "OLD", "NOPE", "nope"], answers);
        let rejected: Vec<(&str, &str)> = outcome.rejected.iter().map(|rejected| (rejected.code.as_str(), rejected.reason.as_str())).collect();
        assert_eq!(rejected, [("OLD", "It has ended."), ("NOPE", "This code is not valid.")]);
        assert!(outcome.applied.is_empty(), "free shipping takes nothing off before there is any");
    }

    #[test]
    fn a_code_whose_exclusive_offer_is_outdone_says_so() {
        let of = |code: &str, ppm| {
            let proposal = proposal(code, Effect::Percent((ppm, vec![portion(0, 1)])), Stacking::Exclusive);
            Answer::Propose(Proposal { code: Some(code.into()), ..proposal })
        };
        let outcome = run(&[line(0, 1, 100)], 0, &["A", "B"], vec![of("A", 100_000), of("B", 200_000)]);
        assert_eq!(outcome.applied[0].id, "p/B");
        assert_eq!(outcome.rejected[0].code, "A");
    }

    #[test]
    fn carts_too_large_to_sum_are_an_error_not_a_wrong_sum() {
        let sorted = sort(Vec::new(), &[], "CNY", &BTreeSet::new());
        assert!(combine(&[line(0, 3, i64::MAX / 2)], &Money::zero("CNY"), &[], sorted, "en").is_err());
    }
}
