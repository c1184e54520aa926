//! The shop in a simulation: the host's units of work, its outbox, effects and
//! jobs, and the shop's own plugins as they are built, on one thread, a disk in
//! memory and a clock that jumps to the next thing that is due. All that is left
//! to chance follows from a seed: which commit the process dies at, what the
//! network loses and repeats, when a clock is set, which plugins are exchanged,
//! what shoppers do.
//!
//! [`books`] is the model that every commit is held to. It is the one place
//! below `host/` that knows what an order is.
//!
//! `SOUK_SIMULATIONS` says how many (40 unless given), `SOUK_SEED` plays one again.

mod books;
mod disk;
mod operator;
mod shoppers;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use souk_host::chance::{below, simulate};
use souk_tests::number;
use tokio::task::JoinSet;
use tokio::time::sleep;

use disk::{Death, Disk};
use operator::Operator;
use shoppers::{Diary, Shopper, Visit};
use world::{Clock, DISCOUNTS, Ground, Weather, network, process};

const SHOPPERS: usize = 6;
const LIVES: usize = 4;
const STEPS: usize = 14;
/// After the last shopper; orders are given up after half an hour.
const AFTERMATH: Duration = Duration::from_secs(3 * 3_600);
const DIARY_LINES: usize = 60;

/// What a simulation came to.
struct Ended {
    diary: Vec<String>,
    states: BTreeMap<String, usize>,
    uses: Vec<usize>,
    commits: u64,
    deaths: usize,
    /// What the operator did to plugins, and how often.
    exchanges: BTreeMap<&'static str, usize>,
}

#[test]
fn the_books_are_right_after_every_commit() {
    let ground = Ground::prepare().unwrap();
    let seeds = number("SOUK_SEED").map_or(1..=number("SOUK_SIMULATIONS").unwrap_or(40), |seed| seed..=seed);
    let (mut states, mut uses, mut commits, mut deaths) = (BTreeMap::<String, usize>::new(), vec![0; DISCOUNTS.len()], 0, 0);
    let mut exchanges = BTreeMap::<&str, usize>::new();
    for seed in seeds.clone() {
        let ended = play(&ground, seed);
        ended.states.into_iter().for_each(|(state, count)| *states.entry(state).or_default() += count);
        ended.exchanges.into_iter().for_each(|(what, count)| *exchanges.entry(what).or_default() += count);
        uses.iter_mut().zip(ended.uses).for_each(|(all, of_one)| *all += of_one);
        commits += ended.commits;
        deaths += ended.deaths;
    }
    println!("{} simulations, {commits} commits, {deaths} deaths; {states:?}; discounts used: {uses:?}; plugins {exchanges:?}", seeds.clone().count());
    if seeds.count() >= 40 {
        // What never happens is not tested.
        for state in [
            "order placed", "order fulfilled", "order cancelled by shopper", "order cancelled by expiry", "order refunded by shopper", "order refunded by staff",
            "payment captured of less", "payment declined", "payment cancelled", "payment refunded", "refund refused",
        ] {
            assert!(states.get(state).is_some_and(|count| *count > 0), "there never was a {state}: {states:?}");
        }
        assert!(deaths > 0 && uses.iter().all(|used| *used > 0), "{deaths} deaths, {uses:?}");
        assert_eq!(exchanges.len(), 3, "{exchanges:?}");
    }
}

#[test]
fn a_seed_plays_the_same_again() {
    let ground = Ground::prepare().unwrap();
    let (first, second) = (play(&ground, 3), play(&ground, 3));
    let differs = first.diary.iter().zip(&second.diary).find(|(a, b)| a != b);
    assert_eq!((differs, first.diary.len(), first.commits), (None, second.diary.len(), second.commits));
    assert_ne!(first.diary, play(&ground, 4).diary);
}

fn play(ground: &Ground, seed: u64) -> Ended {
    let diary = Diary::default();
    let disk = ground.disk();
    let mut operator = ground.operator().expect("the plugins of the first day");
    let played = catch_unwind(AssertUnwindSafe(|| live_and_die(ground, seed, &disk, &mut operator, &diary)));
    let wrong = disk.wrong().or_else(|| played.as_ref().err().map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into())));
    let diary = std::mem::take(&mut *diary.lock());
    if let Some(wrong) = wrong {
        let from = diary.len().saturating_sub(DIARY_LINES);
        panic!("seed {seed}: {wrong}\n{}\nSOUK_SEED={seed} cargo nextest run --release -E 'binary(simulation)' plays it again", diary[from..].join("\n"));
    }
    let (states, uses) = disk.books(|books| (books.states(), DISCOUNTS.map(|(id, ..)| books.uses_of(id)).to_vec()));
    Ended { diary, states, uses, commits: disk.commits(), deaths: played.unwrap_or_default(), exchanges: operator.done }
}

