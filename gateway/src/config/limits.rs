//! Limits and deadlines: nats-server's own, and our budgets of memory.

use std::time::Duration;

use nats_conf::{Block, Field, Report};

/// Limits and deadlines of NATS clients: nats-server's keys at the top level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLimits {
    /// `max_connections`. Default: 65,536; none when -1 or 0.
    pub max_connections: Option<u64>,
    /// `max_subscriptions` of a connection. Default: none (-1 or 0).
    pub max_subscriptions: Option<u64>,
    /// `max_payload`, bytes. Default: 1 MiB, at most 64 MiB.
    pub max_payload: u64,
    /// `max_pending`: unsent bytes that close a slow consumer. Default: 64 MiB.
    pub max_pending: u64,
    /// `max_control_line`, bytes. Default: 4,096.
    pub max_control_line: u32,
    /// `ping_interval`. Default: 2 minutes.
    pub ping_interval: Duration,
    /// `ping_max`: unanswered pings. Default: 2.
    pub ping_max: u32,
    /// `write_deadline`. Default: 10 s.
    pub write_deadline: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            max_connections: Some(65_536),
            max_subscriptions: None,
            max_payload: 1 << 20,
            max_pending: 64 << 20,
            max_control_line: 4096,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            write_deadline: Duration::from_secs(10),
        }
    }
}

/// Stock accepts payloads up to 2 GiB and warns above 8 MiB; here a message has to fit the memory budget.
const LARGEST_PAYLOAD: u64 = 64 << 20;

/// How connections are closed in lame duck mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LameDuck {
    /// `lame_duck_duration`. Default: 2 minutes, at least 30 s.
    pub duration: Duration,
    /// `lame_duck_grace_period` before the first is closed. Default: 10 s, shorter than the duration.
    pub grace: Duration,
}

impl Default for LameDuck {
    fn default() -> Self {
        Self { duration: Duration::from_secs(120), grace: Duration::from_secs(10) }
    }
}

/// Our block `limits`: budgets of memory, all in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLimits {
    /// `connection_memory`: buffers of all connections together. Default: 32 MiB, at least 1 MiB.
    pub connection_memory: u64,
    /// `store_queue`: commands that wait for the store. Default: 8 MiB, at least 1 MiB.
    pub store_queue: u64,
    /// `store_cache`: pages of the database in memory. Default: 4 MiB, at least 256 KiB.
    pub store_cache: u64,
    /// `delivery_credit`: unsent bytes of one JetStream delivery session. Default: 256 KiB, at least 16 KiB.
    pub delivery_credit: u64,
    /// `max_streams`. Default: 1,000, our own not counted.
    pub max_streams: u64,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            connection_memory: 32 << 20,
            store_queue: 8 << 20,
            store_cache: 4 << 20,
            delivery_credit: 256 << 10,
            max_streams: 1000,
        }
    }
}

/// Our block `mqtt_limits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttLimits {
    /// `max_inflight`: unacknowledged messages of a session towards the client. Default: 20, at most 65,535.
    pub max_inflight: u16,
    /// `max_queued_messages` of a session. Default: 1,000.
    pub max_queued_messages: u64,
    /// `max_queued_bytes` of a session. Default: 16 MiB.
    pub max_queued_bytes: u64,
    /// `connect_timeout`: from accepting a connection to the last byte of CONNECT. Default: 10 s.
    pub connect_timeout: Duration,
    /// `max_sessions`, connected or stored. Default: 10,000.
    pub max_sessions: u64,
}

impl Default for MqttLimits {
    fn default() -> Self {
        Self {
            max_inflight: 20,
            max_queued_messages: 1000,
            max_queued_bytes: 16 << 20,
            connect_timeout: Duration::from_secs(10),
            max_sessions: 10_000,
        }
    }
}

/// Puts a value where it belongs; nothing when it was wrong and has been reported.
pub(super) fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// A duration that has to be more than nothing.
pub(super) fn positive(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    let duration = field.duration(report)?;
    if duration.is_zero() {
        report.error(field.position, format!("field {:?}: expected a duration above zero", field.name));
        return None;
    }
    Some(duration)
}

