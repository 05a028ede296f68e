//! Messages that leave the store thread for subscribers and sessions.

use super::{Recipient, Span};
use crate::identity::SessionId;

/// Messages on their way to subscribers, in one arena.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// Bytes of all of them.
    pub arena: Vec<u8>,
    /// In order.
    pub entries: Vec<Delivery>,
}

/// One message on its way.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Who pays for it, and gets the credit back; `None` for status messages.
    pub from: Option<Recipient>,
    /// The subject it is routed by: an inbox. Empty for session queues.
    pub to: Span,
    /// The subject the subscriber sees. Equal to `to` for status messages.
    pub subject: Span,
    /// `reply [header-length] total CRLF headers payload CRLF`: what follows the subscription id on the wire, ready to be copied.
    pub tail: Span,
    /// Within `tail`: the ack subject (empty for status messages and session queues).
    pub reply: Span,
    /// Within `tail`: the header block.
    pub headers: Span,
    /// Within `tail`: the body.
    pub payload: Span,
    /// For session queues: position, quality of service, and whether it was sent before (DUP).
    pub queue: Option<QueuePlace>,
}

impl Delivery {
    /// What it takes from its recipient's credit, in bytes; [`crate::command::Command::Credit`] gives the same back when it has left the process, was dropped
    /// or found nobody.
    #[must_use]
    pub fn cost(&self) -> u32 {
        self.to.len + self.subject.len + self.tail.len
    }
}

/// Where in a session queue a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePlace {
    /// The session.
    pub session: SessionId,
    /// Position in the queue; the packet id is (position mod 65,535) + 1.
    pub position: u64,
    /// 1 or 2.
    pub quality: u8,
    /// It was sent on an earlier connection, as far as is known.
    pub resent: bool,
}
