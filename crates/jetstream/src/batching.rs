//! Batches of messages (ADR-50): atomic ones, which are stored whole or not at all, and fast ones, whose messages are stored as they come and are
//! acknowledged many at a time.
//!
//! What was begun is kept in memory and gone with the process, as in nats-server: of an atomic batch nothing is promised before its commit, and the
//! sender of a fast one is told that its batch is unknown (10208), after acknowledgements that hold. The messages of an atomic batch wait here and are
//! judged and stored when its commit is applied, in that one step of the store thread and therefore in one transaction.
//!
//! Bounded in number, as in nats-server, and in bytes, all batches together. A batch that nothing is heard of for ten seconds, or what the
//! configuration says, is given up.

mod atomic;
mod fast;
mod place;

#[cfg(test)]
mod properties;

use std::collections::BTreeMap;

use crate::account_limits::BatchLimits;
use crate::advisory::{Abandoned, Advisory};
use crate::api_error::{self, ApiError};
use crate::command::{Append, Event, Outcome};
use crate::identity::{AgeMillis, Sequence, StreamId};
use crate::jetstream::{Context, JetStream, Timer};
use crate::store::StoreError;
use crate::stream::duplicates;
use crate::stream::mapping::draw_of;
use crate::stream::publish_header::PublishHeaders;
use crate::stream::room::room_needed;
use crate::stream::{Fit, Incoming, Stream, Verdict};
use atomic::Atomic;
use fast::Fast;

/// What the reply subjects of fast batches end with.
pub(crate) const FAST_SUFFIX: &[u8] = b".$FI";

/// A batch is given up after this without a message. This and the numbers below are nats-server's.
const INACTIVE_MILLIS: u64 = 10_000;
/// Batches are looked through no more often than this: one that is late is found by its next message anyway.
const LOOK_MILLIS: u64 = 1_000;
/// Longest id, bytes.
const LONGEST_ID: usize = 64;
const MOST_ATOMIC_OF_STREAM: usize = 50;
const MOST_ATOMIC: usize = 1_000;
const MOST_FAST_OF_STREAM: usize = 1_000;
const MOST_FAST: usize = 50_000;

/// What a batch's sender is told on the reply subject of one of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchAnswer {
    /// An atomic batch's message is there and waits for the commit.
    Staged,
    /// A fast batch: stored up to this message of the batch, as far as its gap mode promises; the next is told after so many.
    Flow {
        /// Number within the batch.
        sequence: u64,
        /// Messages.
        every: u16,
    },
    /// A fast batch: messages are missing.
    Gap {
        /// The number that was expected.
        expected: u64,
        /// The number that came.
        current: u64,
    },
    /// A fast batch: this message was refused.
    Failed {
        /// Number within the batch.
        sequence: u64,
        /// Why.
        error: ApiError,
    },
    /// The batch is over and stored.
    Committed {
        /// Sequence of its last message in the stream; 0: it stored none.
        sequence: Sequence,
        /// It was there already.
        duplicate: bool,
        /// The batch's id.
        batch: Box<str>,
        /// How many messages it has.
        count: u64,
    },
    /// Refused as a message without a batch would be.
    Refused(ApiError),
}

/// Batches that were begun.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    /// There is a stream that takes batches.
    pub(crate) are_allowed: bool,
    limits: BatchLimits,
    atomic: Open<Atomic>,
    fast: Open<Fast>,
    /// Memory of messages that wait for a commit, bytes.
    staged_bytes: usize,
    /// Atomic ones that were given up and nobody was told of yet.
    abandoned: Vec<(StreamId, Box<[u8]>, Abandoned)>,
    /// There is an entry in the timers.
    is_scheduled: bool,
}

/// Batches of one kind, by stream and id.
#[derive(Debug)]
struct Open<B> {
    by_stream: BTreeMap<StreamId, BTreeMap<Box<[u8]>, B>>,
    count: usize,
}

impl<B> Default for Open<B> {
    fn default() -> Open<B> {
        Open { by_stream: BTreeMap::new(), count: 0 }
    }
}

