//! Route plans: what a subject reaches, worked out once and used until an interest change concerns it.
//!
//! A plan holds, for every subscription of a NATS client, the *ready prefix* `HMSG subject sid ` (of which `MSG …` is all but the first byte):
//! a delivery is that prefix and the publisher's bytes behind it. Queue groups are ranges of targets of which one is picked per message.
//!
//! The cache is direct-mapped and admits a subject when it is seen the second time, so that reply subjects that are used once neither cost a
//! plan nor push out another one. A plan that leaves the cache is marked invalid, therefore a connection may remember a plan and need look at
//! nothing but that mark. Measured on x86-64: a subject that is used once costs half of what it does when the cache admits it at once (0.32
//! instead of 0.67 µs, in a prototype), and the remembered plan saves a quarter of a message's way in user space.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::rc::Rc;

use foldhash::fast::FixedState;
use jetstream::identity::{ConsumerId, SessionId, StreamId};
use smallvec::SmallVec;
use subject::Filter;

use crate::account::{Account, AccountId, Service, Target};
use crate::connection::Connections;
use crate::identity::ConnectionId;
use crate::mqtt_client::MqttSide;
use crate::permissions::Permissions;
use crate::settings::Settings;
use crate::subscription::{Interest, MqttGrant, Subscription, SubscriptionId, Subscriptions};

/// Slots of the cache: beyond this many hot subjects a cold plan costs as much as the look-up (measured from 5,000 up).
const SLOTS: usize = 1024;

/// Memory of all cached plans, bytes. Reached: all are forgotten and made anew, which is cheaper than an order among them.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// How a target is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// `MSG`, `HMSG`.
    Client,
    /// `MSG` only: the client did not say that it understands headers.
    ClientWithoutHeaders,
    /// A client that may answer what it is asked, see [`crate::permissions`].
    Answerer {
        /// It understands them.
        headers: bool,
    },
    /// Over a leaf link; members of the queue group behind it.
    Leaf(u32),
    /// An MQTT connection, with the best grant of its filters.
    Mqtt(MqttGrant),
    /// The gateway's own engine; its number.
    Internal(u32),
    /// The puller of a stream's origin; its number.
    Origin(u32),
}

/// One subscription that gets the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanTarget {
    /// Its connection.
    pub(crate) slot: u32,
    pub(crate) subscription: SubscriptionId,
    pub(crate) reach: Reach,
    /// Its ready prefix in [`Plan::bytes`].
    prefix: (u32, u32),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) subject: Vec<u8>,
    /// What the subject is mapped to.
    pub(crate) mapped: Option<Vec<u8>>,
    account: AccountId,
    valid: Cell<bool>,
    /// Ready prefixes.
    bytes: Vec<u8>,
    /// First those that all get it, then group by group.
    targets: Vec<PlanTarget>,
    everybody: usize,
    /// Where each group ends in `targets`.
    groups: Vec<u32>,
    /// Are there NATS clients among the targets, MQTT clients or sessions?
    clients: bool,
    mqtt: bool,
    pub(crate) streams: SmallVec<[StreamId; 1]>,
    pub(crate) sessions: Vec<(SessionId, u8)>,
    pub(crate) acks: SmallVec<[ConsumerId; 1]>,
    pub(crate) services: SmallVec<[Service; 1]>,
}

