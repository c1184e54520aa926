//! HTTP to hosts on a plugin's allow-list.
//!
//! Addresses are checked where the connection is made, not where the name is
//! written: whatever a name resolves to, now or a moment later, a private
//! address is not connected to. `shop.internal` is this shop's own listener and
//! the one exception.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host as UrlHost, Url};

use crate::chance::Chance;
use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::http_client::Host;
use crate::engine::bindings::souk::host::http_client::{Error, Request, Response};
use crate::front::{ORIGIN, Origin};
use crate::shop::powers::PowerKind;

pub const OWN_NAME: &str = "shop.internal";
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
const RESPONSE_BYTES_MAX: usize = 4 << 20;
const REQUEST_BYTES_MAX: usize = 4 << 20;
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 64 << 10;
const METHOD_BYTES_MAX: usize = 32;
const URL_BYTES_MAX: usize = 8 << 10;
/// Set by the client itself, or belonging to one hop.
const HEADERS_OF_THE_CLIENT: [&str; 10] =
    [ORIGIN, "host", "content-length", "connection", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "proxy-authorization"];
/// For whom a proxy speaks: no plugin is one in front of its own shop.
fn is_of_a_proxy(header: &str) -> bool {
    matches!(header, "forwarded" | "x-real-ip") || header.starts_with("x-forwarded-")
}

pub struct HttpClient {
    /// By which requests of plugins to their own shop are known.
    own_token: String,
    outside: reqwest::Client,
    own: OnceLock<Own>,
}

/// How `shop.internal` is reached.
enum Own {
    /// Connects to our own listener whatever the name.
    Listener(reqwest::Client, SocketAddr),
    /// Not over a network at all.
    Simulated(Exchange),
}

/// What a simulation has in place of a network.
pub type Exchange = Box<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>> + Send + Sync>;

impl HttpClient {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { own_token: Chance::default().id(), outside: builder()?.dns_resolver(Arc::new(PublicOnly)).build()?, own: OnceLock::new() })
    }

    /// Where `shop.internal` leads: our plain listener.
    pub fn set_own_address(&self, address: SocketAddr) -> anyhow::Result<()> {
        let reachable = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let address = SocketAddr::new(reachable, address.port());
        let client = builder()?.resolve(OWN_NAME, address).build()?;
        let _ = self.own.set(Own::Listener(client, address));
        Ok(())
    }

    fn origin_header(&self, origin: &Origin) -> String {
        format!("{} {} {}", self.own_token, origin.depth, origin.plugin)
    }

    /// What [`Self::origin_header`] has written, by this process.
    pub fn origin(&self, header: &str) -> Option<Origin> {
        let rest = header.strip_prefix(&self.own_token)?.strip_prefix(' ')?;
        let (depth, plugin) = rest.split_once(' ')?;
        Some(Origin { plugin: plugin.into(), depth: depth.parse().ok()? })
    }

    /// `shop.internal` leads there instead.
    pub fn simulate_own(&self, exchange: Exchange) {
        let _ = self.own.set(Own::Simulated(exchange));
    }

    /// What was [`Checked`]. `origin` is what a request to the shop itself comes from.
    async fn fetch(&self, Checked { mut url, method, mut headers }: Checked, request: Request, origin: &Origin) -> Result<Response, Error> {
        let client = if url.host_str() == Some(OWN_NAME) {
            match self.own.get().ok_or_else(|| Error::Failed("the shop is not listening".into()))? {
                Own::Simulated(exchange) => return exchange(request).await,
                Own::Listener(client, address) => {
                    url.set_port(Some(address.port())).map_err(|()| Error::Invalid("url: no port can be set".into()))?;
                    let origin = http::HeaderValue::from_str(&self.origin_header(origin)).map_err(|_| Error::Invalid("url".into()))?;
                    headers.insert(ORIGIN, origin);
                    client
                }
            }
        } else {
            &self.outside
        };
        let timeout = match request.timeout_ms {
            0 => TIMEOUT_DEFAULT,
            ms => Duration::from_millis(ms.into()).min(TIMEOUT_MAX),
        };
        let exchange = async {
            let mut response = client.request(method, url).headers(headers).body(request.body).send().await.map_err(failed)?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(failed)? {
                if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
                    return Err(Error::TooLarge);
                }
                body.extend_from_slice(&chunk);
            }
            let headers = response.headers().iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
            Ok(Response { status: response.status().as_u16(), headers: headers.collect(), body })
        };
        tokio::time::timeout(timeout, exchange).await.map_err(|_| Error::Timeout)?
    }
}

