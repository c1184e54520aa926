//! Power cuts, played from a recording of all changes to a folder
//! (`tests/recorder`): builds the folder as a disk may hold it when the power
//! fails after any one of them. For tests of what has to outlive that.
//!
//! The disk is one that keeps its word, below a file system with an ordered
//! journal, as ext4 (`data=ordered`) and XFS are:
//!
//! - Names, truncations and allocations reach the disk in the order in which
//!   they were made, so that any prefix of them may be found. A sync of a file
//!   or folder brings the last that touched it, and with it all before; a
//!   datasync only where the file was made or its size was set. (The file
//!   systems promise a little more: what else is in the journal goes along.)
//! - The data of a file is there when a sync or datasync of it has returned.
//!   Until then each write is there, or not, or torn at a sector, in any order,
//!   but for writes to one sector. A write beyond the end that is there after
//!   one that is not leaves zeros between them.
//! - Nothing else promises anything: neither `sync_file_range`, nor closing, nor
//!   renaming a file over another.
//!
//! btrfs and the like promise less of names: there only what was synced itself.

#[path = "../recorder/src/operation.rs"]
pub mod operation;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use fastrand::Rng;

use crate::built;
use operation::Operation;

const SECTOR_BYTES: u64 = 512;

/// The recorder, to be preloaded.
pub fn library() -> PathBuf {
    let library = built().join("deps/libsouk_recorder.so");
    assert!(library.exists(), "{} is not built: run the tests with `cargo xtask test`", library.display());
    library
}

/// What a process needs in its environment to be recorded.
pub fn recorded(folder: &Path, log: &Path) -> [(&'static str, OsString); 3] {
    [("LD_PRELOAD", library().into()), ("SOUK_RECORD_ROOT", folder.into()), ("SOUK_RECORD_LOG", log.into())]
}

pub struct Recording {
    /// The folder before the first change, on disk in full.
    before: PathBuf,
    log: Vec<u8>,
    /// Where each operation ends in the log.
    ends: Vec<u64>,
}

impl Recording {
    pub fn load(before: &Path, log: &Path) -> Self {
        let log = fs::read(log).unwrap();
        let mut ends = Vec::new();
        let mut rest = &log[..];
        while let Some((_, after)) = Operation::decode(rest) {
            rest = after;
            ends.push((log.len() - rest.len()) as u64);
        }
        Self { before: before.to_owned(), log, ends }
    }

    /// The folder as programmes saw it in the end.
    pub fn seen(&self, to: &Path) {
        let disk = self.disk(self.log.len() as u64);
        disk.build(to, disk.changes.len(), &|_| None);
    }

    /// The folder as a disk may hold it after the power failed. `seed` chooses when, and what was left; gives the length
    /// that the log had then.
    pub fn after_power_cut(&self, seed: u64, to: &Path) -> u64 {
        let mut rng = Rng::with_seed(seed);
        let cut = *rng.choice(&self.ends).expect("something was recorded");
        self.after_power_cut_at(cut, rng, to);
        cut
    }

    /// After the last change.
    pub fn after_power_cut_in_the_end(&self, seed: u64, to: &Path) {
        self.after_power_cut_at(self.log.len() as u64, Rng::with_seed(seed), to);
    }

    fn after_power_cut_at(&self, cut: u64, mut rng: Rng, to: &Path) {
        let disk = self.disk(cut);
        let kept = rng.usize(disk.certain..=disk.changes.len());
        // From none of what was not synced to all of it.
        let likely = rng.u8(0..=4);
        let seed = rng.u64(..);
        disk.build(to, kept, &|node| Some(Fate { rng: Rng::with_seed(seed ^ (node as u64 + 1)), likely }));
    }

    fn disk(&self, cut: u64) -> Disk<'_> {
        let mut disk = Disk::of(&self.before);
        let mut rest = &self.log[..cut as usize];
        while let Some((operation, after)) = Operation::decode(rest) {
            disk.apply(operation);
            rest = after;
        }
        disk
    }
}

