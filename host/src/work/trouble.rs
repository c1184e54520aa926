//! What fails now: work that is tried again, and dead letters. For the operator,
//! who sees it in `souk dead list`, `souk status`, `/ready` and `/metrics`, and
//! can have it tried at once, or dropped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::dead::{DeadLetter, ReplayError, decode};
use super::keys::{self, Key};
use super::parked::Lane;
use super::runner::{RunError, Runner};
use super::{Plugins, effects, jobs};

/// Work of one plugin that fails now, of all kinds: one that fails much hides no other.
/// What fails beyond is tried again as well.
const NOTED_MAX: usize = 1_000;
/// With so many dead letters of a plugin nothing more of it is given up: it is tried again
/// and again, so that nothing is lost. The oldest stay, and so does the newest work.
const DEAD_OF_ONE_MAX: u64 = 1_000;
/// With so many of all plugins together, those give nothing more up that have their part of them.
const DEAD_MAX: u64 = 10_000;
const DEAD_OF_ONE_ALWAYS: u64 = 100;
/// How often the log says so.
const FULL_TOLD_MS: u64 = 60_000;
const PAGE: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Event,
    Effect,
    /// Of an effect, which its requester does not take.
    Answer,
    Job,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Effect => "effect",
            Kind::Answer => "answer",
            Kind::Job => "job",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub kind: Kind,
    /// Whose handler fails.
    pub plugin: String,
    /// Topic of an event, kind of an effect, name of a job.
    pub what: String,
    pub key: String,
    /// Who published or asked, or who answered; empty for a job.
    pub other: String,
    pub tries: u32,
    /// The first failure. 0 where that was not written down.
    pub since_ms: u64,
    /// The last try.
    pub at_ms: u64,
    /// None: given up, a dead letter.
    pub next_ms: Option<u64>,
    /// Events of the same key that wait behind it.
    pub behind: u32,
    pub error: String,
}

/// One of the list, with the id that commands take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub id: String,
    pub trouble: Trouble,
}

#[derive(Default)]
pub(super) struct Troubles {
    failing: Mutex<BTreeMap<String, (Key, Trouble)>>,
    /// How many of them each plugin has. Locked after them.
    noted: Mutex<BTreeMap<String, usize>>,
    /// Dead letters by plugin.
    dead: Mutex<BTreeMap<String, u64>>,
    /// When the log last said that a plugin has no room for more of them.
    full_told_ms: Mutex<BTreeMap<String, u64>>,
    /// Found in the store, once.
    found: AtomicBool,
    /// Nothing fails, mostly.
    any: AtomicBool,
    changed: watch::Sender<u64>,
}

/// Ids of dead letters begin with a digit, so that these come last.
fn id_of(key: &[u8]) -> String {
    format!("r{:016x}", xxhash_rust::xxh3::xxh3_64(key))
}

