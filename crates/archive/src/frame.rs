//! The frames of an S2 stream: `type(1) length(3, little-endian) content`.
//!
//! | type | content |
//! |---|---|
//! | `ff` | the identifier, `S2sTwO` or Snappy's `sNaPpY`; first, and again where streams were joined |
//! | `00` | checksum (4), a compressed block |
//! | `01` | checksum (4), a block as it is |
//! | `80`–`fe` | to be skipped: padding, an index |
//! | `02`–`7f` | not to be skipped: unsupported |
//!
//! The checksum is CRC-32C, masked as in Snappy's framing format, of the block before compression.

use crate::ArchiveError;

/// Most bytes of a block, as the format has it.
const LARGEST_BLOCK: usize = 4 << 20;
/// What a block of that size may need when it can't be compressed, and its checksum.
const LARGEST_FRAME: usize = LARGEST_BLOCK + LARGEST_BLOCK / 6 + 64;
const CHECKSUM: usize = 4;
const IDENTIFIER: [u8; 10] = *b"\xff\x06\x00\x00S2sTwO";
const COMPRESSED: u8 = 0x00;
const PLAIN: u8 = 0x01;

/// Appends the identifier that a stream begins with.
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&IDENTIFIER);
}

/// Appends a block, compressed if that makes it smaller. At most 4 MiB.
pub(crate) fn write(block: &[u8], out: &mut Vec<u8>) {
    let compressed = minlz::s2::encode(block);
    let (kind, content) = if compressed.len() < block.len() { (COMPRESSED, &compressed[..]) } else { (PLAIN, block) };
    let length = (content.len() + CHECKSUM) as u32;
    out.push(kind);
    out.extend_from_slice(&length.to_le_bytes()[..3]);
    out.extend_from_slice(&checksum(block).to_le_bytes());
    out.extend_from_slice(content);
}

fn checksum(block: &[u8]) -> u32 {
    crc32c::crc32c(block).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Takes bytes as they arrive, gives blocks.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Bytes that were not looked at yet begin at `used`.
    input: Vec<u8>,
    used: usize,
    /// Bytes of a frame without meaning that are still to come.
    skip: usize,
    identified: bool,
}

impl Frames {
    /// Adds bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.input.drain(..std::mem::take(&mut self.used));
        self.input.extend_from_slice(&bytes[skipped..]);
    }

    /// Bytes that were pushed and not looked at.
    pub(crate) fn waiting(&self) -> usize {
        self.input.len() - self.used
    }

    /// Appends the next block; `false`: it has not arrived completely.
    pub(crate) fn next(&mut self, block: &mut Vec<u8>) -> Result<bool, ArchiveError> {
        loop {
            let rest = &self.input[self.used..];
            let Some((head, rest)) = rest.split_first_chunk::<4>() else { return Ok(false) };
            let [kind, low, middle, high] = *head;
            let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
            match kind {
                0xff if length != 6 => return Err(ArchiveError::Corrupt),
                // Anything else before it is no such stream.
                _ if kind != 0xff && !self.identified => return Err(ArchiveError::Corrupt),
                0x80..=0xfe => {
                    let skipped = length.min(rest.len());
                    self.skip = length - skipped;
                    self.used += head.len() + skipped;
                    continue;
                }
                0x02..=0x7f => return Err(ArchiveError::Unsupported),
                _ if length > LARGEST_FRAME => return Err(ArchiveError::Corrupt),
                _ => {}
            }
            let Some(content) = rest.get(..length) else { return Ok(false) };
            if kind == 0xff {
                if content != &IDENTIFIER[4..] && content != b"sNaPpY" {
                    return Err(ArchiveError::Corrupt);
                }
                self.identified = true;
                self.used += head.len() + length;
                continue;
            }
            unpack(kind, content, block)?;
            self.used += head.len() + length;
            return Ok(true);
        }
    }
}

/// Appends a block of a frame.
fn unpack(kind: u8, content: &[u8], block: &mut Vec<u8>) -> Result<(), ArchiveError> {
    let (wanted, content) = content.split_first_chunk::<CHECKSUM>().ok_or(ArchiveError::Corrupt)?;
    let start = block.len();
    if kind == PLAIN {
        if content.len() > LARGEST_BLOCK {
            return Err(ArchiveError::Corrupt);
        }
        block.extend_from_slice(content);
    } else {
        let (length, _) = minlz::s2::decode_len(content).map_err(|_| ArchiveError::Corrupt)?;
        if length > LARGEST_BLOCK {
            return Err(ArchiveError::Corrupt);
        }
        block.resize(start + length, 0);
        let written = minlz::s2::decode_into(&mut block[start..], content);
        if written.ok() != Some(length) {
            return Err(ArchiveError::Corrupt);
        }
    }
    if checksum(&block[start..]).to_le_bytes() != *wanted {
        return Err(ArchiveError::Checksum);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Frames, begin, write};
    use crate::ArchiveError;

    fn blocks(bytes: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        frames.push(bytes);
        while frames.next(&mut out)? {}
        assert!(frames.waiting() <= bytes.len());
        Ok(out)
    }

    fn stream(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out);
        parts.iter().for_each(|part| write(part, &mut out));
        out
    }

    #[test]
    fn frames_without_meaning_are_skipped_in_whatever_pieces_they_come() {
        let mut bytes = stream(&[b"one"]);
        bytes.extend_from_slice(&[0xfe, 200, 0, 0]);
        bytes.extend_from_slice(&[7; 200]);
        bytes.extend_from_slice(&stream(&[b"two"]));
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        for byte in &bytes {
            frames.push(&[*byte]);
            while frames.next(&mut out).expect("sound") {}
        }
        assert_eq!(out, b"onetwo");
    }

    #[test]
    fn what_is_no_such_stream_is_refused() {
        assert_eq!(blocks(b"\x00\x05\x00\x00abcde"), Err(ArchiveError::Corrupt), "it begins with a block");
        assert_eq!(blocks(b"\xff\x06\x00\x00S3sTwO"), Err(ArchiveError::Corrupt));
        assert_eq!(blocks(b"\xff\x07\x00\x00S2sTwO\x00"), Err(ArchiveError::Corrupt));
        let with = |frame: &[u8]| [&stream(&[]), frame].concat();
        assert_eq!(blocks(&with(b"\x02\x01\x00\x00a")), Err(ArchiveError::Unsupported));
        assert_eq!(blocks(&with(b"\x00\x03\x00\x00abc")), Err(ArchiveError::Corrupt), "no room for a checksum");
        assert_eq!(blocks(&with(b"\x00\xff\xff\xff")), Err(ArchiveError::Corrupt), "larger than any block");
        assert_eq!(
            blocks(&with(b"\x00\x09\x00\x00abcd\xff\xff\xff\xff\x0f")),
            Err(ArchiveError::Corrupt),
            "4 GB in 9 bytes"
        );
        let mut flipped = stream(&[b"block"]);
        *flipped.last_mut().expect("bytes") ^= 1;
        assert_eq!(blocks(&flipped), Err(ArchiveError::Checksum));
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]
        #[test]
        fn blocks_come_back(parts in proptest::collection::vec(proptest::collection::vec(0..4u8, 0..3000), 0..5)) {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            assert_eq!(blocks(&stream(&parts)).expect("sound"), parts.concat());
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = blocks(&bytes);
            let _ = blocks(&[&stream(&[]), &bytes[..]].concat());
        }
    }
}
