//! What opening does for each stream: the subject table of its last checkpoint, the summaries since then (at most 64), the removal log, and the rows
//! behind the newest summary (fewer than 1,024). Never the backlog, unless one of these can't be read: then the stream's state is built from its rows.

use jetstream::identity::{Now, Sequence};
use jetstream::store::StoreError;

use crate::append::close_block;
use crate::block::{Block, decode_ids};
use crate::checkpoint::{self, Saved, chunk_key, decode_position};
use crate::database::{Database, out_of_order};
use crate::removal;
use crate::ring::Ring;
use crate::row::Row;
use crate::search;
use crate::stream::Stream;
use crate::subjects;

/// A stream's row.
pub(crate) struct StreamRow {
    pub(crate) id: u32,
    pub(crate) description: Vec<u8>,
    pub(crate) state: Vec<u8>,
    pub(crate) position: Vec<u8>,
    /// What lies below this sequence is being erased; 0: nothing.
    pub(crate) erased: u64,
}

/// A loaded stream, and what was wrong with it.
pub(crate) struct Loaded {
    pub(crate) stream: Stream,
    /// Rows that could not be decoded, and were taken out.
    pub(crate) damaged_rows: u64,
    /// Its state had to be built from its rows.
    pub(crate) rebuilt: bool,
}

/// Loads a stream.
pub(crate) fn load(db: &mut Database, ring: &Ring, row: StreamRow) -> Result<Loaded, StoreError> {
    let mut stream = Stream::new(row.id, row.description.clone());
    stream.erased = row.erased;
    if let (Some(saved), Some(_)) = (Saved::decode(&row.state), decode_position(&row.position))
        && replay(db, &mut stream, saved)?.is_some()
    {
        let damaged_rows = read_tail(db, ring, &mut stream)?;
        finish(db, ring, &mut stream, &row.position)?;
        if is_consistent(db, &stream)? {
            return Ok(Loaded { stream, damaged_rows, rebuilt: false });
        }
    }
    rebuild(db, ring, row)
}

/// Builds a stream's state from its rows alone, and writes it.
pub(crate) fn rebuild(db: &mut Database, ring: &Ring, row: StreamRow) -> Result<Loaded, StoreError> {
    db.begin()?;
    let id = row.id;
    let base = i64::from(id) << 32;
    db.run(&format!("DELETE FROM b{id}"), [])?;
    db.run("DELETE FROM removal WHERE key >= ? AND key < ?", (base, base + (1 << 32)))?;
    db.run("DELETE FROM subjects WHERE key >= ? AND key < ?", (chunk_key(id, 0), chunk_key(id + 1, 0)))?;
    db.forget_blocks(id);
    let mut stream = Stream::new(id, row.description);
    stream.erased = row.erased;
    stream.state.last = Sequence(row.erased.saturating_sub(1));
    let damaged_rows = read_tail(db, ring, &mut stream)?;
    finish(db, ring, &mut stream, &row.position)?;
    checkpoint::write(db, ring, &mut stream)?;
    db.commit()?;
    Ok(Loaded { stream, damaged_rows, rebuilt: true })
}

