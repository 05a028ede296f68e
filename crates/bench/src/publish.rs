//! Publishing what nobody wants: decoding and looking up, nothing else.

use anyhow::Result;

use crate::outcome::{Meter, Outcome};
use crate::side::Side;
use crate::wire::{Wire, batch, publish_frame};

/// Messages at scale 1.
const MESSAGES: f64 = 8_000_000.0;

/// Publishes on one connection, then waits for the PONG behind it.
pub(crate) fn run(side: Side, size: usize, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    let mut wire = Wire::connect(server.address("nats"))?;
    let (bytes, count) = batch(&publish_frame("bench.subject", "", size));
    let meter = Meter::start(&server)?;
    let mut operations = 0;
    while (operations as f64) < MESSAGES * scale {
        wire.send(&bytes)?;
        operations += count;
    }
    wire.ping()?;
    meter.stop(operations)
}
