//! Consumers and pull requests as the golden scripts write them.

use std::error::Error;

use goldenscript::ArgumentConsumer;

use crate::command::{Pull, PullGroup};
use crate::config::{AckPolicy, ConsumerConfig, DeliverPolicy, PriorityPolicy, Push};
use crate::identity::{Sequence, Timestamp};
use crate::testing::script::filters;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn consumer_config(name: &str, args: &mut ArgumentConsumer<'_>) -> Result<ConsumerConfig> {
    let mut config = ConsumerConfig::named(name);
    while let Some((key, value)) = args.next_key() {
        match key {
            "durable" => config.durable = value.parse()?,
            "deliver" => {
                config.deliver_policy = match value.split_once(':') {
                    Some(("seq", sequence)) => DeliverPolicy::FromSequence(Sequence(sequence.parse()?)),
                    Some(("time", millis)) => DeliverPolicy::FromTime(Timestamp(millis.parse::<i64>()? * 1_000_000)),
                    _ if value == "last" => DeliverPolicy::Last,
                    _ if value == "new" => DeliverPolicy::New,
                    _ if value == "last_per_subject" => DeliverPolicy::LastPerSubject,
                    _ => DeliverPolicy::All,
                }
            }
            "ack" => {
                config.ack_policy = match value {
                    "none" => AckPolicy::None,
                    "all" => AckPolicy::All,
                    "flow_control" => AckPolicy::FlowControl,
                    _ => AckPolicy::Explicit,
                }
            }
            "wait" => config.ack_wait_ns = value.parse::<u64>()? * 1_000_000,
            "backoff" => {
                let waits = value.split(',').map(|wait| Ok(wait.parse::<u64>()? * 1_000_000));
                config.backoff_ns = waits.collect::<Result<_>>()?;
            }
            "max_deliver" => config.max_deliver = value.parse()?,
            "max_pending" => config.max_ack_pending = value.parse()?,
            "max_waiting" => config.max_waiting = value.parse()?,
            "filters" => config.filters = filters(value)?,
            "headers_only" => config.headers_only = value.parse()?,
            "inactive" => config.inactive_threshold_ns = value.parse::<u64>()? * 1_000_000,
            "max_batch" => config.max_request_batch = value.parse()?,
            "max_expires" => config.max_request_expires_ns = value.parse::<u64>()? * 1_000_000,
            "memory" => config.memory_storage = value.parse()?,
            "direct" => config.direct = value.parse()?,
            "sourcing" => config.sourcing = value.parse()?,
            "push" => push(&mut config).subject = value.into(),
            "flow" => push(&mut config).flow_control = value.parse()?,
            "heartbeat" => push(&mut config).heartbeat_ns = value.parse::<u64>()? * 1_000_000,
            "rate" => push(&mut config).rate_limit = value.parse()?,
            "from" => _ = config.metadata.insert("_nats.src.stream".into(), value.into()),
            "replay" => config.replay_original = value == "original",
            "sample" => config.sample_frequency = value.into(),
            "groups" => config.priority.groups = value.split(',').map(Into::into).collect(),
            "pinned_ttl" => config.priority.pinned_ttl_ns = value.parse::<u64>()? * 1_000_000,
            "policy" => {
                config.priority.policy = match value {
                    "overflow" => PriorityPolicy::Overflow,
                    "pinned_client" => PriorityPolicy::PinnedClient,
                    "prioritized" => PriorityPolicy::Prioritized,
                    _ => PriorityPolicy::None,
                }
            }
            _ => return Err(format!("unknown {key}").into()),
        }
    }
    Ok(config)
}

/// What a pull says of its group, which a key of it begins.
pub(crate) fn group(pull: &mut Pull) -> &mut PullGroup {
    pull.is_object = true;
    pull.group.get_or_insert_default()
}

/// The push half of a configuration, which a key of it begins.
fn push(config: &mut ConsumerConfig) -> &mut Push {
    config.max_waiting = 0;
    config.push.get_or_insert_default()
}
