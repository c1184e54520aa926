//! Which form a plugin's documents are to be written in.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::data::Host;
use crate::engine::bindings::souk::host::storage::Error;
use crate::work::data;

impl Host for GuestState {
    fn form(&mut self, caller: Caller) -> Result<u32, Error> {
        let mut unit = self.unit.lock();
        unit.charge(1, caller.manifest.limits.storage_operations)?;
        let forms = data::forms(unit.read()?, caller.name()).map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(forms.form)
    }
}
