//! The removal log: what was removed from closed blocks since their stream's last checkpoint, in the same commit as the removal itself. A blob
//! is CRC32C, then for each message: varint sequence (zigzag, from the one before), varint subject id · 2 + 1 if a newest follows, varint size,
//! [varint sequence of the subject's newest message now].

use crate::varint::{self, put, unzigzag, zigzag};

/// One removed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its sequence.
    pub sequence: u64,
    /// Its subject's id.
    pub subject: u32,
    /// Its size by nats-server's measure.
    pub size: u64,
    /// The subject's newest message from now on, if that changed and there is one.
    pub newest: Option<u64>,
}

/// Encodes a commit's removals.
pub(crate) fn encode(removed: &[Removed]) -> Vec<u8> {
    let mut out = vec![0; 4];
    let mut before = 0u64;
    for one in removed {
        put(&mut out, zigzag(one.sequence.wrapping_sub(before) as i64));
        before = one.sequence;
        put(&mut out, u64::from(one.subject) << 1 | u64::from(one.newest.is_some()));
        put(&mut out, one.size);
        if let Some(newest) = one.newest {
            put(&mut out, newest);
        }
    }
    varint::seal(&mut out);
    out
}

/// Decodes a commit's removals; `None` when the blob isn't whole.
#[must_use]
pub fn decode(blob: &[u8]) -> Option<Vec<Removed>> {
    let mut cursor = varint::open_sealed(blob)?;
    let mut removed = Vec::new();
    let mut sequence = 0u64;
    while !cursor.0.is_empty() {
        sequence = sequence.wrapping_add(unzigzag(cursor.varint()?) as u64);
        let subject = cursor.varint()?;
        let size = cursor.varint()?;
        let newest = if subject & 1 == 1 { Some(cursor.varint()?) } else { None };
        removed.push(Removed { sequence, subject: u32::try_from(subject >> 1).ok()?, size, newest });
    }
    Some(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_come_back() {
        let removed = [
            Removed { sequence: 900, subject: 7, size: 300, newest: None },
            Removed { sequence: 3, subject: 0, size: 22, newest: Some(2) },
        ];
        let blob = encode(&removed);
        assert_eq!(decode(&blob).unwrap(), removed);
        assert_eq!(decode(&blob[..blob.len() - 1]), None);
    }
}
