//! What a Souk plugin depends on.
extern crate self as souk_sdk;

#[doc(hidden)]
pub use wit_bindgen::rt;

#[doc(hidden)]
#[allow(clippy::all, missing_docs)]
pub mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::{host, web};

#[macro_export]
macro_rules! export {
    ($plugin:ident: $($package:ident :: $interface:ident),+ $(,)?) => {
        $(
            #[cfg(target_arch = "wasm32")]
            $crate::$package::$interface::world::export!($plugin with_types_in $crate::$package::$interface::world);
        )+
    };
}
