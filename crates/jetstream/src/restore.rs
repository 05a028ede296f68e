//! Streams made again from a snapshot.
//!
//! A restore is a series of steps: it begins, takes messages in pieces, and ends with the stream being there, with its consumers; or it is given up.
//! Until it ends its messages lie in a table that belongs to no stream: nobody sees it, nothing captures into it, and what is found of one when
//! the store is opened is deleted. So a crash in the middle leaves nothing, and the last step is one commit.
//!
//! ```text
//!  Begin ─► Messages … ─► Finish: the stream is there        any of them refused, or given up: Abort, nothing is left
//! ```
//!
//! The messages' bytes count in the account from the first piece on. Limits of the stream take effect when it is there.

use subject::Filter;

use crate::advisory::{Action, Advisory};
use crate::api_error::{self, ApiError};
use crate::command::{Answer, Event, Outcome, Span};
use crate::config::{Compression, DeliverPolicy, Storage, StreamConfig};
use crate::consumer::Consumer;
use crate::identity::{AgeMillis, ConsumerId, HIGHEST_SEQUENCE, Now, Sequence, StreamId, Timestamp};
use crate::jetstream::{Context, JetStream, stream_up};
use crate::snapshot::{ConsumerPosition, ConsumerSnapshot};
use crate::store::{NewMessage, StoreError, message_size_in};
use crate::stored_config;
use crate::stream::Stream;
use crate::stream::config_check;
use crate::stream::duplicates;
use crate::stream::message_ttl::TimeToLive;
use crate::stream::publish_header::PublishHeaders;
use crate::stream::requests::Answered;

/// What stands in place of the configuration of a stream that is being restored; no encoded configuration is equal to it.
pub(crate) const RESTORING: &[u8] = b"being restored";
/// nats-server's limit of a header block.
const LONGEST_HEADERS: usize = u16::MAX as usize;

/// A stream that is to be restored.
#[derive(Clone, Debug)]
pub struct Restorable {
    /// What it is to be.
    pub config: StreamConfig,
    /// The first sequence that it held, the last that it gave, and its bytes, as the client says: what counts is in the archive, where it has that.
    pub claimed: (Sequence, Sequence, u64),
}

/// A step of a restore.
#[derive(Debug)]
pub enum RestoreStep {
    /// A table for its messages.
    Begin {
        /// What the stream is to be.
        config: Box<StreamConfig>,
        /// The first sequence that it held, or would give.
        first: Sequence,
        /// About how many bytes will follow, by [`crate::store::message_size`].
        bytes: u64,
    },
    /// Messages, in the order of their sequences.
    Messages(Vec<RestoredMessage>),
    /// Messages of before, or of never, that are not to be there.
    Delete(Vec<Sequence>),
    /// There is no more: the stream is there from now on. → [`Outcome::Answer`] with [`Answer::Stream`].
    Finish {
        /// The last sequence that was ever given.
        last: Sequence,
        /// The stream's consumers.
        consumers: Vec<ConsumerSnapshot>,
    },
    /// It is given up: nothing is left of it.
    Abort,
}

/// A message of a snapshot; its bytes are in the batch's arena.
#[derive(Clone, Copy, Debug)]
pub struct RestoredMessage {
    /// Its sequence.
    pub sequence: Sequence,
    /// When it was stored.
    pub time: Timestamp,
    /// Literal subject; checked here.
    pub subject: Span,
    /// Header block or empty; checked here.
    pub headers: Span,
    /// Body.
    pub payload: Span,
}

/// A stream that is not there yet.
#[derive(Debug)]
pub(crate) struct Restoring {
    stream: Stream,
    /// Of its messages so far.
    bytes: u64,
    /// Of its last message.
    last: Now,
}

fn failed(text: impl std::fmt::Display) -> ApiError {
    api_error::stream_restore(text)
}

impl JetStream {
    /// May a stream be restored with this configuration? Nothing is changed.
    pub(crate) fn may_restore(&self, wanted: &Restorable) -> Answered {
        Ok(self.check_restore(&wanted.config).map(|()| Answer::Restorable(Box::new(wanted.clone()))))
    }

    fn check_restore(&self, config: &StreamConfig) -> Result<(), ApiError> {
        config_check::check(config)?;
        self.check_stream_limits(config)?;
        let others = self.restores.values();
        if self.stream_named(&config.name).is_some()
            || others.clone().any(|other| other.stream.config.name == config.name)
        {
            return Err(api_error::STREAM_NAME_EXIST_RESTORE_FAILED);
        }
        if self.streams.len() + self.restores.len() >= self.limits.max_streams as usize {
            return Err(api_error::MAXIMUM_STREAMS_LIMIT);
        }
        self.may_create(config)
    }

