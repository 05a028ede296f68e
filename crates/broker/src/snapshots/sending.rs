//! A snapshot on its way: slices of a stream to pieces of an archive, as many at a time as the receiver's window has places for.

use std::collections::VecDeque;

use ::jetstream_api::{Client, Kind, SnapshotRequest, Transfer, archive_consumer, archive_state, encode, encode_error};
use archive::{Entry, Writer};
use jetstream::api_error;
use jetstream::command::{Answer, Command, Ticket};
use jetstream::identity::{Sequence, StreamId, Timestamp};
use jetstream::snapshot::{ConsumerSnapshot, Snapshot};
use jetstream::store::MessageBuffer;
use subject::Filter;

use super::{MOST, PATIENCE};
use crate::account::{GLOBAL, Target};
use crate::advisories::Audited;
use crate::broker::Broker;
use crate::identity::Now;
use crate::outbox::Outbox;
use crate::routing::Message;

/// Second half of the tickets of slices: neither the shell's nor an MQTT client's.
pub(crate) const TICKET: u64 = 1 << 62;
/// Bytes of a slice, about.
const SLICE: u32 = 256 * 1024;
/// Bytes under way at most, whatever the receiver's window: they lie in its connection's buffer, and all buffers share one budget.
const MOST_UNDER_WAY: usize = 1024 * 1024;
/// Who asked may subscribe a moment later, microseconds; as in nats-server.
const UNHEARD_PATIENCE: u64 = 2_000_000;
/// So long only a subscription to the very subject counts: the `nats` CLI has one for all its inboxes, and drops what comes before that.
const WILDCARD_PATIENCE: u64 = 250_000;
const DONE: &str = "204";
const NO_INTEREST: &str = "408 No Interest";
const NO_ANSWER: &str = "408 No Flow Response";
const STREAM_GONE: &str = "500 store is closed";

/// See the module.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: StreamId,
    name: Box<str>,
    client: Client,
    start: Timestamp,
    version: Box<str>,
    /// Where acknowledgements come: the subject before size and number.
    acks: String,
    row: Filter,
    deliver: Box<[u8]>,
    chunk: usize,
    /// Pieces that may be under way.
    places: usize,
    under_way: usize,
    /// Number of the next piece.
    index: u64,
    writer: Writer,
    consumers: VecDeque<ConsumerSnapshot>,
    /// What is read next, and the last message that belongs to the snapshot.
    next: Sequence,
    last: Sequence,
    /// The store reads a slice.
    reading: bool,
    /// Everything is in the archive.
    written: bool,
    /// Somebody listens to it.
    heard: bool,
    /// Until then a wildcard is no listener.
    literal_until: u64,
    deadline: u64,
}

impl Sending {
    /// When somebody has waited too long: for a listener, or for acknowledgements.
    pub(super) fn deadline(&self) -> Option<u64> {
        (!self.heard || self.under_way >= self.places).then_some(self.deadline)
    }
}

impl Broker {
    /// The store described a stream of which a snapshot is wanted, or refused to.
    pub(crate) fn snapshot_answer(
        &mut self,
        now: Now,
        (request, client, audited): (&SnapshotRequest, &Client, Option<&Audited>),
        reply: &[u8],
        answer: &Answer,
        out: &mut Outbox,
    ) {
        let mut json = Vec::with_capacity(1024);
        let snapshot = match answer {
            Answer::Snapshot(snapshot) if self.snapshots.sending.len() < MOST => Some(snapshot),
            Answer::Snapshot(_) => {
                let error = api_error::stream_snapshot("too many snapshots at the same time");
                encode_error(Kind::StreamSnapshot, &error, &mut json);
                None
            }
            _ => None,
        };
        if json.is_empty() {
            encode(Kind::StreamSnapshot, answer, &self.api_server(), &mut json);
        }
        self.answer_request(now, &Message::new(reply, &json), out);
        if let Some(audited) = audited {
            self.audit(now, audited, &json, out);
        }
        if let Some(snapshot) = snapshot {
            self.advise_transfer(
                now,
                &snapshot.info.config.name,
                &Transfer::SnapshotCreate(&snapshot.info),
                client,
                out,
            );
            self.begin_snapshot(now, (request, client), snapshot, out);
        }
    }

