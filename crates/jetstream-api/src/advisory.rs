//! What is published on `$JS.EVENT.>`: subjects, schemas and order of keys are nats-server's.

use crate::response::WireState;
use crate::wire::{Time, is_zero, write};
use jetstream::advisory::{Abandoned, Action, Advisory, DeliveryFact, Unpinned};
use jetstream::command::StreamInfo;
use jetstream::identity::Timestamp;
use serde::Serialize;

/// Where every request and its answer are told.
pub const AUDIT_SUBJECT: &str = "$JS.EVENT.ADVISORY.API";

/// The names of what an advisory is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// Stream.
    pub stream: &'a str,
    /// Consumer; empty when it is about none.
    pub consumer: &'a str,
}

/// What every advisory carries.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// Its own id, never used twice.
    pub id: &'a str,
    /// When it was made.
    pub time: Timestamp,
    /// Account of what it is about.
    pub account: &'a str,
    /// JetStream domain.
    pub domain: Option<&'a str>,
}

/// Who asked, as stock describes clients. Empty and zero fields are left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Client {
    /// When it connected.
    #[serde(serialize_with = "time", skip_serializing_if = "is_zero")]
    pub start: Timestamp,
    /// Its address.
    #[serde(skip_serializing_if = "is_zero")]
    pub host: Box<str>,
    /// Its number.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: u64,
    /// Its account.
    #[serde(rename = "acc", skip_serializing_if = "is_zero")]
    pub account: Box<str>,
    /// Its user.
    #[serde(skip_serializing_if = "is_zero")]
    pub user: Box<str>,
    /// How it calls itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: Box<str>,
    /// The language of its library.
    #[serde(skip_serializing_if = "is_zero")]
    pub lang: Box<str>,
    /// The version of its library.
    #[serde(rename = "ver", skip_serializing_if = "is_zero")]
    pub version: Box<str>,
    /// Its round trip, nanoseconds.
    #[serde(rename = "rtt", skip_serializing_if = "is_zero")]
    pub round_trip_ns: u64,
    /// The server it is connected to.
    #[serde(skip_serializing_if = "is_zero")]
    pub server: Box<str>,
    /// `Client`, `Leafnode`.
    #[serde(skip_serializing_if = "is_zero")]
    pub kind: Box<str>,
    /// `nats`, `mqtt`, `websocket`.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_type: Box<str>,
    /// MQTT client id.
    #[serde(rename = "client_id", skip_serializing_if = "is_zero")]
    pub mqtt_client: Box<str>,
}

fn time<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    Time(*time).serialize(serializer)
}

/// A request and what was answered.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a> {
    /// The server's name.
    pub server: &'a str,
    /// Who asked.
    pub client: &'a Client,
    /// The request's subject.
    pub subject: &'a str,
    /// Its body.
    pub request: &'a str,
    /// The answer.
    pub response: &'a str,
}

/// A snapshot or restore of a stream begins or ends.
#[derive(Clone, Copy, Debug)]
pub enum Transfer<'a> {
    /// A snapshot of a stream in this state begins.
    SnapshotCreate(&'a StreamInfo),
    /// It is over.
    SnapshotComplete {
        /// Since when.
        start: Timestamp,
        /// Until when.
        end: Timestamp,
        /// Why it failed; empty: it did not.
        error: &'a str,
    },
    /// A restore begins.
    RestoreCreate,
    /// It is over.
    RestoreComplete {
        /// Since when.
        start: Timestamp,
        /// Until when.
        end: Timestamp,
        /// Bytes taken.
        bytes: u64,
    },
}

/// The subject of an advisory.
#[must_use]
pub fn advisory_subject(advisory: &Advisory, place: Place<'_>) -> String {
    let Place { stream, consumer } = place;
    let stream_action = |action: &str| format!("$JS.EVENT.ADVISORY.STREAM.{action}.{stream}");
    let consumer_action = |action: &str| format!("$JS.EVENT.ADVISORY.CONSUMER.{action}.{stream}.{consumer}");
    match advisory {
        Advisory::Stream { action, .. } => stream_action(match action {
            Action::Create => "CREATED",
            Action::Modify => "UPDATED",
            Action::Delete => "DELETED",
        }),
        Advisory::BatchAbandoned { .. } => stream_action("BATCH_ABANDONED"),
        Advisory::Consumer { action: Action::Delete, .. } => consumer_action("DELETED"),
        Advisory::Consumer { .. } => consumer_action("CREATED"),
        Advisory::Paused { .. } => consumer_action("PAUSE"),
        Advisory::Pinned { .. } => consumer_action("PINNED"),
        Advisory::Unpinned { .. } => consumer_action("UNPINNED"),
        Advisory::Delivery { what, .. } => match what {
            DeliveryFact::Exceeded => consumer_action("MAX_DELIVERIES"),
            DeliveryFact::Refused => consumer_action("MSG_NAKED"),
            DeliveryFact::Terminated { .. } => consumer_action("MSG_TERMINATED"),
            DeliveryFact::Acknowledged { .. } => format!("$JS.EVENT.METRIC.CONSUMER.ACK.{stream}.{consumer}"),
        },
    }
}

