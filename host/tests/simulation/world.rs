//! What the shop's process is put into: a disk that outlives it, a clock that
//! only moves when nothing else can, and a network to itself that loses,
//! repeats and delays.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::Value;
use souk_host::engine::bindings::exports::souk::web::handler;
use souk_host::engine::bindings::souk::host::http_client::{Error, Request, Response};
use souk_host::engine::{self, Code, Engine};
use souk_host::front::routes::Found;
use souk_host::front::{Application, Call, Failure, FailureKind, Idempotency};
use souk_host::runtime::Runtime;
use souk_host::shop::settings::{Settings, StoreFolder};
use souk_host::store::Store;
use tokio::time::{Instant, sleep};

use crate::books::Books;
use crate::disk::{Contents, Disk, Plug};
use crate::operator::{Operator, Shelf};

/// 2026-11-25T08:00:00Z: coupons are valid, no clock is set forward or back.
const OPENING_MS: i64 = 1_795_593_600_000;
pub const STOCK: [(&str, i64); 2] = [("SIM-FEW", 3), ("SIM-MANY", 400)];
/// Ids of discounts of `promotions.json`, their codes, and how often they may be used: in all, by one customer.
pub const DISCOUNTS: [(&str, &str, (usize, usize)); 2] = [("discount-coupon/ONCE", "ONCE", (1, 1)), ("discount-coupon/SIM5", "SIM5", (5, 2))];

/// Made once: what all simulations begin with.
pub struct Ground {
    folder: StoreFolder,
    settings: Arc<Settings>,
    engine: Engine,
    contents: Arc<Contents>,
    shelf: Shelf,
    _temporary: tempfile::TempDir,
}

impl Ground {
    pub fn prepare() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("host/ lies in the repository")?;
        let temporary = tempfile::tempdir()?;
        let folder = StoreFolder(temporary.path().join("store"));
        std::fs::create_dir_all(folder.data())?;
        std::fs::copy(root.join("store-data/souk.toml"), folder.0.join("souk.toml"))?;
        let plugins = root.join("target/plugins");
        anyhow::ensure!(plugins.is_dir(), "{} is not built: run the tests with `cargo xtask test`", plugins.display());
        let shelf = Shelf::fill(&plugins, temporary.path().join("shelf"))?;
        shelf.set_up(&folder.plugins())?;
        let goods = temporary.path().join("goods");
        write_goods(&root.join("store-data"), &goods)?;
        let mut settings = Settings::read(&folder.0)?;
        settings.config.entry("pay-sandbox".to_owned()).or_default().insert("hangs".to_owned(), true.into());
        // All shoppers have one address, and hours pass in seconds.
        let of_cart = settings.config.entry("cart".to_owned()).or_default();
        for limit in ["carts-per-network-max", "codes-per-network-max"] {
            of_cart.insert(limit.to_owned(), 0.into());
        }
        let of_orders = settings.config.entry("orders".to_owned()).or_default();
        for limit in ["given-up-per-network-max", "free-orders-per-network-max"] {
            of_orders.insert(limit.to_owned(), 0.into());
        }
        settings.plugins.grants = souk_host::shop::settings::GrantSetting::Implied;
        let settings = Arc::new(settings);
        let cache = root.join("target/test-code-cache");
        std::fs::create_dir_all(&cache)?;
        let options = engine::Options { code_cache: Some(cache), baseline: false, processor_time: || Duration::ZERO, lends_spare_time: false, ..engine::Options::default() };
        let engine = Engine::new(options).map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let mut ground = Self { folder, settings, engine, contents: Arc::default(), shelf, _temporary: temporary };
        let disk = Disk::with(Arc::default(), Books::default());
        let filled = process(|| async {
            let runtime = ground.open(&disk, &Clock::starting(0)).await?;
            runtime.runner.start().await?;
            souk_host::cli::feed(&runtime, &goods).await?;
            runtime.runner.stop().await;
            anyhow::Ok(())
        });
        filled?;
        ground.contents = disk.contents();
        Ok(ground)
    }

    pub fn disk(&self) -> Arc<Disk> {
        let stock = STOCK.map(|(sku, count)| (sku.to_owned(), count));
        let limits = DISCOUNTS.map(|(id, _, limits)| (id.to_owned(), limits));
        Disk::with(self.contents.clone(), Books::open(BTreeMap::from(stock), BTreeMap::from(limits)))
    }

    /// Whose shop has the plugins of the first day.
    pub fn operator(&self) -> Result<Operator<'_>> {
        let plugins = self.folder.plugins();
        self.shelf.set_up(&plugins)?;
        Ok(Operator::new(&self.shelf, plugins))
    }

    /// The shop as it comes up on what the disk holds; not started.
    pub async fn open(&self, disk: &Arc<Disk>, clock: &Clock) -> Result<Arc<Runtime>> {
        let latency = || Duration::from_millis(souk_host::chance::below(4));
        let store = Store::simulated(Arc::new(Plug(disk.clone(), clock.clone())), latency)?;
        let now = clock.clone();
        Runtime::over(store, self.engine.clone(), Arc::new(move || now.now_ms()), self.folder.clone(), self.settings.clone(), Code::Optimised).await
    }
}

