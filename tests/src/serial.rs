//! Whether what concurrent transactions saw can come from running them one
//! after the other, in an order in which whoever was answered comes before
//! whoever asked later. After Elle (Kingsbury and Alvaro, 2020): each list is
//! only appended to, each counter only gets bits that it lacked, and so each
//! thing seen tells which transactions came before it and which after. An order
//! there is, if that has no cycle.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

/// What a transaction did to one object, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Append { list: String, element: u64 },
    Read { list: String, seen: Vec<u64> },
    Add { counter: String, bit: u32 },
    Count { counter: String, seen: i64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// It was told that nothing was done.
    Refused,
    /// Nobody was told.
    Unknown,
}

#[derive(Debug, Clone)]
pub struct Transaction {
    pub outcome: Outcome,
    pub begun: Instant,
    pub ended: Instant,
    /// Without what was seen where the outcome is unknown.
    pub actions: Vec<Action>,
}

/// What was there when all had ended.
#[derive(Debug, Default)]
pub struct Finally {
    pub lists: BTreeMap<String, Vec<u64>>,
    pub counters: BTreeMap<String, i64>,
}

/// Why the second comes after the first.
type Edges = Vec<Vec<(usize, String)>>;

/// What cannot be, if anything.
pub fn check(history: &[Transaction], finally: &Finally) -> Result<(), String> {
    let writers = Writers::of(history)?;
    let there = writers.what_is_there(history, finally)?;
    let mut edges: Edges = vec![Vec::new(); history.len()];
    for (list, elements) in &finally.lists {
        for pair in elements.windows(2) {
            let (first, then) = (writers.elements[&(list.clone(), pair[0])], writers.elements[&(list.clone(), pair[1])]);
            connect(&mut edges, first, then, || format!("appended to {list} before it"));
        }
    }
    for (number, transaction) in history.iter().enumerate().filter(|(number, _)| there.contains(number)) {
        let mut own: HashMap<&str, Vec<u64>> = HashMap::new();
        let mut own_bits: HashMap<&str, i64> = HashMap::new();
        for action in &transaction.actions {
            match action {
                Action::Append { list, element } => own.entry(list).or_default().push(*element),
                Action::Add { counter, bit } => *own_bits.entry(counter).or_default() |= 1 << bit,
                Action::Read { list, seen } => {
                    let own = own.get(list.as_str()).map_or(&[][..], Vec::as_slice);
                    let before = seen.strip_suffix(own).ok_or_else(|| format!("{number} does not see in {list} what it has appended: {seen:?}"))?;
                    let all = finally.lists.get(list).map_or(&[][..], Vec::as_slice);
                    let after = all.strip_prefix(before).ok_or_else(|| format!("{number} saw in {list} {before:?}, which is no beginning of {all:?}"))?;
                    if let Some(last) = before.last() {
                        connect(&mut edges, writers.elements[&(list.clone(), *last)], number, || format!("had its append to {list} seen by"));
                    }
                    if let Some(next) = after.first() {
                        connect(&mut edges, number, writers.elements[&(list.clone(), *next)], || format!("did not see in {list} the append of"));
                    }
                }
                Action::Count { counter, seen } => {
                    let own = own_bits.get(counter.as_str()).copied().unwrap_or(0);
                    if seen & own != own {
                        return Err(format!("{number} does not see in {counter} what it has added"));
                    }
                    for ((_, bit), writer) in writers.bits.range((counter.clone(), 0)..=(counter.clone(), 63)).filter(|(_, writer)| there.contains(writer)) {
                        if seen & (1 << bit) != 0 {
                            connect(&mut edges, *writer, number, || format!("had its add to {counter} seen by"));
                        } else {
                            connect(&mut edges, number, *writer, || format!("did not see in {counter} the add of"));
                        }
                    }
                    let known: i64 = writers.bits.range((counter.clone(), 0)..=(counter.clone(), 63)).filter(|(_, writer)| there.contains(writer)).map(|((_, bit), _)| 1 << bit).sum();
                    if seen & !known != 0 {
                        return Err(format!("{number} saw in {counter} {seen:#b}, of which nobody added {:#b}", seen & !known));
                    }
                }
            }
        }
    }
    add_time(history, &there, &mut edges);
    match cycle(&edges) {
        None => Ok(()),
        Some(cycle) => Err(cycle.iter().map(|(number, why)| format!("{number} {why}")).collect::<Vec<_>>().join("\n")),
    }
}

