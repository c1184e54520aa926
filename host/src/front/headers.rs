//! Headers: the host's own for security, and what plugins may see and set.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::front::config::ServerConfig;

const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Scripts in a file opened on its own must not run as the shop.
const FILE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// The same for every answer, made once.
pub struct SecurityHeaders {
    document_policy: HeaderValue,
    https: bool,
}

impl SecurityHeaders {
    pub fn new(config: &ServerConfig, https: bool) -> Self {
        let joined = |origins: &[String]| origins.iter().map(|origin| format!(" {origin}")).collect::<String>();
        let (forms, images) = (joined(&config.form_action_origins), joined(&config.image_origins));
        let policy = format!(
            "default-src 'self'; img-src 'self' data:{images}; style-src 'self'; script-src 'self'; object-src 'none'; \
             base-uri 'none'; form-action 'self'{forms}; frame-ancestors 'none'"
        );
        // `ServerConfig::problems` has seen that the origins fit into a header.
        let document_policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(DATA_POLICY));
        Self { document_policy, https }
    }

    pub fn add(&self, headers: &mut HeaderMap) {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
        let is_data = headers.get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().ends_with(b"json"));
        if is_data {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DATA_POLICY));
            return;
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, self.document_policy.clone());
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin"));
        headers.insert(
            HeaderName::from_static("permissions-policy"),
            HeaderValue::from_static("camera=(), microphone=(), geolocation=(), browsing-topics=()"),
        );
        headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    }

    /// For assets and media.
    pub fn add_to_file(&self, headers: &mut HeaderMap) {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
        let can_run = headers.get(header::CONTENT_TYPE).is_none_or(|t| {
            let kind = t.as_bytes();
            kind.starts_with(b"text/html") || kind.windows(3).any(|w| w == b"xml") || kind == b"application/pdf"
        });
        if can_run {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(FILE_POLICY));
        }
    }
}

/// What a plugin sees of the request's headers: nothing that authenticates a
/// browser, speaks of the connection, or that a client could forge about the
/// shop's address and end up in a page kept for everyone (`config.shop` has it).
pub fn shown_to_plugin(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut shown = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        if matches!(*name, header::COOKIE | header::HOST) || is_of_connection(text) || text.starts_with("x-forwarded-") || matches!(text, "forwarded" | "x-real-ip") {
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

/// Decided by the host whatever a plugin says.
fn is_hosts_own(name: &str, cross_site_route: bool) -> bool {
    is_of_connection(name)
        || matches!(
            name,
            "content-length"
                | "date"
                | "server"
                | "alt-svc"
                | "clear-site-data"
                | "content-security-policy"
                | "content-security-policy-report-only"
                | "cross-origin-embedder-policy"
                | "cross-origin-opener-policy"
                | "cross-origin-resource-policy"
                | "permissions-policy"
                | "referrer-policy"
                | "strict-transport-security"
                | "x-content-type-options"
                | "x-frame-options"
                | "x-request-id"
                | "idempotent-replayed"
        )
        || (name.starts_with("access-control-") && !cross_site_route)
}

/// A plugin's headers as they may be sent. What may not is left out, with the
/// reason in `dropped`.
pub struct Cleaned {
    pub headers: HeaderMap,
    pub sets_cookie: bool,
    pub dropped: Vec<String>,
}

pub fn cleaned(plugin: &str, cross_site_route: bool, https: bool, given: &[(String, String)]) -> Cleaned {
    // Room for the host's own without growing.
    let mut out = Cleaned { headers: HeaderMap::with_capacity(given.len().min(HEADERS_MAX) + 8), sets_cookie: false, dropped: Vec::new() };
    for (name, value) in given {
        if out.headers.len() == HEADERS_MAX {
            out.dropped.push(format!("{name}: more than {HEADERS_MAX} headers"));
            break;
        }
        let (Ok(name), Ok(mut header_value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) else {
            out.dropped.push(format!("{name:?}: not a valid header"));
            continue;
        };
        if value.len() > HEADER_BYTES_MAX {
            out.dropped.push(format!("{name}: longer than {HEADER_BYTES_MAX} bytes"));
            continue;
        }
        if is_hosts_own(name.as_str(), cross_site_route) {
            out.dropped.push(format!("{name}: set by the host alone"));
            continue;
        }
        if name == header::SET_COOKIE {
            match plugin_cookie(plugin, https, value) {
                Some(cookie) => header_value = cookie,
                None => {
                    out.dropped.push(format!("set-cookie: a plugin may set cookies named `{plugin}-…` and `{LOCALE_COOKIE}`"));
                    continue;
                }
            }
            out.sets_cookie = true;
            out.headers.append(name, header_value);
        } else if matches!(name.as_str(), "vary" | "link" | "www-authenticate") {
            out.headers.append(name, header_value);
        } else {
            out.headers.insert(name, header_value);
        }
    }
    out
}

/// Which language bare paths lead to; any plugin may offer the choice.
pub const LOCALE_COOKIE: &str = "souk_locale";

fn plugin_cookie(plugin: &str, https: bool, value: &str) -> Option<HeaderValue> {
    let mut cookie = cookie::Cookie::parse(value).ok()?;
    let own = cookie.name().strip_prefix(plugin).is_some_and(|rest| rest.len() > 1 && rest.starts_with('-'));
    if !own && cookie.name() != LOCALE_COOKIE {
        return None;
    }
    cookie.set_path("/");
    cookie.unset_domain();
    if cookie.same_site().is_none() {
        cookie.set_same_site(cookie::SameSite::Lax);
    }
    if https {
        cookie.set_secure(true);
    }
    HeaderValue::from_str(&cookie.to_string()).ok()
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
        cleaned("cart", false, true, &given)
    }

    #[test]
    fn a_plugin_cannot_inject_or_override() {
        let out = clean(&[
            ("x-ok", "1"),
            ("x-bad", "a\r\nset-cookie: souk=1"),
            ("bad name", "1"),
            ("content-length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Security-Policy", "default-src *"),
            ("connection", "close"),
            ("access-control-allow-origin", "*"),
        ]);
        assert_eq!(out.headers.len(), 1);
        assert_eq!(out.dropped.len(), 7);
    }

    #[test]
    fn cookies_stay_in_the_plugins_own_names() {
        let kept = |value| clean(&[("set-cookie", value)]).headers.get("set-cookie").map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(kept("cart-view=grid; Domain=example.com; HttpOnly").as_deref(), Some("cart-view=grid; HttpOnly; SameSite=Lax; Secure; Path=/"));
        assert!(kept("souk_locale=zh-CN").is_some());
        for refused in ["souk=x", "__Host-souk=x", "other-a=1", "cart-=1", "cart=1", "nonsense"] {
            assert_eq!(kept(refused), None, "{refused}");
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
