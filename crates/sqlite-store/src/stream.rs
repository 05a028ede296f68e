//! What the store holds in memory of one stream: its counters, its subjects, the block that is being filled, and its newest rows in the ring.

use std::collections::VecDeque;

use jetstream::identity::{AgeMillis, Now, Sequence};
use jetstream::store::{RecentId, StreamState};
use subject::Filter;

use crate::block::{IdEntry, OpenBlock};
use crate::history::History;
use crate::removal::Removed;
use crate::ring::TailEntry;
use crate::subjects::Subjects;

/// Remembered answers of "which subjects match these filters", per stream.
const MATCHERS_KEPT: usize = 4;

/// Removals noted before they are sorted in among the others.
const UNSORTED: usize = 128;

/// One stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) description: Vec<u8>,
    /// Counters; `subjects` is filled in when asked.
    pub(crate) state: StreamState,
    pub(crate) first_age: AgeMillis,
    /// The first message is gone, or isn't known yet: [`crate::erase::refresh_first`] is due.
    pub(crate) first_gone: bool,
    /// The oldest messages with their clocks, as far as they were looked at: all that are there up to the last entry. Empty: look.
    pub(crate) front: VecDeque<(u64, Now)>,
    pub(crate) subjects: Subjects,
    pub(crate) open: OpenBlock,
    pub(crate) history: History,
    /// Messages up to here are in closed blocks.
    pub(crate) closed_through: u64,
    pub(crate) blocks_since_checkpoint: u32,
    /// The last checkpoint is one of the messages up to here.
    pub(crate) checkpointed: u64,
    /// Removed from closed blocks, whose summaries still name them.
    pub(crate) removed: Vec<(u64, u32)>,
    /// Some of them may not be named any more: which, is known to no file.
    pub(crate) is_uncertain: bool,
    /// Summaries are being corrected, and next the one of this sequence.
    pub(crate) correcting: Option<u64>,
    /// How many of `removed` were left the last time all were corrected that could be.
    pub(crate) corrected_left: usize,
    /// So many of `removed` are sorted; the few behind them are not.
    removed_sorted: usize,
    /// Removed from closed blocks since the last commit.
    pub(crate) removal_log: Vec<Removed>,
    /// Removals in the log since the checkpoint.
    pub(crate) removals_logged: usize,
    /// Number of the next row of the removal log.
    pub(crate) removal_rows: u32,
    /// Newest rows in the ring; every message from the first one on is here.
    pub(crate) tail: VecDeque<TailEntry>,
    /// So many of the newest entries of `tail` are not in their table yet.
    pub(crate) pending: usize,
    /// The highest key of its table, as far as that is known: no row was removed there since it was inserted.
    pub(crate) highest_key: Option<u64>,
    /// Last sequence as of the last commit: what connection R can see.
    pub(crate) committed_last: u64,
    /// Rows that connection R still sees though they are removed: since the last commit.
    pub(crate) uncommitted_removals: Vec<u64>,
    /// Removed messages whose rows are still in their table: they go together, at the latest before the commit.
    pub(crate) doomed: Vec<u64>,
    /// `state.last` can't be told from the rows any more: write it at commit.
    pub(crate) position_dirty: bool,
    /// Payloads are compressed from now on.
    pub(crate) packs: bool,
    /// Something of it changed since the last commit.
    pub(crate) touched: bool,
    /// Rows and summaries below this sequence are no longer part of the stream and are being erased; 0: there are none.
    pub(crate) erased: u64,
    matchers: Vec<(Box<[Filter]>, Vec<u64>)>,
    /// Filters of the last purge, and the sequence below which nothing is left of what they select: a purge in steps goes on there.
    pub(crate) purged: Option<(Box<[Filter]>, u64)>,
}

/// Which subjects of a stream a list of filters wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Matcher {
    All,
    /// Ascending ids.
    Ids(Vec<u32>),
    /// Bit per id, in the stream's cache.
    Cached(usize),
}

impl Stream {
    pub(crate) fn new(id: u32, description: Vec<u8>) -> Stream {
        Stream { id, description, ..Stream::default() }
    }

