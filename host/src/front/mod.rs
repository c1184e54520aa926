//! HTTP in.