    /// The same later on: others may have been made meanwhile, which is told as nats-server does.
    fn check_again(&self, config: &StreamConfig) -> Result<(), ApiError> {
        self.check_restore(config).map_err(|error| match error {
            ApiError { err_code, description, .. } if err_code == api_error::STREAM_SUBJECT_OVERLAP.err_code => {
                failed(format_args!("error adding stream: {description} ({err_code})"))
            }
            error => error,
        })
    }

    pub(crate) fn restore(
        &mut self,
        turn: &mut Context<'_>,
        number: u32,
        step: &RestoreStep,
    ) -> Result<Outcome, StoreError> {
        self.sync = true;
        let done = match step {
            RestoreStep::Begin { config, first, bytes } => self.begin_restore(turn, number, config, *first, *bytes)?,
            RestoreStep::Messages(messages) => self.restore_messages(turn, number, messages)?,
            RestoreStep::Delete(sequences) => self.delete_restored(turn, number, sequences)?,
            RestoreStep::Finish { last, consumers } => {
                return Ok(match self.finish_restore(turn, number, *last, consumers)? {
                    Ok(answer) => Outcome::Answer(Box::new(answer)),
                    Err(error) => Outcome::Refused(error),
                });
            }
            RestoreStep::Abort => {
                self.abort_restore(turn, number)?;
                Ok(())
            }
        };
        Ok(done.map_or_else(Outcome::Refused, |()| Outcome::Done))
    }

    fn begin_restore(
        &mut self,
        turn: &mut Context<'_>,
        number: u32,
        config: &StreamConfig,
        first: Sequence,
        bytes: u64,
    ) -> Result<Result<(), ApiError>, StoreError> {
        if let Err(error) = self.check_again(config) {
            return Ok(Err(error));
        }
        if first > HIGHEST_SEQUENCE {
            return Ok(Err(failed("sequences of the snapshot are out of range")));
        }
        let id = self.new_stream_id(turn.store, config.storage)?;
        if self.outgrows(id, bytes) {
            return Ok(Err(resources_exceeded(id)));
        }
        let first = first.max(Sequence(1));
        turn.store.create_stream(id, first, RESTORING)?;
        turn.store.compress(id, config.compression == Compression::S2);
        let mut stream = Stream::new(id, config.clone(), turn.now.wall);
        stream.load_places(turn.store, self.key)?;
        self.restores.insert(number, Restoring { stream, bytes: 0, last: Now::default() });
        Ok(Ok(()))
    }

    /// Would so many bytes more exceed what all streams together may hold?
    fn outgrows(&self, stream: StreamId, bytes: u64) -> bool {
        let (storage, total) = if stream.is_volatile() {
            (Storage::Memory, self.memory_bytes)
        } else {
            (Storage::File, self.stored_bytes)
        };
        self.most_bytes(storage).is_some_and(|max| total.saturating_add(bytes) > max)
    }

    fn restore_messages(
        &mut self,
        turn: &mut Context<'_>,
        number: u32,
        messages: &[RestoredMessage],
    ) -> Result<Result<(), ApiError>, StoreError> {
        let Some(mut restoring) = self.restores.remove(&number) else {
            return Ok(Err(api_error::CLUSTER_NOT_AVAIL));
        };
        let mut done = Ok(Ok(()));
        for message in messages {
            done = self.restore_message(turn, &mut restoring, message);
            if !matches!(done, Ok(Ok(()))) {
                break;
            }
        }
        self.restores.insert(number, restoring);
        done
    }

    fn delete_restored(
        &mut self,
        turn: &mut Context<'_>,
        number: u32,
        sequences: &[Sequence],
    ) -> Result<Result<(), ApiError>, StoreError> {
        let Some(restoring) = self.restores.get(&number) else { return Ok(Err(api_error::CLUSTER_NOT_AVAIL)) };
        for sequence in sequences {
            if *sequence <= turn.store.state(restoring.stream.id).last {
                turn.store.remove(restoring.stream.id, *sequence, false)?;
            }
        }
        Ok(Ok(()))
    }

