//! Counts that come with products, and those that an operator gives one by one: exports
//! `souk:commerce/stock-counts`.

use souk_sdk::commerce::stock_counts::{self, Count, Outcome, Policy, Refusal, Stock};

use crate::{Inventory, policy, stock};

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// All that lies there: what is paid and not sent as well.
    Shelf,
    /// What may be sold.
    Available,
}

/// Far more than any warehouse, far less than 64 bits.
pub const QUANTITY_MAX: i64 = 1_000_000_000;

impl stock_counts::Guest for Inventory {
    fn set(counts: Vec<Count>, dry_run: bool) -> Vec<Outcome> {
        let set = |count: &Count| set_one(&count.sku, count.quantity.map(|quantity| (Counts::Shelf, quantity)), count.policy, dry_run);
        counts.iter().map(|count| set(count).unwrap_or_else(Outcome::Refused)).collect()
    }

    fn get(skus: Vec<String>) -> Vec<Stock> {
        let policies = policy::of(&skus);
        skus.iter().zip(policies).map(|(sku, policy)| Stock { quantity: if stock::is_sku(sku) { stock::on_hand(sku) } else { 0 }, policy }).collect()
    }
}

/// What is refused changes nothing.
pub fn set_one(sku: &str, quantity: Option<(Counts, i64)>, policy: Option<Policy>, dry_run: bool) -> Result<Outcome, Refusal> {
    let refuse = |problem: String, remedy: &str| Err(Refusal { problem, remedy: remedy.into() });
    if !stock::is_sku(sku) {
        return refuse(format!("`{sku}` is not a sku"), "use 1 to 100 ASCII characters without blanks");
    }
    let before = policy::of(&[sku.to_owned()]).first().copied().unwrap_or(Policy::Deny);
    let policy = policy.unwrap_or(before);
    let mut changes = policy != before;
    if let Some((counts, quantity)) = quantity {
        if quantity.abs() > QUANTITY_MAX {
            return refuse(format!("{quantity} is no quantity"), "use a whole number up to 10^9");
        }
        let (on_hand, available) = (stock::on_hand(sku), stock::available(sku));
        let held = on_hand - available;
        // What was oversold elsewhere is no promise that this shop breaks.
        let may_be_less = policy != Policy::Deny || (quantity < 0 && (held <= 0 || counts == Counts::Available));
        let too_few = |held: i64| refuse(format!("{held} are held for orders, {quantity} would be on hand"), "cancel orders first, or give at least what is held");
        if counts == Counts::Shelf && quantity < held && !may_be_less {
            return too_few(held);
        }
        changes |= quantity != if counts == Counts::Shelf { on_hand } else { available };
        if !dry_run {
            let set = match counts {
                _ if may_be_less => {
                    stock::put(sku, quantity - if counts == Counts::Shelf { on_hand } else { available });
                    Ok(())
                }
                Counts::Shelf => stock::set_on_hand(sku, quantity),
                Counts::Available => stock::set_available(sku, quantity),
            };
            if let Err(held) = set {
                return too_few(held);
            }
        }
    }
    if policy != before && !dry_run {
        policy::set(sku, policy);
    }
    Ok(if changes { Outcome::Changed } else { Outcome::Unchanged })
}
