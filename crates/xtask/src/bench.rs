//! `cargo xtask bench`: ours beside the peers, on the same machine, with the same client and the same work.
//!
//! Not here yet: the load generator (crate `bench`) comes first. It will start ours and the peer in turn through the harness,
//! several rounds interleaved, and print throughput, server CPU per message and memory as ratios (design §9).

use anyhow::{Result, bail};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the measurements whose name contains this
    #[arg(value_name = "NAME")]
    pub(crate) filter: Option<String>,
}

/// Says that there is nothing to run yet.
pub(crate) fn run(options: &Options) -> Result<()> {
    let what = options.filter.as_deref().unwrap_or("all measurements");
    bail!("the benchmarks are not there yet ({what})")
}
