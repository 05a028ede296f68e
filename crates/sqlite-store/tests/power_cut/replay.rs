//! Builds the files that a power cut could leave.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Kinds of records, as `power-cut` writes them.
mod kind {
    pub(super) const WRITE: u8 = 1;
    pub(super) const TRUNCATE: u8 = 2;
    pub(super) const UNLINK: u8 = 3;
    pub(super) const SYNC: u8 = 4;
    pub(super) const ACKNOWLEDGED: u8 = 5;
}

/// Pieces in which a write may be torn.
const PIECE: usize = 512;

#[derive(Debug)]
struct Record {
    kind: u8,
    path: Vec<u8>,
    number: u64,
    data: Vec<u8>,
}

/// A log, read back.
#[derive(Debug)]
pub(crate) struct Recording {
    records: Vec<Record>,
}

/// A small generator of even numbers between 0 and 1: the seed names the cut.
#[derive(Debug)]
pub(crate) struct Splitter(pub(crate) u64);

impl Splitter {
    /// The next 64 bits (splitmix64).
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn chance(&mut self, probability: f64) -> bool {
        ((self.bits() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

impl Recording {
    /// Reads a log.
    ///
    /// # Errors
    /// When the file can't be read. A torn last record is left out.
    pub(crate) fn read(path: &Path) -> io::Result<Recording> {
        let bytes = std::fs::read(path)?;
        let mut rest = &bytes[..];
        let mut records = Vec::new();
        while let Some((head, tail)) = rest.split_first_chunk::<15>() {
            let path = usize::from(u16::from_le_bytes([head[1], head[2]]));
            let data = u32::from_le_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let number =
                u64::from_le_bytes([head[7], head[8], head[9], head[10], head[11], head[12], head[13], head[14]]);
            if tail.len() < path + data {
                break;
            }
            records.push(Record {
                kind: head[0],
                path: tail[..path].to_vec(),
                number,
                data: tail[path..path + data].to_vec(),
            });
            rest = &tail[path + data..];
        }
        Ok(Recording { records })
    }

    /// Number of records: cuts lie between 0 and this.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The highest number on a line of its own that was acknowledged before the cut.
    pub(crate) fn acknowledged(&self, cut: usize) -> u64 {
        let said = self.records[..cut].iter().filter(|record| record.kind == kind::ACKNOWLEDGED);
        let lines = said.flat_map(|record| record.data.split(|byte| *byte == b'\n'));
        lines.filter_map(|line| std::str::from_utf8(line).ok()?.parse().ok()).max().unwrap_or(0)
    }

    /// Writes into a folder what a cut before record `cut` could leave: what completed syncs cover, and an arbitrary part of the rest.
    ///
    /// # Errors
    /// When the files can't be written.
    pub(crate) fn build(&self, cut: usize, seed: u64, folder: &Path) -> io::Result<()> {
        let mut chance = Splitter(seed);
        let keep = [0.0, 0.1, 0.5, 0.9, 1.0][(chance.bits() % 5) as usize];
        let mut covered: BTreeMap<&[u8], u64> = BTreeMap::new();
        for record in self.records[..cut].iter().filter(|record| record.kind == kind::SYNC) {
            let until = covered.entry(&record.path).or_default();
            *until = record.number.max(*until);
        }
        let mut files: BTreeMap<&[u8], Vec<u8>> = BTreeMap::new();
        for (index, record) in self.records[..cut].iter().enumerate() {
            // Names are covered by a sync of the folder, whose path is empty.
            let path = if record.kind == kind::UNLINK { &[][..] } else { &record.path[..] };
            let synced = covered.get(path).is_some_and(|until| (index as u64) < *until);
            let probability = if synced { 1.0 } else { keep };
            match record.kind {
                kind::WRITE => {
                    let file = files.entry(&record.path).or_default();
                    let pieces = record.data.chunks(PIECE).enumerate();
                    for (number, piece) in pieces.filter(|_| chance.chance(probability)) {
                        let start = record.number as usize + number * PIECE;
                        if file.len() < start + piece.len() {
                            file.resize(start + piece.len(), 0);
                        }
                        file[start..start + piece.len()].copy_from_slice(piece);
                    }
                }
                kind::TRUNCATE if chance.chance(probability) => {
                    files.entry(&record.path).or_default().resize(record.number as usize, 0)
                }
                kind::UNLINK if chance.chance(probability) => _ = files.remove(&record.path[..]),
                _ => {}
            }
        }
        for (path, contents) in files {
            let path = std::str::from_utf8(path).map_err(io::Error::other)?;
            std::fs::write(folder.join(path), contents)?;
        }
        Ok(())
    }
}
