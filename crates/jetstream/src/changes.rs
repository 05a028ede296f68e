//! What changes in streams of which messages are read by their subjects, so that whoever remembers what was read knows when to forget it.
//!
//! A stream is watched from the first such read on. Everything that is stored in it or goes from it then is noted where the store is called
//! ([`crate::store::layers`]), whatever brought it about, and told at the end of the turn, in order. Streams of which what was read can't be
//! remembered by its subject are never watched: those that rename what is published, and those whose messages go with an acknowledgement.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;

use crate::identity::{Sequence, StreamId};

/// Changes of one turn; with more, nothing is watched any more.
const MOST: usize = 8192;

/// What changed in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From here on changes are told: what was read before may be out of date.
    Watched,
    /// They are not told any more.
    Unwatched,
    /// A message was stored, on a subject with this [`subject_hash`].
    Stored(u64),
    /// Messages from the first to the last may be gone, or some of them.
    Gone(Sequence, Sequence),
}

/// A number for a subject, the same in each process. Others may have it, too.
#[must_use]
pub fn subject_hash(subject: &[u8]) -> u64 {
    FixedState::with_seed(0x7472_6962).hash_one(subject)
}

/// The watched streams, and what changed in them in this turn.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Ascending.
    watched: Vec<StreamId>,
    noted: Vec<(StreamId, Change)>,
    /// The first message of each watched stream that is not committed; 0: older ones may be shown that will not be the newest after a crash.
    open: Vec<(StreamId, Sequence)>,
}

impl Changes {
    /// What changes in a stream is noted from now on.
    pub(crate) fn watch(&mut self, stream: StreamId) {
        if let Err(place) = self.watched.binary_search(&stream) {
            self.watched.insert(place, stream);
            self.note(stream, Change::Watched);
        }
    }

    /// It is not any more.
    pub(crate) fn unwatch(&mut self, stream: StreamId) {
        if let Ok(place) = self.watched.binary_search(&stream) {
            self.watched.remove(place);
            self.note(stream, Change::Unwatched);
        }
    }

    /// A message was stored.
    pub(crate) fn stored(&mut self, stream: StreamId, sequence: Sequence, subject: &[u8]) {
        if self.watched.binary_search(&stream).is_ok() {
            if self.open.last().is_none_or(|(last, _)| *last != stream) && self.first_open(stream).is_none() {
                self.open.push((stream, sequence));
            }
            self.note(stream, Change::Stored(subject_hash(subject)));
        }
    }

    /// Messages may be gone.
    pub(crate) fn gone(&mut self, stream: StreamId, first: Sequence, last: Sequence) {
        if self.watched.binary_search(&stream).is_ok() {
            self.note(stream, Change::Gone(first, last));
        }
    }

    /// One is about to be removed that may be the newest of its subject.
    pub(crate) fn chosen(&mut self, stream: StreamId) {
        if self.watched.binary_search(&stream).is_ok() {
            self.open.retain(|(open, _)| *open != stream);
            self.open.push((stream, Sequence(0)));
        }
    }

    /// Is the newest message of a subject that is found now committed, and was it the newest then?
    pub(crate) fn is_committed(&self, stream: StreamId, sequence: Sequence) -> bool {
        self.watched.binary_search(&stream).is_ok() && self.first_open(stream).is_none_or(|open| sequence < open)
    }

    /// Everything is committed.
    pub(crate) fn committed(&mut self) {
        self.open.clear();
    }

    fn first_open(&self, stream: StreamId) -> Option<Sequence> {
        self.open.iter().find(|(open, _)| *open == stream).map(|(_, first)| *first)
    }

    /// What was noted since the last time, in order.
    pub(crate) fn take(&mut self) -> Vec<(StreamId, Change)> {
        std::mem::take(&mut self.noted)
    }

    fn note(&mut self, stream: StreamId, change: Change) {
        if self.noted.len() < MOST || matches!(change, Change::Watched | Change::Unwatched) {
            self.noted.push((stream, change));
            return;
        }
        // Those that an earlier one of these ended are still to be told of.
        let ended = self.noted.iter().filter(|(_, change)| *change == Change::Unwatched).map(|(stream, _)| *stream);
        let mut ended: Vec<StreamId> = ended.chain(std::mem::take(&mut self.watched)).collect();
        ended.sort_unstable();
        ended.dedup();
        self.noted.clear();
        self.noted.extend(ended.into_iter().map(|stream| (stream, Change::Unwatched)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StreamId = StreamId(16);
    const B: StreamId = StreamId(17);

    #[test]
    fn only_what_changes_in_watched_streams_is_told() {
        let mut changes = Changes::default();
        changes.stored(A, Sequence(1), b"a");
        changes.watch(A);
        changes.watch(A);
        changes.stored(A, Sequence(1), b"a");
        changes.stored(B, Sequence(1), b"a");
        changes.gone(A, Sequence(1), Sequence(2));
        changes.unwatch(A);
        changes.stored(A, Sequence(1), b"a");
        let told = [
            Change::Watched,
            Change::Stored(subject_hash(b"a")),
            Change::Gone(Sequence(1), Sequence(2)),
            Change::Unwatched,
        ];
        assert_eq!(changes.take(), told.map(|change| (A, change)));
        assert!(changes.take().is_empty());
    }

    #[test]
    fn too_many_changes_end_all_watching() {
        let mut changes = Changes::default();
        changes.watch(B);
        changes.watch(A);
        (0..MOST).for_each(|_| changes.stored(A, Sequence(1), b"a"));
        assert_eq!(changes.take(), [(A, Change::Unwatched), (B, Change::Unwatched)]);
        changes.stored(A, Sequence(1), b"a");
        assert!(changes.take().is_empty());
        changes.watch(A);
        assert_eq!(changes.take(), [(A, Change::Watched)], "it can be watched again");
        changes.watch(B);
        (0..MOST).for_each(|_| changes.stored(A, Sequence(1), b"a"));
        changes.watch(A);
        (0..MOST).for_each(|_| changes.stored(A, Sequence(1), b"a"));
        assert_eq!(changes.take(), [(A, Change::Unwatched), (B, Change::Unwatched)], "a second time in one turn");
    }

    #[test]
    fn what_is_found_is_committed_unless_it_came_or_something_was_removed_since() {
        let mut changes = Changes::default();
        assert!(!changes.is_committed(A, Sequence(1)), "of a stream that is not watched nothing is known");
        changes.watch(A);
        changes.watch(B);
        changes.stored(A, Sequence(5), b"a");
        changes.stored(B, Sequence(3), b"a");
        changes.stored(A, Sequence(6), b"a");
        assert_eq!([4, 5, 6].map(|sequence| changes.is_committed(A, Sequence(sequence))), [true, false, false]);
        changes.chosen(A);
        assert!(!changes.is_committed(A, Sequence(4)) && changes.is_committed(B, Sequence(2)));
        changes.stored(A, Sequence(7), b"a");
        assert!(!changes.is_committed(A, Sequence(4)));
        changes.committed();
        assert!(changes.is_committed(A, Sequence(7)));
    }
}
