//! How many codes may be tried in vain and how many carts made, by whom: settings
//! of the plugin.
//!
//! A loopback or private address is a proxy that is not configured, or an office:
//! all shoppers may have it. Codes that are tried from there have a wider limit, so
//! that one guest does not lock out the others as long as they are no machine;
//! carts have none.

use souk_sdk::commerce::shopper_carts::Client;
use souk_sdk::config;
use souk_sdk::limits::{Network, Scope, Tries};

use crate::must;

config! {
    /// What the retailer can change. 0 is no limit.
    struct Settings {
        /// So many codes that do not apply may be tried in half an hour, in one browser, or in one cart where there is no browser.
        codes_per_session_max: u32 = 20;
        /// An office shares one address: it is one network.
        codes_per_network_max: u32 = 200;
        /// From an address that all shoppers may have: a proxy that is not in `trusted-proxies`.
        codes_per_private_network_max: u32 = 2000;
        /// So many carts may be made in an hour. A programme that makes carts for all its shoppers needs more.
        carts_per_network_max: u32 = 1000;
        /// A /48 of version 6 may do as much as so many networks.
        networks_per_site_max: u32 = 4, in 1..=65536;
    }
}

/// Contacts that a code was tried with, by cart.
pub const CONTACTS: Tries = Tries::new("contact-tries", 30 * 60 * 1_000);
pub const CODES: Tries = Tries::new("code-tries", 30 * 60 * 1_000);
const CARTS: Tries = Tries::new("new-carts", 60 * 60 * 1_000);
const SESSION: char = 'c';
const NETWORK: char = 'n';
const SITE: char = 's';

/// Of a cart whose shopper nobody has told of.
pub fn nobody() -> Client {
    Client { address: String::new(), session: None }
}

/// What a code that is tried for this cart counts for.
pub fn of_codes(cart: &str, client: &Client) -> Vec<Scope> {
    let settings = Settings::load();
    let session = client.session.as_deref().filter(|session| !session.is_empty()).unwrap_or(cart);
    let mut scopes = vec![Scope::new(SESSION, session, settings.codes_per_session_max)];
    scopes.extend(match Network::of(&client.address) {
        Some(network) if network.is_public => networks(network, settings.codes_per_network_max, &settings),
        Some(network) => vec![Scope::new(NETWORK, network.name, settings.codes_per_private_network_max)],
        None => Vec::new(),
    });
    scopes
}

/// A code that each customer has once tells whose contact is a customer's: other
/// contacts in a cart with codes count like codes.
pub fn of_contacts(cart: &str) -> Vec<Scope> {
    vec![Scope::new(SESSION, cart, Settings::load().codes_per_session_max)]
}

/// Counts a new cart, or says how many seconds to wait.
pub fn take_cart(client: &Client) -> Result<(), u32> {
    let Some(network) = Network::of(&client.address).filter(|network| network.is_public) else { return Ok(()) };
    let settings = Settings::load();
    let scopes = networks(network, settings.carts_per_network_max, &settings);
    match must(CARTS.wait_s(&scopes)) {
        Some(wait_s) => Err(wait_s),
        None => {
            must(CARTS.note(&scopes));
            Ok(())
        }
    }
}

fn networks(network: Network, most: u32, settings: &Settings) -> Vec<Scope> {
    let site = network.site.map(|site| Scope::new(SITE, site, most.saturating_mul(settings.networks_per_site_max)));
    std::iter::once(Scope::new(NETWORK, network.name, most)).chain(site).collect()
}
