//! One request, from parsed to answered. [`Front::respond`] is the whole way.
//!
//! ## Cross-site requests
//! Unsafe methods are accepted from the shop's own pages only, told by what
//! every current browser sends and no page can forge: `Sec-Fetch-Site`, else
//! `Origin`. A client that sends neither is no browser, and may act only
//! without a session cookie. So forms need no token, and pages with forms can
//! be cached for everyone and compressed without leaking a secret (BREACH).
//! Routes that are `cross-site` in the manifest are exempt and get no session.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::browser;
use super::callers::Callers;
use super::compress::{self, Encoding};
use super::config::ServerConfig;
use super::gate::Gate;
use super::headers::{self, Answerer, Cleaned, Destination, Destinations, LOCALE_COOKIE, SecurityHeaders};
use super::media::Media;
use super::metrics::{Counted, Metrics, RouteMetrics};
use super::page_cache::{self, PageCache};
use super::problem::{Problem, accepts_html};
use super::routes::{Found, Mount, MountedAt, Site, SiteRoute, is_unambiguous};
use super::session::{SessionCookies, cookies};
use super::kept::{Kept, Network, is_private};
use super::standing::{self, Standing};
use super::{Answer, Application, Call, Failure, FailureKind, GUEST, Idempotency, ORIGIN, Origin, SessionChange, SessionId};
use crate::engine::bindings::exports::souk::web::handler;
use crate::engine::canary_has;
use crate::files::sha256_hex;

/// For a page that someone else is rendering already.
const FLIGHT_WAIT: Duration = Duration::from_secs(2);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");
/// Browsers keep a permanent redirect for ever unless they are told.
const SLASH_KEPT: HeaderValue = HeaderValue::from_static("public, max-age=3600");
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

pub type Reply = Response<Full<Bytes>>;

pub struct FrontOptions {
    pub config: ServerConfig,
    /// `https://shop.example`: decides cookies' names and HSTS.
    pub base_url: String,
    /// Signs session cookies; kept in the store.
    pub session_key: [u8; 32],
    pub media: PathBuf,
    /// Shared with the runtime, which invalidates.
    pub pages: Arc<PageCache>,
}

pub struct Front<A> {
    app: Arc<A>,
    pub config: ServerConfig,
    https: bool,
    /// `shop.example`
    base_authority: String,
    pages: Arc<PageCache>,
    sessions: SessionCookies,
    callers: Callers,
    /// That a proxy stands before the shop of which nobody has said so.
    told_of_proxy: AtomicBool,
    security: SecurityHeaders,
    destinations: Destinations,
    media: Media,
    pub metrics: Metrics,
    files: Arc<RouteMetrics>,
    unmatched: Arc<RouteMetrics>,
    gate: Gate,
    standing: Standing,
    kept: Kept,
    flights: Mutex<HashMap<page_cache::Key, watch::Receiver<()>>>,
    ids: RequestIds,
    /// All that a drain waits for.
    pub tasks: TaskTracker,
}

/// Who is at the other end of a connection.
pub struct Peer {
    pub address: IpAddr,
    pub text: String,
    /// Of all bodies that it has sent.
    pub body_bytes: AtomicU64,
}

impl Peer {
    pub fn new(address: IpAddr) -> Self {
        Self { address, text: address.to_string(), body_bytes: AtomicU64::new(0) }
    }
}

/// A kept page, ready to send.
pub struct Page {
    plain: Variant,
    gzip: OnceLock<Option<Variant>>,
    brotli: OnceLock<Option<Variant>>,
    not_modified: HeaderMap,
    /// The ETag without quotes and coding.
    tag: String,
    compressible: bool,
    metrics: Arc<RouteMetrics>,
}

struct Variant {
    headers: HeaderMap,
    body: Bytes,
}

struct Outcome {
    reply: Reply,
    metrics: Arc<RouteMetrics>,
}

impl<A: Application> Front<A> {
    pub fn new(app: Arc<A>, options: FrontOptions) -> Self {
        let FrontOptions { config, base_url, session_key, media, pages } = options;
        let https = base_url.starts_with("https://") || config.tls.is_some();
        let base_authority = base_url.split("://").nth(1).unwrap_or("").trim_end_matches('/').to_ascii_lowercase();
        let metrics = Metrics::default();
        Self {
            https,
            base_authority,
            pages,
            sessions: SessionCookies::new(&session_key, https),
            callers: Callers::new(&session_key),
            told_of_proxy: AtomicBool::new(false),
            security: SecurityHeaders::new(&config, https),
            destinations: Destinations::new(&base_url, &config),
            media: Media::new(media, config.limits.media_cache_bytes_max),
            files: metrics.route("host", "files"),
            unmatched: metrics.route("host", "unmatched"),
            metrics,
            gate: Gate::new(&config.limits),
            standing: Standing::new(),
            kept: Kept::new(config.limits.idempotency_bytes_max as u64),
            flights: Mutex::new(HashMap::new()),
            ids: RequestIds::new(),
            tasks: TaskTracker::new(),
            app,
            config,
        }
    }

    pub fn app(&self) -> &A {
        &self.app
    }

    pub fn page_cache_bytes(&self) -> usize {
        self.pages.bytes()
    }

