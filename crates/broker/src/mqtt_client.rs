//! MQTT clients on the same subjects.

use crate::broker::{Broker, NewConnection, Received};
use crate::connection::{Connection, Kind};
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;
use crate::routing::Message;

/// An MQTT client's state.
#[derive(Debug, Default)]
pub(crate) struct MqttClient {}

impl Broker {
    pub(crate) fn open_mqtt(&mut self, now: Now, id: ConnectionId, number: u64, new: &NewConnection) {
        self.connections.insert(Connection::new(id, number, now, new, Kind::Mqtt(Box::default())));
    }

    pub(crate) fn received_mqtt(&mut self, _now: Now, _id: ConnectionId, bytes: &[u8], _out: &mut Outbox) -> Received {
        Received { used: bytes.len(), ..Received::default() }
    }

    pub(crate) fn closed_mqtt(&mut self, _now: Now, _client: MqttClient, _out: &mut Outbox) {}

    pub(crate) fn tick_mqtt(&mut self, _now: Now, _id: ConnectionId, _out: &mut Outbox) {}

    pub(crate) fn mqtt_authenticated(&mut self, _now: Now, _id: ConnectionId, _correct: bool, _out: &mut Outbox) {}

    /// A message for one of its subscriptions; `number` is the one given with [`crate::subscription::Interest::Mqtt`].
    pub(crate) fn deliver_to_mqtt(
        &mut self,
        _now: Now,
        _slot: usize,
        _number: u32,
        _subject: &[u8],
        _message: &Message<'_>,
        _out: &mut Outbox,
    ) {
    }

    /// What it had the store do is committed, or was refused. See [`crate::capture`] for tickets.
    pub(crate) fn mqtt_stored(
        &mut self,
        _now: Now,
        _ticket: jetstream::command::Ticket,
        _outcome: &jetstream::command::Outcome,
        _out: &mut Outbox,
    ) {
    }

    /// A delivery from a session's queue.
    pub(crate) fn deliver_queued(
        &mut self,
        _now: Now,
        _delivery: &jetstream::command::Delivery,
        _place: jetstream::command::QueuePlace,
        _arena: &[u8],
        _out: &mut Outbox,
    ) {
    }
}
