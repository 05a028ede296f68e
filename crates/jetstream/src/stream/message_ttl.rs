//! Messages with a time to live of their own (`Nats-TTL`, ADR-43), in streams that allow it.
//!
//! Each has a record whose key is the stream, the age it ends at, and its sequence, so that the next to go is the first record, however many there
//! are, and nothing is read at opening. What leaves a stream by other ways leaves its record behind until then. Ages are the age clock's, as for
//! `max_age`, which counts as well: the earlier of the two ends a message, unless it never ends ([`crate::stream::aging`], where markers are left as well).

use crate::api_error::{self, ApiError};
use crate::consumer::consuming::parse_duration;
use crate::forwarded::ledger::Cause;
use crate::identity::{AgeMillis, Now, Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::store::{Evicted, MessageBuffer, Store, StoreError, record_space, undamaged};
use crate::stream::{Among, Removal, Stream};

/// Messages that end in one turn; others go in the next.
const ENDS_PER_TURN: usize = 256;
/// Records of deleted streams that go in one turn.
const FORGOTTEN_PER_TURN: usize = 1024;
/// Nobody waits longer.
const LONGEST_MILLIS: u64 = 1 << 48;
/// Stands in the one record that says that a stream holds, or held, messages that never end.
const NEVER: AgeMillis = AgeMillis(u64::MAX);

/// How long a message lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeToLive {
    /// As long as the stream's limits let it.
    Unlimited,
    /// Even the stream's age limit does not end it.
    Never,
    /// Milliseconds.
    Millis(u64),
}

impl TimeToLive {
    /// Reads the header: seconds, a duration of at least one, or `never`.
    pub(crate) fn parse(value: &[u8]) -> Result<TimeToLive, ApiError> {
        if value.eq_ignore_ascii_case(b"never") {
            return Ok(TimeToLive::Never);
        }
        let text = std::str::from_utf8(value).map_err(|_| api_error::MESSAGE_TTL_INVALID)?;
        let millis = match text.parse::<u64>() {
            // As a duration it is too short; only in another spelling it is a number.
            Ok(0) if text == "0" => return Err(api_error::MESSAGE_TTL_INVALID),
            Ok(0) => return Ok(TimeToLive::Unlimited),
            Ok(seconds) => seconds.saturating_mul(1000),
            Err(_) => match parse_duration(text) {
                // Whole seconds count.
                Some(millis) if millis >= 1000 => millis / 1000 * 1000,
                _ => return Err(api_error::MESSAGE_TTL_INVALID),
            },
        };
        Ok(TimeToLive::Millis(millis.min(LONGEST_MILLIS)))
    }
}

/// Records of streams, by time: what a stream leaves behind when it is deleted.
const SPACES: [u8; 2] = [record_space::TIME_TO_LIVE, record_space::SCHEDULE];
const KEY_LEN: usize = 1 + 4 + 8 + 8;

pub(crate) fn key(stream: StreamId, ends: AgeMillis, sequence: Sequence) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[0] = record_space::TIME_TO_LIVE;
    key[1..5].copy_from_slice(&stream.0.to_be_bytes());
    key[5..13].copy_from_slice(&ends.0.to_be_bytes());
    key[13..].copy_from_slice(&sequence.0.to_be_bytes());
    key
}

/// The parts of a key; `None`: it is none.
fn parts(key: &[u8]) -> Option<(StreamId, AgeMillis, Sequence)> {
    let stream = u32::from_be_bytes(key.get(1..5)?.try_into().ok()?);
    let ends = u64::from_be_bytes(key.get(5..13)?.try_into().ok()?);
    let sequence = u64::from_be_bytes(key.get(13..KEY_LEN)?.try_into().ok()?);
    Some((StreamId(stream), AgeMillis(ends), Sequence(sequence)))
}

/// What a stream's records begin with.
fn prefix(space: u8, stream: StreamId) -> [u8; 5] {
    let mut prefix = [space; 5];
    prefix[1..].copy_from_slice(&stream.0.to_be_bytes());
    prefix
}

/// The first records of a stream, in the order in which they end.
pub(crate) fn first(
    store: &mut dyn Store,
    stream: StreamId,
    most: usize,
) -> Result<Vec<(AgeMillis, Sequence)>, StoreError> {
    let (mut found, prefix) = (Vec::new(), prefix(record_space::TIME_TO_LIVE, stream));
    store.scan_records(&prefix, &prefix, &mut |key, _| {
        found.extend(parts(key).map(|(_, ends, sequence)| (ends, sequence)).filter(|(ends, _)| *ends < NEVER));
        found.len() < most
    })?;
    Ok(found)
}