impl Plan {
    /// Still what [`PlanCache::plan`] would give.
    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        self.valid.get()
    }

    #[inline]
    pub(crate) fn is_valid_for(&self, account: AccountId, subject: &[u8]) -> bool {
        self.valid.get() && equal_short(&self.subject, subject) && self.account == account
    }

    #[inline]
    pub(crate) fn everybody(&self) -> &[PlanTarget] {
        &self.targets[..self.everybody]
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &[PlanTarget]> {
        let mut start = self.everybody;
        self.groups.iter().map(move |end| {
            let members = &self.targets[start..*end as usize];
            start = *end as usize;
            members
        })
    }

    #[inline]
    pub(crate) fn has_targets(&self) -> bool {
        !self.targets.is_empty()
    }

    #[inline]
    pub(crate) fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Does anything of the server itself want it?
    #[inline]
    pub(crate) fn is_captured(&self) -> bool {
        !(self.streams.is_empty() && self.sessions.is_empty() && self.acks.is_empty() && self.services.is_empty())
    }

    /// Does a NATS client get it?
    #[inline]
    pub(crate) fn has_clients(&self) -> bool {
        self.clients
    }

    /// Does an MQTT client or a stored session get it?
    #[inline]
    pub(crate) fn has_mqtt(&self) -> bool {
        self.mqtt
    }

    /// `HMSG subject sid `
    #[inline]
    pub(crate) fn prefix(&self, target: &PlanTarget) -> &[u8] {
        &self.bytes[target.prefix.0 as usize..target.prefix.1 as usize]
    }

    /// `sid `: the end of the prefix, for messages that show another subject than the one they are routed by.
    pub(crate) fn prefix_sid(&self, target: &PlanTarget) -> &[u8] {
        let subject = self.mapped.as_ref().unwrap_or(&self.subject);
        &self.prefix(target)[b"HMSG ".len() + subject.len() + 1..]
    }

    /// The subject that subscribers see.
    #[inline]
    pub(crate) fn routed_subject(&self) -> &[u8] {
        self.mapped.as_ref().unwrap_or(&self.subject)
    }

    fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.targets.capacity() * size_of::<PlanTarget>()
            + self.subject.capacity()
            + size_of::<Plan>()
    }

    /// Works the plan out, in the memory it has.
    fn build(&mut self, subject: &[u8], context: &PlanContext<'_>, found: &mut Found) {
        self.subject.clear();
        self.subject.extend_from_slice(subject);
        self.account = context.account_id;
        self.valid.set(true);
        self.bytes.clear();
        self.targets.clear();
        self.groups.clear();
        self.streams.clear();
        self.sessions.clear();
        self.acks.clear();
        self.services.clear();
        self.mapped = None;
        self.clients = false;
        self.mqtt = false;
        found.collect(subject, context);
        if let Some(mapping) = found.mapping {
            self.mapped = context.account.mappings[mapping as usize].apply(subject);
            if let Some(mapped) = &self.mapped {
                found.collect(mapped, context);
            }
        }
        self.add_targets(context, found);
        if !found.own.is_empty() {
            if !subject::is_literal(self.routed_subject()) {
                // Nothing is stored under a wildcard; but `DIRECT.GET.S.a.*` asks for the last of several subjects.
                found.own.retain(|target| matches!(target, Target::Service(Service::JetStreamApi)));
            }
            self.add_own(context, found);
        }
        let reaches = |wanted: fn(Reach) -> bool| self.targets.iter().any(|target| wanted(target.reach));
        self.clients =
            reaches(|reach| matches!(reach, Reach::Client | Reach::ClientWithoutHeaders | Reach::Answerer { .. }));
        self.mqtt = !self.sessions.is_empty() || reaches(|reach| matches!(reach, Reach::Mqtt(_)));
    }

    fn add_targets(&mut self, context: &PlanContext<'_>, found: &mut Found) {
        for id in &found.everybody {
            match context.subscriptions.entry(*id) {
                Some(Subscription { interest: Interest::Mqtt(grant), connection, .. }) => {
                    if grant.admits(self.routed_subject()) && !context.hides(*connection, self.routed_subject()) {
                        found.mqtt.push((connection.slot(), std::cmp::Reverse(grant.quality), *id));
                    }
                }
                _ => self.add_target(*id, context),
            }
        }
        // Overlapping filters of a client: one copy, with the highest of their qualities. [MQTT-3.3.5-1]
        found.mqtt.sort_unstable();
        found.mqtt.dedup_by_key(|(slot, ..)| *slot);
        for (_, _, id) in &found.mqtt {
            self.add_target(*id, context);
        }
        self.everybody = self.targets.len();
        if found.members.is_empty() {
            return;
        }
        // Groups in the order of their names: the picks of a run are a function of the seed.
        let name = |id: &SubscriptionId| context.subscriptions.entry(*id).and_then(|entry| entry.queue.as_deref());
        found.members.sort_by(|one, two| (name(one), one).cmp(&(name(two), two)));
        for (index, id) in found.members.iter().enumerate() {
            self.add_target(*id, context);
            let next = found.members.get(index + 1);
            if next.is_none_or(|next| name(next) != name(id)) {
                self.groups.push(self.targets.len() as u32);
            }
        }
    }

    fn add_target(&mut self, id: SubscriptionId, context: &PlanContext<'_>) {
        let Some(subscription) = context.subscriptions.entry(id) else { return };
        if context.hides(subscription.connection, self.routed_subject()) {
            return;
        }
        let slot = subscription.connection.slot() as u32;
        let start = self.bytes.len() as u32;
        let reach = match subscription.interest {
            Interest::Client { headers } => {
                self.bytes.extend_from_slice(b"HMSG ");
                self.bytes.extend_from_slice(self.mapped.as_ref().unwrap_or(&self.subject));
                self.bytes.push(b' ');
                self.bytes.extend_from_slice(&subscription.token);
                self.bytes.push(b' ');
                match headers {
                    _ if context.answers(subscription.connection) => Reach::Answerer { headers },
                    true => Reach::Client,
                    false => Reach::ClientWithoutHeaders,
                }
            }
            Interest::Leaf { weight } => {
                let plain = subscription.queue.is_none();
                if plain && self.targets.iter().any(|other| other.slot == slot && matches!(other.reach, Reach::Leaf(_)))
                {
                    // A leaf link gets a message once, whatever matches behind it.
                    return;
                }
                Reach::Leaf(weight)
            }
            Interest::Mqtt(grant) if !grant.admits(self.routed_subject()) => return,
            Interest::Mqtt(grant) => Reach::Mqtt(grant),
            Interest::Internal(number) => Reach::Internal(number),
            Interest::Origin(number) => Reach::Origin(number),
        };
        self.targets.push(PlanTarget { slot, subscription: id, reach, prefix: (start, self.bytes.len() as u32) });
    }

    fn add_own(&mut self, context: &PlanContext<'_>, found: &Found) {
        for target in &found.own {
            match *target {
                Target::Stream(stream) if !self.streams.contains(&stream) => self.streams.push(stream),
                Target::Session(session, grant)
                    if grant.admits(self.routed_subject())
                        && !context.hides_from_session(session, self.routed_subject()) =>
                {
                    self.sessions.push((session, grant.quality));
                }
                Target::Ack(consumer) if !self.acks.contains(&consumer) => self.acks.push(consumer),
                Target::Service(service) if !self.services.contains(&service) => self.services.push(service),
                _ => {}
            }
        }
        // A stream that is there comes before one that would be made.
        self.streams.sort_unstable_by_key(|stream| stream.is_template());
        // Overlapping filters of one session: one copy, with the highest of their qualities. [MQTT-3.3.5-1]
        self.sessions.sort_unstable_by_key(|(session, quality)| (*session, std::cmp::Reverse(*quality)));
        self.sessions.dedup_by_key(|(session, _)| *session);
    }
}

