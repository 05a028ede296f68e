//! Summaries: one row per 1,024 messages of a stream (a *block*) that says which subject each of its messages has, so that filtered reads, counts
//! and searches skip what can't match and never read message rows to find out.
//!
//! ```text
//! bytes 0..4   CRC32C of the rest
//! varint ×4    first sequence, last − first, messages, their size
//! varint       names; each: varint subject id, varint length, text      subjects that got their id in this block
//! varint       subjects; each, ids ascending: varint id − previous id, varint messages, then that many varints: distance to the message before
//! ```
//!
//! The hashes of message ids lie in a column of their own (`bytes 0..4` CRC32C, varint count, each: varint distance from the sequence before, varint age
//! (zigzag, from the one before), 16 bytes hash): reads by subject never touch it.
//!
//! A block on disk is exact as of the stream's last checkpoint; removals since then are in the removal log.

use crate::varint::{self, Cursor, put, unzigzag, zigzag};

/// Messages in a full block.
pub(crate) const BLOCK: usize = 1024;
/// A block is closed early rather than span more sequences than this.
pub(crate) const SPAN: u64 = 1 << 31;
/// "Removed again" in an open block.
const GONE: u32 = u32::MAX;

/// The subject of one message of the open block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) subject: u32,
}

/// A message id remembered in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdEntry {
    /// Sequence of the message.
    pub sequence: u64,
    /// When it was stored.
    pub age: u64,
    /// Hash of the id.
    pub hash: u128,
}

/// The block that is being filled; in memory only, rebuilt from the newest rows.
#[derive(Debug, Default)]
pub(crate) struct OpenBlock {
    entries: Vec<Entry>,
    /// Ids of its messages, oldest first.
    pub(crate) ids: Vec<IdEntry>,
    /// Subjects that got their id since the block before was closed.
    pub(crate) names: Vec<u32>,
    live: usize,
    bytes: u64,
}

impl OpenBlock {
    pub(crate) fn push(&mut self, sequence: u64, subject: u32, size: u64) {
        self.entries.push(Entry { sequence, subject });
        self.live += 1;
        self.bytes += size;
    }

    /// Should it be closed before a message of that sequence is added?
    pub(crate) fn is_full(&self, sequence: u64) -> bool {
        self.entries.len() >= BLOCK || self.entries.first().is_some_and(|first| sequence - first.sequence >= SPAN)
    }

    /// Forgets a message; answers its subject.
    pub(crate) fn remove(&mut self, sequence: u64, size: u64) -> Option<u32> {
        let index = self.entries.binary_search_by_key(&sequence, |entry| entry.sequence).ok()?;
        let subject = std::mem::replace(&mut self.entries[index].subject, GONE);
        if subject == GONE {
            return None;
        }
        self.live -= 1;
        self.bytes = self.bytes.saturating_sub(size);
        Some(subject)
    }

    /// Messages still there, from a sequence on, oldest first.
    pub(crate) fn live(&self, from: u64) -> impl DoubleEndedIterator<Item = Entry> {
        let start = self.entries.partition_point(|entry| entry.sequence < from);
        self.entries[start..].iter().copied().filter(|entry| entry.subject != GONE)
    }

    /// The finished block, `None` when nothing is left in it. The open one is empty afterwards.
    pub(crate) fn close(&mut self) -> Option<Block> {
        let block = Block::from_entries(self.live(0).collect(), self.bytes);
        self.entries.clear();
        self.names.clear();
        self.ids.clear();
        self.live = 0;
        self.bytes = 0;
        block
    }
}

/// A decoded summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Sequence of its first message.
    pub first: u64,
    /// Sequence of its last message.
    pub last: u64,
    /// Size of its messages by nats-server's measure.
    pub bytes: u64,
    /// Ascending subject ids, with the end of each one's part of `offsets`.
    subjects: Vec<(u32, u16)>,
    /// Distances from `first`, ascending within a subject.
    offsets: Vec<u32>,
    /// Subjects named in it.
    pub names: Vec<(u32, Vec<u8>)>,
}

impl Block {
    fn from_entries(mut entries: Vec<Entry>, bytes: u64) -> Option<Block> {
        let (first, last) = (entries.first()?.sequence, entries.last()?.sequence);
        entries.sort_by_key(|entry| entry.subject);
        let mut block = Block { first, last, bytes, ..Block::default() };
        for entry in entries {
            block.offsets.push((entry.sequence - first) as u32);
            match block.subjects.last_mut() {
                Some((subject, end)) if *subject == entry.subject => *end += 1,
                _ => block.subjects.push((entry.subject, block.offsets.len() as u16)),
            }
        }
        Some(block)
    }

