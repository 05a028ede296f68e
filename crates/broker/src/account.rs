//! An account: one table of everything that wants a subject.
//!
//! Subscriptions of clients, leaf links and MQTT connections, streams that capture, consumers that wait for acknowledgements, services of the
//! server and mappings are all rows of the same [`Index`], so that one look-up finds whatever a publish is to reach.

use jetstream::identity::{ConsumerId, SessionId, StreamId};
use subject::{Filter, Index};

use crate::subscription::{MqttGrant, SubscriptionId};

/// Which account; the index into the broker's list.
pub(crate) type AccountId = u16;

/// The account of everybody who is not given another one.
pub(crate) const GLOBAL: AccountId = 0;

/// A row's right side.
#[allow(dead_code)] // sessions: rows of the MQTT client
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A subscription of a connection, perhaps member of a queue group; the slab says which kind.
    Subscription(SubscriptionId),
    /// A stream captures it.
    Stream(StreamId),
    /// A stored MQTT session has a filter of quality 1 or 2 on it.
    Session(SessionId, MqttGrant),
    /// It is an acknowledgement for this consumer.
    Ack(ConsumerId),
    /// The server answers.
    Service(Service),
    /// It goes to another subject instead: index into [`Account::mappings`].
    Mapping(u16),
}

impl Target {
    /// Does it count as somebody who listens? Each consumer has wildcard rows for its acknowledgements: what looks for listeners must not look at each.
    pub(crate) fn listens(&self) -> bool {
        !matches!(self, Target::Ack(_) | Target::Mapping(_))
    }
}

/// The shell's own number for something it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceId(pub u16);

/// What the server itself answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// `$JS.API.>`
    JetStreamApi,
    /// `$SYS.REQ.USER.INFO`
    UserInfo,
    /// A snapshot's acknowledgements, or a restore's pieces, by its number.
    Snapshot(u32),
    /// The shell answers, see [`crate::Broker::serve`].
    Shell(ServiceId),
}

/// A prefix that is replaced: `$JS.<domain>.API.` by `$JS.API.`.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    /// What the subject begins with.
    from: Box<[u8]>,
    /// What stands there instead.
    to: Box<[u8]>,
}

impl Mapping {
    /// The new subject.
    pub(crate) fn apply(&self, subject: &[u8]) -> Option<Vec<u8>> {
        let rest = subject.strip_prefix(&*self.from)?;
        Some([&*self.to, rest].concat())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) name: Box<str>,
    pub(crate) index: Index<Target>,
    pub(crate) mappings: Vec<Mapping>,
}

impl Account {
    /// Without any row.
    pub(crate) fn new(name: &str, seed: u64) -> Account {
        Account { name: name.into(), index: Index::new(seed), mappings: Vec::new() }
    }

    /// Makes everything published below `from` (`a.b.>`) go to the same tail below `to` instead.
    pub(crate) fn map_prefix(&mut self, from: &Filter, to: &Filter) {
        let prefix = |filter: &Filter| filter.as_str().trim_end_matches('>').as_bytes().into();
        let place = self.mappings.len() as u16;
        self.mappings.push(Mapping { from: prefix(from), to: prefix(to) });
        self.index.insert(from, Target::Mapping(place));
    }
}
