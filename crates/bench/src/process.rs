//! A server under test: started on a free port, its CPU and memory read from `/proc`, ended by its own pid.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::stopwatch;

/// Kernel ticks per second in `/proc/<pid>/stat`; fixed by the kernel's user interface.
const TICKS: f64 = 100.0;

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, seconds.
    pub(crate) cpu: f64,
    /// Resident memory, KiB.
    pub(crate) rss: u64,
}

impl Server {
    /// Starts a command line and waits until its port answers.
    pub(crate) fn start(command: &str) -> Result<Server> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let command = command.replace("{port}", &port.to_string());
        let mut words = command.split_whitespace();
        let program = words.next().context("empty command line")?;
        let child = Command::new(program)
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("can't start {program}"))?;
        let server = Server { child, address: ([127, 0, 0, 1], port).into() };
        let begin = stopwatch::now();
        while TcpStream::connect(server.address).is_err() {
            if begin.elapsed() > Duration::from_secs(10) {
                bail!("{command} does not listen on port {port}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let rss = rss.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        Ok(Usage { cpu: self.schedule_seconds().unwrap_or((ticks(11) + ticks(12)) / TICKS), rss })
    }

    /// CPU time in nanoseconds' resolution, of all threads, where the kernel tells it.
    fn schedule_seconds(&self) -> Option<f64> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let mut nanos = 0.0;
        for task in tasks.flatten() {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            nanos += text.split_whitespace().next()?.parse::<f64>().ok()?;
        }
        Some(nanos / 1e9)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
