//! NATS clients: the core protocol, from INFO to the last `-ERR`.
//!
//! ```text
//!   open: INFO ─► AwaitingConnect ─ CONNECT ─► Ready
//!                       │   └─ bcrypt ─► Authenticating ─ authenticated ─► Ready
//!                       └─ auth_timeout, bad credentials ─► -ERR, close
//! ```
//!
//! A server without authorization serves a peer that never sends CONNECT, with the protocol's defaults: verbose, pedantic, echo. Texts and
//! behaviour are those of nats-server 2.15.1. Not here: bytes ↔ operations ([`nats_proto::client`]), routing.

use std::rc::Rc;

use nats_proto::client::{ClientOp, Decoded, Limits, Publish, decode, decode_same};
use nats_proto::encode;
use nats_proto::handshake::{ConnectOptions, Handshake};
use nats_proto::refusal::Refusal;
use subject::Filter;

use crate::account::AccountId;
use crate::authorization::Verdict;
use crate::broker::{Broker, NewConnection, Protocol, Received};
use crate::connect;
use crate::connection::{Connection, Flow, Kind, SubscriptionNames};
use crate::effect::{CloseReason, Effect};
use crate::identity::{ConnectionId, Now};
use crate::outbox::{Frame, Outbox, Traffic};
use crate::plan::Plan;
use crate::routing::{Message, Origin};
use crate::subscription::{Interest, NewSubscription, Subscription, SubscriptionId};
use crate::trace;

/// A client is pinged for the first time so long after it connected, to learn its round trip.
const FIRST_PING_MICROS: u64 = 2_000_000;
/// Its round trip is measured again so often, even if it is never silent.
const RTT_INTERVAL_MICROS: u64 = 3_600_000_000;

/// What CONNECT asked for; what a peer gets that never sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) verbose: bool,
    pub(crate) pedantic: bool,
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) no_responders: bool,
    /// 1: the client takes INFO at any time.
    pub(crate) protocol: u8,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Credentials are needed before anything else.
    AwaitingConnect,
    /// The helper thread compares a password.
    Authenticating,
    Ready,
}

/// What a client says about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) name: Box<str>,
    pub(crate) lang: Box<str>,
    pub(crate) version: Box<str>,
    pub(crate) user: Option<Box<str>>,
}

/// A NATS client's state.
#[derive(Debug)]
pub(crate) struct NatsClient {
    pub(crate) options: Options,
    /// The second INFO went out.
    told: bool,
    pings_out: u8,
    /// When the last PING went out, microseconds.
    pinged: u64,
    pub(crate) rtt_micros: u32,
    pub(crate) subscriptions: SubscriptionNames,
    pub(crate) about: Option<Box<About>>,
}

/// A PUB or HPUB, its length on the wire, and the buffer of its own that it may have come in.
struct Published<'a> {
    publish: &'a Publish<'a>,
    length: usize,
    frame: Option<&'a Rc<Frame>>,
}

impl NatsClient {
    /// It is somebody, and may ask for things.
    pub(crate) fn is_ready(&self) -> bool {
        self.options.phase == Phase::Ready
    }
}

impl Broker {
    pub(crate) fn open_nats(&mut self, now: Now, id: ConnectionId, number: u64, new: &NewConnection, out: &mut Outbox) {
        let required = self.settings.authorization.is_required();
        let phase = if required { Phase::AwaitingConnect } else { Phase::Ready };
        let options = Options {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            phase,
        };
        let client = NatsClient {
            options,
            told: false,
            pings_out: 0,
            pinged: 0,
            rtt_micros: 0,
            subscriptions: SubscriptionNames::default(),
            about: None,
        };
        self.connections.insert(Connection::new(id, number, now, new, Kind::Nats(client)));
        if !required {
            // A client that never sends CONNECT is `no_auth_user`.
            let permissions = self.settings.authorization.permissions_of_name(None);
            self.set_permissions(id, permissions, out);
        }
        let info = connect::info(&self.settings, number, new);
        out.append(id, &info);
        let first_ping = FIRST_PING_MICROS.min(self.settings.ping_interval.as_micros() as u64);
        let deadline = if required { now.after(self.settings.auth_timeout) } else { now.micros + first_ping };
        self.set_deadline(id, deadline);
    }

