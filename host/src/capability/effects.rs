//! Effects: work in the outside world, asked for in the unit's own commit.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::effects::Host;
use crate::engine::bindings::souk::host::effects::{Effect, Error};
use crate::shop::powers;
use crate::work::{UnitError, effects};

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

impl Host for GuestState {
    fn request(&mut self, caller: Caller, effect: Effect) -> Result<(), Error> {
        let named = |text: &str| (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains('\0');
        if !named(&effect.key) || !named(&effect.kind) || effect.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "kind and key have 1 to {NAME_BYTES_MAX} bytes without NUL, the payload at most {PAYLOAD_BYTES_MAX}"
            )));
        }
        if effect.target != caller.name() && !powers::may_ask_effect(&caller.manifest, &effect.target, &effect.kind) {
            let (target, kind) = (effect.target.escape_debug(), effect.kind.escape_debug());
            return Err(Error::Invalid(format!("`{target} {kind}` is not granted: add it to `effects` in the manifest")));
        }
        let mut unit = self.unit.lock();
        if !unit.live.contains_key(&effect.target) {
            return Err(Error::NoTarget(format!("no plugin `{}` is live", effect.target.escape_debug())));
        }
        let Effect { target, kind, key, payload, not_before_ms } = effect;
        Ok(effects::request(&mut unit, caller.name(), effects::Request { target, kind, key, payload, not_before_ms })?)
    }

    fn withdraw(&mut self, caller: Caller, key: String) -> Result<bool, Error> {
        if !(1..=NAME_BYTES_MAX).contains(&key.len()) || key.contains('\0') {
            return Err(Error::Invalid(format!("a key has 1 to {NAME_BYTES_MAX} bytes without NUL")));
        }
        Ok(effects::withdraw(&mut self.unit.lock(), caller.name(), &key)?)
    }
}
