//! The state machine of the dialling side.
//!
//! ```text
//!            timer                connected            (handshake_first)
//!   Idle ───────────► Dial ───────────┬──────────────► TlsFirst ─┐ TLS done
//!    ▲  ▲              │ failed       │ otherwise                │
//!    │  └──────────────┘              ▼                          │
//!    │                             WaitInfo ◄────────────────────┘
//!    │                              │    │ INFO, TLS wanted and not yet there
//!    │                        INFO  │    ▼
//!    │                              │   Tls ── done (nonce of the clear INFO) ──┐
//!    │                              ▼                                           │
//!    │                        send CONNECT ◄────────────────────────────────────┘
//!    │                              │    │ no `info_on_connect`
//!    │                              ▼    └───────────────┐
//!    │                       WaitConnectInfo ─ INFO ──► Up
//!    │                              │                    │
//!    └── any close, deadline, error ┴────────────────────┘
//! ```
//!
//! Every deadline leads to `Close{reset}` and `Idle`. Compression is not negotiated: CONNECT says `off`.

use std::collections::VecDeque;

use nats_proto::handshake::{LeafInfo, SubjectPermission};

use crate::address::{Address, Scheme};
use crate::backoff::{Backoff, Random};
use crate::config::{Config, ConfigError};
use crate::connect;
use crate::info::{self, check_port};
use crate::pool::{Candidate, Pool};
use crate::status::{PhaseName, Status};

/// Pause after "Loop detected" and a cluster with our name.
const LOOP_PAUSE_MS: u64 = 30_000;
/// Pause after a refused version.
const VERSION_PAUSE_MS: u64 = 5_000;
/// Pause between two addresses of one round: fail over at once, but not in a tight circle.
const NEXT_ADDRESS_MS: u64 = 250;
/// First PING after the link is up, as stock's: the round trip is known early.
const FIRST_PING_MS: u64 = 1_000;
/// A link that is never silent is pinged so often, to know its round trip.
const ROUND_TRIP_EVERY_MS: u64 = 60_000;
/// Boxes that leave a hub that is about to stop are spread over so long.
const LEAVE_WITHIN_MS: u64 = 1_000;
/// Longest peer text kept for `status`, bytes.
const MAX_ERROR_TEXT: usize = 512;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address; [`Scheme`] says whether it is a WebSocket.
    pub address: Address,
    /// Name to verify the certificate against: the configured host, also for discovered addresses.
    pub server_name: String,
}

/// What the hub is, known when the link is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Server name, else its id.
    pub name: String,
    /// Its id.
    pub server_id: String,
    /// Version text.
    pub version: String,
    /// JetStream domain.
    pub domain: Option<String>,
    /// Does it take headers?
    pub headers: bool,
    /// Largest message it takes; `None` when it does not say.
    pub max_payload: Option<u64>,
    /// Its JetStream API level, 0 unknown.
    pub api_level: u64,
    /// Its account.
    pub remote_account: String,
    /// What we may receive.
    pub import: Option<SubjectPermission>,
    /// What we may send.
    pub export: Option<SubjectPermission>,
}

/// What the owner of the socket is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection; for WebSocket schemes including TLS and the upgrade. Report `handle_connected` or `handle_failed`.
    Dial {
        /// Where to.
        target: Target,
        /// Give up after so long; the uplink does so too.
        timeout_ms: u64,
        /// While there is no answer, try again beside what hangs so often; the first connection wins.
        again_ms: u64,
    },
    /// Start the TLS client handshake. Report `handle_tls_done` or `handle_closed`.
    StartTls {
        /// Name to verify.
        server_name: String,
    },
    /// Send these bytes, a CONNECT line.
    SendConnect(Vec<u8>),
    /// Send a PING.
    SendPing,
    /// The link is up: send the complete interest.
    Up(Box<PeerInfo>),
    /// The hub announced other permissions or values while up.
    Refreshed(Box<PeerInfo>),
    /// The link is no longer up: forget the hub's interest. Comes before the `Close`.
    Down,
    /// Close the socket, if there is one.
    Close {
        /// With a reset (`SO_LINGER` 0), so that the kernel delivers nothing behind our back.
        reset: bool,
        /// Send this `-ERR` text before.
        error: Option<&'static str>,
    },
}