    fn restore_message(
        &mut self,
        turn: &mut Context<'_>,
        restoring: &mut Restoring,
        message: &RestoredMessage,
    ) -> Result<Result<(), ApiError>, StoreError> {
        let (arena, sequence) = (&turn.batch.arena, message.sequence);
        let (subject, headers) = (message.subject.of(arena), message.headers.of(arena));
        let payload = message.payload.of(arena);
        let id = restoring.stream.id;
        let state = turn.store.state(id);
        if let Err(text) = check_message(&restoring.stream.config, state.last, sequence, subject, headers, payload) {
            return Ok(Err(failed(text)));
        }
        let size = message_size_in(id, subject.len(), headers.len(), payload.len());
        if self.outgrows(id, size) {
            return Ok(Err(resources_exceeded(id)));
        }
        let since_millis = turn.now.wall.0.saturating_sub(message.time.0).max(0).unsigned_abs() / 1_000_000;
        let wanted = PublishHeaders::scan(headers);
        let lives = match wanted.time_to_live.map(TimeToLive::parse) {
            Some(Ok(TimeToLive::Millis(millis))) if restoring.stream.config.allow_message_ttl => Some(millis),
            Some(Err(error)) => {
                return Ok(Err(failed(format_args!("failed to parse message TTL: {}", error.description))));
            }
            _ => None,
        };
        if lives.is_some_and(|millis| millis <= since_millis) {
            // It is over; only its sequence remains.
            turn.store.skip_to(id, sequence, Now { wall: restoring.last.wall.max(state.last_time), ..turn.now })?;
            return Ok(Ok(()));
        }
        let age = AgeMillis(turn.now.age.0.saturating_sub(since_millis));
        let stored = Now { wall: message.time.max(restoring.last.wall), age: age.max(restoring.last.age) };
        let window = restoring.stream.config.duplicate_window_ns / 1_000_000;
        let message_id = wanted.message_id.filter(|_| since_millis < window).map(|id| self.key.hash(id));
        let new = NewMessage { sequence, now: stored, subject, headers, payload, message_id };
        match turn.store.append(id, &new) {
            Ok(()) => {}
            Err(StoreError::Full) => {
                self.set_full(turn, true);
                return Ok(Err(resources_exceeded(id)));
            }
            Err(error) => return Err(error),
        }
        if let Some(source) = wanted.source {
            restoring.stream.places.note(source);
        }
        restoring.last = stored;
        restoring.bytes += size;
        *(if id.is_volatile() { &mut self.memory_bytes } else { &mut self.stored_bytes }) += size;
        if let Some(millis) = lives {
            restoring.stream.ends_after(turn.store, turn.now, sequence, millis - since_millis)?;
        } else if let Some(value) = wanted.time_to_live.filter(|value| value.eq_ignore_ascii_case(b"never")) {
            restoring.stream.lives(turn.store, turn.now, sequence, value)?;
        }
        if wanted.is_scheduling {
            restoring.stream.plan_again(turn.store, turn.now, (subject, headers), sequence)?;
        }
        Ok(Ok(()))
    }

    fn finish_restore(
        &mut self,
        turn: &mut Context<'_>,
        number: u32,
        last: Sequence,
        consumers: &[ConsumerSnapshot],
    ) -> Answered {
        let Some(mut restoring) = self.restores.remove(&number) else { return Ok(Err(api_error::CLUSTER_NOT_AVAIL)) };
        if let Err(error) = self.check_again(&restoring.stream.config) {
            self.restores.insert(number, restoring);
            return Ok(Err(error));
        }
        let id = restoring.stream.id;
        let state = turn.store.state(id);
        if state.last < last {
            if last > HIGHEST_SEQUENCE {
                self.restores.insert(number, restoring);
                return Ok(Err(failed("sequences of the snapshot are out of range")));
            }
            let wall = restoring.last.wall.max(state.last_time);
            turn.store.skip_to(id, last, Now { wall, age: restoring.last.age })?;
        }
        restoring.stream.is_forwarded = self.is_expected_forward(&restoring.stream);
        let stream = &mut restoring.stream;
        turn.store.update_stream(id, &stored_config::encode_stream(&stream.config, stream.created))?;
        stream.load(turn.store, turn.now, duplicates::share(self.streams.len() + 1))?;
        let total = if id.is_volatile() { &mut self.memory_bytes } else { &mut self.stored_bytes };
        *total = total.saturating_sub(restoring.bytes) + stream.counted_bytes;
        let name = stream.config.name.clone();
        let before = turn.events.len();
        turn.events.push(stream_up(stream, turn.store));
        turn.events.push(Event::Advisory(Advisory::Stream { stream: id, action: Action::Create }));
        self.stream_names.insert(name.clone(), id);
        self.streams.insert(id, restoring.stream);
        self.origins_restored(turn, id);
        self.batches_allowed(id);
        for consumer in consumers {
            if let Err(error) = self.restore_consumer(turn, &name, consumer)? {
                // Nobody has heard of it: nobody needs to hear that it is gone.
                self.delete_stream(turn, &name)?.ok();
                turn.events.truncate(before);
                let text = format_args!("failed to add consumer {:?}: {}", consumer.config.name, error.description);
                return Ok(Err(failed(text)));
            }
        }
        if self.streams.get(&id).is_some_and(|stream| stream.config.max_messages_per_subject > 0) {
            self.trim_all_subjects(turn, id)?;
        }
        self.touch(id);
        self.stream_info(turn, &name, None, false, 0)
    }

