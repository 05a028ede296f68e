//! Bulk reads. The newest messages come from the ring; what is older is fetched by the reader thread in slices, one ahead of who reads.

use jetstream::identity::Sequence;
use jetstream::store::{MessageBuffer, Read, StoreError};
use subject::Filter;

use crate::erase::delete_doomed;
use crate::reader::{self, Fetched, Job, LARGEST_SLICE, SLICE_BYTES, Wanted};
use crate::search;
use crate::store::SqliteStore;
use crate::stream::{Matcher, Stream};

/// Slices fetched or being fetched at most, and the bytes that were asked for with them; there are more only where a single message is larger.
const SLICES: usize = 16;
const SLICES_BYTES: usize = 2 << 20;
/// Entries of the ring looked at per call.
const LOOK: usize = 4096;
/// Summaries looked at per call.
const BLOCKS: usize = 64;
/// Messages named one by one in a job.
const EACH: usize = 256;

/// A part of the backlog of one stream, for readers with the same filters.
#[derive(Debug)]
struct Slice {
    ticket: u64,
    stream: u32,
    filters: Box<[Filter]>,
    /// It covers everything from here …
    from: u64,
    /// … to before here; while it is being fetched, an estimate.
    next: u64,
    messages: Option<MessageBuffer>,
    /// Removed since it was asked for, or in the transaction open then: the reader thread may not have known.
    removed: Vec<u64>,
    /// The one behind it was asked for.
    followed: bool,
    /// Bytes that it was asked to hold.
    size: usize,
}

/// All slices, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    slices: Vec<Slice>,
    tickets: u64,
}

impl Slices {
    /// A message in the interior was removed.
    pub(crate) fn forget(&mut self, stream: u32, sequence: u64) {
        // Only what it can hold: a slice that nobody comes for would collect the removals of days.
        let holds = |slice: &&mut Slice| slice.stream == stream && (slice.from..slice.next).contains(&sequence);
        for slice in self.slices.iter_mut().filter(holds) {
            slice.removed.push(sequence);
        }
    }

    /// A stream is gone.
    pub(crate) fn forget_stream(&mut self, stream: u32) {
        self.slices.retain(|slice| slice.stream != stream);
    }

    fn find(&self, stream: u32, filters: &[Filter], from: u64) -> Option<usize> {
        self.slices.iter().position(|slice| {
            slice.stream == stream && slice.from <= from && from < slice.next && *slice.filters == *filters
        })
    }

    /// Room for one more of this size.
    fn room(&mut self, size: usize) -> bool {
        while self.slices.len() >= SLICES
            || self.slices.iter().map(|slice| slice.size).sum::<usize>() + size > SLICES_BYTES
        {
            // The oldest that is ready: whoever asked for it no longer comes.
            let Some(index) = self.slices.iter().position(|slice| slice.messages.is_some()) else { return false };
            self.slices.remove(index);
        }
        true
    }

    /// A slice arrived.
    fn arrived(&mut self, ticket: u64, fetched: Fetched) {
        if let Some(slice) = self.slices.iter_mut().find(|slice| slice.ticket == ticket) {
            slice.next = fetched.next;
            slice.messages = Some(fetched.messages);
        }
    }

    /// Stream and beginning of a slice that is to hold everything between its ends.
    fn unfiltered(&self, ticket: u64) -> Option<(u32, u64)> {
        let slice = self.slices.iter().find(|slice| slice.ticket == ticket && slice.filters.is_empty())?;
        Some((slice.stream, slice.from))
    }

    /// A slice could not be fetched.
    pub(crate) fn failed(&mut self, ticket: u64) -> bool {
        let before = self.slices.len();
        self.slices.retain(|slice| slice.ticket != ticket);
        self.slices.len() < before
    }
}

/// What one call may take.
struct Budget {
    messages: usize,
    bytes: usize,
}

impl Budget {
    fn spent(&mut self, bytes: usize) -> bool {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.messages == 0 || self.bytes == 0
    }
}

