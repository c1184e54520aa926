//! Which form a plugin's documents are to be written in.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::data::Host;
use crate::engine::bindings::souk::host::data::Error;
use crate::work::{UnitError, data};

impl Host for GuestState {
    fn form(&mut self, caller: Caller) -> Result<u32, Error> {
        let mut unit = self.unit.lock();
        let txn = unit.charge(1, caller.manifest.limits.storage_operations).and_then(|()| unit.read()).map_err(|error| match error {
            UnitError::Quota(message) => Error::Quota(message),
            error => Error::Unavailable(error.to_string()),
        })?;
        data::forms(txn, caller.name()).map(|forms| forms.form).map_err(|error| Error::Unavailable(error.to_string()))
    }
}
