//! Whatever the files contain, the store opens, says what is wrong, and never shows a message that was not stored.

use std::path::Path;

use jetstream::identity::Sequence;
use jetstream::store::{MessageBuffer, Read, Store};
use proptest::prelude::*;
use sqlite_store::{Damage, OpenReport, SqliteStore};

use crate::{STREAM, append, open, payload};

const MESSAGES: u64 = 3_000;

fn filled(folder: &Path) {
    let (mut store, _) = open(folder);
    store.create_stream(STREAM, Sequence(1), b"description").unwrap();
    for sequence in 1..=MESSAGES {
        let size = if sequence % 500 == 0 { 90_000 } else { 120 };
        append(&mut store, sequence, &format!("s.{}", sequence % 7), size).unwrap();
        if sequence % 100 == 0 {
            store.commit().unwrap();
        }
    }
    store.put_record(b"c1", b"consumer").unwrap();
    store.commit().unwrap();
}

/// Writes the log into the file, so that there is something to damage in it.
fn merge_log(folder: &Path) {
    let merge = rusqlite::Connection::open(folder.join("store.db")).unwrap();
    merge.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// Opens, as often as the store asks for it, and reads everything. What is found must be what was stored.
fn check(folder: &Path) -> (u64, Vec<OpenReport>) {
    let mut reports = Vec::new();
    for _ in 0..4 {
        let (mut store, report) = open(folder);
        reports.push(report);
        match read(&mut store) {
            Ok(found) => return (found, reports),
            Err(_) => drop(store),
        }
    }
    panic!("never readable: {reports:?}");
}

fn read(store: &mut SqliteStore) -> Result<u64, jetstream::store::StoreError> {
    let mut from = Sequence(1);
    let mut found = 0;
    let mut before = 0;
    while from <= store.state(STREAM).last {
        let mut buffer = MessageBuffer::default();
        let Read::Ready { next } = store.read(STREAM, from, &[], 100, 50_000, &mut buffer)? else {
            panic!("no reader thread")
        };
        for message in buffer.iter() {
            let sequence = message.sequence.0;
            assert!(sequence > before);
            before = sequence;
            assert_eq!(message.payload, payload(sequence, message.payload.len()));
            assert_eq!(message.subject, format!("s.{}", sequence % 7).as_bytes());
            found += 1;
        }
        assert!(next > from);
        from = next;
    }
    if let Some(record) = store.record(b"c1")? {
        assert_eq!(record, b"consumer");
    }
    let last = store.state(STREAM).last.0;
    if store.streams()?.len() == 1 {
        append(store, last + 1, &format!("s.{}", (last + 1) % 7), 10)?;
        store.commit()?;
    }
    Ok(found)
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("store.db"),
        b"not a database, but long enough to be looked at as if it were one",
    )
    .unwrap();
    let (store, report) = open(folder.path());
    assert!(
        matches!(&report.damage[..], [Damage::SetAside { file, .. }] if file.ends_with("store.damaged-1") && file.exists()),
        "{report:?}"
    );
    drop(store);
    assert_eq!(open(folder.path()).1.damage, []);
}

#[test]
fn a_damaged_table_costs_what_lies_in_the_damaged_pages() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    merge_log(folder.path());
    let path = folder.path().join("store.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    for page in [pages / 3, pages / 2] {
        bytes[page * 4096..page * 4096 + 2048].fill(0xa5);
    }
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(folder.path().join("store.suspect"), b"").unwrap();
    let (found, reports) = check(folder.path());
    assert!(found > MESSAGES * 9 / 10 && found < MESSAGES, "{found}: {reports:?}");
    assert!(reports.iter().any(|report| !report.damage.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn flipped_bytes_and_cut_files_never_show_a_wrong_message(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..12),
        header in prop::option::of((0usize..4096, 1u8..)),
        cut in prop::option::of(any::<prop::sample::Index>()),
        log in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        copy_of_filled(folder.path(), !log);
        let path = folder.path().join(if log { "store.db-wal" } else { "store.db" });
        let mut bytes = std::fs::read(&path).unwrap();
        for (index, mask) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Some((at, mask)) = header {
            bytes[at] ^= mask;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        check(folder.path());
    }
}

/// Filling takes longer than everything else: once for all cases.
fn copy_of_filled(folder: &Path, merged: bool) {
    static FILLED: std::sync::OnceLock<[tempfile::TempDir; 2]> = std::sync::OnceLock::new();
    let folders = FILLED.get_or_init(|| {
        [false, true].map(|merged| {
            let folder = tempfile::tempdir().unwrap();
            filled(folder.path());
            if merged {
                merge_log(folder.path());
            }
            folder
        })
    });
    for entry in std::fs::read_dir(folders[usize::from(merged)].path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
}
