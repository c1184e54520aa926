//! Prices of skus: exports `souk:commerce/pricing` and `price-schedule`, and the
//! command that loads price lists. Knows skus and base prices, nothing else of
//! what is sold.
//!
//! Stored: `rules` by sku (`*` for every sku; always there once lists were
//! imported, and says whether there are others), `lists` by id as imported.

mod commands;
mod lists;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::price_schedule;
use souk_sdk::commerce::pricing::{self, Price, Request};
use souk_sdk::host::command_handler;
use souk_sdk::storage::{self, Collection};
use souk_sdk::{clock, config, events, jobs, pages};

use lists::{EVERY_SKU, PriceList, Rule};

const RULES: Collection<Rules> = Collection::new("rules", &[]);
const LISTS: Collection<PriceList> = Collection::new("lists", &[]);
const SCAN_MAX: u32 = 1_000;
/// Prices of all lists together.
const PRICES_MAX: usize = 100_000;
const WINDOW: &str = "window";
const CHANGED: &str = "prices.changed";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Rules {
    rules: Vec<Rule>,
    /// Of `*`: whether any sku has rules of its own.
    #[serde(default)]
    others: bool,
    /// Of `*`: when lists begin and end, in order. UTC milliseconds.
    #[serde(default)]
    edges_ms: Vec<i64>,
}

struct Pricing;

/// The unit cannot go on; the interface has no error for it.
fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("pricing storage: {error}"))
}

impl pricing::Guest for Pricing {
    fn prices(requests: Vec<Request>) -> Vec<Price> {
        let base = |request: &Request| Price { unit: request.base.clone(), regular: request.base.clone(), source: "base".into() };
        let Some(every) = must(RULES.get(EVERY_SKU)) else { return requests.iter().map(base).collect() };
        let skus: Vec<&str> = requests.iter().map(|request| request.sku.as_str()).collect();
        let own = rules_of(&every, &skus);
        let now_ms = clock::now_ms() as i64;
        let priced = requests.iter().zip(&own).map(|(request, own)| {
            let rules = every.rules.iter().chain(own.iter().flat_map(|own| &own.rules));
            match lists::best(rules, &request.base, request.quantity, now_ms) {
                Some((unit, list)) => Price { unit, source: list.into(), ..base(request) },
                None => base(request),
            }
        });
        priced.collect()
    }
}

impl price_schedule::Guest for Pricing {
    fn changes(skus: Vec<String>) -> Vec<Option<u64>> {
        let Some(every) = must(RULES.get(EVERY_SKU)) else { return vec![None; skus.len()] };
        let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
        let now_ms = clock::now_ms() as i64;
        let next = |own: &Option<Rules>| lists::next_change(every.rules.iter().chain(own.iter().flat_map(|own| &own.rules)), now_ms);
        rules_of(&every, &skus).iter().map(next).collect()
    }

    fn next_change() -> Option<u64> {
        let now_ms = clock::now_ms() as i64;
        let every = must(RULES.get(EVERY_SKU))?;
        every.edges_ms.iter().find(|edge| **edge > now_ms).and_then(|edge| u64::try_from(*edge).ok())
    }
}

/// Those that each sku has beside the rules of every sku.
fn rules_of(every: &Rules, skus: &[&str]) -> Vec<Option<Rules>> {
    let mut own: Vec<Option<Rules>> = Vec::new();
    if every.others {
        for chunk in skus.chunks(SCAN_MAX as usize) {
            // A sku that can be no key has no rules.
            let keys: Vec<String> = chunk.iter().map(|sku| if key(sku) { (*sku).to_owned() } else { EVERY_SKU.into() }).collect();
            own.extend(must(RULES.get_many(&keys)));
        }
    }
    own.resize(skus.len(), None);
    own
}

fn key(sku: &str) -> bool {
    (1..=100).contains(&sku.len()) && sku.bytes().all(|byte| byte.is_ascii_graphic())
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    /// Place in the list, from 1.
    line: usize,
    id: String,
    field: String,
    problem: String,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    applied: bool,
    dry_run: bool,
    lists: usize,
    prices: usize,
    faults: Vec<Row>,
    /// What is taken as it is and may not be meant.
    warnings: Vec<Row>,
}

