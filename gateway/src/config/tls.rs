//! `tls` blocks: of our listeners, and of the links that we dial. Paths are relative to the working directory.

use std::path::PathBuf;
use std::time::Duration;

use nats_conf::{Block, Field, Kind, Report};

use super::files;

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `cert_file`, PEM with the chain.
    pub cert_file: PathBuf,
    /// `key_file`, PEM.
    pub key_file: PathBuf,
    /// `ca_file`, PEM: who may sign client certificates. Default: the well-known authorities.
    pub ca_file: Option<PathBuf>,
    /// `verify`: clients must show a certificate. Default: false.
    pub verify: bool,
    /// `timeout` of the handshake. Default: 2 s.
    pub timeout: Duration,
    /// `handshake_first`. Default: never, INFO goes first in clear.
    pub handshake_first: HandshakeFirst,
    /// `min_version: "1.3"` refuses TLS 1.2. Default: false.
    pub only_13: bool,
}

/// Does the TLS handshake precede INFO?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// INFO first.
    Never,
    /// TLS first.
    Always,
    /// TLS if the client begins it within this time (`auto`: 50 ms), else INFO.
    Auto(Duration),
}

/// TLS of a link that we dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTls {
    /// `cert_file` and `key_file`: our certificate, when the hub asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// `ca_file`. Default: the well-known authorities.
    pub ca_file: Option<PathBuf>,
    /// `insecure`: any certificate is believed. Warned of. Default: false.
    pub insecure: bool,
    /// `timeout` of the handshake. Default: none, [`super::Uplink::tls_timeout`] holds.
    pub timeout: Option<Duration>,
    /// `handshake_first`. Default: false.
    pub handshake_first: bool,
    /// `min_version: "1.3"`. Default: false.
    pub only_13: bool,
}

/// Stock's `DEFAULT_TLS_TIMEOUT`.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// Stock's wait of `handshake_first: auto`.
const AUTO_WAIT: Duration = Duration::from_millis(50);

struct Parts {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    verify: bool,
    insecure: bool,
    timeout: Option<Duration>,
    handshake_first: HandshakeFirst,
    only_13: bool,
    /// Both were written, whether they can be read or not.
    identity_named: (bool, bool),
}

pub(super) fn read_server(field: &Field<'_>, report: &mut Report) -> Option<Tls> {
    let parts = read_parts(field, report)?;
    for (named, name) in [(parts.identity_named.0, "cert_file"), (parts.identity_named.1, "key_file")] {
        if !named {
            report.error(field.position, format!("missing '{name}' in TLS configuration"));
        }
    }
    if parts.insecure {
        report.notice(field.position, "field \"insecure\" has no effect in the tls block of a listener");
    }
    Some(Tls {
        cert_file: parts.cert_file?,
        key_file: parts.key_file?,
        ca_file: parts.ca_file,
        verify: parts.verify,
        timeout: parts.timeout.unwrap_or(TIMEOUT),
        handshake_first: parts.handshake_first,
        only_13: parts.only_13,
    })
}

pub(super) fn read_remote(field: &Field<'_>, report: &mut Report) -> Option<RemoteTls> {
    let parts = read_parts(field, report)?;
    if parts.identity_named.0 != parts.identity_named.1 {
        report.error(field.position, "tls needs 'cert_file' and 'key_file' together, or neither");
    }
    if parts.insecure {
        report.notice(field.position, "tls: insecure: the hub's certificate will not be checked");
    }
    Some(RemoteTls {
        identity: parts.cert_file.zip(parts.key_file),
        ca_file: parts.ca_file,
        insecure: parts.insecure,
        timeout: parts.timeout,
        handshake_first: parts.handshake_first != HandshakeFirst::Never,
        only_13: parts.only_13,
    })
}

fn read_parts(field: &Field<'_>, report: &mut Report) -> Option<Parts> {
    let mut block = field.block(report)?;
    let (cert, key) = (block.field(&["cert_file"]), block.field(&["key_file"]));
    let existing =
        |field: Option<Field<'_>>, report: &mut Report| field.and_then(|field| files::existing(&field, report));
    let identity_named = (cert.is_some(), key.is_some());
    let parts = Parts {
        cert_file: existing(cert, report),
        key_file: existing(key, report),
        ca_file: existing(block.field(&["ca_file"]), report),
        verify: flag(&mut block, "verify", report),
        insecure: flag(&mut block, "insecure", report),
        timeout: block.field(&["timeout"]).and_then(|field| field.seconds(report)),
        handshake_first: handshake_first(&mut block, report),
        only_13: only_13(&mut block, report),
        identity_named,
    };
    block.without_effect(
        &["cipher_suites", "curve_preferences", "allow_insecure_cipher_suites"],
        "only suites and curves without known weakness exist here",
        report,
    );
    block.refuse(
        &[
            "verify_and_map",
            "verify_cert_and_check_known_urls",
            "connection_rate_limit",
            "pinned_certs",
            "cert_store",
            "cert_match_by",
            "cert_match",
            "cert_match_skip_invalid",
            "ca_certs_match",
            "ocsp_peer",
            "certs",
            "certificates",
        ],
        report,
    );
    block.finish(report);
    Some(parts)
}

fn flag(block: &mut Block<'_>, name: &str, report: &mut Report) -> bool {
    block.field(&[name]).and_then(|field| field.boolean(report)).unwrap_or(false)
}

fn handshake_first(block: &mut Block<'_>, report: &mut Report) -> HandshakeFirst {
    let Some(field) = block.field(&["handshake_first", "first", "immediate"]) else {
        return HandshakeFirst::Never;
    };
    match &field.value.kind {
        Kind::Boolean(true) => HandshakeFirst::Always,
        Kind::Boolean(false) => HandshakeFirst::Never,
        Kind::String(word) => match word.to_lowercase().as_str() {
            "true" | "on" => HandshakeFirst::Always,
            "false" | "off" => HandshakeFirst::Never,
            "auto" | "auto_fallback" => HandshakeFirst::Auto(AUTO_WAIT),
            _ => field.duration(report).map_or(HandshakeFirst::Never, HandshakeFirst::Auto),
        },
        _ => {
            let text = format!("field {:?}: expected true, false, auto or a duration", field.name);
            report.error(field.position, text);
            HandshakeFirst::Never
        }
    }
}

fn only_13(block: &mut Block<'_>, report: &mut Report) -> bool {
    let Some(field) = block.field(&["min_version"]) else { return false };
    let choices =
        [("1.2", false), ("tls1.2", false), ("tls12", false), ("1.3", true), ("tls1.3", true), ("tls13", true)];
    match field.value.kind {
        // 1.2 without quotes is a float.
        Kind::Float(version) if (version - 1.2).abs() < 1e-9 => false,
        Kind::Float(version) if (version - 1.3).abs() < 1e-9 => true,
        _ => field.choice(&choices, report).unwrap_or(false),
    }
}
