//! One effect and one answer for one `Idempotency-Key`.

use tokio::sync::Semaphore;

use super::*;
use crate::front::{FailureKind, SessionChange, SessionId};
use crate::front::config::Limits;
use crate::front::gate::Gate;

const HOUR_MS: u64 = 3_600_000;

/// Answers with a number that no other run has; the route says the status.
fn shop() -> Arc<Fake> {
    Fake::new(plugins([("shop", ""), ("pay", "")]), |c| async move {
        let n = bump(&c.unit, "n");
        match route(&c.call) {
            "trap" => Err(failed("shop", CallErrorKind::Trap)),
            "large" => web(200, &"x".repeat((256 << 10) + 1)),
            status => web(status.parse().unwrap(), &n.to_string()),
        }
    })
}

async fn send(bench: &Bench, route: &str, key: &str, body: u8) -> Result<(u16, String, bool), FailureKind> {
    match bench.runner.request(call("shop", route, Some((key, body)))).await {
        Ok(answer) => Ok((answer.response.status, String::from_utf8(answer.response.body).unwrap(), answer.replayed)),
        Err(failure) => Err(failure.kind),
    }
}

#[tokio::test]
async fn the_same_key_gives_the_same_answer_and_another_body_is_refused() {
    let bench = Bench::new(shop());
    assert_eq!(send(&bench, "200", "a", 1).await, Ok((200, "1".into(), false)));
    assert_eq!(send(&bench, "200", "a", 1).await, Ok((200, "1".into(), true)));
    assert_eq!(send(&bench, "200", "a", 2).await, Err(FailureKind::IdempotencyMismatch));
    assert_eq!(send(&bench, "200", "b", 2).await, Ok((200, "2".into(), false)), "another key is another request");
    let mut other = call("shop", "200", Some(("a", 1)));
    other.idempotency.as_mut().unwrap().scope = "someone else".into();
    assert!(!bench.runner.request(other).await.unwrap().replayed, "keys of others are others");
    let bench = bench.restart().await;
    assert_eq!(send(&bench, "200", "a", 1).await, Ok((200, "1".into(), true)));
    assert_eq!(send(&bench, "200", "a", 2).await, Err(FailureKind::IdempotencyMismatch));
    assert_eq!(bench.number("n"), 3);
}

#[tokio::test]
async fn an_answer_that_begins_a_session_is_for_that_session_alone() {
    let fake = Fake::new(plugins([("shop", "")]), |c| async move {
        let mut unit = c.unit.lock();
        let cart = unit.session_get("shop", "cart").unwrap().unwrap_or_default() + "x";
        unit.session_set("shop", "cart", cart.clone()).unwrap();
        if route(&c.call) == "rotate" {
            unit.session_rotate().unwrap();
        }
        web(200, &cart)
    });
    let bench = Bench::new(fake);
    let ask = async |route: &str, session: Option<&SessionId>, key: &str| {
        let answer = bench.runner.request(Call { session: session.cloned(), ..call("shop", route, Some((key, 1))) }).await.unwrap();
        (answer.session, String::from_utf8(answer.response.body).unwrap(), answer.replayed)
    };
    let begun = |(session, cart, replayed): (SessionChange, String, bool)| match session {
        SessionChange::Set(id) => (id, cart, replayed),
        other => panic!("{other:?}"),
    };
    let (mine, cart, _) = begun(ask("200", None, "a").await);
    assert_eq!(cart, "x");
    let (theirs, cart, replayed) = begun(ask("200", None, "a").await);
    assert!(!replayed && mine != theirs, "who has not got it begins anew");
    assert_eq!(cart, "x", "and has added once");
    assert_eq!(ask("200", Some(&mine), "a").await, (SessionChange::Keep, "x".into(), true), "who has it added once too");
    assert_eq!(ask("200", Some(&mine), "b").await, (SessionChange::Keep, "xx".into(), false));
    // One that takes the place of another is for whoever had that.
    let (next, cart, _) = begun(ask("rotate", Some(&mine), "c").await);
    assert_eq!(begun(ask("rotate", Some(&mine), "c").await), (next.clone(), cart.clone(), true));
    assert_eq!(ask("rotate", Some(&next), "c").await, (SessionChange::Keep, cart, true));
    assert_eq!(bench.count(b'i'), 5);
}

