//! What we tell the hub that we want.
//!
//! Every row of the account that is ours (clients' subscriptions, captured subjects, filters of MQTT sessions, also sleeping ones, consumers' ack
//! subjects, the domain's API) counts towards one entry per subject and queue group. The first makes an `LS+`, the last an `LS-`; a queue group
//! is announced again with each change of its members, as an absolute weight. Nothing that came over a link is announced to another, loop
//! tokens excepted: an edge is no way between two hubs.

use std::collections::BTreeMap;

use nats_proto::leaf::{subscribe_to, unsubscribe_from};
use subject::Filter;

use super::deny::{is_api_of, is_own_business};
use crate::account::{Service, Target};
use crate::broker::Broker;
use crate::identity::ConnectionId;
use crate::outbox::Outbox;
use crate::subscription::{Interest, SubscriptionId};

/// Subject and queue group (empty: none).
pub(super) type Key = (Filter, Box<[u8]>);

/// How many local rows there are for each subject and queue group, and what changed since the links were last told.
#[derive(Debug, Default)]
pub(crate) struct LocalInterest {
    counts: BTreeMap<Key, u32>,
    changed: BTreeMap<Key, u32>,
}

impl LocalInterest {
    /// Notes a change; the count before it is kept until the links are told.
    fn change(&mut self, key: &Key, added: bool) {
        let count = self.counts.entry(key.clone()).or_insert(0);
        self.changed.entry(key.clone()).or_insert(*count);
        *count = if added { count.saturating_add(1) } else { count.saturating_sub(1) };
        if *count == 0 {
            self.counts.remove(key);
        }
    }
}

impl Broker {
    /// A subscription came or is about to go.
    pub(crate) fn leaf_interest_changed(&mut self, id: SubscriptionId, added: bool) {
        if self.settings.leafnodes.is_none() {
            return;
        }
        let Some(subscription) = self.subscriptions.entry(id) else { return };
        if matches!(subscription.interest, Interest::Leaf { .. }) {
            return;
        }
        let key = (subscription.filter.clone(), subscription.queue.clone().unwrap_or_default());
        self.local_interest.change(&key, added);
    }

    /// A row that is no subscription came or went.
    pub(crate) fn leaf_row_changed(&mut self, filter: &Filter, target: &Target, added: bool) {
        let is_told = match target {
            // Those behind the hub answer snapshots, and send restores, on subjects of their own.
            Target::Service(service) => matches!(service, Service::Snapshot(_)),
            Target::Subscription(_) => false,
            _ => true,
        };
        if self.settings.leafnodes.is_some() && is_told {
            self.local_interest.change(&(filter.clone(), Box::default()), added);
        }
    }

    /// Tells the links what changed. To be called by the shell after each turn, before it flushes: a burst of changes of one subject is one line.
    pub fn flush_interest(&mut self, out: &mut Outbox) {
        if self.local_interest.changed.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.local_interest.changed);
        for (key, before) in changed {
            let now = self.local_interest.counts.get(&key).copied().unwrap_or(0);
            let is_queue = !key.1.is_empty();
            if before == now || (!is_queue && (before > 0) == (now > 0)) {
                continue;
            }
            let mut line = Vec::new();
            write_interest(&key, now, &mut line);
            for link in self.links.clone() {
                if self.may_announce(link, &key.0) {
                    out.append(link, &line);
                }
            }
        }
    }

    /// Is there a change that [`Broker::flush_interest`] would tell?
    #[must_use]
    pub fn has_interest_changes(&self) -> bool {
        !self.local_interest.changed.is_empty()
    }

    /// Everything, towards a new link: first the loop token, so that a loop is found before it carries anything.
    pub(super) fn announce_all(&mut self, id: ConnectionId, out: &mut Outbox) {
        let mut lines = Vec::new();
        if let Some(settings) = &self.settings.leafnodes {
            subscribe_to(&[b"$LDS.", settings.loop_token.as_bytes()].concat(), None, &mut lines);
        }
        for other in self.links.iter().filter(|other| **other != id) {
            for token in self.link(*other).into_iter().flat_map(|link| &link.tokens) {
                subscribe_to(token, None, &mut lines);
            }
        }
        for (key, count) in &self.local_interest.counts {
            if self.may_announce(id, &key.0) {
                write_interest(key, *count, &mut lines);
            }
        }
        out.append(id, &lines);
    }

    /// Subjects and groups that a link has been told, in order.
    pub(super) fn announced(&self, id: ConnectionId) -> Vec<Key> {
        self.local_interest.counts.keys().filter(|key| self.may_announce(id, &key.0)).cloned().collect()
    }

    /// What may be announced now and might not before, and the reverse.
    pub(super) fn announce_difference(&self, id: ConnectionId, before: &[Key], out: &mut Outbox) {
        let mut lines = Vec::new();
        for (key, count) in &self.local_interest.counts {
            match (before.binary_search(key).is_ok(), self.may_announce(id, &key.0)) {
                (true, false) => write_interest(key, 0, &mut lines),
                (false, true) => write_interest(key, *count, &mut lines),
                _ => {}
            }
        }
        out.append(id, &lines);
    }

    /// Takes everything back.
    pub(super) fn withdraw_all(&mut self, id: ConnectionId, out: &mut Outbox) {
        let mut lines = Vec::new();
        for key in self.local_interest.counts.keys() {
            if self.may_announce(id, &key.0) {
                write_interest(key, 0, &mut lines);
            }
        }
        out.append(id, &lines);
    }

    /// Literals of the guarded subjects would make the hub close the link; wider wildcards it prunes itself (see `deny.rs`).
    fn may_announce(&self, id: ConnectionId, filter: &Filter) -> bool {
        let Some(link) = self.link(id).filter(|link| link.up) else { return false };
        let text = filter.as_str().as_bytes();
        let hub = (!link.facts.domain.is_empty()).then_some(&*link.facts.domain);
        !is_own_business(text) && !is_api_of(hub, text) && link.facts.permissions.may_announce(filter)
    }

    /// A loop token heard on one link goes to all others: only so are loops over two dialled links found.
    pub(super) fn pass_on_token(&mut self, from: ConnectionId, token: &[u8], added: bool, out: &mut Outbox) {
        let mut line = Vec::new();
        if added {
            subscribe_to(token, None, &mut line);
        } else {
            unsubscribe_from(token, None, &mut line);
        }
        for link in self.links.iter().filter(|link| **link != from) {
            out.append(*link, &line);
        }
    }
}

fn write_interest((filter, queue): &Key, count: u32, into: &mut Vec<u8>) {
    let subject = filter.as_str().as_bytes();
    let queue = (!queue.is_empty()).then_some(&**queue);
    if count == 0 {
        unsubscribe_from(subject, queue, into);
    } else {
        subscribe_to(subject, queue.map(|queue| (queue, count)), into);
    }
}
