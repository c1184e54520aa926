//! Delivery: exports `souk:commerce/shipping` and the command that loads its
//! zones. [`zones`] has the rules; here they are stored and asked.

mod zones;

use souk_sdk::commerce::shipping::{self, Method, Parcel};
use souk_sdk::commerce::types::Address;
use souk_sdk::host::command_handler;
use souk_sdk::storage::Collection;
use souk_sdk::{config, log};

use zones::Zones;

/// One document: a question reads it once.
const ZONES: Collection<Zones> = Collection::new("zones", &[]);
const CURRENT: &str = "current";

struct Shipping;

impl shipping::Guest for Shipping {
    fn methods(destination: Address, parcel: Parcel, locale: String) -> Vec<Method> {
        zones().map_or_else(Vec::new, |zones| zones.methods(&destination.country, &parcel, &config::shop().currency, &locale))
    }

    fn countries() -> Vec<String> {
        zones().map_or_else(Vec::new, |zones| zones.countries())
    }
}

impl command_handler::Guest for Shipping {
    fn run(name: String, _: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        if name != "import-shipping" {
            return Err(format!("shipping has no command `{name}`"));
        }
        let zones = Zones::read(&input)?;
        ZONES.put(CURRENT, &zones).map_err(|error| error.to_string())?;
        Ok(format!("{} delivery zones imported", zones.zones.len()).into_bytes())
    }
}

fn zones() -> Option<Zones> {
    // The unit cannot go on without storage; the interface has no error for it.
    let zones = ZONES.get(CURRENT).unwrap_or_else(|error| panic!("delivery zones: {error}"));
    if zones.is_none() {
        log::error!("no delivery zones: run `import-shipping`; nothing can be delivered until then");
    }
    zones
}

souk_sdk::export!(Shipping: commerce::shipping, host::command_handler);

#[cfg(test)]
mod tests {
    use souk_sdk::commerce::shipping::Guest as _;
    use souk_sdk::host::command_handler::Guest as _;
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
}