/// A copy with links as they are.
pub fn copy(from: &Path, to: &Path) {
    Disk::of(from).build(to, 0, &|_| None);
}

type Names = BTreeMap<PathBuf, usize>;

/// All that was done to the folder so far, and how much of it is certain to stay.
struct Disk<'a> {
    before: &'a Path,
    nodes: Vec<Node<'a>>,
    names_before: Names,
    names: Names,
    /// As the journal has them.
    changes: Vec<Change<'a>>,
    certain: usize,
}

enum Change<'a> {
    Name(&'a Path, usize),
    Remove(&'a Path),
    Rename(&'a Path, &'a Path),
    Exchange(&'a Path, &'a Path),
    /// Of a file; it has the size.
    Resize,
}

struct Node<'a> {
    kind: Kind<'a>,
    mode: u32,
    /// Length of the journal after the last change of it, and after the last of its making or size.
    touched: usize,
    sized: usize,
}

enum Kind<'a> {
    Folder,
    Link(PathBuf),
    File(Content<'a>),
}

struct Content<'a> {
    /// What it was before the recording, below that folder.
    before: Option<PathBuf>,
    size: u64,
    edits: Vec<Edit<'a>>,
    /// So many of them are certain.
    synced: usize,
}

enum Edit<'a> {
    Write { at: u64, data: &'a [u8] },
    Resize { size: u64, change: usize, shrinks: bool },
}

impl<'a> Disk<'a> {
    fn of(before: &'a Path) -> Self {
        let mut disk = Disk { before, nodes: Vec::new(), names_before: Names::new(), names: Names::new(), changes: Vec::new(), certain: 0 };
        for (path, kind) in walk(before) {
            let full = before.join(&path);
            let meta = fs::symlink_metadata(&full).unwrap();
            let kind = match kind {
                Found::Folder => Kind::Folder,
                Found::Link(target) => Kind::Link(target),
                Found::File => Kind::File(Content { before: Some(path.clone()), size: meta.len(), edits: Vec::new(), synced: 0 }),
            };
            let node = disk.add(kind, meta.permissions().mode() & 0o7777);
            disk.names_before.insert(path, node);
        }
        disk.names = disk.names_before.clone();
        disk
    }

    fn add(&mut self, kind: Kind<'a>, mode: u32) -> usize {
        self.nodes.push(Node { kind, mode, touched: 0, sized: 0 });
        self.nodes.len() - 1
    }

    fn apply(&mut self, operation: Operation<'a>) {
        match operation {
            Operation::Create { path, mode } => {
                let node = self.add(Kind::File(Content { before: None, size: 0, edits: Vec::new(), synced: 0 }), mode);
                self.make(path, node);
            }
            Operation::MakeFolder { path, mode } => {
                let node = self.add(Kind::Folder, mode);
                self.make(path, node);
            }
            Operation::Symlink { path, target } => {
                let node = self.add(Kind::Link(target.to_owned()), 0o777);
                self.make(path, node);
            }
            Operation::Link { from, to } => {
                let node = self.known(from);
                self.change(Change::Name(to, node), &[to]);
            }
            Operation::Rename { from, to } => self.change(Change::Rename(from, to), &[from, to]),
            Operation::Exchange { one, other } => self.change(Change::Exchange(one, other), &[one, other]),
            // A socket is no part of the recording.
            Operation::Remove { path } if !self.names.contains_key(path) => {}
            Operation::Remove { path } => self.change(Change::Remove(path), &[path]),
            Operation::Write { path, at, data } => {
                let content = self.content(path);
                content.edits.push(Edit::Write { at, data });
                content.size = content.size.max(at + data.len() as u64);
            }
            Operation::Resize { path, size } => {
                self.change(Change::Resize, &[path]);
                let (node, change) = (self.known(path), self.changes.len());
                self.nodes[node].sized = change;
                let content = self.content(path);
                content.edits.push(Edit::Resize { size, change, shrinks: size < content.size });
                content.size = size;
            }
            Operation::Sync { path } => {
                let node = self.known(path);
                self.sync(node, self.nodes[node].touched);
            }
            Operation::SyncData { path } => {
                let node = self.known(path);
                self.sync(node, self.nodes[node].sized);
            }
            Operation::SyncAll => {
                for node in 0..self.nodes.len() {
                    self.sync(node, self.changes.len());
                }
            }
            Operation::Unrecorded { path, what } => panic!("{} was changed in a way that cannot be played: {}", path.display(), what.display()),
        }
    }

