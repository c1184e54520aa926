//! Compiles components, soon or well, and keeps the code on disk, so that a
//! second start compiles nothing.
//!
//! Cranelift makes the code that a shop runs on. It takes seconds over a whole
//! shop, so a change first runs on what Winch makes of it, wasmtime's baseline
//! compiler: that is there in a seventh of the time. `shop` decides which it
//! wants, and when the one replaces the other.
//!
//! Composing and compiling are done by `worker`, in a process of its own; what
//! is here already is loaded without one.
//!
//! What is kept has a bound, in bytes and in files: what was not used for the
//! longest goes first, and never what is loaded, or was until the last swaps:
//! the way back to it compiles nothing.
//!
//! `Component::deserialize` trusts its input, so files are named by the hash
//! of what they were made from and of the engine, carry a digest of
//! themselves, and lie in a folder that only this user may write.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::link::{LinkError, Part};
use super::worker::{self, Done, Guest, Job, Task};
use super::{compiler, wasi};

/// What code a graph is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Whatever is there first: optimised code that was kept, else baseline code.
    Soonest,
    Optimised,
}

pub(super) struct Compiled {
    pub component: Component,
    /// What is where in it, for each guest in the order given.
    pub parts: Vec<Part>,
    pub baseline: bool,
    /// To be kept as long as the component is.
    pub room: Room,
}

/// Of all code that is loaded.
const CODE_BYTES_MAX: u64 = 224 << 20;

/// Of all code that is kept on disk: a dozen versions of a shop's services.
pub const CODE_CACHE_BYTES: u64 = 128 << 20;
const CODE_CACHE_FILES: usize = 256;
/// As long as a release cycle.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// What a crash leaves of a file that was being written.
const UNFINISHED_MAX: Duration = Duration::from_secs(3600);

/// What there is of compiled code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CodeUsage {
    /// Compositions and providers whose code is loaded.
    pub modules: u64,
    pub loaded_bytes: u64,
    pub loaded_bytes_max: u64,
    /// Kept on disk.
    pub files: u64,
    pub kept_bytes: u64,
    pub kept_bytes_max: u64,
}

/// Code that is loaded, in bytes and in modules.
#[derive(Default)]
struct Loaded {
    bytes: AtomicU64,
    modules: AtomicU64,
}

/// Counts against [`CODE_BYTES_MAX`] until it is dropped.
pub(super) struct Room {
    all: Arc<Loaded>,
    bytes: u64,
    _kept: Option<InUse>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.bytes.fetch_sub(self.bytes, Relaxed);
        self.all.modules.fetch_sub(1, Relaxed);
    }
}

type Used = Arc<Mutex<UsedFiles>>;

#[derive(Default)]
struct UsedFiles {
    loaded: HashMap<PathBuf, u32>,
    /// What was replaced last: somebody may go back to it.
    released: VecDeque<PathBuf>,
}

const RELEASED_KEPT: usize = 4;

impl UsedFiles {
    fn contains(&self, path: &Path) -> bool {
        self.loaded.contains_key(path) || self.released.iter().any(|released| released == path)
    }
}

/// A file that stays as long as its code is loaded.
struct InUse {
    path: PathBuf,
    all: Used,
}

impl InUse {
    fn new(path: &Path, all: &Used) -> Self {
        *all.lock().loaded.entry(path.to_owned()).or_default() += 1;
        Self { path: path.to_owned(), all: all.clone() }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        let Some(count) = all.loaded.get_mut(&self.path) else { return };
        *count -= 1;
        if *count == 0 {
            all.loaded.remove(&self.path);
            all.released.retain(|released| *released != self.path);
            all.released.push_back(self.path.clone());
            if all.released.len() > RELEASED_KEPT {
                all.released.pop_front();
            }
            touch(&self.path);
        }
    }
}

