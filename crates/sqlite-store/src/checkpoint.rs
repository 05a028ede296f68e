//! A stream's checkpoint: afterwards its subject table is on disk as it is in memory, and its removal log says nothing but which removed messages its summaries
//! still name (*noted*). Part of an ordinary commit; due after 64 blocks or 32,768 removals, so that opening has little to replay.
//!
//! The summaries are *corrected* apart from that, some with each commit: messages that were removed here and there are named by thousands of them, and
//! rewriting those at once would keep everybody waiting. Only summaries up to the last checkpoint are: opening counts the messages of newer ones.

use std::rc::Rc;

use jetstream::identity::{Sequence, Timestamp};
use jetstream::store::StoreError;

use crate::append::close_block;
use crate::block::Block;
use crate::database::Database;
use crate::removal::{self, Removed};
use crate::ring::Ring;
use crate::stream::Stream;
use crate::varint::{self, put, unzigzag, zigzag};

/// Blocks after which a checkpoint is due: what opening replays at most.
const BLOCKS: u32 = 64;
/// Removals after which a checkpoint is due. In memory each costs 16 bytes until its summary is corrected.
pub(crate) const REMOVALS: usize = 32_768;
/// Named messages after which summaries are corrected.
const CORRECTED_AT: usize = REMOVALS / 2;
/// Summaries corrected with a commit: some milliseconds.
const CORRECTED: usize = 32;
/// The same where so much has come together that it must not become more.
const CORRECTED_CROWDED: usize = 512;
/// Messages in a row that notes what summaries still name.
const NOTED_ROW: usize = 4096;
/// Number of the first such row in the removal log.
pub(crate) const NOTED: u32 = 1 << 31;

/// What the `state` column says: the counters as of the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Everything up to this sequence is in it.
    pub through: u64,
    /// Messages held.
    pub messages: u64,
    /// Their size.
    pub bytes: u64,
    /// Bound of the subject ids in use.
    pub bound: u32,
}

impl Saved {
    /// Its blob.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        for value in [self.through, self.messages, self.bytes, u64::from(self.bound)] {
            put(&mut out, value);
        }
        varint::seal(&mut out);
        out
    }

    /// Decodes a blob.
    #[must_use]
    pub fn decode(blob: &[u8]) -> Option<Saved> {
        let mut cursor = varint::open_sealed(blob)?;
        let (through, messages, bytes) = (cursor.varint()?, cursor.varint()?, cursor.varint()?);
        Some(Saved { through, messages, bytes, bound: cursor.varint32()? })
    }
}

/// What the `position` column says: the last sequence ever given, for when no row tells it any more.
pub(crate) fn encode_position(last: Sequence, time: Timestamp) -> Vec<u8> {
    let mut out = vec![0; 4];
    put(&mut out, last.0);
    put(&mut out, zigzag(time.0));
    varint::seal(&mut out);
    out
}

/// Decodes a position.
pub(crate) fn decode_position(blob: &[u8]) -> Option<(Sequence, Timestamp)> {
    let mut cursor = varint::open_sealed(blob)?;
    Some((Sequence(cursor.varint()?), Timestamp(unzigzag(cursor.varint()?))))
}

/// Is it time? `crowded`: all streams together name too much.
pub(crate) fn is_due(stream: &Stream, crowded: bool) -> bool {
    let most = if crowded { REMOVALS / 4 } else { REMOVALS };
    stream.blocks_since_checkpoint >= BLOCKS || stream.removals_logged >= most
}

/// Writes a stream's checkpoint into the open transaction.
pub(crate) fn write(db: &mut Database, ring: &Ring, stream: &mut Stream) -> Result<(), StoreError> {
    close_block(db, ring, stream)?;
    stream.checkpointed = stream.closed_through;
    correct(db, stream, CORRECTED)?;
    write_chunks(db, stream)?;
    let base = i64::from(stream.id) << 32;
    db.run("DELETE FROM removal WHERE key >= ? AND key < ?", (base, base + (1 << 32)))?;
    stream.removal_rows = 0;
    stream.removal_log.clear();
    stream.removals_logged = 0;
    note_removed(db, stream)?;
    stream.blocks_since_checkpoint = 0;
    stream.subjects.release_freed();
    let saved = Saved {
        through: stream.closed_through,
        messages: stream.state.messages,
        bytes: stream.state.bytes,
        bound: stream.subjects.bound(),
    };
    let position = encode_position(stream.state.last, stream.state.last_time);
    db.run("UPDATE stream SET state = ?, position = ? WHERE id = ?", (saved.encode(), position, stream.id))?;
    stream.position_dirty = false;
    Ok(())
}

