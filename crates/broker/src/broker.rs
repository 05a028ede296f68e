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
//! **How a kind of client plugs in.** It has a file of its own with its state (`struct …Client`, a variant of `Kind`) and functions on
//! `Broker`: `open_…` (its greeting), `received_…` (decode the complete frames of a slice, handle each, return [`Received`]), `closed_…` (what
//! its end means), `tick_…` (its deadline), `deliver_…` (a message for one of its subscriptions). The dispatch to them is in this file, one
//! call an arm. To send a message on it calls `publish(now, origin, account, &Message, out)`; for interest, `subscribe` and `unsubscribe`.
//!
//! Promises: no I/O, no clock; a frame is handled completely or not at all; bad input costs its sender its connection and nobody else
//! anything. Not here: sockets, TLS, WebSocket framing (the shell's), durability (the store thread's).

use std::collections::VecDeque;
use std::rc::Rc;

use crate::account::{Account, GLOBAL};
use crate::audience::Audiences;
use crate::capture::StoreSide;
use crate::connection::{Connections, Kind};
use crate::effect::{CloseReason, Effect, Notice};
use crate::identity::{ConnectionId, Now};
use crate::leaf::LocalInterest;
use crate::mqtt_client::MqttSide;
use crate::origins::OriginSide;
use crate::outbox::{Frame, Outbox, OutboxLimits, Traffic};
use crate::plan::PlanCache;
use crate::pullers::Pullers;
use crate::routing::Random;
use crate::settings::Settings;
use crate::snapshots::Snapshots;
use crate::subscription::{Interest, NewSubscription, Subscription, SubscriptionId, Subscriptions};
use crate::timers::Timers;

/// What the shell knows of a connection when it opens.
#[derive(Clone, Debug)]
pub struct NewConnection {
    /// What it speaks.
    pub protocol: Protocol,
    /// What carries it.
    pub transport: Transport,
    /// Who is at the other end.
    pub peer: core::net::SocketAddr,
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
    /// Do not read (and do not call again) until [`Effect::WakeReader`].
    pub pause: bool,
}

/// Refused by [`Broker::open`]; the shell closes the socket after writing [`Broker::farewell`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `max_connections`.
    #[error("maximum connections exceeded")]
    TooManyConnections,
}

/// A slot that no connection gets, for internal subscriptions.
pub(crate) const INTERNAL_SLOT: u32 = ConnectionId::MAX_SLOTS as u32 - 1;

/// See the module.
#[derive(Debug)]
pub struct Broker {
    pub(crate) settings: Settings,
    pub(crate) limits: nats_proto::client::Limits,
    core: u8,
    pub(crate) accounts: Vec<Account>,
    pub(crate) connections: Connections,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) plans: PlanCache,
    pub(crate) store: StoreSide,
    pub(crate) audiences: Audiences,
    pub(crate) pullers: Pullers,
    pub(crate) origins: OriginSide,
    /// Requests that end consumers which are not wanted any more.
    pub(crate) origins_farewells: Vec<String>,
    pub(crate) snapshots: Snapshots,
    pub(crate) mqtt: MqttSide,
    timers: Timers,
    /// When the outbox's idle buffers were last trimmed.
    trimmed: u64,
    pub(crate) random: Random,
    pub(crate) counters: Counters,
    /// Subscriptions that reached their `max` in the publish being routed.
    pub(crate) exhausted: Vec<SubscriptionId>,
    /// Leaf links that get the message being routed: slot and subscription.
    pub(crate) leaf_picks: Vec<(u32, SubscriptionId)>,
    /// Connections with permissions.
    pub(crate) restricted: usize,
    /// Slots of those that may answer the message being routed.
    pub(crate) asked: Vec<u32>,
    /// Leaf links that are up.
    pub(crate) links: Vec<ConnectionId>,
    pub(crate) local_interest: LocalInterest,
    /// When a link was last closed because of a loop, microseconds; 0: never.
    pub(crate) loop_broken: u64,
    pub(crate) notices: VecDeque<Notice>,
    /// Buffers kept for their memory.
    pub(crate) tail: Vec<u8>,
    pub(crate) prefix: Vec<u8>,
    pub(crate) json: Vec<u8>,
}

/// Idle buffers are halved so often.
const TRIM_MICROS: u64 = 1_000_000;

/// Totals for `/varz`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections since the start.
    pub total_connections: u64,
    /// Messages received of clients of all kinds.
    pub received: Traffic,
    /// Connections closed because they read too slowly.
    pub slow_consumers: u64,
    /// Connections closed because they did not answer pings.
    pub stale_connections: u64,
    /// Of MQTT clients.
    pub mqtt: MqttCounters,
}

/// What did not go as an MQTT client may have expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MqttCounters {
    /// Messages with the RETAIN flag, which were delivered and not kept.
    pub not_retained: u64,
    /// Publishes of quality 2, each of which cost its connection.
    pub refused_quality: u64,
    /// Publishes to the broker's own topics, acknowledged and dropped.
    pub reserved_topics: u64,
    /// Publishes to subjects that the user may not publish to, acknowledged and dropped.
    pub denied: u64,
    /// Publishes that the store refused.
    pub refused: u64,
    /// Deliveries that were not made because the subject has no topic.
    pub no_topic: u64,
    /// Rows of stored sessions that could not be read at start.
    pub damaged_sessions: u64,
    /// Deliveries dropped because the client did not keep up.
    pub dropped: u64,
}