#[tokio::test]
async fn client_errors_are_kept_and_server_errors_are_not() {
    let bench = Bench::new(shop());
    assert_eq!(send(&bench, "404", "a", 1).await, Ok((404, "1".into(), false)));
    assert_eq!(send(&bench, "404", "a", 1).await, Ok((404, "1".into(), true)));
    for key in ["b", "c"] {
        assert_eq!(send(&bench, "500", key, 1).await, Ok((500, "1".into(), false)));
        assert_eq!(send(&bench, "500", key, 1).await, Ok((500, "1".into(), false)));
    }
    for _ in 0..2 {
        assert_eq!(send(&bench, "trap", "d", 1).await, Err(FailureKind::Plugin));
        assert_eq!(send(&bench, "large", "e", 1).await, Err(FailureKind::Plugin));
    }
    assert_eq!(bench.fake.calls().len(), 9);
    assert_eq!((bench.number("n"), bench.count(b'i')), (0, 1), "nothing was done; one answer is kept");
    assert_eq!(send(&bench, "200", "b", 2).await, Ok((200, "1".into(), false)), "a key given free takes another body");
}

#[tokio::test]
async fn at_one_time_only_one_works_and_all_hear_its_answer() {
    let gate = Arc::new(Semaphore::new(0));
    let closed = gate.clone();
    let fake = Fake::new(plugins([("shop", "")]), move |c| {
        let gate = closed.clone();
        async move {
            let n = bump(&c.unit, "n");
            gate.acquire().await.unwrap().forget();
            web(200, &n.to_string())
        }
    });
    let bench = Bench::new(fake);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let runner = bench.runner.clone();
        requests.spawn(async move { runner.request(call("shop", "200", Some(("a", 1)))).await.unwrap() });
    }
    bench.fake.until_called(|calls| calls.len() == 1).await;
    assert_eq!(send(&bench, "200", "a", 2).await, Err(FailureKind::IdempotencyMismatch), "known while the first is at work");
    gate.add_permits(8);
    let answers = requests.join_all().await;
    assert!(answers.iter().all(|a| a.response.body == b"1"));
    assert_eq!(answers.iter().filter(|a| !a.replayed).count(), 1);
    assert_eq!((bench.number("n"), bench.fake.calls().len()), (1, 1));
}

#[tokio::test]
async fn who_waits_for_effects_keeps_neither_the_second_nor_a_place() {
    let door = Gate::new(&Limits { requests_max: 1, waiting_timeout_ms: 60_000, ..Limits::default() });
    let gate = Arc::new(Semaphore::new(0));
    let closed = gate.clone();
    let fake = Fake::new(plugins([("shop", ""), ("pay", "")]), move |c| {
        let gate = closed.clone();
        async move {
            match c.call {
                PluginCall::Web(_) => {
                    request_effect(&c.unit, "pay", "e");
                    Ok(PluginAnswer::Web(Response { status: 200, headers: Vec::new(), body: Vec::new(), cache: None, await_effects: true }))
                }
                PluginCall::Perform(_) => {
                    gate.acquire().await.unwrap().forget();
                    Ok(PluginAnswer::Perform(Ok(Vec::new())))
                }
                _ => Ok(PluginAnswer::Completed(Ok(()))),
            }
        }
    });
    let bench = Bench::started(fake).await;
    let runner = bench.runner.clone();
    let place = door.enter(false).await.ok();
    let first = tokio::spawn(async move { runner.request(Call { place, ..call("shop", "a", Some(("a", 1))) }).await.unwrap() });
    bench.fake.until_called(|calls| calls.len() == 2).await;
    assert!(door.enter(false).await.is_ok());
    let second = bench.runner.request(call("shop", "a", Some(("a", 1)))).await.unwrap();
    assert!(second.replayed && !first.is_finished());
    gate.add_permits(1);
    assert!(!first.await.unwrap().replayed);
    assert_eq!(bench.count(b'e'), 0, "the first was answered after its effect was done");
    bench.runner.stop().await;
}

