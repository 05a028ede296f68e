//! What a request that says `pedantic` is refused for because the server's limits, another stream or the stream would adjust it. What needs no state is
//! refused where the request is read. Texts are nats-server's.

use crate::account_limits::DUPLICATE_WINDOW_NS;
use crate::api_error::{self, ApiError};
use crate::command::Request;
use crate::config::{ConsumerConfig, StreamConfig};
use crate::jetstream::JetStream;

impl JetStream {
    /// What would be adjusted of a creation or an update.
    pub(crate) fn adjustment(&self, request: &Request) -> Option<ApiError> {
        let text = match request {
            Request::StreamCreate { config } | Request::StreamUpdate { config } => self.adjusted_stream(config),
            Request::ConsumerCreate { stream, config, .. } | Request::SourceCreate { stream, config, .. } => {
                self.adjusted_consumer(stream, config)
            }
            _ => None,
        };
        text.map(api_error::pedantic)
    }

    fn adjusted_stream(&self, config: &StreamConfig) -> Option<&'static str> {
        let longest = self.limits.requests.duplicate_window_ns;
        if longest
            .is_some_and(|longest| config.duplicate_window_ns == DUPLICATE_WINDOW_NS && longest < DUPLICATE_WINDOW_NS)
        {
            return Some("duplicate window limits are higher than current limits");
        }
        let mirror = config.mirror.as_ref().filter(|mirror| mirror.external.is_none())?;
        let origin = self.stream_named(&mirror.name)?;
        (origin.config.allow_direct != config.mirror_direct)
            .then_some("origin stream has direct get set, mirror has it disabled")
    }

    fn adjusted_consumer(&self, stream: &str, config: &ConsumerConfig) -> Option<&'static str> {
        let limits = self.stream_named(stream)?.config.consumer_limits;
        if config.max_ack_pending == 0 && limits.max_ack_pending > 0 {
            Some("max_ack_pending must be set if it's configured in stream limits")
        } else if config.inactive_threshold_ns == 0 && limits.inactive_threshold_ns > 0 {
            Some("inactive_threshold must be set if it's configured in stream limits")
        } else if config.push.is_none()
            && config.max_request_batch == 0
            && self.limits.requests.max_request_batch.is_some()
        {
            Some("max_request_batch must be set if it's JetStream limits are set")
        } else {
            None
        }
    }
}
