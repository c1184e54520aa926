//! `wasi:cli`: what is printed becomes lines of the plugin's log. There are no
//! arguments, no environment and nothing to read.

use std::cell::RefCell;
use std::process::abort;

use crate::Base;
use crate::exports::wasi::cli::{environment, exit, stderr, stdin, stdout};
use crate::exports::wasi::io::streams::{InputStream, OutputStream};
use crate::io::{Input, Output};
use crate::souk::host::log::{self, Level};

/// A longer one is written in parts.
const LINE_BYTES_MAX: usize = 8 << 10;

thread_local! {
    pub static STDOUT: Lines = Lines::new(Level::Info);
    pub static STDERR: Lines = Lines::new(Level::Warn);
}

/// Text that becomes a log line at each of its ends of lines.
pub struct Lines {
    level: Level,
    begun: RefCell<Vec<u8>>,
}

impl Lines {
    fn new(level: Level) -> Self {
        Self { level, begun: RefCell::default() }
    }

    pub fn put(&self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.borrow_mut().extend_from_slice(part);
            if part.ends_with(b"\n") || self.begun.borrow().len() >= LINE_BYTES_MAX {
                self.end();
            }
        }
    }

    /// Writes what has not come to its end.
    pub fn end(&self) {
        let line = self.begun.take();
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if !line.is_empty() {
            log::write(self.level, line, &[]);
        }
    }
}

impl environment::Guest for Base {
    fn get_environment() -> Vec<(String, String)> {
        Vec::new()
    }

    fn get_arguments() -> Vec<String> {
        Vec::new()
    }

    fn initial_cwd() -> Option<String> {
        None
    }
}

/// There is nothing to go on with: the call fails, whatever the code.
fn leave() -> ! {
    STDOUT.with(Lines::end);
    STDERR.with(Lines::end);
    log::write(Level::Error, "called `wasi:cli/exit`", &[]);
    abort();
}

impl exit::Guest for Base {
    fn exit(_: Result<(), ()>) {
        leave();
    }

    fn exit_with_code(_: u8) {
        leave();
    }
}

impl stdin::Guest for Base {
    fn get_stdin() -> InputStream {
        InputStream::new(Input::new(Vec::new()))
    }
}

impl stdout::Guest for Base {
    fn get_stdout() -> OutputStream {
        OutputStream::new(Output::Log(&STDOUT))
    }
}

impl stderr::Guest for Base {
    fn get_stderr() -> OutputStream {
        OutputStream::new(Output::Log(&STDERR))
    }
}
