//! Randomness.

use crate::chance;
use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::random::Host;

const BYTES_MAX: u32 = 64 << 10;
const TOKEN_CHARACTERS_MAX: u32 = 256;
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

pub fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    chance::fill(&mut bytes);
    bytes
}

/// Each character is drawn evenly: bytes past the last whole alphabet are
/// thrown away.
pub fn token(length: usize) -> String {
    let mut token = String::with_capacity(length);
    while token.len() < length {
        let even = bytes(length + 8).into_iter().filter(|byte| *byte < 248);
        token.extend(even.take(length - token.len()).map(|byte| char::from(ALPHABET[usize::from(byte) % 62])));
    }
    token
}

impl Host for GuestState {
    fn bytes(&mut self, _: Caller, length: u32) -> Vec<u8> {
        let length = length.min(BYTES_MAX) as usize;
        match &mut self.unit.lock().rehearsal {
            None => bytes(length),
            Some(rehearsal) => rehearsal.bytes(length),
        }
    }

    fn token(&mut self, _: Caller, length: u32) -> String {
        let length = length.min(TOKEN_CHARACTERS_MAX) as usize;
        match &mut self.unit.lock().rehearsal {
            None => token(length),
            Some(rehearsal) => rehearsal.bytes(length).into_iter().map(|byte| char::from(ALPHABET[usize::from(byte) % 62])).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_length_and_alphabet_asked_for() {
        for length in [0, 1, 32, 256] {
            let token = token(length);
            assert_eq!(token.len(), length);
            assert!(token.bytes().all(|b| ALPHABET.contains(&b)));
        }
        assert_ne!(token(32), token(32));
    }
}
