//! The writing connection: the transaction, the statements, and what becomes of an error.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rusqlite::{CachedStatement, Connection, ErrorCode};

use jetstream::store::StoreError;

use crate::block::Block;
use crate::row;

/// Name of the mark that asks the next opening to check the whole file first.
pub(crate) const SUSPECT: &str = "store.suspect";

/// Whether the store can still be believed.
#[derive(Debug, Default)]
pub(crate) struct Health {
    poisoned: Cell<bool>,
    /// SQLite itself ran out of space.
    pub(crate) no_space: Cell<bool>,
    /// Damaged rows met since opening.
    pub(crate) damaged: Cell<u64>,
    folder: PathBuf,
}

impl Health {
    pub(crate) fn poisoned(&self) -> bool {
        self.poisoned.get()
    }

    pub(crate) fn poison(&self) {
        self.poisoned.set(true);
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.poisoned.get() {
            return Err(StoreError::Failed("an earlier error ended this instance; it must be opened anew".into()));
        }
        Ok(())
    }

    /// The file is not as it was written: this instance is done, and the next opening looks at the whole file and salvages what is in it.
    pub(crate) fn suspect(&self, reason: String) -> StoreError {
        self.poison();
        // If even this mark can't be written, it is found out again later.
        let _ = std::fs::write(self.folder.join(SUSPECT), b"");
        StoreError::Damaged(reason)
    }

    /// Turns an error of the engine into ours. Whatever it was, this instance is done.
    pub(crate) fn failed(&self, error: &rusqlite::Error) -> StoreError {
        self.poison();
        match error.sqlite_error_code() {
            _ if tells_damage(error) => self.suspect(error.to_string()),
            Some(ErrorCode::DiskFull) => {
                self.no_space.set(true);
                StoreError::Failed(format!("the disk is full: {error}"))
            }
            _ => StoreError::Failed(error.to_string()),
        }
    }
}

/// Does the error say that the file is not as it was written? Statements and tables are ours, so one that doesn't fit a table, a key that is there
/// already or a value of another type tell it as well as SQLite's own verdict; so does a part of the disk that can't be read.
pub(crate) fn tells_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ};
    match error {
        rusqlite::Error::SqliteFailure(failure, _) | rusqlite::Error::SqlInputError { error: failure, .. } => {
            match failure.code {
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::Unknown
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch => true,
                ErrorCode::SystemIoFailure => {
                    matches!(
                        failure.extended_code,
                        SQLITE_IOERR_READ | SQLITE_IOERR_SHORT_READ | SQLITE_IOERR_CORRUPTFS
                    )
                }
                _ => false,
            }
        }
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::QueryReturnedNoRows
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// Connection W.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) health: Rc<Health>,
    in_transaction: bool,
    /// Decoded summaries, by stream and last sequence.
    blocks: BTreeMap<(u32, u64), Rc<Block>>,
    /// Id of the next payload chunk.
    pub(crate) next_chunk: u64,
}

/// What a walk over a table answers when the keys don't ascend: a damaged tree can lead in circles.
pub(crate) fn out_of_order() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some("keys out of order".into()))
}

/// How many decoded summaries are kept, 12 KB each: what a key-value stream of 10,000 keys with some history walks over again and again.
const BLOCKS_KEPT: usize = 96;

impl Database {
    pub(crate) fn new(connection: Connection, folder: &Path) -> Database {
        let health = Rc::new(Health { folder: folder.to_owned(), ..Health::default() });
        Database { connection, health, in_transaction: false, blocks: BTreeMap::new(), next_chunk: 1 }
    }

    /// Begins a transaction unless one is open.
    pub(crate) fn begin(&mut self) -> Result<(), StoreError> {
        self.health.check()?;
        if !self.in_transaction {
            self.run("BEGIN IMMEDIATE", [])?;
            self.in_transaction = true;
        }
        Ok(())
    }

