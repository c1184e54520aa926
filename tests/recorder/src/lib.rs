//! Preloaded into a process (`LD_PRELOAD`): stands before the calls of libc by
//! which files are changed, and writes down those below one folder, each with
//! its data, in the order in which they took effect. `souk_tests::powercut`
//! makes of it what a disk may hold after a power cut. Or lets them fail, as a
//! disk does that is full or broken (`faults.rs`), for `souk_tests::faults`. What
//! it says of the network (`network.rs`) has nothing to do with that.
//!
//! `SOUK_RECORD_ROOT` is the folder, `SOUK_RECORD_LOG` the log beside it,
//! `SOUK_FAULTS` the file that says what fails; without one of the two, nothing
//! is written down, or nothing fails. With `SOUK_RECORD_WITHOUT_SYNC`, fsync and
//! fdatasync of files of that name do nothing, as if the process did not call
//! them; that works without the others.
//!
//! One lock is held across a call and its line in the log. `sync_file_range`,
//! `O_SYNC` and `msync` are not looked at: nothing is promised to them. It sees
//! nothing of system calls made without libc; that the log replayed in full is
//! the folder as it is (`tests/tests/powercut.rs`) proves that none are made.

mod faults;
mod network;
pub mod operation;
pub mod switch;

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use libc::{AT_FDCWD, addrinfo, c_char, c_int, c_uint, c_void, iovec, mode_t, off_t, size_t, sockaddr, socklen_t, ssize_t};

use faults::{Faults, faults};
use operation::Operation;

/// The function that is called where nothing stands before it.
macro_rules! real {
    ($name:ident($($argument:expr),*): fn($($taken:ty),*) -> $given:ty) => {{
        static FOUND: OnceLock<usize> = OnceLock::new();
        let found = *FOUND.get_or_init(|| unsafe { libc::dlsym(libc::RTLD_NEXT, concat!(stringify!($name), "\0").as_ptr().cast()) } as usize);
        assert!(found != 0, concat!("libc has no ", stringify!($name)));
        unsafe { std::mem::transmute::<usize, unsafe extern "C" fn($($taken),*) -> $given>(found)($($argument),*) }
    }};
}

struct Recorder {
    root: PathBuf,
    log: Option<c_int>,
    order: Mutex<()>,
}

/// Nothing where the process is not to be recorded.
fn recorder() -> Option<&'static Recorder> {
    static RECORDER: OnceLock<Option<Recorder>> = OnceLock::new();
    let start = || {
        let root = std::fs::canonicalize(std::env::var_os("SOUK_RECORD_ROOT")?).expect("SOUK_RECORD_ROOT is a folder");
        let log = std::env::var_os("SOUK_RECORD_LOG").map(|log| {
            let mut log = log.into_vec();
            log.push(0);
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
            // Not by `open`, which stands here itself.
            let log = unsafe { libc::syscall(libc::SYS_openat, AT_FDCWD, log.as_ptr(), flags, 0o600) } as c_int;
            assert!(log >= 0, "SOUK_RECORD_LOG cannot be written");
            log
        });
        assert!(log.is_some() || std::env::var_os("SOUK_FAULTS").is_some(), "SOUK_RECORD_LOG tells where to write");
        Some(Recorder { root, log, order: Mutex::new(()) })
    };
    RECORDER.get_or_init(start).as_ref()
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, operation: Operation) {
        let Some(log) = self.log else { return };
        let line = operation.encode();
        let mut left = &line[..];
        while !left.is_empty() {
            let written = real!(write(log, left.as_ptr().cast(), left.len()): fn(c_int, *const c_void, size_t) -> ssize_t);
            left = &left[usize::try_from(written).expect("the log takes what is written")..];
        }
    }

    /// What an open file or folder is called now, if it is recorded.
    fn open_path(&self, fd: c_int) -> Option<PathBuf> {
        let path = path_of(fd)?;
        // Who has no name any more is not found after a power cut either.
        let deleted = path.as_os_str().as_bytes().ends_with(b" (deleted)");
        path.strip_prefix(&self.root).ok().filter(|_| !deleted).map(Path::to_owned)
    }

    /// What a name is below the root; the last part may be a link itself, or nothing yet.
    fn named_path(&self, folder: c_int, path: *const c_char) -> Option<PathBuf> {
        let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
        let path = match folder {
            _ if path.is_absolute() => path.to_owned(),
            AT_FDCWD => std::env::current_dir().ok()?.join(path),
            folder => path_of(folder)?.join(path),
        };
        let parent = std::fs::canonicalize(path.parent()?).ok()?;
        parent.join(path.file_name()?).strip_prefix(&self.root).ok().map(Path::to_owned)
    }
}

