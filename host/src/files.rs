//! Files that are there whole or not at all, copies of folders, and who may read them.

use std::fs;
use std::io::Write;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
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

/// What a group and others may do.
const OTHERS: u32 = 0o077;

/// Whatever this process makes from now on is for its own user, unless it says otherwise: people's
/// orders lie in a shop's folder. The second line; the first are modes given where files are made.
pub fn make_for_own_user() {
    // SAFETY: takes and gives a plain number.
    unsafe { libc::umask(OTHERS as libc::mode_t) };
}

/// A folder, and those above it that are missing, for this user alone.
pub fn create_private_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| path.display().to_string())
}

/// A file that is not there yet, for this user alone.
pub fn create_private_file(path: &Path) -> Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(|| path.display().to_string())
}

/// Takes from other users what they may do with `path` and all below it: how many files and folders
/// that concerned. What is not there concerns none; links are left alone.
pub fn close_to_others(path: &Path) -> Result<usize> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(0) };
    if metadata.is_symlink() {
        return Ok(0);
    }
    let mode = metadata.permissions().mode();
    let mut closed = usize::from(mode & OTHERS != 0);
    if closed > 0 {
        let refused = || format!("{}: other users may read it, and its mode cannot be changed. Give it to the user that runs the shop (chown), or run: chmod go= {0}", path.display());
        fs::set_permissions(path, fs::Permissions::from_mode(mode & !OTHERS & 0o7777)).with_context(refused)?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
            closed += close_to_others(&entry?.path())?;
        }
    }
    Ok(closed)
}

/// Whose modes a copy has.
#[derive(Clone, Copy, PartialEq)]
enum Modes {
    Same,
    /// Without what others may do.
    Private,
}

/// Folders and plain files, with their modes; on disk when this returns, so that
/// the copy can be renamed to what it replaces.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    copy(from, to, Modes::Same, &|file| file.sync_all())
}

/// The same of many files, for this user alone: one wait for the whole file system, which is too
/// much for a swap, and not one for each of them.
pub fn copy_large_folder(from: &Path, to: &Path) -> Result<()> {
    #[cfg(not(target_os = "linux"))]
    return copy(from, to, Modes::Private, &|file| file.sync_all());
    #[cfg(target_os = "linux")]
    {
        copy(from, to, Modes::Private, &|_| Ok(()))?;
        let copied = fs::File::open(to)?;
        // SAFETY: takes and gives plain numbers.
        let synced = unsafe { libc::syncfs(copied.as_raw_fd()) };
        ensure!(synced == 0, "{}: {}", to.display(), std::io::Error::last_os_error());
        Ok(())
    }
}

fn copy(from: &Path, to: &Path, modes: Modes, sync: &dyn Fn(&fs::File) -> std::io::Result<()>) -> Result<()> {
    create_private_folder(to)?;
    if modes == Modes::Same {
        fs::set_permissions(to, fs::Permissions::from_mode(fs::metadata(from)?.permissions().mode()))?;
    }
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&source, &target, modes, sync)?;
        } else if kind.is_file() {
            match modes {
                Modes::Same => _ = fs::copy(&source, &target).with_context(|| source.display().to_string())?,
                Modes::Private => copy_private(&source, &target)?,
            }
            sync(&fs::File::open(&target)?)?;
        }
    }
    sync(&fs::File::open(to)?).with_context(|| to.display().to_string())
}

/// One file, which others may not read at any moment.
pub fn copy_private(from: &Path, to: &Path) -> Result<()> {
    let mut source = fs::File::open(from).with_context(|| from.display().to_string())?;
    let mut target = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to).with_context(|| to.display().to_string())?;
    // One that was there keeps its mode when it is opened.
    target.set_permissions(fs::Permissions::from_mode(0o600))?;
    std::io::copy(&mut source, &mut target).map(drop).with_context(|| to.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_lies_open_is_closed_and_copies_are() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copied) = (folder.path().join("data"), folder.path().join("copy"));
        fs::create_dir_all(data.join("deeper")).unwrap();
        fs::write(data.join("deeper/journal"), "an address").unwrap();
        for (path, mode) in [(data.join("deeper/journal"), 0o644), (data.join("deeper"), 0o755), (data.clone(), 0o711)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        copy_large_folder(&data, &copied).unwrap();
        assert_eq!((mode(&copied), mode(&copied.join("deeper/journal"))), (0o700, 0o600));
        assert_eq!(close_to_others(&data).unwrap(), 3);
        assert_eq!((mode(&data), mode(&data.join("deeper")), mode(&data.join("deeper/journal"))), (0o700, 0o700, 0o600));
        assert_eq!(close_to_others(&data).unwrap(), 0);
        assert_eq!(close_to_others(&folder.path().join("nothing")).unwrap(), 0);
    }

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
