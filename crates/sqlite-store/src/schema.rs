//! The tables, the file's identity and version, and how a connection is set up.
//!
//! | table | key | holds |
//! |---|---|---|
//! | `stream` | instance id | description, state (see `load`), and `deleted` |
//! | `m<id>` | sequence | one message a row (`row`) |
//! | `b<id>` | last sequence | one summary a row (`block`), and the hashes of its message ids |
//! | `i<id>` | index | the summaries that have message ids |
//! | `subjects` | stream · 2^24 + chunk · 2 + kind | chunks of the subject table (`subjects`): kind 0 texts, 1 states |
//! | `removal` | stream · 2^32 + number | what was removed from closed blocks since the stream's last checkpoint (`removal`) |
//! | `chunk` | id | pieces of payloads over 64 KiB (`row`) |
//! | `record` | opaque bytes | value, then CRC32C (little endian) of key and value |

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// "Trib": what `file` and this crate recognise the file by.
pub(crate) const APPLICATION_ID: i32 = 0x5472_6962;
/// Version of the tables and blobs. Older ones are migrated forward on open, step by step.
pub(crate) const VERSION: i32 = 1;
/// Bytes of a database page.
pub(crate) const PAGE: u64 = 4096;
/// Name of the database in its folder.
pub(crate) const FILE: &str = "store.db";
/// Bytes that leave a page are overwritten where it is written anyhow: no copy of a message stays behind when the engine moves rows about.
pub(crate) const FAST_ERASE: &str = "PRAGMA secure_delete = FAST";
/// And pages that become free are overwritten too, which costs writing them.
pub(crate) const WHOLE_ERASE: &str = "PRAGMA secure_delete = ON";
/// Connections of ours that are in each other's way wait so long at most.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE stream (id INTEGER PRIMARY KEY, deleted INTEGER NOT NULL, description BLOB NOT NULL, state BLOB NOT NULL, position BLOB NOT NULL);
CREATE TABLE subjects (key INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE removal (key INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE chunk (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE record (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
";

/// How safe a commit is. Anything but `Full` exists for the control of the power-cut test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Synced before the commit returns: only so does an acknowledgement mean stable storage.
    #[default]
    Full,
    /// A power cut loses the newest commits.
    Normal,
}

/// Opens a connection. `unix-excl` keeps other processes out and needs no shared-memory file, yet lets a second connection of ours in.
pub(crate) fn connect(path: &Path, cache_kib: u32) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, "unix-excl")?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // What remains of the log is worth more than the time a checkpoint on close would save.
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch(&format!(
        "PRAGMA page_size = {PAGE}; PRAGMA cache_size = -{cache_kib}; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON; {FAST_ERASE};"
    ))?;
    Ok(connection)
}

/// Makes a connection the writer: write-ahead log, synced commits.
pub(crate) fn make_writer(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    set_synchronous(connection, synchronous)?;
    connection.execute_batch("PRAGMA wal_autocheckpoint = 0;")
}

/// Whether SQLite syncs each commit itself. Not within a transaction.
pub(crate) fn set_synchronous(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    connection.execute_batch(match synchronous {
        Synchronous::Full => "PRAGMA synchronous = FULL;",
        Synchronous::Normal => "PRAGMA synchronous = NORMAL;",
    })
}

/// Creates the tables of a fresh file.
pub(crate) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    ))
}

/// What a file says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// No table yet.
    Fresh,
    /// Ours, of that version.
    Ours(i32),
    /// Something else.
    Foreign,
}

/// Looks at the file's marks.
pub(crate) fn identity(connection: &Connection) -> rusqlite::Result<Identity> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    Ok(match (application, version, tables) {
        (0, 0, 0) => Identity::Fresh,
        (APPLICATION_ID, 1.., _) => Identity::Ours(version),
        _ => Identity::Foreign,
    })
}

/// Brings an older file forward, one version at a time, each step in a transaction of its own.
pub(crate) fn migrate(connection: &Connection, from: i32) -> rusqlite::Result<()> {
    // One arm per released version: `1 => "…; PRAGMA user_version = 2"`. There is only one so far.
    debug_assert!(from <= VERSION);
    let _ = connection;
    Ok(())
}

/// Creates the tables of a stream.
pub(crate) fn create_stream_tables(connection: &Connection, stream: u32) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS m{stream} (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
         CREATE TABLE IF NOT EXISTS b{stream} (last INTEGER PRIMARY KEY, data BLOB NOT NULL, ids BLOB);"
    ))?;
    index_ids(connection, stream)
}

/// Creates the index of the summaries with message ids, which files of early builds lack.
pub(crate) fn index_ids(connection: &Connection, stream: u32) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("CREATE INDEX IF NOT EXISTS i{stream} ON b{stream} (last) WHERE ids IS NOT NULL"))
}
