//! The running gateway: start order, drain order.

use crate::config::Config;

/// Runs until a signal ends it.
///
/// # Errors
/// What keeps it from starting.
#[allow(clippy::needless_pass_by_value, reason = "the running gateway owns its configuration")]
pub fn run(config: Config) -> anyhow::Result<()> {
    anyhow::bail!("not wired yet (would listen for clients on {})", config.client.listen)
}
