//! The configuration: the file as it stands → one checked [`Config`], read before any port is bound.
//!
//! One file per block. Every mistake is found and reported at once, with its place: unknown keys, keys of nats-server that we lack
//! ("not supported"), values out of range, files that are missing, and options that don't go together, which stock finds only
//! when it starts. Flags override the file. What stock takes and means nothing here is taken with a notice.
//!
//! With no configuration at all everything listens on loopback and the store is in the platform's state folder.

mod authorization;
mod check;
mod declared_push;
mod files;
mod forward;
mod gaps;
mod jetstream;
mod leafnodes;
mod limits;
mod listeners;
mod log;
mod origins;
mod override_by_flags;
mod secret;
mod streams;
mod tls;
mod top_level;
mod uplink;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use nats_conf::{Diagnostic, Report};

pub use authorization::{
    Authorization, ConnectionType, Credentials, Permissions, ResponsePermission, SubjectPermission, User,
};
pub use declared_push::{Priority, PriorityPolicy, Push};
pub use forward::{Destination, Forward};
pub use gaps::Gaps;
pub use jetstream::{AccountLimits, JetStream, JetStreamLimits};
pub use leafnodes::{LeafNodes, Remote};
pub use limits::{ClientLimits, LameDuck, MemoryLimits, MqttLimits};
pub use listeners::{ClientListener, Listen, Monitoring, Mqtt, WebSocket};
pub use log::Log;
pub use origins::Origins;
pub use secret::{Password, Secret};
pub use streams::{AckPolicy, Consumer, ConsumerLimits, DeliverPolicy, Discard, Mapping, Retention, Storage, Stream};
pub use tls::{HandshakeFirst, RemoteTls, Tls};
pub use uplink::Uplink;

use crate::arguments::Options;

/// What the gateway does, checked. Durations and byte counts are what they say; a port of 0 means any free one.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `server_name`, `-name`. Default: none, the server's id takes its place.
    pub server_name: Option<String>,
    /// `server_tags`, without blanks around them. Default: none.
    pub server_tags: Vec<String>,
    /// NATS clients: `listen`, `host`, `port`, `tls`, `client_advertise`. Default: 0.0.0.0:4222 without TLS.
    pub client: ClientListener,
    /// `http`, `http_port`. Default: off.
    pub monitoring: Option<Monitoring>,
    /// `mqtt`. Default: off.
    pub mqtt: Option<Mqtt>,
    /// `websocket`. Default: off.
    pub websocket: Option<WebSocket>,
    /// `authorization` and `no_auth_user`. Default: nobody is asked.
    pub authorization: Authorization,
    /// Limits and deadlines of NATS clients.
    pub limits: ClientLimits,
    /// `lame_duck_duration`, `lame_duck_grace_period`.
    pub lame_duck: LameDuck,
    /// Our block `limits`: budgets of memory.
    pub memory: MemoryLimits,
    /// Our block `mqtt_limits`.
    pub mqtt_limits: MqttLimits,
    /// `jetstream`, `store_dir`. Default: off, unless `mqtt`, `streams` or `forward` need it.
    pub jetstream: Option<JetStream>,
    /// `leafnodes`: links that we dial.
    pub leafnodes: LeafNodes,
    /// Our block `uplink`: deadlines of those links.
    pub uplink: Uplink,
    /// Our block `streams`, in the order of the file.
    pub streams: Vec<Stream>,
    /// Our block `forward`, in the order of the file.
    pub forwards: Vec<Forward>,
    /// Our block `gaps`. There when something is forwarded.
    pub gaps: Option<Gaps>,
    /// Where and how much is logged.
    pub log: Log,
    /// `pid_file`. Default: none.
    pub pid_file: Option<PathBuf>,
    /// `ports_file_dir`. Default: none.
    pub ports_file_dir: Option<PathBuf>,
    /// The file it was read from, as named on the command line.
    pub config_file: Option<String>,
    /// `sha256:…` of what the file says; stock gives the same for the same file. Empty without a file.
    pub digest: String,
    /// No configuration at all: the first lines say what was opened and how to try it.
    pub from_nothing: bool,
}

impl Config {
    /// Forwards in the order of the file, and the one of gap records behind them.
    pub fn all_forwards(&self) -> impl Iterator<Item = &Forward> {
        self.forwards.iter().chain(self.gaps.iter().filter_map(|gaps| gaps.forward.as_ref()))
    }

    /// Listeners that other machines can reach and that ask nobody who they are: to be warned of, loudly.
    pub fn open_to_everybody(&self) -> Vec<(&'static str, &Listen)> {
        let shared = &self.authorization;
        let mqtt = self.mqtt.as_ref().map(|mqtt| ("mqtt", &mqtt.listen, mqtt.authorization.as_ref()));
        let websocket = self.websocket.as_ref();
        let websocket = websocket.map(|websocket| ("websocket", &websocket.listen, websocket.authorization.as_ref()));
        let all = [Some(("client", &self.client.listen, None)), mqtt, websocket];
        let open = |own: Option<&Authorization>| own.unwrap_or(shared).credentials == Credentials::None;
        let reachable = all.into_iter().flatten().filter(|(_, listen, own)| !listen.is_loopback() && open(*own));
        reachable.map(|(name, listen, _)| (name, listen)).collect()
    }
}

/// A configuration, and what is to be said about it.
#[derive(Debug)]
pub struct Loaded {
    /// What to do.
    pub config: Config,
    /// Warnings fail `-t`; notices are only said. No errors.
    pub report: Report,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file can't be read, or is not in the language.
    Text(String),
    /// Everything that is wrong, in the order of the file's blocks.
    Checks(Vec<Diagnostic>),
}

impl std::error::Error for LoadError {}

impl fmt::Display for LoadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => out.write_str(text),
            Self::Checks(lines) => {
                let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
                out.write_str(&lines.join("\n"))
            }
        }
    }
}

/// Reads the file that the flags name, if any, lets the flags override it, and checks the result.
///
/// # Errors
/// A file that can't be read, or everything that is wrong with it.
pub fn load(options: &Options, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, LoadError> {
    let mut report = Report::default();
    let mut draft = match &options.config {
        Some(file) => top_level::from_file(file, environment, &mut report)?,
        None if opens_nothing(options) => top_level::from_nothing(),
        None => top_level::Draft::default(),
    };
    override_by_flags::apply(options, &mut draft, &mut report);
    let config = check::finish(draft, environment, &mut report);
    match config {
        Some(config) if report.errors.is_empty() => Ok(Loaded { config, report }),
        _ => {
            // A value that is missing because it was wrong has been reported where it stands.
            sort_by_place(&mut report.errors);
            Err(LoadError::Checks(report.errors))
        }
    }
}

/// True when no flag says what to open: then everything is opened, on loopback.
fn opens_nothing(options: &Options) -> bool {
    options.addr.is_none() && options.port.is_none() && options.http_port.is_none() && options.jetstream.is_none()
}

/// By line within a file, as people read; what has no place comes last.
fn sort_by_place(errors: &mut [Diagnostic]) {
    errors.sort_by_key(|error| match &error.position {
        Some(position) => (0, position.file.to_string(), position.line, position.column),
        None => (1, String::new(), 0, 0),
    });
}
