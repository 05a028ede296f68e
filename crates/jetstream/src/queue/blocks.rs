//! Entries of session queues as records: [`POSITIONS`] neighbouring positions share one, `q<session><block>`.
//!
//! A block is written once per commit, however many of its entries came and went since the last, and a block whose entries come and go
//! between two commits never. What was written lately stays in memory, bounded, so that acknowledgements need not read it again.

use std::collections::BTreeMap;

use crate::identity::{Sequence, SessionId, StreamId};
use crate::record::{Reader, put};
use crate::store::{Store, StoreError, record_space};

const VERSION: u8 = 2;
/// Positions of one block: one record of some 500 bytes.
const POSITIONS: u64 = 64;
/// Blocks kept in memory that need not be written.
const MOST_CLEAN: usize = 512;

/// A message that a session is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    pub(crate) stream: StreamId,
    pub(crate) sequence: Sequence,
    pub(crate) quality: u8,
    pub(crate) size: u32,
}

/// The open entries of one block, in order.
#[derive(Debug, Default)]
struct Block {
    entries: Vec<Entry>,
    changed: bool,
    /// There is a record of it.
    stored: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    known: BTreeMap<(SessionId, u64), Block>,
    changed: Vec<(SessionId, u64)>,
}

impl Blocks {
    /// Enters an entry behind all others of its session. `first`: it is the only one.
    pub(crate) fn push(
        &mut self,
        store: &mut dyn Store,
        session: SessionId,
        entry: Entry,
        first: bool,
    ) -> Result<(), StoreError> {
        let number = entry.position / POSITIONS;
        let fresh = first || entry.position.is_multiple_of(POSITIONS);
        if fresh {
            self.known.entry((session, number)).or_default();
        }
        self.change(store, session, number)?.push(entry);
        Ok(())
    }

    /// Takes an entry out.
    pub(crate) fn remove(
        &mut self,
        store: &mut dyn Store,
        session: SessionId,
        position: u64,
    ) -> Result<(), StoreError> {
        let entries = self.change(store, session, position / POSITIONS)?;
        if let Ok(index) = entries.binary_search_by_key(&position, |entry| entry.position) {
            entries.remove(index);
        }
        Ok(())
    }

    /// The entry at a position.
    pub(crate) fn find(
        &mut self,
        store: &mut dyn Store,
        session: SessionId,
        position: u64,
    ) -> Result<Option<Entry>, StoreError> {
        let entries = &self.block(store, session, position / POSITIONS)?.entries;
        let index = entries.binary_search_by_key(&position, |entry| entry.position);
        Ok(index.ok().and_then(|index| entries.get(index).copied()))
    }

    /// The first entries from a position on, at most so many.
    pub(crate) fn read(
        &self,
        store: &mut dyn Store,
        session: SessionId,
        from: u64,
        most: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let (mut entries, mut outcome, mut up_to) = (Vec::new(), Ok(()), u64::MAX);
        let (prefix, first) = (&key(session, 0)[..5], from / POSITIONS);
        store.scan_records(prefix, &key(session, first), &mut |key, value| {
            let Some((_, Some(number))) = decode_key(key) else { return true };
            if !self.known.contains_key(&(session, number)) {
                outcome = decode(number, value).map(|block| entries.extend(block));
            }
            if entries.iter().filter(|entry| entry.position >= from).count() >= most {
                up_to = number;
            }
            outcome.is_ok() && up_to == u64::MAX
        })?;
        outcome?;
        // What is in memory is newer than its record.
        for (_, block) in self.known.range((session, first)..=(session, up_to)) {
            entries.extend_from_slice(&block.entries);
        }
        entries.retain(|entry| entry.position >= from);
        entries.sort_unstable_by_key(|entry| entry.position);
        entries.truncate(most);
        Ok(entries)
    }

    /// Forgets everything of a session.
    pub(crate) fn clear(&mut self, store: &mut dyn Store, session: SessionId) -> Result<(), StoreError> {
        self.known.retain(|(other, _), _| *other != session);
        self.changed.retain(|(other, _)| *other != session);
        let mut keys = Vec::new();
        let prefix = &key(session, 0)[..5];
        store.scan_records(prefix, prefix, &mut |key, _| {
            keys.push(key.to_vec());
            true
        })?;
        keys.iter().try_for_each(|key| store.delete_record(key))
    }

