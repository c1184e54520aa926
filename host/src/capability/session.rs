//! The shopper's session, each plugin in its own part of it.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::session::Host;
use crate::engine::bindings::souk::host::session::Error;
use crate::work::UnitError;
use crate::work::unit::SessionError;

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NoShopper => Error::None,
            SessionError::Invalid(message) => Error::Invalid(message),
            SessionError::Unit(UnitError::ReadOnly) => Error::ReadOnly,
            SessionError::Unit(error) => Error::Invalid(error.to_string()),
        }
    }
}

impl Host for GuestState {
    fn id(&mut self, _: Caller) -> Result<String, Error> {
        Ok(self.unit.lock().session_id()?)
    }

    fn get(&mut self, caller: Caller, key: String) -> Result<Option<String>, Error> {
        Ok(self.unit.lock().session_get(caller.name(), &key)?)
    }

    fn set(&mut self, caller: Caller, key: String, value: String) -> Result<(), Error> {
        Ok(self.unit.lock().session_set(caller.name(), &key, value)?)
    }

    fn delete(&mut self, caller: Caller, key: String) -> Result<(), Error> {
        Ok(self.unit.lock().session_delete(caller.name(), &key)?)
    }

    fn rotate(&mut self, _: Caller) -> Result<(), Error> {
        Ok(self.unit.lock().session_rotate()?)
    }
}
