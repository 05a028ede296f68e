//! A bucket: a stream with one subject for each of 10,000 keys and a history of 5. Puts are publishes; gets ask for the last message of a key, directly;
//! a watch is an ordered consumer that begins with the last message of each key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use harness::Server;
use serde_json::json;

use crate::jetstream::{Publisher, one_at_a_time};
use crate::outcome::{Figure, Meter, Outcome, median};
use crate::push;
use crate::ring::{Acknowledged, Limit, Ring};
use crate::side::Side;
use crate::wire::{Wire, messages, publish_frame};

const KEYS: usize = 10_000;
const HISTORY: u64 = 5;
const PAYLOAD: usize = 128;
/// Puts unanswered at a time.
const IN_FLIGHT: u64 = 64;
/// Puts unanswered at a time beside gets.
const BESIDE: u64 = 16;
/// Keys drawn by lot before the same ones come again: many more than the bucket holds values.
const DRAWN: usize = 30 * KEYS;
/// Watches, one after the other, at scale 1.
const WATCHES: f64 = 20.0;
/// Operations and seconds at scale 1.
const OPERATIONS: f64 = 400_000.0;
const SECONDS: f64 = 4.0;
const INBOX: &str = "_INBOX.bench.acks";
/// Not that of the publisher, which would have to take every value as well.
const VALUES: &str = "_INBOX.bench.values";

/// Puts, over all keys in turn, with the history full after five rounds: what goes lies side by side.
pub(crate) fn put(side: Side, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    let mut publisher = bucket(&server)?;
    let mut ring = puts();
    let meter = Meter::start(&server)?;
    let sent = ring.pump(&mut publisher, IN_FLIGHT, Limit::new(OPERATIONS, SECONDS, scale), &meter)?;
    let outcome = meter.stop(sent)?;
    expect(&server, sent)?;
    Ok(outcome)
}

/// Puts of keys drawn by lot, with the history full: what goes lies anywhere.
pub(crate) fn put_random(side: Side, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    let mut publisher = filled(&server)?;
    let mut drawn = 1_u64;
    let mut ring = Ring::new(DRAWN, |_| {
        // Knuth's MMIX generator; its upper bits are good enough to draw from.
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        publish_frame(&subject((drawn >> 33) as usize % KEYS), INBOX, PAYLOAD)
    });
    let meter = Meter::start(&server)?;
    let sent = ring.pump(&mut publisher, IN_FLIGHT, Limit::new(OPERATIONS, SECONDS, scale), &meter)?;
    let outcome = meter.stop(sent)?;
    expect(&server, HISTORY * KEYS as u64 + sent)?;
    Ok(outcome)
}

/// Gets of all keys in turn, with the history full.
pub(crate) fn get(side: Side, in_flight: u64, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    filled(&server)?;
    let (mut reader, mut ring) = (Reader::connect(&server)?, gets());
    let limit = Limit::new(OPERATIONS, SECONDS, scale);
    let meter = Meter::start(&server)?;
    if in_flight == 1 {
        let latencies = one_at_a_time(&mut ring, &mut reader, limit, &meter)?;
        let mut outcome = meter.stop(latencies.len() as u64)?;
        outcome.extend(median(latencies).map(|p50| (Figure::Median, p50)));
        return Ok(outcome);
    }
    let asked = ring.pump(&mut reader, in_flight, limit, &meter)?;
    meter.stop(asked)
}

/// Gets, one at a time, while somebody puts as fast as the server takes it. What the server's time went to can't be told apart.
pub(crate) fn get_beside_puts(side: Side, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    let mut publisher = filled(&server)?;
    let over = Arc::new(AtomicBool::new(false));
    let watching = Arc::clone(&over);
    let putting = thread::spawn(move || -> Result<()> {
        let mut ring = puts();
        publisher.write(ring.take(BESIDE).0)?;
        let mut unanswered = BESIDE;
        while unanswered > 0 {
            unanswered -= publisher.acknowledgements()?;
            while !watching.load(Ordering::Relaxed) && unanswered < BESIDE {
                let (bytes, count) = ring.take(BESIDE - unanswered);
                publisher.write(bytes)?;
                unanswered += count;
            }
        }
        Ok(())
    });
    let mut reader = Reader::connect(&server)?;
    let limit = Limit::new(OPERATIONS, SECONDS, scale);
    let meter = Meter::start(&server)?;
    let latencies = one_at_a_time(&mut gets(), &mut reader, limit, &meter)?;
    let mut outcome = meter.stop(latencies.len() as u64)?;
    over.store(true, Ordering::Relaxed);
    putting.join().map_err(|_| anyhow!("the publisher panicked"))??;
    outcome.remove(&Figure::Cpu);
    outcome.extend(median(latencies).map(|p50| (Figure::Median, p50)));
    Ok(outcome)
}

