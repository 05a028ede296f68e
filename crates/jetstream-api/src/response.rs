//! Answers to bytes: the right `type`, the keys in stock's order, an error with what stock puts beside it.

use crate::consumer_config::WireConsumerConfig;
use crate::origin::{OriginInfos, WireOrigin};
use crate::request::Kind;
use crate::snapshot::encode_snapshot;
use crate::stream_config::WireStreamConfig;
use crate::templates::encode_template;
use crate::wire::{Time, is_zero, write};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jetstream::api_error::{self, ApiError};
use jetstream::command::{AccountInfo, Answer, ConsumerInfo, GroupState, StreamInfo};
use jetstream::identity::{ConsumerSequence, Sequence, Timestamp};
use jetstream::store::{MessageBuffer, StreamState};
use serde::Serialize;
use std::collections::BTreeMap;

/// Names on a page of names.
const NAMES_LIMIT: u64 = 1024;
/// Configurations on a page of them.
const LIST_LIMIT: u64 = 256;
/// Subjects on a page of a stream's info.
const SUBJECTS_LIMIT: u64 = 100_000;

/// Who answers.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// JetStream domain.
    pub domain: Option<&'a str>,
    /// Server name, which stream info shows as leader.
    pub name: &'a str,
    /// The nats-server version we are compatible with.
    pub version: &'a str,
    /// How the streams' origins are doing; `None`: not known here.
    pub origins: Option<&'a OriginInfos>,
    /// Somebody listens to the push consumer that the answer is about, which the store may not know yet.
    pub push_bound: bool,
}

impl<'a> Server<'a> {
    /// The server's own level and version stand in single descriptions only.
    fn in_lists(&self) -> Server<'a> {
        Server { version: "", domain: self.domain, name: self.name, origins: self.origins, push_bound: false }
    }
}

impl Kind {
    /// The last part of the answer's `type`.
    fn name(self) -> &'static str {
        match self {
            Kind::AccountInfo => "account_info_response",
            Kind::StreamCreate | Kind::StreamRestored => "stream_create_response",
            Kind::StreamUpdate => "stream_update_response",
            Kind::StreamInfo { .. } => "stream_info_response",
            Kind::StreamNames => "stream_names_response",
            Kind::StreamList => "stream_list_response",
            Kind::StreamDelete => "stream_delete_response",
            Kind::StreamPurge => "stream_purge_response",
            Kind::StreamSnapshot => "stream_snapshot_response",
            Kind::StreamRestore => "stream_restore_response",
            Kind::StreamLeaderStepdown => "stream_leader_stepdown_response",
            Kind::StreamPeerRemove => "stream_remove_peer_response",
            Kind::TemplateCreate => "stream_template_create_response",
            Kind::TemplateNames => "stream_template_names_response",
            Kind::TemplateInfo => "stream_template_info_response",
            Kind::TemplateDelete => "stream_template_delete_response",
            Kind::MessageGet { .. } => "stream_msg_get_response",
            Kind::MessageDelete => "stream_msg_delete_response",
            Kind::ConsumerCreate => "consumer_create_response",
            Kind::ConsumerInfo => "consumer_info_response",
            Kind::ConsumerNames => "consumer_names_response",
            Kind::ConsumerList => "consumer_list_response",
            Kind::ConsumerDelete => "consumer_delete_response",
            Kind::ConsumerPause => "consumer_pause_response",
            Kind::ConsumerReset => "consumer_reset_response",
            Kind::ConsumerUnpin => "consumer_unpin_response",
            Kind::ConsumerLeaderStepdown => "consumer_leader_stepdown_response",
        }
    }

    /// Keys that stock leaves in an answer which is an error.
    fn beside_error(self) -> &'static str {
        match self {
            Kind::StreamInfo { .. } => r#","total":0,"offset":0,"limit":0"#,
            Kind::StreamNames | Kind::TemplateNames => r#","total":0,"offset":0,"limit":0,"streams":null"#,
            Kind::StreamList => r#","total":0,"offset":0,"limit":0,"streams":[]"#,
            Kind::ConsumerNames | Kind::ConsumerList => r#","total":0,"offset":0,"limit":0,"consumers":[]"#,
            Kind::StreamPurge => r#","purged":0"#,
            Kind::ConsumerReset => r#","reset_seq":0"#,
            Kind::StreamRestore => r#","deliver_subject":"""#,
            Kind::ConsumerPause => r#","paused":false,"pause_until":"0001-01-01T00:00:00Z""#,
            _ => "",
        }
    }
}