/// A request that a plugin may send.
struct Checked {
    url: Url,
    method: reqwest::Method,
    headers: http::HeaderMap,
}

impl Checked {
    /// Nothing of what is refused is kept or sent.
    fn of(allowed: &std::collections::BTreeSet<String>, request: &Request) -> Result<Self, Error> {
        let header_bytes: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        for (what, size, max) in [
            ("bytes of url", request.url.len(), URL_BYTES_MAX),
            ("bytes of method", request.method.len(), METHOD_BYTES_MAX),
            ("headers", request.headers.len(), HEADERS_MAX),
            ("bytes of headers", header_bytes, HEADER_BYTES_MAX),
            ("bytes of body", request.body.len(), REQUEST_BYTES_MAX),
        ] {
            if size > max {
                return Err(Error::Invalid(format!("{size} {what}; at most {max}")));
            }
        }
        let url = Url::parse(&request.url).map_err(|error| Error::Invalid(format!("url: {error}")))?;
        check(allowed, &url)?;
        let method = reqwest::Method::from_bytes(request.method.as_bytes()).map_err(|_| Error::Invalid(format!("method `{}`", request.method)))?;
        let mut headers = http::HeaderMap::new();
        for (name, value) in &request.headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Invalid(format!("header name `{}`", name.escape_debug())))?;
            if HEADERS_OF_THE_CLIENT.contains(&name.as_str()) {
                return Err(Error::Invalid(format!("the header `{name}` is set by the host")));
            }
            if url.host_str() == Some(OWN_NAME) && is_of_a_proxy(name.as_str()) {
                return Err(Error::Invalid(format!("the header `{name}` is a proxy's: leave it out of requests to {OWN_NAME}")));
            }
            let value = http::HeaderValue::from_str(value).map_err(|_| Error::Invalid(format!("value of header `{name}`")))?;
            headers.append(name, value);
        }
        Ok(Self { url, method, headers })
    }
}

fn builder() -> anyhow::Result<reqwest::ClientBuilder> {
    use rustls_platform_verifier::ConfigVerifierExt as _;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls = rustls::ClientConfig::with_platform_verifier()?;
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(Duration::from_secs(10))
        .pool_max_idle_per_host(16))
}

fn failed(error: reqwest::Error) -> Error {
    if error.is_timeout() {
        return Error::Timeout;
    }
    let error = error.without_url();
    // What it says itself is only that it failed.
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    Error::Failed(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

/// Scheme, host and port against the allow-list; userinfo is never needed.
fn check(allowed: &std::collections::BTreeSet<String>, url: &Url) -> Result<(), Error> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Invalid("url: user and password do not belong there".into()));
    }
    let host = url.host_str().ok_or_else(|| Error::Invalid("url: a host is missing".into()))?.to_ascii_lowercase();
    if let Some(UrlHost::Ipv4(ip)) = url.host()
        && !is_public(ip.into())
    {
        return Err(Error::NotGranted(format!("{ip} is a private address")));
    }
    if let Some(UrlHost::Ipv6(ip)) = url.host()
        && !is_public(ip.into())
    {
        return Err(Error::NotGranted(format!("{ip} is a private address")));
    }
    let own = host == OWN_NAME;
    let grants = |entry: &String| {
        let (plain, entry) = match entry.strip_prefix("http://") {
            Some(rest) => (true, rest),
            None => (false, entry.as_str()),
        };
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if !entry.ends_with(']') => (name, port.parse::<u16>().ok()),
            _ => (entry, None),
        };
        let name_fits = match name.strip_prefix("*.") {
            Some(parent) => host.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => host == name.to_ascii_lowercase(),
        };
        let scheme_fits = match url.scheme() {
            "https" => !own,
            "http" => plain || own,
            _ => false,
        };
        let port_fits = own && url.port().is_none() || port.or(if plain { Some(80) } else { Some(443) }) == url.port_or_known_default();
        name_fits && scheme_fits && port_fits
    };
    if allowed.iter().any(grants) {
        return Ok(());
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let scheme = if url.scheme() == "http" && !own { "http://" } else { "" };
    Err(Error::NotGranted(format!("{host} is not on the plugin's allow-list: add \"{scheme}{host}{port}\" to [http] hosts in its manifest")))
}

