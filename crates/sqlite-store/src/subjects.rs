//! What is known of each subject of a stream, in memory: 32 bytes, the text and an index of 4-byte ids.
//!
//! A subject has a small id while it holds messages. An id that became free is given again only after the stream's next checkpoint, because
//! summaries and the removal log of the meantime still name it. On disk the table lies in *chunks* of 1,024 ids, texts and states apart: texts are
//! written when a subject appears, states at each checkpoint in which one of them changed.
//!
//! ```text
//! texts    CRC32C, then for each id: varint length + 1 (0: free), text
//! states   CRC32C, then for each id: varint messages (0: free), and if any: varint sequence of the newest
//! ```

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use crate::varint::{self, put};

/// Subjects in a chunk.
pub(crate) const CHUNK: usize = 1024;
/// A subject's text changed (it appeared or went).
const TEXTS: u8 = 1;
/// A subject's state changed.
const STATES: u8 = 2;
/// No id.
const NONE: u32 = u32::MAX;
/// Slots of an index that holds anything.
const SMALLEST_INDEX: usize = 16;

/// One subject.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    offset: u32,
    length: u16,
    /// The oldest message lies at `hint` itself.
    oldest_known: bool,
    /// Size of that one; 0: only its row tells.
    oldest_size: u16,
    /// Size of the newest, likewise.
    last_size: u16,
    /// Messages held; 0: the id is free.
    messages: u32,
    /// Sequence of the newest.
    last: u64,
    /// No message of it lies below this sequence.
    hint: u64,
}

impl Entry {
    /// Its newest message is its only one.
    fn newest_is_oldest(&mut self) {
        // Not so while the newest is hidden.
        self.oldest_known = self.last != u64::MAX;
        if self.oldest_known {
            (self.hint, self.oldest_size) = (self.last, self.last_size);
        }
    }
}

/// The table; see the module.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// Open addressing, power of two, at most three quarters full.
    index: Vec<u32>,
    live: usize,
    garbage: usize,
    free: Vec<u32>,
    /// Free from the next checkpoint on.
    freed: Vec<u32>,
    dirty: Vec<u8>,
    hash: RandomState,
}

