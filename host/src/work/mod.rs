//! The unit of work: one request, event, effect or job is one transaction
//! across every plugin it passes through.
//!
//! [`Runner`](runner::Runner) runs a handler in a [`Unit`], again where another
//! unit won, commits, and only then lets anything out. Behind it run the
//! outbox, the effects, the jobs and the expiry, each of them only able to do
//! what a unit can do. This room reaches plugins through [`Plugins`] and knows
//! neither wasm nor HTTP sockets. Which of several things comes first is never
//! left to chance (`select!` is biased, maps that are walked are ordered), so that
//! a simulation of it can be repeated.

pub mod data;
pub mod dead;
pub mod effects;
mod expiry;
mod idempotency;
pub mod jobs;
pub mod keys;
mod metrics;
pub mod outbox;
mod parked;
pub mod rehearsal;
pub mod retry;
pub mod runner;
#[cfg(test)]
mod tests;
pub mod trouble;
pub mod unit;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::engine::CallError;
use crate::engine::bindings::exports::souk::host::effect_handler::{Completion, Effect, Failure};
use crate::engine::bindings::exports::souk::host::event_handler::Event;
use crate::engine::bindings::exports::souk::host::job_handler::Job;
use crate::engine::bindings::exports::souk::web::handler::{Request, Response};
use crate::shop::plugin::Plugin;
pub use retry::Retry;
pub use runner::{Options, RunError, Runner};
pub use unit::{SharedUnit, Unit, UnitError};

/// The plugins that are live, by name.
pub type LivePlugins = BTreeMap<String, Arc<Plugin>>;

/// How this room calls plugins. The shop implements it; tests use a fake.
pub trait Plugins: Send + Sync + 'static {
    /// Runs one handler to its end in `unit`. Nothing of the guest may touch
    /// the unit after the future has ended or was dropped. With an error of the kind
    /// [`OnTrial`](crate::engine::CallErrorKind::OnTrial) the unit is to be run
    /// again, marked as [`Unit::live_only`].
    fn call(
        &self,
        plugin: &str,
        call: &PluginCall,
        unit: SharedUnit,
    ) -> impl Future<Output = Result<PluginAnswer, CallError>> + Send;

    /// How long it is until this plugin may begin what nobody waits for: it has used its
    /// share of processor time. None where it may begin now.
    fn owes(&self, _plugin: &str) -> Option<Duration> {
        None
    }

    /// A new value with each swap.
    fn live(&self) -> watch::Receiver<Arc<LivePlugins>>;
}

/// One call of one of a plugin's handlers.
#[derive(Debug, Clone)]
pub enum PluginCall {
    Web(Request),
    Event(Event),
    Perform(Effect),
    Completed(Completion),
    Job(Job),
    Command { name: String, arguments: Vec<(String, String)>, input: Vec<u8> },
    Migrate { cursor: String },
    SelfCheck,
}

/// The answer to the call of the same name.
#[derive(Debug)]
pub enum PluginAnswer {
    Web(Response),
    Event(Result<(), String>),
    Perform(Result<Vec<u8>, Failure>),
    Completed(Result<(), String>),
    /// True: run it again at once.
    Job(Result<bool, String>),
    Command(Result<Vec<u8>, String>),
    /// Where to go on; none when all is done.
    Migrated(Result<Option<String>, String>),
    SelfCheck(Result<(), String>),
}

/// Of an error that a plugin answers, in bytes: it is stored, logged and shown with each try.
const ERROR_BYTES_MAX: usize = 4_000;

impl PluginAnswer {
    /// Without what its error has too much. What an operator's command says is shown once, and stays whole.
    pub fn bounded(mut self) -> Self {
        let error = match &mut self {
            Self::Event(Err(error)) | Self::Completed(Err(error)) | Self::Job(Err(error)) | Self::Migrated(Err(error)) | Self::SelfCheck(Err(error)) => error,
            Self::Perform(Err(Failure::Retry(error) | Failure::Refused(error))) => error,
            _ => return self,
        };
        if error.len() > ERROR_BYTES_MAX {
            let whole = error.len();
            error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
            _ = write!(error, "… ({whole} bytes)");
        }
        self
    }
}
