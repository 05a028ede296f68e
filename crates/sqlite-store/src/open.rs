//! Opening: lock the folder, open or create the file, migrate it, load the streams. Whatever the file contains, it opens: what is damaged is set
//! aside, what is readable in it carried over, and the report says what was lost.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use jetstream::store::StoreError;

use crate::database::{Database, SUSPECT, tells_damage};
use crate::fetch::Slices;
use crate::forgetting::Forgetting;
use crate::load::{self, StreamRow};
use crate::lock::FolderLock;
use crate::reader::{Job, Reader};
use crate::ring::Ring;
use crate::salvage::{self, Salvaged};
use crate::schema::{self, Identity, Synchronous};
use crate::space::{FreeSpace, SpaceGuard, free_space};
use crate::store::SqliteStore;
use crate::wal::{EarlySync, Wal};
use crate::{clear, records, space};

/// How a store is opened. [`Options::default`] is what the edge uses.
pub struct Options {
    /// SQLite's page cache of the writer, KiB. The reader has a quarter of it.
    pub cache_kib: u32,
    /// Free bytes of the file system that messages never touch.
    pub reserve: u64,
    /// Bytes of the ballast file; 0: none.
    pub ballast: u64,
    /// Bytes of the ring of newest rows.
    pub ring: usize,
    /// How safe a commit is.
    pub synchronous: Synchronous,
    /// Called on the reader thread when it has something; `None`: no such thread, backlog is read in place.
    pub wake: Option<Box<dyn Fn() + Send>>,
    /// Asks for free space.
    pub free_space: FreeSpace,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cache_kib: 1024,
            reserve: 64 << 20,
            ballast: 4 << 20,
            ring: 1 << 20,
            synchronous: Synchronous::Full,
            wake: None,
            free_space: Box::new(free_space),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Options")
            .field("reserve", &self.reserve)
            .field("ballast", &self.ballast)
            .finish_non_exhaustive()
    }
}

/// Why a store can't be opened. Nothing of this is about what the file contains.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Folder or file can't be created or written: permissions, read-only file system, wrong path.
    #[error("{} can't be written: {source}; check its owner and mode, and that the file system is not read-only", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the store in {} is in use by {holder}; stop it, or give this one a store_dir of its own", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// What the holder wrote: `process <id>`.
        holder: String,
    },
    /// Written by a newer release.
    #[error("the store in {} has format {found}, this release reads up to {}; install the newer release again", folder.display(), schema::VERSION)]
    TooNew {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: i32,
    },
    /// The disk failed while opening.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One thing that was not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The whole file was set aside, and what was readable carried over.
    SetAside {
        /// Where it is now.
        file: PathBuf,
        /// What was wrong with it.
        reason: String,
        /// What could be carried over.
        salvaged: Salvaged,
    },
    /// Rows at a stream's end that were not what was written; they were removed.
    Rows {
        /// The stream.
        stream: u32,
        /// How many.
        rows: u64,
    },
    /// A stream's counters and summaries were built anew from its rows.
    Rebuilt {
        /// The stream.
        stream: u32,
    },
    /// A stream's description was not what was written; a copy was used, or there is none.
    Description {
        /// The stream.
        stream: u32,
        /// The copy was whole.
        restored: bool,
    },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Damage::SetAside { file, reason, salvaged } => {
                write!(out, "the file was damaged ({reason}) and is set aside as {}; {salvaged}", file.display())
            }
            Damage::Rows { stream, rows } => {
                write!(out, "{rows} of the newest messages of stream number {stream} were damaged and are lost")
            }
            Damage::Rebuilt { stream } => write!(
                out,
                "counters and summaries of stream number {stream} were damaged and have been made anew from its messages"
            ),
            Damage::Description { stream, restored: true } => {
                write!(
                    out,
                    "the configuration of stream number {stream} was damaged and has been restored from its copy"
                )
            }
            Damage::Description { stream, restored: false } => {
                write!(
                    out,
                    "the configuration of stream number {stream} is lost; its messages are kept as RECOVERED_{stream}"
                )
            }
        }
    }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// There was no store before.
    pub created: bool,
    /// The last process did not close it. Its rows are being looked through in the background.
    pub unclean: bool,
    /// Streams found.
    pub streams: usize,
    /// Messages found.
    pub messages: u64,
    /// What was lost or repaired.
    pub damage: Vec<Damage>,
}

/// Why an attempt failed.
enum Trouble {
    Fatal(OpenError),
    Damaged(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        match error {
            StoreError::Damaged(reason) => Trouble::Damaged(reason),
            error => Trouble::Fatal(error.into()),
        }
    }
}

