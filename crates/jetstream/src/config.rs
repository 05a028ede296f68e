//! Configurations of streams and consumers, complete and checked: what the API's JSON and the config file's blocks become.

use crate::identity::{Sequence, Timestamp};
use std::collections::BTreeMap;
use subject::Filter;

/// Most subjects of a stream, and most filters of a consumer: each is compared with each for overlaps.
pub const MOST_SUBJECTS: usize = 1024;

/// What to do with a publish that a limit forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discard {
    /// Remove the oldest.
    #[default]
    Old,
    /// Refuse the new one.
    New,
}

/// When a message leaves its stream, apart from the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// By the limits only.
    #[default]
    Limits,
    /// When every consumer it matches has acknowledged it; at once if it matches none.
    Interest,
    /// When it is acknowledged. It matches one consumer at most.
    WorkQueue,
}

/// Where messages are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    #[default]
    File,
    /// In memory: the stream and its consumers are gone after a restart.
    Memory,
}

/// A stream, of one replica. -1 means no limit, as in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// Its name: no blank, `.`, `*`, `>`, path separators or control characters; at most 255 bytes.
    pub name: Box<str>,
    /// Free text.
    pub description: Box<str>,
    /// Captured subjects; the stream's name when none was given.
    pub subjects: Vec<Filter>,
    /// When messages leave.
    pub retention: Retention,
    /// Where they are kept.
    pub storage: Storage,
    /// Most messages.
    pub max_messages: i64,
    /// Most bytes, by [`crate::store::message_size`].
    pub max_bytes: i64,
    /// Oldest age in nanoseconds; 0: no limit.
    pub max_age_ns: u64,
    /// Most messages of one subject.
    pub max_messages_per_subject: i64,
    /// Largest message (headers + payload).
    pub max_message_size: i32,
    /// Most consumers.
    pub max_consumers: i64,
    /// When a limit is reached.
    pub discard: Discard,
    /// With [`Discard::New`]: refuse also when the per-subject limit is reached.
    pub discard_new_per_subject: bool,
    /// How long ids are remembered, nanoseconds.
    pub duplicate_window_ns: u64,
    /// Messages can't be deleted by the API.
    pub deny_delete: bool,
    /// The stream can't be purged by the API.
    pub deny_purge: bool,
    /// `Nats-Rollup` is honoured.
    pub allow_rollup: bool,
    /// `DIRECT.GET` is answered.
    pub allow_direct: bool,
    /// Nothing is added or removed any more.
    pub sealed: bool,
    /// First sequence it gives; 0 and 1 are the same.
    pub first_sequence: u64,
    /// Free key-value pairs; those that begin with `_nats.` are the server's.
    pub metadata: BTreeMap<String, String>,
    /// The subject that a message is stored under, where that is another than the one it was published on.
    pub subject_transform: Option<SubjectTransform>,
    /// Where what was stored is published again.
    pub republish: Option<Republish>,
    /// Defaults and bounds of its consumers.
    pub consumer_limits: ConsumerLimits,
    /// `Nats-TTL` is honoured.
    pub allow_message_ttl: bool,
    /// Publishers get no acknowledgement.
    pub no_ack: bool,
    /// It holds what another stream holds, with its sequences, and nothing else.
    pub mirror: Option<Box<Source>>,
    /// It takes in what these hold.
    pub sources: Vec<Source>,
    /// A mirror answers direct gets for its origin.
    pub mirror_direct: bool,
    /// Removing the last message of a subject by a limit leaves a marker that lives so long, nanoseconds; 0: no marker.
    pub subject_delete_marker_ttl_ns: u64,
    /// Atomic batches are taken.
    pub allow_atomic: bool,
    /// Fast batches are taken.
    pub allow_batched: bool,
    /// Its messages are counters (ADR-49) and nothing else.
    pub allow_counter: bool,
    /// Messages can be scheduled (ADR-51).
    pub allow_schedules: bool,
    /// Acknowledgements do not wait for stable storage.
    pub persist_async: bool,
    /// Payloads are compressed where they are stored.
    pub compression: Compression,
    /// Where a cluster would keep it: shown as it was asked for, and without effect on a single server.
    pub placement: Option<Placement>,
    /// The template that made it; empty: none.
    pub template: Box<str>,
}

/// How payloads are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// By S2.
    S2,
}

