//! Events, effects and dead letters.

use std::sync::atomic::AtomicBool;

use super::dead::{DeadWork, ReplayError};
use super::*;
use crate::engine::bindings::exports::souk::host::effect_handler::Failure;

const HEARS: &str = "[[events]]\ntopic = \"t\"";

fn letters(bench: &Bench) -> Vec<dead::DeadLetter> {
    bench.runner.dead_letters("", 100).unwrap()
}

/// `shop` publishes `<route>` under the topic `t`, or `u` for routes that begin
/// with `u`; a subscriber notes what it hears, unless it is told to fail.
fn shop(live: LivePlugins, fails: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Arc<Fake> {
    Fake::new(live, move |c| {
        let answer = match &c.call {
            PluginCall::Web(request) => {
                let topic = if request.route.starts_with('u') { "u" } else { "t" };
                publish(&c.unit, topic, "k", &request.route);
                web(200, "")
            }
            PluginCall::Event(event) => {
                let payload = String::from_utf8(event.payload.clone()).unwrap();
                append(&c.unit, &c.plugin, &format!("{payload} "));
                Ok(PluginAnswer::Event(if fails(&c.plugin, &payload) { Err("on purpose".into()) } else { Ok(()) }))
            }
            PluginCall::Command { name, .. } => {
                for n in 0..600 {
                    publish_import(&c.unit, name, n);
                }
                Ok(PluginAnswer::Command(Ok(Vec::new())))
            }
            other => panic!("{other:?}"),
        };
        async move { answer }
    })
}

fn publish_import(unit: &SharedUnit, name: &str, n: u32) {
    publish(unit, "t", &n.to_string(), &format!("{name}-{n}"));
}

#[tokio::test]
async fn each_subscriber_hears_each_event_once_and_in_order() {
    let live = plugins([("shop", ""), ("one", HEARS), ("two", HEARS), ("deaf", "[[events]]\ntopic = \"else\"")]);
    let bench = Bench::started(shop(live, |_, _| false)).await;
    for route in ["a", "b", "u", "c"] {
        bench.get("shop", route).await.unwrap();
    }
    bench.until(|txn| text(txn, "one") == "a b c " && text(txn, "two") == "a b c ").await;
    let bench = bench.restart().await;
    bench.runner.start().await.unwrap();
    bench.get("shop", "d").await.unwrap();
    bench.until(|txn| text(txn, "one") == "a b c d " && text(txn, "two") == "a b c d ").await;
    let ids: Vec<_> = bench.fake.calls().iter().filter_map(|(p, call)| if let ("one", PluginCall::Event(e)) = (&p[..], call) { Some(e.id.clone()) } else { None }).collect();
    // What counts once is above; a unit that lost to another, for instance to the one that saves cursors, ran again.
    assert!(ids.is_sorted(), "{ids:?}");
    assert!(!bench.fake.calls().iter().any(|(plugin, _)| plugin == "deaf"));
    bench.runner.stop().await;
}

#[tokio::test]
async fn a_subscriber_that_was_there_first_hears_all_of_an_import_without_a_server() {
    let live = plugins([("shop", ""), ("index", HEARS)]);
    let bench = Bench::new(shop(live.clone(), |_, _| false));
    outbox::subscribe(&bench.store, &live).await.unwrap();
    bench.runner.command("shop", "import".into(), Vec::new(), Vec::new()).await.unwrap();
    let bench = bench.restart().await;
    bench.runner.start().await.unwrap();
    let all: String = (0..600).map(|n| format!("import-{n} ")).collect();
    bench.until(|txn| text(txn, "index") == all).await;
    bench.runner.stop().await;
}

#[tokio::test]
async fn a_new_subscriber_hears_what_came_after_it_was_installed() {
    let bench = Bench::started(shop(plugins([("shop", "")]), |_, _| false)).await;
    bench.get("shop", "before").await.unwrap();
    let live = plugins([("shop", ""), ("late", HEARS)]);
    outbox::subscribe(&bench.store, &live).await.unwrap();
    bench.get("shop", "between").await.unwrap();
    bench.fake.swap(live.clone());
    bench.get("shop", "after").await.unwrap();
    bench.until(|txn| text(txn, "late") == "between after ").await;

    // Away for a while, as at an update that did not load: nothing is lost.
    bench.fake.swap(plugins([("shop", "")]));
    bench.get("shop", "away").await.unwrap();
    outbox::subscribe(&bench.store, &live).await.unwrap();
    bench.fake.swap(live);
    bench.until(|txn| text(txn, "late") == "between after away ").await;
    bench.runner.stop().await;
}

#[tokio::test]
async fn the_log_ends_behind_the_last_subscriber_also_where_it_hears_nothing() {
    let live = plugins([("shop", ""), ("one", HEARS), ("quiet", "[[events]]\ntopic = \"else\"")]);
    let bench = Bench::started(shop(live.clone(), |_, _| false)).await;
    for route in ["a", "u", "b", "u2"] {
        bench.get("shop", route).await.unwrap();
    }
    bench.until(|txn| text(txn, "one") == "a b ").await;
    bench.until_trimmed().await;

    // One that is not installed keeps its place for a week.
    bench.fake.swap(plugins([("shop", ""), ("one", HEARS)]));
    bench.get("shop", "c").await.unwrap();
    bench.until(|txn| text(txn, "one") == "a b c ").await;
    bench.runner.trim_events().await.unwrap();
    assert_eq!((bench.count(b'o'), bench.count(b'u')), (1, 2));
    bench.advance(7 * 24 * 3_600_000 + 1);
    bench.runner.trim_events().await.unwrap();
    assert_eq!((bench.count(b'o'), bench.count(b'u')), (0, 1));
    bench.runner.stop().await;
}

#[tokio::test]
async fn the_log_is_trimmed_beside_a_busy_subscriber() {
    let live = plugins([("shop", ""), ("busy", HEARS), ("quiet", "[[events]]\ntopic = \"else\"")]);
    let bench = Bench::started(shop(live, |_, _| false)).await;
    bench.get("shop", "a").await.unwrap();
    bench.until(|txn| text(txn, "busy") == "a ").await;
    // As many events would move it.
    let moved = async {
        loop {
            let mut txn = bench.store.begin();
            let key = keys::cursor("busy");
            let at = txn.get(&key).unwrap().unwrap();
            txn.put(&key, at.to_vec());
            bench.store.commit(txn).await.unwrap();
        }
    };
    tokio::select! {
        () = moved => unreachable!(),
        () = bench.until_trimmed() => {}
    }
    bench.runner.stop().await;
}

#[tokio::test]
async fn what_nobody_has_handled_is_not_trimmed() {
    let live = plugins([("shop", ""), ("one", HEARS), ("stuck", HEARS)]);
    let fake = Fake::new(live, |c| async move {
        match &c.call {
            PluginCall::Event(_) if c.plugin == "stuck" => std::future::pending().await,
            PluginCall::Event(_) => {
                bump(&c.unit, "one");
                Ok(PluginAnswer::Event(Ok(())))
            }
            _ => {
                publish(&c.unit, "t", "k", "");
                web(200, "")
            }
        }
    });
    let bench = Bench::started(fake).await;
    bench.get("shop", "a").await.unwrap();
    bench.get("shop", "b").await.unwrap();
    bench.until(|txn| number(txn, "one") == 2).await;
    bench.runner.trim_events().await.unwrap();
    assert_eq!(bench.count(b'o'), 2);
}

#[tokio::test]
async fn an_event_that_fails_is_laid_aside_until_it_is_replayed_or_discarded() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = broken.clone();
    let live = plugins([("shop", ""), ("one", HEARS), ("two", HEARS)]);
    let fails = move |plugin: &str, payload: &str| plugin == "one" && payload.starts_with("bad") && is_broken.load(Ordering::SeqCst);
    let bench = Bench::started(shop(live, fails)).await;
    for route in ["a", "bad1", "bad2", "b"] {
        bench.get("shop", route).await.unwrap();
    }
    bench.until(|txn| text(txn, "one") == "a b " && text(txn, "two") == "a bad1 bad2 b ").await;
    let tries = bench.fake.calls().iter().filter(|(plugin, call)| plugin == "one" && matches!(call, PluginCall::Event(e) if e.payload == b"bad1")).count();
    assert_eq!(tries, 3);

    let bench = bench.restart().await;
    let found = letters(&bench);
    let payload = |l: &dead::DeadLetter| if let DeadWork::Event { payload, .. } = &l.work { payload.clone() } else { panic!("{l:?}") };
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|l| l.plugin == "one" && l.error == "on purpose"));
    let (bad1, bad2) = if payload(&found[0]) == b"bad1" { (&found[0].id, &found[1].id) } else { (&found[1].id, &found[0].id) };

    assert!(matches!(bench.runner.replay_dead_letter(bad1).await, Err(ReplayError::Failed(message)) if message == "on purpose"));
    assert_eq!((letters(&bench).len(), bench.text("one")), (2, "a b ".into()), "it stays, and has done nothing");
    broken.store(false, Ordering::SeqCst);
    bench.runner.replay_dead_letter(bad1).await.unwrap();
    assert_eq!(bench.text("one"), "a b bad1 ");
    assert!(matches!(bench.runner.replay_dead_letter(bad1).await, Err(ReplayError::Unknown(_))));

    assert!(bench.runner.discard_dead_letter(bad2).await.unwrap());
    assert!(!bench.runner.discard_dead_letter(bad2).await.unwrap());
    assert!(letters(&bench).is_empty());
    assert_eq!(bench.text("one"), "a b bad1 ");
}

