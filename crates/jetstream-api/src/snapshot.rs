//! Snapshots and restores: their requests and answers, and the JSON inside of archives.
//!
//! In an archive JSON is read as stock reads it there: what is not known of counters is passed over. A consumer's configuration is read as strictly as
//! one in a request, because what is not built can't be restored.

use crate::consumer_config::{self, WireConsumerConfig};
use crate::json::{self, Object};
use crate::request::{Kind, Parsed, no_body, settle};
use crate::response::{WireState, begin, envelope};
use crate::stream_config::{self, Purpose, WireStreamConfig};
use crate::wire::write;
use jetstream::api_error::{self, ApiError};
use jetstream::command::Request;
use jetstream::config::ConsumerConfig;
use jetstream::identity::{Sequence, Timestamp};
use jetstream::restore::Restorable;
use jetstream::snapshot::{ConsumerPosition, ConsumerSnapshot, OutstandingMessage, Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use subject::Filter;

/// Bytes of a piece where nothing is said, and within what it may be chosen.
const CHUNK: (i64, i64, i64) = (128 * 1024, 1024, 1024 * 1024);
/// The same for bytes that are sent before they are acknowledged.
const WINDOW: (i64, i64, i64) = (8 * 1024 * 1024, 1024, 32 * 1024 * 1024);

/// How a snapshot is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Where its pieces go.
    pub deliver_subject: Box<[u8]>,
    /// With the consumers.
    pub consumers: bool,
    /// Bytes of a piece.
    pub chunk_size: usize,
    /// Bytes that are sent before they are acknowledged; at least one piece.
    pub window_size: usize,
}

/// `STREAM.SNAPSHOT.<stream>`: what is wrong in its body matters only if there is such a stream.
pub(crate) fn snapshot(name: &str, payload: &[u8]) -> Parsed {
    if no_body(payload).is_ok() {
        return Parsed::Refused(Kind::StreamSnapshot, api_error::BAD_REQUEST);
    }
    Parsed::Snapshot { stream: name.into(), request: read_snapshot(payload) }
}

fn read_snapshot(payload: &[u8]) -> Result<SnapshotRequest, ApiError> {
    let mut body = json::parse(payload, "JSApiStreamSnapshotRequest")?;
    let deliver_subject = body.text_or_empty("deliver_subject")?;
    let consumers = !body.flag("no_consumers")?;
    let size = |asked: i64, (usual, least, most): (i64, i64, i64)| {
        let size = if asked == 0 { usual } else { asked.clamp(least, most) };
        usize::try_from(size).unwrap_or_default()
    };
    let chunk_size = size(body.count("chunk_size")?, CHUNK);
    let window_size = size(body.count("window_size")?, WINDOW).max(chunk_size);
    // Each message is compared with its checksum when it is read, whether that is asked for or not.
    body.flag("jsck")?;
    body.finish()?;
    if !Filter::parse(&deliver_subject).is_ok_and(|subject| subject.is_literal()) {
        return Err(api_error::SNAPSHOT_DELIVER_SUBJECT_INVALID);
    }
    Ok(SnapshotRequest { deliver_subject: deliver_subject.into_bytes().into(), consumers, chunk_size, window_size })
}

/// `STREAM.RESTORE.<stream>`
pub(crate) fn restore(name: &str, payload: &[u8]) -> Parsed {
    let read = || {
        if no_body(payload).is_ok() {
            return Err(api_error::BAD_REQUEST);
        }
        let mut body = json::parse(payload, "JSApiStreamRestoreRequest")?;
        let mut draft = stream_config::read(body.object("config", "StreamConfig")?)?;
        let claimed = read_claims(body.object("state", "StreamState")?)?;
        body.finish()?;
        if draft.name().is_empty() {
            draft.call(name);
        }
        if draft.name() != name {
            return Err(api_error::STREAM_MISMATCH);
        }
        let config = draft.finish(Purpose::Restore)?;
        Ok(Request::StreamRestore { wanted: Box::new(Restorable { config, claimed }) })
    };
    settle(Kind::StreamRestore, read())
}

/// What the client says of the stream that it restores: first and last sequence, and bytes. The rest is read for its types.
fn read_claims(mut state: json::Object) -> Result<(Sequence, Sequence, u64), ApiError> {
    let claimed =
        (Sequence(state.unsigned("first_seq")?), Sequence(state.unsigned("last_seq")?), state.unsigned("bytes")?);
    state.unsigned("messages")?;
    for name in ["first_ts", "last_ts"] {
        state.time(name)?;
    }
    for name in ["num_subjects", "num_deleted", "consumer_count"] {
        state.count(name)?;
    }
    state.sequences("deleted")?;
    state.counts("subjects")?;
    if let Some(mut lost) = state.object_if_there("lost", "LostStreamData")? {
        lost.sequences("msgs")?;
        lost.unsigned("bytes")?;
        lost.finish()?;
    }
    state.finish()?;
    Ok(claimed)
}

/// Appends the answer to a request for a snapshot.
pub(crate) fn encode_snapshot(snapshot: &Snapshot, version: &str, into: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Wire<'a> {
        config: WireStreamConfig<'a>,
        state: WireState<'a>,
    }
    let config = WireStreamConfig::new(&snapshot.info.config, version).without_server_metadata();
    envelope(Kind::StreamSnapshot, &Wire { config, state: WireState::new(&snapshot.info) }, into);
}

