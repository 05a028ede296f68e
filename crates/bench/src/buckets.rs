//! A bucket: a stream with one subject for each of 10,000 keys and a history of 5. Puts are publishes; gets ask for the last message of a key, directly.

use anyhow::{Result, ensure};
use harness::Server;
use serde_json::json;

use crate::jetstream::Publisher;
use crate::outcome::{Meter, Outcome};
use crate::ring::{Acknowledged, Limit, Ring};
use crate::side::Side;
use crate::wire::{Wire, messages, publish_frame};

const KEYS: usize = 10_000;
const HISTORY: u64 = 5;
const PAYLOAD: usize = 128;
/// Unanswered at a time.
const IN_FLIGHT: u64 = 64;
/// Operations and seconds at scale 1.
const OPERATIONS: f64 = 400_000.0;
const SECONDS: f64 = 4.0;
const INBOX: &str = "_INBOX.bench.acks";

/// Puts, over all keys in turn, with the history full after five rounds.
pub(crate) fn put(side: Side, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    let mut publisher = bucket(&server)?;
    let mut ring = Ring::new(KEYS, |key| publish_frame(&subject(key), INBOX, PAYLOAD));
    let meter = Meter::start(&server)?;
    let sent = ring.pump(&mut publisher, IN_FLIGHT, Limit::new(OPERATIONS, SECONDS, scale), &meter)?;
    let outcome = meter.stop(sent)?;
    expect(&server, sent)?;
    Ok(outcome)
}

/// Gets of all keys in turn, with the history full.
pub(crate) fn get(side: Side, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    let mut publisher = bucket(&server)?;
    let filled = HISTORY * KEYS as u64;
    let mut ring = Ring::new(KEYS, |key| publish_frame(&subject(key), INBOX, PAYLOAD));
    ring.pump(&mut publisher, 2_000, Limit::new(filled as f64, 3_600.0, 1.0), &Meter::start(&server)?)?;
    expect(&server, filled)?;
    let mut reader = Reader::connect(&server)?;
    let mut ring = Ring::new(KEYS, |key| publish_frame(&format!("$JS.API.DIRECT.GET.KV_B.{}", subject(key)), INBOX, 0));
    let meter = Meter::start(&server)?;
    let asked = ring.pump(&mut reader, IN_FLIGHT, Limit::new(OPERATIONS, SECONDS, scale), &meter)?;
    meter.stop(asked)
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
        wire.send(format!("SUB {INBOX} 1\r\n").as_bytes())?;
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
