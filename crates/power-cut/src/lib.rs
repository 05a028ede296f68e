//! Records what a process writes to files under one directory, what it syncs, and what it tells others, in order: preload the shared library with
//! `LD_PRELOAD`, `POWER_CUT_FOLDER` and `POWER_CUT_LOG` set, then build from the log what a power cut could have left: that is `replay.rs` in the test of
//! `sqlite-store`, which is kept out of here so that no test links, and thereby interposes, these functions itself.
//!
//! Interposed are `write`, `pwrite64`, `ftruncate64`, `unlink`, `fsync` and `fdatasync`. Nothing variadic is (`open`): paths are resolved at each call
//! through `/proc/self/fd`. Acknowledgements are what is written to standard output: one line each, logged *before* the real call. Writes are logged after
//! it. A sync is logged after it succeeded, together with the number of records at its start: what was written while it ran is not covered.
//!
//! It also lets calls fail: while the file that `POWER_CUT_FAULT` names says `sync <name>`, syncs of files of that name answer EIO; while it says
//! `space <name>`, writes to them answer ENOSPC; while it says `room <bytes>`, every file system has so many bytes free. One order a line.
//!
//! It does not see: mapped writes (keep `mmap_size` 0), renames, the creation of files, the file system's own journal.
//!
//! A record: kind (1 byte), length of the path (u16), of the data (u32), a number (u64; offset, size or covered records), path, data. Little endian.

#![allow(unreachable_pub, reason = "C functions are exported by their name")]

mod fault;
mod preload;

/// Kinds of records.
mod kind {
    /// Data at an offset.
    pub(crate) const WRITE: u8 = 1;
    /// A new size.
    pub(crate) const TRUNCATE: u8 = 2;
    /// The file is gone.
    pub(crate) const UNLINK: u8 = 3;
    /// A sync succeeded that covers the first so many records.
    pub(crate) const SYNC: u8 = 4;
    /// Said to others.
    pub(crate) const ACKNOWLEDGED: u8 = 5;
}
