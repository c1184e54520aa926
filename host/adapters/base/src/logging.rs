//! `wasi:logging`: lines of the plugin's log.

use crate::Base;
use crate::exports::wasi::logging::logging::{Guest, Level};
use crate::souk::host::log;

impl Guest for Base {
    fn log(level: Level, context: String, message: String) {
        let level = match level {
            Level::Trace | Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error | Level::Critical => log::Level::Error,
        };
        let context = if context.is_empty() { Vec::new() } else { vec![("context".to_owned(), context)] };
        log::write(level, &message, &context);
    }
}
