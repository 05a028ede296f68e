//! Connection R on a thread of its own: fetches slices of the backlog, writes the log back into the file (passive checkpoints), and looks through the
//! rows after an unclean start, a slice at a time when nothing else waits. It only reads what is committed.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use rusqlite::{Connection, ffi};

use jetstream::identity::Sequence;
use jetstream::store::{MessageBuffer, StoredMessage};

use crate::database::out_of_order;
use crate::row::{Payload, Row, decode_chunk, unpack};
use crate::schema;

/// Bytes in a slice, and in one for who has read several in a row.
pub(crate) const SLICE_BYTES: usize = 64 * 1024;
pub(crate) const LARGEST_SLICE: usize = 4 * SLICE_BYTES;
/// Rows looked at for a slice: about a millisecond's worth. A larger one holds no more of them, or little messages would keep others waiting.
const SLICE_ROWS: usize = 1024;
/// Jobs that may wait.
pub(crate) const JOBS: usize = 32;
/// Pause between two slices of the look-through: at most some 6 MB/s.
const CHECK_PAUSE: Duration = Duration::from_millis(10);

/// Which rows a slice is made of.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// All from the first to the second sequence.
    Range(u64, u64),
    /// These, ascending; and the first sequence after them that was not looked at.
    Each(Vec<u64>, u64),
}

/// What the thread is asked.
#[derive(Debug)]
pub(crate) enum Job {
    Fetch {
        ticket: u64,
        stream: u32,
        wanted: Wanted,
        /// Bytes, unless a single message is larger.
        size: usize,
    },
    Checkpoint,
    /// Look through the rows of these streams.
    Check(Vec<u32>),
}

/// A fetched part of the backlog.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) messages: MessageBuffer,
    /// First sequence not looked at.
    pub(crate) next: u64,
    /// Rows that were not what was written.
    pub(crate) damaged: u64,
}

/// What the thread answers.
#[derive(Debug)]
pub(crate) enum Done {
    Fetched {
        ticket: u64,
        result: Result<Fetched, rusqlite::Error>,
    },
    Checkpointed(Result<(), rusqlite::Error>),
    /// The look-through is over, or ended by an error: rows seen, damaged ones.
    Checked {
        rows: u64,
        damaged: u64,
        error: Option<rusqlite::Error>,
    },
}

/// The thread, from outside.
#[derive(Debug)]
pub(crate) struct Reader {
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Done>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Reader {
    /// Starts the thread. `wake` is called after each answer.
    pub(crate) fn start(path: &Path, cache_kib: u32, wake: Box<dyn Fn() + Send>) -> std::io::Result<Reader> {
        let connection = schema::connect(path, cache_kib).map_err(std::io::Error::other)?;
        connection.execute_batch("PRAGMA wal_autocheckpoint = 0").map_err(std::io::Error::other)?;
        let (jobs, inbox) = sync_channel(JOBS);
        let (outbox, done) = channel();
        let thread = std::thread::Builder::new().name("store-reader".into()).spawn(move || {
            let mut worker = Worker { connection, check: None };
            worker.run(&inbox, &mut |answer| {
                // Nobody listens any more when the store is being closed.
                if outbox.send(answer).is_ok() {
                    wake();
                }
            });
        })?;
        Ok(Reader { jobs: Some(jobs), done, thread: Some(thread) })
    }

    /// Asks for something; `false` when too much waits.
    pub(crate) fn ask(&self, job: Job) -> bool {
        match self.jobs.as_ref().map(|jobs| jobs.try_send(job)) {
            Some(Ok(())) => true,
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => false,
        }
    }

    /// The next answer, if there is one.
    pub(crate) fn poll(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    /// Waits for the next answer; `None`: the thread is gone.
    pub(crate) fn wait(&self) -> Option<Done> {
        self.done.recv().ok()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It ends after its present slice. A panic of its own is its own.
            let _ = thread.join();
        }
    }
}

/// Where the look-through is.
#[derive(Debug, Default)]
struct Check {
    streams: Vec<u32>,
    next: u64,
    rows: u64,
    damaged: u64,
}

struct Worker {
    connection: Connection,
    check: Option<Check>,
}

impl Worker {
    fn run(&mut self, inbox: &Receiver<Job>, answer: &mut dyn FnMut(Done)) {
        loop {
            let job = if self.check.is_some() {
                inbox.recv_timeout(CHECK_PAUSE)
            } else {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match job {
                Ok(Job::Fetch { ticket, stream, wanted, size }) => {
                    let result = fetch(&self.connection, stream, &wanted, size);
                    answer(Done::Fetched { ticket, result });
                }
                Ok(Job::Checkpoint) => answer(Done::Checkpointed(write_back(&self.connection))),
                Ok(Job::Check(streams)) => self.check = Some(Check { streams, ..Check::default() }),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(done) = self.check_slice() {
                        self.check = None;
                        answer(done);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn check_slice(&mut self) -> Option<Done> {
        let check = self.check.as_mut()?;
        let Some(stream) = check.streams.last().copied() else {
            return Some(Done::Checked { rows: check.rows, damaged: check.damaged, error: None });
        };
        match fetch(&self.connection, stream, &Wanted::Range(check.next, i64::MAX as u64), SLICE_BYTES) {
            Ok(slice) => {
                check.rows += slice.messages.len() as u64;
                check.damaged += slice.damaged;
                check.next = slice.next;
                if slice.next > i64::MAX as u64 {
                    check.streams.pop();
                    check.next = 0;
                }
                None
            }
            // Its table was dropped meanwhile.
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => {
                check.streams.pop();
                check.next = 0;
                None
            }
            Err(error) => Some(Done::Checked { rows: check.rows, damaged: check.damaged, error: Some(error) }),
        }
    }
}

/// Writes the log back as far as readers allow.
pub(crate) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Writes back everything, syncs, and empties the log file. Does nothing while another connection is open.
pub(crate) fn empty_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// The same beside other connections; `false`: one of them was reading.
pub(crate) fn try_empty_log(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(Duration::ZERO)?;
    let is_empty = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0));
    connection.busy_timeout(schema::BUSY_TIMEOUT)?;
    is_empty
}

/// As [`checkpoint`], and syncs what was written. SQLite does so only when nothing is left in the log; what it leaves would be synced by the writer, in its rest,
/// while everybody waits.
fn write_back(connection: &Connection) -> rusqlite::Result<()> {
    checkpoint(connection)?;
    sync_database(connection)
}

/// Syncs the database file by the descriptor that SQLite holds: closing another one would drop SQLite's locks.
fn sync_database(connection: &Connection) -> rusqlite::Result<()> {
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: the connection stays open and nobody else uses it meanwhile; the file that SQLite names is its own and open as long as it is.
    #[allow(unsafe_code)]
    let code = unsafe {
        let into = (&raw mut file).cast();
        match ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, into) {
            ffi::SQLITE_OK => {
                (*(*file).pMethods).xSync.map_or(ffi::SQLITE_IOERR_FSYNC, |sync| sync(file, ffi::SQLITE_SYNC_NORMAL))
            }
            code => code,
        }
    };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)) }
}

