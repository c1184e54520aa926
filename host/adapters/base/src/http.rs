//! `wasi:http/types`: requests, responses and their bodies.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::Base;
use crate::exports::wasi::http::types::{
    self, Duration, ErrorCode, Fields, FutureTrailers, IncomingBody, IoErrorBorrow, Method, OutgoingBody, OutgoingResponse, Pollable, ResponseOutparam,
    Scheme, StatusCode,
};
use crate::exports::wasi::io::streams::{InputStream, OutputStream};
use crate::fetch::Exchange;
use crate::fields::{Entries, Headers};
use crate::io::{Awaited, Buffer, Input, Output};

impl types::Guest for Base {
    type Fields = Headers;
    type IncomingRequest = Incoming;
    type OutgoingRequest = Request;
    type RequestOptions = Options;
    type ResponseOutparam = Answer;
    type IncomingResponse = Arrived;
    type IncomingBody = Arriving;
    type FutureTrailers = Trailers;
    type OutgoingResponse = Response;
    type OutgoingBody = Writing;
    type FutureIncomingResponse = Rc<Exchange>;

    fn http_error_code(error: IoErrorBorrow<'_>) -> Option<ErrorCode> {
        match *error.get::<crate::io::Never>() {}
    }
}

/// The request that the plugin answers.
pub struct Incoming {
    pub method: Method,
    pub path_with_query: String,
    pub scheme: Scheme,
    pub authority: String,
    pub headers: Entries,
    pub body: Arrival,
}

impl types::GuestIncomingRequest for Incoming {
    fn method(&self) -> Method {
        self.method.clone()
    }

    fn path_with_query(&self) -> Option<String> {
        Some(self.path_with_query.clone())
    }

    fn scheme(&self) -> Option<Scheme> {
        Some(self.scheme.clone())
    }

    fn authority(&self) -> Option<String> {
        Some(self.authority.clone())
    }

    fn headers(&self) -> Fields {
        Fields::new(Headers::frozen(self.headers.clone()))
    }

    fn consume(&self) -> Result<IncomingBody, ()> {
        self.body.consume()
    }
}

/// The answer to a request of the plugin.
pub struct Arrived {
    pub status: StatusCode,
    pub headers: Entries,
    pub body: Arrival,
}

impl types::GuestIncomingResponse for Arrived {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn headers(&self) -> Fields {
        Fields::new(Headers::frozen(self.headers.clone()))
    }

    fn consume(&self) -> Result<IncomingBody, ()> {
        self.body.consume()
    }
}

/// A body that came, until somebody takes it.
pub struct Arrival(RefCell<Option<Vec<u8>>>);

impl Arrival {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(RefCell::new(Some(bytes)))
    }

    fn consume(&self) -> Result<IncomingBody, ()> {
        self.0.take().map(|bytes| IncomingBody::new(Arriving(Self::new(bytes)))).ok_or(())
    }
}

pub struct Arriving(Arrival);

impl types::GuestIncomingBody for Arriving {
    fn stream(&self) -> Result<InputStream, ()> {
        self.0.0.take().map(|bytes| InputStream::new(Input::new(bytes))).ok_or(())
    }

    fn finish(_: IncomingBody) -> FutureTrailers {
        FutureTrailers::new(Trailers::default())
    }
}

/// There are none.
#[derive(Default)]
pub struct Trailers {
    told: Cell<bool>,
}

impl types::GuestFutureTrailers for Trailers {
    fn subscribe(&self) -> Pollable {
        Pollable::new(Awaited::Now)
    }

    fn get(&self) -> Option<Result<Result<Option<Fields>, ErrorCode>, ()>> {
        Some(if self.told.replace(true) { Err(()) } else { Ok(Ok(None)) })
    }
}

#[derive(Default, Clone, Copy, PartialEq)]
pub enum Progress {
    #[default]
    Untouched,
    Begun,
    Whole,
    /// Dropped before its end, or not as long as was announced.
    Broken,
}

/// A body that the plugin writes.
#[derive(Default)]
pub struct Body {
    buffer: Rc<Buffer>,
    progress: Cell<Progress>,
    /// By `content-length`, which the host writes itself.
    announced: Option<u64>,
    of_request: bool,
    /// Is sent once the body is whole.
    pub sender: RefCell<Option<Rc<Exchange>>>,
}

impl Body {
    fn announced_in(headers: &mut Entries, of_request: bool) -> Rc<Self> {
        let mut announced = None;
        headers.retain(|(name, value)| {
            let is_length = name == "content-length";
            if is_length {
                announced = std::str::from_utf8(value).ok().and_then(|length| length.parse().ok());
            }
            !is_length
        });
        Rc::new(Self { announced, of_request, ..Self::default() })
    }

    pub fn progress(&self) -> Progress {
        self.progress.get()
    }

    pub fn take_bytes(&self) -> Vec<u8> {
        self.buffer.bytes.take()
    }

    fn begin(self: &Rc<Self>) -> Result<OutgoingBody, ()> {
        match self.progress.replace(Progress::Begun) {
            Progress::Untouched => Ok(OutgoingBody::new(Writing { body: self.clone(), given: Cell::default() })),
            other => {
                self.progress.set(other);
                Err(())
            }
        }
    }

    fn end(&self, progress: Progress) {
        self.progress.set(progress);
        self.buffer.closed.set(true);
        if let Some(sender) = self.sender.take() {
            sender.go_on();
        }
    }
}

pub struct Writing {
    body: Rc<Body>,
    given: Cell<bool>,
}

