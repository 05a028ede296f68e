//! The properties of MQTT 5: one table of what each is, where it may stand and how often.
//!
//! [`Properties`] borrows bytes that were checked against the table once, so that iterating them can't fail.
//! [`PropertyBuf`] builds such bytes. 3.1.1 has none: there they are always empty, and not encoded.

use crate::error::DecodeError;
use crate::protocol::PacketType;
use crate::topic;
use crate::wire::{Reader, put_binary, put_text, put_u16, put_u32, put_varint};

/// How the value of a property is laid out, and which values are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// A byte that is 0 or 1.
    Flag,
    U16,
    /// Zero is a protocol error.
    U16NotZero,
    /// Zero is an invalid topic alias.
    Alias,
    U32,
    /// Zero is a protocol error.
    U32NotZero,
    /// Zero is a protocol error.
    VarintNotZero,
    Text,
    /// A topic name: no wildcards. [MQTT-3.3.2-14]
    Topic,
    Binary,
    Pair,
}

/// A row of the table: layout, and one bit per packet type that may carry the property (bit 0: a will).
#[derive(Debug, Clone, Copy)]
struct Rule {
    layout: Layout,
    places: u16,
}

/// Where properties stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Will,
    Packet(PacketType),
}

impl Place {
    const fn bit(self) -> u16 {
        match self {
            Place::Will => 1,
            Place::Packet(packet) => 1 << packet as u8,
        }
    }
}

const WILL: u16 = Place::Will.bit();
const CONNECT: u16 = Place::Packet(PacketType::Connect).bit();
const CONNACK: u16 = Place::Packet(PacketType::Connack).bit();
const PUBLISH: u16 = Place::Packet(PacketType::Publish).bit();
const PUBACKS: u16 = Place::Packet(PacketType::Puback).bit()
    | Place::Packet(PacketType::Pubrec).bit()
    | Place::Packet(PacketType::Pubrel).bit()
    | Place::Packet(PacketType::Pubcomp).bit();
const SUBSCRIBE: u16 = Place::Packet(PacketType::Subscribe).bit();
const UNSUBSCRIBE: u16 = Place::Packet(PacketType::Unsubscribe).bit();
const SUBACKS: u16 = Place::Packet(PacketType::Suback).bit() | Place::Packet(PacketType::Unsuback).bit();
const DISCONNECT: u16 = Place::Packet(PacketType::Disconnect).bit();
const AUTH: u16 = Place::Packet(PacketType::Auth).bit();
const EVERYWHERE: u16 =
    WILL | CONNECT | CONNACK | PUBLISH | PUBACKS | SUBSCRIBE | UNSUBSCRIBE | SUBACKS | DISCONNECT | AUTH;

const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
const USER_PROPERTY: u8 = 0x26;
const TABLE_LENGTH: usize = 0x2B;

/// The table of MQTT 5 chapter 2.2.2.2.
static RULES: [Option<Rule>; TABLE_LENGTH] = {
    const fn rule(layout: Layout, places: u16) -> Option<Rule> {
        Some(Rule { layout, places })
    }
    let mut rules = [None; TABLE_LENGTH];
    rules[0x01] = rule(Layout::Flag, PUBLISH | WILL);
    rules[0x02] = rule(Layout::U32, PUBLISH | WILL);
    rules[0x03] = rule(Layout::Text, PUBLISH | WILL);
    rules[0x08] = rule(Layout::Topic, PUBLISH | WILL);
    rules[0x09] = rule(Layout::Binary, PUBLISH | WILL);
    rules[SUBSCRIPTION_IDENTIFIER as usize] = rule(Layout::VarintNotZero, PUBLISH | SUBSCRIBE);
    rules[0x11] = rule(Layout::U32, CONNECT | CONNACK | DISCONNECT);
    rules[0x12] = rule(Layout::Text, CONNACK);
    rules[0x13] = rule(Layout::U16, CONNACK);
    rules[0x15] = rule(Layout::Text, CONNECT | CONNACK | AUTH);
    rules[0x16] = rule(Layout::Binary, CONNECT | CONNACK | AUTH);
    rules[0x17] = rule(Layout::Flag, CONNECT);
    rules[0x18] = rule(Layout::U32, WILL);
    rules[0x19] = rule(Layout::Flag, CONNECT);
    rules[0x1A] = rule(Layout::Text, CONNACK);
    rules[0x1C] = rule(Layout::Text, CONNACK | DISCONNECT);
    rules[0x1F] = rule(Layout::Text, CONNACK | PUBACKS | SUBACKS | DISCONNECT | AUTH);
    rules[0x21] = rule(Layout::U16NotZero, CONNECT | CONNACK);
    rules[0x22] = rule(Layout::U16, CONNECT | CONNACK);
    rules[0x23] = rule(Layout::Alias, PUBLISH);
    rules[0x24] = rule(Layout::Flag, CONNACK);
    rules[0x25] = rule(Layout::Flag, CONNACK);
    rules[USER_PROPERTY as usize] = rule(Layout::Pair, EVERYWHERE);
    rules[0x27] = rule(Layout::U32NotZero, CONNECT | CONNACK);
    rules[0x28] = rule(Layout::Flag, CONNACK);
    rules[0x29] = rule(Layout::Flag, CONNACK);
    rules[0x2A] = rule(Layout::Flag, CONNACK);
    rules
};

