//! Publishes that are not stored as they came: increments become totals ([`crate::stream::counters`]), a schedule takes the place of the one on its subject, and
//! a message lives at least as long as the marker that its end leaves.
//!
//! Only streams that ask for one of those come here.

use crate::api_error::{self, ApiError};
use crate::header_block;
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::store::{MessageBuffer, Store, StoreError, StoredMessage, undamaged};
use crate::stream::counters;
use crate::stream::mapping::Before;
use crate::stream::message_ttl::TimeToLive;
use crate::stream::publish_header::PublishHeaders;
use crate::stream::{Incoming, Judged, Removal, Stream, Verdict};

/// What is left in place of what ended says why.
fn is_marker(block: &[u8]) -> bool {
    header_block::value(block, "Nats-Marker-Reason").is_some()
}

const NANOS: u64 = 1_000_000_000;

/// A message as it is stored.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) headers: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// The counter's total, for the acknowledgement.
    pub(crate) total: Option<Box<str>>,
}

impl Rewritten {
    /// What is stored of a publish.
    pub(crate) fn as_incoming<'a>(&'a self, message: &Incoming<'a>) -> Incoming<'a> {
        Incoming { headers: &self.headers, payload: &self.payload, ..*message }
    }
}

impl JetStream {
    /// A message was stored as it came, or as the stream has changed it: that is what is published again.
    pub(crate) fn republish_stored(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        message: &Incoming<'_>,
        sequence: Sequence,
        before: Before,
    ) -> Result<(), StoreError> {
        let mut buffer = MessageBuffer::default();
        if self.streams.get(&id).is_some_and(Stream::rewrites) {
            undamaged(turn.store, id, sequence, &mut buffer)?;
        }
        let stored =
            buffer.get(0).map(|stored| Incoming { headers: stored.headers, payload: stored.payload, ..*message });
        self.republish(turn, id, stored.as_ref().unwrap_or(message), sequence, before);
        Ok(())
    }
}

impl Stream {
    /// Some of what is published may not be stored as it came.
    pub(crate) fn rewrites(&self) -> bool {
        let config = &self.config;
        config.allow_counter || config.allow_schedules || config.subject_delete_marker_ttl_ns > 0
    }

    /// The last part of [`Stream::append`] where [`Stream::rewrites`].
    pub(crate) fn append_rewritten(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        message: &Incoming<'_>,
        judged: &Judged<'_>,
        removed: &mut Vec<Removal>,
    ) -> Result<Verdict, StoreError> {
        let rewritten = match self.rewrite(store, message, judged.headers)? {
            Ok(Some(rewritten)) => rewritten,
            Ok(None) => return self.keep(store, now, message, judged, removed),
            Err(refusal) => return Ok(Verdict::Refused(refusal)),
        };
        let headers = PublishHeaders::scan(&rewritten.headers);
        let judged = Judged { headers: &headers, ..*judged };
        let verdict = self.keep(store, now, &rewritten.as_incoming(message), &judged, removed)?;
        Ok(match (verdict, rewritten.total) {
            (Verdict::Stored(sequence), Some(total)) => Verdict::Counted(sequence, total),
            (verdict, _) => verdict,
        })
    }

    /// What is stored of a publish; `None`: the publish as it is.
    pub(crate) fn rewrite(
        &self,
        store: &mut dyn Store,
        message: &Incoming<'_>,
        headers: &PublishHeaders<'_>,
    ) -> Result<Result<Option<Rewritten>, ApiError>, StoreError> {
        if self.config.allow_counter {
            return Ok(self.count_up(store, message, headers)?.map(Some));
        }
        let mut block = None;
        if headers.schedule.is_some() && headers.rollup.is_none() {
            header_block::add(block.get_or_insert_with(|| message.headers.to_vec()), "Nats-Rollup", b"sub");
        }
        if let Some(seconds) = self.longer_time_to_live(headers) {
            let other = block.as_deref().unwrap_or(message.headers);
            let mut other = header_block::without(other, |key| key == b"Nats-TTL");
            header_block::add(&mut other, "Nats-TTL", seconds.to_string().as_bytes());
            block = Some(other);
        }
        let rewritten = |headers| Rewritten { headers, payload: message.payload.to_vec(), total: None };
        Ok(Ok(block.map(rewritten)))
    }

