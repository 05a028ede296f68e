//! A stream's configuration: JSON to [`StreamConfig`] and back, complete as stock prints it.

use crate::API_LEVEL;
use crate::json::Object;
use crate::origin::{self, WireSource};
use crate::stream_check;
use crate::wire::is_zero;
use jetstream::api_error::{self, ApiError};
use jetstream::api_level;
use jetstream::config::{
    Compression, ConsumerLimits, Discard, Placement, Republish, Retention, Storage, StreamConfig, SubjectTransform,
};
use serde::Serialize;
use std::collections::BTreeMap;

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
    marker_ttl: i64,
    replicas: i64,
    /// A server is named that it should rather be kept at.
    preferred: bool,
    /// Asks to be refused instead of adjusted.
    pedantic: bool,
    /// What was adjusted already.
    adjusted: Option<&'static str>,
}

/// Is the stream made, changed, or made again from a snapshot?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Create,
    Update,
    Restore,
}

/// Reads the body of STREAM.CREATE or STREAM.UPDATE: types and fields, no meaning yet.
pub(crate) fn read(mut body: Object) -> Result<Draft, ApiError> {
    let mut config = StreamConfig::named("");
    config.name = body.text_or_empty("name")?.into();
    config.description = body.text_or_empty("description")?.into();
    let subjects = body.texts("subjects")?;
    let adjusted = read_limits(&mut body, &mut config)?;
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
    origin::read(&mut body, &mut config)?;
    config.no_ack = body.flag("no_ack")?;
    config.allow_atomic = body.flag("allow_atomic")?;
    config.persist_async = body.word("persist_mode", &[("default", false), ("", false), ("async", true)])?;
    config.allow_batched = body.flag("allow_batched")?;
    let marker_ttl = body.duration("subject_delete_marker_ttl")?;
    config.allow_counter = body.flag("allow_msg_counter")?;
    config.allow_schedules = body.flag("allow_msg_schedules")?;
    config.subject_transform = read_transform(&mut body)?;
    config.republish = read_republish(&mut body)?;
    config.consumer_limits = read_consumer_limits(&mut body)?;
    let compressions = [("none", Compression::None), ("s2", Compression::S2)];
    config.compression = body.word_or("compression", &compressions, |value| {
        let kind = match value.bytes().next() {
            Some(b'{') => "object",
            Some(b'[') => "array",
            Some(b't' | b'f') => "bool",
            Some(b'-' | b'0'..=b'9') => "number",
            _ => return "unknown compression algorithm".to_owned(),
        };
        format!("json: cannot unmarshal {kind} into Go value of type string")
    })?;
    let replicas = body.count("num_replicas")?;
    let preferred = read_placement(&mut body, &mut config)?;
    let pedantic = body.flag("pedantic")?;
    body.finish()?;
    Ok(Draft { config, subjects, max_age, duplicate_window, marker_ttl, replicas, preferred, pedantic, adjusted })
}

/// 0 and everything below is no limit. Which limit should rather have been -1?
fn read_limits(body: &mut Object, config: &mut StreamConfig) -> Result<Option<&'static str>, ApiError> {
    let limits = [
        (body.signed("max_msgs")?, "max_msgs must be set to -1"),
        (body.signed("max_msgs_per_subject")?, "max_msgs_per_subject must be set to -1"),
        (body.signed("max_bytes")?, "max_bytes must be set to -1"),
        (i64::from(body.short("max_msg_size")?), "max_msg_size must be set to -1"),
        (body.count("max_consumers")?, "max_consumers must be set to -1"),
    ];
    let [messages, per_subject, bytes, message_size, consumers] = limits.map(|(limit, _)| unlimited(limit));
    config.max_messages = messages;
    config.max_messages_per_subject = per_subject;
    config.max_bytes = bytes;
    config.max_message_size = i32::try_from(message_size).unwrap_or(i32::MAX);
    config.max_consumers = consumers;
    Ok(limits.into_iter().find(|(limit, _)| *limit < -1).map(|(_, text)| text))
}