    pub async fn respond(&self, peer: &Peer, request: Request<Incoming>) -> Reply {
        let started = Instant::now();
        let _in_flight = Counted::new(&self.metrics.in_flight);
        let id = self.ids.of(request.headers());
        let site = self.app.site();
        let logged = self.config.access_log.then(|| (request.method().clone(), site.path_for_log(request.uri().path()).to_owned()));
        let Outcome { mut reply, metrics } = match self.kept_page(&site, &request, &id, started) {
            Some(outcome) => outcome,
            // Boxed, so that the hot way does not carry its state.
            None => Box::pin(self.respond_fully(&site, peer, request, &id)).await,
        };
        let bytes = reply.body().size_hint().exact().unwrap_or(0);
        metrics.record(reply.status(), started.elapsed(), bytes);
        if let Some((method, path)) = logged {
            tracing::info!(
                target: "access",
                %method, path, status = reply.status().as_u16(), bytes,
                us = started.elapsed().as_micros() as u64, client = peer.text, request = id.to_str().unwrap_or(""),
            );
        }
        reply.headers_mut().insert(REQUEST_ID, id);
        reply
    }

    /// The hot way: nothing is decoded, formatted or rendered here.
    fn kept_page(&self, site: &Site, request: &Request<Incoming>, id: &HeaderValue, now: Instant) -> Option<Outcome> {
        if site.canary_percent > 0 && is_canarys(site, self.sessions.verified(request.headers()).as_ref(), id) {
            return None;
        }
        let is_plain = may_be_shared(request.method(), request.headers()) && request.body().is_end_stream();
        if !is_plain || browser::asks_for_worker(request.headers()) || has_bad_host(request) {
            return None;
        }
        let target = request.uri().path_and_query()?.as_str();
        let entry = self.pages.get(target, site.generation, now, || self.locale_of(site, request.headers()))?;
        let page = &entry.page;
        page.metrics.page_hit();
        Some(Outcome { reply: page.reply(request.method(), request.headers()), metrics: page.metrics.clone() })
    }

    async fn respond_fully(&self, site: &Site, peer: &Peer, request: Request<Incoming>, id: &HeaderValue) -> Outcome {
        let html = accepts_html(request.headers());
        let head = request.method() == Method::HEAD;
        let mut metrics = self.unmatched.clone();
        let reply = match self.route(site, peer, request, id, &mut metrics).await {
            Ok(reply) => reply,
            Err(problem) => {
                let mut reply = problem.into_response(html, id.to_str().unwrap_or(""));
                self.security.add(reply.headers_mut());
                if head { without_body(reply) } else { reply }
            }
        };
        Outcome { reply, metrics }
    }

