//! Room on the disk: a floor of free space that messages never touch, and a really allocated file that can be given back when SQLite itself meets
//! a full disk.
//!
//! Free is what the file system has above the floor, and the database's own free pages, which are used first. It is looked at once per transaction and
//! every 256 KiB; in between what was promised is subtracted.

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};

use jetstream::store::{Space, StoreError};

use crate::database::Database;
use crate::schema;

/// Look again after so many bytes.
const LOOK_EVERY: u64 = 256 * 1024;
/// Free bytes below which the ballast is given back: a turn writes less.
const ROOM_TO_WRITE: u64 = 1 << 20;
/// Free bytes above the floor that are more than enough.
const PLENTY: u64 = 32 << 20;
/// Turns between two looks at the free space when nothing else asks for it.
const WATCH_EVERY: u32 = 64;
/// Name of the ballast.
pub(crate) const BALLAST: &str = "store.ballast";

/// Asks for the free bytes of a folder's file system; `None` when that can't be told.
pub type FreeSpace = Box<dyn Fn(&Path) -> Option<u64> + Send>;

/// See the module.
pub(crate) struct SpaceGuard {
    folder: PathBuf,
    free_space: FreeSpace,
    /// The floor.
    reserve: u64,
    ballast: u64,
    /// Bytes that may still be promised before the next look.
    left: u64,
    /// Promised since the last look.
    promised: u64,
    looked: bool,
    ballast_stands: Cell<bool>,
    /// Free pages of the database at the last look, in bytes.
    pages: Cell<u64>,
    /// Calls of [`SpaceGuard::watch`].
    turns: Cell<u32>,
}

impl std::fmt::Debug for SpaceGuard {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SpaceGuard").field("reserve", &self.reserve).field("left", &self.left).finish_non_exhaustive()
    }
}

impl SpaceGuard {
    pub(crate) fn new(folder: &Path, free_space: FreeSpace, reserve: u64, ballast: u64) -> SpaceGuard {
        SpaceGuard {
            folder: folder.to_owned(),
            free_space,
            reserve,
            ballast,
            left: 0,
            promised: 0,
            looked: false,
            ballast_stands: Cell::new(false),
            pages: Cell::new(0),
            turns: Cell::new(0),
        }
    }

    /// May a message of that size be stored?
    pub(crate) fn admit(&mut self, db: &Database, size: u64) -> Result<(), StoreError> {
        // Row, page and log overhead: twice the message, and half a page.
        let needed = size * 2 + 2048;
        if !self.looked || self.promised >= LOOK_EVERY {
            self.look(db)?;
        }
        if needed > self.left {
            // Never answered from memory: room may have been made.
            self.look(db)?;
            if needed > self.left {
                return Err(StoreError::Full);
            }
        }
        // Half a page each would starve a batch of small ones: only the first reckons with it.
        let promised = size * 2;
        self.left -= promised.min(self.left);
        self.promised += promised;
        Ok(())
    }

    /// May messages of so many bytes be stored, one after the other?
    pub(crate) fn has_room(&mut self, db: &Database, bytes: u64) -> Result<bool, StoreError> {
        self.look(db)?;
        Ok(bytes.saturating_mul(2).saturating_add(LOOK_EVERY) <= self.left)
    }

    /// The next message looks again: a transaction ended.
    pub(crate) fn forget(&mut self) {
        self.looked = false;
    }

    fn look(&mut self, db: &Database) -> Result<(), StoreError> {
        let free = self.free_or_ballast().saturating_sub(self.reserve);
        self.pages.set(db.number("PRAGMA freelist_count", [])?.unwrap_or(0) * schema::PAGE);
        self.left = free.saturating_add(self.pages.get());
        self.promised = 0;
        self.looked = true;
        Ok(())
    }

    /// Free bytes. When they are nearly gone, the ballast is given back before a commit meets a full disk: acknowledgements and whatever makes room
    /// still have to be written.
    fn free_or_ballast(&self) -> u64 {
        let free = (self.free_space)(&self.folder).unwrap_or(u64::MAX);
        if free < ROOM_TO_WRITE && self.ballast_stands.get() {
            self.release_ballast();
        }
        free
    }

    /// May room be taken for no other reason than speed?
    pub(crate) fn is_plenty(&self) -> bool {
        (self.free_space)(&self.folder).is_none_or(|free| free > self.reserve + PLENTY)
    }

    /// Call between turns: others fill disks, too, while nothing is published here.
    pub(crate) fn watch(&self) {
        let turns = self.turns.get().wrapping_add(1);
        self.turns.set(turns);
        if turns % WATCH_EVERY == 1 {
            self.free_or_ballast();
        }
        self.restore_ballast();
    }

    /// What is known, with a fresh look at the files' sizes.
    pub(crate) fn space(&self) -> Space {
        let size = |name: &str| std::fs::metadata(self.folder.join(name)).map_or(0, |metadata| metadata.len());
        let used = size(schema::FILE) + size(&format!("{}-wal", schema::FILE)) + size(BALLAST);
        let free = (self.free_space)(&self.folder).unwrap_or(u64::MAX).saturating_sub(self.reserve);
        let available = if self.looked { self.left } else { free.saturating_add(self.pages.get()) };
        Space { used, available }
    }

    /// Gives the ballast back to the file system; `true` when there was one.
    pub(crate) fn release_ballast(&self) -> bool {
        let released = std::fs::remove_file(self.folder.join(BALLAST)).is_ok();
        self.ballast_stands.set(false);
        if released {
            tracing::warn!(folder = %self.folder.display(), "the disk is full: the store's ballast was released");
        }
        released
    }

    /// Allocates the ballast when it is missing and there is room for it twice.
    pub(crate) fn restore_ballast(&self) {
        if self.ballast == 0 || self.ballast_stands.get() {
            return;
        }
        let path = self.folder.join(BALLAST);
        let free = (self.free_space)(&self.folder).unwrap_or(0);
        if !path.exists() && free < self.reserve + 2 * self.ballast {
            return;
        }
        self.ballast_stands.set(true);
        if path.metadata().is_ok_and(|metadata| metadata.len() == self.ballast) {
            return;
        }
        // Without it the store still works: the floor is the first line.
        if let Err(error) = File::create(&path).and_then(|file| allocate(&file, self.ballast)) {
            tracing::warn!(path = %path.display(), %error, "the store's ballast could not be allocated");
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Call before a store is opened: a disk that is full to the last byte must not keep it from that.
pub(crate) fn make_room(folder: &Path, free_space: &FreeSpace) {
    if free_space(folder).is_some_and(|free| free < ROOM_TO_WRITE) && std::fs::remove_file(folder.join(BALLAST)).is_ok()
    {
        tracing::warn!(folder = %folder.display(), "the disk is full: the store's ballast was released to open it");
    }
}

/// Free bytes for unprivileged writers, by statvfs.
#[must_use]
pub fn free_space(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends with NUL and lives through the call; `found` is read only after the call says that it was filled.
    #[allow(unsafe_code)]
    let found = unsafe {
        if libc::statvfs(path.as_ptr(), found.as_mut_ptr()) != 0 {
            return None;
        }
        found.assume_init()
    };
    // The fields' widths differ between targets.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    Some((found.f_bavail as u64).saturating_mul(found.f_frsize as u64))
}

/// Really allocates a file's bytes.
fn allocate(file: &File, length: u64) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let length = libc::off_t::try_from(length).map_err(std::io::Error::other)?;
    // SAFETY: the descriptor is open for the duration of the call; nothing else is touched.
    #[allow(unsafe_code)]
    let code = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
    if code == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(code)) }
}
