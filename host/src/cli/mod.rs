//! The `souk` command.