    /// The same in a batch: `before` is what the batch makes of the message's subject until then, if that is a counter.
    pub(crate) fn rewrite_after(
        &self,
        store: &mut dyn Store,
        message: &Incoming<'_>,
        headers: &PublishHeaders<'_>,
        before: Option<&Rewritten>,
    ) -> Result<Result<Option<Rewritten>, ApiError>, StoreError> {
        let (Some(before), Some(increment)) = (before, headers.increment) else {
            return self.rewrite(store, message, headers);
        };
        let last = StoredMessage {
            sequence: Sequence(0),
            time: Timestamp(0),
            age: AgeMillis(0),
            subject: message.subject,
            headers: &before.headers,
            payload: &before.payload,
        };
        Ok(counters::counted(Some(&last), message.headers, increment).map(Some))
    }

    fn count_up(
        &self,
        store: &mut dyn Store,
        message: &Incoming<'_>,
        headers: &PublishHeaders<'_>,
    ) -> Result<Result<Rewritten, ApiError>, StoreError> {
        let Some(increment) = headers.increment else { return Ok(Err(api_error::MESSAGE_INCR_MISSING)) };
        Ok(match self.last_total(store, message.subject)? {
            Ok(last) => counters::counted(last.get(0).as_ref(), message.headers, increment),
            Err(refusal) => Err(refusal),
        })
    }

    /// What is stored of another counter stream's message, which says where it comes from: `Nats-Stream-Source: STREAM SEQUENCE FILTER TRANSFORM SUBJECT`.
    pub(crate) fn take_total(
        &self,
        store: &mut dyn Store,
        message: &Incoming<'_>,
    ) -> Result<Result<Rewritten, ApiError>, StoreError> {
        let headers = PublishHeaders::scan(message.headers);
        if headers.increment.is_none() {
            return Ok(Err(api_error::MESSAGE_INCR_MISSING));
        }
        let source = String::from_utf8_lossy(headers.source.unwrap_or_default());
        let mut fields = source.split(' ');
        let origin = fields.next().unwrap_or_default();
        let own = String::from_utf8_lossy(message.subject);
        let subject = fields.nth(3).unwrap_or(&own);
        Ok(match self.last_total(store, message.subject)? {
            Ok(last) => counters::merged(last.get(0).as_ref(), (message.headers, message.payload), origin, subject),
            Err(refusal) => Err(refusal),
        })
    }

    /// The newest message of a counter, if it has one.
    fn last_total(&self, store: &mut dyn Store, subject: &[u8]) -> Result<Result<MessageBuffer, ApiError>, StoreError> {
        let mut buffer = MessageBuffer::default();
        if let Some(state) = store.subject_state(self.id, subject)
            && !undamaged(store, self.id, state.last, &mut buffer)?
        {
            // It must not begin at zero again.
            return Ok(Err(api_error::MESSAGE_COUNTER_BROKEN));
        }
        // What ended has left a marker: the counter begins anew.
        if buffer.get(0).is_some_and(|last| last.payload.is_empty() && is_marker(last.headers)) {
            return Ok(Ok(MessageBuffer::default()));
        }
        Ok(Ok(buffer))
    }

    /// A message that ends before the marker on its subject would leave none. Where a subject holds one message only, there is no marker beside it.
    fn longer_time_to_live(&self, headers: &PublishHeaders<'_>) -> Option<u64> {
        let least = self.config.subject_delete_marker_ttl_ns / NANOS;
        match TimeToLive::parse(headers.time_to_live?) {
            Ok(TimeToLive::Millis(millis)) if millis / 1000 < least && self.config.max_messages_per_subject != 1 => {
                Some(least)
            }
            _ => None,
        }
    }

    /// What speaks against an increment, or for one where there is none; checked before anything else.
    pub(crate) fn increment_refusal(&self, message: &Incoming<'_>, headers: &PublishHeaders<'_>) -> Option<ApiError> {
        let increment = headers.increment?;
        if crate::number::Number::parse(increment).is_none() {
            return Some(api_error::MESSAGE_INCR_INVALID);
        }
        if !self.config.allow_counter {
            return Some(api_error::MESSAGE_INCR_DISABLED);
        }
        if !message.payload.is_empty() {
            return Some(api_error::MESSAGE_INCR_PAYLOAD);
        }
        let others = [
            headers.rollup,
            headers.expected_stream,
            headers.expected_message_id,
            headers.expected_subject,
            headers.expected_last_sequence,
            headers.expected_subject_sequence,
        ];
        others.iter().any(Option::is_some).then_some(api_error::MESSAGE_INCR_INVALID)
    }
}
