//! The front over real sockets, before a fake application.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::assets::Asset;
use super::config::{ServerConfig, Tls};
use super::page_cache::PageCache;
use super::routes::SitePlugin;
use super::server::Server;
use super::service::FrontOptions;
use super::session::SessionCookies;
use super::*;
use crate::engine::canary_has;
use crate::engine::bindings::exports::souk::web::handler::Response;
use crate::engine::bindings::souk::web::types::CachePolicy;
use crate::shop::manifest::Route;
use crate::shop::plugin::Plugin;

const KEY: [u8; 32] = [9; 32];

type Handler = Box<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>> + Send + Sync>;

struct Fake {
    site: Mutex<Arc<Site>>,
    handler: Handler,
    calls: AtomicUsize,
}

impl Application for Fake {
    fn site(&self) -> Arc<Site> {
        self.site.lock().clone()
    }

    async fn call(&self, call: Call) -> Result<Answer, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        (self.handler)(call).await
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn metrics(&self, out: &mut String) {
        out.push_str("fake_metric 1\n");
    }
}

const SHOP: &str = r#"
name = "shop"
version = "1.0.0"
pages = { scripts = "shop", cookies = ["view", "x"] }
routes = [
    { name = "home", methods = ["GET"], path = "/", localized = true },
    { name = "product", methods = ["GET"], path = "/p/{handle}", localized = true },
    { name = "cart", methods = ["GET", "POST"], path = "/cart", localized = true, critical = true },
    { name = "api", methods = ["GET", "POST", "PUT"], path = "/api/{*rest}", body-bytes-max = 1000 },
    { name = "hook", methods = ["POST"], path = "/hook", cross-site = true, authorization = true },
    { name = "notify", methods = ["GET"], path = "/notify", cross-site = true, critical = true },
    { name = "order", methods = ["GET", "POST"], path = "/orders/{token}", secret-path = true, critical = true },
]
"#;

fn plugin(manifest: &str, assets: Vec<Arc<Asset>>) -> SitePlugin {
    let plugin = Plugin {
        manifest: toml::from_str(manifest).unwrap(),
        digest: String::new(),
        publisher: String::new(),
        denied: Default::default(),
        usage: Default::default(),
        config_document: "{}".into(),
        config: HashMap::new(),
        asset_urls: HashMap::new(),
    };
    SitePlugin { plugin: Arc::new(plugin), assets }
}

fn site(manifest: &str) -> Arc<Site> {
    Arc::new(Site::build(&[plugin(manifest, Vec::new())], &["en".into(), "zh-CN".into()], None).unwrap())
}

fn answer(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let headers = vec![("content-type".to_owned(), content_type.to_owned())];
    Answer {
        response: Response { status, headers, body: body.into(), cache: None, await_effects: false },
        session: SessionChange::Keep,
        shareable: false,
        replayed: false,
    }
}

/// A page for everyone, tagged `t`.
fn page(body: impl Into<Vec<u8>>) -> Answer {
    let mut answer = answer(200, "text/html; charset=utf-8", body);
    answer.shareable = true;
    answer.response.cache = Some(CachePolicy { ttl_s: 60, tags: vec!["t".into()] });
    answer
}

struct Shop {
    app: Arc<Fake>,
    server: Server,
    pages: Arc<PageCache>,
    media: tempfile::TempDir,
}

impl Shop {
    async fn with(config: &str, handler: Handler) -> Shop {
        let mut config: ServerConfig = toml::from_str(config).unwrap();
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.ops_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let app = Arc::new(Fake { site: Mutex::new(site(SHOP)), handler, calls: AtomicUsize::new(0) });
        let pages = Arc::new(PageCache::new(config.limits.page_cache_bytes_max));
        let media = tempfile::tempdir().unwrap();
        let options = FrontOptions {
            config,
            base_url: "http://shop.example".into(),
            session_key: KEY,
            media: media.path().join("media"),
            pages: pages.clone(),
        };
        std::fs::create_dir(media.path().join("media")).unwrap();
        let server = Server::start(app.clone(), options).await.unwrap();
        Shop { app, server, pages, media }
    }

