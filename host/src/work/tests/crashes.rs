//! Crashes at chosen points, any number of times: in the end everything has
//! taken effect exactly once.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;

const REQUESTS: usize = 6;
/// Fewer than make a dead letter.
const FAILURES: u32 = 2;

/// Where in a handler's unit the process goes down.
#[derive(Debug, Clone, Copy)]
enum Point {
    Before,
    /// The handler has done its work; nothing is committed.
    Uncommitted,
    /// On disk, but nobody has heard.
    Committed,
}

/// At the so-manieth call of a handler.
#[derive(Debug, Clone, Copy)]
struct Crash {
    call: usize,
    point: Point,
}

/// One process: nothing takes effect once it has crashed.
struct Life {
    crash: Option<Crash>,
    calls: AtomicU64,
    down: AtomicU64,
    crashed: Notify,
}

impl Life {
    fn is_down(&self) -> bool {
        self.down.load(Ordering::SeqCst) != 0
    }

    fn go_down(&self) {
        self.down.store(1, Ordering::SeqCst);
        self.crashed.notify_one();
    }
}

/// What the outside world has seen: keys and how often.
type World = Arc<Mutex<BTreeMap<String, u32>>>;

async fn handle(c: Called, life: Arc<Life>, world: World) -> Answered {
    let call = life.calls.fetch_add(1, Ordering::SeqCst) as usize;
    let crash = life.crash.filter(|crash| crash.call == call).map(|crash| crash.point);
    if life.is_down() || matches!(crash, Some(Point::Before)) {
        life.go_down();
        return std::future::pending().await;
    }
    let answer = match &c.call {
        PluginCall::Web(request) => {
            let i = &request.route;
            bump(&c.unit, &format!("order-{i}"));
            let order = bump(&c.unit, "orders");
            publish(&c.unit, "t", "k", &format!("{order}a"));
            publish(&c.unit, "t", "k", &format!("{order}b"));
            request_effect(&c.unit, "pay", &format!("pay-{i}"));
            schedule(&c.unit, i, START_MS);
            web(200, i)
        }
        PluginCall::Event(event) => {
            let payload = String::from_utf8_lossy(&event.payload);
            append(&c.unit, &c.plugin, &format!("{payload} "));
            // One subscriber fails twice over the first of each order's events, whatever the process was.
            let fails = c.plugin == "two" && payload.ends_with('a') && {
                let mut world = world.lock();
                let failures = world.entry(format!("fails-{payload}")).or_default();
                let before = std::mem::replace(failures, (*failures + 1).min(FAILURES));
                before < FAILURES
            };
            Ok(PluginAnswer::Event(if fails { Err("on purpose".into()) } else { Ok(()) }))
        }
        PluginCall::Perform(effect) => {
            *world.lock().entry(effect.key.clone()).or_default() += 1;
            bump(&c.unit, &format!("{}-performed", effect.key));
            Ok(PluginAnswer::Perform(Ok(effect.key.clone().into())))
        }
        PluginCall::Completed(completion) => {
            bump(&c.unit, &format!("{}-completed", completion.key));
            Ok(PluginAnswer::Completed(Ok(())))
        }
        PluginCall::Job(job) => {
            bump(&c.unit, &format!("job-{}", job.key));
            Ok(PluginAnswer::Job(Ok(false)))
        }
        other => panic!("{other:?}"),
    };
    match crash {
        Some(Point::Uncommitted) => {
            life.go_down();
            std::future::pending().await
        }
        // Told to the page cache after the commit and before anything else.
        Some(Point::Committed) => c.unit.lock().invalidate(vec!["crash".into()]).unwrap(),
        _ => {}
    }
    answer
}

