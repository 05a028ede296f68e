//! What a message of a batch has to pass, in nats-server's order: there batches are judged by the rules of clusters, which differ from those of single
//! messages. Nothing is stored here before all of it was judged.

use std::collections::{BTreeMap, BTreeSet};

use super::{Incoming, Judged, Removal, Stream, Verdict, limit};
use crate::api_error::{self, ApiError};
use crate::config::Discard;
use crate::identity::{Now, Sequence, StreamId};
use crate::store::{Store, StoreError, StreamState};
use crate::stream::message_id::IdKey;
use crate::stream::publish_header::{PublishHeaders, sequence};
use crate::stream::rewriting::Rewritten;

/// What the messages of an atomic batch that were judged already will change.
#[derive(Debug, Default)]
pub(crate) struct SoFar {
    messages: u64,
    bytes: u64,
    /// How many on each subject, and is the last of them a schedule?
    subjects: BTreeMap<Box<[u8]>, (u64, bool)>,
    ids: BTreeSet<u128>,
    fits: Vec<Fit>,
    /// Which of them has a counter's newest total.
    totals: BTreeMap<Box<[u8]>, usize>,
}

/// A message of a batch that was found right.
#[derive(Debug, Default)]
pub(crate) struct Fit {
    /// Hash of its id, if that is to be remembered.
    id_hash: Option<u128>,
    /// What is stored instead of it.
    rewritten: Option<Rewritten>,
}

impl Fit {
    /// The message as it is stored.
    fn stored<'a>(&'a self, message: &Incoming<'a>) -> Incoming<'a> {
        self.rewritten.as_ref().map_or(*message, |rewritten| rewritten.as_incoming(message))
    }
}

impl SoFar {
    pub(crate) fn note(&mut self, message: &Incoming<'_>, stream: StreamId, fit: Fit) {
        self.messages += 1;
        self.bytes += fit.stored(message).size(stream);
        let headers = PublishHeaders::scan(message.headers);
        let on_subject = self.subjects.entry(message.subject.into()).or_default();
        *on_subject = (on_subject.0 + 1, headers.schedule.is_some());
        self.ids.extend(fit.id_hash);
        if fit.rewritten.as_ref().is_some_and(|rewritten| rewritten.total.is_some()) {
            self.totals.insert(message.subject.into(), self.fits.len());
        }
        self.fits.push(fit);
    }

    /// What was found of each message.
    pub(crate) fn into_fits(self) -> Vec<Fit> {
        self.fits
    }

    fn total_on(&self, subject: &[u8]) -> Option<&Rewritten> {
        self.fits.get(*self.totals.get(subject)?)?.rewritten.as_ref()
    }

    /// Bytes of them all.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn on(&self, subject: &[u8]) -> u64 {
        self.subjects.get(subject).map_or(0, |(count, _)| *count)
    }

    /// Is the last message on that subject a schedule? `None`: there is none in the batch.
    pub(crate) fn schedules(&self, subject: &[u8]) -> Option<bool> {
        self.subjects.get(subject).map(|(_, schedules)| *schedules)
    }
}

/// Why a message of a batch is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// One with its id is there, at this sequence; 0: in the same batch.
    Duplicate(Sequence),
    Refused(ApiError),
    /// Refused when it was to be stored: the batch goes on without it.
    Late(ApiError),
}

impl From<ApiError> for Unfit {
    fn from(error: ApiError) -> Unfit {
        Unfit::Refused(error)
    }
}

/// A refusal beside the store's error.
type Checked<T> = Result<Result<T, Unfit>, StoreError>;

impl Stream {
    /// Would the message be taken, after those before it?
    pub(crate) fn check_batched(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        message: &Incoming<'_>,
        headers: &PublishHeaders<'_>,
        so_far: &SoFar,
        key: IdKey,
    ) -> Checked<Fit> {
        if let Some(refusal) = self.first_refusal(message, headers) {
            return Ok(Err(refusal.into()));
        }
        let window = self.config.duplicate_window_ns > 0;
        let id_hash = headers.message_id.filter(|_| window).map(|id| key.hash(id));
        if let Some(hash) = id_hash {
            if so_far.ids.contains(&hash) {
                return Ok(Err(Unfit::Duplicate(Sequence(0))));
            }
            if let Some(known) = self.duplicates.find(hash, self.window_start(now)) {
                return Ok(Err(Unfit::Duplicate(known)));
            }
        }
        if headers.source.is_some() {
            return Ok(Err(api_error::MESSAGE_SOURCE_HDR_NOT_ALLOWED.into()));
        }
        let mut fit = Fit { id_hash, rewritten: None };
        if self.rewrites() {
            match self.rewrite_after(store, message, headers, so_far.total_on(message.subject))? {
                Ok(rewritten) => fit.rewritten = rewritten,
                Err(refusal) => return Ok(Err(refusal.into())),
            }
        }
        let state = store.state(self.id);
        if let Some(refusal) = self.refused_expectation(store, message.subject, headers, so_far, &state)? {
            return Ok(Err(refusal.into()));
        }
        if headers.is_scheduling
            && let Some(refusal) = self.schedule_refusal(store, message, headers, so_far)?
        {
            return Ok(Err(refusal.into()));
        }
        let stored = fit.stored(message);
        let headers = &PublishHeaders::scan(stored.headers);
        let refusal = self
            .size_refusal(&stored)
            .or_else(|| self.refused_rollup(stored.subject, headers, so_far))
            .or_else(|| self.refused_by_limits(store, &stored, headers, so_far, &state));
        Ok(refusal.map_or(Ok(fit), |refusal| Err(refusal.into())))
    }

