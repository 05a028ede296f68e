//! Atomic batches (hubs from 2.12.1, streams with `allow_atomic`): sent in one go, so that no batch waits for a low rate, and answered once.

use crate::answer::PublishAnswer;
use crate::buffer::SendBuffer;
use crate::headers::Conditions;
use crate::refusal::{Remedy, remedy};
use crate::sender::{Composed, Composer};
use crate::session::{Forward, Session};
use crate::way::Way;

/// What a message's headers and frame take beside its own, estimated for the choice of the batch's size.
const OVERHEAD: u64 = 512;

/// A batch on the way.
#[derive(Debug)]
pub(crate) struct Atomic {
    pub(crate) id: String,
    pub(crate) count: u64,
    pub(crate) last: u64,
    pub(crate) deadline: u64,
}

impl Forward {
    /// How many of the messages at hand may go in one batch now.
    pub(crate) fn atomic_size(&mut self) -> u64 {
        let budget = self.window.room().min(self.rate.allowance(self.now_ms)).min(self.config.batch.bytes);
        let largest = self.max_payload();
        let most = self.atomic_most.min(self.config.batch.messages);
        let (mut count, mut bytes) = (0, 0);
        while count < most
            && let Some(message) = self.backlog.peek_ahead(count as usize)
        {
            let size = (message.subject.len() + message.headers.len() + message.payload.len()) as u64 + OVERHEAD;
            // What may be too large is looked at by itself.
            if bytes + size > budget || size + OVERHEAD > largest {
                break;
            }
            bytes += size;
            count += 1;
        }
        count
    }

    /// Sends `count` messages, at least two, as one batch. False when a message among them has to go alone.
    pub(crate) fn send_atomic(&mut self, count: u64, buffer: &mut SendBuffer) -> bool {
        let id = format!("t{:016x}{:x}", self.incarnations.present().id.0, self.next_id());
        let fence = self.fence();
        let (mut sent, mut last) = (0, 0);
        while sent < count {
            let number = sent + 1;
            let max_payload = self.max_payload();
            let Some(message) = self.backlog.peek() else { break };
            let conditions = Conditions {
                fence: fence.filter(|_| number == 1),
                batch: Some((&id, number, number == count)),
                ..Conditions::default()
            };
            let composer = Composer {
                stamp: &self.stamp,
                transform: &self.config.transform,
                incarnations: &self.incarnations,
                max_payload,
            };
            let inbox = &self.config.inbox;
            let composed = composer.write(buffer, &message, conditions, |out| {
                // Only the first and the last are answered.
                if number == 1 || number == count {
                    out.extend_from_slice(inbox.as_bytes());
                    out.push(b'.');
                    out.extend_from_slice(id.as_bytes());
                }
            });
            let local = message.sequence.0;
            let Composed::Written(bytes) = composed else {
                // The hub forgets the unfinished batch; nothing of it was stored.
                self.single_until = local;
                self.ask_again();
                return false;
            };
            self.note_sent(local, bytes);
            self.backlog.advance();
            (sent, last) = (number, local);
        }
        let deadline = self.now_ms + self.config.timings.answer_ms;
        self.session = Session::Atomic(Atomic { id, count: sent, last, deadline });
        true
    }

    /// An answer to the first or the last message.
    pub(crate) fn atomic_answered(&mut self, payload: &[u8]) {
        if payload.is_empty() {
            return; // the batch was begun
        }
        let Session::Atomic(batch) = &self.session else { return };
        let (count, last) = (batch.count, batch.last);
        let Some(answer) = PublishAnswer::decode(payload) else {
            return self.ask_again();
        };
        if let Some(failure) = &answer.error {
            self.rejected += 1;
            let text = format!("{} ({})", failure.description, failure.err_code);
            return match remedy(failure.code, failure.err_code) {
                Remedy::Retry => self.pause(text),
                Remedy::AskAgain => {
                    // One duplicate id refuses all: one at a time until behind the batch.
                    if failure.err_code == 10201 {
                        self.single_until = last;
                    }
                    self.fence_refused(failure.err_code);
                }
                Remedy::OtherWay => {
                    self.atomic_most = if failure.err_code == 10199 { count / 2 } else { 0 };
                    if self.atomic_most < 2 {
                        self.way = Way::Single;
                    }
                    self.ask_again();
                }
                Remedy::Park => {
                    self.single_until = last;
                    self.ask_again();
                }
                Remedy::Stop => self.stop(text),
            };
        }
        if !self.is_expected(&answer) {
            return;
        }
        if answer.seq == 0 || answer.count != Some(count) {
            return self.ask_again();
        }
        self.last_under_filter = answer.seq;
        if let Some(local) = self.settle(count, None) {
            self.confirm(local, Some(answer.seq));
        }
        self.succeeded();
        self.session = Session::Ready;
    }
}
