//! Archives of servers before 2.15: a tar of the stream's files, in the same frames.
//!
//! ```text
//!  meta.inf            the stream's configuration, JSON
//!  msgs/<n>.idx        2.9 and before: which messages of the block behind it are deleted
//!  msgs/<n>.blk        records: length(4) sequence(8) time(8) subject length(2) subject [header length(4) headers] body hash(8)
//!  obs/<name>/meta.inf a consumer's configuration, JSON
//!  obs/<name>/o.dat    where it stands, see [`OlderPosition`]
//! ```
//!
//! The highest bit of a length says that there are headers, that of a sequence that the message is erased, the one below that the record deletes an
//! earlier one. Records are checked with their hash (HighwayHash, keyed by the block). Other files are passed over, and no name becomes a path.

use std::collections::BTreeSet;
use std::ops::Range;

use highway::{HighwayHash, HighwayHasher, Key};
use sha2::{Digest, Sha256};

use crate::frame::Frames;
use crate::position::Numbers;
use crate::tar::{self, Head, Pax};
use crate::{ArchiveError, Entry, LONGEST_NAME, Reader};

/// Bytes of a file that is taken as a whole.
const LARGEST_FILE: u64 = 8 << 20;
/// Blocks that hold nothing of use, one after another.
const MOST_PASSED: usize = 16;
/// What is taken of the front is given back when it is this much.
const SHIFTED: usize = 64 * 1024;
const RECORD_HEAD: usize = 22;
const HASH: usize = 8;
const HAS_HEADERS: u32 = 1 << 31;
const ERASED: u64 = 1 << 63;
const DELETES: u64 = 1 << 62;