    fn begin_snapshot(
        &mut self,
        now: Now,
        (request, client): (&SnapshotRequest, &Client),
        snapshot: &Snapshot,
        out: &mut Outbox,
    ) {
        let acks = format!("$JS.SNAPSHOT.ACK.{}.{}", snapshot.info.config.name, self.snapshot_id());
        let Ok(row) = Filter::parse(&format!("{acks}.>")) else { return };
        let mut writer = Writer::default();
        writer.add(&Entry {
            name: b"state.json",
            time: now.wall_ns,
            sequence: 0,
            headers: b"",
            body: &archive_state(snapshot),
        });
        let number = self.snapshots.number();
        self.snapshot_row(&row, number, true);
        let sending = Sending {
            stream: snapshot.info.id,
            name: snapshot.info.config.name.clone(),
            client: client.clone(),
            start: Timestamp(now.wall_ns),
            version: self.settings.server.version.clone(),
            acks,
            row,
            deliver: request.deliver_subject.clone(),
            chunk: request.chunk_size,
            places: (request.window_size.min(MOST_UNDER_WAY) / request.chunk_size).max(1),
            under_way: 0,
            index: 1,
            writer,
            consumers: snapshot.consumers.clone().into(),
            next: snapshot.info.state.first,
            last: snapshot.info.state.last,
            reading: false,
            written: false,
            heard: false,
            literal_until: now.micros + WILDCARD_PATIENCE,
            deadline: now.micros + WILDCARD_PATIENCE,
        };
        self.snapshots.sending.insert(number, sending);
        self.continue_snapshot(now, number, out);
    }

    /// A piece arrived: its place is free.
    pub(super) fn snapshot_acknowledged(&mut self, now: Now, number: u32, out: &mut Outbox) {
        if let Some(sending) = self.snapshots.sending.get_mut(&number) {
            sending.under_way = sending.under_way.saturating_sub(1);
            self.continue_snapshot(now, number, out);
        }
    }

    /// A slice was read.
    pub(super) fn snapshot_read(
        &mut self,
        now: Now,
        number: u32,
        messages: &MessageBuffer,
        next: Sequence,
        out: &mut Outbox,
    ) {
        let Some(sending) = self.snapshots.sending.get_mut(&number) else { return };
        if !self.store.has_stream(sending.stream) {
            return self.end_snapshot(now, number, STREAM_GONE, out);
        }
        sending.reading = false;
        for message in messages.iter().take_while(|message| message.sequence <= sending.last) {
            sending.writer.add(&Entry {
                name: message.subject,
                time: message.time.0,
                sequence: message.sequence.0,
                headers: message.headers,
                body: message.payload,
            });
        }
        let is_end = messages.is_empty() && next <= sending.next;
        sending.next = if is_end { sending.last.next() } else { next };
        self.continue_snapshot(now, number, out);
    }

    /// Interest changed somewhere: its listener may have come, or, as nats-server sees it too, gone.
    pub(super) fn snapshot_stirred(&mut self, now: Now, number: u32, out: &mut Outbox) {
        let Some(sending) = self.snapshots.sending.get(&number) else { return };
        if !sending.heard {
            return self.continue_snapshot(now, number, out);
        }
        let deliver = sending.deliver.clone();
        if !self.is_heard(&deliver, false) {
            self.end_snapshot(now, number, NO_INTEREST, out);
        }
    }

    /// Nobody listened, or acknowledged, for too long.
    pub(super) fn snapshot_late(&mut self, now: Now, number: u32, out: &mut Outbox) {
        let Some(sending) = self.snapshots.sending.get_mut(&number) else { return };
        if sending.heard {
            return self.end_snapshot(now, number, NO_ANSWER, out);
        }
        let end = sending.literal_until - WILDCARD_PATIENCE + UNHEARD_PATIENCE;
        if std::mem::replace(&mut sending.deadline, end) >= end {
            return self.end_snapshot(now, number, NO_INTEREST, out);
        }
        self.continue_snapshot(now, number, out);
    }

