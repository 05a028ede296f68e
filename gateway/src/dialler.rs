//! The sockets and timers around `uplink`: one task per remote, which dials, shakes hands and hands the connection to the core.
//!
//! ```text
//!  Uplink ─ Dial, StartTls, SendConnect ─► Socket ─ frames ─► Uplink ─ Up ─► core.attach, leaf_established ─► Notices ─► forwards
//!     ▲                                                                         │
//!     └── LinkNotice (INFO, -ERR, closed), last_activity ◄── broker ◄───────────┘
//! ```
//!
//! Promises: whatever a hub does costs its link and nothing else; a link that is given up is reset before the next dial; a network that comes back
//! is used within a second or so (`connect`, `network`). Not here: when to dial and when a link is dead (`uplink`), interest and messages (`broker`).

mod connect;
mod failure;
mod network;
mod settings;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use broker::{CloseReason, ConnectionId, LinkFacts, LinkPermissions, NewConnection, Protocol, TlsFacts};
use forward::Hub;
use nats_proto::client::Limits;
use nats_proto::handshake::SubjectPermission;
use nats_proto::leaf::{Decoded, LeafOp, decode};
use rustls::ClientConfig;
use server::status::{LinkStatus, SharedStatus};
use server::tls::DialTls;
use server::{Clock, CoreHandle};
use subject::Filter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uplink::{Action, LocalServer, PeerInfo, PhaseName, Scheme, Target, Uplink};

use crate::config::{Config, Remote};
use crate::notices::{LinkNotice, Notices};
use network::NetworkWatch;
use socket::{Dial, Progress, Socket, Wire};

/// What a hub may send before its handshake is complete, bytes: its interest, and messages.
const MAX_EARLY: usize = 1 << 20;
/// A hub asks anew for what it is not sent every few seconds: what it has not asked for so long is no trouble any more, milliseconds.
const WITHHELD_MS: u64 = 120_000;
/// `max_payload` of a hub that does not say.
const DEFAULT_MAX_PAYLOAD: usize = 1 << 20;

