//! URLs of a plugin's own files.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::web::assets::Host;

impl Host for GuestState {
    fn url(&mut self, caller: Caller, path: String) -> Option<String> {
        caller.asset_urls.get(&path).cloned()
    }
}
