//! Linked graphs under good and bad guests.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use wasm_encoder::{BlockType, InstructionSink};

use super::bindings::OFFERED;
use super::bindings::exports::souk::web::handler::Request;
use super::bindings::souk::host::config::ShopFacts;
use super::{CallErrorKind, Capacity, Code, Engine, Graph, Interfaces, LinkError, Options, PluginStats, ProcessorTime, Provider, Providers, guests};
use crate::capability::Services;
use crate::shop::plugin::Plugin;
use crate::store::{EngineKind, Store};
use crate::work::unit::{Kind, Limits, Shopper, Start, Unit};
use crate::work::{PluginAnswer, PluginCall, SharedUnit};

const FRONT: &str = "name = 'front'\nversion = '1.0.0'\nlimits = { deadline-ms = 1000, memory-mib = 32, output-bytes = 1048576 }\n";
const NUMBERS: &str = "name = 'numbers'\nversion = '1.0.0'\n";

struct Bench {
    engine: Engine,
    providers: Arc<Providers>,
    services: Arc<Services>,
    stats: Mutex<HashMap<String, Arc<PluginStats>>>,
    store: Store,
    _data: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(Options { service_instances_max: 4, provider_instances_max: 4, ..Options::default() })
    }

    fn with(options: Options) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let shop = ShopFacts {
            name: "Test".into(),
            base_url: "https://shop.example".into(),
            currency: "EUR".into(),
            locales: vec!["en".into()],
            time_zone: "UTC".into(),
            country: "DE".into(),
        };
        let store = Store::open(data.path(), EngineKind::Fjall).expect("a store");
        Self {
            engine: Engine::new(options).expect("an engine"),
            providers: Arc::default(),
            services: Arc::new(Services::open(data.path(), Path::new("/nonexistent"), Path::new("/nonexistent"), shop, store.clone()).expect("services")),
            stats: Mutex::default(),
            store,
            _data: data,
        }
    }

    fn unit(&self) -> SharedUnit {
        let start = Start {
            kind: Kind::Request,
            now_ms: 1,
            request_id: "test".into(),
            plugin: None,
            live: Arc::default(),
            limits: &Limits::USUAL,
            shopper: Shopper::None,
            place: None,
            payer: None,
            origin: None,
        };
        Unit::new(self.store.begin(), start).shared()
    }

    async fn link(&self, plugins: Vec<(Arc<Plugin>, Arc<[u8]>)>) -> Result<Graph, LinkError> {
        self.link_with(Code::Optimised, plugins).await
    }

    async fn link_with(&self, code: Code, plugins: Vec<(Arc<Plugin>, Arc<[u8]>)>) -> Result<Graph, LinkError> {
        Graph::link(&self.engine, code, plugins, self.providers.clone(), self.services.clone(), |name| self.stats_of(name), self.unit()).await
    }

    fn stats_of(&self, plugin: &str) -> Arc<PluginStats> {
        self.stats.lock().entry(plugin.to_owned()).or_default().clone()
    }

    async fn many_faced(&self) -> Graph {
        self.link(vec![(guests::plugin(FRONT), guests::many_faced())]).await.expect("it links")
    }

    async fn provider(&self, name: &str, misdeed: Misdeed) -> Arc<Provider> {
        let manifest = format!("name = '{name}'\nversion = '1.0.0'\nkind = 'provider'\n");
        let graph = self.link(vec![(guests::plugin(&manifest), guests::remarker(misdeed))]).await.expect("it links");
        Arc::new(Provider::new(name.into(), graph))
    }

    async fn remarked(&self, policy: &str) -> Graph {
        self.remarked_within(policy, 200).await
    }

    async fn remarked_within(&self, policy: &str, deadline_ms: u32) -> Graph {
        let manifest = format!("{FRONT}[[extension-points]]\ninterface = 'souk:extend/note'\nfail = '{policy}'\ndeadline-ms = {deadline_ms}\n");
        self.link(vec![(guests::plugin(&manifest), guests::remarked_front())]).await.expect("it links")
    }

    /// Every misdeed of [`guests::many_faced`] ends its call alone.
    async fn fails_alone(&self, graph: &Graph) {
        for (face, kind) in [
            ("trap", CallErrorKind::Trap),
            ("recurse", CallErrorKind::Trap),
            ("spin", CallErrorKind::Deadline),
            ("memory", CallErrorKind::Memory),
            ("b: table", CallErrorKind::Memory),
            ("gigabyte", CallErrorKind::Output),
            ("large", CallErrorKind::Output),
            ("k: above output-bytes", CallErrorKind::Output),
        ] {
            assert_eq!(self.body(graph, face).await, Err(kind), "{face}");
            assert!(self.body(graph, "").await.is_ok(), "after {face}");
        }
    }

    async fn body(&self, graph: &Graph, route: &str) -> Result<Vec<u8>, CallErrorKind> {
        match graph.call("front", &PluginCall::Web(request(route)), self.unit()).await {
            Ok(PluginAnswer::Web(response)) => Ok(response.body),
            Ok(other) => panic!("not an answer to a request: {other:?}"),
            Err(error) => Err(error.kind),
        }
    }
}