/// A phase and its data.
#[derive(Debug)]
enum Phase {
    Idle { until: u64 },
    Dial { deadline: u64 },
    TlsFirst { deadline: u64 },
    WaitInfo { deadline: u64, secure: bool },
    Tls { deadline: u64, info: Box<LeafInfo> },
    WaitConnectInfo { deadline: u64, info: Box<LeafInfo> },
    Up { peer: Box<PeerInfo>, received: u64, pinged: Option<u64>, probe: Option<Probe> },
    Stopped,
}

/// The network changed under a link that is up: does it still carry anything?
#[derive(Clone, Copy, Debug)]
struct Probe {
    asked: u64,
    until: u64,
}

/// Texts after which the same dial would soon end the same way: stock pauses for the first two, and lets the third go round for ever.
const PAUSING: [&str; 3] =
    ["Loop detected", "remote leafnode has same cluster name", "Duplicate Remote LeafNode Connection"];

/// What a person can do about a refusal whose text does not say it.
fn advice(text: &str) -> &'static str {
    if text.contains("Duplicate Remote LeafNode Connection") {
        " (another gateway with the same server_name, or another remote, is linked to the same account: give each a name of its own, or remove one)"
    } else if text.contains("remote leafnode has same cluster name") {
        " (the hub's cluster is called like this gateway: change server_name)"
    } else {
        ""
    }
}

/// How the last session went, for the next pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// The network, or nobody.
    Network,
    /// The hub refused our credentials.
    Refused,
    /// A text that asks for a fixed pause.
    Pause(u64),
}

/// One remote's link.
pub struct Uplink {
    config: Config,
    random: Random,
    phase: Phase,
    since: u64,
    pool: Pool,
    network: Backoff,
    refused: Backoff,
    blame: Blame,
    actions: VecDeque<Action>,
    attempts: u64,
    sessions: u64,
    last_dial: u64,
    round_trip_micros: Option<u64>,
    last_error: Option<String>,
}

impl Uplink {
    /// Starts idle; the first dial is due at once.
    ///
    /// # Errors
    /// When the configuration can't work.
    pub fn new(config: Config, seed: u64, now_ms: u64) -> Result<Uplink, ConfigError> {
        config.check()?;
        let mut random = Random::new(seed);
        let pool = Pool::new(&config, &mut random);
        let times = config.timings;
        Ok(Uplink {
            random,
            phase: Phase::Idle { until: now_ms },
            since: now_ms,
            pool,
            network: Backoff::new(&times, now_ms),
            refused: Backoff::growing(times.refused_ms.max(times.reconnect_ms), times.refused_max_ms),
            blame: Blame::Network,
            actions: VecDeque::new(),
            attempts: 0,
            sessions: 0,
            last_dial: 0,
            round_trip_micros: None,
            last_error: None,
            config,
        })
    }

    /// The clock moved.
    pub fn handle_tick(&mut self, now_ms: u64) {
        match &self.phase {
            Phase::Idle { until } if now_ms >= *until => self.dial(now_ms),
            Phase::Dial { deadline } if now_ms >= *deadline => self.give_up(now_ms, "no connection in time", None),
            Phase::TlsFirst { deadline } | Phase::Tls { deadline, .. } if now_ms >= *deadline => {
                self.give_up(now_ms, "TLS handshake not finished in time", None);
            }
            Phase::WaitInfo { deadline, .. } if now_ms >= *deadline => {
                self.give_up(now_ms, "no INFO in time (is it a leafnode port, does it want TLS first?)", None);
            }
            Phase::WaitConnectInfo { deadline, .. } if now_ms >= *deadline => {
                let text = "Stale Leaf Node Connection - Closing"; // as stock says
                self.give_up(now_ms, "the hub did not complete the handshake in time", Some(text));
            }
            Phase::Up { .. } => self.keep_alive(now_ms),
            _ => {}
        }
    }

