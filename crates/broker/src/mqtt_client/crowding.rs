//! Publishers do not overrun subscribers that do keep up.
//!
//! A PUBACK leaves as soon as the message is safe, and a subscriber takes a window at a time: without more, a publisher in full flight fills
//! what waits for the subscriber, and messages are dropped though everybody works. So an MQTT publisher whose message of quality 1 finds more than
//! a quarter of a target's room taken is not read until the target has half of that left, or for [`PATIENCE_MICROS`]. A target whose room is all
//! taken holds up nobody: what comes for it is dropped and counted, or drops the oldest of its queue.

use std::collections::VecDeque;

use jetstream::command::QueueFor;
use jetstream::identity::SessionId;

use crate::broker::Broker;
use crate::effect::Effect;
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;

/// A publisher waits at most so long, for each message.
const PATIENCE_MICROS: u64 = 20_000;

/// Who waits for whom.
#[derive(Debug, Default)]
pub(super) struct Crowding {
    /// A target of the message being routed that has much to take.
    target: Option<ConnectionId>,
    /// Publishers, by the time their patience ends.
    waiters: VecDeque<Waiter>,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    deadline: u64,
    publisher: ConnectionId,
    target: ConnectionId,
}

impl Crowding {
    /// A message is about to be routed.
    pub(super) fn begin(&mut self) {
        self.target = None;
    }

    /// One more waits for `target`, `waiting` with it, of at most `most`.
    pub(super) fn note(&mut self, target: ConnectionId, waiting: usize, most: usize) {
        if waiting > most / 4 && waiting < most {
            self.target = Some(target);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.waiters.front().map(|waiter| waiter.deadline)
    }
}

impl Broker {
    /// Must the publisher of the message just routed wait?
    pub(super) fn must_wait_for_subscriber(&mut self, now: Now, publisher: ConnectionId) -> bool {
        let crowding = &mut self.mqtt.crowding;
        let Some(target) = crowding.target.take().filter(|target| *target != publisher) else { return false };
        crowding.waiters.push_back(Waiter { deadline: now.micros + PATIENCE_MICROS, publisher, target });
        true
    }

    /// Something left for `target`, for which `waiting` of at most `most` still wait.
    pub(super) fn relieve(&mut self, target: ConnectionId, waiting: usize, most: usize, out: &mut Outbox) {
        if waiting > most / 8 || self.mqtt.crowding.waiters.is_empty() {
            return;
        }
        self.mqtt.crowding.waiters.retain(|waiter| {
            if waiter.target == target {
                out.effect(Effect::WakeReader { id: waiter.publisher });
            }
            waiter.target != target
        });
    }

    pub(crate) fn tick_crowding(&mut self, now: Now, out: &mut Outbox) {
        let waiters = &mut self.mqtt.crowding.waiters;
        while let Some(waiter) = waiters.pop_front_if(|waiter| waiter.deadline <= now.micros) {
            out.effect(Effect::WakeReader { id: waiter.publisher });
        }
    }

    /// Messages go to the queues of stored sessions.
    pub(crate) fn note_queued(&mut self, queues: &[QueueFor]) {
        let most = self.settings.mqtt.max_queued;
        for queue in queues {
            if let Some((connection, waiting)) = self.mqtt.note_queued(queue.session) {
                self.mqtt.crowding.note(connection, waiting, most);
            }
        }
    }

    /// One left the queue of a stored session.
    pub(super) fn note_settled(&mut self, session: SessionId, out: &mut Outbox) {
        self.note_left(session, 1, out);
    }

    /// The store refused what was to go to these queues, or had it already.
    pub(crate) fn not_queued(&mut self, queues: &[QueueFor]) {
        for queue in queues {
            self.mqtt.note_left(queue.session, 1);
        }
    }

    /// A full queue dropped its oldest.
    pub(crate) fn queue_dropped(&mut self, session: SessionId, messages: u64, out: &mut Outbox) {
        self.note_left(session, messages, out);
    }

    fn note_left(&mut self, session: SessionId, messages: u64, out: &mut Outbox) {
        if let Some((connection, waiting)) = self.mqtt.note_left(session, messages) {
            self.relieve(connection, waiting, self.settings.mqtt.max_queued, out);
        }
    }
}