fn import(input: &[u8], dry_run: bool) -> Result<Report, String> {
    let mut text = serde_json::Deserializer::from_slice(input);
    let lists: Vec<PriceList> = serde_path_to_error::deserialize(&mut text).map_err(|error| error.to_string())?;
    replace(&lists, dry_run)
}

/// Instead of all lists that there are.
fn replace(lists: &[PriceList], dry_run: bool) -> Result<Report, String> {
    let shop = config::shop();
    let mut report = Report { dry_run, lists: lists.len(), ..Report::default() };
    let mut rules: BTreeMap<String, Rules> = BTreeMap::new();
    let mut by_id: BTreeMap<&str, &PriceList> = BTreeMap::new();
    let mut edges: Vec<(String, i64)> = Vec::new();
    for (place, list) in lists.iter().enumerate() {
        let mut faults = Vec::new();
        if by_id.insert(&list.id, list).is_some() {
            faults.push(("id".to_owned(), "another list has this id".to_owned()));
        }
        match lists::compile(list, &shop.time_zone, &shop.currency) {
            Err(more) => faults.extend(more),
            Ok(compiled) => {
                report.prices += compiled.len();
                if let Some((_, rule)) = compiled.first() {
                    edges.push((format!("{}/starts", list.id), rule.start_ms));
                    edges.push((format!("{}/ends", list.id), rule.end_ms));
                }
                for (sku, rule) in compiled {
                    rules.entry(sku).or_default().rules.push(rule);
                }
            }
        }
        let row = |(field, problem)| Row { line: place + 1, id: list.id.clone(), field, problem };
        report.faults.extend(faults.into_iter().map(row));
        report.warnings.extend(lists::doubts(list).into_iter().map(row));
    }
    if report.prices > PRICES_MAX {
        return Err(format!("{} prices; at most {PRICES_MAX} are kept", report.prices));
    }
    if dry_run || !report.faults.is_empty() {
        return Ok(report);
    }

    let others = rules.keys().any(|sku| sku != EVERY_SKU);
    let every = rules.entry(EVERY_SKU.into()).or_default();
    every.others = others;
    every.edges_ms = edges.iter().map(|(_, at_ms)| *at_ms).filter(|at_ms| ![i64::MIN, i64::MAX].contains(at_ms)).collect();
    every.edges_ms.sort_unstable();
    for stale in keys("rules").into_iter().filter(|key| !rules.contains_key(key)) {
        must(RULES.delete(&stale));
    }
    for (sku, rules) in &rules {
        must(RULES.put(sku, rules));
    }
    for stale in keys("lists") {
        must(LISTS.delete(&stale));
        for edge in ["starts", "ends"] {
            must(jobs::cancel(WINDOW, &format!("{stale}/{edge}")).map_err(|error| format!("{error:?}")));
        }
    }
    for (id, list) in by_id {
        must(LISTS.put(id, &list.clone().shown(&shop.time_zone)));
    }
    for (key, at_ms) in edges {
        // In the past or never: no page changes then.
        if at_ms > clock::now_ms() as i64 && at_ms < i64::MAX {
            must(jobs::schedule_json(WINDOW, &key, at_ms as u64, &()).map_err(|error| format!("{error:?}")));
        }
    }
    changed();
    report.applied = true;
    Ok(report)
}

/// What `import-price-lists` reads back, with times as the shop's clocks show them.
fn export() -> Result<Vec<u8>, String> {
    let zone = config::shop().time_zone;
    let lists: Vec<PriceList> = all_lists().into_iter().map(|list| list.shown(&zone)).collect();
    serde_json::to_vec_pretty(&lists).map_err(|error| error.to_string())
}

fn all_lists() -> Vec<PriceList> {
    keys("lists").iter().filter_map(|id| must(LISTS.get(id))).collect()
}

/// What a command for one list makes of all of them.
fn put_all((lists, said): (Vec<PriceList>, String)) -> Result<Vec<u8>, String> {
    let faults = replace(&lists, false)?.faults;
    let told: Vec<String> = faults.iter().map(|Row { id, field, problem, .. }| format!("{id}: {field}: {problem}")).collect();
    if told.is_empty() { Ok(said.into_bytes()) } else { Err(told.join("\n")) }
}

