//! Bytes to entries.

use crate::entry::{Entry, Head};
use crate::frame::Frames;
use crate::{ArchiveError, MAGIC};

/// What is taken of the front is given back when it is this much.
const SHIFTED: usize = 64 * 1024;

/// Reads an archive that arrives in pieces.
#[derive(Debug, Default)]
pub struct Reader {
    frames: Frames,
    /// Unpacked; what was not taken begins at `used`.
    plain: Vec<u8>,
    used: usize,
    begun: bool,
}

impl Reader {
    /// Adds bytes as they arrived. They are unpacked when [`Reader::next`] needs them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
    }

    /// Bytes that were pushed and not unpacked yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.frames.waiting()
    }

    /// What is wrong if the input ends here, as nats-server has it: in the middle of a frame, or of an entry. `None`: nothing is left of either.
    #[must_use]
    pub fn cut_short(&self) -> Option<ArchiveError> {
        match (self.begun, self.frames.waiting(), self.plain.len() - self.used) {
            (true, 0, 0) | (false, 0, _) => None,
            (true, ..) => Some(self.inside()),
            (false, ..) => Some(ArchiveError::Corrupt),
        }
    }

    /// What nats-server says of damaged frames, and of an end, behind which it looked for more of an entry.
    fn inside(&self) -> ArchiveError {
        let rest = &self.plain[self.used..];
        match Head::read(rest) {
            Ok(Some((head, length))) if head.sequence > 0 && rest.len() >= length + head.name => {
                ArchiveError::Content { sequence: head.sequence }
            }
            _ => ArchiveError::Invalid,
        }
    }

    /// The next entry; `None`: it has not arrived completely. `largest`: bytes of headers and body that it may have, for each entry anew.
    ///
    /// # Errors
    /// When it is no archive, or an entry is too large. Nothing comes after that.
    pub fn next(&mut self, largest: usize) -> Result<Option<Entry<'_>>, ArchiveError> {
        let (head, length) = loop {
            if let Some(found) = self.whole(largest)? {
                break found;
            }
            if self.used >= SHIFTED {
                self.plain.drain(..std::mem::take(&mut self.used));
            }
            let sound = self.plain.len();
            match self.frames.next(&mut self.plain) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    // What of the block was unpacked is not believed.
                    self.plain.truncate(sound);
                    return Err(if self.begun { self.inside() } else { error });
                }
            }
        };
        let rest = &self.plain[self.used + length..];
        let (name, rest) = rest.split_at(head.name);
        let (headers, rest) = rest.split_at(head.headers as usize);
        let body = &rest[..head.body as usize];
        self.used += length + head.name + headers.len() + body.len();
        Ok(Some(Entry { name, time: head.time, sequence: head.sequence, headers, body }))
    }

    /// For who can read what this can't.
    pub(crate) fn into_parts(self) -> (Frames, Vec<u8>) {
        (self.frames, self.plain)
    }

    /// The head of the next entry, if all of the entry is unpacked.
    fn whole(&mut self, largest: usize) -> Result<Option<(Head, usize)>, ArchiveError> {
        if !self.begun {
            let Some(magic) = self.plain.first_chunk::<8>() else { return Ok(None) };
            if magic != MAGIC {
                return Err(ArchiveError::Older);
            }
            self.begun = true;
            self.used = MAGIC.len();
        }
        let rest = &self.plain[self.used..];
        let Some((head, length)) = Head::read(rest)? else { return Ok(None) };
        if head.size() > largest as u64 {
            return Err(ArchiveError::TooLarge { sequence: head.sequence });
        }
        let whole = length + head.name + head.size() as usize;
        Ok((rest.len() >= whole).then_some((head, length)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, proptest};

    use super::Reader;
    use crate::{ArchiveError, Entry, Writer};

    #[derive(Clone, Debug, PartialEq)]
    struct Owned(Vec<u8>, i64, u64, Vec<u8>, Vec<u8>);

    impl Owned {
        fn entry(&self) -> Entry<'_> {
            Entry { name: &self.0, time: self.1, sequence: self.2, headers: &self.3, body: &self.4 }
        }

        fn of(entry: &Entry<'_>) -> Owned {
            Owned(entry.name.into(), entry.time, entry.sequence, entry.headers.into(), entry.body.into())
        }
    }

    fn archive(entries: &[Owned]) -> Vec<u8> {
        let mut writer = Writer::default();
        entries.iter().for_each(|entry| writer.add(&entry.entry()));
        writer.finish();
        let mut bytes = Vec::new();
        while writer.ready() > 0 {
            bytes.extend_from_slice(writer.take(1000));
        }
        bytes
    }

    fn read(bytes: &[u8], pieces: usize, largest: usize) -> Result<Vec<Owned>, ArchiveError> {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        for piece in bytes.chunks(pieces.max(1)) {
            reader.push(piece);
            while let Some(entry) = reader.next(largest)? {
                found.push(Owned::of(&entry));
            }
        }
        assert!(found.last().is_none_or(|last| last.entry() != Entry::END) || reader.cut_short().is_none());
        Ok(found)
    }

    fn entry() -> impl Strategy<Value = Owned> {
        let bytes = |most| prop::collection::vec(0..3u8, 0..most);
        (bytes(20), any::<i64>(), any::<u64>(), bytes(50), bytes(5000))
            .prop_map(|(name, time, sequence, headers, body)| Owned(name, time, sequence, headers, body))
    }

    #[test]
    fn large_entries_come_back_and_those_above_the_limit_do_not() {
        let large = Owned(b"s".to_vec(), -1, u64::MAX, vec![1; 70_000], (0..900_000u32).map(|n| n as u8).collect());
        let bytes = archive(std::slice::from_ref(&large));
        assert_eq!(read(&bytes, 4096, 970_000).expect("sound")[0], large);
        assert_eq!(read(&bytes, 4096, 969_999), Err(ArchiveError::TooLarge { sequence: u64::MAX }));
    }

    #[test]
    fn what_unpacks_to_much_is_unpacked_block_by_block() {
        let entry = Owned(b"s".to_vec(), 1, 1, Vec::new(), vec![0; 900_000]);
        let bytes = archive(&vec![entry; 50]);
        assert!(bytes.len() < 60_000, "{} bytes", bytes.len());
        let mut reader = Reader::default();
        reader.push(&bytes);
        let mut count = 0;
        while reader.next(1 << 20).expect("sound").is_some() {
            count += 1;
            assert!(reader.plain.len() < 3 << 20, "{} bytes are unpacked", reader.plain.len());
        }
        assert_eq!(count, 51);
    }

    #[test]
    fn other_things_are_refused() {
        let frames = |plain: &[u8]| {
            let mut out = Vec::new();
            crate::frame::begin(&mut out);
            crate::frame::write(plain, &mut out);
            out
        };
        assert_eq!(read(&frames(b"NATSARC2"), 99, 9), Err(ArchiveError::Older));
        let huge = [&b"NATSARC1"[..], &[0xff; 9], &[1, 0, 0, 0, 0]].concat();
        assert_eq!(read(&frames(&huge), 99, 9), Err(ArchiveError::Invalid), "a name of 2^64 bytes");
        let endless = [&b"NATSARC1"[..], &[0xff; 11]].concat();
        assert_eq!(read(&frames(&endless), 99, 9), Err(ArchiveError::Invalid), "a number without end");
        let sum = [&b"NATSARC1\0\0\0"[..], &[0xff; 8], &[0x7f], &[0xff; 8], &[0x7f]].concat();
        assert_eq!(read(&frames(&sum), 99, 9), Err(ArchiveError::Invalid), "two lengths that overflow");
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]
        #[test]
        fn entries_come_back_in_whatever_pieces(entries in prop::collection::vec(entry(), 0..20), pieces in 1..5000usize) {
            let mut found = read(&archive(&entries), pieces, 1 << 20).expect("sound");
            assert_eq!(found.pop().map(|last| last.entry() == Entry::END), Some(true));
            assert_eq!(found, entries);
        }

        #[test]
        fn damage_is_found_or_harmless(entries in prop::collection::vec(entry(), 1..5), place in any::<prop::sample::Index>(), flip in 1..=255u8) {
            let mut bytes = archive(&entries);
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            if let Ok(mut found) = read(&bytes, 777, 1 << 20) {
                // A frame that became one to be skipped takes the end with it, or everything.
                if found.last().is_some_and(|last| last.entry() == Entry::END) {
                    found.pop();
                    assert_eq!(found, entries);
                }
            }
        }

        #[test]
        fn what_is_cut_off_has_no_end(entries in prop::collection::vec(entry(), 1..5), place in any::<prop::sample::Index>()) {
            let entries: Vec<Owned> = entries.into_iter().map(|mut entry| { entry.2 |= 1; entry }).collect();
            let bytes = archive(&entries);
            let found = read(&bytes[..place.index(bytes.len())], 777, 1 << 20).expect("sound as far as it goes");
            assert!(found.iter().all(|entry| entry.entry() != Entry::END));
        }
    }
}
