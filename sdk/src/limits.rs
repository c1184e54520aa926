//! Limits on what anybody may try: where a client is, and how often something
//! was tried from there.
//!
//! What is counted lies in a bounded set of documents, whatever comes. Counts
//! are exact: nobody is refused for what somebody else did. Where there is no
//! room, what has been tried least gives way.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::crypto;
use crate::storage::{Collection, CollectionError};
use crate::{clock, storage};

/// Where a client is, as far as it can be told apart from others.
///
/// ```
/// use souk_sdk::limits::Network;
///
/// let of = |address| Network::of(address).expect("an address");
/// assert_eq!(of("2001:db8::1").name, of("2001:db8::ffff").name);
/// assert_eq!(of("2001:db8:0:1::1").site, of("2001:db8:0:2::1").site);
/// assert!(of("192.0.2.1").is_public && !of("127.0.0.1").is_public);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// One household or office: an address of version 4, the /64 of one of version 6.
    pub name: String,
    /// The /48 of a public address of version 6: one customer may have all of it.
    pub site: Option<String>,
    /// Not for a loopback or private address: that is a proxy which is not
    /// configured, or an office, and anybody may be behind it.
    pub is_public: bool,
}

impl Network {
    /// `address` as in `request.client-address`; none where it is no address.
    pub fn of(address: &str) -> Option<Self> {
        let address = address.parse::<IpAddr>().ok()?.to_canonical();
        let is_public = is_public(address);
        Some(match address {
            IpAddr::V4(address) => Self { name: address.to_string(), site: None, is_public },
            IpAddr::V6(address) => Self { name: prefix(address, 4), site: is_public.then(|| prefix(address, 3)), is_public },
        })
    }
}

fn prefix(address: Ipv6Addr, parts: usize) -> String {
    address.segments().iter().take(parts).map(|part| format!("{part:x}:")).collect()
}

/// Not a proxy's, nor one of the shop's own house or of a carrier's inner network.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            !(address.is_loopback() || address.is_private() || address.is_link_local() || address.is_unspecified() || is_shared)
        }
        IpAddr::V6(address) => !(address.is_loopback() || address.is_unspecified() || address.is_unique_local() || address.is_unicast_link_local()),
    }
}

/// What is counted together, and from which count on it is too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    kind: char,
    of: String,
    most: u32,
}

impl Scope {
    /// `kind` tells scopes of different kinds apart that have the same name. With
    /// a `most` of 0 there is no limit, and nothing is counted.
    pub fn new(kind: char, of: impl Into<String>, most: u32) -> Self {
        Self { kind, of: of.into(), most }
    }
}

/// How often something was tried since the first time, for a while.
///
/// ```
/// use souk_sdk::limits::{Scope, Tries};
///
/// const GUESSES: Tries = Tries::new("guesses", 60_000);
///
/// let scopes = [Scope::new('n', "192.0.2.1", 2)];
/// for _ in 0..2 {
///     assert_eq!(GUESSES.wait_s(&scopes)?, None);
///     GUESSES.note(&scopes)?;
/// }
/// assert_eq!(GUESSES.wait_s(&scopes)?, Some(60));
/// # Ok::<(), souk_sdk::storage::CollectionError>(())
/// ```
pub struct Tries {
    documents: Collection<Vec<Entry>>,
    window_ms: u64,
}

/// A mark of the scope, when its window began, and how often it was tried since.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry(u64, u64, u32);

/// Documents of each kind of scope, and entries of one document.
const DOCUMENTS: u64 = 1 << 11;
const ENTRIES_MAX: usize = 16;
/// Nobody can choose with whom they share a document, nor read who tried.
const KEY: &str = "limits";

/// Where a scope is counted.
struct Place {
    document: String,
    mark: u64,
}

impl Tries {
    /// Counts lie in `collection`, which has nothing else in it.
    pub const fn new(collection: &'static str, window_ms: u64) -> Self {
        Self { documents: Collection::new(collection, &[]), window_ms }
    }

    /// How often a scope was tried.
    pub fn count(&self, kind: char, of: &str) -> Result<u32, CollectionError> {
        Ok(self.entry(&place(kind, of)?)?.map_or(0, |entry| entry.2))
    }

    /// How many seconds to wait where one of the scopes was tried too often.
    pub fn wait_s(&self, scopes: &[Scope]) -> Result<Option<u32>, CollectionError> {
        let now_ms = clock::now_ms();
        let mut longest = None;
        for scope in scopes.iter().filter(|scope| scope.most > 0) {
            if let Some(Entry(_, since_ms, _)) = self.entry(&place(scope.kind, &scope.of)?)?.filter(|entry| entry.2 >= scope.most) {
                let left_s = since_ms.saturating_add(self.window_ms).saturating_sub(now_ms).div_ceil(1_000).max(1);
                longest = longest.max(Some(u32::try_from(left_s).unwrap_or(u32::MAX)));
            }
        }
        Ok(longest)
    }

