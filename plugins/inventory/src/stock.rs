//! Holds and what is on hand. Every movement is in the ledger (`holds` and
//! `corrections`); the counters are its sums, kept in the same units of work.
//!
//! On hand is what lies on the shelf: available, reserved (held and not paid) or
//! committed (paid and not sent). In documents of the first form nothing is
//! committed: what is paid has left the books at once ([`Kind::Claimed`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use souk_sdk::commerce::commitments::Count;
use souk_sdk::commerce::inventory::{Line, Shortage};
use souk_sdk::storage::{self, Collection, CollectionError, Counter};
use souk_sdk::{clock, data, ids, jobs, pages};

use crate::Settings;

const AVAILABLE: Counter = Counter::new("available");
/// Available and reserved.
const UNSOLD: Counter = Counter::new("on-hand");
/// Paid and not sent.
const COMMITTED: Counter = Counter::new("committed");
/// Since which form of the documents there are commitments.
const FORM_WITH_COMMITMENTS: u32 = 2;
/// What is held and counted here, as negative numbers: in all, and of each sku.
const UNCOUNTED: Counter = Counter::new("uncounted");
const UNCOUNTED_SKUS: Counter = Counter::new("uncounted-skus");
const ALL: &str = "all";
const HOLDS: Collection<Hold> = Collection::new("holds", &[]);
const CORRECTIONS: Collection<Correction> = Collection::new("corrections", &[]);
/// Skus whose count was none from the start.
const COUNTED: Collection<bool> = Collection::new("counted", &[]);
const EXPIRE: &str = "expire";
const SCAN_MAX: u32 = 1_000;
/// Pages show a count below it, as `wit/commerce/selling.wit` says.
const SHOWN_BELOW: i64 = 10;
const MIGRATED_AT_ONCE: u32 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Reserved,
    Released,
    /// Paid, and off the books: in documents of the first form.
    Claimed,
    /// Paid, and on the shelf.
    Committed,
    Shipped,
    Restocked,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Movement {
    kind: Kind,
    at_ms: u64,
    /// By sku; the same in all movements from one reservation to the next.
    lines: BTreeMap<String, i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Hold {
    expires_ms: u64,
    movements: Vec<Movement>,
    /// What of it is in [`UNCOUNTED`], as long as it reserves it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    uncounted: BTreeMap<String, i64>,
}

/// Who answers for how much is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    ByCaller,
    Here,
}

/// What a movement adds to the counters, for each of its goods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Step {
    available: i64,
    unsold: i64,
    committed: i64,
}

impl Kind {
    /// After `before`, which says where the goods were.
    fn step(self, before: Option<Self>) -> Step {
        let step = |available, unsold, committed| Step { available, unsold, committed };
        match (self, before) {
            (Self::Reserved, _) => step(-1, 0, 0),
            (Self::Released, _) => step(1, 0, 0),
            (Self::Claimed, _) => step(0, -1, 0),
            (Self::Committed, _) => step(0, -1, 1),
            (Self::Shipped, _) => step(0, 0, -1),
            (Self::Restocked, Some(Self::Committed)) => step(1, 1, -1),
            (Self::Restocked, _) => step(1, 1, 0),
        }
    }
}

impl Hold {
    fn state(&self) -> Option<Kind> {
        self.movements.last().map(|movement| movement.kind)
    }

    fn lines(&self) -> BTreeMap<String, i64> {
        self.movements.last().map(|movement| movement.lines.clone()).unwrap_or_default()
    }

    fn moved(&mut self, kind: Kind, lines: BTreeMap<String, i64>) {
        self.movements.push(Movement { kind, at_ms: clock::now_ms(), lines });
    }
}

/// A change of what is on hand that no sale made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Correction {
    sku: String,
    delta: i64,
    at_ms: u64,
}

/// The unit cannot go on; the interface has no error for it.
pub fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("inventory storage: {error}"))
}

fn must_job(result: Result<(), jobs::Error>) {
    must(result.map_err(|error| format!("{error:?}")));
}