/// Appends the answer to a request of this kind.
pub fn encode(kind: Kind, answer: &Answer, server: &Server<'_>, into: &mut Vec<u8>) {
    match answer {
        Answer::Error(error) => encode_error(kind, error, into),
        Answer::AccountInfo(info) => envelope(kind, &WireAccount::new(info, server), into),
        Answer::Stream(info) => stream(kind, info, server, into),
        Answer::StreamNames { names, total, offset } => stream_names(kind, names, *total, *offset, into),
        Answer::StreamList { streams, total, offset } => {
            let streams = streams.iter().map(|info| WireStream::new(info, &server.in_lists())).collect();
            let page = Page::new(*total, *offset, LIST_LIMIT);
            envelope(kind, &WireStreamList { page, streams }, into);
        }
        Answer::Deleted => envelope(kind, &Success { success: true }, into),
        Answer::Done => {
            begin(kind, into);
            into.push(b'}');
        }
        Answer::Paused { until, remaining_ns } => envelope(
            kind,
            &Paused {
                paused: *remaining_ns > 0,
                pause_until: Time(until.unwrap_or_default()),
                pause_remaining: *remaining_ns,
            },
            into,
        ),
        Answer::Purged { count } => envelope(kind, &Purged { success: true, purged: *count }, into),
        Answer::Message(buffer) => message(kind, buffer, into),
        Answer::Template(info) => encode_template(kind, info, server.version, into),
        Answer::Snapshot(snapshot) => encode_snapshot(snapshot, server.version, into),
        Answer::Consumer(info) => envelope(kind, &WireConsumer::new(info, server), into),
        Answer::Reset { info, sequence } => {
            envelope(kind, &WireReset { consumer: WireConsumer::new(info, server), reset_seq: sequence.0 }, into);
        }
        Answer::ConsumerNames { names, total, offset } => {
            let page = Page::new(*total, *offset, NAMES_LIMIT);
            envelope(kind, &WireConsumerNames { page, consumers: names }, into);
        }
        Answer::ConsumerList { consumers, total, offset } => {
            let consumers = consumers.iter().map(|info| WireConsumer::new(info, &server.in_lists())).collect();
            let page = Page::new(*total, *offset, LIST_LIMIT);
            envelope(kind, &WireConsumerList { page, consumers }, into);
        }
        // The first two are never asked for over the API; the third is not answered with JSON; the others are no answers yet.
        Answer::Records(_)
        | Answer::Statistics(_)
        | Answer::Direct(_)
        | Answer::Restorable(_)
        | Answer::Later { .. } => encode_error(kind, &api_error::BAD_REQUEST, into),
    }
}

/// Appends the answer to a refused request of this kind.
pub fn encode_error(kind: Kind, error: &ApiError, into: &mut Vec<u8>) {
    let wire = WireError { code: error.code, err_code: error.err_code, description: &error.description };
    begin(kind, into);
    into.extend_from_slice(b",\"error\":");
    write(&wire, into);
    into.extend_from_slice(kind.beside_error().as_bytes());
    into.push(b'}');
}

pub(crate) fn begin(kind: Kind, into: &mut Vec<u8>) {
    into.extend_from_slice(b"{\"type\":\"io.nats.jetstream.api.v1.");
    into.extend_from_slice(kind.name().as_bytes());
    into.push(b'"');
}

/// Appends an object with the answer's `type` before its own keys.
pub(crate) fn envelope<T: Serialize>(kind: Kind, body: &T, into: &mut Vec<u8>) {
    begin(kind, into);
    let brace = into.len();
    write(body, into);
    // The body is an object of at least one key; its brace becomes the comma.
    match into.get_mut(brace) {
        Some(first) => *first = b',',
        None => into.push(b'}'),
    }
}

#[derive(Serialize)]
struct WireError<'a> {
    code: u16,
    err_code: u16,
    description: &'a str,
}

#[derive(Serialize)]
struct Success {
    success: bool,
}

#[derive(Serialize)]
struct Paused {
    paused: bool,
    pause_until: Time,
    #[serde(skip_serializing_if = "is_zero")]
    pause_remaining: u64,
}

#[derive(Serialize)]
struct Purged {
    success: bool,
    purged: u64,
}

#[derive(Clone, Copy, Serialize)]
struct Page {
    total: u64,
    offset: u64,
    limit: u64,
}

impl Page {
    /// An offset beyond the end is shown as the end.
    fn new(total: u64, offset: u64, limit: u64) -> Page {
        Page { total, offset: offset.min(total), limit }
    }
}

#[derive(Serialize)]
struct WireAccount<'a> {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    streams: u64,
    consumers: u64,
    limits: WireLimits,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    api: WireApi,
}