/// Used just now.
fn touch(path: &Path) {
    if let Ok(file) = fs::File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

pub(super) struct Compilers {
    optimising: Engine,
    /// Counts what guests execute; only optimised code does.
    metered: bool,
    cache: CodeCache,
    baseline_allowed: bool,
    /// Made when it is first needed; none where Winch does not know the machine.
    baseline: OnceLock<Option<Engine>>,
    /// Threads that optimise where no worker does. They stand back for shoppers.
    background: OnceLock<Option<rayon::ThreadPool>>,
    /// What took more than it may, by what it was built from: each try would take as much again.
    refused: Mutex<HashMap<(blake3::Hash, Code), LinkError>>,
    loaded: Arc<Loaded>,
}

const REFUSED_MAX: usize = 256;

impl Compilers {
    pub fn new(optimising: Engine, metered: bool, folder: Option<PathBuf>, cache_bytes_max: u64, baseline_allowed: bool) -> Self {
        let cache = CodeCache::open(folder, cache_bytes_max, &optimising);
        Self {
            optimising,
            metered,
            cache,
            baseline_allowed: baseline_allowed && !metered,
            baseline: OnceLock::new(),
            background: OnceLock::new(),
            refused: Mutex::default(),
            loaded: Arc::default(),
        }
    }

    /// Composes and compiles them, or takes what was kept of the last time. That
    /// takes its time: not for the threads of the runtime.
    pub fn build(&self, guests: Vec<Guest>, services_too: bool, code: Code) -> Result<Compiled, LinkError> {
        let key = key(&guests, services_too);
        if let Some(refused) = self.refused.lock().get(&(key, code)) {
            return Err(refused.clone());
        }
        let built = self.build_anew(self.cache.path(key), guests, services_too, code);
        if let Err(refusal @ LinkError::TooCostly { .. }) = &built {
            let mut refused = self.refused.lock();
            if refused.len() >= REFUSED_MAX {
                refused.clear();
            }
            refused.insert((key, code), refusal.clone());
        }
        built
    }

    fn build_anew(&self, kept: Option<PathBuf>, guests: Vec<Guest>, services_too: bool, code: Code) -> Result<Compiled, LinkError> {
        // Most of the code comes of the largest.
        let largest = guests.iter().max_by_key(|guest| guest.component.len()).map(|guest| guest.name.clone()).unwrap_or_default();
        if let Some((parts, code)) = kept.as_deref().and_then(read)
            && let Ok(component) = trusted(&self.optimising, &code)
        {
            let room = self.room(&largest, code.len(), kept.as_deref())?;
            return Ok(Compiled { component, parts, baseline: false, room });
        }
        let task = |baseline| Task::Build { services_too, metered: self.metered, baseline };
        let mut job = Job { task: task(true), guests };
        if code == Code::Soonest
            && let Some(engine) = self.baseline()
        {
            match job.perform()? {
                (Done::Built(parts), code) => {
                    let room = self.room(&largest, code.len(), None)?;
                    return Ok(Compiled { component: trusted(engine, &code)?, parts, baseline: true, room });
                }
                (Done::NoBaseline(reason), _) => tracing::debug!("no baseline code: {reason}"),
                (Done::Described(_) | Done::Tried(_), _) => return Err(out_of_place()),
            }
        }
        job.task = task(false);
        let done = match self.background() {
            Some(threads) if !worker::is_apart() => threads.install(|| job.perform())?,
            _ => job.perform()?,
        };
        let (Done::Built(parts), code) = done else { return Err(out_of_place()) };
        let room = self.room(&largest, code.len(), kept.as_deref())?;
        let component = trusted(&self.optimising, &code)?;
        if let Some(path) = &kept {
            match keep(path, &parts, &code) {
                Ok(()) => self.cache.prune(),
                Err(error) => tracing::warn!(path = %path.display(), %error, "compiled code was not kept"),
            }
        }
        Ok(Compiled { component, parts, baseline: false, room })
    }

    pub fn usage(&self) -> CodeUsage {
        CodeUsage {
            modules: self.loaded.modules.load(Relaxed),
            loaded_bytes: self.loaded.bytes.load(Relaxed),
            loaded_bytes_max: CODE_BYTES_MAX,
            files: self.cache.files.load(Relaxed),
            kept_bytes: self.cache.bytes.load(Relaxed),
            kept_bytes_max: self.cache.bytes_max,
        }
    }

    fn room(&self, plugin: &str, bytes: usize, kept: Option<&Path>) -> Result<Room, LinkError> {
        let bytes = bytes as u64;
        let kept = kept.map(|path| InUse::new(path, &self.cache.used));
        let room = Room { all: self.loaded.clone(), bytes, _kept: kept };
        self.loaded.modules.fetch_add(1, Relaxed);
        let needed = self.loaded.bytes.fetch_add(bytes, Relaxed) + bytes;
        if needed > CODE_BYTES_MAX {
            return Err(LinkError::NoRoom { plugin: plugin.to_owned(), needed_mib: needed >> 20, max_mib: CODE_BYTES_MAX >> 20 });
        }
        Ok(room)
    }

    fn baseline(&self) -> Option<&Engine> {
        let make = || {
            // Its instances are few and gone soon: no pool is kept for them.
            let made = compiler(false, true).and_then(|engine| super::tick(&engine, |_| ()).map(|()| engine));
            made.inspect_err(|error| tracing::info!("changed plugins wait for optimised code: {error:#}")).ok()
        };
        self.baseline_allowed.then(|| self.baseline.get_or_init(make).as_ref()).flatten()
    }

    fn background(&self) -> Option<&rayon::ThreadPool> {
        let make = || {
            let threads = rayon::ThreadPoolBuilder::new().thread_name(|_| "optimise".into()).start_handler(|_| lower_priority());
            threads.build().inspect_err(|error| tracing::warn!("no threads to optimise in: {error}")).ok()
        };
        self.background.get_or_init(make).as_ref()
    }
}

fn lower_priority() {
    // SAFETY: takes and gives plain numbers. On Linux 0 is this thread alone.
    // What it answers does not matter: without it, optimising is only ruder.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

struct CodeCache {
    folder: Option<PathBuf>,
    engine_key: u64,
    bytes_max: u64,
    /// Files whose code is loaded.
    used: Used,
    /// As last counted.
    bytes: AtomicU64,
    files: AtomicU64,
}

impl CodeCache {
    fn open(folder: Option<PathBuf>, bytes_max: u64, engine: &Engine) -> Self {
        let folder = folder.filter(|folder| {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            if let Err(error) = &made {
                tracing::warn!(folder = %folder.display(), %error, "compiled code is not kept");
            }
            made.is_ok()
        });
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Self { folder, engine_key: hasher.finish(), bytes_max, used: Used::default(), bytes: AtomicU64::new(0), files: AtomicU64::new(0) };
        cache.prune();
        cache
    }

    fn path(&self, key: blake3::Hash) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{}-{:016x}.cwasm", key.to_hex(), self.engine_key)))
    }

    /// Drops what is beyond the bounds, or has not been used for very long.
    fn prune(&self) {
        let Some(entries) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else { return };
        let files = entries.flatten().filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(File { path: entry.path(), used_at: metadata.modified().ok()?, bytes: metadata.len() })
        });
        let files: Vec<File> = files.collect();
        let used = self.used.lock();
        let (kept, dropped) = sorted_out(files, |path| used.contains(path), self.bytes_max, SystemTime::now());
        dropped.iter().for_each(|file| _ = fs::remove_file(&file.path));
        self.bytes.store(kept.iter().map(|file| file.bytes).sum(), Relaxed);
        self.files.store(kept.len() as u64, Relaxed);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    path: PathBuf,
    used_at: SystemTime,
    bytes: u64,
}

