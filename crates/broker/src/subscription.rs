//! Subscriptions of connections: one slab for all kinds of clients.

use subject::Filter;

use crate::account::AccountId;
use crate::identity::ConnectionId;

/// Place of a subscription in the slab. Places are used again; a route plan never outlives an interest change that concerns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u32);

/// What a client kind asks for with [`crate::Broker`]'s `subscribe`.
#[derive(Debug)]
pub(crate) struct NewSubscription {
    /// Which subjects.
    pub(crate) filter: Filter,
    /// Queue group.
    pub(crate) queue: Option<Box<[u8]>>,
    /// How it is delivered to.
    pub(crate) interest: Interest,
    /// The connection's own name of it: the sid of a NATS client, empty elsewhere.
    pub(crate) token: Box<[u8]>,
}

/// How a subscription is delivered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// `MSG subject sid …`, and `HMSG` if it understands headers.
    Client {
        /// It does.
        headers: bool,
    },
    /// `LMSG …` over a leaf link, once per link and message whatever matches; a queue group counts `weight` members.
    Leaf {
        /// Members behind the link; 0 for plain interest.
        weight: u32,
    },
    /// An MQTT connection, once per message whatever matches.
    Mqtt(MqttGrant),
    /// The gateway's own engine, under this number: becomes a [`crate::Notice::Message`].
    Internal(u32),
    /// The puller of a stream's origin with this number, see [`crate::origins`].
    Origin(u32),
}

/// How an MQTT filter was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MqttGrant {
    /// Highest quality of service of its deliveries.
    pub(crate) quality: u8,
    /// It begins with a wildcard, and so is not for subjects that begin with `$`. [MQTT-4.7.2-1]
    pub(crate) hides_dollar: bool,
    /// `$share/…`
    pub(crate) shared: bool,
}

impl MqttGrant {
    /// Is a subject that the filter matches really for it?
    #[inline]
    pub(crate) fn admits(self, subject: &[u8]) -> bool {
        !(self.hides_dollar && subject.first() == Some(&b'$'))
    }
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) connection: ConnectionId,
    pub(crate) account: AccountId,
    pub(crate) interest: Interest,
    pub(crate) filter: Filter,
    pub(crate) queue: Option<Box<[u8]>>,
    pub(crate) token: Box<[u8]>,
    /// Messages delivered so far.
    pub(crate) delivered: u64,
    /// Goes away after so many.
    pub(crate) max: u64,
}

/// The slab.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    entries: Vec<Option<Subscription>>,
    free: Vec<u32>,
}

impl Subscriptions {
    pub(crate) fn insert(&mut self, subscription: Subscription) -> SubscriptionId {
        if let Some(place) = self.free.pop() {
            self.entries[place as usize] = Some(subscription);
            return SubscriptionId(place);
        }
        self.entries.push(Some(subscription));
        SubscriptionId(self.entries.len() as u32 - 1)
    }

    pub(crate) fn remove(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let removed = self.entries.get_mut(id.0 as usize)?.take();
        if removed.is_some() {
            self.free.push(id.0);
        }
        removed
    }

    #[inline]
    pub(crate) fn entry(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn entry_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        self.entries.get_mut(id.0 as usize)?.as_mut()
    }

    /// All of them, by place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SubscriptionId, &Subscription)> {
        let named =
            |(place, entry): (usize, &'_ Option<Subscription>)| entry.is_some().then_some(SubscriptionId(place as u32));
        self.entries.iter().enumerate().filter_map(move |entry| named(entry).zip(entry.1.as_ref()))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}
