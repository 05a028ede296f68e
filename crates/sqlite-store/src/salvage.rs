//! A damaged file: it is set aside under a name of its own, and every row in it that is whole goes into a fresh one. Rows are self-contained, so it
//! needs no agreement between them; where a part of a table can't be read, the walk goes on behind it, and what the walk could not reach is looked for
//! page by page (`rescue`).
//!
//! The fresh file has another name until it is complete. An opening that finds that name and no store goes on with the file set aside: a salvage that was
//! interrupted is done again.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use jetstream::identity::Sequence;

use crate::checkpoint::{decode_position, encode_position};
use crate::database::out_of_order;
use crate::open::{OpenError, Options, description_key};
use crate::row::{Row, decode_chunk};
use crate::{clear, records, schema, space};

/// Name of the fresh file until it is complete.
const UNFINISHED: &str = "store.salvaged";

/// Rows per transaction, and their bytes: what is held in memory.
const STEP: usize = 2_000;
const STEP_BYTES: usize = 1 << 20;
/// Streams that are believed to have been there: more than the store ever holds.
const MOST_STREAMS: usize = 1 << 16;
/// The tail of a damaged stream may be lost without a trace: its sequences are not given again.
const SEQUENCES_SKIPPED: u64 = 65_536;

/// What was carried over from a damaged file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Streams.
    pub streams: u64,
    /// Messages that were whole.
    pub messages: u64,
    /// Rows that were there and not whole.
    pub damaged: u64,
    /// Stretches of tables that could not be read; what they held is not known.
    pub unreadable: u64,
    /// Records.
    pub records: u64,
    /// The disk was too full to carry over the rest; it is in the file set aside.
    pub out_of_room: bool,
}

impl std::fmt::Display for Salvaged {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} messages of {} streams and {} records were carried over",
            self.messages, self.streams, self.records
        )?;
        if self.damaged > 0 {
            write!(out, ", {} rows were damaged", self.damaged)?;
        }
        if self.unreadable > 0 {
            write!(out, ", {} parts could not be read", self.unreadable)?;
        }
        if self.out_of_room {
            write!(out, "; the disk was too full for the rest")?;
        }
        Ok(())
    }
}

/// Moves the damaged file away and fills a fresh one from it.
pub(crate) fn set_aside(folder: &Path, path: &Path, options: &Options) -> Result<(PathBuf, Salvaged), OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
    let aside = (1..).map(|number| aside_name(folder, number)).find(|path| !path.exists()).unwrap_or_default();
    // From here on an interruption is noticed.
    File::create(folder.join(UNFINISHED)).map_err(unwritable)?;
    std::fs::rename(path, &aside).map_err(unwritable)?;
    let salvaged = fill(folder, path, &aside, options).map_err(unwritable)?;
    Ok((aside, salvaged))
}

/// Does again what was interrupted; `None` when nothing was.
pub(crate) fn resume(folder: &Path, path: &Path, options: &Options) -> Result<Option<(PathBuf, Salvaged)>, OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
    let unfinished = folder.join(UNFINISHED);
    if !unfinished.exists() {
        return Ok(None);
    }
    let newest = (1..).map(|number| aside_name(folder, number)).take_while(|path| path.exists()).last();
    let Some(aside) = newest.filter(|_| !path.exists()) else {
        std::fs::remove_file(&unfinished).map_err(unwritable)?;
        return Ok(None);
    };
    let salvaged = fill(folder, path, &aside, options).map_err(unwritable)?;
    Ok(Some((aside, salvaged)))
}

fn aside_name(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("store.damaged-{number}"))
}