/// Appends the answer to a request for a restore: where the pieces are to be sent.
pub fn restore_begins(deliver_subject: &str, into: &mut Vec<u8>) {
    begin(Kind::StreamRestore, into);
    into.extend_from_slice(b",\"deliver_subject\":");
    write(&deliver_subject, into);
    into.push(b'}');
}

/// What the archive of a snapshot begins with: `state.json`.
#[must_use]
pub fn archive_state(snapshot: &Snapshot) -> Vec<u8> {
    let mut state = WireState::new(&snapshot.info);
    state.consumer_count = snapshot.consumers.len() as u64;
    let mut json = Vec::new();
    write(&state, &mut json);
    json
}

/// What matters of an archive's `state.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ArchiveState {
    /// First sequence that was held.
    pub first_seq: u64,
    /// Last sequence that was given.
    pub last_seq: u64,
    /// Bytes of all messages.
    pub bytes: u64,
    /// How many consumers follow.
    pub consumer_count: u64,
}

/// Reads an archive's `state.json`.
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn read_archive_state(json: &[u8]) -> Result<ArchiveState, String> {
    serde_json::from_slice(json).map_err(|error| format!("error in state.json: {error}"))
}

#[derive(Serialize)]
struct WireConsumer<'a> {
    config: WireConsumerConfig<'a>,
    state: WirePosition,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct WirePosition {
    delivered: WirePair,
    ack_floor: WirePair,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<BTreeMap<u64, WirePending>>,
    /// Deliveries after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    redelivered: Option<BTreeMap<u64, u64>>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct WirePair {
    consumer_seq: u64,
    stream_seq: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WirePending {
    sequence: u64,
    timestamp: i64,
}

/// What stands in an archive as `consumers/<name>`.
#[must_use]
pub fn archive_consumer(consumer: &ConsumerSnapshot, version: &str) -> Vec<u8> {
    let position = &consumer.position;
    let pair = |(consumer_seq, stream): (u64, Sequence)| WirePair { consumer_seq, stream_seq: stream.0 };
    let pending = position.outstanding.iter();
    let pending: BTreeMap<u64, WirePending> =
        pending.map(|one| (one.sequence.0, WirePending { sequence: one.delivery, timestamp: one.time.0 })).collect();
    let again = position.outstanding.iter().filter(|one| one.deliveries > 1);
    let redelivered: BTreeMap<u64, u64> = again.map(|one| (one.sequence.0, one.deliveries - 1)).collect();
    let wire = WireConsumer {
        config: WireConsumerConfig::new(&consumer.config, version).without_server_metadata(),
        state: WirePosition {
            delivered: pair(position.delivered),
            ack_floor: pair(position.ack_floor),
            pending: Some(pending).filter(|pending| !pending.is_empty()),
            redelivered: Some(redelivered).filter(|again| !again.is_empty()),
        },
    };
    let mut json = Vec::new();
    write(&wire, &mut json);
    json
}

/// Reads what stands in an archive as `consumers/<name>`.
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn read_archive_consumer(name: &str, json: &[u8]) -> Result<ConsumerSnapshot, String> {
    #[derive(Deserialize)]
    struct Read {
        #[serde(default)]
        config: Value,
        #[serde(default)]
        state: Option<WirePosition>,
    }
    let read: Read =
        serde_json::from_slice(json).map_err(|error| format!("failed to decode consumer {name:?} state: {error}"))?;
    if read.config.is_null() {
        return Err(format!("consumer {name:?} is missing config"));
    }
    let state = read.state.ok_or_else(|| format!("consumer {name:?} is missing state"))?;
    Ok(ConsumerSnapshot { config: consumer_config(name, read.config)?, position: position(&state) })
}

fn consumer_config(name: &str, config: Value) -> Result<ConsumerConfig, String> {
    let wrong = |error: ApiError| format!("failed to decode consumer {name:?} state: {}", error.description);
    let object = Object::inside(config, "SnapshotConsumerState.config").map_err(wrong)?;
    let mut draft = consumer_config::read(object).map_err(wrong)?;
    draft.name = name.to_owned();
    draft.finish().map_err(|(error, _)| wrong(error))
}

/// Reads the name in the `meta.inf` of a stream, which archives of servers before 2.15 begin with.
#[must_use]
pub fn read_older_stream(json: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Read {
        name: String,
    }
    serde_json::from_slice::<Read>(json).ok().map(|read| read.name)
}

/// Reads the `meta.inf` of a consumer in such an archive.
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn read_older_consumer(name: &str, json: &[u8]) -> Result<ConsumerConfig, String> {
    let mut config: Value =
        serde_json::from_slice(json).map_err(|error| format!("error restoring consumer [{name:?}]: {error}"))?;
    if let Value::Object(fields) = &mut config {
        // Go's names, and not the configuration's.
        fields.retain(|key, _| key != "Created" && key != "Name");
    }
    consumer_config(name, config)
}

fn position(state: &WirePosition) -> ConsumerPosition {
    let pair = |pair: WirePair| (pair.consumer_seq, Sequence(pair.stream_seq));
    let again = |sequence| state.redelivered.as_ref().and_then(|all| all.get(sequence)).copied().unwrap_or(0);
    let outstanding = state.pending.iter().flatten().map(|(sequence, one)| OutstandingMessage {
        sequence: Sequence(*sequence),
        delivery: one.sequence,
        time: Timestamp(one.timestamp),
        deliveries: again(sequence).saturating_add(1),
    });
    ConsumerPosition {
        delivered: pair(state.delivered),
        ack_floor: pair(state.ack_floor),
        outstanding: outstanding.collect(),
    }
}
