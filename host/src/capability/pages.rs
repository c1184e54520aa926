//! Tags of cached pages to drop when the unit commits.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::pages::Host;

impl Host for GuestState {
    fn invalidate(&mut self, caller: Caller, tags: Vec<String>) {
        if let Err(error) = self.unit.lock().invalidate(tags) {
            tracing::warn!(plugin = caller.name(), %error, "pages not invalidated");
        }
    }
}
