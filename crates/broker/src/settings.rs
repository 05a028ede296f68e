//! What the broker is told at its start: limits, names, who may connect. Checked by the configuration before it comes here.

use std::time::Duration;

use crate::authorization::Authorization;

/// Settings of one broker. The defaults are nats-server's where it has the key.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What INFO tells clients about this server.
    pub server: ServerIdentity,
    /// Who may connect as a NATS client.
    pub authorization: Authorization,
    /// Largest headers + payload of a message, bytes.
    pub max_payload: usize,
    /// Longest control line, bytes.
    pub max_control_line: usize,
    /// Most connections of all kinds.
    pub max_connections: usize,
    /// Most subscriptions of one connection; 0: no limit.
    pub max_subscriptions: usize,
    /// How long a connection may be silent before it is pinged.
    pub ping_interval: Duration,
    /// Unanswered pings before a connection is stale.
    pub ping_max: u32,
    /// How long a client may take to send CONNECT, where authorization is on.
    pub auth_timeout: Duration,
    /// How long a peer may take nothing of what is pending.
    pub write_deadline: Duration,
    /// Most bytes pending for one connection.
    pub max_pending: usize,
    /// Memory of all connections' buffers together, bytes.
    pub memory_budget: usize,
    /// Bytes of commands that may wait at the store; acknowledgements, pulls and API calls may use a quarter more.
    pub store_queue: usize,
    /// How long a client that publishes into a full store queue is not read, before it is refused with 10167.
    pub store_patience: Duration,
    /// Is JetStream on; its domain.
    pub jetstream: Option<JetStreamSettings>,
    /// MQTT clients.
    pub mqtt: MqttSettings,
    /// Are there leaf links.
    pub leafnodes: Option<LeafSettings>,
}

/// What is particular to MQTT clients.
#[derive(Clone, Debug)]
pub struct MqttSettings {
    /// Who may connect over MQTT (`mqtt { authorization { … } }`); `None`: the same as NATS clients.
    pub authorization: Option<Authorization>,
    /// From the accept to the last byte of CONNECT.
    pub connect_timeout: Duration,
    /// Most messages of quality 1 that a client is sent before it acknowledges one.
    pub max_inflight: u16,
    /// Most publishes of quality 1 of one client that wait for their commit; a client with more is not read for a while.
    pub max_receive: usize,
    /// Most filters of one client.
    pub max_filters: usize,
    /// Most bytes of the filters of one client: a stored session's are written with each change.
    pub max_filter_bytes: usize,
    /// Most stored sessions; a client beyond that is told "server unavailable".
    pub max_sessions: usize,
    /// Messages that a stored session's queue holds: the store drops the oldest beyond that, publishers are slowed down before.
    pub max_queued: usize,
    /// Most messages of quality 1 that wait in memory for a client with a clean session; what comes then is dropped and counted.
    pub max_waiting: usize,
    /// The same in bytes.
    pub max_waiting_bytes: usize,
    /// Bytes unsent beyond which messages of quality 0 are dropped for a client, and counted.
    pub max_unsent: usize,
    /// How long a client that publishes into a full store is not read, before it is closed without PUBACK.
    pub store_patience: Duration,
}

impl Default for MqttSettings {
    fn default() -> MqttSettings {
        MqttSettings {
            authorization: None,
            connect_timeout: Duration::from_secs(10),
            max_inflight: 20,
            max_receive: 4096,
            max_filters: 1024,
            max_filter_bytes: 64 * 1024,
            max_sessions: 65_536,
            max_queued: 1000,
            max_waiting: 1000,
            max_waiting_bytes: 1024 * 1024,
            max_unsent: 8 * 1024 * 1024,
            store_patience: Duration::from_secs(10),
        }
    }
}

/// Leaf links as the broker needs to know them.
#[derive(Clone, Debug, Default)]
pub struct LeafSettings {
    /// Random text that is announced as `$LDS.<token>` on every link: hearing it back is a loop. Never shared by two gateways.
    pub loop_token: Box<str>,
    /// Streams that forwards carry to the hub: what they capture, as they are at the moment, does not cross live as well.
    pub forwarded: Vec<Box<str>>,
    /// A hub's request that was lost while the link was down is answered, so that it asks again: see `pullers`.
    pub answer_lost_requests: bool,
}

/// What INFO says of the server.
#[derive(Clone, Debug, Default)]
pub struct ServerIdentity {
    /// `N…` key or other unique id.
    pub id: Box<str>,
    /// `server_name`.
    pub name: Box<str>,
    /// The nats-server version we are compatible with.
    pub version: Box<str>,
    /// Host as configured, for INFO.
    pub host: Box<str>,
    /// Port of the client listener.
    pub port: u16,
    /// Our own name and version, in fields of ours.
    pub software: Box<str>,
}

/// JetStream as the broker needs to know it.
#[derive(Clone, Debug, Default)]
pub struct JetStreamSettings {
    /// `domain`, if configured.
    pub domain: Option<Box<str>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            server: ServerIdentity {
                version: "2.15.1".into(),
                host: "0.0.0.0".into(),
                port: 4222,
                ..ServerIdentity::default()
            },
            authorization: Authorization::None,
            max_payload: 1024 * 1024,
            max_control_line: 4096,
            max_connections: 65_536,
            max_subscriptions: 0,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            auth_timeout: Duration::from_secs(2),
            write_deadline: Duration::from_secs(10),
            max_pending: 64 * 1024 * 1024,
            memory_budget: 32 * 1024 * 1024,
            store_queue: 4 * 1024 * 1024,
            // Long enough for a disk that stalls, well below the 5 s after which clients give a publish up.
            store_patience: Duration::from_secs(2),
            jetstream: None,
            mqtt: MqttSettings::default(),
            leafnodes: None,
        }
    }
}
