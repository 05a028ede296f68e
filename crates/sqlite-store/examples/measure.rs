//! Measures what the store costs: `cargo run --profile bench-fast -p sqlite-store --example measure -- [folder] [millions] [subjects] [part]`.
//!
//! Prints CPU and wall time per stored message at several sizes of commit, of KV puts and of reading back, the time to open with the backlog that this left,
//! and the memory it takes. A part (`commits`, `limited`, `keys`) is measured alone.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use jetstream::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use jetstream::store::{FrontLimits, MessageBuffer, NewMessage, Read, Store};
use sqlite_store::{Options, SqliteStore};
use subject::Filter;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "/tmp/measure-store".into());
    let millions: u64 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let subjects: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let folder = Path::new(&folder);
    if let Some(part) = arguments.next() {
        let (mut store, _woken) = open(folder)?;
        return match &part[..] {
            "commits" => commits(&mut store),
            "limited" => limited(&mut store),
            "keys" => key_value(&mut store),
            _ => Err(format!("there is no part {part}").into()),
        };
    }
    if !folder.join("store.db").exists() {
        write(folder, millions * 1_000_000, subjects)?;
    }
    drop_page_cache(folder);
    reopen(folder)
}

fn open(folder: &Path) -> Result<(SqliteStore, Receiver<()>), Failure> {
    let (wake, woken) = channel();
    let wake: Option<Box<dyn Fn() + Send>> = Some(Box::new(move || _ = wake.send(())));
    let (store, report) = SqliteStore::open(folder, Options { wake, ..Options::default() })?;
    if !report.damage.is_empty() {
        println!("{report:?}");
    }
    Ok((store, woken))
}

fn write(folder: &Path, messages: u64, subjects: u64) -> Result<(), Failure> {
    let (mut store, _woken) = open(folder)?;
    println!("empty: {} kB resident", resident());
    commits(&mut store)?;
    limited(&mut store)?;
    key_value(&mut store)?;
    let stream = StreamId(100);
    store.create_stream(stream, Sequence(1), b"backlog")?;
    measure("append 256 B, 1,024 a commit, backlog", messages, || fill(&mut store, stream, messages, subjects, 1024))?;
    println!("after {messages} messages on {subjects} subjects: {} kB resident", resident());
    Ok(())
}

fn commits(store: &mut SqliteStore) -> Result<(), Failure> {
    for (index, per_commit) in [1u64, 8, 64, 256, 1024].into_iter().enumerate() {
        let stream = StreamId(20 + index as u32);
        store.create_stream(stream, Sequence(1), b"commits")?;
        store.commit()?;
        let messages = (per_commit * 2_000).min(300_000);
        measure(&format!("append 256 B, {per_commit} a commit"), messages, || {
            fill(store, stream, messages, 1_000, per_commit)
        })?;
    }
    Ok(())
}

fn limited(store: &mut SqliteStore) -> Result<(), Failure> {
    let stream = StreamId(30);
    store.create_stream(stream, Sequence(1), b"limited")?;
    fill(store, stream, 50_000, 1_000, 1024)?;
    measure("append 256 B + evict, 64 a commit", 200_000, || {
        let payload = [7u8; 256];
        for number in 0..200_000u64 {
            append(store, stream, 50_001 + number, number % 1_000, &payload)?;
            if number % 64 == 63 {
                let limits = FrontLimits {
                    max_messages: 50_000,
                    max_bytes: u64::MAX,
                    stored_before: None,
                    below: Sequence(0),
                    limit: 1_000,
                };
                store.evict(stream, &limits)?;
                store.commit()?;
            }
        }
        Ok(())
    })
}

fn key_value(store: &mut SqliteStore) -> Result<(), Failure> {
    let stream = StreamId(31);
    store.create_stream(stream, Sequence(1), b"keys")?;
    fill(store, stream, 50_000, 10_000, 1024)?;
    measure("put with history 5 over 10 k keys, 64 a commit", 100_000, || {
        let payload = [7u8; 128];
        let mut subject = Vec::new();
        for number in 0..100_000u64 {
            let key = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % 10_000;
            append(store, stream, 50_001 + number, key, &payload)?;
            name(&mut subject, key);
            store.trim_subject(stream, &subject, 5, 10)?;
            if number % 64 == 63 {
                store.commit()?;
            }
        }
        Ok(())
    })
}

