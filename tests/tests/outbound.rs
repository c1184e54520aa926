//! Web requests of plugins to whoever means harm to the shop: names that lead
//! inside, redirects, servers that never end. `tests/recorder` makes up the
//! network: names and addresses lead where a test says.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use souk_tests::api::Api;
use souk_tests::powercut::library;
use souk_tests::shoppers::Shoppers;
use souk_tests::{Shop, client, install_guest, limit, replace, store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One that no registry holds for special, of a name that plugins are granted.
const PUBLIC: &str = "203.0.114.1";

/// Answers each connection with these bytes, and keeps it open after them; remembers the request lines.
struct Server {
    address: std::net::SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn answering(answer: impl Into<String>) -> Self {
        let (answer, listener) = (answer.into(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let server = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = server.asked.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer_one(connection, answer.clone(), asked.clone()));
            }
        });
        server
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer_one(mut connection: TcpStream, answer: String, asked: Arc<Mutex<Vec<String>>>) {
    let mut request = vec![0; 4_096];
    let read = connection.read(&mut request).await.unwrap_or(0);
    asked.lock().unwrap().push(String::from_utf8_lossy(&request[..read]).lines().next().unwrap_or_default().to_owned());
    let _ = connection.write_all(answer.as_bytes()).await;
    if answer.contains("connection: close") {
        return;
    }
    // Until whoever asked has enough.
    let _ = connection.read(&mut request).await;
}

fn page(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// Where names lead, and what answers at which address. Both can change at any time.
fn lead(network: &Path, names: &[(&str, &str)], outside: &Server, inside: &Server) {
    let inside_at = ["127.0.0.1:80", "[::ffff:127.0.0.1]:80", "[::1]:80", "127.0.0.1:443"];
    let mut lines: String = names.iter().map(|(name, address)| format!("{name} {address}\n")).collect();
    lines.extend(inside_at.map(|address| format!("{address} {}\n", inside.address)));
    lines.push_str(&format!("{PUBLIC}:80 {}\n", outside.address));
    replace(network, lines.as_bytes());
}

fn serve(folder: tempfile::TempDir, network: &Path) -> Shop {
    Shop::serve_with(folder, [("LD_PRELOAD", library().as_os_str()), ("SOUK_NETWORK", network.as_os_str())])
}

/// What a plugin is told when it fetches this.
async fn fetch(shop: &Shop, url: &str) -> String {
    let answer = client().get(format!("{}/hostile/fetch?{url}", shop.url)).send().await.unwrap();
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{url}: {body}");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_of_writing_or_moving_an_address_leads_inside() {
    let folder = store();
    install_guest(&folder, "hostile-service");
    let network = folder.path().join("network");
    let (outside, inside) = (Server::answering(page("outside")).await, Server::answering(page("inside")).await);
    lead(&network, &[("granted.example", PUBLIC), ("mapped.example", "::ffff:127.0.0.1")], &outside, &inside);
    let shop = serve(folder, &network);
    assert_eq!(fetch(&shop, "http://granted.example/first").await, "200 outside");

    for (url, says) in [
        // Granted as they are written, and private for all that.
        ("http://127.0.0.1/", "private address"),
        ("http://2130706433/", "private address"),
        ("http://0x7f.1/", "private address"),
        ("http://[::1]/", "private address"),
        ("http://[::ffff:127.0.0.1]/", "private address"),
        ("http://[::ffff:7f00:1]/", "private address"),
        ("http://mapped.example/", "private address"),
        // Another host than it seems.
        ("http://granted.example@127.0.0.1/", "do not belong there"),
        ("http://granted.example:80@evil.example/", "do not belong there"),
        ("http://granted.example%2f@127.0.0.1/", "do not belong there"),
        ("http://granted.example.evil.example/", "allow-list"),
        ("http://granted.example:81/", "allow-list"),
    ] {
        let told = fetch(&shop, url).await;
        assert!(told.starts_with("refused") && told.contains(says), "{url}: {told}");
    }

    // A name that was good when it was asked for first, and good again later.
    for address in ["127.0.0.1", "::ffff:127.0.0.1", "::1", "169.254.169.254", "10.0.0.1"] {
        lead(&network, &[("granted.example", address)], &outside, &inside);
        let told = fetch(&shop, "http://granted.example/rebound").await;
        assert!(told.starts_with("refused") && told.contains("private address"), "{address}: {told}");
    }
    lead(&network, &[("granted.example", PUBLIC)], &outside, &inside);
    assert_eq!(fetch(&shop, "http://granted.example/last").await, "200 outside");

    // A granted server that sends them on.
    for location in ["http://127.0.0.1/", "http://[::ffff:127.0.0.1]/", "http://granted.example/again"] {
        let sends_on = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let outside = Server::answering(sends_on).await;
        lead(&network, &[("granted.example", PUBLIC)], &outside, &inside);
        assert_eq!(fetch(&shop, "http://granted.example/").await, "302 ");
        assert_eq!(outside.asked().len(), 1, "{location}");
    }
    assert_eq!(outside.asked(), ["GET /first HTTP/1.1", "GET /last HTTP/1.1"]);
    assert_eq!(inside.asked(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_never_ends_its_answer_costs_its_asker_alone() {
    let folder = store();
    install_guest(&folder, "hostile-service");
    let network = folder.path().join("network");
    let endless = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx").await;
    lead(&network, &[("granted.example", PUBLIC)], &endless, &endless);
    let shop = serve(folder, &network);
    let api = Api::of(&shop);
    let (sku, _) = api.buyable(3).await;
    let shoppers = Shoppers::enter(&shop).await;

    // A page of the shop's own graph.
    let answer = client().get(format!("{}/hostile/fetch?http://granted.example/page", shop.url)).send().await.unwrap();
    assert_eq!(answer.status(), 504);
    let deadlines = shop.report("hostile-service")["deadlines"].as_u64();
    assert_eq!(deadlines, Some(1));

    // A provider that every cart asks.
    let (_, before) = api.cart(&sku, 1).await.unwrap();
    shop.misbehave("1.0.1", "http://granted.example/discount");
    let (_, filled) = api.cart(&sku, 1).await.unwrap();
    assert_eq!(filled["totals"], before["totals"]);
    assert!(endless.asked().contains(&"GET /discount HTTP/1.1".to_owned()), "{:?}", endless.asked());
    assert!(shop.report("hostile")["deadlines"].as_u64() >= Some(1));
    shoppers.leave().await;
}

/// The shop has room for one at a time; so that it is seen to be what lets others in, once without lending.
#[tokio::test]
async fn a_slow_server_outside_keeps_nobody_out_of_the_shop() {
    for (outside_max, status) in [(1, 200), (0, 503)] {
        let folder = store();
        install_guest(&folder, "hostile-service");
        limit(&folder, &format!("requests-max = 1\nrequests-outside-max = {outside_max}\nwaiting-max = 0"));
        let network = folder.path().join("network");
        let slow = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx").await;
        lead(&network, &[("granted.example", PUBLIC)], &slow, &slow);
        let shop = serve(folder, &network);
        let waits = client().get(format!("{}/hostile/fetch?http://granted.example/", shop.url)).send();
        let meanwhile = async {
            while slow.asked().is_empty() {
                tokio::task::yield_now().await;
            }
            Api::of(&shop).send("GET", "/countries", Value::Null).await.0
        };
        tokio::select! {
            _ = waits => panic!("it was answered before the server outside"),
            meanwhile = meanwhile => assert_eq!(meanwhile, status),
        }
    }
}
