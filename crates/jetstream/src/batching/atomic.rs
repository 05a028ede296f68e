//! Atomic batches: messages wait until the commit comes, are judged together, and are stored one after the other in one step.

use crate::advisory::Abandoned;
use crate::api_error::{self, ApiError};
use crate::api_level;
use crate::batching::place::number;
use crate::batching::{BatchAnswer, Batches, LONGEST_ID, MOST_ATOMIC, MOST_ATOMIC_OF_STREAM};
use crate::command::{Append, Batch, Outcome, QueueFor};
use crate::identity::{AgeMillis, Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::store::StoreError;
use crate::stream::mapping::draw_of;
use crate::stream::publish_header::{PublishHeaders, with_header, without_header};
use crate::stream::{Fit, Incoming, SoFar, Unfit};

/// Most messages of a batch unless the configuration says something else, as nats-server's.
const MOST_MESSAGES: u64 = 1_000;
/// Bytes of messages that wait, in one batch: it is one transaction.
const MOST_BATCH_BYTES: usize = 8 << 20;
/// Memory that all batches together take.
const MOST_STAGED_BYTES: usize = 16 << 20;

const REQUIRED_LEVEL: &[u8] = b"Nats-Required-Api-Level";
/// See [`crate::stream::room::room_needed`], twice.
const ROOM_FOR_ROLL_UP: u64 = 512 << 10;
const EXPECTED_LAST_ID: &str = "Nats-Expected-Last-Msg-Id";

/// What a message says of its batch's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commit {
    /// Nothing.
    No,
    /// It is the last message.
    Last,
    /// The message before was the last; this one is not stored.
    End,
    Invalid,
}

impl Commit {
    fn parse(value: Option<&[u8]>) -> Commit {
        match value {
            None => Commit::No,
            Some(b"1") => Commit::Last,
            Some(b"eob") => Commit::End,
            Some(_) => Commit::Invalid,
        }
    }
}

/// A batch that waits for its commit.
#[derive(Debug, Default)]
pub(super) struct Atomic {
    /// Number of its last message.
    last: u64,
    /// It is given up when nothing is heard of it until then.
    pub(super) deadline: AgeMillis,
    /// The bytes of its messages, and the sessions that want them.
    staged: Batch,
    appends: Vec<Append>,
}

impl Atomic {
    /// What it takes in memory, with what was allocated ahead.
    pub(super) fn held(&self) -> usize {
        let Batch { arena, queues, .. } = &self.staged;
        arena.capacity() + self.appends.capacity() * size_of::<Append>() + queues.capacity() * size_of::<QueueFor>()
    }

    /// Copies a message in.
    fn push(&mut self, turn: &Context<'_>, append: &Append, headers: &[u8]) {
        let arena = &turn.batch.arena;
        let targets = turn.batch.queues.get(append.queues.0 as usize..append.queues.1 as usize).unwrap_or_default();
        let first = self.staged.queues.len() as u32;
        self.staged.queues.extend_from_slice(targets);
        let staged = Append {
            stream: append.stream,
            subject: self.staged.add(append.subject.of(arena)),
            headers: self.staged.add(headers),
            payload: self.staged.add(append.payload.of(arena)),
            queues: (first, self.staged.queues.len() as u32),
            ..Append::default()
        };
        self.appends.push(staged);
    }

    /// It ended with a message of its own: the last that is stored says so instead.
    fn mark_last(&mut self) {
        let Some(last) = self.appends.last_mut() else { return };
        let headers = with_header(last.headers.of(&self.staged.arena), b"Nats-Batch-Commit", b"1");
        last.headers = self.staged.add(&headers);
    }
}

/// A message's place in its batch.
struct Step<'a> {
    id: &'a [u8],
    sequence: u64,
    commit: Commit,
    headers: &'a PublishHeaders<'a>,
}

impl Step<'_> {
    /// Messages of the batch up to here. An end that has no number is too far, as in nats-server.
    fn size(&self) -> u64 {
        self.sequence.wrapping_sub(u64::from(self.commit == Commit::End))
    }
}

