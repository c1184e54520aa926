//! Plugins that mean harm, in a shop that goes on selling. What they try is in
//! `tests/guests/hostile`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use souk_tests::api::{Api, INSTANT};
use souk_tests::network::silence;
use souk_tests::shoppers::Shoppers;
use souk_tests::{Shop, client, install, install_guest, install_neighbour, replace, store};

fn take_out(shop: &Shop) {
    fs::rename(shop.plugin("hostile"), shop.folder().join("taken-out")).unwrap();
    fs::remove_dir_all(shop.folder().join("taken-out")).unwrap();
    shop.until_gone("hostile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_means_harm_is_left_out_and_the_shop_sells() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, price) = api.buyable(3).await;
    let shoppers = Shoppers::enter(&shop).await;
    for misdeed in [
        "trap",
        "abort",
        "loop",
        "loop-in-the-host",
        "recursion",
        "memory-bomb",
        "huge-answer",
        "huge-log-line",
        "a-million-log-lines",
        "storage-flood",
        "scan-without-end",
        "too-much-randomness",
        "fetch-what-is-not-granted",
        "forge-an-identity",
        "more-than-everything",
        "html-in-a-title",
    ] {
        shop.misbehave("1.0.0", misdeed);
        let (cart, filled) = api.cart(&sku, 1).await.unwrap();
        let discount = filled["totals"]["discount"]["amount"].as_i64().unwrap();
        assert!((0..=price).contains(&discount), "{misdeed}: {filled}");
        assert!(filled["rejected"].as_array().unwrap().iter().all(|rejected| rejected["code"] != "FORGED"), "{misdeed}: {filled}");
        let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
        assert_eq!(status, 201, "{misdeed}: {placed}");
        let page = client().get(format!("{}/en/orders/{}", shop.url, placed["token"].as_str().unwrap())).send().await.unwrap().text().await.unwrap();
        assert!(!page.contains("<script>alert"), "{misdeed}");
        take_out(&shop);
    }
    shoppers.leave().await;
}

/// Carts are priced until the shop has had enough of the provider; then it is left
/// out, and the operator sees why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_takes_too_much_again_and_again_is_switched_off() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    let shoppers = Shoppers::enter(&shop).await;
    for (misdeed, why) in [("spin-most-of-the-deadline", &["deadline", "share", "latency budget"][..]), ("ten-thousand-proposals", &["failures"])] {
        shop.misbehave("1.0.0", misdeed);
        shop.until_optimised("hostile");
        let mut carts = 0;
        while shop.report("hostile")["switched_off"].as_array().unwrap().is_empty() {
            carts += 1;
            assert!(carts < 100, "{misdeed}: {}", shop.report("hostile"));
            api.cart(&sku, 1).await.unwrap();
        }
        let asked = shop.report("hostile")["calls"].as_u64().unwrap();
        let (cart, _) = api.cart(&sku, 1).await.unwrap();
        let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
        assert_eq!(status, 201, "{misdeed}: {placed}");
        let report = shop.report("hostile");
        // But by those who were past the breaker when it opened, one call each.
        assert!(report["calls"].as_u64().unwrap() <= asked + Shoppers::COUNT, "{misdeed}: it is asked no more: {report}");
        let (_, said) = shop.says(&["plugin", "list"]);
        assert!(why.iter().any(|why| said.lines().any(|line| line.contains("switched off") && line.contains(why))), "{misdeed}: {said}");
        take_out(&shop);
    }
    shoppers.leave().await;
}

