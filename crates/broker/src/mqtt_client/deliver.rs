//! A routed message to a live client.
//!
//! The head of a PUBLISH of quality 0 is encoded once per routing, whatever the number of clients. Quality 1 of a clean session lives in memory:
//! what the window has no room for waits, bounded in number, in bytes and by the budget of all connections; what comes then is dropped and
//! counted. Quality 1 of a stored session is its queue's business.

use std::collections::VecDeque;

use jetstream::command::QueueFor;
use jetstream::identity::SessionId;
use mqtt_proto::packet::{Acknowledgement, Delivery, Packet, Publish};
use mqtt_proto::property::Properties;
use mqtt_proto::session::{Outbound, PubackOutcome};
use mqtt_proto::topic::subject_bytes_to_topic;
use mqtt_proto::{PacketId, Qos, Version};

use super::{Flow, Phase, answer};
use crate::broker::Broker;
use crate::connection::Kind;
use crate::effect::CloseReason;
use crate::identity::ConnectionId;
use crate::outbox::Outbox;
use crate::plan::Plan;
use crate::routing::{Message, Origin};
use crate::subscription::MqttGrant;

/// Messages of quality 1 on their way to one client.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Sent and not acknowledged.
    pub(super) open: Outbound,
    /// Encoded, for when the window has room.
    waiting: VecDeque<Held>,
    /// Bytes in `waiting`, taken from the outbox's budget.
    bytes: usize,
}

/// A PUBLISH without its identifier.
#[derive(Debug)]
struct Held {
    packet: Box<[u8]>,
    /// Where the identifier stands.
    id_at: u32,
    /// Bytes of the payload.
    size: u32,
}

