//! CONNECT: the first packet of a connection, and the only one that says which version is spoken.

use crate::error::DecodeError;
use crate::property::{Place, Properties, Property};
use crate::protocol::{PacketType, Qos, Version};
use crate::topic;
use crate::wire::{Reader, put_binary, put_packet, put_text, put_u16};

/// The level by which a mosquitto bridge says so: 3.1.1 with no-local and retain-as-published.
const BRIDGE_LEVEL: u8 = 0x84;

const USER_NAME: u8 = 0b1000_0000;
const PASSWORD: u8 = 0b0100_0000;
const WILL_RETAIN: u8 = 0b0010_0000;
const WILL_QOS: u8 = 0b0001_1000;
const WILL: u8 = 0b0000_0100;
const CLEAN: u8 = 0b0000_0010;
const RESERVED: u8 = 0b0000_0001;

/// A message that the server publishes when the connection ends without a word. `[MQTT-3.1.2-8]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// The QoS it is published at.
    pub qos: Qos,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// A valid topic name, not empty.
    pub topic: &'a str,
    /// Always empty in 3.1.1.
    pub properties: Properties<'a>,
    /// The message.
    pub payload: &'a [u8],
}

impl Will<'_> {
    /// How long it waits for its session to be resumed, seconds.
    pub fn delay_interval(&self) -> u32 {
        let delay = self.properties.iter().find_map(|property| match property {
            Property::WillDelayInterval(seconds) => Some(seconds),
            _ => None,
        });
        delay.unwrap_or(0)
    }
}

/// A CONNECT packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// What this connection speaks from now on.
    pub version: Version,
    /// A mosquitto bridge (level 0x84, 3.1.1 only).
    pub bridge: bool,
    /// Clean session (3.1.1) or clean start (5).
    pub clean: bool,
    /// Seconds within which something must arrive; 0: whenever.
    pub keep_alive: u16,
    /// Always empty in 3.1.1.
    pub properties: Properties<'a>,
    /// Empty: the server chooses.
    pub client_id: &'a str,
    /// The will, if the client leaves one.
    pub will: Option<Will<'a>>,
    /// The user name; an empty one is the same as none.
    pub user_name: Option<&'a str>,
    /// The password; binary.
    pub password: Option<&'a [u8]>,
}

/// What the properties of a CONNECT say, with the standard's defaults for what they don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectOptions<'a> {
    /// Seconds the session outlives its connection; `u32::MAX`: for ever.
    pub session_expiry_interval: u32,
    /// How many QoS 1 and 2 messages the client takes unacknowledged.
    pub receive_maximum: u16,
    /// The largest packet the client takes, bytes.
    pub maximum_packet_size: u32,
    /// The highest topic alias the client takes; 0: none.
    pub topic_alias_maximum: u16,
    /// Whether response information is wanted in CONNACK.
    pub request_response_information: bool,
    /// Whether reason strings and user properties are wanted in every packet. `[MQTT-3.1.2-29]`
    pub request_problem_information: bool,
    /// The method of enhanced authentication.
    pub authentication_method: Option<&'a str>,
}