pub fn is_sku(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Ids come from other plugins; one that can be no key names no hold.
fn hold(id: &str) -> Option<Hold> {
    match HOLDS.get(id) {
        Err(CollectionError::Storage(storage::Error::Invalid(_))) => None,
        found => must(found),
    }
}

/// For showing: what decides is `reserve`.
pub fn available(sku: &str) -> i64 {
    if is_sku(sku) { must(AVAILABLE.peek(sku)) } else { 0 }
}

pub fn reserve(id: &str, lines: &[Line], expires_ms: u64, counting: Counting) -> Result<(), Vec<Shortage>> {
    let mut hold = hold(id).unwrap_or_default();
    if matches!(hold.state(), Some(Kind::Reserved | Kind::Claimed | Kind::Committed | Kind::Shipped)) {
        return Ok(());
    }
    let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.quantity > 0) {
        *wanted.entry(line.sku.clone()).or_default() += i64::from(line.quantity);
    }
    let settings = Settings::load();
    let uncounted = if counting == Counting::Here { count_here(&wanted, &settings)? } else { BTreeMap::new() };
    let (mut taken, mut shortages) = (Vec::new(), Vec::new());
    for (sku, &quantity) in &wanted {
        if !is_sku(sku) {
            shortages.push(shortage(sku, quantity, 0));
            continue;
        }
        if crate::policy::sells_beyond(sku) {
            taken.push((sku, quantity, must(AVAILABLE.add(sku, -quantity))));
            continue;
        }
        match AVAILABLE.add_not_below(sku, -quantity, 0) {
            Ok(left) => taken.push((sku, quantity, left)),
            Err(storage::Error::BelowFloor(available)) => shortages.push(shortage(sku, quantity, available)),
            Err(error) => must(Err(error)),
        }
    }
    if !shortages.is_empty() {
        // The unit may well commit: the caller decides what a shortage means.
        for (sku, quantity, _) in taken {
            must(AVAILABLE.add(sku, quantity));
        }
        uncount(&uncounted);
        return Err(shortages);
    }
    drop_pages(taken.iter().map(|(sku, quantity, left)| (sku.as_str(), left + quantity, *left)));
    hold.expires_ms = expires_ms.min(clock::now_ms() + settings.hold_ms_max());
    hold.uncounted = uncounted;
    hold.moved(Kind::Reserved, wanted);
    must(HOLDS.put(id, &hold));
    must_job(jobs::schedule_json(EXPIRE, id, hold.expires_ms, &()));
    Ok(())
}

fn shortage(sku: &str, wanted: i64, available: i64) -> Shortage {
    Shortage { sku: sku.into(), wanted: wanted.try_into().unwrap_or(u32::MAX), available }
}

/// All of it but what is sold beyond the stock, or nothing with how many may be held still.
fn count_here(wanted: &BTreeMap<String, i64>, settings: &Settings) -> Result<BTreeMap<String, i64>, Vec<Shortage>> {
    let (mut counted, mut over) = (BTreeMap::new(), Vec::new());
    for (sku, &quantity) in wanted.iter().filter(|(sku, _)| is_sku(sku) && !crate::policy::sells_beyond(sku)) {
        let of_sku = settings.uncounted_of_sku_max(must(UNSOLD.peek(sku)));
        let left = match count_up_to(UNCOUNTED_SKUS, sku, quantity, of_sku) {
            Ok(()) => match count_up_to(UNCOUNTED, ALL, quantity, settings.uncounted_max()) {
                Ok(()) => {
                    counted.insert(sku.clone(), quantity);
                    continue;
                }
                Err(left) => {
                    must(UNCOUNTED_SKUS.add(sku, quantity));
                    left
                }
            },
            Err(left) => left,
        };
        over.push(shortage(sku, quantity, left));
    }
    if over.is_empty() {
        return Ok(counted);
    }
    uncount(&counted);
    Err(over)
}

/// `Err` holds how many could be counted still.
fn count_up_to(counter: Counter, key: &str, quantity: i64, most: i64) -> Result<(), i64> {
    match counter.add_not_below(key, -quantity, -most) {
        Ok(_) => Ok(()),
        Err(storage::Error::BelowFloor(value)) => Err(most.saturating_add(value).max(0)),
        Err(error) => must(Err(error)),
    }
}

