//! The servers that a suite can start: our gateway, stock nats-server, mosquitto.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::peers::{self, Peer};
use crate::process::{Folder, Launch, Server};

fn temporary() -> Result<Folder> {
    let folder = tempfile::Builder::new().prefix("tributary-").tempdir().context("a folder for a server")?;
    Ok(Folder::Temporary(folder))
}

/// How nats-server and what replaces it are started.
fn nats_launch(program: PathBuf) -> Launch {
    let arguments = ["-c", "<dir>/server.conf", "--ports_file_dir", "<dir>"].map(str::to_owned).to_vec();
    Launch { program, arguments, ready_line: None }
}

/// Starts the edge gateway that was built with the running test.
#[derive(Debug)]
pub struct Gateway;

impl Gateway {
    /// Every listener and a store: clients on `<nats>`, `<mqtt>` and `<websocket>`, monitoring on `<http>`, the domain `edge`.
    pub const PLAIN: &str = r#"
server_name: edge
listen: "127.0.0.1:<nats>"
http: "127.0.0.1:<http>"
mqtt { listen: "127.0.0.1:<mqtt>" }
websocket { listen: "127.0.0.1:<websocket>", no_tls: true }
jetstream { store_dir: "<dir>/store", domain: edge, max_file_store: 256MB }
"#;

    /// Starts it in a temporary folder.
    ///
    /// # Errors
    /// When the binary is missing, or not ready in time; the error shows the end of the log.
    pub fn start(configuration: &str) -> Result<Server> {
        Server::start(nats_launch(Gateway::program()?), configuration, temporary()?)
    }

    /// Starts it in a folder that outlives the guard.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn start_in(folder: &Path, configuration: &str) -> Result<Server> {
        Server::start(nats_launch(Gateway::program()?), configuration, Folder::Kept(folder.to_owned()))
    }

    /// Starts it through another program: `wrapper` is that program and its arguments, which may have the configuration's marks, and which the
    /// gateway's own command line follows. The program must become the gateway, not start it.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn start_through(wrapper: &[&str], configuration: &str) -> Result<Server> {
        let mut launch = nats_launch(Gateway::program()?);
        let program = launch.program.to_string_lossy().into_owned();
        let (first, rest) = wrapper.split_first().context("a wrapper")?;
        launch.program = PathBuf::from(first);
        let own = std::mem::take(&mut launch.arguments);
        launch.arguments = rest.iter().map(|word| (*word).to_owned()).chain([program]).chain(own).collect();
        Server::start(launch, configuration, temporary()?)
    }

    /// The binary: `TRIBUTARY_GATEWAY`, or the one of the profile that the running program was built with.
    ///
    /// # Errors
    /// When it was not built.
    pub fn program() -> Result<PathBuf> {
        if let Some(program) = std::env::var_os("TRIBUTARY_GATEWAY") {
            return Ok(PathBuf::from(program));
        }
        let own = std::env::current_exe().context("where this program is")?;
        // target/<profile>/xtask, or target/<profile>/deps/e2e-….
        let folder = own.parent().unwrap_or(Path::new("."));
        let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
        let program = folder.join("edge-gateway");
        if !program.exists() {
            bail!("{} is missing: run `cargo build -p edge-gateway`", program.display());
        }
        Ok(program)
    }
}

/// Starts a stock nats-server.
#[derive(Debug)]
pub struct StockHub;

impl StockHub {
    /// A hub with everything a gateway needs: clients on `<nats>`, leafnodes on `<leaf>`, monitoring on `<http>`, and
    /// JetStream in a domain called `hub`.
    pub const PLAIN: &str = r#"
server_name: hub
listen: "127.0.0.1:<nats>"
http: "127.0.0.1:<http>"
leafnodes { listen: "127.0.0.1:<leaf>" }
jetstream { store_dir: "<dir>/store", domain: hub }
"#;

    /// Starts it in a temporary folder.
    ///
    /// # Errors
    /// When the peer is missing, or not ready in time; the error shows the end of the log.
    pub fn start(configuration: &str) -> Result<Server> {
        peers::require(Peer::NatsServer)?;
        Server::start(nats_launch(peers::venv().join("bin/nats-server")), configuration, temporary()?)
    }

    /// Starts the one that Debian ships.
    ///
    /// # Errors
    /// As [`StockHub::start`].
    pub fn start_debian(configuration: &str) -> Result<Server> {
        peers::require(Peer::DebianNatsServer)?;
        Server::start(nats_launch(peers::debian_nats_server()), configuration, temporary()?)
    }

    /// Starts it in a folder that outlives the guard.
    ///
    /// # Errors
    /// As [`StockHub::start`].
    pub fn start_in(folder: &Path, configuration: &str) -> Result<Server> {
        peers::require(Peer::NatsServer)?;
        let launch = nats_launch(peers::venv().join("bin/nats-server"));
        Server::start(launch, configuration, Folder::Kept(folder.to_owned()))
    }
}

/// Starts a mosquitto broker.
#[derive(Debug)]
pub struct Mosquitto;

impl Mosquitto {
    /// Open to everyone on `<mqtt>`, with its persistence on.
    pub const PERSISTENT: &str = "
listener <mqtt> 127.0.0.1
allow_anonymous true
persistence true
persistence_location <dir>/
max_queued_messages 0
max_inflight_messages 0
";

    /// Starts it in a temporary folder.
    ///
    /// # Errors
    /// When the peer is missing, or not ready in time; the error shows the end of the log.
    pub fn start(configuration: &str) -> Result<Server> {
        Mosquitto::launch(&["-v"], configuration)
    }

    /// Starts it in a temporary folder without a line of log for every packet, for measuring.
    ///
    /// # Errors
    /// As [`Mosquitto::start`].
    pub fn start_quiet(configuration: &str) -> Result<Server> {
        Mosquitto::launch(&[], configuration)
    }

    fn launch(flags: &[&str], configuration: &str) -> Result<Server> {
        peers::require(Peer::Mosquitto)?;
        let arguments = flags.iter().chain(&["-c", "<dir>/server.conf"]).map(|word| (*word).to_owned()).collect();
        let launch = Launch { program: peers::debian_program("mosquitto"), arguments, ready_line: Some(" running") };
        // As root it would become another user, who could not write here.
        let configuration = format!("{configuration}\nuser root\nlog_dest stderr\n");
        Server::start(launch, &configuration, temporary()?)
    }
}