/// Watches of all keys, one after the other, each until it has the last value of every key.
pub(crate) fn watch(side: Side, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    filled(&server)?;
    let mut api = Wire::connect(server.address("nats"))?;
    let mut wire = Wire::connect(server.address("nats"))?;
    wire.send(format!("SUB {VALUES} 1\r\n").as_bytes())?;
    wire.ping()?;
    let watches = ((WATCHES * scale) as u64).max(1);
    let meter = Meter::start(&server)?;
    for number in 0..watches {
        let name = format!("W{number}");
        let config = json!({
            "name": name, "deliver_subject": VALUES, "deliver_policy": "last_per_subject", "filter_subject": "$KV.B.>",
            "ack_policy": "none", "max_deliver": 1, "ack_wait": 79_200_000_000_000_u64, "flow_control": true,
            "idle_heartbeat": 5_000_000_000_u64, "mem_storage": true, "num_replicas": 1,
            "inactive_threshold": 300_000_000_000_u64,
        });
        let request = json!({ "stream_name": "KV_B", "config": config }).to_string();
        api.request(&format!("$JS.API.CONSUMER.CREATE.KV_B.{name}.$KV.B.>"), &request)?;
        push::receive(&mut wire, KEYS as u64, push::Acknowledges::Nothing)?;
        api.request(&format!("$JS.API.CONSUMER.DELETE.KV_B.{name}"), "")?;
        wire.ping()?;
    }
    meter.stop(watches * KEYS as u64)
}

/// The bucket with its history full, and whoever filled it.
fn filled(server: &Server) -> Result<Publisher> {
    let mut publisher = bucket(server)?;
    let values = HISTORY * KEYS as u64;
    puts().pump(&mut publisher, 2_000, Limit::new(values as f64, 3_600.0, 1.0), &Meter::start(server)?)?;
    expect(server, values)?;
    Ok(publisher)
}

fn puts() -> Ring {
    Ring::new(KEYS, |key| publish_frame(&subject(key), INBOX, PAYLOAD))
}

fn gets() -> Ring {
    Ring::new(KEYS, |key| publish_frame(&format!("$JS.API.DIRECT.GET.KV_B.{}", subject(key)), VALUES, 0))
}

fn subject(key: usize) -> String {
    format!("$KV.B.{key:05}")
}

/// As the official clients make it.
fn bucket(server: &Server) -> Result<Publisher> {
    let config = json!({
        "name": "KV_B", "subjects": ["$KV.B.>"], "storage": "file", "num_replicas": 1, "max_msgs_per_subject": HISTORY, "discard": "new",
        "allow_rollup_hdrs": true, "deny_delete": true, "allow_direct": true,
    });
    Wire::connect(server.address("nats"))?.request("$JS.API.STREAM.CREATE.KV_B", &config.to_string())?;
    Publisher::connect(server)
}

fn expect(server: &Server, sent: u64) -> Result<()> {
    let info = Wire::connect(server.address("nats"))?.request("$JS.API.STREAM.INFO.KV_B", "")?;
    let state = &info["state"];
    let counts = (state["last_seq"].as_u64(), state["messages"].as_u64());
    ensure!(counts == (Some(sent), Some(sent.min(HISTORY * KEYS as u64))), "{sent} puts were acknowledged: {state}");
    Ok(())
}

/// A connection that counts values.
struct Reader {
    wire: Wire,
    held: Vec<u8>,
    buffer: Vec<u8>,
}

impl Reader {
    fn connect(server: &Server) -> Result<Reader> {
        let mut wire = Wire::connect(server.address("nats"))?;
        wire.send(format!("SUB {VALUES} 1\r\n").as_bytes())?;
        wire.ping()?;
        Ok(Reader { wire, held: Vec::new(), buffer: vec![0; 64 * 1024] })
    }
}

impl Acknowledged for Reader {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.send(bytes)
    }

    fn acknowledgements(&mut self) -> Result<u64> {
        let read = self.wire.read(&mut self.buffer)?;
        self.held.extend_from_slice(&self.buffer[..read]);
        let (mut values, mut others) = (0, 0);
        let taken =
            messages(&self.held, |message| if message.body.len() > PAYLOAD { values += 1 } else { others += 1 })?;
        self.held.drain(..taken);
        ensure!(others == 0, "{others} answers without a value");
        Ok(values)
    }
}