    async fn route(
        &self,
        site: &Site,
        peer: &Peer,
        request: Request<Incoming>,
        id: &HeaderValue,
        metrics: &mut Arc<RouteMetrics>,
    ) -> Result<Reply, Problem> {
        if has_bad_host(&request) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "host", "The request must carry exactly one Host header, and no other host in its request line.").closing());
        }
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let get = matches!(parts.method, Method::GET | Method::HEAD);
        if browser::asks_for_worker(&parts.headers) {
            return Ok(self.as_the_host(browser::healing_worker()));
        }
        if !is_unambiguous(path) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "path", "The path has a backslash, two slashes in a row or a control character, perhaps escaped."));
        }
        if path.starts_with("/assets/") || path.starts_with("/media/") {
            *metrics = self.files.clone();
            if !get {
                return Err(method_not_allowed(HeaderValue::from_static("GET, HEAD")));
            }
            return self.file(site, &parts).await.ok_or_else(not_found);
        }
        if path == "/health" && get {
            return Ok(Response::new(Full::new(Bytes::from_static(b"ok\n"))));
        }
        if path == browser::RESET_PATH {
            return self.reset_browser(site, &parts, get);
        }
        let (mount, params) = match site.find(&parts.method, path) {
            Found::Mount(mount, params) => (mount, params),
            Found::Slash => return redirect(StatusCode::PERMANENT_REDIRECT, path.trim_end_matches('/'), parts.uri.query(), SLASH_KEPT),
            Found::MethodNotAllowed(allow) => return Err(method_not_allowed(allow.clone())),
            Found::Malformed => {
                return Err(Problem::new(StatusCode::BAD_REQUEST, "path", "The path is not UTF-8 once its percent escapes are decoded."));
            }
            Found::NotFound => return Err(not_found()),
        };
        if mount.at == MountedAt::Bare {
            return self.redirect_to_locale(site, &parts);
        }
        let route = &mount.route;
        *metrics = route.metrics.get_or_init(|| self.metrics.route(&route.plugin, &route.route.name)).clone();
        let call = self.call_of(site, peer, &parts, body, mount, params, id).await?;
        let key = page_key(site, &parts, mount, &call).filter(|_| !is_canarys(site, call.session.as_ref(), id));
        let _flight = match &key {
            Some(key) if route.caches.load(Ordering::Relaxed) => match self.join_flight(key).await {
                Flight::Mine(guard) => Some(guard),
                Flight::Landed => {
                    if let Some(entry) = self.pages.get(&key.target, site.generation, Instant::now(), || usize::from(key.locale.unwrap_or(0))) {
                        return Ok(entry.page.reply(&parts.method, &parts.headers));
                    }
                    None
                }
            },
            _ => None,
        };
        let keeps = call.idempotency.is_some().then(|| Network::of(&call.request.client_address));
        keeps.map_or(Ok(()), |network| self.kept.admit(network)).map_err(too_much_kept)?;
        // Before the gate: who is over its share waits at nobody else's cost.
        let admission = self.app.admit(&route.plugin, call.origin.as_ref()).await.map_err(|failure| Problem::from(&failure))?;
        let client = standing::may_go_first(&route.route, call.session.is_some())
            .then(|| self.standing.client(call.session.as_ref().map(|id| &*id.0), &call.request.client_address));
        let goes_first = client.is_some_and(|client| self.standing.goes_first(client));
        let place = self.gate.enter(goes_first).await.map_err(|retry_after_s| {
            self.metrics.overloaded.fetch_add(1, Ordering::Relaxed);
            Problem::overloaded().with(header::RETRY_AFTER, HeaderValue::from(retry_after_s))
        })?;
        let epoch = key.as_ref().map(|_| self.pages.epoch());
        let answer = self.call(Call { place: Some(place), admission, ..call }, get).await.map_err(|failure| {
            tracing::warn!(target: "front", plugin = &*route.plugin, route = route.route.name, request = id.to_str().unwrap_or(""), "{failure}");
            Problem::from(&failure)
        })?;
        if let Some(network) = keeps.filter(|_| !answer.replayed) {
            self.kept.add(network, answer.response.body.len());
        }
        if let Some(client) = client.filter(|_| (400..500).contains(&answer.response.status)) {
            self.standing.missed(client);
        }
        self.reply_with(site, &parts, mount, answer, key.zip(epoch), id, metrics)
    }

    /// With the headers of what the host says itself.
    fn as_the_host(&self, mut reply: Reply) -> Reply {
        self.security.add(reply.headers_mut());
        reply
    }

    fn reset_browser(&self, site: &Site, parts: &Parts, get: bool) -> Result<Reply, Problem> {
        if get {
            let mut reply = self.as_the_host(browser::reset_page(&site.locales[self.locale_of(site, &parts.headers)]));
            reply.headers_mut().insert(header::CONTENT_SECURITY_POLICY, browser::RESET_POLICY);
            return Ok(if parts.method == Method::HEAD { without_body(reply) } else { reply });
        }
        if parts.method != Method::POST {
            return Err(method_not_allowed(HeaderValue::from_static("GET, HEAD, POST")));
        }
        if !self.is_same_origin(parts) {
            return Err(cross_site());
        }
        Ok(self.as_the_host(browser::reset()))
    }

    async fn call(&self, call: Call, safe: bool) -> Result<Answer, Failure> {
        if safe {
            return self.app.call(call).await;
        }
        // In a task of its own: what a client started must not end half-way
        // when it hangs up.
        let (app, plugin) = (self.app.clone(), call.plugin.clone());
        let task = self.tasks.spawn(async move { app.call(call).await });
        task.await.unwrap_or_else(|error| {
            Err(Failure { kind: FailureKind::Unavailable, plugin: Some(plugin.to_string()), message: error.to_string() })
        })
    }

    /// Checks and reads everything that the plugin will see.
    #[expect(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
    async fn call_of(
        &self,
        site: &Site,
        peer: &Peer,
        parts: &Parts,
        body: Incoming,
        mount: &Mount,
        params: Vec<(String, String)>,
        id: &HeaderValue,
    ) -> Result<Call, Problem> {
        let SiteRoute { plugin, route, .. } = &*mount.route;
        let origin = parts.headers.get(ORIGIN).and_then(|value| self.app.origin(value.to_str().ok()?));
        if origin.as_ref().is_some_and(|origin| origin.depth > Origin::DEPTH_MAX) {
            let detail = format!("This shop has asked itself {} times over to answer one request, and does not go on.", Origin::DEPTH_MAX);
            return Err(Problem::new(StatusCode::LOOP_DETECTED, "loop", detail));
        }
        let safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if !safe && !route.cross_site && !self.is_same_origin(parts) {
            return Err(cross_site());
        }
        let session = if route.cross_site { None } else { self.sessions.verified(&parts.headers) };
        let body = self.read_body(peer, parts, body, route.body_bytes_max).await?;
        let credentials = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let caller = credentials.map_or_else(String::new, |credentials| self.callers.name(plugin, credentials));
        let client_address = self.client_address(peer, &parts.headers);
        let (locale, locale_prefix, path) = match mount.at {
            MountedAt::Locale(index) => {
                let locale = &site.locales[index];
                let path = parts.uri.path().strip_prefix(locale.prefix.as_str()).filter(|p| !p.is_empty()).unwrap_or("/");
                (locale, locale.prefix.clone(), path)
            }
            MountedAt::Path | MountedAt::Bare => (&site.locales[self.locale_of(site, &parts.headers)], String::new(), parts.uri.path()),
        };
        let path = super::routes::decode(path)
            .ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "path", "The path is not UTF-8 once its percent escapes are decoded."))?;
        let method = if parts.method == Method::HEAD { "GET" } else { parts.method.as_str() };
        let idempotency = if safe {
            None
        } else {
            idempotency(parts, &body, session.as_ref(), credentials)?
        };
        Ok(Call {
            plugin: plugin.clone(),
            request: handler::Request {
                method: method.to_owned(),
                path,
                query: parts.uri.query().unwrap_or("").to_owned(),
                route: route.name.clone(),
                params,
                headers: headers::shown_to_plugin(&parts.headers, route.authorization),
                body: body.into(),
                locale: locale.tag.clone(),
                locale_prefix,
                request_id: id.to_str().unwrap_or("").to_owned(),
                client_address,
                caller,
            },
            session,
            idempotency,
            place: None,
            origin,
            admission: None,
        })
    }

    async fn read_body(&self, peer: &Peer, parts: &Parts, mut body: Incoming, route_bytes_max: u32) -> Result<Bytes, Problem> {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|v| v != "identity") {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-encoding", "Send the body without a content encoding.")
                .with(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))
                .closing());
        }
        let limits = &self.config.limits;
        let bytes_max = route_bytes_max.min(limits.body_bytes_max) as usize;
        let too_large = || {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", format!("The body may have at most {bytes_max} bytes here.")).closing()
        };
        let too_slow = || Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", "The body did not arrive in time.").closing();
        let announced = body.size_hint().lower() as usize;
        // Also before `100 Continue`, which hyper sends at the first read.
        if announced > bytes_max {
            return Err(too_large());
        }
        let until = Instant::now() + Duration::from_millis(limits.body_timeout_ms);
        let idle = Duration::from_millis(limits.body_idle_timeout_ms);
        // No more than a client has sent is set aside for it.
        let mut read = BytesMut::with_capacity(announced.min(64 << 10));
        loop {
            let wait = idle.min(until.saturating_duration_since(Instant::now()));
            let Ok(frame) = tokio::time::timeout(wait, body.frame()).await else { return Err(too_slow()) };
            let Some(frame) = frame else { return Ok(read.freeze()) };
            let frame = frame.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "body", "The body ended before it was complete.").closing())?;
            if let Ok(data) = frame.into_data() {
                peer.body_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                if read.len() + data.len() > bytes_max {
                    return Err(too_large());
                }
                read.extend_from_slice(&data);
            }
        }
    }

    fn is_same_origin(&self, parts: &Parts) -> bool {
        let text = |name: &str| parts.headers.get(name).map(|v| v.to_str().unwrap_or(""));
        if let Some(site) = text("sec-fetch-site") {
            return matches!(site, "same-origin" | "none");
        }
        let Some(origin) = text("origin") else { return !self.sessions.came_with(&parts.headers) };
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let host = parts.uri.authority().map(|a| a.as_str()).or(text("host")).unwrap_or("");
        let same_host = authority.eq_ignore_ascii_case(host) || authority.eq_ignore_ascii_case(&self.base_authority);
        same_host && (scheme == "https" || !self.https)
    }

    fn client_address(&self, peer: &Peer, headers: &HeaderMap) -> String {
        if !self.config.trusted_proxies.contains(&peer.address) {
            if !self.told_of_proxy.load(Ordering::Relaxed) && is_of_a_proxy(peer.address, headers) && !self.told_of_proxy.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    target: "front", peer = peer.text,
                    "requests come through a proxy that is not in `trusted-proxies` under [server] in souk.toml: all its shoppers count as one, and limits by \
                     network count nobody. Is it yours, add its address there"
                );
            }
            return peer.text.clone();
        }
        forwarded_for(headers, &self.config.trusted_proxies).map_or_else(|| peer.text.clone(), |address| address.to_string())
    }

    fn locale_of(&self, site: &Site, headers: &HeaderMap) -> usize {
        if site.locales.len() == 1 {
            return 0;
        }
        let accept = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok());
        site.negotiate_locale(cookies(headers, LOCALE_COOKIE).next(), accept)
    }

    fn locale_in(&self, site: &Site, mount: &Mount, headers: &HeaderMap) -> usize {
        match mount.at {
            MountedAt::Locale(index) => index,
            MountedAt::Path | MountedAt::Bare => self.locale_of(site, headers),
        }
    }

    fn redirect_to_locale(&self, site: &Site, parts: &Parts) -> Result<Reply, Problem> {
        let prefix = &site.locales[self.locale_of(site, &parts.headers)].prefix;
        let path = if parts.uri.path() == "/" { "" } else { parts.uri.path() };
        // Another status would lose the method and body of a POST.
        let get = matches!(parts.method, Method::GET | Method::HEAD);
        let status = if get { StatusCode::FOUND } else { StatusCode::TEMPORARY_REDIRECT };
        let mut reply = redirect(status, &format!("{prefix}{path}"), parts.uri.query(), PRIVATE)?;
        reply.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-language, cookie"));
        Ok(reply)
    }

    async fn file(&self, site: &Site, parts: &Parts) -> Option<Reply> {
        let path = parts.uri.path();
        let (content_type, etag, cache_control, mut body, mut encoding, coded) = match path.strip_prefix("/media/") {
            Some(rest) => {
                let file = self.media.file(rest).await?;
                let versioned = parts.uri.query().is_some_and(|q| q.starts_with("v="));
                let cache_control = if versioned { FOR_EVER } else { HeaderValue::from_static("public, max-age=86400") };
                (file.content_type.clone(), file.etag.clone(), cache_control, file.body.clone(), None, false)
            }
            None => {
                let asset = site.asset(path)?;
                let accept = parts.headers.get(header::ACCEPT_ENCODING);
                let chosen = compress::choose(accept, &[Encoding::Brotli, Encoding::Gzip]);
                let coded = match chosen {
                    Some(Encoding::Brotli) => asset.brotli.clone(),
                    Some(Encoding::Gzip) => asset.gzip.clone(),
                    _ => None,
                };
                let encoding = chosen.filter(|_| coded.is_some());
                let body = coded.unwrap_or_else(|| asset.body.clone());
                (asset.content_type.clone(), asset.etag.clone(), FOR_EVER, body, encoding, asset.gzip.is_some())
            }
        };
        let tag = etag.to_str().unwrap_or("").trim_matches('"').to_owned();
        let mut headers = HeaderMap::with_capacity(10);
        let mut status = StatusCode::OK;
        if headers::none_match(&parts.headers, &tag) {
            status = StatusCode::NOT_MODIFIED;
            body = Bytes::new();
            encoding = None;
        } else {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        headers.insert(header::ETAG, etag_for(&tag, encoding));
        headers.insert(header::CACHE_CONTROL, cache_control);
        if coded {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, encoding.header());
        }
        self.security.add_to_file(&mut headers);
        if path.starts_with("/assets/") {
            // Pages in an origin of their own load modules and fonts so. The files are the same for everyone.
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        let mut reply = Response::new(Full::new(body));
        *reply.status_mut() = status;
        *reply.headers_mut() = headers;
        Some(if parts.method == Method::HEAD { without_body(reply) } else { reply })
    }

    /// An answer as it is sent, perhaps kept as a page.
    #[expect(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
    fn reply_with(
        &self,
        site: &Site,
        parts: &Parts,
        mount: &Mount,
        answer: Answer,
        key: Option<(page_cache::Key, u64)>,
        id: &HeaderValue,
        metrics: &Arc<RouteMetrics>,
    ) -> Result<Reply, Problem> {
        let SiteRoute { plugin, route, page, caches, .. } = &*mount.route;
        let Answer { response, session, shareable, replayed } = answer;
        let could_be_kept = key.is_some();
        let status = StatusCode::from_u16(response.status).ok().filter(|s| (200..600).contains(&s.as_u16())).ok_or_else(|| {
            tracing::warn!(target: "front", plugin = &**plugin, route = route.name, status = response.status, "the plugin answered with a status that is none");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "plugin-failed", "Something went wrong on our side.")
        })?;
        let answerer = Answerer { plugin, cookies: &page.cookies, cross_site_route: route.cross_site, https: self.https };
        let Cleaned { mut headers, sets_cookie, dropped } = headers::cleaned(answerer, &response.headers);
        for reason in dropped {
            tracing::warn!(target: "front", plugin = &**plugin, route = route.name, request = id.to_str().unwrap_or(""), "header dropped: {reason}");
        }
        let leads_elsewhere = match headers.get(header::LOCATION) {
            Some(location) => self.checked_location(site, parts, mount, location, status, id)?,
            None => None,
        };
        let (mut status, mut body) = (status, Bytes::from(response.body));
        if let Some((origin, url)) = &leads_elsewhere {
            headers.remove(header::LOCATION);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            (status, body) = (StatusCode::OK, browser::leaving_page(&site.locales[self.locale_in(site, mount, &parts.headers)], origin, url).into());
        }
        if status.as_u16() >= 400 && body.is_empty() {
            let (content_type, filled) = Problem::of_status(status).render(accepts_html(&parts.headers), id.to_str().unwrap_or(""));
            headers.insert(header::CONTENT_TYPE, content_type);
            body = filled;
        }
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RESET_CONTENT);
        if bodiless {
            body = Bytes::new();
        } else if !body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        let changes_cookies = sets_cookie || session != SessionChange::Keep;
        match &session {
            SessionChange::Keep => {}
            SessionChange::Set(id) => match self.sessions.set(id) {
                Some(cookie) => _ = headers.append(header::SET_COOKIE, cookie),
                None => tracing::error!(target: "front", "the runtime made a session id of the wrong form"),
            },
            SessionChange::Clear => _ = headers.append(header::SET_COOKIE, self.sessions.clear()),
        }
        if replayed {
            headers.insert(HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));
        }
        let shared = shareable && leads_elsewhere.is_none() && !route.secret_path && !changes_cookies && status == StatusCode::OK && may_be_shared(&parts.method, &parts.headers);
        let varies = !headers.get_all(header::VARY).iter().all(|v| v.as_bytes().eq_ignore_ascii_case(b"accept-encoding"));
        let coded_by_plugin = headers.contains_key(header::CONTENT_ENCODING);
        let policy = response.cache.filter(|p| shared && !varies && !coded_by_plugin && p.ttl_s > 0);
        match &policy {
            Some(_) => _ = headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=0, must-revalidate")),
            // Whoever said `public` about a personal page was wrong.
            None if shared && headers.contains_key(header::CACHE_CONTROL) => {
                let bounded = headers::bounded_cache_control(&headers[header::CACHE_CONTROL]);
                headers.insert(header::CACHE_CONTROL, bounded);
            }
            None if route.secret_path => _ = headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            None => {
                let none = headers.get(header::CACHE_CONTROL).is_some_and(|v| v.as_bytes().windows(8).any(|w| w.eq_ignore_ascii_case(b"no-store")));
                headers.insert(header::CACHE_CONTROL, if none { HeaderValue::from_static("no-store") } else { PRIVATE });
            }
        }
        let compressible = !coded_by_plugin
            && body.len() >= compress::BYTES_MIN
            && headers.get(header::CONTENT_TYPE).is_some_and(compress::is_compressible);
        if policy.is_some() && mount.at == MountedAt::Path && site.locales.len() > 1 {
            headers.append(header::VARY, HeaderValue::from_static("accept-language, cookie"));
        }
        if compressible && !varies {
            headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        let policy_of_page = page.policy.get_or_init(|| self.security.page_policy(page));
        self.security.add_to_answer(&mut headers, policy_of_page, page, route.secret_path);
        // Not for what fits into a packet anyway, unless it is kept and so hashed once.
        let worth_a_tag = policy.is_some() || body.len() >= compress::BYTES_MIN;
        let tag = if shared && worth_a_tag && !headers.contains_key(header::ETAG) {
            // Tells versions of one page apart; nothing is trusted for it.
            let tag = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&body));
            headers.insert(header::ETAG, etag_for(&tag, None));
            Some(tag)
        } else {
            None
        };

        if let (Some((key, epoch)), Some(policy), Some(tag)) = (key, policy, &tag) {
            let page = Page::new(headers, body, tag.clone(), compressible, metrics.clone());
            let reply = page.reply(&parts.method, &parts.headers);
            let bytes = page.bytes() + key.target.len();
            let expires = Instant::now() + Duration::from_secs(policy.ttl_s.into());
            let entry = page_cache::Entry { page, bytes, tags: policy.tags, expires, generation: site.generation };
            if self.pages.put(key, entry, epoch) {
                self.metrics.pages_kept.fetch_add(1, Ordering::Relaxed);
                caches.store(true, Ordering::Relaxed);
            }
            return Ok(reply);
        }
        if could_be_kept {
            caches.store(false, Ordering::Relaxed);
        }

        if let Some(tag) = tag
            && headers::none_match(&parts.headers, &tag)
        {
            return Ok(not_modified(&headers));
        }
        if compressible {
            let chosen = compress::choose(parts.headers.get(header::ACCEPT_ENCODING), &[Encoding::Zstd, Encoding::Gzip, Encoding::Brotli]);
            if let Some(encoding) = chosen
                && let Some(coded) = compress::fast(encoding, &body)
            {
                set_encoding(&mut headers, encoding);
                body = coded;
            }
        }
        let mut reply = Response::new(Full::new(body));
        *reply.status_mut() = status;
        *reply.headers_mut() = headers;
        Ok(if parts.method == Method::HEAD { without_body(reply) } else { reply })
    }

    /// Whether a redirect of a plugin may be sent as it is. Where it leads to a site
    /// that the operator has not listed, a person is asked first. A request that a
    /// browser sends again, with its body and session, stays with the plugin: it could
    /// not have had a form lead to another's route either.
    fn checked_location(&self, site: &Site, parts: &Parts, mount: &Mount, location: &HeaderValue, status: StatusCode, id: &HeaderValue) -> Result<Option<(String, String)>, Problem> {
        let host = parts.uri.authority().map(|authority| authority.as_str()).or(parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()));
        let (target, host) = (location.to_str().unwrap_or(""), host.unwrap_or(""));
        let destination = self.destinations.of(target, host);
        let SiteRoute { plugin, route, .. } = &*mount.route;
        let (plugin, request) = (&**plugin, id.to_str().unwrap_or(""));
        let is_own = |path: String| matches!(site.find(&parts.method, &path), Found::Mount(mount, _) if &*mount.route.plugin == plugin);
        match destination {
            Destination::Allowed
                if headers::sends_again(status, &parts.method)
                    && !self.destinations.path_in_shop(target, parts.uri.path(), host).is_none_or(is_own) =>
            {
                tracing::warn!(target: "front", plugin, route = route.name, request, ?location, "a redirect that would send the request again, to what is no route of the plugin for this method: answer 303, which leads to a page");
                Err(Problem::new(
                    StatusCode::BAD_GATEWAY,
                    "redirect-refused",
                    "What was asked for is done, but the answer would send it again to another part of this shop.",
                ))
            }
            Destination::Allowed => Ok(None),
            Destination::Elsewhere { origin, url } if status.is_redirection() && accepts_html(&parts.headers) => {
                tracing::warn!(target: "front", plugin, route = route.name, request, origin, "a redirect to another site, before which the shopper is asked: list it in server.form-action-origins to have it followed");
                Ok(Some((origin, url)))
            }
            _ => {
                tracing::warn!(target: "front", plugin, route = route.name, request, ?location, "a redirect that is not followed");
                Err(Problem::new(
                    StatusCode::BAD_GATEWAY,
                    "redirect-refused",
                    "What was asked for is done, but the answer leads to another site, which this shop does not list.",
                ))
            }
        }
    }

    /// The first to ask for a page renders it; others wait for it a while.
    async fn join_flight(&self, key: &page_cache::Key) -> Flight<'_, A> {
        let mut landing = {
            let mut flights = self.flights.lock();
            match flights.get(key) {
                Some(landing) => landing.clone(),
                None => {
                    let (sender, landing) = watch::channel(());
                    flights.insert(key.clone(), landing);
                    return Flight::Mine(FlightGuard { front: self, key: key.clone(), _sender: sender });
                }
            }
        };
        // Ends when the sender is dropped, however the rendering ended.
        let _ = tokio::time::timeout(FLIGHT_WAIT, landing.changed()).await;
        Flight::Landed
    }
}

