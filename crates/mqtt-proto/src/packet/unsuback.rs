//! UNSUBACK: in MQTT 5 one code for each filter of an UNSUBSCRIBE, in 3.1.1 the identifier alone.

use super::suback::Codes;
use crate::error::DecodeError;
use crate::property::{Place, Properties};
use crate::protocol::{PacketId, PacketType, Version};
use crate::wire::{Reader, put_packet, put_u16};

/// An UNSUBACK packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsuback<'a> {
    /// The identifier of the UNSUBSCRIBE.
    pub id: PacketId,
    /// Always empty in 3.1.1.
    pub properties: Properties<'a>,
    /// A code per filter; none in 3.1.1.
    pub codes: Codes<'a>,
}

impl<'a> Unsuback<'a> {
    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let id = reader.packet_id()?;
        if version == Version::V311 {
            reader.finish()?;
            return Ok(Self { id, properties: Properties::EMPTY, codes: Codes::Built(&[]) });
        }
        let properties = Properties::decode(&mut reader, Place::Packet(PacketType::Unsuback))?;
        Ok(Self { id, properties, codes: Codes::check(reader.rest(), PacketType::Unsuback, version)? })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Unsuback.first_byte(), |out| {
            put_u16(out, self.id.value());
            if version == Version::V5 {
                self.properties.encode(out);
                self.codes.encode(version, out);
            }
        });
    }
}
