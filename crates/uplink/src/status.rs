//! What `status`, `/leafz` and the log show of a link.

use std::fmt;

/// Name of a phase, see the diagram in `link.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PhaseName {
    Idle,
    Dial,
    TlsFirst,
    WaitInfo,
    Tls,
    WaitConnectInfo,
    Up,
    Stopped,
}

impl fmt::Display for PhaseName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            PhaseName::Idle => "waiting to dial",
            PhaseName::Dial => "dialling",
            PhaseName::TlsFirst | PhaseName::Tls => "TLS handshake",
            PhaseName::WaitInfo => "waiting for INFO",
            PhaseName::WaitConnectInfo => "waiting to be accepted",
            PhaseName::Up => "up",
            PhaseName::Stopped => "stopped",
        })
    }
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it stands.
    pub phase: PhaseName,
    /// Since when, milliseconds of the caller's clock.
    pub since_ms: u64,
    /// The address dialled now or next, without secrets.
    pub address: String,
    /// Dials since the link was last up.
    pub attempts: u64,
    /// Times the link was up.
    pub sessions: u64,
    /// When the next dial is, if idle.
    pub next_dial_ms: Option<u64>,
    /// What went wrong last, a sentence; kept while the link is up.
    pub last_error: Option<String>,
    /// Name of the peer, while up.
    pub peer_name: Option<String>,
    /// Version of the peer, while up.
    pub peer_version: Option<String>,
    /// JetStream domain of the peer, while up.
    pub peer_domain: Option<String>,
    /// Largest message the peer takes, while up.
    pub peer_max_payload: Option<u64>,
    /// Round trip of the last PING, microseconds, while up.
    pub round_trip_micros: Option<u64>,
}
