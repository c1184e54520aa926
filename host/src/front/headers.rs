//! Headers: the host's own for security, and what plugins may see and set.
//!
//! All pages of a shop share one origin, so what a plugin says of its own page
//! could reach all others, and outlive it in shoppers' browsers and in caches.
//! So its headers are a list of what may pass ([`cleaned`]), and the policy of
//! its pages ([`SecurityHeaders::page_policy`]) gives them what the operator
//! granted: scripts of the plugin's own files or none, forms to its own routes.

use std::collections::BTreeSet;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;

use super::routes::SitePage;
use crate::front::config::ServerConfig;
use crate::shop::manifest::Scripts;

const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Scripts in a file opened on its own must not run as the shop.
const FILE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";
/// Also for the host's own pages, which need nothing.
const DATA_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// All but scripts, and what a page does by itself: `<meta http-equiv=refresh>` would
/// leave the shop unasked.
const NO_SCRIPTS: &str = "sandbox allow-same-origin allow-forms allow-popups allow-popups-to-escape-sandbox allow-downloads allow-top-navigation-by-user-activation; ";
/// Of an answer that a plugin lets caches keep: it may be gone by then.
const MAX_AGE_S: u32 = 3_600;
const REFRESH_S_MAX: u32 = 86_400;
const COOKIE_BYTES_MAX: usize = 512;
const COOKIE_AGE_MAX: cookie::time::Duration = cookie::time::Duration::days(30);

/// The same for every answer, made once.
pub struct SecurityHeaders {
    /// Where forms may lead besides the shop, each behind a space.
    forms: String,
    /// Where pictures may come from, alike.
    images: String,
    https: bool,
}

impl SecurityHeaders {
    pub fn new(config: &ServerConfig, https: bool) -> Self {
        let joined = |origins: &[String]| origins.iter().map(|origin| format!(" {origin}")).collect::<String>();
        Self { forms: joined(&config.form_action_origins), images: joined(&config.image_origins), https }
    }

    /// Of a plugin's pages. The second policy narrows `'self'` to the plugin's own
    /// paths: a source with a path needs a host, and only the client knows by which
    /// name it reached the shop.
    pub fn page_policy(&self, page: &SitePage) -> HeaderValue {
        let (scripts, own_scripts) = match page.scripts {
            Scripts::None => (NO_SCRIPTS, String::new()),
            Scripts::Sandboxed => ("script-src 'self'; connect-src 'self'; sandbox allow-scripts allow-forms; ", own_scripts(&page.plugin)),
            Scripts::Shop => ("script-src 'self'; connect-src 'self'; manifest-src 'self'; ", own_scripts(&page.plugin)),
        };
        let Self { forms, images, .. } = self;
        let own_forms: String = page.forms.iter().map(|path| format!(" *:*{path}")).collect();
        let no_forms = if own_forms.is_empty() && forms.is_empty() { " 'none'" } else { "" };
        let policy = format!(
            "default-src 'none'; img-src 'self' data:{images}; style-src 'self'; font-src 'self'; media-src 'self'; {scripts}\
             worker-src 'none'; base-uri 'none'; form-action 'self'{forms}; frame-ancestors 'none', \
             {own_scripts}form-action{no_forms}{own_forms}{forms}"
        );
        // `ServerConfig::problems` has seen that the origins fit into a header.
        HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(DATA_POLICY))
    }

    /// For what the host says itself, and data.
    pub fn add(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DATA_POLICY));
        self.add_everywhere(headers);
        self.add_to_document(headers, false);
    }

    /// For a plugin's answer. Whatever is no page gets the policy of data: it is
    /// for the content type to show that it is one.
    pub fn add_to_answer(&self, headers: &mut HeaderMap, policy: &HeaderValue, page: &SitePage, secret_path: bool) {
        self.add_everywhere(headers);
        let is_page = headers.get(header::CONTENT_TYPE).is_some_and(|kind| essence_is(kind, "text/html"));
        if !is_page {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DATA_POLICY));
            if secret_path {
                headers.insert(header::REFERRER_POLICY, NO_REFERRER);
            }
            return;
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        self.add_to_document(headers, secret_path);
        // Browsers refuse a page that has both a sandbox and a group of windows of its own.
        if page.scripts != Scripts::Shop {
            headers.remove("cross-origin-opener-policy");
        }
    }

    /// For assets and media.
    pub fn add_to_file(&self, headers: &mut HeaderMap) {
        self.add_everywhere(headers);
        // Opened on its own, a picture or a film is in a page of the browser's, which needs no leave.
        let is_seen_or_heard = headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes();
            let shown = [&b"image/"[..], b"audio/", b"video/", b"font/"].iter().any(|family| kind.starts_with(family));
            shown && !kind.windows(3).any(|part| part == b"xml")
        });
        if !is_seen_or_heard {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(FILE_POLICY));
        }
    }

    fn add_everywhere(&self, headers: &mut HeaderMap) {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
    }

    fn add_to_document(&self, headers: &mut HeaderMap, secret_path: bool) {
        let referrer = if secret_path { NO_REFERRER } else { HeaderValue::from_static("strict-origin-when-cross-origin") };
        headers.insert(header::REFERRER_POLICY, referrer);
        headers.insert(
            HeaderName::from_static("permissions-policy"),
            HeaderValue::from_static("camera=(), microphone=(), geolocation=(), browsing-topics=()"),
        );
        headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    }
}

