//! From a published message to the buffers of those who want it.
//!
//! Every kind of client, the server itself and the store's deliveries publish through [`Broker::publish`]. Promises: a connection gets a message once
//! per matching subscription, a queue group once (a local member if there is one, drawn by the seed), a leaf link once, and never its own
//! back. Not here: whether the publisher may (the client kind's business), durability ([`crate::capture`]).

use std::rc::Rc;

use jetstream::command::Ticket;
use jetstream::identity::SessionId;

use crate::account::AccountId;
use crate::broker::Broker;
use crate::capture::NO_TICKET;
use crate::identity::{ConnectionId, Now};
use crate::outbox::{CHUNK, Frame, Outbox};
use crate::plan::{Plan, PlanContext, PlanTarget, Reach};
use crate::subscription::{NewSubscription, Subscription, SubscriptionId};

/// Who publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// The connection; `None`: the server itself.
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) account: AccountId,
    /// Its own subscriptions do not get the message: `echo: false`, leaf links.
    pub(crate) skip_own: bool,
    /// It came over a leaf link: it goes to no other.
    pub(crate) from_leaf: bool,
}

impl Origin {
    /// The server itself.
    pub(crate) fn server(account: AccountId) -> Origin {
        Origin { connection: None, account, skip_own: false, from_leaf: false }
    }

    /// A slot that no target has, when nothing is to be skipped.
    #[inline]
    fn skipped_slot(&self) -> u32 {
        match self.connection {
            Some(id) if self.skip_own => id.slot() as u32,
            _ => u32::MAX,
        }
    }
}

/// A message on its way, borrowed from wherever it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// What it is routed by.
    pub(crate) subject: &'a [u8],
    /// What subscribers see instead, if it is another: a delivery of a consumer is routed by its inbox.
    pub(crate) shown: Option<&'a [u8]>,
    /// Where answers go; empty: nowhere.
    pub(crate) reply: &'a [u8],
    /// Length of the header block at the beginning of `body`.
    pub(crate) header_len: usize,
    /// Headers and payload.
    pub(crate) body: &'a [u8],
    /// What stands behind the sid on the wire: `[reply ][header-length ]total CRLF body CRLF`, where the publisher's bytes can be used as
    /// they are; else it is written when the first target needs it.
    pub(crate) tail: Option<&'a [u8]>,
    /// The buffer that `tail` lies in, when it is large enough to be shared.
    pub(crate) frame: Option<&'a Rc<Frame>>,
    /// MQTT quality of service: the publisher's, 0 for everybody else. Routing raises it to 1 for what a stream captures or a link brings.
    pub(crate) quality: u8,
    /// The header block is nothing but `Nmqtt-Pub`, which is for NATS clients here: neither stored nor sent over links, see
    /// [`Message::without_mark`].
    pub(crate) marked: bool,
    /// The session that published it and does not want it back: a mosquitto bridge's.
    pub(crate) not_for: SessionId,
    /// The queue groups that may be served; `None`: all. A link names those that its hub picked.
    pub(crate) groups: Option<&'a [&'a [u8]]>,
    /// Whom the store's verdict is for, see [`crate::capture`].
    pub(crate) ticket: Ticket,
}

impl<'a> Message<'a> {
    /// A message that the server makes itself.
    pub(crate) fn new(subject: &'a [u8], body: &'a [u8]) -> Message<'a> {
        Message {
            subject,
            shown: None,
            reply: b"",
            header_len: 0,
            body,
            tail: None,
            frame: None,
            quality: 0,
            marked: false,
            not_for: SessionId::default(),
            groups: None,
            ticket: NO_TICKET,
        }
    }

    /// Header block; may be empty.
    pub(crate) fn headers(&self) -> &'a [u8] {
        &self.body[..self.header_len]
    }

    /// As streams and links get it: without `Nmqtt-Pub`. A stock MQTT subscriber behind a link would ignore a message that says 1 or 2, and
    /// wait for another one, on `$MQTT.msgs.…`, that never comes.
    pub(crate) fn without_mark(&self) -> Message<'a> {
        if !self.marked {
            return *self;
        }
        Message { body: self.payload(), header_len: 0, tail: None, marked: false, ..*self }
    }

    /// Without headers.
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.body[self.header_len..]
    }
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// Subscriptions, streams, services and the like that it went to.
    pub(crate) reached: usize,
    /// The slot of the last connection among them.
    pub(crate) last: Option<u32>,
    /// The store has it (or has refused it): the ticket's outcome follows or was given.
    pub(crate) stored: bool,
}