/// How `perform` and `completed` are answered, by the number of the try.
type Script<T> = fn(u32) -> Result<T, CallError>;

/// `shop` asks for the effect that the route names of `pay`.
fn payment(perform: Script<Result<Vec<u8>, Failure>>, completed: Script<Result<(), String>>) -> Arc<Fake> {
    let taken = Arc::new(AtomicU64::new(0));
    Fake::new(plugins([("shop", ""), ("pay", "")]), move |c| {
        let answer = match &c.call {
            PluginCall::Web(request) => {
                request_effect(&c.unit, "pay", &request.route);
                web(200, "")
            }
            PluginCall::Perform(effect) => {
                bump(&c.unit, "performed");
                perform(effect.attempt).map(PluginAnswer::Perform)
            }
            PluginCall::Completed(completion) => {
                append(&c.unit, "outcomes", &format!("{}={} ", completion.key, match &completion.outcome {
                    Ok(bytes) => String::from_utf8(bytes.clone()).unwrap(),
                    Err(message) => format!("!{message}"),
                }));
                completed(taken.fetch_add(1, Ordering::SeqCst) as u32 + 1).map(PluginAnswer::Completed)
            }
            other => panic!("{other:?}"),
        };
        async move { answer }
    })
}

fn effects_performed(bench: &Bench) -> Vec<(String, u32)> {
    bench.fake.calls().into_iter().filter_map(|(_, call)| if let PluginCall::Perform(e) = call { Some((e.key, e.attempt)) } else { None }).collect()
}

