//! MQTT 3.1.1 clients on the same subjects.
//!
//! ```text
//!   accept ─► AwaitingConnect ─ CONNECT ─► Authenticating (bcrypt) ─► AwaitingSessions (start-up) ─► Opening (row is committed) ─► Ready
//!                  └─ connect_timeout                          a packet pipelined behind CONNECT waits: its reader is paused ─┘
//!
//!   publish.rs    PUBLISH ─► routing; PUBACK when what it makes the store do is committed, in the order of the publishes
//!   subscribe.rs  SUBSCRIBE, UNSUBSCRIBE; of a stored session answered when its row is committed
//!   deliver.rs    a routed message ─► PUBLISH to a live client: quality 0, or 1 of a clean session (held in memory, bounded)
//!   queue.rs      a stored session's quality 1: always through its queue in the store, which keeps window, order and redelivery
//!   crowding.rs   publishers wait a little for subscribers that are behind
//!   sessions.rs   the table of stored sessions; connect.rs  CONNECT, take-over, the end of a connection
//! ```
//!
//! **Quality of a message.** An MQTT publisher's own; what NATS clients publish counts as 0, or 1 when a local stream captures it; what comes
//! over a leaf link counts as 1: so a publish at the hub reaches a device that sleeps, through its stored session.
//!
//! **Not yet.** MQTT 5 is refused (CONNACK 0x84). Quality 2: a subscription is granted 1, a publish closes the connection (as stock does with
//! `reject_qos2_publish`). RETAIN: the message is delivered and *not* kept; each is counted, and the operator is warned once per client. A
//! will is published as it should be, also at take-over and for a keep alive that ran out, and survives a restart where the session does, but
//! it is not retained either.
//!
//! Without JetStream there is no store, and a client that wants its session kept is told "server unavailable". `$share/…` works in 3.1.1 too:
//! it is the NATS queue group of that name; a member with a stored session gets its share through its queue while it is connected.

mod connect;
mod crowding;
mod deliver;
mod publish;
mod queue;
mod sessions;
mod subscribe;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::rc::Rc;

use jetstream::command::Ticket;
use jetstream::identity::SessionId;
use mqtt_proto::packet::{Packet, frame_length, peek_version};
use mqtt_proto::record::WillRecord;
use mqtt_proto::{DecodeError, PacketId, Version};

use crate::broker::{Broker, NewConnection, Received};
use crate::connection::{Connection, Flow, Kind, SubscriptionNames};
use crate::effect::{CloseReason, Effect};
use crate::identity::{ConnectionId, Now};
use crate::outbox::{Frame, Outbox, Traffic};

pub(crate) use sessions::{MqttSide, is_for_sessions};

/// What a packet may have beside its payload: topic, properties, a CONNECT's texts. Bytes.
const PACKET_ROOM: usize = 64 * 1024;
/// A CONNECT has at most five fields of 65,535 bytes.
const MAX_CONNECT: usize = 5 * 65_537 + 32;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    AwaitingConnect,
    /// The helper thread compares a password.
    Authenticating,
    /// The stored sessions are being read.
    AwaitingSessions,
    /// CONNACK waits for a commit.
    Opening,
    Ready,
    /// Its session was taken over, or never was.
    #[default]
    Over,
}

/// An MQTT client's state.
#[derive(Debug, Default)]
pub(crate) struct MqttClient {
    phase: Phase,
    /// Its RETAIN flag was warned of.
    warned: bool,
    /// It was told to pause because too many of its publishes wait.
    full: bool,
    /// Its reader is paused, so that its silence is ours.
    paused: bool,
    /// A mosquitto bridge: it does not want its own messages back.
    bridge: bool,
    /// Seconds; 0: none.
    keep_alive: u16,
    /// Its stored session, or 0.
    session: SessionId,
    /// When its last whole packet came, microseconds.
    last_packet: u64,
    client_id: Box<str>,
    /// By filter; the parent level of `a/#` is named by the filter and a zero byte.
    subscriptions: SubscriptionNames,
    /// Bytes of their names.
    filter_bytes: u32,
    /// Publishes that are not acknowledged, oldest first.
    acknowledgements: VecDeque<Acknowledgement>,
    /// What CONNECT said, until it is accepted.
    offer: Option<Box<connect::Offer>>,
    /// What is sent when the session's row is committed.
    held: Option<Box<[u8]>>,
    will: Option<Box<WillRecord>>,
    outgoing: Option<Box<deliver::Outgoing>>,
}

