//! A disk that is full, read-only or broken, and a process that dies at a
//! chosen call: asked by each call of the library, below the folder, before it
//! is made. What is to happen stands in a file that a test writes meanwhile.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use libc::{c_char, c_int};

use crate::switch::{CRASH_AT_RENAMES, CRASH_AT_SYNCS, FILE_BYTES, PART_AT, Switch};

pub struct Faults(*const u8);

// SAFETY: the mapping is never moved or given back, and is read as atomics.
unsafe impl Send for Faults {}
unsafe impl Sync for Faults {}

/// Nothing where the disk is as it is.
pub fn faults() -> Option<&'static Faults> {
    static FAULTS: OnceLock<Option<Faults>> = OnceLock::new();
    let map = || {
        let mut file = std::env::var_os("SOUK_FAULTS")?.as_bytes().to_vec();
        file.push(0);
        // Not by `open` and `mmap`, which stand in this library themselves.
        unsafe {
            let fd = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, file.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC, 0);
            assert!(fd >= 0, "SOUK_FAULTS cannot be opened");
            // All as wide as a register: `syscall` does not know what each is.
            let (anywhere, both, shared, from) = (0_usize, (libc::PROT_READ | libc::PROT_WRITE) as usize, libc::MAP_SHARED as usize, 0_usize);
            let at = libc::syscall(libc::SYS_mmap, anywhere, FILE_BYTES, both, shared, fd, from);
            assert!(at > 0, "SOUK_FAULTS cannot be mapped");
            Some(Faults(at as *const u8))
        }
    };
    FAULTS.get_or_init(map).as_ref()
}

impl Faults {
    fn switch(&self, switch: Switch) -> &AtomicI64 {
        unsafe { &*self.0.cast::<AtomicI64>().add(switch as usize) }
    }

    fn concerns(&self, path: &Path) -> bool {
        let part = unsafe { CStr::from_ptr(self.0.add(PART_AT).cast::<c_char>()) };
        let part = OsStr::from_bytes(part.to_bytes()).as_bytes();
        part.is_empty() || path.as_os_str().as_bytes().windows(part.len()).any(|window| window == part)
    }

    /// One less, if there is one.
    fn take(&self, switch: Switch) -> bool {
        self.switch(switch).fetch_update(SeqCst, SeqCst, |left| (left > 0).then(|| left - 1)).is_ok()
    }

    /// Why anything at all that changes files fails.
    pub fn change(&self) -> Option<c_int> {
        (self.switch(Switch::ReadOnly).load(SeqCst) != 0).then_some(libc::EROFS)
    }

    /// Why a new name or a larger file fails.
    pub fn growth(&self) -> Option<c_int> {
        self.change().or_else(|| (self.switch(Switch::Room).load(SeqCst) == 0).then_some(libc::ENOSPC))
    }

    /// How much of a write finds room. As the kernel has it: a part of it, then none.
    pub fn fitting(&self, bytes: usize) -> Result<usize, c_int> {
        if let Some(error) = self.change() {
            return Err(error);
        }
        let room = self.switch(Switch::Room).fetch_update(SeqCst, SeqCst, |room| (room >= 0).then(|| (room - bytes as i64).max(0)));
        match room {
            Ok(0) if bytes > 0 => Err(libc::ENOSPC),
            Ok(room) => Ok(bytes.min(room as usize)),
            Err(_) => Ok(bytes),
        }
    }

    pub fn sync(&self, path: &Path) -> Option<c_int> {
        self.change().or_else(|| (self.concerns(path) && self.take(Switch::SyncsFail)).then_some(libc::EIO))
    }

    pub fn at_sync<R>(&self, path: &Path, call: impl FnOnce() -> R) -> R {
        self.dying(CRASH_AT_SYNCS, Switch::Syncs, self.concerns(path), call)
    }

    pub fn at_rename<R>(&self, from: &Path, to: &Path, call: impl FnOnce() -> R) -> R {
        self.dying(CRASH_AT_RENAMES, Switch::Renames, self.concerns(from) || self.concerns(to), call)
    }

    fn dying<R>(&self, at: i64, seen: Switch, concerned: bool, call: impl FnOnce() -> R) -> R {
        if !concerned {
            return call();
        }
        self.switch(seen).fetch_add(1, SeqCst);
        // The one that takes it from one to none.
        let now = self.switch(Switch::CrashAt).load(SeqCst) == at
            && self.switch(Switch::CrashIn).fetch_update(SeqCst, SeqCst, |left| (left > 0).then(|| left - 1)) == Ok(1);
        let after = self.switch(Switch::CrashAfter).load(SeqCst) != 0;
        if now && !after {
            die();
        }
        let answer = call();
        if now {
            die();
        }
        answer
    }
}

fn die() {
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
        // Another thread may get it first.
        loop {
            libc::pause();
        }
    }
}
