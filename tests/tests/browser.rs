//! A purchase in Chromium, with scripts and without, in English and Chinese,
//! wide and narrow. Each page is held to WCAG 2.2 AA by axe-core, and its
//! picture is kept under `target/screenshots`. And what a plugin's page can reach
//! from there, and leave behind.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use souk_tests::{Shop, copy, grant, root, store};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const AXE: &str = include_str!("../browser/axe.min.js");

const STARTS_MAX: usize = 5;

/// A WebDriver server of its own, with its browsers in its process group and their profiles in its folder.
struct Driver {
    process: Child,
    url: String,
    /// Goes with all that a browser leaves in it.
    _folder: TempDir,
}

impl Driver {
    fn start() -> Self {
        // It takes a free port of one protocol and wants the same number of the other, which a neighbour may have.
        (0..STARTS_MAX).find_map(|_| Self::try_start()).expect("chromedriver tells its port")
    }

    fn try_start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", folder.path())
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver: {error}. Install Chromium and its driver (Debian: chromium chromium-driver)"));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut driver = Self { process, url: String::new(), _folder: folder };
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned()))?;
        std::thread::spawn(move || lines.for_each(drop));
        driver.url = format!("http://127.0.0.1:{port}");
        Some(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Browsers of a test that failed are still there.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

struct Browser {
    client: Client,
    scripts: bool,
    shots: PathBuf,
    taken: usize,
}

impl Browser {
    async fn open(driver: &Driver, language: &str, scripts: bool, width: u32) -> Self {
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", &format!("--window-size={width},900"), &format!("--lang={language}")];
        let mut options = json!({ "args": arguments });
        if !scripts {
            options["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
        }
        let mut capabilities = Capabilities::new();
        capabilities.insert("goog:chromeOptions".into(), options);
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new()).capabilities(capabilities).connect(&driver.url).await.expect("Chromium starts");
        let shots = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../target/screenshots/{language}-{width}-{}", if scripts { "scripts" } else { "plain" }));
        fs::create_dir_all(&shots).unwrap();
        Self { client, scripts, shots, taken: 0 }
    }

    async fn go(&self, url: String) {
        self.client.goto(&url).await.unwrap();
    }

    /// Clicks what leads to another page, and returns when this one is gone:
    /// the next may have the same elements.
    async fn click(&self, css: &str) {
        let element = self.client.wait().for_element(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"));
        element.click().await.unwrap();
        let gone = async {
            while element.tag_name().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap_or_else(|_| panic!("{css} leads nowhere"));
    }

    async fn fill(&self, css: &str, text: &str) {
        let field = self.client.wait().for_element(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"));
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    async fn text(&self, css: &str) -> String {
        self.client.wait().for_element(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}")).text().await.unwrap()
    }

    /// Waits for the page that has this, keeps its picture and checks it.
    async fn look(&mut self, name: &str, css: &str) {
        self.client.wait().for_element(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{name} has no {css}: {error}"));
        self.taken += 1;
        fs::write(self.shots.join(format!("{:02}-{name}.png", self.taken)), self.client.screenshot().await.unwrap()).unwrap();
        if !self.scripts {
            return;
        }
        // In the sandbox of a plugin that may run no scripts not even the driver's asynchronous ones end: there, its page is
        // looked at in place of one of the shop.
        let url = self.client.current_url().await.unwrap();
        let is_sandboxed = url.path().starts_with("/pay-sandbox/");
        if is_sandboxed {
            let source = self.client.source().await.unwrap();
            self.client.goto(url.join("/en/").unwrap().as_str()).await.unwrap();
            let write = "document.open(); document.write(arguments[0]); document.close();";
            self.client.execute(write, vec![source.into()]).await.unwrap();
            self.client.wait().for_element(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{name} has no {css}: {error}"));
        }
        // Run by the driver, not by the page: the page's policy does not matter.
        let run = format!(
            "{AXE}; const done = arguments[arguments.length - 1];
             axe.run({{ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }})
                .then((found) => done(found.violations.map((v) => [v.impact, v.id, v.nodes.map((n) => n.html)])), (error) => done([String(error)]));"
        );
        let violations: Value = self.client.execute_async(&run, Vec::new()).await.unwrap();
        assert_eq!(violations, json!([]), "{name}");
        let wider = "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(self.client.execute(wider, Vec::new()).await.unwrap(), json!(false), "{name} is wider than the window");
        if is_sandboxed {
            self.client.goto(url.as_str()).await.unwrap();
        }
    }

    async fn number_of_order(&self) -> String {
        self.text("p.number b").await
    }
}

struct Words {
    language: &'static str,
    declined: &'static str,
    thanks: &'static str,
}

const ENGLISH: Words = Words { language: "en", declined: "The payment was declined", thanks: "Thank you for your order" };
const CHINESE: Words = Words { language: "zh", declined: "支付未成功", thanks: "下单成功，感谢惠顾" };

async fn buy(words: &Words, scripts: bool, width: u32) {
    let shop = Shop::open();
    let driver = Driver::start();
    let mut browser = Browser::open(&driver, words.language, scripts, width).await;
    let base = format!("{}/{}", shop.url, words.language);

    browser.go(base.clone()).await;
    browser.look("home", "section.hero").await;
    browser.go(format!("{base}/products?sort=price-up")).await;
    browser.look("products", "ul.grid").await;
    browser.click("ul.grid .card a").await;
    browser.look("product", "form.buy").await;
    browser.click("form.buy button").await;
    browser.look("cart", "ul.lines").await;
    browser.fill("ul.lines input.number", "2").await;
    browser.click("ul.lines form button").await;
    browser.fill("#code", "nonsense").await;
    browser.click("form.code button").await;
    browser.look("cart-with-a-wrong-code", "#code-error").await;

    browser.click("aside a.button").await;
    browser.look("address", "#email").await;
    for (field, text) in [
        ("#email", "li.lei@shop.example"),
        ("#name", "李雷"),
        ("#phone", "13800138000"),
        ("#city", "杭州市"),
        ("#district", "西湖区"),
        ("#street", "龙井路 1 号"),
    ] {
        browser.fill(field, text).await;
    }
    let region = browser.client.find(Locator::Css("#region")).await.unwrap();
    region.select_by_value("33").await.unwrap();
    browser.click("form.stacked button.full").await;
    browser.look("delivery", "input[name=method]").await;
    if scripts {
        // The total follows what is chosen, on the same page.
        for (method, price) in [("express", "25.00"), ("standard", "12.00")] {
            browser.client.find(Locator::Css(&format!("input[value={method}]"))).await.unwrap().click().await.unwrap();
            let delivery = format!("//aside//dd[contains(., '{price}')]");
            browser.client.wait().for_element(Locator::XPath(&delivery)).await.unwrap_or_else(|error| panic!("{method}: the total is without it: {error}"));
        }
    }
    browser.click("form.stacked button.full").await;
    browser.look("payment", "input[name=fingerprint]").await;
    browser.click("form.stacked button.full").await;
    browser.look("provider", "button[value=decline]").await;
    browser.click("button[value=decline]").await;
    browser.look("declined", "form[action$=retry]").await;
    assert_eq!(browser.text("h1").await, words.declined);
    let number = browser.number_of_order().await;
    browser.click("form[action$=retry] button").await;
    browser.click("button[value=approve]").await;
    browser.look("placed", "p.number b").await;
    assert_eq!((browser.text("h1").await.as_str(), browser.number_of_order().await), (words.thanks, number.clone()));

    // The link is good for whoever has it, and the cart is empty again.
    let link = browser.client.current_url().await.unwrap();
    browser.client.delete_all_cookies().await.unwrap();
    browser.go(link.to_string()).await;
    assert_eq!(browser.number_of_order().await, number);
    browser.go(format!("{base}/cart")).await;
    browser.look("empty-cart", ".lost").await;
    browser.client.clone().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purchase_in_english() {
    buy(&ENGLISH, true, 1200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purchase_in_chinese_on_a_phone() {
    buy(&CHINESE, true, 390).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purchase_without_scripts() {
    buy(&ENGLISH, false, 1200).await;
    buy(&CHINESE, false, 390).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_in_an_address_are_shown_at_their_fields() {
    let shop = Shop::open();
    let driver = Driver::start();
    let mut browser = Browser::open(&driver, "en", true, 1200).await;
    browser.go(format!("{}/en/products?sort=price-up", shop.url)).await;
    browser.click("ul.grid .card a").await;
    browser.click("form.buy button").await;
    browser.click("aside a.button").await;
    browser.fill("#email", "nobody").await;
    // As browsers do that know nothing of patterns.
    browser.client.execute("document.querySelector('form.stacked').noValidate = true", Vec::new()).await.unwrap();
    browser.click("form.stacked button.full").await;
    browser.look("address-with-mistakes", "#email-error").await;
    for field in ["email", "name", "phone", "region", "city", "district", "street"] {
        let input = browser.client.find(Locator::Id(field)).await.unwrap();
        assert_eq!(input.attr("aria-describedby").await.unwrap().as_deref(), Some(format!("{field}-error").as_str()));
    }
    let email = browser.client.find(Locator::Id("email")).await.unwrap();
    assert_eq!(email.prop("value").await.unwrap().as_deref(), Some("nobody"), "what was typed is kept");
    // Another country has other fields.
    browser.client.find(Locator::Id("country")).await.unwrap().select_by_value("US").await.unwrap();
    browser.client.wait().for_element(Locator::Css("#region option[value=CA]")).await.unwrap();
    browser.look("address-in-america", "#postal-code[required]").await;
    browser.client.clone().close().await.unwrap();
}

/// What `takeover.js` of the guest could do where the operator granted these scripts.
async fn done_by_a_page(granted: &str) -> (Browser, Driver, Shop, String) {
    let store = store();
    let guest = store.path().join("store/plugins/hostile-service");
    copy(&root().join("target/guests/hostile-service"), &guest);
    let manifest = fs::read_to_string(guest.join("plugin.toml")).unwrap();
    fs::write(guest.join("plugin.toml"), format!("{manifest}\n[pages]\nscripts = \"{granted}\"\n")).unwrap();
    grant(&store, "hostile-service");
    let shop = Shop::serve(store);
    let driver = Driver::start();
    let browser = Browser::open(&driver, "en", true, 1200).await;
    browser.go(format!("{}/hostile/takeover", shop.url)).await;
    if granted != "none" {
        browser.client.wait().at_most(PATIENCE).for_element(Locator::XPath("//title[starts-with(text(), 'done:')]")).await.expect("its script runs");
    }
    let done = browser.client.title().await.unwrap();
    (browser, driver, shop, done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugins_page_takes_over_no_other() {
    for (granted, done) in [("none", "none"), ("sandboxed", "done:"), ("shop", "done: cart storage cookie")] {
        let (browser, _driver, shop, could) = done_by_a_page(granted).await;
        assert_eq!(could.trim(), done, "{granted}");
        browser.go(format!("{}/en/cart", shop.url)).await;
        browser.text(".lost").await;
        let workers = "const done = arguments[0]; navigator.serviceWorker.getRegistrations().then((found) => done(found.length))";
        assert_eq!(browser.client.execute_async(workers, Vec::new()).await.unwrap(), json!(0), "{granted}");
        browser.client.clone().close().await.unwrap();
    }
}

/// A shop as it was before it had a list of headers: it lets a worker be for all pages.
fn answer_as_before(listener: &std::net::TcpListener, done: &std::sync::atomic::AtomicBool) {
    const PAGE: &str = "<!doctype html><title>caught</title><script>navigator.serviceWorker.register('/hostile/worker.js', { scope: '/' })</script>";
    const WORKER: &str = "self.addEventListener('install', () => self.skipWaiting());
        self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
        self.addEventListener('fetch', (event) => event.respondWith(new Response('<title>stolen</title>', { headers: { 'content-type': 'text/html' } })))";
    for stream in listener.incoming() {
        if done.load(std::sync::atomic::Ordering::SeqCst) {
            return;
        }
        let mut stream = stream.unwrap();
        let mut asked = String::new();
        BufReader::new(&stream).read_line(&mut asked).unwrap_or_default();
        let (kind, body) = if asked.contains("worker.js") { ("text/javascript", WORKER) } else { ("text/html", PAGE) };
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nservice-worker-allowed: /\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_was_caught_before_is_healed_by_the_shop() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let before = std::thread::spawn({
        let done = done.clone();
        move || answer_as_before(&listener, &done)
    });
    let driver = Driver::start();
    let browser = Browser::open(&driver, "en", true, 1200).await;
    browser.go(format!("http://{address}/hostile/takeover")).await;
    let caught = "const done = arguments[0]; navigator.serviceWorker.ready.then(() => done(true))";
    browser.client.execute_async(caught, Vec::new()).await.unwrap();
    browser.go(format!("http://{address}/en/cart")).await;
    assert_eq!(browser.client.title().await.unwrap(), "stolen", "the worker answers for all pages");
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    drop(std::net::TcpStream::connect(address));
    before.join().unwrap();

    let store = store();
    let settings = store.path().join("store/souk.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replacen("127.0.0.1:0", &address.to_string(), 1)).unwrap();
    let shop = Shop::serve(store);
    browser.go(format!("{}/en/cart", shop.url)).await;
    // The page that the worker answered for is loaded anew by the one that takes its place.
    browser.client.wait().at_most(PATIENCE).for_element(Locator::Css(".lost")).await.expect("the shop's own page");
    let workers = "const done = arguments[0]; navigator.serviceWorker.getRegistrations().then((found) => done(found.length))";
    assert_eq!(browser.client.execute_async(workers, Vec::new()).await.unwrap(), json!(0));
    browser.client.clone().close().await.unwrap();
}
