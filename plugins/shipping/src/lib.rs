//! Delivery: exports `souk:commerce/shipping` and the command that loads its
//! zones. [`zones`] has the rules; here they are stored and asked.

mod zones;

use souk_sdk::commerce::shipping::{self, Method, Parcel};
use souk_sdk::commerce::types::Address;
use souk_sdk::host::command_handler;
use souk_sdk::storage::{self, Collection, CollectionError};
use souk_sdk::{config, log};

use zones::{ELSEWHERE, Way, Zones, is_country};

/// What can be had in a country, by its code or [`ELSEWHERE`]: a question reads this alone, however many zones there are.
const WAYS: Collection<Vec<Way>> = Collection::new("ways", &[]);
/// What shoppers choose from, in one document.
const COUNTRIES: Collection<Vec<String>> = Collection::new("countries", &[]);
const OFFERED: &str = "offered";
const COUNTRIES_MAX: u32 = 1_000;

struct Shipping;

impl shipping::Guest for Shipping {
    fn methods(destination: Address, parcel: Parcel, locale: String) -> Vec<Method> {
        zones::methods(&ways(&destination.country), &parcel, &config::shop().currency, &locale)
    }

    fn countries() -> Vec<String> {
        offered()
    }
}

impl command_handler::Guest for Shipping {
    fn run(name: String, _: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        if name != "import-shipping" {
            return Err(format!("shipping has no command `{name}`"));
        }
        let zones = Zones::read(&input)?;
        replace(&zones).map_err(|error| error.to_string())?;
        Ok(format!("{} delivery zones imported", zones.zones.len()).into_bytes())
    }
}

fn replace(zones: &Zones) -> Result<(), CollectionError> {
    for (country, _) in WAYS.scan(&storage::after(None), COUNTRIES_MAX, false)? {
        WAYS.delete(&country)?;
    }
    for zone in &zones.zones {
        zone.countries.iter().try_for_each(|country| WAYS.put(country, &zone.methods))?;
    }
    COUNTRIES.put(OFFERED, &zones.countries())
}

fn ways(country: &str) -> Vec<Way> {
    let of = |country: &str| must(WAYS.get(country));
    let ways = if is_country(country) { of(country) } else { None };
    ways.or_else(|| of(ELSEWHERE)).unwrap_or_else(|| {
        // Either nothing is delivered there, or nowhere.
        offered();
        Vec::new()
    })
}

fn offered() -> Vec<String> {
    must(COUNTRIES.get(OFFERED)).unwrap_or_else(|| {
        log::error!("no delivery zones: run `import-shipping`; nothing can be delivered until then");
        Vec::new()
    })
}

/// The unit cannot go on without storage; the interface has no error for it.
fn must<T>(result: Result<T, CollectionError>) -> T {
    result.unwrap_or_else(|error| panic!("delivery zones: {error}"))
}

souk_sdk::export!(Shipping: commerce::shipping, host::command_handler);

#[cfg(test)]
mod tests {
    use souk_sdk::commerce::shipping::Guest as _;
    use souk_sdk::host::command_handler::Guest as _;
    use souk_sdk::money::Money;
    use souk_sdk::testing;

    use super::*;

    #[test]
    fn nothing_is_delivered_before_zones_are_imported() {
        assert!(Shipping::countries().is_empty());
        assert!(testing::log()[0].1.contains("import-shipping"));
        let file = include_bytes!("../../../store-data/shipping.json");
        Shipping::run("import-shipping".into(), Vec::new(), file.to_vec()).unwrap();
        assert!(Shipping::countries().contains(&"CN".to_owned()));
    }

    fn ids(country: &str) -> Vec<String> {
        let nowhere = Address {
            country: country.into(),
            name: String::new(),
            phone: String::new(),
            company: String::new(),
            region: String::new(),
            city: String::new(),
            district: String::new(),
            street: String::new(),
            postal_code: String::new(),
        };
        let parcel = Parcel { weight_g: 1, subtotal: Money::new(1, "CNY") };
        Shipping::methods(nowhere, parcel, "en".into()).into_iter().map(|method| method.id).collect()
    }

    fn import(json: &str) -> Result<Vec<u8>, String> {
        Shipping::run("import-shipping".into(), Vec::new(), json.into())
    }

    #[test]
    fn an_import_leaves_nothing_of_the_one_before() {
        let shipped = include_str!("../../../store-data/shipping.json");
        import(shipped).unwrap();
        assert_eq!(ids("HK"), ["regional"]);
        assert_eq!((ids("AQ"), ids(&"X".repeat(600)), ids("")), (Vec::new(), Vec::new(), Vec::new()), "nothing is delivered there");

        import(&shipped.replace("\"HK\", ", "")).unwrap();
        assert!(ids("HK").is_empty() && !Shipping::countries().contains(&"HK".to_owned()));

        import(&shipped.replace("[\"HK\", \"MO\", \"TW\"]", "[\"*\"]")).unwrap();
        assert_eq!((ids("AQ"), ids(&"X".repeat(600)), ids("CN")), (vec!["regional".into()], vec!["regional".into()], vec!["standard".into(), "express".into()]));
        assert!(import("{}").is_err());
        assert_eq!(ids("AQ"), ["regional"], "a fault changes nothing");
    }
}