/// One property with its value. The names are the standard's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// The payload is UTF-8 text.
    PayloadFormatIndicator(bool),
    /// Seconds after which an undelivered message is worthless.
    MessageExpiryInterval(u32),
    /// What the payload is.
    ContentType(&'a str),
    /// Where the answer to a request goes: a topic name.
    ResponseTopic(&'a str),
    /// What the answer to a request carries back.
    CorrelationData(&'a [u8]),
    /// The number a client gave to a subscription, 1 to 268,435,455.
    SubscriptionIdentifier(u32),
    /// Seconds a session outlives its connection; `u32::MAX`: for ever.
    SessionExpiryInterval(u32),
    /// The identifier a server chose for a client that gave none.
    AssignedClientIdentifier(&'a str),
    /// The keep alive a server wants instead of the client's, seconds.
    ServerKeepAlive(u16),
    /// The method of enhanced authentication.
    AuthenticationMethod(&'a str),
    /// The data of enhanced authentication.
    AuthenticationData(&'a [u8]),
    /// Whether reason strings and user properties are wanted in every packet.
    RequestProblemInformation(bool),
    /// Seconds a will waits for its session to be resumed.
    WillDelayInterval(u32),
    /// Whether response information is wanted in CONNACK.
    RequestResponseInformation(bool),
    /// A base for response topics.
    ResponseInformation(&'a str),
    /// Another server to use.
    ServerReference(&'a str),
    /// A text for people.
    ReasonString(&'a str),
    /// How many QoS 1 and 2 messages the sender of this takes unacknowledged, at least 1.
    ReceiveMaximum(u16),
    /// The highest topic alias the sender of this takes; 0: none.
    TopicAliasMaximum(u16),
    /// A number that stands for the topic, at least 1.
    TopicAlias(u16),
    /// The highest QoS a server takes, 0 or 1; absent: 2.
    MaximumQos(bool),
    /// Whether a server keeps retained messages.
    RetainAvailable(bool),
    /// A name and a value that mean something to the application; order and repeats are kept.
    UserProperty(&'a str, &'a str),
    /// The largest packet the sender of this takes, bytes, at least 1.
    MaximumPacketSize(u32),
    /// Whether a server takes filters with wildcards.
    WildcardSubscriptionAvailable(bool),
    /// Whether a server takes subscription identifiers.
    SubscriptionIdentifierAvailable(bool),
    /// Whether a server takes shared subscriptions.
    SharedSubscriptionAvailable(bool),
}

impl Property<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.id());
        match *self {
            Property::PayloadFormatIndicator(value)
            | Property::RequestProblemInformation(value)
            | Property::RequestResponseInformation(value)
            | Property::MaximumQos(value)
            | Property::RetainAvailable(value)
            | Property::WildcardSubscriptionAvailable(value)
            | Property::SubscriptionIdentifierAvailable(value)
            | Property::SharedSubscriptionAvailable(value) => out.push(u8::from(value)),
            Property::ServerKeepAlive(value)
            | Property::ReceiveMaximum(value)
            | Property::TopicAliasMaximum(value)
            | Property::TopicAlias(value) => put_u16(out, value),
            Property::MessageExpiryInterval(value)
            | Property::SessionExpiryInterval(value)
            | Property::WillDelayInterval(value)
            | Property::MaximumPacketSize(value) => put_u32(out, value),
            Property::SubscriptionIdentifier(value) => put_varint(out, value as usize),
            Property::ContentType(text)
            | Property::ResponseTopic(text)
            | Property::AssignedClientIdentifier(text)
            | Property::AuthenticationMethod(text)
            | Property::ResponseInformation(text)
            | Property::ServerReference(text)
            | Property::ReasonString(text) => put_text(out, text),
            Property::CorrelationData(bytes) | Property::AuthenticationData(bytes) => put_binary(out, bytes),
            Property::UserProperty(name, value) => {
                put_text(out, name);
                put_text(out, value);
            }
        }
    }

    const fn id(&self) -> u8 {
        match self {
            Property::PayloadFormatIndicator(_) => 0x01,
            Property::MessageExpiryInterval(_) => 0x02,
            Property::ContentType(_) => 0x03,
            Property::ResponseTopic(_) => 0x08,
            Property::CorrelationData(_) => 0x09,
            Property::SubscriptionIdentifier(_) => SUBSCRIPTION_IDENTIFIER,
            Property::SessionExpiryInterval(_) => 0x11,
            Property::AssignedClientIdentifier(_) => 0x12,
            Property::ServerKeepAlive(_) => 0x13,
            Property::AuthenticationMethod(_) => 0x15,
            Property::AuthenticationData(_) => 0x16,
            Property::RequestProblemInformation(_) => 0x17,
            Property::WillDelayInterval(_) => 0x18,
            Property::RequestResponseInformation(_) => 0x19,
            Property::ResponseInformation(_) => 0x1A,
            Property::ServerReference(_) => 0x1C,
            Property::ReasonString(_) => 0x1F,
            Property::ReceiveMaximum(_) => 0x21,
            Property::TopicAliasMaximum(_) => 0x22,
            Property::TopicAlias(_) => 0x23,
            Property::MaximumQos(_) => 0x24,
            Property::RetainAvailable(_) => 0x25,
            Property::UserProperty(..) => USER_PROPERTY,
            Property::MaximumPacketSize(_) => 0x27,
            Property::WildcardSubscriptionAvailable(_) => 0x28,
            Property::SubscriptionIdentifierAvailable(_) => 0x29,
            Property::SharedSubscriptionAvailable(_) => 0x2A,
        }
    }
}

/// Reads one property of checked bytes.
fn read_property<'a>(reader: &mut Reader<'a>) -> Result<Property<'a>, DecodeError> {
    Ok(match reader.byte()? {
        0x01 => Property::PayloadFormatIndicator(reader.byte()? != 0),
        0x02 => Property::MessageExpiryInterval(reader.u32()?),
        0x03 => Property::ContentType(reader.text()?),
        0x08 => Property::ResponseTopic(reader.text()?),
        0x09 => Property::CorrelationData(reader.binary()?),
        SUBSCRIPTION_IDENTIFIER => Property::SubscriptionIdentifier(reader.varint()?),
        0x11 => Property::SessionExpiryInterval(reader.u32()?),
        0x12 => Property::AssignedClientIdentifier(reader.text()?),
        0x13 => Property::ServerKeepAlive(reader.u16()?),
        0x15 => Property::AuthenticationMethod(reader.text()?),
        0x16 => Property::AuthenticationData(reader.binary()?),
        0x17 => Property::RequestProblemInformation(reader.byte()? != 0),
        0x18 => Property::WillDelayInterval(reader.u32()?),
        0x19 => Property::RequestResponseInformation(reader.byte()? != 0),
        0x1A => Property::ResponseInformation(reader.text()?),
        0x1C => Property::ServerReference(reader.text()?),
        0x1F => Property::ReasonString(reader.text()?),
        0x21 => Property::ReceiveMaximum(reader.u16()?),
        0x22 => Property::TopicAliasMaximum(reader.u16()?),
        0x23 => Property::TopicAlias(reader.u16()?),
        0x24 => Property::MaximumQos(reader.byte()? != 0),
        0x25 => Property::RetainAvailable(reader.byte()? != 0),
        USER_PROPERTY => Property::UserProperty(reader.text()?, reader.text()?),
        0x27 => Property::MaximumPacketSize(reader.u32()?),
        0x28 => Property::WildcardSubscriptionAvailable(reader.byte()? != 0),
        0x29 => Property::SubscriptionIdentifierAvailable(reader.byte()? != 0),
        0x2A => Property::SharedSubscriptionAvailable(reader.byte()? != 0),
        _ => return Err(UNKNOWN),
    })
}

const UNKNOWN: DecodeError = DecodeError::Malformed("an unknown property");

/// Checked properties, as they stand in a packet behind their length.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Properties<'static> = Properties { bytes: &[] };

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes as on the wire, without their length: what a durable record keeps.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The properties of a message, checked; for bytes that come back from a durable record.
    pub fn of_publish(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::check(bytes, Place::Packet(PacketType::Publish))
    }

    /// The properties of a will, checked; for bytes that come back from a durable record.
    pub fn of_will(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::check(bytes, Place::Will)
    }

    /// The properties in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        // They were checked: an error can't come, and would end them.
        std::iter::from_fn(move || if reader.is_empty() { None } else { read_property(&mut reader).ok() })
    }

    /// Reads the length and the properties behind it.
    #[inline]
    pub(crate) fn decode(reader: &mut Reader<'a>, place: Place) -> Result<Self, DecodeError> {
        let length = reader.varint()?;
        if length == 0 {
            return Ok(Properties::EMPTY);
        }
        Self::check(reader.take(length as usize)?, place)
    }

    /// The bytes the properties take in a packet, their length included.
    #[inline]
    pub(crate) const fn encoded_length(&self) -> usize {
        crate::wire::varint_length(self.bytes.len()) + self.bytes.len()
    }

    /// Appends length and properties.
    #[inline]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.bytes.len());
        out.extend_from_slice(self.bytes);
    }

    fn check(bytes: &'a [u8], place: Place) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut seen = 0u64;
        while !reader.is_empty() {
            let id = reader.byte()?;
            let Some(rule) = RULES.get(usize::from(id)).copied().flatten() else { return Err(UNKNOWN) };
            if rule.places & place.bit() == 0 {
                return Err(DecodeError::Protocol("a property that this packet can't have"));
            }
            let repeats =
                id == USER_PROPERTY || (id == SUBSCRIPTION_IDENTIFIER && place == Place::Packet(PacketType::Publish));
            if seen & (1 << id) != 0 && !repeats {
                return Err(DecodeError::Protocol("a property twice"));
            }
            seen |= 1 << id;
            check_value(&mut reader, rule.layout)?;
        }
        Ok(Self { bytes })
    }
}

