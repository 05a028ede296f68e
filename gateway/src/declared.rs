//! Streams and consumers that the configuration declares, as requests to JetStream.

use std::time::Duration;

use jetstream::api_error::ApiError;
use jetstream::command::{Answer, ConsumerAction, Request};
use jetstream::config::{
    AckPolicy, Compression, ConsumerConfig, ConsumerLimits, DeliverPolicy, Discard, Placement, Priority,
    PriorityPolicy, Push, Republish, Retention, Storage, StreamConfig, SubjectTransform,
};
use jetstream::identity::{Sequence, Timestamp};
use subject::Filter;

use crate::config;

/// Something to be there after the start.
#[derive(Clone, Debug)]
pub(crate) enum Declaration {
    /// A stream.
    Stream(Box<StreamConfig>),
    /// A consumer of the stream named first.
    Consumer(Box<str>, Box<ConsumerConfig>),
}

impl Declaration {
    /// What it is, for messages.
    pub(crate) fn what(&self) -> String {
        match self {
            Declaration::Stream(config) => format!("stream {:?}", config.name),
            Declaration::Consumer(stream, config) => format!("consumer {:?} of stream {stream:?}", config.name),
        }
    }

    /// What is tried, until one succeeds: create it, else bring what is there to this.
    pub(crate) fn requests(&self) -> Vec<Request> {
        match self {
            Declaration::Stream(config) => {
                vec![Request::StreamCreate { config: config.clone() }, Request::StreamUpdate { config: config.clone() }]
            }
            Declaration::Consumer(stream, config) => vec![Request::ConsumerCreate {
                stream: stream.clone(),
                config: config.clone(),
                action: ConsumerAction::CreateOrUpdate,
            }],
        }
    }
}

/// Asks for each in turn, and tells what is refused, and why.
///
/// # Errors
/// When asking fails.
pub(crate) fn bring_about(
    declared: &[(String, Declaration)],
    ask: &mut dyn FnMut(Request) -> anyhow::Result<Answer>,
    told: &mut dyn FnMut(String, String),
) -> anyhow::Result<()> {
    for (place, declaration) in declared {
        let mut refused: Option<ApiError> = None;
        for request in declaration.requests() {
            match ask(request)? {
                // There is nothing to update: it is the refused creation that tells why.
                Answer::Error(error) if error.code == 404 && refused.is_some() => {}
                Answer::Error(error) => refused = Some(error),
                _ => {
                    refused = None;
                    break;
                }
            }
        }
        if let Some(error) = refused {
            told(format!("{place}: {}", declaration.what()), format!("{} ({})", error.description, error.err_code));
        }
    }
    Ok(())
}

/// All declarations of the configuration, with their places.
pub(crate) fn of(streams: &[config::Stream]) -> Vec<(String, Declaration)> {
    let mut all = Vec::new();
    for stream in streams {
        all.push((stream.position.to_string(), Declaration::Stream(Box::new(stream_config(stream)))));
        for consumer in &stream.consumers {
            let config = Box::new(consumer_config(consumer));
            all.push((consumer.position.to_string(), Declaration::Consumer(stream.name.as_str().into(), config)));
        }
    }
    all
}

fn stream_config(stream: &config::Stream) -> StreamConfig {
    StreamConfig {
        description: stream.description.clone().unwrap_or_default().into(),
        subjects: filters(&stream.subjects),
        retention: match stream.retention {
            config::Retention::Limits => Retention::Limits,
            config::Retention::Interest => Retention::Interest,
            config::Retention::WorkQueue => Retention::WorkQueue,
        },
        storage: match stream.storage {
            config::Storage::File => Storage::File,
            config::Storage::Memory => Storage::Memory,
        },
        max_messages: limit(stream.max_messages),
        max_bytes: limit(stream.max_bytes),
        max_age_ns: stream.max_age.map_or(0, nanoseconds),
        max_messages_per_subject: limit(stream.max_messages_per_subject),
        max_message_size: stream.max_message_size.map_or(-1, |size| i32::try_from(size).unwrap_or(i32::MAX)),
        discard: match stream.discard {
            config::Discard::Old => Discard::Old,
            config::Discard::New => Discard::New,
        },
        discard_new_per_subject: stream.discard_new_per_subject,
        duplicate_window_ns: nanoseconds(stream.duplicate_window),
        deny_delete: stream.deny_delete,
        deny_purge: stream.deny_purge,
        // Markers and schedules need them, as the API grants them too.
        allow_rollup: stream.allow_rollup || stream.delete_marker.is_some() || stream.allow_schedules,
        allow_message_ttl: stream.allow_message_ttl || stream.delete_marker.is_some(),
        allow_atomic: stream.allow_atomic,
        allow_batched: stream.allow_batched,
        no_ack: stream.no_ack,
        persist_async: stream.persist_async,
        compression: if stream.compressed { Compression::S2 } else { Compression::None },
        subject_transform: stream.subject_transform.as_ref().map(transform),
        republish: stream
            .republish
            .as_ref()
            .map(|mapping| Republish { subjects: transform(mapping), headers_only: mapping.headers_only }),
        allow_direct: stream.allow_direct,
        allow_counter: stream.allow_counter,
        allow_schedules: stream.allow_schedules,
        subject_delete_marker_ttl_ns: stream.delete_marker.map_or(0, nanoseconds),
        max_consumers: limit(stream.max_consumers),
        consumer_limits: ConsumerLimits {
            inactive_threshold_ns: stream.consumer_limits.inactive_threshold.map_or(0, nanoseconds),
            max_ack_pending: stream.consumer_limits.max_ack_pending.map_or(0, |most| limit(Some(most))),
        },
        placement: stream.placement.as_ref().map(|placement| Placement {
            cluster: placement.cluster.as_str().into(),
            tags: placement.tags.iter().map(|tag| tag.as_str().into()).collect(),
        }),
        sealed: stream.sealed,
        first_sequence: stream.first_sequence,
        mirror: stream.origins.mirror.clone().map(Box::new),
        sources: stream.origins.sources.clone(),
        mirror_direct: stream.origins.mirror_direct,
        metadata: stream.metadata.clone(),
        ..StreamConfig::named(&stream.name)
    }
}