/// Applies checkpoint, summaries and removal log; `None` when one of them isn't whole.
fn replay(db: &mut Database, stream: &mut Stream, saved: Saved) -> Result<Option<()>, StoreError> {
    let id = stream.id;
    let mut whole = load_subjects(db, stream, saved.bound)?.is_some();
    stream.state.messages = saved.messages;
    stream.state.bytes = saved.bytes;
    stream.closed_through = saved.through;
    stream.checkpointed = saved.through;
    stream.state.last = Sequence(saved.through);
    let sql = format!("SELECT last, data FROM b{id} WHERE last > ? ORDER BY last");
    db.query(&sql, [saved.through as i64], |row| {
        let last = row.get::<_, i64>(0)? as u64;
        let block = Block::decode(row.get_ref(1)?.as_blob()?).filter(|block| block.last == last);
        whole &= block.and_then(|block| apply_block(stream, &block)).is_some();
        Ok(whole)
    })?;
    let base = i64::from(id) << 32;
    db.query(
        "SELECT key, data FROM removal WHERE key >= ? AND key < ? ORDER BY key",
        (base, base + (1 << 32)),
        |row| {
            let number = (row.get::<_, i64>(0)? - base) as u32;
            if number < stream.removal_rows {
                return Err(out_of_order());
            }
            let is_counted = number < checkpoint::NOTED;
            if is_counted {
                stream.removal_rows = number + 1;
            }
            // Its summary may have been corrected since.
            stream.is_uncertain = true;
            let removed = removal::decode(row.get_ref(1)?.as_blob()?);
            whole &= removed.is_some();
            for one in removed.unwrap_or_default() {
                if !is_counted {
                    stream.note_removed(one.sequence, one.subject);
                    continue;
                }
                stream.removals_logged += 1;
                stream.state.messages = stream.state.messages.saturating_sub(1);
                stream.state.bytes = stream.state.bytes.saturating_sub(one.size);
                stream.subtract_subject(one.subject, one.sequence, one.newest);
                stream.note_removed(one.sequence, one.subject);
            }
            Ok(whole)
        },
    )?;
    stream.correcting = stream.is_uncertain.then_some(0);
    stream.subjects.collect_free();
    stream.state.last = Sequence(stream.closed_through);
    Ok(whole.then_some(()))
}

fn load_subjects(db: &Database, stream: &mut Stream, bound: u32) -> Result<Option<()>, StoreError> {
    let base = chunk_key(stream.id, 0);
    // Neither the keys nor what the checkpoint says may size the table alone.
    let newest = db.number("SELECT max(key) FROM subjects WHERE key >= ? AND key < ?", (base, base + (1 << 24)))?;
    let chunks = newest.map_or(0, |key| (key - base as u64) / 2 + 1);
    stream.subjects.reserve((chunks * subjects::CHUNK as u64).min(u64::from(bound)) as usize);
    let mut whole = true;
    let mut texts: Option<(i64, Vec<u8>)> = None;
    db.query(
        "SELECT key, data FROM subjects WHERE key >= ? AND key < ? ORDER BY key",
        (base, base + (1 << 24)),
        |row| {
            let key = row.get::<_, i64>(0)? - base;
            if key & 1 == 0 {
                texts = Some((key, row.get(1)?));
                return Ok(true);
            }
            let text = texts.take().filter(|(of, _)| *of + 1 == key);
            let pair = text
                .as_ref()
                .and_then(|(_, text)| subjects::decode_texts(text))
                .zip(subjects::decode_states(row.get_ref(1)?.as_blob()?));
            // The key has no checksum: it must lie within what the checkpoint says, or it would size the table.
            let first = (key >> 1) as u64 * subjects::CHUNK as u64;
            if first >= u64::from(bound) {
                whole = false;
                return Ok(false);
            }
            let first = first as u32;
            whole &= pair.and_then(|(texts, states)| add_subjects(stream, first, &texts, &states)).is_some();
            Ok(whole)
        },
    )?;
    Ok((whole && stream.subjects.bound() <= bound).then_some(()))
}

fn add_subjects(stream: &mut Stream, first: u32, texts: &[Option<&[u8]>], states: &[(u32, u64)]) -> Option<()> {
    if texts.len() != states.len() {
        return None;
    }
    for (index, (text, (messages, last))) in texts.iter().zip(states).enumerate() {
        match text {
            Some(text) if *messages > 0 => {
                let id = first + index as u32;
                if !stream.subjects.insert_new(id, text, 0) {
                    return None;
                }
                stream.subjects.add(id, *messages, *last);
            }
            None if *messages == 0 => {}
            _ => return None,
        }
    }
    stream.subjects.forget_dirty();
    Some(())
}

fn apply_block(stream: &mut Stream, block: &Block) -> Option<()> {
    for (id, name) in &block.names {
        // The same text may already stand under an older id, whose messages were all removed: the removal log, applied later, tells.
        if name.is_empty()
            || name.len() > usize::from(u16::MAX)
            || *id > stream.subjects.bound() + 65_536
            || !stream.subjects.name(*id).is_empty()
        {
            return None;
        }
        stream.subjects.insert_as(*id, name, block.first);
    }
    for (id, offsets) in block.subjects() {
        if stream.subjects.name(id).is_empty() {
            return None;
        }
        let last = block.first + u64::from(*offsets.last()?);
        stream.subjects.add(id, offsets.len() as u32, last);
    }
    stream.state.messages += block.messages() as u64;
    stream.state.bytes += block.bytes;
    stream.closed_through = block.last;
    stream.blocks_since_checkpoint += 1;
    Some(())
}