/// The write-ahead log of a file.
pub(crate) fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Fills a fresh file from one set aside, and gives it its name.
fn fill(folder: &Path, path: &Path, aside: &Path, options: &Options) -> std::io::Result<Salvaged> {
    if log_of(path).exists() {
        // A log beside a fresh file would be taken for its own.
        std::fs::rename(log_of(path), log_of(aside))?;
    }
    let free = || (options.free_space)(folder).unwrap_or(u64::MAX);
    if free() <= options.reserve {
        // There may be none.
        let _ = std::fs::remove_file(folder.join(space::BALLAST));
    }
    let unfinished = folder.join(UNFINISHED);
    File::create(&unfinished)?;
    let mut salvaged = Salvaged::default();
    let fresh = open_fresh(&unfinished, options).map_err(std::io::Error::other)?;
    let old = schema::connect(aside, options.cache_kib).and_then(|old| {
        // Tolerates a schema of which parts can't be read.
        old.execute_batch("PRAGMA writable_schema = ON; PRAGMA cell_size_check = OFF;")?;
        Ok(old)
    });
    let room = || free() > options.reserve;
    let mut copy =
        Copy { old: old.ok(), fresh: &fresh, salvaged: &mut salvaged, room: &room, streams: BTreeMap::new() };
    match copy.all(aside) {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => salvaged.out_of_room = true,
        other => other.map_err(std::io::Error::other)?,
    }
    drop(fresh);
    File::open(&unfinished)?.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    File::open(folder)?.sync_all()?;
    Ok(salvaged)
}

/// It is worth nothing until it is complete, so nothing of it is synced or can be rolled back by a later opening.
fn open_fresh(path: &Path, options: &Options) -> rusqlite::Result<Connection> {
    let fresh = schema::connect(path, options.cache_kib)?;
    fresh.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))?;
    fresh.execute_batch("PRAGMA synchronous = OFF")?;
    schema::create(&fresh)?;
    Ok(fresh)
}

/// Stores a row in the fresh file, and answers whether it was whole.
type Keep<'a> = &'a mut dyn FnMut(&Connection, i64, &[u8]) -> rusqlite::Result<bool>;

/// What is known of a stream.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) deleted: bool,
    /// Sealed; empty when it was not found.
    pub(crate) description: Vec<u8>,
    pub(crate) position: Vec<u8>,
    /// What lies below was taken out of the stream.
    pub(crate) erased: u64,
    /// Highest sequence carried over.
    pub(crate) last: u64,
    /// Messages carried over.
    pub(crate) messages: u64,
    /// A record has its description.
    pub(crate) described: bool,
    /// It has its tables.
    pub(crate) made: bool,
}

pub(crate) struct Copy<'a> {
    /// `None`: it can't even be opened.
    old: Option<Connection>,
    pub(crate) fresh: &'a Connection,
    pub(crate) salvaged: &'a mut Salvaged,
    pub(crate) room: &'a dyn Fn() -> bool,
    pub(crate) streams: BTreeMap<u32, Known>,
}

