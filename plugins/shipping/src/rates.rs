//! One rate without a file.

use std::collections::BTreeSet;

use serde::Serialize;
use souk_sdk::money::Money;
use souk_sdk::{config, serde_json};

use crate::zones::{Way, Zone};
use crate::{CURRENT, ZONES, replace};

const USE: &str = "use: set-shipping-rate method=standard [price=12.00] [free-from=99.00 | free-from=none]";

fn zones() -> Result<crate::zones::Zones, String> {
    let zones = ZONES.get(CURRENT).map_err(|error| error.to_string())?;
    zones.ok_or_else(|| "there are no delivery zones yet: `import-shipping` makes them".to_owned())
}

pub fn set(arguments: &[(String, String)]) -> Result<String, String> {
    let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
    if let Some((unknown, _)) = arguments.iter().find(|(name, _)| !["method", "price", "free-from"].contains(&name.as_str())) {
        return Err(format!("there is no `{unknown}` here; {USE}"));
    }
    let Some(id) = argument("method") else { return Err(format!("which method? {USE}")) };
    if argument("price").is_none() && argument("free-from").is_none() {
        return Err(format!("what is it to cost? {USE}"));
    }
    let currency = config::shop().currency;
    let amount = |field: &str, text: &str| {
        let amount = Money::from_decimal(text, &currency).ok().map(|money| money.amount).filter(|amount| *amount >= 0);
        amount.ok_or_else(|| format!("{field}: `{text}` is not an amount of {currency}: write it like 12.50, without a symbol"))
    };
    let mut zones = zones()?;
    let ids: Vec<String> = zones.zones.iter().flat_map(|zone| &zone.methods).map(|way| way.id.clone()).collect();
    let Some(way) = zones.zones.iter_mut().flat_map(|zone| &mut zone.methods).find(|way| way.id == id) else {
        return Err(format!("there is no method `{id}`: use one of {}", ids.join(", ")));
    };
    let before = way.clone();
    if let Some(text) = argument("price") {
        way.price = amount("price", text)?;
    }
    match argument("free-from") {
        None => {}
        Some("none" | "") => way.free_from = None,
        Some(text) => way.free_from = Some(amount("free-from", text)?),
    }
    let after = way.clone();
    if after == before {
        return Ok(format!("nothing changes: {}", shown(&after, &currency)));
    }
    replace(&zones).map_err(|error| error.to_string())?;
    Ok(format!("{}; before: {}", shown(&after, &currency), shown(&before, &currency)))
}

/// A method as `souk list shipping-rates` shows it.
#[derive(Serialize)]
struct Row<'a> {
    method: &'a str,
    zone: &'a str,
    price: Money,
    free_from: Option<Money>,
    countries: &'a BTreeSet<String>,
}

pub fn list(arguments: &[(String, String)]) -> Result<Vec<u8>, String> {
    let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
    let limit = argument("limit").map_or(Ok(usize::MAX), str::parse).map_err(|_| "limit: give a number".to_owned())?;
    let (zones, currency) = (zones()?, config::shop().currency);
    let money = |amount: i64| Money::new(amount, &currency);
    let all: Vec<(&Zone, &Way)> = zones.zones.iter().flat_map(|zone| zone.methods.iter().map(move |way| (zone, way))).collect();
    let seen = match argument("after") {
        Some(after) => all.iter().position(|(_, way)| way.id == after).ok_or_else(|| format!("after: there is no method `{after}`: begin anew without it"))? + 1,
        None => 0,
    };
    let rows = all[seen..].iter().take(limit).map(|(zone, way)| Row { method: &way.id, zone: &zone.id, price: money(way.price), free_from: way.free_from.map(money), countries: &zone.countries });
    serde_json::to_vec_pretty(&rows.collect::<Vec<_>>()).map_err(|error| error.to_string())
}

fn shown(way: &Way, currency: &str) -> String {
    let decimal = |amount: i64| Money::new(amount, currency).to_decimal();
    let free = way.free_from.map_or(String::new(), |from| format!(", free from {}", decimal(from)));
    format!("{}: {} {currency}{free}", way.id, decimal(way.price))
}

#[cfg(test)]
mod tests {
    use souk_sdk::host::command_handler::Guest as _;
    use souk_sdk::testing;

    use crate::Shipping;

    fn run(command: &str, arguments: &[(&str, &str)]) -> Result<String, String> {
        let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        testing::unit(|| Shipping::run(command.into(), arguments, Vec::new())).map(|answer| String::from_utf8(answer).unwrap())
    }

    #[test]
    fn a_rate_is_changed_by_one_command() {
        assert!(run("list-shipping-rates", &[]).unwrap_err().contains("import-shipping"));
        Shipping::run("import-shipping".into(), Vec::new(), include_bytes!("../../../store-data/shipping.json").to_vec()).unwrap();
        let answer = run("set-shipping-rate", &[("method", "standard"), ("price", "15"), ("free-from", "none")]).unwrap();
        assert_eq!(answer, "standard: 15.00 CNY; before: standard: 12.00 CNY, free from 99.00");
        assert!(run("set-shipping-rate", &[("method", "standard"), ("price", "15.00")]).unwrap().starts_with("nothing changes"));
        let listed = run("list-shipping-rates", &[]).unwrap();
        let rows: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        assert_eq!((&rows[0]["method"], &rows[0]["zone"], &rows[0]["price"]["amount"]), (&"standard".into(), &"mainland".into(), &1500.into()));
        let rest: Vec<serde_json::Value> = serde_json::from_str(&run("list-shipping-rates", &[("after", "standard"), ("limit", "1")]).unwrap()).unwrap();
        assert_eq!(rest, rows[1..2]);
        assert!(run("list-shipping-rates", &[("after", "drone")]).unwrap_err().contains("`drone`"));
        for (arguments, told) in [
            (&[("method", "drone"), ("price", "1")][..], "standard, express"),
            (&[("price", "1")], "which method"),
            (&[("method", "standard")], "what is it to cost"),
            (&[("method", "standard"), ("price", "-1")], "12.50"),
            (&[("method", "standard"), ("prise", "1")], "`prise`"),
        ] {
            let error = run("set-shipping-rate", arguments).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