impl Outgoing {
    pub(super) fn new(window: u16) -> Outgoing {
        let mut open = Outbound::new(0);
        open.attach(window);
        Outgoing { open, waiting: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The identifier of the next message, if the window has room and nothing waits.
    fn next_id(&mut self) -> Option<PacketId> {
        self.open.send(self.open.next_position(), Qos::AtLeastOnce)
    }
}

/// A PUBLISH of quality 0 as far as its payload, made when the first client needs it.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    state: EncodedState,
    /// The last subject, and what it is as a topic: messages of one subject come one after the other.
    subject: Vec<u8>,
    topic: String,
    has_topic: bool,
    head: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EncodedState {
    #[default]
    Unknown,
    Ready,
    /// The subject can't be told to MQTT clients.
    NoTopic,
}

impl Encoded {
    fn prepare(&mut self, subject: &[u8], payload: &[u8]) -> bool {
        if self.state == EncodedState::Unknown {
            if self.subject != subject {
                self.subject.clear();
                self.subject.extend_from_slice(subject);
                self.has_topic = subject_bytes_to_topic(subject, &mut self.topic).is_ok();
            }
            self.state = if self.has_topic { EncodedState::Ready } else { EncodedState::NoTopic };
            self.head.clear();
            publish(Delivery::AtMostOnce, &self.topic, payload).encode_head(Version::V311, &mut self.head);
        }
        self.state == EncodedState::Ready
    }
}

pub(super) fn publish<'a>(delivery: Delivery, topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    Publish { delivery, retain: false, topic, properties: Properties::EMPTY, payload }
}

impl Broker {
    /// Before a message is routed that MQTT clients or sessions want: what quality it has for them.
    pub(crate) fn prepare_for_mqtt<'a>(&mut self, origin: Origin, plan: &Plan, message: &Message<'a>) -> Message<'a> {
        self.mqtt.encoded.state = EncodedState::Unknown;
        self.mqtt.crowding.begin();
        let comes_over_a_link = || {
            let connection = origin.connection.and_then(|id| self.connections.entry(id));
            connection.is_some_and(|connection| matches!(connection.kind, Kind::Leaf(_)))
        };
        let raised = !plan.streams.is_empty() || comes_over_a_link();
        Message { quality: message.quality.max(u8::from(raised)), ..*message }
    }

    /// A message for one of its subscriptions, at the best grant of those that match.
    pub(crate) fn deliver_to_mqtt(
        &mut self,
        slot: usize,
        grant: MqttGrant,
        subject: &[u8],
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.connections.at(slot).filter(|connection| !connection.closing) else { return };
        let Kind::Mqtt(client) = &connection.kind else { return };
        let id = connection.id;
        let quality = message.quality.min(grant.quality);
        if quality > 0 && client.session != SessionId::default() {
            if grant.shared {
                self.mqtt.picked.push(QueueFor { session: client.session, quality });
            }
            return;
        }
        if client.phase != Phase::Ready {
            return;
        }
        if !self.mqtt.encoded.prepare(message.shown.unwrap_or(subject), message.payload()) {
            self.counters.mqtt.no_topic += 1;
        } else if quality > 0 {
            self.deliver_once_at_least(id, message.payload(), out);
        } else {
            self.deliver_at_most_once(id, message, out);
        }
    }

    fn deliver_at_most_once(&mut self, id: ConnectionId, message: &Message<'_>, out: &mut Outbox) {
        if out.pending_bytes(id) > self.settings.mqtt.max_unsent {
            self.counters.mqtt.dropped += 1;
            return;
        }
        let payload = message.payload();
        let head = &self.mqtt.encoded.head;
        if let Some(frame) = message.frame {
            let start = (payload.as_ptr() as usize).wrapping_sub(frame.bytes().as_ptr() as usize);
            if start.checked_add(payload.len()).is_some_and(|end| end <= frame.bytes().len()) {
                return out.deliver_shared(id.slot(), head, frame, start..start + payload.len(), payload.len());
            }
        }
        out.deliver(id.slot(), head, payload, payload.len());
    }

    fn deliver_once_at_least(&mut self, id: ConnectionId, payload: &[u8], out: &mut Outbox) {
        let limits = &self.settings.mqtt;
        let (window, most, most_bytes) = (limits.max_inflight, limits.max_waiting, limits.max_waiting_bytes);
        let Some(connection) = self.connections.entry_mut(id) else { return };
        let Kind::Mqtt(client) = &mut connection.kind else { return };
        let bytes = &mut self.mqtt.packet;
        bytes.clear();
        let topic = &self.mqtt.encoded.topic;
        let outgoing = client.outgoing.get_or_insert_with(|| Box::new(Outgoing::new(window)));
        if let Some(packet) = outgoing.next_id() {
            publish(Delivery::AtLeastOnce { id: packet, dup: false }, topic, payload).encode_head(Version::V311, bytes);
            out.deliver(id.slot(), bytes, payload, payload.len());
        } else {
            let delivery = Delivery::new(Qos::AtLeastOnce, PacketId::of_position(0), false);
            publish(delivery, topic, payload).encode_head(Version::V311, bytes);
            let id_at = bytes.len() as u32 - 2;
            let size = bytes.len() + payload.len();
            let fits = outgoing.waiting.len() < most && outgoing.bytes + size <= most_bytes;
            if fits && out.reserve(size) {
                let packet = [&bytes[..], payload].concat().into();
                outgoing.waiting.push_back(Held { packet, id_at, size: payload.len() as u32 });
                outgoing.bytes += size;
                let waiting = outgoing.waiting.len();
                self.mqtt.crowding.note(id, waiting, most);
            } else {
                self.counters.mqtt.dropped += 1;
            }
        }
    }

    /// The client has a message.
    pub(super) fn mqtt_puback(&mut self, id: ConnectionId, packet: PacketId, out: &mut Outbox) -> Flow {
        let Some(client) = self.mqtt_client_mut(id) else { return Flow::Stop };
        let session = client.session;
        let Some(outgoing) = &mut client.outgoing else { return Flow::Go };
        match outgoing.open.handle_puback(packet) {
            Ok(PubackOutcome::Settled(position)) if session != SessionId::default() => {
                self.settle_queued(session, position);
                self.note_settled(session, out);
            }
            Ok(PubackOutcome::Settled(_)) => {
                send_waiting(id, outgoing, out);
                let waiting = outgoing.waiting.len();
                self.relieve(id, waiting, self.settings.mqtt.max_waiting, out);
            }
            // An identifier that nothing has: ignored.
            Ok(PubackOutcome::Unknown) => {}
            Err(_) => return self.stop_mqtt(id, CloseReason::ProtocolViolation, out),
        }
        Flow::Go
    }

    /// Nothing of quality 2 is sent; of an unknown message the standard wants it released.
    pub(super) fn mqtt_pubrec(&mut self, id: ConnectionId, packet: PacketId, out: &mut Outbox) -> Flow {
        let outgoing = self.mqtt_client_mut(id).and_then(|client| client.outgoing.as_mut());
        if outgoing.is_some_and(|outgoing| outgoing.open.handle_pubrec(packet, false).is_err()) {
            return self.stop_mqtt(id, CloseReason::ProtocolViolation, out);
        }
        answer(id, &Packet::Pubrel(Acknowledgement::success(packet)), out);
        Flow::Go
    }

    pub(super) fn mqtt_pubcomp(&mut self, id: ConnectionId, packet: PacketId, out: &mut Outbox) -> Flow {
        let outgoing = self.mqtt_client_mut(id).and_then(|client| client.outgoing.as_mut());
        if outgoing.is_some_and(|outgoing| outgoing.open.handle_pubcomp(packet).is_err()) {
            return self.stop_mqtt(id, CloseReason::ProtocolViolation, out);
        }
        Flow::Go
    }
}

/// Sends what waited, as far as the window goes now.
fn send_waiting(id: ConnectionId, outgoing: &mut Outgoing, out: &mut Outbox) {
    while !outgoing.waiting.is_empty() {
        let Some(packet) = outgoing.next_id() else { return };
        let Some(mut held) = outgoing.waiting.pop_front() else { return };
        let at = held.id_at as usize;
        held.packet[at..at + 2].copy_from_slice(&packet.value().to_be_bytes());
        out.deliver(id.slot(), &held.packet, b"", held.size as usize);
        out.release(held.packet.len());
        outgoing.bytes -= held.packet.len();
    }
}
