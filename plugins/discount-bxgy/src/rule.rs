//! One rule, and which pieces of a cart it gives for less. Pure.

use serde::{Deserialize, Serialize};
use souk_sdk::extend::discount::{Cart, Effect, Line, Portion, Proposal, Stacking};
use souk_sdk::zone;
use time::OffsetDateTime;

const PPM_OF_PERCENT: u32 = 10_000;
const ID_BYTES_MAX: usize = 60;
const PIECES_MAX: u32 = 99;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    pub id: String,
    name: Name,
    /// Goods of this category and all below it.
    category: String,
    buy: u32,
    get: u32,
    discount_percent: u32,
    /// Without any other discount beside it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    exclusive: bool,
    #[serde(default, with = "time::serde::rfc3339::option")]
    starts_at: Option<OffsetDateTime>,
    /// The first instant at which it does not count any more.
    #[serde(default, with = "time::serde::rfc3339::option")]
    ends_at: Option<OffsetDateTime>,
}

/// A rule as `souk list bxgy` shows it.
#[derive(Serialize)]
pub struct Row<'a> {
    id: &'a str,
    offer: String,
    /// `active`, `not yet`, or `ended`.
    state: &'static str,
    starts_ms: Option<i64>,
    ends_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    en: String,
    #[serde(rename = "zh-CN")]
    zh: String,
}

impl Rule {
    /// As an operator writes it: times without an offset are of the shop's zone.
    pub fn read(mut json: serde_json::Value, zone: &str) -> Result<Self, String> {
        for field in ["starts-at", "ends-at"] {
            if let Some(time) = json.get_mut(field)
                && let Some(text) = time.as_str()
            {
                *time = zone::utc(text, zone).map_err(|problem| format!("{field}: {problem}"))?.into();
            }
        }
        let rule: Self = serde_json::from_value(json).map_err(|error| error.to_string())?;
        let fault = if rule.id.is_empty() || rule.id.len() > ID_BYTES_MAX || rule.id.contains(char::is_control) {
            "id: use 1 to 60 bytes"
        } else if rule.name.en.is_empty() || rule.name.zh.is_empty() {
            "name: give one in en and in zh-CN"
        } else if !(1..=PIECES_MAX).contains(&rule.buy) {
            "buy: use 1 to 99 pieces"
        } else if !(1..=PIECES_MAX).contains(&rule.get) {
            "get: use 1 to 99 pieces"
        } else if !(1..=100).contains(&rule.discount_percent) {
            "discount-percent: use 1 to 100"
        } else if rule.starts_at.zip(rule.ends_at).is_some_and(|(starts, ends)| starts >= ends) {
            "ends-at: is not after starts-at"
        } else {
            return Ok(rule);
        };
        Err(format!("{} {fault}", rule.id).trim_start().to_owned())
    }

    /// On one line, with times as the shop's clocks show them.
    pub fn row(&self, now_ms: i64) -> Row<'_> {
        let ms = |at: Option<OffsetDateTime>| at.and_then(|at| i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
        let (starts_ms, ends_ms) = (ms(self.starts_at), ms(self.ends_at));
        let state = match () {
            () if ends_ms.is_some_and(|ends| ends <= now_ms) => "ended",
            () if starts_ms.is_some_and(|starts| starts > now_ms) => "not yet",
            () => "active",
        };
        let alone = if self.exclusive { ", with no other discount" } else { "" };
        let offer = format!("buy {}, get {} at {} % off, of `{}`{alone}", self.buy, self.get, self.discount_percent, self.category);
        Row { id: &self.id, offer, state, starts_ms, ends_ms }
    }

    /// As [`Rule::read`] reads it back, with times as the shop's clocks show them.
    pub fn written(&self, shop_zone: &str) -> Result<serde_json::Value, String> {
        let mut json = serde_json::to_value(self).map_err(|error| error.to_string())?;
        for field in ["starts-at", "ends-at"] {
            if let Some(text) = json[field].as_str() {
                json[field] = zone::show(zone::instant_ms(text, shop_zone)?, shop_zone).into();
            }
        }
        Ok(json)
    }

    pub fn propose(&self, cart: &Cart) -> Option<Proposal> {
        let now = i128::from(cart.now_ms);
        let ms = |at: OffsetDateTime| at.unix_timestamp_nanos() / 1_000_000;
        if self.starts_at.is_some_and(|starts| now < ms(starts)) || self.ends_at.is_some_and(|ends| now >= ms(ends)) {
            return None;
        }
        let portions = self.portions(&cart.lines);
        (!portions.is_empty()).then(|| Proposal {
            provider: String::new(),
            id: self.id.clone(),
            title: if cart.locale.starts_with("zh") { self.name.zh.clone() } else { self.name.en.clone() },
            code: None,
            effect: Effect::Percent((self.discount_percent * PPM_OF_PERCENT, portions)),
            stacking: if self.exclusive { Stacking::Exclusive } else { Stacking::Combines },
            limit: None,
        })
    }

