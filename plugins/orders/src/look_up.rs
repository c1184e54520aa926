//! An order by its number, for who knows the e-mail address or the phone number
//! that it was placed with. Nobody learns which of the two was wrong, or whether
//! there is such a number: the answer is the same, and so is the work for it.
//!
//! What was tried in vain is counted for each network together with the number,
//! existing or not, and for the network alone. So nobody locks a number for its
//! rightful owner, who comes from another network: a number that many networks try
//! only has fewer tries for each of them.
//!
//! A loopback or private address is a proxy that is not configured, or an office:
//! all shoppers may have it, and one must not lock out the others. From there only
//! tries at each number are bounded, widely; whoever guesses at numbers has 2^40 of
//! them before them.

use souk_sdk::commerce::orders::Order;
use souk_sdk::entry;
use souk_sdk::limits::{Network, Scope, Tries};

use crate::must;

const TRIES: Tries = Tries::new("look-up-tries", WINDOW_MS);
const WINDOW_MS: u64 = 30 * 60 * 1_000;
/// A household or an office shares one.
const NETWORK_TRIES_MAX: u32 = 30;
/// A /48 of version 6 has as much as so many networks.
const NETWORKS_PER_SITE: u32 = 4;
/// Orders that were found.
const FOUND_MAX: u32 = 100;
/// Of one number.
const NUMBER_TRIES_MAX: u32 = 10;
/// After so many tries from anywhere each network has fewer.
const NUMBER_TRIES_MANY: u32 = 200;
const NUMBER_TRIES_MAX_THEN: u32 = 2;
/// Where all shoppers may come from.
const NUMBER_TRIES_MAX_OF_ALL: u32 = 200;
const PHONE_DIGITS_MIN: usize = 6;
const GROUP_CHARS: usize = 4;
/// Kinds of what is counted.
const NETWORK: char = 'n';
const SITE: char = 's';
const NUMBER: char = 'o';
const NUMBER_HERE: char = 'h';
const FOUND: char = 'f';

/// `find` gives the order of a number; `other` any order, to compare with where
/// there is none.
pub fn run(number: &str, contact: &str, client: &str, find: impl Fn(&str) -> Option<Order>, other: impl FnOnce() -> Option<Order>) -> Result<Option<Order>, u32> {
    let number = readable(number);
    let (scopes, found) = (scopes(&number, client), found_scopes(client));
    if let Some(wait_s) = must(TRIES.wait_s(&scopes)).max(must(TRIES.wait_s(&found))) {
        return Err(wait_s);
    }
    // One order is found by its number and compared, whether there is the one that was asked for or not.
    let (asked, other) = (find(&number), other());
    let exists = asked.is_some();
    let order = asked.or_else(|| find(&other?.number)).filter(|order| is_of(order, contact) & exists);
    must(TRIES.note(if order.is_some() { &found } else { &scopes }));
    Ok(order)
}

/// A page that finds an order begins a session for it: who knows one order begins no more than these.
fn found_scopes(client: &str) -> Vec<Scope> {
    let network = Network::of(client).filter(|network| network.is_public);
    network.map(|network| Scope::new(FOUND, network.name, FOUND_MAX)).into_iter().collect()
}

fn scopes(number: &str, client: &str) -> Vec<Scope> {
    let Some(network) = Network::of(client).filter(|network| network.is_public) else {
        return vec![Scope::new(NUMBER_HERE, format!("{number} "), NUMBER_TRIES_MAX_OF_ALL)];
    };
    let is_tried_much = must(TRIES.count(NUMBER, number)) >= NUMBER_TRIES_MANY;
    let most = if is_tried_much { NUMBER_TRIES_MAX_THEN } else { NUMBER_TRIES_MAX };
    let mut scopes = vec![
        Scope::new(NUMBER, number, u32::MAX),
        Scope::new(NUMBER_HERE, format!("{number} {}", network.name), most),
        Scope::new(NETWORK, network.name, NETWORK_TRIES_MAX),
    ];
    scopes.extend(network.site.map(|site| Scope::new(SITE, site, NETWORK_TRIES_MAX * NETWORKS_PER_SITE)));
    scopes
}

/// As numbers are made: two groups of four, with the letters that Crockford's
/// base 32 leaves out read as the digits they look like.
fn readable(number: &str) -> String {
    let signs: Vec<char> = (entry::plain(number).to_ascii_uppercase().chars())
        .filter(char::is_ascii_alphanumeric)
        .map(|sign| match sign {
            'O' => '0',
            'I' | 'L' => '1',
            sign => sign,
        })
        .take(4 * GROUP_CHARS)
        .collect();
    signs.chunks(GROUP_CHARS).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-")
}

fn is_of(order: &Order, contact: &str) -> bool {
    let email = entry::email(contact).to_lowercase();
    let same_email = !email.is_empty() && email == entry::email(&order.contact.email).to_lowercase();
    let country = &order.shipping_address.country;
    let digits = |typed: &str| entry::digits(&entry::phone(typed, country));
    let asked = digits(contact);
    let same_phone = asked.len() >= PHONE_DIGITS_MIN && [&order.contact.phone, &order.shipping_address.phone].into_iter().any(|phone| digits(phone) == asked);
    same_email | same_phone
}

