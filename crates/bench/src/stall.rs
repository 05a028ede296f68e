//! How long a publisher of another stream waits for an acknowledgement while a large stream is purged by a filter, or deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use harness::Server;
use serde_json::json;

use crate::jetstream::{self, Publisher, STREAM};
use crate::outcome::{Figure, Outcome};
use crate::ring::{Acknowledged, Ring};
use crate::side::Side;
use crate::stopwatch;
use crate::wire::{Wire, publish_frame};

/// Messages of the large stream at scale 1, over so many subjects.
const MESSAGES: f64 = 1_000_000.0;
const SUBJECTS: usize = 1_000;
/// Observed before it begins, and after it is answered: what is done behind an answer counts as well.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(2);

/// What is done to the large stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// All messages, by a filter that chooses them.
    Purge,
    /// The stream.
    Delete,
}

/// The longest wait of a publish, and how long the request took.
pub(crate) fn run(side: Side, removal: Removal, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    jetstream::create_stream(&server, &["bench.>"])?;
    jetstream::fill(&server, ((MESSAGES * scale) as u64).max(1), SUBJECTS)?;
    let live = json!({ "name": "LIVE", "subjects": ["live"], "storage": "file" }).to_string();
    let mut wire = Wire::connect(server.address("nats"))?;
    wire.request("$JS.API.STREAM.CREATE.LIVE", &live)?;
    let over = Arc::new(AtomicBool::new(false));
    let publisher = Publisher::connect(&server)?;
    let watching = Arc::clone(&over);
    let watcher = thread::spawn(move || longest_wait(publisher, &watching));
    thread::sleep(BEFORE);
    let begin = stopwatch::now();
    remove(&server, &mut wire, removal)?;
    let took = begin.elapsed();
    thread::sleep(AFTER);
    over.store(true, Ordering::Relaxed);
    let longest = watcher.join().map_err(|_| anyhow!("the publisher panicked"))??;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Outcome::from([(Figure::Stall, milliseconds(longest)), (Figure::Took, milliseconds(took))]))
}

fn remove(server: &Server, wire: &mut Wire, removal: Removal) -> Result<()> {
    if removal == Removal::Delete {
        wire.request(&format!("$JS.API.STREAM.DELETE.{STREAM}"), "")?;
        return Ok(());
    }
    wire.request(&format!("$JS.API.STREAM.PURGE.{STREAM}"), &json!({ "filter": "bench.*" }).to_string())?;
    let left = jetstream::state(server)?["messages"].as_u64();
    ensure!(left == Some(0), "{left:?} messages are left");
    Ok(())
}

/// One publish after the other until it is over.
fn longest_wait(mut publisher: Publisher, over: &AtomicBool) -> Result<Duration> {
    let mut ring = Ring::new(1, |_| publish_frame("live", "_INBOX.bench.acks", jetstream::PAYLOAD));
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let begin = stopwatch::now();
        publisher.write(ring.take(1).0)?;
        while publisher.acknowledgements()? == 0 {}
        longest = longest.max(begin.elapsed());
    }
    Ok(longest)
}
