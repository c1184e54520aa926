//! One process on the store alone, with the shop's pattern of reads and writes:
//! what `cargo xtask bench storage` runs, kills, records and opens again.
//!
//! `work ENGINE FOLDER WRITERS COMMITS` commits so many times in all, and says of each
//! which it was and how long `SOUK_RECORD_LOG` is now that it is acknowledged;
//! then what it measured, and stays until its input ends.
//! `check ENGINE FOLDER` opens what was left and says what is in it.

use std::io::{Read, Write};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use souk_host::store::{CommitError, EngineKind, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// Means of the transactions that wrote anything while 60 orders were placed over the API, 8 to an order. None of them
// scanned. Each fourth changed a counter and each eighth wrote to a log; here each does both, for the check.
const GETS: usize = 7;
const DOCUMENTS: usize = 4;
const DOCUMENT_BYTES: usize = 330;
/// One document of each transaction is changed again and again, as a cart is.
const CHANGED: &[u8] = b"changed/";
const STOCK: &[u8] = b"stock";
const POINT_READS: u64 = 100_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["work", engine, folder, writers, commits] => work(open(engine, folder)?, writers.parse()?, commits.parse()?).await,
        ["check", engine, folder] => check(engine, folder),
        _ => bail!("work ENGINE FOLDER WRITERS COMMITS | check ENGINE FOLDER"),
    }
}

fn open(engine: &str, folder: &str) -> Result<Store> {
    Ok(Store::open(Path::new(folder), engine.parse::<EngineKind>().map_err(anyhow::Error::msg)?)?)
}

fn document(writer: u64, number: u64, index: usize) -> Vec<u8> {
    [b"order/", &writer.to_be_bytes()[..], &number.to_be_bytes(), &[index as u8]].concat()
}

fn changed(writer: u64) -> Vec<u8> {
    [CHANGED, &writer.to_be_bytes()].concat()
}

async fn work(store: Store, writers: u64, commits: u64) -> Result<()> {
    let begun = Instant::now();
    let left = Arc::new(AtomicU64::new(commits));
    let writers: Vec<_> = (0..writers).map(|writer| tokio::spawn(write(store.clone(), writer, left.clone()))).collect();
    for writer in writers {
        writer.await??;
    }
    let per_second = commits as f64 / begun.elapsed().as_secs_f64();

    let mut txn = store.begin();
    let newest = txn.get(&changed(0))?.context("the first writer has written nothing")?;
    let newest = u64::from_be_bytes(newest[..8].try_into()?);
    let begun = Instant::now();
    for turn in 0..POINT_READS {
        let key = document(0, turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (newest + 1), 1);
        ensure!(store.begin().get(&key)?.is_some(), "a document is gone");
    }
    let point_read_us = begun.elapsed().as_secs_f64() * 1e6 / POINT_READS as f64;
    println!("{}", json!({ "per_second": per_second, "point_read_us": point_read_us, "disk_bytes": store.disk_bytes() }));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

async fn write(store: Store, writer: u64, left: Arc<AtomicU64>) -> Result<()> {
    let log = std::env::var_os("SOUK_RECORD_LOG");
    for number in 0.. {
        if left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
            break;
        }
        let mut txn = store.begin();
        for index in 0..GETS {
            txn.get(&document(writer, number / 2, index % DOCUMENTS))?;
        }
        txn.put(&changed(writer), [&number.to_be_bytes()[..], &[7; DOCUMENT_BYTES]].concat());
        for index in 1..DOCUMENTS {
            txn.put(&document(writer, number, index), vec![index as u8; DOCUMENT_BYTES]);
        }
        txn.append(b"log/", "placed");
        txn.counter_add(STOCK, 1, None)?.ok().context("no floor")?;
        match store.commit(txn).await {
            Ok(_) => {}
            Err(CommitError::Conflict { key }) => bail!("writers share nothing they read, but {}", key.escape_ascii()),
            Err(error) => return Err(error.into()),
        }
        if let Some(log) = &log {
            let length = std::fs::metadata(log)?.len();
            writeln!(std::io::stdout().lock(), "{length} {writer} {number}")?;
        }
    }
    Ok(())
}

/// Says how many commits of each writer are there, after having looked that each is there in full.
fn check(engine: &str, folder: &str) -> Result<()> {
    let begun = Instant::now();
    let store = open(engine, folder)?;
    let open_ms = begun.elapsed().as_secs_f64() * 1e3;
    store.verify()?;
    let mut txn = store.begin();
    let last = txn.scan(Bound::Included(CHANGED), Bound::Excluded(b"changed0"), usize::MAX, false)?;
    let mut writers = serde_json::Map::new();
    let mut total = 0;
    for (key, value) in last {
        let writer = u64::from_be_bytes(key[CHANGED.len()..].try_into()?);
        let commits = u64::from_be_bytes(value[..8].try_into()?) + 1;
        let (start, end) = (document(writer, 0, 0), document(writer, u64::MAX, 0));
        let there = txn.scan(Bound::Included(&start), Bound::Excluded(&end), usize::MAX, false)?;
        ensure!(there.len() as u64 == commits * (DOCUMENTS as u64 - 1), "writer {writer}: {} documents of {commits} commits", there.len());
        ensure!(there.iter().all(|(key, value)| value[..] == [key[key.len() - 1]; DOCUMENT_BYTES]), "writer {writer}: a document is damaged");
        total += commits;
        writers.insert(writer.to_string(), commits.into());
    }
    let counted = txn.counter_get(STOCK)?;
    ensure!(counted == total as i64, "{counted} were counted, {total} are there");
    let logged = txn.scan(Bound::Included(b"log/"), Bound::Excluded(b"log0"), usize::MAX, false)?.len();
    ensure!(logged as u64 == total, "{logged} are in the log, {total} are there");
    println!("{}", json!({ "open_ms": open_ms, "writers": writers }));
    Ok(())
}
