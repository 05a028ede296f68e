//! Sequence lists of a stream whose subjects hold a few messages each (key-value history): which one is the oldest is known without a walk over summaries.
//!
//! Built from the summaries in one pass when first asked for, then kept exact by every message that comes and goes. Never stored. A message costs 4 bytes, a
//! subject 24 and, with more than four messages, a small allocation; a stream with more messages than [`LISTED`] has no lists.

use smallvec::SmallVec;

use jetstream::store::StoreError;

use crate::database::Database;
use crate::search;
use crate::stream::{Matcher, Stream};

/// Messages in the lists of all streams at most: some 4 MiB at worst.
pub(crate) const LISTED: u64 = 1 << 18;
/// Messages taken from summaries at once while lists are built.
const STEP: usize = 4096;

/// A stream's lists, if it has them.
#[derive(Debug, Default)]
pub(crate) struct History(Option<Lists>);

#[derive(Debug)]
struct Lists {
    /// Sequences are kept as distances from here.
    base: u64,
    /// By subject id, ascending distances.
    of: Vec<SmallVec<[u32; 4]>>,
    messages: u64,
}

impl History {
    /// Messages listed.
    pub(crate) fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, |lists| lists.messages)
    }

    /// The oldest messages of a subject, at most `count`; `None` when there are no lists.
    pub(crate) fn oldest(&self, subject: u32, count: usize) -> Option<SmallVec<[u64; 4]>> {
        let lists = self.0.as_ref()?;
        let list = lists.of.get(subject as usize)?;
        Some(list.iter().take(count).map(|distance| lists.base + u64::from(*distance)).collect())
    }

    /// A message came; it is the newest of all.
    pub(crate) fn push(&mut self, subject: u32, sequence: u64) {
        if let Some(lists) = &mut self.0
            && !lists.push(subject, sequence)
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
    fn push(&mut self, subject: u32, sequence: u64) -> bool {
        let Some(distance) = sequence.checked_sub(self.base).and_then(|distance| u32::try_from(distance).ok()) else {
            return false;
        };
        if self.messages >= LISTED {
            return false;
        }
        if subject as usize >= self.of.len() {
            self.of.resize_with(subject as usize + 1, SmallVec::new);
        }
        self.of[subject as usize].push(distance);
        self.messages += 1;
        true
    }

    fn remove(&mut self, subject: u32, sequence: u64) -> Option<()> {
        let list = self.of.get_mut(subject as usize)?;
        let distance = u32::try_from(sequence.checked_sub(self.base)?).ok()?;
        let index = list.binary_search(&distance).ok()?;
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
        if !found.messages.iter().all(|(sequence, subject)| lists.push(*subject, *sequence)) {
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
            history.push(sequence as u32 % 2, sequence);
        }
        history.remove(0, 12);
        assert_eq!(history.oldest(0, 2).unwrap().to_vec(), [10, 14]);
        assert_eq!(history.oldest(1, 9).unwrap().to_vec(), [11, 13, 15, 17, 19]);
        assert_eq!(history.len(), 9);
        history.push(0, 10 + u64::from(u32::MAX) + 1);
        assert_eq!((history.len(), history.oldest(0, 1)), (0, None));
    }
}
