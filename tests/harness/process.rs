//! A server of ours or of a peer: started in a folder of its own, watched, stopped, started again on the same store.
//!
//! A configuration is a text with marks: `<dir>` is the server's folder, any other `<name>` a free port on loopback that keeps
//! its name for [`Server::port`]. Ports and folder stay when the server is killed and started again. A port that somebody
//! else took in between is found out by the server; the first start then tries others, a later one waits for the same.
//!
//! The log goes to a file, whose end is shown when a wait fails or the test panics. A guard that is dropped kills its server.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::ports;
use crate::program::POLL;

/// How long a server may take to be ready: much, for a shared machine that builds something else at the same time.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a server may take to end after TERM; stock's promise is 5 s.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How often a start is repeated when a port was taken.
const START_ATTEMPTS: u32 = 10;
/// Lines of the log that an error shows.
const TAIL_LINES: usize = 40;

/// How a program takes its configuration, and how it says that it is ready.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    /// Arguments, with the same marks as the configuration.
    pub(crate) arguments: Vec<String>,
    /// `None`: a ports file in the server's folder; else a text that the log must contain.
    pub(crate) ready_line: Option<&'static str>,
}

/// A running (or just killed) server.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    configuration: String,
    folder: Folder,
    ports: BTreeMap<String, u16>,
    child: Option<Child>,
    /// Length of the log when the running process was started: what is older belongs to its predecessors.
    log_start: u64,
}

#[derive(Debug)]
pub(crate) enum Folder {
    /// Removed with the guard.
    Temporary(TempDir),
    /// Somebody else's.
    Kept(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Folder::Temporary(folder) => folder.path(),
            Folder::Kept(path) => path,
        }
    }
}

impl Server {
    pub(crate) fn start(launch: Launch, configuration: &str, folder: Folder) -> Result<Server> {
        let mut server = Server {
            launch,
            configuration: configuration.to_owned(),
            folder,
            ports: BTreeMap::new(),
            child: None,
            log_start: 0,
        };
        for attempt in 1.. {
            server.choose_ports()?;
            match server.launch() {
                Ok(()) => break,
                Err(_) if attempt < START_ATTEMPTS && server.port_was_taken() => server.ports.clear(),
                Err(error) => return Err(error),
            }
        }
        Ok(server)
    }