/// A stream that another one takes messages from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: Box<str>,
    /// Its first sequence to take; 0: not said.
    pub start_sequence: u64,
    /// From this time on.
    pub start_time: Option<Timestamp>,
    /// Only these subjects; empty: all, or what `transforms` name.
    pub filter: Box<str>,
    /// What is taken, and the subjects it gets.
    pub transforms: Vec<SubjectTransform>,
    /// It is in another account or domain.
    pub external: Option<ExternalStream>,
    /// A consumer that is there already, instead of one of our own.
    pub consumer: Option<SourceConsumer>,
}

/// How a stream elsewhere is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalStream {
    /// Prefix of its API subjects, instead of `$JS.API`.
    pub api: Box<str>,
    /// Prefix of the subjects it delivers to; empty: ours.
    pub deliver: Box<str>,
}

/// A consumer that its owner made for a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceConsumer {
    /// Its name.
    pub name: Box<str>,
    /// Where it delivers to.
    pub deliver_subject: Box<str>,
}

/// From a filter to a destination, in the language of [`subject::Transform`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectTransform {
    /// What it applies to; empty: everything.
    pub source: Box<str>,
    /// What becomes of it; empty: nothing else.
    pub destination: Box<str>,
}

/// Messages that were stored are published again, for subscribers that need no consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Republish {
    /// Which, and under what subject.
    pub subjects: SubjectTransform,
    /// Without their bodies.
    pub headers_only: bool,
}

/// Which servers of a cluster are to keep a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Those of this cluster; empty: any.
    pub cluster: Box<str>,
    /// Those that have all these tags.
    pub tags: Vec<Box<str>>,
}

/// What consumers of a stream may ask for, and get when they ask for nothing. 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// Longest inactivity, nanoseconds.
    pub inactive_threshold_ns: u64,
    /// Most unacknowledged messages.
    pub max_ack_pending: i64,
}

impl StreamConfig {
    /// A stream with the API's defaults that captures the subject of its own name.
    ///
    /// `name` must be a valid one-token subject; else the stream captures nothing.
    #[must_use]
    pub fn named(name: &str) -> StreamConfig {
        StreamConfig {
            name: name.into(),
            description: "".into(),
            subjects: Filter::parse(name).into_iter().collect(),
            retention: Retention::Limits,
            storage: Storage::File,
            max_messages: -1,
            max_bytes: -1,
            max_age_ns: 0,
            max_messages_per_subject: -1,
            max_message_size: -1,
            max_consumers: -1,
            discard: Discard::Old,
            discard_new_per_subject: false,
            duplicate_window_ns: 120_000_000_000,
            deny_delete: false,
            deny_purge: false,
            allow_rollup: false,
            allow_direct: false,
            sealed: false,
            first_sequence: 0,
            metadata: BTreeMap::new(),
            subject_transform: None,
            republish: None,
            consumer_limits: ConsumerLimits::default(),
            allow_message_ttl: false,
            no_ack: false,
            mirror: None,
            sources: Vec::new(),
            mirror_direct: false,
            subject_delete_marker_ttl_ns: 0,
            allow_atomic: false,
            allow_batched: false,
            allow_counter: false,
            allow_schedules: false,
            persist_async: false,
            compression: Compression::None,
            placement: None,
            template: "".into(),
        }
    }
}

/// From where a consumer delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliverPolicy {
    /// Everything that is there.
    #[default]
    All,
    /// The last message, and all after it.
    Last,
    /// Only what comes after the creation.
    New,
    /// From a sequence.
    FromSequence(Sequence),
    /// From a time.
    FromTime(Timestamp),
    /// The last message of each subject, and all after the creation.
    LastPerSubject,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckPolicy {
    /// Nothing is acknowledged.
    None,
    /// It covers everything before it.
    All,
    /// Each message by itself.
    #[default]
    Explicit,
    /// Answers to flow control say how far the receiver has come: what a hub asks for that sources a work queue.
    FlowControl,
}

/// How a consumer sends by itself, without being asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// Literal subject that its messages are routed by.
    pub subject: Box<str>,
    /// Queue group whose members share them; empty: none. Who subscribes otherwise gets them as well.
    pub group: Box<str>,
    /// It sends no more than a window that the receiver's answers open.
    pub flow_control: bool,
    /// Tells that it lives when nothing came for so long, nanoseconds; 0: it does not.
    pub heartbeat_ns: u64,
    /// Bits a second; 0: no limit.
    pub rate_limit: u64,
}

