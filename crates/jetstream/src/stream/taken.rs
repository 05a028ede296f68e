//! A message that a stream takes from an origin: what it has to pass to be stored.
//!
//! Its publisher's expectations were judged at the origin, they are not judged again. A mirror keeps sequence, time and gaps, and remembers no ids: what
//! its origin holds it holds.

use super::{Ids, Incoming, Judged, Removal, Stream, Verdict};
use crate::api_error::{self, ApiError};
use crate::identity::Now;
use crate::origin::{Taken, age_at};
use crate::store::{Store, StoreError, StreamState};
use crate::stream::publish_header::PublishHeaders;

impl Stream {
    /// Judges and stores a message of an origin.
    pub(super) fn append_taken(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        (message, taken): (&Incoming<'_>, &Taken),
        ids: &Ids,
        removed: &mut Vec<Removal>,
    ) -> Result<Verdict, StoreError> {
        let (state, is_mirror) = (store.state(self.id), self.config.mirror.is_some());
        if let Some(refusal) = self.not_next(taken, &state).or_else(|| self.size_refusal(message)) {
            return Ok(Verdict::Refused(refusal));
        }
        let headers = PublishHeaders::scan(message.headers);
        let window = self.config.duplicate_window_ns > 0 && !is_mirror;
        let id_hash = headers.message_id.filter(|_| window).map(|id| ids.key.hash(id));
        if let Some(known) = id_hash.and_then(|hash| self.duplicates.find(hash, self.window_start(now))) {
            self.places.advance(taken);
            return Ok(Verdict::Duplicate(known));
        }
        let total = if self.config.allow_counter { Some(self.take_total(store, message)?) } else { None };
        let message = &match &total {
            Some(Ok(total)) => total.as_incoming(message),
            Some(Err(refusal)) => {
                // Nothing will make room for one more origin in the header: what follows must not wait for it. Each message brings the whole total.
                if *refusal == api_error::STREAM_HEADER_EXCEEDS_MAXIMUM {
                    self.places.advance(taken);
                }
                return Ok(Verdict::Refused(refusal.clone()));
            }
            None => *message,
        };
        let headers = PublishHeaders {
            rollup: headers.rollup.filter(|word| is_rollup(word)),
            time_to_live: headers.time_to_live.filter(|_| self.config.allow_message_ttl),
            is_scheduling: headers.is_scheduling && self.config.allow_schedules,
            ..headers
        };
        let judged = Judged { headers: &headers, id_hash, most_ids: ids.most, state, clock: now };
        let verdict = self.keep_taken(store, now, (message, taken), &judged, removed)?;
        if !matches!(verdict, Verdict::Refused(_)) {
            self.places.advance(taken);
        }
        Ok(verdict)
    }

    fn keep_taken(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        (message, taken): (&Incoming<'_>, &Taken),
        judged: &Judged<'_>,
        removed: &mut Vec<Removal>,
    ) -> Result<Verdict, StoreError> {
        let state = &judged.state;
        let sequence = if self.config.mirror.is_some() { taken.sequence } else { state.last.next() };
        let at = self.time_of(taken, now, state);
        if self.has_no_interest(message.subject) {
            store.skip_to(self.id, sequence, at)?;
            self.remember(judged.id_hash, judged.headers, sequence, now.age, judged.most_ids);
            return Ok(Verdict::Passed(sequence));
        }
        let on_subject = self.limited_subject(store, message.subject);
        if let Some(refusal) = self.limit_refusal(store, message, judged.headers, state, on_subject)? {
            return Ok(Verdict::Refused(refusal));
        }
        self.put_at(store, (sequence, at), message, judged, on_subject, removed)
    }

    /// Anything but the message that follows the last one taken is refused: something was lost between, or it is here already.
    fn not_next(&self, taken: &Taken, state: &StreamState) -> Option<ApiError> {
        if self.config.sealed {
            return Some(api_error::STREAM_SEALED);
        }
        let Some(place) = self.places.last(taken.origin) else { return Some(api_error::STREAM_NOT_FOUND) };
        let last = if self.config.mirror.is_some() { state.last } else { place };
        let is_next = taken.previous == last && taken.sequence > last;
        (!is_next).then(|| api_error::stream_wrong_last_sequence(last.0))
    }

    /// When it was stored: for a mirror, at its origin.
    fn time_of(&self, taken: &Taken, now: Now, state: &StreamState) -> Now {
        if self.config.mirror.is_none() || taken.time.0 <= 0 {
            return Now { wall: now.wall.max(state.last_time), age: now.age };
        }
        Now { wall: taken.time.max(state.last_time), age: age_at(now, taken.time) }
    }
}

fn is_rollup(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"sub") || word.eq_ignore_ascii_case(b"all")
}
