//! Consumers that another server makes for a stream of its own that sources or mirrors one of ours.
//!
//! That server calls its consumer the same each time it asks. Ours gets a suffix, as stock's: two hubs may choose one name. Promises: a new
//! request of the same requester ends its earlier consumer, and begins where it says; where such a consumer stands is on disk before what it
//! sent leaves (see [`JetStream::list_dirty`]), so that it goes on after a restart of either side; one that is resumed first says how far it
//! has come, so that a requester who knows otherwise asks anew instead of waiting. Nobody sees it in lists, it takes no consumer's place; on a
//! stream whose messages leave by acknowledgement it is durable, and seen.

use std::borrow::Cow;

use crate::api_error;
use crate::command::{Answer, ConsumerAction, Deliveries};
use crate::config::{ConsumerConfig, DeliverPolicy, Retention};
use crate::consumer::ack_subject::AckPlace;
use crate::consumer::delivery::{heartbeat, send_status};
use crate::consumer::{Consumer, before};
use crate::identity::{ConsumerId, Sequence, StreamId, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::stream::Stream;
use crate::stream::requests::Answered;

/// A delivery that nobody has got: 0 would say nothing.
const BEYOND: u64 = 999_999_999_999;
/// Characters of names that we choose ourselves.
const NAME: usize = 8;

/// Its requester is gone for so long, perhaps behind a link that is down, before such a consumer is forgotten; stock waits 10 seconds.
pub(crate) const KEPT_NS: u64 = 24 * 3_600_000_000_000;

impl JetStream {
    /// Makes a consumer for a source or mirror. `identity`: the stream's, as the requester knows it.
    pub(crate) fn create_source(
        &mut self,
        turn: &mut Context<'_>,
        stream: &str,
        config: &ConsumerConfig,
        action: ConsumerAction,
        identity: Option<&str>,
    ) -> Answered {
        let own = self.stream_named(stream).map(|stream| self.stream_identity(stream.id, stream.created));
        if let (Some(own), Some(expected)) = (&own, identity)
            && **own != *expected
        {
            return Ok(Err(api_error::consumer_stream_identity_mismatch(own)));
        }
        let mut config = config.clone();
        // Where messages leave when they are acknowledged it becomes one durable consumer, which keeps its name.
        let is_kept = self.stream_named(stream).is_some_and(|stream| stream.config.retention != Retention::Limits);
        if config.direct && config.sourcing && !config.name.is_empty() && !is_kept {
            config.name = format!("{}-{}", config.name, self.short_name(ConsumerId(self.next_consumer))).into();
        }
        let mut answer = self.create_consumer(turn, stream, &config, action)?;
        if let Ok(Answer::Consumer(info)) = &mut answer {
            info.stream_identity = own;
            let start = start_of(&info.config);
            for earlier in self.earlier_of(stream, info.id, &info.config, start) {
                self.compare_start(earlier, info.id);
                // Who begins there has what lies before.
                if let Some(consumer) = self.consumers.get_mut(&earlier) {
                    consumer.finish_up_to(before(start.min(consumer.next)));
                }
                self.collect_finished(turn.store, earlier)?;
                self.remove_consumer(turn, earlier)?;
            }
        }
        Ok(answer)
    }

    /// Consumers of the same requester, which does not know them any more.
    fn earlier_of(&self, stream: &str, id: ConsumerId, config: &ConsumerConfig, start: Sequence) -> Vec<ConsumerId> {
        let requester = requester(config);
        let same = |other: &&ConsumerId| {
            let other = self.consumers.get(other).filter(|other| other.config.is_source());
            other.is_some_and(|other| match requester {
                Some(_) => self::requester(&other.config) == requester && other.config.metadata == config.metadata,
                None => other.may_have_been(config, start),
            })
        };
        let others = self.stream_named(stream).into_iter().flat_map(|stream| stream.consumers.values());
        let found: Vec<ConsumerId> = others.filter(|other| **other != id).filter(same).copied().collect();
        // Without a name two of them can't be told apart, and a wrong guess loses what the other has not got. They go by themselves.
        let is_kept = self.stream_named(stream).is_some_and(|stream| stream.config.retention == Retention::Interest);
        if requester.is_none() && is_kept && found.len() > 1 { Vec::new() } else { found }
    }

    /// A requester that asks for the same again may not be able to take it (its stream is full, say): a whole window each time would be wasted.
    fn compare_start(&mut self, earlier: ConsumerId, new: ConsumerId) {
        let Some(earlier) = self.consumers.get(&earlier).filter(|earlier| earlier.delivered > 0) else { return };
        let start = earlier.config.deliver_policy;
        if let Some(new) = self.consumers.get_mut(&new)
            && new.config.deliver_policy == start
            && let Some(pushing) = &mut new.delivering.pushing
        {
            pushing.begin_with_one();
        }
    }

    /// The one consumer that a requester calls so; `None` also when two do.
    pub(crate) fn source_called(&self, stream: &Stream, name: &str) -> Option<ConsumerId> {
        let is_called =
            |id: &&ConsumerId| self.consumers.get(id).is_some_and(|consumer| base_name(&consumer.config) == Some(name));
        let mut found = stream.hubs.iter().filter(is_called);
        found.next().copied().filter(|_| found.next().is_none())
    }

    /// Has it so many consumers that its limit counts: all but those of sources?
    pub(crate) fn has_consumers(&self, stream: &Stream, most: u64) -> bool {
        // With fewer consumers of all kinds there is nothing to count.
        if (stream.consumers.len() as u64) < most {
            return false;
        }
        let consumers = stream.consumers.values().filter_map(|id| self.consumers.get(id));
        consumers.filter(|consumer| !consumer.config.is_source()).count() as u64 >= most
    }

    /// What tells this instance of a stream from one that is made again under its name.
    pub(crate) fn stream_identity(&self, stream: StreamId, created: Timestamp) -> Box<str> {
        let mut input = stream.0.to_be_bytes().to_vec();
        input.extend_from_slice(&created.0.to_be_bytes());
        letters(self.key.hash(&input))
    }

    /// A name that nobody uses yet, different for each consumer and store.
    pub(crate) fn short_name(&self, id: ConsumerId) -> Box<str> {
        letters(self.key.hash(&id.0.to_be_bytes()))
    }
}

impl Consumer {
    /// A hub before 2.14 calls its consumers nothing. One that nobody listens to any more, of the same kind and filters, that was sent up to where the new
    /// one begins or beyond, and was not confirmed further, was its earlier one.
    fn may_have_been(&self, config: &ConsumerConfig, start: Sequence) -> bool {
        let kind = |config: &ConsumerConfig| {
            let subject = config.push.as_ref().and_then(|push| push.subject.rsplit_once('.'));
            subject.map(|(kind, _)| kind.to_owned())
        };
        let unconfirmed = self.held.first().map_or(self.next, |(sequence, _)| sequence);
        let delivering = &self.delivering;
        let is_left = !delivering.is_bound() && (delivering.was_bound || delivering.was_stored);
        let is_possible = start <= self.next && (self.retention == Retention::Limits || unconfirmed <= start);
        requester(&self.config).is_none()
            && is_left
            && is_possible
            && self.config.filters == config.filters
            && kind(&self.config) == kind(config)
    }

    /// A source or mirror that comes back is told at once how far it was sent: one that has got less, or more, asks anew.
    pub(crate) fn say_where_it_stands(&mut self, deliveries: &mut Deliveries) {
        let was_stored = std::mem::take(&mut self.delivering.was_stored);
        let Some(waiting) = self.delivering.waiting.front().filter(|_| self.config.is_source()) else { return };
        if self.delivered > 0 {
            send_status(deliveries, &waiting.inbox, &heartbeat(self.delivered, self.next, ""));
        } else if was_stored {
            // Whether it was never sent anything, or the store went back to before, isn't known: nothing follows until it has asked.
            send_status(deliveries, &waiting.inbox, &heartbeat(BEYOND, self.next, ""));
            self.delivering.waiting.clear();
        }
    }

    /// A delivery to a source or mirror never left us, and none behind it did: it stands in front of it again. Only in order they are of use
    /// there.
    pub(crate) fn take_back(&mut self, place: &AckPlace) -> bool {
        if place.consumer_sequence == 0 || place.consumer_sequence > self.delivered {
            return false;
        }
        self.delivered = place.consumer_sequence - 1;
        self.stand_before(place.sequence);
        self.pending.remove_from(place.sequence);
        self.held.remove_from(place.sequence);
        self.dirty = true;
        self.recount_soon();
        true
    }
}

/// Where a consumer begins, as far as it says so by a sequence.
fn start_of(config: &ConsumerConfig) -> Sequence {
    match config.deliver_policy {
        DeliverPolicy::FromSequence(sequence) => sequence,
        _ => Sequence(1),
    }
}

/// What the requester calls its consumer. Where the other side seems not to know `sourcing`, it adds a suffix of its own.
pub(crate) fn base_name(config: &ConsumerConfig) -> Option<&str> {
    let (base, suffix) = config.name.rsplit_once(if config.sourcing { '-' } else { '_' })?;
    let is_known = config.sourcing || base.starts_with("JS_SRC_") || base.starts_with("JS_MIRROR_");
    (config.direct && suffix.len() == NAME && is_known).then_some(base)
}

/// Who asks: the same name each time, whether its consumer is durable or not. `None`: it does not say.
fn requester(config: &ConsumerConfig) -> Option<&str> {
    base_name(config).or_else(|| (config.sourcing && config.durable).then_some(&*config.name))
}

/// Headers without a status line that a source or mirror would take for a server's word: it would never get beyond that message.
pub(crate) fn no_control(headers: &[u8]) -> Cow<'_, [u8]> {
    if !headers.starts_with(b"NATS/1.0 100 ") {
        return headers.into();
    }
    let end = headers.iter().position(|byte| *byte == b'\r').unwrap_or(headers.len());
    [b"NATS/1.0", &headers[end..]].concat().into()
}