/// A consumer: of the pull kind, unless `push` says how it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// Its name; empty when the server is to choose one (ephemeral).
    pub name: Box<str>,
    /// The server chose the name: what is shown of the configuration has none.
    pub is_unnamed: bool,
    /// Durable: kept without anybody using it (unless `inactive_threshold_ns`).
    pub durable: bool,
    /// Free text.
    pub description: Box<str>,
    /// From where.
    pub deliver_policy: DeliverPolicy,
    /// What acknowledgements mean.
    pub ack_policy: AckPolicy,
    /// After so long an unacknowledged message is delivered again, nanoseconds.
    pub ack_wait_ns: u64,
    /// Waits for the 1st, 2nd, … redelivery instead of `ack_wait_ns`.
    pub backoff_ns: Vec<u64>,
    /// At most so many deliveries of a message; -1: no limit.
    pub max_deliver: i64,
    /// At most so many unacknowledged messages; -1: no limit. 0 in a request: what the stream or the server has for it.
    pub max_ack_pending: i64,
    /// At most so many pull requests waiting.
    pub max_waiting: i64,
    /// Only these subjects; empty: all.
    pub filters: Vec<Filter>,
    /// A single filter was given as a list, and is shown as one.
    pub lists_filter: bool,
    /// Deliver headers and size only.
    pub headers_only: bool,
    /// Largest `batch`, 0: no limit.
    pub max_request_batch: i64,
    /// Longest `expires`, nanoseconds, 0: no limit.
    pub max_request_expires_ns: u64,
    /// Largest `max_bytes`, 0: no limit.
    pub max_request_max_bytes: i64,
    /// Removed when unused for so long, nanoseconds; 0: never (durables), 5 s (ephemerals).
    pub inactive_threshold_ns: u64,
    /// Its state is not stored.
    pub memory_storage: bool,
    /// Free key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// Copies, as it was asked for: one, or 0 for as many as the stream has. It is shown, and has no effect on a single server.
    pub replicas: u8,
    /// It sends by itself.
    pub push: Option<Push>,
    /// Messages are delivered with the pauses between them that they were stored with.
    pub replay_original: bool,
    /// Nothing is delivered before.
    pub pause_until: Option<Timestamp>,
    /// A server's own, for a source or mirror.
    pub direct: bool,
    /// A source's or mirror's that says so.
    pub sourcing: bool,
    /// Which share of acknowledgements is reported, as it was asked for (`50`, `50%`); empty: none.
    pub sample_frequency: Box<str>,
    /// Who of those that pull comes first.
    pub priority: Priority,
}

/// Groups among those that pull from one consumer (ADR-42).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priority {
    /// Names of the groups; empty: there are none.
    pub groups: Vec<Box<str>>,
    /// What decides.
    pub policy: PriorityPolicy,
    /// A pinned client that is silent for so long is replaced, nanoseconds; 0: not said.
    pub pinned_ttl_ns: u64,
}

/// Who of those that pull in a group gets messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriorityPolicy {
    /// Everybody in turn.
    #[default]
    None,
    /// Who named a threshold only when so much is pending.
    Overflow,
    /// One, until it goes silent.
    PinnedClient,
    /// Who named the lowest number.
    Prioritized,
}

impl ConsumerConfig {
    /// Another server made it for a stream of its own that sources or mirrors this one.
    #[must_use]
    pub fn is_source(&self) -> bool {
        self.direct || self.sourcing
    }

    /// A durable pull consumer with the API's defaults; ephemeral, and named by the server, if the name is empty.
    #[must_use]
    pub fn named(name: &str) -> ConsumerConfig {
        ConsumerConfig {
            name: name.into(),
            durable: !name.is_empty(),
            description: "".into(),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait_ns: 30_000_000_000,
            backoff_ns: Vec::new(),
            max_deliver: -1,
            max_ack_pending: 1000,
            max_waiting: 512,
            filters: Vec::new(),
            lists_filter: false,
            is_unnamed: false,
            headers_only: false,
            max_request_batch: 0,
            max_request_expires_ns: 0,
            max_request_max_bytes: 0,
            inactive_threshold_ns: 0,
            memory_storage: false,
            metadata: BTreeMap::new(),
            replicas: 0,
            push: None,
            replay_original: false,
            pause_until: None,
            direct: false,
            sourcing: false,
            sample_frequency: "".into(),
            priority: Priority::default(),
        }
    }
}