impl std::fmt::Debug for Properties<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

fn check_value(reader: &mut Reader<'_>, layout: Layout) -> Result<(), DecodeError> {
    let is_zero = match layout {
        Layout::Flag => {
            if reader.byte()? > 1 {
                return Err(DecodeError::Protocol("a property that is 0 or 1 has another value"));
            }
            false
        }
        Layout::U16 => reader.u16().map(|_| false)?,
        Layout::U32 => reader.u32().map(|_| false)?,
        Layout::U16NotZero => reader.u16()? == 0,
        Layout::U32NotZero => reader.u32()? == 0,
        Layout::VarintNotZero => reader.varint()? == 0,
        Layout::Alias => {
            if reader.u16()? == 0 {
                return Err(DecodeError::TopicAlias("topic alias 0"));
            }
            false
        }
        Layout::Text => reader.text().map(|_| false)?,
        Layout::Topic => {
            if topic::has_wildcard(reader.text()?.as_bytes()) {
                return Err(DecodeError::Protocol("a response topic with wildcards"));
            }
            false
        }
        Layout::Binary => reader.binary().map(|_| false)?,
        Layout::Pair => {
            reader.text()?;
            reader.text()?;
            false
        }
    };
    if is_zero { Err(DecodeError::Protocol("a property that can't be 0 is")) } else { Ok(()) }
}

