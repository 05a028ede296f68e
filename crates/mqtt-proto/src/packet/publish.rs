//! PUBLISH: a message. The one packet whose decoding and encoding is paid for per message.
//!
//! Decoding allocates nothing and borrows everything: topic, properties and payload point into the read buffer.

use super::MAX_HEADER;
use crate::error::DecodeError;
use crate::property::{Place, Properties, Property};
use crate::protocol::{PacketId, PacketType, Qos, Sender, Version};
use crate::topic;
use crate::wire::{Reader, cut, put_u16, varint_bytes};

/// How a message is delivered; only QoS 1 and 2 have an identifier and can be repeats. `[MQTT-2.3.1-5]`, `[MQTT-3.3.1-2]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// What the PUBACK will carry.
        id: PacketId,
        /// Sent before on an earlier connection.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// What PUBREC, PUBREL and PUBCOMP will carry.
        id: PacketId,
        /// Sent before on an earlier connection.
        dup: bool,
    },
}

impl Delivery {
    /// A delivery of QoS 0, or of QoS 1 or 2 with this identifier.
    pub const fn new(qos: Qos, id: PacketId, dup: bool) -> Self {
        match qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
            Qos::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
        }
    }

    /// The QoS.
    pub const fn qos(self) -> Qos {
        match self {
            Delivery::AtMostOnce => Qos::AtMostOnce,
            Delivery::AtLeastOnce { .. } => Qos::AtLeastOnce,
            Delivery::ExactlyOnce { .. } => Qos::ExactlyOnce,
        }
    }

    /// The packet identifier of QoS 1 and 2.
    pub const fn packet_id(self) -> Option<PacketId> {
        match self {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce { id, .. } | Delivery::ExactlyOnce { id, .. } => Some(id),
        }
    }

    /// The DUP flag.
    pub const fn dup(self) -> bool {
        matches!(self, Delivery::AtLeastOnce { dup: true, .. } | Delivery::ExactlyOnce { dup: true, .. })
    }
}

