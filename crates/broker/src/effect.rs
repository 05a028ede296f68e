//! Rare outputs of the broker. Bytes are no effects: they go to the connections' buffers in the [`crate::Outbox`].

use crate::account::ServiceId;
use crate::identity::ConnectionId;

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write what is pending (once, without waiting for a peer that does not read), then close the socket and call
    /// [`crate::Broker::closed`].
    Close {
        /// Which connection.
        id: ConnectionId,
        /// Why, for the log and `/connz?state=closed`.
        reason: CloseReason,
    },
    /// Read again from a connection that was told to pause.
    WakeReader {
        /// Which connection.
        id: ConnectionId,
    },
    /// Tell the operator, once per connection, what a client asks for and does not get.
    Warn {
        /// Whose client.
        id: ConnectionId,
        /// The sentence.
        text: &'static str,
    },
    /// A request came for a service of the shell, see [`crate::Broker::serve`]. The answer is published with [`crate::Broker::answer`].
    Request {
        /// Which.
        service: ServiceId,
        /// What it was sent to.
        subject: Box<[u8]>,
        /// Where the answer goes; empty: nowhere.
        reply: Box<[u8]>,
        /// The request.
        payload: Box<[u8]>,
    },
    /// Compare a password with a bcrypt hash on the helper thread, then call [`crate::Broker::authenticated`]. The queue of these is
    /// bounded by the shell; when it is full there is no answer, and the time in which a client must authenticate ends it.
    CheckPassword {
        /// Who waits.
        id: ConnectionId,
        /// What the client sent.
        password: Box<[u8]>,
        /// The `$2a$…` hash of the configuration.
        hash: Box<str>,
    },
}

/// What the gateway's own engines (dialler, forwards) must know. Taken with [`crate::Broker::next_notice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A leaf link is gone.
    LeafClosed {
        /// Which one.
        id: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
    /// The hub sent INFO on a link that is up.
    LeafInfo {
        /// Which link.
        id: ConnectionId,
        /// Its JSON, unchecked.
        json: Box<[u8]>,
    },
    /// The hub sent `-ERR`, or we found a loop: the pause before the next dial depends on the text.
    LeafError {
        /// Which link.
        id: ConnectionId,
        /// Without quotes.
        text: String,
    },
    /// The hub answered our PING.
    LeafPong {
        /// Which link.
        id: ConnectionId,
        /// After so long.
        round_trip_micros: u32,
    },
    /// A link came up, or what its hub wants changed.
    HubInterest {
        /// Which link.
        id: ConnectionId,
    },
    /// A message for a hub's source or mirror is larger than the hub takes: it is not sent, and nothing behind it.
    TooLarge {
        /// Which link.
        id: ConnectionId,
        /// The message's `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.…`.
        ack_subject: Box<[u8]>,
        /// Bytes of headers and body.
        size: usize,
        /// How many the hub takes.
        largest: usize,
    },
    /// A message for an internal subscription.
    Message {
        /// The number it was made with.
        subscription: u32,
        /// Where it was published.
        subject: Box<[u8]>,
        /// Header block or empty.
        headers: Box<[u8]>,
        /// Body.
        payload: Box<[u8]>,
    },
}

/// Why a connection ends; the texts are those of nats-server's `/connz` and disconnect events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// The peer closed it.
    ClientClosed,
    /// It did not send CONNECT in time.
    AuthenticationTimeout,
    /// Its credentials are wrong.
    AuthenticationFailure,
    /// It did not answer pings.
    StaleConnection,
    /// It does not speak the protocol.
    ProtocolViolation,
    /// A payload was larger than allowed.
    MaxPayloadExceeded,
    /// A control line was longer than allowed.
    MaxControlLineExceeded,
    /// Too many connections.
    MaxConnectionsExceeded,
    /// An MQTT client published with quality of service 2, which is not served yet.
    QualityNotServed,
    /// The store refused a publish of an MQTT client, which has no other way to learn of it.
    PublishRefused,
    /// More was pending for it than allowed.
    SlowConsumerPendingBytes,
    /// It took nothing for the write deadline.
    SlowConsumerWriteDeadline,
    /// The memory of all connections was used up, and it held most.
    OutOfMemory,
    /// An MQTT session was taken over by another connection.
    DuplicateClient,
    /// An operator closed it.
    Kicked,
    /// The server stops.
    ServerShutdown,
    /// Reading failed.
    ReadError,
    /// Writing failed.
    WriteError,
    /// TLS could not be agreed on.
    TlsHandshakeError,
}

impl CloseReason {
    /// As `/connz` shows it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            CloseReason::ClientClosed => "Client Closed",
            CloseReason::AuthenticationTimeout => "Authentication Timeout",
            CloseReason::AuthenticationFailure => "Authentication Failure",
            CloseReason::StaleConnection => "Stale Connection",
            CloseReason::ProtocolViolation => "Protocol Violation",
            CloseReason::MaxPayloadExceeded => "Maximum Message Payload Exceeded",
            CloseReason::MaxControlLineExceeded => "Maximum Control Line Exceeded",
            CloseReason::MaxConnectionsExceeded => "Maximum Connections Exceeded",
            CloseReason::QualityNotServed => "MQTT QoS 2 Publish Rejected",
            CloseReason::PublishRefused => "MQTT Publish Refused By Store",
            CloseReason::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            CloseReason::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            CloseReason::OutOfMemory => "Slow Consumer (Memory Budget)",
            CloseReason::DuplicateClient => "Duplicate Client ID",
            CloseReason::Kicked => "Kicked",
            CloseReason::ServerShutdown => "Server Shutdown",
            CloseReason::ReadError => "Read Error",
            CloseReason::WriteError => "Write Error",
            CloseReason::TlsHandshakeError => "TLS Handshake Failure",
        }
    }
}
