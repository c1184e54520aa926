//! Buy some, get more for less: provides `souk:extend/discount`. Applies by
//! itself, without a code.

mod rule;

use serde::Deserialize;
use souk_sdk::extend::discount::{self, Answer, Cart, Failure};
use souk_sdk::extend::types::FailureKind;
use souk_sdk::{clock, config};
use souk_sdk::host::command_handler;
use souk_sdk::storage::Collection;

use rule::Rule;

/// One document: every cart is held against all rules.
const RULES: Collection<Vec<Rule>> = Collection::new("rules", &[]);
const CURRENT: &str = "current";
const RULES_MAX: usize = 100;

struct BuyXGetY;

impl discount::Guest for BuyXGetY {
    fn propose(cart: Cart) -> Result<Vec<Answer>, Failure> {
        let failed = |error: souk_sdk::storage::CollectionError| Failure { provider: String::new(), kind: FailureKind::Failed, message: error.to_string() };
        let rules = RULES.get(CURRENT).map_err(failed)?.unwrap_or_default();
        Ok(rules.iter().filter_map(|rule| rule.propose(&cart)).map(Answer::Propose).collect())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    buy_x_get_y: Vec<serde_json::Value>,
}

impl command_handler::Guest for BuyXGetY {
    fn run(name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        let zone = config::shop().time_zone;
        match name.as_str() {
            "import-bxgy" => {}
            "export-bxgy" => {
                let rules = RULES.get(CURRENT).map_err(|error| error.to_string())?.unwrap_or_default();
                let rules = rules.iter().map(|rule| rule.written(&zone)).collect::<Result<Vec<_>, _>>()?;
                return serde_json::to_vec_pretty(&serde_json::json!({ "buy-x-get-y": rules })).map_err(|error| error.to_string());
            }
            "list-bxgy" => {
                let rules = RULES.get(CURRENT).map_err(|error| error.to_string())?.unwrap_or_default();
                return list(&rules, &arguments);
            }
            other => return Err(format!("discount-bxgy has no command `{other}`")),
        }
        let dry_run = arguments.iter().any(|(name, value)| name == "dry-run" && value != "false");
        let file: File = serde_json::from_slice(&input).map_err(|error| error.to_string())?;
        let (mut rules, mut faults): (Vec<Rule>, Vec<String>) = (Vec::new(), Vec::new());
        for (row, rule) in (1..).zip(file.buy_x_get_y) {
            match Rule::read(rule, &zone) {
                Ok(rule) if rules.iter().any(|known| known.id == rule.id) => faults.push(format!("rule {row}: the id {} is there twice", rule.id)),
                Ok(rule) => rules.push(rule),
                Err(fault) => faults.push(format!("rule {row}: {fault}")),
            }
        }
        if rules.len() > RULES_MAX {
            faults.push(format!("there are {} rules: at most {RULES_MAX} are held against a cart", rules.len()));
        }
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        if !dry_run {
            RULES.put(CURRENT, &rules).map_err(|error| error.to_string())?;
        }
        Ok(serde_json::json!({ "rules": rules.len(), "dry-run": dry_run }).to_string().into_bytes())
    }
}

fn list(rules: &[Rule], arguments: &[(String, String)]) -> Result<Vec<u8>, String> {
    let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
    let limit = argument("limit").map_or(Ok(RULES_MAX), str::parse).map_err(|_| "limit: give a number".to_owned())?;
    let seen = match argument("after") {
        Some(after) => rules.iter().position(|rule| rule.id == after).ok_or_else(|| format!("after: there is no rule `{after}`: begin anew without it"))? + 1,
        None => 0,
    };
    let now_ms = clock::now_ms() as i64;
    let rows: Vec<rule::Row> = rules[seen..].iter().take(limit).map(|rule| rule.row(now_ms)).collect();
    serde_json::to_vec_pretty(&rows).map_err(|error| error.to_string())
}

souk_sdk::export!(BuyXGetY: extend::discount, host::command_handler);
