//! What a plugin's pages and answers can do to shoppers, to each other and after
//! it is gone; and what neighbours and guessers can do. The attackers are
//! `tests/guests/hostile-service`, a program, and a user.

use std::fs;

use reqwest::header::HeaderMap;
use serde_json::Value;
use souk_tests::api::{Api, INSTANT};
use souk_tests::wire::Client;
use souk_tests::{Shop, behind_a_proxy, client, copy, grant, install_guest, root, store};
use tempfile::TempDir;

const KEY: &str = "6a0f2c1e-93b7-4d58-8e21-7f4c5b6d9a03";

/// A store with the guest, whose manifest says this too.
fn store_with_guest(more: &str) -> TempDir {
    let store = store();
    let guest = store.path().join("store/plugins/hostile-service");
    copy(&root().join("target/guests/hostile-service"), &guest);
    let manifest = fs::read_to_string(guest.join("plugin.toml")).unwrap();
    fs::write(guest.join("plugin.toml"), format!("{manifest}\n{more}\n")).unwrap();
    store
}

/// Where the guest answers with these headers.
fn hostile(shop: &Shop, headers: &[(&str, &str)]) -> reqwest::Url {
    reqwest::Url::parse_with_params(&format!("{}/hostile/answer", shop.url), headers).unwrap()
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn an_answer_of_a_plugin_carries_nothing_that_outlives_or_leaves_it() {
    let store = store();
    install_guest(&store, "hostile-service");
    let shop = Shop::serve(store);
    let client = client();
    for (name, value) in [
        ("service-worker-allowed", "/"),
        ("clear-site-data", "\"cookies\""),
        ("refresh", "0;url=https://evil.example"),
        ("content-security-policy-report-only", "report-uri https://evil.example"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("set-cookie", "hostile-service.left=behind; max-age=99999999"),
        ("nel", "{\"report_to\":\"evil\",\"max_age\":31536000}"),
        ("report-to", "{\"group\":\"evil\",\"endpoints\":[{\"url\":\"https://evil.example\"}]}"),
        ("reporting-endpoints", "default=\"https://evil.example\""),
        ("x-accel-redirect", "/protected"),
        ("x-accel-expires", "31536000"),
        ("x-sendfile", "/etc/passwd"),
        ("surrogate-control", "max-age=31536000"),
        ("cdn-cache-control", "max-age=31536000"),
        ("speculation-rules", "\"/rules.json\""),
        ("alt-svc", "h3=\"evil.example:443\""),
        ("expires", "Thu, 01 Dec 2044 16:00:00 GMT"),
        ("link", "<https://evil.example/x.js>; rel=preload; as=script"),
        ("link", "<https://evil.example>; rel=\"next, preconnect\""),
        ("www-authenticate", "Basic realm=\"Your shop\""),
    ] {
        let answer = client.get(hostile(&shop, &[(name, value)])).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{name}");
        assert_eq!(header(answer.headers(), name), "", "{name}");
    }
    for (query, name, kept) in [
        ("cache-control=public,max-age%3d31536000,immutable", "cache-control", "public, max-age=3600"),
        ("x-plugin-count=3", "x-plugin-count", "3"),
        ("refresh=4", "refresh", "4"),
        ("status=301&location=/en", "cache-control", "private, no-cache"),
    ] {
        let answer = client.get(format!("{}/hostile/answer?{query}", shop.url)).send().await.unwrap();
        assert_eq!(header(answer.headers(), name), kept, "{query}");
    }
    let parts = client.get(hostile(&shop, &[("content-type", "multipart/x-mixed-replace; boundary=a")])).send().await.unwrap();
    assert_eq!(header(parts.headers(), "content-type"), "text/html", "the guest's other one");
    for kind in ["text/html", "text/html; x=json", "TEXT/HTML;charset=utf-8"] {
        let answer = client.get(hostile(&shop, &[("content-type", kind)])).send().await.unwrap();
        let policy = header(answer.headers(), "content-security-policy");
        assert!(policy.contains("base-uri 'none'; form-action 'self'") && !policy.contains("script-src"), "{kind}: {policy}");
        assert!(policy.ends_with("form-action *:*/hostile/"), "{kind}: {policy}");
        assert!(policy.contains("; sandbox allow-same-origin ") && !policy.contains("allow-scripts"), "leaves the shop by itself: {kind}: {policy}");
    }
    for kind in ["application/json", "image/svg+xml", "text/xml", "text/javascript"] {
        let answer = client.get(hostile(&shop, &[("content-type", kind)])).send().await.unwrap();
        let policy = header(answer.headers(), "content-security-policy");
        assert_eq!(policy, "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", "{kind}");
    }
}

#[tokio::test]
async fn plugins_are_not_shown_where_a_shopper_was_nor_who_they_say_they_are() {
    let store = store();
    install_guest(&store, "hostile-service");
    let shop = Shop::serve(store);
    let shown = client()
        .get(format!("{}/hostile/shown", shop.url))
        .header("referer", format!("{}/en/orders/a-secret", shop.url))
        .header("authorization", "Bearer a-secret")
        .header("cookie", "souk=a-secret")
        .header("x-anything", "else")
        .send()
        .await
        .unwrap();
    let shown = shown.text().await.unwrap();
    assert!(shown.contains("x-anything: else") && !shown.contains("a-secret"), "{shown}");
}

#[tokio::test]
async fn the_address_of_an_order_is_told_to_nobody() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(1).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    let (_, placed) = api.order(&cart, INSTANT).await.unwrap();
    let token = placed["token"].as_str().unwrap();
    for path in [format!("/en/orders/{token}"), format!("/api/v1/orders/{token}")] {
        let answer = client().get(format!("{}{path}", shop.url)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(answer.headers(), "referrer-policy")), (200, "no-referrer"), "{path}");
        assert_eq!(header(answer.headers(), "cache-control"), "no-store", "{path}");
    }
    // Who guesses is told each time, which is what the shop counts.
    for action in ["check", "cancel", "retry", "change"] {
        let guessed = client().post(format!("{}/en/orders/guessed/{action}", shop.url)).send().await.unwrap();
        assert_eq!(guessed.status(), 404, "{action}");
    }
    assert_eq!(client().post(format!("{}/en/orders/{token}/check", shop.url)).send().await.unwrap().status(), 303);
}

