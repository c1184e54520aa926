//! A shop put together: store, services, plugins, units of work.
//!
//! `cli` opens one for every command; `serve` puts the front before it. This is
//! the only place that knows all the rooms.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::capability::Services;
use crate::engine::{self, Code, Engine};
use crate::front::page_cache::PageCache;
use crate::front::{Answer, Application, Call, Failure, FrontOptions, Site};
use crate::shop::Shop;
use crate::shop::settings::{Settings, StoreFolder};
use crate::store::Store;
use crate::work::{Options, Runner};

pub struct Runtime {
    pub settings: Arc<Settings>,
    pub folder: StoreFolder,
    pub store: Store,
    pub services: Arc<Services>,
    pub shop: Arc<Shop>,
    pub runner: Arc<Runner<Shop>>,
    pub pages: Arc<PageCache>,
}

impl Runtime {
    /// Opens the store and brings its plugins to life. Nothing runs in the
    /// background before [`Runner::start`].
    pub async fn open(folder: StoreFolder, settings: Settings, code: Code) -> Result<Arc<Self>> {
        let options = engine::Options { code_cache: Some(folder.code_cache()), baseline: settings.plugins.baseline_code, ..engine::Options::default() };
        Self::open_on(folder, settings, code, options).await
    }

    /// On an engine of one's own choice.
    pub async fn open_on(folder: StoreFolder, settings: Settings, code: Code, engine: engine::Options) -> Result<Arc<Self>> {
        let settings = Arc::new(settings);
        std::fs::create_dir_all(folder.data()).with_context(|| folder.data().display().to_string())?;
        let store = Store::open(&folder.documents(), settings.storage.engine.into())?;
        let services = Arc::new(Services::open(&folder.data(), &folder.secrets(), settings.facts(settings.base_url()), store.clone())?);
        let engine = Engine::new(engine).map_err(|error| anyhow::anyhow!("the wasm engine does not start: {error:#}"))?;
        let shop = Shop::open(folder.plugins(), settings.clone(), engine, services.clone(), store.clone(), code).await?;
        let pages = Arc::new(PageCache::new(settings.server.limits.page_cache_bytes_max));
        let options = Options {
            time_zone: jiff::tz::TimeZone::get(&settings.shop.time_zone)?,
            invalidate: {
                let pages = pages.clone();
                Box::new(move |tags| pages.invalidate(tags))
            },
            ..Options::default()
        };
        let runner = Runner::new(store.clone(), shop.clone(), options);
        Ok(Arc::new(Self { settings, folder, store, services, shop, runner, pages }))
    }

    pub fn front_options(&self) -> FrontOptions {
        FrontOptions {
            config: self.settings.server.clone(),
            base_url: self.settings.base_url(),
            session_key: self.services.keys.host_key("session"),
            media: self.folder.media(),
            pages: self.pages.clone(),
        }
    }
}

impl Application for Runtime {
    fn site(&self) -> Arc<Site> {
        self.shop.site()
    }

    async fn call(&self, call: Call) -> Result<Answer, Failure> {
        self.runner.request(call).await
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn metrics(&self, out: &mut String) {
        self.runner.metrics(out);
        self.services.metrics.encode(out);
        self.shop.metrics(out);
    }
}
