//! Levels of the JetStream API (ADR-44): which one is spoken, and which one a configuration or a request needs.

use crate::config::{AckPolicy, ConsumerConfig, Priority, StreamConfig};

/// The level that is spoken: what INFO's `api_lvl` and every configuration's `_nats.level` say.
pub const API_LEVEL: u32 = 5;

/// The least level at which a stream means what its configuration says.
#[must_use]
pub fn of_stream(config: &StreamConfig) -> u32 {
    let level_2 = config.allow_counter || config.allow_atomic || config.allow_schedules || config.persist_async;
    if config.allow_batched {
        4
    } else if level_2 {
        2
    } else {
        u32::from(config.allow_message_ttl || config.subject_delete_marker_ttl_ns > 0)
    }
}

/// The same for a consumer.
#[must_use]
pub fn of_consumer(config: &ConsumerConfig) -> u32 {
    if config.ack_policy == AckPolicy::FlowControl {
        4
    } else {
        u32::from(config.pause_until.is_some_and(|until| until.0 != 0) || config.priority != Priority::default())
    }
}

/// Does the value of `Nats-Required-Api-Level` ask for more than is spoken? What is no number is as good as one that is too high.
#[must_use]
pub fn is_too_high(value: &[u8]) -> bool {
    let level = std::str::from_utf8(value).ok().and_then(|level| level.parse::<i64>().ok());
    level.is_none_or(|level| level > i64::from(API_LEVEL))
}

#[cfg(test)]
mod tests {
    use super::{is_too_high, of_consumer, of_stream};
    use crate::config::{AckPolicy, ConsumerConfig, StreamConfig};

    #[test]
    fn the_highest_feature_decides() {
        let mut stream = StreamConfig::named("S");
        assert_eq!(of_stream(&stream), 0);
        stream.allow_message_ttl = true;
        assert_eq!(of_stream(&stream), 1);
        stream.allow_atomic = true;
        assert_eq!(of_stream(&stream), 2);
        stream.allow_batched = true;
        assert_eq!(of_stream(&stream), 4);
        let mut consumer = ConsumerConfig::named("C");
        assert_eq!(of_consumer(&consumer), 0);
        consumer.priority.groups.push("A".into());
        assert_eq!(of_consumer(&consumer), 1);
        consumer.ack_policy = AckPolicy::FlowControl;
        assert_eq!(of_consumer(&consumer), 4);
    }

    #[test]
    fn what_is_no_number_is_too_high() {
        assert!(!is_too_high(b"5") && !is_too_high(b"-1"));
        assert!(is_too_high(b"6") && is_too_high(b"x") && is_too_high(b""));
    }
}
