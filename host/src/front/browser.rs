//! What a plugin may have left in a shopper's browser, and how it goes.
//!
//! A service worker answers for the shop before the network does, and stays when
//! the plugin that brought it is gone. The shop has none, so whoever asks for the
//! script of one gets ours: it takes itself and all that is kept out of the
//! browser and loads its pages anew. Browsers look for a new version at each page
//! that a worker answers for, past the worker, so one that was caught before
//! is healed by its next page. And a person can have the browser forget all that
//! it keeps of the shop ([`RESET_PATH`]).

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::routes::Locale;

pub const RESET_PATH: &str = "/reset-browser";

/// Its form leads to itself.
pub const RESET_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'");

const WORKER: &str = r#"// This shop has no service worker: this one removes itself, and whichever was here before it.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(heal()));
async function heal() {
  await self.registration.unregister();
  for (const name of await caches.keys()) await caches.delete(name);
  for (const page of await self.clients.matchAll({ type: "window" })) page.navigate(page.url).catch(() => {});
}
"#;

/// Whether a browser asks for the script of a worker, to register or to renew it.
pub fn asks_for_worker(headers: &HeaderMap) -> bool {
    headers.contains_key("service-worker")
}

pub fn healing_worker() -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(Bytes::from_static(WORKER.as_bytes())));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A worker for all pages can only be replaced by one that may be for all pages.
    headers.insert(HeaderName::from_static("service-worker-allowed"), HeaderValue::from_static("/"));
    reply
}

/// Asks first: any site can have a browser load a page.
pub fn reset_page(locale: &Locale) -> Response<Full<Bytes>> {
    let [title, text, button] = if locale.is_chinese() {
        [
            "清除本店在浏览器中保存的内容",
            "页面显示异常时，可以让浏览器清除本店保存的所有内容，包括登录状态和购物车。已下的订单不受影响。",
            "清除",
        ]
    } else {
        [
            "Forget what this browser keeps of the shop",
            "If pages of the shop look wrong, your browser can forget all that it keeps of it, your cart among it. Orders are not touched.",
            "Forget it",
        ]
    };
    let language = &locale.tag;
    let page = format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<main>\n<h1>{title}</h1>\n<p>{text}</p>\n\
         <form method=\"post\" action=\"{RESET_PATH}\"><button>{button}</button></form>\n</main>\n</html>\n"
    );
    let mut reply = Response::new(Full::new(page.into()));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

pub fn reset() -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::SEE_OTHER;
    let headers = reply.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("/"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("clear-site-data"), HeaderValue::from_static("\"cache\", \"cookies\", \"storage\""));
    reply
}

/// In place of a redirect to another site that the operator has not listed: who
/// follows it knows where it leads.
pub fn leaving_page(locale: &Locale, origin: &str, url: &str) -> String {
    let [title, text, link] = if locale.is_chinese() {
        ["您即将离开本店", "此页面要转到另一个网站：", "继续前往"]
    } else {
        ["You are leaving the shop", "This page wants to lead to another site:", "Go there"]
    };
    let (language, origin, url) = (&locale.tag, escaped(origin), escaped(url));
    format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<main>\n<h1>{title}</h1>\n<p>{text} <b>{origin}</b></p>\n\
         <p><a rel=\"noreferrer\" href=\"{url}\">{link}</a></p>\n</main>\n</html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_before_another_site_shows_its_name_as_text() {
        let locale = Locale { tag: "en".into(), prefix: "/en".into() };
        let page = leaving_page(&locale, "https://evil.example", "https://evil.example/?a=\"><script>&b");
        assert!(page.contains("href=\"https://evil.example/?a=&quot;&gt;&lt;script&gt;&amp;b\""), "{page}");
    }
}