/// Addresses of the public internet, by the registries of special-purpose ones.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || ip.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (b == 18 || b == 19)))
        }
        IpAddr::V6(ip) => {
            let s = ip.segments();
            // Only 2000::/3 is handed out; of it, not what wraps other addresses.
            (s[0] & 0xe000) == 0x2000
                && !(s[0] == 0x2001 && s[1] < 0x0200) // Teredo, ORCHID, benchmarking
                && !(s[0] == 0x2001 && s[1] == 0x0db8)
                && s[0] != 0x2002 // 6to4
                && !(s[0] == 0x3fff && s[1] < 0x1000)
        }
    }
}

/// Resolves names to public addresses only, at the moment of connecting.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let all: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = all.iter().copied().filter(|address| is_public(address.ip())).collect();
            if public.is_empty() && !all.is_empty() {
                return Err(format!("{} leads to a private address", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

impl Host for GuestState {
    async fn fetch(&mut self, caller: Caller, request: Request) -> Result<Response, Error> {
        let (recorded, origin) = {
            let mut unit = self.unit.lock();
            if unit.wrote() {
                return Err(Error::AfterWrite);
            }
            if let Some(answer) = unit.fetch_replay(caller.name(), &request) {
                return answer;
            }
            unit.fetch_allowed(caller.name()).map_err(Error::Quota)?;
            let origin = match &unit.origin {
                Some(Origin { plugin, depth }) => Origin { plugin: plugin.clone(), depth: depth + 1 },
                None => Origin { plugin: caller.name().into(), depth: 1 },
            };
            (unit.rehearsal.as_mut().map(|rehearsal| rehearsal.answer(&request)), origin)
        };
        let answer = match (Checked::of(&caller.manifest.http.hosts, &request), recorded) {
            (Err(refused), _) => {
                let refused = Err(or_denied(refused, &caller, &request));
                if let Some(rehearsal) = &mut self.unit.lock().rehearsal {
                    rehearsal.fetched(&request, &refused);
                }
                return refused;
            }
            // Asked for what a shop would ask for, too.
            (Ok(_), Some(answer)) => answer,
            (Ok(checked), None) => self.waits(self.services.http.fetch(checked, request.clone(), &origin)).await,
        };
        let mut unit = self.unit.lock();
        if let Some(rehearsal) = &mut unit.rehearsal {
            rehearsal.fetched(&request, &answer);
        }
        unit.fetch_record(caller.name(), &request, answer.clone());
        answer
    }
}

/// Says so where the operator, and not the manifest, stands against it.
fn or_denied(refused: Error, caller: &Caller, request: &Request) -> Error {
    let Error::NotGranted(_) = &refused else { return refused };
    let denied = caller.denied.iter().filter(|power| power.kind == PowerKind::Http).map(|power| power.subject.clone()).collect();
    match Url::parse(&request.url) {
        Ok(url) if check(&denied, &url).is_ok() => {
            Error::NotGranted(format!("{} was asked for and denied by the operator (`souk plugin grant {}`)", request.url, caller.name()))
        }
        _ => refused,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn verdict(allowed: &[&str], url: &str) -> bool {
        let allowed: BTreeSet<String> = allowed.iter().map(|s| (*s).to_owned()).collect();
        check(&allowed, &Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn only_what_is_listed_is_allowed() {
        for (allowed, url, expected) in [
            (&["api.example.com"][..], "https://api.example.com/x", true),
            (&["api.example.com"], "http://api.example.com/x", false),
            (&["http://api.example.com"], "http://api.example.com/x", true),
            (&["api.example.com"], "https://api.example.com:8443/x", false),
            (&["api.example.com:8443"], "https://api.example.com:8443/x", true),
            (&["*.example.com"], "https://a.b.example.com/", true),
            (&["*.example.com"], "https://example.com/", false),
            (&["*.example.com"], "https://badexample.com/", false),
            (&["api.example.com"], "https://api.example.com@evil.net/", false),
            (&["api.example.com"], "https://user:pw@api.example.com/", false),
            (&["api.example.com"], "https://API.Example.com/", true),
            (&["127.0.0.1"], "https://127.0.0.1/", false),
            (&["0x7f.1"], "https://0x7f.1/", false),
            (&["[::ffff:127.0.0.1]"], "https://[::ffff:127.0.0.1]/", false),
            (&["shop.internal"], "http://shop.internal/notify", true),
            (&[], "http://shop.internal/notify", false),
        ] {
            assert_eq!(verdict(allowed, url), expected, "{allowed:?} {url}");
        }
    }

    #[test]
    fn nothing_is_said_to_the_shop_itself_in_the_name_of_a_proxy() {
        let allowed = BTreeSet::from(["shop.internal".to_owned(), "api.example.com".to_owned()]);
        let checked = |url: &str, header: &str| {
            let headers = vec![(header.to_owned(), "203.0.113.7".to_owned())];
            Checked::of(&allowed, &Request { method: "GET".into(), url: url.into(), headers, body: vec![], timeout_ms: 0 })
        };
        for header in ["X-Forwarded-For", "x-forwarded-host", "Forwarded", "X-Real-IP"] {
            let Err(Error::Invalid(refused)) = checked("http://SHOP.internal/notify", header) else { panic!("{header}") };
            assert!(refused.contains(&header.to_ascii_lowercase()), "{refused}");
            assert!(checked("https://api.example.com/", header).is_ok(), "{header}");
        }
        assert!(checked("http://shop.internal/notify", "accept").is_ok());
    }

    #[test]
    fn special_purpose_addresses_are_not_public() {
        for ip in [
            "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
            "198.18.0.1", "192.0.0.8", "::1", "::", "::ffff:10.0.0.1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::a00:1", "2002:a00:1::",
            "2001:db8::1", "2001:0:1::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["1.1.1.1", "203.0.114.1", "2606:4700::1111", "2400:3200::1"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_when_connecting() {
        let client = HttpClient::new().unwrap();
        let request = Request { method: "GET".into(), url: "http://localhost:1/".into(), headers: vec![], body: vec![], timeout_ms: 1_000 };
        let allowed = BTreeSet::from(["http://localhost:1".to_owned()]);
        let checked = Checked::of(&allowed, &request).unwrap();
        let Err(Error::Failed(why)) = client.fetch(checked, request, &Origin { plugin: "guest".into(), depth: 1 }).await else { panic!("it must not connect") };
        assert!(why.contains("private address"), "{why}");
    }

    fn request(headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Request { method: "GET".into(), url: "https://example.com/".into(), headers, body: vec![], timeout_ms: 1_000 }
    }

    fn is_invalid(request: &Request) -> bool {
        matches!(Checked::of(&BTreeSet::from(["example.com".to_owned()]), request), Err(Error::Invalid(_)))
    }

    #[test]
    fn header_injection_and_the_clients_own_headers_are_refused() {
        for header in [("x", "a\r\nb: c"), ("x\r\ny", "a"), ("Host", "evil.net"), ("Transfer-Encoding", "chunked")] {
            assert!(is_invalid(&request(&[header])), "{header:?}");
        }
    }

    #[test]
    fn every_part_of_a_request_has_a_bound() {
        assert!(!is_invalid(&request(&[("x", "a")])));
        assert!(is_invalid(&Request { method: "X".repeat(METHOD_BYTES_MAX + 1), ..request(&[]) }));
        assert!(is_invalid(&Request { url: format!("https://example.com/{}", "a".repeat(URL_BYTES_MAX)), ..request(&[]) }));
        assert!(is_invalid(&Request { body: vec![0; REQUEST_BYTES_MAX + 1], ..request(&[]) }));
        assert!(is_invalid(&request(&[("x", "a"); HEADERS_MAX + 1])));
        assert!(is_invalid(&request(&[("x", &"a".repeat(HEADER_BYTES_MAX))])));
    }
}
