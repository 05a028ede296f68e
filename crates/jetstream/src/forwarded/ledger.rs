//! What became of a forwarded stream's messages, and the gaps that the lost ones left: `accepted = delivered + held + dropped`, at any time and over
//! restarts.
//!
//! ```text
//!  accepted   counted from the stream's last sequence: a publish costs nothing here
//!  delivered  what lies at or below the confirmed position and was not dropped
//!  held       what lies above it and is still there
//!  dropped    what was removed above it, by cause; and what was set aside because the hub refuses it
//! ```
//!
//! One row per forward, written with the commit that changes it: the counters, the confirmed position, and the gap records that are still open. An open
//! record is extended by what goes next for the same cause; it becomes a message of the gap stream when there is a link (see `gaps.rs`).
//!
//! What a hub loses after it confirmed is not seen here, unless the forward goes back to it: then what is still there is held again.

use std::fmt::Write as _;

use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::record::{Reader, put, put_signed};
use crate::store::{Evicted, Store, StoreError, record_space};

const VERSION: u8 = 1;
/// Records that are open at the same time, about: beyond it they are joined over what lies between.
const MOST_OPEN: usize = 16;
/// No count comes near it; a row that says more is damaged.
const MOST_COUNTED: u64 = 1 << 56;
const NANOS: i64 = 1_000_000_000;

/// Why messages went before they were delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A limit of number or bytes, of the stream or of a subject.
    Limit,
    /// Too old.
    Age,
    /// A purge, or a publish that rolls up.
    Purge,
    /// A message, or the whole stream, was deleted.
    Delete,
    /// Room was made for others.
    Eviction,
    /// The hub refuses it for good; it is kept aside.
    Rejected,
    /// The store lost it.
    Damaged,
}

impl Cause {
    /// All, in the order of their numbers.
    pub const ALL: [Cause; 7] =
        [Cause::Limit, Cause::Age, Cause::Purge, Cause::Delete, Cause::Eviction, Cause::Rejected, Cause::Damaged];

    /// Its word in gap records, `status` and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cause::Limit => "limit",
            Cause::Age => "age",
            Cause::Purge => "purge",
            Cause::Delete => "delete",
            Cause::Eviction => "eviction",
            Cause::Rejected => "rejected",
            Cause::Damaged => "damaged",
        }
    }
}

/// The counters of a forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Accepted up to `since`.
    before: u64,
    /// From here on every sequence is an accepted message.
    since: Sequence,
    confirmed: Sequence,
    delivered: u64,
    dropped: [u64; Cause::ALL.len()],
}

impl Ledger {
    /// Messages accepted since the forward began, with what the stream held then. `last`: the stream's last sequence.
    #[must_use]
    pub fn accepted(&self, last: Sequence) -> u64 {
        self.before + last.0.saturating_sub(self.since.0)
    }

    /// Messages that the hub confirmed.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Messages that went for this cause.
    #[must_use]
    pub fn dropped(&self, cause: Cause) -> u64 {
        self.dropped[cause as usize]
    }

    /// Messages still to be delivered.
    #[must_use]
    pub fn held(&self, last: Sequence) -> u64 {
        self.accepted(last).saturating_sub(self.delivered + self.all_dropped())
    }

    fn all_dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }
}

/// A stretch of a stream in which messages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub cause: Cause,
    /// First and last sequence that went.
    pub first: Sequence,
    /// See `first`.
    pub last: Sequence,
    /// How many went.
    pub messages: u64,
    /// Their size by [`crate::store::message_size`]; in proportion where only a part of what was removed had not been delivered.
    pub bytes: u64,
    /// When the last of them went.
    pub time: Timestamp,
}

impl Gap {
    /// The record's body.
    #[must_use]
    pub fn json(&self, stream: &str) -> String {
        let Gap { first, last, messages, bytes, .. } = self;
        format!(
            r#"{{"stream":"{}","first":{},"last":{},"count":{messages},"bytes":{bytes},"reason":"{}","time":"{}"}}"#,
            stream.replace('"', "\\\""),
            first.0,
            last.0,
            self.cause.name(),
            rfc3339(self.time)
        )
    }

