//! The durable rows of MQTT: compact, versioned, and read with the same distrust as packets.
//!
//! Every row begins with a format byte; a format not known is an error, never a guess. Integers are big-endian, lengths
//! and counts variable byte integers; nothing is reserved by a claimed length, nothing may follow the last field.
//! Checksums are the store's. A row per session and per retained message; what changes with every message is *not* in
//! the session row but keyed beside it, so that it costs a small write:
//!
//! ```text
//! session   client id                → SessionRecord
//! retained  topic                    → RetainedRecord
//! inbound   (client id, packet id)   → empty          QoS 2 not yet released, Inbound::restore
//! outbound  (client id, position)    → empty          QoS 2 whose PUBREC has come, Outbound::restore
//! ```

mod retained;
mod session;

pub use retained::RetainedRecord;
pub use session::{SessionRecord, WillRecord};

use crate::error::DecodeError;
use crate::wire::{Reader, put_varint};

/// A row that can't be read: our disk or an older or newer release, never the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a release that this one does not know.
    #[error("record format {0} is not known to this release")]
    Format(u8),
    /// The bytes are not what was written.
    #[error("damaged record: {0}")]
    Damaged(&'static str),
}

impl From<DecodeError> for RecordError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed(what)
            | DecodeError::Protocol(what)
            | DecodeError::TopicName(what)
            | DecodeError::TopicAlias(what) => RecordError::Damaged(what),
            _ => RecordError::Damaged("it holds a packet's field that is refused"),
        }
    }
}

/// Appends a length and the bytes; unlike a packet's fields, payloads may be longer than 65,535.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn read_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], RecordError> {
    let length = reader.varint()?;
    Ok(reader.take(length as usize)?)
}

fn read_text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, RecordError> {
    std::str::from_utf8(read_bytes(reader)?).map_err(|_| RecordError::Damaged("a text is not UTF-8"))
}

fn read_u64(reader: &mut Reader<'_>) -> Result<u64, RecordError> {
    let high = reader.u32()?;
    let low = reader.u32()?;
    Ok(u64::from(high) << 32 | u64::from(low))
}
