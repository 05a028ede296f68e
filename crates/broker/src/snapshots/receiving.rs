//! A restore on its way: pieces of an archive to messages for the store.
//!
//! One thing of a restore is at the store at a time; only when that is done the next block is unpacked, and when nothing is left the pieces are
//! acknowledged. After a failure pieces are still acknowledged, as nats-server does it, and the client learns of it at its end.

use ::jetstream_api::{
    ArchiveState, Kind, encode, encode_error, read_archive_consumer, read_archive_state, restore_begins,
};
use archive::{ArchiveError, Entry, Reader};
use jetstream::api_error::{self, ApiError};
use jetstream::command::{Batch, Command, Outcome, Span};
use jetstream::config::StreamConfig;
use jetstream::identity::{Sequence, Timestamp};
use jetstream::restore::{RestoreStep, RestoredMessage};
use jetstream::snapshot::ConsumerSnapshot;
use subject::Filter;

use super::{MOST, PATIENCE};
use crate::broker::Broker;
use crate::identity::Now;
use crate::outbox::Outbox;
use crate::routing::Message;

/// Bytes of messages that go to the store at a time, about.
const PIECE: usize = 256 * 1024;
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

/// See the module.
#[derive(Debug)]
pub(crate) struct Receiving {
    row: Filter,
    config: Box<StreamConfig>,
    reader: Reader,
    phase: Phase,
    state: ArchiveState,
    consumers: Vec<ConsumerSnapshot>,
    json: usize,
    piece: Piece,
    /// The store may know of it.
    begun: bool,
    /// A step is at the store.
    busy: bool,
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

    /// Moves everything into a batch.
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
    /// When nothing came for too long.
    pub(super) fn deadline(&self) -> Option<u64> {
        (!self.busy).then_some(self.deadline)
    }

    /// Unpacks until there is something for the store; `None`: nothing is left of what came.
    fn next_step(&mut self, max_payload: usize) -> Result<Option<Next>, ApiError> {
        while self.phase != Phase::End && self.piece.bytes.len() < PIECE {
            let largest = if self.phase == Phase::Messages { max_payload } else { LARGEST_JSON };
            // Borrowed out of the reader, and so not of the rest.
            let entry = match self.reader.next(largest) {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(ArchiveError::TooLarge { sequence: sequence @ 1.. }) => {
                    return Err(failure(format_args!("message sequence {sequence} exceeds maximum payload size")));
                }
                Err(error) => return Err(failure(error)),
            };
            match self.phase {
                Phase::State => {
                    self.state = read_state(&entry)?;
                    self.phase = after_consumers(self.state.consumer_count);
                    return Ok(Some(Next::Begin));
                }
                Phase::Consumers(left) => {
                    self.json += entry.body.len();
                    if self.json > MOST_JSON {
                        return Err(failure("consumers of the snapshot exceed maximum size"));
                    }
                    let consumer = read_consumer(&entry)?;
                    // Those are made again by the servers that they are for.
                    if !consumer.config.direct {
                        self.consumers.push(consumer);
                    }
                    self.phase = after_consumers(left - 1);
                }
                Phase::Messages if entry == Entry::END => {
                    self.phase = Phase::End;
                }
                Phase::Messages if entry.sequence == 0 => return Err(failure("expected message sequence")),
                Phase::Messages => self.piece.add(&entry),
                Phase::End => {}
            }
        }
        if self.phase == Phase::End {
            // What may follow does not matter.
            self.reader = Reader::default();
        }
        Ok((!self.piece.messages.is_empty()).then_some(Next::Messages))
    }
}

/// What the store is to do next.
enum Next {
    Begin,
    Messages,
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
    /// The store said that a stream may be restored: pieces may come.
    pub(crate) fn begin_restore(&mut self, now: Now, config: &StreamConfig, reply: &[u8], out: &mut Outbox) {
        let mut json = Vec::with_capacity(256);
        let subject = format!("$JS.SNAPSHOT.RESTORE.{}.{}", config.name, self.snapshot_id());
        match Filter::parse(&subject) {
            Ok(row) if self.snapshots.receiving.len() < MOST => {
                let number = self.snapshots.number();
                self.snapshot_row(&row, number, true);
                let receiving = Receiving {
                    row,
                    config: Box::new(config.clone()),
                    reader: Reader::default(),
                    phase: Phase::State,
                    state: ArchiveState::default(),
                    consumers: Vec::new(),
                    json: 0,
                    piece: Piece::default(),
                    begun: false,
                    busy: false,
                    replies: Vec::new(),
                    ended: None,
                    failed: None,
                    deadline: now.micros + PATIENCE,
                };
                self.snapshots.receiving.insert(number, receiving);
                restore_begins(&subject, &mut json);
            }
            _ => {
                let error = failure("too many restores at the same time");
                encode_error(Kind::StreamRestore, &error, &mut json);
            }
        }
        self.send_from_server(now, &Message::new(reply, &json), out);
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
                    self.end_restore(number);
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

    /// Nothing came for too long: as if it had never begun.
    pub(super) fn restore_late(&mut self, number: u32) {
        self.end_restore(number);
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
            receiving.reader = Reader::default();
            receiving.piece = Piece::default();
            if std::mem::take(&mut receiving.begun) {
                self.restore_step(number, |_| RestoreStep::Abort);
            }
            if let Some(reply) = receiving.ended.take() {
                self.snapshot_row(&receiving.row, number, false);
                let mut json = Vec::with_capacity(256);
                encode_error(Kind::StreamRestored, error, &mut json);
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
                let (config, state) = (receiving.config.clone(), receiving.state);
                let (first, bytes) = (Sequence(state.first_seq), state.bytes);
                self.restore_step(number, |_| RestoreStep::Begin { config, first, bytes });
            }
            Next::Messages => self.restore_step(number, |batch| receiving.piece.step(batch)),
        }
    }

    /// The client has sent everything: is it all there?
    fn finish(&mut self, number: u32, receiving: &mut Receiving) {
        if receiving.failed.is_some() {
            return;
        }
        if receiving.phase != Phase::End {
            // What stock says of a file that ends too early.
            let text = if receiving.reader.is_empty() { "EOF" } else { "s2: corrupt input" };
            receiving.failed = Some(failure(text));
            return;
        }
        receiving.busy = true;
        let (last, consumers) = (Sequence(receiving.state.last_seq), std::mem::take(&mut receiving.consumers));
        self.restore_step(number, |_| RestoreStep::Finish { last, consumers });
    }
}
