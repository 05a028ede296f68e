//! Golden scripts of the state machine: inputs at times, the actions and the state that follow.

use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{Command, Context, Runner};

use crate::{Action, Address, Config, Credentials, LocalServer, Timings, Uplink};

#[derive(Default)]
struct Script {
    link: Option<Uplink>,
    now: u64,
    hide_bytes: bool,
}

fn peer_text(peer: &crate::PeerInfo) -> String {
    format!(
        "{} {} domain={:?} max_payload={:?} account={} import={:?} export={:?}",
        peer.name,
        peer.version,
        peer.domain,
        peer.max_payload,
        peer.remote_account,
        peer.import.as_ref().map(|p| (&p.allow, &p.deny)),
        peer.export.as_ref().map(|p| (&p.allow, &p.deny)),
    )
}

impl Script {
    fn link(&mut self) -> &mut Uplink {
        self.link.as_mut().expect("`new` comes first")
    }

    fn create(&mut self, command: &Command) -> Result<(), Box<dyn Error>> {
        let mut args = command.consume_args();
        let addresses = args.take_key("urls").unwrap_or("nats-leaf://hub:7422");
        let credentials = match args.take_key("auth") {
            Some("seed") => {
                self.hide_bytes = false;
                let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [3; 32])?;
                Credentials::Seed(pair.seed()?)
            }
            Some(token) => Credentials::Token(token.to_owned()),
            None => Credentials::None,
        };
        let config = Config {
            addresses: addresses.split(',').map(Address::parse).collect::<Result<_, _>>()?,
            no_randomize: args.take_key("randomize").is_none(),
            use_discovered: args.take_key("discover").is_some(),
            credentials,
            tls: args.take_key("tls").is_some(),
            handshake_first: args.take_key("first").is_some(),
            local: LocalServer {
                version: "2.15.1".into(),
                server_id: "NEDGE".into(),
                name: "edge".into(),
                domain: Some("edge".into()),
                jetstream: true,
                account: "$G".into(),
                deny_imports: Vec::new(),
                isolate: false,
            },
            timings: Timings::default(),
        };
        args.reject_next()?;
        self.link = Some(Uplink::new(config, 1, self.now)?);
        Ok(())
    }

    fn drain(&mut self) -> String {
        let mut out = String::new();
        while let Some(action) = self.link().poll_action() {
            let _ = match action {
                Action::Dial { target, timeout_ms, .. } => {
                    writeln!(out, "dial {} name={} within {timeout_ms} ms", target.address, target.server_name)
                }
                Action::StartTls { server_name } => writeln!(out, "start TLS with {server_name}"),
                Action::SendConnect(bytes) => writeln!(out, "send {}", String::from_utf8_lossy(&bytes).trim_end()),
                Action::SendPing => writeln!(out, "send PING"),
                Action::Up(peer) => writeln!(out, "up {}", peer_text(&peer)),
                Action::Refreshed(peer) => writeln!(out, "refreshed {}", peer_text(&peer)),
                Action::Down => writeln!(out, "down"),
                Action::Close { reset, error } => writeln!(out, "close reset={reset} error={error:?}"),
            };
        }
        out
    }

    fn step(&mut self, command: &Command) -> Result<(), Box<dyn Error>> {
        let mut args = command.consume_args();
        let now = self.now;
        let text = if command.name == "wait" { None } else { args.next_pos().map(str::to_owned) };
        let text = text.as_deref().unwrap_or("");
        match command.name.as_str() {
            "wait" => {
                // Deadline by deadline, as the owner of the socket would.
                let end = now + args.next_pos().ok_or("how long?")?.parse::<u64>()?;
                while let Some(due) = self.link().poll_timeout().filter(|due| *due <= end) {
                    self.now = due.max(self.now);
                    let now = self.now;
                    self.link().handle_tick(now);
                    if self.link().poll_timeout() == Some(due) {
                        return Err("a deadline that does not move".into());
                    }
                }
                self.now = end;
            }
            "next" => {
                self.now = self.link().poll_timeout().ok_or("no deadline")?.max(now);
                let now = self.now;
                self.link().handle_tick(now);
            }
            "connected" => self.link().handle_connected(now),
            "failed" => self.link().handle_failed(now, text),
            "tls-done" => self.link().handle_tls_done(now),
            "info" => self.link().handle_info(now, text.as_bytes()),
            "error" => self.link().handle_error_text(now, text),
            "closed" => self.link().handle_closed(now, text),
            "pong" => self.link().handle_pong(now, 40_000),
            "slow-pong" => self.link().handle_pong(now, 2_000_000),
            "received" => self.link().handle_received(now, 10),
            "network-up" => self.link().handle_network_up(now),
            "shutdown" => self.link().handle_shutdown(now),
            "status" => {}
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(())
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        if command.name == "new" {
            self.create(command)?;
        } else {
            self.step(command)?;
        }
        let mut out = self.drain();
        let now = self.now;
        let status = self.link().status();
        let next = self.link().poll_timeout().map(|due| due.saturating_sub(now));
        let _ = write!(out, "t={now} {} → {} next in {next:?}", status.phase, status.address);
        if command.name == "status" {
            let _ = write!(
                out,
                "\nattempts={} sessions={} error={:?} peer={:?} round_trip={:?}",
                status.attempts, status.sessions, status.last_error, status.peer_name, status.round_trip_micros
            );
        }
        Ok(out)
    }
}

fn check(case: &str) {
    let path = format!("{}/src/testscripts/{case}", env!("CARGO_MANIFEST_DIR"));
    goldenscript::run(&mut Script::default(), path).unwrap();
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => { $(#[test] fn $name() { check(stringify!($name)); })* };
}

cases![
    plain,
    tls,
    wrong_port,
    refused,
    pauses,
    liveness,
    several_hubs,
    discovered,
    nkey,
    old_hub,
    shutdown,
    lame_duck,
    network_change,
    refreshed,
    duplicate
];
