//! A million subjects with a message each, and consumers that choose a thousand of them by a wildcard: each is made, counted, read and deleted.

use anyhow::{Result, bail, ensure};
use harness::Server;
use serde_json::json;

use crate::jetstream::{Publisher, STREAM, create_stream};
use crate::outcome::{Figure, Meter, Outcome, median};
use crate::ring::{Limit, Ring};
use crate::side::Side;
use crate::stopwatch;
use crate::wire::{Wire, messages, publish_frame};

/// Values of each of the two tokens at scale 1.
const TOKENS: f64 = 1_000.0;
/// Filters that are tried.
const FILTERS: usize = 20;
const PAYLOAD: usize = 16;
const INBOX: &str = "_INBOX.bench.acks";

/// A filter is an operation, from the request to the last message; the median is its time.
pub(crate) fn run(side: Side, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    create_stream(&server, &["bench.>"])?;
    let tokens = (TOKENS * scale.sqrt()).max(2.0) as usize;
    fill(&server, tokens)?;
    let mut api = Wire::connect(server.address("nats"))?;
    let mut wire = Wire::connect(server.address("nats"))?;
    wire.send(b"SUB _INBOX.bench.pull 1\r\n")?;
    wire.ping()?;
    let meter = Meter::start(&server)?;
    let mut times = Vec::new();
    for number in 0..FILTERS {
        let begin = stopwatch::now();
        choose(&mut api, &mut wire, number % tokens, tokens)?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    let mut outcome = meter.stop(FILTERS as u64)?;
    outcome.extend(median(times).map(|p50| (Figure::Median, p50)));
    Ok(outcome)
}

fn fill(server: &Server, tokens: usize) -> Result<()> {
    let mut publisher = Publisher::connect(server)?;
    for first in 0..tokens {
        let mut ring =
            Ring::new(tokens, |second| publish_frame(&format!("bench.{first:04}.{second:04}"), INBOX, PAYLOAD));
        let limit = Limit::new(tokens as f64, 3_600.0, 1.0);
        ring.pump(&mut publisher, 2_000, limit, &Meter::start(server)?)?;
    }
    let info = Wire::connect(server.address("nats"))?.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "")?;
    let (held, expected) = (info["state"]["num_subjects"].as_u64(), (tokens * tokens) as u64);
    ensure!(held == Some(expected), "{expected} subjects were published, there are {held:?}");
    Ok(())
}

fn choose(api: &mut Wire, wire: &mut Wire, second: usize, expected: usize) -> Result<()> {
    let config = json!({ "name": "C", "ack_policy": "none", "filter_subject": format!("bench.*.{second:04}") });
    let body = json!({ "stream_name": STREAM, "config": config }).to_string();
    let info = api.request(&format!("$JS.API.CONSUMER.CREATE.{STREAM}.C.bench.*.{second:04}"), &body)?;
    ensure!(info["num_pending"].as_u64() == Some(expected as u64), "{expected} match: {info}");
    let pull = json!({ "batch": expected, "expires": 20_000_000_000_u64 }).to_string();
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.C");
    wire.send(format!("PUB {subject} _INBOX.bench.pull {}\r\n{pull}\r\n", pull.len()).as_bytes())?;
    let (mut held, mut buffer, mut seen, mut statuses) = (Vec::new(), vec![0; 64 * 1024], 0, 0);
    while seen < expected {
        let read = wire.read(&mut buffer)?;
        held.extend_from_slice(&buffer[..read]);
        let taken = messages(&held, |message| if message.reply.is_empty() { statuses += 1 } else { seen += 1 })?;
        held.drain(..taken);
        if statuses > 0 {
            bail!("the pull ended after {seen} of {expected}");
        }
    }
    api.request(&format!("$JS.API.CONSUMER.DELETE.{STREAM}.C"), "")?;
    Ok(())
}