/// A provider's good behaviour.
fn nothing(_: &mut InstructionSink) {}

type Misdeed = fn(&mut InstructionSink);

fn spin(f: &mut InstructionSink) {
    f.loop_(BlockType::Empty).br(0).end();
}

/// For some tens of milliseconds.
fn work(f: &mut InstructionSink) {
    f.loop_(BlockType::Empty).local_get(2).i32_const(1).i32_add().local_tee(2).i32_const(1 << 28).i32_ne().br_if(0).end();
}

fn trap(f: &mut InstructionSink) {
    f.unreachable();
}

fn request(route: &str) -> Request {
    Request {
        method: "GET".into(),
        path: "/".into(),
        query: String::new(),
        route: route.into(),
        params: Vec::new(),
        headers: Vec::new(),
        body: Vec::new(),
        locale: "en".into(),
        locale_prefix: String::new(),
        request_id: "test".into(),
        client_address: "127.0.0.1".into(),
        caller: String::new(),
    }
}

#[tokio::test]
async fn plugins_call_each_other_and_the_host_knows_which_one_asks() {
    let bench = Bench::new();
    let plugins = vec![(guests::plugin(FRONT), guests::counting_front()), (guests::plugin(NUMBERS), guests::numbers())];
    let graph = bench.link(plugins).await.expect("they link");
    assert_eq!(graph.services_of("front"), ["numbers"]);
    for _ in 0..2 {
        assert_eq!(bench.body(&graph, "").await, Ok(vec![1 + guests::CONFIG_OF_NUMBERS, guests::CONFIG_OF_FRONT]));
    }
}

/// Two that call the same service, and one that is called on the way.
#[tokio::test]
async fn a_service_knows_which_plugin_calls_it() {
    let bench = Bench::new();
    let named = |name: &str| guests::plugin(&format!("name = '{name}'\nversion = '1.0.0'\n"));
    let graph = bench
        .link(vec![
            (named("numbers"), guests::numbers_that_ask()),
            (named("front"), guests::counting_front()),
            (named("storefront"), guests::counting_front()),
        ])
        .await
        .expect("it links");
    for name in ["front", "storefront", "front"] {
        let answer = graph.call(name, &PluginCall::Web(request("")), bench.unit()).await.expect("it answers");
        let PluginAnswer::Web(response) = answer else { panic!("not an answer to a request") };
        assert_eq!(usize::from(response.body[0]), name.len(), "{name}");
    }
}

