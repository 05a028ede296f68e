//! Connections that do nothing: what each costs in memory, and what opening it costs in CPU.

use anyhow::Result;

use crate::process::Server;
use crate::wire::Wire;
use crate::{Outcome, stopwatch};

/// Connections at scale 1; both processes need that many descriptors.
const CONNECTIONS: f64 = 5_000.0;

/// Connections are the operations; they are open when the caller looks at the server's memory, because they are leaked.
pub(crate) fn run(server: &Server, scale: f64) -> Result<Outcome> {
    let count = (CONNECTIONS * scale) as u64;
    let begin = stopwatch::now();
    let wires: Vec<Wire> = (0..count).map(|_| Wire::connect(server)).collect::<Result<_>>()?;
    let seconds = begin.elapsed().as_secs_f64();
    std::mem::forget(wires);
    Ok(Outcome { operations: count, seconds, p50_micros: None })
}
