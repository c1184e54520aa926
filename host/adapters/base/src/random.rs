//! `wasi:random`: all of it is unguessable, also where less would do.

use crate::Base;
use crate::exports::wasi::random::{insecure, insecure_seed, random};
use crate::souk::host::random as capability;

/// Of one call of the capability.
const BYTES_MAX: u64 = 64 << 10;

fn bytes(mut length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while length > 0 {
        let part = length.min(BYTES_MAX);
        bytes.append(&mut capability::bytes(part as u32));
        length -= part;
    }
    bytes
}

fn number() -> u64 {
    bytes(8).into_iter().fold(0, |number, byte| number << 8 | u64::from(byte))
}

impl random::Guest for Base {
    fn get_random_bytes(length: u64) -> Vec<u8> {
        bytes(length)
    }

    fn get_random_u64() -> u64 {
        number()
    }
}

impl insecure::Guest for Base {
    fn get_insecure_random_bytes(length: u64) -> Vec<u8> {
        bytes(length)
    }

    fn get_insecure_random_u64() -> u64 {
        number()
    }
}

impl insecure_seed::Guest for Base {
    fn insecure_seed() -> (u64, u64) {
        (number(), number())
    }
}
