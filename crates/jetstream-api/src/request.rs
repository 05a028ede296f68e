//! From an API subject and body to what is asked of the store, or to the refusal that needs no store.

use crate::consumer_config;
use crate::direct_get::{self, DirectRequest, GetFields};
use crate::json;
use crate::pull;
use crate::snapshot::{self, SnapshotRequest};
use crate::stream_config::{self, Purpose};
use crate::templates;
use jetstream::api_error::{self, ApiError};
use jetstream::command::{ConsumerAction, Pull, Request};
use jetstream::identity::{Sequence, Timestamp};

/// Which answer a request gets: its `type`, and what an error of it carries besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the variants are the API's own operations
pub enum Kind {
    AccountInfo,
    StreamCreate,
    StreamUpdate,
    /// With the offset into the list of subjects.
    StreamInfo {
        offset: u64,
    },
    StreamNames,
    StreamList,
    StreamDelete,
    StreamPurge,
    StreamSnapshot,
    StreamRestore,
    /// The end of a restore, which stock answers as a creation.
    StreamRestored,
    StreamLeaderStepdown,
    TemplateCreate,
    TemplateNames,
    TemplateInfo,
    TemplateDelete,
    StreamPeerRemove,
    /// With or without the message's headers.
    MessageGet {
        headers: bool,
    },
    MessageDelete,
    ConsumerCreate,
    ConsumerInfo,
    ConsumerNames,
    ConsumerList,
    ConsumerDelete,
    ConsumerPause,
    ConsumerReset,
    ConsumerUnpin,
    ConsumerLeaderStepdown,
}

/// What a request turned out to be.
#[derive(Debug)]
pub enum Parsed {
    /// Ask the store; the answer is written by [`crate::encode`] with this kind.
    Request(Kind, Request),
    /// A snapshot is wanted: [`Request::StreamSnapshot`] if there is such a stream, whose absence counts before what is wrong with the request.
    Snapshot {
        /// The stream.
        stream: Box<str>,
        /// How it is to be sent.
        request: Result<SnapshotRequest, ApiError>,
    },
    /// Messages are wanted. Its inbox is empty: it is the request's reply subject.
    Pull(Box<Pull>),
    /// Messages are wanted as they are: [`crate::direct_message`], or their payloads alone without `headers`. Nothing found is the status
    /// `404 Message Not Found`; a stream that does not allow it is as good as no responder.
    DirectGet {
        /// The stream.
        stream: Box<str>,
        /// Which messages.
        get: DirectRequest,
        /// With headers.
        headers: bool,
    },
    /// Answer with this status line, that begins with its code and follows `NATS/1.0 `. `consumer` is there for a pull: when it does not exist
    /// there is no answer but "no responders".
    Status {
        /// The status line.
        line: String,
        /// The stream.
        stream: Box<str>,
        /// The consumer of a pull request.
        consumer: Option<Box<str>>,
    },
    /// Refused without looking at the store: [`crate::encode_error`].
    Refused(Kind, ApiError),
    /// No such operation: silence.
    Unknown,
}

/// Reads a request. `subject` is what stands behind `$JS.API.` or `$JS.<domain>.API.`.
#[must_use]
pub fn parse(subject: &[u8], payload: &[u8]) -> Parsed {
    let Ok(subject) = std::str::from_utf8(subject) else { return Parsed::Unknown };
    let (group, rest) = subject.split_once('.').unwrap_or((subject, ""));
    match (group, rest) {
        ("INFO", "") => Parsed::Request(Kind::AccountInfo, Request::AccountInfo),
        ("STREAM", rest) => stream(rest, payload),
        ("CONSUMER", rest) => consumer(rest, payload),
        ("DIRECT", rest) => direct(rest, payload),
        _ => Parsed::Unknown,
    }
}

/// The result of reading a body, for an answer of this kind.
pub(crate) fn settle(kind: Kind, request: Result<Request, ApiError>) -> Parsed {
    match request {
        Ok(request) => Parsed::Request(kind, request),
        Err(error) => Parsed::Refused(kind, error),
    }
}