/// What an operator is asked for, and all that the component is wired to.
#[test]
fn only_functions_that_are_called_are_imported() {
    let interfaces = Interfaces::of("front", &guests::counting_front()).expect("it is a component");
    let imported: Vec<(&str, Vec<&str>)> =
        interfaces.imports.iter().map(|import| (import.name.as_str(), import.functions.iter().map(String::as_str).collect())).collect();
    assert_eq!(imported, [("souk:host/config@0.1.0", vec!["document"]), ("test:guests/numbers@0.1.0", vec!["next"])]);
    let provider = Interfaces::of("numbers", &guests::numbers()).expect("it is a component");
    assert_eq!(provider.exports[0].functions, ["next", "echo"]);
}

#[tokio::test]
async fn records_cross_between_plugins() {
    let bench = Bench::new();
    let plugins = vec![(guests::plugin(FRONT), guests::echoing_front()), (guests::plugin(NUMBERS), guests::numbers())];
    let graph = bench.link(plugins).await.expect("they link");
    assert_eq!(bench.body(&graph, "").await, Ok(vec![24]));
}

#[tokio::test]
async fn a_bad_guest_fails_alone_and_the_next_call_works() {
    let bench = Bench::new();
    let graph = bench.many_faced().await;
    bench.fails_alone(&graph).await;
    let stats = bench.stats_of("front");
    assert_eq!(stats.calls.load(Relaxed), 16);
    assert_eq!(stats.failures(), 8);
    assert!(stats.memory_bytes_peak.load(Relaxed) > 20 << 20);
}

/// Only where Winch knows the machine.
#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn baseline_code_is_held_as_tight_and_makes_way_for_optimised() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = |baseline| Options { code_cache: Some(folder.path().join("code")), baseline, ..Options::default() };
    let bench = Bench::with(options(true));
    let plugins = || vec![(guests::plugin(FRONT), guests::many_faced())];
    let graph = bench.link_with(Code::Soonest, plugins()).await.expect("it links");
    assert!(graph.is_baseline());
    bench.fails_alone(&graph).await;
    let plugins_that_call = vec![(guests::plugin(FRONT), guests::echoing_front()), (guests::plugin(NUMBERS), guests::numbers())];
    let fused = bench.link_with(Code::Soonest, plugins_that_call).await.expect("they link");
    assert_eq!(bench.body(&fused, "").await, Ok(vec![24]));
    let culprits = vec![(guests::plugin(FRONT), guests::counting_front()), (guests::plugin(NUMBERS), guests::failing_numbers(trap))];
    let failing = bench.link_with(Code::Soonest, culprits).await.expect("they link");
    let error = failing.call("front", &PluginCall::Web(request("")), bench.unit()).await.expect_err("no answer");
    assert_eq!((error.plugin.as_deref(), error.kind), (Some("numbers"), CallErrorKind::Trap));

    let optimised = bench.link_with(Code::Optimised, plugins()).await.expect("it links");
    assert!(!optimised.is_baseline());
    // It was kept: from now on nothing is sooner.
    assert!(!bench.link_with(Code::Soonest, plugins()).await.expect("it links").is_baseline());

    // Where the operator trusts one compiler only.
    let strict = Bench::with(options(false));
    let numbers = vec![(guests::plugin(NUMBERS), guests::numbers())];
    assert!(!strict.link_with(Code::Soonest, numbers).await.expect("it links").is_baseline());
}

#[tokio::test]
async fn a_failure_is_laid_to_the_plugin_that_was_running() {
    let bench = Bench::new();
    for (misdeed, kind) in [(trap as Misdeed, CallErrorKind::Trap), (spin, CallErrorKind::Deadline)] {
        let plugins = vec![(guests::plugin(FRONT), guests::counting_front()), (guests::plugin(NUMBERS), guests::failing_numbers(misdeed))];
        let graph = bench.link(plugins).await.expect("they link");
        let error = graph.call("front", &PluginCall::Web(request("")), bench.unit()).await.expect_err("no answer");
        assert_eq!((error.plugin.as_deref(), error.kind), (Some("numbers"), kind));
    }
    // So is the time that it took: it span until the deadline of the one that was called.
    let cpu_ms = |plugin: &str| bench.stats_of(plugin).cpu_ns.load(Relaxed) / 1_000_000;
    assert!(cpu_ms("numbers") > 0 && cpu_ms("front") == 0, "{} {}", cpu_ms("numbers"), cpu_ms("front"));
}

