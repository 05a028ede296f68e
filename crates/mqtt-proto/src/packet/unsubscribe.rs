//! UNSUBSCRIBE: filters a client wants no more messages of.

use crate::error::DecodeError;
use crate::property::{Place, Properties};
use crate::protocol::{PacketId, PacketType, Version};
use crate::wire::{Reader, put_packet, put_text, put_u16};

/// An UNSUBSCRIBE packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// What the UNSUBACK will carry.
    pub id: PacketId,
    /// Always empty in 3.1.1.
    pub properties: Properties<'a>,
    /// At least one.
    pub filters: UnsubscribeFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let id = reader.packet_id()?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(&mut reader, Place::Packet(PacketType::Unsubscribe))?,
        };
        Ok(Self { id, properties, filters: UnsubscribeFilters::check(reader.rest())? })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Unsubscribe.first_byte(), |out| {
            put_u16(out, self.id.value());
            if version == Version::V5 {
                self.properties.encode(out);
            }
            out.extend_from_slice(self.filters.bytes);
        });
    }
}

/// The filters of an UNSUBSCRIBE in order, as they stand in the packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnsubscribeFilters<'a> {
    bytes: &'a [u8],
}

impl<'a> UnsubscribeFilters<'a> {
    /// Writes filters into `buffer` and borrows them from there; for those who send an UNSUBSCRIBE.
    pub fn build(filters: impl IntoIterator<Item = impl AsRef<str>>, buffer: &'a mut Vec<u8>) -> Self {
        buffer.clear();
        for filter in filters {
            put_text(buffer, filter.as_ref());
        }
        Self { bytes: buffer }
    }

    /// The filters in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        // They were checked: an error comes at the end only.
        std::iter::from_fn(move || reader.text().ok())
    }

    fn check(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Protocol("UNSUBSCRIBE without filters")); // [MQTT-3.10.3-2]
        }
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            reader.text()?;
        }
        Ok(Self { bytes })
    }
}

impl std::fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}