/// What a plan is made from.
pub(crate) struct PlanContext<'a> {
    pub(crate) account_id: AccountId,
    pub(crate) account: &'a Account,
    pub(crate) subscriptions: &'a Subscriptions,
    pub(crate) connections: &'a Connections,
    /// Does any connection have permissions?
    pub(crate) restricted: bool,
    pub(crate) sessions: &'a MqttSide,
    pub(crate) settings: &'a Settings,
}

impl PlanContext<'_> {
    fn permissions(&self, connection: ConnectionId) -> Option<&Permissions> {
        if !self.restricted {
            return None;
        }
        Some(&self.connections.entry(connection)?.allowance.as_ref()?.permissions)
    }

    /// Is this denied to the connection, though its filter is wider and was granted?
    fn hides(&self, connection: ConnectionId, subject: &[u8]) -> bool {
        self.permissions(connection).is_some_and(|permissions| permissions.hides(subject))
    }

    /// The same for a stored session, connected or not, by its owner.
    fn hides_from_session(&self, session: SessionId, subject: &[u8]) -> bool {
        let rule = self.settings.mqtt.authorization.as_ref().unwrap_or(&self.settings.authorization);
        if !rule.is_restrictive() {
            return false;
        }
        let owner = self.sessions.owner_of(session).filter(|owner| !owner.is_empty());
        rule.permissions_of_name(owner).is_some_and(|permissions| permissions.hides(subject))
    }

    /// May it answer requests that it gets, and only because it got them?
    fn answers(&self, connection: ConnectionId) -> bool {
        self.permissions(connection).is_some_and(|permissions| permissions.responses.is_some())
    }
}

