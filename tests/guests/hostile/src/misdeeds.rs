//! What a plugin can try against its host. `tests/tests/hostile.rs` says what
//! must come of each. A misdeed that the host refuses politely answers with
//! what it was told; one that works answers `done`.

use std::hint::black_box;

use souk_sdk::{bindings, cache, clock, crypto, events, http, jobs, log, metrics, pages, random, search, session};

/// Not the SDK's own: it would check names before the host does.
use bindings::host::storage::{self, Range};

pub fn commit(misdeed: &str) -> String {
    match misdeed {
        "none" => "done".into(),
        "trap" => panic!("on purpose"),
        "abort" => std::process::abort(),
        "loop" => loop {
            black_box(0);
        },
        "loop-in-the-host" => loop {
            black_box(clock::now_ms());
        },
        "recursion" => deeper(1).to_string(),
        "memory-bomb" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "leak" => {
            std::mem::forget(black_box(vec![1_u8; 512 << 10]));
            "done".into()
        }
        "huge-answer" => "x".repeat(40 << 20),
        "huge-log-line" => {
            log::info!("{}", "x".repeat(20 << 20));
            "done".into()
        }
        "a-million-log-lines" => {
            (0..1_000_000).for_each(|line| log::info!("line {line}"));
            "done".into()
        }
        "a-million-events" => told((0..1_000_000).try_for_each(|n: u32| events::publish("hostile.noise", &n.to_string(), b"{}"))),
        "an-event-of-another" => told(events::publish("order.placed", "1", b"{}")),
        "storage-flood" => told((0..1_000_000).try_for_each(|n: u32| storage::put("flood", &n.to_string(), &[0; 1_000]))),
        "storage-volume" => told((0..10_000).try_for_each(|n: u32| storage::put("flood", &n.to_string(), &vec![0; 256 << 10]))),
        // As much as one unit may, and no document is read.
        "write-and-delete" => told((0..4_900).try_for_each(|n: u32| {
            storage::put("flood", &n.to_string(), &[0; 100])?;
            storage::delete("ebb", &n.to_string())
        })),
        "huge-key" => told(storage::put("flood", &"k".repeat(1 << 20), b"{}")),
        "huge-document" => told(storage::put("flood", "k", &vec![b' '; 1 << 20])),
        "scan-without-end" => loop {
            if let Err(error) = storage::scan("flood", &Range { start: None, end: None }, u32::MAX, false) {
                return format!("{error:?}");
            }
        },
        // Each would be a way into the documents of the catalogue.
        "leave-the-namespace" => {
            let collections = ["../catalog", "catalog/products", "catalog\0products", "/catalog", "catalog:products", "", "CATALOG"];
            let keys = ["\0", "a\0b", ""];
            let by_collection = collections.iter().filter(|collection| storage::put(collection, "longjing-green-tea", b"{}").is_ok());
            let by_key = keys.iter().filter(|key| storage::put("products", key, b"{}").is_ok());
            format!("{} got through", by_collection.count() + by_key.count())
        }
        "read-the-catalogue" => {
            let everything = Range { start: None, end: None };
            let found = storage::scan("products", &everything, 1_000, false).map_or(0, |entries| entries.len());
            format!("{found} documents of others")
        }
        "fetch-what-is-not-granted" => {
            let urls = [
                "https://evil.example/",
                "http://allowed.example/",
                "https://allowed.example:444/",
                "https://allowed.example@evil.example/",
                "https://user:password@allowed.example/",
                "https://127.0.0.1/",
                "https://2130706433/",
                "https://0x7f.1/",
                "https://[::1]/",
                "https://[::ffff:127.0.0.1]/",
                "http://localhost:1/",
                "http://169.254.169.254/latest/meta-data/",
                "http://shop.internal/",
                "file:///etc/passwd",
                "gopher://allowed.example/",
            ];
            let reached = urls.iter().filter(|url| fetch(url, Vec::new(), 500).is_ok()).count();
            format!("{reached} got through")
        }
        // Half of a provider's 200 ms are 100.
        "wait-for-99-ms" => told(fetch("http://granted.example/", Vec::new(), 99).map(drop)),
        "wait-for-4-ms" => told(fetch("http://granted.example/", Vec::new(), 4).map(drop)),
        fetch if fetch.starts_with("http://") => match self::fetch(fetch, Vec::new(), 3_600_000) {
            Ok(response) => format!("{} {}", response.status, String::from_utf8_lossy(&response.body)),
            Err(error) => format!("refused: {error:?}"),
        },
        "inject-into-a-request" => {
            let headers = [("x", "a\r\nhost: evil.example"), ("x\r\ny", "a"), ("host", "evil.example"), ("transfer-encoding", "chunked")];
            let sent = headers.iter().filter(|(name, value)| fetch("https://allowed.example/", vec![((*name).into(), (*value).into())], 500).is_ok());
            format!("{} got through", sent.count())
        }
        "too-much-randomness" => (0..100_000).map(|_| random::bytes(1 << 20).len()).sum::<usize>().to_string(),
        // Hashes that name their own price.
        price if price.starts_with("m=") => {
            let hash = format!("$argon2id$v=19${price}$c29tZXNhbHRzb21lc2FsdA$gWVpqoxMqkvU7Q5VpPuxfY3DLMUkZXpUNEDiYkNf7rY");
            told(crypto::verify_password("password", &hash).map(drop))
        }
        "passwords-without-end" => loop {
            black_box(crypto::hash_password("password").is_ok());
        },
        "a-hash-of-megabytes" => told(crypto::verify_password("password", &"$argon2id$".repeat(700_000)).map(drop)),
        "digests-without-end" => loop {
            black_box(crypto::digest(&vec![0; 7 << 20]));
        },
        "seals-without-end" => loop {
            black_box(crypto::seal("key", &[], &vec![0; 7 << 20]).is_ok());
        },
        "a-million-keys-to-wait-for" => (0..u32::MAX).map(|n| cache::get(&n.to_string()).map_or(0, |value| value.len())).sum::<usize>().to_string(),
        "keys-of-megabytes" => loop {
            black_box(cache::get(&"k".repeat(7 << 20)));
        },
        "cache-flood" => loop {
            cache::put(&random::token(16), &vec![0; 1 << 20], u32::MAX);
        },
        "methods-of-megabytes" => loop {
            black_box(bindings::host::http_client::fetch(&http::Request {
                method: "X".repeat(7 << 20),
                url: "https://allowed.example/".into(),
                headers: Vec::new(),
                body: Vec::new(),
                timeout_ms: 1,
            }))
            .ok();
        },
        "fetches-without-end" => loop {
            if let Err(http::Error::Quota(reason)) = fetch("http://localhost:1/", Vec::new(), 1) {
                return format!("refused: {reason}");
            }
        },
        "fill-for-a-scan" => told((0..120).try_for_each(|n: u32| storage::put("heap", &format!("{n:04}"), &vec![0; 256 << 10]))),
        "scan-it-at-once" => told(storage::scan("heap", &Range { start: None, end: None }, 1_000, false).map(drop)),
        "get-it-at-once" => told(storage::get_many("heap", &(0..120).map(|n| format!("{n:04}")).collect::<Vec<_>>()).map(drop)),
        "a-million-fields-of-a-line" => {
            bindings::host::log::write(bindings::host::log::Level::Info, "", &vec![(String::new(), String::new()); 100_000]);
            "done".into()
        }
        "metrics-flood" => {
            for n in 0..u32::MAX {
                metrics::count(&format!("name_{n}"), &[("label".into(), n.to_string())], 1);
            }
            "done".into()
        }
        "tags-of-megabytes" => {
            pages::invalidate(&vec!["t".repeat(1 << 20); 7]);
            "done".into()
        }
        "jobs-at-the-end-of-time" => told((0..10_000).try_for_each(|n: u32| jobs::schedule_json("never", &n.to_string(), u64::MAX, &()))),
        "fill-for-a-search" => {
            let text: String = (0..4_000).map(|word| format!("w{word} ")).collect();
            let field = |name: &str, value| search::Field { name: name.into(), value };
            let many = |n: u32| search::Value::Many((0..120).map(|value| format!("{n}-{value}")).collect());
            told((0..200).try_for_each(|n: u32| search::put("noise", &n.to_string(), &[field("text", search::Value::Text(text.clone())), field("keys", many(n))])))
        }
        "search-in-a-million-fields" => told(search(|query| query.fields = vec!["text".into(); 100_000])),
        "highlight-a-million-times" => told(search(|query| query.highlight = vec!["text".into(); 100_000])),
        "search-for-everything" => loop {
            let found = search(|query| {
                query.text = (0..60).map(|n| format!("w{} ", n % 10)).collect();
                query.typo_tolerance = true;
                query.facets = vec!["keys".into(); 16];
                query.highlight = vec!["text".into(); 32];
                query.limit = 200;
            });
            if found.is_err() {
                return told(found);
            }
        },
        "session-flood" => told((0..100_000).try_for_each(|n: u32| session::set(&n.to_string(), &"x".repeat(1_000)))),
        other => format!("no misdeed `{other}`"),
    }
}

fn search(ask: impl FnOnce(&mut search::SearchQuery)) -> Result<(), search::Error> {
    let mut query = search::SearchQuery {
        text: "w1".into(),
        fields: Vec::new(),
        filters: Vec::new(),
        sort: search::Sort::Relevance,
        offset: 0,
        limit: 10,
        facets: Vec::new(),
        highlight: Vec::new(),
        typo_tolerance: false,
    };
    ask(&mut query);
    search::query("noise", &query).map(drop)
}

fn told<E: std::fmt::Debug>(done: Result<(), E>) -> String {
    match done {
        Ok(()) => "done".into(),
        Err(error) => format!("refused: {error:?}"),
    }
}

#[expect(unconditional_recursion, reason = "it is the misdeed")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    deeper(depth + 1) + frame[31]
}

fn fetch(url: &str, headers: Vec<(String, String)>, timeout_ms: u32) -> Result<http::Response, http::Error> {
    http::fetch(&http::Request { method: "GET".into(), url: url.into(), headers, body: Vec::new(), timeout_ms })
}
