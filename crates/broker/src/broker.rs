//! The broker: who is connected, and the calls through which everything reaches it.
//!
//! ```text
//!   socket ─ received(bytes) ─►  nats_client │ mqtt_client │ leaf     decode, the protocol's own state
//!                                      │ publish(origin, &Message)    ▲ subscribe / unsubscribe
//!                                      ▼
//!                                routing: subject → plan ─► connections' buffers (Outbox)
//!                                      │                 ─► capture: Command::Append ─► take_batch() ─► store thread
//!   store thread ─ committed(Turn) ────┘                 ─► jetstream_api, acks, services
//! ```
//!
//! **How a kind of client plugs in.** It has a file of its own with its state (`struct …Client`, a variant of [`Kind`]) and functions on
//! `Broker`: `open_…` (its greeting), `received_…` (decode the complete frames of a slice, handle each, return [`Received`]), `closed_…` (what
//! its end means), `tick_…` (its deadline), `deliver_…` (a message for one of its subscriptions). The dispatch to them is in this file, one
//! call an arm. To send a message on it calls `publish(now, origin, account, &Message, out)`; for interest, `subscribe` and `unsubscribe`.
//!
//! Promises: no I/O, no clock; a frame is handled completely or not at all; bad input costs its sender its connection and nobody else
//! anything. Not here: sockets, TLS, WebSocket framing (the shell's), durability (the store thread's).

use crate::effect::CloseReason;
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;
use crate::settings::Settings;

/// What the shell knows of a connection when it opens.
#[derive(Clone, Debug)]
pub struct NewConnection {
    /// What it speaks.
    pub protocol: Protocol,
    /// What carries it.
    pub transport: Transport,
    /// Who is at the other end.
    pub peer: std::net::SocketAddr,
    /// What INFO says of TLS on this listener.
    pub tls: TlsFacts,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// NATS clients.
    Nats,
    /// MQTT 3.1.1 and 5.
    Mqtt,
    /// A leaf link that we dialled.
    Leaf,
}

/// What carries a connection, for `/connz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// WebSocket over TCP or TLS.
    WebSocket,
    /// In the process.
    Internal,
}

/// TLS as INFO tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// The client must (or did) upgrade.
    pub required: bool,
    /// It must show a certificate.
    pub verify: bool,
    /// It may upgrade.
    pub available: bool,
}

/// What became of a slice of input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes handled; the rest begins with an unfinished frame, or was left because of `pause` or because the [`Outbox`] wants a flush first
    /// ([`Outbox::wants_flush`]): then call again with the rest after flushing.
    pub used: usize,
    /// Length of the unfinished frame as far as it is known; 0 when unknown or when nothing is left.
    pub need: usize,
    /// Do not read (and do not call again) until [`crate::Effect::WakeReader`].
    pub pause: bool,
}

/// Refused by [`Broker::open`]; the shell closes the socket after writing [`Refusal::farewell`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `max_connections`.
    #[error("maximum connections exceeded")]
    TooManyConnections,
}

/// See the module.
#[derive(Debug)]
pub struct Broker {
    settings: Settings,
}

impl Broker {
    /// A broker without connections. `seed` drives all its choices (queue group members, hash seeds).
    #[must_use]
    pub fn new(settings: Settings, _seed: u64) -> Broker {
        Broker { settings }
    }

    /// The settings it runs with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A connection was accepted (or a leaf link dialled): greets it.
    ///
    /// # Errors
    /// When there are too many.
    pub fn open(&mut self, _now: Now, _connection: &NewConnection, _out: &mut Outbox) -> Result<ConnectionId, Refusal> {
        Err(Refusal::TooManyConnections)
    }

    /// Bytes arrived, behind those that an earlier call left.
    pub fn received(&mut self, _now: Now, _id: ConnectionId, _bytes: &[u8], _out: &mut Outbox) -> Received {
        Received::default()
    }

    /// The connection is gone.
    pub fn closed(&mut self, _now: Now, _id: ConnectionId, _reason: CloseReason, _out: &mut Outbox) {}

    /// When [`Broker::tick`] is to be called, in microseconds of [`Now::micros`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        None
    }

    /// Handles the deadlines that have passed.
    pub fn tick(&mut self, _now: Now, _out: &mut Outbox) {}

    /// A password was compared, see [`crate::Effect::CheckPassword`].
    pub fn authenticated(&mut self, _now: Now, _id: ConnectionId, _correct: bool, _out: &mut Outbox) {}

    /// The commands for the store thread since the last call, if any, and if it has room for more.
    pub fn take_batch(&mut self) -> Option<jetstream::command::Batch> {
        None
    }

    /// The store thread finished a turn. Takes what it holds; the rest (emptied buffers) may be used again.
    pub fn committed(&mut self, _now: Now, _turn: &mut jetstream::command::Turn, _out: &mut Outbox) {}
}