const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

fn own_scripts(plugin: &str) -> String {
    format!("script-src *:*/assets/{plugin}/; ")
}

/// Whether a content type is this one, whatever its parameters.
fn essence_is(kind: &HeaderValue, essence: &str) -> bool {
    let kind = kind.as_bytes();
    let end = kind.iter().position(|byte| *byte == b';').unwrap_or(kind.len());
    kind[..end].trim_ascii().eq_ignore_ascii_case(essence.as_bytes())
}

fn is_of_parts(kind: &str) -> bool {
    kind.trim_start().as_bytes().get(..9).is_some_and(|family| family.eq_ignore_ascii_case(b"multipart"))
}

/// What a plugin sees of the request's headers: nothing that authenticates a
/// client or tells where a shopper was before, nothing that speaks of the
/// connection, or that a client could forge about the shop's address and end up
/// in a page kept for everyone (`config.shop` has it).
pub fn shown_to_plugin(headers: &HeaderMap, authorization: bool) -> Vec<(String, String)> {
    let mut shown = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        let is_secret = match *name {
            header::AUTHORIZATION => !authorization,
            header::COOKIE | header::HOST | header::REFERER => true,
            _ => matches!(text, "forwarded" | "x-real-ip" | super::ORIGIN) || text.starts_with("x-forwarded-"),
        };
        if is_secret || is_of_connection(text) {
            continue;
        }
        if let Ok(value) = std::str::from_utf8(value.as_bytes()) {
            shown.push((text.to_owned(), value.to_owned()));
        }
    }
    shown
}

fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-authenticate" | "proxy-authorization" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "expect"
    )
}

/// Whose answer it is.
#[derive(Clone, Copy)]
pub struct Answerer<'a> {
    pub plugin: &'a str,
    /// Granted, without the plugin's name before them.
    pub cookies: &'a BTreeSet<String>,
    pub cross_site_route: bool,
    pub https: bool,
}

/// A plugin's headers as they may be sent. What may not is left out, with the
/// reason in `dropped`.
pub struct Cleaned {
    pub headers: HeaderMap,
    pub sets_cookie: bool,
    pub dropped: Vec<String>,
}

