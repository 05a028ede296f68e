//! How configurations are stored: a stream's description, and the first record of a consumer.

use crate::config::{
    AckPolicy, Compression, ConsumerConfig, ConsumerLimits, DeliverPolicy, Discard, ExternalStream, Placement,
    Priority, PriorityPolicy, Push, Republish, Retention, Source, SourceConsumer, Storage, StreamConfig,
    SubjectTransform,
};
use crate::identity::{Sequence, StreamId, Timestamp};
use crate::record::{Reader, put, put_filters, put_map, put_signed, put_text};
use crate::store::StoreError;

/// Version 1 ended with the metadata, version 2 with the storage, version 3 with the message TTL.
const STREAM_VERSION: u8 = 4;
/// Version 1 ended with the metadata, version 2 with the kinds of sources.
const CONSUMER_VERSION: u8 = 3;

/// A stream's description: when it was created, and its configuration.
pub(crate) fn encode_stream(config: &StreamConfig, created: Timestamp) -> Vec<u8> {
    let mut out = vec![STREAM_VERSION];
    put_signed(&mut out, created.0);
    put_text(&mut out, &config.name);
    put_text(&mut out, &config.description);
    put_filters(&mut out, &config.subjects);
    put_signed(&mut out, config.max_messages);
    put_signed(&mut out, config.max_bytes);
    put(&mut out, config.max_age_ns);
    put_signed(&mut out, config.max_messages_per_subject);
    put_signed(&mut out, i64::from(config.max_message_size));
    put_signed(&mut out, config.max_consumers);
    out.push(u8::from(config.discard == Discard::New));
    out.push(u8::from(config.discard_new_per_subject));
    put(&mut out, config.duplicate_window_ns);
    out.push(u8::from(config.deny_delete));
    out.push(u8::from(config.deny_purge));
    out.push(u8::from(config.allow_rollup));
    out.push(u8::from(config.allow_direct));
    out.push(u8::from(config.sealed));
    put(&mut out, config.first_sequence);
    put_map(&mut out, &config.metadata);
    out.push(match config.retention {
        Retention::Limits => 0,
        Retention::Interest => 1,
        Retention::WorkQueue => 2,
    });
    out.push(u8::from(config.storage == Storage::Memory));
    put_subjects_and_limits(&mut out, config);
    put_origins(&mut out, config);
    put_kinds_of_messages(&mut out, config);
    out
}

fn put_transform(out: &mut Vec<u8>, transform: &SubjectTransform) {
    put_text(out, &transform.source);
    put_text(out, &transform.destination);
}

fn read_transform(from: &mut Reader<'_>) -> Result<SubjectTransform, StoreError> {
    Ok(SubjectTransform { source: from.text()?.into(), destination: from.text()?.into() })
}

/// What version 3 added.
fn put_subjects_and_limits(out: &mut Vec<u8>, config: &StreamConfig) {
    out.push(u8::from(config.subject_transform.is_some()));
    if let Some(transform) = &config.subject_transform {
        put_transform(out, transform);
    }
    out.push(u8::from(config.republish.is_some()));
    if let Some(republish) = &config.republish {
        put_transform(out, &republish.subjects);
        out.push(u8::from(republish.headers_only));
    }
    put(out, config.consumer_limits.inactive_threshold_ns);
    put_signed(out, config.consumer_limits.max_ack_pending);
    out.push(u8::from(config.allow_message_ttl));
}

/// The reverse of [`put_subjects_and_limits`].
fn read_subjects_and_limits(from: &mut Reader<'_>, config: &mut StreamConfig) -> Result<(), StoreError> {
    if from.flag()? {
        config.subject_transform = Some(read_transform(from)?);
    }
    if from.flag()? {
        config.republish = Some(Republish { subjects: read_transform(from)?, headers_only: from.flag()? });
    }
    config.consumer_limits = ConsumerLimits { inactive_threshold_ns: from.number()?, max_ack_pending: from.signed()? };
    config.allow_message_ttl = from.flag()?;
    Ok(())
}

/// What version 4 added: where a stream takes its messages from.
fn put_origins(out: &mut Vec<u8>, config: &StreamConfig) {
    out.push(u8::from(config.mirror.is_some()));
    if let Some(mirror) = &config.mirror {
        put_source(out, mirror);
    }
    put(out, config.sources.len() as u64);
    config.sources.iter().for_each(|source| put_source(out, source));
    out.push(u8::from(config.mirror_direct));
}