#[derive(Serialize)]
struct WireLimits {
    max_memory: i64,
    max_storage: i64,
    max_streams: i64,
    max_consumers: i64,
    max_ack_pending: i64,
    memory_max_stream_bytes: i64,
    storage_max_stream_bytes: i64,
    max_bytes_required: bool,
}

#[derive(Serialize)]
struct WireApi {
    level: u32,
    total: u64,
    errors: u64,
}

impl<'a> WireAccount<'a> {
    fn new(info: &AccountInfo, server: &Server<'a>) -> WireAccount<'a> {
        WireAccount {
            memory: info.memory,
            storage: info.storage,
            reserved_memory: info.reserved_memory,
            reserved_storage: info.reserved_storage,
            streams: info.streams,
            consumers: info.consumers,
            limits: WireLimits {
                max_memory: info.max_memory,
                max_storage: info.max_storage,
                max_streams: info.max_streams,
                max_consumers: info.max_consumers,
                max_ack_pending: info.max_ack_pending,
                memory_max_stream_bytes: info.max_memory_stream,
                storage_max_stream_bytes: info.max_storage_stream,
                max_bytes_required: info.max_bytes_required,
            },
            domain: server.domain,
            api: WireApi { level: crate::API_LEVEL, total: info.api_total, errors: info.api_errors },
        }
    }
}

#[derive(Serialize)]
struct WireStream<'a> {
    config: WireStreamConfig<'a>,
    created: Time,
    state: WireState<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<WireCluster<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<WireOrigin<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<WireOrigin<'a>>,
    ts: Time,
    #[serde(skip_serializing_if = "is_zero")]
    did_create: bool,
}

#[derive(Serialize)]
struct WireCluster<'a> {
    leader: &'a str,
}

#[derive(Serialize)]
pub(crate) struct WireState<'a> {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    first_ts: Time,
    last_seq: u64,
    last_ts: Time,
    #[serde(skip_serializing_if = "is_zero")]
    num_subjects: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subjects: BTreeMap<&'a str, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    num_deleted: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deleted: Vec<u64>,
    pub(crate) consumer_count: u64,
}

impl<'a> WireStream<'a> {
    fn new(info: &'a StreamInfo, server: &Server<'a>) -> WireStream<'a> {
        let origins = server.origins.and_then(|origins| origins.get(&info.id)).map_or(&[][..], Vec::as_slice);
        let sources = info.config.sources.iter().enumerate();
        WireStream {
            config: WireStreamConfig::new(&info.config, server.version),
            created: Time(info.created),
            state: WireState::new(info),
            cluster: None,
            mirror: info.config.mirror.as_deref().map(|source| WireOrigin::new(source, origins.first(), true)),
            sources: sources.map(|(place, source)| WireOrigin::new(source, origins.get(place), false)).collect(),
            ts: Time(info.now),
            did_create: false,
        }
    }
}

impl<'a> WireState<'a> {
    pub(crate) fn new(info: &'a StreamInfo) -> WireState<'a> {
        let StreamState { messages, bytes, first, first_time, last, last_time, subjects } = info.state;
        let named = info.subjects.iter().flatten().map(|(subject, count)| (&**subject, *count));
        WireState {
            messages,
            bytes,
            // Stock shows 0 until something was stored, unless it was told where to begin; ours is then 1, the next to come.
            first_seq: if last == Sequence(0) && messages == 0 && info.config.first_sequence == 0 {
                0
            } else {
                first.0
            },
            first_ts: Time(if messages == 0 { Timestamp(0) } else { first_time }),
            last_seq: last.0,
            last_ts: Time(last_time),
            num_subjects: subjects,
            subjects: named.collect(),
            num_deleted: info.deleted,
            deleted: info.deleted_list.iter().flatten().map(|sequence| sequence.0).collect(),
            consumer_count: info.consumers,
        }
    }
}

/// Info has a page of subjects; create and update have not.
#[derive(Serialize)]
struct WireStreamInfo<'a> {
    #[serde(flatten)]
    page: Page,
    #[serde(flatten)]
    stream: WireStream<'a>,
}

fn stream(kind: Kind, info: &StreamInfo, server: &Server<'_>, into: &mut Vec<u8>) {
    let mut stream = WireStream::new(info, server);
    let Kind::StreamInfo { offset } = kind else {
        // Stock says so also when an equal stream was there already.
        stream.did_create = kind == Kind::StreamCreate;
        return envelope(kind, &stream, into);
    };
    stream.cluster = Some(WireCluster { leader: server.name });
    let page = subjects_page(info, offset);
    envelope(kind, &WireStreamInfo { page, stream }, into);
}

/// All zero when no subjects were asked for or found.
fn subjects_page(info: &StreamInfo, offset: u64) -> Page {
    match info.matching_subjects {
        0 => Page { total: 0, offset: 0, limit: 0 },
        total => Page { total, offset, limit: SUBJECTS_LIMIT },
    }
}

