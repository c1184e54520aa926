//! Zones, rates, and the tax of a line. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::tax::{Line, TaxLine};
use souk_sdk::log;
use souk_sdk::money::Money;

const MILLION: i64 = 1_000_000;
/// Every country that no other zone names.
const ELSEWHERE: &str = "*";
/// A rate above it is a typing mistake.
const RATE_PPM_MAX: u32 = 1_000_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub zones: Vec<Zone>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Zone {
    pub id: String,
    pub countries: BTreeSet<String>,
    /// Prices contain the tax.
    pub included: bool,
    pub default_rate: Rate,
    #[serde(default)]
    pub classes: BTreeMap<String, Rate>,
}

/// Millionths, written as a decimal fraction: `"0.13"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(u32);

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let wrong = || format!("`{text}` is not a rate from 0 to 1 with at most 6 decimals");
        if !(1..=3).contains(&whole.len()) || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
            return Err(wrong());
        }
        let ppm: u32 = format!("{whole}{fraction:0<6}").parse().map_err(|_| wrong())?;
        if ppm > RATE_PPM_MAX { Err(wrong()) } else { Ok(Self(ppm)) }
    }
}

impl From<Rate> for String {
    fn from(Rate(ppm): Rate) -> Self {
        format!("{}.{:06}", ppm / RATE_PPM_MAX, ppm % RATE_PPM_MAX)
    }
}

impl Table {
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let table: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let mut named = BTreeSet::new();
        for zone in &table.zones {
            for country in &zone.countries {
                let code = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
                if !code && country != ELSEWHERE {
                    return Err(format!("zone `{}`: `{country}` is no country code (two capitals, or `*`)", zone.id));
                }
                if !named.insert(country) {
                    return Err(format!("zone `{}`: `{country}` is in two zones", zone.id));
                }
            }
        }
        if table.zones.is_empty() { Err("the table has no zones".into()) } else { Ok(table) }
    }

    pub fn quote(&self, lines: &[Line], country: &str, locale: &str) -> Vec<TaxLine> {
        let zone = |name: &str| self.zones.iter().find(|zone| zone.countries.contains(name));
        let Some(zone) = zone(country).or_else(|| zone(ELSEWHERE)) else {
            log::error!("no tax zone has {country} or `*`: nothing is taxed there");
            return Vec::new();
        };
        zone.taxes(lines, locale)
    }
}

impl Zone {
    fn rate(&self, line: &Line) -> u32 {
        self.classes.get(&line.tax_class).unwrap_or(&self.default_rate).0
    }

    /// In the order of the lines. What one rate takes is computed once, from all
    /// that it is for, and split over the lines: however the same goods are split
    /// into lines, their tax is the same.
    fn taxes(&self, lines: &[Line], locale: &str) -> Vec<TaxLine> {
        let mut amounts: Vec<Option<Money>> = vec![None; lines.len()];
        let rates: BTreeSet<u32> = lines.iter().map(|line| self.rate(line)).filter(|rate| *rate > 0).collect();
        for rate in rates {
            let mut places: Vec<usize> = (0..lines.len()).filter(|place| self.rate(&lines[*place]) == rate).collect();
            // Of equal parts the first gets what is left over: not by the order of the lines, which the shopper chose.
            places.sort_by(|a, b| lines[*a].id.cmp(&lines[*b].id));
            let parts = self.split(rate, &places.iter().map(|place| &lines[*place].amount).collect::<Vec<_>>());
            for (place, part) in places.into_iter().zip(parts.unwrap_or_default()) {
                amounts[place] = Some(part);
            }
        }
        let name = if locale.starts_with("zh") { "增值税" } else { "VAT" };
        let tax = |(line, amount): (&Line, Option<Money>)| {
            Some(TaxLine { line_id: line.id.clone(), name: name.into(), rate_ppm: self.rate(line), amount: amount?, included: self.included })
        };
        lines.iter().zip(amounts).filter_map(tax).collect()
    }

