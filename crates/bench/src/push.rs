//! What a push consumer delivers: with an acknowledgement for each message, and as an ordered consumer, which acknowledges nothing and is held
//! back by flow control alone.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::jetstream::{STREAM, create_stream, expect_acknowledged, fill};
use crate::outcome::{Meter, Outcome};
use crate::side::Side;
use crate::wire::{Wire, messages};

/// Messages at scale 1.
const CONSUMED: f64 = 300_000.0;
const INBOX: &str = "_INBOX.bench.push";

/// How the receiver says that it has a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledges {
    /// Each by itself.
    Explicitly,
    /// Not at all: an ordered consumer.
    Nothing,
}

/// Messages are the operations; their consumer is made in the measured part, as the first begins with it.
pub(crate) fn run(side: Side, acknowledges: Acknowledges, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    create_stream(&server, &["bench.>"])?;
    let count = ((CONSUMED * scale) as u64).max(1);
    fill(&server, count, 1_000)?;
    let mut api = Wire::connect(server.address("nats"))?;
    let mut wire = Wire::connect(server.address("nats"))?;
    wire.send(format!("SUB {INBOX} 1\r\n").as_bytes())?;
    wire.ping()?;
    let meter = Meter::start(&server)?;
    api.request(&format!("$JS.API.CONSUMER.CREATE.{STREAM}.C"), &consumer(acknowledges).to_string())?;
    receive(&mut wire, count, acknowledges)?;
    wire.ping()?;
    if acknowledges == Acknowledges::Explicitly {
        expect_acknowledged(&server, count)?;
    }
    meter.stop(count)
}

fn consumer(acknowledges: Acknowledges) -> Value {
    let config = match acknowledges {
        Acknowledges::Explicitly => {
            json!({ "name": "C", "durable_name": "C", "deliver_subject": INBOX, "ack_policy": "explicit", "max_ack_pending": 1_000 })
        }
        // As the official clients ask for it.
        Acknowledges::Nothing => json!({
            "name": "C", "deliver_subject": INBOX, "ack_policy": "none", "max_deliver": 1, "ack_wait": 79_200_000_000_000_u64,
            "flow_control": true, "idle_heartbeat": 5_000_000_000_u64, "mem_storage": true, "num_replicas": 1,
            "inactive_threshold": 300_000_000_000_u64,
        }),
    };
    json!({ "stream_name": STREAM, "config": config })
}

/// Takes so many messages.
pub(crate) fn receive(wire: &mut Wire, count: u64, acknowledges: Acknowledges) -> Result<()> {
    let (mut held, mut buffer, mut out) = (Vec::new(), vec![0; 64 * 1024], Vec::new());
    let mut seen = 0;
    while seen < count {
        let read = wire.read(&mut buffer)?;
        held.extend_from_slice(&buffer[..read]);
        let taken = messages(&held, |message| {
            let asks = message.reply.starts_with(b"$JS.FC.");
            seen += u64::from(!asks && !message.reply.is_empty());
            let ack: &[u8] = match acknowledges {
                _ if asks => b" 0\r\n\r\n",
                Acknowledges::Explicitly if !message.reply.is_empty() => b" 4\r\n+ACK\r\n",
                _ => return,
            };
            out.extend_from_slice(b"PUB ");
            out.extend_from_slice(message.reply);
            out.extend_from_slice(ack);
        })?;
        held.drain(..taken);
        if !out.is_empty() {
            wire.send(&out)?;
            out.clear();
        }
    }
    if seen > count {
        bail!("{seen} messages of {count}");
    }
    Ok(())
}