impl Broker {
    /// A broker without connections. `seed` drives all its choices (queue group members, hash seeds).
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Broker {
        let limits = nats_proto::client::Limits {
            max_control_line: settings.max_control_line,
            max_payload: settings.max_payload,
            headers: true,
        };
        let mut broker = Broker {
            limits,
            core: 0,
            accounts: vec![Account::new("$G", seed)],
            connections: Connections::default(),
            subscriptions: Subscriptions::default(),
            plans: PlanCache::new(seed),
            store: StoreSide::default(),
            audiences: Audiences::default(),
            pullers: Pullers::default(),
            origins: OriginSide::default(),
            origins_farewells: Vec::new(),
            snapshots: Snapshots::default(),
            mqtt: MqttSide::default(),
            timers: Timers::default(),
            trimmed: 0,
            random: Random::new(seed),
            counters: Counters::default(),
            exhausted: Vec::new(),
            leaf_picks: Vec::new(),
            restricted: 0,
            asked: Vec::new(),
            links: Vec::new(),
            local_interest: LocalInterest::default(),
            loop_broken: 0,
            notices: VecDeque::new(),
            tail: Vec::new(),
            prefix: Vec::new(),
            json: Vec::new(),
            settings,
        };
        broker.open_jetstream();
        broker.open_user_info();
        broker
    }