fn stream(rest: &str, payload: &[u8]) -> Parsed {
    let mut tokens = rest.split('.');
    let operation = (tokens.next(), tokens.next(), tokens.next(), tokens.next());
    match operation {
        (Some("NAMES"), None, ..) => settle(
            Kind::StreamNames,
            stream_page(payload, "JSApiStreamNamesRequest")
                .map(|(subject, offset)| Request::StreamNames { subject, offset }),
        ),
        (Some("LIST"), None, ..) => settle(
            Kind::StreamList,
            stream_page(payload, "JSApiStreamListRequest")
                .map(|(subject, offset)| Request::StreamList { subject, offset }),
        ),
        (Some("MSG"), Some("GET"), Some(name), None) => message_get(name, payload),
        (Some("MSG"), Some("DELETE"), Some(name), None) => settle(Kind::MessageDelete, message_delete(name, payload)),
        (Some("LEADER"), Some("STEPDOWN"), Some(_), None) => {
            Parsed::Refused(Kind::StreamLeaderStepdown, api_error::CLUSTER_REQUIRED)
        }
        (Some("PEER"), Some("REMOVE"), Some(_), None) => {
            Parsed::Refused(Kind::StreamPeerRemove, api_error::CLUSTER_REQUIRED)
        }
        (Some("TEMPLATE"), Some(operation), name, None) => templates::template(operation, name, payload),
        (Some(verb), Some(name), None, _) => stream_by_name(verb, name, payload),
        _ => Parsed::Unknown,
    }
}

fn stream_by_name(verb: &str, name: &str, payload: &[u8]) -> Parsed {
    match verb {
        "CREATE" => settle(Kind::StreamCreate, stream_request(name, payload, Purpose::Create)),
        "UPDATE" => settle(Kind::StreamUpdate, stream_request(name, payload, Purpose::Update)),
        "INFO" => stream_info(name, payload),
        "DELETE" => settle(Kind::StreamDelete, no_body(payload).map(|()| Request::StreamDelete { name: name.into() })),
        "PURGE" => settle(Kind::StreamPurge, stream_purge(name, payload)),
        "SNAPSHOT" => snapshot::snapshot(name, payload),
        "RESTORE" => snapshot::restore(name, payload),
        _ => Parsed::Unknown,
    }
}

/// Some clients say "no body" with an empty object; stock takes it, and blanks.
pub(crate) fn no_body(payload: &[u8]) -> Result<(), ApiError> {
    let payload = payload.trim_ascii();
    let object = payload.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    if object.unwrap_or(payload).trim_ascii().is_empty() { Ok(()) } else { Err(api_error::NOT_EMPTY_REQUEST) }
}

/// Some requests take a body only when it looks like JSON, and ignore any other.
fn optional(payload: &[u8], go_type: &str) -> Result<json::Object, ApiError> {
    let looks = matches!(payload.trim_ascii_start().first(), Some(b'{' | b'['));
    json::parse(if looks { payload } else { b"" }, go_type)
}

fn some(text: String) -> Option<Box<str>> {
    if text.is_empty() { None } else { Some(text.into()) }
}

pub(crate) fn offset(body: &mut json::Object) -> Result<u64, ApiError> {
    Ok(u64::try_from(body.count("offset")?).unwrap_or(0))
}

fn stream_request(name: &str, payload: &[u8], purpose: Purpose) -> Result<Request, ApiError> {
    let draft = stream_config::read(json::parse(payload, "StreamConfigRequest")?)?;
    let (other_name, replicated, pedantic) = (draft.name() != name, draft.is_replicated(), draft.is_pedantic());
    if other_name && purpose == Purpose::Create {
        return Err(api_error::STREAM_MISMATCH);
    }
    let config = Box::new(draft.finish(purpose)?);
    if other_name {
        Err(api_error::STREAM_MISMATCH)
    } else if purpose != Purpose::Update {
        Ok(pedantically(pedantic, Request::StreamCreate { config }))
    } else if replicated {
        let error = api_error::STREAM_REPLICAS_NOT_SUPPORTED;
        let (unacknowledged, delivers_to) = (false, Box::default());
        Ok(Request::Impossible { stream: name.into(), error, unacknowledged, delivers_to })
    } else {
        Ok(pedantically(pedantic, Request::StreamUpdate { config }))
    }
}

/// Refused where it would be adjusted?
fn pedantically(pedantic: bool, request: Request) -> Request {
    if pedantic { Request::Pedantic(Box::new(request)) } else { request }
}

fn stream_info(name: &str, payload: &[u8]) -> Parsed {
    let read = || {
        let mut body = optional(payload, "JSApiStreamInfoRequest")?;
        let subjects_filter = some(body.text_or_empty("subjects_filter")?);
        let deleted_details = body.flag("deleted_details")?;
        let offset = offset(&mut body)?;
        body.finish()?;
        Ok((offset, Request::StreamInfo { name: name.into(), subjects_filter, deleted_details, offset }))
    };
    match read() {
        Ok((offset, request)) => Parsed::Request(Kind::StreamInfo { offset }, request),
        Err(error) => Parsed::Refused(Kind::StreamInfo { offset: 0 }, error),
    }
}

