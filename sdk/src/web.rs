//! Answering HTTP.

pub use crate::bindings::web::handler::Guest;
pub use crate::bindings::web::types::{CachePolicy, Request, Response};
pub use crate::bindings::web::{handler, types};

/// 200 with a page.
pub fn html(body: impl Into<String>) -> Response {
    respond(200, "text/html; charset=utf-8", body.into().into_bytes())
}

fn respond(status: u16, content_type: &str, body: Vec<u8>) -> Response {
    Response {
        status,
        headers: vec![("content-type".into(), content_type.into())],
        body,
        cache: None,
        await_effects: false,
    }
}
