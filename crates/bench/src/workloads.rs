//! The rows of the tables: who does which work.

use anyhow::Result;

use crate::connections::Speaks;
use crate::drain::Draws;
use crate::mqtt::Receiver;
use crate::outcome::Outcome;
use crate::push::Acknowledges;
use crate::report::Table;
use crate::side::Side;
use crate::stall::Removal;
use crate::stored::End;
use crate::{
    buckets, connections, drain, fan_out, fleet, jetstream, many_subjects, mqtt, publish, push, requests, sessions,
    stall, stored,
};

/// One row, or one for each peer.
pub(crate) struct Workload {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// Which table.
    pub(crate) table: Table,
    /// In this order, round after round.
    pub(crate) sides: &'static [Side],
    /// One run on a fresh server.
    pub(crate) run: fn(Side, f64) -> Result<Outcome>,
}

const NATS: &[Side] = &[Side::Ours, Side::Stock];
const DURABLE: &[Side] = &[Side::Ours, Side::Stock, Side::StockAlways];
const MQTT: &[Side] = &[Side::Ours, Side::Mosquitto, Side::Stock];

const SESSIONS: &[Side] = &[Side::Ours, Side::Mosquitto];

const fn work(name: &'static str, sides: &'static [Side], run: fn(Side, f64) -> Result<Outcome>) -> Workload {
    Workload { name, table: Table::Work, sides, run }
}

const fn single(name: &'static str, sides: &'static [Side], run: fn(Side, f64) -> Result<Outcome>) -> Workload {
    Workload { name, table: Table::Single, sides, run }
}

