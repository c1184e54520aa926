//! wasmtime: compiled code, composed graphs, instance pools, budgets, calls.

pub mod bindings;
