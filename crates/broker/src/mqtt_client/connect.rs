//! CONNECT, take-over, and the end of a connection.

use jetstream::command::Command;
use jetstream::identity::SessionId;
use mqtt_proto::packet::{Connack, Connect, Packet};
use mqtt_proto::property::Properties;
use mqtt_proto::record::WillRecord;
use mqtt_proto::{ReasonCode, Version};

use super::{FOR_ROW, Flow, MqttClient, Phase, answer, ticket};
use crate::account::GLOBAL;
use crate::authorization::{Credentials, Verdict};
use crate::broker::{Broker, Protocol};
use crate::connection::Kind;
use crate::effect::{CloseReason, Effect};
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;
use crate::routing::{Message, Origin};

/// CONNACK return codes of 3.1.1.
const SERVER_UNAVAILABLE: u8 = 3;
const NOT_AUTHORIZED: u8 = 5;

/// What a CONNECT said, kept while its answer waits.
#[derive(Debug)]
pub(super) struct Offer {
    client_id: Box<str>,
    clean: bool,
    bridge: bool,
    keep_alive: u16,
    will: Option<Box<WillRecord>>,
    /// Index of the user it is, or would be with the password being compared.
    user: Option<usize>,
}

impl Broker {
    pub(super) fn mqtt_connect(&mut self, now: Now, id: ConnectionId, connect: &Connect<'_>, out: &mut Outbox) -> Flow {
        if connect.version == Version::V5 {
            let refusal = Connack::refused(ReasonCode::UnsupportedProtocolVersion, Properties::EMPTY);
            let mut bytes = Vec::new();
            refusal.encode(Version::V5, &mut bytes);
            out.append(id, &bytes);
            return self.stop_mqtt(id, CloseReason::ProtocolViolation, out);
        }
        let verdict = self.judge_mqtt(id, connect);
        let (user, check) = match verdict {
            Verdict::Accepted(user) => (user, None),
            Verdict::Pending { user, hash, password } => (user, Some((hash, password))),
            Verdict::Refused => {
                return self.refuse_connect(id, NOT_AUTHORIZED, CloseReason::AuthenticationFailure, out);
            }
        };
        let Some(client) = self.mqtt_client_mut(id) else { return Flow::Stop };
        client.offer = Some(Box::new(Offer {
            client_id: connect.client_id.into(),
            clean: connect.clean,
            bridge: connect.bridge,
            keep_alive: connect.keep_alive,
            will: connect.will.as_ref().map(|will| Box::new(WillRecord::from(will))),
            user,
        }));
        let Some((hash, password)) = check else { return self.admit(now, id, out) };
        client.phase = Phase::Authenticating;
        self.set_deadline(id, now.after(self.settings.mqtt.connect_timeout));
        out.effect(Effect::CheckPassword { id, password, hash });
        Flow::Pause
    }

    fn judge_mqtt(&self, id: ConnectionId, connect: &Connect<'_>) -> Verdict {
        let Some(connection) = self.connections.entry(id) else { return Verdict::Refused };
        let way = (Protocol::Mqtt, connection.transport);
        let rule = self.settings.mqtt.authorization.as_ref().unwrap_or(&self.settings.authorization);
        let Ok(password) = connect.password.map(std::str::from_utf8).transpose() else { return Verdict::Refused };
        rule.judge(&Credentials { user: connect.user_name.filter(|name| !name.is_empty()), password, token: None }, way)
    }

    fn refuse_connect(&mut self, id: ConnectionId, code: u8, reason: CloseReason, out: &mut Outbox) -> Flow {
        answer(id, &Packet::Connack(Connack::refused_311(code)), out);
        self.stop_mqtt(id, reason, out)
    }

    pub(crate) fn mqtt_authenticated(&mut self, now: Now, id: ConnectionId, correct: bool, out: &mut Outbox) {
        if self.mqtt_client(id).is_none_or(|client| client.phase != Phase::Authenticating) {
            return;
        }
        if !correct {
            self.refuse_connect(id, NOT_AUTHORIZED, CloseReason::AuthenticationFailure, out);
        } else if self.admit(now, id, out) == Flow::Go {
            out.effect(Effect::WakeReader { id });
        }
    }

