//! Tax: exports `souk:commerce/tax` and the command that loads its table.
//! [`table`] has the rules; here they are stored and asked.

mod table;

use souk_sdk::commerce::tax::{self, Line, TaxLine};
use souk_sdk::commerce::types::Address;
use souk_sdk::host::command_handler;
use souk_sdk::storage::Collection;
use souk_sdk::{config, log};

use table::Table;

/// One document: a quote reads it once.
const TABLES: Collection<Table> = Collection::new("tables", &[]);
const CURRENT: &str = "current";

struct Tax;

impl tax::Guest for Tax {
    fn quote(lines: Vec<Line>, destination: Option<Address>, locale: String) -> Vec<TaxLine> {
        // The unit cannot go on without storage; the interface has no error for it.
        let table = TABLES.get(CURRENT).unwrap_or_else(|error| panic!("tax table: {error}"));
        let Some(table) = table else {
            log::error!("no tax table: run `import-tax`; nothing is taxed until then");
            return Vec::new();
        };
        let country = destination.map_or_else(|| config::shop().country, |address| address.country);
        table.quote(&lines, &country, &locale)
    }
}

impl command_handler::Guest for Tax {
    fn run(name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        match name.as_str() {
            "import-tax" => {}
            "export-tax" => {
                let table = TABLES.get(CURRENT).map_err(|error| error.to_string())?;
                return table.map_or(Ok(Vec::new()), |table| serde_json::to_vec_pretty(&table).map_err(|error| error.to_string()));
            }
            other => return Err(format!("tax has no command `{other}`")),
        }
        let table = Table::read(&input)?;
        if arguments.iter().any(|(name, value)| name == "dry-run" && value != "false") {
            return Ok(format!("{} tax zones would be imported", table.zones.len()).into_bytes());
        }
        TABLES.put(CURRENT, &table).map_err(|error| error.to_string())?;
        Ok(format!("{} tax zones imported", table.zones.len()).into_bytes())
    }
}

souk_sdk::export!(Tax: commerce::tax, host::command_handler);

#[cfg(test)]
mod tests {
    use souk_sdk::commerce::tax::Guest as _;
    use souk_sdk::host::command_handler::Guest as _;
    use souk_sdk::money::Money;
    use souk_sdk::testing;

    use super::*;

    fn tea() -> Vec<Line> {
        vec![Line { id: "1".into(), tax_class: String::new(), amount: Money::new(11_300, "CNY") }]
    }

    #[test]
    fn without_an_address_the_shops_country_counts() {
        let file = include_bytes!("../../../store-data/tax.json");
        Tax::run("import-tax".into(), Vec::new(), file.to_vec()).unwrap();
        let dry = vec![("dry-run".to_owned(), "true".to_owned())];
        Tax::run("import-tax".into(), dry, br#"{"zones": []}"#.to_vec()).ok();
        let taxes = Tax::quote(tea(), None, "zh-CN".into());
        assert_eq!((taxes[0].amount.amount, taxes[0].name.as_str()), (1_300, "增值税"));
    }

    #[test]
    fn without_a_table_nothing_is_quoted_and_the_operator_is_told() {
        assert!(Tax::quote(tea(), None, "en".into()).is_empty());
        assert!(testing::log()[0].1.contains("import-tax"));
    }
}
