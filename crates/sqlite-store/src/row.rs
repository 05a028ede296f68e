//! One stored message as the blob of its row. A row is self-contained: whoever finds it can tell whose it is and whether it is whole.
//!
//! ```text
//! byte 0        flags: 1 payload is in chunks, 2 has a TTL, 4 has a message id, 8 payload is compressed; any other bit: not ours
//! bytes 1..5    CRC32C, little endian, over the sequence (u64 little endian), the flags and everything from byte 5 on
//! varint        stream instance
//! i64 LE        wall time, nanoseconds
//! varint        age, milliseconds
//! varint ×2     length of subject, of headers
//! [varint ×2]   if in chunks: length of the payload, id of its first chunk
//! [varint]      if it has a TTL: seconds (room for per-message TTL; written by nobody yet)
//! [16 bytes]    if it has a message id: its hash, little endian
//! [varint]      if it is compressed: length of the payload before; what is stored is an S2 block
//! …             subject, headers, payload (unless in chunks) up to the end
//! ```

use jetstream::identity::{AgeMillis, Timestamp};
use jetstream::store::NewMessage;

use crate::varint::{Cursor, put};

/// The payload lies in the chunk table.
const CHUNKED: u8 = 1;
/// A time to live follows.
const TTL: u8 = 2;
/// A hash of `Nats-Msg-Id` follows.
const MESSAGE_ID: u8 = 4;
/// The payload is an S2 block.
const PACKED: u8 = 8;
/// No payload is longer, twice what `max_payload` may be: what a length says beyond is damage.
const LONGEST_PAYLOAD: u64 = 128 << 20;
/// Payloads below this gain nothing by compression.
const SHORTEST_PACKED: usize = 64;

/// Payloads above this go to the chunk table: long overflow chains make scans slow.
pub(crate) const INLINE_PAYLOAD: usize = 64 * 1024;
/// Bytes of payload in one chunk.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Where a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// In the row.
    Inline(&'a [u8]),
    /// In `length.div_ceil(64 KiB)` chunks from id `first` on.
    Chunks {
        /// Id of the first chunk; the others follow.
        first: u64,
        /// Bytes in all.
        length: u64,
    },
}

impl Payload<'_> {
    /// Bytes of the payload.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Payload::Inline(bytes) => bytes.len(),
            Payload::Chunks { length, .. } => usize::try_from(*length).unwrap_or(usize::MAX),
        }
    }

    /// Ids of its chunks.
    #[must_use]
    pub fn chunks(&self) -> std::ops::Range<u64> {
        match self {
            Payload::Inline(_) => 0..0,
            Payload::Chunks { first, length } => *first..first.saturating_add(length.div_ceil(CHUNK as u64)),
        }
    }
}

/// A decoded row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Stream instance.
    pub stream: u32,
    /// Wall time.
    pub time: Timestamp,
    /// Age-clock time.
    pub age: AgeMillis,
    /// Literal subject.
    pub subject: &'a [u8],
    /// Header block or empty.
    pub headers: &'a [u8],
    /// Body.
    pub payload: Payload<'a>,
    /// Hash of its message id.
    pub message_id: Option<u128>,
    /// Seconds to live.
    pub ttl: Option<u64>,
    /// The payload is compressed: its length before.
    pub packed: Option<u64>,
}

