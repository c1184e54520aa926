//! A disk that is full, read-only or broken below one folder, and a process that
//! dies at a chosen call (`tests/recorder`). For tests of what a shop does then.

#[path = "../recorder/src/switch.rs"]
pub mod switch;

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::powercut::library;
use switch::{CRASH_AT_RENAMES, CRASH_AT_SYNCS, FILE_BYTES, PART_AT, Switch};

/// Can be thrown while a process runs that was started with [`Faults::environment`].
pub struct Faults {
    file: File,
    path: PathBuf,
}

/// When a process is to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Sync,
    Rename,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

impl Faults {
    /// Nothing fails yet.
    pub fn new(path: &Path) -> Self {
        fs::write(path, [0; FILE_BYTES]).unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        let faults = Self { file, path: path.to_owned() };
        faults.mend();
        faults
    }

    /// What a process needs for all it changes below `folder` to be concerned.
    pub fn environment(&self, folder: &Path) -> [(&'static str, OsString); 3] {
        [("LD_PRELOAD", library().into()), ("SOUK_RECORD_ROOT", folder.into()), ("SOUK_FAULTS", self.path.as_os_str().into())]
    }

    fn set(&self, switch: Switch, value: i64) {
        self.file.write_all_at(&value.to_ne_bytes(), switch as u64 * 8).unwrap();
    }

    fn get(&self, switch: Switch) -> i64 {
        let mut value = [0; 8];
        self.file.read_exact_at(&mut value, switch as u64 * 8).unwrap();
        i64::from_ne_bytes(value)
    }

    /// A disk as it should be.
    pub fn mend(&self) {
        self.set(Switch::Room, -1);
        for switch in [Switch::ReadOnly, Switch::SyncsFail, Switch::CrashAt, Switch::CrashIn, Switch::Syncs, Switch::Renames] {
            self.set(switch, 0);
        }
        self.only("");
    }

    /// No room after so many more bytes.
    pub fn full_after(&self, bytes: i64) {
        self.set(Switch::Room, bytes);
    }

    pub fn read_only(&self) {
        self.set(Switch::ReadOnly, 1);
    }

    pub fn syncs_fail(&self, times: i64) {
        self.set(Switch::SyncsFail, times);
    }

    /// Syncs fail and crashes happen only at paths that hold this. Before they are set.
    pub fn only(&self, part: &str) {
        let mut bytes = part.as_bytes().to_vec();
        bytes.resize(FILE_BYTES - PART_AT, 0);
        self.file.write_all_at(&bytes, PART_AT as u64).unwrap();
    }

    /// The process dies at the `nth` from now, counted from 1.
    pub fn crash(&self, at: At, moment: Moment, nth: i64) {
        self.set(Switch::CrashAfter, i64::from(moment == Moment::After));
        self.set(Switch::CrashIn, nth);
        self.set(Switch::CrashAt, if at == At::Sync { CRASH_AT_SYNCS } else { CRASH_AT_RENAMES });
    }

    /// How many there were since the last [`mend`](Self::mend).
    pub fn seen(&self, at: At) -> i64 {
        self.get(if at == At::Sync { Switch::Syncs } else { Switch::Renames })
    }

    /// Whether the process was told to die.
    pub fn struck(&self) -> bool {
        self.get(Switch::CrashAt) != 0 && self.get(Switch::CrashIn) == 0
    }
}