    /// Number of messages.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.offsets.len()
    }

    /// Each subject's id and its messages' distances from `first`.
    pub fn subjects(&self) -> impl Iterator<Item = (u32, &[u32])> {
        let mut start = 0;
        self.subjects.iter().map(move |(subject, end)| {
            let offsets = &self.offsets[start..usize::from(*end)];
            start = usize::from(*end);
            (*subject, offsets)
        })
    }

    /// Distances of one subject's messages.
    #[must_use]
    pub fn offsets_of(&self, subject: u32) -> &[u32] {
        let Ok(index) = self.subjects.binary_search_by_key(&subject, |(id, _)| *id) else { return &[] };
        let start = if index == 0 { 0 } else { usize::from(self.subjects[index - 1].1) };
        &self.offsets[start..usize::from(self.subjects[index].1)]
    }

    /// The block without messages that `gone` names; `None` when nothing is left. Bytes are not corrected: they matter only until the checkpoint.
    pub(crate) fn without(&self, gone: &dyn Fn(u64) -> bool) -> Option<Block> {
        let mut entries = Vec::with_capacity(self.offsets.len());
        for (subject, offsets) in self.subjects() {
            entries.extend(offsets.iter().map(|offset| Entry { sequence: self.first + u64::from(*offset), subject }));
        }
        entries.retain(|entry| !gone(entry.sequence));
        entries.sort_by_key(|entry| entry.sequence);
        Block::from_entries(entries, self.bytes)
    }

    /// Its blob.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.offsets.len() * 4);
        out.extend_from_slice(&[0; 4]);
        for value in
            [self.first, self.last - self.first, self.offsets.len() as u64, self.bytes, self.names.len() as u64]
        {
            put(&mut out, value);
        }
        for (id, name) in &self.names {
            put(&mut out, u64::from(*id));
            put(&mut out, name.len() as u64);
            out.extend_from_slice(name);
        }
        put(&mut out, self.subjects.len() as u64);
        let mut previous = 0;
        for (subject, offsets) in self.subjects() {
            put(&mut out, u64::from(subject - previous));
            previous = subject;
            put(&mut out, offsets.len() as u64);
            let mut before = 0;
            for offset in offsets {
                put(&mut out, u64::from(offset - before));
                before = *offset;
            }
        }
        varint::seal(&mut out);
        out
    }

    /// Decodes a blob; `None` when it isn't a whole summary.
    #[must_use]
    pub fn decode(blob: &[u8]) -> Option<Block> {
        let mut cursor = varint::open_sealed(blob)?;
        let first = cursor.varint()?;
        let span = u32::try_from(cursor.varint()?).ok()?;
        let last = first.checked_add(u64::from(span))?;
        let messages = cursor.length().filter(|count| (1..=BLOCK).contains(count))?;
        let bytes = cursor.varint()?;
        let mut block = Block { first, last, bytes, offsets: Vec::with_capacity(messages), ..Block::default() };
        for _ in 0..cursor.length().filter(|count| *count <= BLOCK)? {
            let id = cursor.varint32()?;
            let length = cursor.length()?;
            block.names.push((id, cursor.take(length)?.to_vec()));
        }
        block.decode_subjects(&mut cursor, span)?;
        (block.offsets.len() == messages && cursor.0.is_empty()).then_some(block)
    }

    /// Counts the messages of a blob whose subject is wanted, without decoding the rest of it. `up_to`: no id beyond is wanted. Answers the last sequence,
    /// too; `None` when it isn't a whole summary.
    #[must_use]
    pub fn count(blob: &[u8], up_to: u32, wants: &dyn Fn(u32) -> bool) -> Option<(u64, u64)> {
        let mut cursor = varint::open_sealed(blob)?;
        let first = cursor.varint()?;
        let last = first.checked_add(cursor.varint()?)?;
        cursor.skip(2)?;
        for _ in 0..cursor.length().filter(|count| *count <= BLOCK)? {
            cursor.skip(1)?;
            let length = cursor.length()?;
            cursor.take(length)?;
        }
        let (mut id, mut count) = (0u32, 0);
        for _ in 0..cursor.length().filter(|count| *count <= BLOCK)? {
            id = id.checked_add(cursor.varint32()?)?;
            if id > up_to {
                break;
            }
            let messages = cursor.length()?;
            cursor.skip(messages)?;
            if wants(id) {
                count += messages as u64;
            }
        }
        Some((last, count))
    }

    fn decode_subjects(&mut self, cursor: &mut Cursor<'_>, span: u32) -> Option<()> {
        let count = cursor.length().filter(|count| *count <= BLOCK)?;
        self.subjects.reserve_exact(count);
        let mut id = 0u32;
        for index in 0..count {
            let step = cursor.varint32()?;
            if index > 0 && step == 0 {
                return None;
            }
            id = id.checked_add(step)?;
            let messages =
                cursor.length().filter(|messages| *messages > 0 && self.offsets.len() + messages <= BLOCK)?;
            let mut offset = 0u32;
            for index in 0..messages {
                let step = cursor.varint32()?;
                offset = offset.checked_add(step).filter(|offset| *offset <= span && (index == 0 || step > 0))?;
                self.offsets.push(offset);
            }
            self.subjects.push((id, self.offsets.len() as u16));
        }
        Some(())
    }
}

