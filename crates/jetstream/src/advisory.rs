//! What happened, for whoever listens on `$JS.EVENT.>`: facts without text. The broker gives them names, a time and a subject, and only when
//! somebody wants to know.
//!
//! To tell something, push [`crate::command::Event::Advisory`]; what is told of a stream or consumer stands between its coming up and its going down.

use crate::identity::{ConsumerId, Sequence, StreamId, Timestamp};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advisory {
    /// A stream was made, changed or deleted.
    Stream {
        /// Which.
        stream: StreamId,
        /// What of it.
        action: Action,
    },
    /// A batch of a stream will never be stored.
    BatchAbandoned {
        /// The stream.
        stream: StreamId,
        /// The batch's id.
        batch: Box<str>,
        /// Why.
        reason: Abandoned,
    },
    /// A consumer was made or deleted.
    Consumer {
        /// Which.
        consumer: ConsumerId,
        /// What of it.
        action: Action,
    },
    /// A consumer delivers nothing before a time, or goes on.
    Paused {
        /// Which.
        consumer: ConsumerId,
        /// Until then.
        until: Option<Timestamp>,
        /// That time is still to come.
        is_paused: bool,
    },
    /// A priority group has a client that gets all messages.
    Pinned {
        /// The group's consumer.
        consumer: ConsumerId,
        /// The group.
        group: Box<str>,
        /// The client's new name.
        pin: Box<str>,
    },
    /// It has it no more.
    Unpinned {
        /// The group's consumer.
        consumer: ConsumerId,
        /// The group.
        group: Box<str>,
        /// Why.
        reason: Unpinned,
    },
    /// Something about one message of a consumer.
    Delivery {
        /// The consumer.
        consumer: ConsumerId,
        /// What.
        what: DeliveryFact,
        /// The message's sequence in the stream.
        sequence: Sequence,
        /// The delivery's sequence in the consumer.
        consumer_sequence: u64,
        /// How often it was delivered.
        deliveries: u64,
    },
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was made.
    Create,
    /// It was changed.
    Modify,
    /// It was deleted.
    Delete,
}

/// Why a batch was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// Nothing came for too long.
    Timeout,
    /// It was too large.
    Large,
    /// Some of it was missing.
    Incomplete,
    /// The stream does not take it.
    Unsupported,
}

/// Why a client is pinned no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpinned {
    /// Somebody asked for it.
    Admin,
    /// It was silent for too long.
    Timeout,
}

/// What is told of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryFact {
    /// It was delivered as often as may be.
    Exceeded,
    /// The client said `-NAK`.
    Refused,
    /// The client said `+TERM`, and perhaps why.
    Terminated {
        /// Its words.
        reason: Box<str>,
    },
    /// A sampled acknowledgement.
    Acknowledged {
        /// So long after the delivery, nanoseconds.
        after_ns: u64,
    },
}
