//! How much the answers may be that are kept for `Idempotency-Key`. They stay for a
//! day, and a client with a new key for each request has one kept each time, so each
//! network has a bound. `service` asks before a request with a key is carried out, and
//! tells what was kept. Knows nothing of where answers lie.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;

/// For as long answers are kept.
const DAY_MS: u64 = 24 * 3_600_000;
/// Key, scope and place of an answer, beside its own bytes.
const RECORD_BYTES: u64 = 512;
/// Where the client's own address is not known, or many share one house.
const PRIVATE_FACTOR: u64 = 16;
/// When there are more, those are forgotten that had the least kept.
const NETWORKS_MAX: usize = 16_384;

pub struct Kept {
    opened: Instant,
    /// Of one network in a day.
    bytes_max: u64,
    networks: Mutex<HashMap<Network, Level>>,
}

/// Where a request came from, as far as one customer of a network cannot choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(Option<IpAddr>);

/// What was kept, less what has been forgotten since: all of it within a day.
#[derive(Clone, Copy)]
struct Level {
    bytes: u64,
    at_ms: u64,
}

impl Network {
    /// An address of version 4, the /48 of one of version 6.
    pub fn of(address: &str) -> Self {
        Self(address.parse().ok().map(|address: IpAddr| match address.to_canonical() {
            IpAddr::V6(address) if !is_private(address.into()) => IpAddr::V6((u128::from(address) >> 80 << 80).into()),
            address => address,
        }))
    }
}

/// Of the shop's own house, or of a proxy in it.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

impl Kept {
    pub fn new(bytes_max: u64) -> Self {
        Self { opened: Instant::now(), bytes_max, networks: Mutex::default() }
    }

    /// Errs with the seconds until there is room again.
    pub fn admit(&self, network: Network) -> Result<(), u64> {
        self.admit_at(network, self.now_ms())
    }

    pub fn add(&self, network: Network, answer_bytes: usize) {
        self.add_at(network, answer_bytes as u64, self.now_ms());
    }

    fn now_ms(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }

    fn most(&self, network: Network) -> u64 {
        if network.0.is_none_or(is_private) { self.bytes_max * PRIVATE_FACTOR } else { self.bytes_max }
    }

    fn admit_at(&self, network: Network, now_ms: u64) -> Result<(), u64> {
        let most = self.most(network);
        let bytes = self.networks.lock().get(&network).map_or(0, |level| level.bytes_at(now_ms, most));
        match bytes.checked_sub(most) {
            None => Ok(()),
            Some(over) => Err((over * DAY_MS / most / 1_000).max(60)),
        }
    }

    fn add_at(&self, network: Network, answer_bytes: u64, now_ms: u64) {
        let most = self.most(network);
        let mut networks = self.networks.lock();
        if networks.len() >= NETWORKS_MAX && !networks.contains_key(&network) {
            self.make_room(&mut networks, now_ms);
        }
        let level = networks.entry(network).or_insert(Level { bytes: 0, at_ms: now_ms });
        *level = Level { bytes: level.bytes_at(now_ms, most) + answer_bytes + RECORD_BYTES, at_ms: now_ms };
    }

    /// Half of them at once, so that full is not walked through for every newcomer.
    fn make_room(&self, networks: &mut HashMap<Network, Level>, now_ms: u64) {
        let mut all: Vec<(u64, Network)> = networks.iter().map(|(network, level)| (level.bytes_at(now_ms, self.most(*network)), *network)).collect();
        all.select_nth_unstable_by_key(NETWORKS_MAX / 2, |(bytes, _)| *bytes);
        for (_, least) in &all[..NETWORKS_MAX / 2] {
            networks.remove(least);
        }
    }
}

impl Level {
    fn bytes_at(self, now_ms: u64, most: u64) -> u64 {
        let forgotten = u128::from(now_ms.saturating_sub(self.at_ms)) * u128::from(most) / u128::from(DAY_MS);
        self.bytes.saturating_sub(u64::try_from(forgotten).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_network_that_has_kept_its_bytes_waits_and_others_do_not() {
        let kept = Kept::new(MIB);
        let [busy, neighbour, own] = ["203.0.113.7", "203.0.113.8", "127.0.0.1"].map(Network::of);
        let mut answers = 0;
        while kept.admit_at(busy, 0).is_ok() {
            kept.add_at(busy, 19_000, 0);
            kept.add_at(own, 19_000, 0);
            answers += 1;
        }
        assert_eq!(answers, MIB.div_ceil(19_000 + RECORD_BYTES));
        assert!(kept.admit_at(neighbour, 0).is_ok() && kept.admit_at(own, 0).is_ok());
        assert!(kept.admit_at(busy, DAY_MS / 2).is_ok(), "half of it is forgotten");
        // How long it says is how long it takes.
        kept.add_at(busy, MIB, 0);
        let wait_s = kept.admit_at(busy, 0).unwrap_err();
        assert!(kept.admit_at(busy, wait_s * 1_000 / 2).is_err() && kept.admit_at(busy, wait_s * 1_000 + 1_000).is_ok());
    }

    #[test]
    fn who_has_many_addresses_of_version_six_is_one_network() {
        assert_eq!(Network::of("2001:db8:1:2::3"), Network::of("2001:db8:1:ffff::9"));
        assert_ne!(Network::of("2001:db8:1::1"), Network::of("2001:db8:2::1"));
        assert_eq!(Network::of("::ffff:203.0.113.7"), Network::of("203.0.113.7"));
    }

    #[test]
    fn networks_are_bounded_and_those_that_keep_most_are_remembered() {
        let kept = Kept::new(MIB);
        let busy = Network::of("203.0.113.7");
        kept.add_at(busy, 2 * MIB, 0);
        for n in 0..3 * NETWORKS_MAX as u32 {
            kept.add_at(Network(Some(IpAddr::V4((0x0b00_0000 + n).into()))), 10, 0);
        }
        assert!(kept.networks.lock().len() <= NETWORKS_MAX);
        assert!(kept.admit_at(busy, 0).is_err());
    }
}
