//! The duplicate window of a stream: which message ids were stored lately, and where.
//!
//! Ids stand in the order of their arrival; a hash table beside them holds a tag and the id's number. An id that leaves at the front only
//! leaves the list: its slot in the table is recognised as out of date, and goes when the table is made anew. So an id costs 48 bytes, and one
//! miss of the cache instead of four.
//!
//! Bounded in number, all streams together: beyond its share a stream forgets its oldest ids early, and a repeat that late would be stored again.

use std::collections::VecDeque;

use crate::identity::{AgeMillis, Sequence};
use crate::store::RecentId;

/// Most ids that all streams together remember, some 6 MB; each may have its even share.
const MOST_IDS: usize = 131_072;
/// A stream's share is at least this.
const LEAST_SHARE: usize = 64;
const EMPTY: u64 = u64::MAX;
const SMALLEST_TABLE: usize = 64;

/// How many ids each of so many streams may remember.
pub(crate) fn share(streams: usize) -> usize {
    (MOST_IDS / streams.max(1)).max(LEAST_SHARE)
}

/// One id.
#[derive(Clone, Copy, Debug)]
struct Known {
    low: u64,
    high: u64,
    sequence: Sequence,
    age: AgeMillis,
}

/// Ids stored within the window.
#[derive(Debug, Default)]
pub(crate) struct Duplicates {
    by_age: VecDeque<Known>,
    /// Number of the id at the front; they are numbered as they arrive.
    front: u32,
    /// Tag in the upper half, number in the lower.
    table: Vec<u64>,
    /// Slots that are not empty, out of date or not.
    used: usize,
}

impl Duplicates {
    /// What the store remembers, oldest first.
    pub(crate) fn load(ids: &[RecentId]) -> Duplicates {
        let mut duplicates = Duplicates::default();
        ids.iter().for_each(|id| duplicates.insert(id.hash, id.sequence, id.age, ids.len()));
        duplicates
    }

    /// Where the message with this id was stored, if that was not before `since`.
    pub(crate) fn find(&mut self, hash: u128, since: AgeMillis) -> Option<Sequence> {
        self.forget_before(since);
        if self.by_age.is_empty() {
            return None;
        }
        let (low, high) = (hash as u64, (hash >> 64) as u64);
        let mask = self.table.len() - 1;
        let mut slot = low as usize & mask;
        loop {
            let content = self.table[slot];
            if content == EMPTY {
                return None;
            }
            if content >> 32 == tag(high) {
                let index = (content as u32).wrapping_sub(self.front) as usize;
                let known = self.by_age.get(index).filter(|known| known.low == low && known.high == high);
                if let Some(known) = known {
                    return Some(known.sequence);
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Remembers an id, and `most` at most.
    pub(crate) fn insert(&mut self, hash: u128, sequence: Sequence, age: AgeMillis, most: usize) {
        while self.by_age.len() >= most.max(1) {
            self.forget_oldest();
        }
        let known = Known { low: hash as u64, high: (hash >> 64) as u64, sequence, age };
        let number = self.front.wrapping_add(self.by_age.len() as u32);
        self.by_age.push_back(known);
        if (self.used + 1) * 4 > self.table.len() * 3 {
            self.make_table();
        } else {
            self.place(&known, number);
        }
    }

    /// A table with room for as many ids again, and without what is out of date.
    fn make_table(&mut self) {
        let size = (self.by_age.len() * 2).next_power_of_two().max(SMALLEST_TABLE);
        self.table.clear();
        self.table.resize(size, EMPTY);
        self.used = 0;
        for index in 0..self.by_age.len() {
            let known = self.by_age[index];
            self.place(&known, self.front.wrapping_add(index as u32));
        }
    }

    fn place(&mut self, known: &Known, number: u32) {
        let mask = self.table.len() - 1;
        let mut slot = known.low as usize & mask;
        while self.table[slot] != EMPTY {
            slot = (slot + 1) & mask;
        }
        self.table[slot] = tag(known.high) << 32 | u64::from(number);
        self.used += 1;
    }

    fn forget_before(&mut self, since: AgeMillis) {
        while self.by_age.front().is_some_and(|known| known.age < since) {
            self.forget_oldest();
        }
        if self.by_age.is_empty() && self.by_age.capacity() > 1024 {
            *self = Duplicates::default();
        }
    }

    fn forget_oldest(&mut self) {
        if self.by_age.pop_front().is_some() {
            self.front = self.front.wrapping_add(1);
        }
    }
}

/// 31 bits, so that no slot with an id looks empty.
fn tag(high: u64) -> u64 {
    high & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{prop, proptest};

    use super::Duplicates;
    use crate::identity::{AgeMillis, Sequence};

    /// Ids that fall on few slots and share their tags, so that probing and comparing are both needed.
    fn hash(id: u16) -> u128 {
        u128::from(id % 5) | u128::from(id / 5) << 32 | u128::from(id % 3) << 64
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]
        #[test]
        fn equals_a_map(ids in prop::collection::vec((0..300u16, 0..4u64), 0..1500), most in 1..200usize) {
            let mut known = Duplicates::default();
            let mut model: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
            let mut age = 0;
            for (sequence, (id, passed)) in ids.into_iter().enumerate() {
                age += passed;
                let since = AgeMillis(age.saturating_sub(50));
                model.retain(|_, (_, stored)| *stored >= since.0);
                let wanted = model.get(&id).map(|(sequence, _)| Sequence(*sequence));
                assert_eq!(known.find(hash(id), since), wanted);
                if wanted.is_none() {
                    if model.len() >= most {
                        let oldest = model.iter().min_by_key(|(_, (sequence, _))| *sequence).map(|(id, _)| *id);
                        model.remove(&oldest.expect("one"));
                    }
                    model.insert(id, (sequence as u64, age));
                    known.insert(hash(id), Sequence(sequence as u64), AgeMillis(age), most);
                }
            }
        }
    }
}
