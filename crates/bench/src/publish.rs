//! Publishing what nobody wants: decoding and looking up, nothing else.

use anyhow::Result;

use crate::process::Server;
use crate::wire::{Wire, batch, publish_frame};
use crate::{Outcome, stopwatch};

/// Messages at scale 1.
const MESSAGES: f64 = 8_000_000.0;

/// Publishes on one connection, then waits for the PONG behind it.
pub(crate) fn run(server: &Server, size: usize, scale: f64) -> Result<Outcome> {
    let mut wire = Wire::connect(server)?;
    let (bytes, count) = batch(&publish_frame("bench.subject", size));
    let begin = stopwatch::now();
    let mut operations = 0;
    while (operations as f64) < MESSAGES * scale {
        wire.send(&bytes)?;
        operations += count;
    }
    wire.ping()?;
    Ok(Outcome { operations, seconds: begin.elapsed().as_secs_f64(), p50_micros: None })
}
