//! Leaf links that the gateway dialled: interest and messages in both directions.
//!
//! The handshake (dial, TLS, INFO, CONNECT) is the dialler's, with `uplink`; a link comes here when it is up, with [`LinkFacts`]. From then on:
//!
//! ```text
//!   local rows (clients, streams, MQTT sessions, consumers, domain) ── announce ──► LS+ / LS-  (what the hub may send us)
//!   LS+ / LS- of the hub ──► subscriptions of kind Leaf                                        (what we send the hub)
//!   publish ──► picks ──► once per link: LMSG / HMSG            LMSG / HMSG ──► publish, never back to a link
//! ```
//!
//! Promises: a link is never paused by the store, and never sent what its hub forbids, denies or cannot take (`leaf/deny.rs` says why).
//! `$JS.API.>`, `$KV.>`, `$OBJ.>` cross in neither direction; `$JS.<own domain>.API.>` is only received. What a forward carries does not
//! cross live as well. Not here: liveness and reconnecting (`uplink`), forwarding (`forward`), compression (never negotiated).

mod deny;
mod interest;
mod receive;
#[cfg(test)]
mod scripts;
mod send;

use std::collections::BTreeMap;

pub use deny::LinkPermissions;
pub(crate) use interest::LocalInterest;

use crate::broker::{Broker, NewConnection};
use crate::connection::{Connection, Kind};
use crate::effect::Notice;
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;
use crate::subscription::SubscriptionId;

/// What a hub may want at most: subjects and queue groups. What comes beyond is not served, and said.
pub(crate) const MAX_HUB_INTEREST: usize = 100_000;

/// A loop over two of our links is heard on both. When one is closed for it, the other gets so long to forget our token.
pub(crate) const LOOP_SETTLES_MICROS: u64 = 5_000_000;

/// What the handshake told of the hub.
#[derive(Clone, Debug, Default)]
pub struct LinkFacts {
    /// Its `server_name`.
    pub name: Box<str>,
    /// Its JetStream domain; empty: none.
    pub domain: Box<str>,
    /// It understands headers.
    pub headers: bool,
    /// Most bytes of headers + payload that it takes; more would make it cut the link.
    pub max_payload: usize,
    /// What it lets us receive and send.
    pub permissions: LinkPermissions,
}

/// Counters of a link, for `/leafz`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Subjects and queue groups that the hub wants.
    pub hub_interest: usize,
    /// Messages that were not sent because the hub would have cut the link for their size.
    pub too_large: u64,
    /// Messages in either direction that the deny rules and permissions stopped.
    pub denied: u64,
    /// Interest of the hub beyond what a link keeps.
    pub interest_refused: u64,
    /// Round trip of the last PING, microseconds; 0: not known yet.
    pub round_trip_micros: u32,
}

/// Subject and queue group (empty: none), as on the wire.
pub(crate) type WireInterest = (Box<[u8]>, Box<[u8]>);

/// A link's state. `wanted` is keyed as on the wire: subject, queue group (empty: none).
#[derive(Debug, Default)]
pub(crate) struct LeafLink {
    pub(crate) facts: LinkFacts,
    pub(crate) wanted: BTreeMap<WireInterest, SubscriptionId>,
    /// Loop tokens heard on this link (`$LDS.…`), passed on to the others.
    pub(crate) tokens: Vec<Box<[u8]>>,
    pub(crate) counters: LinkCounters,
    /// Since when our own token is heard on this link, while another one that closed for the same loop may be its cause; 0: it isn't.
    pub(crate) looped: u64,
    /// When the PING that waits for its answer was sent, microseconds; 0: none does.
    pub(crate) pinged: u64,
    /// When it was opened, microseconds.
    pub(crate) opened: u64,
    /// Since when the message that is now arriving does, microseconds; 0: none is.
    pub(crate) arriving: u64,
    /// When bytes came last of a message that is long on its way, microseconds; 0: never.
    pub(crate) slow: u64,
    /// The handshake is done and our interest announced.
    pub(crate) up: bool,
}

impl LeafLink {
    pub(crate) fn shown(&self) -> LinkCounters {
        LinkCounters { hub_interest: self.wanted.len(), ..self.counters }
    }
}

impl Broker {
    pub(crate) fn open_leaf(&mut self, now: Now, id: ConnectionId, number: u64, new: &NewConnection) {
        let link = LeafLink { opened: now.micros, ..LeafLink::default() };
        self.connections.insert(Connection::new(id, number, now, new, Kind::Leaf(Box::new(link))));
    }