#[cfg(test)]
mod tests {
    use souk_sdk::testing;

    use super::*;
    use crate::tests::an_order;

    fn asked(number: &str, contact: &str, client: &str) -> Result<bool, u32> {
        let known = an_order();
        let find = |asked: &str| (asked == known.number).then(|| known.clone());
        run(number, contact, client, find, || Some(an_order())).map(|found| found.is_some())
    }

    #[test]
    fn whoever_placed_it_finds_it_however_they_write() {
        let order = an_order();
        let lower = order.number.to_lowercase().replace('-', " ");
        for contact in ["A@SHOP.example", " a＠shop.example ", "+86 138 0013 8000", "138-0013-8000"] {
            assert_eq!(asked(&lower, contact, "192.0.2.1"), Ok(true), "{contact}");
        }
        for (number, contact) in [(order.number.as_str(), "b@shop.example"), ("0000-0000", "a@shop.example"), (order.number.as_str(), ""), (order.number.as_str(), "0"), ("", "")] {
            assert_eq!(asked(number, contact, "192.0.2.1"), Ok(false), "{number} {contact}");
        }
    }

    const WRONG: &str = "wrong@shop.example";
    const RIGHT: &str = "a@shop.example";

    #[test]
    fn who_guesses_is_bounded_and_locks_nobody_else_out() {
        let number = an_order().number;
        for _ in 0..NUMBER_TRIES_MAX {
            assert_eq!(asked(&number, WRONG, "192.0.2.1"), Ok(false));
        }
        let wait_s = asked(&number, RIGHT, "192.0.2.1").expect_err("nor do they learn that one of them was right");
        assert_eq!(u64::from(wait_s) * 1_000, WINDOW_MS);
        assert_eq!(asked("0000-0000", WRONG, "192.0.2.1"), Ok(false));
        assert_eq!(asked(&number, RIGHT, "198.51.100.1"), Ok(true), "its owner, from elsewhere");
        testing::advance_ms(WINDOW_MS);
        assert_eq!(asked(&number, RIGHT, "192.0.2.1"), Ok(true));
    }

    #[test]
    fn a_number_that_everybody_tries_has_fewer_tries_for_each_and_some_for_its_owner() {
        for number in [an_order().number, "AAAA-0000".into()] {
            for client in 0..NUMBER_TRIES_MANY {
                assert_eq!(asked(&number, WRONG, &format!("192.0.2.{client}")), Ok(false));
            }
            let mut tries = 0;
            while asked(&number, WRONG, "203.0.113.9").is_ok() {
                tries += 1;
            }
            assert_eq!(tries, NUMBER_TRIES_MAX_THEN, "whether it exists or not");
        }
        assert_eq!(asked(&an_order().number, RIGHT, "198.51.100.1"), Ok(true));
    }

    #[test]
    fn a_network_and_a_site_guess_at_a_bounded_number_of_orders() {
        let number = an_order().number;
        for guess in 0..NETWORK_TRIES_MAX {
            assert_eq!(asked(&format!("AAAA-{guess:04}"), "x@shop.example", &format!("2001:db8:0:1::{guess:x}")), Ok(false));
        }
        assert!(asked(&number, RIGHT, "2001:db8:0:1::ffff").is_err(), "the same network");
        assert_eq!(asked(&number, RIGHT, "2001:db8:0:2::1"), Ok(true));
        let mut guesses = NETWORK_TRIES_MAX;
        while asked(&format!("BBBB-{guesses:04}"), WRONG, &format!("2001:db8:0:{guesses:x}::1")).is_ok() {
            guesses += 1;
        }
        assert_eq!(guesses, NETWORKS_PER_SITE * NETWORK_TRIES_MAX, "from all of a /48");
        assert_eq!(asked(&number, RIGHT, "2001:db8:1::1"), Ok(true), "all other sites look their orders up");
    }

    #[test]
    fn a_network_finds_so_many_orders() {
        let number = an_order().number;
        for _ in 0..FOUND_MAX {
            assert_eq!(asked(&number, RIGHT, "192.0.2.1"), Ok(true));
        }
        assert!(asked(&number, RIGHT, "192.0.2.1").is_err());
        assert_eq!(asked(&number, RIGHT, "192.0.2.2"), Ok(true));
    }

    #[test]
    fn behind_a_proxy_that_is_not_configured_one_guest_locks_out_no_other() {
        for client in ["127.0.0.1", "10.0.0.7", "::1", ""] {
            for guess in 0..20 * NETWORK_TRIES_MAX {
                assert_eq!(asked(&format!("AAAA-{guess:04}"), WRONG, client), Ok(false), "{client}");
            }
            assert_eq!(asked(&an_order().number, RIGHT, client), Ok(true), "{client}");
        }
        for _ in 0..NUMBER_TRIES_MAX_OF_ALL {
            assert_eq!(asked("CCCC-0000", WRONG, "127.0.0.1"), Ok(false));
        }
        assert!(asked("CCCC-0000", WRONG, "127.0.0.1").is_err(), "there is an end all the same");
    }
}