/// What an older archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OlderEntry<'a> {
    /// The stream's configuration, JSON.
    Stream(&'a [u8]),
    /// A message; their sequences rise.
    Message(Entry<'a>),
    /// An earlier message is deleted.
    Deleted(u64),
    /// A sequence that was given, and whose message is gone.
    Gone(u64),
    /// A consumer's configuration, JSON.
    Consumer(&'a str, &'a [u8]),
    /// Where a consumer stands.
    Position(&'a str, &'a [u8]),
    /// A block was unpacked, and nothing in it is of use yet. Whoever has others to serve does so before going on: a few bytes unpack to a block.
    Nothing,
    /// Nothing is missing.
    End,
}

/// What the bytes that come next belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum File {
    /// The head of a file.
    Head,
    /// Nothing that matters.
    Other,
    /// Records.
    Block([u64; 4]),
    /// Taken as a whole.
    Whole(Whole),
    /// The end of the archive.
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Whole {
    Pax,
    Stream,
    Index,
    Consumer(String),
    Position(String),
}

/// What an index says of the block behind it.
#[derive(Debug, Default)]
struct Index {
    first: u64,
    deleted: BTreeSet<u64>,
}

/// What was found at the front.
enum Found {
    /// More bytes are needed.
    Nothing,
    /// Something without meaning was passed over.
    Passed,
    /// A whole file of so many bytes.
    Whole(Whole, usize),
    /// A record of so many bytes.
    Record(usize),
    End,
}

/// An entry by its place.
enum Item {
    Stream(Range<usize>),
    Message(u64, Range<usize>),
    Deleted(u64),
    Gone(u64),
    Consumer(Range<usize>),
    Position(Range<usize>),
    Nothing,
    End,
}

/// Reads an older archive that arrives in pieces.
#[derive(Debug)]
pub struct OlderReader {
    frames: Frames,
    plain: Vec<u8>,
    used: usize,
    stream: String,
    file: File,
    /// Bytes of the file, and of what fills it up, that are still to come.
    left: u64,
    padding: u64,
    pax: Pax,
    index: Index,
    last: u64,
    /// Blocks since the last that was of use.
    passed: usize,
    /// The consumer whose file was given last.
    name: String,
}

impl OlderReader {
    /// Goes on with what another reader found to be [`ArchiveError::Older`], of a stream of this name.
    #[must_use]
    pub fn new(reader: Reader, stream: &str) -> OlderReader {
        let (frames, plain) = reader.into_parts();
        OlderReader {
            frames,
            plain,
            used: 0,
            stream: stream.to_owned(),
            file: File::Head,
            left: 0,
            padding: 0,
            pax: Pax::default(),
            index: Index::default(),
            last: 0,
            passed: 0,
            name: String::new(),
        }
    }

    /// As [`Reader::push`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
    }

    /// As [`Reader::waiting`].
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.frames.waiting()
    }

    /// As [`Reader::next`]; unpacks one block at most. After [`OlderEntry::End`] nothing comes.
    ///
    /// # Errors
    /// When it is no such archive, a record is not what its hash says, or something is too large.
    pub fn next(&mut self, largest: usize) -> Result<Option<OlderEntry<'_>>, ArchiveError> {
        let mut unpacked = false;
        let item = loop {
            match self.look(largest)? {
                Found::Nothing if unpacked => {
                    self.passed += 1;
                    if self.passed > MOST_PASSED {
                        return Err(ArchiveError::Unexpected);
                    }
                    break Item::Nothing;
                }
                Found::Nothing => {
                    if self.used >= SHIFTED {
                        self.plain.drain(..std::mem::take(&mut self.used));
                    }
                    unpacked = self.frames.next(&mut self.plain)?;
                    if !unpacked {
                        self.passed = 0;
                        return Ok(None);
                    }
                }
                Found::Passed => {}
                Found::End => break Item::End,
                Found::Whole(whole, length) => {
                    if let Some(item) = self.take_whole(whole, length)? {
                        break item;
                    }
                }
                Found::Record(length) => {
                    if let Some(item) = self.take_record(length) {
                        break item;
                    }
                }
            }
        };
        if !matches!(item, Item::Nothing) {
            self.passed = 0;
        }
        Ok(Some(match item {
            Item::Nothing => OlderEntry::Nothing,
            Item::End => OlderEntry::End,
            Item::Stream(place) => OlderEntry::Stream(&self.plain[place]),
            Item::Consumer(place) => OlderEntry::Consumer(&self.name, &self.plain[place]),
            Item::Position(place) => OlderEntry::Position(&self.name, &self.plain[place]),
            Item::Message(sequence, place) => OlderEntry::Message(message(sequence, &self.plain[place])),
            Item::Deleted(sequence) => OlderEntry::Deleted(sequence),
            Item::Gone(sequence) => OlderEntry::Gone(sequence),
        }))
    }

    fn take_whole(&mut self, whole: Whole, length: usize) -> Result<Option<Item>, ArchiveError> {
        let place = self.take(length);
        self.file = File::Other;
        match whole {
            Whole::Pax => self.pax = Pax::read(&self.plain[place])?,
            Whole::Index => self.index = Index::read(&self.plain[place])?,
            Whole::Stream => return Ok(Some(Item::Stream(place))),
            Whole::Consumer(name) => {
                self.name = name;
                return Ok(Some(Item::Consumer(place)));
            }
            Whole::Position(name) => {
                self.name = name;
                return Ok(Some(Item::Position(place)));
            }
        }
        Ok(None)
    }

    fn take_record(&mut self, length: usize) -> Option<Item> {
        let place = self.take(length);
        let sequence = u64::from_le_bytes(array(&self.plain[place.start + 4..]));
        if sequence & DELETES != 0 {
            return Some(Item::Deleted(sequence & !(ERASED | DELETES)));
        }
        let number = sequence & !ERASED;
        if number <= self.last {
            return None;
        }
        self.last = number;
        let is_gone = sequence & ERASED != 0 || number < self.index.first || self.index.deleted.contains(&number);
        Some(if is_gone { Item::Gone(number) } else { Item::Message(number, place) })
    }

    fn take(&mut self, length: usize) -> Range<usize> {
        let start = self.used;
        self.used += length;
        self.left -= length as u64;
        start..self.used
    }

    fn look(&mut self, largest: usize) -> Result<Found, ArchiveError> {
        let rest = &self.plain[self.used..];
        match &self.file {
            File::End => Ok(Found::End),
            File::Head => self.look_at_head(),
            File::Other => {
                let wanted = self.left + self.padding;
                let taken = wanted.min(rest.len() as u64);
                self.used += taken as usize;
                let from_file = taken.min(self.left);
                self.left -= from_file;
                self.padding -= taken - from_file;
                if taken < wanted {
                    return Ok(Found::Nothing);
                }
                self.file = File::Head;
                Ok(Found::Passed)
            }
            File::Whole(_) if self.left > LARGEST_FILE => Err(ArchiveError::TooLarge { sequence: 0 }),
            File::Whole(_) if (rest.len() as u64) < self.left => Ok(Found::Nothing),
            File::Whole(whole) => Ok(Found::Whole(whole.clone(), self.left as usize)),
            File::Block(_) if self.left == 0 => {
                self.index = Index::default();
                self.file = File::Other;
                Ok(Found::Passed)
            }
            File::Block(key) => look_at_record(rest, self.left, largest, Key(*key)),
        }
    }

    fn look_at_head(&mut self) -> Result<Found, ArchiveError> {
        let Some(block) = self.plain[self.used..].first_chunk::<{ tar::BLOCK }>() else { return Ok(Found::Nothing) };
        let Some(head) = Head::read(block)? else {
            self.file = File::End;
            return Ok(Found::End);
        };
        self.used += tar::BLOCK;
        let pax = std::mem::take(&mut self.pax);
        let size = pax.size.filter(|_| !head.is_pax).unwrap_or(head.size);
        self.left = size;
        self.padding = size.checked_next_multiple_of(tar::BLOCK as u64).ok_or(ArchiveError::Tar)? - size;
        self.file = if head.is_pax {
            File::Whole(Whole::Pax)
        } else {
            let path = pax.path.unwrap_or(head.name);
            // No name becomes a path here; but where one would lead out of the folder, nats-server takes nothing of the archive.
            if leads_out(&path) {
                return Err(ArchiveError::Unexpected);
            }
            self.kind(&path)
        };
        Ok(Found::Passed)
    }

    fn kind(&self, path: &str) -> File {
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["meta.inf"] => File::Whole(Whole::Stream),
            ["msgs", file] if file.ends_with(".idx") => File::Whole(Whole::Index),
            ["msgs", file] => match file.strip_suffix(".blk").and_then(|number| number.parse::<u32>().ok()) {
                Some(number) => File::Block(key(&self.stream, number)),
                None => File::Other,
            },
            ["obs", name, "meta.inf"] => File::Whole(Whole::Consumer(name.to_owned())),
            ["obs", name, "o.dat"] => File::Whole(Whole::Position(name.to_owned())),
            _ => File::Other,
        }
    }
}

