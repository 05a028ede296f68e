//! Whatever the files contain, the store opens, says what is wrong, and never shows a message that was not stored.

use std::path::Path;

use jetstream::identity::Sequence;
use jetstream::store::{MessageBuffer, Read, Store};
use proptest::prelude::*;
use sqlite_store::{Damage, OpenReport, SqliteStore};

use crate::{STREAM, append, open, payload};

const MESSAGES: u64 = 3_000;

/// An orderly end: everything is in the tables.
fn filled(folder: &Path) {
    drop(filling(folder));
}

fn filling(folder: &Path) -> SqliteStore {
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
    store
}

/// In memory where there is such a file system: hundreds of openings, and nothing about them is about the real disk.
fn quick_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(if memory.is_dir() { memory.into() } else { std::env::temp_dir() }).unwrap()
}

/// Opens, as often as the store asks for it, and reads everything. What is found must be what was stored. Answers how much that was, whether
/// the store said that something was damaged, and what it reported.
fn check(folder: &Path) -> (u64, bool, Vec<OpenReport>) {
    let mut reports = Vec::new();
    for _ in 0..4 {
        let (mut store, report) = open(folder);
        reports.push(report);
        match read(&mut store) {
            Ok(found) => {
                let told = store.damaged() > 0 || reports.iter().any(|report| !report.damage.is_empty());
                return (found, told, reports);
            }
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
    let path = folder.path().join("store.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    for page in [pages / 3, pages / 2] {
        bytes[page * 4096..page * 4096 + 2048].fill(0xa5);
    }
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(folder.path().join("store.suspect"), b"").unwrap();
    let (found, told, reports) = check(folder.path());
    assert!(found > MESSAGES * 9 / 10 && found < MESSAGES, "{found}: {reports:?}");
    assert!(told);
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
        let folder = quick_folder();
        copy_of_filled(folder.path(), log);
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

/// Filling takes longer than everything else: once for all cases. `killed`: with much of it in the log.
fn copy_of_filled(folder: &Path, killed: bool) {
    static FILLED: std::sync::OnceLock<[tempfile::TempDir; 2]> = std::sync::OnceLock::new();
    let folders = FILLED.get_or_init(|| {
        let [ended, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let store = filling(ended.path());
        copy_files(ended.path(), killed.path());
        drop(store);
        [ended, killed]
    });
    copy_files(folders[usize::from(killed)].path(), folder);
}

fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Messages evicted before the damage: their pages lie in the file still.
const EVICTED: u64 = 1_000;
/// Rows of these messages on one page, at most.
const ROWS_ON_A_PAGE: u64 = 30;

/// A file with free pages, and the page of its stream's root.
fn evicted() -> &'static (tempfile::TempDir, u32) {
    static EVICTED_FROM: std::sync::OnceLock<(tempfile::TempDir, u32)> = std::sync::OnceLock::new();
    EVICTED_FROM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let (mut store, _) = open(folder.path());
        let limits = jetstream::store::FrontLimits {
            max_messages: MESSAGES - EVICTED,
            max_bytes: u64::MAX,
            stored_before: None,
            below: Sequence(0),
            limit: u64::MAX,
        };
        store.evict(STREAM, &limits).unwrap();
        store.commit().unwrap();
        drop(store);
        let file = rusqlite::Connection::open(folder.path().join("store.db")).unwrap();
        let root = file.query_row("SELECT rootpage FROM sqlite_master WHERE name = 'm16'", [], |row| row.get(0));
        (folder, root.unwrap())
    })
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) as usize % bound
    }
}

/// Damages some pages; answers which.
fn damage_pages(bytes: &mut Vec<u8>, root: u32, dice: &mut Dice) -> std::collections::BTreeSet<u32> {
    let count = bytes.len() / 4096;
    let mut damaged = std::collections::BTreeSet::new();
    for _ in 0..=dice.below(4) {
        let page = match dice.below(8) {
            0 | 1 => 0,
            2 => root as usize - 1,
            3 => 1 + dice.below(8),
            _ => dice.below(count),
        };
        damaged.insert(page as u32 + 1);
        let at = page * 4096;
        match dice.below(4) {
            0 => bytes[at..at + 4096].fill(0),
            1 => bytes[at..at + 4096].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
            2 => bytes[at..at + 16].iter_mut().for_each(|byte| *byte ^= 0x5a),
            _ => (0..=dice.below(40)).for_each(|_| bytes[at + dice.below(4096)] ^= 1 << dice.below(8)),
        }
    }
    if dice.below(6) == 0 {
        let length = bytes.len() - dice.below(bytes.len() / 10) - 1;
        damaged.extend((length / 4096) as u32 + 1..=count as u32);
        bytes.truncate(length);
    }
    damaged
}

/// The matrix: whatever pages are damaged, the store opens, shows only what was stored, loses only what lay on those pages, and says so.
#[test]
fn damaged_pages_cost_what_lies_on_them() {
    let (folder, root) = evicted();
    for seed in 0..300 {
        let copy = quick_folder();
        let mut bytes = std::fs::read(folder.path().join("store.db")).unwrap();
        let damaged = damage_pages(&mut bytes, *root, &mut Dice(seed));
        std::fs::write(copy.path().join("store.db"), bytes).unwrap();
        let (found, told, reports) = check(copy.path());
        let what = || format!("seed {seed}: {found} found, pages {damaged:?} (root {root}) damaged: {reports:?}");
        assert!(found <= MESSAGES - EVICTED, "{}", what());
        // With the schema and the root both gone, nothing tells the stream's pages from free ones.
        if !(damaged.contains(&1) && damaged.contains(root)) {
            let lost = MESSAGES - EVICTED - found;
            assert!(lost <= damaged.len() as u64 * ROWS_ON_A_PAGE, "{}", what());
        }
        assert!(told || found == MESSAGES - EVICTED, "{}", what());
    }
}

/// A kill while the fresh file was being filled: what had come over by then must not be taken for everything.
#[test]
fn an_interrupted_salvage_is_done_again() {
    let (from, _) = evicted();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(from.path().join("store.db"), folder.path().join("store.damaged-1")).unwrap();
    std::fs::write(folder.path().join("store.salvaged"), b"a part of a file").unwrap();
    let (found, told, _) = check(folder.path());
    assert!(told);
    assert_eq!(found, MESSAGES - EVICTED);
    assert!(!folder.path().join("store.salvaged").exists());
    assert_eq!(open(folder.path()).1.damage, []);
}

/// The schema page alone: everything is found without it, and keeps its name.
#[test]
fn a_lost_schema_costs_nothing() {
    let (from, _) = evicted();
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(from.path().join("store.db")).unwrap();
    bytes[..4096].fill(0);
    std::fs::write(folder.path().join("store.db"), bytes).unwrap();
    let (mut store, report) = open(folder.path());
    let told = report.damage[0].to_string();
    assert!(told.contains("set aside as") && told.contains("2000 messages of 1 streams"), "{told}");
    assert_eq!(store.streams().unwrap()[0].description, b"description");
    assert_eq!(store.record(b"c1").unwrap().unwrap(), b"consumer");
    assert_eq!(read(&mut store).unwrap(), MESSAGES - EVICTED);
}
