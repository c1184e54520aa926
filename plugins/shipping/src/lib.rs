//! Delivery: exports `souk:commerce/shipping` and the command that loads its
//! zones. [`zones`] has the rules; here they are stored and asked.

mod rates;
mod zones;

use souk_sdk::commerce::shipping::{self, Method, Parcel};
use souk_sdk::commerce::types::Address;
use souk_sdk::host::{command_handler, data_migrate};
use souk_sdk::storage::{self, Collection, CollectionError};
use souk_sdk::{config, data, log};

use zones::{ELSEWHERE, Way, Zones, is_country};

/// As they were imported, in one document.
const ZONES: Collection<Zones> = Collection::new("zones", &[]);
const CURRENT: &str = "current";
/// What can be had in a country, by its code or [`ELSEWHERE`]: a question reads this alone, however many zones there are. Made of
/// the zones since the second form of the documents.
const WAYS: Collection<Vec<Way>> = Collection::new("ways", &[]);
/// What shoppers choose from, made of the zones as well.
const COUNTRIES: Collection<Vec<String>> = Collection::new("countries", &[]);
const OFFERED: &str = "offered";
/// There are 676 codes of two letters.
const COUNTRIES_MAX: u32 = 1_000;

struct Shipping;

impl shipping::Guest for Shipping {
    fn methods(destination: Address, parcel: Parcel, locale: String) -> Vec<Method> {
        zones::methods(&must(ways(&destination.country)), &parcel, &config::shop().currency, &locale)
    }

    fn countries() -> Vec<String> {
        must(countries())
    }
}

impl command_handler::Guest for Shipping {
    fn run(name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        match name.as_str() {
            "import-shipping" => {}
            "export-shipping" => {
                let zones = ZONES.get(CURRENT).map_err(|error| error.to_string())?;
                return zones.map_or(Ok(Vec::new()), |zones| serde_json::to_vec_pretty(&zones).map_err(|error| error.to_string()));
            }
            "set-shipping-rate" => return rates::set(&arguments).map(String::into_bytes),
            "list-shipping-rates" => return rates::list(&arguments),
            other => return Err(format!("shipping has no command `{other}`")),
        }
        let zones = Zones::read(&input)?;
        if arguments.iter().any(|(name, value)| name == "dry-run" && value != "false") {
            return Ok(format!("{} delivery zones would be imported", zones.zones.len()).into_bytes());
        }
        replace(&zones).map_err(|error| error.to_string())?;
        Ok(format!("{} delivery zones imported", zones.zones.len()).into_bytes())
    }
}

impl data_migrate::Guest for Shipping {
    /// All at once: there is little of it.
    fn migrate(_: String) -> Result<Option<String>, String> {
        let rewritten = ZONES.get(CURRENT).and_then(|zones| zones.map_or(Ok(()), |zones| replace(&zones)));
        rewritten.map(|()| None).map_err(|error| error.to_string())
    }
}

fn replace(zones: &Zones) -> Result<(), CollectionError> {
    for (country, _) in WAYS.scan(&storage::after(None), COUNTRIES_MAX, false)? {
        WAYS.delete(&country)?;
    }
    COUNTRIES.delete(OFFERED)?;
    // The unit cannot go on without storage.
    if data::form().unwrap_or_else(|error| panic!("delivery zones: {error}")) >= 2 {
        for zone in &zones.zones {
            zone.countries.iter().try_for_each(|country| WAYS.put(country, &zone.methods))?;
        }
        COUNTRIES.put(OFFERED, &zones.countries())?;
    }
    ZONES.put(CURRENT, zones)
}

fn ways(country: &str) -> Result<Vec<Way>, CollectionError> {
    if is_country(country)
        && let Some(ways) = WAYS.get(country)?
    {
        return Ok(ways);
    }
    if let Some(ways) = WAYS.get(ELSEWHERE)? {
        return Ok(ways);
    }
    // In documents of the first form, and where nothing is delivered to.
    Ok(zones()?.map_or_else(Vec::new, |zones| zones.into_ways(country)))
}

fn countries() -> Result<Vec<String>, CollectionError> {
    if let Some(offered) = COUNTRIES.get(OFFERED)? {
        return Ok(offered);
    }
    Ok(zones()?.map_or_else(Vec::new, |zones| zones.countries()))
}

fn zones() -> Result<Option<Zones>, CollectionError> {
    let zones = ZONES.get(CURRENT)?;
    if zones.is_none() {
        log::error!("no delivery zones: run `import-shipping`; nothing can be delivered until then");
    }
    Ok(zones)
}

/// The unit cannot go on without storage; the interface has no error for it.
fn must<T>(result: Result<T, CollectionError>) -> T {
    result.unwrap_or_else(|error| panic!("delivery zones: {error}"))
}

souk_sdk::export!(Shipping: commerce::shipping, host::command_handler, host::data_migrate);

#[cfg(test)]
mod tests {
    use souk_sdk::commerce::shipping::Guest as _;
    use souk_sdk::host::command_handler::Guest as _;
    use souk_sdk::host::data_migrate::Guest as _;
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
        for form in [1, 2] {
            testing::set_form(form);
            import(shipped).unwrap();
            assert_eq!(ids("HK"), ["regional"]);
            for nowhere in ["AQ", "", &"X".repeat(600)] {
                assert!(ids(nowhere).is_empty(), "nothing is delivered there");
            }

            import(&shipped.replace("\"HK\", ", "")).unwrap();
            assert!(ids("HK").is_empty() && !Shipping::countries().contains(&"HK".to_owned()));

            import(&shipped.replace("[\"HK\", \"MO\", \"TW\"]", "[\"*\"]")).unwrap();
            for elsewhere in ["AQ", "", &"X".repeat(600)] {
                assert_eq!(ids(elsewhere), ["regional"]);
            }
            assert_eq!(ids("CN"), ["standard", "express"]);
            assert!(Shipping::countries().contains(&"BR".to_owned()));
            let dry = vec![("dry-run".to_owned(), "true".to_owned())];
            Shipping::run("import-shipping".into(), dry, shipped.into()).unwrap();
            assert_eq!(ids("AQ"), ["regional"], "a dry run changes nothing");
            assert!(import("{}").is_err());
            assert_eq!(ids("AQ"), ["regional"], "a fault changes nothing");
        }
    }

    #[test]
    fn both_forms_answer_the_same_and_lead_to_each_other() {
        testing::set_form(1);
        import(include_str!("../../../store-data/shipping.json")).unwrap();
        let answers = || ["CN", "HK", "DE", "AQ"].map(ids).into_iter().chain([Shipping::countries()]).collect::<Vec<_>>();
        let by_country = || WAYS.scan(&storage::after(None), COUNTRIES_MAX, false).unwrap().len();
        let first = answers();
        for (form, stored) in [(2, 34), (1, 0), (2, 34)] {
            testing::set_form(form);
            assert_eq!(Shipping::migrate(String::new()), Ok(None));
            assert_eq!((answers(), by_country()), (first.clone(), stored), "form {form}");
        }
    }
}