/// Whether so many steps go up that the path ends outside of where it begins.
fn leads_out(path: &str) -> bool {
    let mut depth = 0i32;
    path.split('/').filter(|part| !part.is_empty() && *part != ".").any(|part| {
        depth += if part == ".." { -1 } else { 1 };
        depth < 0
    })
}

fn key(stream: &str, block: u32) -> [u64; 4] {
    let digest = Sha256::digest(format!("{stream}-{block}").as_bytes());
    let (words, _) = digest.as_chunks::<8>();
    [0, 1, 2, 3].map(|index| words.get(index).copied().map_or(0, u64::from_le_bytes))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

/// The length of the record at the front, if it is there and sound.
fn look_at_record(bytes: &[u8], left: u64, largest: usize, key: Key) -> Result<Found, ArchiveError> {
    if left < RECORD_HEAD as u64 {
        return Err(ArchiveError::Record);
    }
    let Some(head) = bytes.first_chunk::<RECORD_HEAD>() else { return Ok(Found::Nothing) };
    let length = u32::from_le_bytes(array(head));
    let (has_headers, length) = (length & HAS_HEADERS != 0, (length & !HAS_HEADERS) as usize);
    let subject = usize::from(u16::from_le_bytes(array(&head[20..])));
    let fixed = RECORD_HEAD + subject + HASH + if has_headers { 4 } else { 0 };
    if length < fixed || length as u64 > left || subject > LONGEST_NAME {
        return Err(ArchiveError::Record);
    }
    if length - fixed > largest {
        return Err(ArchiveError::TooLarge { sequence: u64::from_le_bytes(array(&head[4..])) });
    }
    let Some(record) = bytes.get(..length) else { return Ok(Found::Nothing) };
    let (content, hash) = record.split_at(length - HASH);
    let mut hasher = HighwayHasher::new(key);
    hasher.append(&content[4..20]);
    hasher.append(&content[RECORD_HEAD..RECORD_HEAD + subject]);
    let rest = &content[RECORD_HEAD + subject..];
    let rest = if has_headers { &rest[4..] } else { rest };
    hasher.append(rest);
    if hasher.finalize64().to_le_bytes() != hash {
        return Err(ArchiveError::Record);
    }
    if has_headers && u32::from_le_bytes(array(&content[RECORD_HEAD + subject..])) as usize > rest.len() {
        return Err(ArchiveError::Record);
    }
    Ok(Found::Record(length))
}

/// The message of a record that was looked at.
fn message(sequence: u64, record: &[u8]) -> Entry<'_> {
    let has_headers = u32::from_le_bytes(array(record)) & HAS_HEADERS != 0;
    let time = i64::from_le_bytes(array(&record[12..]));
    let subject = usize::from(u16::from_le_bytes(array(&record[20..])));
    let (name, rest) = record[RECORD_HEAD..record.len() - HASH].split_at(subject);
    if !has_headers {
        return Entry { name, time, sequence, headers: b"", body: rest };
    }
    let (headers, body) = rest[4..].split_at(u32::from_le_bytes(array(rest)) as usize);
    Entry { name, time, sequence, headers, body }
}

