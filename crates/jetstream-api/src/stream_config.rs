//! A stream's configuration: JSON to [`StreamConfig`] and back, complete as stock prints it.

use crate::API_LEVEL;
use crate::json::Object;
use crate::stream_check;
use crate::wire::is_zero;
use jetstream::api_error::{self, ApiError};
use jetstream::config::{ConsumerLimits, Discard, Republish, Retention, Storage, StreamConfig, SubjectTransform};
use serde::Serialize;
use std::collections::BTreeMap;

/// Fields of stock that this version does not build.
const UNSUPPORTED: [&str; 10] = [
    "no_ack",
    "mirror",
    "sources",
    "placement",
    "mirror_direct",
    "subject_delete_marker_ttl",
    "allow_atomic",
    "allow_batched",
    "allow_msg_counter",
    "allow_msg_schedules",
];

/// Metadata that is the server's.
pub(crate) const OF_THE_SERVER: [&str; 3] = ["_nats.level", "_nats.req.level", "_nats.ver"];

/// Most copies that a stream could have in a cluster.
const MOST_REPLICAS: i64 = 5;

/// What a stream request holds besides the finished configuration.
pub(crate) struct Draft {
    config: StreamConfig,
    subjects: Vec<String>,
    max_age: i64,
    duplicate_window: i64,
    replicas: i64,
    unsupported: Option<&'static str>,
}

/// Is the stream made or changed?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Create,
    Update,
}

/// Reads the body of STREAM.CREATE or STREAM.UPDATE: types and fields, no meaning yet.
pub(crate) fn read(mut body: Object) -> Result<Draft, ApiError> {
    let mut config = StreamConfig::named("");
    config.name = body.text_or_empty("name")?.into();
    config.description = body.text_or_empty("description")?.into();
    let subjects = body.texts("subjects")?;
    config.max_consumers = unlimited(body.count("max_consumers")?);
    config.max_messages = unlimited(body.signed("max_msgs")?);
    config.max_bytes = unlimited(body.signed("max_bytes")?);
    config.max_messages_per_subject = unlimited(body.signed("max_msgs_per_subject")?);
    let max_message_size = body.short("max_msg_size")?;
    config.max_message_size = if max_message_size > 0 { max_message_size } else { -1 };
    let max_age = body.duration("max_age")?;
    let duplicate_window = body.duration("duplicate_window")?;
    config.retention = body.word(
        "retention",
        &[("limits", Retention::Limits), ("interest", Retention::Interest), ("workqueue", Retention::WorkQueue)],
    )?;
    config.storage = body.word("storage", &[("file", Storage::File), ("memory", Storage::Memory)])?;
    config.discard = body.word("discard", &[("old", Discard::Old), ("new", Discard::New)])?;
    config.discard_new_per_subject = body.flag("discard_new_per_subject")?;
    config.deny_delete = body.flag("deny_delete")?;
    config.deny_purge = body.flag("deny_purge")?;
    config.allow_rollup = body.flag("allow_rollup_hdrs")?;
    config.allow_direct = body.flag("allow_direct")?;
    config.sealed = body.flag("sealed")?;
    config.first_sequence = body.unsigned("first_seq")?;
    config.metadata = body.pairs("metadata")?;
    config.allow_message_ttl = body.flag("allow_msg_ttl")?;
    config.subject_transform = read_transform(&mut body)?;
    config.republish = read_republish(&mut body)?;
    config.consumer_limits = read_consumer_limits(&mut body)?;
    let replicas = body.count("num_replicas")?;
    // Asks stock to refuse instead of to adjust; what is adjusted here is shown in the answer.
    body.flag("pedantic")?;
    read_unsupported(&mut body)?;
    Ok(Draft { config, subjects, max_age, duplicate_window, replicas, unsupported: body.finish()? })
}

fn read_transform(body: &mut Object) -> Result<Option<SubjectTransform>, ApiError> {
    let Some(mut body) = body.object_if_there("subject_transform", "SubjectTransformConfig")? else { return Ok(None) };
    let transform =
        SubjectTransform { source: body.text_or_empty("src")?.into(), destination: body.text_or_empty("dest")?.into() };
    body.finish()?;
    Ok(Some(transform))
}

