//! Peers from the JavaScript registry. There is no lock file: it would name the registry's host; what is used directly is pinned.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use harness::peers;

use crate::shell;

const HOW: &str = "install Node 20 or newer with npm (Debian 13: apt-get install nodejs npm)";

/// Installs the packages of `tests/peers/package.json`.
pub(super) fn install() -> Result<()> {
    ensure!(shell::exists("node") && shell::exists("npm"), "node and npm are missing: {HOW}");
    let version = shell::output(Command::new("node").arg("--version"))?;
    let major: u32 = version.trim_start_matches('v').split('.').next().unwrap_or_default().parse().unwrap_or(0);
    ensure!(major >= 20, "node {} is too old: {HOW}", version.trim());
    let folder = peers::location().join("node");
    fs::create_dir_all(&folder)?;
    fs::copy(super::pinned("package.json"), folder.join("package.json"))?;
    let mut npm = Command::new("npm");
    npm.current_dir(folder);
    npm.args(["install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    shell::run_patiently(&mut npm)
}