    fn known(&self, path: &Path) -> usize {
        *self.names.get(path).unwrap_or_else(|| panic!("{} was never made: the recorder has missed something", path.display()))
    }

    fn content(&mut self, path: &Path) -> &mut Content<'a> {
        let node = self.known(path);
        match &mut self.nodes[node].kind {
            Kind::File(content) => content,
            _ => panic!("{} is not a file", path.display()),
        }
    }

    fn make(&mut self, path: &'a Path, node: usize) {
        self.change(Change::Name(path, node), &[path]);
        self.nodes[node].sized = self.changes.len();
    }

    /// Into the journal; it touches what the names stand for and the folders that they are in.
    fn change(&mut self, change: Change<'a>, names: &[&Path]) {
        let mut touched: Vec<usize> = names.iter().filter_map(|name| self.names.get(*name)).copied().collect();
        change.apply(&mut self.names);
        self.changes.push(change);
        touched.extend(names.iter().flat_map(|name| [Some(*name), name.parent()]).flatten().filter_map(|name| self.names.get(name)));
        for node in touched {
            self.nodes[node].touched = self.changes.len();
        }
    }

    fn sync(&mut self, node: usize, changes: usize) {
        self.certain = self.certain.max(changes);
        if let Kind::File(content) = &mut self.nodes[node].kind {
            content.synced = content.edits.len();
        }
    }

    /// Makes the folder with the first changes of the journal, each file as `fate` decides; nothing: in full.
    fn build(&self, to: &Path, changes: usize, fate: &dyn Fn(usize) -> Option<Fate>) {
        let mut names = self.names_before.clone();
        self.changes[..changes].iter().for_each(|change| change.apply(&mut names));
        fs::create_dir_all(to).unwrap();
        for (name, number) in names {
            let (path, node) = (to.join(name), &self.nodes[number]);
            match &node.kind {
                Kind::Folder => fs::create_dir_all(&path).unwrap(),
                Kind::Link(target) => {
                    symlink(target, &path).unwrap();
                    continue;
                }
                Kind::File(Content { before: Some(before), edits, .. }) if edits.is_empty() => {
                    fs::copy(self.before.join(before), &path).unwrap();
                }
                Kind::File(content) => {
                    let before = content.before.as_ref().map_or_else(Vec::new, |before| fs::read(self.before.join(before)).unwrap());
                    fs::write(&path, content.bytes(before, changes, fate(number))).unwrap();
                }
            }
            fs::set_permissions(&path, Permissions::from_mode(node.mode)).unwrap();
        }
    }
}

impl Change<'_> {
    fn apply(&self, names: &mut Names) {
        match self {
            Change::Name(path, node) => drop(names.insert(path.to_path_buf(), *node)),
            Change::Remove(path) => drop(names.remove(*path)),
            Change::Rename(from, to) => {
                names.remove(*to);
                let moved = take_below(names, from);
                put(names, to, moved);
            }
            Change::Exchange(one, other) => {
                let (first, second) = (take_below(names, one), take_below(names, other));
                put(names, other, first);
                put(names, one, second);
            }
            Change::Resize => {}
        }
    }
}

/// A name and those below it, without what they have in common.
fn take_below(names: &mut Names, path: &Path) -> Vec<(PathBuf, usize)> {
    let below: Vec<PathBuf> = names.keys().filter(|name| name.starts_with(path)).cloned().collect();
    below.iter().map(|name| (name.strip_prefix(path).unwrap().to_owned(), names.remove(name).unwrap())).collect()
}

fn put(names: &mut Names, path: &Path, taken: Vec<(PathBuf, usize)>) {
    for (below, node) in taken {
        // Joined with nothing, a path would end with a slash.
        let name = if below.as_os_str().is_empty() { path.to_owned() } else { path.join(below) };
        names.insert(name, node);
    }
}

