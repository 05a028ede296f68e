//! Our block `streams`: streams and consumers that exist because the file says so. A flashed box needs no CLI step.
//!
//! Keys have the names of JetStream's own configuration. What this version lacks is refused, not ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use ::forward::Placement;
use nats_conf::{Block, Field, Kind, Position, Report};
use subject::Filter;

use super::declared_push::{self, Priority, Push};
use super::forward::placement;
use super::limits::{positive, set};
use super::origins::{self, Origins};

/// A stream to be there after the start: created, or brought to this configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Where it is declared, for what is found out later.
    pub position: Position,
    /// `subjects`. Default: its name, as in stock.
    pub subjects: Vec<String>,
    /// `description`. Default: none.
    pub description: Option<String>,
    /// `retention`: when messages leave, apart from the limits. Default: limits.
    pub retention: Retention,
    /// `storage`: memory is empty after each start. Default: file.
    pub storage: Storage,
    /// `max_bytes`. Default: none (-1).
    pub max_bytes: Option<u64>,
    /// `max_msgs`. Default: none (-1).
    pub max_messages: Option<u64>,
    /// `max_age`. Default: none (0).
    pub max_age: Option<Duration>,
    /// `max_msg_size`, bytes. Default: none (-1).
    pub max_message_size: Option<u32>,
    /// `max_msgs_per_subject`. Default: none (-1).
    pub max_messages_per_subject: Option<u64>,
    /// `discard`: which message goes when a limit is reached. Default: old.
    pub discard: Discard,
    /// `discard_new_per_subject`. Default: false; needs `discard: new` and `max_msgs_per_subject`.
    pub discard_new_per_subject: bool,
    /// `duplicate_window`. Default: 2 minutes, or `max_age` when that is shorter; 0 with `mirror` or `sources`.
    pub duplicate_window: Duration,
    /// `deny_delete`. Default: false.
    pub deny_delete: bool,
    /// `deny_purge`. Default: false.
    pub deny_purge: bool,
    /// `allow_rollup_hdrs`. Default: false.
    pub allow_rollup: bool,
    /// `allow_msg_ttl`. Default: false.
    pub allow_message_ttl: bool,
    /// `allow_atomic`: atomic batches are taken. Default: false.
    pub allow_atomic: bool,
    /// `allow_batched`: fast batches are taken. Default: false.
    pub allow_batched: bool,
    /// `allow_direct`: single messages may be asked for without the API. Default: true.
    pub allow_direct: bool,
    /// `allow_msg_counter`: messages are increments of their subject. Default: false.
    pub allow_counter: bool,
    /// `allow_msg_schedules`. Default: false.
    pub allow_schedules: bool,
    /// `subject_delete_marker_ttl`: how long the marker of a subject stays whose last message went by age. Default: none.
    pub delete_marker: Option<Duration>,
    /// `max_consumers`. Default: none (-1).
    pub max_consumers: Option<u64>,
    /// `consumer_limits`: what its consumers may ask for, and get when they ask for nothing. Default: none.
    pub consumer_limits: ConsumerLimits,
    /// `placement { cluster, tags }`: shown, and of no effect on a server that is alone. Default: none.
    pub placement: Option<Placement>,
    /// `sealed`: a stream that is there keeps what it has from now on; a new one can't be. Default: false.
    pub sealed: bool,
    /// `first_seq`: number of the first message of a new stream. Default: 0, which is 1.
    pub first_sequence: u64,
    /// `no_ack`: publishers get no acknowledgement. Default: false.
    pub no_ack: bool,
    /// `persist_mode: async`: acknowledgements do not wait for the disk. Default: they do.
    pub persist_async: bool,
    /// `compression: s2`: payloads are stored compressed. Default: none.
    pub compressed: bool,
    /// `subject_transform { src, dest }`: under which subject a message is stored. Default: its own.
    pub subject_transform: Option<Mapping>,
    /// `republish { src, dest, headers_only }`. Default: none.
    pub republish: Option<Mapping>,
    /// `mirror`, `sources`. Default: none.
    pub origins: Origins,
    /// `metadata`.
    pub metadata: BTreeMap<String, String>,
    /// `consumers`, in the order of the file.
    pub consumers: Vec<Consumer>,
}

