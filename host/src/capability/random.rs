//! Randomness.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::random::Host;

const BYTES_MAX: u32 = 64 << 10;
const TOKEN_CHARACTERS_MAX: u32 = 256;

impl Host for GuestState {
    fn bytes(&mut self, _: Caller, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; length.min(BYTES_MAX) as usize];
        self.unit.lock().chance.fill(&mut bytes);
        bytes
    }

    fn token(&mut self, _: Caller, length: u32) -> String {
        self.unit.lock().chance.token(length.min(TOKEN_CHARACTERS_MAX) as usize)
    }
}