    /// The client may; the sessions must be known before it can be answered.
    fn admit(&mut self, now: Now, id: ConnectionId, out: &mut Outbox) -> Flow {
        // From here on it is we who take time.
        self.set_deadline(id, 0);
        if self.settings.jetstream.is_some() && !self.mqtt.is_loaded() {
            self.load_mqtt_sessions();
            self.mqtt.waiting.push(id);
            if let Some(client) = self.mqtt_client_mut(id) {
                client.phase = Phase::AwaitingSessions;
            }
            return Flow::Pause;
        }
        self.establish(now, id, out)
    }

    /// The sessions are read, or could not be.
    pub(super) fn admit_waiting(&mut self, now: Now, out: &mut Outbox) {
        for id in std::mem::take(&mut self.mqtt.waiting) {
            if self.mqtt_client(id).is_none_or(|client| client.phase != Phase::AwaitingSessions) {
                continue;
            }
            if !self.mqtt.is_loaded() {
                self.refuse_connect(id, SERVER_UNAVAILABLE, CloseReason::AuthenticationFailure, out);
            } else if self.establish(now, id, out) == Flow::Go {
                out.effect(Effect::WakeReader { id });
            }
        }
    }

    /// Joins connection and session, and answers CONNECT as soon as what that changes is stored.
    fn establish(&mut self, now: Now, id: ConnectionId, out: &mut Outbox) -> Flow {
        let Some(offer) = self.mqtt_client_mut(id).and_then(|client| client.offer.take()) else { return Flow::Stop };
        let stored = self.mqtt.session_of(&offer.client_id);
        let no_room = stored.is_none() && self.mqtt.len() >= self.settings.mqtt.max_sessions;
        if !offer.clean && (self.settings.jetstream.is_none() || no_room) {
            return self.refuse_connect(id, SERVER_UNAVAILABLE, CloseReason::AuthenticationFailure, out);
        }
        if let Some(old) = self.mqtt.connection_of(&offer.client_id) {
            self.take_over(now, old, out);
        }
        let rule = self.settings.mqtt.authorization.as_ref().unwrap_or(&self.settings.authorization);
        self.set_permissions(id, rule.permissions_of(offer.user), out);
        let owner: Box<str> = offer.user.and_then(|user| self.mqtt_user_name(user)).unwrap_or_default().into();
        let will = offer.will.filter(|will| self.may_leave_will(now, id, will, out));
        let session = match stored {
            Some(session) if offer.clean => {
                self.drop_session(session, ticket(id, FOR_ROW, 0));
                None
            }
            None if !offer.clean => Some(self.create_session(&offer.client_id, owner.clone())),
            stored => stored,
        };
        let has_will = will.is_some();
        let retained_will = will.as_ref().is_some_and(|will| will.retain);
        self.mqtt.connect(&offer.client_id, id);
        let Some(client) = self.mqtt_client_mut(id) else { return Flow::Stop };
        client.keep_alive = offer.keep_alive;
        client.bridge = offer.bridge;
        client.will = will;
        client.session = session.unwrap_or_default();
        client.client_id = offer.client_id;
        // A session that no client was ever told of is a new one: it has no subscriptions, and its client must not believe otherwise.
        let present = session.is_some_and(|session| self.mqtt.is_committed(session));
        let mut held = session.is_none() && stored.is_some();
        if let Some(session) = session {
            held = self.join_session(id, session, &owner, offer.bridge, has_will);
        }
        if retained_will {
            self.warn_of_retain(id, out);
        }
        self.answer_connect(now, id, present, held, out)
    }

    /// Subscribes the connection to what its session asks for and has the queue delivered; returns whether the row must be written first.
    fn join_session(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        owner: &str,
        bridge: bool,
        has_will: bool,
    ) -> bool {
        let window = self.settings.mqtt.max_inflight;
        let mut write = self.mqtt.change_owner(session, owner);
        if write {
            // What is hidden from the session depends on who has it.
            self.plans.forget_all();
        }
        for (filter, granted) in self.mqtt.filters_of(session) {
            // What its user may not have any more is no part of the session any more.
            if !self.add_live(id, &filter, granted) {
                self.remove_session_filter(session, &filter);
                write = true;
            }
        }
        write |= self.mqtt.join(session, id, bridge, has_will);
        if write {
            self.write_session(session, ticket(id, FOR_ROW, 0));
        }
        self.store.push(|_| Command::QueueAttach { session, window });
        write
    }

