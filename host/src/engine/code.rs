//! Compiles components, soon or well, and keeps the code on disk, so that a
//! second start compiles nothing.
//!
//! Cranelift makes the code that a shop runs on. It takes seconds over a whole
//! shop, so a change first runs on what Winch makes of it, wasmtime's baseline
//! compiler: that is there in a seventh of the time. `shop` decides which it
//! wants, and when the one replaces the other.
//!
//! `Component::deserialize` trusts its input, so files are named by the hash
//! of what they were made from and of the engine, carry a digest of
//! themselves, and lie in a folder that only this user may write.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wasmtime::component::Component;
use wasmtime::{Engine, Strategy};

/// What code a graph is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Whatever is there first: optimised code that was kept, else baseline code.
    Soonest,
    Optimised,
}

pub(super) struct Compiled {
    pub component: Component,
    pub baseline: bool,
}

pub(super) struct Compilers {
    optimising: Engine,
    cache: CodeCache,
    baseline_allowed: bool,
    /// Made when it is first needed; none where Winch does not know the machine.
    baseline: OnceLock<Option<Engine>>,
    /// Threads that optimise. They stand back for shoppers.
    background: OnceLock<Option<rayon::ThreadPool>>,
}

impl Compilers {
    pub fn new(optimising: Engine, folder: Option<PathBuf>, baseline_allowed: bool) -> Self {
        let cache = CodeCache::open(folder, &optimising);
        Self { optimising, cache, baseline_allowed, baseline: OnceLock::new(), background: OnceLock::new() }
    }

    /// Takes as long as compiling does: not for the threads of the runtime.
    pub fn compile(&self, bytes: &[u8], code: Code) -> wasmtime::Result<Compiled> {
        let kept = self.cache.path(bytes);
        if let Some(component) = kept.as_deref().and_then(|path| load(&self.optimising, path)) {
            return Ok(Compiled { component, baseline: false });
        }
        if code == Code::Soonest
            && let Some(engine) = self.baseline()
        {
            match Component::from_binary(engine, bytes) {
                Ok(component) => return Ok(Compiled { component, baseline: true }),
                // It does not know every instruction that Cranelift does.
                Err(error) => tracing::debug!("no baseline code: {error:#}"),
            }
        }
        let component = match self.background() {
            Some(threads) => threads.install(|| Component::from_binary(&self.optimising, bytes))?,
            None => Component::from_binary(&self.optimising, bytes)?,
        };
        if let Some(path) = &kept
            && let Err(error) = keep(path, &component.serialize()?)
        {
            tracing::warn!(path = %path.display(), %error, "compiled code was not kept");
        }
        Ok(Compiled { component, baseline: false })
    }

    fn baseline(&self) -> Option<&Engine> {
        let make = || {
            // Its instances are few and gone soon: no pool is kept for them.
            let mut config = super::config();
            config.strategy(Strategy::Winch);
            let made = Engine::new(&config).and_then(|engine| super::tick(&engine).map(|()| engine));
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

    fn path(&self, bytes: &[u8]) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(folder.join(format!("{}-{:016x}.cwasm", blake3::hash(bytes).to_hex(), self.engine_key)))
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

const DIGEST_BYTES: usize = 32;

fn load(engine: &Engine, path: &Path) -> Option<Component> {
    let file = fs::read(path).ok()?;
    let (digest, code) = file.split_at_checked(DIGEST_BYTES)?;
    if blake3::hash(code).as_bytes() != digest {
        tracing::warn!(path = %path.display(), "compiled code on disk is damaged: compiling again");
        return None;
    }
    if let Ok(file) = fs::File::open(path) {
        let _ = file.set_modified(std::time::SystemTime::now());
    }
    // SAFETY: the bytes are those that `Component::serialize` gave to `keep` on
    // an engine with the same compatibility hash: the digest matches, and the
    // folder belongs to this user alone.
    unsafe { Component::deserialize(engine, code) }.ok()
}

fn keep(path: &Path, code: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(blake3::hash(code).as_bytes())?;
    file.write_all(code)?;
    file.persist(path)?;
    Ok(())
}