impl SqliteStore {
    /// Opens the store in a folder, or creates it.
    ///
    /// # Errors
    /// When the folder can't be written, is in use, or holds the format of a newer release. Never because of what is in the file.
    pub fn open(folder: &Path, options: Options) -> Result<(SqliteStore, OpenReport), OpenError> {
        std::fs::create_dir_all(folder).map_err(|source| OpenError::Unwritable { path: folder.to_owned(), source })?;
        let lock = FolderLock::take(folder)?;
        let mut report = OpenReport { unclean: lock.unclean, ..OpenReport::default() };
        space::make_room(folder, &options.free_space);
        let path = folder.join(schema::FILE);
        if let Some((file, salvaged)) = salvage::resume(folder, &path, &options)? {
            let reason = "carrying over what is readable in it was interrupted".into();
            report.damage.push(Damage::SetAside { file, reason, salvaged });
        }
        let opened = match attempt(folder, &path, &options, &mut report) {
            Err(Trouble::Damaged(reason)) => {
                let (file, salvaged) = salvage::set_aside(folder, &path, &options)?;
                report.damage.push(Damage::SetAside { file, reason, salvaged });
                attempt(folder, &path, &options, &mut report)
            }
            opened => opened,
        };
        let (db, wal, ring, loaded) = opened.map_err(|trouble| match trouble {
            Trouble::Fatal(error) => error,
            Trouble::Damaged(reason) => {
                StoreError::Damaged(format!("the salvaged store can't be read either: {reason}")).into()
            }
        })?;
        // Only now: a crash in between looks again.
        let _ = std::fs::remove_file(folder.join(SUSPECT));
        let (streams, deleting) = loaded;
        let reader = match options.wake {
            Some(wake) => {
                let reader = Reader::start(&path, (options.cache_kib / 4).max(64), wake);
                Some(reader.map_err(|error| StoreError::Failed(format!("the reader thread can't start: {error}")))?)
            }
            None => None,
        };
        report.streams = streams.len();
        report.messages = streams.iter().map(|stream| stream.state.messages).sum();
        if let Some(reader) = reader.as_ref().filter(|_| lock.unclean && !report.created) {
            reader.ask(Job::Check(streams.iter().map(|stream| stream.id).collect()));
        }
        let space = SpaceGuard::new(folder, options.free_space, options.reserve, options.ballast);
        space.restore_ballast();
        let erasing = streams.iter().filter(|stream| stream.erased > 0).map(|stream| stream.id).collect();
        let store = SqliteStore {
            reader,
            _cut: wal.cut(&db.health),
            wal,
            db,
            streams: streams.into_iter().map(|stream| (stream.id, stream)).collect(),
            ring,
            pending_from: None,
            slices: Slices::default(),
            space,
            touched: Vec::new(),
            deleting,
            erasing,
            unsettled: false,
            syncs_apart: false,
            may_sync_apart: options.synchronous == Synchronous::Full,
            // A kill may have come between an erasure and the emptying of the log.
            forgetting: Forgetting::new(lock.unclean),
            told: 0,
            scratch: Vec::new(),
            lock,
        };
        Ok((store, report))
    }
}

type Loaded = (Vec<crate::stream::Stream>, Vec<u32>);

fn attempt(
    folder: &Path,
    path: &Path,
    options: &Options,
    report: &mut OpenReport,
) -> Result<(Database, Wal, Ring, Loaded), Trouble> {
    let sort = |error: rusqlite::Error| sort_error(path, &error);
    let synced = EarlySync::start(path)
        .map_err(|error| Trouble::Fatal(StoreError::Failed(format!("the log can't be synced: {error}")).into()))?;
    let mut connection = schema::connect(path, options.cache_kib).map_err(sort)?;
    let identity = schema::identity(&connection).map_err(sort)?;
    schema::make_writer(&connection, options.synchronous).map_err(sort)?;
    match identity {
        Identity::Fresh => {
            create(&connection, folder).map_err(sort)?;
            report.created = report.damage.is_empty();
        }
        Identity::Foreign => return Err(Trouble::Damaged("it does not say that it is a store of ours".into())),
        Identity::Ours(marked) => {
            // The mark in the file's header has no checksum; the record has.
            let version = read_version(&connection).map_err(sort)?.unwrap_or(marked);
            if version > schema::VERSION {
                return Err(Trouble::Fatal(OpenError::TooNew { folder: folder.to_owned(), found: version }));
            }
            schema::migrate(&connection, version).map_err(sort)?;
        }
    }
    if folder.join(SUSPECT).exists() {
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sort)?;
        if verdict != "ok" {
            return Err(Trouble::Damaged(verdict));
        }
    }
    let mut wal = Wal::new(&mut connection, path).map_err(sort)?;
    let mut db = Database::new(connection, folder);
    let ring = Ring::new(options.ring);
    db.next_chunk = db.number("SELECT max(id) FROM chunk", [])?.map_or(1, |id| id + 1);
    let loaded = load_streams(&mut db, &ring, folder.join(SUSPECT).exists(), report)?;
    wal.opened(&db.connection, synced).map_err(|error| Trouble::Fatal(StoreError::Failed(error.to_string()).into()))?;
    Ok((db, wal, ring, loaded))
}

