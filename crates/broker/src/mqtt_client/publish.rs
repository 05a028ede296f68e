//! PUBLISH of a client, and its PUBACK.
//!
//! A PUBACK leaves when the commit of everything that the message makes the store do is back, or at once when there is nothing to store; always
//! in the order of the publishes [MQTT-4.6.0-2]. What the store refuses gets none: 3.1.1 has no negative PUBACK, so the client is closed and
//! keeps the message.

use std::rc::Rc;

use jetstream::command::{Outcome, Ticket};
use mqtt_proto::packet::{Acknowledgement as Puback, Delivery, Packet, Publish};
use mqtt_proto::topic::{is_reserved, topic_to_subject};
use mqtt_proto::{DecodeError, PacketId, Version};

use super::{Acknowledgement, FOR_PUBACK, FOR_ROW, Flow, Phase, answer, ticket};
use crate::broker::Broker;
use crate::capture::NO_TICKET;
use crate::effect::{CloseReason, Effect};
use crate::identity::{ConnectionId, Now};
use crate::outbox::{Frame, Outbox};
use crate::plan::Plan;
use crate::routing::{Message, Origin};

/// What NATS clients see of a publish's quality, as stock tells them.
const MARKS: [&[u8]; 2] = [b"NATS/1.0\r\nNmqtt-Pub: 0\r\n\r\n", b"NATS/1.0\r\nNmqtt-Pub: 1\r\n\r\n"];
/// An acknowledgement list that grew beyond this is freed when it is empty.
const KEEP_ACKNOWLEDGEMENTS: usize = 64;
/// Buffers beyond this are not kept for the next message.
const KEEP_BODY: usize = 64 * 1024;