    /// Counts a try for each of the scopes, if the unit commits: an answer of 400
    /// or more leaves no trace.
    pub fn note(&self, scopes: &[Scope]) -> Result<(), CollectionError> {
        for scope in scopes.iter().filter(|scope| scope.most > 0) {
            let place = place(scope.kind, &scope.of)?;
            let mut entries = self.current(&place)?;
            match entries.iter_mut().find(|entry| entry.0 == place.mark) {
                Some(entry) => entry.2 = entry.2.saturating_add(1),
                None => {
                    if entries.len() >= ENTRIES_MAX
                        && let Some(least) = (0..entries.len()).min_by_key(|&at| (entries[at].2, entries[at].1))
                    {
                        entries.remove(least);
                    }
                    entries.push(Entry(place.mark, clock::now_ms(), 1));
                }
            }
            self.documents.put(&place.document, &entries)?;
        }
        Ok(())
    }

    fn entry(&self, place: &Place) -> Result<Option<Entry>, CollectionError> {
        Ok(self.current(place)?.into_iter().find(|entry| entry.0 == place.mark))
    }

    /// Those whose window has not ended.
    fn current(&self, place: &Place) -> Result<Vec<Entry>, CollectionError> {
        let now_ms = clock::now_ms();
        let mut entries = self.documents.get(&place.document)?.unwrap_or_default();
        entries.retain(|entry| now_ms < entry.1.saturating_add(self.window_ms));
        Ok(entries)
    }
}

fn place(kind: char, of: &str) -> Result<Place, CollectionError> {
    let mac = crypto::mac(KEY, format!("{kind}{of}").as_bytes());
    let mac = mac.map_err(|error| CollectionError::Storage(storage::Error::Unavailable(format!("{error:?}"))))?;
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (document, mark) = (number(mac.get(..8).unwrap_or_default()), number(mac.get(8..16).unwrap_or_default()));
    Ok(Place { document: format!("{kind}{}", document % DOCUMENTS), mark })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    const TRIES: Tries = Tries::new("tries", 10_000);

    fn stored() -> Vec<(String, Vec<Entry>)> {
        TRIES.documents.scan(&storage::after(None), 1_000, false).unwrap()
    }

    proptest! {
        /// As long as there is room, to the last one; each by its own window.
        #[test]
        fn each_scope_has_the_count_of_its_own_tries(steps in prop::collection::vec((0_u8..6, prop::sample::select(vec!['n', 's']), 0_u64..4_000), 0..80)) {
            testing::reset();
            let mut model: BTreeMap<(char, u8), (u64, u32)> = BTreeMap::new();
            for (of, kind, pass_ms) in steps {
                testing::advance_ms(pass_ms);
                let now_ms = clock::now_ms();
                TRIES.note(&[Scope::new(kind, of.to_string(), 3)]).unwrap();
                let counted = model.entry((kind, of)).or_insert((now_ms, 0));
                if counted.0 + 10_000 <= now_ms {
                    *counted = (now_ms, 0);
                }
                counted.1 += 1;
                for ((kind, of), (since_ms, count)) in &model {
                    let count = if since_ms + 10_000 <= now_ms { 0 } else { *count };
                    prop_assert_eq!(TRIES.count(*kind, &of.to_string()).unwrap(), count);
                    let waits = (count >= 3).then(|| u32::try_from((since_ms + 10_000 - now_ms).div_ceil(1_000)).unwrap());
                    prop_assert_eq!(TRIES.wait_s(&[Scope::new(*kind, of.to_string(), 3)]).unwrap(), waits);
                }
            }
        }
    }

    #[test]
    fn however_many_try_what_is_stored_is_bounded_and_who_tried_most_is_not_forgotten() {
        let hot = Scope::new('n', "hot", 5);
        for _ in 0..5 {
            TRIES.note(std::slice::from_ref(&hot)).unwrap();
        }
        let document = place('n', "hot").unwrap().document;
        let neighbours = (0_u32..).map(|of| of.to_string()).filter(|of| place('n', of).unwrap().document == document).take(3 * ENTRIES_MAX);
        for of in neighbours {
            TRIES.note(&[Scope::new('n', of, 5)]).unwrap();
        }
        assert_eq!(stored().iter().map(|(_, entries)| entries.len()).collect::<Vec<_>>(), [ENTRIES_MAX]);
        assert!(TRIES.wait_s(&[hot]).unwrap().is_some());
        assert_eq!(TRIES.wait_s(&[Scope::new('n', "newcomer", 5)]).unwrap(), None, "nobody is refused for what others did");
        testing::advance_ms(10_000);
        TRIES.note(&[Scope::new('n', "hot", 5)]).unwrap();
        assert_eq!(stored()[0].1.len(), 1, "what has ended is gone with the next one");
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        TRIES.note(&[Scope::new('n', "a", 0)]).unwrap();
        assert_eq!((stored().len(), TRIES.wait_s(&[Scope::new('n', "a", 0)])), (0, Ok(None)));
    }
}
