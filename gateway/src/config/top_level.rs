//! The top level of the file: its own keys, the blocks, and what nats-server knows and we lack.

use std::path::{Path, PathBuf};

use nats_conf::{Block, Position, Report, Sources, canonical_json, parse};
use sha2::{Digest, Sha256};

use super::authorization::{self, Authorization};
use super::forward::{self, Forward};
use super::gaps::{self, Gaps};
use super::leafnodes::{self, LeafNodes};
use super::limits::{self, ClientLimits, LameDuck, MemoryLimits, MqttLimits};
use super::listeners::{self, Address, Listen, Mqtt, WebSocket};
use super::log::{self, Log};
use super::streams::{self, Stream};
use super::tls::{self, Tls};
use super::uplink::{self, Uplink};
use super::{LoadError, files, jetstream};

/// What the file says, before flags and defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) server_name: Option<String>,
    pub(super) server_tags: Vec<String>,
    pub(super) client: Address,
    pub(super) client_advertise: Option<String>,
    pub(super) client_tls: Option<Tls>,
    pub(super) allow_non_tls: bool,
    /// `http`, or `http_port` without a host.
    pub(super) monitoring: Option<Address>,
    pub(super) base_path: String,
    pub(super) mqtt: Option<Mqtt>,
    pub(super) websocket: Option<WebSocket>,
    pub(super) authorization: Authorization,
    pub(super) limits: ClientLimits,
    pub(super) lame_duck: LameDuck,
    pub(super) memory: MemoryLimits,
    pub(super) mqtt_limits: MqttLimits,
    pub(super) jetstream: jetstream::Draft,
    pub(super) leafnodes: LeafNodes,
    pub(super) uplink: Uplink,
    pub(super) streams: Vec<Stream>,
    pub(super) forwards: Vec<Forward>,
    pub(super) gaps: Option<Gaps>,
    pub(super) log: Log,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) ports_file_dir: Option<PathBuf>,
    pub(super) config_file: Option<String>,
    pub(super) digest: String,
    pub(super) from_nothing: bool,
}

/// Everything on loopback.
pub(super) fn from_nothing() -> Draft {
    let loopback = |port| Listen::new("127.0.0.1", port);
    Draft {
        client: Address { host: Some("127.0.0.1".to_owned()), port: None },
        monitoring: Some(Address { host: Some("127.0.0.1".to_owned()), port: Some(8222) }),
        mqtt: Some(Mqtt {
            listen: loopback(1883),
            tls: None,
            authorization: None,
            no_auth_user: None,
            max_ack_pending: None,
            reject_qos2_publish: false,
            downgrade_qos2_subscribe: false,
        }),
        websocket: Some(WebSocket {
            listen: loopback(8080),
            advertise: None,
            tls: None,
            no_tls: true,
            same_origin: false,
            allowed_origins: Vec::new(),
            handshake_timeout: std::time::Duration::from_secs(2),
            ping_interval: None,
            headers: Vec::new(),
            authorization: None,
            no_auth_user: None,
        }),
        jetstream: jetstream::Draft::enabled(),
        from_nothing: true,
        ..Draft::default()
    }
}

/// Reads a file; what is wrong with its keys goes to the report.
pub(super) fn from_file(
    file: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Result<Draft, LoadError> {
    let text = files::read(Path::new(file)).map_err(LoadError::Text)?;
    let map = parse(file, &text, Sources { environment, load: &files::include })
        .map_err(|error| LoadError::Text(error.to_string()))?;
    let start = Position::start_of(file);
    if map.is_empty() {
        report.warning(&start, "config has no values or is empty");
    }
    let mut block = Block::new(&map, &start);
    let mut draft =
        Draft { config_file: Some(file.to_owned()), digest: digest(&canonical_json(&map)), ..Draft::default() };
    read_server(&mut block, &mut draft, report);
    read_listeners(&mut block, &mut draft, report);
    read_blocks(&mut block, &mut draft, report);
    limits::read_client(&mut block, &mut draft.limits, report);
    limits::read_lame_duck(&mut block, &mut draft.lame_duck, report);
    log::read(&mut block, &mut draft.log, report);
    lacking(&mut block, report);
    block.finish(report);
    Ok(draft)
}

fn digest(json: &str) -> String {
    let hash = Sha256::digest(json.as_bytes());
    let hexadecimal: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hexadecimal}")
}

fn read_server(block: &mut Block<'_>, draft: &mut Draft, report: &mut Report) {
    if let Some(field) = block.field(&["server_name"]) {
        draft.server_name = field.text(report);
        if draft.server_name.as_deref().is_some_and(|name| name.contains(char::is_whitespace)) {
            report.error(field.position, "server name cannot contain spaces");
        }
    }
    if let Some(field) = block.field(&["server_tags"]) {
        let tags = field.elements();
        let texts = tags.iter().filter_map(|tag| tag.text(report));
        draft.server_tags = texts.map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect();
    }
    if let Some(field) = block.field(&["pidfile", "pid_file"]) {
        draft.pid_file = files::path(&field, report);
    }
    if let Some(field) = block.field(&["ports_file_dir"]) {
        draft.ports_file_dir = files::path(&field, report);
    }
}