/// What consumers of a stream may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// `inactive_threshold`. Default: none.
    pub inactive_threshold: Option<Duration>,
    /// `max_ack_pending`. Default: none (-1).
    pub max_ack_pending: Option<u64>,
}

/// When messages leave their stream, apart from the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Not before a limit is reached.
    Limits,
    /// When every consumer they match has acknowledged them.
    Interest,
    /// When they are acknowledged.
    WorkQueue,
}

/// Where messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory.
    Memory,
}

/// From one subject to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// `src`. Default: `>`.
    pub source: String,
    /// `dest`, in the language of NATS transforms.
    pub destination: String,
    /// `headers_only`, of a republish. Default: false.
    pub headers_only: bool,
}

/// Which message goes when a limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// The oldest.
    Old,
    /// The new one: it is refused.
    New,
}

/// A durable consumer to be there after the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub position: Position,
    /// `description`. Default: none.
    pub description: Option<String>,
    /// `deliver_policy`, with `opt_start_seq` or `opt_start_time`. Default: all.
    pub deliver_policy: DeliverPolicy,
    /// `ack_policy`. Default: explicit.
    pub ack_policy: AckPolicy,
    /// `ack_wait`. Default: 30 s.
    pub ack_wait: Duration,
    /// `max_deliver`. Default: none (-1).
    pub max_deliver: Option<u64>,
    /// `backoff`: pauses before redeliveries, instead of `ack_wait`. Default: none.
    pub backoff: Vec<Duration>,
    /// `filter_subject` or `filter_subjects`. Default: everything.
    pub filter_subjects: Vec<String>,
    /// `max_ack_pending`. Default: 1,000; none when -1.
    pub max_ack_pending: Option<u64>,
    /// `max_waiting` pulls. Default: 512.
    pub max_waiting: u32,
    /// `max_batch` of a pull. Default: none.
    pub max_batch: Option<u64>,
    /// `max_bytes` of a pull. Default: none.
    pub max_bytes: Option<u64>,
    /// `max_expires` of a pull. Default: none.
    pub max_expires: Option<Duration>,
    /// `inactive_threshold`: it goes so long after it was last used. Default: none, it stays.
    pub inactive_threshold: Option<Duration>,
    /// `headers_only`. Default: false.
    pub headers_only: bool,
    /// `metadata`.
    pub metadata: BTreeMap<String, String>,
    /// `deliver_subject` and what goes with it. Default: none, it is pulled from.
    pub push: Option<Push>,
    /// `priority_policy` and what goes with it. Default: none.
    pub priority: Option<Priority>,
    /// `sample_freq`: the share of acknowledgements that is told, such as `50%`. Default: none.
    pub sample_frequency: Option<String>,
    /// `mem_storage`: where it stands is not stored. Default: false.
    pub memory_storage: bool,
    /// `replay_policy: original`: with the pauses that messages were stored with. Default: instant.
    pub replay_original: bool,
}

/// Where a new consumer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliverPolicy {
    /// With the first message.
    All,
    /// With the last.
    Last,
    /// With what comes.
    New,
    /// With the last of each subject.
    LastPerSubject,
    /// `by_start_sequence`: with this one.
    FromSequence(u64),
    /// `by_start_time`: from this time on, `2026-01-02T15:04:05Z`.
    FromTime(String),
}

/// What confirms a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckPolicy {
    /// Its own ack.
    Explicit,
    /// An ack of it or of a later one.
    All,
    /// Its delivery.
    None,
}