    /// Is the other one its continuation? Nothing of what lies between them was delivered.
    fn reaches(&self, other: &Gap, confirmed: Sequence) -> bool {
        let touch = other.first <= self.last.next() && self.first <= other.last.next();
        // What single deletes leave between them is there.
        touch || (self.cause != Cause::Delete && self.last.min(other.last) > confirmed)
    }

    fn extend(&mut self, other: &Gap) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.time = self.time.max(other.time);
    }
}

/// The ledger of a stream that is forwarded, and its open gap records.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) ledger: Ledger,
    stream: StreamId,
    /// Oldest first.
    pub(crate) open: Vec<Gap>,
    /// There is a link: records go to the gap stream.
    pub(crate) is_linked: bool,
    /// What was open when the link came was written, or was tried to.
    pub(crate) is_tried: bool,
    /// Not before that.
    pub(crate) next_write: AgeMillis,
    pub(crate) is_unsaved: bool,
    /// It is in the list of those that changed in this turn.
    pub(crate) is_listed: bool,
}

impl Book {
    /// Reads the row of the forward named so, or begins one: with what the stream holds behind `confirmed`. What should be held and is not is
    /// [`Cause::Damaged`].
    pub(crate) fn open(
        store: &mut dyn Store,
        stream: StreamId,
        name: &str,
        confirmed: Sequence,
        now: Now,
    ) -> Result<Book, StoreError> {
        let last = store.state(stream).last;
        // A row that can't be read is as good as none: a damaged count is worse than one that begins anew.
        let known = store.record(&key(name))?.and_then(|row| decode(&row).ok());
        let mut book = known.unwrap_or_else(|| Book::new(StreamId::NONE, Ledger::default()));
        if book.stream != stream {
            // A new forward, or an earlier instance of the stream: its counts go on.
            book.stream = stream;
            book.ledger.before = book.ledger.delivered + book.ledger.all_dropped() + held(store, stream, confirmed)?;
            (book.ledger.since, book.ledger.confirmed) = (last, confirmed);
            book.is_unsaved = true;
            return Ok(book);
        }
        let there = held(store, stream, book.ledger.confirmed)?;
        let expected = book.ledger.held(last);
        if there < expected {
            let first = book.ledger.confirmed.next();
            let messages = expected - there;
            book.lose(Gap { cause: Cause::Damaged, first, last, messages, bytes: 0, time: now.wall });
        }
        let counted = book.ledger.delivered + book.ledger.all_dropped() + there;
        let short = counted.saturating_sub(book.ledger.accepted(last));
        // A damaged store may have lost its end too.
        book.ledger.before += short;
        book.is_unsaved |= short > 0;
        book.confirm(store, confirmed)?;
        Ok(book)
    }

    fn new(stream: StreamId, ledger: Ledger) -> Book {
        Book {
            ledger,
            stream,
            open: Vec::new(),
            is_linked: false,
            is_tried: false,
            next_write: AgeMillis(0),
            is_unsaved: false,
            is_listed: false,
        }
    }

    /// Everything up to here is at the hub. Lower than before: the hub lost its tail, and what is still here is held again.
    pub(crate) fn confirm(&mut self, store: &mut dyn Store, confirmed: Sequence) -> Result<(), StoreError> {
        if confirmed == self.ledger.confirmed {
            return Ok(());
        }
        let held = held(store, self.stream, confirmed)?;
        let accepted = self.ledger.accepted(store.state(self.stream).last);
        self.ledger.confirmed = confirmed;
        self.ledger.delivered = accepted.saturating_sub(self.ledger.all_dropped() + held);
        self.is_unsaved = true;
        Ok(())
    }

    /// The hub refuses this message; it was set aside.
    pub(crate) fn reject(&mut self, sequence: Sequence, bytes: u64, now: Now) {
        if sequence > self.ledger.confirmed {
            let (first, last) = (sequence, sequence);
            self.lose(Gap { cause: Cause::Rejected, first, last, messages: 1, bytes, time: now.wall });
        }
    }