/// A short name made of a number.
pub(crate) fn letters(mut number: u128) -> Box<str> {
    const CHARACTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut name = String::with_capacity(NAME);
    for _ in 0..NAME {
        name.push(char::from(CHARACTERS[(number % 62) as usize]));
        number /= 62;
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::{base_name, no_control};
    use crate::config::ConsumerConfig;

    #[test]
    fn a_requester_is_known_by_what_it_calls_its_consumer() {
        let base = |name: &str, direct: bool, sourcing: bool| {
            let config = ConsumerConfig { direct, sourcing, ..ConsumerConfig::named(name) };
            base_name(&config).map(str::to_owned)
        };
        assert_eq!(base("JS_SRC_a_b-12345678", true, true).as_deref(), Some("JS_SRC_a_b"));
        assert_eq!(base("JS_SRC_a_12345678", true, false).as_deref(), Some("JS_SRC_a"));
        assert_eq!(base("JS_MIRROR_a_12345678", true, false).as_deref(), Some("JS_MIRROR_a"));
        assert_eq!(base("12345678", true, false), None);
        assert_eq!(base("my_12345678", true, false), None);
        assert_eq!(base("JS_SRC_a-1234", true, true), None);
        assert_eq!(base("JS_SRC_a-12345678", false, true), None);
    }

    #[test]
    fn what_looks_like_a_control_message_does_not_any_more() {
        let plain: &[u8] = b"NATS/1.0\r\nA: b\r\n\r\n";
        assert_eq!(&*no_control(plain), plain);
        assert_eq!(&*no_control(b"NATS/1.0 100 Idle Heartbeat\r\nA: b\r\n\r\n"), plain);
        assert_eq!(&*no_control(b"NATS/1.0 100 "), b"NATS/1.0".as_slice());
    }
}