fn create(connection: &Connection, folder: &Path) -> rusqlite::Result<()> {
    schema::create(connection)?;
    let version = records::sealed(VERSION_KEY, &schema::VERSION.to_le_bytes());
    connection.execute("INSERT INTO record VALUES (?, ?)", (VERSION_KEY, version))?;
    // The file's name in its folder must be as durable as its contents.
    if let Ok(folder) = std::fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Keys of the store's own records begin with 0, which is no one's space.
const VERSION_KEY: &[u8] = b"\0version";

/// Key of the copy of a stream's description.
pub(crate) fn description_key(stream: u32) -> Vec<u8> {
    [b"\0description".as_slice(), &stream.to_be_bytes()].concat()
}

fn read_version(connection: &Connection) -> rusqlite::Result<Option<i32>> {
    let mut statement = connection.prepare("SELECT value FROM record WHERE key = ?")?;
    let mut rows = statement.query([VERSION_KEY])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let version = records::opened(VERSION_KEY, row.get_ref(0)?.as_blob()?).and_then(|value| value.try_into().ok());
    Ok(version.map(i32::from_le_bytes))
}

fn load_streams(db: &mut Database, ring: &Ring, suspect: bool, report: &mut OpenReport) -> Result<Loaded, StoreError> {
    let mut rows = Vec::new();
    let mut deleting = Vec::new();
    db.query("SELECT id, deleted, description, state, position FROM stream ORDER BY id", [], |row| {
        let id: u32 = row.get(0)?;
        if row.get::<_, i64>(1)? != 0 {
            deleting.push(id);
        } else {
            rows.push(StreamRow { id, description: row.get(2)?, state: row.get(3)?, position: row.get(4)?, erased: 0 });
        }
        Ok(true)
    })?;
    let indexed = indexed_streams(db)?;
    let mut streams = Vec::new();
    for mut row in rows {
        let id = row.id;
        if !indexed.contains(&id) {
            schema::index_ids(&db.connection, id).map_err(|error| db.health.failed(&error))?;
        }
        row.erased = records::get(db, &clear::mark_key(id))?.map_or(0, |mark| clear::decode_mark(&mark));
        let key = description_key(id);
        match records::opened(&key, &row.description).map(<[u8]>::to_vec) {
            Some(description) => row.description = description,
            None => {
                let copy = records::get(db, &key)?;
                report.damage.push(Damage::Description { stream: id, restored: copy.is_some() });
                row.description = copy.unwrap_or_default();
            }
        }
        let loaded = if suspect { load::rebuild(db, ring, row)? } else { load::load(db, ring, row)? };
        if loaded.damaged_rows > 0 {
            report.damage.push(Damage::Rows { stream: id, rows: loaded.damaged_rows });
        }
        if loaded.rebuilt && !suspect && report.damage.is_empty() {
            report.damage.push(Damage::Rebuilt { stream: id });
        }
        streams.push(loaded.stream);
    }
    Ok((streams, deleting))
}

/// Streams whose summaries with message ids have an index.
fn indexed_streams(db: &Database) -> Result<BTreeSet<u32>, StoreError> {
    let mut streams = BTreeSet::new();
    db.query("SELECT name FROM sqlite_master WHERE type = 'index'", [], |row| {
        streams.extend(row.get_ref(0)?.as_str()?.strip_prefix('i').and_then(|id| id.parse::<u32>().ok()));
        Ok(true)
    })?;
    Ok(streams)
}

/// Whose matter is an error met while opening?
fn sort_error(path: &Path, error: &rusqlite::Error) -> Trouble {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            Trouble::Fatal(OpenError::Unwritable { path: path.to_owned(), source: io::Error::other(error.to_string()) })
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Fatal(OpenError::InUse {
            folder: path.parent().unwrap_or(path).to_owned(),
            holder: "another program that opened the file itself".into(),
        }),
        Some(ErrorCode::DiskFull) => {
            Trouble::Fatal(OpenError::Unwritable { path: path.to_owned(), source: io::Error::other("no space left") })
        }
        _ if tells_damage(error) => Trouble::Damaged(error.to_string()),
        // Out of memory, a disk that can't be written: nothing of it is the file's fault.
        _ => Trouble::Fatal(StoreError::Failed(error.to_string()).into()),
    }
}

/// Files that belong to a store, for whoever moves or measures it.
pub const FILES: [&str; 2] = [schema::FILE, space::BALLAST];
