//! The duplicate window of a stream: which message ids were stored lately, and where.
//!
//! Bounded in number: beyond the limit the oldest ids are forgotten early, and a repeat that late would be stored again.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::identity::{AgeMillis, Sequence};
use crate::store::RecentId;

/// Most ids that one stream remembers: some 6 MB.
pub(crate) const MOST_IDS: usize = 65_536;

/// Takes the low half of a hash that is one already.
#[derive(Default)]
struct Pass(u64);

impl Hasher for Pass {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().take(8).rev() {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

/// Ids stored within the window.
#[derive(Debug, Default)]
pub(crate) struct Duplicates {
    known: HashMap<u128, Sequence, BuildHasherDefault<Pass>>,
    by_age: VecDeque<(u128, AgeMillis)>,
}

impl Duplicates {
    /// What the store remembers, oldest first.
    pub(crate) fn load(ids: &[RecentId]) -> Duplicates {
        let mut duplicates = Duplicates::default();
        ids.iter().for_each(|id| duplicates.insert(id.hash, id.sequence, id.age));
        duplicates
    }

    /// Where the message with this id was stored, if that was after `since`.
    pub(crate) fn find(&mut self, hash: u128, since: AgeMillis) -> Option<Sequence> {
        self.forget_before(since);
        self.known.get(&hash).copied()
    }

    /// Remembers an id.
    pub(crate) fn insert(&mut self, hash: u128, sequence: Sequence, age: AgeMillis) {
        if self.by_age.len() >= MOST_IDS {
            self.forget_oldest();
        }
        if self.known.insert(hash, sequence).is_none() {
            self.by_age.push_back((hash, age));
        }
    }

    fn forget_before(&mut self, since: AgeMillis) {
        while self.by_age.front().is_some_and(|(_, age)| *age < since) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((hash, _)) = self.by_age.pop_front() {
            self.known.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duplicates, MOST_IDS};
    use crate::identity::{AgeMillis, Sequence};

    #[test]
    fn an_id_is_known_until_the_window_has_passed() {
        let mut ids = Duplicates::default();
        ids.insert(7, Sequence(1), AgeMillis(100));
        assert_eq!(ids.find(7, AgeMillis(100)), Some(Sequence(1)));
        assert_eq!(ids.find(7, AgeMillis(101)), None);
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut ids = Duplicates::default();
        for id in 0..=MOST_IDS as u128 {
            ids.insert(id, Sequence(1), AgeMillis(0));
        }
        assert_eq!((ids.find(0, AgeMillis(0)), ids.find(1, AgeMillis(0))), (None, Some(Sequence(1))));
    }
}