fn uncount(counted: &BTreeMap<String, i64>) {
    for (sku, quantity) in counted {
        must(UNCOUNTED_SKUS.add(sku, *quantity));
        must(UNCOUNTED.add(ALL, *quantity));
    }
}

/// How much is held and counted here, for tests: in all, and of a sku.
#[cfg(test)]
pub fn uncounted(sku: &str) -> (i64, i64) {
    (-must(UNCOUNTED.get(ALL)), -must(UNCOUNTED_SKUS.get(sku)))
}

pub fn extend(id: &str, expires_ms: u64) -> bool {
    let Some(mut hold) = hold(id).filter(|hold| hold.state() == Some(Kind::Reserved)) else { return false };
    let reserved_ms = hold.movements.last().map_or(0, |movement| movement.at_ms);
    let end_ms = reserved_ms + Settings::load().hold_ms_max();
    if end_ms <= clock::now_ms() {
        return false;
    }
    let expires_ms = expires_ms.min(end_ms);
    if hold.expires_ms != expires_ms {
        hold.expires_ms = expires_ms;
        must(HOLDS.put(id, &hold));
        must_job(jobs::schedule_json(EXPIRE, id, expires_ms, &()));
    }
    true
}

pub fn release(id: &str) {
    let Some(hold) = hold(id).filter(|hold| hold.state() == Some(Kind::Reserved)) else { return };
    must_job(jobs::cancel(EXPIRE, id));
    give_back(id, hold);
}

/// The job at a hold's expiry. It may have been extended or ended meanwhile.
pub fn expire(id: &str) {
    let Some(hold) = hold(id).filter(|hold| hold.state() == Some(Kind::Reserved)) else { return };
    if hold.expires_ms <= clock::now_ms() {
        give_back(id, hold);
    } else {
        must_job(jobs::schedule_json(EXPIRE, id, hold.expires_ms, &()));
    }
}

fn give_back(id: &str, mut hold: Hold) {
    let lines = hold.lines();
    add_available(&lines);
    uncount(&std::mem::take(&mut hold.uncounted));
    hold.moved(Kind::Released, lines);
    must(HOLDS.put(id, &hold));
}

pub fn claim(id: &str) -> bool {
    let Some(mut hold) = hold(id) else { return false };
    match hold.state() {
        Some(Kind::Claimed | Kind::Committed | Kind::Shipped) => true,
        Some(Kind::Reserved) => {
            uncount(&std::mem::take(&mut hold.uncounted));
            move_on(id, hold, if form() >= FORM_WITH_COMMITMENTS { Kind::Committed } else { Kind::Claimed });
            must_job(jobs::cancel(EXPIRE, id));
            true
        }
        _ => false,
    }
}

pub fn ship(id: &str) -> bool {
    let Some(hold) = hold(id) else { return false };
    match hold.state() {
        Some(Kind::Committed) => {
            move_on(id, hold, Kind::Shipped);
            true
        }
        // One that left the books when it was paid.
        Some(Kind::Shipped | Kind::Claimed) => true,
        _ => false,
    }
}

/// Puts a claim of the first form back on the books: it has not been sent.
pub fn keep(id: &str) -> bool {
    if form() < FORM_WITH_COMMITMENTS {
        return false;
    }
    if let Some(mut hold) = hold(id)
        && let Some(last) = hold.movements.last_mut().filter(|last| last.kind == Kind::Claimed)
    {
        last.kind = Kind::Committed;
        for (sku, quantity) in &last.lines {
            must(COMMITTED.add(sku, *quantity));
        }
        must(HOLDS.put(id, &hold));
    }
    true
}

pub fn restock(id: &str) -> bool {
    let Some(hold) = hold(id) else { return false };
    match hold.state() {
        Some(Kind::Restocked) => true,
        Some(Kind::Claimed | Kind::Committed | Kind::Shipped) => {
            let lines = hold.lines();
            move_on(id, hold, Kind::Restocked);
            move_pages(&lines, |sku, _| must(AVAILABLE.peek(sku)));
            true
        }
        _ => false,
    }
}