fn path_of(fd: c_int) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

fn status(fd: c_int) -> libc::stat {
    let mut status = unsafe { std::mem::zeroed() };
    assert_eq!(unsafe { libc::fstat(fd, &mut status) }, 0, "what is open has a status");
    status
}

fn exists(folder: c_int, path: *const c_char) -> bool {
    let mut status = unsafe { std::mem::zeroed() };
    unsafe { libc::fstatat(folder, path, &mut status, 0) == 0 }
}

fn refused(error: c_int) -> c_int {
    unsafe { *libc::__errno_location() = error };
    -1
}

/// What is to go wrong, if the open file lies below the folder.
fn faults_on(fd: c_int) -> Option<&'static Faults> {
    let faults = faults()?;
    recorder().filter(|recorder| fd >= 0 && recorder.open_path(fd).is_some()).map(|_| faults)
}

/// And if the name does.
fn faults_at(folder: c_int, path: *const c_char) -> Option<&'static Faults> {
    let faults = faults()?;
    recorder()?.named_path(folder, path).map(|_| faults)
}

/// A call that changes an open file; `tell` gets its name and what was answered.
fn on_open<R: Copy>(fd: c_int, call: impl FnOnce() -> R, tell: impl FnOnce(&Recorder, &Path, R)) -> R {
    // Sockets and pipes may block and must not hold the lock.
    let Some(recorder) = recorder().filter(|recorder| fd >= 0 && recorder.open_path(fd).is_some()) else { return call() };
    let _order = recorder.lock();
    let answer = call();
    if let Some(path) = recorder.open_path(fd) {
        tell(recorder, &path, answer);
    }
    answer
}

/// A write, of as much as finds room.
fn fitting(fd: c_int, length: size_t, write: impl FnOnce(size_t) -> ssize_t) -> ssize_t {
    match faults_on(fd).map_or(Ok(length), |faults| faults.fitting(length)) {
        Ok(length) => write(length),
        Err(error) => refused(error) as ssize_t,
    }
}

/// Of several parts the first alone where not all find room.
fn fitting_parts(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    all: impl FnOnce() -> ssize_t,
    first: impl FnOnce(*const c_void, size_t) -> ssize_t,
) -> ssize_t {
    let parts = unsafe { std::slice::from_raw_parts(parts, count as usize) };
    let length = parts.iter().map(|part| part.iov_len).sum();
    fitting(fd, length, |fitting| match parts.iter().find(|part| part.iov_len > 0) {
        Some(part) if fitting < length => first(part.iov_base, part.iov_len.min(fitting)),
        _ => all(),
    })
}

/// Where the file's position is after a write of so many bytes, less those: also right where it appends.
fn written_at(fd: c_int, written: ssize_t) -> u64 {
    unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) as u64 - written as u64 }
}

unsafe fn gathered(parts: *const iovec, count: c_int, written: ssize_t) -> Vec<u8> {
    let parts = unsafe { std::slice::from_raw_parts(parts, count as usize) };
    let mut data = Vec::new();
    for part in parts {
        data.extend_from_slice(unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len) });
    }
    data.truncate(written as usize);
    data
}

fn note_write(recorder: &Recorder, path: &Path, at: u64, data: &[u8]) {
    if !data.is_empty() {
        recorder.note(Operation::Write { path, at, data });
    }
}

