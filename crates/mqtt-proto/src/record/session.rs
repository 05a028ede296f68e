//! The row of a session.
//!
//! ```text
//! format 1 │ flags │ client id │ owner │ expiry u32 │ next position u64 │ [disconnected ms u64]
//!   │ subscriptions: count, then each: filter, options byte, identifier (0: none)
//!   │ [will: QoS and retain byte, topic, properties, payload]
//! flags  1 MQTT 5 · 2 bridge · 4 not connected since · 8 will
//! ```

use std::num::NonZeroU32;

use super::{RecordError, put_bytes, read_bytes, read_text, read_u64};
use crate::packet::{SubscriptionOptions, Will};
use crate::property::Properties;
use crate::protocol::{Qos, Version};
use crate::session::{Grant, SessionExpiry, Subscriptions};
use crate::topic::{self, TopicFilter};
use crate::wire::{Reader, VARINT_MAX, put_u32, put_varint};

const FORMAT: u8 = 1;
const V5: u8 = 1;
const BRIDGE: u8 = 2;
const DISCONNECTED: u8 = 4;
const WILL: u8 = 8;
const KNOWN_FLAGS: u8 = V5 | BRIDGE | DISCONNECTED | WILL;

/// What outlives the process of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The client's name for itself.
    pub client_id: String,
    /// The account and user it belongs to, as the broker writes them; for the permissions of a will sent later.
    pub owner: String,
    /// The version of its last connection.
    pub version: Version,
    /// Its last connection was a mosquitto bridge.
    pub bridge: bool,
    /// When it ends.
    pub expiry: SessionExpiry,
    /// When its last connection ended, milliseconds of the age clock; `None` while one lasts.
    pub disconnected_ms: Option<u64>,
    /// The position of the next message of its queue when the row was written.
    pub next_position: u64,
    /// What it is subscribed to.
    pub subscriptions: Subscriptions,
    /// The will of its last connection, if it is still to be published.
    pub will: Option<WillRecord>,
}

/// A will, owned. Its delay is among its properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WillRecord {
    /// The QoS it is published at.
    pub qos: Qos,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// A valid topic name.
    pub topic: String,
    /// The bytes of [`Properties::as_bytes`]; checked.
    properties: Vec<u8>,
    /// The message.
    pub payload: Vec<u8>,
}

impl From<&Will<'_>> for WillRecord {
    fn from(will: &Will<'_>) -> Self {
        Self {
            qos: will.qos,
            retain: will.retain,
            topic: will.topic.to_owned(),
            properties: will.properties.as_bytes().to_vec(),
            payload: will.payload.to_vec(),
        }
    }
}

impl WillRecord {
    /// The will as CONNECT had it.
    pub fn as_will(&self) -> Will<'_> {
        // They were checked when the record was made: an error can't come.
        let properties = Properties::of_will(&self.properties).unwrap_or_default();
        Will { qos: self.qos, retain: self.retain, topic: &self.topic, properties, payload: &self.payload }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.qos.bits() | u8::from(self.retain) << 2);
        put_bytes(out, self.topic.as_bytes());
        put_bytes(out, &self.properties);
        put_bytes(out, &self.payload);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let byte = reader.byte()?;
        let qos = Qos::from_bits(byte & 0b11).filter(|_| byte <= 0b111);
        let topic = read_text(reader)?;
        topic::topic_to_subject(topic, &mut String::new()).map_err(|_| RecordError::Damaged("the will's topic"))?;
        let properties = read_bytes(reader)?;
        Properties::of_will(properties)?;
        Ok(Self {
            qos: qos.ok_or(RecordError::Damaged("the will's QoS"))?,
            retain: byte & 0b100 != 0,
            topic: topic.to_owned(),
            properties: properties.to_vec(),
            payload: read_bytes(reader)?.to_vec(),
        })
    }
}

impl SessionRecord {
    /// Appends the row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[FORMAT, self.flags()]);
        put_bytes(out, self.client_id.as_bytes());
        put_bytes(out, self.owner.as_bytes());
        put_u32(out, self.expiry.interval());
        out.extend_from_slice(&self.next_position.to_be_bytes());
        if let Some(disconnected_ms) = self.disconnected_ms {
            out.extend_from_slice(&disconnected_ms.to_be_bytes());
        }
        put_varint(out, self.subscriptions.len());
        for (filter, grant) in self.subscriptions.iter() {
            put_bytes(out, filter.as_bytes());
            out.push(grant.options.to_byte());
            put_varint(out, grant.identifier.map_or(0, |identifier| identifier.get().min(VARINT_MAX) as usize));
        }
        if let Some(will) = &self.will {
            will.encode(out);
        }
    }

    /// Reads a row; all of `bytes` belongs to it.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            FORMAT => {}
            format => return Err(RecordError::Format(format)),
        }
        let flags = reader.byte()?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(RecordError::Damaged("unknown flags"));
        }
        let record = Self {
            client_id: read_text(&mut reader)?.to_owned(),
            owner: read_text(&mut reader)?.to_owned(),
            version: if flags & V5 == 0 { Version::V311 } else { Version::V5 },
            bridge: flags & BRIDGE != 0,
            expiry: SessionExpiry::from_interval(reader.u32()?),
            next_position: read_u64(&mut reader)?,
            disconnected_ms: if flags & DISCONNECTED == 0 { None } else { Some(read_u64(&mut reader)?) },
            subscriptions: read_subscriptions(&mut reader)?,
            will: if flags & WILL == 0 { None } else { Some(WillRecord::decode(&mut reader)?) },
        };
        reader.finish()?;
        Ok(record)
    }

    const fn flags(&self) -> u8 {
        let version = match self.version {
            Version::V311 => 0,
            Version::V5 => V5,
        };
        version
            | if self.bridge { BRIDGE } else { 0 }
            | if self.disconnected_ms.is_some() { DISCONNECTED } else { 0 }
            | if self.will.is_some() { WILL } else { 0 }
    }
}

