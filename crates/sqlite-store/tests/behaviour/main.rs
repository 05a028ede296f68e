//! What the store promises, seen from outside: the same answers as the memory store, after any opening too.
#![allow(clippy::unwrap_used, reason = "a test ends where something can't be")]

mod compressing;
mod crash;
mod damage;
mod erasing;
mod history;
mod log;
mod model;
mod room;
mod secure_erase;
mod streams;

use std::path::Path;

use jetstream::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use jetstream::store::{MessageBuffer, NewMessage, Read, Store};
use sqlite_store::{OpenReport, Options, SqliteStore};
use subject::Filter;

/// The stream of most tests.
const STREAM: StreamId = StreamId(16);

fn options() -> Options {
    Options { reserve: 0, ballast: 0, ring: 16 << 10, free_space: Box::new(|_| Some(1 << 40)), ..Options::default() }
}

fn open(folder: &Path) -> (SqliteStore, OpenReport) {
    SqliteStore::open(folder, options()).unwrap()
}

fn now(tick: u64) -> Now {
    Now { wall: Timestamp(tick as i64 * 1_000), age: AgeMillis(tick) }
}

/// Stores a message of `size` bytes whose contents follow from its sequence.
fn append(
    store: &mut SqliteStore,
    sequence: u64,
    subject: &str,
    size: usize,
) -> Result<(), jetstream::store::StoreError> {
    let payload = payload(sequence, size);
    store.append(
        STREAM,
        &NewMessage {
            sequence: Sequence(sequence),
            now: now(sequence),
            subject: subject.as_bytes(),
            headers: b"",
            payload: &payload,
            message_id: Some(u128::from(sequence)),
        },
    )
}

fn payload(sequence: u64, size: usize) -> Vec<u8> {
    (0..size).map(|index| (sequence as usize * 31 + index) as u8).collect()
}

/// Reads everything that matches, however many calls it takes.
fn read_all(
    store: &mut dyn Store,
    stream: StreamId,
    filters: &[Filter],
    max_messages: usize,
    wait: &dyn Fn(),
) -> MessageBuffer {
    let mut all = MessageBuffer::default();
    let mut from = Sequence(0);
    loop {
        match store.read(stream, from, filters, max_messages, 20_000, &mut all).unwrap() {
            Read::Pending => wait(),
            Read::Ready { next } => {
                assert!(next > from || next > store.state(stream).last, "no progress at {next:?}");
                from = next;
                if from > store.state(stream).last {
                    return all;
                }
            }
        }
    }
}
