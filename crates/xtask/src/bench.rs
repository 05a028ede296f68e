//! `cargo xtask bench`: ours beside the peers, on the same machine, with the same client and the same work.
//!
//! Builds the gateway and the load generator (crate `bench`) as fast as a release and hands over to the generator, which starts ours
//! and the peers in turn through the harness, several rounds interleaved, and prints Markdown tables.

use anyhow::{Context, Result};
use harness::peers::{self, Peer, workspace};

use crate::shell;

/// The profile that both are built with.
const PROFILE: &str = "bench-fast";

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the measurements whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Rounds of each measurement, interleaved between the servers
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Multiplies the amount of work
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
}

/// Builds, then measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let build = ["build", "--profile", PROFILE, "--package", "edge-gateway", "--bins", "--package", "bench"];
    shell::run(&mut shell::cargo(&build))?;
    for peer in [Peer::NatsServer, Peer::Mosquitto] {
        peers::require(peer).context("what ours is compared with")?;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), Into::into);
    let mut generator = std::process::Command::new(target.join(PROFILE).join("bench"));
    generator.args(["--rounds", &options.rounds.to_string(), "--scale", &options.scale.to_string()]);
    if let Some(name) = &options.only {
        generator.args(["--only", name]);
    }
    shell::run(&mut generator)
}
