//! What a server process has used, read from `/proc`: CPU time of all its threads, and resident memory.

use anyhow::{Context, Result};
use harness::Server;

/// Kernel ticks per second in `/proc/<pid>/stat`; fixed by the kernel's user interface.
const TICKS: f64 = 100.0;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, seconds.
    pub(crate) cpu: f64,
    /// Resident memory, KiB.
    pub(crate) rss: u64,
}

impl Usage {
    /// What the server has used so far.
    pub(crate) fn of(server: &Server) -> Result<Usage> {
        let pid = server.pid().context("the server does not run")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let rss = rss.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        Ok(Usage { cpu: schedule_seconds(pid).unwrap_or((ticks(11) + ticks(12)) / TICKS), rss })
    }
}

/// CPU time in nanoseconds' resolution, of all threads, where the kernel tells it.
fn schedule_seconds(pid: u32) -> Option<f64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut nanos = 0.0;
    for task in tasks.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        nanos += text.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(nanos / 1e9)
}
