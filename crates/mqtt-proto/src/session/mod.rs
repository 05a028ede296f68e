//! One client's session: what the standard says of packet identifiers, acknowledgements and subscriptions.
//!
//! Pure state, the same for both versions: nothing is stored or sent here. The broker asks what a packet means, commits
//! what has to be stable, and then sends. What must be durable *before* an answer leaves is said at each outcome; the
//! durable form of a session is in [`record`](crate::record).
//!
//! ```text
//! outbound (to the client)                       inbound (from the client)
//!   QoS 1  PUBLISH ─▶ PUBACK ─▶ settled            QoS 1  PUBLISH ─▶ commit ─▶ PUBACK
//!   QoS 2  PUBLISH ─▶ PUBREC ─▶ commit             QoS 2  PUBLISH ─▶ commit ─▶ PUBREC
//!            ─▶ PUBREL ─▶ PUBCOMP ─▶ settled                PUBREL ─▶ commit ─▶ PUBCOMP
//! ```

pub mod expiry;
pub mod inbound;
pub mod keep_alive;
pub mod outbound;
pub mod subscriptions;

pub use expiry::{ExpiryError, SessionExpiry, will_due};
pub use inbound::{Arrival, Inbound, PubrelOutcome, ReceiveMaximumExceeded};
pub use keep_alive::KeepAlive;
pub use outbound::{Outbound, PubackOutcome, PubcompOutcome, PubrecOutcome, Resend, WrongKind};
pub use subscriptions::{Grant, MergedGrant, Subscriptions};

/// The protocol state of a session. It outlives its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Messages on their way to the client.
    pub outbound: Outbound,
    /// Messages on their way from the client.
    pub inbound: Inbound,
    /// What the client is subscribed to.
    pub subscriptions: Subscriptions,
    /// When the session ends after its connection.
    pub expiry: SessionExpiry,
}

impl Session {
    /// A new session, not connected. `next_position` is 0, or what the record of an earlier life says.
    pub fn new(next_position: u64, expiry: SessionExpiry) -> Self {
        Self {
            outbound: Outbound::new(next_position),
            inbound: Inbound::new(),
            subscriptions: Subscriptions::new(),
            expiry,
        }
    }

    /// A connection takes the session up: what was unacknowledged is to be sent again, before anything new.
    /// `[MQTT-4.4.0-1]`
    ///
    /// `outbound_window` is the client's Receive Maximum (3.1.1: `max_inflight`), `inbound_maximum` the one we
    /// advertise.
    pub fn attach(&mut self, outbound_window: u16, inbound_maximum: u16, expiry: SessionExpiry) {
        self.outbound.attach(outbound_window);
        self.inbound.attach(inbound_maximum);
        self.expiry = expiry;
    }

    /// The connection ended. Acknowledgements that were due on it are not sent any more.
    pub fn detach(&mut self) {
        self.outbound.detach();
        self.inbound.detach();
    }
}