    /// Of the pieces in a row, the dearest first, the last `get` of each whole
    /// group of `buy + get`.
    fn portions(&self, lines: &[Line]) -> Vec<Portion> {
        let mut row: Vec<&Line> = lines.iter().filter(|line| line.categories.contains(&self.category)).collect();
        row.sort_by(|a, b| b.unit_price.amount.cmp(&a.unit_price.amount).then_with(|| a.id.cmp(&b.id)));
        let (buy, get) = (u64::from(self.buy), u64::from(self.get));
        let pieces: u64 = row.iter().map(|line| u64::from(line.quantity)).sum();
        let whole = pieces - pieces % (buy + get);
        let given_before = |place: u64| place / (buy + get) * get + (place % (buy + get)).saturating_sub(buy);
        let mut place = 0;
        let given = row.into_iter().map(|line| {
            let start = place;
            place += u64::from(line.quantity);
            let quantity = given_before(place.min(whole)) - given_before(start.min(whole));
            // Not more than the line has.
            Portion { line_id: line.id.clone(), quantity: u32::try_from(quantity).unwrap_or(line.quantity) }
        });
        given.filter(|portion| portion.quantity > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use souk_sdk::money::Money;

    use super::*;

    fn rule(buy: u32, get: u32) -> Rule {
        let json = json!({
            "id": "r", "name": { "en": "Three for two", "zh-CN": "买二送一" }, "category": "tea", "buy": buy, "get": get, "discount-percent": 100,
            "starts-at": "1970-01-01T00:00:01Z", "ends-at": "1970-01-01T00:00:02Z",
        });
        Rule::read(json, "Asia/Shanghai").unwrap()
    }

    #[test]
    fn a_row_says_what_the_rule_gives_and_whether_it_counts_now() {
        let rule = rule(2, 1);
        for (now_ms, state) in [(999, "not yet"), (1_000, "active"), (1_999, "active"), (2_000, "ended")] {
            let row = rule.row(now_ms);
            assert_eq!((row.id, row.offer.as_str(), row.state), ("r", "buy 2, get 1 at 100 % off, of `tea`", state));
            assert_eq!((row.starts_ms, row.ends_ms), (Some(1_000), Some(2_000)));
        }
    }

    #[test]
    fn a_rule_may_stand_alone() {
        let with = |exclusive: Option<bool>| {
            let mut json = serde_json::to_value(rule(2, 1)).unwrap();
            exclusive.into_iter().for_each(|exclusive| json["exclusive"] = exclusive.into());
            let rule = Rule::read(json, "Asia/Shanghai").unwrap();
            rule.propose(&cart(vec![line(0, 3, 500, "tea")], 1_000)).unwrap().stacking
        };
        assert_eq!([with(None), with(Some(false)), with(Some(true))], [Stacking::Combines, Stacking::Combines, Stacking::Exclusive]);
    }

    fn line(id: usize, quantity: u32, price: i64, category: &str) -> Line {
        let id = id.to_string();
        Line { sku: id.clone(), product: id.clone(), id, quantity, unit_price: Money::new(price, "CNY"), categories: vec![category.into()], tags: Vec::new() }
    }

    fn cart(lines: Vec<Line>, now_ms: u64) -> Cart {
        let zero = Money::new(0, "CNY");
        Cart { lines, subtotal: zero.clone(), shipping: zero, codes: Vec::new(), customer: None, now_ms, locale: "zh-CN".into() }
    }

    fn given(rule: &Rule, lines: &[Line]) -> Vec<(String, u32)> {
        rule.portions(lines).into_iter().map(|portion| (portion.line_id, portion.quantity)).collect()
    }

    #[test]
    fn the_cheapest_of_each_whole_group_is_given() {
        let three_for_two = rule(2, 1);
        assert_eq!(given(&three_for_two, &[line(0, 2, 500, "tea")]), []);
        assert_eq!(given(&three_for_two, &[line(0, 2, 500, "tea"), line(1, 1, 900, "tea")]), [("0".into(), 1)]);
        assert_eq!(given(&three_for_two, &[line(0, 2, 500, "tea"), line(1, 9, 900, "books")]), []);
        assert_eq!(given(&three_for_two, &[line(0, 7, 500, "tea")]), [("0".into(), 2)]);
    }

    #[test]
    fn it_counts_in_its_time_alone() {
        let lines = || vec![line(0, 3, 500, "tea")];
        let at = |now_ms| rule(2, 1).propose(&cart(lines(), now_ms)).map(|proposal| proposal.title);
        assert_eq!((at(999), at(1_000), at(1_999), at(2_000)), (None, Some("买二送一".into()), Some("买二送一".into()), None));
    }

    proptest! {
        /// As counting piece by piece does it.
        #[test]
        fn groups_are_those_of_the_pieces_in_a_row(
            lines in prop::collection::vec((1_u32..40, 1_i64..5), 0..8), buy in 1_u32..5, get in 1_u32..4
        ) {
            let lines: Vec<Line> = lines.iter().enumerate().map(|(id, (quantity, price))| line(id, *quantity, *price, "tea")).collect();
            let mut row: Vec<&Line> = lines.iter().collect();
            row.sort_by_key(|line| (-line.unit_price.amount, line.id.clone()));
            let pieces: Vec<&str> = row.iter().flat_map(|line| std::iter::repeat_n(line.id.as_str(), line.quantity as usize)).collect();
            let mut expected: Vec<(String, u32)> = Vec::new();
            for group in pieces.chunks_exact((buy + get) as usize) {
                for id in &group[buy as usize..] {
                    match expected.iter_mut().find(|(known, _)| known == id) {
                        Some((_, quantity)) => *quantity += 1,
                        None => expected.push(((*id).into(), 1)),
                    }
                }
            }
            prop_assert_eq!(given(&rule(buy, get), &lines), expected);
        }
    }
}
