//! A disk that is full, read-only or broken, a process that dies at the worst
//! call, and files that are not what was written: the shop sells no order that
//! it cannot keep, says what is wrong, and goes on when that is mended.
//!
//! `SOUK_FAULT_ROUNDS` says at how many points each operation is broken off
//! (4 otherwise). What bytes are damaged is in `damage.rs`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};
use souk_tests::api::{Api, INSTANT, filling};
use souk_tests::faults::{At, Faults, Moment};
use souk_tests::powercut::{Recording, copy, recorded};
use souk_tests::sales::{Article, audit, plenty};
use souk_tests::{NotOpen, Shop, client, install_guest, number, root, souk_says, souk_says_with, store, until};
use tempfile::TempDir;

const SHOPPERS: usize = 6;
/// The disk failed and takes writes again: to be started again.
const MUST_RESTART: Option<i32> = Some(75);

fn rounds() -> i64 {
    number("SOUK_FAULT_ROUNDS").map_or(4, u64::cast_signed)
}

/// Points at which to break an operation off that has so many: all, or some from the first to the last.
fn points(there_are: i64) -> Vec<i64> {
    let rounds = rounds().min(there_are);
    (0..rounds).map(|round| 1 + round * (there_are - 1) / (rounds - 1).max(1)).collect()
}

/// A store with switches beside it.
fn faulty(store: &TempDir) -> Faults {
    Faults::new(&store.path().join("faults"))
}

fn try_open(store: TempDir, faults: &Faults) -> Result<Shop, NotOpen> {
    let environment = faults.environment(&store.path().join("store"));
    Shop::try_serve(store, environment)
}

fn open(store: TempDir, faults: &Faults) -> Shop {
    try_open(store, faults).unwrap_or_else(|refused| panic!("{:?}: {}", refused.code, refused.said))
}

fn assert_calm(said: &str) {
    // As a panic is told; libraries have the word in messages of their own.
    assert!(!said.contains("panicked at"), "{said}");
}

fn assert_whole(store: &Path) {
    let (whole, said) = souk_says(&["store", "verify", "--store", store.to_str().unwrap()]);
    assert!(whole && said.contains("whole"), "{said}");
}

