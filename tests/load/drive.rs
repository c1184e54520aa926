//! When visits begin, over which connections they go, and what comes of them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use souk_tests::wire::Client;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Arguments;
use crate::mix::Visits;
use crate::server::{Server, Usage};

/// The server ends a connection that was idle for 30 s.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Connections kept alive; the last one used is used again first.
struct Pool {
    address: SocketAddr,
    places: Semaphore,
    idle: Mutex<Vec<(Client, Instant)>>,
}

impl Pool {
    async fn send(&self, request: &[u8]) -> Result<Answer> {
        let _place = self.places.acquire().await?;
        let kept = lock(&self.idle).pop().filter(|(_, since)| since.elapsed() < IDLE_MAX);
        let mut client = match kept {
            Some((client, _)) => client,
            None => Client::connect(self.address).await?,
        };
        let answer = client.send(request).await?;
        let head = String::from_utf8_lossy(answer.head);
        let retry_after = head.lines().find_map(|line| line.strip_prefix("retry-after: ")?.parse().ok()).map(Duration::from_secs);
        let closes = head.contains("\r\nconnection: close");
        let answer = Answer { status: answer.status, retry_after, body: answer.body.to_vec() };
        if !closes {
            lock(&self.idle).push((client, Instant::now()));
        }
        Ok(answer)
    }
}

pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// What came of the visits of one run.
pub struct Tally {
    begun: Instant,
    /// Of requests that were worked on, in microseconds.
    pub admitted: Histogram<u64>,
    /// Of those sent away with 503.
    pub shed: Histogram<u64>,
    /// The admitted by the second in which they were due.
    seconds: Vec<Histogram<u64>>,
    /// How late visits began here, for want of processor time.
    pub late: Histogram<u64>,
    pub ok: u64,
    pub refused: u64,
    pub unavailable: u64,
    pub without_retry_after: u64,
    pub others: u64,
    pub connection_errors: u64,
    pub orders: u64,
}

/// Three digits, up to minutes.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are sound")
}

impl Tally {
    fn new(begun: Instant) -> Self {
        Self {
            begun,
            admitted: histogram(),
            shed: histogram(),
            seconds: Vec::new(),
            late: histogram(),
            ok: 0,
            refused: 0,
            unavailable: 0,
            without_retry_after: 0,
            others: 0,
            connection_errors: 0,
            orders: 0,
        }
    }

    fn answered(&mut self, due: Instant, answer: &Answer) {
        let us = due.elapsed().as_micros() as u64;
        match answer.status {
            503 => {
                self.unavailable += 1;
                self.without_retry_after += u64::from(answer.retry_after.is_none());
                self.shed.saturating_record(us);
                return;
            }
            200..400 => self.ok += 1,
            400..500 => self.refused += 1,
            _ => self.others += 1,
        }
        self.admitted.saturating_record(us);
        let second = due.saturating_duration_since(self.begun).as_secs() as usize;
        if self.seconds.len() <= second {
            self.seconds.resize_with(second + 1, histogram);
        }
        self.seconds[second].saturating_record(us);
    }

    pub fn answers(&self) -> u64 {
        self.ok + self.refused + self.unavailable + self.others
    }

    /// Answers that nobody should get, however many come.
    pub fn failures(&self) -> u64 {
        self.others + self.connection_errors
    }

    /// p99 of the admitted for each second of the run.
    pub fn p99_ms_by_second(&self) -> Vec<f64> {
        self.seconds.iter().map(|second| ms(second, 0.99)).collect()
    }
}

pub fn ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

/// What a visit has in its hands.
pub struct Visitor {
    pool: Arc<Pool>,
    tally: Mutex<Tally>,
}

impl Visitor {
    pub fn address(&self) -> SocketAddr {
        self.pool.address
    }

    /// Sends and counts; None where there was no answer.
    pub async fn ask(&self, request: &[u8], due: Instant) -> Option<Answer> {
        let answer = self.pool.send(request).await;
        let mut tally = lock(&self.tally);
        match answer {
            Ok(answer) => {
                tally.answered(due, &answer);
                Some(answer)
            }
            Err(_) => {
                tally.connection_errors += 1;
                None
            }
        }
    }

    pub fn ordered(&self) {
        lock(&self.tally).orders += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One run.
pub struct Run {
    pub tally: Tally,
    pub visits: u64,
    /// For which visits began.
    pub offered_for: Duration,
    /// Until the last of them ended.
    pub took: Duration,
    pub before: Option<Usage>,
    pub after: Option<Usage>,
}

pub struct Load<'a> {
    server: &'a Server,
    visits: Arc<Visits>,
    pool: Arc<Pool>,
    chance: fastrand::Rng,
}

impl<'a> Load<'a> {
    pub fn new(server: &'a Server, visits: Arc<Visits>, arguments: &Arguments) -> Self {
        let pool = Pool { address: server.address, places: Semaphore::new(arguments.connections), idle: Mutex::default() };
        Self { server, visits, pool: Arc::new(pool), chance: fastrand::Rng::with_seed(arguments.seed) }
    }

    /// Visits begin so often, at moments that do not depend on each other.
    pub async fn run(&mut self, per_second: f64, time: Duration) -> Result<Run> {
        let mut chance = self.chance.fork();
        let mut due = Duration::ZERO;
        let dues = std::iter::from_fn(move || {
            due += Duration::from_secs_f64(-(1.0 - chance.f64()).ln() / per_second);
            (due < time).then_some(due)
        });
        self.run_dues(dues, time).await
    }

    /// So many visits at the same moment.
    pub async fn run_at_once(&mut self, visits: usize) -> Result<Run> {
        self.run_dues(std::iter::repeat_n(Duration::ZERO, visits), Duration::ZERO).await
    }

    async fn run_dues(&mut self, dues: impl Iterator<Item = Duration>, offered_for: Duration) -> Result<Run> {
        let before = self.server.usage().await?;
        let begun = Instant::now();
        let visitor = Arc::new(Visitor { pool: self.pool.clone(), tally: Mutex::new(Tally::new(begun)) });
        let (mut running, mut visits) = (JoinSet::new(), 0);
        for due in dues {
            let due = begun + due;
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
            lock(&visitor.tally).late.saturating_record(due.elapsed().as_micros() as u64);
            let (visitor, doing, chance) = (visitor.clone(), self.visits.clone(), self.chance.fork());
            running.spawn(async move { doing.visit(&visitor, due, chance).await });
            visits += 1;
            while running.try_join_next().is_some() {}
        }
        running.join_all().await;
        let took = begun.elapsed();
        let after = self.server.usage().await?;
        let tally = std::mem::replace(&mut *lock(&visitor.tally), Tally::new(begun));
        Ok(Run { tally, visits, offered_for, took, before, after })
    }
}
