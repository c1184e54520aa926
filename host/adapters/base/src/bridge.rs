//! Between `souk:web` and `wasi:http`: a request in, its answer out.

use std::cell::RefCell;
use std::process::abort;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::Base;
use crate::cli::{Lines, STDERR, STDOUT};
use crate::exports::souk::wasi::bridge::{Guest, IncomingRequest, Request, Response, ResponseOutparam};
use crate::exports::wasi::http::types::{Method, Scheme};
use crate::http::{Answer, Arrival, Incoming, Progress};
use crate::souk::host::config;
use crate::souk::host::log::{self, Level};

/// What a path holds as it is: RFC 3986, section 3.3.
const IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'!').remove(b'$').remove(b'&').remove(b'\'')
    .remove(b'(').remove(b')').remove(b'*').remove(b'+').remove(b',').remove(b';').remove(b'=').remove(b':').remove(b'@');

thread_local! {
    static CURRENT: RefCell<Answer> = RefCell::default();
}

impl Guest for Base {
    fn begin(request: Request) -> (IncomingRequest, ResponseOutparam) {
        let answer = Answer::default();
        CURRENT.set(answer.clone());
        (IncomingRequest::new(incoming(request)), ResponseOutparam::new(answer))
    }

    fn finish() -> Response {
        STDOUT.with(Lines::end);
        STDERR.with(Lines::end);
        let response = match CURRENT.take().0.take() {
            None => fail("the handler returned without an answer"),
            Some(Err(code)) => fail(&format!("the handler answered with an error: {code:?}")),
            Some(Ok(response)) => response,
        };
        if matches!(response.body.progress(), Progress::Begun | Progress::Broken) {
            fail("the answer's body was not finished, or has another length than its `content-length`");
        }
        Response {
            status: response.status.get(),
            headers: response.headers.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect(),
            body: response.body.take_bytes(),
            cache: None,
            await_effects: false,
        }
    }
}

/// The call fails, and its unit rolls back.
fn fail(reason: &str) -> ! {
    log::write(Level::Error, &format!("wasi:http/incoming-handler: {reason}"), &[]);
    abort();
}

fn incoming(request: Request) -> Incoming {
    let mut path_with_query = format!("{}{}", request.locale_prefix, utf8_percent_encode(&request.path, IN_PATHS));
    if !request.query.is_empty() {
        path_with_query = format!("{path_with_query}?{}", request.query);
    }
    // The shop's own address: what a client says of it is shown to no plugin.
    let base_url = config::shop().base_url;
    let (scheme, authority) = base_url.split_once("://").unwrap_or(("https", &base_url));
    Incoming {
        method: method(request.method),
        path_with_query,
        scheme: if scheme == "http" { Scheme::Http } else { Scheme::Https },
        authority: authority.split('/').next().unwrap_or(authority).to_owned(),
        headers: request.headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
        body: Arrival::new(request.body),
    }
}

fn method(method: String) -> Method {
    match method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        _ => Method::Other(method),
    }
}