/// Reads the rows behind the newest summary into the open block. What isn't whole is deleted and counted.
fn read_tail(db: &mut Database, ring: &Ring, stream: &mut Stream) -> Result<u64, StoreError> {
    let sql = format!("SELECT seq, data FROM m{} WHERE seq > ? ORDER BY seq LIMIT 1024", stream.id);
    let mut bad = Vec::new();
    loop {
        let mut rows = 0;
        let mut seen = stream.state.last.0;
        let after = stream.state.last.0.max(bad.last().copied().unwrap_or(0));
        db.query(&sql, [after as i64], |row| {
            rows += 1;
            let sequence = row.get::<_, i64>(0)? as u64;
            if sequence <= seen.max(after) || sequence > i64::MAX as u64 {
                return Err(out_of_order());
            }
            seen = sequence;
            match Row::decode(seen, row.get_ref(1)?.as_blob()?)
                .filter(|row| row.stream == stream.id && !row.subject.is_empty())
            {
                None => bad.push(seen),
                Some(row) => {
                    let id = stream.subject_id(row.subject, seen);
                    stream.count(seen, id, row.size(), Now { wall: row.time, age: row.age }, row.message_id);
                }
            }
            Ok(true)
        })?;
        if rows < 1024 {
            break;
        }
        db.begin()?;
        close_block(db, ring, stream)?;
    }
    for sequence in &bad {
        db.begin()?;
        db.run(&format!("DELETE FROM m{} WHERE seq = ?", stream.id), [*sequence as i64])?;
        stream.state.last = stream.state.last.max(Sequence(*sequence));
        stream.position_dirty = true;
    }
    Ok(bad.len() as u64)
}

/// First and last message with their clocks.
fn finish(db: &mut Database, ring: &Ring, stream: &mut Stream, position: &[u8]) -> Result<(), StoreError> {
    let (last, time) = decode_position(position).unwrap_or_default();
    let id = stream.id;
    if last >= stream.state.last {
        stream.state.last = last;
        stream.state.last_time = time;
    } else {
        let rows = stream.state.last.0;
        if let Some((sequence, now)) = search::at_or_after(db, ring, stream, rows)?
            && sequence == rows
        {
            stream.state.last_time = now.wall;
        }
    }
    if stream.position_dirty {
        let position = checkpoint::encode_position(stream.state.last, stream.state.last_time);
        db.run("UPDATE stream SET position = ? WHERE id = ?", (position, id))?;
        stream.position_dirty = false;
    }
    db.commit()?;
    stream.committed_last = stream.state.last.0;
    stream.state.first = Sequence(stream.erased);
    let messages = (stream.state.messages, stream.state.bytes);
    // One row is enough here: with a thousand streams more of each would be much.
    let oldest = search::at_or_after(db, ring, stream, stream.erased)?;
    crate::erase::set_first(stream, oldest);
    (stream.state.messages, stream.state.bytes) = messages;
    Ok(())
}

/// Do the counters agree with what can be seen at no cost?
fn is_consistent(db: &Database, stream: &Stream) -> Result<bool, StoreError> {
    let sql = format!("SELECT seq FROM m{} WHERE seq >= ? LIMIT 1", stream.id);
    let any = db.number(&sql, [stream.erased as i64])?.is_some();
    let span = stream.state.last.0.saturating_sub(stream.state.first.0).saturating_add(1);
    Ok(any == (stream.state.messages > 0)
        && (stream.subjects.len() > 0) == (stream.state.messages > 0)
        && (stream.state.messages == 0 || stream.state.messages <= span))
}

/// Ids of the messages in closed blocks, newest first, while they are not older than `since`.
pub(crate) fn ids_of_blocks(
    db: &Database,
    stream: u32,
    mut each: impl FnMut(&crate::block::IdEntry) -> bool,
) -> Result<(), StoreError> {
    // By the index of those that have any: the others, the whole backlog mostly, are not even passed over.
    let sql = format!("SELECT ids FROM b{stream} INDEXED BY i{stream} WHERE ids IS NOT NULL ORDER BY last DESC");
    db.query(&sql, [], |row| {
        let ids = decode_ids(row.get_ref(0)?.as_blob()?).unwrap_or_default();
        Ok(ids.iter().rev().all(&mut each))
    })
}

