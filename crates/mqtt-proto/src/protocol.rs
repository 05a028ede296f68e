//! The few words every packet uses: protocol version, packet type, QoS and packet identifier.
//!
//! They are types so that what is checked once at the border can't be wrong later.

use std::num::NonZeroU16;

/// The protocol a connection speaks, fixed by its CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5, protocol level 5.
    V5,
}

impl Version {
    /// The protocol level as CONNECT carries it.
    pub const fn level(self) -> u8 {
        match self {
            Version::V311 => 4,
            Version::V5 => 5,
        }
    }
}

/// Quality of service of a message or a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Qos {
    /// QoS 0: sent once, never acknowledged.
    #[default]
    AtMostOnce,
    /// QoS 1: acknowledged by PUBACK, may arrive twice.
    AtLeastOnce,
    /// QoS 2: acknowledged by PUBREC, PUBREL, PUBCOMP, arrives once.
    ExactlyOnce,
}

impl Qos {
    /// The QoS of the two bits of a fixed header or an options byte; `None` for 3.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Qos::AtMostOnce),
            1 => Some(Qos::AtLeastOnce),
            2 => Some(Qos::ExactlyOnce),
            _ => None,
        }
    }

    /// The two bits of this QoS, 0 to 2.
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

/// A packet identifier: never zero. `[MQTT-2.3.1-1]` (3.1.1), `[MQTT-2.2.1-3]` (5)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// `None` for zero.
    pub const fn new(id: u16) -> Option<Self> {
        match NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The identifier as it is on the wire, 1 to 65,535.
    pub const fn value(self) -> u16 {
        self.0.get()
    }

    /// The identifier of a position of a session's outgoing queue: `(position mod 65535) + 1`.
    ///
    /// It needs no counter of its own, so that neither a send nor a crash costs a write or an identifier.
    pub const fn of_position(position: u64) -> Self {
        let id = (position % Self::COUNT) as u16;
        Self(NonZeroU16::MIN.saturating_add(id))
    }

    /// How many identifiers there are.
    pub const COUNT: u64 = 65_535;
}

/// The fifteen control packets, by the number in the upper half of the first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The type in a packet's first byte; `None` for the reserved type 0.
    pub const fn from_first_byte(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => PacketType::Connect,
            2 => PacketType::Connack,
            3 => PacketType::Publish,
            4 => PacketType::Puback,
            5 => PacketType::Pubrec,
            6 => PacketType::Pubrel,
            7 => PacketType::Pubcomp,
            8 => PacketType::Subscribe,
            9 => PacketType::Suback,
            10 => PacketType::Unsubscribe,
            11 => PacketType::Unsuback,
            12 => PacketType::Pingreq,
            13 => PacketType::Pingresp,
            14 => PacketType::Disconnect,
            15 => PacketType::Auth,
            _ => return None,
        })
    }

    /// The first byte of a packet of this type, with the flags the standard fixes; PUBLISH adds its own.
    pub const fn first_byte(self) -> u8 {
        let flags = match self {
            PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }

    /// Whether a client may send it to a server.
    pub const fn is_from_client(self) -> bool {
        !matches!(self, PacketType::Connack | PacketType::Suback | PacketType::Unsuback | PacketType::Pingresp)
    }

    /// Whether a server may send it to a client.
    pub const fn is_from_server(self) -> bool {
        !matches!(self, PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::Pingreq)
    }
}

/// Who sent the bytes that are decoded: each side may send only its own packets and properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The bytes come from a client; we are the server.
    Client,
    /// The bytes come from a server; we are a bridge or a test.
    Server,
}
