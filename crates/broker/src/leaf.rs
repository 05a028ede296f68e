//! Leaf links that the gateway dialled: interest and messages in both directions.

use subject::Filter;

use crate::account::Target;
use crate::broker::{Broker, NewConnection, Received};
use crate::connection::{Connection, Kind};
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;
use crate::routing::{Message, Tail};
use crate::subscription::SubscriptionId;

/// A leaf link's state.
#[derive(Debug, Default)]
pub(crate) struct LeafLink {}

impl Broker {
    pub(crate) fn open_leaf(&mut self, now: Now, id: ConnectionId, number: u64, new: &NewConnection) {
        self.connections.insert(Connection::new(id, number, now, new, Kind::Leaf(Box::default())));
    }

    pub(crate) fn received_leaf(&mut self, _now: Now, _id: ConnectionId, bytes: &[u8], _out: &mut Outbox) -> Received {
        Received { used: bytes.len(), ..Received::default() }
    }

    pub(crate) fn closed_leaf(&mut self, _now: Now, _link: LeafLink, _out: &mut Outbox) {}

    pub(crate) fn tick_leaf(&mut self, _now: Now, _id: ConnectionId, _out: &mut Outbox) {}

    /// A local subscription (see [`crate::subscription::Subscriptions`]) came or is about to go: LS+ or LS- towards every link, batched.
    pub(crate) fn leaf_interest_changed(&mut self, _subscription: SubscriptionId, _added: bool) {}

    /// A row that is no subscription came or went: of those, streams and the filters of stored MQTT sessions (which sleep perhaps) are
    /// interest that the hub is to know.
    pub(crate) fn leaf_row_changed(&mut self, _filter: &Filter, _target: &Target, _added: bool) {}

    /// Sends the message to every link in `leaf_picks` (pairs of slot and subscription; those with a queue name the group that is to get it
    /// there), once per link, and empties the list.
    pub(crate) fn deliver_to_picked_leaves(&mut self, _message: &Message<'_>, _tail: &mut Tail<'_>, _out: &mut Outbox) {
        self.leaf_picks.clear();
    }
}
