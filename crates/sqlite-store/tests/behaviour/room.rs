//! A full disk refuses messages, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jetstream::identity::Sequence;
use jetstream::store::{FrontLimits, Store, StoreError};
use sqlite_store::{Options, SqliteStore};

use crate::{STREAM, append, options};

const MIB: u64 = 1 << 20;

#[test]
fn below_the_reserve_only_messages_are_refused_and_deleting_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(100 * MIB));
    let probe = Arc::clone(&free);
    let free_space: sqlite_store::FreeSpace = Box::new(move |_| Some(probe.load(Ordering::Relaxed)));
    let (mut store, _) =
        SqliteStore::open(folder.path(), Options { reserve: 10 * MIB, free_space, ..options() }).unwrap();
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    for sequence in 1..=2_000 {
        append(&mut store, sequence, "s.a", 1_000).unwrap();
    }
    store.commit().unwrap();
    assert_eq!(store.space().available, 90 * MIB);

    free.store(9 * MIB, Ordering::Relaxed);
    assert!(matches!(append(&mut store, 2_001, "s.a", 1_000), Err(StoreError::Full)));
    store.put_record(b"c1", b"position").unwrap();
    assert!(store.remove(STREAM, Sequence(7), true).unwrap());
    store.commit().unwrap();
    assert_eq!(store.state(STREAM).last, Sequence(2_000));

    // The file doesn't shrink, but its free pages are room.
    let limits =
        FrontLimits { max_messages: 500, max_bytes: u64::MAX, stored_before: None, below: Sequence(0), limit: 10_000 };
    assert_eq!(store.evict(STREAM, &limits).unwrap().messages, 1_499);
    store.commit().unwrap();
    append(&mut store, 2_001, "s.a", 1_000).unwrap();
    store.commit().unwrap();

    let used = store.space().used;
    let stored = (2_002..20_000).take_while(|sequence| append(&mut store, *sequence, "s.a", 1_000).is_ok()).count();
    store.commit().unwrap();
    assert!((200..2_000).contains(&stored), "{stored}");
    assert!(store.space().used < used + 5 * MIB);

    free.store(100 * MIB, Ordering::Relaxed);
    append(&mut store, 30_000, "s.a", 1_000).unwrap();
    store.commit().unwrap();
}

/// What is asked for together is stored one after the other, in one transaction, without meeting the floor.
#[test]
fn room_that_was_promised_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let free_space: sqlite_store::FreeSpace = Box::new(|_| Some(20 * MIB));
    let (mut store, _) =
        SqliteStore::open(folder.path(), Options { reserve: 10 * MIB, free_space, ..options() }).unwrap();
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    assert!(!store.has_room(6 * MIB).unwrap());
    assert!(store.has_room(4 * MIB).unwrap());
    for sequence in 1..=4096 {
        append(&mut store, sequence, "s.a", 900).unwrap();
    }
    store.commit().unwrap();
}

#[test]
fn the_ballast_stands_while_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let ballast = folder.path().join("store.ballast");
    let with =
        |free: u64| Options { ballast: MIB, reserve: 10 * MIB, free_space: Box::new(move |_| Some(free)), ..options() };
    drop(SqliteStore::open(folder.path(), with(11 * MIB)).unwrap());
    assert!(!ballast.exists());
    let (mut store, _) = SqliteStore::open(folder.path(), with(13 * MIB)).unwrap();
    assert_eq!(std::fs::metadata(&ballast).unwrap().len(), MIB);
    assert!(!store.maintain().unwrap());
}

#[test]
fn the_ballast_is_given_back_before_a_commit_meets_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let ballast = folder.path().join("store.ballast");
    let free = Arc::new(AtomicU64::new(100 * MIB));
    let probe = Arc::clone(&free);
    let free_space: sqlite_store::FreeSpace = Box::new(move |_| Some(probe.load(Ordering::Relaxed)));
    let (mut store, _) =
        SqliteStore::open(folder.path(), Options { ballast: MIB, reserve: 10 * MIB, free_space, ..options() }).unwrap();
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    store.commit().unwrap();
    assert!(ballast.exists());
    free.store(0, Ordering::Relaxed);
    assert!(matches!(append(&mut store, 1, "s.a", 100), Err(StoreError::Full)));
    assert!(!ballast.exists());
    free.store(100 * MIB, Ordering::Relaxed);
    store.maintain().unwrap();
    assert!(ballast.exists());
    // Nobody publishes: found out all the same.
    free.store(0, Ordering::Relaxed);
    (0..200).for_each(|_| _ = store.maintain().unwrap());
    assert!(!ballast.exists());
}