    pub(crate) fn received_nats(
        &mut self,
        now: Now,
        id: ConnectionId,
        bytes: &[u8],
        frame: Option<&Rc<Frame>>,
        out: &mut Outbox,
    ) -> Received {
        let Some((account, mut options)) = self.nats_options(id) else {
            return Received { used: bytes.len(), ..Received::default() };
        };
        let mut limits = Limits { headers: options.headers, ..self.limits };
        let mut traffic = Traffic::default();
        let mut result = Received::default();
        let mut memo = self.memo(id);
        while result.used < bytes.len() {
            let rest = &bytes[result.used..];
            let same = memo.as_ref().filter(|plan| plan.is_valid() && options.phase == Phase::Ready);
            let flow = if let Some(plan) = same
                && let Some((publish, length)) = decode_same(rest, &plan.subject, &limits)
            {
                let published = Published { publish: &publish, length, frame };
                self.nats_publish(now, id, account, &options, plan, &published, &mut result, &mut traffic, out)
            } else {
                match decode(rest, &limits) {
                    Ok(Decoded::Op(ClientOp::Pub(publish), length))
                        if options.phase == Phase::Ready && self.is_publish_denied(now, id, publish.subject) =>
                    {
                        result.used += length;
                        traffic.messages += 1;
                        traffic.bytes += publish.message.len() as u64;
                        reply_error(id, &Refusal::PublishDenied { subject: publish.subject }, out);
                        self.warn_of_denial(id, out);
                        Flow::Go
                    }
                    Ok(Decoded::Op(ClientOp::Pub(publish), length)) if options.phase == Phase::Ready => {
                        let origin =
                            Origin { connection: Some(id), account, skip_own: !options.echo, from_leaf: false };
                        let plan = self.plan(origin, publish.subject);
                        memo = self.memo(id);
                        let published = Published { publish: &publish, length, frame };
                        let flow = self.nats_publish(
                            now,
                            id,
                            account,
                            &options,
                            &plan,
                            &published,
                            &mut result,
                            &mut traffic,
                            out,
                        );
                        // What must wait comes again.
                        if flow != Flow::Wait {
                            self.count_answer(id, publish.subject);
                        }
                        flow
                    }
                    Ok(Decoded::Op(operation, length)) => {
                        result.used += length;
                        let flow = self.nats_operation(now, id, &options, &operation, out);
                        if matches!(operation, ClientOp::Connect(_))
                            && let Some((_, changed)) = self.nats_options(id)
                        {
                            options = changed;
                            // It may be somebody else now.
                            memo = None;
                            limits.headers = changed.headers;
                        }
                        flow
                    }
                    Ok(Decoded::Incomplete { need }) => {
                        result.need = need;
                        break;
                    }
                    Err(error) => self.refuse(id, &error.refusal(), out),
                }
            };
            match flow {
                Flow::Go if out.wants_flush() => break,
                Flow::Go => {}
                Flow::Wait | Flow::Pause => {
                    result.pause = true;
                    break;
                }
                Flow::Stop => result.used = bytes.len(),
            }
        }
        self.count_received(id, traffic);
        result
    }

    fn nats_options(&self, id: ConnectionId) -> Option<(AccountId, Options)> {
        let connection = self.connections.entry(id)?;
        match &connection.kind {
            Kind::Nats(client) => Some((connection.account, client.options)),
            _ => None,
        }
    }

    fn nats_client_mut(&mut self, id: ConnectionId) -> Option<&mut NatsClient> {
        match &mut self.connections.entry_mut(id)?.kind {
            Kind::Nats(client) => Some(client),
            _ => None,
        }
    }

