//! How long a publisher waits for acknowledgements while much is taken out of a large stream: purges, lowered limits, roll-ups, age, its deletion. Every other of
//! its messages goes into that stream, the others into another one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use harness::Server;
use serde_json::{Value, json};

use crate::jetstream::{self, Publisher, STREAM};
use crate::outcome::{Figure, Outcome};
use crate::ring::Acknowledged;
use crate::side::Side;
use crate::stopwatch;
use crate::wire::{Wire, publish_frame};

/// Messages of the large stream at scale 1, over so many subjects.
const MESSAGES: f64 = 1_000_000.0;
const SUBJECTS: u64 = 1_000;
/// Messages that stay where some do.
const LEFT: u64 = 10_000;
/// Observed before it begins, and after it is done: what is done behind an answer counts as well.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(2);
/// How long it may take until it is done.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is asked whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A folder in which filled stores are kept, to be copied the next time: filling one takes longer than what is measured.
const KEPT: &str = "TRIBUTARY_BENCH_STORES";
const ACKS: &str = "_INBOX.bench.acks";

/// What is done to the large stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// All messages go, by a filter that chooses them.
    Purge,
    /// Every tenth subject goes: messages that lie apart from each other.
    PurgeTenth,
    /// All but the newest go.
    PurgeKeep,
    /// All up to a sequence go.
    PurgeUpTo,
    /// The stream goes.
    Delete,
    /// All but one message of each subject go, by a lowered limit.
    PerSubject,
    /// All but the newest go, by a lowered limit of messages.
    MaxMessages,
    /// The same by one of bytes.
    MaxBytes,
    /// All are too old from now on.
    MaxAge,
    /// The same, and each subject is to say when its last message is gone, so that the messages have to be looked at.
    MaxAgeMarkers,
    /// A message takes the place of all of them.
    RollUp,
    /// A message takes the place of all of its subject.
    RollUpSubject,
}

/// The longest wait of a publish, and how long it took until all was gone that had to go.
pub(crate) fn run(side: Side, removal: Removal, scale: f64) -> Result<Outcome> {
    let server = filled(side, ((MESSAGES * scale) as u64).max(SUBJECTS))?;
    let live = json!({ "name": "LIVE", "subjects": ["live"], "storage": "file" }).to_string();
    let mut wire = Wire::connect(server.address("nats"))?;
    wire.request("$JS.API.STREAM.CREATE.LIVE", &live)?;
    let over = Arc::new(AtomicBool::new(false));
    let published = Arc::new(AtomicU64::new(0));
    let publisher = Publisher::connect(&server)?;
    let (watching, counting) = (Arc::clone(&over), Arc::clone(&published));
    // Nobody acknowledges what goes to a stream that is gone.
    let subjects = ["live", if removal == Removal::Delete { "live" } else { "bench.live" }];
    let watcher = thread::spawn(move || longest_wait(publisher, subjects, &watching, &counting));
    thread::sleep(BEFORE);
    let before = jetstream::state(&server)?;
    let begin = stopwatch::now();
    let left = remove(&mut wire, removal, &before)?;
    while let Some(left) = left {
        // The publisher's come on top.
        if jetstream::state(&server)?["messages"].as_u64() <= Some(left + published.load(Ordering::Relaxed)) {
            break;
        }
        if begin.elapsed() > PATIENCE {
            bail!("there are more than {left} messages after {PATIENCE:?}");
        }
        thread::sleep(LOOK_EVERY);
    }
    let took = begin.elapsed();
    thread::sleep(AFTER);
    over.store(true, Ordering::Relaxed);
    let longest = watcher.join().map_err(|_| anyhow!("the publisher panicked"))??;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Outcome::from([(Figure::Stall, milliseconds(longest)), (Figure::Took, milliseconds(took))]))
}

/// A server with the large stream.
fn filled(side: Side, messages: u64) -> Result<Server> {
    let fill = |server: &Server| -> Result<()> {
        jetstream::create_stream(server, &["bench.>"])?;
        jetstream::fill(server, messages, SUBJECTS as usize)
    };
    let mut server = side.start()?;
    let Some(folder) = std::env::var_os(KEPT) else {
        fill(&server)?;
        return Ok(server);
    };
    let kept = Path::new(&folder).join(format!("{side:?}-{messages}"));
    if !kept.exists() {
        fill(&server)?;
        server.terminate()?;
        copy(&server.folder().join("store"), &kept)?;
    } else {
        server.terminate()?;
        std::fs::remove_dir_all(server.folder().join("store"))?;
        copy(&kept, &server.folder().join("store"))?;
    }
    server.restart()?;
    Ok(server)
}

