//! Where a stream takes messages from: in its configuration, in its info, and in what a puller asks an origin for and is answered.

use crate::json::Object;
use crate::wire::{Time, is_zero, write};
use jetstream::api_error::{self, ApiError};
use jetstream::config::{
    AckPolicy, ConsumerConfig, DeliverPolicy, ExternalStream, Source, SourceConsumer, StreamConfig, SubjectTransform,
};
use jetstream::identity::{Sequence, StreamId};
use jetstream::origin::Created;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// How an origin is doing, by stream in the order of its configuration.
pub type OriginInfos = BTreeMap<StreamId, Vec<OriginInfo>>;

/// How an origin is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginInfo {
    /// Messages that are still to come.
    pub lag: u64,
    /// The last one that came, by its sequence at the origin. Shown of sources.
    pub sequence: Sequence,
    /// Nanoseconds since it was last heard; `None`: never.
    pub active_ns: Option<u64>,
    /// Why nothing comes.
    pub error: Option<ApiError>,
}

/// Reads `mirror` and `sources`.
pub(crate) fn read(body: &mut Object, config: &mut StreamConfig) -> Result<(), ApiError> {
    if let Some(mirror) = body.object_if_there("mirror", "StreamSource")? {
        config.mirror = Some(Box::new(read_source(mirror)?));
    }
    config.sources = body.objects("sources", "StreamSource")?.into_iter().map(read_source).collect::<Result<_, _>>()?;
    config.mirror_direct = body.flag("mirror_direct")?;
    Ok(())
}

fn read_source(mut body: Object) -> Result<Source, ApiError> {
    let source = Source {
        name: body.text_or_empty("name")?.into(),
        start_sequence: body.unsigned("opt_start_seq")?,
        start_time: body.time("opt_start_time")?,
        filter: body.text_or_empty("filter_subject")?.into(),
        transforms: body
            .objects("subject_transforms", "SubjectTransformConfig")?
            .into_iter()
            .map(read_transform)
            .collect::<Result<_, _>>()?,
        external: body.object_if_there("external", "ExternalStream")?.map(read_external).transpose()?,
        consumer: body.object_if_there("consumer", "StreamConsumerSource")?.map(read_consumer).transpose()?,
    };
    body.finish()?;
    Ok(source)
}

fn read_transform(mut body: Object) -> Result<SubjectTransform, ApiError> {
    let transform =
        SubjectTransform { source: body.text_or_empty("src")?.into(), destination: body.text_or_empty("dest")?.into() };
    body.finish()?;
    Ok(transform)
}

fn read_external(mut body: Object) -> Result<ExternalStream, ApiError> {
    let external =
        ExternalStream { api: body.text_or_empty("api")?.into(), deliver: body.text_or_empty("deliver")?.into() };
    body.finish()?;
    Ok(external)
}

fn read_consumer(mut body: Object) -> Result<SourceConsumer, ApiError> {
    let (name, subject) = (body.text_or_empty("name")?, body.text_or_empty("deliver_subject")?);
    body.finish()?;
    Ok(SourceConsumer { name: name.into(), deliver_subject: subject.into() })
}

/// A source as it stands in a configuration, in stock's order of keys.
#[derive(Serialize)]
pub(crate) struct WireSource<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    opt_start_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    opt_start_time: Option<Time>,
    #[serde(skip_serializing_if = "str::is_empty")]
    filter_subject: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subject_transforms: Vec<WireTransform<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<WireExternal<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<WireSourceConsumer<'a>>,
}

#[derive(Serialize)]
struct WireTransform<'a> {
    src: &'a str,
    dest: &'a str,
}

#[derive(Serialize)]
struct WireExternal<'a> {
    api: &'a str,
    deliver: &'a str,
}

#[derive(Serialize)]
struct WireSourceConsumer<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    deliver_subject: &'a str,
}

fn transforms(source: &Source) -> Vec<WireTransform<'_>> {
    source.transforms.iter().map(|one| WireTransform { src: &one.source, dest: &one.destination }).collect()
}

fn external(source: &Source) -> Option<WireExternal<'_>> {
    source.external.as_ref().map(|external| WireExternal { api: &external.api, deliver: &external.deliver })
}