/// Decides about what was not synced.
struct Fate {
    rng: Rng,
    /// Of four.
    likely: u8,
}

impl Fate {
    /// The part of a write that is there.
    fn kept(&mut self, at: u64, length: u64) -> Range<u64> {
        let whole = at..at + length;
        let (first, last) = (at / SECTOR_BYTES + 1, (whole.end - 1) / SECTOR_BYTES);
        match self.rng.u8(0..4) < self.likely {
            false => at..at,
            true if first > last || self.rng.u8(0..4) > 0 => whole,
            true => {
                let border = self.rng.u64(first..=last) * SECTOR_BYTES;
                if self.rng.bool() { at..border } else { border..whole.end }
            }
        }
    }
}

impl Content<'_> {
    fn bytes(&self, before: Vec<u8>, changes: usize, mut fate: Option<Fate>) -> Vec<u8> {
        let mut bytes = before;
        // Written to the disk before a later write to them.
        let mut stale: HashSet<u64> = HashSet::new();
        for (number, edit) in self.edits.iter().enumerate() {
            match *edit {
                Edit::Resize { size, change, .. } if change <= changes => bytes.resize(size as usize, 0),
                // What was written into the space that it gave back came after it.
                Edit::Resize { shrinks: true, .. } => break,
                Edit::Resize { .. } => {}
                Edit::Write { at, data } => {
                    let end = at + data.len() as u64;
                    let kept = match &mut fate {
                        Some(fate) if number >= self.synced => fate.kept(at, data.len() as u64),
                        _ => at..end,
                    };
                    for sector in at / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
                        let start = (sector * SECTOR_BYTES).max(kept.start);
                        let stop = ((sector + 1) * SECTOR_BYTES).min(kept.end);
                        if start >= stop {
                            stale.insert(sector);
                        } else if !stale.contains(&sector) {
                            if bytes.len() < stop as usize {
                                bytes.resize(stop as usize, 0);
                            }
                            bytes[start as usize..stop as usize].copy_from_slice(&data[(start - at) as usize..(stop - at) as usize]);
                        }
                    }
                }
            }
        }
        bytes
    }
}

enum Found {
    Folder,
    Link(PathBuf),
    File,
}

/// Everything below a folder but sockets, by its path from there; folders first, the folder itself too.
fn walk(folder: &Path) -> BTreeMap<PathBuf, Found> {
    let mut found = BTreeMap::from([(PathBuf::new(), Found::Folder)]);
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(folder.join(&inner)).unwrap().flatten() {
            let (path, kind) = (inner.join(entry.file_name()), entry.file_type().unwrap());
            let kind = if kind.is_dir() {
                folders.push(path.clone());
                Found::Folder
            } else if kind.is_symlink() {
                Found::Link(fs::read_link(entry.path()).unwrap())
            } else if kind.is_socket() {
                continue;
            } else {
                Found::File
            };
            found.insert(path, kind);
        }
    }
    found
}

