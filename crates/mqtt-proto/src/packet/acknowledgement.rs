//! PUBACK, PUBREC, PUBREL and PUBCOMP: four packets of one shape, an identifier and, in MQTT 5, a reason.

use crate::error::DecodeError;
use crate::property::{Place, Properties};
use crate::protocol::{PacketId, PacketType, Version};
use crate::reason::ReasonCode;
use crate::wire::{Reader, put_packet, put_u16};

/// One of PUBACK, PUBREC, PUBREL, PUBCOMP; which one, the [`Packet`](super::Packet) around it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    /// The identifier of the PUBLISH that is acknowledged.
    pub id: PacketId,
    /// Always [`ReasonCode::Success`] in 3.1.1, which has no negative acknowledgement.
    pub reason: ReasonCode,
    /// Always empty in 3.1.1.
    pub properties: Properties<'a>,
}

impl<'a> Acknowledgement<'a> {
    /// A plain success.
    pub const fn success(id: PacketId) -> Self {
        Self::with_reason(id, ReasonCode::Success)
    }

    /// With a reason and no properties.
    pub const fn with_reason(id: PacketId, reason: ReasonCode) -> Self {
        Self { id, reason, properties: Properties::EMPTY }
    }

    pub(crate) fn decode(packet: PacketType, body: &'a [u8], version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut acknowledgement = Self::success(reader.packet_id()?);
        // A success without properties may end behind the identifier, a reason without properties behind itself.
        if version == Version::V5 && !reader.is_empty() {
            acknowledgement.reason = super::read_reason(&mut reader, packet)?;
            if !reader.is_empty() {
                acknowledgement.properties = Properties::decode(&mut reader, Place::Packet(packet))?;
            }
        }
        reader.finish()?;
        Ok(acknowledgement)
    }

    /// Appends the packet as `packet`, one of the four; the shortest form the standard has.
    pub fn encode(&self, packet: PacketType, version: Version, out: &mut Vec<u8>) {
        debug_assert!((PacketType::Puback as u8..=PacketType::Pubcomp as u8).contains(&(packet as u8)));
        let [high, low] = self.id.value().to_be_bytes();
        let plain = self.properties.is_empty();
        if version == Version::V311 || (self.reason == ReasonCode::Success && plain) {
            out.extend_from_slice(&[packet.first_byte(), 2, high, low]);
        } else if plain {
            out.extend_from_slice(&[packet.first_byte(), 3, high, low, self.reason.byte()]);
        } else {
            put_packet(out, packet.first_byte(), |out| {
                put_u16(out, self.id.value());
                out.push(self.reason.byte());
                self.properties.encode(out);
            });
        }
    }
}