fn connect(edges: &mut Edges, first: usize, then: usize, why: impl FnOnce() -> String) {
    if first != then {
        edges[first].push((then, why()));
    }
}

/// Which transaction each thing comes from.
struct Writers {
    elements: HashMap<(String, u64), usize>,
    bits: BTreeMap<(String, u32), usize>,
}

impl Writers {
    fn of(history: &[Transaction]) -> Result<Self, String> {
        let mut writers = Self { elements: HashMap::new(), bits: BTreeMap::new() };
        for (number, transaction) in history.iter().enumerate() {
            for action in &transaction.actions {
                let twice = match action {
                    Action::Append { list, element } => writers.elements.insert((list.clone(), *element), number).is_some(),
                    Action::Add { counter, bit } => writers.bits.insert((counter.clone(), *bit), number).is_some(),
                    _ => false,
                };
                if twice {
                    return Err(format!("the test itself writes {action:?} twice"));
                }
            }
        }
        Ok(writers)
    }

    /// The transactions that took place, each as a whole.
    fn what_is_there(&self, history: &[Transaction], finally: &Finally) -> Result<BTreeSet<usize>, String> {
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        for (list, elements) in &finally.lists {
            for element in elements {
                let writer = self.elements.get(&(list.clone(), *element)).ok_or_else(|| format!("nobody appended {element} to {list}"))?;
                *seen.entry(*writer).or_default() += 1;
            }
        }
        for (counter, value) in &finally.counters {
            for bit in (0..63).filter(|bit| value & (1 << bit) != 0) {
                let writer = self.bits.get(&(counter.clone(), bit)).ok_or_else(|| format!("nobody added bit {bit} to {counter}"))?;
                *seen.entry(*writer).or_default() += 1;
            }
        }
        let mut there = BTreeSet::new();
        for (number, transaction) in history.iter().enumerate() {
            let writes = transaction.actions.iter().filter(|action| matches!(action, Action::Append { .. } | Action::Add { .. })).count();
            let found = seen.get(&number).copied().unwrap_or(0);
            match transaction.outcome {
                Outcome::Committed if found == writes => _ = there.insert(number),
                Outcome::Refused if found == 0 => {}
                Outcome::Unknown if found == 0 => {}
                Outcome::Unknown if found == writes => _ = there.insert(number),
                outcome => return Err(format!("{number} is {outcome:?}, and {found} of its {writes} writes are there")),
            }
        }
        Ok(there)
    }
}

/// Who had been answered before another asked came before it. Not each with
/// each, but through a chain of moments, one behind each end.
fn add_time(history: &[Transaction], there: &BTreeSet<usize>, edges: &mut Edges) {
    let mut moments: Vec<(Instant, bool, usize)> = Vec::new();
    for &number in there {
        moments.push((history[number].begun, true, number));
        if history[number].outcome == Outcome::Committed {
            moments.push((history[number].ended, false, number));
        }
    }
    moments.sort();
    let mut last: Option<usize> = None;
    for (_, begins, number) in moments {
        if begins {
            if let Some(moment) = last {
                edges[moment].push((number, "before the beginning of".into()));
            }
            continue;
        }
        let moment = edges.len();
        edges.push(Vec::new());
        edges[number].push((moment, "had ended at".into()));
        if let Some(before) = last {
            edges[before].push((moment, "before".into()));
        }
        last = Some(moment);
    }
}

/// A shortest way back to where it began, through what cannot be put in order.
fn cycle(edges: &Edges) -> Option<Vec<(usize, String)>> {
    let mut before = vec![0_usize; edges.len()];
    edges.iter().flatten().for_each(|(then, _)| before[*then] += 1);
    let mut free: VecDeque<usize> = (0..edges.len()).filter(|number| before[*number] == 0).collect();
    let mut left: BTreeSet<usize> = (0..edges.len()).collect();
    while let Some(number) = free.pop_front() {
        left.remove(&number);
        for (then, _) in &edges[number] {
            before[*then] -= 1;
            if before[*then] == 0 {
                free.push_back(*then);
            }
        }
    }
    left.iter().filter_map(|start| way_back(edges, *start, &left)).min_by_key(Vec::len)
}

