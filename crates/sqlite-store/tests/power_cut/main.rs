//! What was acknowledged survives a cut of the power at any moment, and a cut can be seen to cost something where commits are not synced: else this
//! test would be blind. And syncs and writes that fail, see `fault`.
#![allow(clippy::unwrap_used, reason = "a test ends where something can't be")]

mod driver;
mod fault;
mod replay;

use std::path::Path;
use std::process::{Command, Stdio};

use jetstream::identity::{Sequence, StreamId};
use jetstream::store::{MessageBuffer, Read, Store};
use replay::{Recording, Splitter};
use sqlite_store::{Options, SqliteStore};

const STREAM: StreamId = StreamId(16);

/// Cargo puts the shared library beside the tests.
fn library() -> std::path::PathBuf {
    let library = std::env::current_exe().unwrap().with_file_name("libpower_cut.so");
    assert!(library.exists(), "{} is not built", library.display());
    library
}

/// In memory where there is such a file system: nothing of these tests is about the real disk.
fn quick_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(if memory.is_dir() { memory.into() } else { std::env::temp_dir() }).unwrap()
}

fn record(mode: &str, messages: u64) -> Recording {
    let folder = quick_folder();
    let store = folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let log = folder.path().join("log");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["drive".as_ref(), store.as_os_str(), mode.as_ref(), messages.to_string().as_ref()])
        .env("LD_PRELOAD", library())
        .env("POWER_CUT_FOLDER", &store)
        .env("POWER_CUT_LOG", &log)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let recording = Recording::read(&log).unwrap();
    assert_eq!(recording.acknowledged(recording.len()), messages);
    recording
}

/// How many of the cuts lost an acknowledged message; a cut that left something else wrong is a failure.
fn lossy_cuts(recording: &Recording, cuts: u64) -> u64 {
    let mut lossy = 0;
    for seed in 1..=cuts {
        let cut = (Splitter(seed ^ 0xabcd).bits() % (recording.len() as u64 + 1)) as usize;
        let acknowledged = recording.acknowledged(cut);
        let folder = quick_folder();
        recording.build(cut, seed, folder.path()).unwrap();
        let (mut store, report) =
            SqliteStore::open(folder.path(), Options { ballast: 0, reserve: 0, ..Options::default() }).unwrap();
        if acknowledged > 0 {
            assert_eq!(report.damage, [], "seed {seed}, cut {cut}");
        }
        let state = store.state(STREAM);
        lossy += u64::from(state.last < Sequence(acknowledged));
        check(&mut store, seed);
    }
    lossy
}

/// Every message that the counters promise is there, whole and once.
fn check(store: &mut SqliteStore, seed: u64) {
    let state = store.state(STREAM);
    let mut buffer = MessageBuffer::default();
    let mut from = state.first;
    while from <= state.last && state.messages > 0 {
        let Read::Ready { next } = store.read(STREAM, from, &[], 1_000, 1 << 20, &mut buffer).unwrap() else {
            panic!("no reader thread")
        };
        from = next;
    }
    assert_eq!(buffer.len() as u64, state.messages, "seed {seed}");
    for (message, sequence) in buffer.iter().zip(state.first.0..) {
        assert_eq!(message.sequence.0, sequence, "seed {seed}");
        assert!(message.payload.iter().all(|byte| *byte == sequence as u8));
    }
}

/// No test harness: this program is also the process that is recorded.
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, folder, mode, messages] = &arguments[..]
        && role == "drive"
    {
        driver::drive(folder, mode, messages).unwrap();
        return;
    }
    if let [_, role, case, folder, control] = &arguments[..]
        && role == "fault"
    {
        fault::run(case, folder.as_ref(), control.as_ref());
        return;
    }
    fault::cases();
    let recording = record("full", 2_400);
    assert_eq!(lossy_cuts(&recording, 500), 0, "acknowledged messages were lost");
    let recording = record("apart", 2_400);
    assert_eq!(lossy_cuts(&recording, 200), 0, "acknowledged messages were lost that another thread had synced");
    let control = record("normal", 2_400);
    let lossy = lossy_cuts(&control, 100);
    assert!(lossy > 0, "cuts cost nothing even without syncs: the test is blind");
    println!("power cuts: 0 of 700 lost something acknowledged; without syncs {lossy} of 100");
}
