//! Events, effects and jobs with JSON payloads, over the plain capabilities.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Serialising fails only for types JSON has no form for, such as maps with
/// keys that are not text: a slip in the plugin's code.
fn to_json(payload: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(payload).map_err(|error| format!("payload: {error}"))
}

fn from_json<T: DeserializeOwned>(what: &str, payload: &[u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|error| format!("{what}: {error}"))
}

/// Facts that other plugins can act upon, committed with the unit.
///
/// ```
/// # use souk_sdk::{events, testing};
/// events::publish_json("order.placed", "order-1", &serde_json::json!({ "total": 100 }))?;
/// assert_eq!(testing::events()[0].topic, "order.placed");
/// # Ok::<(), events::Error>(())
/// ```
pub mod events {
    pub use crate::bindings::host::event_handler::{Event, Guest};
    pub use crate::capability::events::*;

    /// Publishes under a topic that the manifest names under `publishes`; events with one key are heard in order.
    pub fn publish_json(topic: &str, key: &str, payload: &impl super::Serialize) -> Result<(), Error> {
        publish(topic, key, &super::to_json(payload).map_err(Error::Invalid)?)
    }

    impl Event {
        /// The payload, or an error fit to be answered.
        pub fn json<T: super::DeserializeOwned>(&self) -> Result<T, String> {
            super::from_json(&self.topic, &self.payload)
        }
    }
}

/// Work in the outside world, done after the commit.
///
/// ```
/// # use souk_sdk::{effects, testing};
/// effects::request_json("pay-sandbox", "payment.create", "payment-1", &serde_json::json!({ "amount": 100 }))?;
/// assert_eq!(testing::effects()[0].target, "pay-sandbox");
/// # Ok::<(), effects::Error>(())
/// ```
pub mod effects {
    pub use crate::bindings::host::effect_handler::{Completion, Effect as Order, Failure, Guest};
    pub use crate::capability::effects::*;

    /// To be done as soon as the unit is committed.
    pub fn request_json(target: &str, kind: &str, key: &str, payload: &impl super::Serialize) -> Result<(), Error> {
        request(&Effect {
            target: target.into(),
            kind: kind.into(),
            key: key.into(),
            payload: super::to_json(payload).map_err(Error::Invalid)?,
            not_before_ms: 0,
        })
    }

    impl Order {
        /// What is asked, or a refusal fit to be answered.
        pub fn json<T: super::DeserializeOwned>(&self) -> Result<T, Failure> {
            super::from_json(&self.kind, &self.payload).map_err(Failure::Refused)
        }
    }

    impl Completion {
        /// What was asked.
        pub fn asked_json<T: super::DeserializeOwned>(&self) -> Result<T, String> {
            super::from_json(&self.kind, &self.payload)
        }

        /// The target's answer; the inner error is its final failure.
        pub fn answer_json<T: super::DeserializeOwned>(&self) -> Result<Result<T, String>, String> {
            match &self.outcome {
                Ok(answer) => super::from_json(&self.kind, answer).map(Ok),
                Err(failure) => Ok(Err(failure.clone())),
            }
        }
    }
}

/// Work for later.
///
/// ```
/// # use souk_sdk::{clock, jobs, testing};
/// jobs::schedule_json("expire", "cart-1", clock::now_ms() + 60_000, &())?;
/// assert!(testing::jobs().contains_key(&("expire".to_owned(), "cart-1".to_owned())));
/// # Ok::<(), jobs::Error>(())
/// ```
pub mod jobs {
    pub use crate::bindings::host::job_handler::{Guest, Job};
    pub use crate::capability::jobs::*;

    /// Runs the job once, at or after `at_ms` (UTC milliseconds). The same name and key again moves it.
    pub fn schedule_json(name: &str, key: &str, at_ms: u64, payload: &impl super::Serialize) -> Result<(), Error> {
        schedule(name, key, at_ms, &super::to_json(payload).map_err(Error::Invalid)?)
    }

    impl Job {
        /// The payload, or an error fit to be answered.
        pub fn json<T: super::DeserializeOwned>(&self) -> Result<T, String> {
            super::from_json(&self.name, &self.payload)
        }
    }
}
