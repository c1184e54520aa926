//! Strict serialisability from outside: clients at work on the same lists,
//! counters and sessions over HTTP, with a kill -9 between, and a history in
//! which an order is looked for (`souk_tests::serial`).
//!
//! `SOUK_TRANSACTIONS` says how many each client sends (120 otherwise), `SOUK_SEED` what they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use serde_json::{Value, json};
use souk_tests::serial::{Action, Finally, Outcome, Transaction, check};
use souk_tests::{Shop, client, install_guest, number, store};

const CLIENTS: u64 = 10;
/// Few enough that they meet.
const LISTS: u64 = 5;
/// Two clients share each.
const SESSIONS: u64 = CLIENTS / 2;
const BITS: u64 = 60;

/// Of a transaction: what is sent, and what it is to the check. What is seen comes with the answer.
struct Planned {
    operations: Vec<Value>,
    actions: Vec<Vec<Action>>,
}

/// Hands out elements and bits, each once.
#[derive(Default)]
struct Supply {
    elements: AtomicU64,
    bits: AtomicU64,
}

fn list(name: u64) -> String {
    // Two halves, so that a scan takes in some of them.
    format!("{}-{name}", if name % 2 == 0 { "even" } else { "odd" })
}

fn plan(chance: &mut fastrand::Rng, session: u64, supply: &Supply) -> Planned {
    let mut planned = Planned { operations: Vec::new(), actions: Vec::new() };
    let mut add = |operation: Value, actions: Vec<Action>| {
        planned.operations.push(operation);
        planned.actions.push(actions);
    };
    let (own, counter) = (format!("session-{session}"), |at: u64| format!("counter-{}", at / BITS));
    for _ in 0..chance.u64(1..=4) {
        let name = list(chance.u64(0..LISTS));
        let element = || supply.elements.fetch_add(1, Relaxed);
        match chance.u64(0..10) {
            0..3 => {
                let element = element();
                add(json!({ "append": [name, element] }), vec![Action::Append { list: name, element }]);
            }
            3..5 => add(json!({ "read": name }), vec![Action::Read { list: name, seen: Vec::new() }]),
            5 => {
                let prefix = ["even", "odd"][chance.usize(0..2)];
                let lists = (0..LISTS).map(list).filter(|list| list.starts_with(prefix));
                add(json!({ "scan": prefix }), lists.map(|list| Action::Read { list, seen: Vec::new() }).collect());
            }
            6 => {
                let at = supply.bits.fetch_add(1, Relaxed);
                let (counter, bit) = (counter(at), (at % BITS) as u32);
                add(json!({ "add": [counter, 1_i64 << bit] }), vec![Action::Add { counter, bit }]);
            }
            7 => {
                let counter = counter(supply.bits.load(Relaxed));
                add(json!({ "count": counter }), vec![Action::Count { counter, seen: 0 }]);
            }
            8 => {
                let element = element();
                add(json!({ "append-own": element }), vec![Action::Append { list: own.clone(), element }]);
            }
            _ => add(json!("read-own"), vec![Action::Read { list: own.clone(), seen: Vec::new() }]),
        }
    }
    if chance.u64(0..12) == 0 {
        add(json!("abort"), Vec::new());
    }
    planned
}

/// Writes down what was seen.
fn saw(actions: &mut [Action], seen: &Value) {
    let numbers = |value: &Value| -> Vec<u64> { serde_json::from_value(value.clone()).expect("a list of numbers") };
    match actions {
        [Action::Count { seen: count, .. }] => *count = seen.as_i64().expect("a count"),
        [Action::Read { seen: elements, .. }] if seen.as_array().is_some_and(|list| list.iter().all(Value::is_u64)) => *elements = numbers(seen),
        // A scan: lists that are not in it were not there.
        reads => {
            for pair in seen.as_array().into_iter().flatten() {
                for action in reads.iter_mut() {
                    if let Action::Read { list, seen } = action
                        && pair[0] == list.as_str()
                    {
                        *seen = numbers(&pair[1]);
                    }
                }
            }
        }
    }
}

#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    cookie: Arc<str>,
}

impl Client {
    async fn send(&self, url: &str, operations: &[Value]) -> Result<(u16, String, Option<String>), reqwest::Error> {
        let request = self.http.post(format!("{url}/registers")).header("sec-fetch-site", "same-origin").header("cookie", &*self.cookie);
        let answer = request.json(operations).send().await?;
        let cookie = answer.headers().get("set-cookie").and_then(|cookie| Some(cookie.to_str().ok()?.split(';').next()?.to_owned()));
        Ok((answer.status().as_u16(), answer.text().await?, cookie))
    }