enum Flight<'a, A> {
    Mine(FlightGuard<'a, A>),
    Landed,
}

struct FlightGuard<'a, A> {
    front: &'a Front<A>,
    key: page_cache::Key,
    _sender: watch::Sender<()>,
}

impl<A> Drop for FlightGuard<'_, A> {
    fn drop(&mut self) {
        self.front.flights.lock().remove(&self.key);
    }
}

impl Page {
    fn new(mut headers: HeaderMap, body: Bytes, tag: String, compressible: bool, metrics: Arc<RouteMetrics>) -> Page {
        // A place for each request's own, so that no copy has to grow.
        headers.insert(REQUEST_ID, HeaderValue::from_static("none"));
        let mut not_modified = std::mem::take(not_modified(&headers).headers_mut());
        not_modified.insert(REQUEST_ID, HeaderValue::from_static("none"));
        Page { plain: Variant { headers, body }, gzip: OnceLock::new(), brotli: OnceLock::new(), not_modified, tag, compressible, metrics }
    }

    /// With room for the codings that may be made later.
    fn bytes(&self) -> usize {
        let headers = self.plain.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 100).sum::<usize>();
        self.plain.body.len() * if self.compressible { 2 } else { 1 } + headers * if self.compressible { 4 } else { 2 }
    }

    fn variant(&self, accept_encoding: Option<&HeaderValue>) -> &Variant {
        if !self.compressible {
            return &self.plain;
        }
        let Some(encoding) = compress::choose(accept_encoding, &[Encoding::Brotli, Encoding::Gzip]) else { return &self.plain };
        let slot = if encoding == Encoding::Brotli { &self.brotli } else { &self.gzip };
        let made = slot.get_or_init(|| {
            let body = compress::once(encoding, &self.plain.body)?;
            let mut headers = self.plain.headers.clone();
            set_encoding(&mut headers, encoding);
            Some(Variant { headers, body })
        });
        made.as_ref().unwrap_or(&self.plain)
    }

    fn reply(&self, method: &Method, request: &HeaderMap) -> Reply {
        if request.contains_key(header::IF_NONE_MATCH) && headers::none_match(request, &self.tag) {
            let mut reply = Response::new(Full::default());
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
            *reply.headers_mut() = self.not_modified.clone();
            return reply;
        }
        let variant = self.variant(request.get(header::ACCEPT_ENCODING));
        let mut reply = Response::new(Full::new(variant.body.clone()));
        *reply.headers_mut() = variant.headers.clone();
        if method == Method::HEAD { without_body(reply) } else { reply }
    }
}

