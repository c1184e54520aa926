//! `wasi:http/outgoing-handler`: requests to hosts that the operator granted.
//!
//! A request is sent when it was handed over and its body is whole, whichever
//! comes last; its answer is there when that call returns.

use std::cell::RefCell;
use std::rc::Rc;

use crate::Base;
use crate::exports::wasi::http::outgoing_handler::Guest;
use crate::exports::wasi::http::types::{
    ErrorCode, FutureIncomingResponse, GuestFutureIncomingResponse, IncomingResponse, Method, OutgoingRequest, Pollable, RequestOptions, Scheme,
};
use crate::http::{Arrival, Arrived, Body, Options, Progress, Request};
use crate::io::Awaited;
use crate::souk::host::http_client::{self, Error};
use crate::souk::host::log::{self, Level};

/// A longer one is no more than this to the host.
const TIMEOUT_MS_MAX: u64 = 30_000;

pub struct Exchange(RefCell<State>);

enum State {
    /// All but the body.
    Waiting(http_client::Request, Rc<Body>),
    Done(Result<Arrived, ErrorCode>),
    Told,
}

impl Exchange {
    pub fn is_done(&self) -> bool {
        !matches!(*self.0.borrow(), State::Waiting(..))
    }

    /// Sends the request if its body is whole.
    pub fn go_on(&self) {
        let state = self.0.replace(State::Told);
        let next = match state {
            State::Waiting(request, body) if body.progress() == Progress::Begun => State::Waiting(request, body),
            State::Waiting(_, body) if body.progress() == Progress::Broken => State::Done(Err(broken())),
            State::Waiting(request, body) => State::Done(fetch(http_client::Request { body: body.take_bytes(), ..request })),
            other => other,
        };
        self.0.replace(next);
    }

    /// The answer is waited for, and the body will not be written any more.
    pub fn give_up(&self) {
        if !self.is_done() {
            self.0.replace(State::Done(Err(broken())));
        }
    }
}

fn broken() -> ErrorCode {
    ErrorCode::InternalError(Some("the request's body was not finished".into()))
}

fn fetch(request: http_client::Request) -> Result<Arrived, ErrorCode> {
    http_client::fetch(&request).map_err(|error| failed(&request.url, error)).map(|response| Arrived {
        status: response.status,
        headers: response.headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
        body: Arrival::new(response.body),
    })
}

/// Error codes of WASI have no words for what an operator can do: the log has.
fn failed(url: &str, error: Error) -> ErrorCode {
    let (code, reason) = match error {
        Error::Invalid(reason) => (ErrorCode::InternalError(Some(reason.clone())), reason),
        Error::NotGranted(reason) => (ErrorCode::HttpRequestDenied, reason),
        Error::AfterWrite => (ErrorCode::HttpRequestDenied, "the unit has written already: fetch first, or ask for an effect".into()),
        Error::Timeout => (ErrorCode::HttpResponseTimeout, "no answer in time".into()),
        Error::TooLarge => (ErrorCode::HttpResponseBodySize(None), "the answer is too large".into()),
        Error::Failed(reason) => (ErrorCode::InternalError(Some(reason.clone())), reason),
        Error::Quota(reason) => (ErrorCode::ConnectionLimitReached, reason),
    };
    // Queries may hold what is secret.
    let url = url.split('?').next().unwrap_or(url);
    log::write(Level::Warn, &format!("fetch of {url}: {reason}"), &[]);
    code
}

impl Guest for Base {
    fn handle(request: OutgoingRequest, options: Option<RequestOptions>) -> Result<FutureIncomingResponse, ErrorCode> {
        let request = request.into_inner::<Request>();
        let authority = request.authority.into_inner().ok_or(ErrorCode::HttpRequestUriInvalid)?;
        let scheme = match request.scheme.into_inner() {
            None | Some(Scheme::Https) => "https".to_owned(),
            Some(Scheme::Http) => "http".to_owned(),
            Some(Scheme::Other(scheme)) => scheme,
        };
        let path_with_query = request.path_with_query.into_inner().unwrap_or_else(|| "/".into());
        let headers = request.headers.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()));
        let to_send = http_client::Request {
            method: method(request.method.into_inner()),
            url: format!("{scheme}://{authority}{path_with_query}"),
            headers: headers.collect(),
            body: Vec::new(),
            timeout_ms: options.map_or(0, |options| timeout_ms(options.get())),
        };
        let body = request.body;
        let exchange = Rc::new(Exchange(RefCell::new(State::Waiting(to_send, body.clone()))));
        exchange.go_on();
        if !exchange.is_done() {
            body.sender.replace(Some(exchange.clone()));
        }
        Ok(FutureIncomingResponse::new(exchange))
    }
}

/// The host has one time-out for all of an exchange.
fn timeout_ms(options: &Options) -> u32 {
    let given = [options.connect.get(), options.first_byte.get()];
    let sum_ns = given.into_iter().flatten().fold(0, u64::saturating_add);
    sum_ns.div_ceil(1_000_000).min(TIMEOUT_MS_MAX) as u32
}

fn method(method: Method) -> String {
    match method {
        Method::Get => "GET".into(),
        Method::Head => "HEAD".into(),
        Method::Post => "POST".into(),
        Method::Put => "PUT".into(),
        Method::Delete => "DELETE".into(),
        Method::Connect => "CONNECT".into(),
        Method::Options => "OPTIONS".into(),
        Method::Trace => "TRACE".into(),
        Method::Patch => "PATCH".into(),
        Method::Other(method) => method,
    }
}

impl GuestFutureIncomingResponse for Rc<Exchange> {
    fn subscribe(&self) -> Pollable {
        Pollable::new(Awaited::Answer(self.clone()))
    }

    fn get(&self) -> Option<Result<Result<IncomingResponse, ErrorCode>, ()>> {
        if !self.is_done() {
            return None;
        }
        Some(match self.0.replace(State::Told) {
            State::Done(answer) => Ok(answer.map(IncomingResponse::new)),
            _ => Err(()),
        })
    }
}
