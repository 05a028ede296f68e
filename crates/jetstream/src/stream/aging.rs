//! Streams whose messages age one by one: because some never end (`Nats-TTL: never`), or because the last message of a subject leaves a marker when it
//! ends (`subject_delete_marker_ttl`, ADR-43). Elsewhere the age limit takes the front of a stream without reading it.
//!
//! Messages stand in the order of their age. A cursor in memory stands behind those that have outlived the age limit and stay; it begins at the front again
//! after a restart. A step looks at a bounded number of messages, so others are not kept waiting.

use crate::consumer::consuming::duration;
use crate::forwarded::ledger::Cause;
use crate::header_block;
use crate::identity::{AgeMillis, Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::store::{Evicted, MessageBuffer, StoreError, StoredMessage, message_size_in, undamaged};
use crate::stream::message_ttl::{self, TimeToLive};
use crate::stream::{Among, Incoming, Removal, Stream, Verdict};

/// Messages looked at in a step.
const LOOKED_AT: usize = 256;
/// A marker is stored and rolls up its subject: as much as to look at so many messages.
const MARKED: usize = 8;
const NANOS: u64 = 1_000_000_000;

/// How far a stream has aged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Aging {
    /// Some messages never end.
    pub(crate) never: bool,
    /// What lies below and is still there never ends.
    cursor: Sequence,
    /// When the message at the cursor ends; `None`: not known, or there is none.
    pub(crate) next: Option<AgeMillis>,
}

impl Stream {
    /// Its messages have to be looked at when they end.
    pub(crate) fn ages_singly(&self) -> bool {
        self.aging.never || self.leaves_markers()
    }

    pub(crate) fn leaves_markers(&self) -> bool {
        self.config.subject_delete_marker_ttl_ns > 0
    }
}

impl JetStream {
    /// What time does to a stream message by message; `true` when more waits for the next turn. The stream is to be settled afterwards.
    pub(crate) fn act_in_time(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<bool, StoreError> {
        let Some(stream) = self.streams.get(&id).filter(|stream| !stream.config.sealed) else { return Ok(false) };
        let (ages, schedules) = (stream.ages_singly(), stream.config.allow_schedules);
        let mut more = false;
        if ages {
            more |= self.end_singly(turn, id)?;
            more |= self.age_singly(turn, id)?;
        }
        if schedules {
            more |= self.fire_schedules(turn, id)?;
        }
        Ok(more)
    }

    /// Ends messages with a time to live of their own, in streams with markers.
    fn end_singly(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<bool, StoreError> {
        let Some(stream) = self.streams.get(&id).filter(|stream| stream.leaves_markers()) else { return Ok(false) };
        if stream.next_end.is_none_or(|next| next > turn.now.age) {
            return Ok(false);
        }
        let mut buffer = MessageBuffer::default();
        let mut looked_at = 0;
        for (ends, sequence) in message_ttl::first(turn.store, id, LOOKED_AT)? {
            if ends > turn.now.age || looked_at >= LOOKED_AT {
                break;
            }
            buffer.clear();
            let is_whole = undamaged(turn.store, id, sequence, &mut buffer)?;
            looked_at += match buffer.get(0).filter(|_| is_whole) {
                Some(message) => self.expire(turn, id, &message)?,
                // Gone already, or nobody knows what it was.
                None => {
                    turn.store.remove(id, sequence, false)?;
                    1
                }
            };
            turn.store.delete_record(&message_ttl::key(id, ends, sequence))?;
        }
        let next = message_ttl::first(turn.store, id, 1)?.first().map(|(ends, _)| *ends);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.next_end = next;
        }
        Ok(next.is_some_and(|next| next <= turn.now.age))
    }

    /// Ends messages by the stream's age limit.
    fn age_singly(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<bool, StoreError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(false) };
        let Some(max_age) = stream.max_age() else { return Ok(false) };
        let mut aging = stream.aging;
        if aging.next.is_some_and(|next| next > turn.now.age) {
            return Ok(false);
        }
        let mut found = Vec::new();
        turn.store.sequences(id, aging.cursor, LOOKED_AT, &mut found)?;
        let mut buffer = MessageBuffer::default();
        aging.next = None;
        let mut looked_at = 0;
        for sequence in &found {
            if looked_at >= LOOKED_AT {
                break;
            }
            buffer.clear();
            let is_whole = undamaged(turn.store, id, *sequence, &mut buffer)?;
            looked_at += match buffer.get(0).filter(|_| is_whole) {
                Some(message) if message.age.0 + max_age > turn.now.age.0 => {
                    aging.next = Some(AgeMillis(message.age.0 + max_age));
                    break;
                }
                Some(message) if never_ends(message.headers) => 1,
                Some(message) => self.expire(turn, id, &message)?,
                // Nobody knows what it was.
                None => {
                    turn.store.remove(id, *sequence, false)?;
                    1
                }
            };
            aging.cursor = sequence.next();
        }
        let more = aging.next.is_none() && looked_at >= LOOKED_AT;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.aging = aging;
        }
        Ok(more)
    }

    /// A message's time is over: it goes, and leaves a marker if it was its subject's last and there is room for it. Answers what that was worth.
    fn expire(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        message: &StoredMessage<'_>,
    ) -> Result<usize, StoreError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(1) };
        let is_last = turn.store.subject_state(id, message.subject).is_some_and(|state| state.messages == 1);
        let has_marker = stream.leaves_markers() && is_last && !is_marker(message.headers);
        let block = marker(stream.config.subject_delete_marker_ttl_ns);
        let marker = Incoming { subject: message.subject, headers: &block, payload: b"", taken: None };
        let before = self.removed.len();
        let refused = if has_marker {
            match self.append_own(turn, id, &marker)? {
                Verdict::Refused(_) => true,
                _ => {
                    // What it has rolled up was over.
                    self.removed.iter_mut().skip(before).for_each(|removal| removal.cause = Cause::Age);
                    return Ok(MARKED);
                }
            }
        } else {
            false
        };
        if turn.store.remove(id, message.sequence, false)? {
            let bytes = message_size_in(id, message.subject.len(), message.headers.len(), message.payload.len());
            let evicted = Evicted { messages: 1, bytes, first: message.sequence, last: message.sequence };
            let among = Among::Subject(message.subject.into());
            self.removed.push(Removal { evicted, among, cause: Cause::Age });
        }
        if refused {
            // The place of its message may be what it needs.
            self.append_own(turn, id, &marker)?;
            return Ok(MARKED);
        }
        Ok(1)
    }
}

/// It tells of a message that is gone: nothing is left when it goes too.
fn is_marker(headers: &[u8]) -> bool {
    !headers.is_empty()
        && (header_block::value(headers, "Nats-Marker-Reason").is_some_and(|reason| !reason.is_empty())
            || header_block::value(headers, "KV-Operation") == Some(b"PURGE"))
}

fn never_ends(headers: &[u8]) -> bool {
    let value = if headers.is_empty() { None } else { header_block::value(headers, "Nats-TTL") };
    value.is_some_and(|value| TimeToLive::parse(value) == Ok(TimeToLive::Never))
}

/// The headers of a marker; it lives whole seconds.
fn marker(lives_ns: u64) -> Vec<u8> {
    let lives = duration(lives_ns / NANOS * NANOS);
    format!("NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: {lives}\r\nNats-Rollup: sub\r\n\r\n").into_bytes()
}