const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Fields of JetStream that this version lacks.
const CONSUMER_FIELDS_LACKING: [&str; 3] = ["pause_until", "direct", "durable_name"];

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Vec<Stream> {
    let Some(mut block) = field.block(report) else { return Vec::new() };
    block.remaining().iter().filter_map(|field| read_stream(field, report)).collect()
}

fn read_stream(field: &Field<'_>, report: &mut Report) -> Option<Stream> {
    let name = read_name(field, "stream", report);
    let mut block = field.block(report)?;
    let mut stream = Stream {
        name: name.clone(),
        position: field.position.clone(),
        subjects: vec![name],
        description: text(&mut block, "description", report),
        retention: Retention::Limits,
        storage: Storage::File,
        max_bytes: limit(&mut block, "max_bytes", report),
        max_messages: limit(&mut block, "max_msgs", report),
        max_age: age(&mut block, "max_age", report),
        max_message_size: None,
        max_messages_per_subject: limit(&mut block, "max_msgs_per_subject", report),
        discard: Discard::Old,
        discard_new_per_subject: flag(&mut block, "discard_new_per_subject", report),
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: flag(&mut block, "deny_delete", report),
        deny_purge: flag(&mut block, "deny_purge", report),
        allow_rollup: flag(&mut block, "allow_rollup_hdrs", report),
        allow_message_ttl: flag(&mut block, "allow_msg_ttl", report),
        allow_atomic: flag(&mut block, "allow_atomic", report),
        allow_batched: flag(&mut block, "allow_batched", report),
        allow_direct: true,
        allow_counter: flag(&mut block, "allow_msg_counter", report),
        allow_schedules: flag(&mut block, "allow_msg_schedules", report),
        delete_marker: age(&mut block, "subject_delete_marker_ttl", report),
        max_consumers: limit(&mut block, "max_consumers", report),
        consumer_limits: consumer_limits(&mut block, report),
        placement: placement(&mut block, report),
        sealed: flag(&mut block, "sealed", report),
        first_sequence: 0,
        no_ack: flag(&mut block, "no_ack", report),
        persist_async: false,
        compressed: false,
        subject_transform: mapping(&mut block, "subject_transform", false, report),
        republish: mapping(&mut block, "republish", true, report),
        origins: Origins::default(),
        metadata: metadata(&mut block, report),
        consumers: Vec::new(),
    };
    let subjects = block.field(&["subjects", "subject"]);
    stream.origins = origins::read(&mut block, &stream.name, subjects.is_some(), report);
    match subjects {
        Some(subjects) => stream.subjects = filters(&subjects, report),
        None if stream.origins.are_there() => stream.subjects.clear(),
        None => {}
    }
    if let Some(field) = block.field(&["max_msg_size"]) {
        stream.max_message_size =
            field.integer::<i64>(-1..=i64::from(i32::MAX), report).and_then(|size| u32::try_from(size).ok());
    }
    if let Some(field) = block.field(&["discard"]) {
        set(&mut stream.discard, field.choice(&[("old", Discard::Old), ("new", Discard::New)], report));
    }
    if let Some(field) = block.field(&["allow_direct"]) {
        set(&mut stream.allow_direct, field.boolean(report));
    }
    if let Some(field) = block.field(&["first_seq"]) {
        let number = field.integer::<i64>(1..=i64::MAX, report);
        set(&mut stream.first_sequence, number.and_then(|number| u64::try_from(number).ok()));
    }
    duplicate_window(&mut block, &mut stream, report);
    if let Some(field) = block.field(&["retention"]) {
        let words =
            [("limits", Retention::Limits), ("interest", Retention::Interest), ("workqueue", Retention::WorkQueue)];
        set(&mut stream.retention, field.choice(&words, report));
    }
    if let Some(field) = block.field(&["storage"]) {
        set(&mut stream.storage, field.choice(&[("file", Storage::File), ("memory", Storage::Memory)], report));
    }
    if let Some(field) = block.field(&["persist_mode"]) {
        set(&mut stream.persist_async, field.choice(&[("default", false), ("async", true)], report));
    }
    if let Some(field) = block.field(&["compression"]) {
        set(&mut stream.compressed, field.choice(&[("none", false), ("s2", true)], report));
    }
    fixed_one(&mut block, "num_replicas", report);
    if stream.discard_new_per_subject && (stream.discard == Discard::Old || stream.max_messages_per_subject.is_none()) {
        report.error(field.position, "discard_new_per_subject needs \"discard: new\" and \"max_msgs_per_subject\"");
    }
    if let Some(mut consumers) = block.field(&["consumers"]).and_then(|field| field.block(report)) {
        let declared = consumers.remaining();
        // What comes from elsewhere may have any subject.
        let any = [">".to_owned()];
        let subjects = if stream.origins.are_there() { &any[..] } else { &stream.subjects };
        let limits = stream.consumer_limits;
        stream.consumers = declared.iter().filter_map(|field| read_consumer(field, subjects, limits, report)).collect();
    }
    block.finish(report);
    Some(stream)
}

