//! A damaged file read page by page, without its trees: what SQLite no longer finds the way to can still be whole. The format is SQLite's
//! (<https://www.sqlite.org/fileformat2.html>), with 4096-byte pages and no reserved bytes.
//!
//! Nothing is written, and nothing of what is read is believed: every length and page number is checked, and each row has a checksum of its own. Rows of
//! pages that were given back lie there still; [`Liveness`] tells which pages those are, as well as that can be told.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::schema;

const PAGE: usize = schema::PAGE as usize;
/// Bytes of a page that belong to a chain behind a cell: the page's first four name the next.
const CHAINED: usize = PAGE - 4;
/// Most bytes of a row that is believed: what the store writes stays far below.
const LONGEST: usize = 1 << 20;
/// Frames of the log that are looked at: 16 GiB.
const MOST_FRAMES: u64 = 1 << 22;

/// Kinds of pages, as their first byte says.
pub(crate) const INTERIOR_INDEX: u8 = 2;
pub(crate) const INTERIOR_TABLE: u8 = 5;
pub(crate) const LEAF_INDEX: u8 = 10;
pub(crate) const LEAF_TABLE: u8 = 13;

/// A file and its log.
pub(crate) struct Pages {
    file: File,
    log: Option<File>,
    /// Where in the log the newest committed image of a page lies.
    frames: BTreeMap<u32, u64>,
    /// Pages of the file.
    pub(crate) count: u32,
}

/// One page.
pub(crate) type Page = [u8; PAGE];

impl Pages {
    /// Opens a file that was set aside; `log` need not exist.
    pub(crate) fn open(file: &Path, log: &Path) -> std::io::Result<Pages> {
        let file = File::open(file)?;
        let length = file.metadata()?.len();
        let mut count = u32::try_from(length / schema::PAGE).unwrap_or(u32::MAX - 1);
        let log = File::open(log).ok();
        let frames = log.as_ref().map(committed_frames).unwrap_or_default();
        count = count.max(frames.last_key_value().map_or(0, |(page, _)| *page));
        Ok(Pages { file, log, frames, count })
    }

    /// Reads a page; `None` when it can't be read.
    pub(crate) fn read(&self, number: u32) -> Option<Box<Page>> {
        let mut page = Box::new([0; PAGE]);
        let read = match (self.frames.get(&number), &self.log) {
            (Some(at), Some(log)) => log.read_exact_at(&mut page[..], *at),
            _ if number == 0 => return None,
            _ => self.file.read_exact_at(&mut page[..], u64::from(number - 1) * schema::PAGE),
        };
        read.ok().map(|()| page)
    }

    /// The payload of a cell: its local part, then its chain.
    fn payload(&self, page: &Page, at: usize, length: usize, most_local: usize) -> Option<Vec<u8>> {
        if length > LONGEST {
            return None;
        }
        let least = (PAGE - 12) * 32 / 255 - 23;
        let wanted = least + length.saturating_sub(least) % CHAINED;
        let local = match length {
            _ if length <= most_local => length,
            _ if wanted <= most_local => wanted,
            _ => least,
        };
        let mut payload = page.get(at..at + local)?.to_vec();
        if local == length {
            return Some(payload);
        }
        let mut next = number(page, at + local)?;
        while payload.len() < length {
            let page = self.read(next).filter(|_| next > 1 && next <= self.count)?;
            let part = (length - payload.len()).min(CHAINED);
            payload.extend_from_slice(&page[4..4 + part]);
            next = number(&page[..], 0)?;
        }
        Some(payload)
    }

    /// Calls `each` with key and record of every row of a table's leaf that can be read.
    pub(crate) fn rows(&self, page: &Page, mut each: impl FnMut(i64, &[u8])) {
        for at in cells(page, 8) {
            let mut cursor = at;
            let (Some(length), Some(key)) = (varint(page, &mut cursor), varint(page, &mut cursor)) else { continue };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if let Some(payload) = self.payload(page, cursor, length, PAGE - 35) {
                each(key as i64, &payload);
            }
        }
    }

    /// Calls `each` with every record of an index page (of a table without row numbers) that can be read.
    pub(crate) fn keyed(&self, page: &Page, mut each: impl FnMut(&[u8])) {
        let interior = page[0] == INTERIOR_INDEX;
        for at in cells(page, if interior { 12 } else { 8 }) {
            let mut cursor = if interior { at + 4 } else { at };
            let Some(length) = varint(page, &mut cursor) else { continue };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if let Some(payload) = self.payload(page, cursor, length, (PAGE - 12) * 64 / 255 - 23) {
                each(&payload);
            }
        }
    }
}

/// Where the cells of a page lie that is not the first one.
fn cells(page: &Page, header: usize) -> impl Iterator<Item = usize> {
    let count = usize::from(u16::from_be_bytes([page[3], page[4]])).min((PAGE - header) / 2);
    (0..count).filter_map(move |index| {
        let at = header + index * 2;
        let at = usize::from(u16::from_be_bytes([*page.get(at)?, *page.get(at + 1)?]));
        (at >= header + 2 * count && at < PAGE).then_some(at)
    })
}

/// SQLite's variable-length number: big endian, seven bits a byte, the ninth byte whole.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for index in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if index == 8 {
            return Some(value << 8 | u64::from(byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            break;
        }
    }
    Some(value)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A column of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column<'a> {
    /// Nothing: also a key that stands outside the record.
    Null,
    Integer(i64),
    Blob(&'a [u8]),
}

