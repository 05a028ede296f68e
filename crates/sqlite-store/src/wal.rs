//! The write-ahead log: kept at some 4 MiB and reused, not truncated (a growing log costs two flushes a commit, a reused one costs one), except after a message
//! was to be erased, of which it may hold a copy.
//!
//! At 3 MiB the reader thread writes the log back and syncs the database (a passive checkpoint, while commits go on); when it is done the writer does the
//! small rest itself, between two turns, and its next transaction begins at the log's start again. Should readers keep that from happening, the writer tries
//! again every MiB. At 16 MiB the writer waits for the reader thread: a log that grows faster than it is written back fills the disk.
//!
//! Until it has that length, [`Wal::run_ahead`] writes zeros behind its end: a commit that overwrites needs one flush, one that makes the file longer has the
//! file system's journal synced as well, which takes twice the time and the CPU. A frame of zeros ends the log as its end does.
//!
//! After a failed commit the tail of the log can't be believed: the page cache may hold frames with good checksums that never reached the disk.
//! [`WalCut`] cuts them off once the connections are closed: what lies behind the last synced commit, or all of it when the log had just been
//! restarted (which happens only when everything in it is in the database, synced).

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use jetstream::store::SyncJob;
use rusqlite::Connection;

use crate::database::Health;
use crate::schema;

/// Pages in the log at which it is written back: 3 of 4 MiB.
const CHECKPOINT_PAGES: i32 = 768;
/// Pages between two attempts of the writer.
const RETRY_PAGES: i32 = 256;
/// Pages of grace for the house-keeping to do the rest when no acknowledgement waits; an owner that does none has it done by its commits.
const GRACE_PAGES: i32 = 256;
/// Pages at which the writer waits for the reader thread: 16 MiB.
const MOST_PAGES: i32 = 4096;
/// What the log is kept at.
const KEPT: u64 = 4 << 20;
/// How far it is written ahead at once.
const AHEAD: usize = 256 << 10;
/// SQLite's header of the log, and of each frame in it.
const LOG_HEADER: u64 = 32;
const FRAME: u64 = 24 + schema::PAGE;
/// Where a frame repeats the header's salt.
const FRAME_SALT: u64 = 8;

/// State of the log as the writer sees it.
#[derive(Debug)]
pub(crate) struct Wal {
    path: PathBuf,
    /// Kept open: its header is read after each commit.
    log: Option<Arc<File>>,
    /// Its length, as far as we know of it.
    length: u64,
    pages: Arc<AtomicI32>,
    seen: i32,
    asked: bool,
    /// The writer's turn, once the log has so many pages.
    rest_at: Option<i32>,
    good: Rc<Cell<Good>>,
}

/// The last synced commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Good {
    known: bool,
    pages: i32,
    /// `None`: there was nothing in the log yet.
    salt: Option<[u8; 8]>,
}

/// What is to be done after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Ask the reader thread to write the log back.
    Background,
    /// Write the rest back here.
    Here,
}

impl Wal {
    pub(crate) fn new(connection: &mut Connection, database: &Path) -> rusqlite::Result<Wal> {
        let pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            seen.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Wal {
            path: log_of(database),
            log: None,
            length: 0,
            pages,
            seen: 0,
            asked: false,
            rest_at: None,
            good: Rc::default(),
        })
    }

    /// Call once the store is opened: what was found in the log is synced by then, so that a failure of the very first commit has something to be cut back to.
    pub(crate) fn opened(&mut self, connection: &Connection, synced: EarlySync) -> rusqlite::Result<()> {
        let failed = |error: std::io::Error| {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
            rusqlite::Error::SqliteFailure(code, Some(format!("the log can't be synced: {error}")))
        };
        synced.wait().map_err(failed)?;
        let pages: i32 = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))?;
        self.seen = pages.max(0);
        let salt = self.salt();
        self.good.set(Good { known: true, pages: self.seen, salt });
        Ok(())
    }

    fn salt(&mut self) -> Option<[u8; 8]> {
        if self.log.is_none() {
            self.log = OpenOptions::new().read(true).write(true).open(&self.path).ok().map(Arc::new);
        }
        salt_of(self.log.as_ref()?)
    }

    /// May commits be synced by us? While the log is being written back they may not: SQLite shows the reader what we have not synced yet, and should that fail,
    /// the database would hold what the log is cut off from.
    pub(crate) fn may_sync_apart(&mut self) -> bool {
        !self.asked && self.salt().is_some()
    }

    /// Syncs what is in the log, on whatever thread. `None`: it was never open.
    pub(crate) fn sync_job(&self) -> Option<SyncJob> {
        let log = Arc::clone(self.log.as_ref()?);
        Some(Box::new(move || log.sync_data()))
    }

    /// Call after each commit.
    pub(crate) fn committed(&mut self, background: bool) -> Due {
        let pages = self.pages.load(Ordering::Relaxed);
        // At each commit: a restart shows in nothing else for sure, and a log cut by the wrong salt would lose what was synced.
        let salt = self.salt();
        if salt != self.good.get().salt {
            self.rest_at = None;
        }
        self.seen = pages;
        self.good.set(Good { known: salt.is_some() || pages == 0, pages, salt });
        if pages >= self.due_at() + GRACE_PAGES {
            return Due::Here;
        }
        if pages < CHECKPOINT_PAGES || self.asked || self.rest_at.is_some() {
            return Due::Nothing;
        }
        if background {
            self.asked = true;
            return Due::Background;
        }
        Due::Here
    }

    /// The reader thread could not be asked.
    pub(crate) fn not_asked(&mut self) {
        self.asked = false;
    }

    /// The reader thread is done.
    pub(crate) fn written_back(&mut self) {
        self.asked = false;
        self.rest_at = Some(self.seen);
    }

    /// Is it time for [`Wal::run_ahead`]?
    pub(crate) fn is_short(&self) -> bool {
        self.would_be_short(self.length)
    }

    fn would_be_short(&self, length: u64) -> bool {
        let end = LOG_HEADER + self.seen.max(0) as u64 * FRAME;
        self.seen > 0 && length < KEPT && length < end + AHEAD as u64 / 2
    }

    /// Makes the log longer than what is in it. Between two transactions; it is synced, so that the next commit need not do it.
    pub(crate) fn run_ahead(&mut self) -> std::io::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let length = log.metadata()?.len();
        if !self.would_be_short(length) {
            self.length = length;
            return Ok(());
        }
        // If it fails, it is not tried again before the log was emptied.
        self.length = KEPT;
        let more = (KEPT.saturating_sub(length) as usize).min(AHEAD);
        log.write_all_at(&vec![0; more], length)?;
        log.sync_data()?;
        self.length = length + more as u64;
        Ok(())
    }

    /// Does the writer's rest wait?
    pub(crate) fn rest_is_due(&self) -> bool {
        self.seen >= self.due_at()
    }

    fn due_at(&self) -> i32 {
        self.rest_at.unwrap_or(MOST_PAGES)
    }

    /// The reader thread is at it, or will be.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked
    }

    /// The writer did its part. The next transaction restarts the log, unless a reader is in it just then: so try again some pages later.
    pub(crate) fn rest_done(&mut self) {
        self.asked = false;
        self.rest_at = Some(self.seen + RETRY_PAGES);
    }

    /// The log was written back and emptied.
    pub(crate) fn emptied(&mut self) {
        (self.length, self.seen, self.asked, self.rest_at) = (0, 0, false, None);
        self.pages.store(0, Ordering::Relaxed);
        self.good.set(Good { known: true, pages: 0, salt: None });
    }

    /// The guard that cuts the log; to be dropped after the connections.
    pub(crate) fn cut(&self, health: &Rc<Health>) -> WalCut {
        WalCut { path: self.path.clone(), good: Rc::clone(&self.good), health: Rc::clone(health) }
    }
}

