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
//! `Component::deserialize` trusts its input, so files are named by the hash
//! of what they were made from and of the engine, carry a digest of
//! themselves, and lie in a folder that only this user may write.

use std::collections::HashMap;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
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

/// Counts against [`CODE_BYTES_MAX`] until it is dropped.
pub(super) struct Room {
    all: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
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
    /// Bytes of code that is loaded.
    loaded: Arc<AtomicU64>,
}

const REFUSED_MAX: usize = 256;

impl Compilers {
    pub fn new(optimising: Engine, metered: bool, folder: Option<PathBuf>, baseline_allowed: bool) -> Self {
        let cache = CodeCache::open(folder, &optimising);
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
            return Ok(Compiled { component, parts, baseline: false, room: self.room(&largest, code.len())? });
        }
        let task = |baseline| Task::Build { services_too, metered: self.metered, baseline };
        let mut job = Job { task: task(true), guests };
        if code == Code::Soonest
            && let Some(engine) = self.baseline()
        {
            match job.perform()? {
                (Done::Built(parts), code) => {
                    let room = self.room(&largest, code.len())?;
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
        let room = self.room(&largest, code.len())?;
        let component = trusted(&self.optimising, &code)?;
        if let Some(path) = &kept
            && let Err(error) = keep(path, &parts, &code)
        {
            tracing::warn!(path = %path.display(), %error, "compiled code was not kept");
        }
        Ok(Compiled { component, parts, baseline: false, room })
    }

    fn room(&self, plugin: &str, bytes: usize) -> Result<Room, LinkError> {
        let bytes = bytes as u64;
        let room = Room { all: self.loaded.clone(), bytes };
        let needed = self.loaded.fetch_add(bytes, Relaxed) + bytes;
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
}

impl CodeCache {
    fn open(folder: Option<PathBuf>, engine: &Engine) -> Self {
        let folder = folder.filter(|folder| {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            if let Err(error) = &made {
                tracing::warn!(folder = %folder.display(), %error, "compiled code is not kept");
            }
            made.is_ok()
        });
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Self { folder, engine_key: hasher.finish() };
        cache.prune();
        cache
    }

    fn path(&self, key: blake3::Hash) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{}-{:016x}.cwasm", key.to_hex(), self.engine_key)))
    }

    /// Drops what has not been used for as long as a release cycle.
    fn prune(&self) {
        let Some(entries) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else { return };
        for entry in entries.flatten() {
            let unused = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            if unused.is_some_and(|age| age.as_secs() > 30 * 24 * 3600) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
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
    if let Ok(file) = fs::File::open(path) {
        let _ = file.set_modified(std::time::SystemTime::now());
    }
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