impl<'a> Row<'a> {
    /// Decodes the blob found at `sequence`; `None` when it isn't what was written there.
    #[must_use]
    pub fn decode(sequence: u64, blob: &'a [u8]) -> Option<Row<'a>> {
        let (&flags, rest) = blob.split_first()?;
        let (crc, body) = rest.split_first_chunk::<4>()?;
        if flags & !(CHUNKED | TTL | MESSAGE_ID | PACKED) != 0
            || checksum(sequence, flags, body) != u32::from_le_bytes(*crc)
        {
            return None;
        }
        let mut cursor = Cursor(body);
        let stream = cursor.varint32()?;
        let time = Timestamp(i64::from_le_bytes(cursor.array()?));
        let age = AgeMillis(cursor.varint()?);
        let subject = cursor.length()?;
        let headers = cursor.length()?;
        let chunks = if flags & CHUNKED != 0 { Some((cursor.varint()?, cursor.varint()?)) } else { None };
        let ttl = if flags & TTL != 0 { Some(cursor.varint()?) } else { None };
        let message_id = if flags & MESSAGE_ID != 0 { Some(u128::from_le_bytes(cursor.array()?)) } else { None };
        let packed = if flags & PACKED != 0 { Some(cursor.varint()?) } else { None };
        let subject = cursor.take(subject)?;
        let headers = cursor.take(headers)?;
        let payload = match chunks {
            Some((length, first)) => Payload::Chunks { first, length },
            None => Payload::Inline(cursor.0),
        };
        if payload.length() as u64 > LONGEST_PAYLOAD || packed.is_some_and(|length| length > LONGEST_PAYLOAD) {
            return None;
        }
        Some(Row { stream, time, age, subject, headers, payload, message_id, ttl, packed })
    }

    /// Size by nats-server's measure.
    #[must_use]
    pub fn size(&self) -> u64 {
        let payload = self.packed.map_or(self.payload.length(), |length| usize::try_from(length).unwrap_or(usize::MAX));
        jetstream::store::message_size(self.subject.len(), self.headers.len(), payload)
    }
}

/// A payload as an S2 block, if that is shorter.
pub(crate) fn pack(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < SHORTEST_PACKED {
        return None;
    }
    Some(minlz::s2::encode(payload)).filter(|packed| packed.len() < payload.len())
}

/// The payload that a block of this many bytes was made of; `None` when it isn't one.
pub(crate) fn unpack(packed: &[u8], length: u64) -> Option<Vec<u8>> {
    let (claimed, _) = minlz::s2::decode_len(packed).ok()?;
    if claimed as u64 != length || length > LONGEST_PAYLOAD {
        return None;
    }
    let mut payload = vec![0; claimed];
    (minlz::s2::decode_into(&mut payload, packed).ok()? == claimed).then_some(payload)
}

/// Appends the blob of a message. `first_chunk` says that the payload lies in chunks from that id on, `packed` what is stored instead of it.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    stream: u32,
    message: &NewMessage<'_>,
    first_chunk: Option<u64>,
    packed: Option<&[u8]>,
) {
    let start = out.len();
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = flag(first_chunk.is_some(), CHUNKED)
        | flag(message.message_id.is_some(), MESSAGE_ID)
        | flag(packed.is_some(), PACKED);
    let payload = packed.unwrap_or(message.payload);
    out.extend_from_slice(&[flags, 0, 0, 0, 0]);
    put(out, u64::from(stream));
    out.extend_from_slice(&message.now.wall.0.to_le_bytes());
    put(out, message.now.age.0);
    put(out, message.subject.len() as u64);
    put(out, message.headers.len() as u64);
    if let Some(first) = first_chunk {
        put(out, payload.len() as u64);
        put(out, first);
    }
    if let Some(hash) = message.message_id {
        out.extend_from_slice(&hash.to_le_bytes());
    }
    if packed.is_some() {
        put(out, message.payload.len() as u64);
    }
    out.extend_from_slice(message.subject);
    out.extend_from_slice(message.headers);
    if first_chunk.is_none() {
        out.extend_from_slice(payload);
    }
    let crc = checksum(message.sequence.0, flags, &out[start + 5..]);
    out[start + 1..start + 5].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(sequence: u64, flags: u8, body: &[u8]) -> u32 {
    let mut head = [0; 9];
    head[..8].copy_from_slice(&sequence.to_le_bytes());
    head[8] = flags;
    crc32c::crc32c_append(crc32c::crc32c(&head), body)
}

/// A chunk's blob: CRC32C over its id and data, then the data.
pub(crate) fn encode_chunk(id: u64, data: &[u8]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(4 + data.len());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), data);
    blob.extend_from_slice(&crc.to_le_bytes());
    blob.extend_from_slice(data);
    blob
}

