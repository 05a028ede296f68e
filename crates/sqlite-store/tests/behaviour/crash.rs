//! A process that dies loses nothing that was committed and nothing else with it. Commits that fail are in `tests/power_cut/fault.rs`.

use std::path::Path;

use jetstream::identity::{Sequence, StreamId};
use jetstream::store::Store;
use sqlite_store::{OpenError, Options, SqliteStore};

use crate::{STREAM, append, open, options, read_all};

pub(crate) fn copy(from: &Path, to: &Path) {
    for name in ["store.db", "store.db-wal"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// What a killed process leaves is its files as they are, mid-transaction.
#[test]
fn a_kill_at_any_time_keeps_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, report) = open(folder.path());
    assert!(report.created && !report.unclean);
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    store.commit().unwrap();
    let mut committed = 0;
    for sequence in 1..=3_000u64 {
        append(&mut store, sequence, &format!("s.{}", sequence % 7), 100).unwrap();
        if sequence % 50 == 0 {
            store.commit().unwrap();
            committed = sequence;
        }
        if sequence % 170 == 0 {
            let killed = tempfile::tempdir().unwrap();
            copy(folder.path(), killed.path());
            let (mut after, report) = open(killed.path());
            assert_eq!((report.messages, report.damage), (committed, vec![]));
            let all = read_all(&mut after, STREAM, &[], 1_000, &|| ());
            assert!(all.iter().map(|message| message.sequence.0).eq(1..=committed));
        }
    }
}

/// Readers and writer together: the log is used again and again instead of growing.
#[test]
fn the_log_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    for threaded in [false, true] {
        let wake: Option<Box<dyn Fn() + Send>> = if threaded { Some(Box::new(|| ())) } else { None };
        let (mut store, _) = SqliteStore::open(folder.path(), Options { wake, ..options() }).unwrap();
        let stream = StreamId(if threaded { 17 } else { 16 });
        if !threaded {
            store.create_stream(stream, Sequence(1), b"").unwrap();
        }
        let last = store.state(STREAM).last.0;
        for sequence in last + 1..=last + 12_000 {
            append(&mut store, sequence, "s.a", 2_000).unwrap();
            if sequence % 20 == 0 {
                store.commit().unwrap();
            }
        }
        let log = std::fs::metadata(folder.path().join("store.db-wal")).unwrap().len();
        assert!(log < 20 << 20, "{log} bytes of log, reader thread: {threaded}");
    }
}

/// House-keeping makes the log longer than what is in it, up to what it is kept at; zeros behind its end end it as its end does.
#[test]
fn the_log_runs_ahead_of_the_commits() {
    let folder = tempfile::tempdir().unwrap();
    let length = || std::fs::metadata(folder.path().join("store.db-wal")).map_or(0, |metadata| metadata.len());
    let (mut store, _) = open(folder.path());
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    store.commit().unwrap();
    store.maintain().unwrap();
    let first = length();
    assert!(first >= 256 << 10, "{first} bytes");
    append(&mut store, 1, "s.a", 100).unwrap();
    store.commit().unwrap();
    assert_eq!(length(), first, "the commit overwrites");
    for sequence in 2..=2_000 {
        append(&mut store, sequence, "s.a", 1_000).unwrap();
        store.commit().unwrap();
        store.maintain().unwrap();
        assert!(length() <= 5 << 20);
    }
    let killed = tempfile::tempdir().unwrap();
    copy(folder.path(), killed.path());
    assert_eq!(open(killed.path()).1.messages, 2_000);
}

#[test]
fn a_second_process_is_told_who_has_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    // A lock belongs to its open file, so a second opening in this process is refused like another process.
    let refused = SqliteStore::open(folder.path(), options()).unwrap_err();
    assert!(
        matches!(&refused, OpenError::InUse { holder, .. } if *holder == format!("process {}", std::process::id())),
        "{refused}"
    );
    drop(store);
    assert!(!open(folder.path()).1.unclean);
}