fn put_source(out: &mut Vec<u8>, source: &Source) {
    put_text(out, &source.name);
    put(out, source.start_sequence);
    out.push(u8::from(source.start_time.is_some()));
    put_signed(out, source.start_time.map_or(0, |time| time.0));
    put_text(out, &source.filter);
    put(out, source.transforms.len() as u64);
    source.transforms.iter().for_each(|transform| put_transform(out, transform));
    out.push(u8::from(source.external.is_some()));
    if let Some(external) = &source.external {
        put_text(out, &external.api);
        put_text(out, &external.deliver);
    }
    out.push(u8::from(source.consumer.is_some()));
    if let Some(consumer) = &source.consumer {
        put_text(out, &consumer.name);
        put_text(out, &consumer.deliver_subject);
    }
}

/// The reverse of [`put_origins`].
fn read_origins(from: &mut Reader<'_>, config: &mut StreamConfig) -> Result<(), StoreError> {
    if from.flag()? {
        config.mirror = Some(Box::new(read_source(from)?));
    }
    let sources = from.number()?;
    // Collected one by one: a damaged count ends where the bytes do.
    config.sources = (0..sources).map(|_| read_source(from)).collect::<Result<_, _>>()?;
    config.mirror_direct = from.flag()?;
    Ok(())
}

fn read_source(from: &mut Reader<'_>) -> Result<Source, StoreError> {
    let mut source = Source { name: from.text()?.into(), start_sequence: from.number()?, ..Source::default() };
    let (has_time, time) = (from.flag()?, from.signed()?);
    source.start_time = has_time.then_some(Timestamp(time));
    source.filter = from.text()?.into();
    let transforms = from.number()?;
    source.transforms = (0..transforms).map(|_| read_transform(from)).collect::<Result<_, _>>()?;
    if from.flag()? {
        source.external = Some(ExternalStream { api: from.text()?.into(), deliver: from.text()?.into() });
    }
    if from.flag()? {
        source.consumer = Some(SourceConsumer { name: from.text()?.into(), deliver_subject: from.text()?.into() });
    }
    Ok(source)
}

/// The rest of what version 4 added.
fn put_kinds_of_messages(out: &mut Vec<u8>, config: &StreamConfig) {
    out.push(u8::from(config.no_ack));
    put(out, config.subject_delete_marker_ttl_ns);
    out.push(u8::from(config.allow_atomic));
    out.push(u8::from(config.allow_batched));
    out.push(u8::from(config.allow_counter));
    out.push(u8::from(config.allow_schedules));
    out.push(u8::from(config.persist_async));
    out.push(u8::from(config.compression == Compression::S2));
    put_text(out, &config.template);
    // What was written before it was known ends here.
    if let Some(placement) = &config.placement {
        put_text(out, &placement.cluster);
        put(out, placement.tags.len() as u64);
        placement.tags.iter().for_each(|tag| put_text(out, tag));
    }
}

/// The reverse of [`put_kinds_of_messages`].
fn read_kinds_of_messages(from: &mut Reader<'_>, config: &mut StreamConfig) -> Result<(), StoreError> {
    config.no_ack = from.flag()?;
    config.subject_delete_marker_ttl_ns = from.number()?;
    config.allow_atomic = from.flag()?;
    config.allow_batched = from.flag()?;
    config.allow_counter = from.flag()?;
    config.allow_schedules = from.flag()?;
    config.persist_async = from.flag()?;
    config.compression = if from.flag()? { Compression::S2 } else { Compression::None };
    config.template = from.text()?.into();
    if !from.is_at_end() {
        let (cluster, tags) = (from.text()?.into(), from.number()?);
        let tags = (0..tags).map(|_| Ok(from.text()?.into())).collect::<Result<_, StoreError>>()?;
        config.placement = Some(Placement { cluster, tags });
    }
    Ok(())
}

/// The name in what [`crate::store::Store::create_stream`] was given; `None`: that can't be read.
#[must_use]
pub fn stream_name(description: &[u8]) -> Option<Box<str>> {
    decode_stream(description).ok().map(|(config, _)| config.name)
}

