//! Credit: what consumers and sessions may send comes back to them once the connections that it went to have drained, so that nothing piles up for one
//! that is slow. The store knows how much each may send, the broker what is on its way.

use jetstream::command::{Command, Recipient};
use smallvec::SmallVec;

use crate::broker::Broker;
use crate::identity::ConnectionId;
use crate::outbox::Outbox;

/// A consumer's credit returns when no more than this is pending at the connection it went to.
const CREDIT_PENDING: usize = 64 * 1024;
/// What is pending at a link, with what is given back to those behind it before the store's next turn, bytes.
const LINK_SHARE: u32 = 128 * 1024;

/// Credit that returns when a connection has drained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owed {
    to: Recipient,
    bytes: u32,
    connection: Option<ConnectionId>,
}

impl Owed {
    /// Is its connection too far behind?
    pub(crate) fn waits(&self, out: &Outbox, promises: &Promises) -> bool {
        let Some(id) = self.connection else { return false };
        let pending = out.pending_bytes(id);
        pending > CREDIT_PENDING || promises.room(id, pending) == 0
    }
}

/// Links, and what was given back to the consumers behind each since the store's last turn, bytes. Many may share a slow one: what waits there must stay
/// short, or heartbeats and answers stand behind all that each of them may send.
#[derive(Debug, Default)]
pub(crate) struct Promises(SmallVec<[(ConnectionId, u32); 2]>);

impl Promises {
    /// How much more may be given to those behind a link that has so much pending.
    fn room(&self, id: ConnectionId, pending: usize) -> u32 {
        let Some((_, given)) = self.0.iter().find(|(link, _)| *link == id) else { return u32::MAX };
        LINK_SHARE.saturating_sub(*given).saturating_sub(u32::try_from(pending).unwrap_or(u32::MAX))
    }

    /// How much of what is owed is settled, and with how many bytes: twice as many where the link has sent all it had, so that a fast one is soon used in full.
    fn give(&mut self, id: ConnectionId, pending: usize, owed: u32) -> (u32, u32) {
        let room = self.room(id, pending);
        let Some((_, given)) = self.0.iter_mut().find(|(link, _)| *link == id) else { return (owed, owed) };
        let settled = owed.min(room);
        *given += settled;
        (settled, if pending == 0 { settled.saturating_mul(2) } else { settled })
    }

    /// A turn of the store is over: what it sent is pending now.
    pub(crate) fn turned(&mut self) {
        self.0.iter_mut().for_each(|(_, given)| *given = 0);
    }

    /// The links that there are.
    fn know(&mut self, links: &[ConnectionId]) {
        self.0.retain(|(id, _)| links.contains(id));
        for id in links {
            if !self.0.iter().any(|(known, _)| known == id) {
                self.0.push((*id, 0));
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
            None => self.store.credits.push(Owed { to, bytes, connection }),
        }
    }

    /// Gives back what was sent and has left.
    pub(crate) fn return_credits(&mut self, out: &Outbox) {
        let (store, links) = (&mut self.store, &self.links);
        store.promises.know(links);
        store.credits.retain_mut(|owed| {
            if owed.waits(out, &store.promises) {
                return true;
            }
            let (settled, bytes) = match owed.connection {
                Some(id) => store.promises.give(id, out.pending_bytes(id), owed.bytes),
                None => (owed.bytes, owed.bytes),
            };
            store.batch.commands.push(Command::Credit { to: owed.to, bytes });
            owed.bytes -= settled;
            owed.bytes > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{LINK_SHARE, Promises};
    use crate::identity::ConnectionId;

    #[test]
    fn a_slow_link_is_given_little_at_a_time_and_a_fast_one_more_and_more() {
        let (link, client) = (ConnectionId::new(0, 1, 1), ConnectionId::new(0, 2, 1));
        let mut promises = Promises::default();
        promises.know(&[link]);
        assert_eq!(
            promises.give(client, 10, 10 * LINK_SHARE),
            (10 * LINK_SHARE, 10 * LINK_SHARE),
            "it comes back as it is"
        );
        assert_eq!(promises.give(link, 0, 1_000), (1_000, 2_000), "the link has sent all");
        let half = LINK_SHARE / 2;
        assert_eq!(promises.give(link, half as usize, 10 * half), (half - 1_000, half - 1_000));
        assert_eq!(promises.room(link, half as usize), 0, "nothing more in this turn");
        promises.turned();
        assert_eq!(promises.give(link, 0, 10 * half), (2 * half, 4 * half));
        promises.know(&[]);
        assert_eq!(promises.give(link, 5, 1_000), (1_000, 1_000));
    }
}