#[tokio::test]
async fn an_instance_is_used_again_unless_it_failed_or_is_isolated() {
    let bench = Bench::new();
    let graph = bench.many_faced().await;
    assert_eq!(bench.body(&graph, "").await, Ok(vec![1]));
    assert_eq!(bench.body(&graph, "").await, Ok(vec![2]));
    assert_eq!(bench.body(&graph, "trap").await, Err(CallErrorKind::Trap));
    assert_eq!(bench.body(&graph, "").await, Ok(vec![1]));

    let isolated = format!("isolation = 'request'\n{FRONT}");
    let graph = bench.link(vec![(guests::plugin(&isolated), guests::many_faced())]).await.expect("it links");
    assert_eq!(bench.body(&graph, "").await, Ok(vec![1]));
    assert_eq!(bench.body(&graph, "").await, Ok(vec![1]));
}

#[tokio::test]
async fn a_failed_call_gives_its_place_back() {
    let bench = Bench::with(Options { service_instances_max: 2, provider_instances_max: 2, ..Options::default() });
    let graph = bench.many_faced().await;
    for _ in 0..8 {
        assert_eq!(bench.body(&graph, "trap").await, Err(CallErrorKind::Trap));
    }
    assert!(bench.body(&graph, "").await.is_ok());
}

#[tokio::test]
async fn idle_instances_leave_room_for_other_graphs() {
    let bench = Bench::with(Options { service_instances_max: 4, provider_instances_max: 4, ..Options::default() });
    let mut providers = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        providers.push(bench.provider(name, nothing).await);
    }
    bench.providers.set(&providers);
    let graph = bench.remarked("closed").await;
    assert_eq!(bench.body(&graph, "").await, Ok(vec![0, 6, b'a']));
}

#[tokio::test]
async fn calls_above_the_maximum_wait_for_a_place() {
    let bench = Arc::new(Bench::with(Options { service_instances_max: 2, provider_instances_max: 2, ..Options::default() }));
    let graph = bench.many_faced().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (bench, graph) = (bench.clone(), graph.clone());
        calls.spawn(async move { bench.body(&graph, "").await });
    }
    while let Some(answer) = calls.join_next().await {
        assert!(answer.expect("no panic").is_ok());
    }
}

#[tokio::test]
async fn a_graph_that_is_let_go_is_freed_with_its_instances() {
    let bench = Bench::new();
    let graph = bench.many_faced().await;
    assert!(bench.body(&graph, "").await.is_ok());
    let provider = bench.provider("notes", nothing).await;
    bench.providers.set(std::slice::from_ref(&provider));
    let (weak_graph, weak_provider) = (graph.downgrade(), provider.graph.downgrade());
    drop((graph, provider));
    bench.providers.set(&[]);
    assert!(weak_graph.upgrade().is_none(), "the graph is freed");
    assert!(weak_provider.upgrade().is_none(), "the provider is freed");
    // All places are free again.
    let next = bench.many_faced().await;
    assert!(bench.body(&next, "").await.is_ok());
}

