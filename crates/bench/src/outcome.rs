//! What a workload measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::Server;

use crate::stopwatch;
use crate::usage::Usage;

/// What is measured, in the unit that the tables show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Server CPU per operation, microseconds.
    Cpu,
    /// The same of the stock hub behind it; not in the tables.
    HubCpu,
    /// Operations per second.
    Rate,
    /// Median latency of one operation, microseconds.
    Median,
    /// Resident memory at the end, MiB.
    Memory,
    /// Resident memory that each connection added, KiB.
    MemoryEach,
    /// Milliseconds until the first PONG.
    Pong,
    /// Milliseconds until the first CONNACK.
    Connack,
    /// Milliseconds until the first answer about the stream.
    StreamInfo,
    /// The longest wait of a publish beside it, milliseconds.
    Stall,
    /// How long it took, milliseconds.
    Took,
    /// Percent of a core while nothing happens.
    Idle,
}

/// The figures of one run.
pub(crate) type Outcome = BTreeMap<Figure, f64>;

/// Runs from the begin of the measured part to its end.
pub(crate) struct Meter<'a> {
    server: &'a Server,
    before: Usage,
    begin: Instant,
}

impl<'a> Meter<'a> {
    /// Begins now.
    pub(crate) fn start(server: &'a Server) -> Result<Meter<'a>> {
        Ok(Meter { server, before: Usage::of(server)?, begin: stopwatch::now() })
    }

    /// Time since the begin.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Ends now.
    pub(crate) fn stop(&self, operations: u64) -> Result<Outcome> {
        let seconds = self.elapsed().as_secs_f64();
        let after = Usage::of(self.server)?;
        let operations = operations.max(1) as f64;
        Ok(BTreeMap::from([
            (Figure::Cpu, (after.cpu - self.before.cpu) * 1e6 / operations),
            (Figure::Rate, operations / seconds),
            (Figure::Memory, after.rss as f64 / 1024.0),
        ]))
    }
}

/// The median of some latencies in microseconds.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
