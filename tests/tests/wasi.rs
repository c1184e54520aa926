//! Plugins that are written against the standard interfaces of WASI, in a shop
//! that has nothing else.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use souk_tests::{Shop, bare_store, client, install, install_guest, replace, root, souk_says};

fn shop() -> Shop {
    let store = bare_store(&[]);
    install_guest(&store, "wasi");
    Shop::serve(store)
}

async fn get(shop: &Shop, path: &str) -> (u16, String) {
    let answer = client().get(format!("{}{path}", shop.url)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// What `souk plugin call` shows of one request to the guest of these tests.
fn rehearse(path: &str) -> Value {
    let input = tempfile::NamedTempFile::new().unwrap();
    let request = json!({
        "method": "GET", "path": path, "query": "", "route": "all", "params": [], "headers": [], "body": "", "locale": "en",
        "locale-prefix": "", "request-id": "1", "client-address": "203.0.113.1", "caller": "",
    });
    let scenario = json!({ "call": { "interface": "souk:web/handler", "function": "handle" }, "now": "2026-11-11T00:00:00Z", "parameters": [request], "settings": { "greeting": "你好" } });
    fs::write(input.path(), scenario.to_string()).unwrap();
    let built = root().join("target/guests/wasi");
    let (_, said) = souk_says(&["plugin", "call", built.to_str().unwrap(), "--input", input.path().to_str().unwrap(), "--json"]);
    let report = serde_json::Deserializer::from_str(&said).into_iter::<Value>().next();
    report.unwrap_or_else(|| panic!("nothing was said")).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Lines of the plugin's log, with their levels.
fn log_of(report: &Value) -> Vec<String> {
    let line = |line: &Value| format!("{} {}", line["level"].as_str().unwrap(), line["message"].as_str().unwrap());
    report["log"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test]
async fn a_request_goes_in_and_its_answer_comes_out() {
    let shop = shop();
    let body: String = (0..20_000).map(|n| n.to_string()).collect();
    let target = "/wasi/echo/a%20b/%E8%8C%B6?name=Li+Lei&x=%2F";
    let answer = client().post(format!("{}{target}", shop.url)).header("x-asked", "for tea").body(body.clone()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((header("x-plugin-method"), header("x-plugin-target"), header("x-plugin-seen")), ("POST".into(), target.into(), "for tea".into()));
    assert_eq!(header("x-plugin-address"), shop.url);
    assert_eq!(header("content-security-policy").split(' ').next(), Some("default-src"), "as all answers of the shop");
    assert_eq!(answer.text().await.unwrap(), body);
    assert_eq!(get(&shop, "/wasi/fields").await, (200, "done".into()));

    for path in ["nothing", "error", "half", "short", "large"] {
        let (status, body) = get(&shop, &format!("/wasi/{path}")).await;
        assert_eq!(status, 500, "{path}: {body}");
        assert_eq!(get(&shop, "/wasi/echo").await.0, 200, "after {path}");
    }
    assert!(shop.report("wasi")["failures"].as_u64().unwrap() >= 5);
}

#[tokio::test]
async fn pairs_are_kept_with_the_unit_and_go_with_it() {
    let shop = shop();
    for wanted in ["1", "2"] {
        assert_eq!(get(&shop, "/wasi/count").await, (200, wanted.into()));
        assert_eq!(get(&shop, "/wasi/count?fail").await.0, 500, "and what it counted is gone");
    }
    let (status, said) = get(&shop, "/wasi/pairs").await;
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("`a` holds no number") && said.contains("collection"), "{said}");
    let (exported, said) = shop.says(&["plugin", "data", "export", "wasi", shop.folder().join("wasi.jsonl").to_str().unwrap()]);
    assert!(exported, "{said}");
    let lines = fs::read_to_string(shop.folder().join("wasi.jsonl")).unwrap();
    assert!(lines.lines().any(|line| line.contains("visits") && line.contains("page") && line.contains("Mg==")), "{lines}");
    let (_, said) = souk_says(&["plugin", "check", shop.plugin("wasi").to_str().unwrap()]);
    assert!(said.contains("keep data of its own") && said.contains("web requests to this shop itself"), "the powers of what it uses: {said}");
}

#[tokio::test]
async fn requests_reach_granted_hosts_before_the_first_write() {
    let shop = shop();
    let answer = client().get(format!("{}/wasi/own", shop.url)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((header("x-plugin-method"), header("x-plugin-target"), header("x-plugin-seen")), ("POST".into(), "/wasi/echo/there?a=1".into(), "by the plugin".into()));
    assert_eq!(answer.text().await.unwrap(), "ping");
    for path in ["foreign", "after"] {
        let (status, code) = get(&shop, &format!("/wasi/{path}")).await;
        assert!(status == 200 && code.contains("HttpRequestDenied"), "{path}: {code}");
    }
    let said = shop_log("foreign");
    assert!(said.contains("add \"example.org\" to [http] hosts") && !said.contains("secret"), "{said}");
    assert!(shop_log("after").contains("the unit has written already"));
}

fn shop_log(path: &str) -> String {
    log_of(&rehearse(&format!("/wasi/{path}"))).join("\n")
}

#[test]
fn settings_log_lines_and_clocks_are_those_of_the_plugin() {
    let answer = |report: &Value| report["answer"]["body"].as_str().unwrap_or_else(|| panic!("{report:#}")).to_owned();
    assert_eq!(answer(&rehearse("/wasi/config")), "你好 greeting=你好 number=3");
    let report = rehearse("/wasi/log");
    let lines = ["warn by wasi:logging", "debug not shown", "warn in two parts", "info on stdout", "warn without an end"];
    assert_eq!(log_of(&report), lines, "{report:#}");
    assert_eq!(answer(&rehearse("/wasi/clocks")), "1794355200", "the call's instant, whatever was waited for");
    let report = rehearse("/wasi/absent");
    assert!(answer(&report).contains("access-denied"), "{report:#}");
    assert!(log_of(&report)[0].starts_with("warn wasi:sockets: a plugin has no sockets"), "{report:#}");
    for (path, reason) in [("nothing", "without an answer"), ("error", "ConfigurationError"), ("half", "not finished"), ("short", "content-length")] {
        let report = rehearse(&format!("/wasi/{path}"));
        assert!(log_of(&report).iter().any(|line| line.starts_with("error wasi:http") && line.contains(reason)), "{path}: {report:#}");
    }
}

#[tokio::test]
async fn what_a_shop_does_not_have_is_named() {
    let shop = shop();
    let path = shop.plugin("wasi").join("plugin.wasm");
    let component = fs::read(&path).unwrap();
    replace(&path, &replaced(&component, b"wasi:logging/logging", b"wasi:nothing/nothing"));
    shop.until("wasi", |report| report["problem"].is_string());
    let problem = shop.report("wasi")["problem"].to_string();
    assert!(problem.contains("imports `wasi:nothing/nothing@0.1.0-draft`, which no shop has"), "{problem}");
    assert_eq!(get(&shop, "/wasi/count").await.0, 200, "and the version that is live goes on");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = bytes.windows(from.len()).enumerate().filter(|(_, window)| *window == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    bytes
}

/// In languages that bring WASI along, built with their own tools.
#[tokio::test]
async fn pages_are_written_in_javascript_and_python_too() {
    for name in ["hello-js", "hello-py"] {
        if !Path::new(&root().join("target/examples").join(name)).exists() {
            eprintln!("{name} is not built: its language is not here");
            continue;
        }
        let store = bare_store(&[]);
        install(&store, name);
        let shop = Shop::serve(store);
        for visit in 1..=3 {
            let (status, page) = get(&shop, &format!("/{name}?name=%3CLi%20Lei%3E")).await;
            assert_eq!(status, 200, "{name}: {page}");
            assert!(page.contains("Li Lei") && !page.contains("<Li") && page.contains(&format!("number {visit}.")), "{name}: {page}");
        }
        assert_eq!(shop.report(name)["failures"], 0);
    }
}
