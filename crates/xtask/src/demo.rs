//! `cargo xtask demo`: an outage of the link, watched live.
//!
//! Not here yet: the gateway does not run. It will start a stock hub and an edge through the harness, with its proxy as the
//! link between them, and simulated sensors.

use anyhow::{Result, bail};

/// How long the demo lasts.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Ends after the verdict instead of staying up: status 0 when everything arrived once and in order, else 1
    #[arg(long)]
    pub(crate) exit: bool,
}

/// Says that there is nothing to show yet.
pub(crate) fn run(options: &Options) -> Result<()> {
    let end = if options.exit { "would end after the verdict" } else { "would stay up" };
    bail!("the demo is not there yet: it {end}")
}
