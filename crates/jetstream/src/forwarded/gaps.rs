//! Gap records on their way: from the ledgers of forwarded streams into the gap stream, and the ledgers to the disk.
//!
//! What a removal takes undelivered is in the stream's ledger in the same commit (`ledger.rs`). While there is no link the records stay open there, so
//! that an outage of weeks leaves one and not thousands. With a link they become messages of the gap stream: at once when it comes up, then at most once
//! a second; the message and the ledger without the record are one commit.
//!
//! The gap stream is an ordinary stream: it is forwarded, can be read, has limits. Without one ([`JetStream::keep_gaps`]) no ledgers are kept.

use subject::Filter;

use crate::command::{Event, Forwarded, Outcome};
use crate::config::StreamConfig;
use crate::forwarded::ledger::{self, Book, Gap};
use crate::identity::{AgeMillis, StreamId};
use crate::jetstream::{Context, JetStream, Timer};
use crate::store::{Store, StoreError};
use crate::stream::duplicates;
use crate::stream::{Ids, Incoming, Stream, Verdict};

/// What the subjects of gap records begin with; the stream's name follows.
pub const GAP_PREFIX: &str = "$TRIBUTARY.GAPS.";
/// Records of one stream are written that far apart, milliseconds.
const PAUSE_MILLIS: u64 = 1_000;

/// A gap stream: the oldest records go when it is full.
#[must_use]
pub fn gap_stream(name: &str, max_bytes: u64) -> StreamConfig {
    StreamConfig {
        description: "what was lost before it was forwarded".into(),
        subjects: Filter::parse(&format!("{GAP_PREFIX}*")).into_iter().collect(),
        max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
        ..StreamConfig::named(name)
    }
}

impl JetStream {
    /// From now on ledgers of forwarded streams are kept, and gap records written to this stream, if there is one; it is made when the first is written.
    /// What was kept of streams that are not `is_forwarded` any more is forgotten.
    ///
    /// # Errors
    /// When the store fails; see the module `jetstream`.
    pub fn keep_gaps(
        &mut self,
        store: &mut dyn Store,
        config: Option<StreamConfig>,
        is_forwarded: &dyn Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        self.gaps = config.map(Box::new);
        ledger::forget(store, is_forwarded)
    }

    /// The owner of a forward says how far it is.
    pub(crate) fn forwarded(&mut self, turn: &mut Context<'_>, told: &Forwarded) -> Result<Outcome, StoreError> {
        let Some(stream) = self.streams.get_mut(&told.stream) else { return Ok(Outcome::Done) };
        stream.forwarded = *told;
        self.debts_confirmed(told.stream);
        let Some(stream) = self.streams.get_mut(&told.stream) else { return Ok(Outcome::Done) };
        if self.gaps.as_ref().is_none_or(|gaps| gaps.name == stream.config.name) {
            return Ok(Outcome::Done);
        }
        let mut book = match stream.book.take() {
            Some(book) => book,
            None => Box::new(Book::open(turn.store, told.stream, &stream.config.name, told.confirmed, turn.now)?),
        };
        if let Some((sequence, bytes)) = told.rejected {
            book.reject(sequence, bytes, turn.now);
        }
        book.confirm(turn.store, told.confirmed)?;
        if told.is_linked && !book.is_linked {
            (book.is_tried, book.next_write) = (false, AgeMillis(0));
        }
        book.is_linked = told.is_linked;
        stream.book = Some(book);
        self.list_book(told.stream);
        Ok(Outcome::Done)
    }

    /// The stream's ledger changed, or is to be looked at, in this turn.
    pub(crate) fn list_book(&mut self, id: StreamId) {
        let Some(book) = self.streams.get_mut(&id).and_then(|stream| stream.book.as_mut()) else { return };
        if !std::mem::replace(&mut book.is_listed, true) {
            self.books.push(id);
        }
    }

