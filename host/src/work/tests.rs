//! This room from outside: a real store, a fake in place of the plugins, and a
//! clock that stands still until it is set.

mod crashes;
mod flow;
mod idempotency;
mod jobs;
mod units;

use std::ops::Bound;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::engine::CallErrorKind;
use crate::front::{Answer, Call, Failure, Idempotency, SessionId};
use crate::store::{EngineKind, Store, Txn};

/// 2026-06-01T00:00:00Z.
const START_MS: u64 = 1_780_272_000_000;
/// Nothing takes so long; what does has been lost.
const HANG: Duration = Duration::from_secs(60);

struct Called {
    plugin: String,
    call: PluginCall,
    unit: SharedUnit,
}

type Answered = Result<PluginAnswer, CallError>;
type Handler = dyn Fn(Called) -> Pin<Box<dyn Future<Output = Answered> + Send>> + Send + Sync;

struct Fake {
    live: watch::Sender<Arc<LivePlugins>>,
    /// All that were called, in order.
    calls: watch::Sender<Vec<(String, PluginCall)>>,
    handler: Box<Handler>,
}

impl Fake {
    fn new<F: Future<Output = Answered> + Send + 'static>(live: LivePlugins, handler: impl Fn(Called) -> F + Send + Sync + 'static) -> Arc<Self> {
        let handler: Box<Handler> = Box::new(move |called| Box::pin(handler(called)));
        Arc::new(Self { live: watch::Sender::new(Arc::new(live)), calls: watch::Sender::default(), handler })
    }

    fn calls(&self) -> Vec<(String, PluginCall)> {
        self.calls.borrow().clone()
    }

    fn swap(&self, live: LivePlugins) {
        self.live.send_replace(Arc::new(live));
    }

    /// The background looks again for what is due.
    fn poke(&self) {
        self.live.send_modify(|_| ());
    }

    async fn until_called(&self, enough: impl FnMut(&Vec<(String, PluginCall)>) -> bool) {
        let mut calls = self.calls.subscribe();
        tokio::time::timeout(HANG, calls.wait_for(enough)).await.expect("the calls that were waited for did not come").unwrap();
    }
}

impl Plugins for Fake {
    async fn call(&self, plugin: &str, call: &PluginCall, unit: SharedUnit) -> Answered {
        if !self.live.borrow().contains_key(plugin) {
            return Err(failed(plugin, CallErrorKind::NotFound));
        }
        self.calls.send_modify(|calls| calls.push((plugin.to_owned(), call.clone())));
        (self.handler)(Called { plugin: plugin.to_owned(), call: call.clone(), unit }).await
    }

    fn live(&self) -> watch::Receiver<Arc<LivePlugins>> {
        self.live.subscribe()
    }
}

/// A shop with its clock.
struct Bench {
    folder: tempfile::TempDir,
    now_ms: Arc<AtomicU64>,
    /// Tags of pages dropped.
    dropped: Arc<Mutex<Vec<String>>>,
    retry: Retry,
    fake: Arc<Fake>,
    store: Store,
    runner: Arc<Runner<Fake>>,
}

/// No wait between tries; the waits themselves are tested alone.
const AT_ONCE: Retry = Retry { attempts_max: 3, first_ms: 0, most_ms: 0, horizon_ms: 0 };

impl Bench {
    fn new(fake: Arc<Fake>) -> Self {
        Self::with(fake, AT_ONCE)
    }