/// Moves all of a hold's goods, and the counters with them.
fn move_on(id: &str, mut hold: Hold, kind: Kind) {
    let lines = hold.lines();
    let step = kind.step(hold.state());
    for (sku, quantity) in &lines {
        for (counter, by) in [(AVAILABLE, step.available), (UNSOLD, step.unsold), (COMMITTED, step.committed)] {
            if by != 0 {
                must(counter.add(sku, by * quantity));
            }
        }
    }
    hold.moved(kind, lines);
    must(HOLDS.put(id, &hold));
}

/// Rewrites one page of holds for a version that knows no commitments.
pub fn migrate(cursor: &str) -> Option<String> {
    if form() >= FORM_WITH_COMMITMENTS {
        // What was claimed before stays off the books, until `keep` says otherwise.
        return None;
    }
    let found = must(HOLDS.scan(&storage::after(Some(cursor).filter(|cursor| !cursor.is_empty())), MIGRATED_AT_ONCE, false));
    for (id, hold) in &found {
        if hold.movements.iter().any(|movement| matches!(movement.kind, Kind::Committed | Kind::Shipped)) {
            if hold.state() == Some(Kind::Committed) {
                for (sku, quantity) in hold.lines() {
                    must(COMMITTED.add(&sku, -quantity));
                }
            }
            let mut old = hold.clone();
            old.movements.retain(|movement| movement.kind != Kind::Shipped);
            for movement in old.movements.iter_mut().filter(|movement| movement.kind == Kind::Committed) {
                movement.kind = Kind::Claimed;
            }
            must(HOLDS.put(id, &old));
        }
    }
    found.last().filter(|_| found.len() == MIGRATED_AT_ONCE as usize).map(|(id, _)| id.clone())
}

fn form() -> u32 {
    must(data::form().map_err(|error| format!("{error:?}")))
}

/// Units of paid orders that are not sent, as this unit sees them.
fn committed(sku: &str) -> i64 {
    must(COMMITTED.get(sku))
}

/// For showing.
pub fn count(sku: &str) -> Count {
    let peek = |counter: Counter| if is_sku(sku) { must(counter.peek(sku)) } else { 0 };
    let (available, unsold, committed) = (peek(AVAILABLE), peek(UNSOLD), peek(COMMITTED));
    Count { sku: sku.into(), on_hand: unsold + committed, reserved: unsold - available, committed, available }
}

fn add_available(lines: &BTreeMap<String, i64>) {
    move_pages(lines, |sku, quantity| must(AVAILABLE.add(sku, quantity)));
}

/// After `now` tells what is available of each, of which so many more are than before.
fn move_pages(lines: &BTreeMap<String, i64>, now: impl Fn(&str, i64) -> i64) {
    let moved: Vec<_> = lines.iter().map(|(sku, quantity)| (sku.as_str(), *quantity, now(sku, *quantity))).collect();
    drop_pages(moved.into_iter().map(|(sku, quantity, now)| (sku, now - quantity, now)));
}

/// Those that show something else now: sku, available before, available now.
fn drop_pages<'a>(moved: impl Iterator<Item = (&'a str, i64, i64)>) {
    let shown = |available: i64| available.clamp(0, SHOWN_BELOW);
    let tags: Vec<String> = moved.filter(|(_, before, now)| shown(*before) != shown(*now)).map(|(sku, ..)| format!("stock:{sku}")).collect();
    if !tags.is_empty() {
        pages::invalidate(&tags);
    }
}

/// On the shelf: what is paid and not sent lies there as well.
pub fn on_hand(sku: &str) -> i64 {
    must(UNSOLD.get(sku)) + committed(sku)
}

/// The shelf was counted. `Err` holds how many of it are held for orders: fewer cannot be on hand.
pub fn set_on_hand(sku: &str, quantity: i64) -> Result<(), i64> {
    correct(sku, quantity - on_hand(sku))
}

/// So many may be sold, whatever is held for orders besides.
pub fn set_available(sku: &str, quantity: i64) -> Result<(), i64> {
    correct(sku, quantity - must(AVAILABLE.get(sku)))
}