fn transform(mapping: &config::Mapping) -> SubjectTransform {
    SubjectTransform { source: mapping.source.as_str().into(), destination: mapping.destination.as_str().into() }
}

fn consumer_config(consumer: &config::Consumer) -> ConsumerConfig {
    ConsumerConfig {
        description: consumer.description.clone().unwrap_or_default().into(),
        deliver_policy: match &consumer.deliver_policy {
            config::DeliverPolicy::All => DeliverPolicy::All,
            config::DeliverPolicy::Last => DeliverPolicy::Last,
            config::DeliverPolicy::New => DeliverPolicy::New,
            config::DeliverPolicy::LastPerSubject => DeliverPolicy::LastPerSubject,
            config::DeliverPolicy::FromSequence(sequence) => DeliverPolicy::FromSequence(Sequence(*sequence)),
            // Checked when the file was read.
            config::DeliverPolicy::FromTime(text) => {
                DeliverPolicy::FromTime(jetstream_api::parse_time(text).unwrap_or(Timestamp(0)))
            }
        },
        ack_policy: match consumer.ack_policy {
            config::AckPolicy::Explicit => AckPolicy::Explicit,
            config::AckPolicy::All => AckPolicy::All,
            config::AckPolicy::None => AckPolicy::None,
        },
        ack_wait_ns: nanoseconds(consumer.ack_wait),
        backoff_ns: consumer.backoff.iter().copied().map(nanoseconds).collect(),
        max_deliver: limit(consumer.max_deliver),
        max_ack_pending: limit(consumer.max_ack_pending),
        max_waiting: if consumer.push.is_some() { 0 } else { i64::from(consumer.max_waiting) },
        filters: filters(&consumer.filter_subjects),
        headers_only: consumer.headers_only,
        max_request_batch: consumer.max_batch.map_or(0, |most| limit(Some(most))),
        max_request_expires_ns: consumer.max_expires.map_or(0, nanoseconds),
        max_request_max_bytes: consumer.max_bytes.map_or(0, |most| limit(Some(most))),
        inactive_threshold_ns: consumer.inactive_threshold.map_or(0, nanoseconds),
        metadata: consumer.metadata.clone(),
        push: consumer.push.as_ref().map(push),
        priority: consumer.priority.as_ref().map(priority).unwrap_or_default(),
        sample_frequency: consumer.sample_frequency.clone().unwrap_or_default().into(),
        memory_storage: consumer.memory_storage,
        replay_original: consumer.replay_original,
        ..ConsumerConfig::named(&consumer.name)
    }
}

fn push(push: &config::Push) -> Push {
    Push {
        subject: push.subject.as_str().into(),
        group: push.group.as_deref().unwrap_or_default().into(),
        flow_control: push.flow_control,
        heartbeat_ns: push.heartbeat.map_or(0, nanoseconds),
        rate_limit: push.rate_limit.unwrap_or(0),
    }
}

fn priority(priority: &config::Priority) -> Priority {
    Priority {
        groups: priority.groups.iter().map(|group| group.as_str().into()).collect(),
        policy: match priority.policy {
            config::PriorityPolicy::Overflow => PriorityPolicy::Overflow,
            config::PriorityPolicy::PinnedClient => PriorityPolicy::PinnedClient,
            config::PriorityPolicy::Prioritized => PriorityPolicy::Prioritized,
        },
        pinned_ttl_ns: priority.timeout.map_or(0, nanoseconds),
    }
}

fn filters(texts: &[String]) -> Vec<Filter> {
    // Checked when the file was read.
    texts.iter().filter_map(|text| Filter::parse(text).ok()).collect()
}

fn limit(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