impl Index {
    /// `magic version` messages, bytes, first, its time, last, its time, deleted; the last hash; the deleted ones, from the first on.
    fn read(bytes: &[u8]) -> Result<Index, ArchiveError> {
        let mut numbers = Numbers::behind_head(bytes, &[1]).ok_or(ArchiveError::Invalid)?;
        let mut read = || {
            let (_, _, first) = (numbers.unsigned()?, numbers.unsigned()?, numbers.unsigned()?);
            let (_, _, _, count) = (numbers.signed()?, numbers.unsigned()?, numbers.signed()?, numbers.unsigned()?);
            numbers.skip(HASH)?;
            let mut deleted = BTreeSet::new();
            for _ in 0..count {
                deleted.insert(first.checked_add(numbers.unsigned()?)?);
            }
            Some(Index { first, deleted })
        };
        read().ok_or(ArchiveError::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::{OlderEntry, OlderReader};
    use crate::frame;
    use crate::{ArchiveError, OlderPosition, Reader};

    /// Backups of one stream of nine messages: the 1st, the 3rd and the 9th were deleted, each header block says which it is.
    const SAMPLES: [&[u8]; 2] = [include_bytes!("samples/2.9.s2"), include_bytes!("samples/2.14.s2")];

    fn read(archive: &[u8], pieces: usize, stream: &str) -> Result<Vec<String>, ArchiveError> {
        let (mut chunks, mut reader) = (archive.chunks(pieces), Reader::default());
        loop {
            match reader.next(1 << 20) {
                Ok(_) => reader.push(chunks.next().unwrap_or_else(|| panic!("it is not older"))),
                Err(ArchiveError::Older) => break,
                Err(error) => return Err(error),
            }
        }
        let (mut reader, mut all) = (OlderReader::new(reader, stream), Vec::new());
        loop {
            while let Some(entry) = reader.next(1 << 20)? {
                all.push(match entry {
                    OlderEntry::Stream(json) => format!("stream {}", json.starts_with(b"{")),
                    OlderEntry::Message(entry) => format!(
                        "{} {} {:?} {:?}",
                        entry.sequence,
                        String::from_utf8_lossy(entry.name),
                        String::from_utf8_lossy(entry.headers),
                        String::from_utf8_lossy(entry.body)
                    ),
                    OlderEntry::Deleted(sequence) => format!("deleted {sequence}"),
                    OlderEntry::Gone(sequence) => format!("gone {sequence}"),
                    OlderEntry::Consumer(name, json) => format!("consumer {name} {}", json.starts_with(b"{")),
                    OlderEntry::Position(name, bytes) => {
                        let position = OlderPosition::read(bytes).expect("a position");
                        let pending: Vec<(u64, u64)> = position.pending.iter().map(|one| (one.0, one.1)).collect();
                        format!("{name} at {:?} floor {:?} {pending:?}", position.delivered, position.ack_floor)
                    }
                    OlderEntry::Nothing => continue,
                    OlderEntry::End => return Ok(all),
                });
            }
            match chunks.next() {
                Some(piece) => reader.push(piece),
                None => return Err(ArchiveError::Invalid),
            }
        }
    }

    #[test]
    fn archives_of_older_servers_are_read_in_whatever_pieces() {
        for (sample, pieces) in SAMPLES.iter().flat_map(|sample| [(sample, 1), (sample, 700), (sample, 1 << 20)]) {
            let all = read(sample, pieces, "S").expect("sound");
            assert_eq!(all[0], "stream true");
            let deleted =
                |number: u64| all.contains(&format!("deleted {number}")) || all.contains(&format!("gone {number}"));
            assert!(deleted(3) && deleted(9), "{all:?}");
            for number in [2, 4, 5, 6, 7, 8] {
                let wanted =
                    format!("{number} s.{} \"NATS/1.0\\r\\nN: {number}\\r\\n\\r\\n\" \"message {number}\"", number % 3);
                assert!(all.contains(&wanted), "{wanted}: {all:?}");
            }
            assert!(all.contains(&"consumer c true".to_owned()), "{all:?}");
            assert!(all.iter().any(|line| line.starts_with("c at (4, 6) floor (0, ")), "{all:?}");
        }
    }

    #[test]
    fn a_call_unpacks_one_block_and_few_without_use_are_taken() {
        // The head of a file of 64 MiB that means nothing, and its zeros: 50 kB of frames.
        let mut head = [0; 512];
        head[..9].copy_from_slice(b"index.db\0");
        head[124..136].copy_from_slice(b"00400000000\0");
        head[148..156].fill(b' ');
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut frames = Vec::new();
        frame::begin(&mut frames);
        frame::write(&head, &mut frames);
        for _ in 0..64 {
            frame::write(&[0; 1 << 20], &mut frames);
        }
        let mut reader = OlderReader::new(Reader::default(), "S");
        reader.push(&frames);
        let (mut calls, mut waiting) = (0, reader.waiting());
        let end = loop {
            match reader.next(1 << 20) {
                Ok(Some(OlderEntry::Nothing)) => calls += 1,
                other => break other.map(|_| ()),
            }
            assert!(reader.plain.len() - reader.used <= 1 << 20, "{} bytes are held", reader.plain.len());
            assert!(waiting > reader.waiting(), "nothing was unpacked");
            waiting = reader.waiting();
        };
        assert_eq!((calls, end), (super::MOST_PASSED, Err(ArchiveError::Unexpected)));
    }

    #[test]
    fn paths_that_lead_out_of_the_folder_are_known() {
        for path in ["..", "../x", "obs/../../x", "obs/./../..", "a/b/../../../c"] {
            assert!(super::leads_out(path), "{path}");
        }
        for path in ["meta.inf", "/meta.inf", "obs/../meta.inf", "obs/c/o.dat", "a..b/..c", ""] {
            assert!(!super::leads_out(path), "{path}");
        }
    }

    #[test]
    fn records_belong_to_their_stream() {
        assert_eq!(read(SAMPLES[0], 999, "T"), Err(ArchiveError::Record));
    }

    #[test]
    fn no_cut_and_no_flip_is_taken_for_the_whole() {
        for sample in SAMPLES {
            let mut plain = Vec::new();
            let mut frames = frame::Frames::default();
            frames.push(sample);
            while frames.next(&mut plain).expect("sound") {}
            let framed = |plain: &[u8]| {
                let mut out = Vec::new();
                frame::begin(&mut out);
                plain.chunks(50_000).for_each(|chunk| frame::write(chunk, &mut out));
                out
            };
            let whole = read(&framed(&plain), 4096, "S").expect("sound");
            for cut in (512..plain.len() - 1024).step_by(97) {
                assert!(read(&framed(&plain[..cut]), 4096, "S").is_err(), "{cut} bytes of it");
            }
            for place in (512..plain.len()).step_by(53) {
                let mut flipped = plain.clone();
                flipped[place] ^= 4;
                // What is not protected (JSON, what is passed over) may differ, but never a message.
                if let Ok(all) = read(&framed(&flipped), 4096, "S") {
                    for line in all.iter().filter(|line| line.contains("message")) {
                        assert!(whole.contains(line), "{line}");
                    }
                }
            }
        }
    }
}
