//! What is known of each subject of a stream, compactly: some 66 bytes for a subject of 27.
//!
//! Names lie one after another in an arena; a hash table holds 4-byte ids; a state of 24 bytes stands beside each id. Ids are small and
//! dense, so that a store can write the table in chunks of [`CHUNK`] ids and only those that changed. Nothing here is durable by itself.
//!
//! An id may be given again after its subject has vanished. The order of ids is the order of first sight, not of names.

use std::hash::{BuildHasher, Hasher};

/// Ids per chunk of [`SubjectTable::dirty_chunks`].
pub const CHUNK: u32 = 1024;

const EMPTY: u32 = u32::MAX;
const LONGEST_NAME: usize = u16::MAX as usize;

/// Number of a subject within its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId(pub u32);

/// What is kept for each subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// No message of the subject lies below this sequence (it may lie above).
    pub first: u64,
    /// Sequence of its newest message.
    pub last: u64,
    /// Its messages; 0 stands for "id not in use".
    pub messages: u32,
}

/// Subjects with their tallies.
#[derive(Debug)]
pub struct SubjectTable {
    names: Vec<u8>,
    starts: Vec<u32>,
    tallies: Vec<Tally>,
    table: Vec<u32>,
    free: Vec<u32>,
    dirty: Vec<bool>,
    used: u32,
    garbage: usize,
    hasher: foldhash::fast::FixedState,
}

impl SubjectTable {
    /// An empty table. The seed only decides where names lie in the hash table.
    #[must_use]
    pub fn new(seed: u64) -> SubjectTable {
        SubjectTable {
            names: Vec::new(),
            starts: Vec::new(),
            tallies: Vec::new(),
            table: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            used: 0,
            garbage: 0,
            hasher: foldhash::fast::FixedState::with_seed(seed),
        }
    }

