//! One message, its answer, the next. Also how every link session begins: a plain publish checks the fence before the duplicate window,
//! and its PubAck names stream and domain.

use crate::answer::PublishAnswer;
use crate::buffer::SendBuffer;
use crate::headers::Conditions;
use crate::refusal::{Remedy, remedy};
use crate::sender::{Composed, Composer};
use crate::session::{Forward, Session};

/// A plain message on the way.
#[derive(Debug)]
pub(crate) struct Single {
    pub(crate) token: String,
    pub(crate) deadline: u64,
}

impl Forward {
    /// Sends the next message by itself. False when it was parked instead.
    pub(crate) fn send_single(&mut self, buffer: &mut SendBuffer) -> bool {
        let token = format!("p{}", self.next_id());
        let conditions = Conditions { fence: self.fence(), ..Conditions::default() };
        let max_payload = self.max_payload();
        let Some(message) = self.backlog.peek() else { return false };
        let composer = Composer {
            stamp: &self.stamp,
            transform: &self.config.transform,
            incarnations: &self.incarnations,
            max_payload,
        };
        let inbox = &self.config.inbox;
        let composed = composer.write(buffer, &message, conditions, |out| {
            out.extend_from_slice(inbox.as_bytes());
            out.push(b'.');
            out.extend_from_slice(token.as_bytes());
        });
        let local = message.sequence.0;
        match composed {
            Composed::Written(bytes) => {
                self.note_sent(local, bytes);
                self.session = Session::Single(Single { token, deadline: self.now_ms + self.config.timings.answer_ms });
                true
            }
            Composed::TooLarge => {
                self.park(format!("larger than the hub's max_payload of {max_payload} bytes"));
                false
            }
            Composed::NoSubject => {
                self.park("its subject is not covered by the forward's subject transform".into());
                false
            }
        }
    }

    /// The answer to the message on the way.
    pub(crate) fn single_answered(&mut self, payload: &[u8]) {
        let Some(answer) = PublishAnswer::decode(payload) else {
            return self.ask_again();
        };
        if let Some(failure) = &answer.error {
            self.rejected += 1;
            let text = format!("{} ({})", failure.description, failure.err_code);
            return match remedy(failure.code, failure.err_code) {
                Remedy::Park => {
                    self.take_back();
                    self.park(text);
                }
                Remedy::Retry => self.pause(text),
                Remedy::AskAgain => self.fence_refused(failure.err_code),
                Remedy::OtherWay | Remedy::Stop => self.stop(text),
            };
        }
        if !self.is_expected(&answer) {
            return;
        }
        if answer.seq == 0 {
            return self.ask_again(); // confirms nothing
        }
        if !answer.duplicate && answer.seq <= self.record.hub_sequence() {
            // The hub gave a sequence again: it lost its tail without telling (only possible without a fence).
            return self.ask_again();
        }
        if !answer.duplicate {
            self.last_under_filter = answer.seq;
        }
        if let Some(local) = self.settle(1, None) {
            self.backlog.advance();
            self.confirm(local, Some(answer.seq));
        }
        self.succeeded();
        self.session = Session::Ready;
    }

    /// The message on the way was refused: it is the next one again, and nothing is in flight.
    fn take_back(&mut self) {
        self.in_flight.clear();
        self.window.clear();
    }
}
