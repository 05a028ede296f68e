//! What is durable of a forward: its position here and at the hub.
//!
//! ```text
//!  version 1 │ confirmed u64 │ created len u8, bytes │ second box flag u8, id u64 │ adopted count u8, ids u64… │ pairs count u8, (local, hub, age) u64…
//! ```
//!
//! Big endian. The newest pair is the last PubAck: where we last know to be at the hub. Flow acks move `confirmed` beyond it.

use std::collections::VecDeque;

use crate::identity::IncarnationId;

/// Most pairs kept; older ones are thinned out.
pub const MAX_PAIRS: usize = 64;
/// Most adopted incarnations kept.
pub const MAX_ADOPTED: usize = 16;
/// Longest `created` text kept, bytes.
pub const MAX_CREATED: usize = 64;

const VERSION: u8 = 1;

/// A PubAck: everything up to `local` is at the hub up to `hub`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Local sequence.
    pub local: u64,
    /// Hub sequence; 0: "from the beginning".
    pub hub: u64,
    /// When it came, milliseconds of the durable age clock.
    pub age_ms: u64,
}

/// The position record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Everything up to this local sequence is confirmed.
    pub confirmed: u64,
    /// `created` of the hub stream, as it says it.
    pub created: String,
    /// Another box with our identity was seen alive; nothing is sent until it is adopted.
    pub second_box: Option<IncarnationId>,
    /// Incarnations that are not ours and were adopted: treated as foreign.
    pub adopted: Vec<IncarnationId>,
    /// PubAcks within `hold`, oldest first, and the newest one before.
    pub pairs: VecDeque<Pair>,
}

/// Why a record can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer release.
    #[error("the position record has version {0}, newer than this program knows")]
    Version(u8),
    /// Too short, too long, or counts beyond the limits.
    #[error("the position record is damaged")]
    Damaged,
}

impl Record {
    /// The hub sequence of the newest PubAck.
    #[must_use]
    pub fn hub_sequence(&self) -> u64 {
        self.pairs.back().map_or(0, |pair| pair.hub)
    }

    /// The second box is known and gone: what it left is foreign from now on. `None`: no second box was seen.
    pub fn adopt(&mut self) -> Option<IncarnationId> {
        let id = self.second_box.take()?;
        if self.adopted.len() >= MAX_ADOPTED {
            self.adopted.remove(0);
        }
        self.adopted.push(id);
        Some(id)
    }

    /// Notes a PubAck. Pairs closer than `hold / 60` are thinned out, and those older than `hold` but the newest of them forgotten.
    pub(crate) fn push(&mut self, pair: Pair, hold_ms: u64) {
        let spacing = hold_ms / 60;
        let count = self.pairs.len();
        // The one before the newest is redundant when it is close to its predecessor.
        if count >= 3 && self.pairs[count - 1].age_ms < self.pairs[count - 2].age_ms.saturating_add(spacing) {
            self.pairs.pop_back();
        }
        self.pairs.push_back(pair);
        self.prune(pair.age_ms, hold_ms);
        while self.pairs.len() > MAX_PAIRS {
            self.pairs.remove(1);
        }
    }

    /// Forgets pairs that no loss of the hub's tail can reach any more.
    pub(crate) fn prune(&mut self, now_ms: u64, hold_ms: u64) {
        while self.pairs.len() > 1 && self.pairs[1].age_ms.saturating_add(hold_ms) <= now_ms {
            self.pairs.pop_front();
        }
    }

    /// When [`Record::prune`] has something to forget.
    pub(crate) fn next_prune(&self, hold_ms: u64) -> Option<u64> {
        self.pairs.get(1).map(|pair| pair.age_ms.saturating_add(hold_ms))
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.confirmed.to_be_bytes());
        let created = &self.created.as_bytes()[..self.created.floor_char_boundary(MAX_CREATED)];
        out.push(created.len() as u8);
        out.extend_from_slice(created);
        out.push(u8::from(self.second_box.is_some()));
        out.extend_from_slice(&self.second_box.map_or(0, |id| id.0).to_be_bytes());
        out.push(self.adopted.len().min(MAX_ADOPTED) as u8);
        for id in self.adopted.iter().take(MAX_ADOPTED) {
            out.extend_from_slice(&id.0.to_be_bytes());
        }
        out.push(self.pairs.len().min(MAX_PAIRS) as u8);
        for pair in self.pairs.iter().take(MAX_PAIRS) {
            for number in [pair.local, pair.hub, pair.age_ms] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        out
    }

