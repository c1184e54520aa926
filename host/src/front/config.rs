//! `[server]` in the shop's `souk.toml`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServerConfig {
    pub listen: SocketAddr,
    /// `/metrics`, `/health`, `/ready`: keep it off the internet.
    pub ops_listen: Option<SocketAddr>,
    pub tls: Option<Tls>,
    /// Only these may say for whom they speak (`X-Forwarded-For`, last hop).
    pub trusted_proxies: Vec<IpAddr>,
    /// Where forms, and redirects after them, may lead besides the shop itself:
    /// a payment provider's page, for instance `https://pay.example`.
    pub form_action_origins: Vec<String>,
    /// Where pictures may come from besides the shop itself, for instance
    /// `https://cdn.example`.
    pub image_origins: Vec<String>,
    /// One line a request under the log target `access`.
    pub access_log: bool,
    pub limits: Limits,
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    pub certificate: PathBuf,
    /// Refused where others than its owner and group may read it.
    pub key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// More wait in the kernel's queue.
    pub connections_max: usize,
    /// Request line and headers of one request.
    pub header_bytes_max: usize,
    pub headers_max: usize,
    /// From accepting a connection, or the end of its last answer, to the end of
    /// the next headers (up to a quarter more): slow senders, idle connections.
    /// A quarter of it while all connections are taken.
    pub header_timeout_ms: u64,
    /// Without a byte of the body.
    pub body_idle_timeout_ms: u64,
    /// For a whole body.
    pub body_timeout_ms: u64,
    /// Ceiling over every route's own limit.
    pub body_bytes_max: u32,
    /// For one write of an answer that the client does not read.
    pub write_timeout_ms: u64,
    pub tls_handshake_timeout_ms: u64,
    /// Streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// Requests that plugins work on at the same time, twelve for each processor
    /// unless given; `waiting_max` more wait, the rest get 503. Files and kept
    /// pages need no place.
    pub requests_max: usize,
    /// So many of those who wait for something outside have lent their place.
    pub requests_outside_max: usize,
    pub waiting_max: usize,
    /// What a burst may wait. Where somebody has been waiting for so long without
    /// a break, or was just sent away, newcomers wait only `waiting_target_ms`
    /// before they get 503; on routes that are `critical` they wait on.
    pub waiting_timeout_ms: u64,
    pub waiting_target_ms: u64,
    /// For requests in flight when the server stops.
    pub drain_timeout_ms: u64,
    /// Of answers that are kept a day for `Idempotency-Key`, for one network; sixteen times
    /// as much for private addresses. Beyond it requests with such a key get 429.
    pub idempotency_bytes_max: usize,
    pub page_cache_bytes_max: usize,
    pub media_cache_bytes_max: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ops_listen: Some(SocketAddr::from(([127, 0, 0, 1], 9090))),
            tls: None,
            trusted_proxies: Vec::new(),
            form_action_origins: Vec::new(),
            image_origins: Vec::new(),
            access_log: false,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_bytes_max: 32 << 10,
            headers_max: 100,
            header_timeout_ms: 30_000,
            body_idle_timeout_ms: 10_000,
            body_timeout_ms: 60_000,
            body_bytes_max: 32 << 20,
            write_timeout_ms: 30_000,
            tls_handshake_timeout_ms: 10_000,
            streams_max: 100,
            requests_max: 12 * std::thread::available_parallelism().map_or(2, |processors| processors.get().clamp(2, 32)),
            requests_outside_max: 32,
            waiting_max: 2_048,
            waiting_timeout_ms: 250,
            waiting_target_ms: 20,
            drain_timeout_ms: 15_000,
            idempotency_bytes_max: 64 << 20,
            page_cache_bytes_max: 64 << 20,
            media_cache_bytes_max: 32 << 20,
        }
    }
}

impl ServerConfig {
    /// What is wrong, each line naming the setting and what it takes.
    pub fn problems(&self) -> Vec<String> {
        let l = &self.limits;
        let mut problems = Vec::new();
        let mut range = |name: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                problems.push(format!("server.limits.{name} is {value}: give {min} to {max}"));
            }
        };
        range("connections-max", l.connections_max as u64, 1, 1 << 20);
        range("header-bytes-max", l.header_bytes_max as u64, 8 << 10, 1 << 20);
        range("headers-max", l.headers_max as u64, 16, 1_000);
        range("header-timeout-ms", l.header_timeout_ms, 100, 600_000);
        range("body-idle-timeout-ms", l.body_idle_timeout_ms, 100, 600_000);
        range("body-timeout-ms", l.body_timeout_ms, 100, 3_600_000);
        range("body-bytes-max", l.body_bytes_max.into(), 1 << 10, 1 << 30);
        range("write-timeout-ms", l.write_timeout_ms, 100, 600_000);
        range("tls-handshake-timeout-ms", l.tls_handshake_timeout_ms, 100, 60_000);
        range("streams-max", l.streams_max.into(), 1, 10_000);
        range("requests-max", l.requests_max as u64, 1, 1 << 16);
        range("requests-outside-max", l.requests_outside_max as u64, 0, 1 << 16);
        range("waiting-max", l.waiting_max as u64, 0, 1 << 20);
        range("waiting-timeout-ms", l.waiting_timeout_ms, 1, 60_000);
        range("waiting-target-ms", l.waiting_target_ms, 1, l.waiting_timeout_ms);
        range("drain-timeout-ms", l.drain_timeout_ms, 0, 600_000);
        range("idempotency-bytes-max", l.idempotency_bytes_max as u64, 1 << 10, 1 << 40);
        range("page-cache-bytes-max", l.page_cache_bytes_max as u64, 0, 1 << 40);
        range("media-cache-bytes-max", l.media_cache_bytes_max as u64, 0, 1 << 40);
        if self.ops_listen.is_some_and(|ops| ops == self.listen && ops.port() != 0) {
            problems.push(format!("server.ops-listen is the public address {}: give another", self.listen));
        }
        for (setting, origins) in [("form-action-origins", &self.form_action_origins), ("image-origins", &self.image_origins)] {
            for origin in origins {
                let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).unwrap_or("");
                if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:*[]".contains(&b)) {
                    problems.push(format!("server.{setting} holds `{origin}`: give origins such as https://pay.example"));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound_and_mistakes_are_named() {
        assert_eq!(toml::from_str::<ServerConfig>("").unwrap().problems(), Vec::<String>::new());
        let text = "form-action-origins = ['https://pay.example; script-src *']\n[limits]\nheaders-max = 1";
        let problems = toml::from_str::<ServerConfig>(text).unwrap().problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("server.limits.headers-max is 1: give 16 to 1000"));
        assert!(toml::from_str::<ServerConfig>("lissten = '127.0.0.1:1'").is_err());
    }
}
