//! Identifiers. A document that others link to has two: one that people read
//! and one that cannot be guessed.

use crate::{clock, random};

/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 26 characters that sort by the time they were made, as a ULID: 48 bits of
/// milliseconds and 80 random bits.
///
/// ```
/// # use souk_sdk::{ids, testing};
/// let first = ids::sortable();
/// testing::advance_ms(1);
/// assert!(first < ids::sortable());
/// ```
pub fn sortable() -> String {
    let random = random::bytes(10).into_iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(byte));
    let bits = u128::from(clock::now_ms() & 0xffff_ffff_ffff) << 80 | random;
    (0..26).rev().map(|place| char::from(ALPHABET[(bits >> (place * 5)) as usize & 31])).collect()
}

/// 32 letters and digits (190 bits) that cannot be guessed: a link to an order.
pub fn unguessable() -> String {
    random::token(32)
}