    /// Takes what is in `removed` into the stream's ledger, if it has one.
    pub(crate) fn account_lost(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<(), StoreError> {
        let Some(book) = self.streams.get_mut(&id).and_then(|stream| stream.book.as_mut()) else { return Ok(()) };
        let removed = self.removed.iter().map(|removal| (&removal.evicted, removal.cause));
        if book.removed(turn.store, removed, turn.now)? {
            self.list_book(id);
        }
        Ok(())
    }

    /// At the end of a turn: records that are due are written, and the owners of forwards told what is counted.
    pub(crate) fn keep_books(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        for id in std::mem::take(&mut self.books) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let Some(mut book) = stream.book.take() else { continue };
            book.is_listed = false;
            if book.is_linked && turn.now.age >= book.next_write && !book.open.is_empty() {
                let (name, gaps) = (stream.config.name.clone(), std::mem::take(&mut book.open));
                self.sync = true;
                book.open = self.write_gaps(turn, &name, gaps)?;
                book.next_write = AgeMillis(turn.now.age.0 + PAUSE_MILLIS);
                (book.is_unsaved, book.is_tried) = (true, true);
            }
            book.is_tried |= book.open.is_empty();
            if book.is_linked && !book.open.is_empty() {
                self.timers.insert((book.next_write, Timer::Gaps(id)));
            }
            if book.is_unsaved {
                self.lazy_since.get_or_insert(turn.now.age);
                self.unsaved_books.push(id);
            }
            let told = Event::Ledger {
                stream: id,
                ledger: book.ledger,
                last: turn.store.state(id).last,
                is_written: book.is_linked && book.is_tried,
            };
            turn.events.push(told);
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.book = Some(book);
            }
        }
        Ok(())
    }

    /// Writes the ledgers that changed into the transaction that is about to be committed.
    pub(crate) fn save_books(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        for id in std::mem::take(&mut self.unsaved_books) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.save_book(store)?;
        }
        Ok(())
    }

    /// The stream is about to be deleted: what it holds is lost. Its counters stay, for one that is made under its name.
    pub(crate) fn close_book(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let Some(mut book) = stream.book.take() else { return Ok(()) };
        let name = stream.config.name.clone();
        book.close(turn.store, turn.now);
        let gaps = std::mem::take(&mut book.open);
        book.open = self.write_gaps(turn, &name, gaps)?;
        book.is_unsaved = true;
        book.save(turn.store, &name)?;
        let last = turn.store.state(id).last;
        turn.events.push(Event::Ledger { stream: id, ledger: book.ledger, last, is_written: true });
        Ok(())
    }

    /// Stores records; gives those back that found no room.
    fn write_gaps(&mut self, turn: &mut Context<'_>, name: &str, gaps: Vec<Gap>) -> Result<Vec<Gap>, StoreError> {
        if gaps.is_empty() {
            return Ok(gaps);
        }
        let Some(id) = self.gap_stream(turn)? else { return Ok(gaps) };
        let subject = format!("{GAP_PREFIX}{name}");
        let mut left = Vec::new();
        for gap in gaps {
            let payload = gap.json(name);
            let message =
                Incoming { subject: subject.as_bytes(), headers: b"", payload: payload.as_bytes(), taken: None };
            if !self.store_record(turn, id, &message)? {
                left.push(gap);
            }
        }
        if !self.removed.is_empty() {
            self.account_removed(turn, id)?;
        }
        self.settle(turn, id)?;
        turn.events.push(Event::Stored { stream: id, last: turn.store.state(id).last });
        Ok(left)
    }

    fn store_record(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        message: &Incoming<'_>,
    ) -> Result<bool, StoreError> {
        let ids = Ids { key: self.key, most: duplicates::share(self.streams.len()) };
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(false) };
        let verdict = stream.append(turn.store, turn.now, message, &ids, &mut self.removed)?;
        if !matches!(verdict, Verdict::Stored(_)) {
            return Ok(false);
        }
        let size = message.size(id);
        self.stored_bytes += size;
        stream.counted_bytes += size;
        Ok(true)
    }

    /// The gap stream; it is made when there is none.
    fn gap_stream(&mut self, turn: &mut Context<'_>) -> Result<Option<StreamId>, StoreError> {
        let Some(config) = self.gaps.clone() else { return Ok(None) };
        if !self.stream_names.contains_key(&config.name) {
            // Refused when its subjects are taken: the records stay open.
            let _ = self.create_stream(turn, &config)?;
        }
        Ok(self.stream_names.get(&config.name).copied())
    }
}

impl Stream {
    /// Writes its ledger, if that changed since it was written.
    pub(crate) fn save_book(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        match &mut self.book {
            Some(book) => book.save(store, &self.config.name),
            None => Ok(()),
        }
    }
}
