//! What a forward still owes its hub: messages of a work queue or interest stream that every consumer is done with, and that the hub has not
//! confirmed, or only so lately that it may not have them on its disk yet. Nothing leaves the store before that.
//!
//! ```text
//!  a consumer is done ─► somebody else needs it ──────────────► it stays
//!                    └─► nobody does ─► not forwarded ────────► it goes
//!                                    ├─► released ────────────► it goes
//!                                    └─► not released ─► owed ─► released ─► it goes, in steps
//! ```
//!
//! *Released* is what was confirmed, and has been for `hold`: a hub acknowledges minutes before it syncs, and one that loses its power is sent that
//! again. It is held where limits allow: what is confirmed goes before a limit of its stream, or of all streams, would cost anything else; and of a
//! stream with a limit for each subject it goes at once, as it counts on its subject.
//!
//! For consumers an owed message is gone: one that is made later does not get it. It is counted among the stream's messages and bytes, can be read, and
//! limits, age and purges take it like any other (then it is lost, and a gap record says so).
//!
//! One record for 256 sequences, written with the commit of the acknowledgements. Of a stream that is not forwarded any more everything owed goes.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Forwarded;
use crate::config::Retention;
use crate::identity::{Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::store::{Store, StoreError, record_space};
use crate::stream::{Stream, limit};

/// Sequences of a record.
const CHUNK: u64 = 256;
const WORDS: usize = (CHUNK / 64) as usize;
/// Messages that go in one turn.
const STEP: usize = 1024;
/// Steps of [`HELD_STEP`] for one publish that needs room on the disk; one that needs more finds it when it comes again.
const MOST_HELD_STEPS: u32 = 256;
/// Messages that are held for a hub's disk only, and go at once where room is needed: some more than one publish needs.
const HELD_STEP: usize = 64;
const VERSION: u8 = 1;
const KEY_LEN: usize = 13;

/// Sequences, 256 of them in 32 bytes.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    /// By sequence / 256. None is empty.
    chunks: BTreeMap<u64, [u64; WORDS]>,
    /// Those that are not as they are stored.
    changed: BTreeSet<u64>,
    /// It is in the list of those that changed.
    is_listed: bool,
}

/// What is owed in a store, all streams together.
#[derive(Debug, Default)]
pub(crate) struct Debts {
    /// Streams that are forwarded, by name; they need not exist.
    forwards: BTreeSet<Box<str>>,
    /// Streams to be saved with the next commit.
    changed: Vec<StreamId>,
    /// Streams of which something may go.
    due: BTreeSet<StreamId>,
}

impl Owed {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn contains(&self, sequence: Sequence) -> bool {
        let (word, bit) = place(sequence);
        self.chunks.get(&(sequence.0 / CHUNK)).is_some_and(|chunk| chunk[word] & bit != 0)
    }

    fn insert(&mut self, sequence: Sequence) {
        let (word, bit) = place(sequence);
        let number = sequence.0 / CHUNK;
        let chunk = self.chunks.entry(number).or_default();
        if chunk[word] & bit == 0 {
            chunk[word] |= bit;
            self.changed.insert(number);
        }
    }

    /// Has it to be saved?
    pub(crate) fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    fn first(&self) -> Option<Sequence> {
        let (number, chunk) = self.chunks.first_key_value()?;
        offsets(chunk).next().map(|offset| Sequence(number * CHUNK + offset))
    }

    /// The first sequence from here on that is not owed.
    pub(crate) fn behind(&self, mut from: Sequence) -> Sequence {
        // A word at a time: after a long outage millions may be owed in a row.
        while let Some(chunk) = self.chunks.get(&(from.0 / CHUNK)) {
            let (word, _) = place(from);
            let left = 64 - from.0 % 64;
            let run = u64::from((!(chunk[word] >> (from.0 % 64))).trailing_zeros()).min(left);
            from = Sequence(from.0 + run);
            if run < left {
                break;
            }
        }
        from
    }

