//! SUBACK: one code for each filter of a SUBSCRIBE, in its order. `[MQTT-3.8.4-6]`

use crate::error::DecodeError;
use crate::property::{Place, Properties};
use crate::protocol::{PacketId, PacketType, Version};
use crate::reason::ReasonCode;
use crate::wire::{Reader, put_packet, put_u16};

/// A SUBACK packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suback<'a> {
    /// The identifier of the SUBSCRIBE.
    pub id: PacketId,
    /// Always empty in 3.1.1.
    pub properties: Properties<'a>,
    /// A code per filter.
    pub codes: Codes<'a>,
}

/// Reason codes in order: of a list somebody built, or checked bytes of a packet.
#[derive(Clone, Copy)]
pub enum Codes<'a> {
    /// To be sent.
    Built(&'a [ReasonCode]),
    /// As received; every byte is a reason code.
    Received(ReceivedCodes<'a>),
}

/// Bytes that were checked to be reason codes.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedCodes<'a> {
    bytes: &'a [u8],
}

impl<'a> Codes<'a> {
    /// The codes in order.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        let (built, received): (&'a [ReasonCode], &'a [u8]) = match *self {
            Codes::Built(codes) => (codes, &[]),
            Codes::Received(received) => (&[], received.bytes),
        };
        built.iter().copied().chain(received.iter().filter_map(|&byte| ReasonCode::from_byte(byte)))
    }

    pub(crate) fn check(bytes: &'a [u8], packet: PacketType, version: Version) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Malformed("no codes"));
        }
        for &byte in bytes {
            let code = super::known_reason(byte, packet)?;
            if version == Version::V311 && code.is_error() && code != ReasonCode::Unspecified {
                return Err(DecodeError::Malformed("a return code of MQTT 5")); // [MQTT-3.9.3-2] (3.1.1)
            }
        }
        Ok(Codes::Received(ReceivedCodes { bytes }))
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        // 3.1.1 knows one failure, 0x80.
        out.extend(self.iter().map(|code| match version {
            Version::V311 if code.is_error() => ReasonCode::Unspecified.byte(),
            _ => code.byte(),
        }));
    }
}

impl PartialEq for Codes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Codes<'_> {}

impl std::fmt::Debug for Codes<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Suback<'a> {
    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let id = reader.packet_id()?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(&mut reader, Place::Packet(PacketType::Suback))?,
        };
        Ok(Self { id, properties, codes: Codes::check(reader.rest(), PacketType::Suback, version)? })
    }

    /// Appends the packet; 3.1.1 gets 0x80 for every failure.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Suback.first_byte(), |out| {
            put_u16(out, self.id.value());
            if version == Version::V5 {
                self.properties.encode(out);
            }
            self.codes.encode(version, out);
        });
    }
}
