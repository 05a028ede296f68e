//! What a consumer has delivered and not seen acknowledged, in chunks of 256 sequences: each chunk is one record, and a commit rewrites only
//! those that changed.
//!
//! Deliveries arrive in rising order and acknowledgements mostly from the front, so a chunk is a sorted list in which acknowledged entries stay
//! as holes until the whole chunk is acknowledged.

use std::collections::BTreeMap;

use crate::identity::{AgeMillis, Sequence};
use crate::record::{Reader, put};
use crate::store::StoreError;

/// Sequences per chunk.
pub(crate) const CHUNK: u64 = 256;
const VERSION: u8 = 1;
const NEVER: AgeMillis = AgeMillis(u64::MAX);

/// One delivered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outstanding {
    /// Sequence within its chunk.
    offset: u8,
    /// It waits in the redelivery queue.
    pub(crate) queued: bool,
    /// Its last delivery reached nobody: it does not count.
    returned: bool,
    /// How often it was delivered; 0: acknowledged, a hole.
    pub(crate) deliveries: u32,
    /// Consumer sequence of its first delivery.
    pub(crate) first_delivery: u64,
    /// When it is delivered again.
    pub(crate) due: AgeMillis,
}

impl Outstanding {
    /// How often it was delivered to somebody.
    pub(crate) fn received(&self) -> u32 {
        self.deliveries - u32::from(self.returned)
    }
}

#[derive(Debug, Default)]
struct Chunk {
    entries: Vec<Outstanding>,
    live: u16,
    dirty: bool,
    stored: bool,
    /// Nothing in it is due earlier.
    next_due: AgeMillis,
}

impl Chunk {
    fn find(&self, offset: u8) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&offset, |entry| entry.offset)
    }

    fn find_live(&self, offset: u8) -> Option<usize> {
        self.find(offset).ok().filter(|index| self.entries[*index].deliveries > 0)
    }
}

/// Everything outstanding of a consumer.
#[derive(Debug)]
pub(crate) struct Pending {
    chunks: BTreeMap<u64, Chunk>,
    count: u64,
    redelivered: u64,
    next_due: AgeMillis,
    /// Stored chunks that are empty now.
    gone: Vec<u64>,
    spare: Vec<Outstanding>,
}

impl Default for Pending {
    fn default() -> Pending {
        Pending {
            chunks: BTreeMap::new(),
            count: 0,
            redelivered: 0,
            next_due: NEVER,
            gone: Vec::new(),
            spare: Vec::new(),
        }
    }
}

