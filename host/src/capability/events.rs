//! Events, published in the unit's own commit.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::events::Host;
use crate::engine::bindings::souk::host::events::Error;
use crate::work::{UnitError, outbox};

const KEY_BYTES_MAX: usize = 512;
const PAYLOAD_BYTES_MAX: usize = 64 << 10;

impl From<UnitError> for Error {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::ReadOnly => Error::ReadOnly,
            error => Error::Quota(error.to_string()),
        }
    }
}

impl Host for GuestState {
    fn publish(&mut self, caller: Caller, topic: String, key: String, payload: Vec<u8>) -> Result<(), Error> {
        if !caller.manifest.publishes.contains(&topic) {
            return Err(Error::Invalid(format!("the topic `{}` is not in the manifest: add it to `publishes`", topic.escape_debug())));
        }
        if key.len() > KEY_BYTES_MAX || payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Error::Invalid(format!("an event has at most {KEY_BYTES_MAX} bytes of key and {PAYLOAD_BYTES_MAX} of payload")));
        }
        Ok(outbox::publish(&mut self.unit.lock(), caller.name(), topic, key, payload)?)
    }
}