/// Copies a folder; the disk has it afterwards.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            std::fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
            std::fs::File::open(&to)?.sync_all()?;
        }
    }
    Ok(())
}

/// Asks for it; answers how many of the messages are to be left, `None`: what the answer says is done.
fn remove(wire: &mut Wire, removal: Removal, before: &Value) -> Result<Option<u64>> {
    let (messages, bytes) = (before["messages"].as_u64().unwrap_or(0), before["bytes"].as_u64().unwrap_or(0));
    let last = before["last_seq"].as_u64().unwrap_or(0);
    // Its answer comes when all is done, which may take longer than a connection waits for one.
    let mut purge = |request: Value| {
        let request = request.to_string();
        wire.send(
            format!("PUB $JS.API.STREAM.PURGE.{STREAM} _INBOX.bench.purge {}\r\n{request}\r\n", request.len())
                .as_bytes(),
        )
    };
    match removal {
        Removal::Purge => purge(json!({ "filter": "bench.*" })).map(|_| Some(0)),
        Removal::PurgeTenth => {
            for digit in 0..SUBJECTS / 10 {
                purge(json!({ "filter": format!("bench.{:07}", digit * 10) }))?;
            }
            Ok(Some(messages - messages / 10))
        }
        Removal::PurgeKeep => purge(json!({ "keep": LEFT })).map(|_| Some(LEFT)),
        Removal::PurgeUpTo => purge(json!({ "seq": last - LEFT })).map(|_| Some(LEFT + 1)),
        Removal::Delete => {
            wire.request(&format!("$JS.API.STREAM.DELETE.{STREAM}"), "")?;
            Ok(None)
        }
        Removal::PerSubject => update(wire, &[("max_msgs_per_subject", json!(1))]).map(|()| Some(SUBJECTS + 1)),
        Removal::MaxMessages => update(wire, &[("max_msgs", json!(LEFT))]).map(|()| Some(LEFT)),
        Removal::MaxBytes => {
            update(wire, &[("max_bytes", json!(bytes / messages * LEFT))]).map(|()| Some(LEFT + LEFT / 10))
        }
        Removal::MaxAge => {
            let age = json!(1_000_000_000);
            update(wire, &[("max_age", age.clone()), ("duplicate_window", age)]).map(|()| Some(0))
        }
        Removal::MaxAgeMarkers => {
            let age = json!(1_000_000_000);
            let markers =
                [("allow_rollup_hdrs", json!(true)), ("subject_delete_marker_ttl", json!(60_000_000_000_u64))];
            update(wire, &markers)?;
            update(wire, &[("max_age", age.clone()), ("duplicate_window", age)]).map(|()| Some(SUBJECTS + 1))
        }
        Removal::RollUp => roll_up(wire, "all").map(|()| Some(1)),
        Removal::RollUpSubject => roll_up(wire, "sub").map(|()| Some(messages - messages / SUBJECTS + 1)),
    }
}

fn update(wire: &mut Wire, changes: &[(&str, Value)]) -> Result<()> {
    let mut config = wire.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "")?["config"].take();
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    wire.request(&format!("$JS.API.STREAM.UPDATE.{STREAM}"), &config.to_string()).map(drop)
}

fn roll_up(wire: &mut Wire, what: &str) -> Result<()> {
    update(wire, &[("allow_rollup_hdrs", json!(true))])?;
    let headers = format!("NATS/1.0\r\nNats-Rollup: {what}\r\n\r\n");
    let frame = format!("HPUB bench.0000500 {} {}\r\n{headers}x\r\n", headers.len(), headers.len() + 1);
    wire.send(frame.as_bytes())?;
    wire.ping()
}

/// One publish after the other until it is over.
fn longest_wait(
    mut publisher: Publisher,
    subjects: [&str; 2],
    over: &AtomicBool,
    published: &AtomicU64,
) -> Result<Duration> {
    let frames = subjects.map(|subject| publish_frame(subject, ACKS, jetstream::PAYLOAD));
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let number = published.fetch_add(1, Ordering::Relaxed);
        let begin = stopwatch::now();
        publisher.write(&frames[number as usize % 2])?;
        while publisher.acknowledgements()? == 0 {}
        longest = longest.max(begin.elapsed());
    }
    Ok(longest)
}
