//! Fast ingest with gap mode `fail` (hubs from 2.14, streams with `allow_batched`; ADR-50).
//!
//! Reply subjects say everything: `<inbox>.<id>.<flow>.fail.<n>.<op>.$FI`; op 0 starts, 1 appends, 3 ends without storing. A refusal or a
//! gap ends the batch, and what was in flight behind it is refused (10208), so no hole can arise. Whatever goes wrong, the hub is
//! asked: the next session begins with a plain message, which is then the refused one.

use crate::answer::PublishAnswer;
use crate::buffer::SendBuffer;
use crate::headers::{Conditions, decimal};
use crate::refusal::{Remedy, remedy};
use crate::sender::{Composed, Composer};
use crate::session::{Forward, Session};

/// Most messages per flow ack that we ask for; the hub may choose fewer.
const MAX_FLOW: u64 = 200;
/// What a message's subject, identity and frame take beside its own, about.
const OVERHEAD: u64 = 400;
/// Flow acks that may be outstanding.
const MAX_UNACKNOWLEDGED: u64 = 4;
/// After a gap the PubAck follows at once; if not, ask.
const PUBACK_AFTER_GAP_MS: u64 = 2_000;

/// A batch on the way.
#[derive(Debug)]
pub(crate) struct FastIngest {
    pub(crate) id: String,
    /// A subject of the stream, for the message that ends the batch.
    subject: Vec<u8>,
    pub(crate) started: u64,
    bytes: u64,
    sent: u64,
    acked: u64,
    /// Local sequence of the last one acknowledged, and of the last one sent.
    acked_local: Option<u64>,
    last: u64,
    flow: u64,
    pub(crate) ended: bool,
    /// When the end was sent.
    ended_ms: Option<u64>,
    pub(crate) deadline: u64,
}

impl Forward {
    /// Begins a batch; its messages follow by [`Forward::feed`].
    pub(crate) fn begin_fast_ingest(&mut self) {
        let id = format!("F{:016x}{:x}", self.incarnations.present().id.0, self.next_id());
        // Four acks to a window, so that it opens before it is used up.
        let size = self.backlog.peek().map_or(0, |message| message.headers.len() + message.payload.len()) as u64;
        let flow = (self.window.room() / 4 / (size + OVERHEAD)).clamp(1, MAX_FLOW);
        self.session = Session::FastIngest(FastIngest {
            id,
            subject: Vec::new(),
            started: self.now_ms,
            bytes: 0,
            sent: 0,
            acked: 0,
            acked_local: None,
            last: 0,
            flow,
            ended: false,
            ended_ms: None,
            deadline: self.now_ms + self.config.timings.answer_ms,
        });
    }

    /// Sends what may be sent, and the end when it is time.
    pub(crate) fn feed(&mut self, buffer: &mut SendBuffer) {
        while let Session::FastIngest(batch) = &self.session {
            if batch.ended {
                return;
            }
            let is_full = batch.sent >= self.config.batch.messages || batch.bytes >= self.config.batch.bytes;
            let is_late = self.now_ms >= batch.started + self.config.timings.batch_ms;
            let is_dry = self.backlog.peek().is_none() && self.backlog.is_dry(self.local.last);
            // The window is used up and no flow ack is due that would open it: only the end brings an answer.
            let is_stuck = self.window.room() == 0 && batch.sent - batch.acked < batch.flow;
            if is_full || is_late || is_dry || is_stuck || self.is_on_hold {
                return self.end_batch(buffer);
            }
            let flow_is_open = batch.sent - batch.acked < batch.flow * MAX_UNACKNOWLEDGED;
            if !flow_is_open || !self.may_send() || !self.append(buffer) {
                return;
            }
        }
    }

    /// Appends one message. False when there is none at hand, or it has to wait for the end of the batch.
    fn append(&mut self, buffer: &mut SendBuffer) -> bool {
        let is_first = matches!(&self.session, Session::FastIngest(batch) if batch.sent == 0);
        let fence = if is_first { self.fence() } else { None };
        let max_payload = self.max_payload();
        let (Session::FastIngest(batch), Some(message)) = (&mut self.session, self.backlog.peek()) else {
            return false;
        };
        let number = batch.sent + 1;
        let operation = if number == 1 { 0 } else { 1 };
        let composer = Composer {
            stamp: &self.stamp,
            transform: &self.config.transform,
            incarnations: &self.incarnations,
            max_payload,
        };
        // Each header costs the hub a search through all of them.
        let conditions = Conditions { continues: !is_first, fence, batch: None };
        let inbox = &self.config.inbox;
        let composed = composer
            .write(buffer, &message, conditions, |out| reply(out, inbox, &batch.id, batch.flow, number, operation));
        let local = message.sequence.0;
        let Composed::Written(bytes) = composed else {
            // It is looked at alone; nothing was sent yet if it is the first.
            if batch.sent == 0 {
                self.single_until = local;
                self.session = Session::Ready;
            } else {
                self.end_batch(buffer);
            }
            return false;
        };
        if number == 1 {
            self.config.transform.apply(message.subject, local, &mut batch.subject);
        }
        batch.sent = number;
        batch.bytes += bytes;
        batch.last = local;
        self.note_sent(local, bytes);
        self.backlog.advance();
        true
    }

