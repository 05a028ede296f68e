//! A store looked at without opening it: nothing is migrated, repaired, set aside or written back. For `store check` and `store export`.
//!
//! It holds the folder's lock, so no gateway has the store meanwhile, and leaves the mark of an unclean end as it found it. What is committed in the
//! write-ahead log is seen.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use jetstream::store::{MessageBuffer, StoreError};

use crate::lock::FolderLock;
use crate::open::{OpenError, description_key};
use crate::reader::{Fetched, SLICE_BYTES, Wanted, fetch};
use crate::{records, schema, wal};

/// Problems that the database itself reports, at most.
const MOST_PROBLEMS: u32 = 20;
/// The write-ahead log.
const LOG: &str = "store.db-wal";
/// Page cache, KiB.
const CACHE_KIB: u32 = 1024;

/// See the module.
#[derive(Debug)]
pub struct Inspection {
    connection: Connection,
    folder: PathBuf,
    lock: FolderLock,
}

/// What a read brought beside its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// Where the next read begins; `None`: that was the end.
    pub next: Option<u64>,
    /// Messages that are not what was written.
    pub damaged: u64,
}

impl Inspection {
    /// Takes the lock and looks at the file.
    ///
    /// # Errors
    /// When there is no store, it is in use, or its file is none of ours or of a newer release.
    pub fn open(folder: &Path) -> Result<Inspection, OpenError> {
        let path = folder.join(schema::FILE);
        let missing = |source| OpenError::Unwritable { path: path.clone(), source };
        std::fs::metadata(&path).map_err(missing)?;
        let lock = FolderLock::take(folder)?;
        let connection = schema::connect(&path, CACHE_KIB).map_err(|error| failed(&error))?;
        connection.execute_batch("PRAGMA query_only = ON").map_err(|error| failed(&error))?;
        let inspection = Inspection { connection, folder: folder.to_owned(), lock };
        match schema::identity(&inspection.connection).map_err(|error| failed(&error))? {
            schema::Identity::Ours(version) if version > schema::VERSION => {
                Err(OpenError::TooNew { folder: folder.to_owned(), found: version })
            }
            schema::Identity::Ours(_) => Ok(inspection),
            _ => Err(missing(io::Error::other("it does not say that it is a store of ours"))),
        }
    }

    /// What is wrong with the database's structure; sentences, the first of them.
    ///
    /// # Errors
    /// When it can't even be looked at.
    pub fn problems(&self) -> Result<Vec<String>, StoreError> {
        let query = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare(&format!("PRAGMA quick_check({MOST_PROBLEMS})"))?;
            let mut rows = statement.query([])?;
            let mut problems = Vec::new();
            while let Some(row) = rows.next()? {
                problems.push(row.get::<_, String>(0)?);
            }
            Ok(problems)
        };
        // A file that is damaged enough fails the check itself.
        let mut problems = query().unwrap_or_else(|error| vec![error.to_string()]);
        problems.retain(|problem| problem != "ok");
        // After a power cut the log's end may look like this by right: what was not synced was not acknowledged.
        let behind = if self.lock.unclean { 0 } else { self.pages_behind_the_log() };
        if behind > 0 {
            problems.push(format!(
                "the log {LOG} is damaged: {behind} pages behind that place can't be read, and what was stored last is missing"
            ));
        }
        Ok(problems)
    }

    fn pages_behind_the_log(&self) -> u64 {
        let known = self.connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get::<_, i64>(1));
        let log = File::open(self.folder.join(LOG));
        known.ok().zip(log.ok()).map_or(0, |(known, log)| wal::pages_behind(&log, u64::try_from(known).unwrap_or(0)))
    }

    /// The streams, by number, with what [`jetstream::store::Store::create_stream`] or `update_stream` was last given; empty where that is damaged.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn streams(&self) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
        let query = || -> rusqlite::Result<Vec<(u32, Vec<u8>)>> {
            let mut statement =
                self.connection.prepare("SELECT id, description FROM stream WHERE deleted = 0 ORDER BY id")?;
            let mut rows = statement.query([])?;
            let mut streams = Vec::new();
            while let Some(row) = rows.next()? {
                let id: u32 = row.get(0)?;
                let description = records::opened(&description_key(id), row.get_ref(1)?.as_blob()?);
                streams.push((id, description.map(<[u8]>::to_vec).unwrap_or_default()));
            }
            Ok(streams)
        };
        query().map_err(|error| failed(&error))
    }

    /// Messages of a stream from a sequence on, some 64 KiB.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn read(&self, stream: u32, from: u64, into: &mut MessageBuffer) -> Result<Inspected, StoreError> {
        let Fetched { messages, next, damaged } =
            fetch(&self.connection, stream, &Wanted::Range(from, i64::MAX as u64), SLICE_BYTES)
                .map_err(|error| failed(&error))?;
        messages.iter().for_each(|message| into.push(&message));
        Ok(Inspected { next: Some(next).filter(|next| *next <= i64::MAX as u64), damaged })
    }
}