/// The remotes that are being dialled.
#[derive(Debug, Default)]
pub struct Links {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Links {
    /// Returns when all tasks have ended, after the stop.
    pub async fn ended(self) {
        for task in self.tasks {
            // A task that panicked has ended too.
            let _ = task.await;
        }
    }
}

/// Starts a task per remote, which ends with `stop`. Files are read here. To be called on the core thread, behind
/// [`Notices::connect`]; `status.links` is filled.
///
/// # Errors
/// Files that can't be used, and what a remote may not be.
pub fn spawn_remotes(
    core: &CoreHandle,
    config: &Config,
    status: &SharedStatus,
    notices: &Notices,
    stop: &CancellationToken,
) -> anyhow::Result<Links> {
    let mut diallers = Vec::new();
    status.borrow_mut().links.clear();
    for remote in &config.leafnodes.remotes {
        diallers.push(Dialler::new(core, config, remote, status, notices)?);
    }
    status.borrow_mut().links = vec![LinkStatus::default(); diallers.len()];
    let run =
        |(index, dialler): (usize, Dialler)| tokio::task::spawn_local(Dialler { index, ..dialler }.run(stop.clone()));
    Ok(Links { tasks: diallers.into_iter().enumerate().map(run).collect() })
}

/// A link that belongs to the core.
struct Attached {
    id: ConnectionId,
    notices: mpsc::Receiver<LinkNotice>,
}

/// One remote.
struct Dialler {
    core: CoreHandle,
    clock: Clock,
    status: SharedStatus,
    notices: Notices,
    index: usize,
    uplink: Uplink,
    tls: DialTls,
    /// Made when it is first needed, if the remote does not ask for TLS itself.
    client_config: Option<Arc<ClientConfig>>,
    /// WebSocket frames go unmasked where the hub agrees.
    no_masking: bool,
    /// See [`crate::config::Uplink::stall_timeout`].
    stall: Duration,
    limits: Limits,
    denied: LinkPermissions,
    socket: Socket,
    wire: Option<Wire>,
    attached: Option<Attached>,
    /// What came before the handshake was complete.
    early: Vec<u8>,
    said: Option<String>,
    /// What the hub of this link could not be sent last, and when.
    withheld: Option<(String, u64)>,
}

impl Dialler {
    fn new(
        core: &CoreHandle,
        config: &Config,
        remote: &Remote,
        status: &SharedStatus,
        notices: &Notices,
    ) -> anyhow::Result<Dialler> {
        let (local, max_payload, max_control_line, clock) = core.with(|core| {
            let settings = core.broker.settings();
            let jetstream = settings.jetstream.as_ref();
            let local = LocalServer {
                version: settings.server.version.to_string(),
                server_id: settings.server.id.to_string(),
                name: settings.server.name.to_string(),
                domain: jetstream.and_then(|settings| settings.domain.as_deref()).map(str::to_owned),
                jetstream: jetstream.is_some(),
                account: "$G".to_owned(),
                ..LocalServer::default()
            };
            (local, settings.max_payload, settings.max_control_line, core.clock)
        });
        let tls = settings::dial_tls(remote);
        // Files that can't be used are told before anything is dialled.
        let client_config = remote.tls.as_ref().map(|_| server::tls::client_config(&tls)).transpose()?;
        let seed = getrandom::u64()?;
        let uplink = Uplink::new(settings::uplink_config(config, remote, local)?, seed, millis(clock))?;
        let limits = Limits { max_control_line: max_control_line.saturating_mul(16), max_payload, headers: true };
        Ok(Dialler {
            core: core.clone(),
            clock,
            status: status.clone(),
            notices: notices.clone(),
            index: 0,
            uplink,
            tls,
            client_config,
            no_masking: remote.websocket_no_masking,
            stall: config.uplink.stall_timeout,
            limits,
            denied: LinkPermissions {
                import_deny: filters(&remote.deny_imports),
                export_deny: filters(&remote.deny_exports),
                ..LinkPermissions::default()
            },
            socket: Socket::Closed,
            wire: None,
            attached: None,
            early: Vec::new(),
            said: None,
            withheld: None,
        })
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut stopping = false;
        let mut network = NetworkWatch::start();
        loop {
            while let Some(action) = self.uplink.poll_action() {
                self.perform(action).await;
            }
            self.show();
            if stopping {
                return;
            }
            let due = self.uplink.poll_timeout().map(|at| self.clock.instant(at.saturating_mul(1000)));
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => {
                    self.uplink.handle_shutdown(millis(self.clock));
                    stopping = true;
                }
                progress = self.socket.progress(self.limits) => self.progressed(progress).await,
                notice = next_notice(&mut self.attached) => self.noticed(notice),
                () = network.changed() => {
                    self.tick();
                    self.uplink.handle_network_up(millis(self.clock));
                }
                () = sleep => self.tick(),
            }
        }
    }

    /// A link is judged by the bytes it brought.
    fn tick(&mut self) {
        if let Some(attached) = &self.attached {
            let activity = self.core.with(|core| {
                core.broker.leaf_check_loop(core.clock.now(), attached.id, &mut core.out);
                core.broker.last_activity(attached.id)
            });
            if let Some(micros) = activity {
                self.uplink.handle_received(micros / 1000, 1);
            }
        }
        self.uplink.handle_tick(millis(self.clock));
    }

    async fn progressed(&mut self, progress: Progress) {
        let now = millis(self.clock);
        match progress {
            Progress::Connected => {
                self.wire = self.socket.wire();
                self.uplink.handle_connected(now);
            }
            Progress::Secured => self.uplink.handle_tls_done(now),
            Progress::Frame(frame) => self.frame(now, frame).await,
            Progress::Ended(reason) => {
                self.socket = Socket::Closed;
                if self.uplink.status().phase == PhaseName::Dial {
                    self.uplink.handle_failed(now, &reason);
                } else {
                    self.uplink.handle_closed(now, &reason);
                }
            }
        }
    }

    /// Something of the handshake, or what came before its end.
    async fn frame(&mut self, now: u64, frame: Vec<u8>) {
        match decode(&frame, &self.limits) {
            Ok(Decoded::Op(LeafOp::Info(json), _)) => self.uplink.handle_info(now, json),
            Ok(Decoded::Op(LeafOp::Err(text), _)) => {
                self.uplink.handle_error_text(now, &String::from_utf8_lossy(text));
            }
            Ok(Decoded::Op(LeafOp::Ping, _)) => {
                if let Err(error) = self.socket.write(b"PONG\r\n").await {
                    self.uplink.handle_closed(now, &error.to_string());
                }
            }
            Ok(Decoded::Op(LeafOp::Pong | LeafOp::Ok, _)) => {}
            _ if self.early.len() + frame.len() <= MAX_EARLY => self.early.extend_from_slice(&frame),
            _ => self.uplink.handle_closed(now, "the hub sends and sends without completing the handshake"),
        }
    }