/// The columns of a record that has at most six of these kinds; `None` for any other.
pub(crate) fn columns(record: &[u8]) -> Option<Vec<Column<'_>>> {
    let mut at = 0;
    let end = usize::try_from(varint(record, &mut at)?).ok()?;
    let mut body = end;
    let mut columns = Vec::new();
    while at < end {
        let kind = varint(record, &mut at)?;
        let mut take = |length: usize| {
            let bytes = record.get(body..body.checked_add(length)?)?;
            body += length;
            Some(bytes)
        };
        columns.push(match kind {
            0 => Column::Null,
            8 | 9 => Column::Integer(kind as i64 - 8),
            1..=4 => Column::Integer(take(kind as usize)?.iter().fold(0, |value, byte| value << 8 | i64::from(*byte))),
            12.. if kind % 2 == 0 => Column::Blob(take(usize::try_from((kind - 12) / 2).ok()?)?),
            _ => return None,
        });
        if columns.len() > 6 {
            return None;
        }
    }
    (at == end).then_some(columns)
}

/// Which pages are part of the store.
pub(crate) struct Liveness {
    /// A bit per page: it was given back, or (when that is not known) some page leads to it.
    bits: Vec<u64>,
    free_is_known: bool,
}

impl Liveness {
    /// From the list of free pages, or, where that can't be read whole, from what interior pages refer to.
    pub(crate) fn of(pages: &Pages) -> Liveness {
        if let Some(bits) = free_pages(pages) {
            return Liveness { bits, free_is_known: true };
        }
        let mut bits = vec![0; pages.count as usize / 64 + 1];
        for page in (2..=pages.count).filter_map(|number| pages.read(number)) {
            if !matches!(page[0], INTERIOR_INDEX | INTERIOR_TABLE) {
                continue;
            }
            let children = cells(&page, 12).filter_map(|at| number(&page[..], at));
            children.chain(number(&page[..], 8)).for_each(|child| set(&mut bits, child));
        }
        Liveness { bits, free_is_known: false }
    }

    /// Does the page belong to a tree? The root of a small table can't be told from a page that was given back unless that is known.
    pub(crate) fn is_live(&self, page: u32) -> bool {
        let marked = self.bits.get(page as usize / 64).is_some_and(|word| word >> (page % 64) & 1 == 1);
        marked != self.free_is_known
    }

    /// Can it be told for every page?
    pub(crate) fn is_certain(&self) -> bool {
        self.free_is_known
    }
}

fn set(bits: &mut [u64], page: u32) {
    if let Some(word) = bits.get_mut(page as usize / 64) {
        *word |= 1 << (page % 64);
    }
}

/// The list of free pages, `None` unless all of it can be read.
fn free_pages(pages: &Pages) -> Option<Vec<u64>> {
    let first = pages.read(1).filter(|page| page.starts_with(b"SQLite format 3\0"))?;
    let (mut trunk, total) = (number(&first[..], 32)?, number(&first[..], 36)?);
    let mut bits = vec![0; pages.count as usize / 64 + 1];
    let mut found = 0u32;
    while trunk != 0 {
        if trunk > pages.count || found >= total {
            return None;
        }
        let page = pages.read(trunk)?;
        set(&mut bits, trunk);
        let leaves = number(&page[..], 4)?;
        if leaves as usize > PAGE / 4 - 2 {
            return None;
        }
        for index in 0..leaves as usize {
            set(&mut bits, number(&page[..], 8 + index * 4)?);
        }
        found += 1 + leaves;
        trunk = number(&page[..], 0)?;
    }
    (found == total).then_some(bits)
}

/// The newest committed image of each page in a write-ahead log: as far as salts and checksums agree.
fn committed_frames(log: &File) -> BTreeMap<u32, u64> {
    let mut frames = BTreeMap::new();
    let mut header = [0; 32];
    let big = match log.read_exact_at(&mut header, 0).ok().and_then(|()| number(&header, 0)) {
        Some(0x377f_0682) => false,
        Some(0x377f_0683) => true,
        _ => return frames,
    };
    let mut sum = checksum(big, (0, 0), &header[..24]);
    if number(&header, 8) != Some(PAGE as u32)
        || (number(&header, 24), number(&header, 28)) != (Some(sum.0), Some(sum.1))
    {
        return frames;
    }
    let mut open = Vec::new();
    let mut frame = vec![0; 24 + PAGE];
    for index in 0..MOST_FRAMES {
        let at = 32 + index * frame.len() as u64;
        if log.read_exact_at(&mut frame, at).is_err() || frame[8..16] != header[16..24] {
            break;
        }
        sum = checksum(big, checksum(big, sum, &frame[..8]), &frame[24..]);
        if (number(&frame, 16), number(&frame, 20)) != (Some(sum.0), Some(sum.1)) {
            break;
        }
        open.push((number(&frame, 0).unwrap_or(0), at + 24));
        if number(&frame, 4) != Some(0) {
            frames.extend(open.drain(..));
        }
    }
    frames
}

/// The log's checksum: two sums that feed each other, over pairs of words.
fn checksum(big: bool, mut sum: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let bytes = bytes.try_into().unwrap_or_default();
        if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        sum.0 = sum.0.wrapping_add(word(&pair[..4])).wrapping_add(sum.1);
        sum.1 = sum.1.wrapping_add(word(&pair[4..])).wrapping_add(sum.0);
    }
    sum
}
