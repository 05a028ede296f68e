//! Credit: what consumers and sessions may send comes back to them once the connections that it went to have drained, so that nothing piles up for one
//! that is slow. The store knows how much each may send, the broker what is on its way.

use jetstream::command::{Command, Recipient};
use smallvec::SmallVec;

use crate::broker::Broker;
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;

/// A consumer's credit returns when no more than this is pending at the connection it went to.
const CREDIT_PENDING: usize = 64 * 1024;
/// What is pending at a link, with what is given back to those behind it before the store's next turn, bytes: of a link that nothing is known of, and of one
/// that takes it all at once.
const LINK_SHARE: u32 = 128 * 1024;
const LARGEST_SHARE: u32 = 8 * LINK_SHARE;
/// What has left within this was sent at once: with twice as much on the way, what is sent behind it waits no longer than that.
const QUICK_MICROS: u64 = 20_000;
/// What took longer was too much.
const SLOW_MICROS: u64 = 500_000;

/// Credit that returns when a connection has drained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owed {
    to: Recipient,
    bytes: u32,
    connection: Option<ConnectionId>,
    /// Since when, microseconds.
    since: u64,
}

impl Owed {
    /// Is its connection too far behind, or is its link promised to others?
    pub(crate) fn waits(&self, out: &Outbox, promises: &Promises) -> bool {
        let is_promised = self.connection.is_some_and(|id| promises.room(id, out.pending_bytes(id)) == 0);
        is_promised || self.is_behind(out)
    }

    fn is_behind(&self, out: &Outbox) -> bool {
        self.connection.is_some_and(|id| out.pending_bytes(id) > CREDIT_PENDING)
    }

    /// Did what is given back now leave at once, or slowly?
    fn pace(&self, now: u64, pending: usize) -> Option<bool> {
        match now.saturating_sub(self.since) {
            0..=QUICK_MICROS if pending == 0 => Some(true),
            0..=SLOW_MICROS => None,
            _ => Some(false),
        }
    }
}

/// Links, and what was given back to the consumers behind each since the store's last turn. Many may share a slow one: what waits there must stay
/// short, or heartbeats and answers stand behind all that each of them may send.
#[derive(Debug, Default)]
pub(crate) struct Promises(SmallVec<[Promise; 2]>);

#[derive(Debug)]
struct Promise {
    link: ConnectionId,
    /// Bytes, and how many they may be.
    given: u32,
    share: u32,
    /// What was given back had left at once.
    is_quick: bool,
}

impl Promises {
    /// How much more may be given to those behind a link that has so much pending.
    fn room(&self, id: ConnectionId, pending: usize) -> u32 {
        let Some(promise) = self.0.iter().find(|promise| promise.link == id) else { return u32::MAX };
        promise.share.saturating_sub(promise.given).saturating_sub(u32::try_from(pending).unwrap_or(u32::MAX))
    }

    /// How much of what is owed is given back; `None`: it is no link.
    fn give(&mut self, id: ConnectionId, pending: usize, owed: u32, pace: Option<bool>) -> Option<u32> {
        let settled = owed.min(self.room(id, pending));
        let promise = self.0.iter_mut().find(|promise| promise.link == id)?;
        promise.given += settled;
        match pace {
            Some(true) => promise.is_quick = true,
            Some(false) => (promise.share, promise.is_quick) = (LINK_SHARE, false),
            None => {}
        }
        Some(settled)
    }

    /// A turn of the store is over: what it sent is pending now.
    pub(crate) fn turned(&mut self) {
        for promise in &mut self.0 {
            if std::mem::take(&mut promise.is_quick) && promise.given >= promise.share / 2 {
                promise.share = (promise.share * 2).min(LARGEST_SHARE);
            }
            promise.given = 0;
        }
    }

    /// The links that there are.
    fn know(&mut self, links: &[ConnectionId]) {
        self.0.retain(|promise| links.contains(&promise.link));
        for link in links {
            if !self.0.iter().any(|promise| promise.link == *link) {
                self.0.push(Promise { link: *link, given: 0, share: LINK_SHARE, is_quick: false });
            }
        }
    }
}

