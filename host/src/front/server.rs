//! Sockets: accepting, TLS, the limits of connections, and draining.
//!
//! Two listeners. The public one serves the shop. The other is for operators
//! (`/metrics`, `/health`, `/ready`), on an address of its own so that no rule
//! about paths decides who sees them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::Application;
use super::config::{Limits, Tls};
use super::metrics::Counted;
use super::service::{Front, FrontOptions, Peer, Reply};

/// After a close was announced, for the client to see it.
const FAREWELL: Duration = Duration::from_secs(1);

/// A running server; dropping it stops it at once.
pub struct Server {
    pub address: SocketAddr,
    pub ops_address: Option<SocketAddr>,
    drain_timeout: Duration,
    /// 0 serving, 1 draining, 2 stopping now.
    phase: watch::Sender<u8>,
    tasks: TaskTracker,
}

impl Server {
    pub async fn start<A: Application>(app: Arc<A>, options: FrontOptions) -> anyhow::Result<Server> {
        let problems = options.config.problems();
        anyhow::ensure!(problems.is_empty(), "the server's settings are wrong:\n{}", problems.join("\n"));
        let tls = options.config.tls.as_ref().map(tls_acceptor).transpose()?;
        let listener = bind(options.config.listen).await?;
        let ops = match options.config.ops_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let (phase, watching) = watch::channel(0);
        let (address, ops_address) = (listener.local_addr()?, ops.as_ref().map(|l| l.local_addr()).transpose()?);
        let drain_timeout = Duration::from_millis(options.config.limits.drain_timeout_ms);
        let front = Arc::new(Front::new(app, options));
        if let Some(ops) = ops {
            // Not tracked: it tells that the server drains, and a scraper's
            // idle connection must not hold it up.
            tokio::spawn(serve_ops(ops, front.clone(), watching.clone()));
        }
        let tasks = front.tasks.clone();
        tasks.spawn(serve_public(listener, tls, front, watching));
        Ok(Server { address, ops_address, drain_timeout, phase, tasks })
    }

    /// Takes no more connections, finishes the requests in flight, and returns
    /// when they are done or `drain-timeout-ms` passed. True if all were done.
    pub async fn drain(self) -> bool {
        self.phase.send_replace(1);
        self.tasks.close();
        let drained = tokio::time::timeout(self.drain_timeout, self.tasks.wait()).await.is_ok();
        self.phase.send_replace(2);
        // Connections end at once; work of clients that hung up may not.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        drained
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}: choose another address or stop who has it"))
}

/// Others than its owner: its group may read it, since keys are given to servers by that.
const KEY_LIES_OPEN: u32 = 0o037;

