//! Files of plugins, in memory, under names that change with their content.
//!
//! The shop loads them with a plugin and puts their URLs into `asset_urls`;
//! the front serves them for ever-cacheable. Compressed once, at load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use super::compress::{self, Encoding};

const FILES_MAX: usize = 1_000;
const FILE_BYTES_MAX: u64 = 4 << 20;
const PLUGIN_BYTES_MAX: u64 = 32 << 20;
const DEPTH_MAX: usize = 8;

#[derive(Debug)]
pub struct Asset {
    /// Below `assets/`, with `/` between folders.
    pub path: String,
    /// `/assets/<plugin>/<hash>/<path>`
    pub url: String,
    pub content_type: HeaderValue,
    pub etag: HeaderValue,
    pub body: Bytes,
    pub gzip: Option<Bytes>,
    pub brotli: Option<Bytes>,
}

#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{}: {problem}", path.display())]
    Refused { path: PathBuf, problem: String },
}

impl Asset {
    /// What it keeps in memory.
    pub fn bytes(&self) -> usize {
        [Some(&self.body), self.gzip.as_ref(), self.brotli.as_ref()].into_iter().flatten().map(Bytes::len).sum()
    }

    pub fn new(plugin: &str, path: &str, body: Bytes) -> Asset {
        let hash = &blake3::hash(&body).to_hex()[..16];
        let content_type = content_type(path);
        let compress = compress::is_compressible(&content_type);
        let smaller = |e| if compress { compress::once(e, &body) } else { None };
        Asset {
            path: path.to_owned(),
            url: format!("/assets/{plugin}/{hash}/{path}"),
            etag: HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\"")),
            gzip: smaller(Encoding::Gzip),
            brotli: smaller(Encoding::Brotli),
            content_type,
            body,
        }
    }
}

pub fn load(plugin: &str, folder: &Path) -> Result<Vec<Arc<Asset>>, AssetError> {
    Ok(read(folder)?.into_iter().map(|(path, body)| Arc::new(Asset::new(plugin, &path, body))).collect())
}

/// All files below a plugin's `assets/` folder, by their paths; none if there is no folder.
/// Names are limited to `[A-Za-z0-9._-]` so that a URL never needs encoding.
pub fn read(folder: &Path) -> Result<BTreeMap<String, Bytes>, AssetError> {
    let mut assets = BTreeMap::new();
    let mut bytes_left = PLUGIN_BYTES_MAX;
    let mut folders = vec![(folder.to_owned(), String::new(), 0)];
    if !folder.is_dir() {
        return Ok(assets);
    }
    while let Some((folder, prefix, depth)) = folders.pop() {
        let read_failed = |error| AssetError::Read { path: folder.clone(), error };
        for entry in std::fs::read_dir(&folder).map_err(read_failed)? {
            let entry = entry.map_err(read_failed)?;
            let path = entry.path();
            let refused = |problem: String| AssetError::Refused { path: path.clone(), problem };
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
                return Err(refused("name an asset with letters, digits, `.`, `_` and `-`".into()));
            }
            // Links are not followed: they could lead out of the plugin.
            let meta = entry.metadata().map_err(|error| AssetError::Read { path: path.clone(), error })?;
            if meta.is_dir() {
                if depth == DEPTH_MAX {
                    return Err(refused(format!("folders are nested deeper than {DEPTH_MAX}")));
                }
                folders.push((path.clone(), format!("{prefix}{name}/"), depth + 1));
                continue;
            }
            if !meta.is_file() {
                return Err(refused("an asset must be a plain file".into()));
            }
            if meta.len() > FILE_BYTES_MAX || meta.len() > bytes_left || assets.len() == FILES_MAX {
                return Err(refused(format!(
                    "a plugin may have {FILES_MAX} assets, {} MiB each, {} MiB together",
                    FILE_BYTES_MAX >> 20,
                    PLUGIN_BYTES_MAX >> 20
                )));
            }
            bytes_left -= meta.len();
            let body = std::fs::read(&path).map_err(|error| AssetError::Read { path: path.clone(), error })?;
            assets.insert(format!("{prefix}{name}"), body.into());
        }
    }
    Ok(assets)
}

/// Whether a browser may run something of it.
pub fn may_run(path: &str) -> bool {
    let content_type = content_type(path);
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    match essence.split_once('/') {
        Some(("image", kind)) => kind == "svg+xml",
        Some(("font" | "audio" | "video", _)) => false,
        _ => !matches!(essence, "text/css" | "text/plain"),
    }
}

pub fn content_type(path: &str) -> HeaderValue {
    let guess = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    match guess {
        // Without it browsers guess the encoding.
        "text/html" => HeaderValue::from_static("text/html; charset=utf-8"),
        "text/css" => HeaderValue::from_static("text/css; charset=utf-8"),
        "text/plain" => HeaderValue::from_static("text/plain; charset=utf-8"),
        "text/javascript" | "application/javascript" => HeaderValue::from_static("text/javascript; charset=utf-8"),
        other => HeaderValue::from_static(other),
    }
}
