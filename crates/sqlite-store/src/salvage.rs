//! A damaged file: it is set aside under a name of its own, and every row in it that is whole goes into a fresh one. Rows are self-contained, so it
//! needs no agreement between them; where a part of a table can't be read, the walk goes on behind it.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use jetstream::identity::Sequence;

use crate::checkpoint::{decode_position, encode_position};
use crate::database::out_of_order;
use crate::open::{OpenError, Options, description_key};
use crate::row::{Row, decode_chunk};
use crate::{records, schema};

/// Rows per transaction.
const STEP: usize = 2_000;
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

/// Moves the damaged file away and fills a fresh one from it.
pub(crate) fn set_aside(folder: &Path, path: &Path, options: &Options) -> Result<(PathBuf, Salvaged), OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
    let aside = (1..)
        .map(|number| folder.join(format!("store.damaged-{number}")))
        .find(|path| !path.exists())
        .unwrap_or_default();
    std::fs::rename(path, &aside).map_err(unwritable)?;
    let log = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        PathBuf::from(name)
    };
    // There may be none.
    let _ = std::fs::rename(log(path), log(&aside));
    let mut salvaged = Salvaged::default();
    let fresh = open_fresh(path, options).map_err(|error| unwritable(std::io::Error::other(error.to_string())))?;
    let old = schema::connect(&aside, options.cache_kib).and_then(|old| {
        // Tolerates a schema of which parts can't be read.
        old.execute_batch("PRAGMA writable_schema = ON; PRAGMA cell_size_check = OFF;")?;
        Ok(old)
    });
    if let Ok(old) = old {
        let room = || (options.free_space)(folder).unwrap_or(u64::MAX) > options.reserve;
        let mut copy = Copy { old: &old, fresh: &fresh, salvaged: &mut salvaged, room: &room };
        copy.all().map_err(|error| unwritable(std::io::Error::other(error.to_string())))?;
    }
    Ok((aside, salvaged))
}

fn open_fresh(path: &Path, options: &Options) -> rusqlite::Result<Connection> {
    let fresh = schema::connect(path, options.cache_kib)?;
    schema::make_writer(&fresh, options.synchronous)?;
    schema::create(&fresh)?;
    Ok(fresh)
}

/// Stores a row in the fresh file, and answers whether it was whole.
type Keep<'a> = &'a mut dyn FnMut(&Connection, i64, &[u8]) -> rusqlite::Result<bool>;

struct Copy<'a> {
    old: &'a Connection,
    fresh: &'a Connection,
    salvaged: &'a mut Salvaged,
    room: &'a dyn Fn() -> bool,
}

