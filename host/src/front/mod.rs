//! HTTP in: from a socket to a plugin's route and back.
//!
//! This room owns everything that is about HTTP and nothing that is about a
//! shop: connections and their limits, routing by the manifests, sessions'
//! cookies, cross-site checks, the page cache, compression, assets, errors.
//! It reaches the rest of the host through one trait, [`Application`], and
//! knows neither stores nor wasm. `cli` starts it with [`server::Server`].
//!
//! The way of one request: [`server`] accepts and limits → [`service`] finds
//! an asset, a cached page or a route → session, cross-site and body checks →
//! a place at the [`gate`] → [`Application::call`] → headers cleaned, compressed, perhaps kept in
//! [`page_cache`].

pub mod assets;
mod browser;
mod callers;
pub mod compress;
pub mod config;
pub mod gate;
pub mod headers;
mod kept;
pub mod media;
pub mod metrics;
pub mod page_cache;
pub mod problem;
pub mod routes;
pub mod server;
mod service;
pub mod session;
mod standing;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use crate::engine::bindings::exports::souk::web::handler;
pub use crate::engine::Admission;
pub use routes::{Locale, Site, SiteError};
pub use gate::{Place, lending};
pub use service::FrontOptions;

/// What the front calls. The runtime implements it; tests use a fake.
pub trait Application: Send + Sync + 'static {
    /// The routes and assets of what is live now. Cheap: called for every
    /// request. The site and the graph that [`Self::call`] uses must be swapped
    /// together, or the graph first.
    fn site(&self) -> Arc<Site>;

    /// Waits until there is room for one more request of whoever it counts for: the
    /// plugin that answers it or, where a plugin has sent it, that one. None where
    /// nobody is held back.
    fn admit(&self, plugin: &str, origin: Option<&Origin>) -> impl Future<Output = Result<Option<Admission>, Failure>> + Send {
        _ = (plugin, origin);
        async { Ok(None) }
    }

    /// Who has sent a request that came with this in the header [`ORIGIN`].
    fn origin(&self, header: &str) -> Option<Origin> {
        _ = header;
        None
    }

    /// Runs the route's handler as one unit of work and returns after its
    /// commit, with the pages it invalidated already dropped from
    /// [`page_cache::PageCache`].
    ///
    /// Safe methods: the future is dropped when the client goes away. All
    /// others run to their end whatever the client does.
    fn call(&self, call: Call) -> impl Future<Output = Result<Answer, Failure>> + Send;

    /// Why no requests should be sent here now, if so.
    fn ready(&self) -> Result<(), String>;

    /// What needs a look although requests are served.
    fn degraded(&self) -> Vec<String> {
        Vec::new()
    }

    /// Appends the runtime's own metrics in the OpenMetrics text format,
    /// without the final `# EOF`.
    fn metrics(&self, out: &mut String);
}

/// One request to one route, checked and limited.
#[derive(Debug)]
pub struct Call {
    pub plugin: Arc<str>,
    pub request: handler::Request,
    /// From a cookie that this host signed; none on cross-site routes.
    pub session: Option<SessionId>,
    pub idempotency: Option<Idempotency>,
    /// Where it was let in: lent or left while it waits.
    pub place: Option<Place>,
    pub origin: Option<Origin>,
    /// By whose share it was let in, if that is held to.
    pub admission: Option<Admission>,
}

/// How a request came about that a plugin has sent to its own shop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The first in the chain of those who sent one.
    pub plugin: Arc<str>,
    /// 1 for what it sent itself.
    pub depth: u32,
}

impl Origin {
    /// A request sent while answering one of this depth is not answered.
    pub const DEPTH_MAX: u32 = 3;
}

/// Says so of a request: nobody but the host can write one that counts.
pub const ORIGIN: &str = "souk-origin";

/// An opaque token, 16-64 characters of `[A-Za-z0-9_-]`, made by the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionId(pub Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// 1-255 visible ASCII characters, chosen by the client.
    pub key: String,
    /// Whose key it is, beside the session's: a credential, or [`GUEST`]. Keys of
    /// different callers never meet. Where there is no session either, the key
    /// itself is hard to guess.
    pub scope: String,
    /// SHA-256 of method, path, query, content type and body: the same key
    /// with another fingerprint is a client's mistake (422).
    pub fingerprint: [u8; 32],
}

/// The scope of a request without a credential.
pub const GUEST: &str = "guest";

/// What a handler answered, after its unit ended.
#[derive(Debug)]
pub struct Answer {
    pub response: handler::Response,
    pub session: SessionChange,
    /// The unit wrote nothing and did not read the session, so that anyone may
    /// see this response. The front adds its own conditions before it keeps one.
    pub shareable: bool,
    /// A stored answer to a repeated `Idempotency-Key`.
    pub replayed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    Keep,
    /// The session was created or rotated: give the browser this id.
    Set(SessionId),
    Clear,
}

/// Why there is no answer. The message is for the log and never sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {message}")]
pub struct Failure {
    pub kind: FailureKind,
    pub plugin: Option<String>,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The plugin trapped, broke a limit or answered nonsense: 500.
    Plugin,
    /// Its time was up: 504.
    Deadline,
    /// No instance came free in time: 503 with `Retry-After`.
    Overloaded,
    /// The plugin, or the one that the request is charged to, has used its share: 503 with `Retry-After`.
    Share,
    /// Other units won at every attempt: 503 with `Retry-After`.
    Conflict,
    /// The same `Idempotency-Key` came with another request: 422.
    IdempotencyMismatch,
    /// The first request with this key is still being worked on: 409.
    IdempotencyInProgress,
    /// Storage or another part of the host failed: 503.
    Unavailable,
    /// The disk failed in the middle of the commit: 503, and nobody knows yet.
    Unconfirmed,
}