/// Appends an advisory.
pub fn encode_advisory(advisory: &Advisory, place: Place<'_>, stamp: Stamp<'_>, into: &mut Vec<u8>) {
    let Place { stream, consumer } = place;
    let domain = stamp.domain;
    match advisory {
        Advisory::Stream { action, .. } => {
            let body = StreamAction { stream, action: action_word(*action), domain };
            typed("advisory.v1.stream_action", stamp, &body, into);
        }
        Advisory::BatchAbandoned { batch, reason, .. } => {
            let body = BatchAbandoned { stream, domain, batch, reason: abandoned_word(*reason) };
            typed("advisory.v1.stream_batch_abandoned", stamp, &body, into);
        }
        Advisory::Consumer { action, .. } => {
            let body = ConsumerAction { stream, consumer, action: action_word(*action), domain };
            typed("advisory.v1.consumer_action", stamp, &body, into);
        }
        Advisory::Paused { until, is_paused, .. } => {
            let pause_until = Time(until.unwrap_or_default());
            let body = Paused { stream, consumer, paused: *is_paused, pause_until, domain };
            typed("advisory.v1.consumer_pause", stamp, &body, into);
        }
        Advisory::Pinned { group, pin, .. } => {
            let body = Pinned { account: stamp.account, stream, consumer, domain, group, pinned_id: pin };
            typed("advisory.v1.consumer_group_pinned", stamp, &body, into);
        }
        Advisory::Unpinned { group, reason, .. } => {
            let reason = match reason {
                Unpinned::Admin => "admin",
                Unpinned::Timeout => "timeout",
            };
            let body = UnpinnedGroup { account: stamp.account, stream, consumer, domain, group, reason };
            typed("advisory.v1.consumer_group_unpinned", stamp, &body, into);
        }
        Advisory::Delivery { what, sequence, consumer_sequence, deliveries, .. } => {
            let told = Told {
                stream,
                consumer,
                consumer_seq: (*what != DeliveryFact::Exceeded).then_some(*consumer_sequence),
                stream_seq: sequence.0,
                ack_time: None,
                deliveries: *deliveries,
                reason: "",
                domain,
            };
            delivery(what, told, stamp, into);
        }
    }
}

fn delivery<'a>(what: &'a DeliveryFact, told: Told<'a>, stamp: Stamp<'_>, into: &mut Vec<u8>) {
    match what {
        DeliveryFact::Exceeded => typed("advisory.v1.max_deliver", stamp, &told, into),
        DeliveryFact::Refused => typed("advisory.v1.nak", stamp, &told, into),
        DeliveryFact::Terminated { reason } => {
            typed("advisory.v1.terminated", stamp, &Told { reason, ..told }, into);
        }
        DeliveryFact::Acknowledged { after_ns } => {
            typed("metric.v1.consumer_ack", stamp, &Told { ack_time: Some(*after_ns), ..told }, into);
        }
    }
}

/// Appends what is told of a request.
pub fn encode_audit(audit: &Audit<'_>, stamp: Stamp<'_>, into: &mut Vec<u8>) {
    let Audit { server, client, subject, request, response } = *audit;
    let body = WireAudit { server, client, subject, request, response, domain: stamp.domain };
    typed("advisory.v1.api_audit", stamp, &body, into);
}

/// The subject of what is told of a snapshot or restore.
#[must_use]
pub fn transfer_subject(transfer: &Transfer<'_>, stream: &str) -> String {
    let action = match transfer {
        Transfer::SnapshotCreate(_) => "SNAPSHOT_CREATE",
        Transfer::SnapshotComplete { .. } => "SNAPSHOT_COMPLETE",
        Transfer::RestoreCreate => "RESTORE_CREATE",
        Transfer::RestoreComplete { .. } => "RESTORE_COMPLETE",
    };
    format!("$JS.EVENT.ADVISORY.STREAM.{action}.{stream}")
}

