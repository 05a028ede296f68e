//! Is a consumer's configuration possible, and what may an update change? The rules and texts are nats-server's.

use crate::api_error::{self, ApiError};
use crate::config::{AckPolicy, ConsumerConfig, ConsumerLimits, DeliverPolicy, MOST_SUBJECTS};
use crate::consumer::consuming::duration;
use crate::consumer::priority;
use crate::consumer::telling;
use crate::stream::config_check::is_name;

const LONGEST_NAME: usize = 255;
const LONGEST_DESCRIPTION: usize = 4096;
const MOST_METADATA: usize = 128 * 1024;
/// An ephemeral consumer that says nothing else is removed after this.
const EPHEMERAL_THRESHOLD_NS: u64 = 5_000_000_000;
/// What a consumer gets that acknowledges and says nothing else.
const MAX_ACK_PENDING: i64 = 1000;

/// Fills in what depends on other fields and on the stream. `most_pending`: the most that it gets of unacknowledged messages without asking.
/// `was_durable`: the consumer that it changes, if it does. One that becomes durable by that keeps an end, as in nats-server.
pub(crate) fn complete(
    config: &mut ConsumerConfig,
    was_durable: Option<bool>,
    limits: &ConsumerLimits,
    most_pending: Option<u64>,
) {
    if let Some(first) = config.backoff_ns.first() {
        config.ack_wait_ns = *first;
    }
    priority::complete(&mut config.priority);
    if config.max_ack_pending == 0 {
        config.max_ack_pending = limits.max_ack_pending;
    }
    if config.max_ack_pending == 0 && config.ack_policy != AckPolicy::None {
        config.max_ack_pending = most_pending.map_or(MAX_ACK_PENDING, |most| most.min(MAX_ACK_PENDING as u64) as i64);
    }
    if config.inactive_threshold_ns == 0 {
        config.inactive_threshold_ns = limits.inactive_threshold_ns;
    }
    if !was_durable.unwrap_or(config.durable) && config.inactive_threshold_ns == 0 {
        config.inactive_threshold_ns = EPHEMERAL_THRESHOLD_NS;
    }
}

/// Checks what the stream has limits for.
pub(crate) fn check_limits(config: &ConsumerConfig, limits: &ConsumerLimits) -> Result<(), ApiError> {
    let (pending, inactive) = (limits.max_ack_pending, limits.inactive_threshold_ns);
    if pending > 0 && config.max_ack_pending > pending {
        return Err(api_error::consumer_max_pending_ack_excess(pending));
    }
    if inactive > 0 && config.inactive_threshold_ns > inactive {
        return Err(api_error::consumer_inactive_threshold_excess(duration(inactive)));
    }
    Ok(())
}

/// Checks a configuration by itself.
pub(crate) fn check(config: &ConsumerConfig) -> Result<(), ApiError> {
    if !config.name.is_empty() && !is_name(&config.name) {
        let text = "consumer name can not contain '.', '*', '>', '\\', '/'";
        return Err(api_error::stream_invalid_config(text));
    }
    if config.name.len() > LONGEST_NAME {
        return Err(api_error::consumer_name_too_long(LONGEST_NAME));
    }
    check_backoff(config)?;
    if config.description.len() > LONGEST_DESCRIPTION {
        return Err(api_error::consumer_description_too_long(LONGEST_DESCRIPTION));
    }
    if config.max_request_expires_ns != 0 && config.max_request_expires_ns < 1_000_000 {
        return Err(api_error::CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL);
    }
    if config.filters.len() > MOST_SUBJECTS {
        let text = format!("consumer has too many subject filters, maximum allowed is {MOST_SUBJECTS}");
        return Err(api_error::stream_invalid_config(text));
    }
    for (index, filter) in config.filters.iter().enumerate() {
        if config.filters[index + 1..].iter().any(|other| other.covers(filter) || filter.covers(other)) {
            return Err(api_error::CONSUMER_OVERLAPPING_SUBJECT_FILTERS);
        }
    }
    if config.deliver_policy == DeliverPolicy::LastPerSubject && config.filters.is_empty() {
        let text = "consumer delivery policy is deliver last per subject, but optional filter subject is not set";
        return Err(api_error::consumer_invalid_policy(text));
    }
    telling::check_sampling(&config.sample_frequency)?;
    if config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST_METADATA {
        return Err(api_error::consumer_metadata_length(format!("{}KB", MOST_METADATA / 1024)));
    }
    priority::check(config)
}

fn check_backoff(config: &ConsumerConfig) -> Result<(), ApiError> {
    let longer = config.max_deliver != -1 && config.backoff_ns.len() as i64 > config.max_deliver;
    if !config.backoff_ns.is_empty() && longer { Err(api_error::CONSUMER_MAX_DELIVER_BACKOFF) } else { Ok(()) }
}

/// Checks what an update may change, in stock's order.
pub(crate) fn check_update(old: &ConsumerConfig, new: &ConsumerConfig) -> Result<(), ApiError> {
    let kind = std::mem::discriminant::<DeliverPolicy>;
    let sending = |config: &ConsumerConfig| {
        let push = config.push.as_ref();
        (push.map_or(0, |push| push.heartbeat_ns), push.is_some_and(|push| push.flow_control), push.is_some())
    };
    let (before, after) = (sending(old), sending(new));
    let begins_in_time = matches!(old.deliver_policy, DeliverPolicy::FromTime(_));
    let rules = [
        (kind(&old.deliver_policy) != kind(&new.deliver_policy), "deliver policy can not be updated"),
        (old.memory_storage != new.memory_storage, "storage type can not be updated"),
        (old.direct != new.direct, "direct can not be updated"),
        (old.sourcing != new.sourcing, "sourcing can not be updated"),
        (old.deliver_policy != new.deliver_policy && !begins_in_time, "start sequence can not be updated"),
        (old.deliver_policy != new.deliver_policy, "start time can not be updated"),
        (old.ack_policy != new.ack_policy, "ack policy can not be updated"),
        (old.replay_original != new.replay_original, "replay policy can not be updated"),
        (before.0 != after.0, "heart beats can not be updated"),
        (before.1 != after.1, "flow control can not be updated"),
        (!before.2 && after.2, "can not update pull consumer to push based"),
        (before.2 && !after.2, "can not update push consumer to pull based"),
        (old.max_waiting != new.max_waiting, "max waiting can not be updated"),
    ];
    match rules.into_iter().find(|(broken, _)| *broken) {
        Some((_, text)) => Err(api_error::consumer_create(text)),
        None => Ok(()),
    }
}

/// Same configuration, apart from the metadata that servers add.
pub(crate) fn same(one: &ConsumerConfig, two: &ConsumerConfig) -> bool {
    let plain = |config: &ConsumerConfig| {
        let mut config = config.clone();
        config.metadata.retain(|key, _| !key.starts_with("_nats."));
        config
    };
    plain(one) == plain(two)
}
