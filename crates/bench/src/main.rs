//! The load generator of `cargo xtask bench`: the same work against ours and its peers in turn, several rounds, printed as ratios.
//!
//! It has to cost less than what it measures: raw sockets, ready-made frames, batched writes, bytes counted instead of parsed. What counts is
//! the server's CPU per operation, read from `/proc`; throughput and latency on a shared machine are only worth comparing within a round.
//! A run from which the host of a virtual machine took cores is done again. Every run starts a fresh server on an empty store, so nothing is left over from the run before. Tables go to standard output,
//! what is being done to standard error; nothing else is written.

mod buckets;
mod connections;
mod drain;
mod fan_out;
mod fleet;
mod jetstream;
mod many_subjects;
mod mqtt;
mod outcome;
mod publish;
mod push;
mod report;
mod requests;
mod ring;
mod sessions;
mod side;
mod stall;
mod stolen;
mod stopwatch;
mod stored;
mod tls;
mod usage;
mod websocket;
mod wire;
mod workloads;

use std::process::ExitCode;

use clap::Parser;

use crate::report::Report;
use crate::side::Side;
use crate::workloads::{WORKLOADS, Workload};

/// Compares our gateway with its peers.
#[derive(Parser)]
struct Arguments {
    /// Rounds, interleaved.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Multiplies the amount of work.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only workloads whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only ours: two builds of it are compared by `TRIBUTARY_GATEWAY`.
    #[arg(long)]
    ours: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen =
        |workload: &&Workload| arguments.only.as_ref().is_none_or(|part| workload.name.contains(part.as_str()));
    let mut reports = Vec::new();
    let mut failed = Vec::new();
    for workload in WORKLOADS.iter().filter(chosen) {
        let mut report = Report::new(workload.name, workload.table);
        for round in 0..arguments.rounds.max(1) {
            for side in workload.sides.iter().filter(|side| !arguments.ours || **side == Side::Ours) {
                match stolen::least_stolen(|| (workload.run)(*side, arguments.scale)) {
                    Ok((outcome, share)) => {
                        eprintln!(
                            "{} · {side} · round {}: {outcome:.3?}, stolen {:.1} %",
                            workload.name,
                            round + 1,
                            share * 100.0
                        );
                        report.add(*side, outcome);
                    }
                    Err(error) => failed.push(format!("{} · {side}: {error:#}", workload.name)),
                }
            }
        }
        reports.push(report);
    }
    print!("{}", report::markdown(&reports));
    for failure in &failed {
        eprintln!("failed: {failure}");
    }
    if failed.is_empty() && !reports.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