impl SqliteStore {
    pub(crate) fn bulk_read(
        &mut self,
        id: u32,
        from: u64,
        filters: &[Filter],
        max_messages: usize,
        max_bytes: usize,
        into: &mut MessageBuffer,
    ) -> Result<Read, StoreError> {
        self.poll_reader()?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(ready(from)) };
        let from = from.max(stream.state.first.0);
        if from > stream.state.last.0 || stream.state.messages == 0 {
            return Ok(ready(from.max(stream.state.last.0 + 1)));
        }
        let mut budget = Budget { messages: max_messages, bytes: max_bytes };
        if max_messages == 0 || max_bytes == 0 {
            return Ok(ready(from));
        }
        if from >= stream.tail_start() {
            return Ok(ready(self.read_tail(id, from, filters, &mut budget, into)));
        }
        if let Some(index) = self.slices.find(id, filters, from) {
            if self.slices.slices[index].messages.is_none() {
                return Ok(Read::Pending);
            }
            return self.read_slice(index, from, &mut budget, into).map(ready);
        }
        self.fetch_backlog(id, from, filters, &mut budget, into)
    }

    fn read_tail(
        &mut self,
        id: u32,
        from: u64,
        filters: &[Filter],
        budget: &mut Budget,
        into: &mut MessageBuffer,
    ) -> u64 {
        let Some(stream) = self.streams.get_mut(&id) else { return from };
        let matcher = stream.matcher(filters);
        let start = stream.tail.partition_point(|entry| entry.sequence < from);
        for (looked, entry) in stream.tail.range(start..).enumerate() {
            if looked == LOOK {
                return entry.sequence;
            }
            if entry.length == 0 || !stream.wants(&matcher, entry.subject) {
                continue;
            }
            let before = into.bytes();
            // A row in memory is whole; one with a payload in chunks still has to be fetched.
            let pushed = reader::push_row(&self.db.connection, id, entry.sequence, self.ring.row(entry), into);
            if !matches!(pushed, Ok(true)) {
                self.db.health.damaged.set(self.db.health.damaged.get() + 1);
            }
            if budget.spent(into.bytes() - before) {
                return entry.sequence + 1;
            }
        }
        stream.state.last.0 + 1
    }

    /// Copies from a slice that is here; asks for the one behind it.
    fn read_slice(
        &mut self,
        index: usize,
        from: u64,
        budget: &mut Budget,
        into: &mut MessageBuffer,
    ) -> Result<u64, StoreError> {
        let slice = &mut self.slices.slices[index];
        slice.removed.sort_unstable();
        let first = self.streams.get(&slice.stream).map_or(u64::MAX, |stream| stream.state.first.0);
        let mut next = slice.next;
        let mut emptied = true;
        for message in slice.messages.iter().flat_map(MessageBuffer::iter) {
            let sequence = message.sequence.0;
            if sequence < from.max(first) || slice.removed.binary_search(&sequence).is_ok() {
                continue;
            }
            into.push(&message);
            if budget.spent(message.subject.len() + message.headers.len() + message.payload.len()) {
                next = sequence + 1;
                emptied = next >= slice.next;
                break;
            }
        }
        let (stream, filters, behind, followed) = (slice.stream, slice.filters.clone(), slice.next, slice.followed);
        // Who reads on and on is soon given more at a time: each slice is a turn of two threads, and what it leads to may be a commit.
        let size = (slice.size * 2).min(LARGEST_SLICE);
        slice.followed = true;
        if emptied {
            self.slices.slices.remove(index);
        }
        if !followed && self.slices.find(stream, &filters, behind).is_none() {
            // Nothing there: nothing ahead to fetch. No room: whoever comes asks again.
            match self.plan(stream, behind, &filters)? {
                Some(Wanted::Each(sequences, _)) if sequences.is_empty() => {}
                Some(wanted) => _ = self.ask(stream, behind, &filters, wanted, size),
                None => {}
            }
        }
        Ok(next)
    }

    fn fetch_backlog(
        &mut self,
        id: u32,
        from: u64,
        filters: &[Filter],
        budget: &mut Budget,
        into: &mut MessageBuffer,
    ) -> Result<Read, StoreError> {
        let Some(wanted) = self.plan(id, from, filters)? else {
            // Not committed yet, and no longer in the ring: only this connection sees it.
            let Some(stream) = self.streams.get(&id) else { return Ok(ready(from)) };
            let wanted = Wanted::Range(from, stream.tail_start() - 1);
            let slice = self.slices.open(id, filters, from);
            return self.fetch_here(slice, &wanted, budget, into);
        };
        if let Wanted::Each(sequences, next) = &wanted
            && sequences.is_empty()
        {
            return Ok(ready((*next).max(from)));
        }
        if self.reader.is_some() {
            self.ask(id, from, filters, wanted, SLICE_BYTES);
            return Ok(Read::Pending);
        }
        let slice = self.slices.open(id, filters, from);
        self.fetch_here(slice, &wanted, budget, into)
    }

    /// Reads a slice on this connection.
    fn fetch_here(
        &mut self,
        mut slice: Slice,
        wanted: &Wanted,
        budget: &mut Budget,
        into: &mut MessageBuffer,
    ) -> Result<Read, StoreError> {
        if let Some(stream) = self.streams.get_mut(&slice.stream) {
            delete_doomed(&self.db, stream)?;
        }
        let fetched = reader::fetch(&self.db.connection, slice.stream, wanted, slice.size)
            .map_err(|error| self.db.health.failed(&error))?;
        self.db.health.damaged.set(self.db.health.damaged.get() + fetched.damaged);
        slice.next = fetched.next;
        slice.followed = true;
        if slice.filters.is_empty() {
            self.expect_all(slice.stream, slice.from, &fetched)?;
        }
        let mut messages = fetched.messages;
        if !slice.filters.is_empty() {
            let mut wanted = MessageBuffer::default();
            messages
                .iter()
                .filter(|message| slice.filters.iter().any(|filter| filter.matches(message.subject)))
                .for_each(|message| wanted.push(&message));
            messages = wanted;
        }
        slice.messages = Some(messages);
        let from = slice.from;
        if !self.slices.room(slice.size) {
            return Ok(Read::Pending);
        }
        self.slices.slices.push(slice);
        let index = self.slices.slices.len() - 1;
        self.read_slice(index, from, budget, into).map(ready)
    }

    /// Takes in a slice from the reader thread.
    pub(crate) fn take_slice(&mut self, ticket: u64, fetched: Fetched) -> Result<(), StoreError> {
        let whole = match self.slices.unfiltered(ticket) {
            Some((stream, from)) => self.expect_all(stream, from, &fetched),
            None => Ok(()),
        };
        self.slices.arrived(ticket, fetched);
        whole
    }

    /// A stretch of a stream without gaps must be found without gaps: a damaged page high in the tree hides what it leads to, and says nothing.
    pub(crate) fn expect_all(&self, id: u32, from: u64, fetched: &Fetched) -> Result<(), StoreError> {
        let Some(state) = self.streams.get(&id).map(|stream| stream.state) else { return Ok(()) };
        if state.messages == 0 || state.messages != state.last.0 - state.first.0 + 1 {
            return Ok(());
        }
        let from = from.max(state.first.0);
        let found = fetched.messages.iter().filter(|message| message.sequence.0 >= from).count() as u64;
        let missing = fetched.next.min(state.last.0 + 1).saturating_sub(from).saturating_sub(found + fetched.damaged);
        if missing == 0 {
            return Ok(());
        }
        let next = fetched.next;
        Err(self
            .db
            .health
            .suspect(format!("{missing} messages of stream {id} between {from} and {next} are not found")))
    }

    /// What to fetch from a position on; `None` when the reader thread can't see it.
    fn plan(&mut self, id: u32, from: u64, filters: &[Filter]) -> Result<Option<Wanted>, StoreError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(None) };
        let Some(end) = visible_end(stream).filter(|end| from <= *end) else { return Ok(None) };
        let matcher = stream.matcher(filters);
        if matcher == Matcher::All {
            return Ok(Some(Wanted::Range(from, end)));
        }
        let found = search::collect(&mut self.db, stream, from, &matcher, EACH, BLOCKS)?;
        let mut sequences: Vec<u64> = found.messages.iter().map(|(sequence, _)| *sequence).collect();
        sequences.truncate(sequences.partition_point(|sequence| *sequence <= end));
        Ok(Some(Wanted::Each(sequences, found.next.min(end + 1))))
    }

    fn ask(&mut self, id: u32, from: u64, filters: &[Filter], wanted: Wanted, size: usize) -> bool {
        let Some(reader) = &self.reader else { return false };
        if !self.slices.room(size) {
            return false;
        }
        let mut slice = Slice { size, ..self.slices.open(id, filters, from) };
        slice.next = match &wanted {
            Wanted::Range(_, to) => to + 1,
            Wanted::Each(_, next) => *next,
        };
        if let Some(stream) = self.streams.get(&id) {
            slice.removed.extend(stream.uncommitted_removals.iter().filter(|sequence| **sequence >= from));
        }
        let asked = reader.ask(Job::Fetch { ticket: slice.ticket, stream: id, wanted, size });
        if asked {
            self.slices.slices.push(slice);
        }
        asked
    }
}

