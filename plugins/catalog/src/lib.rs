//! What the shop sells: exports `souk:commerce/catalog` and `catalog-records`, and the commands that
//! import and export it. What a file of products says of stock goes to the
//! inventory by `souk:commerce/stock-counts`, and what a piece costs now comes from
//! `souk:commerce/pricing`; it knows no other plugin.

mod categories;
mod changes;
mod current;
mod document;
mod html;
mod import;
mod list;
mod locations;
mod price;
mod project;
mod stock;
#[cfg(test)]
mod stock_tests;
mod store;
mod table;
#[cfg(test)]
mod tests;

use souk_sdk::commerce::catalog::{self, Category, Listing, Product, ProductSummary, Sellable, Sort};
use souk_sdk::commerce::catalog_records::{self, Identity, Status};
use souk_sdk::commerce::types::Page;
use souk_sdk::{clock, config, events, jobs};
use souk_sdk::host::{command_handler, data_migrate};
use souk_sdk::table::Table;

use stock::{Inventory, Shelf as _};

struct Catalog;

impl catalog::Guest for Catalog {
    fn get(handle: String, locale: String) -> Option<Product> {
        store::product(&handle, &locale)
    }

    fn summaries(handles: Vec<String>, locale: String) -> Vec<Option<ProductSummary>> {
        store::summaries(&handles, &locale)
    }

    fn browse(category: Option<String>, locale: String, sort: Sort, page: Page) -> Listing {
        store::browse(category.as_deref(), &locale, sort, page.offset, page.limit)
    }

    fn categories(locale: String) -> Vec<Category> {
        store::categories(&locale)
    }

    fn sellables(skus: Vec<String>, locale: String) -> Vec<Option<Sellable>> {
        store::sellables(&skus, &locale)
    }

    fn handles(after: Option<String>, limit: u32) -> Vec<String> {
        store::handles(after.as_deref().filter(|after| document::is_handle(after)), limit)
    }
}

impl catalog_records::Guest for Catalog {
    fn status_of(handle: String) -> Option<Status> {
        store::status_of(&handle)
    }

    fn identities(skus: Vec<String>, locale: String) -> Vec<Option<Identity>> {
        store::identities(&skus, &locale)
    }
}

impl command_handler::Guest for Catalog {
    fn run(name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let is_set = |wanted: &str| argument(wanted).is_some_and(|value| value != "false");
        let options = import::Options { dry_run: is_set("dry-run"), partial: is_set("partial"), prune: is_set("prune"), create: is_set("create"), encoding: argument("encoding") };
        match name.as_str() {
            "import-catalogue" => answer(&import::catalogue(&input, options, &Inventory)?, options),
            "import-categories" => answer(&categories::import(&input, options)?, options),
            "import-products" => {
                let table = Table::read(&input, options.encoding).map_err(|error| error.to_string())?;
                // Shopify's file of stock has no products to import.
                match locations::is_one(&table) {
                    true => answer(&stock::table(&table, options, &Inventory)?, options),
                    false => answer(&import::products(table, options, &Inventory)?, options),
                }
            }
            "import-stock" => answer(&stock::import(&input, options, &Inventory)?, options),
            "export-categories" => Ok(categories::export()),
            "export-products" => Ok(export()),
            "export-stock" => Ok(stock::export(&Inventory)),
            "list-products" => list::products(&arguments),
            "list-stock" => list::stock(&arguments, &|skus| Inventory.get(skus)),
            "set-price" => price::set(&arguments).map(String::into_bytes),
            other => Err(format!("catalog has no command `{other}`")),
        }
    }
}

/// Goes on with [`store::reprice`], whose place is the payload.
const REPRICE: &str = "reprice";

fn reprice(after: Option<&str>) -> Result<(), String> {
    let Some(last) = store::reprice(after) else { return Ok(()) };
    jobs::schedule_json(REPRICE, "", clock::now_ms(), &last).map_err(|error| format!("{error:?}"))
}

impl events::Guest for Catalog {
    /// `prices.changed`.
    fn handle(_: events::Event) -> Result<(), String> {
        reprice(None)
    }
}

impl jobs::Guest for Catalog {
    fn run(job: jobs::Job) -> Result<bool, String> {
        if job.name != REPRICE {
            return Err(format!("catalog has no job `{}`", job.name));
        }
        reprice(Some(&job.json::<String>()?)).map(|()| false)
    }
}

impl data_migrate::Guest for Catalog {
    /// The second form has statuses beside the same documents.
    fn migrate(_: String) -> Result<Option<String>, String> {
        if !store::knows_statuses() && store::has_statuses() {
            return Err("there are products that are not active, which the version before would sell: make them active or delete them first".into());
        }
        Ok(None)
    }
}

fn export() -> Vec<u8> {
    let shop = config::shop();
    let mut last: Option<String> = None;
    let pages = std::iter::from_fn(move || {
        let handles = store::all_handles(last.as_deref(), 500);
        last = handles.last().cloned();
        (!handles.is_empty()).then_some(handles)
    });
    let products = pages.flatten().filter_map(|handle| Some((store::stored(&handle)?.product, store::status(&handle))));
    table::write(products, &table::Shop { currency: &shop.currency, locales: &shop.locales })
}

/// What came of an import.
trait Told: serde::Serialize {
    fn refused(&self) -> u32;
}

impl Told for import::Report {
    fn refused(&self) -> u32 {
        self.refused
    }
}

impl Told for stock::Report {
    fn refused(&self) -> u32 {
        self.refused
    }
}

/// An import that changes nothing because of what is refused is an error, so
/// that a script notices; its text is the report.
fn answer(report: &impl Told, options: import::Options) -> Result<Vec<u8>, String> {
    let json = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
    if report.refused() > 0 && !options.dry_run && !options.partial { Err(json) } else { Ok(json.into_bytes()) }
}

souk_sdk::export!(Catalog: commerce::catalog, commerce::catalog_records, host::command_handler, host::event_handler, host::job_handler, host::data_migrate);
