//! An HTTP/1.1 client with as little between socket and clock as can be, since
//! it shares the machine with what `souk-bench` and `souk-load` measure with it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection, kept alive.
pub struct Client {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

pub struct Answer<'a> {
    pub status: u16,
    /// Status line and headers.
    pub head: &'a [u8],
    pub body: &'a [u8],
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream, buffer: Vec::with_capacity(64 << 10) })
    }

    pub async fn send(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let mut expected = None;
        loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server hung up");
            if expected.is_none() {
                expected = parse_head(&self.buffer)?;
            }
            if let Some((status, head, body)) = expected
                && self.buffer.len() >= head + body
            {
                return Ok(Answer { status, head: &self.buffer[..head], body: &self.buffer[head..head + body] });
            }
        }
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer<'_>> {
        self.send(&get(self.address, path)).await
    }

    /// Status and JSON of the answer; the body is JSON unless it is null.
    pub async fn json(&mut self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let answer = self.send(&json(self.address, method, path, body)).await?;
        let json = serde_json::from_slice(answer.body).with_context(|| format!("{method} {path}: {}", String::from_utf8_lossy(answer.body)))?;
        Ok((answer.status, json))
    }
}

/// Status, length of the head and of the body, once the head is whole.
fn parse_head(buffer: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(buffer)? else { return Ok(None) };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body = length.map_or(Ok(0), |header| std::str::from_utf8(header.value)?.parse::<usize>().context("content-length"))?;
    Ok(Some((response.code.context("no status")?, head, body)))
}

pub fn get(address: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept-language: en\r\n\r\n").into_bytes()
}

/// A request whose body is JSON, or empty where it is null.
pub fn json(address: SocketAddr, method: &str, path: &str, body: &Value) -> Vec<u8> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\naccept-language: en\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Runs a measurement on a runtime like the shop's own.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Words as a value in the query of an address.
pub fn escaped(words: &str) -> String {
    words.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