impl<'a> WireSource<'a> {
    pub(crate) fn new(source: &'a Source) -> WireSource<'a> {
        WireSource {
            name: &source.name,
            opt_start_seq: source.start_sequence,
            opt_start_time: source.start_time.map(Time),
            filter_subject: &source.filter,
            subject_transforms: transforms(source),
            external: external(source),
            consumer: source.consumer.as_ref().map(|consumer| WireSourceConsumer {
                name: &consumer.name,
                deliver_subject: &consumer.deliver_subject,
            }),
        }
    }
}

/// An origin as a stream's info shows it.
#[derive(Serialize)]
pub(crate) struct WireOrigin<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<WireExternal<'a>>,
    lag: u64,
    #[serde(skip_serializing_if = "is_zero")]
    seq: u64,
    active: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<WireError<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    filter_subject: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subject_transforms: Vec<WireTransform<'a>>,
}

#[derive(Serialize)]
struct WireError<'a> {
    code: u16,
    err_code: u16,
    description: &'a str,
}

impl<'a> WireOrigin<'a> {
    /// Of a source and what is known of it.
    pub(crate) fn new(source: &'a Source, info: Option<&'a OriginInfo>, is_mirror: bool) -> WireOrigin<'a> {
        let error = info.and_then(|info| info.error.as_ref());
        WireOrigin {
            name: &source.name,
            external: external(source),
            lag: info.map_or(0, |info| info.lag),
            // A mirror's is its last sequence.
            seq: info.filter(|_| !is_mirror).map_or(0, |info| info.sequence.0),
            // Stock says -1 when it has not heard anything yet.
            active: info.and_then(|info| info.active_ns).map_or(-1, |active| i64::try_from(active).unwrap_or(i64::MAX)),
            error: error.map(|error| WireError {
                code: error.code,
                err_code: error.err_code,
                description: &error.description,
            }),
            filter_subject: &source.filter,
            subject_transforms: transforms(source),
        }
    }
}

/// Appends the body of a puller's request for a consumer.
pub fn encode_origin_request(stream: &str, config: &ConsumerConfig, into: &mut Vec<u8>) {
    write(&WireRequest { stream_name: stream, config: WireRequested::new(config), action: "" }, into);
}

#[derive(Serialize)]
struct WireRequest<'a> {
    stream_name: &'a str,
    config: WireRequested<'a>,
    action: &'static str,
}

/// Only what a puller's consumer may have: an older server refuses fields that it does not know.
#[derive(Serialize)]
struct WireRequested<'a> {
    name: &'a str,
    deliver_policy: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    opt_start_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    opt_start_time: Option<Time>,
    ack_policy: &'static str,
    ack_wait: u64,
    max_deliver: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter_subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    filter_subjects: Vec<&'a str>,
    replay_policy: &'static str,
    flow_control: bool,
    deliver_subject: &'a str,
    idle_heartbeat: u64,
    inactive_threshold: u64,
    num_replicas: u32,
    direct: bool,
    #[serde(skip_serializing_if = "is_zero")]
    sourcing: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
}

