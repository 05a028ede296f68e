//! The recorded process: stores messages and says each last committed sequence on standard output, after the commit.

use std::io::Write as _;

use jetstream::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use jetstream::store::{FrontLimits, MessageBuffer, NewMessage, Store};
use sqlite_store::{Options, SqliteStore, Synchronous};

const STREAM: StreamId = StreamId(16);

/// Runs it.
pub(crate) fn drive(folder: &str, mode: &str, messages: &str) -> Result<(), Box<dyn std::error::Error>> {
    let synchronous = if mode == "normal" { Synchronous::Normal } else { Synchronous::Full };
    let options = Options { synchronous, ballast: 0, reserve: 0, wake: Some(Box::new(|| ())), ..Options::default() };
    let (mut store, _) = SqliteStore::open(folder.as_ref(), options)?;
    let stream = STREAM;
    store.create_stream(stream, Sequence(1), b"power cut")?;
    store.commit()?;
    let mut said = std::io::stdout();
    let messages: u64 = messages.parse()?;
    for sequence in 1..=messages {
        let now = Now { wall: Timestamp(sequence as i64), age: AgeMillis(sequence) };
        let payload = [sequence as u8; 700];
        let subject = format!("s.{}", sequence % 40);
        let message = NewMessage {
            sequence: Sequence(sequence),
            now,
            subject: subject.as_bytes(),
            headers: b"",
            payload: &payload,
            message_id: None,
        };
        store.append(stream, &message)?;
        if sequence % 3 == 0 {
            let limits = FrontLimits {
                max_messages: 900,
                max_bytes: u64::MAX,
                stored_before: None,
                below: Sequence(0),
                limit: 10,
            };
            store.evict(stream, &limits)?;
        }
        if sequence % 4 == 0 {
            commit(&mut store, mode == "apart" && sequence / 200 % 3 < 2)?;
            // One line, one write: standard output flushes at each.
            said.write_all(format!("{sequence}\n").as_bytes())?;
            said.flush()?;
            store.maintain()?;
        }
    }
    Ok(())
}

/// Also as the gateway does while values are read: synced on another thread, and read from meanwhile. It changes between the two ways.
fn commit(store: &mut SqliteStore, apart: bool) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(sync) = store.begin_commit()? {
        let syncing = std::thread::spawn(sync);
        let last = store.state(STREAM).last;
        let mut buffer = MessageBuffer::default();
        assert!(store.message(STREAM, last, &mut buffer)?, "what is written is read");
        store.synced(syncing.join().expect("it does not panic"))?;
    }
    Ok(store.sync_apart(apart)?)
}
