//! The stretch of the local stream that was read and not yet sent: at most two slices.

use std::collections::VecDeque;

use jetstream::identity::Sequence;
use jetstream::store::{MessageBuffer, StoredMessage};

/// A slice and how far it is sent.
#[derive(Debug)]
struct Slice {
    messages: Box<MessageBuffer>,
    at: usize,
}

/// What was read ahead.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    slices: VecDeque<Slice>,
    /// Where the next read begins.
    next: u64,
    /// A read that was asked for and not answered.
    reading: Option<u64>,
    /// The stream's last sequence when a read brought nothing: not asked again before it moves.
    dry_at: Option<u64>,
}

impl Backlog {
    /// Forgets all and goes on at `sequence`.
    pub(crate) fn seek(&mut self, sequence: u64) {
        *self = Backlog { next: sequence, ..Backlog::default() };
    }

    /// The next message to send.
    pub(crate) fn peek(&self) -> Option<StoredMessage<'_>> {
        self.slices.front().and_then(|slice| slice.messages.get(slice.at))
    }

    /// The `ahead`-th message after the next one, as far as the same slice reaches.
    pub(crate) fn peek_ahead(&self, ahead: usize) -> Option<StoredMessage<'_>> {
        self.slices.front().and_then(|slice| slice.messages.get(slice.at + ahead))
    }

    /// Is there another one behind the next?
    pub(crate) fn has_more_than_one(&self) -> bool {
        self.peek_ahead(1).is_some() || self.slices.get(1).is_some_and(|slice| !slice.messages.is_empty())
    }

    /// The next message is sent (and, one at a time, confirmed).
    pub(crate) fn advance(&mut self) {
        if let Some(slice) = self.slices.front_mut() {
            slice.at += 1;
            if slice.at >= slice.messages.len() {
                self.slices.pop_front();
            }
        }
    }

    /// Where to read from now, if there is reason to: room for a slice, and something there.
    pub(crate) fn wanted_read(&mut self, last: u64) -> Option<u64> {
        let is_worth_it = self.next <= last && self.dry_at != Some(last);
        if self.reading.is_some() || self.slices.len() >= 2 || !is_worth_it {
            return None;
        }
        self.reading = Some(self.next);
        Some(self.next)
    }

    /// A slice was brought, from `from` on; what nobody waits for is dropped.
    pub(crate) fn accept(&mut self, from: Sequence, messages: Box<MessageBuffer>, next: Sequence, last: u64) {
        if self.reading != Some(from.0) {
            return;
        }
        self.reading = None;
        self.dry_at = (messages.is_empty() && next <= from).then_some(last);
        self.next = self.next.max(next.0);
        if !messages.is_empty() {
            self.slices.push_back(Slice { messages, at: 0 });
        }
    }

    /// Everything up to the stream's `last` was taken: nothing read, nothing to read.
    pub(crate) fn is_dry(&self, last: u64) -> bool {
        self.slices.is_empty() && (self.next > last || self.dry_at == Some(last))
    }
}
