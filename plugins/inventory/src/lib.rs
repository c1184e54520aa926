//! Stock: exports `souk:commerce/inventory`, `counted-holds`, `commitments` and `stock-counts`, and the commands that set and
//! verify it. Knows skus, and nothing else of what is sold.

mod counts;
mod policy;
mod stock;
#[cfg(test)]
mod tests;

use souk_sdk::commerce::commitments::{self, Count};
use souk_sdk::commerce::counted_holds;
use souk_sdk::commerce::inventory::{self, Line, Shortage};
use souk_sdk::commerce::stock_counts::Policy;
use souk_sdk::host::{command_handler, data_migrate};
use souk_sdk::{config, jobs};

use counts::Counts;

use stock::Counting;

config! {
    /// What the retailer can change.
    struct Settings {
        /// After so long a hold that is not paid ends, however often it is extended.
        hold_minutes_max: u32 = 120, in 30..=10100;
        /// So many units of all skus may be held by plugins that do not count what they hold; 0 is no limit,
        uncounted_units_max: u32 = 200;
        /// and of each sku this part of what is not sold, but always as many as the next setting says.
        uncounted_percent_per_sku_max: u32 = 50, in 1..=100;
        uncounted_units_per_sku_min: u32 = 20;
    }
}

impl Settings {
    fn hold_ms_max(&self) -> u64 {
        u64::from(self.hold_minutes_max) * 60 * 1_000
    }

    fn uncounted_max(&self) -> i64 {
        if self.uncounted_units_max == 0 { i64::MAX } else { self.uncounted_units_max.into() }
    }

    /// Of a sku of which so many are not sold.
    fn uncounted_of_sku_max(&self, unsold: i64) -> i64 {
        match self.uncounted_percent_per_sku_max {
            100 => i64::MAX,
            percent => (unsold.max(0).saturating_mul(percent.into()) / 100).max(self.uncounted_units_per_sku_min.into()),
        }
    }
}

struct Inventory;

impl inventory::Guest for Inventory {
    fn available(skus: Vec<String>) -> Vec<i64> {
        let left = |(sku, policy): (&String, Policy)| match policy {
            Policy::Deny => stock::available(sku),
            Policy::ContinueSelling | Policy::Untracked => stock::available(sku).max(policy::ENDLESS),
        };
        skus.iter().zip(policy::of(&skus)).map(left).collect()
    }

    fn reserve(id: String, lines: Vec<Line>, expires_ms: u64) -> Result<(), Vec<Shortage>> {
        stock::reserve(&id, &lines, expires_ms, Counting::Here)
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

impl counted_holds::Guest for Inventory {
    fn reserve(id: String, lines: Vec<Line>, expires_ms: u64) -> Result<(), Vec<Shortage>> {
        stock::reserve(&id, &lines, expires_ms, Counting::ByCaller)
    }
}

impl commitments::Guest for Inventory {
    fn counts(skus: Vec<String>) -> Vec<Count> {
        skus.iter().map(|sku| stock::count(sku)).collect()
    }

    fn ship(id: String) -> bool {
        stock::ship(&id)
    }

    fn keep(id: String) -> bool {
        stock::keep(&id)
    }
}

impl data_migrate::Guest for Inventory {
    fn migrate(cursor: String) -> Result<Option<String>, String> {
        Ok(stock::migrate(&cursor))
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
    fn run(name: String, arguments: Vec<(String, String)>, _input: Vec<u8>) -> Result<Vec<u8>, String> {
        let answer = match name.as_str() {
            "set-stock" => serde_json::to_string_pretty(&set_stock(&arguments)?),
            "verify-stock" => serde_json::to_string_pretty(&stock::verify()),
            other => return Err(format!("inventory has no command `{other}`")),
        };
        answer.map(String::into_bytes).map_err(|error| error.to_string())
    }
}

/// The four figures, as they are after it.
fn set_stock(arguments: &[(String, String)]) -> Result<serde_json::Value, String> {
    let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
    let is_set = |wanted: &str| argument(wanted).is_some_and(|value| value != "false");
    let sku = argument("sku").ok_or("give sku=SKU")?;
    let (counts, text) = match (argument("on-hand"), argument("available")) {
        (Some(_), Some(_)) => return Err("give on-hand=N or available=N, not both".into()),
        (Some(text), None) => (Counts::Shelf, Some(text)),
        (None, text) => (Counts::Available, text),
    };
    let is_new = !stock::is_known(sku);
    if is_new && !(text.is_some() && is_set("new")) {
        return Err(unknown(sku));
    }
    let quantity = text.map(|text| text.parse::<i64>().map_err(|_| format!("quantity: `{text:.60}` is not a quantity; use a whole number"))).transpose()?;
    let before = stock::count(sku);
    let dry_run = is_set("dry-run");
    if let Some(quantity) = quantity {
        counts::set_one(sku, Some((counts, quantity)), None, dry_run).map_err(|refusal| format!("{}; {}", refusal.problem, refusal.remedy))?;
    }
    let count = stock::count(sku);
    let mut shown = serde_json::json!({
        "sku": sku, "on-hand": count.on_hand, "reserved": count.reserved, "committed": count.committed, "available": count.available,
    });
    if let Some(quantity) = quantity {
        let delta = quantity - if counts == Counts::Shelf { before.on_hand } else { before.available };
        let from_to = |name: &str, before: i64| format!("{name} {before} → {}", before + delta);
        shown["changes"] = match delta {
            0 => "none".into(),
            _ => format!("{}, {}{}", from_to("on-hand", before.on_hand), from_to("available", before.available), if dry_run { " (a dry run: nothing is changed)" } else { "" }).into(),
        };
    }
    if is_new {
        shown["note"] = "new; whether a product has this sku is not checked here: look it up in the shop".into();
    }
    Ok(shown)
}

/// The catalogue asks for stock, so stock cannot ask the catalogue: what counts is whether anything was ever counted.
fn unknown(sku: &str) -> String {
    let meant = stock::nearest(sku).map_or_else(String::new, |near| format!(", did you mean `{near}`"));
    format!("nothing was ever counted of the sku `{sku}`{meant}? `souk list stock` shows all; new=true sets it all the same")
}

souk_sdk::export!(Inventory: commerce::inventory, commerce::counted_holds, commerce::commitments, commerce::stock_counts, host::job_handler, host::command_handler, host::data_migrate);