impl Stream {
    /// A message was stored with this time to live.
    pub(crate) fn lives(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        sequence: Sequence,
        value: &[u8],
    ) -> Result<(), StoreError> {
        match TimeToLive::parse(value) {
            Ok(TimeToLive::Millis(millis)) => self.ends_after(store, now, sequence, millis),
            Ok(TimeToLive::Never) if !self.aging.never => {
                self.aging.never = true;
                store.put_record(&key(self.id, NEVER, Sequence(0)), &[1])
            }
            _ => Ok(()),
        }
    }

    /// A message was stored that lives so long.
    pub(crate) fn ends_after(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        sequence: Sequence,
        millis: u64,
    ) -> Result<(), StoreError> {
        let ends = AgeMillis(now.age.0.saturating_add(millis));
        store.put_record(&key(self.id, ends, sequence), &[1])?;
        self.next_end = Some(self.next_end.map_or(ends, |next| next.min(ends)));
        Ok(())
    }

    /// Removes messages whose time is over; `true` when more wait for the next turn.
    pub(crate) fn end_messages(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        removed: &mut Vec<Removal>,
    ) -> Result<bool, StoreError> {
        if self.config.sealed || self.leaves_markers() || self.next_end.is_none_or(|next| next > now.age) {
            return Ok(false);
        }
        let records = first(store, self.id, ENDS_PER_TURN + 1)?;
        let due = records.iter().take(ENDS_PER_TURN).take_while(|(ends, _)| *ends <= now.age);
        let mut count = 0;
        let mut buffer = MessageBuffer::default();
        for (ends, sequence) in due {
            count += 1;
            store.delete_record(&key(self.id, *ends, *sequence))?;
            buffer.clear();
            let known = undamaged(store, self.id, *sequence, &mut buffer)?;
            if store.remove(self.id, *sequence, false)? {
                let evicted = Evicted { messages: 1, bytes: 0, first: *sequence, last: *sequence };
                let subject = buffer.get(0).filter(|_| known).map(|message| message.subject.into());
                let among = subject.map_or(Among::Some, Among::Subject);
                removed.push(Removal { evicted, among, cause: Cause::Age });
            }
        }
        self.next_end = records.get(count).map(|(ends, _)| *ends);
        Ok(self.next_end.is_some_and(|next| next <= now.age))
    }

    /// Finds the next one to go, at opening.
    pub(crate) fn load_ends(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        self.next_end = first(store, self.id, 1)?.first().map(|(ends, _)| *ends);
        self.aging.never = store.record(&key(self.id, NEVER, Sequence(0)))?.is_some();
        Ok(())
    }
}

impl JetStream {
    /// Finds records of streams that are gone, at opening: one look for each stream that has any.
    pub(crate) fn find_forgotten(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        SPACES.into_iter().try_for_each(|space| self.find_forgotten_in(store, space))
    }

    fn find_forgotten_in(&mut self, store: &mut dyn Store, space: u8) -> Result<(), StoreError> {
        let mut from = vec![space];
        loop {
            let mut found = None;
            store.scan_records(&[space], &from, &mut |key, _| {
                found = key.get(1..5).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes).map(StreamId);
                false
            })?;
            let Some(stream) = found else { return Ok(()) };
            if !self.streams.contains_key(&stream) && !self.forgotten.contains(&stream) {
                self.forgotten.push(stream);
            }
            let Some(next) = stream.0.checked_add(1) else { return Ok(()) };
            from = prefix(space, StreamId(next)).to_vec();
        }
    }

    /// Removes some records of streams that are gone.
    pub(crate) fn forget(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        let Some(stream) = self.forgotten.last().copied() else { return Ok(()) };
        let mut records = Vec::new();
        for space in SPACES {
            let prefix = prefix(space, stream);
            turn.store.scan_records(&prefix, &prefix, &mut |key, _| {
                records.push(key.to_vec());
                records.len() < FORGOTTEN_PER_TURN
            })?;
        }
        for key in &records {
            turn.store.delete_record(key)?;
        }
        if records.len() < FORGOTTEN_PER_TURN {
            self.forgotten.pop();
        }
        if !records.is_empty() {
            self.lazy_since.get_or_insert(turn.now.age);
        }
        self.again |= !self.forgotten.is_empty();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::TimeToLive;

    #[test]
    fn times_to_live_are_read_as_stock_reads_them() {
        let read = |text: &str| TimeToLive::parse(text.as_bytes()).ok();
        assert_eq!(read("5"), Some(TimeToLive::Millis(5000)));
        assert_eq!(read("1m1.5s"), Some(TimeToLive::Millis(61_000)));
        assert_eq!(read("Never"), Some(TimeToLive::Never));
        assert_eq!(read("00"), Some(TimeToLive::Unlimited));
        for text in ["", "0", "-1", "999ms", "soon", "1d", "-5s"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
