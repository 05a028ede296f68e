//! Hubs that source or mirror our streams: what becomes of a request that was lost while the link was down.
//!
//! A hub that has heard nothing for a while asks for a new consumer. When it does so while the link is down, its request goes nowhere, and it
//! waits 30 seconds for an answer before it tries again, and longer each time. All that is left of the request is interest in its reply
//! subject, `$JSC.R.<x>`, which the hub announces when the link is back. The error "API level too high" on that subject makes it repeat the
//! request at once, on a lower level.
//!
//! A message larger than the hub takes never passes: the hub would cut the link for it, again and again (a stock edge's link does flap so). It stays here,
//! with everything behind it, and the owner is told; it is tried again every few seconds, and goes once the hub takes more, or when it is gone.
//!
//! The reply subject does not say whom was asked, and all gateways of an account hear of it. So it is answered only while a consumer of ours
//! has lost its hub, no more often than there are such, only when it came with what a hub announces as the link comes up, and when no request with
//! it follows. The price of answering another gateway's is one consumer without the newest features until it is next made.

use std::collections::{BTreeMap, BTreeSet};

use ::jetstream_api::{Kind, encode_error};
use jetstream::api_error;
use jetstream::identity::ConsumerId;

use crate::account::GLOBAL;
use crate::broker::Broker;
use crate::effect::Notice;
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;
use crate::routing::{Message, Origin};

/// What reply subjects of such requests begin with.
pub(crate) const REPLY: &[u8] = b"$JSC.R.";
/// What a hub announces so long after a link was opened is not of before.
const BURST_MICROS: u64 = 3_000_000;
/// The request itself comes within this, if it was not lost.
const PATIENCE_MICROS: u64 = 250_000;
/// Reply subjects that are waited with.
const MOST_WAITING: usize = 256;

/// Consumers of hubs, and requests that may have been lost.
#[derive(Debug, Default)]
pub(crate) struct Pullers {
    consumers: BTreeSet<ConsumerId>,
    /// Those that somebody listens to.
    heard: BTreeSet<ConsumerId>,
    /// Reply subjects without a request, by link, and when they are to be answered.
    waiting: BTreeMap<(ConnectionId, Box<[u8]>), u64>,
    /// Answers since the link came up, by link.
    answered: BTreeMap<ConnectionId, usize>,
    /// The message that was just not sent over a link, which its hub would have cut for it.
    too_large: Option<TooLarge>,
    /// Consumers with such a message, and the number it was sent under: what comes behind it would be a gap at the hub.
    withheld: BTreeMap<ConsumerId, u64>,
}

/// A message that a hub does not take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooLarge {
    pub(crate) link: ConnectionId,
    /// Bytes of headers and body, and how many the hub takes.
    pub(crate) size: usize,
    pub(crate) largest: usize,
}

impl Pullers {
    /// A consumer for a source or mirror exists.
    pub(crate) fn up(&mut self, consumer: ConsumerId) {
        self.consumers.insert(consumer);
    }

    /// A consumer is gone.
    pub(crate) fn down(&mut self, consumer: ConsumerId) {
        self.consumers.remove(&consumer);
        self.heard.remove(&consumer);
        self.withheld.remove(&consumer);
    }

    /// A consumer's message is too large for a hub.
    pub(crate) fn too_large(&mut self, found: TooLarge) {
        self.too_large = Some(found);
    }

    /// Was the message of this consumer that was just delivered too large for a hub that sources? Then none that was numbered behind it goes.
    pub(crate) fn withhold(&mut self, consumer: ConsumerId, ack_subject: &[u8]) -> Option<TooLarge> {
        let found = self.too_large.take()?;
        let number = consumer_sequence(ack_subject).filter(|_| self.consumers.contains(&consumer))?;
        self.withheld.insert(consumer, number);
        Some(found)
    }

    /// A message that did not go lies before this one. What is numbered as that one was, or lower, is a new attempt.
    pub(crate) fn is_withheld(&mut self, consumer: ConsumerId, ack_subject: &[u8]) -> bool {
        let Some(number) = self.withheld.get(&consumer) else { return false };
        let is_behind = consumer_sequence(ack_subject).is_some_and(|behind| behind > *number);
        if !is_behind {
            self.withheld.remove(&consumer);
        }
        is_behind
    }

    /// Somebody listens to a consumer, or nobody does any more.
    pub(crate) fn heard(&mut self, consumer: ConsumerId, is_there: bool) {
        if is_there && self.consumers.contains(&consumer) {
            self.heard.insert(consumer);
        } else {
            self.heard.remove(&consumer);
        }
    }

    /// A hub wants a subject, on a link that was opened then.
    pub(crate) fn wanted(&mut self, now: u64, link: ConnectionId, opened: u64, subject: &[u8]) {
        let is_early = now.saturating_sub(opened) <= BURST_MICROS;
        if is_early && subject.starts_with(REPLY) && self.waiting.len() < MOST_WAITING {
            self.waiting.insert((link, subject.into()), now + PATIENCE_MICROS);
        }
    }

    /// It does not any more.
    pub(crate) fn unwanted(&mut self, link: ConnectionId, subject: &[u8]) {
        if !self.waiting.is_empty() {
            self.waiting.remove(&(link, subject.into()));
        }
    }

