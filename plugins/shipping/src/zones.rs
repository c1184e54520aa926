//! Zones, their methods, and which of them take a parcel. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::shipping::{Method, Parcel};
use souk_sdk::money::Money;

/// Every country that no other zone names.
pub const ELSEWHERE: &str = "*";

/// What `*` stands for in a list of countries: those that carriers commonly
/// serve. Elsewhere is delivered to as well, but not offered.
const COMMON: &[&str] = &[
    "AD", "AE", "AL", "AM", "AR", "AT", "AU", "AZ", "BA", "BD", "BE", "BG", "BH", "BN", "BO", "BR", "BT", "CA", "CH", "CL", "CN",
    "CO", "CR", "CY", "CZ", "DE", "DK", "DO", "DZ", "EC", "EE", "EG", "ES", "ET", "FI", "FJ", "FR", "GB", "GE", "GH", "GR", "GT",
    "HK", "HN", "HR", "HU", "ID", "IE", "IL", "IN", "IS", "IT", "JM", "JO", "JP", "KE", "KG", "KH", "KR", "KW", "KZ", "LA", "LI",
    "LK", "LT", "LU", "LV", "MA", "MC", "MD", "ME", "MK", "MN", "MO", "MT", "MU", "MV", "MX", "MY", "NG", "NI", "NL", "NO", "NP",
    "NZ", "OM", "PA", "PE", "PG", "PH", "PK", "PL", "PT", "PY", "QA", "RO", "RS", "RW", "SA", "SE", "SG", "SI", "SK", "SM", "SN",
    "SV", "TH", "TN", "TR", "TT", "TW", "TZ", "UA", "UG", "US", "UY", "UZ", "VA", "VN", "ZA", "ZM",
];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zones {
    pub zones: Vec<Zone>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Zone {
    pub id: String,
    /// For the operator.
    pub name: Text,
    pub countries: BTreeSet<String>,
    pub methods: Vec<Way>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Way {
    pub id: String,
    pub name: Text,
    pub price: i64,
    pub free_from: Option<i64>,
    pub weight_g_max: u32,
    pub days_min: u32,
    pub days_max: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    pub en: String,
    #[serde(rename = "zh-CN")]
    pub zh: String,
}

impl Zones {
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let zones: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let (mut countries, mut methods) = (BTreeSet::new(), BTreeSet::new());
        for zone in &zones.zones {
            for country in &zone.countries {
                if !is_country(country) && country != ELSEWHERE {
                    return Err(format!("zone `{}`: `{country}` is no country code (two capitals, or `*`)", zone.id));
                }
                if !countries.insert(country) {
                    return Err(format!("zone `{}`: `{country}` is in two zones", zone.id));
                }
            }
            for way in &zone.methods {
                if way.id.is_empty() || !methods.insert(&way.id) {
                    return Err(format!("zone `{}`: `{}` is empty or the id of two methods", zone.id, way.id));
                }
                if way.price < 0 || way.free_from.is_some_and(|from| from < 0) || way.days_min > way.days_max {
                    return Err(format!("method `{}`: a negative amount, or more days at least than at most", way.id));
                }
            }
        }
        if zones.zones.is_empty() { Err("there are no zones".into()) } else { Ok(zones) }
    }

    /// What can be had there.
    pub fn into_ways(self, country: &str) -> Vec<Way> {
        let place = |name: &str| self.zones.iter().position(|zone| zone.countries.contains(name));
        let place = place(country).or_else(|| place(ELSEWHERE));
        place.and_then(|place| self.zones.into_iter().nth(place)).map_or_else(Vec::new, |zone| zone.methods)
    }

    pub fn countries(&self) -> Vec<String> {
        let mut countries: BTreeSet<String> = self.zones.iter().flat_map(|zone| zone.countries.iter().cloned()).collect();
        if countries.remove(ELSEWHERE) {
            countries.extend(COMMON.iter().map(|&country| country.to_owned()));
        }
        countries.into_iter().collect()
    }
}

/// In form: whether there is one, nobody here knows.
pub fn is_country(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Those that take the parcel, the cheapest first, the faster of equals.
pub fn methods(ways: &[Way], parcel: &Parcel, currency: &str, locale: &str) -> Vec<Method> {
    let fitting = ways.iter().filter(|way| parcel.weight_g <= way.weight_g_max);
    let mut methods: Vec<Method> = fitting.map(|way| way.method(parcel, currency, locale)).collect();
    methods.sort_by(|a, b| (a.price.amount, a.days_max, &a.id).cmp(&(b.price.amount, b.days_max, &b.id)));
    methods
}

impl Way {
    fn method(&self, parcel: &Parcel, currency: &str, locale: &str) -> Method {
        let chinese = locale.starts_with("zh");
        let free = self.free_from.is_some_and(|from| parcel.subtotal.currency == currency && parcel.subtotal.amount >= from);
        let description = match self.free_from.map(|from| Money::new(from, currency).format(locale)) {
            Some(from) if chinese => format!("商品满 {from} 免运费。"),
            Some(from) => format!("Free for goods of {from} or more."),
            None => String::new(),
        };
        Method {
            id: self.id.clone(),
            name: if chinese { &self.name.zh } else { &self.name.en }.clone(),
            description,
            price: Money::new(if free { 0 } else { self.price }, currency),
            days_min: self.days_min,
            days_max: self.days_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shipped() -> Zones {
        Zones::read(include_bytes!("../../../store-data/shipping.json")).unwrap()
    }

    fn prices(country: &str, weight_g: u32, subtotal: i64) -> Vec<(String, i64)> {
        let parcel = Parcel { weight_g, subtotal: Money::new(subtotal, "CNY") };
        let methods = methods(&shipped().into_ways(country), &parcel, "CNY", "en");
        methods.into_iter().map(|method| (method.id, method.price.amount)).collect()
    }

    #[test]
    fn price_free_from_and_weight_limit() {
        assert_eq!(prices("CN", 500, 9_899), [("standard".into(), 1_200), ("express".into(), 2_500)]);
        assert_eq!(prices("CN", 500, 9_900), [("standard".into(), 0), ("express".into(), 2_500)]);
        assert_eq!(prices("CN", 20_001, 9_900), [("standard".into(), 0)]);
        assert_eq!(prices("CN", 30_001, 9_900), []);
        assert_eq!(prices("DE", 2_001, 0), [("courier".into(), 16_800)]);
    }

    #[test]
    fn names_come_in_both_languages() {
        let parcel = Parcel { weight_g: 1, subtotal: Money::new(1, "CNY") };
        let of = |locale| methods(&shipped().into_ways("CN"), &parcel, "CNY", locale).remove(0);
        assert_eq!((of("zh-CN").name.as_str(), of("zh-CN").description.as_str()), ("快递，2–4 天", "商品满 ¥99.00 免运费。"));
        assert_eq!((of("fr").name.as_str(), of("en").description.as_str()), ("Standard delivery, 2–4 days", "Free for goods of CN¥99.00 or more."));
    }

    #[test]
    fn elsewhere_is_offered_as_what_is_common() {
        let mut zones = shipped();
        zones.zones[2].countries = [ELSEWHERE.to_owned()].into();
        let countries = zones.countries();
        assert!(countries.contains(&"BR".to_owned()) && !countries.contains(&ELSEWHERE.to_owned()));
    }

    #[test]
    fn zones_with_faults_are_refused() {
        let text = include_str!("../../../store-data/shipping.json");
        for (from, to) in [("\"express\"", "\"standard\""), ("\"HK\"", "\"CN\""), ("\"HK\"", "\"hk\""), ("1200", "-1"), ("\"days-min\": 2", "\"days-min\": 9")] {
            assert!(Zones::read(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} → {to}");
        }
    }

    proptest! {
        #[test]
        fn more_goods_never_cost_more_to_deliver(country in prop::sample::select(vec!["CN", "HK", "US"]), weight_g in 0_u32..40_000, less in 0_i64..200_000, more in 0_i64..200_000) {
            let (few, many) = (prices(country, weight_g, less), prices(country, weight_g, less + more));
            prop_assert_eq!(few.len(), many.len());
            for (id, price) in few {
                prop_assert!(many.iter().any(|(other, cheaper)| *other == id && *cheaper <= price));
            }
        }
    }
}
