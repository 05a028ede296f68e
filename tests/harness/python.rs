//! Runs a Python script of `tests/interop/scripts` with the interpreter that knows the peers.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::peers;
use crate::program::{self, Finished};

/// Runs `script` (a file name) with `arguments`.
///
/// # Errors
/// When the interpreter is missing or the script does not end within `limit`.
pub fn run(script: &str, arguments: &[&str], limit: Duration) -> Result<Finished> {
    let path = peers::workspace().join("tests/interop/scripts").join(script);
    let mut command = Command::new(peers::python());
    // No __pycache__ beside the sources.
    command.args(["-B", "-u"]).arg(path).args(arguments);
    program::run(&mut command, b"", limit)
}