/// One product of the real catalogue with as many variants as are counted, and a discount with few uses.
fn write_goods(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    let read = |path: &str| -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(from.join(path))?)?) };
    let mut product = read("catalogue/products/accessories.json")?[0].take();
    let variants = product["variants"].as_array_mut().context("a product has variants")?;
    variants.truncate(STOCK.len());
    for (variant, (sku, _)) in variants.iter_mut().zip(STOCK) {
        variant["sku"] = sku.into();
    }
    let mut promotions = read("promotions.json")?;
    let mut coupon = promotions["coupons"].as_array().into_iter().flatten().find(|coupon| coupon["code"] == "MINUS20").context("no MINUS20")?.clone();
    (coupon["code"], coupon["minimum"], coupon["limit"], coupon["per-customer"]) = ("SIM5".into(), 0.into(), 5.into(), 2.into());
    promotions["coupons"].as_array_mut().context("no coupons")?.push(coupon);
    let catalogue = serde_json::json!({ "categories": read("catalogue/categories.json")?, "products": [product] });
    let stock: Vec<Value> = STOCK.iter().map(|(sku, count)| serde_json::json!({ "sku": sku, "quantity": count })).collect();
    for (name, value) in [("catalogue.json", catalogue), ("stock.json", stock.into()), ("promotions.json", promotions), ("tax.json", read("tax.json")?), ("shipping.json", read("shipping.json")?)] {
        std::fs::write(to.join(name), value.to_string())?;
    }
    let steps = [("catalogue", "catalogue"), ("stock", "stock"), ("tax", "tax"), ("shipping", "shipping"), ("coupons", "promotions")];
    let steps: String = steps.iter().map(|(what, file)| format!("[[steps]]\ncommand = \"import-{what}\"\nfile = \"{file}.json\"\n")).collect();
    Ok(std::fs::write(to.join("import.toml"), steps)?)
}

/// One life of the shop's process: when `run` ends, all of it is gone at once.
pub fn process<T>(run: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime of one thread");
    runtime.block_on(run())
}

/// The wall clock of a process, which its operator can set.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    set_ms: Arc<AtomicI64>,
}

impl Clock {
    /// So many milliseconds after the opening.
    pub fn starting(at_ms: i64) -> Self {
        Self { started: Instant::now(), set_ms: Arc::new(AtomicI64::new(OPENING_MS + at_ms)) }
    }

    pub fn now_ms(&self) -> u64 {
        (self.set_ms.load(Relaxed) + self.started.elapsed().as_millis() as i64) as u64
    }

    pub fn since_opening_ms(&self) -> i64 {
        self.now_ms() as i64 - OPENING_MS
    }