fn read_listeners(block: &mut Block<'_>, draft: &mut Draft, report: &mut Report) {
    draft.client = listeners::read_address(block, report);
    draft.client_advertise =
        block.field(&["client_advertise"]).and_then(|field| listeners::read_advertise(&field, report));
    draft.client_tls = block.field(&["tls"]).and_then(|field| tls::read_server(&field, report));
    draft.allow_non_tls = block.field(&["allow_non_tls"]).and_then(|field| field.boolean(report)).unwrap_or(false);
    if let Some(field) = block.field(&["http"]) {
        draft.monitoring = listeners::host_and_port(&field, report);
    }
    if let Some(field) = block.field(&["http_port", "monitor_port"]) {
        let host = draft.monitoring.take().and_then(|address| address.host);
        draft.monitoring = Some(Address { host, port: field.integer(-1..=65_535, report) });
    }
    if let Some(field) = block.field(&["http_base_path"])
        && let Some(path) = field.string(report)
    {
        let path = path.trim_matches('/');
        draft.base_path = if path.is_empty() { String::new() } else { format!("/{path}") };
    }
    draft.mqtt = block.field(&["mqtt"]).and_then(|field| listeners::read_mqtt(&field, report));
    draft.websocket = block.field(&["websocket", "ws"]).and_then(|field| listeners::read_websocket(&field, report));
    if let Some(field) = block.field(&["authorization"]) {
        draft.authorization = authorization::read(&field, report);
    }
    if let Some(field) = block.field(&["no_auth_user"]) {
        draft.authorization.no_auth_user = field.text(report);
    }
}

fn read_blocks(block: &mut Block<'_>, draft: &mut Draft, report: &mut Report) {
    if let Some(field) = block.field(&["store_dir", "storedir"]) {
        draft.jetstream.store_dir = files::path(&field, report);
    }
    if let Some(field) = block.field(&["jetstream"]) {
        jetstream::read(&field, &mut draft.jetstream, report);
    }
    if let Some(field) = block.field(&["leafnodes", "leaf"]) {
        draft.leafnodes = leafnodes::read(&field, report);
    }
    if let Some(field) = block.field(&["uplink"]) {
        draft.uplink = uplink::read(&field, report);
    }
    if let Some(field) = block.field(&["limits"]) {
        draft.memory = limits::read_memory(&field, report);
    }
    if let Some(field) = block.field(&["mqtt_limits"]) {
        draft.mqtt_limits = limits::read_mqtt(&field, report);
    }
    if let Some(field) = block.field(&["streams"]) {
        draft.streams = streams::read(&field, report);
    }
    if let Some(field) = block.field(&["forward"]) {
        draft.forwards = forward::read(&field, &draft.streams, report);
    }
    draft.gaps = gaps::read(block.field(&["gaps"]).as_ref(), &mut draft.forwards, &draft.streams, report);
}

/// Every other key that nats-server 2.15 knows, and those of ours that come later.
fn lacking(block: &mut Block<'_>, report: &mut Report) {
    let refused = [
        "mappings",
        "maps",
        "accounts",
        "cluster",
        "gateway",
        "https",
        "https_port",
        "remote_syslog",
        "prof_port",
        "max_sub_tokens",
        "max_subscription_tokens",
        "ocsp",
        "ocsp_cache",
        "operator",
        "operators",
        "roots",
        "root",
        "root_operators",
        "root_operator",
        "resolver",
        "account_resolver",
        "accounts_resolver",
        "resolver_tls",
        "resolver_preload",
        "resolver_pinned_accounts",
        "system_account",
        "system",
        "trusted",
        "trusted_keys",
        "default_sentinel",
        "default_js_domain",
        "server_metadata",
        "feature_flags",
        "proxies",
        "mqtt_bridges",
    ];
    block.refuse(&refused, report);
    // Switched off, they ask for nothing that we lack.
    for name in ["syslog", "no_header_support", "proxy_protocol"] {
        if let Some(field) = block.field(&[name])
            && field.boolean(report) == Some(true)
        {
            report.error(field.position, format!("field {name:?} is not supported"));
        }
    }
    block.without_effect(&["write_timeout"], "a slow consumer is always closed", report);
    let inside = "it concerns the inside of nats-server";
    let keys = [
        "disable_sublist_cache",
        "no_sublist_cache",
        "prof_block_rate",
        "no_system_account",
        "no_system",
        "no_sys_acc",
        "connect_error_reports",
        "reconnect_error_reports",
        "no_fast_producer_stall",
        "max_closed_clients",
    ];
    block.without_effect(&keys, inside, report);
}
