//! What an uplink is told at construction, checked once.

use crate::address::{Address, Scheme};
use crate::credentials::{Credentials, CredentialsError};

/// Deadlines and pauses, milliseconds. The defaults are generous: a GSM link with 2 s of round trip must get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// TCP connect (with name resolution, and the upgrade of a WebSocket). Default 10 s.
    pub dial_ms: u64,
    /// From connected to the first INFO. Default 10 s.
    pub first_info_ms: u64,
    /// TLS handshake. Default 15 s.
    pub tls_ms: u64,
    /// From CONNECT to the INFO that completes the handshake. Default 10 s.
    pub connect_info_ms: u64,
    /// Own PING when nothing was received for so long. Default 5 s.
    pub ping_interval_ms: u64,
    /// The link is dead when nothing was received for so long. Default 15 s.
    pub dead_after_ms: u64,
    /// A dial that hangs is repeated beside itself so often: a lost first packet must not cost seconds. Default 1 s.
    pub dial_again_ms: u64,
    /// First pause before a dial. Default 250 ms.
    pub reconnect_ms: u64,
    /// Longest pause before a dial while the link was lost a short time ago. Default 600 ms: the first message is at the hub within a second.
    pub quick_max_ms: u64,
    /// That short time. Default 2 minutes.
    pub quick_for_ms: u64,
    /// Longest pause before a dial. Default 60 s.
    pub reconnect_max_ms: u64,
    /// First pause after refused credentials. Default 1 s.
    pub refused_ms: u64,
    /// Longest pause after refused credentials. Default 60 s.
    pub refused_max_ms: u64,
    /// A link up for so long was a good one: pauses begin small again. Default 10 s.
    pub stable_after_ms: u64,
    /// When the network changed under a link that is up, it must bring a byte within four round trips, and this time at least; else it is dialled
    /// anew: what waits in it would be repeated only after a pause as long as the outage. Three times as long where no round trip is known. Default 1 s.
    pub probe_ms: u64,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            dial_ms: 10_000,
            first_info_ms: 10_000,
            tls_ms: 15_000,
            connect_info_ms: 10_000,
            ping_interval_ms: 5_000,
            dead_after_ms: 15_000,
            dial_again_ms: 1_000,
            reconnect_ms: 250,
            quick_max_ms: 600,
            quick_for_ms: 120_000,
            reconnect_max_ms: 60_000,
            refused_ms: 1_000,
            refused_max_ms: 60_000,
            stable_after_ms: 10_000,
            probe_ms: 1_000,
        }
    }
}

/// What CONNECT says of us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalServer {
    /// Version of nats-server we are compatible with: hubs check it against `min_version`.
    pub version: String,
    /// Id of this process.
    pub server_id: String,
    /// Server name; sent as `cluster` too, as a stand-alone stock server does.
    pub name: String,
    /// JetStream domain.
    pub domain: Option<String>,
    /// Is JetStream on?
    pub jetstream: bool,
    /// The local account the link is bound to.
    pub account: String,
    /// What the hub must not send down (`deny_imports`).
    pub deny_imports: Vec<String>,
    /// Ask not to see other leafs (`request_isolation`).
    pub isolate: bool,
}

/// One remote.
#[derive(Clone, Debug)]
pub struct Config {
    /// In the order of the file.
    pub addresses: Vec<Address>,
    /// Keep that order.
    pub no_randomize: bool,
    /// Also dial what the hub's INFO names (`leafnode_urls`).
    pub use_discovered: bool,
    /// Who we are.
    pub credentials: Credentials,
    /// Own `tls` block: TLS even where the hub does not ask for it.
    pub tls: bool,
    /// TLS before INFO (`handshake_first`).
    pub handshake_first: bool,
    /// What CONNECT says of us.
    pub local: LocalServer,
    /// Deadlines.
    pub timings: Timings,
}

/// Why a remote is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No URL.
    #[error("a remote needs at least one URL")]
    NoUrl,
    /// WebSocket and TCP in one remote.
    #[error("a remote may not mix WebSocket and TCP URLs")]
    MixedSchemes,
    /// See there.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A deadline of 0, or a death before the PING.
    #[error("{0}")]
    Timings(&'static str),
}

impl Config {
    /// Checks what can't work.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let websockets = self.addresses.iter().filter(|address| address.scheme.is_websocket()).count();
        if self.addresses.is_empty() {
            return Err(ConfigError::NoUrl);
        }
        if websockets != 0 && websockets != self.addresses.len() {
            return Err(ConfigError::MixedSchemes); // as nats-server does
        }
        self.credentials.check()?;
        let times = &self.timings;
        let deadlines =
            [times.dial_ms, times.first_info_ms, times.tls_ms, times.connect_info_ms, times.ping_interval_ms];
        if deadlines.contains(&0) || times.reconnect_ms == 0 || times.dial_again_ms == 0 || times.probe_ms == 0 {
            return Err(ConfigError::Timings("a deadline of a remote may not be 0"));
        }
        if times.dead_after_ms <= times.ping_interval_ms {
            return Err(ConfigError::Timings("a link can't be dead before its PING had a chance"));
        }
        Ok(())
    }

    /// Is TLS started after (or before) INFO whatever the hub says?
    pub(crate) fn wants_tls(&self, address: &Address) -> bool {
        self.tls || address.scheme == Scheme::Tls
    }
}
