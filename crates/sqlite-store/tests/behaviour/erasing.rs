//! What is cleared or deleted is gone at once, and its rows go in steps that are committed even if nothing else is.

use std::path::Path;

use jetstream::identity::Sequence;
use jetstream::store::Store;
use subject::Filter;

use crate::crash::copy;
use crate::{STREAM, append, open, read_all};

const MESSAGES: u64 = 20_000;

fn filled(folder: &Path) -> sqlite_store::SqliteStore {
    let (mut store, _) = open(folder);
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    for sequence in 1..=MESSAGES {
        let size = if sequence % 900 == 0 { 90_000 } else { 150 };
        append(&mut store, sequence, &format!("s.{}", sequence % 50), size).unwrap();
        if sequence % 500 == 0 {
            store.commit().unwrap();
        }
    }
    store.commit().unwrap();
    store
}

/// Rows of a table in a copy of the store as a kill would leave it now.
fn rows_after_kill(folder: &Path, table: &str) -> u64 {
    let killed = tempfile::tempdir().unwrap();
    copy(folder, killed.path());
    let file = rusqlite::Connection::open(killed.path().join("store.db")).unwrap();
    let count = file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
    count.map_or(0, |count| count as u64)
}

#[test]
fn a_cleared_stream_is_empty_at_once_and_stays_so_after_a_kill_at_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path());
    let evicted = store.clear(STREAM).unwrap();
    assert_eq!((evicted.messages, evicted.first, evicted.last), (MESSAGES, Sequence(1), Sequence(MESSAGES)));
    store.commit().unwrap();
    let mut last = MESSAGES;
    for step in 0.. {
        let more = store.maintain().unwrap();
        if step % 3 == 0 {
            last += 1;
            append(&mut store, last, "s.new", 100).unwrap();
            store.commit().unwrap();
        }
        if step % 8 == 0 || !more {
            let killed = tempfile::tempdir().unwrap();
            copy(folder.path(), killed.path());
            let (mut after, report) = open(killed.path());
            assert_eq!(report.damage, []);
            let state = after.state(STREAM);
            assert_eq!((state.messages, state.first.0, state.last.0), (last - MESSAGES, MESSAGES + 1, last));
            let all = read_all(&mut after, STREAM, &[], 1_000, &|| ());
            assert!(all.iter().map(|message| message.sequence.0).eq(MESSAGES + 1..=last));
            while after.maintain().unwrap() {}
            assert_eq!(rows_after_kill(killed.path(), "m16"), last - MESSAGES);
        }
        if !more {
            break;
        }
    }
    assert_eq!(rows_after_kill(folder.path(), "m16"), last - MESSAGES);
    assert_eq!(rows_after_kill(folder.path(), "b16"), 0);
    assert_eq!(rows_after_kill(folder.path(), "chunk"), 0);
}

/// It was one transaction until somebody published: a log as large as what was deleted, and nothing of it done after a crash.
#[test]
fn erasing_alone_is_committed_step_by_step() {
    for delete in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = filled(folder.path());
        if delete {
            store.delete_stream(STREAM).unwrap();
        } else {
            store.clear(STREAM).unwrap();
        }
        store.commit().unwrap();
        for step in 1..=10 {
            assert!(store.maintain().unwrap());
            let left = rows_after_kill(folder.path(), "m16");
            assert!(left <= MESSAGES - (step - 1) * 500, "{left} rows after {step} steps");
        }
        while store.maintain().unwrap() {}
        assert_eq!(rows_after_kill(folder.path(), "m16"), 0);
        assert!(!store.is_dirty());
    }
}

#[test]
fn a_rebuilt_stream_does_not_get_back_what_was_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path());
    store.clear(STREAM).unwrap();
    append(&mut store, MESSAGES + 1, "s.new", 100).unwrap();
    store.commit().unwrap();
    drop(store);
    std::fs::write(folder.path().join("store.suspect"), b"").unwrap();
    let (store, _) = open(folder.path());
    assert_eq!((store.state(STREAM).messages, store.state(STREAM).first.0), (1, MESSAGES + 1));
}

/// Each has a page of its own read and written: as many as of neighbours would keep everybody waiting.
#[test]
fn a_purge_of_messages_that_lie_apart_takes_smaller_steps() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = open(folder.path());
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    for sequence in 1..=40_000 {
        append(&mut store, sequence, if sequence % 100 == 0 { "s.rare" } else { "s.often" }, 10).unwrap();
    }
    store.commit().unwrap();
    let mut steps = |subject: &str, below| {
        let filter = Filter::parse(subject).unwrap();
        let (mut messages, mut largest) = (0, 0);
        loop {
            let (evicted, more) = store.purge(STREAM, &filter, Some(Sequence(below)), 0, 1024).unwrap();
            store.commit().unwrap();
            messages += evicted.messages;
            largest = largest.max(evicted.messages);
            if !more {
                return (messages, largest);
            }
        }
    };
    let (messages, largest) = steps("s.often", 5_001);
    assert!(messages == 4_950 && largest > 900, "{largest} at once of {messages}");
    let (messages, largest) = steps("s.rare", 30_001);
    assert_eq!(messages, 300);
    assert!((16..=32).contains(&largest), "{largest} at once");
    assert_eq!(store.state(STREAM).messages, 40_000 - 4_950 - 300);
}

/// A summary may name a row that is not there any more.
#[test]
fn a_purge_of_one_subject_ends_when_a_row_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = open(folder.path());
    store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
    for sequence in 1..=4_000 {
        append(&mut store, sequence, if sequence <= 5 { "s.rare" } else { "s.often" }, 10).unwrap();
    }
    store.commit().unwrap();
    drop(store);
    let file = rusqlite::Connection::open(folder.path().join("store.db")).unwrap();
    assert_eq!(file.execute(&format!("DELETE FROM m{} WHERE seq IN (2, 5)", STREAM.0), []).unwrap(), 2);
    drop(file);
    let (mut store, _) = open(folder.path());
    let filter = Filter::parse("s.rare").unwrap();
    let mut steps = (0..10).map(|_| {
        let (evicted, more) = store.purge(STREAM, &filter, None, 0, 2).unwrap();
        store.commit().unwrap();
        (evicted.messages, more)
    });
    let mut messages = 0;
    assert!(steps.any(|(evicted, more)| {
        messages += evicted;
        !more
    }));
    assert_eq!(messages, 3);
}