/// The rows that match, sorted by what becomes of them. Kept between look-ups for its memory.
#[derive(Debug, Default)]
struct Found {
    everybody: Vec<SubscriptionId>,
    members: Vec<SubscriptionId>,
    own: Vec<Target>,
    /// MQTT subscriptions: slot, quality (best first), id.
    mqtt: Vec<(usize, std::cmp::Reverse<u8>, SubscriptionId)>,
    mapping: Option<u16>,
}

impl Found {
    fn collect(&mut self, subject: &[u8], context: &PlanContext<'_>) {
        self.everybody.clear();
        self.members.clear();
        self.own.clear();
        self.mqtt.clear();
        self.mapping = None;
        if has_empty_token(subject) {
            // Nobody can have asked for it, but `>` would match.
            return;
        }
        context.account.index.for_each_match(subject, |target| match *target {
            Target::Subscription(id) => match context.subscriptions.entry(id) {
                Some(entry) if entry.queue.is_some() => self.members.push(id),
                _ => self.everybody.push(id),
            },
            // The most specific one stands last.
            Target::Mapping(mapping) => self.mapping = self.mapping.max(Some(mapping)),
            other => self.own.push(other),
        });
    }
}

/// Plans by subject. See the module.
#[derive(Debug)]
pub(crate) struct PlanCache {
    slots: Vec<Slot>,
    /// First bytes of each cached subject, so that an interest change need not look at most plans.
    heads: Vec<u64>,
    hasher: FixedState,
    /// Cached plans whose subject is mapped.
    mapped: usize,
    cached: usize,
    /// Memory of the cached plans.
    bytes: usize,
    /// For subjects that are not cached.
    scratch: Rc<Plan>,
    found: Found,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// Of the last subject that came here and is not cached.
    tag: u32,
    plan: Option<Rc<Plan>>,
}

impl PlanCache {
    pub(crate) fn new(seed: u64) -> PlanCache {
        PlanCache {
            slots: vec![Slot::default(); SLOTS],
            heads: vec![0; SLOTS],
            hasher: FixedState::with_seed(seed),
            mapped: 0,
            cached: 0,
            bytes: 0,
            scratch: Rc::default(),
            found: Found::default(),
        }
    }

    pub(crate) fn hash(&self, subject: &[u8]) -> u64 {
        self.hasher.hash_one(subject)
    }

