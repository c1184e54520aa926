//! The Souk runtime: links, limits, meters and swaps plugins, and gives them
//! capabilities. It knows nothing of products, carts or payments.
//!
//! Rooms, from the outside in: [`cli`] starts things, [`front`] speaks HTTP,
//! [`work`] makes every request one transaction, [`shop`] keeps the live set of
//! plugins, [`engine`] runs them, [`capability`] is what they may call, and
//! [`store`] keeps documents.

mod alert;
mod audit;
pub mod capability;
pub mod chance;
pub mod cli;
pub mod engine;
mod files;
pub mod front;
mod local_time;
mod money;
mod printable;
pub mod runtime;
pub mod shop;
pub mod store;
pub mod work;
