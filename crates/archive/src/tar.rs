//! As much of tar as Go writes it: heads of regular files, and the extended heads (PAX) that stand before some of them.

use crate::ArchiveError;

/// Heads are of this size, and files are filled up to a multiple of it.
pub(crate) const BLOCK: usize = 512;
/// Where a head has the sum of its bytes, which counts as blanks itself.
const SUM: std::ops::Range<usize> = 148..156;

/// A file's head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) size: u64,
    /// What follows is about the next file.
    pub(crate) is_pax: bool,
}

impl Head {
    /// Reads a head; `None`: it is the end.
    pub(crate) fn read(block: &[u8; BLOCK]) -> Result<Option<Head>, ArchiveError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u64 =
            block.iter().enumerate().map(|(at, byte)| if SUM.contains(&at) { 32 } else { u64::from(*byte) }).sum();
        if octal(&block[SUM]) != Some(sum) {
            return Err(ArchiveError::Tar);
        }
        let (name, prefix) = (text(&block[..100]), text(&block[345..500]));
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let size = octal(&block[124..136]).ok_or(ArchiveError::Tar)?;
        match block[156] {
            b'0' | 0 => Ok(Some(Head { name, size, is_pax: false })),
            b'x' => Ok(Some(Head { name, size, is_pax: true })),
            _ => Err(ArchiveError::Unexpected),
        }
    }
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.iter().copied().skip_while(|byte| *byte == b' ');
    let digits = digits.take_while(|byte| !matches!(byte, b' ' | 0));
    digits
        .map(|byte| matches!(byte, b'0'..=b'7').then(|| u64::from(byte - b'0')))
        .try_fold(0u64, |sum, digit| sum.checked_mul(8)?.checked_add(digit?))
}

/// What an extended head says: lines of `length key=value`.
#[derive(Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<String>,
    pub(crate) size: Option<u64>,
}

impl Pax {
    pub(crate) fn read(bytes: &[u8]) -> Result<Pax, ArchiveError> {
        let (mut pax, mut rest) = (Pax::default(), bytes);
        while !rest.is_empty() {
            let blank = rest.iter().take(8).position(|byte| *byte == b' ').ok_or(ArchiveError::Tar)?;
            let length = std::str::from_utf8(&rest[..blank]).ok().and_then(|length| length.parse::<usize>().ok());
            let line = length.filter(|length| *length > blank).and_then(|length| rest.get(blank + 1..length));
            let line = line.and_then(|line| line.strip_suffix(b"\n")).ok_or(ArchiveError::Tar)?;
            rest = &rest[blank + 2 + line.len()..];
            let line = String::from_utf8_lossy(line);
            match line.split_once('=') {
                Some(("path", path)) => pax.path = Some(path.to_owned()),
                Some(("size", size)) => pax.size = Some(size.parse().map_err(|_| ArchiveError::Tar)?),
                _ => {}
            }
        }
        Ok(pax)
    }
}
