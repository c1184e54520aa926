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

// The generated code names this crate from inside as from outside.
extern crate self as souk_sdk;

#[doc(hidden)]
#[allow(clippy::all, missing_docs)]
pub mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}
pub mod web;

#[doc(hidden)]
pub use wit_bindgen::rt;

pub use bindings::{commerce, extend, host};
#[doc(no_inline)]
pub use {maud, serde, serde_json};

pub use bindings::host::{
    cache, clock, config, crypto, effects, events, http_client as http, jobs, log, metrics, pages, random, search,
    secrets, session, storage,
};
pub use bindings::web::assets;

/// Exports interfaces from a plugin's component: `export!(Plugin: web::handler,
/// host::event_handler, commerce::cart)`. The type implements the `Guest` trait
/// of each. Only interfaces named here are in the component, and of the imports
/// only those that are called.
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($package:ident :: $interface:ident),+ $(,)?) => {
        $(
            // Natively the trait is implemented all the same, for tests.
            #[cfg(target_arch = "wasm32")]
            $crate::$package::$interface::world::export!($plugin with_types_in $crate::$package::$interface::world);
        )+
    };
}
