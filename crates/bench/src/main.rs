//! The load generator of `cargo xtask bench`: the same work against two servers in turn, several rounds, printed as ratios.
//!
//! It has to cost less than what it measures: raw sockets, ready-made frames, batched writes, bytes counted instead of parsed. What counts is
//! the server's CPU per operation, read from `/proc`; throughput and latency on a shared machine are only worth comparing within a round.

mod fan_out;
mod idle;
mod process;
mod publish;
mod report;
mod requests;
mod stopwatch;
mod wire;

use anyhow::Result;
use clap::Parser;

use crate::process::Server;
use crate::report::Report;

/// What a workload did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Messages, deliveries or requests.
    pub(crate) operations: u64,
    /// Wall time of the measured part.
    pub(crate) seconds: f64,
    /// Median latency of one operation in microseconds, where that is what is measured.
    pub(crate) p50_micros: Option<f64>,
}

/// One row of the table.
struct Workload {
    name: &'static str,
    run: fn(&Server, f64) -> Result<Outcome>,
}

const WORKLOADS: [Workload; 8] = [
    Workload { name: "publish 128 B", run: |server, scale| publish::run(server, 128, scale) },
    Workload { name: "1 to 1, 16 B", run: |server, scale| fan_out::run(server, 1, 16, scale) },
    Workload { name: "1 to 1, 128 B", run: |server, scale| fan_out::run(server, 1, 128, scale) },
    Workload { name: "1 to 1, 900 kB", run: |server, scale| fan_out::run(server, 1, 900_000, scale) },
    Workload { name: "1 to 10, 128 B", run: |server, scale| fan_out::run(server, 10, 128, scale) },
    Workload { name: "requests, 1", run: |server, scale| requests::run(server, 1, scale) },
    Workload { name: "requests, 16", run: |server, scale| requests::run(server, 16, scale) },
    Workload { name: "idle connections", run: idle::run },
];

/// Compares two servers.
#[derive(Parser)]
struct Arguments {
    /// Command line of ours; `{port}` is replaced.
    #[arg(long, default_value = "target/bench-fast/examples/core --port {port}")]
    ours: String,
    /// Command line of the peer; `{port}` is replaced.
    #[arg(long)]
    peer: Option<String>,
    /// Rounds, interleaved.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Multiplies the amount of work.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only workloads whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let chosen =
        |workload: &&Workload| arguments.only.as_ref().is_none_or(|part| workload.name.contains(part.as_str()));
    for workload in WORKLOADS.iter().filter(chosen) {
        let mut report = Report::new(workload.name);
        for _ in 0..arguments.rounds {
            report.add_ours(measure(&arguments.ours, workload, arguments.scale)?);
            if let Some(peer) = &arguments.peer {
                report.add_peer(measure(peer, workload, arguments.scale)?);
            }
        }
        report.print();
    }
    Ok(())
}

fn measure(command: &str, workload: &Workload, scale: f64) -> Result<report::Sample> {
    let server = Server::start(command)?;
    let before = server.usage()?;
    let outcome = (workload.run)(&server, scale)?;
    let after = server.usage()?;
    Ok(report::Sample::new(&outcome, &before, &after))
}