impl Broker {
    pub(super) fn mqtt_publish(
        &mut self,
        now: Now,
        id: ConnectionId,
        publish: &Publish<'_>,
        frame: Option<&Rc<Frame>>,
        out: &mut Outbox,
    ) -> Flow {
        if publish.payload.len() > self.settings.max_payload {
            return self.stop_mqtt(id, CloseReason::MaxPayloadExceeded, out);
        }
        let packet = match publish.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce { id, .. } => Some(id),
            Delivery::ExactlyOnce { .. } => {
                self.counters.mqtt.refused_quality += 1;
                return self.stop_mqtt(id, CloseReason::QualityNotServed, out);
            }
        };
        if let Some(flow) = packet.and_then(|_| self.must_wait_for_acknowledgements(id)) {
            return flow;
        }
        if is_reserved(publish.topic) {
            self.counters.mqtt.reserved_topics += 1;
            self.owe_puback(id, packet, true, out);
            return Flow::Go;
        }
        if self.mqtt.published != publish.topic {
            self.mqtt.published.clear();
            self.mqtt.subject.clear();
            if topic_to_subject(publish.topic, &mut self.mqtt.subject).is_err() {
                // The decoder looked already; what is left are limits of subjects.
                let error = DecodeError::TopicName("it has no subject");
                return self.refuse_packet(id, &error, Some(Version::V311), &[], out);
            }
            self.mqtt.published.push_str(publish.topic);
        }
        let subject = std::mem::take(&mut self.mqtt.subject);
        let flow = self.publish_to(now, id, &subject, packet, publish, frame, out);
        self.mqtt.subject = subject;
        flow
    }

    #[allow(clippy::too_many_arguments)] // the hot path: a struct of them would be built per message
    fn publish_to(
        &mut self,
        now: Now,
        id: ConnectionId,
        subject: &str,
        packet: Option<PacketId>,
        publish: &Publish<'_>,
        frame: Option<&Rc<Frame>>,
        out: &mut Outbox,
    ) -> Flow {
        let Some(connection) = self.connections.entry(id) else { return Flow::Stop };
        let account = connection.account;
        let Some(client) = self.mqtt_client(id) else { return Flow::Stop };
        let (bridge, session) = (client.bridge, client.session);
        if self.is_publish_denied(now, id, subject.as_bytes()) {
            // 3.1.1 has no way to say so but the close: acknowledged and dropped, as stock does. [MQTT-3.3.5-2]
            self.counters.mqtt.denied += 1;
            self.warn_of_denial(id, out);
            self.owe_puback(id, packet, true, out);
            return Flow::Go;
        }
        let origin = Origin { connection: Some(id), account, skip_own: bridge, from_leaf: false };
        let plan = self.plan(origin, subject.as_bytes());
        if plan.is_captured() && self.must_wait_for_store(now, id, &plan) {
            return Flow::Wait;
        }
        if publish.retain {
            self.counters.mqtt.not_retained += 1;
            self.warn_of_retain(id, out);
        }
        self.owe_puback(id, packet, false, out);
        let quality = u8::from(packet.is_some());
        let body = self.marked_body(&plan, quality, publish.payload);
        let mut message = Message {
            quality,
            frame,
            ticket: packet.map_or(NO_TICKET, |packet| ticket(id, FOR_PUBACK, packet.value())),
            ..Message::new(subject.as_bytes(), publish.payload)
        };
        if bridge {
            message.not_for = session;
        }
        if let Some(body) = &body {
            message.body = body;
            message.header_len = MARKS[0].len();
            message.marked = true;
        }
        let published = self.route(now, origin, &plan, &message, out);
        if let Some(body) = body.filter(|body| body.capacity() <= KEEP_BODY) {
            self.mqtt.body = body;
        }
        if let Some(packet) = packet.filter(|_| !published.stored) {
            self.puback_is_due(id, packet, out);
        }
        if packet.is_some() && plan.has_mqtt() && self.must_wait_for_subscriber(now, id) {
            return Flow::Pause;
        }
        Flow::Go
    }

    /// The payload behind `Nmqtt-Pub`, when somebody is to see that.
    fn marked_body(&mut self, plan: &Plan, quality: u8, payload: &[u8]) -> Option<Vec<u8>> {
        if !plan.has_clients() {
            return None;
        }
        let mut body = std::mem::take(&mut self.mqtt.body);
        body.clear();
        body.extend_from_slice(MARKS[usize::from(quality)]);
        body.extend_from_slice(payload);
        Some(body)
    }

    /// A client with too many unacknowledged publishes is not read until half of them are.
    fn must_wait_for_acknowledgements(&mut self, id: ConnectionId) -> Option<Flow> {
        let most = self.settings.mqtt.max_receive;
        let client = self.mqtt_client_mut(id)?;
        client.full = client.acknowledgements.len() >= most;
        client.full.then_some(Flow::Wait)
    }

    /// Notes a PUBACK for a publish of quality 1.
    fn owe_puback(&mut self, id: ConnectionId, packet: Option<PacketId>, due: bool, out: &mut Outbox) {
        let Some(packet) = packet else { return };
        let Some(client) = self.mqtt_client_mut(id) else { return };
        if due && client.acknowledgements.is_empty() {
            answer(id, &Packet::Puback(Puback::success(packet)), out);
        } else {
            client.acknowledgements.push_back(Acknowledgement { id: packet, due });
        }
    }

    /// One more publish needs nothing of the store any more: sends the PUBACKs up to the first that does.
    fn puback_is_due(&mut self, id: ConnectionId, packet: PacketId, out: &mut Outbox) {
        let most = self.settings.mqtt.max_receive;
        let Some(client) = self.mqtt_client_mut(id) else { return };
        let owed = &mut client.acknowledgements;
        if let Some(entry) = owed.iter_mut().find(|entry| entry.id == packet && !entry.due) {
            entry.due = true;
        }
        while let Some(entry) = owed.front().copied().filter(|entry| entry.due) {
            owed.pop_front();
            let [high, low] = entry.id.value().to_be_bytes();
            out.append(id, &[0x40, 2, high, low]);
        }
        if owed.is_empty() && owed.capacity() > KEEP_ACKNOWLEDGEMENTS {
            *owed = std::collections::VecDeque::new();
        }
        if client.full && client.acknowledgements.len() <= most / 2 {
            client.full = false;
            out.effect(Effect::WakeReader { id });
        }
    }

    /// What it had the store do is committed, or was refused. See [`crate::capture`] for tickets.
    pub(crate) fn mqtt_stored(&mut self, now: Now, ticket: Ticket, outcome: &Outcome, out: &mut Outbox) {
        let id = ConnectionId::from_bits(ticket.0);
        let refused = matches!(outcome, Outcome::Refused(_));
        match ticket.1 & !0xffff {
            FOR_PUBACK if refused => {
                self.counters.mqtt.refused += 1;
                self.close(id, CloseReason::PublishRefused, out);
            }
            FOR_PUBACK => {
                if let Some(packet) = PacketId::new(ticket.1 as u16) {
                    self.puback_is_due(id, packet, out);
                }
            }
            FOR_ROW if refused => self.close(id, CloseReason::PublishRefused, out),
            FOR_ROW => self.row_stored(now, id, out),
            // A record that nobody waits for.
            _ => {}
        }
    }

    /// The session's row is committed: what waited for it leaves.
    fn row_stored(&mut self, now: Now, id: ConnectionId, out: &mut Outbox) {
        let Some(client) = self.mqtt_client_mut(id) else { return };
        let session = client.session;
        let Some(bytes) = client.held.take() else { return };
        let opening = client.phase == Phase::Opening;
        out.append(id, &bytes);
        self.mqtt.committed(session);
        if opening {
            self.mqtt_ready(now, id);
        }
        out.effect(Effect::WakeReader { id });
    }
}