/// Reads a slice, in a transaction of its own.
pub(crate) fn fetch(connection: &Connection, stream: u32, wanted: &Wanted, size: usize) -> rusqlite::Result<Fetched> {
    let mut out = Fetched::default();
    match wanted {
        Wanted::Range(from, to) => {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT seq, data FROM m{stream} WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT {SLICE_ROWS}"
            ))?;
            let to = (*to).min(i64::MAX as u64);
            let mut rows = statement.query((*from as i64, to as i64))?;
            out.messages.reserve(size + size / 8, 64);
            let (mut seen, mut least) = (0, *from);
            out.next = to + 1;
            while let Some(row) = rows.next()? {
                let sequence = row.get::<_, i64>(0)? as u64;
                if sequence < least || sequence > to {
                    return Err(out_of_order());
                }
                least = sequence + 1;
                take(connection, stream, sequence, row.get_ref(1)?.as_blob()?, &mut out)?;
                seen += 1;
                if seen == SLICE_ROWS || out.messages.bytes() >= size {
                    out.next = sequence + 1;
                    break;
                }
            }
        }
        Wanted::Each(sequences, next) => {
            let mut statement = connection.prepare_cached(&format!("SELECT data FROM m{stream} WHERE seq = ?"))?;
            out.next = *next;
            for sequence in sequences {
                let mut rows = statement.query([*sequence as i64])?;
                if let Some(row) = rows.next()? {
                    take(connection, stream, *sequence, row.get_ref(0)?.as_blob()?, &mut out)?;
                }
                if out.messages.bytes() >= size {
                    out.next = sequence + 1;
                    break;
                }
            }
        }
    }
    Ok(out)
}

fn take(connection: &Connection, stream: u32, sequence: u64, blob: &[u8], out: &mut Fetched) -> rusqlite::Result<()> {
    if !push_row(connection, stream, sequence, blob, &mut out.messages)? {
        out.damaged += 1;
    }
    Ok(())
}

/// Decodes a row into a buffer; `false` when it, or a part of its payload, isn't what was written.
pub(crate) fn push_row(
    connection: &Connection,
    stream: u32,
    sequence: u64,
    blob: &[u8],
    into: &mut MessageBuffer,
) -> rusqlite::Result<bool> {
    let Some(row) = Row::decode(sequence, blob).filter(|row| row.stream == stream) else { return Ok(false) };
    let mut joined = Vec::new();
    let payload = match row.payload {
        Payload::Inline(payload) => payload,
        Payload::Chunks { length, .. } => {
            let mut statement =
                connection.prepare_cached("SELECT id, data FROM chunk WHERE id >= ? AND id < ? ORDER BY id")?;
            let ids = row.payload.chunks();
            let mut rows = statement.query((ids.start as i64, ids.end as i64))?;
            while let Some(row) = rows.next()? {
                if let Some(data) = decode_chunk(row.get::<_, i64>(0)? as u64, row.get_ref(1)?.as_blob()?) {
                    joined.extend_from_slice(data);
                }
            }
            if joined.len() as u64 != length {
                return Ok(false);
            }
            &joined
        }
    };
    let unpacked = row.packed.map(|length| unpack(payload, length));
    let payload = match &unpacked {
        Some(Some(unpacked)) => unpacked,
        Some(None) => return Ok(false),
        None => payload,
    };
    into.push(&StoredMessage {
        sequence: Sequence(sequence),
        time: row.time,
        age: row.age,
        subject: row.subject,
        headers: row.headers,
        payload,
    });
    Ok(true)
}