/// Requests whose answers may go to, and come from, everyone.
fn may_be_shared(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && !headers.contains_key(header::AUTHORIZATION)
}

/// Whether a version on trial has this request: it is told as the unit tells it.
fn is_canarys(site: &Site, session: Option<&SessionId>, id: &HeaderValue) -> bool {
    canary_has(site.canary_percent, session.map_or_else(|| id.to_str().unwrap_or(""), |session| &session.0))
}

fn page_key(site: &Site, parts: &Parts, mount: &Mount, call: &Call) -> Option<page_cache::Key> {
    let target = parts.uri.path_and_query()?.as_str();
    if !may_be_shared(&parts.method, &parts.headers) || !call.request.body.is_empty() || target.len() > page_cache::KEY_BYTES_MAX {
        return None;
    }
    let locale = match mount.at {
        MountedAt::Locale(_) | MountedAt::Bare => None,
        MountedAt::Path => site.locales.iter().position(|l| l.tag == call.request.locale).map(|i| i as u16),
    };
    Some(page_cache::Key { target: target.into(), locale })
}

/// RFC 9112 section 3.2, RFC 9113 section 8.3.1: a second host, or another than
/// in the request line, is a smuggling attempt.
fn has_bad_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let required = request.version() == Version::HTTP_11;
    second.is_some()
        || match (host, request.uri().authority()) {
            (Some(host), Some(authority)) => !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()),
            (None, _) => required,
            (Some(_), None) => false,
        }
}

