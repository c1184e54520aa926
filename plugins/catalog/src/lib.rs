//! What the shop sells: exports `souk:commerce/catalog`, and the commands that
//! import and export it. Knows no other plugin.

mod document;
mod import;
mod project;
mod store;
mod table;
#[cfg(test)]
mod tests;

use souk_sdk::commerce::catalog::{self, Category, Listing, Product, ProductSummary, Sellable, Sort};
use souk_sdk::commerce::types::Page;
use souk_sdk::config;
use souk_sdk::host::command_handler;

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

impl command_handler::Guest for Catalog {
    fn run(name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let dry_run = argument("dry-run").is_some_and(|value| value != "false");
        match name.as_str() {
            "import-catalogue" => answer(&import::catalogue(&input, dry_run)?),
            "import-products" => answer(&import::products(&input, dry_run)?),
            "export-products" => export(),
            other => Err(format!("catalog has no command `{other}`")),
        }
    }
}

fn export() -> Result<Vec<u8>, String> {
    let shop = config::shop();
    let mut last: Option<String> = None;
    let pages = std::iter::from_fn(move || {
        let handles = store::handles(last.as_deref(), 500);
        last = handles.last().cloned();
        (!handles.is_empty()).then_some(handles)
    });
    let products = pages.flatten().filter_map(|handle| store::stored(&handle)).map(|stored| stored.product);
    table::write(products, &table::Shop { currency: &shop.currency, locales: &shop.locales }).map_err(|error| error.to_string())
}

/// A refused import is an error, so that a script notices; its text is the report.
fn answer(report: &import::Report) -> Result<Vec<u8>, String> {
    let json = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
    if report.refused > 0 && !report.dry_run { Err(json) } else { Ok(json.into_bytes()) }
}

souk_sdk::export!(Catalog: commerce::catalog, host::command_handler);
