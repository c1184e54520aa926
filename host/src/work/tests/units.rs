//! What a unit commits, and what it does not.

use std::sync::atomic::AtomicUsize;

use tokio::sync::{Barrier, Notify};

use super::*;
use crate::engine::bindings::souk::host::http_client;
use crate::front::{FailureKind, SessionChange};

fn shop() -> LivePlugins {
    plugins([("shop", "publishes = [\"t\"]")])
}

#[tokio::test]
async fn a_unit_that_lost_runs_again_with_what_the_world_had_answered() {
    let (both, sent) = (Arc::new(Barrier::new(2)), Arc::new(AtomicUsize::new(0)));
    let outside = sent.clone();
    let fake = Fake::new(shop(), move |c| {
        let (both, sent) = (both.clone(), sent.clone());
        async move {
            let request = http_client::Request {
                method: "POST".into(),
                url: format!("https://pay.example/{}", route(&c.call)),
                headers: Vec::new(),
                body: Vec::new(),
                timeout_ms: 0,
            };
            let replayed = c.unit.lock().fetch_replay("shop", &request);
            let answer = replayed.unwrap_or_else(|| {
                let status = 200 + sent.fetch_add(1, Ordering::SeqCst) as u16;
                Ok(http_client::Response { status, headers: Vec::new(), body: Vec::new() })
            });
            c.unit.lock().fetch_record("shop", &request, answer.clone());
            let first = c.unit.lock().attempt == 1;
            let n = bump(&c.unit, "n");
            if first {
                both.wait().await;
            }
            append(&c.unit, &format!("{}-saw", route(&c.call)), &answer.unwrap().status.to_string());
            web(200, &n.to_string())
        }
    });
    let bench = Bench::new(fake);
    let (a, b) = tokio::join!(bench.get("shop", "a"), bench.get("shop", "b"));
    let mut bodies = [a.unwrap().response.body, b.unwrap().response.body];
    bodies.sort();
    assert_eq!(bodies, [b"1".to_vec(), b"2".to_vec()]);
    assert_eq!(bench.number("n"), 2);
    assert_eq!(bench.fake.calls().len(), 3, "the loser ran once more, the winner did not");
    assert_eq!(outside.load(Ordering::SeqCst), 2, "nobody was asked twice");
    let mut saw = [bench.text("a-saw"), bench.text("b-saw")];
    saw.sort();
    assert_eq!(saw, ["200", "201"], "each saw its own answer");
}

/// The one in the turn is held back; the other could not run before it otherwise.
#[tokio::test]
async fn one_that_its_share_holds_back_keeps_nobody_from_a_turn() {
    let (all, seen, other) = (Arc::new(Barrier::new(3)), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let fake = Fake::new(shop(), move |c| {
        let (all, seen, other) = (all.clone(), seen.clone(), other.clone());
        async move {
            let attempt = c.unit.lock().attempt;
            let n = bump(&c.unit, "n");
            match attempt {
                1 => drop(all.wait().await),
                2 if seen.fetch_add(1, Ordering::SeqCst) == 0 => {
                    unit::stand_back(&c.unit);
                    other.notified().await;
                }
                2 => other.notify_one(),
                _ => {}
            }
            web(200, &n.to_string())
        }
    });
    let bench = Bench::new(fake);
    let all_of_them = async { tokio::join!(bench.get("shop", "a"), bench.get("shop", "b"), bench.get("shop", "c")) };
    let (a, b, c) = tokio::time::timeout(HANG, all_of_them).await.expect("one of them waits for a turn that is not given back");
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(bench.number("n"), 3);
}

#[tokio::test]
async fn what_fails_on_trial_leaves_nothing_and_runs_again_on_the_live_version() {
    let fake = Fake::new(shop(), |c| async move {
        bump(&c.unit, "n");
        let mut unit = c.unit.lock();
        if unit.live_only {
            return web(200, "live");
        }
        unit.tried = true;
        if route(&c.call) == "fails" { Err(failed("shop", CallErrorKind::OnTrial)) } else { web(200, "tried") }
    });
    let bench = Bench::new(fake);
    for (route, body, bumped) in [("fails", "live", 1), ("works", "tried", 2)] {
        let answer = bench.get("shop", route).await.unwrap();
        assert_eq!(answer.response.body, body.as_bytes());
        assert_eq!(bench.number("n"), bumped, "{route}");
    }
    assert_eq!(bench.fake.calls().len(), 3);
}

#[tokio::test]
async fn a_page_of_a_version_on_trial_is_not_for_everyone() {
    let fake = Fake::new(shop(), |c| async move {
        c.unit.lock().tried = route(&c.call) == "tried";
        web(200, "")
    });
    let bench = Bench::new(fake);
    assert!(bench.get("shop", "live").await.unwrap().shareable);
    assert!(!bench.get("shop", "tried").await.unwrap().shareable);
}

#[tokio::test]
async fn many_on_one_key_all_come_through() {
    let fake = Fake::new(shop(), |c| async move {
        bump(&c.unit, "n");
        tokio::task::yield_now().await;
        web(200, "")
    });
    let bench = Bench::new(fake);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let runner = bench.runner.clone();
        requests.spawn(async move { runner.request(call("shop", "a", None)).await });
    }
    for answer in requests.join_all().await {
        assert_eq!(answer.unwrap().response.status, 200);
    }
    assert_eq!(bench.number("n"), 200);
}