/// One process from its start to its crash; true if it lived to see all done.
fn live_once(folder: &std::path::Path, crash: Option<Crash>, world: &World) -> bool {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let life = Arc::new(Life { crash, calls: AtomicU64::new(0), down: AtomicU64::new(0), crashed: Notify::new() });
    let hears = "[[events]]\ntopic = \"t\"";
    let store = Store::open(folder, EngineKind::Fjall).unwrap();
    let fake = {
        let (life, world) = (life.clone(), world.clone());
        Fake::new(plugins([("shop", ""), ("pay", ""), ("one", hears), ("two", hears)]), move |c| handle(c, life.clone(), world.clone()))
    };
    let options = Options {
        now: Arc::new(|| START_MS),
        invalidate: {
            let life = life.clone();
            Box::new(move |_| {
                life.go_down();
                panic!("on purpose: the process ends here");
            })
        },
        retry: AT_ONCE,
        ..Options::default()
    };
    let runner = Runner::new(store.clone(), fake, options);
    let work = async {
        runner.start().await.unwrap();
        let mut requests = tokio::task::JoinSet::new();
        for i in 0..REQUESTS {
            let (runner, name) = (runner.clone(), i.to_string());
            requests.spawn(async move { runner.request(call("shop", &name, Some((&name, 1)))).await });
        }
        for answer in requests.join_all().await {
            assert_eq!(answer.map(|a| a.response.status).or_else(|e| if life.is_down() { Ok(200) } else { Err(e) }), Ok(200));
        }
        until(&store, all_is_done).await;
        runner.stop().await;
    };
    let lived = runtime.block_on(async {
        tokio::select! {
            biased;
            () = life.crashed.notified() => false,
            () = work => true,
        }
    });
    // Drops every task where it stands.
    runtime.shutdown_timeout(HANG);
    drop((runner, store));
    lived
}

fn all_is_done(txn: &mut Txn) -> bool {
    let heard = |txn: &mut Txn, name: &str| text(txn, name).split_whitespace().count() == 2 * REQUESTS;
    heard(txn, "one")
        && heard(txn, "two")
        && (0..REQUESTS).all(|i| number(txn, &format!("pay-{i}-completed")) > 0 && number(txn, &format!("job-{i}")) > 0)
}

fn survives(crashes: &[Crash]) {
    let folder = tempfile::tempdir().unwrap();
    let world = World::default();
    let mut lives = 0;
    for crash in crashes {
        lives += 1;
        if live_once(folder.path(), Some(*crash), &world) {
            break;
        }
    }
    assert!(live_once(folder.path(), None, &world));

    let store = Store::open(folder.path(), EngineKind::Fjall).unwrap();
    let mut txn = store.begin();
    let events: String = (1..=REQUESTS).map(|order| format!("{order}a {order}b ")).collect();
    assert_eq!(text(&mut txn, "one"), events);
    assert_eq!(text(&mut txn, "two"), events);
    for i in 0..REQUESTS {
        for name in [format!("order-{i}"), format!("pay-{i}-performed"), format!("pay-{i}-completed"), format!("job-{i}")] {
            assert_eq!(number(&mut txn, &name), 1, "{name}");
        }
        // As often as its unit was broken off or lost, always under its one key.
        assert!(world.lock()[&format!("pay-{i}")] >= 1);
    }
    assert_eq!(world.lock().keys().filter(|key| key.starts_with("pay-")).count(), REQUESTS, "no effect went out under another key: {world:?}, {lives} lives");
    for namespace in *b"ejtxlw" {
        let left = txn.scan(Bound::Included(&[namespace]), Bound::Excluded(&[namespace + 1]), 9, false).unwrap();
        assert!(left.is_empty(), "{} left: {left:?}", namespace as char);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_takes_effect_once_whenever_the_process_dies(
        crashes in prop::collection::vec(
            (0_usize..30, prop::sample::select(vec![Point::Before, Point::Uncommitted, Point::Committed])),
            0..6,
        )
    ) {
        let crashes: Vec<Crash> = crashes.into_iter().map(|(call, point)| Crash { call, point }).collect();
        survives(&crashes);
    }
}

#[test]
fn the_process_may_die_at_each_call_in_turn() {
    for point in [Point::Before, Point::Uncommitted, Point::Committed] {
        survives(&(0..12).map(|call| Crash { call, point }).collect::<Vec<_>>());
    }
}