    fn restore_consumer(
        &mut self,
        turn: &mut Context<'_>,
        stream: &str,
        consumer: &ConsumerSnapshot,
    ) -> Result<Result<(), ApiError>, StoreError> {
        let created = self.create_consumer(turn, stream, &consumer.config, crate::command::ConsumerAction::Create)?;
        let id = match created {
            Ok(Answer::Consumer(info)) => info.id,
            Ok(_) => return Ok(Err(api_error::CONSUMER_NOT_FOUND)),
            Err(error) => return Ok(Err(error)),
        };
        self.place_consumer(turn, id, &consumer.position)?;
        Ok(Ok(()))
    }

    fn place_consumer(
        &mut self,
        turn: &mut Context<'_>,
        id: ConsumerId,
        position: &ConsumerPosition,
    ) -> Result<(), StoreError> {
        let Some(consumer) = self.consumers.get_mut(&id) else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(&consumer.stream) else { return Ok(()) };
        let state = turn.store.state(stream.id);
        consumer.stand_at(position, state.first, state.last, turn.now);
        consumer.recount_soon();
        consumer.recount_now(turn.store, stream, turn.now)?;
        self.list_dirty(id, turn.now);
        self.schedule(id);
        Ok(())
    }

    fn abort_restore(&mut self, turn: &mut Context<'_>, number: u32) -> Result<(), StoreError> {
        let Some(restoring) = self.restores.remove(&number) else { return Ok(()) };
        let id = restoring.stream.id;
        turn.store.delete_stream(id)?;
        let stream = &restoring.stream;
        if stream.next_end.is_some() || stream.aging.never || stream.has_plans() {
            self.forgotten.push(id);
            self.again = true;
        }
        let total = if id.is_volatile() { &mut self.memory_bytes } else { &mut self.stored_bytes };
        *total = total.saturating_sub(restoring.bytes);
        Ok(())
    }
}

impl Consumer {
    /// Goes on where it stood, in a stream with these ends.
    fn stand_at(&mut self, position: &ConsumerPosition, first: Sequence, last: Sequence, now: Now) {
        let (delivered, at) = position.delivered;
        if delivered == 0 && self.config.deliver_policy == DeliverPolicy::LastPerSubject {
            // Nothing of the selection was delivered: the new one is as good.
            return;
        }
        self.selection = None;
        self.delivered = delivered.max(position.ack_floor.0);
        let begins = match self.config.deliver_policy {
            DeliverPolicy::FromSequence(sequence) if delivered == 0 => sequence.min(HIGHEST_SEQUENCE),
            _ => Sequence(1),
        };
        self.stand_before(at.min(last).next().max(first).max(begins));
        self.filters_since = self.next;
        for message in &position.outstanding {
            if message.sequence < first || message.sequence >= self.next {
                continue;
            }
            let deliveries = u32::try_from(message.deliveries).unwrap_or(u32::MAX).max(1);
            let since = now.wall.0.saturating_sub(message.time.0).max(0).unsigned_abs() / 1_000_000;
            let due =
                self.wait(deliveries).map_or(u64::MAX, |wait| now.age.0.saturating_add(wait.saturating_sub(since)));
            let delivery = message.delivery.min(self.delivered);
            self.pending.restore(message.sequence, delivery, deliveries, AgeMillis(due));
        }
        self.dirty = true;
    }
}

fn resources_exceeded(stream: StreamId) -> ApiError {
    if stream.is_volatile() { api_error::MEMORY_RESOURCES_EXCEEDED } else { api_error::STORAGE_RESOURCES_EXCEEDED }
}

/// Can it be a message of the stream, behind the last one? Texts are stock's where it has one.
fn check_message(
    config: &StreamConfig,
    last: Sequence,
    sequence: Sequence,
    subject: &[u8],
    headers: &[u8],
    payload: &[u8],
) -> Result<(), String> {
    let number = sequence.0;
    if sequence <= last || sequence > HIGHEST_SEQUENCE {
        return Err(format!("message sequence {number} out of order"));
    }
    let size = (headers.len() + payload.len()) as u64;
    if u64::try_from(config.max_message_size).is_ok_and(|max| size > max) || headers.len() > LONGEST_HEADERS {
        return Err(format!("message sequence {number} exceeds maximum message size"));
    }
    if !Filter::from_bytes(subject).is_ok_and(|filter| filter.is_literal()) {
        return Err(format!("message sequence {number} has no valid subject"));
    }
    let is_block = headers.starts_with(b"NATS/1.0") && headers.ends_with(b"\r\n\r\n");
    if !headers.is_empty() && !is_block {
        return Err(format!("failed to parse message sequence {number}: invalid headers"));
    }
    Ok(())
}