impl Troubles {
    pub fn set(&self, key: &[u8], trouble: Trouble) {
        let mut failing = self.failing.lock();
        let id = id_of(key);
        if failing.contains_key(&id) || self.has_room(&trouble.plugin) {
            failing.insert(id, (Key::from_slice(key), trouble));
            self.any.store(true, Ordering::Release);
            drop(failing);
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Counts one more of this plugin, unless it has as many as are noted.
    fn has_room(&self, plugin: &str) -> bool {
        let mut noted = self.noted.lock();
        let count = match noted.get_mut(plugin) {
            Some(count) => count,
            None => noted.entry(plugin.to_owned()).or_default(),
        };
        let has_room = *count < NOTED_MAX;
        *count += usize::from(has_room);
        has_room
    }

    pub fn clear(&self, key: &[u8]) {
        if self.any.load(Ordering::Acquire) {
            let mut failing = self.failing.lock();
            if let Some((_, gone)) = failing.remove(&id_of(key)) {
                let mut noted = self.noted.lock();
                noted.entry(gone.plugin).and_modify(|count| *count -= 1);
                noted.retain(|_, count| *count > 0);
            }
            self.any.store(!failing.is_empty(), Ordering::Release);
        }
    }

    /// Whether one more dead letter of this plugin may be; how many there are of it and of all.
    fn has_room_for_dead(&self, plugin: &str) -> (bool, u64, u64) {
        let dead = self.dead.lock();
        let (own, all) = (dead.get(plugin).copied().unwrap_or_default(), dead.values().sum());
        (own < DEAD_OF_ONE_MAX && (all < DEAD_MAX || own < DEAD_OF_ONE_ALWAYS), own, all)
    }

    fn died(&self, plugin: &str) {
        *self.dead.lock().entry(plugin.to_owned()).or_default() += 1;
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn is_gone(&self, plugin: &str) {
        let mut dead = self.dead.lock();
        if let Some(left) = dead.get_mut(plugin) {
            *left = left.saturating_sub(1);
        }
        dead.retain(|_, left| *left > 0);
        drop(dead);
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn write_metrics(&self, out: &mut String, now_ms: u64) {
        let (name, help) = ("souk_dead_letters_left", "Dead letters that wait for the operator.");
        _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (plugin, count) in &*self.dead.lock() {
            _ = writeln!(out, "{name}{{plugin=\"{plugin}\"}} {count}");
        }
        let failing = self.failing.lock();
        let mut by: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
        for (_, trouble) in failing.values() {
            let (count, oldest_ms) = by.entry((&trouble.plugin, trouble.kind.name())).or_insert((0, u64::MAX));
            *count += 1 + u64::from(trouble.behind);
            *oldest_ms = (*oldest_ms).min(trouble.since_ms);
        }
        let (name, help) = ("souk_retrying", "Events, effects, answers and jobs that failed, or wait behind one, and are tried again.");
        _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for ((plugin, kind), (count, _)) in &by {
            _ = writeln!(out, "{name}{{plugin=\"{plugin}\",kind=\"{kind}\"}} {count}");
        }
        let (name, help) = ("souk_retrying_oldest_seconds", "For how long the oldest of these has failed.");
        _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n# UNIT {name} seconds");
        for ((plugin, kind), (_, oldest_ms)) in &by {
            _ = writeln!(out, "{name}{{plugin=\"{plugin}\",kind=\"{kind}\"}} {}", now_ms.saturating_sub(*oldest_ms) / 1_000);
        }
    }
}

/// Something that an operator should hear of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub plugin: String,
    /// `dead-letters` or `failing`.
    pub subject: String,
    pub count: u64,
    pub text: String,
}

/// Which of them a command is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Which {
    Ids(Vec<String>),
    OfPlugin(String),
}

impl<P: Plugins> Runner<P> {
    /// Reads what fails out of the store; later it is kept up to date.
    pub(super) fn find_troubles(&self) -> Result<(), RunError> {
        if self.troubles.found.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.walk(keys::lanes(), |key, bytes| {
            let (Some((plugin, _)), Ok(lane)) = (keys::lane_of(key), decode::<Lane>(bytes)) else { return };
            self.troubles.set(key, lane.trouble(plugin));
        })?;
        self.walk(keys::effects(), |key, bytes| _ = effects::failing(bytes).map(|trouble| self.troubles.set(key, trouble)))?;
        self.walk(keys::all_jobs(), |key, bytes| _ = jobs::failing(bytes).map(|trouble| self.troubles.set(key, trouble)))?;
        self.walk(keys::dead_letters(), |_, bytes| _ = DeadLetter::read(bytes).map(|letter| self.troubles.died(&letter.plugin)))
    }

    fn walk(&self, (mut start, end): (Key, Key), mut each: impl FnMut(&[u8], &[u8])) -> Result<(), RunError> {
        loop {
            let page = self.store.begin().scan(Bound::Excluded(&start), Bound::Excluded(&end), PAGE, false)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            start = Key::from_slice(last);
            page.iter().for_each(|(key, bytes)| each(key, bytes));
        }
    }

    /// Dead letters, oldest first, then what is tried again; after the id `after`.
    pub fn list_troubles(&self, plugin: Option<&str>, after: &str, limit: usize) -> Result<Vec<Listed>, RunError> {
        self.find_troubles()?;
        let is_wanted = |trouble: &Trouble| plugin.is_none_or(|plugin| trouble.plugin == plugin);
        let mut listed = Vec::new();
        let mut seen = after.to_owned();
        while listed.len() < limit {
            let page = self.dead_letters(&seen, PAGE)?;
            let Some(last) = page.last() else { break };
            seen.clone_from(&last.id);
            listed.extend(page.iter().map(DeadLetter::listed).filter(|listed| is_wanted(&listed.trouble)));
        }
        let failing = self.troubles.failing.lock();
        let failing = failing.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)).map(|(id, (_, trouble))| Listed { id: id.clone(), trouble: trouble.clone() });
        listed.extend(failing.filter(|listed| is_wanted(&listed.trouble)));
        listed.truncate(limit);
        Ok(listed)
    }