    /// Takes up to `most` out, none of them above `last`: as stretches, both ends included.
    fn take(&mut self, last: Sequence, most: usize) -> Vec<(Sequence, Sequence)> {
        let mut runs: Vec<(Sequence, Sequence)> = Vec::new();
        let mut left = most;
        while left > 0
            && let Some(mut entry) = self.chunks.first_entry()
        {
            let number = *entry.key();
            let sequences = offsets(entry.get()).map(|offset| Sequence(number * CHUNK + offset));
            let taken: Vec<Sequence> = sequences.take_while(|sequence| *sequence <= last).take(left).collect();
            if taken.is_empty() {
                break;
            }
            left -= taken.len();
            for sequence in taken {
                let (word, bit) = place(sequence);
                entry.get_mut()[word] &= !bit;
                match runs.last_mut() {
                    Some((_, end)) if end.next() == sequence => *end = sequence,
                    _ => runs.push((sequence, sequence)),
                }
            }
            self.changed.insert(number);
            if entry.get().iter().all(|word| *word == 0) {
                entry.remove();
            }
        }
        runs
    }

    fn clear(&mut self) {
        self.changed.extend(std::mem::take(&mut self.chunks).into_keys());
    }

    fn save(&mut self, store: &mut dyn Store, stream: StreamId) -> Result<(), StoreError> {
        self.is_listed = false;
        for number in std::mem::take(&mut self.changed) {
            match self.chunks.get(&number) {
                Some(chunk) => {
                    let mut record = vec![VERSION];
                    chunk.iter().for_each(|word| record.extend_from_slice(&word.to_be_bytes()));
                    store.put_record(&key(stream, number), &record)?;
                }
                None => store.delete_record(&key(stream, number))?,
            }
        }
        Ok(())
    }
}

impl Stream {
    /// It is forwarded, and messages leave it by acknowledgement.
    fn may_owe(&self) -> bool {
        self.is_forwarded && self.config.retention != Retention::Limits
    }

    /// Up to here nothing is kept for the hub.
    fn released(&self) -> Sequence {
        let Forwarded { releasable, confirmed, .. } = self.forwarded;
        if self.config.max_messages_per_subject > 0 { confirmed } else { releasable.min(confirmed) }
    }

    /// Is something there that everybody is done with, and that the hub has confirmed?
    fn holds_confirmed(&self) -> bool {
        self.may_owe()
            && !self.config.sealed
            && self.owed.first().is_some_and(|first| first <= self.forwarded.confirmed)
    }

    /// A message was stored that nobody here has interest in: it is for its hub alone. [`JetStream::settle`] has it saved.
    pub(crate) fn owe_unwanted(&mut self, subject: &[u8], sequence: Sequence) {
        if self.is_unwanted(subject) {
            self.owed.insert(sequence);
        }
    }
}

impl JetStream {
    /// These streams are forwarded, from now on and when they are made: what consumers are done with leaves them when its hub has confirmed it. Called
    /// after [`JetStream::load`], before anything is applied.
    pub fn expect_forwards(&mut self, names: impl IntoIterator<Item = Box<str>>) {
        self.debts.forwards = names.into_iter().collect();
        for id in self.stream_names.values() {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            stream.is_forwarded = !id.is_volatile() && self.debts.forwards.contains(&stream.config.name);
            if !stream.is_forwarded && !stream.owed.is_empty() {
                self.debts.due.insert(*id);
                self.again = true;
            }
        }
    }

    /// Is the stream that is being made forwarded? One in memory can't be.
    pub(crate) fn is_expected_forward(&self, stream: &Stream) -> bool {
        !stream.id.is_volatile() && self.debts.forwards.contains(&stream.config.name)
    }

    /// Nobody needs the message any more. `true`: it stays until its hub has confirmed it.
    pub(crate) fn owe(&mut self, turn: &Context<'_>, id: StreamId, sequence: Sequence) -> bool {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.may_owe()) else { return false };
        if sequence <= stream.released() {
            return false;
        }
        stream.owed.insert(sequence);
        self.owed_changed(turn, id);
        true
    }

    /// It is saved with the next commit.
    pub(crate) fn owed_changed(&mut self, turn: &Context<'_>, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        self.lazy_since.get_or_insert(turn.now.age);
        if !std::mem::replace(&mut stream.owed.is_listed, true) {
            self.debts.changed.push(id);
        }
    }

    /// The owner of a forward said how far it is: what is owed up to there goes.
    pub(crate) fn debts_confirmed(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.is_forwarded = !id.is_volatile();
        if stream.owed.first().is_some_and(|first| first <= stream.released()) {
            self.debts.due.insert(id);
            self.again = true;
        }
    }

    /// A stream does not care any more who is done with a message: all stay.
    pub(crate) fn forget_owed(&mut self, turn: &Context<'_>, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.owed.is_empty()) else { return };
        stream.owed.clear();
        self.owed_changed(turn, id);
    }

