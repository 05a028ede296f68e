//! A restore on its way: pieces of an archive to messages for the store.
//!
//! One thing of a restore is at the store at a time; only when that is done the next block is unpacked, and when nothing is left the pieces are
//! acknowledged. After a failure pieces are still acknowledged, as nats-server does it, and the client learns of it at its end.

use std::collections::BTreeMap;

use ::jetstream_api::{
    ArchiveState, Client, Kind, Transfer, encode, encode_error, read_archive_consumer, read_archive_state,
    read_older_consumer, read_older_stream, restore_begins,
};
use archive::{ArchiveError, Entry, OlderEntry, OlderPosition, OlderReader, Reader};
use jetstream::api_error::{self, ApiError};
use jetstream::command::{Answer, Batch, Command, Outcome, Span};
use jetstream::config::StreamConfig;
use jetstream::identity::{Sequence, Timestamp};
use jetstream::restore::{Restorable, RestoreStep, RestoredMessage};
use jetstream::snapshot::{ConsumerPosition, ConsumerSnapshot, OutstandingMessage};
use subject::Filter;

use super::{MOST, PATIENCE};
use crate::advisories::Audited;
use crate::broker::Broker;
use crate::identity::Now;
use crate::outbox::Outbox;
use crate::routing::Message;

/// Bytes of messages that go to the store at a time, about.
const PIECE: usize = 256 * 1024;
/// Messages of one piece, however small: others wait for a turn meanwhile.
const MOST_MESSAGES: usize = 4096;
/// Deletions that go to the store at a time.
const MOST_DELETED: usize = 4096;
/// Bytes of JSON that an entry may have: a consumer with its outstanding messages.
const LARGEST_JSON: usize = 8 << 20;
/// Bytes of JSON of all consumers together.
const MOST_JSON: usize = 16 << 20;
/// Bytes, and pieces, that may have come and not been acknowledged: a client waits for its acknowledgements.
const MOST_WAITING: usize = 8 << 20;
const MOST_REPLIES: usize = 4096;

/// What comes next in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    State,
    /// So many more.
    Consumers(u64),
    Messages,
    /// The end was there.
    End,
}

/// What reads the archive.
#[derive(Debug)]
enum Source {
    /// Of 2.15, as far as is known.
    Current(Reader),
    /// Of a server before.
    Older(Box<OlderReader>),
}

impl Source {
    fn push(&mut self, bytes: &[u8]) {
        match self {
            Source::Current(reader) => reader.push(bytes),
            Source::Older(reader) => reader.push(bytes),
        }
    }

