//! Mirrors and sources in both directions, for `/status` and `/metrics`: what streams here take from elsewhere, and who takes from streams here.

use jetstream::command::{ConsumerInfo, Statistics};
use jetstream::config::{AckPolicy, ConsumerConfig};
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

/// Longest name of a stream or domain: stock's.
const LONGEST_NAME: usize = 255;

/// Who mirrors and sources streams here.
pub(super) fn pulled(statistics: &Statistics) -> Vec<PulledStatus> {
    let consumers = statistics.streams.iter().flat_map(|(_, consumers)| consumers);
    consumers.filter(|consumer| consumer.config.direct).map(pulled_by).collect()
}

fn pulled_by(consumer: &ConsumerInfo) -> PulledStatus {
    PulledStatus {
        stream: consumer.stream.to_string(),
        consumer: consumer.name.to_string(),
        to: named_in(&consumer.config, "stream"),
        domain: named_in(&consumer.config, "domain"),
        bound: consumer.push_bound,
        delivered: consumer.delivered.1.0,
        confirmed: (consumer.config.ack_policy != AckPolicy::None).then_some(consumer.ack_floor.1.0),
        pending: consumer.pending,
    }
}

/// What it says of itself, where it says it.
fn named_in(config: &ConsumerConfig, key: &str) -> Option<String> {
    let names = [format!("_nats.src.{key}"), format!("_nats.mirror.{key}")];
    let value = config.metadata.iter().find(|(name, _)| names.contains(name)).map(|(_, value)| value);
    value.filter(|value| is_name(value)).cloned()
}

/// Metadata is what a peer wrote: what can't be the name of a stream or a domain is no label, and nobody's screen.
fn is_name(text: &str) -> bool {
    let is_allowed =
        |character: char| !character.is_control() && !character.is_whitespace() && !".*>/\\".contains(character);
    !text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use jetstream::config::ConsumerConfig;

    use super::{LONGEST_NAME, named_in};

    #[test]
    fn only_what_can_be_a_name_is_shown_of_who_draws() {
        let shown = |stream: &str| {
            let mut config = ConsumerConfig::named("C");
            config.metadata.insert("_nats.src.stream".to_owned(), stream.to_owned());
            named_in(&config, "stream")
        };
        let longest = "x".repeat(LONGEST_NAME);
        for name in ["FLEET", "Flotte-\u{e4}", &longest] {
            assert_eq!(shown(name).as_deref(), Some(name));
        }
        for other in ["", "a b", "a.b", "\u{1b}[2J", "a\nb", &format!("{longest}x")] {
            assert_eq!(shown(other), None, "{other:?}");
        }
    }
}