    /// Number of subjects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used as usize
    }

    /// No subject in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Ids are below this; those not in use have a tally of 0 messages.
    #[must_use]
    pub fn id_limit(&self) -> u32 {
        self.tallies.len() as u32
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.names.capacity()
            + 4 * (self.starts.capacity() + self.table.capacity() + self.free.capacity())
            + size_of::<Tally>() * self.tallies.capacity()
            + self.dirty.capacity()
    }

    /// The id of a subject.
    #[must_use]
    pub fn find(&self, subject: &[u8]) -> Option<SubjectId> {
        if self.table.is_empty() {
            return None;
        }
        let mask = self.table.len() - 1;
        let mut slot = self.hash(subject) & mask;
        loop {
            match self.table[slot] {
                EMPTY => return None,
                id if self.name(SubjectId(id)) == subject => return Some(SubjectId(id)),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    /// The tally of an id; all zero for one that is not in use.
    #[must_use]
    pub fn tally(&self, id: SubjectId) -> Tally {
        self.tallies.get(id.0 as usize).copied().unwrap_or_default()
    }

    /// The subject of an id; empty for one that is not in use.
    #[must_use]
    pub fn name(&self, id: SubjectId) -> &[u8] {
        let Some(start) = self.starts.get(id.0 as usize) else { return b"" };
        let start = *start as usize;
        let Some(length) = self.names.get(start..start + 2) else { return b"" };
        let length = u16::from_le_bytes([length[0], length[1]]) as usize;
        &self.names[start + 2..start + 2 + length]
    }

    /// Counts a message; `None` when the table can't take the subject (64 KiB of name, 4 GiB of names).
    pub fn add(&mut self, subject: &[u8], sequence: u64) -> Option<SubjectId> {
        if let Some(id) = self.find(subject) {
            let tally = &mut self.tallies[id.0 as usize];
            tally.messages = tally.messages.saturating_add(1);
            tally.last = tally.last.max(sequence);
            tally.first = tally.first.min(sequence);
            self.mark(id);
            return Some(id);
        }
        let id = self.free.pop().unwrap_or(self.tallies.len() as u32);
        let tally = Tally { first: sequence, last: sequence, messages: 1 };
        self.place(SubjectId(id), subject, tally).then_some(SubjectId(id))
    }

    /// Puts a subject under a known id, at opening. `false` when that can't be: the id or the subject is there already, or too large.
    pub fn insert(&mut self, id: SubjectId, subject: &[u8], tally: Tally) -> bool {
        let known = self.tally(id).messages > 0 || tally.messages == 0 || self.find(subject).is_some();
        if known || id.0 >= EMPTY - 1 {
            return false;
        }
        let placed = self.place(id, subject, tally);
        if placed {
            self.dirty[(id.0 / CHUNK) as usize] = false;
        }
        placed
    }

    /// After [`SubjectTable::insert`]s with gaps between the ids: lets [`SubjectTable::add`] use the ids that are not in use.
    pub fn collect_free(&mut self) {
        self.free = (0..self.id_limit()).rev().filter(|id| self.tallies[*id as usize].messages == 0).collect();
    }

    /// Replaces a tally; 0 messages removes the subject.
    pub fn set(&mut self, id: SubjectId, tally: Tally) {
        if self.tally(id).messages == 0 {
            return;
        }
        if tally.messages == 0 {
            self.remove(id);
        } else {
            self.tallies[id.0 as usize] = tally;
            self.mark(id);
        }
    }

    /// Every subject with id and tally, in id order.
    pub fn iter(&self) -> impl Iterator<Item = (SubjectId, &[u8], Tally)> {
        self.range(0, self.id_limit())
    }

    /// The subjects of a chunk, in id order.
    pub fn chunk(&self, chunk: u32) -> impl Iterator<Item = (SubjectId, &[u8], Tally)> {
        let start = chunk.saturating_mul(CHUNK);
        self.range(start, start.saturating_add(CHUNK))
    }

    /// Chunks with changes since [`SubjectTable::clear_dirty`], in order.
    pub fn dirty_chunks(&self) -> impl Iterator<Item = u32> {
        self.dirty.iter().enumerate().filter(|(_, dirty)| **dirty).map(|(chunk, _)| chunk as u32)
    }

    /// The chunks were written.
    pub fn clear_dirty(&mut self) {
        self.dirty.fill(false);
    }

    fn range(&self, from: u32, to: u32) -> impl Iterator<Item = (SubjectId, &[u8], Tally)> {
        let ids = from..to.min(self.id_limit());
        ids.map(SubjectId).map(|id| (id, self.name(id), self.tally(id))).filter(|(_, _, tally)| tally.messages > 0)
    }

    fn hash(&self, subject: &[u8]) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(subject);
        hasher.finish() as usize
    }

    fn mark(&mut self, id: SubjectId) {
        self.dirty[(id.0 / CHUNK) as usize] = true;
    }

    fn place(&mut self, id: SubjectId, subject: &[u8], tally: Tally) -> bool {
        let end = self.names.len() + subject.len() + 2;
        if subject.len() > LONGEST_NAME || u32::try_from(end).is_err() || id.0 >= EMPTY - 1 {
            return false;
        }
        let index = id.0 as usize;
        if self.tallies.len() <= index {
            self.tallies.resize(index + 1, Tally::default());
            self.starts.resize(index + 1, 0);
            self.dirty.resize(index / CHUNK as usize + 1, false);
        }
        self.grow_table();
        self.starts[index] = self.names.len() as u32;
        self.names.extend_from_slice(&(subject.len() as u16).to_le_bytes());
        self.names.extend_from_slice(subject);
        self.tallies[index] = tally;
        self.used += 1;
        let hash = self.hash(subject);
        self.occupy(hash, id.0);
        self.mark(id);
        true
    }

    fn occupy(&mut self, hash: usize, id: u32) {
        let mask = self.table.len() - 1;
        let mut slot = hash & mask;
        while self.table[slot] != EMPTY {
            slot = (slot + 1) & mask;
        }
        self.table[slot] = id;
    }

    /// At most three quarters of the slots are used, so that probing stays short and ends.
    fn grow_table(&mut self) {
        if (self.used as usize + 1) * 4 <= self.table.len() * 3 {
            return;
        }
        let size = (self.table.len() * 2).max(16);
        self.table.clear();
        self.table.resize(size, EMPTY);
        for id in 0..self.id_limit() {
            if self.tallies[id as usize].messages > 0 {
                let hash = self.hash(self.name(SubjectId(id)));
                self.occupy(hash, id);
            }
        }
    }

    fn remove(&mut self, id: SubjectId) {
        self.vacate(id);
        self.mark(id);
        self.garbage += self.name(id).len() + 2;
        self.tallies[id.0 as usize] = Tally::default();
        self.free.push(id.0);
        self.used -= 1;
        if self.garbage > 4096 && self.garbage * 2 > self.names.len() {
            self.compact();
        }
    }

    /// Takes an id out of the hash table and closes the gap: later entries of the same run move up, so no tombstones pile up.
    fn vacate(&mut self, id: SubjectId) {
        let mask = self.table.len() - 1;
        let mut gap = self.hash(self.name(id)) & mask;
        while self.table[gap] != id.0 {
            gap = (gap + 1) & mask;
        }
        let mut slot = gap;
        loop {
            slot = (slot + 1) & mask;
            let moved = self.table[slot];
            if moved == EMPTY {
                break;
            }
            let home = self.hash(self.name(SubjectId(moved))) & mask;
            let run_from_home = slot.wrapping_sub(home) & mask;
            let run_from_gap = slot.wrapping_sub(gap) & mask;
            if run_from_home >= run_from_gap {
                self.table[gap] = moved;
                gap = slot;
            }
        }
        self.table[gap] = EMPTY;
    }

    /// Rewrites the arena without the names that are gone.
    fn compact(&mut self) {
        let mut names = Vec::with_capacity(self.names.len() - self.garbage);
        for index in 0..self.tallies.len() {
            if self.tallies[index].messages == 0 {
                continue;
            }
            let start = self.starts[index] as usize;
            let end = start + 2 + self.name(SubjectId(index as u32)).len();
            self.starts[index] = names.len() as u32;
            names.extend_from_slice(&self.names[start..end]);
        }
        self.names = names;
        self.garbage = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{Strategy, any, prop, proptest};

    use super::{CHUNK, SubjectId, SubjectTable, Tally};

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8),
        Set(u8, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        proptest::prop_oneof![
            3 => any::<u8>().prop_map(Step::Add),
            2 => (any::<u8>(), 0..3u32).prop_map(|(subject, messages)| Step::Set(subject, messages)),
        ]
    }

    fn subject(number: u8) -> Vec<u8> {
        format!("sensors.{}.{}", number, "x".repeat(number as usize)).into_bytes()
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]
        #[test]
        fn equals_a_map(steps in prop::collection::vec(step(), 0..600)) {
            let mut table = SubjectTable::new(7);
            let mut model: BTreeMap<Vec<u8>, Tally> = BTreeMap::new();
            for (sequence, step) in steps.into_iter().enumerate() {
                let sequence = sequence as u64 + 1;
                match step {
                    Step::Add(number) => {
                        table.add(&subject(number), sequence);
                        let tally = model.entry(subject(number)).or_insert(Tally { first: sequence, last: 0, messages: 0 });
                        tally.last = sequence;
                        tally.messages += 1;
                    }
                    Step::Set(number, messages) => {
                        let Some(id) = table.find(&subject(number)) else { continue };
                        let tally = Tally { messages, ..table.tally(id) };
                        table.set(id, tally);
                        if messages == 0 { model.remove(&subject(number)); } else { model.insert(subject(number), tally); }
                    }
                }
            }
            assert_eq!(table.len(), model.len());
            for (name, tally) in &model {
                let id = table.find(name).expect("in the table");
                assert_eq!((table.name(id), table.tally(id)), (name.as_slice(), *tally));
            }
            assert_eq!(table.iter().count(), model.len());
        }
    }

    #[test]
    fn chunks_that_were_not_touched_stay_clean() {
        let mut table = SubjectTable::new(1);
        for number in 0..3 * CHUNK {
            table.add(format!("s.{number}").as_bytes(), u64::from(number) + 1);
        }
        table.clear_dirty();
        table.add(b"s.1500", 9999);
        assert_eq!(table.dirty_chunks().collect::<Vec<_>>(), [1]);
        assert_eq!(table.chunk(2).count(), CHUNK as usize);
    }

    #[test]
    fn a_table_is_rebuilt_from_its_chunks() {
        let mut table = SubjectTable::new(1);
        for number in 0..100u64 {
            table.add(format!("s.{number}").as_bytes(), number + 1);
        }
        table.set(SubjectId(40), Tally::default());
        let mut again = SubjectTable::new(2);
        for (id, name, tally) in table.iter() {
            assert!(again.insert(id, name, tally));
        }
        again.collect_free();
        assert_eq!(again.add(b"new", 200), Some(SubjectId(40)));
        assert_eq!(again.find(b"s.99"), Some(SubjectId(99)));
        assert!(!again.insert(SubjectId(99), b"other", Tally { first: 1, last: 1, messages: 1 }));
    }

    #[test]
    fn a_subject_of_27_bytes_costs_about_66() {
        let mut table = SubjectTable::new(1);
        let subjects = 48_000;
        for number in 0..subjects {
            table.add(format!("fleet.device-{number:06}.temp.x").as_bytes(), number + 1);
        }
        table.names.shrink_to_fit();
        table.starts.shrink_to_fit();
        table.tallies.shrink_to_fit();
        let each = table.memory() as u64 / subjects;
        assert!(each <= 68, "{each} bytes a subject");
    }
}
