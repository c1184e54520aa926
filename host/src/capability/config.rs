//! The plugin's settings and the shop's facts. Checked when the plugin was
//! loaded: nothing is parsed here.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::config::Host;
use crate::engine::bindings::souk::host::config::ShopFacts;

impl Host for GuestState {
    fn document(&mut self, caller: Caller) -> String {
        caller.config_document.clone()
    }

    fn get(&mut self, caller: Caller, name: String) -> Option<String> {
        caller.config.get(&name).cloned()
    }

    fn shop(&mut self, _: Caller) -> ShopFacts {
        ShopFacts::clone(&self.services.shop.load())
    }
}
