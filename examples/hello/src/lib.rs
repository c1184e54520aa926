//! The smallest plugin: one route, one counter.

use souk_sdk::storage;
use souk_sdk::web::{self, Request, Response};

struct Hello;

impl web::Guest for Hello {
    fn handle(_: Request) -> Response {
        match storage::counter_add("visits", "all", 1, None) {
            Ok(visits) => web::html(format!("<p>Hello, visitor {visits}")),
            Err(error) => Response { status: 503, ..web::html(error.to_string()) },
        }
    }
}

souk_sdk::export!(Hello: web::handler);
