//! What a plugin can try against its host. `tests/tests/hostile.rs` says what
//! must come of each. A misdeed that the host refuses politely answers with
//! what it was told; one that works answers `done`.

use std::hint::black_box;

use souk_sdk::{bindings, clock, events, http, log, random, session};

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
        "session-flood" => told((0..100_000).try_for_each(|n: u32| session::set(&n.to_string(), &"x".repeat(1_000)))),
        other => format!("no misdeed `{other}`"),
    }
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
