//! Files that are there whole or not at all, and copies of folders.

use std::fs;
use std::io::Write;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// Begins the first line of a table; its digest follows.
const DIGEST: &str = "# sha256 ";

/// Whole or not at all under its name, and on disk when this returns.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).with_context(|| path.display().to_string())?;
    fs::File::open(folder)?.sync_all().with_context(|| folder.display().to_string())
}

/// What [`write_whole`] wrote, which was never blank; none where there is no such file.
pub fn read_whole<T, E: Into<anyhow::Error>>(path: &Path, decode: impl FnOnce(&[u8]) -> Result<T, E>) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => bail!("{} is empty, and never was: put it back from a backup", path.display()),
        Ok(bytes) => decode(&bytes).map(Some).map_err(Into::into),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error.into()),
    }
    .with_context(|| path.display().to_string())
}

/// TOML that only commands write, whole, with a digest of it: a flipped bit is not taken for the operator's word.
pub fn write_table(path: &Path, heading: &str, table: &impl Serialize) -> Result<()> {
    let text = format!("# {heading}\n\n{}", toml::to_string_pretty(table)?);
    write_whole(path, format!("{DIGEST}{}\n{text}", sha256_hex(&text)).as_bytes())
}

/// What [`write_table`] wrote, or an earlier version of it without a digest; none where there is no such file.
pub fn read_table<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    read_whole(path, |bytes| {
        let text = std::str::from_utf8(bytes)?;
        if let Some((written, text)) = text.strip_prefix(DIGEST).map(|rest| rest.split_once('\n').unwrap_or((rest, ""))) {
            ensure!(written == sha256_hex(text), "it is not what was written there: put it back from a backup, or remove it and say all of it anew, with the command that its text names");
        }
        Ok::<_, anyhow::Error>(toml::from_str(text)?)
    })
}

/// In lower case, as manifests, bundles and tables have it.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Folders and plain files, with their modes; on disk when this returns, so that
/// the copy can be renamed to what it replaces.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    copy(from, to, &|file| file.sync_all())
}

/// The same of many files: one wait for the whole file system, which is too much
/// for a swap, and not one for each of them.
pub fn copy_large_folder(from: &Path, to: &Path) -> Result<()> {
    #[cfg(not(target_os = "linux"))]
    return copy_folder(from, to);
    #[cfg(target_os = "linux")]
    {
        copy(from, to, &|_| Ok(()))?;
        let copied = fs::File::open(to)?;
        // SAFETY: takes and gives plain numbers.
        let synced = unsafe { libc::syncfs(copied.as_raw_fd()) };
        ensure!(synced == 0, "{}: {}", to.display(), std::io::Error::last_os_error());
        Ok(())
    }
}

fn copy(from: &Path, to: &Path, sync: &dyn Fn(&fs::File) -> std::io::Result<()>) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    fs::set_permissions(to, fs::Permissions::from_mode(fs::metadata(from)?.permissions().mode()))?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&source, &target, sync)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).with_context(|| source.display().to_string())?;
            sync(&fs::File::open(&target)?)?;
        }
    }
    sync(&fs::File::open(to)?).with_context(|| to.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_flipped_bit_of_a_table_is_told_or_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policies.toml");
        let table = BTreeMap::from([("deadline-ms".to_owned(), 950)]);
        write_table(&path, "Of the operator's.", &table).unwrap();
        let written = fs::read(&path).unwrap();
        for bit in 0..written.len() * 8 {
            let mut damaged = written.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, damaged).unwrap();
            if let Ok(read) = read_table::<BTreeMap<String, u32>>(&path) {
                assert_eq!(read.as_ref(), Some(&table), "bit {bit}");
            }
        }
        // As they were written before they had a digest.
        fs::write(&path, "deadline-ms = 950").unwrap();
        assert_eq!(read_table(&path).unwrap(), Some(table));
    }
}