    /// A stream is about to be deleted.
    pub(crate) fn delete_owed(&mut self, store: &mut dyn Store, id: StreamId) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.owed.clear();
        stream.owed.save(store, id)
    }

    /// One step of one stream: what is confirmed goes.
    pub(crate) fn remove_confirmed(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        let Some(id) = self.debts.due.first().copied() else { return Ok(()) };
        let stream = self.streams.get(&id).filter(|stream| !stream.config.sealed);
        let bound = stream.map(|stream| if stream.is_forwarded { stream.released() } else { Sequence(u64::MAX) });
        let is_done = match bound {
            Some(bound) => self.remove_owed(turn, id, bound, STEP)?,
            None => true,
        };
        if is_done {
            self.debts.due.remove(&id);
        }
        self.again |= !self.debts.due.is_empty();
        Ok(())
    }

    /// Of what is owed up to `bound`, so many messages go. Is that all of it?
    fn remove_owed(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        bound: Sequence,
        most: usize,
    ) -> Result<bool, StoreError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(true) };
        let runs = stream.owed.take(bound, most);
        let is_done = stream.owed.first().is_none_or(|first| first > bound);
        // Only a consumer that was made after all others were done with it counts one of these among what is left for it.
        for consumer in stream.consumers.values() {
            let Some(consumer) = self.consumers.get_mut(consumer) else { continue };
            if runs.last().is_some_and(|(_, last)| consumer.next <= *last) {
                consumer.recount_later();
            }
        }
        for (first, last) in runs {
            self.remove_run(turn, Some((id, first, last)))?;
        }
        self.owed_changed(turn, id);
        Ok(is_done)
    }

    /// So much is to be stored: where a limit of the stream leaves no room for it, what is only held for the hub's disk goes first, in steps. `true`: more
    /// of it is to go, in turns to come.
    pub(crate) fn release_for(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        (messages, bytes): (u64, u64),
    ) -> Result<bool, StoreError> {
        let mut left = STEP;
        while !self.debts.forwards.is_empty()
            && let Some(stream) = self.streams.get(&id).filter(|stream| stream.holds_confirmed())
        {
            let (state, confirmed) = (turn.store.state(id), stream.forwarded.confirmed);
            let over = (state.messages + messages).saturating_sub(limit(stream.config.max_messages));
            if over == 0 && state.bytes + bytes <= limit(stream.config.max_bytes) {
                return Ok(false);
            }
            if left == 0 {
                return Ok(true);
            }
            let most = usize::try_from(over).unwrap_or(STEP).max(HELD_STEP).min(left);
            self.remove_owed(turn, id, confirmed, most)?;
            left -= most;
        }
        Ok(false)
    }

    /// Room is needed for others: what is only held for the hub's disk goes, stream by stream, until there is enough; how many bytes.
    pub(crate) fn release_held(&mut self, turn: &mut Context<'_>, needed: u64) -> Result<u64, StoreError> {
        let before = self.stored_bytes;
        let holds = |id: &&StreamId| self.streams.get(id).is_some_and(Stream::holds_confirmed);
        let held: Vec<StreamId> = self.stream_names.values().filter(holds).copied().collect();
        let mut left = MOST_HELD_STEPS;
        for id in held {
            while left > 0
                && before.saturating_sub(self.stored_bytes) < needed
                && let Some(stream) = self.streams.get(&id).filter(|stream| stream.holds_confirmed())
            {
                let confirmed = stream.forwarded.confirmed;
                self.remove_owed(turn, id, confirmed, HELD_STEP)?;
                left -= 1;
            }
        }
        Ok(before.saturating_sub(self.stored_bytes))
    }

    /// Writes what changed into the transaction that is about to be committed.
    pub(crate) fn save_owed(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        for id in std::mem::take(&mut self.debts.changed) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.owed.save(store, id)?;
            }
        }
        Ok(())
    }

    /// Reads what is owed, at opening. Records of streams that are gone, and those that can't be read, go.
    pub(crate) fn load_owed(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        let mut useless = Vec::new();
        let space = [record_space::OWED];
        store.scan_records(&space, &space, &mut |key, record| {
            let known = decode(key, record)
                .and_then(|(id, number, chunk)| self.streams.get_mut(&id).map(|stream| (stream, number, chunk)));
            match known {
                Some((stream, number, chunk)) => _ = stream.owed.chunks.insert(number, chunk),
                None => useless.push(key.to_vec()),
            }
            true
        })?;
        useless.iter().try_for_each(|key| store.delete_record(key))
    }
}