impl<'a> Connect<'a> {
    /// The properties with their defaults. A 3.1.1 session that is not clean never expires.
    pub fn options(&self) -> ConnectOptions<'a> {
        let keeps = self.version == Version::V311 && !self.clean;
        let mut options = ConnectOptions {
            session_expiry_interval: if keeps { u32::MAX } else { 0 },
            receive_maximum: u16::MAX,
            maximum_packet_size: u32::MAX,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
        };
        for property in self.properties.iter() {
            match property {
                Property::SessionExpiryInterval(seconds) => options.session_expiry_interval = seconds,
                Property::ReceiveMaximum(count) => options.receive_maximum = count,
                Property::MaximumPacketSize(bytes) => options.maximum_packet_size = bytes,
                Property::TopicAliasMaximum(highest) => options.topic_alias_maximum = highest,
                Property::RequestResponseInformation(wanted) => options.request_response_information = wanted,
                Property::RequestProblemInformation(wanted) => options.request_problem_information = wanted,
                Property::AuthenticationMethod(method) => options.authentication_method = Some(method),
                _ => {}
            }
        }
        options
    }

    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let (version, bridge) = decode_version(&mut reader)?;
        let flags = reader.byte()?;
        check_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = decode_properties(&mut reader, version)?;
        let client_id = reader.text()?;
        let clean = flags & CLEAN != 0;
        let will = if flags & WILL == 0 { None } else { Some(decode_will(&mut reader, flags, version)?) };
        let user_name = if flags & USER_NAME == 0 { None } else { Some(reader.text()?) };
        let password = if flags & PASSWORD == 0 { None } else { Some(reader.binary()?) };
        reader.finish()?;
        if client_id.is_empty() && !clean && version == Version::V311 {
            return Err(DecodeError::ClientIdentifier); // [MQTT-3.1.3-8]
        }
        Ok(Self { version, bridge, clean, keep_alive, properties, client_id, will, user_name, password })
    }

    /// Appends the packet, in the version it names itself.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Connect.first_byte(), |out| {
            put_text(out, "MQTT");
            out.push(if self.bridge { BRIDGE_LEVEL } else { self.version.level() });
            out.push(self.flags());
            put_u16(out, self.keep_alive);
            if self.version == Version::V5 {
                self.properties.encode(out);
            }
            put_text(out, self.client_id);
            if let Some(will) = &self.will {
                if self.version == Version::V5 {
                    will.properties.encode(out);
                }
                put_text(out, will.topic);
                put_binary(out, will.payload);
            }
            if let Some(user_name) = self.user_name {
                put_text(out, user_name);
            }
            if let Some(password) = self.password {
                put_binary(out, password);
            }
        });
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean {
            flags |= CLEAN;
        }
        if let Some(will) = &self.will {
            flags |= WILL | will.qos.bits() << 3;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.user_name.is_some() {
            flags |= USER_NAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }
}

/// The version of the CONNECT at the head of these bytes, as far as they tell; for the wording of a refusal.
pub fn peek_version(bytes: &[u8]) -> Option<Version> {
    if *bytes.first()? != PacketType::Connect.first_byte() {
        return None;
    }
    let (_, length, _) = crate::wire::read_varint(&bytes[1..]).ok()??;
    let mut reader = Reader::new(&bytes[1 + length..]);
    decode_version(&mut reader).ok().map(|(version, _)| version)
}

fn decode_version(reader: &mut Reader<'_>) -> Result<(Version, bool), DecodeError> {
    let name = reader.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(DecodeError::Malformed("the protocol name is not MQTT")); // [MQTT-3.1.2-1]
    }
    match (name, reader.byte()?) {
        (b"MQTT", 4) => Ok((Version::V311, false)),
        (b"MQTT", BRIDGE_LEVEL) => Ok((Version::V311, true)),
        (b"MQTT", 5) => Ok((Version::V5, false)),
        (_, level) => Err(DecodeError::ProtocolLevel { level }), // [MQTT-3.1.2-2]
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    if flags & RESERVED != 0 {
        return Err(DecodeError::Malformed("reserved flag of CONNECT")); // [MQTT-3.1.2-3]
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(DecodeError::Malformed("will QoS or will retain without a will")); // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    }
    if version == Version::V311 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(DecodeError::Malformed("a password without a user name")); // [MQTT-3.1.2-22]
    }
    Ok(())
}

fn decode_properties<'a>(reader: &mut Reader<'a>, version: Version) -> Result<Properties<'a>, DecodeError> {
    if version == Version::V311 {
        return Ok(Properties::EMPTY);
    }
    let properties = Properties::decode(reader, Place::Packet(PacketType::Connect))?;
    let has = |wanted: fn(&Property<'_>) -> bool| properties.iter().any(|property| wanted(&property));
    if has(|property| matches!(property, Property::AuthenticationData(_)))
        && !has(|property| matches!(property, Property::AuthenticationMethod(_)))
    {
        return Err(DecodeError::Protocol("authentication data without a method"));
    }
    Ok(properties)
}

fn decode_will<'a>(reader: &mut Reader<'a>, flags: u8, version: Version) -> Result<Will<'a>, DecodeError> {
    let qos = Qos::from_bits((flags & WILL_QOS) >> 3).ok_or(DecodeError::Malformed("will QoS 3"))?; // [MQTT-3.1.2-14]
    let properties = match version {
        Version::V311 => Properties::EMPTY,
        Version::V5 => Properties::decode(reader, Place::Will)?,
    };
    let topic = reader.text()?;
    if topic.is_empty() {
        return Err(DecodeError::TopicName("the will's is empty")); // [MQTT-4.7.3-1]
    }
    if topic::has_wildcard(topic.as_bytes()) {
        return Err(DecodeError::TopicName("the will's contains wildcards"));
    }
    Ok(Will { qos, retain: flags & WILL_RETAIN != 0, topic, properties, payload: reader.binary()? })
}