/// For the operator, who is told whose fault it is and what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_keeps_shoppers_waiting_is_left_out_unless_the_operator_lets_it() {
    let store = store();
    let environment = silence(&store);
    // Nobody else gives discounts.
    for other in ["discount-bxgy", "discount-coupon"] {
        fs::remove_dir_all(store.path().join("store/plugins").join(other)).unwrap();
    }
    let shop = Shop::try_serve(store, environment.clone()).ok().unwrap();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    shop.misbehave("1.0.0", "wait-for-99-ms");
    let mut carts = 0;
    while shop.report("hostile")["switched_off"].as_array().unwrap().is_empty() {
        carts += 1;
        assert!(carts < 100, "{}", shop.report("hostile"));
        api.cart(&sku, 1).await.unwrap();
    }
    let asked = shop.report("hostile")["calls"].clone();
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
    assert_eq!(status, 201, "{placed}");
    assert_eq!(shop.report("hostile")["calls"], asked);
    let (_, said) = shop.says(&["plugin", "list"]);
    for words in ["souk:extend/discount, propose, for keeping its callers waiting", "Nobody else provides it", "`hostile` under [plugins.latency-ms]"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (well, said) = shop.says(&["status"]);
    assert!(!well && said.contains("`hostile` is switched off for souk:extend/discount, propose, for keeping its callers waiting") && said.contains("see `souk plugin list`"), "{said}");
    let closed = shop.close();
    assert!(closed.said.contains("the only provider of this point is left out for keeping its callers waiting"), "{}", closed.said);

    let settings = closed.folder.path().join("store/souk.toml");
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + "\n[plugins.latency-ms]\nhostile = 120\n").unwrap();
    let shop = Shop::serve_with(closed.folder, environment);
    let api = Api::of(&shop);
    let before = shop.report("hostile")["calls"].as_u64().unwrap();
    for _ in 0..20 {
        api.cart(&sku, 1).await.unwrap();
    }
    let report = shop.report("hostile");
    assert!(report["switched_off"].as_array().unwrap().is_empty() && report["calls"].as_u64().unwrap() >= before + 20, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposals_of_one_provider_do_not_hide_the_code_of_another() {
    let store = store();
    install(&store, "tea-time");
    let shop = Shop::serve(store);
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    // In order of names it answers first.
    shop.misbehave("1.0.0", "three-hundred-proposals");
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let coded = api.code(&cart, "TEATIME").await;
    assert!(coded["totals"]["discount"]["amount"].as_i64() > Some(0) && coded["rejected"].as_array().unwrap().is_empty(), "{coded}");
    let unknown = api.code(&cart, "NO-SUCH-CODE").await;
    assert!(unknown["rejected"][0]["reason"].as_str().unwrap().contains("too many"), "{unknown}");
    assert_eq!(shop.metric("souk_plugin_proposals_cut_total{plugin=\"promotions\",provider=\"hostile\"}").await % 200.0, 0.0);
}

/// Sixteen at a time, as long as this lives.
struct Crush(Vec<tokio::task::JoinHandle<()>>);

impl Crush {
    fn on(url: &str) -> Self {
        let client = client();
        let ask = |url: String| {
            let client = client.clone();
            tokio::spawn(async move {
                loop {
                    _ = client.get(&url).send().await;
                }
            })
        };
        Self((0..16).map(|_| ask(url.to_owned())).collect())
    }
}

impl Drop for Crush {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Whoever asks for a page of a plugin that has used its share is told that, and not that the shop is busy.
async fn until_told_of_its_share(url: &str) {
    for _ in 0..40 {
        let answer = client().get(url).send().await.unwrap();
        let (status, retry) = (answer.status(), answer.headers().contains_key("retry-after"));
        let body = answer.text().await.unwrap();
        if body.contains("\"over-share\"") {
            assert!(status == 503 && retry, "{status}: {body}");
            return;
        }
    }
    panic!("nobody was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_takes_all_it_can_get_is_held_to_its_share() {
    let store = store();
    install_neighbour(&store);
    let shop = Shop::serve(store);
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    let shoppers = Shoppers::enter(&shop).await;
    for (path, of) in [
        ("loop".to_owned(), "processor time"),
        ("write-and-delete".into(), "storage operations"),
        ("fetch-64-times?http://shop.internal/neighbour/loop".into(), "processor time"),
    ] {
        let crush = Crush::on(&format!("{}/neighbour/{path}", shop.url));
        shop.until("neighbour", |report| report["over_share"] == of);
        let listed = shop.says(&["plugin", "list"]).1;
        assert!(listed.contains("has used its share (20 %) of") && listed.contains("`neighbour` under [plugins.shares]"), "{listed}");
        for _ in 0..5 {
            let (cart, _) = api.cart(&sku, 1).await.unwrap();
            let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
            assert_eq!(status, 201, "{path}: {placed}");
        }
        if path == "loop" {
            until_told_of_its_share(&format!("{}/neighbour/loop", shop.url)).await;
        }
        drop(crush);
        let report = shop.report("neighbour");
        assert!(report["share"] == 20 && report["delayed_ms"].as_u64() > Some(0), "{path}: {report}");
        shop.until("neighbour", |report| report["over_share"].is_null());
    }
    // Whoever asks its own shop does it in its own name, and not without an end.
    let answer = client().get(format!("{}/neighbour/fetch-itself", shop.url)).send().await.unwrap();
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert!(status == 200 && body.starts_with("200 200 200 508"), "{status}: {body}");
    assert!(shop.metric("souk_plugin_share_delayed_ms_total{plugin=\"neighbour\"}").await > 0.0);
    assert_eq!(shop.report("storefront")["over_share"], serde_json::Value::Null);
    shoppers.leave().await;
}

/// Each would ask the other for ever, and take the places of all providers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_that_ask_each_other_are_not_asked_again() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    let shoppers = Shoppers::enter(&shop).await;
    shop.misbehave("1.0.0", "ask-for-discounts");
    souk_tests::hostile(&shop.plugin("twin"), "1.0.0", "ask-for-discounts");
    let manifest = shop.plugin("twin").join("plugin.toml");
    replace(&manifest, fs::read_to_string(&manifest).unwrap().replace("name = \"hostile\"", "name = \"twin\"").as_bytes());
    let (granted, said) = shop.says(&["plugin", "grant", "--yes", "twin"]);
    assert!(granted && said.contains("is live"), "{said}");
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (status, placed) = api.order(&cart, INSTANT).await.unwrap();
    assert_eq!(status, 201, "{placed}");
    for name in ["hostile", "twin"] {
        let report = shop.report(name);
        assert!(report["calls"].as_u64().unwrap() > 0 && report["failures"] == 0, "{report}");
    }
    shoppers.leave().await;
}

/// Threads that leave little of the processors to others.
struct Crowd {
    done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn of(number: usize) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let busy = |done: Arc<AtomicBool>| move || while !done.load(Relaxed) {};
        Self { threads: (0..number).map(|_| std::thread::spawn(busy(done.clone()))).collect(), done }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.done.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

#[tokio::test]
async fn prices_are_the_same_where_there_is_far_more_work_than_processors() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    shop.misbehave("1.0.0", "take-its-time");
    shop.until_optimised("hostile");
    let (_, quiet) = api.cart(&sku, 1).await.unwrap();
    assert!(quiet["totals"]["discount"]["amount"].as_i64() > Some(0), "{quiet}");
    let _crowd = Crowd::of(40 * std::thread::available_parallelism().unwrap().get());
    let (_, crowded) = api.cart(&sku, 1).await.unwrap();
    assert_eq!(crowded["totals"], quiet["totals"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_fails_in_its_first_minutes_goes_back_by_itself() {
    let shop = Shop::open();
    let shoppers = Shoppers::enter(&shop).await;
    shop.misbehave("1.0.0", "none");
    // Not waited for: it may have failed and gone before anyone looks.
    souk_tests::hostile(&shop.plugin("hostile"), "1.1.0", "behave-for-a-while");
    let (granted, said) = shop.says(&["plugin", "grant", "--yes", "hostile"]);
    assert!(granted, "{said}");
    // The earlier version is live a moment before it is written down why.
    shop.until("hostile", |report| report["version"] == "1.0.0" && report["taken_back"].is_string());
    let report = shop.report("hostile");
    assert!(report["taken_back"].as_str().unwrap().starts_with("1.1.0 was taken back for 1.0.0: it failed"), "{report}");
    let (_, versions) = shop.says(&["plugin", "versions", "hostile"]);
    assert!(versions.contains("taken back"), "{versions}");
    shoppers.leave().await;
}

/// Whatever an installer, an editor or an attacker does to the folder, what is
/// live is always a whole version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_never_rests_does_not_unsettle_the_shop() {
    const CHANGES: usize = 5_000;
    let shop = Shop::open();
    shop.misbehave("1.0.0", "none");
    let shoppers = Shoppers::enter(&shop).await;
    let folder = shop.plugin("hostile");
    let plugins = shop.folder().join("plugins");
    tokio::task::spawn_blocking(move || {
        let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap();
        let component = fs::read(folder.join("plugin.wasm")).unwrap();
        for change in 0..CHANGES {
            // Not by a rename: half of a file can be seen.
            match change % 4 {
                0 => fs::write(folder.join("plugin.toml"), &manifest[..change % manifest.len()]).unwrap(),
                1 => fs::write(folder.join("plugin.wasm"), &component[..change % component.len()]).unwrap(),
                2 => fs::write(plugins.join(format!("file-{}", change % 7)), b"not a plugin").unwrap(),
                _ => {
                    fs::write(folder.join("plugin.toml"), &manifest).unwrap();
                    fs::write(folder.join("plugin.wasm"), &component).unwrap();
                }
            }
        }
        // Links that lead out of the folder are neither followed as plugins nor as their parts.
        std::os::unix::fs::symlink("/", plugins.join("outside")).unwrap();
        fs::create_dir(plugins.join("linked")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", plugins.join("linked/plugin.toml")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", plugins.join("linked/plugin.wasm")).unwrap();
        replace(&folder.join("plugin.toml"), manifest.replace("1.0.0", "1.0.1").as_bytes());
        replace(&folder.join("plugin.wasm"), &component);
    })
    .await
    .unwrap();
    shop.until("hostile", |report| report["version"] == "1.0.1" && report["problem"].is_null());
    shop.until("linked", |report| report["problem"].as_str().is_some_and(|problem| problem.contains("not a plain file")));
    assert!(shop.find("outside").is_none());
    shoppers.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_means_harm_harms_only_its_own_request() {
    let store = store();
    install_guest(&store, "hostile-service");
    let shop = Shop::serve(store);
    let shoppers = Shoppers::enter(&shop).await;
    let client = client();
    for (misdeed, status, says) in [
        ("trap", 500, ""),
        ("abort", 500, ""),
        ("loop", 504, ""),
        ("loop-in-the-host", 504, ""),
        ("recursion", 500, ""),
        ("memory-bomb", 500, ""),
        ("huge-answer", 500, ""),
        ("huge-log-line", 500, ""),
        ("a-million-log-lines", 200, "done"),
        ("a-million-events", 200, "refused"),
        ("an-event-of-another", 200, "refused"),
        ("storage-flood", 200, "refused"),
        ("storage-volume", 200, "refused"),
        ("huge-key", 200, "refused"),
        ("huge-document", 200, "refused"),
        ("scan-without-end", 200, ""),
        ("leave-the-namespace", 200, "0 got through"),
        ("read-the-catalogue", 200, "0 documents"),
        ("fetch-what-is-not-granted", 200, "0 got through"),
        ("inject-into-a-request", 200, "0 got through"),
        ("too-much-randomness", 504, ""),
        ("session-flood", 200, "refused"),
        ("split-the-response", 200, "x"),
        ("overwrite-the-cookie", 200, "x"),
        ("claim-a-length", 200, "x"),
        ("no-such-status", 500, ""),
    ] {
        let answer = client.get(format!("{}/hostile/{misdeed}", shop.url)).send().await.unwrap();
        let (got, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.text().await.unwrap();
        // On a busy machine its time may be up before its memory.
        assert!(got == status || (status == 500 && got == 504), "{misdeed}: {got} {body}");
        assert!(body.contains(says), "{misdeed}: {body}");
        assert!(!headers.values().any(|value| value.to_str().unwrap_or_default().contains("stolen")), "{misdeed}: {headers:?}");
    }
    // The operator sees who did what, and what it cost.
    let report = shop.report("hostile-service");
    for (field, least) in
        [("deadlines", 3), ("traps", 3), ("cpu_ms", 100), ("storage_writes", 3_000), ("storage_bytes_written", 9_000_000)]
    {
        assert!(report[field].as_u64().unwrap() >= least, "{field}: {report}");
    }
    let (_, said) = shop.says(&["plugin", "top", "--every", "1", "--times", "1"]);
    assert!(said.contains("hostile-service") && said.contains("cpu %"), "{said}");
    shoppers.leave().await;
}

/// What a guest may cost the host in memory, all its calls together.
const DEAREST_MIB: f64 = 512.0;
/// Of each call at a time.
const AT_ONCE: usize = 3;

/// A guest chooses what one host call costs: each call at its dearest, while shoppers buy and the host says that it is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_host_call_at_its_dearest_leaves_the_shop_alive() {
    let store = store();
    install_guest(&store, "hostile-service");
    // What one call may cost is asked here, whatever the plugin may have over time.
    let path = store.path().join("store/souk.toml");
    fs::write(&path, fs::read_to_string(&path).unwrap() + "\n[plugins.shares]\nhostile-service = 100\n").unwrap();
    let shop = Shop::serve(store);
    let shoppers = Shoppers::enter(&shop).await;
    let before = shop.resident_mib();
    for (misdeed, statuses, says) in [
        ("m=8,t=4294967295,p=1", &[200_u16][..], "refused"),
        ("m=4294967295,t=1,p=1", &[200], "refused"),
        ("m=134217720,t=1,p=16777215", &[200], "refused"),
        ("a-hash-of-megabytes", &[200], "refused"),
        ("passwords-without-end", &[504], ""),
        ("digests-without-end", &[504], ""),
        ("seals-without-end", &[504], ""),
        ("a-million-keys-to-wait-for", &[504], ""),
        ("keys-of-megabytes", &[504], ""),
        ("cache-flood", &[504], ""),
        ("methods-of-megabytes", &[504], ""),
        ("fetches-without-end", &[200, 504], ""),
        ("fill-for-a-scan", &[200], "done"),
        ("scan-it-at-once", &[200], "bytes in one answer"),
        ("get-it-at-once", &[200], "bytes in one answer"),
        ("a-million-fields-of-a-line", &[200], "done"),
        ("metrics-flood", &[504], ""),
        ("tags-of-megabytes", &[200], "done"),
        ("jobs-at-the-end-of-time", &[200], "refused"),
        ("fill-for-a-search", &[200], "done"),
        ("search-in-a-million-fields", &[200], "at most 32"),
        ("highlight-a-million-times", &[200], "at most 32"),
        ("search-for-everything", &[200, 504], ""),
    ] {
        let asked: Vec<_> = (0..AT_ONCE).map(|_| tokio::spawn(client().get(format!("{}/hostile/{misdeed}", shop.url)).send())).collect();
        for address in [format!("{}/health", shop.url), format!("{}/ready", shop.ops)] {
            assert_eq!(client().get(&address).send().await.unwrap().status(), 200, "{misdeed}: {address}");
        }
        for answer in asked {
            let answer = answer.await.unwrap().unwrap();
            let status = answer.status().as_u16();
            let body = answer.text().await.unwrap();
            // One of several that write the same may have to give way, or has no time left on a busy machine.
            assert!(statuses.contains(&status) || [503, 504].contains(&status), "{misdeed}: {status} {body}");
            assert!(status != 200 || body.contains(says), "{misdeed}: {body}");
        }
        let grown = shop.resident_mib() - before;
        assert!(grown < DEAREST_MIB, "{misdeed}: {grown} MiB more than before");
    }
    let report = shop.report("hostile-service");
    assert!(report["cpu_ms"].as_u64().unwrap() > 100, "{report}");
    shoppers.leave().await;
}

#[test]
fn the_operator_sets_the_share_of_a_plugin() {
    let store = store();
    install_neighbour(&store);
    let path = store.path().join("store/souk.toml");
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{settings}\n[plugins.shares]\nneighbour = 0\n")).unwrap();
    let refused = Shop::try_serve(store, [] as [(&str, &str); 0]).err().unwrap();
    assert!(refused.said.contains("plugins.shares.neighbour is 0: give 1 to 100"), "{}", refused.said);
    let store = refused.folder;
    fs::write(store.path().join("store/souk.toml"), format!("{settings}\n[plugins.shares]\nneighbour = 50\n")).unwrap();
    let shop = Shop::serve(store);
    assert_eq!((&shop.report("neighbour")["share"], &shop.report("storefront")["share"]), (&50.into(), &100.into()));
}