fn keys(collection: &str) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    loop {
        let range = storage::after(keys.last().map(String::as_str));
        let found = must(storage::scan(collection, &range, SCAN_MAX, false));
        let full = found.len() == SCAN_MAX as usize;
        keys.extend(found.into_iter().map(|entry| entry.key));
        if !full {
            return keys;
        }
    }
}

/// What is kept shows other prices, and listings are in another order.
fn changed() {
    pages::invalidate(&["catalog".into(), "prices".into()]);
    must(events::publish_json(CHANGED, CHANGED, &serde_json::json!({})).map_err(|error| format!("{error:?}")));
}

impl jobs::Guest for Pricing {
    /// A window begins or ends: what is cached shows the other price.
    fn run(job: jobs::Job) -> Result<bool, String> {
        if job.name != WINDOW {
            return Err(format!("pricing has no job `{}`", job.name));
        }
        changed();
        Ok(false)
    }
}

impl command_handler::Guest for Pricing {
    fn run(name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        match name.as_str() {
            "import-price-lists" => {}
            "export-price-lists" => return export(),
            "set-sale" => return commands::set(&arguments).and_then(put_all),
            "remove-sale" => return commands::remove(&arguments).and_then(put_all),
            "list-sales" => return commands::list(&arguments),
            other => return Err(format!("pricing has no command `{other}`")),
        }
        let dry_run = arguments.iter().any(|(name, value)| name == "dry-run" && value != "false");
        let report = import(&input, dry_run)?;
        let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        if report.faults.is_empty() || dry_run { Ok(json.into_bytes()) } else { Err(json) }
    }
}