    /// The handshake of a link is done: announces our interest. To be called once, right after the connection was attached.
    pub fn leaf_established(&mut self, id: ConnectionId, facts: LinkFacts, out: &mut Outbox) {
        let Some(link) = self.link_mut(id) else { return };
        link.facts = facts;
        link.up = true;
        self.links.push(id);
        self.announce_all(id, out);
        self.notices.push_back(Notice::HubInterest { id });
        self.origins.reachable();
    }

    pub(crate) fn closed_leaf(
        &mut self,
        id: ConnectionId,
        link: LeafLink,
        reason: crate::effect::CloseReason,
        out: &mut Outbox,
    ) {
        self.links.retain(|other| *other != id);
        self.pullers.link_closed(id);
        self.origins.link_closed(id);
        for subscription in link.wanted.into_values() {
            self.unsubscribe(subscription);
        }
        for token in link.tokens {
            self.pass_on_token(id, &token, false, out);
        }
        self.notices.push_back(Notice::LeafClosed { id, reason });
    }

    /// What the hub is and allows may change while a link is up (an INFO of the hub): withdraws what is no longer allowed and announces what is.
    pub fn leaf_refreshed(&mut self, id: ConnectionId, facts: LinkFacts, out: &mut Outbox) {
        let before = self.announced(id);
        let Some(link) = self.link_mut(id).filter(|link| link.up) else { return };
        link.facts = facts;
        self.announce_difference(id, &before, out);
    }

    /// A loop that is still there although another link was closed for it ends this one too. To be called every few seconds.
    pub fn leaf_check_loop(&mut self, now: Now, id: ConnectionId, out: &mut Outbox) {
        if self.link(id).is_some_and(|link| link.looped != 0 && now.micros >= link.looped + LOOP_SETTLES_MICROS) {
            self.loop_found(now, id, out);
        }
    }

    /// Sends PING. Its answer becomes a [`Notice::LeafPong`].
    pub fn leaf_ping(&mut self, now: Now, id: ConnectionId, out: &mut Outbox) {
        let Some(link) = self.link_mut(id) else { return };
        // A PONG answers the oldest PING.
        if link.pinged == 0 {
            link.pinged = now.micros.max(1);
        }
        out.append(id, b"PING\r\n");
    }

    /// Takes back our interest before an orderly end, so that the hub answers "no responders" at once.
    pub fn leaf_withdraw(&mut self, id: ConnectionId, out: &mut Outbox) {
        self.withdraw_all(id, out);
    }

    /// Does the hub want this subject?
    #[must_use]
    pub fn leaf_wants(&self, id: ConnectionId, subject: &[u8]) -> bool {
        let account = self.connections.entry(id).map_or(crate::account::GLOBAL, |connection| connection.account);
        self.subscription_of(id, account, subject).is_some()
    }

    /// Does the hub want anything that this filter matches? Looks through all that the hub wants.
    #[must_use]
    pub fn leaf_overlaps(&self, id: ConnectionId, filter: &subject::Filter) -> bool {
        let wanted = self.link(id).into_iter().flat_map(|link| link.wanted.keys());
        wanted
            .into_iter()
            .any(|(text, _)| subject::Filter::from_bytes(text).is_ok_and(|wanted| wanted.overlaps(filter)))
    }

    /// Links that are up.
    #[must_use]
    pub fn leaf_links(&self) -> &[ConnectionId] {
        &self.links
    }

    /// What is known of a link, for `/leafz`.
    #[must_use]
    pub fn leaf_state(&self, id: ConnectionId) -> Option<(&LinkFacts, LinkCounters)> {
        let link = self.link(id)?;
        Some((&link.facts, link.shown()))
    }

    /// When a link last brought bytes, microseconds: what liveness is judged by.
    #[must_use]
    pub fn last_activity(&self, id: ConnectionId) -> Option<u64> {
        self.connections.entry(id).map(|connection| connection.last_activity)
    }

    pub(crate) fn link(&self, id: ConnectionId) -> Option<&LeafLink> {
        match &self.connections.entry(id)?.kind {
            Kind::Leaf(link) => Some(link),
            _ => None,
        }
    }

    pub(crate) fn link_mut(&mut self, id: ConnectionId) -> Option<&mut LeafLink> {
        match &mut self.connections.entry_mut(id)?.kind {
            Kind::Leaf(link) => Some(link),
            _ => None,
        }
    }
}