/// Appends what is told of a snapshot or restore.
pub fn encode_transfer(transfer: &Transfer<'_>, stream: &str, client: &Client, stamp: Stamp<'_>, into: &mut Vec<u8>) {
    let domain = stamp.domain;
    match *transfer {
        Transfer::SnapshotCreate(info) => {
            let body = SnapshotCreate { stream, state: WireState::new(info), client, domain };
            typed("advisory.v1.snapshot_create", stamp, &body, into);
        }
        Transfer::SnapshotComplete { start, end, error } => {
            let body = SnapshotComplete { stream, start: Time(start), end: Time(end), client, domain, error };
            typed("advisory.v1.snapshot_complete", stamp, &body, into);
        }
        Transfer::RestoreCreate => {
            typed("advisory.v1.restore_create", stamp, &RestoreCreate { stream, client, domain }, into);
        }
        Transfer::RestoreComplete { start, end, bytes } => {
            let body = RestoreComplete { stream, start: Time(start), end: Time(end), bytes, client, domain };
            typed("advisory.v1.restore_complete", stamp, &body, into);
        }
    }
}

/// Appends an object with type, id and time before its own keys.
fn typed<T: Serialize>(kind: &str, stamp: Stamp<'_>, body: &T, into: &mut Vec<u8>) {
    into.extend_from_slice(b"{\"type\":\"io.nats.jetstream.");
    into.extend_from_slice(kind.as_bytes());
    into.extend_from_slice(b"\",\"id\":");
    write(&stamp.id, into);
    into.extend_from_slice(b",\"timestamp\":");
    write(&Time(stamp.time), into);
    let brace = into.len();
    write(body, into);
    // The body is an object of at least one key; its brace becomes the comma.
    match into.get_mut(brace) {
        Some(first) => *first = b',',
        None => into.push(b'}'),
    }
}

fn action_word(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Modify => "modify",
        Action::Delete => "delete",
    }
}

fn abandoned_word(reason: Abandoned) -> &'static str {
    match reason {
        Abandoned::Timeout => "timeout",
        Abandoned::Large => "large",
        Abandoned::Incomplete => "incomplete",
        Abandoned::Unsupported => "unsupported",
    }
}

#[derive(Serialize)]
struct StreamAction<'a> {
    stream: &'a str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

#[derive(Serialize)]
struct BatchAbandoned<'a> {
    stream: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    batch: &'a str,
    reason: &'static str,
}

#[derive(Serialize)]
struct ConsumerAction<'a> {
    stream: &'a str,
    consumer: &'a str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

#[derive(Serialize)]
struct Paused<'a> {
    stream: &'a str,
    consumer: &'a str,
    paused: bool,
    pause_until: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

#[derive(Serialize)]
struct Pinned<'a> {
    account: &'a str,
    stream: &'a str,
    consumer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    group: &'a str,
    pinned_id: &'a str,
}

#[derive(Serialize)]
struct UnpinnedGroup<'a> {
    account: &'a str,
    stream: &'a str,
    consumer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    group: &'a str,
    reason: &'static str,
}

/// What is told of a message: an advisory, or the metric of an acknowledgement.
#[derive(Clone, Copy, Serialize)]
struct Told<'a> {
    stream: &'a str,
    consumer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer_seq: Option<u64>,
    stream_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_time: Option<u64>,
    deliveries: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

#[derive(Serialize)]
struct WireAudit<'a> {
    server: &'a str,
    client: &'a Client,
    subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    request: &'a str,
    response: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

#[derive(Serialize)]
struct SnapshotCreate<'a> {
    stream: &'a str,
    state: WireState<'a>,
    client: &'a Client,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

#[derive(Serialize)]
struct SnapshotComplete<'a> {
    stream: &'a str,
    start: Time,
    end: Time,
    client: &'a Client,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
struct RestoreCreate<'a> {
    stream: &'a str,
    client: &'a Client,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

