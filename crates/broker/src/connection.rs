//! What the broker keeps of every connection, whatever it speaks, and the slab of them.

use std::collections::BTreeMap;
use std::rc::Weak;

use smallvec::SmallVec;

use crate::account::AccountId;
use crate::broker::{NewConnection, Transport};
use crate::identity::ConnectionId;
use crate::leaf::LeafLink;
use crate::mqtt_client::MqttClient;
use crate::nats_client::NatsClient;
use crate::outbox::Traffic;
use crate::permissions::Allowance;
use crate::plan::Plan;
use crate::subscription::{SubscriptionId, Subscriptions};

/// The state of one protocol. What is not for every NATS client is boxed: an idle connection is to cost little.
#[derive(Debug)]
pub(crate) enum Kind {
    Nats(NatsClient),
    Mqtt(Box<MqttClient>),
    Leaf(Box<LeafLink>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    /// The number clients and operators see (`client_id`, `cid`), never used twice.
    pub(crate) number: u64,
    pub(crate) account: AccountId,
    /// What it may; `None`: everything.
    pub(crate) allowance: Option<Box<Allowance>>,
    pub(crate) transport: Transport,
    /// It was told to close; what it still sends is not looked at.
    pub(crate) closing: bool,
    /// The plan of its last subjects. The cache owns it: what is forgotten there takes no memory here.
    pub(crate) memo: Weak<Plan>,
    /// Hash of the subject it published last through the cache: the memo is set when one comes twice in a row.
    pub(crate) last_hash: u64,
    pub(crate) received: Traffic,
    /// Monotonic microseconds.
    pub(crate) started: u64,
    pub(crate) last_activity: u64,
    /// Its place among the timers; 0: none.
    pub(crate) deadline: u64,
    /// Since when it waits for room at the store, 0: it does not.
    pub(crate) waiting_since: u64,
    pub(crate) peer: core::net::SocketAddr,
    /// Wall clock at its start, nanoseconds since 1970.
    pub(crate) started_wall: i64,
    pub(crate) kind: Kind,
}

impl Connection {
    pub(crate) fn new(id: ConnectionId, number: u64, now: crate::Now, new: &NewConnection, kind: Kind) -> Connection {
        Connection {
            id,
            number,
            account: crate::account::GLOBAL,
            allowance: None,
            transport: new.transport,
            closing: false,
            memo: Weak::new(),
            last_hash: 0,
            received: Traffic::default(),
            started: now.micros,
            last_activity: now.micros,
            deadline: 0,
            waiting_since: 0,
            peer: new.peer,
            started_wall: now.wall_ns,
            kind,
        }
    }
}

/// What to do after an operation or packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The next one.
    Go,
    /// Leave this one and what follows until the reader is woken.
    Wait,
    /// Stop after this one until the reader is woken.
    Pause,
    /// Ignore the rest.
    Stop,
}

/// Connections by slot.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Option<Connection>>,
    generations: Vec<u32>,
    free: Vec<u32>,
    open: usize,
}

impl Connections {
    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open
    }

    /// The id that the next connection gets.
    pub(crate) fn reserve(&mut self, core: u8) -> ConnectionId {
        let slot = match self.free.last() {
            Some(slot) => *slot,
            None => {
                self.slots.push(None);
                self.generations.push(0);
                self.free.push(self.slots.len() as u32 - 1);
                self.slots.len() as u32 - 1
            }
        };
        ConnectionId::new(core, slot, self.generations[slot as usize])
    }

    /// Puts a connection into the place that [`Connections::reserve`] gave it.
    pub(crate) fn insert(&mut self, connection: Connection) {
        let slot = connection.id.slot();
        debug_assert_eq!(self.free.last(), Some(&(slot as u32)), "not the reserved place");
        self.free.pop();
        self.slots[slot] = Some(connection);
        self.open += 1;
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.entry(id)?;
        let removed = self.slots[id.slot()].take();
        self.generations[id.slot()] = self.generations[id.slot()].wrapping_add(1);
        self.free.push(id.slot() as u32);
        self.open -= 1;
        removed
    }

    #[inline]
    pub(crate) fn entry(&self, id: ConnectionId) -> Option<&Connection> {
        self.slots.get(id.slot())?.as_ref().filter(|connection| connection.id == id)
    }

    #[inline]
    pub(crate) fn entry_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot())?.as_mut().filter(|connection| connection.id == id)
    }

    /// Who is in a slot now.
    #[inline]
    pub(crate) fn at(&self, slot: usize) -> Option<&Connection> {
        self.slots.get(slot)?.as_ref()
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, slot: usize) -> Option<&mut Connection> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// All of them, by slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().flatten()
    }
}

/// The subscriptions of one connection by the client's own names for them: a list while there are few.
#[derive(Debug)]
pub(crate) enum SubscriptionNames {
    Few(SmallVec<[SubscriptionId; 4]>),
    Many(BTreeMap<Box<[u8]>, SubscriptionId>),
}

/// Beyond this many a list is searched too slowly.
const FEW: usize = 16;

impl Default for SubscriptionNames {
    fn default() -> SubscriptionNames {
        SubscriptionNames::Few(SmallVec::new())
    }
}

impl SubscriptionNames {
    pub(crate) fn len(&self) -> usize {
        match self {
            SubscriptionNames::Few(ids) => ids.len(),
            SubscriptionNames::Many(names) => names.len(),
        }
    }

    pub(crate) fn find(&self, name: &[u8], all: &Subscriptions) -> Option<SubscriptionId> {
        match self {
            SubscriptionNames::Few(ids) => ids.iter().copied().find(|id| is_named(*id, name, all)),
            SubscriptionNames::Many(names) => names.get(name).copied(),
        }
    }

    pub(crate) fn insert(&mut self, name: &[u8], id: SubscriptionId, all: &Subscriptions) {
        match self {
            SubscriptionNames::Few(ids) if ids.len() < FEW => ids.push(id),
            SubscriptionNames::Few(ids) => {
                let named = |id: &SubscriptionId| all.entry(*id).map(|entry| (entry.token.clone(), *id));
                let mut names: BTreeMap<_, _> = ids.iter().filter_map(named).collect();
                names.insert(name.into(), id);
                *self = SubscriptionNames::Many(names);
            }
            SubscriptionNames::Many(names) => {
                names.insert(name.into(), id);
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &[u8], id: SubscriptionId) {
        match self {
            SubscriptionNames::Few(ids) => ids.retain(|other| *other != id),
            SubscriptionNames::Many(names) => {
                names.remove(name);
            }
        }
    }

    /// All of them, in a fixed order.
    pub(crate) fn ids(&self) -> Vec<SubscriptionId> {
        match self {
            SubscriptionNames::Few(ids) => ids.to_vec(),
            SubscriptionNames::Many(names) => names.values().copied().collect(),
        }
    }
}

fn is_named(id: SubscriptionId, name: &[u8], all: &Subscriptions) -> bool {
    all.entry(id).is_some_and(|entry| *entry.token == *name)
}
