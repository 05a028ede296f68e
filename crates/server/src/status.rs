//! How the process is doing, as plain data: what the gateway knows and monitoring shows.
//!
//! The gateway fills one [`Status`] behind a [`SharedStatus`]; `/varz`, `/leafz`, `/healthz`, `/metrics` and the `status` command read it. Times
//! are monotonic microseconds of the core's clock ([`Report::now_micros`] says which is now); nothing here is a secret.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use broker::ConnectionId;
use serde::{Deserialize, Serialize};

/// The one copy on the core thread. Never borrowed across an await.
pub type SharedStatus = Rc<RefCell<Status>>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where the process is in its life.
    pub phase: Phase,
    /// When it started: monotonic microseconds.
    pub started_micros: u64,
    /// When it started: wall clock, nanoseconds since 1970.
    pub started_wall_ns: i64,
    /// When the configuration was loaded last, wall clock.
    pub config_loaded_wall_ns: i64,
    /// `sha256:…` of the configuration.
    pub config_digest: String,
    /// `server_tags`.
    pub tags: Vec<String>,
    /// Real addresses of the listeners that are up.
    pub listeners: Listeners,
    /// JetStream, if it is on.
    pub jetstream: Option<JetStreamFacts>,
    /// What is wrong with the store, a sentence; `None`: nothing.
    pub store_trouble: Option<String>,
    /// The store refuses publishes: its reserve is reached.
    pub store_full: bool,
    /// Leaf links, in the order of the configuration.
    pub links: Vec<LinkStatus>,
    /// Forwards, in the order of the configuration.
    pub forwards: Vec<ForwardStatus>,
    /// The forward of gap records, if there is one.
    pub gaps: Option<ForwardStatus>,
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The store is not open yet.
    #[default]
    Recovering,
    /// Everything is up.
    Serving,
    /// No new clients are taken.
    LameDuck,
    /// Connections are being closed.
    Stopping,
}

/// Listeners that are up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    /// NATS clients.
    pub client: Option<Listener>,
    /// MQTT.
    pub mqtt: Option<Listener>,
    /// WebSocket.
    pub websocket: Option<Listener>,
    /// Monitoring.
    pub http: Option<Listener>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Host as configured.
    pub host: String,
    /// The real port.
    pub port: u16,
    /// TLS is on.
    pub tls: bool,
    /// Clients must show a certificate.
    pub tls_verify: bool,
}

/// JetStream as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JetStreamFacts {
    /// Folder of the store.
    pub store_dir: String,
    /// `domain`.
    pub domain: Option<String>,
    /// `max_memory_store`, bytes; -1: no limit.
    pub max_memory: i64,
    /// `max_file_store`, bytes; -1: no limit.
    pub max_storage: i64,
    /// `limits.max_request_batch`; 0: no limit.
    #[serde(default)]
    pub max_request_batch: u64,
    /// `limits.max_ack_pending`; 0: no limit.
    #[serde(default)]
    pub max_ack_pending: u64,
    /// `limits.duplicate_window`, nanoseconds; 0: no limit.
    #[serde(default)]
    pub max_duplicate_window_ns: u64,
}

/// A leaf link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The address dialled now or next, without secrets.
    pub address: String,
    /// The hub answered and the link carries messages.
    pub up: bool,
    /// The phase in words: `up`, `dialling`, `TLS handshake`, `waiting to dial` and so on.
    pub phase: String,
    /// Since when it is in this phase.
    pub since_micros: u64,
    /// When it is dialled next, if it waits for that.
    pub next_dial_micros: Option<u64>,
    /// Dials since it was last up.
    pub attempts: u64,
    /// Times it was up.
    pub sessions: u64,
    /// What went wrong last, a sentence; kept while the link is up.
    pub last_error: Option<String>,
    /// Name of the hub, while up.
    pub peer_name: Option<String>,
    /// Version of the hub, while up.
    pub peer_version: Option<String>,
    /// JetStream domain of the hub, while up.
    pub peer_domain: Option<String>,
    /// A message for a source or mirror at the hub that the hub would not take, the last one since the start: a sentence.
    #[serde(default)]
    pub withheld: Option<String>,
    /// Round trip, microseconds, when known.
    pub rtt_micros: Option<u64>,
    /// The broker's connection, while up.
    #[serde(skip)]
    pub connection: Option<ConnectionId>,
}

