//! The three ways of sending, each a file: start, what is on the way, answers.

pub(crate) mod atomic;
pub(crate) mod fast_ingest;
pub(crate) mod single;

use jetstream::store::StoredMessage;
use subject::Transform;

use crate::buffer::SendBuffer;
use crate::headers::{Conditions, Stamp};
use crate::identity::Incarnations;

/// A message sent and not answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub(crate) local: u64,
    pub(crate) bytes: u64,
    pub(crate) sent_ms: u64,
}

/// What became of composing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Composed {
    /// In the buffer, with its bytes on the wire.
    Written(u64),
    /// Headers and body exceed what the hub takes: sending it would close the link.
    TooLarge,
    /// The transform does not cover its subject.
    NoSubject,
}

/// What every message of a forward is made with.
#[derive(Clone, Copy)]
pub(crate) struct Composer<'a> {
    pub(crate) stamp: &'a Stamp,
    pub(crate) transform: &'a Transform,
    pub(crate) incarnations: &'a Incarnations,
    pub(crate) max_payload: u64,
}

impl Composer<'_> {
    pub(crate) fn write(
        &self,
        buffer: &mut SendBuffer,
        message: &StoredMessage<'_>,
        conditions: Conditions<'_>,
        reply: impl FnOnce(&mut Vec<u8>),
    ) -> Composed {
        if !self.transform.apply(message.subject, message.sequence.0, buffer.begin()) {
            buffer.abandon();
            return Composed::NoSubject;
        }
        reply(buffer.reply());
        self.stamp.write(buffer.headers(), message, self.incarnations, conditions);
        buffer.payload().extend_from_slice(message.payload);
        if buffer.open_size() as u64 > self.max_payload {
            buffer.abandon();
            return Composed::TooLarge;
        }
        Composed::Written(buffer.finish())
    }
}