impl Slices {
    fn open(&mut self, stream: u32, filters: &[Filter], from: u64) -> Slice {
        self.tickets += 1;
        Slice {
            ticket: self.tickets,
            stream,
            filters: filters.into(),
            from,
            next: from,
            messages: None,
            removed: Vec::new(),
            followed: false,
            size: SLICE_BYTES,
        }
    }
}

/// Last sequence below the tail that connection R can see.
fn visible_end(stream: &Stream) -> Option<u64> {
    Some(stream.committed_last.min(stream.tail_start() - 1)).filter(|end| *end > 0)
}

fn ready(next: u64) -> Read {
    Read::Ready { next: Sequence(next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_that_nobody_comes_for_remembers_removals_of_its_own_messages_only() {
        let mut slices = Slices::default();
        let mut slice = slices.open(16, &[], 100);
        slice.next = 200;
        slices.slices.push(slice);
        (0..100_000).for_each(|sequence| slices.forget(16, sequence));
        assert_eq!(slices.slices[0].removed, (100..200).collect::<Vec<_>>());
    }

    #[test]
    fn slices_that_nobody_comes_for_make_room_by_number_and_by_bytes() {
        let fill = |size: usize| {
            let mut slices = Slices::default();
            for number in 0..100 {
                if slices.room(size) {
                    let slice = slices.open(16, &[], number);
                    slices.slices.push(Slice { size, messages: Some(MessageBuffer::default()), ..slice });
                }
            }
            slices
        };
        let (small, mut large) = (fill(SLICE_BYTES), fill(LARGEST_SLICE));
        assert_eq!((small.slices.len(), large.slices.len()), (SLICES, SLICES_BYTES / LARGEST_SLICE));
        assert_eq!(large.slices.last().map(|slice| slice.from), Some(99), "the oldest went");
        large.slices.iter_mut().for_each(|slice| slice.messages = None);
        assert!(!large.room(SLICE_BYTES), "what is being fetched stays");
    }
}