/// Properties being built. What is pushed must suit the packet it goes into; debug builds check that on encoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertyBuf {
    bytes: Vec<u8>,
}

impl PropertyBuf {
    /// Nothing yet, and nothing allocated.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends a property.
    pub fn push(&mut self, property: Property<'_>) {
        property.encode(&mut self.bytes);
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What was built.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { bytes: &self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_read_as_it_was_written() {
        let all = [
            Property::PayloadFormatIndicator(true),
            Property::MessageExpiryInterval(7),
            Property::ContentType("text/plain"),
            Property::ResponseTopic("a/b"),
            Property::CorrelationData(b"\0\x01"),
            Property::SubscriptionIdentifier(268_435_455),
            Property::SessionExpiryInterval(u32::MAX),
            Property::AssignedClientIdentifier("c"),
            Property::ServerKeepAlive(60),
            Property::AuthenticationMethod("m"),
            Property::AuthenticationData(b"d"),
            Property::RequestProblemInformation(false),
            Property::WillDelayInterval(0),
            Property::RequestResponseInformation(true),
            Property::ResponseInformation("r"),
            Property::ServerReference("s"),
            Property::ReasonString("why"),
            Property::ReceiveMaximum(1),
            Property::TopicAliasMaximum(0),
            Property::TopicAlias(16),
            Property::MaximumQos(true),
            Property::RetainAvailable(false),
            Property::UserProperty("k", "v"),
            Property::MaximumPacketSize(1),
            Property::WildcardSubscriptionAvailable(true),
            Property::SubscriptionIdentifierAvailable(true),
            Property::SharedSubscriptionAvailable(true),
        ];
        let mut built = PropertyBuf::new();
        for property in all {
            assert!(RULES[usize::from(property.id())].is_some());
            built.push(property);
        }
        assert_eq!(built.as_properties().iter().collect::<Vec<_>>(), all);
        assert_eq!(RULES.iter().flatten().count(), all.len());
    }
}