/// Lets a request go as soon as its handler runs, as a crash would.
async fn broken_off(bench: &Bench, key: &str) {
    let before = bench.fake.calls().len();
    tokio::select! {
        biased;
        _ = bench.runner.request(call("hangs", "200", Some((key, 1)))) => unreachable!(),
        () = bench.fake.until_called(|calls| calls.len() > before) => {}
    }
}

fn shop_that_can_hang() -> Arc<Fake> {
    Fake::new(plugins([("shop", ""), ("hangs", "")]), |c| async move {
        let n = bump(&c.unit, "n");
        if c.plugin == "hangs" { std::future::pending().await } else { web(200, &n.to_string()) }
    })
}

#[tokio::test]
async fn a_key_reserved_by_one_that_broke_off_is_taken_over() {
    let bench = Bench::new(shop_that_can_hang());
    broken_off(&bench, "a").await;
    let bench = bench.restart().await;
    assert_eq!(bench.count(b'i'), 1);
    assert_eq!(send(&bench, "200", "a", 2).await, Err(FailureKind::IdempotencyMismatch));
    assert_eq!(send(&bench, "200", "a", 1).await, Ok((200, "1".into(), false)));
    assert_eq!(send(&bench, "200", "a", 1).await, Ok((200, "1".into(), true)));
}

#[tokio::test]
async fn keys_end_after_a_day() {
    let bench = Bench::new(shop_that_can_hang());
    assert_eq!(send(&bench, "200", "a", 1).await, Ok((200, "1".into(), false)));
    broken_off(&bench, "b").await;
    bench.advance(12 * HOUR_MS);
    assert_eq!(send(&bench, "200", "b", 1).await, Ok((200, "2".into(), false)));
    bench.advance(12 * HOUR_MS);
    // Ended, though nobody has swept.
    assert_eq!(send(&bench, "200", "a", 2).await, Ok((200, "3".into(), false)));
    bench.runner.expire().await.unwrap();
    assert_eq!(send(&bench, "200", "a", 2).await, Ok((200, "3".into(), true)));
    assert_eq!(send(&bench, "200", "b", 1).await, Ok((200, "2".into(), true)), "answered half a day ago");
    bench.advance(12 * HOUR_MS);
    bench.runner.expire().await.unwrap();
    assert_eq!(bench.count(b'i'), 1);
    bench.advance(12 * HOUR_MS);
    bench.runner.expire().await.unwrap();
    assert_eq!((bench.count(b'i'), bench.count(b'z')), (0, 0));
}

#[tokio::test]
async fn an_answer_that_comes_in_late_is_not_given_free() {
    let store: Arc<Mutex<Option<Store>>> = Arc::default();
    let other = store.clone();
    let fake = Fake::new(plugins([("shop", "")]), move |c| {
        let store = other.lock().clone();
        async move {
            let n = bump(&c.unit, "n");
            let Some(store) = store else { return web(200, &n.to_string()) };
            // The commit of the one before, whose client had gone, lands only now.
            let mut txn = store.begin();
            let answered = txn.get(&keys::idempotency("guest", "a")).unwrap().unwrap();
            txn.put(&keys::idempotency("guest", "b"), answered);
            store.commit(txn).await.unwrap();
            match route(&c.call) {
                "trap" => Err(failed("shop", CallErrorKind::Trap)),
                _ => web(404, "too late"),
            }
        }
    });
    let bench = Bench::new(fake);
    assert_eq!(send(&bench, "200", "a", 1).await, Ok((200, "1".into(), false)));
    *store.lock() = Some(bench.store.clone());
    for route in ["trap", "404"] {
        bench.put(&keys::idempotency("guest", "b"), b"").await;
        _ = send(&bench, route, "b", 1).await;
        assert_eq!(send(&bench, route, "b", 1).await, Ok((200, "1".into(), true)), "{route}");
    }
}