impl Broker {
    /// Routes a message to everything that wants it.
    pub(crate) fn publish(&mut self, now: Now, origin: Origin, message: &Message<'_>, out: &mut Outbox) -> Published {
        let plan = self.plan(origin, message.subject);
        self.route(now, origin, &plan, message, out)
    }

    /// The plan: the connection's last one, the cached one, or one made for this once.
    #[inline]
    pub(crate) fn plan(&mut self, origin: Origin, subject: &[u8]) -> Rc<Plan> {
        if let Some(connection) = origin.connection.and_then(|id| self.connections.at(id.slot()))
            && let Some(plan) = connection.memo.upgrade()
            && plan.is_valid_for(origin.account, subject)
        {
            return plan;
        }
        self.plan_from_cache(origin, subject)
    }

    fn plan_from_cache(&mut self, origin: Origin, subject: &[u8]) -> Rc<Plan> {
        let context = PlanContext {
            account_id: origin.account,
            account: &self.accounts[origin.account as usize],
            subscriptions: &self.subscriptions,
            connections: &self.connections,
            restricted: self.restricted > 0,
            sessions: &self.mqtt,
            settings: &self.settings,
        };
        let hash = self.plans.hash(subject);
        let (plan, cached) = self.plans.plan(hash, subject, &context);
        if let Some(connection) = origin.connection.and_then(|id| self.connections.at_mut(id.slot())) {
            // Remembered only when it comes twice in a row: alternating subjects would pay for the bookkeeping alone.
            // And only when it was not an answer that the connection owed, which it may give so many times only.
            if cached && connection.last_hash == hash && may_always_publish(connection, subject) {
                connection.memo = Rc::downgrade(&plan);
            }
            connection.last_hash = hash;
        }
        plan
    }

