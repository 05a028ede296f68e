//! The data representations of the standard (chapter 1.5): integers, variable byte integers, strings, binary data.
//!
//! [`Reader`] borrows and never reads past its end; the `put_*` functions append and can't fail. A string or
//! binary field holds at most 65,535 bytes; what is longer is cut, strings at a character.

use crate::error::DecodeError;
use crate::protocol::PacketId;

/// The largest value of a variable byte integer.
pub(crate) const VARINT_MAX: u32 = 268_435_455;
/// The largest length of a string or binary field, bytes.
pub(crate) const FIELD_MAX: usize = 65_535;

const PAST_END: DecodeError = DecodeError::Malformed("a length reaches past the end of the packet");

/// A cursor over the bytes of one packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(PAST_END)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or(PAST_END)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        let (&bytes, rest) = self.rest.split_first_chunk::<2>().ok_or(PAST_END)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(bytes))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        let (&bytes, rest) = self.rest.split_first_chunk::<4>().ok_or(PAST_END)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(bytes))
    }

    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::Protocol("packet identifier 0"))
    }

    /// A variable byte integer in its shortest form. [MQTT-1.5.5-1]
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u32::from(byte));
        }
        match read_varint(self.rest)? {
            None => Err(PAST_END),
            Some((_, _, false)) => Err(DecodeError::Malformed("a variable byte integer is not in its shortest form")),
            Some((value, length, true)) => {
                self.rest = &self.rest[length..];
                Ok(value)
            }
        }
    }

    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A UTF-8 string without U+0000. [MQTT-1.5.3-1], [MQTT-1.5.3-2] (3.1.1), [MQTT-1.5.4-1], [MQTT-1.5.4-2] (5)
    #[inline]
    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        if bytes.contains(&0) {
            return Err(DecodeError::Malformed("a string contains U+0000"));
        }
        // `from_utf8` refuses surrogates and overlong forms.
        std::str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("a string is not UTF-8"))
    }

    /// The end of the packet is here.
    #[inline]
    pub(crate) const fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("bytes after the last field")) }
    }
}

/// Reads a variable byte integer: value, bytes it took, whether it is in its shortest form. `None`: incomplete.
#[inline]
pub(crate) fn read_varint(bytes: &[u8]) -> Result<Option<(u32, usize, bool)>, DecodeError> {
    let mut value = 0u32;
    for index in 0..4 {
        let Some(&byte) = bytes.get(index) else { return Ok(None) };
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1, index == 0 || byte != 0)));
        }
    }
    Err(DecodeError::Malformed("a variable byte integer of more than four bytes"))
}

/// The bytes a variable byte integer takes, 1 to 4.
#[inline]
pub(crate) const fn varint_length(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// A variable byte integer: its bytes and how many of them count.
#[inline]
pub(crate) const fn varint_bytes(value: usize) -> ([u8; 4], usize) {
    debug_assert!(value <= VARINT_MAX as usize, "the callers bound packets far below 256 MB");
    let mut rest = if value <= VARINT_MAX as usize { value } else { VARINT_MAX as usize };
    let mut bytes = [0; 4];
    let mut length = 0;
    while rest >= 0x80 {
        bytes[length] = (rest & 0x7F) as u8 | 0x80;
        rest >>= 7;
        length += 1;
    }
    bytes[length] = rest as u8;
    (bytes, length + 1)
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, value: usize) {
    let (bytes, length) = varint_bytes(value);
    out.extend_from_slice(&bytes[..length]);
}

#[inline]
pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(FIELD_MAX)];
    put_u16(out, bytes.len() as u16);
    out.extend_from_slice(bytes);
}

#[inline]
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = cut(text).as_bytes();
    put_u16(out, bytes.len() as u16);
    out.extend_from_slice(bytes);
}

/// The text as it fits into a field.
#[inline]
pub(crate) fn cut(text: &str) -> &str {
    if text.len() <= FIELD_MAX { text } else { &text[..text.floor_char_boundary(FIELD_MAX)] }
}

/// Appends a packet: first byte, remaining length, and what `body` appends.
pub(crate) fn put_packet(out: &mut Vec<u8>, first: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(first);
    out.push(0);
    let start = out.len();
    body(out);
    let length = out.len() - start;
    let (prefix, prefix_length) = varint_bytes(length);
    out.splice(start - 1..start, prefix.into_iter().take(prefix_length));
}
