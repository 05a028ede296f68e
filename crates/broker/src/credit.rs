//! Credit: what consumers and sessions may send comes back to them once the connections that it went to have drained, so that nothing piles up for one
//! that is slow. The store knows how much each may send, the broker what is on its way.

use jetstream::command::{Command, Recipient};
use smallvec::SmallVec;

use crate::broker::Broker;
use crate::identity::ConnectionId;
use crate::outbox::Outbox;

/// A consumer's credit returns when no more than this is pending at the connection it went to.
const CREDIT_PENDING: usize = 64 * 1024;

/// Credit that returns when a connection has drained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owed {
    to: Recipient,
    bytes: u32,
    connection: Option<ConnectionId>,
}

impl Owed {
    fn waits(&self, out: &Outbox) -> bool {
        self.connection.is_some_and(|id| out.pending_bytes(id) > CREDIT_PENDING)
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
        let mut shares = Shares::default();
        store.credits.retain_mut(|owed| {
            if owed.waits(out) {
                return true;
            }
            let link = owed.connection.filter(|id| links.contains(id));
            let (taken, bytes) = link.map_or((owed.bytes, owed.bytes), |id| shares.take(id, out, owed.bytes));
            if bytes > 0 {
                store.batch.commands.push(Command::Credit { to: owed.to, bytes });
            }
            owed.bytes -= taken;
            owed.bytes > 0
        });
    }
}

/// What goes back to the consumers behind links in one go. Many may share a slow one: what waits there must stay short, or heartbeats and answers
/// stand behind all that each of them may send.
#[derive(Default)]
struct Shares(SmallVec<[(ConnectionId, u32); 2]>);

impl Shares {
    /// How much of what is owed is settled, and with how many bytes: twice as many where the link has sent all it had, so that a fast one is soon used in full.
    fn take(&mut self, id: ConnectionId, out: &Outbox, owed: u32) -> (u32, u32) {
        if out.pending_bytes(id) == 0 {
            return (owed, owed.saturating_mul(2));
        }
        let place = self.0.iter().position(|(link, _)| *link == id).unwrap_or_else(|| {
            self.0.push((id, 0));
            self.0.len() - 1
        });
        let given = &mut self.0[place].1;
        let taken = owed.min((CREDIT_PENDING as u32).saturating_sub(*given));
        *given += taken;
        (taken, taken)
    }
}