#[tokio::test]
async fn what_pages_want_beyond_being_shown_is_asked_for_and_can_be_denied() {
    let store = store_with_guest(
        "[pages]\nscripts = \"shop\"\ncookies = [\"left\"]\n[[routes]]\nname = \"rush\"\nmethods = [\"GET\"]\npath = \"/rush\"\ncritical = true\nauthorization = true",
    );
    let shop = Shop::serve(store);
    let wanted = ["script shop", "cookie hostile-service.left", "priority /rush", "authorization /rush"];
    let (granted, said) = shop.says(&["plugin", "grant", "hostile-service"]);
    assert!(!granted || !said.contains("is live"), "nobody said yes: {said}");
    for plain in ["as the shop itself", "keep the cookie `hostile-service.left`", "go before others", "read the credentials"] {
        assert!(said.contains(plain), "{plain}: {said}");
    }
    let deny: Vec<&str> = wanted.iter().flat_map(|power| ["--deny", power]).collect();
    let (granted, said) = shop.says(&[&["plugin", "grant", "--yes"][..], &deny, &["hostile-service"]].concat());
    assert!(granted, "{said}");
    shop.until("hostile-service", |report| report["version"] == "1.0.0" && report["problem"].is_null());
    let ask = async || client().get(format!("{}/hostile/answer?set-cookie=hostile-service.left%3dx", shop.url)).send().await.unwrap();
    let answer = ask().await;
    assert!(!header(answer.headers(), "content-security-policy").contains("script-src"), "{:?}", answer.headers());
    assert_eq!(header(answer.headers(), "set-cookie"), "");

    let (granted, said) = shop.says(&["plugin", "grant", "--yes", "hostile-service"]);
    assert!(granted && said.contains("is live"), "{said}");
    let answer = ask().await;
    let policy = header(answer.headers(), "content-security-policy");
    assert!(policy.contains("script-src 'self'; connect-src 'self'") && policy.contains("script-src *:*/assets/hostile-service/"), "{policy}");
    assert!(policy.contains("worker-src 'none'"), "{policy}");
    assert!(header(answer.headers(), "set-cookie").starts_with("hostile-service.left=x; "));
}

#[tokio::test]
async fn a_redirect_leads_out_of_the_shop_only_where_the_operator_says_so() {
    let store = store_with_guest("");
    grant(&store, "hostile-service");
    let settings = store.path().join("store/souk.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace("[server]", "[server]\nform-action-origins = [\"https://pay.example\"]")).unwrap();
    let shop = Shop::serve(store);
    let follow = async |to: &str, accept: &str| {
        let request = client().get(hostile(&shop, &[("status", "303"), ("location", to)]));
        request.header("accept", accept).send().await.unwrap()
    };
    for inside in ["/en/cart", "https://pay.example/pay/1"] {
        let answer = follow(inside, "text/html").await;
        assert_eq!((answer.status().as_u16(), header(answer.headers(), "location")), (303, inside));
    }
    for outside in ["https://evil.example/", "//evil.example", "/\\evil.example", "https://pay.example.evil.example/", "https:evil.example"] {
        let asked = follow(outside, "text/html").await;
        assert_eq!((asked.status().as_u16(), header(asked.headers(), "location")), (200, ""), "{outside}");
        assert!(asked.text().await.unwrap().contains("evil.example</b>"), "{outside}");
        assert_eq!(follow(outside, "application/json").await.status(), 502, "{outside}");
    }
    for path in ["/\\evil.example/", "/%5Cevil.example/", "//evil.example/", "/%09/evil.example/"] {
        let mut raw = Client::connect(shop.url.trim_start_matches("http://").parse().unwrap()).await.unwrap();
        let answer = raw.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        let head = String::from_utf8_lossy(answer.head).to_lowercase();
        assert!(answer.status == 400 && !head.contains("location:"), "{path}: {head}");
    }
}