impl Batches {
    /// Takes a message into its batch, which comes back when this is its end. A batch whose message is refused is given up.
    fn stage(&mut self, turn: &Context<'_>, append: &Append, step: &Step<'_>) -> Result<Option<Atomic>, ApiError> {
        let (id, mut batch) = self.take_or_begin(append.stream, step, turn.now.age)?;
        if step.commit == Commit::Invalid {
            return Err(api_error::ATOMIC_PUBLISH_INVALID_BATCH_COMMIT);
        }
        if step.headers.required_level.is_some_and(api_level::is_too_high) {
            return Err(self.abandon(append.stream, id, Abandoned::Unsupported, api_error::REQUIRED_API_LEVEL));
        }
        batch.last += 1;
        if batch.last != step.sequence || (step.sequence == 1 && step.commit == Commit::End) {
            let error = api_error::ATOMIC_PUBLISH_INCOMPLETE_BATCH;
            return Err(self.abandon(append.stream, id, Abandoned::Incomplete, error));
        }
        let most = self.limits.messages.unwrap_or(MOST_MESSAGES);
        if step.size() > most {
            let error = api_error::atomic_publish_too_large_batch(most);
            return Err(self.abandon(append.stream, id, Abandoned::Large, error));
        }
        if step.commit != Commit::End {
            let headers = append.headers.of(&turn.batch.arena);
            match step.headers.required_level {
                Some(_) => batch.push(turn, append, &without_header(headers, REQUIRED_LEVEL)),
                None => batch.push(turn, append, headers),
            }
        }
        let held = batch.held();
        let stays = step.commit == Commit::No;
        if batch.staged.arena.len() > MOST_BATCH_BYTES || (stays && self.staged_bytes + held > MOST_STAGED_BYTES) {
            return Err(self.abandon(append.stream, id, Abandoned::Large, api_error::INSUFFICIENT_RESOURCES));
        }
        if !stays {
            return Ok(Some(batch));
        }
        batch.deadline = self.deadline(turn.now.age);
        self.staged_bytes += held;
        self.atomic.put(append.stream, id, batch);
        Ok(None)
    }

    fn abandon(&mut self, stream: StreamId, id: Box<[u8]>, reason: Abandoned, error: ApiError) -> ApiError {
        self.abandoned.push((stream, id, reason));
        error
    }

    fn take_or_begin(
        &mut self,
        stream: StreamId,
        step: &Step<'_>,
        now: AgeMillis,
    ) -> Result<(Box<[u8]>, Atomic), ApiError> {
        if let Some((id, batch)) = self.atomic.take(stream, step.id) {
            self.staged_bytes -= batch.held();
            if batch.deadline > now {
                return Ok((id, batch));
            }
            self.abandoned.push((stream, id, Abandoned::Timeout));
        }
        if step.sequence != 1 {
            let most = self.limits.messages.unwrap_or(MOST_MESSAGES);
            let too_large = (step.size() > most).then(|| api_error::atomic_publish_too_large_batch(most));
            return Err(too_large.unwrap_or(api_error::ATOMIC_PUBLISH_INCOMPLETE_BATCH));
        }
        if !self.has_place(self.atomic.of(stream), self.atomic.count, (MOST_ATOMIC_OF_STREAM, MOST_ATOMIC)) {
            return Err(api_error::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT);
        }
        Ok((step.id.into(), Atomic::default()))
    }
}