fn way_back(edges: &Edges, start: usize, within: &BTreeSet<usize>) -> Option<Vec<(usize, String)>> {
    let mut reached: HashMap<usize, (usize, &str)> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(number) = queue.pop_front() {
        for (then, why) in edges[number].iter().filter(|(then, _)| within.contains(then)) {
            if reached.contains_key(then) {
                continue;
            }
            reached.insert(*then, (number, why));
            if *then == start {
                let mut way = Vec::new();
                let mut at = start;
                loop {
                    let (from, why) = reached[&at];
                    way.push((from, why.to_owned()));
                    at = from;
                    if at == start {
                        way.reverse();
                        return Some(way);
                    }
                }
            }
            queue.push_back(*then);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(begun: u64, ended: u64, actions: Vec<Action>) -> Transaction {
        let (epoch, ms) = (*EPOCH, Duration::from_millis);
        Transaction { outcome: Outcome::Committed, begun: epoch + ms(begun), ended: epoch + ms(ended), actions }
    }

    static EPOCH: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

    fn append(list: &str, element: u64) -> Action {
        Action::Append { list: list.into(), element }
    }

    fn read(list: &str, seen: &[u64]) -> Action {
        Action::Read { list: list.into(), seen: seen.into() }
    }

    fn finally(lists: &[(&str, &[u64])], counters: &[(&str, i64)]) -> Finally {
        Finally {
            lists: lists.iter().map(|(list, elements)| ((*list).into(), elements.to_vec())).collect(),
            counters: counters.iter().map(|(counter, value)| ((*counter).into(), *value)).collect(),
        }
    }

    #[test]
    fn what_has_an_order_is_let_through() {
        let history = [
            at(0, 10, vec![read("x", &[]), append("x", 1), read("x", &[1])]),
            at(5, 20, vec![read("x", &[1]), append("y", 2), Action::Add { counter: "c".into(), bit: 3 }]),
            at(6, 30, vec![read("y", &[]), Action::Count { counter: "c".into(), seen: 0 }]),
        ];
        assert_eq!(check(&history, &finally(&[("x", &[1]), ("y", &[2])], &[("c", 8)])), Ok(()));
    }

    #[test]
    fn what_has_none_is_found() {
        let count = |seen| Action::Count { counter: "c".into(), seen };
        let add = |bit| Action::Add { counter: "c".into(), bit };
        let cases: [(&str, Vec<Transaction>, Finally, &str); 7] = [
            ("write skew", vec![at(0, 9, vec![read("x", &[]), append("y", 1)]), at(0, 9, vec![read("y", &[]), append("x", 2)])], finally(&[("x", &[2]), ("y", &[1])], &[]), "did not see"),
            ("lost update", vec![at(0, 9, vec![append("x", 1)]), at(0, 9, vec![append("x", 2)])], finally(&[("x", &[2])], &[]), "0 of its 1 writes"),
            ("torn", vec![at(0, 9, vec![append("x", 1), append("y", 1)])], finally(&[("x", &[1])], &[]), "1 of its 2 writes"),
            ("stale read", vec![at(0, 1, vec![append("x", 1)]), at(2, 3, vec![read("x", &[])])], finally(&[("x", &[1])], &[]), "did not see"),
            ("phantom", vec![at(0, 9, vec![read("p1", &[]), read("p2", &[2])]), at(0, 9, vec![append("p1", 1), append("p2", 2)])], finally(&[("p1", &[1]), ("p2", &[2])], &[]), "did not see"),
            ("counter skew", vec![at(0, 9, vec![count(0), append("x", 1)]), at(0, 9, vec![read("x", &[]), add(0)]), at(0, 9, vec![add(1), count(2)])], finally(&[("x", &[1])], &[("c", 3)]), "did not see"),
            ("seen out of order", vec![at(0, 9, vec![append("x", 1)]), at(0, 9, vec![append("x", 2)]), at(0, 9, vec![read("x", &[2])])], finally(&[("x", &[1, 2])], &[]), "no beginning"),
        ];
        for (name, history, finally, told) in cases {
            let checked = check(&history, &finally);
            assert!(checked.as_ref().is_err_and(|error| error.contains(told)), "{name}: {checked:?}");
        }
    }

    #[test]
    fn what_was_refused_must_not_be_there_and_what_is_unknown_may() {
        let refused = Transaction { outcome: Outcome::Refused, ..at(0, 9, vec![append("x", 1)]) };
        let unknown = Transaction { outcome: Outcome::Unknown, ..refused.clone() };
        assert!(check(&[refused], &finally(&[("x", &[1])], &[])).is_err());
        assert_eq!(check(std::slice::from_ref(&unknown), &finally(&[("x", &[1])], &[])), Ok(()));
        assert_eq!(check(&[unknown], &finally(&[], &[])), Ok(()));
    }
}
