//! WASI's interfaces over the capabilities of the plugin that this is put
//! around. Each module is one package of WASI.
//!
//! All of a request is in memory and a fetch is over before anyone can wait for
//! it: streams are buffers, and nothing that is waited for is ever late.

mod absent;
mod bridge;
mod cli;
mod clocks;
mod config;
mod fetch;
mod fields;
mod http;
mod io;
mod logging;
mod random;

wit_bindgen::generate!({
    world: "souk:wasi/base",
    path: ["../../../wit/host", "../../../wit/web", "../wit"],
    generate_all,
});

struct Base;

export!(Base);