/// A forward: a local stream on its way into a stream of the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardStatus {
    /// The local stream.
    pub stream: String,
    /// The stream at the hub.
    pub to: String,
    /// The state in words: `idle`, `sending`, `asking`, `link down`, `stopped` and so on.
    pub state: String,
    /// It is stopped by something that it can't mend by itself.
    pub stopped: bool,
    /// Why nothing flows, a sentence.
    pub reason: Option<String>,
    /// When it is tried again, if stopped.
    pub retry_micros: Option<u64>,
    /// Everything up to this local sequence is at the hub, or set aside.
    pub confirmed: u64,
    /// Last local sequence.
    pub last: u64,
    /// Sequence at the hub of what was confirmed last.
    pub hub_sequence: u64,
    /// Messages not confirmed.
    pub backlog_messages: u64,
    /// Their bytes.
    pub backlog_bytes: u64,
    /// Age of the oldest of them, milliseconds; `None`: there is none, or it is not known.
    pub oldest_age_ms: Option<u64>,
    /// Sent and not answered.
    pub in_doubt: u64,
    /// Sent since the start, resent ones again.
    pub sent: u64,
    /// Confirmed since the start.
    pub delivered: u64,
    /// Set aside since the start.
    pub parked: u64,
    /// Refusals by the hub since the start.
    pub rejected: u64,
    /// Removed from the local stream before they were confirmed, since the start.
    pub dropped: u64,
    /// What is counted over restarts; `None`: not known yet.
    pub ledger: Option<LedgerStatus>,
    /// Why only "at least once" can be promised at the moment, sentences.
    pub at_least_once: Vec<String>,
    /// What happened that somebody should know, newest last.
    pub remarks: Vec<String>,
}

/// What became of a forwarded stream's messages since the forward began: `accepted = delivered + held + dropped`, all causes together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// Stored here.
    pub accepted: u64,
    /// Confirmed by the hub.
    pub delivered: u64,
    /// Here, and still to go.
    pub held: u64,
    /// Removed, or set aside, before they were delivered: by cause.
    pub dropped: BTreeMap<String, u64>,
}

/// What `GET /status` answers on the store folder's socket, and the `status` command prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `server_name`.
    pub server_name: String,
    /// Id of the server.
    pub server_id: String,
    /// Our own name and version.
    pub software: String,
    /// Process id.
    pub pid: u32,
    /// Now, in the times of `status`.
    pub now_micros: u64,
    /// See [`Status`].
    pub status: Status,
    /// Who is connected.
    pub connections: ConnectionCounts,
    /// The store's counters; `None` when it is off or did not answer in time.
    pub store: Option<StoreReport>,
    /// What streams here mirror and source.
    #[serde(default)]
    pub origins: Vec<OriginStatus>,
    /// Who mirrors and sources streams here; empty when the store did not answer in time.
    #[serde(default)]
    pub pulled: Vec<PulledStatus>,
}

/// An origin of a stream here: a stream that it mirrors or sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginStatus {
    /// The stream here.
    pub stream: String,
    /// The origin's name.
    pub origin: String,
    /// Where it is: `$JS.<domain>.API`; `None`: here.
    pub api: Option<String>,
    /// It is mirrored, not sourced.
    pub mirror: bool,
    /// `receiving`, `asking`, `waiting`, or `nobody answers`.
    pub state: String,
    /// Since when messages or heartbeats come, or do not.
    pub since_micros: u64,
    /// When it was last heard.
    pub heard_micros: Option<u64>,
    /// Messages behind.
    pub lag: u64,
    /// The last sequence of the origin that is stored here.
    pub sequence: u64,
    /// What was wrong last, a sentence; kept while it receives.
    pub last_error: Option<String>,
}

/// A hub, or a stream here, that mirrors or sources a stream of this gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledStatus {
    /// The stream here.
    pub stream: String,
    /// Its consumer.
    pub consumer: String,
    /// The stream there, if its server says it (from 2.14 on).
    pub to: Option<String>,
    /// The domain there, if it has one and says it.
    pub domain: Option<String>,
    /// Somebody listens.
    pub bound: bool,
    /// The last sequence that was sent.
    pub delivered: u64,
    /// Up to here it has confirmed; `None`: it was not asked to.
    pub confirmed: Option<u64>,
    /// Messages still to be sent.
    pub pending: u64,
}

/// Connections by what they speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionCounts {
    /// NATS over TCP or TLS.
    pub nats: u64,
    /// MQTT, also over WebSocket.
    pub mqtt: u64,
    /// NATS over WebSocket.
    pub websocket: u64,
    /// Leaf links.
    pub leaf: u64,
    /// Since the start, of all kinds.
    pub total: u64,
}

/// The store's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// Bytes of its files.
    pub used_bytes: u64,
    /// Bytes that may still be written above the reserved floor.
    pub available_bytes: u64,
    /// Streams, with what they hold.
    pub streams: Vec<StreamReport>,
    /// Messages that wait in queues of MQTT sessions.
    pub queued: u64,
    /// Messages dropped from queues of MQTT sessions.
    pub queue_dropped: u64,
}

/// A stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// Messages held.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// First sequence held.
    pub first: u64,
    /// Last sequence given.
    pub last: u64,
    /// Consumers on it.
    pub consumers: u64,
}
