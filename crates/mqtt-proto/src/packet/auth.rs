//! AUTH: a step of enhanced authentication. MQTT 5 only; 3.1.1 reserves its type.

use crate::error::DecodeError;
use crate::property::{Place, Properties};
use crate::protocol::PacketType;
use crate::reason::ReasonCode;
use crate::wire::{Reader, put_packet};

/// An AUTH packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// Authentication method, data, and what goes anywhere.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut auth = Self { reason: ReasonCode::Success, properties: Properties::EMPTY };
        if !reader.is_empty() {
            auth.reason = super::read_reason(&mut reader, PacketType::Auth)?;
            auth.properties = Properties::decode(&mut reader, Place::Packet(PacketType::Auth))?;
        }
        reader.finish()?;
        Ok(auth)
    }

    /// Appends the packet in its shortest form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Auth.first_byte(), |out| {
            if self.reason != ReasonCode::Success || !self.properties.is_empty() {
                out.push(self.reason.byte());
                self.properties.encode(out);
            }
        });
    }
}