fn correct(sku: &str, delta: i64) -> Result<(), i64> {
    if delta == 0 {
        note_counted(sku);
        return Ok(());
    }
    match AVAILABLE.add_not_below(sku, delta, 0) {
        Ok(left) => corrected(sku, delta, left),
        Err(storage::Error::BelowFloor(available)) => return Err(on_hand(sku) - available),
        Err(error) => must(Err(error)),
    }
    Ok(())
}

/// Of what was counted as none, nothing else is left.
fn note_counted(sku: &str) {
    if must(AVAILABLE.get(sku)) == 0 && must(COUNTED.get(sku)).is_none() {
        must(COUNTED.put(sku, &true));
    }
}

/// Whether anything of it was ever counted, held or sold here.
pub fn is_known(sku: &str) -> bool {
    if !is_sku(sku) {
        return false;
    }
    let count = count(sku);
    let any = count.on_hand != 0 || count.available != 0 || count.reserved != 0 || count.committed != 0;
    let mut known = any || must(COUNTED.get(sku)).is_some() || crate::policy::sells_beyond(sku);
    if !known {
        each(&CORRECTIONS, |correction| known |= correction.sku == sku);
    }
    known
}

const TYPOS_MAX: usize = 3;

/// What may have been meant.
pub fn nearest(sku: &str) -> Option<String> {
    let mut known = BTreeSet::new();
    each(&CORRECTIONS, |correction| _ = known.insert(correction.sku));
    let near = known.into_iter().map(|known| (distance(&known, sku), known)).filter(|(typos, _)| *typos <= TYPOS_MAX);
    near.min().map(|(_, known)| known)
}

/// Letters to be put in, taken out or exchanged; upper and lower case are the same.
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, of_a) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, of_b) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(!of_a.eq_ignore_ascii_case(of_b));
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// So many more or fewer, whatever is held: the caller has looked.
pub fn put(sku: &str, delta: i64) {
    if delta != 0 {
        let left = must(AVAILABLE.add(sku, delta));
        corrected(sku, delta, left);
    }
}

fn corrected(sku: &str, delta: i64, left: i64) {
    must(UNSOLD.add(sku, delta));
    must(CORRECTIONS.put(&ids::sortable(), &Correction { sku: sku.into(), delta, at_ms: clock::now_ms() }));
    drop_pages(std::iter::once((sku, left - delta, left)));
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    pub available: i64,
    pub on_hand: i64,
    pub committed: i64,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Difference {
    pub sku: String,
    pub ledger: Balance,
    pub counters: Balance,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Verification {
    pub skus: usize,
    pub holds: usize,
    pub differences: Vec<Difference>,
}

pub fn verify() -> Verification {
    let mut balances: BTreeMap<String, Balance> = BTreeMap::new();
    each(&CORRECTIONS, |correction| {
        let balance = balances.entry(correction.sku).or_default();
        balance.available += correction.delta;
        balance.on_hand += correction.delta;
    });
    let mut holds = 0;
    each(&HOLDS, |hold| {
        holds += 1;
        let mut before = None;
        for movement in hold.movements {
            let step = movement.kind.step(before);
            for (sku, quantity) in movement.lines {
                let balance = balances.entry(sku).or_default();
                balance.available += step.available * quantity;
                balance.on_hand += (step.unsold + step.committed) * quantity;
                balance.committed += step.committed * quantity;
            }
            before = Some(movement.kind);
        }
    });
    let skus: BTreeSet<String> = balances.keys().cloned().collect();
    let differences = balances.into_iter().filter_map(|(sku, ledger)| {
        let counters = Balance { available: available(&sku), on_hand: on_hand(&sku), committed: committed(&sku) };
        (counters != ledger).then_some(Difference { sku, ledger, counters })
    });
    Verification { holds, differences: differences.collect(), skus: skus.len() }
}

fn each<T: Serialize + serde::de::DeserializeOwned>(collection: &Collection<T>, mut visit: impl FnMut(T)) {
    let mut last: Option<String> = None;
    loop {
        let found = must(collection.scan(&storage::after(last.as_deref()), SCAN_MAX, false));
        let full = found.len() == SCAN_MAX as usize;
        last = found.last().map(|(key, _)| key.clone());
        for (_, document) in found {
            visit(document);
        }
        if !full {
            return;
        }
    }
}
