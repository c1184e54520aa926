//! Ids of carts. One cannot be guessed, says when it was made and proves that it
//! was made here: so a cart in which nothing is need not be stored.

use souk_sdk::{clock, crypto, random};

use crate::must;

const RANDOM_CHARS: u32 = 22;
/// Hexadecimal minutes since 1970.
const TIME_CHARS: usize = 8;
const PROOF_CHARS: usize = 16;
const KEY: &str = "cart-id";
const MINUTE_MS: u64 = 60_000;

pub fn make() -> String {
    let head = format!("{}{:08x}", random::token(RANDOM_CHARS), clock::now_ms() / MINUTE_MS);
    let proof = proof(&head);
    head + &proof
}

/// When it was made, to the minute; none where that was not here.
pub fn made_ms(id: &str) -> Option<u64> {
    let (head, given) = id.split_at_checked(RANDOM_CHARS as usize + TIME_CHARS)?;
    let minutes = u64::from_str_radix(head.get(RANDOM_CHARS as usize..)?, 16).ok()?;
    is_same(&proof(head), given).then_some(minutes * MINUTE_MS)
}

fn proof(head: &str) -> String {
    let mac = must(crypto::mac(KEY, head.as_bytes()).map_err(|error| format!("{error:?}")));
    mac.iter().take(PROOF_CHARS / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// In the same time wherever they differ.
fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use souk_sdk::testing;

    use super::*;

    #[test]
    fn an_id_is_known_again_and_no_other_is() {
        let id = make();
        assert_eq!(made_ms(&id), Some(clock::now_ms() / MINUTE_MS * MINUTE_MS));
        testing::advance_ms(MINUTE_MS);
        assert_ne!(make(), id);
        for at in 0..id.len() {
            let mut other = id.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(made_ms(&String::from_utf8(other).unwrap()), None, "{at}");
            assert_eq!(made_ms(&id[..at]), None);
        }
        for id in ["", "x", &"x".repeat(46), &"\u{8d2d}".repeat(40)] {
            assert_eq!(made_ms(id), None);
        }
    }
}
