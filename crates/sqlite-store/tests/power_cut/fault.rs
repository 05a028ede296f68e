//! Syncs and writes that fail. Each case runs in a process of its own with the preloaded library, which strikes what the case orders.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use jetstream::identity::{AgeMillis, Now, Sequence, Timestamp};
use jetstream::store::{MessageBuffer, NewMessage, Read, Store, StoreError};
use sqlite_store::{Options, SqliteStore};

use crate::{STREAM, library, quick_folder};

const BALLAST: u64 = 1 << 20;

/// Runs every case.
pub(crate) fn cases() {
    for case in ["sync", "first", "restart", "space", "checkpoint"] {
        let folder = quick_folder();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["fault".as_ref(), case.as_ref(), folder.path().join("store").as_os_str()])
            .arg(folder.path().join("control"))
            .env("LD_PRELOAD", library())
            .env("POWER_CUT_FAULT", folder.path().join("control"))
            .status()
            .unwrap();
        assert!(status.success(), "case {case}");
    }
}

/// One case, in the process that faults strike.
pub(crate) fn run(case: &str, folder: &Path, control: &Path) {
    let mut case_of = Case::new(folder, control);
    match case {
        "sync" => case_of.failed_syncs(),
        "first" => case_of.failed_first_commit(),
        "restart" => case_of.failed_restarts(),
        "space" => case_of.full_disk(),
        "checkpoint" => case_of.full_disk_behind_the_log(),
        other => panic!("no case {other}"),
    }
}

struct Case {
    folder: PathBuf,
    control: PathBuf,
    /// Last sequence whose commit returned.
    committed: u64,
    wake: Sender<()>,
    woken: Receiver<()>,
}

impl Case {
    fn new(folder: &Path, control: &Path) -> Case {
        let (wake, woken) = channel();
        Case { folder: folder.to_owned(), control: control.to_owned(), committed: 0, wake, woken }
    }

    /// A commit whose sync fails is refused, and so is everything after it; the next opening finds exactly what was synced.
    fn failed_syncs(&mut self) {
        let mut store = self.open();
        for round in 0..6 {
            for _ in 0..=round * 3 {
                self.commit(&mut store, 200);
            }
            self.fail_commit(&mut store, "sync store.db-wal");
            store = self.reopen(store);
        }
    }

    /// The first commit after an opening has something to be cut back to, too.
    fn failed_first_commit(&mut self) {
        let mut store = self.open();
        for _ in 0..3 {
            self.fail_commit(&mut store, "sync store.db-wal");
            store = self.reopen(store);
        }
        self.commit(&mut store, 200);
        store = self.reopen(store);
        self.fail_commit(&mut store, "sync store.db-wal");
        drop(self.reopen(store));
    }

    /// Commits around the restart of the log: small ones, and some larger than all that the log held before.
    fn failed_restarts(&mut self) {
        let mut store = self.open_with(true);
        for round in 0..6 {
            while self.woken.try_recv().is_ok() {}
            for _ in 0..6 {
                self.commit(&mut store, 760_000);
            }
            // The reader thread has written the log back; the writer does its rest.
            self.woken.recv().unwrap();
            store.maintain().unwrap();
            if round % 2 == 0 {
                self.commit(&mut store, 9_000_000);
            }
            for _ in 0..round / 2 {
                self.commit(&mut store, 100);
            }
            self.fail_commit(&mut store, "sync store.db-wal");
            store = self.reopen_with(store, true);
        }
    }

    /// Should the floor not have been enough: the commit fails, the ballast is given back, and nothing synced is lost.
    fn full_disk(&mut self) {
        let mut store = self.open();
        for _ in 0..20 {
            self.commit(&mut store, 3_000);
        }
        assert!(self.ballast_stands());
        self.fail_commit(&mut store, "space store.db-wal");
        assert!(!self.ballast_stands());
        store = self.reopen(store);
        assert!(self.ballast_stands());
        self.commit(&mut store, 3_000);
    }

    /// A log that can't be written back is no reason to end; the ballast makes room for it.
    fn full_disk_behind_the_log(&mut self) {
        let mut store = self.open();
        self.commit(&mut store, 100);
        self.order("space store.db");
        for _ in 0..8 {
            self.commit(&mut store, 600_000);
        }
        assert!(!self.ballast_stands());
        self.disarm();
        assert!(!store.maintain().unwrap());
        assert!(self.ballast_stands());
        for _ in 0..8 {
            self.commit(&mut store, 600_000);
        }
        assert!(std::fs::metadata(self.folder.join("store.db")).unwrap().len() > 4 << 20);
        drop(self.reopen(store));
    }

    fn open(&self) -> SqliteStore {
        self.open_with(false)
    }

    fn open_with(&self, reader: bool) -> SqliteStore {
        let wake = self.wake.clone();
        let wake: Option<Box<dyn Fn() + Send>> = if reader { Some(Box::new(move || _ = wake.send(()))) } else { None };
        let free_space: sqlite_store::FreeSpace = Box::new(|_| Some(1 << 40));
        let options = Options { ballast: BALLAST, reserve: 0, free_space, wake, ..Options::default() };
        let (mut store, report) = SqliteStore::open(&self.folder, options).unwrap();
        assert_eq!(report.damage, []);
        if store.streams().unwrap().is_empty() {
            store.create_stream(STREAM, Sequence(1), b"faults").unwrap();
            store.commit().unwrap();
        }
        store
    }

    fn reopen(&self, store: SqliteStore) -> SqliteStore {
        self.reopen_with(store, false)
    }

    fn reopen_with(&self, store: SqliteStore, reader: bool) -> SqliteStore {
        self.disarm();
        drop(store);
        let mut store = self.open_with(reader);
        assert_eq!(store.state(STREAM).last, Sequence(self.committed));
        let mut buffer = MessageBuffer::default();
        let mut from = Sequence(1);
        while from.0 <= self.committed {
            match store.read(STREAM, from, &[], 1_000, 1 << 20, &mut buffer).unwrap() {
                Read::Ready { next } => from = next,
                Read::Pending => self.woken.recv().unwrap(),
            }
        }
        assert!(buffer.iter().map(|message| message.sequence.0).eq(1..=self.committed));
        store
    }

    fn append(&self, store: &mut SqliteStore, sequence: u64, size: usize) -> Result<(), StoreError> {
        let now = Now { wall: Timestamp(sequence as i64), age: AgeMillis(sequence) };
        let payload = vec![sequence as u8; size];
        let message = NewMessage {
            sequence: Sequence(sequence),
            now,
            subject: b"s.a",
            headers: b"",
            payload: &payload,
            message_id: None,
        };
        store.append(STREAM, &message)
    }

    fn commit(&mut self, store: &mut SqliteStore, size: usize) {
        self.append(store, self.committed + 1, size).unwrap();
        store.commit().unwrap();
        self.committed += 1;
    }

    fn fail_commit(&self, store: &mut SqliteStore, order: &str) {
        self.append(store, self.committed + 1, 900).unwrap();
        self.order(order);
        assert!(matches!(store.commit(), Err(StoreError::Failed(_))));
        assert!(store.commit().is_err());
        assert!(self.append(store, self.committed + 1, 10).is_err());
        assert!(store.message(STREAM, Sequence(1), &mut MessageBuffer::default()).is_err());
        assert!(store.put_record(b"c", b"").is_err());
    }

    fn order(&self, order: &str) {
        std::fs::write(&self.control, order).unwrap();
    }

    fn disarm(&self) {
        let _ = std::fs::remove_file(&self.control);
    }

    fn ballast_stands(&self) -> bool {
        self.folder.join("store.ballast").exists()
    }
}