/// Word of a chunk, and bit.
fn place(sequence: Sequence) -> (usize, u64) {
    let offset = sequence.0 % CHUNK;
    ((offset / 64) as usize, 1 << (offset % 64))
}

/// What a chunk holds, rising.
fn offsets(chunk: &[u64; WORDS]) -> impl Iterator<Item = u64> {
    let chunk = *chunk;
    (0..CHUNK).filter(move |offset| chunk[(offset / 64) as usize] & (1 << (offset % 64)) != 0)
}

fn key(stream: StreamId, number: u64) -> [u8; KEY_LEN] {
    let mut key = [record_space::OWED; KEY_LEN];
    key[1..5].copy_from_slice(&stream.0.to_be_bytes());
    key[5..].copy_from_slice(&number.to_be_bytes());
    key
}

fn decode(key: &[u8], record: &[u8]) -> Option<(StreamId, u64, [u64; WORDS])> {
    let stream = u32::from_be_bytes(key.get(1..5)?.try_into().ok()?);
    let number = u64::from_be_bytes(key.get(5..KEY_LEN)?.try_into().ok()?);
    let words = record.strip_prefix(&[VERSION])?;
    let mut chunk = [0; WORDS];
    for (index, word) in chunk.iter_mut().enumerate() {
        *word = u64::from_be_bytes(words.get(index * 8..index * 8 + 8)?.try_into().ok()?);
    }
    let is_whole = words.len() == WORDS * 8 && number <= u64::MAX / CHUNK && chunk != [0; WORDS];
    is_whole.then_some((StreamId(stream), number, chunk))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{any, prop, proptest};

    use super::{Owed, decode, key};
    use crate::identity::{Sequence, StreamId};
    use crate::store::memory::MemoryStore;
    use crate::store::{Store, record_space};

    #[test]
    fn the_end_of_a_long_run_is_found() {
        let mut owed = Owed::default();
        (3..=700).for_each(|sequence| owed.insert(Sequence(sequence)));
        for (from, behind) in [(2, 2), (3, 701), (63, 701), (64, 701), (256, 701), (700, 701), (701, 701)] {
            assert_eq!(owed.behind(Sequence(from)), Sequence(behind), "from {from}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_sequences_and_so_are_its_records(
            inserted in prop::collection::btree_set(1..1500u64, 0..200),
            last in 0..1500u64,
            most in 1..100usize,
        ) {
            let mut owed = Owed::default();
            let mut store = MemoryStore::default();
            let stream = StreamId(20);
            inserted.iter().for_each(|sequence| owed.insert(Sequence(*sequence)));
            owed.save(&mut store, stream).expect("writes");
            assert_eq!(owed.first().map(|first| first.0), inserted.first().copied());
            let behind = owed.behind(Sequence(last)).0;
            assert_eq!((last..).find(|sequence| !inserted.contains(sequence)), Some(behind));

            let runs = owed.take(Sequence(last), most);
            let taken: BTreeSet<u64> = runs.iter().flat_map(|(first, last)| first.0..=last.0).collect();
            let expected: BTreeSet<u64> = inserted.range(..=last).take(most).copied().collect();
            assert_eq!(taken, expected);
            assert!(runs.windows(2).all(|pair| pair[0].1.next() < pair[1].0), "stretches that touch are one");
            owed.save(&mut store, stream).expect("writes");

            let mut stored = BTreeSet::new();
            let space = [record_space::OWED];
            store.scan_records(&space, &space, &mut |key, record| {
                let (id, number, chunk) = decode(key, record).expect("what was written is read");
                assert_eq!(id, stream);
                stored.extend(super::offsets(&chunk).map(|offset| number * 256 + offset));
                true
            }).expect("reads");
            assert_eq!(stored, inserted.difference(&taken).copied().collect());
            assert!((0..1500).all(|sequence| owed.contains(Sequence(sequence)) == stored.contains(&sequence)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            name in prop::collection::vec(any::<u8>(), 0..20),
            record in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = decode(&name, &record).is_some();
            let _ = decode(&key(StreamId(1), 7), &record).is_some();
        }
    }
}
