//! A stream's checkpoint: afterwards its summaries are exact, its subject table is on disk as it is in memory, and its removal log is empty. Part of
//! an ordinary commit; due after 64 blocks or 32,768 removals, so that opening has little to replay.

use std::rc::Rc;

use jetstream::identity::{Sequence, Timestamp};
use jetstream::store::StoreError;

use crate::append::close_block;
use crate::block::Block;
use crate::database::Database;
use crate::ring::Ring;
use crate::stream::Stream;
use crate::varint::{self, put, unzigzag, zigzag};

/// Blocks after which a checkpoint is due: what opening replays at most.
const BLOCKS: u32 = 64;
/// Removals after which a checkpoint is due: 16 bytes each in memory.
pub(crate) const REMOVALS: usize = 32_768;

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

/// Is it time?
pub(crate) fn is_due(stream: &Stream) -> bool {
    stream.blocks_since_checkpoint >= BLOCKS || stream.removed.len() >= REMOVALS
}

/// Writes a stream's checkpoint into the open transaction.
pub(crate) fn write(db: &mut Database, ring: &Ring, stream: &mut Stream) -> Result<(), StoreError> {
    close_block(db, ring, stream)?;
    correct_blocks(db, stream)?;
    write_chunks(db, stream)?;
    let base = i64::from(stream.id) << 32;
    db.run("DELETE FROM removal WHERE key >= ? AND key < ?", (base, base + (1 << 32)))?;
    stream.removal_rows = 0;
    stream.removal_log.clear();
    stream.forget_removed();
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

/// Takes what was removed out of the summaries.
fn correct_blocks(db: &mut Database, stream: &mut Stream) -> Result<(), StoreError> {
    let id = stream.id;
    // What lies below the mark of a clearing goes in steps of its own.
    let bounds = (stream.erased as i64, stream.state.first.0.min(i64::MAX as u64) as i64);
    db.run(&format!("DELETE FROM b{id} WHERE last >= ? AND last < ?"), bounds)?;
    db.forget_blocks(id);
    let first = stream.state.first.0;
    stream.removed.sort_unstable();
    let removed: Vec<u64> =
        stream.removed.iter().map(|(sequence, _)| *sequence).filter(|sequence| *sequence >= first).collect();
    // The front block loses what lies below the first message, too.
    let mut at = 0;
    let mut from = Some(first);
    while let Some(next) = from.take().or_else(|| removed.get(at).copied()) {
        let Some(block) = db.block_from(id, next)? else { break };
        let gone = &removed[at..];
        let end = at + gone.partition_point(|sequence| *sequence <= block.last);
        let gone = &removed[at..end];
        if !gone.is_empty() || block.first < first {
            rewrite(db, id, &block, &|sequence| sequence < first || gone.binary_search(&sequence).is_ok())?;
        }
        at = end;
    }
    db.forget_blocks(id);
    Ok(())
}

fn rewrite(db: &Database, id: u32, block: &Rc<Block>, gone: &dyn Fn(u64) -> bool) -> Result<(), StoreError> {
    match block.without(gone) {
        None => db.run(&format!("DELETE FROM b{id} WHERE last = ?"), [block.last as i64])?,
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