    fn memo(&self, id: ConnectionId) -> Option<Rc<Plan>> {
        self.connections.at(id.slot()).and_then(|connection| connection.memo.upgrade())
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // the hot path: inlined into its loop, in two places
    fn nats_publish(
        &mut self,
        now: Now,
        id: ConnectionId,
        account: AccountId,
        options: &Options,
        plan: &Plan,
        published: &Published<'_>,
        result: &mut Received,
        traffic: &mut Traffic,
        out: &mut Outbox,
    ) -> Flow {
        if plan.is_captured() && self.must_wait_for_store(now, id, plan) {
            return Flow::Wait;
        }
        let publish = published.publish;
        result.used += published.length;
        traffic.messages += 1;
        traffic.bytes += publish.message.len() as u64;
        let message = Message {
            reply: publish.reply.unwrap_or_default(),
            header_len: publish.header_len,
            tail: publish.tail,
            frame: published.frame,
            ..Message::new(publish.subject, publish.message)
        };
        if options.pedantic && !subject::is_literal(publish.subject) {
            reply_error(id, &Refusal::InvalidPublishSubject, out);
        }
        let origin = Origin { connection: Some(id), account, skip_own: !options.echo, from_leaf: false };
        let reached = if trace::is_asked(message.headers()) {
            self.route_traced(now, origin, plan, &message, out)
        } else {
            self.route(now, origin, plan, &message, out).reached
        };
        if reached == 0 && options.no_responders && publish.reply.is_some() {
            self.answer_no_responders(id, account, &message, out);
        }
        if options.verbose {
            out.append(id, encode::OK);
        }
        Flow::Go
    }

    fn answer_no_responders(&mut self, id: ConnectionId, account: AccountId, message: &Message<'_>, out: &mut Outbox) {
        let Some(subscription) = self.subscription_of(id, account, message.reply) else { return };
        let Some(entry) = self.subscriptions.entry_mut(subscription) else { return };
        entry.delivered += 1;
        let mut bytes = Vec::with_capacity(128);
        encode::no_responders(message.reply, &entry.token, message.subject, &mut bytes);
        let is_last = entry.delivered >= entry.max;
        out.deliver(id.slot(), &bytes, b"", 0);
        if is_last {
            self.unsubscribe(subscription);
        }
    }

    /// Everything but a publish of a client that may.
    fn nats_operation(
        &mut self,
        now: Now,
        id: ConnectionId,
        options: &Options,
        operation: &ClientOp<'_>,
        out: &mut Outbox,
    ) -> Flow {
        if options.phase != Phase::Ready && !matches!(operation, ClientOp::Connect(_)) {
            return self.refuse(id, &Refusal::AuthorizationViolation, out);
        }
        match operation {
            ClientOp::Connect(json) => return self.nats_connect(now, id, json, out),
            ClientOp::Ping => self.nats_ping(id, out),
            ClientOp::Pong => self.nats_pong(now, id),
            ClientOp::Sub { subject, queue, sid } => self.nats_subscribe(id, options, subject, *queue, sid, out),
            ClientOp::Unsub { sid, max } => {
                self.nats_unsubscribe(id, sid, max.unwrap_or(0));
                if options.verbose {
                    out.append(id, encode::OK);
                }
            }
            // A publish comes here only before CONNECT, and was refused above.
            ClientOp::Info | ClientOp::Ok | ClientOp::Err(_) | ClientOp::Pub(_) => {}
        }
        Flow::Go
    }

    fn nats_connect(&mut self, now: Now, id: ConnectionId, json: &[u8], out: &mut Outbox) -> Flow {
        let Ok(asked) = ConnectOptions::from_json(json) else {
            return self.refuse(id, &Refusal::UnknownOperation, out);
        };
        let Some(protocol) = u8::try_from(asked.protocol).ok().filter(|protocol| *protocol <= 1) else {
            return self.refuse(id, &Refusal::InvalidClientProtocol, out);
        };
        if asked.no_responders && !asked.headers {
            return self.refuse(id, &Refusal::NoRespondersNeedHeaders, out);
        }
        let Some(connection) = self.connections.entry(id) else { return Flow::Stop };
        let way = (Protocol::Nats, connection.transport);
        let verdict = self.settings.authorization.judge(&connect::credentials(&asked), way);
        let user =
            |index: Option<usize>| index.and_then(|index| self.settings.authorization.user_name(index)).map(Box::from);
        let (phase, user) = match &verdict {
            Verdict::Accepted(index) => (Phase::Ready, user(*index)),
            Verdict::Pending { user: index, .. } => (Phase::Authenticating, user(*index)),
            Verdict::Refused => {
                self.close_with(id, &Refusal::AuthorizationViolation, CloseReason::AuthenticationFailure, out);
                return Flow::Stop;
            }
        };
        let Some(client) = self.nats_client_mut(id) else { return Flow::Stop };
        client.options = Options {
            verbose: asked.verbose,
            pedantic: asked.pedantic,
            echo: asked.echo,
            headers: asked.headers,
            no_responders: asked.no_responders,
            protocol,
            phase,
        };
        client.about = Some(Box::new(About {
            name: asked.name.into(),
            lang: asked.lang.into(),
            version: asked.version.into(),
            user,
        }));
        if let Verdict::Pending { hash, password, .. } = verdict {
            out.effect(Effect::CheckPassword { id, password, hash });
            return Flow::Pause;
        }
        self.nats_ready(now, id, out);
        Flow::Go
    }

    /// Authorized: what it may do, and pings instead of the authentication's deadline.
    fn nats_ready(&mut self, now: Now, id: ConnectionId, out: &mut Outbox) {
        let user = self.nats_client_mut(id).and_then(|client| client.about.as_ref()?.user.clone());
        let permissions = self.settings.authorization.permissions_of_name(user.as_deref());
        self.set_permissions(id, permissions, out);
        if self.nats_options(id).is_some_and(|(_, options)| options.verbose) {
            out.append(id, encode::OK);
        }
        let first_ping = FIRST_PING_MICROS.min(self.settings.ping_interval.as_micros() as u64);
        self.set_deadline(id, now.micros + first_ping);
    }

    pub(crate) fn nats_authenticated(&mut self, now: Now, id: ConnectionId, correct: bool, out: &mut Outbox) {
        let Some(client) = self.nats_client_mut(id).filter(|client| client.options.phase == Phase::Authenticating)
        else {
            return;
        };
        if !correct {
            self.close_with(id, &Refusal::AuthorizationViolation, CloseReason::AuthenticationFailure, out);
            return;
        }
        client.options.phase = Phase::Ready;
        self.nats_ready(now, id, out);
        out.effect(Effect::WakeReader { id });
    }

    fn nats_ping(&mut self, id: ConnectionId, out: &mut Outbox) {
        out.append(id, encode::PONG);
        let account = self.connections.entry(id).map_or(crate::account::GLOBAL, |connection| connection.account);
        let Some(client) = self.nats_client_mut(id) else { return };
        if client.told || client.options.protocol == 0 {
            return;
        }
        client.told = true;
        let Some(connection) = self.connections.entry(id) else { return };
        let info = connect::second_info(&self.settings, connection, &self.accounts[account as usize].name);
        out.append(id, &info);
    }

    fn nats_pong(&mut self, now: Now, id: ConnectionId) {
        if let Some(client) = self.nats_client_mut(id) {
            client.pings_out = 0;
            client.rtt_micros = u32::try_from(now.micros.saturating_sub(client.pinged)).unwrap_or(u32::MAX).max(1);
        }
    }

    fn nats_subscribe(
        &mut self,
        id: ConnectionId,
        options: &Options,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
        out: &mut Outbox,
    ) {
        let Some(client) = self.nats_client_mut(id) else { return };
        let count = client.subscriptions.len();
        let limit = self.settings.max_subscriptions;
        let Ok(filter) = Filter::from_bytes(subject) else { return reply_error(id, &Refusal::InvalidSubject, out) };
        if !self.may_subscribe(id, &filter, queue) {
            self.warn_of_denial(id, out);
            return reply_error(id, &Refusal::SubscribeDenied { subject, queue }, out);
        }
        if limit > 0 && count >= limit {
            return reply_error(id, &Refusal::MaximumSubscriptions, out);
        }
        let account = self.connections.entry(id).map_or(crate::account::GLOBAL, |connection| connection.account);
        let known = self.nats_subscription(id, sid).is_some();
        if !known {
            let interest = Interest::Client { headers: options.headers };
            let new = NewSubscription { filter, queue: queue.map(Box::from), interest, token: sid.into() };
            let subscription = self.subscribe(id, account, new);
            if let Some(Connection { kind: Kind::Nats(client), .. }) = self.connections.entry_mut(id) {
                client.subscriptions.insert(sid, subscription, &self.subscriptions);
            }
        }
        if options.verbose {
            out.append(id, encode::OK);
        }
    }

    fn nats_subscription(&self, id: ConnectionId, sid: &[u8]) -> Option<SubscriptionId> {
        match &self.connections.entry(id)?.kind {
            Kind::Nats(client) => client.subscriptions.find(sid, &self.subscriptions),
            _ => None,
        }
    }

    fn nats_unsubscribe(&mut self, id: ConnectionId, sid: &[u8], max: u64) {
        let Some(subscription) = self.nats_subscription(id, sid) else { return };
        let Some(entry) = self.subscriptions.entry_mut(subscription) else { return };
        if max > entry.delivered {
            entry.max = max;
        } else {
            self.unsubscribe(subscription);
        }
    }

    /// A subscription of this client ended, by itself or by the client.
    pub(crate) fn forget_nats_subscription(&mut self, id: SubscriptionId, removed: &Subscription) {
        if let Some(client) = self.nats_client_mut(removed.connection) {
            client.subscriptions.remove(&removed.token, id);
        }
    }

    pub(crate) fn tick_nats(&mut self, now: Now, id: ConnectionId, out: &mut Outbox) {
        let interval = self.settings.ping_interval.as_micros() as u64;
        let ping_max = self.settings.ping_max;
        let Some(connection) = self.connections.entry_mut(id) else { return };
        let last_activity = connection.last_activity;
        let Kind::Nats(client) = &mut connection.kind else { return };
        if client.options.phase != Phase::Ready {
            self.close_with(id, &Refusal::AuthenticationTimeout, CloseReason::AuthenticationTimeout, out);
            return;
        }
        let silent = now.micros.saturating_sub(last_activity) >= interval;
        let wants_rtt = client.rtt_micros == 0 || now.micros.saturating_sub(client.pinged) > RTT_INTERVAL_MICROS;
        if silent || wants_rtt {
            if u32::from(client.pings_out) >= ping_max {
                self.close_with(id, &Refusal::StaleConnection, CloseReason::StaleConnection, out);
                return;
            }
            client.pings_out = client.pings_out.saturating_add(1);
            client.pinged = now.micros;
            out.append(id, encode::PING);
        }
        self.set_deadline(id, now.micros + interval);
    }

    fn refuse(&mut self, id: ConnectionId, refusal: &Refusal<'_>, out: &mut Outbox) -> Flow {
        let reason = match refusal {
            Refusal::MaximumPayload => CloseReason::MaxPayloadExceeded,
            Refusal::MaximumControlLine => CloseReason::MaxControlLineExceeded,
            Refusal::AuthorizationViolation => CloseReason::AuthenticationFailure,
            _ => CloseReason::ProtocolViolation,
        };
        self.close_with(id, refusal, reason, out);
        Flow::Stop
    }

    /// Tells a NATS client that this server is about to leave: an INFO with `ldm`, to those that understand later ones.
    pub(crate) fn announce_lame_duck(&mut self, id: ConnectionId, out: &mut Outbox) {
        let Some(connection) = self.connections.entry(id) else { return };
        if let Kind::Nats(client) = &connection.kind
            && client.options.protocol > 0
        {
            out.append(id, &connect::lame_duck_info(&self.settings, connection));
        }
    }

    /// Tells a NATS client why, and closes it.
    pub(crate) fn close_with(
        &mut self,
        id: ConnectionId,
        refusal: &Refusal<'_>,
        reason: CloseReason,
        out: &mut Outbox,
    ) {
        reply_error(id, refusal, out);
        self.close(id, reason, out);
    }
}

pub(crate) fn reply_error(id: ConnectionId, refusal: &Refusal<'_>, out: &mut Outbox) {
    let mut bytes = Vec::with_capacity(64);
    refusal.encode(&mut bytes);
    out.append(id, &bytes);
}