    /// An outbox with the limits of these settings.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        let limits = OutboxLimits {
            budget: self.settings.memory_budget,
            max_pending: self.settings.max_pending,
            write_deadline: self.settings.write_deadline.as_micros() as u64,
        };
        Outbox::new(self.core, limits)
    }

    /// The settings it runs with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Totals.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A connection was accepted (or a leaf link dialled): greets it.
    ///
    /// # Errors
    /// When there are too many; what the peer is to be told is [`Broker::farewell`].
    pub fn open(&mut self, now: Now, new: &NewConnection, out: &mut Outbox) -> Result<ConnectionId, Refusal> {
        if self.connections.len() >= self.settings.max_connections.min(ConnectionId::MAX_SLOTS) {
            return Err(Refusal::TooManyConnections);
        }
        let id = self.connections.reserve(self.core);
        self.counters.total_connections += 1;
        let number = self.counters.total_connections;
        out.open(id);
        match new.protocol {
            Protocol::Nats => self.open_nats(now, id, number, new, out),
            Protocol::Mqtt => self.open_mqtt(now, id, number, new),
            Protocol::Leaf => self.open_leaf(now, id, number, new),
        }
        Ok(id)
    }

    /// What a refused peer is sent before its socket is closed: as with nats-server, the error follows right after INFO.
    #[must_use]
    pub fn farewell(&self, new: &NewConnection) -> Vec<u8> {
        if new.protocol != Protocol::Nats {
            return Vec::new();
        }
        let mut bytes = crate::connect::info(&self.settings, 0, new);
        nats_proto::refusal::Refusal::MaximumConnections.encode(&mut bytes);
        bytes
    }

    /// Bytes arrived, behind those that an earlier call left.
    #[inline]
    pub fn received(&mut self, now: Now, id: ConnectionId, bytes: &[u8], out: &mut Outbox) -> Received {
        self.received_in(now, id, bytes, None, out)
    }

    /// A frame over 64 KiB arrived, in a buffer of its own: what others get of it is shared, not copied.
    pub fn received_frame(&mut self, now: Now, id: ConnectionId, frame: &Rc<Frame>, out: &mut Outbox) -> Received {
        self.received_in(now, id, frame.bytes(), Some(frame), out)
    }

    #[inline]
    fn received_in(
        &mut self,
        now: Now,
        id: ConnectionId,
        bytes: &[u8],
        frame: Option<&Rc<Frame>>,
        out: &mut Outbox,
    ) -> Received {
        let ignored = Received { used: bytes.len(), ..Received::default() };
        let Some(connection) = self.connections.entry_mut(id).filter(|connection| !connection.closing) else {
            return ignored;
        };
        connection.last_activity = now.micros;
        match &connection.kind {
            Kind::Nats(_) => self.received_nats(now, id, bytes, frame, out),
            Kind::Mqtt(_) => self.received_mqtt(now, id, bytes, frame, out),
            Kind::Leaf(_) => self.received_leaf(now, id, bytes, out),
        }
    }

    /// Bytes came of a frame that the shell keeps until all of it is there: the peer is alive.
    pub fn received_part(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.entry_mut(id) else { return };
        connection.last_activity = now.micros;
        if matches!(connection.kind, Kind::Leaf(_)) {
            self.leaf_is_receiving(now, id, false);
        }
    }

    /// The connection is gone.
    pub fn closed(&mut self, now: Now, id: ConnectionId, reason: CloseReason, out: &mut Outbox) {
        let Some(connection) = self.connections.remove(id) else { return };
        out.close(id);
        self.restricted -= usize::from(connection.allowance.is_some());
        self.timers.set(id, connection.deadline, 0);
        match reason {
            CloseReason::SlowConsumerPendingBytes
            | CloseReason::SlowConsumerWriteDeadline
            | CloseReason::OutOfMemory => {
                self.counters.slow_consumers += 1;
            }
            CloseReason::StaleConnection => self.counters.stale_connections += 1,
            _ => {}
        }
        match connection.kind {
            Kind::Nats(client) => {
                for subscription in client.subscriptions.ids() {
                    self.unsubscribe(subscription);
                }
            }
            Kind::Mqtt(client) => self.closed_mqtt(now, id, *client, out),
            Kind::Leaf(link) => self.closed_leaf(id, *link, reason, out),
        }
    }

    /// When [`Broker::tick`] is to be called, in microseconds of [`Now::micros`].
    #[must_use]
    pub fn poll_timeout(&self, out: &Outbox) -> Option<u64> {
        let pulled = [self.pullers.poll_timeout(), self.origins.poll_timeout()];
        let sides = [self.store.poll_timeout(), self.mqtt.poll_timeout()].into_iter().chain(pulled);
        sides.chain([self.timers.first(), out.poll_timeout(), self.snapshots.poll_timeout()]).flatten().min()
    }

    /// Handles the deadlines that have passed.
    pub fn tick(&mut self, now: Now, out: &mut Outbox) {
        while let Some(id) = self.timers.pop(now.micros) {
            let Some(connection) = self.connections.entry_mut(id) else { continue };
            connection.deadline = 0;
            if connection.closing {
                continue;
            }
            match connection.kind {
                Kind::Nats(_) => self.tick_nats(now, id, out),
                Kind::Mqtt(_) => self.tick_mqtt(now, id, out),
                // Judged by `uplink`.
                Kind::Leaf(_) => {}
            }
        }
        self.tick_store(now, out);
        self.tick_pullers(now, out);
        self.tick_origins(now, out);
        self.tick_snapshots(now, out);
        self.tick_crowding(now, out);
        out.tick(now.micros);
        if now.micros.saturating_sub(self.trimmed) >= TRIM_MICROS {
            self.trimmed = now.micros;
            out.trim();
        }
    }

    /// A password was compared, see [`Effect::CheckPassword`].
    pub fn authenticated(&mut self, now: Now, id: ConnectionId, correct: bool, out: &mut Outbox) {
        match self.connections.entry(id).map(|connection| &connection.kind) {
            Some(Kind::Nats(_)) => self.nats_authenticated(now, id, correct, out),
            Some(Kind::Mqtt(_)) => self.mqtt_authenticated(now, id, correct, out),
            Some(Kind::Leaf(_)) | None => {}
        }
    }

    /// An operator, or the server's end, closes a connection.
    pub fn close(&mut self, id: ConnectionId, reason: CloseReason, out: &mut Outbox) {
        if let Some(connection) = self.connections.entry_mut(id).filter(|connection| !connection.closing) {
            connection.closing = true;
            out.effect(Effect::Close { id, reason });
        }
    }

    /// Tells every client to look for another server; connections stay until the shell closes them.
    pub fn become_lame_duck(&mut self, out: &mut Outbox) {
        let ids: Vec<ConnectionId> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            self.announce_lame_duck(id, out);
        }
    }

    /// The next thing that the gateway's own engines must know.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Is there one?
    #[must_use]
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// A subscription of the gateway's own engine: its messages become [`Notice::Message`]s with this number.
    pub fn subscribe_internally(&mut self, filter: subject::Filter, number: u32) -> SubscriptionId {
        let interest = Interest::Internal(number);
        let nobody = ConnectionId::new(self.core, INTERNAL_SLOT, 0);
        self.subscribe(nobody, GLOBAL, NewSubscription { filter, queue: None, interest, token: Box::default() })
    }

    /// Ends a subscription of the gateway's own engine.
    pub fn unsubscribe_internally(&mut self, id: SubscriptionId) {
        self.unsubscribe(id);
    }

    // ---- for the client kinds

    /// Moves a connection's deadline (microseconds; 0: none).
    pub(crate) fn set_deadline(&mut self, id: ConnectionId, deadline: u64) {
        if let Some(connection) = self.connections.entry_mut(id) {
            self.timers.set(id, connection.deadline, deadline);
            connection.deadline = deadline;
        }
    }

    /// Counts what a call to [`Broker::received`] brought.
    pub(crate) fn count_received(&mut self, id: ConnectionId, traffic: Traffic) {
        self.counters.received.messages += traffic.messages;
        self.counters.received.bytes += traffic.bytes;
        if let Some(connection) = self.connections.entry_mut(id) {
            connection.received.messages += traffic.messages;
            connection.received.bytes += traffic.bytes;
        }
    }

    /// A subscription was removed from the tables: its connection's own list follows.
    pub(crate) fn forget_subscription(&mut self, id: SubscriptionId, removed: &Subscription) {
        if matches!(removed.interest, Interest::Client { .. }) {
            self.forget_nats_subscription(id, removed);
        }
    }
}