    pub(crate) fn route(
        &mut self,
        now: Now,
        origin: Origin,
        plan: &Plan,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> Published {
        let mut published = Published::default();
        let raised;
        let message = if plan.has_mqtt() {
            raised = self.prepare_for_mqtt(origin, plan, message);
            &raised
        } else {
            message
        };
        if plan.has_targets() {
            self.route_to_targets(origin, plan, message, &mut published, out);
            if !self.asked.is_empty() {
                self.note_requests(now, message.reply);
            }
        }
        if plan.is_captured() || !self.mqtt.picked.is_empty() {
            let captured = self.capture(now, origin, plan, message, out);
            published.reached += captured.reached;
            published.stored = captured.stored;
        }
        while let Some(id) = self.exhausted.pop() {
            self.unsubscribe(id);
        }
        published
    }

    #[inline]
    fn route_to_targets(
        &mut self,
        origin: Origin,
        plan: &Plan,
        message: &Message<'_>,
        published: &mut Published,
        out: &mut Outbox,
    ) {
        let mut tail = Tail::new(message, &mut self.tail);
        let skipped = origin.skipped_slot();
        for target in plan.everybody() {
            if target.slot != skipped && !(origin.from_leaf && matches!(target.reach, Reach::Leaf(_))) {
                self.deliver(plan, target, message, &mut tail, out);
                published.reached += 1;
                published.last = Some(target.slot);
            }
        }
        if plan.has_groups() {
            for members in plan.groups() {
                if self.may_serve(members, message)
                    && let Some(target) = self.pick(members, skipped, origin.from_leaf)
                {
                    self.deliver(plan, &target, message, &mut tail, out);
                    published.reached += 1;
                    published.last = Some(target.slot);
                }
            }
        }
        if !self.leaf_picks.is_empty() {
            self.deliver_to_picked_leaves(plan.routed_subject(), message, out);
        }
        if message.tail.is_none() && tail.made.capacity() <= CHUNK {
            self.tail = tail.made;
        }
    }

    /// Is this group among those that the message may be given to?
    fn may_serve(&self, members: &[PlanTarget], message: &Message<'_>) -> bool {
        let Some(groups) = message.groups else { return true };
        let first = members.first().and_then(|target| self.subscriptions.entry(target.subscription));
        first.and_then(|entry| entry.queue.as_deref()).is_some_and(|queue| groups.contains(&queue))
    }

    /// One member of a queue group. Local ones first; a leaf link stands for those behind it.
    fn pick(&mut self, members: &[PlanTarget], skipped: u32, local_only: bool) -> Option<PlanTarget> {
        let is_local = |target: &&PlanTarget| !matches!(target.reach, Reach::Leaf(_));
        let fits = |target: &&PlanTarget| target.slot != skipped && (!local_only || is_local(target));
        let weight =
            |target: &PlanTarget| if let Reach::Leaf(weight) = target.reach { weight.max(1) as usize } else { 1 };
        let local = members.iter().filter(fits).filter(is_local).count();
        if local > 0 {
            let nth = self.random.below(local);
            return members.iter().filter(fits).filter(is_local).nth(nth).copied();
        }
        let total: usize = members.iter().filter(fits).map(weight).sum();
        if total == 0 {
            return None;
        }
        let mut nth = self.random.below(total);
        members
            .iter()
            .filter(fits)
            .find(|target| {
                nth < weight(target) || {
                    nth -= weight(target);
                    false
                }
            })
            .copied()
    }

    #[inline]
    fn deliver(
        &mut self,
        plan: &Plan,
        target: &PlanTarget,
        message: &Message<'_>,
        tail: &mut Tail<'_>,
        out: &mut Outbox,
    ) {
        if let Some(subscription) = self.subscriptions.entry_mut(target.subscription) {
            subscription.delivered += 1;
            if subscription.delivered >= subscription.max {
                self.exhausted.push(target.subscription);
            }
        }
        if target.reach == Reach::Client && message.shown.is_none() && message.frame.is_none() {
            let prefix = plan.prefix(target);
            let prefix = if message.header_len == 0 { &prefix[1..] } else { prefix };
            out.deliver(target.slot as usize, prefix, tail.bytes(message), message.body.len());
            return;
        }
        self.deliver_specially(plan, target, message, tail, out);
    }

    /// Everything but a small message with its own subject to a client that takes it as it is.
    fn deliver_specially(
        &mut self,
        plan: &Plan,
        target: &PlanTarget,
        message: &Message<'_>,
        tail: &mut Tail<'_>,
        out: &mut Outbox,
    ) {
        let slot = target.slot as usize;
        match target.reach {
            // Queue groups behind the link are named in the one copy it gets, when all are known.
            Reach::Leaf(_) => self.leaf_picks.push((target.slot, target.subscription)),
            Reach::Internal(subscription) => self.notices.push_back(crate::effect::Notice::Message {
                subscription,
                subject: plan.routed_subject().into(),
                headers: message.headers().into(),
                payload: message.payload().into(),
            }),
            Reach::Origin(number) => self.origin_message(number, plan.routed_subject(), message, out),
            Reach::Mqtt(grant) => self.deliver_to_mqtt(slot, grant, plan.routed_subject(), message, out),
            Reach::Client | Reach::ClientWithoutHeaders | Reach::Answerer { .. } => {
                if matches!(target.reach, Reach::Answerer { .. }) {
                    self.asked.push(target.slot);
                }
                let mut prefix = std::mem::take(&mut self.prefix);
                prefix.clear();
                let bare = matches!(target.reach, Reach::ClientWithoutHeaders | Reach::Answerer { headers: false });
                let strip = bare && message.header_len > 0;
                if strip || message.header_len == 0 {
                    prefix.extend_from_slice(b"MSG ");
                } else {
                    prefix.extend_from_slice(b"HMSG ");
                }
                prefix.extend_from_slice(message.shown.unwrap_or(plan.routed_subject()));
                prefix.push(b' ');
                prefix.extend_from_slice(plan.prefix_sid(target));
                if strip {
                    nats_proto::encode::message_tail(non_empty(message.reply), 0, message.payload(), &mut prefix);
                    out.deliver(slot, &prefix, b"", message.payload().len());
                } else {
                    deliver_tail(slot, &prefix, message, tail.bytes(message), out);
                }
                self.prefix = prefix;
            }
        }
    }

    // ---- interest

    /// Adds a subscription of a connection. The client kind keeps the id and ends it with [`Broker::unsubscribe`].
    pub(crate) fn subscribe(
        &mut self,
        connection: ConnectionId,
        account: AccountId,
        new: NewSubscription,
    ) -> SubscriptionId {
        let NewSubscription { filter, queue, interest, token } = new;
        let subscription =
            Subscription { connection, account, interest, filter, queue, token, delivered: 0, max: u64::MAX };
        let id = self.subscriptions.insert(subscription);
        self.interest_changed(id, true);
        id
    }

    /// Ends a subscription; tells the client kind nothing, except that a NATS client forgets its sid.
    pub(crate) fn unsubscribe(&mut self, id: SubscriptionId) {
        if self.subscriptions.entry(id).is_none() {
            return;
        }
        self.interest_changed(id, false);
        if let Some(removed) = self.subscriptions.remove(id) {
            self.forget_subscription(id, &removed);
        }
    }

    fn interest_changed(&mut self, id: SubscriptionId, added: bool) {
        let Some(subscription) = self.subscriptions.entry(id) else { return };
        let account = subscription.account;
        let index = &mut self.accounts[account as usize].index;
        let target = crate::account::Target::Subscription(id);
        if added {
            index.insert(&subscription.filter, target);
        } else {
            index.remove(&subscription.filter, &target);
        }
        let filter = subscription.filter.clone();
        self.plans.interest_changed(account, &filter);
        self.leaf_interest_changed(id, added);
        self.audience_changed(account, &filter);
    }

    /// Adds or removes a row that is no subscription.
    pub(crate) fn change_row(
        &mut self,
        account: AccountId,
        filter: &subject::Filter,
        target: crate::account::Target,
        added: bool,
    ) {
        let index = &mut self.accounts[account as usize].index;
        if added {
            index.insert(filter, target);
        } else {
            index.remove(filter, &target);
        }
        self.plans.interest_changed(account, filter);
        self.leaf_row_changed(filter, &target, added);
        if target.listens() {
            self.audience_changed(account, filter);
        }
    }

    /// Does a connection have a subscription for this subject; its name for it?
    pub(crate) fn subscription_of(
        &self,
        id: ConnectionId,
        account: AccountId,
        subject: &[u8],
    ) -> Option<SubscriptionId> {
        let mut found = None;
        self.accounts[account as usize].index.for_each_match(subject, |target| {
            if let crate::account::Target::Subscription(subscription) = target
                && self.subscriptions.entry(*subscription).is_some_and(|entry| entry.connection == id)
            {
                found = Some(*subscription);
            }
        });
        found
    }
}

fn may_always_publish(connection: &crate::connection::Connection, subject: &[u8]) -> bool {
    connection.allowance.as_ref().is_none_or(|allowance| allowance.permissions.may_publish(subject))
}

fn deliver_tail(slot: usize, prefix: &[u8], message: &Message<'_>, tail: &[u8], out: &mut Outbox) {
    if let Some(frame) = message.frame {
        let start = (tail.as_ptr() as usize).wrapping_sub(frame.bytes().as_ptr() as usize);
        if start.checked_add(tail.len()).is_some_and(|end| end <= frame.bytes().len()) {
            out.deliver_shared(slot, prefix, frame, start..start + tail.len(), message.body.len());
            return;
        }
    }
    out.deliver(slot, prefix, tail, message.body.len());
}

/// `None` for an empty reply.
pub(crate) fn non_empty(reply: &[u8]) -> Option<&[u8]> {
    (!reply.is_empty()).then_some(reply)
}

/// The publisher's bytes behind the subject, or ours, written when first needed.
pub(crate) struct Tail<'a> {
    given: Option<&'a [u8]>,
    made: Vec<u8>,
    is_made: bool,
}

impl<'a> Tail<'a> {
    /// Borrows the memory of the last one only if it will be written to.
    #[inline]
    fn new(message: &Message<'a>, memory: &mut Vec<u8>) -> Tail<'a> {
        let made = if message.tail.is_some() { Vec::new() } else { std::mem::take(memory) };
        Tail { given: message.tail, made, is_made: false }
    }

    #[inline]
    pub(crate) fn bytes(&mut self, message: &Message<'_>) -> &[u8] {
        if let Some(given) = self.given {
            return given;
        }
        if !self.is_made {
            self.made.clear();
            nats_proto::encode::message_tail(
                non_empty(message.reply),
                message.header_len,
                message.body,
                &mut self.made,
            );
            self.is_made = true;
        }
        &self.made
    }
}

/// A small generator for choices that only need to be even: xorshift64*.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * limit as u64) >> 32) as usize
    }
}
