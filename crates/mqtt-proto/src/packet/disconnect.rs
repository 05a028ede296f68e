//! DISCONNECT: the last packet of a connection, from either side in MQTT 5, from the client alone in 3.1.1.

use crate::error::DecodeError;
use crate::property::{Place, Properties, Property};
use crate::protocol::{PacketType, Sender, Version};
use crate::reason::ReasonCode;
use crate::wire::{Reader, put_packet};

/// A DISCONNECT packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Always [`ReasonCode::Success`] in 3.1.1.
    pub reason: ReasonCode,
    /// Always empty in 3.1.1.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// With a reason and no properties.
    pub const fn with_reason(reason: ReasonCode) -> Self {
        Self { reason, properties: Properties::EMPTY }
    }

    /// The session expiry interval that replaces CONNECT's, seconds.
    pub fn session_expiry_interval(&self) -> Option<u32> {
        self.properties.iter().find_map(|property| match property {
            Property::SessionExpiryInterval(seconds) => Some(seconds),
            _ => None,
        })
    }

    pub(crate) fn decode(body: &'a [u8], version: Version, sender: Sender) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut disconnect = Self::with_reason(ReasonCode::Success);
        if version == Version::V311 {
            if sender == Sender::Server {
                return Err(DecodeError::Protocol("DISCONNECT from a 3.1.1 server"));
            }
            reader.finish()?;
            return Ok(disconnect);
        }
        if !reader.is_empty() {
            disconnect.reason = super::read_reason(&mut reader, PacketType::Disconnect)?;
        }
        if !reader.is_empty() {
            disconnect.properties = Properties::decode(&mut reader, Place::Packet(PacketType::Disconnect))?;
        }
        reader.finish()?;
        disconnect.check_sender(sender)?;
        Ok(disconnect)
    }

    /// The client alone speaks of the session's end and asks for its will. [MQTT-3.14.2-2]
    fn check_sender(&self, sender: Sender) -> Result<(), DecodeError> {
        if sender == Sender::Server
            && (self.reason == ReasonCode::DisconnectWithWill || self.session_expiry_interval().is_some())
        {
            return Err(DecodeError::Protocol("a will or a session expiry in a server's DISCONNECT"));
        }
        Ok(())
    }

    /// Appends the packet in its shortest form.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketType::Disconnect.first_byte();
        if version == Version::V311 || (self.reason == ReasonCode::Success && self.properties.is_empty()) {
            out.extend_from_slice(&[first, 0]);
        } else if self.properties.is_empty() {
            out.extend_from_slice(&[first, 1, self.reason.byte()]);
        } else {
            put_packet(out, first, |out| {
                out.push(self.reason.byte());
                self.properties.encode(out);
            });
        }
    }
}
