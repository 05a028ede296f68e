//! The write-ahead log stays small.

use jetstream::identity::Sequence;
use jetstream::store::Store;
use sqlite_store::{Options, SqliteStore};

use crate::{STREAM, append, options};

const MIB: u64 = 1 << 20;

/// Looks at a log that does not grow any more.
const LOOKS: u32 = 20_000;

/// The reader thread is held back until the log has 16 MiB and grows no more: a writer that leaves all to it goes on.
#[test]
fn the_log_is_bounded_while_the_reader_thread_is_behind() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("store.db-wal");
    let size = move || log.metadata().map_or(0, |metadata| metadata.len());
    let grown = size.clone();
    let wake = Box::new(move || {
        let (mut seen, mut same) = (0, 0);
        while seen <= 16 * MIB || same < LOOKS {
            std::thread::yield_now();
            let now = grown();
            same = if now == seen { same + 1 } else { 0 };
            seen = now;
        }
    });
    let (mut store, _) = SqliteStore::open(folder.path(), Options { wake: Some(wake), ..options() }).unwrap();
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    for sequence in 1..=40_000 {
        append(&mut store, sequence, "s.a", 1_000).unwrap();
        if sequence % 64 == 0 {
            store.commit().unwrap();
            store.maintain().unwrap();
            assert!(size() < 18 * MIB, "{} bytes", size());
        }
    }
    assert!(size() > 16 * MIB, "the reader thread was not behind");
}

/// After an orderly end nothing lies in the log alone, where one damaged byte would cost all that follows.
#[test]
fn an_orderly_end_leaves_nothing_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = SqliteStore::open(folder.path(), options()).unwrap();
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    for sequence in 1..=100 {
        append(&mut store, sequence, "s.a", 100).unwrap();
    }
    store.commit().unwrap();
    drop(store);
    let log = folder.path().join("store.db-wal");
    assert_eq!(log.metadata().map_or(0, |metadata| metadata.len()), 0);
    let (store, _) = SqliteStore::open(folder.path(), options()).unwrap();
    assert_eq!(store.state(STREAM).messages, 100);
}
