//! SUBSCRIBE: filters a client wants messages of.
//!
//! A filter that can't be granted is no reason to refuse the packet: it gets its own code in SUBACK, the others
//! are granted. `[MQTT-3.8.4-5]` So filters are UTF-8 here, and validated by [`TopicFilter::parse`](crate::topic::TopicFilter).

use crate::error::DecodeError;
use crate::property::{Place, Properties, Property};
use crate::protocol::{PacketId, PacketType, Qos, Version};
use crate::topic;
use crate::wire::{Reader, put_packet, put_text, put_u16};

/// When a subscription is sent the retained messages of its filter. `[MQTT-3.3.1-9]`, `[MQTT-3.3.1-10]`, `[MQTT-3.3.1-11]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetainHandling {
    /// On every SUBSCRIBE; all that 3.1.1 knows.
    #[default]
    Always,
    /// Only when there was no such subscription before.
    OnlyIfNew,
    /// Never.
    Never,
}

/// What a client asks of a subscription. 3.1.1 has the QoS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscriptionOptions {
    /// The highest QoS messages are delivered at.
    pub qos: Qos,
    /// Not what this client itself published.
    pub no_local: bool,
    /// RETAIN as the publisher set it.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

const NO_LOCAL: u8 = 0b0000_0100;
const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;

impl SubscriptionOptions {
    /// The options byte as on the wire.
    pub const fn to_byte(self) -> u8 {
        let handling = match self.retain_handling {
            RetainHandling::Always => 0,
            RetainHandling::OnlyIfNew => 1,
            RetainHandling::Never => 2,
        };
        self.qos.bits()
            | if self.no_local { NO_LOCAL } else { 0 }
            | if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 }
            | handling << 4
    }

    /// Reads an options byte. 3.1.1 reserves all but the QoS. `[MQTT-3.8.3-4]` (3.1.1), `[MQTT-3.8.3-5]` (5)
    pub fn from_byte(byte: u8, version: Version) -> Result<Self, DecodeError> {
        let reserved = match version {
            Version::V311 => 0b1111_1100,
            Version::V5 => 0b1100_0000,
        };
        if byte & reserved != 0 {
            return Err(DecodeError::Malformed("reserved bits of the subscription options"));
        }
        let retain_handling = match byte >> 4 & 0b11 {
            0 => RetainHandling::Always,
            1 => RetainHandling::OnlyIfNew,
            2 => RetainHandling::Never,
            _ => return Err(DecodeError::Protocol("retain handling 3")),
        };
        Ok(Self {
            qos: Qos::from_bits(byte & 0b11).ok_or(DecodeError::Malformed("QoS 3"))?,
            no_local: byte & NO_LOCAL != 0,
            retain_as_published: byte & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }
}

/// A SUBSCRIBE packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// What the SUBACK will carry.
    pub id: PacketId,
    /// Always empty in 3.1.1.
    pub properties: Properties<'a>,
    /// At least one.
    pub filters: SubscribeFilters<'a>,
}

impl<'a> Subscribe<'a> {
    /// The identifier the client gives to these subscriptions, 1 to 268,435,455.
    pub fn subscription_identifier(&self) -> Option<u32> {
        self.properties.iter().find_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier),
            _ => None,
        })
    }

    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let id = reader.packet_id()?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(&mut reader, Place::Packet(PacketType::Subscribe))?,
        };
        Ok(Self { id, properties, filters: SubscribeFilters::check(reader.rest(), version)? })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Subscribe.first_byte(), |out| {
            put_u16(out, self.id.value());
            if version == Version::V5 {
                self.properties.encode(out);
            }
            out.extend_from_slice(self.filters.bytes);
        });
    }
}

/// The filters of a SUBSCRIBE with their options, in order, as they stand in the packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SubscribeFilters<'a> {
    bytes: &'a [u8],
}

impl<'a> SubscribeFilters<'a> {
    /// Writes filters into `buffer` and borrows them from there; for those who send a SUBSCRIBE.
    pub fn build(
        filters: impl IntoIterator<Item = (impl AsRef<str>, SubscriptionOptions)>,
        buffer: &'a mut Vec<u8>,
    ) -> Self {
        buffer.clear();
        for (filter, options) in filters {
            put_text(buffer, filter.as_ref());
            buffer.push(options.to_byte());
        }
        Self { bytes: buffer }
    }

    /// Filters and options in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        // They were checked: an error can't come, and would end them.
        std::iter::from_fn(move || {
            let filter = reader.text().ok()?;
            Some((filter, SubscriptionOptions::from_byte(reader.byte().ok()?, Version::V5).ok()?))
        })
    }

    fn check(bytes: &'a [u8], version: Version) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Protocol("SUBSCRIBE without filters")); // [MQTT-3.8.3-3], [MQTT-3.8.3-2]
        }
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let filter = reader.text()?;
            let options = SubscriptionOptions::from_byte(reader.byte()?, version)?;
            if options.no_local && topic::is_shared(filter) {
                return Err(DecodeError::Protocol("no local on a shared subscription")); // [MQTT-3.8.3-4]
            }
        }
        Ok(Self { bytes })
    }
}

impl std::fmt::Debug for SubscribeFilters<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}
