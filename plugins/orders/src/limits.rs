//! How much the unpaid orders of one shopper may hold: of each session, e-mail
//! and network. Counters hold the limits whatever commits first, and make no two
//! orders conflict.
//!
//! An e-mail address is anybody's to type: it counts together with the network, or
//! with the session, so that nobody locks another out. A loopback or private
//! address is a proxy or an office, and no network: nothing is counted by it. What
//! a plugin drafts without saying for whom is counted for the plugin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::cart::Line;
use souk_sdk::commerce::unpaid_orders::{Holder, Limit};
use souk_sdk::limits::{self, Network, Tries};
use souk_sdk::storage::{self, Counter};
use souk_sdk::{crypto, entry};

use crate::must;
use crate::settings::Settings;

/// What a scope holds, as negative numbers: an add has a floor, and no ceiling.
const ORDERS: Counter = Counter::new("unpaid-orders");
const UNITS: Counter = Counter::new("unpaid-units");
/// By network and sku.
const SKUS: Counter = Counter::new("unpaid-skus");
/// How many skus a scope holds, and of how many more than its share.
const KINDS: Counter = Counter::new("unpaid-kinds");
const OVER_SHARE: Counter = Counter::new("unpaid-over-share");

/// By who had drafted them: each leaves documents behind.
static GIVEN_UP: Tries = Tries::new("given-up", 60 * 60 * 1_000);
static FREE: Tries = Tries::new("free-orders", 24 * 60 * 60 * 1_000);

/// What an order was counted under, until it is paid or given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    #[serde(default)]
    pub session: Option<String>,
    pub email: String,
    /// The e-mail together with the network, or else the session.
    #[serde(default)]
    pub email_here: Option<String>,
    /// None for a loopback or private address.
    #[serde(default)]
    pub network: Option<String>,
    /// The /48 of an address of version 6: one customer may have all of it.
    #[serde(default)]
    pub site: Option<String>,
    /// The network, whatever it is: an e-mail alone finds nobody's orders.
    #[serde(default)]
    pub peer: Option<String>,
    /// The calling plugin, where it knows neither address nor session.
    #[serde(default)]
    pub plugin: Option<String>,
    /// How many skus the network holds by this order, and of how many more than its share.
    #[serde(default)]
    pub skus: u32,
    #[serde(default)]
    pub over_share: u32,
}

impl Counted {
    pub fn of(holder: &Holder, email: &str, caller: &str) -> Self {
        let email = entry::mailbox(email);
        let session = holder.session.as_deref().filter(|session| !session.is_empty()).map(|session| name("s", session));
        let place = Network::of(&holder.address);
        let peer = place.as_ref().map(|place| name("n", &place.name));
        let network = peer.clone().filter(|_| place.as_ref().is_some_and(|place| place.is_public));
        let is_unknown = session.is_none() && peer.is_none();
        Self {
            email_here: network.as_ref().or(session.as_ref()).map(|here| name("e", &format!("{email} {here}"))),
            email: name("e", &email),
            site: place.and_then(|place| place.site).map(|site| name("n", &site)),
            plugin: is_unknown.then(|| name("p", caller)),
            session,
            network,
            peer,
            ..Self::default()
        }
    }

    /// By which orders of one shopper are found: what nobody else can say of themselves.
    pub fn shopper(&self) -> String {
        match (&self.session, self.peer.as_ref().or(self.network.as_ref()).or(self.plugin.as_ref())) {
            (Some(session), _) => session.clone(),
            (None, place) => format!("{}{}", self.email, place.map_or("", String::as_str)),
        }
    }

    /// By which each sku's share is counted: the widest network.
    fn sharer(&self) -> Option<&String> {
        self.site.as_ref().or(self.network.as_ref())
    }

