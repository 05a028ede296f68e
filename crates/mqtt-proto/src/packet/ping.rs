//! PINGREQ and PINGRESP: two bytes each, the same in both versions.

use crate::error::DecodeError;
use crate::protocol::PacketType;
use crate::wire::Reader;

/// Nothing may follow the fixed header.
pub(crate) const fn decode(body: &[u8]) -> Result<(), DecodeError> {
    Reader::new(body).finish()
}

/// Appends a PINGREQ.
pub fn encode_request(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketType::Pingreq.first_byte(), 0]);
}

/// Appends a PINGRESP.
pub fn encode_response(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketType::Pingresp.first_byte(), 0]);
}
