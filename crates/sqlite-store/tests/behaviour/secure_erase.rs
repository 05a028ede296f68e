//! What is erased is not in any file any more once the store has had a moment of rest.

use std::path::Path;

use jetstream::identity::Sequence;
use jetstream::store::{NewMessage, Store};

use crate::{STREAM, append, now, open};

/// Nothing else holds it.
const SECRET: &str = "the password is swordfish";

fn store_secret(store: &mut sqlite_store::SqliteStore, sequence: u64, size: usize) {
    let payload = SECRET.repeat(size / SECRET.len() + 1);
    let headers = format!("NATS/1.0\r\nX: {SECRET}\r\n\r\n");
    let message = NewMessage {
        sequence: Sequence(sequence),
        now: now(sequence),
        subject: b"s.secret",
        headers: headers.as_bytes(),
        payload: payload.as_bytes(),
        message_id: None,
    };
    store.append(STREAM, &message).unwrap();
}

/// How often the secret stands in the store's files.
fn found(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let count = |bytes: Vec<u8>| bytes.windows(SECRET.len()).filter(|window| *window == SECRET.as_bytes()).count();
    files.map(count).sum()
}

#[test]
fn an_erased_message_is_in_no_file_any_more() {
    // Within a page, over several, and in pieces of its own.
    for size in [100, 9_000, 300_000] {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = open(folder.path());
        store.create_stream(STREAM, Sequence(1), b"stream").unwrap();
        for sequence in 1..=300 {
            if sequence % 100 == 50 || (200..210).contains(&sequence) {
                store_secret(&mut store, sequence, size);
            } else {
                append(&mut store, sequence, "s.other", 120).unwrap();
            }
            if sequence % 10 == 0 {
                store.commit().unwrap();
            }
        }
        store_secret(&mut store, 301, size);
        store.commit().unwrap();
        assert!(found(folder.path()) > 0, "it is there at first");
        for sequence in [50, 150, 250, 301].into_iter().chain(200..210) {
            assert!(store.remove(STREAM, Sequence(sequence), true).unwrap());
        }
        store.commit().unwrap();
        while store.maintain().unwrap() {}
        assert_eq!(found(folder.path()), 0, "of {size} bytes");
        // It goes on as before.
        append(&mut store, 302, "s.other", 120).unwrap();
        store.commit().unwrap();
        drop(store);
        assert_eq!(found(folder.path()), 0, "of {size} bytes, closed");
        let (store, report) = open(folder.path());
        assert_eq!((store.state(STREAM).messages, report.damage.len()), (288, 0));
    }
}