impl Copy<'_> {
    fn all(&mut self, aside: &Path) -> rusqlite::Result<()> {
        if let Some(old) = self.old.take() {
            self.walk(&old)?;
        } else {
            self.salvaged.unreadable += 1;
        }
        if self.salvaged.unreadable > 0 {
            self.rescue(aside)?;
        }
        self.finish()
    }

    /// What the trees lead to.
    fn walk(&mut self, old: &Connection) -> rusqlite::Result<()> {
        self.records(old)?;
        if self.names(old).is_err() {
            self.salvaged.unreadable += 1;
        }
        self.ids()?;
        for stream in self.streams.keys().copied().collect::<Vec<_>>() {
            self.stream(old, stream)?;
        }
        self.rows(old, "chunk", "id", &mut |fresh, id, blob| {
            let whole = decode_chunk(id as u64, blob).is_some();
            if whole {
                fresh.prepare_cached("INSERT OR IGNORE INTO chunk VALUES (?, ?)")?.execute((id, blob))?;
            }
            Ok(whole)
        })
    }

    /// Records: from both ends, because one can't step over a damaged part by key.
    fn records(&mut self, old: &Connection) -> rusqlite::Result<()> {
        for order in ["ASC", "DESC"] {
            self.fresh.execute_batch("BEGIN")?;
            let walked = self.records_in(old, order);
            self.fresh.execute_batch("COMMIT")?;
            match walked {
                Ok(Ok(())) => break,
                Ok(Err(_)) => self.salvaged.unreadable += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The inner result is that of reading.
    fn records_in(&mut self, old: &Connection, order: &str) -> rusqlite::Result<rusqlite::Result<()>> {
        let mut statement = match old.prepare(&format!("SELECT key, value FROM record ORDER BY key {order}")) {
            Ok(statement) => statement,
            Err(error) => return Ok(Err(error)),
        };
        let mut before: Option<Vec<u8>> = None;
        let mut rows = statement.query([])?;
        loop {
            let record = match rows.next() {
                Ok(None) => return Ok(Ok(())),
                Ok(Some(row)) => row.get::<_, Vec<u8>>(0).and_then(|key| Ok((key, row.get::<_, Vec<u8>>(1)?))),
                Err(error) => Err(error),
            };
            let (key, value) = match record {
                Ok((key, _)) if before.as_ref().is_some_and(|before| (*before < key) != (order == "ASC")) => {
                    return Ok(Err(out_of_order()));
                }
                Ok(record) => record,
                Err(error) => return Ok(Err(error)),
            };
            if !self.keep_record(&key, &value)? {
                self.salvaged.damaged += 1;
            }
            before = Some(key);
        }
    }

    /// Carries a record over; `false` when it isn't whole.
    pub(crate) fn keep_record(&mut self, key: &[u8], value: &[u8]) -> rusqlite::Result<bool> {
        let whole = records::opened(key, value).is_some();
        if whole {
            let mut insert = self.fresh.prepare_cached("INSERT OR IGNORE INTO record VALUES (?, ?)")?;
            self.salvaged.records += insert.execute((key, value))? as u64;
        }
        Ok(whole)
    }

    /// Streams whose tables the schema names.
    fn names(&mut self, old: &Connection) -> rusqlite::Result<()> {
        let mut statement = old.prepare("SELECT name FROM sqlite_master WHERE type = 'table'")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if let Some(id) = name.strip_prefix('m').and_then(|id| id.parse().ok()) {
                self.known(id);
            }
        }
        Ok(())
    }

    /// What is known of a stream; `None` when that would be of too many.
    pub(crate) fn known(&mut self, id: u32) -> Option<&mut Known> {
        if self.streams.len() >= MOST_STREAMS && !self.streams.contains_key(&id) {
            return None;
        }
        Some(self.streams.entry(id).or_default())
    }

    /// Streams that the records carried over name, and the marks of those that were cleared.
    pub(crate) fn ids(&mut self) -> rusqlite::Result<()> {
        let prefix_of = |key: Vec<u8>| key[..key.len() - 4].to_vec();
        let (descriptions, marks) = (prefix_of(description_key(0)), prefix_of(clear::mark_key(0)));
        let fresh = self.fresh;
        let mut statement = fresh.prepare_cached("SELECT key, value FROM record WHERE key < x'01'")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let key = row.get_ref(0)?.as_blob()?;
            let id_behind =
                |prefix: &[u8]| key.strip_prefix(prefix).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes);
            if let Some(known) = id_behind(&descriptions).and_then(|id| self.known(id)) {
                known.described = true;
            }
            if let Some(known) = id_behind(&marks).and_then(|id| self.known(id)) {
                known.erased = records::opened(key, row.get_ref(1)?.as_blob()?).map_or(0, clear::decode_mark);
            }
        }
        Ok(())
    }

    /// A stream's row as it was found; the whole description and the furthest position count.
    pub(crate) fn describe(&mut self, id: u32, deleted: bool, description: &[u8], position: &[u8]) {
        let whole = records::opened(&description_key(id), description).is_some();
        let Some(known) = self.known(id) else { return };
        known.deleted |= deleted;
        if whole && known.description.is_empty() {
            known.description = description.to_vec();
        }
        let last = |position: &[u8]| decode_position(position).map(|(last, _)| last);
        if last(position) > last(&known.position) {
            known.position = position.to_vec();
        }
    }

    fn stream(&mut self, old: &Connection, id: u32) -> rusqlite::Result<()> {
        let row = old.query_row("SELECT deleted, description, position FROM stream WHERE id = ?", [id], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
        });
        match row {
            Ok((deleted, description, position)) => self.describe(id, deleted == 1, &description, &position),
            Err(rusqlite::Error::QueryReturnedNoRows) => {}
            Err(_) => self.salvaged.unreadable += 1,
        }
        let Some(known) = self.streams.get(&id).filter(|known| !known.deleted) else { return Ok(()) };
        let (erased, mut last, mut messages) = (known.erased, 0, 0);
        self.make(id)?;
        let insert = format!("INSERT OR IGNORE INTO m{id} VALUES (?, ?)");
        let walked = self.rows(old, &format!("m{id}"), "seq", &mut |fresh, sequence, blob| {
            let whole = Row::decode(sequence as u64, blob).is_some_and(|row| row.stream == id);
            if whole && sequence as u64 >= erased {
                fresh.prepare_cached(&insert)?.execute((sequence, blob))?;
                last = last.max(sequence as u64);
                messages += 1;
            }
            Ok(whole)
        });
        if let Some(known) = self.streams.get_mut(&id) {
            known.last = known.last.max(last);
            known.messages += messages;
        }
        walked
    }

    /// Gives a stream its tables.
    pub(crate) fn make(&mut self, id: u32) -> rusqlite::Result<()> {
        if let Some(known) = self.streams.get_mut(&id).filter(|known| !known.made) {
            schema::create_stream_tables(self.fresh, id)?;
            known.made = true;
        }
        Ok(())
    }

    /// Writes the streams' rows.
    fn finish(&mut self) -> rusqlite::Result<()> {
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            let there =
                |known: &&Known| !known.deleted && (known.made || known.described || !known.description.is_empty());
            if self.streams.get(&id).filter(there).is_none() {
                continue;
            }
            self.make(id)?;
            let Some(known) = self.streams.get(&id) else { continue };
            let (last, time) = decode_position(&known.position).unwrap_or_default();
            let last = last.0.max(known.last).saturating_add(SEQUENCES_SKIPPED).min(i64::MAX as u64);
            let position = encode_position(Sequence(last), time);
            // An empty state makes the opening build it from the rows.
            let row = (id, &known.description, &[] as &[u8], position);
            self.fresh.prepare_cached("INSERT INTO stream VALUES (?, 0, ?, ?, ?)")?.execute(row)?;
            self.salvaged.streams += 1;
            self.salvaged.messages += known.messages;
        }
        Ok(())
    }

    /// Walks a table by its integer key, stepping over what can't be read.
    fn rows(&mut self, old: &Connection, table: &str, key: &str, keep: Keep<'_>) -> rusqlite::Result<()> {
        let sql = format!("SELECT {key}, data FROM {table} WHERE {key} >= ? ORDER BY {key}");
        let mut from = 0i64;
        let mut skip = 1i64;
        loop {
            if !(self.room)() {
                self.salvaged.out_of_room = true;
                return Ok(());
            }
            let mut batch: Vec<(i64, Vec<u8>)> = Vec::new();
            let mut bytes = 0;
            let mut ended = true;
            let walked = old.prepare_cached(&sql).and_then(|mut statement| {
                let mut rows = statement.query([from])?;
                while let Some(row) = rows.next()? {
                    let id: i64 = row.get(0)?;
                    if id < batch.last().map_or(from, |(last, _)| last.saturating_add(1)) {
                        return Err(out_of_order());
                    }
                    let blob = row.get_ref(1)?.as_blob().map(<[u8]>::to_vec).unwrap_or_default();
                    bytes += blob.len();
                    batch.push((id, blob));
                    if batch.len() == STEP || bytes >= STEP_BYTES {
                        ended = false;
                        break;
                    }
                }
                Ok(())
            });
            self.fresh.execute_batch("BEGIN")?;
            for (id, blob) in &batch {
                if !keep(self.fresh, *id, blob)? {
                    self.salvaged.damaged += 1;
                }
            }
            self.fresh.execute_batch("COMMIT")?;
            if !batch.is_empty() {
                skip = 1;
            }
            let reached = batch.last().map_or(from, |(id, _)| *id);
            match walked {
                Ok(()) if ended => return Ok(()),
                Ok(()) => from = reached.saturating_add(1),
                Err(_) => {
                    self.salvaged.unreadable += u64::from(skip == 1);
                    from = reached.saturating_add(skip);
                    skip = skip.saturating_mul(2);
                    if from == i64::MAX {
                        return Ok(());
                    }
                }
            }
        }
    }
}
