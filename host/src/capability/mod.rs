//! What plugins may call: one module a capability.