#[derive(Serialize)]
struct RestoreComplete<'a> {
    stream: &'a str,
    start: Time,
    end: Time,
    bytes: u64,
    client: &'a Client,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetstream::identity::{ConsumerId, Sequence, StreamId};

    const PLACE: Place<'_> = Place { stream: "S", consumer: "C" };

    fn check(advisory: &Advisory, subject: &str, json: &str) {
        let stamp = Stamp { id: "I", time: Timestamp(1_500_000_000), account: "$G", domain: Some("D") };
        let mut into = Vec::new();
        encode_advisory(advisory, PLACE, stamp, &mut into);
        assert_eq!(advisory_subject(advisory, PLACE), format!("$JS.EVENT.{subject}"));
        let common = "\"id\":\"I\",\"timestamp\":\"1970-01-01T00:00:01.5Z\"";
        let text = String::from_utf8(into).unwrap();
        assert_eq!(text.replace(common, "…"), format!("{{\"type\":\"io.nats.jetstream.{json}}}"));
    }

    fn delivery(what: DeliveryFact) -> Advisory {
        let (consumer, sequence) = (ConsumerId(1), Sequence(7));
        Advisory::Delivery { consumer, what, sequence, consumer_sequence: 9, deliveries: 2 }
    }

    #[test]
    fn snapshots_and_restores_are_told_as_stock_does() {
        let client = Client { account: "$G".into(), kind: "Client".into(), ..Client::default() };
        let stamp = Stamp { id: "I", time: Timestamp(1_500_000_000), account: "$G", domain: None };
        let (start, end) = (Timestamp(1_000_000_000), Timestamp(2_000_000_000));
        let told = |transfer: &Transfer<'_>| {
            let mut into = Vec::new();
            encode_transfer(transfer, "S", &client, stamp, &mut into);
            let text = String::from_utf8(into).unwrap();
            let common = r#""id":"I","timestamp":"1970-01-01T00:00:01.5Z","stream":"S""#;
            let text = text.replace(common, "…").replace(r#""client":{"acc":"$G","kind":"Client"}"#, "…client");
            (transfer_subject(transfer, "S").replace("$JS.EVENT.ADVISORY.STREAM.", ""), text)
        };
        let times = r#""start":"1970-01-01T00:00:01Z","end":"1970-01-01T00:00:02Z""#;
        let expected = |subject: &str, kind: &str, rest: &str| {
            (subject.to_owned(), format!(r#"{{"type":"io.nats.jetstream.advisory.v1.{kind}",…,{rest}}}"#))
        };
        assert_eq!(
            told(&Transfer::RestoreComplete { start, end, bytes: 9 }),
            expected("RESTORE_COMPLETE.S", "restore_complete", &format!("{times},\"bytes\":9,…client"))
        );
        assert_eq!(told(&Transfer::RestoreCreate), expected("RESTORE_CREATE.S", "restore_create", "…client"));
        assert_eq!(
            told(&Transfer::SnapshotComplete { start, end, error: "gone" }),
            expected("SNAPSHOT_COMPLETE.S", "snapshot_complete", &format!("{times},…client,\"error\":\"gone\""))
        );
    }

    #[test]
    fn advisories_are_those_of_stock() {
        check(
            &Advisory::Stream { stream: StreamId(16), action: Action::Modify },
            "ADVISORY.STREAM.UPDATED.S",
            r#"advisory.v1.stream_action",…,"stream":"S","action":"modify","domain":"D""#,
        );
        check(
            &Advisory::Consumer { consumer: ConsumerId(1), action: Action::Delete },
            "ADVISORY.CONSUMER.DELETED.S.C",
            r#"advisory.v1.consumer_action",…,"stream":"S","consumer":"C","action":"delete","domain":"D""#,
        );
        check(
            &Advisory::Paused { consumer: ConsumerId(1), until: None, is_paused: false },
            "ADVISORY.CONSUMER.PAUSE.S.C",
            r#"advisory.v1.consumer_pause",…,"stream":"S","consumer":"C","paused":false,"pause_until":"0001-01-01T00:00:00Z","domain":"D""#,
        );
        check(
            &Advisory::Pinned { consumer: ConsumerId(1), group: "g".into(), pin: "p".into() },
            "ADVISORY.CONSUMER.PINNED.S.C",
            r#"advisory.v1.consumer_group_pinned",…,"account":"$G","stream":"S","consumer":"C","domain":"D","group":"g","pinned_id":"p""#,
        );
        check(
            &delivery(DeliveryFact::Exceeded),
            "ADVISORY.CONSUMER.MAX_DELIVERIES.S.C",
            r#"advisory.v1.max_deliver",…,"stream":"S","consumer":"C","stream_seq":7,"deliveries":2,"domain":"D""#,
        );
        check(
            &delivery(DeliveryFact::Terminated { reason: "bad".into() }),
            "ADVISORY.CONSUMER.MSG_TERMINATED.S.C",
            r#"advisory.v1.terminated",…,"stream":"S","consumer":"C","consumer_seq":9,"stream_seq":7,"deliveries":2,"reason":"bad","domain":"D""#,
        );
        check(
            &delivery(DeliveryFact::Acknowledged { after_ns: 5 }),
            "METRIC.CONSUMER.ACK.S.C",
            r#"metric.v1.consumer_ack",…,"stream":"S","consumer":"C","consumer_seq":9,"stream_seq":7,"ack_time":5,"deliveries":2,"domain":"D""#,
        );
    }
}
