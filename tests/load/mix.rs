//! What visitors do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};
use souk_tests::api::{INSTANT, filling};
use souk_tests::buying::{stock, wares};
use souk_tests::wire::{Client, json as json_request};

use crate::Arguments;
use crate::drive::Visitor;
use crate::server::Server;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// Lists, product pages, pictures and other files, a few searches.
    Browse,
    /// Searches in English and Chinese, as pages and over the API.
    Search,
    /// Whole purchases over the API; who is sent away gives up.
    Checkout,
    /// Everyone wants one article at one moment, and comes again when sent away.
    Flash,
}

impl Mix {
    pub const ALL: [Mix; 4] = [Mix::Browse, Mix::Search, Mix::Checkout, Mix::Flash];

    pub fn name(self) -> &'static str {
        match self {
            Mix::Browse => "browse",
            Mix::Search => "search",
            Mix::Checkout => "checkout",
            Mix::Flash => "flash",
        }
    }
}

/// What there is to visit, prepared so that a visit costs the machine little.
pub struct Visits {
    pub mix: Mix,
    /// Kinds of requests with their weights.
    pages: Vec<(u32, Vec<Vec<u8>>)>,
    /// Handles and skus of what can be bought.
    wares: Vec<(String, String)>,
}

/// So many different queries that not all their answers are kept.
const QUERIES: usize = 5_000;
const PLENTY: u32 = 10_000_000;

impl Visits {
    pub async fn prepare(server: &Server, mix: Mix, arguments: &Arguments) -> Result<Arc<Visits>> {
        let address = server.address;
        let mut visits = Visits { mix, pages: Vec::new(), wares: Vec::new() };
        match mix {
            Mix::Browse => visits.pages = browsing(address).await?,
            Mix::Search => {
                for kind in ["page", "api"] {
                    visits.pages.push((1, searches(address, kind, arguments.seed).await?));
                }
            }
            Mix::Checkout | Mix::Flash => {
                visits.wares = wares(address).await?;
                ensure!(!visits.wares.is_empty(), "the shop has nothing that can be sent");
                let quantity = if mix == Mix::Flash { arguments.stock } else { PLENTY };
                visits.wares.truncate(if mix == Mix::Flash { 1 } else { usize::MAX });
                if let Some(shop) = &server.shop {
                    let counts: Vec<Value> = visits.wares.iter().map(|(_, sku)| json!({ "sku": sku, "quantity": quantity })).collect();
                    stock(shop, &counts)?;
                }
            }
        }
        Ok(Arc::new(visits))
    }

    /// One visit, which was due at that moment.
    pub async fn visit(&self, visitor: &Visitor, due: Instant, mut chance: fastrand::Rng) {
        match self.mix {
            Mix::Browse | Mix::Search => {
                let weights: u32 = self.pages.iter().map(|(weight, _)| weight).sum();
                let mut point = chance.u32(..weights);
                for (weight, requests) in &self.pages {
                    if point < *weight {
                        _ = visitor.ask(&requests[chance.usize(..requests.len())], due).await;
                        return;
                    }
                    point -= weight;
                }
            }
            Mix::Checkout | Mix::Flash => {
                let ware = &self.wares[chance.usize(..self.wares.len())];
                _ = self.buy(visitor, ware, due, &mut chance).await;
            }
        }
    }

    /// None where the shopper left without an order.
    async fn buy(&self, visitor: &Visitor, (handle, sku): &(String, String), due: Instant, chance: &mut fastrand::Rng) -> Option<()> {
        let mut shopper = Shopper { visitor, due, chance, patient: self.mix == Mix::Flash };
        shopper.send("GET", &format!("/en/p/{handle}"), Value::Null).await?;
        let cart = shopper.send("POST", "/api/v1/carts", Value::Null).await?;
        let cart = format!("/api/v1/carts/{}", cart["id"].as_str()?);
        for (method, what, body) in filling(sku, 1) {
            shopper.send(method, &format!("{cart}/{what}"), body).await?;
        }
        let order = shopper.send("POST", &format!("{cart}/order"), json!({ "payment_method": INSTANT })).await?;
        visitor.ordered();
        shopper.send("GET", &format!("/api/v1/orders/{}", order["token"].as_str()?), Value::Null).await?;
        Some(())
    }
}

/// Beyond that even who wants it badly gives up.
const TRIES_MAX: u32 = 60;