impl JetStream {
    /// A message with `Nats-Batch-Id`, in a stream that allows them.
    pub(super) fn atomic_message(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        headers: &PublishHeaders<'_>,
        id: &[u8],
    ) -> Result<Outcome, StoreError> {
        let Some(stream) = self.streams.get(&append.stream) else {
            return Ok(Outcome::Refused(api_error::STREAM_NOT_FOUND));
        };
        let answers = !stream.config.no_ack;
        let refusal = stream
            .refuses_batched(&turn.message(append), stream.config.allow_atomic, api_error::ATOMIC_PUBLISH_DISABLED)
            .or_else(|| (id.len() > LONGEST_ID).then_some(api_error::ATOMIC_PUBLISH_INVALID_BATCH_ID));
        if let Some(refusal) = refusal {
            return Ok(Outcome::Refused(refusal));
        }
        let Some(sequence) = headers.batch_sequence.and_then(number) else {
            return Ok(Outcome::Refused(api_error::ATOMIC_PUBLISH_MISSING_SEQ));
        };
        let step = Step { id, sequence, commit: Commit::parse(headers.batch_commit), headers };
        let staged = self.batches.stage(turn, append, &step);
        self.tell_abandoned(turn);
        let mut batch = match staged {
            Ok(None) => {
                self.schedule_batches(turn.now.age);
                let answers = if answers { vec![BatchAnswer::Staged] } else { Vec::new() };
                return Ok(Outcome::Batch { stored: false, answers });
            }
            Ok(Some(batch)) => batch,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        if step.commit == Commit::End {
            batch.mark_last();
        }
        let count = batch.appends.len() as u64;
        Ok(match self.commit_batch(turn, append.stream, &batch)? {
            Err(refusal) => Outcome::Refused(refusal),
            Ok(sequence) => {
                let batch = String::from_utf8_lossy(id).into();
                let committed = BatchAnswer::Committed { sequence, duplicate: false, batch, count };
                let answers = if answers { vec![committed] } else { Vec::new() };
                Outcome::Batch { stored: step.commit == Commit::Last, answers }
            }
        })
    }

    /// Stores the messages of a batch, all or none; the sequence of the last.
    fn commit_batch(
        &mut self,
        turn: &mut Context<'_>,
        stream: StreamId,
        batch: &Atomic,
    ) -> Result<Result<Sequence, ApiError>, StoreError> {
        let turn = &mut Context {
            store: &mut *turn.store,
            now: turn.now,
            batch: &batch.staged,
            deliveries: &mut *turn.deliveries,
            events: &mut *turn.events,
        };
        let bytes = batch.appends.iter().map(|append| turn.message(append).size(stream)).sum();
        self.release_for(turn, stream, (batch.appends.len() as u64, bytes))?;
        let (mut fits, bytes) = match self.judge_batch(turn, stream, &batch.appends)? {
            Ok(judged) => judged,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let judged_by = turn.store.state(stream);
        // Under other subjects they may be larger.
        self.release_for(turn, stream, (batch.appends.len() as u64, bytes))?;
        // Sessions that wait for its messages have copies.
        let copies = if batch.appends.iter().any(|append| append.queues.0 != append.queues.1) { 2 } else { 1 };
        if let Some(refusal) = self.no_room_for(turn, stream, bytes * copies)? {
            return Ok(Err(refusal));
        }
        if turn.store.state(stream) != judged_by {
            // What has gone for it was perhaps what it was judged by: a counter's total, what it expects, a schedule that it ends.
            fits = match self.judge_batch(turn, stream, &batch.appends)? {
                Ok((fits, _)) => fits,
                Err(refusal) => return Ok(Err(refusal)),
            };
        }
        let mut last = Sequence(0);
        for (append, fit) in batch.appends.iter().zip(&fits) {
            let published = turn.message(append);
            match self.put_batched(turn, append, &published, fit)? {
                Outcome::Appended { sequence, .. } => last = sequence,
                // There was room a moment ago. What is stored of the batch must not stay: the transaction is given up.
                _ => return Err(StoreError::Full),
            }
        }
        Ok(Ok(last))
    }

    /// Would each message be taken, with those before it? What is stored of them, and its bytes.
    fn judge_batch(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        appends: &[Append],
    ) -> Result<Result<(Vec<Fit>, u64), ApiError>, StoreError> {
        let (mut so_far, mut subject, key) = (SoFar::default(), Vec::new(), self.key);
        for append in appends {
            let published = turn.message(append);
            subject.clear();
            let renamed = match self.rename(id, published.subject, draw_of(turn, append), &mut subject) {
                Ok(true) => &subject[..],
                Ok(false) => published.subject,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let message = Incoming { subject: renamed, ..published };
            let headers = PublishHeaders::scan(message.headers);
            if headers.expected_message_id.is_some() {
                return Ok(Err(api_error::atomic_publish_unsupported_header_batch(EXPECTED_LAST_ID)));
            }
            let Some(stream) = self.streams.get_mut(&id) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
            match stream.check_batched(turn.store, turn.now, &message, &headers, &so_far, key)? {
                Ok(fit) => so_far.note(&message, id, fit),
                Err(Unfit::Duplicate(_)) => return Ok(Err(api_error::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE)),
                Err(Unfit::Refused(refusal) | Unfit::Late(refusal)) => return Ok(Err(refusal)),
            }
        }
        let bytes = so_far.bytes();
        Ok(Ok((so_far.into_fits(), bytes)))
    }

    /// Why so many bytes can't be stored, if they can't; what may go for them has gone then.
    fn no_room_for(
        &mut self,
        turn: &mut Context<'_>,
        stream: StreamId,
        bytes: u64,
    ) -> Result<Option<ApiError>, StoreError> {
        if self.exceeds(turn, stream, bytes)? {
            return Ok(Some(api_error::INSUFFICIENT_RESOURCES));
        }
        // What is refused half-way costs everybody the store, so this asks for more than its messages will: a roll-up in front looks for room again.
        let needed = bytes * 2 + ROOM_FOR_ROLL_UP;
        if stream.is_volatile() || turn.store.has_room(needed)? {
            return Ok(None);
        }
        if self.make_room(turn, needed)? && turn.store.has_room(needed)? {
            return Ok(None);
        }
        self.set_full(turn, true);
        Ok(Some(api_error::STORAGE_RESOURCES_EXCEEDED))
    }
}
