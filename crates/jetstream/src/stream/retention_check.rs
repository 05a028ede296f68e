//! Which consumers a work queue allows, and what a hub's source becomes on a stream whose messages leave when they are acknowledged. The rules and
//! texts are nats-server's.

use crate::api_error::{self, ApiError};
use crate::config::{AckPolicy, ConsumerConfig, DeliverPolicy, Push, Retention};
use crate::identity::ConsumerId;
use crate::jetstream::JetStream;
use crate::stream::Stream;
use subject::Filter;

/// A source's outstanding messages, and how often it is told that the consumer lives.
const SOURCE_OUTSTANDING: i64 = 1000;
const SOURCE_HEARTBEAT_NS: u64 = 1_000_000_000;

/// A hub of our day that sources such a stream gets a durable consumer that it acknowledges by its answers to flow control.
pub(crate) fn adapt_source(config: &mut ConsumerConfig, retention: Retention) {
    if retention == Retention::Limits || !config.direct || !config.sourcing || config.name.is_empty() {
        return;
    }
    let Some(push) = &mut config.push else { return };
    *push = Push { flow_control: true, heartbeat_ns: SOURCE_HEARTBEAT_NS, ..push.clone() };
    config.direct = false;
    config.durable = true;
    config.ack_policy = AckPolicy::FlowControl;
    config.ack_wait_ns = 0;
    config.max_deliver = -1;
    config.inactive_threshold_ns = 0;
    config.max_ack_pending = SOURCE_OUTSTANDING;
}

/// A source that asks again goes on where it stands, wherever it would begin.
pub(crate) fn keep_start(config: &mut ConsumerConfig, known: Option<&ConsumerConfig>) {
    if let Some(known) = known.filter(|known| known.sourcing && known.durable && config.sourcing) {
        config.deliver_policy = known.deliver_policy;
    }
}

/// Checks by itself a consumer that is to be made or changed.
pub(crate) fn check(config: &ConsumerConfig, retention: Retention) -> Result<(), ApiError> {
    let pulls = config.push.is_none() && config.ack_policy == AckPolicy::None;
    if retention == Retention::WorkQueue && pulls { Err(api_error::CONSUMER_PULL_REQUIRES_ACK) } else { Ok(()) }
}

impl JetStream {
    /// May a work queue have this consumer beside the others?
    pub(crate) fn may_join(&self, stream: &Stream, config: &ConsumerConfig) -> Result<(), ApiError> {
        if stream.config.retention != Retention::WorkQueue || config.is_source() {
            return Ok(());
        }
        if !matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::FlowControl) {
            return Err(api_error::CONSUMER_WQ_REQUIRES_EXPLICIT_ACK);
        }
        if config.deliver_policy != DeliverPolicy::All {
            return Err(api_error::CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL);
        }
        let alone = self.others(stream, None).next().is_none();
        if alone {
            Ok(())
        } else if config.filters.is_empty() {
            Err(api_error::CONSUMER_WQ_MULTIPLE_UNFILTERED)
        } else {
            self.is_unique(stream, None, config)
        }
    }

    /// May a consumer of a work queue be changed to this?
    pub(crate) fn may_change(&self, stream: &Stream, id: ConsumerId, config: &ConsumerConfig) -> Result<(), ApiError> {
        if stream.config.retention == Retention::WorkQueue { self.is_unique(stream, Some(id), config) } else { Ok(()) }
    }

    fn is_unique(&self, stream: &Stream, but: Option<ConsumerId>, config: &ConsumerConfig) -> Result<(), ApiError> {
        let shares = |other: &ConsumerConfig| {
            let overlaps = |filter| other.filters.iter().any(|theirs| theirs.overlaps(filter));
            config.filters.iter().any(|filter| other.filters.is_empty() || overlaps(filter))
        };
        let shared = match self.crowded(stream, but, &config.filters) {
            Some(others) => others.into_iter().any(shares),
            None => self.others(stream, but).any(shares),
        };
        if shared { Err(api_error::CONSUMER_WQ_CONSUMER_NOT_UNIQUE) } else { Ok(()) }
    }

    /// Those of the stream's consumers that may share a subject with one of the filters, and are no sources; `None`: there are few, ask each.
    fn crowded(&self, stream: &Stream, but: Option<ConsumerId>, filters: &[Filter]) -> Option<Vec<&ConsumerConfig>> {
        let mut ids: Vec<ConsumerId> = stream.audience.unfiltered()?.collect();
        for filter in filters {
            ids.extend(stream.audience.overlapping(filter)?);
        }
        let others = ids.into_iter().filter(|id| Some(*id) != but).filter_map(|id| self.consumers.get(&id));
        Some(others.map(|consumer| &consumer.config).filter(|config| !config.is_source()).collect())
    }

    /// The stream's consumers that are no sources.
    fn others<'a>(
        &'a self,
        stream: &'a Stream,
        but: Option<ConsumerId>,
    ) -> impl Iterator<Item = &'a ConsumerConfig> + 'a {
        let others = stream.consumers.values().filter(move |id| Some(**id) != but);
        let configs = others.filter_map(|id| self.consumers.get(id)).map(|consumer| &consumer.config);
        configs.filter(|config| !config.is_source())
    }
}