fn stream_page(payload: &[u8], go_type: &str) -> Result<(Option<Box<str>>, u64), ApiError> {
    let mut body = optional(payload, go_type)?;
    let subject = some(body.text_or_empty("subject")?);
    let offset = offset(&mut body)?;
    body.finish()?;
    Ok((subject, offset))
}

fn stream_purge(name: &str, payload: &[u8]) -> Result<Request, ApiError> {
    let mut body = optional(payload, "JSApiStreamPurgeRequest")?;
    let filter = some(body.text_or_empty("filter")?);
    let below = Some(body.unsigned("seq")?).filter(|sequence| *sequence > 0).map(Sequence);
    let keep = Some(body.unsigned("keep")?).filter(|keep| *keep > 0);
    body.finish()?;
    if below.is_some() && keep.is_some() {
        return Err(api_error::BAD_REQUEST);
    }
    Ok(Request::StreamPurge { name: name.into(), filter, below, keep })
}

fn message_get(name: &str, payload: &[u8]) -> Parsed {
    let read = || {
        if payload.is_empty() {
            return Err(api_error::BAD_REQUEST);
        }
        let mut body = json::parse(payload, "JSApiMsgGetRequest")?;
        let fields = GetFields::read(&mut body)?;
        body.finish()?;
        if fields.batch > 0 || fields.max_bytes > 0 {
            return Err(api_error::BAD_REQUEST);
        }
        let get = fields.one().ok_or(api_error::BAD_REQUEST)?;
        Ok((!fields.no_headers, Request::MessageGet { name: name.into(), get }))
    };
    match read() {
        Ok((headers, request)) => Parsed::Request(Kind::MessageGet { headers }, request),
        Err(error) => Parsed::Refused(Kind::MessageGet { headers: true }, error),
    }
}

fn message_delete(name: &str, payload: &[u8]) -> Result<Request, ApiError> {
    if no_body(payload).is_ok() {
        return Err(api_error::BAD_REQUEST);
    }
    let mut body = json::parse(payload, "JSApiMsgDeleteRequest")?;
    let sequence = Sequence(body.unsigned("seq")?);
    let erase = !body.flag("no_erase")?;
    body.finish()?;
    Ok(Request::MessageDelete { name: name.into(), sequence, erase })
}

fn consumer(rest: &str, payload: &[u8]) -> Parsed {
    let (verb, rest) = rest.split_once('.').unwrap_or((rest, ""));
    let mut tokens = rest.split('.');
    let places = (tokens.next().filter(|token| !token.is_empty()), tokens.next(), tokens.next(), tokens.next());
    match (verb, places) {
        ("CREATE", (Some(_), ..)) => consumer_create(rest, payload),
        ("DURABLE", (Some("CREATE"), Some(stream), Some(name), None)) => {
            let request = consumer_request(stream, Some(name), None, true, payload);
            settle(Kind::ConsumerCreate, request)
        }
        ("MSG", (Some("NEXT"), Some(stream), Some(name), None)) => match pull::pull(stream, name, payload) {
            Ok(pull) => Parsed::Pull(Box::new(pull)),
            Err(line) => Parsed::Status { line, stream: stream.into(), consumer: Some(name.into()) },
        },
        ("LEADER", (Some("STEPDOWN"), Some(_), Some(_), None)) => {
            Parsed::Refused(Kind::ConsumerLeaderStepdown, api_error::CLUSTER_REQUIRED)
        }
        ("NAMES", (Some(stream), None, ..)) => {
            let request = |offset| Request::ConsumerNames { stream: stream.into(), offset };
            settle(Kind::ConsumerNames, consumer_page(payload).map(request))
        }
        ("LIST", (Some(stream), None, ..)) => {
            let request = |offset| Request::ConsumerList { stream: stream.into(), offset };
            settle(Kind::ConsumerList, consumer_page(payload).map(request))
        }
        (verb, (Some(stream), Some(name), None, _)) => consumer_by_name(verb, stream, name, payload),
        _ => Parsed::Unknown,
    }
}

fn consumer_by_name(verb: &str, stream: &str, name: &str, payload: &[u8]) -> Parsed {
    let (stream, name) = (stream.into(), name.into());
    match verb {
        "INFO" => settle(Kind::ConsumerInfo, no_body(payload).map(|()| Request::ConsumerInfo { stream, name })),
        "DELETE" => settle(Kind::ConsumerDelete, no_body(payload).map(|()| Request::ConsumerDelete { stream, name })),
        "PAUSE" => {
            let request = pause(payload).map(|until| Request::ConsumerPause { stream, name, until });
            settle(Kind::ConsumerPause, request)
        }
        "RESET" => {
            let request = |sequence| Request::ConsumerReset { stream, name, sequence, with_identity: false };
            settle(Kind::ConsumerReset, reset(payload).map(request))
        }
        "UNPIN" => {
            let request = unpin(payload).map(|group| Request::ConsumerUnpin { stream, name, group });
            settle(Kind::ConsumerUnpin, request)
        }
        _ => Parsed::Unknown,
    }
}