    /// A request came: it was not lost.
    pub(crate) fn asked(&mut self, reply: &[u8]) {
        if reply.starts_with(REPLY) {
            self.waiting.retain(|(_, waiting), _| **waiting != *reply);
        }
    }

    /// A link is gone.
    pub(crate) fn link_closed(&mut self, link: ConnectionId) {
        self.waiting.retain(|(other, _), _| *other != link);
        self.answered.remove(&link);
    }

    /// When [`Pullers::lost`] may have something.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.waiting.values().min().copied()
    }

    /// A reply subject whose request was lost, once.
    pub(crate) fn lost(&mut self, now: u64) -> Option<Box<[u8]>> {
        loop {
            let due = self.waiting.iter().find(|(_, deadline)| **deadline <= now)?.0.clone();
            self.waiting.remove(&due);
            let (link, reply) = due;
            let missing = self.consumers.len() - self.heard.len();
            let answered = self.answered.entry(link).or_default();
            if *answered < missing {
                *answered += 1;
                return Some(reply);
            }
        }
    }
}

impl Broker {
    /// Was the message that a consumer just sent with this ack subject too large for its hub? The owner is told.
    pub(crate) fn withhold(&mut self, consumer: ConsumerId, ack_subject: &[u8]) -> bool {
        let found = self.pullers.withhold(consumer, ack_subject);
        let Some(TooLarge { link: id, size, largest }) = found else { return false };
        self.notices.push_back(Notice::TooLarge { id, ack_subject: ack_subject.into(), size, largest });
        true
    }

    /// Answers the requests of hubs that were lost.
    pub(crate) fn tick_pullers(&mut self, now: Now, out: &mut Outbox) {
        let may = self.settings.leafnodes.as_ref().is_some_and(|settings| settings.answer_lost_requests);
        while let Some(reply) = self.pullers.lost(now.micros) {
            if !may {
                continue;
            }
            let mut json = Vec::with_capacity(160);
            encode_error(Kind::ConsumerCreate, &api_error::REQUIRED_API_LEVEL, &mut json);
            self.publish(now, Origin::server(GLOBAL), &Message::new(&reply, &json), out);
        }
    }
}

/// `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.…`, as we send it.
fn consumer_sequence(ack_subject: &[u8]) -> Option<u64> {
    std::str::from_utf8(ack_subject.split(|byte| *byte == b'.').nth(6)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{BURST_MICROS, ConnectionId, ConsumerId, PATIENCE_MICROS, Pullers};

    const REPLY: &[u8] = b"$JSC.R.abcdefgh";

    fn link(slot: u32) -> ConnectionId {
        ConnectionId::new(0, slot, 1)
    }

    /// Two consumers without a hub; the link was opened at 0.
    fn lonely() -> Pullers {
        let mut pullers = Pullers::default();
        pullers.up(ConsumerId(1));
        pullers.up(ConsumerId(2));
        pullers
    }

    #[test]
    fn a_lost_request_is_answered_once_and_after_a_while() {
        let mut pullers = lonely();
        pullers.wanted(5, link(1), 0, REPLY);
        assert_eq!(pullers.poll_timeout(), Some(5 + PATIENCE_MICROS));
        assert_eq!(pullers.lost(4 + PATIENCE_MICROS), None);
        assert_eq!(pullers.lost(5 + PATIENCE_MICROS).as_deref(), Some(REPLY));
        assert_eq!((pullers.lost(u64::MAX), pullers.poll_timeout()), (None, None));
    }

    #[test]
    fn requests_that_come_or_end_or_are_new_are_not_lost() {
        let mut pullers = lonely();
        pullers.wanted(5, link(1), 0, REPLY);
        pullers.asked(REPLY);
        pullers.wanted(5, link(1), 0, b"$JSC.R.x");
        pullers.unwanted(link(1), b"$JSC.R.x");
        pullers.wanted(BURST_MICROS + 1, link(1), 0, b"$JSC.R.y");
        pullers.wanted(5, link(1), 0, b"$JS.S.z");
        assert_eq!(pullers.poll_timeout(), None);
        pullers.wanted(5, link(1), 0, REPLY);
        pullers.link_closed(link(1));
        assert_eq!(pullers.lost(u64::MAX), None);
    }

    #[test]
    fn no_more_are_answered_than_consumers_have_lost_their_hub() {
        let mut pullers = lonely();
        pullers.heard(ConsumerId(2), true);
        for reply in [b"$JSC.R.a", b"$JSC.R.b"] {
            pullers.wanted(5, link(1), 0, reply);
        }
        assert!(pullers.lost(u64::MAX).is_some());
        assert_eq!(pullers.lost(u64::MAX), None);
        pullers.heard(ConsumerId(1), true);
        pullers.wanted(5, link(2), 0, REPLY);
        assert_eq!(pullers.lost(u64::MAX), None, "every consumer has its hub");
        let mut nobody = Pullers::default();
        nobody.heard(ConsumerId(9), true);
        nobody.wanted(5, link(1), 0, REPLY);
        assert_eq!(nobody.lost(u64::MAX), None, "there never was a consumer");
    }
}