    /// Reads it back.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        let mut reader = Reader(bytes);
        let version = reader.byte()?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let confirmed = reader.number()?;
        let length = usize::from(reader.byte()?);
        let created = std::str::from_utf8(reader.take(length)?).map_err(|_| RecordError::Damaged)?.to_owned();
        let flag = reader.byte()?;
        let id = reader.number()?;
        let adopted = (0..reader.count(MAX_ADOPTED)?)
            .map(|_| reader.number().map(IncarnationId))
            .collect::<Result<Vec<_>, _>>()?;
        let mut pairs = VecDeque::new();
        for _ in 0..reader.count(MAX_PAIRS)? {
            pairs.push_back(Pair { local: reader.number()?, hub: reader.number()?, age_ms: reader.number()? });
        }
        if !reader.0.is_empty() || length > MAX_CREATED || flag > 1 || (flag == 0 && id != 0) {
            return Err(RecordError::Damaged);
        }
        Ok(Record { confirmed, created, second_box: (flag == 1).then_some(IncarnationId(id)), adopted, pairs })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RecordError::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, RecordError> {
        Ok(self.take(1)?[0])
    }

    fn count(&mut self, most: usize) -> Result<usize, RecordError> {
        let count = usize::from(self.byte()?);
        if count > most { Err(RecordError::Damaged) } else { Ok(count) }
    }

    fn number(&mut self) -> Result<u64, RecordError> {
        Ok(self.take(8)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn records()(confirmed: u64, created in "[0-9TZ:.-]{0,40}", second in proptest::option::of(any::<u64>()),
            adopted in proptest::collection::vec(any::<u64>(), 0..MAX_ADOPTED),
            pairs in proptest::collection::vec(any::<(u64, u64, u64)>(), 0..MAX_PAIRS)) -> Record {
            Record {
                confirmed, created, second_box: second.map(IncarnationId),
                adopted: adopted.into_iter().map(IncarnationId).collect(),
                pairs: pairs.into_iter().map(|(local, hub, age_ms)| Pair { local, hub, age_ms }).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in records()) {
            prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), start in 0u8..3) {
            let mut bytes = bytes;
            bytes.insert(0, start);
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
            }
        }

        #[test]
        fn a_cut_record_is_damaged(record in records(), cut in 1usize..20) {
            let bytes = record.encode();
            prop_assert_eq!(Record::decode(&bytes[..bytes.len() - cut.min(bytes.len() - 1)]), Err(RecordError::Damaged));
        }
    }

    #[test]
    fn a_second_box_without_its_flag_is_damaged() {
        let mut bytes = Record::default().encode();
        let id_at = 1 + 8 + 1 + 1;
        bytes[id_at] = 1;
        assert_eq!(Record::decode(&bytes), Err(RecordError::Damaged));
    }

    #[test]
    fn a_long_creation_time_is_cut_between_characters() {
        let created = format!("{}é", "x".repeat(MAX_CREATED - 1));
        let read = Record::decode(&Record { created, ..Record::default() }.encode()).unwrap();
        assert_eq!(read.created, "x".repeat(MAX_CREATED - 1));
    }

    #[test]
    fn pairs_cover_the_hold_time_and_stay_few() {
        let mut record = Record { pairs: [Pair::default()].into(), ..Record::default() };
        for n in 1..=100_000u64 {
            record.push(Pair { local: n, hub: n, age_ms: n * 10 }, 180_000);
        }
        assert!(record.pairs.len() <= MAX_PAIRS);
        let now = 1_000_000;
        assert!(record.pairs[0].age_ms <= now - 180_000, "the oldest is from before the hold time");
        assert!(record.pairs[1].age_ms > now - 180_000);
        assert_eq!(record.hub_sequence(), 100_000);
        let widest = record.pairs.iter().zip(record.pairs.iter().skip(1)).map(|(a, b)| b.age_ms - a.age_ms).max();
        assert!(widest.unwrap() < 10_000, "{widest:?}");
    }
}