    /// The connection is there.
    pub fn handle_connected(&mut self, now_ms: u64) {
        let Phase::Dial { .. } = self.phase else { return };
        let secure = self.candidate().address.scheme == Scheme::WebSocketTls;
        let is_websocket = self.candidate().address.scheme.is_websocket();
        if self.config.handshake_first && !is_websocket {
            self.actions.push_back(Action::StartTls { server_name: self.candidate().server_name.clone() });
            self.enter(now_ms, Phase::TlsFirst { deadline: now_ms + self.config.timings.tls_ms });
        } else {
            self.enter(now_ms, Phase::WaitInfo { deadline: now_ms + self.config.timings.first_info_ms, secure });
        }
    }

    /// The connection could not be made.
    pub fn handle_failed(&mut self, now_ms: u64, reason: &str) {
        if let Phase::Dial { .. } = self.phase {
            self.note(reason);
            self.rest(now_ms);
        }
    }

    /// The TLS handshake is done.
    pub fn handle_tls_done(&mut self, now_ms: u64) {
        match std::mem::replace(&mut self.phase, Phase::Stopped) {
            Phase::TlsFirst { .. } => {
                let deadline = now_ms + self.config.timings.first_info_ms;
                self.enter(now_ms, Phase::WaitInfo { deadline, secure: true });
            }
            // INFO is not repeated; the nonce of the clear one stays valid.
            Phase::Tls { info, .. } => self.send_connect(now_ms, info),
            other => self.phase = other,
        }
    }

    /// An INFO arrived: the JSON after the verb.
    pub fn handle_info(&mut self, now_ms: u64, json: &[u8]) {
        let info = match info::decode(json) {
            Ok(info) => Box::new(info),
            Err(error) => return self.give_up(now_ms, &error.to_string(), None),
        };
        match std::mem::replace(&mut self.phase, Phase::Stopped) {
            Phase::WaitInfo { deadline, secure } => {
                self.phase = Phase::WaitInfo { deadline, secure };
                self.first_info(now_ms, info, secure);
            }
            Phase::WaitConnectInfo { info: first, .. } if info.connect_info => self.go_up(now_ms, &first, &info),
            Phase::Up { mut peer, received, pinged, probe } => {
                let before = peer.clone();
                refresh(&mut peer, &info);
                if peer != before {
                    self.actions.push_back(Action::Refreshed(peer.clone()));
                }
                self.phase = Phase::Up { peer, received: received.max(now_ms), pinged, probe };
                self.pool.discover(&self.config, &info, &mut self.random);
                if info.ldm {
                    self.leave(now_ms);
                }
            }
            // A repeated INFO without `connect_info` refreshes URLs only.
            other => {
                self.phase = other;
                self.pool.discover(&self.config, &info, &mut self.random);
            }
        }
    }

    /// The hub sent `-ERR '<text>'`. It does not close the link by itself.
    pub fn handle_error_text(&mut self, _now_ms: u64, text: &str) {
        let advice = advice(text);
        self.note(&format!("the hub says: {text}{advice}"));
        if PAUSING.iter().any(|cause| text.contains(cause)) {
            self.blame = Blame::Pause(LOOP_PAUSE_MS);
        } else if text.contains("connection rejected since minimum version required is") {
            self.blame = Blame::Pause(VERSION_PAUSE_MS);
        } else if ["Authorization Violation", "Authentication Expired", "maximum account active connections"]
            .iter()
            .any(|refusal| text.contains(refusal))
        {
            self.blame = Blame::Refused;
        }
    }

    /// The connection ended, or its TLS failed.
    pub fn handle_closed(&mut self, now_ms: u64, reason: &str) {
        if !matches!(self.phase, Phase::Idle { .. } | Phase::Stopped) {
            if self.blame == Blame::Network {
                self.note(reason);
            }
            self.close(now_ms, None);
        }
    }

    /// Bytes arrived, whatever they are.
    pub fn handle_received(&mut self, now_ms: u64, bytes: usize) {
        if let Phase::Up { received, probe, .. } = &mut self.phase
            && bytes > 0
        {
            *received = now_ms.max(*received);
            *probe = probe.filter(|probe| *received <= probe.asked);
        }
    }

