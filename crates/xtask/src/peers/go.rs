//! The real `nats` command line and `nsc`, built from the modules that `tests/peers/go.mod` and `go.sum` pin.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use harness::peers;

use crate::shell;

/// Builds both tools; about a minute on two cores when nothing was downloaded or built before.
pub(super) fn install() -> Result<()> {
    ensure!(
        shell::exists("go"),
        "go is missing: install Go 1.24 or newer (Debian 13: apt-get install golang-go; older: the archive from Go's site)"
    );
    // In a copy, so that no version of Go edits the pinned files.
    let source = peers::location().join("go");
    fs::create_dir_all(&source)?;
    for name in ["go.mod", "go.sum"] {
        fs::copy(super::pinned(name), source.join(name))?;
    }
    shell::run_patiently(Command::new("go").current_dir(&source).args(["mod", "download"]))?;
    println!("building nats and nsc");
    let mut build = Command::new("go");
    build.current_dir(&source).args(["build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o"]);
    // The trailing slash tells go that it is a folder.
    build.arg(peers::binaries().join("")).arg("tool");
    fs::create_dir_all(peers::binaries())?;
    shell::run(&mut build)
}