    fn noticed(&mut self, notice: Option<LinkNotice>) {
        let now = millis(self.clock);
        match notice {
            Some(LinkNotice::Info(json)) => self.uplink.handle_info(now, &json),
            Some(LinkNotice::Error(text)) => self.uplink.handle_error_text(now, &text),
            Some(LinkNotice::Pong(round_trip_micros)) => self.uplink.handle_pong(now, round_trip_micros.into()),
            Some(LinkNotice::Withheld(text)) => {
                if self.withheld.as_ref().is_none_or(|(known, _)| *known != text) {
                    tracing::warn!("a message can't go to the hub: {text}");
                }
                self.withheld = Some((text, now));
            }
            Some(LinkNotice::Closed(reason)) => self.closed(now, reason),
            None => self.closed(now, "the link ended"),
        }
    }

    fn closed(&mut self, now: u64, reason: &str) {
        self.attached = None;
        self.wire = None;
        self.uplink.handle_closed(now, &format!("the link ended: {reason}"));
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::Dial { target, timeout_ms, again_ms } => {
                self.early.clear();
                self.dial(&target, timeout_ms, again_ms);
            }
            Action::StartTls { server_name } => self.start_tls(&server_name),
            Action::SendConnect(line) => {
                if let Err(error) = self.socket.write(&line).await {
                    self.uplink.handle_closed(millis(self.clock), &error.to_string());
                }
            }
            Action::SendPing => {
                if let Some(attached) = &self.attached {
                    self.core.with(|core| core.broker.leaf_ping(core.clock.now(), attached.id, &mut core.out));
                }
            }
            Action::Up(peer) => self.attach(&peer),
            Action::Refreshed(peer) => {
                let facts = self.facts(&peer);
                if let Some(attached) = &self.attached {
                    self.core.with(|core| core.broker.leaf_refreshed(attached.id, facts, &mut core.out));
                    self.notices.link_changed(attached.id, hub_of(&peer));
                }
            }
            Action::Down => {
                if let Some(attached) = &self.attached {
                    self.notices.link_down(attached.id);
                }
            }
            Action::Close { reset, error } => self.close(reset, error).await,
        }
    }

    fn dial(&mut self, target: &Target, timeout_ms: u64, again_ms: u64) {
        let tls = match target.address.scheme {
            Scheme::WebSocketTls => match self.tls_config() {
                Ok(tls) => Some(tls),
                Err(error) => return self.uplink.handle_failed(millis(self.clock), &error.to_string()),
            },
            _ => None,
        };
        let dial = Dial {
            target: target.clone(),
            within: Duration::from_millis(timeout_ms),
            again: Duration::from_millis(again_ms),
            stall: self.stall,
            tls,
            no_masking: self.no_masking,
        };
        self.socket = Socket::dial(dial);
    }

    fn tls_config(&mut self) -> Result<Arc<ClientConfig>, server::tls::TlsError> {
        if let Some(config) = &self.client_config {
            return Ok(Arc::clone(config));
        }
        let config = server::tls::client_config(&self.tls)?;
        self.client_config = Some(Arc::clone(&config));
        Ok(config)
    }

    fn start_tls(&mut self, server_name: &str) {
        match self.tls_config() {
            Ok(config) => self.socket.secure(config, server_name),
            Err(error) => self.uplink.handle_closed(millis(self.clock), &error.to_string()),
        }
    }

    /// Hands the connection to the core: from here on it is the broker's.
    fn attach(&mut self, peer: &PeerInfo) {
        let Socket::Open(frames) = std::mem::replace(&mut self.socket, Socket::Closed) else { return };
        let now = millis(self.clock);
        let Ok(address) = frames.stream.tcp().peer_addr() else {
            return self.uplink.handle_closed(now, "the hub closed the connection");
        };
        let (transport, carrier) = frames.stream.into_transport();
        let new =
            NewConnection { protocol: Protocol::Leaf, transport: carrier, peer: address, tls: TlsFacts::default() };
        let id = match self.core.attach(transport, &new) {
            Ok(id) => id,
            Err(refusal) => return self.uplink.handle_closed(now, &refusal.to_string()),
        };
        let facts = self.facts(peer);
        let early = std::mem::take(&mut self.early);
        self.core.with(|core| {
            core.broker.leaf_established(id, facts, &mut core.out);
            let mut used = 0;
            while used < early.len() {
                // Complete frames: each call takes one at least.
                let now = core.clock.now();
                used += core.broker.received(now, id, &early[used..], &mut core.out).used.max(1);
            }
        });
        tracing::info!(hub = %peer.name, version = %peer.version, address = %address, "leafnode connection is up");
        self.attached = Some(Attached { id, notices: self.notices.link_up(id, hub_of(peer)) });
    }

    fn facts(&self, peer: &PeerInfo) -> LinkFacts {
        LinkFacts {
            name: peer.name.as_str().into(),
            domain: peer.domain.as_deref().unwrap_or_default().into(),
            headers: peer.headers,
            max_payload: peer.max_payload.and_then(|most| usize::try_from(most).ok()).unwrap_or(DEFAULT_MAX_PAYLOAD),
            permissions: self.permissions(peer),
        }
    }

    /// What the hub allows, and what the configuration denies.
    fn permissions(&self, peer: &PeerInfo) -> LinkPermissions {
        let mut permissions = self.denied.clone();
        let part = |of: &Option<SubjectPermission>| {
            let of = of.clone().unwrap_or_default();
            (filters(&of.allow), filters(&of.deny))
        };
        let (allow, deny) = part(&peer.import);
        permissions.import_allow = allow;
        permissions.import_deny.extend(deny);
        let (allow, deny) = part(&peer.export);
        permissions.export_allow = allow;
        permissions.export_deny.extend(deny);
        permissions
    }

    async fn close(&mut self, reset: bool, error: Option<&'static str>) {
        let farewell = error.map(|text| format!("-ERR '{text}'\r\n"));
        let attached = self.attached.take();
        if let (Some(farewell), None) = (&farewell, &attached) {
            // It is closed all the same.
            let _ = self.socket.write(farewell.as_bytes()).await;
        }
        if let Some(wire) = self.wire.take().filter(|_| reset) {
            wire.close_by_reset();
        }
        self.socket = Socket::Closed;
        let Some(attached) = attached else { return };
        self.core.with(|core| {
            if let Some(farewell) = farewell {
                core.out.append(attached.id, farewell.as_bytes());
            }
            let reason = if reset {
                CloseReason::StaleConnection
            } else {
                core.broker.leaf_withdraw(attached.id, &mut core.out);
                CloseReason::ServerShutdown
            };
            core.broker.close(attached.id, reason, &mut core.out);
        });
        self.notices.link_down(attached.id);
    }

    /// Fills `status`, and tells the log what is new.
    fn show(&mut self) {
        let (shown, now) = (self.uplink.status(), millis(self.clock));
        if shown.last_error.is_some() && shown.last_error != self.said {
            let error = shown.last_error.as_deref().unwrap_or_default();
            tracing::warn!(address = %shown.address, "leafnode connection: {error}");
            self.said.clone_from(&shown.last_error);
        }
        let link = LinkStatus {
            address: shown.address,
            up: shown.phase == PhaseName::Up,
            phase: shown.phase.to_string(),
            since_micros: shown.since_ms.saturating_mul(1000),
            next_dial_micros: shown.next_dial_ms.map(|at| at.saturating_mul(1000)),
            attempts: shown.attempts,
            sessions: shown.sessions,
            last_error: shown.last_error,
            peer_name: shown.peer_name,
            peer_version: shown.peer_version,
            peer_domain: shown.peer_domain,
            withheld: self.withheld.as_ref().filter(|(_, at)| now < at + WITHHELD_MS).map(|(text, _)| text.clone()),
            rtt_micros: shown.round_trip_micros,
            connection: self.attached.as_ref().map(|attached| attached.id),
        };
        if let Some(place) = self.status.borrow_mut().links.get_mut(self.index) {
            *place = link;
        }
    }
}

/// What forwards need to know of a hub.
fn hub_of(peer: &PeerInfo) -> Hub {
    Hub { version: peer.version.clone(), max_payload: peer.max_payload.unwrap_or(0), domain: peer.domain.clone() }
}

fn millis(clock: Clock) -> u64 {
    clock.now().micros / 1000
}

async fn next_notice(attached: &mut Option<Attached>) -> Option<LinkNotice> {
    match attached {
        Some(attached) => attached.notices.recv().await,
        None => std::future::pending().await,
    }
}

/// Those that can be read. A hub's filter that can't is its own mistake; ours were checked.
fn filters(texts: &[String]) -> Vec<Filter> {
    texts.iter().filter_map(|text| Filter::parse(text).ok()).collect()
}