/// What is kept, what was used last first, and what is not.
fn sorted_out(mut files: Vec<File>, is_used: impl Fn(&Path) -> bool, bytes_max: u64, now: SystemTime) -> (Vec<File>, Vec<File>) {
    files.sort_by(|a, b| (is_used(&b.path), b.used_at, &b.path).cmp(&(is_used(&a.path), a.used_at, &a.path)));
    let (mut bytes, mut count) = (0, 0);
    files.into_iter().partition(|file| {
        let age = now.duration_since(file.used_at).unwrap_or_default();
        let is_code = file.path.extension().is_some_and(|extension| extension == "cwasm");
        if !is_code {
            return age <= UNFINISHED_MAX;
        }
        let fits = bytes + file.bytes <= bytes_max && count < CODE_CACHE_FILES && age <= UNUSED_MAX;
        let keep = is_used(&file.path) || fits;
        if keep {
            (bytes, count) = (bytes + file.bytes, count + 1);
        }
        keep
    })
}

/// Of all that goes into a composition.
fn key(guests: &[Guest], services_too: bool) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[FORMAT, u8::from(services_too)]).update(wasi::adapters_digest());
    for guest in guests {
        for text in std::iter::once(&guest.name).chain(&guest.points) {
            hasher.update(text.as_bytes()).update(b"\0");
        }
        hasher.update(blake3::hash(&guest.component).as_bytes());
    }
    hasher.finalize()
}