    fn scopes(&self, settings: &Settings) -> Vec<Scope> {
        let scope = |key: &Option<String>, orders, units| key.clone().map(|key| Scope { key, orders, units });
        let all = [
            scope(&self.session, ("orders-per-session-max", settings.orders_per_session_max), ("units-per-session-max", settings.units_per_session_max)),
            scope(&self.email_here, ("orders-per-email-max", settings.orders_per_email_max), ("units-per-email-max", settings.units_per_email_max)),
            scope(&self.network, ("orders-per-network-max", settings.orders_per_network_max), ("units-per-network-max", settings.units_per_network_max)),
            scope(&self.plugin, ("orders-per-plugin-max", settings.orders_per_plugin_max), ("units-per-plugin-max", settings.units_per_plugin_max)),
            scope(&self.site, ("orders-per-network-max", settings.of_site(settings.orders_per_network_max)), ("units-per-network-max", settings.of_site(settings.units_per_network_max))),
        ];
        all.into_iter().flatten().collect()
    }

    fn tried(&self, most: &Most, settings: &Settings) -> Vec<(&'static str, u32, limits::Scope)> {
        let scope = |kind: char, key: &Option<String>, (name, most): (&'static str, u32)| key.as_ref().map(|key| (name, most, limits::Scope::new(kind, key, most)));
        let of_site = (most.of_network.0, settings.of_site(most.of_network.1));
        let all = [
            scope('s', &self.session, most.of_session),
            scope('n', &self.network, most.of_network),
            scope('w', &self.site, of_site),
            scope('p', &self.plugin, most.of_network),
        ];
        all.into_iter().flatten().collect()
    }

    /// By which skus are counted, with how many times what a network may hold.
    fn networks(&self, settings: &Settings) -> Vec<(&String, u32)> {
        let site = self.site.iter().map(|site| (site, settings.networks_per_site_max));
        self.network.iter().map(|network| (network, 1)).chain(site).collect()
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

/// By sku.
pub fn units(lines: &[Line]) -> BTreeMap<String, i64> {
    let mut units = BTreeMap::new();
    for line in lines {
        *units.entry(line.sku.clone()).or_default() += i64::from(line.quantity);
    }
    units
}

/// What was counted of an order so far: all of it is taken back where a limit refuses.
#[derive(Default)]
struct Tally(Vec<(Counter, String, i64)>);

impl Tally {
    /// Whether the scope holds no more than `most` then; 0 is no limit.
    fn add(&mut self, counter: Counter, key: String, quantity: i64, most: i64) -> bool {
        // Where a limit was lowered meanwhile, what adds nothing is not refused.
        if quantity == 0 {
            return true;
        }
        let floor = if most == 0 { i64::MIN } else { -most };
        self.add_to_floor(counter, key, quantity, floor)
    }

    fn add_to_floor(&mut self, counter: Counter, key: String, quantity: i64, floor: i64) -> bool {
        match counter.add_not_below(&key, -quantity, floor) {
            Ok(_) => self.0.push((counter, key, quantity)),
            Err(storage::Error::BelowFloor(_)) => return false,
            Err(error) => must(Err(error)),
        }
        true
    }

    /// The unit may well commit: the caller decides what a limit means.
    fn take_back(self) {
        for (counter, key, quantity) in self.0 {
            must(counter.add(&key, quantity));
        }
    }
}

/// Counts an order, or says which limit it would pass and counts nothing.
/// `stock` is what there is of each sku that no paid order has.
pub fn take(counted: &mut Counted, units: &BTreeMap<String, i64>, stock: impl Fn(&str) -> i64, settings: &Settings) -> Result<(), Limit> {
    let mut tally = Tally::default();
    let taken = take_all(counted, units, stock, settings, &mut tally);
    if taken.is_err() {
        tally.take_back();
    }
    taken
}

/// How often something may be done, by name of the setting.
struct Most {
    of_session: (&'static str, u32),
    of_network: (&'static str, u32),
}

/// Which orders are counted as often as they come, whatever becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Often {
    /// Drafted, and not paid.
    GivenUp,
    /// Of goods that cost nothing: nobody pays, so they hold nothing that a limit on unpaid orders would see.
    Free,
}

impl Often {
    fn tries(self) -> &'static Tries {
        match self {
            Self::GivenUp => &GIVEN_UP,
            Self::Free => &FREE,
        }
    }

    fn scopes(self, counted: &Counted, settings: &Settings) -> Vec<(&'static str, u32, limits::Scope)> {
        let most = match self {
            Self::GivenUp => Most {
                of_session: ("given-up-per-session-max", settings.given_up_per_session_max),
                of_network: ("given-up-per-network-max", settings.given_up_per_network_max),
            },
            Self::Free => Most {
                of_session: ("free-orders-per-session-max", settings.free_orders_per_session_max),
                of_network: ("free-orders-per-network-max", settings.free_orders_per_network_max),
            },
        };
        counted.tried(&most, settings)
    }

    /// The limit that is reached.
    pub fn limit(self, counted: &Counted, settings: &Settings) -> Option<Limit> {
        let reached = |scope: &limits::Scope| must(self.tries().wait_s(std::slice::from_ref(scope))).is_some();
        let (name, most, _) = self.scopes(counted, settings).into_iter().find(|(.., scope)| reached(scope))?;
        Some(Limit { name: name.into(), most: most.into(), sku: None })
    }

    pub fn note(self, counted: &Counted, settings: &Settings) {
        let scopes: Vec<limits::Scope> = self.scopes(counted, settings).into_iter().map(|(.., scope)| scope).collect();
        must(self.tries().note(&scopes));
    }
}

fn take_all(counted: &mut Counted, units: &BTreeMap<String, i64>, stock: impl Fn(&str) -> i64, settings: &Settings, tally: &mut Tally) -> Result<(), Limit> {
    let total: i64 = units.values().sum();
    let limit = |name: &str, most: u32| Limit { name: name.into(), most: most.into(), sku: None };
    let within = |fits: bool, limit: Limit| if fits { Ok(()) } else { Err(limit) };
    for Scope { key, orders, units } in counted.scopes(settings) {
        within(tally.add(ORDERS, key.clone(), 1, orders.1.into()), limit(orders.0, orders.1))?;
        within(tally.add(UNITS, key, total, units.1.into()), limit(units.0, units.1))?;
    }
    let over_share = take_skus(counted, units, stock, settings, tally)?;
    let skus = u32::try_from(units.len()).unwrap_or(u32::MAX);
    for (key, times) in counted.networks(settings) {
        let most = settings.skus_per_network_max.saturating_mul(times);
        within(tally.add(KINDS, key.clone(), skus.into(), most.into()), limit("skus-per-network-max", most))?;
        let most = settings.skus_over_share_per_network_max.saturating_mul(times);
        within(tally.add(OVER_SHARE, key.clone(), over_share.into(), most.into()), limit("skus-over-share-per-network-max", most))?;
    }
    (counted.skus, counted.over_share) = (skus, over_share);
    Ok(())
}

/// Of how many skus the network holds more than its share now: the last pieces
/// are sold like any others, but not those of the whole shop to one network.
fn take_skus(counted: &Counted, units: &BTreeMap<String, i64>, stock: impl Fn(&str) -> i64, settings: &Settings, tally: &mut Tally) -> Result<u32, Limit> {
    let mut over_share = 0;
    let Some(sharer) = counted.sharer() else { return Ok(over_share) };
    for (sku, &quantity) in units {
        let key = || format!("{sharer}/{sku}");
        if settings.sku_percent_per_network_max == 100 {
            tally.add(SKUS, key(), quantity, 0);
            continue;
        }
        let share = stock(sku).max(0).saturating_mul(settings.sku_percent_per_network_max.into()) / 100;
        if tally.add_to_floor(SKUS, key(), quantity, -share) {
            continue;
        }
        let most = share.max(settings.sku_units_per_network_min.into());
        if !tally.add(SKUS, key(), quantity, most) {
            return Err(Limit { name: "sku-percent-per-network-max".into(), most: most.try_into().unwrap_or_default(), sku: Some(sku.clone()) });
        }
        over_share += 1;
    }
    Ok(over_share)
}

/// The order is paid or given up.
pub fn give_back(counted: &Counted, units: &BTreeMap<String, i64>, settings: &Settings) {
    let total: i64 = units.values().sum();
    for scope in counted.scopes(settings) {
        must(ORDERS.add(&scope.key, 1));
        must(UNITS.add(&scope.key, total));
    }
    for (key, _) in counted.networks(settings) {
        must(KINDS.add(key, counted.skus.into()));
        must(OVER_SHARE.add(key, counted.over_share.into()));
    }
    if let Some(sharer) = counted.sharer() {
        for (sku, quantity) in units {
            must(SKUS.add(&format!("{sharer}/{sku}"), *quantity));
        }
    }
}