#[tokio::test]
async fn plugins_that_do_not_fit_are_refused_with_both_sides_named() {
    let bench = Bench::new();
    let named = |name: &str| guests::plugin(&format!("name = '{name}'\nversion = '1.0.0'\n"));
    let cases: Vec<(Vec<(Arc<Plugin>, Arc<[u8]>)>, &[&str])> = vec![
        (vec![(named("front"), guests::counting_front())], &["`front`", "test:guests/numbers", "no installed plugin"]),
        (
            vec![(named("a"), guests::numbers()), (named("b"), guests::numbers())],
            &["`a`", "`b`", "test:guests/numbers", "Remove one"],
        ),
        (vec![(named("a"), guests::numbers_by_words()), (named("b"), guests::words_by_numbers())], &["a → b → a"]),
        (
            vec![(named("front"), guests::counting_front()), (named("numbers"), guests::other_numbers())],
            &["`front`", "`numbers`", "test:guests/numbers", "next"],
        ),
        (vec![(named("front"), Arc::from(&b"not wasm"[..]))], &["`front`", "not a component"]),
        (vec![(named("front"), guests::remarked_front())], &["`front`", "souk:extend/note", "[[extension-points]]"]),
        (
            vec![(guests::plugin("name = 'numbers'\nversion = '1.0.0'\njobs = [{ name = 'x', cron = '* * * * *' }]\n"), guests::numbers())],
            &["`numbers`", "souk:host/job-handler"],
        ),
    ];
    for (plugins, parts) in cases {
        let error = bench.link(plugins).await.err().expect("it does not link").to_string();
        for part in parts {
            assert!(error.contains(part), "{part} in: {error}");
        }
    }
}

/// An older caller with a newer provider, and the other way round: `line` is what they have in common.
#[tokio::test]
async fn versions_that_only_add_to_each_other_fit_together() {
    let bench = Bench::new();
    let newer = |component: &[u8], version: &str| guests::built_against(component, "test:guests/numbers", version);
    for (front, numbers, answer) in [
        (guests::counting_front(), guests::newer_numbers(), vec![2, guests::CONFIG_OF_FRONT]),
        (guests::echoing_front(), guests::newer_numbers(), vec![24]),
        (newer(&guests::echoing_front(), "0.1.7"), guests::numbers(), vec![24]),
        (guests::built_against(&guests::counting_front(), "souk:host/config", "0.1.7"), guests::newer_numbers(), vec![2, guests::CONFIG_OF_FRONT]),
        (guests::built_against(&guests::echoing_front(), "souk:web/handler", "0.1.7"), guests::numbers(), vec![24]),
    ] {
        let graph = bench.link(vec![(guests::plugin(FRONT), front), (guests::plugin(NUMBERS), numbers)]).await.expect("they link");
        assert_eq!(graph.services_of("front"), ["numbers"]);
        assert_eq!(bench.body(&graph, "").await, Ok(answer));
    }
}