const DIGEST_BYTES: usize = 32;
/// Of what is written before the code, and of how plugins are composed.
const FORMAT: u8 = 3;

fn read(path: &Path) -> Option<(Vec<Part>, Vec<u8>)> {
    let mut file = fs::read(path).ok()?;
    let (digest, content) = file.split_at_checked(DIGEST_BYTES)?;
    if blake3::hash(content).as_bytes() != digest {
        tracing::warn!(path = %path.display(), "compiled code on disk is damaged: compiling again");
        return None;
    }
    touch(path);
    let (parts, code) = postcard::take_from_bytes(content).ok()?;
    let code_at = file.len() - code.len();
    file.drain(..code_at);
    Some((parts, file))
}

fn trusted(engine: &Engine, code: &[u8]) -> Result<Component, LinkError> {
    // SAFETY: the bytes are those that `Engine::precompile_component` gave to a
    // worker of this program, or to `keep` before: the digest matches, and the
    // folder belongs to this user alone. An engine of another kind refuses them.
    unsafe { Component::deserialize(engine, code) }.map_err(|error| LinkError::Unusable(format!("{error:#}")))
}

fn keep(path: &Path, parts: &Vec<Part>, code: &[u8]) -> std::io::Result<()> {
    let parts = postcard::to_stdvec(parts).map_err(std::io::Error::other)?;
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(blake3::Hasher::new().update(&parts).update(code).finalize().as_bytes())?;
    file.write_all(&parts)?;
    file.write_all(code)?;
    file.persist(path)?;
    Ok(())
}

fn out_of_place() -> LinkError {
    LinkError::Unusable("the compile worker gave another kind of answer".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, used_s: u64, bytes: u64) -> File {
        File { path: name.into(), used_at: SystemTime::UNIX_EPOCH + Duration::from_secs(used_s), bytes }
    }

    fn kept(files: Vec<File>, used: &[&str], bytes_max: u64, now_s: u64) -> Vec<String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now_s);
        let (kept, _) = sorted_out(files, |path| used.iter().any(|name| Path::new(name) == path), bytes_max, now);
        kept.iter().map(|file| file.path.display().to_string()).collect()
    }

    #[test]
    fn what_was_not_used_for_the_longest_goes_first_and_nothing_that_is_loaded() {
        let files = || vec![file("a.cwasm", 1, 40), file("b.cwasm", 2, 40), file("c.cwasm", 3, 40), file("d.cwasm", 4, 40)];
        assert_eq!(kept(files(), &[], 100, 10), ["d.cwasm", "c.cwasm"]);
        assert_eq!(kept(files(), &["a.cwasm"], 100, 10), ["a.cwasm", "d.cwasm"], "what is loaded counts, and stays");
        assert_eq!(kept(files(), &["a.cwasm", "b.cwasm"], 10, 10), ["b.cwasm", "a.cwasm"], "also where it alone is too much");
        assert_eq!(kept(files(), &[], 1_000, UNUSED_MAX.as_secs() + 3), ["d.cwasm", "c.cwasm"]);
    }

    #[test]
    fn a_shop_of_small_plugins_has_no_end_of_files_either() {
        let files = (0..500).map(|n| file(&format!("{n:03}.cwasm"), n, 1)).collect();
        let kept = kept(files, &[], 1 << 20, 1_000);
        assert_eq!((kept.len(), kept[0].as_str()), (CODE_CACHE_FILES, "499.cwasm"));
    }

    #[test]
    fn what_a_crash_left_goes_after_an_hour() {
        assert_eq!(kept(vec![file(".tmpX", 0, 9), file(".tmpY", 4_000, 9)], &[], 100, 4_001), [".tmpY"]);
    }
}