/// What the first proxy that is trusted saw. Each adds whom it saw at the end: what
/// stands before the last one that is no trusted proxy anybody can write.
fn forwarded_for(headers: &HeaderMap, trusted: &[IpAddr]) -> Option<IpAddr> {
    let hops = headers.get_all("x-forwarded-for").iter().rev().filter_map(|value| value.to_str().ok()).flat_map(|value| value.rsplit(','));
    let mut last = None;
    for hop in hops {
        last = address_of(hop.trim());
        if !last.is_some_and(|address| trusted.contains(&address)) {
            break;
        }
    }
    last
}

/// Some proxies write the port as well, and brackets around an address of version 6.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Strangers can write such a header, too, but not from an address within.
fn is_of_a_proxy(peer: IpAddr, headers: &HeaderMap) -> bool {
    is_private(peer) && headers.contains_key("x-forwarded-for")
}

/// A key counts for the clients that have the same secret: a credential, else the session.
/// A guest who has neither has the key alone, so that must be one. The address is
/// none: it is everybody's in a household, and another after a change of networks.
fn idempotency(parts: &Parts, body: &[u8], session: Option<&SessionId>, credentials: Option<&[u8]>) -> Result<Option<Idempotency>, Problem> {
    let mut keys = parts.headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let valid = key.to_str().ok().filter(|k| (1..=255).contains(&k.len()) && k.bytes().all(|b| b.is_ascii_graphic()) && keys.next().is_none());
    let Some(key) = valid else {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "idempotency-key",
            "Idempotency-Key must come once and have 1 to 255 visible ASCII characters.",
        ));
    };
    if session.is_none() && credentials.is_none() && !is_hard_to_guess(key) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "idempotency-key",
            format!(
                "Without a session or Authorization nothing but the Idempotency-Key tells clients apart: give one that nobody guesses, such as a \
                 random UUID (at least {GUEST_KEY_BYTES_MIN} characters, {GUEST_KEY_KINDS_MIN} of them different)."
            ),
        ));
    }
    let scope = credentials.map_or_else(|| GUEST.to_owned(), |credentials| format!("caller:{}", sha256_hex(credentials)));
    let content_type = parts.headers.get(header::CONTENT_TYPE).map(|v| v.as_bytes()).unwrap_or_default();
    let target = parts.uri.path_and_query().map(|t| t.as_str()).unwrap_or("");
    let mut hash = Sha256::new();
    for part in [parts.method.as_str().as_bytes(), target.as_bytes(), content_type, body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Ok(Some(Idempotency { key: key.to_owned(), scope, fingerprint: hash.finalize().into() }))
}

