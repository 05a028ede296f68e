//! A thousand streams with ten consumers each: what they cost in memory, and what they cost while nothing happens.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use harness::Server;
use serde_json::json;

use crate::outcome::{Figure, Outcome};
use crate::side::Side;
use crate::usage::Usage;
use crate::wire::Wire;

/// Streams at scale 1, and consumers of each.
const STREAMS: f64 = 1_000.0;
const CONSUMERS: usize = 10;
/// Left alone before and while it is observed.
const SETTLE: Duration = Duration::from_secs(3);
const OBSERVED: Duration = Duration::from_secs(5);

/// Memory, and the share of a core that is used while nothing happens, in percent.
pub(crate) fn run(side: Side, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    let streams = ((STREAMS * scale) as usize).max(1);
    create(&server, streams)?;
    thread::sleep(SETTLE);
    let before = Usage::of(&server)?;
    thread::sleep(OBSERVED);
    let after = Usage::of(&server)?;
    let idle = (after.cpu - before.cpu) / OBSERVED.as_secs_f64() * 100.0;
    // A ratio of nothing is none.
    Ok(Outcome::from([(Figure::Memory, after.rss as f64 / 1024.0), (Figure::Idle, idle.max(0.001))]))
}

fn create(server: &Server, streams: usize) -> Result<()> {
    let mut wire = Wire::connect(server.address("nats"))?;
    for stream in 0..streams {
        let name = format!("S{stream:04}");
        let config = json!({ "name": name, "subjects": [format!("{name}.>")], "storage": "file" });
        wire.request(&format!("$JS.API.STREAM.CREATE.{name}"), &config.to_string())?;
        for consumer in 0..CONSUMERS {
            let consumer = format!("C{consumer}");
            let config = json!({ "name": consumer, "durable_name": consumer, "ack_policy": "explicit" });
            let body = json!({ "stream_name": name, "config": config }).to_string();
            wire.request(&format!("$JS.API.CONSUMER.CREATE.{name}.{consumer}"), &body)?;
        }
    }
    Ok(())
}
