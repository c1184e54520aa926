//! How plugins know callers that bring credentials (`request.caller`): by a name that
//! holds for one plugin and one shop. Two plugins cannot put together whom they have
//! seen, and nobody can try out which credentials a name is of.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Keeps these names apart from others made with the same key.
const PURPOSE: &[u8] = b"souk caller 1\0";

pub struct Callers(Hmac<Sha256>);

impl Callers {
    pub fn new(key: &[u8; 32]) -> Self {
        // HMAC fills short keys up with zeros.
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        let mut keyed = Hmac::<Sha256>::new(&block.into());
        keyed.update(PURPOSE);
        Self(keyed)
    }

    pub fn name(&self, plugin: &str, credentials: &[u8]) -> String {
        // No name of a plugin has a zero in it.
        hex::encode(self.0.clone().chain_update(plugin).chain_update([0]).chain_update(credentials).finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_another_name_for_each_plugin_and_each_shop() {
        let (shop, other_shop) = (Callers::new(&[1; 32]), Callers::new(&[2; 32]));
        let name = shop.name("notes", b"Bearer x");
        assert_eq!((name.len(), shop.name("notes", b"Bearer x")), (64, name.clone()));
        for other in [shop.name("notes", b"Bearer y"), shop.name("orders", b"Bearer x"), other_shop.name("notes", b"Bearer x")] {
            assert_ne!(other, name);
        }
        assert_ne!(crate::files::sha256_hex(b"Bearer x"), name);
    }
}
