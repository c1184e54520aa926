//! What the disk is to do, in a small file that the process maps and a test
//! writes while it runs. Belongs to the preloaded library, which looks at it at
//! each call, and to `souk_tests::faults`, which includes this file.

/// Numbers of eight bytes, and behind them a part of a path, ended by NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Bytes that still find room; none counted where it is negative.
    Room = 0,
    ReadOnly = 1,
    /// So many syncs fail.
    SyncsFail = 2,
    /// One of [`CRASH_AT_SYNCS`], [`CRASH_AT_RENAMES`], and so many of them until the process dies; 0: it does not.
    CrashAt = 3,
    CrashIn = 4,
    /// Once the call has been made, not before it.
    CrashAfter = 5,
    /// Syncs, and renames, that were seen below the part.
    Syncs = 6,
    Renames = 7,
}

pub const CRASH_AT_SYNCS: i64 = 1;
pub const CRASH_AT_RENAMES: i64 = 2;

/// Where the part of a path begins: only what holds it fails to sync, counts, or crashes.
pub const PART_AT: usize = 8 * 8;
pub const FILE_BYTES: usize = PART_AT + 192;
