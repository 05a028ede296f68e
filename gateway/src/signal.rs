//! `--signal NAME[=PID or PIDFILE]`: a second process that only signals, as nats-server's does.

use std::fs;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal as System, kill_process};

use crate::arguments::{Signal, SignalKind};
use crate::version;

/// Sends it, silently.
///
/// # Errors
/// When there is no such process, or it is not ours to signal.
pub fn send(signal: &Signal) -> anyhow::Result<()> {
    let target = match &signal.target {
        Some(target) => named(target)?,
        None => only_one_of_our_name()?,
    };
    let pid = i32::try_from(target).ok().and_then(Pid::from_raw).with_context(|| format!("invalid pid: {target}"))?;
    let system = match signal.kind {
        SignalKind::Stop => System::KILL,
        SignalKind::Quit => System::INT,
        SignalKind::Term => System::TERM,
        SignalKind::Reload => System::HUP,
        SignalKind::Reopen => System::USR1,
        SignalKind::LameDuck => System::USR2,
    };
    kill_process(pid, system).with_context(|| format!("signalling process {target}"))
}

fn named(target: &str) -> anyhow::Result<u32> {
    if let Ok(pid) = target.parse() {
        return Ok(pid);
    }
    let text = fs::read_to_string(target).with_context(|| format!("reading the pid file {target}"))?;
    text.trim().parse().with_context(|| format!("{target} does not hold a pid"))
}

/// The processes whose name is ours or nats-server's, by `/proc`.
fn only_one_of_our_name() -> anyhow::Result<u32> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may be gone by now.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if pid != own && [version::NAME, "nats-server"].contains(&name.trim()) {
            found.push(pid);
        }
    }
    match found[..] {
        [pid] => Ok(pid),
        [] => bail!("no nats-server processes running"),
        _ => bail!("multiple nats-server processes running: {found:?}; name one with --signal NAME=PID"),
    }
}
