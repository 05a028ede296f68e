//! Why bytes are refused, and what the peer is told before its connection is closed.
//!
//! Every variant is the peer's misbehaviour: it costs that connection and nobody else anything. MQTT 5 names a
//! reason in CONNACK or DISCONNECT; 3.1.1 just closes, but for two answers to CONNECT.

use crate::packet::{Connack, Disconnect};
use crate::property::{Property, PropertyBuf};
use crate::protocol::Version;
use crate::reason::ReasonCode;

/// A packet that can't be accepted. The connection it came on is to be answered and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes can't be parsed as the standard lays them out (0x81).
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// Well-formed, but not allowed here or with this value (0x82).
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// A topic name with wildcards, or an empty one (0x90).
    #[error("topic name invalid: {0}")]
    TopicName(&'static str),
    /// A topic alias of 0, above the advertised maximum (0x94).
    #[error("topic alias invalid: {0}")]
    TopicAlias(&'static str),
    /// The header announces more bytes than are accepted (0x95). Sizes are of the whole packet in bytes.
    #[error("packet of {size} bytes, at most {max} are accepted")]
    TooLarge {
        /// The size the header announces.
        size: usize,
        /// The size that is accepted.
        max: usize,
    },
    /// CONNECT of a protocol level that is not spoken here (0x84; in 3.1.1 CONNACK 0x01). `[MQTT-3.1.2-2]`
    #[error("protocol level {level} is not supported; 4 (MQTT 3.1.1) and 5 are")]
    ProtocolLevel {
        /// The level byte of CONNECT.
        level: u8,
    },
    /// CONNECT of 3.1.1 without client identifier that asks for a kept session (CONNACK 0x02). `[MQTT-3.1.3-8]`
    #[error("an empty client identifier needs a clean session")]
    ClientIdentifier,
    /// The first packet is not CONNECT: not an MQTT client, so nothing is answered. `[MQTT-3.1.0-1]`
    #[error("the first packet is not CONNECT")]
    NotConnect,
}

/// How far a connection has come, which decides how a refusal is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No CONNECT has been accepted; the version if the bytes so far tell it
    /// ([`peek_version`](crate::packet::peek_version)).
    Connecting(Option<Version>),
    /// CONNACK 0 has been sent.
    Connected(Version),
}

impl DecodeError {
    /// The MQTT 5 reason code of this refusal.
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            DecodeError::Malformed(_) => ReasonCode::MalformedPacket,
            DecodeError::Protocol(_) | DecodeError::NotConnect => ReasonCode::ProtocolError,
            DecodeError::TopicName(_) => ReasonCode::TopicNameInvalid,
            DecodeError::TopicAlias(_) => ReasonCode::TopicAliasInvalid,
            DecodeError::TooLarge { .. } => ReasonCode::PacketTooLarge,
            DecodeError::ProtocolLevel { .. } => ReasonCode::UnsupportedProtocolVersion,
            DecodeError::ClientIdentifier => ReasonCode::ClientIdentifierNotValid,
        }
    }

    /// The CONNACK return code that 3.1.1 has for it; `None`: the connection is just closed.
    pub const fn return_code_311(&self) -> Option<u8> {
        match self {
            DecodeError::ProtocolLevel { .. } => Some(0x01),
            DecodeError::ClientIdentifier => Some(0x02),
            _ => None,
        }
    }

    /// Appends what is to be sent before the close: CONNACK, DISCONNECT or nothing.
    ///
    /// `client_maximum` is the client's Maximum Packet Size in bytes; the reason string is left out where it does
    /// not fit. `[MQTT-3.2.2-19]`, `[MQTT-3.14.2-3]`
    pub fn encode_answer(&self, phase: Phase, client_maximum: usize, out: &mut Vec<u8>) {
        let start = out.len();
        self.encode_answer_with(phase, Some(&self.to_string()), out);
        if out.len() - start > client_maximum {
            out.truncate(start);
            self.encode_answer_with(phase, None, out);
        }
    }

    fn encode_answer_with(&self, phase: Phase, reason_string: Option<&str>, out: &mut Vec<u8>) {
        let mut properties = PropertyBuf::new();
        if let Some(text) = reason_string {
            properties.push(Property::ReasonString(text));
        }
        match (phase, self.speaks(phase)) {
            (_, None) => {}
            (Phase::Connecting(_), Some(Version::V311)) => {
                if let Some(code) = self.return_code_311() {
                    Connack::refused_311(code).encode(Version::V311, out);
                }
            }
            (Phase::Connecting(_), Some(Version::V5)) => {
                Connack::refused(self.reason_code(), properties.as_properties()).encode(Version::V5, out);
            }
            (Phase::Connected(_), Some(Version::V311)) => {}
            (Phase::Connected(_), Some(Version::V5)) => {
                let disconnect = Disconnect { reason: self.reason_code(), properties: properties.as_properties() };
                disconnect.encode(Version::V5, out);
            }
        }
    }

    /// The version the answer is worded in. A level we do not speak is told so in the nearest one.
    const fn speaks(&self, phase: Phase) -> Option<Version> {
        match (self, phase) {
            (DecodeError::NotConnect, _) => None,
            (DecodeError::ProtocolLevel { level }, _) if *level > 5 && *level & 0x80 == 0 => Some(Version::V5),
            (DecodeError::ProtocolLevel { .. } | DecodeError::ClientIdentifier, _) => Some(Version::V311),
            (_, Phase::Connecting(version)) => version,
            (_, Phase::Connected(version)) => Some(version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Packet, decode_from};
    use crate::protocol::Sender;

    fn answer(phase: Phase, client_maximum: usize) -> Vec<u8> {
        let mut out = Vec::new();
        DecodeError::Protocol("a second CONNECT").encode_answer(phase, client_maximum, &mut out);
        out
    }

    #[test]
    fn a_reason_string_is_told_where_it_fits() {
        let long = answer(Phase::Connected(Version::V5), 64);
        let (packet, _) = decode_from(Sender::Server, &long, Some(Version::V5), 64).unwrap().unwrap();
        let Packet::Disconnect(disconnect) = packet else { panic!("{packet:?}") };
        assert_eq!(disconnect.reason, ReasonCode::ProtocolError);
        let told = disconnect.properties.iter().next();
        assert_eq!(told, Some(Property::ReasonString("protocol error: a second CONNECT")));
        assert_eq!(answer(Phase::Connected(Version::V5), 20), [0xE0, 1, 0x82]);
    }

    #[test]
    fn nothing_is_told_to_whom_we_do_not_know() {
        assert!(answer(Phase::Connecting(None), 64).is_empty());
        assert!(answer(Phase::Connecting(Some(Version::V311)), 64).is_empty());
        assert!(answer(Phase::Connected(Version::V311), 64).is_empty());
        assert_eq!(answer(Phase::Connecting(Some(Version::V5)), 9), [0x20, 3, 0, 0x82, 0]);
    }
}