fn read_republish(body: &mut Object) -> Result<Option<Republish>, ApiError> {
    let Some(mut body) = body.object_if_there("republish", "RePublish")? else { return Ok(None) };
    let subjects =
        SubjectTransform { source: body.text_or_empty("src")?.into(), destination: body.text_or_empty("dest")?.into() };
    let headers_only = body.flag("headers_only")?;
    body.finish()?;
    Ok(Some(Republish { subjects, headers_only }).filter(|republish| *republish != Republish::default()))
}

fn read_consumer_limits(body: &mut Object) -> Result<ConsumerLimits, ApiError> {
    let mut body = body.object("consumer_limits", "StreamConsumerLimits")?;
    let limits = ConsumerLimits {
        inactive_threshold_ns: u64::try_from(body.duration("inactive_threshold")?).unwrap_or(0),
        max_ack_pending: body.count("max_ack_pending")?.max(0),
    };
    body.finish()?;
    Ok(limits)
}

/// From everywhere to everywhere would come back to the stream, unless its messages get other subjects: then it means those.
fn complete_republish(config: &mut StreamConfig) {
    let Some(republish) = &mut config.republish else { return };
    if republish.subjects.source.is_empty() {
        republish.subjects.source = ">".into();
    }
    let everything = SubjectTransform { source: ">".into(), destination: ">".into() };
    if let (Some(transform), [subject]) = (&config.subject_transform, &config.subjects[..])
        && republish.subjects == everything
        && *transform.source == *subject.as_str()
    {
        let stored = &transform.destination;
        republish.subjects = SubjectTransform { source: stored.clone(), destination: stored.clone() };
    }
}

fn read_unsupported(body: &mut Object) -> Result<(), ApiError> {
    let unknown = |_| api_error::invalid_json("unknown compression algorithm");
    let compression = body.word("compression", &[("none", false), ("s2", true)]).map_err(unknown)?;
    body.refuse_value("compression", compression);
    let persist_mode = body.word("persist_mode", &[("default", false), ("", false), ("async", true)])?;
    body.refuse_value("persist_mode", persist_mode);
    for key in UNSUPPORTED {
        body.unsupported(key);
    }
    Ok(())
}

/// 0 and everything below means "no limit".
fn unlimited(value: i64) -> i64 {
    if value > 0 { value } else { -1 }
}

impl Draft {
    /// The name in the body.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// For a cluster?
    pub(crate) fn is_replicated(&self) -> bool {
        self.replicas > 1
    }

    /// Judges what needs no state, in stock's order, and fills in the defaults.
    pub(crate) fn finish(mut self, purpose: Purpose) -> Result<StreamConfig, ApiError> {
        if self.config.sealed && purpose == Purpose::Create {
            return Err(api_error::stream_invalid_config("stream configuration for create can not be sealed"));
        }
        stream_check::name(&self.config.name)?;
        stream_check::texts(&self.config.description, &self.config.metadata)?;
        if self.replicas < 0 {
            return Err(api_error::REPLICAS_COUNT_CANNOT_BE_NEGATIVE);
        }
        if self.replicas > MOST_REPLICAS {
            let text = format_args!("maximum replicas is {MOST_REPLICAS}");
            return Err(api_error::stream_invalid_config(text));
        }
        stream_check::ages(self.max_age, self.duplicate_window)?;
        let config = &mut self.config;
        // Checked to be positive.
        config.max_age_ns = self.max_age.unsigned_abs();
        config.duplicate_window_ns = match (self.duplicate_window.unsigned_abs(), config.max_age_ns) {
            (0, 0) => StreamConfig::named("").duplicate_window_ns,
            (0, max_age) => StreamConfig::named("").duplicate_window_ns.min(max_age),
            (window, _) => window,
        };
        stream_check::rules(config)?;
        if self.subjects.is_empty() {
            self.subjects.push(config.name.clone().into());
        }
        config.subjects = stream_check::subjects(&self.subjects)?;
        complete_republish(config);
        if let Some(field) = self.unsupported {
            return Err(api_error::stream_invalid_config(format_args!(
                "{field}: this value is not supported by this server"
            )));
        }
        // Those are the server's, and told anew in each answer.
        config.metadata.retain(|key, _| !OF_THE_SERVER.contains(&key.as_str()));
        Ok(self.config)
    }
}