/// The reverse of [`encode_stream`].
pub(crate) fn decode_stream(bytes: &[u8]) -> Result<(StreamConfig, Timestamp), StoreError> {
    let what = "description of a stream";
    let version = bytes.first().copied().unwrap_or_default().clamp(1, STREAM_VERSION);
    let mut from = Reader::new(bytes, version, what)?;
    let created = Timestamp(from.signed()?);
    let mut config = StreamConfig {
        name: from.text()?.into(),
        description: from.text()?.into(),
        subjects: from.filters()?,
        max_messages: from.signed()?,
        max_bytes: from.signed()?,
        max_age_ns: from.number()?,
        max_messages_per_subject: from.signed()?,
        max_message_size: from.signed()? as i32,
        max_consumers: from.signed()?,
        discard: if from.flag()? { Discard::New } else { Discard::Old },
        discard_new_per_subject: from.flag()?,
        duplicate_window_ns: from.number()?,
        deny_delete: from.flag()?,
        deny_purge: from.flag()?,
        allow_rollup: from.flag()?,
        allow_direct: from.flag()?,
        sealed: from.flag()?,
        first_sequence: from.number()?,
        metadata: from.map()?,
        ..StreamConfig::named("")
    };
    if version > 1 {
        config.retention = match from.byte()? {
            0 => Retention::Limits,
            1 => Retention::Interest,
            2 => Retention::WorkQueue,
            _ => return Err(StoreError::Damaged(format!("{what}: unknown retention"))),
        };
        config.storage = if from.flag()? { Storage::Memory } else { Storage::File };
    }
    if version > 2 {
        read_subjects_and_limits(&mut from, &mut config)?;
    }
    if version > 3 {
        read_origins(&mut from, &mut config)?;
        read_kinds_of_messages(&mut from, &mut config)?;
    }
    Ok((config, created))
}

/// A consumer's first record: its stream, when it was created, and its configuration.
pub(crate) fn encode_consumer(config: &ConsumerConfig, stream: StreamId, created: Timestamp) -> Vec<u8> {
    let mut out = vec![CONSUMER_VERSION];
    put(&mut out, u64::from(stream.0));
    put_signed(&mut out, created.0);
    put_text(&mut out, &config.name);
    out.push(u8::from(config.durable));
    put_text(&mut out, &config.description);
    let (policy, start) = match config.deliver_policy {
        DeliverPolicy::All => (0, 0),
        DeliverPolicy::Last => (1, 0),
        DeliverPolicy::New => (2, 0),
        DeliverPolicy::FromSequence(sequence) => (3, sequence.0 as i64),
        DeliverPolicy::FromTime(time) => (4, time.0),
        DeliverPolicy::LastPerSubject => (5, 0),
    };
    out.push(policy);
    put_signed(&mut out, start);
    out.push(match config.ack_policy {
        AckPolicy::None => 0,
        AckPolicy::All => 1,
        AckPolicy::Explicit => 2,
        AckPolicy::FlowControl => 3,
    });
    put(&mut out, config.ack_wait_ns);
    put(&mut out, config.backoff_ns.len() as u64);
    config.backoff_ns.iter().for_each(|wait| put(&mut out, *wait));
    put_signed(&mut out, config.max_deliver);
    put_signed(&mut out, config.max_ack_pending);
    put_signed(&mut out, config.max_waiting);
    put_filters(&mut out, &config.filters);
    out.push(u8::from(config.headers_only));
    put_signed(&mut out, config.max_request_batch);
    put(&mut out, config.max_request_expires_ns);
    put_signed(&mut out, config.max_request_max_bytes);
    put(&mut out, config.inactive_threshold_ns);
    out.push(u8::from(config.memory_storage));
    put_map(&mut out, &config.metadata);
    put_sending(&mut out, config);
    put_priority(&mut out, config);
    out
}

/// What version 2 added.
fn put_sending(out: &mut Vec<u8>, config: &ConsumerConfig) {
    out.push(u8::from(config.push.is_some()));
    if let Some(push) = &config.push {
        put_text(out, &push.subject);
        put_text(out, &push.group);
        out.push(u8::from(push.flow_control));
        put(out, push.heartbeat_ns);
        put(out, push.rate_limit);
    }
    out.push(u8::from(config.replay_original));
    put_signed(out, config.pause_until.map_or(0, |until| until.0));
    out.push(u8::from(config.direct));
    out.push(u8::from(config.sourcing));
}

/// The reverse of [`put_sending`].
fn read_sending(from: &mut Reader<'_>, config: &mut ConsumerConfig) -> Result<(), StoreError> {
    if from.flag()? {
        config.push = Some(Push {
            subject: from.text()?.into(),
            group: from.text()?.into(),
            flow_control: from.flag()?,
            heartbeat_ns: from.number()?,
            rate_limit: from.number()?,
        });
    }
    config.replay_original = from.flag()?;
    config.pause_until = Some(from.signed()?).filter(|until| *until != 0).map(Timestamp);
    config.direct = from.flag()?;
    config.sourcing = from.flag()?;
    Ok(())
}