/// A transform from one subject to another, checked.
fn mapping(block: &mut Block<'_>, name: &str, may_omit_body: bool, report: &mut Report) -> Option<Mapping> {
    let field = block.field(&[name])?;
    let mut block = field.block(report)?;
    let source = text(&mut block, "src", report).unwrap_or_else(|| ">".to_owned());
    let destination = text(&mut block, "dest", report).unwrap_or_default();
    let headers_only = may_omit_body && flag(&mut block, "headers_only", report);
    block.finish(report);
    if let Err(error) = subject::Transform::parse(&source, &destination) {
        report.error(field.position, error.to_string());
    }
    Some(Mapping { source, destination, headers_only })
}

fn consumer_limits(block: &mut Block<'_>, report: &mut Report) -> ConsumerLimits {
    let Some(mut block) = block.field(&["consumer_limits"]).and_then(|field| field.block(report)) else {
        return ConsumerLimits::default();
    };
    let limits = ConsumerLimits {
        inactive_threshold: age(&mut block, "inactive_threshold", report),
        max_ack_pending: limit(&mut block, "max_ack_pending", report),
    };
    block.finish(report);
    limits
}

/// A declared consumer within the limits of its stream; what it does not say they decide.
fn limit_consumer(consumer: &mut Consumer, says_pending: bool, limits: ConsumerLimits, report: &mut Report) {
    if let Some(most) = limits.max_ack_pending {
        if !says_pending {
            consumer.max_ack_pending = Some(most);
        } else if consumer.max_ack_pending.is_some_and(|pending| pending > most) {
            report.error(
                &consumer.position,
                format!("\"max_ack_pending\" is above the stream's consumer_limits: {most}"),
            );
        }
    }
    if let (Some(longest), Some(threshold)) = (limits.inactive_threshold, consumer.inactive_threshold)
        && threshold > longest
    {
        let text = format!("\"inactive_threshold\" is above the stream's consumer_limits: {longest:?}");
        report.error(&consumer.position, text);
    }
}

fn duplicate_window(block: &mut Block<'_>, stream: &mut Stream, report: &mut Report) {
    let longest = stream.max_age.unwrap_or(Duration::MAX);
    stream.duplicate_window = if stream.origins.are_there() { Duration::ZERO } else { DUPLICATE_WINDOW.min(longest) };
    let Some(field) = block.field(&["duplicate_window"]) else { return };
    set(&mut stream.duplicate_window, field.duration(report));
    if stream.duplicate_window > longest {
        report.error(field.position, "duplicates window can not be larger then max age");
    }
}