/// Is one server preferred?
fn read_placement(body: &mut Object, config: &mut StreamConfig) -> Result<bool, ApiError> {
    let Some(mut body) = body.object_if_there("placement", "Placement")? else { return Ok(false) };
    let has_tags = body.has("tags");
    let tags = body.texts("tags")?.into_iter().map(Into::into).collect();
    let placement = Placement { cluster: body.text_or_empty("cluster")?.into(), tags };
    let preferred = !body.text_or_empty("preferred")?.is_empty();
    body.finish()?;
    // An empty list is something, an empty object nothing.
    config.placement = (has_tags || !placement.cluster.is_empty()).then_some(placement);
    Ok(preferred)
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
    Ok(Some(Republish { subjects, headers_only }))
}

fn read_consumer_limits(body: &mut Object) -> Result<ConsumerLimits, ApiError> {
    let mut body = body.object("consumer_limits", "StreamConsumerLimits")?;
    let limits = ConsumerLimits {
        inactive_threshold_ns: u64::try_from(body.duration("inactive_threshold")?).unwrap_or(0),
        max_ack_pending: body.count("max_ack_pending")?,
    };
    body.finish()?;
    Ok(limits)
}

/// Markers and schedules need what else the stream has to be allowed.
fn complete_features(config: &mut StreamConfig, marker_ttl_ns: u64) {
    config.subject_delete_marker_ttl_ns = marker_ttl_ns;
    config.allow_message_ttl |= marker_ttl_ns > 0;
    if (marker_ttl_ns > 0 || config.allow_schedules) && !config.allow_rollup {
        (config.allow_rollup, config.deny_purge) = (true, false);
    }
}