souk_sdk::export!(Pricing: commerce::pricing, commerce::price_schedule, host::job_handler, host::command_handler);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use souk_sdk::Money;
    use souk_sdk::commerce::pricing::Guest as _;
    use souk_sdk::testing;

    use super::*;

    fn load(lists: &Value) -> Result<Vec<u8>, String> {
        testing::unit(|| <Pricing as command_handler::Guest>::run("import-price-lists".into(), vec![], lists.to_string().into()))
    }

    fn price(sku: &str, quantity: u32) -> (i64, String) {
        let request = Request { sku: sku.into(), quantity, base: Money::new(1_000, "CNY") };
        let price = Pricing::prices(vec![request]).remove(0);
        assert_eq!(price.regular.amount, 1_000);
        (price.unit.amount, price.source)
    }

    #[test]
    fn importing_replaces_all_lists_and_schedules_their_windows() {
        assert_eq!(price("A", 1), (1_000, "base".into()));
        load(&json!([
            { "id": "steps", "prices": [{ "sku": "A", "price": 950 }, { "sku": "A", "min-quantity": 10, "price": 800 }] },
            { "id": "day", "priority": 1, "starts": "2026-01-01T09:00", "ends": "2026-01-01T10:00", "prices": [{ "sku": "*", "percent-off": "50" }] },
        ])).unwrap();
        // The clock of tests stands at 08:00 in the shop's zone.
        assert_eq!(price("A", 9), (950, "steps".into()));
        assert_eq!(price("A", 10), (800, "steps".into()));
        assert_eq!(price("B", 1), (1_000, "base".into()));
        assert_eq!(testing::jobs().len(), 2);
        testing::advance_ms(3_600_000);
        assert_eq!(price("A", 1), (500, "day".into()));
        assert_eq!(price("not a sku\n", 1), (500, "day".into()));
        testing::advance_ms(3_600_000);
        assert_eq!(price("B", 1), (1_000, "base".into()));

        load(&json!([])).unwrap();
        assert_eq!(price("A", 10), (1_000, "base".into()));
        assert!(testing::jobs().is_empty());
    }

    #[test]
    fn what_is_exported_and_imported_again_changes_nothing() {
        load(&json!([{ "id": "day", "starts": "2026-11-11T00:00", "ends": "2026-11-11T16:00:00Z", "prices": [{ "sku": "*", "percent-off": "50" }] }])).unwrap();
        let rules = || must(RULES.get(EVERY_SKU));
        let before = rules();
        let exported = || testing::unit(|| <Pricing as command_handler::Guest>::run("export-price-lists".into(), vec![], vec![])).unwrap();
        let lists: Value = serde_json::from_slice(&exported()).unwrap();
        assert_eq!((&lists[0]["starts"], &lists[0]["ends"]), (&json!("2026-11-11T00:00:00+08:00"), &json!("2026-11-12T00:00:00+08:00")));
        load(&lists).unwrap();
        assert_eq!((rules(), serde_json::from_slice::<Value>(&exported()).unwrap()), (before, lists));
    }

    #[test]
    fn the_next_change_of_a_sku_is_known_and_told_when_it_comes() {
        use souk_sdk::commerce::price_schedule::Guest as _;
        const DAY_MS: u64 = 1_767_225_600_000;
        let changes = || Pricing::changes(["A", "B", "not a sku\n"].map(Into::into).to_vec());
        assert_eq!((changes(), Pricing::next_change()), (vec![None; 3], None));
        testing::set_now_ms(DAY_MS);
        load(&json!([
            { "id": "a", "starts": "2026-01-01T01:00:00Z", "ends": "2026-01-01T03:00:00Z", "prices": [{ "sku": "A", "price": 950 }] },
            { "id": "many", "ends": "2026-01-01T00:30:00Z", "prices": [{ "sku": "B", "min-quantity": 2, "price": 800 }] },
            { "id": "all", "starts": "2026-01-01T02:00:00Z", "prices": [{ "sku": "*", "percent-off": "50" }] },
        ])).unwrap();
        let at = |minutes: u64| Some(DAY_MS + minutes * 60_000);
        assert_eq!((changes(), Pricing::next_change()), (vec![at(60), at(120), at(120)], at(30)));
        testing::advance_ms(3_600_000);
        assert_eq!((changes(), Pricing::next_change()), (vec![at(120); 3], at(120)));
        testing::advance_ms(3_600_000);
        assert_eq!((changes(), Pricing::next_change()), (vec![at(180), None, None], at(180)));
        let events = || testing::events().iter().filter(|event| event.topic == CHANGED).count();
        let before = events();
        testing::unit(|| <Pricing as jobs::Guest>::run(jobs::Job { name: WINDOW.into(), key: "a/ends".into(), due_ms: 0, payload: b"null".to_vec() })).unwrap();
        assert_eq!(events(), before + 1);
    }

    #[test]
    fn a_sale_is_made_changed_and_taken_away_by_one_command() {
        let run = |name: &str, arguments: &str| {
            let arguments = arguments.split(' ').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            testing::unit(|| <Pricing as command_handler::Guest>::run(name.into(), arguments, vec![])).map(|said| String::from_utf8(said).unwrap())
        };
        assert_eq!(run("list-sales", "").unwrap(), "[]");
        load(&json!([{ "id": "steps", "prices": [{ "sku": "A", "min-quantity": 10, "price": 800 }] }])).unwrap();
        let said = run("set-sale", "id=day percent=12.5 starts=2026-01-01T00:00").unwrap();
        assert_eq!(said, "new: day  everything 12.5 % off, since 2026-01-01T00:00:00+08:00");
        assert_eq!((price("A", 1), price("A", 10)), ((875, "day".into()), (800, "steps".into())));
        let said = run("set-sale", "id=day price=7.00 sku=A,B ends=2099-01-01 priority=2").unwrap();
        assert_eq!(said, "changed: day  everything 12.5 % off; A at 7.00 CNY; B at 7.00 CNY, since 2026-01-01T00:00:00+08:00, until 2099-01-01T00:00:00+08:00, priority 2");
        assert_eq!((price("A", 10), price("C", 1)), ((700, "day".into()), (875, "day".into())));
        for (name, arguments, told) in [
            ("set-sale", "percent=10", "which sale"),
            ("set-sale", "id=new", "what does `new` take off"),
            ("set-sale", "id=new percent=10 price=3", "either percent or price"),
            ("set-sale", "id=new percent=0", "percent: `0` is no discount: use more than 0 and less than 100"),
            ("set-sale", "id=new percent=100", "percent: `100`"),
            ("set-sale", "id=new price=0 sku=A", "price: `0` is no price: use more than 0"),
            ("set-sale", "id=new price=3", "price: of which goods"),
            ("set-sale", "id=new percent=3 sku=,", "sku: name a sku"),
            ("set-sale", "id=new percent=3 sku=茶", "sku: `茶` is no sku"),
            ("set-sale", "id=day percent=3", "sku: the sale `day` gives everything 12.5 % off; A at 7.00 CNY"),
            ("set-sale", "id=day sku=C", "what does it take off C"),
            ("set-sale", "id=day without=GHOST", "without: the sale `day` has no `GHOST`"),
            ("set-sale", "id=day without=*,A,B", "remove-sale id=day"),
            ("set-sale", "id=New percent=10", "id: use 1 to 100"),
            ("set-sale", "id=new percent=101", "percent: `101`"),
            ("set-sale", "id=new price=¥3 sku=A", "12.50"),
            ("set-sale", "id=new percent=10 starts=soon", "starts"),
            ("set-sale", "id=day ends=2025-01-01", "ends: the end is not after"),
            ("set-sale", "id=day until=2026-01-01", "`until`"),
            ("remove-sale", "id=new", "list-sales"),
        ] {
            let error = run(name, arguments).unwrap_err();
            assert!(error.contains(told), "{arguments}: {error}");
        }
        assert!(run("remove-sale", "id=day").unwrap().starts_with("taken away: day"));
        let rows: Vec<Value> = serde_json::from_str(&run("list-sales", "").unwrap()).unwrap();
        assert_eq!((rows.len(), &rows[0]["id"], &rows[0]["offer"], &rows[0]["state"]), (1, &json!("steps"), &json!("A at 8.00 CNY from 10 pieces"), &json!("active")));
        assert_eq!(run("list-sales", "after=steps").unwrap(), "[]");
        assert!(run("list-sales", "after=ghost").unwrap_err().contains("`ghost`"));
    }

    #[test]
    fn a_sale_of_one_sku_stays_one_of_that_sku_until_more_is_asked_for() {
        let run = |arguments: &str| {
            let arguments = arguments.split(' ').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            testing::unit(|| <Pricing as command_handler::Guest>::run("set-sale".into(), arguments, vec![])).map(|said| String::from_utf8(said).unwrap())
        };
        assert_eq!(run("id=one percent=20 sku=A").unwrap(), "new: one  A 20 % off");
        assert_eq!(run("id=one percent=30").unwrap(), "changed: one  A 30 % off");
        assert_eq!((price("A", 1).0, price("B", 1).0), (700, 1_000));
        assert_eq!(run("id=one sku=B,C").unwrap(), "changed: one  A 30 % off; B 30 % off; C 30 % off");
        assert_eq!(run("id=one without=A,C").unwrap(), "changed: one  B 30 % off");
        assert_eq!((price("A", 1).0, price("B", 1).0), (1_000, 700));
        assert_eq!(run("id=one sku=* without=B").unwrap(), "changed: one  everything 30 % off");
        assert_eq!(run("id=flat price=5.00 sku=*").unwrap(), "new: flat  everything at 5.00 CNY");
    }

    #[test]
    fn a_list_that_gives_away_or_takes_nothing_off_is_taken_and_told() {
        let said = load(&json!([{ "id": "odd", "prices": [{ "sku": "A", "price": 0 }, { "sku": "*", "percent-off": "0" }, { "sku": "B", "percent-off": "100" }, { "sku": "C", "price": 1 }] }])).unwrap();
        let report: Value = serde_json::from_slice(&said).unwrap();
        let told: Vec<&str> = report["warnings"].as_array().unwrap().iter().map(|row| row["field"].as_str().unwrap()).collect();
        assert_eq!((&report["applied"], told), (&json!(true), vec!["prices[0].price", "prices[1].percent-off", "prices[2].percent-off"]));
        assert!(report["warnings"][0]["problem"].as_str().unwrap().starts_with("A: gives the goods away"));
    }

    #[test]
    fn one_fault_keeps_all_lists_as_they_were() {
        load(&json!([{ "id": "old", "prices": [{ "sku": "A", "price": 1 }] }])).unwrap();
        let error = load(&json!([{ "id": "new", "prices": [] }, { "id": "bad", "prices": [{ "sku": "A" }] }])).unwrap_err();
        assert!(error.contains("prices[0].price"), "{error}");
        assert!(load(&json!([{ "id": "bad", "prices": [{ "sku": 1 }] }])).unwrap_err().contains("[0].prices[0].sku"));
        assert_eq!(price("A", 1), (1, "old".into()));
    }
}
