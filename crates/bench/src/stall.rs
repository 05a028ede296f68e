//! How long a publisher of another stream waits for an acknowledgement while a large stream is purged by a filter, deleted, or brought within a lowered limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
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
/// How long what is answered at once may take until it is done.
const PATIENCE_SECONDS: u32 = 300;

/// What is done to the large stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// All messages, by a filter that chooses them.
    Purge,
    /// The stream.
    Delete,
    /// All but one message of each subject, by a lowered limit.
    PerSubject,
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
    let expected = match removal {
        Removal::Delete => {
            wire.request(&format!("$JS.API.STREAM.DELETE.{STREAM}"), "")?;
            return Ok(());
        }
        Removal::Purge => {
            wire.request(&format!("$JS.API.STREAM.PURGE.{STREAM}"), &json!({ "filter": "bench.*" }).to_string())?;
            0
        }
        Removal::PerSubject => {
            let mut config = wire.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "")?["config"].take();
            config["max_msgs_per_subject"] = json!(1);
            wire.request(&format!("$JS.API.STREAM.UPDATE.{STREAM}"), &config.to_string())?;
            jetstream::state(server)?["num_subjects"].as_u64().unwrap_or_default()
        }
    };
    // A lowered limit is answered before all is done.
    for _ in 0..PATIENCE_SECONDS * 10 {
        if jetstream::state(server)?["messages"].as_u64() == Some(expected) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("there are not {expected} messages after {PATIENCE_SECONDS} s")
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