    /// Takes what was removed since the last time into account; the store has removed all of it. `true`: some of it was not delivered.
    pub(crate) fn removed<'a>(
        &mut self,
        store: &mut dyn Store,
        removed: impl Iterator<Item = (&'a Evicted, Cause)> + Clone,
        now: Now,
    ) -> Result<bool, StoreError> {
        let confirmed = self.ledger.confirmed;
        let before = self.ledger.all_dropped();
        let unconfirmed = removed.filter(|(gone, _)| gone.last > confirmed && gone.messages > 0);
        let is_whole = |gone: &Evicted| gone.first > confirmed;
        let mut rest = 0;
        if unconfirmed.clone().any(|(gone, _)| !is_whole(gone)) {
            // Of a removal that begins at or below the position, what the store holds less than it should.
            let there = held(store, self.stream, confirmed)?;
            let whole: u64 =
                unconfirmed.clone().filter(|(gone, _)| is_whole(gone)).map(|(gone, _)| gone.messages).sum();
            rest = self.ledger.held(store.state(self.stream).last).saturating_sub(there + whole);
        }
        for (gone, cause) in unconfirmed {
            let messages = if is_whole(gone) { gone.messages } else { gone.messages.min(rest) };
            if !is_whole(gone) {
                rest -= messages;
            }
            if messages > 0 {
                let first = gone.first.max(confirmed.next());
                let bytes = share(gone.bytes, messages, gone.messages);
                self.lose(Gap { cause, first, last: gone.last, messages, bytes, time: now.wall });
            }
        }
        Ok(self.ledger.all_dropped() > before)
    }

    /// The stream is about to be deleted with all it holds.
    pub(crate) fn close(&mut self, store: &dyn Store, now: Now) {
        let state = store.state(self.stream);
        let messages = self.ledger.held(state.last);
        if messages > 0 {
            let first = state.first.max(self.ledger.confirmed.next());
            let bytes = share(state.bytes, messages, state.messages);
            self.lose(Gap { cause: Cause::Delete, first, last: state.last, messages, bytes, time: now.wall });
        }
    }

    /// Sequences between these two are never given.
    pub(crate) fn skipped(&mut self, from: Sequence, to: Sequence) {
        self.ledger.since.0 += to.0.saturating_sub(from.0);
        self.is_unsaved = true;
    }

    fn lose(&mut self, gap: Gap) {
        self.ledger.dropped[gap.cause as usize] += gap.messages;
        self.is_unsaved = true;
        let (confirmed, is_full) = (self.ledger.confirmed, self.open.len() >= MOST_OPEN);
        let same = |open: &&mut Gap| open.cause == gap.cause && (is_full || open.reaches(&gap, confirmed));
        match self.open.iter_mut().rev().find(same) {
            Some(open) => open.extend(&gap),
            None => self.open.push(gap),
        }
    }

    /// Writes the row, if it is not what is stored.
    pub(crate) fn save(&mut self, store: &mut dyn Store, name: &str) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.is_unsaved) {
            return Ok(());
        }
        let ledger = &self.ledger;
        let mut row = vec![VERSION];
        let numbers = [u64::from(self.stream.0), ledger.before, ledger.since.0, ledger.confirmed.0, ledger.delivered];
        numbers.into_iter().chain(ledger.dropped).for_each(|number| put(&mut row, number));
        put(&mut row, self.open.len() as u64);
        for gap in &self.open {
            row.push(gap.cause as u8);
            [gap.first.0, gap.last.0, gap.messages, gap.bytes].into_iter().for_each(|number| put(&mut row, number));
            put_signed(&mut row, gap.time.0);
        }
        store.put_record(&key(name), &row)
    }
}

/// Messages that the store holds behind a position.
fn held(store: &mut dyn Store, stream: StreamId, confirmed: Sequence) -> Result<u64, StoreError> {
    store.count_matching(stream, confirmed.next(), &[])
}

/// The part of `bytes` that so many of all messages have.
fn share(bytes: u64, messages: u64, all: u64) -> u64 {
    if messages == all { bytes } else { bytes.checked_div(all).unwrap_or(0).saturating_mul(messages) }
}

/// Key of a forward's row.
fn key(name: &str) -> Vec<u8> {
    [&[record_space::LEDGER], name.as_bytes()].concat()
}

/// Removes the rows of forwards that there are no more.
pub(crate) fn forget(store: &mut dyn Store, is_kept: &dyn Fn(&str) -> bool) -> Result<(), StoreError> {
    let mut gone = Vec::new();
    store.scan_records(&[record_space::LEDGER], &[record_space::LEDGER], &mut |key, _| {
        if !std::str::from_utf8(&key[1..]).is_ok_and(is_kept) {
            gone.push(key.to_vec());
        }
        true
    })?;
    gone.iter().try_for_each(|key| store.delete_record(key))
}