/// A configuration as it stands in an answer, in stock's order of keys.
#[derive(Serialize)]
pub(crate) struct WireStreamConfig<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subjects: Vec<&'a str>,
    retention: &'static str,
    max_consumers: i64,
    max_msgs: i64,
    max_bytes: i64,
    max_age: u64,
    max_msgs_per_subject: i64,
    max_msg_size: i32,
    discard: &'static str,
    storage: &'static str,
    num_replicas: u32,
    duplicate_window: u64,
    compression: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    first_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_transform: Option<WireTransform<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    republish: Option<WireRepublish<'a>>,
    allow_direct: bool,
    mirror_direct: bool,
    #[serde(skip_serializing_if = "is_zero")]
    discard_new_per_subject: bool,
    sealed: bool,
    deny_delete: bool,
    deny_purge: bool,
    allow_rollup_hdrs: bool,
    consumer_limits: WireConsumerLimits,
    allow_msg_ttl: bool,
    metadata: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct WireTransform<'a> {
    src: &'a str,
    dest: &'a str,
}

#[derive(Serialize)]
struct WireRepublish<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    src: &'a str,
    dest: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    headers_only: bool,
}

#[derive(Serialize)]
struct WireConsumerLimits {
    #[serde(skip_serializing_if = "is_zero")]
    inactive_threshold: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_ack_pending: i64,
}

impl<'a> WireStreamConfig<'a> {
    pub(crate) fn new(config: &'a StreamConfig, version: &'a str) -> WireStreamConfig<'a> {
        WireStreamConfig {
            name: &config.name,
            description: &config.description,
            subjects: config.subjects.iter().map(subject::Filter::as_str).collect(),
            retention: match config.retention {
                Retention::Limits => "limits",
                Retention::Interest => "interest",
                Retention::WorkQueue => "workqueue",
            },
            max_consumers: config.max_consumers,
            max_msgs: config.max_messages,
            max_bytes: config.max_bytes,
            max_age: config.max_age_ns,
            max_msgs_per_subject: config.max_messages_per_subject,
            max_msg_size: config.max_message_size,
            discard: match config.discard {
                Discard::Old => "old",
                Discard::New => "new",
            },
            storage: match config.storage {
                Storage::File => "file",
                Storage::Memory => "memory",
            },
            num_replicas: 1,
            duplicate_window: config.duplicate_window_ns,
            compression: "none",
            first_seq: config.first_sequence,
            subject_transform: config
                .subject_transform
                .as_ref()
                .map(|transform| WireTransform { src: &transform.source, dest: &transform.destination }),
            republish: config.republish.as_ref().map(|republish| WireRepublish {
                src: &republish.subjects.source,
                dest: &republish.subjects.destination,
                headers_only: republish.headers_only,
            }),
            allow_direct: config.allow_direct,
            mirror_direct: false,
            discard_new_per_subject: config.discard_new_per_subject,
            sealed: config.sealed,
            deny_delete: config.deny_delete,
            deny_purge: config.deny_purge,
            allow_rollup_hdrs: config.allow_rollup,
            consumer_limits: WireConsumerLimits {
                inactive_threshold: config.consumer_limits.inactive_threshold_ns,
                max_ack_pending: config.consumer_limits.max_ack_pending,
            },
            allow_msg_ttl: config.allow_message_ttl,
            metadata: metadata(&config.metadata, if config.allow_message_ttl { "1" } else { "0" }, version),
        }
    }
}

/// A user's pairs and the server's: the level that this configuration needs, and where a version is given its API level and version.
pub(crate) fn metadata<'a>(
    own: &'a BTreeMap<String, String>,
    needed: &'a str,
    version: &'a str,
) -> BTreeMap<&'a str, &'a str> {
    const { assert!(API_LEVEL == 5, "the text below says so as well") };
    let mut pairs: BTreeMap<&str, &str> = own.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    pairs.insert("_nats.req.level", needed);
    if !version.is_empty() {
        pairs.insert("_nats.level", "5");
        pairs.insert("_nats.ver", version);
    }
    pairs
}
