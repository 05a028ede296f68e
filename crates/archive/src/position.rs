//! Where a consumer stood, as servers before 2.15 wrote it into its file.
//!
//! ```text
//!  22 2  floor (consumer, stream)  delivered (consumer, stream)  n  [base  n × (stream sequence, consumer sequence, time)]  m  m × (sequence, count)
//! ```
//!
//! Numbers are of variable length; sequences count from the floor, times are seconds back from the base.

/// Bytes that these files, and the indices of blocks, begin with; a version follows.
const MAGIC: u8 = 22;
/// Unacknowledged messages that are read.
const MOST_OUTSTANDING: u64 = 1 << 15;

/// Where a consumer stood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OlderPosition {
    /// Everything up to here is acknowledged: consumer and stream sequence.
    pub ack_floor: (u64, u64),
    /// The last delivery.
    pub delivered: (u64, u64),
    /// Not acknowledged: stream and consumer sequence, and when it was delivered, nanoseconds since 1970.
    pub pending: Vec<(u64, u64, i64)>,
    /// Delivered again: stream sequence, and how often.
    pub redelivered: Vec<(u64, u64)>,
}

impl OlderPosition {
    /// Reads a consumer's file; `None`: it is not one.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<OlderPosition> {
        let mut from = Numbers::behind_head(bytes, &[2])?;
        let ack_floor = (from.unsigned()?, from.unsigned()?);
        let delivered = (from.unsigned()?, from.unsigned()?);
        let mut position = OlderPosition { ack_floor, delivered, ..OlderPosition::default() };
        let count = from.unsigned()?;
        if count > MOST_OUTSTANDING {
            // It goes back to its floor: some messages come again.
            return Some(OlderPosition { delivered: ack_floor, ..position });
        }
        let base = if count > 0 { from.signed()? } else { 0 };
        for _ in 0..count {
            let sequence = ack_floor.1.checked_add(from.unsigned()?)?;
            let delivery = ack_floor.0.checked_add(from.unsigned()?)?;
            let time = base.checked_sub(from.signed()?)?.checked_mul(1_000_000_000)?;
            position.pending.push((sequence, delivery, time));
        }
        for _ in 0..from.unsigned()?.min(MOST_OUTSTANDING) {
            position.redelivered.push((ack_floor.1.checked_add(from.unsigned()?)?, from.unsigned()?));
        }
        Some(position)
    }
}

/// Numbers one after another. There are never more of them than bytes, so that no count is believed.
#[derive(Debug)]
pub(crate) struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    pub(crate) fn behind_head(bytes: &'a [u8], versions: &[u8]) -> Option<Numbers<'a>> {
        match bytes {
            [MAGIC, version, rest @ ..] if versions.contains(version) => Some(Numbers(rest)),
            _ => None,
        }
    }

    pub(crate) fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
            if *byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub(crate) fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }
}
