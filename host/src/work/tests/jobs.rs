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
    assert_eq!((bench.count(b'j'), bench.count(b't')), (0, 0));
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
    assert_eq!((bench.count(b'j'), bench.count(b't')), (1, 1));
    bench.advance(5 * MINUTE_MS);
    bench.fake.poke();
    bench.until(|txn| number(txn, "puts-off") == 2).await;
    bench.runner.stop().await;
    assert_eq!((runs(&bench), bench.count(b'j'), bench.count(b't')), (6, 0, 0));
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
    assert_eq!((runs(&bench), bench.count(b'j'), bench.count(b't')), (3, 0, 0));
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