pub(super) fn tls_acceptor(tls: &Tls) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read the certificate {}", tls.certificate.display()))?;
    let unreadable = || format!("cannot read the key {}", tls.key.display());
    let mode = std::fs::metadata(&tls.key).with_context(unreadable)?.permissions().mode();
    anyhow::ensure!(mode & KEY_LIES_OPEN == 0, "the key {}: others may read or change it. Run: chmod 600 {0}", tls.key.display());
    let key = PrivateKeyDer::from_pem_file(&tls.key).with_context(unreadable)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and the key do not fit together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve_public<A: Application>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    front: Arc<Front<A>>,
    mut phase: watch::Receiver<u8>,
) {
    let limits = front.config.limits.clone();
    let tasks = front.tasks.clone();
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let builder = Arc::new(connection_builder(&limits));
    loop {
        // First a place, then a connection: the kernel holds who comes too many.
        let next = async {
            let place = places.clone().acquire_owned().await.expect("the places are never closed");
            (place, accept(&listener).await)
        };
        let (place, (stream, from)) = tokio::select! {
            _ = phase.changed() => return,
            next = next => next,
        };
        let (front, builder, tls, phase) = (front.clone(), builder.clone(), tls.clone(), phase.clone());
        let handshake = Duration::from_millis(limits.tls_handshake_timeout_ms);
        tasks.spawn(async move {
            let _ = stream.set_nodelay(true);
            let peer = Arc::new(Peer::new(from.ip().to_canonical()));
            match tls {
                None => serve_connection(stream, front, &builder, peer, &place, phase).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(handshake, tls.accept(stream)).await {
                        serve_connection(stream, front, &builder, peer, &place, phase).await;
                    }
                }
            }
        });
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                // Out of file descriptors, most likely: some will close.
                tracing::warn!(target: "front", %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn connection_builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `serve_connection` has one clock for all phases and versions; hyper's
        // would not run before it knows the version, and costs every request.
        .header_read_timeout(None)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        // Resets of streams that no request came of yet, and floods of bad
        // frames. `Activity::is_flooded` counts what these do not see.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(200)
        .max_header_list_size(limits.header_bytes_max as u32)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(256 << 10);
    builder
}

/// What one connection does, without a clock on the way of its requests: they
/// only count, and somebody looks now and then.
#[derive(Default)]
struct Activity {
    running: AtomicUsize,
    answered: AtomicU64,
    /// Taken back by the client before there was an answer.
    aborted: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    /// A write waits for the client, under a limit of its own.
    blocked: AtomicBool,
}

/// What a client may send without purpose. Browsers leave a page in the middle
/// of its pictures, and keep connections alive with a ping.
const PURPOSELESS_BYTES_MAX: u64 = 256 << 10;
const ABORTED_MAX: u64 = 200;

impl Activity {
    /// Frames that carry nothing (pings, settings, window updates, empty data),
    /// and requests sent only to be reset (CVE-2023-44487): hyper bounds what
    /// each of them makes it keep, but not how many come. Every request, body
    /// and answer gives a client room for some of them.
    fn is_flooded(&self, body_bytes: u64, header_bytes_max: u64) -> bool {
        let answered = self.answered.load(Ordering::Relaxed);
        // An answer of a KiB may cost its reader a window update of 13 bytes.
        let of_answers = self.written_bytes.load(Ordering::Relaxed) / 64;
        let room = PURPOSELESS_BYTES_MAX + answered * header_bytes_max + body_bytes * 8 + of_answers;
        self.read_bytes.load(Ordering::Relaxed) > room || self.aborted.load(Ordering::Relaxed) > ABORTED_MAX + answered
    }
}

/// Less between two looks is no progress.
const PROGRESS_BYTES_MIN: u64 = 1 << 10;
const LOOKS: u32 = 4;

/// How a connection was at the last look.
#[derive(Default)]
struct Watch {
    answered: u64,
    read_bytes: u64,
    written_bytes: u64,
    quiet_looks: u32,
}

impl Watch {
    /// True if nothing happened for so many looks: silent from the start, slow
    /// with its headers, or done.
    fn is_idle(&mut self, activity: &Activity, looks: u32) -> bool {
        let answered = activity.answered.load(Ordering::Relaxed);
        let read_bytes = activity.read_bytes.load(Ordering::Relaxed);
        let written_bytes = activity.written_bytes.load(Ordering::Relaxed);
        // Answers to pings and settings are no more than what was read.
        let sent = (written_bytes - self.written_bytes).saturating_sub(read_bytes - self.read_bytes);
        let busy = activity.running.load(Ordering::Relaxed) > 0
            || activity.blocked.load(Ordering::Relaxed)
            || answered != self.answered
            || sent >= PROGRESS_BYTES_MIN;
        let quiet_looks = if busy { 0 } else { self.quiet_looks + 1 };
        *self = Watch { answered, read_bytes, written_bytes, quiet_looks };
        quiet_looks >= looks
    }
}

/// A request that is worked on; dropped before it is answered where the client
/// reset it or went away.
struct Running<'a> {
    activity: &'a Activity,
    answered: bool,
}