fn decode(row: &[u8]) -> Result<Book, StoreError> {
    let mut from = Reader::new(row, VERSION, "ledger of a forward")?;
    let stream = StreamId(from.number_u32()?);
    let mut ledger = Ledger {
        before: from.number()?,
        since: Sequence(from.number()?),
        confirmed: Sequence(from.number()?),
        delivered: from.number()?,
        dropped: Default::default(),
    };
    for count in &mut ledger.dropped {
        *count = from.number()?;
    }
    let damaged = || StoreError::Damaged("ledger of a forward: out of range".to_owned());
    let counts = [ledger.before, ledger.delivered].into_iter().chain(ledger.dropped);
    if counts.into_iter().any(|count| count > MOST_COUNTED) {
        return Err(damaged());
    }
    let mut book = Book::new(stream, ledger);
    for _ in 0..from.number()? {
        let cause = *Cause::ALL.get(usize::from(from.byte()?)).ok_or_else(damaged)?;
        let (first, last) = (Sequence(from.number()?), Sequence(from.number()?));
        let (messages, bytes, time) = (from.number()?, from.number()?, Timestamp(from.signed()?));
        if messages.max(bytes) > MOST_COUNTED {
            return Err(damaged());
        }
        book.open.push(Gap { cause, first, last, messages, bytes, time });
    }
    Ok(book)
}

/// `2026-01-02T15:04:05.678Z`. Days to a date as in the proleptic Gregorian calendar, with years that begin in March.
fn rfc3339(time: Timestamp) -> String {
    let (days, rest) = (time.0.div_euclid(86_400 * NANOS), time.0.rem_euclid(86_400 * NANOS));
    let (seconds, millis) = (rest / NANOS, rest % NANOS / 1_000_000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let mut text = String::new();
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Writing to a string does not fail.
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z");
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{Book, Cause, Gap, Ledger, Timestamp, decode, key, rfc3339};
    use crate::identity::{Sequence, StreamId};
    use crate::store::Store;
    use crate::store::memory::MemoryStore;

    #[test]
    fn times_are_dates() {
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Timestamp(1_709_210_096_789_000_000)), "2024-02-29T12:34:56.789Z");
        assert_eq!(rfc3339(Timestamp(-1)), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_name_with_a_quote_stays_one_text() {
        let sequence = Sequence(7);
        let gap =
            Gap { cause: Cause::Age, first: sequence, last: sequence, messages: 1, bytes: 30, time: Timestamp(0) };
        assert_eq!(
            gap.json("a\"b"),
            r#"{"stream":"a\"b","first":7,"last":7,"count":1,"bytes":30,"reason":"age","time":"1970-01-01T00:00:00.000Z"}"#
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in prop::array::uniform4(any::<u32>()),
            dropped in prop::array::uniform7(any::<u32>()),
            gaps in prop::collection::vec((0..7usize, any::<u32>(), any::<u32>(), any::<i64>()), 0..20),
        ) {
            let [before, since, confirmed, delivered] = numbers.map(u64::from);
            let (since, confirmed) = (Sequence(since), Sequence(confirmed));
            let ledger = Ledger { before, since, confirmed, delivered, dropped: dropped.map(u64::from) };
            let mut book = Book::new(StreamId(20), ledger);
            book.open.extend(gaps.iter().map(|(cause, first, messages, time)| Gap {
                cause: Cause::ALL[*cause],
                first: Sequence(u64::from(*first)),
                last: Sequence(u64::from(*first) + 5),
                messages: u64::from(*messages),
                bytes: 9,
                time: Timestamp(*time),
            }));
            book.is_unsaved = true;
            let mut store = MemoryStore::default();
            book.save(&mut store, "S").expect("writes");
            let row = store.record(&key("S")).expect("reads").expect("is there");
            let read = decode(&row).expect("decodes");
            assert_eq!((read.ledger, read.open), (book.ledger, book.open));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut row = vec![1];
            row.extend(bytes);
            let _ = decode(&row).is_ok();
        }
    }
}