    /// How many there are, of all plugins or one.
    pub fn count_troubles(&self, plugin: Option<&str>) -> Result<u64, RunError> {
        self.find_troubles()?;
        let is_wanted = |name: &str| plugin.is_none_or(|plugin| name == plugin);
        let dead: u64 = self.troubles.dead.lock().iter().filter(|(name, _)| is_wanted(name)).map(|(_, count)| count).sum();
        Ok(dead + self.troubles.failing.lock().values().filter(|(_, trouble)| is_wanted(&trouble.plugin)).count() as u64)
    }

    /// One of them, and what it carries.
    pub fn show_trouble(&self, id: &str) -> Result<(Listed, Vec<u8>), ReplayError> {
        self.find_troubles()?;
        let Some((key, trouble)) = self.failing(id) else {
            let letter = self.dead_letter(id)?;
            return Ok((letter.listed(), letter.work.payload().to_vec()));
        };
        let payload = match trouble.kind {
            Kind::Event => keys::lane_of(&key).map_or(Ok(Vec::new()), |(plugin, lane)| self.payload_of_lane(plugin, lane))?,
            Kind::Effect | Kind::Answer => effects::payload(&mut self.store.begin(), &key)?,
            Kind::Job => jobs::payload(&mut self.store.begin(), &key)?,
        };
        Ok((Listed { id: id.to_owned(), trouble }, payload))
    }

    fn failing(&self, id: &str) -> Option<(Key, Trouble)> {
        self.troubles.failing.lock().get(id).cloned()
    }

    fn ids(&self, which: &Which) -> Result<Vec<String>, RunError> {
        match which {
            Which::Ids(ids) => Ok(ids.clone()),
            Which::OfPlugin(plugin) => Ok(self.list_troubles(Some(plugin), "", usize::MAX)?.into_iter().map(|listed| listed.id).collect()),
        }
    }

    /// Runs dead letters again now, and has the others tried now; what came of each.
    pub async fn retry_troubles(self: &Arc<Self>, which: &Which) -> Result<Vec<(String, Result<&'static str, String>)>, RunError> {
        self.find_troubles()?;
        let mut done = Vec::new();
        for id in self.ids(which)? {
            let outcome = match self.failing(&id) {
                Some((key, trouble)) => self.hasten(&key, trouble.kind).await.map(|()| "tried now").map_err(|error| error.to_string()),
                None => self.replay_dead_letter(&id).await.map(|()| "done").map_err(|error| error.to_string()),
            };
            done.push((id, outcome));
        }
        Ok(done)
    }

    async fn hasten(self: &Arc<Self>, key: &Key, kind: Kind) -> Result<(), RunError> {
        match (kind, keys::lane_of(key)) {
            (Kind::Event, Some((plugin, lane))) => self.hasten_lane(plugin, lane).await,
            (Kind::Event, None) => Ok(()),
            (Kind::Effect | Kind::Answer, _) => self.hasten_effect(key).await,
            (Kind::Job, _) => self.hasten_job(key).await,
        }
    }

    /// Drops dead letters, and gives up what is tried again: the plugin that asked for an effect is told that it failed.
    pub async fn drop_troubles(self: &Arc<Self>, which: &Which) -> Result<Vec<(String, Result<&'static str, String>)>, RunError> {
        self.find_troubles()?;
        let mut done = Vec::new();
        for id in self.ids(which)? {
            let outcome = match self.failing(&id) {
                Some((key, trouble)) => {
                    let dropped = match (trouble.kind, keys::lane_of(&key)) {
                        (Kind::Event, Some((plugin, lane))) => self.drop_first_of_lane(plugin, lane).await,
                        (Kind::Event, None) => Ok(()),
                        (Kind::Effect | Kind::Answer, _) => self.drop_effect(&key).await,
                        (Kind::Job, _) => self.drop_job(&key).await,
                    };
                    dropped.map(|()| "dropped").map_err(|error| error.to_string())
                }
                None => match self.discard_dead_letter(&id).await {
                    Ok(true) => Ok("dropped"),
                    Ok(false) => Err(format!("there is no dead letter {id}")),
                    Err(error) => Err(error.to_string()),
                },
            };
            done.push((id, outcome));
        }
        Ok(done)
    }

    /// Whether work that has failed so often becomes a dead letter now.
    pub(super) fn gives_up(&self, plugin: &str, failures: u32) -> bool {
        if !self.options.retry.is_spent(failures) {
            return false;
        }
        let (has_room, own, all) = self.troubles.has_room_for_dead(plugin);
        if !has_room && self.tells_full(plugin) {
            tracing::error!(
                target: "work", plugin, dead_letters = own, of_all = all,
                "nothing more of it is given up, and is tried again, before `souk dead retry` or `souk dead drop --plugin {plugin}` makes room"
            );
        }
        has_room
    }

