//! Who calls a service: known by which of its instances answers.

use crate::engine::GuestState;
use crate::engine::bindings::CalledBy;
use crate::engine::bindings::named_imports::souk::host::caller::Host;

impl Host for GuestState {
    fn name(&mut self, called_by: CalledBy) -> Option<String> {
        called_by.map(|name| name.to_string())
    }
}
