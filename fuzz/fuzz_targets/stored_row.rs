//! Whatever lies in the store's file: decoders answer `None` or something sound, and never panic. Behind the checksum, too: the input is also tried with
//! its checksum made right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sqlite_store::decoders::{
    Block, Row, Saved, decode_chunk, decode_ids, decode_removals, decode_states, decode_texts,
};

fuzz_target!(|data: &[u8]| {
    every(data);
    if data.len() > 4 {
        let mut sealed = data.to_vec();
        let crc = crc32c::crc32c(&sealed[4..]);
        sealed[..4].copy_from_slice(&crc.to_le_bytes());
        every(&sealed);
    }
    if data.len() > 5 {
        let mut row = data.to_vec();
        row[0] &= 7;
        let mut head = [0; 9];
        head[..8].copy_from_slice(&7u64.to_le_bytes());
        head[8] = row[0];
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &row[5..]);
        row[1..5].copy_from_slice(&crc.to_le_bytes());
        if let Some(row) = Row::decode(7, &row) {
            let _ = (row.size(), row.payload.chunks());
        }
    }
});

fn every(data: &[u8]) {
    let _ = (
        Row::decode(7, data),
        decode_chunk(7, data),
        Saved::decode(data),
        decode_removals(data),
        decode_states(data),
        decode_texts(data),
    );
    if let Some(ids) = decode_ids(data) {
        assert!(ids.len() <= 1024);
    }
    if let Some(block) = Block::decode(data) {
        assert_eq!(Block::decode(&block.encode()), Some(block));
    }
}