impl Drop for Inspection {
    fn drop(&mut self) {
        if !self.lock.unclean {
            self.lock.leave_clean();
        }
    }
}

fn failed(error: &rusqlite::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use jetstream::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
    use jetstream::store::{NewMessage, Store};

    use super::*;
    use crate::{Options, SqliteStore};

    const STREAM: StreamId = StreamId(16);

    fn fill(folder: &Path, count: u64) {
        drop(filled(folder, count));
    }

    fn filled(folder: &Path, count: u64) -> SqliteStore {
        let (mut store, _) = SqliteStore::open(folder, Options::default()).unwrap();
        store.create_stream(STREAM, Sequence(1), b"description").unwrap();
        for sequence in 1..=count {
            let payload = if sequence == 5 { vec![7; 200_000] } else { vec![1; 100] };
            let message = NewMessage {
                sequence: Sequence(sequence),
                now: Now { wall: Timestamp(1), age: AgeMillis(1) },
                subject: b"s",
                headers: b"",
                payload: &payload,
                message_id: None,
            };
            store.append(STREAM, &message).unwrap();
        }
        store.commit().unwrap();
        store
    }

    /// Messages, damaged ones.
    fn count(inspection: &Inspection) -> (usize, u64) {
        let (mut messages, mut damaged, mut next) = (MessageBuffer::default(), 0, Some(0));
        while let Some(from) = next {
            let slice = inspection.read(STREAM.0, from, &mut messages).unwrap();
            (next, damaged) = (slice.next, damaged + slice.damaged);
        }
        (messages.len(), damaged)
    }

    #[test]
    fn everything_committed_is_seen_and_nothing_changed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Inspection::open(folder.path()), Err(OpenError::Unwritable { .. })));
        fill(folder.path(), 3_000);
        let file = |name: &str| std::fs::read(folder.path().join(name)).unwrap_or_default();
        let before = ["store.db", "store.db-wal", "store.lock"].map(file);
        let inspection = Inspection::open(folder.path()).unwrap();
        assert!(matches!(SqliteStore::open(folder.path(), Options::default()), Err(OpenError::InUse { .. })));
        assert_eq!(inspection.problems().unwrap(), Vec::<String>::new());
        let streams = inspection.streams().unwrap();
        assert!(streams.contains(&(STREAM.0, b"description".to_vec())), "{streams:?}");
        assert_eq!(count(&inspection), (3_000, 0));
        drop(inspection);
        assert_eq!(["store.db", "store.db-wal", "store.lock"].map(file), before);
    }

    #[test]
    fn a_log_that_breaks_off_is_a_problem() {
        // An orderly end that could not empty the log: a full disk.
        let (ended, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = filled(ended.path(), 3_000);
        for name in [schema::FILE, LOG] {
            std::fs::copy(ended.path().join(name), folder.path().join(name)).unwrap();
        }
        drop(store);
        std::fs::copy(ended.path().join("store.lock"), folder.path().join("store.lock")).unwrap();
        let path = folder.path().join(LOG);
        let mut log = std::fs::read(&path).unwrap();
        let middle = log.len() / 2;
        log[middle] ^= 1;
        std::fs::write(&path, log).unwrap();
        let inspection = Inspection::open(folder.path()).unwrap();
        let problems = inspection.problems().unwrap();
        assert!(problems.len() == 1 && problems[0].starts_with("the log store.db-wal is damaged: "), "{problems:?}");
    }

    #[test]
    fn a_damaged_message_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), 100);
        let raw = schema::connect(&folder.path().join(schema::FILE), 100).unwrap();
        raw.execute("UPDATE m16 SET data = zeroblob(length(data)) WHERE seq IN (3, 77)", []).unwrap();
        drop(raw);
        let inspection = Inspection::open(folder.path()).unwrap();
        assert_eq!(count(&inspection), (98, 2));
    }
}