fn too_much_kept(retry_after_s: u64) -> Problem {
    let detail = "Of requests with an Idempotency-Key that come from your network no more answers can be kept today. Nothing was changed. \
                  Wait, or send the request without the key, if it may be carried out twice.";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "idempotency-limit", detail).with(header::RETRY_AFTER, HeaderValue::from(retry_after_s))
}

/// Chance cannot be seen in a key; what cannot have come of it can.
const GUEST_KEY_BYTES_MIN: usize = 20;
const GUEST_KEY_KINDS_MIN: usize = 8;

fn is_hard_to_guess(key: &str) -> bool {
    let kinds: std::collections::BTreeSet<u8> = key.bytes().collect();
    key.len() >= GUEST_KEY_BYTES_MIN && kinds.len() >= GUEST_KEY_KINDS_MIN
}

fn etag_for(tag: &str, encoding: Option<Encoding>) -> HeaderValue {
    let suffix = match encoding {
        None => "",
        Some(Encoding::Gzip) => "-gzip",
        Some(Encoding::Brotli) => "-br",
        Some(Encoding::Zstd) => "-zstd",
    };
    HeaderValue::from_str(&format!("\"{tag}{suffix}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Strong tags name bytes, and coded bytes are others.
fn set_encoding(headers: &mut HeaderMap, encoding: Encoding) {
    headers.insert(header::CONTENT_ENCODING, encoding.header());
    let etag = headers.get(header::ETAG).and_then(|v| v.to_str().ok()).map(|v| v.to_owned());
    if let Some(tag) = etag.as_deref().and_then(|e| e.strip_prefix('"')?.strip_suffix('"')) {
        headers.insert(header::ETAG, etag_for(tag, Some(encoding)));
    }
}

fn not_modified(of: &HeaderMap) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::NOT_MODIFIED;
    for name in [header::ETAG, header::CACHE_CONTROL] {
        if let Some(value) = of.get(&name) {
            reply.headers_mut().insert(name, value.clone());
        }
    }
    for value in of.get_all(header::VARY) {
        reply.headers_mut().append(header::VARY, value.clone());
    }
    reply
}

/// The answer to HEAD, with the length that GET would have.
fn without_body(reply: Reply) -> Reply {
    let (mut parts, body) = reply.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Full::default())
}

/// Within the shop: `path` is one that [`is_unambiguous`].
fn redirect(status: StatusCode, path: &str, query: Option<&str>, kept: HeaderValue) -> Result<Reply, Problem> {
    let location = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let location = HeaderValue::from_str(&location).map_err(|_| not_found())?;
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::LOCATION, location);
    reply.headers_mut().insert(header::CACHE_CONTROL, kept);
    Ok(reply)
}

fn cross_site() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "cross-site", "This was sent from another site, or by a program with a browser's session, and is not accepted.")
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here.")
}

fn method_not_allowed(allow: HeaderValue) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This path does not take that method.").with(header::ALLOW, allow)
}

/// `X-Request-Id` of the client where it is a plain token, else a number of
/// this process behind a random prefix.
struct RequestIds {
    prefix: [u8; 8],
    next: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let mut prefix = [0; 8];
        // Without randomness ids only repeat across restarts: no reason to fail.
        let _ = getrandom::fill(&mut prefix);
        Self { prefix: prefix.map(base32), next: AtomicU64::new(1) }
    }

    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(given) = headers.get(REQUEST_ID) {
            let token = given.as_bytes();
            if (8..=64).contains(&token.len()) && token.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b)) {
                return given.clone();
            }
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.prefix);
        for (i, byte) in id[8..].iter_mut().enumerate() {
            *byte = base32((number >> (35 - 5 * i)) as u8);
        }
        HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("none"))
    }
}

fn base32(bits: u8) -> u8 {
    b"0123456789abcdefghjkmnpqrstvwxyz"[usize::from(bits & 31)]
}
