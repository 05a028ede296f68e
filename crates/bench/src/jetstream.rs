//! JetStream through raw frames: a stream, publishes whose PubAcks are counted, pulls whose messages are acknowledged.

use anyhow::{Result, bail, ensure};
use harness::Server;
use serde_json::{Value, json};

use crate::outcome::{Figure, Meter, Outcome, median};
use crate::ring::{Acknowledged, Limit, Ring};
use crate::side::Side;
use crate::stopwatch;
use crate::wire::{Wire, messages, publish_frame};

/// The stream that everything is published into.
pub(crate) const STREAM: &str = "BENCH";
const INBOX: &str = "_INBOX.bench.acks";
/// Bytes of a message's payload.
pub(crate) const PAYLOAD: usize = 256;
/// Messages and seconds at scale 1.
const MESSAGES: f64 = 1_000_000.0;
const SECONDS: f64 = 4.0;
/// Unacknowledged publishes where only filling counts.
const FILL_WINDOW: u64 = 2_000;
/// Messages that are consumed at scale 1.
const CONSUMED: f64 = 300_000.0;
/// Messages of one pull, and pulls that wait at once.
const PULL: u64 = 100;
const PULLS: u64 = 2;

/// A connection that publishes into the stream and reads PubAcks.
pub(crate) struct Publisher {
    wire: Wire,
    buffer: Vec<u8>,
    checked: bool,
}

impl Publisher {
    /// Connects and subscribes to the acknowledgements.
    pub(crate) fn connect(server: &Server) -> Result<Publisher> {
        let mut wire = Wire::connect(server.address("nats"))?;
        wire.send(format!("SUB {INBOX} 1\r\n").as_bytes())?;
        wire.ping()?;
        Ok(Publisher { wire, buffer: vec![0; 64 * 1024], checked: false })
    }
}

impl Acknowledged for Publisher {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.send(bytes)
    }

    /// Every PubAck is one JSON object; whoever publishes compares the stream's count at the end, so an error can't hide.
    fn acknowledgements(&mut self) -> Result<u64> {
        let read = self.wire.read(&mut self.buffer)?;
        let seen = &self.buffer[..read];
        if !self.checked {
            let text = String::from_utf8_lossy(seen);
            let refused = text.contains("\"error\"") || text.contains("NATS/1.0 503");
            ensure!(!refused, "a publish was refused: {}", text.chars().take(200).collect::<String>());
            self.checked = true;
        }
        Ok(memchr::memchr_iter(b'}', seen).count() as u64)
    }
}

/// Creates the stream, in a file, with limits only.
pub(crate) fn create_stream(server: &Server, subjects: &[&str]) -> Result<()> {
    let mut wire = Wire::connect(server.address("nats"))?;
    let config =
        json!({ "name": STREAM, "subjects": subjects, "storage": "file", "retention": "limits", "num_replicas": 1 });
    wire.request(&format!("$JS.API.STREAM.CREATE.{STREAM}"), &config.to_string())?;
    Ok(())
}

/// The stream's `state`.
pub(crate) fn state(server: &Server) -> Result<Value> {
    let mut wire = Wire::connect(server.address("nats"))?;
    Ok(wire.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "")?["state"].clone())
}

/// Publishes on one connection with so many unacknowledged.
pub(crate) fn publish(side: Side, in_flight: u64, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    create_stream(&server, &["bench.>"])?;
    let mut publisher = Publisher::connect(&server)?;
    let mut ring = Ring::new(1_024, |_| publish_frame("bench.subject", INBOX, PAYLOAD));
    let limit = Limit::new(MESSAGES, SECONDS, scale);
    let meter = Meter::start(&server)?;
    let (sent, latencies) = if in_flight == 1 {
        let latencies = one_at_a_time(&mut ring, &mut publisher, limit, &meter)?;
        (latencies.len() as u64, latencies)
    } else {
        (ring.pump(&mut publisher, in_flight, limit, &meter)?, Vec::new())
    };
    let mut outcome = meter.stop(sent)?;
    outcome.extend(median(latencies).map(|p50| (Figure::Median, p50)));
    expect_messages(&server, sent)?;
    Ok(outcome)
}