fn opening(folder: c_int, path: *const c_char, flags: c_int, call: impl FnOnce() -> c_int) -> c_int {
    let writes = flags & (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) != libc::O_RDONLY;
    if writes && let Some(faults) = faults_at(folder, path) {
        let new = flags & libc::O_CREAT != 0 && !exists(folder, path);
        if let Some(error) = if new { faults.growth() } else { faults.change() } {
            return refused(error);
        }
    }
    let Some(recorder) = recorder().filter(|_| flags & (libc::O_CREAT | libc::O_TRUNC) != 0) else { return call() };
    let _order = recorder.lock();
    let existed = exists(folder, path);
    let fd = call();
    if fd >= 0
        && let Some(path) = recorder.open_path(fd)
    {
        if !existed {
            recorder.note(Operation::Create { path: &path, mode: status(fd).st_mode & 0o7777 });
        } else if flags & libc::O_TRUNC != 0 {
            recorder.note(Operation::Resize { path: &path, size: 0 });
        }
    }
    fd
}

/// A call that changes a name.
fn naming(folder: c_int, path: *const c_char, call: impl FnOnce() -> c_int, tell: impl FnOnce(&Recorder, &Path)) -> c_int {
    let Some(recorder) = recorder() else { return call() };
    let _order = recorder.lock();
    let named = recorder.named_path(folder, path);
    let answer = call();
    if answer == 0
        && let Some(path) = named
    {
        tell(recorder, &path);
    }
    answer
}

/// A call that gives what has one name another.
fn moving(
    (from_folder, from): (c_int, *const c_char),
    (to_folder, to): (c_int, *const c_char),
    call: impl FnOnce() -> c_int,
    tell: for<'a> fn(&'a Path, &'a Path) -> Operation<'a>,
) -> c_int {
    let Some(recorder) = recorder() else { return call() };
    if let Some(error) = faults_at(from_folder, from).or(faults_at(to_folder, to)).and_then(Faults::change) {
        return refused(error);
    }
    let _order = recorder.lock();
    let names = (recorder.named_path(from_folder, from), recorder.named_path(to_folder, to));
    let answer = match (faults(), &names) {
        (Some(faults), (Some(from), Some(to))) => faults.at_rename(from, to, call),
        _ => call(),
    };
    if answer == 0 {
        match &names {
            (Some(from), Some(to)) => recorder.note(tell(from, to)),
            (None, Some(path)) | (Some(path), None) => recorder.note(Operation::Unrecorded { path, what: Path::new("moved over the border") }),
            (None, None) => {}
        }
    }
    answer
}

fn syncing(fd: c_int, call: impl FnOnce() -> c_int, tell: for<'a> fn(&'a Path) -> Operation<'a>) -> c_int {
    static WITHOUT: OnceLock<Option<OsString>> = OnceLock::new();
    if let Some(without) = WITHOUT.get_or_init(|| std::env::var_os("SOUK_RECORD_WITHOUT_SYNC")).as_deref()
        && path_of(fd).is_some_and(|path| path.file_name() == Some(without))
    {
        return 0;
    }
    let faults = faults_on(fd).zip(recorder().and_then(|recorder| recorder.open_path(fd)));
    if let Some(error) = faults.as_ref().and_then(|(faults, path)| faults.sync(path)) {
        return refused(error);
    }
    let call = || match &faults {
        Some((faults, path)) => faults.at_sync(path, call),
        None => call(),
    };
    on_open(fd, call, |recorder, path, answer| {
        if answer == 0 {
            recorder.note(tell(path));
        }
    })
}

fn resizing(fd: c_int, grows: bool, call: impl FnOnce() -> c_int) -> c_int {
    if let Some(error) = faults_on(fd).and_then(|faults| if grows { faults.growth() } else { faults.change() }) {
        return refused(error);
    }
    on_open(fd, call, |recorder, path, answer| {
        if answer == 0 {
            recorder.note(Operation::Resize { path, size: status(fd).st_size as u64 });
        }
    })
}