impl Broker {
    /// Notes bytes that are credited back once `connection` has drained.
    pub(crate) fn owe_credit(&mut self, to: Recipient, bytes: u32, connection: Option<ConnectionId>) {
        let same = |owed: &&mut Owed| owed.to == to && owed.connection == connection;
        match self.store.credits.iter_mut().rev().take(8).find(same) {
            Some(owed) => owed.bytes = owed.bytes.saturating_add(bytes),
            None => self.store.credits.push(Owed { to, bytes, connection, since: self.origins.clock() }),
        }
    }

    /// Gives back what was sent and has left.
    pub(crate) fn return_credits(&mut self, now: Now, out: &Outbox) {
        let (store, links) = (&mut self.store, &self.links);
        store.promises.know(links);
        store.credits.retain_mut(|owed| {
            if owed.waits(out, &store.promises) {
                if !owed.is_behind(out) {
                    // It has left; what it waits for says nothing of the link.
                    owed.since = now.micros;
                }
                return true;
            }
            let mut settled = owed.bytes;
            if let Some(id) = owed.connection {
                let pending = out.pending_bytes(id);
                let pace = owed.pace(now.micros, pending);
                if let Some(part) = store.promises.give(id, pending, owed.bytes, pace) {
                    settled = part;
                    if let (Some(is_quick), Recipient::Consumer(consumer)) = (pace, owed.to) {
                        store.batch.commands.push(Command::Pace { consumer, is_quick });
                    }
                }
            }
            store.batch.commands.push(Command::Credit { to: owed.to, bytes: settled });
            owed.bytes -= settled;
            owed.since = now.micros;
            owed.bytes > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use jetstream::command::Recipient;
    use jetstream::identity::ConsumerId;

    use super::{LINK_SHARE, Owed, Promises, QUICK_MICROS, SLOW_MICROS};
    use crate::identity::ConnectionId;

    fn link(slot: u32) -> ConnectionId {
        ConnectionId::new(0, slot, 1)
    }

    #[test]
    fn a_slow_link_is_given_little_at_a_time_and_a_fast_one_more_and_more() {
        let (half, quick, slow) = (LINK_SHARE / 2, Some(true), Some(false));
        let mut promises = Promises::default();
        promises.know(&[link(1)]);
        assert_eq!(promises.give(link(2), 10, 10 * LINK_SHARE, None), None, "it is no link");
        assert_eq!(promises.give(link(1), half as usize, 10 * half, None), Some(half));
        assert_eq!(promises.room(link(1), half as usize), 0, "nothing more in this turn");
        promises.turned();
        assert_eq!(promises.give(link(1), 0, 1_000, quick), Some(1_000));
        promises.turned();
        assert_eq!(promises.room(link(1), 0), LINK_SHARE, "that was too little to tell");
        for share in [1, 2, 4, 8, 8] {
            assert_eq!(promises.give(link(1), 0, 100 * LINK_SHARE, quick), Some(share * LINK_SHARE));
            promises.turned();
        }
        assert_eq!(promises.give(link(1), 0, 1_000, slow), Some(1_000));
        promises.turned();
        assert_eq!(promises.room(link(1), 0), LINK_SHARE, "as at first");
        promises.know(&[]);
        assert_eq!(promises.give(link(1), 5, 1_000, None), None);
    }

    #[test]
    fn how_long_it_took_to_leave_tells_the_pace() {
        let to = Recipient::Consumer(ConsumerId(1));
        let owed = Owed { to, bytes: 1, connection: Some(link(1)), since: 1_000 };
        assert_eq!(owed.pace(1_000 + QUICK_MICROS, 0), Some(true));
        assert_eq!(owed.pace(1_000 + QUICK_MICROS, 1), None, "some of it has not left");
        assert_eq!(owed.pace(1_001 + QUICK_MICROS, 0), None);
        assert_eq!(owed.pace(1_001 + SLOW_MICROS, 0), Some(false));
    }
}
