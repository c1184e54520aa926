//! hyper with nothing behind it: every request gets one recorded answer. A
//! process of its own, as the shop is one.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use souk_tests::wire::{Answer, block_on};

/// Killed when dropped.
pub struct Bare {
    server: Child,
    pub address: SocketAddr,
}

impl Bare {
    /// Serves the same status, headers and bytes as this answer.
    pub fn like(answer: &Answer) -> Result<Self> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(answer.head)?;
        file.write_all(answer.body)?;
        let mut server = Command::new(std::env::current_exe()?).arg("--bare").arg(file.path()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().context("its output is piped")?).read_line(&mut line)?;
        Ok(Self { server, address: line.trim().parse().context("the bare server does not start")? })
    }

    pub fn pid(&self) -> u32 {
        self.server.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub fn serve(answer: &Path) -> Result<()> {
    let recorded = std::fs::read(answer)?;
    let mut parsed = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut parsed);
    let httparse::Status::Complete(head) = response.parse(&recorded)? else { anyhow::bail!("no whole answer") };
    let mut headers = HeaderMap::new();
    for header in response.headers.iter() {
        // hyper writes these itself.
        if !["content-length", "date"].contains(&header.name.to_ascii_lowercase().as_str()) {
            headers.append(HeaderName::from_bytes(header.name.as_bytes())?, HeaderValue::from_bytes(header.value)?);
        }
    }
    let body = Bytes::copy_from_slice(&recorded[head..]);
    block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (headers, body) = (headers.clone(), body.clone());
            tokio::spawn(async move {
                let service = service_fn(|_| {
                    let mut response = Response::new(Full::new(body.clone()));
                    *response.headers_mut() = headers.clone();
                    async move { Ok::<_, Infallible>(response) }
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}