    // [MQTT-3.2.2-2], [MQTT-3.2.2-3]
    fn answer_connect(&mut self, now: Now, id: ConnectionId, present: bool, held: bool, out: &mut Outbox) -> Flow {
        let connack = Packet::Connack(Connack::accepted(present, Properties::EMPTY));
        if !held {
            answer(id, &connack, out);
            self.mqtt_ready(now, id);
            return Flow::Go;
        }
        let mut bytes = Vec::with_capacity(4);
        connack.encode(Version::V311, &mut bytes);
        if let Some(client) = self.mqtt_client_mut(id) {
            client.phase = Phase::Opening;
            client.held = Some(bytes.into());
        }
        Flow::Pause
    }

    pub(super) fn mqtt_ready(&mut self, now: Now, id: ConnectionId) {
        if let Some(client) = self.mqtt_client_mut(id) {
            client.phase = Phase::Ready;
        }
        self.set_keep_alive(now, id);
    }

    fn mqtt_user_name(&self, index: usize) -> Option<&str> {
        self.settings.mqtt.authorization.as_ref().unwrap_or(&self.settings.authorization).user_name(index)
    }

    /// Is the client permitted to publish its will? One that it is not is forgotten: stock drops it when the time comes.
    fn may_leave_will(&mut self, now: Now, id: ConnectionId, will: &WillRecord, out: &mut Outbox) -> bool {
        let mut subject = String::new();
        let is_subject = mqtt_proto::topic::topic_to_subject(&will.topic, &mut subject).is_ok();
        let denied = is_subject && self.is_publish_denied(now, id, subject.as_bytes());
        if denied {
            self.counters.mqtt.denied += 1;
            self.warn_of_denial(id, out);
        }
        !denied
    }

    /// Another connection has the same client identifier: this one ends, its will is published, its session stays whole. [MQTT-3.1.4-2]
    fn take_over(&mut self, now: Now, old: ConnectionId, out: &mut Outbox) {
        if let Some(connection) = self.connections.entry_mut(old)
            && let Kind::Mqtt(client) = &mut connection.kind
        {
            let client = std::mem::take(&mut **client);
            self.end_client(now, old, client, out);
            self.close(old, CloseReason::DuplicateClient, out);
        }
    }

    /// The client leaves with a word: no will. [MQTT-3.14.4-3]
    pub(super) fn mqtt_disconnect(&mut self, id: ConnectionId, out: &mut Outbox) -> Flow {
        if let Some(client) = self.mqtt_client_mut(id) {
            client.will = None;
        }
        self.stop_mqtt(id, CloseReason::ClientClosed, out)
    }

    pub(crate) fn closed_mqtt(&mut self, now: Now, id: ConnectionId, client: MqttClient, out: &mut Outbox) {
        self.end_client(now, id, client, out);
    }

    fn end_client(&mut self, now: Now, id: ConnectionId, client: MqttClient, out: &mut Outbox) {
        for subscription in client.subscriptions.ids() {
            self.unsubscribe(subscription);
        }
        if let Some(outgoing) = client.outgoing {
            out.release(outgoing.bytes());
        }
        if client.phase == Phase::Over {
            return;
        }
        self.mqtt.disconnect(&client.client_id, id);
        if client.session != SessionId::default() && self.mqtt.leave(client.session, id) {
            self.store.push(|_| Command::QueueDetach { session: client.session });
        }
        // Who was never told that it is connected leaves no will. [MQTT-3.1.2-8]
        if let Some(will) = client.will.filter(|_| client.phase == Phase::Ready) {
            self.publish_will(now, &will, out);
        }
        self.forget_will(client.session);
    }

    /// Nobody is told what becomes of it.
    pub(super) fn publish_will(&mut self, now: Now, will: &WillRecord, out: &mut Outbox) {
        let mut subject = String::new();
        if mqtt_proto::topic::is_reserved(&will.topic)
            || mqtt_proto::topic::topic_to_subject(&will.topic, &mut subject).is_err()
        {
            self.counters.mqtt.reserved_topics += 1;
            return;
        }
        self.counters.mqtt.not_retained += u64::from(will.retain);
        let message = Message { quality: will.qos.bits().min(1), ..Message::new(subject.as_bytes(), &will.payload) };
        self.publish(now, Origin::server(GLOBAL), &message, out);
    }
}