// An idle connection with its session is to cost 2 KB at most; this is its part here.
const _: () = assert!(size_of::<MqttClient>() <= 160);

/// A PUBACK that is owed.
#[derive(Clone, Copy, Debug)]
struct Acknowledgement {
    id: PacketId,
    /// It may leave as soon as those before it have.
    due: bool,
}

/// What a committed command is for: the second half of a [`Ticket`], above the packet id.
const FOR_PUBACK: u64 = 0x6d71_0001 << 16;
const FOR_ROW: u64 = 0x6d71_0002 << 16;

fn ticket(id: ConnectionId, what: u64, packet: u16) -> Ticket {
    Ticket(id.to_bits(), what | u64::from(packet))
}

impl Broker {
    pub(crate) fn open_mqtt(&mut self, now: Now, id: ConnectionId, number: u64, new: &NewConnection) {
        let client = MqttClient { phase: Phase::AwaitingConnect, ..MqttClient::default() };
        self.connections.insert(Connection::new(id, number, now, new, Kind::Mqtt(Box::new(client))));
        self.set_deadline(id, now.after(self.settings.mqtt.connect_timeout));
    }

    pub(crate) fn received_mqtt(
        &mut self,
        now: Now,
        id: ConnectionId,
        bytes: &[u8],
        frame: Option<&Rc<Frame>>,
        out: &mut Outbox,
    ) -> Received {
        let mut result = Received::default();
        let mut traffic = Traffic::default();
        while result.used < bytes.len() {
            let rest = &bytes[result.used..];
            let Some(client) = self.mqtt_client(id) else { break };
            let version = match client.phase {
                Phase::AwaitingConnect => None,
                Phase::Ready if client.held.is_none() => Some(Version::V311),
                Phase::Ready | Phase::Authenticating | Phase::AwaitingSessions | Phase::Opening | Phase::Over => {
                    result.pause = true;
                    break;
                }
            };
            let max_packet = self.max_mqtt_packet(version);
            let flow = match mqtt_proto::decode(rest, version, max_packet) {
                Ok(Some((Packet::Publish(publish), length))) => {
                    let flow = self.mqtt_publish(now, id, &publish, frame, out);
                    if flow != Flow::Wait {
                        result.used += length;
                        traffic.messages += 1;
                        traffic.bytes += publish.payload.len() as u64;
                    }
                    flow
                }
                Ok(Some((packet, length))) => {
                    result.used += length;
                    self.mqtt_packet(now, id, &packet, out)
                }
                Ok(None) => {
                    // A header that is not whole does not tell the length, but one more byte is missing at least.
                    result.need = frame_length(rest, max_packet).ok().flatten().unwrap_or(rest.len() + 1);
                    break;
                }
                Err(error) => self.refuse_packet(id, &error, version, rest, out),
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
        if let Some(client) = self.mqtt_client_mut(id) {
            client.paused = result.pause;
            if result.used > 0 {
                client.last_packet = now.micros;
            }
        }
        self.count_received(id, traffic);
        result
    }

    /// Largest packet accepted, known from its header before its bytes arrive.
    fn max_mqtt_packet(&self, version: Option<Version>) -> usize {
        let most = self.settings.max_payload.saturating_add(PACKET_ROOM);
        if version.is_none() { most.min(MAX_CONNECT) } else { most }
    }

    /// Everything but a PUBLISH.
    fn mqtt_packet(&mut self, now: Now, id: ConnectionId, packet: &Packet<'_>, out: &mut Outbox) -> Flow {
        match packet {
            Packet::Connect(connect) => return self.mqtt_connect(now, id, connect, out),
            Packet::Subscribe(subscribe) => return self.mqtt_subscribe(id, subscribe, out),
            Packet::Unsubscribe(unsubscribe) => return self.mqtt_unsubscribe(id, unsubscribe, out),
            Packet::Puback(puback) => return self.mqtt_puback(id, puback.id, out),
            Packet::Pubrec(pubrec) => return self.mqtt_pubrec(id, pubrec.id, out),
            // Nothing of quality 2 is open in either direction: a client that asks so must have it from an earlier server.
            Packet::Pubrel(pubrel) => answer(id, &Packet::Pubcomp(*pubrel), out),
            Packet::Pubcomp(pubcomp) => return self.mqtt_pubcomp(id, pubcomp.id, out),
            Packet::Pingreq => answer(id, &Packet::Pingresp, out),
            Packet::Disconnect(_) => return self.mqtt_disconnect(id, out),
            // The decoder lets no client send these.
            Packet::Publish(_)
            | Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp
            | Packet::Auth(_) => {}
        }
        Flow::Go
    }

    /// Bad bytes cost their sender the connection.
    fn refuse_packet(
        &mut self,
        id: ConnectionId,
        error: &DecodeError,
        version: Option<Version>,
        bytes: &[u8],
        out: &mut Outbox,
    ) -> Flow {
        let phase = match version {
            None => mqtt_proto::Phase::Connecting(peek_version(bytes)),
            Some(version) => mqtt_proto::Phase::Connected(version),
        };
        let mut told = Vec::new();
        error.encode_answer(phase, usize::MAX, &mut told);
        out.append(id, &told);
        let reason = match error {
            DecodeError::TooLarge { .. } => CloseReason::MaxPayloadExceeded,
            _ => CloseReason::ProtocolViolation,
        };
        self.stop_mqtt(id, reason, out)
    }

    fn stop_mqtt(&mut self, id: ConnectionId, reason: CloseReason, out: &mut Outbox) -> Flow {
        self.close(id, reason, out);
        Flow::Stop
    }

    pub(crate) fn tick_mqtt(&mut self, now: Now, id: ConnectionId, out: &mut Outbox) {
        let Some(client) = self.mqtt_client(id) else { return };
        match client.phase {
            Phase::AwaitingConnect | Phase::Authenticating => self.close(id, CloseReason::AuthenticationTimeout, out),
            Phase::Ready if client.paused => self.set_keep_alive(now, id),
            Phase::Ready => match keep_alive_deadline(client) {
                Some(deadline) if deadline <= now.micros => self.close(id, CloseReason::StaleConnection, out),
                Some(deadline) => self.set_deadline(id, deadline),
                None => {}
            },
            Phase::AwaitingSessions | Phase::Opening | Phase::Over => {}
        }
    }

    /// Counts the keep alive from now.
    fn set_keep_alive(&mut self, now: Now, id: ConnectionId) {
        let Some(client) = self.mqtt_client_mut(id) else { return };
        client.last_packet = now.micros;
        let deadline = keep_alive_deadline(client).unwrap_or(0);
        self.set_deadline(id, deadline);
    }

    fn mqtt_client(&self, id: ConnectionId) -> Option<&MqttClient> {
        match &self.connections.entry(id)?.kind {
            Kind::Mqtt(client) => Some(client),
            _ => None,
        }
    }

    fn mqtt_client_mut(&mut self, id: ConnectionId) -> Option<&mut MqttClient> {
        match &mut self.connections.entry_mut(id)?.kind {
            Kind::Mqtt(client) => Some(client),
            _ => None,
        }
    }

    /// Warns once of a flag that has no effect.
    fn warn_of_retain(&mut self, id: ConnectionId, out: &mut Outbox) {
        if let Some(client) = self.mqtt_client_mut(id).filter(|client| !client.warned) {
            client.warned = true;
            let text = "MQTT client sets RETAIN: its messages are delivered, but retained messages are not kept yet";
            out.effect(Effect::Warn { id, text });
        }
    }
}

// [MQTT-3.1.2-24]
fn keep_alive_deadline(client: &MqttClient) -> Option<u64> {
    (client.keep_alive > 0).then(|| client.last_packet.saturating_add(u64::from(client.keep_alive) * 1_500_000))
}

/// Appends a small packet.
fn answer(id: ConnectionId, packet: &Packet<'_>, out: &mut Outbox) {
    let mut bytes = Vec::with_capacity(16);
    packet.encode(Version::V311, &mut bytes);
    out.append(id, &bytes);
}
