//! Who wrote a message: edge, incarnation, stream instance, sequence.
//!
//! An incarnation begins at every opening of the store. A restored image or a rolled-back disk can't know that it is one; what it writes
//! is told from what was written before by the incarnation's id alone, which is new each time.

use jetstream::identity::{Sequence, StreamId};

use crate::headers;

/// Version byte of an incarnation's row.
const ROW_VERSION: u8 = 1;

/// Random, chosen by the caller at each opening of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IncarnationId(pub u64);

/// One opening of the store, as one stream instance sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// Its id.
    pub id: IncarnationId,
    /// The first sequence it gives.
    pub first: Sequence,
}

/// Why rows or identities are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No incarnation at all: the caller writes a new one at each opening of the store.
    #[error("no incarnation of the store is known")]
    NoIncarnation,
    /// Rows out of order.
    #[error("incarnations are not in the order of their first sequences")]
    OutOfOrder,
    /// A row of another length or version.
    #[error("an incarnation's row is damaged or of a newer version")]
    Row,
    /// The edge's identity is no single token of at most 64 bytes.
    #[error("the edge identity must be 1 to 64 letters, digits, `-` or `_`")]
    Edge,
}

impl Incarnation {
    /// The row's value.
    #[must_use]
    pub fn encode(&self) -> [u8; 17] {
        let mut row = [ROW_VERSION; 17];
        row[1..9].copy_from_slice(&self.id.0.to_be_bytes());
        row[9..].copy_from_slice(&self.first.0.to_be_bytes());
        row
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`IdentityError::Row`].
    pub fn decode(row: &[u8]) -> Result<Incarnation, IdentityError> {
        let row: &[u8; 17] = row.try_into().map_err(|_| IdentityError::Row)?;
        if row[0] != ROW_VERSION {
            return Err(IdentityError::Row);
        }
        let number = |at: usize| row[at..at + 8].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        Ok(Incarnation { id: IncarnationId(number(1)), first: Sequence(number(9)) })
    }

    /// Key of the `ordinal`-th row of a stream instance, behind the store's [`jetstream::store::record_space::INCARNATION`] byte, which it includes.
    #[must_use]
    pub fn key(stream: StreamId, ordinal: u32) -> [u8; 9] {
        let mut key = [jetstream::store::record_space::INCARNATION; 9];
        key[1..5].copy_from_slice(&stream.0.to_be_bytes());
        key[5..].copy_from_slice(&ordinal.to_be_bytes());
        key
    }
}

/// All incarnations of one stream instance, oldest first. Never pruned: an old one may still be met at the hub.
#[derive(Clone, Debug)]
pub struct Incarnations(Vec<Incarnation>);

impl Incarnations {
    /// Takes the rows in the order of their keys; the last one is the present incarnation.
    ///
    /// # Errors
    /// When there is none, or their firsts go back.
    pub fn new(rows: Vec<Incarnation>) -> Result<Incarnations, IdentityError> {
        if rows.is_empty() {
            return Err(IdentityError::NoIncarnation);
        }
        if rows.windows(2).any(|pair| pair[0].first > pair[1].first) {
            return Err(IdentityError::OutOfOrder);
        }
        Ok(Incarnations(rows))
    }

    /// The incarnation that gave `sequence`.
    #[must_use]
    pub fn of(&self, sequence: Sequence) -> IncarnationId {
        let behind = self.0.partition_point(|incarnation| incarnation.first <= sequence);
        self.0[behind.saturating_sub(1)].id
    }

    /// The one that the running process began.
    #[must_use]
    pub fn present(&self) -> Incarnation {
        self.0[self.0.len() - 1]
    }

    /// The last sequence that our rows say an incarnation gave, `None` for an unknown one. `last` is the stream's last sequence now.
    #[must_use]
    pub fn end_of(&self, id: IncarnationId, last: Sequence) -> Option<Sequence> {
        let at = self.0.iter().rposition(|incarnation| incarnation.id == id)?;
        Some(self.0.get(at + 1).map_or(last, |next| Sequence(next.first.0.saturating_sub(1))))
    }
}

/// The identity that a message at the hub carries in its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Key of the edge.
    pub edge: &'a str,
    /// Who gave the sequence.
    pub incarnation: IncarnationId,
    /// Instance of the local stream.
    pub instance: StreamId,
    /// Local sequence.
    pub sequence: Sequence,
}

impl<'a> Identity<'a> {
    /// Reads it from a header block; `None` when it is not there or not complete: a foreign message.
    #[must_use]
    pub fn find(block: &'a [u8]) -> Option<Identity<'a>> {
        let text = |name: &str| std::str::from_utf8(headers::find(block, name)?).ok();
        Some(Identity {
            edge: text(headers::EDGE)?,
            incarnation: IncarnationId(u64::from_str_radix(text(headers::INCARNATION)?, 16).ok()?),
            instance: StreamId(text(headers::STREAM)?.parse().ok()?),
            sequence: Sequence(text(headers::SEQUENCE)?.parse().ok()?),
        })
    }
}

/// Is it usable as an edge's identity: one token of a subject and of a header value?
///
/// # Errors
/// [`IdentityError::Edge`].
pub fn check_edge(edge: &str) -> Result<(), IdentityError> {
    let is_plain = edge.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if edge.is_empty() || edge.len() > 64 || !is_plain { Err(IdentityError::Edge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(list: &[(u64, u64)]) -> Incarnations {
        let rows =
            list.iter().map(|&(id, first)| Incarnation { id: IncarnationId(id), first: Sequence(first) }).collect();
        Incarnations::new(rows).unwrap()
    }

    #[test]
    fn a_message_keeps_the_incarnation_that_gave_its_sequence() {
        let known = rows(&[(7, 1), (3, 10), (9, 10), (4, 20)]);
        let of = |sequence| known.of(Sequence(sequence)).0;
        assert_eq!((of(1), of(9), of(10), of(19), of(20), of(99)), (7, 7, 9, 9, 4, 4));
        let end = |id| known.end_of(IncarnationId(id), Sequence(25)).map(|end| end.0);
        assert_eq!((end(7), end(3), end(9), end(4), end(8)), (Some(9), Some(9), Some(19), Some(25), None));
    }

    #[test]
    fn rows_survive_and_damaged_ones_are_refused() {
        let row = Incarnation { id: IncarnationId(0x0102_0304), first: Sequence(77) };
        assert_eq!(Incarnation::decode(&row.encode()), Ok(row));
        assert_eq!(Incarnation::decode(&row.encode()[..16]), Err(IdentityError::Row));
        assert_eq!(Incarnation::decode(&[9; 17]), Err(IdentityError::Row));
        assert_eq!(Incarnations::new(vec![]).unwrap_err(), IdentityError::NoIncarnation);
        assert!(Incarnation::key(StreamId(16), 1) < Incarnation::key(StreamId(16), 2));
    }
}
