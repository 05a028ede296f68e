//! Runs a JavaScript module of `tests/interop/scripts` with Node and the peers' packages.
//!
//! Node resolves an import from the folder of the importing file, so the scripts are copied beside a link to the packages.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::peers;
use crate::program::{self, Finished};

/// Runs `script` (a file name ending in `.mjs`) with `arguments`; it may import the other modules of its folder.
///
/// # Errors
/// When Node is missing or the script does not end within `limit`.
pub fn run(script: &str, arguments: &[&str], limit: Duration) -> Result<Finished> {
    run_trusting(None, script, arguments, limit)
}

/// The same, with an authority's certificate that it believes.
///
/// # Errors
/// As [`run`].
pub fn run_trusting(ca: Option<&Path>, script: &str, arguments: &[&str], limit: Duration) -> Result<Finished> {
    let sources = peers::workspace().join("tests/interop/scripts");
    let folder = tempfile::Builder::new().prefix("tributary-node-").tempdir()?;
    symlink(peers::node_modules(), folder.path().join("node_modules"))?;
    for entry in fs::read_dir(&sources).with_context(|| format!("reading {}", sources.display()))? {
        let path = entry?.path();
        if let (Some(name), Some("mjs")) = (path.file_name(), path.extension().and_then(|end| end.to_str())) {
            fs::copy(&path, folder.path().join(name))?;
        }
    }
    let mut command = Command::new("node");
    command.arg(folder.path().join(script)).args(arguments);
    if let Some(ca) = ca {
        command.env("NODE_EXTRA_CA_CERTS", ca);
    }
    program::run(&mut command, b"", limit)
}
