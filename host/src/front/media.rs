//! The shop's pictures: files of the store's `media/` folder under `/media/`.
//!
//! Small ones stay in memory for some seconds, bounded in bytes; many requests
//! for one file read it once.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;

use super::assets::content_type;
use super::routes::decode;

const FILE_BYTES_MAX: u64 = 64 << 20;
/// How long a changed file may be served in its old form.
const KEPT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct MediaFile {
    pub content_type: HeaderValue,
    pub etag: HeaderValue,
    pub body: Bytes,
}

pub struct Media {
    folder: Arc<Path>,
    kept: moka::future::Cache<String, Arc<MediaFile>>,
}

impl Media {
    pub fn new(folder: PathBuf, bytes_max: usize) -> Self {
        let kept = moka::future::Cache::builder()
            .max_capacity(bytes_max as u64)
            .weigher(|path: &String, file: &Arc<MediaFile>| (path.len() + file.body.len() + 256).try_into().unwrap_or(u32::MAX))
            .time_to_live(KEPT)
            .build();
        Self { folder: folder.into(), kept }
    }

    /// `rest`: what follows `/media/`, as sent.
    pub async fn file(&self, rest: &str) -> Option<Arc<MediaFile>> {
        let path = decode(rest)?;
        let safe = path.len() <= 512
            && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ':']));
        if !safe {
            return None;
        }
        if let Some(file) = self.kept.get(&path).await {
            return Some(file);
        }
        let (folder, wanted) = (self.folder.clone(), path.clone());
        let read = async move { tokio::task::spawn_blocking(move || read(&folder, &wanted)).await.map_err(std::io::Error::other)? };
        self.kept.try_get_with(path, read).await.ok()
    }
}

fn read(folder: &Path, path: &str) -> std::io::Result<Arc<MediaFile>> {
    // Links may point anywhere inside the folder, and nowhere else.
    let full = folder.join(path).canonicalize()?;
    if !full.starts_with(folder.canonicalize()?) {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    let mut file = std::fs::File::open(&full)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    let mut body = Vec::with_capacity(meta.len() as usize);
    file.by_ref().take(FILE_BYTES_MAX).read_to_end(&mut body)?;
    let modified = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let etag = HeaderValue::from_str(&format!("\"{:x}-{modified:x}\"", body.len())).map_err(std::io::Error::other)?;
    Ok(Arc::new(MediaFile { content_type: content_type(path), etag, body: body.into() }))
}