impl Copy<'_> {
    fn all(&mut self) -> rusqlite::Result<()> {
        self.records()?;
        let mut streams = self.names();
        streams.extend(self.ids());
        streams.sort_unstable();
        streams.dedup();
        for stream in streams {
            self.stream(stream)?;
        }
        self.rows("chunk", "id", &mut |fresh, id, blob| {
            let whole = decode_chunk(id as u64, blob).is_some();
            if whole {
                fresh.prepare_cached("INSERT OR IGNORE INTO chunk VALUES (?, ?)")?.execute((id, blob))?;
            }
            Ok(whole)
        })?;
        Ok(())
    }

    /// Records: from both ends, because one can't step over a damaged part by key.
    fn records(&mut self) -> rusqlite::Result<()> {
        self.fresh.execute_batch("BEGIN")?;
        for order in ["ASC", "DESC"] {
            let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let walked = self.old.prepare(&format!("SELECT key, value FROM record ORDER BY key {order}")).and_then(
                |mut statement| {
                    let mut rows = statement.query([])?;
                    while let Some(row) = rows.next()? {
                        let key: Vec<u8> = row.get(0)?;
                        if found.last().is_some_and(|(last, _)| (*last < key) != (order == "ASC")) {
                            return Err(out_of_order());
                        }
                        found.push((key, row.get(1)?));
                    }
                    Ok(())
                },
            );
            for (key, value) in found {
                if records::opened(&key, &value).is_some() {
                    let inserted = self
                        .fresh
                        .prepare_cached("INSERT OR IGNORE INTO record VALUES (?, ?)")?
                        .execute((key, value))?;
                    self.salvaged.records += inserted as u64;
                } else {
                    self.salvaged.damaged += 1;
                }
            }
            if walked.is_ok() {
                break;
            }
            self.salvaged.unreadable += 1;
        }
        self.fresh.execute_batch("COMMIT")
    }

    /// Streams whose tables the schema names.
    fn names(&self) -> Vec<u32> {
        let mut streams = Vec::new();
        let _ = self.old.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                streams.extend(name.strip_prefix('m').and_then(|id| id.parse::<u32>().ok()));
            }
            Ok(())
        });
        streams
    }

    /// Streams that the records name.
    fn ids(&self) -> Vec<u32> {
        let mut streams = Vec::new();
        let prefix = description_key(0);
        let prefix = &prefix[..prefix.len() - 4];
        let _ = self.fresh.prepare("SELECT key FROM record").and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let key = row.get_ref(0)?.as_blob()?;
                let id = key.strip_prefix(prefix).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes);
                streams.extend(id);
            }
            Ok(())
        });
        streams
    }

    fn stream(&mut self, id: u32) -> rusqlite::Result<()> {
        let known = self.old.query_row("SELECT deleted, description, position FROM stream WHERE id = ?", [id], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
        });
        if matches!(known, Ok((deleted, _, _)) if deleted == 1) {
            return Ok(());
        }
        let (_, description, position) = known.unwrap_or_default();
        schema::create_stream_tables(self.fresh, id)?;
        let mut last = decode_position(&position).unwrap_or_default().0.0;
        let insert = format!("INSERT OR IGNORE INTO m{id} VALUES (?, ?)");
        let mut messages = 0;
        self.rows(&format!("m{id}"), "seq", &mut |fresh, sequence, blob| {
            let whole = Row::decode(sequence as u64, blob).is_some_and(|row| row.stream == id);
            if whole {
                fresh.prepare_cached(&insert)?.execute((sequence, blob))?;
                last = last.max(sequence as u64);
                messages += 1;
            }
            Ok(whole)
        })?;
        let time = decode_position(&position).unwrap_or_default().1;
        let position = encode_position(Sequence(last.saturating_add(SEQUENCES_SKIPPED)), time);
        // An empty state makes the opening build it from the rows.
        let nothing: &[u8] = &[];
        self.fresh.execute("INSERT INTO stream VALUES (?, 0, ?, ?, ?)", (id, description, nothing, position))?;
        self.salvaged.streams += 1;
        self.salvaged.messages += messages;
        Ok(())
    }

    /// Walks a table by its integer key, stepping over what can't be read.
    fn rows(&mut self, table: &str, key: &str, keep: Keep<'_>) -> rusqlite::Result<()> {
        let sql = format!("SELECT {key}, data FROM {table} WHERE {key} >= ? ORDER BY {key} LIMIT {STEP}");
        let mut from = 0i64;
        let mut skip = 1i64;
        loop {
            if !(self.room)() {
                self.salvaged.out_of_room = true;
                return Ok(());
            }
            let mut batch: Vec<(i64, Vec<u8>)> = Vec::new();
            let walked = self.old.prepare_cached(&sql).and_then(|mut statement| {
                let mut rows = statement.query([from])?;
                while let Some(row) = rows.next()? {
                    let id: i64 = row.get(0)?;
                    if id < batch.last().map_or(from, |(last, _)| last.saturating_add(1)) {
                        return Err(out_of_order());
                    }
                    batch.push((id, row.get_ref(1)?.as_blob().map(<[u8]>::to_vec).unwrap_or_default()));
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
                Ok(()) if batch.len() < STEP => return Ok(()),
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
