//! One change to the recorded folder, and how it is written down. Belongs to
//! the recorder, which writes it, and to `souk_tests::powercut`, which reads
//! it: that one includes this file, since who links the recorder is recorded.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Paths are relative to the recorded folder, as they were at that time.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    Create {
        path: &'a Path,
        mode: u32,
    },
    MakeFolder {
        path: &'a Path,
        mode: u32,
    },
    Symlink {
        path: &'a Path,
        target: &'a Path,
    },
    Link {
        from: &'a Path,
        to: &'a Path,
    },
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    Exchange {
        one: &'a Path,
        other: &'a Path,
    },
    Remove {
        path: &'a Path,
    },
    Write {
        path: &'a Path,
        at: u64,
        data: &'a [u8],
    },
    Resize {
        path: &'a Path,
        size: u64,
    },
    /// fsync, of a file or a folder.
    Sync {
        path: &'a Path,
    },
    /// fdatasync.
    SyncData {
        path: &'a Path,
    },
    /// syncfs, of all there is.
    SyncAll,
    /// A change that cannot be written down: the recording is worthless.
    Unrecorded {
        path: &'a Path,
        what: &'a Path,
    },
}

const HEAD_BYTES: usize = 4 + 1 + 8 + 4;

impl<'a> Operation<'a> {
    /// Length of the rest, kind, a number, a path with its length, and more bytes.
    pub fn encode(&self) -> Vec<u8> {
        use Operation::*;
        let (kind, number, path, more): (u8, u64, &Path, &[u8]) = match *self {
            Create { path, mode } => (0, mode.into(), path, &[]),
            MakeFolder { path, mode } => (1, mode.into(), path, &[]),
            Symlink { path, target } => (2, 0, path, bytes(target)),
            Link { from, to } => (3, 0, from, bytes(to)),
            Rename { from, to } => (4, 0, from, bytes(to)),
            Exchange { one, other } => (5, 0, one, bytes(other)),
            Remove { path } => (6, 0, path, &[]),
            Write { path, at, data } => (7, at, path, data),
            Resize { path, size } => (8, size, path, &[]),
            Sync { path } => (9, 0, path, &[]),
            SyncData { path } => (10, 0, path, &[]),
            SyncAll => (12, 0, Path::new(""), &[]),
            Unrecorded { path, what } => (11, 0, path, bytes(what)),
        };
        let path = bytes(path);
        let length = (HEAD_BYTES - 4 + path.len() + more.len()) as u32;
        [&length.to_le_bytes(), &[kind][..], &number.to_le_bytes(), &(path.len() as u32).to_le_bytes(), path, more].concat()
    }

    /// The first operation of a log, and the rest of it; nothing where it ends.
    pub fn decode(log: &'a [u8]) -> Option<(Operation<'a>, &'a [u8])> {
        use Operation::*;
        let (head, rest) = log.split_first_chunk::<HEAD_BYTES>()?;
        let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
        let number = u64::from_le_bytes(head[5..13].try_into().ok()?);
        let (body, rest) = rest.split_at_checked(length - (HEAD_BYTES - 4))?;
        let (path, more) = body.split_at_checked(u32::from_le_bytes(head[13..].try_into().ok()?) as usize)?;
        let (path, second) = (Path::new(OsStr::from_bytes(path)), Path::new(OsStr::from_bytes(more)));
        let operation = match head[4] {
            0 => Create { path, mode: number as u32 },
            1 => MakeFolder { path, mode: number as u32 },
            2 => Symlink { path, target: second },
            3 => Link { from: path, to: second },
            4 => Rename { from: path, to: second },
            5 => Exchange { one: path, other: second },
            6 => Remove { path },
            7 => Write { path, at: number, data: more },
            8 => Resize { path, size: number },
            9 => Sync { path },
            10 => SyncData { path },
            11 => Unrecorded { path, what: second },
            12 => SyncAll,
            _ => return None,
        };
        Some((operation, rest))
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