/// Until when; an empty body ends the pause.
fn pause(payload: &[u8]) -> Result<Option<Timestamp>, ApiError> {
    let mut body = optional(payload, "JSApiConsumerPauseRequest")?;
    let until = body.time("pause_until")?;
    body.finish()?;
    Ok(consumer_config::pause_until(until).filter(|until| until.0 != 0))
}

/// Where to begin; 0, and an empty body: at the ack floor.
fn reset(payload: &[u8]) -> Result<Sequence, ApiError> {
    if payload.is_empty() {
        return Ok(Sequence(0));
    }
    let mut body = json::parse_lenient(payload, "JSApiConsumerResetRequest").map_err(api_error::invalid_json)?;
    body.unsigned("seq").map(Sequence)
}

/// The group whose pinned client is to go.
fn unpin(payload: &[u8]) -> Result<Box<str>, ApiError> {
    let mut body = json::parse_lenient(payload, "JSApiConsumerUnpinRequest").map_err(api_error::invalid_json)?;
    let group = body.text_or_empty("group")?;
    if group.is_empty() {
        return Err(api_error::invalid_json("consumer group not specified"));
    }
    Ok(group.into())
}

fn consumer_page(payload: &[u8]) -> Result<u64, ApiError> {
    let mut body = optional(payload, "JSApiConsumersRequest")?;
    let offset = offset(&mut body)?;
    body.finish()?;
    Ok(offset)
}

/// `CONSUMER.CREATE.<stream>[.<name>[.<filter>]]`
fn consumer_create(rest: &str, payload: &[u8]) -> Parsed {
    let mut parts = rest.splitn(3, '.');
    let (stream, name, filter) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    settle(Kind::ConsumerCreate, consumer_request(stream, name, filter, false, payload))
}

fn consumer_request(
    stream: &str,
    name: Option<&str>,
    filter: Option<&str>,
    durable: bool,
    payload: &[u8],
) -> Result<Request, ApiError> {
    let mut body = json::parse(payload, "CreateConsumerRequest")?;
    let stream_name = body.text_or_empty("stream_name")?;
    let mut draft = consumer_config::read(body.object("config", "ConsumerConfig")?)?;
    let action = body.word_or(
        "action",
        &[("", ConsumerAction::CreateOrUpdate), ("create", ConsumerAction::Create), ("update", ConsumerAction::Update)],
        |value| format!("unknown consumer action: {value}"),
    )?;
    let pedantic = body.flag("pedantic")?;
    body.finish()?;
    if pedantic {
        draft.be_pedantic();
    }
    if stream_name != stream {
        return Err(api_error::STREAM_MISMATCH);
    }
    if name.unwrap_or(&draft.name).contains(['/', '\\']) {
        return Err(api_error::CONSUMER_NAME_CONTAINS_PATH_SEPARATORS);
    }
    match name {
        None if !draft.durable_name.is_empty() => return Err(api_error::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME),
        None => {}
        Some(name) => {
            if durable && draft.durable_name.is_empty() {
                return Err(api_error::CONSUMER_DURABLE_NAME_NOT_SET);
            }
            if !draft.durable_name.is_empty() && draft.durable_name != name {
                return Err(api_error::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT);
            }
            // What stands in the subject counts.
            name.clone_into(&mut draft.name);
        }
    }
    if let Some(filter) = filter {
        if !draft.filter_subjects.is_empty() {
            return Err(api_error::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED);
        }
        if draft.filter_subject != filter {
            return Err(api_error::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH);
        }
    }
    draft.check_replicas()?;
    let (stream, unacknowledged) = (stream.into(), draft.pulls_unacknowledged());
    Ok(match draft.finish() {
        Ok(config) => pedantically(pedantic, Request::ConsumerCreate { stream, config: Box::new(config), action }),
        Err((error, delivers_to)) => Request::Impossible { stream, error, unacknowledged, delivers_to },
    })
}

/// `DIRECT.GET.<stream>[.<subject>]`
fn direct(rest: &str, payload: &[u8]) -> Parsed {
    let mut parts = rest.splitn(3, '.');
    let (Some("GET"), Some(stream), subject) = (parts.next(), parts.next(), parts.next()) else {
        return Parsed::Unknown;
    };
    match direct_get::read(subject, payload) {
        Ok((get, headers)) => Parsed::DirectGet { stream: stream.into(), get, headers },
        Err(line) => Parsed::Status { line: line.to_owned(), stream: stream.into(), consumer: None },
    }
}