    /// Is there something to write?
    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Writes what changed.
    pub(crate) fn save(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        for (session, number) in self.changed.drain(..) {
            let Some(block) = self.known.get_mut(&(session, number)) else { continue };
            block.changed = false;
            if !block.entries.is_empty() {
                store.put_record(&key(session, number), &encode(&block.entries))?;
                block.stored = true;
                continue;
            }
            if block.stored {
                store.delete_record(&key(session, number))?;
            }
            self.known.remove(&(session, number));
        }
        if self.known.len() > MOST_CLEAN {
            self.known.clear();
        }
        Ok(())
    }

    fn change(
        &mut self,
        store: &mut dyn Store,
        session: SessionId,
        number: u64,
    ) -> Result<&mut Vec<Entry>, StoreError> {
        let block = Blocks::known(&mut self.known, store, session, number)?;
        if !block.changed {
            block.changed = true;
            self.changed.push((session, number));
        }
        Ok(&mut block.entries)
    }

    fn block(&mut self, store: &mut dyn Store, session: SessionId, number: u64) -> Result<&mut Block, StoreError> {
        Blocks::known(&mut self.known, store, session, number)
    }

    fn known<'a>(
        known: &'a mut BTreeMap<(SessionId, u64), Block>,
        store: &mut dyn Store,
        session: SessionId,
        number: u64,
    ) -> Result<&'a mut Block, StoreError> {
        use std::collections::btree_map::Entry;
        Ok(match known.entry((session, number)) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => {
                let record = store.record(&key(session, number))?;
                let entries = record.as_deref().map_or(Ok(Vec::new()), |record| decode(number, record))?;
                place.insert(Block { entries, changed: false, stored: record.is_some() })
            }
        })
    }
}

/// Key of a block; place 0 holds the row of the queue.
fn key(session: SessionId, number: u64) -> [u8; 13] {
    place_key(session, number + 1)
}

/// Key of the queue's row.
pub(crate) fn row_key(session: SessionId) -> [u8; 13] {
    place_key(session, 0)
}

fn place_key(session: SessionId, place: u64) -> [u8; 13] {
    let mut key = [record_space::QUEUE; 13];
    key[1..5].copy_from_slice(&session.0.to_be_bytes());
    key[5..].copy_from_slice(&place.to_be_bytes());
    key
}

/// The session of a key, and the block; `None`: the queue's row.
pub(crate) fn decode_key(key: &[u8]) -> Option<(SessionId, Option<u64>)> {
    let session = u32::from_be_bytes(key.get(1..5)?.try_into().ok()?);
    let place = u64::from_be_bytes(key.get(5..13)?.try_into().ok()?);
    Some((SessionId(session), place.checked_sub(1)))
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + entries.len() * 12);
    value.push(VERSION);
    for entry in entries {
        value.push((entry.position % POSITIONS) as u8);
        value.push(entry.quality);
        put(&mut value, u64::from(entry.stream.0));
        put(&mut value, entry.sequence.0);
        put(&mut value, u64::from(entry.size));
    }
    value
}

/// The entries of a block's record, in order.
pub(crate) fn decode(number: u64, value: &[u8]) -> Result<Vec<Entry>, StoreError> {
    let what = "entries of a session queue";
    let mut from = Reader::new(value, VERSION, what)?;
    let mut entries: Vec<Entry> = Vec::new();
    let start = number.checked_mul(POSITIONS).ok_or_else(|| StoreError::Damaged(what.into()))?;
    while !from.is_at_end() {
        let position = start + u64::from(from.byte()?);
        let quality = from.byte()?;
        let stream = StreamId(from.number_u32()?);
        let entry = Entry { position, stream, quality, sequence: Sequence(from.number()?), size: from.number_u32()? };
        let follows = entries.last().is_none_or(|last| last.position < position);
        if !follows || position - start >= POSITIONS {
            return Err(StoreError::Damaged(what.into()));
        }
        entries.push(entry);
    }
    Ok(entries)
}
