//! Sequence lists of a stream whose subjects hold a few messages each (key-value history): which one is the oldest is known without a walk over summaries.
//!
//! Built from the summaries in one pass when first asked for, then kept exact by every message that comes and goes. Never stored. A message costs 8 bytes, a
//! subject 24 and, with more than two messages, a small allocation; a stream with more messages than [`LISTED`] has no lists.

use smallvec::SmallVec;

use jetstream::store::StoreError;

use crate::database::Database;
use crate::stream::{Matcher, Stream};
use crate::{row, search};

/// Messages in the lists of all streams at most: some 8 MiB at worst.
pub(crate) const LISTED: u64 = 1 << 18;
/// Sizes above this are not kept: of such a message the payload may lie in chunks, which only its row tells.
const LARGEST_KNOWN: u64 = row::INLINE_PAYLOAD as u64;
/// Messages taken from summaries at once while lists are built.
const STEP: usize = 4096;

/// A stream's lists, if it has them.
#[derive(Debug, Default)]
pub(crate) struct History(Option<Lists>);

/// One message of a list.
#[derive(Clone, Copy, Debug)]
struct Listed {
    distance: u32,
    /// Its size, 0: only its row tells.
    size: u32,
}

#[derive(Debug)]
struct Lists {
    /// Sequences are kept as distances from here.
    base: u64,
    /// By subject id, ascending distances.
    of: Vec<SmallVec<[Listed; 2]>>,
    messages: u64,
}

impl History {
    /// Messages listed.
    pub(crate) fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, |lists| lists.messages)
    }

    /// The oldest messages of a subject, at most `count`, with their sizes (0: unknown); `None` when there are no lists.
    pub(crate) fn oldest(&self, subject: u32, count: usize) -> Option<SmallVec<[(u64, u64); 2]>> {
        let lists = self.0.as_ref()?;
        let list = lists.of.get(subject as usize)?;
        Some(list.iter().take(count).map(|one| (lists.base + u64::from(one.distance), u64::from(one.size))).collect())
    }

    /// A message came; it is the newest of all.
    pub(crate) fn push(&mut self, subject: u32, sequence: u64, size: u64) {
        if let Some(lists) = &mut self.0
            && !lists.push(subject, sequence, if size <= LARGEST_KNOWN { size as u32 } else { 0 })
        {
            self.0 = None;
        }
    }

    /// A message went.
    pub(crate) fn remove(&mut self, subject: u32, sequence: u64) {
        if let Some(lists) = &mut self.0
            && lists.remove(subject, sequence).is_none()
        {
            self.forget();
        }
    }

    /// Something does not agree with the lists, or they are in the way.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

impl Lists {
    /// `false` when there is no room for it.
    fn push(&mut self, subject: u32, sequence: u64, size: u32) -> bool {
        let Some(distance) = sequence.checked_sub(self.base).and_then(|distance| u32::try_from(distance).ok()) else {
            return false;
        };
        if self.messages >= LISTED {
            return false;
        }
        if subject as usize >= self.of.len() {
            self.of.resize_with(subject as usize + 1, SmallVec::new);
        }
        self.of[subject as usize].push(Listed { distance, size });
        self.messages += 1;
        true
    }

    fn remove(&mut self, subject: u32, sequence: u64) -> Option<()> {
        let list = self.of.get_mut(subject as usize)?;
        let distance = u32::try_from(sequence.checked_sub(self.base)?).ok()?;
        let index = list.binary_search_by_key(&distance, |one| one.distance).ok()?;
        list.remove(index);
        if list.is_empty() {
            // Gives back what was allocated.
            *list = SmallVec::new();
        }
        self.messages -= 1;
        Some(())
    }
}

/// Builds a stream's lists, unless it or, with `elsewhere` messages listed already, all streams together hold too many messages. Three quarters may be used
/// by what is there: else a stream at the limit would lose its lists and build them again with each message.
pub(crate) fn build(db: &mut Database, stream: &mut Stream, elsewhere: u64) -> Result<(), StoreError> {
    let room = (LISTED / 4 * 3).saturating_sub(elsewhere);
    if stream.state.messages > room || u64::from(stream.subjects.bound()) > room {
        return Ok(());
    }
    let mut lists = Lists { base: stream.state.first.0, of: Vec::new(), messages: 0 };
    let mut at = lists.base;
    while at <= stream.state.last.0 {
        let found = search::collect(db, stream, at, &Matcher::All, STEP, STEP)?;
        if !found.messages.iter().all(|(sequence, subject)| lists.push(*subject, *sequence, 0)) {
            return Ok(());
        }
        at = found.next;
    }
    stream.history = History(Some(lists));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_follow_what_comes_and_goes_and_end_when_they_can_not() {
        let mut history = History(Some(Lists { base: 10, of: Vec::new(), messages: 0 }));
        for sequence in 10..20 {
            history.push(sequence as u32 % 2, sequence, sequence * 10_000);
        }
        history.remove(0, 12);
        // A large one may have its payload elsewhere: its row must be looked at.
        assert_eq!(history.oldest(0, 2).unwrap().to_vec(), [(10, 0), (14, 0)]);
        history.push(1, 20, 60_000);
        let ones: Vec<u64> = history.oldest(1, 9).unwrap().iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!((ones, history.oldest(1, 9).unwrap()[5]), (vec![11, 13, 15, 17, 19, 20], (20, 60_000)));
        assert_eq!(history.len(), 10);
        history.push(0, 10 + u64::from(u32::MAX) + 1, 1);
        assert_eq!((history.len(), history.oldest(0, 1)), (0, None));
    }
}