/// Shoppers who try again whatever they are answered, until the shop is gone.
struct Crowd {
    acknowledged: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    enough: Arc<AtomicBool>,
    loops: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Crowd {
    fn enter(shop: &Shop, article: &Article) -> Self {
        let crowd = Self { acknowledged: Arc::default(), refused: Arc::default(), enough: Arc::default(), loops: Vec::new() };
        let shopper = || {
            let (api, sku) = (Api::of(shop), article.sku.clone());
            let (acknowledged, refused, enough) = (crowd.acknowledged.clone(), crowd.refused.clone(), crowd.enough.clone());
            tokio::spawn(async move {
                let mut tokens = Vec::new();
                while !enough.load(Relaxed) {
                    match buy(&api, &sku).await {
                        Ok(Some(token)) => {
                            tokens.push(token);
                            acknowledged.fetch_add(1, Relaxed);
                        }
                        Ok(None) => drop(refused.fetch_add(1, Relaxed)),
                        Err(_) => break,
                    }
                }
                tokens
            })
        };
        let loops = (0..SHOPPERS).map(|_| shopper()).collect();
        Self { loops, ..crowd }
    }

    async fn until_acknowledged(&self, orders: u64) {
        until(|| self.acknowledged.load(Relaxed) >= orders).await;
    }

    async fn until_refused(&self, times: u64) {
        until(|| self.refused.load(Relaxed) >= times).await;
    }

    /// The tokens of all orders that were acknowledged.
    async fn leave(self) -> Vec<String> {
        self.enough.store(true, Relaxed);
        let mut tokens = Vec::new();
        for shopper in self.loops {
            tokens.extend(shopper.await.unwrap());
        }
        tokens
    }
}

/// The order's token; none where any step of it was refused in due form.
async fn buy(api: &Api, sku: &str) -> Result<Option<String>, reqwest::Error> {
    let (status, cart) = api.try_send("POST", "/carts", Value::Null).await?;
    if !is_taken(status, &cart) {
        return Ok(None);
    }
    let path = format!("/carts/{}", cart["id"].as_str().unwrap());
    for (method, what, body) in filling(sku, 1) {
        let (status, answer) = api.try_send(method, &format!("{path}/{what}"), body).await?;
        if !is_taken(status, &answer) {
            return Ok(None);
        }
    }
    let (status, placed) = api.order(&path, INSTANT).await?;
    Ok(is_taken(status, &placed).then(|| placed["token"].as_str().unwrap().to_owned()))
}

fn is_taken(status: u16, answer: &Value) -> bool {
    if status == 503 {
        let code = answer["code"].as_str().unwrap_or_default();
        assert!(["unavailable", "unconfirmed", "overloaded"].contains(&code), "{answer}");
        return false;
    }
    assert!((200..300).contains(&status), "{status} {answer}");
    true
}

async fn get(url: &str) -> (u16, String) {
    let answer = client().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Pages that need no write are there, orders are refused, the operator is told, and the process lives.
async fn assert_shows_and_does_not_sell(shop: &mut Shop, crowd: &Crowd, because: &str) {
    shop.until_metric("souk_store_failed", |failed| failed == 1.0).await;
    let before = crowd.refused.load(Relaxed);
    crowd.until_refused(before + 3 * SHOPPERS as u64).await;
    let sold = crowd.acknowledged.load(Relaxed);
    for path in ["/api/v1/products?limit=3", "/en/products", "/en/products?page=2"] {
        assert_eq!(get(&format!("{}{path}", shop.url)).await.0, 200, "{path}");
    }
    let (status, reason) = get(&format!("{}/ready", shop.ops)).await;
    assert!(status == 503 && reason.contains(because), "{status} {reason}");
    crowd.until_refused(before + 6 * SHOPPERS as u64).await;
    assert_eq!(crowd.acknowledged.load(Relaxed), sold, "nothing is sold once a write has failed");
    assert!(!shop.has_ended());
}

/// Sells, fails, is mended, ends, and sells again.
async fn sells_through(fail: impl Fn(&Faults), because: &str) {
    let store = store();
    let faults = faulty(&store);
    let mut shop = open(store, &faults);
    let article = plenty(&shop, &Api::of(&shop)).await;
    let crowd = Crowd::enter(&shop, &article);
    crowd.until_acknowledged(20).await;
    fail(&faults);
    assert_shows_and_does_not_sell(&mut shop, &crowd, because).await;
    faults.mend();
    let ended = shop.ended();
    assert_eq!(ended.code, MUST_RESTART, "{}", ended.said);
    assert!(ended.said.contains(because) && ended.said.contains("store/data failed"), "{}", ended.said);
    assert_calm(&ended.said);
    let mut acknowledged = crowd.leave().await;

    assert_whole(&ended.folder.path().join("store"));
    let shop = open(ended.folder, &faults);
    let crowd = Crowd::enter(&shop, &article);
    crowd.until_acknowledged(5).await;
    acknowledged.extend(crowd.leave().await);
    audit(&shop, &acknowledged, &article).await;
    assert_calm(&shop.close().said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_sales_until_there_is_room() {
    // Whether a commit fits in part, or not at all.
    for room in [0, 5_000] {
        sells_through(|faults| faults.full_after(room), "No space left on device").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_turns_read_only_ends_sales_until_it_is_writable() {
    sells_through(Faults::read_only, "Read-only file system").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_sync_any_more_ends_sales_until_it_does() {
    sells_through(|faults| faults.syncs_fail(i64::MAX), "Input/output error").await;
}

/// The system may say so once, and show what it lost as if it were on disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_one_sync_that_failed_nothing_is_acknowledged_that_a_power_cut_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (before, log) = (folder.path().join("before"), folder.path().join("log"));
    let store = store();
    let faults = faulty(&store);
    let path = store.path().join("store");
    copy(&path, &before);
    let Ok(shop) = Shop::try_serve(store, recorded(&path, &log).into_iter().chain(faults.environment(&path))) else { panic!("it opens") };
    let article = plenty(&shop, &Api::of(&shop)).await;
    let crowd = Crowd::enter(&shop, &article);
    crowd.until_acknowledged(20).await;
    faults.only("data/documents");
    faults.syncs_fail(1);
    let ended = shop.ended();
    assert_eq!(ended.code, MUST_RESTART, "{}", ended.said);
    assert_calm(&ended.said);
    let acknowledged = crowd.leave().await;
    let recording = Recording::load(&before, &log);
    for seed in 0..3 {
        let left = tempfile::tempdir().unwrap();
        recording.after_power_cut_in_the_end(seed, &left.path().join("store"));
        assert_whole(&left.path().join("store"));
        audit(&Shop::serve(left), &acknowledged, &article).await;
    }
}

#[test]
fn a_disk_that_takes_no_writes_is_told_at_the_start() {
    type Fail = fn(&Faults);
    let cases: [(Fail, &str); 3] = [
        (Faults::read_only, "Read-only file system"),
        (|faults| faults.full_after(0), "No space left on device"),
        (|faults| faults.syncs_fail(i64::MAX), "Input/output error"),
    ];
    let mut store = store();
    let faults = faulty(&store);
    for (fail, because) in cases {
        fail(&faults);
        let Err(refused) = try_open(store, &faults) else { panic!("it opened on a disk with {because}") };
        assert_eq!(refused.code, Some(1), "{}", refused.said);
        let path = refused.folder.path().join("store").display().to_string();
        assert!(refused.said.contains(because) && refused.said.contains(&path), "{}", refused.said);
        assert_calm(&refused.said);
        faults.mend();
        store = refused.folder;
    }
    assert_calm(&open(store, &faults).close().said);
}

/// Dies around the n-th sync of its documents, while six buy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_is_kept_or_was_never_acknowledged_wherever_the_process_dies_in_a_commit() {
    let mut folder = store();
    let faults = faulty(&folder);
    let (mut acknowledged, mut article) = (Vec::new(), None);
    for round in 0..2 * rounds() {
        let shop = open(folder, &faults);
        let article = match &article {
            None => article.insert(plenty(&shop, &Api::of(&shop)).await),
            Some(article) => article,
        };
        faults.only("data/documents");
        faults.crash(At::Sync, if round % 2 == 0 { Moment::Before } else { Moment::After }, 1 + round * round);
        let crowd = Crowd::enter(&shop, article);
        let ended = shop.ended();
        assert_eq!(ended.code, None, "{}", ended.said);
        assert_calm(&ended.said);
        acknowledged.extend(crowd.leave().await);
        faults.mend();
        assert_whole(&ended.folder.path().join("store"));
        let shop = open(ended.folder, &faults);
        audit(&shop, &acknowledged, article).await;
        folder = shop.kill();
    }
}

/// And at each point of the start that recovers from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_breaks_off_is_no_harm() {
    let store = store();
    let faults = faulty(&store);
    let shop = open(store, &faults);
    let article = plenty(&shop, &Api::of(&shop)).await;
    let crowd = Crowd::enter(&shop, &article);
    crowd.until_acknowledged(10).await;
    let mut folder = shop.kill();
    let acknowledged = crowd.leave().await;
    for (at, moment) in [(At::Sync, Moment::Before), (At::Rename, Moment::After)] {
        for nth in 1..=rounds() {
            faults.mend();
            faults.crash(at, moment, nth);
            folder = match try_open(folder, &faults) {
                Ok(shop) => shop.kill(),
                Err(died) => {
                    assert_eq!(died.code, None, "{}", died.said);
                    died.folder
                }
            };
        }
    }
    faults.mend();
    assert_whole(&folder.path().join("store"));
    audit(&open(folder, &faults), &acknowledged, &article).await;
}

/// One more product, in a category that is there already.
fn lamp(round: i64) -> String {
    format!(
        r#"{{"categories": [], "products": [{{
    "handle": "lamp-{round}", "category": "tea", "name": {{"en": "Lampion{round}", "zh-CN": "台灯"}}, "subtitle": {{"en": "Bright", "zh-CN": "明亮"}},
    "description": {{"en": "A lamp.", "zh-CN": "一盏灯。"}}, "brand": "Souk", "tags": [], "attributes": [], "options": [],
    "variants": [{{"sku": "LAMP-{round}", "options": [], "price": 19900, "compare-at-price": null, "weight-g": 900, "stock": 5, "barcode": null}}],
    "images": ["lamp.webp"], "position": 1, "created-at": "2026-03-01T00:00:00Z"}}]}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_finds_what_was_imported_wherever_the_process_dies_in_a_commit_of_the_index() {
    let mut folder = store();
    let faults = faulty(&folder);
    let file = folder.path().join("lamp.json");
    let mut imported = Vec::new();
    let mut nth = 1;
    for round in 0.. {
        faults.mend();
        let shop = open(folder, &faults);
        Api::of(&shop).searchable("tea").await;
        faults.only("data/search");
        let (at, moment) = if round % 2 == 0 { (At::Sync, Moment::Before) } else { (At::Rename, Moment::After) };
        faults.crash(at, moment, nth);
        nth += round % 2;
        fs::write(&file, lamp(round)).unwrap();
        let (stored, said) = shop.says(&["store", "import", file.to_str().unwrap(), "--kind", "catalogue"]);
        assert!(stored || faults.struck(), "{said}");
        // Dead, or all of it done.
        let done = async {
            if stored {
                imported.push(round);
            }
            let url = format!("{}/api/v1/search?q=Lampion{round}", shop.url);
            loop {
                let Ok(answer) = client().get(&url).send().await else { return false };
                let Ok(found) = answer.json::<Value>().await else { return false };
                if found["total"].as_i64() > Some(0) {
                    return true;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let done = done.await;
        folder = shop.kill();
        if done && !faults.struck() || round >= 2 * rounds() {
            break;
        }
    }
    faults.mend();
    assert_whole(&folder.path().join("store"));
    let shop = open(folder, &faults);
    assert!(imported.len() > 1);
    for round in imported {
        Api::of(&shop).searchable(&format!("Lampion{round}")).await;
    }
}

/// Puts another version of the guest `notes` in place, which knows both forms of its documents.
fn second_version(plugin: &Path) {
    let manifest = plugin.join("plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap().replace("1.0.0", "2.0.0").replace("default = 1", "default = 2");
    souk_tests::replace(&manifest, format!("{text}\n[data]\nform = 2\nreads = 1\n").as_bytes());
}

fn notes() -> (TempDir, Faults) {
    let store = store();
    install_guest(&store, "notes");
    let faults = faulty(&store);
    (store, faults)
}

const NOTES: usize = 60;

async fn write_notes(shop: &Shop) {
    for n in 0..NOTES {
        let answer = client().post(format!("{}/notes/note-{n:04}", shop.url)).body(format!("text {n}")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
    }
}

async fn all_notes_are_read(shop: &Shop) {
    for n in 0..NOTES {
        assert_eq!(get(&format!("{}/notes/note-{n:04}", shop.url)).await, (200, format!("text {n}")));
    }
}

/// A copy of a store that is not served, in a folder of its own.
fn again(store: &TempDir) -> (TempDir, Faults) {
    let folder = tempfile::tempdir().unwrap();
    copy(&store.path().join("store"), &folder.path().join("store"));
    let faults = faulty(&folder);
    (folder, faults)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_goes_on_wherever_the_process_dies() {
    let (store, faults) = notes();
    let shop = open(store, &faults);
    write_notes(&shop).await;
    second_version(&shop.plugin("notes"));
    shop.until("notes", |report| report["version"] == "2.0.0" && report["problem"].is_null());
    let store = shop.close().folder;
    let migrate = |shop: &Shop| shop.says(&["plugin", "data", "migrate", "notes"]);

    let (counted, faults) = again(&store);
    let shop = open(counted, &faults);
    faults.only("data/documents");
    let before = faults.seen(At::Sync);
    let (migrated, said) = migrate(&shop);
    assert!(migrated, "{said}");
    let syncs = faults.seen(At::Sync) - before;
    drop(shop);
    for (nth, moment) in points(syncs).into_iter().zip([Moment::Before, Moment::After].into_iter().cycle()) {
        let (copied, faults) = again(&store);
        let shop = open(copied, &faults);
        faults.only("data/documents");
        faults.crash(At::Sync, moment, nth);
        migrate(&shop);
        let folder = shop.kill();
        faults.mend();
        assert_whole(&folder.path().join("store"));
        let shop = open(folder, &faults);
        let (migrated, said) = migrate(&shop);
        assert!(migrated, "{said}");
        assert!(shop.report("notes")["older_form"].is_null());
        all_notes_are_read(&shop).await;
        assert_calm(&shop.close().said);
    }
}

/// More than an import writes at once.
fn many_notes() -> String {
    let mut lines = vec![json!({ "plugin": "notes", "form": 1 })];
    lines.extend((0..3_500).map(|n| json!({ "collection": "notes", "key": format!("note-{n:04}"), "document": { "text": format!("text {n}") } })));
    lines.extend((0..1_500).map(|n| json!({ "collection": "seen", "key": format!("note-{n:04}"), "counter": n })));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_goes_on_wherever_the_process_dies() {
    let (store, faults) = notes();
    let files = tempfile::tempdir().unwrap();
    let [file, other] = ["notes.jsonl", "other.jsonl"].map(|name| files.path().join(name));
    fs::write(&file, many_notes()).unwrap();
    fs::write(&other, many_notes().replace("text 7\"", "text 8\"")).unwrap();
    let data = |shop: &Shop, command: &str, file: &Path| shop.says(&["plugin", "data", command, "notes", file.to_str().unwrap()]);
    let shop = open(store, &faults);
    assert!(shop.says(&["plugin", "remove", "notes"]).0);
    shop.until_gone("notes");
    let store = shop.close().folder;

    let (counted, faults) = again(&store);
    let shop = open(counted, &faults);
    faults.only("data/documents");
    let before = faults.seen(At::Sync);
    let (imported, said) = data(&shop, "import", &file);
    assert!(imported && said.contains("5000 documents and counters"), "{said}");
    let syncs = faults.seen(At::Sync) - before;
    drop(shop);
    let mut halves = 0;
    for (round, (nth, moment)) in points(syncs).into_iter().zip([Moment::After, Moment::Before].into_iter().cycle()).enumerate() {
        let (copied, faults) = again(&store);
        let shop = open(copied, &faults);
        faults.only("data/documents");
        faults.crash(At::Sync, moment, nth);
        data(&shop, "import", &file);
        let folder = shop.kill();
        faults.mend();
        let shop = open(folder, &faults);
        let out = files.path().join(format!("{round}.jsonl"));
        let (exported, said) = data(&shop, "export", &out);
        if !exported {
            halves += 1;
            let refused = |(done, said): (bool, String)| assert!(!done && said.contains("is not finished"), "{said}");
            refused((exported, said));
            refused(data(&shop, "import", &other));
            refused(shop.says(&["plugin", "promote", "notes", "1.0.0"]));
        }
        fs::remove_file(&out).ok();
        let (imported, said) = data(&shop, "import", &file);
        assert!(imported || said.contains("has data here already"), "{said}");
        let (exported, said) = data(&shop, "export", &out);
        assert!(exported, "{said}");
        let parsed = |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
        let (now, source) = (parsed(&fs::read_to_string(&out).unwrap()), parsed(&many_notes()));
        let different = now.iter().zip(&source).find(|(now, source)| now != source);
        assert!(now.len() == source.len() && different.is_none(), "broken off at sync {nth} of {syncs}: {} lines, {different:?}", now.len());
        let (promoted, said) = shop.says(&["plugin", "promote", "notes", "1.0.0"]);
        assert!(promoted, "{said}");
        all_notes_are_read(&shop).await;
        assert_calm(&shop.close().said);
    }
    assert!(halves > 1, "{halves} of {} were broken off between", points(syncs).len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_is_done_or_is_not_wherever_the_process_dies() {
    let (store, faults) = notes();
    let shop = open(store, &faults);
    write_notes(&shop).await;
    let store = shop.close().folder;
    for nth in 1.. {
        let (copied, faults) = again(&store);
        let shop = open(copied, &faults);
        faults.only("plugins/");
        faults.crash(if nth % 2 == 0 { At::Rename } else { At::Sync }, Moment::After, (nth + 1) / 2);
        second_version(&shop.plugin("notes"));
        let history = shop.folder().join("plugins/.versions/notes/history.json");
        until(|| faults.struck() || fs::read_to_string(&history).is_ok_and(|history| history.contains("2.0.0"))).await;
        let struck = faults.struck();
        let folder = shop.kill();
        faults.mend();
        let shop = open(folder, &faults);
        shop.until("notes", |report| report["version"] == "2.0.0" && report["problem"].is_null());
        all_notes_are_read(&shop).await;
        let (rolled_back, said) = shop.says(&["plugin", "rollback", "notes"]);
        assert!(rolled_back, "the version before is kept: {said}");
        shop.until("notes", |report| report["version"] == "1.0.0" && report["problem"].is_null());
        all_notes_are_read(&shop).await;
        assert_calm(&shop.close().said);
        if !struck || nth > rounds() {
            break;
        }
    }
}

/// A command that dies at each of its points, and is given again.
fn command_is_repeated(store: &TempDir, part: &str, arguments: &[&str], check: impl Fn(TempDir)) {
    let folder = |store: &TempDir| store.path().join("store").display().to_string();
    let run = |store: &TempDir, faults: &Faults| {
        let path = store.path().join("store");
        // The folder that faults concern is there, or is made by the command.
        fs::create_dir_all(&path).unwrap();
        souk_says_with(&[arguments, &["--store", &folder(store)]].concat(), faults.environment(&path))
    };
    for (at, moment) in [(At::Sync, Moment::Before), (At::Rename, Moment::After)] {
        let (counted, faults) = again(store);
        faults.only(part);
        let (done, said) = run(&counted, &faults);
        assert!(done, "{arguments:?}: {said}");
        for nth in points(faults.seen(at)) {
            let (copied, faults) = again(store);
            faults.only(part);
            faults.crash(at, moment, nth);
            let (done, said) = run(&copied, &faults);
            if done && !faults.struck() {
                // It has fewer points than when they were counted: groups of commits fall otherwise.
                break;
            }
            assert!(!done, "{said}");
            faults.mend();
            let (done, said) = run(&copied, &faults);
            // All but the answer may have been there.
            let was_done = said.contains("is not empty") || said.contains("holds a store already");
            assert!(done || was_done, "{arguments:?}, broken off at {at:?} {nth}: {said}");
            assert_whole(&copied.path().join("store"));
            check(copied);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_install_and_a_promotion_can_be_repeated_wherever_they_end() {
    let (store, elsewhere) = (store(), tempfile::tempdir().unwrap());
    let bundle = elsewhere.path().join("tea-time.souk").display().to_string();
    let source = root().join("target/examples/tea-time").display().to_string();
    let (packed, said) = souk_says(&["plugin", "pack", &source, "--out", &bundle]);
    assert!(packed, "{said}");
    let is_live = |store: TempDir| {
        let shop = Shop::serve(store);
        shop.until("tea-time", |report| report["problem"].is_null() && report["version"] != "");
    };
    command_is_repeated(&store, "plugins/", &["plugin", "install", &bundle, "--unsigned", "--grant"], is_live);

    let (store, faults) = notes();
    let shop = open(store, &faults);
    write_notes(&shop).await;
    second_version(&shop.plugin("notes"));
    shop.until("notes", |report| report["version"] == "2.0.0" && report["problem"].is_null());
    let history = shop.folder().join("plugins/.versions/notes/history.json");
    until(|| fs::read_to_string(&history).is_ok_and(|history| history.contains("2.0.0"))).await;
    let store = shop.close().folder;
    let is_first = |store: TempDir| Shop::serve(store).until("notes", |report| report["version"] == "1.0.0" && report["problem"].is_null());
    command_is_repeated(&store, "plugins/", &["plugin", "promote", "notes", "1.0.0"], is_first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_made_and_restored_wherever_that_ends() {
    let made = store();
    let from = made.path().join("from");
    let exported = |store: &TempDir| souk_says(&["store", "export", "--store", store.path().join("store").to_str().unwrap()]);
    let products = exported(&made);
    assert!(products.0, "{}", products.1);
    let backup = made.path().join("backup");
    let (taken, said) = souk_says(&["store", "backup", backup.to_str().unwrap(), "--store", made.path().join("store").to_str().unwrap()]);
    assert!(taken, "{said}");
    let empty = tempfile::tempdir().unwrap();
    fs::create_dir(empty.path().join("store")).unwrap();
    let opens = |store: TempDir| {
        assert!(exported(&store) == products, "the same wares");
        Shop::serve(store);
    };
    command_is_repeated(&empty, "", &["store", "restore", backup.to_str().unwrap()], opens);

    let unmade = tempfile::tempdir().unwrap();
    copy(&made.path().join("store/plugins"), &unmade.path().join("store/plugins"));
    copy(&made.path().join("store/cache"), &unmade.path().join("store/cache"));
    let _ = fs::remove_dir_all(unmade.path().join("store/plugins/.versions"));
    command_is_repeated(&unmade, "", &["store", "init", "--from", from.to_str().unwrap()], opens);
}