#[tokio::test]
async fn an_effect_is_tried_with_one_key_until_it_is_answered() {
    let perform: Script<_> = |attempt| match attempt {
        1 | 3 => Ok(Err(Failure::Retry("later".into()))),
        2 => Err(failed("pay", CallErrorKind::Trap)),
        _ => Ok(Ok(b"paid".to_vec())),
    };
    let bench = Bench::with(payment(perform, |_| Ok(Ok(()))), Retry { attempts_max: 5, ..AT_ONCE });
    bench.runner.start().await.unwrap();
    bench.get("shop", "e1").await.unwrap();
    bench.until(|txn| !text(txn, "outcomes").is_empty()).await;
    assert_eq!(effects_performed(&bench), [1, 2, 3, 4].map(|attempt| ("e1".into(), attempt)));
    assert_eq!((bench.text("outcomes"), bench.number("performed")), ("e1=paid ".into(), 1), "what failed was rolled back");
    assert_eq!(bench.count(b'e'), 0);
    bench.runner.stop().await;
}

#[tokio::test]
async fn a_refusal_is_final_and_so_is_the_last_try() {
    let bench = Bench::started(payment(|_| Ok(Err(Failure::Refused("no".into()))), |_| Ok(Ok(())))).await;
    bench.get("shop", "e1").await.unwrap();
    bench.until(|txn| !text(txn, "outcomes").is_empty()).await;
    assert_eq!((effects_performed(&bench).len(), bench.text("outcomes")), (1, "e1=!no ".into()));
    bench.runner.stop().await;

    let bench = Bench::started(payment(|_| Ok(Err(Failure::Retry("down".into()))), |_| Ok(Ok(())))).await;
    bench.get("shop", "e1").await.unwrap();
    bench.until(|txn| !text(txn, "outcomes").is_empty()).await;
    assert_eq!((effects_performed(&bench).len(), bench.text("outcomes")), (3, "e1=!down ".into()));
    bench.runner.stop().await;
}