    pub fn set_by(&self, ms: i64) {
        self.set_ms.fetch_add(ms, Relaxed);
    }
}

/// Asks the shop, past sockets: method, path and body as a client sends them.
pub async fn ask(runtime: &Runtime, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>, idempotency: Option<Idempotency>) -> Result<(u16, Vec<u8>), Failure> {
    let site = runtime.site();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let Found::Mount(mount, params) = site.find(&method.parse().expect("a method"), path) else { return Ok((404, Vec::new())) };
    let request = handler::Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        route: mount.route.route.name.clone(),
        params,
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body,
        locale: "en".to_owned(),
        locale_prefix: String::new(),
        request_id: "simulated".to_owned(),
        client_address: "203.0.113.7".to_owned(),
        caller: String::new(),
    };
    let call = Call { plugin: mount.route.plugin.clone(), request, session: None, idempotency, place: None, origin: None, admission: None };
    let answer = runtime.call(call).await?;
    Ok((answer.response.status, answer.response.body))
}

/// How often in a hundred a message to the shop itself is …
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// … lost before it arrives,
    pub lost: u8,
    /// carried out, but its answer lost,
    pub unanswered: u8,
    /// delivered twice at once,
    pub doubled: u8,
    /// delivered, and minutes later again.
    pub echoed: u8,
}

impl Weather {
    pub const FINE: Self = Self { lost: 0, unanswered: 0, doubled: 0, echoed: 0 };
}

/// Has what plugins send to `shop.internal` go through it.
pub fn network(runtime: &Arc<Runtime>, weather: Arc<Mutex<Weather>>) {
    let shop = Arc::downgrade(runtime);
    runtime.services.http.simulate_own(Box::new(move |request| {
        let (shop, weather) = (shop.clone(), *weather.lock());
        Box::pin(async move {
            let mut fate = souk_host::chance::below(100) as u8;
            let mut befalls = |percent: u8| {
                let befallen = fate < percent;
                fate = fate.saturating_sub(percent).max(if befallen { 100 } else { 0 });
                befallen
            };
            sleep(Duration::from_millis(1 + souk_host::chance::below(300))).await;
            if befalls(weather.lost) {
                return Err(Error::Timeout);
            }
            if befalls(weather.unanswered) {
                let _ = deliver(&shop, request).await;
                return Err(Error::Timeout);
            }
            if befalls(weather.doubled) {
                let (first, _) = tokio::join!(deliver(&shop, request.clone()), deliver(&shop, request));
                return first;
            }
            if befalls(weather.echoed) {
                let (shop, request) = (shop.clone(), request.clone());
                tokio::spawn(async move {
                    sleep(Duration::from_secs(30 + souk_host::chance::below(600))).await;
                    let _ = deliver(&shop, request).await;
                });
            }
            deliver(&shop, request).await
        })
    }));
}

async fn deliver(shop: &Weak<Runtime>, request: Request) -> Result<Response, Error> {
    let runtime = shop.upgrade().ok_or(Error::Timeout)?;
    let path = request.url.split_once("shop.internal").map_or("", |(_, path)| path);
    let headers: Vec<(&str, &str)> = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    match ask(&runtime, &request.method, path, &headers, request.body, None).await {
        Ok((status, body)) => Ok(Response { status, headers: Vec::new(), body }),
        Err(failure) => Ok(Response { status: status_of(&failure), headers: Vec::new(), body: Vec::new() }),
    }
}

/// As the front answers it.
pub fn status_of(failure: &Failure) -> u16 {
    match failure.kind {
        FailureKind::Plugin => 500,
        FailureKind::Deadline => 504,
        FailureKind::IdempotencyMismatch => 422,
        FailureKind::IdempotencyInProgress => 409,
        FailureKind::Overloaded | FailureKind::Share | FailureKind::Conflict | FailureKind::Unavailable | FailureKind::Unconfirmed => 503,
    }
}
