//! The newest rows of all streams in one ring of fixed size: what was just stored is read again without SQL, and rows wait here for their
//! insertion.

use std::collections::VecDeque;

/// A row in the ring, as its stream remembers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailEntry {
    pub(crate) sequence: u64,
    /// Where it lies; see [`Ring`].
    pub(crate) position: u64,
    /// 0 once the message is removed.
    pub(crate) length: u32,
    /// Subject id.
    pub(crate) subject: u32,
}

/// The ring. Positions only grow; a row stays readable until so many bytes were written after it.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes: Box<[u8]>,
    head: u64,
    /// What lies in it, oldest first: stream, position.
    held: VecDeque<(u32, u64)>,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Ring {
        Ring { bytes: vec![0; capacity.max(4096)].into_boxed_slice(), head: 0, held: VecDeque::new() }
    }

    /// Rows above this don't go through the ring.
    pub(crate) fn largest(&self) -> usize {
        self.bytes.len() / 4
    }

    /// How far the head would be after a row of that length.
    pub(crate) fn head_after(&self, length: usize) -> u64 {
        self.place(length) + length as u64
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn place(&self, length: usize) -> u64 {
        let left = self.capacity() - self.head % self.capacity();
        if (length as u64) <= left { self.head } else { self.head + left }
    }

    /// Copies a row in and answers its position. `evicted` is told of each row that it overwrites.
    pub(crate) fn push(&mut self, stream: u32, row: &[u8], mut evicted: impl FnMut(u32, u64)) -> u64 {
        let position = self.place(row.len());
        self.head = position + row.len() as u64;
        while let Some((stream, old)) = self.held.front().copied().filter(|(_, old)| old + self.capacity() < self.head)
        {
            self.held.pop_front();
            evicted(stream, old);
        }
        let start = (position % self.capacity()) as usize;
        self.bytes[start..start + row.len()].copy_from_slice(row);
        self.held.push_back((stream, position));
        position
    }

    /// The row of an entry that was not evicted.
    pub(crate) fn row(&self, entry: &TailEntry) -> &[u8] {
        let start = (entry.position % self.capacity()) as usize;
        &self.bytes[start..start + entry.length as usize]
    }

    /// Overwrites a row with zeros.
    pub(crate) fn erase(&mut self, entry: &TailEntry) {
        let start = (entry.position % self.capacity()) as usize;
        self.bytes[start..start + entry.length as usize].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_readable_until_they_are_evicted() {
        let mut ring = Ring::new(4096);
        let mut held: VecDeque<(TailEntry, Vec<u8>)> = VecDeque::new();
        for step in 0..5_000u64 {
            let row = vec![step as u8; (step * 37 % 700) as usize + 1];
            let position = ring.push(9, &row, |_, position| {
                let (entry, _) = held.pop_front().unwrap();
                assert_eq!(entry.position, position);
            });
            held.push_back((TailEntry { sequence: step, position, length: row.len() as u32, subject: 0 }, row));
            for (entry, row) in &held {
                assert_eq!(ring.row(entry), row);
            }
        }
        assert!(held.len() > 3);
    }
}