/// What summaries name though it is gone.
fn note_removed(db: &Database, stream: &Stream) -> Result<(), StoreError> {
    let noted =
        |(sequence, subject): &(u64, u32)| Removed { sequence: *sequence, subject: *subject, size: 0, newest: None };
    for (index, removed) in stream.removed.chunks(NOTED_ROW).enumerate() {
        let key = (i64::from(stream.id) << 32) + i64::from(NOTED) + index as i64;
        let removed: Vec<Removed> = removed.iter().map(noted).collect();
        db.run("INSERT INTO removal VALUES (?, ?)", (key, removal::encode(&removed)))?;
    }
    Ok(())
}

/// Corrects some summaries if there is much to correct, or some were begun with.
pub(crate) fn correct_if_due(db: &mut Database, stream: &mut Stream, crowded: bool) -> Result<(), StoreError> {
    if stream.correcting.is_none() && stream.removed.len() < stream.corrected_left + CORRECTED_AT && !crowded {
        return Ok(());
    }
    let most = if crowded || stream.removed.len() > 2 * REMOVALS { CORRECTED_CROWDED } else { CORRECTED };
    correct(db, stream, most)
}

/// Takes what was removed out of so many summaries, from the oldest one on that was not looked at; those where nothing is left go.
fn correct(db: &mut Database, stream: &mut Stream, most: usize) -> Result<(), StoreError> {
    let (id, first, through) = (stream.id, stream.state.first.0, stream.checkpointed);
    stream.sort_removed();
    let mut at = stream.correcting.unwrap_or(0);
    if at <= first {
        // What lies below the mark of a clearing goes in steps of its own.
        let end = first.min(through.saturating_add(1)).min(i64::MAX as u64);
        db.run(&format!("DELETE FROM b{id} WHERE last >= ? AND last < ?"), (stream.erased as i64, end as i64))?;
        db.forget_blocks(id);
        at = first;
    }
    let removed = std::mem::take(&mut stream.removed);
    let start = removed.partition_point(|(sequence, _)| *sequence < at);
    let mut end = start;
    let mut done = false;
    for _ in 0..most {
        let next = removed.get(end).filter(|(sequence, _)| *sequence <= through);
        let block = next.map(|(sequence, _)| db.block_from(id, *sequence)).transpose()?.flatten();
        let Some(block) = block.filter(|block| block.last <= through) else {
            done = true;
            break;
        };
        let gone = &removed[end..];
        let gone = &gone[..gone.partition_point(|(sequence, _)| *sequence <= block.last)];
        let is_gone = |sequence: u64| gone.binary_search_by_key(&sequence, |(removed, _)| *removed).is_ok();
        rewrite(db, id, &block, &|sequence| sequence < first || is_gone(sequence))?;
        db.forget_block(id, block.last);
        end += gone.len();
        at = block.last + 1;
    }
    stream.removed = removed;
    stream.removed.drain(start..end);
    stream.removed.drain(..stream.removed.partition_point(|(sequence, _)| *sequence < first));
    stream.sort_removed();
    stream.correcting = (!done).then_some(at);
    if done {
        (stream.corrected_left, stream.is_uncertain) = (stream.removed.len(), false);
    }
    Ok(())
}

fn rewrite(db: &Database, id: u32, block: &Rc<Block>, gone: &dyn Fn(u64) -> bool) -> Result<(), StoreError> {
    match block.without(gone) {
        None => db.run(&format!("DELETE FROM b{id} WHERE last = ?"), [block.last as i64])?,
        // It was corrected before the store was opened.
        Some(left) if left.messages() == block.messages() => 0,
        Some(left) => db.run(
            &format!("UPDATE b{id} SET last = ?, data = ? WHERE last = ?"),
            (left.last as i64, left.encode(), block.last as i64),
        )?,
    };
    Ok(())
}

fn write_chunks(db: &Database, stream: &mut Stream) -> Result<(), StoreError> {
    for (chunk, texts, states) in stream.subjects.take_dirty() {
        let key = chunk_key(stream.id, chunk);
        if texts {
            db.run("INSERT OR REPLACE INTO subjects VALUES (?, ?)", (key, stream.subjects.encode_texts(chunk)))?;
        }
        if states {
            db.run("INSERT OR REPLACE INTO subjects VALUES (?, ?)", (key + 1, stream.subjects.encode_states(chunk)))?;
        }
    }
    Ok(())
}

