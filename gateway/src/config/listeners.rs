//! Where clients come in: NATS, monitoring, MQTT, WebSocket.

use std::fmt;
use std::time::Duration;

use nats_conf::{Block, Field, Kind, Report};

use super::authorization::{self, Authorization};
use super::limits::{positive, set};
use super::tls::{self, Tls};

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Name or address, without brackets.
    pub host: String,
    /// 0: any free port (written -1).
    pub port: u16,
}

impl Listen {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }

    /// Only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

/// Where NATS clients come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientListener {
    /// `listen`, `host`, `port`. Default: 0.0.0.0:4222.
    pub listen: Listen,
    /// `client_advertise`, host or host:port. Default: none.
    pub advertise: Option<String>,
    /// `tls`. Default: none.
    pub tls: Option<Tls>,
    /// `allow_non_tls`: clients without TLS are served too. Default: false.
    pub allow_non_tls: bool,
}

/// The HTTP endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitoring {
    /// `http: host:port`, or `http_port` on the clients' host.
    pub listen: Listen,
    /// `http_base_path`, begins with `/` when not empty. Default: none.
    pub base_path: String,
}

/// `mqtt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mqtt {
    /// `listen`, `host`, `port`. Default: 0.0.0.0:1883, with TLS 8883.
    pub listen: Listen,
    /// `tls`. Default: none.
    pub tls: Option<Tls>,
    /// `authorization`, for this listener instead of the clients'. Default: the clients'.
    pub authorization: Option<Authorization>,
    /// `no_auth_user`. Default: the clients'.
    pub no_auth_user: Option<String>,
    /// `max_ack_pending`, stock's name for [`super::MqttLimits::max_inflight`], which it overrides.
    pub max_ack_pending: Option<u16>,
    /// `reject_qos2_publish`. Default: false.
    pub reject_qos2_publish: bool,
    /// `downgrade_qos2_subscribe`. Default: false.
    pub downgrade_qos2_subscribe: bool,
}

/// `websocket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocket {
    /// `listen`, `host`, `port`. Default: 0.0.0.0:8080.
    pub listen: Listen,
    /// `advertise`, host or host:port. Default: none.
    pub advertise: Option<String>,
    /// `tls`; without it `no_tls: true` is required, as in stock.
    pub tls: Option<Tls>,
    /// `no_tls`. Default: false.
    pub no_tls: bool,
    /// `same_origin`: a page's origin must be the host it asks. Default: false.
    pub same_origin: bool,
    /// `allowed_origins`. Default: every origin.
    pub allowed_origins: Vec<String>,
    /// `handshake_timeout`. Default: 2 s.
    pub handshake_timeout: Duration,
    /// `ping_interval` of NATS clients here. Default: as for the others.
    pub ping_interval: Option<Duration>,
    /// `headers` added to the answer of the upgrade.
    pub headers: Vec<(String, String)>,
    /// `authorization`, for this listener instead of the clients'. Default: the clients'.
    pub authorization: Option<Authorization>,
    /// `no_auth_user`. Default: the clients'.
    pub no_auth_user: Option<String>,
}

/// A host and a port as far as they are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Address {
    pub(super) host: Option<String>,
    /// -1: any free one; 0: the default.
    pub(super) port: Option<i32>,
}

impl Address {
    /// Fills in what was not written.
    pub(super) fn or(self, host: &str, port: u16) -> Listen {
        let port = match self.port {
            None | Some(0) => port,
            Some(port) => u16::try_from(port).unwrap_or(0),
        };
        Listen { host: self.host.filter(|host| !host.is_empty()).unwrap_or_else(|| host.to_owned()), port }
    }
}

/// Reads `listen`, `host` and `port` of a block; the last two override.
pub(super) fn read_address(block: &mut Block<'_>, report: &mut Report) -> Address {
    let mut address = Address::default();
    if let Some(field) = block.field(&["listen"]) {
        address = host_and_port(&field, report).unwrap_or_default();
    }
    if let Some(host) = block.field(&["host", "net"]).and_then(|field| field.string(report)) {
        address.host = Some(host.to_owned());
    }
    if let Some(field) = block.field(&["port"]) {
        address.port = field.integer(-1..=65_535, report);
    }
    address
}

/// `4222`, `host:4222`, `[::1]:-1`.
pub(super) fn host_and_port(field: &Field<'_>, report: &mut Report) -> Option<Address> {
    if matches!(field.value.kind, Kind::Integer(_)) {
        return Some(Address { host: None, port: Some(field.integer(-1..=65_535, report)?) });
    }
    let text = field.string(report)?;
    let Some((host, port)) = split_host_and_port(text) else {
        let text = format!("could not parse address string {text:?}, expected host:port or a port");
        report.error(field.position, text);
        return None;
    };
    match port.parse::<i32>() {
        Ok(port) if (-1..=65_535).contains(&port) => Some(Address { host: Some(host.to_owned()), port: Some(port) }),
        _ => {
            report.error(field.position, format!("could not parse port {port:?}, expected -1 to 65535"));
            None
        }
    }
}