/// What version 3 added.
fn put_priority(out: &mut Vec<u8>, config: &ConsumerConfig) {
    put_text(out, &config.sample_frequency);
    put(out, config.priority.groups.len() as u64);
    config.priority.groups.iter().for_each(|group| put_text(out, group));
    out.push(match config.priority.policy {
        PriorityPolicy::None => 0,
        PriorityPolicy::Overflow => 1,
        PriorityPolicy::PinnedClient => 2,
        PriorityPolicy::Prioritized => 3,
    });
    put(out, config.priority.pinned_ttl_ns);
    // What was written before they were known ends here.
    let zero_pause = config.pause_until == Some(Timestamp(0));
    if config.lists_filter || config.replicas > 0 || config.is_unnamed || zero_pause {
        let is_unnamed = u8::from(config.is_unnamed);
        out.extend([u8::from(config.lists_filter), config.replicas, is_unnamed, u8::from(zero_pause)]);
    }
}

/// The reverse of [`put_priority`].
fn read_priority(from: &mut Reader<'_>, config: &mut ConsumerConfig) -> Result<(), StoreError> {
    config.sample_frequency = from.text()?.into();
    let groups = from.number()?;
    config.priority = Priority {
        groups: (0..groups).map(|_| Ok(from.text()?.into())).collect::<Result<_, StoreError>>()?,
        policy: match from.byte()? {
            0 => PriorityPolicy::None,
            1 => PriorityPolicy::Overflow,
            2 => PriorityPolicy::PinnedClient,
            3 => PriorityPolicy::Prioritized,
            _ => return Err(StoreError::Damaged("configuration of a consumer: unknown priority policy".to_owned())),
        },
        pinned_ttl_ns: from.number()?,
    };
    config.lists_filter = !from.is_at_end() && from.flag()?;
    config.replicas = if from.is_at_end() { 0 } else { from.byte()? };
    config.is_unnamed = !from.is_at_end() && from.flag()?;
    if !from.is_at_end() && from.flag()? {
        config.pause_until = Some(Timestamp(0));
    }
    Ok(())
}

/// The reverse of [`encode_consumer`].
pub(crate) fn decode_consumer(bytes: &[u8]) -> Result<(ConsumerConfig, StreamId, Timestamp), StoreError> {
    let what = "configuration of a consumer";
    let version = bytes.first().copied().unwrap_or_default().clamp(1, CONSUMER_VERSION);
    let mut from = Reader::new(bytes, version, what)?;
    let stream = StreamId(from.number_u32()?);
    let created = Timestamp(from.signed()?);
    let (name, durable, description) = (from.text()?.into(), from.flag()?, from.text()?.into());
    let deliver_policy = match (from.byte()?, from.signed()?) {
        (0, _) => DeliverPolicy::All,
        (1, _) => DeliverPolicy::Last,
        (2, _) => DeliverPolicy::New,
        (3, start) => DeliverPolicy::FromSequence(Sequence(start as u64)),
        (4, start) => DeliverPolicy::FromTime(Timestamp(start)),
        (5, _) => DeliverPolicy::LastPerSubject,
        _ => return Err(StoreError::Damaged(format!("{what}: unknown deliver policy"))),
    };
    let ack_policy = match from.byte()? {
        0 => AckPolicy::None,
        1 => AckPolicy::All,
        2 => AckPolicy::Explicit,
        3 => AckPolicy::FlowControl,
        _ => return Err(StoreError::Damaged(format!("{what}: unknown ack policy"))),
    };
    let ack_wait_ns = from.number()?;
    let backoffs = from.number()?;
    let mut config = ConsumerConfig {
        name,
        durable,
        description,
        deliver_policy,
        ack_policy,
        ack_wait_ns,
        backoff_ns: (0..backoffs).map(|_| from.number()).collect::<Result<_, _>>()?,
        max_deliver: from.signed()?,
        max_ack_pending: from.signed()?,
        max_waiting: from.signed()?,
        filters: from.filters()?,
        headers_only: from.flag()?,
        max_request_batch: from.signed()?,
        max_request_expires_ns: from.number()?,
        max_request_max_bytes: from.signed()?,
        inactive_threshold_ns: from.number()?,
        memory_storage: from.flag()?,
        metadata: from.map()?,
        ..ConsumerConfig::named("")
    };
    if version > 1 {
        read_sending(&mut from, &mut config)?;
    }
    if version > 2 {
        read_priority(&mut from, &mut config)?;
    }
    Ok((config, stream, created))
}

#[cfg(test)]
mod tests {
    use super::{decode_consumer, decode_stream, encode_consumer, encode_stream};
    use crate::config::{
        AckPolicy, Compression, ConsumerConfig, ConsumerLimits, DeliverPolicy, Discard, ExternalStream, Placement,
        Priority, PriorityPolicy, Push, Republish, Retention, Source, SourceConsumer, StreamConfig, SubjectTransform,
    };
    use crate::identity::{Sequence, StreamId, Timestamp};
    use subject::Filter;