#[tokio::test]
async fn a_unit_that_always_loses_is_given_up_without_a_trace() {
    let store: Arc<Mutex<Option<Store>>> = Arc::default();
    let rival = store.clone();
    let fake = Fake::new(shop(), move |c| {
        let rival = rival.lock().clone().unwrap();
        async move {
            bump(&c.unit, "n");
            append(&c.unit, "trace", "x");
            let mut txn = rival.begin();
            let n = number(&mut txn, "n");
            txn.put(&named("n"), (n + 100).to_string());
            rival.commit(txn).await.unwrap();
            web(200, "")
        }
    });
    let bench = Bench::new(fake);
    *store.lock() = Some(bench.store.clone());
    assert_eq!(bench.get("shop", "a").await.unwrap_err().kind, FailureKind::Conflict);
    let attempts = bench.fake.calls().len();
    assert_eq!((attempts, bench.number("n")), (12, 1_200));
    assert_eq!(bench.text("trace"), "");
}

/// Does everything that a handler can, then answers as its route says.
async fn everything(c: Called) -> Answered {
    bump(&c.unit, "n");
    publish(&c.unit, "t", "k", "p");
    request_effect(&c.unit, "shop", "e");
    schedule(&c.unit, "j", START_MS + 1);
    c.unit.lock().session_set("shop", "k", "v".into()).unwrap();
    c.unit.lock().invalidate(vec!["page".into()]).unwrap();
    match route(&c.call) {
        "trap" => Err(failed("shop", CallErrorKind::Trap)),
        "odd" => Ok(PluginAnswer::Event(Ok(()))),
        status => web(status.parse().unwrap(), ""),
    }
}

#[tokio::test]
async fn an_error_or_a_trap_leaves_no_trace() {
    let bench = Bench::new(Fake::new(shop(), everything));
    for status in ["400", "404", "500"] {
        let answer = bench.get("shop", status).await.unwrap();
        assert_eq!((answer.response.status.to_string().as_str(), answer.session), (status, SessionChange::Keep));
        assert!(bench.all().is_empty(), "after {status}: {:?}", bench.all());
    }
    assert_eq!(bench.get("shop", "trap").await.unwrap_err().kind, FailureKind::Plugin);
    assert!(bench.get("shop", "odd").await.is_err());
    assert!(bench.all().is_empty() && bench.dropped.lock().is_empty());

    let answer = bench.get("shop", "200").await.unwrap();
    assert!(matches!(answer.session, SessionChange::Set(_)));
    for namespace in *b"doejysz" {
        assert_eq!(bench.count(namespace), 1, "{}", namespace as char);
    }
    assert_eq!(*bench.dropped.lock(), ["page"]);
}

#[tokio::test]
async fn a_unit_that_was_left_behind_can_do_nothing_more() {
    let kept: Arc<Mutex<Vec<SharedUnit>>> = Arc::default();
    let units = kept.clone();
    let fake = Fake::new(shop(), move |c| {
        units.lock().push(c.unit.clone());
        async move {
            bump(&c.unit, "n");
            if route(&c.call) == "hangs" { std::future::pending().await } else { web(200, "") }
        }
    });
    let bench = Bench::new(fake);
    bench.get("shop", "ends").await.unwrap();
    tokio::select! {
        biased;
        _ = bench.get("shop", "hangs") => unreachable!(),
        () = bench.fake.until_called(|calls| calls.len() == 2) => {}
    }
    for unit in kept.lock().iter() {
        assert!(matches!(unit.lock().write(), Err(UnitError::Ended)));
    }
    assert_eq!(bench.number("n"), 1);
}

#[tokio::test]
async fn what_a_quota_refuses_is_not_committed() {
    let fake = Fake::new(shop(), |c| async move {
        let mut unit = c.unit.lock();
        let mut publish = |n: usize| outbox::publish(&mut unit, "shop", "t".into(), n.to_string(), Vec::new());
        assert!((0..256).all(|n| publish(n).is_ok()));
        assert!(matches!(publish(256), Err(UnitError::Quota(_))));

        unit.invalidate((0..1_000).map(|n| n.to_string()).collect()).unwrap();
        assert!(matches!(unit.invalidate((990..1_025).map(|n| n.to_string()).collect()), Err(UnitError::Quota(_))));
        unit.invalidate((990..1_024).map(|n| n.to_string()).collect()).unwrap();

        for n in 0..64 {
            unit.session_set("shop", &n.to_string(), "v".into()).unwrap();
        }
        assert!(unit.session_set("shop", "64", "v".into()).is_err());
        unit.session_set("other", "64", "no plugin takes the room of another".into()).unwrap();
        unit.session_set("shop", "0", "again".into()).unwrap();
        assert_eq!(unit.session_get("shop", "64").unwrap(), None);
        web(200, "")
    });
    let bench = Bench::new(fake);
    bench.get("shop", "a").await.unwrap();
    assert_eq!(bench.count(b'o'), 256);
    assert_eq!(bench.dropped.lock().len(), 1_024);
}