    pub(crate) fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Commits; synced when it returns, unless the store does that itself.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        if self.in_transaction {
            self.run("COMMIT", [])?;
            self.in_transaction = false;
        }
        Ok(())
    }

    /// A statement from the cache.
    pub(crate) fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>, StoreError> {
        self.connection.prepare_cached(sql).map_err(|error| self.health.failed(&error))
    }

    /// Runs a statement that changes something; answers how many rows.
    pub(crate) fn run(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<usize, StoreError> {
        self.prepare(sql)?.execute(parameters).map_err(|error| self.health.failed(&error))
    }

    /// Calls `each` for each row, until it answers false.
    pub(crate) fn query(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        mut each: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<bool>,
    ) -> Result<(), StoreError> {
        let mut statement = self.prepare(sql)?;
        let walk = || -> rusqlite::Result<()> {
            let mut rows = statement.query(parameters)?;
            while let Some(row) = rows.next()? {
                if !each(row)? {
                    break;
                }
            }
            Ok(())
        };
        walk().map_err(|error| self.health.failed(&error))
    }

    /// The number in the first column of the first row.
    pub(crate) fn number(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Option<u64>, StoreError> {
        let mut found = None;
        self.query(sql, parameters, |row| {
            found = row.get::<_, Option<i64>>(0)?.map(|value| value as u64);
            Ok(false)
        })?;
        Ok(found)
    }

    /// Writes the pieces of a large payload; answers the id of the first.
    pub(crate) fn insert_chunks(&mut self, payload: &[u8]) -> Result<u64, StoreError> {
        let first = self.next_chunk;
        for piece in payload.chunks(row::CHUNK) {
            let blob = row::encode_chunk(self.next_chunk, piece);
            self.run("INSERT INTO chunk VALUES (?, ?)", (self.next_chunk as i64, blob))?;
            self.next_chunk += 1;
        }
        Ok(first)
    }

    /// How thoroughly removed bytes are overwritten: one of the pragmas of [`crate::schema`].
    pub(crate) fn set_erase(&self, pragma: &str) -> Result<(), StoreError> {
        // It answers with what is set.
        let set = self.connection.query_row(pragma, [], |_| Ok(()));
        set.map_err(|error| self.health.failed(&error))
    }

    /// Removes pieces of payloads.
    pub(crate) fn delete_chunks(&self, ids: &std::ops::Range<u64>, erase: bool) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let bounds = (ids.start as i64, ids.end as i64);
        if erase {
            self.run("UPDATE chunk SET data = zeroblob(length(data)) WHERE id >= ? AND id < ?", bounds)?;
        }
        self.run("DELETE FROM chunk WHERE id >= ? AND id < ?", bounds)?;
        Ok(())
    }

    /// The first block whose last sequence is not below `from`.
    pub(crate) fn block_from(&mut self, stream: u32, from: u64) -> Result<Option<Rc<Block>>, StoreError> {
        if let Some(((id, _), block)) = self.blocks.range((stream, from)..).next()
            && *id == stream
            && block.first <= from
        {
            return Ok(Some(Rc::clone(block)));
        }
        self.load_block(
            stream,
            &format!("SELECT last, data FROM b{stream} WHERE last >= ? ORDER BY last LIMIT 1"),
            from,
        )
    }

    /// The newest block that begins at or below `up_to`.
    pub(crate) fn block_up_to(&mut self, stream: u32, up_to: u64) -> Result<Option<Rc<Block>>, StoreError> {
        match self.block_from(stream, up_to)? {
            Some(block) if block.first <= up_to => Ok(Some(block)),
            _ => self.load_block(
                stream,
                &format!("SELECT last, data FROM b{stream} WHERE last < ? ORDER BY last DESC LIMIT 1"),
                up_to,
            ),
        }
    }

    fn load_block(&mut self, stream: u32, sql: &str, key: u64) -> Result<Option<Rc<Block>>, StoreError> {
        let mut found = None;
        self.query(sql, [key as i64], |row| {
            found = Some((row.get::<_, i64>(0)? as u64, Block::decode(row.get_ref(1)?.as_blob()?)));
            Ok(false)
        })?;
        let Some((last, block)) = found else { return Ok(None) };
        let Some(block) = block.filter(|block| block.last == last) else { return Err(self.bad_summary(stream, last)) };
        let block = Rc::new(block);
        if self.blocks.len() >= BLOCKS_KEPT {
            self.blocks.pop_first();
        }
        self.blocks.insert((stream, last), Rc::clone(&block));
        Ok(Some(block))
    }

    /// Counts messages in the summaries that end from one sequence to another, both included; answers the last one's end, too.
    pub(crate) fn count_in_blocks(
        &self,
        stream: u32,
        ends: (u64, u64),
        up_to: u32,
        wants: &dyn Fn(u32) -> bool,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let mut counted = None;
        let mut bad = None;
        let sql = format!("SELECT last, data FROM b{stream} WHERE last >= ? AND last <= ? ORDER BY last");
        self.query(&sql, (ends.0 as i64, ends.1 as i64), |row| {
            let last = row.get::<_, i64>(0)? as u64;
            match Block::count(row.get_ref(1)?.as_blob()?, up_to, wants).filter(|(end, _)| *end == last) {
                Some((_, count)) => counted = Some((last, counted.map_or(0, |(_, before)| before) + count)),
                None => bad = Some(last),
            }
            Ok(bad.is_none())
        })?;
        bad.map_or(Ok(counted), |last| Err(self.bad_summary(stream, last)))
    }

    fn bad_summary(&self, stream: u32, last: u64) -> StoreError {
        // The stream's summaries are derived data: an opening that is told to look rebuilds them from the messages.
        self.health.suspect(format!("summary {last} of stream {stream} is not what was written"))
    }

    /// Forgets a decoded summary: it was rewritten.
    pub(crate) fn forget_block(&mut self, stream: u32, last: u64) {
        self.blocks.remove(&(stream, last));
    }

    /// Forgets decoded summaries of a stream: they were rewritten.
    pub(crate) fn forget_blocks(&mut self, stream: u32) {
        self.blocks.retain(|(id, _), _| *id != stream);
    }
}
