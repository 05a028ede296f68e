//! Deliveries of stored sessions.
//!
//! A stored session gets its quality 1 from its queue in the store, connected or not. The store keeps window, order, and what was sent before;
//! here is only which packet identifiers are open on this connection. An identifier follows from the position in the queue, so that a
//! redelivery has the original one. [MQTT-4.4.0-1]
//!
//! A connection takes the queue up with `QueueAttach`. Deliveries that the store made for an earlier connection may still be on their way
//! then: none is passed on before the attach is committed, for everything open comes again behind it, in order.

use jetstream::command::{Command, Delivery as Queued, QueuePlace, Recipient};
use jetstream::identity::SessionId;
use mqtt_proto::packet::Delivery;
use mqtt_proto::topic::subject_bytes_to_topic;
use mqtt_proto::{Qos, Version};

use super::Phase;
use super::deliver::{Outgoing, publish};
use crate::broker::Broker;
use crate::identity::ConnectionId;
use crate::outbox::Outbox;

impl Broker {
    /// A delivery from a session's queue.
    pub(crate) fn deliver_queued(&mut self, delivery: &Queued, place: QueuePlace, arena: &[u8], out: &mut Outbox) {
        // With nobody to take it the credit is gone too: whoever attaches next begins with all of it.
        let Some(id) = self.mqtt.receiver(place.session) else { return };
        self.owe_credit(Recipient::Session(place.session), delivery.cost(), Some(id));
        if self.mqtt_client(id).is_none_or(|client| client.phase != Phase::Ready) {
            return;
        }
        let payload = delivery.payload.of(arena);
        let mut topic = std::mem::take(&mut self.mqtt.topic);
        if subject_bytes_to_topic(delivery.subject.of(arena), &mut topic).is_ok() {
            self.send_queued(id, place, &topic, payload, out);
        } else {
            self.counters.mqtt.no_topic += 1;
            self.settle_queued(place.session, place.position);
            self.note_settled(place.session, out);
        }
        self.mqtt.topic = topic;
    }

    fn send_queued(&mut self, id: ConnectionId, place: QueuePlace, topic: &str, payload: &[u8], out: &mut Outbox) {
        let Some(client) = self.mqtt_client_mut(id) else { return };
        // The window is the store's.
        let outgoing = client.outgoing.get_or_insert_with(|| Box::new(Outgoing::new(u16::MAX)));
        let Some(packet) = outgoing.open.send(place.position, Qos::AtLeastOnce) else {
            // The store was opened anew, and sends what it knows to be open. On a live connection nothing is repeated; an acknowledgement
            // that it lost is.
            if !outgoing.open.is_open(place.position) {
                self.settle_queued(place.session, place.position);
            }
            return;
        };
        let mut head = std::mem::take(&mut self.mqtt.packet);
        head.clear();
        publish(Delivery::AtLeastOnce { id: packet, dup: place.resent }, topic, payload)
            .encode_head(Version::V311, &mut head);
        out.deliver(id.slot(), &head, payload, payload.len());
        self.mqtt.packet = head;
    }

    pub(super) fn settle_queued(&mut self, session: SessionId, position: u64) {
        self.store.push(|_| Command::QueueAck { session, position });
    }
}