/// A count where -1 and 0 mean none, as stock takes them.
fn unless_none(field: &Field<'_>, report: &mut Report) -> Option<Option<u64>> {
    field.limit(report).map(|limit| limit.filter(|&limit| limit > 0))
}

pub(super) fn read_client(block: &mut Block<'_>, limits: &mut ClientLimits, report: &mut Report) {
    if let Some(field) = block.field(&["max_connections", "max_conn"]) {
        set(&mut limits.max_connections, unless_none(&field, report));
    }
    if let Some(field) = block.field(&["max_subscriptions", "max_subs"]) {
        set(&mut limits.max_subscriptions, unless_none(&field, report));
    }
    if let Some(field) = block.field(&["max_payload"]) {
        set(&mut limits.max_payload, field.size(1..=LARGEST_PAYLOAD, report));
    }
    if let Some(field) = block.field(&["max_pending"]) {
        set(&mut limits.max_pending, field.size(1..=u64::MAX, report));
    }
    if let Some(field) = block.field(&["max_control_line"]) {
        set(&mut limits.max_control_line, field.integer(64..=1 << 20, report));
    }
    if let Some(field) = block.field(&["ping_interval"]) {
        set(&mut limits.ping_interval, positive(&field, report));
    }
    if let Some(field) = block.field(&["ping_max"]) {
        set(&mut limits.ping_max, field.integer(0..=1_000_000, report));
    }
    if let Some(field) = block.field(&["write_deadline"]) {
        set(&mut limits.write_deadline, positive(&field, report));
    }
}

pub(super) fn read_lame_duck(block: &mut Block<'_>, lame_duck: &mut LameDuck, report: &mut Report) {
    if let Some(field) = block.field(&["lame_duck_duration"])
        && let Some(duration) = field.duration(report)
    {
        if duration < Duration::from_secs(30) {
            let written = nats_conf::format_duration(duration);
            report.error(field.position, format!("invalid lame_duck_duration of {written}, minimum is 30 seconds"));
        }
        lame_duck.duration = duration;
    }
    if let Some(field) = block.field(&["lame_duck_grace_period"]) {
        set(&mut lame_duck.grace, field.duration(report));
    }
}

pub(super) fn read_memory(field: &Field<'_>, report: &mut Report) -> MemoryLimits {
    let mut limits = MemoryLimits::default();
    let Some(mut block) = field.block(report) else { return limits };
    for (name, place, least) in [
        ("connection_memory", &mut limits.connection_memory, 1 << 20),
        ("store_queue", &mut limits.store_queue, 1 << 20),
        ("store_cache", &mut limits.store_cache, 256 << 10),
        ("delivery_credit", &mut limits.delivery_credit, 16 << 10),
        ("max_streams", &mut limits.max_streams, 1),
    ] {
        if let Some(field) = block.field(&[name]) {
            set(place, field.size(least..=u64::MAX, report));
        }
    }
    block.finish(report);
    limits
}

pub(super) fn read_mqtt(field: &Field<'_>, report: &mut Report) -> MqttLimits {
    let mut limits = MqttLimits::default();
    let Some(mut block) = field.block(report) else { return limits };
    if let Some(field) = block.field(&["max_inflight"]) {
        set(&mut limits.max_inflight, field.integer(1..=65_535, report));
    }
    for (name, place) in [
        ("max_queued_messages", &mut limits.max_queued_messages),
        ("max_queued_bytes", &mut limits.max_queued_bytes),
        ("max_sessions", &mut limits.max_sessions),
    ] {
        if let Some(field) = block.field(&[name]) {
            set(place, field.size(1..=u64::MAX, report));
        }
    }
    if let Some(field) = block.field(&["connect_timeout"]) {
        set(&mut limits.connect_timeout, positive(&field, report));
    }
    // Stored sessions stay until their client asks for a clean one.
    block.refuse(&["max_session_expiry"], report);
    block.finish(report);
    limits
}
