//! The control packets, a file each: bytes ↔ [`Packet`].
//!
//! Decoding borrows from the read buffer, allocates nothing, and refuses everything the standard forbids, so that
//! what comes out needs no second look; topic *filters* are the exception, see [`subscribe`]. Encoding appends to a
//! buffer and can't fail. Which packets a connection may send when is not decided here, but that CONNECT comes
//! first and once.
//!
//! ```text
//! bytes ──frame_length──▶ size of the packet ──decode──▶ Packet<'_>      None: read more
//!            (header only: oversize is refused before its bytes arrive)
//! ```

pub mod acknowledgement;
pub mod auth;
pub mod connack;
pub mod connect;
pub mod disconnect;
pub mod ping;
pub mod publish;
pub mod suback;
pub mod subscribe;
pub mod unsuback;
pub mod unsubscribe;

pub use acknowledgement::Acknowledgement;
pub use auth::Auth;
pub use connack::{Connack, ConnectOutcome};
pub use connect::{Connect, ConnectOptions, Will, peek_version};
pub use disconnect::Disconnect;
pub use publish::{Delivery, Publish};
pub use suback::{Codes, Suback};
pub use subscribe::{RetainHandling, Subscribe, SubscribeFilters, SubscriptionOptions};
pub use unsuback::Unsuback;
pub use unsubscribe::{Unsubscribe, UnsubscribeFilters};

use crate::error::DecodeError;
use crate::protocol::{PacketType, Sender, Version};
use crate::reason::ReasonCode;
use crate::wire::{Reader, read_varint};

/// The longest fixed header, bytes: the first byte and four of length.
pub const MAX_HEADER: usize = 5;

/// A control packet, borrowed from the bytes it was decoded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Acknowledgement<'a>),
    Pubrec(Acknowledgement<'a>),
    Pubrel(Acknowledgement<'a>),
    Pubcomp(Acknowledgement<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// Which packet it is.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::Connack(_) => PacketType::Connack,
            Packet::Publish(_) => PacketType::Publish,
            Packet::Puback(_) => PacketType::Puback,
            Packet::Pubrec(_) => PacketType::Pubrec,
            Packet::Pubrel(_) => PacketType::Pubrel,
            Packet::Pubcomp(_) => PacketType::Pubcomp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::Suback(_) => PacketType::Suback,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::Unsuback(_) => PacketType::Unsuback,
            Packet::Pingreq => PacketType::Pingreq,
            Packet::Pingresp => PacketType::Pingresp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet. What the version has no room for (properties, reasons in 3.1.1) is left out; an AUTH
    /// does not exist there and must not be encoded. CONNECT names its version itself.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(connect) => connect.encode(out),
            Packet::Connack(connack) => connack.encode(version, out),
            Packet::Publish(publish) => publish.encode(version, out),
            Packet::Puback(acknowledgement)
            | Packet::Pubrec(acknowledgement)
            | Packet::Pubrel(acknowledgement)
            | Packet::Pubcomp(acknowledgement) => acknowledgement.encode(self.packet_type(), version, out),
            Packet::Subscribe(subscribe) => subscribe.encode(version, out),
            Packet::Suback(suback) => suback.encode(version, out),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Packet::Unsuback(unsuback) => unsuback.encode(version, out),
            Packet::Pingreq => ping::encode_request(out),
            Packet::Pingresp => ping::encode_response(out),
            Packet::Disconnect(disconnect) => disconnect.encode(version, out),
            Packet::Auth(auth) => auth.encode(out),
        }
    }
}

/// The fixed header of a packet.
#[derive(Debug, Clone, Copy)]
struct Header {
    first: u8,
    /// Where the packet's body begins, 2 to 5.
    body: usize,
    /// Where the packet ends, bytes from its beginning.
    end: usize,
    /// Whether the remaining length is in its shortest form.
    shortest: bool,
}

impl Header {
    #[inline]
    fn read(bytes: &[u8], max_packet: usize) -> Result<Option<Self>, DecodeError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let Some((remaining, length, shortest)) = read_varint(rest)? else { return Ok(None) };
        let body = 1 + length;
        let end = body + remaining as usize;
        if end > max_packet {
            return Err(DecodeError::TooLarge { size: end, max: max_packet });
        }
        Ok(Some(Self { first, body, end, shortest }))
    }
}

/// The size of the packet at the head of `bytes`, known from its fixed header alone. `None`: the header is incomplete.
///
/// `max_packet` bytes are accepted for the whole packet; a larger one is refused before its bytes arrive.
pub fn frame_length(bytes: &[u8], max_packet: usize) -> Result<Option<usize>, DecodeError> {
    Ok(Header::read(bytes, max_packet)?.map(|header| header.end))
}

/// Decodes the packet a client sent at the head of `bytes`, and says how many bytes it took. `None`: incomplete.
///
/// `version` is `None` until a CONNECT was accepted, and then the first packet must be one. `[MQTT-3.1.0-1]`
/// `max_packet` is the largest packet accepted, in bytes.
#[inline]
pub fn decode(
    bytes: &[u8],
    version: Option<Version>,
    max_packet: usize,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    decode_from(Sender::Client, bytes, version, max_packet)
}

