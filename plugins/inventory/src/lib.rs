//! Stock: exports `souk:commerce/inventory`, and the commands that set and
//! verify it. Knows skus, and nothing else of what is sold.

mod import;
mod stock;
#[cfg(test)]
mod tests;

use souk_sdk::commerce::inventory::{self, Line, Shortage};
use souk_sdk::host::command_handler;
use souk_sdk::jobs;

struct Inventory;

impl inventory::Guest for Inventory {
    fn available(skus: Vec<String>) -> Vec<i64> {
        skus.iter().map(|sku| stock::available(sku)).collect()
    }

    fn reserve(id: String, lines: Vec<Line>, expires_ms: u64) -> Result<(), Vec<Shortage>> {
        stock::reserve(&id, &lines, expires_ms)
    }

    fn extend(id: String, expires_ms: u64) -> bool {
        stock::extend(&id, expires_ms)
    }

    fn release(id: String) {
        stock::release(&id);
    }

    fn claim(id: String) -> bool {
        stock::claim(&id)
    }

    fn restock(id: String) -> bool {
        stock::restock(&id)
    }
}

impl jobs::Guest for Inventory {
    fn run(job: jobs::Job) -> Result<bool, String> {
        match job.name.as_str() {
            "expire" => stock::expire(&job.key),
            other => return Err(format!("inventory has no job `{other}`")),
        }
        Ok(false)
    }
}

impl command_handler::Guest for Inventory {
    fn run(name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        let dry_run = arguments.iter().any(|(name, value)| name == "dry-run" && value != "false");
        let answer = match name.as_str() {
            "import-stock" | "import-products-stock" => {
                let report = if name == "import-stock" { import::run(&input, dry_run)? } else { import::products(&input, dry_run)? };
                let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
                if report.refused > 0 && !dry_run {
                    // Rolls back the rows that were good.
                    return Err(json);
                }
                json
            }
            "verify-stock" => serde_json::to_string_pretty(&stock::verify()).map_err(|error| error.to_string())?,
            other => return Err(format!("inventory has no command `{other}`")),
        };
        Ok(answer.into_bytes())
    }
}

souk_sdk::export!(Inventory: commerce::inventory, host::job_handler, host::command_handler);