    fn tells_full(&self, plugin: &str) -> bool {
        let now_ms = self.now_ms();
        let mut told = self.troubles.full_told_ms.lock();
        let tells = told.get(plugin).is_none_or(|last_ms| now_ms >= last_ms.saturating_add(FULL_TOLD_MS));
        if tells {
            told.insert(plugin.to_owned(), now_ms);
        }
        tells
    }

    /// After the transaction that wrote the dead letter.
    pub(super) fn gave_up(&self, plugin: &str, error: &str) {
        super::metrics::count(&self.metrics.dead_letters);
        tracing::error!(target: "work", plugin, error, "given up: see `souk dead list`");
        self.troubles.died(plugin);
    }

    /// A new value whenever something fails or is given up.
    pub fn troubles_change(&self) -> watch::Receiver<u64> {
        self.troubles.changed.subscribe()
    }

    /// What an operator should hear of: dead letters, and what has failed for so long.
    pub fn warnings(&self, failing_ms: u64) -> Vec<Warning> {
        let dead = self.troubles.dead.lock().clone();
        let dead = dead.into_iter().map(|(plugin, count)| {
            let letters = if count == 1 { "dead letter" } else { "dead letters" };
            let text = format!("{count} {letters} of `{plugin}`: see `souk dead list --plugin {plugin}`");
            Warning { plugin, subject: "dead-letters".into(), count, text }
        });
        let mut failing: BTreeMap<String, (u64, u64, String)> = BTreeMap::new();
        let now_ms = self.now_ms();
        for (_, trouble) in self.troubles.failing.lock().values() {
            if trouble.since_ms.saturating_add(failing_ms) > now_ms {
                continue;
            }
            let (count, since_ms, error) = failing.entry(trouble.plugin.clone()).or_insert((0, u64::MAX, String::new()));
            *count += 1 + u64::from(trouble.behind);
            if trouble.since_ms < *since_ms {
                (*since_ms, *error) = (trouble.since_ms, trouble.error.clone());
            }
        }
        let failing = failing.into_iter().map(|(plugin, (count, since_ms, error))| {
            let minutes = now_ms.saturating_sub(since_ms) / 60_000;
            let text = format!("`{plugin}` has failed for {minutes} min, {count} wait to be tried again: {error}. See `souk dead list --plugin {plugin}`");
            Warning { plugin, subject: "failing".into(), count, text }
        });
        dead.chain(failing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_of_one_plugin_take_no_room_from_others() {
        let troubles = Troubles::default();
        let fill = |plugin: &str| while troubles.has_room_for_dead(plugin).0 { troubles.died(plugin) };
        fill("much");
        assert_eq!(troubles.has_room_for_dead("much"), (false, DEAD_OF_ONE_MAX, DEAD_OF_ONE_MAX));
        assert!(troubles.has_room_for_dead("other").0);
        (0..9).for_each(|n| fill(&format!("much-{n}")));
        assert_eq!(troubles.has_room_for_dead("other"), (true, 0, DEAD_MAX), "many together do not either");
        fill("other");
        assert_eq!(troubles.has_room_for_dead("other"), (false, DEAD_OF_ONE_ALWAYS, DEAD_MAX + DEAD_OF_ONE_ALWAYS));
        troubles.is_gone("other");
        assert!(troubles.has_room_for_dead("other").0);
    }

    #[test]
    fn a_plugin_that_fails_much_hides_no_other() {
        let troubles = Troubles::default();
        let trouble = |plugin: &str| Trouble {
            kind: Kind::Job,
            plugin: plugin.into(),
            what: String::new(),
            key: String::new(),
            other: String::new(),
            tries: 1,
            since_ms: 0,
            at_ms: 0,
            next_ms: None,
            behind: 0,
            error: String::new(),
        };
        for number in 0..=NOTED_MAX {
            troubles.set(format!("much {number}").as_bytes(), trouble("much"));
            troubles.set(b"much 0", trouble("much"));
        }
        troubles.set(b"other", trouble("other"));
        let count = |plugin: &str| troubles.failing.lock().values().filter(|(_, trouble)| trouble.plugin == plugin).count();
        assert_eq!((count("much"), count("other")), (NOTED_MAX, 1));
        troubles.clear(b"much 0");
        troubles.set(b"another", trouble("much"));
        assert_eq!(count("much"), NOTED_MAX);
        (0..=NOTED_MAX).for_each(|number| troubles.clear(format!("much {number}").as_bytes()));
        [&b"other"[..], b"another"].iter().for_each(|key| troubles.clear(key));
        assert!(troubles.noted.lock().is_empty());
    }
}
