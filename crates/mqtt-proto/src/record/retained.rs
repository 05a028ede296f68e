//! The row of a retained message; its topic is the key.
//!
//! ```text
//! format 1 │ QoS │ stored ms u64 │ expires ms u64 (max: never) │ properties │ payload
//! ```

use super::{RecordError, put_bytes, read_bytes, read_u64};
use crate::property::Properties;
use crate::protocol::Qos;
use crate::wire::Reader;

const FORMAT: u8 = 1;

/// A retained message, borrowed from its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetainedRecord<'a> {
    /// The QoS it was published at.
    pub qos: Qos,
    /// When it was stored, milliseconds of the age clock.
    pub stored_ms: u64,
    /// When it is worthless, milliseconds of the age clock. `[MQTT-3.3.2-5]`
    pub expires_ms: Option<u64>,
    /// As it was published, without topic alias.
    pub properties: Properties<'a>,
    /// Not empty: an empty one removes the row. `[MQTT-3.3.1-10]` (3.1.1), `[MQTT-3.3.1-6]` (5)
    pub payload: &'a [u8],
}

impl<'a> RetainedRecord<'a> {
    /// Appends the row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[FORMAT, self.qos.bits()]);
        out.extend_from_slice(&self.stored_ms.to_be_bytes());
        out.extend_from_slice(&self.expires_ms.unwrap_or(u64::MAX).to_be_bytes());
        put_bytes(out, self.properties.as_bytes());
        put_bytes(out, self.payload);
    }

    /// Reads a row; all of `bytes` belongs to it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            FORMAT => {}
            format => return Err(RecordError::Format(format)),
        }
        let record = Self {
            qos: Qos::from_bits(reader.byte()?).ok_or(RecordError::Damaged("the QoS"))?,
            stored_ms: read_u64(&mut reader)?,
            expires_ms: Some(read_u64(&mut reader)?).filter(|&expires_ms| expires_ms != u64::MAX),
            properties: Properties::of_publish(read_bytes(&mut reader)?)?,
            payload: read_bytes(&mut reader)?,
        };
        reader.finish()?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::property::{Property, PropertyBuf};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read(
            (qos, stored_ms) in (0..3u8, any::<u64>()),
            expires_ms in proptest::option::of(0..u64::MAX),
            content_type in ".{0,9}",
            payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let content_type = content_type.replace('\0', "");
            let mut properties = PropertyBuf::new();
            properties.push(Property::ContentType(&content_type));
            let properties = properties.as_properties();
            let qos = Qos::from_bits(qos).unwrap();
            let record = RetainedRecord { qos, stored_ms, expires_ms, properties, payload: &payload };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(RetainedRecord::decode(&bytes), Ok(record));
            for end in 0..bytes.len() {
                prop_assert!(RetainedRecord::decode(&bytes[..end]).is_err());
            }
        }
    }
}
