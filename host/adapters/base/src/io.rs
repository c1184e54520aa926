//! `wasi:io`: streams over buffers, and what can be waited for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::Base;
use crate::cli::Lines;
use crate::clocks;
use crate::exports::wasi::io::poll::{Pollable, PollableBorrow};
use crate::exports::wasi::io::streams::{InputStreamBorrow, StreamError};
use crate::exports::wasi::io::{error, poll, streams};
use crate::fetch::Exchange;

/// Written at once at most; a guest asks again after each.
const WRITE_BYTES_MAX: u64 = 1 << 20;

/// No stream fails: there is nothing to say of one.
pub enum Never {}

impl error::Guest for Base {
    type Error = Never;
}

impl error::GuestError for Never {
    fn to_debug_string(&self) -> String {
        match *self {}
    }
}

pub enum Awaited {
    /// Streams, trailers: they are in memory.
    Now,
    /// An instant of the monotonic clock.
    At(u64),
    Answer(Rc<Exchange>),
}

impl Awaited {
    fn is_ready(&self) -> bool {
        match self {
            Self::Now => true,
            Self::At(instant) => clocks::now() >= *instant,
            Self::Answer(exchange) => exchange.is_done(),
        }
    }
}

impl poll::Guest for Base {
    type Pollable = Awaited;

    fn poll(pollables: Vec<PollableBorrow<'_>>) -> Vec<u32> {
        let awaited: Vec<&Awaited> = pollables.iter().map(PollableBorrow::get).collect();
        wait(&awaited)
    }
}

impl poll::GuestPollable for Awaited {
    fn ready(&self) -> bool {
        self.is_ready()
    }

    fn block(&self) {
        wait(&[self]);
    }
}

/// Where nothing is ready, the clock goes on to the first instant that is waited
/// for: nobody is served sooner for a guest that holds its unit up.
fn wait(awaited: &[&Awaited]) -> Vec<u32> {
    assert!(!awaited.is_empty(), "polls nothing");
    if !awaited.iter().any(|awaited| awaited.is_ready()) {
        let instants = awaited.iter().filter_map(|awaited| if let Awaited::At(instant) = awaited { Some(*instant) } else { None });
        match instants.min() {
            Some(first) => clocks::go_on_to(first),
            // Whoever waits for these would wait for ever.
            None => awaited.iter().for_each(|awaited| if let Awaited::Answer(exchange) = awaited { exchange.give_up() }),
        }
    }
    (0..).zip(awaited).filter(|(_, awaited)| awaited.is_ready()).map(|(index, _)| index).collect()
}

pub struct Input {
    bytes: Vec<u8>,
    read: Cell<usize>,
}

impl Input {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, read: Cell::new(0) }
    }

    fn next(&self, length: u64) -> Result<&[u8], StreamError> {
        let left = &self.bytes[self.read.get()..];
        if left.is_empty() {
            return Err(StreamError::Closed);
        }
        let next = &left[..left.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
        self.read.set(self.read.get() + next.len());
        Ok(next)
    }
}

/// The bytes of a body that is being written.
#[derive(Default)]
pub struct Buffer {
    pub bytes: RefCell<Vec<u8>>,
    pub closed: Cell<bool>,
}

pub enum Output {
    Buffer(Rc<Buffer>),
    Log(&'static std::thread::LocalKey<Lines>),
}

impl Output {
    fn put(&self, bytes: &[u8]) -> Result<(), StreamError> {
        match self {
            Self::Buffer(buffer) if buffer.closed.get() => return Err(StreamError::Closed),
            Self::Buffer(buffer) => buffer.bytes.borrow_mut().extend_from_slice(bytes),
            Self::Log(lines) => lines.with(|lines| lines.put(bytes)),
        }
        Ok(())
    }

    fn room(&self) -> Result<u64, StreamError> {
        match self {
            Self::Buffer(buffer) if buffer.closed.get() => Err(StreamError::Closed),
            _ => Ok(WRITE_BYTES_MAX),
        }
    }
}

impl streams::Guest for Base {
    type InputStream = Input;
    type OutputStream = Output;
}

impl streams::GuestInputStream for Input {
    fn read(&self, length: u64) -> Result<Vec<u8>, StreamError> {
        self.next(length).map(<[u8]>::to_vec)
    }

    fn blocking_read(&self, length: u64) -> Result<Vec<u8>, StreamError> {
        self.read(length)
    }

    fn skip(&self, length: u64) -> Result<u64, StreamError> {
        self.next(length).map(|skipped| skipped.len() as u64)
    }

    fn blocking_skip(&self, length: u64) -> Result<u64, StreamError> {
        self.skip(length)
    }

    fn subscribe(&self) -> Pollable {
        Pollable::new(Awaited::Now)
    }
}

impl streams::GuestOutputStream for Output {
    fn check_write(&self) -> Result<u64, StreamError> {
        self.room()
    }

    fn write(&self, contents: Vec<u8>) -> Result<(), StreamError> {
        self.put(&contents)
    }

    fn blocking_write_and_flush(&self, contents: Vec<u8>) -> Result<(), StreamError> {
        self.put(&contents)
    }

    fn flush(&self) -> Result<(), StreamError> {
        self.room().map(drop)
    }

    fn blocking_flush(&self) -> Result<(), StreamError> {
        self.flush()
    }

    fn subscribe(&self) -> Pollable {
        Pollable::new(Awaited::Now)
    }

    fn write_zeroes(&self, length: u64) -> Result<(), StreamError> {
        assert!(length <= WRITE_BYTES_MAX, "writes more than `check-write` allows");
        self.put(&vec![0; length as usize])
    }

    fn blocking_write_zeroes_and_flush(&self, length: u64) -> Result<(), StreamError> {
        self.write_zeroes(length)
    }

    fn splice(&self, source: InputStreamBorrow<'_>, length: u64) -> Result<u64, StreamError> {
        self.room()?;
        let bytes = source.get::<Input>().next(length)?;
        self.put(bytes)?;
        Ok(bytes.len() as u64)
    }

    fn blocking_splice(&self, source: InputStreamBorrow<'_>, length: u64) -> Result<u64, StreamError> {
        self.splice(source, length)
    }
}
