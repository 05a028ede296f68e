//! A publish that a stream captures, or that sessions wait for: limits of the whole store, the stream's verdict, and what follows from it.

use crate::api_error;
use crate::batching::FAST_SUFFIX;
use crate::command::{Append, Outcome};
use crate::config::{Retention, Storage};
use crate::identity::{Now, Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::store::{NewMessage, StoreError};
use crate::stream::duplicates;
use crate::stream::mapping::{Before, draw_of};
use crate::stream::room::room_needed;
use crate::stream::{Ids, Incoming, Verdict};

impl JetStream {
    pub(crate) fn append(&mut self, turn: &mut Context<'_>, append: &Append) -> Result<Outcome, StoreError> {
        let published = turn.message(append);
        self.append_message(turn, append, &published)
    }

    /// The same with a message that need not lie in the batch as it is.
    pub(crate) fn append_message(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        published: &Incoming<'_>,
    ) -> Result<Outcome, StoreError> {
        if append.stream == StreamId::NONE {
            return self.append_to_queues(turn, append, published);
        }
        if append.stream.is_template() {
            return self.append_by_template(turn, append);
        }
        let is_fast = append.reply.of(&turn.batch.arena).ends_with(FAST_SUFFIX);
        if (is_fast || self.batches.are_allowed)
            && let Some(outcome) = self.batched(turn, append)?
        {
            return Ok(outcome);
        }
        let mut subject = std::mem::take(&mut self.subject);
        subject.clear();
        let outcome = match self.rename(append.stream, published.subject, draw_of(turn, append), &mut subject) {
            Ok(false) => self.append_to_stream(turn, append, published),
            Ok(true) => {
                // Sessions asked for the subject that it was published on.
                let here = Append { queues: (0, 0), ..*append };
                match self.append_to_stream(turn, &here, &Incoming { subject: &subject, ..*published })? {
                    stored @ (Outcome::Appended { duplicate: false, .. } | Outcome::Counted { .. }) => {
                        match self.append_to_queues(turn, append, published)? {
                            Outcome::Appended { .. } => Ok(stored),
                            refused => Ok(refused),
                        }
                    }
                    other => Ok(other),
                }
            }
            Err(error) => Ok(Outcome::Refused(error)),
        };
        self.subject = subject;
        outcome
    }

    fn append_to_stream(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        message: &Incoming<'_>,
    ) -> Result<Outcome, StoreError> {
        if self.is_over_limit(turn, append.stream, message)? {
            return Ok(Outcome::Refused(api_error::INSUFFICIENT_RESOURCES));
        }
        self.release_for(turn, append.stream, (1, message.size(append.stream)))?;
        let before = self.before_republish(turn, append.stream, message.subject);
        let ids = Ids { key: self.key, most: duplicates::share(self.streams.len()) };
        let Some(stream) = self.streams.get_mut(&append.stream) else {
            return Ok(Outcome::Refused(api_error::STREAM_NOT_FOUND));
        };
        let mut verdict = stream.append(turn.store, turn.now, message, &ids, &mut self.removed)?;
        if let Verdict::Refused(error) = &verdict
            && *error == api_error::STORAGE_RESOURCES_EXCEEDED
            && self.make_room(turn, room_needed(message))?
            && let Some(stream) = self.streams.get_mut(&append.stream)
        {
            verdict = stream.append(turn.store, turn.now, message, &ids, &mut self.removed)?;
        }
        self.follow(turn, append, message, verdict, before)
    }

    /// What follows from a stream's verdict on a message.
    pub(crate) fn follow(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        message: &Incoming<'_>,
        mut verdict: Verdict,
        before: Option<Before>,
    ) -> Result<Outcome, StoreError> {
        let Some(stream) = self.streams.get_mut(&append.stream) else {
            return Ok(Outcome::Refused(api_error::STREAM_NOT_FOUND));
        };
        if !stream.touched {
            stream.touched = true;
            self.touched.push(append.stream);
        }
        let total = verdict.take_total();
        match verdict {
            // Its total was taken.
            Verdict::Counted(sequence, _) | Verdict::Stored(sequence) => {
                let (size, volatile) = (message.size(append.stream), append.stream.is_volatile());
                // Sessions were promised more than the stream's publishers.
                let waits = !stream.config.persist_async || append.queues.0 != append.queues.1;
                self.sync |= !volatile && waits;
                *(if volatile { &mut self.memory_bytes } else { &mut self.stored_bytes }) += size;
                stream.counted_bytes += size;
                // What leaves by acknowledgement, or with the process, is kept for sessions by itself.
                let is_kept = stream.config.retention == Retention::Limits && !volatile;
                if !waits {
                    self.stored_unsynced(turn.now, size);
                }
                self.set_full(turn, false);
                if let Some(before) = before {
                    self.republish_stored(turn, append.stream, message, sequence, before)?;
                }
                if !self.removed.is_empty() {
                    self.account_removed(turn, append.stream)?;
                }
                if is_kept {
                    self.add_to_queues(turn, append, append.stream, sequence)?;
                } else if let refused @ Outcome::Refused(_) = self.append_to_queues(turn, append, message)? {
                    return Ok(refused);
                }
                Ok(match total {
                    None => Outcome::Appended { sequence, duplicate: false },
                    Some(total) => Outcome::Counted { sequence, total },
                })
            }
            Verdict::Passed(sequence) => {
                // Nothing of it is stored: nobody waits for the disk.
                self.lazy_since.get_or_insert(turn.now.age);
                if !self.removed.is_empty() {
                    self.account_removed(turn, append.stream)?;
                }
                match self.append_to_queues(turn, append, message)? {
                    refused @ Outcome::Refused(_) => Ok(refused),
                    _ => Ok(Outcome::Appended { sequence, duplicate: false }),
                }
            }
            Verdict::Duplicate(sequence) => {
                // The first one may stand in this very turn.
                self.sync |= turn.store.is_dirty() && !stream.config.persist_async;
                Ok(Outcome::Appended { sequence, duplicate: true })
            }
            Verdict::Refused(error) => {
                if error == api_error::STORAGE_RESOURCES_EXCEEDED {
                    self.set_full(turn, true);
                }
                Ok(Outcome::Refused(error))
            }
        }
    }

    /// Would the message exceed what all streams together may hold, also after this one has been brought within its limits, and what is
    /// confirmed elsewhere has gone?
    pub(crate) fn is_over_limit(
        &mut self,
        turn: &mut Context<'_>,
        stream: StreamId,
        message: &Incoming<'_>,
    ) -> Result<bool, StoreError> {
        if self.max_store(stream).is_none()
            || self.streams.get(&stream).is_some_and(|stream| stream.has_no_interest(message.subject))
        {
            return Ok(false);
        }
        self.exceeds(turn, stream, message.size(stream))
    }

    /// The same for so many bytes.
    pub(crate) fn exceeds(&mut self, turn: &mut Context<'_>, stream: StreamId, size: u64) -> Result<bool, StoreError> {
        let Some(max) = self.max_store(stream) else { return Ok(false) };
        if self.total(stream) + size > max {
            self.settle(turn, stream)?;
        }
        let excess = (self.total(stream) + size).saturating_sub(max);
        if excess > 0 && size <= max && !stream.is_volatile() {
            self.make_room(turn, excess)?;
        }
        Ok(self.total(stream) + size > max)
    }

    /// Most bytes of all streams that are kept where this one is.
    fn max_store(&self, stream: StreamId) -> Option<u64> {
        self.most_bytes(if stream.is_volatile() { Storage::Memory } else { Storage::File })
    }

    /// Bytes of all streams that are kept where this one is.
    fn total(&self, stream: StreamId) -> u64 {
        if stream.is_volatile() { self.memory_bytes } else { self.stored_bytes }
    }

    /// A message that no stream captures: stored once for all sessions that are to get it.
    pub(crate) fn append_to_queues(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        message: &Incoming<'_>,
    ) -> Result<Outcome, StoreError> {
        let nowhere = Outcome::Appended { sequence: Sequence(0), duplicate: false };
        if append.queues.0 == append.queues.1 {
            return Ok(nowhere);
        }
        let state = turn.store.state(StreamId::QUEUED);
        let new = NewMessage {
            sequence: state.last.next(),
            now: Now { wall: turn.now.wall.max(state.last_time), age: turn.now.age },
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            message_id: None,
        };
        match turn.store.append(StreamId::QUEUED, &new) {
            Ok(()) => {}
            Err(StoreError::Full) => {
                self.set_full(turn, true);
                return Ok(Outcome::Refused(api_error::STORAGE_RESOURCES_EXCEEDED));
            }
            Err(error) => return Err(error),
        }
        self.sync = true;
        self.set_full(turn, false);
        self.add_to_queues(turn, append, StreamId::QUEUED, new.sequence)?;
        Ok(nowhere)
    }

    fn add_to_queues(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        stream: StreamId,
        sequence: Sequence,
    ) -> Result<(), StoreError> {
        let targets = turn.batch.queues.get(append.queues.0 as usize..append.queues.1 as usize).unwrap_or_default();
        if targets.is_empty() {
            return Ok(());
        }
        let size = u64::from(append.subject.len + append.headers.len + append.payload.len);
        let limits = (self.limits.max_queued_messages, self.limits.max_queued_bytes);
        self.queues.add(turn.store, targets, stream, sequence, size, limits)
    }
}
