//! An order by its number, for who knows the e-mail address or the phone number
//! that it was placed with. Nobody learns which of the two was wrong, or whether
//! there is such a number: the answer is the same, and so is the work for it.
//!
//! What was tried in vain is counted for the client's network and for the
//! number, existing or not, in a bounded set of documents: who fills one by
//! guessing shuts nobody else out but by a rare coincidence, and cannot choose
//! whom, because places are given by a keyed hash.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::orders::Order;
use souk_sdk::storage::Collection;
use souk_sdk::{clock, crypto, entry};

use crate::limits;

const TRIES: Collection<Tries> = Collection::new("look-ups", &[]);
const KEY: &str = "look-up";
/// For each of networks and numbers.
const PLACES: u32 = 1 << 14;
const WINDOW_MS: u64 = 30 * 60 * 1_000;
/// A household or an office shares one.
const NETWORK_TRIES_MAX: u32 = 30;
const NUMBER_TRIES_MAX: u32 = 10;
const PHONE_DIGITS_MIN: usize = 6;
const GROUP_CHARS: usize = 4;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Tries {
    since_ms: u64,
    failed: u32,
}

/// Whose tries are counted, and how many of them are too many.
struct Counted {
    place: String,
    max: u32,
}

/// `find` gives the order of a number; `other` any order, for an equal amount of
/// work where there is none.
pub fn run(number: &str, contact: &str, client: &str, find: impl FnOnce(&str) -> Option<Order>, other: impl FnOnce() -> Option<Order>) -> Result<Option<Order>, u32> {
    let number = readable(number);
    let counted = [Counted { place: place('c', &network(client)), max: NETWORK_TRIES_MAX }, Counted { place: place('n', &number), max: NUMBER_TRIES_MAX }];
    let tries = counted.each_ref().map(|counted| current(&counted.place));
    let waits = counted.iter().zip(&tries).filter(|(counted, tries)| tries.failed >= counted.max).map(|(_, tries)| wait_s(tries));
    if let Some(wait_s) = waits.max() {
        return Err(wait_s);
    }
    let (order, exists) = match find(&number) {
        Some(order) => (Some(order), true),
        None => (other(), false),
    };
    let belongs = order.as_ref().is_some_and(|order| is_of(order, contact));
    if exists && belongs {
        return Ok(order);
    }
    for (counted, mut tries) in counted.iter().zip(tries) {
        tries.failed += 1;
        super::must(TRIES.put(&counted.place, &tries));
    }
    Ok(None)
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

/// What limits on open orders take for one network.
fn network(client: &str) -> String {
    client.parse().map_or_else(|_| client.to_owned(), |address: IpAddr| limits::network(address.to_canonical()))
}

fn place(kind: char, text: &str) -> String {
    let mac = super::must(crypto::mac(KEY, text.as_bytes()).map_err(|error| format!("{error:?}")));
    let place = mac.iter().take(4).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) % PLACES;
    format!("{kind}{place}")
}

fn current(place: &str) -> Tries {
    let now_ms = clock::now_ms();
    let kept = super::must(TRIES.get(place)).filter(|tries| now_ms < tries.since_ms + WINDOW_MS);
    kept.unwrap_or(Tries { since_ms: now_ms, failed: 0 })
}

fn wait_s(tries: &Tries) -> u32 {
    let left_ms = (tries.since_ms + WINDOW_MS).saturating_sub(clock::now_ms());
    left_ms.div_ceil(1_000).max(1).try_into().unwrap_or(u32::MAX)
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

    #[test]
    fn what_is_tried_in_vain_is_bounded_by_number_and_by_network() {
        let number = an_order().number;
        for client in 0..NUMBER_TRIES_MAX {
            assert_eq!(asked(&number, "wrong@shop.example", &format!("192.0.2.{client}")), Ok(false));
        }
        let wait_s = asked(&number, "a@shop.example", "198.51.100.1").expect_err("even the right contact waits");
        assert_eq!(u64::from(wait_s) * 1_000, WINDOW_MS);
        testing::advance_ms(WINDOW_MS);
        assert_eq!(asked(&number, "a@shop.example", "198.51.100.1"), Ok(true));

        for guess in 0..NETWORK_TRIES_MAX {
            assert_eq!(asked(&format!("AAAA-{guess:04}"), "x@shop.example", &format!("2001:db8:0:1::{guess:x}")), Ok(false));
        }
        assert!(asked(&number, "a@shop.example", "2001:db8:0:1::ffff").is_err(), "the same network");
        assert_eq!(asked(&number, "a@shop.example", "2001:db8:0:2::1"), Ok(true));
    }
}
