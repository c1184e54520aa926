//! What a price list may say, and which of its prices holds. Pure: storage and
//! the clock are the caller's.

use serde::{Deserialize, Serialize};
use souk_sdk::money::{self, Money};
use souk_sdk::zone;

pub const PRICE_MAX: i64 = 1_000_000_000_000;
pub const PPM: i64 = 1_000_000;
pub const EVERY_SKU: &str = "*";

/// A list as an operator writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PriceList {
    pub id: String,
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub starts: Option<String>,
    #[serde(default)]
    pub ends: Option<String>,
    pub prices: Vec<Price>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Price {
    pub sku: String,
    #[serde(default = "one")]
    pub min_quantity: u32,
    #[serde(default)]
    pub price: Option<i64>,
    /// A decimal, as text so that no binary fraction comes in.
    #[serde(default)]
    pub percent_off: Option<String>,
}

fn one() -> u32 {
    1
}

/// One price of one list, ready to be applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub list: String,
    pub priority: i32,
    /// `start <= t < end`, UTC milliseconds.
    pub start_ms: i64,
    pub end_ms: i64,
    pub min_quantity: u32,
    pub unit: Unit,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    Fixed(Money),
    OffPpm(i64),
}

impl Rule {
    /// `None` where the rule does not hold for this purchase at this time.
    fn unit(&self, base: &Money, quantity: u32, now_ms: i64) -> Option<Money> {
        if quantity < self.min_quantity || now_ms < self.start_ms || now_ms >= self.end_ms {
            return None;
        }
        match &self.unit {
            Unit::Fixed(price) => (price.currency == base.currency).then(|| price.clone()),
            Unit::OffPpm(ppm) => {
                let off = money::mul_ratio(base.amount, *ppm, PPM).ok()?;
                Some(Money::new(base.amount - off, &base.currency))
            }
        }
    }
}

/// The lowest price of the highest priority, with its list; never above `base`.
pub fn best<'a>(rules: impl IntoIterator<Item = &'a Rule>, base: &Money, quantity: u32, now_ms: i64) -> Option<(Money, &'a str)> {
    let valid = rules.into_iter().filter_map(|rule| Some((rule, rule.unit(base, quantity, now_ms)?)));
    let best = valid.min_by_key(|(rule, unit)| (std::cmp::Reverse(rule.priority), unit.amount, rule.list.clone()));
    best.filter(|(_, unit)| unit.amount < base.amount).map(|(rule, unit)| (unit, rule.list.as_str()))
}

/// When the price of one piece may next be another one.
pub fn next_change<'a>(rules: impl IntoIterator<Item = &'a Rule>, now_ms: i64) -> Option<u64> {
    let edges = rules.into_iter().filter(|rule| rule.min_quantity <= 1).flat_map(|rule| [rule.start_ms, rule.end_ms]);
    edges.filter(|edge| *edge > now_ms && *edge < i64::MAX).min().and_then(|edge| u64::try_from(edge).ok())
}

/// Rules by sku, or what is wrong: `(field, problem)`.
pub fn compile(list: &PriceList, zone: &str, currency: &str) -> Result<Vec<(String, Rule)>, Vec<(String, String)>> {
    let mut faults: Vec<(String, String)> = Vec::new();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=100).contains(&list.id.len()) || !list.id.bytes().all(allowed) || list.id == "base" {
        faults.push(("id".into(), "use 1 to 100 of a-z, 0-9 and hyphens, and not `base`".into()));
    }
    let mut edge = |field: &str, text: &Option<String>, open: i64| match text {
        None => open,
        Some(text) => zone::instant_ms(text, zone).unwrap_or_else(|problem| {
            faults.push((field.into(), problem));
            open
        }),
    };
    let (start_ms, end_ms) = (edge("starts", &list.starts, i64::MIN), edge("ends", &list.ends, i64::MAX));
    if start_ms >= end_ms {
        faults.push(("ends".into(), "the end is not after the start".into()));
    }
    let mut rules = Vec::new();
    for (place, price) in list.prices.iter().enumerate() {
        let mut fault = |field: &str, problem: &str| faults.push((format!("prices[{place}].{field}"), problem.into()));
        if !(1..=100).contains(&price.sku.len()) || !price.sku.bytes().all(|byte| byte.is_ascii_graphic()) {
            fault("sku", "use a sku of 1 to 100 ASCII characters, or `*` for every sku");
        }
        let unit = match (price.price, &price.percent_off) {
            (Some(amount), None) if (0..=PRICE_MAX).contains(&amount) => Unit::Fixed(Money::new(amount, currency)),
            (Some(_), None) => {
                fault("price", "use 0 to 10^12 of the smallest unit of the currency: 5800 is 58.00");
                continue;
            }
            (None, Some(percent)) => match ppm(percent) {
                Some(ppm) => Unit::OffPpm(ppm),
                None => {
                    fault("percent-off", "use 0 to 100 with at most 4 decimals, in quotes: \"12.5\"");
                    continue;
                }
            },
            _ => {
                fault("price", "give either `price` or `percent-off`");
                continue;
            }
        };
        let min_quantity = price.min_quantity.max(1);
        rules.push((price.sku.clone(), Rule { list: list.id.clone(), priority: list.priority, start_ms, end_ms, min_quantity, unit }));
    }
    if faults.is_empty() { Ok(rules) } else { Err(faults) }
}