pub fn cleaned(answerer: Answerer<'_>, given: &[(String, String)]) -> Cleaned {
    // Room for the host's own without growing.
    let mut out = Cleaned { headers: HeaderMap::with_capacity(given.len().min(HEADERS_MAX) + 8), sets_cookie: false, dropped: Vec::new() };
    for (name, value) in given {
        if out.headers.len() == HEADERS_MAX {
            out.dropped.push(format!("{name}: more than {HEADERS_MAX} headers"));
            break;
        }
        let (Ok(name), Ok(header_value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) else {
            out.dropped.push(format!("{name:?}: not a valid header"));
            continue;
        };
        if value.len() > HEADER_BYTES_MAX {
            out.dropped.push(format!("{name}: longer than {HEADER_BYTES_MAX} bytes"));
            continue;
        }
        match passed(answerer, name.as_str(), value, header_value) {
            Ok(value) => {
                out.sets_cookie |= name == header::SET_COOKIE;
                if matches!(name.as_str(), "vary" | "link" | "set-cookie") {
                    out.headers.append(name, value);
                } else {
                    out.headers.insert(name, value);
                }
            }
            Err(reason) => out.dropped.push(format!("{name}: {reason}")),
        }
    }
    out
}

/// The one list of what a plugin may say to a client. What is not in it is not
/// known to end with the answer: it could speak to proxies, reach other pages of
/// the shop, or outlive the plugin. Names that begin with `x-plugin-` are free.
fn passed(answerer: Answerer<'_>, name: &str, value: &str, as_given: HeaderValue) -> Result<HeaderValue, String> {
    match name {
        "accept-patch" | "accept-post" | "allow" | "cache-control" | "content-disposition" | "content-language" | "deprecation" | "etag" | "last-modified"
        | "location" | "ratelimit" | "ratelimit-policy" | "retry-after" | "sunset" | "vary" | "x-robots-tag" => Ok(as_given),
        // Browsers take the last of several.
        // Browsers take the last of several, and the headers of each part for the answer's.
        "content-type" if !value.contains(',') && !is_of_parts(value) => Ok(as_given),
        "content-type" => Err("one type, without a comma, and not of several parts".into()),
        "content-encoding" if matches!(value, "gzip" | "br" | "zstd" | "deflate" | "identity") => Ok(as_given),
        "content-encoding" => Err("gzip, br, zstd, deflate or identity".into()),
        "link" => link(value).map(|()| as_given),
        "refresh" if value.parse().is_ok_and(|seconds: u32| seconds <= REFRESH_S_MAX) => Ok(as_given),
        "refresh" => Err(format!("the same page again after at most {REFRESH_S_MAX} seconds, and no other")),
        "set-cookie" => plugin_cookie(answerer, value),
        // A browser sends what it once asked a person for to all pages of the shop.
        "www-authenticate" if value.len() >= 6 && value.as_bytes()[..6].eq_ignore_ascii_case(b"bearer") => Ok(as_given),
        "www-authenticate" => Err("Bearer alone".into()),
        "access-control-allow-origin" | "access-control-allow-methods" | "access-control-allow-headers" | "access-control-expose-headers"
        | "access-control-max-age"
            if answerer.cross_site_route =>
        {
            Ok(as_given)
        }
        _ if name.starts_with("access-control-") => Err("for routes with `cross-site = true`, and never with credentials".into()),
        _ if name.starts_with("x-plugin-") => Ok(as_given),
        _ => Err("not among the headers that a plugin may set (docs/plugins.md); names of its own begin with `x-plugin-`".into()),
    }
}

/// Links that say what a page is, not such that have browsers load something. Only
/// what is written plainly, which all who read it read alike.
fn link(value: &str) -> Result<(), String> {
    const RELATIONS: [&str; 11] =
        ["alternate", "author", "canonical", "collection", "describedby", "first", "item", "last", "license", "next", "prev"];
    let mut rest = value;
    while let Some((parameters, after)) = next_link(rest) {
        for relation in parameters.iter().filter(|(name, _)| name.eq_ignore_ascii_case("rel")).flat_map(|(_, relations)| relations.split(' ')) {
            if !RELATIONS.contains(&relation) {
                return Err(format!("rel={relation} is none of {}", RELATIONS.join(", ")));
            }
        }
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(()),
            None => break,
        }
    }
    Err("links as in `</en>; rel=\"alternate\"; hreflang=en`, with commas between them, and in quotes neither `<`, `>` nor a backslash".into())
}