    async fn transact(&self, url: &str, planned: Planned) -> Transaction {
        let Planned { operations, mut actions } = planned;
        let begun = Instant::now();
        let answer = self.send(url, &operations).await;
        let ended = Instant::now();
        let outcome = match answer {
            Ok((200, text, _)) => {
                let seen: Vec<Value> = serde_json::from_str(&text).expect("what was seen");
                actions.iter_mut().zip(&seen).for_each(|(actions, seen)| saw(actions, seen));
                Outcome::Committed
            }
            // As asked, or because the others won each time.
            Ok((409 | 503, ..)) => Outcome::Refused,
            Ok((status, text, _)) => panic!("{status}: {text}"),
            Err(_) => Outcome::Unknown,
        };
        let mut actions: Vec<Action> = actions.into_iter().flatten().collect();
        if outcome != Outcome::Committed {
            // Nothing was seen.
            actions.retain(|action| matches!(action, Action::Append { .. } | Action::Add { .. }));
        }
        Transaction { outcome, begun, ended, actions }
    }
}

/// All clients at once, each so many transactions or until the shop is gone.
async fn at_work(shop: &Shop, clients: &[Client], supply: &Arc<Supply>, transactions: u64, seed: u64) -> Vec<tokio::task::JoinHandle<Vec<Transaction>>> {
    let work = clients.iter().zip(0..).map(|(client, number): (_, u64)| {
        let (client, url, supply) = (client.clone(), shop.url.clone(), supply.clone());
        tokio::spawn(async move {
            let mut chance = fastrand::Rng::with_seed(seed ^ number);
            let mut done = Vec::new();
            for _ in 0..transactions {
                let transaction = client.transact(&url, plan(&mut chance, number % SESSIONS, &supply)).await;
                let is_gone = transaction.outcome == Outcome::Unknown;
                done.push(transaction);
                if is_gone {
                    break;
                }
            }
            done
        })
    });
    work.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_see_comes_from_an_order_of_their_transactions() {
    let (transactions, seed) = (number("SOUK_TRANSACTIONS").unwrap_or(120), number("SOUK_SEED").unwrap_or(1));
    let folder = store();
    install_guest(&folder, "registers");
    let shop = Shop::serve(folder);
    let new = || Client { http: client(), cookie: "".into() };
    let (mut cookies, mut history) = (Vec::new(), Vec::new());
    for session in 0..SESSIONS {
        let begun = Instant::now();
        let (status, text, cookie) = new().send(&shop.url, &[json!({ "append-own": u64::MAX })]).await.unwrap();
        assert_eq!(status, 200, "{text}");
        cookies.push(cookie.expect("a session has a cookie"));
        let actions = vec![Action::Append { list: format!("session-{session}"), element: u64::MAX }];
        history.push(Transaction { outcome: Outcome::Committed, begun, ended: Instant::now(), actions });
    }
    let clients: Vec<Client> = (0..CLIENTS).map(|number| Client { cookie: cookies[(number % SESSIONS) as usize].as_str().into(), ..new() }).collect();
    let supply = Arc::new(Supply::default());

    let before = at_work(&shop, &clients, &supply, transactions, seed).await;
    // In the middle of it.
    while supply.elements.load(Relaxed) < CLIENTS * transactions / 4 {
        tokio::task::yield_now().await;
    }
    let shop = Shop::serve(shop.kill());
    for done in before {
        history.extend(done.await.unwrap());
    }
    let unknown = history.len();
    assert!(history.iter().any(|transaction| transaction.outcome == Outcome::Unknown), "it was killed too late");
    for done in at_work(&shop, &clients, &supply, transactions, seed ^ 0xff00).await {
        history.extend(done.await.unwrap());
    }
    assert!(history[unknown..].iter().all(|transaction| transaction.outcome != Outcome::Unknown), "the shop went away");

    let mut finally = Finally::default();
    let (_, all, _) = new().send(&shop.url, &[json!({ "scan": "" })]).await.unwrap();
    let [lists]: [Vec<(String, Vec<u64>)>; 1] = serde_json::from_str(&all).unwrap();
    finally.lists.extend(lists);
    for at in 0..=supply.bits.load(Relaxed) / BITS {
        let counter = format!("counter-{at}");
        let (_, text, _) = new().send(&shop.url, &[json!({ "count": counter })]).await.unwrap();
        let [count]: [i64; 1] = serde_json::from_str(&text).unwrap();
        finally.counters.insert(counter, count);
    }
    for (session, cookie) in cookies.iter().enumerate() {
        let (_, text, _) = Client { cookie: cookie.as_str().into(), ..new() }.send(&shop.url, &[json!("read-own")]).await.unwrap();
        let [list]: [Vec<u64>; 1] = serde_json::from_str(&text).unwrap();
        finally.lists.insert(format!("session-{session}"), list);
    }
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    history.iter().for_each(|transaction| *outcomes.entry(format!("{:?}", transaction.outcome)).or_default() += 1);
    println!("{outcomes:?}, seed {seed}");
    if let Err(cycle) = check(&history, &finally) {
        panic!("seed {seed}: no order explains what was seen:\n{cycle}");
    }
}
