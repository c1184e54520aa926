//! Compiled code on disk, so that a second start compiles nothing.
//!
//! `Component::deserialize_file` trusts its input, so files are named by the
//! hash of what they were made from and of the engine, carry a digest of
//! themselves, and lie in a folder that only this user may write.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use wasmtime::component::Component;

pub struct CodeCache {
    folder: Option<PathBuf>,
    engine_key: u64,
}

impl CodeCache {
    pub fn open(folder: Option<PathBuf>, engine: &wasmtime::Engine) -> Self {
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

    pub fn compile(&self, engine: &wasmtime::Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        let Some(folder) = &self.folder else { return Component::from_binary(engine, bytes) };
        let path = folder.join(format!("{}-{:016x}.cwasm", blake3::hash(bytes).to_hex(), self.engine_key));
        if let Some(component) = load(engine, &path) {
            return Ok(component);
        }
        let component = Component::from_binary(engine, bytes)?;
        if let Err(error) = keep(folder, &path, &component.serialize()?) {
            tracing::warn!(path = %path.display(), %error, "compiled code was not kept");
        }
        Ok(component)
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

fn load(engine: &wasmtime::Engine, path: &Path) -> Option<Component> {
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

fn keep(folder: &Path, path: &Path, code: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(blake3::hash(code).as_bytes())?;
    file.write_all(code)?;
    file.persist(path)?;
    Ok(())
}