    #[test]
    fn a_stream_comes_back_as_it_was() {
        let config = StreamConfig {
            subjects: vec![Filter::parse("a.*").expect("filter"), Filter::parse("b.>").expect("filter")],
            max_bytes: 5,
            max_message_size: 77,
            discard: Discard::New,
            sealed: true,
            retention: Retention::Interest,
            metadata: [("k".to_owned(), "v".to_owned())].into(),
            subject_transform: Some(SubjectTransform { source: "a.*".into(), destination: "c.$1".into() }),
            republish: Some(Republish {
                subjects: SubjectTransform { source: ">".into(), destination: "again.>".into() },
                headers_only: true,
            }),
            consumer_limits: ConsumerLimits { inactive_threshold_ns: 9, max_ack_pending: 8 },
            allow_message_ttl: true,
            sources: vec![source("A"), Source::default()],
            mirror: Some(Box::new(source("B"))),
            subject_delete_marker_ttl_ns: 1 << 40,
            allow_counter: true,
            compression: Compression::S2,
            template: "T".into(),
            placement: Some(Placement { cluster: "east".into(), tags: vec!["ssd".into(), "".into()] }),
            ..StreamConfig::named("S")
        };
        let bytes = encode_stream(&config, Timestamp(-5));
        assert_eq!(decode_stream(&bytes).expect("readable"), (config, Timestamp(-5)));
        assert!(decode_stream(&bytes[..bytes.len() - 1]).is_err());
    }

    fn source(name: &str) -> Source {
        Source {
            name: name.into(),
            start_sequence: 7,
            start_time: Some(Timestamp(-1)),
            filter: "a.>".into(),
            transforms: vec![SubjectTransform { source: "a.*".into(), destination: "b.$1".into() }],
            external: Some(ExternalStream { api: "$JS.x.API".into(), deliver: "".into() }),
            consumer: Some(SourceConsumer { name: "C".into(), deliver_subject: "to".into() }),
        }
    }

    #[test]
    fn a_stream_of_version_1_is_read() {
        let config = StreamConfig { max_bytes: 5, ..StreamConfig::named("S") };
        let mut bytes = encode_stream(&config, Timestamp(7));
        let mut added = Vec::new();
        super::put_subjects_and_limits(&mut added, &config);
        super::put_origins(&mut added, &config);
        super::put_kinds_of_messages(&mut added, &config);
        bytes.truncate(bytes.len() - added.len() - 2);
        bytes[0] = 1;
        assert_eq!(decode_stream(&bytes).expect("readable"), (config, Timestamp(7)));
    }

    #[test]
    fn a_consumer_comes_back_as_it_was() {
        let config = ConsumerConfig {
            deliver_policy: DeliverPolicy::FromSequence(Sequence(u64::MAX)),
            ack_policy: AckPolicy::All,
            backoff_ns: vec![1, 2, 3],
            filters: vec![Filter::parse("a.b").expect("filter")],
            durable: true,
            push: Some(Push { subject: "to".into(), flow_control: true, heartbeat_ns: 7, ..Push::default() }),
            pause_until: Some(Timestamp(-9)),
            sourcing: true,
            replicas: 1,
            sample_frequency: "50%".into(),
            priority: Priority {
                groups: vec!["a".into(), "b".into()],
                policy: PriorityPolicy::PinnedClient,
                pinned_ttl_ns: 5,
            },
            ..ConsumerConfig::named("C")
        };
        let chosen = ConsumerConfig { is_unnamed: true, pause_until: Some(Timestamp(0)), ..config.clone() };
        for config in [config, chosen] {
            let bytes = encode_consumer(&config, StreamId(16), Timestamp(9));
            assert_eq!(decode_consumer(&bytes).expect("readable"), (config, StreamId(16), Timestamp(9)));
        }
    }

    #[test]
    fn a_consumer_of_version_1_is_read() {
        let config =
            ConsumerConfig { filters: vec![Filter::parse("a.b").expect("filter")], ..ConsumerConfig::named("C") };
        let mut bytes = encode_consumer(&config, StreamId(16), Timestamp(9));
        let mut added = Vec::new();
        super::put_sending(&mut added, &config);
        super::put_priority(&mut added, &config);
        bytes.truncate(bytes.len() - added.len());
        bytes[0] = 1;
        assert_eq!(decode_consumer(&bytes).expect("readable"), (config, StreamId(16), Timestamp(9)));
    }
}