struct Shopper<'a> {
    visitor: &'a Visitor,
    /// When the next request should be sent.
    due: Instant,
    chance: &'a mut fastrand::Rng,
    patient: bool,
}

impl Shopper<'_> {
    /// JSON of a good answer, null where it is none.
    async fn send(&mut self, method: &str, path: &str, body: Value) -> Option<Value> {
        let request = json_request(self.visitor.address(), method, path, &body);
        for _ in 0..TRIES_MAX {
            let answer = self.visitor.ask(&request, self.due).await?;
            self.due = Instant::now();
            match answer.retry_after {
                Some(wait) if self.patient => {
                    // As people do: not all in the same moment again.
                    let wait = wait + Duration::from_millis(self.chance.u64(..1_000));
                    tokio::time::sleep(wait).await;
                    self.due += wait;
                }
                _ if !(200..300).contains(&answer.status) => return None,
                _ => return Some(serde_json::from_slice(&answer.body).unwrap_or(Value::Null)),
            }
        }
        None
    }
}

/// As a browser asks.
fn page(address: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/html,*/*\r\naccept-encoding: gzip, br, zstd\r\n\r\n").into_bytes()
}

async fn browsing(address: SocketAddr) -> Result<Vec<(u32, Vec<Vec<u8>>)>> {
    let mut client = Client::connect(address).await?;
    let (mut lists, mut products, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for language in ["en", "zh"] {
        lists.push(page(address, &format!("/{language}")));
        lists.extend((1..=10).map(|number| page(address, &format!("/{language}/products?page={number}"))));
        let home = String::from_utf8_lossy(client.get(&format!("/{language}")).await?.body).into_owned();
        lists.extend(links(&home, &format!("/{language}/c/")).map(|path| page(address, path)));
        for path in links(&home, "/media/").chain(links(&home, "/assets/")) {
            // A store for tests has not all of its pictures.
            if client.get(path).await?.status == 200 {
                files.push(page(address, path));
            }
        }
    }
    for (handle, _) in wares(address).await? {
        products.extend(["en", "zh"].map(|language| page(address, &format!("/{language}/p/{handle}"))));
    }
    ensure!(!products.is_empty() && !files.is_empty(), "the shop has no products, or its pages lead to no files");
    let searches = searches(address, "page", 0).await?;
    Ok(vec![(25, lists), (45, products), (25, files), (5, searches)])
}

/// Paths in a page that begin so.
fn links<'a>(html: &'a str, begin: &'a str) -> impl Iterator<Item = &'a str> {
    html.match_indices(begin).filter_map(|(at, _)| html[at..].split(['"', '\'', ' ', ',', '&']).next())
}

/// Searches for pieces of products' names, as pages or over the API.
async fn searches(address: SocketAddr, kind: &str, seed: u64) -> Result<Vec<Vec<u8>>> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let (english, chinese) = (titles(address, "en").await?, titles(address, "zh-CN").await?);
    let words: Vec<&str> = english.iter().flat_map(|title| title.split_whitespace()).collect();
    let characters: Vec<Vec<char>> = chinese.iter().map(|title| title.chars().filter(|c| c.is_alphanumeric()).collect()).collect();
    ensure!(!words.is_empty() && !characters.is_empty(), "the products have no names");
    let mut requests = Vec::new();
    for turn in 0..QUERIES {
        let (language, query) = if turn % 2 == 0 {
            let words: Vec<&str> = (0..chance.usize(1..=2)).map(|_| words[chance.usize(..words.len())]).collect();
            ("en", words.join(" "))
        } else {
            let title = &characters[chance.usize(..characters.len())];
            let begin = chance.usize(..title.len().max(1));
            ("zh", title.iter().skip(begin).take(chance.usize(2..=4)).collect())
        };
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        requests.push(match kind {
            "api" => page(address, &format!("/api/v1/search?q={query}")),
            _ => page(address, &format!("/{language}/search?q={query}")),
        });
    }
    Ok(requests)
}

async fn titles(address: SocketAddr, language: &str) -> Result<Vec<String>> {
    let mut client = Client::connect(address).await?;
    let request = format!("GET /api/v1/products?limit=100 HTTP/1.1\r\nhost: {address}\r\naccept-language: {language}\r\n\r\n");
    let listing: Value = serde_json::from_slice(client.send(request.as_bytes()).await?.body)?;
    let products = listing["products"].as_array().context("no products")?;
    Ok(products.iter().filter_map(|product| Some(product["title"].as_str()?.to_owned())).collect())
}