    /// Forgets everything about single messages: none is held any more.
    pub(crate) fn forget_contents(&mut self) {
        self.subjects = Subjects::default();
        self.open = OpenBlock::default();
        self.history.forget();
        self.matchers.clear();
        self.purged = None;
        self.removal_log.clear();
        self.uncommitted_removals.clear();
        self.forget_removed();
        self.front.clear();
        self.doomed.clear();
        self.tail.clear();
        self.pending = 0;
        self.highest_key = None;
    }

    pub(crate) fn counters(&self) -> StreamState {
        StreamState { subjects: self.subjects.len() as u64, ..self.state }
    }

    /// First sequence that is in the ring with everything after it.
    pub(crate) fn tail_start(&self) -> u64 {
        self.tail.front().map_or(self.state.last.0 + 1, |entry| entry.sequence)
    }

    /// Index of a sequence in the tail.
    pub(crate) fn tail_index(&self, sequence: u64) -> Option<usize> {
        self.tail.binary_search_by_key(&sequence, |entry| entry.sequence).ok()
    }

    /// Id of a subject, a new one if need be.
    pub(crate) fn subject_id(&mut self, subject: &[u8], sequence: u64) -> u32 {
        if let Some(id) = self.subjects.find(subject) {
            return id;
        }
        let id = self.subjects.insert(subject, sequence);
        self.open.names.push(id);
        for (filters, bits) in &mut self.matchers {
            if filters.iter().any(|filter| filter.matches(subject)) {
                set(bits, id);
            }
        }
        id
    }

    /// Counts a new message.
    pub(crate) fn count(&mut self, sequence: u64, id: u32, size: u64, now: Now, message_id: Option<u128>) {
        self.subjects.add_sized(id, 1, sequence, size);
        self.history.push(id, sequence, size);
        self.open.push(sequence, id, size);
        if let Some(hash) = message_id {
            self.open.ids.push(IdEntry { sequence, age: now.age.0, hash });
        }
        if self.state.messages == 0 {
            self.state.first = Sequence(sequence);
            self.state.first_time = now.wall;
            self.first_age = now.age;
        }
        self.state.messages += 1;
        self.state.bytes += size;
        self.state.last = Sequence(sequence);
        self.state.last_time = now.wall;
    }

    /// Takes a removed message out of the counters. `newest` as in [`Removed`].
    pub(crate) fn discount(&mut self, removed: Removed) {
        self.state.messages = self.state.messages.saturating_sub(1);
        self.state.bytes = if self.state.messages == 0 { 0 } else { self.state.bytes.saturating_sub(removed.size) };
        self.subtract_subject(removed.subject, removed.sequence, removed.newest);
        self.history.remove(removed.subject, removed.sequence);
        if removed.sequence > self.closed_through {
            self.open.remove(removed.sequence, removed.size);
        } else {
            self.note_removed(removed.sequence, removed.subject);
            self.removal_log.push(removed);
            self.removals_logged += 1;
        }
        if removed.sequence == self.state.last.0 {
            self.position_dirty = true;
        }
        if self.highest_key == Some(removed.sequence) {
            self.highest_key = None;
        }
        self.first_gone |= removed.sequence == self.state.first.0;
        if self.front.back().is_some_and(|(last, _)| removed.sequence <= *last)
            && let Ok(index) = self.front.binary_search_by_key(&removed.sequence, |(sequence, _)| *sequence)
        {
            self.front.remove(index);
        }
        self.uncommitted_removals.push(removed.sequence);
    }

    pub(crate) fn subtract_subject(&mut self, id: u32, sequence: u64, newest: Option<u64>) {
        if self.subjects.subtract(id, sequence, newest) {
            for (_, bits) in &mut self.matchers {
                if let Some(word) = bits.get_mut(id as usize / 64) {
                    *word &= !(1 << (id % 64));
                }
            }
        }
    }

    pub(crate) fn note_removed(&mut self, sequence: u64, subject: u32) {
        self.removed.push((sequence, subject));
    }