/// Copies inside the kernel do not show their data: who is refused reads and writes.
fn copying(to: c_int, call: impl FnOnce() -> ssize_t) -> ssize_t {
    match recorder().and_then(|recorder| recorder.open_path(to)) {
        Some(_) => refused(libc::ENOSYS) as ssize_t,
        None => call(),
    }
}

/// Each of these is called as libc's own: what libc asks of its caller is asked of it.
macro_rules! instead_of_libc {
    ($(fn $name:ident($($argument:ident: $taken:ty),*) -> $given:ty { |$real:ident| $body:expr })*) => {
        $(#[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $taken),*) -> $given {
            let $real = || real!($name($($argument),*): fn($($taken),*) -> $given);
            $body
        })*
    };
}

instead_of_libc! {
    // C's `open` takes a variable number of arguments; on the platforms of glibc the third is passed as in a fixed one.
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { |real| opening(AT_FDCWD, path, flags, real) }
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { |real| opening(AT_FDCWD, path, flags, real) }
    fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int { |real| opening(folder, path, flags, real) }
    fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int { |real| opening(folder, path, flags, real) }
    fn creat(path: *const c_char, mode: mode_t) -> c_int { |real| opening(AT_FDCWD, path, libc::O_CREAT | libc::O_TRUNC, real) }
    fn creat64(path: *const c_char, mode: mode_t) -> c_int { |real| opening(AT_FDCWD, path, libc::O_CREAT | libc::O_TRUNC, real) }

    fn write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t {
        |_real| on_open(fd, || fitting(fd, length, |length| {
            real!(write(fd, data, length): fn(c_int, *const c_void, size_t) -> ssize_t)
        }), |recorder, path, written| if written > 0 {
            note_write(recorder, path, written_at(fd, written), unsafe { std::slice::from_raw_parts(data.cast(), written as usize) })
        })
    }
    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        |real| on_open(fd, || fitting_parts(fd, parts, count, real, |data, length| {
            real!(write(fd, data, length): fn(c_int, *const c_void, size_t) -> ssize_t)
        }), |recorder, path, written| if written > 0 {
            note_write(recorder, path, written_at(fd, written), &unsafe { gathered(parts, count, written) })
        })
    }
    fn pwrite(fd: c_int, data: *const c_void, length: size_t, at: off_t) -> ssize_t {
        |_real| on_open(fd, || fitting(fd, length, |length| {
            real!(pwrite(fd, data, length, at): fn(c_int, *const c_void, size_t, off_t) -> ssize_t)
        }), |recorder, path, written| if written > 0 {
            note_write(recorder, path, at as u64, unsafe { std::slice::from_raw_parts(data.cast(), written as usize) })
        })
    }
    fn pwrite64(fd: c_int, data: *const c_void, length: size_t, at: off_t) -> ssize_t {
        |_real| on_open(fd, || fitting(fd, length, |length| {
            real!(pwrite64(fd, data, length, at): fn(c_int, *const c_void, size_t, off_t) -> ssize_t)
        }), |recorder, path, written| if written > 0 {
            note_write(recorder, path, at as u64, unsafe { std::slice::from_raw_parts(data.cast(), written as usize) })
        })
    }
    fn pwritev(fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t {
        |real| on_open(fd, || fitting_parts(fd, parts, count, real, |data, length| {
            real!(pwrite(fd, data, length, at): fn(c_int, *const c_void, size_t, off_t) -> ssize_t)
        }), |recorder, path, written| if written > 0 {
            note_write(recorder, path, at as u64, &unsafe { gathered(parts, count, written) })
        })
    }
    fn pwritev64(fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t {
        |real| on_open(fd, || fitting_parts(fd, parts, count, real, |data, length| {
            real!(pwrite(fd, data, length, at): fn(c_int, *const c_void, size_t, off_t) -> ssize_t)
        }), |recorder, path, written| if written > 0 {
            note_write(recorder, path, at as u64, &unsafe { gathered(parts, count, written) })
        })
    }
    fn copy_file_range(from: c_int, from_at: *mut off_t, to: c_int, to_at: *mut off_t, length: size_t, flags: c_uint) -> ssize_t {
        |real| copying(to, real)
    }
    fn sendfile(to: c_int, from: c_int, from_at: *mut off_t, length: size_t) -> ssize_t { |real| copying(to, real) }
    fn sendfile64(to: c_int, from: c_int, from_at: *mut off_t, length: size_t) -> ssize_t { |real| copying(to, real) }
    fn splice(from: c_int, from_at: *mut off_t, to: c_int, to_at: *mut off_t, length: size_t, flags: c_uint) -> ssize_t {
        |real| copying(to, real)
    }

    fn ftruncate(fd: c_int, size: off_t) -> c_int { |real| resizing(fd, size > status(fd).st_size, real) }
    fn ftruncate64(fd: c_int, size: off_t) -> c_int { |real| resizing(fd, size > status(fd).st_size, real) }
    fn posix_fallocate(fd: c_int, at: off_t, length: off_t) -> c_int { |real| reserving(fd, real) }
    fn posix_fallocate64(fd: c_int, at: off_t, length: off_t) -> c_int { |real| reserving(fd, real) }
    fn fallocate(fd: c_int, mode: c_int, at: off_t, length: off_t) -> c_int { |real| allocating(fd, mode, real) }
    fn fallocate64(fd: c_int, mode: c_int, at: off_t, length: off_t) -> c_int { |real| allocating(fd, mode, real) }
    fn mmap(address: *mut c_void, length: size_t, protection: c_int, flags: c_int, fd: c_int, at: off_t) -> *mut c_void {
        |real| mapping(fd, protection, flags, real)
    }
    fn mmap64(address: *mut c_void, length: size_t, protection: c_int, flags: c_int, fd: c_int, at: off_t) -> *mut c_void {
        |real| mapping(fd, protection, flags, real)
    }

    fn getaddrinfo(name: *const c_char, service: *const c_char, hints: *const addrinfo, found: *mut *mut addrinfo) -> c_int {
        |real| match network::name(name) {
            Some(name) => {
                let name = name.as_ptr();
                real!(getaddrinfo(name, service, hints, found): fn(*const c_char, *const c_char, *const addrinfo, *mut *mut addrinfo) -> c_int)
            }
            None => real(),
        }
    }
    fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
        |real| match unsafe { network::address(address, length) } {
            Some((address, length)) => {
                let address = (&raw const address).cast::<sockaddr>();
                real!(connect(fd, address, length): fn(c_int, *const sockaddr, socklen_t) -> c_int)
            }
            None => real(),
        }
    }

    // Modes are not written down.
    fn fchmod(fd: c_int, mode: mode_t) -> c_int { |real| touching(faults_on(fd), real) }
    fn chmod(path: *const c_char, mode: mode_t) -> c_int { |real| touching(faults_at(AT_FDCWD, path), real) }

    fn fsync(fd: c_int) -> c_int { |real| syncing(fd, real, |path| Operation::Sync { path }) }
    fn syncfs(fd: c_int) -> c_int { |real| syncing(fd, real, |_| Operation::SyncAll) }
    fn fdatasync(fd: c_int) -> c_int { |real| syncing(fd, real, |path| Operation::SyncData { path }) }

    fn mkdir(path: *const c_char, mode: mode_t) -> c_int { |real| making_folder(AT_FDCWD, path, real) }
    fn mkdirat(folder: c_int, path: *const c_char, mode: mode_t) -> c_int { |real| making_folder(folder, path, real) }
    fn rmdir(path: *const c_char) -> c_int { |real| removing(AT_FDCWD, path, real) }
    fn unlink(path: *const c_char) -> c_int { |real| removing(AT_FDCWD, path, real) }
    fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int { |real| removing(folder, path, real) }
    fn symlink(target: *const c_char, path: *const c_char) -> c_int { |real| linking_by_name(target, AT_FDCWD, path, real) }
    fn symlinkat(target: *const c_char, folder: c_int, path: *const c_char) -> c_int { |real| linking_by_name(target, folder, path, real) }

    fn rename(from: *const c_char, to: *const c_char) -> c_int {
        |real| moving((AT_FDCWD, from), (AT_FDCWD, to), real, |from, to| Operation::Rename { from, to })
    }
    fn renameat(from_folder: c_int, from: *const c_char, to_folder: c_int, to: *const c_char) -> c_int {
        |real| moving((from_folder, from), (to_folder, to), real, |from, to| Operation::Rename { from, to })
    }
    fn renameat2(from_folder: c_int, from: *const c_char, to_folder: c_int, to: *const c_char, flags: c_uint) -> c_int {
        |real| if flags & libc::RENAME_EXCHANGE != 0 {
            moving((from_folder, from), (to_folder, to), real, |one, other| Operation::Exchange { one, other })
        } else {
            moving((from_folder, from), (to_folder, to), real, |from, to| Operation::Rename { from, to })
        }
    }
    fn link(from: *const c_char, to: *const c_char) -> c_int {
        |real| moving((AT_FDCWD, from), (AT_FDCWD, to), real, |from, to| Operation::Link { from, to })
    }
    fn linkat(from_folder: c_int, from: *const c_char, to_folder: c_int, to: *const c_char, flags: c_int) -> c_int {
        |real| moving((from_folder, from), (to_folder, to), real, |from, to| Operation::Link { from, to })
    }
}