/// The parameters of the first link (RFC 8288 section 3), and what follows it.
fn next_link(text: &str) -> Option<(Vec<(&str, &str)>, &str)> {
    let (target, mut rest) = text.trim_start().strip_prefix('<')?.split_once('>')?;
    if target.contains(['<', '"', '\\', ' ', '\t']) {
        return None;
    }
    let mut parameters = Vec::new();
    loop {
        rest = rest.trim_start();
        let Some(after) = rest.strip_prefix(';') else { return Some((parameters, rest)) };
        let (name, after) = token(after.trim_start())?;
        let after = after.strip_prefix('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.contains(['<', '>', '\\']))?,
            None => token(after)?,
        };
        parameters.push((name, value));
        rest = after;
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-._/+".contains(c))).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// `Cache-Control` of an answer that everyone may see, for no longer than a
/// plugin's absence may go unnoticed.
pub fn bounded_cache_control(given: &HeaderValue) -> HeaderValue {
    let given = given.to_str().unwrap_or("").to_ascii_lowercase();
    let mut kept = Vec::new();
    for directive in given.split(',').map(str::trim) {
        match directive.split_once('=') {
            None if matches!(directive, "no-store" | "no-cache" | "public" | "private" | "must-revalidate") => kept.push(directive.to_owned()),
            Some((name @ ("max-age" | "s-maxage"), seconds)) => {
                let seconds = seconds.trim_matches('"').parse().unwrap_or(0_u32).min(MAX_AGE_S);
                kept.push(format!("{name}={seconds}"));
            }
            _ => {}
        }
    }
    // Without an age browsers guess one.
    if !kept.iter().any(|directive| directive.starts_with("max-age") || directive.starts_with("no-")) {
        kept.push("no-cache".into());
    }
    HeaderValue::from_str(&kept.join(", ")).unwrap_or(HeaderValue::from_static("no-cache"))
}

/// Which language bare paths lead to; any plugin may offer the choice.
pub const LOCALE_COOKIE: &str = "souk_locale";

fn plugin_cookie(answerer: Answerer<'_>, value: &str) -> Result<HeaderValue, String> {
    let Answerer { plugin, cookies, https, .. } = answerer;
    let mut cookie = cookie::Cookie::parse(value).map_err(|error| error.to_string())?;
    let own = cookie.name().strip_prefix(plugin).and_then(|rest| rest.strip_prefix('.')).is_some_and(|name| cookies.contains(name));
    if !own && cookie.name() != LOCALE_COOKIE {
        return Err(format!("a plugin may set `{LOCALE_COOKIE}`, and `{plugin}.NAME` where `pages.cookies` has NAME and the operator granted it"));
    }
    if cookie.value().len() > COOKIE_BYTES_MAX {
        return Err(format!("a cookie has at most {COOKIE_BYTES_MAX} bytes"));
    }
    // By its age alone: a date could be any.
    if cookie.expires_datetime().is_some_and(|date| date <= cookie::time::OffsetDateTime::now_utc()) {
        cookie.set_max_age(cookie::time::Duration::ZERO);
    } else if cookie.expires_datetime().is_some() && cookie.max_age().is_none() {
        cookie.set_max_age(COOKIE_AGE_MAX);
    }
    cookie.unset_expires();
    if cookie.max_age().is_some_and(|age| age > COOKIE_AGE_MAX) {
        cookie.set_max_age(COOKIE_AGE_MAX);
    }
    cookie.set_path("/");
    cookie.unset_domain();
    if cookie.same_site().is_none_or(|site| site == cookie::SameSite::None) {
        cookie.set_same_site(cookie::SameSite::Lax);
    }
    if https {
        cookie.set_secure(true);
    }
    HeaderValue::from_str(&cookie.to_string()).map_err(|error| error.to_string())
}

/// Where redirects may lead: the shop, and where the operator lets forms lead
/// (`server.form-action-origins`), for browsers hold redirects after forms to
/// the same list.
pub struct Destinations {
    base: Option<Url>,
    listed: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Destination {
    Allowed,
    /// Another site, by its origin and its whole address.
    Elsewhere { origin: String, url: String },
    Nowhere,
}

impl Destinations {
    pub fn new(base_url: &str, config: &ServerConfig) -> Self {
        Self { base: Url::parse(base_url).ok(), listed: config.form_action_origins.clone() }
    }

    /// As a browser would read it that asked for a page of `host`.
    pub fn of(&self, location: &str, host: &str) -> Destination {
        let Some(base) = &self.base else { return Destination::Nowhere };
        let Ok(url) = base.join(location) else { return Destination::Nowhere };
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Destination::Nowhere;
        }
        if is_shop(&url, base, host) || self.listed.iter().any(|origin| is_of_origin(&url, origin)) {
            return Destination::Allowed;
        }
        Destination::Elsewhere { origin: url.origin().ascii_serialization(), url: url.into() }
    }

    /// The path that a browser would ask this shop for, sent there from `path` of
    /// `host`. `None` where that is another site.
    pub fn path_in_shop(&self, location: &str, path: &str, host: &str) -> Option<String> {
        let base = self.base.as_ref()?;
        let url = base.join(path).ok()?.join(location).ok()?;
        is_shop(&url, base, host).then(|| url.path().to_owned())
    }
}

fn is_shop(url: &Url, base: &Url, host: &str) -> bool {
    let name = url.host_str().unwrap_or("");
    let named = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    url.origin() == base.origin() || named.eq_ignore_ascii_case(host)
}

/// Whether browsers follow a redirect with the same method and body.
pub fn sends_again(status: StatusCode, method: &Method) -> bool {
    let safe = matches!(*method, Method::GET | Method::HEAD);
    // Of these two only for POST browsers make a GET.
    let keeps_other_methods = matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND) && *method != Method::POST;
    !safe && (matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) || keeps_other_methods)
}

