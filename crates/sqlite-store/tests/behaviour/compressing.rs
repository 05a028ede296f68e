//! Compressed payloads come back as they were stored, and count as such.

use jetstream::identity::Sequence;
use jetstream::store::{MessageBuffer, NewMessage, Store, message_size};

use crate::{STREAM, append, now, open, payload, read_all};

/// In the row, in the row compressed, and in chunks if it were not compressed.
const SIZES: [usize; 4] = [10, 600, 90_000, 3_000_000];

fn check(store: &mut dyn Store, sizes: &[usize]) {
    for (index, size) in sizes.iter().enumerate() {
        let (sequence, mut found) = (index as u64 + 1, MessageBuffer::default());
        assert!(store.message(STREAM, Sequence(sequence), &mut found).unwrap());
        assert!(found.get(0).unwrap().payload == payload(sequence, *size), "message {sequence} is another one");
    }
}

#[test]
fn what_is_compressed_comes_back_from_the_ring_and_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = open(folder.path());
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    store.compress(STREAM, true);
    let mut sizes = SIZES.to_vec();
    for (index, size) in sizes.iter().enumerate() {
        append(&mut store, index as u64 + 1, "s.a", *size).unwrap();
    }
    check(&mut store, &sizes);
    store.commit().unwrap();
    check(&mut store, &sizes);
    store.compress(STREAM, false);
    append(&mut store, sizes.len() as u64 + 1, "s.b", 600).unwrap();
    sizes.push(600);
    store.commit().unwrap();
    let bytes: u64 = sizes.iter().map(|size| message_size(3, 0, *size)).sum();
    assert_eq!(store.state(STREAM).bytes, bytes);
    drop(store);
    let (mut store, report) = open(folder.path());
    assert_eq!(report.damage, []);
    check(&mut store, &sizes);
    assert_eq!(store.state(STREAM).bytes, bytes);
    let wait = || std::thread::yield_now();
    assert_eq!(read_all(&mut store, STREAM, &[], 10, &wait).len(), sizes.len());
    assert!(store.remove(STREAM, Sequence(2), true).unwrap());
    assert_eq!(store.state(STREAM).bytes, bytes - message_size(3, 0, 600));
}

/// Half of it can't be compressed: in chunks, and compressed.
#[test]
fn what_is_compressed_and_still_large_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = open(folder.path());
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    store.compress(STREAM, true);
    let mut state = 1u64;
    let noise = (0..100_000).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let payload: Vec<u8> = noise.chain([0; 100_000]).collect();
    let message = NewMessage {
        sequence: Sequence(1),
        now: now(1),
        subject: b"s.a",
        headers: b"NATS/1.0\r\n\r\n",
        payload: &payload,
        message_id: Some(7),
    };
    store.append(STREAM, &message).unwrap();
    store.commit().unwrap();
    for _ in 0..2 {
        let mut found = MessageBuffer::default();
        assert!(store.message(STREAM, Sequence(1), &mut found).unwrap());
        let found = found.get(0).unwrap();
        assert!(found.payload == payload && found.headers == message.headers);
        drop(store);
        store = open(folder.path()).0;
    }
}

#[test]
fn it_takes_less_room() {
    let size = |compressed: bool| {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = open(folder.path());
        store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
        store.compress(STREAM, compressed);
        for sequence in 1..=200 {
            append(&mut store, sequence, "s.a", 50_000).unwrap();
        }
        store.commit().unwrap();
        store.space().used
    };
    let (plain, compressed) = (size(false), size(true));
    assert!(compressed < plain / 4, "{compressed} of {plain} bytes");
}