#[tokio::test]
async fn web_requests_and_leases_are_bounded_for_each_plugin() {
    let fake = Fake::new(shop(), |c| async move {
        let mut unit = c.unit.lock();
        let request = |n: usize| http_client::Request { method: "GET".into(), url: n.to_string(), headers: vec![], body: vec![], timeout_ms: 0 };
        for n in 0..64 {
            unit.fetch_allowed("shop").unwrap();
            unit.fetch_record("shop", &request(n), Err(http_client::Error::Timeout));
        }
        assert!(unit.fetch_allowed("shop").is_err());
        let large = http_client::Response { status: 200, headers: vec![], body: vec![0; 16 << 20] };
        unit.fetch_record("large", &request(0), Ok(large));
        assert!(unit.fetch_allowed("large").is_err() && unit.fetch_allowed("other").is_ok());
        let held = std::sync::Arc::new(());
        (0..1_000).for_each(|_| unit.hold(Box::new(held.clone())));
        assert_eq!(std::sync::Arc::strong_count(&held), 257);
        web(200, "")
    });
    Bench::new(fake).get("shop", "a").await.unwrap();
}

#[tokio::test]
async fn what_a_visitor_spends_is_not_the_units() {
    let fake = Fake::new(shop(), |c| async move {
        c.unit.lock().charge(5, 10).unwrap();
        let visit = unit::Visit::begin(&c.unit, &"caller".into());
        assert!(c.unit.lock().charge(10, 10).is_ok(), "a visitor begins at nothing");
        assert!(matches!(c.unit.lock().charge(1, 10), Err(UnitError::Quota(_))));
        while c.unit.lock().log_line(1) {}
        drop(visit);
        assert!(c.unit.lock().charge(5, 10).is_ok() && c.unit.lock().log_line(1));
        assert!(c.unit.lock().charge(1, 10).is_err());
        web(200, "")
    });
    let bench = Bench::new(fake);
    bench.get("shop", "a").await.unwrap();
}

#[tokio::test]
async fn a_unit_that_only_reads_refuses_everything_that_writes() {
    let fake = Fake::new(shop(), |c| async move {
        let _visit = unit::Visit::begin(&c.unit, &"caller".into());
        let mut unit = c.unit.lock();
        assert!(matches!(outbox::publish(&mut unit, "shop", "t".into(), "k".into(), Vec::new()), Err(UnitError::ReadOnly)));
        assert!(matches!(super::super::jobs::cancel(&mut unit, "shop", "job", "k"), Err(UnitError::ReadOnly)));
        assert!(matches!(unit.invalidate(vec!["t".into()]), Err(UnitError::ReadOnly)));
        assert!(unit.session_set("shop", "k", "v".into()).is_err());
        assert_eq!(unit.session_get("shop", "k").unwrap(), None);
        drop(unit);
        web(200, "")
    });
    let bench = Bench::new(fake);
    bench.get("shop", "a").await.unwrap();
    assert!(bench.all().is_empty() && bench.dropped.lock().is_empty());
}

#[tokio::test]
async fn a_session_ends_when_nobody_comes_back() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let fake = Fake::new(shop(), |c| async move {
        match route(&c.call) {
            "set" => c.unit.lock().session_set("shop", "k", "v".into()).unwrap(),
            "rotate" => c.unit.lock().session_rotate().unwrap(),
            _ => {}
        }
        let value = c.unit.lock().session_get("shop", "k").unwrap();
        web(200, &value.unwrap_or_default())
    });
    let bench = Bench::new(fake);
    let visit = async |route: &str, id: &Option<SessionId>| {
        let answer = bench.runner.request(Call { session: id.clone(), ..call("shop", route, None) }).await.unwrap();
        (String::from_utf8(answer.response.body).unwrap(), answer.session)
    };
    let SessionChange::Set(first) = visit("set", &None).await.1 else { panic!("no session was made") };
    let SessionChange::Set(id) = visit("rotate", &Some(first.clone())).await.1 else { panic!("not rotated") };
    assert_eq!(visit("get", &Some(first)).await, (String::new(), SessionChange::Clear), "the old id leads nowhere");
    let id = Some(id);

    bench.advance(20 * DAY_MS);
    assert_eq!(visit("get", &id).await, ("v".into(), SessionChange::Keep));
    bench.advance(20 * DAY_MS);
    bench.runner.expire().await.unwrap();
    assert_eq!(visit("get", &id).await, ("v".into(), SessionChange::Keep), "it was used 20 days ago");

    bench.advance(31 * DAY_MS);
    assert_eq!(visit("get", &id).await, (String::new(), SessionChange::Clear), "ended, though nobody has swept");
    bench.runner.expire().await.unwrap();
    assert_eq!((bench.count(b's'), bench.count(b'z')), (0, 0));
}