/// Whether a source as in `form-action` is this URL's: a host may begin with `*.`,
/// a port be `*`.
fn is_of_origin(url: &Url, source: &str) -> bool {
    let Some((scheme, authority)) = source.split_once("://") else { return false };
    let authority = authority.trim_end_matches('/');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let has = url.host_str().unwrap_or("");
    let is_host = match host.strip_prefix("*.") {
        Some(parent) => has.len() > parent.len() + 1 && has.to_ascii_lowercase().ends_with(&format!(".{}", parent.to_ascii_lowercase())),
        None => has.eq_ignore_ascii_case(host),
    };
    let is_port = match port {
        Some("*") => true,
        Some(port) => url.port_or_known_default().is_some_and(|known| port.parse() == Ok(known)),
        None => url.port().is_none(),
    };
    url.scheme() == scheme && is_host && is_port
}

/// `If-None-Match` against a tag without its quotes, in any content coding.
pub fn none_match(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).take(64).any(|candidate| {
        let candidate = candidate.trim();
        let candidate = candidate.strip_prefix("W/").unwrap_or(candidate);
        candidate == "*"
            || candidate
                .strip_prefix('"')
                .and_then(|c| c.strip_suffix('"'))
                .and_then(|c| c.strip_prefix(tag))
                .is_some_and(|rest| matches!(rest, "" | "-gzip" | "-br" | "-zstd"))
    })
}

