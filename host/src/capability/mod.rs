//! What plugins may call: one module a capability.
//!
//! Each module holds its backend, free of wasm, and below it the generated
//! `Host` trait for [`GuestState`](crate::engine::GuestState), which checks the
//! caller's grants and translates. Adding one: write `wit/host`, list it in
//! `engine::bindings`, give it a module here and a line in `engine::graph`.

pub mod assets;
pub mod cache;
pub mod caller;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod data;
pub mod effects;
pub mod events;
pub mod http_client;
pub mod jobs;
pub mod log;
pub mod metrics;
pub mod pages;
pub mod random;
pub mod search;
pub mod secrets;
pub mod session;
pub mod slow;
pub mod storage;

use std::path::Path;
use std::sync::Arc;

use crate::engine::bindings::souk::host::config::ShopFacts;
use crate::store::Store;

/// The process-wide backends behind the capabilities.
pub struct Services {
    /// The base URL is only known for sure once the server listens.
    pub shop: arc_swap::ArcSwap<ShopFacts>,
    pub cache: cache::Cache,
    pub keys: crypto::Keyring,
    pub http: http_client::HttpClient,
    pub secrets: secrets::Secrets,
    pub metrics: metrics::Metrics,
    pub search: Arc<search::Search>,
    pub slow: slow::SlowWork,
}

impl Services {
    /// `data` is the store's own folder, `secrets` and `dictionary` are the operator's files.
    pub fn open(data: &Path, secrets: &Path, dictionary: &Path, shop: ShopFacts, store: Store) -> anyhow::Result<Self> {
        Ok(Self {
            shop: arc_swap::ArcSwap::from_pointee(shop),
            cache: cache::Cache::new(cache::BYTES_MAX),
            keys: crypto::Keyring::open(&data.join("keys"), crypto::known_fingerprint(&store)?.as_deref())?,
            http: http_client::HttpClient::new()?,
            secrets: secrets::Secrets::read(secrets)?,
            metrics: metrics::Metrics::default(),
            search: Arc::new(search::Search::new(&data.join("search"), store, search::dictionary(dictionary))),
            slow: slow::SlowWork::default(),
        })
    }
}
