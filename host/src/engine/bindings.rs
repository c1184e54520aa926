//! Host side of `wit/host` and `wit/web`, generated.
//!
//! Capabilities come as *named imports*: each method gets the [`Caller`] that
//! the linker bound to the plugin's own import, so identity never comes from a
//! guest.

pub use crate::shop::plugin::Caller;

/// The packages that the host has a side of, and their versions in `wit/`.
pub const OFFERED: [(&str, &str); 3] = [("souk:host", "0.1.0"), ("souk:web", "0.1.0"), ("souk:extend", "0.1.0")];

wasmtime::component::bindgen!({
    inline: "
        package souk:runtime;

        world everything {
            include souk:host/capabilities@0.1.0;
            import souk:web/assets@0.1.0;
            export souk:web/handler@0.1.0;
            export souk:host/event-handler@0.1.0;
            export souk:host/effect-handler@0.1.0;
            export souk:host/job-handler@0.1.0;
            export souk:host/command-handler@0.1.0;
            export souk:host/self-check@0.1.0;
            export souk:host/data-migrate@0.1.0;
        }
    ",
    path: ["../wit/host", "../wit/web"],
    imports: {
        "souk:host/http-client.fetch": async,
        "souk:host/cache.get": async,
    },
    exports: { default: async },
    named_imports: {
        "souk:host/storage@0.1.0": Caller,
        "souk:host/data@0.1.0": Caller,
        "souk:host/cache@0.1.0": Caller,
        "souk:host/search@0.1.0": Caller,
        "souk:host/session@0.1.0": Caller,
        "souk:host/pages@0.1.0": Caller,
        "souk:host/config@0.1.0": Caller,
        "souk:host/events@0.1.0": Caller,
        "souk:host/effects@0.1.0": Caller,
        "souk:host/jobs@0.1.0": Caller,
        "souk:host/http-client@0.1.0": Caller,
        "souk:host/secrets@0.1.0": Caller,
        "souk:host/crypto@0.1.0": Caller,
        "souk:host/random@0.1.0": Caller,
        "souk:host/clock@0.1.0": Caller,
        "souk:host/log@0.1.0": Caller,
        "souk:host/metrics@0.1.0": Caller,
        "souk:web/assets@0.1.0": Caller,
    },
    additional_derives: [Clone],
});