#[tokio::test]
async fn a_page_of_a_plugin_cannot_have_its_form_sent_on_to_the_cart() {
    let store = store();
    install_guest(&store, "hostile-service");
    let shop = Shop::serve(store);
    let (sku, _) = Api::of(&shop).buyable(1).await;
    let send = async |status: &str, to: &str| {
        let form = client().post(hostile(&shop, &[("status", status), ("location", to)])).header("sec-fetch-site", "same-origin");
        let form = form.header("content-type", "application/x-www-form-urlencoded").body(format!("sku={sku}&quantity=1"));
        let answer = form.send().await.unwrap();
        (answer.status().as_u16(), header(answer.headers(), "location").to_owned())
    };
    for theirs in ["/en/cart/lines", "/cart/lines", "../en/cart/lines", &format!("{}/en/cart/lines", shop.url)] {
        for status in ["307", "308"] {
            assert_eq!(send(status, theirs).await, (502, String::new()), "{status} {theirs}");
        }
    }
    assert_eq!(send("303", "/en/cart").await, (303, "/en/cart".into()));
    assert_eq!(send("307", "/hostile/shown").await, (307, "/hostile/shown".into()));
}

struct Guest {
    shop: String,
    address: &'static str,
    cookie: Option<String>,
}

impl Guest {
    fn of(shop: &Shop, address: &'static str) -> Self {
        Self { shop: shop.url.clone(), address, cookie: None }
    }

    fn with(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let request = request.header("x-forwarded-for", self.address).header("sec-fetch-site", "same-origin");
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    /// Whether it was a kept answer, and the cookie that came with it.
    async fn add(&mut self, sku: &str, key: &str, arrives: bool) -> (bool, Option<String>) {
        let request = client().post(format!("{}/en/cart/lines", self.shop)).header("idempotency-key", key);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(format!("sku={sku}&quantity=1"));
        let answer = self.with(request).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 303, "{:?}", answer.text().await);
        let cookie = answer.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned());
        if arrives && cookie.is_some() {
            self.cookie.clone_from(&cookie);
        }
        (answer.headers().contains_key("idempotent-replayed"), cookie)
    }

    async fn count(&self) -> String {
        self.with(client().get(format!("{}/en/cart/count", self.shop))).send().await.unwrap().text().await.unwrap()
    }
}

fn shop_behind_a_proxy() -> Shop {
    let store = store();
    behind_a_proxy(&store);
    Shop::serve(store)
}

#[tokio::test]
async fn the_same_key_behind_one_address_gives_nobody_the_cart_of_another() {
    let shop = shop_behind_a_proxy();
    let (sku, _) = Api::of(&shop).buyable(5).await;
    let (mut shopper, mut neighbour) = (Guest::of(&shop, "203.0.113.7"), Guest::of(&shop, "203.0.113.7"));
    let (_, first) = shopper.add(&sku, KEY, true).await;
    let (_, second) = neighbour.add(&sku, KEY, true).await;
    assert!(first.is_some() && second.is_some() && first != second, "each a cart of their own");
    shopper.add(&sku, "8c2d1f40-5a6b-4e97-b3d8-0f1e2d3c4b5a", true).await;
    assert_eq!((shopper.count().await.as_str(), neighbour.count().await.as_str()), ("2", "1"));
    // Who got the answer and asks again has it once.
    let (replayed, cookie) = shopper.add(&sku, KEY, true).await;
    assert!(replayed && cookie.is_none());
    assert_eq!(shopper.count().await, "2");
}

#[tokio::test]
async fn who_tries_again_from_another_network_has_added_once() {
    let shop = shop_behind_a_proxy();
    let (sku, _) = Api::of(&shop).buyable(5).await;
    // The first answer is lost on the way.
    let mut shopper = Guest::of(&shop, "203.0.113.7");
    shopper.add(&sku, KEY, false).await;
    shopper.address = "198.51.100.9";
    shopper.add(&sku, KEY, true).await;
    assert_eq!(shopper.count().await, "1");
    // And with a session.
    const NEXT: &str = "next-1";
    shopper.add(&sku, NEXT, false).await;
    shopper.address = "192.0.2.3";
    assert!(shopper.add(&sku, NEXT, false).await.0);
    assert_eq!(shopper.count().await, "2");
    // A guest of the API, who has a key and nothing else.
    let create = async |address: &str, key: &str| {
        let request = client().post(format!("{}/api/v1/carts", shop.url)).header("x-forwarded-for", address).header("idempotency-key", key);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, made) = create("203.0.113.7", KEY).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(create("198.51.100.9", KEY).await, (status, made));
    let (status, told) = create("203.0.113.7", "cart-1").await;
    assert!(status == 400 && told["detail"].as_str().unwrap().contains("nobody guesses"), "{told}");
}