#[cfg(test)]
mod tests {
    use jetstream::identity::{AgeMillis, StreamId, Timestamp};
    use jetstream::store::{NewMessage, Store as _};

    use super::*;
    use crate::{Options, SqliteStore};

    const STREAM: StreamId = StreamId(16);

    fn open(folder: &std::path::Path) -> SqliteStore {
        let options = Options { reserve: 0, ballast: 0, free_space: Box::new(|_| None), ..Options::default() };
        SqliteStore::open(folder, options).unwrap().0
    }

    fn append(store: &mut SqliteStore, sequence: u64, message_id: Option<u128>) {
        let subject = format!("s.{}", sequence % 500);
        let now = Now { wall: Timestamp(sequence as i64), age: AgeMillis(sequence) };
        let (subject, headers, payload) = (subject.as_bytes(), &b""[..], &[7; 64][..]);
        let message = NewMessage { sequence: Sequence(sequence), now, subject, headers, payload, message_id };
        store.append(STREAM, &message).unwrap();
    }

    /// A stream of 2,500 messages, one of them with an id.
    fn filled(folder: &std::path::Path) -> SqliteStore {
        let mut store = open(folder);
        store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
        for sequence in 1..=2_500 {
            append(&mut store, sequence, (sequence == 700).then_some(7));
        }
        store.commit().unwrap();
        store
    }

    /// Pages that a connection read from the files so far.
    #[allow(unsafe_code)] // rusqlite has no name for it
    fn pages_read(store: &SqliteStore) -> i32 {
        use rusqlite::ffi;
        let (mut read, mut highest) = (0, 0);
        // SAFETY: the connection is open and used by this thread alone; both numbers live through the call.
        let code = unsafe {
            let connection = store.db.connection.handle();
            ffi::sqlite3_db_status(connection, ffi::SQLITE_DBSTATUS_CACHE_MISS, &raw mut read, &raw mut highest, 0)
        };
        assert_eq!(code, ffi::SQLITE_OK);
        read
    }

    /// What a start does with the stream: opens the store and asks for the ids of the duplicate window.
    fn pages_of_a_start(folder: &std::path::Path) -> i32 {
        let mut store = open(folder);
        let ids = store.recent_ids(STREAM, AgeMillis(0), 100).unwrap();
        assert_eq!(ids.iter().map(|id| id.hash).collect::<Vec<_>>(), [7]);
        pages_read(&store)
    }

    #[test]
    fn a_start_does_not_walk_over_summaries_without_message_ids() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = filled(folder.path());
        checkpoint::write(&mut store.db, &store.ring, store.streams.get_mut(&STREAM.0).unwrap()).unwrap();
        store.db.commit().unwrap();
        drop(store);
        let few = pages_of_a_start(folder.path());
        // As many summaries as ten million messages have; only how many there are matters.
        let store = open(folder.path());
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO b16 SELECT -i, zeroblob(3000), NULL FROM n";
        store.db.connection.execute_batch(many).unwrap();
        drop(store);
        let read = pages_of_a_start(folder.path());
        assert!(read <= few + 20, "{read} pages with many summaries, {few} with few");
    }

    #[test]
    fn a_start_after_a_kill_reads_no_more_than_one_after_an_orderly_end() {
        let (killed, ended) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = filled(ended.path());
        for name in ["store.db", "store.db-wal", "store.lock"] {
            std::fs::copy(ended.path().join(name), killed.path().join(name)).unwrap();
        }
        drop(store);
        let (killed, ended) = (pages_of_a_start(killed.path()), pages_of_a_start(ended.path()));
        assert!(killed <= ended, "{killed} pages after a kill, {ended} after an orderly end");
    }

    #[test]
    fn a_file_without_the_index_of_message_ids_gets_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(folder.path());
        store.db.connection.execute_batch("DROP INDEX i16").unwrap();
        drop(store);
        pages_of_a_start(folder.path());
    }
}