/// Some lives of the shop's process, and one in which everything comes to its end; how many ended early.
fn live_and_die(ground: &Ground, seed: u64, disk: &Arc<Disk>, operator: &mut Operator, diary: &Diary) -> usize {
    simulate(seed);
    let shoppers: Vec<_> = (0..SHOPPERS).map(|number| Arc::new(tokio::sync::Mutex::new(Shopper::new(number)))).collect();
    let mut at_ms = 0;
    let mut deaths = 0;
    for _ in 0..LIVES {
        let death = (below(4) != 0).then(|| Death { commit: disk.commits() + 1 + below(150), durable: below(2) == 0 });
        disk.begin(death);
        let exchanges = exchanges(disk.commits(), death);
        let weather = Weather { lost: below(20) as u8, unanswered: below(20) as u8, doubled: below(20) as u8, echoed: below(20) as u8 };
        at_ms = process(async || {
            let clock = Clock::starting(at_ms);
            tokio::select! {
                biased;
                () = disk.until_dead() => {}
                () = day(ground, disk, &clock, diary, &shoppers, (&mut *operator, &exchanges), weather) => {}
            }
            disk.die();
            clock.since_opening_ms()
        });
        deaths += 1;
        diary.lock().push(format!("the process ends at commit {}", disk.commits()));
        assert_eq!(disk.books(|books| books.check_promises()), Ok(()));
        // Nobody is at the machine at once, or its clock is wrong when it comes up.
        at_ms += match below(6) {
            0 => below(7_200_000) as i64,
            1 => -(below(5_000) as i64),
            _ => 1_000,
        };
    }
    disk.begin(None);
    operator.tidy().expect("the operator puts plugins back");
    process(async || {
        let runtime = ground.open(disk, &Clock::starting(at_ms)).await.expect("the shop opens");
        network(&runtime, Arc::new(Mutex::new(Weather::FINE)));
        runtime.runner.start().await.expect("the shop starts");
        sleep(AFTERMATH).await;
        runtime.runner.stop().await;
    });
    assert_eq!(disk.books(|books| books.close()), Ok(()));
    deaths
}

/// At which commits plugins are exchanged: some time, and just before the process dies.
fn exchanges(now: u64, death: Option<Death>) -> Vec<u64> {
    let mut exchanges: Vec<u64> = (0..below(3)).map(|_| now + 1 + below(100)).collect();
    exchanges.extend(death.filter(|_| below(2) == 0).map(|death| death.commit.saturating_sub(1 + below(4))));
    exchanges.sort_unstable();
    exchanges
}

async fn day(
    ground: &Ground,
    disk: &Arc<Disk>,
    clock: &Clock,
    diary: &Diary,
    shoppers: &[Arc<tokio::sync::Mutex<Shopper>>],
    (operator, exchanges): (&mut Operator<'_>, &[u64]),
    weather: Weather,
) {
    operator.tidy().expect("the operator puts plugins back");
    let opened = async {
        let runtime = ground.open(disk, clock).await?;
        network(&runtime, Arc::new(Mutex::new(weather)));
        runtime.runner.start().await?;
        anyhow::Ok(runtime)
    };
    let runtime = match opened.await {
        Ok(runtime) => runtime,
        Err(_) if disk.is_dead() => return,
        Err(error) => panic!("the shop does not open: {error:#}"),
    };
    let problems: Vec<_> = runtime.shop.report().into_iter().filter_map(|plugin| plugin.problem).collect();
    assert!(problems.is_empty() || disk.is_dead(), "{problems:?}");
    let visit = Visit { runtime: runtime.clone(), disk: disk.clone(), clock: clock.clone(), diary: diary.clone() };
    let mut visits: JoinSet<()> = JoinSet::new();
    for shopper in shoppers.iter().cloned() {
        let visit = visit.clone();
        visits.spawn(async move { Shopper::shop(&shopper, &visit, STEPS).await });
    }
    let clock = clock.clone();
    visits.spawn(async move {
        sleep(Duration::from_secs(below(600))).await;
        // As a time server does it, and a person.
        clock.set_by([-2_000, 300, 5_000, 3_600_000][below(4) as usize]);
    });
    let all_have_left = async {
        while let Some(ended) = visits.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    };
    let operating = async {
        operator.work(&visit, exchanges).await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        () = all_have_left => {}
        () = operating => {}
    }
    runtime.runner.stop().await;
}