    /// Stores a message that was judged.
    pub(crate) fn put_batched(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        message: &Incoming<'_>,
        fit: &Fit,
        most_ids: usize,
        removed: &mut Vec<Removal>,
    ) -> Result<Verdict, StoreError> {
        let message = &fit.stored(message);
        let headers = PublishHeaders::scan(message.headers);
        let state = store.state(self.id);
        let judged = Judged { headers: &headers, id_hash: fit.id_hash, most_ids, state, clock: now };
        if self.has_no_interest(message.subject) {
            return self.pass(store, now, message, &judged, removed);
        }
        let on_subject = self.limited_subject(store, message.subject);
        self.put(store, now, message, &judged, on_subject, removed)
    }

    /// The checks that come before the duplicate's.
    fn first_refusal(&self, message: &Incoming<'_>, headers: &PublishHeaders<'_>) -> Option<ApiError> {
        if let Some(refusal) = self.size_refusal(message) {
            return Some(refusal);
        }
        if let Some(refusal) = self.increment_refusal(message, headers) {
            return Some(refusal);
        }
        if headers.expected_stream.is_some_and(|wanted| wanted != self.config.name.as_bytes()) {
            return Some(api_error::STREAM_NOT_MATCH);
        }
        let refusal = headers.time_to_live.and_then(|value| self.refused_time_to_live(value));
        refusal.map(|refusal| if self.config.allow_message_ttl { refusal } else { api_error::MESSAGE_TTL_DISABLED })
    }

    /// Expectations hold before the batch: what the batch itself changes can't be expected.
    fn refused_expectation(
        &self,
        store: &mut dyn Store,
        subject: &[u8],
        headers: &PublishHeaders<'_>,
        so_far: &SoFar,
        state: &StreamState,
    ) -> Result<Option<ApiError>, StoreError> {
        if let Some(wanted) = headers.expected_last_sequence {
            let last = state.last.0 + so_far.messages;
            if sequence(wanted) != last {
                return Ok(Some(api_error::stream_wrong_last_sequence(last)));
            }
            if so_far.messages > 0 {
                return Ok(Some(api_error::STREAM_WRONG_LAST_SEQUENCE_CONSTANT));
            }
        }
        let Some(wanted) = headers.expected_subject_sequence else {
            let alone = headers.expected_subject.is_some();
            return Ok(alone.then_some(api_error::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID));
        };
        let among = headers.expected_subject.unwrap_or(subject);
        if so_far.on(among) > 0 {
            return Ok(Some(api_error::STREAM_WRONG_LAST_SEQUENCE_CONSTANT));
        }
        let last = self.last_of(store, among, state)?;
        Ok((sequence(wanted) != last).then(|| api_error::stream_wrong_last_sequence(last)))
    }

    fn refused_rollup(&self, subject: &[u8], headers: &PublishHeaders<'_>, so_far: &SoFar) -> Option<ApiError> {
        let rollup = headers.rollup?;
        if !self.config.allow_rollup || self.config.deny_purge {
            return Some(api_error::stream_rollup_failed("rollup not permitted"));
        }
        if rollup.eq_ignore_ascii_case(b"sub") {
            let again = so_far.on(subject) > 0;
            return again.then(|| api_error::stream_rollup_failed("batch rollup sub invalid"));
        }
        if rollup.eq_ignore_ascii_case(b"all") {
            let again = so_far.messages > 0;
            return again.then(|| api_error::stream_rollup_failed("batch rollup all invalid"));
        }
        let text = format!("rollup value invalid: {:?}", String::from_utf8_lossy(rollup).to_ascii_lowercase());
        Some(api_error::stream_rollup_failed(text))
    }

    fn refused_by_limits(
        &self,
        store: &dyn Store,
        message: &Incoming<'_>,
        headers: &PublishHeaders<'_>,
        so_far: &SoFar,
        state: &StreamState,
    ) -> Option<ApiError> {
        let size = message.size(self.id);
        let text = if self.config.discard == Discard::Old {
            (size > limit(self.config.max_bytes)).then_some("maximum bytes exceeded")
        } else if state.messages + so_far.messages >= limit(self.config.max_messages) {
            Some("maximum messages exceeded")
        } else if state.bytes + so_far.bytes + size > limit(self.config.max_bytes) {
            Some("maximum bytes exceeded")
        } else if self.config.discard_new_per_subject && headers.rollup.is_none() {
            let stored = self.limited_subject(store, message.subject).map_or(0, |found| found.messages);
            let full = stored + so_far.on(message.subject) >= limit(self.config.max_messages_per_subject);
            full.then_some("maximum messages per subject exceeded")
        } else {
            None
        };
        text.map(api_error::stream_store_failed)
    }
}