    /// Forgets a snapshot, and says how it ended.
    pub(super) fn end_snapshot(&mut self, now: Now, number: u32, line: &str, out: &mut Outbox) {
        let Some(sending) = self.snapshots.sending.remove(&number) else { return };
        self.snapshot_row(&sending.row, number, false);
        // An archive of less than one piece ends without a status, as in nats-server.
        let headers = if line.is_empty() { String::new() } else { format!("NATS/1.0 {line}\r\n\r\n") };
        let end = Message { header_len: headers.len(), ..Message::new(&sending.deliver, headers.as_bytes()) };
        self.send_from_server(now, &end, out);
        let error = match line {
            "" | DONE => "",
            NO_INTEREST => "no interest",
            NO_ANSWER => "no flow response",
            other => other.trim_start_matches("500 "),
        };
        let done = Transfer::SnapshotComplete { start: sending.start, end: Timestamp(now.wall_ns), error };
        self.advise_transfer(now, &sending.name, &done, &sending.client, out);
    }

    fn is_heard(&self, subject: &[u8], literally: bool) -> bool {
        let mut is_there = false;
        self.accounts[GLOBAL as usize].index.for_each_match(subject, |target| {
            is_there |= match target {
                Target::Ack(_) | Target::Mapping(_) => false,
                Target::Subscription(id) if literally => {
                    self.subscriptions.entry(*id).is_some_and(|entry| entry.filter.is_literal())
                }
                _ => true,
            };
        });
        is_there
    }

    pub(super) fn continue_snapshot(&mut self, now: Now, number: u32, out: &mut Outbox) {
        while let Some(sending) = self.snapshots.sending.get_mut(&number) {
            if !sending.heard {
                let (deliver, literally) = (sending.deliver.clone(), now.micros < sending.literal_until);
                let heard = self.is_heard(&deliver, literally);
                let Some(sending) = self.snapshots.sending.get_mut(&number).filter(|_| heard) else { return };
                sending.heard = true;
                continue;
            }
            if sending.written || sending.writer.ready() >= sending.chunk {
                if sending.under_way >= sending.places {
                    return;
                }
                self.send_piece(now, number, out);
            } else if sending.reading {
                return;
            } else {
                self.write_more(number, now);
            }
        }
    }

    fn send_piece(&mut self, now: Now, number: u32, out: &mut Outbox) {
        // Out of the table while it is sent: what comes of that may concern others.
        let Some(mut sending) = self.snapshots.sending.remove(&number) else { return };
        let is_last = sending.writer.ready() < sending.chunk;
        let reply = format!("{}.{}.{}", sending.acks, sending.chunk, sending.index);
        let body = sending.writer.take(sending.chunk);
        let message = Message::new(&sending.deliver, body);
        let message = if is_last { message } else { Message { reply: reply.as_bytes(), ..message } };
        let reached = if body.is_empty() { 1 } else { self.send_from_server(now, &message, out) };
        let line = match (is_last, sending.index) {
            _ if reached == 0 => NO_INTEREST,
            (true, 1) => "",
            _ => DONE,
        };
        sending.index += 1;
        sending.under_way += 1;
        sending.deadline = now.micros + PATIENCE;
        self.snapshots.sending.insert(number, sending);
        if is_last || reached == 0 {
            self.end_snapshot(now, number, line, out);
        }
    }

    fn write_more(&mut self, number: u32, now: Now) {
        let Some(sending) = self.snapshots.sending.get_mut(&number) else { return };
        if let Some(consumer) = sending.consumers.pop_front() {
            sending.writer.add(&Entry {
                name: format!("consumers/{}", consumer.config.name).as_bytes(),
                time: now.wall_ns,
                sequence: 0,
                headers: b"",
                body: &archive_consumer(&consumer, &sending.version),
            });
        } else if sending.next > sending.last {
            sending.writer.finish();
            sending.written = true;
        } else {
            sending.reading = true;
            let (ticket, stream, from) = (Ticket(u64::from(number), TICKET), sending.stream, sending.next);
            self.store.push(|_| Command::Read { ticket, stream, from, max_bytes: SLICE });
        }
    }
}
