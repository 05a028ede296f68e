//! CONNACK: the server's answer to CONNECT.

use crate::error::DecodeError;
use crate::property::{Place, Properties};
use crate::protocol::{PacketType, Version};
use crate::reason::ReasonCode;
use crate::wire::{Reader, put_packet};

/// The outcome of a CONNECT. The two versions number refusals differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectOutcome {
    /// Code 0 in both versions; the only one with a session. `[MQTT-3.2.2-2]`, `[MQTT-3.2.2-6]`
    Accepted {
        /// The server has state of this client.
        session_present: bool,
    },
    /// A refusal of 3.1.1: return codes 1 to 5.
    Refused311(u8),
    /// A refusal of MQTT 5.
    Refused(ReasonCode),
}

/// A CONNACK packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Accepted or refused.
    pub outcome: ConnectOutcome,
    /// Always empty in 3.1.1.
    pub properties: Properties<'a>,
}

impl<'a> Connack<'a> {
    /// An acceptance.
    pub const fn accepted(session_present: bool, properties: Properties<'a>) -> Self {
        Self { outcome: ConnectOutcome::Accepted { session_present }, properties }
    }

    /// A refusal of MQTT 5; encoded for 3.1.1 it carries the nearest return code.
    pub const fn refused(reason: ReasonCode, properties: Properties<'a>) -> Self {
        Self { outcome: ConnectOutcome::Refused(reason), properties }
    }

    /// A refusal of 3.1.1, return codes 1 to 5.
    pub const fn refused_311(code: u8) -> Self {
        Self { outcome: ConnectOutcome::Refused311(code), properties: Properties::EMPTY }
    }

    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let flags = reader.byte()?;
        if flags > 1 {
            return Err(DecodeError::Malformed("reserved flags of CONNACK")); // [MQTT-3.2.2-1]
        }
        let code = reader.byte()?;
        if code != 0 && flags != 0 {
            return Err(DecodeError::Protocol("a session with a refusal"));
        }
        let outcome = match (code, version) {
            (0, _) => ConnectOutcome::Accepted { session_present: flags == 1 },
            (1..=5, Version::V311) => ConnectOutcome::Refused311(code),
            (_, Version::V311) => return Err(DecodeError::Malformed("an unknown return code")),
            (_, Version::V5) => ConnectOutcome::Refused(super::known_reason(code, PacketType::Connack)?),
        };
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(&mut reader, Place::Packet(PacketType::Connack))?,
        };
        reader.finish()?;
        Ok(Self { outcome, properties })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Connack.first_byte(), |out| {
            let code = match (self.outcome, version) {
                (ConnectOutcome::Accepted { .. }, _) => 0,
                (ConnectOutcome::Refused311(code), Version::V311) => code,
                (ConnectOutcome::Refused311(_), Version::V5) => ReasonCode::Unspecified.byte(),
                (ConnectOutcome::Refused(reason), Version::V311) => reason.return_code_311(),
                (ConnectOutcome::Refused(reason), Version::V5) => reason.byte(),
            };
            let session_present = self.outcome == ConnectOutcome::Accepted { session_present: true };
            out.extend_from_slice(&[u8::from(session_present), code]);
            if version == Version::V5 {
                self.properties.encode(out);
            }
        });
    }
}