/// Decodes a packet as [`decode`] does, of either side: a bridge reads what a server sent.
#[inline]
pub fn decode_from(
    sender: Sender,
    bytes: &[u8],
    version: Option<Version>,
    max_packet: usize,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    if let Some(&first) = bytes.first() {
        check_first_byte(first, version, sender)?;
    }
    let Some(header) = Header::read(bytes, max_packet)? else { return Ok(None) };
    let Some(body) = bytes.get(header.body..header.end) else { return Ok(None) };
    let packet = match version {
        None => decode_first(header, body)?,
        Some(version) => {
            check_shortest(header, version)?;
            if header.first >> 4 == PacketType::Publish as u8 {
                Packet::Publish(Publish::decode(header.first, body, version, sender)?)
            } else {
                decode_body(header.first, body, version, sender)?
            }
        }
    };
    Ok(Some((packet, header.end)))
}

/// Refuses what the first byte alone tells, before more of the packet arrives.
#[inline]
fn check_first_byte(first: u8, version: Option<Version>, sender: Sender) -> Result<(), DecodeError> {
    const PUBLISH: u8 = PacketType::Publish as u8;
    match version {
        Some(_) if first >> 4 == PUBLISH => Ok(()),
        None if first >> 4 != PacketType::Connect as u8 => Err(DecodeError::NotConnect),
        _ => check_type(first, version, sender),
    }
}

fn check_type(first: u8, version: Option<Version>, sender: Sender) -> Result<(), DecodeError> {
    let packet = PacketType::from_first_byte(first).ok_or(DecodeError::Malformed("packet type 0"))?;
    if packet == PacketType::Auth && version == Some(Version::V311) {
        return Err(DecodeError::Malformed("AUTH in 3.1.1"));
    }
    if first != packet.first_byte() {
        return Err(DecodeError::Malformed("reserved flags of the fixed header")); // [MQTT-2.2.2-2], [MQTT-2.1.3-1]
    }
    let allowed = match sender {
        Sender::Client => packet.is_from_client(),
        Sender::Server => packet.is_from_server(),
    };
    if !allowed {
        return Err(DecodeError::Protocol("a packet that only the other side sends"));
    }
    if packet == PacketType::Connect && version.is_some() {
        return Err(DecodeError::Protocol("a second CONNECT")); // [MQTT-3.1.0-2]
    }
    Ok(())
}

/// MQTT 5 wants the shortest form of the remaining length; 3.1.1 does not say. [MQTT-1.5.5-1]
#[inline]
const fn check_shortest(header: Header, version: Version) -> Result<(), DecodeError> {
    match version {
        Version::V5 if !header.shortest => {
            Err(DecodeError::Malformed("the remaining length is not in its shortest form"))
        }
        _ => Ok(()),
    }
}

fn decode_first(header: Header, body: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let connect = Connect::decode(body)?;
    check_shortest(header, connect.version)?;
    Ok(Packet::Connect(connect))
}

fn decode_body(first: u8, body: &[u8], version: Version, sender: Sender) -> Result<Packet<'_>, DecodeError> {
    let packet = PacketType::from_first_byte(first).ok_or(DecodeError::Malformed("packet type 0"))?;
    Ok(match packet {
        PacketType::Connect => Packet::Connect(Connect::decode(body)?),
        PacketType::Connack => Packet::Connack(Connack::decode(body, version)?),
        PacketType::Publish => Packet::Publish(Publish::decode(first, body, version, sender)?),
        PacketType::Puback => Packet::Puback(Acknowledgement::decode(packet, body, version)?),
        PacketType::Pubrec => Packet::Pubrec(Acknowledgement::decode(packet, body, version)?),
        PacketType::Pubrel => Packet::Pubrel(Acknowledgement::decode(packet, body, version)?),
        PacketType::Pubcomp => Packet::Pubcomp(Acknowledgement::decode(packet, body, version)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
        PacketType::Suback => Packet::Suback(Suback::decode(body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        PacketType::Unsuback => Packet::Unsuback(Unsuback::decode(body, version)?),
        PacketType::Pingreq => ping::decode(body).map(|()| Packet::Pingreq)?,
        PacketType::Pingresp => ping::decode(body).map(|()| Packet::Pingresp)?,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version, sender)?),
        PacketType::Auth => Packet::Auth(Auth::decode(body)?),
    })
}

/// A reason code this packet may carry.
fn known_reason(byte: u8, packet: PacketType) -> Result<ReasonCode, DecodeError> {
    ReasonCode::from_byte(byte)
        .filter(|reason| reason.is_allowed_in(packet))
        .ok_or(DecodeError::Protocol("a reason code that this packet can't have"))
}

fn read_reason(reader: &mut Reader<'_>, packet: PacketType) -> Result<ReasonCode, DecodeError> {
    known_reason(reader.byte()?, packet)
}