fn touching(faults: Option<&Faults>, call: impl FnOnce() -> c_int) -> c_int {
    faults.and_then(Faults::change).map_or_else(call, refused)
}

/// Gives the error itself.
fn reserving(fd: c_int, call: impl FnOnce() -> c_int) -> c_int {
    match faults_on(fd).and_then(Faults::growth) {
        Some(error) => error,
        None => resizing(fd, true, call),
    }
}

fn allocating(fd: c_int, mode: c_int, call: impl FnOnce() -> c_int) -> c_int {
    match mode {
        0 => resizing(fd, true, call),
        libc::FALLOC_FL_KEEP_SIZE => call(),
        _ => on_open(fd, call, |recorder, path, _| recorder.note(Operation::Unrecorded { path, what: Path::new("fallocate of other kinds") })),
    }
}

fn mapping(fd: c_int, protection: c_int, flags: c_int, call: impl FnOnce() -> *mut c_void) -> *mut c_void {
    if flags & libc::MAP_SHARED == 0 || protection & libc::PROT_WRITE == 0 {
        return call();
    }
    on_open(fd, call, |recorder, path, _| recorder.note(Operation::Unrecorded { path, what: Path::new("written through a mapping") }))
}

fn making_folder(folder: c_int, path: *const c_char, call: impl FnOnce() -> c_int) -> c_int {
    if let Some(error) = faults_at(folder, path).and_then(Faults::growth) {
        return refused(error);
    }
    naming(folder, path, call, |recorder, named| {
        let mut status: libc::stat = unsafe { std::mem::zeroed() };
        unsafe { libc::fstatat(folder, path, &mut status, 0) };
        recorder.note(Operation::MakeFolder { path: named, mode: status.st_mode & 0o7777 });
    })
}

fn removing(folder: c_int, path: *const c_char, call: impl FnOnce() -> c_int) -> c_int {
    if let Some(error) = faults_at(folder, path).and_then(Faults::change) {
        return refused(error);
    }
    naming(folder, path, call, |recorder, path| recorder.note(Operation::Remove { path }))
}

fn linking_by_name(target: *const c_char, folder: c_int, path: *const c_char, call: impl FnOnce() -> c_int) -> c_int {
    if let Some(error) = faults_at(folder, path).and_then(Faults::growth) {
        return refused(error);
    }
    let target = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(target) }.to_bytes()));
    naming(folder, path, call, |recorder, path| recorder.note(Operation::Symlink { path, target }))
}
