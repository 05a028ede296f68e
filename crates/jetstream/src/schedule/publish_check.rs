//! What speaks against a publish that begins or ends a schedule: the rules, their order and the texts are nats-server's.

use subject::Filter;

use crate::api_error::{self, ApiError};
use crate::header_block;
use crate::schedule::scheduling::Wanted;
use crate::store::{MessageBuffer, Store, StoreError, undamaged};
use crate::stream::message_ttl::TimeToLive;
use crate::stream::publish_header::PublishHeaders;
use crate::stream::{Incoming, SoFar, Stream};

impl Stream {
    /// What speaks against the scheduling headers of a publish, in stock's order. `so_far`: what stands before it in its batch.
    pub(crate) fn schedule_refusal(
        &self,
        store: &mut dyn Store,
        message: &Incoming<'_>,
        headers: &PublishHeaders<'_>,
        so_far: &SoFar,
    ) -> Result<Option<ApiError>, StoreError> {
        if headers.is_scheduling {
            let wanted = Wanted { block: message.headers };
            let refusal = match wanted.schedule() {
                Err(_) if !self.config.allow_schedules => Some(api_error::MESSAGE_SCHEDULES_DISABLED),
                Err(refusal) => Some(refusal),
                Ok(None) => None,
                Ok(Some(_)) if !self.config.allow_schedules => Some(api_error::MESSAGE_SCHEDULES_DISABLED),
                Ok(Some(_)) => self.new_schedule_refusal(&wanted, message.subject, headers),
            };
            if refusal.is_some() {
                return Ok(refusal);
            }
            let refusal = match headers.schedule_next {
                None => headers.scheduler.map(|_| api_error::MESSAGE_SCHEDULES_SCHEDULER_INVALID),
                Some(b"purge") => self.end_refusal(store, message.subject, headers, so_far)?,
                Some(_) => Some(api_error::MESSAGE_SCHEDULES_SCHEDULER_INVALID),
            };
            if refusal.is_some() {
                return Ok(refusal);
            }
        }
        Ok(headers.source.map(|_| api_error::MESSAGE_SOURCE_HDR_NOT_ALLOWED))
    }

    fn new_schedule_refusal(
        &self,
        wanted: &Wanted<'_>,
        subject: &[u8],
        headers: &PublishHeaders<'_>,
    ) -> Option<ApiError> {
        let lives = wanted.value("Nats-Schedule-TTL");
        if lives.is_some_and(|value| TimeToLive::parse(value).is_err()) {
            return Some(api_error::MESSAGE_SCHEDULES_TTL_INVALID);
        }
        if wanted.value("Nats-Schedule-Rollup").is_some_and(|value| value != b"sub") {
            return Some(api_error::MESSAGE_SCHEDULES_ROLLUP_INVALID);
        }
        if lives.is_some() && !self.config.allow_message_ttl {
            return Some(api_error::MESSAGE_TTL_DISABLED);
        }
        let captured = |subject: &[u8]| self.config.subjects.iter().any(|filter| filter.matches(subject));
        let (target, source) = (wanted.target().unwrap_or_default(), wanted.source());
        if !is_literal(target) || target == subject {
            return Some(api_error::MESSAGE_SCHEDULES_TARGET_INVALID);
        }
        if source.is_some_and(|source| source == target || source == subject || !is_literal(source)) {
            return Some(api_error::MESSAGE_SCHEDULES_SOURCE_INVALID);
        }
        if !captured(target) {
            return Some(api_error::MESSAGE_SCHEDULES_TARGET_INVALID);
        }
        if source.is_some_and(|source| !captured(source)) {
            return Some(api_error::MESSAGE_SCHEDULES_SOURCE_INVALID);
        }
        let rollup = headers.rollup.filter(|rollup| !rollup.eq_ignore_ascii_case(b"sub"));
        rollup.map(|_| api_error::MESSAGE_SCHEDULES_ROLLUP_INVALID)
    }

    /// A publish that ends the schedule on the subject it names.
    fn end_refusal(
        &self,
        store: &mut dyn Store,
        subject: &[u8],
        headers: &PublishHeaders<'_>,
        so_far: &SoFar,
    ) -> Result<Option<ApiError>, StoreError> {
        let scheduler = headers.scheduler.unwrap_or_default();
        if scheduler == subject || !is_literal(scheduler) {
            return Ok(Some(api_error::MESSAGE_SCHEDULES_SCHEDULER_INVALID));
        }
        if !self.config.allow_schedules {
            return Ok(Some(api_error::MESSAGE_SCHEDULES_DISABLED));
        }
        if let Some(schedules) = so_far.schedules(scheduler) {
            return Ok((!schedules).then_some(api_error::MESSAGE_SCHEDULES_SCHEDULER_INVALID));
        }
        let mut buffer = MessageBuffer::default();
        if let Some(state) = store.subject_state(self.id, scheduler) {
            undamaged(store, self.id, state.last, &mut buffer)?;
        }
        let is_none = |headers: &[u8]| header_block::value(headers, "Nats-Schedule").is_none_or(<[u8]>::is_empty);
        let other = buffer.get(0).is_some_and(|message| is_none(message.headers));
        Ok(other.then_some(api_error::MESSAGE_SCHEDULES_SCHEDULER_INVALID))
    }
}

fn is_literal(subject: &[u8]) -> bool {
    Filter::from_bytes(subject).is_ok_and(|filter| filter.is_literal())
}