/// Frames one at a time, each when the one before is acknowledged; how long each took, microseconds.
pub(crate) fn one_at_a_time(
    ring: &mut Ring,
    connection: &mut impl Acknowledged,
    limit: Limit,
    meter: &Meter<'_>,
) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    while !limit.reached(latencies.len() as u64, meter) {
        let begin = stopwatch::now();
        connection.write(ring.take(1).0)?;
        while connection.acknowledgements()? == 0 {}
        latencies.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}

/// Fills the stream with so many messages over so many subjects `bench.0000000`….
pub(crate) fn fill(server: &Server, messages: u64, subjects: usize) -> Result<()> {
    let mut publisher = Publisher::connect(server)?;
    let mut ring = Ring::new(subjects, |number| publish_frame(&format!("bench.{number:07}"), INBOX, PAYLOAD));
    let limit = Limit::new(messages as f64, 3_600.0, 1.0);
    ring.pump(&mut publisher, FILL_WINDOW, limit, &Meter::start(server)?)?;
    expect_messages(server, messages)
}

fn expect_messages(server: &Server, sent: u64) -> Result<()> {
    let stored = state(server)?["messages"].as_u64();
    ensure!(stored == Some(sent), "{sent} publishes were acknowledged, but the stream holds {stored:?}");
    Ok(())
}

/// Pulls everything from a durable consumer with explicit acknowledgements.
pub(crate) fn consume(side: Side, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    create_stream(&server, &["bench.>"])?;
    let count = ((CONSUMED * scale) as u64).max(1);
    fill(&server, count, 1_000)?;
    let mut wire = Wire::connect(server.address("nats"))?;
    let config = json!({
        "stream_name": STREAM,
        "config": { "durable_name": "C", "ack_policy": "explicit", "deliver_policy": "all", "max_ack_pending": 1_000 },
    });
    wire.request(&format!("$JS.API.CONSUMER.CREATE.{STREAM}.C"), &config.to_string())?;
    wire.send(b"SUB _INBOX.bench.pull 1\r\n")?;
    wire.ping()?;
    let meter = Meter::start(&server)?;
    pull_all(&mut wire, count)?;
    wire.ping()?;
    expect_acknowledged(&server, count)?;
    meter.stop(count)
}

fn pull_all(wire: &mut Wire, count: u64) -> Result<()> {
    let request = json!({ "batch": PULL, "expires": 20_000_000_000_u64 }).to_string();
    let pull = format!("PUB $JS.API.CONSUMER.MSG.NEXT.{STREAM}.C _INBOX.bench.pull {}\r\n{request}\r\n", request.len());
    wire.send(pull.repeat(PULLS as usize).as_bytes())?;
    let (mut held, mut buffer, mut out) = (Vec::new(), vec![0; 64 * 1024], Vec::new());
    let (mut seen, mut pulled, mut statuses) = (0, PULLS * PULL, 0);
    while seen < count {
        let read = wire.read(&mut buffer)?;
        held.extend_from_slice(&buffer[..read]);
        let taken = messages(&held, |message| {
            if message.reply.is_empty() {
                statuses += 1;
                return;
            }
            seen += 1;
            out.extend_from_slice(b"PUB ");
            out.extend_from_slice(message.reply);
            out.extend_from_slice(b" 4\r\n+ACK\r\n");
        })?;
        held.drain(..taken);
        if statuses > 0 {
            bail!("a pull ended with a status after {seen} of {count} messages");
        }
        while seen + PULL * (PULLS - 1) >= pulled && pulled < count {
            pulled += PULL;
            out.extend_from_slice(pull.as_bytes());
        }
        if !out.is_empty() {
            wire.send(&out)?;
            out.clear();
        }
    }
    Ok(())
}

/// Waits until the server has applied the last acknowledgement.
pub(crate) fn expect_acknowledged(server: &Server, count: u64) -> Result<()> {
    let mut wire = Wire::connect(server.address("nats"))?;
    for _ in 0..2_000 {
        let info = wire.request(&format!("$JS.API.CONSUMER.INFO.{STREAM}.C"), "")?;
        if info["ack_floor"]["stream_seq"].as_u64() == Some(count) && info["num_ack_pending"].as_u64() == Some(0) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    bail!("the acknowledgements of {count} messages were not applied")
}