impl Pending {
    /// Messages outstanding.
    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    /// Of those, delivered more than once.
    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered
    }

    /// Nothing is due before this; `None`: nothing is ever due.
    pub(crate) fn next_due(&self) -> Option<AgeMillis> {
        (self.count > 0 && self.next_due < NEVER).then_some(self.next_due)
    }

    /// The lowest outstanding message, and the consumer sequence of its first delivery.
    pub(crate) fn first(&self) -> Option<(Sequence, u64)> {
        let (number, chunk) = self.chunks.first_key_value()?;
        let entry = chunk.entries.iter().find(|entry| entry.deliveries > 0)?;
        Some((Sequence(number * CHUNK + u64::from(entry.offset)), entry.first_delivery))
    }

    /// Everything outstanding, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Sequence, Outstanding)> {
        self.chunks.iter().flat_map(|(number, chunk)| {
            let live = chunk.entries.iter().filter(|entry| entry.deliveries > 0);
            live.map(move |entry| (Sequence(number * CHUNK + u64::from(entry.offset)), *entry))
        })
    }

    pub(crate) fn get(&self, sequence: Sequence) -> Option<Outstanding> {
        let chunk = self.chunks.get(&(sequence.0 / CHUNK))?;
        chunk.find_live(offset(sequence)).map(|index| chunk.entries[index])
    }

    /// Appends those outstanding between two sequences, both included, at most so many; `false`: there were more.
    pub(crate) fn between(&self, first: Sequence, last: Sequence, most: usize, into: &mut Vec<Sequence>) -> bool {
        let chunks = self.chunks.range(first.0 / CHUNK..=last.0 / CHUNK);
        for (number, chunk) in chunks {
            for entry in chunk.entries.iter().filter(|entry| entry.deliveries > 0) {
                let sequence = Sequence(number * CHUNK + u64::from(entry.offset));
                if first <= sequence && sequence <= last {
                    if into.len() >= most {
                        return false;
                    }
                    into.push(sequence);
                }
            }
        }
        true
    }

    /// A message was delivered for the first time.
    pub(crate) fn insert(&mut self, sequence: Sequence, first_delivery: u64, due: AgeMillis) {
        let entry = Outstanding {
            offset: offset(sequence),
            queued: false,
            returned: false,
            deliveries: 1,
            first_delivery,
            due,
        };
        let spare = &mut self.spare;
        let chunk = self.chunks.entry(sequence.0 / CHUNK).or_insert_with(|| Chunk {
            entries: std::mem::take(spare),
            next_due: NEVER,
            ..Chunk::default()
        });
        match chunk.find(entry.offset) {
            Ok(index) if chunk.entries[index].deliveries > 0 => return,
            Ok(index) => chunk.entries[index] = entry,
            Err(index) => chunk.entries.insert(index, entry),
        }
        chunk.live += 1;
        chunk.dirty = true;
        chunk.next_due = chunk.next_due.min(due);
        self.next_due = self.next_due.min(due);
        self.count += 1;
    }

    /// It was delivered again; answers how often by now.
    pub(crate) fn delivered_again(&mut self, sequence: Sequence, due: AgeMillis) -> u32 {
        let mut first_time = false;
        let deliveries = self.change(sequence, due, |entry| {
            if !std::mem::take(&mut entry.returned) {
                first_time = entry.deliveries == 1;
                entry.deliveries = entry.deliveries.saturating_add(1);
            }
            entry.queued = false;
        });
        self.redelivered += u64::from(first_time);
        deliveries.map_or(0, |entry| entry.deliveries)
    }

    /// It is due at another time; `false` when it is not outstanding.
    pub(crate) fn postpone(&mut self, sequence: Sequence, due: AgeMillis) -> bool {
        self.change(sequence, due, |entry| entry.queued = false).is_some()
    }

    /// It goes to the redelivery queue, `now`; `false` when it is there already, or not outstanding.
    pub(crate) fn queue(&mut self, sequence: Sequence, now: AgeMillis) -> bool {
        let Some(chunk) = self.chunks.get_mut(&(sequence.0 / CHUNK)) else { return false };
        let Some(index) = chunk.find_live(offset(sequence)) else { return false };
        let entry = &mut chunk.entries[index];
        if entry.queued {
            return false;
        }
        (entry.queued, entry.due) = (true, now);
        chunk.dirty = true;
        true
    }

    /// Its n-th delivery reached nobody: it goes to the redelivery queue; `false` when that was not its last one, or it is there already.
    pub(crate) fn give_back(&mut self, sequence: Sequence, deliveries: u64, now: AgeMillis) -> bool {
        let is_last = self.get(sequence).is_some_and(|entry| u64::from(entry.received()) == deliveries);
        if !is_last || !self.queue(sequence, now) {
            return false;
        }
        self.change(sequence, now, |entry| entry.returned = true).is_some()
    }

    fn change(
        &mut self,
        sequence: Sequence,
        due: AgeMillis,
        change: impl FnOnce(&mut Outstanding),
    ) -> Option<Outstanding> {
        let chunk = self.chunks.get_mut(&(sequence.0 / CHUNK))?;
        let index = chunk.find_live(offset(sequence))?;
        let entry = &mut chunk.entries[index];
        change(entry);
        entry.due = due;
        chunk.dirty = true;
        chunk.next_due = chunk.next_due.min(due);
        self.next_due = self.next_due.min(due);
        Some(chunk.entries[index])
    }

    /// It is acknowledged; `false` when it was not outstanding.
    pub(crate) fn remove(&mut self, sequence: Sequence) -> bool {
        let number = sequence.0 / CHUNK;
        let Some(chunk) = self.chunks.get_mut(&number) else { return false };
        let Some(index) = chunk.find_live(offset(sequence)) else { return false };
        self.redelivered -= u64::from(chunk.entries[index].deliveries > 1);
        chunk.entries[index].deliveries = 0;
        chunk.live -= 1;
        chunk.dirty = true;
        self.count -= 1;
        if chunk.live == 0 {
            self.drop_chunk(number);
        }
        true
    }

    /// Everything up to a sequence is acknowledged; answers how many that were.
    pub(crate) fn remove_up_to(&mut self, sequence: Sequence) -> u64 {
        let before = self.count;
        while let Some((first, _)) = self.first().filter(|(first, _)| *first <= sequence) {
            self.remove(first);
        }
        before - self.count
    }

    /// Everything from here on is not outstanding any more.
    pub(crate) fn remove_from(&mut self, sequence: Sequence) {
        let mut gone = Vec::new();
        for (number, chunk) in self.chunks.range(sequence.0 / CHUNK..) {
            let live = chunk.entries.iter().filter(|entry| entry.deliveries > 0);
            gone.extend(live.map(|entry| Sequence(number * CHUNK + u64::from(entry.offset))));
        }
        for gone in gone.into_iter().filter(|gone| *gone >= sequence) {
            self.remove(gone);
        }
    }

    fn drop_chunk(&mut self, number: u64) {
        let Some(mut chunk) = self.chunks.remove(&number) else { return };
        if chunk.stored {
            self.gone.push(number);
        }
        chunk.entries.clear();
        self.spare = chunk.entries;
        if self.count == 0 {
            self.next_due = NEVER;
        }
    }

    /// Marks what is due as queued, and appends its sequences in order.
    pub(crate) fn take_due(&mut self, now: AgeMillis, due: &mut Vec<Sequence>) {
        if self.next_due > now {
            return;
        }
        self.next_due = NEVER;
        for (number, chunk) in &mut self.chunks {
            if chunk.next_due <= now {
                chunk.next_due = NEVER;
                for entry in chunk.entries.iter_mut().filter(|entry| entry.deliveries > 0 && !entry.queued) {
                    if entry.due <= now {
                        entry.queued = true;
                        due.push(Sequence(number * CHUNK + u64::from(entry.offset)));
                    } else {
                        chunk.next_due = chunk.next_due.min(entry.due);
                    }
                }
            }
            self.next_due = self.next_due.min(chunk.next_due);
        }
    }

    /// Hands out what changed since the last call: chunk numbers with their record, or `None` where the record is to be deleted.
    pub(crate) fn take_changes<E>(
        &mut self,
        mut write: impl FnMut(u64, Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        for number in self.gone.drain(..) {
            write(number, None)?;
        }
        let mut record = Vec::new();
        for (number, chunk) in self.chunks.iter_mut().filter(|(_, chunk)| chunk.dirty) {
            record.clear();
            encode(&chunk.entries, &mut record);
            write(*number, Some(&record))?;
            chunk.dirty = false;
            chunk.stored = true;
        }
        Ok(())
    }

    /// Puts back a message that was delivered so often.
    pub(crate) fn restore(&mut self, sequence: Sequence, first_delivery: u64, deliveries: u32, due: AgeMillis) {
        self.insert(sequence, first_delivery, due);
        if deliveries > 1 {
            self.delivered_again(sequence, due);
            self.change(sequence, due, |entry| entry.deliveries = deliveries);
        }
    }

    /// Puts a stored chunk back. What was due or queued is due at its own time again.
    pub(crate) fn load(&mut self, number: u64, record: &[u8]) -> Result<(), StoreError> {
        let mut from = Reader::new(record, VERSION, "outstanding messages")?;
        while !from.is_at_end() {
            let sequence = Sequence(number.saturating_mul(CHUNK).saturating_add(u64::from(from.byte()?)));
            let (deliveries, first_delivery, due) = (from.number_u32()?, from.number()?, AgeMillis(from.number()?));
            self.restore(sequence, first_delivery, deliveries, due);
        }
        if let Some(chunk) = self.chunks.get_mut(&number) {
            (chunk.dirty, chunk.stored) = (false, true);
        }
        Ok(())
    }
}

