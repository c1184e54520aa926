//! Host side of `wit/host` and `wit/web`, generated.
//!
//! Capabilities come as *named imports*: each method gets the [`Caller`] that
//! the linker bound to the plugin's own import, so identity never comes from a
//! guest.

pub use crate::shop::plugin::Caller;

/// The plugin whose calls an instance of a service answers; none for the host's.
pub type CalledBy = Option<std::sync::Arc<str>>;

/// The packages that the host has a side of, and their versions in `wit/`.
pub const OFFERED: [(&str, &str); 3] = [("souk:host", "0.1.0"), ("souk:web", "0.1.0"), ("souk:extend", "0.1.0")];

/// An interface that the host gives to plugins. Adding one does not compile before it is linked (`graph`) and it is decided
/// whether it needs a grant (`shop::powers`). A test holds the list to `wit/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    Storage,
    Data,
    Cache,
    Search,
    Session,
    Pages,
    Config,
    Events,
    Effects,
    Jobs,
    HttpClient,
    Secrets,
    Crypto,
    Random,
    Clock,
    Log,
    Metrics,
    Caller,
    Assets,
}

impl Capability {
    pub const ALL: [(Self, &str); 19] = [
        (Self::Storage, "souk:host/storage"),
        (Self::Data, "souk:host/data"),
        (Self::Cache, "souk:host/cache"),
        (Self::Search, "souk:host/search"),
        (Self::Session, "souk:host/session"),
        (Self::Pages, "souk:host/pages"),
        (Self::Config, "souk:host/config"),
        (Self::Events, "souk:host/events"),
        (Self::Effects, "souk:host/effects"),
        (Self::Jobs, "souk:host/jobs"),
        (Self::HttpClient, "souk:host/http-client"),
        (Self::Secrets, "souk:host/secrets"),
        (Self::Crypto, "souk:host/crypto"),
        (Self::Random, "souk:host/random"),
        (Self::Clock, "souk:host/clock"),
        (Self::Log, "souk:host/log"),
        (Self::Metrics, "souk:host/metrics"),
        (Self::Caller, "souk:host/caller"),
        (Self::Assets, "souk:web/assets"),
    ];

    /// Of an interface without its version; none where the host has no such thing to give.
    pub fn of(interface: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == interface).map(|(capability, _)| *capability)
    }
}

/// An interface by which the host calls a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    Web,
    Event,
    Effect,
    Job,
    Command,
    SelfCheck,
    Migrate,
}

impl Handler {
    pub const ALL: [(Self, &str); 7] = [
        (Self::Web, "souk:web/handler"),
        (Self::Event, "souk:host/event-handler"),
        (Self::Effect, "souk:host/effect-handler"),
        (Self::Job, "souk:host/job-handler"),
        (Self::Command, "souk:host/command-handler"),
        (Self::SelfCheck, "souk:host/self-check"),
        (Self::Migrate, "souk:host/data-migrate"),
    ];

    pub fn of(interface: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == interface).map(|(handler, _)| *handler)
    }
}

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
        "souk:host/crypto.hash-password": async,
        "souk:host/crypto.verify-password": async,
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
        "souk:host/caller@0.1.0": CalledBy,
        "souk:web/assets@0.1.0": Caller,
    },
    additional_derives: [Clone],
});