impl types::GuestOutgoingBody for Writing {
    fn write(&self) -> Result<OutputStream, ()> {
        if self.given.replace(true) { Err(()) } else { Ok(OutputStream::new(Output::Buffer(self.body.buffer.clone()))) }
    }

    /// Trailers are not sent.
    fn finish(this: OutgoingBody, _: Option<Fields>) -> Result<(), ErrorCode> {
        let Self { body, .. } = &this.into_inner::<Self>();
        let written = body.buffer.bytes.borrow().len() as u64;
        if body.announced.is_some_and(|announced| announced != written) {
            body.end(Progress::Broken);
            return Err(if body.of_request { ErrorCode::HttpRequestBodySize(Some(written)) } else { ErrorCode::HttpResponseBodySize(Some(written)) });
        }
        body.end(Progress::Whole);
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.body.progress() == Progress::Begun {
            self.body.end(Progress::Broken);
        }
    }
}

/// A request of the plugin.
pub struct Request {
    pub method: RefCell<Method>,
    pub path_with_query: RefCell<Option<String>>,
    pub scheme: RefCell<Option<Scheme>>,
    pub authority: RefCell<Option<String>>,
    pub headers: Entries,
    pub body: Rc<Body>,
}

impl types::GuestOutgoingRequest for Request {
    fn new(headers: Fields) -> Self {
        let mut headers = headers.into_inner::<Headers>().into_entries();
        let body = Body::announced_in(&mut headers, true);
        Self { method: RefCell::new(Method::Get), path_with_query: RefCell::default(), scheme: RefCell::default(), authority: RefCell::default(), headers, body }
    }

    fn body(&self) -> Result<OutgoingBody, ()> {
        self.body.begin()
    }

    fn method(&self) -> Method {
        self.method.borrow().clone()
    }

    fn set_method(&self, method: Method) -> Result<(), ()> {
        self.method.replace(method);
        Ok(())
    }

    fn path_with_query(&self) -> Option<String> {
        self.path_with_query.borrow().clone()
    }

    fn set_path_with_query(&self, path_with_query: Option<String>) -> Result<(), ()> {
        // What begins otherwise would go on with the host's name.
        if path_with_query.as_ref().is_some_and(|path| !path.is_empty() && !path.starts_with(['/', '?'])) {
            return Err(());
        }
        self.path_with_query.replace(path_with_query);
        Ok(())
    }

    fn scheme(&self) -> Option<Scheme> {
        self.scheme.borrow().clone()
    }

    fn set_scheme(&self, scheme: Option<Scheme>) -> Result<(), ()> {
        self.scheme.replace(scheme);
        Ok(())
    }

    fn authority(&self) -> Option<String> {
        self.authority.borrow().clone()
    }

    fn set_authority(&self, authority: Option<String>) -> Result<(), ()> {
        if authority.as_ref().is_some_and(|authority| authority.contains(['/', '?', '#', '@', '\\'])) {
            return Err(());
        }
        self.authority.replace(authority);
        Ok(())
    }

    fn headers(&self) -> Fields {
        Fields::new(Headers::frozen(self.headers.clone()))
    }
}

#[derive(Default)]
pub struct Options {
    pub connect: Cell<Option<Duration>>,
    pub first_byte: Cell<Option<Duration>>,
    between_bytes: Cell<Option<Duration>>,
}

impl types::GuestRequestOptions for Options {
    fn new() -> Self {
        Self::default()
    }

    fn connect_timeout(&self) -> Option<Duration> {
        self.connect.get()
    }

    fn set_connect_timeout(&self, duration: Option<Duration>) -> Result<(), ()> {
        self.connect.set(duration);
        Ok(())
    }

    fn first_byte_timeout(&self) -> Option<Duration> {
        self.first_byte.get()
    }

    fn set_first_byte_timeout(&self, duration: Option<Duration>) -> Result<(), ()> {
        self.first_byte.set(duration);
        Ok(())
    }

    fn between_bytes_timeout(&self) -> Option<Duration> {
        self.between_bytes.get()
    }

    fn set_between_bytes_timeout(&self, duration: Option<Duration>) -> Result<(), ()> {
        self.between_bytes.set(duration);
        Ok(())
    }
}

/// What the plugin answers.
pub struct Response {
    pub status: Cell<StatusCode>,
    pub headers: Entries,
    pub body: Rc<Body>,
}

impl types::GuestOutgoingResponse for Response {
    fn new(headers: Fields) -> Self {
        let mut headers = headers.into_inner::<Headers>().into_entries();
        let body = Body::announced_in(&mut headers, false);
        Self { status: Cell::new(200), headers, body }
    }

    fn status_code(&self) -> StatusCode {
        self.status.get()
    }

    fn set_status_code(&self, status: StatusCode) -> Result<(), ()> {
        if !(100..=999).contains(&status) {
            return Err(());
        }
        self.status.set(status);
        Ok(())
    }

    fn headers(&self) -> Fields {
        Fields::new(Headers::frozen(self.headers.clone()))
    }

    fn body(&self) -> Result<OutgoingBody, ()> {
        self.body.begin()
    }
}

/// Where the answer to one request is put.
#[derive(Default, Clone)]
pub struct Answer(pub Rc<RefCell<Option<Result<Response, ErrorCode>>>>);

impl types::GuestResponseOutparam for Answer {
    fn set(place: ResponseOutparam, answer: Result<OutgoingResponse, ErrorCode>) {
        let answer = answer.map(OutgoingResponse::into_inner::<Response>);
        place.into_inner::<Self>().0.replace(Some(answer));
    }
}