fn name(into: &mut Vec<u8>, number: u64) {
    into.clear();
    into.extend_from_slice(b"sensors.");
    into.extend_from_slice(number.to_string().as_bytes());
}

fn append(
    store: &mut SqliteStore,
    stream: StreamId,
    sequence: u64,
    subject: u64,
    payload: &[u8],
) -> Result<(), Failure> {
    let mut text = *b"sensors.plant-0000000";
    let mut rest = subject;
    for digit in text[14..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let now = Now { wall: Timestamp(sequence as i64 * 1_000_000), age: AgeMillis(sequence) };
    let mut small = Vec::new();
    let subject: &[u8] = if stream.0 == 31 {
        name(&mut small, subject);
        &small
    } else {
        &text
    };
    store.append(
        stream,
        &NewMessage { sequence: Sequence(sequence), now, subject, headers: b"", payload, message_id: None },
    )?;
    Ok(())
}

fn fill(
    store: &mut SqliteStore,
    stream: StreamId,
    messages: u64,
    subjects: u64,
    per_commit: u64,
) -> Result<(), Failure> {
    let payload = [7u8; 256];
    for number in 0..messages {
        append(store, stream, number + 1, number.wrapping_mul(7_919) % subjects, &payload)?;
        if number % per_commit == per_commit - 1 {
            store.commit()?;
            store.maintain()?;
        }
    }
    store.commit()?;
    Ok(())
}

fn reopen(folder: &Path) -> Result<(), Failure> {
    let started = Instant::now();
    let (mut store, woken) = open(folder)?;
    let stream = StreamId(100);
    let state = store.state(stream);
    println!(
        "open with {} messages on {} subjects: {:?}, {} kB resident",
        state.messages,
        state.subjects,
        started.elapsed(),
        resident()
    );
    drop(store);
    let started = Instant::now();
    let opened = open(folder)?;
    store = opened.0;
    println!("and again, from the page cache: {:?}", started.elapsed());
    let woken = [woken, opened.1].into_iter().next_back().ok_or("no receiver")?;
    let every = Filter::parse("sensors.plant-0000007")?;
    let started = Instant::now();
    let count = store.count_matching(stream, Sequence(state.last.0 / 2), std::slice::from_ref(&every))?;
    println!("count of one subject from the middle: {count} in {:?}", started.elapsed());
    for (what, filters, messages) in
        [("all", vec![], state.messages.min(1_000_000)), ("one subject", vec![every], state.messages)]
    {
        measure(&format!("read back, {what}"), messages, || read(&mut store, stream, &filters, messages, &woken))?;
    }
    println!("at the end: {} kB resident", resident());
    Ok(())
}

fn read(
    store: &mut SqliteStore,
    stream: StreamId,
    filters: &[Filter],
    until: u64,
    woken: &Receiver<()>,
) -> Result<(), Failure> {
    let mut from = Sequence(1);
    let mut buffer = MessageBuffer::default();
    while from.0 <= until {
        buffer.clear();
        match store.read(stream, from, filters, 1_000, 64 << 10, &mut buffer)? {
            Read::Pending => woken.recv()?,
            Read::Ready { next } => from = next,
        }
    }
    Ok(())
}

fn measure(what: &str, messages: u64, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let (started, used) = (Instant::now(), cpu_micros());
    work()?;
    let (wall, cpu) = (started.elapsed().as_micros() as f64, (cpu_micros() - used) as f64);
    let each = messages as f64;
    println!("{what}: {:.2} µs CPU, {:.2} µs a message, {:.0} k/s", cpu / each, wall / each, each / wall * 1_000.0);
    Ok(())
}

/// Time on a processor, all threads alive; by the scheduler's own account, which is exact where clock ticks are not.
fn cpu_micros() -> u64 {
    let nanos = |task: std::fs::DirEntry| -> Option<u64> {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(nanos).sum::<u64>() / 1_000
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Writes the files out; where we may, also forgets the page cache.
fn drop_page_cache(folder: &Path) {
    for name in ["store.db", "store.db-wal"] {
        if let Ok(file) = std::fs::File::open(folder.join(name)) {
            // Only makes the next figure honest.
            let _ = file.sync_all();
        }
    }
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "1");
}
