//! How much the unpaid orders of one shopper may hold: of each session, e-mail
//! and network. Counters hold the limits whatever commits first, and make no two
//! orders conflict.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::cart::Line;
use souk_sdk::commerce::unpaid_orders::{Holder, Limit};
use souk_sdk::crypto;
use souk_sdk::storage::{self, Counter};

use crate::must;
use crate::settings::Settings;

/// What a scope holds, as negative numbers: an add has a floor, and no ceiling.
const ORDERS: Counter = Counter::new("unpaid-orders");
const UNITS: Counter = Counter::new("unpaid-units");
/// By network and sku.
const SKUS: Counter = Counter::new("unpaid-skus");

/// What an order was counted under, until it is paid or given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    #[serde(default)]
    pub session: Option<String>,
    pub email: String,
    #[serde(default)]
    pub network: Option<String>,
}

impl Counted {
    pub fn of(holder: &Holder, email: &str) -> Self {
        Self {
            session: holder.session.as_deref().filter(|session| !session.is_empty()).map(|session| name("s", session)),
            email: name("e", &email.trim().to_lowercase()),
            network: network(&holder.address).map(|network| name("n", &network)),
        }
    }

    /// By which orders of one shopper are found: what nobody else can say of themselves.
    pub fn shopper(&self) -> String {
        match (&self.session, &self.network) {
            (Some(session), _) => session.clone(),
            (None, network) => format!("{}{}", self.email, network.as_deref().unwrap_or_default()),
        }
    }

    fn scopes(&self, settings: &Settings) -> Vec<Scope> {
        let scope = |key: &Option<String>, orders: (&'static str, u32), units: (&'static str, u32)| key.clone().map(|key| Scope { key, orders, units });
        let all = [
            scope(&self.session, ("orders-per-session-max", settings.orders_per_session_max), ("units-per-session-max", settings.units_per_session_max)),
            scope(&Some(self.email.clone()), ("orders-per-email-max", settings.orders_per_email_max), ("units-per-email-max", settings.units_per_email_max)),
            scope(&self.network, ("orders-per-network-max", settings.orders_per_network_max), ("units-per-network-max", settings.units_per_network_max)),
        ];
        all.into_iter().flatten().collect()
    }
}

struct Scope {
    key: String,
    orders: (&'static str, u32),
    units: (&'static str, u32),
}

/// Nothing that names a person is in a key.
fn name(kind: &str, value: &str) -> String {
    let digest = crypto::digest(value.as_bytes());
    digest.iter().take(12).fold(format!("{kind}-"), |text, byte| text + &format!("{byte:02x}"))
}

/// One household or office: an address of version 4, the /64 of one of version 6.
fn network(address: &str) -> Option<String> {
    match address.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(address) => Some(address.to_string()),
        IpAddr::V6(address) => Some(address.segments()[..4].iter().map(|part| format!("{part:x}:")).collect()),
    }
}

/// By sku.
pub fn units(lines: &[Line]) -> BTreeMap<String, i64> {
    let mut units = BTreeMap::new();
    for line in lines {
        *units.entry(line.sku.clone()).or_default() += i64::from(line.quantity);
    }
    units
}

/// Counts an order, or says which limit it would pass and counts nothing.
/// `stock` is what there is of each sku that no paid order has.
pub fn take(counted: &Counted, units: &BTreeMap<String, i64>, stock: impl Fn(&str) -> i64, settings: &Settings) -> Result<(), Limit> {
    let total: i64 = units.values().sum();
    let mut wanted: Vec<(Counter, String, i64, Limit)> = Vec::new();
    let limit = |name: &str, most: i64, sku: Option<&String>| Limit { name: name.into(), most: most.try_into().unwrap_or_default(), sku: sku.cloned() };
    for Scope { key, orders, units } in counted.scopes(settings) {
        wanted.push((ORDERS, key.clone(), 1, limit(orders.0, orders.1.into(), None)));
        wanted.push((UNITS, key, total, limit(units.0, units.1.into(), None)));
    }
    for (sku, &quantity) in units {
        let share = stock(sku).max(0) * i64::from(settings.sku_percent_per_network_max) / 100;
        let most = if settings.sku_percent_per_network_max == 100 { 0 } else { share.max(settings.sku_units_per_network_min.into()) };
        if let Some(network) = &counted.network {
            wanted.push((SKUS, format!("{network}/{sku}"), quantity, limit("sku-percent-per-network-max", most, Some(sku))));
        }
    }
    for (place, (counter, key, quantity, limit)) in wanted.iter().enumerate() {
        let floor = if limit.most == 0 { i64::MIN } else { -(limit.most as i64) };
        match counter.add_not_below(key, -quantity, floor) {
            Ok(_) => {}
            Err(storage::Error::BelowFloor(_)) => {
                // The unit may well commit: the caller decides what a limit means.
                for (counter, key, quantity, _) in &wanted[..place] {
                    must(counter.add(key, *quantity));
                }
                return Err(limit.clone());
            }
            Err(error) => must(Err(error)),
        }
    }
    Ok(())
}

/// The order is paid or given up.
pub fn give_back(counted: &Counted, units: &BTreeMap<String, i64>, settings: &Settings) {
    let total: i64 = units.values().sum();
    for scope in counted.scopes(settings) {
        must(ORDERS.add(&scope.key, 1));
        must(UNITS.add(&scope.key, total));
    }
    if let Some(network) = &counted.network {
        for (sku, quantity) in units {
            must(SKUS.add(&format!("{network}/{sku}"), *quantity));
        }
    }
}