/// What is not the same below two folders.
pub fn differences(one: &Path, other: &Path) -> Vec<PathBuf> {
    let same = |path: &Path, found: &Found, there: &Found| match (found, there) {
        (Found::Folder, Found::Folder) => true,
        (Found::Link(target), Found::Link(other)) => target == other,
        (Found::File, Found::File) => fs::read(one.join(path)).unwrap() == fs::read(other.join(path)).unwrap(),
        _ => false,
    };
    let (here, mut there) = (walk(one), walk(other));
    let mut differ: Vec<PathBuf> =
        here.into_iter().filter(|(path, found)| !there.remove(path).is_some_and(|there| same(path, found, &there))).map(|(path, _)| path).collect();
    differ.extend(there.into_keys());
    differ
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a power cut after these operations was seen to leave of `f`, by a thousand seeds.
    fn left(operations: &[Operation], f: &str) -> HashSet<Option<Vec<u8>>> {
        let folder = tempfile::tempdir().unwrap();
        let (before, log) = (folder.path().join("before"), folder.path().join("log"));
        fs::create_dir(&before).unwrap();
        fs::write(before.join("old"), "old").unwrap();
        fs::write(&log, operations.iter().flat_map(Operation::encode).collect::<Vec<u8>>()).unwrap();
        let recording = Recording::load(&before, &log);
        let cut = *recording.ends.last().unwrap();
        let states = (0..1_000).map(|seed| {
            let to = folder.path().join(seed.to_string());
            recording.after_power_cut_at(cut, Rng::with_seed(seed), &to);
            fs::read(to.join(f)).ok()
        });
        states.collect()
    }

    fn path(path: &str) -> &Path {
        Path::new(path)
    }

    #[test]
    fn what_is_not_synced_is_there_or_not_or_torn_at_a_sector() {
        let data = [7; 1_024];
        let all = [Operation::Create { path: path("f"), mode: 0o600 }, Operation::Write { path: path("f"), at: 0, data: &data }];
        let half = [&[0; 512][..], &data[512..]].concat();
        assert_eq!(left(&all, "f"), HashSet::from([None, Some(vec![]), Some(data.into()), Some(data[512..].into()), Some(half)]));
    }

    #[test]
    fn a_sync_brings_a_file_with_its_name_and_data_and_a_later_write_does_not_take_it_back() {
        let f = path("f");
        let synced = [Operation::Create { path: f, mode: 0o600 }, Operation::Write { path: f, at: 0, data: b"one" }, Operation::SyncData { path: f }];
        assert_eq!(left(&synced, "f"), HashSet::from([Some(b"one".to_vec())]));
        let more = [&synced[..], &[Operation::Write { path: f, at: 3, data: b"two" }]].concat();
        assert_eq!(left(&more, "f"), HashSet::from([Some(b"one".to_vec()), Some(b"onetwo".to_vec())]));
    }

    #[test]
    fn a_sync_of_the_file_system_brings_all_that_was_done_before() {
        let f = path("f");
        let written = [Operation::Create { path: f, mode: 0o600 }, Operation::Write { path: f, at: 0, data: b"one" }];
        let more = [Operation::SyncAll, Operation::Write { path: f, at: 0, data: b"two" }];
        let left = left(&[&written[..], &more].concat(), "f");
        assert_eq!(left, HashSet::from([Some(b"one".to_vec()), Some(b"two".to_vec())]));
    }

    #[test]
    fn a_file_renamed_over_another_may_be_empty_unless_it_was_synced() {
        let write = [Operation::Create { path: path("new"), mode: 0o600 }, Operation::Write { path: path("new"), at: 0, data: b"new" }];
        let rename = Operation::Rename { from: path("new"), to: path("old") };
        let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
        assert_eq!(left(&[&write[..], &[rename]].concat(), "old"), HashSet::from([old.clone(), new.clone(), Some(vec![])]));
        let sync = Operation::Sync { path: path("new") };
        assert_eq!(left(&[&write[..], &[sync, rename]].concat(), "old"), HashSet::from([old, new.clone()]));
        let folder = Operation::Sync { path: path("") };
        assert_eq!(left(&[&write[..], &[sync, rename, folder]].concat(), "old"), HashSet::from([new]));
    }

    #[test]
    fn a_file_cut_short_and_written_again_is_never_the_old_one_with_new_bytes() {
        let resize = Operation::Resize { path: path("old"), size: 0 };
        let all = [resize, Operation::Write { path: path("old"), at: 0, data: b"n" }];
        assert_eq!(left(&all, "old"), HashSet::from([Some(b"old".to_vec()), Some(vec![]), Some(b"n".to_vec())]));
    }

    #[test]
    fn a_later_write_to_a_sector_is_not_there_without_the_earlier_one() {
        let write = |at, data| Operation::Write { path: path("old"), at, data };
        assert_eq!(
            left(&[write(0, b"1"), write(1, b"2")], "old"),
            HashSet::from([Some(b"old".to_vec()), Some(b"1ld".to_vec()), Some(b"12d".to_vec())])
        );
    }
}
