//! Jobs on a clock that is set by hand.

use std::sync::atomic::AtomicBool;

use super::*;

const MINUTE_MS: u64 = 60_000;

/// `shop` schedules by route; a job notes that it ran.
fn shop(manifest: &str, run: impl Fn(&Called, &str) -> Result<bool, String> + Send + Sync + 'static) -> Arc<Fake> {
    Fake::new(plugins([("shop", manifest)]), move |c| {
        let answer = match &c.call {
            PluginCall::Web(request) => {
                match request.route.split_once('@') {
                    Some((key, minutes)) => schedule(&c.unit, key, START_MS + minutes.parse::<u64>().unwrap() * MINUTE_MS),
                    None => super::super::jobs::cancel(&mut c.unit.lock(), "shop", "job", &request.route).unwrap(),
                }
                web(200, "")
            }
            PluginCall::Job(job) => {
                let name = if job.key.is_empty() { &job.name } else { &job.key };
                append(&c.unit, "ran", &format!("{name}@{} ", (job.due_ms - START_MS) / MINUTE_MS));
                Ok(PluginAnswer::Job(run(&c, name)))
            }
            other => panic!("{other:?}"),
        };
        async move { answer }
    })
}

fn runs(bench: &Bench) -> usize {
    bench.fake.calls().iter().filter(|(_, call)| matches!(call, PluginCall::Job(_))).count()
}

#[tokio::test]
async fn a_single_job_runs_once_when_it_is_due_unless_moved_or_cancelled() {
    let bench = Bench::started(shop("", |_, _| Ok(false))).await;
    for route in ["a@10", "moved@10", "cancelled@10", "b@20", "moved@20", "cancelled", "unknown", "now@0"] {
        bench.get("shop", route).await.unwrap();
    }
    bench.until(|txn| text(txn, "ran") == "now@0 ").await;
    bench.advance(10 * MINUTE_MS);
    bench.fake.poke();
    bench.until(|txn| text(txn, "ran") == "now@0 a@10 ").await;
    let bench = bench.restart().await;
    bench.advance(10 * MINUTE_MS);
    bench.runner.start().await.unwrap();
    bench.until(|txn| text(txn, "ran").len() == "now@0 a@10 b@20 moved@20 ".len()).await;
    bench.runner.stop().await;
    let mut ran: Vec<String> = bench.text("ran").split_whitespace().map(str::to_owned).collect();
    ran.sort();
    assert_eq!(ran, ["a@10", "b@20", "moved@20", "now@0"]);
    assert_eq!((bench.count(b'j'), bench.count(b'y')), (0, 0));
}

#[tokio::test]
async fn a_job_can_go_on_and_can_put_itself_off() {
    let fake = shop("", |c, key| {
        let n = bump(&c.unit, key);
        if key == "puts-off" && n == 1 {
            schedule(&c.unit, key, START_MS + 5 * MINUTE_MS);
        }
        Ok(key == "pages" && n < 4)
    });
    let bench = Bench::started(fake).await;
    bench.get("shop", "pages@0").await.unwrap();
    bench.until(|txn| number(txn, "pages") == 4).await;
    bench.get("shop", "puts-off@0").await.unwrap();
    bench.until(|txn| number(txn, "puts-off") == 1).await;
    assert_eq!((bench.count(b'j'), bench.count(b'y')), (1, 1));
    bench.advance(5 * MINUTE_MS);
    bench.fake.poke();
    bench.until(|txn| number(txn, "puts-off") == 2).await;
    bench.runner.stop().await;
    assert_eq!((runs(&bench), bench.count(b'j'), bench.count(b'y')), (6, 0, 0));
}

#[tokio::test]
async fn a_job_that_fails_is_laid_aside_and_a_replay_runs_it_to_its_end() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = broken.clone();
    let fake = shop("", move |c, key| {
        if is_broken.load(Ordering::SeqCst) {
            return Err("on purpose".into());
        }
        Ok(bump(&c.unit, key) < 3)
    });
    let bench = Bench::started(fake).await;
    bench.get("shop", "a@0").await.unwrap();
    let (first, end) = keys::dead_letters();
    bench.until(|txn| !txn.scan(Bound::Included(&first), Bound::Excluded(&end), 1, false).unwrap().is_empty()).await;
    assert_eq!((runs(&bench), bench.count(b'j'), bench.count(b'y')), (3, 0, 0));
    let letters = bench.runner.dead_letters("", 10).unwrap();
    broken.store(false, Ordering::SeqCst);
    bench.runner.replay_dead_letter(&letters[0].id).await.unwrap();
    assert_eq!((bench.number("a"), bench.count(b'x')), (3, 0));
    bench.runner.stop().await;
}

#[tokio::test]
async fn a_job_waits_for_its_plugin() {
    let bench = Bench::started(shop("", |_, _| Ok(false))).await;
    bench.get("shop", "a@10").await.unwrap();
    let live = bench.fake.live.borrow().clone();
    bench.fake.swap(plugins([]));
    bench.advance(10 * MINUTE_MS);
    bench.fake.poke();
    // Put off for a minute.
    let due = keys::job_due(START_MS + 11 * MINUTE_MS, &keys::job("shop", "job", "a"));
    bench.until(|txn| txn.get(&due).unwrap().is_some()).await;
    bench.fake.live.send_replace(live);
    bench.advance(MINUTE_MS);
    bench.fake.poke();
    bench.until(|txn| text(txn, "ran") == "a@10 ").await;
    bench.runner.stop().await;
}

