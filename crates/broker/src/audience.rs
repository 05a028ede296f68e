//! Does anybody listen where push consumers send?
//!
//! Interest comes and goes on the core thread, consumers live on the store thread: each change that concerns a deliver subject becomes one
//! [`Command::Interest`]. A wildcard subscription counts like a literal one; whether it is a client's, an MQTT session's or a link's does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use jetstream::command::Command;
use jetstream::identity::ConsumerId;
use subject::Filter;

use crate::account::{AccountId, GLOBAL, Target};
use crate::broker::Broker;

/// Push consumers by deliver subject.
#[derive(Debug, Default)]
pub(crate) struct Audiences {
    by_subject: BTreeMap<Box<[u8]>, Vec<ConsumerId>>,
    consumers: BTreeMap<ConsumerId, Audience>,
}

impl Audiences {
    /// The deliver subjects that a filter matches: only those that begin as it does are looked at.
    fn matching(&self, filter: &Filter) -> Vec<Box<[u8]>> {
        let text = filter.as_str().as_bytes();
        let literal = &text[..text.iter().position(|byte| matches!(byte, b'*' | b'>')).unwrap_or(text.len())];
        let from = self.by_subject.range::<[u8], _>((Bound::Included(literal), Bound::Unbounded));
        let near = from.map(|(subject, _)| subject).take_while(|subject| subject.starts_with(literal));
        near.filter(|subject| filter.matches(subject)).cloned().collect()
    }
}

#[derive(Debug)]
struct Audience {
    subject: Box<[u8]>,
    /// Who counts: members of this queue group. Empty: anybody.
    group: Box<[u8]>,
    /// The store was told that somebody listens.
    told: bool,
}

impl Broker {
    /// A push consumer exists: the store is told at once if somebody listens already.
    pub(crate) fn watch_audience(&mut self, consumer: ConsumerId, subject: &str, group: &str) {
        let (subject, group): (Box<[u8]>, Box<[u8]>) = (subject.as_bytes().into(), group.as_bytes().into());
        self.audiences.by_subject.entry(subject.clone()).or_default().push(consumer);
        self.audiences.consumers.insert(consumer, Audience { subject: subject.clone(), group, told: false });
        self.compare_audience(&subject);
    }

    /// Is it a consumer that nobody pulls from?
    pub(crate) fn pushes(&self, stream: &str, consumer: &str) -> bool {
        let named = |id: &ConsumerId| self.store.consumer_names(*id) == Some((stream, consumer));
        self.audiences.consumers.keys().any(named)
    }

    /// It is gone.
    pub(crate) fn forget_audience(&mut self, consumer: ConsumerId) {
        let Some(Audience { subject, .. }) = self.audiences.consumers.remove(&consumer) else { return };
        if let Some(others) = self.audiences.by_subject.get_mut(&subject) {
            others.retain(|other| *other != consumer);
            if others.is_empty() {
                self.audiences.by_subject.remove(&subject);
            }
        }
    }

    /// A row of this filter came or went.
    pub(crate) fn audience_changed(&mut self, account: AccountId, filter: &Filter) {
        self.snapshots.interest_changed();
        if self.audiences.by_subject.is_empty() || account != GLOBAL {
            return;
        }
        if filter.is_literal() {
            return self.compare_audience(filter.as_str().as_bytes());
        }
        for subject in self.audiences.matching(filter) {
            self.compare_audience(&subject);
        }
    }

    fn listeners(&self, subject: &[u8]) -> (bool, BTreeSet<&[u8]>) {
        let (mut anybody, mut groups) = (false, BTreeSet::new());
        self.accounts[GLOBAL as usize].index.for_each_match(subject, |target| {
            // As in nats-server: two streams with push consumers on each other's subjects would fill the disk.
            anybody |= target.listens() && !matches!(target, Target::Stream(_));
            if let Target::Subscription(id) = target {
                groups.extend(self.subscriptions.entry(*id).and_then(|subscription| subscription.queue.as_deref()));
            }
        });
        (anybody, groups)
    }

    /// Does anybody listen there, as a member of the group if one is named?
    pub(crate) fn is_listened_to(&self, subject: &[u8], group: &[u8]) -> bool {
        let (anybody, groups) = self.listeners(subject);
        if group.is_empty() { anybody } else { groups.contains(group) }
    }

    fn compare_audience(&mut self, subject: &[u8]) {
        let Some(consumers) = self.audiences.by_subject.get(subject) else { return };
        let (anybody, groups) = self.listeners(subject);
        let groups: BTreeSet<Box<[u8]>> = groups.into_iter().map(Into::into).collect();
        for consumer in consumers {
            let Some(audience) = self.audiences.consumers.get_mut(consumer) else { continue };
            let is_there = if audience.group.is_empty() { anybody } else { groups.contains(&*audience.group) };
            if audience.told != is_there {
                audience.told = is_there;
                let consumer = *consumer;
                self.pullers.heard(consumer, is_there);
                self.store.push(|_| Command::Interest { consumer, is_there });
            }
        }
    }
}