/// The blob of a block's message ids.
pub(crate) fn encode_ids(ids: &[IdEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + ids.len() * 20);
    out.extend_from_slice(&[0; 4]);
    put(&mut out, ids.len() as u64);
    let (mut sequence, mut age) = (0u64, 0u64);
    for id in ids {
        put(&mut out, id.sequence - sequence);
        sequence = id.sequence;
        put(&mut out, zigzag(id.age.wrapping_sub(age) as i64));
        age = id.age;
        out.extend_from_slice(&id.hash.to_le_bytes());
    }
    varint::seal(&mut out);
    out
}

/// Decodes a block's message ids; `None` when the blob isn't whole.
#[must_use]
pub fn decode_ids(blob: &[u8]) -> Option<Vec<IdEntry>> {
    let mut cursor = varint::open_sealed(blob)?;
    let count = cursor.length().filter(|count| *count <= BLOCK)?;
    let mut ids = Vec::with_capacity(count);
    let (mut sequence, mut age) = (0u64, 0u64);
    for _ in 0..count {
        sequence = sequence.checked_add(cursor.varint()?)?;
        age = age.wrapping_add(unzigzag(cursor.varint()?) as u64);
        ids.push(IdEntry { sequence, age, hash: u128::from_le_bytes(cursor.array()?) });
    }
    cursor.0.is_empty().then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn blocks_come_back(subjects in prop::collection::vec((0u32..40, 1u64..5), 1..200), gone in 0u64..4) {
            let mut open = OpenBlock::default();
            let mut sequence = 10;
            for (subject, step) in &subjects {
                sequence += step;
                open.push(sequence, *subject, 30);
            }
            let expected: Vec<(u64, u32)> = open.live(0).map(|entry| (entry.sequence, entry.subject)).collect();
            let mut block = open.close().unwrap();
            block.names.push((3, b"a.b".to_vec()));
            let back = Block::decode(&block.encode()).unwrap();
            prop_assert_eq!(&back, &block);
            let mut found: Vec<(u64, u32)> = Vec::new();
            for (subject, offsets) in back.subjects() {
                prop_assert_eq!(offsets, back.offsets_of(subject));
                found.extend(offsets.iter().map(|offset| (back.first + u64::from(*offset), subject)));
            }
            found.sort_unstable();
            prop_assert_eq!(&found, &expected);
            let left = back.without(&|sequence| sequence % 4 == gone).map_or(0, |block| block.messages());
            prop_assert_eq!(left, expected.iter().filter(|(sequence, _)| sequence % 4 != gone).count());
        }
    }

    #[test]
    fn ids_come_back() {
        let ids = [IdEntry { sequence: 5, age: 100, hash: 1 }, IdEntry { sequence: 9, age: 90, hash: u128::MAX }];
        let blob = encode_ids(&ids);
        assert_eq!(decode_ids(&blob).unwrap(), ids);
        assert_eq!(decode_ids(&blob[..blob.len() - 1]), None);
    }

    #[test]
    fn what_is_removed_from_the_open_block_is_not_in_the_summary() {
        let mut open = OpenBlock::default();
        open.push(1, 7, 30);
        open.push(2, 8, 30);
        assert_eq!(open.remove(1, 30), Some(7));
        assert_eq!(open.remove(1, 30), None);
        let block = open.close().unwrap();
        assert_eq!((block.first, block.last, block.messages(), block.bytes), (2, 2, 1, 30));
        assert!(open.close().is_none());
    }
}