/// The sync of a log that an earlier process left, on a thread of its own while the store is being opened: after a kill it waits for everything that
/// process had written elsewhere in the file system's journal, too.
#[derive(Debug)]
pub(crate) struct EarlySync(Option<std::thread::JoinHandle<std::io::Result<()>>>);

impl EarlySync {
    /// Begins. To be called before anything is read from the log, and nothing but commits, which are synced themselves, may be written to it meanwhile.
    pub(crate) fn start(database: &Path) -> std::io::Result<EarlySync> {
        let Ok(log) = File::open(log_of(database)) else { return Ok(EarlySync(None)) };
        let thread = std::thread::Builder::new().name("store-sync".into());
        Ok(EarlySync(Some(thread.spawn(move || log.sync_data())?)))
    }

    /// Returns when it is synced.
    fn wait(self) -> std::io::Result<()> {
        match self.0 {
            Some(thread) => thread.join().unwrap_or_else(|_| Err(std::io::Error::other("its thread panicked"))),
            None => Ok(()),
        }
    }
}

fn log_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Cuts the log behind the last synced commit if the store was poisoned.
#[derive(Debug)]
pub(crate) struct WalCut {
    path: PathBuf,
    good: Rc<Cell<Good>>,
    health: Rc<Health>,
}

impl Drop for WalCut {
    fn drop(&mut self) {
        let good = self.good.get();
        if !self.health.poisoned() || !good.known {
            return;
        }
        if let Err(error) = cut(&self.path, good) {
            tracing::error!(path = %self.path.display(), %error, "the log could not be cut at the last synced commit");
        }
    }
}

fn cut(path: &Path, good: Good) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let same = good.salt.is_some() && salt_of(&file) == good.salt;
    let keep = if same { LOG_HEADER + good.pages.max(0) as u64 * FRAME } else { 0 };
    if file.metadata()?.len() > keep {
        file.set_len(keep)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Pages in the log behind the first `known` ones that belong to the same round as its header: after an orderly end there are none, unless the log
/// is damaged before them, which is where SQLite takes it to end.
pub(crate) fn pages_behind(log: &File, known: u64) -> u64 {
    // All zeros: nothing was ever written to it.
    let Some(salt) = salt_of(log).filter(|salt| *salt != [0; 8]) else { return 0 };
    let length = log.metadata().map_or(0, |metadata| metadata.len());
    let belongs = |page: &u64| {
        let mut found = [0; 8];
        let at = LOG_HEADER + page * FRAME + FRAME_SALT;
        log.read_exact_at(&mut found, at).is_ok() && found == salt
    };
    (known..length.saturating_sub(LOG_HEADER) / FRAME).filter(belongs).count() as u64
}

/// The salts in the log's header: other ones after each restart. Opening and closing the log is harmless; doing so with the database file would drop
/// SQLite's locks.
fn salt_of(log: &File) -> Option<[u8; 8]> {
    let mut salt = [0; 8];
    log.read_exact_at(&mut salt, 16).ok()?;
    Some(salt)
}