/// What is lawful and may not be meant: `(field, problem)`.
pub fn doubts(list: &PriceList) -> Vec<(String, String)> {
    let doubt = |(place, price): (usize, &Price)| {
        let (field, problem) = match (price.price, price.percent_off.as_deref().and_then(ppm)) {
            (Some(0), _) => ("price", "gives the goods away: remove the line if that is not meant"),
            (_, Some(0)) => ("percent-off", "takes nothing off: remove the line, or give more than 0"),
            (_, Some(PPM)) => ("percent-off", "gives the goods away: give less than 100 if that is not meant"),
            _ => return None,
        };
        let whose = if price.sku == EVERY_SKU { "every sku" } else { &price.sku };
        Some((format!("prices[{place}].{field}"), format!("{whose}: {problem}")))
    };
    list.prices.iter().enumerate().filter_map(doubt).collect()
}

/// `12.5` percent is 125,000 millionths.
pub fn ppm(percent: &str) -> Option<i64> {
    // A currency with four decimals reads decimals with four places.
    let amount = Money::from_decimal(percent, "CLF").ok()?.amount;
    (0..=PPM).contains(&amount).then_some(amount)
}

impl PriceList {
    /// With times as the shop's clocks show them, and their offset: read back,
    /// in whatever zone, they are the same instants.
    pub fn shown(mut self, zone: &str) -> Self {
        for time in [&mut self.starts, &mut self.ends] {
            *time = time.take().map(|text| zone::instant_ms(&text, zone).map_or(text, |at| zone::show(at, zone)));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(list: &str, priority: i32, min_quantity: u32, unit: Unit) -> Rule {
        Rule { list: list.into(), priority, start_ms: 10, end_ms: 20, min_quantity, unit }
    }

    fn fixed(amount: i64) -> Unit {
        Unit::Fixed(Money::new(amount, "CNY"))
    }

    #[test]
    fn the_lowest_price_of_the_highest_priority_holds_within_its_window() {
        let base = Money::new(1_000, "CNY");
        let rules = [rule("a", 0, 1, fixed(700)), rule("b", 1, 1, Unit::OffPpm(100_000)), rule("c", 1, 5, fixed(850))];
        let at = |quantity, now_ms| best(&rules, &base, quantity, now_ms).map(|(unit, list)| (unit.amount, list));
        assert_eq!(at(1, 9), None);
        assert_eq!(at(1, 10), Some((900, "b")));
        assert_eq!(at(5, 19), Some((850, "c")));
        assert_eq!(at(5, 20), None);
        assert_eq!(best(&rules[..1], &Money::new(600, "CNY"), 1, 10), None, "never above the base price");
        assert_eq!(best(&rules[..1], &Money::new(1_000, "USD"), 1, 10), None, "another currency");
    }

    #[test]
    fn faults_name_their_fields() {
        let list = serde_json::json!({ "id": "base", "starts": "2026-01-02", "ends": "2026-01-01", "prices": [
            { "sku": "A" }, { "sku": "B", "percent-off": "100.1" }, { "sku": "", "price": -1 } ] });
        let list: PriceList = serde_json::from_value(list).unwrap();
        let faults = compile(&list, "UTC", "CNY").unwrap_err();
        let fields: Vec<&str> = faults.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["id", "ends", "prices[0].price", "prices[1].percent-off", "prices[2].sku", "prices[2].price"]);
    }

    proptest! {
        #[test]
        fn a_percentage_is_rounded_once_and_stays_between_nothing_and_the_base(amount in 0..PRICE_MAX, ppm in 0..=PPM) {
            let base = Money::new(amount, "CNY");
            let rules = [rule("a", 0, 1, Unit::OffPpm(ppm))];
            let unit = best(&rules, &base, 1, 10).map_or(amount, |(unit, _)| unit.amount);
            prop_assert!((0..=amount).contains(&unit));
            let exact = i128::from(amount) * i128::from(PPM - ppm);
            prop_assert!((i128::from(unit) * i128::from(PPM) - exact).abs() * 2 <= i128::from(PPM));
        }
    }
}
