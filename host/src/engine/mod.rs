//! wasmtime: compiled code, composed graphs, instance pools, budgets, calls.

pub mod bindings;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {kind:?}: {message}", plugin.as_deref().unwrap_or("host"))]
pub struct CallError {
    pub plugin: Option<String>,
    pub kind: CallErrorKind,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallErrorKind {
    /// The guest trapped: a panic, a bad access, too deep a recursion.
    Trap,
    /// Its time was up.
    Deadline,
    /// More memory or table elements than it may have.
    Memory,
    /// An answer that is too large or makes no sense.
    Output,
    /// No instance came free in time.
    Overloaded,
    /// No such plugin is live, or it does not export the handler.
    NotFound,
    /// Something else in the host.
    Host,
}