impl<'a> Running<'a> {
    fn new(activity: &'a Activity) -> Self {
        activity.running.fetch_add(1, Ordering::Relaxed);
        Self { activity, answered: false }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let ended = if self.answered { &self.activity.answered } else { &self.activity.aborted };
        ended.fetch_add(1, Ordering::Relaxed);
        self.activity.running.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve_connection<A: Application>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    front: Arc<Front<A>>,
    builder: &auto::Builder<TokioExecutor>,
    peer: Arc<Peer>,
    place: &OwnedSemaphorePermit,
    mut phase: watch::Receiver<u8>,
) {
    let limits = &front.config.limits;
    let pause = Duration::from_millis(limits.header_timeout_ms) / LOOKS;
    let activity = Arc::new(Activity::default());
    let write_max = Duration::from_millis(limits.write_timeout_ms);
    let header_bytes_max = limits.header_bytes_max as u64;
    let stream = Guarded { inner: stream, write_max, writing: None, header_bytes_max, activity: activity.clone(), peer: peer.clone() };
    let _counted = Counted::new(&front.metrics.connections);
    let service = service_fn(|request: Request<Incoming>| {
        let (front, peer, activity) = (front.clone(), peer.clone(), activity.clone());
        async move {
            let mut running = Running::new(&activity);
            let reply = front.respond(&peer, request).await;
            running.answered = true;
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut watch = Watch::default();
    let mut closing = false;
    let mut look = Box::pin(tokio::time::sleep(pause));
    loop {
        tokio::select! {
            biased;
            // Errors here are clients that went away or broke the protocol;
            // hyper has answered where there was something to answer.
            _ = connection.as_mut() => return,
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow() == 2 {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
            () = look.as_mut() => {
                // While others wait for a connection, nobody keeps one for nothing.
                let crowded = place.semaphore().available_permits() == 0;
                let idle = watch.is_idle(&activity, if crowded { 1 } else { LOOKS });
                if closing && idle {
                    return;
                }
                if idle {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                    watch.quiet_looks = LOOKS - 1;
                }
                let next = if closing { FAREWELL } else { pause };
                look.as_mut().reset(tokio::time::Instant::now() + next);
            }
        }
    }
}

/// A stream that fails when its client takes nothing of what is written, or
/// floods.
struct Guarded<S> {
    inner: S,
    write_max: Duration,
    writing: Option<Pin<Box<Sleep>>>,
    header_bytes_max: u64,
    activity: Arc<Activity>,
    peer: Arc<Peer>,
}

impl<S> Guarded<S> {
    fn wrote<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            if self.writing.take().is_some() {
                self.activity.blocked.store(false, Ordering::Relaxed);
            }
            return result;
        }
        if self.writing.is_none() {
            self.activity.blocked.store(true, Ordering::Relaxed);
        }
        let limit = self.write_max;
        let clock = self.writing.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        clock.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn count(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = result {
            self.activity.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.activity.read_bytes.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        if self.activity.is_flooded(self.peer.body_bytes.load(Ordering::Relaxed), self.header_bytes_max) {
            return Poll::Ready(Err(io::Error::other("the client sends frames for nothing")));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buffer);
        let result = self.count(result);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffers: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, buffers);
        let result = self.count(result);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.wrote(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.wrote(cx, result)
    }
}

async fn serve_ops<A: Application>(listener: TcpListener, front: Arc<Front<A>>, mut phase: watch::Receiver<u8>) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    let builder = Arc::new(builder);
    loop {
        let (stream, _) = tokio::select! {
            _ = phase.wait_for(|p| *p == 2) => return,
            accepted = accept(&listener) => accepted,
        };
        let (front, builder, phase) = (front.clone(), builder.clone(), phase.clone());
        tokio::spawn(async move {
            let draining = phase.clone();
            let service = service_fn(|request: Request<Incoming>| {
                let reply = ops_reply(&front, request.uri().path(), *draining.borrow() > 0);
                async move { Ok::<_, Infallible>(reply) }
            });
            let mut phase = phase;
            tokio::select! {
                _ = builder.serve_connection(TokioIo::new(stream), service) => {}
                _ = phase.wait_for(|p| *p == 2) => {}
            }
        });
    }
}

fn ops_reply<A: Application>(front: &Front<A>, path: &str, draining: bool) -> Reply {
    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
    let (status, kind, body) = match path {
        "/health" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/ready" => match front.app().ready() {
            _ if draining => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".to_owned()),
            Ok(()) => {
                let degraded = front.app().degraded().into_iter().map(|what| format!("degraded: {what}\n"));
                (StatusCode::OK, TEXT, std::iter::once("ready\n".to_owned()).chain(degraded).collect())
            }
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        },
        "/metrics" => {
            let mut text = String::new();
            front.metrics.write(&mut text, front.page_cache_bytes());
            front.app().metrics(&mut text);
            text.push_str("# EOF\n");
            (StatusCode::OK, HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"), text)
        }
        _ => (StatusCode::NOT_FOUND, TEXT, "/metrics, /health or /ready\n".to_owned()),
    };
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
