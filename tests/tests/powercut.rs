//! Power cuts in the middle of sales, played from a recording of everything the
//! shop changed below its folder: whatever a disk may hold after one, the store
//! opens, what was acknowledged is there and complete, and stock and money add up.
//!
//! `SOUK_POWERCUT_ROUNDS` says how many (12 otherwise). A failure keeps its
//! recording and tells how to play that one cut again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use souk_tests::api::Api;
use souk_tests::powercut::{Recording, copy, differences, recorded};
use souk_tests::sales::{Article, audit, plenty, shop_on};
use souk_tests::{Shop, number, souk_says, store};
use tempfile::TempDir;

const SHOPPERS: usize = 8;
const ORDERS_EACH: usize = 6;

/// What was recorded, in a folder that can be played again.
struct Sales {
    folder: PathBuf,
    recording: Recording,
    article: Article,
    /// Length of the log when the article was in stock.
    stocked: u64,
    /// And when each order had been acknowledged, with its token.
    acknowledged: Vec<(u64, String)>,
}

impl Sales {
    /// Opens a shop for the first time, sells, and closes it.
    async fn record(folder: &Path) {
        let (before, log) = (folder.join("before"), folder.join("log"));
        let store = store();
        copy(&store.path().join("store"), &before);
        let environment = recorded(&store.path().join("store"), &log);
        let mut shop = Shop::serve_with(store, environment);
        let api = Api::of(&shop);
        let length = move || fs::metadata(&log).unwrap().len();
        let article = plenty(&shop, &api).await;
        let stocked = length();
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let shoppers: Vec<_> = (0..SHOPPERS)
            .map(|_| {
                let (acknowledged, length) = (acknowledged.clone(), length.clone());
                let mut orders = 0;
                tokio::spawn(shop_on(api.clone(), article.sku.clone(), move |token| {
                    acknowledged.lock().unwrap().push((length(), token.to_owned()));
                    orders += 1;
                    orders < ORDERS_EACH
                }))
            })
            .collect();
        for shopper in shoppers {
            shopper.await.unwrap();
        }
        assert_eq!(shop.stop(), Some(0));
        let notes = json!({ "sku": article.sku, "on_hand": article.on_hand, "stocked": stocked, "acknowledged": *acknowledged.lock().unwrap() });
        fs::write(folder.join("notes.json"), notes.to_string()).unwrap();

        let (sales, seen) = (Sales::load(folder), tempfile::tempdir().unwrap());
        assert_eq!(sales.acknowledged.len(), SHOPPERS * ORDERS_EACH);
        sales.recording.seen(seen.path());
        let mut missed = differences(seen.path(), &shop.folder());
        // The operator's commands, which are not recorded, tell of themselves there.
        missed.retain(|path| path != Path::new("audit.jsonl"));
        assert!(missed.is_empty(), "the recorder has missed how these came to be: {missed:?}");
    }

    fn load(folder: &Path) -> Self {
        let notes: Value = serde_json::from_str(&fs::read_to_string(folder.join("notes.json")).unwrap()).unwrap();
        let order = |order: &Value| (order[0].as_u64().unwrap(), order[1].as_str().unwrap().to_owned());
        Self {
            folder: folder.to_owned(),
            recording: Recording::load(&folder.join("before"), &folder.join("log")),
            article: Article { sku: notes["sku"].as_str().unwrap().to_owned(), on_hand: notes["on_hand"].as_i64().unwrap() },
            stocked: notes["stocked"].as_u64().unwrap(),
            acknowledged: notes["acknowledged"].as_array().unwrap().iter().map(order).collect(),
        }
    }

    /// One power cut: when, and what was left, comes from the seed.
    async fn round(&self, seed: u64) {
        let _replay = Replay { folder: &self.folder, seed };
        let left = tempfile::tempdir().unwrap();
        let store = left.path().join("store");
        let cut = self.recording.after_power_cut(seed, &store);
        let (whole, said) = souk_says(&["store", "verify", "--store", store.to_str().unwrap()]);
        assert!(whole, "cut at {cut}: {said}");

        let shop = Shop::serve(left);
        Api::of(&shop).searchable("tea").await;
        if self.stocked <= cut {
            let acknowledged = self.acknowledged.iter().filter(|(length, _)| *length <= cut).map(|(_, token)| token);
            audit(&shop, acknowledged, &self.article).await;
        }
    }
}

/// Tells how to play the round again if it fails.
struct Replay<'a> {
    folder: &'a Path,
    seed: u64,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let test = "cargo nextest run --workspace -E 'binary(powercut)'";
            eprintln!("again: SOUK_POWERCUT_RECORDING={} SOUK_POWERCUT_SEED={} {test}", self.folder.display(), self.seed);
        }
    }
}

/// Outlives a test that fails.
struct Keep(Option<TempDir>);

impl Drop for Keep {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.take().map(TempDir::keep);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_power_cut_leaves_no_acknowledged_order_is_lost() {
    if let (Ok(folder), Some(seed)) = (std::env::var("SOUK_POWERCUT_RECORDING"), number("SOUK_POWERCUT_SEED")) {
        return Sales::load(Path::new(&folder)).round(seed).await;
    }
    let folder = Keep(Some(tempfile::tempdir().unwrap()));
    let path = folder.0.as_ref().unwrap().path();
    Sales::record(path).await;
    let sales = Sales::load(path);
    for seed in 0..number("SOUK_POWERCUT_ROUNDS").unwrap_or(12) {
        sales.round(seed).await;
    }
}