    /// Was that message of a closed block removed, though its summary still names it?
    pub(crate) fn is_removed(&mut self, sequence: u64) -> bool {
        if self.removed.len() > self.removed_sorted + UNSORTED {
            self.sort_removed();
        }
        let (sorted, recent) = self.removed.split_at(self.removed_sorted);
        sequence < self.state.first.0
            || recent.iter().any(|(removed, _)| *removed == sequence)
            || sorted.binary_search_by_key(&sequence, |(removed, _)| *removed).is_ok()
    }

    pub(crate) fn sort_removed(&mut self) {
        // A long sorted run and a short one behind it: the stable sort merges them.
        self.removed.sort();
        self.removed_sorted = self.removed.len();
    }

    /// What was removed of a stretch of closed blocks; [`Stream::sort_removed`] first.
    pub(crate) fn removed_between(&self, from: u64, to: u64) -> &[(u64, u32)] {
        let start = self.removed.partition_point(|(removed, _)| *removed < from);
        let end = self.removed.partition_point(|(removed, _)| *removed <= to);
        &self.removed[start..end]
    }

    /// The last sequence before the next one, from this one on, that was removed from a closed block.
    pub(crate) fn before_removed(&mut self, from: u64) -> u64 {
        self.sort_removed();
        let next = self.removed.partition_point(|(removed, _)| *removed < from);
        self.removed.get(next).map_or(u64::MAX, |(removed, _)| removed.saturating_sub(1))
    }

    /// Nothing is named any more.
    fn forget_removed(&mut self) {
        self.removed = Vec::new();
        self.removed_sorted = 0;
        (self.correcting, self.corrected_left, self.is_uncertain) = (None, 0, false);
    }

    /// Which subjects the filters want.
    pub(crate) fn matcher(&mut self, filters: &[Filter]) -> Matcher {
        if filters.is_empty() || filters.iter().any(|filter| filter.as_str() == ">") {
            return Matcher::All;
        }
        if filters.len() <= 16 && filters.iter().all(Filter::is_literal) {
            let mut ids: Vec<u32> =
                filters.iter().filter_map(|filter| self.subjects.find(filter.as_str().as_bytes())).collect();
            ids.sort_unstable();
            ids.dedup();
            return Matcher::Ids(ids);
        }
        if let Some(index) = self.matchers.iter().position(|(known, _)| **known == *filters) {
            return Matcher::Cached(index);
        }
        let mut bits = Vec::new();
        for id in self.subjects.ids() {
            let name = self.subjects.name(id);
            if filters.iter().any(|filter| filter.matches(name)) {
                set(&mut bits, id);
            }
        }
        if self.matchers.len() >= MATCHERS_KEPT {
            self.matchers.remove(0);
        }
        self.matchers.push((filters.into(), bits));
        Matcher::Cached(self.matchers.len() - 1)
    }

    /// Does the matcher want that subject?
    pub(crate) fn wants(&self, matcher: &Matcher, id: u32) -> bool {
        match matcher {
            Matcher::All => true,
            Matcher::Ids(ids) => ids.contains(&id),
            Matcher::Cached(index) => self
                .matchers
                .get(*index)
                .and_then(|(_, bits)| bits.get(id as usize / 64))
                .is_some_and(|word| word >> (id % 64) & 1 == 1),
        }
    }

    /// Ids in the open block, newest first, for the duplicate window.
    pub(crate) fn open_ids(&self, since: AgeMillis) -> impl Iterator<Item = RecentId> {
        self.open.ids.iter().rev().take_while(move |id| id.age >= since.0).map(recent)
    }
}

/// As the trait has it.
pub(crate) fn recent(id: &IdEntry) -> RecentId {
    RecentId { hash: id.hash, sequence: Sequence(id.sequence), age: AgeMillis(id.age) }
}

fn set(bits: &mut Vec<u64>, id: u32) {
    let word = id as usize / 64;
    if word >= bits.len() {
        bits.resize(word + 1, 0);
    }
    bits[word] |= 1 << (id % 64);
}