/// From everywhere to everywhere would come back to the stream, unless its messages get other subjects: then it means those. What was
/// adjusted first is told.
fn complete_republish(config: &mut StreamConfig) -> Option<&'static str> {
    let republish = config.republish.as_mut()?;
    let mut adjusted = None;
    if republish.subjects.source.is_empty() {
        republish.subjects.source = ">".into();
        adjusted = Some("republish source can not be empty");
    }
    let everything = SubjectTransform { source: ">".into(), destination: ">".into() };
    if let (Some(transform), [subject]) = (&config.subject_transform, &config.subjects[..])
        && republish.subjects == everything
        && *transform.source == *subject.as_str()
    {
        let stored = &transform.destination;
        republish.subjects = SubjectTransform { source: stored.clone(), destination: stored.clone() };
        adjusted = adjusted.or(Some("implicit republish based on subject transform"));
    }
    adjusted
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

    /// Is it to be refused where the server's state would adjust it?
    pub(crate) fn is_pedantic(&self) -> bool {
        self.pedantic
    }

    /// Gives it a name.
    pub(crate) fn call(&mut self, name: &str) {
        self.config.name = name.into();
    }

    /// Judges what needs no state, in stock's order, and fills in the defaults.
    pub(crate) fn finish(mut self, purpose: Purpose) -> Result<StreamConfig, ApiError> {
        if self.config.sealed && purpose == Purpose::Create {
            return Err(api_error::stream_invalid_config("stream configuration for create can not be sealed"));
        }
        if self.config.mirror_direct && self.config.mirror.is_none() && purpose == Purpose::Create {
            let text = "stream has no mirror but does have mirror direct";
            return Err(api_error::stream_invalid_config(text));
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
        if let Some(text) = self.adjusted.filter(|_| self.pedantic) {
            return Err(api_error::pedantic(text));
        }
        stream_check::ages(self.max_age, self.duplicate_window)?;
        let config = &mut self.config;
        // Checked to be positive.
        config.max_age_ns = self.max_age.unsigned_abs();
        let takes = config.mirror.is_some() || !config.sources.is_empty();
        config.duplicate_window_ns = match (self.duplicate_window.unsigned_abs(), config.max_age_ns) {
            // What is taken from others was judged there.
            (0, _) if takes => 0,
            (0, 0) => StreamConfig::named("").duplicate_window_ns,
            (0, max_age) => StreamConfig::named("").duplicate_window_ns.min(max_age),
            (window, _) => window,
        };
        let shortened = config.duplicate_window_ns < StreamConfig::named("").duplicate_window_ns;
        if self.pedantic && !takes && self.duplicate_window == 0 && shortened {
            return Err(api_error::pedantic("duplicate window cannot be bigger than max age"));
        }
        stream_check::rules(config, self.marker_ttl)?;
        if self.pedantic {
            stream_check::is_complete(config, self.marker_ttl)?;
        }
        complete_features(config, self.marker_ttl.unsigned_abs());
        jetstream::origin::check(config, !self.subjects.is_empty())?;
        if self.subjects.is_empty() && !takes {
            self.subjects.push(config.name.clone().into());
        }
        config.subjects = stream_check::subjects(&self.subjects, config.no_ack)?;
        let adjusted = complete_republish(config);
        if let Some(text) = adjusted.filter(|_| self.pedantic) {
            return Err(api_error::pedantic(text));
        }
        if self.preferred {
            return Err(api_error::stream_invalid_config("preferred server not permitted in placement"));
        }
        // Of an update it is said after whether there is such a stream.
        if self.replicas > 1 && purpose != Purpose::Update {
            return Err(api_error::STREAM_REPLICAS_NOT_SUPPORTED);
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
    #[serde(skip_serializing_if = "is_zero")]
    no_ack: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    template_owner: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    duplicate_window: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<WirePlacement<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<WireSource<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<WireSource<'a>>,
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
    #[serde(skip_serializing_if = "is_zero")]
    subject_delete_marker_ttl: u64,
    #[serde(skip_serializing_if = "is_zero")]
    allow_msg_counter: bool,
    #[serde(skip_serializing_if = "is_zero")]
    allow_atomic: bool,
    #[serde(skip_serializing_if = "is_zero")]
    allow_msg_schedules: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    persist_mode: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    allow_batched: bool,
    metadata: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct WirePlacement<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    cluster: &'a str,
    #[serde(skip_serializing_if = "<[Box<str>]>::is_empty")]
    tags: &'a [Box<str>],
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
            no_ack: config.no_ack,
            duplicate_window: config.duplicate_window_ns,
            placement: config
                .placement
                .as_ref()
                .map(|placement| WirePlacement { cluster: &placement.cluster, tags: &placement.tags }),
            mirror: config.mirror.as_deref().map(WireSource::new),
            sources: config.sources.iter().map(WireSource::new).collect(),
            template_owner: &config.template,
            compression: match config.compression {
                Compression::None => "none",
                Compression::S2 => "s2",
            },
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
            mirror_direct: config.mirror_direct,
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
            subject_delete_marker_ttl: config.subject_delete_marker_ttl_ns,
            allow_msg_counter: config.allow_counter,
            allow_atomic: config.allow_atomic,
            allow_msg_schedules: config.allow_schedules,
            persist_mode: if config.persist_async { "async" } else { "" },
            allow_batched: config.allow_batched,
            metadata: metadata(&config.metadata, api_level::of_stream(config), version),
        }
    }
}

/// Texts of the levels.
const LEVELS: [&str; API_LEVEL as usize + 1] = ["0", "1", "2", "3", "4", "5"];

impl WireStreamConfig<'_> {
    /// As it stands in a snapshot: without what a server tells of itself, and without its template, which is elsewhere unknown.
    pub(crate) fn without_server_metadata(mut self) -> Self {
        without_servers_own(&mut self.metadata);
        self.template_owner = "";
        self
    }
}

/// Removes the pairs that say by which server something is shown.
pub(crate) fn without_servers_own(metadata: &mut BTreeMap<&str, &str>) {
    metadata.retain(|key, _| !matches!(*key, "_nats.level" | "_nats.ver"));
}

/// A user's pairs and the server's: the level that this configuration needs, and where a version is given its API level and version.
pub(crate) fn metadata<'a>(
    own: &'a BTreeMap<String, String>,
    needed: u32,
    version: &'a str,
) -> BTreeMap<&'a str, &'a str> {
    let mut pairs: BTreeMap<&str, &str> = own.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    pairs.insert("_nats.req.level", LEVELS.get(needed as usize).copied().unwrap_or_default());
    if !version.is_empty() {
        pairs.insert("_nats.level", LEVELS[API_LEVEL as usize]);
        pairs.insert("_nats.ver", version);
    }
    pairs
}
