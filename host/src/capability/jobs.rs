//! Work for later, scheduled in the unit's own commit.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::jobs::Host;
use crate::engine::bindings::souk::host::jobs::Error;
use crate::work::{UnitError, jobs};

const NAME_BYTES_MAX: usize = 128;
const PAYLOAD_BYTES_MAX: usize = 64 << 10;

impl From<UnitError> for Error {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::ReadOnly => Error::ReadOnly,
            error => Error::Quota(error.to_string()),
        }
    }
}

fn check(name: &str, key: &str, payload: &[u8]) -> Result<(), Error> {
    let named = |text: &str| text.len() <= NAME_BYTES_MAX && !text.contains('\0');
    if name.is_empty() || !named(name) || !named(key) || payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::Invalid(format!("name and key have at most {NAME_BYTES_MAX} bytes without NUL, the payload at most {PAYLOAD_BYTES_MAX}")));
    }
    Ok(())
}

impl Host for GuestState {
    fn schedule(&mut self, caller: Caller, name: String, key: String, at_ms: u64, payload: Vec<u8>) -> Result<(), Error> {
        check(&name, &key, &payload)?;
        Ok(jobs::schedule(&mut self.unit.lock(), caller.name(), name, key, at_ms, payload)?)
    }

    fn cancel(&mut self, caller: Caller, name: String, key: String) -> Result<(), Error> {
        check(&name, &key, &[])?;
        Ok(jobs::cancel(&mut self.unit.lock(), caller.name(), &name, &key)?)
    }
}