#[tokio::test]
async fn versions_that_do_not_fit_together_are_refused_with_what_there_is() {
    let bench = Bench::new();
    let front = |name: &str| guests::built_against(&guests::counting_front(), name, "0.9.0");
    for (front, parts) in [
        (front("souk:host/config"), ["`front`", "`souk:host/config@0.9.0`", "this host has souk:host 0.1.0"]),
        (front("souk:web/handler"), ["`front`", "`souk:web/handler@0.9.0`", "this host has souk:web 0.1.0"]),
        (front("test:guests/numbers"), ["`front`", "`test:guests/numbers@0.9.0`", "no installed plugin exports"]),
    ] {
        let error = bench.link(vec![(guests::plugin(FRONT), front), (guests::plugin(NUMBERS), guests::numbers())]).await;
        let error = error.err().expect("it does not link").to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    // Both at once: each caller has its own.
    let later = guests::built_against(&guests::numbers(), "test:guests/numbers", "0.9.0");
    let plugins = vec![
        (guests::plugin(FRONT), guests::counting_front()),
        (guests::plugin(NUMBERS), guests::newer_numbers()),
        (guests::plugin("name = 'later'\nversion = '1.0.0'\n"), later),
        (guests::plugin("name = 'new-front'\nversion = '1.0.0'\n"), guests::built_against(&guests::counting_front(), "test:guests/numbers", "0.9.0")),
    ];
    let graph = bench.link(plugins).await.expect("they link");
    assert_eq!((graph.services_of("front"), graph.services_of("new-front")), (&["numbers".to_owned()][..], &["later".to_owned()][..]));
}

#[test]
fn the_versions_that_are_offered_are_those_of_the_contracts() {
    for (package, version) in OFFERED {
        let folder = Path::new("../wit").join(package.trim_start_matches("souk:"));
        for file in std::fs::read_dir(folder).expect("its contracts").flatten() {
            let text = std::fs::read_to_string(file.path()).expect("a contract");
            assert!(text.starts_with(&format!("package {package}@{version};")), "{}", file.path().display());
        }
    }
}

#[tokio::test]
async fn a_provider_is_named_by_the_host_and_joined_in_order_of_names() {
    let bench = Bench::new();
    let graph = bench.remarked("closed").await;
    assert_eq!(bench.body(&graph, "").await, Ok(vec![0, 0, 0]), "no provider");
    bench.providers.set(&[bench.provider("zebra", nothing).await, bench.provider("antelope", nothing).await]);
    assert_eq!(bench.body(&graph, "").await, Ok(vec![0, 2, b'a']));
}

#[tokio::test]
async fn a_failing_provider_is_left_out_or_closes_the_point() {
    let bench = Bench::new();
    let (open, closed) = (bench.remarked("open").await, bench.remarked("closed").await);
    for (name, misdeed) in [("trap", trap as Misdeed), ("spin", spin), ("memory", guests::grow_memory_without_end)] {
        bench.providers.set(&[bench.provider("good", nothing).await, bench.provider("rogue", misdeed).await]);
        assert_eq!(bench.body(&open, "").await, Ok(vec![0, 1, b'g']), "{name}");
        assert_eq!(bench.body(&closed, "").await.map(|body| body[0]), Ok(1), "{name}");
    }
}

/// In a debt that is paid in half a second.
#[tokio::test]
async fn a_provider_over_its_share_is_left_out_while_others_want_the_processors_and_where_it_can_be() {
    for (policy, pressure, answer) in [("open", true, [0, 0, 0]), ("open", false, [0, 1, b'd']), ("closed", true, [0, 1, b'd'])] {
        let bench = Bench::with(Options { service_instances_max: 4, provider_instances_max: 4, lends_spare_time: false, ..Options::default() });
        let graph = bench.remarked(policy).await;
        let provider = bench.provider("dear", nothing).await;
        provider.graph.0.pressure.set(pressure);
        bench.providers.set(&[provider]);
        let account = bench.stats_of("dear").account.clone();
        account.set_share("dear", 20, Capacity { processors: 2, instances: 50 });
        account.count_call();
        account.charge(Duration::from_millis(300));
        assert_eq!(bench.body(&graph, "").await, Ok(answer.to_vec()), "{policy}");
    }
}

/// By a clock of the processor that stands still, it has not had any yet.
#[tokio::test]
async fn a_provider_has_its_time_by_the_processor_and_not_by_the_wall() {
    for (processor_time, answer) in [((|| Duration::ZERO) as ProcessorTime, [0, 1, b's']), (Options::default().processor_time, [0, 0, 0])] {
        let bench = Bench::with(Options { processor_time, ..Options::default() });
        let graph = bench.remarked_within("open", 1).await;
        bench.providers.set(&[bench.provider("slow", work).await]);
        assert_eq!(bench.body(&graph, "").await, Ok(answer.to_vec()));
    }
}

/// What a shopper is shown must not change because the host has no room.
#[tokio::test]
async fn a_provider_for_which_there_is_no_room_is_not_left_out() {
    let bench = Bench::new();
    let graph = bench.remarked("open").await;
    let provider = bench.provider("good", nothing).await;
    bench.providers.set(std::slice::from_ref(&provider));
    // The warm instance, and all other places.
    let warm = provider.graph.0.instance(provider.graph.0.entry("good").unwrap(), bench.unit(), super::state::Payer::default(), Duration::ZERO).await;
    let places = bench.engine.providers.0.acquire_many(3).await;
    tokio::time::pause();
    assert_eq!(bench.body(&graph, "").await, Err(CallErrorKind::Overloaded));
    assert_eq!((bench.stats_of("good").failures(), bench.stats_of("front").failures()), (0, 0));
    drop((warm, places));
    assert_eq!(bench.body(&graph, "").await, Ok(vec![0, 1, b'g']));
}

#[tokio::test]
async fn a_provider_that_keeps_failing_is_no_longer_asked() {
    let bench = Bench::new();
    let graph = bench.remarked("open").await;
    bench.providers.set(&[bench.provider("rogue", trap).await]);
    for _ in 0..20 {
        assert_eq!(bench.body(&graph, "").await, Ok(vec![0, 0, 0]));
    }
    let asked = bench.stats_of("rogue").traps.load(Relaxed);
    assert!((5..20).contains(&asked), "asked {asked} times");
}

#[tokio::test]
async fn a_second_start_compiles_nothing_and_damage_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = || Options { code_cache: Some(folder.path().join("code")), service_instances_max: 2, ..Options::default() };
    let files = || std::fs::read_dir(folder.path().join("code")).expect("kept").map(|f| f.expect("a file").path()).collect::<Vec<_>>();
    let bench = Bench::with(options());
    assert!(bench.body(&bench.many_faced().await, "").await.is_ok());
    let kept = files();
    assert_eq!(kept.len(), 1);
    let written = std::fs::read(&kept[0]).expect("readable");

    let bench = Bench::with(options());
    assert!(bench.body(&bench.many_faced().await, "").await.is_ok());
    assert_eq!(files(), kept);

    let mut damaged = written.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&kept[0], &damaged).expect("writable");
    let bench = Bench::with(options());
    assert!(bench.body(&bench.many_faced().await, "").await.is_ok());
    assert_eq!(std::fs::read(&kept[0]).expect("readable").len(), written.len());
    assert_ne!(std::fs::read(&kept[0]).expect("readable"), damaged, "compiled and kept anew");
}

