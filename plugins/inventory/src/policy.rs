//! What happens at the end of a sku's stock. Stored is what is other than `deny`.

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::stock_counts::Policy;
use souk_sdk::pages;
use souk_sdk::storage::Collection;

use crate::stock::{is_sku, must};

const POLICIES: Collection<Beyond> = Collection::new("policies", &[]);
/// What is free to sell where stock does not end.
pub const ENDLESS: i64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Beyond {
    ContinueSelling,
    Untracked,
}

/// In the order asked.
pub fn of(skus: &[String]) -> Vec<Policy> {
    let known: Vec<String> = skus.iter().filter(|sku| is_sku(sku)).cloned().collect();
    let mut stored = known.chunks(1_000).flat_map(|chunk| must(POLICIES.get_many(chunk)));
    let policy = |sku: &String| match if is_sku(sku) { stored.next().flatten() } else { None } {
        None => Policy::Deny,
        Some(Beyond::ContinueSelling) => Policy::ContinueSelling,
        Some(Beyond::Untracked) => Policy::Untracked,
    };
    skus.iter().map(policy).collect()
}

pub fn sells_beyond(sku: &str) -> bool {
    is_sku(sku) && must(POLICIES.get(sku)).is_some()
}

pub fn set(sku: &str, policy: Policy) {
    match policy {
        Policy::Deny => must(POLICIES.delete(sku).map(drop)),
        Policy::ContinueSelling => must(POLICIES.put(sku, &Beyond::ContinueSelling)),
        Policy::Untracked => must(POLICIES.put(sku, &Beyond::Untracked)),
    }
    pages::invalidate(&[format!("stock:{sku}")]);
}