    /// Op 3 stores nothing and brings the PubAck; a ping would never confirm the tail.
    fn end_batch(&mut self, buffer: &mut SendBuffer) {
        let inbox = &self.config.inbox;
        let Session::FastIngest(batch) = &mut self.session else { return };
        if batch.sent == 0 {
            self.session = Session::Ready;
            return;
        }
        buffer.begin().extend_from_slice(&batch.subject);
        reply(buffer.reply(), inbox, &batch.id, batch.flow, batch.sent + 1, 3);
        buffer.headers();
        buffer.payload();
        let bytes = buffer.finish();
        batch.ended = true;
        batch.ended_ms = Some(self.now_ms);
        batch.deadline = self.now_ms + self.config.timings.answer_ms;
        self.rate.spend(bytes);
    }

    /// A flow ack, a gap, a refusal or the PubAck.
    pub(crate) fn fast_ingest_answered(&mut self, payload: &[u8]) {
        let answer = PublishAnswer::decode(payload);
        let now_ms = self.now_ms;
        let Session::FastIngest(batch) = &mut self.session else { return };
        let Some(answer) = answer else {
            return self.ask_again();
        };
        if let Some(failure) = &answer.error {
            let last = batch.last;
            return self.fast_ingest_refused(failure, last);
        }
        match answer.kind.as_str() {
            "ack" => {
                if answer.seq > batch.sent {
                    return self.ask_again();
                }
                let fresh = answer.seq.saturating_sub(batch.acked);
                batch.acked += fresh;
                batch.flow = answer.msgs.clamp(1, MAX_FLOW);
                if fresh > 0 {
                    batch.deadline = now_ms + self.config.timings.answer_ms;
                    let local = self.settle(fresh, None);
                    if let Session::FastIngest(batch) = &mut self.session {
                        batch.acked_local = local.or(batch.acked_local);
                    }
                }
            }
            "" => self.fast_ingest_committed(&answer),
            // `gap` or `err`: the batch is over, its PubAck follows
            _ => {
                batch.ended = true;
                batch.deadline = now_ms + PUBACK_AFTER_GAP_MS;
            }
        }
    }

    fn fast_ingest_refused(&mut self, failure: &crate::answer::Failure, last: u64) {
        self.rejected += 1;
        let text = format!("{} ({})", failure.description, failure.err_code);
        match remedy(failure.code, failure.err_code) {
            Remedy::Retry => self.pause(text),
            Remedy::AskAgain => self.fence_refused(failure.err_code),
            Remedy::Park => self.ask_again(),
            Remedy::OtherWay => {
                self.single_until = last;
                self.ask_again();
            }
            Remedy::Stop => self.stop(text),
        }
    }

    /// The PubAck: `count` is the stored prefix.
    fn fast_ingest_committed(&mut self, answer: &PublishAnswer) {
        if !self.is_expected(answer) {
            return;
        }
        let Session::FastIngest(batch) = &self.session else { return };
        let (sent, acked, acked_local, last) = (batch.sent, batch.acked, batch.acked_local, batch.last);
        let ended_ms = batch.ended_ms;
        let count = answer.count.unwrap_or(0);
        if answer.batch != batch.id || count > sent || count < acked || count == 0 {
            return self.ask_again();
        }
        if answer.seq == 0 {
            // Only duplicates: it names no sequence, so it confirms nothing. One at a time is answered with one.
            self.single_until = last;
            return self.ask_again();
        }
        let is_whole = batch.ended && count == sent;
        if let Some(local) = self.settle(count - acked, ended_ms).or(acked_local) {
            self.confirm(local, Some(answer.seq));
        }
        self.last_under_filter = answer.seq;
        if is_whole {
            self.succeeded();
            self.session = Session::Ready;
        } else {
            self.ask_again();
        }
    }
}

fn reply(out: &mut Vec<u8>, inbox: &str, id: &str, flow: u64, number: u64, operation: u64) {
    out.extend_from_slice(inbox.as_bytes());
    out.push(b'.');
    out.extend_from_slice(id.as_bytes());
    out.push(b'.');
    decimal(out, flow);
    out.extend_from_slice(b".fail.");
    decimal(out, number);
    out.push(b'.');
    decimal(out, operation);
    out.extend_from_slice(b".$FI");
}
