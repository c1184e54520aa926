//! One rate without a file.

use souk_sdk::config;
use souk_sdk::money::Money;

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

pub fn list() -> Result<String, String> {
    let currency = config::shop().currency;
    let of_zone = |zone: &Zone| {
        let countries = zone.countries.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(" ");
        let more = if zone.countries.len() > 8 { format!(" and {} more", zone.countries.len() - 8) } else { String::new() };
        let ways = zone.methods.iter().map(|way| format!("  {}", shown(way, &currency)));
        std::iter::once(format!("{} ({countries}{more})", zone.id)).chain(ways).collect::<Vec<_>>()
    };
    Ok(zones()?.zones.iter().flat_map(of_zone).collect::<Vec<_>>().join("\n"))
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
        assert!(listed.starts_with("mainland (CN)\n  standard: 15.00 CNY\n  express") && listed.contains("and 22 more"), "{listed}");
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