fn read_consumer(
    field: &Field<'_>,
    subjects: &[String],
    limits: ConsumerLimits,
    report: &mut Report,
) -> Option<Consumer> {
    let name = read_name(field, "consumer", report);
    let mut block = field.block(report)?;
    let mut consumer = Consumer {
        name,
        position: field.position.clone(),
        description: text(&mut block, "description", report),
        deliver_policy: deliver_policy(&mut block, field, report),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(30),
        max_deliver: limit(&mut block, "max_deliver", report),
        backoff: Vec::new(),
        filter_subjects: Vec::new(),
        max_ack_pending: Some(1000),
        max_waiting: 512,
        max_batch: limit(&mut block, "max_batch", report),
        max_bytes: limit(&mut block, "max_bytes", report),
        max_expires: age(&mut block, "max_expires", report),
        inactive_threshold: age(&mut block, "inactive_threshold", report),
        headers_only: flag(&mut block, "headers_only", report),
        metadata: metadata(&mut block, report),
        push: declared_push::read_push(&mut block, report),
        priority: declared_push::read_priority(&mut block, field, report),
        sample_frequency: text(&mut block, "sample_freq", report),
        memory_storage: flag(&mut block, "mem_storage", report),
        replay_original: false,
    };
    let policies = [("explicit", AckPolicy::Explicit), ("all", AckPolicy::All), ("none", AckPolicy::None)];
    if let Some(field) = block.field(&["ack_policy"]) {
        set(&mut consumer.ack_policy, field.choice(&policies, report));
    }
    if let Some(field) = block.field(&["ack_wait"]) {
        set(&mut consumer.ack_wait, positive(&field, report));
    }
    if let Some(field) = block.field(&["backoff"]) {
        consumer.backoff = field.elements().iter().filter_map(|pause| positive(pause, report)).collect();
    }
    if let Some(field) = block.field(&["filter_subject", "filter_subjects"]) {
        consumer.filter_subjects = filters(&field, report);
        within_stream(&field, &consumer.filter_subjects, subjects, report);
    }
    let pending = block.field(&["max_ack_pending"]);
    if let Some(field) = &pending {
        consumer.max_ack_pending = field.limit(report).unwrap_or(Some(1000));
    }
    limit_consumer(&mut consumer, pending.is_some(), limits, report);
    if let Some(field) = block.field(&["max_waiting"]) {
        set(&mut consumer.max_waiting, field.integer(1..=1_000_000, report));
    }
    if let Some(field) = block.field(&["replay_policy"]) {
        set(&mut consumer.replay_original, field.choice(&[("instant", false), ("original", true)], report));
    }
    declared_push::check(&consumer, field, report);
    fixed_one(&mut block, "num_replicas", report);
    block.refuse(&CONSUMER_FIELDS_LACKING, report);
    backoff_fits(&consumer, field, report);
    block.finish(report);
    Some(consumer)
}

fn backoff_fits(consumer: &Consumer, field: &Field<'_>, report: &mut Report) {
    let pauses = consumer.backoff.len() as u64;
    if consumer.max_deliver.is_some_and(|most| pauses > most) {
        report.error(field.position, "max deliver is required to be > length of backoff values");
    }
}

fn deliver_policy(block: &mut Block<'_>, consumer: &Field<'_>, report: &mut Report) -> DeliverPolicy {
    let sequence = block.field(&["opt_start_seq"]).and_then(|field| field.size(1..=u64::MAX, report));
    let time = block.field(&["opt_start_time"]).and_then(|field| match &field.value.kind {
        Kind::Date(date) => Some(date.to_string()),
        _ => field.string(report).map(str::to_owned),
    });
    let Some(field) = block.field(&["deliver_policy"]) else {
        if sequence.is_some() || time.is_some() {
            report.error(consumer.position, "a start needs \"deliver_policy\": by_start_sequence or by_start_time");
        }
        return DeliverPolicy::All;
    };
    let choices =
        [("all", 0), ("last", 1), ("new", 2), ("last_per_subject", 3), ("by_start_sequence", 4), ("by_start_time", 5)];
    match (field.choice(&choices, report), sequence, time) {
        (Some(1), None, None) => DeliverPolicy::Last,
        (Some(2), None, None) => DeliverPolicy::New,
        (Some(3), None, None) => DeliverPolicy::LastPerSubject,
        (Some(4), Some(sequence), None) => DeliverPolicy::FromSequence(sequence),
        (Some(5), None, Some(time)) => DeliverPolicy::FromTime(time),
        (Some(0), None, None) | (None, ..) => DeliverPolicy::All,
        (Some(_), ..) => {
            let text =
                "by_start_sequence needs \"opt_start_seq\", by_start_time \"opt_start_time\", other policies neither";
            report.error(field.position, text);
            DeliverPolicy::All
        }
    }
}

