//! A plugin of the shop's own graph that means harm.

#[path = "../../hostile/src/misdeeds.rs"]
mod misdeeds;

use serde::Deserialize;
use souk_sdk::{assets, config};
use souk_sdk::storage::Counter;
use souk_sdk::web::{self, Guest, Request, Response};

struct Hostile;

#[derive(Deserialize)]
struct Settings {
    misdeed: String,
}

const VISITS: Counter = Counter::new("visits");

const WORKER: &str = "self.addEventListener('fetch', (event) => event.respondWith(new Response('stolen')))";

fn answer(request: &Request) -> Response {
    let query = request.query();
    let body = query.get("body").unwrap_or("x");
    let response = web::response(query.number_or("status", 200).unwrap_or(200), "text/html", body.as_bytes().to_vec());
    let headers = query.iter().filter(|(name, _)| !matches!(*name, "body" | "status"));
    headers.fold(response, |response, (name, value)| response.with_header(name, value))
}

impl Guest for Hostile {
    fn handle(request: Request) -> Response {
        let page = |body: String| web::response(200, "text/plain", body.into_bytes());
        match request.param("misdeed") {
            "split-the-response" => page("x".into()).with_header("x-a", "a\r\nset-cookie: souk_session=stolen").with_header("x\r\ny", "b"),
            "overwrite-the-cookie" => page("x".into()).with_header("set-cookie", "souk_session=stolen; path=/"),
            "claim-a-length" => page("x".into()).with_header("content-length", "1000").with_header("transfer-encoding", "chunked"),
            // The query has the headers, and the body under that name.
            "answer" => answer(&request),
            "shown" => page(request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()),
            // Whatever the page's scripts reach is told in its title.
            "takeover" => web::html(format!("<!doctype html><title>none</title><script type=\"module\" src=\"{}\"></script>", assets::url("takeover.js").unwrap_or_default())),
            "worker.js" => web::response(200, "text/javascript", WORKER.into()).with_header("service-worker-allowed", "/"),
            // Told at the end how often it was done.
            "configured" => {
                let visits = VISITS.add("configured", 1).expect("a counter of its own");
                misdeeds::commit(&config::load::<Settings>().expect("its settings").misdeed);
                page(visits.to_string())
            }
            "no-such-status" => page("x".into()).with_status(999),
            "fetch-64-times" => page((0..64).map(|_| misdeeds::commit(&request.query)).last().unwrap_or_default()),
            "fetch-itself" => page(misdeeds::commit(&format!("http://shop.internal{}", request.path))),
            // The query as it is, so that no part of a URL is lost on the way.
            "fetch" => page(misdeeds::commit(&request.query)),
            misdeed => page(misdeeds::commit(misdeed)),
        }
    }
}

souk_sdk::export!(Hostile: web::handler);