/// The data of a chunk, or `None` when it isn't what was written under that id.
#[must_use]
pub fn decode_chunk(id: u64, blob: &[u8]) -> Option<&[u8]> {
    let (crc, data) = blob.split_first_chunk::<4>()?;
    (crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), data) == u32::from_le_bytes(*crc)).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetstream::identity::{Now, Sequence};

    fn message<'a>(headers: &'a [u8], payload: &'a [u8], message_id: Option<u128>) -> NewMessage<'a> {
        let now = Now { wall: Timestamp(-5), age: AgeMillis(300) };
        NewMessage { sequence: Sequence(77), now, subject: b"a.b", headers, payload, message_id }
    }

    #[test]
    fn rows_come_back_and_belong_to_their_sequence() {
        for (headers, id, first) in
            [(&b""[..], None, None), (b"NATS/1.0\r\n\r\n", Some(9), None), (b"", Some(1), Some(12))]
        {
            let mut blob = Vec::new();
            encode(&mut blob, 16, &message(headers, b"body", id), first, None);
            let row = Row::decode(77, &blob).unwrap();
            assert_eq!((row.stream, row.time, row.age), (16, Timestamp(-5), AgeMillis(300)));
            assert_eq!((row.subject, row.headers, row.message_id), (&b"a.b"[..], headers, id));
            match first {
                None => assert_eq!(row.payload, Payload::Inline(b"body")),
                Some(first) => assert_eq!(row.payload, Payload::Chunks { first, length: 4 }),
            }
            assert_eq!(Row::decode(78, &blob), None);
        }
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let mut blob = Vec::new();
        encode(&mut blob, 16, &message(b"", b"body", Some(3)), None, None);
        for bit in 0..blob.len() * 8 {
            blob[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Row::decode(77, &blob), None, "bit {bit}");
            blob[bit / 8] ^= 1 << (bit % 8);
        }
        let chunk = encode_chunk(4, b"data");
        assert_eq!(decode_chunk(4, &chunk), Some(&b"data"[..]));
        assert_eq!(decode_chunk(5, &chunk), None);
    }

    #[test]
    fn a_length_that_no_payload_has_is_damage() {
        let huge = |flag: u8, lengths: &[u64]| {
            let mut blob = vec![flag, 0, 0, 0, 0];
            put(&mut blob, 16);
            blob.extend_from_slice(&[0; 8]);
            for value in [&[0, 3, 0], lengths].concat() {
                put(&mut blob, value);
            }
            blob.extend_from_slice(b"a.b");
            let crc = checksum(77, flag, &blob[5..]);
            blob[1..5].copy_from_slice(&crc.to_le_bytes());
            Row::decode(77, &blob).map(|row| row.size())
        };
        let fixed = jetstream::store::message_size(3, 0, 0);
        assert_eq!(huge(CHUNKED, &[LONGEST_PAYLOAD, 1]), Some(LONGEST_PAYLOAD + fixed));
        assert_eq!(huge(PACKED, &[LONGEST_PAYLOAD]), Some(LONGEST_PAYLOAD + fixed));
        for beyond in [LONGEST_PAYLOAD + 1, u64::MAX] {
            assert_eq!(huge(CHUNKED, &[beyond, 1]), None);
            assert_eq!(huge(PACKED, &[beyond]), None);
        }
    }

    #[test]
    fn a_compressed_payload_comes_back_and_counts_as_it_was() {
        let payload = b"again and ".repeat(30);
        let packed = pack(&payload).unwrap();
        assert!(packed.len() < 50);
        let mut blob = Vec::new();
        encode(&mut blob, 16, &message(b"", &payload, None), None, Some(&packed));
        let row = Row::decode(77, &blob).unwrap();
        assert_eq!((row.packed, row.payload), (Some(300), Payload::Inline(&packed)));
        assert_eq!(row.size(), jetstream::store::message_size(3, 0, 300));
        assert_eq!(unpack(&packed, 300).as_deref(), Some(&payload[..]));
        assert_eq!(unpack(&packed, 301), None);
        assert_eq!(unpack(b"\xff\xff\xff\xff\x0f", u64::from(u32::MAX)), None, "4 GB of 5 bytes");
        assert_eq!((pack(b"short"), pack(&(0..=255).collect::<Vec<u8>>())), (None, None));
    }
}
