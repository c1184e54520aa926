//! A plugin of the first days, which nobody has touched since: built with
//! `wit-bindgen` alone, against the contracts as they were published. It must run
//! in every Souk that says it keeps them.
//!
//! `GET /veteran/visit` counts visits and tells of each; `/veteran/told` and
//! `/veteran/orders` answer how many events have come back. It gives a discount
//! with the code VETERAN. `/veteran/secrets` shows what nobody can foresee.

wit_bindgen::generate!({
    path: [
        "../../../sdk/build/tests/published/0.1.0/commerce",
        "../../../sdk/build/tests/published/0.1.0/host",
        "../../../sdk/build/tests/published/0.1.0/web",
        "../../../sdk/build/tests/published/0.1.0/extend",
    ],
    inline: "
        package test:veteran@1.0.0;

        world veteran {
            import souk:host/storage@0.1.0;
            import souk:host/events@0.1.0;
            import souk:host/config@0.1.0;
            import souk:host/crypto@0.1.0;
            import souk:host/random@0.1.0;
            export souk:web/handler@0.1.0;
            export souk:host/event-handler@0.1.0;
            export souk:extend/discount@0.1.0;
        }
    ",
    generate_all,
});

use exports::souk::extend::discount::{self, Answer, Cart, Effect, Failure, Portion, Proposal, Stacking};
use exports::souk::host::event_handler::{self, Event};
use exports::souk::web::handler::{self, Request, Response};
use souk::host::{config, crypto, events, random, storage};

const CODE: &str = "VETERAN";

struct Veteran;

impl handler::Guest for Veteran {
    fn handle(request: Request) -> Response {
        let what = request.params.first().map_or("", |(_, what)| what.as_str());
        let text = match what {
            "visit" => visit(&request.path).map(|visits| visits.to_string()),
            "secrets" => secrets(),
            "told" | "orders" => storage::counter_get("events", what).map(|count| count.to_string()).map_err(|error| format!("{error:?}")),
            _ => return answer(404, String::new()),
        };
        match text {
            Ok(text) => answer(200, text),
            Err(error) => answer(500, error),
        }
    }
}

fn visit(path: &str) -> Result<i64, String> {
    let visits = storage::counter_add("visits", path, 1, Some(0)).map_err(|error| format!("{error:?}"))?;
    storage::put("last", path, visits.to_string().as_bytes()).map_err(|error| format!("{error:?}"))?;
    events::publish("veteran.visited", path, b"{}").map_err(|error| format!("{error:?}"))?;
    Ok(visits)
}

fn secrets() -> Result<String, String> {
    let sealed = crypto::seal("key", b"context", b"data").map_err(|error| format!("{error:?}"))?;
    let hash = crypto::hash_password("password").map_err(|error| format!("{error:?}"))?;
    Ok(format!("{sealed:?} {hash} {}", random::token(20)))
}

fn answer(status: u16, body: String) -> Response {
    Response { status, headers: vec![("content-type".into(), "text/plain".into())], body: body.into_bytes(), cache: None, await_effects: false }
}

impl event_handler::Guest for Veteran {
    fn handle(event: Event) -> Result<(), String> {
        let counter = if event.topic == "order.placed" { "orders" } else { "told" };
        storage::counter_add("events", counter, 1, None).map(drop).map_err(|error| format!("{error:?}"))
    }
}

impl discount::Guest for Veteran {
    fn propose(cart: Cart) -> Result<Vec<Answer>, Failure> {
        if !cart.codes.iter().any(|code| code == CODE) {
            return Ok(Vec::new());
        }
        let percent: u32 = config::get("percent").and_then(|percent| percent.parse().ok()).unwrap_or_default();
        let portions = cart.lines.iter().map(|line| Portion { line_id: line.id.clone(), quantity: line.quantity });
        Ok(vec![Answer::Propose(Proposal {
            provider: String::new(),
            id: CODE.into(),
            title: "For old times' sake".into(),
            code: Some(CODE.into()),
            effect: Effect::Percent((percent * 10_000, portions.collect())),
            stacking: Stacking::Combines,
            limit: None,
        })])
    }
}

export!(Veteran);