impl Subjects {
    /// Distinct subjects.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Ids are below this.
    pub(crate) fn bound(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(crate) fn find(&self, subject: &[u8]) -> Option<u32> {
        if self.index.is_empty() {
            return None;
        }
        let mask = self.index.len() - 1;
        let mut slot = self.home(subject);
        loop {
            match self.index[slot] {
                NONE => return None,
                id if self.name(id) == subject => return Some(id),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    /// Text of a subject.
    pub(crate) fn name(&self, id: u32) -> &[u8] {
        match self.entries.get(id as usize) {
            Some(entry) => &self.text[entry.offset as usize..entry.offset as usize + usize::from(entry.length)],
            None => b"",
        }
    }

    /// Messages held and sequence of the newest.
    pub(crate) fn get(&self, id: u32) -> (u64, u64) {
        self.entries.get(id as usize).map_or((0, 0), |entry| (u64::from(entry.messages), entry.last))
    }

    /// Where to begin looking for its oldest message.
    pub(crate) fn hint(&self, id: u32) -> u64 {
        self.entries.get(id as usize).map_or(0, |entry| entry.hint)
    }

    /// Sequence of its oldest message, if it is known: with one or two messages it always is, unless others were between them. And its size; 0:
    /// only its row tells.
    pub(crate) fn oldest(&self, id: u32) -> Option<(u64, u64)> {
        let entry = self.entries.get(id as usize).filter(|entry| entry.oldest_known && entry.messages > 0)?;
        Some((entry.hint, u64::from(entry.oldest_size)))
    }

    /// Its oldest message is not below `sequence`.
    pub(crate) fn raise_hint(&mut self, id: u32, sequence: u64) {
        if let Some(entry) = self.entries.get_mut(id as usize).filter(|entry| entry.hint < sequence) {
            entry.hint = sequence;
            entry.oldest_known = false;
        }
    }

    /// Ids of all subjects, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.entries.iter().enumerate().filter(|(_, entry)| entry.messages > 0).map(|(id, _)| id as u32)
    }

    /// Makes room for so many subjects in all: the index is not made anew for them, which looks every one of them up again.
    pub(crate) fn reserve(&mut self, subjects: usize) {
        self.entries.reserve_exact(subjects.saturating_sub(self.entries.len()));
        let size = (subjects * 4 / 3 + 1).next_power_of_two().max(SMALLEST_INDEX);
        if size > self.index.len() {
            self.rebuild_index(size);
        }
    }

    /// Gives a subject an id. It must be counted at once: an id without messages is free.
    pub(crate) fn insert(&mut self, subject: &[u8], sequence: u64) -> u32 {
        let id = self.free.pop().unwrap_or(self.entries.len() as u32);
        self.insert_as(id, subject, sequence);
        id
    }

    /// Gives a subject a known id, which must not be in use. A text that stands already under another id stands twice then.
    pub(crate) fn insert_as(&mut self, id: u32, subject: &[u8], sequence: u64) {
        self.make_room();
        let mut slot = self.home(subject);
        while self.index[slot] != NONE {
            slot = (slot + 1) & (self.index.len() - 1);
        }
        self.put(id, slot, subject, sequence);
    }

    /// Gives a subject that is not there yet a known id; `false`: it is there. One look-up for both.
    pub(crate) fn insert_new(&mut self, id: u32, subject: &[u8], sequence: u64) -> bool {
        self.make_room();
        let mut slot = self.home(subject);
        while self.index[slot] != NONE {
            if self.name(self.index[slot]) == subject {
                return false;
            }
            slot = (slot + 1) & (self.index.len() - 1);
        }
        self.put(id, slot, subject, sequence);
        true
    }

    fn make_room(&mut self) {
        if (self.live + 1) * 4 > self.index.len() * 3 {
            self.rebuild_index((self.index.len() * 2).max(SMALLEST_INDEX));
        }
    }

    /// Where a text is looked for first.
    fn home(&self, subject: &[u8]) -> usize {
        self.hash.hash_one(subject) as usize & (self.index.len() - 1)
    }

    fn put(&mut self, id: u32, slot: usize, subject: &[u8], sequence: u64) {
        if id as usize >= self.entries.len() {
            self.entries.resize(id as usize + 1, Entry::default());
        }
        let offset = self.text.len() as u32;
        self.text.extend_from_slice(subject);
        self.entries[id as usize] = Entry { offset, length: subject.len() as u16, hint: sequence, ..Entry::default() };
        self.live += 1;
        self.mark(id, TEXTS | STATES);
        self.index[slot] = id;
    }

    /// `messages` more on it, the newest at `last`.
    pub(crate) fn add(&mut self, id: u32, messages: u32, last: u64) {
        self.add_sized(id, messages, last, 0);
    }

    /// The same, with the size of the newest if it is known.
    pub(crate) fn add_sized(&mut self, id: u32, messages: u32, last: u64, size: u64) {
        let entry = &mut self.entries[id as usize];
        if entry.messages == 1 {
            // Until now it was the only one.
            entry.newest_is_oldest();
        }
        let is_only = entry.messages == 0 && messages == 1;
        entry.messages += messages;
        entry.last = last;
        entry.last_size = u16::try_from(size).unwrap_or(0);
        if is_only {
            entry.newest_is_oldest();
        }
        self.mark(id, STATES);
    }

    /// The newest message is being removed: until its successor is known, searches must not take it for the answer.
    pub(crate) fn hide_newest(&mut self, id: u32) {
        if let Some(entry) = self.entries.get_mut(id as usize) {
            (entry.last, entry.last_size) = (u64::MAX, 0);
        }
    }

    /// One message fewer, the one at `sequence`. If it was the newest and others remain, `last` says which is the newest now. `true` when the subject is gone.
    pub(crate) fn subtract(&mut self, id: u32, sequence: u64, last: Option<u64>) -> bool {
        let Some(entry) = self.entries.get_mut(id as usize).filter(|entry| entry.messages > 0) else { return false };
        entry.messages -= 1;
        // When the log of removals is read again a newer message may be known already.
        if let Some(last) = last.filter(|_| entry.last == sequence || entry.last == u64::MAX) {
            (entry.last, entry.last_size) = (last, 0);
        }
        if entry.messages == 1 {
            entry.newest_is_oldest();
        } else if entry.hint <= sequence && entry.oldest_known {
            entry.oldest_known = entry.hint != sequence;
        }
        let gone = entry.messages == 0;
        self.mark(id, STATES);
        if gone {
            self.unlink(id);
        }
        gone
    }

    /// Ids freed so far may be given again.
    pub(crate) fn release_freed(&mut self) {
        self.free.append(&mut self.freed);
        if self.garbage > 4096 && self.garbage * 2 > self.text.len() {
            self.compact();
        }
    }

    /// Finds ids in no use after loading; they are free.
    pub(crate) fn collect_free(&mut self) {
        let used: std::collections::BTreeSet<u32> = self.freed.iter().copied().collect();
        self.free = (0..self.entries.len() as u32)
            .rev()
            .filter(|id| self.entries[*id as usize].length == 0 && !used.contains(id))
            .collect();
    }

    /// Chunks to write, with what changed in them; forgets the marks.
    pub(crate) fn take_dirty(&mut self) -> Vec<(u32, bool, bool)> {
        let dirty = self.dirty.iter_mut().enumerate().filter(|(_, marks)| **marks != 0);
        dirty
            .map(|(chunk, marks)| {
                let marks = std::mem::take(marks);
                (chunk as u32, marks & TEXTS != 0, marks & STATES != 0)
            })
            .collect()
    }

    /// After loading nothing is dirty.
    pub(crate) fn forget_dirty(&mut self) {
        self.dirty.fill(0);
    }

    fn chunk(&self, chunk: u32) -> impl Iterator<Item = (u32, &Entry)> {
        let start = (chunk as usize * CHUNK).min(self.entries.len());
        let end = (start + CHUNK).min(self.entries.len());
        self.entries[start..end].iter().enumerate().map(move |(index, entry)| ((start + index) as u32, entry))
    }

    /// Blob of a chunk's texts.
    pub(crate) fn encode_texts(&self, chunk: u32) -> Vec<u8> {
        let mut out = vec![0; 4];
        for (id, entry) in self.chunk(chunk) {
            if entry.messages == 0 {
                put(&mut out, 0);
            } else {
                put(&mut out, u64::from(entry.length) + 1);
                out.extend_from_slice(self.name(id));
            }
        }
        varint::seal(&mut out);
        out
    }

    /// Blob of a chunk's states.
    pub(crate) fn encode_states(&self, chunk: u32) -> Vec<u8> {
        let mut out = vec![0; 4];
        for (_, entry) in self.chunk(chunk) {
            put(&mut out, u64::from(entry.messages));
            if entry.messages > 0 {
                put(&mut out, entry.last);
            }
        }
        varint::seal(&mut out);
        out
    }

    fn mark(&mut self, id: u32, what: u8) {
        let chunk = id as usize / CHUNK;
        if chunk >= self.dirty.len() {
            self.dirty.resize(chunk + 1, 0);
        }
        self.dirty[chunk] |= what;
    }

    fn link(&mut self, id: u32) {
        let mask = self.index.len() - 1;
        let mut slot = self.home(self.name(id));
        while self.index[slot] != NONE {
            slot = (slot + 1) & mask;
        }
        self.index[slot] = id;
    }

    fn unlink(&mut self, id: u32) {
        let mask = self.index.len() - 1;
        let mut hole = self.home(self.name(id));
        while self.index[hole] != id {
            hole = (hole + 1) & mask;
        }
        // Close the gap: whoever probed past it moves up.
        let mut slot = hole;
        loop {
            slot = (slot + 1) & mask;
            let other = self.index[slot];
            if other == NONE {
                break;
            }
            let home = self.home(self.name(other));
            if (slot.wrapping_sub(home) & mask) >= (slot.wrapping_sub(hole) & mask) {
                self.index[hole] = other;
                hole = slot;
            }
        }
        self.index[hole] = NONE;
        self.garbage += usize::from(self.entries[id as usize].length);
        self.entries[id as usize] = Entry::default();
        self.live -= 1;
        self.freed.push(id);
        self.mark(id, TEXTS);
    }

    fn rebuild_index(&mut self, size: usize) {
        self.index.clear();
        self.index.resize(size, NONE);
        for id in 0..self.entries.len() as u32 {
            if self.entries[id as usize].length > 0 {
                self.link(id);
            }
        }
    }

    fn compact(&mut self) {
        let mut text = Vec::with_capacity(self.text.len() - self.garbage);
        for entry in self.entries.iter_mut().filter(|entry| entry.length > 0) {
            let offset = text.len() as u32;
            text.extend_from_slice(
                &self.text[entry.offset as usize..entry.offset as usize + usize::from(entry.length)],
            );
            entry.offset = offset;
        }
        self.text = text;
        self.garbage = 0;
    }
}

/// Decodes a chunk's texts: for each id in it the text, or `None` for a free one.
#[must_use]
pub fn decode_texts(blob: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let mut cursor = varint::open_sealed(blob)?;
    let mut texts = Vec::new();
    while !cursor.0.is_empty() {
        if texts.len() == CHUNK {
            return None;
        }
        let length = usize::try_from(cursor.varint()?).ok()?;
        texts.push(match length {
            0 => None,
            _ => Some(cursor.take(length - 1).filter(|text| !text.is_empty() && text.len() <= usize::from(u16::MAX))?),
        });
    }
    Some(texts)
}

/// Decodes a chunk's states: for each id in it its messages and the newest one's sequence.
#[must_use]
pub fn decode_states(blob: &[u8]) -> Option<Vec<(u32, u64)>> {
    let mut cursor = varint::open_sealed(blob)?;
    let mut states = Vec::new();
    while !cursor.0.is_empty() {
        if states.len() == CHUNK {
            return None;
        }
        let messages = cursor.varint32()?;
        states.push((messages, if messages == 0 { 0 } else { cursor.varint()? }));
    }
    Some(states)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((0u8..60, any::<bool>()), 1..400)) {
            let mut table = Subjects::default();
            let mut model: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
            for (sequence, (number, add)) in steps.iter().enumerate() {
                let name = format!("subject.{number}").into_bytes();
                let sequence = sequence as u64 + 1;
                if *add {
                    let id = table.find(&name).unwrap_or_else(|| table.insert(&name, sequence));
                    table.add(id, 1, sequence);
                    let entry = model.entry(name).or_default();
                    *entry = (entry.0 + 1, sequence);
                } else if let Some(id) = table.find(&name) {
                    let gone = table.subtract(id, 0, None);
                    let entry = model.get_mut(&name).unwrap();
                    entry.0 -= 1;
                    prop_assert_eq!(gone, entry.0 == 0);
                    if gone {
                        model.remove(&name);
                    }
                }
                if sequence.is_multiple_of(50) {
                    table.release_freed();
                    table.compact();
                }
            }
            let found: BTreeMap<Vec<u8>, (u64, u64)> = table.ids().map(|id| (table.name(id).to_vec(), table.get(id))).collect();
            prop_assert_eq!(&found, &model);
            prop_assert_eq!(table.len(), model.len());
            let texts = table.encode_texts(0);
            let states = table.encode_states(0);
            let back: BTreeMap<Vec<u8>, (u64, u64)> = decode_texts(&texts).unwrap().into_iter().zip(decode_states(&states).unwrap())
                .filter_map(|(text, (messages, last))| Some((text?.to_vec(), (u64::from(messages), last)))).collect();
            prop_assert_eq!(back, model);
        }
    }
}