fn offset(sequence: Sequence) -> u8 {
    (sequence.0 % CHUNK) as u8
}

fn encode(entries: &[Outstanding], record: &mut Vec<u8>) {
    record.push(VERSION);
    for entry in entries.iter().filter(|entry| entry.deliveries > 0) {
        record.push(entry.offset);
        put(record, u64::from(entry.deliveries));
        put(record, entry.first_delivery);
        put(record, entry.due.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{Strategy, any, prop, proptest};

    use super::Pending;
    use crate::identity::{AgeMillis, Sequence};

    #[derive(Clone, Debug)]
    enum Step {
        Deliver(u8),
        Again(u16),
        Ack(u16),
        AckUpTo(u16),
        Due(u8),
        Save,
    }

    fn step() -> impl Strategy<Value = Step> {
        proptest::prop_oneof![
            5 => (1..40u8).prop_map(Step::Deliver),
            2 => any::<u16>().prop_map(Step::Again),
            4 => any::<u16>().prop_map(Step::Ack),
            1 => any::<u16>().prop_map(Step::AckUpTo),
            1 => any::<u8>().prop_map(Step::Due),
            1 => proptest::strategy::Just(Step::Save),
        ]
    }

    /// Stored chunks, kept as the store keeps them.
    fn save(pending: &mut Pending, records: &mut BTreeMap<u64, Vec<u8>>) {
        let saved = pending.take_changes(|number, record| {
            match record {
                Some(record) => records.insert(number, record.to_vec()),
                None => records.remove(&number),
            };
            Ok::<(), ()>(())
        });
        assert!(saved.is_ok());
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]
        #[test]
        fn equals_a_map_also_after_loading(steps in prop::collection::vec(step(), 0..400)) {
            let mut pending = Pending::default();
            let mut model: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
            let mut records = BTreeMap::new();
            let (mut last, mut delivered) = (0u64, 0u64);
            let pick = |model: &BTreeMap<u64, (u32, u64)>, number: u16| model.keys().nth(number as usize % model.len().max(1)).copied();
            for step in steps {
                match step {
                    Step::Deliver(gap) => {
                        last += u64::from(gap);
                        delivered += 1;
                        pending.insert(Sequence(last), delivered, AgeMillis(delivered));
                        model.insert(last, (1, delivered));
                    }
                    Step::Again(number) => {
                        let Some(sequence) = pick(&model, number) else { continue };
                        pending.delivered_again(Sequence(sequence), AgeMillis(1000));
                        if let Some(entry) = model.get_mut(&sequence) { *entry = (entry.0 + 1, 1000); }
                    }
                    Step::Ack(number) => {
                        let Some(sequence) = pick(&model, number) else { continue };
                        assert!(pending.remove(Sequence(sequence)));
                        model.remove(&sequence);
                    }
                    Step::AckUpTo(number) => {
                        let Some(sequence) = pick(&model, number) else { continue };
                        pending.remove_up_to(Sequence(sequence));
                        model.retain(|key, _| *key > sequence);
                    }
                    Step::Due(now) => {
                        let mut due = Vec::new();
                        pending.take_due(AgeMillis(u64::from(now)), &mut due);
                        assert!(due.iter().all(|sequence| model[&sequence.0].1 <= u64::from(now)));
                    }
                    Step::Save => save(&mut pending, &mut records),
                }
                assert_eq!(pending.len(), model.len() as u64);
                assert_eq!(pending.first().map(|(sequence, _)| sequence.0), model.keys().next().copied());
                assert_eq!(pending.redelivered(), model.values().filter(|(deliveries, _)| *deliveries > 1).count() as u64);
            }
            save(&mut pending, &mut records);
            let mut again = Pending::default();
            records.iter().for_each(|(number, record)| again.load(*number, record).expect("readable"));
            assert_eq!(again.redelivered(), pending.redelivered());
            for (sequence, (deliveries, due)) in &model {
                let entry = again.get(Sequence(*sequence)).expect("outstanding");
                assert_eq!((entry.deliveries, entry.due), (*deliveries, AgeMillis(*due)));
            }
            let mut due = Vec::new();
            again.take_due(AgeMillis(u64::MAX - 1), &mut due);
            assert_eq!(due.iter().map(|sequence| sequence.0).collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
        }
    }
}