/// `cargo nextest run --release -p souk-host --run-ignored only engine::tests::figures --no-capture`
#[tokio::test]
#[ignore = "measures"]
async fn figures() {
    let bench = Bench::new();
    let timed = async |name: &str, graph: &Graph, times: u32| {
        let unit = bench.unit();
        let call = PluginCall::Web(request(""));
        for _ in 0..100 {
            graph.call("front", &call, unit.clone()).await.expect("an answer");
        }
        let begun = std::time::Instant::now();
        for _ in 0..times {
            graph.call("front", &call, unit.clone()).await.expect("an answer");
        }
        let each: Duration = begun.elapsed() / times;
        println!("{name}: {each:?}");
    };
    let plain = bench.many_faced().await;
    timed("warm call, no host call", &plain, 5_000).await;
    drop(plain);
    let isolated = format!("isolation = 'request'\n{FRONT}");
    let fresh = bench.link(vec![(guests::plugin(&isolated), guests::many_faced())]).await.expect("it links");
    timed("fresh instance of one plugin", &fresh, 2_000).await;
    drop(fresh);
    let two = |front: &str| vec![(guests::plugin(front), guests::counting_front()), (guests::plugin(NUMBERS), guests::numbers())];
    let graph = bench.link(two(FRONT)).await.expect("they link");
    timed("warm call, one fused call, two host calls", &graph, 5_000).await;
    drop(graph);
    let graph = bench.link(vec![(guests::plugin(FRONT), guests::echoing_front()), (guests::plugin(NUMBERS), guests::numbers())]).await.expect("they link");
    timed("warm call, 24 records to another plugin and back", &graph, 5_000).await;
    drop(graph);
    let graph = bench.link(two(&isolated)).await.expect("they link");
    timed("the same in a fresh instance", &graph, 2_000).await;
    drop(graph);
    let graph = bench.remarked("open").await;
    bench.providers.set(&[bench.provider("one", nothing).await]);
    timed("warm call, one extension call", &graph, 5_000).await;
}