    /// The answer to a PING came after so many microseconds.
    pub fn handle_pong(&mut self, now_ms: u64, round_trip_micros: u64) {
        if self.is_up() {
            self.round_trip_micros = Some(round_trip_micros);
            self.handle_received(now_ms, 1);
        }
    }

    /// Close for good, without a reset: what was sent may still arrive.
    pub fn handle_shutdown(&mut self, now_ms: u64) {
        if let Phase::Up { .. } = self.phase {
            self.actions.push_back(Action::Down);
        }
        if !matches!(self.phase, Phase::Idle { .. } | Phase::Stopped) {
            self.actions.push_back(Action::Close { reset: false, error: None });
        }
        self.enter(now_ms, Phase::Stopped);
    }

    /// The network changed (an address or a route appeared): dial soon instead of waiting, and make sure that a link that is up still is. Fixed pauses
    /// that a hub asked for stay.
    pub fn handle_network_up(&mut self, now_ms: u64) {
        let times = self.config.timings;
        match &mut self.phase {
            Phase::Idle { until } if !matches!(self.blame, Blame::Pause(_)) => {
                if self.blame == Blame::Network {
                    self.network.reset(now_ms);
                }
                // Changes come in bursts.
                let earliest = if self.attempts == 0 { now_ms } else { self.last_dial + times.reconnect_ms };
                *until = earliest.max(now_ms).min(*until);
            }
            Phase::Up { pinged, probe: probe @ None, .. } => {
                let round_trips = self.round_trip_micros.map_or(times.probe_ms * 3, |one| one / 1000 * 4);
                let patience = times.probe_ms.max(round_trips);
                *probe = Some(Probe { asked: now_ms, until: now_ms + patience });
                *pinged = Some(now_ms);
                self.actions.push_back(Action::SendPing);
            }
            Phase::TlsFirst { .. } | Phase::WaitInfo { .. } | Phase::Tls { .. } | Phase::WaitConnectInfo { .. }
                if now_ms >= self.since + times.probe_ms =>
            {
                // Perhaps it goes to somebody else altogether, who answers on another network.
                self.network.reset(now_ms);
                self.give_up(now_ms, "the network changed during the handshake", None);
            }
            // A dial is repeated by itself; the other phases are young or over.
            _ => {}
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Uplink::handle_tick`] is due, milliseconds.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        match &self.phase {
            Phase::Idle { until } => Some(*until),
            Phase::Dial { deadline }
            | Phase::TlsFirst { deadline }
            | Phase::WaitInfo { deadline, .. }
            | Phase::Tls { deadline, .. }
            | Phase::WaitConnectInfo { deadline, .. } => Some(*deadline),
            Phase::Up { received, pinged, probe, .. } => {
                let dead = *received + self.config.timings.dead_after_ms;
                let due = self.next_ping(*received, *pinged).min(dead);
                Some(probe.map_or(due, |probe| due.min(probe.until)))
            }
            Phase::Stopped => None,
        }
    }

    /// Is the link up?
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// For `status`.
    #[must_use]
    pub fn status(&self) -> Status {
        let peer = match &self.phase {
            Phase::Up { peer, .. } => Some(peer),
            _ => None,
        };
        Status {
            phase: match &self.phase {
                Phase::Idle { .. } => PhaseName::Idle,
                Phase::Dial { .. } => PhaseName::Dial,
                Phase::TlsFirst { .. } => PhaseName::TlsFirst,
                Phase::WaitInfo { .. } => PhaseName::WaitInfo,
                Phase::Tls { .. } => PhaseName::Tls,
                Phase::WaitConnectInfo { .. } => PhaseName::WaitConnectInfo,
                Phase::Up { .. } => PhaseName::Up,
                Phase::Stopped => PhaseName::Stopped,
            },
            since_ms: self.since,
            address: self.candidate().address.to_string(),
            attempts: self.attempts,
            sessions: self.sessions,
            next_dial_ms: if let Phase::Idle { until } = self.phase { Some(until) } else { None },
            last_error: self.last_error.clone(),
            peer_name: peer.map(|peer| peer.name.clone()),
            peer_version: peer.map(|peer| peer.version.clone()),
            peer_domain: peer.and_then(|peer| peer.domain.clone()),
            peer_max_payload: peer.and_then(|peer| peer.max_payload),
            round_trip_micros: self.round_trip_micros.filter(|_| peer.is_some()),
        }
    }

    /// When the next PING is due: after silence, and now and then to know the round trip.
    fn next_ping(&self, received: u64, pinged: Option<u64>) -> u64 {
        let silent = received.max(pinged.unwrap_or(0)) + self.config.timings.ping_interval_ms;
        let round_trip = pinged.map_or(self.since + FIRST_PING_MS, |pinged| pinged + ROUND_TRIP_EVERY_MS);
        silent.min(round_trip)
    }

    fn enter(&mut self, now_ms: u64, phase: Phase) {
        self.phase = phase;
        self.since = now_ms;
    }

    fn candidate(&self) -> &Candidate {
        self.pool.current()
    }

    fn note(&mut self, text: &str) {
        let mut end = text.len().min(MAX_ERROR_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.last_error = Some(text[..end].to_owned());
    }

    fn dial(&mut self, now_ms: u64) {
        self.attempts += 1;
        self.pool.dialled();
        self.blame = Blame::Network;
        self.last_dial = now_ms;
        let (timeout_ms, again_ms) = (self.config.timings.dial_ms, self.config.timings.dial_again_ms);
        let candidate = self.candidate();
        let target = Target { address: candidate.address.clone(), server_name: candidate.server_name.clone() };
        self.actions.push_back(Action::Dial { target, timeout_ms, again_ms });
        self.enter(now_ms, Phase::Dial { deadline: now_ms + timeout_ms });
    }

    fn first_info(&mut self, now_ms: u64, info: Box<LeafInfo>, secure: bool) {
        if let Err(error) = check_port(&info) {
            return self.give_up(now_ms, &error.to_string(), None);
        }
        self.pool.discover(&self.config, &info, &mut self.random);
        let wanted = info.tls_required || self.config.wants_tls(&self.candidate().address);
        // A WebSocket's TLS is part of the dialling; `ws://` behind a terminating proxy has none on our side.
        if wanted && !secure && !self.candidate().address.scheme.is_websocket() {
            self.actions.push_back(Action::StartTls { server_name: self.candidate().server_name.clone() });
            self.enter(now_ms, Phase::Tls { deadline: now_ms + self.config.timings.tls_ms, info });
        } else {
            self.send_connect(now_ms, info);
        }
    }

    fn send_connect(&mut self, now_ms: u64, info: Box<LeafInfo>) {
        match connect::line(&self.config, &self.candidate().address, &info) {
            Ok(line) => self.actions.push_back(Action::SendConnect(line)),
            Err(error) => {
                // `close` looks at the phase: a socket is open.
                self.phase = Phase::WaitConnectInfo { deadline: now_ms, info };
                self.blame = Blame::Refused;
                return self.give_up(now_ms, &error.to_string(), None);
            }
        }
        if info.info_on_connect {
            self.enter(now_ms, Phase::WaitConnectInfo { deadline: now_ms + self.config.timings.connect_info_ms, info });
        } else {
            self.go_up(now_ms, &info, &info);
        }
    }

    /// `first` is the greeting, `last` the INFO that completed the handshake; it wins where both say something.
    fn go_up(&mut self, now_ms: u64, first: &LeafInfo, last: &LeafInfo) {
        self.pool.discover(&self.config, last, &mut self.random);
        let mut peer = Box::new(PeerInfo {
            name: String::new(),
            server_id: String::new(),
            version: String::new(),
            domain: None,
            headers: first.headers,
            max_payload: None,
            api_level: 0,
            remote_account: last.remote_account.clone(),
            import: None,
            export: None,
        });
        refresh(&mut peer, first);
        refresh(&mut peer, last);
        self.actions.push_back(Action::Up(peer.clone()));
        self.sessions += 1;
        self.attempts = 0;
        self.pool.is_up();
        self.round_trip_micros = None;
        self.enter(now_ms, Phase::Up { peer, received: now_ms, pinged: None, probe: None });
        if last.ldm {
            self.leave(now_ms);
        }
    }

    /// The hub is about to stop: on to another one, if there is one, while this one still takes our farewell.
    fn leave(&mut self, now_ms: u64) {
        self.note("the hub is about to stop (lame duck mode)");
        if !self.pool.has_others() {
            return;
        }
        self.actions.push_back(Action::Down);
        self.actions.push_back(Action::Close { reset: false, error: None });
        self.session_ended(now_ms);
        self.pool.leave();
        let until = now_ms + self.random.below(LEAVE_WITHIN_MS);
        self.enter(now_ms, Phase::Idle { until });
    }

    /// A good session makes the next pauses short again.
    fn session_ended(&mut self, now_ms: u64) {
        if now_ms >= self.since + self.config.timings.stable_after_ms {
            self.network.reset(now_ms);
            self.refused.reset(now_ms);
        }
    }

    fn keep_alive(&mut self, now_ms: u64) {
        let Phase::Up { received, pinged, probe, .. } = &self.phase else { return };
        if now_ms >= *received + self.config.timings.dead_after_ms {
            return self.give_up(now_ms, "nothing was received from the hub for too long", Some("Stale Connection"));
        }
        if probe.is_some_and(|probe| now_ms >= probe.until) {
            return self.give_up(now_ms, "the network changed, and the link carries nothing any more", None);
        }
        if now_ms >= self.next_ping(*received, *pinged) {
            if let Phase::Up { pinged, .. } = &mut self.phase {
                *pinged = Some(now_ms);
            }
            self.actions.push_back(Action::SendPing);
        }
    }

    /// Our own decision to end the session.
    fn give_up(&mut self, now_ms: u64, why: &str, text: Option<&'static str>) {
        self.note(why);
        self.close(now_ms, text);
    }

    fn close(&mut self, now_ms: u64, error: Option<&'static str>) {
        if let Phase::Up { .. } = self.phase {
            self.actions.push_back(Action::Down);
            self.session_ended(now_ms);
        }
        if !matches!(self.phase, Phase::Idle { .. }) {
            self.actions.push_back(Action::Close { reset: true, error });
        }
        self.rest(now_ms);
    }

    /// Chooses the next address and the pause before it.
    fn rest(&mut self, now_ms: u64) {
        let round_is_over = self.pool.advance();
        let pause = match self.blame {
            Blame::Pause(pause) => pause + self.random.below(1_000),
            Blame::Refused => self.refused.next_pause(now_ms, &mut self.random),
            Blame::Network if round_is_over => self.network.next_pause(now_ms, &mut self.random),
            Blame::Network => NEXT_ADDRESS_MS / 2 + self.random.below(NEXT_ADDRESS_MS),
        };
        self.enter(now_ms, Phase::Idle { until: now_ms + pause });
    }
}

/// Later INFOs may lack what an earlier one said.
fn refresh(peer: &mut PeerInfo, info: &LeafInfo) {
    if !info.server_id.is_empty() {
        peer.server_id.clone_from(&info.server_id);
    }
    if !info.server_name.is_empty() {
        peer.name.clone_from(&info.server_name);
    } else if peer.name.is_empty() {
        peer.name.clone_from(&info.server_id);
    }
    if !info.version.is_empty() {
        peer.version.clone_from(&info.version);
    }
    if !info.domain.is_empty() {
        peer.domain = Some(info.domain.clone());
    }
    if info.max_payload > 0 {
        peer.max_payload = Some(info.max_payload);
    }
    if info.api_lvl > 0 {
        peer.api_level = info.api_lvl;
    }
    // An INFO that is not about the account says nothing of permissions; one that is says all of them.
    if info.connect_info || info.import.is_some() || info.export.is_some() {
        peer.import.clone_from(&info.import);
        peer.export.clone_from(&info.export);
    }
}