    fn waiting(&self) -> usize {
        match self {
            Source::Current(reader) => reader.waiting(),
            Source::Older(reader) => reader.waiting(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Receiving {
    row: Filter,
    config: Box<StreamConfig>,
    reader: Source,
    phase: Phase,
    claimed: (Sequence, Sequence, u64),
    contents: Contents,
    client: Client,
    start: Timestamp,
    /// Bytes that came.
    bytes: u64,
    /// The store may know of it.
    begun: bool,
    /// A step is at the store.
    busy: bool,
    /// Others come first; then it goes on with what is there.
    paused: bool,
    /// Whom to tell that what came is taken.
    replies: Vec<Box<[u8]>>,
    /// Whom to tell of the end.
    ended: Option<Box<[u8]>>,
    failed: Option<ApiError>,
    deadline: u64,
}

/// Messages for the store.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Their spans are within `bytes`.
    messages: Vec<RestoredMessage>,
    /// Messages that were deleted after all.
    deleted: Vec<Sequence>,
}

impl Piece {
    fn add(&mut self, entry: &Entry<'_>) {
        let mut span = |bytes: &[u8]| {
            let start = self.bytes.len() as u32;
            self.bytes.extend_from_slice(bytes);
            Span { start, len: bytes.len() as u32 }
        };
        let (subject, headers, payload) = (span(entry.name), span(entry.headers), span(entry.body));
        let (sequence, time) = (Sequence(entry.sequence), Timestamp(entry.time));
        self.messages.push(RestoredMessage { sequence, time, subject, headers, payload });
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= PIECE || self.messages.len() >= MOST_MESSAGES || self.deleted.len() >= MOST_DELETED
    }

    /// What is to be done with it, if there is something.
    fn next(&self) -> Option<Next> {
        if !self.messages.is_empty() {
            Some(Next::Messages)
        } else if !self.deleted.is_empty() {
            Some(Next::Delete)
        } else {
            None
        }
    }

    /// Moves the messages into a batch.
    fn step(&mut self, batch: &mut Batch) -> RestoreStep {
        let base = batch.add(&self.bytes).start;
        self.bytes.clear();
        let mut messages = std::mem::take(&mut self.messages);
        for message in &mut messages {
            for span in [&mut message.subject, &mut message.headers, &mut message.payload] {
                span.start += base;
            }
        }
        RestoreStep::Messages(messages)
    }
}

fn failure(text: impl std::fmt::Display) -> ApiError {
    api_error::stream_restore(text)
}

impl Receiving {
    /// When nothing came for too long, or it goes on by itself.
    pub(super) fn deadline(&self) -> Option<u64> {
        if self.paused { Some(0) } else { (!self.busy).then_some(self.deadline) }
    }

    /// Unpacks until there is something for the store, or a block had nothing for it; `None`: nothing is left of what came.
    fn next_step(&mut self, max_payload: usize) -> Result<Option<Next>, ApiError> {
        while self.phase != Phase::End && !self.contents.piece.is_full() {
            let largest = if self.phase == Phase::Messages { max_payload } else { LARGEST_JSON };
            let had_begun = self.phase != Phase::State;
            let read = match &mut self.reader {
                Source::Current(reader) => match reader.next(largest) {
                    Err(ArchiveError::Older) => {
                        let older = OlderReader::new(std::mem::take(reader), &self.config.name);
                        self.reader = Source::Older(Box::new(older));
                        continue;
                    }
                    Ok(Some(entry)) => self.contents.take(&mut self.phase, &entry).map(|()| true),
                    Ok(None) => Ok(false),
                    Err(error) => Err(refusal(error)),
                },
                Source::Older(reader) => match reader.next(max_payload) {
                    Ok(Some(OlderEntry::Nothing)) => {
                        return Ok(Some(self.contents.piece.next().unwrap_or(Next::Pause)));
                    }
                    Ok(Some(entry)) => {
                        self.contents.take_older(&mut self.phase, &self.config.name, self.claimed, entry).map(|()| true)
                    }
                    Ok(None) => Ok(false),
                    Err(error) => Err(refusal(error)),
                },
            };
            if !read? {
                break;
            }
            if !had_begun {
                return Ok(Some(Next::Begin));
            }
        }
        if self.phase == Phase::End {
            // What may follow does not matter.
            self.reader = Source::Current(Reader::default());
        }
        Ok(self.contents.piece.next())
    }
}

fn refusal(error: ArchiveError) -> ApiError {
    match error {
        ArchiveError::TooLarge { sequence: sequence @ 1.. } => {
            failure(format_args!("message sequence {sequence} exceeds maximum payload size"))
        }
        error => failure(error),
    }
}

/// What was read of an archive and is not at the store.
#[derive(Debug, Default)]
struct Contents {
    state: ArchiveState,
    consumers: Vec<ConsumerSnapshot>,
    /// Bytes of the consumers' JSON.
    json: usize,
    piece: Piece,
}

impl Contents {
    fn take(&mut self, phase: &mut Phase, entry: &Entry<'_>) -> Result<(), ApiError> {
        match *phase {
            Phase::State => {
                self.state = read_state(entry)?;
                *phase = after_consumers(self.state.consumer_count);
            }
            Phase::Consumers(left) => {
                self.count_json(entry.body.len())?;
                let consumer = read_consumer(entry)?;
                self.add_consumer(consumer);
                *phase = after_consumers(left - 1);
            }
            Phase::Messages if *entry == Entry::END => *phase = Phase::End,
            Phase::Messages if entry.sequence == 0 => return Err(failure("expected message sequence")),
            Phase::Messages if entry.name.is_empty() => return Err(failure("expected message subject")),
            Phase::Messages => self.piece.add(entry),
            Phase::End => {}
        }
        Ok(())
    }

    /// `claimed`: what the client says of the stream's state, which such archives do not tell.
    fn take_older(
        &mut self,
        phase: &mut Phase,
        stream: &str,
        claimed: (Sequence, Sequence, u64),
        entry: OlderEntry<'_>,
    ) -> Result<(), ApiError> {
        match (*phase, entry) {
            (Phase::State, OlderEntry::Stream(json)) => {
                if read_older_stream(json).is_none_or(|name| name != stream) {
                    return Err(failure("stream names do not match"));
                }
                let (first, last, bytes) = claimed;
                self.state = ArchiveState { first_seq: first.0, last_seq: last.0, bytes, consumer_count: 0 };
                *phase = Phase::Messages;
            }
            (Phase::State, OlderEntry::Nothing) => {}
            (Phase::State, _) => return Err(failure("open meta.inf: no such file or directory")),
            (_, OlderEntry::Nothing) => {}
            (_, OlderEntry::End) => *phase = Phase::End,
            (_, OlderEntry::Stream(_)) => return Err(failure(ArchiveError::Unexpected)),
            // What is left in front of the first message was removed by a limit.
            (_, OlderEntry::Message(entry)) if entry.sequence < self.state.first_seq => {}
            (_, OlderEntry::Message(entry)) if entry.name.is_empty() => {
                return Err(failure("expected message subject"));
            }
            (_, OlderEntry::Message(entry)) => self.piece.add(&entry),
            (_, OlderEntry::Deleted(sequence)) => self.piece.deleted.push(Sequence(sequence)),
            (_, OlderEntry::Gone(sequence)) => self.state.last_seq = self.state.last_seq.max(sequence),
            (_, OlderEntry::Consumer(name, json)) => {
                self.count_json(json.len())?;
                let config = read_older_consumer(name, json).map_err(failure)?;
                self.add_consumer(ConsumerSnapshot { config, position: ConsumerPosition::default() });
            }
            (_, OlderEntry::Position(name, bytes)) => {
                self.count_json(bytes.len())?;
                let read = OlderPosition::read(bytes);
                let read =
                    read.ok_or_else(|| failure(format_args!("error restoring consumer [{name:?}]: corrupt state")))?;
                if let Some(consumer) = self.consumers.iter_mut().find(|consumer| *consumer.config.name == *name) {
                    consumer.position = position(&read);
                }
            }
        }
        Ok(())
    }

    fn count_json(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.json += bytes;
        if self.json > MOST_JSON { Err(failure("consumers of the snapshot exceed maximum size")) } else { Ok(()) }
    }

    /// Those of sources are made again by the servers that they are for.
    fn add_consumer(&mut self, consumer: ConsumerSnapshot) {
        if !consumer.config.direct {
            self.consumers.push(consumer);
        }
    }
}

fn position(older: &OlderPosition) -> ConsumerPosition {
    let again: BTreeMap<u64, u64> = older.redelivered.iter().copied().collect();
    let mut outstanding: Vec<OutstandingMessage> = older
        .pending
        .iter()
        .map(|(sequence, delivery, time)| OutstandingMessage {
            sequence: Sequence(*sequence),
            delivery: *delivery,
            time: Timestamp(*time),
            deliveries: again.get(sequence).copied().unwrap_or(0).saturating_add(1),
        })
        .collect();
    outstanding.sort_unstable_by_key(|one| one.sequence);
    ConsumerPosition {
        delivered: (older.delivered.0, Sequence(older.delivered.1)),
        ack_floor: (older.ack_floor.0, Sequence(older.ack_floor.1)),
        outstanding,
    }
}

/// What is to be done next: by the store, but for the last.
enum Next {
    Begin,
    Messages,
    Delete,
    /// Others are to be served before more is unpacked.
    Pause,
}

fn after_consumers(left: u64) -> Phase {
    if left == 0 { Phase::Messages } else { Phase::Consumers(left) }
}

fn read_state(entry: &Entry<'_>) -> Result<ArchiveState, ApiError> {
    if entry.name != b"state.json" {
        return Err(failure("expected state.json first"));
    }
    read_archive_state(entry.body).map_err(failure)
}

fn read_consumer(entry: &Entry<'_>) -> Result<ConsumerSnapshot, ApiError> {
    let name = String::from_utf8_lossy(entry.name);
    let Some(name) = name.strip_prefix("consumers/") else {
        return Err(failure(format_args!("expected consumer, found {name:?}")));
    };
    read_archive_consumer(name, entry.body).map_err(failure)
}

impl Broker {
    /// The store said that a stream may be restored, or that it may not.
    pub(crate) fn restore_answer(
        &mut self,
        now: Now,
        (client, audited): (&Client, Option<&Audited>),
        reply: &[u8],
        answer: &Answer,
        out: &mut Outbox,
    ) {
        let mut json = Vec::with_capacity(256);
        if let Answer::Restorable(wanted) = answer {
            self.begin_restore(now, wanted, client, &mut json, out);
        } else {
            encode(Kind::StreamRestore, answer, &self.api_server(), &mut json);
        }
        self.send_from_server(now, &Message::new(reply, &json), out);
        if let Some(audited) = audited {
            self.audit(now, audited, &json, out);
        }
    }

    /// Pieces may come, where the answer says.
    fn begin_restore(
        &mut self,
        now: Now,
        wanted: &Restorable,
        client: &Client,
        answer: &mut Vec<u8>,
        out: &mut Outbox,
    ) {
        let config = &wanted.config;
        let subject = format!("$JS.SNAPSHOT.RESTORE.{}.{}", config.name, self.snapshot_id());
        match Filter::parse(&subject) {
            Ok(row) if self.snapshots.receiving.len() < MOST => {
                let number = self.snapshots.number();
                self.snapshot_row(&row, number, true);
                let receiving = Receiving {
                    row,
                    config: Box::new(config.clone()),
                    reader: Source::Current(Reader::default()),
                    phase: Phase::State,
                    claimed: wanted.claimed,
                    contents: Contents::default(),
                    client: client.clone(),
                    start: Timestamp(now.wall_ns),
                    bytes: 0,
                    begun: false,
                    busy: false,
                    paused: false,
                    replies: Vec::new(),
                    ended: None,
                    failed: None,
                    deadline: now.micros + PATIENCE,
                };
                self.snapshots.receiving.insert(number, receiving);
                self.advise_transfer(now, &config.name, &Transfer::RestoreCreate, client, out);
                restore_begins(&subject, answer);
            }
            _ => {
                let error = failure("too many restores at the same time");
                encode_error(Kind::StreamRestore, &error, answer);
            }
        }
    }

    /// A piece of an archive came, or, empty, its end.
    pub(super) fn restore_piece(&mut self, now: Now, number: u32, message: &Message<'_>, out: &mut Outbox) {
        let Some(receiving) = self.snapshots.receiving.get_mut(&number) else { return };
        if message.reply.is_empty() {
            // Nobody could be told of failures, or wait for what is taken.
            self.end_restore(number);
            return;
        }
        receiving.deadline = now.micros + PATIENCE;
        let payload = message.payload();
        if payload.is_empty() {
            receiving.ended = Some(message.reply.into());
        } else {
            receiving.replies.push(message.reply.into());
            receiving.bytes += payload.len() as u64;
            let waiting = receiving.reader.waiting() + payload.len();
            if receiving.replies.len() > MOST_REPLIES || waiting > MOST_WAITING {
                self.end_restore(number);
                return;
            }
            if receiving.failed.is_none() && receiving.phase != Phase::End {
                receiving.reader.push(payload);
            }
        }
        self.continue_restore(now, number, out);
    }

    /// The store did a step.
    pub(crate) fn restore_done(&mut self, now: Now, number: u32, outcome: &Outcome, out: &mut Outbox) {
        let Some(receiving) = self.snapshots.receiving.get_mut(&number).filter(|one| one.busy) else { return };
        receiving.busy = false;
        receiving.deadline = now.micros + PATIENCE;
        match outcome {
            Outcome::Refused(error) => {
                receiving.failed.get_or_insert_with(|| error.clone());
            }
            Outcome::Answer(answer) => {
                if let Some(reply) = receiving.ended.take() {
                    receiving.begun = false;
                    let done = self.snapshots.receiving.remove(&number);
                    if let Some(done) = done {
                        self.snapshot_row(&done.row, number, false);
                        self.advise_restored(now, &done, out);
                    }
                    let mut json = Vec::with_capacity(1024);
                    encode(Kind::StreamRestored, answer, &self.api_server(), &mut json);
                    self.send_from_server(now, &Message::new(&reply, &json), out);
                    return;
                }
            }
            _ => {}
        }
        self.continue_restore(now, number, out);
    }

    /// Goes on after a pause; or nothing came for too long, and it is as if it had never begun.
    pub(super) fn restore_in_time(&mut self, now: Now, number: u32, out: &mut Outbox) {
        let Some(receiving) = self.snapshots.receiving.get_mut(&number) else { return };
        if !std::mem::take(&mut receiving.paused) {
            return self.end_restore(number);
        }
        receiving.busy = false;
        receiving.deadline = now.micros + PATIENCE;
        self.continue_restore(now, number, out);
    }

    /// The store knows nothing of it any more.
    pub(super) fn fail_restore(&mut self, now: Now, number: u32, out: &mut Outbox) {
        let Some(receiving) = self.snapshots.receiving.get_mut(&number) else { return };
        receiving.failed = Some(api_error::CLUSTER_NOT_AVAIL);
        self.continue_restore(now, number, out);
    }

    fn end_restore(&mut self, number: u32) {
        let Some(receiving) = self.snapshots.receiving.remove(&number) else { return };
        self.snapshot_row(&receiving.row, number, false);
        if receiving.begun {
            self.restore_step(number, |_| RestoreStep::Abort);
        }
    }

    fn advise_restored(&mut self, now: Now, done: &Receiving, out: &mut Outbox) {
        let (start, end) = (done.start, Timestamp(now.wall_ns));
        let transfer = Transfer::RestoreComplete { start, end, bytes: done.bytes };
        self.advise_transfer(now, &done.config.name, &transfer, &done.client, out);
    }

    fn restore_step(&mut self, number: u32, step: impl FnOnce(&mut Batch) -> RestoreStep) {
        self.store.push(|batch| Command::Restore { number, step: Box::new(step(batch)) });
    }

    fn continue_restore(&mut self, now: Now, number: u32, out: &mut Outbox) {
        let max_payload = self.settings.max_payload;
        let Some(mut receiving) = self.snapshots.receiving.remove(&number) else { return };
        if !receiving.busy && receiving.failed.is_none() {
            match receiving.next_step(max_payload) {
                Ok(Some(next)) => self.give_to_store(number, &mut receiving, &next),
                Ok(None) => {}
                Err(error) => receiving.failed = Some(error),
            }
        }
        let replies = if receiving.busy { Vec::new() } else { std::mem::take(&mut receiving.replies) };
        if !receiving.busy && receiving.ended.is_some() {
            self.finish(number, &mut receiving);
        }
        let failed = receiving.failed.clone();
        if let (Some(error), false) = (&failed, receiving.busy) {
            receiving.reader = Source::Current(Reader::default());
            receiving.contents = Contents::default();
            if std::mem::take(&mut receiving.begun) {
                self.restore_step(number, |_| RestoreStep::Abort);
            }
            if let Some(reply) = receiving.ended.take() {
                self.snapshot_row(&receiving.row, number, false);
                let mut json = Vec::with_capacity(256);
                encode_error(Kind::StreamRestored, error, &mut json);
                self.advise_restored(now, &receiving, out);
                self.send_from_server(now, &Message::new(&reply, &json), out);
                return;
            }
        }
        self.snapshots.receiving.insert(number, receiving);
        for reply in replies {
            self.send_from_server(now, &Message::new(&reply, b""), out);
        }
    }

    fn give_to_store(&mut self, number: u32, receiving: &mut Receiving, next: &Next) {
        receiving.busy = true;
        match next {
            Next::Begin => {
                receiving.begun = true;
                let (config, state) = (receiving.config.clone(), receiving.contents.state);
                let (first, bytes) = (Sequence(state.first_seq), state.bytes);
                self.restore_step(number, |_| RestoreStep::Begin { config, first, bytes });
            }
            Next::Messages => self.restore_step(number, |batch| receiving.contents.piece.step(batch)),
            Next::Delete => {
                let deleted = std::mem::take(&mut receiving.contents.piece.deleted);
                self.restore_step(number, |_| RestoreStep::Delete(deleted));
            }
            Next::Pause => receiving.paused = true,
        }
    }

    /// The client has sent everything: is it all there?
    fn finish(&mut self, number: u32, receiving: &mut Receiving) {
        if receiving.failed.is_some() {
            return;
        }
        if receiving.phase != Phase::End {
            // What stock says of a file that ends too early.
            receiving.failed = Some(match &receiving.reader {
                Source::Current(reader) => reader.cut_short().map_or_else(|| failure("EOF"), failure),
                Source::Older(reader) if reader.waiting() > 0 => failure(ArchiveError::Corrupt),
                Source::Older(_) => failure("unexpected EOF"),
            });
            return;
        }
        receiving.busy = true;
        let contents = std::mem::take(&mut receiving.contents);
        let (last, consumers) = (Sequence(contents.state.last_seq), contents.consumers);
        self.restore_step(number, |_| RestoreStep::Finish { last, consumers });
    }
}