/// A name becomes a token of subjects and a name on disk.
fn read_name(field: &Field<'_>, what: &str, report: &mut Report) -> String {
    checked_name(field, field.name, what, report)
}

/// A name that stands in a field.
pub(super) fn checked_name(field: &Field<'_>, name: &str, what: &str, report: &mut Report) -> String {
    let bad = |next: char| next.is_whitespace() || next.is_control() || matches!(next, '.' | '*' | '>' | '/' | '\\');
    if name.is_empty() || name.len() > 255 || name.contains(bad) {
        let text =
            format!("{what} name {name:?} is not valid: expected up to 255 characters without blanks, . * > / or \\");
        report.error(field.position, text);
    }
    name.to_owned()
}

pub(super) fn filters(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    let texts = field.strings(report).unwrap_or_default();
    for text in &texts {
        if let Err(error) = Filter::parse(text) {
            report.error(field.position, format!("subject {text:?} is not valid: {error}"));
        }
    }
    if texts.is_empty() {
        report.error(field.position, format!("field {:?}: expected at least one subject", field.name));
    }
    texts
}

fn within_stream(field: &Field<'_>, filters: &[String], subjects: &[String], report: &mut Report) {
    let subjects: Vec<Filter> = subjects.iter().filter_map(|text| Filter::parse(text).ok()).collect();
    for text in filters {
        if let Ok(filter) = Filter::parse(text)
            && !subjects.iter().any(|subject| subject.overlaps(&filter))
        {
            report.error(field.position, format!("filter {text:?} matches none of the stream's subjects"));
        }
    }
}

pub(super) fn text(block: &mut Block<'_>, name: &str, report: &mut Report) -> Option<String> {
    block.field(&[name]).and_then(|field| field.text(report))
}

pub(super) fn flag(block: &mut Block<'_>, name: &str, report: &mut Report) -> bool {
    block.field(&[name]).and_then(|field| field.boolean(report)).unwrap_or(false)
}

/// JetStream's limits: -1 and 0 are none.
pub(super) fn limit(block: &mut Block<'_>, name: &str, report: &mut Report) -> Option<u64> {
    block.field(&[name])?.limit(report).flatten().filter(|&limit| limit > 0)
}

/// 0 is none.
pub(super) fn age(block: &mut Block<'_>, name: &str, report: &mut Report) -> Option<Duration> {
    let field = block.field(&[name])?;
    if matches!(field.value.kind, Kind::Integer(integer) if integer.number == 0) {
        return None;
    }
    field.duration(report).filter(|age| !age.is_zero())
}

fn metadata(block: &mut Block<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let Some(mut metadata) = block.field(&["metadata"]).and_then(|field| field.block(report)) else {
        return BTreeMap::new();
    };
    let entry = |field: &Field<'_>, report: &mut Report| Some((field.name.to_owned(), field.text(report)?));
    metadata.fields().iter().filter_map(|field| entry(field, report)).collect()
}

fn fixed_one(block: &mut Block<'_>, name: &str, report: &mut Report) {
    let Some(field) = block.field(&[name]) else { return };
    if field.integer::<i64>(0..=i64::MAX, report).is_some_and(|replicas| replicas > 1) {
        report.error(field.position, "replicas > 1 not supported in non-clustered mode");
    }
}
