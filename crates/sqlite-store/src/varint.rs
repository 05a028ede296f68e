//! Little-endian base-128 numbers, and a cursor over untrusted bytes that answers `None` instead of panicking.

/// Appends a number, 1 to 10 bytes.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Maps a signed number onto an unsigned one, small for small magnitudes.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// What is left to decode.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        match self.0.split_first() {
            // Most are.
            Some((byte, rest)) if *byte < 0x80 => {
                self.0 = rest;
                Some(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    /// Passes over so many numbers without a look at them.
    pub(crate) fn skip(&mut self, numbers: usize) -> Option<()> {
        if numbers > 0 {
            let mut ends = self.0.iter().enumerate().filter(|(_, byte)| **byte < 0x80);
            let (last, _) = ends.nth(numbers - 1)?;
            self.0 = &self.0[last + 1..];
        }
        Some(())
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return None;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn varint32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    /// A length that can't exceed what is left.
    pub(crate) fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.varint()?).ok()?;
        (length <= self.0.len()).then_some(length)
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        if length > self.0.len() {
            return None;
        }
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

/// Puts the CRC32C of everything behind the first four bytes into them. Blobs that [`open_sealed`] reads begin with four zero bytes until then.
pub(crate) fn seal(blob: &mut [u8]) {
    let crc = crc32c::crc32c(&blob[4..]);
    blob[..4].copy_from_slice(&crc.to_le_bytes());
}

/// The contents of a sealed blob, or `None` when the checksum is wrong.
pub(crate) fn open_sealed(blob: &[u8]) -> Option<Cursor<'_>> {
    let (crc, rest) = blob.split_first_chunk::<4>()?;
    (crc32c::crc32c(rest) == u32::from_le_bytes(*crc)).then_some(Cursor(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(Cursor(&out).varint(), Some(value));
            assert_eq!(Cursor(&out[..out.len() - 1]).varint(), None);
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!(Cursor(&[0xff; 11]).varint(), None);
        let mut cursor = Cursor(&[0x81, 1, 7, 0x80, 0x80, 1, 9]);
        assert_eq!((cursor.skip(0), cursor.skip(3), cursor.0, cursor.skip(2)), (Some(()), Some(()), &[9][..], None));
    }
}