impl<B> Open<B> {
    /// How many a stream has.
    fn of(&self, stream: StreamId) -> usize {
        self.by_stream.get(&stream).map_or(0, BTreeMap::len)
    }

    fn take(&mut self, stream: StreamId, id: &[u8]) -> Option<(Box<[u8]>, B)> {
        let taken = self.by_stream.get_mut(&stream)?.remove_entry(id)?;
        self.count -= 1;
        Some(taken)
    }

    fn put(&mut self, stream: StreamId, id: Box<[u8]>, batch: B) {
        self.by_stream.entry(stream).or_default().insert(id, batch);
        self.count += 1;
    }

    /// Drops those that `is_over` says, and tells whether any are left.
    fn drop_where(&mut self, mut is_over: impl FnMut(StreamId, &[u8], &B) -> bool) -> bool {
        for (stream, batches) in &mut self.by_stream {
            batches.retain(|id, batch| !is_over(*stream, id, batch));
        }
        self.by_stream.retain(|_, batches| !batches.is_empty());
        self.count = self.by_stream.values().map(BTreeMap::len).sum();
        self.count > 0
    }
}

impl Batches {
    pub(crate) fn new(limits: BatchLimits) -> Batches {
        Batches { limits, ..Batches::default() }
    }

    /// When a batch is given up of which something is heard now.
    fn deadline(&self, now: AgeMillis) -> AgeMillis {
        AgeMillis(now.0.saturating_add(self.limits.timeout_ms.unwrap_or(INACTIVE_MILLIS)))
    }

    /// May one more be begun, when there are so many?
    fn has_place(&self, of_stream: usize, total: usize, defaults: (usize, usize)) -> bool {
        let most = |limit: Option<u64>, default| limit.map_or(default, |limit| limit as usize);
        of_stream < most(self.limits.of_stream, defaults.0) && total < most(self.limits.total, defaults.1)
    }

    /// Drops those that nothing was heard of for too long; are there others?
    fn drop_silent(&mut self, now: AgeMillis) -> bool {
        let Batches { atomic, fast, staged_bytes, abandoned, .. } = self;
        let has_atomic = atomic.drop_where(|stream, id, batch| {
            let is_over = batch.deadline <= now;
            if is_over {
                *staged_bytes -= batch.held();
                abandoned.push((stream, id.into(), Abandoned::Timeout));
            }
            is_over
        });
        fast.drop_where(|_, _, batch| batch.deadline <= now) || has_atomic
    }

    /// How many are open, and bytes of messages that wait.
    #[cfg(test)]
    pub(crate) fn staged(&self) -> (usize, usize) {
        (self.atomic.count + self.fast.count, self.staged_bytes)
    }

    /// Drops those of a stream that are not allowed any more.
    fn drop_of(&mut self, stream: StreamId, keeps_atomic: bool, keeps_fast: bool) {
        let Batches { atomic, fast, staged_bytes, .. } = self;
        if !keeps_atomic {
            atomic.drop_where(|of, _, batch| {
                *staged_bytes -= if of == stream { batch.held() } else { 0 };
                of == stream
            });
        }
        if !keeps_fast {
            fast.drop_where(|of, _, _| of == stream);
        }
    }
}

impl JetStream {
    /// A publish that is part of a batch; `None`: it is not.
    pub(crate) fn batched(&mut self, turn: &mut Context<'_>, append: &Append) -> Result<Option<Outcome>, StoreError> {
        if append.stream == StreamId::NONE {
            return Ok(None);
        }
        let reply = append.reply.of(&turn.batch.arena);
        if reply.len() > FAST_SUFFIX.len() && reply.ends_with(FAST_SUFFIX) {
            return self.fast_message(turn, append, reply).map(Some);
        }
        let allows = self.streams.get(&append.stream).is_some_and(|stream| stream.config.allow_atomic);
        let headers = append.headers.of(&turn.batch.arena);
        if !allows || headers.is_empty() {
            return Ok(None);
        }
        let headers = PublishHeaders::scan(headers);
        headers.batch_id.map(|id| self.atomic_message(turn, append, &headers, id)).transpose()
    }