#[tokio::test]
async fn a_repeating_job_runs_once_for_each_time_and_once_for_all_that_were_missed() {
    let manifest = "[[jobs]]\nname = \"tick\"\ncron = \"*/5 * * * *\"";
    let bench = Bench::started(shop(manifest, |_, _| Ok(false))).await;
    for minutes in [5, 10] {
        bench.advance(5 * MINUTE_MS);
        bench.fake.poke();
        bench.until(|txn| text(txn, "ran").ends_with(&format!("tick@{minutes} "))).await;
    }
    // Down from minute 10 to minute 31.
    let bench = bench.restart().await;
    bench.advance(21 * MINUTE_MS);
    bench.runner.start().await.unwrap();
    bench.until(|txn| text(txn, "ran").ends_with("tick@30 ")).await;
    // Down and up within one interval.
    let bench = bench.restart().await;
    bench.runner.start().await.unwrap();
    bench.advance(4 * MINUTE_MS);
    bench.fake.poke();
    bench.until(|txn| text(txn, "ran").ends_with("tick@35 ")).await;
    bench.runner.stop().await;
    assert_eq!((bench.text("ran"), runs(&bench)), ("tick@5 tick@10 tick@30 tick@35 ".into(), 4));
}

#[tokio::test]
async fn a_repeating_job_that_fails_is_tried_again_and_then_waits_for_its_next_time() {
    let manifest = "[[jobs]]\nname = \"tick\"\ncron = \"*/5 * * * *\"";
    let count = AtomicU64::new(0);
    // Fails once, then goes on twice, and fails for good at the next time.
    let fake = shop(manifest, move |_, _| match count.fetch_add(1, Ordering::SeqCst) {
        0 | 3..6 => Err("on purpose".into()),
        n => Ok(n == 1),
    });
    let bench = Bench::started(fake).await;
    for (minutes, expected) in [(5, "tick@5 tick@5 "), (15, "tick@5 tick@5 tick@15 ")] {
        bench.advance(5 * MINUTE_MS);
        bench.fake.poke();
        if minutes == 15 {
            let (first, end) = keys::dead_letters();
            bench.until(|txn| !txn.scan(Bound::Included(&first), Bound::Excluded(&end), 1, false).unwrap().is_empty()).await;
            bench.advance(5 * MINUTE_MS);
            bench.fake.poke();
        }
        bench.until(|txn| text(txn, "ran") == expected).await;
    }
    bench.runner.stop().await;
    assert_eq!((runs(&bench), bench.count(b'x')), (7, 1));
}

/// Jobs of `slow` wait until they are let go; those of all others run at once.
fn beside_a_slow_one(go: &Arc<tokio::sync::Semaphore>) -> Arc<Fake> {
    let go = go.clone();
    Fake::new(plugins([("slow", ""), ("shop", ""), ("other", "")]), move |c| {
        let go = go.clone();
        async move {
            match &c.call {
                PluginCall::Web(request) => {
                    let many = if c.plugin == "slow" { 40 } else { 1 };
                    for n in 0..many {
                        let mut unit = c.unit.lock();
                        let at_ms = request.route.parse().unwrap();
                        super::super::jobs::schedule(&mut unit, &c.plugin, "job".into(), n.to_string(), at_ms, Vec::new()).unwrap();
                    }
                    web(200, "")
                }
                PluginCall::Job(_) => {
                    if c.plugin == "slow" {
                        go.acquire().await.unwrap().forget();
                    }
                    Ok(PluginAnswer::Job(Ok(false)))
                }
                other => panic!("{other:?}"),
            }
        }
    })
}

fn jobs_of(calls: &[(String, PluginCall)], plugin: &str) -> usize {
    calls.iter().filter(|(of, call)| of == plugin && matches!(call, PluginCall::Job(_))).count()
}

#[tokio::test]
async fn slow_jobs_of_one_plugin_that_were_due_long_ago_leave_places_to_others() {
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let bench = Bench::started(beside_a_slow_one(&go)).await;
    bench.get("slow", "1").await.unwrap();
    bench.fake.until_called(|calls| jobs_of(calls, "slow") == 4).await;
    for plugin in ["shop", "other"] {
        bench.get(plugin, &START_MS.to_string()).await.unwrap();
        bench.fake.until_called(|calls| jobs_of(calls, plugin) == 1).await;
    }
    assert_eq!(jobs_of(&bench.fake.calls(), "slow"), 4, "a quarter of all places");
    go.add_permits(40);
    bench.fake.until_called(|calls| jobs_of(calls, "slow") == 40).await;
    bench.until(|txn| txn.scan(Bound::Included(&keys::jobs_due().0), Bound::Excluded(&keys::jobs_due().1), 1, false).unwrap().is_empty()).await;
    bench.runner.stop().await;
}

#[tokio::test]
async fn jobs_that_an_earlier_version_has_put_in_order_still_run() {
    let bench = Bench::started(shop("", |_, _| Ok(false))).await;
    bench.get("shop", "a@10").await.unwrap();
    bench.runner.stop().await;
    let bench = bench.restart().await;
    let job = keys::job("shop", "job", "a");
    let (now, before) = (keys::job_due(START_MS + 10 * MINUTE_MS, &job), [b"t", &(START_MS + 10 * MINUTE_MS).to_be_bytes()[..], &job].concat());
    let mut txn = bench.store.begin();
    txn.delete(&now);
    txn.put(&before, Vec::new());
    bench.store.commit(txn).await.unwrap();
    bench.advance(10 * MINUTE_MS);
    bench.runner.start().await.unwrap();
    bench.until(|txn| text(txn, "ran") == "a@10 ").await;
    bench.runner.stop().await;
    assert_eq!((bench.count(b'j'), bench.count(b't'), bench.count(b'y')), (0, 0, 0));
}