/// Key of a chunk's texts; its states follow.
pub(crate) fn chunk_key(stream: u32, chunk: u32) -> i64 {
    i64::from(stream) << 24 | i64::from(chunk) << 1
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jetstream::identity::{AgeMillis, Now, StreamId};
    use jetstream::store::{NewMessage, Store as _};
    use subject::Filter;

    use super::*;
    use crate::{Options, SqliteStore};

    const STREAM: StreamId = StreamId(16);
    const MESSAGES: u64 = 90_000;

    fn open(folder: &Path) -> SqliteStore {
        let options = Options { reserve: 0, ballast: 0, free_space: Box::new(|_| None), ..Options::default() };
        SqliteStore::open(folder, options).unwrap().0
    }

    fn append(store: &mut SqliteStore, sequence: u64) {
        let now = Now { wall: Timestamp(sequence as i64), age: AgeMillis(sequence) };
        let subject = format!("s.{}", sequence % 4);
        let (subject, headers, payload) = (subject.as_bytes(), &b""[..], &b"x"[..]);
        let message = NewMessage { sequence: Sequence(sequence), now, subject, headers, payload, message_id: None };
        store.append(STREAM, &message).unwrap();
    }

    /// Messages from three places on: all, and of one subject that is still there.
    fn counts(store: &mut SqliteStore) -> [u64; 6] {
        let one = [Filter::parse("s.2").unwrap()];
        let mut count = |from, filters: &[Filter]| store.count_matching(STREAM, Sequence(from), filters).unwrap();
        [1, MESSAGES / 2, MESSAGES - 5_000]
            .map(|from| [count(from, &[]), count(from, &one)])
            .concat()
            .try_into()
            .unwrap()
    }

    /// The same, of messages of which every fourth is gone up to a sequence.
    fn expected(up_to: u64, last: u64) -> [u64; 6] {
        let is_there = |sequence: &u64| sequence % 4 != 1 || *sequence > up_to;
        let all = |from: u64| (from..=last).filter(is_there).count() as u64;
        let one = |from: u64| (from..=last).filter(|sequence| sequence % 4 == 2).count() as u64;
        [1, MESSAGES / 2, MESSAGES - 5_000].map(|from| [all(from), one(from)]).concat().try_into().unwrap()
    }

    /// The store as it is after a kill.
    fn killed(folder: &Path) -> (tempfile::TempDir, SqliteStore) {
        let copy = tempfile::tempdir().unwrap();
        for name in ["store.db", "store.db-wal", "store.lock"] {
            std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
        }
        let store = open(copy.path());
        (copy, store)
    }

    #[test]
    fn summaries_are_corrected_step_by_step_and_say_the_same_at_each_also_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
        (1..=MESSAGES).for_each(|sequence| append(&mut store, sequence));
        store.commit().unwrap();
        let filter = Filter::parse("s.1").unwrap();
        let (mut last, mut steps, mut partial) = (MESSAGES, 0, 0);
        loop {
            let (evicted, more) = store.purge(STREAM, &filter, Some(Sequence(MESSAGES + 1)), 0, 1024).unwrap();
            last += 1;
            append(&mut store, last);
            store.commit().unwrap();
            let stream = &store.streams[&STREAM.0];
            partial += u32::from(stream.correcting.is_some() && !stream.is_uncertain);
            if steps % 8 == 0 || !more {
                let up_to = if more { evicted.last.0 } else { MESSAGES };
                assert_eq!(counts(&mut store), expected(up_to, last), "at {last}");
                let (_copy, mut again) = killed(folder.path());
                assert_eq!(counts(&mut again), expected(up_to, last), "at {last} after a kill");
                last += 1;
                append(&mut again, last);
                again.commit().unwrap();
                assert_eq!(counts(&mut again), expected(up_to, last), "at {last} after a kill and a commit");
                last -= 1;
            }
            steps += 1;
            if !more {
                break;
            }
        }
        assert!(partial > 0, "never between two steps in {steps}");
        while store.streams[&STREAM.0].correcting.is_some() {
            store.touch(STREAM.0).unwrap();
            store.commit().unwrap();
        }
        let stream = &store.streams[&STREAM.0];
        assert!(stream.removed.len() < CORRECTED_AT, "{} are still named", stream.removed.len());
        assert_eq!(counts(&mut store), expected(MESSAGES, last));
    }
}