    async fn answering(f: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Shop {
        Shop::with("", sync(move |call| Ok(f(&call)))).await
    }

    fn calls(&self) -> usize {
        self.app.calls.load(Ordering::SeqCst)
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        request(self.server.address, "GET", path, headers, "").await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        request(self.server.address, "POST", path, headers, body).await
    }
}

fn sync(f: impl Fn(Call) -> Result<Answer, Failure> + Send + Sync + 'static) -> Handler {
    Box::new(move |call| {
        let answer = f(call);
        Box::pin(async move { answer })
    })
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Reply {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no reply: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|l| l.split_once(": ").unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Reply { status, headers, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

async fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    Reply::parse(&raw(address, &format!("{text}\r\n{body}")).await)
}

/// Sends, then reads until the server closes.
async fn raw(address: SocketAddr, text: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have answered and closed before it took everything.
    let _ = stream.write_all(text.as_bytes()).await;
    read_to_close(&mut stream).await
}

async fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset ends it too.
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await.expect("the server closes");
    all
}

fn seen() -> (Arc<Mutex<Vec<Call>>>, Handler) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let kept = calls.clone();
    let handler = sync(move |call| {
        kept.lock().push(call);
        Ok(answer(200, "text/plain", "ok"))
    });
    (calls, handler)
}

fn session_cookie(id: &str) -> String {
    let set = SessionCookies::new(&KEY, false).set(&SessionId(id.into())).unwrap();
    set.to_str().unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_plugin_sees_its_request_without_cookies_and_proxies() {
    let (calls, handler) = seen();
    let shop = Shop::with("", handler).await;
    let headers = [
        ("Cookie", "souk_locale=en; x=y"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Custom", "Value"),
        ("Authorization", "Bearer abc"),
        ("Referer", "http://shop.example/orders/a-secret"),
        ("X-Request-Id", "my-request-1"),
    ];
    let reply = shop.get("/zh/p/%E8%8C%B6%2Fpot?q=%20a&b", &headers).await;
    assert_eq!((reply.status, reply.header("x-request-id")), (200, Some("my-request-1")));
    let call = calls.lock().pop().unwrap();
    let r = call.request;
    assert_eq!((&*call.plugin, r.route.as_str(), r.method.as_str()), ("shop", "product", "GET"));
    assert_eq!((r.path.as_str(), r.query.as_str()), ("/p/茶/pot", "q=%20a&b"));
    assert_eq!(r.params, [("handle".to_owned(), "茶/pot".to_owned())]);
    assert_eq!((r.locale.as_str(), r.locale_prefix.as_str()), ("zh-CN", "/zh"));
    assert_eq!((r.client_address.as_str(), r.caller.len()), ("127.0.0.1", 64));
    let names: Vec<_> = r.headers.iter().map(|(n, _)| n.as_str()).collect();
    assert!(names.contains(&"x-custom"));
    for hidden in ["cookie", "host", "x-forwarded-for", "connection", "authorization", "referer"] {
        assert!(!names.contains(&hidden), "{hidden}");
    }
    shop.post("/hook", &[("Authorization", "Bearer abc")], "x").await;
    let told = calls.lock().pop().unwrap().request.headers;
    assert!(told.iter().any(|(name, _)| name == "authorization"), "granted for this route");
}

#[tokio::test]
async fn paths_lead_where_they_should() {
    let shop = Shop::answering(|c| answer(200, "text/plain", c.request.route.clone())).await;
    let cases: &[(&str, &str, &[(&str, &str)], u16, Option<(&str, &str)>)] = &[
        ("GET", "/en", &[], 200, None),
        ("GET", "/", &[], 302, Some(("location", "/en"))),
        ("GET", "/?a=b", &[("Accept-Language", "fr, zh-TW;q=0.8, en;q=0.5")], 302, Some(("location", "/zh?a=b"))),
        ("GET", "/p/x", &[("Cookie", "souk_locale=zh-CN"), ("Accept-Language", "en")], 302, Some(("location", "/zh/p/x"))),
        ("POST", "/cart", &[], 307, Some(("location", "/en/cart"))),
        ("GET", "/en/", &[], 308, Some(("location", "/en"))),
        ("GET", "/en/cart/?x=1", &[], 308, Some(("location", "/en/cart?x=1"))),
        ("GET", "//evil.example/", &[], 400, None),
        ("GET", "/\\evil.example/", &[], 400, None),
        ("GET", "/%5Cevil.example/", &[], 400, None),
        ("GET", "/%5cevil.example", &[], 400, None),
        ("GET", "/en//evil.example", &[], 400, None),
        ("GET", "/%09/evil.example/", &[], 400, None),
        ("GET", "/en/p/a%7fb", &[], 400, None),
        ("DELETE", "/en/cart", &[], 405, Some(("allow", "GET, HEAD, POST"))),
        ("GET", "/nowhere", &[("Accept", "application/json")], 404, Some(("content-type", "application/problem+json"))),
        ("GET", "/nowhere", &[("Accept", "text/html,*/*")], 404, Some(("content-type", "text/html; charset=utf-8"))),
        ("GET", "/en/p/%ff", &[], 400, None),
        ("GET", "/en/p/a%00b", &[], 400, None),
        ("OPTIONS", "*", &[], 404, None),
        ("HEAD", "/en", &[], 200, Some(("content-length", "4"))),
        ("GET", "/health", &[], 200, None),
        ("GET", "/metrics", &[], 404, None),
    ];
    for (method, path, headers, status, header) in cases {
        let reply = request(shop.server.address, method, path, headers, "").await;
        assert_eq!(reply.status, *status, "{method} {path}: {reply:?}");
        if let Some((name, value)) = header {
            assert_eq!(reply.header(name), Some(*value), "{method} {path}: {reply:?}");
        }
        assert!(reply.header("x-request-id").is_some());
        if *method == "HEAD" {
            assert!(reply.body.is_empty());
        }
    }
    let bare = shop.get("/", &[]).await;
    assert_eq!(bare.header("vary"), Some("accept-language, cookie"));
}

#[test]
fn conflicts_and_mistakes_in_routes_are_refused_by_name() {
    let build = |a: &str, b: &str| {
        let make = |name: &str, route: &str| plugin(&format!("name = '{name}'\nversion = '1.0.0'\nroutes = [{route}]"), Vec::new());
        Site::build(&[make("one", a), make("two", b)], &["en".into(), "zh-CN".into()], None).map(|_| ()).map_err(|e| e.to_string())
    };
    let ok = "{ name = 'a', methods = ['GET'], path = '/a/{id}' }";
    assert_eq!(build(ok, "{ name = 'b', methods = ['POST'], path = '/a/{id}' }"), Ok(()));
    let cases = [
        ("{ name = 'b', methods = ['GET'], path = '/a/{id}' }", "plugin `two`, route `b` (/a/{id}) conflicts with plugin `one`, route `a` (/a/{id})"),
        ("{ name = 'b', methods = ['GET'], path = '/a/{handle}' }", "plugin `two`, route `b` (/a/{handle}) conflicts with plugin `one`, route `a` (/a/{id})"),
        ("{ name = 'b', methods = ['GET'], path = '/assets/x' }", "`/assets` is served by the host"),
        ("{ name = 'b', methods = ['get'], path = '/b' }", "method `get` is not one of"),
        ("{ name = 'b', methods = [], path = '/b' }", "names no methods"),
        ("{ name = 'b', methods = ['GET'], path = 'b' }", "must begin with one `/`"),
        ("{ name = 'b', methods = ['GET'], path = '/b/' }", "must not end with `/`"),
        ("{ name = 'b', methods = ['GET'], path = '/{b' }", "valid name"),
    ];
    for (route, message) in cases {
        let error = build(ok, route).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn locales_of_one_language_get_full_prefixes() {
    let tags = ["en".to_owned(), "zh-CN".to_owned(), "zh-TW".to_owned()];
    let site = Site::build(&[], &tags, None).unwrap();
    let prefixes: Vec<_> = site.locales.iter().map(|l| l.prefix.as_str()).collect();
    assert_eq!(prefixes, ["/en", "/zh-cn", "/zh-tw"]);
    assert_eq!(site.negotiate_locale(None, Some("zh-tw, zh;q=0.9")), 2);
    assert_eq!(site.negotiate_locale(Some("xx"), Some("*;q=0.1, zh-CN;q=0")), 0);
    assert!(Site::build(&[], &["e n".into()], None).is_err());
}

#[tokio::test]
async fn other_sites_cannot_act_in_a_shoppers_name() {
    let shop = Shop::answering(|_| answer(200, "text/plain", "done")).await;
    let cookie = session_cookie("abcdefghijklmnopqrst");
    let cases: &[(&[(&str, &str)], bool, u16)] = &[
        (&[("Sec-Fetch-Site", "same-origin")], true, 200),
        (&[("Sec-Fetch-Site", "none")], true, 200),
        (&[("Sec-Fetch-Site", "same-site")], true, 403),
        (&[("Sec-Fetch-Site", "cross-site")], true, 403),
        (&[("Sec-Fetch-Site", "cross-site")], false, 403),
        (&[("Sec-Fetch-Site", "cross-site"), ("Origin", "http://shop.example")], true, 403),
        (&[("Origin", "http://shop.example")], true, 200),
        (&[("Origin", "http://SHOP.example")], true, 200),
        (&[("Origin", "http://evil.example")], true, 403),
        (&[("Origin", "http://evil.example")], false, 403),
        (&[("Origin", "http://shop.example.evil.example")], true, 403),
        (&[("Origin", "http://shop.example:81")], true, 403),
        (&[("Origin", "null")], false, 403),
        (&[], true, 403),
        (&[], false, 200),
    ];
    for (headers, with_session, status) in cases {
        let mut headers = headers.to_vec();
        if *with_session {
            headers.push(("Cookie", &cookie));
        }
        assert_eq!(shop.post("/en/cart", &headers, "a=b").await.status, *status, "{headers:?}");
    }
    let hook = shop.post("/hook", &[("Origin", "http://evil.example"), ("Cookie", &cookie)], "x").await;
    assert_eq!(hook.status, 200, "cross-site routes take anyone");
}

#[tokio::test]
async fn sessions_come_from_signed_cookies_only() {
    let (calls, handler) = seen();
    let shop = Shop::with("", handler).await;
    let cookie = session_cookie("abcdefghijklmnopqrst");
    let forged = cookie.replace("abc", "xyz");
    for (path, cookie, expected) in
        [("/en", cookie.as_str(), Some("abcdefghijklmnopqrst")), ("/en", &forged, None), ("/en", "souk=abcdefghijklmnopqrst", None)]
    {
        let reply = shop.get(path, &[("Cookie", cookie)]).await;
        assert_eq!((reply.status, reply.header("set-cookie")), (200, None));
        let call = calls.lock().pop().unwrap();
        assert_eq!(call.session.as_ref().map(|s| &*s.0), expected);
    }
    shop.post("/hook", &[("Cookie", &cookie)], "x").await;
    assert_eq!(calls.lock().pop().unwrap().session, None, "none on cross-site routes");

    let shop = Shop::answering(|call| {
        let mut answer = page("welcome");
        answer.session = match call.request.method.as_str() {
            "GET" => SessionChange::Set(SessionId("0123456789abcdef".into())),
            _ => SessionChange::Clear,
        };
        answer
    })
    .await;
    let set = shop.get("/en", &[]).await;
    let cookie = set.header("set-cookie").unwrap();
    assert!(cookie.starts_with("souk=0123456789abcdef.") && cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
    assert_eq!(set.header("cache-control"), Some("private, no-cache"));
    shop.get("/en", &[]).await;
    assert_eq!(shop.calls(), 2, "what sets a cookie is not kept");
    assert!(shop.post("/en/cart", &[], "x").await.header("set-cookie").unwrap().starts_with("souk=; Path=/; Max-Age=0"));
}

#[tokio::test]
async fn plugins_headers_are_cleaned_and_security_headers_stay() {
    let shop = Shop::answering(|call| {
        let mut a = answer(200, "text/html", "<p>hi");
        if call.request.route == "api" {
            a.response.headers[0].1 = "application/json".into();
        }
        for (n, v) in [
            ("x-bad", "a\r\nset-cookie: souk=evil"),
            ("content-length", "1000"),
            ("transfer-encoding", "chunked"),
            ("content-security-policy", "default-src *"),
            ("set-cookie", "souk=evil"),
            ("set-cookie", "shop.view=grid"),
            ("cache-control", "public, max-age=1000"),
        ] {
            a.response.headers.push((n.into(), v.into()));
        }
        a
    })
    .await;
    let reply = shop.get("/en", &[]).await;
    assert_eq!(reply.text(), "<p>hi");
    let cookies: Vec<_> = reply.headers.iter().filter(|(n, _)| n == "set-cookie").collect();
    assert_eq!(cookies.len(), 1);
    assert_eq!((reply.header("content-length"), reply.header("transfer-encoding"), reply.header("x-bad")), (Some("5"), None, None));
    assert_eq!(reply.header("cache-control"), Some("private, no-cache"), "not shareable, whatever the plugin says");
    let policy = reply.header("content-security-policy").unwrap();
    for part in ["default-src 'none'; img-src 'self' data:;", "worker-src 'none'", ", script-src *:*/assets/shop/; form-action *:*/"] {
        assert!(policy.contains(part), "{policy}");
    }
    for name in ["x-content-type-options", "referrer-policy", "permissions-policy", "cross-origin-opener-policy"] {
        assert!(reply.header(name).is_some(), "{name}");
    }
    assert_eq!(shop.get("/api/x", &[]).await.header("content-security-policy"), Some("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"));
}

#[tokio::test]
async fn pages_get_the_policy_of_what_they_are_and_were_granted() {
    let shop = Shop::answering(|call| answer(200, &routes::decode(&call.request.query).unwrap(), "<p>hi")).await;
    let policy = async |path: &str| shop.get(path, &[]).await.header("content-security-policy").unwrap().to_owned();
    *shop.app.site.lock() = site(
        "name = 'guest'\nversion = '1.0.0'\nroutes = [{ name = 'a', methods = ['GET', 'POST'], path = '/a/{id}' }, { name = 'b', methods = ['GET'], path = \"/b;,'x\" }]",
    );
    let page = policy("/a/1?text/html").await;
    assert!(page.contains("default-src 'none'") && !page.contains("script-src"), "{page}");
    assert!(page.ends_with(", form-action *:*/a/ *:*/b%3B%2C%27x"), "{page}");
    assert!(page.contains("sandbox allow-same-origin allow-forms ") && !page.contains("allow-scripts"), "refreshes nothing: {page}");
    assert_eq!(shop.get("/a/1?text/html", &[]).await.header("cross-origin-opener-policy"), None);
    assert_eq!(policy("/a/1?text/html;%20x=json").await, page);
    for data in ["application/json", "text/plain", "image/svg%2Bxml", "application/xhtml%2Bxml", "x/y"] {
        assert_eq!(policy(&format!("/a/1?{data}")).await, "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", "{data}");
    }
    *shop.app.site.lock() =
        site("name = 'guest'\nversion = '1.0.0'\npages.scripts = 'sandboxed'\nroutes = [{ name = 'a', methods = ['GET'], path = '/{any}/a' }]");
    let reply = shop.get("/x/a?text/html", &[]).await;
    let page = reply.header("content-security-policy").unwrap();
    assert!(page.contains("sandbox allow-scripts allow-forms;") && page.ends_with(", script-src *:*/assets/guest/; form-action 'none'"), "{page}");
    assert_eq!(reply.header("cross-origin-opener-policy"), None, "refused by browsers together with a sandbox");
}

#[tokio::test]
async fn an_address_that_is_a_secret_stays_one() {
    let shop = Shop::answering(|_| page("thank you")).await;
    for _ in 0..2 {
        let reply = shop.get("/orders/a-secret", &[]).await;
        assert_eq!((reply.header("referrer-policy"), reply.header("cache-control")), (Some("no-referrer"), Some("no-store")));
    }
    assert_eq!(shop.calls(), 2, "kept nowhere");
    let site = site(SHOP);
    assert_eq!((site.path_for_log("/orders/a-secret"), site.path_for_log("/en/p/pot")), ("/orders/{token}", "/en/p/pot"));
}

#[tokio::test]
async fn a_service_worker_gets_one_that_removes_itself() {
    let shop = Shop::answering(|_| page("self.addEventListener('fetch', () => {})")).await;
    shop.get("/en", &[]).await;
    for path in ["/en", "/hook.js", "/assets/shop/0/sw.js", "/%5c"] {
        let reply = shop.get(path, &[("Service-Worker", "script")]).await;
        assert_eq!((reply.status, reply.header("service-worker-allowed")), (200, Some("/")), "{path}");
        assert!(reply.text().contains("registration.unregister()"), "{path}");
    }
    assert_eq!(shop.calls(), 1);
}

#[tokio::test]
async fn a_browser_forgets_the_shop_when_its_person_says_so() {
    let shop = Shop::answering(|_| page("x")).await;
    let page = shop.get("/reset-browser", &[("Accept-Language", "zh")]).await;
    assert!(page.text().contains("清除") && page.header("clear-site-data").is_none());
    assert_eq!(shop.post("/reset-browser", &[("Sec-Fetch-Site", "cross-site")], "x").await.status, 403);
    let reset = shop.post("/reset-browser", &[("Sec-Fetch-Site", "same-origin")], "x").await;
    assert_eq!((reset.status, reset.header("clear-site-data")), (303, Some("\"cache\", \"cookies\", \"storage\"")));
}

#[tokio::test]
async fn redirects_to_sites_that_are_not_listed_are_asked_about() {
    let shop = Shop::with(
        "form-action-origins = ['https://pay.example']",
        sync(|call| {
            let mut redirect = answer(303, "text/plain", "");
            redirect.response.headers.push(("location".into(), routes::decode(&call.request.query).unwrap()));
            Ok(redirect)
        }),
    )
    .await;
    let html = [("Accept", "text/html")];
    for allowed in ["/en/cart", "https://pay.example/1", "http://shop.example/en"] {
        let reply = shop.get(&format!("/en?{allowed}"), &html).await;
        assert_eq!((reply.status, reply.header("location")), (303, Some(allowed)));
    }
    for elsewhere in ["https://evil.example/", "//evil.example", "/%5cevil.example", "/%09/evil.example"] {
        let reply = shop.get(&format!("/en?{elsewhere}"), &html).await;
        assert_eq!((reply.status, reply.header("location")), (200, None), "{elsewhere}");
        assert!(reply.text().contains("evil.example"), "{elsewhere}");
        assert_eq!(shop.get(&format!("/en?{elsewhere}"), &[]).await.status, 502, "a program is told");
    }
    assert_eq!(shop.get("/en?javascript:alert(1)", &html).await.status, 502);
}

#[tokio::test]
async fn a_request_is_sent_again_to_routes_of_the_same_plugin_only() {
    let shop = Shop::with(
        "form-action-origins = ['https://pay.example']",
        sync(|call| {
            let (status, location) = call.request.query.split_once('&').unwrap();
            let mut redirect = answer(status.parse().unwrap(), "text/plain", "");
            redirect.response.headers.push(("location".into(), routes::decode(location).unwrap()));
            Ok(redirect)
        }),
    )
    .await;
    let guest = "name = 'guest'\nversion = '1.0.0'\nroutes = [{ name = 'a', methods = ['GET', 'POST'], path = '/guest/{id}' }]";
    let site = Site::build(&[plugin(SHOP, Vec::new()), plugin(guest, Vec::new())], &["en".into()], None).unwrap();
    *shop.app.site.lock() = Arc::new(site);
    for location in ["/en/cart", "../en/cart", "/guest/%252e%252e/en/cart", "http://shop.example/en/cart", "/cart", "/guest/b/", "/guest/b/c", "/nothing"] {
        for status in [307, 308] {
            let reply = shop.post(&format!("/guest/a?{status}&{location}"), &[], "sku=pot").await;
            assert_eq!((reply.status, reply.header("location")), (502, None), "{status} {location}");
        }
        assert_eq!(shop.post(&format!("/guest/a?303&{location}"), &[], "x").await.status, 303, "{location}");
        assert_eq!(shop.get(&format!("/guest/a?307&{location}"), &[]).await.status, 307, "{location}");
    }
    for own in ["b", "/guest/b?c=d", "https://pay.example/pay"] {
        assert_eq!(shop.post(&format!("/guest/a?307&{own}"), &[], "x").await.status, 307, "{own}");
    }
}

#[tokio::test]
async fn bodies_are_compressed_where_asked_for_and_worth_it() {
    let text = "a page of a shop ".repeat(200);
    let same = text.clone();
    let shop = Shop::answering(move |call| match call.request.query.as_str() {
        "small" => answer(200, "text/html", "small"),
        "image" => answer(200, "image/png", same.clone()),
        "coded" => {
            let mut a = answer(200, "text/html", same.clone());
            a.response.headers.push(("content-encoding".into(), "deflate".into()));
            a
        }
        "page" => page(same.clone()),
        _ => answer(200, "text/html", same.clone()),
    })
    .await;
    let cases = [
        ("", "", None),
        ("", "gzip", Some("gzip")),
        ("", "br", Some("br")),
        ("", "gzip, deflate, br, zstd", Some("zstd")),
        ("", "gzip;q=0", None),
        ("", "br;q=0.1, gzip;q=0.9", Some("gzip")),
        ("small", "gzip", None),
        ("image", "gzip", None),
        ("coded", "gzip", Some("deflate")),
        ("page", "gzip, br", Some("br")),
        ("page", "gzip", Some("gzip")),
        ("page", "identity", None),
    ];
    for (query, accept, coding) in cases {
        let reply = shop.get(&format!("/en?{query}"), &[("Accept-Encoding", accept)]).await;
        assert_eq!(reply.header("content-encoding"), coding, "{query} {accept}");
        let plain = match coding {
            Some("gzip") => {
                let mut out = Vec::new();
                std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&reply.body[..]), &mut out).unwrap();
                out
            }
            Some("br") => {
                let mut out = Vec::new();
                brotli::BrotliDecompress(&mut &reply.body[..], &mut out).unwrap();
                out
            }
            Some("zstd") => zstd::decode_all(&reply.body[..]).unwrap(),
            _ => reply.body.clone(),
        };
        if query != "small" {
            assert_eq!(plain, text.as_bytes());
        }
        assert_eq!(reply.header("content-length").unwrap(), reply.body.len().to_string());
    }
}

#[tokio::test]
async fn pages_are_kept_and_leave_with_their_tags() {
    let shop = Shop::answering(|c| page(format!("{} {}", c.request.locale, c.request.query))).await;
    let first = shop.get("/en/p/pot", &[]).await;
    let cookie = session_cookie("abcdefghijklmnopqrst");
    let second = shop.get("/en/p/pot", &[("Cookie", &cookie)]).await;
    assert_eq!((shop.calls(), first.text(), second.text()), (1, "en ".into(), "en ".into()));
    assert_eq!(second.header("cache-control"), Some("public, max-age=0, must-revalidate"));
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    for path in ["/zh/p/pot", "/en/p/pot?a", "/en/p/pot?b"] {
        shop.get(path, &[]).await;
        shop.get(path, &[]).await;
    }
    assert_eq!(shop.calls(), 4);
    let head = request(shop.server.address, "HEAD", "/en/p/pot", &[], "").await;
    assert_eq!((head.header("content-length"), head.body.len(), shop.calls()), (Some("3"), 0, 4));
    // Revalidation.
    let etag = first.header("etag").unwrap();
    let same = shop.get("/en/p/pot", &[("If-None-Match", etag)]).await;
    assert_eq!((same.status, same.header("etag"), same.body.len(), shop.calls()), (304, Some(etag), 0, 4));
    // By tag.
    shop.pages.invalidate(&["other".into()]);
    shop.get("/en/p/pot", &[]).await;
    assert_eq!(shop.calls(), 4);
    shop.pages.invalidate(&["t".into()]);
    shop.get("/en/p/pot", &[]).await;
    assert_eq!(shop.calls(), 5);
    // A swap of the live set drops all.
    *shop.app.site.lock() = site(SHOP);
    shop.get("/en/p/pot", &[]).await;
    assert_eq!(shop.calls(), 6);
}

#[tokio::test]
async fn pages_are_kept_of_the_live_version_and_for_its_shoppers_alone() {
    const PERCENT: u8 = 50;
    let shop = Shop::answering(|c| {
        let shopper = c.session.as_ref().map_or(c.request.request_id.as_str(), |session| &session.0);
        let tried = canary_has(PERCENT, shopper);
        Answer { shareable: !tried, ..page(if tried { "tried" } else { "live" }) }
    })
    .await;
    let mut site = site(SHOP);
    Arc::get_mut(&mut site).expect("nobody else has it").canary_percent = PERCENT;
    *shop.app.site.lock() = site;
    let mut seen = [0, 0];
    for number in 0..40 {
        let id = format!("visitor-{number}");
        let cookie = session_cookie(&format!("session-of-a-shopper-{number}"));
        for headers in [&[("X-Request-Id", id.as_str())][..], &[("Cookie", cookie.as_str())]] {
            let shopper = if headers[0].0 == "Cookie" { format!("session-of-a-shopper-{number}") } else { id.clone() };
            let tried = canary_has(PERCENT, &shopper);
            let reply = shop.get("/en/p/pot", headers).await;
            assert_eq!((reply.text(), reply.header("etag").is_some()), (if tried { "tried".into() } else { "live".into() }, !tried), "{shopper}");
            seen[usize::from(tried)] += 1;
        }
    }
    assert!(seen[0] > 10 && seen[1] > 10);
    assert_eq!(shop.calls(), seen[1] + 1, "the live version has made its page once");
}

#[tokio::test]
async fn pages_of_unprefixed_routes_are_kept_by_language() {
    let shop = Shop::answering(|c| page(c.request.locale.clone())).await;
    for _ in 0..2 {
        for (language, locale) in [("zh", "zh-CN"), ("en", "en"), ("fr", "en")] {
            assert_eq!(shop.get("/api/x", &[("Accept-Language", language)]).await.text(), locale);
        }
    }
    assert_eq!(shop.calls(), 2);
    assert_eq!(shop.get("/api/x", &[]).await.header("vary"), Some("accept-language, cookie"));
}

#[tokio::test]
async fn personal_pages_are_never_kept() {
    let shop = Shop::answering(|c| {
        let mut a = page(format!("for {:?}", c.session));
        match c.request.query.as_str() {
            "personal" => a.shareable = false,
            "error" => a.response.status = 404,
            "cookie" => a.response.headers.push(("set-cookie".into(), "shop.x=1".into())),
            "vary" => a.response.headers.push(("vary".into(), "user-agent".into())),
            "no-policy" => a.response.cache = None,
            _ => {}
        }
        a
    })
    .await;
    for (i, query) in ["personal", "error", "cookie", "vary", "no-policy"].into_iter().enumerate() {
        for _ in 0..2 {
            shop.get(&format!("/en?{query}"), &[]).await;
        }
        assert_eq!(shop.calls(), 2 * (i + 1), "{query}");
    }
    // Who authenticates neither fills nor reads.
    let before = shop.calls();
    shop.get("/en?auth", &[("Authorization", "Bearer x")]).await;
    shop.get("/en?auth", &[]).await;
    shop.get("/en?auth", &[("Authorization", "Bearer x")]).await;
    assert_eq!(shop.calls(), before + 3);
    assert_eq!(shop.get("/en?personal", &[]).await.header("etag"), None);
}

#[tokio::test]
async fn a_page_rendered_before_a_commit_is_not_kept() {
    let (entered, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (enter, leave) = (entered.clone(), go.clone());
    let shop = Shop::with(
        "",
        Box::new(move |_| {
            let (enter, leave) = (enter.clone(), leave.clone());
            Box::pin(async move {
                enter.add_permits(1);
                leave.acquire().await.unwrap().forget();
                Ok(page("x"))
            })
        }),
    )
    .await;
    let address = shop.server.address;
    let slow = tokio::spawn(async move { request(address, "GET", "/en", &[], "").await });
    entered.acquire().await.unwrap().forget();
    shop.pages.invalidate(&["t".into()]);
    go.add_permits(2);
    assert_eq!(slow.await.unwrap().status, 200);
    shop.get("/en", &[]).await;
    assert_eq!(shop.calls(), 2);
}

#[tokio::test]
async fn one_rendering_serves_those_who_wait() {
    let (entered, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (enter, leave) = (entered.clone(), go.clone());
    let shop = Shop::with(
        "",
        Box::new(move |_| {
            let (enter, leave) = (enter.clone(), leave.clone());
            Box::pin(async move {
                enter.add_permits(1);
                leave.acquire().await.unwrap().forget();
                Ok(page("x"))
            })
        }),
    )
    .await;
    go.add_permits(1);
    // The route is known to be kept only after a first page.
    shop.get("/en?first", &[]).await;
    entered.acquire().await.unwrap().forget();
    let address = shop.server.address;
    let leader = tokio::spawn(async move { request(address, "GET", "/en?a", &[], "").await });
    entered.acquire().await.unwrap().forget();
    let followers: Vec<_> = (0..8).map(|_| tokio::spawn(async move { request(address, "GET", "/en?a", &[], "").await })).collect();
    go.add_permits(100);
    assert_eq!(leader.await.unwrap().text(), "x");
    for follower in followers {
        assert_eq!(follower.await.unwrap().text(), "x");
    }
    assert_eq!(shop.calls(), 2);
}

#[tokio::test]
async fn answers_for_everyone_are_revalidated_without_being_kept() {
    let shop = Shop::answering(|_| {
        let mut a = answer(200, "application/json", format!("[{:2000}]", 1));
        a.shareable = true;
        a
    })
    .await;
    let first = shop.get("/api/p/1", &[]).await;
    let etag = first.header("etag").unwrap();
    assert!(etag.starts_with('"'));
    let again = shop.get("/api/p/1", &[("If-None-Match", etag)]).await;
    assert_eq!((again.status, again.body.len(), shop.calls()), (304, 0, 2));
}

#[tokio::test]
async fn bodies_have_limits() {
    let shop = Shop::with("limits.body-idle-timeout-ms = 100", sync(|c| Ok(answer(200, "text/plain", c.request.body.len().to_string())))).await;
    let ok = shop.post("/api/x", &[], &"x".repeat(1000)).await;
    assert_eq!(ok.text(), "1000");
    let large = shop.post("/api/x", &[], &"x".repeat(1001)).await;
    assert_eq!((large.status, large.header("connection")), (413, Some("close")));
    let head = "POST /api/x HTTP/1.1\r\nhost: shop.example\r\n";
    // Refused before anything is asked for.
    let expect = raw(shop.server.address, &format!("{head}content-length: 1001\r\nexpect: 100-continue\r\n\r\n")).await;
    assert!(expect.starts_with(b"HTTP/1.1 413"));
    let expect = raw(shop.server.address, &format!("{head}content-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n\r\nab")).await;
    assert!(expect.starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"), "{}", String::from_utf8_lossy(&expect));
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let chunked = raw(shop.server.address, &format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}")).await;
    assert!(chunked.starts_with(b"HTTP/1.1 413"));
    let coded = shop.post("/api/x", &[("Content-Encoding", "gzip")], "xxxx").await;
    assert_eq!(coded.status, 415);
    let calls = shop.calls();
    let stalled = raw(shop.server.address, &format!("{head}content-length: 10\r\n\r\nab")).await;
    assert!(stalled.starts_with(b"HTTP/1.1 408"));
    assert_eq!(shop.calls(), calls, "an incomplete request reaches no plugin");
}

#[tokio::test]
async fn headers_have_limits() {
    let shop = Shop::with("limits.header-bytes-max = 8192\nlimits.headers-max = 20", sync(|_| Ok(answer(200, "text/plain", "ok")))).await;
    let many: String = (0..30).map(|i| format!("x-{i}: 1\r\n")).collect();
    let many = raw(shop.server.address, &format!("GET /en HTTP/1.1\r\nhost: a\r\n{many}\r\n")).await;
    assert!(many.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&many));
    let long = raw(shop.server.address, &format!("GET /en HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(20_000))).await;
    // The rest of it may still be under way and reset the connection.
    assert!(long.is_empty() || long.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&long));
    assert_eq!(shop.calls(), 0);
    assert_eq!(shop.get("/en", &[]).await.status, 200);
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let shop = Shop::with("limits.header-timeout-ms = 100", sync(|_| Ok(answer(200, "text/plain", "ok")))).await;
    // Nothing, half of HTTP/2's opening, half a head, and a quiet HTTP/2 connection.
    for opening in ["", "PRI * HT", "GET /en HTTP/1.1\r\nhost: shop.example\r\nx-slow", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        let mut stream = TcpStream::connect(shop.server.address).await.unwrap();
        stream.write_all(opening.as_bytes()).await.unwrap();
        read_to_close(&mut stream).await;
    }
    // Kept alive, then idle.
    let mut stream = TcpStream::connect(shop.server.address).await.unwrap();
    stream.write_all(b"GET /en HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(read_to_close(&mut stream).await.starts_with(b"HTTP/1.1 200"));
    assert_eq!(shop.calls(), 1);
}

/// A big answer to a slow reader is no idle connection.
#[tokio::test]
async fn slow_readers_get_all_of_it() {
    let shop = Shop::with("limits.header-timeout-ms = 100", sync(|_| Ok(answer(200, "image/png", vec![7; 16 << 20])))).await;
    let mut stream = TcpStream::connect(shop.server.address).await.unwrap();
    stream.write_all(b"GET /en HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (mut all, mut part) = (0, vec![0; 1 << 20]);
    loop {
        let read = stream.read(&mut part).await.unwrap();
        if read == 0 {
            break;
        }
        all += read;
        // Longer than the limit in all.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(all > 16 << 20, "{all}");
}

#[tokio::test]
async fn connections_over_the_limit_wait_their_turn() {
    let shop = Shop::with("limits.connections-max = 1", sync(|_| Ok(answer(200, "text/plain", "ok")))).await;
    let mut first = TcpStream::connect(shop.server.address).await.unwrap();
    first.write_all(b"GET /en HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let address = shop.server.address;
    let second = tokio::spawn(async move { request(address, "GET", "/en", &[], "").await });
    // As long as the first is there, the second is not served.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shop.calls(), 1);
    drop(first);
    assert_eq!(second.await.unwrap().status, 200);
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let shop = Shop::with("limits.header-timeout-ms = 200\nlimits.body-idle-timeout-ms = 200", sync(|_| Ok(answer(200, "text/plain", "ok")))).await;
    let smuggled = "GET /en?smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let cases = [
        format!("POST /en/cart HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcde{smuggled}"),
        format!("POST /en/cart HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\nabcde{smuggled}"),
        format!("POST /en/cart HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nabcde{smuggled}"),
        format!("POST /en/cart HTTP/1.1\r\nhost: a\r\ncontent-length: 5 5\r\n\r\nabcde{smuggled}"),
        format!("POST /en/cart HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("POST /en/cart HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("POST /en/cart HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("POST /en/cart HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("POST /en/cart HTTP/1.1\r\nhost: a\r\nx: y\r\n z: folded\r\n\r\n{smuggled}"),
        format!("POST /en/cart HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n{smuggled}"),
        format!("POST /en/cart HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n{smuggled}"),
        format!("GET /en HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n{smuggled}"),
        format!("GET /en HTTP/1.1\r\n\r\n{smuggled}"),
        format!("GET /en\r\nhost: a\r\n\r\n{smuggled}"),
    ];
    for case in cases {
        let reply = raw(shop.server.address, &case).await;
        let refused = reply.starts_with(b"HTTP/1.1 400") || reply.starts_with(b"HTTP/1.0 400");
        assert!(refused, "{case:?} → {}", String::from_utf8_lossy(&reply));
        assert_eq!(shop.calls(), 0, "{case:?}");
    }
    // Both lengths: the chunks count (RFC 9112 section 6.3), and the connection
    // ends, so that what follows is no second request.
    let both = format!("POST /en/cart HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    let reply = raw(shop.server.address, &both).await;
    assert_eq!((reply.windows(7).filter(|w| w == b"HTTP/1.").count(), shop.calls()), (1, 1));
}

/// Plugins answer when `go` lets them; what they wait for is outside where that is asked for.
async fn busy_shop(limits: &str) -> (Shop, Arc<Semaphore>, Arc<Semaphore>) {
    let (entered, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (enter, leave) = (entered.clone(), go.clone());
    let handler = move |call: Call| -> Pin<Box<dyn Future<Output = _> + Send>> {
        let (enter, leave) = (enter.clone(), leave.clone());
        Box::pin(async move {
            if call.request.query == "nothing" {
                return Ok(answer(404, "text/plain", "nothing"));
            }
            enter.add_permits(1);
            let lent = call.place.as_ref().filter(|_| call.request.query == "outside");
            lending(lent, leave.acquire()).await.unwrap().forget();
            Ok(answer(200, "text/plain", "ok"))
        })
    };
    (Shop::with(limits, Box::new(handler)).await, entered, go)
}

#[tokio::test]
async fn overload_is_told() {
    let (shop, entered, go) = busy_shop("limits.requests-max = 1\nlimits.waiting-max = 0").await;
    let address = shop.server.address;
    let first = tokio::spawn(async move { request(address, "GET", "/en", &[], "").await });
    entered.acquire().await.unwrap().forget();
    let refused = shop.get("/en", &[]).await;
    let retry_after = refused.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(refused.status == 503 && retry_after.is_some_and(|seconds| (1..=30).contains(&seconds)), "{} {retry_after:?}", refused.status);
    go.add_permits(1);
    assert_eq!(first.await.unwrap().status, 200);
}

#[tokio::test]
async fn who_waits_outside_keeps_nobody_out() {
    let (shop, entered, go) = busy_shop("limits.requests-max = 1\nlimits.waiting-max = 0").await;
    let address = shop.server.address;
    let outside = tokio::spawn(async move { request(address, "GET", "/en?outside", &[], "").await });
    entered.acquire().await.unwrap().forget();
    let mut inside = tokio::spawn(async move { request(address, "GET", "/en?inside", &[], "").await });
    tokio::select! {
        entered = entered.acquire() => entered.unwrap().forget(),
        inside = &mut inside => panic!("sent away: {}", inside.unwrap().status),
    }
    assert_eq!(shop.get("/en", &[]).await.status, 503);
    go.add_permits(2);
    assert_eq!((outside.await.unwrap().status, inside.await.unwrap().status), (200, 200));
}

/// Once the shop is full, the one waits as long as in a burst, the other is sent away.
#[tokio::test]
async fn who_has_begun_to_buy_is_let_in_before_others() {
    let (shop, entered, go) = busy_shop("limits.requests-max = 1\nlimits.waiting-timeout-ms = 2000\nlimits.waiting-target-ms = 1").await;
    let address = shop.server.address;
    let get = |path: &'static str, cookie: String| tokio::spawn(async move { request(address, "GET", path, &[("Cookie", &cookie)], "").await });
    let first = get("/en", String::new());
    entered.acquire().await.unwrap().forget();
    assert_eq!(shop.get("/en", &[]).await.status, 503);
    let buys = get("/en/cart", session_cookie("abcdefghijklmnopqrst"));
    let (pays, told) = (get("/orders/secret", String::new()), get("/notify", String::new()));
    assert_eq!(shop.get("/en", &[]).await.status, 503);
    // Who has begun nothing: without a session, or with one that is not this shop's.
    let forged = session_cookie("abcdefghijklmnopqrst").replace("abc", "abd");
    for cookie in ["", "souk=abcdefghijklmnopqrst.x", &forged] {
        assert_eq!(shop.get("/en/cart", &[("Cookie", cookie)]).await.status, 503, "{cookie}");
    }
    go.add_permits(4);
    for answer in [first, buys, pays, told] {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn who_asks_critical_routes_for_what_is_not_there_waits_as_all_others() {
    let (shop, entered, go) = busy_shop("limits.requests-max = 1\nlimits.waiting-timeout-ms = 1000\nlimits.waiting-target-ms = 1").await;
    let address = shop.server.address;
    for _ in 0..10 {
        assert_eq!(shop.get("/orders/guessed?nothing", &[]).await.status, 404);
    }
    let first = tokio::spawn(async move { request(address, "GET", "/en", &[], "").await });
    entered.acquire().await.unwrap().forget();
    assert_eq!(shop.get("/en", &[]).await.status, 503);
    let buys = tokio::spawn(async move { request(address, "GET", "/en/cart", &[("Cookie", &session_cookie("abcdefghijklmnopqrst"))], "").await });
    assert_eq!(shop.get("/orders/guessed", &[]).await.status, 503, "as who has not begun");
    go.add_permits(2);
    assert_eq!((first.await.unwrap().status, buys.await.unwrap().status), (200, 200));
}

#[tokio::test]
async fn failures_are_told_without_the_inside() {
    let shop = Shop::with(
        "",
        sync(|c| {
            use FailureKind::*;
            let kinds = [Plugin, Deadline, Overloaded, Conflict, IdempotencyMismatch, IdempotencyInProgress, Unavailable, Share];
            match c.request.query.parse::<usize>() {
                Ok(i) => Err(Failure { kind: kinds[i], plugin: Some("shop".into()), message: "SECRET wasm trap".into() }),
                _ if c.request.query == "bare" => Ok(answer(404, "text/plain", "")),
                _ => Ok(answer(99, "text/plain", "SECRET")),
            }
        }),
    )
    .await;
    for (query, status) in [("0", 500), ("1", 504), ("2", 503), ("3", 503), ("4", 422), ("5", 409), ("6", 503), ("7", 503), ("x", 500), ("bare", 404)] {
        let reply = shop.get(&format!("/en?{query}"), &[("X-Request-Id", "trace-12345")]).await;
        let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, reply.header("content-type")), (status, Some("application/problem+json")), "{query}");
        assert_eq!((problem["status"].as_u64(), problem["request-id"].as_str()), (Some(status.into()), Some("trace-12345")));
        assert!(!reply.text().contains("SECRET"));
        let html = shop.get(&format!("/en?{query}"), &[("Accept", "text/html")]).await;
        assert!(html.text().starts_with("<!doctype html>") && !html.text().contains("SECRET"));
    }
}

#[tokio::test]
async fn assets_and_media_are_served_and_nothing_else() {
    let css = "body { color: black } ".repeat(100);
    let asset = Arc::new(Asset::new("shop", "shop.css", css.clone().into()));
    let shop = Shop::answering(|_| answer(200, "text/plain", "ok")).await;
    let before = Site::build(&[plugin(SHOP, vec![asset.clone()])], &["en".into()], None).unwrap();
    *shop.app.site.lock() = Arc::new(Site::build(&[plugin(SHOP, Vec::new())], &["en".into()], Some(&before)).unwrap());
    let reply = shop.get(&asset.url, &[("Accept-Encoding", "br")]).await;
    assert_eq!((reply.status, reply.header("content-encoding")), (200, Some("br")), "assets outlive a swap");
    assert_eq!(reply.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(reply.header("content-type"), Some("text/css; charset=utf-8"));
    let etag = reply.header("etag").unwrap();
    assert_eq!(shop.get(&asset.url, &[("If-None-Match", etag)]).await.status, 304);
    assert_eq!(shop.get(&asset.url, &[]).await.text(), css);
    assert_eq!(shop.get("/assets/shop/0000/shop.css", &[]).await.status, 404);

    let media = shop.media.path().join("media");
    std::fs::create_dir(media.join("tea")).unwrap();
    std::fs::write(media.join("tea/pot 1.svg"), "<svg/>").unwrap();
    std::fs::write(media.join(".hidden"), "secret").unwrap();
    std::fs::write(shop.media.path().join("souk.toml"), "secret").unwrap();
    std::os::unix::fs::symlink(shop.media.path().join("souk.toml"), media.join("link.txt")).unwrap();
    let reply = shop.get("/media/tea/pot%201.svg", &[]).await;
    assert_eq!((reply.status, reply.text().as_str(), reply.header("content-type")), (200, "<svg/>", Some("image/svg+xml")));
    assert!(reply.header("content-security-policy").unwrap().contains("sandbox"));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=86400"));
    let etag = reply.header("etag").unwrap();
    assert_eq!(shop.get("/media/tea/pot%201.svg", &[("If-None-Match", etag)]).await.status, 304);
    assert_eq!(shop.get("/media/tea/pot%201.svg?v=1", &[]).await.header("cache-control"), Some("public, max-age=31536000, immutable"));
    for bad in ["../souk.toml", "%2e%2e/souk.toml", "..%2fsouk.toml", "tea/../../souk.toml", "/etc/passwd", "%2fetc/passwd", ".hidden", "link.txt", "tea", "tea/", "", "a%00b", "..%5csouk.toml"] {
        assert!(matches!(shop.get(&format!("/media/{bad}"), &[]).await.status, 400 | 404), "{bad}");
    }
    assert_eq!(shop.post("/media/tea/pot%201.svg", &[], "x").await.status, 405);
    assert_eq!(shop.calls(), 0);
}

#[test]
fn assets_are_read_from_a_folder_without_leaving_it() {
    let folder = tempfile::tempdir().unwrap();
    assert!(assets::load("p", &folder.path().join("none")).unwrap().is_empty());
    std::fs::create_dir(folder.path().join("img")).unwrap();
    std::fs::write(folder.path().join("img/a.svg"), "<svg/>").unwrap();
    std::fs::write(folder.path().join("b.js"), "1").unwrap();
    let found = assets::load("p", folder.path()).unwrap();
    let paths: Vec<_> = found.iter().map(|a| a.path.as_str()).collect();
    assert_eq!(paths, ["b.js", "img/a.svg"]);
    assert!(found[1].url.starts_with("/assets/p/") && found[1].url.ends_with("/img/a.svg"));
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link.txt")).unwrap();
    assert!(assets::load("p", folder.path()).is_err());
}

#[tokio::test]
async fn idempotency_keys_are_checked_and_scoped() {
    let (calls, handler) = seen();
    let shop = Shop::with("", handler).await;
    let cookie = session_cookie("abcdefghijklmnopqrst");
    let send = async |headers: &[(&str, &str)], body: &str| {
        let status = shop.post("/api/orders", headers, body).await.status;
        (status, calls.lock().pop().and_then(|c| c.idempotency))
    };
    let key = ("Idempotency-Key", "0d9e3b52-7c1a-4f6e-8b45-91a2c3d4e5f6");
    let guest = send(&[key], "a").await.1.unwrap();
    assert_eq!((guest.key.as_str(), guest.scope.as_str()), (key.1, GUEST));
    assert_eq!(send(&[key], "a").await.1.unwrap(), guest);
    assert_ne!(send(&[key], "b").await.1.unwrap().fingerprint, guest.fingerprint);
    let weak = ("Idempotency-Key", "k-1");
    for guessed in ["k-1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1111-2222-3333-1111-2222"] {
        assert_eq!(send(&[("Idempotency-Key", guessed)], "a").await, (400, None), "{guessed}: whoever has it is not known by it");
    }
    assert!(send(&[weak, ("Cookie", &cookie), ("Sec-Fetch-Site", "same-origin")], "a").await.1.is_some());
    assert!(send(&[weak, ("Authorization", "Bearer x")], "a").await.1.unwrap().scope.starts_with("caller:"));
    assert_eq!(send(&[], "a").await, (200, None));
    let long = "x".repeat(256);
    for bad in [&[("Idempotency-Key", "")][..], &[("Idempotency-Key", "a b")], &[("Idempotency-Key", &long)], &[key, key]] {
        assert_eq!(send(bad, "a").await, (400, None), "{bad:?}");
    }
}

#[tokio::test]
async fn only_trusted_proxies_speak_for_clients() {
    let forwarded = [("X-Forwarded-For", "6.6.6.6, 203.0.113.7")];
    for (config, expected) in [("", "127.0.0.1"), ("trusted-proxies = ['127.0.0.1']", "203.0.113.7"), ("trusted-proxies = ['10.0.0.1']", "127.0.0.1")] {
        let shop = Shop::with(config, sync(|c| Ok(answer(200, "text/plain", c.request.client_address)))).await;
        assert_eq!(shop.get("/en", &forwarded).await.text(), expected, "{config}");
    }
    let shop = Shop::with("trusted-proxies = ['127.0.0.1', '10.0.0.1']", sync(|c| Ok(answer(200, "text/plain", c.request.client_address)))).await;
    for (hops, expected) in [
        ("6.6.6.6, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("203.0.113.7:443, 10.0.0.1:80", "203.0.113.7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "10.0.0.1"),
        ("203.0.113.7, unknown", "127.0.0.1"),
        ("", "127.0.0.1"),
    ] {
        assert_eq!(shop.get("/en", &[("X-Forwarded-For", hops)]).await.text(), expected, "{hops}");
    }
}

#[tokio::test]
async fn what_a_client_started_goes_on_when_it_hangs_up() {
    let (entered, go, done) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (enter, leave, finish) = (entered.clone(), go.clone(), done.clone());
    let shop = Shop::with(
        "",
        Box::new(move |_| {
            let (enter, leave, finish) = (enter.clone(), leave.clone(), finish.clone());
            Box::pin(async move {
                enter.add_permits(1);
                leave.acquire().await.unwrap().forget();
                finish.add_permits(1);
                Ok(answer(200, "text/plain", "ok"))
            })
        }),
    )
    .await;
    let mut stream = TcpStream::connect(shop.server.address).await.unwrap();
    stream.write_all(b"POST /en/cart HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
    entered.acquire().await.unwrap().forget();
    drop(stream);
    go.add_permits(1);
    done.acquire().await.unwrap().forget();
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight() {
    let (entered, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (enter, leave) = (entered.clone(), go.clone());
    let shop = Shop::with(
        "",
        Box::new(move |_| {
            let (enter, leave) = (enter.clone(), leave.clone());
            Box::pin(async move {
                enter.add_permits(1);
                leave.acquire().await.unwrap().forget();
                Ok(answer(200, "text/plain", "done"))
            })
        }),
    )
    .await;
    let (address, ops) = (shop.server.address, shop.server.ops_address.unwrap());
    assert_eq!(request(ops, "GET", "/ready", &[], "").await.status, 200);
    // One kept alive and idle, one at work.
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /en HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    entered.acquire().await.unwrap().forget();
    let Shop { server, app: _app, pages: _pages, media: _media } = shop;
    let draining = tokio::spawn(server.drain());
    // The idle one is closed at once.
    read_to_close(&mut idle).await;
    assert_eq!(request(ops, "GET", "/ready", &[], "").await.text(), "draining\n");
    go.add_permits(1);
    let reply = Reply::parse(&read_to_close(&mut busy).await);
    assert_eq!((reply.status, reply.text().as_str()), (200, "done"));
    assert!(draining.await.unwrap());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_drain_gives_up_at_its_deadline() {
    let entered = Arc::new(Semaphore::new(0));
    let enter = entered.clone();
    let shop = Shop::with(
        "limits.drain-timeout-ms = 50",
        Box::new(move |_| {
            enter.add_permits(1);
            Box::pin(std::future::pending())
        }),
    )
    .await;
    let mut busy = TcpStream::connect(shop.server.address).await.unwrap();
    busy.write_all(b"GET /en HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    entered.acquire().await.unwrap().forget();
    assert!(!shop.server.drain().await);
}

#[tokio::test]
async fn operators_see_figures() {
    let shop = Shop::answering(|_| page("x")).await;
    shop.get("/en", &[]).await;
    shop.get("/en", &[]).await;
    shop.get("/nowhere", &[]).await;
    let text = request(shop.server.ops_address.unwrap(), "GET", "/metrics", &[], "").await.text();
    for line in [
        "souk_http_requests_total{plugin=\"shop\",route=\"home\",status=\"2xx\"} 2",
        "souk_http_requests_total{plugin=\"host\",route=\"unmatched\",status=\"4xx\"} 1",
        "souk_http_page_cache_hits_total{plugin=\"shop\",route=\"home\"} 1",
        "souk_http_duration_seconds_bucket{plugin=\"shop\",route=\"home\",le=\"+Inf\"} 2",
        "souk_http_pages_kept_total 1",
        "fake_metric 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

async fn over_http2(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static, scheme: &str) -> (u16, Bytes) {
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let get = |method: &str| http::Request::builder().method(method).uri(format!("{scheme}://shop.example/en")).body(()).unwrap();
    let head = client.send_request(get("HEAD"), true).unwrap().0.await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "5"));
    assert!(head.into_body().data().await.is_none());
    let reply = client.send_request(get("GET"), true).unwrap().0.await.unwrap();
    let status = reply.status().as_u16();
    let body = reply.into_body().data().await.unwrap().unwrap();
    drop(client);
    driver.abort();
    (status, body)
}

#[tokio::test]
async fn http2_works_with_prior_knowledge() {
    let shop = Shop::answering(|_| answer(200, "text/plain", "hello")).await;
    let stream = TcpStream::connect(shop.server.address).await.unwrap();
    assert_eq!(over_http2(stream, "http").await, (200, Bytes::from("hello")));
}

#[tokio::test]
async fn a_key_that_others_may_read_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let path = |file: &str| folder.path().join(file);
    std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    for (mode, opens) in [(0o600, true), (0o440, true), (0o644, false), (0o620, false), (0o601, false)] {
        std::fs::set_permissions(path("key.pem"), std::fs::Permissions::from_mode(mode)).unwrap();
        let opened = super::server::tls_acceptor(&Tls { certificate: path("cert.pem"), key: path("key.pem") });
        assert_eq!(opened.is_ok(), opens, "{mode:o}");
        if let Err(refused) = opened {
            assert!(refused.to_string().contains("chmod 600"), "{refused}");
        }
    }
}

#[tokio::test]
async fn tls_offers_both_protocols_and_secure_cookies() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let path = |file: &str| folder.path().join(file).display().to_string();
    let mode = |mode| std::fs::set_permissions(folder.path().join("key.pem"), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o640);
    let config = format!("tls = {{ certificate = '{}', key = '{}' }}", path("cert.pem"), path("key.pem"));
    let shop = Shop::with(
        &config,
        sync(|c| {
            let mut a = answer(200, "text/plain", "hello");
            if c.request.query == "session" {
                a.session = SessionChange::Set(SessionId("0123456789abcdef".into()));
            }
            Ok(a)
        }),
    )
    .await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let connect = async |alpn: &str| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(shop.server.address).await.unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect("shop.example".try_into().unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        stream
    };
    assert_eq!(over_http2(connect("h2").await, "https").await, (200, Bytes::from("hello")));
    let mut stream = connect("http/1.1").await;
    stream.write_all(b"GET /en?session HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let reply = Reply::parse(&all);
    assert!(reply.header("set-cookie").unwrap().starts_with("__Host-souk=0123456789abcdef."));
    assert!(reply.header("set-cookie").unwrap().ends_with("; Secure"));
    assert!(reply.header("strict-transport-security").is_some());
}

fn site_of(paths: &[String]) -> Result<Site, SiteError> {
    let mut shop = plugin("name = \"shop\"\nversion = \"1.0.0\"", Vec::new());
    let route = |(index, path): (usize, &String)| Route {
        name: format!("r{index}"),
        methods: ["GET".to_owned()].into(),
        path: path.clone(),
        localized: index % 2 == 1,
        cross_site: false,
        critical: false,
        secret_path: false,
        authorization: false,
        body_bytes_max: 0,
    };
    Arc::get_mut(&mut shop.plugin).expect("just made").manifest.routes = paths.iter().enumerate().map(route).collect();
    Site::build(&[shop], &["en".into(), "zh-CN".into()], None)
}

proptest! {
    /// Whatever a manifest says of paths, and a client asks for.
    #[test]
    fn routes_match_or_are_refused(
        paths in prop::collection::vec("[/{}*a.%é-]{0,12}|/[a-z]{1,3}/\\{[a-z*]{1,4}\\}", 0..4),
        asked in prop::collection::vec("[/{}*a.%é0-]{0,12}|/[a-z]{1,3}/\\PC{0,8}", 1..8),
    ) {
        if let Ok(site) = site_of(&paths) {
            for path in asked {
                if let routes::Found::Mount(_, parameters) = site.find(&http::Method::GET, &path) {
                    prop_assert!(parameters.iter().all(|(_, value)| !value.contains('\0')));
                }
            }
        }
    }

    #[test]
    fn a_parameter_is_what_was_encoded(text in "[^\0]{1,20}") {
        let site = site_of(&["/p/{handle}".into()]).unwrap();
        let path = format!("/p/{}", percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC));
        let routes::Found::Mount(_, parameters) = site.find(&http::Method::GET, &path) else { panic!("{path} is not found") };
        prop_assert_eq!(parameters, [("handle".to_owned(), text)]);
    }

    /// What a plugin answers with never becomes more headers than it says, nor the host's own.
    #[test]
    fn headers_of_plugins_are_sent_as_they_are_or_not_at_all(
        given in prop::collection::vec(("[a-zA-Z:\r\n -]{0,16}|set-cookie|vary|location", "[ -~\r\n\0é]{0,24}|(shop[.])?[a-z]{1,4}=[a-z;= ]{0,12}"), 0..20),
    ) {
        let cookies = ["a".to_owned()].into();
        let cleaned = headers::cleaned(headers::Answerer { plugin: "shop", cookies: &cookies, cross_site_route: false, https: true }, &given);
        for (name, value) in &cleaned.headers {
            prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{name}");
            let is_own = name != "set-cookie" || value.as_bytes().starts_with(b"shop.") || value.as_bytes().starts_with(b"souk_locale=");
            prop_assert!(is_own, "{value:?}");
            prop_assert!(!["connection", "content-length", "transfer-encoding"].contains(&name.as_str()), "{name}");
        }
    }
}