/// `gzip;q=0.5` → (`gzip`, 0.5), as in Accept, Accept-Encoding, Accept-Language.
pub fn quality_of(range: &str) -> (&str, f32) {
    let mut parts = range.split(';');
    let name = parts.next().unwrap_or("").trim();
    let quality = parts
        .find_map(|p| p.trim().strip_prefix("q=").or_else(|| p.trim().strip_prefix("Q=")))
        .map_or(1.0, |q| q.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0));
    (name, quality)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(given: &[(&str, &str)]) -> Cleaned {
        let given: Vec<_> = given.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let cookies = BTreeSet::from(["view".to_owned()]);
        cleaned(Answerer { plugin: "cart", cookies: &cookies, cross_site_route: false, https: true }, &given)
    }

    #[test]
    fn only_what_is_on_the_list_is_sent() {
        let passes = [
            ("content-type", "text/html"),
            ("x-plugin-count", "1"),
            ("cache-control", "no-store"),
            ("refresh", "4"),
            ("link", "</en>; rel=\"alternate canonical\"; hreflang=en, </p>; rel=next"),
            ("link", "</a,b;c>;rel=prev;title=\"Tom's, and more; rel=no\" ,<?page=3>; REL=\"last\"; type=text/html"),
            ("www-authenticate", "Bearer realm=\"shop\""),
            ("content-encoding", "gzip"),
        ];
        assert_eq!(clean(&passes).dropped, Vec::<String>::new());
        let refused = [
            ("x-ok", "1"),
            ("x-plugin-bad", "a\r\nset-cookie: souk=1"),
            ("bad name", "1"),
            ("content-length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Security-Policy", "default-src *"),
            ("connection", "close"),
            ("access-control-allow-origin", "*"),
            ("service-worker-allowed", "/"),
            ("clear-site-data", "\"cookies\""),
            ("nel", "{}"),
            ("report-to", "{}"),
            ("reporting-endpoints", "a=\"https://evil.example\""),
            ("x-accel-redirect", "/etc/passwd"),
            ("x-sendfile", "/etc/passwd"),
            ("surrogate-control", "max-age=9"),
            ("cdn-cache-control", "max-age=9"),
            ("speculation-rules", "\"/r.json\""),
            ("alt-svc", "h3=\":443\""),
            ("expires", "Thu, 01 Dec 2044 16:00:00 GMT"),
            ("refresh", "0; url=https://evil.example"),
            ("link", "<https://evil.example/x.js>; rel=preload; as=script"),
            ("link", "</a>; rel=next, <https://evil.example>; rel=\"prev stylesheet\""),
            ("link", "<https://evil.example>; rel=\"next, preconnect\""),
            ("link", "<https://evil.example>; rel=\"next,preconnect\""),
            ("link", "<https://evil.example>; rel=next; rel=preconnect"),
            ("link", "<https://evil.example>; rel=\"next\tpreconnect\""),
            ("link", "<https://evil.example>; rel=pre\\connect"),
            ("link", "<https://evil.example>; rel='preconnect'"),
            ("link", "<https://evil.example>; rel = preconnect"),
            ("link", "<https://evil.example>; rel*=utf-8''preconnect"),
            ("link", "</a>; title=\"\\\"; rel=preload; x=\"\""),
            ("link", "</a>; title=\", <https://evil.example>; rel=preconnect\""),
            ("link", "</a>; title=\"; rel=preconnect"),
            ("link", "</a> rel=preconnect"),
            ("link", "</a>; rel=next,"),
            ("link", "a; rel=next"),
            ("www-authenticate", "Basic realm=\"Your bank\""),
            ("content-type", "multipart/x-mixed-replace; boundary=a"),
            ("content-type", " Multipart/mixed; boundary=a"),
            ("content-type", "application/json, text/html"),
            ("content-encoding", "dcb"),
        ];
        for (name, value) in refused {
            assert_eq!(clean(&[(name, value)]).headers.len(), 0, "{name}: {value}");
        }
    }

    #[test]
    fn cookies_are_those_that_were_granted() {
        let kept = |value| clean(&[("set-cookie", value)]).headers.get("set-cookie").map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(kept("cart.view=grid; Domain=example.com; HttpOnly").as_deref(), Some("cart.view=grid; HttpOnly; SameSite=Lax; Secure; Path=/"));
        assert_eq!(kept("cart.view=a; Max-Age=99999999; SameSite=None").as_deref(), Some("cart.view=a; SameSite=Lax; Secure; Path=/; Max-Age=2592000"));
        assert_eq!(kept("cart.view=a; Expires=Thu, 01 Dec 2044 16:00:00 GMT").as_deref(), Some("cart.view=a; SameSite=Lax; Secure; Path=/; Max-Age=2592000"));
        assert!(kept("souk_locale=zh-CN").is_some());
        let large = format!("cart.view={}", "x".repeat(COOKIE_BYTES_MAX + 1));
        for refused in ["souk=x", "__Host-souk=x", "other-a=1", "cart-=1", "cart=1", "cart-other=1", "nonsense", &large] {
            assert_eq!(kept(refused), None, "{refused}");
        }
    }

    #[test]
    fn a_plugins_word_on_caches_ends_within_the_hour() {
        for (given, kept) in [
            ("public, max-age=31536000, immutable", "public, max-age=3600"),
            ("max-age=60, stale-while-revalidate=31536000", "max-age=60"),
            ("s-maxage=99999999", "s-maxage=3600, no-cache"),
            ("No-Store", "no-store"),
            ("public", "public, no-cache"),
        ] {
            assert_eq!(bounded_cache_control(&HeaderValue::from_static(given)), kept, "{given}");
        }
    }

    #[test]
    fn redirects_lead_where_the_operator_lets_them() {
        let config = ServerConfig {
            form_action_origins: ["https://pay.example", "https://*.bank.example", "http://pay.example:8080"].map(String::from).into(),
            ..ServerConfig::default()
        };
        let destinations = Destinations::new("https://shop.example", &config);
        let of = |location| destinations.of(location, "127.0.0.1:8080");
        for allowed in [
            "/en/cart",
            "?a=b",
            "https://shop.example/en",
            "http://127.0.0.1:8080/en",
            "https://pay.example/a?b=c",
            "https://www.bank.example/",
            "http://pay.example:8080/",
        ] {
            assert_eq!(of(allowed), Destination::Allowed, "{allowed}");
        }
        for elsewhere in [
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https:/\\evil.example",
            "/\t/evil.example",
            "http://pay.example/",
            "https://pay.example:444/",
            "https://bank.example/",
            "https://evilbank.example/",
            "https://pay.example.evil.example/",
        ] {
            assert!(matches!(of(elsewhere), Destination::Elsewhere { .. }), "{elsewhere}");
        }
        for nowhere in ["javascript:alert(1)", "data:text/html,x", "https://", "https://shop.example@pay.example/"] {
            assert_eq!(of(nowhere), Destination::Nowhere, "{nowhere}");
        }
    }

    #[test]
    fn a_location_is_read_as_a_browser_reads_it() {
        let destinations = Destinations::new("https://shop.example", &ServerConfig::default());
        let of = |location| destinations.path_in_shop(location, "/guest/form", "127.0.0.1:8080");
        for (location, path) in [
            ("done", "/guest/done"),
            ("/guest/../en/cart/lines?a=b", "/en/cart/lines"),
            ("%2e%2e/en/cart", "/en/cart"),
            ("/\ten/cart", "/en/cart"),
            ("https://SHOP.example/en", "/en"),
            ("http://127.0.0.1:8080/en", "/en"),
        ] {
            assert_eq!(of(location).as_deref(), Some(path), "{location}");
        }
        assert_eq!(of("https://pay.example/en"), None);
        for (status, method, again) in [
            (307, Method::POST, true),
            (308, Method::PUT, true),
            (302, Method::POST, false),
            (302, Method::PUT, true),
            (303, Method::PUT, false),
            (307, Method::GET, false),
            (308, Method::HEAD, false),
        ] {
            assert_eq!(sends_again(StatusCode::from_u16(status).unwrap(), &method), again, "{method} {status}");
        }
    }

    #[test]
    fn a_type_is_told_by_its_essence() {
        for page in ["text/html", "Text/HTML; charset=utf-8", "text/html; x=json", "text/html ;a"] {
            assert!(essence_is(&HeaderValue::from_static(page), "text/html"), "{page}");
        }
        for other in ["application/json", "text/htmlx", "application/problem+json", "x/y; text/html"] {
            assert!(!essence_is(&HeaderValue::from_static(other), "text/html"), "{other}");
        }
    }

    #[test]
    fn if_none_match_knows_lists_weak_tags_and_codings() {
        let with = |v: &'static str| HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(v))]);
        for hit in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc-br\"", "*"] {
            assert!(none_match(&with(hit), "abc"), "{hit}");
        }
        for miss in ["\"ab\"", "\"abcd\"", "abc", "\"abc-x\"", ""] {
            assert!(!none_match(&with(miss), "abc"), "{miss}");
        }
    }
}
