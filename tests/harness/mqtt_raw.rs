//! MQTT by hand: exact bytes out, whole packets back. It knows the fixed header and nothing else, so that a check says what it
//! means in the standard's own bytes; a few 3.1.1 packets that every script needs are built here.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::wire::{Wire, printable};

/// A connection that speaks packets.
#[derive(Debug)]
pub struct RawMqtt {
    wire: Wire,
}

/// One packet as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPacket {
    /// Type and flags: the first byte.
    pub first: u8,
    /// Everything behind the remaining length.
    pub body: Vec<u8>,
}

impl RawPacket {
    /// The packet type, 1 (CONNECT) to 15 (AUTH).
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }
}

impl RawMqtt {
    /// Dials and says nothing.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn dial(address: SocketAddr) -> Result<RawMqtt> {
        Ok(RawMqtt { wire: Wire::connect(address)? })
    }

    /// Speaks over a connection that was made elsewhere.
    ///
    /// # Errors
    /// When the socket refuses its options.
    pub fn over(stream: TcpStream) -> Result<RawMqtt> {
        Ok(RawMqtt { wire: Wire::over(stream)? })
    }

    /// Dials, sends a 3.1.1 CONNECT without credentials and expects it to be accepted; whether a session was present.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn connect(address: SocketAddr, client_id: &str, session: Session) -> Result<(RawMqtt, bool)> {
        let mut client = RawMqtt::dial(address)?;
        client.send(&connect_packet(client_id, session, 60))?;
        let answer = client.packet()?;
        ensure!(answer.first == 0x20 && answer.body.len() == 2 && answer.body[1] == 0, "refused: {answer:?}");
        Ok((client, answer.body[0] == 1))
    }

    /// How long every later wait may take; ten seconds unless told.
    pub fn set_limit(&mut self, limit: Duration) {
        self.wire.set_limit(limit);
    }

    /// The socket, for its options or to close one half.
    pub fn stream(&self) -> &TcpStream {
        self.wire.stream()
    }

    /// Sends the bytes as they are.
    ///
    /// # Errors
    /// When the peer has gone or takes nothing for ten seconds.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.send(bytes)
    }

    /// The next packet.
    ///
    /// # Errors
    /// When none comes in time, or its length is longer than MQTT allows.
    pub fn packet(&mut self) -> Result<RawPacket> {
        let bytes = self.wire.wait_for("packet", |received| {
            let (length, behind) = remaining_length(received.get(1..)?)?;
            let whole = 1 + behind + length;
            (received.len() >= whole).then_some(whole)
        });
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                ensure!(self.wire.pending().len() < 5, "a packet stays unfinished: {error}");
                return Err(error);
            }
        };
        let behind = remaining_length(&bytes[1..]).map_or(0, |(_, behind)| behind);
        Ok(RawPacket { first: bytes[0], body: bytes[1 + behind..].to_vec() })
    }

    /// The next bytes must be exactly these.
    ///
    /// # Errors
    /// When others come, or fewer.
    pub fn expect(&mut self, expected: &[u8]) -> Result<()> {
        let received = self.wire.take(expected.len())?;
        ensure!(received == expected, "expected {}, received {}", printable(expected), printable(&received));
        Ok(())
    }

    /// Waits until the peer has closed; what it still said.
    ///
    /// # Errors
    /// When it stays open.
    pub fn expect_close(&mut self) -> Result<Vec<u8>> {
        self.wire.wait_for_close()
    }

    /// Whether nothing arrives for that long.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn is_silent(&mut self, quiet: Duration) -> Result<bool> {
        self.wire.is_silent(quiet)
    }
}

/// The session a CONNECT asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Forgotten at the end of the connection.
    Clean,
    /// Kept.
    Persistent,
}

/// A 3.1.1 CONNECT without will and credentials.
pub fn connect_packet(client_id: &str, session: Session, keep_alive_s: u16) -> Vec<u8> {
    let flags = if session == Session::Clean { 2 } else { 0 };
    let mut body = b"\x00\x04MQTT\x04".to_vec();
    body.push(flags);
    body.extend(keep_alive_s.to_be_bytes());
    body.extend(text(client_id));
    frame(0x10, &body)
}

/// A PUBLISH of QoS 0 (without `packet_id`) or 1.
pub fn publish_packet(topic: &str, packet_id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(packet_id.iter().flat_map(|id| id.to_be_bytes()));
    body.extend_from_slice(payload);
    frame(if packet_id.is_some() { 0x32 } else { 0x30 }, &body)
}

/// A SUBSCRIBE for one filter.
pub fn subscribe_packet(packet_id: u16, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    body.extend(text(filter));
    body.push(qos);
    frame(0x82, &body)
}

/// A PUBACK.
pub fn puback_packet(packet_id: u16) -> Vec<u8> {
    frame(0x40, &packet_id.to_be_bytes())
}

/// A packet of any type: first byte, remaining length, body.
///
/// # Panics
/// When the body is longer than MQTT can say (256 MiB): a mistake in the test.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut left = body.len();
    assert!(left < 1 << 28, "a body of {left} bytes has no remaining length");
    loop {
        // [MQTT-2.2.3] seven bits a byte, the lowest first, the highest bit says that more follows.
        let low = u8::try_from(left % 128).unwrap_or(0);
        left /= 128;
        packet.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// The remaining length and how many bytes say it; `None` while it is unfinished.
fn remaining_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, index + 1));
        }
    }
    None
}