impl<'a> WireRequested<'a> {
    fn new(config: &'a ConsumerConfig) -> WireRequested<'a> {
        let (deliver_policy, opt_start_seq, opt_start_time) = match config.deliver_policy {
            DeliverPolicy::FromSequence(sequence) => ("by_start_sequence", sequence.0, None),
            DeliverPolicy::FromTime(time) => ("by_start_time", 0, Some(Time(time))),
            _ => ("all", 0, None),
        };
        let (filter_subject, filter_subjects) = match &config.filters[..] {
            [one] => (Some(one.as_str()), Vec::new()),
            many => (None, many.iter().map(subject::Filter::as_str).collect()),
        };
        let push = config.push.as_ref();
        WireRequested {
            name: &config.name,
            deliver_policy,
            opt_start_seq,
            opt_start_time,
            ack_policy: if config.ack_policy == AckPolicy::FlowControl { "flow_control" } else { "none" },
            ack_wait: config.ack_wait_ns,
            max_deliver: config.max_deliver,
            filter_subject,
            filter_subjects,
            replay_policy: "instant",
            flow_control: push.is_some_and(|push| push.flow_control),
            deliver_subject: push.map_or("", |push| &push.subject),
            idle_heartbeat: push.map_or(0, |push| push.heartbeat_ns),
            inactive_threshold: config.inactive_threshold_ns,
            num_replicas: 0,
            direct: config.direct,
            sourcing: config.sourcing,
            metadata: &config.metadata,
        }
    }
}

/// Reads the answer to it, leniently: whoever answers may be older or newer. `identity`: of the answer's header.
///
/// # Errors
/// The error of the answer, or that it is no answer.
pub fn decode_origin_answer(payload: &[u8], identity: &str) -> Result<Created, ApiError> {
    let invalid = || api_error::source_consumer_setup_failed("invalid consumer create response");
    if payload.len() > crate::json::MAX_BODY {
        return Err(invalid());
    }
    let body: Value = serde_json::from_slice(payload).map_err(|_| invalid())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(error) = body.get("error").filter(|error| error.is_object()) {
        let number = |key: &str| error[key].as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or_default();
        let mut description = text(&error["description"]);
        description.truncate(description.char_indices().nth(512).map_or(description.len(), |(at, _)| at));
        return Err(ApiError { code: number("code"), err_code: number("err_code"), description: description.into() });
    }
    let config = body.get("config").filter(|config| config.is_object()).ok_or_else(invalid)?;
    let (name, deliver_subject) = (text(&body["name"]), text(&config["deliver_subject"]));
    let is_usable = |subject: &str| subject::Filter::parse(subject).is_ok_and(|filter| filter.is_literal());
    if name.is_empty() || !is_usable(&deliver_subject) {
        return Err(invalid());
    }
    Ok(Created {
        name: name.into(),
        deliver_subject: deliver_subject.into(),
        delivered: Sequence(body["delivered"]["stream_seq"].as_u64().unwrap_or(0)),
        is_confirmed_by_flow: config["ack_policy"] == "flow_control",
        identity: identity.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demands::{Demands, parse_demanding};
    use crate::request::Parsed;
    use jetstream::command::Request;
    use jetstream::config::Push;

    #[test]
    fn what_is_asked_is_understood_by_our_own_side() {
        let config = ConsumerConfig {
            durable: false,
            deliver_policy: DeliverPolicy::FromSequence(Sequence(7)),
            ack_policy: AckPolicy::None,
            max_deliver: 1,
            push: Some(Push {
                subject: "$JS.S.x".into(),
                flow_control: true,
                heartbeat_ns: 1_000_000_000,
                ..Push::default()
            }),
            inactive_threshold_ns: 10_000_000_000,
            metadata: [("_nats.src.stream".to_owned(), "S".to_owned())].into(),
            direct: true,
            sourcing: true,
            ..ConsumerConfig::named("JS_SRC_x")
        };
        let mut json = Vec::new();
        encode_origin_request("EV", &config, &mut json);
        let demands = Demands { level: Some(b"5"), identity: Some(b"") };
        let parsed = parse_demanding(b"CONSUMER.CREATE.EV", &json, demands);
        let Parsed::Request(_, Request::SourceCreate { stream, config: read, identity: None, .. }) = parsed else {
            panic!("{parsed:?}")
        };
        assert_eq!((&*stream, &read.name, &read.push), ("EV", &config.name, &config.push));
        assert_eq!((read.deliver_policy, read.sourcing), (config.deliver_policy, true));
    }

    #[test]
    fn answers_are_read_leniently() {
        let error = br#"{"type":"x","error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
        assert_eq!(decode_origin_answer(error, ""), Err(api_error::STREAM_NOT_FOUND));
        let good = br#"{"name":"C-1","more":1,"config":{"deliver_subject":"$JS.S.x","ack_policy":"none"},"delivered":{"stream_seq":4}}"#;
        let created = decode_origin_answer(good, "id").expect("an answer");
        assert_eq!((&*created.name, &*created.deliver_subject, created.delivered), ("C-1", "$JS.S.x", Sequence(4)));
        assert_eq!((&*created.identity, created.is_confirmed_by_flow), ("id", false));
        for bad in ["", "null", "{}", r#"{"config":{}}"#, r#"{"name":"C","config":{"deliver_subject":"a.*"}}"#, "[1"] {
            assert!(decode_origin_answer(bad.as_bytes(), "").is_err(), "{bad}");
        }
    }
}
