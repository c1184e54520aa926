//! Has the guest's `wasi:http/incoming-handler` answer requests of the shop.

wit_bindgen::generate!({
    world: "souk:wasi/http-in",
    path: ["../../../wit/host", "../../../wit/web", "../wit"],
    generate_all,
});

use exports::souk::web::handler::{Guest, Request, Response};
use souk::wasi::bridge;
use wasi::http::incoming_handler;

struct HttpIn;

impl Guest for HttpIn {
    fn handle(request: Request) -> Response {
        let (request, answer) = bridge::begin(&request);
        incoming_handler::handle(request, answer);
        bridge::finish()
    }
}

export!(HttpIn);