/// All of them, in the order of the tables.
pub(crate) const WORKLOADS: [Workload; 51] = [
    work("publish only, 128 B", NATS, |side, scale| publish::run(side, 128, scale)),
    work("1 → 1, 16 B", NATS, |side, scale| fan_out::run(side, 1, 16, scale)),
    work("1 → 1, 128 B", NATS, |side, scale| fan_out::run(side, 1, 128, scale)),
    work("1 → 1, 900 kB", NATS, |side, scale| fan_out::run(side, 1, 900_000, scale)),
    work("1 → 10, 128 B, per delivery", NATS, |side, scale| fan_out::run(side, 10, 128, scale)),
    work("request-reply, 1 requester", NATS, |side, scale| requests::run(side, 1, scale)),
    work("request-reply, 16 requesters", NATS, |side, scale| requests::run(side, 16, scale)),
    work("JetStream publish, file, 256 B, 256 in flight", DURABLE, |side, scale| jetstream::publish(side, 256, scale)),
    work("JetStream publish, file, 256 B, 1,000 in flight", DURABLE, |side, scale| {
        jetstream::publish(side, 1_000, scale)
    }),
    work("JetStream publish, file, 256 B, 1 in flight", DURABLE, |side, scale| jetstream::publish(side, 1, scale)),
    work("JetStream pull, 256 B, batch 100, explicit ack", NATS, jetstream::consume),
    work("JetStream push, 256 B, explicit ack", NATS, |side, scale| push::run(side, Acknowledges::Explicitly, scale)),
    work("JetStream ordered, 256 B", NATS, |side, scale| push::run(side, Acknowledges::Nothing, scale)),
    work("bucket, put, 128 B, 10 k keys, history 5", DURABLE, buckets::put),
    work("bucket, put, 128 B, 10 k keys drawn by lot, history 5", DURABLE, buckets::put_random),
    work("bucket, get, 128 B, 10 k keys, 64 in flight", NATS, |side, scale| buckets::get(side, 64, scale)),
    work("bucket, get, 128 B, 10 k keys, 1 in flight", NATS, |side, scale| buckets::get(side, 1, scale)),
    work("bucket, get beside puts, 1 in flight", NATS, buckets::get_beside_puts),
    work("bucket, watch, 128 B, 10 k keys, per value", NATS, buckets::watch),
    work("1 M subjects, read 1,000 by a wildcard", NATS, many_subjects::run),
    work("MQTT QoS 0, 1 → 1, 128 B", MQTT, |side, scale| mqtt::run(side, 0, Receiver::Clean, scale)),
    work("MQTT QoS 1, 1 → 1, 128 B", MQTT, |side, scale| mqtt::run(side, 1, Receiver::Clean, scale)),
    work("MQTT QoS 1, 1 → 1 persistent session", MQTT, |side, scale| mqtt::run(side, 1, Receiver::Persistent, scale)),
    work("MQTT QoS 1, publish only", MQTT, |side, scale| mqtt::run(side, 1, Receiver::Nobody, scale)),
    work("MQTT QoS 1, publish into a stream", NATS, |side, scale| mqtt::run(side, 1, Receiver::Stream, scale)),
    work("backlog drain to a stock hub, 256 B", NATS, drain::run),
    work("backlog drain by a stock hub's source, 256 B", NATS, |side, scale| drain::pulled(side, Draws::Source, scale)),
    work("backlog drain by a stock hub's mirror, 256 B", NATS, |side, scale| drain::pulled(side, Draws::Mirror, scale)),
    single("idle, all listeners, store open", NATS, |side, _| connections::nobody(side)),
    single("idle NATS connection", NATS, |side, scale| connections::run(side, Speaks::Nats, scale)),
    single("idle MQTT connection", MQTT, |side, scale| connections::run(side, Speaks::Mqtt, scale)),
    single("idle MQTT connection, stored session", MQTT, |side, scale| {
        connections::run(side, Speaks::MqttSession, scale)
    }),
    single("10,000 stored MQTT sessions, nobody connected", SESSIONS, sessions::sleeping),
    single("idle WebSocket connection", NATS, |side, scale| connections::run(side, Speaks::WebSocket, scale)),
    single("idle TLS connection", NATS, |side, scale| connections::run(side, Speaks::Tls, scale)),
    single("1 M messages, 100 k subjects stored", NATS, stored::memory),
    single("start with 1 M messages after TERM", NATS, |side, scale| stored::start_up(side, End::Terminated, scale)),
    single("start with 1 M messages after kill -9", NATS, |side, scale| stored::start_up(side, End::Killed, scale)),
    single("1,000 streams, 10,000 consumers", NATS, fleet::run),
    single("purge of 1 M messages by a filter", NATS, |side, scale| stall::run(side, Removal::Purge, scale)),
    single("purge of 100 of 1,000 subjects, 1 M", NATS, |side, scale| stall::run(side, Removal::PurgeTenth, scale)),
    single("purge of 1 M messages that keeps 10,000", NATS, |side, scale| stall::run(side, Removal::PurgeKeep, scale)),
    single("purge of 1 M messages up to a sequence", NATS, |side, scale| stall::run(side, Removal::PurgeUpTo, scale)),
    single("delete of a stream with 1 M messages", NATS, |side, scale| stall::run(side, Removal::Delete, scale)),
    single("1 of 1,000 messages a subject left by a lowered limit, 1 M", NATS, |side, scale| {
        stall::run(side, Removal::PerSubject, scale)
    }),
    single("10,000 of 1 M messages left by a lowered max_msgs", NATS, |side, scale| {
        stall::run(side, Removal::MaxMessages, scale)
    }),
    single("10,000 of 1 M messages left by a lowered max_bytes", NATS, |side, scale| {
        stall::run(side, Removal::MaxBytes, scale)
    }),
    single("none of 1 M messages left by a lowered max_age", NATS, |side, scale| {
        stall::run(side, Removal::MaxAge, scale)
    }),
    single("the same with delete markers, 1 M", NATS, |side, scale| stall::run(side, Removal::MaxAgeMarkers, scale)),
    single("roll-up of 1 M messages", NATS, |side, scale| stall::run(side, Removal::RollUp, scale)),
    single("roll-up of 1 of 1,000 subjects, 1 M", NATS, |side, scale| stall::run(side, Removal::RollUpSubject, scale)),
];
