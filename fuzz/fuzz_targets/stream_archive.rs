//! Archives of streams: any bytes are refused or give entries, whatever pieces they come in; what was read is written and read back as it was. The first
//! byte chooses the size of the pieces; the input is also tried as what lies inside of the frames, and as an archive of an older server.
#![no_main]

use archive::{ArchiveError, Entry, OlderEntry, OlderPosition, OlderReader, Reader, Writer};
use libfuzzer_sys::fuzz_target;

const LARGEST: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let size = usize::from(*first) + 1;
    let whole = read(bytes, usize::MAX);
    assert_eq!(whole, read(bytes, size));
    older(bytes, size);
    let mut framed = b"\xff\x06\x00\x00S2sTwO".to_vec();
    framed.push(1);
    framed.extend_from_slice(&(bytes.len() as u32 + 4).to_le_bytes()[..3]);
    framed.extend_from_slice(&crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes());
    framed.extend_from_slice(bytes);
    older(&framed, size);
    if let Ok(entries) = read(&framed, size) {
        let mut writer = Writer::default();
        for (name, time, sequence, headers, body) in &entries {
            writer.add(&Entry { name, time: *time, sequence: *sequence, headers, body });
        }
        writer.finish();
        let ready = writer.ready();
        let mut again = read(writer.take(ready), size).expect("what was written is sound");
        again.pop();
        assert_eq!(again, entries);
    }
    for entry in whole.iter().flatten() {
        let _ = jetstream_api::read_archive_state(&entry.4);
    }
    let _ = OlderPosition::read(bytes);
    let _ = jetstream_api::read_archive_state(bytes);
    let _ = jetstream_api::read_archive_consumer("c", bytes);
});

type Owned = (Vec<u8>, i64, u64, Vec<u8>, Vec<u8>);

fn read(bytes: &[u8], size: usize) -> Result<Vec<Owned>, ArchiveError> {
    let (mut reader, mut found) = (Reader::default(), Vec::new());
    for piece in bytes.chunks(size.max(1)) {
        reader.push(piece);
        while let Some(entry) = reader.next(LARGEST)? {
            found.push((entry.name.to_vec(), entry.time, entry.sequence, entry.headers.to_vec(), entry.body.to_vec()));
        }
    }
    Ok(found)
}

/// The same bytes as an archive of an older server: messages in order, or a refusal.
fn older(bytes: &[u8], size: usize) {
    let (mut reader, mut last) = (OlderReader::new(Reader::default(), "S"), 0);
    for piece in bytes.chunks(size) {
        reader.push(piece);
        while let Ok(Some(entry)) = reader.next(LARGEST) {
            match entry {
                OlderEntry::End => return,
                OlderEntry::Message(entry) => {
                    assert!(entry.sequence > last && entry.headers.len() + entry.body.len() <= LARGEST);
                    last = entry.sequence;
                }
                OlderEntry::Consumer(name, json) => _ = jetstream_api::read_older_consumer(name, json),
                _ => {}
            }
        }
    }
}
