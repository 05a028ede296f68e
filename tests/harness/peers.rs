//! The programs and libraries of others that the suites run against, and where `cargo xtask peers` put them.
//!
//! This is the one place that names them; xtask installs by this list. A missing peer is an error that says how to get it,
//! unless it was left out on purpose (`cargo xtask test --without PEER` sets [`WITHOUT`]): then [`available`] says no and the
//! test returns early.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Comma-separated names of the peers that were left out on purpose.
pub const WITHOUT: &str = "TRIBUTARY_WITHOUT";

/// Overrides where the peers are, so that several checkouts can share one installation.
pub const LOCATION: &str = "TRIBUTARY_PEERS";

/// Something official that our binaries are tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The stock NATS server, the hub of the leaf link.
    NatsServer,
    /// The Python client of NATS.
    NatsPy,
    /// The Python client of MQTT.
    PahoMqtt,
    /// The JavaScript clients of NATS, over TCP and WebSocket.
    NatsJs,
    /// The JavaScript client of MQTT.
    MqttJs,
    /// The `nats` command line.
    NatsCli,
    /// The tool that makes operators, accounts and credentials.
    Nsc,
    /// The mosquitto broker with `mosquitto_pub` and `mosquitto_sub`.
    Mosquitto,
    /// The NATS server that Debian ships: 2.9.10 in bookworm, the oldest hub that we promise to work with.
    DebianNatsServer,
}

impl Peer {
    /// All of them, in the order in which they are installed.
    pub const ALL: [Peer; 9] = [
        Peer::NatsServer,
        Peer::NatsPy,
        Peer::PahoMqtt,
        Peer::NatsJs,
        Peer::MqttJs,
        Peer::NatsCli,
        Peer::Nsc,
        Peer::Mosquitto,
        Peer::DebianNatsServer,
    ];

    /// The name on command lines and in [`WITHOUT`].
    pub fn name(self) -> &'static str {
        match self {
            Peer::NatsServer => "nats-server",
            Peer::NatsPy => "nats-py",
            Peer::PahoMqtt => "paho-mqtt",
            Peer::NatsJs => "nats.js",
            Peer::MqttJs => "mqtt.js",
            Peer::NatsCli => "nats-cli",
            Peer::Nsc => "nsc",
            Peer::Mosquitto => "mosquitto",
            Peer::DebianNatsServer => "nats-server-debian",
        }
    }

    /// The peer of that [`Peer::name`].
    pub fn from_name(name: &str) -> Option<Peer> {
        Peer::ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// Files that are there when the peer is installed.
    pub fn files(self) -> Vec<PathBuf> {
        match self {
            Peer::NatsServer => vec![venv().join("bin/nats-server"), self.stamp()],
            Peer::NatsPy | Peer::PahoMqtt => vec![python(), self.stamp()],
            Peer::NatsJs => {
                let packages = ["@nats-io/transport-node", "@nats-io/obj", "@nats-io/services"];
                let files = packages.map(|name| node_modules().join(name).join("package.json"));
                files.into_iter().chain([self.stamp()]).collect()
            }
            Peer::MqttJs => vec![node_modules().join("mqtt/package.json"), self.stamp()],
            Peer::NatsCli => vec![binaries().join("nats"), self.stamp()],
            Peer::Nsc => vec![binaries().join("nsc"), self.stamp()],
            // The system's own will do, whatever put it there.
            Peer::Mosquitto => ["mosquitto", "mosquitto_pub", "mosquitto_sub"].map(debian_program).to_vec(),
            Peer::DebianNatsServer => vec![debian_nats_server()],
        }
    }

    /// The file that says which version was installed.
    pub fn stamp(self) -> PathBuf {
        location().join("stamps").join(self.name())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The root of the workspace this was built from.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("/"))
}

/// The folder that holds all peers.
pub fn location() -> PathBuf {
    match std::env::var_os(LOCATION) {
        Some(folder) => PathBuf::from(folder),
        None => workspace().join("target/peers"),
    }
}

/// Programs that were built or unpacked: `nats`, `nsc`, and mosquitto's where apt could not be used.
pub fn binaries() -> PathBuf {
    location().join("bin")
}

/// The Python environment.
pub fn venv() -> PathBuf {
    location().join("venv")
}

/// The Python interpreter that knows the Python peers.
pub fn python() -> PathBuf {
    venv().join("bin/python")
}

/// The folder that Node resolves the JavaScript peers from.
pub fn node_modules() -> PathBuf {
    location().join("node/node_modules")
}

/// Where a program of a Debian package is: unpacked by us, or the system's own.
pub fn debian_program(name: &str) -> PathBuf {
    let unpacked = binaries().join(name);
    if unpacked.exists() {
        return unpacked;
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    // A user's PATH on Debian lacks /usr/sbin, where the broker is.
    std::env::split_paths(&search)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or(unpacked)
}

/// Debian's NATS server: always unpacked by us, never the system's own, which would listen on 4222.
pub fn debian_nats_server() -> PathBuf {
    debian().join("usr/sbin/nats-server")
}

/// The folder into which packages of Debian are unpacked.
pub fn debian() -> PathBuf {
    location().join("debian")
}

/// Whether a peer was left out by whoever started the tests.
pub fn left_out(peer: Peer) -> bool {
    std::env::var(WITHOUT).is_ok_and(|names| names.split(',').any(|name| name.trim() == peer.name()))
}

/// Whether a test can use the peer; `false` only when it was left out on purpose.
///
/// # Panics
/// When the peer is neither installed nor left out: a test that needs it must not pass silently.
pub fn available(peer: Peer) -> bool {
    if left_out(peer) {
        eprintln!("left out: {peer}");
        return false;
    }
    if let Err(error) = require(peer) {
        panic!("{error}");
    }
    true
}

/// Checks that the peer is installed.
///
/// # Errors
/// Names the missing file and the command that installs it.
pub fn require(peer: Peer) -> Result<()> {
    match peer.files().into_iter().find(|file| !file.exists()) {
        None => Ok(()),
        Some(file) => bail!(
            "the peer {peer} is not installed ({} is missing): run `cargo xtask peers`, or leave it out with `cargo xtask test \
             --without {peer}`",
            file.display()
        ),
    }
}