/// Ends at the first entry that is not there, however many are claimed.
fn read_subscriptions(reader: &mut Reader<'_>) -> Result<Subscriptions, RecordError> {
    let mut subscriptions = Subscriptions::new();
    for _ in 0..reader.varint()? {
        let filter = read_text(reader)?;
        TopicFilter::parse(filter).map_err(|_| RecordError::Damaged("a subscription's filter"))?;
        let options = SubscriptionOptions::from_byte(reader.byte()?, Version::V5)?;
        let identifier = NonZeroU32::new(reader.varint()?);
        if subscriptions.insert(filter, Grant { options, identifier }).is_some() {
            return Err(RecordError::Damaged("a subscription twice"));
        }
    }
    Ok(subscriptions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::RetainHandling;
    use crate::property::{Property, PropertyBuf};

    fn grant() -> impl Strategy<Value = Grant> {
        (0..3u8, any::<bool>(), any::<bool>(), 0..3u8, 0..=VARINT_MAX).prop_map(
            |(qos, no_local, retain_as_published, handling, identifier)| Grant {
                options: SubscriptionOptions {
                    qos: Qos::from_bits(qos).unwrap(),
                    no_local,
                    retain_as_published,
                    retain_handling: [RetainHandling::Always, RetainHandling::OnlyIfNew, RetainHandling::Never]
                        [usize::from(handling)],
                },
                identifier: NonZeroU32::new(identifier),
            },
        )
    }

    fn will() -> impl Strategy<Value = WillRecord> {
        (0..3u8, any::<bool>(), "[a-z/]{1,20}", any::<u32>(), proptest::collection::vec(any::<u8>(), 0..300)).prop_map(
            |(qos, retain, topic, delay, payload)| {
                let mut properties = PropertyBuf::new();
                properties.push(Property::WillDelayInterval(delay));
                properties.push(Property::UserProperty("k", "v"));
                let qos = Qos::from_bits(qos).unwrap();
                let properties = properties.as_properties();
                WillRecord::from(&Will { qos, retain, topic: &topic, properties, payload: &payload })
            },
        )
    }

    fn record() -> impl Strategy<Value = SessionRecord> {
        let subscriptions = proptest::collection::btree_map("(\\$share/g/)?[a-z/+]?/[a-z]{1,8}(/#)?", grant(), 0..9);
        let head = (".{0,12}", "[A-Z]{0,4}", any::<bool>(), any::<bool>(), any::<u32>());
        let rest = (proptest::option::of(any::<u64>()), any::<u64>(), subscriptions, proptest::option::of(will()));
        (head, rest).prop_map(
            |((client_id, owner, v5, bridge, expiry), (disconnected_ms, next_position, grants, will))| {
                let mut subscriptions = Subscriptions::new();
                for (filter, grant) in grants {
                    if TopicFilter::parse(&filter).is_ok() {
                        subscriptions.insert(&filter, grant);
                    }
                }
                SessionRecord {
                    client_id,
                    owner,
                    version: if v5 { Version::V5 } else { Version::V311 },
                    bridge,
                    expiry: SessionExpiry::from_interval(expiry),
                    disconnected_ms,
                    next_position,
                    subscriptions,
                    will,
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_is_written_is_read(record in record()) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(SessionRecord::decode(&bytes), Ok(record));
            // No proper beginning of a row is a row, and nothing may follow it.
            for end in 0..bytes.len() {
                prop_assert!(SessionRecord::decode(&bytes[..end]).is_err());
            }
            bytes.push(0);
            prop_assert!(SessionRecord::decode(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(format) = bytes.first_mut() {
                *format = FORMAT;
            }
            if let Ok(record) = SessionRecord::decode(&bytes) {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(SessionRecord::decode(&again), Ok(record));
            }
        }
    }

    #[test]
    fn a_format_of_the_future_is_told_apart_from_damage() {
        assert_eq!(SessionRecord::decode(&[2, 0]), Err(RecordError::Format(2)));
        assert!(matches!(SessionRecord::decode(&[]), Err(RecordError::Damaged(_))));
    }

    #[test]
    fn a_claim_of_many_subscriptions_costs_nothing() {
        let mut bytes = vec![FORMAT, 0, 0, 0];
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&[0xFF, 0xFF, 0xFF, 0x7F]);
        assert!(matches!(SessionRecord::decode(&bytes), Err(RecordError::Damaged(_))));
    }
}
