//! Storing: a message goes into the ring as the blob of its row, and from there into its table in bulk, at the latest at commit.

use jetstream::store::{NewMessage, StoreError, message_size};

use crate::block::encode_ids;
use crate::database::{Database, out_of_order};
use crate::ring::{Ring, TailEntry};
use crate::row;
use crate::store::SqliteStore;
use crate::stream::Stream;

/// Longest subject, and longest header block, that a row can hold. nats-server's control line ends at 4 KiB, its payload limit at 64 MiB.
const LONGEST_SUBJECT: usize = u16::MAX as usize;

impl SqliteStore {
    pub(crate) fn append_message(&mut self, id: u32, message: &NewMessage<'_>) -> Result<(), StoreError> {
        self.db.health.check()?;
        let Some(stream) = self.streams.get_mut(&id) else { return Err(StoreError::Failed(format!("no stream {id}"))) };
        let sequence = message.sequence.0;
        if sequence <= stream.state.last.0 || sequence > i64::MAX as u64 {
            return Err(StoreError::Failed(format!("sequence {sequence} does not follow {}", stream.state.last.0)));
        }
        if message.subject.is_empty() || message.subject.len() > LONGEST_SUBJECT {
            return Err(StoreError::Failed(format!("a subject of {} bytes", message.subject.len())));
        }
        let size = message_size(message.subject.len(), message.headers.len(), message.payload.len());
        self.space.admit(&self.db, size)?;
        self.db.begin()?;
        if !stream.touched {
            stream.touched = true;
            self.touched.push(id);
        }
        if stream.open.is_full(sequence) {
            close_block(&mut self.db, &self.ring, stream)?;
        }
        let packed = if stream.packs { row::pack(message.payload) } else { None };
        let payload = packed.as_deref().unwrap_or(message.payload);
        let first_chunk =
            if payload.len() > row::INLINE_PAYLOAD { Some(self.db.insert_chunks(payload)?) } else { None };
        self.scratch.clear();
        row::encode(&mut self.scratch, id, message, first_chunk, packed.as_deref());
        let subject = stream.subject_id(message.subject, sequence);
        stream.count(sequence, subject, size, message.now, message.message_id);
        self.keep_row(id, sequence, subject)
    }

    /// Puts the encoded row into the ring, or, when it is too large for it, into its table.
    fn keep_row(&mut self, id: u32, sequence: u64, subject: u32) -> Result<(), StoreError> {
        let length = self.scratch.len();
        if length > self.ring.largest() {
            let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
            flush(&mut self.db, &self.ring, stream)?;
            stream.tail.clear();
            self.db.run(&format!("INSERT INTO m{id} VALUES (?, ?)"), (sequence as i64, self.scratch.as_slice()))?;
            stream.highest_key = Some(sequence);
            return Ok(());
        }
        if self.pending_from.is_some_and(|from| self.ring.head_after(length) - from > self.ring.capacity() / 2) {
            self.flush_all()?;
        }
        let streams = &mut self.streams;
        let position = self.ring.push(id, &self.scratch, |stream, position| {
            if let Some(stream) = streams
                .get_mut(&stream)
                .filter(|stream| stream.tail.front().is_some_and(|entry| entry.position == position))
            {
                stream.tail.pop_front();
            }
        });
        self.pending_from.get_or_insert(position);
        if let Some(stream) = streams.get_mut(&id) {
            stream.tail.push_back(TailEntry { sequence, position, length: length as u32, subject });
            stream.pending += 1;
        }
        Ok(())
    }

    /// Inserts every row that waits in the ring.
    pub(crate) fn flush_all(&mut self) -> Result<(), StoreError> {
        for id in &self.touched {
            if let Some(stream) = self.streams.get_mut(id) {
                flush(&mut self.db, &self.ring, stream)?;
            }
        }
        self.pending_from = None;
        Ok(())
    }
}

/// Rows per statement, largest first.
const BULK: [usize; 3] = [64, 8, 1];

/// Inserts a stream's waiting rows into its table.
pub(crate) fn flush(db: &mut Database, ring: &Ring, stream: &mut Stream) -> Result<(), StoreError> {
    let mut waiting = stream.tail.range(stream.tail.len() - stream.pending..).filter(|entry| entry.length > 0);
    let mut left = waiting.clone().count();
    while left > 0 {
        // A key of the engine's own choice is the highest one plus 1: where that is the sequence, it need not look for the place.
        let consecutive = match stream.highest_key {
            Some(before) => consecutive_after(before, waiting.clone()),
            None => 0,
        };
        let rows = BULK.into_iter().find(|rows| *rows <= consecutive).unwrap_or(0);
        stream.highest_key = Some(insert(db, ring, stream.id, rows, &mut waiting)?);
        left -= rows.max(1);
    }
    stream.pending = 0;
    Ok(())
}

/// How many of the next entries follow a sequence without a gap, as far as a statement can use it.
fn consecutive_after<'a>(before: u64, entries: impl Iterator<Item = &'a TailEntry>) -> usize {
    entries.take(BULK[0]).zip(before + 1..).take_while(|(entry, sequence)| entry.sequence == *sequence).count()
}

/// Inserts the next rows, in one statement: `rows` that follow the highest key, or, when that is 0, one with its own key. Answers the last one's sequence.
fn insert<'a>(
    db: &Database,
    ring: &Ring,
    stream: u32,
    rows: usize,
    waiting: &mut impl Iterator<Item = &'a TailEntry>,
) -> Result<u64, StoreError> {
    let mut statement = db.prepare(&insert_sql(stream, rows))?;
    let mut last = 0;
    let mut run = || {
        for (index, entry) in waiting.take(rows.max(1)).enumerate() {
            last = entry.sequence;
            statement.raw_bind_parameter(index + 1, ring.row(entry))?;
        }
        if rows == 0 {
            statement.raw_bind_parameter(2, last as i64)?;
        }
        statement.raw_execute()
    };
    run().map_err(|error| db.health.failed(&error))?;
    if db.connection.last_insert_rowid() != last as i64 {
        return Err(db.health.failed(&out_of_order()));
    }
    Ok(last)
}

/// `OR FAIL`: an error ends this instance, so SQLite need not keep copies of the pages that a statement changes, to take back half a statement.
fn insert_sql(stream: u32, rows: usize) -> String {
    if rows == 0 {
        return format!("INSERT OR FAIL INTO m{stream} (data, seq) VALUES (?,?)");
    }
    let mut sql = format!("INSERT OR FAIL INTO m{stream} (data) VALUES (?)");
    for _ in 1..rows {
        sql.push_str(",(?)");
    }
    sql
}

/// Writes the summary of the block that was being filled. Its rows go to their table first: what a summary names must be there.
pub(crate) fn close_block(db: &mut Database, ring: &Ring, stream: &mut Stream) -> Result<(), StoreError> {
    flush(db, ring, stream)?;
    stream.closed_through = stream.state.last.0;
    let names = std::mem::take(&mut stream.open.names);
    let ids = std::mem::take(&mut stream.open.ids);
    stream.blocks_since_checkpoint += 1;
    let Some(mut block) = stream.open.close() else { return Ok(()) };
    for id in names {
        if stream.subjects.get(id).0 > 0 {
            block.names.push((id, stream.subjects.name(id).to_vec()));
        }
    }
    let ids = if ids.is_empty() { None } else { Some(encode_ids(&ids)) };
    db.run(&format!("INSERT INTO b{} VALUES (?, ?, ?)", stream.id), (block.last as i64, block.encode(), ids))?;
    Ok(())
}
