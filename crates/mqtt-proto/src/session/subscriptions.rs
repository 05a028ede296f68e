//! What a session is subscribed to, and how overlapping subscriptions become one delivery.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use smallvec::SmallVec;

use crate::packet::{RetainHandling, SubscriptionOptions};
use crate::protocol::Qos;
use crate::topic;

/// A granted subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// What was granted; the QoS may be lower than asked.
    pub options: SubscriptionOptions,
    /// The number the client gave to it.
    pub identifier: Option<NonZeroU32>,
}

/// The subscriptions of a session by filter, `$share/…` filters whole. Their number is bounded by the caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscriptions {
    grants: BTreeMap<Box<str>, Grant>,
}

impl Subscriptions {
    /// None.
    pub const fn new() -> Self {
        Self { grants: BTreeMap::new() }
    }

    /// Enters a subscription. It replaces one of the same filter, of which nothing is kept; that one is returned.
    /// `[MQTT-3.8.4-3]`
    pub fn insert(&mut self, filter: &str, grant: Grant) -> Option<Grant> {
        self.grants.insert(filter.into(), grant)
    }

    /// Removes a subscription; `None`: there was none (5: UNSUBACK 0x11).
    pub fn remove(&mut self, filter: &str) -> Option<Grant> {
        self.grants.remove(filter)
    }

    /// The subscription of exactly this filter.
    pub fn find(&self, filter: &str) -> Option<Grant> {
        self.grants.get(filter).copied()
    }

    /// All, by filter.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Grant)> {
        self.grants.iter().map(|(filter, grant)| (&**filter, *grant))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.grants.clear();
    }
}

impl Grant {
    /// Whether SUBSCRIBE is followed by the retained messages of the filter. `existed`: it replaced a subscription.
    /// Shared ones never get any. `[MQTT-3.3.1-9]`, `[MQTT-3.3.1-10]`, `[MQTT-3.3.1-11]`
    pub fn sends_retained(&self, filter: &str, existed: bool) -> bool {
        if topic::is_shared(filter) {
            return false;
        }
        match self.options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::OnlyIfNew => !existed,
            RetainHandling::Never => false,
        }
    }
}

/// The subscriptions of one session that match one message, as one delivery. `[MQTT-3.3.5-1]` (3.1.1),
/// `[MQTT-3.3.4-2]`, `[MQTT-3.3.4-3]` (5)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedGrant {
    /// The highest granted QoS.
    pub qos: Qos,
    /// Every matching subscription has it: the session's own messages are not delivered.
    pub no_local: bool,
    /// Some matching subscription has it.
    pub retain_as_published: bool,
    /// The identifiers of all that have one, in order of the grants.
    pub identifiers: SmallVec<[NonZeroU32; 2]>,
}

impl MergedGrant {
    /// Merges the grants that match a message; `None` when none does.
    pub fn of(grants: impl IntoIterator<Item = Grant>) -> Option<Self> {
        let mut merged: Option<Self> = None;
        for grant in grants {
            let all = merged.get_or_insert(Self {
                qos: Qos::AtMostOnce,
                no_local: true,
                retain_as_published: false,
                identifiers: SmallVec::new(),
            });
            all.qos = all.qos.max(grant.options.qos);
            all.no_local &= grant.options.no_local;
            all.retain_as_published |= grant.options.retain_as_published;
            all.identifiers.extend(grant.identifier);
        }
        merged
    }

    /// The QoS a message is delivered at. `[MQTT-3.8.4-6]`
    pub fn delivery_qos(&self, published: Qos) -> Qos {
        self.qos.min(published)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(qos: Qos, no_local: bool, identifier: u32) -> Grant {
        let options = SubscriptionOptions { qos, no_local, ..SubscriptionOptions::default() };
        Grant { options, identifier: NonZeroU32::new(identifier) }
    }

    #[test]
    fn a_repeated_subscription_keeps_nothing_of_the_old() {
        let mut subscriptions = Subscriptions::new();
        assert_eq!(subscriptions.insert("a/#", grant(Qos::ExactlyOnce, true, 7)), None);
        let replaced = subscriptions.insert("a/#", grant(Qos::AtMostOnce, false, 0));
        assert_eq!(replaced, Some(grant(Qos::ExactlyOnce, true, 7)));
        assert_eq!(subscriptions.find("a/#"), Some(grant(Qos::AtMostOnce, false, 0)));
        assert_eq!(subscriptions.len(), 1);
        assert_eq!(subscriptions.remove("a"), None);
        assert!(subscriptions.remove("a/#").is_some() && subscriptions.is_empty());
    }

    #[test]
    fn overlapping_subscriptions_are_one_delivery() {
        let merged = MergedGrant::of([grant(Qos::AtMostOnce, true, 3), grant(Qos::AtLeastOnce, false, 1)]).unwrap();
        assert_eq!(merged.qos, Qos::AtLeastOnce);
        assert!(!merged.no_local);
        assert_eq!(merged.identifiers.iter().map(|id| id.get()).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(merged.delivery_qos(Qos::ExactlyOnce), Qos::AtLeastOnce);
        assert_eq!(merged.delivery_qos(Qos::AtMostOnce), Qos::AtMostOnce);
        assert_eq!(MergedGrant::of([]), None);
    }

    #[test]
    fn retained_messages_follow_the_handling() {
        let mut only_new = grant(Qos::AtMostOnce, false, 0);
        only_new.options.retain_handling = RetainHandling::OnlyIfNew;
        assert!(only_new.sends_retained("a", false) && !only_new.sends_retained("a", true));
        let always = grant(Qos::AtMostOnce, false, 0);
        assert!(always.sends_retained("a", true) && !always.sends_retained("$share/g/a", false));
    }
}