    fn with(fake: Arc<Fake>, retry: Retry) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (now_ms, dropped) = (Arc::new(AtomicU64::new(START_MS)), Arc::default());
        let store = Store::open(folder.path(), EngineKind::Fjall).unwrap();
        let runner = runner(&store, &fake, &now_ms, &dropped, &retry);
        Self { folder, now_ms, dropped, retry, fake, store, runner }
    }

    async fn started(fake: Arc<Fake>) -> Self {
        let bench = Self::new(fake);
        bench.runner.start().await.unwrap();
        bench
    }

    /// The same shop in a new process, not started.
    async fn restart(self) -> Self {
        let Self { folder, now_ms, dropped, retry, fake, store, runner } = self;
        runner.stop().await;
        drop((runner, store));
        let store = Store::open(folder.path(), EngineKind::Fjall).unwrap();
        let runner = self::runner(&store, &fake, &now_ms, &dropped, &retry);
        Self { folder, now_ms, dropped, retry, fake, store, runner }
    }

    fn advance(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    async fn get(&self, plugin: &str, route: &str) -> Result<Answer, Failure> {
        self.runner.request(call(plugin, route, None)).await
    }

    /// Waits for the commit after which `is_so`.
    async fn until(&self, is_so: impl FnMut(&mut Txn) -> bool) {
        until(&self.store, is_so).await;
    }

    /// All events are handled, and gone from the log.
    async fn until_trimmed(&self) {
        let trimmed = async {
            while self.count(b'o') > 0 {
                self.runner.trim_events().await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HANG, trimmed).await.expect("the log stays as long as it is");
    }

    fn number(&self, name: &str) -> u64 {
        number(&mut self.store.begin(), name)
    }

    fn text(&self, name: &str) -> String {
        text(&mut self.store.begin(), name)
    }

    /// All documents and records there are.
    fn all(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let all = self.store.begin().scan(Bound::Unbounded, Bound::Unbounded, usize::MAX, false).unwrap();
        all.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }

    /// How many records there are under this first byte.
    fn count(&self, namespace: u8) -> usize {
        self.all().iter().filter(|(key, _)| key[0] == namespace).count()
    }

    async fn put(&self, key: &[u8], value: &[u8]) {
        let mut txn = self.store.begin();
        txn.put(key, value.to_vec());
        self.store.commit(txn).await.unwrap();
    }
}

fn runner(store: &Store, fake: &Arc<Fake>, now_ms: &Arc<AtomicU64>, dropped: &Arc<Mutex<Vec<String>>>, retry: &Retry) -> Arc<Runner<Fake>> {
    let (now_ms, dropped) = (now_ms.clone(), dropped.clone());
    let options = Options {
        now: Arc::new(move || now_ms.load(Ordering::SeqCst)),
        invalidate: Box::new(move |tags| dropped.lock().extend_from_slice(tags)),
        retry: retry.clone(),
        ..Options::default()
    };
    Runner::new(store.clone(), fake.clone(), options)
}

async fn until(store: &Store, mut is_so: impl FnMut(&mut Txn) -> bool) {
    let mut durable = store.subscribe();
    let wait = async {
        while !is_so(&mut store.begin()) {
            durable.changed().await.unwrap();
        }
    };
    tokio::time::timeout(HANG, wait).await.expect("what was waited for was not committed");
}

/// Plugins by the text of their manifests, all at version 1.0.0.
fn plugins<const N: usize>(manifests: [(&str, &str); N]) -> LivePlugins {
    let plugin = |(name, rest): (&str, &str)| {
        let manifest = toml::from_str(&format!("name = \"{name}\"\nversion = \"1.0.0\"\n{rest}")).unwrap();
        let plugin = Plugin {
            manifest,
            digest: String::new(),
            publisher: String::new(),
            denied: Default::default(),
            usage: Default::default(),
            config_document: "{}".into(),
            config: Default::default(),
            asset_urls: Default::default(),
        };
        (name.to_owned(), Arc::new(plugin))
    };
    manifests.into_iter().map(plugin).collect()
}

fn call(plugin: &str, route: &str, idempotency: Option<(&str, u8)>) -> Call {
    let request = Request {
        method: "POST".into(),
        path: format!("/{route}"),
        query: String::new(),
        route: route.into(),
        params: Vec::new(),
        headers: Vec::new(),
        body: Vec::new(),
        locale: "en".into(),
        locale_prefix: String::new(),
        request_id: "r".into(),
        client_address: "192.0.2.1".into(),
        caller: String::new(),
    };
    let idempotency = idempotency.map(|(key, body)| Idempotency { key: key.into(), scope: "guest".into(), fingerprint: [body; 32] });
    Call { plugin: plugin.into(), request, session: None, idempotency, place: None, origin: None, admission: None }
}

/// The route of a web call.
fn route(call: &PluginCall) -> &str {
    match call {
        PluginCall::Web(request) => &request.route,
        _ => "",
    }
}

fn web(status: u16, body: &str) -> Answered {
    Ok(PluginAnswer::Web(Response { status, headers: Vec::new(), body: body.into(), cache: None, await_effects: false }))
}

fn failed(plugin: &str, kind: CallErrorKind) -> CallError {
    CallError { plugin: Some(plugin.to_owned()), kind, message: "on purpose".into() }
}

fn named(name: &str) -> keys::Key {
    keys::document("test", "numbers", name)
}

fn text(txn: &mut Txn, name: &str) -> String {
    txn.get(&named(name)).unwrap().map_or_else(String::new, |bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

fn number(txn: &mut Txn, name: &str) -> u64 {
    text(txn, name).parse().unwrap_or(0)
}

/// Reads and writes, as a handler does.
fn bump(unit: &SharedUnit, name: &str) -> u64 {
    let mut unit = unit.lock();
    let txn = unit.write().unwrap();
    let next = number(txn, name) + 1;
    txn.put(&named(name), next.to_string());
    next
}

fn append(unit: &SharedUnit, name: &str, more: &str) {
    let mut unit = unit.lock();
    let txn = unit.write().unwrap();
    let longer = text(txn, name) + more;
    txn.put(&named(name), longer);
}

fn publish(unit: &SharedUnit, topic: &str, key: &str, payload: &str) {
    outbox::publish(&mut unit.lock(), "shop", topic.into(), key.into(), payload.into()).unwrap();
}

fn request_effect(unit: &SharedUnit, target: &str, key: &str) {
    let effect = effects::Request { target: target.into(), kind: "do".into(), key: key.into(), payload: b"what".to_vec(), not_before_ms: 0 };
    effects::request(&mut unit.lock(), "shop", effect).unwrap();
}

fn schedule(unit: &SharedUnit, key: &str, at_ms: u64) {
    super::jobs::schedule(&mut unit.lock(), "shop", "job".into(), key.into(), at_ms, Vec::new()).unwrap();
}

#[test]
fn an_error_that_a_plugin_answers_is_kept_short() {
    let long = "错".repeat(1_000_000);
    let answers = [
        PluginAnswer::Event(Err(long.clone())),
        PluginAnswer::Completed(Err(long.clone())),
        PluginAnswer::Job(Err(long.clone())),
        PluginAnswer::SelfCheck(Err(long)),
    ];
    for answer in answers {
        let shown = format!("{:?}", answer.bounded());
        assert!(shown.len() < ERROR_BYTES_MAX + 100 && shown.contains("错… (3000000 bytes)"), "{} bytes", shown.len());
    }
    assert!(matches!(PluginAnswer::Job(Err("short".into())).bounded(), PluginAnswer::Job(Err(error)) if error == "short"));
}
