//! Buckets: the rows of messages that newer ones push out of their subject go together at the commit. Until then they are in their table, and nobody sees them.

use jetstream::store::FrontLimits;

use super::*;

/// Keys, and messages of each that are kept.
const KEYS: u64 = 50;
const HISTORY: u64 = 3;

fn key(sequence: u64) -> String {
    format!("k.{}", sequence % KEYS)
}

fn put(store: &mut SqliteStore, sequence: u64) {
    // Every seventh is so large that its payload lies in chunks.
    let size = if sequence.is_multiple_of(7) { 70_000 } else { 100 };
    append(store, sequence, &key(sequence), size).unwrap();
    store.trim_subject(STREAM, key(sequence).as_bytes(), HISTORY, 100).unwrap();
}

fn is_there(store: &mut SqliteStore, sequence: u64) -> bool {
    store.message(STREAM, Sequence(sequence), &mut MessageBuffer::default()).unwrap()
}

/// All sequences that a reader gets.
fn read_all(store: &mut SqliteStore) -> Vec<u64> {
    let (mut sequences, mut from) = (Vec::new(), Sequence(1));
    while from.0 <= store.state(STREAM).last.0 {
        let mut buffer = MessageBuffer::default();
        if let Read::Ready { next } = store.read(STREAM, from, &[], 1_000, 1 << 20, &mut buffer).unwrap() {
            sequences.extend(buffer.iter().map(|message| message.sequence.0));
            from = next;
        }
    }
    sequences
}

fn filled(folder: &Path, messages: u64) -> SqliteStore {
    let mut store = open(folder).0;
    store.create_stream(STREAM, Sequence(1), b"bucket").unwrap();
    for sequence in 1..=messages {
        put(&mut store, sequence);
        if sequence.is_multiple_of(20) {
            store.commit().unwrap();
        }
    }
    store.commit().unwrap();
    store
}

#[test]
fn what_is_pushed_out_is_gone_before_the_commit_and_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 1_200);
    for sequence in 1_201..=1_240 {
        put(&mut store, sequence);
    }
    let expected: Vec<u64> = (1_240 - KEYS * HISTORY + 1..=1_240).collect();
    let check = |store: &mut SqliteStore| {
        let gone: Vec<u64> = (expected[0] - 60..expected[0]).filter(|sequence| is_there(store, *sequence)).collect();
        assert_eq!(gone, [0; 0]);
        let state = store.state(STREAM);
        assert_eq!(
            (state.messages, state.first.0, state.first_time),
            (KEYS * HISTORY, expected[0], now(expected[0]).wall)
        );
        assert_eq!(store.oldest(STREAM).unwrap(), Some((Sequence(expected[0]), now(expected[0]))));
        assert_eq!(store.first_at(STREAM, now(1).wall).unwrap().0, expected[0]);
        assert_eq!(read_all(store), expected);
    };
    check(&mut store);
    store.commit().unwrap();
    check(&mut store);
    drop(store);
    check(&mut open(folder.path()).0);
}

#[test]
fn removals_in_the_middle_move_the_front_past_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 400);
    let first = store.state(STREAM).first.0;
    // One by one, some behind the first are gone before it; then from the front, and once more one by one.
    for sequence in [first, first + 2, first + 1, first + 4] {
        assert!(store.remove(STREAM, Sequence(sequence), false).unwrap());
        assert!(!store.remove(STREAM, Sequence(sequence), false).unwrap() && !is_there(&mut store, sequence));
    }
    assert_eq!(store.state(STREAM).first.0, first + 3);
    let below = |below| FrontLimits {
        max_messages: u64::MAX,
        max_bytes: u64::MAX,
        stored_before: None,
        below: Sequence(below),
        limit: 100,
    };
    assert_eq!(store.evict(STREAM, &below(first + 6)).unwrap().messages, 2);
    assert_eq!(store.state(STREAM).first.0, first + 6);
    store.remove_run(STREAM, Sequence(first + 6), Sequence(first + 8)).unwrap();
    assert!(store.remove(STREAM, Sequence(first + 10), false).unwrap());
    assert_eq!(store.oldest(STREAM).unwrap(), Some((Sequence(first + 9), now(first + 9))));
    let expected: Vec<u64> = (first + 9..=400).filter(|sequence| *sequence != first + 10).collect();
    assert_eq!(read_all(&mut store), expected);
    store.commit().unwrap();
    drop(store);
    let mut store = open(folder.path()).0;
    assert_eq!((read_all(&mut store), store.state(STREAM).first.0), (expected, first + 9));
}

#[test]
fn a_removal_that_is_read_again_at_opening_hides_no_newer_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).0;
    store.create_stream(STREAM, Sequence(1), b"bucket").unwrap();
    // Enough others behind each of the three that its block is closed.
    let mut last = 0;
    let mut others = |store: &mut SqliteStore| {
        last += 1;
        append(store, last, "a", 10).unwrap();
        let newest = last;
        for _ in 0..1_100 {
            last += 1;
            append(store, last, "others", 10).unwrap();
        }
        store.commit().unwrap();
        newest
    };
    let (oldest, removed) = (others(&mut store), others(&mut store));
    assert!(store.remove(STREAM, Sequence(removed), false).unwrap());
    store.commit().unwrap();
    let newest = others(&mut store);
    let state = |store: &SqliteStore| store.subject_state(STREAM, b"a").unwrap();
    let before = state(&store);
    assert!(before.last.0 == newest && before.messages == 2 && oldest < removed);
    drop(store);
    assert_eq!(state(&open(folder.path()).0), before);
}