#[derive(Serialize)]
struct WireStreamNames<'a> {
    #[serde(flatten)]
    page: Page,
    /// `null` when there are none, which old clients expect.
    streams: Option<&'a [Box<str>]>,
}

fn stream_names(kind: Kind, names: &[Box<str>], total: u64, offset: u64, into: &mut Vec<u8>) {
    let streams = if names.is_empty() && kind == Kind::StreamNames { None } else { Some(names) };
    envelope(kind, &WireStreamNames { page: Page::new(total, offset, NAMES_LIMIT), streams }, into);
}

#[derive(Serialize)]
struct WireStreamList<'a> {
    #[serde(flatten)]
    page: Page,
    streams: Vec<WireStream<'a>>,
}

#[derive(Serialize)]
struct WireConsumerNames<'a> {
    #[serde(flatten)]
    page: Page,
    consumers: &'a [Box<str>],
}

#[derive(Serialize)]
struct WireConsumerList<'a> {
    #[serde(flatten)]
    page: Page,
    consumers: Vec<WireConsumer<'a>>,
}

#[derive(Serialize)]
struct WireMessageAnswer<'a> {
    message: WireMessage<'a>,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    subject: std::borrow::Cow<'a, str>,
    seq: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    hdrs: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
    time: Time,
}

fn message(kind: Kind, buffer: &MessageBuffer, into: &mut Vec<u8>) {
    let Some(message) = buffer.iter().next() else {
        return encode_error(kind, &api_error::NO_MESSAGE_FOUND, into);
    };
    let headers = if kind == (Kind::MessageGet { headers: false }) { &[] } else { message.headers };
    let wire = WireMessage {
        subject: String::from_utf8_lossy(message.subject),
        seq: message.sequence.0,
        hdrs: STANDARD.encode(headers),
        data: STANDARD.encode(message.payload),
        time: Time(message.time),
    };
    envelope(kind, &WireMessageAnswer { message: wire }, into);
}

#[derive(Serialize)]
struct WireConsumer<'a> {
    stream_name: &'a str,
    name: &'a str,
    created: Time,
    config: WireConsumerConfig<'a>,
    delivered: WirePosition,
    ack_floor: WirePosition,
    num_ack_pending: u64,
    num_redelivered: u64,
    num_waiting: u64,
    num_pending: u64,
    #[serde(skip_serializing_if = "is_zero")]
    push_bound: bool,
    #[serde(skip_serializing_if = "is_zero")]
    paused: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pause_remaining: u64,
    ts: Time,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    priority_groups: Vec<WireGroup<'a>>,
}

#[derive(Serialize)]
struct WireReset<'a> {
    #[serde(flatten)]
    consumer: WireConsumer<'a>,
    reset_seq: u64,
}

#[derive(Serialize)]
struct WireGroup<'a> {
    group: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned_client_id: Option<&'a str>,
    /// Go's zero time when nobody is pinned.
    pinned_ts: Time,
}

impl<'a> WireGroup<'a> {
    fn new(state: &'a GroupState) -> WireGroup<'a> {
        let (pin, since) = state.pin.as_ref().map_or((None, Timestamp(0)), |(pin, since)| (Some(&**pin), *since));
        WireGroup { group: &state.group, pinned_client_id: pin, pinned_ts: Time(since) }
    }
}

#[derive(Serialize)]
struct WirePosition {
    consumer_seq: u64,
    stream_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_active: Option<Time>,
}

impl WirePosition {
    fn new(position: (ConsumerSequence, Sequence, Option<Timestamp>)) -> WirePosition {
        let (consumer, stream, time) = position;
        WirePosition { consumer_seq: consumer.0, stream_seq: stream.0, last_active: time.map(Time) }
    }
}

impl<'a> WireConsumer<'a> {
    fn new(info: &'a ConsumerInfo, server: &Server<'a>) -> WireConsumer<'a> {
        WireConsumer {
            stream_name: &info.stream,
            name: &info.name,
            created: Time(info.created),
            config: WireConsumerConfig::new(&info.config, server.version),
            delivered: WirePosition::new(info.delivered),
            ack_floor: WirePosition::new(info.ack_floor),
            num_ack_pending: info.ack_pending,
            num_redelivered: info.redelivered,
            num_waiting: info.waiting,
            num_pending: info.pending,
            push_bound: info.push_bound || server.push_bound,
            paused: info.pause_remaining_ns() > 0,
            pause_remaining: info.pause_remaining_ns(),
            ts: Time(info.now),
            priority_groups: info.group.iter().map(WireGroup::new).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