    /// Stores a message of a batch that was found right.
    fn put_batched(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        published: &Incoming<'_>,
        fit: &Fit,
    ) -> Result<Outcome, StoreError> {
        let mut subject = std::mem::take(&mut self.subject);
        subject.clear();
        let outcome = match self.rename(append.stream, published.subject, draw_of(turn, append), &mut subject) {
            Ok(false) => self.put_as(turn, append, published, fit),
            Ok(true) => {
                // Sessions asked for the subject that it was published on.
                let here = Append { queues: (0, 0), ..*append };
                match self.put_as(turn, &here, &Incoming { subject: &subject, ..*published }, fit)? {
                    stored @ Outcome::Appended { .. } => match self.append_to_queues(turn, append, published)? {
                        Outcome::Appended { .. } => Ok(stored),
                        refused => Ok(refused),
                    },
                    refused => Ok(refused),
                }
            }
            Err(error) => Ok(Outcome::Refused(error)),
        };
        self.subject = subject;
        outcome
    }

    fn put_as(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        message: &Incoming<'_>,
        fit: &Fit,
    ) -> Result<Outcome, StoreError> {
        let before = self.before_republish(turn, append.stream, message.subject);
        let most_ids = duplicates::share(self.streams.len());
        let Some(stream) = self.streams.get_mut(&append.stream) else {
            return Ok(Outcome::Refused(api_error::STREAM_NOT_FOUND));
        };
        let mut verdict = stream.put_batched(turn.store, turn.now, message, fit, most_ids, &mut self.removed)?;
        if let Verdict::Refused(error) = &verdict
            && *error == api_error::STORAGE_RESOURCES_EXCEEDED
            && self.make_room(turn, room_needed(message))?
            && let Some(stream) = self.streams.get_mut(&append.stream)
        {
            verdict = stream.put_batched(turn.store, turn.now, message, fit, most_ids, &mut self.removed)?;
        }
        self.follow(turn, append, message, verdict, before)
    }

    /// A timer looks for batches that are given up.
    fn schedule_batches(&mut self, now: AgeMillis) {
        if !self.batches.is_scheduled {
            self.batches.is_scheduled = true;
            self.timers.insert((self.batches.deadline(now), Timer::Batches));
        }
    }

    /// Gives up what nothing was heard of for too long.
    pub(crate) fn batches_in_time(&mut self, turn: &mut Context<'_>) {
        let now = turn.now.age;
        self.batches.is_scheduled = self.batches.drop_silent(now);
        if self.batches.is_scheduled {
            self.timers.insert((AgeMillis(now.0 + LOOK_MILLIS), Timer::Batches));
        }
        self.tell_abandoned(turn);
    }

    /// Whoever listens for advisories is told what was given up.
    fn tell_abandoned(&mut self, turn: &mut Context<'_>) {
        turn.events.extend(self.batches.abandoned.drain(..).map(|(stream, id, reason)| {
            let batch = String::from_utf8_lossy(&id).into();
            Event::Advisory(Advisory::BatchAbandoned { stream, batch, reason })
        }));
    }

    /// A stream is there, has other flags, or is gone.
    pub(crate) fn batches_allowed(&mut self, changed: StreamId) {
        let flags = |stream: &Stream| (stream.config.allow_atomic, stream.config.allow_batched);
        let (atomic, fast) = self.streams.get(&changed).map_or((false, false), flags);
        self.batches.drop_of(changed, atomic, fast);
        let mut all = self.stream_names.values().filter_map(|id| self.streams.get(id)).map(flags);
        self.batches.are_allowed = all.any(|(atomic, fast)| atomic || fast);
    }
}

impl Stream {
    /// What a message is refused for before anybody looks at its batch.
    fn refuses_batched(&self, message: &Incoming<'_>, allowed: bool, disabled: ApiError) -> Option<ApiError> {
        if self.config.sealed {
            return Some(api_error::STREAM_SEALED);
        }
        self.size_refusal(message).or(if allowed { None } else { Some(disabled) })
    }
}
