//! Who goes first on routes that are `critical`.
//!
//! They are for who has begun to buy, which a session shows, or an address that is a
//! secret, or what the plugin itself checks where no session is given. Whoever asks
//! there for what is not there, again and again, has begun nothing: for a while its
//! requests are as all others.
//! `service` asks here before a place is taken, and tells what came of it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;

use crate::shop::manifest::Route;

/// Whether a request may have high priority. One without anything to show can be sent
/// by the thousand from anywhere.
pub fn may_go_first(route: &Route, has_session: bool) -> bool {
    route.critical && (has_session || route.cross_site || route.secret_path)
}

/// A shopper who mistypes a form sends fewer that fail.
const MISSES_MAX: u32 = 10;
const WINDOW_MS: u64 = 60_000;
/// When there are more, who has missed longest ago is forgotten.
const CLIENTS_MAX: usize = 8_192;

pub struct Standing {
    opened: Instant,
    /// So that nobody can choose whom to be taken for.
    hasher: RandomState,
    misses: Mutex<HashMap<u64, Misses>>,
}

#[derive(Clone, Copy)]
struct Misses {
    count: u32,
    since_ms: u64,
}

/// One client, until the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client(u64);

impl Standing {
    pub fn new() -> Self {
        Self { opened: Instant::now(), hasher: RandomState::new(), misses: Mutex::default() }
    }

    /// By the session, which nobody can forge, else by the address: shoppers who
    /// share one are told apart once they have begun.
    pub fn client(&self, session: Option<&str>, address: &str) -> Client {
        Client(match session {
            Some(session) => self.hasher.hash_one(session),
            None => self.hasher.hash_one(network(address)),
        })
    }

    pub fn goes_first(&self, client: Client) -> bool {
        self.goes_first_at(client, self.now_ms())
    }

    pub fn missed(&self, client: Client) {
        self.missed_at(client, self.now_ms());
    }

    fn now_ms(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }

    fn goes_first_at(&self, client: Client, now_ms: u64) -> bool {
        !self.misses.lock().get(&client.0).is_some_and(|misses| misses.count >= MISSES_MAX && !misses.are_over(now_ms))
    }

    fn missed_at(&self, client: Client, now_ms: u64) {
        let mut all = self.misses.lock();
        if all.len() >= CLIENTS_MAX && !all.contains_key(&client.0) {
            make_room(&mut all, now_ms);
        }
        let misses = all.entry(client.0).or_insert(Misses { count: 0, since_ms: now_ms });
        if misses.are_over(now_ms) {
            *misses = Misses { count: 0, since_ms: now_ms };
        }
        misses.count += 1;
        // Who goes on is kept out; who stops is let in again.
        if misses.count >= MISSES_MAX {
            misses.since_ms = now_ms;
        }
    }
}

impl Misses {
    fn are_over(self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) >= WINDOW_MS
    }
}

/// Half of them at once, so that full is not walked through at every miss.
fn make_room(all: &mut HashMap<u64, Misses>, now_ms: u64) {
    all.retain(|_, misses| !misses.are_over(now_ms));
    if all.len() < CLIENTS_MAX {
        return;
    }
    let mut since: Vec<u64> = all.values().map(|misses| misses.since_ms).collect();
    let middle = since.len() / 2;
    let (_, median, _) = since.select_nth_unstable(middle);
    let median = *median;
    let mut left = CLIENTS_MAX / 2;
    all.retain(|_, misses| {
        let kept = misses.since_ms >= median && left > 0;
        left -= usize::from(kept);
        kept
    });
}

/// The part of an address that one customer of a network has.
fn network(address: &str) -> u128 {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => u32::from(address).into(),
        Ok(IpAddr::V6(address)) => u128::from(address) >> 64 << 64,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_misses_again_and_again_waits_as_all_others_until_it_stops() {
        let standing = Standing::new();
        let (guesser, shopper) = (standing.client(None, "203.0.113.7"), standing.client(Some("a session"), "203.0.113.7"));
        for miss in 0..MISSES_MAX {
            assert!(standing.goes_first_at(guesser, u64::from(miss)));
            standing.missed_at(guesser, u64::from(miss));
        }
        assert!(!standing.goes_first_at(guesser, 10));
        assert!(standing.goes_first_at(shopper, 10), "another one behind the same address");
        standing.missed_at(guesser, 50_000);
        assert!(!standing.goes_first_at(guesser, 109_999));
        assert!(standing.goes_first_at(guesser, 110_000));
        standing.missed_at(guesser, 110_001);
        assert!(standing.goes_first_at(guesser, 110_002), "counted anew");
    }

    #[test]
    fn a_network_of_version_six_is_one_client() {
        let standing = Standing::new();
        assert_eq!(standing.client(None, "2001:db8:1:2::1"), standing.client(None, "2001:db8:1:2:ffff::9"));
        assert_ne!(standing.client(None, "2001:db8:1:2::1"), standing.client(None, "2001:db8:1:3::1"));
        assert_ne!(standing.client(None, "203.0.113.7"), standing.client(None, "203.0.113.8"));
    }

    #[test]
    fn however_many_there_are_they_stay_few() {
        let standing = Standing::new();
        for client in 0..5 * CLIENTS_MAX as u64 {
            standing.missed_at(Client(client), 1_000);
            assert!(standing.misses.lock().len() <= CLIENTS_MAX);
        }
    }
}