    /// Starts the server again in the same folder and on the same ports, after [`Server::kill9`] or [`Server::terminate`].
    ///
    /// # Errors
    /// When it runs already, or is not ready in time.
    pub fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} runs already", self.name());
        }
        for _ in 1..START_ATTEMPTS {
            match self.launch() {
                Err(_) if self.port_was_taken() => thread::sleep(POLL * 20),
                result => return result,
            }
        }
        self.launch()
    }

    /// Starts the server again with another configuration text, on the same ports and store.
    ///
    /// # Errors
    /// As [`Server::restart`].
    pub fn restart_with(&mut self, configuration: &str) -> Result<()> {
        self.set_configuration(configuration)?;
        self.restart()
    }

    /// Writes another configuration text, for [`Server::signal`] with `HUP`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_configuration(&mut self, configuration: &str) -> Result<()> {
        self.configuration = configuration.to_owned();
        self.choose_ports()?;
        self.write_configuration()
    }

    /// Ends the process at once, as a crash or a power cut of the process would.
    ///
    /// # Errors
    /// When there is no process, or it ended by itself before.
    pub fn kill9(&mut self) -> Result<()> {
        let mut child = self.take_running()?;
        child.kill().context("killing")?;
        child.wait().context("waiting for the killed process")?;
        Ok(())
    }

    /// Sends TERM and waits for the end.
    ///
    /// # Errors
    /// When there is no process, or it did not end within ten seconds: it is killed then.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait_for_exit(STOP_LIMIT)
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it runs on beyond `limit`: it is killed then.
    pub fn wait_for_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut child = self.child.take().ok_or_else(|| anyhow!("{} does not run", self.name()))?;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        child.kill()?;
        child.wait()?;
        bail!("{} did not end within {limit:?}\n{}", self.name(), self.log_tail())
    }

    /// Sends a signal by its short name: `HUP`, `USR1`, `STOP`, `CONT`, …
    ///
    /// # Errors
    /// When there is no process, or the signal is unknown.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().ok_or_else(|| anyhow!("{} does not run", self.name()))?;
        let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()]).status()?;
        if !status.success() {
            bail!("sending {name} to {} ({pid}) failed: {status}", self.name());
        }
        Ok(())
    }

    /// The port that the configuration names `<name>`.
    ///
    /// # Panics
    /// When the configuration has no such mark: a mistake in the test.
    pub fn port(&self, name: &str) -> u16 {
        match self.ports.get(name) {
            Some(port) => *port,
            None => panic!("the configuration of {} has no <{name}>", self.name()),
        }
    }

    /// The loopback address with that port.
    pub fn address(&self, name: &str) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port(name)))
    }

    /// `nats://127.0.0.1:PORT` of the port `<nats>`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address("nats"))
    }

    /// The folder that `<dir>` stands for.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What the processes of this guard logged, the first one's lines first.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until the log of the running process contains `text`.
    ///
    /// # Errors
    /// When it does not within `limit`, or the process ended.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            // Asked before the log is read, so that the last words of a process count.
            let running = self.is_running();
            if self.current_log().contains(text) {
                return Ok(());
            }
            if !running || Instant::now() >= deadline {
                bail!("{} did not log {text:?} within {limit:?}\n{}", self.name(), self.log_tail());
            }
            thread::sleep(POLL);
        }
    }

    /// The last lines of the log, with a heading.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("--- end of the log of {}\n{}\n---", self.name(), tail.join("\n"))
    }

    fn name(&self) -> String {
        self.launch.program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("log")
    }

    fn configuration_path(&self) -> PathBuf {
        self.folder().join("server.conf")
    }

    fn current_log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(usize::MAX).min(bytes.len());
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    fn port_was_taken(&self) -> bool {
        // mosquitto capitalises the words.
        self.current_log().to_lowercase().contains("address already in use")
    }

    /// Gives a port to every mark that has none.
    fn choose_ports(&mut self) -> Result<()> {
        let texts = self.launch.arguments.iter().chain([&self.configuration]);
        let names: Vec<String> = texts.flat_map(|text| marks(text)).filter(|name| name != "dir").collect();
        for name in names {
            if let Entry::Vacant(place) = self.ports.entry(name) {
                place.insert(ports::free()?);
            }
        }
        Ok(())
    }

    fn fill(&self, text: &str) -> String {
        let mut filled = text.replace("<dir>", &self.folder().to_string_lossy());
        for (name, port) in &self.ports {
            filled = filled.replace(&format!("<{name}>"), &port.to_string());
        }
        filled
    }

    fn write_configuration(&self) -> Result<()> {
        let path = self.configuration_path();
        fs::write(&path, self.fill(&self.configuration)).with_context(|| format!("writing {}", path.display()))
    }

    fn launch(&mut self) -> Result<()> {
        self.write_configuration()?;
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        self.log_start = log.metadata()?.len();
        self.child = Some(self.spawn(log)?);
        let result = match self.launch.ready_line {
            Some(line) => self.wait_for_log(line, START_LIMIT),
            None => self.wait_for_ports_file(),
        };
        if result.is_err()
            && let Some(mut child) = self.child.take()
        {
            child.kill()?;
            child.wait()?;
        }
        result
    }

    fn spawn(&self, log: File) -> Result<Child> {
        let arguments = self.launch.arguments.iter().map(|argument| self.fill(argument));
        Command::new(&self.launch.program)
            .args(arguments)
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.launch.program.display()))
    }

    // As nats-server's: DIR/<base of argv[0]>_<pid>.ports, there when all listeners are up.
    fn wait_for_ports_file(&mut self) -> Result<()> {
        let suffix = format!("_{}.ports", self.pid().unwrap_or_default());
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let mut names = fs::read_dir(self.folder())?.flatten().map(|entry| entry.file_name());
            if names.any(|name| name.to_string_lossy().ends_with(&suffix)) {
                return Ok(());
            }
            if !self.is_running() {
                bail!("{} ended before it was ready\n{}", self.name(), self.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("{} wrote no ports file within {START_LIMIT:?}\n{}", self.name(), self.log_tail());
            }
            thread::sleep(POLL);
        }
    }

    fn take_running(&mut self) -> Result<Child> {
        if !self.is_running() {
            bail!("{} does not run\n{}", self.name(), self.log_tail());
        }
        self.child.take().ok_or_else(|| anyhow!("{} does not run", self.name()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; there is nobody left to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}

/// The words between `<` and `>` that a configuration marks as ports or folder.
fn marks(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split('<').skip(1) {
        if let Some((name, _)) = part.split_once('>')
            && !name.is_empty()
            && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
        {
            found.push(name.to_owned());
        }
    }
    found
}