#[tokio::test]
async fn an_effect_outlives_the_process_and_is_stored_once() {
    let bench = Bench::new(payment(|_| Ok(Ok(b"paid".to_vec())), |_| Ok(Ok(()))));
    for _ in 0..3 {
        bench.get("shop", "e1").await.unwrap();
    }
    bench.get("shop", "e2").await.unwrap();
    assert_eq!((bench.count(b'e'), bench.number("performed")), (2, 0), "nothing before the start");
    let bench = bench.restart().await;
    bench.runner.start().await.unwrap();
    bench.until(|txn| text(txn, "outcomes").len() == "e1=paid e2=paid ".len()).await;
    assert_eq!((bench.number("performed"), bench.count(b'e')), (2, 0));
    bench.runner.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_again_but_not_performed_again() {
    let bench = Bench::started(payment(|_| Ok(Ok(b"paid".to_vec())), |n| if n < 3 { Ok(Err("busy".into())) } else { Ok(Ok(())) })).await;
    bench.get("shop", "e1").await.unwrap();
    bench.until(|txn| text(txn, "outcomes") == "e1=paid ").await;
    assert_eq!(effects_performed(&bench).len(), 1);
    bench.runner.stop().await;

    let bench = Bench::started(payment(|_| Ok(Ok(b"paid".to_vec())), |n| if n < 4 { Ok(Err("busy".into())) } else { Ok(Ok(())) })).await;
    bench.get("shop", "e1").await.unwrap();
    let (first, end) = keys::dead_letters();
    bench.until(|txn| !txn.scan(Bound::Included(&first), Bound::Excluded(&end), 1, false).unwrap().is_empty()).await;
    assert_eq!((bench.count(b'e'), bench.text("outcomes")), (0, String::new()));
    let id = letters(&bench)[0].id.clone();
    bench.runner.replay_dead_letter(&id).await.unwrap();
    assert_eq!((bench.text("outcomes"), bench.number("performed")), ("e1=paid ".into(), 1));
    assert!(letters(&bench).is_empty());
    bench.runner.stop().await;
}

#[tokio::test]
async fn an_effect_waits_for_its_time_and_for_its_target() {
    let fake = Fake::new(plugins([("shop", ""), ("pay", "")]), |c| async move {
        match &c.call {
            PluginCall::Web(request) => {
                let not_before_ms = if request.route == "later" { START_MS + 1_000_000 } else { 0 };
                let target = if request.route == "absent" { "gone" } else { "pay" };
                let effect = effects::Request { target: target.into(), kind: "do".into(), key: request.route.clone(), payload: Vec::new(), not_before_ms };
                effects::request(&mut c.unit.lock(), "shop", effect).unwrap();
                web(200, "")
            }
            PluginCall::Perform(_) => Ok(PluginAnswer::Perform(Ok(Vec::new()))),
            PluginCall::Completed(completion) => {
                append(&c.unit, "done", &format!("{} ", completion.key));
                Ok(PluginAnswer::Completed(Ok(())))
            }
            other => panic!("{other:?}"),
        }
    });
    let bench = Bench::started(fake).await;
    for route in ["later", "absent", "now"] {
        bench.get("shop", route).await.unwrap();
    }
    bench.until(|txn| text(txn, "done") == "now ").await;
    bench.advance(1_000_000);
    bench.fake.poke();
    bench.until(|txn| text(txn, "done") == "now later ").await;
    bench.fake.swap(plugins([("shop", ""), ("pay", ""), ("gone", "")]));
    bench.until(|txn| text(txn, "done") == "now later absent ").await;
    assert_eq!(effects_performed(&bench).iter().map(|(_, attempt)| *attempt).collect::<Vec<_>>(), [1, 1, 1], "waiting is no failure");
    bench.runner.stop().await;
}

#[tokio::test]
async fn what_breaks_off_in_the_host_is_taken_up_again() {
    let broke = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    let fake = Fake::new(plugins([("shop", HEARS), ("pay", "")]), move |c| {
        let broke = broke.clone();
        async move {
            let (name, answer) = match &c.call {
                PluginCall::Web(_) => {
                    publish(&c.unit, "t", "k", "");
                    request_effect(&c.unit, "pay", "e");
                    schedule(&c.unit, "j", START_MS);
                    return web(200, "");
                }
                PluginCall::Event(_) => ("event", PluginAnswer::Event(Ok(()))),
                PluginCall::Perform(_) => ("effect", PluginAnswer::Perform(Ok(Vec::new()))),
                PluginCall::Completed(_) => ("completion", PluginAnswer::Completed(Ok(()))),
                PluginCall::Job(_) => ("job", PluginAnswer::Job(Ok(false))),
                other => panic!("{other:?}"),
            };
            bump(&c.unit, name);
            assert!(!broke.lock().insert(name), "on purpose: the first time");
            Ok(answer)
        }
    });
    let bench = Bench::started(fake).await;
    bench.get("shop", "a").await.unwrap();
    // The outbox looks after its tasks at each swap, and each minute.
    bench.fake.until_called(|calls| calls.iter().any(|(_, call)| matches!(call, PluginCall::Event(_)))).await;
    tokio::task::yield_now().await;
    bench.fake.poke();
    bench.until(|txn| ["event", "effect", "completion", "job"].iter().all(|name| number(txn, name) == 1)).await;
    bench.runner.stop().await;
    assert_eq!((bench.count(b'e'), bench.count(b'j'), bench.count(b'y')), (0, 0, 0));
}

#[tokio::test]
async fn damaged_records_stop_nobody() {
    let live = plugins([("shop", ""), ("pay", ""), ("one", HEARS)]);
    let fake = Fake::new(live.clone(), |c| async move {
        match &c.call {
            PluginCall::Web(_) => {
                publish(&c.unit, "t", "k", "");
                request_effect(&c.unit, "pay", "e");
                schedule(&c.unit, "j", START_MS);
                assert_eq!(c.unit.lock().session_get("shop", "k").unwrap(), None);
                web(200, "")
            }
            PluginCall::Event(_) => (bump(&c.unit, "event"), Ok(PluginAnswer::Event(Ok(())))).1,
            PluginCall::Perform(_) => Ok(PluginAnswer::Perform(Ok(Vec::new()))),
            PluginCall::Completed(_) => (bump(&c.unit, "effect"), Ok(PluginAnswer::Completed(Ok(())))).1,
            PluginCall::Job(_) => (bump(&c.unit, "job"), Ok(PluginAnswer::Job(Ok(false)))).1,
            other => panic!("{other:?}"),
        }
    });
    let bench = Bench::new(fake);
    outbox::subscribe(&bench.store, &live).await.unwrap();
    let damaged = [0xff; 11];
    let job = keys::job("shop", "job", "damaged");
    let session = SessionId("abcdefghijklmnop".into());
    for key in [
        keys::log_entry(keys::EVENTS, keys::position(1, 7)),
        keys::effect("shop", "damaged"),
        keys::dead("000"),
        job.clone(),
        keys::job_due(START_MS, &job),
        // Leads to nothing.
        keys::job_due(START_MS, &keys::job("shop", "job", "none")),
        keys::session(&session.0),
        keys::idempotency("guest", "a"),
        keys::expiry(START_MS, &keys::session(&session.0)),
        keys::expiry(START_MS, b"?"),
        keys::expiry(START_MS, b""),
        keys::cron("shop", "x"),
    ] {
        bench.put(&key, &damaged).await;
    }
    bench.runner.start().await.unwrap();
    let answer = bench.runner.request(Call { session: Some(session), ..call("shop", "a", Some(("a", 1))) }).await.unwrap();
    assert!(!answer.replayed);
    bench.until(|txn| ["event", "effect", "job"].iter().all(|name| number(txn, name) == 1)).await;
    let (due, end) = keys::jobs_due();
    bench.until(|txn| txn.scan(Bound::Included(&due), Bound::Excluded(&end), 9, false).unwrap().is_empty()).await;
    bench.runner.expire().await.unwrap();
    assert!(letters(&bench).is_empty());
    bench.runner.trim_events().await.unwrap();
    bench.runner.stop().await;
}

/// `shop` publishes what its route says, as `key=payload`; `one` notes what it hears, and fails for payloads that begin with `bad`
/// as long as it is broken.
fn keyed(broken: &Arc<AtomicBool>) -> Arc<Fake> {
    let broken = broken.clone();
    Fake::new(plugins([("shop", ""), ("one", HEARS)]), move |c| {
        let answer = match &c.call {
            PluginCall::Web(request) => {
                let (key, payload) = request.route.split_once('=').unwrap();
                publish(&c.unit, "t", key, payload);
                web(200, "")
            }
            PluginCall::Event(event) => {
                let payload = String::from_utf8(event.payload.clone()).unwrap();
                append(&c.unit, "one", &format!("{payload} "));
                let fails = payload.starts_with("bad") && broken.load(Ordering::SeqCst);
                Ok(PluginAnswer::Event(if fails { Err("on purpose".into()) } else { Ok(()) }))
            }
            other => panic!("{other:?}"),
        };
        async move { answer }
    })
}

/// Tried again in an hour at the earliest: nothing happens by itself.
const IN_HOURS: Retry = Retry { attempts_max: 40, first_ms: 3_600_000, most_ms: 3_600_000, horizon_ms: 40 * 3_600_000 };

async fn publish_all(bench: &Bench, events: &[&str]) {
    for event in events {
        bench.get("shop", event).await.unwrap();
    }
}

fn listed(bench: &Bench) -> Vec<trouble::Listed> {
    bench.runner.list_troubles(None, "", 100).unwrap()
}

#[tokio::test]
async fn an_event_that_fails_holds_back_later_ones_of_its_key_alone() {
    let broken = Arc::new(AtomicBool::new(true));
    let bench = Bench::with(keyed(&broken), IN_HOURS);
    bench.runner.start().await.unwrap();
    publish_all(&bench, &["a=bad1", "b=b1", "a=a2", "c=c1", "a=a3", "b=b2"]).await;
    bench.until(|txn| text(txn, "one") == "b1 c1 b2 ").await;
    bench.until_trimmed().await;
    let told = listed(&bench);
    assert_eq!(told.len(), 1);
    let trouble = &told[0].trouble;
    assert_eq!((trouble.plugin.as_str(), trouble.key.as_str(), trouble.tries, trouble.behind, trouble.error.as_str()), ("one", "a", 1, 2, "on purpose"));
    assert!((START_MS + 3_000_000..START_MS + 4_200_000).contains(&trouble.next_ms.unwrap()));

    // In another process, too, and in its order once it goes on.
    let bench = bench.restart().await;
    assert_eq!(listed(&bench), told, "it is known before anything runs");
    bench.runner.start().await.unwrap();
    publish_all(&bench, &["a=a4", "d=d1"]).await;
    bench.until(|txn| text(txn, "one") == "b1 c1 b2 d1 ").await;
    broken.store(false, Ordering::SeqCst);
    bench.advance(2 * 3_600_000);
    bench.fake.poke();
    bench.until(|txn| text(txn, "one") == "b1 c1 b2 d1 bad1 a2 a3 a4 ").await;
    publish_all(&bench, &["a=a5"]).await;
    bench.until(|txn| text(txn, "one").ends_with("a4 a5 ")).await;
    bench.runner.stop().await;
    assert_eq!((bench.count(b'l'), bench.count(b'w'), bench.count(b'x'), listed(&bench).len()), (0, 0, 0, 0));
}

#[tokio::test]
async fn what_waits_is_tried_at_once_by_a_new_version_or_when_an_operator_says_so() {
    let broken = Arc::new(AtomicBool::new(true));
    let bench = Bench::with(keyed(&broken), IN_HOURS);
    bench.runner.start().await.unwrap();
    publish_all(&bench, &["a=bad1", "b=bad2", "a=a2"]).await;
    bench.until(|txn| txn.get(&keys::lane("one", keys::lane_id("b"))).unwrap().is_some()).await;
    broken.store(false, Ordering::SeqCst);
    let one = listed(&bench).into_iter().find(|listed| listed.trouble.key == "b").unwrap();
    let (shown, payload) = bench.runner.show_trouble(&one.id).unwrap();
    assert_eq!((shown.trouble.what.as_str(), payload.as_slice()), ("t", &b"bad2"[..]));
    let done = bench.runner.retry_troubles(&trouble::Which::Ids(vec![one.id, "r0".into()])).await.unwrap();
    assert!(done[0].1.is_ok() && done[1].1.is_err(), "{done:?}");
    bench.until(|txn| text(txn, "one") == "bad2 ").await;

    let mut live = LivePlugins::clone(&bench.fake.live.borrow());
    let newer = Plugin { digest: "newer".into(), ..plugins([("one", HEARS)]).remove("one").map(Arc::into_inner).flatten().unwrap() };
    live.insert("one".into(), Arc::new(newer));
    bench.fake.swap(live);
    bench.until(|txn| text(txn, "one") == "bad2 bad1 a2 ").await;
    bench.runner.stop().await;
    assert!(listed(&bench).is_empty());
}

#[tokio::test]
async fn a_dropped_event_lets_those_behind_it_go_on() {
    let bench = Bench::with(keyed(&Arc::new(AtomicBool::new(true))), IN_HOURS);
    bench.runner.start().await.unwrap();
    publish_all(&bench, &["a=bad1", "a=a2", "b=b1"]).await;
    bench.until(|txn| text(txn, "one") == "b1 ").await;
    let done = bench.runner.drop_troubles(&trouble::Which::OfPlugin("one".into())).await.unwrap();
    assert!(done.iter().all(|(_, outcome)| outcome.is_ok()) && done.len() == 1, "{done:?}");
    bench.until(|txn| text(txn, "one") == "b1 a2 ").await;
    bench.runner.stop().await;
    assert_eq!((bench.count(b'l'), bench.count(b'w'), letters(&bench).len()), (0, 0, 0));
}

#[tokio::test]
async fn what_is_given_up_says_how_often_it_was_tried_and_lets_the_next_go_on() {
    let bench = Bench::started(keyed(&Arc::new(AtomicBool::new(true)))).await;
    publish_all(&bench, &["a=bad1", "a=a2", "a=bad3"]).await;
    let (first, end) = keys::dead_letters();
    bench.until(|txn| text(txn, "one") == "a2 " && txn.scan(Bound::Included(&first), Bound::Excluded(&end), 9, false).unwrap().len() == 2).await;
    bench.runner.stop().await;
    let told = listed(&bench);
    assert!(told.iter().all(|listed| listed.trouble.tries == 3 && listed.trouble.next_ms.is_none() && listed.trouble.since_ms == START_MS), "{told:?}");
    let warnings = bench.runner.warnings(0);
    assert!(warnings.len() == 1 && warnings[0].count == 2 && warnings[0].text.contains("souk dead list --plugin one"), "{warnings:?}");
    assert_eq!(bench.runner.list_troubles(None, &told[0].id, 1).unwrap(), told[1..]);
    assert!(bench.runner.list_troubles(Some("two"), "", 9).unwrap().is_empty());
}

#[tokio::test]
async fn an_effect_that_fails_is_tried_or_given_up_when_an_operator_says_so() {
    let perform: Script<_> = |attempt| if attempt < 2 { Ok(Err(Failure::Retry("down".into()))) } else { Ok(Ok(b"paid".to_vec())) };
    let bench = Bench::with(payment(perform, |_| Ok(Ok(()))), IN_HOURS);
    bench.runner.start().await.unwrap();
    let failing = |txn: &mut Txn, key: &str| txn.get(&keys::effect("shop", key)).unwrap().and_then(|bytes| effects::failing(&bytes)).is_some();
    for key in ["e1", "e2"] {
        bench.get("shop", key).await.unwrap();
        bench.until(|txn| failing(txn, key)).await;
    }
    let bench = bench.restart().await;
    bench.runner.start().await.unwrap();
    let told = listed(&bench);
    let id = |key: &str| told.iter().find(|listed| listed.trouble.key == key).map(|listed| listed.id.clone()).unwrap();
    assert!(told.iter().all(|listed| listed.trouble.kind == trouble::Kind::Effect && listed.trouble.error == "down" && listed.trouble.plugin == "pay"), "{told:?}");
    assert_eq!(bench.runner.show_trouble(&id("e1")).unwrap().1, b"what");
    bench.runner.retry_troubles(&trouble::Which::Ids(vec![id("e1")])).await.unwrap();
    bench.until(|txn| text(txn, "outcomes") == "e1=paid ").await;
    bench.runner.drop_troubles(&trouble::Which::Ids(vec![id("e2")])).await.unwrap();
    bench.until(|txn| text(txn, "outcomes") == "e1=paid e2=!given up by the operator after 1 tries: down ").await;
    bench.runner.stop().await;
    assert!(listed(&bench).is_empty());
}

/// As a version before this one has written them.
#[tokio::test]
async fn records_of_earlier_versions_are_read() {
    #[derive(serde::Serialize)]
    struct Effect<'a> {
        requester: &'a str,
        target: &'a str,
        kind: &'a str,
        key: &'a str,
        payload: Vec<u8>,
        due_ms: u64,
        failures: u32,
        outcome: Option<Result<Vec<u8>, String>>,
    }
    #[derive(serde::Serialize)]
    struct Letter<'a> {
        id: &'a str,
        plugin: &'a str,
        work: DeadWork,
        error: &'a str,
        at_ms: u64,
    }
    let bench = Bench::new(payment(|_| Ok(Ok(b"paid".to_vec())), |_| Ok(Ok(()))));
    let effect = Effect { requester: "shop", target: "pay", kind: "do", key: "old", payload: b"p".to_vec(), due_ms: START_MS, failures: 2, outcome: None };
    bench.put(&keys::effect("shop", "old"), &postcard::to_stdvec(&effect).unwrap()).await;
    let work = DeadWork::Job { name: "job".into(), key: String::new(), due_ms: 1, payload: b"p".to_vec() };
    let letter = Letter { id: "0190000000000000aaaa", plugin: "shop", work, error: "on purpose", at_ms: 7 };
    bench.put(&keys::dead(letter.id), &postcard::to_stdvec(&letter).unwrap()).await;
    let told = listed(&bench);
    assert_eq!(told.iter().map(|listed| (listed.trouble.key.as_str(), listed.trouble.tries)).collect::<Vec<_>>(), [("", 0), ("old", 2)]);
    bench.runner.start().await.unwrap();
    bench.until(|txn| text(txn, "outcomes") == "old=paid ").await;
    bench.runner.stop().await;
}

#[tokio::test]
async fn a_command_that_runs_out_of_memory_says_what_to_do() {
    let fake = Fake::new(plugins([("shop", "")]), |c| async move {
        bump(&c.unit, "written");
        Err(failed("shop", CallErrorKind::Memory))
    });
    let bench = Bench::new(fake);
    let refused = bench.runner.command("shop", "import".into(), Vec::new(), Vec::new()).await.unwrap_err().to_string();
    assert!(refused.contains("nothing was changed") && refused.contains("split it"), "{refused}");
    assert_eq!(bench.number("written"), 0);
}
