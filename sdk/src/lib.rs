//! What a Souk plugin depends on: the shop's interfaces as Rust modules, and
//! fronts of the host's capabilities that also work in native tests.
//!
//! A plugin is a type that implements the `Guest` trait of each interface it
//! exports, and one [`export!`]:
//!
//! ```
//! use souk_sdk::web::{self, Request, Response};
//!
//! struct Hello;
//!
//! impl web::Guest for Hello {
//!     fn handle(request: Request) -> Response {
//!         web::html(format!("<p>Hello {}", request.path))
//!     }
//! }
//!
//! souk_sdk::export!(Hello: web::handler);
//! ```
//!
//! [`commerce`] and [`extend`] are the services and extension points of the
//! shop: calling a function of theirs is importing it. Everything else here is
//! in a module named after the capability. Compiled natively, capabilities are
//! in memory and belong to the thread: see [`testing`].

#![warn(missing_docs)]

// The generated code names this crate from inside as from outside.
extern crate self as souk_sdk;

#[doc(hidden)]
#[allow(clippy::all, missing_docs)]
// What only components need is left out of the rest natively.
#[cfg_attr(not(target_arch = "wasm32"), allow(unused))]
pub mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

/// Ends a native test that calls another plugin.
#[cfg(not(target_arch = "wasm32"))]
fn no_provider(module: &str, function: &str) -> ! {
    let interface = module.rsplit("::wit::").next().unwrap_or(module);
    panic!("`{interface}::{function}` is another plugin's, and a native test has none: call it in a scenario (`souk plugin test`)")
}

#[cfg(any(test, all(target_arch = "wasm32", feature = "allocator")))]
mod allocator;
mod collection;
pub mod config;
pub mod entry;
pub mod flow;
pub mod ids;
pub mod limits;
pub mod log;
pub mod money;
pub mod storage;
#[cfg(feature = "table")]
pub mod table;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod web;
mod words;
#[cfg(feature = "zone")]
pub mod zone;

#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator::new();

#[cfg(target_arch = "wasm32")]
mod capability {
    pub use crate::bindings::host::*;
    pub use crate::bindings::web::assets;
}
#[cfg(not(target_arch = "wasm32"))]
use testing::capability;

#[doc(hidden)]
pub use wit_bindgen::rt;

// Contracts in the `wit/` of a project that `souk plugin new` made, by their packages' names.
#[allow(unused_imports)]
pub use bindings::of_others::*;
pub use bindings::{commerce, extend, host};
pub use capability::{
    assets, cache, caller, clock, crypto, data, http_client as http, metrics, pages, random, search, secrets, session,
};
pub use flow::{effects, events, jobs};
pub use money::Money;
pub use words::InWords;
#[doc(no_inline)]
pub use {serde, serde_json};

/// Exports interfaces from a plugin's component: `export!(Plugin: web::handler,
/// host::event_handler, commerce::cart)`. The type implements the `Guest` trait
/// of each. Only interfaces named here are in the component, and of the imports
/// only those that are called.
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($package:ident :: $interface:ident),+ $(,)?) => {
        $(
            #[cfg(target_arch = "wasm32")]
            $crate::$package::$interface::world::export!($plugin with_types_in $crate::$package::$interface::world);
            // Native tests have nothing to export, but a trait to hold the type to.
            #[cfg(not(target_arch = "wasm32"))]
            const _: () = {
                const fn implements<T: $crate::$package::$interface::Guest>() {}
                implements::<$plugin>()
            };
        )+
    };
}
