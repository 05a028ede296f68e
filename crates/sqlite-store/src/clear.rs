//! Removing at once what takes long to erase: all messages of a stream (a purge), or the stream itself.
//!
//! A mark is durable with the commit of the request, and from then on nothing below it is there any more: not for reads, not in the counters, not for the
//! next opening. The rows go in steps of [`Store::maintain`](jetstream::store::Store::maintain), with commits of others in between, also after a crash.
//! Erasing millions of rows in one transaction would keep everybody waiting and write a log as large as what is erased.

use jetstream::identity::{AgeMillis, Sequence, Timestamp};
use jetstream::store::{Evicted, StoreError};

use crate::append::flush;
use crate::erase::delete_doomed;
use crate::store::SqliteStore;
use crate::{checkpoint, records};

/// Rows that one step erases: about a millisecond.
const STEP_ROWS: usize = 1_000;
/// Bytes of rows that one step reads.
const STEP_BYTES: usize = 1 << 20;

/// Key of the record that says up to where a stream's rows are to be erased: sequence of the first message that stays, little endian.
pub(crate) fn mark_key(stream: u32) -> Vec<u8> {
    [b"\0erased".as_slice(), &stream.to_be_bytes()].concat()
}

/// The mark in a record's value; 0: there is none.
pub(crate) fn decode_mark(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_le_bytes)
}

impl SqliteStore {
    /// Takes all messages out of a stream.
    pub(crate) fn clear_stream(&mut self, id: u32) -> Result<Evicted, StoreError> {
        let Some(messages) = self.streams.get(&id).map(|stream| stream.state.messages).filter(|count| *count > 0)
        else {
            return Ok(Evicted::default());
        };
        self.touch(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(Evicted::default()) };
        // What still waits in the ring may own chunks: they are found by its row.
        flush(&mut self.db, &self.ring, stream)?;
        delete_doomed(&self.db, stream)?;
        let newest = self.db.number(&format!("SELECT max(seq) FROM m{id}"), [])?;
        let (bytes, first) = (stream.state.bytes, stream.state.first);
        let last = newest.map_or(stream.state.last, Sequence);
        stream.clear();
        let bounds = (checkpoint::chunk_key(id, 0), checkpoint::chunk_key(id + 1, 0));
        self.db.run("DELETE FROM subjects WHERE key >= ? AND key < ?", bounds)?;
        checkpoint::write(&mut self.db, &self.ring, stream)?;
        let mark = stream.erased.to_le_bytes();
        records::put(&mut self.db, &mark_key(id), &mark)?;
        self.db.forget_blocks(id);
        self.slices.forget_stream(id);
        if !self.erasing.contains(&id) {
            self.erasing.push(id);
        }
        Ok(Evicted { messages, bytes, first, last })
    }

    /// One step of what is still to be erased. `true` when more waits.
    pub(crate) fn erase_step(&mut self) -> Result<bool, StoreError> {
        // The step before was not committed by anybody: an erasure alone must not become one long transaction either.
        if self.unsettled {
            jetstream::store::Store::commit(self)?;
        }
        if let Some(id) = self.deleting.last().copied() {
            if self.drop_step(id)? {
                self.deleting.pop();
            }
        } else if let Some(id) = self.erasing.last().copied()
            && self.clear_step(id)?
        {
            self.erasing.pop();
        } else if self.erasing.is_empty() {
            return Ok(false);
        }
        self.unsettled = self.db.in_transaction();
        Ok(true)
    }

    /// Erases a step of a cleared stream; `true` when nothing is left to erase.
    fn clear_step(&mut self, id: u32) -> Result<bool, StoreError> {
        let Some(mark) = self.streams.get(&id).map(|stream| stream.erased) else { return Ok(true) };
        self.db.begin()?;
        if self.erase_rows(id, mark)? || self.erase_summaries(id, mark)? {
            return Ok(false);
        }
        records::delete(&mut self.db, &mark_key(id))?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.erased = 0;
        }
        Ok(true)
    }

    /// Erases a step of a deleted stream; `true` when it is all gone.
    fn drop_step(&mut self, id: u32) -> Result<bool, StoreError> {
        self.db.begin()?;
        if self.erase_rows(id, u64::MAX)? || self.erase_summaries(id, u64::MAX)? {
            return Ok(false);
        }
        let base = i64::from(id) << 32;
        let removals = self.db.run(
            "DELETE FROM removal WHERE key IN (SELECT key FROM removal WHERE key >= ? AND key < ? LIMIT 1000)",
            (base, base + (1 << 32)),
        )?;
        let bounds = (checkpoint::chunk_key(id, 0), checkpoint::chunk_key(id + 1, 0));
        let subjects = self.db.run(
            "DELETE FROM subjects WHERE key IN (SELECT key FROM subjects WHERE key >= ? AND key < ? LIMIT 50)",
            bounds,
        )?;
        if removals + subjects > 0 {
            return Ok(false);
        }
        records::delete(&mut self.db, &mark_key(id))?;
        self.db.connection.flush_prepared_statement_cache();
        let dropped = self
            .db
            .connection
            .execute_batch(&format!("DROP TABLE m{id}; DROP TABLE b{id}; DELETE FROM stream WHERE id = {id};"));
        dropped.map_err(|error| self.db.health.failed(&error))?;
        Ok(true)
    }

    /// Erases a step of the rows below a sequence, with their chunks; `false` when there were none.
    fn erase_rows(&mut self, id: u32, below: u64) -> Result<bool, StoreError> {
        let below = below.min(i64::MAX as u64) as i64;
        let (mut rows, mut bytes, mut last) = (0, 0, None);
        let mut chunks = Vec::new();
        let sql = format!("SELECT seq, data FROM m{id} WHERE seq < ? ORDER BY seq");
        self.db.query(&sql, [below], |row| {
            let sequence: i64 = row.get(0)?;
            let blob = row.get_ref(1)?.as_blob()?;
            last = Some(sequence);
            if let Some(row) = crate::row::Row::decode(sequence as u64, blob) {
                chunks.push(row.payload.chunks());
            }
            rows += 1;
            bytes += blob.len();
            Ok(rows < STEP_ROWS && bytes < STEP_BYTES)
        })?;
        let Some(last) = last else { return Ok(false) };
        for ids in chunks.iter().filter(|ids| !ids.is_empty()) {
            self.db.delete_chunks(ids, false)?;
        }
        self.db.run(&format!("DELETE FROM m{id} WHERE seq <= ?"), [last])?;
        Ok(true)
    }

    /// Erases a step of the summaries that end below a sequence; `false` when there were none.
    fn erase_summaries(&mut self, id: u32, below: u64) -> Result<bool, StoreError> {
        let below = below.min(i64::MAX as u64) as i64;
        let sql = format!("DELETE FROM b{id} WHERE last IN (SELECT last FROM b{id} WHERE last < ? LIMIT 100)");
        Ok(self.db.run(&sql, [below])? > 0)
    }
}

impl crate::stream::Stream {
    /// Nothing is held any more; the last sequence given stays.
    fn clear(&mut self) {
        let last = self.state.last;
        self.forget_contents();
        self.erased = last.0 + 1;
        self.closed_through = last.0;
        self.state.messages = 0;
        self.state.bytes = 0;
        self.state.first = last.next();
        self.state.first_time = Timestamp(0);
        self.first_age = AgeMillis(0);
    }
}