fn split_host_and_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').map(|host| (host, port)),
        None if host.contains(':') => None,
        None => Some((host, port)),
    }
}

/// An address that is only told: host or host:port.
pub(super) fn read_advertise(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.string(report)?;
    let fits = !text.is_empty() && !text.contains(char::is_whitespace);
    let port_fits = split_host_and_port(text).is_none_or(|(_, port)| port.parse::<u16>().is_ok());
    if fits && port_fits {
        return Some(text.to_owned());
    }
    report.error(field.position, format!("field {:?}: expected host or host:port, but got {text:?}", field.name));
    None
}

fn flag(block: &mut Block<'_>, name: &str, report: &mut Report) -> bool {
    block.field(&[name]).and_then(|field| field.boolean(report)).unwrap_or(false)
}

fn text(block: &mut Block<'_>, name: &str, report: &mut Report) -> Option<String> {
    block.field(&[name]).and_then(|field| field.text(report))
}

pub(super) fn read_mqtt(field: &Field<'_>, report: &mut Report) -> Option<Mqtt> {
    let mut block = field.block(report)?;
    let address = read_address(&mut block, report);
    let tls = block.field(&["tls"]).and_then(|field| tls::read_server(&field, report));
    let mqtt = Mqtt {
        listen: address.or("0.0.0.0", if tls.is_some() { 8883 } else { 1883 }),
        tls,
        authorization: block
            .field(&["authorization", "authentication"])
            .map(|field| authorization::read_listener(&field, report)),
        no_auth_user: text(&mut block, "no_auth_user", report),
        max_ack_pending: block
            .field(&["max_ack_pending", "max_pending", "max_inflight"])
            .and_then(|field| field.integer(0..=65_535, report))
            .filter(|&most| most > 0),
        reject_qos2_publish: flag(&mut block, "reject_qos2_publish", report),
        downgrade_qos2_subscribe: flag(&mut block, "downgrade_qos2_subscribe", report),
    };
    without_effect_in_mqtt(&mut block, report);
    block.finish(report);
    Some(mqtt)
}

/// All of stock's keys are taken; these mean nothing here, and a notice says why.
fn without_effect_in_mqtt(block: &mut Block<'_>, report: &mut Report) {
    let waits = "a live connection is never sent a message twice";
    block.without_effect(&["ack_wait", "ackwait"], waits, report);
    let inside = "sessions are in this gateway's own store";
    let keys = [
        "js_domain",
        "js_api_timeout",
        "api_timeout",
        "stream_replicas",
        "consumer_replicas",
        "consumer_memory_storage",
        "consumer_inactive_threshold",
        "consumer_auto_cleanup",
    ];
    block.without_effect(&keys, inside, report);
}

pub(super) fn read_websocket(field: &Field<'_>, report: &mut Report) -> Option<WebSocket> {
    let mut block = field.block(report)?;
    let listen = read_address(&mut block, report).or("0.0.0.0", 8080);
    let mut websocket = WebSocket {
        listen,
        advertise: block.field(&["advertise"]).and_then(|field| read_advertise(&field, report)),
        tls: block.field(&["tls"]).and_then(|field| tls::read_server(&field, report)),
        no_tls: flag(&mut block, "no_tls", report),
        same_origin: flag(&mut block, "same_origin", report),
        allowed_origins: Vec::new(),
        handshake_timeout: Duration::from_secs(2),
        ping_interval: block.field(&["ping_interval"]).and_then(|field| positive(&field, report)),
        headers: Vec::new(),
        authorization: block
            .field(&["authorization", "authentication"])
            .map(|field| authorization::read_listener(&field, report)),
        no_auth_user: text(&mut block, "no_auth_user", report),
    };
    let origins = ["allowed_origins", "allowed_origin", "allow_origins", "allow_origin", "origins", "origin"];
    if let Some(field) = block.field(&origins) {
        set(&mut websocket.allowed_origins, field.strings(report));
    }
    if let Some(field) = block.field(&["handshake_timeout"]) {
        set(&mut websocket.handshake_timeout, positive(&field, report));
    }
    if let Some(mut headers) = block.field(&["headers"]).and_then(|field| field.block(report)) {
        for header in headers.fields() {
            let value = header.text(report).unwrap_or_default();
            websocket.headers.push((header.name.to_owned(), value));
        }
    }
    if let Some(field) = block.field(&["compress", "compression"])
        && field.boolean(report) == Some(true)
    {
        report.notice(field.position, "field \"compression\" has no effect: compression is declined");
    }
    block.refuse(&["jwt_cookie", "user_cookie", "pass_cookie", "token_cookie"], report);
    block.finish(report);
    Some(websocket)
}