    /// The plan for a subject; with it, whether it is cached (and so may be remembered).
    pub(crate) fn plan(&mut self, hash: u64, subject: &[u8], context: &PlanContext<'_>) -> (Rc<Plan>, bool) {
        let place = hash as usize % SLOTS;
        let slot = &mut self.slots[place];
        if let Some(plan) = &slot.plan
            && plan.is_valid_for(context.account_id, subject)
        {
            return (Rc::clone(plan), true);
        }
        let tag = (hash >> 32) as u32 | 1;
        if slot.tag != tag {
            slot.tag = tag;
            return (self.uncached(subject, context), false);
        }
        slot.tag = 0;
        self.evict(place);
        let mut plan = Plan::default();
        plan.build(subject, context, &mut self.found);
        if self.bytes + plan.memory() > MAX_BYTES {
            self.forget_all();
        }
        self.bytes += plan.memory();
        self.mapped += usize::from(plan.mapped.is_some());
        self.cached += 1;
        self.heads[place] = head(subject);
        let plan = Rc::new(plan);
        self.slots[place].plan = Some(Rc::clone(&plan));
        (plan, true)
    }

    fn uncached(&mut self, subject: &[u8], context: &PlanContext<'_>) -> Rc<Plan> {
        if Rc::get_mut(&mut self.scratch).is_none() {
            // It is in use further up: a reply that a publish brought about.
            self.scratch = Rc::default();
        }
        if let Some(plan) = Rc::get_mut(&mut self.scratch) {
            plan.build(subject, context, &mut self.found);
            plan.valid.set(false);
        }
        Rc::clone(&self.scratch)
    }

    /// Forgets all of them: what connections may have changed.
    pub(crate) fn forget_all(&mut self) {
        if self.cached > 0 {
            (0..SLOTS).for_each(|place| self.evict(place));
        }
    }

    fn evict(&mut self, place: usize) {
        if let Some(old) = self.slots[place].plan.take() {
            old.valid.set(false);
            self.mapped -= usize::from(old.mapped.is_some());
            self.cached -= 1;
            self.bytes -= old.memory();
        }
    }

    /// The rows of `filter` changed: forgets the plans that it matches.
    pub(crate) fn interest_changed(&mut self, account: AccountId, filter: &Filter) {
        if self.cached == 0 {
            return;
        }
        let text = filter.as_str().as_bytes();
        if self.mapped == 0 && filter.is_literal() {
            let place = self.hash(text) as usize % SLOTS;
            if self.slots[place].plan.as_ref().is_some_and(|plan| plan.is_valid_for(account, text)) {
                self.evict(place);
            }
            return;
        }
        let literal = text.iter().position(|byte| matches!(byte, b'*' | b'>')).unwrap_or(text.len());
        // The bytes before the first wildcard, as far as heads hold them.
        let mask = if literal == 0 { 0 } else { !0u64 << (64 - 8 * literal.min(8)) };
        let wanted = head(text) & mask;
        for place in 0..SLOTS {
            let Some(plan) = &self.slots[place].plan else { continue };
            let may_match = self.heads[place] & mask == wanted && filter.matches(&plan.subject);
            let concerned = may_match || plan.mapped.as_ref().is_some_and(|mapped| filter.matches(mapped));
            if concerned && plan.account == account {
                self.evict(place);
            }
        }
    }
}

/// The first eight bytes, big-endian, padded with zeroes.
fn head(text: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = text.len().min(8);
    bytes[..len].copy_from_slice(&text[..len]);
    u64::from_be_bytes(bytes)
}

/// `.` at an end, or two in a row.
fn has_empty_token(subject: &[u8]) -> bool {
    let mut previous = b'.';
    for byte in subject {
        if *byte == b'.' && previous == b'.' {
            return true;
        }
        previous = *byte;
    }
    previous == b'.'
}

/// Equality of short texts without a call.
#[inline(always)]
fn equal_short(one: &[u8], two: &[u8]) -> bool {
    let len = one.len();
    if len != two.len() {
        return false;
    }
    if !(8..=64).contains(&len) {
        return one == two;
    }
    let word = |bytes: &[u8], at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(word)
    };
    let mut at = 0;
    let mut difference = 0;
    while at + 8 <= len {
        difference |= word(one, at) ^ word(two, at);
        at += 8;
    }
    difference |= word(one, len - 8) ^ word(two, len - 8);
    difference == 0
}