/// A PUBLISH packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// QoS, identifier and DUP.
    pub delivery: Delivery,
    /// The RETAIN flag.
    pub retain: bool,
    /// A valid topic name; empty only where MQTT 5 names it by alias.
    pub topic: &'a str,
    /// Always empty in 3.1.1.
    pub properties: Properties<'a>,
    /// The message.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// The topic alias, where the packet has one.
    pub fn topic_alias(&self) -> Option<u16> {
        if self.properties.is_empty() {
            return None;
        }
        self.properties.iter().find_map(|property| match property {
            Property::TopicAlias(alias) => Some(alias),
            _ => None,
        })
    }

    #[inline]
    pub(crate) fn decode(first: u8, body: &'a [u8], version: Version, sender: Sender) -> Result<Self, DecodeError> {
        let qos = Qos::from_bits(first >> 1 & 0b11).ok_or(DecodeError::Malformed("QoS 3"))?; // [MQTT-3.3.1-4]
        let dup = first & 0b1000 != 0;
        if dup && qos == Qos::AtMostOnce {
            return Err(DecodeError::Protocol("DUP with QoS 0")); // [MQTT-3.3.1-2]
        }
        let mut reader = Reader::new(body);
        let topic = decode_topic(reader.binary()?)?;
        let delivery = match qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce { id: reader.packet_id()?, dup },
            Qos::ExactlyOnce => Delivery::ExactlyOnce { id: reader.packet_id()?, dup },
        };
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(&mut reader, Place::Packet(PacketType::Publish))?,
        };
        let publish = Publish { delivery, retain: first & 1 != 0, topic, properties, payload: reader.rest() };
        if topic.is_empty() {
            publish.check_empty_topic(version)?;
        }
        if sender == Sender::Client && !properties.is_empty() {
            publish.check_no_subscription_identifier()?;
        }
        Ok(publish)
    }

    #[cold]
    fn check_empty_topic(&self, version: Version) -> Result<(), DecodeError> {
        match version {
            Version::V311 => Err(DecodeError::TopicName("it is empty")), // [MQTT-4.7.3-1]
            Version::V5 if self.topic_alias().is_none() => {
                Err(DecodeError::Protocol("an empty topic without topic alias")) // [MQTT-3.3.2-8]
            }
            Version::V5 => Ok(()),
        }
    }

    fn check_no_subscription_identifier(&self) -> Result<(), DecodeError> {
        let given = self.properties.iter().any(|property| matches!(property, Property::SubscriptionIdentifier(_)));
        if given {
            return Err(DecodeError::Protocol("a subscription identifier from a client")); // [MQTT-3.3.4-6]
        }
        Ok(())
    }

    /// Appends the packet.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        self.encode_head(version, out);
        out.extend_from_slice(self.payload);
    }

    /// Appends all but the payload, for payloads that go to the socket without a copy.
    #[inline]
    pub fn encode_head(&self, version: Version, out: &mut Vec<u8>) {
        let head = self.head_length(version);
        let topic = cut(self.topic);
        out.reserve(MAX_HEADER + head + self.payload.len());
        put_start(out, self.first_byte(), head + self.payload.len(), topic.len() as u16);
        out.extend_from_slice(topic.as_bytes());
        if let Some(id) = self.delivery.packet_id() {
            put_u16(out, id.value());
        }
        if version == Version::V5 {
            if self.properties.is_empty() {
                out.push(0);
            } else {
                self.properties.encode(out);
            }
        }
    }

    /// The bytes the whole packet takes: what a client's Maximum Packet Size is compared with. `[MQTT-3.1.2-24]`
    pub fn encoded_length(&self, version: Version) -> usize {
        let remaining = self.head_length(version) + self.payload.len();
        1 + crate::wire::varint_length(remaining) + remaining
    }

    /// The bytes between the fixed header and the payload.
    #[inline]
    fn head_length(&self, version: Version) -> usize {
        let id = if self.delivery.qos() == Qos::AtMostOnce { 0 } else { 2 };
        let properties = match version {
            Version::V311 => 0,
            Version::V5 => self.properties.encoded_length(),
        };
        2 + cut(self.topic).len() + id + properties
    }

    #[inline]
    const fn first_byte(&self) -> u8 {
        PacketType::Publish.first_byte()
            | (self.delivery.dup() as u8) << 3
            | self.delivery.qos().bits() << 1
            | self.retain as u8
    }
}

/// Appends first byte, remaining length and topic length: a copy of known size and a cut, where three appends of
/// unknown size would cost as much as the rest of the packet.
#[inline]
fn put_start(out: &mut Vec<u8>, first: u8, remaining: usize, topic_length: u16) {
    let (length, length_size) = varint_bytes(remaining);
    let [high, low] = topic_length.to_be_bytes();
    let mut start = [first, length[0], length[1], length[2], length[3], 0, 0, 0];
    start[1 + length_size] = high;
    start[2 + length_size] = low;
    out.extend_from_slice(&start);
    out.truncate(out.len() - (5 - length_size));
}

/// A topic name or an empty one: UTF-8, no U+0000, no wildcards.
#[inline]
fn decode_topic(bytes: &[u8]) -> Result<&str, DecodeError> {
    let topic = std::str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("the topic is not UTF-8"))?;
    if topic::is_plain(bytes) { Ok(topic) } else { Err(refused_topic(bytes)) }
}

#[cold]
fn refused_topic(bytes: &[u8]) -> DecodeError {
    if bytes.contains(&0) {
        DecodeError::Malformed("the topic contains U+0000") // [MQTT-1.5.3-2], [MQTT-1.5.4-2]
    } else {
        DecodeError::TopicName("it contains wildcards") // [MQTT-3.3.2-2]
    }
}
