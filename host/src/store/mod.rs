//! Durable documents and optimistic transactions over opaque byte keys.