    /// None where amounts are of several currencies or too large to sum: nobody can pay them.
    fn split(&self, rate_ppm: u32, amounts: &[&Money]) -> Option<Vec<Money>> {
        let rate = i64::from(rate_ppm);
        let base = if self.included { MILLION + rate } else { MILLION };
        let sum = Money::sum(&amounts.first()?.currency, amounts.iter().copied()).ok()?;
        // A rate is at most 1, so the tax of an amount fits where the amount does.
        let tax = sum.mul_ratio(rate, base).ok()?;
        let all_of_one_sign = amounts.iter().all(|amount| amount.amount.signum() * sum.amount.signum() >= 0);
        if sum.amount == 0 || !all_of_one_sign {
            // Nothing to split by: goods that are given back beside others that are bought.
            return amounts.iter().map(|amount| amount.mul_ratio(rate, base).ok()).collect();
        }
        tax.allocate(&amounts.iter().map(|amount| amount.amount.unsigned_abs()).collect::<Vec<_>>()).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use super::*;

    fn shipped() -> Table {
        Table::read(include_bytes!("../../../store-data/tax.json")).unwrap()
    }

    fn line(class: &str, amount: i64) -> Line {
        Line { id: "1".into(), tax_class: class.into(), amount: Money::new(amount, "CNY") }
    }

    fn zone(included: bool, rate_ppm: u32) -> Zone {
        Zone { id: "z".into(), countries: BTreeSet::new(), included, default_rate: Rate(rate_ppm), classes: BTreeMap::new() }
    }

    fn tax(zone: &Zone, amount: i64) -> i64 {
        zone.taxes(&[line("", amount)], "en")[0].amount.amount
    }

    proptest! {
        #[test]
        fn the_same_goods_are_taxed_alike_however_they_are_split_into_lines(
            amounts in prop::collection::vec(0_i64..100_000, 1..12), rate_ppm in 1..=RATE_PPM_MAX, included: bool, turn in 0_usize..12
        ) {
            let zone = zone(included, rate_ppm);
            let lines: Vec<Line> = amounts.iter().enumerate().map(|(id, amount)| Line { id: id.to_string(), ..line("", *amount) }).collect();
            let of = |lines: &[Line]| zone.taxes(lines, "en").into_iter().map(|tax| (tax.line_id, tax.amount.amount)).collect::<BTreeMap<_, _>>();
            let parts = of(&lines);
            prop_assert_eq!(parts.values().sum::<i64>(), tax(&zone, amounts.iter().sum()));
            for line in &lines {
                let (exact, part) = (tax(&zone, line.amount.amount), parts[&line.id]);
                prop_assert!((exact - 1..=exact + 1).contains(&part) && part >= 0);
            }
            let mut turned = lines.clone();
            turned.rotate_left(turn % lines.len());
            prop_assert_eq!(of(&turned), parts);
        }

        #[test]
        fn contained_tax_is_never_more_than_the_amount(amount in 0_i64.., rate_ppm in 1..=RATE_PPM_MAX) {
            let tax = tax(&zone(true, rate_ppm), amount);
            prop_assert!((0..=amount).contains(&tax));
        }

        #[test]
        fn what_is_given_back_has_the_tax_it_was_sold_with(amount in 0_i64.., rate_ppm in 1..=RATE_PPM_MAX, included: bool) {
            let zone = zone(included, rate_ppm);
            prop_assert_eq!(tax(&zone, -amount), -tax(&zone, amount));
        }

        #[test]
        fn rates_are_read_as_they_are_written(ppm in 0..=RATE_PPM_MAX) {
            prop_assert_eq!(Rate::try_from(String::from(Rate(ppm))), Ok(Rate(ppm)));
        }
    }

    #[test]
    fn a_class_of_its_own_a_default_and_a_country_without_a_zone() {
        let quote = |class, country| shipped().quote(&[line(class, 10_900)], country, "en").first().map(|tax| tax.amount.amount);
        assert_eq!(quote("reduced", "CN"), Some(900));
        assert_eq!(quote("", "CN"), Some(1_254));
        assert_eq!(quote("unheard-of", "CN"), Some(1_254));
        assert_eq!(quote("", "DE"), None, "exports are not taxed");
    }

    #[test]
    fn tax_on_top_is_rounded_half_to_even() {
        let tax = |amount| tax(&zone(false, 100_000), amount);
        assert_eq!([tax(5), tax(15), tax(25)], [0, 2, 2]);
    }

    #[test]
    fn tables_with_faults_are_refused() {
        let of = |countries: &str, rate: &str| {
            let zone = format!(r#"{{"id":"a","countries":{countries},"included":true,"default-rate":"{rate}"}}"#);
            Table::read(format!(r#"{{"zones":[{zone},{{"id":"b","countries":["CN"],"included":true,"default-rate":"0"}}]}}"#).as_bytes())
        };
        assert!(of(r#"["DE"]"#, "0.19").is_ok());
        assert!(of(r#"["CN"]"#, "0.19").unwrap_err().contains("two zones"));
        assert!(of(r#"["de"]"#, "0.19").is_err());
        for rate in ["", "19", "1.5", "-0.1", "0.1234567", "0,19", ".19"] {
            assert!(of(r#"["DE"]"#, rate).is_err(), "{rate}");
        }
    }
}
