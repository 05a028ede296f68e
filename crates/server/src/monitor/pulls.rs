//! Mirrors and sources in both directions, for `/status` and `/metrics`: what streams here take from elsewhere, and who takes from streams here.

use jetstream::command::{ConsumerInfo, Statistics};
use jetstream::config::AckPolicy;
use jetstream::origin::Stage;

use crate::core_loop::Core;
use crate::status::{OriginStatus, PulledStatus};

/// What streams here mirror and source.
pub(super) fn origins(core: &Core) -> Vec<OriginStatus> {
    let rows = core.broker.origin_rows().map(|row| OriginStatus {
        stream: row.stream.to_owned(),
        origin: row.source.name.to_string(),
        api: row.source.external.as_ref().map(|external| external.api.to_string()),
        mirror: row.is_mirror,
        state: said(row.state.stage).to_owned(),
        since_micros: row.state.since,
        heard_micros: row.state.heard,
        lag: row.state.lag,
        sequence: row.state.sequence.0,
        last_error: row.state.last_error.map(|error| error.description.to_string()),
    });
    rows.collect()
}

fn said(stage: Stage) -> &'static str {
    match stage {
        Stage::Waiting => "waiting",
        Stage::Unheard => "nobody answers",
        Stage::Asking => "asking",
        Stage::Receiving => "receiving",
    }
}

/// Who mirrors and sources streams here.
pub(super) fn pulled(statistics: &Statistics) -> Vec<PulledStatus> {
    let consumers = statistics.streams.iter().flat_map(|(_, consumers)| consumers);
    consumers.filter(|consumer| consumer.config.direct).map(pulled_by).collect()
}

fn pulled_by(consumer: &ConsumerInfo) -> PulledStatus {
    let said = |key: &str| {
        let names = [format!("_nats.src.{key}"), format!("_nats.mirror.{key}")];
        let metadata = consumer.config.metadata.iter();
        metadata.into_iter().find(|(name, _)| names.contains(name)).map(|(_, value)| value.clone())
    };
    PulledStatus {
        stream: consumer.stream.to_string(),
        consumer: consumer.name.to_string(),
        to: said("stream"),
        domain: said("domain"),
        bound: consumer.push_bound,
        delivered: consumer.delivered.1.0,
        confirmed: (consumer.config.ack_policy != AckPolicy::None).then_some(consumer.ack_floor.1.0),
        pending: consumer.pending,
    }
}
